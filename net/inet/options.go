package inet

import (
	"bytes"
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/net"
	"elver/vfs"
)

// valueOf reads an option's value: an int, or of some options at level IP a single byte.
func valueOf(level int, value []byte) (int, error) {
	if len(value) >= 4 {
		return int(int32(binary.LittleEndian.Uint32(value))), nil
	}
	if level == unix.IPPROTO_IP && len(value) >= 1 {
		return int(value[0]), nil
	}
	return 0, unix.EINVAL
}

// udpCork is UDP_CORK (udp(7)).
const udpCork = 1

// option is one that was set.
type option struct {
	level, name int
	short       [16]byte // its value, if that is no longer, and how long it is
	size        int
	long        []byte
}

func (o *option) set(value []byte) {
	if o.size = copy(o.short[:], value); o.size < len(value) {
		o.long = bytes.Clone(value)
	} else {
		o.long = nil
	}
}

func (o *option) value() []byte {
	if o.long != nil {
		return o.long
	}
	return o.short[:o.size]
}

// SetOption is setsockopt(2).
func (s *Socket) SetOption(c *vfs.Context, level, name int, value []byte) error {
	if level == unix.IPPROTO_IPV6 && name == unix.IPV6_V6ONLY {
		s.mu.Lock()
		bound := s.isBound
		s.mu.Unlock()
		if bound {
			return unix.EINVAL
		}
	}
	if six, family := level == unix.IPPROTO_IPV6, s.family(); (level == unix.IPPROTO_IP || six && family == unix.AF_INET6) && groupOption(name, six) {
		return s.setGroup(name, value, six)
	}
	if level == unix.SOL_SOCKET {
		if err := s.setSocketOption(c, name, value); err != nil {
			return err
		}
	} else {
		// A socket that takes what is others' (ip(7)).
		if transparent(level, name) && !c.Creds.HasCap(unix.CAP_NET_RAW) && !c.Creds.HasCap(unix.CAP_NET_ADMIN) {
			if v, err := valueOf(level, value); err != nil || v != 0 {
				return unix.EPERM
			}
		}
		if level == unix.IPPROTO_IPV6 && name == unix.IPV6_ADDRFORM {
			return s.toIPv4(value)
		}
		if err := s.apply(level, name, value); err != nil {
			return err
		}
	}
	if s.stream() || remembered(level, name) {
		s.keep(level, name, value)
	}
	return nil
}

// transparent says whether an option is IP_TRANSPARENT or IPv6's.
func transparent(level, name int) bool {
	return level == unix.IPPROTO_IP && name == unix.IP_TRANSPARENT || level == unix.IPPROTO_IPV6 && name == unix.IPV6_TRANSPARENT
}

// remembered says whether an option does nothing here but that it is there: hints, and what concerns what
// never comes.
func remembered(level, name int) bool {
	switch level {
	case unix.IPPROTO_TCP:
		switch name {
		case unix.TCP_FASTOPEN, unix.TCP_FASTOPEN_CONNECT, unix.TCP_NOTSENT_LOWAT, unix.TCP_THIN_LINEAR_TIMEOUTS, unix.TCP_THIN_DUPACK:
			return true
		}
	case unix.IPPROTO_IP:
		switch name {
		case unix.IP_FREEBIND, unix.IP_BIND_ADDRESS_NO_PORT, unix.IP_TRANSPARENT, unix.IP_MTU_DISCOVER,
			unix.IP_RECVOPTS, unix.IP_RETOPTS:
			return true
		}
	case unix.IPPROTO_IPV6:
		switch name {
		case unix.IPV6_MTU_DISCOVER, unix.IPV6_AUTOFLOWLABEL, unix.IPV6_DONTFRAG, unix.IPV6_FREEBIND, unix.IPV6_TRANSPARENT:
			return true
		}
	}
	return false
}

// keep remembers what was set, for a new endpoint.
func (s *Socket) keep(level, name int, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.kept {
		if o := &s.kept[i]; o.level == level && o.name == name {
			o.set(value)
			return
		}
	}
	o := option{level: level, name: name}
	o.set(value)
	s.kept = append(s.kept, o)
}

// replay sets what was set, on another endpoint.
func (s *Socket) replay() {
	for i := range s.kept {
		if o := &s.kept[i]; o.level == unix.SOL_SOCKET {
			s.applySocket(o.name, o.value())
		} else {
			s.apply(o.level, o.name, o.value())
		}
	}
}

// apply sets an option of a level above SOL_SOCKET on the endpoint.
func (s *Socket) apply(level, name int, value []byte) error {
	switch level {
	case unix.IPPROTO_TCP:
		if s.stream() {
			return s.setTCP(name, value)
		}
	case unix.IPPROTO_UDP:
		if s.isUDP() && name == udpCork {
			v, err := valueOf(level, value)
			if err != nil {
				return err
			}
			if s.cork.Store(v != 0); v == 0 {
				return s.flush()
			}
			return nil
		}
	case unix.IPPROTO_IP:
		return s.setIP(name, value)
	case unix.IPPROTO_IPV6:
		if family, _, _ := s.Kind(); family == unix.AF_INET6 {
			return s.setIPv6(name, value)
		}
	case unix.IPPROTO_ICMPV6, unix.SOL_RAW:
		if s.raw6() {
			return s.setRaw6(level, name, value)
		}
	}
	return unix.ENOPROTOOPT
}

func (s *Socket) setSocketOption(c *vfs.Context, name int, value []byte) error {
	switch name {
	case unix.SO_BINDTODEVICE:
	case unix.SO_ATTACH_FILTER, unix.SO_DETACH_FILTER, unix.SO_LOCK_FILTER:
		if s.stream() { // what TCP receives are no packets here
			return unix.ENOPROTOOPT
		}
		return s.SetFilter(c, name, value)
	case unix.SO_PEEK_OFF:
		if !s.stream() { // netstack shows the first datagram alone
			return unix.EOPNOTSUPP
		}
		return s.SetPeekOffset(value)
	default:
		if err := s.Base.SetOption(c, unix.SOL_SOCKET, name, value); err != nil {
			return err
		}
	}
	return s.applySocket(name, value)
}

// applySocket sets on the endpoint what the socket has.
func (s *Socket) applySocket(name int, value []byte) error {
	o := s.ep().SocketOptions()
	switch name {
	case unix.SO_BINDTODEVICE:
		device, _, _ := bytes.Cut(value, []byte{0})
		nic := tcpip.NICID(0)
		if len(device) > 0 {
			var ok bool
			if nic, ok = s.network.byName(string(device)); !ok {
				return unix.ENODEV
			}
		}
		return errnoOf(o.SetBindToDevice(int32(nic)))
	case unix.SO_REUSEADDR:
		o.SetReuseAddress(s.On(name))
	case unix.SO_REUSEPORT:
		o.SetReusePort(s.On(name))
	case unix.SO_OOBINLINE:
		if e, ok := s.ep().(urgentEndpoint); ok {
			e.SetUrgentInline(s.On(name))
		}
	case unix.SO_KEEPALIVE:
		o.SetKeepAlive(s.On(name))
	case unix.SO_BROADCAST:
		o.SetBroadcast(s.On(name))
	case unix.SO_NO_CHECK:
		o.SetNoChecksum(s.On(name))
	case unix.SO_SNDBUF, unix.SO_SNDBUFFORCE:
		o.SetSendBufferSize(int64(s.SendBuffer.Load()), true)
	case unix.SO_RCVBUF, unix.SO_RCVBUFFORCE:
		s.shrunk.Store(0)
		o.SetReceiveBufferSize(int64(s.ReceiveBuffer.Load()), true)
	case unix.SO_LINGER:
		o.SetLinger(tcpip.LingerOption{
			Enabled: binary.LittleEndian.Uint32(value) != 0,
			Timeout: time.Duration(binary.LittleEndian.Uint32(value[4:])) * time.Second,
		})
	}
	return nil
}

// quickAcker is an endpoint that has acknowledgments wait for answers: netstack's as it comes doesn't.
type quickAcker interface {
	SetQuickAck(v int)
	QuickAck() bool
}

func (s *Socket) setTCP(name int, value []byte) error {
	if name == unix.TCP_CONGESTION {
		cc, _, _ := bytes.Cut(value, []byte{0})
		option := tcpip.CongestionControlOption(cc)
		if s.ep().SetSockOpt(&option) != nil {
			return unix.ENOENT
		}
		return nil
	}
	v, err := valueOf(unix.IPPROTO_TCP, value)
	if err != nil {
		return err
	}
	o := s.ep().SocketOptions()
	seconds := time.Duration(v) * time.Second
	switch name {
	case unix.TCP_NODELAY:
		o.SetDelayOption(v == 0)
	case unix.TCP_CORK:
		s.cork.Store(v != 0)
		o.SetCorkOption(v != 0)
	case unix.TCP_QUICKACK:
		if e, ok := s.ep().(quickAcker); ok {
			e.SetQuickAck(v)
		} else {
			o.SetQuickAck(v != 0)
		}
	case unix.TCP_MAXSEG:
		if v != 0 && (v < 88 || v > 32767) {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.MaxSegOption, v))
	case unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL:
		if v < 1 || v > 32767 {
			return unix.EINVAL
		}
		if name == unix.TCP_KEEPIDLE {
			idle := tcpip.KeepaliveIdleOption(seconds)
			return errnoOf(s.ep().SetSockOpt(&idle))
		}
		interval := tcpip.KeepaliveIntervalOption(seconds)
		return errnoOf(s.ep().SetSockOpt(&interval))
	case unix.TCP_KEEPCNT:
		if v < 1 || v > 127 {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.KeepaliveCountOption, v))
	case unix.TCP_SYNCNT:
		if v < 1 || v > 127 {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.TCPSynCountOption, v))
	case unix.TCP_USER_TIMEOUT:
		if v < 0 {
			return unix.EINVAL
		}
		timeout := tcpip.TCPUserTimeoutOption(time.Duration(v) * time.Millisecond)
		return errnoOf(s.ep().SetSockOpt(&timeout))
	case unix.TCP_LINGER2:
		linger := tcpip.TCPLingerTimeoutOption(seconds)
		return errnoOf(s.ep().SetSockOpt(&linger))
	case unix.TCP_DEFER_ACCEPT:
		wait := tcpip.TCPDeferAcceptOption(max(seconds, 0))
		return errnoOf(s.ep().SetSockOpt(&wait))
	case unix.TCP_WINDOW_CLAMP:
		return errnoOf(s.ep().SetSockOptInt(tcpip.TCPWindowClampOption, v))
	default:
		if !remembered(unix.IPPROTO_TCP, name) {
			return unix.ENOPROTOOPT
		}
	}
	return nil
}

// request reads a struct ip_mreq or ip_mreqn, ipv6_mreq when six.
func request(value []byte, six bool) (group, local tcpip.Address, nic tcpip.NICID, err error) {
	if six {
		if len(value) < 20 {
			return group, local, 0, unix.EINVAL
		}
		return tcpip.AddrFrom16([16]byte(value)), local, tcpip.NICID(binary.LittleEndian.Uint32(value[16:])), nil
	}
	if len(value) < 8 {
		return group, local, 0, unix.EINVAL
	}
	if len(value) >= 12 {
		nic = tcpip.NICID(binary.LittleEndian.Uint32(value[8:]))
	}
	if [4]byte(value[4:8]) != [4]byte{} {
		local = tcpip.AddrFrom4([4]byte(value[4:8]))
	}
	return tcpip.AddrFrom4([4]byte(value)), local, nic, nil
}

func (s *Socket) setIP(name int, value []byte) error {
	if name == unix.IP_MULTICAST_IF {
		if len(value) == 4 {
			value = append(make([]byte, 4, 8), value...)
		}
		_, local, nic, err := request(value, false)
		if err != nil {
			return err
		}
		return errnoOf(s.ep().SetSockOpt(&tcpip.MulticastInterfaceOption{NIC: nic, InterfaceAddr: local}))
	}
	v, err := valueOf(unix.IPPROTO_IP, value)
	if err != nil {
		return err
	}
	o := s.ep().SocketOptions()
	switch name {
	case unix.IP_TOS:
		return errnoOf(s.ep().SetSockOptInt(tcpip.IPv4TOSOption, v&0xff))
	case unix.IP_TTL:
		if v == -1 {
			v = tcpip.UseDefaultIPv4TTL
		} else if v < 1 || v > 255 {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.IPv4TTLOption, v))
	case unix.IP_MULTICAST_TTL:
		if v == -1 {
			v = 1
		} else if v < 0 || v > 255 {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.MulticastTTLOption, v))
	case unix.IP_MULTICAST_LOOP:
		o.SetMulticastLoop(v != 0)
	case unix.IP_PKTINFO:
		o.SetReceivePacketInfo(v != 0)
	case unix.IP_RECVTOS:
		o.SetReceiveTOS(v != 0)
	case unix.IP_RECVTTL:
		o.SetReceiveTTL(v != 0)
	case unix.IP_HDRINCL:
		if _, typ, _ := s.Kind(); typ != unix.SOCK_RAW {
			return unix.ENOPROTOOPT
		}
		o.SetHeaderIncluded(v != 0)
	case unix.IP_RECVERR:
		o.SetIPv4RecvError(v != 0)
	case unix.IP_MTU_DISCOVER:
		if v < 0 || v > unix.IP_PMTUDISC_OMIT {
			return unix.EINVAL
		}
	case unix.IP_MULTICAST_ALL:
		if v != 0 && v != 1 {
			return unix.EINVAL
		}
		s.ownGroups[0].Store(v == 0)
		s.choose()
	case unix.IP_RECVORIGDSTADDR:
		o.SetReceiveOriginalDstAddress(v != 0)
	default:
		if !remembered(unix.IPPROTO_IP, name) {
			return unix.ENOPROTOOPT
		}
	}
	return nil
}

func (s *Socket) setIPv6(name int, value []byte) error {
	v, err := valueOf(unix.IPPROTO_IPV6, value)
	if err != nil {
		return err
	}
	o := s.ep().SocketOptions()
	switch name {
	case unix.IPV6_CHECKSUM:
		if s.raw6() {
			return s.setRaw6(unix.IPPROTO_IPV6, name, value)
		}
		return unix.ENOPROTOOPT
	case unix.IPV6_V6ONLY:
		o.SetV6Only(v != 0)
	case unix.IPV6_UNICAST_HOPS:
		if v < -1 || v > 255 {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.IPv6HopLimitOption, v))
	case unix.IPV6_MULTICAST_HOPS:
		if v == -1 {
			v = 1
		} else if v < 0 || v > 255 {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.MulticastTTLOption, v))
	case unix.IPV6_MULTICAST_LOOP:
		o.SetMulticastLoop(v != 0)
	case unix.IPV6_MULTICAST_IF:
		return errnoOf(s.ep().SetSockOpt(&tcpip.MulticastInterfaceOption{NIC: tcpip.NICID(v)}))
	case unix.IPV6_MULTICAST_ALL:
		s.ownGroups[1].Store(v == 0)
		s.choose()
	case unix.IPV6_TCLASS:
		if v < -1 || v > 255 {
			return unix.EINVAL
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.IPv6TrafficClassOption, max(v, 0)))
	case unix.IPV6_RECVTCLASS:
		o.SetReceiveTClass(v != 0)
	case unix.IPV6_RECVHOPLIMIT:
		o.SetReceiveHopLimit(v != 0)
	case unix.IPV6_RECVPKTINFO:
		o.SetIPv6ReceivePacketInfo(v != 0)
	case unix.IPV6_RECVERR:
		o.SetIPv6RecvError(v != 0)
	case unix.IPV6_MTU_DISCOVER:
		if v < 0 || v > unix.IPV6_PMTUDISC_OMIT {
			return unix.EINVAL
		}
	default:
		if !remembered(unix.IPPROTO_IPV6, name) {
			return unix.ENOPROTOOPT
		}
	}
	return nil
}

func number(v bool) int {
	if v {
		return 1
	}
	return 0
}

func put32(b []byte, v int) int {
	binary.LittleEndian.PutUint32(b, uint32(v))
	return 4
}

// Option is getsockopt(2).
func (s *Socket) Option(c *vfs.Context, level, name int, value []byte) (int, error) {
	switch level {
	case unix.SOL_SOCKET:
		switch name {
		case unix.SO_ERROR:
			s.hasError()
		case unix.SO_PEEK_OFF:
			if !s.stream() {
				return 0, unix.EOPNOTSUPP
			}
			return put32(value, int(s.PeekOffset.Load())), nil
		case unix.SO_ACCEPTCONN:
			return put32(value, number(s.listening.Load())), nil
		case unix.SO_SNDBUF:
			return put32(value, int(s.ep().SocketOptions().GetSendBufferSize())), nil
		case unix.SO_RCVBUF:
			return put32(value, int(s.ep().SocketOptions().GetReceiveBufferSize())), nil
		case unix.SO_PEERCRED: // nobody is known
			put32(value, 0)
			put32(value[4:], -1)
			put32(value[8:], -1)
			return unix.SizeofUcred, nil
		case unix.SO_BINDTODEVICE:
			nic := s.ep().SocketOptions().GetBindToDevice()
			if nic == 0 {
				return 0, nil
			}
			n := copy(value, s.network.Stack().FindNICNameFromID(tcpip.NICID(nic)))
			value[n] = 0
			return n + 1, nil
		}
		return s.Base.Option(c, level, name, value)
	case unix.IPPROTO_TCP:
		if s.stream() {
			return s.getTCP(name, value)
		}
	case unix.IPPROTO_UDP:
		if s.isUDP() {
			if name == udpCork {
				return put32(value, number(s.cork.Load())), nil
			}
			return 0, unix.ENOPROTOOPT
		}
	case unix.IPPROTO_IP:
		return s.getIP(name, value)
	case unix.IPPROTO_IPV6:
		if family, _, _ := s.Kind(); family == unix.AF_INET6 {
			return s.getIPv6(name, value)
		}
	case unix.IPPROTO_ICMPV6, unix.SOL_RAW:
		if s.raw6() {
			return s.getRaw6(level, name, value)
		}
	}
	return 0, unix.EOPNOTSUPP
}

func (s *Socket) getInt(option tcpip.SockOptInt, value []byte) (int, error) {
	v, err := s.ep().GetSockOptInt(option)
	if err != nil {
		return 0, errnoOf(err)
	}
	return put32(value, v), nil
}

func (s *Socket) getTCP(name int, value []byte) (int, error) {
	o := s.ep().SocketOptions()
	v := 0
	switch name {
	case unix.TCP_NODELAY:
		v = number(!o.GetDelayOption())
	case unix.TCP_CORK:
		v = number(s.cork.Load())
	case unix.TCP_QUICKACK:
		if e, ok := s.ep().(quickAcker); ok {
			v = number(e.QuickAck())
		} else {
			v = number(o.GetQuickAck())
		}
	case unix.TCP_MAXSEG:
		return put32(value, s.maxSegment()), nil
	case unix.TCP_KEEPCNT:
		return s.getInt(tcpip.KeepaliveCountOption, value)
	case unix.TCP_SYNCNT:
		return s.getInt(tcpip.TCPSynCountOption, value)
	case unix.TCP_WINDOW_CLAMP:
		return s.getInt(tcpip.TCPWindowClampOption, value)
	case unix.TCP_KEEPIDLE:
		var idle tcpip.KeepaliveIdleOption
		s.ep().GetSockOpt(&idle)
		v = int(time.Duration(idle) / time.Second)
	case unix.TCP_KEEPINTVL:
		var interval tcpip.KeepaliveIntervalOption
		s.ep().GetSockOpt(&interval)
		v = int(time.Duration(interval) / time.Second)
	case unix.TCP_USER_TIMEOUT:
		var timeout tcpip.TCPUserTimeoutOption
		s.ep().GetSockOpt(&timeout)
		v = int(time.Duration(timeout) / time.Millisecond)
	case unix.TCP_LINGER2:
		var linger tcpip.TCPLingerTimeoutOption
		s.ep().GetSockOpt(&linger)
		v = int(time.Duration(linger) / time.Second)
	case unix.TCP_DEFER_ACCEPT:
		var wait tcpip.TCPDeferAcceptOption
		s.ep().GetSockOpt(&wait)
		v = int(time.Duration(wait) / time.Second)
	case unix.TCP_CONGESTION:
		var cc tcpip.CongestionControlOption
		s.ep().GetSockOpt(&cc)
		copy(value[:16], cc)
		return 16, nil
	case unix.TCP_INFO:
		return s.info(value), nil
	default:
		if !remembered(unix.IPPROTO_TCP, name) {
			return 0, unix.ENOPROTOOPT
		}
		v = s.keptValue(unix.IPPROTO_TCP, name, 0)
	}
	return put32(value, v), nil
}

// maxSegment is what TCP_MAXSEG says: of a connection, how much a segment carries.
func (s *Socket) maxSegment() int {
	if e, ok := s.ep().(*tcp.Endpoint); ok && hasConnection(s.state()) {
		if n, _ := sender(e); n > 0 {
			return n
		}
	}
	n, _ := s.ep().GetSockOptInt(tcpip.MaxSegOption)
	return n
}

// keptValue returns the value that an option was set to, or what it is at first.
func (s *Socket) keptValue(level, name, first int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.keptOf(level, name); ok {
		return v
	}
	return first
}

// keptOf returns the value that an option was set to. Precondition: mu is held.
func (s *Socket) keptOf(level, name int) (v int, ok bool) {
	for _, o := range s.kept {
		if o.level == level && o.name == name {
			v, _ = valueOf(o.level, o.value())
			return v, true
		}
	}
	return 0, false
}

// keptOn says whether an option was switched on. Precondition: mu is held.
func (s *Socket) keptOn(level, name int) bool {
	v, _ := s.keptOf(level, name)
	return v != 0
}

// linuxState returns the state of a TCP endpoint as Linux numbers it (include/net/tcp_states.h).
func linuxState(s tcp.EndpointState) uint8 {
	switch s {
	case tcp.StateEstablished:
		return 1
	case tcp.StateConnecting, tcp.StateSynSent:
		return 2
	case tcp.StateSynRecv:
		return 3
	case tcp.StateFinWait1:
		return 4
	case tcp.StateFinWait2:
		return 5
	case tcp.StateTimeWait:
		return 6
	case tcp.StateCloseWait:
		return 8
	case tcp.StateLastAck:
		return 9
	case tcp.StateListen:
		return 10
	case tcp.StateClosing:
		return 11
	}
	return 7 // closed
}

// What TCPI_OPT_* of struct tcp_info says is in use.
const (
	tcpiTimestamps  = 1
	tcpiSACK        = 2
	tcpiWindowScale = 4
)

// info fills in a struct tcp_info as far as netstack knows.
func (s *Socket) info(value []byte) int {
	var i tcpip.TCPInfoOption
	s.ep().GetSockOpt(&i)
	mss := s.maxSegment()
	if e, ok := s.ep().(*tcp.Endpoint); ok {
		_, outstanding := sender(e)
		put32(value[24:], outstanding)
	}
	if value[0] = linuxState(s.state()); s.state() == tcp.StateTimeWait {
		value[0] = linuxState(tcp.StateClose) // the socket is free of the connection
	}
	if s.listening.Load() { // who waits, and how many may
		if r := s.ep().Readiness(waiter.ReadableEvents); r != 0 {
			put32(value[24:], 1)
		}
		put32(value[28:], int(s.backlog.Load()))
	}
	value[5] = tcpiTimestamps | tcpiSACK | tcpiWindowScale
	put32(value[8:], int(i.RTO/time.Microsecond))
	put32(value[16:], mss)
	put32(value[20:], mss)
	put32(value[68:], int(i.RTT/time.Microsecond))
	put32(value[72:], int(i.RTTVar/time.Microsecond))
	put32(value[76:], int(i.SndSsthresh))
	put32(value[80:], int(i.SndCwnd))
	put32(value[84:], mss)
	return 232
}

// pathMTU returns the MTU of the way to the peer, which is that of the interface: ENOTCONN.
func (s *Socket) pathMTU() (int, error) {
	peer, err := s.ep().GetRemoteAddress()
	if err != nil {
		return 0, unix.ENOTCONN
	}
	own, _ := s.ep().GetLocalAddress()
	protocol := tcpip.NetworkProtocolNumber(ipv6.ProtocolNumber)
	if peer.Addr.Len() == header.IPv4AddressSize {
		protocol = ipv4.ProtocolNumber
	}
	nic := s.network.Stack().CheckLocalAddress(0, protocol, own.Addr)
	if info, ok := s.network.Stack().SingleNICInfo(nic); ok {
		return int(info.MTU), nil
	}
	return 1500, nil
}

func (s *Socket) getIP(name int, value []byte) (int, error) {
	o := s.ep().SocketOptions()
	v := 0
	switch name {
	case unix.IP_TOS:
		return s.getInt(tcpip.IPv4TOSOption, value)
	case unix.IP_TTL:
		n, err := s.ep().GetSockOptInt(tcpip.IPv4TTLOption)
		if v = n; err != nil || n <= 0 {
			v = 64
		}
	case unix.IP_MULTICAST_TTL:
		return s.getInt(tcpip.MulticastTTLOption, value)
	case unix.IP_MULTICAST_LOOP:
		v = number(o.GetMulticastLoop())
	case unix.IP_PKTINFO:
		v = number(o.GetReceivePacketInfo())
	case unix.IP_RECVTOS:
		v = number(o.GetReceiveTOS())
	case unix.IP_RECVTTL:
		v = number(o.GetReceiveTTL())
	case unix.IP_HDRINCL:
		v = number(o.GetHeaderIncluded())
	case unix.IP_RECVERR:
		v = number(o.GetIPv4RecvError())
	case unix.IP_MTU_DISCOVER:
		v = s.keptValue(unix.IPPROTO_IP, name, unix.IP_PMTUDISC_WANT)
	case unix.IP_MULTICAST_ALL:
		v = number(!s.ownGroups[0].Load())
	case unix.IP_MULTICAST_IF:
		var nic tcpip.MulticastInterfaceOption
		s.ep().GetSockOpt(&nic)
		copy(value[:4], nic.InterfaceAddr.AsSlice())
		return 4, nil
	case unix.IP_MSFILTER, unix.MCAST_MSFILTER:
		return s.filter(name, value, false)
	case unix.IP_RECVORIGDSTADDR:
		v = number(o.GetReceiveOriginalDstAddress())
	case unix.IP_OPTIONS:
		return 0, nil
	case unix.IP_MTU:
		mtu, err := s.pathMTU()
		if err != nil {
			return 0, err
		}
		v = mtu
	default:
		if !remembered(unix.IPPROTO_IP, name) {
			return 0, unix.ENOPROTOOPT
		}
		v = s.keptValue(unix.IPPROTO_IP, name, 0)
	}
	return put32(value, v), nil
}

func (s *Socket) getIPv6(name int, value []byte) (int, error) {
	o := s.ep().SocketOptions()
	v := 0
	switch name {
	case unix.IPV6_CHECKSUM:
		if s.raw6() {
			return s.getRaw6(unix.IPPROTO_IPV6, name, value)
		}
		return 0, unix.ENOPROTOOPT
	case unix.IPV6_ADDRFORM:
		if !s.stream() && !s.isUDP() {
			return 0, unix.ENOPROTOOPT
		}
		if !s.connected() {
			return 0, unix.ENOTCONN
		}
		v, _, _ = s.Kind()
	case unix.IPV6_V6ONLY:
		v = number(o.GetV6Only())
	case unix.IPV6_UNICAST_HOPS:
		n, err := s.ep().GetSockOptInt(tcpip.IPv6HopLimitOption)
		if v = n; err != nil || n < 0 {
			v = 64
		}
	case unix.IPV6_MULTICAST_HOPS:
		return s.getInt(tcpip.MulticastTTLOption, value)
	case unix.IPV6_MULTICAST_LOOP:
		v = number(o.GetMulticastLoop())
	case unix.IPV6_MULTICAST_ALL:
		v = number(!s.ownGroups[1].Load())
	case unix.IPV6_MULTICAST_IF:
		var nic tcpip.MulticastInterfaceOption
		s.ep().GetSockOpt(&nic)
		v = int(nic.NIC)
	case unix.MCAST_MSFILTER:
		return s.filter(name, value, true)
	case unix.IPV6_TCLASS:
		return s.getInt(tcpip.IPv6TrafficClassOption, value)
	case unix.IPV6_RECVTCLASS:
		v = number(o.GetReceiveTClass())
	case unix.IPV6_RECVHOPLIMIT:
		v = number(o.GetReceiveHopLimit())
	case unix.IPV6_RECVPKTINFO:
		v = number(o.GetIPv6ReceivePacketInfo())
	case unix.IPV6_RECVERR:
		v = number(o.GetIPv6RecvError())
	case unix.IPV6_MTU_DISCOVER:
		v = s.keptValue(unix.IPPROTO_IPV6, name, unix.IPV6_PMTUDISC_WANT)
	case unix.IPV6_AUTOFLOWLABEL:
		v = s.keptValue(unix.IPPROTO_IPV6, name, 1)
	case unix.IPV6_MTU:
		mtu, err := s.pathMTU()
		if err != nil {
			return 0, err
		}
		v = mtu
	default:
		if !remembered(unix.IPPROTO_IPV6, name) {
			return 0, unix.ENOPROTOOPT
		}
		v = s.keptValue(unix.IPPROTO_IPV6, name, 0)
	}
	return put32(value, v), nil
}

// putTimestamp appends when a message came.
func putTimestamp(s *net.Base, m *net.Message, r *tcpip.ReceivableControlMessages) {
	var b [16]byte
	if s.On(unix.SO_TIMESTAMP) && r.HasTimestamp {
		binary.LittleEndian.PutUint64(b[:], uint64(r.Timestamp.Unix()))
		binary.LittleEndian.PutUint64(b[8:], uint64(r.Timestamp.Nanosecond()/1000))
		m.PutControl(unix.SOL_SOCKET, unix.SO_TIMESTAMP, b[:16])
	} else if s.On(unix.SO_TIMESTAMPNS) && r.HasTimestamp {
		binary.LittleEndian.PutUint64(b[:], uint64(r.Timestamp.Unix()))
		binary.LittleEndian.PutUint64(b[8:], uint64(r.Timestamp.Nanosecond()))
		m.PutControl(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, b[:16])
	}
}

// putControl appends what the socket was asked to tell of a message.
func (s *Socket) putControl(m *net.Message, r *tcpip.ReceivableControlMessages) {
	putTimestamp(&s.Base, m, r)
	var b [28]byte
	if r.HasOriginalDstAddress {
		if to := r.OriginalDstAddress; to.Addr.Len() == header.IPv4AddressSize {
			m.PutControl(unix.IPPROTO_IP, unix.IP_ORIGDSTADDR, appendAddress(b[:0], unix.AF_INET, to))
		} else {
			m.PutControl(unix.IPPROTO_IPV6, unix.IPV6_ORIGDSTADDR, appendAddress(b[:0], unix.AF_INET6, to))
		}
	}
	if r.HasTTL {
		put32(b[:], int(r.TTL))
		m.PutControl(unix.IPPROTO_IP, unix.IP_TTL, b[:4])
	}
	if r.HasTOS {
		m.PutControl(unix.IPPROTO_IP, unix.IP_TOS, []byte{r.TOS})
	}
	if r.HasTClass {
		put32(b[:], int(r.TClass))
		m.PutControl(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, b[:4])
	}
	if r.HasHopLimit {
		put32(b[:], int(r.HopLimit))
		m.PutControl(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, b[:4])
	}
	if p := &r.PacketInfo; r.HasIPPacketInfo && p.LocalAddr.Len() == 4 && p.DestinationAddr.Len() == 4 {
		put32(b[:], int(p.NIC))
		copy(b[4:], p.LocalAddr.AsSlice())
		copy(b[8:], p.DestinationAddr.AsSlice())
		m.PutControl(unix.IPPROTO_IP, unix.IP_PKTINFO, b[:12])
	}
	if p := &r.IPv6PacketInfo; r.HasIPv6PacketInfo && p.Addr.Len() == 16 {
		copy(b[:], p.Addr.AsSlice())
		put32(b[16:], int(p.NIC))
		m.PutControl(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, b[:20])
	}
}
