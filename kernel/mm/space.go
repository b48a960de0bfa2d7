package mm

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// AddressSpace is the memory of a process.
type AddressSpace struct {
	users  atomic.Int32
	noRoom atomic.Bool // a copy found no frame
	large  atomic.Bool // the table may have large entries

	mu sync.Mutex // guards everything below, the page table's entries too

	vmas   vmaSet
	last   *vma // where the last fault was, nil for none
	table  amd64.PageTable
	limits Limits

	closing []*backing // to be closed after mu
	atEnd   []func()   // of AtEnd
	program Program    // of SetProgram

	mmapBase      uint64
	brkStart, brk uint64
	stackTop      uint64
	noLarge       bool    // of DisableLarge
	future        vmFlags // vmLocked and vmLockFault of mlockall(MCL_FUTURE)
	resident      [residents]uint64
	peakResident  uint64
	total, data   uint64 // pages, as RLIMIT_AS and RLIMIT_DATA count them
	stack, exec   uint64
	locked        uint64
	peakTotal     uint64
	faults        uint64
}

// The kinds of resident pages that Usage tells apart.
const (
	residentAnon = iota
	residentFile
	residentShared
	residents
)

// New returns an empty address space. With limits nil only the stack is limited, to 8 MiB. ENOMEM.
func New(limits Limits) (*AddressSpace, error) {
	if limits == nil {
		limits = unlimited{}
	}
	noExecuteOnce.Do(findNoExecute)
	as := &AddressSpace{limits: limits, mmapBase: NewLayout(8<<20, nil).MmapBase}
	as.users.Store(1)
	if !as.table.Init() && (Reclaim(reclaimBatch) == 0 || !as.table.Init()) {
		return nil, unix.ENOMEM
	}
	return as, nil
}

// Acquire adds a user, as clone with CLONE_VM does.
func (as *AddressSpace) Acquire() { as.users.Add(1) }

// Release drops a user. The last one's Release unmaps everything, gives all frames back and loads
// the kernel's page table if as is still loaded. It must not be used afterwards.
func (as *AddressSpace) Release() {
	if as.users.Add(-1) != 0 {
		return
	}
	as.lock()
	as.unmap(0, UserEnd)
	as.table.Destroy()
	atEnd := as.atEnd
	if as.program != nil {
		atEnd = append(atEnd, as.program.Release)
	}
	as.unlock()
	for _, f := range atEnd {
		f()
	}
}

// AtEnd has f called when the last user has released the address space: for what lives as long as it
// does, such as the contexts of asynchronous I/O.
func (as *AddressSpace) AtEnd(f func()) {
	as.lock()
	defer as.unlock()
	as.atEnd = append(as.atEnd, f)
}

// Program is the file that an address space was made for, which must not change as long as there is one.
type Program interface {
	Acquire()
	Release()
}

// SetProgram gives the address space its program, which it releases with its end, and returns the one before, the caller's
// to release; nil for none. Copies that Fork makes get the program too.
func (as *AddressSpace) SetProgram(p Program) (old Program) {
	as.lock()
	defer as.unlock()
	old, as.program = as.program, p
	return old
}

// Root returns the physical address of the top-level page table, for amd64.Context.Enter.
func (as *AddressSpace) Root() uint64 { return as.table.Root() }

// Activate loads the page table if it isn't loaded.
func (as *AddressSpace) Activate() {
	if root := as.table.Root(); amd64.CurrentRoot() != root {
		amd64.LoadRoot(root)
	}
}

// SetLimits exchanges the limits.
func (as *AddressSpace) SetLimits(limits Limits) {
	as.lock()
	defer as.unlock()
	as.limits = limits
}

// OutOfMemory reports whether a copy to or from the program failed because no frame was left: the
// copy returned EFAULT, and the program has to die.
func (as *AddressSpace) OutOfMemory() bool { return as.noRoom.Load() }

func (as *AddressSpace) lock() { as.mu.Lock() }

// unlock ends a change: the TLB learns of it, and files that are no longer mapped hear so without
// the lock.
func (as *AddressSpace) unlock() {
	as.table.Flush()
	closing := as.closing
	as.closing = nil
	as.mu.Unlock()
	for _, b := range closing {
		b.close()
	}
}

// frames is the memory of the machine, in frames.
func frames() uint64 { return metal.Frames().Total }

// smallPages is what is granted without asking how large the machine is: it has more.
const smallPages = 256

// enough is Linux's heuristic overcommit: it refuses only what is more than the whole machine
// (__vm_enough_memory; Documentation/mm/overcommit-accounting).
func enough(pages uint64) bool {
	return pages <= smallPages || pages <= frames() || OvercommitAlways.Load()
}

// OvercommitAlways grants whatever is asked for, as vm.overcommit_memory = 1 does.
var OvercommitAlways atomic.Bool

var committed atomic.Int64 // pages

// Committed returns the bytes promised to programs, Committed_AS of /proc/meminfo.
func Committed() uint64 { return uint64(committed.Load()) * PageSize }

// roomForObjects says whether the Go heap has room for another object made for the program, of which
// there are n. It looks at the free frames now and then only.
func roomForObjects(n int) bool {
	if n%32 != 31 {
		return true
	}
	s := metal.Frames()
	return s.Free > s.Reserve
}

// roundUp rounds n up to pages; it wraps to 0.
func roundUp(n uint64) uint64 { return (n + pageMask) &^ pageMask }

// add64 adds and reports overflow.
func add64(a, b uint64) (uint64, bool) {
	sum, carry := bits.Add64(a, b, 0)
	return sum, carry != 0
}
