package inet

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"elver/kernel/mm"
	"elver/net"
)

// urgentEndpoint is an endpoint of TCP with urgent bytes (tcp(7)), which netstack gets from runtime/_gvisor.
type urgentEndpoint interface {
	SetUrgentInline(on bool)
	AtUrgent() bool
	ReadUrgent(peek bool) (byte, tcpip.Error)
}

// SendsUrgent says that SIGURG goes to the socket's owner when an urgent byte comes: see vfs.Description.
func (s *Socket) SendsUrgent() bool { return s.stream() }

// atUrgent says whether the urgent byte is the next to be read.
func (s *Socket) atUrgent() bool {
	e, ok := s.ep().(urgentEndpoint)
	return ok && e.AtUrgent()
}

// receiveUrgent is receive of a stream with MSG_OOB, as tcp_recv_urg of Linux: EINVAL if there is none, EAGAIN if it is
// announced alone.
func (s *Socket) receiveUrgent(dst *mm.Buffer, m *net.Message) (int, error) {
	e, ok := s.ep().(urgentEndpoint)
	if !ok {
		return 0, unix.EINVAL
	}
	// Nobody waits for it.
	m.Flags |= unix.MSG_DONTWAIT
	b, err := e.ReadUrgent(m.Flags&unix.MSG_PEEK != 0)
	switch err.(type) {
	case nil:
	case *tcpip.ErrInvalidEndpointState:
		return 0, unix.EINVAL
	case *tcpip.ErrClosedForReceive:
		return 0, nil
	default:
		return 0, errnoOf(err)
	}
	m.Got |= unix.MSG_OOB
	if dst.Len() == 0 {
		m.Got |= unix.MSG_TRUNC
		return 0, nil
	}
	if m.Flags&unix.MSG_TRUNC != 0 {
		return 1, nil
	}
	return dst.CopyOut([]byte{b})
}
