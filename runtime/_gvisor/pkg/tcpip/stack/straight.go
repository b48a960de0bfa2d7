package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// FrameWriter is a link of Ethernet that takes frames in pieces: all headers, and then what follows them. It keeps
// none of them. The errors are those of WritePackets. HasRoom says whether a few can be sent without waiting.
type FrameWriter interface {
	WriteFrame(pieces [][]byte, gso *GSO) tcpip.Error
	HasRoom() bool
}

// Where headers begin in those of a Straight: the transport's always at the same place, what comes before it ends
// there.
const (
	straightTransport = header.EthernetMinimumSize + header.IPv6MinimumSize
	straightHeaders   = straightTransport + header.TCPHeaderMaximumSize
)

// Straight is the straight way of one connection's segments, from the transport into the frames of a card: their
// headers are written once, in one place, and no packet is made. It is for what needs nothing on the way: the route
// leads out, the next hop's address is known and not stale, and nobody watches or filters what is sent. All else
// takes the long way (Route.WritePacket), as do segments that somebody else has to cut.
//
// Whoever uses it serializes that.
type Straight struct {
	route    *Route
	frames   FrameWriter
	holder   FrameHolder // frames too, or nil
	network  NetworkEndpoint
	ip       *tcpip.IPStats // the interface's
	leastMTU uint32

	headers [straightHeaders]byte
	begin   int    // of the frame in headers; what is before the transport's stays from frame to frame
	sum     uint32 // of IPv4's header, without its length, number and checksum
	pseudo  uint16 // of the pseudo header, without the length
	to      tcpip.LinkAddress
	params  NetworkHeaderParams
	pieces  [][]byte
	few     [4][]byte // where pieces are, as a rule
}

// NewStraight returns the straight way along r, nil if r's interface has none.
func NewStraight(r *Route) *Straight {
	n := r.outgoingNIC
	network := n.getNetworkEndpoint(r.NetProto())
	if n.frames == nil || r.Loop() != PacketOut || n.experimentIPOptionEnabled || network == nil {
		return nil
	}
	stats, ok := network.Stats().(IPNetworkEndpointStats)
	if !ok {
		return nil
	}
	w := &Straight{route: r, frames: n.frames, network: network, ip: stats.IPStats()}
	if n.blocks.size != 0 {
		w.holder, _ = n.frames.(FrameHolder)
	}
	w.pieces = w.few[:0]
	switch r.NetProto() {
	case header.IPv4ProtocolNumber:
		w.begin, w.leastMTU = straightTransport-header.IPv4MinimumSize-header.EthernetMinimumSize, header.IPv4MinimumMTU
	case header.IPv6ProtocolNumber:
		w.leastMTU = header.IPv6MinimumMTU
	default:
		return nil
	}
	return w
}

// Route returns the route that w goes along.
func (w *Straight) Route() *Route { return w.route }

// DefaultTTL returns the network's.
func (w *Straight) DefaultTTL() uint8 { return w.network.DefaultTTL() }

// Transport returns the room for the transport's header.
func (w *Straight) Transport() []byte { return w.headers[straightTransport:] }

// Open says whether frames can be sent straight now, with these parameters, and makes ready for one.
func (w *Straight) Open(params *NetworkHeaderParams) bool {
	n := w.route.outgoingNIC
	if n.watched.Load() || n.stack.filters() || n.MTU() < w.leastMTU {
		return false
	}
	to, ok := w.route.usableNextHop()
	if !ok {
		return false
	}
	if to != w.to || *params != w.params {
		if len(to) != header.EthernetAddressSize {
			return false
		}
		w.to, w.params = to, *params
		w.prepare()
	}
	return true
}

// usableNextHop returns the link address that a packet along r goes to, if r is fit for use and nothing needs to be
// done to know the address: the neighbour is reachable, or being asked whether it is.
func (r *Route) usableNextHop() (tcpip.LinkAddress, bool) {
	r.mu.RLock()
	valid, to, neighbour := r.isValidForOutgoingRLocked(), r.remoteLinkAddress, r.neighborEntry
	r.mu.RUnlock()
	switch {
	case !valid:
		return "", false
	case len(to) != 0:
		return to, true
	case neighbour == nil:
		return "", false
	}
	return neighbour.getRemoteLinkAddress()
}

// filters says whether rules look at packets.
func (s *Stack) filters() bool {
	s.tables.mu.RLock()
	modified := s.tables.modified
	s.tables.mu.RUnlock()
	return modified || s.NFTables() != nil
}

// prepare makes the headers before the transport's, but for what differs from frame to frame.
func (w *Straight) prepare() {
	r := w.route
	header.Ethernet(w.headers[w.begin:]).Encode(&header.EthernetFields{
		SrcAddr: r.LocalLinkAddress(), DstAddr: w.to, Type: r.NetProto(),
	})
	at := w.begin + header.EthernetMinimumSize
	h := w.headers[at:straightTransport]
	w.pseudo = header.PseudoHeaderChecksum(w.params.Protocol, r.LocalAddress(), r.RemoteAddress(), 0)
	if r.NetProto() == header.IPv6ProtocolNumber {
		header.IPv6(h).Encode(&header.IPv6Fields{
			TransportProtocol: w.params.Protocol, HopLimit: w.params.TTL, TrafficClass: w.params.TOS,
			SrcAddr: r.LocalAddress(), DstAddr: r.RemoteAddress(),
		})
		return
	}
	fields := header.IPv4Fields{
		TTL: w.params.TTL, TOS: w.params.TOS, Protocol: uint8(w.params.Protocol), SrcAddr: r.LocalAddress(), DstAddr: r.RemoteAddress(),
	}
	if w.params.DF {
		fields.Flags = header.IPv4FlagDontFragment
	}
	header.IPv4(h).Encode(&fields)
	w.sum = uint32(checksum.Checksum(h, 0))
}

// PseudoSum returns the sum of the pseudo header of a segment of that many bytes, with its header.
func (w *Straight) PseudoSum(length int) uint16 { return checksum.Combine(w.pseudo, uint16(length)) }

// Fits says whether a segment of that many bytes, with its header, fits a packet.
func (w *Straight) Fits(length int) bool {
	if w.begin == 0 { // IPv6 doesn't count its own header
		return length < 1<<16
	}
	return length+header.IPv4MinimumSize < 1<<16
}

// Write sends a frame whose transport header takes that many bytes, and has pkt's data after it; pkt may be nil.
//
// Preconditions: Open said yes, Fits too, and nothing was sent since.
func (w *Straight) Write(transport int, pkt *PacketBuffer, gso *GSO) tcpip.Error {
	head := w.headers[w.begin : straightTransport+transport]
	w.pieces = append(w.pieces[:0], head)
	size := len(head)
	if pkt != nil {
		size += pkt.Data().Size()
		w.pieces = pkt.buf.AppendSlices(w.pieces, pkt.dataOffset())
	}
	length := size - header.EthernetMinimumSize
	ip := head[header.EthernetMinimumSize:]
	if w.begin == 0 {
		header.IPv6(ip).SetPayloadLength(uint16(length - header.IPv6MinimumSize))
	} else {
		h := header.IPv4(ip)
		sum := w.sum + uint32(length)
		h.SetTotalLength(uint16(length))
		if !w.params.DF { // RFC 6864, 4.3: such packets have numbers of their own
			numbers := w.route.Stack().SecureRNG()
			id := numbers.Uint16()
			for id == 0 {
				id = numbers.Uint16()
			}
			h.SetID(id)
			sum += uint32(id)
		}
		sum = sum&0xffff + sum>>16
		h.SetChecksum(^uint16(sum + sum>>16))
	}
	n := w.route.outgoingNIC
	var err tcpip.Error
	held := false
	if w.holder != nil && size > LeastHeld/8 {
		held, err = w.holder.HoldFrame(w.pieces, gso, pkt.Data())
	}
	if !held {
		err = w.frames.WriteFrame(w.pieces, gso)
	}
	clear(w.pieces)
	if err != nil {
		if _, ok := err.(*tcpip.ErrNoBufferSpace); ok {
			n.stats.txPacketsDroppedNoBufferSpace.Increment()
		}
		w.ip.OutgoingPacketErrors.Increment()
		n.stack.stats.IP.OutgoingPacketErrors.Increment()
		return err
	}
	n.stats.tx.packets.Increment()
	n.stats.tx.bytes.IncrementBy(uint64(size))
	w.ip.PacketsSent.Increment()
	n.stack.stats.IP.PacketsSent.Increment()
	return nil
}
