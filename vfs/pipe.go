package vfs

import (
	"math/bits"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/runtime/metal"
)

// Sizes of pipes (pipe(7)).
const (
	pipeBuf      = 4096    // writes up to this size are atomic
	defaultSlots = 16      // frames in a new pipe
	hardPipeSize = 1 << 26 // for who may go beyond MaxPipeSize
)

// MaxPipeSize is /proc/sys/fs/pipe-max-size: how large a pipe may be that no privileged process made, in bytes.
var MaxPipeSize atomic.Int64

func init() { MaxPipeSize.Store(1 << 20) }

// SetMaxPipeSize sets MaxPipeSize, rounded up to a power of two of pages: EINVAL.
func SetMaxPipeSize(size int64) error {
	if size < 0 || size > 1<<31 {
		return unix.EINVAL
	}
	MaxPipeSize.Store(1 << bits.Len64(uint64(max(size, metal.FrameSize)-1)))
	return nil
}

// Pipe is a pipe or the inside of a FIFO: a ring of frames, each partly filled.
//
// mu is held across the copies to and from the program, so that reads and writes don't mix. A fault in
// such a copy never comes back here: pipes can't be mapped. Readiness takes no lock.
type Pipe struct {
	queue waitq.Queue
	id    uint64 // of two pipes' mu, the lesser's is locked first

	used    atomic.Int32 // slots that hold data
	size    atomic.Int32 // slots in the ring
	readers atomic.Int32
	writers atomic.Int32
	opens   [2]atomic.Uint32 // how often the reading and the writing end were ever opened

	mu    sync.Mutex
	ring  []pipeSlot // its length is a power of two
	head  uint32     // the oldest slot is ring[head % len]
	spare uint64     // a frame kept for the next write, 0: none
}

type pipeSlot struct {
	frame    uint64
	off, len uint32
	packet   bool // a write in packet mode: read as a whole, never added to
}

var lastPipe atomic.Uint64

// NewPipe returns a pipe with neither end open.
func NewPipe() *Pipe {
	p := &Pipe{id: lastPipe.Add(1)}
	p.size.Store(defaultSlots)
	return p
}

// Pipe returns the descriptions of the reading and writing ends of a new pipe (pipe2(2)); flags are of
// O_NONBLOCK, O_DIRECT and O_CLOEXEC.
func (c *Context) Pipe(flags uint32) (r, w *Description, err error) {
	if flags&^(unix.O_NONBLOCK|unix.O_DIRECT|unix.O_CLOEXEC) != 0 {
		return nil, nil, unix.EINVAL
	}
	i := &pipeInode{pipe: NewPipe()}
	if most := MaxPipeSize.Load() / metal.FrameSize; most < defaultSlots && !c.Creds.HasCap(unix.CAP_SYS_RESOURCE) {
		i.pipe.size.Store(int32(most))
	}
	i.Init(pipeFS, pipeFS.ino.Add(1), unix.S_IFIFO|0o600, c.Creds.FSUID, c.Creds.FSGID, 0)
	path := Path{nil, NewDetached(i, "pipe:["+strconv.FormatUint(i.Ino(), 10)+"]")}
	i.pipe.readers.Store(1)
	i.pipe.writers.Store(1)
	i.pipe.opens[0].Store(1)
	i.pipe.opens[1].Store(1)
	in, out := &pipeEnd{pipe: i.pipe, reads: true}, &pipeEnd{pipe: i.pipe, writes: true}
	out.packets.Store(flags&unix.O_DIRECT != 0)
	return NewDescription(in, path, unix.O_RDONLY|flags), NewDescription(out, path, unix.O_WRONLY|flags), nil
}

type pipeInode struct {
	BaseInode
	pipe *Pipe
}

// Open opens an end again, as /dev/fd/N does. Both ends were there from the start: nobody waits for the other
// one (pipe(7)), and a pipe whose writers are gone is at its end.
func (i *pipeInode) Open(_ *Context, _ Path, flags uint32) (File, error) {
	e := &pipeEnd{pipe: i.pipe}
	e.packets.Store(flags&unix.O_DIRECT != 0)
	if flags&unix.O_ACCMODE != unix.O_WRONLY {
		e.reads = true
		e.sawWriters = i.pipe.opens[1].Load() - 1
		i.pipe.open(&i.pipe.readers, 0)
	}
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		e.writes = true
		i.pipe.open(&i.pipe.writers, 1)
	}
	return e, nil
}

// fifoInode is an inode that is a FIFO when its mode says so.
type fifoInode interface{ FIFO() *Pipe }

// openFIFO opens p as fifo(7) says: an end waits for the other one.
func (c *Context) openFIFO(p *Pipe, flags uint32) (File, error) {
	e := &pipeEnd{pipe: p}
	e.packets.Store(flags&unix.O_DIRECT != 0)
	nonBlocking := flags&unix.O_NONBLOCK != 0
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		e.reads = true
		e.sawWriters = p.opens[1].Load()
		p.open(&p.readers, 0)
		if p.writers.Load() == 0 && !nonBlocking {
			if err := c.waitForEnd(p, 1, e.sawWriters); err != nil {
				e.Release()
				return nil, err
			}
		}
		if p.writers.Load() != 0 || !nonBlocking {
			e.sawWriters--
		}
	case unix.O_WRONLY:
		if nonBlocking && p.readers.Load() == 0 {
			return nil, unix.ENXIO
		}
		e.writes = true
		seen := p.opens[0].Load()
		p.open(&p.writers, 1)
		if p.readers.Load() == 0 {
			if err := c.waitForEnd(p, 0, seen); err != nil {
				e.Release()
				return nil, err
			}
		}
	default:
		e.reads, e.writes = true, true
		p.open(&p.readers, 0)
		p.open(&p.writers, 1)
	}
	return e, nil
}

func (p *Pipe) open(count *atomic.Int32, end int) {
	count.Add(1)
	p.opens[end].Add(1)
	p.queue.Notify(waiter.EventInternal)
}

// waitForEnd waits until an end was opened more often than seen.
func (c *Context) waitForEnd(p *Pipe, end int, seen uint32) error {
	return c.wait(&endWait{p, end, seen}, waiter.EventInternal)
}

type endWait struct {
	pipe *Pipe
	end  int
	seen uint32
}

func (w *endWait) Readiness(mask waiter.EventMask) waiter.EventMask {
	if w.pipe.opens[w.end].Load() != w.seen {
		return mask & waiter.EventInternal
	}
	return 0
}
func (w *endWait) EventRegister(e *waiter.Entry) error {
	w.pipe.queue.EventRegister(e)
	return nil
}
func (w *endWait) EventUnregister(e *waiter.Entry) { w.pipe.queue.EventUnregister(e) }

// pipeEnd is an open end of a pipe, or both ends of a FIFO.
type pipeEnd struct {
	BaseFile
	pipe       *Pipe
	reads      bool
	writes     bool
	packets    atomic.Bool
	sawWriters uint32 // no hang-up is seen while this many writers were ever there
}

// Release closes the end.
func (e *pipeEnd) Release() {
	p := e.pipe
	last := false
	p.mu.Lock()
	if e.reads {
		p.readers.Add(-1)
	}
	if e.writes {
		p.writers.Add(-1)
	}
	if p.readers.Load() == 0 && p.writers.Load() == 0 {
		last = true
		for p.used.Load() != 0 {
			p.pop()
		}
		if p.spare != 0 {
			metal.Unref(p.spare)
			p.spare = 0
		}
	}
	p.mu.Unlock()
	if !last {
		p.queue.Notify(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
	}
}

// SetFlags follows O_DIRECT, which makes packets of writes.
func (e *pipeEnd) SetFlags(flags uint32) error {
	e.packets.Store(flags&unix.O_DIRECT != 0)
	return nil
}

// oldest returns the oldest slot. Precondition: mu is held, there is one.
func (p *Pipe) oldest() *pipeSlot { return &p.ring[p.head&uint32(len(p.ring)-1)] }

// pop takes the oldest slot out. Precondition: mu is held, there is one.
func (p *Pipe) pop() {
	s := p.oldest()
	if p.spare == 0 && metal.Refs(s.frame) == 1 {
		p.spare = s.frame
	} else {
		metal.Unref(s.frame)
	}
	s.frame = 0
	p.head++
	p.used.Add(-1)
}

// Read reads what is there: EAGAIN if nothing is and somebody could write, 0 if nobody can.
func (e *pipeEnd) Read(c *Context, dst *mm.Buffer, off int64) (int, error) {
	p := e.pipe
	if dst.Len() == 0 {
		return 0, nil
	}
	// Who could write is looked at first: what they wrote before they left is there then.
	if p.empty() {
		return 0, unix.EAGAIN
	}
	n, err := p.read(dst)
	if n == 0 && err == nil && p.writers.Load() != 0 {
		err = unix.EAGAIN
	}
	return n, err
}

// ReadWaiting implements Waiter.
func (e *pipeEnd) ReadWaiting(c *Context, dst *mm.Buffer) (int, error) {
	p := e.pipe
	if dst.Len() == 0 {
		return 0, nil
	}
	for {
		if p.empty() {
			if err := p.await(c.Thread); err != nil {
				return 0, err
			}
		}
		n, err := p.read(dst)
		if n > 0 || err != nil || p.writers.Load() == 0 {
			return n, err
		}
	}
}

// empty says whether a read would have to wait.
func (p *Pipe) empty() bool { return p.writers.Load() != 0 && p.used.Load() == 0 }

// await waits until a read need not wait. While the entry is registered nothing runs that could panic.
func (p *Pipe) await(t *kernel.Thread) error {
	entry := t.Listen(waiter.ReadableEvents | waiter.EventHUp)
	p.queue.EventRegister(entry)
	var err error
	for p.empty() && err == nil {
		err = t.Block(kernel.Never)
	}
	p.queue.EventUnregister(entry)
	if err != nil && !p.empty() {
		return nil
	}
	return err
}

// read reads what is there: an error only if that is nothing.
func (p *Pipe) read(dst *mm.Buffer) (int, error) {
	p.mu.Lock()
	n, freed := 0, false
	var err error
	for p.used.Load() != 0 {
		s := p.oldest()
		var m int
		m, err = dst.CopyOut(metal.View(s.frame+uint64(s.off), min(int(s.len), dst.Len())))
		s.off += uint32(m)
		s.len -= uint32(m)
		n += m
		if err != nil || s.len != 0 && !s.packet {
			break
		}
		packet := s.packet
		p.pop()
		freed = true
		if packet || dst.Len() == 0 {
			break
		}
	}
	p.mu.Unlock()
	if freed {
		p.queue.Notify(waiter.WritableEvents)
	}
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// Write writes all if that is no more than PIPE_BUF, else what there is room for. EAGAIN: no room.
// EPIPE: nobody reads, and the caller raises SIGPIPE.
func (e *pipeEnd) Write(c *Context, src *mm.Buffer, off int64) (int, error) {
	p := e.pipe
	left := src.Len()
	if left == 0 {
		return 0, nil
	}
	p.mu.Lock()
	n, err := p.write(src, left, e.packets.Load())
	p.mu.Unlock()
	if n > 0 {
		p.queue.Notify(waiter.ReadableEvents)
		return n, nil
	}
	return 0, err
}

// Precondition: mu is held.
func (p *Pipe) write(src *mm.Buffer, left int, packet bool) (int, error) {
	if p.readers.Load() == 0 {
		return 0, unix.EPIPE
	}
	if p.ring == nil {
		p.ring = make([]pipeSlot, p.size.Load())
	}
	size, n := uint32(len(p.ring)), 0
	used := uint32(p.used.Load())
	// What doesn't fill a frame goes behind what is in the last one, if all of it fits there.
	if odd := uint32(left) % metal.FrameSize; used > 0 && odd != 0 && !packet {
		s := &p.ring[(p.head+used-1)&(size-1)]
		if !s.packet && s.off+s.len+odd <= metal.FrameSize && metal.Refs(s.frame) == 1 {
			m, err := src.CopyIn(metal.View(s.frame+uint64(s.off+s.len), int(odd)))
			if err != nil {
				if left <= pipeBuf {
					return 0, err
				}
			}
			s.len += uint32(m)
			n, left = m, left-m
			if err != nil {
				return n, err
			}
		}
	}
	for left > 0 {
		if used == size {
			return n, unix.EAGAIN
		}
		frame := p.spare
		if frame == 0 {
			var ok bool
			if frame, ok = mm.AllocFrame(metal.OwnerPageCache); !ok {
				return n, unix.ENOMEM
			}
		}
		p.spare = 0
		k := min(left, metal.FrameSize)
		m, err := src.CopyIn(metal.View(frame, k))
		if m == 0 || err != nil && n == 0 && left <= pipeBuf {
			p.spare = frame
			return n, err
		}
		p.ring[(p.head+used)&(size-1)] = pipeSlot{frame: frame, len: uint32(m), packet: packet}
		used = uint32(p.used.Add(1))
		n, left = n+m, left-m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Readiness says what the end is ready for.
func (e *pipeEnd) Readiness(mask waiter.EventMask) waiter.EventMask {
	p := e.pipe
	var r waiter.EventMask
	if e.reads {
		if p.used.Load() != 0 {
			r |= waiter.ReadableEvents
		}
		if p.writers.Load() == 0 && p.opens[1].Load() != e.sawWriters {
			r |= waiter.EventHUp
		}
	}
	if e.writes {
		if p.used.Load() < p.size.Load() {
			r |= waiter.WritableEvents
		}
		if p.readers.Load() == 0 {
			r |= waiter.EventErr
		}
	}
	return r & (mask | waiter.EventErr | waiter.EventHUp)
}

// EventRegister has e told of changes.
func (e *pipeEnd) EventRegister(w *waiter.Entry) error {
	e.pipe.queue.EventRegister(w)
	return nil
}

// EventUnregister undoes EventRegister.
func (e *pipeEnd) EventUnregister(w *waiter.Entry) { e.pipe.queue.EventUnregister(w) }

// PipeOf returns the pipe that d is an end of, or nil.
func PipeOf(d *Description) *Pipe {
	if e, ok := d.file.(*pipeEnd); ok {
		return e.pipe
	}
	return nil
}

// Buffered returns how many bytes wait to be read (FIONREAD).
func (p *Pipe) Buffered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for i := range uint32(p.used.Load()) {
		n += int(p.ring[(p.head+i)&uint32(len(p.ring)-1)].len)
	}
	return n
}

// Size returns the capacity in bytes (F_GETPIPE_SZ).
func (p *Pipe) Size() int { return int(p.size.Load()) * metal.FrameSize }

// Resize sets the capacity, rounded up to a power of two of pages, and returns it (F_SETPIPE_SZ):
// EPERM above MaxPipeSize without privilege, EBUSY below what it holds.
func (p *Pipe) Resize(c *Context, size int) (int, error) {
	if size < 0 || size > 1<<31 {
		return 0, unix.EINVAL
	}
	slots := max((size+metal.FrameSize-1)/metal.FrameSize, 1)
	slots = 1 << bits.Len(uint(slots-1))
	if int64(slots)*metal.FrameSize > MaxPipeSize.Load() && slots > int(p.size.Load()) && !c.Creds.HasCap(unix.CAP_SYS_RESOURCE) {
		return 0, unix.EPERM
	}
	if slots*metal.FrameSize > hardPipeSize {
		return 0, unix.ENOMEM
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	used := int(p.used.Load())
	if used > slots {
		return 0, unix.EBUSY
	}
	if p.ring != nil {
		ring := make([]pipeSlot, slots)
		for i := range used {
			ring[i] = p.ring[(p.head+uint32(i))&uint32(len(p.ring)-1)]
		}
		p.ring, p.head = ring, 0
	}
	p.size.Store(int32(slots))
	defer p.queue.Notify(waiter.WritableEvents)
	return slots * metal.FrameSize, nil
}
