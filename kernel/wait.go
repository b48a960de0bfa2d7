package kernel

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// WaitFor says which changes of which children wait4(2) and waitid(2) take.
type WaitFor struct {
	PID     int32 // that child; 0: any
	Group   int32 // if not 0, the children in that process group
	Options int   // unix.WEXITED, WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT, __WNOTHREAD, __WCLONE, __WALL
}

// Waited is a child's change of state.
type Waited struct {
	PID    int32 // 0: WNOHANG was given and nothing changed
	UID    uint32
	Status ExitStatus // as wait4 returns it
	Code   int32      // CLDExited …, as waitid does
	Usage  unix.Rusage
}

// HasEnded reports whether the process is a zombie, and whether it is gone: was waited for.
func (p *Process) HasEnded() (zombie, gone bool) {
	p.k.tree.Lock()
	defer p.k.tree.Unlock()
	return p.zombie, p.zombie && p.k.process(p.PID) != p
}

// waitContinued is the status of a child that continued.
const waitContinued ExitStatus = 0xffff

// WaitChild waits for a child or a tracee to change its state: ECHILD if there is none to wait for, ERESTARTSYS.
func (t *Thread) WaitChild(w WaitFor) (Waited, error) {
	p := t.Proc
	t.PrepareBlock()
	t.entry.Init(t, waiter.EventIn)
	p.ChildEvents.EventRegister(&t.entry)
	defer p.ChildEvents.EventUnregister(&t.entry)
	for {
		got, any := t.takeChange(w)
		switch {
		case got.PID != 0:
			return got, nil
		case !any:
			return Waited{}, unix.ECHILD
		case w.Options&unix.WNOHANG != 0:
			return Waited{}, nil
		}
		if err := t.Block(Never); err != nil {
			if got, _ := t.takeChange(w); got.PID != 0 {
				return got, nil
			}
			return Waited{}, err
		}
	}
}

// takeChange takes the first change that w asks for; any says whether there is somebody to wait for.
func (t *Thread) takeChange(w WaitFor) (got Waited, any bool) {
	t.k.tree.Lock()
	got, any = t.takeChild(w)
	tell := func() {}
	if got.PID == 0 {
		var traced bool
		if got, traced, tell = t.takeTracee(w); traced {
			any = true
		}
	}
	t.k.tree.Unlock()
	if got.PID != 0 && tell != nil {
		tell()
	}
	return got, any
}

// takeChild takes the first change of a child. Precondition: tree is held.
func (t *Thread) takeChild(w WaitFor) (got Waited, any bool) {
	p, k := t.Proc, t.k
	for _, c := range p.kids {
		if w.PID != 0 && c.PID != w.PID || w.Group != 0 && c.group.id != w.Group {
			continue
		}
		tr := c.leader.trace.Load()
		traced := tr != nil && tr.tracer.Proc == p // its stops are its tracer's to take
		if isClone := c.exitSignal != sigChld; !traced && w.Options&unix.WALL == 0 && isClone != (w.Options&unix.WCLONE != 0) {
			continue
		}
		if w.Options&unix.WNOTHREAD != 0 && c.maker != nil && c.maker != t && c.maker.State() != 'Z' {
			continue
		}
		any = true
		keep := w.Options&unix.WNOWAIT != 0
		switch {
		case c.held():
		case c.zombie && w.Options&unix.WEXITED != 0:
			got = c.waited(c.status)
			got.Code, _ = c.status.child()
			if !keep {
				p.mu.Lock()
				p.children.add(c.dead)
				p.children.add(c.children)
				p.mu.Unlock()
				k.reap(c)
			}
			return got, true
		case c.zombie:
		case c.waitStop != 0 && !traced && w.Options&unix.WSTOPPED != 0:
			got = c.waited(c.waitStop)
			got.Code = CLDStopped
			if !keep {
				c.waitStop = 0
			}
			return got, true
		case c.waitCont && w.Options&unix.WCONTINUED != 0:
			got = c.waited(waitContinued)
			got.Code = CLDContinued
			if !keep {
				c.waitCont = false
			}
			return got, true
		}
	}
	return Waited{}, any
}

func (p *Process) waited(s ExitStatus) Waited {
	total := p.totals()
	p.mu.Lock()
	total.add(p.children)
	p.mu.Unlock()
	return Waited{PID: p.PID, UID: p.Creds().RUID, Status: s, Usage: total.rusage()}
}

func (c cpuTotals) rusage() unix.Rusage {
	return unix.Rusage{
		Utime: unix.NsecToTimeval(c.user), Stime: unix.NsecToTimeval(c.system), Maxrss: int64(c.maxRSSKiB),
		Minflt: int64(c.minor), Majflt: int64(c.major), Nvcsw: int64(c.switches), Nivcsw: int64(c.preemptions),
	}
}

// Rusage is getrusage(2) for unix.RUSAGE_SELF, RUSAGE_CHILDREN or RUSAGE_THREAD: EINVAL for others.
func (t *Thread) Rusage(who int) (unix.Rusage, error) {
	p := t.Proc
	var c cpuTotals
	switch who {
	case unix.RUSAGE_SELF:
		c = p.totals()
	case unix.RUSAGE_THREAD:
		c = t.totals()
	case unix.RUSAGE_CHILDREN:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.children.rusage(), nil
	default:
		return unix.Rusage{}, unix.EINVAL
	}
	c.maxRSSKiB = max(c.maxRSSKiB, t.MM().Usage().PeakRSS/1024)
	return c.rusage(), nil
}

// ChildrenCPUTime returns the CPU time of the children that were waited for, and of theirs, in nanoseconds.
func (p *Process) ChildrenCPUTime() (user, system int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.children.user, p.children.system
}
