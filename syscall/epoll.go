package syscall

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/runtime/metal"
	"elver/vfs"
	"elver/vfs/event"
)

// epoll_create(2): the size is only checked.
func sysEpollCreate(t *kernel.Thread, a *args) (uint64, error) {
	if a.int(0) <= 0 {
		return 0, unix.EINVAL
	}
	return newEpoll(t, 0)
}

// epoll_create1(2)
func sysEpollCreate1(t *kernel.Thread, a *args) (uint64, error) { return newEpoll(t, a.uint(0)) }

func newEpoll(t *kernel.Thread, flags uint32) (uint64, error) {
	d, err := event.NewEpoll(flags)
	return install(t, d, err, flags&unix.EPOLL_CLOEXEC != 0)
}

// install gives a new file its descriptor, unless err.
func install(t *kernel.Thread, d *vfs.Description, err error, cloexec bool) (uint64, error) {
	if err != nil {
		return 0, err
	}
	n, err := filesOf(t).Install(d, cloexec)
	return uint64(n), err
}

// epoll_ctl(2)
func sysEpollCtl(t *kernel.Thread, a *args) (uint64, error) {
	operation, number := a.int(1), a.int(2)
	var b [event.SizeofEvent]byte
	if operation != unix.EPOLL_CTL_DEL {
		if err := copyIn(t, b[:], a.arg(3)); err != nil {
			return 0, err
		}
	}
	c := &localOf(t).files
	ed, err := c.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	defer ed.Decref()
	d, err := c.Get(number)
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	if d.PathOnly() || ed.PathOnly() {
		return 0, unix.EBADF
	}
	e, err := event.EpollOf(ed)
	if err != nil || ed == d {
		return 0, unix.EINVAL
	}
	events, data := halfword(b[:], 0), word(b[:], 4)
	switch operation {
	case unix.EPOLL_CTL_ADD:
		return 0, e.Add(number, d, events, data)
	case unix.EPOLL_CTL_MOD:
		return 0, e.Modify(number, d, events, data)
	case unix.EPOLL_CTL_DEL:
		return 0, e.Delete(number, d)
	}
	return 0, unix.EINVAL
}

// epoll_wait(2)
func sysEpollWait(t *kernel.Thread, a *args) (uint64, error) {
	return epollWait(t, a, deadlineOfMS(a.int(3)))
}

// epoll_pwait(2)
func sysEpollPwait(t *kernel.Thread, a *args) (uint64, error) {
	return masked(t, a.arg(4), a.arg(5), func() (uint64, error) { return epollWait(t, a, deadlineOfMS(a.int(3))) })
}

// epoll_pwait2(2)
func sysEpollPwait2(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := deadlineAt(t, a.arg(3))
	if err != nil {
		return 0, err
	}
	return masked(t, a.arg(4), a.arg(5), func() (uint64, error) { return epollWait(t, a, deadline) })
}

// epollWait is the common part: the epoll, the array and its length are arguments 0 to 2. A signal ends
// it with EINTR whatever SA_RESTART says (signal(7)).
func epollWait(t *kernel.Thread, a *args, deadline kernel.Deadline) (uint64, error) {
	room := a.int(2)
	if room <= 0 || room > 1<<31/event.SizeofEvent {
		return 0, unix.EINVAL
	}
	l := localOf(t)
	d, err := l.files.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	e, err := event.EpollOf(d)
	if err != nil {
		return 0, err
	}
	for {
		if n, err := l.collect(t, e, a.arg(1), int(room)); n > 0 || err != nil {
			return n, err
		}
		if deadline.Passed() {
			return 0, nil
		}
		switch err := t.Await(d, waiter.ReadableEvents, deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			return 0, nil
		case kernel.ERESTARTSYS:
			return 0, unix.EINTR
		default:
			return 0, err
		}
	}
}

// epollPiece is how many events epoll_wait takes and writes at a time.
const epollPiece = 64

// epollRoom is where epoll_wait gathers a piece of the events.
type epollRoom struct {
	round event.Round
	bytes [epollPiece * event.SizeofEvent]byte
}

// collect writes what is ready to the program, and returns how many events that were. A fault
// loses the edge-triggered events of the piece that it happens in.
func (l *local) collect(t *kernel.Thread, e *event.Epoll, addr uint64, room int) (uint64, error) {
	if l.epoll == nil {
		l.epoll = new(epollRoom)
	}
	r := l.epoll
	r.round.Begin()
	done := 0
	for {
		piece := min(room-done, epollPiece)
		n := e.Collect(r.bytes[:piece*event.SizeofEvent], done+piece == room, &r.round)
		if n > 0 {
			if _, err := t.MM().CopyOut(addr+uint64(done)*event.SizeofEvent, r.bytes[:n*event.SizeofEvent]); err != nil {
				e.Finish(&r.round)
				if done > 0 {
					return uint64(done), nil
				}
				return 0, err
			}
			done += n
		}
		if n < piece || done == room {
			return uint64(done), nil
		}
		metal.CondResched()
	}
}
