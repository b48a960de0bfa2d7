package inet

import (
	"bytes"
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Route is a route as rtnetlink(7) has it. Of netstack's fields, SourceHint is the address that packets which take
// the route have if their sender chose none (RTA_PREFSRC).
type Route struct {
	tcpip.Route
	Table    uint32 // RT_TABLE_*; without rules for more, RT_TABLE_LOCAL, _MAIN and _DEFAULT are looked at
	Metric   uint32 // of routes to one destination, that with the lowest counts
	Kind     uint8  // RTN_UNICAST; in RT_TABLE_LOCAL, what its addresses are
	Protocol uint8  // RTPROT_*: who made the route
	Scope    uint8  // RT_SCOPE_* of its destination
}

// Interfaces of routes that lead nowhere: they have no other. Senders are told EINVAL, EHOSTUNREACH, EACCES and ENETUNREACH. netstack as the
// kernel has it knows them (stack/ways.go in runtime/_gvisor).
const (
	blackholeNIC tcpip.NICID = -1 - iota
	unreachableNIC
	prohibitNIC
	throwNIC
)

// refusing returns the interface of routes of the kind, which lead nowhere, or 0 if they lead somewhere.
func refusing(kind uint8) tcpip.NICID {
	switch kind {
	case unix.RTN_BLACKHOLE:
		return blackholeNIC
	case unix.RTN_UNREACHABLE:
		return unreachableNIC
	case unix.RTN_PROHIBIT:
		return prohibitNIC
	case unix.RTN_THROW:
		return throwNIC
	}
	return 0
}

// Metrics of routes of IPv6, where 0 stands for the one of who asks (net/ipv6_route.h, net/ip6_fib.h).
const (
	kernelMetric6 = 256
	userMetric6   = 1024
)

// Family returns AF_INET or AF_INET6.
func (r *Route) Family() uint8 {
	if to := r.Destination.ID(); to.Len() == header.IPv4AddressSize {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// used says whether packets look at the route.
func (r *Route) used() bool {
	return r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_DEFAULT || r.Table == unix.RT_TABLE_LOCAL
}

// SameKey says whether two routes cannot both be there unless somebody insists: they lead to the same destination, in one
// table and with one metric.
func (r *Route) SameKey(o *Route) bool {
	return r.Table == o.Table && r.Metric == o.Metric && r.Destination.Equal(o.Destination)
}

// same says whether nothing tells two routes apart.
func (r *Route) same(o *Route) bool {
	return r.SameKey(o) && r.NIC == o.NIC && r.Gateway == o.Gateway && r.SourceHint == o.SourceHint
}

// Complete fills in what a route leaves open.
func (r *Route) Complete() {
	if r.Table == unix.RT_TABLE_UNSPEC {
		r.Table = unix.RT_TABLE_MAIN
	}
	if r.Kind == unix.RTN_UNSPEC {
		r.Kind = unix.RTN_UNICAST
	}
	if nic := refusing(r.Kind); nic != 0 {
		r.NIC, r.Gateway = nic, tcpip.Address{}
	}
	if r.Protocol == unix.RTPROT_UNSPEC {
		r.Protocol = unix.RTPROT_BOOT
	}
	if r.Family() == unix.AF_INET6 {
		r.Scope = unix.RT_SCOPE_UNIVERSE
		switch {
		case r.Metric != 0:
		case r.Protocol == unix.RTPROT_KERNEL:
			r.Metric = kernelMetric6
		default:
			r.Metric = userMetric6
		}
	}
}

// maxRoutes is how many routes there may be.
const maxRoutes = 4096

// AddRoute adds a route: EEXIST for one that is there, ENODEV, ENETUNREACH for a gateway that no route leads to, ENOBUFS.
func (n *Network) AddRoute(r Route) error {
	s := n.Stack()
	r.Complete()
	n.routesMu.Lock()
	defer n.routesMu.Unlock()
	if len(n.routes) >= maxRoutes {
		return unix.ENOBUFS
	}
	if r.Gateway.Len() != 0 && r.NIC == 0 {
		at := slices.IndexFunc(n.routes, func(t Route) bool { return t.NIC > 0 && t.Gateway.Len() == 0 && t.Destination.Contains(r.Gateway) })
		if at < 0 {
			return unix.ENETUNREACH
		}
		r.NIC = n.routes[at].NIC
	}
	if slices.ContainsFunc(n.routes, func(t Route) bool { return t.same(&r) }) {
		return unix.EEXIST
	}
	if refusing(r.Kind) == 0 && !s.HasNIC(r.NIC) {
		return unix.ENODEV
	}
	at, _ := slices.BinarySearchFunc(n.routes, r, func(t, r Route) int {
		if c := t.compare(&r); c != 0 {
			return c
		}
		return -1 // after those that are alike
	})
	n.routes = slices.Insert(n.routes, at, r)
	if r.used() {
		n.setWays(r.Destination)
	}
	n.tell(Event{Type: unix.RTM_NEWROUTE, Interface: int(r.NIC), Route: r})
	return nil
}

// RemoveRoutes removes the routes that match, and returns how many.
func (n *Network) RemoveRoutes(match func(Route) bool) int {
	n.routesMu.Lock()
	defer n.routesMu.Unlock()
	var gone []Route
	n.routes = slices.DeleteFunc(n.routes, func(r Route) bool {
		if !match(r) {
			return false
		}
		gone = append(gone, r)
		return true
	})
	for _, r := range gone {
		if r.used() {
			n.setWays(r.Destination)
		}
		n.tell(Event{Type: unix.RTM_DELROUTE, Interface: int(r.NIC), Route: r})
	}
	return len(gone)
}

// RemoveRoute removes the first route that matches: false if none does.
func (n *Network) RemoveRoute(match func(Route) bool) bool {
	found := false
	return n.RemoveRoutes(func(r Route) bool {
		is := !found && match(r)
		found = found || is
		return is
	}) > 0
}

// setWays tells netstack of the routes to one destination. Precondition: routesMu is held.
func (n *Network) setWays(to tcpip.Subnet) {
	s := n.Stack()
	s.RemoveRoutes(func(r tcpip.Route) bool {
		return r.Destination.Equal(to) && (r.NIC != LoopbackNIC || ScopeOf(to.ID()) != unix.RT_SCOPE_HOST) // those are always there
	})
	for _, r := range n.routes { // those of a lower metric are first, and netstack keeps the order
		if r.used() && r.Destination.Equal(to) {
			s.AddRoute(r.Route)
		}
	}
}

// compare orders routes as Linux lists them: by table, destination and metric, and the default route of IPv6 behind all
// others.
func (r *Route) compare(o *Route) int {
	last := func(r *Route) int {
		if r.Family() == unix.AF_INET6 && r.Destination.Prefix() == 0 {
			return 1
		}
		return 0
	}
	a, b := r.Destination.ID(), o.Destination.ID()
	return cmp.Or(cmp.Compare(r.Family(), o.Family()), cmp.Compare(r.Table, o.Table), cmp.Compare(last(r), last(o)),
		bytes.Compare(a.AsSlice(), b.AsSlice()), cmp.Compare(o.Destination.Prefix(), r.Destination.Prefix()), cmp.Compare(r.Metric, o.Metric))
}

// Routes returns the routes of all tables as Linux lists them, with RT_TABLE_LOCAL, which follows from the addresses.
func (n *Network) Routes() []Route {
	list := n.localRoutes()
	n.routesMu.Lock()
	list = append(list, n.routes...)
	n.routesMu.Unlock()
	slices.SortStableFunc(list, func(a, b Route) int { return a.compare(&b) })
	return list
}

// Lookup returns the route that packets to an address take out of an interface, or of any if it is 0.
func (n *Network) Lookup(to tcpip.Address, nic tcpip.NICID) (best Route, ok bool) {
	n.routesMu.Lock()
	defer n.routesMu.Unlock()
	for _, r := range n.routes {
		if r.used() && r.Destination.Contains(to) && (nic == 0 || r.NIC == nic) && (!ok || r.Destination.Prefix() > best.Destination.Prefix()) {
			best, ok = r, true
		}
	}
	return best, ok
}

// localRoutes returns the routes to the machine itself, to broadcast and multicast addresses.
func (n *Network) localRoutes() (list []Route) {
	add := func(nic int, kind uint8, to tcpip.AddressWithPrefix, source tcpip.Address, metric uint32) {
		r := Route{Table: unix.RT_TABLE_LOCAL, Kind: kind, Protocol: unix.RTPROT_KERNEL, Metric: metric}
		r.Destination, r.NIC, r.SourceHint = to.Subnet(), tcpip.NICID(nic), source
		if r.Family() == unix.AF_INET {
			if r.Scope = unix.RT_SCOPE_HOST; kind == unix.RTN_BROADCAST {
				r.Scope = unix.RT_SCOPE_LINK
			}
		}
		if !slices.ContainsFunc(list, func(o Route) bool { return o.same(&r) }) {
			list = append(list, r)
		}
	}
	for _, i := range n.Interfaces() {
		if !i.Up {
			continue
		}
		first := map[tcpip.Subnet]tcpip.Address{} // of each subnet
		for _, a := range i.Addresses {
			address, subnet, prefix := a.AddressWithPrefix.Address, a.AddressWithPrefix.Subnet(), a.AddressWithPrefix.PrefixLen
			if address.Len() != header.IPv4AddressSize {
				add(i.Index, unix.RTN_LOCAL, address.WithPrefix(), tcpip.Address{}, 0)
				continue
			}
			if !a.Secondary {
				first[subnet] = address
			}
			add(i.Index, unix.RTN_LOCAL, address.WithPrefix(), first[subnet], 0)
			if a.Secondary {
				continue
			}
			if i.Loopback && header.IsV4LoopbackAddress(address) {
				add(i.Index, unix.RTN_LOCAL, a.AddressWithPrefix, address, 0)
			}
			if prefix < 31 {
				last := Broadcast(a.AddressWithPrefix)
				add(i.Index, unix.RTN_BROADCAST, tcpip.AddrFrom4(last).WithPrefix(), address, 0)
			}
		}
		if !i.Loopback {
			all := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom16([16]byte{0xff}), PrefixLen: 8}
			add(i.Index, unix.RTN_MULTICAST, all, tcpip.Address{}, kernelMetric6)
		}
	}
	return list
}

// addConnected adds the route to the subnet of an interface's address, if it has one.
func (n *Network) addConnected(nic tcpip.NICID, a tcpip.AddressWithPrefix) error {
	if a.PrefixLen >= a.Address.BitLen() || nic == LoopbackNIC && header.IsV4LoopbackAddress(a.Address) { // that one is always there
		return nil
	}
	r := Route{Protocol: unix.RTPROT_KERNEL, Scope: unix.RT_SCOPE_LINK}
	r.Destination, r.NIC = a.Subnet(), nic
	if a.Address.Len() == header.IPv4AddressSize {
		r.SourceHint = a.Address
	}
	if nic == LoopbackNIC { // where all of the subnet is the machine
		r.Table, r.Kind, r.Scope = unix.RT_TABLE_LOCAL, unix.RTN_LOCAL, unix.RT_SCOPE_HOST
	}
	if err := n.AddRoute(r); err != unix.EEXIST {
		return err
	}
	return nil
}
