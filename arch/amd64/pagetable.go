package amd64

import (
	"unsafe"

	"elver/runtime/metal"
)

// Entry is a page-table entry (Intel SDM vol. 3, 4.5). Bits 9 to 11 are the software's.
type Entry uint64

// The bits of an Entry.
const (
	EntryPresent  Entry = 1 << 0
	EntryWritable Entry = 1 << 1
	EntryUser     Entry = 1 << 2
	EntryAccessed Entry = 1 << 5
	EntryDirty    Entry = 1 << 6
	EntryLarge    Entry = 1 << 7
	EntrySoft0    Entry = 1 << 9
	EntrySoft1    Entry = 1 << 10
	EntrySoft2    Entry = 1 << 11
	EntryNX       Entry = 1 << 63 // only if HasNX; reserved otherwise

	entryAddress Entry = 0x000ffffffffff000
)

// Frame returns the physical address of the frame that e points to.
func (e Entry) Frame() uint64 { return uint64(e & entryAddress) }

const (
	pageShift     = 12
	pageSize      = 1 << pageShift
	levelBits     = 9
	entries       = 1 << levelBits
	userHalf      = entries / 2
	rootShift     = pageShift + 3*levelBits
	userTableEnd  = uint64(1) << (rootShift + levelBits - 1)
	tablePresence = EntryPresent | EntryWritable | EntryUser | EntryAccessed

	// LeafSpan is how many bytes of address space one leaf table maps.
	LeafSpan = 1 << (pageShift + levelBits)
)

// Table is one page of entries, seen through the direct map.
type Table [entries]Entry

func tableAt(pa uint64) *Table {
	return (*Table)(unsafe.Pointer(unsafe.SliceData(metal.View(pa, pageSize))))
}

// Index returns which entry of its leaf table maps va.
func Index(va uint64) int { return int(va>>pageShift) & (entries - 1) }

// PageTable is the tree of tables of one address space. Its upper half is the kernel's, shared by
// all; what follows is about the lower half.
//
// The caller writes leaf entries itself and tells the table afterwards: Changed for an entry that was
// present, Drop for the frame that nobody maps any more. Nothing is promised to the CPU or given back
// until Flush. A new entry in place of one that was not present needs neither.
//
// A PageTable has no lock: the address space's protects it. Init makes one for the CPU, InitSparse one
// that is merely a sparse array of frames.
type PageTable struct {
	root   uint64
	tables uint64 // frames of tables, the root included

	leaf     *Table // the leaf table that Entry found last, nil for none
	leafBase uint64

	changedFrom, changedTo uint64 // what the TLB may know wrongly; empty if from >= to
	unlinked               bool   // tables were unlinked: the paging-structure caches may know them
	dropped                int
	drops                  [64]uint64 // frames to be unreferenced after the TLB forgot them
}

// Init makes the root table, whose upper half is the kernel's. It returns false if no frame is free.
func (t *PageTable) Init() bool {
	if !t.InitSparse() {
		return false
	}
	// The kernel's top-level entries are all there from boot on, so a copy never grows old.
	copy(tableAt(t.root)[userHalf:], tableAt(KernelRoot())[userHalf:])
	return true
}

// InitSparse makes a root table that isn't for the CPU: an array of frames, indexed by an offset
// below 2^47 in place of an address.
func (t *PageTable) InitSparse() bool {
	pa, ok := allocTable()
	if !ok {
		return false
	}
	*t = PageTable{root: pa, tables: 1}
	return true
}

// allocTable returns an empty table.
func allocTable() (uint64, bool) {
	pa, ok := metal.AllocFrame(metal.OwnerPageTable)
	if ok {
		metal.Zero(pa, pageSize)
	}
	return pa, ok
}

// Destroy frees all tables, the root included, after it made sure that no CPU has it loaded.
// Precondition: the caller dropped the frames of all leaf entries.
func (t *PageTable) Destroy() {
	if t.tables > 1 {
		t.FreeTables(0, userTableEnd, 0, userTableEnd)
	}
	t.Flush()
	unloadRoot(t.root)
	metal.Unref(t.root)
	// Whoever still copies finds nothing mapped, rather than a root that is somebody else's frame.
	*t = PageTable{root: KernelRoot()}
}

// Root returns the physical address of the root table.
func (t *PageTable) Root() uint64 { return t.root }

// Tables returns how many frames the tables take, the root included.
func (t *PageTable) Tables() uint64 { return t.tables }

// Entry returns the leaf entry of va, making the tables that lead to it. It returns nil if no frame
// is free for a table. The pointer is good until FreeTables or Destroy.
func (t *PageTable) Entry(va uint64) *Entry {
	base := va &^ (LeafSpan - 1)
	if t.leaf != nil && t.leafBase == base {
		return &t.leaf[Index(va)]
	}
	table := tableAt(t.root)
	for shift := uint(rootShift); shift > pageShift; shift -= levelBits {
		e := &table[(va>>shift)&(entries-1)]
		if *e == 0 {
			pa, ok := allocTable()
			if !ok {
				return nil
			}
			t.tables++
			*e = Entry(pa) | tablePresence
		}
		table = tableAt(e.Frame())
	}
	t.leaf, t.leafBase = table, base
	return &table[Index(va)]
}

// Lookup returns the leaf entry of va, or nil if there is no table for it.
func (t *PageTable) Lookup(va uint64) *Entry {
	base := va &^ (LeafSpan - 1)
	if t.leaf != nil && t.leafBase == base {
		return &t.leaf[Index(va)]
	}
	table := tableAt(t.root)
	for shift := uint(rootShift); shift > pageShift; shift -= levelBits {
		e := table[(va>>shift)&(entries-1)]
		if e == 0 {
			return nil
		}
		table = tableAt(e.Frame())
	}
	t.leaf, t.leafBase = table, base
	return &table[Index(va)]
}

// Next returns the first leaf table that maps something of [va, end), and the address that its first
// entry maps. It skips what has no tables without looking at its pages. It returns nil at the end.
func (t *PageTable) Next(va, end uint64) (*Table, uint64) {
	if base := va &^ (LeafSpan - 1); t.leaf != nil && t.leafBase == base && va < end {
		return t.leaf, base
	}
search:
	for va < end {
		table := tableAt(t.root)
		for shift := uint(rootShift); shift > pageShift; shift -= levelBits {
			n := va >> shift
			e := table[n&(entries-1)]
			if e == 0 {
				// On to what isn't empty in this table, or to where it ends.
				last := min((end-1)>>shift, n|(entries-1))
				for n++; n <= last && table[n&(entries-1)] == 0; n++ {
				}
				va = n << shift
				continue search
			}
			table = tableAt(e.Frame())
		}
		return table, va &^ (LeafSpan - 1)
	}
	return nil, 0
}

// Changed notes that the entry of va, which was present, is now another: the TLB has to forget it.
func (t *PageTable) Changed(va uint64) {
	if t.changedFrom >= t.changedTo {
		t.changedFrom, t.changedTo = va, va+pageSize
		return
	}
	t.changedFrom = min(t.changedFrom, va)
	t.changedTo = max(t.changedTo, va+pageSize)
}

// Drop gives up a reference of the frame at pa, which is no longer mapped, once the TLB forgot it.
func (t *PageTable) Drop(pa uint64) {
	if t.dropped == len(t.drops) {
		t.Flush()
	}
	t.drops[t.dropped] = pa
	t.dropped++
}

// flushAllAbove is the number of pages above which the TLB is emptied rather than told of each.
const flushAllAbove = 32

// Flush makes the TLB forget what changed, then gives up the dropped frames.
func (t *PageTable) Flush() {
	if t.unlinked || t.changedFrom < t.changedTo {
		if rootLoaded(t.root) {
			if t.unlinked || t.changedTo-t.changedFrom > flushAllAbove*pageSize {
				FlushTLB()
			} else {
				for va := t.changedFrom; va < t.changedTo; va += pageSize {
					InvalidatePage(va)
				}
			}
		}
		t.changedFrom, t.changedTo, t.unlinked = 0, 0, false
	}
	for _, pa := range t.drops[:t.dropped] {
		metal.Unref(pa)
	}
	t.dropped = 0
}

// FreeTables frees the tables that map something of [start, end) and nothing outside [floor, ceiling),
// which contains it. Precondition: all their leaf entries are zero. The caller calls Flush afterwards.
func (t *PageTable) FreeTables(start, end, floor, ceiling uint64) {
	// A table goes only with all leaf tables below it: none does if no leaf table can.
	first := start &^ (LeafSpan - 1)
	if first < floor {
		first += LeafSpan
	}
	if first >= end || ceiling < LeafSpan || first > ceiling-LeafSpan {
		return
	}
	t.leaf = nil
	t.freeBelow(tableAt(t.root), start, min(end, userTableEnd), rootShift, floor, ceiling)
}

// freeBelow frees the children of table, an entry of which maps 1<<shift bytes, that FreeTables means.
// [start, end) lies in what table maps. It calls itself once per level, three deep.
func (t *PageTable) freeBelow(table *Table, start, end uint64, shift uint, floor, ceiling uint64) {
	span := uint64(1) << shift
	for va := start &^ (span - 1); va < end; va += span {
		e := &table[(va>>shift)&(entries-1)]
		if *e == 0 {
			continue
		}
		child := e.Frame()
		if shift > pageShift+levelBits {
			t.freeBelow(tableAt(child), max(va, start), min(va+span, end), shift-levelBits, floor, ceiling)
		}
		if va >= floor && va+span <= ceiling {
			*e = 0
			t.tables--
			t.unlinked = true
			t.Drop(child)
			metal.CondResched()
		}
	}
}
