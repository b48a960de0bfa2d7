package waitq

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/waiter"
)

type recorder struct {
	name  string
	heard *[]string
}

func (r recorder) NotifyEvent(waiter.EventMask) { *r.heard = append(*r.heard, r.name) }

func TestNotifiesInOrderThoseWhoWaitForIt(t *testing.T) {
	var q Queue
	var heard []string
	var a, b, c waiter.Entry
	a.Init(recorder{"a", &heard}, waiter.EventIn)
	b.Init(recorder{"b", &heard}, waiter.EventOut)
	c.Init(recorder{"c", &heard}, waiter.EventIn|waiter.EventOut)
	expect := func(mask waiter.EventMask, want ...string) {
		t.Helper()
		heard = nil
		q.Notify(mask)
		if !slices.Equal(heard, want) {
			t.Errorf("Notify(%v) reached %v, want %v", mask, heard, want)
		}
	}
	expect(waiter.EventIn)
	for _, e := range []*waiter.Entry{&a, &b, &c} {
		q.EventRegister(e)
	}
	expect(waiter.EventIn, "a", "c")
	expect(waiter.EventOut, "b", "c")
	q.EventUnregister(&b)
	expect(waiter.EventOut, "c")
	q.EventUnregister(&c)
	expect(waiter.EventIn, "a")
	q.EventRegister(&b)
	q.EventUnregister(&a)
	expect(waiter.EventIn|waiter.EventOut, "b")
	q.EventUnregister(&b)
	if expect(waiter.EventOut); !q.IsEmpty() {
		t.Error("the queue is not empty after the last has left")
	}
}

// Whoever registers, then looks, and whoever changes, then notifies, don't miss each other.
func TestLosesNoWakeup(t *testing.T) {
	const rounds = 20000
	var q Queue
	var turn atomic.Int32
	var done sync.WaitGroup
	play := func(me int32) {
		defer done.Done()
		for range rounds {
			if turn.Load() != me {
				e, ch := waiter.NewChannelEntry(waiter.EventIn)
				q.EventRegister(&e)
				for turn.Load() != me {
					<-ch
				}
				q.EventUnregister(&e)
			}
			turn.Store(1 - me)
			q.Notify(waiter.EventIn)
		}
	}
	done.Add(2)
	go play(0)
	go play(1)
	done.Wait()
}
