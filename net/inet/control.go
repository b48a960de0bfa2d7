package inet

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"elver/kernel/mm"
	"elver/net"
)

// sent is what control messages say about how to send a datagram (ip(7), ipv6(7)).
type sent struct {
	tcpip.SendableControlMessages
	tos    uint8
	hasTOS bool
	source tcpip.Address // of IP_PKTINFO
	nic    tcpip.NICID
}

// readControl reads the control messages of a datagram: EINVAL for those that Linux doesn't know.
func readControl(b []byte) (x sent, err error) {
	err = net.EachControl(b, func(level, typ int, data []byte) error {
		switch level {
		case unix.SOL_SOCKET:
			return nil // for others
		case unix.IPPROTO_IP:
			return x.readIP(typ, data)
		case unix.IPPROTO_IPV6:
			return x.readIPv6(typ, data)
		}
		return unix.EINVAL
	})
	return x, err
}

// number32 reads an int, which must be all of data and from least to 255.
func number32(data []byte, least int) (int, error) {
	if len(data) != 4 {
		return 0, unix.EINVAL
	}
	v := int(int32(binary.LittleEndian.Uint32(data)))
	if v < least || v > 255 {
		return 0, unix.EINVAL
	}
	return v, nil
}

func (x *sent) readIP(typ int, data []byte) error {
	switch typ {
	case unix.IP_TTL:
		v, err := number32(data, 1)
		x.HasTTL, x.TTL = true, uint8(v)
		return err
	case unix.IP_TOS:
		if len(data) == 1 {
			x.tos, x.hasTOS = data[0], true
			return nil
		}
		v, err := number32(data, 0)
		x.tos, x.hasTOS = uint8(v), true
		return err
	case unix.IP_PKTINFO:
		if len(data) != unix.SizeofInet4Pktinfo {
			return unix.EINVAL
		}
		x.nic = tcpip.NICID(binary.LittleEndian.Uint32(data))
		if from := [4]byte(data[4:8]); from != [4]byte{} {
			x.source = tcpip.AddrFrom4(from)
		}
		return nil
	}
	return unix.EINVAL
}

func (x *sent) readIPv6(typ int, data []byte) error {
	switch typ {
	case unix.IPV6_HOPLIMIT:
		v, err := number32(data, -1)
		x.HasHopLimit, x.HopLimit = v >= 0, uint8(v)
		return err
	case unix.IPV6_TCLASS:
		v, err := number32(data, -1)
		x.hasTOS, x.tos = v >= 0, uint8(v)
		return err
	case unix.IPV6_PKTINFO:
		if len(data) < unix.SizeofInet6Pktinfo {
			return unix.EINVAL
		}
		x.HasIPv6PacketInfo = true
		x.IPv6PacketInfo.NIC = tcpip.NICID(binary.LittleEndian.Uint32(data[16:]))
		if from := tcpip.AddrFrom16([16]byte(data)); from != header.IPv6Any {
			x.IPv6PacketInfo.Addr = from
		}
		return nil
	case unix.IPV6_DONTFRAG:
		return nil
	}
	return unix.EINVAL
}

// sendFrom sends a datagram of UDP over IPv4 with what netstack's endpoints know for all that they send
// alone: another source address, another type of service.
func (s *Socket) sendFrom(src *mm.Buffer, to tcpip.FullAddress, x *sent) (int, error) {
	if src.Len() > header.UDPMaximumSize-header.UDPMinimumSize-header.IPv4MinimumSize {
		return 0, unix.EMSGSIZE
	}
	data := make([]byte, src.Len())
	if _, err := src.CopyIn(data); err != nil {
		return 0, err
	}
	s.mu.Lock()
	if !s.isBound && s.port() == 0 {
		if err := s.bind(tcpip.FullAddress{}); err != nil {
			s.mu.Unlock()
			return 0, err
		}
	}
	s.mu.Unlock()
	own, err := s.ep().GetLocalAddress()
	if err != nil {
		return 0, errnoOf(err)
	}
	if x.source.Len() == 0 {
		x.source = own.Addr
	}
	nic := x.nic
	if nic == 0 {
		nic = to.NIC
	}
	r, err := s.network.Stack().FindRoute(nic, x.source, to.Addr, ipv4.ProtocolNumber, s.ep().SocketOptions().GetMulticastLoop())
	if err != nil {
		if x.source.Len() != 0 && s.network.Stack().CheckLocalAddress(0, ipv4.ProtocolNumber, x.source) == 0 {
			return 0, unix.EINVAL
		}
		return 0, unreachable(err)
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(data),
	})
	defer pkt.DecRef()
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	length := uint16(pkt.Size())
	h.Encode(&header.UDPFields{SrcPort: own.Port, DstPort: to.Port, Length: length})
	h.SetChecksum(^h.CalculateChecksum(checksum.Combine(r.PseudoHeaderChecksum(udp.ProtocolNumber, length), pkt.Data().Checksum())))
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	p := stack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: r.DefaultTTL(), TOS: x.tos}
	if !x.hasTOS {
		tos, _ := s.ep().GetSockOptInt(tcpip.IPv4TOSOption)
		p.TOS = uint8(tos)
	}
	if ttl, err := s.ep().GetSockOptInt(tcpip.IPv4TTLOption); err == nil && ttl > 0 {
		p.TTL = uint8(ttl)
	}
	if x.HasTTL {
		p.TTL = x.TTL
	}
	if err := r.WritePacket(p, pkt); err != nil {
		return 0, errnoOf(err)
	}
	return len(data), nil
}

func (s *Socket) port() uint16 {
	a, _ := s.ep().GetLocalAddress()
	return a.Port
}

// maxErrors is how many errors wait to be received by MSG_ERRQUEUE.
const maxErrors = 64

// collectErrors takes the errors that came over from the endpoint, whose own queue has no end.
func (s *Socket) collectErrors() {
	o := s.ep().SocketOptions()
	for {
		e := o.DequeueErr()
		if e == nil {
			return
		}
		s.errorsMu.Lock()
		if len(s.errors) < maxErrors {
			s.errors = append(s.errors, e)
		}
		s.errorsMu.Unlock()
	}
}

// hasErrors says whether MSG_ERRQUEUE has something to receive.
func (s *Socket) hasErrors() bool {
	o := s.ep().SocketOptions()
	if !o.GetIPv4RecvError() && !o.GetIPv6RecvError() {
		return false
	}
	s.collectErrors()
	s.errorsMu.Lock()
	defer s.errorsMu.Unlock()
	return len(s.errors) > 0
}

// Origins of errors (linux/errqueue.h).
const (
	originLocal = 1
	originICMP  = 2
	originICMP6 = 3
)

// receiveError is recvmsg(2) with MSG_ERRQUEUE: EAGAIN.
func (s *Socket) receiveError(dst *mm.Buffer, m *net.Message) (int, error) {
	s.collectErrors()
	s.errorsMu.Lock()
	if len(s.errors) == 0 {
		s.errorsMu.Unlock()
		return 0, unix.EAGAIN
	}
	e := s.errors[0]
	s.errors = slices.Delete(s.errors, 0, 1)
	last := len(s.errors) == 0
	s.errorsMu.Unlock()
	if last { // with the queue goes SO_ERROR
		s.takeError()
	}
	n := 0
	if e.Payload != nil {
		p := e.Payload.AsSlice()
		if len(p) > dst.Len() {
			p = p[:dst.Len()]
			m.Got |= unix.MSG_TRUNC
		}
		var err error
		if n, err = dst.CopyOut(p); err != nil {
			return 0, err
		}
	}
	m.Got |= unix.MSG_ERRQUEUE
	family, _, _ := s.Kind()
	if m.Address != nil {
		m.Address = appendAddress(m.Address, family, e.Dst)
	}
	var b [16]byte // struct sock_extended_err
	errno, _ := errnoOf(e.Err).(unix.Errno)
	put32(b[:], int(errno))
	switch e.Cause.Origin() {
	case tcpip.SockExtErrorOriginICMP:
		b[4] = originICMP
	case tcpip.SockExtErrorOriginICMP6:
		b[4] = originICMP6
	default:
		b[4] = originLocal
	}
	b[5], b[6] = e.Cause.Type(), e.Cause.Code()
	put32(b[8:], int(e.Cause.Info()))
	offender := tcpip.FullAddress{NIC: e.Offender.NIC, Addr: e.Offender.Addr}
	if e.NetProto == ipv4.ProtocolNumber {
		m.PutControl(unix.IPPROTO_IP, unix.IP_RECVERR, appendAddress(b[:], unix.AF_INET, offender))
	} else {
		m.PutControl(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, appendAddress(b[:], unix.AF_INET6, offender))
	}
	return n, nil
}

// maxDatagram is how much MSG_MORE and UDP_CORK collect for one datagram, in bytes.
const maxDatagram = header.UDPMaximumSize - header.UDPMinimumSize - header.IPv4MinimumSize

// hold adds to the datagram that MSG_MORE or UDP_CORK hold back: EMSGSIZE.
func (s *Socket) hold(src *mm.Buffer, to *tcpip.FullAddress) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := src.Len()
	if len(s.held)+n > maxDatagram {
		return 0, unix.EMSGSIZE
	}
	p := make([]byte, n)
	if _, err := src.CopyIn(p); err != nil {
		return 0, err
	}
	if len(s.held) == 0 {
		s.heldFor = nil
		if to != nil {
			a := *to
			s.heldFor = &a
		}
	}
	s.held = append(s.held, p...)
	s.holding.Store(true)
	return n, nil
}

// flush sends the datagram that was held back.
func (s *Socket) flush() error {
	s.mu.Lock()
	data, to := s.held, s.heldFor
	s.held = nil
	s.holding.Store(false)
	s.mu.Unlock()
	if len(data) == 0 {
		return nil
	}
	b := mm.KernelBuffer(data)
	_, err := s.ep().Write(source{&b}, tcpip.WriteOptions{Atomic: true, To: to})
	return unreachable(err)
}
