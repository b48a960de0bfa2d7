package kernel

import (
	"golang.org/x/sys/unix"

	"elver/kernel/bpf"
	"elver/kernel/klog"
	"elver/kernel/mm"
)

// Seccomp (seccomp(2)): a thread that has a mode has its system calls watched, as a traced one has; the
// others pay nothing.

// secure is what a thread's seccomp mode is. It is immutable.
type secure struct {
	mode   int     // unix.SECCOMP_MODE_STRICT or SECCOMP_MODE_FILTER
	filter *filter // the newest; nil in strict mode
}

// filter is a filter, and those that were there before it.
type filter struct {
	older   *filter
	program []bpf.Instruction
	log     bool // SECCOMP_FILTER_FLAG_LOG
	count   int  // of it and the older ones
	length  int  // of their programs, with what Linux adds for each
}

// Bounds of the filters of a thread (Linux: MAX_INSNS_PER_PATH).
const (
	mostInstructions = 1 << 18 / bpf.InstructionSize
	filterPenalty    = 4
)

// Flags of SECCOMP_SET_MODE_FILTER.
const (
	SeccompSync      = 1
	SeccompLog       = 2
	SeccompSpecAllow = 4
	SeccompSyncESRCH = 16

	// SeccompFlags are those that there are: nobody can be notified.
	SeccompFlags = SeccompSync | SeccompLog | SeccompSpecAllow | SeccompSyncESRCH
)

// Seccomp returns the thread's mode, 0 for none, and how many filters it has.
func (t *Thread) Seccomp() (mode, filters int) {
	s := t.secure.Load()
	switch {
	case s == nil:
		return 0, 0
	case s.filter == nil:
		return s.mode, 0
	}
	return s.mode, s.filter.count
}

// SetSeccompStrict is SECCOMP_SET_MODE_STRICT: EINVAL if t has another mode.
func (t *Thread) SetSeccompStrict() error {
	t.Proc.mu.Lock()
	defer t.Proc.mu.Unlock()
	if s := t.secure.Load(); s != nil && s.mode != unix.SECCOMP_MODE_STRICT {
		return unix.EINVAL
	}
	t.secure.Store(&secure{mode: unix.SECCOMP_MODE_STRICT})
	t.observe(observerSeccomp, true)
	return nil
}

// AddSeccompFilter is SECCOMP_SET_MODE_FILTER. With SeccompSync, all threads of the process get t's filters;
// where that cannot be, nothing changes and the result is the id of a thread that has others, or ESRCH. EINVAL
// for a program that isn't one, EACCES without no_new_privs and CAP_SYS_ADMIN, ENOMEM for too many.
func (t *Thread) AddSeccompFilter(program []bpf.Instruction, flags uint32) (tid int32, err error) {
	if !t.NoNewPrivs() && !t.Creds().HasCap(unix.CAP_SYS_ADMIN) {
		return 0, unix.EACCES
	}
	if err := bpf.Check(program); err != nil {
		return 0, err
	}
	if !mm.MakeRoom(1) {
		return 0, unix.ENOMEM
	}
	p := t.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	var older *filter
	if s := t.secure.Load(); s != nil {
		if s.mode != unix.SECCOMP_MODE_FILTER {
			return 0, unix.EINVAL
		}
		older = s.filter
	}
	f := &filter{older: older, program: program, log: flags&SeccompLog != 0, count: 1, length: len(program) + filterPenalty}
	if older != nil {
		f.count += older.count
		f.length += older.length
	}
	if f.length-filterPenalty > mostInstructions {
		return 0, unix.ENOMEM
	}
	if flags&SeccompSync != 0 {
		for _, o := range p.threads {
			if o != t && !o.mayFollow(older) {
				if flags&SeccompSyncESRCH != 0 {
					return 0, unix.ESRCH
				}
				return o.TID, nil
			}
		}
	}
	s := &secure{mode: unix.SECCOMP_MODE_FILTER, filter: f}
	t.secure.Store(s)
	t.observe(observerSeccomp, true)
	if flags&SeccompSync != 0 {
		for _, o := range p.threads {
			if o != t {
				o.adopt(s, t.NoNewPrivs())
			}
		}
	}
	return 0, nil
}

// mayFollow reports whether a thread has no filters but those that lead to f. Precondition: Proc.mu is held.
func (t *Thread) mayFollow(f *filter) bool {
	s := t.secure.Load()
	if s == nil {
		return true
	}
	if s.mode != unix.SECCOMP_MODE_FILTER {
		return false
	}
	for ; f != nil; f = f.older {
		if f == s.filter {
			return true
		}
	}
	return false
}

// adopt gives a thread another's mode. Before it is in the program again it notices. Precondition: Proc.mu is
// held.
func (t *Thread) adopt(s *secure, noNewPrivs bool) {
	if noNewPrivs {
		t.noNewPrivs.Store(true)
	}
	t.secure.Store(s)
	t.setWork(workSeccomp)
}

// noticeSeccomp has t's system calls watched: it was given a mode by somebody else.
func (t *Thread) noticeSeccomp() {
	t.clearWork(workSeccomp)
	t.observe(observerSeccomp, true)
}

// maySyscall asks t's filters about the system call that it has made, and does what they say. False: the call is
// over, its result is set.
func (t *Thread) maySyscall(s *secure) bool {
	if s.mode == unix.SECCOMP_MODE_STRICT {
		switch int32(t.Ctx.OrigRAX) {
		case unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EXIT, unix.SYS_RT_SIGRETURN:
			return true
		}
		t.seccompLog(unix.SECCOMP_RET_KILL_THREAD)
		t.exitStatus = Killed(sigKill)
		t.setWork(workExit)
		return false
	}
	return t.obey(s, false)
}

// obey runs the filters. traced: the tracer has seen the call already.
func (t *Thread) obey(s *secure, traced bool) bool {
	c := t.Ctx
	verdict, by := t.judge(s.filter)
	data := verdict & unix.SECCOMP_RET_DATA
	action := verdict & unix.SECCOMP_RET_ACTION_FULL
	if by.log && action != unix.SECCOMP_RET_ALLOW {
		t.seccompLog(action)
	}
	switch action {
	case unix.SECCOMP_RET_ALLOW:
		return true
	case unix.SECCOMP_RET_LOG:
		if !by.log {
			t.seccompLog(action)
		}
		return true
	case unix.SECCOMP_RET_TRACE:
		return traced || t.askTracer(s, data)
	case unix.SECCOMP_RET_ERRNO:
		const most = 4095 // MAX_ERRNO
		c.RAX = -uint64(min(data, most))
	case unix.SECCOMP_RET_TRAP:
		c.RAX = c.OrigRAX
		t.Force(t.seccompInfo(data))
	case unix.SECCOMP_RET_USER_NOTIF: // nobody listens
		c.RAX = errnoResult(unix.ENOSYS)
	default:
		t.seccompLog(action)
		if action == unix.SECCOMP_RET_KILL_THREAD && len(t.Proc.Threads()) > 1 {
			t.exitStatus = Killed(Signal(unix.SIGSYS))
			t.setWork(workExit)
			break
		}
		c.RAX = c.OrigRAX
		t.force(t.seccompInfo(data), true)
	}
	return false
}

// judge returns the strictest verdict of the filters, and the newest of those that came to it.
func (t *Thread) judge(f *filter) (verdict uint32, by *filter) {
	const architecture = 0xc000003e // AUDIT_ARCH_X86_64
	c := t.Ctx
	data := bpf.Data{uint32(c.OrigRAX), architecture}
	for i, v := range [...]uint64{c.RIP, c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9} {
		data[2+2*i], data[3+2*i] = uint32(v), uint32(v>>32)
	}
	verdict = unix.SECCOMP_RET_ALLOW
	by = f
	for ; f != nil; f = f.older {
		// The actions are ordered as numbers with a sign.
		if v := bpf.Run(f.program, &data); int32(v&unix.SECCOMP_RET_ACTION_FULL) < int32(verdict&unix.SECCOMP_RET_ACTION_FULL) {
			verdict, by = v, f
		}
	}
	return verdict, by
}

// askTracer shows the call to the tracer, which may change it, and then asks the filters once more.
func (t *Thread) askTracer(s *secure, data uint32) bool {
	c := t.Ctx
	if !t.tracesEvent(unix.PTRACE_EVENT_SECCOMP) {
		c.RAX = errnoResult(unix.ENOSYS)
		return false
	}
	t.traceEvent(unix.PTRACE_EVENT_SECCOMP, uint64(data))
	if t.work.Load()&workExit != 0 || int32(c.OrigRAX) < 0 {
		return false
	}
	return t.obey(s, true)
}

// seccompInfo is the siginfo of SIGSYS.
func (t *Thread) seccompInfo(data uint32) Siginfo {
	const sysSeccomp, architecture = 1, 0xc000003e
	i := FaultInfo(Signal(unix.SIGSYS), sysSeccomp, t.Ctx.RIP)
	i.Errno = int32(data)
	i.put32(8, uint32(t.Ctx.OrigRAX))
	i.put32(12, architecture)
	return i
}

func (t *Thread) seccompLog(action uint32) {
	klog.Infof("%s[%d]: seccomp: system call %d at %#x: action %#x", t.Comm(), t.TID, int32(t.Ctx.OrigRAX), t.Ctx.RIP, action)
}
