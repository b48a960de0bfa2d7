package kernel

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
)

func TestHandlerRunsAndReturns(t *testing.T) {
	ran := 0
	m := play(t, func(u *uprog) {
		c := u.t.Ctx
		u.on(unix.SIGUSR1, SASiginfo, func(u *uprog, t *Thread) {
			ran++
			u.expect("rdi", t.Ctx.RDI, uint64(unix.SIGUSR1))
			u.expect("alignment", t.Ctx.RSP%16, uint64(8))
			ret, _ := t.MM().ReadUint64(t.Ctx.RSP)
			u.expect("return address", ret, uint64(restorer))
			var info [SiginfoSize]byte
			t.MM().CopyIn(info[:], t.Ctx.RSI)
			i := DecodeSiginfo(info[:])
			u.expect("si_code", i.Code, int32(SIUser))
			u.expect("si_pid", i.PID(), t.Proc.PID)
			u.expect("blocked in the handler", t.Mask(), SetOf(Signal(unix.SIGUSR1)))
			t.Ctx.RBX, t.Ctx.R15 = 1, 2
		})
		c.RBX, c.R15, c.RFLAGS = 0x1111, 0x2222, c.RFLAGS|amd64.FlagDirection
		sp := c.RSP
		u.expect("kill", u.kill(unix.SIGUSR1), unix.Errno(0))
		u.expect("rbx", c.RBX, uint64(0x1111))
		u.expect("r15", c.R15, uint64(0x2222))
		u.expect("rsp", c.RSP, sp)
		u.expect("direction flag", c.RFLAGS&amd64.FlagDirection, uint64(amd64.FlagDirection))
		u.expect("mask", u.t.Mask(), SigSet(0))
	})
	if ran != 1 {
		m.Errorf("the handler ran %d times", ran)
	}
}

func TestFrameLayout(t *testing.T) {
	play(t, func(u *uprog) {
		u.on(unix.SIGUSR2, SASiginfo, func(u *uprog, t *Thread) {
			var b [amd64.SignalFrameSize]byte
			t.MM().CopyIn(b[:], t.Ctx.RSP)
			le := binary.LittleEndian
			u.expect("uc_flags", le.Uint64(b[8:]), uint64(7))
			u.expect("r8", le.Uint64(b[48:]), uint64(0x88))
			u.expect("ss", le.Uint16(b[48+150:]), uint16(0x2b))
			u.expect("uc_sigmask", le.Uint64(b[304:]), uint64(SetOf(Signal(unix.SIGHUP))))
			fp := le.Uint64(b[48+184:])
			u.expect("fpstate alignment", fp%64, uint64(0))
			size := amd64.ExtendedStateSize()
			x := make([]byte, size+4)
			t.MM().CopyIn(x, fp)
			u.expect("magic1", le.Uint32(x[464:]), uint32(0x46505853))
			u.expect("extended_size", le.Uint32(x[468:]), uint32(size+4))
			u.expect("xfeatures", le.Uint64(x[472:]), amd64.ExtendedFeatures())
			u.expect("xstate_size", le.Uint32(x[480:]), uint32(size))
			u.expect("magic2", le.Uint32(x[size:]), uint32(0x46505845))
			u.expect("xmm0 saved", x[160], byte(0xab))
			u.expect("xmm0 fresh", t.Ctx.ExtendedState()[160], byte(0))
			u.expect("red zone", fp+uint64(size)+4 <= stackTop-64-128, true)
		})
		u.do(func(t *Thread) error { t.SetMask(SetOf(Signal(unix.SIGHUP), sigKill)); return nil })
		c := u.t.Ctx
		c.R8 = 0x88
		state := append([]byte(nil), c.ExtendedState()...)
		state[160] = 0xab
		if err := c.SetExtendedState(state); err != nil {
			u.m.Error(err)
		}
		u.kill(unix.SIGUSR2)
		u.expect("xmm0 restored", c.ExtendedState()[160], byte(0xab))
	})
}

func TestHostileFrames(t *testing.T) {
	for name, spoil := range map[string]func(t *Thread, frame uint64){
		"code segment":  func(t *Thread, f uint64) { t.MM().CopyOut(f+48+144, []byte{0x10, 0}) },
		"stack segment": func(t *Thread, f uint64) { t.MM().CopyOut(f+48+150, []byte{0x18, 0}) },
		"kernel rip":    func(t *Thread, f uint64) { t.MM().WriteUint64(f+48+128, 0xffffffff80000000) },
		"odd rip":       func(t *Thread, f uint64) { t.MM().WriteUint64(f+48+128, 0x800000000000) },
		"fpstate":       func(t *Thread, f uint64) { t.MM().WriteUint64(f+48+184, 0x1000) },
		"mxcsr": func(t *Thread, f uint64) {
			p, _ := t.MM().ReadUint64(f + 48 + 184)
			t.MM().WriteUint32(p+24, 0xffffffff)
		},
		"xcomp_bv":        func(t *Thread, f uint64) { p, _ := t.MM().ReadUint64(f + 48 + 184); t.MM().WriteUint64(p+520, 1<<63) },
		"no frame at all": func(t *Thread, f uint64) { t.Ctx.RSP = 0x10000 },
	} {
		t.Run(name, func(t *testing.T) {
			m := boot(t, func(u *uprog) {
				u.on(unix.SIGUSR1, 0, func(u *uprog, t *Thread) { spoil(t, t.Ctx.RSP) })
				u.kill(unix.SIGUSR1)
			})
			if s := m.run(); s.Signal() != sigSegv {
				t.Errorf("status is %#x", uint32(s))
			}
		})
	}
	// What only has to be put right.
	play(t, func(u *uprog) {
		u.on(unix.SIGUSR1, 0, func(u *uprog, t *Thread) {
			f := t.Ctx.RSP
			t.MM().WriteUint64(f+48+136, ^uint64(0)) // flags: IOPL, VM, NT …
			p, _ := t.MM().ReadUint64(f + 48 + 184)
			t.MM().WriteUint64(p+512, ^uint64(0)) // XSTATE_BV
			t.MM().WriteUint64(f+304, ^uint64(0)) // mask
		})
		u.kill(unix.SIGUSR1)
		c := u.t.Ctx
		u.expect("flags", c.RFLAGS&^(amd64.UserFlags|amd64.FlagInterrupt|2), uint64(0))
		u.expect("mask", u.t.Mask(), ^(SetOf(sigKill, sigStop)))
		u.expect("cs", c.CS, uint64(0x33))
	})
}

func TestMaskNodeferResethand(t *testing.T) {
	play(t, func(u *uprog) {
		usr1 := Signal(unix.SIGUSR1)
		u.do(func(t *Thread) error { t.SetMask(SetOf(usr1)); return nil })
		count := 0
		u.on(unix.SIGUSR1, SANoDefer|SAResetHand, func(u *uprog, t *Thread) {
			count++
			u.expect("mask with SA_NODEFER", t.Mask(), SigSet(0))
			u.expect("action after SA_RESETHAND", t.Proc.Action(usr1).Handler, uint64(SigDfl))
		})
		u.kill(unix.SIGUSR1)
		u.kill(unix.SIGUSR1)
		u.expect("runs while blocked", count, 0)
		u.sys(func(t *Thread) (uint64, error) { u.expect("pending", t.Pending(), SetOf(usr1)); return 0, nil })
		u.do(func(t *Thread) error { t.SetMask(0); return nil })
		u.expect("runs", count, 1)
	})
}

func TestRealtimeOrderAndLimit(t *testing.T) {
	play(t, func(u *uprog) {
		all := ^SigSet(0)
		u.do(func(t *Thread) error { t.SetMask(all); return nil })
		queue := func(sig Signal, v uint64) unix.Errno {
			return u.do(func(t *Thread) error {
				i := Siginfo{Code: SIQueue}
				i.put64(8, v)
				return t.SigQueueInfo(t.Proc.PID, sig, i)
			})
		}
		queue(40, 1)
		queue(35, 2)
		queue(40, 3)
		queue(Signal(unix.SIGUSR1), 4)
		queue(Signal(unix.SIGUSR1), 5) // a standard signal pends once
		for _, want := range []uint64{4, 2, 1, 3} {
			u.sys(func(t *Thread) (uint64, error) {
				i, err := t.SigTimedWait(all, After(time.Second))
				u.expect("sigtimedwait", err, nil)
				u.expect("value", i.Value(), want)
				return 0, nil
			})
		}
		u.expect("nothing left", u.do(func(t *Thread) error { _, err := t.SigTimedWait(all, After(0)); return err }), unix.EAGAIN)
		u.do(func(t *Thread) error {
			return t.Proc.Limits.Set(rlimitSigpending, unix.Rlimit{Cur: 2, Max: 2}, t.Creds())
		})
		u.expect("first", queue(50, 0), unix.Errno(0))
		u.expect("second", queue(50, 0), unix.Errno(0))
		u.expect("third", queue(50, 0), unix.EAGAIN)
		u.expect("kill still works", u.kill(unix.Signal(50)), unix.Errno(0))
		u.expect("kill of another process's tkill code", u.do(func(t *Thread) error { return t.SigQueueInfo(4711, 40, Siginfo{Code: SITkill}) }), unix.EPERM)
	})
}

func TestRestart(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags uint64
		err   unix.Errno
		want  unix.Errno
		calls int
	}{
		{"ERESTARTSYS with SA_RESTART", SARestart, ERESTARTSYS, 0, 2},
		{"ERESTARTSYS without", 0, ERESTARTSYS, unix.EINTR, 1},
		{"ERESTARTNOHAND with SA_RESTART", SARestart, ERESTARTNOHAND, unix.EINTR, 1},
		{"ERESTARTNOINTR without", 0, ERESTARTNOINTR, 0, 2},
		{"RESTARTBLOCK with SA_RESTART", SARestart, ERESTART_RESTARTBLOCK, unix.EINTR, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(u *uprog) {
				ran := 0
				u.on(unix.SIGUSR1, test.flags, func(u *uprog, t *Thread) { ran++ })
				calls := 0
				got := u.do(func(t *Thread) error {
					calls++
					if calls > 1 {
						return nil
					}
					t.Kill(t.Proc.PID, Signal(unix.SIGUSR1))
					return test.err
				})
				u.expect("result", got, test.want)
				u.expect("calls", calls, test.calls)
				u.expect("handlers", ran, 1)
			})
		})
	}
	t.Run("without a handler", func(t *testing.T) {
		play(t, func(u *uprog) {
			calls := 0
			got := u.do(func(t *Thread) error {
				if calls++; calls == 1 {
					return t.RestartWith(func(*Thread) (uint64, error) { calls += 10; return 0, unix.EDOM })
				}
				return nil
			})
			u.expect("restart_syscall's result", got, unix.EDOM)
			u.expect("calls", calls, 11)
		})
	})
}

func TestSigsuspend(t *testing.T) {
	play(t, func(u *uprog) {
		usr1, usr2 := Signal(unix.SIGUSR1), Signal(unix.SIGUSR2)
		u.do(func(t *Thread) error { t.SetMask(SetOf(usr1)); return nil })
		u.on(unix.SIGUSR1, 0, func(u *uprog, t *Thread) {
			u.expect("mask in the handler", t.Mask(), SetOf(usr1, usr2))
		})
		u.later(func() { u.t.Proc.Kill(usr1, KernelInfo(usr1)) })
		u.expect("sigsuspend", u.do(func(t *Thread) error { return t.SigSuspend(SetOf(usr2)) }), unix.EINTR)
		u.expect("mask afterwards", u.t.Mask(), SetOf(usr1))
	})
}

func TestAltStack(t *testing.T) {
	play(t, func(u *uprog) {
		stack := AltStack{SP: dataBase, Size: 0x8000}
		set := func(a *AltStack) (old AltStack, e unix.Errno) {
			e = u.do(func(t *Thread) (err error) { old, err = t.SigAltStack(a); return err })
			return old, e
		}
		old, _ := set(&stack)
		u.expect("at first", old.Flags, int32(ssDisable))
		_, e := set(&AltStack{SP: dataBase, Size: 100})
		u.expect("too small", e, unix.ENOMEM)
		_, e = set(&AltStack{SP: dataBase, Size: 8192, Flags: 7})
		u.expect("bad flags", e, unix.EINVAL)
		u.on(unix.SIGUSR1, SAOnStack, func(u *uprog, t *Thread) {
			u.expect("on the stack", stack.holds(t.Ctx.RSP), true)
			u.expect("near its end", t.Ctx.RSP > stack.SP+stack.Size-4096, true)
			old, e := AltStack{}, u.do(func(t *Thread) (err error) { _, err = t.SigAltStack(&AltStack{Flags: ssDisable}); return err })
			u.expect("change while on it", e, unix.EPERM)
			u.do(func(t *Thread) (err error) { old, err = t.SigAltStack(nil); return err })
			u.expect("flags while on it", old.Flags, int32(ssOnStack))
		})
		u.kill(unix.SIGUSR1)
		set(&AltStack{SP: dataBase, Size: 0x8000, Flags: ssAutodisarm})
		u.on(unix.SIGUSR2, SAOnStack, func(u *uprog, t *Thread) {
			u.expect("disarmed", t.altStack.Size, uint64(0))
		})
		u.kill(unix.SIGUSR2)
		u.expect("armed again by sigreturn", u.t.altStack, AltStack{SP: dataBase, Size: 0x8000, Flags: ssAutodisarm})
	})
	// A frame that does not fit kills.
	m := boot(t, func(u *uprog) {
		u.do(func(t *Thread) error { _, err := t.SigAltStack(&AltStack{SP: dataBase, Size: 2048}); return err })
		u.on(unix.SIGUSR1, SAOnStack, func(u *uprog, t *Thread) { u.kill(unix.SIGUSR1) })
		u.on(unix.SIGUSR2, 0, func(u *uprog, t *Thread) {})
		u.do(func(t *Thread) error { t.Ctx.RSP = dataBase + 600; return nil })
		u.kill(unix.SIGUSR2)
	})
	m.as.Munmap(dataBase-4096, 4096)
	if s := m.run(); s.Signal() != sigSegv {
		t.Errorf("status is %#x", uint32(s))
	}
}

func TestDefaultActions(t *testing.T) {
	for sig, want := range map[unix.Signal]int{
		unix.SIGTERM: 143, unix.SIGKILL: 137, unix.SIGABRT: 134, unix.SIGINT: 130, unix.SIGSEGV: 139, unix.Signal(40): 168,
		unix.SIGCHLD: 0, unix.SIGCONT: 0, unix.SIGWINCH: 0, unix.SIGURG: 0,
	} {
		m := boot(t, func(u *uprog) { u.kill(sig) })
		if s := m.run(); s.Code() != want {
			t.Errorf("%v: the status is %d, want %d", sig, s.Code(), want)
		}
	}
}

func TestForcedSignals(t *testing.T) {
	// Blocked or ignored makes no difference to a signal that an instruction causes.
	for name, prepare := range map[string]func(t *Thread){
		"blocked": func(t *Thread) { t.SetMask(^SigSet(0)) },
		"ignored": func(t *Thread) { t.Proc.SetAction(sigSegv, Action{Handler: SigIgn}) },
	} {
		m := boot(t, func(u *uprog) {
			u.do(func(t *Thread) error { prepare(t); return nil })
			u.fault(0, 4)
		})
		if s := m.run(); s.Code() != 139 {
			t.Errorf("%s: the status is %d", name, s.Code())
		}
	}
}

func TestFaultsBecomeSignals(t *testing.T) {
	play(t, func(u *uprog) {
		type want struct {
			code int32
			addr uint64
		}
		var got want
		catch := func(u *uprog, t *Thread) {
			var b [SiginfoSize]byte
			t.MM().CopyIn(b[:], t.Ctx.RSI)
			i := DecodeSiginfo(b[:])
			got = want{i.Code, i.Addr()}
		}
		for _, s := range []unix.Signal{unix.SIGSEGV, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGBUS} {
			u.on(s, SASiginfo, catch)
		}
		u.do(func(t *Thread) error { return t.MM().Mprotect(dataBase+0x1000, 0x1000, unix.PROT_READ) })
		u.fault(0x123, 4)
		u.expect("unmapped", got, want{SegvMapErr, 0x123})
		u.fault(dataBase+0x1008, 7)
		u.expect("read-only", got, want{SegvAccErr, dataBase + 0x1008})
		for vector, code := range map[uint64]int32{vectorDE: FPEIntDiv, vectorUD: ILLIllOpn, vectorDB: TrapBrkpt /* INT1: DR6 names no cause */} {
			u.exception(vector)
			u.expect("exception", got, want{code, u.t.Ctx.RIP})
		}
		u.exception(vectorBP)
		u.expect("breakpoint", got, want{SIKernel, 0})
		u.exception(13)
		u.expect("general protection", got, want{SIKernel, 0})
		u.exception(vectorAC)
		u.expect("alignment", got, want{BusAdrAln, 0})
		u.fault(dataBase+0x5000, 6) // resolved by mm
	})
}

func TestFloatCode(t *testing.T) {
	for raised, want := range map[uint32]int32{0: 0, 1: FPEFltInv, 2: FPEFltUnd, 4: FPEFltDiv, 8: FPEFltOvf, 16: FPEFltUnd, 32: FPEFltRes, 63: FPEFltInv, 36: FPEFltDiv, 6: FPEFltDiv} {
		if got := floatCode(raised); got != want {
			t.Errorf("floatCode(%#x) = %d, want %d", raised, got, want)
		}
	}
}

func TestCrashReport(t *testing.T) {
	m := boot(t, func(u *uprog) { u.fault(0, 4) })
	m.run()
	r := m.report.String()
	if !strings.HasPrefix(r, "test: killed by SIGSEGV: read of address 0x0, which nothing is mapped at\n") {
		t.Errorf("report is %s", r)
	}
	for _, part := range []string{"rax ", "rip is in ", "stack "} {
		if !strings.Contains(r, part) {
			t.Errorf("no %q in the report:\n%s", part, r)
		}
	}
	m = boot(t, func(u *uprog) {
		u.do(func(t *Thread) error { return t.TGKill(t.Proc.PID, t.TID, Signal(unix.SIGABRT)) })
	})
	m.run()
	if r := m.report.String(); !strings.HasPrefix(r, "test: killed by SIGABRT: sent by itself with tgkill\n") {
		t.Errorf("report is %s", r)
	}
}

func TestPanicBecomesEFAULT(t *testing.T) {
	play(t, func(u *uprog) {
		u.expect("panic", u.do(func(t *Thread) error { var p *int; *p = 1; return nil }), unix.EFAULT)
		u.expect("next call", u.do(func(t *Thread) error { return nil }), unix.Errno(0))
	})
}

func TestNestedHandlers(t *testing.T) {
	var order []string
	play(t, func(u *uprog) {
		u.on(unix.SIGUSR1, 0, func(u *uprog, t *Thread) {
			order = append(order, "1 in")
			u.kill(unix.SIGUSR2)
			order = append(order, "1 out")
		})
		u.on(unix.SIGUSR2, 0, func(u *uprog, t *Thread) { order = append(order, "2") })
		u.kill(unix.SIGUSR1)
	})
	if got := strings.Join(order, " "); got != "1 in 2 1 out" {
		t.Errorf("order is %s", got)
	}
}

func TestThreadDirected(t *testing.T) {
	play(t, func(u *uprog) {
		done := make(chan int32, 1)
		u.on(unix.SIGUSR1, SARestart, func(u *uprog, t *Thread) { done <- t.TID })
		tid := u.spawn(func(u *uprog) {
			u.do(func(t *Thread) error { return t.Pause() })
		})
		u.do(func(t *Thread) error { return t.TGKill(t.Proc.PID, tid, Signal(unix.SIGUSR1)) })
		u.expect("thread", <-done, tid)
		u.expect("no such thread", u.do(func(t *Thread) error { return t.TGKill(t.Proc.PID, 4711, 1) }), unix.ESRCH)
		u.expect("other process", u.do(func(t *Thread) error { return t.TGKill(4711, t.TID, 1) }), unix.ESRCH)
		u.expect("no such signal", u.do(func(t *Thread) error { return t.TGKill(t.Proc.PID, t.TID, 65) }), unix.EINVAL)
	})
}

func TestStopAndContinue(t *testing.T) {
	play(t, func(u *uprog) {
		child := u.clone(CloneArgs{ExitSignal: sigChld}, func(u *uprog) {
			u.kill(unix.SIGSTOP)
			u.do(func(t *Thread) error { return t.Sleep(unix.CLOCK_MONOTONIC, time.Hour, false, 0) })
		})
		wait := func(options int) (w Waited) {
			u.do(func(t *Thread) (err error) { w, err = t.WaitChild(WaitFor{PID: child, Options: options}); return err })
			return w
		}
		w := wait(unix.WSTOPPED)
		u.expect("stopped", w.Status, ExitStatus(unix.SIGSTOP)<<8|0x7f)
		u.do(func(t *Thread) error { return t.Kill(child, sigCont) })
		u.expect("continued", wait(unix.WCONTINUED).Code, int32(CLDContinued))
		u.do(func(t *Thread) error { return t.Kill(child, sigStop) })
		wait(unix.WSTOPPED)
		u.do(func(t *Thread) error { return t.Kill(child, sigKill) })
		u.expect("killed", wait(unix.WEXITED).Status.Signal(), sigKill)
	})
}
