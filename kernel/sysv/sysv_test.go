package sysv

import (
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/runtime/metal"
)

// TestFramesComeBack: segments give their frames back when they are removed and mapped no more, in either
// order, and when the process ends with them mapped.
func TestFramesComeBack(t *testing.T) {
	before := metal.Frames().Free
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	thread, err := kernel.New(kernel.Config{}).NewFirst(as, nil, nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	var m Memory
	for i := range 3 {
		id, err := m.Get(thread, Private, 20000, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		addr, err := m.Attach(thread, id, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := as.CopyOut(addr, make([]byte, 20000)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := m.Detach(thread, addr); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Remove(thread, id); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := m.Detach(thread, addr); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Detach(thread, addr); i < 2 && err != unix.EINVAL {
			t.Errorf("detached twice: %v", err)
		}
	}
	as.Release()
	if n, _, pages, resident := m.Info(); n != 0 || pages != 0 || resident != 0 {
		t.Errorf("%d segments of %d pages, %d in memory, are left", n, pages, resident)
	}
	if after := metal.Frames().Free; after != before {
		t.Errorf("%d frames are missing", int64(before)-int64(after))
	}
}
