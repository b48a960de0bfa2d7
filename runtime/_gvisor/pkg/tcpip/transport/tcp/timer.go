package tcp

import (
	"runtime"
	"time"

	"gvisor.dev/gvisor/pkg/sync"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// timers are those of all endpoints of a protocol, in one queue with one timer of the clock: a connection has nine,
// most of which are never set, or moved before they go off. What they do runs on one goroutine, one after the
// other, so nothing of it waits but for the lock of its endpoint.
//
// Lock order: Endpoint.mu, mu.
type timers struct {
	mu    sync.Mutex // guards what follows
	queue []*timer   // a heap: each goes off no later than the two at twice its place
	clock tcpip.Timer
	// next is when clock goes off; zero: it is not set.
	next tcpip.MonotonicTime
}

// timer calls a function of an endpoint's when its time has come. To disable it leaves it in the queue, and to
// enable it again for a later time leaves it where it is: the function finds out (checkExpiration). So a timer
// that is set and disabled with each segment costs no more than two stores. Guarded by the endpoint's mu.
type timer struct {
	state timerState
	// place is where it is in the queue, from 1; 0: nowhere. Guarded by timers.mu.
	place   int32
	ep      *Endpoint
	expired func(*Endpoint)
	// target is when it expires, if it is enabled.
	target tcpip.MonotonicTime
	// clockTarget is when it goes off; zero: it was never in the queue. It is changed with timers.mu held too.
	clockTarget tcpip.MonotonicTime
}

type timerState uint8

const (
	timerUninitialized timerState = iota // not initialized yet, or cleaned up
	timerDisabled
	timerEnabled
	timerOrphaned // disabled, and perhaps in the queue
)

// What timers do.

func resendExpired(e *Endpoint) {
	timerHandler(e, func() tcpip.Error { return e.snd.retransmitTimerExpired() })()
}

func reorderExpired(e *Endpoint) {
	timerHandler(e, func() tcpip.Error { return e.snd.rc.reorderTimerExpired() })()
}

func probeExpired(e *Endpoint) {
	timerHandler(e, func() tcpip.Error { return e.snd.probeTimerExpired() })()
}

func corkExpired(e *Endpoint) {
	timerHandler(e, func() tcpip.Error { return e.snd.corkTimerExpired() })()
}

func handshakeExpired(e *Endpoint) {
	timerHandler(e, func() tcpip.Error { return e.h.retransmitHandlerLocked() })()
}

func ackExpired(e *Endpoint) { timerHandler(e, e.ackTimerExpired)() }

func keepaliveExpired(e *Endpoint) { timerHandler(e, e.keepaliveTimerExpired)() }

func (t *timer) init(e *Endpoint, expired func(*Endpoint)) {
	t.state, t.ep, t.expired = timerDisabled, e, expired
}

// cleanup takes the timer out of the queue for good, if it ever was there.
func (t *timer) cleanup() {
	if t.clockTarget == (tcpip.MonotonicTime{}) {
		return
	}
	ts := &t.ep.protocol.timers
	ts.mu.Lock()
	ts.remove(t)
	*t = timer{}
	ts.mu.Unlock()
}

func (t *timer) isUninitialized() bool { return t.state == timerUninitialized }

// checkExpiration says, when the timer went off, whether it has expired: it may have been disabled meanwhile, or
// enabled for a later time, for which it is put into the queue again. One that expired is disabled.
func (t *timer) checkExpiration() bool {
	if t.state == timerOrphaned {
		t.state = timerDisabled
		return false
	}
	now := t.ep.stack.Clock().NowMonotonic()
	if t.state == timerEnabled && now.Before(t.target) {
		t.put(now, t.target.Sub(now))
		return false
	}
	t.state = timerDisabled
	return true
}

func (t *timer) disable() {
	if t.state == timerEnabled {
		t.state = timerOrphaned
	}
}

// stop disables the timer and takes it out of the queue, for one that is not going to be enabled soon. It says
// whether it was there.
func (t *timer) stop() bool {
	if t.state != timerUninitialized {
		t.state = timerDisabled
	}
	if t.clockTarget == (tcpip.MonotonicTime{}) {
		return false
	}
	ts := &t.ep.protocol.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	was := ts.remove(t)
	ts.set(t.ep.stack.Clock())
	return was
}

func (t *timer) enabled() bool { return t.state == timerEnabled }

func (t *timer) enable(d time.Duration) {
	if t.state == timerUninitialized {
		return
	}
	now := t.ep.stack.Clock().NowMonotonic()
	t.target = now.Add(d)
	if t.state == timerDisabled || t.target.Before(t.clockTarget) {
		t.put(now, d)
	}
	t.state = timerEnabled
}

// put has the timer go off d after now.
func (t *timer) put(now tcpip.MonotonicTime, d time.Duration) {
	ts := &t.ep.protocol.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.remove(t)
	t.clockTarget = now.Add(max(d, 1))
	ts.queue = append(ts.queue, t)
	ts.up(t, len(ts.queue))
	if t.place == 1 {
		ts.set(t.ep.stack.Clock())
	}
}

// set has clock go off for the first in the queue. Precondition: mu is held.
func (ts *timers) set(c tcpip.Clock) {
	if len(ts.queue) == 0 || ts.next == ts.queue[0].clockTarget {
		return
	}
	ts.next = ts.queue[0].clockTarget
	d := max(ts.next.Sub(c.NowMonotonic()), 0)
	if ts.clock == nil {
		ts.clock = c.AfterFunc(d, func() { ts.run(c) })
	} else {
		ts.clock.Reset(d)
	}
}

// run calls what the timers are for whose time has come.
func (ts *timers) run(c tcpip.Clock) {
	const atOnce = 64
	for n := 1; ; n++ {
		now := c.NowMonotonic()
		ts.mu.Lock()
		ts.next = tcpip.MonotonicTime{}
		if len(ts.queue) == 0 || now.Before(ts.queue[0].clockTarget) {
			ts.set(c)
			ts.mu.Unlock()
			return
		}
		t := ts.queue[0]
		ts.remove(t)
		e, expired := t.ep, t.expired
		ts.mu.Unlock()
		// Whoever has the lock may keep it for long: the others don't wait for that.
		if e.TryLock() {
			e.mu.Unlock()
			expired(e)
		} else {
			go expired(e)
		}
		if n%atOnce == 0 {
			runtime.Gosched()
		}
	}
}

// remove takes t out of the queue if it is there, and says so. Precondition: mu is held.
func (ts *timers) remove(t *timer) bool {
	if t.place == 0 {
		return false
	}
	at, end := int(t.place), len(ts.queue)
	last := ts.queue[end-1]
	ts.queue[end-1] = nil
	ts.queue = ts.queue[:end-1]
	t.place = 0
	if last != t {
		ts.up(last, at)
		ts.down(last, int(last.place))
	}
	return true
}

// up moves t from a place that is free to where nothing before it is later. Precondition: mu is held.
func (ts *timers) up(t *timer, place int) {
	for ; place > 1; place /= 2 {
		before := ts.queue[place/2-1]
		if !t.clockTarget.Before(before.clockTarget) {
			break
		}
		ts.queue[place-1], before.place = before, int32(place)
	}
	ts.queue[place-1], t.place = t, int32(place)
}

// down moves t to where nothing after it is earlier. Precondition: mu is held.
func (ts *timers) down(t *timer, place int) {
	for {
		after := 2 * place
		if after > len(ts.queue) {
			break
		}
		if after < len(ts.queue) && ts.queue[after].clockTarget.Before(ts.queue[after-1].clockTarget) {
			after++
		}
		earlier := ts.queue[after-1]
		if !earlier.clockTarget.Before(t.clockTarget) {
			break
		}
		ts.queue[place-1], earlier.place = earlier, int32(place)
		place = after
	}
	ts.queue[place-1], t.place = t, int32(place)
}

// alarm is a timer for what an endpoint waits for at its beginning or its end: that a handshake is answered, that
// the other end closes, or that TIME-WAIT is over. That is one after the other: each endpoint has one.
type alarm struct{ timer }

// Stop and Reset make it a tcpip.Timer, which is not left in the queue.
func (a *alarm) Stop() bool { return a.stop() }

func (a *alarm) Reset(d time.Duration) { a.put(a.ep.stack.Clock().NowMonotonic(), d) }

// after has expired called when d is over. It replaces what was waited for before.
//
// +checklocks:e.mu
func (e *Endpoint) after(d time.Duration, expired func(*Endpoint)) tcpip.Timer {
	e.alarm.stop()
	e.alarm.init(e, expired)
	e.alarm.Reset(d)
	return &e.alarm
}

// newHandshakeTimer sends SYN again, from InitialRTO on.
//
// +checklocks:e.mu
func (e *Endpoint) newHandshakeTimer() (*backoffTimer, tcpip.Error) {
	return &backoffTimer{timeout: InitialRTO, maxTimeout: MaxRTO, t: e.after(InitialRTO, handshakeExpired)}, nil
}
