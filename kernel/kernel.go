// Package kernel is the processes and threads of the program, and what Linux gives them to live with:
// signals, futexes, timers, clocks, credentials and limits.
//
// A thread of the program is a goroutine in the loop of loop.go. Everything that a thread calls on
// itself (Block, Clone, Exit, the futex operations, SetMask …) must be called on its own goroutine,
// from a system call handler; what is called on others (Process.Kill, Thread.Wake, Process.CPUTime …) may be
// called from any goroutine.
//
// A system call handler returns its result with Thread.Return or Thread.Fail. Errors are unix.Errno;
// of these ERESTARTSYS and its kin (restart.go) never reach the program: the loop resolves them as Linux
// does.
//
// Lock order:
//
//	futex bucket               two of them in the order of their index
//	  Kernel.tree              who is whose child, groups, sessions, the table of threads
//	    Process.mu             pending signals, the list of threads, stop and exit of the group
//	      Actions.mu           what is done about each signal
//	      Limits.mu
//	Process.timersMu           the table of timers
//	Timer.mu                   not held while the timer's signal is sent
//	  Process.mu               a timer may read the CPU time of the process
//	  Process.cpuMu            which timers of CPU time are armed
//	  clockSet.mu
//
// No lock of this package is held while the memory of the program is touched, but for a futex bucket,
// under which a word is read only if that cannot fault (futex.go). Waking a thread takes no lock.
package kernel

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/arch/amd64"
	"elver/kernel/mm"
)

// Attachment is what a process carries besides memory and signals: descriptors, root, working
// directory and umask. Package vfs implements it.
type Attachment interface {
	// Fork returns the attachment of a new process: a copy.
	Fork() Attachment
	// Exec closes what is closed on exec.
	Exec()
	// Exit gives everything back: the last thread of the process is gone.
	Exit()
}

// Sharer is an Attachment of which new processes can share parts (CLONE_FILES, CLONE_FS).
type Sharer interface {
	ForkSharing(files, fs bool) Attachment
}

// Config is what the kernel needs from the packages above it.
type Config struct {
	// Syscall serves the system call in t.Ctx on t's goroutine and ends it by t.Return, t.Fail or
	// t.Sigreturn.
	Syscall func(t *Thread)
	// Signaled, if not nil, hears of a signal that t takes: a handler's, or one that kills it. Exited
	// hears of the end of t, with the status of its process if that ends as a whole.
	Signaled func(t *Thread, info Siginfo)
	Exited   func(t *Thread, status ExitStatus)
	// Core, if not nil, writes a core file of a process whose thread t dies by info, and returns whether it
	// did. threads are all of the process; none of them returns to the program any more.
	Core func(t *Thread, info Siginfo, threads []*Thread) bool
	// Report takes the report of a program that dies by a fatal signal; nil: the log does.
	Report io.Writer
	// Symbol, if not nil, names the function at offset off of a mapped file, for reports.
	Symbol func(file mm.Mappable, off uint64) string
	// MaxTasks limits how many threads there may be at once; 0: what memory allows.
	MaxTasks uint64

	// Profiled says that a CPU profile is taken.
	Profiled bool
	// enter replaces amd64.Context.Enter, in tests and for a profile.
	enter func(t *Thread) amd64.Event
}

// Kernel is the machine as its processes see it.
type Kernel struct {
	config Config

	tree     sync.Mutex
	threads  map[int32]*Thread       // guarded by tree: all threads, by tid, leaders that are zombies included
	groups   map[int32]*ProcessGroup // guarded by tree
	sessions map[int32]*Session      // guarded by tree
	lastTID  int32                   // guarded by tree
	first    *Process                // guarded by tree: the program
	init     *Process                // guarded by tree: who gets orphans, the program itself without StartInit
	tasks    int                     // guarded by tree: threads that have not exited

	corePattern atomic.Pointer[string] // nil: "core"
	coreUsesPID atomic.Bool

	users    sync.Map             // uid to *user
	lastUser atomic.Pointer[user] // that was asked for: mostly there is one

	running  sync.WaitGroup // the goroutines of threads
	ended    chan struct{}  // closed when the first process ends, or the machine by reboot(2)
	endOnce  sync.Once      // closes ended
	status   ExitStatus     // of the machine, once ended is closed
	stopping atomic.Bool    // Stop was called: no new threads

	futexes  futexTable
	counters counters
	uts      uts
	observed atomic.Int64 // threads whose system calls somebody watches
	started  int64        // Monotonic at New, in nanoseconds
}

// New returns a machine without processes.
func New(config Config) *Kernel {
	if config.Profiled {
		config.enter = func(t *Thread) amd64.Event { return t.Ctx.EnterProfiled(t.MM().Root()) }
	}
	k := &Kernel{
		config:   config,
		threads:  make(map[int32]*Thread),
		groups:   make(map[int32]*ProcessGroup),
		sessions: make(map[int32]*Session),
		ended:    make(chan struct{}),
		started:  Monotonic(),
	}
	if k.config.MaxTasks == 0 {
		k.config.MaxTasks = defaultMaxTasks()
	}
	k.futexes.init()
	k.uts.host, k.uts.domain = "elver", "(none)"
	return k
}

// user counts what limits count per user id rather than per process.
type user struct {
	uid     uint32
	tasks   atomic.Int64 // RLIMIT_NPROC
	signals atomic.Int64 // RLIMIT_SIGPENDING
	queues  atomic.Int64 // RLIMIT_MSGQUEUE, in bytes
}

// ChargeMessageQueue counts the bytes of a POSIX message queue against RLIMIT_MSGQUEUE, until refund is
// called: EMFILE.
func (t *Thread) ChargeMessageQueue(bytes uint64) (refund func(), err error) {
	u, limit := t.k.user(t.Creds().RUID), t.Proc.Limits.Soft(rlimitMsgqueue)
	if n := u.queues.Add(int64(bytes)); uint64(n) > limit {
		u.queues.Add(-int64(bytes))
		return nil, unix.EMFILE
	}
	return func() { u.queues.Add(-int64(bytes)) }, nil
}

func (k *Kernel) user(uid uint32) *user {
	if u := k.lastUser.Load(); u != nil && u.uid == uid {
		return u
	}
	u := k.findUser(uid)
	k.lastUser.Store(u)
	return u
}

func (k *Kernel) findUser(uid uint32) *user {
	if u, ok := k.users.Load(uid); ok {
		return u.(*user)
	}
	u, _ := k.users.LoadOrStore(uid, &user{uid: uid})
	return u.(*user)
}

// Thread returns the thread with that id, or nil.
func (k *Kernel) Thread(tid int32) *Thread {
	k.tree.Lock()
	defer k.tree.Unlock()
	return k.threads[tid]
}

// Process returns the process with that id, zombies included, or nil.
func (k *Kernel) Process(pid int32) *Process {
	k.tree.Lock()
	defer k.tree.Unlock()
	return k.process(pid)
}

// Precondition: tree is held.
func (k *Kernel) process(pid int32) *Process {
	if t := k.threads[pid]; t != nil && t.Proc.PID == pid {
		return t.Proc
	}
	return nil
}

// Processes returns all processes, zombies included, in no order.
func (k *Kernel) Processes() []*Process {
	k.tree.Lock()
	defer k.tree.Unlock()
	var all []*Process
	for tid, t := range k.threads {
		if t.Proc.PID == tid {
			all = append(all, t.Proc)
		}
	}
	return all
}

// Counts returns how many threads there are, and how many of them could run now: for sysinfo(2) and
// /proc/loadavg.
func (k *Kernel) Counts() (tasks, runnable int) {
	k.tree.Lock()
	defer k.tree.Unlock()
	for _, t := range k.threads {
		if t.State() == 'R' {
			runnable++
		}
	}
	return k.tasks, runnable
}

// maxTID is one more than the greatest thread id: /proc/sys/kernel/pid_max.
const maxTID = 4 << 20

// newTID returns a thread id that nothing carries. Precondition: tree is held.
func (k *Kernel) newTID() (int32, error) {
	for range maxTID {
		k.lastTID++
		if k.lastTID >= maxTID {
			k.lastTID = 300 // the low numbers go to the first processes alone, as in Linux
		}
		id := k.lastTID
		if k.threads[id] == nil && k.groups[id] == nil && k.sessions[id] == nil {
			return id, nil
		}
	}
	return 0, unix.EAGAIN
}

// end ends the machine with status, unless it has been ended.
func (k *Kernel) end(status ExitStatus) {
	k.endOnce.Do(func() {
		k.status = status
		close(k.ended)
	})
}

// PowerOff ends the machine as the end of the first process does, with status 0.
func (k *Kernel) PowerOff() { k.end(Exited(0)) }

// Wait returns the status of the first process once that has ended, or the machine's when PowerOff was
// called before.
func (k *Kernel) Wait() ExitStatus {
	<-k.ended
	return k.status
}

// Stop kills what is left of the processes and waits until the last thread is gone.
func (k *Kernel) Stop() {
	k.stopping.Store(true)
	for tasks := -1; tasks != 0; tasks, _ = k.Counts() {
		if tasks > 0 { // one may have been between its limits and the table
			time.Sleep(time.Millisecond)
		}
		for _, p := range k.Processes() {
			p.Kill(sigKill, KernelInfo(sigKill))
		}
	}
	k.running.Wait()
}

// ExitStatus is how a process ended or what else wait4(2) reports, in its encoding.
type ExitStatus uint32

// Exited is the status of a process that ended by exit_group with code.
func Exited(code int) ExitStatus { return ExitStatus(code&0xff) << 8 }

// Killed is the status of a process that a signal ended, without a core file.
func Killed(sig Signal) ExitStatus { return ExitStatus(sig) }

// Signal returns the signal that ended the process, 0 if it exited.
func (s ExitStatus) Signal() Signal { return Signal(s & 0x7f) }

// Code returns what a shell calls the status: the exit code, or 128+N for signal N.
func (s ExitStatus) Code() int {
	if n := s.Signal(); n != 0 {
		return 128 + int(n)
	}
	return int(s >> 8 & 0xff)
}

var _ waiter.EventListener = (*Thread)(nil)
