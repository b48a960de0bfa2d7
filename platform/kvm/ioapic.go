package kvm

import (
	"fmt"
	"sync"
)

// Vectors that lines of the I/O APICs get, in the order in which they are asked for. Below are the
// exceptions and the masked 8259As, above is room for the local APIC's own.
const (
	firstLineVector = 0x30
	lastLineVector  = 0xdf
)

// Registers of an I/O APIC (Intel 82093AA data sheet, 3.1 and 3.2): an index and a window; through
// them the identification, the version and two words for each input.
const (
	ioapicIndex  = 0x00
	ioapicWindow = 0x10

	ioapicVersion     = 0x01
	ioapicRedirection = 0x10

	// Bits of the low word of a redirection entry. Delivery mode 0 is "fixed", destination mode 0 is
	// "physical"; the high word's top byte is then an APIC id.
	redirectLow    = 1 << 13 // active low
	redirectLevel  = 1 << 15
	redirectMasked = 1 << 16

	// defaultIOAPIC is where every PC has its first one.
	defaultIOAPIC = 0xfec00000
)

// ioapic is one I/O APIC. Its index register makes every access two, so lines share the lock of
// interrupts.
type ioapic struct {
	mem     deviceMemory
	pa      uint64
	gsiBase uint32
	inputs  uint32
}

func (a *ioapic) read(register uint32) uint32 {
	a.mem.Store32(a.pa+ioapicIndex, register)
	return a.mem.Load32(a.pa + ioapicWindow)
}

func (a *ioapic) write(register, v uint32) {
	a.mem.Store32(a.pa+ioapicIndex, register)
	a.mem.Store32(a.pa+ioapicWindow, v)
}

// interrupts gives lines of the I/O APICs to drivers.
type interrupts struct {
	cpu         processor
	overrides   []override
	destination uint8 // local APIC id of the CPU that takes all interrupts

	mu    sync.Mutex // guards what follows and the index registers
	apics []ioapic
	lines map[uint32]*Line // by GSI
	next  int              // vector of the next line
}

// startInterrupts masks every input of every I/O APIC. Without a usable description of them it
// looks where every PC has its first.
func startInterrupts(hw hardware, madt madt) (*interrupts, error) {
	ic := &interrupts{cpu: hw, overrides: madt.overrides, lines: make(map[uint32]*Line), next: firstLineVector}
	// CPUID.01H:EBX[31:24] is the id of the CPU that asks (Intel SDM vol. 2, CPUID).
	_, ebx, _, _ := hw.CPUID(1, 0)
	ic.destination = uint8(ebx >> 24)

	described := madt.ioapics
	if len(described) == 0 {
		described = []ioapicEntry{{pa: defaultIOAPIC}}
	}
	for _, e := range described {
		a := ioapic{mem: hw, pa: e.pa, gsiBase: e.gsiBase}
		version := a.read(ioapicVersion)
		if version == 0 || version == ^uint32(0) {
			continue // nothing answers
		}
		a.inputs = version>>16&0xff + 1
		for i := range a.inputs {
			a.write(ioapicRedirection+2*i, redirectMasked)
			a.write(ioapicRedirection+2*i+1, 0)
		}
		ic.apics = append(ic.apics, a)
	}
	if len(ic.apics) == 0 {
		return ic, fmt.Errorf("platform: no I/O APIC answers at %#x: Elver needs one for the interrupts of its devices", described[0].pa)
	}
	return ic, nil
}

// Line is one interrupt input of the machine, routed to a vector. One goroutine serves it:
//
//	for {
//		line.Wait()
//		… serve the device until it has no more to say …
//		line.Done()
//	}
type Line struct {
	ic      *interrupts
	apic    *ioapic
	input   uint32
	vector  uint8
	trigger trigger
}

// trigger is how a device signals on a line.
type trigger struct {
	level, low bool
}

// routeISA returns the line of an ISA interrupt: edge triggered, active high and of the same number
// as its global system interrupt, unless the MADT overrides it (ACPI 6.5, 5.2.12.5).
func (ic *interrupts) routeISA(irq uint8) (*Line, error) {
	gsi, t := uint32(irq), trigger{}
	for _, o := range ic.overrides {
		if o.irq == irq {
			gsi, t = o.gsi, o.isaTrigger()
			break
		}
	}
	return ic.route(gsi, t)
}

// route gives the global system interrupt gsi a vector and unmasks it. A line has one user.
func (ic *interrupts) route(gsi uint32, t trigger) (*Line, error) {
	ic.mu.Lock()
	defer ic.mu.Unlock()
	if ic.lines[gsi] != nil {
		return nil, fmt.Errorf("platform: interrupt %d is in use already", gsi)
	}
	if ic.next > lastLineVector {
		return nil, fmt.Errorf("platform: no vector is left for interrupt %d", gsi)
	}
	for i := range ic.apics {
		a := &ic.apics[i]
		if gsi < a.gsiBase || gsi-a.gsiBase >= a.inputs {
			continue
		}
		l := &Line{ic: ic, apic: a, input: gsi - a.gsiBase, vector: uint8(ic.next), trigger: t}
		ic.next++
		ic.lines[gsi] = l
		a.write(ioapicRedirection+2*l.input+1, uint32(ic.destination)<<24)
		a.write(ioapicRedirection+2*l.input, l.entry())
		return l, nil
	}
	return nil, fmt.Errorf("platform: interrupt %d belongs to none of the I/O APICs", gsi)
}

// entry is the low word of the line's redirection entry, not masked.
func (l *Line) entry() uint32 {
	e := uint32(l.vector)
	if l.trigger.low {
		e |= redirectLow
	}
	if l.trigger.level {
		e |= redirectLevel
	}
	return e
}

// Wait parks the goroutine until the line's interrupt comes. A level-triggered line is masked then,
// for it would interrupt again as soon as the kernel is left with the device unserved.
func (l *Line) Wait() {
	l.ic.cpu.WaitIRQ(l.vector)
	if l.trigger.level {
		l.write(l.entry() | redirectMasked)
	}
}

// Done says that the device was served. An edge that came meanwhile ends the next Wait, and so does
// a level that is still asserted.
func (l *Line) Done() {
	if l.trigger.level {
		l.write(l.entry())
	}
}

// Mask silences a line for good.
func (l *Line) Mask() { l.write(l.entry() | redirectMasked) }

func (l *Line) write(entry uint32) {
	l.ic.mu.Lock()
	defer l.ic.mu.Unlock()
	l.apic.write(ioapicRedirection+2*l.input, entry)
}
