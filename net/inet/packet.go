package inet

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
	"elver/vfs"
)

// PacketFamily makes the sockets of AF_PACKET (packet(7)) of a network.
type PacketFamily struct{ Network *Network }

// Pair refuses.
func (PacketFamily) Pair(*vfs.Context, int, int) (net.Socket, net.Socket, error) {
	return nil, nil, unix.EOPNOTSUPP
}

// Socket makes a socket: EPERM, ESOCKTNOSUPPORT.
func (f PacketFamily) Socket(c *vfs.Context, typ, protocol int) (net.Socket, error) {
	if !c.Creds.HasCap(unix.CAP_NET_RAW) {
		return nil, unix.EPERM
	}
	if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	s := &packetSocket{network: f.Network}
	s.Init(unix.AF_PACKET, typ, protocol)
	host := binary.BigEndian.Uint16(binary.LittleEndian.AppendUint16(nil, uint16(protocol)))
	endpoint, err := f.Network.Stack().NewPacketEndpoint(typ == unix.SOCK_DGRAM, tcpip.NetworkProtocolNumber(host), &s.queue)
	if err != nil {
		return nil, errnoOf(err)
	}
	s.endpoint = endpoint
	return s, nil
}

// packetSocket is a socket of AF_PACKET. SOCK_RAW sends and receives whole frames; the loopback interface,
// which has none, shows a header of Ethernet without addresses, as Linux does.
type packetSocket struct {
	net.Base
	network  *Network
	endpoint tcpip.Endpoint
	queue    waiter.Queue
}

const (
	sizeofLinkAddress = 20 // struct sockaddr_ll
	solPacket         = 263
	etherAddress      = header.EthernetAddressSize
)

// parsePacketAddress reads a struct sockaddr_ll: EINVAL.
func parsePacketAddress(b []byte) (a tcpip.FullAddress, err error) {
	if len(b) < sizeofLinkAddress-2 || binary.LittleEndian.Uint16(b) != unix.AF_PACKET {
		return a, unix.EINVAL
	}
	a.Port = binary.BigEndian.Uint16(b[2:])
	a.NIC = tcpip.NICID(binary.LittleEndian.Uint32(b[4:]))
	if n := int(b[11]); n == etherAddress && len(b) >= 12+n {
		a.LinkAddr = tcpip.LinkAddress(b[12 : 12+n])
	}
	return a, nil
}

// appendPacketAddress appends a struct sockaddr_ll.
func (s *packetSocket) appendPacketAddress(to []byte, protocol uint16, nic tcpip.NICID, kind byte, address tcpip.LinkAddress) []byte {
	to = binary.LittleEndian.AppendUint16(to, unix.AF_PACKET)
	to = binary.BigEndian.AppendUint16(to, protocol)
	to = binary.LittleEndian.AppendUint32(to, uint32(nic))
	hardware, length := uint16(unix.ARPHRD_ETHER), byte(etherAddress)
	switch nic {
	case 0:
		hardware, length = 0, 0
	case LoopbackNIC:
		hardware = unix.ARPHRD_LOOPBACK
	}
	to = binary.LittleEndian.AppendUint16(to, hardware)
	to = append(to, kind, length)
	var b [8]byte
	copy(b[:], address)
	return append(to, b[:]...)
}

func (s *packetSocket) cooked() bool {
	_, typ, _ := s.Kind()
	return typ == unix.SOCK_DGRAM
}

// Seekable says no.
func (*packetSocket) Seekable() bool { return false }

// Release closes the socket.
func (s *packetSocket) Release() {
	s.Untrack()
	s.endpoint.Close()
}

// Readiness says what the socket is ready for.
func (s *packetSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	return s.endpoint.Readiness(mask) & mask
}

// EventRegister has e told of changes.
func (s *packetSocket) EventRegister(e *waiter.Entry) error {
	s.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (s *packetSocket) EventUnregister(e *waiter.Entry) { s.queue.EventUnregister(e) }

// Bind chooses the protocol and the interface to receive from: ENODEV.
func (s *packetSocket) Bind(_ *vfs.Context, addr []byte) error {
	a, err := parsePacketAddress(addr)
	if err != nil {
		return err
	}
	if a.NIC != 0 && !s.network.Stack().HasNIC(a.NIC) {
		return unix.ENODEV
	}
	return errnoOf(s.endpoint.Bind(a))
}

// Connect refuses.
func (*packetSocket) Connect(*vfs.Context, []byte) (waiter.Waitable, error) {
	return nil, unix.EOPNOTSUPP
}

// Listen refuses.
func (*packetSocket) Listen(*vfs.Context, int) error { return unix.EOPNOTSUPP }

// Accept refuses.
func (*packetSocket) Accept(*vfs.Context) (net.Socket, error) { return nil, unix.EOPNOTSUPP }

// Shutdown refuses.
func (*packetSocket) Shutdown(int) error { return unix.EOPNOTSUPP }

// Name appends what the socket is bound to.
func (s *packetSocket) Name(to []byte) ([]byte, error) {
	a, err := s.endpoint.GetLocalAddress()
	if err != nil {
		return nil, errnoOf(err)
	}
	info, _ := s.network.Stack().SingleNICInfo(a.NIC)
	return s.appendPacketAddress(to, a.Port, a.NIC, 0, info.LinkAddress), nil
}

// Peer refuses.
func (*packetSocket) Peer([]byte) ([]byte, error) { return nil, unix.EOPNOTSUPP }

// Options of level SOL_PACKET (linux/if_packet.h).
const (
	packetAddMembership  = 1
	packetDropMembership = 2
	packetStatistics     = 6
)

// SetOption is setsockopt(2). An interface shows a packet socket all that it receives, so that there is
// nothing to do for a membership.
func (s *packetSocket) SetOption(c *vfs.Context, level, name int, value []byte) error {
	if level != solPacket {
		if level == unix.SOL_SOCKET && (name == unix.SO_ATTACH_FILTER || name == unix.SO_DETACH_FILTER) {
			return unix.ENOPROTOOPT
		}
		err := s.Base.SetOption(c, level, name, value)
		if err == nil && (name == unix.SO_RCVBUF || name == unix.SO_RCVBUFFORCE) {
			s.endpoint.SocketOptions().SetReceiveBufferSize(int64(s.ReceiveBuffer.Load()), true)
		}
		return err
	}
	switch name {
	case packetAddMembership, packetDropMembership:
		if len(value) < 16 {
			return unix.EINVAL
		}
		if !s.network.Stack().HasNIC(tcpip.NICID(binary.LittleEndian.Uint32(value))) {
			return unix.ENODEV
		}
		return nil
	}
	return unix.ENOPROTOOPT
}

// Option is getsockopt(2).
func (s *packetSocket) Option(c *vfs.Context, level, name int, value []byte) (int, error) {
	if level != solPacket {
		return s.Base.Option(c, level, name, value)
	}
	if name == packetStatistics {
		if stats, ok := s.endpoint.Stats().(*tcpip.TransportEndpointStats); ok {
			put32(value, int(stats.PacketsReceived.Value()))
			put32(value[4:], int(stats.ReceiveErrors.ReceiveBufferOverflow.Value()))
		}
		return 8, nil
	}
	return 0, unix.ENOPROTOOPT
}

// Ioctl answers FIONREAD and the requests about interfaces.
func (s *packetSocket) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	if request != unix.TIOCINQ {
		return s.network.Ioctl(c, request, arg)
	}
	n, _ := s.endpoint.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	return 0, c.Thread.MM().WriteUint32(arg, uint32(n))
}

// Write is send without flags.
func (s *packetSocket) Write(c *vfs.Context, src *mm.Buffer, _ int64) (int, error) {
	var m net.Message
	return s.Send(c, src, &m)
}

// Read is recv without flags.
func (s *packetSocket) Read(c *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	var m net.Message
	return s.Recv(c, dst, &m)
}

// Send sends a frame: ENXIO without an interface, EMSGSIZE, EINVAL if there is less than a header.
func (s *packetSocket) Send(_ *vfs.Context, src *mm.Buffer, m *net.Message) (int, error) {
	m.Control = nil
	var options tcpip.WriteOptions
	bound, _ := s.endpoint.GetLocalAddress()
	nic := bound.NIC
	if len(m.Address) > 0 {
		a, err := parsePacketAddress(m.Address)
		if err != nil {
			return 0, err
		}
		options.To, nic = &a, a.NIC
	} else if s.cooked() {
		return 0, unix.EDESTADDRREQ
	}
	info, ok := s.network.Stack().SingleNICInfo(nic)
	if !ok {
		return 0, unix.ENXIO
	}
	n := src.Len()
	link := 0
	if !s.cooked() {
		if link = header.EthernetMinimumSize; n < link {
			return 0, unix.EINVAL
		}
	}
	if n > int(info.MTU)+link {
		return 0, unix.EMSGSIZE
	}
	if nic == LoopbackNIC && link > 0 {
		var h [header.EthernetMinimumSize]byte
		if _, err := src.CopyIn(h[:]); err != nil {
			return 0, err
		}
		options.To = &tcpip.FullAddress{NIC: nic, Port: uint16(header.Ethernet(h[:]).Type())}
	}
	if _, err := s.endpoint.Write(source{src}, options); err != nil {
		return 0, errnoOf(err)
	}
	return n, nil
}

// Recv receives a frame: EAGAIN.
func (s *packetSocket) Recv(_ *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	if m.Flags&unix.MSG_ERRQUEUE != 0 {
		m.Flags |= unix.MSG_DONTWAIT
		return 0, unix.EAGAIN
	}
	to := frame{sink: sink{Buffer: dst}}
	if bound, _ := s.endpoint.GetLocalAddress(); !s.cooked() {
		to.mayLack = bound.NIC == 0 || bound.NIC == LoopbackNIC
	}
	r, err := s.endpoint.Read(&to, tcpip.ReadOptions{Peek: m.Flags&unix.MSG_PEEK != 0, NeedRemoteAddr: true, NeedLinkPacketInfo: true})
	if err != nil {
		if _, bad := err.(*tcpip.ErrBadBuffer); !bad || dst.Len() != 0 {
			return 0, errnoOf(err)
		}
	}
	count, total := r.Count, r.Total
	if to.mayLack {
		p := to.kept
		if r.RemoteAddr.NIC == LoopbackNIC {
			h := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(p))
			binary.BigEndian.PutUint16(h[12:], uint16(r.LinkPacketInfo.Protocol))
			p = append(h, p...)
		}
		total = len(p)
		var err error
		if count, err = dst.CopyOut(p[:min(len(p), dst.Len())]); err != nil {
			return 0, err
		}
	}
	if count < total {
		m.Got |= unix.MSG_TRUNC
	}
	if m.Address != nil {
		m.Address = s.appendPacketAddress(m.Address, uint16(r.LinkPacketInfo.Protocol), r.RemoteAddr.NIC, byte(r.LinkPacketInfo.PktType), r.RemoteAddr.LinkAddr)
	}
	putTimestamp(&s.Base, m, &r.ControlMessages)
	if m.Flags&unix.MSG_TRUNC != 0 {
		return total, nil
	}
	return count, nil
}

// frame is where a frame goes. Of the loopback interface it comes without a header, which is known only when
// it is there: mayLack keeps it back until then.
type frame struct {
	sink
	mayLack bool
	kept    []byte
}

func (f *frame) Write(p []byte) (int, error) {
	if !f.mayLack {
		return f.sink.Write(p)
	}
	f.kept = append(f.kept, p...)
	return len(p), nil
}

var _ io.Writer = (*frame)(nil)
