package inet

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/net"
	"elver/vfs"
)

// Socket is a socket of AF_INET or AF_INET6.
type Socket struct {
	net.Base
	network *Network
	// endpoint is netstack's. That of a stream whose connection failed or was given up is of no
	// more use there: the socket goes on with a new one (renew), which notifies the same queue.
	endpoint atomic.Pointer[tcpip.Endpoint]
	queue    *waiter.Queue
	waiters  waitq.Queue  // who waits for the socket: they hear what the queue does, by the relay
	relay    waiter.Entry // in the queue
	// connecting says that a connection was begun and connect(2) has not told how it ended.
	connecting atomic.Bool
	listening  atomic.Bool
	backlog    atomic.Int32
	// shut is what shutdown(2) was called for, of shutReceive and shutSend.
	shut atomic.Uint32
	// more says that MSG_MORE holds what was sent back.
	more atomic.Bool
	cork atomic.Bool // TCP_CORK
	// unchecked is how many bytes were sent since shrinkSend looked.
	unchecked atomic.Int64
	// holding says that a datagram is held back by MSG_MORE or UDP_CORK.
	holding atomic.Bool

	shrunk atomic.Int64 // how large the receive buffer was before memory ran short, or 0

	filterMu sync.Mutex // is held while a filter looks at what waits

	// groups are what the socket is a member of; they change under mu. ownGroups says that it hears no others of IPv4,
	// or IPv6: that IP_MULTICAST_ALL is off.
	groups    atomic.Pointer[[]membership]
	ownGroups [2]atomic.Bool

	errorsMu sync.Mutex
	errors   []*tcpip.SockError // for MSG_ERRQUEUE

	mu       sync.Mutex // guards what follows, and is held while the socket is bound
	isBound  bool
	accepted bool // isBound is so by the listener's name alone
	// portLater says that boundTo has no port yet, nor is the endpoint bound.
	portLater bool
	boundTo   tcpip.FullAddress // what bind(2) asked for
	kept      []option          // what was set on the endpoint of a stream
	uncork    *time.Timer       // sends what a cork held back for long
	held      []byte            // the datagram that is held back
	heldFor   *tcpip.FullAddress
}

const (
	shutReceive = 1 << iota
	shutSend
)

// ep returns the endpoint.
func (s *Socket) ep() tcpip.Endpoint { return *s.endpoint.Load() }

func (s *Socket) state() tcp.EndpointState { return tcp.EndpointState(s.ep().State()) }

func (s *Socket) family() int {
	family, _, _ := s.Kind()
	return family
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
	if f := s.Filters(); f != nil {
		s.screen(f)
	}
	r := s.ep().Readiness(always | waiter.ReadableEvents | waiter.WritableEvents)
	if s.Error.Load() != 0 {
		r |= waiter.EventErr
	}
	shut := s.shut.Load()
	if !s.stream() {
		if shut&shutReceive != 0 {
			r |= waiter.ReadableEvents | waiter.EventRdHUp
		}
		if shut == shutReceive|shutSend {
			r |= waiter.EventHUp
		}
		if s.hasErrors() {
			r |= waiter.EventErr
		}
		return r & always
	}
	switch s.state() {
	case tcp.StateInitial, tcp.StateBound:
		return (r | waiter.EventHUp | waiter.WritableEvents) & always
	case tcp.StateListen, tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return r & always
	case tcp.StateCloseWait:
		shut |= shutReceive
	case tcp.StateFinWait1, tcp.StateFinWait2:
		shut |= shutSend
	case tcp.StateClosing, tcp.StateLastAck:
		shut = shutReceive | shutSend
		r &^= waiter.EventErr
	case tcp.StateTimeWait, tcp.StateClose, tcp.StateError: // to netstack, ready for anything
		shut = shutReceive | shutSend
		if r &^= waiter.EventErr | waiter.EventPri; s.hasError() {
			r |= waiter.EventErr
		}
	}
	if low := s.LowWater.Load(); low > 1 && s.received() < int(low) {
		r &^= waiter.ReadableEvents
	}
	if shut&shutReceive != 0 {
		r |= waiter.ReadableEvents | waiter.EventRdHUp
	}
	if shut&shutSend != 0 {
		r |= waiter.WritableEvents
	}
	if shut == shutReceive|shutSend {
		r |= waiter.EventHUp
	}
	return r & always
}

// received returns how many bytes wait to be received.
func (s *Socket) received() int {
	n, err := s.ep().GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if err != nil {
		return 0
	}
	return n
}

// hasError says whether SO_ERROR has something to tell: it moves it to where that looks. An endpoint of
// TCP that failed has the reason twice.
func (s *Socket) hasError() bool {
	for range 2 {
		if e, ok := errnoOf(s.ep().LastError()).(unix.Errno); ok {
			s.Error.CompareAndSwap(0, int32(e))
		}
	}
	return s.Error.Load() != 0
}

// takeError returns the error that the socket has yet to tell, and takes it away.
func (s *Socket) takeError() error {
	s.hasError()
	return s.TakeError()
}

// told forgets what else the endpoint of a failed connection has to say of it, when the program has learned
// of it.
func (s *Socket) told() {
	if !s.stream() {
		return
	}
	switch s.state() {
	case tcp.StateError, tcp.StateClose:
		s.takeError()
	}
}

// EventRegister has e told of changes.
func (s *Socket) EventRegister(e *waiter.Entry) error {
	s.waiters.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (s *Socket) EventUnregister(e *waiter.Entry) { s.waiters.EventUnregister(e) }

// relay is a socket that hears from netstack. Its own queue knows of those of whom one is enough to be told, which
// netstack's doesn't.
type relay Socket

// NotifyEvent implements waiter.EventListener.
func (r *relay) NotifyEvent(mask waiter.EventMask) { r.waiters.Notify(mask) }

// hear has the socket's waiters hear what its queue does.
func (s *Socket) hear() {
	s.relay.Init((*relay)(s), ^waiter.EventMask(0))
	s.queue.EventRegister(&s.relay)
}

// Release closes the socket; what it has yet to send is sent in the background.
func (s *Socket) Release() {
	s.Untrack()
	s.mu.Lock()
	if s.uncork != nil {
		s.uncork.Stop()
	}
	s.mu.Unlock()
	s.ep().Close()
}

// Linger closes the socket if its close has to wait for what it has yet to send (SO_LINGER, socket(7)), and
// returns what becomes ready when that has arrived, and how long to wait at most; nil otherwise.
func (s *Socket) Linger() (waiter.Waitable, time.Duration) {
	o := s.ep().SocketOptions().GetLinger()
	if !s.stream() || !o.Enabled || o.Timeout == 0 {
		return nil, 0
	}
	s.ep().Close()
	return lingering{s}, o.Timeout
}

// lingering is a closed socket, ready when nothing remains to be sent.
type lingering struct{ *Socket }

func (l lingering) Readiness(mask waiter.EventMask) waiter.EventMask {
	switch l.state() {
	case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		return 0
	}
	return mask
}

// renew gives a stream a new endpoint, with the options and the name that were asked for. Precondition: mu
// is held.
func (s *Socket) renew() error {
	family, _, _ := s.Kind()
	network := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
	if family == unix.AF_INET6 {
		network = ipv6.ProtocolNumber
	}
	endpoint, err := s.network.Stack().NewEndpoint(tcp.ProtocolNumber, network, s.queue)
	if err != nil {
		return errnoOf(err)
	}
	endpoint.SocketOptions().SetDelayOption(true)
	old := s.ep()
	name, _ := old.GetLocalAddress()
	s.takeError()
	s.connecting.Store(false)
	s.listening.Store(false)
	s.shut.Store(0)
	s.endpoint.Store(&endpoint)
	if tcp.EndpointState(old.State()) != tcp.StateListen {
		old.Abort()
	}
	old.Close()
	s.replay()
	if s.isBound {
		s.isBound = false
		again := s.boundTo
		if again.Port == 0 { // the same if it is still to be had
			again.Port = name.Port
		}
		if s.bind(again) != nil {
			s.bind(s.boundTo)
		}
	}
	s.waiters.Notify(waiter.EventHUp | waiter.ReadableEvents | waiter.WritableEvents)
	return nil
}

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
	if a.Port != 0 && int32(a.Port) < s.network.set().unprivileged.Load() && !c.Creds.HasCap(unix.CAP_NET_BIND_SERVICE) {
		return unix.EACCES
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isBound && !s.portLater { // without a port, a socket isn't bound yet to Linux
		return unix.EINVAL
	}
	s.isBound, s.portLater = false, false
	if a.Port == 0 && a.Addr.Len() != 0 && s.keptOn(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT) {
		return s.bindLater(a)
	}
	return s.bind(a)
}

// bindLater is bind of a socket that gets its port when it connects (IP_BIND_ADDRESS_NO_PORT in ip(7)).
// Precondition: mu is held.
func (s *Socket) bindLater(a tcpip.FullAddress) error {
	protocol := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
	if a.Addr.Len() == header.IPv6AddressSize && !header.IsV4MappedAddress(a.Addr) {
		protocol = ipv6.ProtocolNumber
	} else if a.Addr.Len() == header.IPv6AddressSize {
		b := a.Addr.As16()
		if s.network.Stack().CheckLocalAddress(a.NIC, protocol, tcpip.AddrFrom4([4]byte(b[12:]))) != 0 {
			s.isBound, s.boundTo, s.portLater = true, a, true
			return nil
		}
	}
	if !s.mayBindAnywhere() && s.network.Stack().CheckLocalAddress(a.NIC, protocol, a.Addr) == 0 {
		return unix.EADDRNOTAVAIL
	}
	s.isBound, s.boundTo, s.portLater = true, a, true
	return nil
}

// choosePort binds a socket that bindLater left without a port. Precondition: mu is held.
func (s *Socket) choosePort() error {
	if !s.portLater {
		return nil
	}
	s.portLater = false
	return s.bind(s.boundTo)
}

// mayBindAnywhere says whether the socket may have an address that the machine hasn't: IP_FREEBIND and
// IP_TRANSPARENT in ip(7). Precondition: mu is held.
func (s *Socket) mayBindAnywhere() bool {
	family, _, _ := s.Kind()
	if s.network.set().nonLocal[0].Load() && family == unix.AF_INET || s.network.set().nonLocal[1].Load() && family == unix.AF_INET6 {
		return true
	}
	return s.keptOn(unix.IPPROTO_IP, unix.IP_FREEBIND) || s.keptOn(unix.IPPROTO_IP, unix.IP_TRANSPARENT) ||
		s.keptOn(unix.IPPROTO_IPV6, unix.IPV6_FREEBIND) || s.keptOn(unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT)
}

// bindEndpoint binds the endpoint. To netstack, an address is the machine's while its interfaces take any:
// no other socket is bound meanwhile. Precondition: mu is held.
func (s *Socket) bindEndpoint(a tcpip.FullAddress) tcpip.Error {
	n := s.network
	n.bindMu.Lock()
	defer n.bindMu.Unlock()
	err := s.ep().Bind(a)
	if _, foreign := err.(*tcpip.ErrBadLocalAddress); !foreign || !s.mayBindAnywhere() {
		return err
	}
	for id := range n.Stack().NICInfo() {
		n.Stack().SetSpoofing(id, true)
		defer n.Stack().SetSpoofing(id, false)
	}
	return s.ep().Bind(a)
}

// bind binds the endpoint. Precondition: mu is held.
func (s *Socket) bind(a tcpip.FullAddress) error {
	switch err := s.bindEndpoint(a); err.(type) {
	case nil:
		s.isBound, s.boundTo = true, a
		return nil
	case *tcpip.ErrNoPortAvailable:
		return unix.EADDRINUSE
	default:
		return errnoOf(err)
	}
}

// Connect is connect(2). It begins a connection of TCP: EINPROGRESS.
func (s *Socket) Connect(_ *vfs.Context, addr []byte) (waiter.Waitable, error) {
	family, err := familyOf(addr)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_UNSPEC {
		return nil, s.disconnect()
	}
	a, err := s.parseAddress(addr)
	if err != nil {
		return nil, err
	}
	if own, _, _ := s.Kind(); own == unix.AF_INET6 && s.ep().SocketOptions().GetV6Only() &&
		(family == unix.AF_INET || header.IsV4MappedAddress(a.Addr)) {
		return nil, unix.ENETUNREACH
	}
	if a.Addr.Len() == 0 {
		a.Addr = s.self(family)
	} else if a.Addr == mappedAny {
		a.Addr = mappedLoopback
	}
	if s.stream() {
		if family, _, _ := s.Kind(); family == unix.AF_INET6 && len(addr) < shortestAddress6 {
			return nil, unix.EINVAL
		}
		return nil, s.connect(a)
	}
	s.mu.Lock()
	err = s.choosePort()
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return nil, unreachable(s.ep().Connect(a))
}

// unreachable is errnoOf for what needs a route: that there is none is ENETUNREACH on Linux.
func unreachable(err tcpip.Error) error {
	if _, is := err.(*tcpip.ErrHostUnreachable); is {
		return unix.ENETUNREACH
	}
	return errnoOf(err)
}

// connect begins a connection of TCP, or tells how it stands with the one that was begun.
func (s *Socket) connect(a tcpip.FullAddress) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state := s.state(); state {
	case tcp.StateInitial, tcp.StateBound:
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return unix.EALREADY
	case tcp.StateError, tcp.StateClose:
		if !s.connecting.Load() { // there was a connection
			return unix.EISCONN
		}
		err := s.takeError()
		if err == nil {
			err = unix.ECONNABORTED
		}
		if e := s.renew(); e != nil {
			return e
		}
		return err
	default:
		if s.connecting.Swap(false) {
			return nil
		}
		return unix.EISCONN
	}
	if err := s.choosePort(); err != nil {
		return err
	}
	s.TakeError() // what disconnect left
	err := s.ep().Connect(a)
	if _, begun := err.(*tcpip.ErrConnectStarted); begun {
		s.connecting.Store(true)
		return unix.EINPROGRESS
	}
	return unreachable(err)
}

// disconnect is connect(2) to AF_UNSPEC, which ends a connection at once.
func (s *Socket) disconnect() error {
	if !s.stream() {
		return errnoOf(s.ep().Disconnect())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state() {
	case tcp.StateInitial, tcp.StateBound:
		return nil
	}
	over := !hasConnection(s.state()) && !s.inHandshake() || s.state() == tcp.StateTimeWait
	if s.accepted { // what it had of the listener ends
		s.isBound, s.accepted = false, false
	}
	if over {
		return s.renew()
	}
	return s.giveUp()
}

// giveUp ends a connection, or the beginning of one, on the program's side: to which that is an error too.
// Precondition: mu is held.
func (s *Socket) giveUp() error {
	if err := s.renew(); err != nil {
		return err
	}
	s.Error.Store(int32(unix.ECONNRESET))
	s.waiters.Notify(waiter.EventErr)
	return nil
}

// Listen is listen(2): EOPNOTSUPP, EADDRINUSE, EINVAL.
func (s *Socket) Listen(_ *vfs.Context, backlog int) error {
	if !s.stream() {
		return unix.EOPNOTSUPP
	}
	backlog = net.Backlog(backlog)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isBound && tcp.EndpointState(s.ep().State()) == tcp.StateInitial {
		if err := s.bind(tcpip.FullAddress{}); err != nil {
			return err
		}
	}
	if err := s.choosePort(); err != nil {
		return err
	}
	// Linux completes one connection more than the backlog says.
	if err := s.ep().Listen(backlog + 1); err != nil {
		return errnoOf(err)
	}
	s.backlog.Store(int32(backlog))
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
	endpoint, queue, err := s.ep().Accept(nil)
	if err != nil {
		return nil, errnoOf(err)
	}
	n := &Socket{network: s.network, queue: queue, isBound: true, accepted: true}
	n.hear()
	n.endpoint.Store(&endpoint)
	n.Inherit(&s.Base)
	endpoint.SocketOptions().SetDelayOption(s.ep().SocketOptions().GetDelayOption())
	n.shrunk.Store(shrinkReceive(endpoint.SocketOptions()))
	s.mu.Lock()
	n.kept = slices.Clone(s.kept)
	s.mu.Unlock()
	n.replay()
	return n, nil
}

// Shutdown is shutdown(2): EINVAL, ENOTCONN. A listening socket that is shut down for receiving listens no
// more, as on Linux.
func (s *Socket) Shutdown(how int) error {
	var flags tcpip.ShutdownFlags
	var shut uint32
	switch how {
	case unix.SHUT_RD:
		flags, shut = tcpip.ShutdownRead, shutReceive
	case unix.SHUT_WR:
		flags, shut = tcpip.ShutdownWrite, shutSend
	case unix.SHUT_RDWR:
		flags, shut = tcpip.ShutdownRead|tcpip.ShutdownWrite, shutReceive|shutSend
	default:
		return unix.EINVAL
	}
	if s.listening.Load() {
		if shut&shutReceive == 0 {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.renew()
	}
	if s.stream() {
		switch s.state() {
		case tcp.StateTimeWait: // the connection's, of which the socket is free
			return unix.ENOTCONN
		case tcp.StateConnecting, tcp.StateSynSent:
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.giveUp()
		}
		// Receiving goes on: what comes after SHUT_RD can be read, though nobody waits for it.
		if flags &^= tcpip.ShutdownRead; flags == 0 {
			if !hasConnection(s.state()) {
				return unix.ENOTCONN
			}
			s.shut.Or(shut)
			s.waiters.Notify(waiter.ReadableEvents | waiter.EventRdHUp)
			return nil
		}
	}
	err := errnoOf(s.ep().Shutdown(flags))
	if err == nil && s.shut.Or(shut)|shut == shutReceive|shutSend {
		s.waiters.Notify(waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp)
	}
	return err
}

// hasConnection says whether there is or was a connection.
func hasConnection(s tcp.EndpointState) bool {
	switch s {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateTimeWait, tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing:
		return true
	}
	return false
}

// Name appends the socket's address.
func (s *Socket) Name(to []byte) ([]byte, error) {
	a, err := s.ep().GetLocalAddress()
	if err != nil {
		return nil, errnoOf(err)
	}
	s.mu.Lock()
	if s.portLater {
		a = s.boundTo
	}
	s.mu.Unlock()
	family, _, _ := s.Kind()
	return appendAddress(to, family, a), nil
}

// Peer appends the address that the socket is connected to: ENOTCONN.
func (s *Socket) Peer(to []byte) ([]byte, error) {
	a, err := s.ep().GetRemoteAddress()
	if err != nil {
		return nil, errnoOf(err)
	}
	if s.stream() && (s.inHandshake() || s.state() == tcp.StateTimeWait) {
		return nil, unix.ENOTCONN
	}
	family, _, _ := s.Kind()
	return appendAddress(to, family, a), nil
}

// From appends the address that an accepted connection came from.
func (s *Socket) From(to []byte) ([]byte, error) {
	if e, ok := s.ep().(interface{ LastPeer() tcpip.FullAddress }); ok {
		return appendAddress(to, s.family(), e.LastPeer()), nil
	}
	return s.Peer(to)
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
	skip int // bytes to leave out
}

func (s *sink) Write(p []byte) (n int, err error) {
	if s.skip > 0 {
		k := min(len(p), s.skip)
		s.skip -= k
		if p = p[k:]; len(p) == 0 {
			return k, nil
		}
		n, err = s.Write(p)
		return n + k, err
	}
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
	urgent := m.Flags&unix.MSG_OOB != 0
	if urgent && !s.stream() {
		return 0, unix.EOPNOTSUPP
	}
	if o := s.ep().SocketOptions(); !s.stream() && (o.GetIPv4RecvError() || o.GetIPv6RecvError()) {
		s.collectErrors()
	}
	// To TCP, the end of a record is its urgent byte.
	options := tcpip.WriteOptions{Atomic: !s.stream(), EndOfRecord: urgent}
	var x sent
	if len(m.Control) > 0 && !s.stream() {
		var err error
		if x, err = readControl(m.Control); err != nil {
			return 0, err
		}
		options.ControlMessages = x.SendableControlMessages
	}
	if len(m.Address) > 0 && !s.stream() {
		a, err := s.parseAddress(m.Address)
		if err != nil {
			return 0, err
		}
		family, _ := familyOf(m.Address)
		if family, typ, _ := s.Kind(); family == unix.AF_INET6 && header.IsV4MappedAddress(a.Addr) && s.ep().SocketOptions().GetV6Only() {
			return 0, unix.ENETUNREACH
		} else if a.Port == 0 && typ == unix.SOCK_DGRAM && s.isUDP() {
			return 0, unix.EINVAL
		}
		if a.Addr.Len() == 0 {
			a.Addr = s.self(family)
		}
		if x.nic != 0 && a.NIC == 0 {
			a.NIC = x.nic
		}
		options.To = &a
	} else if !s.stream() && transport.DatagramEndpointState(s.ep().State()) != transport.DatagramEndpointStateConnected {
		return 0, unix.EDESTADDRREQ // before netstack binds the socket
	}
	m.Control = nil
	if s.stream() && src.Len() == 0 {
		return 0, nil
	}
	if s.isUDP() {
		if more := m.Flags&unix.MSG_MORE != 0 || s.cork.Load(); more || s.holding.Load() {
			n, err := s.hold(src, options.To)
			if err == nil && !more {
				err = s.flush()
			}
			return n, err
		}
		if x.source.Len() != 0 || x.hasTOS {
			if to, ok := s.target(options.To); ok {
				return s.sendFrom(src, to, &x)
			}
		}
	}
	if x.hasTOS { // for this message alone
		name := tcpip.IPv4TOSOption
		if family, _, _ := s.Kind(); family == unix.AF_INET6 {
			name = tcpip.IPv6TrafficClassOption
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if was, err := s.ep().GetSockOptInt(name); err == nil {
			s.ep().SetSockOptInt(name, int(x.tos))
			defer s.ep().SetSockOptInt(name, was)
		}
	}
	if s.stream() && (m.Flags&unix.MSG_MORE != 0 || s.more.Load()) {
		s.setMore(m.Flags&unix.MSG_MORE != 0)
	}
	if s.stream() {
		s.shrinkSend(src.Len())
	}
	begin := src.Done()
	n, err := s.ep().Write(source{src}, options)
	if at := begin + int(n); src.Done() != at { // netstack read more than it took
		src.Reset()
		src.Skip(at)
	}
	if n > 0 {
		if s.stream() && s.ep().SocketOptions().GetCorkOption() {
			s.corked()
		}
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
	case *tcpip.ErrWouldBlock:
		return 0, unix.EAGAIN
	case *tcpip.ErrHostUnreachable:
		return 0, unix.ENETUNREACH
	}
	s.told()
	return 0, errnoOf(err)
}

// corkTime is how long bytes are held back at most (TCP_CORK in tcp(7)).
const corkTime = 200 * time.Millisecond

// setMore begins or ends to hold back what doesn't fill a segment, for MSG_MORE.
func (s *Socket) setMore(more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more.Store(more)
	s.ep().SocketOptions().SetCorkOption(more || s.cork.Load())
}

// corked has what was just sent go when corkTime is over.
func (s *Socket) corked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uncork == nil {
		s.uncork = time.AfterFunc(corkTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			o := s.ep().SocketOptions()
			on := o.GetCorkOption()
			o.SetCorkOption(false)
			o.SetCorkOption(on)
			s.uncork = nil
		})
	}
}

// isUDP says whether the socket is one of UDP.
func (s *Socket) isUDP() bool {
	_, _, protocol := s.Kind()
	return protocol == unix.IPPROTO_UDP
}

// target returns where a datagram goes, if that is to IPv4.
func (s *Socket) target(to *tcpip.FullAddress) (tcpip.FullAddress, bool) {
	var a tcpip.FullAddress
	if to != nil {
		a = *to
	} else if peer, err := s.ep().GetRemoteAddress(); err == nil {
		a = peer
	}
	if header.IsV4MappedAddress(a.Addr) {
		b := a.Addr.As16()
		a.Addr = tcpip.AddrFrom4([4]byte(b[12:]))
	}
	return a, a.Addr.Len() == header.IPv4AddressSize
}

// inHandshake says whether a stream's connection has begun and is not there yet.
func (s *Socket) inHandshake() bool {
	switch tcp.EndpointState(s.ep().State()) {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return true
	}
	return false
}

// Recv receives: see net.Socket.
func (s *Socket) Recv(c *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	switch {
	case m.Flags&unix.MSG_ERRQUEUE != 0:
		m.Flags |= unix.MSG_DONTWAIT
		return s.receiveError(dst, m)
	case m.Flags&unix.MSG_OOB != 0 && s.stream():
		return s.receiveUrgent(dst, m)
	case m.Flags&unix.MSG_OOB != 0 && !s.isUDP():
		return 0, unix.EOPNOTSUPP
	}
	// What a stream received before it failed comes first, and its end if that came.
	if s.Error.Load() != 0 && (!s.stream() || s.received() == 0 && s.state() != tcp.StateClose) {
		if err := s.TakeError(); err != nil {
			return 0, err
		}
	}
	peek := m.Flags&unix.MSG_PEEK != 0
	stream := s.stream()
	if stream && dst.Len() == 0 {
		return 0, nil
	}
	if stream && (peek && m.Flags&unix.MSG_WAITALL != 0 || s.LowWater.Load() > 1) {
		if w := s.enough(dst.Len(), m); w != nil {
			m.Wait = w
			return 0, unix.EAGAIN
		}
	}
	if f := s.Filters(); f != nil && !stream {
		return s.receiveFiltered(f, dst, m)
	}
	to := sink{Buffer: dst, drop: stream && m.Flags&unix.MSG_TRUNC != 0}
	if peek && stream {
		if to.skip = int(max(s.PeekOffset.Load(), 0)); to.skip > 0 {
			if w := (&bytesWanted{s, to.skip + 1}); w.Readiness(waiter.ReadableEvents) == 0 {
				m.Wait = w
				return 0, unix.EAGAIN
			}
		}
	}
	skip := to.skip
	r, err := s.ep().Read(&to, tcpip.ReadOptions{Peek: peek, NeedRemoteAddr: !stream})
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
		case *tcpip.ErrWouldBlock:
			if stream && s.shut.Load()&shutReceive != 0 {
				return 0, nil
			}
			return 0, unix.EAGAIN
		default:
			s.told()
			return 0, errnoOf(err)
		}
	}
	if stream {
		if skip > 0 {
			// What a peek left out is no part of it; without more, the end has come.
			r.Count = max(r.Count-skip, 0)
		}
		s.Peeked(r.Count, !peek)
		if !peek {
			if s.shrunk.Load() != 0 {
				s.growReceive()
			}
			s.ep().ModerateRecvBuf(r.Count)
		}
		m.More = m.Flags&unix.MSG_WAITALL != 0 && !peek && dst.Len() > 0 && !s.atUrgent()
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

// enough returns nil if a receive of n bytes has no reason to wait, or else what becomes readable when it
// has none.
func (s *Socket) enough(n int, m *net.Message) waiter.Waitable {
	if m.Flags&unix.MSG_WAITALL == 0 {
		n = min(n, int(s.LowWater.Load()))
	}
	b := &bytesWanted{s, n}
	if m.Flags&unix.MSG_DONTWAIT != 0 || b.Readiness(waiter.ReadableEvents) != 0 {
		return nil
	}
	return b
}

// bytesWanted is a stream, readable when so many bytes are there or no more will come.
type bytesWanted struct {
	*Socket
	count int
}

func (b *bytesWanted) Readiness(mask waiter.EventMask) waiter.EventMask {
	r := b.Socket.Readiness(mask | waiter.EventRdHUp)
	if r&(waiter.EventRdHUp|waiter.EventHUp|waiter.EventErr) == 0 && b.received() < b.count {
		r &^= waiter.ReadableEvents
	} else {
		r |= waiter.ReadableEvents
	}
	return r & (mask | waiter.EventErr | waiter.EventHUp)
}

// Ioctl answers FIONREAD and SIOCOUTQ, and the requests about interfaces.
func (s *Socket) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	option := tcpip.SockOptInt(tcpip.ReceiveQueueSizeOption)
	switch request {
	case unix.TIOCINQ: // FIONREAD, SIOCINQ
		if s.listening.Load() {
			return 0, unix.EINVAL
		}
	case unix.SIOCATMARK:
		if !s.stream() {
			return 0, unix.ENOTTY
		}
		at := uint32(0)
		if s.atUrgent() {
			at = 1
		}
		return 0, c.Thread.MM().WriteUint32(arg, at)
	case unix.TIOCOUTQ: // SIOCOUTQ
		if s.listening.Load() {
			return 0, unix.EINVAL
		}
		option = tcpip.SendQueueSizeOption
	default:
		return s.network.Ioctl(c, request, arg)
	}
	n, err := s.ep().GetSockOptInt(option)
	if e, ok := s.ep().(*tcp.Endpoint); ok && request == unix.TIOCOUTQ {
		n = unsent(e)
	} else if err != nil {
		n = 0
	}
	return 0, c.Thread.MM().WriteUint32(arg, uint32(n))
}
