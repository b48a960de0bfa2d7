package kernel

import (
	"runtime"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel/mm"
	"elver/runtime/metal"
)

// CloneArgs is struct clone_args of clone3(2); clone(2), fork(2) and vfork(2) fill it too.
type CloneArgs struct {
	Flags      uint64 // unix.CLONE_*, without the exit signal
	ChildTID   uint64 // address for CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID
	ParentTID  uint64 // address for CLONE_PARENT_SETTID
	ExitSignal Signal // 0: none
	Stack      uint64 // the child's stack pointer (clone3's caller adds the size); 0: the parent's
	TLS        uint64 // FS base for CLONE_SETTLS

	// Announce, if not nil, is told of a new process before it has a number or runs, and may refuse it;
	// undo takes that back when there is no process after all.
	Announce func(child *Process) (undo func(), err error)
}

const (
	cloneNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME
)

// Costs of a thread, with which its number is bounded: a goroutine's stack, its extended state and its
// objects.
const (
	threadBytes      = 16 << 10
	threadMinFrames  = 64 // that have to be free above the reserve
	threadMinAllowed = 64
)

func defaultMaxTasks() uint64 {
	return max(metal.Frames().Total*metal.FrameSize/threadBytes, threadMinAllowed)
}

// newThread makes a thread of p that is in no table yet.
func (k *Kernel) newThread(p *Process, c *amd64.Context, creds *Credentials, name string) *Thread {
	t := &Thread{Ctx: c, Proc: p, k: k, startTime: Monotonic()}
	t.creds.Store(creds)
	t.comm.Store(&name)
	t.timerSlackNS.Store(defaultTimerSlackNS)
	t.defaultSlackNS = defaultTimerSlackNS
	return t
}

func (k *Kernel) newProcess(as *mm.AddressSpace, attach Attachment, limits *Limits, actions *Actions) *Process {
	p := &Process{k: k, Limits: limits, Attach: attach, actions: actions, exitSignal: sigChld}
	p.mm.Store(as)
	p.dumpable.Store(dumpableUser)
	return p
}

// NewFirst makes the program's process, pid 1 or after StartInit 2, in its own session, with one thread, which Start starts after the
// loader has set its registers. limits may be nil. Its comm name is name, cut to MaxComm bytes. It takes over as.
func (k *Kernel) NewFirst(as *mm.AddressSpace, attach Attachment, limits *Limits, name string) (*Thread, error) {
	if limits == nil {
		limits = DefaultLimits(k.config.MaxTasks)
	}
	p := k.newProcess(as, attach, limits, &Actions{})
	t := k.newThread(p, amd64.NewContext(), RootCredentials(), "")
	t.SetComm(name)
	k.tree.Lock()
	defer k.tree.Unlock()
	if err := k.addThread(t, true, nil); err != nil {
		return nil, err
	}
	k.first = p
	if k.init == nil {
		k.init = p
	} else {
		p.parent = k.init
		p.parent.kids = append(p.parent.kids, p)
	}
	k.newSession(p)
	return t, nil
}

// addThread gives t its id and puts it into the tables; leader says that it is the first of its process, maker
// is the thread that made it, if one did. Precondition: tree is held.
func (k *Kernel) addThread(t *Thread, leader bool, maker *Thread) error {
	p := t.Proc
	id, err := k.newTID()
	if err != nil {
		return err
	}
	t.TID = id
	if leader {
		p.PID, p.leader = id, t
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exiting || p.execer != nil {
		return ERESTARTNOINTR
	}
	if p.stopSig != 0 {
		t.setWork(workStop)
	}
	if maker != nil { // beneath the lock: another thread may be giving all the same filters
		t.noNewPrivs.Store(maker.noNewPrivs.Load())
		if s := maker.secure.Load(); s != nil {
			t.adopt(s, false)
		}
	}
	t.index = len(p.threads)
	p.threads = append(p.threads, t)
	t.recalc()
	k.threads[id] = t
	k.tasks++
	k.user(t.Creds().RUID).tasks.Add(1)
	return nil
}

// mayClone checks the limits of the number of threads: EAGAIN.
func (t *Thread) mayClone() error {
	k, c := t.k, t.Creds()
	if k.stopping.Load() {
		return unix.EAGAIN
	}
	n := k.user(c.RUID).tasks.Load()
	if uint64(n) >= t.Proc.Limits.Soft(unix.RLIMIT_NPROC) && c.RUID != 0 && !c.HasCap(unix.CAP_SYS_RESOURCE) && !c.HasCap(unix.CAP_SYS_ADMIN) {
		return unix.EAGAIN
	}
	k.tree.Lock()
	tasks := k.tasks
	k.tree.Unlock()
	if uint64(tasks) >= k.config.MaxTasks || !mm.MakeRoom(threadMinFrames) {
		return unix.EAGAIN
	}
	return nil
}

func (a *CloneArgs) check(c *Credentials) error {
	f := a.Flags
	has := func(flags uint64) bool { return f&flags != 0 }
	switch {
	case has(unix.CLONE_SIGHAND) && !has(unix.CLONE_VM),
		has(unix.CLONE_THREAD) && !has(unix.CLONE_SIGHAND),
		has(unix.CLONE_SIGHAND) && has(unix.CLONE_CLEAR_SIGHAND),
		has(unix.CLONE_NEWNS) && has(unix.CLONE_FS),
		a.ExitSignal != 0 && !a.ExitSignal.Valid():
		return unix.EINVAL
	case has(cloneNamespaces) && !has(unix.CLONE_NEWUSER) && !c.HasCap(unix.CAP_SYS_ADMIN):
		return unix.EPERM
	case has(cloneNamespaces):
		return unix.EINVAL // as a Linux without namespaces
	}
	return nil
}

// Clone makes a thread or a process as clone(2) and clone3(2) describe, and returns its id. Errors: EINVAL for
// flags that exclude each other, EAGAIN at a limit, ENOMEM, ERESTARTNOINTR when the process is ending. With
// CLONE_VFORK it returns after the child called execve or ended.
func (t *Thread) Clone(a CloneArgs) (int32, error) {
	if err := a.check(t.Creds()); err != nil {
		return 0, err
	}
	if err := t.mayClone(); err != nil {
		return 0, err
	}
	k, p := t.k, t.Proc
	q := p
	if a.Flags&unix.CLONE_THREAD == 0 {
		var err error
		if q, err = t.forkProcess(&a); err != nil {
			return 0, err
		}
	}
	c := t.Ctx.Clone()
	c.RAX = 0
	if t.stepping {
		c.RFLAGS &^= amd64.FlagTrap
	}
	if a.Stack != 0 {
		c.RSP = a.Stack
	}
	if a.Flags&unix.CLONE_SETTLS != 0 {
		if a.TLS >= amd64.UserEnd {
			q.discard(p)
			return 0, unix.EPERM
		}
		c.SetFSBase(a.TLS)
	}
	child := k.newThread(q, c, t.Creds(), t.Comm())
	child.mask = t.mask
	if t.work.Load()&workMask != 0 {
		child.mask = t.savedMask
	}
	child.personality.Store(t.personality.Load())
	child.timerSlackNS.Store(t.timerSlackNS.Load())
	child.defaultSlackNS = t.timerSlackNS.Load()
	t.inheritScheduling(child)
	if a.Flags&unix.CLONE_CHILD_CLEARTID != 0 {
		child.clearTID = a.ChildTID
	}
	if a.Flags&unix.CLONE_VM == 0 {
		child.rseq = t.rseq
	}
	child.altStack = t.altStack
	if a.Flags&(unix.CLONE_VM|unix.CLONE_VFORK) == unix.CLONE_VM {
		child.altStack = AltStack{Flags: ssDisable}
	}
	if a.Flags&unix.CLONE_VFORK != 0 {
		child.vforkParent.Store(t)
	}
	if a.Flags&unix.CLONE_SYSVSEM != 0 {
		child.semaphoreUndo = t.SemaphoreUndo()
	}

	undo := func() {}
	if q != p && a.Announce != nil {
		var err error
		if undo, err = a.Announce(q); err != nil {
			q.discard(p)
			return 0, err
		}
	}

	event := a.event()
	traced := event != 0 && t.tracesEvent(event)
	k.tree.Lock()
	err := k.addThread(child, q != p, t)
	if err == nil && q != p {
		q.parent, q.maker = p, t
		if a.Flags&unix.CLONE_PARENT != 0 && p.parent != nil {
			q.parent, q.maker = p.parent, nil
			q.exitSignal = p.exitSignal
		}
		q.parent.kids = append(q.parent.kids, q)
		k.joinGroup(q, p.group)
	}
	if err == nil && (traced || a.Flags&unix.CLONE_PTRACE != 0) {
		t.inherit(child)
	}
	k.tree.Unlock()
	if err != nil {
		undo()
		q.discard(p)
		return 0, err
	}
	if child.semaphoreUndo != nil {
		child.semaphoreUndo.refs.Add(1)
	}
	tid := child.TID
	if a.Flags&unix.CLONE_PARENT_SETTID != 0 {
		p.MM().WriteUint32(a.ParentTID, uint32(tid)) // an address that isn't there is no error, as in Linux
	}
	if a.Flags&unix.CLONE_CHILD_SETTID != 0 {
		q.MM().WriteUint32(a.ChildTID, uint32(tid))
	}
	child.Start()
	if traced {
		t.traceEvent(event, uint64(tid))
	}
	if a.Flags&unix.CLONE_VFORK != 0 {
		if !t.parkUnlessKilled(func() bool { return child.vforkParent.Load() == nil }) {
			t.traceEvent(unix.PTRACE_EVENT_VFORK_DONE, uint64(tid))
		}
	}
	return tid, nil
}

// event returns what a tracer calls this kind of clone; 0: the call doesn't want one to know.
func (a *CloneArgs) event() uint32 {
	switch {
	case a.Flags&unix.CLONE_UNTRACED != 0:
		return 0
	case a.Flags&unix.CLONE_VFORK != 0:
		return unix.PTRACE_EVENT_VFORK
	case a.ExitSignal != sigChld:
		return unix.PTRACE_EVENT_CLONE
	}
	return unix.PTRACE_EVENT_FORK
}

// forkProcess makes the process of a clone without CLONE_THREAD, without its first thread.
func (t *Thread) forkProcess(a *CloneArgs) (*Process, error) {
	p := t.Proc
	limits := p.Limits.Fork()
	as := p.MM()
	if a.Flags&unix.CLONE_VM != 0 {
		as.Acquire()
	} else {
		var err error
		if as, err = as.Fork(limits); err != nil {
			return nil, err
		}
	}
	actions := p.actions
	if a.Flags&unix.CLONE_SIGHAND == 0 {
		actions = actions.fork()
		if a.Flags&unix.CLONE_CLEAR_SIGHAND != 0 {
			actions.reset()
		}
	}
	var attach Attachment
	if p.Attach != nil {
		files, fs := a.Flags&unix.CLONE_FILES != 0, a.Flags&unix.CLONE_FS != 0
		if s, ok := p.Attach.(Sharer); ok && (files || fs) {
			attach = s.ForkSharing(files, fs)
		} else {
			attach = p.Attach.Fork()
		}
	}
	q := t.k.newProcess(as, attach, limits, actions)
	q.exitSignal = a.ExitSignal
	q.dumpable.Store(p.dumpable.Load())
	q.oomScoreAdj.Store(p.oomScoreAdj.Load())
	q.oomScoreMin.Store(p.oomScoreMin.Load())
	q.exe.Store(p.exe.Load())
	return q, nil
}

// discard gives back what forkProcess made, unless it is p's own.
func (p *Process) discard(parent *Process) {
	if p == parent {
		return
	}
	if p.Attach != nil {
		p.Attach.Exit()
	}
	p.MM().Release()
}

// parkUnlessKilled waits for a condition that comes with a Wake; of signals only the thread's end ends it.
func (t *Thread) parkUnlessKilled(condition func() bool) (killed bool) {
	for !condition() {
		if t.work.Load()&workExit != 0 {
			return true
		}
		t.park()
	}
	return false
}

// releaseVfork lets the parent of a vfork go on.
func (t *Thread) releaseVfork() {
	if parent := t.vforkParent.Swap(nil); parent != nil {
		parent.Wake()
	}
}

// Exec makes the thread the only one of its process, under the process's id, and gives it as, which it takes over, in
// place of its address space: handlers, alternate stack, robust list, timers and registers are as a new program
// has them (execve(2), "Effect on process attributes"). creds are those of the new program. The caller
// sets the registers. It fails only when the process is ending meanwhile: then as is still the caller's.
func (t *Thread) Exec(as *mm.AddressSpace, creds *Credentials, name string, e *Executable) error {
	p, k := t.Proc, t.k
	p.mu.Lock()
	if p.exiting || p.execer != nil {
		p.mu.Unlock()
		return unix.EAGAIN
	}
	p.execer = t
	for _, o := range p.threads {
		if o != t {
			o.setWork(workExit)
			o.Wake()
		}
	}
	p.mu.Unlock()
	alone := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.threads) == 1
	}
	killed := t.parkUnlessKilled(alone)
	for !killed && t != p.leader && p.leader.State() != 'Z' {
		runtime.Gosched() // the leader is out of the list, but not through with its end
	}
	if !killed {
		t.exitRobustList()
		t.clearTID = 0
	}
	k.tree.Lock()
	p.mu.Lock()
	p.execer = nil
	if killed {
		p.mu.Unlock()
		k.tree.Unlock()
		return unix.EAGAIN
	}
	if t != p.leader {
		if p.leader.trace.Load() != nil {
			// Its tracer gets no other report of it than this thread's PTRACE_EVENT_EXEC.
			p.mu.Unlock()
			k.unlink(p.leader)
			p.mu.Lock()
		}
		delete(k.threads, t.TID)
		t.TID = p.PID
		k.threads[t.TID] = t
		t.startTime = p.leader.startTime
		p.leader = t
	}
	p.actions = p.actions.fork() // others may share the old one
	p.actions.reset()
	p.execed = true
	p.exitSignal = sigChld
	old := p.mm.Swap(as)
	p.mu.Unlock()
	k.tree.Unlock()

	p.stopPosixTimers()
	t.altStack = AltStack{}
	t.rseq = rseqArea{}
	t.restart = nil
	p.exe.Store(e)
	p.dumpable.Store(dumpableUser)
	if c := t.Creds(); e.Secret || c.EUID != c.RUID || c.EGID != c.RGID { // the old ones, as in Linux's begin_new_exec
		p.dumpable.Store(suidDumpable)
	}
	t.SetCreds(creds)
	t.SetComm(name)
	if p.Attach != nil {
		p.Attach.Exec()
	}
	t.releaseVfork()
	as.Activate()
	old.Release()
	number := t.Ctx.OrigRAX
	tsc := t.Ctx.TSC()
	t.Ctx = amd64.NewContext() // not overwritten in place: the CPU may still hold the old one's state
	t.Ctx.OrigRAX = number
	t.Ctx.SetTSC(tsc)
	t.stepping = false
	t.answer()
	return nil
}
