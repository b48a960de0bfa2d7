// Package event is the files that programs wait with: eventfd, timerfd, signalfd and epoll.
//
// Lock order:
//
//	nesting
//	  Epoll.mu, of the outer one first
//	    the locks of the files in it, and of their queues
//	      Epoll.readyMu
//
// Readiness takes no lock that is held across a copy to or from the program.
package event

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/vfs"
)

// counter is the file of eventfd(2).
type counter struct {
	vfs.BaseFile
	queue     waitq.Queue
	value     atomic.Uint64
	semaphore bool

	mu   sync.Mutex // orders reads and writes, and is held across their copies
	word [8]byte
}

// NewEventfd returns an eventfd; flags are of EFD_SEMAPHORE, EFD_NONBLOCK and EFD_CLOEXEC.
func NewEventfd(initial uint32, flags uint32) (*vfs.Description, error) {
	if flags&^(unix.EFD_SEMAPHORE|unix.EFD_NONBLOCK|unix.EFD_CLOEXEC) != 0 {
		return nil, unix.EINVAL
	}
	f := &counter{semaphore: flags&unix.EFD_SEMAPHORE != 0}
	f.value.Store(uint64(initial))
	return vfs.NewAnonymous(f, "[eventfd]", unix.O_RDWR|flags&unix.O_NONBLOCK), nil
}

// Read takes the counter, or one of it: EAGAIN while it is 0.
func (f *counter) Read(_ *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	if dst.Len() < len(f.word) {
		return 0, unix.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.value.Load()
	if v == 0 {
		return 0, unix.EAGAIN
	}
	if f.semaphore {
		v = 1
	}
	binary.LittleEndian.PutUint64(f.word[:], v)
	if _, err := dst.CopyOut(f.word[:]); err != nil {
		return 0, err
	}
	f.value.Add(-v)
	f.queue.Notify(waiter.WritableEvents)
	return len(f.word), nil
}

// Write adds to the counter: EAGAIN while it has no room.
func (f *counter) Write(_ *vfs.Context, src *mm.Buffer, _ int64) (int, error) {
	if src.Len() < len(f.word) {
		return 0, unix.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := *src
	if _, err := src.CopyIn(f.word[:]); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(f.word[:])
	if v == math.MaxUint64 {
		return 0, unix.EINVAL
	}
	if v > math.MaxUint64-1-f.value.Load() {
		*src = before // the caller comes again
		return 0, unix.EAGAIN
	}
	f.value.Add(v)
	f.queue.Notify(waiter.ReadableEvents)
	src.Skip(src.Len()) // a write adds once, however much there is
	return len(f.word), nil
}

// Signaler is an open file that counts what the kernel tells it: an eventfd.
type Signaler interface{ Signal(n uint64) }

// Signal adds n, for the kernel's own use (AIO): it saturates.
func (f *counter) Signal(n uint64) {
	f.mu.Lock()
	f.value.Add(min(n, math.MaxUint64-1-f.value.Load()))
	f.mu.Unlock()
	f.queue.Notify(waiter.ReadableEvents)
}

// Readiness says what would not wait.
func (f *counter) Readiness(mask waiter.EventMask) waiter.EventMask {
	var r waiter.EventMask
	v := f.value.Load()
	if v > 0 {
		r |= waiter.ReadableEvents
	}
	if v < math.MaxUint64-1 {
		r |= waiter.WritableEvents
	}
	return r & mask
}

// EventRegister has e told of changes.
func (f *counter) EventRegister(e *waiter.Entry) error {
	f.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *counter) EventUnregister(e *waiter.Entry) { f.queue.EventUnregister(e) }

// FdInfo is the line in /proc/PID/fdinfo.
func (f *counter) FdInfo() string { return fmt.Sprintf("eventfd-count: %16x\n", f.value.Load()) }

// Timer is the file of timerfd_create(2).
type Timer struct {
	vfs.BaseFile
	queue waitq.Queue
	timer *kernel.Timer
	clock int

	mu         sync.Mutex
	cancelable bool   // TFD_TIMER_CANCEL_ON_SET of an absolute time of the wall clock
	generation uint64 // of the wall clock when the timer was set
	word       [8]byte
}

// NewTimerfd returns a timerfd; flags are of TFD_NONBLOCK and TFD_CLOEXEC.
func NewTimerfd(t *kernel.Thread, clock int, flags uint32) (*vfs.Description, error) {
	if flags&^(unix.TFD_NONBLOCK|unix.TFD_CLOEXEC) != 0 {
		return nil, unix.EINVAL
	}
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
	default:
		return nil, unix.EINVAL
	}
	f := &Timer{clock: clock}
	timer, err := t.NewTimer(clock, func() { f.queue.Notify(waiter.ReadableEvents) })
	if err != nil {
		return nil, err
	}
	timer.OnClockSet(func() { f.queue.Notify(waiter.ReadableEvents) })
	f.timer = timer
	return vfs.NewAnonymous(f, "[timerfd]", unix.O_RDWR|flags&unix.O_NONBLOCK), nil
}

// TimerOf returns the timer that d is: EINVAL if it is none.
func TimerOf(d *vfs.Description) (*Timer, error) {
	if t, ok := d.File().(*Timer); ok {
		return t, nil
	}
	return nil, unix.EINVAL
}

// Set is timerfd_settime(2), and returns the former setting; flags are of TFD_TIMER_ABSTIME and
// TFD_TIMER_CANCEL_ON_SET.
func (f *Timer) Set(value, interval time.Duration, flags int) (oldValue, oldInterval time.Duration, err error) {
	if flags&^(unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET) != 0 {
		return 0, 0, unix.EINVAL
	}
	wall := f.clock == unix.CLOCK_REALTIME || f.clock == unix.CLOCK_REALTIME_ALARM
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancelable = wall && flags == unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET
	f.generation = kernel.ClockGeneration()
	oldValue, oldInterval = f.timer.Set(value, interval, flags&unix.TFD_TIMER_ABSTIME != 0)
	return oldValue, oldInterval, nil
}

// Get is timerfd_gettime(2).
func (f *Timer) Get() (value, interval time.Duration) { return f.timer.Get() }

// canceled says whether the clock was set. Precondition: mu is held.
func (f *Timer) canceled() bool { return f.cancelable && f.generation != kernel.ClockGeneration() }

// Read returns how often the timer has expired: EAGAIN if it hasn't, ECANCELED if the clock was set.
func (f *Timer) Read(_ *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	if dst.Len() < len(f.word) {
		return 0, unix.EINVAL
	}
	f.mu.Lock()
	canceled := f.canceled()
	f.generation = kernel.ClockGeneration()
	n := f.timer.Expirations()
	f.mu.Unlock()
	if canceled {
		return 0, unix.ECANCELED
	}
	if n == 0 {
		return 0, unix.EAGAIN
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], n)
	return dst.CopyOut(word[:])
}

// Readiness says whether a read would not wait.
func (f *Timer) Readiness(mask waiter.EventMask) waiter.EventMask {
	f.mu.Lock()
	canceled := f.canceled()
	f.mu.Unlock()
	if canceled || f.timer.Expired() {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// EventRegister has e told of expiries.
func (f *Timer) EventRegister(e *waiter.Entry) error {
	f.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *Timer) EventUnregister(e *waiter.Entry) { f.queue.EventUnregister(e) }

// Release stops the timer.
func (f *Timer) Release() { f.timer.Stop() }

// FdInfo is what /proc/PID/fdinfo shows.
func (f *Timer) FdInfo() string {
	value, interval := f.timer.Get()
	return fmt.Sprintf("clockid: %d\nticks: 0\nsettime flags: 00\nit_value: (%d, %d)\nit_interval: (%d, %d)\n", f.clock,
		value/time.Second, value%time.Second, interval/time.Second, interval%time.Second)
}

// signals is the file of signalfd(2). Who reads gets his own signals; who waits is told of those of the
// thread that made the file and of its process.
type signals struct {
	vfs.BaseFile
	maker *kernel.Thread
	set   atomic.Uint64
}

// unblockable can't be had by signalfd.
var unblockable = kernel.SetOf(kernel.Signal(unix.SIGKILL), kernel.Signal(unix.SIGSTOP))

// NewSignalfd returns a signalfd of the set; flags are of SFD_NONBLOCK and SFD_CLOEXEC.
func NewSignalfd(t *kernel.Thread, set kernel.SigSet, flags uint32) (*vfs.Description, error) {
	if flags&^(unix.SFD_NONBLOCK|unix.SFD_CLOEXEC) != 0 {
		return nil, unix.EINVAL
	}
	f := &signals{maker: t}
	f.set.Store(uint64(set &^ unblockable))
	return vfs.NewAnonymous(f, "[signalfd]", unix.O_RDWR|flags&unix.O_NONBLOCK), nil
}

// SetSignals changes the set of the signalfd d: EINVAL if it is none.
func SetSignals(d *vfs.Description, set kernel.SigSet) error {
	f, ok := d.File().(*signals)
	if !ok {
		return unix.EINVAL
	}
	f.set.Store(uint64(set &^ unblockable))
	f.maker.Proc.SignalEvents.Notify(waiter.ReadableEvents)
	return nil
}

// infoSize is the size of struct signalfd_siginfo.
const infoSize = 128

// Read takes pending signals: EAGAIN if there are none.
func (f *signals) Read(c *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	if dst.Len() < infoSize {
		return 0, unix.EINVAL
	}
	total := 0
	for dst.Len() >= infoSize {
		info, ok := c.Thread.DequeueSignal(kernel.SigSet(f.set.Load()))
		if !ok {
			break
		}
		var b [infoSize]byte
		encode(b[:], &info)
		n, err := dst.CopyOut(b[:])
		if err != nil {
			if total == 0 {
				return 0, err
			}
			break
		}
		total += n
	}
	if total == 0 {
		return 0, unix.EAGAIN
	}
	return total, nil
}

// encode writes info as struct signalfd_siginfo (signalfd(2)).
func encode(b []byte, info *kernel.Siginfo) {
	put := func(offset int, v uint32) { binary.LittleEndian.PutUint32(b[offset:], v) }
	long := func(offset int, v uint64) { binary.LittleEndian.PutUint64(b[offset:], v) }
	put(0, uint32(info.Signo))
	put(4, uint32(info.Errno))
	put(8, uint32(info.Code))
	user := func() { put(12, uint32(info.PID())); put(16, info.UID()) }
	value := func() { put(44, uint32(info.Value())); long(48, info.Value()) }
	switch {
	case info.Code == kernel.SITimer:
		put(24, uint32(info.TimerID()))
		put(32, uint32(info.Overrun()))
		value()
	case info.Code == kernel.SISigIO:
		put(20, uint32(info.FD()))
		put(28, uint32(info.Band()))
	case info.Code < 0:
		user()
		value()
	case info.Code == kernel.SIUser || info.Code == kernel.SIKernel:
		user()
	default:
		switch unix.Signal(info.Signo) {
		case unix.SIGCHLD:
			user()
			put(40, uint32(info.Status()))
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP:
			long(72, info.Addr())
		case unix.SIGIO:
			put(20, uint32(info.FD()))
			put(28, uint32(info.Band()))
		}
	}
}

// Readiness says whether a signal is pending.
func (f *signals) Readiness(mask waiter.EventMask) waiter.EventMask {
	if f.maker.PendingIn(kernel.SigSet(f.set.Load())) != 0 {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// EventRegister has e told of signals.
func (f *signals) EventRegister(e *waiter.Entry) error {
	f.maker.Proc.SignalEvents.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *signals) EventUnregister(e *waiter.Entry) { f.maker.Proc.SignalEvents.EventUnregister(e) }

// FdInfo is the line in /proc/PID/fdinfo.
func (f *signals) FdInfo() string { return fmt.Sprintf("sigmask:\t%016x\n", f.set.Load()) }
