package runtime

import "unsafe"

// The switcher of Ms: what threads are on Linux, coroutines are here. An M gives the CPU away
// where it would sleep in the OS: in futex, usleep, osyield and netpoll. When no M can run, the
// switcher halts the CPU until the earliest deadline or an interrupt.
//
// Everything is nosplit, since futex is called on any stack.

const (
	metalMUnused = iota
	metalMRunnable
	metalMWaiting // until its deadline, or until what it waits for wakes it
)

const (
	metalForever  = 1<<63 - 1
	metalTimedOut = 110 // ETIMEDOUT
)

type metalM struct {
	state    uint32
	woken    bool    // a wake-up, not the deadline, ended the wait
	sp       uintptr // of an M that isn't running
	g        uintptr // the g that was running on it
	waitFor  uintptr // a futex's address, metalWaitPoll, or 0
	deadline int64   // nanotime, or metalForever
	fn       uintptr // where a new M starts
}

// metalWaitPoll is what the M that blocks in netpoll waits for.
const metalWaitPoll = 1

var metalMs struct {
	all     [256]metalM
	current uintptr // index of the running M
	high    uintptr // highest index ever used
}

//go:nosplit
func metalMAt(i uintptr) *metalM {
	return (*metalM)(unsafe.Pointer(uintptr(unsafe.Pointer(&metalMs.all)) + i*unsafe.Sizeof(metalM{})))
}

// metalClone serves clone: a new M that starts in fn with gp as its g. It returns the new M's
// thread id.
//
//go:nosplit
func metalClone(flags int32, stk, mp, gp, fn uintptr) int32 {
	for i := uintptr(1); i < uintptr(len(metalMs.all)); i++ {
		slot := metalMAt(i)
		if slot.state != metalMUnused {
			continue
		}
		*slot = metalM{state: metalMRunnable, g: gp, fn: fn}
		// What metalSwitch finds on the stack: a frame pointer and where to return to.
		slot.sp = stk - 32
		metalSetWord(slot.sp, 0, 0)
		metalSetWord(slot.sp, 1, metalStartPC())
		if gp != 0 {
			setMNoWB(&(*g)(unsafe.Pointer(gp)).m, (*m)(unsafe.Pointer(mp)))
		}
		metalMs.high = max(metalMs.high, i)
		return int32(i + 1)
	}
	return -_EAGAIN
}

// metalGettid serves gettid.
//
//go:nosplit
func metalGettid() uint32 { return uint32(metalMs.current + 1) }

// metalStarted returns where the M that runs for the first time starts.
//
//go:nosplit
func metalStarted() uintptr { return metalMAt(metalMs.current).fn }

// metalExitM ends the running M, whose stack nobody uses any more once the CPU is given away.
//
//go:nosplit
func metalExitM() {
	metalMAt(metalMs.current).state = metalMUnused
	metalGiveAway()
}

// metalSleep parks the running M until nanotime reaches deadline or metalWake wakes waitFor. It
// reports whether it was woken.
//
//go:nosplit
func metalSleep(waitFor uintptr, deadline int64) bool {
	m := metalMAt(metalMs.current)
	m.waitFor, m.deadline, m.woken = waitFor, deadline, false
	m.state = metalMWaiting
	metalGiveAway()
	return m.woken
}

// metalWake makes up to count Ms that wait for waitFor runnable and returns how many.
//
//go:nosplit
func metalWake(waitFor uintptr, count uint32) int32 {
	n := int32(0)
	for i := uintptr(0); i <= metalMs.high && uint32(n) < count; i++ {
		if m := metalMAt(i); m.state == metalMWaiting && m.waitFor == waitFor {
			m.state, m.woken = metalMRunnable, true
			n++
		}
	}
	return n
}

// metalYield lets every other M that can run, or whose deadline has come, run before the caller
// goes on.
//
//go:nosplit
func metalYield() {
	if metalMs.high == 0 {
		return
	}
	metalMAt(metalMs.current).state = metalMRunnable
	metalGiveAway()
}

// metalGiveAway runs the next M, in turn, that can run; while there is none, it idles.
//
//go:nosplit
func metalGiveAway() {
	for {
		now := metalNanotime()
		earliest := int64(metalForever)
		for i := metalMs.current + 1; i <= metalMs.current+metalMs.high+1; i++ {
			n := i
			if n > metalMs.high {
				n -= metalMs.high + 1
			}
			m := metalMAt(n)
			switch m.state {
			case metalMWaiting:
				if m.deadline > now && !(m.waitFor == metalWaitPoll && metalIRQ.pending != 0) {
					earliest = min(earliest, m.deadline)
					continue
				}
				m.state = metalMRunnable
			case metalMUnused:
				continue
			}
			metalRunM(n)
			return
		}
		metalIdle(earliest)
	}
}

//go:nosplit
func metalRunM(n uintptr) {
	old, next := metalMAt(metalMs.current), metalMAt(n)
	if old == next {
		return
	}
	metalMs.current = n
	metalSwitch(&old.sp, &old.g, next.sp, next.g)
}

// metalFutex serves futex's WAIT and WAKE.
//
//go:nosplit
func metalFutex(addr *uint32, op int32, val uint32, ts *timespec, addr2 uintptr, val3 uint32) int32 {
	if op == _FUTEX_WAKE_PRIVATE {
		return metalWake(uintptr(unsafe.Pointer(addr)), val)
	}
	if *addr != val {
		return -_EAGAIN
	}
	deadline := int64(metalForever)
	if ts != nil {
		deadline = metalNanotime() + ts.tv_sec*1e9 + ts.tv_nsec
	}
	if !metalSleep(uintptr(unsafe.Pointer(addr)), deadline) {
		return -metalTimedOut
	}
	return 0
}

// metalUsleep serves usleep.
//
//go:nosplit
func metalUsleep(usec uint32) { metalSleep(0, metalNanotime()+int64(usec)*1000) }
