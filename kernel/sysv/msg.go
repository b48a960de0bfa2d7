package sysv

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// Flags of msgrcv(2).
const (
	NoError = 0o10000 // MSG_NOERROR: longer messages are cut
	Except  = 0o20000 // MSG_EXCEPT: any type but this one
	Copy    = 0o40000 // MSG_COPY: the message with that index, which stays
)

// Defaults of /proc/sys/kernel/msg{max,mnb,mni}.
const (
	defaultMessageSize = 8192
	defaultQueueSize   = 16384
	defaultQueues      = 32000

	mostMessageSize = 1 << 20 // that msgmax and msgmnb can be raised to

	messageBytes = 64 // of a message beside its text
	queueBytes   = 256
)

// Message is a message with its type, which is positive.
type Message struct {
	Type int64
	Text []byte
	next *Message
}

// queue is a queue of messages, the oldest first.
type queue struct {
	object
	head, tail          *Message
	count               int
	bytes, limit        int // of texts
	stime, rtime, ctime int64
	sender, receiver    int32
	receivers           []*receiver      // in the order in which they came
	senders             []*kernel.Thread // that wait for room, in no order
}

// receiver is a thread that waits for a message.
type receiver struct {
	t     *kernel.Thread
	match func(*Message) bool
	size  int
	cut   bool // MSG_NOERROR
	got   *Message
	err   error
	done  bool
}

// Messages is the machine's queues. Lock: table.mu.
type Messages struct {
	table[*queue, MsgStatus]
	messages, bytes int
	limits          [3]atomic.Int64 // msgmax, msgmnb, msgmni; 0: the default
}

// Limits of messages, by their index in /proc/sys/kernel.
const (
	LimitMessageSize = iota // msgmax
	LimitQueueSize          // msgmnb
	LimitQueues             // msgmni
)

// Limit returns one of the limits.
func (m *Messages) Limit(i int) int {
	if l := m.limits[i].Load(); l != 0 {
		return int(l) - 1
	}
	return [...]int{defaultMessageSize, defaultQueueSize, defaultQueues}[i]
}

// SetLimit sets one: EINVAL for what cannot be.
func (m *Messages) SetLimit(i, v int) error {
	if v < 0 || v > [...]int{mostMessageSize, mostMessageSize, idStep}[i] {
		return unix.EINVAL
	}
	m.limits[i].Store(int64(v) + 1)
	return nil
}

// Get is msgget(2).
func (m *Messages) Get(t *kernel.Thread, key int32, flags int) (int, error) {
	return m.get(t, key, flags, func(*queue) error { return nil }, func() (*queue, error) {
		if m.full(m.Limit(LimitQueues)) {
			return nil, unix.ENOSPC
		}
		if err := charge(queueBytes); err != nil {
			return nil, err
		}
		return &queue{limit: m.Limit(LimitQueueSize), ctime: now()}, nil
	})
}

// Send is msgsnd(2), for a message that the caller made and checked; it takes over its text.
func (m *Messages) Send(t *kernel.Thread, id int, msg *Message, flags int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		q, err := m.use(t, id, 2)
		if err != nil {
			return err
		}
		if q.hasRoom(len(msg.Text)) {
			return m.put(t, q, msg)
		}
		if flags&NoWait != 0 {
			return unix.EAGAIN
		}
		t.PrepareBlock()
		q.senders = append(q.senders, t)
		m.mu.Unlock()
		err = t.Block(kernel.Never)
		m.mu.Lock()
		if q.gone {
			return unix.EIDRM
		}
		q.senders = slices.DeleteFunc(q.senders, func(o *kernel.Thread) bool { return o == t })
		if err != nil {
			return kernel.ERESTARTNOHAND
		}
	}
}

func (q *queue) hasRoom(n int) bool { return q.bytes+n <= q.limit && q.count+1 <= q.limit }

// put hands msg to a thread that waits for it, or else queues it. Precondition: mu is held.
func (m *Messages) put(t *kernel.Thread, q *queue, msg *Message) error {
	waits := slices.IndexFunc(q.receivers, func(r *receiver) bool {
		if !r.match(msg) {
			return false
		}
		if len(msg.Text) > r.size && !r.cut {
			r.finish(nil, unix.E2BIG) // it has to look itself, and the next may take it
			return false
		}
		return true
	})
	if waits < 0 {
		if err := charge(messageBytes + len(msg.Text)); err != nil {
			return err
		}
		if q.tail == nil {
			q.head = msg
		} else {
			q.tail.next = msg
		}
		q.tail = msg
		q.count++
		q.bytes += len(msg.Text)
		m.messages++
		m.bytes += len(msg.Text)
	}
	q.stime, q.sender = now(), t.Proc.PID
	if waits >= 0 {
		r := q.receivers[waits]
		q.rtime, q.receiver = q.stime, r.t.Proc.PID
		r.finish(msg, nil)
	}
	q.receivers = slices.DeleteFunc(q.receivers, func(r *receiver) bool { return r.done })
	return nil
}

func (r *receiver) finish(msg *Message, err error) {
	r.done, r.got, r.err = true, msg, err
	r.t.Wake()
}

// choose returns the message that msgrcv(2) would take for that type, with the one before it; nil for
// none. Precondition: mu is held.
func (q *queue) choose(match func(*Message) bool, least bool) (msg, before *Message) {
	var previous *Message
	for o := q.head; o != nil; o = o.next {
		if match(o) && (msg == nil || least && o.Type < msg.Type) {
			if msg, before = o, previous; !least {
				break
			}
		}
		previous = o
	}
	return msg, before
}

// matching returns which messages msgrcv(2) takes for a type, and whether it takes the least of them.
func matching(kind int64, flags int) (match func(*Message) bool, least bool) {
	switch {
	case kind == 0:
		return func(*Message) bool { return true }, false
	case kind < 0:
		most := -kind
		if kind == math.MinInt64 {
			most = math.MaxInt64
		}
		return func(m *Message) bool { return m.Type <= most }, true
	case flags&Except != 0:
		return func(m *Message) bool { return m.Type != kind }, false
	}
	return func(m *Message) bool { return m.Type == kind }, false
}

// Receive is msgrcv(2): the message, whose text may be longer than size if flags say so. The caller doesn't
// write to it.
func (m *Messages) Receive(t *kernel.Thread, id, size int, kind int64, flags int) (*Message, error) {
	if flags&Copy != 0 {
		if flags&Except != 0 || flags&NoWait == 0 {
			return nil, unix.EINVAL
		}
		return m.copy(t, id, size, kind, flags)
	}
	match, least := matching(kind, flags)
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.use(t, id, 4)
	if err != nil {
		return nil, err
	}
	if msg, before := q.choose(match, least); msg != nil {
		if len(msg.Text) > size && flags&NoError == 0 {
			return nil, unix.E2BIG
		}
		m.take(q, msg, before)
		q.rtime, q.receiver = now(), t.Proc.PID
		return msg, nil
	}
	if flags&NoWait != 0 {
		return nil, unix.ENOMSG
	}
	r := &receiver{t: t, match: match, size: size, cut: flags&NoError != 0}
	q.receivers = append(q.receivers, r)
	t.PrepareBlock()
	for !r.done {
		m.mu.Unlock()
		err := t.Block(kernel.Never)
		m.mu.Lock()
		if err != nil && !r.done {
			q.receivers = slices.DeleteFunc(q.receivers, func(o *receiver) bool { return o == r })
			return nil, kernel.ERESTARTNOHAND
		}
	}
	return r.got, r.err
}

// take takes msg, which stands behind before, out of q. Precondition: mu is held.
func (m *Messages) take(q *queue, msg, before *Message) {
	if before == nil {
		q.head = msg.next
	} else {
		before.next = msg.next
	}
	if q.tail == msg {
		q.tail = before
	}
	q.count--
	q.bytes -= len(msg.Text)
	m.messages--
	m.bytes -= len(msg.Text)
	release(messageBytes + len(msg.Text))
	q.wakeSenders()
}

func (q *queue) wakeSenders() {
	for _, t := range q.senders {
		t.Wake()
	}
}

// copy is MSG_COPY: the message with that index, which stays where it is.
func (m *Messages) copy(t *kernel.Thread, id, size int, index int64, flags int) (*Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.use(t, id, 4)
	if err != nil {
		return nil, err
	}
	msg := q.head
	for ; msg != nil && index > 0; index-- {
		msg = msg.next
	}
	switch {
	case msg == nil || index < 0:
		return nil, unix.ENOMSG
	case len(msg.Text) > size && flags&NoError == 0:
		return nil, unix.E2BIG
	}
	return msg, nil
}

// MsgStatus is what msgctl(2) tells of a queue (struct msqid64_ds).
type MsgStatus struct {
	ID                  int
	Perm                Perm
	Stime, Rtime, Ctime int64
	Bytes, Count, Limit int
	Sender, Receiver    int32
}

func (q *queue) status() MsgStatus {
	return MsgStatus{q.id, q.perm, q.stime, q.rtime, q.ctime, q.bytes, q.count, q.limit, q.sender, q.receiver}
}

// Set is IPC_SET. limit is how many bytes the queue may hold: EPERM above msgmnb for the unprivileged.
func (m *Messages) Set(t *kernel.Thread, id int, uid, gid, mode uint32, limit uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.own(t, id)
	if err != nil {
		return err
	}
	if limit > uint64(m.Limit(LimitQueueSize)) && !t.Creds().HasCap(unix.CAP_SYS_RESOURCE) {
		return unix.EPERM
	}
	q.perm.set(uid, gid, mode)
	q.limit = int(min(limit, math.MaxInt32))
	q.ctime = now()
	q.wakeSenders()
	for _, r := range q.receivers { // who may not read any more has to hear of it
		if err := q.perm.allows(r.t.Creds(), 4); err != nil {
			r.finish(nil, err)
		}
	}
	q.receivers = slices.DeleteFunc(q.receivers, func(r *receiver) bool { return r.done })
	return nil
}

// Remove is IPC_RMID: whoever waits gets EIDRM.
func (m *Messages) Remove(t *kernel.Thread, id int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.own(t, id)
	if err != nil {
		return err
	}
	m.remove(q)
	m.messages -= q.count
	m.bytes -= q.bytes
	release(queueBytes + q.count*messageBytes + q.bytes)
	for _, r := range q.receivers {
		r.finish(nil, unix.EIDRM)
	}
	q.receivers = nil
	q.wakeSenders()
	return nil
}

// Info returns how many queues, messages and bytes there are, and the greatest index in use.
func (m *Messages) Info() (queues, messages, bytes, highest int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.count, m.messages, m.bytes, m.table.highest()
}

// Proc returns /proc/sysvipc/msg.
func (m *Messages) Proc() string {
	var b strings.Builder
	b.WriteString("       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n")
	m.each(func(q *queue) {
		p := &q.perm
		fmt.Fprintf(&b, "%10d %10d  %4o  %10d %10d %5d %5d %5d %5d %5d %5d %10d %10d %10d\n",
			p.Key, q.id, p.Mode, q.bytes, q.count, q.sender, q.receiver, p.UID, p.GID, p.CUID, p.CGID, q.stime, q.rtime, q.ctime)
	})
	return b.String()
}
