package inet

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// Options of raw sockets of IPv6 (RFC 3542, 3.1 and 3.2): which messages of ICMPv6 they hear, and where the
// checksum is that is made and looked at for them.

// icmp6Filter is ICMP6_FILTER.
const icmp6Filter = 1

// raw6 says whether the socket is a raw one of IPv6.
func (s *Socket) raw6() bool {
	family, typ, _ := s.Kind()
	return family == unix.AF_INET6 && typ == unix.SOCK_RAW
}

// filtersICMP6 says whether an option is the filter; EOPNOTSUPP of a socket that hears no ICMPv6.
func (s *Socket) filtersICMP6(level, name int) (bool, error) {
	if level != unix.IPPROTO_ICMPV6 {
		if name != unix.IPV6_CHECKSUM {
			return false, unix.ENOPROTOOPT
		}
		return false, nil
	}
	if _, _, protocol := s.Kind(); protocol != unix.IPPROTO_ICMPV6 {
		return false, unix.EOPNOTSUPP
	}
	if name != icmp6Filter {
		return false, unix.ENOPROTOOPT
	}
	return true, nil
}

func (s *Socket) setRaw6(level, name int, value []byte) error {
	filters, err := s.filtersICMP6(level, name)
	if err != nil {
		return err
	}
	if !filters {
		v, err := valueOf(level, value)
		if err != nil {
			return err
		}
		return errnoOf(s.ep().SetSockOptInt(tcpip.IPv6Checksum, max(v, -1)))
	}
	var f tcpip.ICMPv6Filter
	if err := s.ep().GetSockOpt(&f); err != nil {
		return errnoOf(err)
	}
	// What is shorter sets the first bits and leaves the others.
	b := icmp6Bits(&f)
	copy(b[:], value)
	for i := range f.DenyType {
		f.DenyType[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return errnoOf(s.ep().SetSockOpt(&f))
}

func (s *Socket) getRaw6(level, name int, value []byte) (int, error) {
	filters, err := s.filtersICMP6(level, name)
	if err != nil {
		return 0, err
	}
	if !filters {
		return s.getInt(tcpip.IPv6Checksum, value)
	}
	var f tcpip.ICMPv6Filter
	if err := s.ep().GetSockOpt(&f); err != nil {
		return 0, errnoOf(err)
	}
	b := icmp6Bits(&f)
	return copy(value, b[:]), nil
}

// icmp6Bits returns a filter as programs write it: a bit for each type, set for those that aren't heard.
func icmp6Bits(f *tcpip.ICMPv6Filter) (b [32]byte) {
	for i, bits := range f.DenyType {
		binary.LittleEndian.PutUint32(b[4*i:], bits)
	}
	return b
}
