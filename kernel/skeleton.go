package kernel

import (
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
)

// This file goes away as the real ones arrive.

// ---- restart.go
// Errors that the loop resolves.
const (
	ERESTARTSYS           = unix.Errno(512)
	ERESTARTNOINTR        = unix.Errno(513)
	ERESTARTNOHAND        = unix.Errno(514)
	ERESTART_RESTARTBLOCK = unix.Errno(516)
)

// RestartWith makes restart_syscall(2) call f: for a call that returns ERESTART_RESTARTBLOCK.
func (t *Thread) RestartWith(f func(*Thread) (uint64, error)) error { return ERESTART_RESTARTBLOCK }

// RestartSyscall is restart_syscall(2).
func (t *Thread) RestartSyscall() (uint64, error) { return 0, unix.EINTR }

// ---- block.go

// Wake ends t's Block, or the next one if it isn't in one. From any goroutine, takes no lock.
func (t *Thread) Wake() {}

// PrepareBlock forgets a Wake that is left over; call it before registering with what will wake.
func (t *Thread) PrepareBlock() {}

// Block parks until Wake (nil, perhaps without reason: check and call again), a signal or the end of the thread
// (ERESTARTSYS), or d (ETIMEDOUT).
func (t *Thread) Block(d Deadline) error { return nil }

// BlockOn waits until w is ready for something in mask: nil, ERESTARTSYS or ETIMEDOUT.
func (t *Thread) BlockOn(w waiter.Waitable, mask waiter.EventMask, d Deadline) error { return nil }

// Interrupted reports whether a signal waits for delivery or the thread has to go.
func (t *Thread) Interrupted() bool { return t.work.Load()&interrupts != 0 }

// Sleep is the core of nanosleep and clock_nanosleep: relative sleeps restart through restart_syscall and write the time left to rem
// (0: nowhere); absolute ones return ERESTARTNOHAND.
func (t *Thread) Sleep(clock int, d time.Duration, absolute bool, rem uint64) error { return nil }

// Yield lets other threads run (sched_yield).
func (t *Thread) Yield() {}

// ---- clone.go
// CloneArgs is struct clone_args of clone3(2); clone(2) and fork fill it too.
type CloneArgs struct {
	Flags      uint64
	PIDFD      uint64
	ChildTID   uint64
	ParentTID  uint64
	ExitSignal Signal
	Stack      uint64 // the child's RSP, 0: the parent's. clone3's caller adds StackSize
	TLS        uint64
	SetTID     []int32
}

// Clone makes a thread or process and returns its id in the caller's.
func (t *Thread) Clone(a CloneArgs) (int32, error) { return 0, unix.ENOSYS }
func (k *Kernel) newFirst(as *mm.AddressSpace, attach Attachment, name string) (*Thread, error) {
	return nil, unix.ENOSYS
}

// Start lets the thread run: once, after its registers are set.
func (t *Thread) Start() {}

// ---- exit.go
// Exit is exit(2): the thread ends when its handler has returned.
func (t *Thread) Exit(code int) {}

// ExitGroup is exit_group(2): the process ends when the handler has returned.
func (t *Thread) ExitGroup(code int) {}

// Exec makes ready for a new image: kills the other threads, and once they are gone takes as in place of the old address space,
// resets signal handlers, altstack, robust list, names it; the caller sets the registers (Ctx was reset).
func (t *Thread) Exec(as *mm.AddressSpace, name string, e *Executable) error { return nil }

// ---- wait.go
// WaitFor says which children wait4 and waitid take.
type WaitFor struct {
	PID     int32 // >0: that one; 0 and Group 0: any
	Group   int32 // >0: children of that process group
	Options int   // unix.WEXITED, WSTOPPED (= WUNTRACED), WCONTINUED, WNOHANG, WNOWAIT, __WNOTHREAD, __WCLONE, __WALL
}

// Waited is a child's change of state.
type Waited struct {
	PID    int32
	UID    uint32
	Status ExitStatus
	Code   int32 // CLDExited …
	Usage  unix.Rusage
}

// WaitChild is wait4/waitid: Waited.PID 0 with WNOHANG when nothing changed; ECHILD, ERESTARTSYS.
func (t *Thread) WaitChild(w WaitFor) (Waited, error) { return Waited{}, unix.ECHILD }

// ---- group.go
type ProcessGroup struct{}
type Session struct{}

func (t *Thread) SetSID() (int32, error)              { return 0, unix.EPERM }
func (t *Thread) SetPGID(pid, pgid int32) error       { return unix.ESRCH }
func (k *Kernel) PGID(pid int32) (int32, error)       { return 0, unix.ESRCH }
func (k *Kernel) SID(pid int32) (int32, error)        { return 0, unix.ESRCH }
func (p *Process) Group() *ProcessGroup               { return nil }
func (p *Process) ParentPID() int32                   { return 0 }
func (g *ProcessGroup) ID() int32                     { return 0 }
func (g *ProcessGroup) Session() *Session             { return nil }
func (g *ProcessGroup) Kill(sig Signal, i Siginfo)    {} // every process of the group, no permission check: for the terminal
func (g *ProcessGroup) Orphaned() bool                { return false }
func (s *Session) ID() int32                          { return 0 }
func (k *Kernel) ProcessGroup(id int32) *ProcessGroup { return nil }

// ---- rusage.go
// Rusage is getrusage(2) for unix.RUSAGE_SELF, RUSAGE_CHILDREN or RUSAGE_THREAD.
func (t *Thread) Rusage(who int) (unix.Rusage, error) { return unix.Rusage{}, unix.EINVAL }

// ChildrenCPUTime returns the CPU time of children that were waited for, in nanoseconds: times(2).
func (p *Process) ChildrenCPUTime() (user, system int64) { return 0, 0 }

// ---- signal.go
// Action is struct kernel sigaction: what is done about a signal.
type Action struct {
	Handler  uint64 // SIG_DFL 0, SIG_IGN 1, or an address
	Flags    uint64 // SA_*
	Restorer uint64
	Mask     SigSet
}
type Actions struct{}

// AltStack is stack_t.
type AltStack struct {
	SP    uint64
	Flags int32
	Size  uint64
}
type sigQueue struct{}

// Action returns what p does about sig; SetAction is rt_sigaction: EINVAL for SIGKILL, SIGSTOP, bad numbers.
func (p *Process) Action(sig Signal) Action                               { return Action{} }
func (p *Process) SetAction(sig Signal, a Action) (old Action, err error) { return Action{}, nil }

// Mask returns the blocked signals; SetMask replaces them (SIGKILL and SIGSTOP never are). For rt_sigprocmask.
func (t *Thread) Mask() SigSet     { return t.mask }
func (t *Thread) SetMask(s SigSet) {}

// SetTemporaryMask blocks s until the system call is over and its signal delivered: sigsuspend, ppoll, pselect, epoll_pwait.
// The handler returns EINTR-kind errors as they come (ERESTARTNOHAND for these calls), or calls RestoreMask itself when it ends otherwise.
func (t *Thread) SetTemporaryMask(s SigSet) {}
func (t *Thread) RestoreMask()              {}

// Pending returns the pending blocked signals (rt_sigpending).
func (t *Thread) Pending() SigSet { return 0 }

// SigAltStack is sigaltstack(2): set nil only asks. EPERM on the stack itself, EINVAL, ENOMEM.
func (t *Thread) SigAltStack(set *AltStack) (old AltStack, err error) { return AltStack{}, nil }

// SigSuspend is rt_sigsuspend(2); Pause pause(2).
func (t *Thread) SigSuspend(mask SigSet) error { return ERESTARTNOHAND }
func (t *Thread) Pause() error                 { return ERESTARTNOHAND }

// SigTimedWait is rt_sigtimedwait(2): EAGAIN after d, EINTR.
func (t *Thread) SigTimedWait(set SigSet, d Deadline) (Siginfo, error) { return Siginfo{}, unix.EAGAIN }

// DequeueSignal takes a pending signal of set, for signalfd; PendingIn says which there are; Process.SignalEvents tells of new ones.
func (t *Thread) DequeueSignal(set SigSet) (Siginfo, bool) { return Siginfo{}, false }
func (t *Thread) PendingIn(set SigSet) SigSet              { return 0 }

// Sigreturn is rt_sigreturn(2): it sets all registers itself; the handler must not call Return or Fail.
func (t *Thread) Sigreturn() {}

// Kill is kill(2) with its four kinds of pid; TGKill tgkill(2) (tgid 0: tkill); both check permissions. sig 0 only checks.
func (t *Thread) Kill(pid int32, sig Signal) error         { return unix.ESRCH }
func (t *Thread) TGKill(tgid, tid int32, sig Signal) error { return unix.ESRCH }

// SigQueueInfo is rt_sigqueueinfo(2), TGSigQueueInfo rt_tgsigqueueinfo(2).
func (t *Thread) SigQueueInfo(pid int32, sig Signal, i Siginfo) error         { return unix.ESRCH }
func (t *Thread) TGSigQueueInfo(tgid, tid int32, sig Signal, i Siginfo) error { return unix.ESRCH }

// Kill sends a signal to the process without asking for permission: from terminals, pipes (SIGPIPE goes to the thread), timers.
func (p *Process) Kill(sig Signal, i Siginfo) error { return nil }

// Send sends a signal to the thread itself: SIGPIPE.
func (t *Thread) Send(sig Signal, i Siginfo) error { return nil }

// MayKill checks the permission to send sig to p.
func (t *Thread) MayKill(p *Process, sig Signal) error { return nil }

// ---- futex.go. timeouts: a Deadline. addr is checked here.
type futexWaiter struct{}
type futexTable struct{}

func (f *futexTable) init() {}
func (t *Thread) FutexWait(addr uint64, shared bool, val, bitset uint32, d Deadline) error {
	return nil
} // EAGAIN, ETIMEDOUT, ERESTARTSYS or RESTARTBLOCK, EINVAL bitset 0
func (t *Thread) FutexWake(addr uint64, shared bool, n int, bitset uint32) (int, error) {
	return 0, nil
}
func (t *Thread) FutexRequeue(addr, addr2 uint64, shared bool, wake, requeue int, cmp *uint32) (int, error) {
	return 0, nil
}
func (t *Thread) FutexWakeOp(addr, addr2 uint64, shared bool, wake, wake2 int, op uint32) (int, error) {
	return 0, nil
}

// FutexWaitV is struct futex_waitv.
type FutexWaitV struct {
	Value uint64
	Addr  uint64
	Flags uint32
}

func (t *Thread) FutexWaitMultiple(w []FutexWaitV, d Deadline) (int, error)   { return 0, unix.ENOSYS }
func (t *Thread) FutexLockPI(addr uint64, shared, try bool, d Deadline) error { return unix.ENOSYS }
func (t *Thread) FutexUnlockPI(addr uint64, shared bool) error                { return unix.ENOSYS }

// SetRobustList is set_robust_list(2); RobustList get_robust_list(2)'s part.
func (t *Thread) SetRobustList(head, length uint64) error { return nil }
func (t *Thread) RobustList() (head, length uint64)       { return 0, 0 }

// ---- rseq.go
type rseqArea struct{}

// SetRseq is rseq(2).
func (t *Thread) SetRseq(addr uint64, length uint32, flags int, signature uint32) error {
	return unix.ENOSYS
}

// ---- timer.go
// Timer counts expirations of a clock: the core of timerfd and timer_create.
type Timer struct{}

func (t *Timer) clockWasSet() {}

type cpuTimer struct{}

// NewTimer makes an unarmed timer of clock (realtime, monotonic, boottime …; CPU clocks of t); fired is called on some goroutine, without
// locks, at each expiry that finds Expirations taken.
func (t *Thread) NewTimer(clock int, fired func()) (*Timer, error) { return nil, unix.EINVAL }

// Set arms (value 0: disarms); absolute: value is a time of the clock. Returns the former setting.
func (t *Timer) Set(value, interval time.Duration, absolute bool) (oldValue, oldInterval time.Duration) {
	return 0, 0
}
func (t *Timer) Get() (value, interval time.Duration) { return 0, 0 }

// Expirations returns how often it expired since the last call, and takes them.
func (t *Timer) Expirations() uint64 { return 0 }
func (t *Timer) Peek() uint64        { return 0 } // without taking
func (t *Timer) Stop()               {}           // disarm and forget

// SetITimer, ITimer: setitimer(2), getitimer(2); which is unix.ITIMER_*. alarm(2) is SetITimer(ITIMER_REAL).
func (p *Process) SetITimer(which int, value, interval time.Duration) (oldValue, oldInterval time.Duration, err error) {
	return 0, 0, nil
}
func (p *Process) ITimer(which int) (value, interval time.Duration, err error) { return 0, 0, nil }

// SigEvent is struct sigevent.
type SigEvent struct {
	Value  uint64
	Signal Signal
	Notify int32 // unix.SIGEV_*
	TID    int32
}

// TimerCreate and its kin are timer_create(2) …; e nil: SIGALRM with the id as value.
func (t *Thread) TimerCreate(clock int, e *SigEvent) (int32, error) { return 0, unix.EINVAL }
func (p *Process) TimerSetTime(id int32, value, interval time.Duration, absolute bool) (oldValue, oldInterval time.Duration, err error) {
	return 0, 0, unix.EINVAL
}
func (p *Process) TimerGetTime(id int32) (value, interval time.Duration, err error) {
	return 0, 0, unix.EINVAL
}
func (p *Process) TimerGetOverrun(id int32) (int, error) { return 0, unix.EINVAL }
func (p *Process) TimerDelete(id int32) error            { return unix.EINVAL }

// ---- prctl.go
const suidDumpable = 0

func (p *Process) Dumpable() int                { return 1 }
func (p *Process) SetDumpable(v int)            {}
func (t *Thread) ParentDeathSignal() Signal     { return 0 }
func (t *Thread) SetParentDeathSignal(s Signal) {}
func (t *Thread) NoNewPrivs() bool              { return false }
func (t *Thread) SetNoNewPrivs()                {}
func (p *Process) ChildSubreaper() bool         { return false }
func (p *Process) SetChildSubreaper(v bool)     {}
func (t *Thread) TimerSlack() uint64            { return 50000 }
func (t *Thread) SetTimerSlack(ns uint64)       {}

func defaultMaxTasks() uint64 { return 0 }
