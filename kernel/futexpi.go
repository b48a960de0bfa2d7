package kernel

import (
	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

// PI futexes (futex(2), FUTEX_LOCK_PI): the word holds the owner's thread id, and the kernel hands it
// over. All threads have one priority here, so nothing is inherited; what remains is the protocol.

// FutexLockPI is FUTEX_LOCK_PI, and with try FUTEX_TRYLOCK_PI: EDEADLK if the caller owns it, ESRCH if
// the owner is no thread, ETIMEDOUT, EAGAIN for try. Interrupted it starts over.
func (t *Thread) FutexLockPI(addr uint64, shared, try bool, d Deadline) error {
	as := t.MM()
	key, err := as.FutexKey(addr, shared)
	if err != nil {
		return err
	}
	b := t.k.futexes.bucket(addr, shared)
	w := &t.futex
	t.PrepareBlock()
	for {
		done, err := t.lockPIOnce(as, b, w, key, addr, try)
		if err == errFault {
			if err = bringIn(as, addr); err == nil {
				continue
			}
		}
		if done || err != nil {
			return err
		}
		break
	}
	err = t.futexBlock(w, d)
	w.owner = nil
	switch {
	case err == ERESTARTSYS:
		return ERESTARTNOINTR
	case err == nil && w.ownerDied:
		w.ownerDied = false
		return t.takeDead(addr)
	}
	return err
}

// takeDead takes a PI futex whose owner died, and leaves the mark of that.
func (t *Thread) takeDead(addr uint64) error {
	as := t.MM()
	for {
		v, err := as.ReadUint32(addr)
		if err != nil {
			return err
		}
		prev, err := as.CompareAndSwap32(addr, v, v&futexWaiters|futexDied|uint32(t.TID))
		if err != nil || prev == v {
			return err
		}
	}
}

// errFault says that a word has to be brought in, without any lock, and all done again.
const errFault = unix.Errno(0xfff)

// lockPIOnce takes the futex (done) or queues w.
func (t *Thread) lockPIOnce(as *mm.AddressSpace, b *futexBucket, w *futexWaiter, key mm.Key, addr uint64, try bool) (done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		v, ok := peek(as, addr)
		if !ok {
			return false, errFault
		}
		id := v & futexTIDMask
		if id == uint32(t.TID) {
			return false, unix.EDEADLK
		}
		next := v | futexWaiters
		var owner *Thread
		if id == 0 {
			next = v&(futexWaiters|futexDied) | uint32(t.TID)
		} else if owner = t.k.Thread(int32(id)); owner == nil {
			return false, unix.ESRCH
		}
		if id != 0 && try {
			return false, unix.EAGAIN
		}
		prev, ok := swap(as, addr, v, next)
		if !ok {
			return false, errFault
		}
		if prev != v {
			continue
		}
		if id == 0 {
			return true, nil
		}
		w.thread, w.key, w.bitset, w.owner = t, key, FutexAll, owner
		owner.ownsPI.Store(true)
		b.push(w)
		return false, nil
	}
}

// FutexUnlockPI is FUTEX_UNLOCK_PI: it gives the futex to who has waited for it longest: EPERM if the caller
// does not own it.
func (t *Thread) FutexUnlockPI(addr uint64, shared bool) error {
	as := t.MM()
	key, err := as.FutexKey(addr, shared)
	if err != nil {
		return err
	}
	b := t.k.futexes.bucket(addr, shared)
	for {
		err := t.unlockPIOnce(as, b, key, addr)
		if err != errFault {
			return err
		}
		if err := bringIn(as, addr); err != nil {
			return err
		}
	}
}

func (t *Thread) unlockPIOnce(as *mm.AddressSpace, b *futexBucket, key mm.Key, addr uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		v, ok := peek(as, addr)
		if !ok {
			return errFault
		}
		if v&futexTIDMask != uint32(t.TID) {
			return unix.EPERM
		}
		heir, next := b.heir(key)
		prev, ok := swap(as, addr, v, next)
		if !ok {
			return errFault
		}
		if prev == v {
			b.inherit(heir)
			return nil
		}
	}
}

// heir returns who gets the PI futex next, nil for nobody, and what its word becomes. Precondition: b is
// locked.
func (b *futexBucket) heir(key mm.Key) (heir *futexWaiter, word uint32) {
	for w := b.head; w != nil; w = w.next {
		if w.owner == nil || w.key != key {
			continue
		}
		if heir != nil {
			return heir, word | futexWaiters
		}
		heir, word = w, uint32(w.thread.TID)
	}
	return heir, word
}

// inherit wakes the new owner and tells it to those that still wait. Precondition: b is locked.
func (b *futexBucket) inherit(heir *futexWaiter) {
	if heir == nil {
		return
	}
	for w := b.head; w != nil; w = w.next {
		if w.owner != nil && w.key == heir.key {
			w.owner = heir.thread
			heir.thread.ownsPI.Store(true)
		}
	}
	b.release(heir)
}

// exitPI hands on the contended PI futexes that the dying thread owns.
func (t *Thread) exitPI() {
	if !t.ownsPI.Load() {
		return
	}
	for i := range t.k.futexes.buckets {
		b := &t.k.futexes.buckets[i]
		for b.bequeath(t) {
		}
	}
}

// bequeath hands on one futex that t owns and for which somebody waits in b. The heir writes the word
// itself, in takeDead: the memory may be another process's.
func (b *futexBucket) bequeath(t *Thread) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := b.head; w != nil; w = w.next {
		if w.owner == t {
			w.ownerDied = true
			b.inherit(w)
			return true
		}
	}
	return false
}
