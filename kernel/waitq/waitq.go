// Package waitq is the queue of those who wait for something to happen: to a file, a process, an epoll.
//
// Its entries, events and listeners are gVisor's waiter's, so that every waiter.Waitable can be waited for
// alike. Its Queue is ours: waiter.Queue's lock, made for goroutines on many CPUs, costs several
// times what the queue itself does, and it is taken even to notify nobody.
package waitq

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/waiter"
)

// Queue is a wait queue. Its zero value is empty.
//
// Lock order: a queue's lock is the innermost but for those that listeners take, an epoll's queue among
// them. A listener does not use the queue that it hears from.
type Queue struct {
	waiting atomic.Bool // there is a first
	mu      sync.Mutex
	first   *waiter.Entry // guarded by mu
	last    *waiter.Entry // guarded by mu
}

// EventRegister adds e. Whoever waits registers first and looks at the condition then.
// Precondition: e is in no queue, so that its links are nil.
func (q *Queue) EventRegister(e *waiter.Entry) {
	q.mu.Lock()
	if last := q.last; last == nil {
		q.first = e
		q.waiting.Store(true)
	} else {
		e.SetPrev(last)
		last.SetNext(e)
	}
	q.last = e
	q.mu.Unlock()
}

// EventUnregister removes e. Precondition: it is in the queue.
func (q *Queue) EventUnregister(e *waiter.Entry) {
	q.mu.Lock()
	if q.first == q.last {
		// The only one, which is the most common.
		q.waiting.Store(false)
		q.first, q.last = nil, nil
	} else {
		q.remove(e)
	}
	q.mu.Unlock()
}

// remove takes e out of the middle of others. Precondition: mu is held.
func (q *Queue) remove(e *waiter.Entry) {
	prev, next := e.Prev(), e.Next()
	if prev == nil {
		q.first = next
	} else {
		prev.SetNext(next)
	}
	if next == nil {
		q.last = prev
	} else {
		next.SetPrev(prev)
	}
	e.SetPrev(nil)
	e.SetNext(nil)
}

// Notify tells those of mask who wait for one of its events. Whoever notifies changes the condition
// first: then either they are in the queue by now, or they will see the change.
func (q *Queue) Notify(mask waiter.EventMask) {
	if q.waiting.Load() {
		q.notify(mask)
	}
}

func (q *Queue) notify(mask waiter.EventMask) {
	q.mu.Lock()
	served := false
	for e := q.first; e != nil; e = e.Next() {
		if e.Mask()&Exclusive == 0 {
			e.NotifyEvent(mask)
		} else if e.Mask()&mask != 0 && (!served || mask&bothWays == bothWays) {
			e.NotifyEvent(mask)
			served = e.Mask()&Served != 0
		}
	}
	q.mu.Unlock()
}

// Bits of an entry's mask that are no events. Of the entries that are Exclusive one is enough to be told,
// if it says that it woke somebody: its listener initialises it anew, with Served if so, each time it hears
// of something (EPOLLEXCLUSIVE in epoll_ctl(2)).
const (
	Exclusive waiter.EventMask = 1 << (62 + iota)
	Served
)

// bothWays are events after which all look: a hang-up, for example.
const bothWays = waiter.EventIn | waiter.EventOut

// IsEmpty reports whether nobody waits.
func (q *Queue) IsEmpty() bool { return !q.waiting.Load() }
