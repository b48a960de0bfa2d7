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
	first atomic.Pointer[waiter.Entry] // changed under mu
	mu    sync.Mutex
	last  *waiter.Entry // guarded by mu
}

// EventRegister adds e. Whoever waits registers first and looks at the condition then.
func (q *Queue) EventRegister(e *waiter.Entry) {
	q.mu.Lock()
	last := q.last
	e.SetPrev(last)
	e.SetNext(nil)
	if last == nil {
		q.first.Store(e)
	} else {
		last.SetNext(e)
	}
	q.last = e
	q.mu.Unlock()
}

// EventUnregister removes e. Precondition: it is in the queue.
func (q *Queue) EventUnregister(e *waiter.Entry) {
	q.mu.Lock()
	prev, next := e.Prev(), e.Next()
	if prev == nil {
		q.first.Store(next)
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
	q.mu.Unlock()
}

// Notify tells those of mask who wait for one of its events. Whoever notifies changes the condition
// first: then either they are in the queue by now, or they will see the change.
func (q *Queue) Notify(mask waiter.EventMask) {
	if q.first.Load() != nil {
		q.notify(mask)
	}
}

func (q *Queue) notify(mask waiter.EventMask) {
	q.mu.Lock()
	for e := q.first.Load(); e != nil; e = e.Next() {
		e.NotifyEvent(mask)
	}
	q.mu.Unlock()
}

// IsEmpty reports whether nobody waits.
func (q *Queue) IsEmpty() bool { return q.first.Load() == nil }
