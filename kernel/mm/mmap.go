package mm

import (
	"golang.org/x/sys/unix"

	"elver/runtime/metal"
)

// Flags of mmap(2) that unix doesn't name, or that several checks share.
const (
	mapType     = 0xf
	mapAbove4G  = 0x80
	mapUninit   = 0x4000000
	mapHugeBits = (21 | 30) << unix.MAP_HUGE_SHIFT // MAP_HUGE_2MB, MAP_HUGE_1GB

	// legacyFlags are what MAP_SHARED_VALIDATE accepts for any file (LEGACY_MAP_MASK).
	legacyFlags = unix.MAP_SHARED | unix.MAP_PRIVATE | unix.MAP_FIXED | unix.MAP_ANONYMOUS | unix.MAP_DENYWRITE |
		unix.MAP_EXECUTABLE | mapUninit | unix.MAP_GROWSDOWN | unix.MAP_LOCKED | unix.MAP_NORESERVE |
		unix.MAP_POPULATE | unix.MAP_NONBLOCK | unix.MAP_STACK | unix.MAP_HUGETLB | unix.MAP_32BIT |
		mapAbove4G | mapHugeBits
)

// MmapArgs are the arguments of mmap(2).
type MmapArgs struct {
	Addr, Length uint64
	Prot, Flags  int
	File         Mappable // nil: anonymous memory
	Offset       uint64   // in File
	FileProt     int      // what the open file allows: PROT_READ, PROT_WRITE, and PROT_EXEC unless it is mounted noexec; 0: everything
	Name         string   // shown in /proc/PID/maps for memory without a file, as "[vdso]"
	Privileged   bool     // CAP_IPC_LOCK: RLIMIT_MEMLOCK doesn't bind
}

// Mmap is mmap(2): EINVAL, ENOMEM, EEXIST, EPERM, EACCES, EAGAIN, EOVERFLOW, EOPNOTSUPP.
func (as *AddressSpace) Mmap(a MmapArgs) (uint64, error) {
	if a.Offset&pageMask != 0 {
		return 0, unix.EINVAL
	}
	if a.Flags&unix.MAP_HUGETLB != 0 {
		if a.File != nil {
			return 0, unix.EINVAL
		}
		return 0, unix.ENOMEM // no huge pages are set aside
	}
	if a.Length == 0 {
		return 0, unix.EINVAL
	}
	if a.Flags&unix.MAP_FIXED_NOREPLACE != 0 {
		a.Flags |= unix.MAP_FIXED
	}
	if a.Flags&unix.MAP_FIXED == 0 {
		a.Addr &^= pageMask
		if a.Addr != 0 {
			a.Addr = max(a.Addr, MinAddr)
		}
	}
	if a.Length = roundUp(a.Length); a.Length == 0 {
		return 0, unix.ENOMEM
	}
	if _, wraps := add64(a.Offset/PageSize, a.Length/PageSize); wraps {
		return 0, unix.EOVERFLOW
	}

	// The file hears of the mapping, and shared memory is made, before the lock.
	var back *backing
	var object *SharedMemory
	var objectErr error
	switch {
	case a.File != nil:
		if err := a.unseal(); err != nil {
			return 0, err
		}
		back = newBacking(a.File)
	case a.Flags&mapType == unix.MAP_SHARED:
		a.Offset = 0
		if object, objectErr = NewSharedMemory(a.Length, a.Flags&unix.MAP_NORESERVE != 0); objectErr == nil {
			back = newBacking(object)
			object.MapClose() // the mapping keeps it
		}
	}
	addr, populate, err := as.mmap(&a, back, objectErr)
	if err != nil {
		if back != nil {
			back.release()
		}
		return 0, err
	}
	if populate {
		as.populate(addr, addr+a.Length)
	}
	return addr, nil
}

// RemapFilePages is remap_file_pages(2), which has become a mapping of its own in place of a part of a shared one: EINVAL if
// there is none such at start. index is of the file's pages.
func (as *AddressSpace) RemapFilePages(start, size uint64, prot int, index uint64, flags int) error {
	start, size = start&^pageMask, size&^pageMask
	end, wraps := add64(start, size)
	if _, far := add64(index, size/PageSize); prot != 0 || wraps || end <= start || far || index > ^uint64(0)/PageSize {
		return unix.EINVAL
	}
	as.lock()
	p := as.vmas.find(start)
	v := as.vmas.at(p)
	if v == nil || v.start > start || v.flags&vmShared == 0 {
		as.unlock()
		return unix.EINVAL
	}
	for last := v; last.end < end; {
		p = as.vmas.next(p)
		next := as.vmas.at(p)
		if next == nil || next.start != last.end || next.flags != v.flags || next.back.file != v.back.file {
			as.unlock()
			return unix.EINVAL
		}
		last = next
	}
	a := MmapArgs{
		Addr: start, Length: size, Prot: int(v.flags & vmAccess), Flags: flags&unix.MAP_NONBLOCK | unix.MAP_SHARED | unix.MAP_FIXED | unix.MAP_POPULATE,
		File: v.back.file, FileProt: int(v.flags >> 4 & vmAccess), Offset: index * PageSize,
	}
	if v.flags&vmLocked != 0 {
		a.Flags |= unix.MAP_LOCKED
	}
	back := v.back
	back.refs.Add(1) // the file stays open until it is mapped again
	as.unlock()
	defer back.release()
	_, err := as.Mmap(a)
	return err
}

// unseal asks the file of a shared mapping whether it may be written. One that may not can be mapped to
// read, and never made writable.
func (a *MmapArgs) unseal() error {
	f, ok := a.File.(Sealed)
	if kind := a.Flags & mapType; !ok || kind != unix.MAP_SHARED && kind != unix.MAP_SHARED_VALIDATE {
		return nil
	}
	if a.FileProt == 0 {
		a.FileProt = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	}
	if a.FileProt&unix.PROT_WRITE == 0 {
		return nil
	}
	if err := f.MapWritable(); err != nil {
		if a.Prot&unix.PROT_WRITE != 0 {
			return err
		}
		a.FileProt &^= unix.PROT_WRITE
	}
	return nil
}

// mmap is the part of Mmap beneath the lock. It takes over the reference of back unless it fails.
// objectErr is why back could not be made.
func (as *AddressSpace) mmap(a *MmapArgs, back *backing, objectErr error) (addr uint64, populate bool, err error) {
	as.lock()
	defer as.unlock()
	if as.vmas.count > MaxMapCount() || !roomForObjects(as.vmas.count) {
		return 0, false, unix.ENOMEM
	}
	addr, err = as.choose(a.Addr, a.Length, a.Flags)
	if err != nil {
		return 0, false, err
	}
	end := addr + a.Length
	if a.Flags&unix.MAP_FIXED_NOREPLACE != 0 {
		if v := as.vmas.first(addr); v != nil && v.start < end {
			return 0, false, unix.EEXIST
		}
	}
	flags, err := as.mapFlags(a)
	if err != nil {
		return 0, false, err
	}
	if objectErr != nil {
		return 0, false, objectErr
	}

	pages := a.Length / PageSize
	if !as.mayGrow(flags, pages) && !as.mayGrow(flags, pages-as.mappedPages(addr, end)) { // what MAP_FIXED replaces doesn't count
		return 0, false, unix.ENOMEM
	}
	if flags&(vmNoReserve|vmShared|vmWrite) == vmWrite {
		if !enough(pages) {
			return 0, false, unix.ENOMEM
		}
		flags |= vmAccount
	}
	if a.Flags&unix.MAP_FIXED != 0 { // all others were given a free range
		if err := as.unmap(addr, end); err != nil {
			return 0, false, err
		}
	}
	if flags&vmAccount != 0 {
		committed.Add(int64(pages))
	}
	as.place(addr, end, flags, back, a.Offset, a.Name)
	populate = a.Flags&(unix.MAP_POPULATE|unix.MAP_NONBLOCK) == unix.MAP_POPULATE || flags&(vmLocked|vmLockFault) == vmLocked
	return addr, populate, nil
}

// mapFlags checks the flags of mmap(2) in Linux's order and returns the VMA's.
func (as *AddressSpace) mapFlags(a *MmapArgs) (vmFlags, error) {
	flags := protFlags(a.Prot) | vmMayRead | vmMayWrite | vmMayExec | as.future
	if a.Flags&unix.MAP_GROWSDOWN != 0 {
		flags |= vmGrowsDown
	}
	if a.Flags&unix.MAP_LOCKED != 0 {
		flags |= vmLocked
		if !a.Privileged && as.limits.Soft(unix.RLIMIT_MEMLOCK) == 0 {
			return 0, unix.EPERM
		}
	}
	if flags&vmLocked != 0 && !a.Privileged && !as.mayLock(a.Length) {
		return 0, unix.EAGAIN
	}
	kind := a.Flags & mapType
	allowed := a.FileProt
	if allowed == 0 {
		allowed = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	}
	switch {
	case a.File == nil && kind == unix.MAP_SHARED:
		if flags&vmGrowsDown != 0 {
			return 0, unix.EINVAL
		}
		flags |= vmShared | vmMayShare
		if allowed&unix.PROT_WRITE == 0 { // of /dev/zero, opened to be read
			flags &^= vmMayWrite
		}
	case a.File == nil && kind == unix.MAP_PRIVATE:
	case a.File == nil:
		return 0, unix.EINVAL
	case kind == unix.MAP_SHARED, kind == unix.MAP_SHARED_VALIDATE:
		if kind == unix.MAP_SHARED_VALIDATE && a.Flags&^(legacyFlags|mapType) != 0 {
			return 0, unix.EOPNOTSUPP
		}
		if flags&vmWrite != 0 && allowed&unix.PROT_WRITE == 0 {
			return 0, unix.EACCES
		}
		flags |= vmShared | vmMayShare
		if allowed&unix.PROT_WRITE == 0 {
			flags &^= vmMayWrite | vmShared
		}
		fallthrough
	case kind == unix.MAP_PRIVATE:
		if allowed&unix.PROT_READ == 0 {
			return 0, unix.EACCES
		}
		if allowed&unix.PROT_EXEC == 0 {
			if flags&vmExec != 0 {
				return 0, unix.EPERM
			}
			flags &^= vmMayExec
		}
		if flags&vmGrowsDown != 0 {
			return 0, unix.EINVAL
		}
	default:
		return 0, unix.EINVAL
	}
	if a.Flags&unix.MAP_NORESERVE != 0 {
		flags |= vmNoReserve
	}
	return flags, nil
}

// mayLock reports whether RLIMIT_MEMLOCK allows length bytes more.
func (as *AddressSpace) mayLock(length uint64) bool {
	return as.locked+length/PageSize <= as.limits.Soft(unix.RLIMIT_MEMLOCK)/PageSize
}

// mappedPages returns how many pages of [start, end) are mapped.
func (as *AddressSpace) mappedPages(start, end uint64) uint64 {
	n := uint64(0)
	p := as.vmas.find(start)
	for v := as.vmas.at(p); v != nil && v.start < end; v = as.vmas.at(p) {
		n += min(end, v.end) - max(start, v.start)
		p = as.vmas.next(p)
	}
	return n / PageSize
}

// The window of MAP_32BIT (arch/x86/kernel/sys_x86_64.c).
const (
	low32Start = 0x40000000
	low32End   = 0x80000000
)

// choose finds the address of a new mapping as Linux's arch_get_unmapped_area_topdown does.
func (as *AddressSpace) choose(addr, length uint64, flags int) (uint64, error) {
	if length > UserEnd {
		return 0, unix.ENOMEM
	}
	if flags&unix.MAP_FIXED != 0 {
		switch {
		case addr > UserEnd-length:
			return 0, unix.ENOMEM
		case addr&pageMask != 0:
			return 0, unix.EINVAL
		case addr < MinAddr:
			return 0, unix.EPERM
		}
		return addr, nil
	}
	low, high := uint64(UserEnd/3)&^pageMask, uint64(UserEnd)
	if flags&unix.MAP_32BIT != 0 {
		low, high = low32Start, low32End
	}
	if addr != 0 && length <= high && addr <= high-length {
		if v := as.vmas.first(addr); v == nil || addr+length <= v.lowest() {
			return addr, nil
		}
	}
	if flags&unix.MAP_32BIT == 0 {
		bottom := uint64(MinAddr)
		if flags&mapAbove4G != 0 {
			bottom = 1 << 32
		}
		if as.mmapBase > bottom {
			if at, ok := as.vmas.roomBelow(bottom, as.mmapBase, length); ok {
				return at, nil
			}
		}
	}
	if at, ok := as.vmas.roomAbove(low, high, length); ok {
		return at, nil
	}
	return 0, unix.ENOMEM
}

// Munmap is munmap(2): EINVAL, ENOMEM.
func (as *AddressSpace) Munmap(addr, length uint64) error {
	if addr&pageMask != 0 || addr > UserEnd || length > UserEnd-addr {
		return unix.EINVAL
	}
	end := addr + roundUp(length)
	if end == addr {
		return unix.EINVAL
	}
	as.lock()
	defer as.unlock()
	return as.unmap(addr, end)
}

// Mprotect is mprotect(2): EINVAL, ENOMEM, EACCES. What comes before the page that it stops at is
// changed.
func (as *AddressSpace) Mprotect(addr, length uint64, prot int) error {
	grows := prot & (unix.PROT_GROWSDOWN | unix.PROT_GROWSUP)
	prot &^= unix.PROT_GROWSDOWN | unix.PROT_GROWSUP
	if grows == unix.PROT_GROWSDOWN|unix.PROT_GROWSUP || addr&pageMask != 0 {
		return unix.EINVAL
	}
	if length == 0 {
		return nil
	}
	end := addr + roundUp(length)
	if end <= addr {
		return unix.ENOMEM
	}
	if prot&^(unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC|protSem) != 0 {
		return unix.EINVAL
	}
	as.lock()
	defer as.unlock()
	v := as.vmas.first(addr)
	if v == nil {
		return unix.ENOMEM
	}
	switch {
	case grows == unix.PROT_GROWSDOWN:
		if v.start >= end {
			return unix.ENOMEM
		}
		addr = v.start
		if v.flags&vmGrowsDown == 0 {
			return unix.EINVAL
		}
	case v.start > addr:
		return unix.ENOMEM
	case grows == unix.PROT_GROWSUP:
		return unix.EINVAL
	}
	for addr < end {
		v := as.vmas.first(addr)
		if v == nil || v.start > addr {
			return unix.ENOMEM
		}
		stop := min(end, v.end)
		if err := as.protect(v, addr, stop, prot); err != nil {
			return err
		}
		addr = stop
	}
	return nil
}

const protSem = 8 // PROT_SEM

// protect changes the protection of [start, end), which lies in v.
func (as *AddressSpace) protect(v *vma, start, end uint64, prot int) error {
	flags := v.flags&^vmAccess | protFlags(prot)
	if flags&^(flags>>4)&vmAccess != 0 {
		return unix.EACCES
	}
	if flags == v.flags {
		return nil
	}
	pages := (end - start) / PageSize
	if flags&vmWrite != 0 {
		if !as.mayGrow(flags, pages) && as.mayGrow(v.flags, pages) {
			return unix.ENOMEM
		}
		if v.flags&(vmAccount|vmWrite|vmShared|vmNoReserve) == 0 {
			if !enough(pages) {
				return unix.ENOMEM
			}
			flags |= vmAccount
		}
	} else if v.back == nil && !v.written {
		flags &^= vmAccount
	}
	charge := int64(0)
	switch {
	case flags&^v.flags&vmAccount != 0:
		charge = int64(pages)
	case v.flags&^flags&vmAccount != 0:
		charge = -int64(pages)
	}
	v, err := as.modify(v, start, end, flags, v.name)
	if err != nil {
		return err
	}
	committed.Add(charge)
	as.reprotect(v, start, end)
	return nil
}

// SetBrk sets where the heap starts.
func (as *AddressSpace) SetBrk(start uint64) {
	as.lock()
	defer as.unlock()
	as.brkStart, as.brk = start, start
}

// Heap returns where the heap starts and ends.
func (as *AddressSpace) Heap() (start, end uint64) {
	as.lock()
	defer as.unlock()
	return as.brkStart, as.brk
}

// SetHeap says where the heap starts and ends, whatever is there (PR_SET_MM of prctl(2)).
func (as *AddressSpace) SetHeap(start, end uint64) {
	as.lock()
	defer as.unlock()
	as.brkStart, as.brk = start, end
}

// Brk is brk(2) as the kernel has it: it moves the end of the heap and returns where it is now, the
// old end if it could not be moved.
func (as *AddressSpace) Brk(addr uint64) uint64 {
	end, grown := as.moveBrk(addr)
	if grown != 0 {
		as.populate(roundUp(end)-grown, roundUp(end))
	}
	return end
}

// moveBrk is Brk beneath the lock. grown is how many bytes of locked memory have to be populated.
func (as *AddressSpace) moveBrk(addr uint64) (end, grown uint64) {
	as.lock()
	defer as.unlock()
	if addr < as.brkStart || addr > UserEnd || addr-as.brkStart > as.limits.Soft(unix.RLIMIT_DATA) {
		return as.brk, 0
	}
	from, to := roundUp(as.brk), roundUp(addr)
	switch {
	case to < from:
		if as.unmap(to, from) != nil {
			return as.brk, 0
		}
	case to > from:
		flags := vmRead | vmWrite | vmMayRead | vmMayWrite | vmMayExec | vmAccount | as.future
		pages := (to - from) / PageSize
		if from < MinAddr || to > UserEnd || flags&vmLocked != 0 && !as.mayLock(to-from) {
			return as.brk, 0
		}
		if next := as.vmas.first(from); next != nil && to+PageSize > next.lowest() {
			return as.brk, 0
		}
		if !as.mayGrow(flags, pages) || as.vmas.count > MaxMapCount() || !roomForObjects(as.vmas.count) || !enough(pages) {
			return as.brk, 0
		}
		committed.Add(int64(pages))
		as.place(from, to, flags, nil, from, "")
		if flags&(vmLocked|vmLockFault) == vmLocked {
			grown = to - from
		}
	}
	as.brk = addr
	return addr, grown
}

// SetStack makes the program's stack: size bytes below top at first, growing down as it is used, to
// RLIMIT_STACK.
func (as *AddressSpace) SetStack(top, size uint64, exec bool) error {
	prot := unix.PROT_READ | unix.PROT_WRITE
	if exec {
		prot |= unix.PROT_EXEC
	}
	top &^= pageMask
	size = roundUp(size)
	if size == 0 || size > top {
		return unix.EINVAL
	}
	_, err := as.Mmap(MmapArgs{
		Addr: top - size, Length: size, Prot: prot,
		Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE | unix.MAP_GROWSDOWN,
	})
	if err != nil {
		return err
	}
	as.lock()
	defer as.unlock()
	as.stackTop = top
	return nil
}

// populate touches the pages of [start, end) (MAP_POPULATE, mlock): a mapping up to its first fault
// that ends in an error, and everything up to the first one without a frame. It returns the first error.
func (as *AddressSpace) populate(start, end uint64) error {
	var first error
	for addr := start; addr < end; {
		as.lock()
		v := as.vmas.first(addr)
		if v == nil || v.start >= end {
			as.unlock()
			break
		}
		addr = max(addr, v.start)
		stop := min(end, v.end)
		access := AccessRead
		if v.flags&(vmWrite|vmShared) == vmWrite {
			access = AccessWrite
		}
		as.unlock()
		err := as.touch(addr, stop, access)
		if first == nil {
			first = err
		}
		if err == unix.ENOMEM {
			break
		}
		addr = stop
	}
	return first
}

// touch faults in the pages of [addr, end), to the first error.
func (as *AddressSpace) touch(addr, end uint64, access Access) error {
	for ; addr < end; addr += PageSize {
		if err := as.Fault(addr, access); err != nil {
			return err
		}
		if as.mayBeLarge() {
			addr = as.skipLarge(addr)
		}
		if addr&(64*PageSize-1) == 0 {
			metal.CondResched()
		}
	}
	return nil
}
