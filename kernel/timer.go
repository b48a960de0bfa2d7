package kernel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Timer is a timer of some clock: the core of timerfd, setitimer and timer_create. It expires, calls fired, and
// counts nothing more until Expirations takes what there is and arms it for the next interval. So a
// timer with an interval of a nanosecond does no harm.
type Timer struct {
	clock      int
	cpu        *cpuClock // nil: clock is a clock of time that passes
	fired      func()
	onClockSet func() // nil: nobody asked

	mu       sync.Mutex
	armed    bool
	expired  bool // at deadline, and nobody has taken it
	wall     bool // deadline is an absolute time of the wall clock, which may be set
	deadline int64
	interval int64
	timer    *time.Timer

	// Of timer_create.
	id      int32
	event   SigEvent
	queued  atomic.Bool  // its signal is pending
	overrun atomic.Int64 // of the signal that was delivered last
	user    *user        // whose RLIMIT_SIGPENDING it counts against
}

// NewTimer makes a timer that is not armed, of any clock that Thread.Clock reads but the coarse and raw ones
// (EOPNOTSUPP). At each expiry fired is called, on some goroutine, without locks.
func (t *Thread) NewTimer(clock int, fired func()) (*Timer, error) {
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_ALARM, unix.CLOCK_TAI, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return &Timer{clock: clock, fired: fired}, nil
	case unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_MONOTONIC_COARSE:
		return nil, unix.EOPNOTSUPP
	}
	c, err := t.cpuClock(clock)
	if err != nil {
		return nil, err
	}
	return &Timer{clock: clock, cpu: &c, fired: fired}, nil
}

// now reads the clock by which the deadline is. Precondition: mu is held.
func (t *Timer) now() int64 {
	switch {
	case t.cpu != nil:
		return t.cpu.now()
	case t.wall:
		return Realtime()
	}
	return Monotonic()
}

// Set arms the timer for value from now, or with absolute for that time of its clock, and then every
// interval; value 0 disarms it. It returns the former setting.
func (t *Timer) Set(value, interval time.Duration, absolute bool) (oldValue, oldInterval time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	oldValue, oldInterval = t.get()
	t.disarm()
	t.interval = int64(interval)
	if value == 0 {
		return oldValue, oldInterval
	}
	isWall := t.clock == unix.CLOCK_REALTIME || t.clock == unix.CLOCK_REALTIME_ALARM || t.clock == unix.CLOCK_TAI
	t.wall = absolute && isWall && t.cpu == nil
	t.deadline = int64(value)
	if !absolute {
		now := t.now()
		t.deadline = now + min(int64(value), math.MaxInt64-now)
	}
	t.arm()
	return oldValue, oldInterval
}

// arm starts the timer for its deadline. Precondition: mu is held.
func (t *Timer) arm() {
	t.armed, t.expired = true, false
	if t.cpu != nil {
		t.cpu.process.watchCPU(t)
		return
	}
	if t.wall {
		clockSet.mu.Lock()
		if clockSet.timers == nil {
			clockSet.timers = make(map[*Timer]struct{})
		}
		clockSet.timers[t] = struct{}{}
		clockSet.mu.Unlock()
	}
	left := time.Duration(max(t.deadline-t.now(), 0))
	if t.timer == nil {
		t.timer = time.AfterFunc(left, t.expire)
	} else {
		t.timer.Reset(left)
	}
}

// disarm stops it. Precondition: mu is held.
func (t *Timer) disarm() {
	if t.timer != nil {
		t.timer.Stop()
	}
	if t.cpu != nil && t.armed {
		t.cpu.process.unwatchCPU(t)
	}
	if t.wall {
		clockSet.mu.Lock()
		delete(clockSet.timers, t)
		clockSet.mu.Unlock()
	}
	t.armed, t.expired = false, false
}

// Stop disarms the timer for good.
func (t *Timer) Stop() { t.Set(0, 0, false) }

// expire is called when the deadline should be over; the clock may have been set meanwhile.
func (t *Timer) expire() {
	if t.checkExpired() {
		t.fired()
	}
}

func (t *Timer) checkExpired() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.armed || t.expired {
		return false
	}
	if t.now() < t.deadline {
		if t.cpu == nil {
			t.timer.Reset(time.Duration(t.deadline - t.now()))
		}
		return false
	}
	t.expired = true
	return true
}

// clockWasSet makes the timer look at the wall clock again.
func (t *Timer) clockWasSet() {
	t.expire()
	if t.onClockSet != nil {
		t.onClockSet()
	}
}

// OnClockSet has f called when the wall clock is set while the timer waits for a time of it.
//
// Precondition: the timer was not yet set.
func (t *Timer) OnClockSet(f func()) { t.onClockSet = f }

// Expirations returns how often the timer has expired since it was asked last, and arms it for the next
// interval.
func (t *Timer) Expirations() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.expired {
		return 0
	}
	if t.interval == 0 {
		t.disarm()
		return 1
	}
	n := max((t.now()-t.deadline)/t.interval, 0) + 1
	t.deadline += n * t.interval
	t.arm()
	return uint64(n)
}

// Expired reports whether Expirations would return more than 0.
func (t *Timer) Expired() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.expired
}

// Get returns the time left until the next expiry, 0 if it is not armed, and the interval.
func (t *Timer) Get() (value, interval time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.get()
}

func (t *Timer) get() (value, interval time.Duration) {
	if !t.armed {
		return 0, time.Duration(t.interval)
	}
	left := t.deadline - t.now()
	if left <= 0 {
		if t.interval == 0 {
			if t.expired || t.event.Notify == SigEvNone {
				return 0, 0
			}
			return 1, 0 // about to expire
		}
		left = t.interval - -left%t.interval
	}
	return time.Duration(left), time.Duration(t.interval)
}

// Timers of CPU time are looked at when a thread of the process was interrupted in the program, and at
// every system call that is measured.

func (p *Process) watchCPU(t *Timer) {
	p.cpuMu.Lock()
	defer p.cpuMu.Unlock()
	if p.cpu == nil {
		p.cpu = make(map[*Timer]struct{})
	}
	p.cpu[t] = struct{}{}
	p.cpuArmed.Store(true)
}

func (p *Process) unwatchCPU(t *Timer) {
	p.cpuMu.Lock()
	defer p.cpuMu.Unlock()
	delete(p.cpu, t)
	p.cpuArmed.Store(len(p.cpu) != 0)
}

// checkCPUTimers expires timers of CPU time, and enforces RLIMIT_CPU.
func (p *Process) checkCPUTimers() {
	if p.cpuArmed.Load() {
		p.cpuMu.Lock()
		timers := make([]*Timer, 0, len(p.cpu))
		for t := range p.cpu {
			timers = append(timers, t)
		}
		p.cpuMu.Unlock()
		for _, t := range timers {
			t.expire()
		}
	}
	limit, _ := p.Limits.Get(unix.RLIMIT_CPU)
	if limit.Cur == Infinity {
		return
	}
	user, system := p.CPUTime()
	seconds := uint64(user+system) / nanosPerSecond
	switch {
	case seconds >= limit.Max:
		p.Kill(sigKill, KernelInfo(sigKill))
	case seconds >= limit.Cur && seconds >= p.nextXCPU.Load():
		p.nextXCPU.Store(seconds + 1)
		p.Kill(Signal(unix.SIGXCPU), KernelInfo(Signal(unix.SIGXCPU)))
	}
}

// minRearm is the least time after which an interval timer goes on whose signal nobody takes.
const minRearm = 100 * time.Microsecond

// itimer returns the interval timer of that kind, which it makes if there is none: EINVAL.
func (p *Process) itimer(which int) (*Timer, error) {
	sigs := [...]Signal{ITimerReal: Signal(unix.SIGALRM), ITimerVirtual: Signal(unix.SIGVTALRM), ITimerProf: Signal(unix.SIGPROF)}
	if which < 0 || which >= len(sigs) {
		return nil, unix.EINVAL
	}
	p.timersMu.Lock()
	defer p.timersMu.Unlock()
	if t := p.itimers[which]; t != nil {
		return t, nil
	}
	t := &Timer{clock: unix.CLOCK_MONOTONIC}
	switch which {
	case ITimerVirtual:
		t.cpu = &cpuClock{process: p, kind: cpuVirt}
	case ITimerProf:
		t.cpu = &cpuClock{process: p, kind: cpuProf}
	}
	t.fired = func() {
		p.Kill(sigs[which], KernelInfo(sigs[which]))
		t.goOn(minRearm)
	}
	p.itimers[which] = t
	return t, nil
}

// goOn takes the expirations of a timer that nobody else takes, and keeps it from expiring again before
// least.
func (t *Timer) goOn(least time.Duration) (expirations uint64) {
	n := t.Expirations()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed && !t.expired && t.timer != nil && t.deadline-t.now() < int64(least) {
		t.timer.Reset(least)
	}
	return n
}

// SetITimer is setitimer(2), and with ITIMER_REAL alarm(2); which is one of ITimerReal and its kin: EINVAL.
func (p *Process) SetITimer(which int, value, interval time.Duration) (oldValue, oldInterval time.Duration, err error) {
	t, err := p.itimer(which)
	if err != nil {
		return 0, 0, err
	}
	oldValue, oldInterval = t.Set(value, interval, false)
	return oldValue, oldInterval, nil
}

// ITimer is getitimer(2).
func (p *Process) ITimer(which int) (value, interval time.Duration, err error) {
	t, err := p.itimer(which)
	if err != nil {
		return 0, 0, err
	}
	value, interval = t.Get()
	return value, interval, nil
}

// The kinds of interval timers (setitimer(2)).
const (
	ITimerReal    = 0
	ITimerVirtual = 1
	ITimerProf    = 2
)

// What a SigEvent's Notify can be (sigevent(3type)).
const (
	SigEvSignal   = 0
	SigEvNone     = 1
	SigEvThread   = 2 // the C library's: to the kernel the same as SigEvSignal
	SigEvThreadID = 4
)

// SigEvent is struct sigevent of timer_create(2).
type SigEvent struct {
	Value  uint64
	Signal Signal
	Notify int32 // SigEvSignal, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID
	TID    int32
}

// TimerCreate is timer_create(2): e nil stands for SIGALRM with the timer's id as value. EINVAL, EAGAIN at
// RLIMIT_SIGPENDING.
func (t *Thread) TimerCreate(clock int, e *SigEvent) (int32, error) {
	p := t.Proc
	var target *Thread
	event := SigEvent{Signal: Signal(unix.SIGALRM)}
	if e != nil {
		event = *e
		switch event.Notify {
		case SigEvThreadID:
			if target = t.k.Thread(event.TID); target == nil || target.Proc != p {
				return 0, unix.EINVAL
			}
		case SigEvSignal, SigEvThread, SigEvNone:
		default:
			return 0, unix.EINVAL
		}
		if event.Notify != SigEvNone && !event.Signal.Valid() {
			return 0, unix.EINVAL
		}
	}
	timer, err := t.NewTimer(clock, nil)
	if err != nil {
		return 0, err
	}
	u := t.k.user(t.Creds().RUID)
	if uint64(u.signals.Add(1)) > p.Limits.Soft(rlimitSigpending) {
		u.signals.Add(-1)
		return 0, unix.EAGAIN
	}
	p.timersMu.Lock()
	defer p.timersMu.Unlock()
	if p.posix == nil {
		p.posix = make(map[int32]*Timer)
	}
	for p.posix[p.nextID] != nil {
		p.nextID = (p.nextID + 1) & math.MaxInt32
	}
	timer.id = p.nextID
	p.nextID = (p.nextID + 1) & math.MaxInt32
	if e == nil {
		event.Value = uint64(timer.id)
	}
	timer.event, timer.user = event, u
	timer.fired = func() { timer.signal(p, target) }
	p.posix[timer.id] = timer
	return timer.id, nil
}

// signal sends the signal of a timer_create timer that has expired.
func (t *Timer) signal(p *Process, target *Thread) {
	if t.event.Notify == SigEvNone {
		return // it goes on when somebody looks
	}
	sig := t.event.Signal
	p.send(target, sig, timerInfo(sig, t.id, 0, t.event.Value), t)
	if !t.queued.Load() {
		t.goOn(time.Millisecond) // the signal is ignored
	}
}

// delivered is called when the timer's signal is taken, and returns its overrun count. Precondition:
// Process.mu is held.
func (t *Timer) delivered() int32 {
	t.queued.Store(false)
	n := t.Expirations()
	overrun := int64(0)
	if n > 0 {
		overrun = int64(min(n-1, math.MaxInt32))
	}
	t.overrun.Store(overrun)
	return int32(overrun)
}

func (p *Process) timer(id int32) (*Timer, error) {
	p.timersMu.Lock()
	defer p.timersMu.Unlock()
	if t := p.posix[id]; t != nil {
		return t, nil
	}
	return nil, unix.EINVAL
}

// TimerSetTime is timer_settime(2): EINVAL.
func (p *Process) TimerSetTime(id int32, value, interval time.Duration, absolute bool) (oldValue, oldInterval time.Duration, err error) {
	t, err := p.timer(id)
	if err != nil {
		return 0, 0, err
	}
	oldValue, oldInterval = t.Set(value, interval, absolute)
	t.overrun.Store(0)
	return oldValue, oldInterval, nil
}

// TimerGetTime is timer_gettime(2): EINVAL.
func (p *Process) TimerGetTime(id int32) (value, interval time.Duration, err error) {
	t, err := p.timer(id)
	if err != nil {
		return 0, 0, err
	}
	value, interval = t.Get()
	return value, interval, nil
}

// TimerGetOverrun is timer_getoverrun(2): EINVAL.
func (p *Process) TimerGetOverrun(id int32) (int, error) {
	t, err := p.timer(id)
	if err != nil {
		return 0, err
	}
	return int(t.overrun.Load()), nil
}

// TimerDelete is timer_delete(2): EINVAL.
func (p *Process) TimerDelete(id int32) error {
	p.timersMu.Lock()
	t := p.posix[id]
	delete(p.posix, id)
	p.timersMu.Unlock()
	if t == nil {
		return unix.EINVAL
	}
	t.forget()
	return nil
}

func (t *Timer) forget() {
	t.Stop()
	if t.user != nil {
		t.user.signals.Add(-1)
	}
}

// stopPosixTimers deletes the timers of timer_create, as execve does.
func (p *Process) stopPosixTimers() {
	p.timersMu.Lock()
	timers := p.posix
	p.posix = nil
	p.timersMu.Unlock()
	for _, t := range timers {
		t.forget()
	}
}

// stopTimers stops all timers of a process that ends.
func (p *Process) stopTimers() {
	p.stopPosixTimers()
	p.timersMu.Lock()
	timers := p.itimers
	p.timersMu.Unlock()
	for _, t := range timers {
		if t != nil {
			t.Stop()
		}
	}
}
