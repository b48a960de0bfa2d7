// Package inet is AF_INET and AF_INET6: TCP, UDP and ICMP sockets over gVisor's netstack, the loopback
// interface, and the machine's network cards as interfaces.
//
// The stack is made when the first socket or the first interface needs it: a program without a network
// pays nothing. Endpoints of netstack never block, and their wait queues are those of the sockets.
//
// The package's locks (Network.mu, Socket.mu) are taken before any of netstack's, and nothing is copied
// from or to a program under them.
package inet

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/net"
	"elver/vfs"
)

// LoopbackNIC is the number of the interface lo, as on Linux.
const LoopbackNIC = 1

// Buffers of TCP in bytes: net.ipv4.tcp_rmem and tcp_wmem.
const (
	minTCPBuffer     = 4 << 10
	defaultTCPBuffer = 256 << 10
	maxTCPBuffer     = 4 << 20
)

// Ports that are chosen for who doesn't choose one: net.ipv4.ip_local_port_range.
const firstLocalPort, lastLocalPort = 32768, 60999

// Network is a network stack with its interfaces.
type Network struct {
	once  sync.Once
	stack *stack.Stack

	settings settings
	bindMu   sync.Mutex // is held while a socket is bound

	changed func(Event)
	// nameServers hears of the name servers that routers advertise, as resolv.conf(5) writes them.
	nameServers func([]string)
	// unique says that IPv6 addresses of cards are used when nobody else has them.
	unique bool

	routesMu sync.Mutex // guards routes, and is held while netstack's change
	routes   []Route    // in the order of compare

	mu        sync.Mutex // guards what follows
	next      tcpip.NICID
	places    map[tcpip.NICID]Place
	addresses map[addressKey]AddressInfo // of those that programs gave
}

// Stack returns the stack, which is made at the first call.
func (n *Network) Stack() *stack.Stack {
	n.once.Do(n.start)
	return n.stack
}

func (n *Network) start() {
	discovery := ipv6.DefaultNDPConfigurations()
	discovery.AutoGenTempGlobalAddresses = false // as on Linux
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocolWithOptions(ipv6.Options{
			NDPConfigs: discovery, AutoGenLinkLocal: true, NDPDisp: &neighbours{network: n},
		}), arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal:              true,
		RawFactory:               raw.EndpointFactory{},
		AllowPacketEndpointWrite: true,
		Clock:                    &clock{tcpip.NewStdClock()},
	})
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate)
	cubic := tcpip.CongestionControlOption("cubic")
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &cubic)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &tcpip.TCPSendBufferSizeRangeOption{Min: minTCPBuffer, Default: defaultTCPBuffer, Max: maxTCPBuffer})
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &tcpip.TCPReceiveBufferSizeRangeOption{Min: minTCPBuffer, Default: defaultTCPBuffer, Max: maxTCPBuffer})
	n.setBuffers(s)
	if p, ok := s.TransportProtocolInstance(tcp.ProtocolNumber).(crowdable); ok {
		p.SetCrowded(crowded)
	}
	s.SetPortRange(firstLocalPort, lastLocalPort)
	n.stack, n.next = s, LoopbackNIC+1
	must(s.CreateNICWithOptions(LoopbackNIC, loopback.New(), stack.NICOptions{Name: "lo", DeliverLinkPackets: true}))
	for _, a := range []struct {
		protocol tcpip.NetworkProtocolNumber
		address  tcpip.Address
		prefix   int
	}{
		{ipv4.ProtocolNumber, tcpip.AddrFrom4([4]byte{127, 0, 0, 1}), 8},
		{ipv6.ProtocolNumber, header.IPv6Loopback, 128},
	} {
		must(s.AddProtocolAddress(LoopbackNIC, tcpip.ProtocolAddress{
			Protocol: a.protocol, AddressWithPrefix: tcpip.AddressWithPrefix{Address: a.address, PrefixLen: a.prefix},
		}, stack.AddressProperties{}))
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4LoopbackSubnet, NIC: LoopbackNIC},
		{Destination: header.IPv6Loopback.WithPrefix().Subnet(), NIC: LoopbackNIC},
	})
}

// OnNameServers has f called with the name servers that IPv6 routers advertise, again and again, as resolv.conf(5)
// writes them. It is called before the first interface is added.
func (n *Network) OnNameServers(f func(servers []string)) { n.nameServers = f }

// LookForDuplicates has addresses of IPv6 used when nobody on the link has said within a second that they are his
// (RFC 4862, 5.4). It is called before the first interface is added.
func (n *Network) LookForDuplicates() { n.unique = true }

// Packets returns how many packets all interfaces received and sent.
func (n *Network) Packets() (received, sent uint64) {
	n.mu.Lock()
	started := n.next != 0
	n.mu.Unlock()
	if !started {
		return 0, 0
	}
	for _, nic := range n.stack.NICInfo() {
		received += nic.Stats.Rx.Packets.Value()
		sent += nic.Stats.Tx.Packets.Value()
	}
	return received, sent
}

// clock tells the time as programs see it.
type clock struct{ tcpip.Clock }

// Now is for the time stamps of packets.
func (*clock) Now() time.Time { return time.Unix(0, kernel.Realtime()) }

// NowMonotonic is read several times a packet.
func (*clock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Duration(kernel.Monotonic()))
}

// Drain waits until what closed sockets have yet to send has arrived, at most that long.
func (n *Network) Drain(atMost time.Duration) {
	n.mu.Lock()
	cards := n.next > LoopbackNIC+1
	n.mu.Unlock()
	if !cards {
		return // nobody is there to send to
	}
	const glance = 2 * time.Millisecond
	for ; atMost > 0 && n.sending(); atMost -= glance {
		time.Sleep(glance)
	}
}

// sending says whether a closed connection has bytes that the other side has not acknowledged.
func (n *Network) sending() bool {
	for _, e := range n.stack.RegisteredEndpoints() {
		if e, ok := e.(*tcp.Endpoint); ok {
			switch tcp.EndpointState(e.State()) {
			case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
				return true
			}
		}
	}
	return false
}

// must panics for what fails only if this package is wrong.
func must(err tcpip.Error) {
	if err != nil {
		panic("inet: " + err.String())
	}
}

// Family makes the sockets of AF_INET or AF_INET6 of a network.
type Family struct {
	Network *Network
	Number  int // AF_INET or AF_INET6
}

// Pair refuses: socketpair(2) is for AF_UNIX. What can't be a socket has the errors of Socket.
func (f Family) Pair(c *vfs.Context, typ, protocol int) (net.Socket, net.Socket, error) {
	s, err := f.Socket(c, typ, protocol)
	if err != nil {
		return nil, nil, err
	}
	s.Release()
	return nil, nil, unix.EOPNOTSUPP
}

// Socket makes a socket: ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM.
func (f Family) Socket(c *vfs.Context, typ, protocol int) (net.Socket, error) {
	if protocol < 0 || protocol >= 256 {
		return nil, unix.EINVAL
	}
	network := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
	if f.Number == unix.AF_INET6 {
		network = ipv6.ProtocolNumber
	}
	var transport tcpip.TransportProtocolNumber
	ping, pingProtocol := tcpip.TransportProtocolNumber(icmp.ProtocolNumber4), unix.IPPROTO_ICMP
	if f.Number == unix.AF_INET6 {
		ping, pingProtocol = icmp.ProtocolNumber6, unix.IPPROTO_ICMPV6
	}
	switch {
	case typ == unix.SOCK_STREAM && (protocol == 0 || protocol == unix.IPPROTO_TCP):
		transport, protocol = tcp.ProtocolNumber, unix.IPPROTO_TCP
	case typ == unix.SOCK_DGRAM && (protocol == 0 || protocol == unix.IPPROTO_UDP):
		transport, protocol = udp.ProtocolNumber, unix.IPPROTO_UDP
	case typ == unix.SOCK_DGRAM && protocol == pingProtocol:
		if !f.Network.set().mayPing(c.Creds.EGID, c.Creds.Groups) {
			return nil, unix.EACCES
		}
		transport = ping
	case typ == unix.SOCK_RAW:
		if !c.Creds.HasCap(unix.CAP_NET_RAW) {
			return nil, unix.EPERM
		}
		if protocol == 0 {
			return nil, unix.EPROTONOSUPPORT
		}
	case typ == unix.SOCK_STREAM || typ == unix.SOCK_DGRAM:
		return nil, unix.EPROTONOSUPPORT
	default:
		return nil, unix.ESOCKTNOSUPPORT
	}
	queue := new(waiter.Queue)
	var endpoint tcpip.Endpoint
	var err tcpip.Error
	switch {
	case typ != unix.SOCK_RAW:
		endpoint, err = f.Network.Stack().NewEndpoint(transport, network, queue)
	case protocol == unix.IPPROTO_RAW: // for sending alone
		endpoint, err = f.Network.Stack().NewRawEndpoint(tcpip.TransportProtocolNumber(protocol), network, queue, false)
	default: // of any protocol, whether the stack speaks it or not
		endpoint, err = raw.NewEndpoint(f.Network.Stack(), network, tcpip.TransportProtocolNumber(protocol), queue)
	}
	if err != nil {
		return nil, errnoOf(err)
	}
	endpoint.SocketOptions().SetDelayOption(typ == unix.SOCK_STREAM) // Nagle's algorithm is on
	if f.Number == unix.AF_INET6 && f.Network.set().v6Only.Load() {
		endpoint.SocketOptions().SetV6Only(true)
	}
	s := &Socket{network: f.Network, queue: queue}
	s.hear()
	s.Init(f.Number, typ, protocol)
	s.endpoint.Store(&endpoint)
	return s, nil
}

// errnoOf returns what Linux says for an error of netstack.
func errnoOf(err tcpip.Error) error {
	switch err.(type) {
	case nil, *tcpip.ErrClosedForReceive:
		return nil
	case *tcpip.ErrWouldBlock:
		return unix.EAGAIN
	case *tcpip.ErrClosedForSend, *tcpip.ErrAborted:
		return unix.EPIPE
	case *tcpip.ErrConnectStarted:
		return unix.EINPROGRESS
	case *tcpip.ErrAlreadyConnecting:
		return unix.EALREADY
	case *tcpip.ErrAlreadyConnected:
		return unix.EISCONN
	case *tcpip.ErrNotConnected:
		return unix.ENOTCONN
	case *tcpip.ErrConnectionRefused:
		return unix.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return unix.ECONNRESET
	case *tcpip.ErrConnectionAborted:
		return unix.ECONNABORTED
	case *tcpip.ErrTimeout:
		return unix.ETIMEDOUT
	case *tcpip.ErrPortInUse:
		return unix.EADDRINUSE
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrNoPortAvailable:
		return unix.EADDRNOTAVAIL
	case *tcpip.ErrDestinationRequired:
		return unix.EDESTADDRREQ
	case *tcpip.ErrMessageTooLong:
		return unix.EMSGSIZE
	case *tcpip.ErrNoBufferSpace:
		return unix.ENOBUFS
	case *tcpip.ErrHostUnreachable:
		return unix.EHOSTUNREACH
	case *tcpip.ErrHostDown:
		return unix.EHOSTDOWN
	case *tcpip.ErrNetworkUnreachable:
		return unix.ENETUNREACH
	case *tcpip.ErrNoNet:
		return unix.ENONET
	case *tcpip.ErrBroadcastDisabled:
		return unix.EACCES
	case *tcpip.ErrNotPermitted:
		return unix.EPERM
	case *tcpip.ErrAddressFamilyNotSupported:
		return unix.EAFNOSUPPORT
	case *tcpip.ErrBadBuffer, *tcpip.ErrBadAddress:
		return unix.EFAULT
	case *tcpip.ErrNotSupported:
		return unix.EOPNOTSUPP
	case *tcpip.ErrUnknownProtocolOption:
		return unix.ENOPROTOOPT
	case *tcpip.ErrUnknownNICID, *tcpip.ErrUnknownDevice, *tcpip.ErrInvalidNICID:
		return unix.ENODEV
	case *tcpip.ErrDuplicateAddress, *tcpip.ErrDuplicateNICID:
		return unix.EEXIST
	}
	return unix.EINVAL
}
