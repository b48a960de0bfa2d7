package inet

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// connected says whether there is a peer.
func (s *Socket) connected() bool {
	if s.stream() && tcp.EndpointState(s.ep().State()) != tcp.StateEstablished {
		return false
	}
	_, err := s.ep().GetRemoteAddress()
	return err == nil
}

// toIPv4 is IPV6_ADDRFORM (ipv6(7)): a socket of AF_INET6 whose peer has an address of IPv4 becomes one of
// AF_INET, for a program that knows no other. Its endpoint, which serves both, stays until it is renewed.
func (s *Socket) toIPv4(value []byte) error {
	if family, _, _ := s.Kind(); family != unix.AF_INET6 {
		return unix.ENOPROTOOPT
	}
	v, err := valueOf(unix.IPPROTO_IPV6, value)
	if err != nil {
		return err
	}
	if v != unix.AF_INET {
		return unix.EINVAL
	}
	if !s.stream() && !s.isUDP() {
		return unix.ENOPROTOOPT
	}
	if !s.connected() {
		return unix.ENOTCONN
	}
	peer, e := s.ep().GetRemoteAddress()
	if e != nil {
		return unix.ENOTCONN
	}
	if s.ep().SocketOptions().GetV6Only() || peer.Addr.Len() != header.IPv4AddressSize && !header.IsV4MappedAddress(peer.Addr) {
		return unix.EADDRNOTAVAIL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boundTo.Addr = unmapped(s.boundTo.Addr)
	s.SetFamily(unix.AF_INET)
	return nil
}
