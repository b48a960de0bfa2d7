// Package aio is Linux's asynchronous I/O (io_setup(2)): contexts, each with a ring of completed
// requests that the program maps and may read by itself.
//
// Reads and writes are done by who submits them, as Linux does for most files; what is pending are
// polls. The ring is the program's to write to: its head is believed as far as that harms nobody else.
//
// Lock order: tables, Context.mu. No lock is held while a file is called.
package aio

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/runtime/metal"
	"elver/vfs"
	"elver/vfs/event"
)

// The ring, as libaio knows it too (Linux: fs/aio.c, struct aio_ring).
const (
	headerSize = 32
	magic      = 0xa10a10a1
	headAt     = 8
	tailAt     = 12
)

// EventSize is the size of struct io_event, in bytes.
const EventSize = 32

// MaxEvents is /proc/sys/fs/aio-max-nr: how many requests all contexts may ask for.
const MaxEvents = 65536

var requested atomic.Int64

// Requested is /proc/sys/fs/aio-nr.
func Requested() int64 { return requested.Load() }

// ring is the memory of a ring: a file as far as mappings are concerned.
type ring struct {
	number uint64
	refs   atomic.Int64
	frames []uint64
}

var (
	lastRing   atomic.Uint64
	ringDevice = vfs.NewDev()
)

func newRing(pages int) (*ring, error) {
	r := &ring{number: lastRing.Add(1)}
	r.refs.Store(1)
	for range pages {
		pa, ok := metal.AllocFrame(metal.OwnerProgram)
		if !ok {
			r.MapClose()
			return nil, unix.ENOMEM
		}
		metal.Zero(pa, metal.FrameSize)
		r.frames = append(r.frames, pa)
	}
	return r, nil
}

// MapFrame returns a frame of the ring.
func (r *ring) MapFrame(off uint64, write bool) (uint64, error) {
	if off/metal.FrameSize >= uint64(len(r.frames)) {
		return 0, unix.EFAULT
	}
	pa := r.frames[off/metal.FrameSize]
	metal.Ref(pa)
	return pa, nil
}

// MapName returns the name that Linux shows.
func (r *ring) MapName() string { return "/[aio] (deleted)" }

// Ident tells rings apart.
func (r *ring) Ident() (dev, ino uint64) { return ringDevice, r.number }

// MapOpen holds the frames for a mapping.
func (r *ring) MapOpen() { r.refs.Add(1) }

// MapClose lets them go.
func (r *ring) MapClose() {
	if r.refs.Add(-1) != 0 {
		return
	}
	for _, pa := range r.frames {
		metal.Unref(pa)
	}
}

// at returns the n bytes at off, which lie in one frame.
func (r *ring) at(off, n int) []byte {
	return metal.View(r.frames[off/metal.FrameSize], metal.FrameSize)[off%metal.FrameSize:][:n]
}

func (r *ring) word(off int) uint32       { return binary.LittleEndian.Uint32(r.at(off, 4)) }
func (r *ring) setWord(off int, v uint32) { binary.LittleEndian.PutUint32(r.at(off, 4), v) }
func (r *ring) event(i uint32) []byte     { return r.at(headerSize+EventSize*int(i), EventSize) }
func ringPages(events int) int {
	return (headerSize + EventSize*events + metal.FrameSize - 1) / metal.FrameSize
}
func (r *ring) size() uint64             { return uint64(len(r.frames)) * metal.FrameSize }
func (r *ring) capacity() uint32         { return uint32(r.size()-headerSize) / EventSize }
func (r *ring) name(id, capacity uint32) { r.setWord(0, id); r.setWord(4, capacity) }

// Context is where requests are submitted and their results fetched (io_context_t).
type Context struct {
	ring     *ring
	id       uint64 // where the ring is mapped, which names the context
	size     uint64
	capacity uint32 // events in the ring
	limit    uint32 // that the program asked for
	queue    waitq.Queue

	mu      sync.Mutex
	tail    uint32
	pending map[uint64]*Poll // by the address of their iocb
	busy    int              // requests accepted whose event is not in the ring yet
	dead    bool
}

// table is the contexts of an address space.
type table struct {
	mu       sync.Mutex
	contexts map[uint64]*Context
}

var tables sync.Map // *mm.AddressSpace to *table

func tableOf(as *mm.AddressSpace) *table {
	if t, ok := tables.Load(as); ok {
		return t.(*table)
	}
	t, there := tables.LoadOrStore(as, &table{contexts: make(map[uint64]*Context)})
	if !there {
		as.AtEnd(func() {
			tables.Delete(as)
			for _, c := range t.(*table).contexts {
				c.end()
			}
		})
	}
	return t.(*table)
}

// New is io_setup(2): a context for n requests at once, with its ring mapped into as. EINVAL, EAGAIN,
// ENOMEM.
func New(as *mm.AddressSpace, n uint32) (*Context, error) {
	if n == 0 || 2*n > 0x10000000/EventSize {
		return nil, unix.EINVAL
	}
	if requested.Add(int64(n)) > MaxEvents {
		requested.Add(-int64(n))
		return nil, unix.EAGAIN
	}
	c, err := newContext(as, n)
	if err != nil {
		requested.Add(-int64(n))
		return nil, err
	}
	return c, nil
}

func newContext(as *mm.AddressSpace, n uint32) (*Context, error) {
	// Twice of what is asked for, and one slot that stays empty so that full is not empty.
	r, err := newRing(ringPages(2*int(max(n, 4)) + 2))
	if err != nil {
		return nil, err
	}
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED
	id, err := as.Mmap(mm.MmapArgs{Length: r.size(), Prot: prot, Flags: flags, File: r})
	if err != nil {
		r.MapClose()
		return nil, err
	}
	as.Madvise(id, r.size(), unix.MADV_DONTFORK)
	c := &Context{ring: r, id: id, size: r.size(), capacity: r.capacity(), limit: n, pending: make(map[uint64]*Poll)}
	r.name(uint32(r.number), c.capacity)
	r.setWord(16, magic)
	r.setWord(20, 1) // compat_features
	r.setWord(28, headerSize)
	t := tableOf(as)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contexts[id] = c
	return c, nil
}

// Find returns the context that the program calls id: EINVAL.
func Find(as *mm.AddressSpace, id uint64) (*Context, error) {
	if t, ok := tables.Load(as); ok {
		t := t.(*table)
		t.mu.Lock()
		defer t.mu.Unlock()
		if c := t.contexts[id]; c != nil {
			return c, nil
		}
	}
	return nil, unix.EINVAL
}

// Destroy is io_destroy(2): EINVAL.
func Destroy(as *mm.AddressSpace, id uint64) error {
	c, err := Find(as, id)
	if err != nil {
		return err
	}
	t := tableOf(as)
	t.mu.Lock()
	mine := t.contexts[id] == c
	delete(t.contexts, id)
	t.mu.Unlock()
	if !mine {
		return unix.EINVAL
	}
	as.Munmap(c.id, c.size)
	c.end()
	return nil
}

// end gives up what is pending and wakes who waits.
func (c *Context) end() {
	c.mu.Lock()
	c.dead = true
	var left []*Poll
	for _, p := range c.pending {
		left = append(left, p)
	}
	clear(c.pending)
	c.mu.Unlock()
	for _, p := range left {
		p.file.EventUnregister(&p.entry)
		p.release()
	}
	c.queue.Notify(waiter.ReadableEvents)
	c.ring.MapClose()
	requested.Add(-int64(c.limit))
}

// ID returns the context's name, which is the address of its ring.
func (c *Context) ID() uint64 { return c.id }

// Limit returns how many requests may be submitted at once: one event less than the ring has.
func (c *Context) Limit() int { return int(c.capacity) - 1 }

// waiting returns how many events the ring holds. Precondition: mu is held.
func (c *Context) waiting() uint32 {
	head := c.ring.word(headAt) % c.capacity
	return (c.tail + c.capacity - head) % c.capacity
}

// Reserve takes room for a request's event: EAGAIN if there is none, EINVAL when the context is gone.
func (c *Context) Reserve() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return unix.EINVAL
	}
	if c.busy+int(c.waiting()) >= int(c.capacity)-1 {
		return unix.EAGAIN
	}
	c.busy++
	return nil
}

// Forget gives back what Reserve took.
func (c *Context) Forget() {
	c.mu.Lock()
	c.busy--
	c.mu.Unlock()
}

// Result is a completed request.
type Result struct {
	Data, Object uint64 // aio_data, and the address of the iocb
	Res          int64
}

// Complete puts a result into the room that Reserve took, and tells notify, which may be nil.
func (c *Context) Complete(r Result, notify event.Signaler) {
	c.mu.Lock()
	c.busy--
	if !c.dead {
		b := c.ring.event(c.tail)
		binary.LittleEndian.PutUint64(b, r.Data)
		binary.LittleEndian.PutUint64(b[8:], r.Object)
		binary.LittleEndian.PutUint64(b[16:], uint64(r.Res))
		binary.LittleEndian.PutUint64(b[24:], 0)
		c.tail = (c.tail + 1) % c.capacity
		c.ring.setWord(tailAt, c.tail)
	}
	c.mu.Unlock()
	if notify != nil {
		notify.Signal(1)
	}
	c.queue.Notify(waiter.ReadableEvents)
}

// Take moves events from the ring to out, as the program lays them out, and returns how many: EINVAL
// when the context is gone.
func (c *Context) Take(out []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return 0, unix.EINVAL
	}
	head := c.ring.word(headAt) % c.capacity
	n := 0
	for ; head != c.tail && len(out) >= EventSize; n++ {
		copy(out, c.ring.event(head))
		out = out[EventSize:]
		head = (head + 1) % c.capacity
	}
	if n > 0 {
		c.ring.setWord(headAt, head)
	}
	return n, nil
}

// Readiness says whether there are events.
func (c *Context) Readiness(mask waiter.EventMask) waiter.EventMask {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.waiting() > 0 {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// EventRegister has e told of events.
func (c *Context) EventRegister(e *waiter.Entry) error {
	c.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (c *Context) EventUnregister(e *waiter.Entry) { c.queue.EventUnregister(e) }

// Poll is a request that waits for a file (IOCB_CMD_POLL).
type Poll struct {
	context *Context
	result  Result
	file    *vfs.Description
	mask    waiter.EventMask
	notify  *vfs.Description // an eventfd, or nil
	entry   waiter.Entry
}

// StartPoll submits a poll of file for mask, and takes over the references of file and notify.
//
// Precondition: Reserve took room for it; when StartPoll fails the caller gives that back.
func (c *Context) StartPoll(object, data uint64, file *vfs.Description, mask waiter.EventMask, notify *vfs.Description) error {
	p := &Poll{context: c, result: Result{Data: data, Object: object}, file: file, mask: mask, notify: notify}
	c.mu.Lock()
	if c.dead || c.pending[object] != nil {
		c.mu.Unlock()
		p.release()
		return unix.EINVAL
	}
	c.pending[object] = p
	c.mu.Unlock()
	p.entry.Init(p, mask|waiter.EventErr|waiter.EventHUp)
	if err := file.EventRegister(&p.entry); err != nil {
		if p.take() {
			p.release()
		}
		return err
	}
	p.check()
	return nil
}

// NotifyEvent looks at the file from a goroutine of its own: who notifies may hold the file's locks.
func (p *Poll) NotifyEvent(waiter.EventMask) { go p.check() }

func (p *Poll) check() {
	if r := p.file.Readiness(p.mask); r != 0 && p.take() {
		p.finish(int64(r))
	}
}

// take makes the caller the one who ends the poll.
func (p *Poll) take() bool {
	c := p.context
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[p.result.Object] != p {
		return false
	}
	delete(c.pending, p.result.Object)
	return true
}

func (p *Poll) finish(res int64) {
	p.file.EventUnregister(&p.entry)
	p.result.Res = res
	var notify event.Signaler
	if p.notify != nil {
		notify = p.notify.File().(event.Signaler)
	}
	p.context.Complete(p.result, notify)
	p.release()
}

func (p *Poll) release() {
	p.file.Decref()
	if p.notify != nil {
		p.notify.Decref()
	}
}

// Cancel ends the pending request of the iocb at object; its event says 0. EINVAL: there is none.
func (c *Context) Cancel(object uint64) error {
	c.mu.Lock()
	p := c.pending[object]
	c.mu.Unlock()
	if p == nil || !p.take() {
		return unix.EINVAL
	}
	p.finish(0)
	return nil
}
