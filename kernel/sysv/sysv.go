// Package sysv is System V's interprocess communication (sysvipc(7)): so far its shared memory.
//
// Memory.mu guards the table and the attributes of segments; it is a leaf.
package sysv

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
)

// Flags and commands that package unix doesn't name for all systems (sys/ipc.h, sys/shm.h).
const (
	Private = 0 // IPC_PRIVATE

	Create    = 0o1000 // IPC_CREAT
	Exclusive = 0o2000 // IPC_EXCL

	ReadOnly = 0o10000  // SHM_RDONLY
	Round    = 0o20000  // SHM_RND
	Remap    = 0o40000  // SHM_REMAP
	Execute  = 0o100000 // SHM_EXEC

	modeDest   = 0o1000 // SHM_DEST: the segment goes with its last mapping
	modeLocked = 0o2000 // SHM_LOCKED
)

// Limits of shmget(2), /proc/sys/kernel/shm*.
const (
	MaxSegments = 4096
	idStep      = 32768 // IPCMNI: what an id grows by when its slot is used again
)

// Perm is who may use an object (struct ipc64_perm).
type Perm struct {
	Key        int32
	UID, GID   uint32
	CUID, CGID uint32
	Mode       uint32
	Seq        uint16
}

// allows checks the rights want (of 4 and 2, as in a mode): EACCES.
func (p *Perm) allows(c *kernel.Credentials, want uint32) error {
	mode := p.Mode
	switch {
	case c.EUID == p.UID || c.EUID == p.CUID:
		mode >>= 6
	case c.InGroup(p.GID) || c.InGroup(p.CGID):
		mode >>= 3
	}
	if want&^mode&7 != 0 && !c.HasCap(unix.CAP_IPC_OWNER) {
		return unix.EACCES
	}
	return nil
}

func (p *Perm) owned(c *kernel.Credentials) error {
	if c.EUID != p.UID && c.EUID != p.CUID && !c.HasCap(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	return nil
}

// Segment is a piece of shared memory, and what maps it.
type Segment struct {
	*mm.SharedMemory
	table    *Memory
	id       int
	size     uint64
	attached atomic.Int64 // mappings; a fork's count with those that it copied
	creator  int32

	// guarded by table.mu
	perm                Perm
	gone                bool // taken out of the table
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

func now() int64 { return kernel.Realtime() / 1e9 }

// Memory is the machine's segments.
type Memory struct {
	mu       sync.Mutex
	segments [MaxSegments]*Segment
	seqs     [MaxSegments]uint16
	byKey    map[int32]*Segment
	count    int
	bytes    uint64
}

// remove takes s out. Precondition: mu is held.
func (m *Memory) remove(s *Segment) {
	s.gone = true
	m.segments[s.id%idStep] = nil
	m.seqs[s.id%idStep]++
	m.count--
	m.bytes -= s.size
	if m.byKey[s.perm.Key] == s {
		delete(m.byKey, s.perm.Key)
	}
}

// Get is shmget(2).
func (m *Memory) Get(t *kernel.Thread, key int32, size uint64, flags int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.byKey[key]; key != Private && s != nil {
		if flags&(Create|Exclusive) == Create|Exclusive {
			return 0, unix.EEXIST
		}
		if size > s.size {
			return 0, unix.EINVAL
		}
		if err := s.perm.allows(t.Creds(), uint32(flags>>6|flags>>3|flags)&7&^1); err != nil {
			return 0, err
		}
		return s.id, nil
	}
	if key != Private && flags&Create == 0 {
		return 0, unix.ENOENT
	}
	if size == 0 || size > 1<<46 {
		return 0, unix.EINVAL
	}
	slot := 0
	for slot < MaxSegments && m.segments[slot] != nil {
		slot++
	}
	if slot == MaxSegments {
		return 0, unix.ENOSPC
	}
	memory, err := mm.NewSharedMemory(size, false)
	if err != nil {
		return 0, err
	}
	c, seq := t.Creds(), m.seqs[slot]&0x7fff
	s := &Segment{SharedMemory: memory, table: m, id: int(seq)*idStep + slot, size: size, creator: t.Proc.PID, ctime: now()}
	s.perm = Perm{Key: key, UID: c.EUID, GID: c.EGID, CUID: c.EUID, CGID: c.EGID, Mode: uint32(flags) & 0o777, Seq: seq}
	m.segments[slot] = s
	m.count++
	m.bytes += size
	if key != Private {
		if m.byKey == nil {
			m.byKey = make(map[int32]*Segment)
		}
		m.byKey[key] = s
	}
	return s.id, nil
}

// find returns the segment of that id: EINVAL, EIDRM. Precondition: mu is held.
func (m *Memory) find(id int) (*Segment, error) {
	if id < 0 || id%idStep >= MaxSegments {
		return nil, unix.EINVAL
	}
	s := m.segments[id%idStep]
	if s == nil {
		return nil, unix.EINVAL
	}
	if s.id != id {
		return nil, unix.EIDRM
	}
	return s, nil
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
	s, err := m.find(id)
	if err == nil {
		err = s.perm.allows(t.Creds(), want)
	}
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

// Stat is IPC_STAT.
func (m *Memory) Stat(t *kernel.Thread, id int) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(id)
	if err == nil {
		err = s.perm.allows(t.Creds(), 4)
	}
	if err != nil {
		return Status{}, err
	}
	return s.status(), nil
}

// StatIndex is SHM_STAT, and with any SHM_STAT_ANY, which asks for no rights.
func (m *Memory) StatIndex(t *kernel.Thread, index int, any bool) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index < 0 || index >= MaxSegments || m.segments[index] == nil {
		return Status{}, unix.EINVAL
	}
	s := m.segments[index]
	if !any {
		if err := s.perm.allows(t.Creds(), 4); err != nil {
			return Status{}, err
		}
	}
	return s.status(), nil
}

func (s *Segment) status() Status {
	return Status{s.id, s.perm, s.size, s.atime, s.dtime, s.ctime, s.creator, s.last, uint64(s.attached.Load())}
}

// Set is IPC_SET.
func (m *Memory) Set(t *kernel.Thread, id int, uid, gid, mode uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(id)
	if err == nil {
		err = s.perm.owned(t.Creds())
	}
	if err != nil {
		return err
	}
	s.perm.UID, s.perm.GID, s.perm.Mode = uid, gid, s.perm.Mode&^0o777|mode&0o777
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
	s, err := m.find(id)
	if err == nil {
		err = s.perm.owned(t.Creds())
	}
	if err != nil {
		m.mu.Unlock()
		return err
	}
	last := s.attached.Load() == 0
	if last {
		m.remove(s)
	} else {
		if m.byKey[s.perm.Key] == s {
			delete(m.byKey, s.perm.Key)
		}
		s.perm.Key = Private
		s.perm.Mode |= modeDest
	}
	m.mu.Unlock()
	if last {
		s.SharedMemory.MapClose()
	}
	return nil
}

// Info returns how many segments there are, the greatest index in use, and the bytes of all.
func (m *Memory) Info() (count, highest int, bytes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range m.segments {
		if s != nil {
			highest = i
		}
	}
	return m.count, highest, m.bytes
}
