package kernel

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSleep(t *testing.T) {
	play(t, func(u *uprog) {
		start := time.Now()
		u.expect("sleep", u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, 30*time.Millisecond, false, 0) }), unix.Errno(0))
		u.expect("long enough", time.Since(start) >= 30*time.Millisecond, true)
		u.expect("absolute", u.do(func(t *Thread) error {
			return t.Sleep(unix.CLOCK_REALTIME, time.Duration(Realtime())+time.Millisecond, true, 0)
		}), unix.Errno(0))
		u.expect("thread clock", u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_THREAD_CPUTIME_ID, 1, false, 0) }), unix.EOPNOTSUPP)
		u.expect("coarse clock", u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_REALTIME_COARSE, 1, false, 0) }), unix.EOPNOTSUPP)
		usr1 := Signal(unix.SIGUSR1)
		u.on(unix.SIGUSR1, SARestart, func(u *uprog, t *Thread) {})
		u.later(func() { u.t.Proc.Kill(usr1, KernelInfo(usr1)) })
		u.expect("interrupted", u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, time.Hour, false, dataBase) }), unix.EINTR)
		left, _ := u.t.MM().ReadUint64(dataBase)
		u.expect("time left", left, uint64(3599))
		// Stopped and continued it sleeps on, by restart_syscall.
		u.later(func() {
			u.t.Proc.Kill(sigStop, KernelInfo(sigStop))
			time.Sleep(10 * time.Millisecond)
			u.t.Proc.Kill(sigCont, KernelInfo(sigCont))
		})
		start = time.Now()
		u.expect("stopped", u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, 60*time.Millisecond, false, 0) }), unix.Errno(0))
		u.expect("not again from the start", time.Since(start) < 10*time.Second, true)
	})
}

func TestITimers(t *testing.T) {
	play(t, func(u *uprog) {
		var alarms atomic.Int32
		count := func(u *uprog, t *Thread) { alarms.Add(1) }
		u.on(unix.SIGALRM, 0, count)
		set := func(which int, value, interval time.Duration) (old time.Duration) {
			u.do(func(t *Thread) (err error) { old, _, err = t.Proc.SetITimer(which, value, interval); return err })
			return old
		}
		set(ITimerReal, 5*time.Millisecond, 5*time.Millisecond)
		for alarms.Load() < 3 {
			u.do((*Thread).Pause)
		}
		set(ITimerReal, time.Hour, 0)
		old := set(ITimerReal, 0, 0)
		u.expect("old value", old > 59*time.Minute && old <= time.Hour, true)
		u.expect("no such timer", u.do(func(t *Thread) error { _, _, err := t.Proc.SetITimer(3, 0, 0); return err }), unix.EINVAL)
		for which, sig := range map[int]unix.Signal{ITimerVirtual: unix.SIGVTALRM, ITimerProf: unix.SIGPROF} {
			u.on(sig, 0, count)
			before := alarms.Load()
			set(which, time.Millisecond, time.Millisecond)
			for alarms.Load() < before+3 {
				u.interrupt()
			}
			set(which, 0, 0)
		}
		// An absurd interval does not drown the machine.
		set(ITimerReal, 1, 1)
		u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, time.Millisecond, false, 0) })
		set(ITimerReal, 0, 0)
	})
}

func TestPosixTimers(t *testing.T) {
	play(t, func(u *uprog) {
		usr1 := Signal(unix.SIGUSR1)
		create := func(clock int, e *SigEvent) (int32, unix.Errno) {
			var id int32
			err := u.do(func(t *Thread) (err error) { id, err = t.TimerCreate(clock, e); return err })
			return id, err
		}
		_, e := create(4711, nil)
		u.expect("no such clock", e, unix.EINVAL)
		_, e = create(unix.CLOCK_MONOTONIC, &SigEvent{Notify: SigEvThreadID, TID: 4711, Signal: usr1})
		u.expect("no such thread", e, unix.EINVAL)
		_, e = create(unix.CLOCK_MONOTONIC, &SigEvent{Signal: 65})
		u.expect("no such signal", e, unix.EINVAL)

		u.do(func(t *Thread) error { t.SetMask(SetOf(usr1)); return nil })
		for _, notify := range []int32{SigEvSignal, SigEvThreadID} {
			id, e := create(unix.CLOCK_MONOTONIC, &SigEvent{Notify: notify, TID: u.t.TID, Signal: usr1, Value: 77})
			u.expect("timer_create", e, unix.Errno(0))
			u.do(func(t *Thread) error { _, _, err := t.Proc.TimerSetTime(id, 1, time.Millisecond, false); return err })
			time.Sleep(20 * time.Millisecond)
			var i Siginfo
			u.do(func(t *Thread) (err error) { i, err = t.SigTimedWait(SetOf(usr1), After(time.Second)); return err })
			u.expect("code", i.Code, int32(SITimer))
			u.expect("value", i.Value(), uint64(77))
			u.expect("overrun", i.Overrun() >= 5, true)
			n, _ := u.t.Proc.TimerGetOverrun(id)
			u.expect("getoverrun", int32(n), i.Overrun())
			u.do(func(t *Thread) (err error) { i, err = t.SigTimedWait(SetOf(usr1), After(time.Second)); return err })
			u.expect("goes on", i.Code, int32(SITimer))
			u.expect("delete", u.do(func(t *Thread) error { return t.Proc.TimerDelete(id) }), unix.Errno(0))
			u.expect("deleted", u.do(func(t *Thread) error { return t.Proc.TimerDelete(id) }), unix.EINVAL)
			u.do(func(t *Thread) error { t.DequeueSignal(SetOf(usr1)); return nil })
		}
		id, _ := create(unix.CLOCK_PROCESS_CPUTIME_ID, &SigEvent{Signal: usr1})
		u.do(func(t *Thread) error { _, _, err := t.Proc.TimerSetTime(id, time.Millisecond, 0, false); return err })
		for u.t.PendingIn(SetOf(usr1)) == 0 {
			u.interrupt()
		}
		id, _ = create(unix.CLOCK_REALTIME, &SigEvent{Notify: SigEvNone})
		u.do(func(t *Thread) error { _, _, err := t.Proc.TimerSetTime(id, time.Hour, 0, false); return err })
		left, _, _ := u.t.Proc.TimerGetTime(id)
		u.expect("left", left > 59*time.Minute, true)
	})
}

// The timer reads the process's CPU time when its signal is delivered: that must not need a lock that is
// held then.
func TestCPUTimerWithInterval(t *testing.T) {
	play(t, func(u *uprog) {
		n := 0
		u.on(unix.SIGPROF, 0, func(*uprog, *Thread) { n++ })
		for _, clock := range []int{unix.CLOCK_PROCESS_CPUTIME_ID, unix.CLOCK_THREAD_CPUTIME_ID} {
			n = 0
			u.do(func(t *Thread) error {
				id, err := t.TimerCreate(clock, &SigEvent{Signal: Signal(unix.SIGPROF)})
				t.Proc.TimerSetTime(id, time.Millisecond, time.Millisecond, false)
				return err
			})
			for n < 3 {
				u.interrupt()
			}
		}
	})
}

// While a timer's signal is ignored, the timer goes on.
func TestTimerOfIgnoredSignal(t *testing.T) {
	play(t, func(u *uprog) {
		usr1 := Signal(unix.SIGUSR1)
		ignore := func() {
			u.do(func(t *Thread) error { _, err := t.Proc.SetAction(usr1, Action{Handler: SigIgn}); return err })
		}
		u.do(func(t *Thread) error {
			t.SetMask(SetOf(usr1))
			id, err := t.TimerCreate(unix.CLOCK_MONOTONIC, &SigEvent{Signal: usr1})
			t.Proc.TimerSetTime(id, time.Millisecond, time.Millisecond, false)
			return err
		})
		time.Sleep(5 * time.Millisecond)
		ignore()
		u.do(func(t *Thread) error { t.SetMask(0); return nil })
		time.Sleep(5 * time.Millisecond)
		ran := false
		u.on(unix.SIGUSR1, 0, func(*uprog, *Thread) { ran = true })
		for start := time.Now(); !ran && time.Since(start) < 5*time.Second; {
			u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, time.Millisecond, false, 0) })
		}
		u.expect("ran", ran, true)
	})
}

func TestSetClockWakesSleepers(t *testing.T) {
	defer wallOffsetNS.Store(0)
	play(t, func(u *uprog) {
		target := Realtime() + int64(time.Hour)
		timer, err := u.t.NewTimer(unix.CLOCK_REALTIME, func() {})
		u.expect("timer", err, nil)
		timer.Set(time.Duration(target), 0, true)
		u.later(func() { SetRealtime(target + 1) })
		u.expect("sleep", u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_REALTIME, time.Duration(target), true, 0) }), unix.Errno(0))
		for !timer.Expired() {
			time.Sleep(time.Millisecond)
		}
		u.expect("expirations", timer.Expirations(), uint64(1))
	})
}

// A clock that was set to the second follows what is known of the host's, and no further.
func TestRealtimePassed(t *testing.T) {
	defer SetRealtime(time.Now().UnixNano())
	const second = int64(1e9)
	near := func(what string, wanted int64) {
		t.Helper()
		if now := Realtime(); now < wanted || now > wanted+second/2 {
			t.Errorf("%s: %d, want %d", what, now, wanted)
		}
	}
	base := 2000 * second
	SetRealtimeAtLeast(base, 3*second)
	RealtimePassed(base - second)
	near("the past", base)
	RealtimePassed(base + 10*second)
	near("too far", base)
	RealtimePassed(base + 2*second)
	near("late", base+2*second)
	RealtimePassed(base + 4*second)
	near("later than it can be", base+2*second)
	SetRealtime(base)
	RealtimePassed(base + second)
	near("set by a program", base)
}

func TestCPULimit(t *testing.T) {
	m := boot(t, func(u *uprog) {
		u.do(func(t *Thread) error {
			return t.Proc.Limits.Set(unix.RLIMIT_CPU, unix.Rlimit{Cur: 0, Max: 1}, t.Creds())
		})
		for {
			u.interrupt()
		}
	})
	if s := m.run(); s.Signal() != Signal(unix.SIGXCPU) {
		t.Errorf("status is %#x", uint32(s))
	}
}
