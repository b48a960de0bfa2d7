package inet

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"elver/vfs"
)

// Event is a change of the network: Type is RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE or
// RTM_NEWLINK.
type Event struct {
	Type      uint16
	Interface int
	Address   Address
	Route     Route
}

// Follow has f called for each change of the network. It is called before the first.
func (n *Network) Follow(f func(Event)) { n.changed = f }

func (n *Network) tell(e Event) {
	if n.changed != nil {
		n.changed(e)
	}
}

// protocolOf returns the network protocol of an address.
func protocolOf(a tcpip.Address) tcpip.NetworkProtocolNumber {
	if a.Len() == header.IPv4AddressSize {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// AddAddress gives an interface an address with its subnet's broadcast address, and the machine the route to the subnet:
// EEXIST, ENODEV.
func (n *Network) AddAddress(nic tcpip.NICID, a tcpip.AddressWithPrefix) error {
	var about AddressInfo
	if a.Address.Len() == header.IPv4AddressSize && a.PrefixLen < 31 {
		about.Broadcast = tcpip.AddrFrom4(Broadcast(a))
	}
	return n.AddAddressWith(nic, a, about)
}

// AddAddressWith is AddAddress for who knows more about the address.
func (n *Network) AddAddressWith(nic tcpip.NICID, a tcpip.AddressWithPrefix, about AddressInfo) error {
	p := tcpip.ProtocolAddress{Protocol: protocolOf(a.Address), AddressWithPrefix: a}
	if err := n.Stack().AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
		return errnoOf(err)
	}
	n.mu.Lock()
	if n.addresses == nil {
		n.addresses = map[addressKey]AddressInfo{}
	}
	n.addresses[addressKey{nic, a.Address}] = about
	n.mu.Unlock()
	n.tellAddress(unix.RTM_NEWADDR, nic, Address{ProtocolAddress: p, AddressInfo: about})
	if p.Protocol == ipv6.ProtocolNumber { // which may not be listed yet: somebody else could have it
		if info, ok := n.Stack().SingleNICInfo(nic); ok && info.Flags.Running {
			return n.addConnected(nic, a)
		}
		return nil
	}
	return n.addConnectedTo(nic, func(b Address) bool { return b.AddressWithPrefix == a })
}

// addConnectedTo adds the routes to the subnets of those addresses of an interface that match, if it is up.
func (n *Network) addConnectedTo(nic tcpip.NICID, match func(Address) bool) error {
	for _, i := range n.Interfaces() {
		if i.Index != int(nic) || !i.Up {
			continue
		}
		for _, a := range i.Addresses {
			if a.Secondary || !match(a) {
				continue
			}
			if err := n.addConnected(nic, a.AddressWithPrefix); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellAddress tells of an address that came or went.
func (n *Network) tellAddress(typ uint16, nic tcpip.NICID, a Address) {
	n.tell(Event{Type: typ, Interface: int(nic), Address: a})
}

// RemoveAddress undoes AddAddress. With the first address of a subnet of IPv4, its others go, as on Linux unless
// promote_secondaries is set: EADDRNOTAVAIL, ENODEV.
func (n *Network) RemoveAddress(nic tcpip.NICID, a tcpip.AddressWithPrefix) error {
	var gone []Address
	left := 0 // of IPv4
	for _, i := range n.Interfaces() {
		if i.Index != int(nic) {
			continue
		}
		for _, b := range i.Addresses {
			if b.Protocol == ipv4.ProtocolNumber {
				left++
			}
			if b.AddressWithPrefix == a || len(gone) > 0 && !gone[0].Secondary && b.Secondary && b.AddressWithPrefix.Subnet() == gone[0].AddressWithPrefix.Subnet() {
				gone = append(gone, b)
			}
		}
	}
	if len(gone) == 0 {
		if !n.Stack().HasNIC(nic) {
			return unix.ENODEV
		}
		return unix.EADDRNOTAVAIL
	}
	for _, b := range gone {
		a := b.AddressWithPrefix
		if err := n.Stack().RemoveAddress(nic, a.Address); err != nil {
			if _, unknown := err.(*tcpip.ErrBadLocalAddress); unknown {
				return unix.EADDRNOTAVAIL
			}
			return errnoOf(err)
		}
		n.mu.Lock()
		delete(n.addresses, addressKey{nic, a.Address})
		n.mu.Unlock()
		n.tellAddress(unix.RTM_DELADDR, nic, b)
		if b.Protocol == ipv4.ProtocolNumber {
			left--
		}
		n.RemoveRoutes(func(r Route) bool {
			return r.SourceHint.Len() != 0 && r.SourceHint == a.Address || r.NIC == nic && left == 0 && b.Protocol == ipv4.ProtocolNumber && r.Family() == unix.AF_INET ||
				r.NIC == nic && !b.Secondary && r.Protocol == unix.RTPROT_KERNEL && r.Gateway.Len() == 0 && r.Destination.Equal(a.Subnet())
		})
	}
	return nil
}

// SetUp puts an interface up or down. Without it, there are no routes out of it; with it, those to its subnets: ENODEV.
func (n *Network) SetUp(nic tcpip.NICID, up bool) error {
	s := n.Stack()
	info, ok := s.SingleNICInfo(nic)
	if !ok {
		return unix.ENODEV
	}
	if info.Flags.Running == up { // netstack always says Up
		return nil
	}
	var err tcpip.Error
	if up {
		err = s.EnableNIC(nic)
	} else {
		err = s.DisableNIC(nic)
	}
	if err != nil {
		return errnoOf(err)
	}
	n.tell(Event{Type: unix.RTM_NEWLINK, Interface: int(nic)})
	if !up {
		n.RemoveRoutes(func(r Route) bool { return r.NIC == nic })
		return nil
	}
	if !info.Flags.Loopback {
		n.addLinkLocal(nic)
	}
	return n.addConnectedTo(nic, func(Address) bool { return true })
}

// addLinkLocal adds the route to the neighbours' addresses that IPv6 gives each of them.
func (n *Network) addLinkLocal(nic tcpip.NICID) {
	n.addConnected(nic, tcpip.AddressWithPrefix{Address: header.IPv6LinkLocalPrefix.Address, PrefixLen: header.IPv6LinkLocalPrefix.PrefixLen})
}

// change answers the requests of netdevice(7) that change something: EPERM, EINVAL, ENODEV, EADDRNOTAVAIL.
func (n *Network) change(c *vfs.Context, number uint32, i *Interface, value []byte) error {
	if !c.Creds.HasCap(unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	nic := tcpip.NICID(i.Index)
	old, has := i.address4()
	switch number {
	case unix.SIOCSIFFLAGS:
		return n.SetUp(nic, binary.LittleEndian.Uint16(value)&unix.IFF_UP != 0)
	case unix.SIOCSIFMTU:
		return n.setMTU(nic, uint64(binary.LittleEndian.Uint32(value)))
	case unix.SIOCSIFBRDADDR, unix.SIOCSIFTXQLEN:
		return nil // the one follows from the address, the other has no queue
	}
	if binary.LittleEndian.Uint16(value) != unix.AF_INET {
		return unix.EINVAL
	}
	b := [4]byte(value[4:8])
	a := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(b)}
	switch number {
	case unix.SIOCSIFADDR:
		switch { // by its class, until SIOCSIFNETMASK
		case b[0] < 128:
			a.PrefixLen = 8
		case b[0] < 192:
			a.PrefixLen = 16
		default:
			a.PrefixLen = 24
		}
	case unix.SIOCSIFNETMASK:
		if !has {
			return unix.EADDRNOTAVAIL
		}
		mask := binary.BigEndian.Uint32(b[:])
		if ^mask&(^mask+1) != 0 {
			return unix.EINVAL
		}
		a.Address, a.PrefixLen = old.Address, tcpip.MaskFromBytes(b[:]).Prefix()
	default:
		return unix.EINVAL
	}
	if has {
		if old == a {
			return nil
		}
		if err := n.RemoveAddress(nic, old); err != nil {
			return err
		}
	}
	if b == [4]byte{} {
		return nil
	}
	return n.AddAddress(nic, a)
}

const sizeofRouteEntry = 120 // struct rtentry

// routeRequest answers SIOCADDRT and SIOCDELRT: EPERM, EINVAL, ESRCH.
func (n *Network) routeRequest(c *vfs.Context, number uint32, arg uint64) error {
	as := c.Thread.MM()
	var b [sizeofRouteEntry]byte
	if _, err := as.CopyIn(b[:], arg); err != nil {
		return err
	}
	if !c.Creds.HasCap(unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	to, gateway, mask := b[8:24], b[24:40], [4]byte(b[44:48])
	flags := binary.LittleEndian.Uint16(b[56:])
	if binary.LittleEndian.Uint16(to) != unix.AF_INET {
		return unix.EAFNOSUPPORT
	}
	prefix := tcpip.MaskFromBytes(mask[:]).Prefix()
	if flags&routeHost != 0 {
		prefix = 32
	}
	var r Route
	r.Destination = tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte(to[4:8])), PrefixLen: prefix}.Subnet()
	if metric := binary.LittleEndian.Uint16(b[80:]); metric > 0 { // one more than it is
		r.Metric = uint32(metric) - 1
	}
	if flags&routeGateway != 0 {
		r.Gateway = tcpip.AddrFrom4([4]byte(gateway[4:8]))
	}
	if device := binary.LittleEndian.Uint64(b[88:]); device != 0 {
		var name [nameSize]byte
		if _, err := as.CopyIn(name[:], device); err != nil {
			return err
		}
		text, _, _ := bytes.Cut(name[:], []byte{0})
		nic, ok := n.byName(string(text))
		if !ok {
			return unix.ENODEV
		}
		r.NIC = nic
	}
	if number == unix.SIOCADDRT {
		if r.NIC == 0 && r.Gateway.Len() == 0 {
			return unix.EINVAL
		}
		if r.Gateway.Len() == 0 {
			r.Scope = unix.RT_SCOPE_LINK
		}
		return n.AddRoute(r)
	}
	gone := n.RemoveRoutes(func(t Route) bool {
		return t.Table == unix.RT_TABLE_MAIN && t.Destination.Equal(r.Destination) && (r.NIC == 0 || t.NIC == r.NIC) && (r.Gateway.Len() == 0 || t.Gateway == r.Gateway)
	})
	if gone == 0 {
		return unix.ESRCH
	}
	return nil
}
