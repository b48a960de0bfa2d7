package netlink

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

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
		return changeAddress(n, typ, flags, body)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return changeRoute(n, typ, flags, body)
	case unix.RTM_NEWLINK, unix.RTM_SETLINK:
		return changeLink(n, flags, body)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return changeNeighbour(n, typ, body)
	}
	return unix.EOPNOTSUPP
}

func changeAddress(n *inet.Network, typ, flags uint16, body []byte) unix.Errno {
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
	old, has := addressAt(n, nic, address)
	if typ == unix.RTM_DELADDR {
		if has && list[unix.IFA_ADDRESS] == nil { // whatever its prefix is
			a = old.AddressWithPrefix
		}
		return errnoOf(n.RemoveAddress(nic, a))
	}
	about := inet.AddressInfo{Label: unix.ByteSliceToString(list[unix.IFA_LABEL]), Scope: body[3]}
	if len(about.Label) >= unix.IFNAMSIZ {
		return unix.ERANGE
	}
	if family == unix.AF_INET6 {
		about.Scope = inet.ScopeOf(address)
	}
	if b := list[unix.IFA_BROADCAST]; b != nil {
		if about.Broadcast, errno = addressOf(b, family); errno != 0 {
			return errno
		}
	}
	if has && flags&unix.NLM_F_REPLACE != 0 && flags&unix.NLM_F_EXCL == 0 && old.AddressWithPrefix == a {
		return 0 // what could be new, lifetimes, is not kept
	}
	return errnoOf(n.AddAddressWith(nic, a, about))
}

// addressAt looks for an address of an interface, or of any if nic is 0.
func addressAt(n *inet.Network, nic tcpip.NICID, address tcpip.Address) (inet.Address, bool) {
	for _, i := range n.Interfaces() {
		for _, a := range i.Addresses {
			if (nic == 0 || nic == tcpip.NICID(i.Index)) && a.AddressWithPrefix.Address == address {
				return a, true
			}
		}
	}
	return inet.Address{}, false
}

const nextHopObject = 30 // RTA_NH_ID

// parseRoute reads a struct rtmsg and what follows it: EINVAL, EAFNOSUPPORT, EOPNOTSUPP.
func parseRoute(body []byte) (r inet.Route, list map[uint16][]byte, errno unix.Errno) {
	if len(body) < unix.SizeofRtMsg {
		return r, nil, unix.EINVAL
	}
	family, prefix := body[0], int(body[1])
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return r, nil, unix.EAFNOSUPPORT
	}
	list = attributes(body[unix.SizeofRtMsg:])
	to := make([]byte, 4)
	if family == unix.AF_INET6 {
		to = make([]byte, 16)
	}
	if b := list[unix.RTA_DST]; b != nil {
		to = b
	}
	address, errno := addressOf(to, family)
	if errno != 0 || prefix > address.BitLen() {
		return r, nil, unix.EINVAL
	}
	r.Destination = tcpip.AddressWithPrefix{Address: address, PrefixLen: prefix}.Subnet()
	if family == unix.AF_INET && r.Destination.ID() != address {
		return r, nil, unix.EINVAL // bits beyond the prefix
	}
	r.Table, r.Protocol, r.Scope, r.Kind = uint32(body[4]), body[5], body[6], body[7]
	if b := list[unix.RTA_GATEWAY]; b != nil {
		if r.Gateway, errno = addressOf(b, family); errno != 0 {
			return r, nil, errno
		}
	}
	if b := list[unix.RTA_PREFSRC]; b != nil {
		if r.SourceHint, errno = addressOf(b, family); errno != 0 {
			return r, nil, errno
		}
	}
	number := func(typ uint16) (v uint32) {
		if b := list[typ]; len(b) >= 4 {
			v = binary.LittleEndian.Uint32(b)
		}
		return v
	}
	r.NIC, r.Metric = tcpip.NICID(number(unix.RTA_OIF)), number(unix.RTA_PRIORITY)
	if table := number(unix.RTA_TABLE); table != 0 {
		r.Table = table
	}
	if b := attributes(list[unix.RTA_METRICS])[unix.RTAX_MTU]; len(b) >= 4 {
		r.MTU = binary.LittleEndian.Uint32(b)
	}
	if list[unix.RTA_MULTIPATH] != nil || list[nextHopObject] != nil || list[unix.RTA_ENCAP] != nil {
		return r, nil, unix.EOPNOTSUPP
	}
	return r, list, 0
}

func changeRoute(n *inet.Network, typ, flags uint16, body []byte) unix.Errno {
	r, list, errno := parseRoute(body)
	if errno != 0 {
		return errno
	}
	_, metric := list[unix.RTA_PRIORITY]
	if typ == unix.RTM_DELROUTE {
		if !n.RemoveRoute(func(t inet.Route) bool {
			return t.Destination.Equal(r.Destination) && (t.Table == r.Table || r.Table == unix.RT_TABLE_UNSPEC && t.Table == unix.RT_TABLE_MAIN) &&
				(r.NIC == 0 || t.NIC == r.NIC) && (r.Gateway.Len() == 0 || t.Gateway == r.Gateway) && (!metric || t.Metric == r.Metric) &&
				(r.SourceHint.Len() == 0 || t.SourceHint == r.SourceHint) && (r.Kind == unix.RTN_UNSPEC || t.Kind == r.Kind) &&
				(r.Protocol == unix.RTPROT_UNSPEC || t.Protocol == r.Protocol) &&
				(r.Scope == unix.RT_SCOPE_NOWHERE || r.Family() == unix.AF_INET6 || t.Scope == r.Scope)
		}) {
			return unix.ESRCH
		}
		return 0
	}
	switch r.Kind {
	case unix.RTN_UNSPEC, unix.RTN_UNICAST:
		if errno := fits(n, &r, body[8]); errno != 0 {
			return errno
		}
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW: // which lead nowhere
	default:
		return unix.EOPNOTSUPP
	}
	r.Complete()
	there := func(t inet.Route) bool { return t.SameKey(&r) }
	has := slices.ContainsFunc(n.Routes(), there)
	switch {
	case has && flags&unix.NLM_F_REPLACE != 0:
		n.RemoveRoute(there)
	case has && flags&unix.NLM_F_EXCL != 0:
		return unix.EEXIST
	case !has && flags&unix.NLM_F_CREATE == 0:
		return unix.ENOENT
	}
	return errnoOf(n.AddRoute(r))
}

// fits says what is wrong with a route that a program wants: EINVAL, ENODEV, ENETDOWN, ENETUNREACH.
func fits(n *inet.Network, r *inet.Route, flags byte) unix.Errno {
	if r.NIC == 0 && r.Gateway.Len() == 0 {
		return unix.ENODEV
	}
	for _, i := range n.Interfaces() {
		if r.NIC == tcpip.NICID(i.Index) && !i.Up {
			return unix.ENETDOWN
		}
	}
	if r.SourceHint.Len() != 0 {
		if _, ours := addressAt(n, 0, r.SourceHint); !ours {
			return unix.EINVAL
		}
	}
	if r.Gateway.Len() != 0 && flags&unix.RTNH_F_ONLINK == 0 {
		if through, ok := n.Lookup(r.Gateway, r.NIC); !ok || through.Gateway.Len() != 0 {
			return unix.ENETUNREACH
		}
	}
	return 0
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
			a.putAddress(n, e.Type, 0, &i, e.Address)
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if group = groupRoute4; e.Route.Family() == unix.AF_INET6 {
				group = groupRoute6
			}
			a.putRoute(e.Type, 0, &e.Route)
		}
	}
	for _, m := range a.parts() {
		announce(group, m)
	}
}
