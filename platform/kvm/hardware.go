package kvm

// ports is the x86 I/O port space.
type ports interface {
	In8(port uint16) uint8
	In16(port uint16) uint16
	In32(port uint16) uint32
	Out8(port uint16, v uint8)
	Out16(port uint16, v uint16)
	Out32(port uint16, v uint32)
}

// deviceMemory is uncached memory: the registers of a device, by physical address.
type deviceMemory interface {
	// Map makes the page of pa reachable ahead of its use, for use where nothing may be allocated.
	Map(pa uint64)

	Load32(pa uint64) uint32
	Store32(pa uint64, v uint32)
	Load8(pa uint64) uint8
	Store8(pa uint64, v uint8)
}

// processor is the CPU that runs the drivers.
type processor interface {
	CPUID(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
	ReadMSR(msr uint32) uint64
	WriteMSR(msr uint32, v uint64)
	TSC() uint64

	// WaitIRQ parks the goroutine until an interrupt came in on vector since the last call.
	WaitIRQ(vector uint8)

	// TripleFault loads an empty IDT and traps: the CPU shuts down and the machine resets.
	TripleFault()

	// Halt stops the CPU for good, interrupts off.
	Halt()
}

// hardware is everything that the drivers touch. On the image it is the machine, in a test a fake.
type hardware interface {
	ports
	deviceMemory
	processor

	// Memory returns n bytes of physical memory at pa, or false if that isn't all memory.
	Memory(pa uint64, n int) ([]byte, bool)

	// AllocPage returns a zeroed page of memory that is never given back.
	AllocPage() (pa uint64, page []byte, ok bool)
}
