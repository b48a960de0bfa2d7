package kernel

import (
	"slices"

	"golang.org/x/sys/unix"
)

// ProcessGroup is the processes that a terminal's signal reaches together.
type ProcessGroup struct {
	id      int32
	session *Session
	k       *Kernel
	members []*Process // guarded by Kernel.tree
}

// Session is the process groups of a login, which may have a controlling terminal.
type Session struct {
	id       int32
	leader   *Process // guarded by Kernel.tree; nil once it has ended
	groups   int      // guarded by Kernel.tree
	terminal Terminal // guarded by Kernel.tree
	k        *Kernel
}

// Terminal is the controlling terminal of a session: vfs's.
type Terminal interface {
	// LeaderGone is called, without locks, when the session's leader has ended.
	LeaderGone(s *Session)
}

// ID returns the group's number.
func (g *ProcessGroup) ID() int32 { return g.id }

// Session returns the group's session.
func (g *ProcessGroup) Session() *Session { return g.session }

// ID returns the session's number.
func (s *Session) ID() int32 { return s.id }

// Leader returns the process that made the session; nil once it has ended.
func (s *Session) Leader() *Process {
	s.k.tree.Lock()
	defer s.k.tree.Unlock()
	return s.leader
}

// Terminal returns what SetTerminal set, nil for none.
func (s *Session) Terminal() Terminal {
	s.k.tree.Lock()
	defer s.k.tree.Unlock()
	return s.terminal
}

// SetTerminal sets the session's controlling terminal.
func (s *Session) SetTerminal(terminal Terminal) {
	s.k.tree.Lock()
	defer s.k.tree.Unlock()
	s.terminal = terminal
}

// leaveTerminal tells the terminal of the session that p leads, if it does, that p has ended.
func (p *Process) leaveTerminal() {
	p.k.tree.Lock()
	s := p.group.session
	var t Terminal
	if s.leader == p {
		t, s.terminal = s.terminal, nil
	}
	p.k.tree.Unlock()
	if t != nil {
		t.LeaderGone(s)
	}
}

// Kill sends sig to every process of the group without asking for permission: for terminals.
func (g *ProcessGroup) Kill(sig Signal, info Siginfo) {
	g.k.tree.Lock()
	members := slices.Clone(g.members)
	g.k.tree.Unlock()
	for _, p := range members {
		p.Kill(sig, info)
	}
}

// Orphaned reports whether no process of the group has its parent in another group of the same
// session: then nobody would continue it, and the terminal's stop signals do nothing to it.
func (g *ProcessGroup) Orphaned() bool {
	g.k.tree.Lock()
	defer g.k.tree.Unlock()
	return g.orphaned()
}

// orphaned is Orphaned. Precondition: tree is held.
func (g *ProcessGroup) orphaned() bool {
	for _, p := range g.members {
		if q := p.parent; q != nil && !p.zombie && q.group != g && q.group.session == g.session {
			return false
		}
	}
	return true
}

// heldGroups returns the groups that are not orphaned but may be once p has ended: its own, and those of its
// children. Precondition: tree is held.
func (p *Process) heldGroups() []*ProcessGroup {
	var held []*ProcessGroup
	add := func(g *ProcessGroup) {
		if g.session == p.group.session && !slices.Contains(held, g) && !g.orphaned() {
			held = append(held, g)
		}
	}
	if len(p.group.members) > 1 {
		add(p.group)
	}
	for _, c := range p.kids {
		if c.group != p.group {
			add(c.group)
		}
	}
	return held
}

// abandoned returns those of the groups that nobody would continue any more: they are orphaned now, and a member is
// stopped. Precondition: tree is held.
func abandoned(groups []*ProcessGroup) []*ProcessGroup {
	return slices.DeleteFunc(groups, func(g *ProcessGroup) bool {
		stopped := slices.ContainsFunc(g.members, func(p *Process) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.stopSig != 0
		})
		return !stopped || !g.orphaned()
	})
}

// ProcessGroup returns the group with that number, or nil.
func (k *Kernel) ProcessGroup(id int32) *ProcessGroup {
	k.tree.Lock()
	defer k.tree.Unlock()
	return k.groups[id]
}

// Group returns the process's group.
func (p *Process) Group() *ProcessGroup {
	p.k.tree.Lock()
	defer p.k.tree.Unlock()
	return p.group
}

// ParentPID returns the number of the process's parent, 0 if it has none.
func (p *Process) ParentPID() int32 {
	p.k.tree.Lock()
	defer p.k.tree.Unlock()
	if p.parent == nil {
		return 0
	}
	return p.parent.PID
}

// Children returns the numbers of the process's children, zombies included.
func (p *Process) Children() []int32 {
	p.k.tree.Lock()
	defer p.k.tree.Unlock()
	var all []int32
	for _, c := range p.kids {
		all = append(all, c.PID)
	}
	return all
}

// newSession makes p the leader of a new session and group. Precondition: tree is held.
func (k *Kernel) newSession(p *Process) {
	s := &Session{id: p.PID, leader: p, k: k}
	k.sessions[s.id] = s
	k.joinGroup(p, k.newGroup(p.PID, s))
}

func (k *Kernel) newGroup(id int32, s *Session) *ProcessGroup {
	g := &ProcessGroup{id: id, session: s, k: k}
	k.groups[id] = g
	s.groups++
	return g
}

// joinGroup moves p from its group, if it has one, to g. Precondition: tree is held.
func (k *Kernel) joinGroup(p *Process, g *ProcessGroup) {
	if p.group == g {
		return
	}
	g.members = append(g.members, p)
	if p.group != nil {
		k.leaveGroup(p)
	}
	p.group = g
}

// leaveGroup takes p out of its group, and drops the group and the session that are empty then. p.group
// stays, for who looks at a process that is gone. Precondition: tree is held.
func (k *Kernel) leaveGroup(p *Process) {
	g := p.group
	g.members = slices.DeleteFunc(g.members, func(o *Process) bool { return o == p })
	if s := g.session; len(g.members) == 0 && k.groups[g.id] == g {
		delete(k.groups, g.id)
		if s.groups--; s.groups == 0 {
			delete(k.sessions, s.id)
		}
	}
	if g.session.leader == p {
		g.session.leader = nil
	}
}

// SetSID is setsid(2): EPERM for the leader of a group.
func (t *Thread) SetSID() (int32, error) {
	k, p := t.k, t.Proc
	k.tree.Lock()
	defer k.tree.Unlock()
	if k.groups[p.PID] != nil || k.sessions[p.PID] != nil {
		return 0, unix.EPERM
	}
	k.newSession(p)
	return p.PID, nil
}

// SetPGID is setpgid(2).
func (t *Thread) SetPGID(pid, pgid int32) error {
	if pgid < 0 {
		return unix.EINVAL
	}
	k := t.k
	k.tree.Lock()
	defer k.tree.Unlock()
	p := t.Proc
	if pid != 0 && pid != p.PID {
		if p = k.process(pid); p == nil || p.parent != t.Proc {
			return unix.ESRCH
		}
		if p.group.session != t.Proc.group.session {
			return unix.EPERM
		}
		if p.execed {
			return unix.EACCES
		}
	}
	if pgid == 0 {
		pgid = p.PID
	}
	if p.group.session.leader == p {
		return unix.EPERM
	}
	g := k.groups[pgid]
	switch {
	case g != nil && g.session != t.Proc.group.session, g == nil && pgid != p.PID:
		return unix.EPERM
	case g == nil:
		g = k.newGroup(pgid, p.group.session)
	}
	k.joinGroup(p, g)
	return nil
}

// PGID is getpgid(2) with a pid other than 0: ESRCH.
func (k *Kernel) PGID(pid int32) (int32, error) {
	k.tree.Lock()
	defer k.tree.Unlock()
	t := k.threads[pid]
	if t == nil {
		return 0, unix.ESRCH
	}
	return t.Proc.group.id, nil
}

// SID is getsid(2) with a pid other than 0: ESRCH.
func (k *Kernel) SID(pid int32) (int32, error) {
	k.tree.Lock()
	defer k.tree.Unlock()
	t := k.threads[pid]
	if t == nil {
		return 0, unix.ESRCH
	}
	return t.Proc.group.session.id, nil
}
