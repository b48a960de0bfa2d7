package unixsocket

import (
	"bytes"
	"fmt"
	"math/rand"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
	"elver/runtime/metal"
	"elver/vfs"
	"elver/vfs/tmpfs"
)

func newContext() *vfs.Context {
	return vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(tmpfs.New(tmpfs.Options{}).Root(), "rootfs")))
}

func pair(t testing.TB, c *vfs.Context, typ int) (a, b *Socket) {
	t.Helper()
	x, y, err := Family{}.Pair(c, typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return x.(*Socket), y.(*Socket)
}

// wait blocks a goroutine until w is ready.
func wait(w waiter.Waitable, mask waiter.EventMask) {
	e, ch := waiter.NewChannelEntry(mask | waiter.EventErr | waiter.EventHUp)
	w.EventRegister(&e)
	defer w.EventUnregister(&e)
	for w.Readiness(mask) == 0 {
		<-ch
	}
}

func sendAll(c *vfs.Context, s *Socket, p []byte) error {
	b := mm.KernelBuffer(p)
	for {
		_, err := s.Write(c, &b, 0)
		switch {
		case err == unix.EAGAIN:
			wait(s, waiter.WritableEvents)
		case err != nil || b.Len() == 0:
			return err
		}
	}
}

func receive(c *vfs.Context, s *Socket, p []byte) (int, error) {
	for {
		b := mm.KernelBuffer(p)
		n, err := s.Read(c, &b, 0)
		if err != unix.EAGAIN {
			return n, err
		}
		wait(s, waiter.ReadableEvents)
	}
}

// frames checks that the test gives all its frames back.
func frames(t *testing.T) {
	before := metal.Frames().ByOwner[metal.OwnerPageCache]
	t.Cleanup(func() {
		if after := metal.Frames().ByOwner[metal.OwnerPageCache]; after != before {
			t.Errorf("%d frames in use, %d before", after, before)
		}
		flights.mu.Lock()
		defer flights.mu.Unlock()
		if flights.total != 0 || len(flights.count) != 0 {
			t.Errorf("%d descriptors are still under way", flights.total)
		}
	})
}

// TestStreams sends a known sequence through streams in pieces of random sizes, in both directions at once.
func TestStreams(t *testing.T) {
	frames(t)
	c := newContext()
	const total = 1 << 20
	want := make([]byte, total)
	rand.New(rand.NewSource(1)).Read(want)
	var all sync.WaitGroup
	for i := range 4 {
		a, b := pair(t, c, unix.SOCK_STREAM)
		var both sync.WaitGroup
		for _, d := range [][2]*Socket{{a, b}, {b, a}} {
			both.Add(2)
			go func() {
				defer both.Done()
				r := rand.New(rand.NewSource(int64(i)))
				for p := want; len(p) > 0; {
					n := min(1+r.Intn(20000), len(p))
					if err := sendAll(newContext(), d[0], p[:n]); err != nil {
						t.Error(err)
						return
					}
					p = p[n:]
				}
				d[0].Shutdown(unix.SHUT_WR)
			}()
			go func() {
				defer both.Done()
				r := rand.New(rand.NewSource(int64(i + 100)))
				var got []byte
				p := make([]byte, 30000)
				for {
					n, err := receive(newContext(), d[1], p[:1+r.Intn(len(p))])
					if err != nil {
						t.Error(err)
						return
					}
					if n == 0 {
						break
					}
					got = append(got, p[:n]...)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("received %d bytes that differ from the %d sent", len(got), len(want))
				}
			}()
		}
		all.Add(1)
		go func() {
			defer all.Done()
			both.Wait()
			if a.charged.Load() != 0 || b.charged.Load() != 0 {
				t.Errorf("%d and %d bytes are charged for an empty stream", a.charged.Load(), b.charged.Load())
			}
			a.Release()
			b.Release()
		}()
	}
	all.Wait()
}

// TestDatagrams has many send to one, who must get every message whole.
func TestDatagrams(t *testing.T) {
	frames(t)
	c := newContext()
	const senders, each = 6, 500
	server, err := newSocket(unix.SOCK_DGRAM)
	if err != nil {
		t.Fatal(err)
	}
	name := append([]byte{unix.AF_UNIX, 0, 0}, "datagrams"...)
	if err := server.Bind(c, name); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range senders {
		all.Add(1)
		go func() {
			defer all.Done()
			c := newContext()
			s, _ := newSocket(unix.SOCK_DGRAM)
			defer s.Release()
			if i%2 == 0 {
				if _, err := s.Connect(c, name); err != nil {
					t.Error(err)
				}
			}
			r := rand.New(rand.NewSource(int64(i)))
			for range each {
				p := bytes.Repeat([]byte{byte(i)}, r.Intn(9000))
				for {
					b := mm.KernelBuffer(p)
					m := net.Message{}
					if i%2 != 0 {
						m.Address = name
					}
					_, err := s.Send(c, &b, &m)
					if err == nil {
						break
					}
					if err != unix.EAGAIN {
						t.Error(err)
						return
					}
					if m.Wait != nil && i%2 != 0 {
						wait(m.Wait, waiter.WritableEvents)
					} else { // connected: the socket itself must tell
						wait(s, waiter.WritableEvents)
					}
				}
			}
		}()
	}
	count := make(map[byte]int)
	p := make([]byte, 10000)
	for range senders * each {
		n, err := receive(c, server, p)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			if len(bytes.Trim(p[:n], string(p[:1]))) != 0 {
				t.Fatal("a message of two senders")
			}
			count[p[0]]++
		}
	}
	all.Wait()
	server.Release()
}

// TestConnections has many connect to one listener while it closes and opens again.
func TestConnections(t *testing.T) {
	frames(t)
	const clients, each = 4, 200
	name := append([]byte{unix.AF_UNIX, 0}, "/listener"...)
	c := newContext()
	l, _ := newSocket(unix.SOCK_STREAM)
	if err := l.Bind(c, name); err != nil {
		t.Fatal(err)
	}
	if err := l.Bind(c, append(name[:2:2], "/other"...)); err != unix.EINVAL {
		t.Error(err)
	}
	if err := l.Listen(c, 2); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range clients {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := range each {
				s, _ := newSocket(unix.SOCK_STREAM)
				for {
					on, err := s.Connect(c, name)
					if err == unix.EAGAIN {
						wait(on, waiter.WritableEvents)
						continue
					}
					if err != nil {
						t.Error(err)
					}
					break
				}
				if err := sendAll(c, s, fmt.Appendf(nil, "%d.%d", i, j)); err != nil {
					t.Error(err)
				}
				s.Release()
			}
		}()
	}
	seen := make(map[string]bool)
	for len(seen) < clients*each {
		x, err := l.Accept(c)
		if err == unix.EAGAIN {
			wait(l, waiter.ReadableEvents)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		s := x.(*Socket)
		p := make([]byte, 20)
		n, err := receive(c, s, p)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(p[:n])] = true
		s.Release()
	}
	all.Wait()
	l.Release()
	if len(abstract) != 0 || len(files) != 0 {
		t.Errorf("names are left: %d, %d", len(abstract), len(files))
	}
}

// TestRights sends sockets through each other at random, from many goroutines, and drops them all.
func TestRights(t *testing.T) {
	frames(t)
	const workers = 4
	var all sync.WaitGroup
	for w := range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			c := newContext()
			r := rand.New(rand.NewSource(int64(w)))
			var fds []int
			room := make([]byte, 0, 1100)
			for range 2000 {
				if len(fds) < 20 {
					a, b := pair(t, c, []int{unix.SOCK_STREAM, unix.SOCK_DGRAM}[r.Intn(2)])
					for _, s := range []*Socket{a, b} {
						fd, err := c.Install(vfs.NewSocket(s, unix.O_RDWR), false)
						if err != nil {
							t.Error(err)
							return
						}
						fds = append(fds, fd)
					}
				}
				i := r.Intn(len(fds))
				d, err := c.Get(int32(fds[i]))
				if err != nil {
					t.Error(err)
					return
				}
				s := d.File().(*Socket)
				p := mm.KernelBuffer(make([]byte, 10))
				switch r.Intn(4) {
				case 0, 1:
					m := net.Message{}
					for range 1 + r.Intn(3) {
						e, _ := c.Get(int32(fds[r.Intn(len(fds))]))
						m.Rights = append(m.Rights, e)
					}
					s.Send(c, &p, &m)
					m.Drop()
				case 2:
					m := net.Message{Flags: r.Intn(2) * unix.MSG_PEEK, Room: net.ControlRoom{Bytes: room, Size: 16 + r.Intn(30)}}
					s.Recv(c, &p, &m)
					net.EachControl(m.Room.Bytes, func(_, _ int, data []byte) error {
						for ; len(data) >= 4; data = data[4:] {
							fds = append(fds, int(data[0])|int(data[1])<<8)
						}
						return nil
					})
				case 3:
					c.Close(int32(fds[i]))
					fds[i] = fds[len(fds)-1]
					fds = fds[:len(fds)-1]
				}
				d.Decref()
			}
			c.CloseRange(0, 1<<31-1, 0)
		}()
	}
	all.Wait()
	collect()
}

// TestCycle frees a socket that only its own queue holds, and keeps one that another process holds.
func TestCycle(t *testing.T) {
	frames(t)
	c := newContext()
	a, b := pair(t, c, unix.SOCK_STREAM)
	x, y := vfs.NewSocket(a, unix.O_RDWR), vfs.NewSocket(b, unix.O_RDWR)
	send := func(s *Socket, d ...*vfs.Description) {
		for _, e := range d {
			e.Incref()
		}
		p := mm.KernelBuffer([]byte("x"))
		if _, err := s.Send(c, &p, &net.Message{Rights: d}); err != nil {
			t.Fatal(err)
		}
	}
	send(a, x, y)
	send(b, x, y)
	collect()
	if a.dead.Load() || b.dead.Load() {
		t.Fatal("a socket was closed that is open")
	}
	x.Decref()
	collect()
	if a.dead.Load() || b.dead.Load() {
		t.Fatal("a socket was closed that can be received")
	}
	y.Decref()
	collect()
	if !a.dead.Load() || !b.dead.Load() {
		t.Error("the circle is still there")
	}
}

// TestAllocations: small messages cost none.
func TestAllocations(t *testing.T) {
	c := newContext()
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		a, b := pair(t, c, typ)
		out, in := []byte("message"), make([]byte, 100)
		var m net.Message
		n := testing.AllocsPerRun(100, func() {
			p := mm.KernelBuffer(out)
			if _, err := a.Send(c, &p, &m); err != nil {
				t.Fatal(err)
			}
			q := mm.KernelBuffer(in)
			if _, err := b.Recv(c, &q, &m); err != nil {
				t.Fatal(err)
			}
		})
		if n > 2 { // the buffers, which escape here
			t.Errorf("type %d: %v allocations", typ, n)
		}
		a.Release()
		b.Release()
	}
}

func TestControl(t *testing.T) {
	for _, b := range [][]byte{
		{15, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0},
		{17, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0},
		{255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 1, 0, 0, 0},
		{16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 99, 0, 0, 0},
		{20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, unix.SCM_CREDENTIALS, 0, 0, 0, 1, 2, 3, 4},
	} {
		m := net.Message{Control: b}
		if err := m.ReadRights(newContext()); err != unix.EINVAL {
			t.Errorf("%v: %v", b, err)
		}
	}
	m := net.Message{Control: []byte{20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, unix.SCM_RIGHTS, 0, 0, 0, 99, 0, 0, 0}}
	if err := m.ReadRights(newContext()); err != unix.EBADF {
		t.Error(err)
	}
	for size := range 40 {
		m := net.Message{Room: net.ControlRoom{Bytes: make([]byte, 0, 100), Size: size}}
		m.PutControl(1, 2, []byte("123456789"))
		cut := m.Got&unix.MSG_CTRUNC != 0
		if len(m.Room.Bytes) > size || cut != (size < 25) {
			t.Errorf("%d bytes of %d, cut: %v", len(m.Room.Bytes), size, cut)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	c := newContext()
	x, y := pair(b, c, unix.SOCK_STREAM)
	out, in := []byte("message"), make([]byte, 100)
	var p, q mm.Buffer
	var m net.Message
	for b.Loop() {
		p = mm.KernelBuffer(out)
		x.Send(c, &p, &m)
		q = mm.KernelBuffer(in)
		y.Recv(c, &q, &m)
	}
}
