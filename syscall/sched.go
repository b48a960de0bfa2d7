package syscall

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// scheduling is what a thread asked of the scheduler, which is Go's and fair to all: it is kept, so
// that a program reads back what it wrote, and has no effect. A thread sees its own alone.
type scheduling struct {
	policy   uint32
	priority int32 // sched_priority of SCHED_FIFO and SCHED_RR
	nice     int32
	reset    bool // SCHED_RESET_ON_FORK
}

// target finds the thread that a call of the sched family names: 0 is the caller.
func target(t *kernel.Thread, tid int32) (o *kernel.Thread, own bool, err error) {
	switch {
	case tid < 0:
		return nil, false, unix.EINVAL
	case tid == 0 || tid == t.TID:
		return t, true, nil
	}
	if o = t.Kernel().Thread(tid); o == nil {
		return nil, false, unix.ESRCH
	}
	return o, false, nil
}

// sched_yield(2)
func sysSchedYield(t *kernel.Thread, a *args) (uint64, error) {
	t.Yield()
	return 0, nil
}

// priorities returns the range of sched_priority of a policy: EINVAL if there is none such.
func priorities(policy uint32) (low, high int32, err error) {
	switch policy {
	case unix.SCHED_FIFO, unix.SCHED_RR:
		return 1, 99, nil
	case unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE, unix.SCHED_DEADLINE, unix.SCHED_EXT:
		return 0, 0, nil
	}
	return 0, 0, unix.EINVAL
}

// sched_get_priority_max(2)
func sysSchedGetPriorityMax(t *kernel.Thread, a *args) (uint64, error) {
	_, high, err := priorities(a.uint(0))
	return uint64(high), err
}

// sched_get_priority_min(2)
func sysSchedGetPriorityMin(t *kernel.Thread, a *args) (uint64, error) {
	low, _, err := priorities(a.uint(0))
	return uint64(low), err
}

// schedule sets policy and priority of thread tid.
func schedule(t *kernel.Thread, tid int32, policy uint32, priority int32) (uint64, error) {
	_, own, err := target(t, tid)
	if err != nil {
		return 0, err
	}
	reset := policy&unix.SCHED_RESET_ON_FORK != 0
	policy &^= unix.SCHED_RESET_ON_FORK
	low, high, err := priorities(policy)
	if err != nil {
		return 0, err
	}
	if policy == unix.SCHED_DEADLINE || policy == unix.SCHED_EXT || priority < low || priority > high {
		return 0, unix.EINVAL
	}
	if priority > 0 && uint64(priority) > t.Proc.Limits.Soft(unix.RLIMIT_RTPRIO) && !t.Creds().HasCap(unix.CAP_SYS_NICE) {
		return 0, unix.EPERM
	}
	if own {
		s := &localOf(t).schedule
		s.policy, s.priority, s.reset = policy, priority, reset
	}
	return 0, nil
}

// sched_setscheduler(2)
func sysSchedSetscheduler(t *kernel.Thread, a *args) (uint64, error) {
	if a.int(1) < 0 || a.arg(2) == 0 {
		return 0, unix.EINVAL
	}
	priority, err := t.MM().ReadUint32(a.arg(2))
	if err != nil {
		return 0, err
	}
	return schedule(t, a.int(0), a.uint(1), int32(priority))
}

// sched_getscheduler(2)
func sysSchedGetscheduler(t *kernel.Thread, a *args) (uint64, error) {
	_, own, err := target(t, a.int(0))
	if err != nil || !own {
		return unix.SCHED_NORMAL, err
	}
	s := &localOf(t).schedule
	policy := uint64(s.policy)
	if s.reset {
		policy |= unix.SCHED_RESET_ON_FORK
	}
	return policy, nil
}

// sched_setparam(2)
func sysSchedSetparam(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) == 0 {
		return 0, unix.EINVAL
	}
	priority, err := t.MM().ReadUint32(a.arg(1))
	if err != nil {
		return 0, err
	}
	return schedule(t, a.int(0), localOf(t).schedule.policy, int32(priority))
}

// sched_getparam(2)
func sysSchedGetparam(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) == 0 {
		return 0, unix.EINVAL
	}
	_, own, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	priority := uint32(0)
	if own {
		priority = uint32(localOf(t).schedule.priority)
	}
	return 0, t.MM().WriteUint32(a.arg(1), priority)
}

// sizeofSchedAttr is SCHED_ATTR_SIZE_VER0.
const sizeofSchedAttr = 48

// sched_setattr(2)
func sysSchedSetattr(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) == 0 || a.uint(2) != 0 {
		return 0, unix.EINVAL
	}
	b := localOf(t).bytes[:sizeofSchedAttr]
	if err := copyIn(t, b, a.arg(1)); err != nil {
		return 0, err
	}
	if size := halfword(b, 0); size != 0 && size < sizeofSchedAttr {
		return 0, unix.E2BIG
	}
	policy, flags, nice, priority := halfword(b, 4), word(b, 8), int32(halfword(b, 16)), int32(halfword(b, 20))
	if flags&unix.SCHED_FLAG_RESET_ON_FORK != 0 {
		policy |= unix.SCHED_RESET_ON_FORK
	}
	if _, err := schedule(t, a.int(0), policy, priority); err != nil {
		return 0, err
	}
	if a.int(0) == 0 || a.int(0) == t.TID {
		localOf(t).schedule.nice = min(max(nice, -20), 19)
	}
	return 0, nil
}

// sched_getattr(2)
func sysSchedGetattr(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) == 0 || a.uint(3) != 0 || a.uint(2) < sizeofSchedAttr {
		return 0, unix.EINVAL
	}
	_, own, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	var s scheduling
	if own {
		s = localOf(t).schedule
	}
	e := encoder{localOf(t).bytes[:0]}
	e.u32(sizeofSchedAttr)
	e.u32(s.policy)
	e.u64(uint64(truth(s.reset)))
	e.u32(uint32(s.nice))
	e.u32(uint32(s.priority))
	e.zero(3 * 8) // of SCHED_DEADLINE
	return 0, copyOut(t, a.arg(1), e.b)
}

// sched_rr_get_interval(2)
func sysSchedRrGetInterval(t *kernel.Thread, a *args) (uint64, error) {
	const slice = 100e6
	_, own, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	ns := int64(0)
	if own && localOf(t).schedule.policy == unix.SCHED_RR {
		ns = slice
	}
	return 0, writeNS(t, a.arg(1), ns)
}

// cpus is how many CPUs the program has.
const cpus = 1

// sched_getaffinity(2): the system call returns how many bytes it wrote.
func sysSchedGetaffinity(t *kernel.Thread, a *args) (uint64, error) {
	if size := a.uint(1); uint64(size)*8 < cpus || size%8 != 0 {
		return 0, unix.EINVAL
	}
	if a.int(0) < 0 {
		return 0, unix.ESRCH
	}
	if _, _, err := target(t, a.int(0)); err != nil {
		return 0, err
	}
	return 8, t.MM().WriteUint64(a.arg(2), 1<<cpus-1)
}

// sched_setaffinity(2): whatever it is, it must hold a CPU that there is.
func sysSchedSetaffinity(t *kernel.Thread, a *args) (uint64, error) {
	b := localOf(t).bytes[:8]
	clear(b)
	if err := copyIn(t, b[:min(a.uint(1), 8)], a.arg(2)); err != nil {
		return 0, err
	}
	if a.int(0) < 0 {
		return 0, unix.ESRCH
	}
	if _, _, err := target(t, a.int(0)); err != nil {
		return 0, err
	}
	if bits.TrailingZeros64(word(b, 0)) >= cpus {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// niceTarget says whether a call of getpriority and setpriority is about the caller: ESRCH if it is about
// nobody.
func niceTarget(t *kernel.Thread, which, who int32) (own bool, err error) {
	switch which {
	case unix.PRIO_PROCESS:
		if who < 0 {
			return false, unix.ESRCH
		}
		_, own, err := target(t, who)
		return own, err
	case unix.PRIO_PGRP:
		return who == 0 || who == t.Proc.Group().ID(), nil
	case unix.PRIO_USER:
		return who == 0 || uint32(who) == t.Creds().RUID, nil
	}
	return false, unix.EINVAL
}

// getpriority(2): the system call returns 20 minus the nice value.
func sysGetpriority(t *kernel.Thread, a *args) (uint64, error) {
	own, err := niceTarget(t, a.int(0), a.int(1))
	if err != nil {
		return 0, err
	}
	nice := int32(0)
	if own {
		nice = localOf(t).schedule.nice
	}
	return uint64(20 - nice), nil
}

// setpriority(2)
func sysSetpriority(t *kernel.Thread, a *args) (uint64, error) {
	own, err := niceTarget(t, a.int(0), a.int(1))
	if err != nil {
		return 0, err
	}
	nice := min(max(a.int(2), -20), 19)
	if !own {
		return 0, nil
	}
	s := &localOf(t).schedule
	if nice < s.nice && uint64(20-nice) > t.Proc.Limits.Soft(unix.RLIMIT_NICE) && !t.Creds().HasCap(unix.CAP_SYS_NICE) {
		return 0, unix.EACCES
	}
	s.nice = nice
	return 0, nil
}

// ioprio_set(2)
func sysIoprioSet(t *kernel.Thread, a *args) (uint64, error) {
	if which := a.int(0); which < 1 || which > 3 || a.uint(2)>>13 > 3 {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// ioprio_get(2)
func sysIoprioGet(t *kernel.Thread, a *args) (uint64, error) {
	const bestEffort4 = 2<<13 | 4 // what follows from a nice value of 0
	if which := a.int(0); which < 1 || which > 3 {
		return 0, unix.EINVAL
	}
	return bestEffort4, nil
}
