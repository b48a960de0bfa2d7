package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// prctl(2)
func sysPrctl(t *kernel.Thread, a *args) (uint64, error) {
	v := a.arg(1)
	noMore := a.arg(2) == 0 && a.arg(3) == 0 && a.arg(4) == 0
	switch a.int(0) {
	case unix.PR_SET_NAME:
		name, err := t.MM().CopyInString(v, kernel.MaxComm+1)
		if err == unix.ENAMETOOLONG { // longer names are cut
			b := make([]byte, kernel.MaxComm)
			err = copyIn(t, b, v)
			name = string(b)
		}
		if err != nil {
			return 0, err
		}
		t.SetComm(name)
		return 0, nil
	case unix.PR_GET_NAME:
		var e encoder
		e.text(t.Comm(), kernel.MaxComm+1)
		return 0, copyOut(t, v, e.b)
	case unix.PR_SET_PDEATHSIG:
		if sig := kernel.Signal(v); v != 0 && (v > kernel.SIGRTMAX || !sig.Valid()) {
			return 0, unix.EINVAL
		}
		t.SetParentDeathSignal(kernel.Signal(v))
		return 0, nil
	case unix.PR_GET_PDEATHSIG:
		return 0, t.MM().WriteUint32(v, uint32(t.ParentDeathSignal()))
	case unix.PR_GET_DUMPABLE:
		return uint64(t.Proc.Dumpable()), nil
	case unix.PR_SET_DUMPABLE:
		if v > 1 {
			return 0, unix.EINVAL
		}
		t.Proc.SetDumpable(int(v))
		return 0, nil
	case unix.PR_SET_CHILD_SUBREAPER:
		t.Proc.SetChildSubreaper(v != 0)
		return 0, nil
	case unix.PR_GET_CHILD_SUBREAPER:
		return 0, t.MM().WriteUint32(v, truth(t.Proc.ChildSubreaper()))
	case unix.PR_SET_NO_NEW_PRIVS:
		if v != 1 || !noMore {
			return 0, unix.EINVAL
		}
		t.SetNoNewPrivs()
		return 0, nil
	case unix.PR_GET_NO_NEW_PRIVS:
		if v != 0 || !noMore {
			return 0, unix.EINVAL
		}
		return uint64(truth(t.NoNewPrivs())), nil
	case unix.PR_SET_TIMERSLACK:
		t.SetTimerSlack(v)
		return 0, nil
	case unix.PR_GET_TIMERSLACK:
		return t.TimerSlack(), nil
	case unix.PR_GET_TID_ADDRESS:
		return 0, t.MM().WriteUint64(v, t.ClearTID())
	case unix.PR_GET_KEEPCAPS:
		return uint64(truth(t.Creds().SecureBits&kernel.SecureKeepCaps != 0)), nil
	case unix.PR_SET_KEEPCAPS:
		if v > 1 {
			return 0, unix.EINVAL
		}
		if t.Creds().SecureBits&(kernel.SecureKeepCaps<<1) != 0 { // the bit's lock
			return 0, unix.EPERM
		}
		c := t.Creds().Clone()
		c.SecureBits = c.SecureBits&^kernel.SecureKeepCaps | uint32(v)*kernel.SecureKeepCaps
		return become(t, c, nil)
	case unix.PR_GET_SECUREBITS:
		return uint64(t.Creds().SecureBits), nil
	case unix.PR_SET_SECUREBITS:
		return setSecureBits(t, v)
	case unix.PR_CAPBSET_READ:
		if v > unix.CAP_LAST_CAP {
			return 0, unix.EINVAL
		}
		return uint64(truth(t.Creds().Bounding.Has(int(v)))), nil
	case unix.PR_CAPBSET_DROP:
		if !t.Creds().HasCap(unix.CAP_SETPCAP) {
			return 0, unix.EPERM
		}
		if v > unix.CAP_LAST_CAP {
			return 0, unix.EINVAL
		}
		c := t.Creds().Clone()
		c.Bounding &^= 1 << v
		return become(t, c, nil)
	case unix.PR_CAP_AMBIENT:
		return ambient(t, v, a.arg(2), a.arg(3) == 0 && a.arg(4) == 0)
	case unix.PR_GET_THP_DISABLE:
		if v != 0 || !noMore {
			return 0, unix.EINVAL
		}
		return uint64(truth(t.MM().LargeDisabled())), nil
	case unix.PR_SET_THP_DISABLE:
		if !noMore {
			return 0, unix.EINVAL
		}
		t.MM().DisableLarge(v != 0)
		return 0, nil
	case unix.PR_GET_SECCOMP:
		mode, _ := t.Seccomp()
		return uint64(mode), nil
	case unix.PR_SET_SECCOMP:
		switch v {
		case unix.SECCOMP_MODE_STRICT:
			return 0, t.SetSeccompStrict()
		case unix.SECCOMP_MODE_FILTER:
			return seccompFilter(t, 0, a.arg(2))
		}
		return 0, unix.EINVAL
	case unix.PR_SET_MM:
		return 0, setMM(t, v, a.arg(2), a.arg(3), a.arg(4))
	case unix.PR_GET_TSC:
		mode := uint32(unix.PR_TSC_ENABLE)
		if !t.Ctx.TSC() {
			mode = unix.PR_TSC_SIGSEGV
		}
		return 0, t.MM().WriteUint32(v, mode)
	case unix.PR_SET_TSC:
		if v != unix.PR_TSC_ENABLE && v != unix.PR_TSC_SIGSEGV {
			return 0, unix.EINVAL
		}
		t.Ctx.SetTSC(v == unix.PR_TSC_ENABLE)
		return 0, nil
	case unix.PR_SET_PTRACER:
		return 0, unix.EINVAL // as without Yama
	}
	return 0, unix.EINVAL
}

func truth(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// setSecureBits is PR_SET_SECUREBITS: a locked bit and a lock itself never change back
// (capabilities(7)).
func setSecureBits(t *kernel.Thread, v uint64) (uint64, error) {
	const bits, locks = 0x55, 0xaa
	old := t.Creds().SecureBits
	to := uint32(v)
	locked := old & locks >> 1
	if v&^(bits|locks) != 0 || (old^to)&locked != 0 || old&locks&^to != 0 || !t.Creds().HasCap(unix.CAP_SETPCAP) {
		return 0, unix.EPERM
	}
	c := t.Creds().Clone()
	c.SecureBits = to
	return become(t, c, nil)
}

// ambient is PR_CAP_AMBIENT.
func ambient(t *kernel.Thread, operation, capability uint64, noMore bool) (uint64, error) {
	if !noMore {
		return 0, unix.EINVAL
	}
	c := t.Creds().Clone()
	if operation == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		if capability != 0 {
			return 0, unix.EINVAL
		}
		c.Ambient = 0
		return become(t, c, nil)
	}
	if capability > unix.CAP_LAST_CAP {
		return 0, unix.EINVAL
	}
	bit := kernel.CapSet(1) << capability
	switch operation {
	case unix.PR_CAP_AMBIENT_IS_SET:
		return uint64(truth(c.Ambient&bit != 0)), nil
	case unix.PR_CAP_AMBIENT_RAISE:
		if c.Permitted&c.Inheritable&bit == 0 || c.SecureBits&kernel.SecureNoAmbientRaise != 0 {
			return 0, unix.EPERM
		}
		c.Ambient |= bit
	case unix.PR_CAP_AMBIENT_LOWER:
		c.Ambient &^= bit
	default:
		return 0, unix.EINVAL
	}
	return become(t, c, nil)
}
