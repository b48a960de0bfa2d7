package inet

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A route that was found is found again as long as nothing has changed.
func TestRoutesFoundAgain(t *testing.T) {
	const card = 7
	s := new(Network).Stack()
	defer s.Destroy()
	if err := s.CreateNIC(card, channel.New(1, 1500, "")); err != nil {
		t.Fatal(err)
	}
	own, second, peer := tcpip.AddrFrom4([4]byte{10, 1, 0, 1}), tcpip.AddrFrom4([4]byte{10, 1, 0, 2}), tcpip.AddrFrom4([4]byte{10, 1, 0, 9})
	add := func(nic tcpip.NICID, a tcpip.Address) {
		t.Helper()
		if err := s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: a, PrefixLen: 24},
		}, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(nic tcpip.NICID, a tcpip.Address) {
		t.Helper()
		if err := s.RemoveAddress(nic, a); err != nil {
			t.Fatal(err)
		}
	}
	subnet := tcpip.AddressWithPrefix{Address: own, PrefixLen: 24}.Subnet()
	find := func(local tcpip.Address, nic tcpip.NICID, from tcpip.Address) {
		t.Helper()
		for range 3 {
			r, err := s.FindRoute(0, local, peer, ipv4.ProtocolNumber, false)
			switch {
			case err != nil && nic != 0:
				t.Fatal(err)
			case err == nil && nic == 0:
				t.Fatalf("a way leads through %d, from %v", r.NICID(), r.LocalAddress())
			case err == nil:
				if r.NICID() != nic || r.LocalAddress() != from || r.RemoteAddress() != peer || r.NetProto() != header.IPv4ProtocolNumber {
					t.Fatalf("the way leads through %d from %v to %v", r.NICID(), r.LocalAddress(), r.RemoteAddress())
				}
				r.Release()
			}
		}
	}
	any := tcpip.Address{}
	find(any, 0, any)
	add(card, own)
	find(any, 0, any)
	s.AddRoute(tcpip.Route{Destination: subnet, NIC: card})
	find(any, card, own)
	find(own, card, own)
	find(second, 0, any)
	add(card, second)
	find(second, card, second)
	remove(card, own)
	find(any, card, second)
	find(own, 0, any)
	add(card, own)
	s.SetSpoofing(card, true)
	find(peer, card, peer)
	s.SetSpoofing(card, false)
	find(peer, 0, any)
	add(LoopbackNIC, peer)
	find(own, LoopbackNIC, own)
	remove(LoopbackNIC, peer)
	find(own, card, own)
	s.DisableNIC(card)
	find(own, 0, any)
	s.EnableNIC(card)
	find(own, card, own)
	s.RemoveRoutes(func(r tcpip.Route) bool { return r.NIC == card })
	find(own, 0, any)
	s.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: card}})
	find(own, card, own)
	if err := s.RemoveNIC(card); err != nil {
		t.Fatal(err)
	}
	find(own, 0, any)
}
