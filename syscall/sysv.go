package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/sysv"
)

// sharedMemory is the machine's System V shared memory.
var sharedMemory sysv.Memory

// shmget(2)
func sysShmget(t *kernel.Thread, a *args) (uint64, error) {
	id, err := sharedMemory.Get(t, a.int(0), a.arg(1), int(a.int(2)))
	return uint64(id), err
}

// shmat(2)
func sysShmat(t *kernel.Thread, a *args) (uint64, error) {
	return sharedMemory.Attach(t, int(a.int(0)), a.arg(1), int(a.int(2)))
}

// shmdt(2)
func sysShmdt(t *kernel.Thread, a *args) (uint64, error) {
	return 0, sharedMemory.Detach(t, a.arg(0))
}

// Commands of shmctl(2).
const (
	ipcRemove = 0
	ipcSet    = 1
	ipcStat   = 2
	ipcInfo   = 3

	shmLock    = 11
	shmUnlock  = 12
	shmStat    = 13
	shmInfo    = 14
	shmStatAny = 15
)

// sizeofShmid is the size of struct shmid64_ds.
const sizeofShmid = 112

// shmctl(2)
func sysShmctl(t *kernel.Thread, a *args) (uint64, error) {
	const ipc64 = 0x100 // of old C libraries
	id, addr := int(a.int(0)), a.arg(2)
	if a.int(0) < 0 {
		return 0, unix.EINVAL
	}
	switch command := a.int(1) &^ ipc64; command {
	case ipcStat:
		s, err := sharedMemory.Stat(t, id)
		if err != nil {
			return 0, err
		}
		return 0, writeShmid(t, addr, &s)
	case shmStat, shmStatAny:
		s, err := sharedMemory.StatIndex(t, id, command == shmStatAny)
		if err != nil {
			return 0, err
		}
		return uint64(s.ID), writeShmid(t, addr, &s)
	case ipcSet:
		b := localOf(t).bytes[:sizeofShmid]
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		return 0, sharedMemory.Set(t, id, halfword(b, 4), halfword(b, 8), halfword(b, 20))
	case ipcRemove:
		return 0, sharedMemory.Remove(t, id)
	case shmLock, shmUnlock:
		return 0, sharedMemory.Lock(t, id, command == shmLock)
	case ipcInfo:
		_, highest, _ := sharedMemory.Info()
		e := encoder{localOf(t).bytes[:0]} // struct shminfo64
		const most = 18446744073692774399
		for _, v := range [...]uint64{most, 1, sysv.MaxSegments, sysv.MaxSegments, most, 0, 0, 0, 0} {
			e.u64(v)
		}
		return uint64(highest), copyOut(t, addr, e.b)
	case shmInfo:
		count, highest, bytes := sharedMemory.Info()
		e := encoder{localOf(t).bytes[:0]}
		e.u32(uint32(count))
		e.u32(0)
		for _, v := range [...]uint64{bytes / mm.PageSize, bytes / mm.PageSize, 0, 0, 0} {
			e.u64(v)
		}
		return uint64(highest), copyOut(t, addr, e.b)
	}
	return 0, unix.EINVAL
}

func writeShmid(t *kernel.Thread, addr uint64, s *sysv.Status) error {
	e := encoder{localOf(t).bytes[:0]}
	e.perm(&s.Perm)
	e.u64(s.Size)
	e.u64(uint64(s.Atime))
	e.u64(uint64(s.Dtime))
	e.u64(uint64(s.Ctime))
	e.u32(uint32(s.Creator))
	e.u32(uint32(s.Last))
	e.u64(s.Attached)
	e.zero(2 * 8)
	return copyOut(t, addr, e.b)
}

// perm writes p as struct ipc64_perm.
func (e *encoder) perm(p *sysv.Perm) {
	for _, v := range [...]uint32{uint32(p.Key), p.UID, p.GID, p.CUID, p.CGID, p.Mode} {
		e.u32(v)
	}
	e.u16(p.Seq)
	e.zero(6 + 2*8)
}
