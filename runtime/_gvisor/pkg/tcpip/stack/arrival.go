package stack

import (
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Nearly all that a server gets is segments of TCP for endpoints that were found for the segments before. They go
// from the card's frame to the endpoint at once, and are counted as if they had gone through the layers. Whatever
// is unusual goes through them.

// changes counts what may change which packets are this machine's, and where they go: addresses and routes come and
// go, interfaces go up and down, tables of iptables are replaced.
var changes atomic.Uint32

// arrivals is what an interface needs for the frames that come. It is for the goroutine that brings them.
type arrivals struct {
	now   Arrival
	known pair
	once  flow // what is not remembered
}

// pair is a pair of addresses that packets may come from and to, while changes is what it was.
type pair struct {
	local, remote tcpip.Address
	changes       uint32
	valid         bool
	stats         *tcpip.IPStats
}

// flow is an endpoint that segments come for, and how they come.
type flow struct {
	id    TransportEndpointID
	nic   *nic
	to    Receiver
	pair  pair
	proto tcpip.NetworkProtocolNumber
}

// flows has those that were found last, each where its id is hashed to. An entry goes when its endpoint does, or
// when another gets the same id.
type flows [256]atomic.Pointer[flow]

func (f *flows) at(id *TransportEndpointID) *atomic.Pointer[flow] {
	return &f[(uint(id.RemotePort)+31*uint(id.LocalPort))%uint(len(f))]
}

// forget is called after the endpoints of an id have changed.
func (f *flows) forget(id TransportEndpointID) {
	entry := f.at(&id)
	if found := entry.Load(); found != nil && found.id == id {
		entry.CompareAndSwap(found, nil)
	}
}

// A Receiver is an endpoint that takes segments as they arrive. It returns false for what is malformed, and
// then nothing has happened.
type Receiver interface {
	Receive(*Arrival) bool
}

// Arrival is a segment that has arrived in a frame. It is the receiver's until it returns.
type Arrival struct {
	ID      TransportEndpointID
	Checked bool // the device says that the checksum is right

	nic       *nic
	view      *buffer.View
	proto     tcpip.NetworkProtocolNumber
	transport int // where the segment begins
	end       int
	stats     *tcpip.IPStats
}

// TakeFrame takes a frame of Ethernet, of which the view is all, if it has a plain segment of TCP for an endpoint
// of this machine. If it returns false, nothing has happened, and the frame is still the caller's. It is called by
// one goroutine at a time.
func (n *nic) TakeFrame(view *buffer.View, checked bool) bool {
	const smallest = header.EthernetMinimumSize + header.IPv4MinimumSize + header.TCPMinimumSize
	frame := view.AsSlice()
	if len(frame) < smallest || !n.enabled.Load() || n.promiscuous.Load() || n.watched.Load() ||
		n.stack.watchers.Load() != 0 || n.stack.nftablesConfigured.Load() ||
		string(frame[:header.EthernetAddressSize]) != string(n.NetworkLinkEndpoint.LinkAddress()) {
		return false
	}
	a := &n.arrivals.now
	packet := frame[header.EthernetMinimumSize:]
	switch binary.BigEndian.Uint16(frame[2*header.EthernetAddressSize:]) {
	case uint16(header.IPv4ProtocolNumber):
		length := int(binary.BigEndian.Uint16(packet[2:]))
		// Four bits of version, a header of five words, and of the flags none but that to not fragment.
		if packet[0] != 0x45 || length < header.IPv4MinimumSize+header.TCPMinimumSize || length > len(packet) ||
			packet[6]&^0x40 != 0 || packet[7] != 0 || packet[9] != uint8(header.TCPProtocolNumber) || !intact(packet) {
			return false
		}
		a.proto, a.transport = header.IPv4ProtocolNumber, header.EthernetMinimumSize+header.IPv4MinimumSize
		a.end = header.EthernetMinimumSize + length
		a.ID.RemoteAddress = tcpip.AddrFrom4([4]byte(packet[12:]))
		a.ID.LocalAddress = tcpip.AddrFrom4([4]byte(packet[16:]))
	case uint16(header.IPv6ProtocolNumber):
		if len(packet) < header.IPv6MinimumSize+header.TCPMinimumSize {
			return false
		}
		length := int(binary.BigEndian.Uint16(packet[4:]))
		if packet[0]>>4 != 6 || packet[6] != uint8(header.TCPProtocolNumber) || length < header.TCPMinimumSize ||
			length > len(packet)-header.IPv6MinimumSize {
			return false
		}
		a.proto, a.transport = header.IPv6ProtocolNumber, header.EthernetMinimumSize+header.IPv6MinimumSize
		a.end = a.transport + length
		a.ID.RemoteAddress = tcpip.AddrFrom16([16]byte(packet[8:]))
		a.ID.LocalAddress = tcpip.AddrFrom16([16]byte(packet[24:]))
	default:
		return false
	}
	segment := frame[a.transport:]
	a.ID.RemotePort = binary.BigEndian.Uint16(segment)
	a.ID.LocalPort = binary.BigEndian.Uint16(segment[2:])

	entry := n.stack.flows.at(&a.ID)
	f := entry.Load()
	if f == nil || f.id != a.ID || f.nic != n || f.pair.changes != changes.Load() {
		if f = n.find(a.proto, a.ID, entry); f == nil {
			return false
		}
	}
	a.nic, a.view, a.Checked, a.stats = n, view, checked, f.pair.stats
	taken := f.to.Receive(a)
	a.view, n.arrivals.once.to = nil, nil
	return taken
}

// Lend returns what makes views of memory of a card's, so that a frame needn't be copied (see buffer.Lend).
func (*nic) Lend(memory []byte, back func()) (lend func(from, to int) *buffer.View) {
	return buffer.Lend(memory, back)
}

// intact says whether the checksum of an IPv4 header without options is right.
func intact(h []byte) bool {
	h = h[:header.IPv4MinimumSize]
	sum := uint64(binary.LittleEndian.Uint64(h)&0xffffffff) + binary.LittleEndian.Uint64(h)>>32 +
		uint64(binary.LittleEndian.Uint64(h[8:])&0xffffffff) + binary.LittleEndian.Uint64(h[8:])>>32 +
		uint64(binary.LittleEndian.Uint32(h[16:]))
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// find returns the flow of an id, which is remembered at entry if the endpoint is connected. It returns nil if
// there is no receiver, or one that such a packet may not reach.
func (n *nic) find(proto tcpip.NetworkProtocolNumber, id TransportEndpointID, entry *atomic.Pointer[flow]) *flow {
	now := changes.Load()
	p := n.arrivals.known
	if !p.valid || p.changes != now || p.local != id.LocalAddress || p.remote != id.RemoteAddress {
		p = pair{local: id.LocalAddress, remote: id.RemoteAddress, changes: now}
		if p.stats, p.valid = n.comes(proto, id.LocalAddress, id.RemoteAddress); !p.valid {
			return nil
		}
		n.arrivals.known = p
	}
	eps := n.stack.demux.protocol[protocolIDs{proto, header.TCPProtocolNumber}]
	if eps == nil {
		return nil
	}
	eps.mu.RLock()
	defer eps.mu.RUnlock()
	byNIC, exact := eps.endpoints[id]
	if !exact {
		if byNIC = eps.findEndpointLocked(id); byNIC == nil {
			return nil
		}
	}
	byNIC.mu.RLock()
	group := byNIC.endpoints[n.id]
	if group == nil {
		group = byNIC.endpoints[0]
	}
	var ep TransportEndpoint
	if group != nil {
		ep = group.selectEndpoint(id, byNIC.seed)
	}
	byNIC.mu.RUnlock()
	to, ok := ep.(Receiver)
	if !ok {
		return nil
	}
	f := &n.arrivals.once
	if exact {
		f = new(flow)
	}
	*f = flow{id: id, nic: n, to: to, pair: p, proto: proto}
	if exact {
		// Who takes the endpoint away waits for the lock before, and has this forgotten after.
		entry.Store(f)
	}
	return f
}

// comes says whether packets come from that address to this one and are for this machine, by the same rules as
// when they pass through the layers, and returns what counts them.
func (n *nic) comes(proto tcpip.NetworkProtocolNumber, local, remote tcpip.Address) (*tcpip.IPStats, bool) {
	e, ok := n.networkEndpoints[proto].(interface {
		NetworkEndpoint
		AddressableEndpoint
	})
	if !ok || !e.Enabled() || n.stack.filters() {
		return nil, false
	}
	stats, ok := e.Stats().(IPNetworkEndpointStats)
	if !ok {
		return nil, false
	}
	for _, a := range []tcpip.Address{local, remote} {
		if a.Unspecified() || header.IsV4LoopbackAddress(a) || header.IsV4MulticastAddress(a) || a == header.IPv4Broadcast ||
			header.IsV6LoopbackAddress(a) || header.IsV6MulticastAddress(a) || header.IsV4MappedAddress(a) {
			return nil, false
		}
	}
	if e.AcquireAssignedAddress(remote, false, NeverPrimaryEndpoint, true) != nil {
		return nil, false
	}
	here := e.AcquireAssignedAddress(local, false, NeverPrimaryEndpoint, true)
	if here == nil || here.Temporary() || here.AddressWithPrefix().Address != local {
		return nil, false
	}
	if subnet := here.Subnet(); subnet.IsBroadcast(local) {
		return nil, false
	}
	return stats.IPStats(), true
}

// Segment returns the segment with its header, which is complete but for its options.
func (a *Arrival) Segment() []byte { return a.view.AsSlice()[a.transport:a.end] }

// Intact says whether the segment's checksum is right.
func (a *Arrival) Intact() bool {
	if a.Checked {
		return true
	}
	segment := a.Segment()
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, a.ID.RemoteAddress, a.ID.LocalAddress, uint16(len(segment)))
	return checksum.Checksum(segment, sum) == 0xffff
}

// Count counts the packet where it would have passed through. The receiver does it before it returns true.
func (a *Arrival) Count() {
	n := a.nic
	n.stats.rx.packets.Increment()
	n.stats.rx.bytes.IncrementBy(uint64(a.view.Size() - header.EthernetMinimumSize))
	for _, ip := range [...]*tcpip.IPStats{a.stats, &n.stack.stats.IP} {
		ip.PacketsReceived.Increment()
		ip.ValidPacketsReceived.Increment()
		ip.PacketsDelivered.Increment()
	}
}

// MayAnswer says whether a few segments can be sent from the receiver, which may not wait.
func (a *Arrival) MayAnswer() bool { return a.nic.frames != nil && a.nic.frames.HasRoom() }

// Drop gives the frame back. The receiver does that, or Packet, before it returns true.
func (a *Arrival) Drop() { a.view.Release() }

// Packet returns the frame as the packet that it would have become; its TCP header is that long.
func (a *Arrival) Packet(tcp int) *PacketBuffer {
	pk := pkPool.Get().(*PacketBuffer)
	pk.reset()
	pk.InitRefs()
	size := a.view.Size()
	pk.buf = buffer.MakeWithView(a.view)
	if size != a.end {
		pk.buf.Truncate(int64(a.end)) // Ethernet's padding
	}
	pk.headers[linkHeader] = headerInfo{0, header.EthernetMinimumSize}
	pk.headers[networkHeader] = headerInfo{header.EthernetMinimumSize, a.transport - header.EthernetMinimumSize}
	pk.headers[transportHeader] = headerInfo{a.transport, tcp}
	pk.consumed = a.transport + tcp
	pk.NetworkProtocolNumber, pk.TransportProtocolNumber = a.proto, header.TCPProtocolNumber
	pk.PktType = tcpip.PacketHost
	pk.NICID, pk.InputNICID = a.nic.id, a.nic.id
	pk.RXChecksumValidated = true
	return pk
}
