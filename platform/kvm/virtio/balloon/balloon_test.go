//go:build !elver

package balloon

import (
	"encoding/binary"
	"testing"
	"time"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

const allFeatures = featureTellHost | featureStatistics | featureDeflateOnOOM

// host is a balloon's host: it keeps account of the frames that it has.
type host struct {
	*virtio.Fake
	t     *testing.T
	b     *Balloon
	holds map[uint32]bool
	end   chan struct{}
	ended chan struct{}
}

func open(t *testing.T, features uint64, reclaim func(int) int) *host {
	t.Helper()
	f := virtio.NewFake(virtio.Balloon, features, make([]byte, 8), 128, 128, 128)
	if reclaim == nil {
		reclaim = func(int) int { return 0 }
	}
	b, err := Open(f.Device(), Config{Reclaim: reclaim})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{f, t, b, map[uint32]bool{}, make(chan struct{}), make(chan struct{})}
	go h.serve()
	t.Cleanup(func() {
		h.stop()
		b.device.Stop("the test is over")
		b.mu.Lock()
		defer b.mu.Unlock()
		b.broken = true
		for b.held > 0 {
			b.release((b.held-1)%perNote + 1)
		}
		if n := metal.Frames().ByOwner[metal.OwnerBalloon]; n != 0 {
			t.Errorf("%d frames are lost", n)
		}
	})
	return h
}

func (h *host) stop() {
	select {
	case <-h.ended:
	default:
		close(h.end)
		<-h.ended
	}
}

// serve takes and gives frames.
func (h *host) serve() {
	defer close(h.ended)
	for {
		select {
		case <-h.end:
			return
		default:
		}
		idle := true
		for _, queue := range []int{inflateQueue, deflateQueue} {
			head, out, _, ok := h.Take(queue)
			if !ok {
				continue
			}
			idle = false
			for p := out[0]; len(p) > 0; p = p[numberSize:] {
				n := binary.LittleEndian.Uint32(p)
				if h.holds[n] != (queue == deflateQueue) {
					h.t.Errorf("frame %#x: queue %d, the host has it: %v", n, queue, h.holds[n])
				}
				if h.holds[n] = queue == inflateQueue; !h.holds[n] {
					delete(h.holds, n)
				}
			}
			h.Return(queue, head, 0)
		}
		if idle {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

func (h *host) want(frames uint32) {
	h.SetConfig(configWanted, binary.LittleEndian.AppendUint32(nil, frames))
}

// until waits until the balloon holds that much, and the device knows.
func (h *host) until(frames uint32) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); h.Config(configHeld) != frames; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("the balloon has %d frames, %d are wanted", h.Config(configHeld), frames)
		}
	}
}

func TestFollow(t *testing.T) {
	h := open(t, allFeatures, nil)
	for _, n := range []uint32{1, 0, 300, 5000, 1024, 1025, 1023, 0, 2048, 7, 0} {
		h.want(n)
		h.until(n)
	}
	h.stop()
	if len(h.holds) != 0 {
		t.Errorf("the host has %d frames yet", len(h.holds))
	}
}

// TestShort: the host wants more than there is, and gets what can be had: caches go, the reserve stays.
func TestShort(t *testing.T) {
	var cache []uint64
	for range 500 {
		pa, ok := metal.AllocFrame(metal.OwnerPageCache)
		if !ok {
			t.Fatal("no memory")
		}
		cache = append(cache, pa)
	}
	frames := metal.Frames()
	total := frames.Total
	defer metal.SetArenaFrames(metal.SetArenaFrames(total - frames.Free + 3000))
	h := open(t, allFeatures, func(n int) int {
		n = min(n, len(cache))
		for _, pa := range cache[:n] {
			metal.Unref(pa)
		}
		cache = cache[n:]
		return n
	})
	before := metal.Frames()
	h.want(1 << 30)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		f := metal.Frames()
		if f.Free <= f.Reserve+slack && f.ByOwner[metal.OwnerPageCache] == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, before %+v", f, before)
		}
	}
	if f := metal.Frames(); f.Free < f.Reserve {
		t.Errorf("the reserve is touched: %+v", f)
	}
	// The program is short of memory: it gets some back, and keeps it.
	if n := h.b.Deflate(100); n != 100 {
		t.Errorf("%d frames came back", n)
	}
	h.want(1 << 30)
	free := metal.Frames().Free
	h.want(1<<30 + 1) // the host insists
	for deadline := time.Now().Add(30 * time.Second); metal.Frames().Free >= free; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the balloon doesn't grow again")
		}
	}
	h.want(0)
	h.until(0)
}

func TestNoDeflate(t *testing.T) {
	h := open(t, 0, nil)
	h.want(1000)
	h.until(1000)
	if n := h.b.Deflate(100); n != 0 {
		t.Errorf("%d frames came back from a host that wants to keep them", n)
	}
}

func TestStatistics(t *testing.T) {
	h := open(t, allFeatures, nil)
	for range 3 {
		var out [][]byte
		var head uint32
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Microsecond) {
			var ok bool
			if head, out, _, ok = h.Take(statisticsQueue); ok {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no statistics")
			}
		}
		if len(out[0]) != 4*statisticBytes || binary.LittleEndian.Uint16(out[0]) != tagFree || binary.LittleEndian.Uint64(out[0][2:]) == 0 {
			t.Errorf("%x", out[0])
		}
		h.Return(statisticsQueue, head, 0)
	}
}

// TestHostile: a device that breaks the rules gets nothing more, and the frames come back.
func TestHostile(t *testing.T) {
	for name, do := range map[string]func(h *host){
		"what it doesn't have": func(h *host) { h.Return(inflateQueue, 999, 0) },
		"too many":             func(h *host) { h.Jump(deflateQueue, 300) },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, allFeatures, nil)
			h.want(600)
			h.until(600)
			h.stop()
			do(h)
			// The next question finds the device gone.
			h.want(700)
			for deadline := time.Now().Add(30 * time.Second); metal.Frames().ByOwner[metal.OwnerBalloon] != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d frames are lost", metal.Frames().ByOwner[metal.OwnerBalloon])
				}
				h.b.Deflate(1)
			}
		})
	}
}
