package mm

import (
	"elver/arch/amd64"
	"elver/runtime/metal"
)

// Region is a VMA as /proc/PID/maps shows it.
type Region struct {
	Start, End uint64
	Prot       int  // PROT_READ, PROT_WRITE, PROT_EXEC
	Shared     bool // MAP_SHARED
	Stack      bool // grows down
	Locked     bool // by mlock(2) and its like
	DontDump   bool // MADV_DONTDUMP
	Anonymous  bool // no file, or one that only stands for shared memory
	HugePage   bool // MADV_HUGEPAGE
	NoHugePage bool // MADV_NOHUGEPAGE
	MayBeLarge bool // it gets large pages where it has room for them
	Offset     uint64
	Dev, Ino   uint64
	File       Mappable // nil for anonymous memory
	Name       string   // of the file, or [heap], [stack] and the like
}

func (as *AddressSpace) region(v *vma) Region {
	r := Region{
		Start: v.start, End: v.end,
		Prot:      int(v.flags & vmAccess),
		Shared:    v.flags&vmMayShare != 0,
		Stack:     v.flags&vmGrowsDown != 0,
		Locked:    v.flags&vmLocked != 0,
		DontDump:  v.flags&vmDontDump != 0,
		Anonymous: v.back == nil || v.back.shared != nil,
		Name:      v.name,

		HugePage:   v.flags&vmHugePage != 0,
		NoHugePage: v.flags&vmNoHugePage != 0,
		MayBeLarge: as.wantsLarge(v) && v.end-v.start >= LargeSize && v.holdsLarge(roundUpLarge(v.start)),
	}
	switch {
	case v.back != nil:
		r.Offset, r.File = v.offset, v.back.file
		if r.Name == "" || v.back.shared == nil {
			r.Name = r.File.MapName()
		}
		r.Dev, r.Ino = r.File.Ident()
	case v.name != "":
	case v.start < as.brk && v.end > as.brkStart:
		r.Name = "[heap]"
	case v.start < as.stackTop && v.end >= as.stackTop:
		r.Name = "[stack]"
	}
	return r
}

// Region returns the region that holds addr.
func (as *AddressSpace) Region(addr uint64) (Region, bool) {
	as.lock()
	defer as.unlock()
	v := as.vmas.first(addr)
	if v == nil || v.start > addr {
		return Region{}, false
	}
	return as.region(v), true
}

// Regions calls yield for one region after the other, until it returns false, without the lock: what
// changes meanwhile may or may not be seen.
func (as *AddressSpace) Regions(yield func(Region) bool) {
	var some [16]Region
	for addr := uint64(0); ; {
		n := as.regionsFrom(addr, some[:])
		for _, r := range some[:n] {
			if !yield(r) {
				return
			}
			addr = r.End
		}
		if n == 0 {
			return
		}
	}
}

func (as *AddressSpace) regionsFrom(addr uint64, to []Region) int {
	as.lock()
	defer as.unlock()
	n := 0
	p := as.vmas.find(addr)
	for v := as.vmas.at(p); v != nil && n < len(to); v = as.vmas.at(p) {
		to[n] = as.region(v)
		n++
		p = as.vmas.next(p)
	}
	return n
}

// Usage is what an address space uses, in bytes but for the last two.
type Usage struct {
	Size, PeakSize       uint64 // VmSize, VmPeak
	RSS, PeakRSS         uint64 // VmRSS, VmHWM
	Anon, FileRSS, Shmem uint64 // RssAnon, RssFile, RssShmem
	Data, Stack, Exec    uint64 // VmData, VmStk, VmExe and VmLib
	Locked               uint64 // VmLck
	PageTables           uint64 // VmPTE
	Maps                 int    // how many VMAs
	Faults               uint64 // page faults so far
	NoLarge              bool   // DisableLarge
}

// Usage returns what as uses.
func (as *AddressSpace) Usage() Usage {
	as.lock()
	defer as.unlock()
	as.notePeak()
	u := Usage{
		Size: as.total, PeakSize: as.peakTotal,
		PeakRSS: as.peakResident,
		Anon:    as.resident[residentAnon], FileRSS: as.resident[residentFile], Shmem: as.resident[residentShared],
		Data: as.data, Stack: as.stack, Exec: as.exec,
		Locked:     as.locked,
		PageTables: as.table.Tables(),
	}
	u.RSS = u.Anon + u.FileRSS + u.Shmem
	for _, n := range []*uint64{&u.Size, &u.PeakSize, &u.RSS, &u.PeakRSS, &u.Anon, &u.FileRSS, &u.Shmem, &u.Data, &u.Stack, &u.Exec, &u.Locked, &u.PageTables} {
		*n *= PageSize
	}
	u.Maps, u.Faults, u.NoLarge = as.vmas.count, as.faults, as.noLarge
	return u
}

// BrkStart returns where the heap starts.
func (as *AddressSpace) BrkStart() uint64 {
	as.lock()
	defer as.unlock()
	return as.brkStart
}

// Residents is what of a piece of address space is in memory, in bytes.
type Residents struct {
	Anon, File, Shared uint64 // private pages of the program's, pages of files, shared memory without a file
	Large              uint64 // of Anon, what is in large pages
	Alone              uint64 // of these, pages that nobody else has
}

// Residents returns what of [start, end) is in memory.
func (as *AddressSpace) Residents(start, end uint64) Residents {
	as.lock()
	defer as.unlock()
	var r Residents
	for va := start; va < end; {
		slot, base := as.table.Walk(va, end)
		if slot == nil {
			break
		}
		va = max(va, base)
		stop := min(end, base+amd64.LeafSpan)
		if *slot&amd64.EntryLarge != 0 {
			r.Anon += stop - va
			r.Large += stop - va
			if metal.WholeRefs(slot.Frame()) == 1 {
				r.Alone += stop - va
			}
			va = stop
			continue
		}
		table := as.table.Leaf(slot, base)
		for ; va < stop; va += PageSize {
			entry := table[amd64.Index(va)]
			if entry == 0 || entry.Frame() == zeroFrame {
				continue
			}
			switch {
			case entry&entryAnon != 0:
				r.Anon += PageSize
			case entry&entryShared != 0:
				r.Shared += PageSize
			default:
				r.File += PageSize
			}
			if metal.Refs(entry.Frame()) == 1 {
				r.Alone += PageSize
			}
		}
		metal.CondResched()
	}
	return r
}

// PageState is what /proc/PID/pagemap tells of a page.
type PageState struct {
	Present   bool
	Anonymous bool // private memory of the program's, not a file's or shared
	Alone     bool // nobody else has the frame
	Frame     uint64
}

// PageStates fills to with the states of the pages from addr on.
func (as *AddressSpace) PageStates(addr uint64, to []PageState) {
	as.lock()
	defer as.unlock()
	for k := range to {
		to[k] = PageState{}
		entry := as.table.Peek(addr + uint64(k)*PageSize)
		if entry&amd64.EntryPresent == 0 {
			continue
		}
		pa := entry.Frame()
		to[k] = PageState{Present: true, Anonymous: entry&entryAnon != 0, Alone: pa != zeroFrame && metal.Refs(pa) == 1, Frame: pa}
	}
}
