package kernel

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
)

func TestCloneFlags(t *testing.T) {
	play(t, func(u *uprog) {
		for name, a := range map[string]CloneArgs{
			"THREAD without SIGHAND": {Flags: unix.CLONE_THREAD | unix.CLONE_VM},
			"SIGHAND without VM":     {Flags: unix.CLONE_SIGHAND},
			"SIGHAND and CLEAR":      {Flags: unix.CLONE_SIGHAND | unix.CLONE_VM | unix.CLONE_CLEAR_SIGHAND},
			"NEWNS":                  {Flags: unix.CLONE_NEWNS},
			"exit signal 65":         {ExitSignal: 65},
		} {
			u.expect(name, u.do(func(t *Thread) error { _, err := t.Clone(a); return err }), unix.EINVAL)
		}
		done := make(chan bool)
		tid := u.clone(CloneArgs{
			Flags: threadFlags | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_SETTID, TLS: 0x1234000,
			ParentTID: dataBase, ChildTID: dataBase + 4, Stack: dataBase + 0x8000,
		}, func(u *uprog) {
			u.expect("FS base", u.t.Ctx.FSBase(), uint64(0x1234000))
			u.expect("stack", u.t.Ctx.RSP, uint64(dataBase+0x8000))
			u.expect("rax", u.t.Ctx.OrigRAX != 0, true)
			done <- true
		})
		<-done
		u.expect("parent's word", u.load(dataBase), uint32(tid))
		u.expect("child's word", u.load(dataBase+4), uint32(tid))
	})
}

func TestManyThreads(t *testing.T) {
	const threads = 10000
	before := metal.Frames()
	m := play(t, func(u *uprog) {
		var ran atomic.Int32
		for range threads {
			u.spawn(func(u *uprog) {
				ran.Add(1)
				u.wait(dataBase, 0, Never)
			})
		}
		u.waiting(threads)
		u.store(dataBase, 1)
		u.expect("woken", u.wake(dataBase, threads), int64(threads))
		u.expect("ran", ran.Load(), int32(threads))
	})
	if n, _ := m.k.Counts(); n != 0 {
		t.Errorf("%d threads are left", n)
	}
	if after := metal.Frames(); before.ByOwner != after.ByOwner {
		t.Errorf("frames before %v, after %v", before.ByOwner, after.ByOwner)
	}
}

func TestThreadLimit(t *testing.T) {
	m := boot(t, func(u *uprog) {
		u.m.k.config.MaxTasks = 3
		u.spawn(func(u *uprog) { u.do((*Thread).Pause) })
		u.spawn(func(u *uprog) { u.do((*Thread).Pause) })
		u.expect("one too many", u.do(func(t *Thread) error { _, err := t.Clone(CloneArgs{Flags: threadFlags}); return err }), unix.EAGAIN)
	})
	m.run()
}

func TestExitGroupWithBlockedThreads(t *testing.T) {
	m := boot(t, func(u *uprog) {
		usr1 := SetOf(Signal(unix.SIGUSR1))
		for _, p := range []program{
			func(u *uprog) { u.wait(dataBase, 0, Never) },
			func(u *uprog) { u.do((*Thread).Pause) },
			func(u *uprog) {
				u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_REALTIME, time.Hour, false, 0) })
			},
			func(u *uprog) { u.do(func(t *Thread) error { _, err := t.SigTimedWait(usr1, Never); return err }) },
			func(u *uprog) {
				u.do(func(t *Thread) error {
					_, err := t.FutexWaitMultiple([]FutexWaitV{{Addr: dataBase, Flags: 2}}, Never)
					return err
				})
			},
			func(u *uprog) {
				u.clone(CloneArgs{ExitSignal: sigChld, Flags: unix.CLONE_VFORK | unix.CLONE_VM}, func(u *uprog) { u.do((*Thread).Pause) })
			},
			func(u *uprog) {
				for {
					u.interrupt()
				}
			},
		} {
			u.spawn(p)
		}
		time.Sleep(20 * time.Millisecond)
		u.do(func(t *Thread) error { t.ExitGroup(42); return nil })
	})
	if s := m.run(); s != Exited(42) {
		t.Errorf("status is %#x", uint32(s))
	}
	m.noWaiters()
}

func TestExitOfLeaderThread(t *testing.T) {
	m := boot(t, func(u *uprog) {
		u.spawn(func(u *uprog) {
			time.Sleep(20 * time.Millisecond)
			u.expect("leader", u.t.Proc.Leader().State(), byte('Z'))
			u.do(func(t *Thread) error { t.Exit(7); return nil })
		})
		u.do(func(t *Thread) error { t.Exit(3); return nil })
	})
	if s := m.run(); s != Exited(3) {
		t.Errorf("status is %#x: it is the leader's", uint32(s))
	}
}

func TestForkAndWait(t *testing.T) {
	before := metal.Frames()
	m := play(t, func(u *uprog) {
		u.store(dataBase, 1)
		child := u.clone(CloneArgs{ExitSignal: sigChld}, func(u *uprog) {
			u.expect("parent", u.t.Proc.ParentPID(), int32(1))
			u.expect("copied memory", u.load(dataBase), uint32(1))
			u.store(dataBase, 2)
			u.do(func(t *Thread) error { t.ExitGroup(9); return nil })
		})
		var w Waited
		u.expect("wait", u.do(func(t *Thread) (err error) { w, err = t.WaitChild(WaitFor{Options: unix.WEXITED}); return err }), unix.Errno(0))
		u.expect("pid", w.PID, child)
		u.expect("status", w.Status, Exited(9))
		u.expect("own memory", u.load(dataBase), uint32(1))
		u.expect("no child left", u.do(func(t *Thread) error { _, err := t.WaitChild(WaitFor{Options: unix.WEXITED}); return err }), unix.ECHILD)
		// SIGCHLD ignored: no zombie.
		u.do(func(t *Thread) error { _, err := t.Proc.SetAction(sigChld, Action{Handler: SigIgn}); return err })
		u.clone(CloneArgs{ExitSignal: sigChld}, func(u *uprog) {})
		u.expect("reaped", u.do(func(t *Thread) error { _, err := t.WaitChild(WaitFor{Options: unix.WEXITED}); return err }), unix.ECHILD)
		// vfork waits, shares memory.
		u.clone(CloneArgs{ExitSignal: sigChld, Flags: unix.CLONE_VM | unix.CLONE_VFORK}, func(u *uprog) { u.store(dataBase, 3) })
		u.expect("shared memory", u.load(dataBase), uint32(3))
	})
	if n := len(m.k.threads); n != 0 {
		t.Errorf("%d threads are left in the table", n)
	}
	if after := metal.Frames(); before.ByOwner != after.ByOwner {
		t.Errorf("frames before %v, after %v", before.ByOwner, after.ByOwner)
	}
}

func TestOrphansAndSigchld(t *testing.T) {
	play(t, func(u *uprog) {
		got := make(chan Siginfo, 4)
		u.on(unix.SIGCHLD, SASiginfo, func(u *uprog, t *Thread) {
			var b [SiginfoSize]byte
			t.MM().CopyIn(b[:], t.Ctx.RSI)
			got <- DecodeSiginfo(b[:])
		})
		grandchild := make(chan int32, 1)
		child := u.clone(CloneArgs{ExitSignal: sigChld}, func(u *uprog) {
			grandchild <- u.clone(CloneArgs{ExitSignal: sigChld}, func(u *uprog) {
				for u.t.Proc.ParentPID() != 1 {
					time.Sleep(time.Millisecond)
				}
			})
			u.do(func(t *Thread) error { t.ExitGroup(5); return nil })
		})
		seen := map[int32]ExitStatus{}
		for len(seen) < 2 {
			var w Waited
			e := u.do(func(t *Thread) (err error) { w, err = t.WaitChild(WaitFor{Options: unix.WEXITED}); return err })
			if e != unix.EINTR && e != 0 {
				u.m.Errorf("wait: %v", e)
				return
			}
			if w.PID != 0 {
				seen[w.PID] = w.Status
			}
		}
		u.expect("child", seen[child], Exited(5))
		u.expect("grandchild", seen[<-grandchild], Exited(0))
		i := <-got
		u.expect("si_code", i.Code, int32(CLDExited))
		u.expect("si_status", i.Status() == 5 || i.Status() == 0, true)
	})
}

func TestExec(t *testing.T) {
	m := play(t, func(u *uprog) {
		u.on(unix.SIGUSR1, 0, func(u *uprog, t *Thread) {})
		u.do(func(t *Thread) error {
			_, err := t.Proc.SetAction(Signal(unix.SIGUSR2), Action{Handler: SigIgn})
			return err
		})
		u.spawn(func(u *uprog) { u.do((*Thread).Pause) })
		done := make(chan bool)
		u.spawn(func(u *uprog) {
			limits := u.t.Proc.Limits
			u.do(func(t *Thread) error {
				as, err := mm.New(limits)
				if err != nil {
					return err
				}
				rip := t.Ctx.RIP
				if err := t.Exec(as, t.Creds(), "a name of more than 15 bytes", &Executable{Path: "/bin/x"}); err != nil {
					return err
				}
				t.Ctx.RIP = rip // the test's program goes on
				return nil
			})
			p := u.t.Proc
			u.expect("tid", u.t.TID, p.PID)
			u.expect("threads", len(p.Threads()), 1)
			u.expect("name", u.t.Comm(), "a name of more ")
			u.expect("handler", p.Action(Signal(unix.SIGUSR1)).Handler, uint64(SigDfl))
			u.expect("ignored", p.Action(Signal(unix.SIGUSR2)).Handler, uint64(SigIgn))
			u.expect("lookup", u.m.k.Thread(p.PID), u.t)
			close(done)
		})
		u.do((*Thread).Pause)
	})
	_ = m
}

func TestSessionsAndGroups(t *testing.T) {
	play(t, func(u *uprog) {
		u.expect("setsid of a leader", u.do(func(t *Thread) error { _, err := t.SetSID(); return err }), unix.EPERM)
		u.expect("setpgid of a session leader", u.do(func(t *Thread) error { return t.SetPGID(0, 0) }), unix.EPERM)
		child := u.clone(CloneArgs{ExitSignal: sigChld}, func(u *uprog) { u.do((*Thread).Pause) })
		u.expect("setpgid", u.do(func(t *Thread) error { return t.SetPGID(child, 0) }), unix.Errno(0))
		g, _ := u.m.k.PGID(child)
		u.expect("group", g, child)
		s, _ := u.m.k.SID(child)
		u.expect("session", s, int32(1))
		u.expect("kill of the group", u.do(func(t *Thread) error { return t.Kill(-child, sigKill) }), unix.Errno(0))
		var w Waited
		u.do(func(t *Thread) (err error) {
			w, err = t.WaitChild(WaitFor{Group: child, Options: unix.WEXITED})
			return err
		})
		u.expect("killed", w.Status.Signal(), sigKill)
		u.expect("group is gone", u.m.k.ProcessGroup(child) == nil, true)
		u.expect("kill of nobody", u.do(func(t *Thread) error { return t.Kill(-child, sigKill) }), unix.ESRCH)
	})
}

func TestCPUTime(t *testing.T) {
	play(t, func(u *uprog) {
		spin := func(d time.Duration) {
			for start := time.Now(); time.Since(start) < d; {
			}
		}
		for range 100 {
			u.do(func(t *Thread) error { spin(200 * time.Microsecond); return nil })
		}
		spin(20 * time.Millisecond)
		user, system := u.t.CPUTime()
		total := time.Duration(user + system)
		if total < 40*time.Millisecond || total > 2*time.Second || system < int64(10*time.Millisecond) {
			u.m.Errorf("user %v, system %v", time.Duration(user), time.Duration(system))
		}
		u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, 300*time.Millisecond, false, 0) })
		after, more := u.t.CPUTime()
		if d := time.Duration(after + more - user - system); d > 200*time.Millisecond {
			u.m.Errorf("a sleep counts %v", d)
		}
		ns, err := u.t.Clock(unix.CLOCK_THREAD_CPUTIME_ID)
		u.expect("thread clock", err == nil && ns >= user+system, true)
		self := ^0<<3 | cpuPerThread | cpuSched // pid 0, of the caller
		_, err = u.t.Clock(self)
		u.expect("dynamic clock", err, nil)
		_, err = u.t.Clock(4711)
		u.expect("no such clock", err, unix.EINVAL)
	})
}
