package virtio

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"elver/runtime/metal"
)

// Buffer is a piece of physical memory. It may not cross into memory that isn't contiguous.
type Buffer struct {
	PA  uint64
	Len uint32
}

// Request is a chain of buffers for the device. It is its submitter's again when Done is called; the
// struct may be used again then.
type Request struct {
	Out []Buffer // the device reads these
	In  []Buffer // and writes these

	// Done is called once, on a goroutine of the queue's or of whoever polls, and must not block:
	// with how many bytes the device says that it wrote, never more than In takes, or with an error that wraps ErrBroken.
	Done func(r *Request, written uint32, err error)

	written  uint32
	capacity uint32
	head     int
	count    int    // descriptors in the ring
	table    uint64 // the frame of an indirect table, or 0
}

// MaxIndirect is how many buffers a request may have on a queue with indirect descriptors.
const MaxIndirect = metal.FrameSize / descriptorBytes

// Errors of Add.
var (
	// ErrFull says that no descriptors are free now.
	ErrFull = errors.New("virtio: the queue is full")
	errLong = errors.New("virtio: a request has more buffers than the queue takes")
)

// Queue is a virtqueue.
type Queue struct {
	device   *Device
	index    int
	indirect bool
	events   bool // FeatureEventIdx
	quiet    bool
	after    func()
	polling  sync.Mutex // held while requests are handed out, if after isn't nil

	mu        sync.Mutex // guards what follows
	room      *sync.Cond // of mu: descriptors became free
	ring      *ring
	next      []int16    // of each descriptor, the next one in its chain or in the free list
	requests  []*Request // by head; nil: the device doesn't have it
	free      int        // the first free descriptor
	freeCount int
	added     uint16 // chains made available
	notified  uint16 // added at the last Notify
	seen      uint16 // chains taken back
	tables    []uint64
	dead      bool

	// The timer re-checks the queue while requests are outstanding, since notifications in both
	// directions get lost under hypervisors in use (QEMU before 8.1 under TCG, with one CPU).
	timer     *time.Timer
	watching  bool
	watchSeen uint16        // seen when the timer was armed
	watchAt   time.Duration // until it fires
}

// The timer's delays: it doubles as long as nothing happens, and begins anew when something does after it grew beyond
// busyWatch. What gets lost does so when both sides are at work at the same time, and is found at the next check:
// later ones are a precaution, for which an idle machine should not pay.
const (
	firstWatch = 5 * time.Millisecond
	busyWatch  = 64 * firstWatch
	lastWatch  = 1024 * firstWatch
)

// keptTables is how many frames for indirect tables an idle queue keeps.
const keptTables = 8

// NewQueue sets up queue i of the device with at most size descriptors, 0 for any number.
//
// Precondition: Start; Run was not called yet.
func (d *Device) NewQueue(i, size int) (*Queue, error) {
	most := d.t.queueSize(i)
	if most == 0 {
		return nil, d.refuse(fmt.Sprintf("it has no queue %d", i))
	}
	most = min(most, maxRing)
	if size > 0 {
		most = min(most, size)
	}
	n := 1
	for n*2 <= most {
		n *= 2
	}
	r, err := newRing(n)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		device: d, index: i, indirect: d.features&FeatureIndirect != 0, events: d.features&FeatureEventIdx != 0,
		ring: r, next: make([]int16, n), requests: make([]*Request, n), freeCount: n,
	}
	q.room = sync.NewCond(&q.mu)
	for k := range q.next {
		q.next[k] = int16(k + 1)
	}
	d.mu.Lock()
	d.queues = append(d.queues, q)
	d.mu.Unlock()
	return q, nil
}

// SetQuiet has the device asked for no interrupts until Listen: for a queue whose requests the driver takes
// back when it needs them.
//
// Precondition: Run was not called yet.
func (q *Queue) SetQuiet() {
	q.quiet = true
	q.hush()
}

// SetAfter has f called after the Done of a batch of requests, on the goroutine that polls. Such a queue's
// requests come back one after the other, in the device's order. Neither may poll the queue. Those that
// fail with the device come at any time, without f.
//
// Precondition: Run was not called yet.
func (q *Queue) SetAfter(f func()) { q.after = f }

// Limit returns how many buffers a request may have.
func (q *Queue) Limit() int {
	if q.indirect {
		return MaxIndirect
	}
	return q.ring.size
}

// Size returns how many descriptors the queue has.
func (q *Queue) Size() int { return q.ring.size }

// Add makes r available to the device, which need not look until Notify. ErrFull, ErrBroken.
func (q *Queue) Add(r *Request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.add(r)
}

func (q *Queue) add(r *Request) error {
	n := len(r.Out) + len(r.In)
	if q.dead {
		return ErrBroken
	}
	if n == 0 || n > q.Limit() {
		return errLong
	}
	r.capacity = 0
	for _, b := range r.In {
		r.capacity += b.Len
	}
	// A short chain stays in the ring while half of that is free: the device reads one table less, and half as
	// many requests as the ring has descriptors always fit.
	if q.indirect && n > 1 && (n > 4 || q.freeCount-n < q.ring.size/2) {
		if q.freeCount == 0 {
			return ErrFull
		}
		table, err := q.table()
		if err != nil {
			return err
		}
		view := metal.View(table, metal.FrameSize)
		k := 0
		each(r, func(b Buffer, flags uint16) {
			next := uint16(0)
			if k+1 < n {
				flags |= descriptorNext
				next = uint16(k + 1)
			}
			putDescriptor(view[k*descriptorBytes:], b.PA, b.Len, flags, next)
			k++
		})
		r.head, r.count, r.table = q.free, 1, table
		q.ring.setDescriptor(r.head, table, uint32(n*descriptorBytes), descriptorIndirect, 0)
		q.free = int(q.next[r.head])
	} else {
		if n > q.freeCount {
			return ErrFull
		}
		r.head, r.count, r.table = q.free, n, 0
		k := 0
		each(r, func(b Buffer, flags uint16) {
			at := q.free
			q.free = int(q.next[at])
			next := uint16(0)
			if k++; k < n {
				flags |= descriptorNext
				next = uint16(q.free)
			}
			q.ring.setDescriptor(at, b.PA, b.Len, flags, next)
		})
	}
	q.freeCount -= r.count
	q.requests[r.head] = r
	q.ring.publish(q.added, uint16(r.head))
	q.added++
	if !q.watching || q.watchAt > busyWatch {
		q.watch(firstWatch)
	}
	return nil
}

func each(r *Request, do func(b Buffer, flags uint16)) {
	for _, b := range r.Out {
		do(b, 0)
	}
	for _, b := range r.In {
		do(b, descriptorWrite)
	}
}

func (q *Queue) table() (uint64, error) {
	if n := len(q.tables); n > 0 {
		t := q.tables[n-1]
		q.tables = q.tables[:n-1]
		return t, nil
	}
	t, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return 0, errNoFrame
	}
	return t, nil
}

// Notify tells the device of what was added, if it wants to know.
func (q *Queue) Notify() {
	q.mu.Lock()
	tell := !q.dead && q.notified != q.added
	switch {
	case !tell || !q.device.ordered:
		// What the device says about notices may be out of date.
	case q.events:
		tell = q.ring.wantsNoticeOf(q.notified, q.added)
	default:
		tell = q.ring.wantsNotice()
	}
	q.notified = q.added
	q.mu.Unlock()
	if tell {
		q.device.t.notify(q.index)
	}
}

// Submit adds r, waits while the queue is full, and notifies the device.
func (q *Queue) Submit(r *Request) error {
	q.mu.Lock()
	err := q.add(r)
	for err == ErrFull {
		q.room.Wait()
		err = q.add(r)
	}
	q.mu.Unlock()
	if err == nil {
		q.Notify()
	}
	return err
}

// Poll takes back what the device is done with, calls the requests' Done, and has the device interrupt
// for the next ones unless the queue is quiet.
func (q *Queue) Poll() { q.poll(!q.quiet) }

// Listen is Poll, and has the device interrupt once on a quiet queue.
func (q *Queue) Listen() { q.poll(true) }

func (q *Queue) poll(listen bool) {
	if q.after != nil {
		q.polling.Lock()
		defer q.polling.Unlock()
	}
	for {
		var batch [16]*Request
		n, wrong := q.collect(batch[:], listen)
		for _, r := range batch[:n] {
			r.Done(r, r.written, nil)
		}
		if n > 0 && q.after != nil {
			q.after()
		}
		if wrong != "" {
			q.device.fail(wrong)
			return
		}
		// With events, one look that finds nothing asks for the next interrupt.
		if n == 0 || n < len(batch) && !(q.events && listen) {
			return
		}
		metal.CondResched()
	}
}

// hush asks for no interrupts: with events, for one in a future that keeps moving. Without, only a quiet queue
// does: one that asked again for the next interrupt could miss it (kvm.Machine.KeepsOrder). Precondition: mu is held.
func (q *Queue) hush() {
	if q.events {
		q.ring.setUsedEvent(q.seen - 1)
	} else if q.quiet {
		q.ring.setInterrupts(false, q.added)
	}
}

// collect fills batch with requests that came back, and says what is wrong with the device if it
// returned what it didn't have. If there are none and listen is set, the next one brings an interrupt.
func (q *Queue) collect(batch []*Request, listen bool) (n int, wrong string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return 0, ""
	}
	switch {
	case q.events && q.ring.usedIndex() == q.seen:
		if !listen {
			return 0, ""
		}
		q.ring.setUsedEvent(q.seen)
	case !q.events && listen:
		q.ring.setInterrupts(true, q.added)
	default:
		q.hush()
	}
	index := q.ring.usedIndex()
	if done := index - q.seen; done > q.added-q.seen {
		return 0, fmt.Sprintf("queue %d: it returned %d requests of %d", q.index, done, q.added-q.seen)
	}
	for ; n < len(batch) && q.seen != index; n++ {
		head, written := q.ring.usedEntry(q.seen)
		if head >= uint32(q.ring.size) || q.requests[head] == nil {
			return n, fmt.Sprintf("queue %d: it returned request %d, which it doesn't have", q.index, head)
		}
		r := q.requests[head]
		q.seen++
		q.release(r)
		r.written = min(written, r.capacity)
		batch[n] = r
	}
	if n > 0 {
		q.room.Broadcast()
	}
	return n, ""
}

// release gives r's descriptors back. Precondition: mu is held.
func (q *Queue) release(r *Request) {
	q.requests[r.head] = nil
	last := r.head
	for range r.count - 1 {
		last = int(q.next[last])
	}
	q.next[last] = int16(q.free)
	q.free = r.head
	q.freeCount += r.count
	if r.table != 0 {
		if len(q.tables) < keptTables {
			q.tables = append(q.tables, r.table)
		} else {
			metal.Unref(r.table)
		}
		r.table = 0
	}
}

// Outstanding returns how many requests the device has.
func (q *Queue) Outstanding() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int(q.added - q.seen)
}

// watch arms the timer. Precondition: mu is held.
func (q *Queue) watch(after time.Duration) {
	q.watching, q.watchSeen, q.watchAt = true, q.seen, after
	if q.timer == nil {
		q.timer = time.AfterFunc(after, q.recheck)
	} else {
		q.timer.Reset(after)
	}
}

// recheck looks after a queue that may have lost an interrupt or a notification.
func (q *Queue) recheck() {
	q.mu.Lock()
	outstanding, quiet := q.added != q.seen, q.seen == q.watchSeen
	if !outstanding || q.dead {
		q.watching = false
		q.mu.Unlock()
		return
	}
	kick := quiet && q.ring.usedIndex() == q.seen
	after := firstWatch
	if quiet {
		after = min(2*q.watchAt, lastWatch)
	}
	q.watch(after)
	q.mu.Unlock()
	q.Poll()
	if !kick {
		return
	}
	// Most devices have no interrupt for a change of the configuration, by which they would tell this (virtio
	// 1.2, 2.1.1). One that was pulled out reads as ones, and so looks the same.
	if q.device.t.status()&statusNeedsReset != 0 {
		q.device.fail("it asks to be reset")
		return
	}
	q.device.t.notify(q.index)
}

// abort fails everything that is outstanding. stopped says that the device touches memory no more;
// otherwise the queue's memory stays its own for ever.
func (q *Queue) abort(stopped bool, err error) {
	q.mu.Lock()
	if q.dead {
		q.mu.Unlock()
		return
	}
	q.dead = true
	var failed []*Request
	for _, r := range q.requests {
		if r != nil {
			failed = append(failed, r)
			q.release(r)
		}
	}
	if stopped {
		for _, t := range q.tables {
			metal.Unref(t)
		}
		q.ring.free()
	}
	q.tables = nil
	q.room.Broadcast()
	q.mu.Unlock()
	for _, r := range failed {
		r.Done(r, 0, err)
	}
}
