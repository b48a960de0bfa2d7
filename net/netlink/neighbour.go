package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"elver/net/inet"
)

const (
	sizeofNeighbour = 12 // struct ndmsg
	ntfProxy        = 8  // NTF_PROXY
)

// stateOf returns the NUD_* of a neighbour.
var stateOf = map[stack.NeighborState]uint16{
	stack.Unknown:     unix.NUD_NONE,
	stack.Incomplete:  unix.NUD_INCOMPLETE,
	stack.Reachable:   unix.NUD_REACHABLE,
	stack.Stale:       unix.NUD_STALE,
	stack.Delay:       unix.NUD_DELAY,
	stack.Probe:       unix.NUD_PROBE,
	stack.Static:      unix.NUD_PERMANENT,
	stack.Unreachable: unix.NUD_FAILED,
}

// networkOf returns netstack's number of a family.
func networkOf(family byte) tcpip.NetworkProtocolNumber {
	if family == unix.AF_INET6 {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

func (a *answer) neighbours(n *inet.Network, family byte) {
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		if family != unix.AF_UNSPEC && family != f {
			continue
		}
		for _, i := range n.Interfaces() {
			list, err := n.Stack().Neighbors(tcpip.NICID(i.Index), networkOf(f))
			if err != nil {
				continue
			}
			for _, e := range list {
				a.putNeighbour(unix.NLM_F_MULTI, i.Index, &e)
			}
		}
	}
}

func (a *answer) putNeighbour(flags uint16, index int, e *stack.NeighborEntry) {
	a.message(unix.RTM_NEWNEIGH, flags, func(b []byte) []byte {
		b = append(b, familyOf(e.Addr), 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(index))
		b = binary.LittleEndian.AppendUint16(b, stateOf[e.State])
		b = append(b, 0, unix.RTN_UNICAST)
		b = attribute(b, unix.NDA_DST, e.Addr.AsSlice())
		if len(e.LinkAddr) > 0 {
			b = attribute(b, unix.NDA_LLADDR, []byte(e.LinkAddr))
		}
		return b
	})
}

// parseNeighbour reads a struct ndmsg and the address that follows it: EINVAL, EAFNOSUPPORT, ENODEV.
func parseNeighbour(n *inet.Network, body []byte) (nic tcpip.NICID, address tcpip.Address, list map[uint16][]byte, errno unix.Errno) {
	if len(body) < sizeofNeighbour {
		return 0, address, nil, unix.EINVAL
	}
	if body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
		return 0, address, nil, unix.EAFNOSUPPORT
	}
	nic = tcpip.NICID(binary.LittleEndian.Uint32(body[4:]))
	list = attributes(body[sizeofNeighbour:])
	if address, errno = addressOf(list[unix.NDA_DST], body[0]); errno == 0 && !n.Stack().HasNIC(nic) {
		errno = unix.ENODEV
	}
	return nic, address, list, errno
}

// neighbour answers for one neighbour (ip neigh get).
func (a *answer) neighbour(n *inet.Network, body []byte) {
	nic, address, _, errno := parseNeighbour(n, body)
	if errno == 0 {
		errno = unix.ENOENT
		list, _ := n.Stack().Neighbors(nic, networkOf(body[0]))
		for _, e := range list {
			if e.Addr == address {
				a.putNeighbour(0, int(nic), &e)
				return
			}
		}
	}
	a.fail(errno)
}

// changeNeighbour makes a neighbour known for good, or forgets one: ENOENT, and EOPNOTSUPP for states that only netstack gives.
func changeNeighbour(n *inet.Network, typ uint16, body []byte) unix.Errno {
	nic, address, list, errno := parseNeighbour(n, body)
	if errno != 0 {
		return errno
	}
	if body[10]&ntfProxy != 0 {
		return unix.EOPNOTSUPP
	}
	protocol, state := networkOf(body[0]), binary.LittleEndian.Uint16(body[8:])
	if typ == unix.RTM_DELNEIGH || state == unix.NUD_FAILED { // the latter is how ip neigh flush asks
		if n.Stack().RemoveNeighbor(nic, protocol, address) != nil {
			return unix.ENOENT
		}
		return 0
	}
	link := list[unix.NDA_LLADDR]
	switch {
	case state&(unix.NUD_PERMANENT|unix.NUD_NOARP) == 0:
		return unix.EOPNOTSUPP
	case len(link) != 6:
		return unix.EINVAL
	case n.Stack().AddStaticNeighbor(nic, protocol, address, tcpip.LinkAddress(link)) != nil:
		return unix.EINVAL
	}
	return 0
}
