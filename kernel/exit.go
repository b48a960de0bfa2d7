package kernel

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/klog"
)

// Exit is exit(2): the thread ends once the handler of the system call has returned.
func (t *Thread) Exit(code int) {
	t.exitStatus = Exited(code)
	t.setWork(workExit)
}

// ExitGroup is exit_group(2): all threads of the process end, wherever they wait; this one once the handler of
// the system call has returned.
func (t *Thread) ExitGroup(code int) { t.Proc.beginExit(Exited(code)) }

// beginExit ends all threads of the process with that status. It returns false if the process was
// ending already.
func (p *Process) beginExit(status ExitStatus) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beginExitLocked(status)
}

func (p *Process) beginExitLocked(status ExitStatus) bool {
	if p.exiting {
		return false
	}
	p.exiting, p.status = true, status
	p.killed = status.Signal() == sigKill
	p.stopSig, p.stopCount = 0, 0
	for _, t := range p.threads {
		t.setWork(workExit)
		t.Wake()
	}
	return true
}

// exit ends the thread, and the process with its last thread. Nothing in it waits for the program, but for a
// tracer that asked for it.
func (t *Thread) exit() {
	p, k := t.Proc, t.k
	t.leaving = true
	t.traceExit()
	t.exitRobustList()
	if t.clearTID != 0 {
		// The stack of a thread may be gone already: then there is nobody to tell.
		if t.MM().WriteUint32(t.clearTID, 0) == nil {
			t.FutexWake(t.clearTID, true, 1, FutexAll)
		}
		t.clearTID = 0
	}
	t.LeaveSemaphoreUndo()
	if t.alarm != nil {
		t.alarm.Stop()
	}
	t.cpu.stop()
	t.Ctx.Release()

	p.mu.Lock()
	status := t.exitStatus
	if p.exiting {
		status = p.status
	}
	if k.config.Exited != nil {
		p.mu.Unlock()
		k.config.Exited(t, status)
		p.mu.Lock()
	}
	p.dead.add(t.totals())
	p.deadIO.add(t.IO())
	p.removeThread(t)
	last := len(p.threads) == 0
	t.exited = true
	t.exitStatus = status
	t.state.Store(stateDead)
	t.pending.drop(^SigSet(0))
	if t == p.leader && !p.exiting {
		p.status = status
	}
	stopped := p.leaveStop(t)
	var execer *Thread
	if !last {
		p.retarget()
		if execer = p.execer; execer != nil {
			execer.Wake()
		}
	}
	p.mu.Unlock()
	if stopped {
		p.notifyStop(CLDStopped)
	}
	t.releaseVfork()

	k.user(t.Creds().RUID).tasks.Add(-1)
	k.tree.Lock()
	k.tasks--
	var tracer *Thread
	if t != p.leader && k.threads[t.TID] == t {
		if tr := t.trace.Load(); tr != nil {
			tracer = tr.tracer // which takes the zombie
		} else {
			delete(k.threads, t.TID)
		}
	}
	tracing := len(t.tracees) != 0
	k.tree.Unlock()
	if tracer != nil {
		code, number := status.child()
		t.tellTracer(tracer, childInfo(code, t.TID, t.Creds().RUID, number, 0, 0))
	}
	if tracing {
		t.dropTracees()
	}
	t.observe(t.observers, false)
	if last {
		p.end()
	}
}

// removeThread takes t out of the list, whose order says nothing but that the leader is first while it
// lives. Precondition: mu is held.
func (p *Process) removeThread(t *Thread) {
	last := len(p.threads) - 1
	moved := p.threads[last]
	p.threads[t.index], moved.index = moved, t.index
	p.threads[last] = nil
	p.threads = p.threads[:last]
}

// retarget wakes who can take the signals of the process that a thread left behind. Precondition: mu
// is held.
func (p *Process) retarget() {
	if p.shared.set == 0 {
		return
	}
	for _, t := range p.threads {
		if p.shared.set&^t.mask != 0 && t.work.Load()&workSignal == 0 {
			t.setWork(workSignal)
			t.Wake()
		}
	}
}

// end gives back what the process has, and leaves a zombie for the parent. Its last thread calls it.
func (p *Process) end() {
	k := p.k
	maxRSS := uint64(0)
	if as := p.MM(); as != nil {
		maxRSS = as.Usage().PeakRSS / 1024
	}
	p.stopTimers()
	if p.Attach != nil {
		p.Attach.Exit()
	}
	p.leaveTerminal()
	p.mu.Lock()
	p.exiting = true
	p.dead.maxRSSKiB = max(p.dead.maxRSSKiB, maxRSS)
	p.shared.drop(^SigSet(0))
	as := p.mm.Swap(nil)
	p.mu.Unlock()
	if as != nil {
		as.Release()
	}
	klog.Debugf("process %d ended with status %#x", p.PID, uint32(p.status))
	if p == k.first && p.status.Signal() == sigKill && !p.reported.Load() && !k.stopping.Load() {
		// No thread takes this signal, so none has reported it.
		k.report(fmt.Appendf(nil, "%s: killed by SIGKILL\n", p.leader.Comm()))
	}

	var gone, ended []*Process
	k.tree.Lock()
	groups := p.heldGroups()
	reaper := p.reaper()
	reapsAll, silent := reaper == nil, reaper == nil
	if reaper != nil {
		reapsAll, silent = reaper.ignoresChildren()
	}
	for _, c := range p.kids {
		c.parent, c.maker = reaper, nil
		c.exitSignal = sigChld // nobody chose another for the reaper
		if reaper != nil {
			reaper.kids = append(reaper.kids, c)
			c.answerParent()
		}
		if c.zombie && !c.held() {
			if reapsAll {
				gone = append(gone, c)
			}
			if !silent {
				ended = append(ended, c)
			}
		}
	}
	orphans := p.kids
	p.kids = nil
	p.zombie = true
	var parent, tracer *Process
	var sig Signal
	if p.held() {
		tracer = p.leader.trace.Load().tracer.Proc
	} else {
		parent, sig = p.settle()
	}
	first := p == k.first
	for _, c := range gone {
		k.reap(c)
	}
	groups = abandoned(groups)
	k.tree.Unlock()

	for _, g := range groups { // setpgid(2), NOTES
		g.Kill(Signal(unix.SIGHUP), KernelInfo(Signal(unix.SIGHUP)))
		g.Kill(sigCont, KernelInfo(sigCont))
	}

	for _, c := range orphans {
		if s := Signal(c.leader.parentDeath.Load()); s != 0 {
			c.Kill(s, KernelInfo(s))
		}
		if reaper != nil {
			reaper.ChildEvents.Notify(waiter.EventIn)
		}
	}
	for _, c := range ended {
		c.tellParent(reaper, sigChld)
	}
	p.ExitEvents.Notify(waiter.EventIn)
	p.tellParent(tracer, sigChld)
	p.tellParent(parent, sig)
	if first {
		k.end(p.status)
	}
}

// settle decides what becomes of a zombie, and returns the parent that learns of it and the signal for that, 0 for
// none. Precondition: tree is held.
func (p *Process) settle() (parent *Process, sig Signal) {
	parent, sig = p.parent, p.exitSignal
	reap := parent == nil
	if parent != nil && sig == sigChld {
		var silent bool
		if reap, silent = parent.ignoresChildren(); silent {
			sig = 0
		}
	}
	if reap {
		p.k.reap(p)
	}
	return parent, sig
}

// tellParent tells the parent, or the tracer in its place, of p's end; to may be nil.
func (p *Process) tellParent(to *Process, sig Signal) {
	if to == nil {
		return
	}
	if sig != 0 {
		to.Kill(sig, p.childInfo(sig))
	}
	to.ChildEvents.Notify(waiter.EventIn)
}

// traceExit tells the tracer that the thread is about to end.
func (t *Thread) traceExit() {
	if t.trace.Load() == nil {
		return
	}
	t.Proc.mu.Lock()
	status := t.exitStatus
	if t.Proc.exiting {
		status = t.Proc.status
	}
	t.Proc.mu.Unlock()
	t.traceEvent(unix.PTRACE_EVENT_EXIT, uint64(status))
}

// Ended returns the status of a process that has ended.
func (p *Process) Ended() (ExitStatus, bool) {
	p.k.tree.Lock()
	defer p.k.tree.Unlock()
	return p.status, p.zombie
}

// childInfo is the siginfo by which the parent learns of the end.
func (p *Process) childInfo(sig Signal) Siginfo {
	code, status := p.status.child()
	user, system := p.CPUTime()
	i := childInfo(code, p.PID, p.Creds().RUID, status, user, system)
	i.Signo = int32(sig)
	return i
}

// child returns si_code and si_status for the status of a process that ended.
func (s ExitStatus) child() (code, status int32) {
	switch sig := s.Signal(); {
	case sig == 0:
		return CLDExited, int32(s >> 8 & 0xff)
	case s&coreDumped != 0:
		return CLDDumped, int32(sig)
	default:
		return CLDKilled, int32(sig)
	}
}

// reaper returns who becomes the parent of p's children: the nearest ancestor that asked for it, or the
// first process; nil when that is gone. Precondition: tree is held.
func (p *Process) reaper() *Process {
	for a := p.parent; a != nil; a = a.parent {
		if a.subreaper && !a.zombie {
			return a
		}
	}
	if i := p.k.init; i != p && !i.zombie {
		return i
	}
	return nil
}

// reap removes a zombie from the tree. Precondition: tree is held.
func (k *Kernel) reap(p *Process) {
	if p.leader.trace.Load() != nil {
		k.unlink(p.leader)
	}
	if k.threads[p.PID] != nil && k.threads[p.PID].Proc == p {
		delete(k.threads, p.PID)
	}
	if p.parent != nil {
		p.parent.kids = slices.DeleteFunc(p.parent.kids, func(c *Process) bool { return c == p })
	}
	k.leaveGroup(p)
}

// stop parks the thread while its process is stopped. A process may be continued and stopped again before
// the thread runs: each time it counts anew.
func (t *Thread) stop() {
	if t.traceGroupStop() {
		return
	}
	t.cpu.stop()
	t.state.Store(stateStopped)
	for t.work.Load()&workExit == 0 && t.stopped() {
		t.parker.Park()
	}
	t.state.Store(stateRunning)
	t.cpu.start()
}

// stopped reports whether the thread has to stay stopped, and if it is the last that was waited for tells
// the parent. A tracer that comes meanwhile has it stop in its own way.
func (t *Thread) stopped() bool {
	p := t.Proc
	p.mu.Lock()
	if t.trace.Load() != nil {
		p.mu.Unlock()
		return false
	}
	if p.stopSig == 0 || p.exiting {
		t.clearWork(workStop)
		t.recalc()
		p.mu.Unlock()
		return false
	}
	all := p.leaveStop(t)
	p.mu.Unlock()
	if all {
		p.notifyStop(CLDStopped)
	}
	return true
}

// beginStop stops all threads of the process. Precondition: mu is held.
func (p *Process) beginStop(sig Signal) {
	p.stopSig, p.stopCount = sig, len(p.threads)
	for _, t := range p.threads {
		t.stopCounted = true
		t.setWork(workStop)
		t.Wake()
	}
}

// leaveStop counts a thread that has stopped, or ended instead, and returns whether it was the last that was
// waited for. Precondition: mu is held.
func (p *Process) leaveStop(t *Thread) (all bool) {
	if !t.stopCounted || p.stopSig == 0 {
		return false
	}
	t.stopCounted = false
	p.stopCount--
	return p.stopCount == 0
}

// notifyStop tells the parent that the process stopped or goes on: code is CLDStopped or CLDContinued.
func (p *Process) notifyStop(code int32) {
	k := p.k
	k.tree.Lock()
	p.mu.Lock()
	sig := p.stopSig
	p.mu.Unlock()
	if code == CLDContinued {
		p.waitCont, p.waitStop = true, 0
		sig = sigCont
	} else if sig != 0 {
		p.waitCont, p.waitStop = false, ExitStatus(sig)<<8|0x7f
	} else { // it was continued meanwhile, and who did that tells
		k.tree.Unlock()
		return
	}
	parent := p.parent
	tr := p.leader.trace.Load()
	k.tree.Unlock()
	if parent == nil || code == CLDStopped && tr != nil && tr.tracer.Proc == parent {
		return // as a tracer it hears of each thread
	}
	if a := parent.actions.get(sigChld); a.Handler != SigIgn && a.Flags&SANoCldStop == 0 {
		user, system := p.CPUTime()
		parent.Kill(sigChld, childInfo(code, p.PID, p.Creds().RUID, int32(sig), user, system))
	}
	parent.ChildEvents.Notify(waiter.EventIn)
}
