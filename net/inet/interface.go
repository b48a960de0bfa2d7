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

// Interface is an interface of the network, as programs see it.
type Interface struct {
	Index     int
	Name      string
	MTU       int
	MAC       tcpip.LinkAddress
	Loopback  bool
	Up        bool
	Addresses []Address
	Stats     tcpip.NICStats
}

// Address is an address of an interface.
type Address struct {
	tcpip.ProtocolAddress
	AddressInfo
	// Secondary says that the interface had another address of the same subnet before: of IPv4 alone.
	Secondary bool
}

// AddressInfo is what is known of an address besides.
type AddressInfo struct {
	Label     string        // empty: the interface's name
	Broadcast tcpip.Address // empty: none
	Scope     uint8         // RT_SCOPE_*
}

// addressKey names an address of the machine's.
type addressKey struct {
	nic     tcpip.NICID
	address tcpip.Address
}

// Interfaces returns the interfaces in the order of their numbers.
func (n *Network) Interfaces() []Interface {
	var list []Interface
	for id, info := range n.Stack().NICInfo() {
		i := Interface{
			Index: int(id), Name: info.Name, MTU: int(info.MTU), MAC: info.LinkAddress, Loopback: info.Flags.Loopback, Up: info.Flags.Running,
			Stats: info.Stats,
		}
		n.mu.Lock()
		for _, p := range info.ProtocolAddresses {
			a := Address{ProtocolAddress: p}
			about, known := n.addresses[addressKey{id, p.AddressWithPrefix.Address}]
			if a.AddressInfo = about; !known {
				a.Scope = ScopeOf(p.AddressWithPrefix.Address)
			}
			a.Secondary = p.Protocol == ipv4.ProtocolNumber && slices.ContainsFunc(i.Addresses, func(b Address) bool {
				return b.AddressWithPrefix.Subnet() == p.AddressWithPrefix.Subnet()
			})
			i.Addresses = append(i.Addresses, a)
		}
		n.mu.Unlock()
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Interface) int { return a.Index - b.Index })
	return list
}

// ScopeOf returns how far an address reaches when nobody has said.
func ScopeOf(a tcpip.Address) uint8 {
	switch {
	case header.IsV4LoopbackAddress(a) || a == header.IPv6Loopback:
		return unix.RT_SCOPE_HOST
	case a.Len() == header.IPv4AddressSize:
		return unix.RT_SCOPE_UNIVERSE
	case header.IsV6LinkLocalUnicastAddress(a):
		return unix.RT_SCOPE_LINK
	}
	if isSiteLocal(a) {
		return unix.RT_SCOPE_SITE
	}
	return unix.RT_SCOPE_UNIVERSE
}

func (n *Network) byName(name string) (tcpip.NICID, bool) {
	for _, i := range n.Interfaces() {
		if i.Name == name {
			return tcpip.NICID(i.Index), true
		}
	}
	return 0, false
}

// Flags returns IFF_* of the interface.
func (i *Interface) Flags() uint32 {
	flags := uint32(0)
	if i.Up {
		flags = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	}
	if i.Loopback {
		return flags | unix.IFF_LOOPBACK
	}
	return flags | unix.IFF_BROADCAST | unix.IFF_MULTICAST
}

// Hardware returns the ARPHRD_* of the interface.
func (i *Interface) Hardware() uint16 {
	if i.Loopback {
		return unix.ARPHRD_LOOPBACK
	}
	return unix.ARPHRD_ETHER
}

// address4 returns the interface's first IPv4 address.
func (i *Interface) address4() (tcpip.AddressWithPrefix, bool) {
	for _, a := range i.Addresses {
		if a.Protocol == ipv4.ProtocolNumber {
			return a.AddressWithPrefix, true
		}
	}
	return tcpip.AddressWithPrefix{}, false
}

// broadcast4 returns the broadcast address of the first IPv4 address, 0.0.0.0 if it has none.
func (i *Interface) broadcast4() (b [4]byte) {
	for _, a := range i.Addresses {
		if a.Protocol == ipv4.ProtocolNumber {
			copy(b[:], a.Broadcast.AsSlice())
			break
		}
	}
	return b
}

// Broadcast returns the broadcast address of an IPv4 subnet.
func Broadcast(a tcpip.AddressWithPrefix) [4]byte {
	b, subnet := a.Address.As4(), a.Subnet()
	mask := subnet.Mask()
	for i, m := range mask.AsSlice() {
		b[i] |= ^m
	}
	return b
}

// AddNIC adds a link as the interface of that name, and returns its number.
func (n *Network) AddNIC(name string, link stack.LinkEndpoint) (tcpip.NICID, error) {
	s := n.Stack()
	n.mu.Lock()
	id := n.next
	n.next++
	n.mu.Unlock()
	if err := s.CreateNICWithOptions(id, link, stack.NICOptions{Name: name, DeliverLinkPackets: true, Disabled: n.unique}); err != nil {
		return 0, errnoOf(err)
	}
	if e, err := s.GetNetworkEndpoint(id, ipv6.ProtocolNumber); err == nil && n.unique {
		e.(stack.DuplicateAddressDetector).SetDADConfigurations(stack.DefaultDADConfigurations())
		if err := s.EnableNIC(id); err != nil {
			return 0, errnoOf(err)
		}
	}
	n.addLinkLocal(id)
	return id, nil
}

const (
	sizeofRequest = 40 // struct ifreq
	nameSize      = unix.IFNAMSIZ
)

// Ioctl answers the requests of netdevice(7), and those that add and remove routes: ENOTTY, ENODEV,
// EADDRNOTAVAIL, EPERM.
func (n *Network) Ioctl(c *vfs.Context, number uint32, arg uint64) (uint64, error) {
	as := c.Thread.MM()
	if number == unix.SIOCGIFCONF {
		return 0, n.configuration(c, arg)
	}
	switch number {
	case unix.SIOCGIFNAME, unix.SIOCGIFINDEX, unix.SIOCGIFFLAGS, unix.SIOCGIFADDR, unix.SIOCGIFNETMASK, unix.SIOCGIFBRDADDR,
		unix.SIOCGIFDSTADDR, unix.SIOCGIFMTU, unix.SIOCGIFHWADDR, unix.SIOCGIFMETRIC, unix.SIOCGIFTXQLEN, unix.SIOCGIFMAP:
	case unix.SIOCSIFFLAGS, unix.SIOCSIFADDR, unix.SIOCSIFNETMASK, unix.SIOCSIFBRDADDR, unix.SIOCSIFMTU, unix.SIOCSIFTXQLEN, unix.SIOCETHTOOL:
	case unix.SIOCADDRT, unix.SIOCDELRT:
		return 0, n.routeRequest(c, number, arg)
	default:
		return 0, unix.ENOTTY
	}
	var r [sizeofRequest]byte
	if _, err := as.CopyIn(r[:], arg); err != nil {
		return 0, err
	}
	list := n.Interfaces()
	at := slices.IndexFunc(list, func(i Interface) bool {
		if number == unix.SIOCGIFNAME {
			return uint32(i.Index) == binary.LittleEndian.Uint32(r[nameSize:])
		}
		name, _, _ := bytes.Cut(r[:nameSize], []byte{0})
		return i.Name == string(name)
	})
	if at < 0 {
		return 0, unix.ENODEV
	}
	i := &list[at]
	value := r[nameSize:]
	switch number {
	case unix.SIOCSIFFLAGS, unix.SIOCSIFADDR, unix.SIOCSIFNETMASK, unix.SIOCSIFBRDADDR, unix.SIOCSIFMTU, unix.SIOCSIFTXQLEN:
		return 0, n.change(c, number, i, value)
	case unix.SIOCETHTOOL:
		return 0, n.ethtool(c, i, binary.LittleEndian.Uint64(value))
	}
	a, has := i.address4()
	ipv4Value := func(b [4]byte) {
		clear(value)
		binary.LittleEndian.PutUint16(value, unix.AF_INET)
		copy(value[4:], b[:])
	}
	switch number {
	case unix.SIOCGIFADDR, unix.SIOCGIFNETMASK, unix.SIOCGIFBRDADDR, unix.SIOCGIFDSTADDR:
		if !has {
			return 0, unix.EADDRNOTAVAIL
		}
	}
	switch number {
	case unix.SIOCGIFNAME:
		clear(r[:nameSize])
		copy(r[:nameSize-1], i.Name)
	case unix.SIOCGIFINDEX:
		put32(value, i.Index)
	case unix.SIOCGIFFLAGS:
		binary.LittleEndian.PutUint16(value, uint16(i.Flags()))
	case unix.SIOCGIFADDR, unix.SIOCGIFDSTADDR:
		ipv4Value(a.Address.As4())
	case unix.SIOCGIFNETMASK:
		subnet := a.Subnet()
		mask := subnet.Mask()
		ipv4Value([4]byte(mask.AsSlice()))
	case unix.SIOCGIFBRDADDR:
		ipv4Value(i.broadcast4())
	case unix.SIOCGIFMTU:
		put32(value, i.MTU)
	case unix.SIOCGIFHWADDR:
		clear(value)
		binary.LittleEndian.PutUint16(value, i.Hardware())
		copy(value[2:8], i.MAC)
	case unix.SIOCGIFTXQLEN:
		put32(value, 1000)
	default:
		clear(value)
	}
	_, err := as.CopyOut(arg, r[:])
	return 0, err
}

// configuration answers SIOCGIFCONF: the interfaces that have an IPv4 address.
func (n *Network) configuration(c *vfs.Context, arg uint64) error {
	as := c.Thread.MM()
	room, err := as.ReadUint32(arg)
	if err != nil {
		return err
	}
	to, err := as.ReadUint64(arg + 8)
	if err != nil {
		return err
	}
	var out []byte
	for _, i := range n.Interfaces() {
		a, ok := i.address4()
		if !ok || to != 0 && len(out)+sizeofRequest > int(int32(room)) {
			continue
		}
		var r [sizeofRequest]byte
		copy(r[:nameSize-1], i.Name)
		binary.LittleEndian.PutUint16(r[nameSize:], unix.AF_INET)
		b := a.Address.As4()
		copy(r[nameSize+4:], b[:])
		out = append(out, r[:]...)
	}
	if to != 0 {
		if _, err := as.CopyOut(to, out); err != nil {
			return err
		}
	}
	return as.WriteUint32(arg, uint32(len(out)))
}
