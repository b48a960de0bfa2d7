package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
)

// impliedProtection adds to prot what the personality demands.
func impliedProtection(t *kernel.Thread, prot int) int {
	if prot&unix.PROT_READ != 0 && t.Personality()&perReadImpliesExec != 0 {
		prot |= unix.PROT_EXEC
	}
	return prot
}

// mmap(2)
func sysMmap(t *kernel.Thread, a *args) (uint64, error) {
	m := mm.MmapArgs{
		Addr: a.arg(0), Length: a.arg(1), Prot: impliedProtection(t, int(a.int(2))), Flags: int(a.int(3)), Offset: a.arg(5),
		Privileged: t.Creds().HasCap(unix.CAP_IPC_LOCK),
	}
	if m.Offset%mm.PageSize != 0 {
		return 0, unix.EINVAL
	}
	if m.Flags&unix.MAP_ANONYMOUS != 0 {
		return t.MM().Mmap(m)
	}
	l := localOf(t)
	d, err := l.files.Get(a.int(4))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	if d.PathOnly() {
		return 0, unix.EBADF
	}
	if m.Length == 0 {
		return 0, unix.EINVAL
	}
	shared := m.Flags&unix.MAP_TYPE == unix.MAP_SHARED || m.Flags&unix.MAP_TYPE == unix.MAP_SHARED_VALIDATE
	if !shared && m.Flags&unix.MAP_TYPE != unix.MAP_PRIVATE {
		return 0, unix.EINVAL
	}
	if !d.Readable() || shared && m.Prot&unix.PROT_WRITE != 0 && !d.Writable() {
		return 0, unix.EACCES
	}
	m.FileProt = unix.PROT_READ | unix.PROT_EXEC
	if !shared || d.Writable() {
		m.FileProt |= unix.PROT_WRITE
	}
	if m.File, err = d.Mappable(&l.files); err != nil {
		return 0, err
	}
	return t.MM().Mmap(m)
}

// munmap(2)
func sysMunmap(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Munmap(a.arg(0), a.arg(1))
}

// mprotect(2)
func sysMprotect(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Mprotect(a.arg(0), a.arg(1), impliedProtection(t, int(a.int(2))))
}

// mremap(2)
func sysMremap(t *kernel.Thread, a *args) (uint64, error) {
	return t.MM().Mremap(a.arg(0), a.arg(1), a.arg(2), int(a.int(3)), a.arg(4))
}

// remap_file_pages(2)
func sysRemapFilePages(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().RemapFilePages(a.arg(0), a.arg(1), int(a.arg(2)), a.arg(3), int(a.int(4)))
}

// madvise(2)
func sysMadvise(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Madvise(a.arg(0), a.arg(1), int(a.int(2)))
}

// mincore(2)
func sysMincore(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Mincore(a.arg(0), a.arg(1), a.arg(2))
}

// msync(2)
func sysMsync(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Msync(a.arg(0), a.arg(1), int(a.int(2)))
}

// brk(2): the system call returns the end of the heap, moved or not.
func sysBrk(t *kernel.Thread, a *args) (uint64, error) {
	return t.MM().Brk(a.arg(0)), nil
}

// mlock(2)
func sysMlock(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Mlock(a.arg(0), a.arg(1), 0, t.Creds().HasCap(unix.CAP_IPC_LOCK))
}

// mlock2(2)
func sysMlock2(t *kernel.Thread, a *args) (uint64, error) {
	const onFault = 1 // MLOCK_ONFAULT
	if a.uint(2)&^onFault != 0 {
		return 0, unix.EINVAL
	}
	return 0, t.MM().Mlock(a.arg(0), a.arg(1), int(a.int(2)), t.Creds().HasCap(unix.CAP_IPC_LOCK))
}

// munlock(2)
func sysMunlock(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Munlock(a.arg(0), a.arg(1))
}

// mlockall(2)
func sysMlockall(t *kernel.Thread, a *args) (uint64, error) {
	flags := int(a.int(0))
	if flags == 0 || flags == unix.MCL_ONFAULT || flags&^(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT) != 0 {
		return 0, unix.EINVAL
	}
	return 0, t.MM().Mlockall(flags, t.Creds().HasCap(unix.CAP_IPC_LOCK))
}

// munlockall(2)
func sysMunlockall(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.MM().Munlockall()
}

// pkey_mprotect(2) is mprotect(2) when the key is -1.
func sysPkeyMprotect(t *kernel.Thread, a *args) (uint64, error) {
	if a.int(3) != -1 {
		return 0, unix.EINVAL
	}
	return sysMprotect(t, a)
}

// pkey_alloc(2) on a CPU without protection keys
func sysPkeyAlloc(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(0) != 0 || a.arg(1)&^3 != 0 {
		return 0, unix.EINVAL
	}
	return 0, unix.ENOSPC
}

// pkey_free(2) of a key that pkey_alloc never gave out
func sysPkeyFree(t *kernel.Thread, a *args) (uint64, error) { return 0, unix.EINVAL }

// Policies of memory on one node (set_mempolicy(2)).
const (
	policyMax   = 6 // MPOL_PREFERRED_MANY and MPOL_WEIGHTED_INTERLEAVE are the last
	policyFlags = 0xe000
)

// mbind(2)
func sysMbind(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(0)%mm.PageSize != 0 || a.uint(2)&^policyFlags > policyMax || a.uint(5)&^7 != 0 {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// set_mempolicy(2)
func sysSetMempolicy(t *kernel.Thread, a *args) (uint64, error) {
	if a.uint(0)&^policyFlags > policyMax {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// get_mempolicy(2)
func sysGetMempolicy(t *kernel.Thread, a *args) (uint64, error) {
	const node, address, allowed = 1, 2, 4 // MPOL_F_NODE, MPOL_F_ADDR, MPOL_F_MEMS_ALLOWED
	flags := a.arg(4)
	if flags&^(node|address|allowed) != 0 || flags&allowed != 0 && flags&(node|address) != 0 {
		return 0, unix.EINVAL
	}
	if flags&address == 0 && a.arg(3) != 0 {
		return 0, unix.EINVAL
	}
	if a.arg(0) != 0 {
		if err := t.MM().WriteUint32(a.arg(0), 0); err != nil { // MPOL_DEFAULT, or node 0
			return 0, err
		}
	}
	if a.arg(1) != 0 && a.arg(2) != 0 {
		mask := uint64(0)
		if flags&allowed != 0 {
			mask = 1
		}
		return 0, t.MM().WriteUint64(a.arg(1), mask)
	}
	return 0, nil
}
