package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// sizeofSigset is the size of a signal set, which every call that takes one insists on.
const sizeofSigset = 8

// rt_sigaction(2)
func sysRtSigaction(t *kernel.Thread, a *args) (uint64, error) {
	sig := kernel.Signal(a.int(0))
	if a.arg(3) != sizeofSigset {
		return 0, unix.EINVAL
	}
	b := localOf(t).bytes[:32]
	var old kernel.Action
	if a.arg(1) != 0 {
		if err := copyIn(t, b, a.arg(1)); err != nil {
			return 0, err
		}
		var err error
		old, err = t.Proc.SetAction(sig, kernel.Action{
			Handler: word(b, 0), Flags: word(b, 8), Restorer: word(b, 16), Mask: kernel.SigSet(word(b, 24)),
		})
		if err != nil {
			return 0, err
		}
	} else {
		if !sig.Valid() {
			return 0, unix.EINVAL
		}
		old = t.Proc.Action(sig)
	}
	if a.arg(2) == 0 {
		return 0, nil
	}
	e := encoder{b[:0]}
	e.u64(old.Handler)
	e.u64(old.Flags)
	e.u64(old.Restorer)
	e.u64(uint64(old.Mask))
	return 0, copyOut(t, a.arg(2), e.b)
}

// rt_sigprocmask(2)
func sysRtSigprocmask(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(3) != sizeofSigset {
		return 0, unix.EINVAL
	}
	old := t.Mask()
	if a.arg(1) != 0 {
		v, err := t.MM().ReadUint64(a.arg(1))
		if err != nil {
			return 0, err
		}
		set := kernel.SigSet(v)
		switch a.int(0) {
		case unix.SIG_BLOCK:
			set |= old
		case unix.SIG_UNBLOCK:
			set = old &^ set
		case unix.SIG_SETMASK:
		default:
			return 0, unix.EINVAL
		}
		t.SetMask(set)
	}
	if a.arg(2) == 0 {
		return 0, nil
	}
	return 0, t.MM().WriteUint64(a.arg(2), uint64(old))
}

// rt_sigreturn(2) sets every register, that of the result too.
func sysRtSigreturn(t *kernel.Thread, a *args) (uint64, error) {
	t.Sigreturn()
	return t.Ctx.RAX, nil
}

// rt_sigpending(2)
func sysRtSigpending(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) > sizeofSigset {
		return 0, unix.EINVAL
	}
	e := encoder{localOf(t).bytes[:0]}
	e.u64(uint64(t.Pending()))
	return 0, copyOut(t, a.arg(0), e.b[:a.arg(1)])
}

// rt_sigsuspend(2)
func sysRtSigsuspend(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) != sizeofSigset {
		return 0, unix.EINVAL
	}
	set, err := t.MM().ReadUint64(a.arg(0))
	if err != nil {
		return 0, err
	}
	return 0, t.SigSuspend(kernel.SigSet(set))
}

// pause(2)
func sysPause(t *kernel.Thread, a *args) (uint64, error) { return 0, t.Pause() }

// rt_sigtimedwait(2)
func sysRtSigtimedwait(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(3) != sizeofSigset {
		return 0, unix.EINVAL
	}
	set, err := t.MM().ReadUint64(a.arg(0))
	if err != nil {
		return 0, err
	}
	d, err := deadlineAt(t, a.arg(2))
	if err != nil {
		return 0, err
	}
	info, err := t.SigTimedWait(kernel.SigSet(set), d)
	if err != nil {
		return 0, err
	}
	if a.arg(1) != 0 {
		if err := writeSiginfo(t, a.arg(1), &info); err != nil {
			return 0, err
		}
	}
	return uint64(info.Signo), nil
}

func writeSiginfo(t *kernel.Thread, addr uint64, info *kernel.Siginfo) error {
	b := localOf(t).bytes[:kernel.SiginfoSize]
	info.Encode(b)
	return copyOut(t, addr, b)
}

// sigaltstack(2)
func sysSigaltstack(t *kernel.Thread, a *args) (uint64, error) {
	b := localOf(t).bytes[:24]
	var set *kernel.AltStack
	if a.arg(0) != 0 {
		if err := copyIn(t, b, a.arg(0)); err != nil {
			return 0, err
		}
		set = &kernel.AltStack{SP: word(b, 0), Flags: int32(halfword(b, 8)), Size: word(b, 16)}
	}
	old, err := t.SigAltStack(set)
	if err != nil || a.arg(1) == 0 {
		return 0, err
	}
	e := encoder{b[:0]}
	e.u64(old.SP)
	e.u32(uint32(old.Flags))
	e.u32(0)
	e.u64(old.Size)
	return 0, copyOut(t, a.arg(1), e.b)
}

// kill(2)
func sysKill(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.Kill(a.int(0), kernel.Signal(a.int(1)))
}

// tkill(2)
func sysTkill(t *kernel.Thread, a *args) (uint64, error) {
	if a.int(0) <= 0 {
		return 0, unix.EINVAL
	}
	return 0, t.TGKill(0, a.int(0), kernel.Signal(a.int(1)))
}

// tgkill(2)
func sysTgkill(t *kernel.Thread, a *args) (uint64, error) {
	if a.int(0) <= 0 || a.int(1) <= 0 {
		return 0, unix.EINVAL
	}
	return 0, t.TGKill(a.int(0), a.int(1), kernel.Signal(a.int(2)))
}

// siginfoAt reads what a program wants to send; the number of the signal is the call's.
func siginfoAt(t *kernel.Thread, addr uint64, sig int32) (kernel.Siginfo, error) {
	b := localOf(t).bytes[:kernel.SiginfoSize]
	if err := copyIn(t, b, addr); err != nil {
		return kernel.Siginfo{}, err
	}
	info := kernel.DecodeSiginfo(b)
	info.Signo = sig
	return info, nil
}

// rt_sigqueueinfo(2)
func sysRtSigqueueinfo(t *kernel.Thread, a *args) (uint64, error) {
	info, err := siginfoAt(t, a.arg(2), a.int(1))
	if err != nil {
		return 0, err
	}
	return 0, t.SigQueueInfo(a.int(0), kernel.Signal(a.int(1)), info)
}

// rt_tgsigqueueinfo(2)
func sysRtTgsigqueueinfo(t *kernel.Thread, a *args) (uint64, error) {
	if a.int(0) <= 0 || a.int(1) <= 0 {
		return 0, unix.EINVAL
	}
	info, err := siginfoAt(t, a.arg(3), a.int(2))
	if err != nil {
		return 0, err
	}
	return 0, t.TGSigQueueInfo(a.int(0), a.int(1), kernel.Signal(a.int(2)), info)
}

// restart_syscall(2)
func sysRestartSyscall(t *kernel.Thread, a *args) (uint64, error) { return t.RestartSyscall() }
