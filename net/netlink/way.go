package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"elver/net/inet"
)

// What the answer to a lookup says of the route (linux/in_route.h).
const (
	cachedBroadcast = 0x10000000 // RTCF_BROADCAST
	cachedMulticast = 0x20000000 // RTCF_MULTICAST
	cachedLocal     = 0x80000000 // RTCF_LOCAL
)

const sizeofCacheinfo = 32 // struct rta_cacheinfo

// way answers for the route to one address (ip route get): ENETUNREACH, or what a route that leads nowhere says.
func (a *answer) way(n *inet.Network, body []byte) {
	if len(body) < unix.SizeofRtMsg {
		a.fail(unix.EINVAL)
		return
	}
	family := body[0]
	list := attributes(body[unix.SizeofRtMsg:])
	to, errno := addressOf(list[unix.RTA_DST], family)
	if errno != 0 {
		a.fail(errno)
		return
	}
	var from tcpip.Address
	if b := list[unix.RTA_SRC]; b != nil {
		if from, errno = addressOf(b, family); errno != 0 {
			a.fail(errno)
			return
		}
	}
	var out tcpip.NICID
	if b := list[unix.RTA_OIF]; len(b) >= 4 {
		out = tcpip.NICID(binary.LittleEndian.Uint32(b))
	}
	if out != 0 && !n.Stack().HasNIC(out) {
		a.fail(unix.ENODEV)
		return
	}
	protocol := networkOf(family)
	r, err := n.Stack().FindRoute(out, from, to, protocol, false)
	switch err.(type) {
	case nil:
	case *tcpip.ErrInvalidOptionValue: // a black hole
		a.fail(unix.EINVAL)
		return
	case *tcpip.ErrHostUnreachable:
		a.fail(unix.EHOSTUNREACH)
		return
	case *tcpip.ErrBroadcastDisabled: // prohibited
		a.fail(unix.EACCES)
		return
	default:
		a.fail(unix.ENETUNREACH)
		return
	}
	defer r.Release()
	kind, flags, nic := byte(unix.RTN_UNICAST), uint32(0), r.NICID()
	table := unix.RT_TABLE_MAIN
	switch {
	case header.IsV4MulticastAddress(to) || header.IsV6MulticastAddress(to):
		kind, flags = unix.RTN_MULTICAST, cachedMulticast
	case to == header.IPv4Broadcast || broadcast(n, to):
		kind, flags = unix.RTN_BROADCAST, cachedBroadcast|cachedLocal
	case n.Stack().CheckLocalAddress(0, protocol, to) != 0:
		kind, flags, nic = unix.RTN_LOCAL, cachedLocal, inet.LoopbackNIC
	}
	if nic == inet.LoopbackNIC {
		flags |= cachedLocal
	}
	via, known := n.Lookup(to, nic)
	if kind != unix.RTN_UNICAST {
		via, known = inet.Route{Protocol: unix.RTPROT_KERNEL}, true
		table = unix.RT_TABLE_LOCAL
	}
	source := r.LocalAddress()
	a.message(unix.RTM_NEWROUTE, 0, func(b []byte) []byte {
		var asked byte // the length of the source that the route is for
		origin := byte(unix.RTPROT_UNSPEC)
		if family == unix.AF_INET6 {
			flags, asked, origin = 0, 128, via.Protocol
		} else {
			flags |= unix.RTM_F_CLONED
			if table = unix.RT_TABLE_MAIN; from.Len() != 0 {
				asked = 32
			}
		}
		b = append(b, family, byte(to.BitLen()), asked, 0, byte(table), origin, 0, kind)
		b = binary.LittleEndian.AppendUint32(b, flags)
		b = attribute(b, unix.RTA_DST, to.AsSlice())
		if asked > 0 {
			src := make([]byte, asked/8)
			copy(src, from.AsSlice())
			b = attribute(b, unix.RTA_SRC, src)
		}
		b = attribute32(b, unix.RTA_TABLE, table)
		b = routeMTU(b, &via)
		b = attribute32(b, unix.RTA_OIF, int(nic))
		if from.Len() == 0 {
			b = attribute(b, unix.RTA_PREFSRC, source.AsSlice())
		}
		if next := r.NextHop(); kind == unix.RTN_UNICAST && next.Len() != 0 && next != to {
			b = attribute(b, unix.RTA_GATEWAY, next.AsSlice())
		}
		if family == unix.AF_INET {
			b = attribute32(b, unix.RTA_UID, int(a.uid))
		} else if known {
			b = attribute(attribute32(b, unix.RTA_PRIORITY, int(via.Metric)), unix.RTA_PREF, []byte{0})
		}
		return attribute(b, unix.RTA_CACHEINFO, make([]byte, sizeofCacheinfo))
	})
}

// broadcast says whether an address is that of all on a subnet of the machine's.
func broadcast(n *inet.Network, to tcpip.Address) bool {
	for _, r := range n.Routes() {
		if r.Kind == unix.RTN_BROADCAST && r.Destination.ID() == to {
			return true
		}
	}
	return false
}
