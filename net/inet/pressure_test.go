package inet

import (
	"testing"

	"elver/runtime/metal"
)

// A connection that was accepted while memory was short gets its room when it no longer is.
func TestShrunkConnectionGrows(t *testing.T) {
	a, b := connected(t, new(Network))
	defer a.Release()
	defer b.Release()
	s := b.(*Socket)
	o := s.ep().SocketOptions()
	o.SetReceiveBufferSize(leastBuffer, true)
	s.shrunk.Store(defaultTCPBuffer)
	send(t, a, "hello")
	if got := receive(t, b, 10, 0); got != "hello" {
		t.Errorf("received %q", got)
	}
	if n := o.GetReceiveBufferSize(); n != defaultTCPBuffer || s.shrunk.Load() != 0 {
		t.Errorf("a receive buffer of %d bytes", n)
	}
}

func TestAllowance(t *testing.T) {
	for _, row := range []struct {
		heap, free uint64
		want       int64
	}{
		{1000, 20_000, 0}, {8000, 20_000, 0}, {8200, 20_000, pressedBuffer}, {13_000, 15_000, leastBuffer},
		{1000, 2048, 0}, {1000, 1000, pressedBuffer}, {1000, 500, leastBuffer}, {8200, 500, leastBuffer},
	} {
		f := metal.Stats{Total: 32768, Free: row.free, Reserve: 2048}
		f.ByOwner[metal.OwnerGoHeap] = row.heap
		if got := allowance(f); got != row.want {
			t.Errorf("heap of %d frames, %d free: %d, not %d", row.heap, row.free, got, row.want)
		}
	}
}
