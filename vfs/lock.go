package vfs

import (
	"math"
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/waitq"
	"elver/runtime/metal"
)

// File locks: flock(2), and the record locks of fcntl(2), which are a process's (POSIX) or an open file
// description's (OFD). A process is its descriptor table here, as in Linux: threads share its locks, a
// child has none of them.

// LockType is what a lock allows others.
type LockType int16

// The types, with the numbers of fcntl(2).
const (
	LockRead  LockType = unix.F_RDLCK
	LockWrite LockType = unix.F_WRLCK
	Unlock    LockType = unix.F_UNLCK
)

// LockRange is the bytes [Start, End] of a file; End is math.MaxInt64 for all that will ever be there.
type LockRange struct{ Start, End int64 }

// WholeFile is what F_SETLK with zeros names.
var WholeFile = LockRange{0, math.MaxInt64}

// RecordLock is a record lock that stands in somebody's way.
type RecordLock struct {
	LockRange
	Type LockType
	PID  int32 // -1 if an open file description holds it
}

// record is a record lock. owner is a *FDTable or a *Description.
type record struct {
	RecordLock
	owner any
}

func (r *record) overlaps(o LockRange) bool { return r.Start <= o.End && o.Start <= r.End }

func (r *record) conflicts(o *record) bool {
	return r.owner != o.owner && r.overlaps(o.LockRange) && (r.Type == LockWrite || o.Type == LockWrite)
}

// FileLocks are the locks of one file.
type FileLocks struct {
	queue   waitq.Queue
	changes atomic.Uint64 // how often somebody gave something up

	mu      sync.Mutex
	records []record // in the order of Start
	whole   []flock
}

// flock is a lock of flock(2).
type flock struct {
	owner *Description
	write bool
}

// locks returns the locks of d's file, making them if need be; nil if the file can't be locked.
func (d *Description) locks(create bool) *FileLocks {
	if d.fileLocks == nil {
		return nil
	}
	l := d.fileLocks.Load()
	if l == nil && create {
		d.fileLocks.CompareAndSwap(nil, new(FileLocks))
		l = d.fileLocks.Load()
	}
	return l
}

// locker is an inode that can be locked.
type locker interface {
	fileLocks() *atomic.Pointer[FileLocks]
}

// fileLocks returns where the file's locks are, once there are any.
func (b *BaseInode) fileLocks() *atomic.Pointer[FileLocks] { return &b.locks }

// changed wakes who waits for a lock.
func (l *FileLocks) changed() {
	l.changes.Add(1)
	l.queue.Notify(waiter.EventIn)
}

// lockWait is ready once the locks have changed since seen was read.
type lockWait struct {
	locks *FileLocks
	seen  uint64
}

func (w *lockWait) Readiness(mask waiter.EventMask) waiter.EventMask {
	if w.locks.changes.Load() != w.seen {
		return mask & waiter.EventIn
	}
	return 0
}

func (w *lockWait) EventRegister(e *waiter.Entry) error {
	w.locks.queue.EventRegister(e)
	return nil
}

func (w *lockWait) EventUnregister(e *waiter.Entry) { w.locks.queue.EventUnregister(e) }

// Flock is flock(2): operation is LOCK_SH, LOCK_EX or LOCK_UN. Without wait a lock that can't be had is
// EAGAIN. A lock that is exchanged for another type is given up first.
func (d *Description) Flock(c *Context, operation int, wait bool) error {
	l := d.locks(true)
	if l == nil {
		return unix.EOPNOTSUPP
	}
	if operation == unix.LOCK_UN {
		l.dropFlock(d)
		return nil
	}
	write := operation == unix.LOCK_EX
	for {
		seen := l.changes.Load()
		l.mu.Lock()
		same, dropped := l.removeFlock(d, write)
		free := same || l.addFlock(d, write)
		l.mu.Unlock()
		if dropped {
			l.changed()
			if !free {
				continue // what was given up counts as a change too
			}
		}
		if free {
			return nil
		}
		if !wait {
			return unix.EAGAIN
		}
		if err := c.wait(&lockWait{l, seen}, waiter.EventIn); err != nil {
			return err
		}
	}
}

// removeFlock takes d's lock out unless it is just what is wanted. Precondition: mu is held.
func (l *FileLocks) removeFlock(d *Description, write bool) (same, dropped bool) {
	for i, f := range l.whole {
		if f.owner != d {
			continue
		}
		if f.write == write {
			return true, false
		}
		l.whole = append(l.whole[:i:i], l.whole[i+1:]...)
		return false, true
	}
	return false, false
}

// addFlock enters a lock unless another one forbids it. Precondition: mu is held.
func (l *FileLocks) addFlock(d *Description, write bool) bool {
	for _, f := range l.whole {
		if write || f.write {
			return false
		}
	}
	l.whole = append(l.whole, flock{d, write})
	return true
}

func (l *FileLocks) dropFlock(d *Description) {
	l.mu.Lock()
	n := len(l.whole)
	for i, f := range l.whole {
		if f.owner == d {
			l.whole = append(l.whole[:i:i], l.whole[i+1:]...)
			break
		}
	}
	dropped := len(l.whole) < n
	l.mu.Unlock()
	if dropped {
		l.changed()
	}
}

// GetLock returns a record lock that forbids the one asked for, or false: F_GETLK, or with ofd set
// F_OFD_GETLK.
func (d *Description) GetLock(c *Context, ofd bool, kind LockType, r LockRange) (RecordLock, bool) {
	l := d.locks(false)
	if l == nil {
		return RecordLock{}, false
	}
	want := record{RecordLock{r, kind, 0}, d.lockOwner(c, ofd)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.blocker(&want); b != nil {
		return b.RecordLock, true
	}
	return RecordLock{}, false
}

func (d *Description) lockOwner(c *Context, ofd bool) any {
	if ofd {
		return d
	}
	return c.Files.table
}

// SetLock sets or removes a record lock: F_SETLK, F_SETLKW with wait, or with ofd set the calls of that
// name. EAGAIN: it can't be had now; EDEADLK: waiting for it would never end; ENOLCK: no memory.
func (d *Description) SetLock(c *Context, ofd bool, kind LockType, r LockRange, wait bool) error {
	l := d.locks(kind != Unlock)
	if l == nil {
		if kind == Unlock {
			return nil
		}
		return unix.ENOLCK
	}
	want := record{RecordLock{r, kind, -1}, d.lockOwner(c, ofd)}
	if !ofd && c.Thread != nil {
		want.PID = c.Thread.Proc.PID
	}
	for {
		seen := l.changes.Load()
		l.mu.Lock()
		blocker := any(nil)
		if kind != Unlock {
			if b := l.blocker(&want); b != nil {
				blocker = b.owner
			}
		}
		if blocker == nil {
			changed, err := l.apply(&want)
			l.mu.Unlock()
			if changed {
				l.changed()
			}
			return err
		}
		l.mu.Unlock()
		if !wait {
			return unix.EAGAIN
		}
		if !ofd && !waitsFor.enter(want.owner, blocker) {
			return unix.EDEADLK
		}
		err := c.wait(&lockWait{l, seen}, waiter.EventIn)
		if !ofd {
			waitsFor.leave(want.owner, blocker)
		}
		if err != nil {
			return err
		}
	}
}

// blocker returns a lock that forbids want. Precondition: mu is held.
func (l *FileLocks) blocker(want *record) *record {
	for i := range l.records {
		if r := &l.records[i]; r.Start > want.End {
			break
		} else if r.conflicts(want) {
			return r
		}
	}
	return nil
}

// apply makes want's range what it says, whatever the owner had there, and says whether somebody may
// have been waiting for that. Precondition: mu is held, nothing forbids it.
func (l *FileLocks) apply(want *record) (changed bool, err error) {
	if want.Type != Unlock && len(l.records)%64 == 63 {
		if s := metal.Frames(); s.Free <= s.Reserve {
			return false, unix.ENOLCK
		}
	}
	merged := *want
	kept := make([]record, 0, len(l.records)+2)
	for _, r := range l.records {
		touches := r.overlaps(want.LockRange) || r.Type == want.Type &&
			(r.End < math.MaxInt64 && r.End+1 == want.Start || want.End < math.MaxInt64 && want.End+1 == r.Start)
		switch {
		case r.owner != want.owner || !touches:
			kept = append(kept, r)
		case r.Type == want.Type:
			merged.Start, merged.End = min(merged.Start, r.Start), max(merged.End, r.End)
		default:
			changed = true
			if r.Start < want.Start {
				left := r
				left.End = want.Start - 1
				kept = append(kept, left)
			}
			if r.End > want.End {
				right := r
				right.Start = want.End + 1
				kept = append(kept, right)
			}
		}
	}
	if want.Type != Unlock {
		kept = append(kept, merged)
	}
	sort.SliceStable(kept, func(i, j int) bool { return kept[i].Start < kept[j].Start })
	l.records = kept
	return changed, nil
}

// dropRecords removes every record lock of owner.
func (l *FileLocks) dropRecords(owner any) {
	l.mu.Lock()
	kept := l.records[:0]
	for _, r := range l.records {
		if r.owner != owner {
			kept = append(kept, r)
		}
	}
	dropped := len(kept) < len(l.records)
	clear(l.records[len(kept):])
	l.records = kept
	l.mu.Unlock()
	if dropped {
		l.changed()
	}
}

// dropLocks ends the locks that go with the description: it is closed for good.
func (d *Description) dropLocks() {
	if l := d.locks(false); l != nil {
		l.dropFlock(d)
		l.dropRecords(d)
	}
}

// leaveTable drops the reference that a descriptor of t held, and with it the process's locks of the
// file, whichever descriptor they were made by (fcntl(2), "Advisory record locking").
func (d *Description) leaveTable(t *FDTable) {
	if d.fileLocks != nil && d.fileLocks.Load() != nil {
		d.fileLocks.Load().dropRecords(t)
	}
	if d.flushes {
		d.file.(Flusher).Flush(t)
	}
	d.Decref()
}

// waitsFor is which processes wait for which others by F_SETLKW.
var waitsFor waitGraph

type waitGraph struct {
	mu    sync.Mutex
	edges map[any][]any // a process to who holds what its threads wait for
}

// enter notes that owner waits for blocker, unless blocker waits for owner already, maybe through others.
func (g *waitGraph) enter(owner, blocker any) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := map[any]bool{}
	ahead := []any{blocker}
	for len(ahead) > 0 {
		n := ahead[len(ahead)-1]
		ahead = ahead[:len(ahead)-1]
		if n == owner {
			return false
		}
		if !seen[n] {
			seen[n] = true
			ahead = append(ahead, g.edges[n]...)
		}
	}
	if g.edges == nil {
		g.edges = make(map[any][]any)
	}
	g.edges[owner] = append(g.edges[owner], blocker)
	return true
}

func (g *waitGraph) leave(owner, blocker any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.edges[owner]
	for i, b := range list {
		if b == blocker {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(g.edges, owner)
	} else {
		g.edges[owner] = list
	}
}
