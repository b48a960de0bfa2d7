package ninep

import (
	"fmt"
	"time"

	"elver/kernel"
	"elver/kernel/klog"
	"elver/runtime/metal"
)

// leave gives up waiting for m, which stays with the transport until it is settled. It returns false if the
// answer is here after all.
func (c *client) leave(m *call) bool {
	// The caller will let the frames go.
	m.hold()
	// A server cannot flush what ends or begins the use of the tag, and a clunk is to happen.
	flushes := m.kind != tclunk && m.kind != tversion
	c.mu.Lock()
	if m.arrived {
		c.mu.Unlock()
		m.letGo()
		return false
	}
	m.left = 2
	if flushes {
		m.left = 3
	}
	if m.fid != noFid {
		c.limbo[m.fid] = struct{}{}
	}
	c.mu.Unlock()
	if flushes {
		go c.flush(m)
	}
	return true
}

// flush has the server forget m. Its tag isn't used again before the server answers that, even if it
// answers m meanwhile.
func (c *client) flush(m *call) {
	f := c.begin(tflush)
	f.encoder.u16(m.tag)
	f.tag = maxCalls + m.tag
	f.by = nil
	f.over.Reset()
	c.mu.Lock()
	f.arrived, f.left = false, 0
	c.count()
	c.mu.Unlock()
	c.send(f)
	f.over.Wait(true)
	if err := c.check(f); err != nil {
		klog.Debugf("9p: the server doesn't flush message %d: %v", m.kind, err)
	}
	c.recycle(f)
	c.mu.Lock()
	m.left--
	settled := m.left == 0
	if !m.arrived {
		// It won't be answered any more, though its memory is the transport's until that returns it.
		c.busy--
		m.forgotten = true
		c.releaseTag(m.tag)
	}
	c.mu.Unlock()
	if settled {
		c.settle(m)
	}
}

// settle is the end of a message that was left: what it did is known now.
func (c *client) settle(m *call) {
	m.letGo()
	c.mu.Lock()
	if !m.forgotten {
		c.releaseTag(m.tag)
	}
	delete(c.limbo, m.fid)
	c.mu.Unlock()
	if m.fid != noFid {
		err := c.check(m)
		made := err == nil && m.kind != tclunk && (m.kind != twalk || int(m.decoder.u16()) == m.names)
		if made {
			c.clunk(m.fid)
		} else {
			c.freeFid(m.fid)
		}
	}
	m.forgotten = false
	c.recycle(m)
}

// hold keeps the frames that m reads or writes.
func (m *call) hold() {
	for _, list := range [][]Span{m.m.Out, m.m.In} {
		for _, s := range list {
			metal.Ref(s.PA &^ (pageBytes - 1))
		}
	}
}

func (m *call) letGo() {
	for _, list := range [][]Span{m.m.Out, m.m.In} {
		for _, s := range list {
			metal.Unref(s.PA &^ (pageBytes - 1))
		}
	}
}

// count counts a message that the server has to answer. Precondition: mu is held.
func (c *client) count() {
	c.busy++
	if !c.watching {
		c.watching, c.quiet, c.seen = true, 0, c.answered
		time.AfterFunc(c.glance, c.watch)
	}
}

// watch looks whether the server still answers. When it is silent, those whom a signal ends don't wait for
// it; when it is dead, nobody does.
func (c *client) watch() {
	type waiter struct {
		m  *call
		by *kernel.Thread
	}
	var waiters []waiter
	c.mu.Lock()
	if c.busy == 0 {
		c.watching = false
		c.mu.Unlock()
		return
	}
	if c.answered != c.seen {
		c.quiet, c.seen = 0, c.answered
	} else {
		c.quiet++
	}
	dead := c.quiet >= deadGlances
	if dead {
		c.watching = false
	}
	if c.quiet >= quietGlances {
		for _, m := range c.out {
			if m != nil && m.by != nil && m.left == 0 {
				waiters = append(waiters, waiter{m, m.by})
			}
		}
	}
	c.mu.Unlock()
	for _, w := range waiters {
		if !w.by.Doomed() {
			continue
		}
		c.mu.Lock()
		if c.out[w.m.tag] == w.m && w.m.by == w.by && w.m.left == 0 {
			w.m.over.Complete()
		}
		c.mu.Unlock()
	}
	if dead {
		c.t.Stop(fmt.Sprintf("the server of the share has not answered for %v", c.glance*deadGlances))
		return
	}
	time.AfterFunc(c.glance, c.watch)
}
