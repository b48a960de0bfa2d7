package kernel

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/arch/amd64"
	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/runtime/metal"
)

// Thread is a thread of the program. Fields without a lock belong to the thread's own goroutine.
type Thread struct {
	Ctx  *amd64.Context
	Proc *Process
	TID  int32 // changes by exec alone

	k *Kernel

	work    atomic.Uint32   // why the way back to the program is not the short one
	state   atomic.Uint32   // of /proc: sleeping, stopped, dead
	parker  metal.Parker    // where Block waits
	alarm   *time.Timer     // ends a Block with a deadline; made by the first one
	entry   waiter.Entry    // of Await
	watched waiter.Waitable // by Await; nil: nothing
	futex   futexWaiter

	creds atomic.Pointer[Credentials]
	comm  atomic.Pointer[string]

	// Guarded by Proc.mu; mask is written by the thread itself alone, which reads it without.
	pending  sigQueue
	mask     SigSet
	waitMask SigSet // real mask during sigtimedwait, which counts as not ignoring: sigtimedwait(2)
	exited   bool   // has left the list of threads

	savedMask      SigSet // to restore when workMask is set: sigsuspend, ppoll …
	altStack       AltStack
	restart        func(*Thread) (uint64, error) // of restart_syscall(2)
	clearTID       uint64                        // set_tid_address(2)
	robustList     uint64                        // set_robust_list(2)
	rseq           rseqArea
	index          int          // in Process.threads
	exitStatus     ExitStatus   // that exit(2) or the kill set
	parentDeath    atomic.Int32 // PR_SET_PDEATHSIG
	noNewPrivs     atomic.Bool
	secure         atomic.Pointer[secure] // seccomp(2); nil: none
	personality    atomic.Uint32          // personality(2)
	timerSlackNS   atomic.Uint64
	defaultSlackNS uint64
	scheduling     atomic.Pointer[Scheduling] // nil: nothing was asked for
	startTime      int64                      // Monotonic, in nanoseconds
	panics         int                        // of the kernel's, while it served this thread
	stopCounted    bool                       // Proc.stopCount has it; guarded by Proc.mu
	inCall         bool                       // stopped for the tracer in a system call, which goes on
	stepping       bool                       // the trap flag is the tracer's
	stepFrom       uint64                     // with stepping: the instruction that is stepped over
	resume         Resume                     // how the tracer let it go on
	observers      uint8                      // who watches its system calls
	ownsPI         atomic.Bool                // somebody waited for a PI futex that it owned
	vforkParent    atomic.Pointer[Thread]     // waits until this one calls execve or ends
	semaphoreUndo  *SemaphoreUndo             // nil: never needed

	trace   atomic.Pointer[tracing] // nil: nobody traces it
	tracees []*Thread               // guarded by Kernel.tree

	cpu cpuTime
	io  threadIO

	goroutine   uintptr // see running, whose lock guards nextRunning
	nextRunning *Thread
	leaving     bool // in exit, or writing a core file: what it waits for from here on nothing ends

	// Voluntary and involuntary switches, and page faults, for getrusage(2).
	Switches, Preemptions, MinorFaults, MajorFaults atomic.Uint64

	// Local is the system call package's: scratch memory of the call, for example.
	Local any
}

// Bits of Thread.work.
const (
	workSignal      = 1 << iota // a signal may be deliverable
	workExit                    // the thread has to go
	workStop                    // the process is to stop
	workRestart                 // the system call ended with one of the restart errors
	workMask                    // savedMask has to be restored
	workRseq                    // a restartable sequence may have been interrupted
	workTrace                   // the tracer wants it to stop
	workSyscallExit             // the tracer wants to know that the system call is over
	workSeccomp                 // another thread gave it a seccomp mode

	// interrupts are the bits that end a Block.
	interrupts = workSignal | workExit | workStop | workTrace
)

// States of a thread, as /proc/PID/stat shows them.
const (
	stateRunning = iota
	stateSleeping
	stateStopped
	stateDead
	stateTraced
)

// Kernel returns the machine.
func (t *Thread) Kernel() *Kernel { return t.k }

// MM returns the address space of the thread's process.
func (t *Thread) MM() *mm.AddressSpace { return t.Proc.MM() }

// Creds returns the thread's credentials, which the caller must not change.
func (t *Thread) Creds() *Credentials { return t.creds.Load() }

// SetCreds replaces the thread's credentials. The thread itself calls it.
func (t *Thread) SetCreds(c *Credentials) {
	old := t.creds.Swap(c)
	if old.RUID != c.RUID {
		t.k.user(old.RUID).tasks.Add(-1)
		t.k.user(c.RUID).tasks.Add(1)
	}
	if old.EUID != c.EUID || old.EGID != c.EGID || old.FSUID != c.FSUID || old.FSGID != c.FSGID || c.Permitted&^old.Permitted != 0 {
		t.Proc.dumpable.Store(suidDumpable)
		t.parentDeath.Store(0)
	}
	t.answer()
}

// Comm returns the thread's name.
func (t *Thread) Comm() string { return *t.comm.Load() }

// MaxComm is the longest name of a thread, in bytes.
const MaxComm = 15

// SetComm names the thread; the name is cut to MaxComm bytes.
func (t *Thread) SetComm(name string) {
	if len(name) > MaxComm {
		name = name[:MaxComm]
	}
	t.comm.Store(&name)
}

// State returns the thread's state as the letter that /proc shows: R, S, T, Z or t. Who was woken runs, though
// it may not have had the CPU yet: whoever sent a signal and then sees a sleeper, sees one that has had it.
func (t *Thread) State() byte {
	s := t.state.Load()
	if s == stateSleeping && !t.parker.Parked() {
		s = stateRunning
	}
	return "RSTZt"[s]
}

// StartTime returns when the thread started, in nanoseconds of Monotonic.
func (t *Thread) StartTime() int64 { return t.startTime }

// SetClearTID implements set_tid_address(2).
func (t *Thread) SetClearTID(addr uint64) { t.clearTID = addr }

// ClearTID returns the address of set_tid_address(2), for PR_GET_TID_ADDRESS.
func (t *Thread) ClearTID() uint64 { return t.clearTID }

// Return ends the system call with result v.
func (t *Thread) Return(v uint64) { t.Ctx.RAX = v }

// Fail ends the system call with err, which holds a unix.Errno.
func (t *Thread) Fail(err error) {
	n := errnoOf(err)
	t.Ctx.RAX = errnoResult(n)
	if n >= ERESTARTSYS && n <= ERESTART_RESTARTBLOCK {
		t.setWork(workRestart)
	}
}

// errnoOf returns the errno in err. An error without one is a mistake of the kernel's: EIO.
func errnoOf(err error) unix.Errno {
	for e := err; e != nil; {
		if n, ok := e.(unix.Errno); ok {
			return n
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			break
		}
		e = u.Unwrap()
	}
	return unix.EIO
}

func (t *Thread) setWork(bits uint32)   { t.work.Or(bits) }
func (t *Thread) clearWork(bits uint32) { t.work.And(^bits) }

// cpuTime is a thread's use of the CPU, in ticks of the TSC.
type cpuTime struct {
	total   atomic.Uint64 // until it last gave the CPU up
	system  atomic.Uint64 // the part of it in the kernel, estimated
	since   atomic.Uint64 // TSC when it last got the CPU; 0: does not have it
	samples int32         // system calls until the next that is measured
	lastSys atomic.Int64  // what CPUTime last said, in nanoseconds: it never goes back
	lastUsr atomic.Int64
}

// Every sampleEvery-th system call of a thread is measured and stands for the others: two reads of
// the TSC at each would be a tenth of a null system call.
const sampleEvery = 16

func (c *cpuTime) start() { c.since.Store(metal.TSC() | 1) }

func (c *cpuTime) stop() {
	if since := c.since.Swap(0); since != 0 {
		if now := metal.TSC(); now > since {
			c.total.Add(now - since)
		}
	}
}

func (c *cpuTime) ticks() uint64 {
	total := c.total.Load()
	if since := c.since.Load(); since != 0 {
		if now := metal.TSC(); now > since {
			total += now - since
		}
	}
	return total
}

// ticksToNS converts ticks of the TSC without overflow.
func ticksToNS(ticks uint64) int64 {
	f := metal.TSCFrequency()
	return int64(ticks/f*nanosPerSecond + ticks%f*nanosPerSecond/f)
}

// CPUTime returns the thread's CPU time in user and in system mode, in nanoseconds. Neither ever goes
// back.
func (t *Thread) CPUTime() (user, system int64) {
	total := t.cpu.ticks()
	sys := min(t.cpu.system.Load(), total)
	system = raise(&t.cpu.lastSys, ticksToNS(sys))
	user = raise(&t.cpu.lastUsr, max(ticksToNS(total)-system, 0))
	return user, system
}

// raise makes p at least v and returns it.
func raise(p *atomic.Int64, v int64) int64 {
	for {
		old := p.Load()
		if v <= old {
			return old
		}
		if p.CompareAndSwap(old, v) {
			return v
		}
	}
}

// NotifyEvent implements waiter.EventListener: a waiter.Entry with the thread as listener wakes it.
func (t *Thread) NotifyEvent(waiter.EventMask) {
	if wants := t.entry.Mask(); wants&waitq.Exclusive != 0 {
		t.served(wants)
	}
	t.Wake()
}

// served notes that t has what it waits for, as one of several: what comes now is for the others.
func (t *Thread) served(wants waiter.EventMask) {
	if wants&waitq.Served == 0 {
		t.entry.Init(t, wants|waitq.Served)
	} else {
		t.entry.Init(t, 0)
	}
}

// Process is a thread group of the program.
type Process struct {
	PID    int32
	Limits *Limits
	Attach Attachment

	k       *Kernel
	mm      atomic.Pointer[mm.AddressSpace] // written under mu
	actions *Actions

	mu        sync.Mutex
	threads   []*Thread // guarded by mu: those that have not exited, the leader first while it lives
	shared    sigQueue  // guarded by mu: pending signals of the process
	exiting   bool      // guarded by mu: the whole process is going
	killed    bool      // guarded by mu: by SIGKILL, so that not even a tracer stops it
	status    ExitStatus
	stopSig   Signal    // guarded by mu: the signal that stopped the process; 0: not stopped
	stopCount int       // guarded by mu: threads that have to stop yet
	dead      cpuTotals // guarded by mu: of threads that exited
	deadIO    IOCounts  // guarded by mu: the same
	children  cpuTotals // guarded by mu: of children that were waited for
	execer    *Thread   // guarded by mu: the thread that waits in execve for the others to go

	leader     *Thread
	parent     *Process   // guarded by Kernel.tree
	maker      *Thread    // guarded by Kernel.tree: of parent, the one that made the process; nil: unknown
	kids       []*Process // guarded by Kernel.tree
	group      *ProcessGroup
	zombie     bool   // guarded by Kernel.tree
	exitSignal Signal // guarded by Kernel.tree: sent to the parent at the end; 0: none
	waitStop   ExitStatus
	waitCont   bool
	subreaper  bool // guarded by Kernel.tree: PR_SET_CHILD_SUBREAPER
	execed     bool // guarded by Kernel.tree: has called execve since its fork
	unkillable bool // it is the kernel's own init

	// ChildEvents is notified with EventIn when a child ends, stops or continues; SignalEvents when a
	// signal arrives, for signalfd; ExitEvents with EventIn when the process ends, for pidfd.
	ChildEvents, SignalEvents, ExitEvents waitq.Queue

	dumpable    atomic.Int32
	reported    atomic.Bool // why it died was said
	oomScoreAdj atomic.Int32
	oomScoreMin atomic.Int32 // the least that it may be set to without privilege

	timersMu sync.Mutex
	itimers  [3]*Timer        // guarded by timersMu: of setitimer
	posix    map[int32]*Timer // guarded by timersMu: of timer_create
	nextID   int32            // guarded by timersMu
	cpuMu    sync.Mutex
	cpu      map[*Timer]struct{} // guarded by cpuMu: armed timers of CPU clocks
	cpuArmed atomic.Bool         // cpu is not empty
	nextXCPU atomic.Uint64       // seconds of CPU time at which the next SIGXCPU is due

	exe atomic.Pointer[Executable]
}

// Executable is what /proc shows of the program that a process runs. It is immutable; prctl(PR_SET_MM) exchanges it.
type Executable struct {
	Path                                   string // absolute
	File                                   any    // vfs's handle of /proc/PID/exe, which the address space keeps open (SetProgram)
	ArgStart, ArgEnd, EnvStart, EnvEnd     uint64 // in the program's memory
	Auxv                                   []byte // as it was put onto the stack
	CodeStart, CodeEnd, DataStart, DataEnd uint64
	StackStart                             uint64
	Secret                                 bool // who executes it may not read it: nor may a core file or a debugger
}

// Executable returns what the process runs; never nil.
func (p *Process) Executable() *Executable {
	if e := p.exe.Load(); e != nil {
		return e
	}
	return &Executable{}
}

// SetExecutable says what the process runs from now on.
func (p *Process) SetExecutable(e *Executable) { p.exe.Store(e) }

// MM returns the process's address space, nil after its end. For another process than the caller's
// see AcquireMM.
func (p *Process) MM() *mm.AddressSpace { return p.mm.Load() }

// AcquireMM returns the address space of a process that may end meanwhile, for the caller to Release;
// nil when it has none any more.
func (p *Process) AcquireMM() *mm.AddressSpace {
	p.mu.Lock()
	defer p.mu.Unlock()
	as := p.mm.Load()
	if as != nil {
		as.Acquire()
	}
	return as
}

// Leader returns the thread whose id is the process's; it may have exited.
func (p *Process) Leader() *Thread { return p.leader }

// Threads returns the threads that have not exited.
func (p *Process) Threads() []*Thread {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Thread(nil), p.threads...)
}

// Creds returns the credentials of the process's leader.
func (p *Process) Creds() *Credentials { return p.leader.Creds() }

// Kernel returns the machine.
func (p *Process) Kernel() *Kernel { return p.k }

// cpuTotals is CPU time in nanoseconds, and counts of getrusage(2).
type cpuTotals struct {
	user, system                        int64
	switches, preemptions, minor, major uint64
	maxRSSKiB                           uint64
}

func (c *cpuTotals) add(d cpuTotals) {
	c.user += d.user
	c.system += d.system
	c.switches += d.switches
	c.preemptions += d.preemptions
	c.minor += d.minor
	c.major += d.major
	c.maxRSSKiB = max(c.maxRSSKiB, d.maxRSSKiB)
}

func (t *Thread) totals() cpuTotals {
	user, system := t.CPUTime()
	return cpuTotals{user, system, t.Switches.Load(), t.Preemptions.Load(), t.MinorFaults.Load(), t.MajorFaults.Load(), 0}
}

func (p *Process) totals() cpuTotals {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.dead
	for _, t := range p.threads {
		c.add(t.totals())
	}
	return c
}

// CPUTime returns the CPU time of all threads the process ever had, in nanoseconds.
func (p *Process) CPUTime() (user, system int64) {
	c := p.totals()
	return c.user, c.system
}

// errnoResult is how a system call returns an errno.
func errnoResult(n unix.Errno) uint64 { return -uint64(n) }
