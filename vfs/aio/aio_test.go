package aio

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
)

// TestFramesComeBack: whatever is done to a context, its ring's frames go when the address space does.
func TestFramesComeBack(t *testing.T) {
	before := metal.Frames().Free
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				c, err := New(as, 100)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range uint64(50) {
					if err := c.Reserve(); err != nil {
						t.Error(err)
					}
					c.Complete(Result{Data: i}, nil)
				}
				var out [64 * EventSize]byte
				if n, err := c.Take(out[:]); n != 50 || err != nil {
					t.Errorf("took %d events: %v", n, err)
				}
				if err := Destroy(as, c.ID()); err != nil {
					t.Error(err)
				}
				if err := c.Reserve(); err != unix.EINVAL {
					t.Errorf("a destroyed context takes requests: %v", err)
				}
			}
		}()
	}
	wg.Wait()
	if _, err := New(as, 7); err != nil {
		t.Fatal(err)
	}
	as.Release()
	if after := metal.Frames().Free; after != before {
		t.Errorf("%d frames are missing", int64(before)-int64(after))
	}
	if n := Requested(); n != 0 {
		t.Errorf("%d requests are still counted", n)
	}
}

// TestHostileRing: the program writes nonsense where the kernel reads the head.
func TestHostileRing(t *testing.T) {
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer as.Release()
	c, err := New(as, 4)
	if err != nil {
		t.Fatal(err)
	}
	var out [8 * EventSize]byte
	for _, head := range []uint32{0, 1, 1 << 31, ^uint32(0), c.capacity, c.capacity - 1} {
		if err := as.WriteUint32(c.ID()+headAt, head); err != nil {
			t.Fatal(err)
		}
		for c.Reserve() == nil {
			c.Complete(Result{}, nil)
		}
		for {
			if n, err := c.Take(out[:]); err != nil {
				t.Fatal(err)
			} else if n == 0 {
				break
			}
		}
	}
}
