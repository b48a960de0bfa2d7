//go:build !elver

package mm

import (
	"testing"

	"elver/runtime/metal"
)

// counts returns the frames by owner.
func counts() [metal.Owners]uint64 { return metal.Frames().ByOwner }

// checkCounts fails the test unless all frames came back, and nothing is promised any more.
func checkCounts(t *testing.T, before [metal.Owners]uint64) {
	t.Helper()
	if now := counts(); now != before {
		t.Errorf("frames by owner: %v before, %v after", before, now)
	}
	if n := Committed(); n != 0 {
		t.Errorf("%d bytes are still committed", n)
		committed.Store(0)
	}
}

func newSpace(t *testing.T) *AddressSpace {
	t.Helper()
	as, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return as
}

// promised returns what Committed should be if as is the only address space.
func promised(as *AddressSpace) uint64 {
	n := uint64(0)
	objects := map[*SharedMemory]bool{}
	for _, c := range as.vmas.chunks {
		for _, v := range c.vmas[:c.n] {
			if v.flags&vmAccount != 0 {
				n += v.end - v.start
			}
			if v.back != nil && v.back.shared != nil && !objects[v.back.shared] {
				objects[v.back.shared] = true
				n += uint64(v.back.shared.charged) * PageSize
			}
		}
	}
	return n
}
