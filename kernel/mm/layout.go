package mm

// Layout is where the parts of a program stand.
type Layout struct {
	StackTop uint64 // the end of the stack
	MmapBase uint64 // mmap looks for room downwards from here
	PIEBase  uint64 // where a position-independent program is loaded
	BrkGap   uint64 // between the end of the program's image and the start of its heap
}

// What Linux randomizes on x86-64, in bits of a page number (arch/x86/mm/mmap.c, vm.mmap_rnd_bits).
const (
	stackRandomBits = 22
	mmapRandomBits  = 28
	brkRandomBits   = 18
)

// NewLayout chooses a layout as Linux does for a program whose stack may grow to stackLimit bytes.
// random returns random numbers; nil: address space randomization is off.
func NewLayout(stackLimit uint64, random func() uint64) Layout {
	pages := func(bits uint) uint64 {
		if random == nil {
			return 0
		}
		return random() & (1<<bits - 1) * PageSize
	}
	const pad = 1<<stackRandomBits*PageSize + StackGuardGap
	gap := stackLimit
	if gap+pad > gap {
		gap += pad
	}
	gap = min(max(gap, 128<<20), UserEnd/6*5)
	return Layout{
		StackTop: UserEnd - pages(stackRandomBits),
		MmapBase: roundUp(UserEnd-gap) - pages(mmapRandomBits),
		PIEBase:  UserEnd/3*2&^pageMask + pages(mmapRandomBits),
		BrkGap:   pages(brkRandomBits),
	}
}

// SetMmapBase sets below which address mmap looks for room first.
func (as *AddressSpace) SetMmapBase(base uint64) {
	as.lock()
	defer as.unlock()
	as.mmapBase = min(base&^pageMask, UserEnd)
}
