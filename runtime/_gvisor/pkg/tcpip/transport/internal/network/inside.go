package network

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Inside returns the route of the context and what its packets would tell, if it is one of stack.Route.Inside.
func (c *WriteContext) Inside() (r *stack.Route, ttl, tos uint8, ok bool) {
	return c.route, c.ttl, c.tos, c.route.Inside()
}

// lastInside is the route that was found last for a datagram to this stack. Its lock is taken after the
// endpoint's mu and before any of the stack's.
type lastInside struct {
	mu    sync.Mutex
	route *stack.Route // nil: none
	key   insideKey
}

// insideKey is what a route is looked up by.
type insideKey struct {
	nic             tcpip.NICID
	from, bound, to tcpip.Address
	protocol        tcpip.NetworkProtocolNumber
}

// findRoute is connectRouteRLocked, which it asks if the last route isn't to the same address or isn't good any
// more. bound is the address of the endpoint.
//
// +checklocksread:e.mu
func (e *Endpoint) findRoute(nic tcpip.NICID, from tcpip.Address, to tcpip.FullAddress, protocol tcpip.NetworkProtocolNumber, bound tcpip.Address) (*stack.Route, tcpip.NICID, tcpip.Error) {
	key := insideKey{nic, from, bound, to.Addr, protocol}
	l := &e.last
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.route != nil && l.key == key && l.route.Inside() {
		l.route.Acquire()
		return l.route, nic, nil
	}
	r, id, err := e.connectRouteRLocked(nic, from, to, protocol)
	if err == nil && r.Inside() {
		if l.route != nil {
			l.route.Release()
		}
		r.Acquire()
		l.route, l.key = r, key
	}
	return r, id, err
}

func (l *lastInside) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.route != nil {
		l.route.Release()
		l.route = nil
	}
}
