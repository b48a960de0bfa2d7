package mm

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// Large pages: private anonymous memory may stand in one entry of 2 MiB, one level above the leaves of the
// page table, in place of 512 of 4 KiB. A program asks for them with madvise(2), MADV_HUGEPAGE, and gets one at
// the first access to 2 MiB whose frames are at hand in one piece; otherwise it gets small pages, as ever.
//
// A large entry holds one reference of all its frames. It is whole only to those that know of it: the first who
// wants a leaf entry has it split (amd64.PageTable), which needs no memory. A fork shares large entries; the first write
// of either side splits it on that side, and a small page is copied.

// LargeSize is what a large page holds, in bytes.
const LargeSize = amd64.LeafSpan

const largePages = LargeSize / PageSize

// LargePolicy says who gets large pages: /sys/kernel/mm/transparent_hugepage/enabled.
type LargePolicy int32

// The policies.
const (
	LargeMadvise LargePolicy = iota // who asked for them
	LargeAlways                     // who didn't refuse
	LargeNever
)

var largePolicy atomic.Int32 // a LargePolicy

// SetLargePolicy sets the policy for accesses from now on; the large pages that there are stay.
func SetLargePolicy(p LargePolicy) { largePolicy.Store(int32(p)) }

// mayBeLarge says whether resolve has to think of large pages at all.
func (as *AddressSpace) mayBeLarge() bool {
	return as.large.Load() || largePolicy.Load() == int32(LargeAlways)
}

// DisableLarge says whether as does without large pages, whatever it asks for (PR_SET_THP_DISABLE of prctl(2)).
// Forks inherit it.
func (as *AddressSpace) DisableLarge(on bool) {
	as.lock()
	defer as.unlock()
	as.noLarge = on
}

// LargeDisabled returns what DisableLarge set.
func (as *AddressSpace) LargeDisabled() bool {
	as.lock()
	defer as.unlock()
	return as.noLarge
}

// wantsLarge reports whether v gets large pages where it has room for one.
func (as *AddressSpace) wantsLarge(v *vma) bool {
	if v.back != nil || v.flags&vmWrite == 0 || as.noLarge {
		return false
	}
	switch LargePolicy(largePolicy.Load()) {
	case LargeMadvise:
		return v.flags&vmHugePage != 0
	case LargeAlways:
		return v.flags&vmNoHugePage == 0
	}
	return false
}

// holdsLarge reports whether all of the large page at base lies in v.
func (v *vma) holdsLarge(base uint64) bool {
	return base >= v.start && v.end-base >= LargeSize && base < v.end
}

// allocLarge returns the frame of a large page, unless memory is short: a large page is worth having, but not
// at the cost of a program that soon finds no small one.
func allocLarge() (uint64, bool) {
	if s := metal.Frames(); s.Free < s.Reserve+s.Total/8+largePages {
		return 0, false
	}
	return metal.AllocHuge(metal.OwnerProgram)
}

// resolveLarge is resolve for a page that is in a large one, or becomes part of one. It returns false if the page is, or
// has to be, a small one.
func (as *AddressSpace) resolveLarge(v *vma, page uint64, write bool) bool {
	if v.back != nil {
		return false
	}
	slot := as.table.Slot(page)
	if slot == nil {
		return false
	}
	base := page &^ (LargeSize - 1)
	switch old := *slot; {
	case old == 0:
		return as.wantsLarge(v) && v.holdsLarge(base) && as.newLarge(v, slot)
	case old&amd64.EntryLarge == 0:
		return false
	case !write || old&amd64.EntryWritable != 0:
		as.table.Changed(page)
		return true
	case metal.WholeRefs(old.Frame()) == 1: // the fork that it was shared with is gone
		as.table.ProtectLarge(slot, base, entryBits(v.flags)|entryAnon|writable)
		return true
	}
	return false
}

// newLarge makes slot, which is 0, a large entry of zeros in v.
func (as *AddressSpace) newLarge(v *vma, slot *amd64.Entry) bool {
	pa, ok := allocLarge()
	if !ok {
		return false
	}
	metal.Zero(pa, LargeSize) // before another thread can see it
	if !as.table.SetLarge(slot, amd64.Entry(pa)|entryBits(v.flags)|entryAnon|writable) {
		metal.Unref(pa)
		return false
	}
	as.resident[residentAnon] += largePages
	as.large.Store(true)
	v.written = true
	return true
}

// collapse is MADV_COLLAPSE for [start, end), which lies in v: small pages become large ones, as far as they are the program's
// alone. EINVAL for what can't be large, ENOMEM without a frame, EAGAIN for pages that somebody else has, too.
func (as *AddressSpace) collapse(v *vma, start, end uint64) error {
	if v.back != nil || v.flags&vmNoHugePage != 0 || as.noLarge || roundUpLarge(start) > end&^(LargeSize-1) {
		return unix.EINVAL
	}
	for base := roundUpLarge(start); end-base >= LargeSize && base < end; base += LargeSize {
		slot := as.table.Slot(base)
		if slot == nil {
			return unix.ENOMEM
		}
		if *slot == 0 {
			return unix.EINVAL
		}
		if *slot&amd64.EntryLarge == 0 {
			if err := as.collapseOne(v, slot, base); err != nil {
				return err
			}
		}
	}
	return nil
}

func roundUpLarge(addr uint64) uint64 { return (addr + LargeSize - 1) &^ (LargeSize - 1) }

// collapseOne makes slot, which points to the leaf table of base, a large entry. A page with another reference
// may be written to by who has it (pin), so it can't be copied.
func (as *AddressSpace) collapseOne(v *vma, slot *amd64.Entry, base uint64) error {
	for _, entry := range as.table.Leaf(slot, base) {
		if pa := entry.Frame(); entry != 0 && pa != zeroFrame && metal.Refs(pa) != 1 {
			return unix.EAGAIN
		}
	}
	to, ok := allocLarge()
	if !ok {
		return unix.ENOMEM
	}
	table := as.table.Unlink(slot)
	for i, entry := range as.table.Unlinked(table) {
		page := to + uint64(i)*PageSize
		if pa := entry.Frame(); entry == 0 || pa == zeroFrame {
			metal.Zero(page, PageSize)
		} else {
			copy(metal.View(page, PageSize), metal.View(pa, PageSize))
			as.uncount(entry)
			metal.Unref(pa)
		}
	}
	bits := entryBits(v.flags) | entryAnon
	if v.flags&vmWrite != 0 {
		bits |= writable
	}
	as.large.Store(true)
	v.written = true
	as.resident[residentAnon] += largePages
	as.table.Collapse(slot, table, amd64.Entry(to)|bits)
	return nil
}

// zapLarge empties slot, the large entry of base.
func (as *AddressSpace) zapLarge(slot *amd64.Entry, base uint64) {
	pa := slot.Frame()
	as.table.ClearLarge(slot, base)
	as.resident[residentAnon] -= largePages
	as.table.DropLarge(pa)
}

// reprotectLarge makes slot, the large entry of base, fit flags.
func (as *AddressSpace) reprotectLarge(slot *amd64.Entry, base uint64, flags vmFlags) {
	bits := entryBits(flags) | entryAnon
	if flags&vmWrite != 0 && (*slot&amd64.EntryWritable != 0 || metal.WholeRefs(slot.Frame()) == 1) {
		bits |= writable
	}
	as.table.ProtectLarge(slot, base, bits)
}

// copyLarge shares slot, the large entry of base, with child, read-only on both sides. ENOMEM.
func (as *AddressSpace) copyLarge(child *AddressSpace, slot *amd64.Entry, base uint64) error {
	twin := child.table.Slot(base)
	if twin == nil {
		return unix.ENOMEM
	}
	if *slot&amd64.EntryWritable != 0 {
		as.table.ProtectLarge(slot, base, *slot&^(writable|amd64.Entry(slot.Frame())))
	}
	if !child.table.SetLarge(twin, *slot) {
		return unix.ENOMEM
	}
	metal.RefHuge(slot.Frame())
	child.resident[residentAnon] += largePages
	return nil
}

// skipLarge returns the last page of the large page that addr, a page's, is in, and addr itself if it is in none.
func (as *AddressSpace) skipLarge(addr uint64) uint64 {
	as.lock()
	defer as.unlock()
	if as.table.Peek(addr)&amd64.EntryLarge != 0 {
		defer metal.CondResched()
		return addr | (LargeSize - PageSize)
	}
	return addr
}
