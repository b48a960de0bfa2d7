package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// A connection that the program closed lives on until the peer has what it is owed, and has no program any more to
// bound how many there are: a peer that is silent, or has no room ever, would have each hold its bytes for a quarter of
// an hour, or for good. Linux gives up sooner on those (tcp_orphan_retries and tcp_max_orphans in tcp(7)).
const (
	orphanTimeouts = 8                 // of the retransmission timer, without progress
	orphanTime     = 100 * time.Second // but no sooner than this: what those timeouts take at least on Linux
	orphansCrowded = 3                 // timeouts when memory is scarce
	lingerCrowded  = time.Second       // in FIN-WAIT-2 then
)

// orphan is how a closed connection gets on.
type orphan struct {
	timeouts int
	since    tcpip.MonotonicTime // the first of the timeouts
	una      seqnum.Value        // what was acknowledged then
}

// abandoned says whether to give up on the connection, whose retransmission timer has expired.
//
// +checklocks:s.ep.mu
func (s *sender) abandoned() bool {
	if !s.ep.closed {
		return false
	}
	o, now := &s.orphan, s.ep.stack.Clock().NowMonotonic()
	if o.timeouts == 0 || o.una != s.SndUna {
		*o = orphan{since: now, una: s.SndUna}
	}
	o.timeouts++
	return o.timeouts > orphanTimeouts && now.Sub(o.since) > orphanTime || o.timeouts > orphansCrowded && isCrowded()
}

// lingerTime returns how long a closed connection waits in FIN-WAIT-2 for the peer's FIN.
func (e *Endpoint) lingerTime() time.Duration {
	if isCrowded() {
		return min(e.tcpLingerTimeout, lingerCrowded)
	}
	return e.tcpLingerTimeout
}
