package udp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport"
)

// hears says whether the endpoint is told of an error of ICMP: if it is connected, or asked for errors
// (IP_RECVERR in ip(7)).
func (e *endpoint) hears(pkt *stack.PacketBuffer) bool {
	if e.net.State() == transport.DatagramEndpointStateConnected {
		return true
	}
	if pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber {
		return e.SocketOptions().GetIPv6RecvError()
	}
	return e.SocketOptions().GetIPv4RecvError()
}

// failedAt returns where the datagram went that an error of ICMP is about: to who sent the error, if the endpoint
// isn't connected, for there is nobody else who says that a port can't be reached.
func failedAt(peer tcpip.Address, pkt *stack.PacketBuffer) tcpip.Address {
	if peer.Len() == 0 && len(pkt.NetworkHeader().Slice()) > 0 {
		return pkt.Network().SourceAddress()
	}
	return peer
}

// failedPort is failedAt of the port, given the datagram's header.
func failedPort(peer uint16, udp header.UDP) uint16 {
	if peer == 0 && len(udp) >= header.UDPMinimumSize {
		return udp.DestinationPort()
	}
	return peer
}
