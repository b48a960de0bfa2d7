package syscall

import (
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// clock_gettime(2)
func sysClockGettime(t *kernel.Thread, a *args) (uint64, error) {
	ns, err := t.Clock(int(a.int(0)))
	if err != nil {
		return 0, err
	}
	return 0, writeNS(t, a.arg(1), ns)
}

// clock_getres(2)
func sysClockGetres(t *kernel.Thread, a *args) (uint64, error) {
	ns, err := t.ClockResolution(int(a.int(0)))
	if err != nil || a.arg(1) == 0 {
		return 0, err
	}
	return 0, writeNS(t, a.arg(1), ns)
}

// clock_settime(2)
func sysClockSettime(t *kernel.Thread, a *args) (uint64, error) {
	ts, err := timespecAt(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	d, err := kernel.DurationOf(ts)
	if err != nil {
		return 0, err
	}
	return 0, t.SetClock(int(a.int(0)), int64(d))
}

// adjtimex(2)
func sysAdjtimex(t *kernel.Thread, a *args) (uint64, error) { return adjustClock(t, a.arg(0)) }

// clock_adjtime(2)
func sysClockAdjtime(t *kernel.Thread, a *args) (uint64, error) {
	if clock := int(a.int(0)); clock != unix.CLOCK_REALTIME {
		if _, err := t.Clock(clock); err != nil {
			return 0, err
		}
		return 0, unix.EOPNOTSUPP
	}
	return adjustClock(t, a.arg(1))
}

// adjustClock tells of a clock that nobody has synchronized, as Linux does after its start. The clock can be set, but runs as
// the host's does: EOPNOTSUPP for whoever may adjust its rate.
func adjustClock(t *kernel.Thread, addr uint64) (uint64, error) {
	const (
		sizeBytes     = 208        // of struct timex
		onlyRead      = 0xa001     // ADJ_OFFSET_SS_READ
		onceMore      = 0x8001     // ADJ_OFFSET_SINGLESHOT, adjtime(3)
		unsynchronous = 16_000_000 // microseconds: NTP_PHASE_LIMIT
		tolerance     = 500 << 16  // parts in a million
		microsPerTick = 10_000
		timeError     = 5
	)
	b := localOf(t).bytes[:sizeBytes]
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	if modes := halfword(b, 0); modes != 0 && modes != onlyRead {
		if !t.Creds().HasCap(unix.CAP_SYS_TIME) {
			return 0, unix.EPERM
		}
		if modes != onceMore || word(b, 8) != 0 { // an offset of 0 is what there is
			return 0, unix.EOPNOTSUPP
		}
	}
	now := kernel.Realtime()
	for _, f := range [...]struct {
		offset int
		value  uint64
	}{
		{8, 0}, {16, 0}, {24, unsynchronous}, {32, unsynchronous}, {40, unix.STA_UNSYNC}, {48, 2}, {56, 1}, {64, tolerance},
		{72, uint64(now / 1e9)}, {80, uint64(now % 1e9 / 1000)}, {88, microsPerTick},
		{96, 0}, {104, 0}, {112, 0}, {120, 0}, {128, 0}, {136, 0}, {144, 0}, {152, 0}, {160, 0},
	} {
		binary.LittleEndian.PutUint64(b[f.offset:], f.value)
	}
	return timeError, copyOut(t, addr, b)
}

// gettimeofday(2)
func sysGettimeofday(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(0) != 0 {
		ns := kernel.Realtime()
		if err := writePair(t, a.arg(0), uint64(ns/1e9), uint64(ns%1e9/1000)); err != nil {
			return 0, err
		}
	}
	if a.arg(1) != 0 {
		return 0, t.MM().WriteUint64(a.arg(1), 0) // the time zone nobody sets
	}
	return 0, nil
}

// settimeofday(2)
func sysSettimeofday(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(0) == 0 {
		return 0, nil
	}
	tv, err := timespecAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	d, err := durationOfTimeval(tv)
	if err != nil {
		return 0, err
	}
	return 0, t.SetClock(unix.CLOCK_REALTIME, int64(d))
}

// time(2)
func sysTime(t *kernel.Thread, a *args) (uint64, error) {
	now := uint64(kernel.Realtime() / 1e9)
	if a.arg(0) != 0 {
		if err := t.MM().WriteUint64(a.arg(0), now); err != nil {
			return 0, err
		}
	}
	return now, nil
}

// durationOfTimeval converts a struct timeval, whose Nsec are microseconds: EINVAL.
func durationOfTimeval(tv unix.Timespec) (time.Duration, error) {
	if tv.Nsec < 0 || tv.Nsec >= 1e6 {
		return 0, unix.EINVAL
	}
	return kernel.DurationOf(unix.Timespec{Sec: tv.Sec, Nsec: tv.Nsec * 1000})
}

// deadlineAt returns the deadline of the relative timeout that a struct timespec at addr holds; Never
// for a null pointer.
func deadlineAt(t *kernel.Thread, addr uint64) (kernel.Deadline, error) {
	if addr == 0 {
		return kernel.Never, nil
	}
	d, err := durationAt(t, addr)
	if err != nil {
		return kernel.Never, err
	}
	return kernel.After(d), nil
}

// durationAt returns the time that a struct timespec at addr holds: EINVAL of one that can't be.
func durationAt(t *kernel.Thread, addr uint64) (time.Duration, error) {
	ts, err := timespecAt(t, addr)
	if err != nil {
		return 0, err
	}
	return kernel.DurationOf(ts)
}

// deadlineOfMS returns the deadline of poll's and epoll_wait's timeouts: negative is never.
func deadlineOfMS(ms int32) kernel.Deadline {
	if ms < 0 {
		return kernel.Never
	}
	return kernel.After(time.Duration(ms) * time.Millisecond)
}

// nanosleep(2) sleeps on the monotonic clock.
func sysNanosleep(t *kernel.Thread, a *args) (uint64, error) {
	return sleep(t, unix.CLOCK_MONOTONIC, false, a.arg(0), a.arg(1))
}

// clock_nanosleep(2)
func sysClockNanosleep(t *kernel.Thread, a *args) (uint64, error) {
	return sleep(t, int(a.int(0)), a.arg(1)&timerAbsolute != 0, a.arg(2), a.arg(3))
}

func sleep(t *kernel.Thread, clock int, absolute bool, request, remainder uint64) (uint64, error) {
	ts, err := timespecAt(t, request)
	if err != nil {
		return 0, err
	}
	d, err := kernel.DurationOf(ts)
	if err != nil {
		return 0, err
	}
	return 0, t.Sleep(clock, d, absolute, remainder)
}

// intervalAt reads a struct itimerspec or, with a unit of 1000 ns, itimerval.
func intervalAt(t *kernel.Thread, addr uint64, timeval bool) (value, interval time.Duration, err error) {
	convert := kernel.DurationOf
	if timeval {
		convert = durationOfTimeval
	}
	ts, err := timespecAt(t, addr)
	if err != nil {
		return 0, 0, err
	}
	next, err := timespecAt(t, addr+16)
	if err != nil {
		return 0, 0, err
	}
	if interval, err = convert(ts); err != nil {
		return 0, 0, err
	}
	value, err = convert(next)
	return value, interval, err
}

// writeInterval writes a struct itimerspec or itimerval.
func writeInterval(t *kernel.Thread, addr uint64, value, interval time.Duration, timeval bool) error {
	unit := time.Duration(1)
	if timeval {
		unit = 1000
	}
	if err := writePair(t, addr, uint64(interval/time.Second), uint64(interval%time.Second/unit)); err != nil {
		return err
	}
	return writePair(t, addr+16, uint64(value/time.Second), uint64(value%time.Second/unit))
}

// getitimer(2)
func sysGetitimer(t *kernel.Thread, a *args) (uint64, error) {
	value, interval, err := t.Proc.ITimer(int(a.int(0)))
	if err != nil {
		return 0, err
	}
	return 0, writeInterval(t, a.arg(1), value, interval, true)
}

// setitimer(2): a null pointer disarms, as Linux does in spite of its own warning.
func sysSetitimer(t *kernel.Thread, a *args) (uint64, error) {
	var value, interval time.Duration
	if a.arg(1) != 0 {
		var err error
		if value, interval, err = intervalAt(t, a.arg(1), true); err != nil {
			return 0, err
		}
	}
	oldValue, oldInterval, err := t.Proc.SetITimer(int(a.int(0)), value, interval)
	if err != nil || a.arg(2) == 0 {
		return 0, err
	}
	return 0, writeInterval(t, a.arg(2), oldValue, oldInterval, true)
}

// alarm(2): what was left is rounded to seconds, but never to none.
func sysAlarm(t *kernel.Thread, a *args) (uint64, error) {
	seconds := min(uint64(a.uint(0)), math.MaxInt64/uint64(time.Second))
	old, _, err := t.Proc.SetITimer(int(unix.ITIMER_REAL), time.Duration(seconds)*time.Second, 0)
	left := uint64(old.Round(time.Second) / time.Second)
	if left == 0 && old > 0 {
		left = 1
	}
	return left, err
}

// timer_create(2)
func sysTimerCreate(t *kernel.Thread, a *args) (uint64, error) {
	var event *kernel.SigEvent
	if a.arg(1) != 0 {
		b := localOf(t).bytes[:64]
		if err := copyIn(t, b, a.arg(1)); err != nil {
			return 0, err
		}
		event = &kernel.SigEvent{
			Value: word(b, 0), Signal: kernel.Signal(int32(halfword(b, 8))),
			Notify: int32(halfword(b, 12)), TID: int32(halfword(b, 16)),
		}
	}
	id, err := t.TimerCreate(int(a.int(0)), event)
	if err != nil {
		return 0, err
	}
	if err := t.MM().WriteUint32(a.arg(2), uint32(id)); err != nil {
		t.Proc.TimerDelete(id)
		return 0, err
	}
	return 0, nil
}

// timer_settime(2)
func sysTimerSettime(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(2) == 0 {
		return 0, unix.EINVAL
	}
	value, interval, err := intervalAt(t, a.arg(2), false)
	if err != nil {
		return 0, err
	}
	oldValue, oldInterval, err := t.Proc.TimerSetTime(a.int(0), value, interval, a.int(1)&timerAbsolute != 0)
	if err != nil || a.arg(3) == 0 {
		return 0, err
	}
	return 0, writeInterval(t, a.arg(3), oldValue, oldInterval, false)
}

// timer_gettime(2)
func sysTimerGettime(t *kernel.Thread, a *args) (uint64, error) {
	value, interval, err := t.Proc.TimerGetTime(a.int(0))
	if err != nil {
		return 0, err
	}
	return 0, writeInterval(t, a.arg(1), value, interval, false)
}

// timer_getoverrun(2)
func sysTimerGetoverrun(t *kernel.Thread, a *args) (uint64, error) {
	n, err := t.Proc.TimerGetOverrun(a.int(0))
	return uint64(n), err
}

// timer_delete(2)
func sysTimerDelete(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.Proc.TimerDelete(a.int(0))
}

// times(2): in ticks of which a second has 100.
func sysTimes(t *kernel.Thread, a *args) (uint64, error) {
	const tickNS = 1e9 / 100
	if a.arg(0) != 0 {
		user, system := t.Proc.CPUTime()
		childUser, childSystem := t.Proc.ChildrenCPUTime()
		e := encoder{localOf(t).bytes[:0]}
		for _, ns := range [...]int64{user, system, childUser, childSystem} {
			e.u64(uint64(ns / tickNS))
		}
		if err := copyOut(t, a.arg(0), e.b); err != nil {
			return 0, err
		}
	}
	return uint64(kernel.Monotonic() / tickNS), nil
}
