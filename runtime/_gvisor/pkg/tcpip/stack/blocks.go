package stack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// What programs write much of at once goes into blocks of memory that a card's device can read, so that it isn't copied
// once more to be sent. There are few: all else goes into the Go heap, and is copied.

// FrameHolder is a link that has such blocks. It sends a frame whose pieces after the first are in blocks, and are the
// bytes of data, which it holds until they have been sent. It returns false if it can't: then nothing has happened.
type FrameHolder interface {
	HoldFrame(pieces [][]byte, gso *GSO, data PacketData) (bool, tcpip.Error)
}

// blocks are those of an interface.
type blocks struct {
	mu   sync.Mutex
	free []func(from, to int) *buffer.View
	size int
}

// Keep takes the blocks of a card's, which are of one size.
func (n *nic) Keep(memory [][]byte) {
	b := &n.blocks
	for _, block := range memory {
		b.size = len(block)
		var lend func(from, to int) *buffer.View
		back := func() {
			b.mu.Lock()
			b.free = append(b.free, lend)
			b.mu.Unlock()
		}
		lend = buffer.Lend(block, back)
		back()
	}
}

// LeastHeld is how many bytes are worth a block.
const LeastHeld = 32 << 10

// Block returns an empty view of a block for up to n bytes that are sent along w, and how many it takes, or nil if there
// is none.
func (w *Straight) Block(n int) (*buffer.View, int) {
	b := &w.route.outgoingNIC.blocks
	b.mu.Lock()
	k := len(b.free)
	if k == 0 {
		b.mu.Unlock()
		return nil, 0
	}
	lend := b.free[k-1]
	b.free = b.free[:k-1]
	b.mu.Unlock()
	n = min(n, b.size)
	v := lend(0, n)
	v.Reset()
	return v, n
}
