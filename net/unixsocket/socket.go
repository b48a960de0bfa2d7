// Package unixsocket is AF_UNIX: stream, datagram and seqpacket sockets between the processes of the
// machine (unix(7)).
//
// What a socket receives lies in its own queue, as bytes in frames and records that say where messages
// begin. Who sends pays for what he has sent until it is received, up to SO_SNDBUF.
//
// Lock order:
//
//	collecting          while circles of descriptors are looked for
//	links               who is bound, listens and is connected; not held when bytes are moved
//	  queue.mu          what a socket has received
//	flights.mu          which descriptors are under way
//	discarded.mu
//
// Of two queues' locks none is held with the other. Waking somebody takes no lock of these.
package unixsocket

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/net"
	"elver/runtime/metal"
	"elver/vfs"
)

// Limits (unix(7), listen(2)).
const (
	maxDatagrams  = 10  // net.unix.max_dgram_qlen
	messageCharge = 768 // what a message costs beside its bytes, as in Linux
	runCharge     = 128 // and a run of bytes of a stream
	sizeofPath    = 108
	sizeofAddress = 2 + sizeofPath
)

// States of a socket.
const (
	stateClosed = iota
	stateListening
	stateConnected
)

// Directions that are shut down.
const (
	shutReceive = 1 << iota
	shutSend
	shutBoth = shutReceive | shutSend
)

// links guards the fields of all sockets that say so, and the names. Whoever changes them notifies
// after it is released.
var links sync.Mutex

// Socket is a socket of AF_UNIX.
type Socket struct {
	net.Base
	stream bool
	queue  waitq.Queue // of those who wait for the socket
	room   waitq.Queue // of those who wait for room in its queue, of messages or of connections

	in      queue
	charged atomic.Int64 // bytes that others have not received yet, and what the messages cost

	// Written under links.
	peer    atomic.Pointer[Socket]
	state   atomic.Uint32
	shut    atomic.Uint32
	dead    atomic.Bool
	address atomic.Pointer[address] // nil: unnamed
	backlog atomic.Int32            // how many connections, or messages of strangers, may wait
	pending atomic.Int32            // len(accepts)

	accepts []*Socket // guarded by links: connections that wait to be accepted
	partner unix.Ucred
	embryo  atomic.Bool  // not yet accepted
	relay   waiter.Entry // in the room of relayOf
	relayOf *Socket      // guarded by links
	binding sync.Mutex   // held while a name is made
}

var noPartner = unix.Ucred{Uid: ^uint32(0), Gid: ^uint32(0)}

// newSocket makes an unconnected socket: ENOMEM when memory runs short.
func newSocket(typ int) (*Socket, error) {
	if m := metal.Frames(); m.Free < m.Reserve {
		return nil, unix.ENOMEM
	}
	s := &Socket{stream: typ == unix.SOCK_STREAM, partner: noPartner}
	s.Init(unix.AF_UNIX, typ, 0)
	s.backlog.Store(maxDatagrams)
	s.relay.Init((*relay)(s), waiter.WritableEvents)
	return s, nil
}

// Family makes the sockets of AF_UNIX.
type Family struct{}

// Socket makes a socket: ESOCKTNOSUPPORT, EPROTONOSUPPORT.
func (Family) Socket(_ *vfs.Context, typ, protocol int) (net.Socket, error) {
	typ, err := check(typ, protocol)
	if err != nil {
		return nil, err
	}
	s, err := newSocket(typ)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Pair makes two sockets that are connected with each other.
func (Family) Pair(c *vfs.Context, typ, protocol int) (net.Socket, net.Socket, error) {
	typ, err := check(typ, protocol)
	if err != nil {
		return nil, nil, err
	}
	a, err := newSocket(typ)
	if err != nil {
		return nil, nil, err
	}
	b, err := newSocket(typ)
	if err != nil {
		return nil, nil, err
	}
	a.peer.Store(b)
	b.peer.Store(a)
	a.partner = net.Partner(c)
	b.partner = a.partner
	a.state.Store(stateConnected)
	b.state.Store(stateConnected)
	return a, b, nil
}

func check(typ, protocol int) (int, error) {
	if protocol != 0 && protocol != unix.AF_UNIX {
		return 0, unix.EPROTONOSUPPORT
	}
	switch typ {
	case unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET:
		return typ, nil
	case unix.SOCK_RAW:
		return unix.SOCK_DGRAM, nil
	}
	return 0, unix.ESOCKTNOSUPPORT
}

func (s *Socket) typ() int {
	_, typ, _ := s.Kind()
	return typ
}

func (s *Socket) datagram() bool { return s.typ() == unix.SOCK_DGRAM }

// Seekable says no.
func (s *Socket) Seekable() bool { return false }

// Read is recv without flags.
func (s *Socket) Read(c *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	var m net.Message
	return s.Recv(c, dst, &m)
}

// Write is send without flags.
func (s *Socket) Write(c *vfs.Context, src *mm.Buffer, _ int64) (int, error) {
	var m net.Message
	return s.Send(c, src, &m)
}

// uncharge gives back what n bytes cost that were received.
func (s *Socket) uncharge(n int) {
	limit := int64(s.SendBuffer.Load()) / 4
	if left := s.charged.Add(-int64(n)); left <= limit && left+int64(n) > limit {
		s.queue.Notify(waiter.WritableEvents | pollWriteBand)
	}
}

// full says whether s takes no more messages of strangers, or connections.
func (s *Socket) full() bool {
	if s.state.Load() == stateListening {
		return s.pending.Load() > s.backlog.Load()
	}
	return s.in.count.Load() > s.backlog.Load()
}

// room is a socket as those see it who wait for room in its queue.
type room Socket

func (r *room) Readiness(mask waiter.EventMask) waiter.EventMask {
	s := (*Socket)(r)
	if s.dead.Load() || s.shut.Load()&shutReceive != 0 || !s.full() {
		return mask & waiter.WritableEvents
	}
	return 0
}

func (r *room) EventRegister(e *waiter.Entry) error {
	r.room.EventRegister(e)
	return nil
}

func (r *room) EventUnregister(e *waiter.Entry) { r.room.EventUnregister(e) }

// relay tells those who wait for a datagram socket that the one it is connected to has room.
type relay Socket

func (r *relay) NotifyEvent(mask waiter.EventMask) { r.queue.Notify(mask | pollWriteBand) }

// pollWriteBand is POLLWRBAND, which Linux's sockets report with POLLOUT.
const pollWriteBand = 0x200

const writable = waiter.WritableEvents | pollWriteBand

// Readiness says what the socket is ready for, as unix_poll and unix_dgram_poll of Linux do.
func (s *Socket) Readiness(mask waiter.EventMask) waiter.EventMask {
	var r waiter.EventMask
	state := s.state.Load()
	if s.Error.Load() != 0 {
		r |= waiter.EventErr
	}
	shut := s.shut.Load()
	if shut == shutBoth {
		r |= waiter.EventHUp
	}
	if shut&shutReceive != 0 {
		r |= waiter.EventRdHUp | waiter.ReadableEvents
	}
	if s.in.count.Load() != 0 || state == stateListening && s.pending.Load() != 0 {
		r |= waiter.ReadableEvents
	}
	if s.in.urgent.Load() {
		r |= waiter.EventPri
	}
	if state == stateClosed && !s.datagram() {
		r |= waiter.EventHUp
	}
	if state != stateListening && s.charged.Load()*4 <= int64(s.SendBuffer.Load()) && !s.blockedByPeer() {
		r |= writable
	}
	return r & (mask | waiter.EventErr | waiter.EventHUp)
}

// blockedByPeer says whether s is a datagram socket connected to one that is full.
func (s *Socket) blockedByPeer() bool {
	if s.stream {
		return false
	}
	p := s.peer.Load()
	return p != nil && p != s && p.peer.Load() != s && !p.dead.Load() && p.full()
}

// EventRegister has e told of changes.
func (s *Socket) EventRegister(e *waiter.Entry) error {
	s.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (s *Socket) EventUnregister(e *waiter.Entry) { s.queue.EventUnregister(e) }

const changed = waiter.ReadableEvents | writable | waiter.EventRdHUp | waiter.EventHUp | waiter.EventErr

// Release closes the socket.
func (s *Socket) Release() {
	s.Untrack()
	links.Lock()
	s.dead.Store(true)
	s.unbind()
	s.setRelay(nil)
	state := s.state.Swap(stateClosed)
	s.shut.Store(shutBoth)
	accepts := s.accepts
	s.accepts = nil
	s.pending.Store(0)
	p := s.peer.Load()
	if p != nil && s.datagram() {
		s.peer.Store(nil)
	} else if p != nil {
		p.hangUp(state == stateConnected && s.in.count.Load() != 0 && !s.onlyTaken() || s.embryo.Load())
	}
	links.Unlock()
	if p != nil && !s.datagram() {
		p.queue.Notify(changed)
	}
	s.room.Notify(waiter.WritableEvents)
	rights := s.in.empty(true)
	for _, e := range accepts {
		e.Release()
	}
	discard(rights)
	collectSoon()
}

// hangUp tells a connected socket that its peer is gone; lost says that bytes it sent were never
// received. Precondition: links is held.
func (s *Socket) hangUp(lost bool) {
	s.shut.Store(shutBoth)
	if lost {
		s.Error.Store(int32(unix.ECONNRESET))
	}
}

// setRelay has s told of room in p's queue, of nobody's with nil. Precondition: links is held.
func (s *Socket) setRelay(p *Socket) {
	if s.relayOf != nil {
		s.relayOf.room.EventUnregister(&s.relay)
	}
	if s.relayOf = p; p != nil {
		p.room.EventRegister(&s.relay)
	}
}

// waiting returns the connections that wait to be accepted.
func (s *Socket) waiting() []*Socket {
	links.Lock()
	defer links.Unlock()
	return append([]*Socket(nil), s.accepts...)
}

// Shutdown is shutdown(2): EINVAL. A socket that isn't connected may be shut down as well.
func (s *Socket) Shutdown(how int) error {
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return unix.EINVAL
	}
	mode := uint32(how + 1)
	links.Lock()
	s.shut.Or(mode)
	var p *Socket
	if !s.datagram() {
		p = s.peer.Load()
	}
	if p != nil {
		if mode&shutReceive != 0 {
			p.shut.Or(shutSend)
		}
		if mode&shutSend != 0 {
			p.shut.Or(shutReceive)
		}
	}
	links.Unlock()
	s.queue.Notify(changed)
	s.room.Notify(waiter.WritableEvents)
	if p != nil {
		p.queue.Notify(changed)
	}
	return nil
}

// Ioctl answers FIONREAD and SIOCOUTQ, and the requests about interfaces.
func (s *Socket) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	n := 0
	switch request {
	case unix.TIOCINQ: // FIONREAD, SIOCINQ
		if s.state.Load() == stateListening {
			return 0, unix.EINVAL
		}
		n = int(s.in.bytes.Load())
		if s.datagram() {
			s.in.mu.Lock()
			if n = 0; s.in.count.Load() != 0 {
				n = s.in.at(0).length
			}
			s.in.mu.Unlock()
		}
	case unix.TIOCOUTQ: // SIOCOUTQ
		if s.state.Load() == stateListening {
			return 0, unix.EINVAL
		}
		n = int(s.charged.Load())
	case unix.SIOCATMARK:
		if !s.stream {
			return 0, unix.EOPNOTSUPP
		}
		n = int(boolean(s.atMark()))
	default:
		return net.InterfaceIoctl(c, request, arg)
	}
	return 0, c.Thread.MM().WriteUint32(arg, uint32(n))
}

// SetOption is setsockopt(2).
func (s *Socket) SetOption(c *vfs.Context, level, name int, value []byte) error {
	if level == unix.SOL_SOCKET && name == unix.SO_PEEK_OFF {
		return s.SetPeekOffset(value)
	} else if level == unix.SOL_SOCKET && net.IsFilterOption(name) {
		return s.SetFilter(c, name, value)
	}
	err := s.Base.SetOption(c, level, name, value)
	if err == nil && level == unix.SOL_SOCKET && (name == unix.SO_SNDBUF || name == unix.SO_SNDBUFFORCE) {
		s.queue.Notify(writable)
	}
	return err
}

// Option is getsockopt(2).
func (s *Socket) Option(c *vfs.Context, level, name int, value []byte) (int, error) {
	if level == unix.SOL_SOCKET {
		switch name {
		case unix.SO_PEEK_OFF:
			return put32(value, uint32(s.PeekOffset.Load())), nil
		case unix.SO_ACCEPTCONN:
			return put32(value, boolean(s.state.Load() == stateListening)), nil
		case unix.SO_PEERCRED:
			links.Lock()
			u := s.partner
			links.Unlock()
			put32(value, uint32(u.Pid))
			put32(value[4:], u.Uid)
			put32(value[8:], u.Gid)
			return unix.SizeofUcred, nil
		}
	}
	return s.Base.Option(c, level, name, value)
}

func put32(b []byte, v uint32) int {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	return 4
}

func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
