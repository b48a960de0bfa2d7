package inet

import (
	gocontext "context"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// asked is what a server reads of a message.
type asked struct {
	id     uint32
	typ    byte
	ciaddr [4]byte
	has    map[byte][]byte
}

// dhcpNetwork is a network with a card behind which serve answers each message with any number of its own.
func dhcpNetwork(t *testing.T, serve func(a asked) [][]byte) (*Network, tcpip.NICID) {
	t.Helper()
	n := &Network{}
	link := channel.New(100, 1500, "\x52\x54\x00\x12\x34\x56")
	nic, err := n.AddNIC("eth0", link)
	if err != nil {
		t.Fatal(err)
	}
	over, stop := gocontext.WithCancel(gocontext.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			pkt := link.ReadContext(over)
			if pkt == nil {
				return
			}
			p := pkt.ToView().AsSlice()
			const before = header.IPv4MinimumSize + header.UDPMinimumSize
			if pkt.NetworkProtocolNumber == ipv4.ProtocolNumber && len(p) > before+dhcpFixed && p[9] == byte(udp.ProtocolNumber) {
				for _, m := range serve(readDHCP(p[before:])) {
					inject(link, m)
				}
			}
			pkt.DecRef()
		}
	}()
	t.Cleanup(func() { stop(); <-done; n.Stack().Close() })
	return n, nic
}

func readDHCP(p []byte) asked {
	a := asked{id: binary.BigEndian.Uint32(p[4:]), ciaddr: [4]byte(p[12:16]), has: make(map[byte][]byte)}
	for p = p[dhcpFixed+4:]; len(p) > 1 && p[0] != optionEnd; p = p[2+int(p[1]):] {
		a.has[p[0]] = p[2 : 2+int(p[1])]
	}
	if typ := a.has[optionType]; len(typ) == 1 {
		a.typ = typ[0]
	}
	return a
}

// inject broadcasts a server's message.
func inject(link *channel.Endpoint, m []byte) {
	const before = header.IPv4MinimumSize + header.UDPMinimumSize
	p := append(make([]byte, before), m...)
	ip := header.IPv4(p)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(p)), TTL: 64, Protocol: uint8(udp.ProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 2, 2}), DstAddr: header.IPv4Broadcast,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	header.UDP(p[header.IPv4MinimumSize:]).Encode(&header.UDPFields{
		SrcPort: dhcpServerPort, DstPort: dhcpClientPort, Length: uint16(header.UDPMinimumSize + len(m)),
	})
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
	defer pkt.DecRef()
	pkt.PktType = tcpip.PacketBroadcast
	link.InjectInbound(ipv4.ProtocolNumber, pkt)
}

func from(server, typ byte, a asked, more ...byte) []byte {
	return answer(a.id, append(append([]byte{optionType, 1, typ, optionServer, 4, 10, 0, 2, server}, more...), optionEnd)...)
}

func addressed(m []byte, a ...byte) []byte { copy(m[16:20], a); return m }

// The client passes over whatever is not the answer to its question, however often it comes.
func TestDHCPClient(t *testing.T) {
	n, nic := dhcpNetwork(t, func(a asked) [][]byte {
		other := a
		other.id++
		good := [][]byte{
			nil, {2}, make([]byte, 600), from(2, dhcpOffer, a)[:dhcpFixed+6], from(2, dhcpOffer, a, optionDNS, 200), from(3, dhcpNak, a),
			from(2, dhcpOffer, other), from(2, dhcpAck, other), answer(a.id, optionType, 1, dhcpOffer, optionEnd), // without a server
			addressed(from(2, dhcpOffer, a), 0, 0, 0, 0), addressed(from(2, dhcpOffer, a), 255, 255, 255, 255),
			addressed(from(2, dhcpOffer, a), 127, 0, 0, 1), addressed(from(2, dhcpOffer, a), 224, 0, 0, 1),
		}
		switch a.typ {
		case dhcpDiscover:
			good = append(good, from(3, dhcpAck, a), from(2, dhcpOffer, a))
		case dhcpRequest:
			if string(a.has[optionServer]) != "\x0a\x00\x02\x02" || string(a.has[optionAddress]) != "\x0a\x00\x02\x0f" {
				t.Errorf("it asks for %v", a.has)
			}
			good = append(good, from(3, dhcpAck, a), addressed(from(2, dhcpAck, a), 10, 0, 2, 99), from(2, dhcpOffer, a),
				from(2, dhcpAck, a, optionLease, 4, 0, 0, 0, 100, optionDomain, 5, 'a', '\n', 'b', 'c', 'd', optionHost, 2, 'v', 'm', optionRouter, 4, 0, 0, 0, 0))
		}
		return good
	})
	l, err := n.AskDHCP(nic, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Address.String() != "10.0.2.15/24" || l.Duration != 100*time.Second || l.Domain != "" || l.Hostname != "vm" || l.Gateway.Len() != 0 {
		t.Errorf("got %+v", l)
	}
}

// A lease is renewed by its address alone, and by any server; one that refuses is believed.
func TestDHCPRenewal(t *testing.T) {
	refuse := make(chan bool, 2)
	refuse <- false
	refuse <- true
	n, nic := dhcpNetwork(t, func(a asked) [][]byte {
		if a.typ != dhcpRequest || a.ciaddr != [4]byte{10, 0, 2, 15} || a.has[optionServer] != nil || a.has[optionAddress] != nil {
			t.Errorf("it asks %+v", a)
		}
		if <-refuse {
			return [][]byte{from(3, dhcpNak, a)}
		}
		return [][]byte{addressed(from(2, dhcpAck, a), 10, 0, 2, 16), from(3, dhcpAck, a, optionLease, 4, 0, 0, 1, 0)}
	})
	old := &Lease{Address: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{10, 0, 2, 15}), PrefixLen: 24}, server: tcpip.AddrFrom4([4]byte{10, 0, 2, 2})}
	if err := n.Configure(nic, old); err != nil {
		t.Fatal(err)
	}
	l, err := n.AskDHCP(nic, old)
	if err != nil || l.Duration != 256*time.Second || l.Address.Address != old.Address.Address {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := n.AskDHCP(nic, l); err != unix.EADDRNOTAVAIL {
		t.Errorf("refused: %v", err)
	}
}

func FuzzParseDHCP(f *testing.F) {
	f.Add(answer(7, optionType, 1, dhcpAck, 0, optionMask, 4, 255, 255, 0, 0, optionDNS, 8, 10, 0, 2, 3, 1, 1, 1, 1, optionHost, 2, 'v', 'm', optionEnd))
	f.Add(answer(7, optionType, 1, dhcpOffer, optionDNS, 40, 1))
	f.Fuzz(func(t *testing.T, p []byte) {
		l, typ, ok := parseDHCP(p, 7)
		if ok && (typ == 0 || l.Address.PrefixLen < 0 || l.Address.PrefixLen > 32 || l.Duration < 0 || len(l.DNS)*4 > len(p)) {
			t.Errorf("%+v", l)
		}
	})
}
