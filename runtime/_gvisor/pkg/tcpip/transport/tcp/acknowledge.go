package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// ackDelay is how long an acknowledgment waits for data to go with: Linux's TCP_DELACK_MIN.
const ackDelay = 40 * time.Millisecond

// acknowledgments saves those that data would carry a moment later: where the program answers what it gets, the
// answer acknowledges it (RFC 9293, 3.8.6.3). Guarded by the endpoint's mu.
type acknowledgments struct {
	timer timer
	// answered says that data was sent since the timer ran out. Without, acknowledgments don't wait, so that a
	// program that only receives doesn't slow its peer down.
	answered bool
}

// acknowledge acknowledges what came, or has an answer do that: of up to one full segment, in order, which waits
// for ackDelay at most.
//
// +checklocks:e.mu
func (e *Endpoint) acknowledge() {
	s, r := e.snd, e.rcv
	if !s.acks.answered || e.EndpointState() != StateEstablished || len(r.pendingRcvdSegments) != 0 ||
		s.MaxSentAck.Size(r.RcvNxt) > seqnum.Size(e.amss) || e.route.Inside() {
		s.sendAck()
		return
	}
	if !s.acks.timer.enabled() {
		s.acks.timer.enable(ackDelay)
	}
}

// ackTimerExpired sends the acknowledgment that waited, if nothing took it along.
//
// +checklocks:e.mu
func (e *Endpoint) ackTimerExpired() tcpip.Error {
	s := e.snd
	if s.acks.timer.isUninitialized() || !s.acks.timer.checkExpiration() {
		return nil
	}
	s.acks.answered = false
	if e.rcv.RcvNxt != s.MaxSentAck {
		s.sendAck()
	}
	return nil
}

// answering notes that data is sent, and the acknowledgment of all that came with it.
//
// +checklocks:s.ep.mu
func (s *sender) answering() {
	s.acks.answered = true
	s.acks.timer.disable()
}
