package kernel

import (
	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

// Condition variables over PI mutexes (futex(2), FUTEX_WAIT_REQUEUE_PI): who waits at the condition's word says
// which PI futex it wants next, and FUTEX_CMP_REQUEUE_PI gives it that or queues it there.

// FutexWaitRequeuePI is FUTEX_WAIT_REQUEUE_PI: it waits at addr, if that is val, until it owns the PI futex
// addr2. EAGAIN also if a signal came when it had been moved, ETIMEDOUT, EINVAL, EFAULT.
func (t *Thread) FutexWaitRequeuePI(addr, addr2 uint64, shared bool, val uint32, d Deadline) error {
	if addr == addr2 {
		return unix.EINVAL
	}
	target, err := t.MM().FutexKey(addr2, shared)
	if err != nil {
		return err
	}
	w := &t.futex
	t.PrepareBlock()
	w.target, w.wants = target, true
	defer func() { w.wants, w.owner, w.ownerDied = false, nil, false }()
	if err := t.futexEnqueue(w, addr, shared, val, FutexAll); err != nil {
		return err
	}
	switch err := t.futexBlock(w, d); {
	case err == ERESTARTSYS && w.owner != nil:
		return unix.EAGAIN // starting over at addr would miss that the condition came
	case err == ERESTARTSYS:
		return ERESTARTNOINTR
	case err != nil:
		return err
	}
	if w.ownerDied {
		return t.takeDead(addr2)
	}
	return nil
}

// FutexCmpRequeuePI is FUTEX_CMP_REQUEUE_PI: if the word at addr is cmp it gives the PI futex addr2 to who has
// waited longest at addr, unless somebody owns it, and queues up to requeue more there. It returns how many
// it served: EAGAIN if the word is another, EINVAL if somebody waits at addr for something else, ESRCH if
// the owner is no thread, EDEADLK if it is one of those who wait.
func (t *Thread) FutexCmpRequeuePI(addr, addr2 uint64, shared bool, wake, requeue int, cmp uint32) (int, error) {
	if wake != 1 || requeue < 0 || addr == addr2 {
		return 0, unix.EINVAL
	}
	as := t.MM()
	key, err := as.FutexKey(addr, shared)
	if err != nil {
		return 0, err
	}
	target, err := as.FutexKey(addr2, shared)
	if err != nil {
		return 0, err
	}
	if key == target {
		return 0, unix.EINVAL
	}
	b, b2 := t.k.futexes.bucket(addr, shared), t.k.futexes.bucket(addr2, shared)
	for {
		n, fault, err := t.cmpRequeuePIOnce(as, b, b2, key, target, addr, addr2, requeue, cmp)
		if err != errFault {
			return n, err
		}
		if err := bringIn(as, fault); err != nil {
			return 0, err
		}
	}
}

// cmpRequeuePIOnce fails with errFault when the word at fault has to be brought in.
func (t *Thread) cmpRequeuePIOnce(as *mm.AddressSpace, b, b2 *futexBucket, key, target mm.Key, addr, addr2 uint64, requeue int, cmp uint32) (n int, fault uint64, err error) {
	lockBuckets(b, b2)
	defer unlockBuckets(b, b2)
	v, ok := peek(as, addr)
	if !ok {
		return 0, addr, errFault
	}
	if v != cmp {
		return 0, 0, unix.EAGAIN
	}
	top := b.head
	for top != nil && top.key != key {
		top = top.next
	}
	if top == nil {
		return 0, 0, nil
	}
	if !top.wants || top.target != target {
		return 0, 0, unix.EINVAL
	}
	owner, fault, err := t.proxyLock(as, addr2, top, requeue > 0)
	if err != nil {
		return 0, fault, err
	}
	if owner == top.thread {
		b.release(top)
		n++
	}
	for w, last := b.head, b.tail; w != nil && n < 1+requeue; {
		next := w.next
		end := w == last // what is moved within one bucket goes behind it
		if w.key == key {
			if !w.wants || w.target != target {
				return n, 0, unix.EINVAL
			}
			b.unlink(w)
			w.key, w.owner = target, owner
			owner.ownsPI.Store(true)
			b2.push(w)
			n++
		}
		if end {
			break
		}
		w = next
	}
	return n, 0, nil
}

// proxyLock takes the PI futex at addr for w's thread, or says that others wait for it, and returns its
// owner. contended: others will wait for w's. Precondition: the futex's bucket is locked.
func (t *Thread) proxyLock(as *mm.AddressSpace, addr uint64, w *futexWaiter, contended bool) (owner *Thread, fault uint64, err error) {
	for {
		v, ok := peek(as, addr)
		if !ok {
			return nil, addr, errFault
		}
		id := v & futexTIDMask
		next := v | futexWaiters
		switch {
		case id == uint32(w.thread.TID):
			return nil, 0, unix.EDEADLK
		case id != 0:
			if owner = t.k.Thread(int32(id)); owner == nil {
				return nil, 0, unix.ESRCH
			}
		default:
			owner = w.thread
			next = v&(futexWaiters|futexDied) | uint32(owner.TID)
			if contended {
				next |= futexWaiters
			}
		}
		prev, ok := swap(as, addr, v, next)
		if !ok {
			return nil, addr, errFault
		}
		if prev == v {
			return owner, 0, nil
		}
	}
}
