package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// ackDelay is how long an acknowledgment waits for data to go with: Linux's TCP_DELACK_MIN.
const ackDelay = 40 * time.Millisecond

// firstAckDelay is how long the acknowledgment of the first bytes waits, when nothing is known of how the program
// answers: long enough for one that has the answer ready.
const firstAckDelay = time.Millisecond

// acknowledgments saves those that data would carry a moment later: where the program answers what it gets, the
// answer acknowledges it (RFC 9293, 3.8.6.3). Guarded by the endpoint's mu.
type acknowledgments struct {
	timer timer
	// answered says that what came was answered since the timer ran out, or TCP_QUICKACK was set. Without,
	// acknowledgments don't wait, so that a program that only receives doesn't slow its peer down.
	answered bool
	// spoke says that there was an occasion to answer already.
	spoke bool
	came  tcpip.MonotonicTime // the last data
}

// acknowledge acknowledges what came, or has an answer do that: of up to one full segment, in order, which waits
// for ackDelay at most.
//
// +checklocks:e.mu
func (e *Endpoint) acknowledge() {
	e.snd.acks.came = e.rcv.lastRcvdAckTime
	if !e.waits(e.rcv.RcvNxt) || e.route.Inside() {
		e.snd.sendAck()
		return
	}
	e.snd.acks.wait()
}

// waits says whether the acknowledgment of what comes before next may wait.
//
// +checklocks:e.mu
func (e *Endpoint) waits(next seqnum.Value) bool {
	s := e.snd
	return (s.acks.answered || !s.acks.spoke) && e.EndpointState() == StateEstablished && len(e.rcv.pendingRcvdSegments) == 0 &&
		s.MaxSentAck.Size(next) <= seqnum.Size(e.amss)
}

func (a *acknowledgments) wait() {
	if a.timer.enabled() {
		return
	}
	delay := ackDelay
	if !a.answered {
		delay = firstAckDelay
	}
	a.timer.enable(delay)
}

// ackTimerExpired sends the acknowledgment that waited, if nothing took it along.
//
// +checklocks:e.mu
func (e *Endpoint) ackTimerExpired() tcpip.Error {
	s := e.snd
	if s.acks.timer.isUninitialized() || !s.acks.timer.checkExpiration() {
		return nil
	}
	s.acks.answered, s.acks.spoke = false, true
	if e.rcv.RcvNxt != s.MaxSentAck {
		s.sendAck()
	}
	return nil
}

// answering notes that data is sent, and the acknowledgment of all that came with it.
//
// +checklocks:s.ep.mu
func (s *sender) answering() {
	if !s.acks.answered && s.LastSendTime.Sub(s.acks.came) < ackDelay {
		s.acks.answered = true
	}
	if !s.acks.spoke {
		s.acks.spoke = true
		s.acks.timer.stop()
		return
	}
	s.acks.timer.disable()
}

// SetQuickAck is TCP_QUICKACK: acknowledgments don't wait until the next answer, unless v is 0 (tcp(7)). Of other even
// values, Linux makes an acknowledgment that waits, and no more.
func (e *Endpoint) SetQuickAck(v int) {
	e.LockUser()
	defer e.UnlockUser()
	e.ops.SetQuickAck(v != 0) // what a connection begins with
	s := e.snd
	if s == nil {
		return
	}
	s.acks.answered, s.acks.spoke = v == 0, true
	if state := e.EndpointState(); v == 0 || state != StateEstablished && state != StateCloseWait || e.rcv.RcvNxt == s.MaxSentAck {
		return
	}
	s.acks.timer.disable()
	s.sendAck()
	s.acks.answered = v&1 == 0
}

// QuickAck is what TCP_QUICKACK says.
func (e *Endpoint) QuickAck() bool {
	e.LockUser()
	defer e.UnlockUser()
	if e.snd == nil {
		return e.ops.GetQuickAck()
	}
	return !e.snd.acks.answered
}
