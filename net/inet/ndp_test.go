package inet

import (
	gocontext "context"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// onLink adds a card to a network, and returns what it sends and receives.
func onLink(t *testing.T, n *Network) (*channel.Endpoint, tcpip.NICID) {
	t.Helper()
	link := channel.New(16, 1500, "\x52\x54\x00\x12\x34\x56")
	nic, err := n.AddNIC("eth0", link)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Stack().RemoveNIC(nic) })
	return link, nic
}

// icmp6 makes a packet of ICMPv6.
func icmp6(from, to tcpip.Address, message header.ICMPv6) *stack.PacketBuffer {
	message.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: message, Src: from, Dst: to}))
	p := header.IPv6(make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(message)))
	p.Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(message)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: header.NDPHopLimit, SrcAddr: from, DstAddr: to,
	})
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(append(p, message...))})
}

// solicited waits for the question whether somebody has an address already, and returns it.
func solicited(t *testing.T, link *channel.Endpoint) tcpip.Address {
	t.Helper()
	c, cancel := gocontext.WithTimeout(gocontext.Background(), time.Minute)
	defer cancel()
	for {
		pkt := link.ReadContext(c)
		if pkt == nil {
			t.Fatal("nobody asks whether the address is free")
		}
		p := pkt.ToView().AsSlice()
		pkt.DecRef()
		ip := header.IPv6(p)
		if len(p) < header.IPv6MinimumSize || ip.NextHeader() != uint8(header.ICMPv6ProtocolNumber) {
			continue
		}
		if m := header.ICMPv6(ip.Payload()); m.Type() == header.ICMPv6NeighborSolicit && ip.SourceAddress() == header.IPv6Any {
			return header.NDPNeighborSolicit(m.MessageBody()).TargetAddress()
		}
	}
}

func (n *Network) has(nic tcpip.NICID, a tcpip.Address) bool {
	return slices.ContainsFunc(n.Stack().NICInfo()[nic].ProtocolAddresses, func(p tcpip.ProtocolAddress) bool {
		return p.AddressWithPrefix.Address == a
	})
}

// until waits until a condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for over := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			t.Fatal(what)
		}
	}
}

// An address that nobody claims can be used, one that somebody has isn't.
func TestDuplicateAddress(t *testing.T) {
	n := new(Network)
	n.LookForDuplicates()
	link, nic := onLink(t, n)
	a := solicited(t, link)
	if n.Stack().CheckLocalAddress(nic, ipv6.ProtocolNumber, a) != 0 {
		t.Error("the address is used before it is known to be free")
	}
	until(t, "an address that nobody else has isn't used", func() bool {
		return n.Stack().CheckLocalAddress(nic, ipv6.ProtocolNumber, a) == nic
	})

	n = new(Network)
	n.LookForDuplicates()
	link, nic = onLink(t, n)
	a = solicited(t, link)
	m := header.ICMPv6(make([]byte, header.ICMPv6NeighborAdvertMinimumSize))
	m.SetType(header.ICMPv6NeighborAdvert)
	header.NDPNeighborAdvert(m.MessageBody()).SetTargetAddress(a)
	pkt := icmp6(a, header.IPv6AllNodesMulticastAddress, m)
	link.InjectInbound(ipv6.ProtocolNumber, pkt)
	pkt.DecRef()
	until(t, "an address that somebody else has is used", func() bool { return !n.has(nic, a) })
}

// The name servers of a router are told, no more than programs look at.
func TestAdvertisedNameServers(t *testing.T) {
	n := new(Network)
	got := make(chan []string, 10)
	n.OnNameServers(func(servers []string) { got <- servers })
	link, _ := onLink(t, n)
	m := header.ICMPv6(make([]byte, header.ICMPv6HeaderSize+header.NDPRAMinimumSize))
	m.SetType(header.ICMPv6RouterAdvert)
	m = append(m, 25, 9, 0, 0, 0, 0, 1, 0)
	for _, last := range []byte{1, 2, 3, 4} {
		server := [16]byte{0xfe, 0x80, 15: last}
		if last > 1 {
			server = [16]byte{0x20, 1, 0xd, 0xb8, 15: last}
		}
		m = append(m, server[:]...)
	}
	router := tcpip.AddrFrom16([16]byte{0xfe, 0x80, 15: 99})
	pkt := icmp6(router, header.IPv6AllNodesMulticastAddress, m)
	link.InjectInbound(ipv6.ProtocolNumber, pkt)
	pkt.DecRef()
	select {
	case servers := <-got:
		if want := []string{"fe80::1%eth0", "2001:db8::2", "2001:db8::3"}; !slices.Equal(servers, want) {
			t.Errorf("name servers %q, not %q", servers, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("the name servers are not told")
	}
}
