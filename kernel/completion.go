package kernel

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/runtime/metal"
)

// Completion is something that happens once. Threads and the kernel's own goroutines wait for it, in waits that
// end for no signal but one that kills (Linux: TASK_KILLABLE). The zero value has not happened yet.
type Completion struct {
	done atomic.Bool

	mu      sync.Mutex // guards what follows
	waiters []*metal.Parker
}

// Complete says that it happened.
func (c *Completion) Complete() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Store(true)
	for _, p := range c.waiters {
		p.Wake()
	}
	c.waiters = c.waiters[:0]
}

// Done says whether it happened.
func (c *Completion) Done() bool { return c.done.Load() }

// Reset makes it something new. Precondition: nobody waits for it.
func (c *Completion) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Store(false)
}

// Wait waits until it happened, unless the calling thread is killed: EINTR. What has to be done nevertheless,
// or by a thread on its way out, waits with firm set, and so to the end.
func (c *Completion) Wait(firm bool) error {
	if c.done.Load() {
		return nil
	}
	t := Current()
	var p *metal.Parker
	if t != nil {
		p = &t.parker
	} else {
		p = new(metal.Parker)
	}
	c.mu.Lock()
	if c.done.Load() {
		c.mu.Unlock()
		return nil
	}
	c.waiters = append(c.waiters, p)
	c.mu.Unlock()
	if t == nil {
		for !c.done.Load() {
			p.Park()
		}
		return nil
	}
	killed := false
	for !c.done.Load() {
		if killed = !firm && t.Killed(); killed {
			break
		}
		t.park()
	}
	// It may have been called, in a fault, from within another wait, whose wakeup came here.
	t.Wake()
	if !killed {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done.Load() {
		return nil
	}
	if at := slices.Index(c.waiters, p); at >= 0 {
		c.waiters = slices.Delete(c.waiters, at, at+1)
	}
	return unix.EINTR
}

// Killed reports whether the thread has to go and isn't on its way out yet: then nobody will see the result of
// what it does now.
func (t *Thread) Killed() bool { return t.work.Load()&workExit != 0 && !t.leaving }

// Doomed reports whether a signal ends the process.
func (t *Thread) Doomed() bool {
	p := t.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exiting && (p.killed || p.status.Signal() != 0)
}
