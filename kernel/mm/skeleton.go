package mm

import "golang.org/x/sys/unix"

// This file goes away as the real ones arrive.

type AddressSpace struct{}

// New makes an empty address space. limits nil: none but a stack of 8 MiB. ENOMEM.
func New(limits Limits) (*AddressSpace, error) { return &AddressSpace{}, nil }

// Fork makes a copy-on-write copy. limits nil: those of as.
func (as *AddressSpace) Fork(limits Limits) (*AddressSpace, error) { return nil, unix.ENOSYS }

// Acquire adds a user (CLONE_VM); each Release drops one, the last one frees everything.
func (as *AddressSpace) Acquire() {}
func (as *AddressSpace) Release() {}

// Activate loads the page table if it isn't loaded.
func (as *AddressSpace) Activate() {}

type MmapArgs struct {
	Addr, Length uint64
	Prot, Flags  int
	File         Mappable // nil: anonymous memory
	Offset       uint64
	FileProt     int    // what the open file allows: PROT_READ, PROT_WRITE; PROT_EXEC unless mounted noexec. 0: everything
	Name         string // shown in /proc/PID/maps for memory without a file, as "[vdso]"
	Privileged   bool   // CAP_IPC_LOCK: RLIMIT_MEMLOCK doesn't bound MAP_LOCKED
}

func (as *AddressSpace) Mmap(a MmapArgs) (uint64, error)            { return 0, unix.ENOSYS }
func (as *AddressSpace) Munmap(addr, length uint64) error           { return unix.ENOSYS }
func (as *AddressSpace) Mprotect(addr, length uint64, p int) error  { return unix.ENOSYS }
func (as *AddressSpace) Madvise(addr, length uint64, adv int) error { return unix.ENOSYS }
func (as *AddressSpace) Mremap(old, oldLen, newLen uint64, flags int, newAddr uint64) (uint64, error) {
	return 0, unix.ENOSYS
}

// Mincore writes one byte per page to user memory at vec.
func (as *AddressSpace) Mincore(addr, length, vec uint64) error     { return unix.ENOSYS }
func (as *AddressSpace) Msync(addr, length uint64, flags int) error { return unix.ENOSYS }
func (as *AddressSpace) Mlock(addr, length uint64, flags int, privileged bool) error {
	return unix.ENOSYS
}
func (as *AddressSpace) Munlock(addr, length uint64) error         { return unix.ENOSYS }
func (as *AddressSpace) Mlockall(flags int, privileged bool) error { return unix.ENOSYS }
func (as *AddressSpace) Munlockall() error                         { return nil }

// SetBrk sets where the heap starts (page aligned up); Brk moves its end and returns the end now.
func (as *AddressSpace) SetBrk(start uint64)    {}
func (as *AddressSpace) Brk(addr uint64) uint64 { return 0 }

// SetMmapBase sets below which address mmap looks for room, top-down.
func (as *AddressSpace) SetMmapBase(base uint64) {}

// SetStack makes the growing stack, initially of size bytes below top.
func (as *AddressSpace) SetStack(top, size uint64, exec bool) error { return unix.ENOSYS }

// Layout is where the parts of a program stand (address space randomization).
type Layout struct {
	StackTop uint64 // end of the stack
	MmapBase uint64 // mmap goes down from here
	PIEBase  uint64 // load address of a static or dynamic PIE
	BrkGap   uint64 // between the end of the program's image and the start of the heap
}

// NewLayout chooses a layout with the random numbers that random returns, nil for none.
func NewLayout(stackLimit uint64, random func() uint64) Layout { return Layout{} }

// Fault resolves a page fault: nil, *SegvError, *BusError or ENOMEM (no frame is left: the program must die).
func (as *AddressSpace) Fault(addr uint64, access Access) error { return unix.ENOSYS }

// FaultAccess translates the error code of a page fault.
func FaultAccess(errorCode uint64) Access { return AccessRead }

// OutOfMemory reports whether a copy to or from the program failed because no frame was left.
func (as *AddressSpace) OutOfMemory() bool { return false }

func (as *AddressSpace) CopyIn(dst []byte, addr uint64) (int, error)       { return 0, unix.EFAULT }
func (as *AddressSpace) CopyOut(addr uint64, src []byte) (int, error)      { return 0, unix.EFAULT }
func (as *AddressSpace) ZeroOut(addr uint64, n uint64) (uint64, error)     { return 0, unix.EFAULT }
func (as *AddressSpace) CopyInString(addr uint64, max int) (string, error) { return "", unix.EFAULT }
func (as *AddressSpace) ReadUint32(addr uint64) (uint32, error)            { return 0, unix.EFAULT }
func (as *AddressSpace) ReadUint64(addr uint64) (uint64, error)            { return 0, unix.EFAULT }
func (as *AddressSpace) WriteUint32(addr uint64, v uint32) error           { return unix.EFAULT }
func (as *AddressSpace) WriteUint64(addr uint64, v uint64) error           { return unix.EFAULT }
func (as *AddressSpace) CompareAndSwap32(addr uint64, old, new uint32) (uint32, error) {
	return 0, unix.EFAULT
}

// ForcedCopyIn and ForcedCopyOut ignore page protection (loader, ptrace, /proc/PID/mem), from any address space.
func (as *AddressSpace) ForcedCopyIn(dst []byte, addr uint64) (int, error)  { return 0, unix.EFAULT }
func (as *AddressSpace) ForcedCopyOut(addr uint64, src []byte) (int, error) { return 0, unix.EFAULT }

// Key names a futex: comparable.
type Key struct {
	as            *AddressSpace
	dev, ino, off uint64
}

// FutexKey returns the key of the futex at addr: EINVAL (alignment), EFAULT.
func (as *AddressSpace) FutexKey(addr uint64, shared bool) (Key, error) { return Key{}, unix.EFAULT }

// Region is one VMA, as /proc/PID/maps shows it.
type Region struct {
	Start, End uint64
	Prot       int  // unix.PROT_*
	Shared     bool // MAP_SHARED
	Stack      bool // grows down
	Offset     uint64
	Dev, Ino   uint64
	File       Mappable // nil for anonymous memory
	Name       string   // MapName, or [heap], [stack] …
}

// Regions calls yield for each region in order, without locks held.
func (as *AddressSpace) Regions(yield func(Region) bool) {}

// Region returns the region that holds addr.
func (as *AddressSpace) Region(addr uint64) (Region, bool) { return Region{}, false }

// Usage is what an address space uses, in bytes.
type Usage struct {
	Size, PeakSize       uint64 // VmSize, VmPeak
	RSS, PeakRSS         uint64 // VmRSS, VmHWM
	Anon, FileRSS, Shmem uint64 // RssAnon, RssFile, RssShmem
	Data, Stack, Exec    uint64 // VmData, VmStk, VmExe+VmLib
	Locked               uint64 // VmLck
	PageTables           uint64 // VmPTE
	Maps                 int    // number of VMAs
}

func (as *AddressSpace) Usage() Usage { return Usage{} }

// Committed returns the bytes promised to programs (Committed_AS).
func Committed() uint64 { return 0 }

// Mappings knows which address spaces map a file. The zero value is ready.
type Mappings struct{}

// Unmap removes the pages of [off, end) from all mappings; private also those that were copied (truncation).
func (m *Mappings) Unmap(off, end uint64, private bool) {}

// WriteProtect makes the next write to the pages of [off, end) call MapFrame again.
func (m *Mappings) WriteProtect(off, end uint64) {}

// Count returns how many VMAs map the file.
func (m *Mappings) Count() int { return 0 }

// Segment is one piece of user memory (struct iovec).
type Segment struct{ Addr, Len uint64 }

// Buffer is where a read puts its bytes and where a write takes them: user or kernel memory.
type Buffer struct {
	as *AddressSpace
}

func UserBuffer(as *AddressSpace, iov []Segment) Buffer        { return Buffer{} }
func UserBuffer1(as *AddressSpace, addr, length uint64) Buffer { return Buffer{} }
func KernelBuffer(p []byte) Buffer                             { return Buffer{} }
func (b *Buffer) Len() int                                     { return 0 }
func (b *Buffer) CopyOut(src []byte) (int, error)              { return 0, unix.EFAULT } // into the buffer
func (b *Buffer) CopyIn(dst []byte) (int, error)               { return 0, unix.EFAULT } // from it
func (b *Buffer) ZeroOut(n int) (int, error)                   { return 0, unix.EFAULT }
func (b *Buffer) Skip(n int)                                   {}
func (b *Buffer) Reset()                                       {} // to its start
func (b *Buffer) Limit(n int)                                  {} // no more than n bytes from here
