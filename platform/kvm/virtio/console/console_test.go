//go:build !elver

package console

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

// until waits until f is true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// host takes n bytes that were written.
func host(t *testing.T, f *virtio.Fake, n int) string {
	t.Helper()
	var b bytes.Buffer
	until(t, "the console sends less than was written", func() bool {
		for {
			head, out, _, ok := f.Take(sendQueue)
			if !ok {
				return b.Len() >= n
			}
			b.Write(bytes.Join(out, nil))
			f.Return(sendQueue, head, 0)
		}
	})
	return b.String()
}

func TestOnePort(t *testing.T) {
	f := virtio.NewFake(virtio.Console, 0, make([]byte, 12), 16, 16)
	c, err := Open(f.Device())
	if err != nil {
		t.Fatal(err)
	}
	if !c.Usable(0) {
		t.Fatal("its one port is no console")
	}
	text := strings.Repeat("a line of the log\n", 5000) // more than there are frames for
	go c.Write([]byte(text))
	if got := host(t, f, len(text)); got != text {
		t.Errorf("%d bytes came, of %d", len(got), len(text))
	}
	c.Drain()
}

// announce passes a message about a port.
func announce(t *testing.T, f *virtio.Fake, port uint32, event uint16, more string) {
	t.Helper()
	until(t, "the driver gives no room for messages", func() bool {
		head, _, in, ok := f.Take(hearQueue)
		if !ok {
			return false
		}
		binary.LittleEndian.PutUint32(in[0], port)
		binary.LittleEndian.PutUint16(in[0][4:], event)
		binary.LittleEndian.PutUint16(in[0][6:], 1)
		n := 8 + copy(in[0][8:], more)
		f.Return(hearQueue, head, uint32(n))
		return true
	})
}

// says checks that the driver says this next.
func says(t *testing.T, f *virtio.Fake, port uint32, event uint16) {
	t.Helper()
	until(t, "the driver says nothing", func() bool {
		head, out, _, ok := f.Take(tellQueue)
		if !ok {
			return false
		}
		if p, e := binary.LittleEndian.Uint32(out[0]), binary.LittleEndian.Uint16(out[0][4:]); p != port || e != event {
			t.Errorf("port %d: event %d", p, e)
		}
		f.Return(tellQueue, head, 0)
		return true
	})
}

func TestPorts(t *testing.T) {
	f := virtio.NewFake(virtio.Console, featureMultiport, make([]byte, 12), 16, 16, 16, 16, 16, 16)
	c, err := Open(f.Device())
	if err != nil {
		t.Fatal(err)
	}
	says(t, f, 0, deviceReady)
	announce(t, f, 1, portAdd, "") // another one's
	announce(t, f, 1, consolePort, "")
	if c.Usable(time.Millisecond) {
		t.Error("a port that isn't there is usable")
	}
	c.Write([]byte("nowhere"))
	announce(t, f, 0, portAdd, "")
	says(t, f, 0, portReady)
	announce(t, f, 0, 7, strings.Repeat("name", 1000))
	announce(t, f, 0, consolePort, "")
	says(t, f, 0, portOpen)
	if !c.Usable(20 * time.Second) {
		t.Fatal("the console isn't usable")
	}
	c.Write([]byte("something"))
	if got := host(t, f, 9); !strings.HasSuffix(got, "something") || !strings.Contains(got, "[7 bytes of the log were lost") {
		t.Errorf("got %q", got)
	}
	announce(t, f, 0, portRemove, "")
	until(t, "a port that went away is there", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.open
	})
	if n, err := c.Write([]byte("gone")); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestSilentHost: a host that takes nothing holds writers up once, and loses what doesn't fit.
func TestSilentHost(t *testing.T) {
	f := virtio.NewFake(virtio.Console, 0, make([]byte, 12), 16, 16)
	c, err := Open(f.Device())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	for range 100 {
		c.Write(make([]byte, metal.FrameSize))
	}
	if d := time.Since(at); d > 10*patience {
		t.Errorf("writers waited for %v", d)
	}
	c.Drain()
	host(t, f, frames*metal.FrameSize)
	until(t, "no frame comes back", func() bool { return len(c.free) == frames })
	c.Write([]byte("again"))
	if got := host(t, f, 5); !strings.HasSuffix(got, "took nothing]\nagain") {
		t.Errorf("got %q", got)
	}
}

// TestHostile: a device that breaks the rules costs the log and no more.
func TestHostile(t *testing.T) {
	for name, do := range map[string]func(f *virtio.Fake){
		"returns what it doesn't have": func(f *virtio.Fake) { f.Return(sendQueue, 9999, 1) },
		"returns too many":             func(f *virtio.Fake) { f.Jump(sendQueue, 500) },
		"short messages": func(f *virtio.Fake) {
			for range 100 {
				if head, _, _, ok := f.Take(hearQueue); ok {
					f.Return(hearQueue, head, 3)
				}
			}
		},
		"endless messages": func(f *virtio.Fake) {
			for range 1000 {
				if head, _, in, ok := f.Take(hearQueue); ok {
					binary.LittleEndian.PutUint64(in[0], 1<<48|portAdd<<32)
					f.Return(hearQueue, head, 1<<31)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := virtio.NewFake(virtio.Console, featureMultiport, make([]byte, 12), 16, 16, 16, 16)
			c, err := Open(f.Device())
			if err != nil {
				t.Fatal(err)
			}
			c.use(true)
			c.Write([]byte("x"))
			do(f)
			if n, err := c.Write([]byte("y")); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
}
