package inet

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
	"elver/vfs"
)

func context() *vfs.Context { return vfs.BootContext(nil) }

func newSocket(t *testing.T, n *Network, family, typ int) *Socket {
	t.Helper()
	s, err := Family{Network: n, Number: family}.Socket(context(), typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*Socket)
}

// wait waits until s is ready.
func wait(t *testing.T, s net.Socket, mask waiter.EventMask) {
	t.Helper()
	e, ready := waiter.NewChannelEntry(mask | waiter.EventErr | waiter.EventHUp)
	s.EventRegister(&e)
	defer s.EventUnregister(&e)
	deadline := time.After(5 * time.Second)
	for s.Readiness(mask) == 0 {
		select {
		case <-ready:
		case <-deadline:
			t.Fatal("nothing happened for 5 s")
		}
	}
}

func loopback4(port uint16) []byte {
	b := append(binary.LittleEndian.AppendUint16(nil, unix.AF_INET), 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[2:], port)
	return b
}

func connected(t *testing.T, n *Network) (a, b net.Socket) {
	t.Helper()
	l := newSocket(t, n, unix.AF_INET, unix.SOCK_STREAM)
	defer l.Release()
	if err := l.Bind(context(), loopback4(0)); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(context(), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(context()); err != unix.EAGAIN {
		t.Fatalf("Accept of nobody: %v", err)
	}
	where, err := l.Name(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := newSocket(t, n, unix.AF_INET, unix.SOCK_STREAM)
	if _, err := c.Connect(context(), where); err != unix.EINPROGRESS {
		t.Fatalf("Connect: %v", err)
	}
	wait(t, c, waiter.WritableEvents)
	if _, err := c.Connect(context(), where); err != nil {
		t.Fatalf("Connect, again: %v", err)
	}
	wait(t, l, waiter.ReadableEvents)
	s, err := l.Accept(context())
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func send(t *testing.T, s net.Socket, what string) {
	t.Helper()
	b := mm.KernelBuffer([]byte(what))
	var m net.Message
	if n, err := s.Send(context(), &b, &m); n != len(what) || err != nil {
		t.Fatalf("Send: %d, %v", n, err)
	}
}

func receive(t *testing.T, s net.Socket, size, flags int) string {
	t.Helper()
	wait(t, s, waiter.ReadableEvents)
	p := make([]byte, size)
	b := mm.KernelBuffer(p)
	m := net.Message{Flags: flags}
	n, err := s.Recv(context(), &b, &m)
	if err != nil {
		t.Fatalf("Recv: %v", err)
	}
	return string(p[:n])
}

func TestStream(t *testing.T) {
	a, b := connected(t, new(Network))
	send(t, a, "to the other side")
	if got := receive(t, b, 100, unix.MSG_PEEK); got != "to the other side" {
		t.Errorf("peeked %q", got)
	}
	if got := receive(t, b, 6, 0); got != "to the" {
		t.Errorf("received %q", got)
	}
	if got := receive(t, b, 100, 0); got != " other side" {
		t.Errorf("received %q", got)
	}
	if err := a.Shutdown(unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, 100, 0); got != "" {
		t.Errorf("received %q behind the end", got)
	}
	a.Release()
	b.Release()
}

// A send that the buffer has no room for says how much of it went, and leaves the program's buffer there.
func TestPartialSend(t *testing.T) {
	a, b := connected(t, new(Network))
	defer a.Release()
	defer b.Release()
	src := mm.KernelBuffer(make([]byte, 64<<20))
	total := 0
	for {
		var m net.Message
		n, err := a.Send(context(), &src, &m)
		if total += n; src.Done() != total {
			t.Fatalf("%d bytes sent, the buffer is at %d", total, src.Done())
		}
		if err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if total == 0 || src.Len() == 0 {
		t.Errorf("%d bytes went before there was no room", total)
	}
}

func TestRefusedConnection(t *testing.T) {
	s := newSocket(t, new(Network), unix.AF_INET, unix.SOCK_STREAM)
	defer s.Release()
	if _, err := s.Connect(context(), loopback4(9)); err != unix.EINPROGRESS {
		t.Fatalf("Connect: %v", err)
	}
	wait(t, s, waiter.WritableEvents)
	var value [net.MaxOption]byte
	for _, want := range []unix.Errno{unix.ECONNREFUSED, 0} {
		if _, err := s.Option(context(), unix.SOL_SOCKET, unix.SO_ERROR, value[:]); err != nil {
			t.Fatal(err)
		}
		if got := unix.Errno(binary.LittleEndian.Uint32(value[:])); got != want {
			t.Errorf("SO_ERROR is %v, want %v", got, want)
		}
	}
}

func TestDatagramIsCutAndSaysWhoSent(t *testing.T) {
	n := new(Network)
	a, b := newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM), newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM)
	defer a.Release()
	defer b.Release()
	if err := b.Bind(context(), loopback4(0)); err != nil {
		t.Fatal(err)
	}
	to, _ := b.Name(nil)
	src := mm.KernelBuffer([]byte("a datagram"))
	m := net.Message{Address: to}
	if k, err := a.Send(context(), &src, &m); k != 10 || err != nil {
		t.Fatalf("Send: %d, %v", k, err)
	}
	wait(t, b, waiter.ReadableEvents)
	p := make([]byte, 4)
	dst := mm.KernelBuffer(p)
	m = net.Message{Address: make([]byte, 0, net.MaxAddress)}
	k, err := b.Recv(context(), &dst, &m)
	if k != 4 || err != nil || m.Got&unix.MSG_TRUNC == 0 || string(p) != "a da" {
		t.Errorf("Recv: %d, %v, flags %#x, %q", k, err, m.Got, p)
	}
	from, _ := a.Name(nil)
	if len(m.Address) != sizeofAddress4 || [2]byte(m.Address[2:4]) != [2]byte(from[2:4]) {
		t.Errorf("from %v, want the port of %v", m.Address, from)
	}
}

// What is read out of netstack's endpoints is found there.
func TestInsideOfEndpoints(t *testing.T) {
	for name, at := range map[string]uintptr{"SndBufUsed": unsentAt, "snd": senderAt, "MaxPayloadSize": maxPayloadAt, "Outstanding": outstandingAt} {
		if at == nowhere {
			t.Errorf("an endpoint of TCP has no %s any more", name)
		}
	}
	a, b := connected(t, new(Network))
	defer a.Release()
	defer b.Release()
	e := a.(*Socket).ep().(*tcp.Endpoint)
	if n, _ := sender(e); n < 500 || n > 1<<16 {
		t.Errorf("segments of %d bytes", n)
	}
	src := mm.KernelBuffer(make([]byte, 64<<20))
	a.Send(context(), &src, new(net.Message))
	if n := unsent(e); n <= 0 || n > 64<<20 {
		t.Errorf("%d bytes are yet to be sent", n)
	}
}

// A stream whose connection was refused connects again, with the options that it has, from the name that it
// has.
func TestConnectAgain(t *testing.T) {
	n := new(Network)
	l := newSocket(t, n, unix.AF_INET, unix.SOCK_STREAM)
	defer l.Release()
	if err := l.Bind(context(), loopback4(0)); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(context(), 5); err != nil {
		t.Fatal(err)
	}
	where, _ := l.Name(nil)
	s := newSocket(t, n, unix.AF_INET, unix.SOCK_STREAM)
	defer s.Release()
	if err := s.SetOption(context(), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, []byte{33, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(context(), loopback4(0)); err != nil {
		t.Fatal(err)
	}
	name, _ := s.Name(nil)
	if _, err := s.Connect(context(), loopback4(9)); err != unix.EINPROGRESS {
		t.Fatalf("Connect: %v", err)
	}
	wait(t, s, waiter.WritableEvents)
	if _, err := s.Connect(context(), where); err != unix.ECONNREFUSED {
		t.Fatalf("Connect: %v", err)
	}
	if _, err := s.Connect(context(), where); err != unix.EINPROGRESS {
		t.Fatalf("Connect, again: %v", err)
	}
	wait(t, s, waiter.WritableEvents)
	if _, err := s.Connect(context(), where); err != nil {
		t.Fatal(err)
	}
	if again, _ := s.Name(nil); string(again) != string(name) {
		t.Errorf("named %v, then %v", name, again)
	}
	var value [net.MaxOption]byte
	if _, err := s.Option(context(), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, value[:]); err != nil || value[0] != 33 {
		t.Errorf("TCP_KEEPIDLE is %d, %v", value[0], err)
	}
}
