package tty

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/vfs"
)

// The controlling terminal of a session, and job control (credentials(7), setsid(2), ioctl_tty(2)). A
// process has the terminal of its session: one that gave it up by TIOCNOTTY without leading the session
// keeps it here.

const (
	sigHup  = kernel.Signal(unix.SIGHUP)
	sigCont = kernel.Signal(unix.SIGCONT)
)

// sessionOf returns the session of c's process, or nil.
func sessionOf(c *vfs.Context) *kernel.Session {
	if c == nil || c.Thread == nil {
		return nil
	}
	if g := c.Thread.Proc.Group(); g != nil {
		return g.Session()
	}
	return nil
}

// leads returns the session that c's process leads, or nil.
func leads(c *vfs.Context) *kernel.Session {
	if s := sessionOf(c); s != nil && s.Leader() == c.Thread.Proc {
		return s
	}
	return nil
}

// Controlling returns the controlling terminal of c's session, or nil: what /dev/tty is.
func Controlling(c *vfs.Context) *Terminal {
	if s := sessionOf(c); s != nil {
		t, _ := s.Terminal().(*Terminal)
		return t
	}
	return nil
}

// session0 returns the session that the terminal controls, or nil.
func (t *Terminal) session0() *kernel.Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.session
}

// Session returns the number of the session whose terminal this is, 0 for none.
func (t *Terminal) Session() int32 {
	if s := t.session0(); s != nil {
		return s.ID()
	}
	return 0
}

// Group returns the process group in the foreground.
func (t *Terminal) Group() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.group
}

// SetSession makes the terminal that of session s, with group in the foreground. A session that had it
// has none then.
func (t *Terminal) SetSession(s *kernel.Session, group int32) {
	t.mu.Lock()
	old := t.session
	t.session, t.group = s, group
	t.mu.Unlock()
	if old != nil && old != s {
		old.SetTerminal(nil)
	}
	s.SetTerminal(t)
}

// takeSession is TIOCSCTTY.
func (f *file) takeSession(c *vfs.Context, steal bool) error {
	t, s := f.terminal, leads(c)
	if s == nil {
		return unix.EPERM
	}
	owner := t.session0()
	if owner == s {
		return nil
	}
	admin := c.Creds.HasCap(unix.CAP_SYS_ADMIN)
	if s.Terminal() != nil || owner != nil && !(steal && admin) || !f.readable && !admin {
		return unix.EPERM
	}
	t.SetSession(s, c.Thread.Proc.Group().ID())
	return nil
}

// leaveSession takes the terminal from session s: the foreground gets SIGHUP, and SIGCONT unless the
// session's leader ended.
func (t *Terminal) leaveSession(s *kernel.Session, alive bool) {
	t.mu.Lock()
	if t.session != s {
		t.mu.Unlock()
		return
	}
	group := t.group
	t.session, t.group = nil, 0
	t.mu.Unlock()
	if alive {
		s.SetTerminal(nil)
	}
	if group == 0 {
		return
	}
	t.signal(group, sigHup)
	if alive {
		t.signal(group, sigCont)
	}
}

// LeaderGone implements kernel.Terminal.
func (t *Terminal) LeaderGone(s *kernel.Session) { t.leaveSession(s, false) }

// lost is the terminal of a session that lost it by a hang-up: what is left to do when its leader ends.
type lost struct {
	signal func(group int32, s kernel.Signal)
	group  int32
}

// LeaderGone tells the group that was in the foreground.
func (l *lost) LeaderGone(*kernel.Session) {
	l.signal(l.group, sigHup)
	l.signal(l.group, sigCont)
}

// Hangup ends what everybody has of the terminal: open files see the end of the file and EIO, and the
// session's leader gets SIGHUP and SIGCONT.
func (t *Terminal) Hangup() {
	t.mu.Lock()
	s, group := t.session, t.group
	t.session, t.group = nil, 0
	t.hangups.Add(1)
	t.flushInput()
	t.start0()
	t.mu.Unlock()
	t.queue.Notify(waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	if s == nil {
		return
	}
	s.SetTerminal(&lost{t.signal, group})
	if leader := s.Leader(); leader != nil {
		leader.Kill(sigHup, kernel.KernelInfo(sigHup))
		leader.Kill(sigCont, kernel.KernelInfo(sigCont))
	}
}

// setGroup is TIOCSPGRP, when job control allows it.
func (t *Terminal) setGroup(c *vfs.Context, arg uint64) error {
	s := sessionOf(c)
	if s == nil || s.Terminal() != kernel.Terminal(t) {
		return unix.ENOTTY
	}
	v, err := c.Thread.MM().ReadUint32(arg)
	if err != nil {
		return err
	}
	id := int32(v)
	if id < 0 {
		return unix.EINVAL
	}
	g := c.Thread.Kernel().ProcessGroup(id)
	if g == nil {
		return unix.ESRCH
	}
	if g.Session() != s {
		return unix.EPERM
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != s {
		return unix.ENOTTY
	}
	t.group = id
	return nil
}

// background returns the process group of a caller whose controlling terminal this is and that is not
// in the foreground.
func (f *file) background(c *vfs.Context) *kernel.ProcessGroup {
	if c == nil || c.Thread == nil {
		return nil
	}
	g := c.Thread.Proc.Group()
	if g == nil {
		return nil
	}
	t := f.terminal
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session == nil || g.Session() != t.session || g.ID() == t.group || t.group == 0 {
		return nil
	}
	return g
}

// stopBackground applies job control to a caller in the background: EIO, or the signal and ERESTARTSYS.
func (f *file) stopBackground(c *vfs.Context, s unix.Signal) error {
	g := f.background(c)
	if g == nil {
		return nil
	}
	sig := kernel.Signal(s)
	ignored := c.Thread.Mask().Has(sig) || c.Thread.Proc.Action(sig).Handler == kernel.SigIgn
	if ignored || g.Orphaned() {
		if s == unix.SIGTTOU && ignored {
			return nil
		}
		return unix.EIO
	}
	g.Kill(sig, kernel.KernelInfo(sig))
	return kernel.ERESTARTSYS
}
