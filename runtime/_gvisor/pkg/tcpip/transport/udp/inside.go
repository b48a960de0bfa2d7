package udp

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// datagramCost is about what a waiting datagram takes beside its bytes. It counts towards the receive buffer, as
// it does on Linux: datagrams without bytes would fill the memory otherwise.
const datagramCost = 704

func charge(n int) int { return n + datagramCost }

// mostInside is how many bytes a datagram has at most, of IPv4.
const mostInside = header.UDPMaximumSize - header.UDPMinimumSize - header.IPv4MinimumSize

// sendInside passes a datagram to the endpoint of this stack that it is for, without the packet. It returns
// false if the datagram has to go the long way: there is no such endpoint, or others see the packet too.
//
// +checklocksexclude:e.rcvMu
// +checklocksexclude:e.mu
func (e *endpoint) sendInside(info *udpPacketInfo, p tcpip.Payloader) (int64, bool, tcpip.Error) {
	n := p.Len()
	r, ttl, tos, ok := info.ctx.Inside()
	if !ok || n > mostInside || !e.net.HasSendSpace() {
		return 0, false, nil
	}
	id := stack.TransportEndpointID{
		LocalPort: info.remotePort, LocalAddress: r.RemoteAddress(), RemotePort: info.localPort, RemoteAddress: r.LocalAddress(),
	}
	to, ok := e.stack.FindTransportEndpoint(r.NetProto(), ProtocolNumber, id, r.NICID()).(*endpoint)
	if !ok {
		return 0, false, nil
	}
	var b buffer.Buffer
	if _, err := b.WriteFromReader(p, int64(n)); err != nil {
		b.Release()
		return 0, true, &tcpip.ErrBadBuffer{}
	}
	ipHeader := header.IPv4MinimumSize
	if r.NetProto() == header.IPv6ProtocolNumber {
		ipHeader = header.IPv6MinimumSize
	}
	r.CountInside(ipHeader + header.UDPMinimumSize + n)
	e.stack.Stats().UDP.PacketsSent.Increment()
	to.takeInside(r, &id, b, ttl, tos)
	return int64(n), true, nil
}

// takeInside is the other end of sendInside, and does what HandlePacket does.
//
// +checklocksexclude:e.rcvMu
func (e *endpoint) takeInside(r *stack.Route, id *stack.TransportEndpointID, b buffer.Buffer, ttl, tos uint8) {
	e.stack.Stats().UDP.PacketsReceived.Increment()
	e.stats.PacketsReceived.Increment()
	e.rcvMu.Lock()
	if closed := !e.rcvReady || e.rcvClosed; closed || e.frozen || e.rcvBufSize >= int(e.ops.GetReceiveBufferSize()) {
		e.rcvMu.Unlock()
		b.Release()
		e.stack.Stats().UDP.ReceiveBufferErrors.Increment()
		if closed {
			e.stats.ReceiveErrors.ClosedReceiver.Increment()
		} else {
			e.stats.ReceiveErrors.ReceiveBufferOverflow.Increment()
		}
		return
	}
	wasEmpty := e.rcvBufSize == 0
	nic := r.NICID()
	p := &udpPacket{
		netProto:           r.NetProto(),
		senderAddress:      tcpip.FullAddress{NIC: nic, Addr: id.RemoteAddress, Port: id.RemotePort},
		destinationAddress: tcpip.FullAddress{NIC: nic, Addr: id.LocalAddress, Port: id.LocalPort},
		packetInfo:         tcpip.IPPacketInfo{NIC: nic, LocalAddr: id.LocalAddress, DestinationAddr: id.LocalAddress},
		receivedAt:         e.stack.Clock().Now(),
		tosOrTClass:        tos,
		ttlOrHopLimit:      ttl,
	}
	e.rcvBufSize += charge(int(b.Size()))
	p.pkt = stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
	e.rcvList.PushBack(p)
	e.rcvMu.Unlock()
	if wasEmpty {
		e.waiterQueue.Notify(waiter.ReadableEvents)
	}
}
