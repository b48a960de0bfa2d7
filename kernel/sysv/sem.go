package sysv

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// Limits of semget(2) and semop(2). Those that the program can change are fields of Semaphores.
const (
	MaxSemaphoreValue = 32767 // SEMVMX, and SEMAEM for what is to be undone

	defaultPerSet     = 32000 // SEMMSL
	defaultOperations = 500   // SEMOPM
	defaultSets       = 32000 // SEMMNI
	defaultSemaphores = defaultPerSet * defaultSets

	semaphoreBytes = 8 // of one in a set
	setBytes       = 256
	undoBytes      = 64 // of one that is to be undone
)

// SemUndo is SEM_UNDO: the operation is undone when the process ends.
const SemUndo = 0x1000

// SemOp is an operation on a semaphore of a set (struct sembuf).
type SemOp struct {
	Num   uint16
	Op    int16
	Flags int16
}

// semaphore is one of a set.
type semaphore struct {
	value int32
	pid   int32 // who changed it last
}

// set is a set of semaphores, which operations change all at once or not at all.
type set struct {
	object
	sems         []semaphore
	otime, ctime int64
	waiting      []*semWaiter // in the order in which they came
	undos        map[*undoList]struct{}
}

// semWaiter is a thread whose operations cannot be done yet.
type semWaiter struct {
	t        *kernel.Thread
	pid      int32
	ops      []SemOp
	undo     *undoList
	blocking int // index of the operation that waits
	done     bool
	err      error
}

// Semaphores is the machine's sets. Lock: table.mu.
type Semaphores struct {
	table[*set, SemStatus]
	total  int
	limits [4]atomic.Int64 // SEMMSL, SEMMNS, SEMOPM, SEMMNI; 0: the default
}

// Limits returns SEMMSL, SEMMNS, SEMOPM and SEMMNI, as /proc/sys/kernel/sem shows them.
func (m *Semaphores) Limits() (l [4]int) {
	for i, d := range [...]int{defaultPerSet, defaultSemaphores, defaultOperations, defaultSets} {
		if l[i] = int(m.limits[i].Load()); l[i] == 0 {
			l[i] = d
		}
	}
	return l
}

// SetLimits sets them: EINVAL for what cannot be.
func (m *Semaphores) SetLimits(l [4]int) error {
	for i, most := range [...]int{defaultPerSet, defaultSemaphores, defaultOperations, idStep} {
		if l[i] <= 0 || l[i] > most {
			return unix.EINVAL
		}
	}
	for i := range l {
		m.limits[i].Store(int64(l[i]))
	}
	return nil
}

// Get is semget(2).
func (m *Semaphores) Get(t *kernel.Thread, key int32, n, flags int) (int, error) {
	limits := m.Limits()
	if n < 0 || n > limits[0] {
		return 0, unix.EINVAL
	}
	return m.get(t, key, flags, func(s *set) error {
		if n > len(s.sems) {
			return unix.EINVAL
		}
		return nil
	}, func() (*set, error) {
		if n == 0 {
			return nil, unix.EINVAL
		}
		if m.full(limits[3]) || m.total+n > limits[1] {
			return nil, unix.ENOSPC
		}
		if err := charge(setBytes + n*semaphoreBytes); err != nil {
			return nil, err
		}
		m.total += n
		return &set{sems: make([]semaphore, n), ctime: now()}, nil
	})
}

// undoList is what the threads that share it have to undo at their end, per set and semaphore.
type undoList struct {
	m    *Semaphores
	adds map[*set]map[uint16]int32 // guarded by m's lock
}

// Exit undoes it all: the last thread that has the list is gone (semop(2)).
func (u *undoList) Exit(t *kernel.Thread) {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	for s, adds := range u.adds {
		for n, add := range adds {
			sem := &s.sems[n]
			sem.value = min(max(sem.value+add, 0), MaxSemaphoreValue)
			sem.pid = t.Proc.PID
		}
		s.otime = now()
		u.drop(s)
		s.wake()
	}
}

// drop forgets what is to be undone in s.
func (u *undoList) drop(s *set) {
	release(len(u.adds[s]) * undoBytes)
	delete(u.adds, s)
	delete(s.undos, u)
}

// reserve makes room for what is to be undone in semaphore n of s: ENOMEM.
func (u *undoList) reserve(s *set, n uint16) error {
	adds := u.adds[s]
	if _, ok := adds[n]; ok {
		return nil
	}
	if err := charge(undoBytes); err != nil {
		return err
	}
	if adds == nil {
		if u.adds == nil {
			u.adds = make(map[*set]map[uint16]int32)
		}
		if s.undos == nil {
			s.undos = make(map[*undoList]struct{})
		}
		adds = make(map[uint16]int32)
		u.adds[s], s.undos[u] = adds, struct{}{}
	}
	adds[n] = 0
	return nil
}

// undoOf returns t's list.
func (m *Semaphores) undoOf(t *kernel.Thread) *undoList {
	shared := t.SemaphoreUndo()
	m.mu.Lock()
	defer m.mu.Unlock()
	if shared.List == nil {
		shared.List = &undoList{m: m}
	}
	return shared.List.(*undoList)
}

// try does all of ops, or none: then blocking is the index of the one that has to wait.
func (s *set) try(ops []SemOp, undo *undoList, pid int32) (blocking int, err error) {
	blocking = -1
	i := 0
	for ; i < len(ops); i++ {
		op := &ops[i]
		sem, d := &s.sems[op.Num], int32(op.Op)
		to := sem.value + d
		if d == 0 && to != 0 || to < 0 {
			if blocking = i; op.Flags&NoWait != 0 {
				err = unix.EAGAIN
			}
			break
		}
		if to > MaxSemaphoreValue {
			err = unix.ERANGE
			break
		}
		if op.Flags&SemUndo != 0 {
			if err = undo.reserve(s, op.Num); err != nil {
				break
			}
			back := undo.adds[s][op.Num] - d
			if back < -MaxSemaphoreValue-1 || back > MaxSemaphoreValue {
				err = unix.ERANGE
				break
			}
			undo.adds[s][op.Num] = back
		}
		sem.value = to
	}
	if i == len(ops) {
		for i := range ops {
			s.sems[ops[i].Num].pid = pid
		}
		s.otime = now()
		return -1, nil
	}
	for i--; i >= 0; i-- {
		op := &ops[i]
		s.sems[op.Num].value -= int32(op.Op)
		if op.Flags&SemUndo != 0 {
			undo.adds[s][op.Num] += int32(op.Op)
		}
	}
	return blocking, err
}

// wake lets all waiters go on whose operations can be done now, those that came first before the others.
// Precondition: the table's lock is held.
func (s *set) wake() {
	for changed := len(s.waiting) > 0; changed; {
		changed = false
		kept := s.waiting[:0]
		for _, w := range s.waiting {
			blocking, err := s.try(w.ops, w.undo, w.pid)
			if blocking >= 0 && err == nil {
				w.blocking = blocking
				kept = append(kept, w)
				continue
			}
			w.finish(err)
			changed = true
		}
		clear(s.waiting[len(kept):])
		s.waiting = kept
	}
}

func (w *semWaiter) finish(err error) {
	w.done, w.err = true, err
	w.t.Wake()
}

// Operate is semop(2) and semtimedop(2): EAGAIN at the deadline, EINTR by a signal.
func (m *Semaphores) Operate(t *kernel.Thread, id int, ops []SemOp, d kernel.Deadline) error {
	var undo *undoList
	greatest, alters := uint16(0), false
	for i := range ops {
		greatest = max(greatest, ops[i].Num)
		alters = alters || ops[i].Op != 0
		if ops[i].Flags&SemUndo != 0 && undo == nil {
			undo = m.undoOf(t)
		}
	}
	rights := uint32(4)
	if alters {
		rights = 2
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(id)
	if err != nil {
		return err
	}
	if int(greatest) >= len(s.sems) {
		return unix.EFBIG
	}
	if err := s.perm.allows(t.Creds(), rights); err != nil {
		return err
	}
	blocking, err := s.try(ops, undo, t.Proc.PID)
	if err != nil {
		return err
	}
	if blocking < 0 {
		if alters {
			s.wake()
		}
		return nil
	}
	w := &semWaiter{t: t, pid: t.Proc.PID, ops: slices.Clone(ops), undo: undo, blocking: blocking}
	s.waiting = append(s.waiting, w)
	t.PrepareBlock()
	for !w.done {
		m.mu.Unlock()
		err := t.Block(d)
		m.mu.Lock()
		if err != nil && !w.done {
			s.waiting = slices.DeleteFunc(s.waiting, func(o *semWaiter) bool { return o == w })
			if err == unix.ETIMEDOUT {
				return unix.EAGAIN
			}
			return unix.EINTR // never started over (signal(7))
		}
	}
	return w.err
}

// SemStatus is what semctl(2) tells of a set (struct semid64_ds).
type SemStatus struct {
	ID           int
	Perm         Perm
	Otime, Ctime int64
	Count        int
}

func (s *set) status() SemStatus { return SemStatus{s.id, s.perm, s.otime, s.ctime, len(s.sems)} }

// Set is IPC_SET.
func (m *Semaphores) Set(t *kernel.Thread, id int, uid, gid, mode uint32) error {
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

// Remove is IPC_RMID: whoever waits gets EIDRM.
func (m *Semaphores) Remove(t *kernel.Thread, id int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.own(t, id)
	if err != nil {
		return err
	}
	m.remove(s)
	m.total -= len(s.sems)
	release(setBytes + len(s.sems)*semaphoreBytes)
	for u := range s.undos {
		u.drop(s)
	}
	for _, w := range s.waiting {
		w.finish(unix.EIDRM)
	}
	s.waiting = nil
	return nil
}

// SemState is what the GET commands tell of a semaphore.
type SemState struct {
	Value, PID         int32
	WaitMore, WaitZero int // threads that wait for it to increase, and to become 0
}

// State returns the state of semaphore n of a set: EINVAL if the set has none.
func (m *Semaphores) State(t *kernel.Thread, id, n int) (SemState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.use(t, id, 4)
	if err != nil {
		return SemState{}, err
	}
	if n < 0 || n >= len(s.sems) {
		return SemState{}, unix.EINVAL
	}
	state := SemState{Value: s.sems[n].value, PID: s.sems[n].pid}
	for _, w := range s.waiting {
		switch op := w.ops[w.blocking]; {
		case int(op.Num) != n:
		case op.Op == 0:
			state.WaitZero++
		default:
			state.WaitMore++
		}
	}
	return state, nil
}

// Values is GETALL.
func (m *Semaphores) Values(t *kernel.Thread, id int) ([]uint16, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.use(t, id, 4)
	if err != nil {
		return nil, err
	}
	values := make([]uint16, len(s.sems))
	for i := range values {
		values[i] = uint16(s.sems[i].value)
	}
	return values, nil
}

// Count returns how many semaphores a set has, for who is to bring SETALL's values.
func (m *Semaphores) Count(t *kernel.Thread, id int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.use(t, id, 2)
	if err != nil {
		return 0, err
	}
	return len(s.sems), nil
}

// SetValues is SETVAL, of the semaphores from first on, and SETALL.
func (m *Semaphores) SetValues(t *kernel.Thread, id, first int, values []uint16) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.use(t, id, 2)
	if err != nil {
		return err
	}
	if first < 0 || first+len(values) > len(s.sems) {
		return unix.EINVAL
	}
	for _, v := range values {
		if v > MaxSemaphoreValue {
			return unix.ERANGE
		}
	}
	for i, v := range values {
		s.sems[first+i] = semaphore{int32(v), t.Proc.PID}
	}
	for u := range s.undos {
		for n := range u.adds[s] {
			if int(n) >= first && int(n) < first+len(values) {
				u.adds[s][n] = 0
			}
		}
	}
	s.ctime = now()
	s.wake()
	return nil
}

// Info returns how many sets and semaphores there are, and the greatest index in use.
func (m *Semaphores) Info() (sets, semaphores, highest int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count, m.total, m.table.highest()
}

// Proc returns /proc/sysvipc/sem.
func (m *Semaphores) Proc() string {
	var b strings.Builder
	b.WriteString("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n")
	m.each(func(s *set) {
		p := &s.perm
		fmt.Fprintf(&b, "%10d %10d  %4o %10d %5d %5d %5d %5d %10d %10d\n",
			p.Key, s.id, p.Mode, len(s.sems), p.UID, p.GID, p.CUID, p.CGID, s.otime, s.ctime)
	})
	return b.String()
}
