package syscall

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/vfs"
	"elver/vfs/mqueue"
)

// sizeofMqAttr is the size of struct mq_attr with what it reserves.
const sizeofMqAttr = 64

// mq_open(2)
func sysMqOpen(t *kernel.Thread, a *args) (uint64, error) {
	flags := a.uint(1)
	var attr *mqueue.Attr
	if flags&unix.O_CREAT != 0 && a.arg(3) != 0 {
		b := localOf(t).bytes[:sizeofMqAttr]
		if err := copyIn(t, b, a.arg(3)); err != nil {
			return 0, err
		}
		attr = &mqueue.Attr{MaxMessages: int64(word(b, 8)), MessageSize: int64(word(b, 16))}
	}
	name, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	if flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return 0, unix.EINVAL
	}
	const known = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NONBLOCK
	c := filesOf(t)
	if err := c.HasRoom(flags); err != nil {
		return 0, err
	}
	d, err := mqueue.Open(c, name, flags&known, a.uint(2), attr)
	return install(t, d, err, true)
}

// mq_unlink(2)
func sysMqUnlink(t *kernel.Thread, a *args) (uint64, error) {
	name, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	return 0, mqueue.Unlink(filesOf(t), name)
}

// queueAt returns the open queue of a descriptor, with a reference: EBADF.
func queueAt(t *kernel.Thread, fd int32) (*vfs.Description, mqueue.Queue, error) {
	d, err := localOf(t).files.Get(fd)
	if err != nil {
		return nil, mqueue.Queue{}, err
	}
	q, err := mqueue.Of(d)
	if err != nil {
		d.Decref()
	}
	return d, q, err
}

// mq_timedsend(2)
func sysMqTimedsend(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := absoluteAt(t, a.arg(4), true)
	if err != nil {
		return 0, err
	}
	if a.uint(3) >= mqueue.MaxPriority {
		return 0, unix.EINVAL
	}
	d, q, err := queueAt(t, a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	switch {
	case !d.Writable():
		return 0, unix.EBADF
	case a.arg(2) > uint64(q.MessageSize()):
		return 0, unix.EMSGSIZE
	}
	text := make([]byte, a.arg(2))
	if err := copyIn(t, text, a.arg(1)); err != nil {
		return 0, err
	}
	for {
		if err := q.Send(t, text, a.uint(3)); err != unix.EAGAIN || d.NonBlocking() {
			return 0, err
		}
		if err := t.BlockOn(d, waiter.WritableEvents, deadline); err != nil {
			return 0, err
		}
	}
}

// mq_timedreceive(2)
func sysMqTimedreceive(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := absoluteAt(t, a.arg(4), true)
	if err != nil {
		return 0, err
	}
	d, q, err := queueAt(t, a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	switch {
	case !d.Readable():
		return 0, unix.EBADF
	case a.arg(2) < uint64(q.MessageSize()):
		return 0, unix.EMSGSIZE
	}
	for {
		text, priority, err := q.Receive()
		if err == nil {
			if at := a.arg(3); at != 0 {
				if err := t.MM().WriteUint32(at, priority); err != nil {
					return 0, err
				}
			}
			return uint64(len(text)), copyOut(t, a.arg(1), text)
		}
		if d.NonBlocking() {
			return 0, err
		}
		q.Wait(1)
		err = t.BlockOn(d, waiter.ReadableEvents, deadline)
		q.Wait(-1)
		if err != nil {
			return 0, err
		}
	}
}

// mq_getsetattr(2)
func sysMqGetsetattr(t *kernel.Thread, a *args) (uint64, error) {
	var flags uint64
	if a.arg(1) != 0 {
		b := localOf(t).bytes[:sizeofMqAttr]
		if err := copyIn(t, b, a.arg(1)); err != nil {
			return 0, err
		}
		if flags = word(b, 0); flags&^unix.O_NONBLOCK != 0 {
			return 0, unix.EINVAL
		}
	}
	d, q, err := queueAt(t, a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	attr, old := q.Attr(), d.Flags()
	if a.arg(1) != 0 {
		if err := d.SetFlags(filesOf(t), old&^unix.O_NONBLOCK|uint32(flags)); err != nil {
			return 0, err
		}
	}
	if a.arg(2) == 0 {
		return 0, nil
	}
	e := encoder{localOf(t).bytes[:0]}
	for _, v := range [...]uint64{uint64(old & unix.O_NONBLOCK), uint64(attr.MaxMessages), uint64(attr.MessageSize), uint64(attr.Messages)} {
		e.u64(v)
	}
	e.zero(4 * 8)
	return 0, copyOut(t, a.arg(2), e.b)
}

// mq_notify(2)
func sysMqNotify(t *kernel.Thread, a *args) (uint64, error) {
	if a.arg(1) == 0 {
		d, q, err := queueAt(t, a.int(0))
		if err != nil {
			return 0, err
		}
		defer d.Decref()
		q.Forgo(localOf(t).files.Files.Table())
		return 0, nil
	}
	b := localOf(t).bytes[:64]
	if err := copyIn(t, b, a.arg(1)); err != nil {
		return 0, err
	}
	event := kernel.SigEvent{Value: word(b, 0), Signal: kernel.Signal(int32(halfword(b, 8))), Notify: int32(halfword(b, 12))}
	var deliver func(byte)
	switch event.Notify {
	case kernel.SigEvNone:
	case kernel.SigEvSignal:
		if event.Signal < 0 || event.Signal > kernel.SIGRTMAX {
			return 0, unix.EINVAL
		}
	case kernel.SigEvThread:
		var err error
		if deliver, err = notifySocket(t, int32(event.Signal), event.Value); err != nil {
			return 0, err
		}
	default:
		return 0, unix.EINVAL
	}
	d, q, err := queueAt(t, a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	return 0, q.Notify(t, localOf(t).files.Files.Table(), event, deliver)
}

// notifySocket returns what delivers a notification of SIGEV_THREAD, as the C library asks for it: a cookie of
// 32 bytes at cookieAt, whose last the kernel sets, to a netlink socket.
func notifySocket(t *kernel.Thread, fd int32, cookieAt uint64) (func(byte), error) {
	cookie := make([]byte, 32)
	if err := copyIn(t, cookie, cookieAt); err != nil {
		return nil, err
	}
	d, err := localOf(t).files.Get(fd)
	if err != nil {
		return nil, err
	}
	defer d.Decref()
	s, ok := d.File().(interface{ Deliver([]byte) bool })
	if !ok {
		return nil, unix.ENOTSOCK
	}
	return func(what byte) {
		cookie[len(cookie)-1] = what
		s.Deliver(cookie)
	}, nil
}
