// Package kvm drives the machine that hypervisors present: the PC as QEMU, KVM, Cloud Hypervisor and
// Firecracker make it. It reads the ACPI tables, routes interrupts, moves the bytes of the console,
// knows the date, and powers the machine off.
//
// Drivers speak to the machine through the small interfaces of hardware.go, so that all of them are
// tested on the host against fakes. Interrupts reach a driver as a goroutine that Line.Wait wakes:
// nothing here ever runs inside an interrupt.
//
// Lock order: Serial.input or powerButton.mu, then interrupts.mu.
package kvm

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"elver/boot"
)

// Facts are what the boot loader told.
type Facts struct {
	RSDP      uint64 // physical address of ACPI's root pointer, 0 if it is to be searched for
	MemoryMap []boot.MemoryRange
}

// lowMemoryEnd returns up to where the direct map has no holes: the end of the memory below 4 GiB,
// with the firmware's tables that stand behind it. This is what the runtime maps, ranges taken in
// the same order. ACPI tables lie nowhere else.
func (f Facts) lowMemoryEnd() (end uint64) {
	for _, r := range f.MemoryMap {
		switch {
		case r.Kind == boot.Usable && r.End < 4<<30:
			end = max(end, r.End)
		case r.Kind != boot.Usable && r.Start <= end && r.End <= 0xc0000000:
			end = max(end, r.End)
		}
	}
	return end
}

// Machine is the virtual machine that Elver runs in.
type Machine struct {
	hw     hardware
	acpi   acpi
	power  power
	ic     *interrupts
	serial *Serial  // nil if there is none
	log    *channel // nil if there is none
	driven atomic.Pointer[LogDevice]
	clock  *KVMClock
	rtc    rtc
	button powerButton
}

// start sets up the machine hw.
func start(hw hardware, f Facts) (*Machine, error) {
	m := &Machine{hw: hw}
	m.power = power{hw, &m.acpi}
	m.log = probeChannel(hw, logPort)
	m.serial = probeSerial(hw, com1)
	maskPICs(hw)

	// A machine without ACPI, or with broken tables, has its first I/O APIC where all have it.
	m.acpi, _ = readACPI(hw.Memory, f.RSDP)
	for _, r := range []register{m.acpi.fadt.reset, m.acpi.fadt.sleepControl, m.acpi.fadt.pm1aControl, m.acpi.fadt.pm1bControl} {
		if r.space == spaceMemory && r.present() {
			hw.Map(r.addr) // ending the machine must not allocate
		}
	}
	m.rtc = rtc{hw, m.acpi.fadt.century}
	m.clock = startKVMClock(hw)

	var err error
	m.ic, err = startInterrupts(hw, m.acpi.madt)
	m.button = powerButton{power: m.power, ic: m.ic}
	return m, err
}

// Console returns the first serial port, or nil if the machine has none.
func (m *Machine) Console() *Serial { return m.serial }

// Listen starts the console's input: handler gets it in order and returns how much of it it took;
// notify, if not nil, hears of line events. When handler takes less than it was given, reading stops
// until Serial.Resume is called, and what was not taken is offered again. Neither is called by two
// goroutines at once.
//
// Precondition: Listen was not called before.
func (m *Machine) Listen(handler func(p []byte) int, notify func(LineEvent)) error {
	if m.serial == nil {
		return errors.New("platform: the machine has no serial port: nothing can be read")
	}
	line, err := m.ic.routeISA(com1IRQ)
	if err != nil {
		return err
	}
	m.serial.listen(line, handler, notify)
	return nil
}

// LogDevice is a device that has a driver and takes logs.
type LogDevice interface {
	io.Writer
	// Drain waits until what was written is out, or a while.
	Drain()
}

// SetLog makes d the log channel of a machine that has none. It may be called once.
func (m *Machine) SetLog(d LogDevice) { m.driven.Store(&d) }

// HasLogChannel reports whether logs have a channel of their own.
func (m *Machine) HasLogChannel() bool { return m.log != nil || m.driven.Load() != nil }

// LogWriter returns where logs, traces and reports go: the log channel, one that SetLog adds later too, else
// the console, else nowhere.
func (m *Machine) LogWriter() io.Writer {
	if m.log != nil {
		return m.log
	}
	return logWriter{m}
}

// logWriter is the log of a machine that has no channel for it of its own.
type logWriter struct{ m *Machine }

func (w logWriter) Write(p []byte) (int, error) {
	if d := w.m.driven.Load(); d != nil {
		return (*d).Write(p)
	} else if w.m.serial != nil {
		return w.m.serial.Write(p)
	}
	return len(p), nil
}

// WallClock returns the date and time, in UTC: by KVM's clock to the nanosecond, else by the
// real-time clock to the second.
func (m *Machine) WallClock() (time.Time, error) {
	if m.clock != nil {
		if t, err := m.clock.now(); err == nil {
			return t, nil
		}
	}
	return m.rtc.read()
}

// KVMClock returns KVM's clock, or nil without KVM.
func (m *Machine) KVMClock() *KVMClock { return m.clock }

// PMTimer returns the port of the ACPI timer, which counts at 3.579545 MHz in 24 or 32 bits (ACPI
// 6.5, 4.8.2.1), or ok false if the machine has none.
func (m *Machine) PMTimer() (port uint16, width int, ok bool) {
	f := &m.acpi.fadt
	if !f.timer.present() || f.timer.space != spaceIO {
		return 0, 0, false
	}
	if f.timerWide {
		return uint16(f.timer.addr), 32, true
	}
	return uint16(f.timer.addr), 24, true
}

// OnPowerButton has pressed called, on a goroutine of its own, each time the power button is
// pressed. A machine without one never calls it.
func (m *Machine) OnPowerButton(pressed func()) error { return m.button.start(pressed) }

// CPUCount returns how many CPUs the machine has, at least 1.
func (m *Machine) CPUCount() int { return max(m.acpi.madt.cpus, 1) }

// KeepsOrder says that loads stay behind the stores before a barrier. QEMU before 8.1 leaves barriers out
// when it emulates a machine that can have only one CPU, and an agreement with it about who wakes whom
// then loses wake-ups: not one that rests on a memory barrier may be made.
func (m *Machine) KeepsOrder() bool { return m.acpi.madt.places > 1 || !emulated(m.hw) }

// PowerOff waits until the console's output and the log have left the machine and ends it. The status goes to
// the host by every channel that there is. It does not return.
func (m *Machine) PowerOff(status uint8) {
	if d := m.driven.Load(); d != nil {
		(*d).Drain()
	}
	if m.serial != nil {
		m.serial.Drain()
	}
	m.PowerOffNow(status)
}

// PowerOffNow ends the machine at once, without parking, for a kernel that failed. It does not
// return.
func (m *Machine) PowerOffNow(status uint8) { m.power.off(status) }

// Reset restarts the machine. It does not return.
func (m *Machine) Reset() {
	if m.serial != nil {
		m.serial.Drain()
	}
	m.power.reset()
}
