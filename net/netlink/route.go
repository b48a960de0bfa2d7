package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"elver/net/inet"
)

// answer is made for one request.
type answer struct {
	port    uint32
	request []byte
	// mayChange says that who asks has CAP_NET_ADMIN.
	mayChange bool
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
					a.putAddress(unix.RTM_NEWADDR, unix.NLM_F_MULTI, &i, address)
				}
			}
		}
	case unix.RTM_GETROUTE:
		for _, r := range n.Stack().GetRouteTable() {
			if family == unix.AF_UNSPEC || family == familyOf(r.Destination.ID()) {
				a.putRoute(unix.RTM_NEWROUTE, unix.NLM_F_MULTI, &r)
			}
		}
	case unix.RTM_GETNEIGH:
		a.neighbours(n, family)
	}
	// What else there is on Linux, rules for one, is empty here.
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

func (a *answer) putLink(i *inet.Interface, flags uint16) {
	a.message(unix.RTM_NEWLINK, flags, func(b []byte) []byte {
		b = append(b, unix.AF_UNSPEC, 0)
		b = binary.LittleEndian.AppendUint16(b, i.Hardware())
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Index))
		b = binary.LittleEndian.AppendUint32(b, i.Flags())
		b = append(b, 0, 0, 0, 0)
		b = attribute(b, unix.IFLA_IFNAME, append([]byte(i.Name), 0))
		mac, everybody := make([]byte, 6), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		state := byte(6) // IF_OPER_UP
		if copy(mac, i.MAC); i.Loopback {
			everybody, state = make([]byte, 6), 0
		}
		b = attribute(b, unix.IFLA_ADDRESS, mac)
		b = attribute(b, unix.IFLA_BROADCAST, everybody)
		b = attribute32(b, unix.IFLA_MTU, i.MTU)
		b = attribute32(b, unix.IFLA_TXQLEN, 1000)
		b = attribute32(b, unix.IFLA_GROUP, 0)
		b = attribute(b, unix.IFLA_QDISC, []byte("noqueue\x00"))
		b = attribute(b, unix.IFLA_LINKMODE, []byte{0}) // IF_LINK_MODE_DEFAULT
		return attribute(b, unix.IFLA_OPERSTATE, []byte{state})
	})
}

// familyOf returns the AF_* of an address.
func familyOf(a tcpip.Address) byte {
	if a.Len() == 4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (a *answer) putAddress(typ, flags uint16, i *inet.Interface, p tcpip.ProtocolAddress) {
	address := p.AddressWithPrefix.Address
	a.message(typ, flags, func(b []byte) []byte {
		scope := byte(unix.RT_SCOPE_UNIVERSE)
		if i.Loopback {
			scope = unix.RT_SCOPE_HOST
		}
		b = append(b, familyOf(address), byte(p.AddressWithPrefix.PrefixLen), unix.IFA_F_PERMANENT, scope)
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Index))
		b = attribute(b, unix.IFA_ADDRESS, address.AsSlice())
		if p.Protocol == ipv4.ProtocolNumber {
			b = attribute(b, unix.IFA_LOCAL, address.AsSlice())
			if !i.Loopback {
				all := inet.Broadcast(p.AddressWithPrefix)
				b = attribute(b, unix.IFA_BROADCAST, all[:])
			}
			b = attribute(b, unix.IFA_LABEL, append([]byte(i.Name), 0))
		}
		return attribute32(b, unix.IFA_FLAGS, unix.IFA_F_PERMANENT)
	})
}

func (a *answer) putRoute(typ, flags uint16, r *tcpip.Route) {
	to := r.Destination.ID()
	a.message(typ, flags, func(b []byte) []byte {
		table, scope, kind := byte(unix.RT_TABLE_MAIN), byte(unix.RT_SCOPE_LINK), byte(unix.RTN_UNICAST)
		switch {
		case r.NIC == inet.LoopbackNIC:
			table, scope, kind = unix.RT_TABLE_LOCAL, unix.RT_SCOPE_HOST, unix.RTN_LOCAL
		case r.Gateway.Len() != 0:
			scope = unix.RT_SCOPE_UNIVERSE
		}
		prefix := r.Destination.Prefix()
		b = append(b, familyOf(to), byte(prefix), 0, 0, table, unix.RTPROT_BOOT, scope, kind, 0, 0, 0, 0)
		b = attribute32(b, unix.RTA_TABLE, int(table))
		if prefix > 0 {
			b = attribute(b, unix.RTA_DST, to.AsSlice())
		}
		if r.Gateway.Len() != 0 {
			b = attribute(b, unix.RTA_GATEWAY, r.Gateway.AsSlice())
		}
		return attribute32(b, unix.RTA_OIF, int(r.NIC))
	})
}
