package net

import (
	"sync"
	"sync/atomic"
)

// The open sockets, for /proc/net and who asks about sockets. trackMu is a leaf.
var (
	trackMu sync.Mutex
	first   *Base
	count   [maxFamily]atomic.Int32
)

// Owner is what is known of a socket beside what it says itself.
type Owner struct {
	Inode uint64 // its number, as fstat(2) tells it
	UID   uint32 // of who made it
}

// tracked is a Base's place among the open sockets.
type tracked struct {
	socket     Socket // nil when it is not there
	owner      Owner
	next, last *Base
}

func (b *Base) base() *Base { return b }

// Track puts s among the open sockets, until its Base's Untrack.
func Track(s Socket, o Owner) {
	x, ok := s.(interface{ base() *Base })
	if !ok {
		return
	}
	b := x.base()
	trackMu.Lock()
	defer trackMu.Unlock()
	if b.tracked.socket != nil {
		return
	}
	b.tracked = tracked{socket: s, owner: o, next: first}
	if first != nil {
		first.tracked.last = b
	}
	first = b
	count[b.Family()].Add(1)
}

// Untrack is called when the socket is closed.
func (b *Base) Untrack() {
	trackMu.Lock()
	defer trackMu.Unlock()
	t := &b.tracked
	if t.socket == nil {
		return
	}
	if t.last != nil {
		t.last.tracked.next = t.next
	} else {
		first = t.next
	}
	if t.next != nil {
		t.next.tracked.last = t.last
	}
	*t = tracked{}
	count[b.Family()].Add(-1)
}

// SetFamily makes the socket one of another family (IPV6_ADDRFORM of ipv6(7)).
func (b *Base) SetFamily(family int) {
	trackMu.Lock()
	defer trackMu.Unlock()
	if b.tracked.socket != nil {
		count[b.Family()].Add(-1)
		count[family].Add(1)
	}
	b.family.Store(int32(family))
}

// Entry is an open socket.
type Entry struct {
	Socket
	Owner
}

// Open returns the open sockets of a family, or of all for AF_UNSPEC.
func Open(family int) []Entry {
	trackMu.Lock()
	defer trackMu.Unlock()
	var list []Entry
	for b := first; b != nil; b = b.tracked.next {
		if family == 0 || b.Family() == family {
			list = append(list, Entry{b.tracked.socket, b.tracked.owner})
		}
	}
	return list
}

// Count returns how many sockets are open.
func Count() int {
	n := 0
	for i := range count {
		n += int(count[i].Load())
	}
	return n
}
