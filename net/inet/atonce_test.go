package inet

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
)

// These tests are of netstack as it comes, and of the kernel's, which takes shorter ways (make unit).

// retry does what can say EAGAIN until it doesn't, and returns its error.
func retry(s net.Socket, mask waiter.EventMask, f func() error) error {
	e, ready := waiter.NewChannelEntry(mask | waiter.EventErr | waiter.EventHUp)
	s.EventRegister(&e)
	defer s.EventUnregister(&e)
	for deadline := time.After(time.Minute); ; {
		err := f()
		if err != unix.EAGAIN {
			return err
		}
		select {
		case <-ready:
		case <-deadline:
			return unix.ETIMEDOUT
		}
	}
}

// all receives until the end, and returns how many bytes came.
func all(s net.Socket) (total int, err error) {
	p := make([]byte, 4096)
	for {
		n := 0
		err = retry(s, waiter.ReadableEvents, func() (err error) {
			b := mm.KernelBuffer(p)
			n, err = s.Recv(context(), &b, new(net.Message))
			return err
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}

// pour sends that many bytes.
func pour(s net.Socket, n int) error {
	b := mm.KernelBuffer(make([]byte, n))
	for b.Len() > 0 {
		err := retry(s, waiter.WritableEvents, func() error {
			_, err := s.Send(context(), &b, new(net.Message))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// watch opens and closes packet sockets on all interfaces until stop is set.
func watch(t *testing.T, n *Network, stop *atomic.Bool) {
	for !stop.Load() {
		s, err := PacketFamily{n}.Socket(context(), unix.SOCK_DGRAM, 0x300) // ETH_P_ALL
		if err != nil {
			t.Error(err)
			return
		}
		time.Sleep(time.Millisecond)
		s.Release()
		time.Sleep(time.Millisecond)
	}
}

// Both ends of many connections send, end and close at once, and are watched now and then.
func TestConnectionsAtOnce(t *testing.T) {
	const clients, rounds, most = 4, 50, 20000
	n := new(Network)
	l := newSocket(t, n, unix.AF_INET, unix.SOCK_STREAM)
	defer l.Release()
	if err := l.Bind(context(), loopback4(0)); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(context(), 2*clients); err != nil {
		t.Fatal(err)
	}
	where, _ := l.Name(nil)
	var stop atomic.Bool
	var watching, ends sync.WaitGroup
	watching.Go(func() { watch(t, n, &stop) })
	// end sends and receives at once, and closes.
	end := func(s net.Socket, sends, wants int) {
		defer s.Release()
		var sending sync.WaitGroup
		sending.Go(func() {
			if err := pour(s, sends); err != nil {
				t.Errorf("sending: %v", err)
			}
			if err := s.Shutdown(unix.SHUT_WR); err != nil {
				t.Errorf("shutdown: %v", err)
			}
		})
		if got, err := all(s); err != nil || got != wants {
			t.Errorf("received %d bytes of %d, %v", got, wants, err)
		}
		sending.Wait()
	}
	for range clients {
		ends.Go(func() {
			for range rounds {
				var s net.Socket
				if err := retry(l, waiter.ReadableEvents, func() (err error) { s, err = l.Accept(context()); return err }); err != nil {
					t.Errorf("accept: %v", err)
					return
				}
				end(s, most, most/2)
			}
		})
		ends.Go(func() {
			for range rounds {
				s, err := Family{Network: n, Number: unix.AF_INET}.Socket(context(), unix.SOCK_STREAM, 0)
				if err != nil {
					t.Error(err)
					return
				}
				err = retry(s, waiter.WritableEvents, func() error {
					_, err := s.Connect(context(), where)
					if err == unix.EINPROGRESS || err == unix.EALREADY {
						err = unix.EAGAIN
					}
					return err
				})
				if err != nil {
					t.Errorf("connect: %v", err)
					return
				}
				end(s, most/2, most)
			}
		})
	}
	ends.Wait()
	stop.Store(true)
	watching.Wait()
}

// Sockets of one port come and go while others send to it, by address and connected.
func TestDatagramsAtOnce(t *testing.T) {
	const senders, rounds = 4, 300
	n := new(Network)
	first := newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM)
	if err := first.Bind(context(), loopback4(0)); err != nil {
		t.Fatal(err)
	}
	where, _ := first.Name(nil)
	first.Release()
	shared := newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM)
	defer shared.Release()
	var stop atomic.Bool
	var watching, others sync.WaitGroup
	watching.Go(func() { watch(t, n, &stop) })
	for range senders {
		others.Go(func() {
			for range rounds {
				b := mm.KernelBuffer([]byte("a datagram"))
				if _, err := shared.Send(context(), &b, &net.Message{Address: where}); err != nil && err != unix.EAGAIN {
					t.Errorf("send: %v", err)
				}
			}
		})
		others.Go(func() {
			s := newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM)
			defer s.Release()
			if _, err := s.Connect(context(), where); err != nil {
				t.Errorf("connect: %v", err)
				return
			}
			for range rounds {
				b := mm.KernelBuffer([]byte("a datagram"))
				if _, err := s.Send(context(), &b, new(net.Message)); err != nil && err != unix.EAGAIN && err != unix.ECONNREFUSED {
					t.Errorf("send when connected: %v", err)
				}
			}
		})
	}
	others.Go(func() {
		for range rounds {
			s := newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM)
			if err := s.Bind(context(), where); err != nil {
				t.Errorf("bind: %v", err)
			}
			for range 3 {
				p := make([]byte, 100)
				b := mm.KernelBuffer(p)
				if k, err := s.Recv(context(), &b, new(net.Message)); err == nil && string(p[:k]) != "a datagram" {
					t.Errorf("received %q", p[:k])
				}
			}
			s.Release()
		}
	})
	others.Wait()
	stop.Store(true)
	watching.Wait()
}

// What waits to be received is bounded, datagrams without bytes too.
func TestDatagramsAreBounded(t *testing.T) {
	n := new(Network)
	r, s := newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM), newSocket(t, n, unix.AF_INET, unix.SOCK_DGRAM)
	defer r.Release()
	defer s.Release()
	if err := r.Bind(context(), loopback4(0)); err != nil {
		t.Fatal(err)
	}
	where, _ := r.Name(nil)
	if _, err := s.Connect(context(), where); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for range 1000 {
			b := mm.KernelBuffer([]byte("x"))
			if k, err := s.Send(context(), &b, new(net.Message)); k != 1 || err != nil {
				t.Fatalf("send: %d, %v", k, err)
			}
		}
		got := 0
		for {
			b := mm.KernelBuffer(make([]byte, 10))
			if _, err := r.Recv(context(), &b, new(net.Message)); err == unix.EAGAIN {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got == 0 || got > 1000 {
			t.Errorf("%d of 1000 datagrams came", got)
		}
	}
}
