package kernel

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Queued signals, process- and thread-directed, hit threads that sleep, wait for futexes and run: each
// runs its handler once, and every wait ends.
func TestSignalStorm(t *testing.T) {
	const threads, each = 6, 200
	m := play(t, func(u *uprog) {
		var handled, sent, left atomic.Int32
		for _, sig := range []unix.Signal{40, 41} {
			u.on(sig, map[bool]uint64{true: SARestart}[sig == 40], func(*uprog, *Thread) { handled.Add(1) })
		}
		left.Store(threads)
		tids := make([]int32, threads)
		for i := range threads {
			tids[i] = u.spawn(func(u *uprog) {
				random := rand.New(rand.NewPCG(uint64(i), 1))
				for handled.Load() < threads*each {
					switch random.IntN(5) {
					case 0:
						u.wait(dataBase, 0, After(time.Millisecond))
					case 1:
						u.wake(dataBase, 3)
					case 2:
						u.interrupt()
					case 3:
						u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, 100*time.Microsecond, false, 0) })
					case 4:
						old := u.t.Mask()
						u.do(func(t *Thread) error { t.SetMask(SetOf(40, 41)); return nil })
						u.do(func(t *Thread) error { return t.SigSuspendFor(old, time.Millisecond) })
						u.do(func(t *Thread) error { t.SetMask(old); return nil })
					}
				}
				left.Add(-1)
			})
		}
		for sent.Load() < threads*each {
			n := sent.Add(1)
			var e unix.Errno
			for {
				if n%2 == 0 {
					e = u.do(func(t *Thread) error { return t.SigQueueInfo(t.Proc.PID, 40, Siginfo{Code: SIQueue}) })
				} else {
					e = u.do(func(t *Thread) error {
						return t.TGSigQueueInfo(t.Proc.PID, tids[n%threads], 41, Siginfo{Code: SIQueue})
					})
				}
				if e != unix.EAGAIN && e != unix.EINTR {
					break
				}
			}
			u.expect("send", e, unix.Errno(0))
		}
		for left.Load() != 0 {
			u.wake(dataBase, threads)
			time.Sleep(time.Millisecond)
		}
		u.expect("handled", handled.Load(), int32(threads*each))
	})
	m.noWaiters()
	if n := m.k.user(0).signals.Load(); n != 0 {
		t.Errorf("%d signals are still counted", n)
	}
}

// SigSuspendFor is ppoll without descriptors.
func (t *Thread) SigSuspendFor(mask SigSet, d time.Duration) error {
	t.SetTemporaryMask(mask)
	t.PrepareBlock()
	deadline := After(d)
	for {
		switch err := t.Block(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			t.RestoreMask()
			return nil
		default:
			return ERESTARTNOHAND
		}
	}
}

// Stops and continues at random instants lose no thread.
func TestStopStorm(t *testing.T) {
	play(t, func(u *uprog) {
		child := u.clone(CloneArgs{ExitSignal: sigChld}, func(u *uprog) {
			for range 3 {
				u.spawn(func(u *uprog) {
					for {
						u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, 200*time.Microsecond, false, 0) })
						u.interrupt()
					}
				})
			}
			for {
				u.wait(dataBase, 0, After(300*time.Microsecond))
			}
		})
		wait := func(options int) (w Waited) {
			for {
				e := u.do(func(t *Thread) (err error) { w, err = t.WaitChild(WaitFor{PID: child, Options: options}); return err })
				if e == 0 {
					return w
				}
				u.expect("wait", e, unix.EINTR)
			}
		}
		for range 100 {
			u.do(func(t *Thread) error { return t.Kill(child, sigStop) })
			w := wait(unix.WSTOPPED)
			u.expect("stopped", w.Code, int32(CLDStopped))
			u.do(func(t *Thread) error { return t.Kill(child, sigCont) })
			wait(unix.WCONTINUED)
		}
		u.do(func(t *Thread) error { return t.Kill(child, sigKill) })
		u.expect("killed", wait(unix.WEXITED).Status, Killed(sigKill))
	})
}
