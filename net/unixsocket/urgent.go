package unixsocket

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
)

// Urgent bytes of streams (MSG_OOB in send(2) and recv(2)), as Linux has them since 5.15. The last byte of a message
// that is sent with MSG_OOB is a record of its own: receives end before it, MSG_OOB takes it out of its turn, and a
// receive that begins with it leaves it out, unless SO_OOBINLINE is set. There is one at a time: another that comes
// makes the one before an ordinary byte.

// urgency is what a record of a stream is.
type urgency uint8

const (
	ordinary    urgency = iota
	urgentWaits         // one urgent byte
	urgentTaken         // one that was received: only its place is left
	urgentOver          // and not even that matters any more, because of another
)

// stops says whether a receive ends before the record.
func (r *record) stops() bool { return r.urgent == urgentWaits || r.urgent == urgentTaken }

// leftOut says whether a receive leaves the record out.
func (r *record) leftOut(inline bool) bool {
	return r.urgent == urgentWaits && !inline || r.urgent == urgentTaken || r.urgent == urgentOver
}

// waiting returns how many bytes of the record wait to be received.
func (r *record) waiting() int {
	if r.urgent == urgentTaken || r.urgent == urgentOver {
		return 0
	}
	return r.length
}

// leaveOut takes away the oldest record, which nobody receives. Precondition: q.mu is held.
func (x *transfer) leaveOut(q *queue, r *record) {
	if r.urgent == urgentWaits {
		q.urgent.Store(false)
	}
	q.bytes.Add(-int64(r.waiting()))
	q.data.drop(r.length)
	x.paid += r.length + r.charge
	x.debtor = r.from
	x.lost = append(x.lost, r.rights...)
	q.pop()
}

// lastUrgent returns the last record that was urgent, if it is there still and matters. Precondition: q.mu is held.
func (q *queue) lastUrgent() *record {
	i := q.mark - q.first
	if i >= uint32(q.count.Load()) || !q.at(int(i)).stops() {
		return nil
	}
	return q.at(int(i))
}

// pass makes the urgent byte, if there is one, like the others: another comes. Precondition: q.mu is held.
func (q *queue) pass() {
	if r := q.lastUrgent(); r == nil {
	} else if r.urgent == urgentWaits {
		r.urgent = ordinary
	} else {
		r.urgent = urgentOver
	}
}

// receiveUrgent is Recv of the urgent byte, for which nobody waits: EINVAL.
func (s *Socket) receiveUrgent(dst *mm.Buffer, m *net.Message) (int, error) {
	q := &s.in
	q.mu.Lock()
	r := q.lastUrgent()
	if r == nil || r.urgent != urgentWaits || s.On(unix.SO_OOBINLINE) {
		q.mu.Unlock()
		return 0, unix.EINVAL
	}
	at := 0
	for i := 0; q.at(i) != r; i++ {
		at += q.at(i).length
	}
	if _, err := q.data.copyTo(dst, at, min(dst.Len(), 1)); err != nil {
		q.mu.Unlock()
		return 0, err
	}
	var x transfer
	if m.Flags&unix.MSG_PEEK == 0 {
		r.urgent = urgentTaken
		q.urgent.Store(false)
		q.bytes.Add(-1)
		// Places of others that were taken cost nothing any more.
		for q.count.Load() > 0 && q.at(0).urgent == urgentOver {
			x.leaveOut(q, q.at(0))
		}
	}
	q.mu.Unlock()
	x.settle()
	m.Got |= unix.MSG_OOB
	return 1, nil
}

// atMark says whether the urgent byte, or its place, is the next to be received (SIOCATMARK).
func (s *Socket) atMark() bool {
	q := &s.in
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range int(q.count.Load()) {
		if r := q.at(i); r.urgent != urgentOver {
			return r.stops()
		}
	}
	return false
}

// onlyTaken says whether what a stream received was received by the program too, but for places of urgent bytes.
func (s *Socket) onlyTaken() bool { return s.stream && s.in.bytes.Load() == 0 }

// bytesBeside is a stream, readable when it has bytes that aren't urgent or no more will come.
type bytesBeside struct{ *Socket }

func (b *bytesBeside) Readiness(mask waiter.EventMask) waiter.EventMask {
	r := b.Socket.Readiness(mask | waiter.EventRdHUp)
	if r&(waiter.EventRdHUp|waiter.EventHUp|waiter.EventErr) == 0 && !b.in.hasOrdinary() {
		r &^= waiter.ReadableEvents
	}
	return r & (mask | waiter.EventErr | waiter.EventHUp)
}

func (q *queue) hasOrdinary() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range int(q.count.Load()) {
		if q.at(i).urgent == ordinary {
			return true
		}
	}
	return false
}

// SendsUrgent says that SIGURG goes to the socket's owner when an urgent byte comes: see vfs.Description.
func (s *Socket) SendsUrgent() bool { return s.stream }
