package kernel

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel/mm"
)

// Futexes (futex(2)). A thread that waits is queued in the bucket of its futex. The word is compared and the
// thread queued under the bucket's lock, and whoever wakes takes that lock after it changed the word:
// so no wakeup is lost. Under the lock the word is read without resolving faults; at a fault the
// lock is dropped, the page brought in, and all done again.
//
// Buckets are locked two at a time in the order of their index.

// FutexAll is the bitset of plain FUTEX_WAIT and FUTEX_WAKE.
const FutexAll = ^uint32(0)

const (
	futexBuckets  = 1024 // a power of 2
	futexTIDMask  = 0x3fffffff
	futexDied     = 0x40000000
	futexWaiters  = 0x80000000
	futexWaitVMax = 128
)

type futexTable struct {
	buckets [futexBuckets]futexBucket
}

type futexBucket struct {
	mu         sync.Mutex
	head, tail *futexWaiter // guarded by mu: in the order in which they came
	index      int
}

// futexWaiter is a thread's place in a queue.
type futexWaiter struct {
	thread     *Thread
	key        mm.Key
	bitset     uint32
	owner      *Thread // of a PI futex, for its waiters; guarded by the bucket
	ownerDied  bool    // the futex was inherited; guarded by the bucket
	wants      bool    // waits for the PI futex target to come after this one; guarded by the bucket
	target     mm.Key
	next, prev *futexWaiter
	bucket     atomic.Pointer[futexBucket] // nil once it was woken; changed under both buckets' locks
}

func (f *futexTable) init() {
	for i := range f.buckets {
		f.buckets[i].index = i
	}
}

// bucket returns the bucket of the futex at addr. A shared one is at different addresses in different
// processes, but at the same offset in its page.
func (f *futexTable) bucket(addr uint64, shared bool) *futexBucket {
	if shared {
		addr %= mm.PageSize
	}
	const golden = 0x9e3779b97f4a7c15
	return &f.buckets[addr*golden>>(64-10)]
}

func (b *futexBucket) push(w *futexWaiter) {
	w.bucket.Store(b)
	w.next, w.prev = nil, b.tail
	if b.tail == nil {
		b.head = w
	} else {
		b.tail.next = w
	}
	b.tail = w
}

// unlink takes w out of the queue. Precondition: b is locked and w in it.
func (b *futexBucket) unlink(w *futexWaiter) {
	if w.prev == nil {
		b.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		b.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
}

// release takes w out of the queue and wakes its thread. Precondition: b is locked and w in it.
func (b *futexBucket) release(w *futexWaiter) {
	t := w.thread
	b.unlink(w)
	w.bucket.Store(nil) // from here on w is its thread's again
	t.Wake()
}

// leave takes w out of the queue that it is in by now, and returns false if it was woken before.
func (w *futexWaiter) leave() bool {
	for {
		b := w.bucket.Load()
		if b == nil {
			return false
		}
		b.mu.Lock()
		if w.bucket.Load() == b {
			b.unlink(w)
			w.bucket.Store(nil)
			b.mu.Unlock()
			return true
		}
		b.mu.Unlock() // it was moved meanwhile
	}
}

func lockBuckets(a, b *futexBucket) {
	switch {
	case a == b:
		a.mu.Lock()
	case a.index < b.index:
		a.mu.Lock()
		b.mu.Lock()
	default:
		b.mu.Lock()
		a.mu.Lock()
	}
}

func unlockBuckets(a, b *futexBucket) {
	a.mu.Unlock()
	if a != b {
		b.mu.Unlock()
	}
}

// peek reads a word of the program's without resolving a fault; ok false is one. It neither parks nor
// panics. Precondition: addr is aligned and the program's, as mm's FutexKey checks.
func peek(as *mm.AddressSpace, addr uint64) (v uint32, ok bool) {
	return amd64.LoadUser32From(as.Root(), addr)
}

// swap is peek for a compare-and-swap.
func swap(as *mm.AddressSpace, addr uint64, old, new uint32) (prev uint32, ok bool) {
	return amd64.CompareAndSwapUser32In(as.Root(), addr, old, new)
}

// bringIn resolves the write fault at a word of the program's.
func bringIn(as *mm.AddressSpace, addr uint64) error {
	_, err := as.CompareAndSwap32(addr, 0, 0)
	return err
}

// futexEnqueue queues w if the word at addr is val: EAGAIN if it isn't, EFAULT, EINVAL.
func (t *Thread) futexEnqueue(w *futexWaiter, addr uint64, shared bool, val, bitset uint32) error {
	as := t.MM()
	key, err := as.FutexKey(addr, shared)
	if err != nil {
		return err
	}
	w.thread, w.key, w.bitset = t, key, bitset
	b := t.k.futexes.bucket(addr, shared)
	for {
		b.mu.Lock()
		v, ok := peek(as, addr)
		if ok && v == val {
			b.push(w)
		}
		b.mu.Unlock()
		switch {
		case ok && v == val:
			return nil
		case ok:
			return unix.EAGAIN
		}
		if _, err := as.ReadUint32(addr); err != nil {
			return err
		}
	}
}

// FutexWait is FUTEX_WAIT and FUTEX_WAIT_BITSET: it waits at the word at addr if that is val: EAGAIN if it
// isn't, ETIMEDOUT, EINVAL for an empty bitset or an address that isn't aligned, EFAULT. Interrupted, it
// starts over or, if it has a deadline, goes on by restart_syscall.
func (t *Thread) FutexWait(addr uint64, shared bool, val, bitset uint32, d Deadline) error {
	if bitset == 0 {
		return unix.EINVAL
	}
	w := &t.futex
	t.PrepareBlock()
	if err := t.futexEnqueue(w, addr, shared, val, bitset); err != nil {
		return err
	}
	err := t.futexBlock(w, d)
	if err == ERESTARTSYS && !d.IsNever() {
		return t.RestartWith(func(t *Thread) (uint64, error) { return 0, t.FutexWait(addr, shared, val, bitset, d) })
	}
	return err
}

// futexBlock waits until w is woken.
func (t *Thread) futexBlock(w *futexWaiter, d Deadline) error {
	for w.bucket.Load() != nil {
		if err := t.Block(d); err != nil && w.leave() {
			return err
		}
	}
	return nil
}

// FutexWake is FUTEX_WAKE and FUTEX_WAKE_BITSET: it wakes up to n threads that wait at addr with a bit of
// bitset, and returns how many.
func (t *Thread) FutexWake(addr uint64, shared bool, n int, bitset uint32) (int, error) {
	if bitset == 0 {
		return 0, unix.EINVAL
	}
	key, err := t.MM().FutexKey(addr, shared)
	if err != nil {
		return 0, err
	}
	b := t.k.futexes.bucket(addr, shared)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wake(key, n, bitset)
}

// wake wakes up to n waiters, one at least. EINVAL if a waiter waits for a PI futex, now or next. Precondition: b is locked.
func (b *futexBucket) wake(key mm.Key, n int, bitset uint32) (woken int, err error) {
	for w := b.head; w != nil; {
		next := w.next
		if w.bitset&bitset != 0 && w.key == key {
			if w.owner != nil || w.wants {
				return woken, unix.EINVAL
			}
			b.release(w)
			if woken++; woken >= n {
				break
			}
		}
		w = next
	}
	return woken, nil
}

// FutexRequeue is FUTEX_REQUEUE and, with cmp, FUTEX_CMP_REQUEUE: it wakes up to wake threads at addr and has up to
// requeue more wait at addr2 instead. It returns how many it woke, and with cmp how many it moved
// too: EAGAIN if the word is not *cmp.
func (t *Thread) FutexRequeue(addr, addr2 uint64, shared bool, wake, requeue int, cmp *uint32) (int, error) {
	if wake < 0 || requeue < 0 {
		return 0, unix.EINVAL
	}
	as := t.MM()
	key, err := as.FutexKey(addr, shared)
	if err != nil {
		return 0, err
	}
	key2, err := as.FutexKey(addr2, shared)
	if err != nil {
		return 0, err
	}
	b, b2 := t.k.futexes.bucket(addr, shared), t.k.futexes.bucket(addr2, shared)
	for {
		lockBuckets(b, b2)
		if cmp == nil {
			break
		}
		v, ok := peek(as, addr)
		if ok && v == *cmp {
			break
		}
		unlockBuckets(b, b2)
		if ok {
			return 0, unix.EAGAIN
		}
		if _, err := as.ReadUint32(addr); err != nil {
			return 0, err
		}
	}
	defer unlockBuckets(b, b2)
	woken, moved := 0, 0
	for w, last := b.head, b.tail; w != nil && woken+moved < wake+requeue; {
		next := w.next
		end := w == last // what is moved within one bucket goes behind it
		if w.key == key {
			switch {
			case w.owner != nil || w.wants:
				return 0, unix.EINVAL
			case woken < wake:
				b.release(w)
				woken++
			default:
				b.unlink(w)
				w.key = key2
				b2.push(w)
				moved++
			}
		}
		if end {
			break
		}
		w = next
	}
	if cmp == nil {
		return woken, nil
	}
	return woken + moved, nil
}

// FutexWakeOp is FUTEX_WAKE_OP: it changes the word at addr2 as op says, wakes up to wake threads at addr, and if
// the old word compares as op says up to wake2 at addr2. ENOSYS for an op that there is not.
func (t *Thread) FutexWakeOp(addr, addr2 uint64, shared bool, wake, wake2 int, op uint32) (int, error) {
	as := t.MM()
	key, err := as.FutexKey(addr, shared)
	if err != nil {
		return 0, err
	}
	key2, err := as.FutexKey(addr2, shared)
	if err != nil {
		return 0, err
	}
	b, b2 := t.k.futexes.bucket(addr, shared), t.k.futexes.bucket(addr2, shared)
	var old uint32
	for {
		lockBuckets(b, b2)
		v, ok := peek(as, addr2)
		if ok {
			changed, known := futexOperate(op, v)
			if !known {
				unlockBuckets(b, b2)
				return 0, unix.ENOSYS
			}
			var prev uint32
			if prev, ok = swap(as, addr2, v, changed); ok && prev == v {
				old = v
				break
			}
		}
		unlockBuckets(b, b2)
		if !ok {
			if err := bringIn(as, addr2); err != nil {
				return 0, err
			}
		}
	}
	defer unlockBuckets(b, b2)
	n, err := b.wake(key, wake, FutexAll)
	if err == nil && futexCompare(op, old) {
		var more int
		more, err = b2.wake(key2, wake2, FutexAll)
		n += more
	}
	return n, err
}

// futexOperate returns v changed as op says, and whether there are such an operation and comparison.
func futexOperate(op, v uint32) (uint32, bool) {
	arg := uint32(int32(op<<8) >> 20) // twelve bits with sign
	if op>>31 != 0 {
		arg = 1 << (arg & 31)
	}
	if op>>24&15 > 5 {
		return 0, false
	}
	switch op >> 28 & 7 {
	case 0:
		return arg, true
	case 1:
		return v + arg, true
	case 2:
		return v | arg, true
	case 3:
		return v &^ arg, true
	case 4:
		return v ^ arg, true
	}
	return 0, false
}

func futexCompare(op, old uint32) bool {
	arg, v := int32(op<<20)>>20, int32(old)
	switch op >> 24 & 15 {
	case 0:
		return v == arg
	case 1:
		return v != arg
	case 2:
		return v < arg
	case 3:
		return v <= arg
	case 4:
		return v > arg
	}
	return v >= arg
}

// FutexWaitV is struct futex_waitv of futex_waitv(2).
type FutexWaitV struct {
	Value uint64
	Addr  uint64
	Flags uint32 // FUTEX2_SIZE_U32, FUTEX2_PRIVATE
}

const (
	futex2Size32  = 2
	futex2Private = 128
)

// FutexWaitMultiple is futex_waitv(2): it waits at all words at once and returns the index of one that was
// woken. Errors are those of FutexWait; EINVAL for flags that there are not.
func (t *Thread) FutexWaitMultiple(at []FutexWaitV, d Deadline) (int, error) {
	if len(at) == 0 || len(at) > futexWaitVMax {
		return 0, unix.EINVAL
	}
	for _, a := range at {
		if a.Flags&^futex2Private != futex2Size32 || a.Value>>32 != 0 {
			return 0, unix.EINVAL
		}
	}
	waiters := make([]futexWaiter, len(at))
	t.PrepareBlock()
	queued := 0
	var err error
	for i, a := range at {
		if err = t.futexEnqueue(&waiters[i], a.Addr, a.Flags&futex2Private == 0, uint32(a.Value), FutexAll); err != nil {
			break
		}
		queued++
	}
	// leave takes all out and returns the index of the last that had been woken, -1 for none.
	leave := func() int {
		woken := -1
		for i := range waiters[:queued] {
			if !waiters[i].leave() {
				woken = i
			}
		}
		return woken
	}
	for err == nil {
		for i := range waiters {
			if waiters[i].bucket.Load() == nil {
				return leave(), nil
			}
		}
		err = t.Block(d)
	}
	if woken := leave(); woken >= 0 {
		return woken, nil
	}
	return 0, err
}

// SetRobustList is set_robust_list(2).
func (t *Thread) SetRobustList(head, length uint64) error {
	if length != sizeRobustHead {
		return unix.EINVAL
	}
	t.robustList = head
	return nil
}

// RobustList returns what SetRobustList set, for get_robust_list(2).
func (t *Thread) RobustList() (head, length uint64) { return t.robustList, sizeRobustHead }

const (
	sizeRobustHead = 24
	robustLimit    = 2048 // entries that are looked at: the list may be a ring
)

// exitRobustList marks the futexes that the dying thread holds, and wakes who waits for them
// (Documentation/locking/robust-futex-ABI.rst).
func (t *Thread) exitRobustList() {
	head := t.robustList
	t.robustList = 0
	t.exitPI()
	if head == 0 {
		return
	}
	as := t.MM()
	entry, err := as.ReadUint64(head)
	if err != nil {
		return
	}
	offset, err := as.ReadUint64(head + 8)
	if err != nil {
		return
	}
	pending, err := as.ReadUint64(head + 16)
	if err != nil {
		return
	}
	const isPI = 1
	for range robustLimit {
		if entry&^isPI == head {
			break
		}
		next, err := as.ReadUint64(entry &^ isPI)
		if entry != pending && !t.futexDeath(entry&^isPI+offset, entry&isPI != 0, false) {
			return
		}
		if err != nil {
			return
		}
		entry = next
	}
	if pending != 0 {
		t.futexDeath(pending&^isPI+offset, pending&isPI != 0, true)
	}
}

// futexDeath marks one futex that t may hold; false: the list is not to be trusted further.
func (t *Thread) futexDeath(addr uint64, pi, pending bool) bool {
	as := t.MM()
	if addr%4 != 0 {
		return false
	}
	for {
		v, err := as.ReadUint32(addr)
		if err != nil {
			return false
		}
		owner := v & futexTIDMask
		if pending && !pi && owner == 0 {
			t.FutexWake(addr, true, 1, FutexAll) // it died between unlocking and waking
			return true
		}
		if owner != uint32(t.TID) {
			return true
		}
		prev, err := as.CompareAndSwap32(addr, v, v&futexWaiters|futexDied)
		if err != nil {
			return false
		}
		if prev == v {
			if !pi && v&futexWaiters != 0 {
				t.FutexWake(addr, true, 1, FutexAll)
			}
			return true
		}
	}
}
