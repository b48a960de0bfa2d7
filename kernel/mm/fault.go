package mm

import (
	"sync"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// The software's bits of a leaf entry. An entry that isn't zero holds a reference of its frame, even
// when it isn't present (PROT_NONE); zeroFrame alone isn't counted.
const (
	entryAnon   = amd64.EntrySoft0 // a frame of this program's own: private memory, perhaps shared with forks
	entryShared = amd64.EntrySoft1 // a frame of shared memory; without both bits it is a file's

	entrySoftware = entryAnon | entryShared
)

// zeroFrame stands, read-only, for every page of private memory that was read but never written.
var zeroFrame = func() uint64 {
	pa, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		panic("mm: no frame for the zero page")
	}
	metal.Zero(pa, PageSize)
	return pa
}()

// noExecute is the bit that forbids execution, 0 on a CPU without. New finds out: when packages are
// initialised nobody knows the CPU yet.
var (
	noExecute     amd64.Entry
	noExecuteOnce sync.Once
)

func findNoExecute() {
	if amd64.HasNX() {
		noExecute = amd64.EntryNX
	}
}

// entryBits returns the bits of a read-only entry in a VMA with flags. x86 has no pages that can be
// written or executed but not read.
func entryBits(flags vmFlags) amd64.Entry {
	if flags&vmAccess == 0 {
		return amd64.EntryUser | amd64.EntryAccessed | noExecute
	}
	bits := amd64.EntryPresent | amd64.EntryUser | amd64.EntryAccessed
	if flags&vmExec == 0 {
		bits |= noExecute
	}
	return bits
}

const writable = amd64.EntryWritable | amd64.EntryDirty

// FaultAccess translates the error code of a page fault.
func FaultAccess(errorCode uint64) Access {
	switch {
	case errorCode&amd64.FaultWrite != 0:
		return AccessWrite
	case errorCode&amd64.FaultFetch != 0:
		return AccessExec
	}
	return AccessRead
}

// Fault makes the page of addr accessible, as far as the program may access it. It returns nil when
// the access can be tried again, *SegvError, *BusError, or ENOMEM when there is no frame and the
// program must die.
func (as *AddressSpace) Fault(addr uint64, access Access) error {
	err := as.fault(addr, access)
	for tries := 0; err == unix.ENOMEM && tries < 3 && Reclaim(reclaimBatch) > 0; tries++ {
		err = as.fault(addr, access)
	}
	return err
}

func (as *AddressSpace) fault(addr uint64, access Access) error {
	if addr >= UserEnd {
		return &SegvError{addr, MapErr}
	}
	page := addr &^ pageMask
	as.lock()
	as.faults++
	for {
		v := as.last
		if v == nil || page < v.start || page >= v.end {
			if v = as.reach(page); v == nil {
				as.unlock()
				return &SegvError{addr, MapErr}
			}
			as.last = v
		}
		if !allowed(v.flags, access) {
			as.unlock()
			return &SegvError{addr, AccErr}
		}
		err := as.resolve(v, page, access == AccessWrite)
		if err == errAskFile {
			if err = as.fetch(v, page, access == AccessWrite); err == nil {
				continue // the file was asked without the lock: look again
			}
		}
		as.unlock()
		switch err {
		case nil, unix.ENOMEM:
			return err
		}
		return &BusError{addr, err}
	}
}

// errAskFile is resolve's answer when the frame has to come from the file; no errno of a file's.
const errAskFile = unix.Errno(1 << 16)

// allowed reports whether flags allow access. What may be written or executed may be read.
func allowed(flags vmFlags, access Access) bool {
	switch access {
	case AccessWrite:
		return flags&vmWrite != 0
	case AccessExec:
		return flags&vmExec != 0
	}
	return flags&vmAccess != 0
}

// reach returns the VMA of addr, having grown a stack down to it if one is above. nil: there is none.
func (as *AddressSpace) reach(addr uint64) *vma {
	p := as.vmas.find(addr)
	v := as.vmas.at(p)
	if v == nil || v.start <= addr {
		return v
	}
	if v.flags&vmGrowsDown == 0 || !as.growStack(v, p, addr&^pageMask) {
		return nil
	}
	return v
}

// growStack extends v, at p, down to addr, if the gap to what is below and the limits allow it
// (expand_downwards and acct_stack_growth of Linux).
func (as *AddressSpace) growStack(v *vma, p position, addr uint64) bool {
	if addr < MinAddr {
		return false
	}
	if prev, _ := as.vmas.before(p); prev != nil && prev.flags&vmGrowsDown == 0 && prev.flags&vmAccess != 0 && addr-prev.end < StackGuardGap {
		return false
	}
	pages := (v.start - addr) / PageSize
	if !as.mayGrow(v.flags, pages) || v.end-addr > as.limits.Soft(unix.RLIMIT_STACK) || !enough(pages) ||
		v.flags&vmLocked != 0 && !as.mayLock(v.start-addr) {
		return false
	}
	if v.flags&vmAccount != 0 {
		committed.Add(int64(pages))
	}
	as.count(v.flags, pages, 1)
	v.start = addr
	as.vmas.moved(p)
	return true
}

// resolve makes the entry of page, which is in v, fit an access that v allows. It returns ENOMEM, or
// errAskFile if a frame has to be fetched from the file. This is the way of every page fault: it makes
// no garbage.
func (as *AddressSpace) resolve(v *vma, page uint64, write bool) error {
	entry := as.table.Known(page)
	if entry == nil {
		if as.mayBeLarge() && as.resolveLarge(v, page, write) {
			return nil
		}
		if entry = as.table.Entry(page); entry == nil {
			return unix.ENOMEM
		}
	}
	old := *entry
	if old == 0 {
		if v.back != nil {
			if v.back.shared != nil {
				return as.mapShared(v, entry, page)
			}
			return errAskFile
		}
		if !write {
			*entry = amd64.Entry(zeroFrame) | entryBits(v.flags) | entryAnon
			return nil
		}
		pa, ok := metal.AllocFrame(metal.OwnerProgram)
		if !ok {
			return unix.ENOMEM
		}
		metal.Zero(pa, PageSize)
		*entry = amd64.Entry(pa) | entryBits(v.flags) | entryAnon | writable
		as.resident[residentAnon]++
		v.written = true
		return nil
	}
	if !write || old&amd64.EntryWritable != 0 {
		// The TLB remembers less than the entry allows, or another thread was here first.
		as.table.Changed(page)
		return nil
	}
	if v.flags&vmMayShare != 0 {
		if v.back.shared == nil {
			return errAskFile
		}
		*entry = old | writable
		as.table.Changed(page)
		return nil
	}
	return as.ownCopy(v, entry, page, entryBits(v.flags)|writable)
}

// ownCopy makes the frame of entry, which is page's in v, the program's own, and gives it bits: the write
// to a page that is shared with a fork, a file or the zero page.
func (as *AddressSpace) ownCopy(v *vma, entry *amd64.Entry, page uint64, bits amd64.Entry) error {
	old := *entry
	from := old.Frame()
	as.table.Changed(page)
	if from != zeroFrame && old&entryAnon != 0 && metal.Refs(from) == 1 {
		*entry = amd64.Entry(from) | bits | entryAnon
		return nil
	}
	pa, ok := metal.AllocFrame(metal.OwnerProgram)
	if !ok {
		return unix.ENOMEM
	}
	if from == zeroFrame {
		metal.Zero(pa, PageSize)
	} else {
		copy(metal.View(pa, PageSize), metal.View(from, PageSize))
	}
	v.written = true
	as.uncount(old)
	as.resident[residentAnon]++
	*entry = amd64.Entry(pa) | bits | entryAnon
	if from != zeroFrame {
		as.table.Drop(from)
	}
	return nil
}

// mapShared maps a page of shared memory, whose frames can be had under the lock.
func (as *AddressSpace) mapShared(v *vma, entry *amd64.Entry, page uint64) error {
	pa, err := v.back.shared.MapFrame(v.fileOffset(page), false)
	if err != nil {
		return err
	}
	bits := entryBits(v.flags) | entryShared
	if v.flags&vmShared != 0 && v.flags&vmWrite != 0 {
		bits |= writable
	}
	*entry = amd64.Entry(pa) | bits
	as.resident[residentShared]++
	return nil
}

// fetch asks the file of v for the frame of page and maps it. It gives up the lock meanwhile, so that
// v may be gone afterwards; it returns nil when the fault has to be looked at again, whether or not
// it mapped the frame.
func (as *AddressSpace) fetch(v *vma, page uint64, write bool) error {
	back, offset := v.back, v.fileOffset(page)
	shared := v.flags&vmMayShare != 0
	var round uint64
	if back.mappings != nil {
		round = back.mappings.round.Load()
	}
	// A read is likely not to be the last one nearby: what is at hand of the pages around is mapped, too.
	var around [AroundPages]uint64
	start, pages := page, 0
	if !write && back.around != nil {
		start = max(page&^(AroundPages*PageSize-1), v.start)
		pages = int((min(page&^(AroundPages*PageSize-1)+AroundPages*PageSize, v.end) - start) / PageSize)
	}
	back.refs.Add(1)
	as.mu.Unlock()
	pa, err := back.file.MapFrame(offset, shared && write)
	if pages > 1 && err == nil {
		around = back.around.MapAround(offset-(page-start), pages)
	}
	as.mu.Lock()
	if as.unref(back); len(as.closing) > 0 {
		as.relock()
	}
	if err != nil {
		return err
	}
	defer func() {
		for _, frame := range around[:pages] {
			if frame != 0 {
				metal.Unref(frame)
			}
		}
	}()

	v = as.vmas.first(page)
	if v == nil || v.start > page || v.back != back || v.fileOffset(page) != offset || (v.flags&vmMayShare != 0) != shared ||
		write && v.flags&vmWrite == 0 || back.mappings != nil && back.mappings.round.Load() != round {
		metal.Unref(pa)
		return nil
	}
	entry := as.table.Entry(page)
	if entry == nil {
		metal.Unref(pa)
		return unix.ENOMEM
	}
	bits := entryBits(v.flags)
	if shared && write {
		bits |= writable
	}
	switch old := *entry; {
	case old == 0:
		*entry = amd64.Entry(pa) | bits
		as.resident[residentFile]++
		if write && !shared {
			return as.ownCopy(v, entry, page, bits|writable)
		}
		as.mapAround(v, start, around[:pages], bits)
	case old&entryAnon != 0 || !shared:
		metal.Unref(pa) // another thread was here first
	default: // the first write to a page that was read
		*entry = amd64.Entry(pa) | bits
		as.table.Changed(page)
		as.table.Drop(old.Frame())
	}
	return nil
}

// mapAround maps frames, as far as there are any, from start on where nothing is mapped, and takes those over. A
// leaf of the page table has room for all.
func (as *AddressSpace) mapAround(v *vma, start uint64, frames []uint64, bits amd64.Entry) {
	bits &^= amd64.EntryAccessed
	for k, frame := range frames {
		va := start + uint64(k)*PageSize
		if frame == 0 || va < v.start || va >= v.end {
			continue
		}
		if entry := as.table.Known(va); entry != nil && *entry == 0 {
			*entry = amd64.Entry(frame) | bits
			as.resident[residentFile]++
			frames[k] = 0
		}
	}
}

// relock gives up the lock to close what closing holds, and takes it again.
func (as *AddressSpace) relock() {
	as.unlock()
	as.mu.Lock()
}

// uncount takes the frame of entry off the resident counts.
func (as *AddressSpace) uncount(entry amd64.Entry) {
	switch {
	case entry.Frame() == zeroFrame:
	case entry&entryAnon != 0:
		as.resident[residentAnon]--
	case entry&entryShared != 0:
		as.resident[residentShared]--
	default:
		as.resident[residentFile]--
	}
}

func (as *AddressSpace) notePeak() {
	as.peakResident = max(as.peakResident, as.resident[residentAnon]+as.resident[residentFile]+as.resident[residentShared])
}

// zap empties the entries of [start, end); with keepAnon all but those of the program's own frames.
func (as *AddressSpace) zap(start, end uint64, keepAnon bool) {
	as.notePeak()
	for va := start; va < end; {
		slot, base := as.table.Walk(va, end)
		if slot == nil {
			return
		}
		va = max(va, base)
		stop := min(end, base+amd64.LeafSpan)
		if *slot&amd64.EntryLarge != 0 && (keepAnon || stop-va == LargeSize) {
			if !keepAnon {
				as.zapLarge(slot, base)
			}
			va = stop
			metal.CondResched()
			continue
		}
		entries := as.table.Leaf(slot, base)[amd64.Index(va):]
		for i := range entries[:(stop-va)/PageSize] {
			old := entries[i]
			if old == 0 || keepAnon && old&entryAnon != 0 {
				continue
			}
			va := va + uint64(i)*PageSize
			entries[i] = 0
			as.table.Changed(va)
			as.uncount(old)
			if pa := old.Frame(); pa != zeroFrame {
				as.table.Drop(pa)
			}
		}
		if va = stop; va < end {
			metal.CondResched()
		}
	}
}

// reprotect makes the entries of [start, end), which lies in v, fit v's flags. Writes to pages that
// may be shared fault again and are sorted out then.
func (as *AddressSpace) reprotect(v *vma, start, end uint64) {
	bits := entryBits(v.flags)
	for va := start; va < end; {
		slot, base := as.table.Walk(va, end)
		if slot == nil {
			return
		}
		va = max(va, base)
		stop := min(end, base+amd64.LeafSpan)
		if *slot&amd64.EntryLarge != 0 && stop-va == LargeSize {
			as.reprotectLarge(slot, base, v.flags)
			va = stop
			metal.CondResched()
			continue
		}
		table := as.table.Leaf(slot, base)
		for ; va < stop; va += PageSize {
			entry := &table[amd64.Index(va)]
			old := *entry
			if old == 0 {
				continue
			}
			pa := old.Frame()
			fresh := amd64.Entry(pa) | old&entrySoftware | bits
			if v.flags&vmWrite != 0 && (old&amd64.EntryWritable != 0 ||
				v.flags&vmMayShare == 0 && old&entryAnon != 0 && pa != zeroFrame && metal.Refs(pa) == 1) {
				fresh |= writable
			}
			if fresh != old {
				*entry = fresh
				as.table.Changed(va)
			}
		}
		metal.CondResched()
	}
}

// unmap removes what is mapped in [start, end). ENOMEM if a VMA would have to be split in two above
// vm.max_map_count; nothing is changed then.
func (as *AddressSpace) unmap(start, end uint64) error {
	p := as.vmas.find(start)
	v := as.vmas.at(p)
	if v == nil || v.start >= end {
		return nil
	}
	floor := uint64(0) // where what is left below ends
	if v.start < start && v.end > end {
		if as.vmas.count >= MaxMapCount() {
			return unix.ENOMEM
		}
		as.split(v, end)
		p = as.vmas.find(start)
	}
	if prev, _ := as.vmas.before(p); prev != nil {
		floor = prev.end
	}
	for n := 1; ; n++ {
		v := as.vmas.at(p)
		if v == nil || v.start >= end {
			break
		}
		from, to := max(v.start, start), min(v.end, end)
		pages := (to - from) / PageSize
		as.count(v.flags, pages, -1)
		if v.flags&vmAccount != 0 {
			committed.Add(-int64(pages))
		}
		switch {
		case from > v.start:
			v.end, floor = from, from
			as.vmas.moved(p)
			p = as.vmas.next(p)
		case to < v.end:
			v.start, v.offset = to, v.fileOffset(to)
			as.vmas.moved(p)
		default:
			as.drop(p)
			if p.chunk < len(as.vmas.chunks) && p.index >= as.vmas.chunks[p.chunk].n {
				p = position{p.chunk + 1, 0}
			}
		}
		as.zap(from, to, false)
		// What is left below and what follows may need the same tables. Those between this one and
		// the next, if that goes too, go with it.
		ceiling := uint64(1) << 47
		if next := as.vmas.at(p); next != nil {
			ceiling = next.start
		}
		as.table.FreeTables(from, to, floor, ceiling)
		if n%64 == 0 {
			metal.CondResched()
		}
	}
	return nil
}
