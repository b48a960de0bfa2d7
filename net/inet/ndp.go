package inet

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"elver/kernel/klog"
)

// neighbours makes routes of what routers advertise (RFC 4861). netstack makes the addresses itself
// (RFC 4862), and bounds how many routers and prefixes it remembers. It must not be called from within its
// reports: a goroutine does what they ask for, as long as there is something to do.
type neighbours struct {
	network    *Network
	duplicates atomic.Int32

	mu      sync.Mutex // guards what follows
	changes []func(*stack.Stack)
	working bool
}

// mostNameServers is how many name servers programs look at (MAXNS of resolv.conf(5)).
const mostNameServers = 3

// mostComplaints is how many duplicate addresses are told of.
const mostComplaints = 10

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
func (d *neighbours) add(protocol uint8, nic tcpip.NICID, to tcpip.Subnet, router tcpip.Address) {
	r := Route{Protocol: protocol}
	r.Destination, r.Gateway, r.NIC = to, router, nic
	d.later(func(*stack.Stack) { d.network.AddRoute(r) })
}

func (d *neighbours) remove(protocol uint8, nic tcpip.NICID, to tcpip.Subnet, router tcpip.Address) {
	d.later(func(*stack.Stack) {
		d.network.RemoveRoutes(func(r Route) bool {
			return r.Protocol == protocol && r.NIC == nic && r.Gateway == router && r.Destination.Equal(to)
		})
	})
}

// OnOffLinkRouteUpdated adds the route through a router.
func (d *neighbours) OnOffLinkRouteUpdated(nic tcpip.NICID, to tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	d.add(unix.RTPROT_RA, nic, to, router)
}

// OnOffLinkRouteInvalidated removes it.
func (d *neighbours) OnOffLinkRouteInvalidated(nic tcpip.NICID, to tcpip.Subnet, router tcpip.Address) {
	d.remove(unix.RTPROT_RA, nic, to, router)
}

// OnOnLinkPrefixDiscovered adds the route to the neighbours of a prefix.
func (d *neighbours) OnOnLinkPrefixDiscovered(nic tcpip.NICID, prefix tcpip.Subnet) {
	d.add(unix.RTPROT_KERNEL, nic, prefix, tcpip.Address{})
}

// OnOnLinkPrefixInvalidated removes it.
func (d *neighbours) OnOnLinkPrefixInvalidated(nic tcpip.NICID, prefix tcpip.Subnet) {
	d.remove(unix.RTPROT_KERNEL, nic, prefix, tcpip.Address{})
}

// OnDuplicateAddressDetectionResult says when somebody else has an address, which stays unused then (RFC 4862, 5.4).
func (d *neighbours) OnDuplicateAddressDetectionResult(nic tcpip.NICID, a tcpip.Address, result stack.DADResult) {
	if other, is := result.(*stack.DADDupAddrDetected); is && d.duplicates.Add(1) <= mostComplaints {
		d.later(func(s *stack.Stack) {
			klog.Warnf("%s: %v is the address of %v already", s.FindNICNameFromID(nic), a, other.HolderLinkAddress)
		})
	}
}

// OnAutoGenAddress tells of an address that is there.
func (d *neighbours) OnAutoGenAddress(nic tcpip.NICID, a tcpip.AddressWithPrefix) stack.AddressDispatcher {
	d.tell(unix.RTM_NEWADDR, nic, a)
	return nil
}

func (d *neighbours) tell(typ uint16, nic tcpip.NICID, a tcpip.AddressWithPrefix) {
	d.later(func(*stack.Stack) {
		d.network.tellAddress(typ, nic, Address{
			ProtocolAddress: tcpip.ProtocolAddress{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: a},
			AddressInfo:     AddressInfo{Scope: ScopeOf(a.Address)},
		})
	})
}

// OnAutoGenAddressDeprecated does nothing.
func (*neighbours) OnAutoGenAddressDeprecated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnAutoGenAddressInvalidated tells that it is gone.
func (d *neighbours) OnAutoGenAddressInvalidated(nic tcpip.NICID, a tcpip.AddressWithPrefix) {
	d.tell(unix.RTM_DELADDR, nic, a)
}

// OnRecursiveDNSServerOption passes name servers on (RFC 8106).
func (d *neighbours) OnRecursiveDNSServerOption(nic tcpip.NICID, servers []tcpip.Address, lifetime time.Duration) {
	f := d.network.nameServers
	if f == nil || lifetime == 0 || len(servers) == 0 {
		return
	}
	servers = slices.Clone(servers[:min(len(servers), mostNameServers)])
	d.later(func(s *stack.Stack) {
		var names []string
		for _, a := range servers {
			name := a.String()
			if header.IsV6LinkLocalUnicastAddress(a) {
				name += "%" + s.FindNICNameFromID(nic)
			}
			names = append(names, name)
		}
		f(names)
	})
}

// OnDNSSearchListOption does nothing.
func (*neighbours) OnDNSSearchListOption(tcpip.NICID, []string, time.Duration) {}

// OnDHCPv6Configuration does nothing: there is no DHCPv6.
func (*neighbours) OnDHCPv6Configuration(tcpip.NICID, ipv6.DHCPv6ConfigurationFromNDPRA) {}
