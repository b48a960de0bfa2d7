package mqueue

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/runtime/metal"
	"elver/vfs"
)

// Attr are a queue's attributes (struct mq_attr), its flag apart.
type Attr struct {
	MaxMessages, MessageSize, Messages int64
}

// message is a message in a queue.
type message struct {
	priority uint32
	text     []byte
}

// queue is a queue, and the inode of its file.
type queue struct {
	vfs.BaseInode
	max, size int64
	refund    func() // gives back what RLIMIT_MSGQUEUE counts
	events    waitq.Queue

	mu       sync.Mutex
	messages []message // by rising priority, of one priority the newest first: the next is the last
	bytes    int64
	waiting  int // threads in Receive
	notify   *notification
	links    int // 0: unlinked
	opens    int
}

// notification is who is to be told of a message in an empty queue (mq_notify(3)).
type notification struct {
	owner any // the table of descriptors of the process
	proc  *kernel.Process
	event kernel.SigEvent
	// deliver, of SIGEV_THREAD, hears 1 when there is a message and 2 when the notification is gone.
	deliver func(what byte)
}

// What a notification by SIGEV_THREAD says.
const (
	notifyWokenUp = 1
	notifyRemoved = 2
)

// Stat fills a.
func (q *queue) Stat(a *vfs.Attr) error {
	const size = 80 // what reading gives, at the most
	err := q.BaseInode.Stat(a)
	a.Size = size
	return err
}

// Hold counts an open.
func (q *queue) Hold() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.links == 0 && q.opens == 0 {
		return unix.ENOENT
	}
	q.opens++
	return nil
}

// Drop uncounts it.
func (q *queue) Drop() {
	q.mu.Lock()
	q.opens--
	gone := q.opens == 0 && q.links == 0
	q.mu.Unlock()
	if gone {
		q.end()
	}
}

func (q *queue) unlink() {
	q.AddLinks(-1)
	q.mu.Lock()
	q.links = 0
	gone := q.opens == 0
	q.mu.Unlock()
	if gone {
		q.end()
	}
}

// end gives everything back: nobody can reach the queue any more.
func (q *queue) end() {
	q.refund()
	q.FS().(*FS).queues.Add(-1)
}

// Open opens the queue.
func (q *queue) Open(*vfs.Context, vfs.Path, uint32) (vfs.File, error) { return &file{queue: q}, nil }

// file is an open queue.
type file struct {
	vfs.BaseFile
	queue *queue
}

// Seekable says yes: cat reads to the end.
func (*file) Seekable() bool { return true }

// Read says how much the queue holds and who is to be notified (mq_overview(7)).
func (f *file) Read(_ *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	q := f.queue
	q.mu.Lock()
	var event kernel.SigEvent
	pid := int32(0)
	if n := q.notify; n != nil {
		event, pid = n.event, n.proc.PID
	}
	text := fmt.Sprintf("QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", q.bytes, event.Notify, event.Signal, pid)
	q.mu.Unlock()
	if off >= int64(len(text)) {
		return 0, nil
	}
	p := []byte(text[off:])
	return dst.CopyOut(p[:min(len(p), dst.Len())])
}

// Readiness says whether there is a message, and room for one.
func (f *file) Readiness(mask waiter.EventMask) waiter.EventMask {
	q := f.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	var r waiter.EventMask
	if len(q.messages) > 0 {
		r |= waiter.ReadableEvents
	}
	if int64(len(q.messages)) < q.max {
		r |= waiter.WritableEvents
	}
	return r & mask
}

// EventRegister has e told of messages and room.
func (f *file) EventRegister(e *waiter.Entry) error {
	f.queue.events.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *file) EventUnregister(e *waiter.Entry) { f.queue.events.EventUnregister(e) }

// Flush ends the notification of a process that closes a descriptor of the queue.
func (f *file) Flush(owner any) { f.queue.forgo(owner) }

// Queue is an open message queue, for the calls on its descriptor.
type Queue struct{ q *queue }

// Of returns the queue that d is: EBADF.
func Of(d *vfs.Description) (Queue, error) {
	if f, ok := d.File().(*file); ok {
		return Queue{f.queue}, nil
	}
	return Queue{}, unix.EBADF
}

// Attr returns the queue's attributes.
func (u Queue) Attr() Attr {
	q := u.q
	q.mu.Lock()
	defer q.mu.Unlock()
	return Attr{q.max, q.size, int64(len(q.messages))}
}

// MessageSize returns how long a message may be, in bytes.
func (u Queue) MessageSize() int64 { return u.q.size }

// Send puts a message into the queue, and takes over its text: EAGAIN if the queue is full.
func (u Queue) Send(t *kernel.Thread, text []byte, priority uint32) error {
	q := u.q
	if f := metal.Frames(); f.Free <= f.Reserve {
		return unix.ENOMEM
	}
	q.mu.Lock()
	if int64(len(q.messages)) >= q.max {
		q.mu.Unlock()
		return unix.EAGAIN
	}
	at, _ := slices.BinarySearchFunc(q.messages, priority, func(m message, p uint32) int {
		if m.priority < p {
			return -1
		}
		return 1 // before those of the same priority, which came earlier
	})
	q.messages = slices.Insert(q.messages, at, message{priority, text})
	q.bytes += int64(len(text))
	var n *notification
	if len(q.messages) == 1 && q.waiting == 0 {
		n, q.notify = q.notify, nil
	}
	q.mu.Unlock()
	q.Modified()
	q.events.Notify(waiter.ReadableEvents)
	if n != nil {
		n.fire(t)
	}
	return nil
}

// Receive takes the oldest message of the greatest priority: EAGAIN if there is none.
func (u Queue) Receive() (text []byte, priority uint32, err error) {
	q := u.q
	q.mu.Lock()
	last := len(q.messages) - 1
	if last < 0 {
		q.mu.Unlock()
		return nil, 0, unix.EAGAIN
	}
	m := q.messages[last]
	q.messages[last] = message{}
	q.messages = q.messages[:last]
	q.bytes -= int64(len(m.text))
	q.mu.Unlock()
	q.Accessed()
	q.events.Notify(waiter.WritableEvents)
	return m.text, m.priority, nil
}

// Wait counts a thread that waits for a message, by 1 and -1: while there is one, nobody is notified.
func (u Queue) Wait(d int) {
	u.q.mu.Lock()
	defer u.q.mu.Unlock()
	u.q.waiting += d
}

// Notify is mq_notify(2): EBUSY if somebody waits for a notification already. owner stands for t's process
// until it closes a descriptor of the queue.
func (u Queue) Notify(t *kernel.Thread, owner any, event kernel.SigEvent, deliver func(what byte)) error {
	q := u.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.notify != nil {
		return unix.EBUSY
	}
	q.notify = &notification{owner: owner, proc: t.Proc, event: event, deliver: deliver}
	return nil
}

// Forgo ends owner's notification, if it waits for one.
func (u Queue) Forgo(owner any) { u.q.forgo(owner) }

func (q *queue) forgo(owner any) {
	q.mu.Lock()
	n := q.notify
	if n == nil || n.owner != owner {
		q.mu.Unlock()
		return
	}
	q.notify = nil
	q.mu.Unlock()
	if n.deliver != nil {
		n.deliver(notifyRemoved)
	}
}

// fire tells of the message that t sent.
func (n *notification) fire(t *kernel.Thread) {
	switch n.event.Notify {
	case kernel.SigEvSignal:
		if n.event.Signal != 0 { // Linux takes it and sends nothing
			n.proc.Kill(n.event.Signal, t.QueueInfo(n.event.Signal, n.event.Value))
		}
	case kernel.SigEvThread:
		n.deliver(notifyWokenUp)
	}
}
