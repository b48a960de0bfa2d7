package inet

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Sizes of struct sockaddr_in and sockaddr_in6; of the latter, programs may leave out the scope (RFC 2133).
const (
	sizeofAddress4   = 16
	sizeofAddress6   = 28
	shortestAddress6 = 24
)

// Of no address and of this machine, of IPv4 as IPv6 writes them.
var (
	mappedAny      = tcpip.AddrFrom16([16]byte{10: 0xff, 11: 0xff})
	mappedLoopback = tcpip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1})
)

func familyOf(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, unix.EINVAL
	}
	return int(binary.LittleEndian.Uint16(b)), nil
}

// parseAddress reads a struct sockaddr of the socket's family: EINVAL, EAFNOSUPPORT. An address of all
// zeros is empty, as netstack wants it. An IPv6 socket takes addresses of IPv4 as well, where Linux does.
func (s *Socket) parseAddress(b []byte) (a tcpip.FullAddress, err error) {
	family, err := familyOf(b)
	if err != nil {
		return a, err
	}
	own, typ, _ := s.Kind()
	switch {
	case family == unix.AF_INET && (own == unix.AF_INET || typ != unix.SOCK_RAW):
		if len(b) < sizeofAddress4 {
			return a, unix.EINVAL
		}
		a.Addr = tcpip.AddrFrom4([4]byte(b[4:8]))
		if a.Addr == header.IPv4Any {
			a.Addr = tcpip.Address{}
		}
	case family == unix.AF_INET6 && own == unix.AF_INET6:
		if len(b) < shortestAddress6 {
			return a, unix.EINVAL
		}
		a.Addr = tcpip.AddrFrom16([16]byte(b[8:24]))
		if a.Addr == header.IPv6Any {
			a.Addr = tcpip.Address{}
		}
		if len(b) >= sizeofAddress6 && header.IsV6LinkLocalUnicastAddress(a.Addr) {
			a.NIC = tcpip.NICID(binary.LittleEndian.Uint32(b[24:]))
		}
	default:
		return a, unix.EAFNOSUPPORT
	}
	a.Port = binary.BigEndian.Uint16(b[2:])
	return a, nil
}

// unmapped returns an address of IPv4 that is written as one of IPv6 in its own form, and any other as it is.
func unmapped(a tcpip.Address) tcpip.Address {
	if a.Len() != header.IPv6AddressSize || !header.IsV4MappedAddress(a) {
		return a
	}
	b := a.As16()
	return tcpip.AddrFrom4([4]byte(b[12:]))
}

// appendAddress appends a struct sockaddr of the family.
func appendAddress(to []byte, family int, a tcpip.FullAddress) []byte {
	to = binary.LittleEndian.AppendUint16(to, uint16(family))
	to = binary.BigEndian.AppendUint16(to, a.Port)
	if family == unix.AF_INET {
		b := header.IPv4Any.As4()
		if four := unmapped(a.Addr); four.Len() == header.IPv4AddressSize {
			b = four.As4()
		}
		return append(append(to, b[:]...), make([]byte, 8)...)
	}
	var b [16]byte
	switch a.Addr.Len() {
	case header.IPv4AddressSize:
		four := a.Addr.As4()
		b[10], b[11] = 0xff, 0xff
		copy(b[12:], four[:])
	case header.IPv6AddressSize:
		b = a.Addr.As16()
	}
	to = append(append(to, 0, 0, 0, 0), b[:]...)
	scope := uint32(0)
	if header.IsV6LinkLocalUnicastAddress(a.Addr) {
		scope = uint32(a.NIC)
	}
	return binary.LittleEndian.AppendUint32(to, scope)
}

// self is the address of this machine, which connecting to no address at all of a family means.
func (s *Socket) self(family int) tcpip.Address {
	if family == unix.AF_INET6 {
		return header.IPv6Loopback
	}
	return tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
}
