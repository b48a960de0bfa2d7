package inet

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"elver/net"
)

// procPacketTypes is /proc/net/ptype: who gets packets.
func (n *Network) procPacketTypes() string {
	var b strings.Builder
	b.WriteString("Type Device      Function\n")
	list := n.Interfaces()
	for _, e := range net.Open(unix.AF_PACKET) {
		s, ok := e.Socket.(*packetSocket)
		if !ok {
			continue
		}
		s.mu.Lock()
		nic, protocol := int(s.nic), uint16(s.protocol)
		s.mu.Unlock()
		if protocol == 0 {
			continue // it gets nothing
		}
		name := ""
		if at := slices.IndexFunc(list, func(i Interface) bool { return i.Index == nic }); at >= 0 {
			name = list[at].Name
		}
		typ := fmt.Sprintf("%04x", protocol)
		if protocol == unix.ETH_P_ALL {
			typ = "ALL "
		}
		fmt.Fprintf(&b, "%s %-8s packet_rcv\n", typ, name)
	}
	for _, p := range []struct {
		number uint16
		name   string
	}{{unix.ETH_P_IP, "ip"}, {unix.ETH_P_ARP, "arp"}, {unix.ETH_P_IPV6, "ipv6"}} {
		fmt.Fprintf(&b, "%04x %-8s %s_rcv\n", p.number, "", p.name)
	}
	return b.String()
}

// procSoftnet is /proc/net/softnet_stat: the packets that the CPU received, and 14 things that don't happen.
func (n *Network) procSoftnet() string {
	received, _ := n.Packets()
	return fmt.Sprintf("%08x%s\n", uint32(received), strings.Repeat(" 00000000", 14))
}

// protocolRow is a line of /proc/net/protocols: what a protocol's sockets are and can do.
type protocolRow struct {
	name               string
	size               int // of a socket on Linux
	family, typ, proto int // typ, proto: 0 for all
	memory, press      string
	header             int
	slab, can          string
}

var protocolRows = []protocolRow{
	{"PACKET", 1472, unix.AF_PACKET, 0, 0, "-1", "NI", 0, "no", "nnnnnnnnnnnnnnnnnn"},
	{"PINGv6", 1216, unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, "-1", "NI", 0, "yes", "yyynnynnyyyyyynyyn"},
	{"RAWv6", 1216, unix.AF_INET6, unix.SOCK_RAW, 0, "-1", "NI", 0, "yes", "yyynyyynyyyyyyyynn"},
	{"UDPv6", 1344, unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP, "pages", "NI", 0, "yes", "yyynyyynyyyynnyyyn"},
	{"TCPv6", 2432, unix.AF_INET6, unix.SOCK_STREAM, 0, "pages", "no", 256, "yes", "yyyyyyyyyyyynyyyyy"},
	{"UNIX-STREAM", 1088, unix.AF_UNIX, unix.SOCK_STREAM, 0, "-1", "NI", 0, "yes", "ynnnnnnnnnnnnnnnnn"},
	{"UNIX", 1088, unix.AF_UNIX, unix.SOCK_DGRAM, 0, "-1", "NI", 0, "yes", "ynnnnnnnnnnnnnnnnn"},
	{"PING", 976, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, "-1", "NI", 0, "yes", "yyynnynnyyyyyynyyn"},
	{"RAW", 984, unix.AF_INET, unix.SOCK_RAW, 0, "-1", "NI", 0, "yes", "yyynyyynyyyyyyyynn"},
	{"UDP", 1152, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP, "pages", "NI", 0, "yes", "yyynyyynyyyynnyyyn"},
	{"TCP", 2240, unix.AF_INET, unix.SOCK_STREAM, 0, "pages", "no", 256, "yes", "yyyyyyyyyyyynyyyyy"},
	{"NETLINK", 1040, unix.AF_NETLINK, 0, 0, "-1", "NI", 0, "no", "nnnnnnnnnnnnnnnnnn"},
}

// procProtocols is /proc/net/protocols.
func (n *Network) procProtocols() string {
	var b strings.Builder
	b.WriteString("protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em\n")
	for _, r := range protocolRows {
		sockets := 0
		for _, e := range net.Open(r.family) {
			_, typ, proto := e.Socket.Kind()
			if typ == unix.SOCK_SEQPACKET {
				typ = unix.SOCK_DGRAM // of AF_UNIX
			}
			if (r.typ == 0 || typ == r.typ) && (r.proto == 0 || proto == r.proto) {
				sockets++
			}
		}
		memory := r.memory
		if memory == "pages" {
			memory = fmt.Sprint(n.queuedPages(max(r.proto, number(r.typ == unix.SOCK_STREAM)*unix.IPPROTO_TCP)))
		}
		fmt.Fprintf(&b, "%-9s %4d %6d  %6s   %-3s %6d   %-3s  %-10s  %s\n", r.name, r.size, sockets, memory, r.press, r.header, r.slab, "kernel",
			strings.Join(strings.Split(r.can, ""), "  "))
	}
	return b.String()
}

// queuedPages returns how many pages what the sockets of a protocol have yet to send and to receive would fill.
func (n *Network) queuedPages(protocol int) int {
	const page = 4096
	pages := 0
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, i := range n.Sockets(protocol, family) {
			if i.State != stateListen {
				pages += (i.SendQueue + i.ReceiveQueue + page - 1) / page
			}
		}
	}
	return pages
}

// AddressFlags returns IFA_F_* of an address of IPv6 as /proc/net/if_inet6 has them.
func (n *Network) AddressFlags(nic tcpip.NICID, a tcpip.Address) uint8 {
	e, err := n.Stack().GetNetworkEndpoint(nic, ipv6.ProtocolNumber)
	if err != nil {
		return unix.IFA_F_PERMANENT
	}
	ae, ok := e.(stack.AddressableEndpoint)
	if !ok {
		return unix.IFA_F_PERMANENT
	}
	own := ae.AcquireAssignedAddress(a, false, stack.NeverPrimaryEndpoint, false)
	if own == nil {
		return unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE
	}
	defer own.DecRef()
	flags := uint8(unix.IFA_F_PERMANENT)
	if own.ConfigType() == stack.AddressConfigSlaac && !header.IsV6LinkLocalUnicastAddress(a) {
		flags = 0 // for as long as the router says
	}
	if own.Deprecated() {
		flags |= unix.IFA_F_DEPRECATED
	}
	return flags
}

// Scopes of IPv6 as Linux writes them (IPV6_ADDR_* in include/net/ipv6.h).
const (
	scopeHost = 0x10
	scopeLink = 0x20
	scopeSite = 0x40
)

// procAddresses6 is /proc/net/if_inet6.
func (n *Network) procAddresses6() string {
	var b strings.Builder
	for _, i := range n.Interfaces() {
		for _, a := range i.Addresses {
			if a.Protocol != ipv6.ProtocolNumber {
				continue
			}
			scope, address := 0, a.AddressWithPrefix.Address
			switch {
			case address == header.IPv6Loopback:
				scope = scopeHost
			case header.IsV6LinkLocalUnicastAddress(address):
				scope = scopeLink
			case isSiteLocal(address):
				scope = scopeSite
			}
			fmt.Fprintf(&b, "%x %02x %02x %02x %02x %8s\n", address.AsSlice(), i.Index, a.AddressWithPrefix.PrefixLen, scope,
				n.AddressFlags(tcpip.NICID(i.Index), address), i.Name)
		}
	}
	return b.String()
}

// isSiteLocal says whether an address is in fec0::/10 (RFC 4291, 2.5.7).
func isSiteLocal(a tcpip.Address) bool {
	b := a.As16()
	return b[0] == 0xfe && b[1]&0xc0 == 0xc0
}

// procRoute6 is /proc/net/ipv6_route: the routes, the machine's own addresses and multicast, and behind each table that
// there is no other way.
func (n *Network) procRoute6() string {
	const metricLast, flagNoNextHop, flagLocal = 0xffffffff, 0x200000, 0x80000000
	var b strings.Builder
	line := func(to []byte, prefix int, gateway []byte, metric, flags uint32, device string) {
		fmt.Fprintf(&b, "%x %02x %032x 00 %x %08x %08x %08x %08x %8s\n", to, prefix, 0, gateway, metric, 1, 0, flags, device)
	}
	var none [header.IPv6AddressSize]byte
	nowhere := func() { line(none[:], 0, none[:], metricLast, routeReject|flagNoNextHop, "lo") }
	main := true
	for _, r := range n.Routes() {
		if r.Family() != unix.AF_INET6 || !r.used() {
			continue
		}
		if main && r.Table == unix.RT_TABLE_LOCAL {
			main = false
			nowhere()
		}
		to, flags, gateway, nic := r.Destination.ID(), uint32(routeUp), none[:], r.NIC
		switch {
		case r.Gateway.Len() == header.IPv6AddressSize:
			flags |= routeGateway
			gateway = r.Gateway.AsSlice()
		case r.Kind == unix.RTN_LOCAL:
			flags |= flagLocal | flagNoNextHop
		case nic < 0: // it leads nowhere, by way of lo
			flags |= routeReject | flagNoNextHop
			nic = LoopbackNIC
		}
		line(to.AsSlice(), r.Destination.Prefix(), gateway, r.Metric, flags, n.Stack().FindNICNameFromID(nic))
	}
	nowhere()
	return b.String()
}
