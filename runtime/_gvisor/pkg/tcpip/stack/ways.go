package stack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// way is a route that was found, and what for. It has no reference to the route's address.
type way struct {
	nic           tcpip.NICID
	proto         tcpip.NetworkProtocolNumber
	local, remote tcpip.Address
	changes       uint32
	route         *Route
}

// ways has the routes that were found last, each where its remote address is hashed to: a client that connects is
// often one that connected before, and its connections share a route.
type ways [64]atomic.Pointer[way]

// Routes to interfaces below 0 lead nowhere. Which it is says what who sends is told.
const (
	BlackholeNIC   tcpip.NICID = -1 - iota // ErrInvalidOptionValue
	UnreachableNIC                         // ErrHostUnreachable
	ProhibitNIC                            // ErrBroadcastDisabled, which is EACCES
	ThrowNIC                               // ErrNetworkUnreachable: it would lead to the next table
)

// refusal returns the error of the first route to an address that leads nowhere, if none before it leads anywhere.
func (s *Stack) refusal(to tcpip.Address) tcpip.Error {
	s.routeMu.RLock()
	defer s.routeMu.RUnlock()
	for r := s.routeTable.Front(); r != nil; r = r.Next() {
		if !r.Destination.Contains(to) {
			continue
		}
		switch r.NIC {
		case BlackholeNIC:
			return &tcpip.ErrInvalidOptionValue{}
		case UnreachableNIC:
			return &tcpip.ErrHostUnreachable{}
		case ProhibitNIC:
			return &tcpip.ErrBroadcastDisabled{}
		case ThrowNIC:
			return &tcpip.ErrNetworkUnreachable{}
		}
		return nil
	}
	return nil
}

// findWay is findRoute for the routes that lead nowhere too. To the machine's own addresses, none does.
func (s *Stack) findWay(nic tcpip.NICID, local, remote tcpip.Address, proto tcpip.NetworkProtocolNumber, multicastLoop bool) (*Route, tcpip.Error) {
	if remote.Len() == 0 {
		return s.findRoute(nic, local, remote, proto, multicastLoop)
	}
	refused := s.refusal(remote)
	r, err := s.findRoute(nic, local, remote, proto, multicastLoop)
	if refused == nil || err == nil && r.outgoingNIC.hasAddress(proto, remote) {
		return r, err
	}
	if err == nil {
		r.Release()
	}
	return nil, refused
}

// FindRoute finds a route: see findRoute.
func (s *Stack) FindRoute(nic tcpip.NICID, local, remote tcpip.Address, proto tcpip.NetworkProtocolNumber, multicastLoop bool) (*Route, tcpip.Error) {
	// Which address of IPv6 is the source depends on their age too.
	if multicastLoop || remote.Len() == 0 || local.Len() == 0 && proto != header.IPv4ProtocolNumber {
		return s.findWay(nic, local, remote, proto, multicastLoop)
	}
	b := remote.AsSlice()
	entry := &s.ways[(uint(b[len(b)-1])+7*uint(b[len(b)-2]))%uint(len(s.ways))]
	now := changes.Load()
	if w := entry.Load(); w != nil && w.changes == now && w.remote == remote && w.local == local && w.nic == nic &&
		w.proto == proto && w.route.acquireValid() {
		return w.route, nil
	}
	r, err := s.findWay(nic, local, remote, proto, false)
	if err == nil {
		entry.Store(&way{nic, proto, local, remote, now, r})
	}
	return r, err
}

// acquireValid acquires a route that nobody may have any more, if it is fit for use.
func (r *Route) acquireValid() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.isValidForOutgoingRLocked() && r.localAddressEndpoint.TryIncRef()
}
