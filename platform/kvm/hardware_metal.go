//go:build elver

package kvm

import (
	"elver/arch/amd64"
	"elver/runtime/metal"
)

// Init finds the devices of the machine and brings them to a known state: the legacy interrupt
// controllers and every line of the I/O APICs masked, the serial port ready for output.
//
// An error means that the machine is not usable; what was found so far is in the Machine, which
// is never nil and can report the error and power off.
func Init(f Facts) (*Machine, error) {
	m, err := start(&machine{memoryEnd: f.lowMemoryEnd()}, f)
	var off []metal.PortWrite
	for _, w := range m.power.softOffWrites() {
		off = append(off, metal.PortWrite{Port: uint32(w.port), Size: uint32(w.size), Value: w.value})
	}
	metal.SetPowerOff(off)
	return m, err
}

// machine is the hardware under the image.
type machine struct {
	memoryEnd uint64   // physical memory below can be viewed
	windows   []window // device pages mapped so far
}

type window struct {
	pa, va uint64
}

func (*machine) In8(port uint16) uint8       { return amd64.In8(port) }
func (*machine) In16(port uint16) uint16     { return amd64.In16(port) }
func (*machine) In32(port uint16) uint32     { return amd64.In32(port) }
func (*machine) Out8(port uint16, v uint8)   { amd64.Out8(port, v) }
func (*machine) Out16(port uint16, v uint16) { amd64.Out16(port, v) }
func (*machine) Out32(port uint16, v uint32) { amd64.Out32(port, v) }

func (*machine) CPUID(leaf, sub uint32) (eax, ebx, ecx, edx uint32) { return amd64.CPUID(leaf, sub) }
func (*machine) ReadMSR(msr uint32) uint64                          { return amd64.ReadMSR(msr) }
func (*machine) WriteMSR(msr uint32, v uint64)                      { amd64.WriteMSR(msr, v) }
func (*machine) TSC() uint64                                        { return metal.TSC() }
func (*machine) WaitIRQ(vector uint8)                               { metal.WaitIRQ(vector) }
func (*machine) TripleFault()                                       { tripleFault() }
func (*machine) Halt()                                              { halt() }

func (m *machine) Map(pa uint64)               { m.device(pa) }
func (m *machine) Load32(pa uint64) uint32     { return amd64.LoadMMIO32(m.device(pa)) }
func (m *machine) Store32(pa uint64, v uint32) { amd64.StoreMMIO32(m.device(pa), v) }
func (m *machine) Load8(pa uint64) uint8       { return load8(m.device(pa)) }
func (m *machine) Store8(pa uint64, v uint8)   { store8(m.device(pa), v) }

// device returns the virtual address of the device register at pa. Devices are mapped by whole
// pages on first use.
func (m *machine) device(pa uint64) uint64 {
	page := pa &^ (metal.FrameSize - 1)
	for i := range m.windows {
		if m.windows[i].pa == page {
			return m.windows[i].va + pa - page
		}
	}
	va := uint64(metal.MapDevice(page, metal.FrameSize))
	m.windows = append(m.windows, window{page, va})
	return va + pa - page
}

func (m *machine) Memory(pa uint64, n int) ([]byte, bool) {
	if n < 0 || pa > m.memoryEnd || uint64(n) > m.memoryEnd-pa {
		return nil, false
	}
	return metal.View(pa, n), true
}

func (*machine) AllocPage() (pa uint64, page []byte, ok bool) {
	pa, ok = metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return 0, nil, false
	}
	metal.Zero(pa, metal.FrameSize)
	return pa, metal.View(pa, metal.FrameSize), true
}

// tripleFault and halt never return. load8 and store8 access one byte at va exactly once: the
// registers of QEMU's generic event device refuse any other width.
func tripleFault()
func halt()
func load8(va uint64) uint8
func store8(va uint64, v uint8)
