package netlink

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/net"
	"elver/net/inet"
	"elver/vfs"
)

func newSocket(t *testing.T) net.Socket {
	t.Helper()
	s, err := Family{Network: new(inet.Network)}.Socket(vfs.BootContext(nil), unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(typ, flags uint16, body ...byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(sizeofHeader+len(body)))
	b = binary.LittleEndian.AppendUint16(b, typ)
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint32(b, 77)
	return append(append(b, 0, 0, 0, 0), body...)
}

// types sends p and returns the types of the messages that come back.
func types(t *testing.T, s net.Socket, p []byte) (list []uint16) {
	t.Helper()
	c := vfs.BootContext(nil)
	src := mm.KernelBuffer(p)
	if n, err := s.Send(c, &src, &net.Message{}); n != len(p) || err != nil {
		t.Fatalf("Send: %d, %v", n, err)
	}
	for {
		room := make([]byte, 4096)
		dst := mm.KernelBuffer(room)
		n, err := s.Recv(c, &dst, &net.Message{})
		if err == unix.EAGAIN {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		for b := room[:n]; len(b) > 0; {
			length := int(binary.LittleEndian.Uint32(b))
			if length < sizeofHeader || length > len(b) {
				t.Fatalf("a message of %d bytes in %d", length, len(b))
			}
			if sequence := binary.LittleEndian.Uint32(b[8:]); sequence != 77 {
				t.Errorf("the sequence number is %d", sequence)
			}
			list = append(list, binary.LittleEndian.Uint16(b[4:]))
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

func TestDumps(t *testing.T) {
	s := newSocket(t)
	defer s.Release()
	for _, row := range []struct {
		request, answer uint16
		count           int
	}{
		{unix.RTM_GETLINK, unix.RTM_NEWLINK, 1},
		{unix.RTM_GETADDR, unix.RTM_NEWADDR, 2},
		{unix.RTM_GETROUTE, unix.RTM_NEWROUTE, 4},
		{unix.RTM_GETRULE, unix.RTM_NEWRULE, 5},
	} {
		got := types(t, s, request(row.request, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 0))
		if len(got) != row.count+1 || got[row.count] != unix.NLMSG_DONE || row.count > 0 && got[0] != row.answer {
			t.Errorf("request %d: messages of types %v", row.request, got)
		}
	}
}

func TestBrokenRequests(t *testing.T) {
	s := newSocket(t)
	defer s.Release()
	long := request(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 0)
	binary.LittleEndian.PutUint32(long, 1000)
	for name, p := range map[string][]byte{"nothing": nil, "a few bytes": make([]byte, 7), "zeros": make([]byte, 64), "too long": long} {
		if got := types(t, s, p); len(got) != 0 {
			t.Errorf("%s: messages of types %v", name, got)
		}
	}
	for name, p := range map[string][]byte{
		"no body":      request(unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP),
		"short link":   request(unix.RTM_GETLINK, unix.NLM_F_REQUEST, 0, 0),
		"no such link": request(unix.RTM_GETLINK, unix.NLM_F_REQUEST, append(make([]byte, 16), 40, 0, 3, 0, 'x')...),
		"a change":     request(unix.RTM_NEWADDR, unix.NLM_F_REQUEST, make([]byte, 8)...),
	} {
		if got := types(t, s, p); len(got) != 1 || got[0] != unix.NLMSG_ERROR {
			t.Errorf("%s: messages of types %v", name, got)
		}
	}
}
