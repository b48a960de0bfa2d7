package inet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// The files of /proc/net that tell which groups the machine hears, as "ip maddress" and Go's net package read them.

// joined is a group at an interface, and how many asked for it.
type joined struct {
	address []byte
	users   uint64
}

// grouped is the end of a network protocol at an interface that tells its groups; netstack gets it from
// runtime/_gvisor.
type grouped interface {
	Groups(f func(group tcpip.Address, joins uint64))
}

// groups returns the groups that were joined at an interface, in order.
func (n *Network) groups(i Interface, protocol tcpip.NetworkProtocolNumber) []joined {
	end, err := n.Stack().GetNetworkEndpoint(tcpip.NICID(i.Index), protocol)
	if err != nil {
		return nil
	}
	var list []joined
	if g, ok := end.(grouped); ok {
		g.Groups(func(group tcpip.Address, joins uint64) { list = append(list, joined{group.AsSlice(), joins}) })
	}
	slices.SortFunc(list, func(a, b joined) int { return bytes.Compare(a.address, b.address) })
	return list
}

func (n *Network) procGroups() string {
	var b strings.Builder
	b.WriteString("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n")
	for _, i := range n.Interfaces() {
		groups := n.groups(i, ipv4.ProtocolNumber)
		if len(groups) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%d\t%-10s: %5d %7s\n", i.Index, i.Name, len(groups), "V3")
		for _, g := range groups {
			fmt.Fprintf(&b, "\t\t\t\t%08X %5d 0:00000000\t\t0\n", binary.LittleEndian.Uint32(g.address), g.users)
		}
	}
	return b.String()
}

// Flags of a group in igmp6: whether reports were sent, or none ever are.
const (
	groupLoaded   = 4
	groupNoReport = 8
)

func (n *Network) procGroups6() string {
	var b strings.Builder
	for _, i := range n.Interfaces() {
		for _, g := range n.groups(i, ipv6.ProtocolNumber) {
			flags := groupLoaded
			if tcpip.AddrFromSlice(g.address) == header.IPv6AllNodesMulticastAddress {
				flags |= groupNoReport
			}
			fmt.Fprintf(&b, "%-4d %-15s %x %5d %08X 0\n", i.Index, i.Name, g.address, g.users, flags)
		}
	}
	return b.String()
}

// procGroupsLink tells the groups' addresses on links that have any: several groups may share one.
func (n *Network) procGroupsLink() string {
	var b strings.Builder
	for _, i := range n.Interfaces() {
		if len(i.MAC) == 0 || i.Loopback {
			continue
		}
		users := map[tcpip.LinkAddress]int{}
		for _, g := range n.groups(i, ipv4.ProtocolNumber) {
			users[header.EthernetAddressFromMulticastIPv4Address(tcpip.AddrFromSlice(g.address))]++
		}
		for _, g := range n.groups(i, ipv6.ProtocolNumber) {
			users[header.EthernetAddressFromMulticastIPv6Address(tcpip.AddrFromSlice(g.address))]++
		}
		links := make([]string, 0, len(users))
		for link, count := range users {
			links = append(links, fmt.Sprintf("%-4d %-15s %-5d %-5d %x\n", i.Index, i.Name, count, 0, string(link)))
		}
		slices.Sort(links)
		b.WriteString(strings.Join(links, ""))
	}
	return b.String()
}
