package inet

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/bpf"
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
	return s, s.listen(0, tcpip.NetworkProtocolNumber(host))
}

// packetSocket is a socket of AF_PACKET. SOCK_RAW sends and receives whole frames; the loopback interface,
// which has none, shows a header of Ethernet without addresses, as Linux does.
//
// It is one of netstack's packet endpoints: HandlePacket gets what its interfaces pass.
type packetSocket struct {
	net.Base
	network *Network
	queue   waiter.Queue

	mu       sync.Mutex // guards what follows
	nic      tcpip.NICID
	protocol tcpip.NetworkProtocolNumber
	closed   bool
	received []frame
	bytes    int // of received
	passed   uint32
	dropped  uint32
	reserve  int // PACKET_RESERVE
	version  int // PACKET_VERSION
	ring     *packetRing
}

// frame is a packet that waits to be received.
type frame struct {
	data     []byte // with the link's header for SOCK_RAW
	length   int    // before a filter cut it
	network  int    // where the network's header begins in data
	at       int64  // nanoseconds since 1970
	nic      tcpip.NICID
	protocol uint16
	kind     byte // PACKET_HOST and its like
	from     tcpip.LinkAddress
}

const (
	sizeofLinkAddress = 20 // struct sockaddr_ll
	solPacket         = 263
	etherAddress      = header.EthernetAddressSize
	packetCharge      = 512 // bytes that a waiting packet costs beside its own
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

// listen has the interface nic, or all for 0, pass the packets of a protocol. 0: none.
func (s *packetSocket) listen(nic tcpip.NICID, protocol tcpip.NetworkProtocolNumber) error {
	network := s.network.Stack()
	s.mu.Lock()
	oldNIC, old := s.nic, s.protocol
	s.nic, s.protocol = nic, protocol
	s.mu.Unlock()
	if old != 0 {
		network.UnregisterPacketEndpoint(oldNIC, old, s)
	}
	if protocol == 0 {
		return nil
	}
	return errnoOf(network.RegisterPacketEndpoint(nic, protocol, s))
}

// Release closes the socket.
func (s *packetSocket) Release() {
	s.Untrack()
	s.listen(0, 0)
	s.mu.Lock()
	s.closed, s.received = true, nil
	ring := s.ring
	s.ring = nil
	s.mu.Unlock()
	if ring != nil {
		ring.MapClose()
	}
}

// HandlePacket receives a packet.
func (s *packetSocket) HandlePacket(nic tcpip.NICID, protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	link := len(pkt.LinkHeader().Slice())
	b := pkt.ToBuffer()
	data := b.Flatten()
	b.Release()
	f := frame{nic: nic, protocol: uint16(protocol), kind: kindOf(pkt.PktType), at: s.network.Stack().Clock().Now().UnixNano()}
	if link >= header.EthernetMinimumSize {
		f.from = header.Ethernet(data).SourceAddress()
	}
	switch {
	case s.cooked():
		data = data[link:]
	case link == 0: // the loopback interface
		h := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(data))
		binary.BigEndian.PutUint16(h[12:], f.protocol)
		data = append(h, data...)
		f.network = header.EthernetMinimumSize
	default:
		f.network = link
	}
	f.length, f.data = len(data), data
	if filter := s.Filters(); filter != nil {
		p := bpf.Packet{Data: data, Network: f.network, Protocol: f.protocol, Type: uint32(f.kind), Interface: uint32(nic), Hardware: hardware(nic)}
		if s.cooked() {
			p.Link = -1
		}
		n := filter.Run(&p)
		if n == 0 {
			return
		}
		f.data = data[:n]
	}
	s.mu.Lock()
	took := s.take(&f)
	if took {
		s.passed++
	} else {
		s.dropped++
	}
	s.mu.Unlock()
	if took {
		s.queue.Notify(waiter.ReadableEvents)
	}
}

// take puts a packet into the ring, or else among those that wait, if there is room. Precondition: mu is held.
func (s *packetSocket) take(f *frame) bool {
	if s.closed {
		return false
	}
	if s.ring != nil {
		return s.ring.put(s, f)
	}
	if s.bytes > int(s.ReceiveBuffer.Load()) {
		return false
	}
	s.bytes += len(f.data) + packetCharge
	s.received = append(s.received, *f)
	return true
}

// kindOf returns how Linux calls a type of packet.
func kindOf(t tcpip.PacketType) byte {
	switch t {
	case tcpip.PacketOtherHost:
		return unix.PACKET_OTHERHOST
	case tcpip.PacketOutgoing:
		return unix.PACKET_OUTGOING
	case tcpip.PacketBroadcast:
		return unix.PACKET_BROADCAST
	case tcpip.PacketMulticast:
		return unix.PACKET_MULTICAST
	}
	return unix.PACKET_HOST
}

// hardware returns the ARPHRD_* of an interface.
func hardware(nic tcpip.NICID) uint32 {
	if nic == LoopbackNIC {
		return unix.ARPHRD_LOOPBACK
	}
	return unix.ARPHRD_ETHER
}

// Readiness says what the socket is ready for.
func (s *packetSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := waiter.EventMask(waiter.WritableEvents)
	if len(s.received) > 0 || s.ring != nil && s.ring.filled() {
		r |= waiter.ReadableEvents
	}
	return r & mask
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
	protocol := tcpip.NetworkProtocolNumber(a.Port)
	if protocol == 0 {
		s.mu.Lock()
		protocol = s.protocol
		s.mu.Unlock()
	}
	return s.listen(a.NIC, protocol)
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
	s.mu.Lock()
	nic, protocol := s.nic, s.protocol
	s.mu.Unlock()
	info, _ := s.network.Stack().SingleNICInfo(nic)
	return s.appendPacketAddress(to, uint16(protocol), nic, 0, info.LinkAddress), nil
}

// Peer refuses.
func (*packetSocket) Peer([]byte) ([]byte, error) { return nil, unix.EOPNOTSUPP }

// Options of level SOL_PACKET (linux/if_packet.h).
const (
	packetAddMembership  = 1
	packetDropMembership = 2
	packetRXRing         = 5
	packetStatistics     = 6
	packetVersion        = 10
	packetHeaderLength   = 11
	packetReserve        = 12
)

// SetOption is setsockopt(2). An interface shows a packet socket all that it receives, so that there is
// nothing to do for a membership.
func (s *packetSocket) SetOption(c *vfs.Context, level, name int, value []byte) error {
	if level != solPacket {
		if level == unix.SOL_SOCKET && net.IsFilterOption(name) {
			return s.SetFilter(c, name, value)
		}
		return s.Base.SetOption(c, level, name, value)
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
	case packetRXRing:
		return s.setRing(value)
	case packetVersion, packetReserve:
		if len(value) != 4 {
			return unix.EINVAL
		}
		v := int(binary.LittleEndian.Uint32(value))
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.ring != nil:
			return unix.EBUSY
		case name == packetReserve && v > 1<<16, name == packetVersion && v != tpacketV2:
			return unix.EINVAL
		case name == packetReserve:
			s.reserve = v
		default:
			s.version = v
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
	s.mu.Lock()
	defer s.mu.Unlock()
	switch name {
	case packetStatistics: // which begin anew then
		put32(value, int(s.passed+s.dropped))
		put32(value[4:], int(s.dropped))
		s.passed, s.dropped = 0, 0
		return 8, nil
	case packetVersion:
		return put32(value, s.version), nil
	case packetReserve:
		return put32(value, s.reserve), nil
	case packetHeaderLength:
		if binary.LittleEndian.Uint32(value) != tpacketV2 {
			return 0, unix.EINVAL
		}
		return put32(value, ringHeaderBytes), nil
	}
	return 0, unix.ENOPROTOOPT
}

// Ioctl answers FIONREAD and the requests about interfaces.
func (s *packetSocket) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	if request != unix.TIOCINQ {
		return s.network.Ioctl(c, request, arg)
	}
	n := 0
	s.mu.Lock()
	if len(s.received) > 0 {
		n = len(s.received[0].data)
	}
	s.mu.Unlock()
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
	s.mu.Lock()
	to := tcpip.FullAddress{NIC: s.nic, Port: uint16(s.protocol)}
	s.mu.Unlock()
	if len(m.Address) > 0 {
		a, err := parsePacketAddress(m.Address)
		if err != nil {
			return 0, err
		}
		if a.Port == 0 {
			a.Port = to.Port
		}
		to = a
	} else if s.cooked() {
		return 0, unix.EDESTADDRREQ
	}
	info, ok := s.network.Stack().SingleNICInfo(to.NIC)
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
	p := make([]byte, n)
	if _, err := src.CopyIn(p); err != nil {
		return 0, err
	}
	if to.NIC == LoopbackNIC && link > 0 {
		to.Port = uint16(header.Ethernet(p).Type())
		p = p[link:]
	}
	protocol := tcpip.NetworkProtocolNumber(to.Port)
	var err tcpip.Error
	if s.cooked() {
		err = s.network.Stack().WritePacketToRemote(to.NIC, to.LinkAddr, protocol, buffer.MakeWithData(p))
	} else {
		err = s.network.Stack().WriteRawPacket(to.NIC, protocol, buffer.MakeWithData(p))
	}
	return n, errnoOf(err)
}

// Recv receives a frame: EAGAIN.
func (s *packetSocket) Recv(_ *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	if m.Flags&unix.MSG_ERRQUEUE != 0 {
		m.Flags |= unix.MSG_DONTWAIT
		return 0, unix.EAGAIN
	}
	s.mu.Lock()
	if len(s.received) == 0 {
		s.mu.Unlock()
		return 0, unix.EAGAIN
	}
	f := s.received[0]
	if m.Flags&unix.MSG_PEEK == 0 {
		s.received[0] = frame{}
		s.received = s.received[1:]
		s.bytes -= len(f.data) + packetCharge
	}
	s.mu.Unlock()
	count, err := dst.CopyOut(f.data[:min(len(f.data), dst.Len())])
	if err != nil {
		return 0, err
	}
	if count < len(f.data) {
		m.Got |= unix.MSG_TRUNC
	}
	if m.Address != nil {
		m.Address = s.appendPacketAddress(m.Address, f.protocol, f.nic, f.kind, f.from)
	}
	putTimestamp(&s.Base, m, &tcpip.ReceivableControlMessages{HasTimestamp: true, Timestamp: time.Unix(0, f.at)})
	if m.Flags&unix.MSG_TRUNC != 0 {
		return len(f.data), nil
	}
	return count, nil
}
