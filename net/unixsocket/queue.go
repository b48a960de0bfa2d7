package unixsocket

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
)

// record is a message that waits to be received, or a run of bytes of a stream.
type record struct {
	length   int
	charge   int     // what it costs the sender beside its bytes
	from     *Socket // who sent it
	creds    unix.Ucred
	hasCreds bool
	rights   []*vfs.Description
	urgent   urgency
}

// queue is what a socket has received.
//
// mu is held across the copies to and from the program, so that messages don't mix. A fault in such a
// copy never comes back here: sockets can't be mapped.
type queue struct {
	count  atomic.Int32 // records
	bytes  atomic.Int64
	urgent atomic.Bool // there is an urgent byte to receive

	mu     sync.Mutex
	closed bool   // nothing may be added any more
	mark   uint32 // the last urgent record was ring[mark % len]
	data   fifo
	ring   []record // its length is a power of two
	first  uint32   // the oldest is ring[first % len]
}

// at returns record i, counted from the oldest. Precondition: mu is held, it is there.
func (q *queue) at(i int) *record { return &q.ring[(q.first+uint32(i))&uint32(len(q.ring)-1)] }

// push adds a record, which is empty yet. Precondition: mu is held.
func (q *queue) push() *record {
	n := int(q.count.Load())
	if n == len(q.ring) {
		ring := make([]record, max(2*n, 2))
		for i := range n {
			ring[i] = *q.at(i)
		}
		q.ring, q.first, q.mark = ring, 0, q.mark-q.first
	}
	q.count.Store(int32(n + 1))
	return q.at(n)
}

// last returns a copy of the last n bytes. Precondition: mu is held, they are there.
func (q *queue) last(n int) []byte {
	p := make([]byte, n)
	b := mm.KernelBuffer(p)
	f := &q.data
	q.data.copyTo(&b, int(f.used-1)*metal.FrameSize+f.end-f.start-n, n)
	return p
}

// pop takes the oldest record out; its bytes are gone already. Precondition: mu is held.
func (q *queue) pop() {
	*q.at(0) = record{}
	q.first++
	q.count.Add(-1)
}

// empty throws everything away, and closes the queue if it is for good. It returns the descriptors that
// were in it. What the senders paid is given back to them.
func (q *queue) empty(forGood bool) []*vfs.Description {
	q.mu.Lock()
	q.closed = forGood
	var rights []*vfs.Description
	type debt struct {
		from *Socket
		n    int
	}
	var debts []debt
	for q.count.Load() > 0 {
		r := q.at(0)
		rights = append(rights, r.rights...)
		if n := len(debts); n > 0 && debts[n-1].from == r.from {
			debts[n-1].n += r.length + r.charge
		} else {
			debts = append(debts, debt{r.from, r.length + r.charge})
		}
		q.pop()
	}
	q.bytes.Store(0)
	q.urgent.Store(false)
	q.data.release()
	q.ring = nil
	q.mu.Unlock()
	for _, d := range debts {
		d.from.uncharge(d.n)
	}
	return rights
}
