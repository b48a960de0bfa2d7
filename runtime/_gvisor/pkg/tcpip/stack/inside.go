package stack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// watchers counts who sees the packets of all interfaces: raw endpoints.
type watchers struct{ atomic.Int32 }

// Inside says whether what is sent along the route is for this stack itself and nobody looks at the packets:
// a transport may then pass it from endpoint to endpoint.
func (r *Route) Inside() bool {
	n := r.outgoingNIC
	if !n.IsLoopback() || n.watched.Load() || n.stack.watchers.Load() != 0 {
		return false
	}
	if to := r.routeInfo.RemoteAddress; to != r.routeInfo.LocalAddress &&
		(r.routeInfo.NetProto != header.IPv4ProtocolNumber || !header.IsV4LoopbackAddress(to) || r.IsOutboundBroadcast()) {
		return false
	}
	return r.isValidForOutgoing()
}

// sourceFor returns the address that this machine sends from to an address of its own.
func sourceFor(to tcpip.Address) tcpip.Address {
	if to.Len() == header.IPv4AddressSize && header.IsV4LoopbackAddress(to) {
		return tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return to
}

// CountInside counts a packet that was not made.
func (r *Route) CountInside(bytes int) {
	n := r.outgoingNIC
	n.stats.tx.packets.Increment()
	n.stats.tx.bytes.IncrementBy(uint64(bytes))
	n.stats.rx.packets.Increment()
	n.stats.rx.bytes.IncrementBy(uint64(bytes))
	if r.NetProto() == header.IPv4ProtocolNumber {
		n.inside.ipv4.Increment()
	} else {
		n.inside.ipv6.Increment()
	}
}

// insideCounts says how many packets of an interface were not made, and so count neither as sent nor as received in
// the statistics of its network endpoints.
type insideCounts struct{ ipv4, ipv6 tcpip.StatCounter }

// CountedInside returns how many packets of a protocol CountInside counted on an interface.
func (s *Stack) CountedInside(id tcpip.NICID, protocol tcpip.NetworkProtocolNumber) uint64 {
	s.mu.RLock()
	n, ok := s.nics[id]
	s.mu.RUnlock()
	switch {
	case !ok:
		return 0
	case protocol == header.IPv4ProtocolNumber:
		return n.inside.ipv4.Value()
	}
	return n.inside.ipv6.Value()
}

// watch is called when the packet endpoints of an interface have changed. Precondition: packetEPsMu is held.
func (n *nic) watch() { n.watched.Store(len(n.packetEPs) != 0) }
