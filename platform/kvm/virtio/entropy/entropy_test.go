//go:build !elver

package entropy

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"

	"elver/platform/kvm/virtio"
)

func open(t *testing.T) (*virtio.Fake, *Source) {
	t.Helper()
	f := virtio.NewFake(virtio.Entropy, 0, nil, 8)
	s, err := Open(f.Device())
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

// wait waits until there is something to take.
func wait(t *testing.T, s *Source) {
	t.Helper()
	e, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	s.EventRegister(&e)
	defer s.EventUnregister(&e)
	if s.Readiness(waiter.ReadableEvents) != 0 {
		return
	}
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
}

func TestTake(t *testing.T) {
	f, s := open(t)
	p := make([]byte, 300)
	if n, err := s.Take(p); n != 0 || err != nil {
		t.Fatalf("%d, %v before the device gave anything", n, err)
	}
	head, _, in, ok := f.Take(0)
	if !ok || len(in) != 1 || len(in[0]) != portion {
		t.Fatalf("asked for %v, %v", in, ok)
	}
	if s.Take(p); f.Idle(0) {
		t.Error("asked twice")
	}
	for i := range in[0] {
		in[0][i] = byte(i) | 1
	}
	f.Return(0, head, 400)
	wait(t, s)
	n, err := s.Take(p)
	if n != 300 || err != nil || !bytes.Equal(p, in0(0, 300)) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := s.Take(p); n != 100 || err != nil || !bytes.Equal(p[:100], in0(300, 100)) {
		t.Errorf("%d, %v", n, err)
	}
	if in[0][399] != 0 {
		t.Error("bytes that were taken are there yet")
	}
	if _, _, _, ok := f.Take(0); !ok {
		t.Error("no more were asked for")
	}
}

func in0(from, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(from+i) | 1
	}
	return p
}

func TestFill(t *testing.T) {
	f, s := open(t)
	done := make(chan error)
	p := make([]byte, 700)
	go func() { done <- s.Fill(p, time.Minute) }()
	for given := 0; given < 700; {
		head, _, in, ok := f.Take(0)
		if !ok {
			time.Sleep(time.Millisecond)
			continue
		}
		copy(in[0], bytes.Repeat([]byte{7}, 50))
		f.Return(0, head, 50)
		given += 50
	}
	if err := <-done; err != nil || !bytes.Equal(p, bytes.Repeat([]byte{7}, 700)) {
		t.Errorf("%v", err)
	}
	if err := s.Fill(p, time.Millisecond); err == nil {
		t.Error("a silent device filled a buffer")
	}
}

// TestHostile: a device that gives nothing, too much, or what it was not asked for.
func TestHostile(t *testing.T) {
	p := make([]byte, 2000)
	t.Run("too much", func(t *testing.T) {
		f, s := open(t)
		s.Take(p)
		head, _, _, _ := f.Take(0)
		f.Return(0, head, 1<<31)
		wait(t, s)
		if n, err := s.Take(p); n != portion || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
	for name, break_ := range map[string]func(f *virtio.Fake, head uint32){
		"nothing": func(f *virtio.Fake, head uint32) { f.Return(0, head, 0) },
		"another": func(f *virtio.Fake, head uint32) { f.Return(0, head+1, 9) },
		"many":    func(f *virtio.Fake, head uint32) { f.Jump(0, 77) },
	} {
		t.Run(name, func(t *testing.T) {
			f, s := open(t)
			s.Take(p)
			head, _, _, _ := f.Take(0)
			break_(f, head)
			wait(t, s)
			if _, err := s.Take(p); !errors.Is(err, virtio.ErrBroken) {
				t.Errorf("%v", err)
			}
		})
	}
}
