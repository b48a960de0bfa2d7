package sysv

import (
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
)

// Flags of shmat(2) and bits of a segment's mode that package unix doesn't name for all systems (sys/shm.h).
const (
	ReadOnly = 0o10000  // SHM_RDONLY
	Round    = 0o20000  // SHM_RND
	Remap    = 0o40000  // SHM_REMAP
	Execute  = 0o100000 // SHM_EXEC

	modeDest   = 0o1000 // SHM_DEST: the segment goes with its last mapping
	modeLocked = 0o2000 // SHM_LOCKED
)

// MaxSegments is how many segments there may be: /proc/sys/kernel/shmmni.
const MaxSegments = 4096

// Segment is a piece of shared memory, and what maps it.
type Segment struct {
	*mm.SharedMemory
	object
	table    *Memory
	size     uint64
	attached atomic.Int64 // mappings
	creator  int32

	// guarded by table.mu
	last                int32
	atime, dtime, ctime int64 // seconds
}

// MapName returns the name that Linux shows.
func (s *Segment) MapName() string { return fmt.Sprintf("/SYSV%08x (deleted)", uint32(s.perm.Key)) }

// Ident tells segments apart.
func (s *Segment) Ident() (dev, ino uint64) { return segmentDevice, uint64(s.id) }

// segmentDevice is the device number of segments in /proc/PID/maps. They are on the file system of
// shared memory without a file, but their numbers are their ids.
const segmentDevice = 2

// MapOpen counts a mapping.
func (s *Segment) MapOpen() { s.attached.Add(1) }

// MapPerProcess says that a fork's mapping counts like its parent's (shm_nattch in shmctl(2)).
func (s *Segment) MapPerProcess() {}

// MapClose uncounts it, and ends a segment that was to go.
func (s *Segment) MapClose() {
	s.table.mu.Lock()
	s.dtime = now()
	s.table.mu.Unlock()
	s.release()
}

// release drops one of attached.
func (s *Segment) release() {
	s.table.mu.Lock()
	last := s.attached.Add(-1) == 0 && s.perm.Mode&modeDest != 0 && !s.gone
	if last {
		s.table.remove(s)
	}
	s.table.mu.Unlock()
	if last {
		s.SharedMemory.MapClose()
	}
}

// Memory is the machine's segments. Lock: table.mu.
type Memory struct {
	table[*Segment, Status]
}

// Get is shmget(2).
func (m *Memory) Get(t *kernel.Thread, key int32, size uint64, flags int) (int, error) {
	return m.get(t, key, flags, func(s *Segment) error {
		if size > s.size {
			return unix.EINVAL
		}
		return nil
	}, func() (*Segment, error) {
		if size == 0 || size > 1<<46 {
			return nil, unix.EINVAL
		}
		if m.full(MaxSegments) {
			return nil, unix.ENOSPC
		}
		memory, err := mm.NewSharedMemory(size, false)
		if err != nil {
			return nil, err
		}
		return &Segment{SharedMemory: memory, table: m, size: size, creator: t.Proc.PID, ctime: now()}, nil
	})
}

// Attach is shmat(2).
func (m *Memory) Attach(t *kernel.Thread, id int, addr uint64, flags int) (uint64, error) {
	if addr%mm.PageSize != 0 {
		if flags&Round == 0 {
			return 0, unix.EINVAL
		}
		addr &^= mm.PageSize - 1
	}
	if addr == 0 && flags&Remap != 0 {
		return 0, unix.EINVAL
	}
	want, prot := uint32(6), unix.PROT_READ|unix.PROT_WRITE
	if flags&ReadOnly != 0 {
		want, prot = 4, unix.PROT_READ
	}
	allowed := prot
	if flags&Execute != 0 {
		prot |= unix.PROT_EXEC
		want |= 1
	}
	m.mu.Lock()
	s, err := m.use(t, id, want)
	if err != nil {
		m.mu.Unlock()
		return 0, err
	}
	s.attached.Add(1) // so that it stays until it is mapped
	s.atime, s.last = now(), t.Proc.PID
	m.mu.Unlock()
	defer s.release()
	how := unix.MAP_SHARED
	switch {
	case flags&Remap != 0:
		how |= unix.MAP_FIXED
	case addr != 0:
		how |= unix.MAP_FIXED_NOREPLACE
	}
	at, err := t.MM().Mmap(mm.MmapArgs{Addr: addr, Length: s.size, Prot: prot, Flags: how, File: s, FileProt: allowed | unix.PROT_EXEC})
	if err == unix.EEXIST {
		err = unix.EINVAL
	}
	return at, err
}

// Detach is shmdt(2).
func (m *Memory) Detach(t *kernel.Thread, addr uint64) error {
	as := t.MM()
	r, ok := as.Region(addr)
	s, mine := r.File.(*Segment)
	if !ok || !mine || r.Start != addr || r.Offset != 0 {
		return unix.EINVAL
	}
	m.mu.Lock()
	s.last = t.Proc.PID
	m.mu.Unlock()
	for at := addr; ok && r.File == mm.Mappable(s) && r.Start == at && r.Offset == at-addr; r, ok = as.Region(at) {
		if err := as.Munmap(r.Start, r.End-r.Start); err != nil {
			return err
		}
		at = r.End
	}
	return nil
}

// Status is what shmctl(2) tells of a segment (struct shmid64_ds).
type Status struct {
	ID                  int
	Perm                Perm
	Size                uint64
	Atime, Dtime, Ctime int64
	Creator, Last       int32
	Attached            uint64
}

func (s *Segment) status() Status {
	return Status{s.id, s.perm, s.size, s.atime, s.dtime, s.ctime, s.creator, s.last, uint64(s.attached.Load())}
}

// Set is IPC_SET.
func (m *Memory) Set(t *kernel.Thread, id int, uid, gid, mode uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.own(t, id)
	if err != nil {
		return err
	}
	s.perm.set(uid, gid, mode)
	s.ctime = now()
	return nil
}

// Lock is SHM_LOCK and SHM_UNLOCK: memory is never swapped, so only the mode shows it.
func (m *Memory) Lock(t *kernel.Thread, id int, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(id)
	if err == nil && !t.Creds().HasCap(unix.CAP_IPC_LOCK) {
		err = s.perm.owned(t.Creds())
	}
	if err != nil {
		return err
	}
	s.perm.Mode &^= modeLocked
	if on {
		s.perm.Mode |= modeLocked
	}
	return nil
}

// Remove is IPC_RMID: the segment has no key any more, and goes with its last mapping.
func (m *Memory) Remove(t *kernel.Thread, id int) error {
	m.mu.Lock()
	s, err := m.own(t, id)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	last := s.attached.Load() == 0
	if last {
		m.remove(s)
	} else {
		m.forget(s)
		s.perm.Key = Private
		s.perm.Mode |= modeDest
	}
	m.mu.Unlock()
	if last {
		s.SharedMemory.MapClose()
	}
	return nil
}

// Info returns how many segments there are, the greatest index in use, and in pages how large they are together
// and how much of that is in memory.
func (m *Memory) Info() (count, highest int, pages, resident uint64) {
	m.each(func(s *Segment) {
		pages += (s.size + mm.PageSize - 1) / mm.PageSize
		resident += s.ResidentBytes() / mm.PageSize
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count, m.table.highest(), pages, resident
}

// Proc returns /proc/sysvipc/shm.
func (m *Memory) Proc() string {
	var b strings.Builder
	b.WriteString("       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n")
	m.each(func(s *Segment) {
		p := &s.perm
		fmt.Fprintf(&b, "%10d %10d  %4o %21d %5d %5d  %5d %5d %5d %5d %5d %10d %10d %10d %21d %21d\n",
			p.Key, s.id, p.Mode, s.size, s.creator, s.last, s.attached.Load(), p.UID, p.GID, p.CUID, p.CGID, s.atime, s.dtime, s.ctime,
			s.ResidentBytes(), 0)
	})
	return b.String()
}
