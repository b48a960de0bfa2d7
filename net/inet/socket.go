package inet

import (
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
	"elver/vfs"
)

// Socket is a socket of AF_INET or AF_INET6.
type Socket struct {
	net.Base
	network  *Network
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
	// connecting says that a connection was begun and nobody has been told how it ended.
	connecting atomic.Bool
	listening  atomic.Bool
	// mtuDiscover is IP_MTU_DISCOVER, which is only remembered.
	mtuDiscover atomic.Int32

	mu      sync.Mutex // guards what follows, and is held while the socket is bound
	isBound bool
}

func (s *Socket) stream() bool {
	_, typ, _ := s.Kind()
	return typ == unix.SOCK_STREAM
}

// Seekable says no.
func (s *Socket) Seekable() bool { return false }

// Readiness says what the socket is ready for, as tcp_poll and datagram_poll of Linux do.
func (s *Socket) Readiness(mask waiter.EventMask) waiter.EventMask {
	always := mask | waiter.EventErr | waiter.EventHUp
	r := s.endpoint.Readiness(always | waiter.ReadableEvents | waiter.WritableEvents)
	if s.Error.Load() != 0 {
		r |= waiter.EventErr
	}
	if !s.stream() {
		return r & always
	}
	switch tcp.EndpointState(s.endpoint.State()) {
	case tcp.StateInitial, tcp.StateBound:
		r |= waiter.EventHUp | waiter.WritableEvents
	case tcp.StateClose, tcp.StateTimeWait:
		r &^= waiter.EventErr
		r |= waiter.EventHUp | waiter.EventRdHUp
	case tcp.StateError:
		if !s.connecting.Load() && !s.hasError() {
			r &^= waiter.EventErr
		}
		r |= waiter.EventHUp | waiter.EventRdHUp
	}
	return r & always
}

// hasError says whether SO_ERROR has something to tell: it moves it to where that looks. An endpoint of
// TCP that failed has the reason twice.
func (s *Socket) hasError() bool {
	for range 2 {
		if e, ok := errnoOf(s.endpoint.LastError()).(unix.Errno); ok {
			s.Error.CompareAndSwap(0, int32(e))
		}
	}
	return s.Error.Load() != 0
}

// EventRegister has e told of changes.
func (s *Socket) EventRegister(e *waiter.Entry) error {
	s.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (s *Socket) EventUnregister(e *waiter.Entry) { s.queue.EventUnregister(e) }

// Release closes the socket; what it has yet to send is sent in the background.
func (s *Socket) Release() { s.endpoint.Close() }

// privilegedPorts end before this one (ip(7)).
const privilegedPorts = 1024

// Bind is bind(2): EINVAL, EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT.
func (s *Socket) Bind(c *vfs.Context, addr []byte) error {
	family, err := familyOf(addr)
	if err != nil {
		return err
	}
	own, _, _ := s.Kind()
	// Linux takes AF_UNSPEC with INADDR_ANY for AF_INET.
	if own == unix.AF_INET && family == unix.AF_UNSPEC && len(addr) >= sizeofAddress4 && [4]byte(addr[4:8]) == [4]byte{} {
		addr = append([]byte{unix.AF_INET, 0}, addr[2:]...)
	}
	if own == unix.AF_INET6 && family == unix.AF_INET {
		return unix.EAFNOSUPPORT
	}
	a, err := s.parseAddress(addr)
	if err != nil {
		return err
	}
	if a.Port != 0 && a.Port < privilegedPorts && !c.Creds.HasCap(unix.CAP_NET_BIND_SERVICE) {
		return unix.EACCES
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isBound {
		return unix.EINVAL
	}
	return s.bind(a)
}

// bind binds the endpoint. Precondition: mu is held.
func (s *Socket) bind(a tcpip.FullAddress) error {
	switch err := s.endpoint.Bind(a); err.(type) {
	case nil:
		s.isBound = true
		return nil
	case *tcpip.ErrNoPortAvailable:
		return unix.EADDRINUSE
	default:
		return errnoOf(err)
	}
}

// Connect is connect(2). It begins a connection of TCP: EINPROGRESS.
func (s *Socket) Connect(c *vfs.Context, addr []byte) (waiter.Waitable, error) {
	family, err := familyOf(addr)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_UNSPEC {
		if s.stream() {
			return nil, unix.EOPNOTSUPP
		}
		return nil, errnoOf(s.endpoint.Disconnect())
	}
	a, err := s.parseAddress(addr)
	if err != nil {
		return nil, err
	}
	if s.listening.Load() {
		return nil, unix.EISCONN
	}
	if a.Addr.Len() == 0 {
		a.Addr = s.self()
	}
	switch e := s.endpoint.Connect(a); e.(type) {
	case nil:
		s.connecting.Store(false)
		return nil, nil
	case *tcpip.ErrConnectStarted:
		s.connecting.Store(true)
		return nil, unix.EINPROGRESS
	case *tcpip.ErrAlreadyConnecting:
		return nil, unix.EALREADY
	case *tcpip.ErrInvalidEndpointState:
		return nil, unix.EISCONN
	default:
		s.connecting.Store(false)
		s.hasError()
		pending := s.TakeError() // told now
		if pending == nil {
			pending = errnoOf(e)
		}
		return nil, pending
	}
}

// Bounds of a backlog: listen(2), net.core.somaxconn.
const maxBacklog = 4096

// Listen is listen(2): EOPNOTSUPP, EADDRINUSE, EINVAL.
func (s *Socket) Listen(_ *vfs.Context, backlog int) error {
	if !s.stream() {
		return unix.EOPNOTSUPP
	}
	if backlog < 0 || backlog > maxBacklog {
		backlog = maxBacklog
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isBound && tcp.EndpointState(s.endpoint.State()) == tcp.StateInitial {
		if err := s.bind(tcpip.FullAddress{}); err != nil {
			return err
		}
	}
	// Linux completes one connection more than the backlog says.
	if err := s.endpoint.Listen(backlog + 1); err != nil {
		return errnoOf(err)
	}
	s.listening.Store(true)
	return nil
}

// Accept takes a connection: EAGAIN, EINVAL if the socket doesn't listen, EOPNOTSUPP.
func (s *Socket) Accept(*vfs.Context) (net.Socket, error) {
	if !s.stream() {
		return nil, unix.EOPNOTSUPP
	}
	if !s.listening.Load() {
		return nil, unix.EINVAL
	}
	endpoint, queue, err := s.endpoint.Accept(nil)
	if err != nil {
		return nil, errnoOf(err)
	}
	n := &Socket{network: s.network, endpoint: endpoint, queue: queue, isBound: true}
	n.Inherit(&s.Base)
	endpoint.SocketOptions().SetDelayOption(s.endpoint.SocketOptions().GetDelayOption())
	return n, nil
}

// Shutdown is shutdown(2): EINVAL, ENOTCONN.
func (s *Socket) Shutdown(how int) error {
	var flags tcpip.ShutdownFlags
	switch how {
	case unix.SHUT_RD:
		flags = tcpip.ShutdownRead
	case unix.SHUT_WR:
		flags = tcpip.ShutdownWrite
	case unix.SHUT_RDWR:
		flags = tcpip.ShutdownRead | tcpip.ShutdownWrite
	default:
		return unix.EINVAL
	}
	err := errnoOf(s.endpoint.Shutdown(flags))
	if err == nil && s.listening.Load() && flags&tcpip.ShutdownRead != 0 {
		s.listening.Store(false)
	}
	return err
}

// Name appends the socket's address.
func (s *Socket) Name(to []byte) ([]byte, error) {
	a, err := s.endpoint.GetLocalAddress()
	if err != nil {
		return nil, errnoOf(err)
	}
	family, _, _ := s.Kind()
	return appendAddress(to, family, a), nil
}

// Peer appends the address that the socket is connected to: ENOTCONN.
func (s *Socket) Peer(to []byte) ([]byte, error) {
	a, err := s.endpoint.GetRemoteAddress()
	if err != nil {
		return nil, errnoOf(err)
	}
	if s.stream() && s.inHandshake() {
		return nil, unix.ENOTCONN
	}
	family, _, _ := s.Kind()
	return appendAddress(to, family, a), nil
}

// source is a program's buffer as netstack reads it.
type source struct {
	*mm.Buffer
}

func (s source) Read(p []byte) (int, error) {
	if s.Len() == 0 {
		return 0, io.EOF
	}
	return s.CopyIn(p[:min(len(p), s.Len())])
}

// sink is a program's buffer as netstack writes it. drop says that nobody wants the bytes.
type sink struct {
	*mm.Buffer
	drop bool
}

func (s *sink) Write(p []byte) (n int, err error) {
	k := min(len(p), s.Len())
	if s.drop {
		s.Skip(k)
		n = k
	} else {
		n, err = s.CopyOut(p[:k])
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Write is send without flags.
func (s *Socket) Write(c *vfs.Context, src *mm.Buffer, _ int64) (int, error) {
	var m net.Message
	return s.Send(c, src, &m)
}

// Read is recv without flags.
func (s *Socket) Read(c *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	var m net.Message
	return s.Recv(c, dst, &m)
}

// Send sends: see net.Socket.
func (s *Socket) Send(c *vfs.Context, src *mm.Buffer, m *net.Message) (int, error) {
	if err := s.TakeError(); err != nil {
		return 0, err
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	options := tcpip.WriteOptions{More: m.Flags&unix.MSG_MORE != 0, Atomic: !s.stream()}
	if len(m.Address) > 0 && !s.stream() {
		a, err := s.parseAddress(m.Address)
		if err != nil {
			return 0, err
		}
		if a.Addr.Len() == 0 {
			a.Addr = s.self()
		}
		options.To = &a
	} else if !s.stream() && transport.DatagramEndpointState(s.endpoint.State()) != transport.DatagramEndpointStateConnected {
		return 0, unix.EDESTADDRREQ // before netstack binds the socket
	}
	m.Control = nil
	if s.stream() && src.Len() == 0 {
		return 0, nil
	}
	begin := src.Done()
	n, err := s.endpoint.Write(source{src}, options)
	if at := begin + int(n); src.Done() != at { // netstack read more than it took
		src.Reset()
		src.Skip(at)
	}
	if n > 0 {
		return int(n), nil
	}
	switch err.(type) {
	case *tcpip.ErrNotConnected, *tcpip.ErrInvalidEndpointState:
		if s.stream() && s.inHandshake() {
			return 0, unix.EAGAIN
		} else if s.stream() {
			return 0, unix.EPIPE
		}
		return 0, errnoOf(err)
	case *tcpip.ErrAlreadyConnecting:
		return 0, unix.EAGAIN
	}
	return 0, errnoOf(err)
}

// inHandshake says whether a stream's connection has begun and is not there yet.
func (s *Socket) inHandshake() bool {
	switch tcp.EndpointState(s.endpoint.State()) {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return true
	}
	return false
}

// Recv receives: see net.Socket.
func (s *Socket) Recv(c *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	switch {
	case m.Flags&unix.MSG_ERRQUEUE != 0:
		return 0, unix.EAGAIN
	case m.Flags&unix.MSG_OOB != 0:
		return 0, unix.EINVAL
	}
	if err := s.TakeError(); err != nil {
		return 0, err
	}
	peek := m.Flags&unix.MSG_PEEK != 0
	stream := s.stream()
	if stream && dst.Len() == 0 {
		return 0, nil
	}
	to := sink{Buffer: dst, drop: stream && m.Flags&unix.MSG_TRUNC != 0}
	r, err := s.endpoint.Read(&to, tcpip.ReadOptions{Peek: peek, NeedRemoteAddr: !stream})
	if err != nil {
		switch err.(type) {
		case *tcpip.ErrClosedForReceive:
			return 0, nil
		case *tcpip.ErrBadBuffer:
			// Of a message, the bytes that fit nowhere are lost.
			if stream || r.Total == 0 || dst.Len() != 0 {
				return 0, unix.EFAULT
			}
		case *tcpip.ErrNotConnected:
			if stream && s.inHandshake() {
				return 0, unix.EAGAIN
			}
			return 0, unix.ENOTCONN
		default:
			return 0, errnoOf(err)
		}
	}
	if stream {
		if !peek {
			s.endpoint.ModerateRecvBuf(r.Count)
		}
		m.More = m.Flags&unix.MSG_WAITALL != 0 && !peek && dst.Len() > 0
		return r.Count, nil
	}
	if m.Address != nil {
		family, _, _ := s.Kind()
		m.Address = appendAddress(m.Address, family, r.RemoteAddr)
	}
	if r.Count < r.Total {
		m.Got |= unix.MSG_TRUNC
	}
	s.putControl(m, &r.ControlMessages)
	if m.Flags&unix.MSG_TRUNC != 0 {
		return r.Total, nil
	}
	return r.Count, nil
}

// Ioctl answers FIONREAD and SIOCOUTQ, and the requests about interfaces.
func (s *Socket) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	option := tcpip.SockOptInt(tcpip.ReceiveQueueSizeOption)
	switch request {
	case unix.TIOCINQ: // FIONREAD, SIOCINQ
		if s.listening.Load() {
			return 0, unix.EINVAL
		}
	case unix.TIOCOUTQ: // SIOCOUTQ
		if s.listening.Load() {
			return 0, unix.EINVAL
		}
		option = tcpip.SendQueueSizeOption
	default:
		return s.network.Ioctl(c, request, arg)
	}
	n, err := s.endpoint.GetSockOptInt(option)
	if err != nil {
		n = 0
	}
	return 0, c.Thread.MM().WriteUint32(arg, uint32(n))
}
