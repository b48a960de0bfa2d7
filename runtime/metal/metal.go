// Package metal is what the freestanding runtime offers to the kernel above it: physical frames, the
// direct map, the time stamp counter, the wait for an interrupt and the safe point of long loops.
//
// On the image (build tag elver) its functions are bodies in Go's own runtime, put there by the
// overlay; in a test on the host they work over an arena of ordinary memory.
//
// All functions may be called from any goroutine. None of them may be called while user memory is
// being copied.
package metal

// Sizes of the frames that the allocator hands out, in bytes.
const (
	FrameSize = 4096
	HugeSize  = 2 << 20
)

// Owner says on whose account a frame stands. Frames are counted by owner, so that a test can
// compare the counts before and after a program ran.
type Owner uint8

// The owners.
const (
	OwnerFree      Owner = iota // not handed out
	OwnerProgram                // anonymous memory of the program
	OwnerPageCache              // file contents: tmpfs, mapped files
	OwnerPageTable              // page tables of an address space
	OwnerBalloon                // lent to the host: see platform/kvm/virtio/balloon
	OwnerGoHeap                 // the kernel's Go heap and stacks
	OwnerKernel                 // device rings, early tables and everything else of the kernel
	owners
)

// Owners is the number of owners, OwnerFree included.
const Owners = int(owners)

// ProfileRate is how many samples a second of the CPU's time gives.
const ProfileRate = 1000

// Sample is a stack of the CPU profile, innermost frame first. The one frame 0 is user mode.
type Sample struct {
	Count uint64
	Stack []uintptr
}

// Stats counts the machine's frames of 4 KiB.
type Stats struct {
	Total   uint64         // all frames that were ever free, in frames
	Free    uint64         // of these, free now
	Least   uint64         // the fewest that were ever free
	Reserve uint64         // the program and the page cache get no frame when no more than this are free
	Huge    uint64         // of those of OwnerProgram, the ones in 2 MiB frames that weren't split
	ByOwner [Owners]uint64 // handed out, by owner; ByOwner[OwnerFree] == Free
}
