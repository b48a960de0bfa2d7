// Package sysv is System V's interprocess communication (sysvipc(7)): shared memory, semaphores and
// messages.
//
// Each of the three has a table, whose lock guards the table, the objects in it and who waits for them.
// It is not held while the program's memory is touched, nor while a thread waits, and it is a leaf.
package sysv

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/runtime/metal"
)

// Flags that package unix doesn't name for all systems (sys/ipc.h).
const (
	Private = 0 // IPC_PRIVATE

	Create    = 0o1000 // IPC_CREAT
	Exclusive = 0o2000 // IPC_EXCL
	NoWait    = 0o4000 // IPC_NOWAIT
)

// idStep is what an id grows by when its slot is used again, and more than any table has (IPCMNI).
const idStep = 32768

// Machine is the one name space of the machine's objects.
var Machine struct {
	Memory     Memory
	Semaphores Semaphores
	Messages   Messages
}

// Perm is who may use an object (struct ipc64_perm).
type Perm struct {
	Key        int32
	UID, GID   uint32
	CUID, CGID uint32
	Mode       uint32
	Seq        uint16
}

// allows checks the rights want (of 4 and 2, as in a mode): EACCES.
func (p *Perm) allows(c *kernel.Credentials, want uint32) error {
	mode := p.Mode
	switch {
	case c.EUID == p.UID || c.EUID == p.CUID:
		mode >>= 6
	case c.InGroup(p.GID) || c.InGroup(p.CGID):
		mode >>= 3
	}
	if want&^mode&7 != 0 && !c.HasCap(unix.CAP_IPC_OWNER) {
		return unix.EACCES
	}
	return nil
}

func (p *Perm) owned(c *kernel.Credentials) error {
	if c.EUID != p.UID && c.EUID != p.CUID && !c.HasCap(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	return nil
}

// set is the part of IPC_SET that all objects have.
func (p *Perm) set(uid, gid, mode uint32) {
	p.UID, p.GID, p.Mode = uid, gid, p.Mode&^0o777|mode&0o777
}

// object is what every object has.
type object struct {
	id   int
	perm Perm
	gone bool // taken out of the table
}

func (o *object) base() *object { return o }

// table is the objects of one kind, by id and by key; S is what the STAT commands tell of one. Everything in it is guarded
// by mu.
type table[O interface {
	comparable
	base() *object
	status() S
}, S any] struct {
	mu    sync.Mutex
	slots []O
	seqs  []uint16
	byKey map[int32]O
	count int
}

// get returns the id for key, as the get calls of the three do. fits checks an object that is there, and
// create makes a new one.
func (b *table[O, S]) get(t *kernel.Thread, key int32, flags int, fits func(O) error, create func() (O, error)) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var none O
	if o := b.byKey[key]; key != Private && o != none {
		if flags&(Create|Exclusive) == Create|Exclusive {
			return 0, unix.EEXIST
		}
		if err := fits(o); err != nil {
			return 0, err
		}
		return o.base().id, o.base().perm.allows(t.Creds(), uint32(flags>>6|flags>>3|flags)&6)
	}
	if key != Private && flags&Create == 0 {
		return 0, unix.ENOENT
	}
	o, err := create()
	if err != nil {
		return 0, err
	}
	slot := 0
	for slot < len(b.slots) && b.slots[slot] != none {
		slot++
	}
	if slot == len(b.slots) {
		b.slots, b.seqs = append(b.slots, none), append(b.seqs, 0)
	}
	c, seq := t.Creds(), b.seqs[slot]&0x7fff
	*o.base() = object{id: int(seq)*idStep + slot, perm: Perm{
		Key: key, UID: c.EUID, GID: c.EGID, CUID: c.EUID, CGID: c.EGID, Mode: uint32(flags) & 0o777, Seq: seq}}
	b.slots[slot] = o
	b.count++
	if key != Private {
		if b.byKey == nil {
			b.byKey = make(map[int32]O)
		}
		b.byKey[key] = o
	}
	return o.base().id, nil
}

// full reports whether limit objects are there. Precondition: mu is held.
func (b *table[O, S]) full(limit int) bool { return b.count >= min(limit, idStep) }

// find returns the object of that id: EINVAL, of one that was removed too. Precondition: mu is held.
func (b *table[O, S]) find(id int) (O, error) {
	var none O
	if id < 0 || id%idStep >= len(b.slots) {
		return none, unix.EINVAL
	}
	o := b.slots[id%idStep]
	if o == none || o.base().id != id {
		return none, unix.EINVAL
	}
	return o, nil
}

// use is find for somebody who wants rights on the object: EACCES too. Precondition: mu is held.
func (b *table[O, S]) use(t *kernel.Thread, id int, rights uint32) (O, error) {
	o, err := b.find(id)
	if err != nil {
		return o, err
	}
	return o, o.base().perm.allows(t.Creds(), rights)
}

// own is find for somebody who has to be the object's owner: EPERM too. Precondition: mu is held.
func (b *table[O, S]) own(t *kernel.Thread, id int) (O, error) {
	o, err := b.find(id)
	if err != nil {
		return o, err
	}
	return o, o.base().perm.owned(t.Creds())
}

// Stat is IPC_STAT.
func (b *table[O, S]) Stat(t *kernel.Thread, id int) (status S, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, err := b.use(t, id, 4)
	if err != nil {
		return status, err
	}
	return o.status(), nil
}

// StatIndex is SHM_STAT, SEM_STAT and MSG_STAT, and with any those of them that end in _ANY.
func (b *table[O, S]) StatIndex(t *kernel.Thread, index int, any bool) (status S, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, err := b.at(t, index, any)
	if err != nil {
		return status, err
	}
	return o.status(), nil
}

// at returns the object in a slot, for the STAT commands that count through the table: any asks for no
// rights. An id leads to its slot, as in Linux. Precondition: mu is held.
func (b *table[O, S]) at(t *kernel.Thread, index int, any bool) (O, error) {
	var none O
	index %= idStep
	if index < 0 || index >= len(b.slots) || b.slots[index] == none {
		return none, unix.EINVAL
	}
	o := b.slots[index]
	if any {
		return o, nil
	}
	return o, o.base().perm.allows(t.Creds(), 4)
}

// forget takes the key from o: nobody finds it by that any more. Precondition: mu is held.
func (b *table[O, S]) forget(o O) {
	if key := o.base().perm.Key; b.byKey[key] == o {
		delete(b.byKey, key)
	}
}

// remove takes o out. Precondition: mu is held.
func (b *table[O, S]) remove(o O) {
	var none O
	b.forget(o)
	o.base().gone = true
	slot := o.base().id % idStep
	b.slots[slot] = none
	b.seqs[slot]++
	b.count--
}

// highest returns the greatest index in use, 0 for none. Precondition: mu is held.
func (b *table[O, S]) highest() int {
	var none O
	for i := len(b.slots) - 1; i > 0; i-- {
		if b.slots[i] != none {
			return i
		}
	}
	return 0
}

// each calls yield for every object, in the order of their indexes, with mu held.
func (b *table[O, S]) each(yield func(O)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var none O
	for _, o := range b.slots {
		if o != none {
			yield(o)
		}
	}
}

// charged is how many bytes of the Go heap semaphores and messages take.
var charged atomic.Int64

// heapShare is the part of the machine's memory that they may take, whatever their limits add up to.
const heapShare = 8

// charge takes n bytes: ENOMEM. release gives them back.
func charge(n int) error {
	f := metal.Frames()
	if charged.Add(int64(n)) > int64(f.Total*metal.FrameSize/heapShare) || f.Free < f.Reserve+uint64(n)/metal.FrameSize {
		release(n)
		return unix.ENOMEM
	}
	return nil
}

func release(n int) { charged.Add(-int64(n)) }

func now() int64 { return kernel.Realtime() / 1e9 }
