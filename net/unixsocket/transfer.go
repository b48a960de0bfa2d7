package unixsocket

import (
	"errors"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/bpf"
	"elver/kernel/mm"
	"elver/net"
	"elver/vfs"
)

// Send sends a message, or as much of a stream as there is room for.
func (s *Socket) Send(c *vfs.Context, src *mm.Buffer, m *net.Message) (int, error) {
	if len(m.Control) > 0 {
		if err := m.ReadRights(c); err != nil {
			return 0, err
		}
	}
	if s.stream {
		return s.sendStream(c, src, m)
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	return s.sendMessage(c, src, m)
}

// sendStream appends to what the peer receives.
func (s *Socket) sendStream(c *vfs.Context, src *mm.Buffer, m *net.Message) (int, error) {
	p := s.peer.Load()
	if len(m.Address) > 0 {
		if p != nil {
			return 0, unix.EISCONN
		}
		return 0, unix.EOPNOTSUPP
	}
	if p == nil {
		return 0, unix.ENOTCONN
	}
	if s.shut.Load()&shutSend != 0 {
		return 0, unix.EPIPE
	}
	left := src.Len()
	urgent := m.Flags&unix.MSG_OOB != 0
	if left == 0 && urgent {
		return 0, unix.EOPNOTSUPP
	} else if left == 0 {
		return 0, nil
	}
	if err := takeOff(c, m.Rights); err != nil {
		return 0, err
	}
	rights := m.Rights
	n, err := s.sendBytes(c, src, left, m, p)
	if err != nil {
		land(rights)
		return 0, err
	}
	if urgent && n == left {
		p.queue.Notify(waiter.ReadableEvents | waiter.EventPri)
	} else {
		p.queue.Notify(waiter.ReadableEvents)
	}
	return n, nil
}

// sendBytes is the part of sendStream under the lock of p's queue.
func (s *Socket) sendBytes(c *vfs.Context, src *mm.Buffer, left int, m *net.Message, p *Socket) (int, error) {
	q := &p.in
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || p.shut.Load()&shutReceive != 0 {
		return 0, unix.EPIPE
	}
	room := int64(s.SendBuffer.Load()) - s.charged.Load()
	if room <= 0 {
		if e := s.TakeError(); e != nil {
			return 0, e
		}
		return 0, unix.EAGAIN
	}
	urgent := m.Flags&unix.MSG_OOB != 0
	if urgent { // the last byte is
		left--
	}
	n, err := 0, error(nil)
	if left > 0 {
		if n, err = q.data.add(src, int(min(int64(left), room))); n == 0 {
			return 0, err
		}
		s.count(s.runIn(c, q, m, p), q, m, n)
	}
	if urgent && n == left && (n == 0 || int64(n) < room) {
		if k, err := q.data.add(src, 1); k == 0 {
			if n > 0 {
				err = nil
			}
			return n, err
		}
		n++
		q.pass()
		r := q.push()
		r.from, r.urgent = s, urgentWaits
		r.creds, r.hasCreds = s.credentialsFor(c, m, p)
		s.count(r, q, m, 1)
		q.mark = q.first + uint32(q.count.Load()) - 1
		q.urgent.Store(true)
	}
	return n, nil
}

// count adds n bytes, which are in q already, to a record. Precondition: q.mu is held.
func (s *Socket) count(r *record, q *queue, m *net.Message, n int) {
	before := r.length + r.charge
	if r.length += n; r.charge == 0 {
		r.charge = runCharge + 16*len(m.Rights)
	}
	r.attach(m)
	q.bytes.Add(int64(n))
	s.charged.Add(int64(r.length + r.charge - before))
}

// runIn returns the record that the next bytes of a stream belong to: the last one, if they come with
// nothing that it hasn't got. Precondition: q.mu is held.
func (s *Socket) runIn(c *vfs.Context, q *queue, m *net.Message, p *Socket) *record {
	creds, has := s.credentialsFor(c, m, p)
	if n := int(q.count.Load()); n > 0 && len(m.Rights) == 0 {
		if r := q.at(n - 1); len(r.rights) == 0 && r.urgent == ordinary && r.hasCreds == has && r.creds == creds {
			return r
		}
	}
	r := q.push()
	r.from, r.creds, r.hasCreds = s, creds, has
	return r
}

// credentialsFor returns the credentials that go with a message to p: those that the sender gave, or his
// own if either side set SO_PASSCRED or the connection is not accepted yet.
func (s *Socket) credentialsFor(c *vfs.Context, m *net.Message, p *Socket) (unix.Ucred, bool) {
	if m.HasCredentials {
		return m.Credentials, true
	}
	if s.On(unix.SO_PASSCRED) || p.On(unix.SO_PASSCRED) || p.embryo.Load() {
		return net.Sender(c), true
	}
	return net.NoCredentials, false
}

// sendMessage sends a datagram or a packet, whole or not at all.
func (s *Socket) sendMessage(c *vfs.Context, src *mm.Buffer, m *net.Message) (int, error) {
	datagram := s.datagram()
	if !datagram {
		if err := s.TakeError(); err != nil {
			return 0, err
		}
		if s.state.Load() != stateConnected {
			return 0, unix.ENOTCONN
		}
	}
	var name []byte
	if datagram && len(m.Address) > 0 {
		var err error
		if name, err = checkAddress(m.Address); err != nil {
			return 0, err
		}
	} else if s.peer.Load() == nil {
		return 0, unix.ENOTCONN
	}
	if err := s.nameForCredentials(); err != nil {
		return 0, err
	}
	n := src.Len()
	limit := int64(s.SendBuffer.Load())
	if int64(n) > limit-32 {
		return 0, unix.EMSGSIZE
	}
	if datagram {
		if err := s.TakeError(); err != nil {
			return 0, err
		}
	}
	if s.shut.Load()&shutSend != 0 {
		return 0, unix.EPIPE
	}
	if s.charged.Load() >= limit {
		return 0, unix.EAGAIN
	}
	for {
		p := s.peer.Load()
		if name != nil {
			var err error
			if p, err = find(c, name, unix.SOCK_DGRAM); err != nil {
				return 0, err
			}
		} else if p == nil {
			return 0, unix.ECONNRESET
		}
		err := s.sendTo(c, src, n, m, p)
		switch err {
		case nil:
			p.queue.Notify(waiter.ReadableEvents)
			return n, nil
		case errGone:
			if !datagram {
				return 0, unix.EPIPE
			}
			if s.leave(p) {
				return 0, unix.ECONNREFUSED
			}
			continue
		case unix.EAGAIN:
			m.Wait = (*room)(p)
		}
		return 0, err
	}
}

// leave ends the connection of a datagram socket to p, which is dead; false if it had none.
func (s *Socket) leave(p *Socket) bool {
	links.Lock()
	if s.peer.Load() != p {
		links.Unlock()
		return false
	}
	s.peer.Store(nil)
	s.setRelay(nil)
	s.state.Store(stateClosed)
	links.Unlock()
	s.disconnected(p)
	return true
}

// sendTo puts a message of n bytes into p's queue: EAGAIN if that is full, errGone if p is closed.
func (s *Socket) sendTo(c *vfs.Context, src *mm.Buffer, n int, m *net.Message, p *Socket) error {
	if s.datagram() && !maySend(s, p) {
		return unix.EPERM
	}
	if err := takeOff(c, m.Rights); err != nil {
		return err
	}
	rights := m.Rights
	err := s.sendLocked(c, src, n, m, p)
	if err == errUnwanted {
		discard(rights)
		m.Rights = nil
		return nil
	} else if err != nil {
		land(rights)
	}
	return err
}

// errUnwanted says that p's filter refuses the message, of which Linux tells the sender nothing.
var errUnwanted = errors.New("unwanted")

func (s *Socket) sendLocked(c *vfs.Context, src *mm.Buffer, n int, m *net.Message, p *Socket) error {
	q := &p.in
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || p.dead.Load() {
		return errGone
	}
	if p.shut.Load()&shutReceive != 0 {
		return unix.EPIPE
	}
	// Only strangers are kept from filling the queue: who is connected both ways is kept by his own limit.
	if p != s && p.peer.Load() != s && p.full() {
		return unix.EAGAIN
	}
	if done, err := q.data.add(src, n); err != nil {
		q.data.undo(done)
		return err
	}
	if f := p.Filters(); f != nil {
		wanted := f.Run(&bpf.Packet{Data: q.last(n), Network: -1, Link: -1})
		if q.data.undo(n - wanted); wanted == 0 {
			return errUnwanted
		}
		n = wanted
	}
	r := q.push()
	r.length, r.charge, r.from = n, messageCharge+16*len(m.Rights), s
	r.creds, r.hasCreds = s.credentialsFor(c, m, p)
	r.attach(m)
	q.bytes.Add(int64(n))
	s.charged.Add(int64(r.length + r.charge))
	return nil
}

// Recv receives a message, or bytes of a stream.
func (s *Socket) Recv(c *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	if s.stream {
		return s.receiveStream(c, dst, m)
	}
	return s.receiveMessage(c, dst, m)
}

// receiveStream reads on from one record into the next, but not past one with descriptors or up to one with an
// urgent byte, nor, with SO_PASSCRED, from one sender's bytes into another's (unix(7)).
func (s *Socket) receiveStream(c *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	if s.state.Load() != stateConnected {
		return 0, unix.EINVAL
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return s.receiveUrgent(dst, m)
	}
	q := &s.in
	peek := m.Flags&unix.MSG_PEEK != 0
	x := transfer{inline: s.On(unix.SO_OOBINLINE)}
	if peek {
		x.skip = int(max(s.PeekOffset.Load(), 0))
	}
	ended := s.shut.Load()&shutReceive != 0 // asked first: what was sent before the end is in the queue then
	q.mu.Lock()
	var err error
	empty := q.count.Load() == 0
	if x.skip > 0 && q.bytes.Load() <= int64(x.skip) {
		empty, m.Wait = true, &bytesBeyond{s, int64(x.skip)}
	} else if !empty && m.Continued && q.at(0).stops() {
		q.mu.Unlock()
		return 0, nil
	} else if !empty {
		err = x.run(q, dst, peek, s.On(unix.SO_PASSCRED))
		if empty = x.from == nil; empty && peek { // urgent bytes alone
			m.Wait = &bytesBeside{s}
		}
	}
	q.mu.Unlock()
	x.settle()
	if empty {
		if err := s.TakeError(); err != nil {
			return 0, err
		}
		if ended {
			return 0, nil
		}
		return 0, unix.EAGAIN
	}
	s.Peeked(x.done, !peek)
	if x.done == 0 && err != nil {
		discardPeeked(x.rights, m)
		return 0, err
	}
	if m.Address != nil && !m.Continued {
		if a := x.from.address.Load(); a != nil {
			m.Address = append(m.Address, a.raw...)
		}
	}
	if m.Flags&unix.MSG_PEEK == 0 {
		land(x.rights)
		m.More = err == nil && !x.stop && dst.Len() > 0 && (m.Flags&unix.MSG_WAITALL != 0 || dst.Done() < int(s.LowWater.Load()))
	}
	s.deliver(c, m, x.creds, x.rights)
	return x.done, nil
}

// discardPeeked gives back rights that the receiver doesn't get after all.
func discardPeeked(rights []*vfs.Description, m *net.Message) {
	if m.Flags&unix.MSG_PEEK == 0 {
		discard(rights)
		return
	}
	for _, d := range rights {
		d.Decref()
	}
}

// transfer is what one receive from a stream got.
type transfer struct {
	done   int
	paid   int // what the sender gets back
	from   *Socket
	creds  unix.Ucred
	rights []*vfs.Description
	stop   bool // no more may come with it
	skip   int  // bytes that a peek leaves out
	inline bool // urgent bytes are received with the others
	// lost are descriptors that came with an urgent byte which nobody received, and debtor who sent that.
	lost   []*vfs.Description
	debtor *Socket
}

// settle gives back what was received, or thrown away. Precondition: the queue isn't locked.
func (x *transfer) settle() {
	if x.paid > 0 {
		x.debtor.uncharge(x.paid)
	}
	if len(x.lost) > 0 {
		discard(x.lost)
	}
}

// bytesBeyond is a stream, readable when it has more than that many bytes or no more will come.
type bytesBeyond struct {
	*Socket
	count int64
}

func (b *bytesBeyond) Readiness(mask waiter.EventMask) waiter.EventMask {
	r := b.Socket.Readiness(mask | waiter.EventRdHUp)
	if r&(waiter.EventRdHUp|waiter.EventHUp|waiter.EventErr) == 0 && b.in.bytes.Load() <= b.count {
		r &^= waiter.ReadableEvents
	}
	return r & (mask | waiter.EventErr | waiter.EventHUp)
}

// run moves bytes from q to dst. Precondition: q.mu is held, there is a record.
func (x *transfer) run(q *queue, dst *mm.Buffer, peek, passCreds bool) error {
	first, at := 0, 0 // the record to begin with, and where its bytes are
	for ; x.skip > 0 && x.skip >= q.at(first).waiting(); first++ {
		x.skip -= q.at(first).waiting()
		at += q.at(first).length
	}
	for i := first; i < int(q.count.Load()); {
		r := q.at(i)
		if x.done > 0 && r.stops() {
			x.stop = true
			break
		}
		if r.leftOut(x.inline) {
			if peek {
				at += r.length
				i++
			} else {
				x.leaveOut(q, r)
			}
			continue
		}
		if x.from == nil {
			x.from, x.creds = r.from, r.creds
		}
		if passCreds && r.creds != x.creds {
			x.stop = true
			break
		}
		n := min(r.length-x.skip, dst.Len())
		if n == 0 {
			break
		}
		k, err := q.data.copyTo(dst, at+x.skip, n)
		x.skip = 0
		x.done += k
		if k > 0 {
			x.take(r, peek)
		}
		if !peek {
			x.remove(q, r, k)
		}
		if err != nil {
			return err
		}
		if x.stop = len(x.rights) > 0; x.stop {
			break
		}
		if peek {
			at += r.length
			i++
		}
	}
	return nil
}

// take takes the descriptors out of r, or copies of them.
func (x *transfer) take(r *record, peek bool) {
	if len(r.rights) == 0 {
		return
	}
	if peek {
		for _, d := range r.rights {
			d.Incref()
		}
		x.rights = append([]*vfs.Description(nil), r.rights...)
		return
	}
	x.rights, r.rights = r.rights, nil
}

// remove takes k bytes of the oldest record r away, and r with the last.
func (x *transfer) remove(q *queue, r *record, k int) {
	q.data.drop(k)
	q.bytes.Add(-int64(k))
	x.paid += k
	x.debtor = r.from
	if r.length -= k; r.length == 0 {
		x.paid += r.charge
		if r.urgent == urgentWaits {
			q.urgent.Store(false)
		}
		q.pop()
	}
}

// receiveMessage receives the oldest message; what doesn't fit into dst is lost.
func (s *Socket) receiveMessage(c *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	if !s.datagram() && s.state.Load() != stateConnected {
		return 0, unix.ENOTCONN
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if err := s.TakeError(); err != nil {
		return 0, err
	}
	peek := m.Flags&unix.MSG_PEEK != 0
	q := &s.in
	ended := s.shut.Load()&shutReceive != 0 // as in receiveStream
	q.mu.Lock()
	if q.count.Load() == 0 {
		q.mu.Unlock()
		// A datagram socket that is shut down ends a wait, but has no end of file to show to
		// those who don't wait.
		if ended && !(s.datagram() && m.Flags&unix.MSG_DONTWAIT != 0) {
			return 0, nil
		}
		return 0, unix.EAGAIN
	}
	full := s.full()
	// A peek leaves out what SO_PEEK_OFF says: whole messages, and the beginning of the one that it looks at.
	at, begin, skip := 0, 0, 0
	if peek {
		for skip = int(max(s.PeekOffset.Load(), 0)); skip > 0 && skip >= q.at(at).length; at++ {
			if at+1 == int(q.count.Load()) {
				m.Wait = &bytesBeyond{s, q.bytes.Load()}
				q.mu.Unlock()
				return 0, unix.EAGAIN
			}
			skip -= q.at(at).length
			begin += q.at(at).length
		}
	}
	r := q.at(at)
	length, charge, from, creds := r.length-skip, r.charge, r.from, r.creds
	n, err := q.data.copyTo(dst, begin+skip, min(length, dst.Len()))
	var x transfer
	if err == nil || !peek {
		x.take(r, peek)
	}
	if !peek {
		q.data.drop(length)
		q.bytes.Add(-int64(length))
		q.pop()
	}
	q.mu.Unlock()
	if !peek {
		from.uncharge(length + charge)
		if full {
			s.room.Notify(waiter.WritableEvents)
		}
	}
	if err != nil {
		discardPeeked(x.rights, m)
		return 0, err
	}
	if peek {
		s.Peeked(n, false)
	} else {
		s.Peeked(length, true)
	}
	if n < length {
		m.Got |= unix.MSG_TRUNC
		if m.Flags&unix.MSG_TRUNC != 0 {
			n = length
		}
	}
	if m.Address != nil {
		if a := from.address.Load(); a != nil {
			m.Address = append(m.Address, a.raw...)
		}
	}
	if !peek {
		land(x.rights)
	}
	s.deliver(c, m, creds, x.rights)
	return n, nil
}
