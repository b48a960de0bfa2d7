package vfs

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/runtime/metal"
)

// Bytes from pipe to pipe without a copy, and out of a pipe into whatever takes them (splice(2), tee(2)).

// Room returns how many bytes a pipe surely takes now.
func (p *Pipe) Room() int { return max(int(p.size.Load()-p.used.Load()), 0) * metal.FrameSize }

// Splice moves up to n bytes from one pipe to another, or with keep lets them stand in both. EAGAIN: from
// is empty or to is full; 0 if from is at its end. EPIPE: nobody reads to.
//
// Precondition: the pipes are not the same.
func Splice(from, to *Pipe, n int, keep bool) (int, error) {
	first, second := from, to
	if first.id > second.id {
		first, second = second, first
	}
	first.mu.Lock()
	second.mu.Lock()
	done, err := from.splice(to, n, keep)
	second.mu.Unlock()
	first.mu.Unlock()
	if done == 0 {
		return 0, err
	}
	to.queue.Notify(waiter.ReadableEvents)
	if !keep {
		from.queue.Notify(waiter.WritableEvents)
	}
	return done, nil
}

// Precondition: both pipes' mu are held.
func (p *Pipe) splice(to *Pipe, n int, keep bool) (int, error) {
	if to.readers.Load() == 0 {
		return 0, unix.EPIPE
	}
	if p.used.Load() == 0 {
		if p.writers.Load() == 0 {
			return 0, nil
		}
		return 0, unix.EAGAIN
	}
	if to.ring == nil {
		to.ring = make([]pipeSlot, to.size.Load())
	}
	done := 0
	for i := uint32(0); done < n && i < uint32(p.used.Load()); {
		used := uint32(to.used.Load())
		if used == uint32(len(to.ring)) {
			break
		}
		s := &p.ring[(p.head+i)&uint32(len(p.ring)-1)]
		k := min(s.len, uint32(n-done))
		metal.Ref(s.frame)
		to.ring[(to.head+used)&uint32(len(to.ring)-1)] = pipeSlot{frame: s.frame, off: s.off, len: k, packet: s.packet}
		to.used.Add(1)
		done += int(k)
		if keep {
			i++
			continue
		}
		s.off += k
		s.len -= k
		if s.len == 0 || s.packet {
			p.pop()
		}
	}
	if done == 0 {
		return 0, unix.EAGAIN
	}
	return done, nil
}

// Drain passes up to n bytes of the pipe to write, and takes out of it what that takes. EAGAIN: the pipe is
// empty; 0 if it is at its end. An error of write is returned if nothing was taken.
//
// The pipe is locked while write runs, which must not use it.
func (p *Pipe) Drain(n int, write func([]byte) (int, error)) (int, error) {
	p.mu.Lock()
	done, freed := 0, false
	var err error
	for done < n && err == nil && p.used.Load() != 0 {
		s := &p.ring[p.head&uint32(len(p.ring)-1)]
		var k int
		k, err = write(metal.View(s.frame, metal.FrameSize)[s.off : s.off+min(s.len, uint32(n-done))])
		s.off += uint32(k)
		s.len -= uint32(k)
		done += k
		if s.len == 0 || s.packet && k > 0 {
			p.pop()
			freed = true
		}
		if k == 0 {
			break
		}
	}
	if done == 0 && err == nil && p.writers.Load() != 0 && p.used.Load() == 0 {
		err = unix.EAGAIN
	}
	p.mu.Unlock()
	if freed {
		p.queue.Notify(waiter.WritableEvents)
	}
	if done > 0 {
		return done, nil
	}
	return 0, err
}
