package tcp

import (
	"encoding/binary"
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// sendStraight sends a segment with pkt's data, or without any for nil, straight into the frames of a card: it is
// what sendRaw would have sent. It returns false if the segment has to go the long way.
//
// +checklocks:e.mu
func (e *Endpoint) sendStraight(pkt *stack.PacketBuffer, flags header.TCPFlags, seq, ack seqnum.Value, window seqnum.Size) (bool, tcpip.Error) {
	w := e.straightWay()
	if w == nil {
		return false, nil
	}
	size := 0
	if pkt != nil {
		size = pkt.Data().Size()
	}
	gso := &e.gso
	if gso.Type == stack.GSONone || gso.Type == stack.GSOGvisor && size > int(gso.MSS) {
		return false, nil
	}
	params := stack.NetworkHeaderParams{
		Protocol: ProtocolNumber, TOS: e.sendTOS,
		DF: e.pmtud == tcpip.PMTUDiscoveryWant || e.pmtud == tcpip.PMTUDiscoveryDo || e.pmtud == tcpip.PMTUDiscoveryProbe,
	}
	switch {
	case e.route.NetProto() == header.IPv4ProtocolNumber && e.ipv4TTL != tcpip.UseDefaultIPv4TTL:
		params.TTL = e.ipv4TTL
	case e.route.NetProto() == header.IPv6ProtocolNumber && e.ipv6HopLimit != tcpip.UseDefaultIPv6HopLimit:
		params.TTL = uint8(e.ipv6HopLimit)
	default:
		params.TTL = w.DefaultTTL()
	}
	if !w.Open(&params) {
		return false, nil
	}
	h := header.TCP(w.Transport())
	length := header.TCPMinimumSize + e.putOptions(h[header.TCPMinimumSize:], flags)
	if !w.Fits(length + size) {
		return false, nil
	}
	h = h[:length]
	h.Encode(&header.TCPFields{
		SrcPort: e.ID.LocalPort, DstPort: e.ID.RemotePort, SeqNum: uint32(seq), AckNum: uint32(ack), DataOffset: uint8(length),
		Flags: flags, WindowSize: uint16(min(window, math.MaxUint16)), UrgentPointer: urgentPointer(flags),
	})
	sum := w.PseudoSum(length + size)
	if gso.NeedsCsum {
		h.SetChecksum(sum) // the device adds the rest
	} else {
		if pkt != nil {
			sum = checksum.Combine(sum, pkt.Data().Checksum())
		}
		h.SetChecksum(^h.CalculateChecksum(sum))
	}
	return true, e.writeStraight(w, length, flags, pkt, gso)
}

// straightWay returns the straight way along the endpoint's route, nil if there is none.
//
// +checklocks:e.mu
func (e *Endpoint) straightWay() *stack.Straight {
	if e.straight == nil || e.straight.Route() != e.route {
		e.straight = stack.NewStraight(e.route)
	}
	return e.straight
}

// writeStraight writes the segment whose header of that length is in w, and counts it.
//
// +checklocks:e.mu
func (e *Endpoint) writeStraight(w *stack.Straight, length int, flags header.TCPFlags, pkt *stack.PacketBuffer, gso *stack.GSO) tcpip.Error {
	all := &e.stack.Stats().TCP
	if err := w.Write(length, pkt, gso); err != nil {
		all.SegmentSendErrors.Increment()
		e.stats.SendErrors.SegmentSendToNetworkFailed.Increment()
		return err
	}
	all.SegmentsSent.Increment()
	if flags&header.TCPFlagRst != 0 {
		all.ResetsSent.Increment()
	}
	e.stats.SegmentsSent.Increment()
	return nil
}

// sendSynStraight sends the first segment of the endpoint's as sendStraight does others. Of one that listens, and
// answers with a cookie, it sends none.
//
// +checklocks:e.mu
func (e *Endpoint) sendSynStraight(r *stack.Route, tf *tcpFields) bool {
	if r != e.route {
		return false
	}
	w := e.straightWay()
	if w == nil || !w.Open(&stack.NetworkHeaderParams{Protocol: ProtocolNumber, TTL: tf.ttl, TOS: tf.tos, DF: tf.df}) {
		return false
	}
	length := header.TCPMinimumSize + len(tf.opts)
	h := header.TCP(w.Transport())[:length]
	h.Encode(&header.TCPFields{
		SrcPort: tf.id.LocalPort, DstPort: tf.id.RemotePort, SeqNum: uint32(tf.seq), AckNum: uint32(tf.ack),
		DataOffset: uint8(length), Flags: tf.flags, WindowSize: uint16(min(tf.rcvWnd, math.MaxUint16)),
	})
	copy(h[header.TCPMinimumSize:], tf.opts)
	h.SetChecksum(^h.CalculateChecksum(w.PseudoSum(length)))
	if e.writeStraight(w, length, tf.flags, nil, &stack.GSO{}) != nil {
		e.stats.SendErrors.SynSendToNetworkFailed.Increment()
	}
	return true
}

// mostOptions returns how long the options of a segment may get.
//
// +checklocks:e.mu
func (e *Endpoint) mostOptions() int {
	const padding, stamps, block, room = 2, 10, 8, maxOptionSize
	n := 0
	if e.SendTSOk {
		n = padding + stamps
	}
	if e.SACKPermitted {
		n += padding + 2
		n += min((room-n)/block, header.TCPMaxSACKBlocks) * block
	}
	return n
}

// putOptions writes the options of a segment of an established connection, as makeOptions does, and returns their
// length.
//
// +checklocks:e.mu
func (e *Endpoint) putOptions(b []byte, flags header.TCPFlags) int {
	const padded = 12
	n := 0
	if e.SendTSOk {
		binary.BigEndian.PutUint32(b, header.TCPOptionNOP<<24|header.TCPOptionNOP<<16|header.TCPOptionTS<<8|header.TCPOptionTSLength)
		binary.BigEndian.PutUint32(b[4:], e.tsVal(e.snd.LastSendTime))
		binary.BigEndian.PutUint32(b[8:], e.recentTimestamp())
		n = padded
	}
	if e.SACKPermitted && flags.Contains(header.TCPFlagAck) && e.EndpointState() == StateEstablished && e.rcv.pendingRcvdSegments.Len() > 0 {
		if blocks := e.sack.Blocks[:e.sack.NumBlocks]; len(blocks) > 0 {
			n += header.EncodeNOP(b[n:])
			n += header.EncodeNOP(b[n:])
			n += header.EncodeSACKBlocks(blocks, b[n:])
		}
	}
	return n
}
