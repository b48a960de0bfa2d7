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

// WaitChild waits for a child to change its state: ECHILD if there is none to wait for, ERESTARTSYS.
func (t *Thread) WaitChild(w WaitFor) (Waited, error) {
	p := t.Proc
	t.PrepareBlock()
	t.entry.Init(t, waiter.EventIn)
	p.ChildEvents.EventRegister(&t.entry)
	defer p.ChildEvents.EventUnregister(&t.entry)
	for {
		got, any := p.takeChild(w)
		switch {
		case got.PID != 0:
			return got, nil
		case !any:
			return Waited{}, unix.ECHILD
		case w.Options&unix.WNOHANG != 0:
			return Waited{}, nil
		}
		if err := t.Block(Never); err != nil {
			if got, _ := p.takeChild(w); got.PID != 0 {
				return got, nil
			}
			return Waited{}, err
		}
	}
}

// takeChild takes the first change that w asks for; any says whether there is a child to wait for.
func (p *Process) takeChild(w WaitFor) (got Waited, any bool) {
	k := p.k
	k.tree.Lock()
	defer k.tree.Unlock()
	for _, c := range p.kids {
		if w.PID != 0 && c.PID != w.PID || w.Group != 0 && c.group.id != w.Group {
			continue
		}
		if isClone := c.exitSignal != sigChld; w.Options&unix.WALL == 0 && isClone != (w.Options&unix.WCLONE != 0) {
			continue
		}
		any = true
		keep := w.Options&unix.WNOWAIT != 0
		switch {
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
		case c.waitStop != 0 && w.Options&unix.WSTOPPED != 0:
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
