package tcp

import (
	"math/rand/v2"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Timers expire when they are due, each once, however they are set, moved, disabled and stopped before.
func TestTimers(t *testing.T) {
	const step = time.Millisecond
	clock := faketime.NewManualClock()
	s := stack.New(stack.Options{TransportProtocols: []stack.TransportProtocolFactory{NewProtocol}, Clock: clock})
	defer s.Destroy()
	p := s.TransportProtocolInstance(ProtocolNumber).(*protocol)
	r := rand.New(rand.NewPCG(3, 4))

	type kept struct {
		timer
		due     tcpip.MonotonicTime // zero: never
		expired int
	}
	var all []*kept
	for range 20 {
		e := newEndpoint(s, p, header.IPv4ProtocolNumber, new(waiter.Queue))
		for range 5 {
			k := new(kept)
			k.init(e, func(e *Endpoint) {
				e.mu.Lock()
				defer e.mu.Unlock()
				if k.isUninitialized() || !k.checkExpiration() {
					return
				}
				if now := clock.NowMonotonic(); k.due == (tcpip.MonotonicTime{}) || now.Before(k.due) || now.Sub(k.due) > step {
					t.Errorf("due at %v, expired at %v", k.due, now)
				}
				k.due = tcpip.MonotonicTime{}
				k.expired++
			})
			all = append(all, k)
		}
	}
	change := func(k *kept) {
		k.ep.mu.Lock()
		defer k.ep.mu.Unlock()
		switch r.IntN(8) {
		case 0:
			k.disable()
			k.due = tcpip.MonotonicTime{}
		case 1:
			k.stop()
			k.due = tcpip.MonotonicTime{}
		default:
			d := time.Duration(r.IntN(300)) * step
			k.enable(d)
			k.due = clock.NowMonotonic().Add(d)
		}
		if want := k.due != (tcpip.MonotonicTime{}); k.enabled() != want {
			t.Errorf("enabled: %v", !want)
		}
	}
	check := func() {
		p.timers.mu.Lock()
		defer p.timers.mu.Unlock()
		for i, q := range p.timers.queue {
			if int(q.place) != i+1 || i > 0 && q.clockTarget.Before(p.timers.queue[(i+1)/2-1].clockTarget) {
				t.Fatalf("the queue is in disorder at %d of %d", i+1, len(p.timers.queue))
			}
		}
	}
	for range 5000 {
		for range r.IntN(4) {
			change(all[r.IntN(len(all))])
		}
		check()
		clock.Advance(step)
	}
	clock.Advance(time.Second)
	expired := 0
	for _, k := range all {
		if k.due != (tcpip.MonotonicTime{}) {
			t.Error("a timer never expired")
		}
		expired += k.expired
		change(k)
		k.ep.mu.Lock()
		e := k.ep
		k.cleanup()
		k.enable(step) // which is too late
		e.mu.Unlock()
	}
	if expired < 1000 {
		t.Errorf("%d timers expired", expired)
	}
	if n := len(p.timers.queue); n != 0 {
		t.Errorf("%d timers are left", n)
	}
}

// Who has the lock of an endpoint for long doesn't keep the timers of others from expiring.
func TestTimersDontWait(t *testing.T) {
	clock := tcpip.NewStdClock()
	s := stack.New(stack.Options{TransportProtocols: []stack.TransportProtocolFactory{NewProtocol}, Clock: clock})
	defer s.Destroy()
	p := s.TransportProtocolInstance(ProtocolNumber).(*protocol)
	done := make(chan *Endpoint, 2)
	var ends [2]*Endpoint
	for i := range ends {
		e := newEndpoint(s, p, header.IPv4ProtocolNumber, new(waiter.Queue))
		e.mu.Lock()
		defer e.mu.Unlock()
		e.after(time.Duration(1+i)*time.Millisecond, func(e *Endpoint) {
			e.mu.Lock()
			done <- e
			e.mu.Unlock()
		})
		ends[i] = e
	}
	for i := range ends {
		e := ends[len(ends)-1-i]
		e.mu.Unlock()
		if got := <-done; got != e {
			t.Error("the timer of the other endpoint went off")
		}
		e.mu.Lock()
	}
}

// Connections that ended linger only while there is memory for that.
func TestTimeWaitEnds(t *testing.T) {
	clock := faketime.NewManualClock()
	s := stack.New(stack.Options{TransportProtocols: []stack.TransportProtocolFactory{NewProtocol}, Clock: clock})
	defer s.Destroy()
	p := s.TransportProtocolInstance(ProtocolNumber).(*protocol)
	defer crowded.Store(crowded.Load())
	for _, scarce := range []bool{false, true} {
		p.SetCrowded(func() bool { return scarce })
		e := newEndpoint(s, p, header.IPv4ProtocolNumber, new(waiter.Queue))
		e.mu.Lock()
		e.setEndpointState(StateTimeWait)
		startTimeWait(e)
		e.mu.Unlock()
		clock.Advance(time.Second)
		if ended := e.EndpointState() == StateClose; ended != scarce {
			t.Errorf("memory is scarce: %v; the endpoint is gone after a second: %v", scarce, ended)
		}
		clock.Advance(DefaultTCPTimeWaitTimeout)
		if e.EndpointState() != StateClose {
			t.Error("TIME-WAIT never ends")
		}
	}
}
