package kvm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"elver/boot"
	"elver/test/need"
)

// tableBuilder lays ACPI tables in a fake machine's memory.
type tableBuilder struct {
	ram  []byte
	next uint64
}

func checksummed(p []byte, at int) []byte {
	p[at] = 0
	p[at] = -sum(p)
	return p
}

func (b *tableBuilder) add(signature string, body []byte) uint64 {
	t := append([]byte(signature), make([]byte, tableHeaderBytes-4)...)
	t = append(t, body...)
	binary.LittleEndian.PutUint32(t[4:], uint32(len(t)))
	pa := b.next
	copy(b.ram[pa:], checksummed(t, 9))
	b.next += uint64(len(t)+63) &^ 63
	return pa
}

func words32(pas ...uint64) (p []byte) {
	for _, pa := range pas {
		p = le.AppendUint32(p, uint32(pa))
	}
	return p
}

func (b *tableBuilder) rsdp(at uint64, rsdt uint64) {
	p := make([]byte, rsdp1Bytes)
	copy(p, rsdpSignature)
	le.PutUint32(p[16:], uint32(rsdt))
	copy(b.ram[at:], checksummed(p, 8))
}

func (b *tableBuilder) rsdp2(at uint64, rsdt, xsdt uint64) {
	p := make([]byte, rsdp2Bytes)
	copy(p, rsdpSignature)
	p[15] = 2
	le.PutUint32(p[16:], uint32(rsdt))
	le.PutUint32(p[20:], rsdp2Bytes)
	le.PutUint64(p[24:], xsdt)
	checksummed(p[:rsdp1Bytes], 8)
	copy(b.ram[at:], checksummed(p, 32))
}

var (
	amlS5  = []byte{0x10, 0x05, amlName, '_', 'S', '5', '_', amlPackage, 0x06, 0x04, amlByte, 5, amlZero, amlZero, amlZero}
	amlGED = append(append([]byte{amlExtended, 0x82, 0x30, 'G', 'E', 'D', '_', amlName, '_', 'H', 'I', 'D', 0x0d},
		"ACPI0013\x00"...),
		0x08, '_', 'C', 'R', 'S', 0x11, 0x0e, amlByte, 0x0b, amlInterrupt, 6, 0, 0x03, 1, 9, 0, 0, 0, 0x79, 0,
		amlExtended, amlRegion, 'E', 'R', 'E', 'G', spaceMemory, amlDword, 0, 0, 0xa0, 0xfe, amlByte, 4)
)

// pcTables makes the tables of a PC with PM1 registers at the fake machine's ports.
func pcTables(m *fakeMachine) *tableBuilder {
	b := &tableBuilder{ram: m.ram, next: 0x100000 - 0x10000}
	fadt := make([]byte, 132-tableHeaderBytes)
	put := func(at int, p ...byte) { copy(fadt[at-tableHeaderBytes:], p) }
	put(40, words32(b.add("DSDT", amlS5))...)
	put(46, 9)
	put(48, fakeSMI)
	put(52, 0xf1)
	put(56, words32(fakePM1Event)...)
	put(64, words32(fakePM1Control)...)
	put(76, words32(0x608)...)
	put(88, 4)
	put(108, 0x32)
	put(113, fadtReset>>8)
	put(116, spaceIO, 8, 0, 1, 0x99)
	put(128, 0x42)
	b.rsdp(0xf5a00, b.add("RSDT", words32(b.add("FACP", fadt), b.add("APIC", pcMADT()))))
	return b
}

func pcMADT() []byte {
	p := words32(0xfee00000, 1)
	for id := range byte(3) {
		p = append(p, madtLocalAPIC, 8, id, id, 1&^(id>>1), 0, 0, 0) // the third one is disabled
	}
	p = append(p, madtIOAPIC, 12, 0, 0)
	p = append(p, words32(defaultIOAPIC, 0)...)
	p = append(p, madtOverride, 10, 0, 0, 2, 0, 0, 0, 0, 0)
	p = append(p, madtOverride, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0)
	return append(p, 4, 6, 0xff, 0, 0, 1) // local APIC NMI
}

// microvmTables makes the tables of a machine with reduced hardware.
func microvmTables(m *fakeMachine) {
	b := &tableBuilder{ram: m.ram, next: 0x100000 - 0x10000}
	fadt := make([]byte, 276-tableHeaderBytes)
	put := func(at int, p ...byte) { copy(fadt[at-tableHeaderBytes:], p) }
	put(140, words32(b.add("DSDT", append(bytes.Clone(amlGED), amlS5...)))...)
	put(112, words32(fadtReset|fadtHardwareReduced)...)
	put(116, spaceMemory, 8, 0, 1, 2, 2, 0xa0, 0xfe)
	put(128, 0x42)
	put(244, spaceMemory, 8, 0, 1, 0, 2, 0xa0, 0xfe)
	facp := b.add("FACP", fadt)
	apic := b.add("APIC", pcMADT())
	xsdt := b.add("XSDT", append(words32(facp, 0), words32(apic, 0)...))
	b.rsdp2(0xe0010, 0, xsdt)
}

func TestReadACPIOfPC(t *testing.T) {
	m := newFakeMachine()
	pcTables(m)
	a, err := readACPI(m.Memory, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a.madt.cpus != 2 {
		t.Errorf("%d CPUs, want 2", a.madt.cpus)
	}
	if len(a.madt.ioapics) != 1 || a.madt.ioapics[0].pa != defaultIOAPIC {
		t.Errorf("I/O APICs %+v", a.madt.ioapics)
	}
	if len(a.madt.overrides) != 2 || a.madt.overrides[0].gsi != 2 {
		t.Errorf("overrides %+v", a.madt.overrides)
	}
	if got := a.madt.overrides[1].sciTrigger(); got != (trigger{level: true}) {
		t.Errorf("SCI is %+v, want an active-high level", got)
	}
	if !a.hasSoftOff || a.softOff != (softOff{5, 0}) {
		t.Errorf("S5 %+v, %v", a.softOff, a.hasSoftOff)
	}
	f := a.fadt
	if f.pm1aControl != (register{spaceIO, 16, fakePM1Control}) || f.pm1bControl.present() {
		t.Errorf("PM1 control %+v %+v", f.pm1aControl, f.pm1bControl)
	}
	if !f.timer.present() || f.reset != (register{spaceIO, 8, 0x99}) || f.resetValue != 0x42 || f.century != 0x32 {
		t.Errorf("FADT %+v", f)
	}
	if a.hasGED {
		t.Error("a GED where none is")
	}
}

func TestReadACPIOfReducedHardware(t *testing.T) {
	m := newFakeMachine()
	microvmTables(m)
	for _, hint := range []uint64{0, 0xe0010, 0x12340} {
		a, err := readACPI(m.Memory, hint)
		if err != nil {
			t.Fatal(err)
		}
		if !a.fadt.hardwareReduced || a.fadt.sleepControl != (register{spaceMemory, 8, sleepAddress}) {
			t.Errorf("FADT %+v", a.fadt)
		}
		want := ged{gsi: 9, trigger: trigger{}, selector: gedAddress}
		if !a.hasGED || a.ged != want {
			t.Errorf("GED %+v, %v", a.ged, a.hasGED)
		}
		if !a.hasSoftOff || a.softOff.typeA != 5 {
			t.Errorf("S5 %+v", a.softOff)
		}
	}
}

func TestLowMemoryEnd(t *testing.T) {
	// As QEMU's pc gives it with 6 GiB.
	f := Facts{MemoryMap: []boot.MemoryRange{
		{Start: 0, End: 0x9fc00, Kind: boot.Usable},
		{Start: 0x9fc00, End: 0xa0000, Kind: boot.Reserved},
		{Start: 0xf0000, End: 0x100000, Kind: boot.Reserved},
		{Start: 0x100000, End: 0xbffe0000, Kind: boot.Usable},
		{Start: 0xbffe0000, End: 0xc0000000, Kind: boot.Reserved},
		{Start: 0xfeffc000, End: 0xff000000, Kind: boot.Reserved},
		{Start: 0x100000000, End: 0x1c0000000, Kind: boot.Usable},
	}}
	if got := f.lowMemoryEnd(); got != 0xc0000000 {
		t.Errorf("%#x", got)
	}
}

func TestSum(t *testing.T) {
	p := make([]byte, 5000)
	for i := range p {
		p[i] = byte(i*7 | i>>3)
	}
	ff := bytes.Repeat([]byte{0xff}, 5000)
	for n := range p {
		var want, wantFF uint8
		for i := range n {
			want += p[i]
			wantFF += 0xff
		}
		if got := sum(p[:n]); got != want {
			t.Fatalf("%d bytes: %#x, want %#x", n, got, want)
		}
		if got := sum(ff[:n]); got != wantFF {
			t.Fatalf("%d bytes of 0xff: %#x, want %#x", n, got, wantFF)
		}
	}
}

func TestRSDPInEBDA(t *testing.T) {
	m := newFakeMachine()
	b := pcTables(m)
	clear(m.ram[0xf5a00:][:rsdp1Bytes])
	le.PutUint16(m.ram[0x40e:], 0x9fc0)
	b.rsdp(0x9fc30, b.add("RSDT", nil))
	r, err := findRSDP(m.Memory, 0)
	if err != nil || r.rsdt == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestBrokenTables(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(m *fakeMachine)
	}{
		{"no tables", func(m *fakeMachine) { clear(m.ram[0xe0000:]) }},
		{"RSDP checksum", func(m *fakeMachine) { m.ram[0xf5a08]++ }},
		{"RSDT beyond memory", func(m *fakeMachine) {
			le.PutUint32(m.ram[0xf5a10:], 0xfffffff0)
			checksummed(m.ram[0xf5a00:][:rsdp1Bytes], 8)
		}},
		{"RSDT is itself an RSDP", func(m *fakeMachine) {
			le.PutUint32(m.ram[0xf5a10:], 0xf5a00)
			checksummed(m.ram[0xf5a00:][:rsdp1Bytes], 8)
		}},
		{"every length absurd", func(m *fakeMachine) {
			for i := 0; i < len(m.ram)-8; i += 64 {
				le.PutUint32(m.ram[i+4:], 0xffffffff)
			}
		}},
	} {
		m := newFakeMachine()
		pcTables(m)
		test.spoil(m)
		if _, err := readACPI(m.Memory, 0); err == nil {
			t.Errorf("%s: no error", test.name)
		}
	}
}

// TestSoftOffEncodings has the package as compilers and firmware write it.
func TestSoftOffEncodings(t *testing.T) {
	for _, test := range []struct {
		aml  []byte
		want softOff
		ok   bool
	}{
		{[]byte("\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00"), softOff{5, 5}, true},
		{[]byte("\x08\\_S5_\x12\x06\x04\x00\x00\x00\x00"), softOff{0, 0}, true},
		{[]byte("\x08_S5_\x12\x47\x00\x04\x01\x0a\x07\x00\x00"), softOff{1, 7}, true},
		{[]byte("\x08_S5_\x12\x06\x01\x0b\x03\x00"), softOff{3, 3}, true},
		{[]byte("_S5_ in a string; \x08_S5_\x12\x06\x04\x0a\x02\x00"), softOff{2, 0}, true},
		{[]byte("\x08_S5_\x12\x06\x04\x0a\x08\x00"), softOff{}, false},
		{[]byte("\x08_S5_\x12\xc6\x04"), softOff{}, false},
		{[]byte("\x08_S5_\x12"), softOff{}, false},
		{[]byte("\x08_S5_\x12\x06\x04\x0a"), softOff{}, false},
		{[]byte("_S5_"), softOff{}, false},
		{nil, softOff{}, false},
	} {
		if got, ok := findSoftOff(test.aml); got != test.want || ok != test.ok {
			t.Errorf("%q: %+v, %v, want %+v, %v", test.aml, got, ok, test.want, test.ok)
		}
	}
}

func FuzzACPI(f *testing.F) {
	pc, reduced := newFakeMachine(), newFakeMachine()
	pcTables(pc)
	microvmTables(reduced)
	// The fuzzer changes the RSDP and the tables; the rest of memory is empty.
	const tables, size = 0xf0000, 0x1000
	f.Add(pc.ram[0xf5a00:0xf5a24], pc.ram[tables:tables+size])
	f.Add(reduced.ram[0xe0010:0xe0034], reduced.ram[tables:tables+size])
	ram := make([]byte, 0x101000)
	f.Fuzz(func(t *testing.T, rsdp, data []byte) {
		clear(ram[0xe0000:])
		copy(ram[0xe0000:0xe0024], rsdp)
		copy(ram[tables:tables+size], data)
		// Checksums would keep the fuzzer out: make them right.
		checksummed(ram[0xe0000:][:rsdp1Bytes], 8)
		checksummed(ram[0xe0000:][:rsdp2Bytes], 32)
		for at := tables; at < tables+size; at += 64 {
			n := le.Uint32(ram[at+4:])
			if n >= tableHeaderBytes && n < size {
				checksummed(ram[at:][:n], 9)
			}
		}
		mem := func(pa uint64, n int) ([]byte, bool) {
			if n < 0 || pa > uint64(len(ram)) || uint64(n) > uint64(len(ram))-pa {
				return nil, false
			}
			return ram[pa : pa+uint64(n) : pa+uint64(n)], true
		}
		a, _ := readACPI(mem, 0)
		if a.hasSoftOff && (a.softOff.typeA > 7 || a.softOff.typeB > 7) {
			t.Errorf("S5 %+v", a.softOff)
		}
		parseMADT(data)
		parseFADT(data)
		findGED(data)
		findSoftOff(data)
	})
}

// TestTablesOfQEMU reads the tables that QEMU's firmware really leaves.
func TestTablesOfQEMU(t *testing.T) {
	if testing.Short() {
		t.Skip("starts virtual machines")
	}
	qemu := need.Command(t, "qemu-system-x86_64")
	for _, machine := range []string{"pc", "q35", "microvm"} {
		t.Run(machine, func(t *testing.T) {
			ram := dumpRAM(t, qemu, machine)
			mem := func(pa uint64, n int) ([]byte, bool) {
				if n < 0 || pa > uint64(len(ram)) || uint64(n) > uint64(len(ram))-pa {
					return nil, false
				}
				return ram[pa : pa+uint64(n)], true
			}
			a, err := readACPI(mem, 0)
			if err != nil {
				t.Fatal(err)
			}
			if a.madt.cpus != 2 || len(a.madt.ioapics) == 0 || a.madt.ioapics[0].pa != defaultIOAPIC {
				t.Errorf("MADT %+v", a.madt)
			}
			if !a.hasSoftOff {
				t.Error("no S5 package")
			}
			if microvm := machine == "microvm"; a.fadt.hardwareReduced != microvm || a.hasGED != microvm {
				t.Errorf("hardware reduced: %v, GED: %v", a.fadt.hardwareReduced, a.hasGED)
			}
			if a.fadt.hardwareReduced && !a.fadt.sleepControl.present() || !a.fadt.hardwareReduced && !a.fadt.pm1aControl.present() {
				t.Errorf("no way to power off: %+v", a.fadt)
			}
			t.Logf("%+v", a)
		})
	}
}

// dumpRAM returns the memory of a machine of 32 MiB after its firmware ran.
func dumpRAM(t *testing.T, qemu, machine string) []byte {
	file := filepath.Join(t.TempDir(), "ram")
	cmd := exec.Command(qemu, "-M", machine, "-accel", "tcg", "-m", "32", "-smp", "2", "-display", "none", "-nodefaults", "-monitor", "stdio")
	monitor, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer stop.Stop()
	time.Sleep(2 * time.Second)
	io.WriteString(monitor, fmt.Sprintf("pmemsave 0 0x2000000 %q\nquit\n", file))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	ram, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return ram
}
