package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"

	"elver/net/inet"
)

// answer is made for one request.
type answer struct {
	port    uint32
	request []byte
	// mayChange says that who asks has CAP_NET_ADMIN.
	mayChange bool
	uid       uint32   // of who asks
	done      [][]byte // whole datagrams
	current   []byte
}

// parts returns the datagrams of the answer.
func (a *answer) parts() [][]byte {
	if len(a.current) > 0 {
		a.done = append(a.done, a.current)
		a.current = nil
	}
	return a.done
}

// message appends a message, whose body make appends.
func (a *answer) message(typ, flags uint16, body func(b []byte) []byte) {
	if len(a.current) > datagramSize {
		a.parts()
	}
	at := len(a.current)
	b := append(a.current, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, typ)
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = append(b, a.request[8:12]...) // the sequence number
	b = binary.LittleEndian.AppendUint32(b, a.port)
	b = body(b)
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at))
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	a.current = b
}

// attribute appends a struct rtattr.
func attribute(b []byte, typ uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(4+len(value)))
	b = append(binary.LittleEndian.AppendUint16(b, typ), value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attribute32(b []byte, typ uint16, value int) []byte {
	return attribute(b, typ, binary.LittleEndian.AppendUint32(nil, uint32(value)))
}

// fail appends NLMSG_ERROR; 0 acknowledges.
func (a *answer) fail(errno unix.Errno) {
	a.message(unix.NLMSG_ERROR, 0, func(b []byte) []byte {
		return append(binary.LittleEndian.AppendUint32(b, uint32(-int32(errno))), a.request[:sizeofHeader]...)
	})
}

// serve answers the request.
func (a *answer) serve(n *inet.Network) {
	typ, flags := binary.LittleEndian.Uint16(a.request[4:]), binary.LittleEndian.Uint16(a.request[6:])
	body := a.request[sizeofHeader:]
	dump := flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	switch {
	case typ < unix.NLMSG_MIN_TYPE:
		if flags&unix.NLM_F_ACK != 0 {
			a.fail(0)
		}
		return
	case flags&unix.NLM_F_REQUEST == 0:
		return
	case len(body) < 1:
		a.fail(unix.EINVAL)
		return
	case typ == unix.RTM_GETLINK && !dump:
		a.link(n, body)
		return
	case typ == unix.RTM_GETROUTE && !dump:
		a.way(n, body)
		return
	case typ == unix.RTM_GETNEIGH && !dump:
		a.neighbour(n, body)
		return
	case typ&3 != typeGet&3 || !dump:
		errno := unix.Errno(unix.EOPNOTSUPP)
		if typ&3 != typeGet&3 {
			if errno = unix.EPERM; a.mayChange {
				errno = change(n, typ, flags, body)
			}
		}
		if errno != 0 || flags&unix.NLM_F_ACK != 0 {
			a.fail(errno)
		}
		return
	}
	family := body[0]
	switch typ {
	case unix.RTM_GETLINK:
		for _, i := range n.Interfaces() {
			a.putLink(&i, unix.NLM_F_MULTI)
		}
	case unix.RTM_GETADDR:
		for _, i := range n.Interfaces() {
			for _, address := range i.Addresses {
				if family == unix.AF_UNSPEC || family == familyOf(address.AddressWithPrefix.Address) {
					a.putAddress(n, unix.RTM_NEWADDR, unix.NLM_F_MULTI, &i, address)
				}
			}
		}
	case unix.RTM_GETROUTE:
		if len(body) >= unix.SizeofRtMsg && binary.LittleEndian.Uint32(body[8:])&unix.RTM_F_CLONED != 0 {
			break // no exceptions are kept
		}
		for _, r := range n.Routes() {
			if family == unix.AF_UNSPEC || family == r.Family() {
				a.putRoute(unix.RTM_NEWROUTE, unix.NLM_F_MULTI, &r)
			}
		}
	case unix.RTM_GETRULE:
		a.rules(family)
	case unix.RTM_GETNEIGH:
		if len(body) < 12 || body[10]&ntfProxy == 0 { // there are no proxies
			a.neighbours(n, family)
		}
	}
	// What else there is on Linux is empty here.
	a.message(unix.NLMSG_DONE, unix.NLM_F_MULTI, func(b []byte) []byte { return append(b, 0, 0, 0, 0) })
}

// link answers for the one interface that the request names: by its number, or by IFLA_IFNAME.
func (a *answer) link(n *inet.Network, body []byte) {
	if len(body) < unix.SizeofIfInfomsg {
		a.fail(unix.EINVAL)
		return
	}
	index, name := int(int32(binary.LittleEndian.Uint32(body[4:]))), ""
	for rest := body[unix.SizeofIfInfomsg:]; len(rest) >= 4; {
		length := int(binary.LittleEndian.Uint16(rest))
		if length < 4 || length > len(rest) {
			break
		}
		if binary.LittleEndian.Uint16(rest[2:]) == unix.IFLA_IFNAME {
			name = unix.ByteSliceToString(rest[4:length])
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	for _, i := range n.Interfaces() {
		if i.Index == index || index == 0 && i.Name == name {
			a.putLink(&i, 0)
			return
		}
	}
	a.fail(unix.ENODEV)
}

// States of a link (IF_OPER_*).
const (
	linkUnknown = 0
	linkDown    = 2
	linkUp      = 6
)

func (a *answer) putLink(i *inet.Interface, flags uint16) {
	a.message(unix.RTM_NEWLINK, flags, func(b []byte) []byte {
		b = append(b, unix.AF_UNSPEC, 0)
		b = binary.LittleEndian.AppendUint16(b, i.Hardware())
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Index))
		b = binary.LittleEndian.AppendUint32(b, i.Flags())
		b = append(b, 0, 0, 0, 0)
		mac, everybody := make([]byte, 6), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		copy(mac, i.MAC)
		state, carrier, least, most := byte(linkUp), byte(1), 68, 65535
		if i.Loopback {
			state, everybody, least, most = linkUnknown, make([]byte, 6), 0, 0
		}
		if !i.Up {
			state, carrier = linkDown, 0
		}
		b = attribute(b, unix.IFLA_IFNAME, append([]byte(i.Name), 0))
		b = attribute32(b, unix.IFLA_TXQLEN, 1000)
		b = attribute(b, unix.IFLA_OPERSTATE, []byte{state})
		b = attribute(b, unix.IFLA_LINKMODE, []byte{0}) // IF_LINK_MODE_DEFAULT
		b = attribute32(b, unix.IFLA_MTU, i.MTU)
		b = attribute32(b, unix.IFLA_MIN_MTU, least)
		b = attribute32(b, unix.IFLA_MAX_MTU, most)
		b = attribute32(b, unix.IFLA_GROUP, 0)
		b = attribute32(b, unix.IFLA_PROMISCUITY, 0)
		b = attribute32(b, unix.IFLA_NUM_TX_QUEUES, 1)
		b = attribute32(b, unix.IFLA_GSO_MAX_SEGS, 65535)
		b = attribute32(b, unix.IFLA_GSO_MAX_SIZE, 65536)
		b = attribute32(b, unix.IFLA_NUM_RX_QUEUES, 1)
		b = attribute(b, unix.IFLA_CARRIER, []byte{carrier})
		b = attribute(b, unix.IFLA_QDISC, []byte("noqueue\x00"))
		b = attribute(b, unix.IFLA_ADDRESS, mac)
		b = attribute(b, unix.IFLA_BROADCAST, everybody)
		if !i.Loopback {
			b = attribute(b, unix.IFLA_PERM_ADDRESS, mac)
		}
		// struct rtnl_link_stats64, and the same with 32 bits a counter but for the last one.
		counters := [25]uint64{i.Stats.Rx.Packets.Value(), i.Stats.Tx.Packets.Value(), i.Stats.Rx.Bytes.Value(), i.Stats.Tx.Bytes.Value()}
		var wide, narrow []byte
		for _, c := range counters {
			wide = binary.LittleEndian.AppendUint64(wide, c)
			narrow = binary.LittleEndian.AppendUint32(narrow, uint32(c))
		}
		b = attribute(b, unix.IFLA_STATS64, wide)
		return attribute(b, unix.IFLA_STATS, narrow[:24*4])
	})
}

// familyOf returns the AF_* of an address.
func familyOf(a tcpip.Address) byte {
	if a.Len() == 4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// forEver is a struct ifa_cacheinfo of an address that doesn't end.
var forEver = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 15: 0}

func (a *answer) putAddress(n *inet.Network, typ, flags uint16, i *inet.Interface, p inet.Address) {
	address := p.AddressWithPrefix.Address
	a.message(typ, flags, func(b []byte) []byte {
		about := byte(unix.IFA_F_PERMANENT)
		if p.Protocol == ipv6.ProtocolNumber {
			about = n.AddressFlags(tcpip.NICID(i.Index), address)
		}
		if p.Secondary {
			about |= unix.IFA_F_SECONDARY
		}
		b = append(b, familyOf(address), byte(p.AddressWithPrefix.PrefixLen), about, p.Scope)
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Index))
		b = attribute(b, unix.IFA_ADDRESS, address.AsSlice())
		if p.Protocol == ipv4.ProtocolNumber {
			b = attribute(b, unix.IFA_LOCAL, address.AsSlice())
			if p.Broadcast.Len() != 0 {
				b = attribute(b, unix.IFA_BROADCAST, p.Broadcast.AsSlice())
			}
			label := p.Label
			if label == "" {
				label = i.Name
			}
			b = attribute(b, unix.IFA_LABEL, append([]byte(label), 0))
		}
		b = attribute32(b, unix.IFA_FLAGS, int(about))
		return attribute(b, unix.IFA_CACHEINFO, forEver)
	})
}

func (a *answer) putRoute(typ, flags uint16, r *inet.Route) {
	to := r.Destination.ID()
	a.message(typ, flags, func(b []byte) []byte {
		table := byte(rtTableCompat)
		if r.Table < 256 {
			table = byte(r.Table)
		}
		prefix := r.Destination.Prefix()
		b = append(b, r.Family(), byte(prefix), 0, 0, table, r.Protocol, r.Scope, r.Kind, 0, 0, 0, 0)
		b = attribute32(b, unix.RTA_TABLE, int(r.Table))
		if prefix > 0 {
			b = attribute(b, unix.RTA_DST, to.AsSlice())
		}
		b = metric(b, r)
		b = routeMTU(b, r)
		if r.SourceHint.Len() != 0 {
			b = attribute(b, unix.RTA_PREFSRC, r.SourceHint.AsSlice())
		}
		if r.Gateway.Len() != 0 {
			b = attribute(b, unix.RTA_GATEWAY, r.Gateway.AsSlice())
		}
		if r.NIC < 0 { // it leads nowhere, of IPv6 by way of lo
			if r.Family() == unix.AF_INET {
				return b
			}
			return attribute32(b, unix.RTA_OIF, inet.LoopbackNIC)
		}
		return attribute32(b, unix.RTA_OIF, int(r.NIC))
	})
}

// rtTableCompat stands for a table whose number is too large for a struct rtmsg.
const rtTableCompat = 252

// metric appends how much a route is preferred.
func metric(b []byte, r *inet.Route) []byte {
	if r.Family() == unix.AF_INET6 {
		return attribute(attribute32(b, unix.RTA_PRIORITY, int(r.Metric)), unix.RTA_PREF, []byte{0}) // ICMPV6_ROUTER_PREF_MEDIUM
	}
	if r.Metric != 0 {
		b = attribute32(b, unix.RTA_PRIORITY, int(r.Metric))
	}
	return b
}

// routeMTU appends how long packets may be that take a route, if it says that.
func routeMTU(b []byte, r *inet.Route) []byte {
	if r.MTU == 0 {
		return b
	}
	return attribute(b, unix.RTA_METRICS, attribute32(nil, unix.RTAX_MTU, int(r.MTU)))
}

// rules tells in which tables packets look for their route: there are no rules but those that Linux begins with.
func (a *answer) rules(family byte) {
	const suppressPrefix, priority = 14, 6 // FRA_SUPPRESS_PREFIXLEN, FRA_PRIORITY
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		if family != unix.AF_UNSPEC && family != f {
			continue
		}
		for i, table := range []int{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT} {
			if f == unix.AF_INET6 && table == unix.RT_TABLE_DEFAULT {
				continue
			}
			a.message(unix.RTM_NEWRULE, unix.NLM_F_MULTI, func(b []byte) []byte {
				b = append(b, f, 0, 0, 0, byte(table), 0, 0, unix.FR_ACT_TO_TBL, 0, 0, 0, 0)
				b = attribute32(b, unix.FRA_TABLE, table)
				b = attribute32(b, suppressPrefix, -1)
				if i > 0 {
					b = attribute32(b, priority, 32765+i)
				}
				return b
			})
		}
	}
}
