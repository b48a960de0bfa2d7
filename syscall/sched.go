package syscall

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// target finds the thread that a call of the sched family names: 0 is the caller.
func target(t *kernel.Thread, tid int32) (*kernel.Thread, error) {
	switch {
	case tid < 0:
		return nil, unix.EINVAL
	case tid == 0 || tid == t.TID:
		return t, nil
	}
	if o := t.Kernel().Thread(tid); o != nil {
		return o, nil
	}
	return nil, unix.ESRCH
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

// keepPolicy stands for the policy that the thread has already.
const keepPolicy = ^uint32(0)

// schedule sets policy, priority and nice value of thread tid (sched(7), "Privileges and resource limits").
func schedule(t *kernel.Thread, tid int32, policy uint32, priority int32, nice func() int32) (uint64, error) {
	o, err := target(t, tid)
	if err != nil {
		return 0, err
	}
	s := o.Scheduling()
	old := s
	if policy != keepPolicy {
		s.Policy, s.ResetOnFork = policy&^unix.SCHED_RESET_ON_FORK, policy&unix.SCHED_RESET_ON_FORK != 0
	}
	s.Priority = priority
	low, high, err := priorities(s.Policy)
	if err != nil {
		return 0, err
	}
	if s.Policy == unix.SCHED_DEADLINE || s.Policy == unix.SCHED_EXT || priority < low || priority > high {
		return 0, unix.EINVAL
	}
	if nice != nil && high == 0 {
		s.Nice = nice()
	}
	if !t.Creds().HasCap(unix.CAP_SYS_NICE) {
		limit := o.Proc.Limits.Soft(unix.RLIMIT_RTPRIO)
		switch {
		case high > 0 && (s.Policy != old.Policy && limit == 0 || priority > old.Priority && uint64(priority) > limit),
			s.Nice < old.Nice && !mayNice(o, s.Nice),
			old.Policy == unix.SCHED_IDLE && s.Policy != unix.SCHED_IDLE && !mayNice(o, s.Nice),
			old.ResetOnFork && !s.ResetOnFork,
			!t.MayReschedule(o):
			return 0, unix.EPERM
		}
	}
	o.SetScheduling(s)
	return 0, nil
}

// mayNice reports whether RLIMIT_NICE lets o have a nice value without privilege.
func mayNice(o *kernel.Thread, nice int32) bool {
	return uint64(20-nice) <= o.Proc.Limits.Soft(unix.RLIMIT_NICE)
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
	return schedule(t, a.int(0), a.uint(1), int32(priority), nil)
}

// sched_getscheduler(2)
func sysSchedGetscheduler(t *kernel.Thread, a *args) (uint64, error) {
	o, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	s := o.Scheduling()
	policy := uint64(s.Policy)
	if s.ResetOnFork {
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
	return schedule(t, a.int(0), keepPolicy, int32(priority), nil)
}

// sched_getparam(2)
func sysSchedGetparam(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) == 0 {
		return 0, unix.EINVAL
	}
	o, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	return 0, t.MM().WriteUint32(a.arg(1), uint32(o.Scheduling().Priority))
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
	if flags&unix.SCHED_FLAG_KEEP_POLICY != 0 {
		policy = keepPolicy
	} else if int32(policy) < 0 {
		return 0, unix.EINVAL
	}
	return schedule(t, a.int(0), policy, priority, func() int32 { return min(max(nice, -20), 19) })
}

// sched_getattr(2)
func sysSchedGetattr(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) == 0 || a.uint(3) != 0 || a.uint(2) < sizeofSchedAttr {
		return 0, unix.EINVAL
	}
	o, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	s := o.Scheduling()
	e := encoder{localOf(t).bytes[:0]}
	e.u32(sizeofSchedAttr)
	e.u32(s.Policy)
	e.u64(uint64(truth(s.ResetOnFork)))
	e.u32(uint32(s.Nice))
	e.u32(uint32(s.Priority))
	e.zero(3 * 8) // of SCHED_DEADLINE
	return 0, copyOut(t, a.arg(1), e.b)
}

// sched_rr_get_interval(2)
func sysSchedRrGetInterval(t *kernel.Thread, a *args) (uint64, error) {
	const slice = 100e6
	o, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	ns := int64(0)
	if o.Scheduling().Policy == unix.SCHED_RR {
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
	if _, err := target(t, a.int(0)); err != nil {
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
	o, err := target(t, a.int(0))
	if err != nil {
		return 0, err
	}
	if !t.MayReschedule(o) {
		return 0, unix.EPERM
	}
	if bits.TrailingZeros64(word(b, 0)) >= cpus {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// niceTargets returns the threads that a call of getpriority and setpriority is about: ESRCH if there are
// none, EINVAL.
func niceTargets(t *kernel.Thread, which, who int32) ([]*kernel.Thread, error) {
	var member func(p *kernel.Process) bool
	switch which {
	case unix.PRIO_PROCESS:
		if who < 0 {
			return nil, unix.ESRCH
		}
		o, err := target(t, who)
		return []*kernel.Thread{o}, err
	case unix.PRIO_PGRP:
		if who == 0 {
			who = t.Proc.Group().ID()
		}
		member = func(p *kernel.Process) bool { return p.Group().ID() == who }
	case unix.PRIO_USER:
		uid := uint32(who)
		if who == 0 {
			uid = t.Creds().RUID
		}
		member = func(p *kernel.Process) bool { return p.Creds().RUID == uid }
	default:
		return nil, unix.EINVAL
	}
	var all []*kernel.Thread
	for _, p := range t.Kernel().Processes() {
		if member(p) {
			all = append(all, p.Threads()...)
		}
	}
	if all == nil {
		return nil, unix.ESRCH
	}
	return all, nil
}

// getpriority(2): the system call returns 20 minus the nice value, of several the most favourable.
func sysGetpriority(t *kernel.Thread, a *args) (uint64, error) {
	targets, err := niceTargets(t, a.int(0), a.int(1))
	if err != nil {
		return 0, err
	}
	nice := int32(19)
	for _, o := range targets {
		nice = min(nice, o.Scheduling().Nice)
	}
	return uint64(20 - nice), nil
}

// setpriority(2): what may be changed is, and the error tells of the last that may not.
func sysSetpriority(t *kernel.Thread, a *args) (uint64, error) {
	targets, err := niceTargets(t, a.int(0), a.int(1))
	if err != nil {
		return 0, err
	}
	nice := min(max(a.int(2), -20), 19)
	for _, o := range targets {
		s := o.Scheduling()
		switch {
		case !t.MayReschedule(o):
			err = unix.EPERM
		case nice < s.Nice && !mayNice(o, nice) && !t.Creds().HasCap(unix.CAP_SYS_NICE):
			err = unix.EACCES
		default:
			s.Nice = nice
			o.SetScheduling(s)
		}
	}
	return 0, err
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
