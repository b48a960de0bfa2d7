package syscall

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/vfs"
	"elver/vfs/aio"
	"elver/vfs/event"
)

// What linux/aio_abi.h defines.
const (
	sizeofIOCB = 64

	iocbPread  = 0
	iocbPwrite = 1
	iocbFsync  = 2
	iocbFdsync = 3
	iocbPoll   = 5
	iocbNoop   = 6
	iocbPreadv = 7
	iocbWritev = 8

	iocbFlagResFD  = 1
	iocbFlagIOPrio = 2
)

// io_setup(2)
func sysIOSetup(t *kernel.Thread, a *args) (uint64, error) {
	old, err := t.MM().ReadUint64(a.arg(1))
	if err != nil {
		return 0, err
	}
	if old != 0 {
		return 0, unix.EINVAL
	}
	c, err := aio.New(t.MM(), a.uint(0))
	if err != nil {
		return 0, err
	}
	if err := t.MM().WriteUint64(a.arg(1), c.ID()); err != nil {
		aio.Destroy(t.MM(), c.ID())
		return 0, err
	}
	return 0, nil
}

// io_destroy(2)
func sysIODestroy(t *kernel.Thread, a *args) (uint64, error) {
	return 0, aio.Destroy(t.MM(), a.arg(0))
}

// io_submit(2): how many were submitted, or why not even the first.
func sysIOSubmit(t *kernel.Thread, a *args) (uint64, error) {
	n := int64(a.arg(1))
	if n < 0 {
		return 0, unix.EINVAL
	}
	c, err := aio.Find(t.MM(), a.arg(0))
	if err != nil {
		return 0, err
	}
	n = min(n, int64(c.Limit())+1)
	for i := range n {
		object, err := t.MM().ReadUint64(a.arg(2) + 8*uint64(i))
		if err == nil {
			err = submit(t, c, object)
		}
		if err != nil {
			if i > 0 {
				return uint64(i), nil
			}
			return 0, err
		}
	}
	return uint64(n), nil
}

// submit submits the iocb at object, and serves it unless it is a poll.
func submit(t *kernel.Thread, c *aio.Context, object uint64) error {
	var b [sizeofIOCB]byte
	if err := copyIn(t, b[:], object); err != nil {
		return err
	}
	if word(b[:], 48) != 0 || int64(word(b[:], 32)) < 0 { // aio_reserved2, aio_nbytes
		return unix.EINVAL
	}
	if err := c.Reserve(); err != nil {
		return err
	}
	if err := submitReserved(t, c, object, b[:]); err != nil {
		c.Forget()
		return err
	}
	return nil
}

func submitReserved(t *kernel.Thread, c *aio.Context, object uint64, b []byte) error {
	files := filesOf(t)
	d, err := files.Get(int32(halfword(b, 20)))
	if err != nil {
		return err
	}
	defer d.Decref()
	if d.PathOnly() {
		return unix.EBADF
	}
	var notify *vfs.Description
	if halfword(b, 56)&iocbFlagResFD != 0 {
		if notify, err = files.Get(int32(halfword(b, 60))); err != nil {
			return err
		}
		defer notify.Decref()
		if _, ok := notify.File().(event.Signaler); !ok {
			return unix.EINVAL
		}
	}
	if err := t.MM().WriteUint32(object+8, 0); err != nil { // aio_key
		return err
	}
	data := word(b, 0)
	if opcode := uint16(halfword(b, 16)); opcode == iocbPoll {
		mask := word(b, 24)
		if mask != uint64(uint16(mask)) || word(b, 40) != 0 || word(b, 32) != 0 || halfword(b, 12) != 0 {
			return unix.EINVAL
		}
		d.Incref()
		if notify != nil {
			notify.Incref()
		}
		if err := c.StartPoll(object, data, d, waiter.EventMask(mask)|alwaysReported, notify); err != nil {
			return err
		}
		return nil
	}
	result, err := serveIOCB(t, d, b)
	if err != nil {
		return err
	}
	var signaler event.Signaler
	if notify != nil {
		signaler = notify.File().(event.Signaler)
	}
	c.Complete(aio.Result{Data: data, Object: object, Res: result}, signaler)
	return nil
}

// serveIOCB does what b asks for. An error is one of submission; those of the operation are results.
func serveIOCB(t *kernel.Thread, d *vfs.Description, b []byte) (result int64, err error) {
	l := localOf(t)
	addr, length, off := word(b, 24), word(b, 32), int64(word(b, 40))
	opcode := uint16(halfword(b, 16))
	switch opcode {
	case iocbPread, iocbPreadv, iocbPwrite, iocbWritev:
	case iocbFsync, iocbFdsync:
		if addr != 0 || off != 0 || length != 0 || halfword(b, 12) != 0 {
			return 0, unix.EINVAL
		}
		return resultOf(0, d.Sync(opcode == iocbFdsync)), nil
	default:
		return 0, unix.EINVAL
	}
	flags := uint32(halfword(b, 12))
	if flags&^rwfKnown != 0 {
		return 0, unix.EOPNOTSUPP
	}
	writes := opcode == iocbPwrite || opcode == iocbWritev
	allowed := writes && d.Writable() || !writes && d.Readable()
	if !allowed {
		return 0, unix.EBADF
	}
	if opcode == iocbPreadv || opcode == iocbWritev {
		err = l.vector(t, addr, length)
	} else {
		err = l.user(t, allowed, addr, length)
	}
	if err != nil {
		return 0, err
	}
	n, err := l.transferred(t, d, vectorCall{writes: writes, at: d.Seekable(), flags: flags}, off)
	return resultOf(n, err), nil
}

// resultOf is how an event tells of success or failure. What would have started over hasn't.
func resultOf(n uint64, err error) int64 {
	switch e := err.(type) {
	case nil:
		return int64(n)
	case unix.Errno:
		if e >= kernel.ERESTARTSYS {
			e = unix.EINTR
		}
		return -int64(e)
	}
	return -int64(unix.EIO)
}

// io_cancel(2)
func sysIOCancel(t *kernel.Thread, a *args) (uint64, error) {
	key, err := t.MM().ReadUint32(a.arg(1) + 8)
	if err != nil {
		return 0, err
	}
	if key != 0 {
		return 0, unix.EINVAL
	}
	c, err := aio.Find(t.MM(), a.arg(0))
	if err != nil {
		return 0, err
	}
	if err := c.Cancel(a.arg(1)); err != nil {
		return 0, err
	}
	return 0, unix.EINPROGRESS // the event is on its way
}

// io_getevents(2)
func sysIOGetevents(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := deadlineAt(t, a.arg(4))
	if err != nil {
		return 0, err
	}
	n, err := ioEvents(t, a, deadline)
	if err == kernel.ERESTARTSYS {
		err = unix.EINTR
	}
	return n, err
}

// io_pgetevents(2): the last argument points to the address and the size of the signal set.
func sysIOPgetevents(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := deadlineAt(t, a.arg(4))
	if err != nil {
		return 0, err
	}
	set, size, err := maskAt(t, a.arg(5))
	if err != nil {
		return 0, err
	}
	return masked(t, set, size, func() (uint64, error) {
		n, err := ioEvents(t, a, deadline)
		if err == kernel.ERESTARTSYS {
			err = kernel.ERESTARTNOHAND
		}
		return n, err
	})
}

// ioEvents waits until it has the least number of events that is asked for.
func ioEvents(t *kernel.Thread, a *args, deadline kernel.Deadline) (uint64, error) {
	least, most := int64(a.arg(1)), int64(a.arg(2))
	c, err := aio.Find(t.MM(), a.arg(0))
	if err != nil {
		return 0, err
	}
	if least < 0 || least > most {
		return 0, unix.EINVAL
	}
	var room [8 * aio.EventSize]byte
	done := int64(0)
	for done < most {
		n, err := c.Take(room[:min(most-done, 8)*aio.EventSize])
		if err == nil && n > 0 {
			if err = copyOut(t, a.arg(3)+uint64(done)*aio.EventSize, room[:n*aio.EventSize]); err == nil {
				done += int64(n)
				continue
			}
		}
		if err == nil && done >= least {
			break
		}
		if err == nil {
			err = t.BlockOn(c, waiter.ReadableEvents, deadline)
		}
		if err == unix.ETIMEDOUT {
			break
		}
		if err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
	}
	return uint64(done), nil
}
