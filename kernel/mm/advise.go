package mm

import (
	"golang.org/x/sys/unix"

	"elver/runtime/metal"
)

// Advices of madvise(2) that unix doesn't name.
const (
	advisePopulateRead  = 22
	advisePopulateWrite = 23
	adviseCollapse      = 25
)

// Madvise is madvise(2): EINVAL, ENOMEM for a range with holes (what is mapped is done all the same),
// EACCES, EFAULT. Merging of equal pages and poisoning are unknown to it, as to a Linux built without them.
func (as *AddressSpace) Madvise(addr, length uint64, advice int) error {
	switch advice {
	case unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_WILLNEED, unix.MADV_DONTNEED,
		unix.MADV_FREE, unix.MADV_REMOVE, unix.MADV_DONTFORK, unix.MADV_DOFORK,
		unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_DONTDUMP, unix.MADV_DODUMP,
		unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK, unix.MADV_COLD, unix.MADV_PAGEOUT,
		advisePopulateRead, advisePopulateWrite, adviseCollapse, unix.MADV_DONTNEED_LOCKED:
	default:
		return unix.EINVAL
	}
	end := addr + roundUp(length)
	switch {
	case addr&pageMask != 0, length != 0 && roundUp(length) == 0, end < addr:
		return unix.EINVAL
	case end == addr:
		return nil
	}
	if advice == advisePopulateRead || advice == advisePopulateWrite {
		return as.advisePopulate(addr, end, advice == advisePopulateWrite)
	}
	holes := false
	for addr < end {
		next, hole, punch, err := as.adviseNext(addr, end, advice)
		if err == nil && punch.file != nil {
			err = punch.file.MapPunch(punch.off, punch.end)
			punch.back.release()
		}
		if err != nil {
			return err
		}
		holes = holes || hole
		addr = next
		metal.CondResched()
	}
	if holes {
		return unix.ENOMEM
	}
	return nil
}

// punch is what Madvise has to do without the lock.
type punch struct {
	file     Puncher
	back     *backing
	off, end uint64
}

// adviseNext advises the first VMA of [addr, end) and returns where to go on, and whether there was
// a hole.
func (as *AddressSpace) adviseNext(addr, end uint64, advice int) (next uint64, hole bool, do punch, err error) {
	as.lock()
	defer as.unlock()
	v := as.vmas.first(addr)
	if v == nil || v.start >= end {
		return end, true, do, nil
	}
	if v.start > addr {
		addr, hole = v.start, true
	}
	stop := min(end, v.end)
	do, err = as.advise(v, addr, stop, advice)
	return stop, hole, do, err
}

// advise does advice to [start, end), which lies in v.
func (as *AddressSpace) advise(v *vma, start, end uint64, advice int) (do punch, err error) {
	flags := v.flags
	switch advice {
	case unix.MADV_NORMAL:
		flags &^= vmRandRead | vmSeqRead
	case unix.MADV_SEQUENTIAL:
		flags = flags&^vmRandRead | vmSeqRead
	case unix.MADV_RANDOM:
		flags = flags&^vmSeqRead | vmRandRead
	case unix.MADV_DONTFORK:
		flags |= vmDontCopy
	case unix.MADV_DOFORK:
		flags &^= vmDontCopy
	case unix.MADV_WIPEONFORK:
		if v.back != nil {
			return do, unix.EINVAL
		}
		flags |= vmWipeOnFork
	case unix.MADV_KEEPONFORK:
		flags &^= vmWipeOnFork
	case unix.MADV_DONTDUMP:
		flags |= vmDontDump
	case unix.MADV_DODUMP:
		flags &^= vmDontDump
	case unix.MADV_HUGEPAGE:
		flags = flags&^vmNoHugePage | vmHugePage
		as.large.Store(true)
	case unix.MADV_NOHUGEPAGE:
		flags = flags&^vmHugePage | vmNoHugePage
	case unix.MADV_DONTNEED, unix.MADV_DONTNEED_LOCKED:
		if v.flags&vmLocked != 0 && advice == unix.MADV_DONTNEED {
			return do, unix.EINVAL
		}
		as.zap(start, end, false)
	case unix.MADV_FREE:
		// The kernel may free such pages at any time. It does so now: memory is small here.
		if v.back != nil {
			return do, unix.EINVAL
		}
		as.zap(start, end, false)
	case unix.MADV_REMOVE:
		file, ok := Puncher(nil), false
		if v.back != nil {
			file, ok = v.back.file.(Puncher)
		}
		switch {
		case v.flags&vmLocked != 0, v.back == nil:
			return do, unix.EINVAL
		case v.flags&(vmShared|vmMayWrite) != vmShared|vmMayWrite:
			return do, unix.EACCES
		case !ok:
			return do, unix.EOPNOTSUPP
		}
		v.back.refs.Add(1)
		return punch{file, v.back, v.fileOffset(start), v.fileOffset(end)}, nil
	case unix.MADV_COLD, unix.MADV_PAGEOUT:
		if v.flags&vmLocked != 0 {
			return do, unix.EINVAL
		}
	case adviseCollapse:
		return do, as.collapse(v, start, end)
	}
	_, err = as.modify(v, start, end, flags, v.name)
	return do, err
}

// advisePopulate is MADV_POPULATE_READ and MADV_POPULATE_WRITE: ENOMEM for a hole, EINVAL for a
// mapping that doesn't allow the access, EFAULT for SIGBUS.
func (as *AddressSpace) advisePopulate(start, end uint64, write bool) error {
	access := AccessRead
	if write {
		access = AccessWrite
	}
	err := as.touch(start, end, access)
	switch e := err.(type) {
	case *SegvError:
		if e.Code == AccErr {
			return unix.EINVAL
		}
		return unix.ENOMEM
	case *BusError:
		return unix.EFAULT
	}
	return err
}

// SetName names the anonymous memory of [addr, addr+length) for /proc/PID/maps, where it appears as
// [anon:name] (prctl(2), PR_SET_VMA_ANON_NAME); "" takes the name away. EINVAL, ENOMEM for holes, EBADF
// for a file mapping.
func (as *AddressSpace) SetName(addr, length uint64, name string) error {
	end := addr + roundUp(length)
	switch {
	case addr&pageMask != 0, end < addr, length != 0 && roundUp(length) == 0:
		return unix.EINVAL
	case end == addr:
		return nil
	}
	if name != "" {
		name = "[anon:" + name + "]"
	}
	as.lock()
	defer as.unlock()
	holes := false
	for addr < end {
		v := as.vmas.first(addr)
		if v == nil || v.start >= end {
			holes = true
			break
		}
		if v.start > addr {
			addr, holes = v.start, true
		}
		stop := min(end, v.end)
		if v.back != nil && v.back.shared == nil {
			return unix.EBADF
		}
		if _, err := as.modify(v, addr, stop, v.flags, name); err != nil {
			return err
		}
		addr = stop
	}
	if holes {
		return unix.ENOMEM
	}
	return nil
}

// Mincore is mincore(2): it writes a byte for each page of [addr, addr+length) to user memory at vec,
// 1 if the page is in memory. EINVAL, ENOMEM for an address that isn't mapped, EFAULT.
func (as *AddressSpace) Mincore(addr, length, vec uint64) error {
	if addr&pageMask != 0 {
		return unix.EINVAL
	}
	if !userRange(addr, length) {
		return unix.ENOMEM
	}
	pages := roundUp(length) / PageSize
	if !userRange(vec, pages) {
		return unix.EFAULT
	}
	var bytes [512]byte
	for pages > 0 {
		n := min(pages, uint64(len(bytes)))
		n, err := as.Residence(addr, bytes[:n])
		if err != nil {
			return err
		}
		if _, err := as.CopyOut(vec, bytes[:n]); err != nil {
			return err
		}
		addr += n * PageSize
		vec += n
		pages -= n
		metal.CondResched()
	}
	return nil
}

// Residence says which pages from addr on are in memory, 1 for each that is: as many as one VMA has, at most
// len(in). ENOMEM if addr isn't mapped.
func (as *AddressSpace) Residence(addr uint64, in []byte) (uint64, error) {
	as.lock()
	defer as.unlock()
	v := as.vmas.first(addr)
	if v == nil || v.start > addr {
		return 0, unix.ENOMEM
	}
	n := min(uint64(len(in)), (v.end-addr)/PageSize)
	for i := range n {
		at := addr + i*PageSize
		in[i] = 0
		if as.table.Peek(at) != 0 {
			in[i] = 1
		} else if v.back != nil {
			if r, ok := v.back.file.(Residence); ok && r.Resident(v.fileOffset(at)) {
				in[i] = 1
			}
		}
	}
	return n, nil
}

// Msync is msync(2): EINVAL, ENOMEM for a range with holes, EBUSY, and what the file says.
func (as *AddressSpace) Msync(addr, length uint64, flags int) error {
	if flags&^(unix.MS_ASYNC|unix.MS_INVALIDATE|unix.MS_SYNC) != 0 || addr&pageMask != 0 ||
		flags&unix.MS_ASYNC != 0 && flags&unix.MS_SYNC != 0 {
		return unix.EINVAL
	}
	end := addr + roundUp(length)
	if end < addr {
		return unix.ENOMEM
	}
	holes := false
	for addr < end {
		next, hole, back, off, err := as.syncNext(addr, end, flags)
		if err != nil {
			return err
		}
		if back != nil {
			err = back.file.(Syncer).MapSync(off, off+(next-addr))
			back.release()
			if err != nil {
				return err
			}
		}
		holes = holes || hole
		addr = next
	}
	if holes {
		return unix.ENOMEM
	}
	return nil
}

// syncNext looks at the first VMA of [addr, end). It returns where to go on, whether there was a
// hole, and, when a file has to be written back up to next, its backing, referenced, and the offset
// of addr.
func (as *AddressSpace) syncNext(addr, end uint64, flags int) (next uint64, hole bool, back *backing, off uint64, err error) {
	as.lock()
	defer as.unlock()
	v := as.vmas.first(addr)
	if v == nil || v.start >= end {
		return end, true, nil, 0, nil
	}
	if v.start > addr {
		return v.start, true, nil, 0, nil
	}
	if flags&unix.MS_INVALIDATE != 0 && v.flags&vmLocked != 0 {
		return 0, false, nil, 0, unix.EBUSY
	}
	next = min(end, v.end)
	if flags&unix.MS_SYNC != 0 && v.back != nil && v.flags&vmShared != 0 {
		if _, ok := v.back.file.(Syncer); ok {
			v.back.refs.Add(1)
			return next, false, v.back, v.fileOffset(addr), nil
		}
	}
	return next, false, nil, 0, nil
}

const (
	mlockOnFault = 1 // MLOCK_ONFAULT
	mclKnown     = unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT
)

// Mlock is mlock2(2): flags is 0 or MLOCK_ONFAULT; privileged: the caller has CAP_IPC_LOCK. EINVAL, EPERM,
// ENOMEM, EAGAIN.
func (as *AddressSpace) Mlock(addr, length uint64, flags int, privileged bool) error {
	if flags&^mlockOnFault != 0 {
		return unix.EINVAL
	}
	set := vmLocked
	if flags&mlockOnFault != 0 {
		set |= vmLockFault
	}
	length = roundUp(length + addr&pageMask)
	addr &^= pageMask
	err := func() error {
		as.lock()
		defer as.unlock()
		limit := as.limits.Soft(unix.RLIMIT_MEMLOCK)
		if !privileged && limit == 0 {
			return unix.EPERM
		}
		if !privileged && as.locked+length/PageSize > limit/PageSize &&
			as.locked+length/PageSize-as.lockedPages(addr, addr+length) > limit/PageSize {
			return unix.ENOMEM
		}
		return as.setLocked(addr, length, set)
	}()
	if err != nil || set&vmLockFault != 0 || length == 0 {
		return err
	}
	switch err := as.populate(addr, addr+length); err {
	case nil:
		return nil
	case unix.ENOMEM:
		return unix.EAGAIN
	}
	return unix.ENOMEM
}

// Munlock is munlock(2): EINVAL, ENOMEM.
func (as *AddressSpace) Munlock(addr, length uint64) error {
	length = roundUp(length + addr&pageMask)
	as.lock()
	defer as.unlock()
	return as.setLocked(addr&^pageMask, length, 0)
}

// lockedPages returns how many pages of [start, end) are locked.
func (as *AddressSpace) lockedPages(start, end uint64) uint64 {
	n := uint64(0)
	p := as.vmas.find(start)
	for v := as.vmas.at(p); v != nil && v.start < end; v = as.vmas.at(p) {
		if v.flags&vmLocked != 0 {
			n += min(end, v.end) - max(start, v.start)
		}
		p = as.vmas.next(p)
	}
	return n / PageSize
}

// setLocked gives the VMAs of a range the lock flags set. EINVAL, ENOMEM for a hole: what comes before it
// is done.
func (as *AddressSpace) setLocked(addr, length uint64, set vmFlags) error {
	end := addr + length
	if end < addr {
		return unix.EINVAL
	}
	for addr < end {
		v := as.vmas.first(addr)
		if v == nil || v.start > addr {
			return unix.ENOMEM
		}
		stop := min(end, v.end)
		if _, err := as.modify(v, addr, stop, v.flags&^(vmLocked|vmLockFault)|set, v.name); err != nil {
			return err
		}
		addr = stop
	}
	return nil
}

// Mlockall is mlockall(2): EINVAL, EPERM, ENOMEM.
func (as *AddressSpace) Mlockall(flags int, privileged bool) error {
	if flags == 0 || flags&^mclKnown != 0 || flags == unix.MCL_ONFAULT {
		return unix.EINVAL
	}
	set := vmLocked
	if flags&unix.MCL_ONFAULT != 0 {
		set |= vmLockFault
	}
	err := func() error {
		as.lock()
		defer as.unlock()
		limit := as.limits.Soft(unix.RLIMIT_MEMLOCK)
		if !privileged && limit == 0 {
			return unix.EPERM
		}
		if !privileged && flags&unix.MCL_CURRENT != 0 && as.total > limit/PageSize {
			return unix.ENOMEM
		}
		as.future = 0
		if flags&unix.MCL_FUTURE != 0 {
			as.future = set
		}
		if flags&unix.MCL_CURRENT != 0 {
			as.lockAll(set)
		}
		return nil
	}()
	if err == nil && flags&unix.MCL_CURRENT != 0 && set&vmLockFault == 0 {
		as.populate(0, UserEnd)
	}
	return err
}

// Munlockall is munlockall(2).
func (as *AddressSpace) Munlockall() error {
	as.lock()
	defer as.unlock()
	as.future = 0
	as.lockAll(0)
	return nil
}

// lockAll gives all VMAs the lock flags set.
func (as *AddressSpace) lockAll(set vmFlags) {
	for addr := uint64(0); ; {
		v := as.vmas.first(addr)
		if v == nil {
			return
		}
		addr = v.end
		as.modify(v, v.start, v.end, v.flags&^(vmLocked|vmLockFault)|set, v.name) // splits nothing: cannot fail
		metal.CondResched()
	}
}
