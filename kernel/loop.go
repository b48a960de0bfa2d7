package kernel

import (
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel/klog"
	"elver/kernel/mm"
	"elver/runtime/metal"
)

// Start lets the thread run. It is called once, when its registers are set.
func (t *Thread) Start() {
	t.k.running.Add(1)
	go t.run()
}

func (t *Thread) run() {
	defer t.k.running.Done()
	t.enterRunning()
	defer t.leaveRunning()
	debug.SetPanicOnFault(true)
	t.answer()
	t.cpu.start()
	for !t.serve() {
	}
	t.cpu.stop()
	t.k.counters.syscalls.Add(-int64(t.cpu.samples))
}

// serve is the thread's life: enter the program, serve what it came back for, repeat. It returns true when
// the thread is gone, and false after a panic, which becomes EFAULT for the system call that caused
// it.
func (t *Thread) serve() (gone bool) {
	defer func() {
		if r := recover(); r != nil {
			gone = t.panicked(r)
		}
	}()
	k := t.k
	for {
		// The short way: a system call without anything pending passes here alone.
		if t.work.Load() != 0 && t.handleWork() {
			return true
		}
		c := t.Ctx // exec exchanges it
		var event amd64.Event
		if k.config.enter == nil {
			event = c.Enter(t.MM().Root())
		} else {
			event = k.config.enter(t)
		}
		switch event {
		case amd64.EventSyscall:
			t.cpu.samples--
			if t.cpu.samples < 0 {
				t.measuredSyscall()
				break
			}
			k.config.Syscall(t)
		case amd64.EventFault:
			c.OrigRAX = noSyscall
			t.fault()
		case amd64.EventInterrupt:
			c.OrigRAX = noSyscall
			t.preempt()
		default:
			c.OrigRAX = noSyscall
			t.exception()
		}
	}
}

// measuredSyscall serves a system call and counts its time for itself and those that are not measured. Those
// that somebody watches all come this way.
func (t *Thread) measuredSyscall() {
	t.cpu.samples = sampleEvery - 1
	weight := sampleEvery
	if t.observers != 0 {
		t.cpu.samples, weight = 0, 1
	}
	t.k.counters.syscalls.Add(int64(weight))
	before := t.cpu.ticks()
	if t.observers == 0 {
		t.k.config.Syscall(t)
	} else {
		t.observedSyscall()
	}
	if after := t.cpu.ticks(); after > before {
		t.cpu.system.Add((after - before) * uint64(weight))
	}
	if t.Proc.cpuArmed.Load() {
		t.Proc.checkCPUTimers()
	}
}

// preempt gives the CPU to the others after an interrupt: the slice is over, or a device woke somebody.
func (t *Thread) preempt() {
	t.cpu.stop()
	t.Preemptions.Add(1)
	t.k.counters.preemptions.Add(1)
	if t.rseq.addr != 0 {
		t.setWork(workRseq)
	}
	t.Proc.checkCPUTimers()
	metal.Tick()
	t.cpu.start()
}

// handleWork does what is to do before the thread enters the program, and returns true when it must
// not any more.
func (t *Thread) handleWork() (gone bool) {
	for {
		work := t.work.Load()
		switch {
		case work == 0:
			return false
		case work&workExit != 0:
			t.exit()
			return true
		case work&workSyscallExit != 0:
			t.traceSyscallExit()
		case work&workStop != 0:
			t.stop()
		case work&workTrace != 0:
			t.traceTrap()
		case work&(workSignal|workRestart|workMask) != 0:
			t.deliver()
		case work&workSeccomp != 0:
			t.noticeSeccomp()
		case work&workRseq != 0:
			t.clearWork(workRseq)
			t.abortRseq()
		default:
			panic(fmt.Sprintf("kernel: thread %d has work %#x that nobody does", t.TID, work))
		}
	}
}

// panicked deals with a panic of the kernel's while it served the thread, and returns whether the
// thread is gone.
func (t *Thread) panicked(reason any) (gone bool) {
	klog.Errorf("%s[%d]: the kernel panicked in system call %d: %v\n%s", t.Comm(), t.TID, int64(t.Ctx.OrigRAX), reason, debug.Stack())
	t.panics++
	if w := t.watched; w != nil {
		t.watched = nil
		w.EventUnregister(&t.entry)
	}
	switch {
	case t.work.Load()&workExit != 0 && t.panics > 2:
		// The way out itself panics: what the thread holds is lost, but the machine goes on.
		return true
	case t.Ctx.OrigRAX == noSyscall || t.panics > 1000:
		t.Proc.beginExit(Killed(sigKill))
	default:
		t.Fail(unix.EFAULT)
	}
	return false
}

// fault resolves a page fault of the program's, or makes it a signal.
func (t *Thread) fault() {
	c := t.Ctx
	c.Vector = vectorPF
	t.MinorFaults.Add(1)
	t.k.counters.faults.Add(1)
	err := t.MM().Fault(c.FaultAddress, mm.FaultAccess(c.ErrorCode))
	if err == nil {
		return
	}
	t.faultSignal(c.FaultAddress, err)
}

// faultSignal sends the signal for a fault at addr that mm could not resolve.
func (t *Thread) faultSignal(addr uint64, err error) {
	var segv *mm.SegvError
	var bus *mm.BusError
	switch {
	case errors.As(err, &segv):
		t.Force(FaultInfo(sigSegv, segv.Code, addr))
	case errors.As(err, &bus):
		t.Force(FaultInfo(Signal(unix.SIGBUS), BusAdrErr, addr))
	case errnoOf(err) == unix.ENOMEM:
		t.outOfMemory(addr)
	case errnoOf(err) == unix.EINTR || t.Interrupted():
		// The signal that ended the wait for the page is delivered, then the access repeats.
	default:
		klog.Warnf("%s[%d]: page fault at %#x: %v", t.Comm(), t.TID, addr, err)
		t.Force(FaultInfo(Signal(unix.SIGBUS), BusAdrErr, addr))
	}
}

// outOfMemory ends the process, as the out-of-memory killer would, with a sentence.
func (t *Thread) outOfMemory(addr uint64) {
	if !t.Proc.beginExit(Killed(sigKill)) {
		return
	}
	t.Proc.reported.Store(true)
	const framesPerMiB = 1 << 20 / metal.FrameSize
	size := metal.MachineSize() >> 20
	frames := metal.Frames()
	lent := ""
	if n := frames.ByOwner[metal.OwnerBalloon] / framesPerMiB; n > 0 {
		lent = fmt.Sprintf(", %d MiB being lent to the host by the balloon", n)
	}
	t.k.report(fmt.Appendf(nil, "%s: killed: out of memory: a page at %#x was wanted, and of the machine's %d MiB only %d MiB are free, which the kernel keeps for itself%s: give it more than -m %d\n",
		t.Comm(), addr, size, frames.Free/framesPerMiB, lent, size))
}

// Exception vectors (Intel SDM vol. 3, table 6-1).
const (
	vectorDE = 0
	vectorDB = 1
	vectorBP = 3
	vectorUD = 6
	vectorNP = 11
	vectorSS = 12
	vectorPF = 14
	vectorMF = 16
	vectorAC = 17
	vectorXM = 19
)

// exception makes an exception other than a page fault the signal that Linux sends (Linux:
// arch/x86/kernel/traps.c).
func (t *Thread) exception() {
	c := t.Ctx
	switch c.Vector {
	case vectorDE:
		t.Force(FaultInfo(Signal(unix.SIGFPE), FPEIntDiv, c.RIP))
	case vectorDB:
		t.debugException()
	case vectorBP:
		t.Force(KernelInfo(Signal(unix.SIGTRAP))) // not TRAP_BRKPT: Linux on x86 says SI_KERNEL
	case vectorUD:
		t.Force(FaultInfo(Signal(unix.SIGILL), ILLIllOpn, c.RIP))
	case vectorNP, vectorSS:
		t.Force(KernelInfo(Signal(unix.SIGBUS)))
	case vectorMF, vectorXM:
		code := floatCode(c.FloatExceptions(c.Vector == vectorXM))
		if code != 0 {
			t.Force(FaultInfo(Signal(unix.SIGFPE), code, c.RIP))
		}
	case vectorAC:
		t.Force(FaultInfo(Signal(unix.SIGBUS), BusAdrAln, 0))
	default: // #GP, #OF, #BR, #TS and what else only a protection violation can be
		t.Force(KernelInfo(sigSegv))
	}
}

// floatCode returns the si_code for the unmasked floating-point exceptions that are raised, which are
// bits as in MXCSR; 0 for none. The order is Linux's.
func floatCode(raised uint32) int32 {
	const invalid, denormal, divide, overflow, underflow, precision = 1, 2, 4, 8, 16, 32
	switch {
	case raised&invalid != 0:
		return FPEFltInv
	case raised&divide != 0:
		return FPEFltDiv
	case raised&overflow != 0:
		return FPEFltOvf
	case raised&(denormal|underflow) != 0:
		return FPEFltUnd
	case raised&precision != 0:
		return FPEFltRes
	}
	return 0
}
