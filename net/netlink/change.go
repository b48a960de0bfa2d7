package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"elver/net/inet"
)

// The kinds of a message of rtnetlink come by fours: NEW, DEL, GET and SET.
const typeGet = 2

// Groups of rtnetlink (RTNLGRP_*).
const (
	groupLink     = 1
	groupAddress4 = 5
	groupRoute4   = 7
	groupAddress6 = 9
	groupRoute6   = 11
)

// attributes returns the struct rtattrs of b by their types, at most the last of each.
func attributes(b []byte) map[uint16][]byte {
	list := map[uint16][]byte{}
	for len(b) >= 4 {
		n := int(binary.LittleEndian.Uint16(b))
		if n < 4 || n > len(b) {
			break
		}
		list[binary.LittleEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = b[4:n]
		b = b[min((n+3)&^3, len(b)):]
	}
	return list
}

// addressOf makes an address of an attribute: EINVAL if it isn't of the family.
func addressOf(b []byte, family byte) (tcpip.Address, unix.Errno) {
	switch {
	case family == unix.AF_INET && len(b) == 4:
		return tcpip.AddrFrom4([4]byte(b)), 0
	case family == unix.AF_INET6 && len(b) == 16:
		return tcpip.AddrFrom16([16]byte(b)), 0
	}
	return tcpip.Address{}, unix.EINVAL
}

func errnoOf(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EINVAL
}

// change serves the requests that change something: EOPNOTSUPP for those that nothing here can do.
func change(n *inet.Network, typ, flags uint16, body []byte) unix.Errno {
	switch typ {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return changeAddress(n, typ, body)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return changeRoute(n, typ, flags, body)
	case unix.RTM_NEWLINK, unix.RTM_SETLINK:
		return changeLink(n, flags, body)
	}
	return unix.EOPNOTSUPP
}

func changeAddress(n *inet.Network, typ uint16, body []byte) unix.Errno {
	if len(body) < unix.SizeofIfAddrmsg {
		return unix.EINVAL
	}
	family, prefix, nic := body[0], int(body[1]), tcpip.NICID(binary.LittleEndian.Uint32(body[4:]))
	list := attributes(body[unix.SizeofIfAddrmsg:])
	raw := list[unix.IFA_LOCAL]
	if raw == nil {
		raw = list[unix.IFA_ADDRESS]
	}
	address, errno := addressOf(raw, family)
	if errno != 0 {
		return errno
	}
	if prefix > address.BitLen() {
		return unix.EINVAL
	}
	a := tcpip.AddressWithPrefix{Address: address, PrefixLen: prefix}
	if typ == unix.RTM_NEWADDR {
		return errnoOf(n.AddAddress(nic, a))
	}
	return errnoOf(n.RemoveAddress(nic, a))
}

func changeRoute(n *inet.Network, typ, flags uint16, body []byte) unix.Errno {
	if len(body) < unix.SizeofRtMsg {
		return unix.EINVAL
	}
	family, prefix := body[0], int(body[1])
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return unix.EAFNOSUPPORT
	}
	list := attributes(body[unix.SizeofRtMsg:])
	to := make([]byte, 4)
	if family == unix.AF_INET6 {
		to = make([]byte, 16)
	}
	if b := list[unix.RTA_DST]; b != nil {
		to = b
	}
	address, errno := addressOf(to, family)
	if errno != 0 || prefix > address.BitLen() {
		return unix.EINVAL
	}
	r := tcpip.Route{Destination: tcpip.AddressWithPrefix{Address: address, PrefixLen: prefix}.Subnet()}
	if b := list[unix.RTA_GATEWAY]; b != nil {
		if r.Gateway, errno = addressOf(b, family); errno != 0 {
			return errno
		}
	}
	if b := list[unix.RTA_OIF]; len(b) >= 4 {
		r.NIC = tcpip.NICID(binary.LittleEndian.Uint32(b))
	}
	same := func(t tcpip.Route) bool { return t.Destination.Equal(r.Destination) }
	if typ == unix.RTM_DELROUTE {
		if n.RemoveRoutes(func(t tcpip.Route) bool {
			return same(t) && (r.NIC == 0 || t.NIC == r.NIC) && (r.Gateway.Len() == 0 || t.Gateway == r.Gateway)
		}) == 0 {
			return unix.ESRCH
		}
		return 0
	}
	if r.NIC == 0 && r.Gateway.Len() == 0 {
		return unix.ENODEV
	}
	if flags&unix.NLM_F_REPLACE != 0 {
		n.RemoveRoutes(same)
	}
	return errnoOf(n.AddRoute(r))
}

// changeLink puts an interface up or down, or changes its MTU. Links cannot be made.
func changeLink(n *inet.Network, flags uint16, body []byte) unix.Errno {
	if len(body) < unix.SizeofIfInfomsg {
		return unix.EINVAL
	}
	nic := tcpip.NICID(binary.LittleEndian.Uint32(body[4:]))
	list := attributes(body[unix.SizeofIfInfomsg:])
	if nic == 0 {
		name := unix.ByteSliceToString(list[unix.IFLA_IFNAME])
		for _, i := range n.Interfaces() {
			if i.Name == name {
				nic = tcpip.NICID(i.Index)
			}
		}
	}
	if !n.Stack().HasNIC(nic) {
		if flags&unix.NLM_F_CREATE != 0 {
			return unix.EOPNOTSUPP
		}
		return unix.ENODEV
	}
	if b := list[unix.IFLA_MTU]; len(b) >= 4 {
		mtu := binary.LittleEndian.Uint32(b)
		if mtu < 68 || mtu > 65536 || n.Stack().SetNICMTU(nic, mtu) != nil {
			return unix.EINVAL
		}
	}
	value, mask := binary.LittleEndian.Uint32(body[8:]), binary.LittleEndian.Uint32(body[12:])
	if mask&unix.IFF_UP != 0 {
		return errnoOf(n.SetUp(nic, value&unix.IFF_UP != 0))
	}
	return 0
}

// way answers for the route to one address (ip route get).
func (a *answer) way(n *inet.Network, body []byte) {
	if len(body) < unix.SizeofRtMsg {
		a.fail(unix.EINVAL)
		return
	}
	family := body[0]
	to, errno := addressOf(attributes(body[unix.SizeofRtMsg:])[unix.RTA_DST], family)
	if errno != 0 {
		a.fail(errno)
		return
	}
	protocol := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
	if family == unix.AF_INET6 {
		protocol = 0x86dd
	}
	r, err := n.Stack().FindRoute(0, tcpip.Address{}, to, protocol, false)
	if err != nil {
		a.fail(unix.ENETUNREACH)
		return
	}
	defer r.Release()
	a.message(unix.RTM_NEWROUTE, 0, func(b []byte) []byte {
		kind, nic := byte(unix.RTN_UNICAST), r.NICID()
		if n.Stack().CheckLocalAddress(0, protocol, to) != 0 {
			kind = unix.RTN_LOCAL
		}
		b = append(b, family, byte(to.BitLen()), 0, 0, unix.RT_TABLE_MAIN, 0, 0, kind, 0, 2, 0, 0) // RTM_F_CLONED
		b = attribute(b, unix.RTA_DST, to.AsSlice())
		b = attribute32(b, unix.RTA_OIF, int(nic))
		source := r.LocalAddress()
		b = attribute(b, unix.RTA_PREFSRC, source.AsSlice())
		if next := r.NextHop(); next.Len() != 0 && next != to {
			b = attribute(b, unix.RTA_GATEWAY, next.AsSlice())
		}
		return b
	})
}

// States of neighbours (linux/neighbour.h).
const (
	neighbourReachable = 0x02
	neighbourFailed    = 0x20
)

func (a *answer) neighbours(n *inet.Network, family byte) {
	for _, i := range n.Interfaces() {
		for f, protocol := range map[byte]tcpip.NetworkProtocolNumber{unix.AF_INET: ipv4.ProtocolNumber, unix.AF_INET6: 0x86dd} {
			if family != unix.AF_UNSPEC && family != f {
				continue
			}
			list, err := n.Stack().Neighbors(tcpip.NICID(i.Index), protocol)
			if err != nil {
				continue
			}
			for _, e := range list {
				a.message(unix.RTM_NEWNEIGH, unix.NLM_F_MULTI, func(b []byte) []byte {
					state := byte(neighbourReachable)
					if len(e.LinkAddr) == 0 {
						state = neighbourFailed
					}
					b = append(b, f, 0, 0, 0)
					b = binary.LittleEndian.AppendUint32(b, uint32(i.Index))
					b = append(b, state, 0, 0, unix.RTN_UNICAST)
					b = attribute(b, unix.NDA_DST, e.Addr.AsSlice())
					if len(e.LinkAddr) > 0 {
						b = attribute(b, unix.NDA_LLADDR, []byte(e.LinkAddr))
					}
					return b
				})
			}
		}
	}
}

// Announce tells the sockets in its group of a change of n.
func Announce(n *inet.Network, e inet.Event) {
	a := answer{request: make([]byte, sizeofHeader)}
	group := uint32(groupLink)
	for _, i := range n.Interfaces() {
		if i.Index != e.Interface {
			continue
		}
		switch e.Type {
		case unix.RTM_NEWLINK:
			a.putLink(&i, 0)
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if group = groupAddress4; familyOf(e.Address.AddressWithPrefix.Address) == unix.AF_INET6 {
				group = groupAddress6
			}
			a.putAddress(e.Type, 0, &i, e.Address)
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if group = groupRoute4; familyOf(e.Route.Destination.ID()) == unix.AF_INET6 {
				group = groupRoute6
			}
			a.putRoute(e.Type, 0, &e.Route)
		}
	}
	for _, m := range a.parts() {
		announce(group, m)
	}
}
