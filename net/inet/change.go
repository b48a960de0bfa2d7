package inet

import (
	"bytes"
	"encoding/binary"
	"slices"

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
	Address   tcpip.ProtocolAddress
	Route     tcpip.Route
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

// AddAddress gives an interface an address, and the machine the route to its subnet: EEXIST, ENODEV.
func (n *Network) AddAddress(nic tcpip.NICID, a tcpip.AddressWithPrefix) error {
	p := tcpip.ProtocolAddress{Protocol: protocolOf(a.Address), AddressWithPrefix: a}
	if err := n.Stack().AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
		return errnoOf(err)
	}
	n.tell(Event{Type: unix.RTM_NEWADDR, Interface: int(nic), Address: p})
	if a.PrefixLen < a.Address.BitLen() {
		if err := n.AddRoute(tcpip.Route{Destination: a.Subnet(), NIC: nic}); err != nil && err != unix.EEXIST {
			return err
		}
	}
	return nil
}

// RemoveAddress undoes AddAddress: EADDRNOTAVAIL, ENODEV.
func (n *Network) RemoveAddress(nic tcpip.NICID, a tcpip.AddressWithPrefix) error {
	if err := n.Stack().RemoveAddress(nic, a.Address); err != nil {
		if _, unknown := err.(*tcpip.ErrBadLocalAddress); unknown {
			return unix.EADDRNOTAVAIL
		}
		return errnoOf(err)
	}
	p := tcpip.ProtocolAddress{Protocol: protocolOf(a.Address), AddressWithPrefix: a}
	n.tell(Event{Type: unix.RTM_DELADDR, Interface: int(nic), Address: p})
	n.RemoveRoutes(func(r tcpip.Route) bool {
		return r.NIC == nic && r.Gateway.Len() == 0 && r.Destination.Equal(a.Subnet()) && nic != LoopbackNIC
	})
	return nil
}

// maxRoutes is how many routes there may be.
const maxRoutes = 4096

// AddRoute adds a route: EEXIST, ENODEV, ENETUNREACH for a gateway that no route leads to, ENOBUFS.
func (n *Network) AddRoute(r tcpip.Route) error {
	s := n.Stack()
	n.routesMu.Lock()
	defer n.routesMu.Unlock()
	table := s.GetRouteTable()
	if len(table) >= maxRoutes {
		return unix.ENOBUFS
	}
	if r.Gateway.Len() != 0 && r.NIC == 0 {
		at := slices.IndexFunc(table, func(t tcpip.Route) bool { return t.Gateway.Len() == 0 && t.Destination.Contains(r.Gateway) })
		if at < 0 {
			return unix.ENETUNREACH
		}
		r.NIC = table[at].NIC
	}
	for _, t := range table {
		if t.NIC == r.NIC && t.Destination.Equal(r.Destination) && t.Gateway == r.Gateway {
			return unix.EEXIST
		}
	}
	if !s.HasNIC(r.NIC) {
		return unix.ENODEV
	}
	s.AddRoute(r)
	n.tell(Event{Type: unix.RTM_NEWROUTE, Interface: int(r.NIC), Route: r})
	return nil
}

// RemoveRoutes removes the routes that match, and returns how many.
func (n *Network) RemoveRoutes(match func(tcpip.Route) bool) int {
	n.routesMu.Lock()
	defer n.routesMu.Unlock()
	var gone []tcpip.Route
	for _, t := range n.Stack().GetRouteTable() {
		if match(t) {
			gone = append(gone, t)
		}
	}
	n.Stack().RemoveRoutes(match)
	for _, r := range gone {
		n.tell(Event{Type: unix.RTM_DELROUTE, Interface: int(r.NIC), Route: r})
	}
	return len(gone)
}

// SetUp puts an interface up or down: ENODEV.
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
	if err == nil {
		n.tell(Event{Type: unix.RTM_NEWLINK, Interface: int(nic)})
	}
	return errnoOf(err)
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
	r := tcpip.Route{Destination: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte(to[4:8])), PrefixLen: prefix}.Subnet()}
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
		return n.AddRoute(r)
	}
	gone := n.RemoveRoutes(func(t tcpip.Route) bool {
		return t.Destination.Equal(r.Destination) && (r.NIC == 0 || t.NIC == r.NIC) && (r.Gateway.Len() == 0 || t.Gateway == r.Gateway)
	})
	if gone == 0 {
		return unix.ESRCH
	}
	return nil
}
