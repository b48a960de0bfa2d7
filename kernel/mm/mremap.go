package mm

import (
	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// Mremap is mremap(2), with the checks in Linux's order: EINVAL, EFAULT, ENOMEM, EAGAIN.
func (as *AddressSpace) Mremap(old, oldLen, newLen uint64, flags int, newAddr uint64) (uint64, error) {
	const known = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED | unix.MREMAP_DONTUNMAP
	switch {
	case flags&^known != 0,
		flags&unix.MREMAP_FIXED != 0 && flags&unix.MREMAP_MAYMOVE == 0,
		flags&unix.MREMAP_DONTUNMAP != 0 && (flags&unix.MREMAP_MAYMOVE == 0 || oldLen != newLen),
		old&pageMask != 0:
		return 0, unix.EINVAL
	}
	oldLen, newLen = roundUp(oldLen), roundUp(newLen)
	if newLen == 0 || newLen > UserEnd {
		return 0, unix.EINVAL
	}
	if flags&(unix.MREMAP_FIXED|unix.MREMAP_DONTUNMAP) != 0 &&
		(newAddr&pageMask != 0 || newAddr > UserEnd-newLen || old+oldLen > newAddr && newAddr+newLen > old) {
		return 0, unix.EINVAL
	}
	addr, from, to, err := as.remap(old, oldLen, newLen, flags, newAddr)
	if err == nil && from < to {
		as.populate(from, to)
	}
	return addr, err
}

// remap is Mremap beneath the lock. [from, to) is locked memory that has to be populated.
func (as *AddressSpace) remap(old, oldLen, newLen uint64, flags int, newAddr uint64) (addr, from, to uint64, err error) {
	as.lock()
	defer as.unlock()
	v := as.vmas.first(old)
	if v == nil || v.start > old {
		return 0, 0, 0, unix.EFAULT
	}
	fixed, keep := flags&unix.MREMAP_FIXED != 0, flags&unix.MREMAP_DONTUNMAP != 0
	if oldLen == newLen && !fixed && !keep {
		return old, 0, 0, nil
	}
	if oldLen <= newLen || fixed {
		if err := as.mayResize(v, old, min(oldLen, newLen), newLen); err != nil {
			return 0, 0, 0, err
		}
	}
	if fixed || keep {
		if as.vmas.count+2 >= MaxMapCount()-3 {
			return 0, 0, 0, unix.ENOMEM
		}
	}
	if fixed {
		if newAddr < MinAddr {
			return 0, 0, 0, unix.EPERM
		}
		if err := as.unmap(newAddr, newAddr+newLen); err != nil {
			return 0, 0, 0, err
		}
	}
	if oldLen > newLen {
		if oldLen > UserEnd-old {
			return 0, 0, 0, unix.EINVAL
		}
		if err := as.unmap(old+newLen, old+oldLen); err != nil {
			return 0, 0, 0, err
		}
		if !fixed {
			return old, 0, 0, nil
		}
		oldLen = newLen
	}
	v = as.vmas.first(old) // unmapping may have cut it
	grown := newLen - oldLen
	if fixed || keep {
		if keep && !as.mayGrow(v.flags, oldLen/PageSize) {
			return 0, 0, 0, unix.ENOMEM
		}
	} else {
		if oldLen == v.end-old && as.extend(v, grown) {
			if v.flags&vmAccount != 0 && !enough(grown/PageSize) {
				return 0, 0, 0, unix.ENOMEM
			}
			as.growUp(v, grown)
			if v.flags&(vmLocked|vmLockFault) == vmLocked {
				return old, old + oldLen, old + newLen, nil
			}
			return old, 0, 0, nil
		}
		if flags&unix.MREMAP_MAYMOVE == 0 {
			return 0, 0, 0, unix.ENOMEM
		}
	}
	if !fixed {
		hint := uint64(0)
		if keep {
			hint = newAddr
		}
		if newAddr, err = as.choose(hint, newLen, 0); err != nil {
			return 0, 0, 0, err
		}
	}
	v, err = as.move(v, old, oldLen, newAddr, newLen, keep)
	if err != nil {
		return 0, 0, 0, err
	}
	if v.flags&(vmLocked|vmLockFault) == vmLocked {
		return newAddr, newAddr + oldLen, newAddr + newLen, nil
	}
	return newAddr, 0, 0, nil
}

// mayResize makes the checks of Linux's vma_to_resize.
func (as *AddressSpace) mayResize(v *vma, old, oldLen, newLen uint64) error {
	switch {
	case oldLen == 0 && v.flags&vmMayShare == 0:
		return unix.EINVAL
	case oldLen > v.end-old:
		return unix.EFAULT
	case newLen == oldLen:
		return nil
	}
	if v.back != nil {
		if _, wraps := add64(v.fileOffset(old), newLen); wraps {
			return unix.EINVAL
		}
	}
	if v.flags&vmLocked != 0 && !as.mayLock(newLen-oldLen) {
		return unix.EAGAIN
	}
	if !as.mayGrow(v.flags, (newLen-oldLen)/PageSize) {
		return unix.ENOMEM
	}
	return nil
}

// extend reports whether v can be longer by grown bytes where it is. Another mapping's guard gap
// doesn't hinder it.
func (as *AddressSpace) extend(v *vma, grown uint64) bool {
	end := v.end + grown
	if end < v.end || end > UserEnd {
		return false
	}
	next := as.vmas.first(v.end)
	return next == nil || next.start >= end
}

// growUp makes v longer by grown bytes, which are free, and merges it with what it then touches.
func (as *AddressSpace) growUp(v *vma, grown uint64) {
	if v.flags&vmAccount != 0 {
		committed.Add(int64(grown / PageSize))
	}
	as.count(v.flags, grown/PageSize, 1)
	p := as.vmas.find(v.start)
	v.end += grown
	as.vmas.moved(p)
	n := as.vmas.next(p)
	if next := as.vmas.at(n); next != nil && next.start == v.end && v.joins(next.flags, next.back, next.offset, next.name) {
		v.end = next.end
		as.drop(n)
		as.vmas.moved(p)
	}
}

// move maps what v has at [old, old+oldLen) at [to, to+newLen), which is free, with its pages. The old
// place is unmapped, or left empty with keep. With oldLen 0 it makes a second mapping of the same
// shared memory. It returns the VMA of the new place.
func (as *AddressSpace) move(v *vma, old, oldLen, to, newLen uint64, keep bool) (*vma, error) {
	if as.vmas.count >= MaxMapCount()-3 || !roomForObjects(as.vmas.count) {
		return nil, unix.ENOMEM
	}
	if v.flags&vmAccount != 0 {
		more := newLen - oldLen
		if keep {
			more = newLen
		}
		if !enough(more / PageSize) {
			return nil, unix.ENOMEM
		}
		committed.Add(int64(newLen / PageSize))
	}
	if v.back != nil {
		v.back.refs.Add(1)
	}
	flags, written := v.flags, v.written
	as.place(to, to+newLen, flags, v.back, v.fileOffset(old), v.name)
	if written {
		as.vmas.first(to).written = true
	}
	err := as.movePages(old, to, oldLen)
	if err == nil && keep {
		// What stays behind is a fresh mapping, not locked.
		if flags&(vmLocked|vmLockFault) != 0 {
			v := as.vmas.first(old)
			_, err = as.modify(v, old, old+oldLen, flags&^(vmLocked|vmLockFault), v.name)
		}
	} else if err == nil && oldLen > 0 {
		err = as.unmap(old, old+oldLen)
	}
	if err != nil {
		// A page table is missing: everything goes back to where it was, where it had tables.
		as.movePages(to, old, oldLen)
		as.unmap(to, to+newLen)
		return nil, err
	}
	return as.vmas.first(to), nil
}

// movePages moves the entries of length bytes from one place to another that has none. ENOMEM leaves
// some moved.
func (as *AddressSpace) movePages(from, to, length uint64) error {
	for va, end := from, from+length; va < end; {
		slot, base := as.table.Walk(va, end)
		if slot == nil {
			break
		}
		va = max(va, base)
		if target := to + (va - from); *slot&amd64.EntryLarge != 0 && (va|target)&(LargeSize-1) == 0 && end-va >= LargeSize {
			free := as.table.Slot(target)
			if free == nil {
				return unix.ENOMEM
			}
			if *free == 0 {
				as.table.MoveLarge(free, slot, base)
				va += LargeSize
				metal.CondResched()
				continue
			}
		}
		table := as.table.Leaf(slot, base)
		for stop := min(end, base+amd64.LeafSpan); va < stop; va += PageSize {
			entry := &table[amd64.Index(va)]
			if *entry == 0 {
				continue
			}
			target := as.table.Entry(to + (va - from))
			if target == nil {
				return unix.ENOMEM
			}
			*target, *entry = *entry, 0
			as.table.Changed(va)
		}
		metal.CondResched()
	}
	return nil
}
