package kernel

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/runtime/metal"
)

// Waiting. There is one primitive, Block, which an event, a signal or a deadline ends. Whoever waits
//
//	t.PrepareBlock()
//	register t with what will call t.Wake
//	for !condition() {
//		if err := t.Block(deadline); err != nil {
//			look at the condition once more, then give up with err
//		}
//	}
//	unregister
//
// loses no wakeup: a Wake after PrepareBlock stays in the thread's parker until a Block takes it. A Wake
// without reason costs one more turn. Block allocates nothing, but for the timer of the first Block of
// a thread that has a deadline.
//
// ERESTARTSYS from Block is the right result of most calls: see restart.go. A call that must not start
// over (because of its timeout, or because Linux never restarts it) turns it into ERESTARTNOHAND, EINTR
// or RestartWith.

// Wake ends t's Block, or the next one if t is not in one. It may be called from any goroutine and takes
// no lock.
func (t *Thread) Wake() { t.parker.Wake() }

// PrepareBlock forgets a Wake that is left over.
func (t *Thread) PrepareBlock() { t.parker.Reset() }

// Interrupted reports whether a signal waits for delivery, or the thread has to stop or to go.
func (t *Thread) Interrupted() bool { return t.work.Load()&interrupts != 0 }

// Block parks the thread until Wake, which is nil and may come without reason; until a signal or the
// thread's end, which is ERESTARTSYS; or until d, which is ETIMEDOUT.
func (t *Thread) Block(d Deadline) error {
	if t.Interrupted() {
		return ERESTARTSYS
	}
	if d.IsNever() {
		t.park()
		if t.Interrupted() {
			return ERESTARTSYS
		}
		return nil
	}
	return t.blockUntil(d)
}

func (t *Thread) blockUntil(d Deadline) error {
	if d.wall {
		watchClock(t)
		defer unwatchClock(t)
	}
	left := d.Left()
	if left <= 0 {
		return unix.ETIMEDOUT
	}
	if t.alarm == nil {
		t.alarm = time.AfterFunc(left, t.Wake)
	} else {
		t.alarm.Reset(left)
	}
	t.park()
	if t.Interrupted() {
		t.alarm.Stop()
		return ERESTARTSYS
	}
	if !t.alarm.Stop() && d.Passed() {
		return unix.ETIMEDOUT
	}
	return nil
}

// park gives the CPU up until the next Wake.
func (t *Thread) park() {
	t.cpu.stop()
	t.state.Store(stateSleeping)
	t.parker.Park()
	t.state.Store(stateRunning)
	t.Switches.Add(1)
	t.cpu.start()
}

func watchClock(t *Thread) {
	clockSet.mu.Lock()
	defer clockSet.mu.Unlock()
	if clockSet.waiters == nil {
		clockSet.waiters = make(map[*Thread]struct{})
	}
	clockSet.waiters[t] = struct{}{}
}

func unwatchClock(t *Thread) {
	clockSet.mu.Lock()
	defer clockSet.mu.Unlock()
	delete(clockSet.waiters, t)
}

// BlockOn waits until w is ready for something in mask, errors and hang-ups included: nil, ERESTARTSYS
// or ETIMEDOUT.
func (t *Thread) BlockOn(w waiter.Waitable, mask waiter.EventMask, d Deadline) error {
	mask |= waiter.EventErr | waiter.EventHUp
	for {
		if err := t.Await(w, mask, d); err != nil || w.Readiness(mask)&mask != 0 {
			return err
		}
	}
}

// Await is BlockOn for those who look themselves whether w is ready: nil may come without reason. It asks
// w once less.
func (t *Thread) Await(w waiter.Waitable, mask waiter.EventMask, d Deadline) error {
	mask |= waiter.EventErr | waiter.EventHUp
	if err := w.EventRegister(t.Listen(mask)); err != nil {
		return err
	}
	t.watched = w // should w panic, the thread's loop unregisters
	var err error
	if w.Readiness(mask)&mask == 0 {
		err = t.Block(d)
		if err != nil && w.Readiness(mask)&mask != 0 {
			err = nil
		}
	}
	t.watched = nil
	w.EventUnregister(&t.entry)
	return err
}

// Listen prepares a Block and returns an entry to register: what it hears wakes t. It is t's only one.
func (t *Thread) Listen(mask waiter.EventMask) *waiter.Entry {
	t.PrepareBlock()
	t.entry.Init(t, mask)
	return &t.entry
}

// Yield lets other threads run (sched_yield(2)).
func (t *Thread) Yield() {
	if metal.Idle() {
		return
	}
	t.cpu.stop()
	runtime.Gosched()
	t.cpu.start()
}

// Sleep is nanosleep(2) and clock_nanosleep(2): d is the time to sleep or, absolute, the time of clock to
// sleep until. A relative sleep that a signal interrupts writes the time left to rem, unless that is 0,
// and goes on by restart_syscall; an absolute one starts over.
func (t *Thread) Sleep(clock int, d time.Duration, absolute bool, rem uint64) error {
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI,
		unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
	case unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_MONOTONIC_COARSE, unix.CLOCK_THREAD_CPUTIME_ID:
		return unix.EOPNOTSUPP // glibc makes EINVAL of the last
	default:
		return t.sleepCPU(clock, d, absolute)
	}
	if !absolute {
		return t.sleepUntil(After(d), rem)
	}
	until, err := At(clock, int64(d))
	if err != nil {
		return err
	}
	t.PrepareBlock()
	for {
		switch err := t.Block(until); err {
		case nil:
		case unix.ETIMEDOUT:
			return nil
		default:
			return ERESTARTNOHAND
		}
	}
}

func (t *Thread) sleepUntil(until Deadline, rem uint64) error {
	t.PrepareBlock()
	for {
		switch err := t.Block(until); err {
		case nil:
			continue
		case unix.ETIMEDOUT:
			return nil
		}
		left := until.Left()
		if left <= 0 {
			return nil
		}
		if rem != 0 {
			if err := t.writeTimespec(rem, left); err != nil {
				return err
			}
		}
		return t.RestartWith(func(t *Thread) (uint64, error) { return 0, t.sleepUntil(until, rem) })
	}
}

func (t *Thread) writeTimespec(addr uint64, d time.Duration) error {
	if err := t.MM().WriteUint64(addr, uint64(d/time.Second)); err != nil {
		return err
	}
	return t.MM().WriteUint64(addr+8, uint64(d%time.Second))
}

// sleepCPU sleeps on a CPU clock.
func (t *Thread) sleepCPU(clock int, d time.Duration, absolute bool) error {
	c, err := t.cpuClock(clock)
	if err != nil {
		return err
	}
	if c.thread == t {
		return unix.EINVAL
	}
	timer, err := t.NewTimer(clock, t.Wake)
	if err != nil {
		return err
	}
	defer timer.Stop()
	t.PrepareBlock()
	timer.Set(d, 0, absolute)
	for timer.Expirations() == 0 {
		if err := t.Block(Never); err != nil {
			return ERESTARTNOHAND
		}
	}
	return nil
}
