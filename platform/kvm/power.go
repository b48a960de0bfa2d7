package kvm

import "sync"

const (
	// debugExit is QEMU's isa-debug-exit as our scripts and everybody's place it. A byte v written
	// there ends QEMU with the status v<<1|1.
	debugExit = 0xf4

	// Bits of the PM1 registers (ACPI 6.5, 4.8.3) and of the sleep control register (4.8.3.7).
	pm1PowerButton    = 1 << 8 // status and enable
	pm1SCIEnable      = 1 << 0 // control: the machine is in ACPI mode
	pm1SleepTypeShift = 10
	pm1SleepTypeMask  = 7 << pm1SleepTypeShift
	pm1SleepEnable    = 1 << 13

	sleepTypeShift = 2
	sleepTypeMask  = 7 << sleepTypeShift
	sleepEnable    = 1 << 5

	// The 8042 keyboard controller: bit 1 of its status says that it hasn't taken the last command;
	// the command pulses its output line 0, which is the CPU's reset.
	keyboardPort  = 0x64
	keyboardBusy  = 1 << 1
	keyboardReset = 0xfe

	// resetControl is the reset control register of Intel's chipsets (82371AB data sheet, 4.3.3).
	resetControl = 0xcf9
)

// power ends the machine. Its methods neither park nor allocate, so that they work in the middle of
// a kernel failure.
type power struct {
	hw   hardware
	acpi *acpi
}

// off ends the machine with a status: first for those on the host who want to know it, then by
// every means there is, from the politest to the last.
func (p power) off(status uint8) {
	if c := p.hw.In8(statusPort); c == debugconPresent {
		p.hw.Out8(statusPort, status)
	}
	p.hw.Out8(debugExit, status)
	p.softOff()
	p.reset()
}

// reset restarts the machine; on virtual machines without ACPI this is how they end.
func (p power) reset() {
	if r := p.acpi.fadt.reset; r.present() {
		p.write(r, uint32(p.acpi.fadt.resetValue))
		p.settle()
	}
	p.hw.Out8(resetControl, 0x02)
	p.hw.Out8(resetControl, 0x06)
	p.settle()
	for range 10000 {
		if p.hw.In8(keyboardPort)&keyboardBusy == 0 {
			break
		}
	}
	p.hw.Out8(keyboardPort, keyboardReset)
	p.settle()
	p.hw.TripleFault()
	p.hw.Halt()
}

// softOff enters the sleeping state S5 (ACPI 6.5, 7.4 and 16.1.5), which is off.
func (p power) softOff() {
	f, s := &p.acpi.fadt, p.acpi.softOff
	if !p.acpi.hasSoftOff {
		return
	}
	if f.hardwareReduced {
		if f.sleepControl.present() {
			v := p.read(f.sleepControl)&^uint32(sleepTypeMask) | uint32(s.typeA)<<sleepTypeShift | sleepEnable
			p.write(f.sleepControl, v)
			p.settle()
		}
		return
	}
	p.enableACPI()
	if !f.pm1aControl.present() {
		return
	}
	a := p.read(f.pm1aControl)&^uint32(pm1SleepTypeMask|pm1SleepEnable) | uint32(s.typeA)<<pm1SleepTypeShift
	p.write(f.pm1aControl, a|pm1SleepEnable)
	if f.pm1bControl.present() {
		b := p.read(f.pm1bControl)&^uint32(pm1SleepTypeMask|pm1SleepEnable) | uint32(s.typeB)<<pm1SleepTypeShift
		p.write(f.pm1bControl, b|pm1SleepEnable)
	}
	p.settle()
}

// portWrite is a write of size bytes to a port.
type portWrite struct {
	port  uint16
	size  int
	value uint32
}

// softOffWrites is what softOff does on a machine that needs port writes alone, for the runtime's
// own failures, in which no Go code can run any more. It is nil on others.
func (p power) softOffWrites() (writes []portWrite) {
	f, s := &p.acpi.fadt, p.acpi.softOff
	add := func(r register, size int, v uint32) {
		if r.present() && r.space == spaceIO {
			writes = append(writes, portWrite{uint16(r.addr), size, v})
		}
	}
	switch {
	case !p.acpi.hasSoftOff:
	case f.hardwareReduced:
		add(f.sleepControl, 1, uint32(s.typeA)<<sleepTypeShift|sleepEnable)
	default:
		if f.smiCommand != 0 && f.acpiEnable != 0 {
			writes = append(writes, portWrite{f.smiCommand, 1, uint32(f.acpiEnable)})
		}
		add(f.pm1aControl, 2, uint32(s.typeA)<<pm1SleepTypeShift|pm1SleepEnable|pm1SCIEnable)
		add(f.pm1bControl, 2, uint32(s.typeB)<<pm1SleepTypeShift|pm1SleepEnable|pm1SCIEnable)
	}
	return writes
}

// enableACPI takes the fixed hardware from the firmware, if it still has it (4.8.3.2.1).
func (p power) enableACPI() {
	f := &p.acpi.fadt
	if f.hardwareReduced || f.smiCommand == 0 || f.acpiEnable == 0 || !f.pm1aControl.present() {
		return
	}
	if p.read(f.pm1aControl)&pm1SCIEnable != 0 {
		return
	}
	p.hw.Out8(f.smiCommand, f.acpiEnable)
	for range 100000 {
		if p.read(f.pm1aControl)&pm1SCIEnable != 0 {
			return
		}
	}
}

// settle gives a write that ends the machine the time to do so: a few thousand exits to the
// hypervisor, at least some milliseconds.
func (p power) settle() {
	for range 5000 {
		p.hw.In8(0x80) // the POST port, which nothing reads
	}
}

// read and write access a register of the fixed hardware in its own width: 8, 16 or 32 bits.
func (p power) read(r register) uint32 {
	if r.space == spaceIO {
		switch r.width {
		case 8:
			return uint32(p.hw.In8(uint16(r.addr)))
		case 32:
			return p.hw.In32(uint16(r.addr))
		}
		return uint32(p.hw.In16(uint16(r.addr)))
	}
	if r.width == 8 {
		return uint32(p.hw.Load8(r.addr))
	}
	return p.hw.Load32(r.addr)
}

func (p power) write(r register, v uint32) {
	if r.space == spaceIO {
		switch r.width {
		case 8:
			p.hw.Out8(uint16(r.addr), uint8(v))
		case 32:
			p.hw.Out32(uint16(r.addr), v)
		default:
			p.hw.Out16(uint16(r.addr), uint16(v))
		}
		return
	}
	if r.width == 8 {
		p.hw.Store8(r.addr, uint8(v))
		return
	}
	p.hw.Store32(r.addr, v)
}

// powerButton tells who asked that the machine's power button was pressed: by QEMU's
// system_powerdown, by the host's SIGTERM.
type powerButton struct {
	power
	ic *interrupts

	mu      sync.Mutex
	pressed func()
	started bool
}

// start has pressed called, on a goroutine of its own, each time the button is pressed.
func (b *powerButton) start(pressed func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pressed = pressed
	if b.started {
		return nil
	}
	serve, line, err := b.connect()
	if err != nil || line == nil {
		return err
	}
	b.started = true
	go b.run(line, serve)
	return nil
}

// connect routes the interrupt that the button comes by and returns what to do on one. line is nil
// if the machine has no button that Elver understands.
func (b *powerButton) connect() (serve func() (pressed bool), line *Line, err error) {
	if b.acpi.hasGED {
		line, err = b.ic.route(b.acpi.ged.gsi, b.acpi.ged.trigger)
		return b.serveGED, line, err
	}
	f := &b.acpi.fadt
	if f.noPowerButton || !f.pm1aEvent.present() || f.pm1EventBytes < 4 || f.sci == 0 {
		return nil, nil, nil
	}
	gsi, t := uint32(f.sci), override{}.sciTrigger()
	for _, o := range b.ic.overrides {
		if uint16(o.irq) == f.sci {
			gsi, t = o.gsi, o.sciTrigger()
		}
	}
	if line, err = b.ic.route(gsi, t); err != nil {
		return nil, nil, err
	}
	b.enableACPI()
	for _, block := range b.eventBlocks() {
		b.write(block.status, 0xffff) // one clears
		b.write(block.enable, pm1PowerButton)
	}
	return b.servePM1, line, nil
}

// idleLimit is how many interrupts in a row may come without the button having been pressed, before
// the line counts as stuck.
const idleLimit = 1000

func (b *powerButton) run(line *Line, serve func() bool) {
	for idle := 0; idle < idleLimit; {
		line.Wait()
		pressed := serve()
		line.Done()
		idle++
		if pressed {
			idle = 0
			b.mu.Lock()
			f := b.pressed
			b.mu.Unlock()
			f()
		}
	}
	line.Mask()
}

// eventBlock is a PM1 event register block: its first half is the status, its second the enable
// register (ACPI 6.5, 4.8.3.1).
type eventBlock struct {
	status, enable register
}

func (b *powerButton) eventBlocks() []eventBlock {
	f := &b.acpi.fadt
	var blocks []eventBlock
	for _, r := range []register{f.pm1aEvent, f.pm1bEvent} {
		if !r.present() {
			continue
		}
		status, enable := r, r
		status.width, enable.width = 16, 16
		enable.addr += uint64(f.pm1EventBytes / 2)
		blocks = append(blocks, eventBlock{status, enable})
	}
	return blocks
}

func (b *powerButton) servePM1() (pressed bool) {
	for _, block := range b.eventBlocks() {
		s := b.read(block.status)
		b.write(block.status, s)
		pressed = pressed || s&pm1PowerButton != 0
	}
	return pressed
}

func (b *powerButton) serveGED() (pressed bool) {
	return b.hw.Load32(b.acpi.ged.selector)&gedPowerDown != 0
}
