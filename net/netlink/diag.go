package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"elver/net/inet"
)

// sockDiagByFamily is the one request of NETLINK_SOCK_DIAG (sock_diag(7)).
const sockDiagByFamily = 20

// diagnose answers for the sockets of TCP and UDP that are in the states asked for. Which of them, a
// program may say by a filter as well, which is for it to apply once more. ENOENT for other families: tools
// look at /proc then.
func (a *answer) diagnose(n *inet.Network) {
	const sizeofRequest = 56 // struct inet_diag_req_v2
	typ, flags := binary.LittleEndian.Uint16(a.request[4:]), binary.LittleEndian.Uint16(a.request[6:])
	body := a.request[sizeofHeader:]
	switch {
	case typ != sockDiagByFamily || len(body) < 2:
		a.fail(unix.EINVAL)
		return
	case body[0] != unix.AF_INET && body[0] != unix.AF_INET6, body[1] != unix.IPPROTO_TCP && body[1] != unix.IPPROTO_UDP:
		a.fail(unix.ENOENT)
		return
	case len(body) < sizeofRequest:
		a.fail(unix.EINVAL)
		return
	case flags&unix.NLM_F_DUMP == 0:
		a.fail(unix.EOPNOTSUPP)
		return
	}
	states := binary.LittleEndian.Uint32(body[4:])
	for _, i := range n.Sockets(int(body[1]), int(body[0])) {
		if states>>i.State&1 == 0 {
			continue
		}
		a.message(sockDiagByFamily, unix.NLM_F_MULTI, func(b []byte) []byte {
			b = append(b, byte(i.Family), i.State, 0, 0)
			b = binary.BigEndian.AppendUint16(b, i.Local.Port)
			b = binary.BigEndian.AppendUint16(b, i.Peer.Port)
			b = appendDiagAddress(b, i.Family, i.Local.Addr)
			b = appendDiagAddress(b, i.Family, i.Peer.Addr)
			b = append(b, make([]byte, 4)...) // interface
			b = binary.LittleEndian.AppendUint64(b, i.Owner.Inode)
			b = append(b, make([]byte, 4)...) // timer
			for _, v := range []uint32{uint32(i.ReceiveQueue), uint32(i.SendQueue), i.Owner.UID, uint32(i.Owner.Inode)} {
				b = binary.LittleEndian.AppendUint32(b, v)
			}
			return b
		})
	}
	a.message(unix.NLMSG_DONE, unix.NLM_F_MULTI, func(b []byte) []byte { return append(b, 0, 0, 0, 0) })
}

// appendDiagAddress appends an address as 16 bytes; of IPv4, the first four say it all, and a socket of IPv6
// shows one of IPv4 as IPv6 writes it.
func appendDiagAddress(b []byte, family int, a tcpip.Address) []byte {
	var to [16]byte
	if family == unix.AF_INET6 && a.Len() == 4 {
		to[10], to[11] = 0xff, 0xff
		copy(to[12:], a.AsSlice())
	} else {
		copy(to[:], a.AsSlice())
	}
	return append(b, to[:]...)
}
