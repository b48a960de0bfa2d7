package kernel

import "golang.org/x/sys/unix"

// What prctl(2) and /proc keep for a thread or process, where no other file has it.

// Values of PR_SET_DUMPABLE.
const (
	dumpableNo   = 0
	dumpableUser = 1

	suidDumpable = dumpableNo // /proc/sys/fs/suid_dumpable
)

// Dumpable returns PR_GET_DUMPABLE: 0, 1 or 2.
func (p *Process) Dumpable() int { return int(p.dumpable.Load()) }

// SetDumpable implements PR_SET_DUMPABLE, whose value is 0 or 1.
func (p *Process) SetDumpable(v int) { p.dumpable.Store(int32(v)) }

// ParentDeathSignal returns PR_GET_PDEATHSIG, 0 for none.
func (t *Thread) ParentDeathSignal() Signal { return Signal(t.parentDeath.Load()) }

// SetParentDeathSignal implements PR_SET_PDEATHSIG; 0 for none.
func (t *Thread) SetParentDeathSignal(s Signal) { t.parentDeath.Store(int32(s)) }

// NoNewPrivs reports whether execve gives no privileges any more (PR_SET_NO_NEW_PRIVS).
func (t *Thread) NoNewPrivs() bool { return t.noNewPrivs.Load() }

// SetNoNewPrivs makes execve give no privileges any more.
func (t *Thread) SetNoNewPrivs() { t.noNewPrivs.Store(true) }

// Personality returns personality(2)'s value: the execution domain, and flags above it.
func (t *Thread) Personality() uint32 { return t.personality.Load() }

// SetPersonality sets it.
func (t *Thread) SetPersonality(v uint32) { t.personality.Store(v) }

// ChildSubreaper reports whether the process adopts the orphans among its descendants.
func (p *Process) ChildSubreaper() bool {
	p.k.tree.Lock()
	defer p.k.tree.Unlock()
	return p.subreaper
}

// SetChildSubreaper implements PR_SET_CHILD_SUBREAPER.
func (p *Process) SetChildSubreaper(v bool) {
	p.k.tree.Lock()
	defer p.k.tree.Unlock()
	p.subreaper = v
}

// defaultTimerSlackNS is the timer slack of the first thread. The others' default is what their maker had.
const defaultTimerSlackNS = 50_000

// TimerSlack returns PR_GET_TIMERSLACK, in nanoseconds. It has no effect: timers are exact.
func (t *Thread) TimerSlack() uint64 { return t.timerSlackNS.Load() }

// SetTimerSlack implements PR_SET_TIMERSLACK; 0 is the thread's default.
func (t *Thread) SetTimerSlack(ns uint64) {
	if ns == 0 {
		ns = t.defaultSlackNS
	}
	t.timerSlackNS.Store(ns)
}

// OOMScoreAdj returns what /proc/PID/oom_score_adj shows. It has no effect: when memory is gone, the process
// that asks for more dies.
func (p *Process) OOMScoreAdj() int32 { return p.oomScoreAdj.Load() }

// SetOOMScoreAdj sets it on behalf of t: EACCES for less than a privileged process set last, unless t is
// privileged itself.
func (p *Process) SetOOMScoreAdj(t *Thread, v int32) error {
	privileged := t.Creds().HasCap(unix.CAP_SYS_RESOURCE)
	if v < p.oomScoreMin.Load() && !privileged {
		return unix.EACCES
	}
	if privileged {
		p.oomScoreMin.Store(v)
	}
	p.oomScoreAdj.Store(v)
	return nil
}
