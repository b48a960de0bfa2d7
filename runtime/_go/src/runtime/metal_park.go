package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// How a thread of the program waits: gopark and goready without what a thread has no use for. There is
// no lock and no sudog, and when the goroutine that was woken last can go on, it gets the CPU without
// a look at timers, pollers and queues. That starves nobody: the thread returns to user mode, where the timer
// interrupts it at the end of its slice, or earlier for a Go timer, and the whole scheduler runs.
//
// Nothing here tells the execution tracer, which the kernel doesn't have.

// metal_Park parks the goroutine and stores it in word, unless that isn't 0: then it is set to 0.
//
//go:linkname metal_Park elver/runtime/metal.park
func metal_Park(word *uintptr) {
	gp := getg()
	gp.waitreason = waitReasonIOWait
	gp.m.waitlock = unsafe.Pointer(word)
	mcall(metalPark0)
}

// metalPark0 continues metal_Park on the scheduler's stack.
func metalPark0(gp *g) {
	mp := getg().m
	word := (*uintptr)(mp.waitlock)
	mp.waitlock = nil
	metalChangeStatus(gp, _Grunning, _Gwaiting)
	dropg()
	if !atomic.Casuintptr(word, 0, uintptr(unsafe.Pointer(gp))) {
		atomic.Storeuintptr(word, 0)
		casgstatus(gp, _Gwaiting, _Grunnable)
		execute(gp, true) // never returns
	}
	pp := mp.p.ptr()
	next := pp.runnext
	if next == 0 || next.ptr().lockedm != 0 || mp.lockedg != 0 || sched.gcwaiting.Load() || pp.runSafePointFn != 0 ||
		gcBlackenEnabled != 0 || pp.schedtick%61 == 0 || !pp.runnext.cas(next, 0) {
		schedule()
	}
	pp.preempt = false
	execute(next.ptr(), true)
}

// metal_Ready lets the goroutine gp, which metal_Park stored, go on: it is the next to run.
//
//go:linkname metal_Ready elver/runtime/metal.ready
func metal_Ready(gp uintptr) {
	mp := acquirem()
	next := guintptr(gp).ptr()
	metalChangeStatus(next, _Gwaiting, _Grunnable)
	runqput(mp.p.ptr(), next, true)
	if gomaxprocs > 1 {
		systemstack(wakep)
	}
	releasem(mp)
}

// metalChangeStatus is casgstatus for a goroutine whose times nobody measures just now.
func metalChangeStatus(gp *g, old, new uint32) {
	if gp.tracking || gp.bubble != nil || !gp.atomicstatus.CompareAndSwap(old, new) {
		casgstatus(gp, old, new)
	}
}

// metal_Idle reports whether the scheduler has nobody to give the CPU to: no goroutine, no collector. What
// interrupts and timers wake comes by an interrupt of user mode.
//
//go:linkname metal_Idle elver/runtime/metal.Idle
//go:nosplit
func metal_Idle() bool {
	pp := getg().m.p.ptr()
	return pp.runnext == 0 && pp.runqhead == pp.runqtail && sched.runq.empty() &&
		!sched.gcwaiting.Load() && pp.runSafePointFn == 0 && gcBlackenEnabled == 0
}
