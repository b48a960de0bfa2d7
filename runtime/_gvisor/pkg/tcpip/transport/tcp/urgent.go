package tcp

import (
	"io"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Urgent bytes as tcp(7) describes them, which is what Linux makes of RFC 793's urgent pointer (RFC 6093): the
// byte before the one that the pointer points to is the urgent one. Of those that came, the last is known.

// The states of the urgent byte.
const (
	urgentNone   = iota // none came, or the reader is beyond it
	urgentToCome        // the peer has announced it
	urgentHere
	urgentRead // and receive with MSG_OOB took it
)

// urgent is what an endpoint knows of the urgent byte that it received last. The endpoint's mu guards it;
// state is looked at without.
type urgent struct {
	state atomic.Uint32
	// inline is SO_OOBINLINE: the byte is read where it stands.
	inline atomic.Bool
	value  byte
	at     seqnum.Value
	// end is where the bytes that wait to be read end.
	end seqnum.Value
}

// SetUrgentInline sets SO_OOBINLINE.
func (e *Endpoint) SetUrgentInline(on bool) { e.urgent.inline.Store(on) }

// urgentAhead returns how many bytes are to be read before the urgent one. Precondition: there is one.
//
// +checklocks:e.mu
func (e *Endpoint) urgentAhead() int {
	e.rcvQueueMu.Lock()
	defer e.rcvQueueMu.Unlock()
	return e.aheadLocked()
}

// +checklocks:e.mu
// +checklocks:e.rcvQueueMu
func (e *Endpoint) aheadLocked() int {
	return e.RcvBufUsed - int(int32(e.urgent.end-e.urgent.at))
}

// markUrgent makes the last byte of s urgent, which was queued and has no sequence number. It gets a segment of
// its own, so that nothing that divides and joins segments has to know where it is.
//
// +checklocks:e.mu
func (e *Endpoint) markUrgent(s *segment) {
	if n := s.payloadSize(); n > 1 {
		last := s.clone()
		last.pkt.Data().TrimFront(n - 1)
		s.pkt.Data().CapLength(n - 1)
		e.snd.writeList.InsertAfter(s, last)
		s = last
	}
	s.urgent = true
}

// urgentPointer returns the pointer for a segment that is sent with these flags.
func urgentPointer(flags header.TCPFlags) uint16 {
	if flags&header.TCPFlagUrg != 0 {
		return 1
	}
	return 0
}

// noteUrgent looks for the urgent byte in a segment that is about to be queued for the reader.
//
// +checklocks:e.mu
func (e *Endpoint) noteUrgent(s *segment) {
	u := &e.urgent
	begin := s.sequenceNumber
	u.end = begin
	n := s.payloadSize()
	switch {
	case s.urgent:
		e.announceUrgent(begin.Add(seqnum.Size(n - 1)))
	case s.flags.Contains(header.TCPFlagUrg):
		h := header.TCP(s.pkt.TransportHeader().Slice())
		p := h.UrgentPointer()
		if p > 0 {
			p--
		}
		e.announceUrgent(seqnum.Value(h.SequenceNumber()).Add(seqnum.Size(p)))
	}
	if u.state.Load() == urgentToCome && u.at.InWindow(begin, seqnum.Size(n)) {
		u.value = s.pkt.Data().AsRange().SubRange(int(begin.Size(u.at))).Capped(1).ToSlice()[0]
		u.state.Store(urgentHere)
		e.waiterQueue.Notify(waiter.EventPri)
	}
	u.end = begin.Add(seqnum.Size(n))
}

// announceUrgent takes note that the byte at a place is urgent. One before it that nobody took is then a byte
// as any other, unless the reader has come to it.
//
// +checklocks:e.mu
func (e *Endpoint) announceUrgent(at seqnum.Value) {
	u := &e.urgent
	state := u.state.Load()
	if at.LessThan(u.end) || state != urgentNone && !u.at.LessThan(at) {
		return
	}
	if state != urgentNone && !u.inline.Load() && e.urgentAhead() == 0 {
		e.dropUrgent()
	}
	u.at = at
	u.state.Store(urgentToCome)
}

// dropUrgent takes the urgent byte away from what is to be read next, if it is there.
//
// +checklocks:e.mu
func (e *Endpoint) dropUrgent() {
	s := e.rcvQueue.Front()
	if s == nil {
		return
	}
	s.TrimFront(1)
	if s.payloadSize() == 0 {
		e.rcvQueue.Remove(s)
		s.DecRef()
	}
	e.rcvQueueMu.Lock()
	e.RcvBufUsed--
	e.rcvQueueMu.Unlock()
}

// untilUrgent returns where to read to so that a read ends before the urgent byte, or leaves it out if it is the
// next, and how many bytes that leaves out of the count. Precondition: there is an urgent byte.
//
// +checklocks:e.mu
func (e *Endpoint) untilUrgent(dst io.Writer, peek bool) (to io.Writer, leftOut int, err tcpip.Error) {
	u := &e.urgent
	ahead := e.urgentAhead()
	switch {
	case ahead > 0:
		return &urgentWriter{to: dst, left: ahead}, 0, nil
	case u.state.Load() == urgentToCome:
		return dst, 0, nil
	case peek && !u.inline.Load():
		if e.urgentHole() {
			return dst, 0, e.nothingToRead()
		}
		return &urgentWriter{to: dst, leaveOut: 1, left: -1}, 1, nil
	case !peek:
		if !u.inline.Load() {
			e.dropUrgent()
		}
		u.state.Store(urgentNone)
	}
	return dst, 0, nil
}

// urgentHole says whether the urgent byte is all that waits, which nobody reads then.
//
// +checklocks:e.mu
func (e *Endpoint) urgentHole() bool {
	e.rcvQueueMu.Lock()
	defer e.rcvQueueMu.Unlock()
	return e.RcvBufUsed == 1
}

// nothingToRead is what a read finds who finds no byte.
//
// +checklocks:e.mu
func (e *Endpoint) nothingToRead() tcpip.Error {
	e.rcvQueueMu.Lock()
	defer e.rcvQueueMu.Unlock()
	if e.RcvClosed || !e.EndpointState().connected() {
		return &tcpip.ErrClosedForReceive{}
	}
	return &tcpip.ErrWouldBlock{}
}

// urgentWriter passes on so many bytes, or any number if left is negative, without the first leaveOut.
type urgentWriter struct {
	to             io.Writer
	leaveOut, left int
}

func (w *urgentWriter) Write(p []byte) (int, error) {
	n := min(w.leaveOut, len(p))
	w.leaveOut -= n
	rest := p[n:]
	if w.left >= 0 {
		rest = rest[:min(w.left, len(rest))]
	}
	k, err := 0, error(nil)
	if len(rest) > 0 {
		k, err = w.to.Write(rest)
	}
	if w.left >= 0 {
		w.left -= k
	}
	if n += k; err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// AtUrgent says whether the urgent byte is the next to be read (SIOCATMARK).
func (e *Endpoint) AtUrgent() bool {
	if e.urgent.state.Load() == urgentNone {
		return false
	}
	e.LockUser()
	defer e.UnlockUser()
	return e.urgent.state.Load() != urgentNone && e.urgentAhead() == 0
}

// ReadUrgent is receive with MSG_OOB: it returns the urgent byte, and takes it unless peek is set. Without one,
// ErrInvalidEndpointState; ErrWouldBlock while it is to come.
func (e *Endpoint) ReadUrgent(peek bool) (byte, tcpip.Error) {
	e.LockUser()
	defer e.UnlockUser()
	u := &e.urgent
	switch state := u.state.Load(); {
	case u.inline.Load() || state == urgentNone || state == urgentRead:
		return 0, &tcpip.ErrInvalidEndpointState{}
	case e.EndpointState() == StateClose || e.EndpointState() == StateError:
		return 0, &tcpip.ErrNotConnected{}
	case state == urgentHere:
		if !peek {
			u.state.Store(urgentRead)
		}
		return u.value, nil
	}
	return 0, e.nothingToRead()
}

// urgentReadiness corrects what the endpoint is ready for by the urgent byte, as tcp_poll of Linux does.
//
// +checklocks:e.rcvQueueMu
func (e *Endpoint) urgentReadiness(mask, r waiter.EventMask) waiter.EventMask {
	u := &e.urgent
	state := u.state.Load()
	if state == urgentNone {
		return r
	}
	if state == urgentHere {
		r |= waiter.EventPri & mask
	}
	if e.RcvBufUsed == 1 && !e.RcvClosed && !u.inline.Load() && state != urgentToCome && u.end-u.at == 1 {
		r &^= waiter.ReadableEvents
	}
	return r
}

// urgentQueued is how many bytes the reader is told of, of those that wait: not those behind the urgent one.
//
// +checklocks:e.mu
// +checklocks:e.rcvQueueMu
func (e *Endpoint) urgentQueued() int {
	n := e.RcvBufUsed
	if e.urgent.state.Load() != urgentNone && !e.urgent.inline.Load() {
		if ahead := e.aheadLocked(); ahead >= 0 && ahead < n {
			n = ahead
		}
	}
	return n
}
