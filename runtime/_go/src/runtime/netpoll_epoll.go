package runtime

import (
	"internal/runtime/atomic"
	"internal/runtime/sys"
	"unsafe"
)

// The scheduler's poll: interrupts are its only events. A goroutine that serves a device parks in
// WaitIRQ; an interrupt sets a pending bit and nothing else; the poll, or a tick, readies the
// goroutine.

// metalIRQ is in the data section: an interrupt may be noted before BSS can be touched.
var metalIRQ = struct {
	pending uint32    // how many vectors are noted
	slice   int64     // nanotime at which the running slice ends
	noted   [4]uint64 // a bit for each vector
	waiter  [256]guintptr
	wake    atomic.Uint32 // netpollBreak's
	brief   bool          // the last time without work was shorter than metalBrief
}{slice: 1}

// metalBrief is for how long metalLinger waits, in nanoseconds.
const metalBrief = 1e6

func netpollinit()                                 {}
func netpollIsPollDescriptor(fd uintptr) bool      { return false }
func netpollopen(fd uintptr, pd *pollDesc) uintptr { return _ENOSYS }
func netpollclose(fd uintptr) uintptr              { return _ENOSYS }
func netpollarm(pd *pollDesc, mode int)            { throw("runtime: unused") }

// netpollBreak ends a netpoll that blocks.
func netpollBreak() {
	metalIRQ.wake.Store(1)
	metalWake(metalWaitPoll, 1)
}

// netpoll returns the goroutines whose interrupts are pending. It blocks until there is one, for
// delay nanoseconds at most: for ever if delay is negative, not at all if it is 0.
func netpoll(delay int64) (gList, int32) {
	list := metalTakeIRQs()
	if !list.empty() || delay == 0 {
		return list, 0
	}
	if metalIRQ.wake.Swap(0) == 0 {
		now, deadline := metalNanotime(), int64(metalForever)
		if delay > 0 {
			deadline = now + delay
		}
		metalSleep(metalWaitPoll, deadline)
		metalIRQ.wake.Store(0)
		metalIRQ.brief = metalNanotime()-now < metalBrief
	}
	return metalTakeIRQs(), 0
}

// metalLinger is called when the scheduler finds nothing to do, and keeps its P while the wait for an interrupt or the
// next timer is brief, as it is when the last one was: between the packets of a conversation. To give the P back and
// get it again takes several times as long as what else is done about an interrupt. It returns the goroutine that
// waited for the interrupt, or says that there may be others, or neither: then the wait isn't brief.
func metalLinger(pp *p, now, pollUntil int64) (gp *g, otherReady bool) {
	if !metalIRQ.brief || gomaxprocs > 1 || sched.gcwaiting.Load() || pp.runSafePointFn != 0 || gcBlackenEnabled != 0 || !sched.runq.empty() {
		return nil, false
	}
	now = metalNanotime()
	deadline := now + metalBrief
	if pollUntil != 0 {
		deadline = min(deadline, pollUntil)
	}
	if now < deadline {
		metalSleep(metalWaitPoll, deadline)
		now = metalNanotime()
		sched.lastpoll.Store(now)
	}
	if list := metalTakeIRQs(); !list.empty() {
		gp = list.pop()
		injectglist(&list)
		return gp, false
	}
	metalIRQ.brief = deadline == pollUntil
	return nil, pollUntil != 0 && now >= pollUntil || !sched.runq.empty()
}

// metalTakeIRQs returns the goroutines that wait for a noted vector. A vector that nobody waits
// for stays noted, but no longer counts as pending.
func metalTakeIRQs() gList {
	var list gList
	if metalIRQ.pending == 0 {
		return list
	}
	metalIRQ.pending = 0
	for word, bits := range metalIRQ.noted {
		for ; bits != 0; bits &= bits - 1 {
			v := uint8(word<<6 + sys.TrailingZeros64(bits))
			if gp := metalIRQ.waiter[v].ptr(); gp != nil {
				metalUnnote(v)
				metalIRQ.waiter[v] = 0
				list.push(gp)
			}
		}
	}
	return list
}

// metalUnnote forgets that vector is noted, and says whether it was.
func metalUnnote(vector uint8) bool {
	word, bit := &metalIRQ.noted[vector>>6], uint64(1)<<(vector&63)
	was := *word&bit != 0
	*word &^= bit
	return was
}

func metalReadyIRQs() {
	list := metalTakeIRQs()
	for !list.empty() {
		goready(list.pop(), 0)
	}
}

// metal_WaitIRQ parks the goroutine until vector was noted since the last call.
//
//go:linkname metal_WaitIRQ elver/runtime/metal.WaitIRQ
func metal_WaitIRQ(vector uint8) {
	if metalUnnote(vector) {
		return
	}
	gopark(metalCommitIRQ, unsafe.Pointer(&metalIRQ.waiter[vector]), waitReasonIOWait, traceBlockNet, 2)
}

func metalCommitIRQ(gp *g, slot unsafe.Pointer) bool {
	(*guintptr)(slot).set(gp)
	return true
}

// metalNote is the interrupt handler: it notes the vector and ends the interrupt.
//
//go:nosplit
func metalNote(vector uintptr) {
	switch vector {
	case metalVectorSpurious:
		return
	case metalVectorTimer:
		metalClock.armed = 0
	default:
		metalIRQ.noted[vector>>6&3] |= 1 << (vector & 63)
		metalIRQ.pending++
	}
	metalAPICWrite(metalAPICEOI, 0)
}

// metal_Note notes an interrupt that came in user mode.
//
//go:linkname metal_Note elver/runtime/metal.Note
//go:nosplit
func metal_Note(vector uint64) {
	if vector == metalVectorTimer && metalProfile.slots != 0 {
		metalSample(0, 0)
	}
	metalNote(uintptr(vector))
}

// metalStart runs as the runtime's first goroutine starts: the scheduler polls from now on, even
// when no goroutine waits for a timer (else it would find the machine deadlocked).
//
// A goroutine starts with a stack on which most system calls can be served: growing it later costs more
// than everything else in the life of a short thread. adaptivestackstart=0 keeps the collector from
// choosing another size.
//
//go:linkname metalStart elver/runtime/metal.start
func metalStart() {
	startingStackSize = 8192
	metalGrowStack()
	netpollGenericInit()
	netpollAdjustWaiters(1)
}

// metalGrowStack makes the stack of the main goroutine large enough for the boot, while there is little on it
// to move: each time that a stack grows, all its frames are looked up.
//
//go:noinline
func metalGrowStack() {
	var room [20 << 10]byte
	metalStackRoom(&room[metalIRQ.pending&1])
}

//go:noinline
func metalStackRoom(*byte) {}
