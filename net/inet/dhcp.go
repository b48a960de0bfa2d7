package inet

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/klog"
	"elver/kernel/mm"
)

// DHCP: RFC 2131, with the options of RFC 2132.
const (
	dhcpServerPort, dhcpClientPort = 67, 68
	dhcpMagic                      = 0x63825363
	dhcpFixed                      = 236 // bytes before the magic number
	dhcpSmallest                   = 300 // what a relay of old wants a message to be

	optionMask, optionRouter, optionDNS   = 1, 3, 6
	optionHost, optionDomain              = 12, 15
	optionAddress, optionLease            = 50, 51
	optionType, optionServer, optionWants = 53, 54, 55
	optionSearch                          = 119 // RFC 3397
	optionEnd                             = 255

	dhcpDiscover, dhcpOffer, dhcpRequest, dhcpAck, dhcpNak = 1, 2, 3, 5, 6
)

// Lease is what an interface is configured with.
type Lease struct {
	Address  tcpip.AddressWithPrefix
	Gateway  tcpip.Address // empty: none
	DNS      []tcpip.Address
	Hostname string
	Domain   string
	Search   []string      // domains that names without one are looked up in; none: Domain
	Duration time.Duration // 0: for ever

	server tcpip.Address
}

// Tries of an exchange: the time to wait for an answer doubles from the first.
const (
	dhcpTries     = 5
	dhcpFirstWait = time.Second
)

var errNoAnswer = errors.New("no DHCP server answers")

// dhcpClient exchanges messages for an interface without an address.
type dhcpClient struct {
	network  *Network
	nic      tcpip.NICID
	mac      tcpip.LinkAddress
	id       uint32
	endpoint tcpip.Endpoint
	queue    waiter.Queue
	renew    bool
}

// AskDHCP asks for an address for the interface; renew, if not nil, is the lease to go on with.
func (n *Network) AskDHCP(nic tcpip.NICID, renew *Lease) (*Lease, error) {
	c := &dhcpClient{network: n, nic: nic, mac: n.Stack().NICInfo()[nic].LinkAddress, id: rand.Uint32()}
	endpoint, err := n.Stack().NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &c.queue)
	if err != nil {
		return nil, errnoOf(err)
	}
	defer endpoint.Close()
	c.endpoint = endpoint
	endpoint.SocketOptions().SetReuseAddress(true)
	endpoint.SocketOptions().SetBroadcast(true)
	if err := endpoint.SocketOptions().SetBindToDevice(int32(nic)); err != nil {
		return nil, errnoOf(err)
	}
	if err := endpoint.Bind(tcpip.FullAddress{Port: dhcpClientPort}); err != nil {
		return nil, errnoOf(err)
	}
	if c.renew = renew != nil; c.renew {
		return c.exchange(dhcpRequest, renew, dhcpAck)
	}
	offer, failed := c.exchange(dhcpDiscover, nil, dhcpOffer)
	if failed != nil {
		return nil, failed
	}
	return c.exchange(dhcpRequest, offer, dhcpAck)
}

// exchange sends a message until the answer of that type comes. EADDRNOTAVAIL when the server refuses.
func (c *dhcpClient) exchange(typ byte, about *Lease, want byte) (*Lease, error) {
	e, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	c.queue.EventRegister(&e)
	defer c.queue.EventUnregister(&e)
	wait := dhcpFirstWait
	for range dhcpTries {
		if err := c.send(typ, about); err != nil {
			return nil, err
		}
		over := time.NewTimer(wait)
		for waiting := true; waiting; {
			l, typ := c.receive()
			switch {
			case l != nil && typ == want && c.fits(l, about):
				over.Stop()
				return l, nil
			case l != nil && typ == dhcpNak && about != nil && (c.renew || l.server == about.server):
				over.Stop()
				return nil, unix.EADDRNOTAVAIL
			case l != nil: // and who sends many of these doesn't hold us up
				select {
				case <-over.C:
					waiting = false
				default:
				}
				continue
			}
			select {
			case <-ready:
			case <-over.C:
				waiting = false
			}
		}
		wait *= 2
	}
	return nil, errNoAnswer
}

// fits says whether an offer, or with about what confirms that, can be used: it is from the server that was
// chosen, of the same address, and that is one that a machine may have. Another server may take a lease over
// that is renewed.
func (c *dhcpClient) fits(l, about *Lease) bool {
	a := l.Address.Address
	if a.Unspecified() || a == header.IPv4Broadcast || header.IsV4MulticastAddress(a) || header.IsV4LoopbackAddress(a) || l.server.Len() == 0 {
		return false
	}
	return about == nil || a == about.Address.Address && (c.renew || l.server == about.server)
}

// send broadcasts a message. It goes past UDP and IP, which have no source address yet.
func (c *dhcpClient) send(typ byte, about *Lease) error {
	m := make([]byte, dhcpFixed, dhcpSmallest)
	m[0], m[1], m[2] = 1, 1, header.EthernetAddressSize // a request, over Ethernet
	binary.BigEndian.PutUint32(m[4:], c.id)
	m[10] = 0x80 // answers are to be broadcast
	copy(m[28:], c.mac)
	m = binary.BigEndian.AppendUint32(m, dhcpMagic)
	m = append(m, optionType, 1, typ)
	switch {
	case c.renew: // as to all servers, of which the one that gave the lease answers if it can (RFC 2131, 4.3.2)
		copy(m[12:], about.Address.Address.AsSlice())
	case about != nil:
		m = append(append(m, optionAddress, 4), about.Address.Address.AsSlice()...)
		m = append(append(m, optionServer, 4), about.server.AsSlice()...)
	}
	m = append(m, optionWants, 7, optionMask, optionRouter, optionDNS, optionHost, optionDomain, optionSearch, optionLease, optionEnd)
	m = append(m, make([]byte, max(dhcpSmallest-len(m), 0))...)

	p := make([]byte, header.IPv4MinimumSize+header.UDPMinimumSize, header.IPv4MinimumSize+header.UDPMinimumSize+len(m))
	p = append(p, m...)
	ip := header.IPv4(p)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(p)), TTL: 64, Protocol: uint8(udp.ProtocolNumber),
		SrcAddr: header.IPv4Any, DstAddr: header.IPv4Broadcast,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	// A checksum of zero is none (RFC 768).
	header.UDP(p[header.IPv4MinimumSize:]).Encode(&header.UDPFields{
		SrcPort: dhcpClientPort, DstPort: dhcpServerPort, Length: uint16(header.UDPMinimumSize + len(m)),
	})
	return errnoOf(c.network.Stack().WritePacketToRemote(c.nic, header.EthernetBroadcastAddress, ipv4.ProtocolNumber, buffer.MakeWithData(p)))
}

// receive takes the next message that is an answer to us: nil if there is none now.
func (c *dhcpClient) receive() (*Lease, byte) {
	for {
		p := make([]byte, 1500)
		b := mm.KernelBuffer(p)
		r, err := c.endpoint.Read(&sink{Buffer: &b}, tcpip.ReadOptions{})
		if err != nil {
			return nil, 0
		}
		if l, typ, ok := parseDHCP(p[:r.Count], c.id); ok {
			return l, typ
		}
	}
}

// parseDHCP reads an answer: not ok for one to somebody else, or broken.
func parseDHCP(p []byte, id uint32) (l *Lease, typ byte, ok bool) {
	if len(p) < dhcpFixed+4 || p[0] != 2 || binary.BigEndian.Uint32(p[4:]) != id || binary.BigEndian.Uint32(p[dhcpFixed:]) != dhcpMagic {
		return nil, 0, false
	}
	l = &Lease{Address: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte(p[16:20])), PrefixLen: 24}}
	var search []byte
	for p = p[dhcpFixed+4:]; len(p) > 0 && p[0] != optionEnd; {
		if p[0] == 0 { // a pad
			p = p[1:]
			continue
		}
		if len(p) < 2 || len(p) < 2+int(p[1]) {
			return nil, 0, false
		}
		option, value := p[0], p[2:2+int(p[1])]
		p = p[2+len(value):]
		switch {
		case option == optionType && len(value) == 1:
			typ = value[0]
		case option == optionMask && len(value) == 4:
			l.Address.PrefixLen = tcpip.MaskFromBytes(value).Prefix()
		case option == optionRouter && len(value) >= 4 && [4]byte(value) != [4]byte{}:
			l.Gateway = tcpip.AddrFrom4([4]byte(value))
		case option == optionDNS:
			for ; len(value) >= 4; value = value[4:] {
				l.DNS = append(l.DNS, tcpip.AddrFrom4([4]byte(value)))
			}
		case option == optionHost:
			l.Hostname = dhcpName(value)
		case option == optionDomain:
			l.Domain = dhcpName(value)
		case option == optionSearch: // a long list comes in several of them
			search = append(search, value...)
		case option == optionLease && len(value) == 4:
			if seconds := binary.BigEndian.Uint32(value); seconds != ^uint32(0) {
				l.Duration = time.Duration(seconds) * time.Second
			}
		case option == optionServer && len(value) == 4:
			l.server = tcpip.AddrFrom4([4]byte(value))
		}
	}
	l.Search = searchList(search)
	return l, typ, typ != 0
}

// mostSearched is how many domains of a search list are used: names that share their ends take two bytes each.
const mostSearched = 32

// searchList reads a list of domains (RFC 3397), up to the first that is broken or no name of a host's.
func searchList(b []byte) (names []string) {
	for at := 0; at < len(b) && len(names) < mostSearched; {
		name, end := domain(b, at)
		if name = dhcpName([]byte(name)); name == "" {
			break
		}
		names = append(names, name)
		at = end
	}
	return names
}

// domain reads a domain name as in messages of DNS (RFC 1035, 4.1.4), and returns where it ends: nothing if it is broken.
func domain(b []byte, at int) (name string, end int) {
	const longest = 253
	for least := at; at < len(b) && len(name) <= longest+1; {
		size := int(b[at])
		switch {
		case size == 0:
			if end == 0 {
				end = at + 1
			}
			return strings.TrimSuffix(name, "."), end
		case size < 64 && at+1+size <= len(b):
			name += string(b[at+1:at+1+size]) + "."
			at += 1 + size
		case size >= 0xc0 && at+2 <= len(b):
			if end == 0 {
				end = at + 2
			}
			// The rest is that of a name before: so this ends.
			if at = (size&0x3f)<<8 | int(b[at+1]); at >= least {
				return "", 0
			}
			least = at
		default:
			return "", 0
		}
	}
	return "", 0
}

// Configure gives the interface the lease's address and routes.
func (n *Network) Configure(nic tcpip.NICID, l *Lease) error {
	if err := n.AddAddress(nic, l.Address); err != nil {
		return err
	}
	if l.Gateway.Len() != 0 {
		return n.AddRoute(Route{Route: tcpip.Route{Destination: header.IPv4EmptySubnet, Gateway: l.Gateway, NIC: nic}})
	}
	return nil
}

// dhcpName returns a name that a server gave, or nothing if it isn't one: it goes into files of lines.
func dhcpName(value []byte) string {
	name := strings.TrimRight(string(value), "\x00")
	for _, c := range []byte(name) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return ""
		}
	}
	return name
}

// shortestRenewal keeps a server that gives leases for seconds from having us ask all the time.
const shortestRenewal = 10 * time.Second

// KeepLease renews a lease for ever, the first time when half of it is over, then when half of the rest is. When
// it ends without an answer, or the server wants it back, the address is given up and another one asked for.
func (n *Network) KeepLease(nic tcpip.NICID, l *Lease) {
	for l.Duration > 0 {
		end := time.Now().Add(l.Duration)
		var renewed *Lease
		var err error
		for rest := l.Duration; renewed == nil && rest > 0 && err != unix.EADDRNOTAVAIL; rest = time.Until(end) {
			time.Sleep(max(rest/2, shortestRenewal))
			renewed, err = n.AskDHCP(nic, l)
		}
		if renewed != nil {
			l = renewed
			continue
		}
		klog.Warnf("the lease of %v is over: %v", l.Address, err)
		n.RemoveAddress(nic, l.Address)
		n.RemoveRoutes(func(r Route) bool { return r.NIC == nic && l.Gateway.Len() != 0 && r.Gateway == l.Gateway })
		for {
			if renewed, err = n.AskDHCP(nic, nil); err == nil {
				break
			}
			time.Sleep(shortestRenewal)
		}
		if l = renewed; n.Configure(nic, l) != nil {
			return
		}
	}
}
