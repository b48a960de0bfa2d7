package inet

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/net"
)

// ProcFiles returns what makes the files of /proc/net (proc_pid_net(5)), by their names.
func (n *Network) ProcFiles() map[string]func() string {
	sockets := func(protocol, family int) func() string {
		return func() string { return n.procSockets(protocol, family) }
	}
	return map[string]func() string{
		"tcp":          sockets(unix.IPPROTO_TCP, unix.AF_INET),
		"tcp6":         sockets(unix.IPPROTO_TCP, unix.AF_INET6),
		"udp":          sockets(unix.IPPROTO_UDP, unix.AF_INET),
		"udp6":         sockets(unix.IPPROTO_UDP, unix.AF_INET6),
		"icmp":         sockets(unix.IPPROTO_ICMP, unix.AF_INET),
		"icmp6":        sockets(unix.IPPROTO_ICMPV6, unix.AF_INET6),
		"raw":          sockets(protocolRaw, unix.AF_INET),
		"raw6":         sockets(protocolRaw, unix.AF_INET6),
		"udplite":      func() string { return udpHeader4 },
		"udplite6":     func() string { return udpHeader6 },
		"dev":          n.procDev,
		"route":        n.procRoute,
		"ipv6_route":   n.procRoute6,
		"if_inet6":     n.procAddresses6,
		"arp":          n.procARP,
		"snmp":         n.procSNMP,
		"sockstat":     n.procSockstat,
		"sockstat6":    n.procSockstat6,
		"packet":       procPacket,
		"snmp6":        n.procSNMP6,
		"netstat":      n.procNetstat,
		"fib_trie":     n.procFibTrie,
		"fib_triestat": n.procFibTrieStat,
		"igmp":         n.procGroups,
		"igmp6":        n.procGroups6,
		"dev_mcast":    n.procGroupsLink,
		"ptype":        n.procPacketTypes,
		"softnet_stat": n.procSoftnet,
		"protocols":    n.procProtocols,
		"psched":       func() string { return "000003e8 00000040 000f4240 3b9aca00\n" }, // clocks count nanoseconds
		// Of these there is never one.
		"anycast6":      func() string { return "" },
		"ip6_flowlabel": func() string { return "Label S Owner  Users  Linger Expires  Dst                              Opt\n" },
		"rt_cache": func() string {
			return fmt.Sprintf("%-127s\n", "Iface\tDestination\tGateway \tFlags\t\tRefCnt\tUse\tMetric\tSource\t\tMTU\tWindow\tIRTT\tTOS\tHHRef\tHHUptod\tSpecDst")
		},
		"wireless": func() string {
			return "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
		},
	}
}

// protocolRaw stands for the sockets of type SOCK_RAW.
const protocolRaw = -1

const (
	tcpHeader4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n"
	tcpHeader6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	udpHeader4 = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             \n"
	udpHeader6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
)

// States of TCP as Linux numbers them (include/net/tcp_states.h).
const (
	stateEstablished = 1
	stateSynRecv     = 3
	stateTimeWait    = 6
	stateListen      = 10
)

// procAddress writes an address as these files do: words as the machine holds them.
func procAddress(family int, a tcpip.FullAddress) string {
	b := appendAddress(nil, family, a)
	if family == unix.AF_INET {
		return fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(b[4:]), a.Port)
	}
	var s strings.Builder
	for at := 8; at < 24; at += 4 {
		fmt.Fprintf(&s, "%08X", binary.LittleEndian.Uint32(b[at:]))
	}
	fmt.Fprintf(&s, ":%04X", a.Port)
	return s.String()
}

// Info is what tools show of a socket.
type Info struct {
	Owner        net.Owner
	Family       int
	Local, Peer  tcpip.FullAddress
	State        uint8 // TCP_* as Linux numbers them
	SendQueue    int
	ReceiveQueue int
}

// Sockets returns what there is of a protocol and family: those of programs, and connections of TCP that
// live on without.
func (n *Network) Sockets(protocol, family int) []Info {
	var list []Info
	own := map[tcpip.Endpoint]bool{}
	for _, e := range net.Open(family) {
		s, ok := e.Socket.(*Socket)
		if !ok || s.network != n {
			continue
		}
		_, typ, p := s.Kind()
		if protocol == protocolRaw && typ != unix.SOCK_RAW || protocol != protocolRaw && (typ == unix.SOCK_RAW || p != protocol) {
			continue
		}
		ep := s.ep()
		own[ep] = true
		i := Info{Owner: e.Owner, Family: family, State: 7}
		i.Local, _ = ep.GetLocalAddress()
		i.Peer, _ = ep.GetRemoteAddress()
		i.ReceiveQueue, _ = ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
		if t, ok := ep.(*tcp.Endpoint); ok {
			i.State = linuxState(s.state())
			switch {
			case s.listening.Load():
				i.SendQueue, i.ReceiveQueue = int(s.backlog.Load()), number(ep.Readiness(waiter.ReadableEvents) != 0)
			case i.State == 7:
				continue // not bound, or only that
			default:
				i.SendQueue = unsent(t)
			}
		} else if typ == unix.SOCK_DGRAM {
			if i.Local.Port == 0 {
				continue
			}
			if transport.DatagramEndpointState(ep.State()) == transport.DatagramEndpointStateConnected {
				i.State = 1
			}
		} else {
			i.Local.Port = uint16(p)
		}
		list = append(list, i)
	}
	if protocol == unix.IPPROTO_TCP {
		list = append(list, n.orphans(family, own)...)
	}
	return list
}

// orphans returns the connections of TCP that have no socket: not accepted yet, or closed.
func (n *Network) orphans(family int, own map[tcpip.Endpoint]bool) []Info {
	var list []Info
	for _, e := range n.Stack().RegisteredEndpoints() {
		ep, ok := e.(*tcp.Endpoint)
		if !ok || own[ep] {
			continue
		}
		info, ok := ep.Info().(*stack.TransportEndpointInfo)
		if !ok || (info.NetProto == ipv4.ProtocolNumber) != (family == unix.AF_INET) {
			continue
		}
		state := tcp.EndpointState(ep.State())
		if !hasConnection(state) && state != tcp.StateSynRecv {
			continue
		}
		list = append(list, Info{
			Family: family, State: linuxState(state), SendQueue: unsent(ep),
			Local: tcpip.FullAddress{Addr: info.ID.LocalAddress, Port: info.ID.LocalPort},
			Peer:  tcpip.FullAddress{Addr: info.ID.RemoteAddress, Port: info.ID.RemotePort},
		})
	}
	return list
}

func (n *Network) procSockets(protocol, family int) string {
	var b strings.Builder
	head, sl := udpHeader4, 5
	switch {
	case protocol == unix.IPPROTO_TCP && family == unix.AF_INET:
		head, sl = tcpHeader4, 4
	case protocol == unix.IPPROTO_TCP:
		head, sl = tcpHeader6, 4
	case family == unix.AF_INET6:
		head = udpHeader6
	}
	b.WriteString(head)
	width := 0
	if family == unix.AF_INET {
		width = len(head) - 1
	}
	for at, i := range n.Sockets(protocol, family) {
		if i.State == stateListen {
			i.SendQueue = 0 // sock_diag(7) shows the backlog there
		}
		line := fmt.Sprintf("%*d: %s %s %02X %08X:%08X 00:00000000 00000000 %5d        0 %d", sl, at, procAddress(family, i.Local), procAddress(family, i.Peer),
			i.State, i.SendQueue, i.ReceiveQueue, i.Owner.UID, i.Owner.Inode)
		if protocol == unix.IPPROTO_TCP {
			line += " 1 0000000000000000 100 0 0 10 0"
		} else {
			line += " 2 0000000000000000 0"
		}
		fmt.Fprintf(&b, "%-*s\n", width, line)
	}
	return b.String()
}

func (n *Network) procDev() string {
	var b strings.Builder
	b.WriteString("Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	for _, i := range n.Interfaces() {
		fmt.Fprintf(&b, "%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n", i.Name,
			i.Stats.Rx.Bytes.Value(), i.Stats.Rx.Packets.Value(), 0, 0, 0, 0, 0, 0,
			i.Stats.Tx.Bytes.Value(), i.Stats.Tx.Packets.Value(), 0, 0, 0, 0, 0, 0)
	}
	return b.String()
}

// Flags of routes (linux/route.h).
const (
	routeUp      = 1
	routeGateway = 2
	routeHost    = 4
	routeReject  = 0x200
)

func (n *Network) procRoute() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-127s\n", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT")
	for _, r := range n.Routes() {
		to := r.Destination.ID()
		if to.Len() != header.IPv4AddressSize || r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		flags, gateway := routeUp, uint32(0)
		name := n.Stack().FindNICNameFromID(r.NIC)
		if r.NIC < 0 { // it leads nowhere
			if name = "*"; r.Kind != unix.RTN_THROW {
				flags |= routeReject
			}
		}
		if r.Gateway.Len() == header.IPv4AddressSize {
			flags |= routeGateway
			g := r.Gateway.As4()
			gateway = binary.LittleEndian.Uint32(g[:])
		}
		if r.Destination.Prefix() == 32 {
			flags |= routeHost
		}
		d, m := to.As4(), r.Destination.Mask()
		line := fmt.Sprintf("%s\t%08X\t%08X\t%04X\t0\t0\t%d\t%08X\t0\t0\t0", name, binary.LittleEndian.Uint32(d[:]), gateway, flags, r.Metric,
			binary.LittleEndian.Uint32(m.AsSlice()))
		fmt.Fprintf(&b, "%-127s\n", line)
	}
	return b.String()
}

func (n *Network) procARP() string {
	var b strings.Builder
	b.WriteString("IP address       HW type     Flags       HW address            Mask     Device\n")
	for _, i := range n.Interfaces() {
		neighbors, err := n.Stack().Neighbors(tcpip.NICID(i.Index), ipv4.ProtocolNumber)
		if err != nil {
			continue
		}
		for _, e := range neighbors {
			flags, link := 2, e.LinkAddr
			if len(link) != header.EthernetAddressSize {
				flags, link = 0, "\x00\x00\x00\x00\x00\x00"
			}
			fmt.Fprintf(&b, "%-16s 0x%-10x0x%-10x%s     *        %s\n", e.Addr, unix.ARPHRD_ETHER, flags, link, i.Name)
		}
	}
	return b.String()
}

func (n *Network) countSockets(protocol, family int) int { return len(n.Sockets(protocol, family)) }

func (n *Network) procSockstat() string {
	inuse, waiting, orphans, all := 0, 0, 0, 0
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, e := range net.Open(family) {
			if _, typ, _ := e.Socket.Kind(); typ == unix.SOCK_STREAM {
				all++
			}
		}
		for _, i := range n.Sockets(unix.IPPROTO_TCP, family) {
			switch {
			case i.State == stateTimeWait:
				waiting++
				continue
			case i.Owner.Inode == 0 && i.State != stateSynRecv && i.State != stateEstablished:
				orphans++
				all++
			}
			if family == unix.AF_INET {
				inuse++
			}
		}
	}
	return fmt.Sprintf("sockets: used %d\nTCP: inuse %d orphan %d tw %d alloc %d mem %d\nUDP: inuse %d mem %d\nUDPLITE: inuse 0\nRAW: inuse %d\nFRAG: inuse 0 memory 0\n",
		net.Count(), inuse, orphans, waiting, all, n.queuedPages(unix.IPPROTO_TCP), n.countSockets(unix.IPPROTO_UDP, unix.AF_INET),
		n.queuedPages(unix.IPPROTO_UDP), n.countSockets(protocolRaw, unix.AF_INET))
}

func (n *Network) procSockstat6() string {
	return fmt.Sprintf("TCP6: inuse %d\nUDP6: inuse %d\nUDPLITE6: inuse 0\nRAW6: inuse %d\nFRAG6: inuse 0 memory 0\n",
		n.countSockets(unix.IPPROTO_TCP, unix.AF_INET6), n.countSockets(unix.IPPROTO_UDP, unix.AF_INET6), n.countSockets(protocolRaw, unix.AF_INET6))
}

func procPacket() string {
	var b strings.Builder
	b.WriteString("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n")
	for _, e := range net.Open(unix.AF_PACKET) {
		s, ok := e.Socket.(*packetSocket)
		if !ok {
			continue
		}
		_, typ, _ := s.Kind()
		s.mu.Lock()
		nic, protocol, queued := s.nic, s.protocol, s.bytes
		s.mu.Unlock()
		fmt.Fprintf(&b, "%016x %-6d %-4d %04x   %-5d %1d %-6d %-6d %-6d\n", 0, 3, typ, uint16(protocol), nic, 1, queued, e.UID, e.Inode)
	}
	return b.String()
}

// ProcFolders returns what makes the files of folders of /proc/net, by their names.
func (n *Network) ProcFolders() map[string]func() map[string]func() string {
	return map[string]func() map[string]func() string{"dev_snmp6": n.interfaceSNMP6}
}
