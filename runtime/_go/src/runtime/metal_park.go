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
	if !metalStatus(gp, _Grunning, _Gwaiting) {
		casgstatus(gp, _Grunning, _Gwaiting)
	}
	dropg()
	if !atomic.Casuintptr(word, 0, uintptr(unsafe.Pointer(gp))) {
		atomic.Storeuintptr(word, 0)
		casgstatus(gp, _Gwaiting, _Grunnable)
		execute(gp, true) // never returns
	}
	pp := mp.p.ptr()
	next := pp.runnext
	if next == 0 || next.ptr().lockedm != 0 || mp.lockedg != 0 || sched.gcwaiting.Load() || pp.runSafePointFn != 0 ||
		gcBlackenEnabled != 0 || pp.schedtick%61 == 0 || goroutineProfile.active || mp.profilehz != sched.profilehz ||
		!pp.runnext.cas(next, 0) {
		schedule()
	}
	// What is left of execute, with the rest of the slice.
	pp.preempt = false
	gp = next.ptr()
	mp.curg = gp
	gp.m = mp
	gp.syncSafePoint = false
	if !metalStatus(gp, _Grunnable, _Grunning) {
		casgstatus(gp, _Grunnable, _Grunning)
	}
	gp.waitsince = 0
	gp.preempt = false
	gp.stackguard0 = gp.stack.lo + stackGuard
	gogo(&gp.sched)
}

// metal_Ready lets the goroutine gp, which metal_Park stored, go on: it is the next to run.
//
//go:linkname metal_Ready elver/runtime/metal.ready
func metal_Ready(gp uintptr) {
	next := guintptr(gp).ptr()
	if !metalStatus(next, _Gwaiting, _Grunnable) {
		casgstatus(next, _Gwaiting, _Grunnable)
	}
	mp := acquirem()
	if pp := mp.p.ptr(); !pp.runnext.cas(0, guintptr(gp)) {
		runqput(pp, next, true)
	}
	if gomaxprocs > 1 {
		systemstack(wakep)
	}
	releasem(mp)
}

// metalStatus is casgstatus for a goroutine whose times nobody measures just now, and false for others.
func metalStatus(gp *g, old, new uint32) bool {
	return !gp.tracking && gp.bubble == nil && gp.atomicstatus.CompareAndSwap(old, new)
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
