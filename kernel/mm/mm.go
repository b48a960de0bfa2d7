// Package mm is the program's virtual memory: address spaces made of VMAs, demand paging,
// copy-on-write, mappings of files, and the only ways by which the kernel touches user memory.
//
// The page table holds the truth about private pages: an entry owns one reference of its frame, and
// there is no second index of anonymous memory. What a mapping shares with others (a file, shared
// anonymous memory) lives in its Mappable, which hands out referenced frames.
//
// Lock order, from the outside in:
//
//	AddressSpace.mu    VMAs, page table, counts
//	  Mappings.mu      which address spaces map a file
//	  SharedMemory.mu  the frames of shared anonymous memory
//	    metal          frames
//
// AddressSpace.mu is never held while a Mappable is asked for a frame (it may park for a disk), nor
// while user memory is copied: both are done without the lock and checked again under it.
package mm

import (
	"fmt"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Sizes and bounds of an address space, in bytes.
const (
	PageSize      = 4096
	UserEnd       = 0x00007ffffffff000 // the program's addresses are below
	MinAddr       = 64 << 10           // vm.mmap_min_addr
	StackGuardGap = 1 << 20            // kept free below a growing stack
)

// moreMaps is by how much vm.max_map_count is above what it starts with.
var moreMaps atomic.Int64

const defaultMapCount = 65530

// MaxMapCount is vm.max_map_count: how many VMAs an address space may have.
func MaxMapCount() int { return int(defaultMapCount + moreMaps.Load()) }

// SetMaxMapCount sets MaxMapCount. What is beyond stays.
func SetMaxMapCount(n int) { moreMaps.Store(int64(n) - defaultMapCount) }

const pageMask = PageSize - 1

// Limits tells an address space its process's soft resource limits: RLIMIT_AS, RLIMIT_DATA,
// RLIMIT_STACK and RLIMIT_MEMLOCK are asked for, each time one matters.
type Limits interface {
	Soft(resource int) uint64
}

type unlimited struct{}

func (unlimited) Soft(resource int) uint64 {
	if resource == unix.RLIMIT_STACK {
		return 8 << 20
	}
	return math.MaxUint64
}

// Mappable is a file that can be mapped: a pointer, since two of them are compared. Its methods are called without any lock of this package's
// and may park the goroutine.
type Mappable interface {
	// MapFrame returns the frame that holds the page at off, which is page aligned, with a reference
	// for the caller. write says that a shared mapping is about to write to it: the file counts the
	// page as dirty from now on. Errors: EFAULT beyond the end of the file, ENOMEM without a free
	// frame, anything else for a page that cannot be read.
	MapFrame(off uint64, write bool) (pa uint64, err error)
	// MapName is the path shown in /proc/PID/maps and reports.
	MapName() string
	// Ident tells files apart: two Mappables of the same file return the same numbers.
	Ident() (dev, ino uint64)
}

// AroundPages is how many pages a fault maps at most.
const AroundPages = 16

// Around is a Mappable that knows without waiting which pages it has.
type Around interface {
	// MapAround returns the frames of those of the n pages from off on that are in memory, up to AroundPages,
	// each with a reference for the caller, and 0 for the others.
	MapAround(off uint64, n int) [AroundPages]uint64
}

// Counted is a Mappable that wants to know how long it is mapped, as a file description does that
// has to stay open. MapOpen is called when a mapping is made, MapClose when the last piece of it is
// gone, forks included.
type Counted interface {
	MapOpen()
	MapClose()
}

// PerProcess is a Counted Mappable that counts the processes that map it: a fork makes a mapping of its own.
type PerProcess interface {
	Counted
	MapPerProcess()
}

// Tracked is a Mappable whose pages can go away, or become clean, while they are mapped. All
// Mappables of one file return the same Mappings.
type Tracked interface {
	Mappings() *Mappings
}

// Residence is a Mappable that knows which of its pages are in memory (mincore(2)).
type Residence interface {
	Resident(off uint64) bool
}

// Syncer is a Mappable that can be written back (msync(2)): the bytes of [off, end).
type Syncer interface {
	MapSync(off, end uint64) error
}

// Sealed is a Mappable that may refuse to be written through shared mappings made from now on: EPERM.
type Sealed interface {
	MapWritable() error
}

// Puncher is a Mappable in which holes can be made (MADV_REMOVE): the bytes of [off, end) become zero.
type Puncher interface {
	MapPunch(off, end uint64) error
}

// Access is what a fault wanted to do.
type Access uint8

// The kinds of access.
const (
	AccessRead Access = iota
	AccessWrite
	AccessExec
)

func (a Access) String() string { return [...]string{"read", "write", "execute"}[a] }

// The codes of a SegvError (siginfo's si_code; sigaction(2)).
const (
	MapErr = 1 // SEGV_MAPERR: nothing is mapped there
	AccErr = 2 // SEGV_ACCERR: the mapping doesn't allow it
)

// SegvError is a fault that ends in SIGSEGV.
type SegvError struct {
	Addr uint64
	Code int32 // MapErr or AccErr
}

func (e *SegvError) Error() string {
	if e.Code == AccErr {
		return fmt.Sprintf("%#x: the mapping doesn't allow this access", e.Addr)
	}
	return fmt.Sprintf("%#x: nothing is mapped there", e.Addr)
}

// BusError is a fault that ends in SIGBUS, code BUS_ADRERR: a mapped file that ends before Addr, or
// that cannot be read.
type BusError struct {
	Addr uint64
	Err  error
}

func (e *BusError) Error() string { return fmt.Sprintf("%#x: no such page in the mapped file", e.Addr) }

func (e *BusError) Unwrap() error { return e.Err }
