package inet

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// neighbours makes routes of what routers advertise (RFC 4861). netstack makes the addresses itself
// (RFC 4862), and bounds how many routers and prefixes it remembers. It must not be called from within its
// reports: a goroutine does what they ask for, as long as there is something to do.
type neighbours struct {
	network *Network

	mu      sync.Mutex // guards what follows
	changes []func(*stack.Stack)
	working bool
}

// mostChanges is how many reports may wait: a flood of advertisements loses some.
const mostChanges = 1000

func (d *neighbours) later(change func(*stack.Stack)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.changes) == mostChanges {
		return
	}
	d.changes = append(d.changes, change)
	if !d.working {
		d.working = true
		go d.work()
	}
}

func (d *neighbours) work() {
	s := d.network.Stack()
	for {
		d.mu.Lock()
		changes := d.changes
		d.changes = nil
		d.working = len(changes) > 0
		d.mu.Unlock()
		if len(changes) == 0 {
			return
		}
		for _, change := range changes {
			change(s)
		}
	}
}

// add adds a route once.
func (d *neighbours) add(r tcpip.Route) {
	d.later(func(s *stack.Stack) {
		s.RemoveRoutes(same(r))
		s.AddRoute(r)
	})
}

func same(r tcpip.Route) func(tcpip.Route) bool {
	return func(q tcpip.Route) bool { return q.Equal(r) && q.Gateway == r.Gateway }
}

func (d *neighbours) remove(r tcpip.Route) {
	d.later(func(s *stack.Stack) { s.RemoveRoutes(same(r)) })
}

// OnOffLinkRouteUpdated adds the route through a router.
func (d *neighbours) OnOffLinkRouteUpdated(nic tcpip.NICID, to tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	d.add(tcpip.Route{Destination: to, Gateway: router, NIC: nic})
}

// OnOffLinkRouteInvalidated removes it.
func (d *neighbours) OnOffLinkRouteInvalidated(nic tcpip.NICID, to tcpip.Subnet, router tcpip.Address) {
	d.remove(tcpip.Route{Destination: to, Gateway: router, NIC: nic})
}

// OnOnLinkPrefixDiscovered adds the route to the neighbours of a prefix.
func (d *neighbours) OnOnLinkPrefixDiscovered(nic tcpip.NICID, prefix tcpip.Subnet) {
	d.add(tcpip.Route{Destination: prefix, NIC: nic})
}

// OnOnLinkPrefixInvalidated removes it.
func (d *neighbours) OnOnLinkPrefixInvalidated(nic tcpip.NICID, prefix tcpip.Subnet) {
	d.remove(tcpip.Route{Destination: prefix, NIC: nic})
}

// OnDuplicateAddressDetectionResult does nothing: an address that somebody else has stays unused.
func (*neighbours) OnDuplicateAddressDetectionResult(tcpip.NICID, tcpip.Address, stack.DADResult) {}

// OnAutoGenAddress does nothing: the address is there.
func (*neighbours) OnAutoGenAddress(tcpip.NICID, tcpip.AddressWithPrefix) stack.AddressDispatcher {
	return nil
}

// OnAutoGenAddressDeprecated does nothing.
func (*neighbours) OnAutoGenAddressDeprecated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnAutoGenAddressInvalidated does nothing.
func (*neighbours) OnAutoGenAddressInvalidated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnRecursiveDNSServerOption does nothing: name servers come with IPv4's configuration.
func (*neighbours) OnRecursiveDNSServerOption(tcpip.NICID, []tcpip.Address, time.Duration) {}

// OnDNSSearchListOption does nothing.
func (*neighbours) OnDNSSearchListOption(tcpip.NICID, []string, time.Duration) {}

// OnDHCPv6Configuration does nothing: there is no DHCPv6.
func (*neighbours) OnDHCPv6Configuration(tcpip.NICID, ipv6.DHCPv6ConfigurationFromNDPRA) {}
