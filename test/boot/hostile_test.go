package boot

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Flags of TCP.
const (
	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagPSH = 1 << 3
	flagACK = 1 << 4
)

// wire sends and receives frames on the tap as they are.
type wire struct {
	fd         int
	to         *syscall.SockaddrLinklayer
	mine, peer net.HardwareAddr
}

func newWire(t *testing.T) *wire {
	t.Helper()
	i, err := net.InterfaceByName("tap0")
	if err != nil {
		t.Fatal(err)
	}
	const ip4 = 8 // ETH_P_IP, in the order of the network
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, ip4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	w := &wire{fd: fd, to: &syscall.SockaddrLinklayer{Protocol: ip4, Ifindex: i.Index}, mine: i.HardwareAddr}
	w.peer, _ = net.ParseMAC(tapMAC)
	if err := syscall.Bind(fd, w.to); err != nil {
		t.Fatal(err)
	}
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 200_000})
	return w
}

// segment is one of TCP, as a stranger sends it or gets it. Strangers have addresses that nobody has: what the
// guest sends them, the host's own TCP doesn't see.
type segment struct {
	stranger         [4]byte
	theirs, guests   uint16 // ports
	flags            byte
	seq, ack, window uint32
	data             []byte
}

func (w *wire) send(s segment) {
	be := binary.BigEndian
	h := make([]byte, 40, 40+len(s.data))
	h[0], h[8], h[9] = 0x45, 64, syscall.IPPROTO_TCP
	be.PutUint16(h[2:], uint16(40+len(s.data)))
	copy(h[12:], s.stranger[:])
	copy(h[16:], net.ParseIP(tapGuest4).To4())
	be.PutUint16(h[10:], ^sum(0, h[:20]))
	tcp := h[20:]
	be.PutUint16(tcp, s.theirs)
	be.PutUint16(tcp[2:], s.guests)
	be.PutUint32(tcp[4:], s.seq)
	be.PutUint32(tcp[8:], s.ack)
	tcp[12], tcp[13] = 5<<4, s.flags
	be.PutUint16(tcp[14:], uint16(s.window))
	h = append(h, s.data...)
	pseudo := append(append([]byte{}, h[12:20]...), 0, syscall.IPPROTO_TCP, byte((len(h)-20)>>8), byte(len(h)-20))
	be.PutUint16(h[36:], ^sum(uint32(sum(0, pseudo)), h[20:]))
	frame := append(append(append([]byte{}, w.peer...), w.mine...), 8, 0)
	syscall.Sendto(w.fd, append(frame, h...), 0, w.to)
}

// receive returns the next segment to a stranger's port, false when none comes for a while.
func (w *wire) receive(stranger [4]byte, port uint16) (segment, bool) {
	be := binary.BigEndian
	b := make([]byte, 1<<17)
	for over := time.Now().Add(200 * time.Millisecond); time.Now().Before(over); {
		n, from, err := syscall.Recvfrom(w.fd, b, 0)
		if err != nil {
			continue
		}
		if l, ok := from.(*syscall.SockaddrLinklayer); ok && l.Pkttype == syscall.PACKET_OUTGOING || n < 54 || b[23] != syscall.IPPROTO_TCP {
			continue
		}
		tcp := b[34:n]
		offset := int(tcp[12]>>4) * 4
		if [4]byte(b[30:34]) != stranger || be.Uint16(tcp[2:]) != port || offset < 20 || offset > len(tcp) {
			continue
		}
		return segment{
			stranger: stranger, theirs: port, guests: be.Uint16(tcp), flags: tcp[13], seq: be.Uint32(tcp[4:]), ack: be.Uint32(tcp[8:]),
			window: uint32(be.Uint16(tcp[14:])), data: append([]byte{}, tcp[offset:]...),
		}, true
	}
	return segment{}, false
}

// connect makes a connection, and returns the next segment of the stranger's, without flags and data but ACK.
func (w *wire) connect(t *testing.T, stranger [4]byte, theirs, guests uint16) segment {
	t.Helper()
	s := segment{stranger: stranger, theirs: theirs, guests: guests, seq: rand.Uint32(), window: 65535}
	for range 300 {
		s.flags = flagSYN
		w.send(s)
		if got, ok := w.receive(stranger, theirs); ok && got.flags == flagSYN|flagACK && got.ack == s.seq+1 {
			s.flags, s.ack = flagACK, got.seq+1
			s.seq++
			w.send(s)
			return s
		}
	}
	t.Fatalf("no connection to port %d", guests)
	return s
}

// until sends a segment, again and again, until saw has seen what it waits for. Otherwise the test fails.
func (w *wire) until(t *testing.T, s segment, otherwise string, saw func(got segment) bool) {
	t.Helper()
	for range 300 {
		w.send(s)
		for {
			got, ok := w.receive(s.stranger, s.theirs)
			if !ok {
				break
			}
			if saw(got) {
				return
			}
		}
	}
	t.Fatal(otherwise)
}

// TestHostilePeers is a day on the Internet: floods of connections that nobody finishes, bytes that come one by one
// and in any order, segments of nobody's, and peers that never read. The guest serves all the while.
func TestHostilePeers(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	onTap(t, "virtio-net-pci", func(t *testing.T) {
		memory := func() (files, free int) {
			fmt.Sscan(order(t, "count"), &files, &free)
			return files, free
		}
		files, free := memory()
		t.Run("tiny-segments", tinySegments)
		t.Run("out-of-window", outOfWindow)
		t.Run("never-reading", func(t *testing.T) {
			neverReading(t)
			var f, m int
			for over := time.Now().Add(patience); time.Now().Before(over); time.Sleep(200 * time.Millisecond) {
				if f, m = memory(); f <= files && m > free-40 {
					return
				}
			}
			t.Errorf("%d files and %d MB free, before there were %d and %d", f, m, files, free)
		})
		t.Run("syn-flood", func(t *testing.T) {
			synFlood(t)
			if _, now := memory(); now < free/3 {
				t.Errorf("%d MB are free of %d, while connections wait that nobody finishes", now, free)
			}
			// What the flood holds, the next connection has no less room for.
			tinySegments(t)
		})
	})
}

func synFlood(t *testing.T) {
	w := newWire(t)
	total := 12_000 // as many as the listening sockets hold
	if soak {
		total = 60_000
	}
	for n := range total {
		w.send(segment{
			stranger: [4]byte{198, 51, byte(n >> 8), byte(n)}, theirs: uint16(1024 + rand.IntN(60000)), guests: []uint16{7, 9, 19}[n%3],
			flags: flagSYN, seq: rand.Uint32(), window: 1000,
		})
		if n%2000 == 1999 {
			serves(t, tapGuest4, 2000)
		}
	}
	serves(t, tapGuest4, 100_000)
}

// tinySegments sends bytes in segments of their own, not in their order, until the last has come.
func tinySegments(t *testing.T) {
	w := newWire(t)
	total := 10_000
	if soak {
		total = 100_000
	}
	data := make([]byte, total)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	s := w.connect(t, [4]byte{198, 51, 100, 1}, 2000, 9)
	first := s.seq
	const at = 60 // bytes that are on their way at a time
	for begin := 0; begin < total; begin += at {
		end := first + uint32(min(begin+at, total))
		for try := 0; s.seq != end; try++ {
			if try == 200 {
				t.Fatalf("of %d bytes %d arrived", total, s.seq-first)
			}
			for _, k := range rand.Perm(int(end - s.seq)) {
				one := s
				one.flags, one.seq = flagACK|flagPSH, s.seq+uint32(k)
				one.data = data[one.seq-first : one.seq-first+1]
				w.send(one)
			}
			for s.seq != end {
				got, ok := w.receive(s.stranger, s.theirs)
				if !ok {
					break // something was lost
				}
				if int32(got.ack-s.seq) > 0 {
					s.seq = got.ack
				}
			}
		}
	}
	want := fmt.Sprintf("%x", sha256.Sum256(data))
	answer := map[uint32]byte{}
	start := s.ack
	for range 300 {
		s.flags = flagFIN | flagACK
		w.send(s)
		got, ok := w.receive(s.stranger, s.theirs)
		for i, c := range got.data {
			answer[got.seq+uint32(i)-start] = c
		}
		if ok && len(answer) >= len(want) {
			break
		}
	}
	var sum strings.Builder
	for i := range len(want) {
		sum.WriteByte(answer[uint32(i)])
	}
	if sum.String() != want {
		t.Errorf("the bytes arrived changed: %q", sum.String())
	}
	s.flags, s.seq = flagRST|flagACK, s.seq+1
	w.send(s)
}

// outOfWindow sends segments to a connection that lie outside of its window, resets among them. It stands.
func outOfWindow(t *testing.T) {
	w := newWire(t)
	s := w.connect(t, [4]byte{198, 51, 100, 2}, 2001, 7)
	for n := range 20_000 {
		bad := s
		bad.flags = []byte{flagACK, flagACK | flagPSH, flagRST, flagRST | flagACK, flagFIN | flagACK, 0}[n%6]
		bad.seq = s.seq + 1<<30 + rand.Uint32N(1<<31) // further than any window, before or behind
		bad.ack = s.ack + rand.Uint32()
		if n%2 == 0 {
			bad.ack = s.ack
		}
		bad.data = make([]byte, rand.IntN(20))
		w.send(bad)
	}
	s.flags, s.data = flagACK|flagPSH, []byte("still here")
	w.until(t, s, "the connection is mute", func(got segment) bool {
		if got.flags&flagRST != 0 {
			t.Fatal("the connection was given up")
		}
		return got.seq == s.ack && string(got.data) == "still here"
	})
	s.flags, s.seq, s.data = flagRST|flagACK, s.seq+uint32(len(s.data)), nil
	w.send(s)
}

// neverReading holds connections to which the guest has more to send than anybody takes, and such to which it is sent
// more than anybody reads: more than the machine's memory, if each got what a lone one may have.
func neverReading(t *testing.T) {
	connections := 240
	if soak {
		connections = 600
	}
	d := net.Dialer{Timeout: 30 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	block := make([]byte, 1_000_000)
	var held []net.Conn
	for n := range connections {
		port := []string{"19", "7", "11"}[n%3]
		c, err := d.Dial("tcp", net.JoinHostPort(tapGuest4, port))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		if port == "19" {
			fmt.Fprintln(c, 100_000_000, 1)
		} else {
			c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			c.Write(block) // which nobody reads, or whose echo nobody does
		}
	}
	serves(t, tapGuest4, 100_000)
	for _, c := range held {
		c.(*net.TCPConn).SetLinger(0) // a reset
		c.Close()
	}
	c := dial(t, tapGuest4, "7")
	defer c.Close()
	io.WriteString(c, "hello")
	if b := make([]byte, 5); true {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Error(err)
		}
	}
}

// TestAcknowledgments: what the guest answers, the answer acknowledges; what it can't answer, a segment of its own does
// after a moment; and where a program asks for that, all is acknowledged at once (TCP_QUICKACK). The end
// of a stream goes with its last bytes.
func TestAcknowledgments(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	onTap(t, "virtio-net-pci", func(t *testing.T) {
		w := newWire(t)
		s := w.connect(t, [4]byte{198, 51, 100, 3}, 2002, 7)
		// exchange sends some bytes and returns how many segments without data acknowledge them before their echo comes.
		exchange := func(data string) (alone int) {
			s.flags, s.data = flagACK|flagPSH, []byte(data)
			n := uint32(len(data))
			w.until(t, s, "there is no echo", func(got segment) bool {
				if len(got.data) == 0 && got.ack == s.seq+n {
					alone++
				}
				return got.seq == s.ack && string(got.data) == data
			})
			s.seq, s.ack = s.seq+n, s.ack+n
			return alone
		}
		const rounds = 50
		alone := 0
		for n := range rounds {
			alone += min(exchange(fmt.Sprintf("bytes %d", n)), 1)
		}
		if alone > rounds*9/10 { // a busy host makes some
			t.Errorf("%d of %d exchanges had an acknowledgment of their own", alone, rounds)
		}
		lazy := s
		s, alone = w.connect(t, [4]byte{198, 51, 100, 3}, 2003, 13), 0
		for n := range rounds {
			alone += min(exchange(fmt.Sprintf("bytes %d", n)), 1)
		}
		if alone < rounds*9/10 {
			t.Errorf("%d of %d exchanges had an acknowledgment of their own, as asked for", alone, rounds)
		}
		s = lazy
		// A closed window keeps the answer back.
		s.window = 0
		s.flags, s.data = flagACK|flagPSH, []byte("no room for you")
		w.until(t, s, "what can't be answered is never acknowledged", func(got segment) bool {
			return len(got.data) == 0 && got.ack == s.seq+uint32(len(s.data))
		})

		// The end of a stream comes with the bytes that a cork held back, and again alone if it is lost.
		const last = "farewell"
		s = w.connect(t, [4]byte{198, 51, 100, 3}, 2004, 17)
		w.until(t, s, "the last bytes come without the end", func(got segment) bool {
			return got.seq == s.ack && string(got.data) == last && got.flags&flagFIN != 0
		})
		end := s.ack + uint32(len(last))
		w.until(t, s, "the last bytes don't come again", func(got segment) bool {
			return got.seq == s.ack && string(got.data) == last
		})
		s.ack = end
		w.until(t, s, "the end doesn't come again", func(got segment) bool {
			return got.seq == end && len(got.data) == 0 && got.flags&flagFIN != 0
		})
		s.ack, s.flags = end+1, flagACK|flagFIN
		w.until(t, s, "the stranger's end is not acknowledged", func(got segment) bool {
			return got.seq == end+1 && got.ack == s.seq+1 && got.flags == flagACK
		})
	})
}
