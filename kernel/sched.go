package kernel

import "golang.org/x/sys/unix"

// Scheduling is what a thread asked of the scheduler, which is Go's and fair to all: it is kept, so that
// programs read back what they wrote, and has no effect.
type Scheduling struct {
	Policy      uint32 // unix.SCHED_NORMAL …
	Priority    int32  // sched_priority of SCHED_FIFO and SCHED_RR
	Nice        int32
	ResetOnFork bool // SCHED_RESET_ON_FORK
}

// Scheduling returns what the thread asked for.
func (t *Thread) Scheduling() Scheduling {
	if s := t.scheduling.Load(); s != nil {
		return *s
	}
	return Scheduling{}
}

// SetScheduling keeps s.
func (t *Thread) SetScheduling(s Scheduling) { t.scheduling.Store(&s) }

// inheritScheduling gives a new thread what t has, or less of it by SCHED_RESET_ON_FORK (sched(7)).
func (t *Thread) inheritScheduling(child *Thread) {
	s := t.scheduling.Load()
	if s != nil && s.ResetOnFork {
		c := Scheduling{Policy: s.Policy, Nice: max(s.Nice, 0)}
		if c.Policy == unix.SCHED_FIFO || c.Policy == unix.SCHED_RR {
			c.Policy = unix.SCHED_NORMAL
		}
		s = &c
	}
	child.scheduling.Store(s)
}

// MayReschedule reports whether t may change the scheduling of o: its own user's, or with CAP_SYS_NICE.
func (t *Thread) MayReschedule(o *Thread) bool {
	c, d := t.Creds(), o.Creds()
	return c.EUID == d.EUID || c.EUID == d.RUID || c.HasCap(unix.CAP_SYS_NICE)
}
