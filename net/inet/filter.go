package inet

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"elver/kernel/bpf"
	"elver/kernel/mm"
	"elver/net"
)

// Filters of UDP, ICMP and raw sockets. netstack knows nothing of them: what a filter refuses is taken away
// when somebody asks whether there is something, or receives. A filter of UDP sees the header too, which is
// made here; its checksum is 0.

// datagram is one that waits to be received, as a filter sees it.
type datagram struct {
	bytes  []byte
	header int // bytes that were put in front
	result tcpip.ReadResult
}

// next returns the datagram that waits: not ok if there is none. Precondition: filterMu is held.
func (s *Socket) next(peek bool) (d datagram, err tcpip.Error) {
	if s.isUDP() {
		d.header = header.UDPMinimumSize
	}
	for size := 2048; ; {
		p := make([]byte, d.header+size)
		b := mm.KernelBuffer(p[d.header:])
		d.result, err = s.ep().Read(&sink{Buffer: &b}, tcpip.ReadOptions{Peek: true, NeedRemoteAddr: true})
		if err != nil {
			if _, bad := err.(*tcpip.ErrBadBuffer); !bad || d.result.Total != 0 {
				return d, err
			}
		}
		if d.result.Count < d.result.Total && size < header.UDPMaximumSize {
			size = header.UDPMaximumSize
			continue
		}
		d.bytes = p[:d.header+d.result.Count]
		break
	}
	if d.header > 0 {
		binary.BigEndian.PutUint16(d.bytes, d.result.RemoteAddr.Port)
		if own, err := s.ep().GetLocalAddress(); err == nil {
			binary.BigEndian.PutUint16(d.bytes[2:], own.Port)
		}
		binary.BigEndian.PutUint16(d.bytes[4:], uint16(len(d.bytes)))
	}
	if !peek {
		s.drop()
	}
	return d, nil
}

// drop takes the datagram that waits away. Precondition: filterMu is held.
func (s *Socket) drop() {
	var nothing mm.Buffer
	s.ep().Read(&sink{Buffer: &nothing, drop: true}, tcpip.ReadOptions{})
}

// wanted returns how many bytes of a datagram the socket's filter lets through, of those that are its own.
func (s *Socket) wanted(f *net.Filter, d *datagram) int {
	family, typ, _ := s.Kind()
	p := bpf.Packet{Data: d.bytes, Network: -1, Link: -1, Interface: uint32(d.result.RemoteAddr.NIC), Protocol: unix.ETH_P_IP, Hardware: unix.ARPHRD_ETHER}
	if p.Interface == LoopbackNIC {
		p.Hardware = unix.ARPHRD_LOOPBACK
	}
	if family == unix.AF_INET6 {
		p.Protocol = unix.ETH_P_IPV6
	} else if typ == unix.SOCK_RAW {
		p.Network = 0
	}
	n := f.Run(&p)
	if n == 0 {
		return -1
	}
	return max(n-d.header, 0)
}

// screen takes away what the filter refuses, up to what it lets through.
func (s *Socket) screen(f *net.Filter) {
	s.filterMu.Lock()
	defer s.filterMu.Unlock()
	for {
		d, err := s.next(true)
		if err != nil || s.wanted(f, &d) >= 0 {
			return
		}
		s.drop()
	}
}

// receiveFiltered is Recv of a socket with a filter.
func (s *Socket) receiveFiltered(f *net.Filter, dst *mm.Buffer, m *net.Message) (int, error) {
	s.screen(f)
	s.filterMu.Lock()
	d, err := s.next(m.Flags&unix.MSG_PEEK != 0)
	s.filterMu.Unlock()
	if err != nil {
		return 0, errnoOf(err)
	}
	n := s.wanted(f, &d)
	if n < 0 { // another one came to be the first
		return 0, unix.EAGAIN
	}
	p := d.bytes[d.header:][:n]
	count, failure := dst.CopyOut(p[:min(n, dst.Len())])
	if failure != nil {
		return 0, failure
	}
	if m.Address != nil {
		family, _, _ := s.Kind()
		m.Address = appendAddress(m.Address, family, d.result.RemoteAddr)
	}
	if count < n {
		m.Got |= unix.MSG_TRUNC
	}
	s.putControl(m, &d.result.ControlMessages)
	if m.Flags&unix.MSG_TRUNC != 0 {
		return n, nil
	}
	return count, nil
}
