package kernel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"elver/runtime/metal"
)

// The machine has one monotonic clock, which counts from boot, and a wall clock that is a settable
// offset to it. Both count nanoseconds in int64: 292 years. The vDSO computes the same.

// wallOffsetNS is CLOCK_REALTIME less CLOCK_MONOTONIC.
var wallOffsetNS atomic.Int64

func init() { wallOffsetNS.Store(time.Now().UnixNano() - Monotonic()) }

// clockSet tells who waits for an absolute time of the wall clock that the clock was set.
var clockSet struct {
	mu         sync.Mutex
	generation atomic.Uint64
	waiters    map[*Thread]struct{} // guarded by mu
	timers     map[*Timer]struct{}  // guarded by mu
}

// Monotonic returns CLOCK_MONOTONIC, in nanoseconds since boot.
func Monotonic() int64 { return metal.Nanotime() }

// Realtime returns CLOCK_REALTIME, in nanoseconds since 1970.
func Realtime() int64 { return Monotonic() + wallOffsetNS.Load() }

// WallOffset returns CLOCK_REALTIME less CLOCK_MONOTONIC, in nanoseconds.
func WallOffset() int64 { return wallOffsetNS.Load() }

// OnSetRealtime, if not nil, is called when the wall clock was set, for those who tell the time
// without the kernel. It is set before the first process starts.
var OnSetRealtime func()

// lateNS is by how much CLOCK_REALTIME may still be behind the host's clock: nothing, unless it was set
// from a clock that counts whole seconds.
var lateNS atomic.Int64

// SetRealtimeAtLeast is SetRealtime when the time is up to late nanoseconds after ns.
func SetRealtimeAtLeast(ns, late int64) {
	SetRealtime(ns)
	lateNS.Store(late)
}

// RealtimePassed says that the host's clock has reached ns: what the host stamps isn't to be in the
// future, or tar and make complain. It moves CLOCK_REALTIME ahead, if that can be late by so much.
func RealtimePassed(ns int64) {
	room := lateNS.Load()
	if room == 0 {
		return
	}
	if late := ns - Realtime(); late > 0 && late <= room && lateNS.CompareAndSwap(room, 0) {
		SetRealtimeAtLeast(ns, room-late)
	}
}

// SetRealtime sets CLOCK_REALTIME and wakes who waits for an absolute time of it.
func SetRealtime(ns int64) {
	lateNS.Store(0)
	wallOffsetNS.Store(ns - Monotonic())
	if OnSetRealtime != nil {
		OnSetRealtime()
	}
	clockSet.generation.Add(1)
	clockSet.mu.Lock()
	threads := make([]*Thread, 0, len(clockSet.waiters))
	for t := range clockSet.waiters {
		threads = append(threads, t)
	}
	timers := make([]*Timer, 0, len(clockSet.timers))
	for t := range clockSet.timers {
		timers = append(timers, t)
	}
	clockSet.mu.Unlock()
	for _, t := range threads {
		t.Wake()
	}
	for _, t := range timers {
		t.clockWasSet()
	}
}

// ClockGeneration changes whenever the wall clock is set: for TFD_TIMER_CANCEL_ON_SET.
func ClockGeneration() uint64 { return clockSet.generation.Load() }

// Deadline is the moment at which a wait ends: a time of the monotonic clock, or of the wall clock,
// which then may be set meanwhile.
type Deadline struct {
	at   int64 // nanoseconds
	wall bool
}

// Never is the deadline of a wait without a timeout.
var Never = Deadline{at: math.MaxInt64}

// After returns the deadline of a relative timeout.
func After(d time.Duration) Deadline {
	now := Monotonic()
	if int64(d) > math.MaxInt64-now {
		return Never
	}
	return Deadline{at: now + int64(d)}
}

// At returns the deadline of an absolute time of clock, one of unix's CLOCK constants: EINVAL for a
// clock that cannot be waited for here.
func At(clock int, ns int64) (Deadline, error) {
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_ALARM:
		return Deadline{at: ns, wall: true}, nil
	case unix.CLOCK_TAI:
		return Deadline{at: ns, wall: true}, nil
	case unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return Deadline{at: ns}, nil
	}
	return Deadline{}, unix.EINVAL
}

// IsNever reports whether d is Never.
func (d Deadline) IsNever() bool { return d.at == math.MaxInt64 }

// Left returns the time until d, negative once it is over.
func (d Deadline) Left() time.Duration {
	switch {
	case d.IsNever():
		return math.MaxInt64
	case d.wall:
		return time.Duration(d.at - Realtime())
	}
	return time.Duration(d.at - Monotonic())
}

// Passed reports whether d is over.
func (d Deadline) Passed() bool { return d.Left() <= 0 }

// Timespec nanoseconds are in this range.
const nanosPerSecond = 1_000_000_000

// DurationOf converts a timespec from the program: EINVAL when it is negative or not normal. Times
// beyond 292 years are cut to that, as in Linux.
func DurationOf(ts unix.Timespec) (time.Duration, error) {
	if ts.Sec < 0 || ts.Nsec < 0 || ts.Nsec >= nanosPerSecond {
		return 0, unix.EINVAL
	}
	if ts.Sec >= math.MaxInt64/nanosPerSecond {
		return math.MaxInt64, nil
	}
	return time.Duration(ts.Sec*nanosPerSecond + ts.Nsec), nil
}

// coarseTickNS is the resolution that the coarse clocks claim: a tick of 250 Hz.
const coarseTickNS = nanosPerSecond / 250

// Clock reads the clock that the program calls clock (clock_gettime(2)), in nanoseconds: EINVAL when
// there is none of that number. CPU clocks of a thread or process are negative numbers.
func (t *Thread) Clock(clock int) (int64, error) {
	switch clock {
	// The coarse clocks are as fine as the others, as in the vDSO: whoever reads them both ways must not see
	// time go backwards.
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_ALARM, unix.CLOCK_TAI, unix.CLOCK_REALTIME_COARSE:
		return Realtime(), nil // Linux's TAI offset is 0 until somebody sets it
	case unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM, unix.CLOCK_MONOTONIC_COARSE:
		return Monotonic(), nil
	}
	c, err := t.cpuClock(clock)
	if err != nil {
		return 0, err
	}
	return c.now(), nil
}

// ClockResolution returns the resolution of that clock in nanoseconds (clock_getres(2)).
func (t *Thread) ClockResolution(clock int) (int64, error) {
	switch clock {
	case unix.CLOCK_REALTIME_COARSE, unix.CLOCK_MONOTONIC_COARSE:
		return coarseTickNS, nil
	}
	if _, err := t.Clock(clock); err != nil {
		return 0, err
	}
	return 1, nil
}

// SetClock implements clock_settime(2): EPERM without CAP_SYS_TIME, EINVAL for clocks that cannot
// be set.
func (t *Thread) SetClock(clock int, ns int64) error {
	if clock != unix.CLOCK_REALTIME {
		if _, err := t.Clock(clock); err != nil {
			return err
		}
		return unix.EINVAL
	}
	if !t.Creds().HasCap(unix.CAP_SYS_TIME) {
		return unix.EPERM
	}
	if ns < 0 {
		return unix.EINVAL
	}
	SetRealtime(ns)
	return nil
}

// cpuClock is the CPU time of a thread or of a process.
type cpuClock struct {
	thread  *Thread // nil: of the whole process
	process *Process
	kind    int // cpuProf, cpuVirt or cpuSched
}

// The kinds of CPU clocks, the low two bits of a dynamic clock's number.
const (
	cpuProf  = 0 // user and system time
	cpuVirt  = 1 // user time
	cpuSched = 2 // the scheduler's sum, which is the same as cpuProf here

	cpuPerThread = 4
)

func (c cpuClock) now() int64 {
	var user, system int64
	if c.thread != nil {
		user, system = c.thread.CPUTime()
	} else {
		user, system = c.process.CPUTime()
	}
	if c.kind == cpuVirt {
		return user
	}
	return user + system
}

// cpuClock finds the CPU clock of that number (clock_getcpuclockid(3)): ~pid<<3 with the kind and
// the per-thread bit below.
func (t *Thread) cpuClock(clock int) (cpuClock, error) {
	switch clock {
	case unix.CLOCK_PROCESS_CPUTIME_ID:
		return cpuClock{process: t.Proc, kind: cpuSched}, nil
	case unix.CLOCK_THREAD_CPUTIME_ID:
		return cpuClock{thread: t, process: t.Proc, kind: cpuSched}, nil
	}
	if clock >= 0 || clock&3 == 3 {
		return cpuClock{}, unix.EINVAL
	}
	id, kind := int32(^(clock >> 3)), clock&3
	if clock&cpuPerThread != 0 {
		o := t
		if id != 0 {
			o = t.k.Thread(id)
		}
		if o == nil || o.Proc != t.Proc {
			return cpuClock{}, unix.EINVAL
		}
		return cpuClock{thread: o, process: o.Proc, kind: kind}, nil
	}
	p := t.Proc
	if id != 0 {
		if p = t.k.Process(id); p == nil {
			return cpuClock{}, unix.EINVAL
		}
	}
	return cpuClock{process: p, kind: kind}, nil
}
