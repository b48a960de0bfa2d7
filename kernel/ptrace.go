package kernel

import (
	"runtime"
	"slices"

	"golang.org/x/arch/x86/x86asm"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/arch/amd64"
)

// Tracing (ptrace(2)). A thread that is traced stops in traceStop, on its own goroutine, and tells its
// tracer, which looks at it and changes it until it lets it go on. The tracer is a thread; its whole
// process can wait for the stops.
//
// What it costs others: nothing. A thread whose system calls are watched takes the long way of
// measuredSyscall, and the entry gives no answers by itself while there is such a thread.

// TraceOptions are PTRACE_O_* of PTRACE_SETOPTIONS.
type TraceOptions uint32

// TraceOptionMask are the options that there are. PTRACE_O_SUSPEND_SECCOMP is for checkpoints alone.
const TraceOptionMask = 0xff | unix.PTRACE_O_EXITKILL

// tracing is what a thread has while it is traced. It is made and given up with Kernel.tree and
// Process.mu held, so that either suffices to look whether there is one.
type tracing struct {
	tracer *Thread
	seized bool

	// Guarded by Process.mu.
	options   TraceOptions
	stopped   bool     // in a stop: the tracer may look at the registers
	listening bool     // stopped by PTRACE_LISTEN: waits for SIGCONT as well, and isn't reported
	code      int32    // of the stop, until it was waited for; then what the thread goes on with
	info      *Siginfo // of the stop; nil for a group stop of a thread that isn't seized
	message   uint64   // for PTRACE_GETEVENTMSG
	resume    Resume   // how the thread goes on
	interrupt bool     // it is to stop by PTRACE_EVENT_STOP, unless another stop comes first
	notice    bool     // … in any case: the group stop's state changed
}

// Resume is how a tracer lets a thread go on.
type Resume uint8

// Bits of Resume; 0 is PTRACE_CONT.
const (
	ResumeSyscall Resume = 1 << iota // until the next system call begins or ends
	ResumeStep                       // until after the next instruction
	ResumeEmulate                    // until the next system call, which isn't made
	ResumeBlock                      // with ResumeStep: until after the next branch
)

// Stops are told apart by the code that wait4 reports in the status's upper half: a signal, and above it the event.
const (
	eventShift   = 8
	eventStop    = unix.PTRACE_EVENT_STOP
	syscallGood  = 0x80 // of SIGTRAP, with PTRACE_O_TRACESYSGOOD
	messageEntry = 1    // PTRACE_EVENTMSG_SYSCALL_ENTRY
	messageExit  = 2    // PTRACE_EVENTMSG_SYSCALL_EXIT

	sigTrap = Signal(unix.SIGTRAP)
)

func (o TraceOptions) reports(event uint32) bool { return o>>event&1 != 0 }

// Tracer returns the id of the thread that traces t, 0 if none does.
func (t *Thread) Tracer() int32 {
	if tr := t.trace.Load(); tr != nil {
		return tr.tracer.TID
	}
	return 0
}

// TracedWithoutPrivilege reports whether a tracer that must not gain by it sees what t does: then execve gives
// no privileges.
func (t *Thread) TracedWithoutPrivilege() bool {
	tr := t.trace.Load()
	return tr != nil && !tr.tracer.Creds().HasCap(unix.CAP_SYS_PTRACE)
}

// tracesEvent reports whether t's tracer asked for an event.
func (t *Thread) tracesEvent(event uint32) bool {
	if t.trace.Load() == nil {
		return false
	}
	t.Proc.mu.Lock()
	defer t.Proc.mu.Unlock()
	tr := t.trace.Load()
	return tr != nil && tr.options.reports(event)
}

// Who traces whom.

// link makes tracer trace o. Precondition: tree is held, nobody traces o.
func (k *Kernel) link(o, tracer *Thread, seized bool, options TraceOptions) *tracing {
	tr := &tracing{tracer: tracer, seized: seized, options: options}
	o.Proc.mu.Lock()
	o.trace.Store(tr)
	o.Proc.mu.Unlock()
	tracer.tracees = append(tracer.tracees, o)
	return tr
}

// unlink ends that o is traced: it goes on, or stops with its process. A thread that has ended is gone
// then; of a process the caller has to call settle. Precondition: tree is held, o is traced.
func (k *Kernel) unlink(o *Thread) {
	p, tr := o.Proc, o.trace.Load()
	tr.tracer.tracees = slices.DeleteFunc(tr.tracer.tracees, func(x *Thread) bool { return x == o })
	p.mu.Lock()
	o.trace.Store(nil)
	o.clearWork(workTrace)
	if !o.exited {
		if tr.stopped {
			tr.stopped, tr.resume = false, 0
			o.Ctx.SetDebug(amd64.DebugRegs{})
		}
		if p.stopSig != 0 && !p.exiting {
			o.setWork(workStop)
		}
	} else if o != p.leader && k.threads[o.TID] == o {
		delete(k.threads, o.TID)
	}
	p.mu.Unlock()
	o.Wake()
}

// TraceMe is PTRACE_TRACEME: the thread that made this process traces it.
func (t *Thread) TraceMe() error {
	k := t.k
	k.tree.Lock()
	defer k.tree.Unlock()
	if t.trace.Load() != nil || t.Proc.parent == nil {
		return unix.EPERM
	}
	tracer := t.Proc.maker
	if tracer == nil || tracer.Proc != t.Proc.parent || tracer.State() == 'Z' {
		threads := t.Proc.parent.Threads()
		if len(threads) == 0 {
			return unix.EPERM
		}
		tracer = threads[0]
	}
	k.link(t, tracer, false, 0)
	return nil
}

// TraceAttach is PTRACE_ATTACH and, with seize, PTRACE_SEIZE: ESRCH, EPERM.
func (t *Thread) TraceAttach(tid int32, seize bool, options TraceOptions) error {
	k := t.k
	o := k.Thread(tid)
	if o == nil {
		return unix.ESRCH
	}
	if o.Proc == t.Proc || !t.MayAttach(o.Proc) || o.Proc.unkillable {
		return unix.EPERM
	}
	k.tree.Lock()
	stopped := o.State() == 'T'
	if o.trace.Load() != nil || o.State() == 'Z' {
		k.tree.Unlock()
		return unix.EPERM
	}
	its := k.link(o, t, seize, options)
	k.tree.Unlock()
	o.Wake() // if it is stopped, it stops for its tracer now
	if !seize {
		o.Send(sigStop, KernelInfo(sigStop))
	}
	// The tracer needn't wait for a thread that is stopped: it finds it so (Linux: JOBCTL_TRAPPING).
	for stopped && !o.trapped(its) {
		runtime.Gosched() // it is on its way from one stop to the other
	}
	return nil
}

// trapped reports whether t has stopped for its tracer, or won't now.
func (t *Thread) trapped(its *tracing) bool {
	p := t.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	return its.stopped || t.trace.Load() != its || p.stopSig == 0 || p.exiting || t.exited
}

// inherit has the tracer of t trace child, too, which t just made: it stops before its first instruction.
// Precondition: tree is held.
func (t *Thread) inherit(child *Thread) {
	tr := t.trace.Load()
	if tr == nil {
		return
	}
	t.Proc.mu.Lock()
	options := tr.options
	t.Proc.mu.Unlock()
	its := t.k.link(child, tr.tracer, tr.seized, options)
	p := child.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if its.seized {
		its.interrupt = true
		child.setWork(workTrace)
	} else {
		child.pending.set |= SetOf(sigStop)
		child.setWork(workSignal)
	}
}

// dropTracees ends the tracing of a tracer that ends.
func (t *Thread) dropTracees() {
	k := t.k
	for {
		k.tree.Lock()
		if len(t.tracees) == 0 {
			k.tree.Unlock()
			return
		}
		o := t.tracees[len(t.tracees)-1]
		o.Proc.mu.Lock()
		kill := o.trace.Load().options&unix.PTRACE_O_EXITKILL != 0
		o.Proc.mu.Unlock()
		held := o.Proc.held()
		k.unlink(o)
		tell := k.release(o.Proc, held)
		k.tree.Unlock()
		tell()
		if kill {
			o.Proc.Kill(sigKill, KernelInfo(sigKill))
		}
	}
}

// held reports whether the process is a zombie that its parent learns of only after its tracer. Precondition: tree is
// held.
func (p *Process) held() bool {
	tr := p.leader.trace.Load()
	return p.zombie && tr != nil && tr.tracer.Proc != p.parent
}

// release lets the parent know of a zombie that was held, and returns what is to do for it once tree is released.
// Precondition: tree is held.
func (k *Kernel) release(p *Process, wasHeld bool) (tell func()) {
	if !wasHeld {
		return func() {}
	}
	parent, sig := p.settle()
	return func() { p.tellParent(parent, sig) }
}

// Stops.

// traceStop stops t for its tracer, and returns the signal with which it goes on, 0 for none: code itself if
// nobody traces it. It is called on t's own goroutine, without locks.
func (t *Thread) traceStop(code, why int32, info *Siginfo, message uint64) int32 {
	p, k := t.Proc, t.k
	dying := code>>eventShift == unix.PTRACE_EVENT_EXIT
	t.Ctx.ReturnByIRET() // the tracer sees, and may change, what SYSRET would leave in RCX and R11
	k.tree.Lock()
	p.mu.Lock()
	tr := t.trace.Load()
	if tr == nil || t.cannotStop(dying) {
		p.mu.Unlock()
		k.tree.Unlock()
		return code
	}
	t.stopStepping()
	stoppedAll := why == CLDStopped && p.leaveStop(t)
	tr.stopped, tr.listening, tr.resume = true, false, 0
	tr.code, tr.info, tr.message = code, info, message
	tr.interrupt = false
	if code>>eventShift == eventStop {
		tr.notice = false
	}
	if !tr.notice {
		t.clearWork(workTrace)
	}
	t.state.Store(stateTraced)
	p.mu.Unlock()
	tracer := tr.tracer
	k.tree.Unlock()
	if stoppedAll {
		p.notifyStop(CLDStopped)
	}
	t.tellTracer(tracer, childInfo(why, t.TID, t.Creds().RUID, code&0x7f, 0, 0))

	t.cpu.stop()
	for t.staysStopped(tr, dying) {
		t.parker.Park()
	}
	t.state.Store(stateRunning)
	t.cpu.start()

	p.mu.Lock()
	signal, resume := tr.code, tr.resume
	tr.stopped, tr.code, tr.info = false, 0, nil
	if t.trace.Load() == nil {
		resume = 0
	}
	p.mu.Unlock()
	t.follow(resume)
	if t.Ctx.OrigRAX != noSyscall {
		t.setWork(workRestart) // the tracer may have put registers of an interrupted call there
	}
	return signal
}

// cannotStop reports whether t is to end rather than to stop; dying: it is ending, and stops all the same unless
// SIGKILL came. Precondition: Proc.mu is held.
func (t *Thread) cannotStop(dying bool) bool {
	if dying {
		return t.Proc.killed
	}
	return t.Proc.exiting || t.work.Load()&workExit != 0
}

func (t *Thread) staysStopped(tr *tracing, dying bool) bool {
	t.Proc.mu.Lock()
	defer t.Proc.mu.Unlock()
	return tr.stopped && !t.cannotStop(dying)
}

// tellTracer sends the tracer the SIGCHLD of a stop or an end, and wakes who waits.
func (t *Thread) tellTracer(tracer *Thread, info Siginfo) {
	p := tracer.Proc
	ended := info.Code != CLDTrapped && info.Code != CLDStopped
	if a := p.actions.get(sigChld); a.Handler != SigIgn && (ended || a.Flags&SANoCldStop == 0) {
		p.Kill(sigChld, info)
	}
	p.ChildEvents.Notify(waiter.EventIn)
}

// follow makes t go on as its tracer said.
func (t *Thread) follow(resume Resume) {
	t.resume = resume
	t.observe(observerTracer, resume != 0)
	t.stepFrom = t.Ctx.RIP
	if resume&ResumeStep != 0 && t.Ctx.RFLAGS&amd64.FlagTrap == 0 {
		t.Ctx.ReturnByIRET()
		t.Ctx.RFLAGS |= amd64.FlagTrap
		t.stepping = true
	}
	if t.inCall && resume&(ResumeSyscall|ResumeStep) != 0 {
		t.setWork(workSyscallExit)
	}
}

// stopStepping takes the trap flag back that is the tracer's, not the program's.
func (t *Thread) stopStepping() {
	if t.stepping {
		t.Ctx.RFLAGS &^= amd64.FlagTrap
		t.stepping = false
	}
}

// trapInfo is the siginfo of a stop that no signal made.
func (t *Thread) trapInfo(code int32) *Siginfo {
	info := t.UserInfo(sigTrap, code)
	return &info
}

// notifyTracer is a stop that no signal made, by code. A signal that the tracer gives comes as one of the kernel's.
func (t *Thread) notifyTracer(code int32, message uint64) {
	if sig := Signal(t.traceStop(code, CLDTrapped, t.trapInfo(code), message)); sig.Valid() && t.trace.Load() != nil {
		t.Send(sig, KernelInfo(sig))
	}
}

// traceEvent stops t for an event that the tracer asked for. It is called in a system call, or at t's end.
func (t *Thread) traceEvent(event uint32, message uint64) {
	if t.tracesEvent(event) {
		t.inCall = true
		t.notifyTracer(int32(sigTrap)|int32(event)<<eventShift, message)
		t.inCall = false
	}
}

// TraceExec tells the tracer that t executes a new program, whose registers are set: oldTID is the id that
// it had before.
func (t *Thread) TraceExec(oldTID int32) {
	tr := t.trace.Load()
	switch {
	case tr == nil:
	case t.tracesEvent(unix.PTRACE_EVENT_EXEC):
		t.traceEvent(unix.PTRACE_EVENT_EXEC, uint64(oldTID))
	case !tr.seized:
		t.Send(sigTrap, t.UserInfo(sigTrap, SIUser))
	}
}

// traceSignal shows the tracer a signal that t takes, and returns the one that it takes instead; 0: none.
func (t *Thread) traceSignal(info *Siginfo) Signal {
	sig := Signal(t.traceStop(info.Signo, CLDTrapped, info, 0))
	if !sig.Valid() {
		return 0
	}
	if int32(sig) != info.Signo {
		by := t
		if tr := t.trace.Load(); tr != nil {
			by = tr.tracer
		}
		*info = by.UserInfo(sig, SIUser)
	}
	return sig
}

// traceGroupStop stops t for its tracer because its process is stopped; false: nobody traces it.
func (t *Thread) traceGroupStop() bool {
	p := t.Proc
	p.mu.Lock()
	tr := t.trace.Load()
	if tr == nil {
		p.mu.Unlock()
		return false
	}
	t.clearWork(workStop) // let go, it runs even if its process is stopped
	sig := p.stopSig
	p.mu.Unlock()
	switch {
	case sig == 0:
		t.refreshWork()
	case tr.seized:
		t.traceStopEvent(sig)
	default:
		t.traceStop(int32(sig), CLDStopped, nil, 0)
	}
	return true
}

// traceStopEvent is the stop PTRACE_EVENT_STOP.
func (t *Thread) traceStopEvent(sig Signal) {
	code := int32(sig) | eventStop<<eventShift
	t.traceStop(code, CLDStopped, t.trapInfo(code), 0)
}

// traceTrap stops t because its tracer interrupts it or is to learn of a change of the group stop.
func (t *Thread) traceTrap() {
	p := t.Proc
	p.mu.Lock()
	t.clearWork(workTrace)
	tr := t.trace.Load()
	due := tr != nil && (tr.interrupt || tr.notice)
	sig := sigTrap
	if due {
		tr.interrupt, tr.notice = false, false
		if p.stopSig != 0 {
			sig = p.stopSig
			t.clearWork(workStop)
		}
	}
	p.mu.Unlock()
	if due {
		t.traceStopEvent(sig)
	}
}

// refreshWork looks anew for signals to deliver.
func (t *Thread) refreshWork() {
	t.Proc.mu.Lock()
	t.recalc()
	t.Proc.mu.Unlock()
}

// noticeTracer has a seized thread tell its tracer that SIGCONT came, even if it is in a stop that
// PTRACE_LISTEN keeps. Precondition: Proc.mu is held.
func (t *Thread) noticeTracer(tr *tracing) {
	tr.notice = true
	t.setWork(workTrace)
	if tr.listening {
		tr.stopped, tr.listening = false, false
	}
	t.Wake()
}

// System calls.

// Bits of Thread.observers.
const (
	observerTracer = 1 << iota
	observerSeccomp
)

// observe has t's system calls go through observedSyscall, or not any more. The thread itself calls it.
func (t *Thread) observe(bit uint8, on bool) {
	old := t.observers
	if t.observers &^= bit; on {
		t.observers |= bit
	}
	switch k := t.k; {
	case old == 0 && t.observers != 0:
		k.counters.syscalls.Add(-int64(t.cpu.samples)) // that were counted beforehand
		t.cpu.samples = 0                              // the very next call is measured, and watched
		if k.observed.Add(1) == 1 {
			amd64.SuspendAnswers(true)
		}
	case old != 0 && t.observers == 0:
		if k.observed.Add(-1) == 0 {
			amd64.SuspendAnswers(false)
		}
	}
}

// observedSyscall serves a system call of a thread whose calls somebody watches.
func (t *Thread) observedSyscall() {
	c := t.Ctx
	c.RAX = errnoResult(unix.ENOSYS)
	if t.trace.Load() == nil {
		t.resume = 0
		t.observe(observerTracer, false)
	}
	if t.resume&ResumeStep != 0 {
		t.setWork(workSyscallExit)
	}
	if t.resume&(ResumeSyscall|ResumeEmulate) != 0 {
		emulated := t.resume&ResumeEmulate != 0
		t.inCall = !emulated
		t.traceSyscall(messageEntry)
		t.inCall = false
		if emulated || t.work.Load()&workExit != 0 {
			return
		}
	}
	if int32(c.OrigRAX) == -1 {
		return // the tracer took it back
	}
	if s := t.secure.Load(); s != nil && !t.maySyscall(s) {
		return
	}
	t.k.config.Syscall(t)
}

// traceSyscall stops t at the beginning or the end of a system call.
func (t *Thread) traceSyscall(message uint64) {
	code := int32(sigTrap)
	if tr := t.trace.Load(); tr != nil {
		t.Proc.mu.Lock()
		if tr.options&unix.PTRACE_O_TRACESYSGOOD != 0 {
			code |= syscallGood
		}
		t.Proc.mu.Unlock()
	}
	t.notifyTracer(code, message)
}

// traceSyscallExit tells the tracer that the system call is over.
func (t *Thread) traceSyscallExit() {
	t.clearWork(workSyscallExit)
	switch {
	case t.trace.Load() == nil:
	case t.resume&ResumeStep != 0:
		t.Force(FaultInfo(sigTrap, TrapBrkpt, t.Ctx.RIP))
	case t.resume&ResumeSyscall != 0:
		t.traceSyscall(messageExit)
	}
}

// traceStepIntoHandler stops a thread that its tracer steps at the first instruction of a handler.
func (t *Thread) traceStepIntoHandler() {
	t.notifyTracer(int32(sigTrap), 0)
}

// debugException is #DB: a single step, or a breakpoint that a debugger set.
func (t *Thread) debugException() {
	c := t.Ctx
	status := c.DebugException()
	if t.trace.Load() == nil && (t.stepping || status&amd64.DebugHits != 0) {
		t.stopStepping() // its tracer has ended
		c.SetDebug(amd64.DebugRegs{})
		return
	}
	if t.stepping && t.resume&ResumeBlock != 0 && status&amd64.DebugHits == 0 && !t.branched() {
		t.stepFrom = c.RIP
		return
	}
	code := int32(TrapBrkpt)
	switch {
	case status&amd64.DebugStep != 0:
		code = TrapTrace
	case status&amd64.DebugHits != 0:
		code = TrapHWBkpt
	}
	t.Force(FaultInfo(sigTrap, code, c.RIP))
}

// branched reports whether the instruction that the thread was stepped over was a branch, and taken. CPUs can tell by
// themselves (Intel SDM vol. 3, 18.4.4, DEBUGCTL.BTF), emulators and many hypervisors can't.
func (t *Thread) branched() bool {
	const longest = 15
	from, to := t.stepFrom, t.Ctx.RIP
	var code [longest]byte
	n, _ := t.MM().ForcedCopyIn(code[:], from)
	insn, err := x86asm.Decode(code[:n], 64)
	if err != nil { // nothing that jumps is unknown to it
		return to <= from || to > from+longest
	}
	switch insn.Op {
	case x86asm.CALL, x86asm.JMP, x86asm.RET, x86asm.LCALL, x86asm.LJMP, x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ:
		return true
	case x86asm.JA, x86asm.JAE, x86asm.JB, x86asm.JBE, x86asm.JCXZ, x86asm.JE, x86asm.JECXZ, x86asm.JG, x86asm.JGE, x86asm.JL,
		x86asm.JLE, x86asm.JNE, x86asm.JNO, x86asm.JNP, x86asm.JNS, x86asm.JO, x86asm.JP, x86asm.JRCXZ, x86asm.JS,
		x86asm.LOOP, x86asm.LOOPE, x86asm.LOOPNE:
		return to != from+uint64(insn.Len)
	}
	return false
}

// What the tracer asks for.

// WithTracee calls f with the thread tid, which t traces and which is in a stop that it stays in meanwhile: ESRCH if
// not. f must not block; Proc.mu of the tracee is held.
func (t *Thread) WithTracee(tid int32, f func(o *Tracee) error) error {
	return t.withTracee(tid, false, f)
}

// withTracee is WithTracee; running: the thread needn't be in a stop.
func (t *Thread) withTracee(tid int32, running bool, f func(o *Tracee) error) error {
	o := t.k.Thread(tid)
	if o == nil {
		return unix.ESRCH
	}
	o.Proc.mu.Lock()
	defer o.Proc.mu.Unlock()
	tr := o.trace.Load()
	if tr == nil || tr.tracer != t || !running && (!tr.stopped || tr.listening) {
		return unix.ESRCH
	}
	return f(&Tracee{o, tr})
}

// Tracee is a thread in a stop, as its tracer sees it.
type Tracee struct {
	t  *Thread
	tr *tracing
}

// Thread returns the thread.
func (o *Tracee) Thread() *Thread { return o.t }

// Registers returns the registers, without the trap flag if only the tracer's steps have set it.
func (o *Tracee) Registers() amd64.UserRegs { return o.t.Ctx.UserRegs() }

// SetRegister sets a register by its index in struct user_regs_struct: EIO.
func (o *Tracee) SetRegister(i int, v uint64) error { return o.t.Ctx.SetUserReg(i, v) }

// Context returns the other registers.
func (o *Tracee) Context() *amd64.Context { return o.t.Ctx }

// Siginfo returns the stop's siginfo to read and write: EINVAL if it has none.
func (o *Tracee) Siginfo() (*Siginfo, error) {
	if o.tr.info == nil {
		return nil, unix.EINVAL
	}
	return o.tr.info, nil
}

// Message returns what PTRACE_GETEVENTMSG tells.
func (o *Tracee) Message() uint64 { return o.tr.message }

// Mask returns the signals that the thread blocks. In a call that changes them for its time these are the ones
// that come back.
func (o *Tracee) Mask() SigSet {
	if o.t.work.Load()&workMask != 0 {
		return o.t.savedMask
	}
	return o.t.mask
}

// SetMask sets what Mask returns.
func (o *Tracee) SetMask(s SigSet) {
	s &^= unblockable
	if o.t.work.Load()&workMask != 0 {
		o.t.savedMask = s
		return
	}
	o.t.setMaskLocked(s)
}

// PendingInfos returns the siginfos of up to n pending signals from the off'th on, of the thread or of its process.
func (o *Tracee) PendingInfos(shared bool, off uint64, n int) []Siginfo {
	q := o.t.pending.head
	if shared {
		q = o.t.Proc.shared.head
	}
	var infos []Siginfo
	for ; q != nil && len(infos) < n; q = q.next {
		if off > 0 {
			off--
			continue
		}
		infos = append(infos, q.info)
	}
	return infos
}

// SetOptions sets the options.
func (o *Tracee) SetOptions(options TraceOptions) { o.tr.options = options }

// SyscallStop says at which end of a system call the thread stopped, or that a seccomp filter stopped it: none of them
// if it stopped otherwise.
func (o *Tracee) SyscallStop() (entry, exit, filtered bool) {
	if o.tr.info == nil {
		return false, false, false
	}
	switch o.tr.info.Code {
	case int32(sigTrap) | syscallGood:
		return o.tr.message == messageEntry, o.tr.message == messageExit, false
	case int32(sigTrap) | unix.PTRACE_EVENT_SECCOMP<<eventShift:
		return false, false, true
	}
	return false, false, false
}

// Rseq returns the area of restartable sequences and its signature.
func (o *Tracee) Rseq() (addr uint64, size, signature uint32) {
	return o.t.rseq.addr, o.t.rseq.length, o.t.rseq.signature
}

// Resume lets the thread go on with a signal, or 0.
func (o *Tracee) Resume(how Resume, sig Signal) {
	o.tr.code, o.tr.resume, o.tr.stopped = int32(sig), how, false
	o.t.Wake()
}

// TraceDetach is PTRACE_DETACH.
func (t *Thread) TraceDetach(tid int32, sig Signal) error {
	k := t.k
	k.tree.Lock()
	o := k.threads[tid]
	if o == nil {
		k.tree.Unlock()
		return unix.ESRCH
	}
	o.Proc.mu.Lock()
	tr := o.trace.Load()
	mine := tr != nil && tr.tracer == t && tr.stopped && !tr.listening
	if mine {
		tr.code = int32(sig)
	}
	o.Proc.mu.Unlock()
	if mine {
		k.unlink(o)
	}
	k.tree.Unlock()
	if !mine {
		return unix.ESRCH
	}
	return nil
}

// TraceInterrupt is PTRACE_INTERRUPT: EIO for a thread that isn't seized.
func (t *Thread) TraceInterrupt(tid int32) error {
	return t.withTracee(tid, true, func(o *Tracee) error {
		if !o.tr.seized {
			return unix.EIO
		}
		if !o.t.exited {
			o.tr.interrupt = true
			o.t.setWork(workTrace)
			if o.tr.listening {
				o.tr.stopped, o.tr.listening = false, false
			}
			o.t.Wake()
		}
		return nil
	})
}

// TraceListen is PTRACE_LISTEN: EIO unless the thread is seized and in PTRACE_EVENT_STOP.
func (t *Thread) TraceListen(tid int32) error {
	return t.WithTracee(tid, func(o *Tracee) error {
		if !o.tr.seized || o.tr.info == nil || o.tr.info.Code>>eventShift != eventStop {
			return unix.EIO
		}
		o.tr.listening = true
		if o.tr.notice {
			o.t.noticeTracer(o.tr)
		}
		return nil
	})
}

// TraceKill is PTRACE_KILL, in any state.
func (t *Thread) TraceKill(tid int32) error {
	var p *Process
	err := t.withTracee(tid, true, func(o *Tracee) error {
		p = o.t.Proc
		return nil
	})
	if err == nil {
		p.Kill(sigKill, KernelInfo(sigKill))
	}
	return err
}

// takeTracee takes the first change of a tracee of t's process, or with __WNOTHREAD of t, that w asks for.
// Precondition: tree is held.
func (t *Thread) takeTracee(w WaitFor) (got Waited, any bool, tell func()) {
	tracers := []*Thread{t}
	if w.Options&unix.WNOTHREAD == 0 {
		tracers = t.Proc.Threads()
	}
	for _, tracer := range tracers {
		for _, o := range tracer.tracees {
			if w.PID != 0 && o.TID != w.PID || w.Group != 0 && o.Proc.group.id != w.Group {
				continue
			}
			any = true
			if got, tell := o.takeTraced(w, t.Proc); got.PID != 0 {
				return got, true, tell
			}
		}
	}
	return Waited{}, any, nil
}

// takeTraced takes a change of o that w asks for, for the tracing process by. Precondition: tree is held.
func (o *Thread) takeTraced(w WaitFor, by *Process) (got Waited, tell func()) {
	k, p := o.k, o.Proc
	keep := w.Options&unix.WNOWAIT != 0
	tell = func() {}
	switch {
	case o == p.leader && p.zombie:
		if w.Options&unix.WEXITED == 0 || p.parent == by { // as its child it is taken elsewhere
			return Waited{}, nil
		}
		got = p.waited(p.status)
		got.Code, _ = p.status.child()
		if !keep {
			k.unlink(o)
			tell = k.release(p, true)
		}
		return got, tell
	case o.State() == 'Z':
		if o == p.leader || w.Options&unix.WEXITED == 0 {
			return Waited{}, nil
		}
		p.mu.Lock()
		status := o.exitStatus
		p.mu.Unlock()
		got = Waited{PID: o.TID, UID: o.Creds().RUID, Status: status, Usage: o.totals().rusage()}
		got.Code, _ = status.child()
		if !keep {
			k.unlink(o)
		}
		return got, tell
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	tr := o.trace.Load()
	if !tr.stopped || tr.listening || tr.code == 0 {
		return Waited{}, nil
	}
	got = Waited{PID: o.TID, UID: o.Creds().RUID, Status: ExitStatus(tr.code)<<8 | 0x7f, Code: CLDTrapped, Usage: o.totals().rusage()}
	if !keep {
		tr.code = 0
	}
	return got, tell
}
