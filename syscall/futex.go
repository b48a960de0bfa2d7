package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// futex(2)
func sysFutex(t *kernel.Thread, a *args) (uint64, error) {
	const allBits = ^uint32(0)
	addr, val := a.arg(0), a.uint(2)
	op := a.uint(1)
	shared := op&futexPrivate == 0
	realtime := op&futexClockRealtime != 0
	command := op &^ (futexPrivate | futexClockRealtime)
	switch command {
	case futexWait, futexWaitBitset, futexLockPI2, futexWaitRequeuePI:
	default:
		if realtime {
			return 0, unix.ENOSYS
		}
	}
	switch command {
	case futexWait:
		d, err := deadlineAt(t, a.arg(3))
		if err != nil {
			return 0, err
		}
		return 0, t.FutexWait(addr, shared, val, allBits, d)
	case futexWaitBitset:
		d, err := absoluteAt(t, a.arg(3), realtime)
		if err != nil {
			return 0, err
		}
		return 0, t.FutexWait(addr, shared, val, a.uint(5), d)
	case futexWake:
		n, err := t.FutexWake(addr, shared, int(int32(val)), allBits)
		return uint64(n), err
	case futexWakeBitset:
		n, err := t.FutexWake(addr, shared, int(int32(val)), a.uint(5))
		return uint64(n), err
	case futexRequeue:
		n, err := t.FutexRequeue(addr, a.arg(4), shared, int(int32(val)), int(a.int(3)), nil)
		return uint64(n), err
	case futexCmpRequeue:
		compare := a.uint(5)
		n, err := t.FutexRequeue(addr, a.arg(4), shared, int(int32(val)), int(a.int(3)), &compare)
		return uint64(n), err
	case futexWakeOp:
		n, err := t.FutexWakeOp(addr, a.arg(4), shared, int(int32(val)), int(a.int(3)), a.uint(5))
		return uint64(n), err
	case futexLockPI: // its timeout is always of the wall clock
		d, err := absoluteAt(t, a.arg(3), true)
		if err != nil {
			return 0, err
		}
		return 0, t.FutexLockPI(addr, shared, false, d)
	case futexLockPI2:
		d, err := absoluteAt(t, a.arg(3), realtime)
		if err != nil {
			return 0, err
		}
		return 0, t.FutexLockPI(addr, shared, false, d)
	case futexTrylockPI:
		return 0, t.FutexLockPI(addr, shared, true, kernel.Never)
	case futexUnlockPI:
		return 0, t.FutexUnlockPI(addr, shared)
	case futexWaitRequeuePI:
		d, err := absoluteAt(t, a.arg(3), realtime)
		if err != nil {
			return 0, err
		}
		return 0, t.FutexWaitRequeuePI(addr, a.arg(4), shared, val, d)
	case futexCmpRequeuePI:
		n, err := t.FutexCmpRequeuePI(addr, a.arg(4), shared, int(int32(val)), int(a.int(3)), a.uint(5))
		return uint64(n), err
	}
	return 0, unix.ENOSYS
}

// absoluteAt returns the deadline that the struct timespec at addr names on one of two clocks; Never
// for a null pointer.
func absoluteAt(t *kernel.Thread, addr uint64, realtime bool) (kernel.Deadline, error) {
	if addr == 0 {
		return kernel.Never, nil
	}
	d, err := durationAt(t, addr)
	if err != nil {
		return kernel.Never, err
	}
	if realtime {
		return kernel.At(unix.CLOCK_REALTIME, int64(d))
	}
	return kernel.At(unix.CLOCK_MONOTONIC, int64(d))
}

// futex_waitv(2)
func sysFutexWaitv(t *kernel.Thread, a *args) (uint64, error) {
	const maxWaits = 128 // FUTEX_WAITV_MAX
	count := a.uint(1)
	if a.uint(2) != 0 || count == 0 || count > maxWaits || a.arg(0) == 0 {
		return 0, unix.EINVAL
	}
	d := kernel.Never
	if a.arg(3) != 0 {
		clock := a.int(4)
		if clock != unix.CLOCK_REALTIME && clock != unix.CLOCK_MONOTONIC {
			return 0, unix.EINVAL
		}
		var err error
		if d, err = absoluteAt(t, a.arg(3), clock == unix.CLOCK_REALTIME); err != nil {
			return 0, err
		}
	}
	waits := make([]kernel.FutexWaitV, count)
	var b [24]byte
	for i := range waits {
		if err := copyIn(t, b[:], a.arg(0)+uint64(len(b)*i)); err != nil {
			return 0, err
		}
		if halfword(b[:], 20) != 0 {
			return 0, unix.EINVAL
		}
		waits[i] = kernel.FutexWaitV{Value: word(b[:], 0), Addr: word(b[:], 8), Flags: halfword(b[:], 16)}
	}
	n, err := t.FutexWaitMultiple(waits, d)
	return uint64(n), err
}

// set_robust_list(2)
func sysSetRobustList(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.SetRobustList(a.arg(0), a.arg(1))
}

// get_robust_list(2)
func sysGetRobustList(t *kernel.Thread, a *args) (uint64, error) {
	o := t
	if tid := a.int(0); tid != 0 {
		if o = t.Kernel().Thread(tid); o == nil {
			return 0, unix.ESRCH
		}
		if o.Proc != t.Proc && !t.Creds().HasCap(unix.CAP_SYS_PTRACE) && o.Creds().RUID != t.Creds().FSUID {
			return 0, unix.EPERM
		}
	}
	head, length := o.RobustList()
	if err := t.MM().WriteUint64(a.arg(2), length); err != nil {
		return 0, err
	}
	return 0, t.MM().WriteUint64(a.arg(1), head)
}
