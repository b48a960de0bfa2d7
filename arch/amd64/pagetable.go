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
	slotShift     = pageShift + levelBits
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
// An entry one level above the leaves may be large: it maps LeafSpan bytes in one frame of as many. For each there is
// a table in reserve, so that it can always be split into a leaf table, whoever needs one. Who asks for leaf
// entries, by Entry, Lookup or Next, never meets a large one: it is split first. Slot, Peek and Walk show them.
//
// A PageTable has no lock: the address space's protects it. Init makes one for the CPU, InitSparse one
// that is merely a sparse array of frames.
type PageTable struct {
	root   uint64
	tables uint64 // frames of tables, the root included

	leaf     *Table // the leaf table that Entry found last, nil for none
	leafSlot *Entry // what points to it
	leafBase uint64

	spare uint64 // the first of the tables in reserve, which hold the address of the next; one for each large entry

	changedFrom, changedTo uint64 // what the TLB may know wrongly; empty if from >= to
	unlinked               bool   // tables were unlinked: the paging-structure caches may know them
	dropped                int
	drops                  [64]uint64 // frames to be unreferenced after the TLB forgot them
	dropLarge              uint64     // and a frame of LeafSpan bytes, 0 for none
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
// is free for a table. The pointer is good until FreeTables, SetLarge or Destroy.
func (t *PageTable) Entry(va uint64) *Entry {
	if entry := t.Known(va); entry != nil {
		return entry
	}
	base := va &^ (LeafSpan - 1)
	slot := t.Slot(va)
	if slot == nil {
		return nil
	}
	switch {
	case *slot == 0:
		pa, ok := allocTable()
		if !ok {
			return nil
		}
		t.tables++
		*slot = Entry(pa) | tablePresence
	case *slot&EntryLarge != 0:
		t.split(slot, base)
	}
	t.leaf, t.leafSlot, t.leafBase = tableAt(slot.Frame()), slot, base
	return &t.leaf[Index(va)]
}

// Lookup returns the leaf entry of va, or nil if there is no table for it.
func (t *PageTable) Lookup(va uint64) *Entry {
	if entry := t.Known(va); entry != nil {
		return entry
	}
	base := va &^ (LeafSpan - 1)
	slot := t.slot(va)
	if slot == nil || *slot == 0 {
		return nil
	}
	if *slot&EntryLarge != 0 {
		t.split(slot, base)
	}
	t.leaf, t.leafSlot, t.leafBase = tableAt(slot.Frame()), slot, base
	return &t.leaf[Index(va)]
}

// Slot returns the entry one level above the leaf of va, making the tables that lead to it: 0, a large entry,
// or one that points to a leaf table. It returns nil if no frame is free for a table.
func (t *PageTable) Slot(va uint64) *Entry {
	table := tableAt(t.root)
	for shift := uint(rootShift); shift > slotShift; shift -= levelBits {
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
	return &table[(va>>slotShift)&(entries-1)]
}

// slot is Slot, but it returns nil if there is no table for the entry.
func (t *PageTable) slot(va uint64) *Entry {
	table := tableAt(t.root)
	for shift := uint(rootShift); shift > slotShift; shift -= levelBits {
		e := table[(va>>shift)&(entries-1)]
		if e == 0 {
			return nil
		}
		table = tableAt(e.Frame())
	}
	return &table[(va>>slotShift)&(entries-1)]
}

// Known returns the leaf entry of va if its table is the one that was used last, and nil if it has to be looked for.
func (t *PageTable) Known(va uint64) *Entry {
	if t.leaf == nil || t.leafBase != va&^(LeafSpan-1) {
		return nil
	}
	return &t.leaf[Index(va)]
}

// Peek returns the leaf entry of va, 0 if there is none. Of a large entry it shows the part that maps va, with
// EntryLarge set.
func (t *PageTable) Peek(va uint64) Entry {
	slot := t.slot(va)
	switch {
	case slot == nil || *slot == 0:
		return 0
	case *slot&EntryLarge != 0:
		return *slot + Entry(Index(va)<<pageShift)
	}
	return tableAt(slot.Frame())[Index(va)]
}

// SetLarge makes slot, which is 0, the large entry e without its EntryLarge. It returns false if no frame is
// free for the table in reserve.
func (t *PageTable) SetLarge(slot *Entry, e Entry) bool {
	pa, ok := metal.AllocFrame(metal.OwnerPageTable)
	if !ok {
		return false
	}
	t.tables++
	t.keepSpare(pa)
	*slot = e | EntryLarge
	return true
}

// Unlink takes the leaf table that slot points to out of the tree, and returns its address. No CPU knows anything of it
// afterwards. The caller drops the frames of its entries, and calls Collapse.
func (t *PageTable) Unlink(slot *Entry) (pa uint64) {
	pa = slot.Frame()
	*slot = 0
	t.leaf, t.unlinked = nil, true
	t.Flush()
	return pa
}

// Unlinked returns the table at pa, which Unlink returned.
func (t *PageTable) Unlinked(pa uint64) *Table { return tableAt(pa) }

// Collapse makes slot, which pointed to the table at pa before Unlink, the large entry e without its EntryLarge.
func (t *PageTable) Collapse(slot *Entry, pa uint64, e Entry) {
	t.keepSpare(pa)
	*slot = e | EntryLarge
}

// ClearLarge empties slot, the large entry of base. Its frame is the caller's to give to DropLarge.
func (t *PageTable) ClearLarge(slot *Entry, base uint64) {
	*slot = 0
	t.changedSpan(base)
	metal.Unref(t.takeSpare())
	t.tables--
}

// MoveLarge moves a large entry from slot, which is base's, to another that is 0.
func (t *PageTable) MoveLarge(to, slot *Entry, base uint64) {
	*to, *slot = *slot, 0
	t.changedSpan(base)
}

// ProtectLarge gives slot, the large entry of base, other bits.
func (t *PageTable) ProtectLarge(slot *Entry, base uint64, bits Entry) {
	*slot = Entry(slot.Frame()) | bits | EntryLarge
	t.changedSpan(base)
}

func (t *PageTable) keepSpare(pa uint64) {
	tableAt(pa)[0] = Entry(t.spare)
	t.spare = pa
}

func (t *PageTable) takeSpare() uint64 {
	pa := t.spare
	t.spare = uint64(tableAt(pa)[0])
	return pa
}

// changedSpan is Changed for all that a large entry maps: a CPU may know it in pieces, or whole
// (Intel SDM vol. 3, 4.10.2.3), so everything is forgotten.
func (t *PageTable) changedSpan(base uint64) {
	t.Changed(base)
	t.Changed(base + LeafSpan - pageSize)
}

// split makes slot, the large entry of base, point to a leaf table that maps the same.
func (t *PageTable) split(slot *Entry, base uint64) {
	large := *slot &^ EntryLarge
	metal.SplitHuge(large.Frame())
	pa := t.takeSpare()
	for i, leaf := 0, tableAt(pa); i < entries; i++ {
		leaf[i] = large + Entry(i)<<pageShift
	}
	*slot = Entry(pa) | tablePresence
	t.changedSpan(base)
}

// Next returns the first leaf table that maps something of [va, end), and the address that its first
// entry maps. It skips what has no tables without looking at its pages. It returns nil at the end.
func (t *PageTable) Next(va, end uint64) (*Table, uint64) {
	slot, base := t.Walk(va, end)
	if slot == nil {
		return nil, 0
	}
	return t.Leaf(slot, base), base
}

// Leaf returns the leaf table that slot, base's, points to, having split it if it is large.
// Precondition: *slot isn't 0.
func (t *PageTable) Leaf(slot *Entry, base uint64) *Table {
	if *slot&EntryLarge != 0 {
		t.split(slot, base)
	}
	return tableAt(slot.Frame())
}

// Walk returns the first entry one level above the leaves that maps something of [va, end), large or not, and the
// address from which on it does. It returns nil at the end.
func (t *PageTable) Walk(va, end uint64) (*Entry, uint64) {
	if base := va &^ (LeafSpan - 1); t.leaf != nil && t.leafBase == base && va < end {
		return t.leafSlot, base
	}
search:
	for va < end {
		table := tableAt(t.root)
		for shift := uint(rootShift); ; shift -= levelBits {
			n := va >> shift
			e := &table[n&(entries-1)]
			if *e == 0 {
				// On to what isn't empty in this table, or to where it ends.
				last := min((end-1)>>shift, n|(entries-1))
				for n++; n <= last && table[n&(entries-1)] == 0; n++ {
				}
				va = n << shift
				continue search
			}
			if shift == slotShift {
				return e, va &^ (LeafSpan - 1)
			}
			table = tableAt(e.Frame())
		}
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

// DropLarge is Drop for the frame of a large entry.
func (t *PageTable) DropLarge(pa uint64) {
	if t.dropLarge != 0 {
		t.Flush()
	}
	t.dropLarge = pa
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
		if t.dropLarge != 0 { // it changed, too
			metal.UnrefHuge(t.dropLarge)
			t.dropLarge = 0
		}
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
		if shift > slotShift {
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
