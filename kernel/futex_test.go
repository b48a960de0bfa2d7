package kernel

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// word reads and writes the program's memory as the program would.
func (u *uprog) load(addr uint64) uint32 {
	v, err := u.t.MM().ReadUint32(addr)
	if err != nil {
		u.m.Error(err)
	}
	return v
}

func (u *uprog) store(addr uint64, v uint32) {
	if err := u.t.MM().WriteUint32(addr, v); err != nil {
		u.m.Error(err)
	}
}

func (u *uprog) wait(addr uint64, val uint32, d Deadline) unix.Errno {
	return u.do(func(t *Thread) error { return t.FutexWait(addr, false, val, FutexAll, d) })
}

func (u *uprog) wake(addr uint64, n int) int64 {
	return u.sys(func(t *Thread) (uint64, error) {
		n, err := t.FutexWake(addr, false, n, FutexAll)
		return uint64(n), err
	})
}

func TestFutexErrors(t *testing.T) {
	play(t, func(u *uprog) {
		u.expect("value differs", u.wait(dataBase, 1, Never), unix.EAGAIN)
		u.expect("misaligned", u.wait(dataBase+1, 0, Never), unix.EINVAL)
		u.expect("not mapped", u.wait(0x10000, 0, Never), unix.EFAULT)
		u.expect("timeout", u.wait(dataBase, 0, After(time.Millisecond)), unix.ETIMEDOUT)
		u.expect("long ago", u.wait(dataBase, 0, Deadline{}), unix.ETIMEDOUT)
		u.expect("wall clock", u.wait(dataBase, 0, Deadline{at: Realtime() + 1e6, wall: true}), unix.ETIMEDOUT)
		u.expect("empty bitset", u.do(func(t *Thread) error { return t.FutexWait(dataBase, false, 0, 0, Never) }), unix.EINVAL)
		u.expect("nobody to wake", u.wake(dataBase, 1), int64(0))
	})
}

func TestFutexPingPong(t *testing.T) {
	const rounds = 2000
	a, b := uint64(dataBase), uint64(dataBase+4)
	play(t, func(u *uprog) {
		pass := func(u *uprog, mine, other uint64) {
			for range rounds {
				for u.load(mine) == 0 {
					u.wait(mine, 0, Never)
				}
				u.store(mine, 0)
				u.store(other, 1)
				u.wake(other, 1)
			}
		}
		u.store(a, 1)
		u.clone(CloneArgs{Flags: threadFlags | unix.CLONE_CHILD_CLEARTID | unix.CLONE_CHILD_SETTID, ChildTID: dataBase + 8}, func(u *uprog) { pass(u, b, a) })
		pass(u, a, b)
		for {
			tid := u.load(dataBase + 8)
			if tid == 0 {
				break
			}
			u.do(func(t *Thread) error { return t.FutexWait(dataBase+8, true, tid, FutexAll, Never) })
		}
	})
}

// A mutex as C libraries build it, with many threads: no increment and no wakeup may be lost.
func TestFutexMutexStress(t *testing.T) {
	const threads, rounds = 8, 300
	lock, count, done := uint64(dataBase), uint64(dataBase+4), uint64(dataBase+8)
	m := play(t, func(u *uprog) {
		cas := func(u *uprog, addr uint64, old, new uint32) uint32 {
			prev, err := u.t.MM().CompareAndSwap32(addr, old, new)
			if err != nil {
				u.m.Error(err)
			}
			return prev
		}
		work := func(u *uprog) {
			for i := range rounds {
				if c := cas(u, lock, 0, 1); c != 0 {
					for {
						if c == 2 || cas(u, lock, 1, 2) != 0 {
							u.wait(lock, 2, After(10*time.Second))
						}
						if c = cas(u, lock, 0, 2); c == 0 {
							break
						}
					}
				}
				u.store(count, u.load(count)+1)
				if i%7 == 0 {
					u.interrupt()
				}
				for {
					v := u.load(lock)
					if cas(u, lock, v, 0) == v {
						if v == 2 {
							u.wake(lock, 1)
						}
						break
					}
				}
			}
			for {
				v := u.load(done)
				if cas(u, done, v, v+1) == v {
					break
				}
			}
			u.wake(done, 1)
		}
		for range threads {
			u.spawn(work)
		}
		for {
			v := u.load(done)
			if v == threads {
				break
			}
			u.wait(done, v, Never)
		}
		u.expect("count", u.load(count), uint32(threads*rounds))
	})
	m.noWaiters()
}

// noWaiters checks that nobody is left in a queue.
func (m *machine) noWaiters() {
	m.Helper()
	for i := range m.k.futexes.buckets {
		if m.k.futexes.buckets[i].head != nil {
			m.Errorf("bucket %d is not empty", i)
		}
	}
}

// waiting waits until n threads are queued anywhere.
func (u *uprog) waiting(n int) {
	for range 2000 {
		got := 0
		for i := range u.m.k.futexes.buckets {
			b := &u.m.k.futexes.buckets[i]
			b.mu.Lock()
			for w := b.head; w != nil; w = w.next {
				got++
			}
			b.mu.Unlock()
		}
		if got == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	u.m.Errorf("never %d threads wait", n)
}

func TestFutexBitsetAndRequeue(t *testing.T) {
	a, b := uint64(dataBase), uint64(dataBase+64)
	m := play(t, func(u *uprog) {
		var woken atomic.Uint32
		for i := range 5 {
			u.spawn(func(u *uprog) {
				u.do(func(t *Thread) error { return t.FutexWait(a, false, 0, 1<<i, Never) })
				woken.Or(1 << i)
			})
		}
		u.waiting(5)
		u.expect("bitset", u.sys(func(t *Thread) (uint64, error) { n, err := t.FutexWake(a, false, 9, 1<<3); return uint64(n), err }), int64(1))
		u.waiting(4)
		one := uint32(1)
		requeue := func(wake, move int, cmp *uint32) int64 {
			return u.sys(func(t *Thread) (uint64, error) {
				n, err := t.FutexRequeue(a, b, false, wake, move, cmp)
				return uint64(n), err
			})
		}
		u.expect("value differs", requeue(1, 1, &one), -int64(unix.EAGAIN))
		zero := uint32(0)
		u.expect("one woken, two moved", requeue(1, 2, &zero), int64(3))
		u.waiting(3)
		u.expect("two at b", u.wake(b, 9), int64(2))
		// WAKE_OP: b |= 4 gives 0, which is less than 1: wake at both.
		u.spawn(func(u *uprog) { u.wait(b, 0, Never) })
		u.waiting(2)
		op := uint32(2<<28 | 2<<24 | 4<<12 | 1)
		u.expect("wake_op", u.sys(func(t *Thread) (uint64, error) { n, err := t.FutexWakeOp(a, b, false, 1, 1, op); return uint64(n), err }), int64(2))
		u.expect("b", u.load(b), uint32(4))
		u.waiting(0)
	})
	m.noWaiters()
}

func TestFutexOperate(t *testing.T) {
	for _, c := range []struct{ op, v, want uint32 }{
		{0<<28 | 7<<12, 1, 7}, {1<<28 | 0xfff<<12, 1, 0}, {3<<28 | 1<<12, 3, 2}, {4<<28 | 1<<12, 3, 2}, {8<<28 | 2<<28 | 4<<12, 0, 16},
	} {
		if got, ok := futexOperate(c.op, c.v); !ok || got != c.want {
			t.Errorf("operate(%#x, %d) = %d, want %d", c.op, c.v, got, c.want)
		}
	}
	if _, ok := futexOperate(5<<28, 0); ok {
		t.Error("operation 5 exists")
	}
	if !futexCompare(0xfff, ^uint32(0)) || !futexCompare(2<<24, ^uint32(0)) || futexCompare(4<<24, ^uint32(0)) {
		t.Error("comparisons are not signed")
	}
}

func TestFutexWaitMultiple(t *testing.T) {
	play(t, func(u *uprog) {
		var at []FutexWaitV
		for i := range uint64(4) {
			at = append(at, FutexWaitV{Addr: dataBase + i*4, Flags: futex2Size32 | futex2Private})
		}
		waitv := func(u *uprog, d Deadline) int64 {
			return u.sys(func(t *Thread) (uint64, error) { n, err := t.FutexWaitMultiple(at, d); return uint64(n), err })
		}
		u.expect("timeout", waitv(u, After(time.Millisecond)), -int64(unix.ETIMEDOUT))
		got := make(chan int64)
		u.spawn(func(u *uprog) { got <- waitv(u, Never) })
		u.waiting(4)
		u.expect("woken", u.wake(dataBase+8, 1), int64(1))
		u.expect("index", <-got, int64(2))
		u.waiting(0)
		at[3].Value = 1
		u.expect("value differs", waitv(u, Never), -int64(unix.EAGAIN))
		u.waiting(0)
	})
}

func TestFutexInterrupted(t *testing.T) {
	m := play(t, func(u *uprog) {
		usr1 := Signal(unix.SIGUSR1)
		u.on(unix.SIGUSR1, SARestart, func(u *uprog, t *Thread) { u.store(dataBase, 1) })
		u.later(func() { u.t.Proc.Kill(usr1, KernelInfo(usr1)) })
		u.expect("no timeout: starts over", u.wait(dataBase, 0, Never), unix.EAGAIN)
		u.store(dataBase, 0)
		u.later(func() { u.t.Proc.Kill(usr1, KernelInfo(usr1)) })
		u.expect("timeout: EINTR", u.wait(dataBase, 0, After(time.Hour)), unix.EINTR)
	})
	m.noWaiters()
}

func TestRobustList(t *testing.T) {
	play(t, func(u *uprog) {
		const head, entry, entry2, pending, offset = dataBase, dataBase + 0x100, dataBase + 0x200, dataBase + 0x300, 0x20
		put := func(addr, v uint64) { u.t.MM().WriteUint64(addr, v) }
		put(head, entry)
		put(head+8, offset)
		put(head+16, pending)
		put(entry, entry2)
		put(entry2, entry) // a ring that never comes back to the head
		tids := make(chan int32, 1)
		u.spawn(func(u *uprog) {
			u.store(entry+offset, uint32(u.t.TID)|futexWaiters)
			u.store(entry2+offset, 4711)
			u.store(pending+offset, uint32(u.t.TID))
			u.expect("bad size", u.do(func(t *Thread) error { return t.SetRobustList(head, 8) }), unix.EINVAL)
			u.do(func(t *Thread) error { return t.SetRobustList(head, 24) })
			tids <- u.t.TID
			for u.load(dataBase+0x400) == 0 {
				u.wait(dataBase+0x400, 0, Never)
			}
		})
		tid := uint32(<-tids)
		u.spawn(func(u *uprog) {
			u.do(func(t *Thread) error { return t.FutexWait(entry+offset, true, tid|futexWaiters, FutexAll, Never) })
			u.store(dataBase+0x404, 1)
			u.wake(dataBase+0x404, 1)
		})
		u.waiting(2)
		u.store(dataBase+0x400, 1)
		u.wake(dataBase+0x400, 1)
		for u.load(dataBase+0x404) == 0 {
			u.wait(dataBase+0x404, 0, Never)
		}
		u.expect("held", u.load(entry+offset), uint32(futexWaiters|futexDied))
		u.expect("another's", u.load(entry2+offset), uint32(4711))
		for u.load(pending+offset) == tid { // comes after the wakeup
			time.Sleep(time.Millisecond)
		}
		u.expect("pending", u.load(pending+offset), uint32(futexDied))
	})
}

func TestFutexPI(t *testing.T) {
	m := play(t, func(u *uprog) {
		const a, flag = dataBase, dataBase + 8
		lock := func(u *uprog, try bool, d Deadline) unix.Errno {
			return u.do(func(t *Thread) error { return t.FutexLockPI(a, false, try, d) })
		}
		unlock := func(u *uprog) unix.Errno { return u.do(func(t *Thread) error { return t.FutexUnlockPI(a, false) }) }
		u.expect("unlock of a free one", unlock(u), unix.EPERM)
		u.expect("lock", lock(u, false, Never), unix.Errno(0))
		u.expect("word", u.load(a), uint32(u.t.TID))
		u.expect("deadlock", lock(u, false, Never), unix.EDEADLK)
		turns := make(chan int32, 2)
		for range 2 {
			u.spawn(func(u *uprog) {
				u.expect("try", lock(u, true, Never), unix.EAGAIN)
				u.expect("timeout", lock(u, false, After(time.Millisecond)), unix.ETIMEDOUT)
				u.expect("lock", lock(u, false, Never), unix.Errno(0))
				u.expect("owner", u.load(a)&futexTIDMask, uint32(u.t.TID))
				turns <- u.t.TID
				u.wait(flag, 0, Never)
				u.expect("unlock", unlock(u), unix.Errno(0))
			})
			time.Sleep(20 * time.Millisecond) // let it time out, and get in line
		}
		u.waiting(2)
		u.expect("unlock", unlock(u), unix.Errno(0))
		<-turns
		u.waiting(2) // one at the flag, one at the lock
		u.wake(flag, 1)
		<-turns
		u.waiting(1)
		// The owner dies: its heir gets the mark.
		got := make(chan uint32, 1)
		u.spawn(func(u *uprog) { lock(u, false, Never); got <- u.load(a) })
		u.waiting(2)
		u.store(flag, 1)
		u.spawn(func(u *uprog) {})
		u.wake(flag, 1)
		<-got
		u.store(a, 4711)
		u.expect("no such owner", lock(u, false, Never), unix.ESRCH)
	})
	m.noWaiters()
}

func TestFutexPIOwnerDies(t *testing.T) {
	play(t, func(u *uprog) {
		const a = dataBase
		locked := make(chan bool)
		u.spawn(func(u *uprog) {
			u.do(func(t *Thread) error { return t.FutexLockPI(a, false, false, Never) })
			locked <- true
			u.waiting(1)
		})
		<-locked
		u.expect("lock", u.do(func(t *Thread) error { return t.FutexLockPI(a, false, false, Never) }), unix.Errno(0))
		u.expect("word", u.load(a)&(futexTIDMask|futexDied), uint32(u.t.TID)|futexDied)
	})
}
