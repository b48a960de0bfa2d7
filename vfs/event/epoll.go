package event

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/waitq"
	"elver/vfs"
)

// maxNesting is how deep epolls may stand in epolls (epoll_ctl(2), ELOOP).
const maxNesting = 5

// nesting orders additions of epolls to epolls, so that two can't close a circle at once.
var nesting sync.Mutex

// SizeofEvent is the size of struct epoll_event, which is packed on x86-64.
const SizeofEvent = 12

// Epoll is the file of epoll_create(2).
//
// What happens to a file puts its item into the ready list, under readyMu and nothing else; Collect
// looks at the items in the list only.
type Epoll struct {
	vfs.BaseFile
	queue waitq.Queue

	mu      sync.Mutex
	items   map[*vfs.Description]*item // the first of each file's
	parents map[*Epoll]int             // guarded by nesting: epolls that this one is in

	readyMu     sync.Mutex
	first, last *item // the ready list
}

// item is a file in an epoll.
type item struct {
	epoll *Epoll
	file  *vfs.Description
	fd    int32
	twin  *item // the same file under another descriptor; guarded by Epoll.mu
	entry waiter.Entry
	mask  waiter.EventMask // guarded by Epoll.mu; 0 after an EPOLLONESHOT event
	flags uint32           // EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE; guarded by Epoll.mu
	data  uint64           // guarded by Epoll.mu
	round *Round           // that has reported it and will list it again; guarded by Epoll.mu
	again *item            // the next of that round

	// guarded by Epoll.readyMu
	listed     bool
	gone       bool
	prev, next *item
}

const (
	always    = waiter.EventErr | waiter.EventHUp
	itemFlags = unix.EPOLLET&0xffffffff | unix.EPOLLONESHOT | unix.EPOLLEXCLUSIVE | unix.EPOLLWAKEUP
	maskBits  = 0x27ff &^ 0x20 // the events of poll
)

// NewEpoll returns an epoll; flags is 0 or EPOLL_CLOEXEC.
func NewEpoll(flags uint32) (*vfs.Description, error) {
	if flags&^unix.EPOLL_CLOEXEC != 0 {
		return nil, unix.EINVAL
	}
	return vfs.NewAnonymous(&Epoll{items: make(map[*vfs.Description]*item)}, "[eventpoll]", unix.O_RDWR), nil
}

// EpollOf returns the epoll that d is: EINVAL if it is none.
func EpollOf(d *vfs.Description) (*Epoll, error) {
	if e, ok := d.File().(*Epoll); ok {
		return e, nil
	}
	return nil, unix.EINVAL
}

// NotifyEvent implements waiter.EventListener: something happened to the file.
func (i *item) NotifyEvent(waiter.EventMask) {
	e := i.epoll
	exclusive := i.entry.Mask() & waitq.Exclusive
	served := waiter.EventMask(0)
	if exclusive != 0 && !e.queue.IsEmpty() {
		served = waitq.Served
	}
	if e.list(i) {
		e.queue.Notify(waiter.ReadableEvents)
	}
	if exclusive != 0 {
		i.entry.Init(i, i.entry.Mask()&^waitq.Served|served)
	}
}

// list puts i at the end of the ready list and says whether it may be of interest.
func (e *Epoll) list(i *item) bool {
	e.readyMu.Lock()
	gone := i.gone
	if !gone && !i.listed {
		i.listed = true
		i.prev, i.next = e.last, nil
		if e.last != nil {
			e.last.next = i
		} else {
			e.first = i
		}
		e.last = i
	}
	e.readyMu.Unlock()
	return !gone
}

// unlist takes i out of the ready list. Precondition: readyMu is held.
func (e *Epoll) unlist(i *item) {
	if !i.listed {
		return
	}
	if i.prev != nil {
		i.prev.next = i.next
	} else {
		e.first = i.next
	}
	if i.next != nil {
		i.next.prev = i.prev
	} else {
		e.last = i.prev
	}
	i.listed, i.prev, i.next = false, nil, nil
}

// pop takes the first item out of the ready list.
func (e *Epoll) pop() *item {
	e.readyMu.Lock()
	i := e.first
	if i != nil {
		next := i.next
		if e.first = next; next != nil {
			next.prev, i.next = nil, nil
		} else {
			e.last = nil
		}
		i.listed = false
	}
	e.readyMu.Unlock()
	return i
}

// Add is EPOLL_CTL_ADD of the file d as descriptor fd: EEXIST, EPERM for what can't be waited for,
// ELOOP, EINVAL.
func (e *Epoll) Add(fd int32, d *vfs.Description, events uint32, data uint64) error {
	if d.PathOnly() {
		return unix.EBADF
	}
	inner, _ := d.File().(*Epoll)
	if inner == e {
		return unix.EINVAL
	}
	if events&unix.EPOLLEXCLUSIVE != 0 {
		const allowed = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLWAKEUP | unix.EPOLLET&0xffffffff | unix.EPOLLEXCLUSIVE
		if events&^allowed != 0 || inner != nil {
			return unix.EINVAL
		}
	}
	if inner != nil {
		nesting.Lock()
		defer nesting.Unlock()
		if err := e.mayHold(inner); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.find(d, fd) != nil {
		return unix.EEXIST
	}
	i := &item{epoll: e, file: d, fd: fd}
	i.set(events, data)
	if err := d.File().EventRegister(&i.entry); err != nil {
		return err
	}
	i.twin = e.items[d]
	e.items[d] = i
	d.AddCloseHook(e)
	if inner != nil {
		if inner.parents == nil {
			inner.parents = make(map[*Epoll]int)
		}
		inner.parents[e]++
	}
	e.check(i)
	return nil
}

// find returns the item of the file d as descriptor fd. Precondition: mu is held.
func (e *Epoll) find(d *vfs.Description, fd int32) *item {
	i := e.items[d]
	for i != nil && i.fd != fd {
		i = i.twin
	}
	return i
}

// Watches reports whether the epoll watches anything as descriptor fd, and whether that is the file d (kcmp(2)).
func (e *Epoll) Watches(d *vfs.Description, fd int32) (any, same bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.items {
		for ; i != nil; i = i.twin {
			if i.fd == fd {
				any, same = true, same || i.file == d
			}
		}
	}
	return any, same
}

// set notes what is wanted. Precondition: mu is held, the entry isn't registered.
func (i *item) set(events uint32, data uint64) {
	i.mask = waiter.EventMask(events&maskBits) | always
	i.flags, i.data = events&itemFlags, data
	entry := i.mask
	if events&unix.EPOLLEXCLUSIVE != 0 {
		entry |= waitq.Exclusive
	}
	i.entry.Init(i, entry)
}

// check lists i if its file is ready. Precondition: mu is held.
func (e *Epoll) check(i *item) {
	if i.file.Readiness(i.mask)&i.mask != 0 && e.list(i) {
		e.queue.Notify(waiter.ReadableEvents)
	}
}

// mayHold checks that inner can be put into e without a circle and not too deep.
// Precondition: nesting is held.
func (e *Epoll) mayHold(inner *Epoll) error {
	var up, down func(x *Epoll, depth int) int
	up = func(x *Epoll, depth int) int {
		deepest := depth
		for p := range x.parents {
			if p == inner || depth > maxNesting {
				return maxNesting + 1
			}
			deepest = max(deepest, up(p, depth+1))
		}
		return deepest
	}
	down = func(x *Epoll, depth int) int {
		if depth > maxNesting {
			return depth
		}
		x.mu.Lock()
		var inside []*Epoll
		for file := range x.items {
			if y, ok := file.File().(*Epoll); ok {
				inside = append(inside, y)
			}
		}
		x.mu.Unlock()
		deepest := depth
		for _, y := range inside {
			deepest = max(deepest, down(y, depth+1))
		}
		return deepest
	}
	if up(e, 1)+down(inner, 1) > maxNesting {
		return unix.ELOOP
	}
	return nil
}

// Modify is EPOLL_CTL_MOD: ENOENT, EINVAL.
func (e *Epoll) Modify(fd int32, d *vfs.Description, events uint32, data uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.find(d, fd)
	if i == nil {
		return unix.ENOENT
	}
	if events&unix.EPOLLEXCLUSIVE != 0 || i.flags&unix.EPOLLEXCLUSIVE != 0 {
		return unix.EINVAL
	}
	d.EventUnregister(&i.entry)
	e.readyMu.Lock()
	e.unlist(i)
	e.readyMu.Unlock()
	i.set(events, data)
	if err := d.EventRegister(&i.entry); err != nil {
		return err
	}
	e.check(i)
	return nil
}

// Delete is EPOLL_CTL_DEL: ENOENT.
func (e *Epoll) Delete(fd int32, d *vfs.Description) error {
	if inner, ok := d.File().(*Epoll); ok {
		nesting.Lock()
		defer nesting.Unlock()
		defer inner.leave(e)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.find(d, fd)
	if i == nil {
		return unix.ENOENT
	}
	e.remove(i)
	d.RemoveCloseHook(e)
	return nil
}

// leave forgets one place of e in outer. Precondition: nesting is held.
func (e *Epoll) leave(outer *Epoll) {
	if e.parents[outer]--; e.parents[outer] <= 0 {
		delete(e.parents, outer)
	}
}

// remove takes i out. Precondition: mu is held.
func (e *Epoll) remove(i *item) {
	i.file.EventUnregister(&i.entry)
	if first := e.items[i.file]; first != i {
		for first.twin != i {
			first = first.twin
		}
		first.twin = i.twin
	} else if i.twin != nil {
		e.items[i.file] = i.twin
	} else {
		delete(e.items, i.file)
	}
	e.readyMu.Lock()
	i.gone = true
	e.unlist(i)
	e.readyMu.Unlock()
}

// Closed forgets a file that was closed for good.
func (e *Epoll) Closed(d *vfs.Description) {
	if inner, ok := d.File().(*Epoll); ok {
		nesting.Lock()
		delete(inner.parents, e)
		nesting.Unlock()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := e.items[d]; i != nil; i = e.items[d] {
		e.remove(i)
	}
}

// Round is one epoll_wait: what it has reported and what stays ready is listed again at its end, so that
// it gets each event once, in as many pieces as it likes.
type Round struct {
	first, last *item
	pieces      int
}

// Begin makes a round that is over ready for the next.
func (r *Round) Begin() { r.pieces = 0 }

// Collect writes what is ready to out, as struct epoll_event, and returns how many events there are; fewer
// than out has room for: there is no more, and if there was nothing at all, the caller may wait for the
// epoll's own readiness. Its cost goes with what is ready, not with what is in it. Finish must follow, unless
// fewer came or this is the last piece that is wanted.
func (e *Epoll) Collect(out []byte, last bool, round *Round) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	round.pieces++
	n := 0
	for len(out) >= SizeofEvent {
		i := e.pop()
		if i == nil {
			last = true
			break
		}
		if i.round == round {
			continue // reported by this very round, and listed again since
		}
		r := i.file.Readiness(i.mask) & i.mask
		if r == 0 || i.mask == 0 {
			continue
		}
		i.file.Reported(r)
		binary.LittleEndian.PutUint32(out, uint32(r))
		binary.LittleEndian.PutUint64(out[4:], i.data)
		out = out[SizeofEvent:]
		n++
		switch {
		case i.flags&unix.EPOLLONESHOT != 0:
			i.mask = 0
		case i.flags&(unix.EPOLLET&0xffffffff) == 0 && i.round == nil:
			// Back into the list, but not before the round is over. An event may list it meanwhile.
			i.round = round
			if round.last == nil {
				round.first = i
			} else {
				round.last.again = i
			}
			round.last = i
		}
	}
	if last {
		e.relist(round)
	}
	return n
}

// Finish ends a round.
func (e *Epoll) Finish(round *Round) {
	if round.first == nil {
		return
	}
	e.mu.Lock()
	e.relist(round)
	e.mu.Unlock()
}

// relist puts back what the round took and what stays ready. Precondition: mu is held.
func (e *Epoll) relist(round *Round) {
	for i := round.first; i != nil; {
		e.list(i)
		next := i.again
		i.round, i.again = nil, nil
		i = next
	}
	if round.first != nil && round.pieces > 1 {
		e.queue.Notify(waiter.ReadableEvents) // others may have found nothing between the pieces
	}
	round.first, round.last = nil, nil
}

// EventRegister has w told when something is ready.
func (e *Epoll) EventRegister(w *waiter.Entry) error {
	e.queue.EventRegister(w)
	return nil
}

// EventUnregister undoes EventRegister.
func (e *Epoll) EventUnregister(w *waiter.Entry) { e.queue.EventUnregister(w) }

// Readiness says whether Collect would find something. Items that turn out not to be ready leave the
// list.
func (e *Epoll) Readiness(mask waiter.EventMask) waiter.EventMask {
	if mask&waiter.ReadableEvents == 0 {
		return 0
	}
	e.readyMu.Lock()
	empty := e.first == nil
	e.readyMu.Unlock()
	if empty {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		i := e.pop()
		if i == nil {
			return 0
		}
		if i.mask != 0 && i.file.Readiness(i.mask)&i.mask != 0 {
			e.list(i)
			return mask & waiter.ReadableEvents
		}
	}
}

// Release forgets everything.
func (e *Epoll) Release() {
	e.mu.Lock()
	var inside []*Epoll
	var files []*vfs.Description
	for file, i := range e.items {
		if inner, ok := file.File().(*Epoll); ok {
			inside = append(inside, inner)
		}
		for ; i != nil; i = e.items[file] {
			files = append(files, file)
			e.remove(i)
		}
	}
	e.mu.Unlock()
	for _, d := range files {
		d.RemoveCloseHook(e)
	}
	nesting.Lock()
	for _, inner := range inside {
		delete(inner.parents, e)
	}
	nesting.Unlock()
}

// FdInfo is what /proc/PID/fdinfo shows.
func (e *Epoll) FdInfo() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, i := range e.items {
		for ; i != nil; i = i.twin {
			fmt.Fprintf(&b, "tfd: %8d events: %8x data: %16x\n", i.fd, uint32(i.mask)|i.flags, i.data)
		}
	}
	return b.String()
}
