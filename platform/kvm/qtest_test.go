package kvm

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"elver/test/need"
)

// qtestMachine is a machine of QEMU whose CPU does nothing, and whose devices the drivers reach by
// QEMU's test protocol (QEMU, docs/devel/testing/qtest.rst). Its interrupts are caught before the
// I/O APIC, and a fakeMachine's does the rest.
type qtestMachine struct {
	*fakeMachine
	t       *testing.T
	call    sync.Mutex
	to      io.Writer
	replies chan string
	line    net.Conn // the host's end of the serial line
	done    chan struct{}
}

func startQTest(t *testing.T, machine string, extra ...string) *qtestMachine {
	if testing.Short() {
		t.Skip("starts virtual machines")
	}
	qemu := need.Command(t, "qemu-system-x86_64")
	dir := t.TempDir()
	socket, firmware := filepath.Join(dir, "line"), filepath.Join(dir, "firmware")
	rom := make([]byte, 64<<10)
	copy(rom[len(rom)-16:], "\xfa\xf4\xeb\xfd") // at the reset vector: cli; again: hlt; jmp again
	if err := os.WriteFile(firmware, rom, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	args := append([]string{"-M", machine, "-accel", "tcg", "-bios", firmware, "-qtest", "stdio", "-qtest-log", "none",
		"-m", "32", "-display", "none", "-nodefaults", "-no-reboot", "-rtc", "base=2031-02-03T04:05:06",
		"-chardev", "socket,id=line,path=" + socket, "-serial", "chardev:line"}, extra...)
	cmd := exec.Command(qemu, args...)
	cmd.Stderr = os.Stderr
	to, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &qtestMachine{fakeMachine: newFakeMachine(), t: t, to: to, replies: make(chan string), done: make(chan struct{})}
	listener.(*net.UnixListener).SetDeadline(time.Now().Add(10 * time.Second))
	if m.line, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(m.done)
		lines := bufio.NewScanner(from)
		for lines.Scan() {
			var how string
			var input int
			if n, _ := fmt.Sscanf(lines.Text(), "IRQ %s %d", &how, &input); n == 2 {
				m.mu.Lock()
				m.apic.set(input, how == "raise")
				m.mu.Unlock()
				continue
			}
			m.replies <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		m.line.Close()
	})
	m.command("irq_intercept_in ioapic")
	return m
}

// command returns 0 once the machine has ended.
func (m *qtestMachine) command(format string, args ...any) uint64 {
	m.call.Lock()
	defer m.call.Unlock()
	fmt.Fprintf(m.to, format+"\n", args...)
	select {
	case reply := <-m.replies:
		if !strings.HasPrefix(reply, "OK") {
			m.t.Errorf("%s: %s", fmt.Sprintf(format, args...), reply)
		}
		var v uint64
		fmt.Sscanf(reply, "OK 0x%x", &v)
		return v
	case <-m.done:
		return 0
	case <-time.After(time.Minute):
		m.t.Errorf("%s: no answer", fmt.Sprintf(format, args...))
		return 0
	}
}

func (m *qtestMachine) In8(port uint16) uint8       { return uint8(m.command("inb %#x", port)) }
func (m *qtestMachine) In16(port uint16) uint16     { return uint16(m.command("inw %#x", port)) }
func (m *qtestMachine) In32(port uint16) uint32     { return uint32(m.command("inl %#x", port)) }
func (m *qtestMachine) Out8(port uint16, v uint8)   { m.command("outb %#x %#x", port, v) }
func (m *qtestMachine) Out16(port uint16, v uint16) { m.command("outw %#x %#x", port, v) }
func (m *qtestMachine) Out32(port uint16, v uint32) { m.command("outl %#x %#x", port, v) }
func (m *qtestMachine) Load8(pa uint64) uint8       { return uint8(m.command("readb %#x", pa)) }
func (m *qtestMachine) Store8(pa uint64, v uint8)   { m.command("writeb %#x %#x", pa, v) }
func (m *qtestMachine) Load32(pa uint64) uint32     { return uint32(m.command("readl %#x", pa)) }

func (m *qtestMachine) Store32(pa uint64, v uint32) {
	m.fakeMachine.Store32(pa, v)
	m.command("writel %#x %#x", pa, v)
}

func (m *qtestMachine) alive() bool {
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

func TestSerialOfQEMU(t *testing.T) {
	for _, machine := range []string{"pc", "q35", "microvm"} {
		t.Run(machine, func(t *testing.T) {
			m := startQTest(t, machine)
			// One byte alone, since every access here gives QEMU the time to deliver the next.
			io.WriteString(m.line, "E")
			if !eventually(func() bool { return m.In8(com1+uartStatus)&statusData != 0 }) {
				t.Fatal("no input reaches the port")
			}
			k := startFakeOn(t, m)
			if k.Console() == nil {
				t.Fatal("no serial port")
			}
			early := "E" + strings.Repeat("\xf8\x00zY", 50) // among it the probe's own byte
			s := &sink{room: len(early) - 10}
			if err := k.Listen(s.take, s.notify); err != nil {
				t.Fatal(err)
			}
			io.WriteString(m.line, early[1:])
			if !eventually(s.has(early[:len(early)-10])) {
				t.Fatalf("%q came of %d bytes", s.all(), len(early)-10)
			}
			want := early
			s.makeRoom(1 << 20)
			k.Console().Resume()
			if !eventually(s.has(want)) {
				t.Fatalf("%d bytes came of %d", len(s.all()), len(want))
			}
			for _, text := range []string{"x", "a line\n", strings.Repeat("much more input ", 100)} {
				io.WriteString(m.line, text)
				want += text
				if !eventually(s.has(want)) {
					t.Fatalf("%d bytes came of %d", len(s.all()), len(want))
				}
			}

			text := strings.Repeat("output\n\x00\xff", 30)
			if _, err := k.Console().Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			k.Console().Drain()
			got := make([]byte, len(text))
			m.line.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.ReadFull(m.line, got); err != nil || string(got) != text {
				t.Errorf("%v: sent %q", err, got)
			}

			date, err := k.WallClock()
			if begin := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC); err != nil || date.Before(begin) || date.Sub(begin) > time.Minute {
				t.Errorf("the date is %v, %v", date, err)
			}
		})
	}
}

func startFakeOn(t *testing.T, hw hardware) *Machine {
	t.Helper()
	k, err := start(hw, Facts{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// qemuPower has the registers as the tables of QEMU's machines name them; there is no firmware here
// that would leave those tables.
func qemuPower(m *qtestMachine, machine string) (a acpi) {
	configure := func(device, function, register, v uint32) {
		m.Out32(0xcf8, 1<<31|device<<11|function<<8|register)
		m.Out32(0xcfc, v)
	}
	a.hasSoftOff = true
	f := &a.fadt
	switch machine {
	case "microvm":
		a.softOff = softOff{5, 0}
		a.hasGED, a.ged = true, ged{gsi: 9, selector: gedAddress}
		f.hardwareReduced = true
		f.sleepControl = register{spaceMemory, 8, sleepAddress}
		f.reset, f.resetValue = register{spaceMemory, 8, sleepAddress + 2}, 0x42
		return a
	case "pc": // the firmware's part: base address and enable bit of the PIIX4's power management
		configure(1, 3, 0x40, 0x601)
		configure(1, 3, 0x80, 1)
		f.acpiEnable = 0xf1
	case "q35": // the same of the ICH9's LPC bridge
		configure(31, 0, 0x40, 0x601)
		configure(31, 0, 0x44, 0x80)
		f.acpiEnable = 0x02
	}
	f.sci, f.smiCommand, f.pm1EventBytes = 9, 0xb2, 4
	f.pm1aEvent = register{spaceIO, 32, 0x600}
	f.pm1aControl = register{spaceIO, 16, 0x604}
	a.madt.overrides = []override{{irq: 9, gsi: 9, flags: 0xd}}
	return a
}

func TestPowerOfQEMU(t *testing.T) {
	for _, machine := range []string{"pc", "q35", "microvm"} {
		t.Run(machine, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "qmp")
			m := startQTest(t, machine, "-qmp", "unix:"+socket+",server=on,wait=off")
			qmp, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer qmp.Close()
			io.WriteString(qmp, `{"execute":"qmp_capabilities"}`)

			k := startFakeOn(t, m)
			k.acpi = qemuPower(m, machine)
			k.ic.overrides = k.acpi.madt.overrides
			var presses atomic.Int32
			if err := k.OnPowerButton(func() { presses.Add(1) }); err != nil {
				t.Fatal(err)
			}
			for want := int32(1); want <= 2; want++ {
				io.WriteString(qmp, `{"execute":"system_powerdown"}`)
				if !eventually(func() bool { return presses.Load() == want }) {
					t.Fatalf("%d of %d presses", presses.Load(), want)
				}
			}
			if !m.alive() {
				t.Fatal("the machine ended by itself")
			}
			k.power.softOff()
			if !eventually(func() bool { return !m.alive() }) {
				t.Error("the machine is still on")
			}
		})
	}
}

func TestDebugExitAndChannelsOfQEMU(t *testing.T) {
	dir := t.TempDir()
	status, log := filepath.Join(dir, "status"), filepath.Join(dir, "log")
	m := startQTest(t, "pc",
		"-chardev", "file,id=status,path="+status, "-device", "isa-debugcon,iobase=0x5e9,chardev=status",
		"-chardev", "file,id=log,path="+log, "-device", "isa-debugcon,iobase=0x4e9,chardev=log",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4")
	k := startFakeOn(t, m)
	if !k.HasLogChannel() {
		t.Error("no log channel")
	}
	fmt.Fprint(k.LogWriter(), "a sentence\n")
	k.PowerOff(201)
	if !eventually(func() bool { return !m.alive() }) {
		t.Error("the machine is still on")
	}
	for file, want := range map[string]string{status: "\xc9", log: "a sentence\n"} {
		if got, err := readFile(file); got != want {
			t.Errorf("%s: %q, %v", filepath.Base(file), got, err)
		}
	}
}

func readFile(name string) (string, error) {
	p, err := os.ReadFile(name)
	return string(p), err
}
