package syscall

import (
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/net"
	"elver/vfs"
)

// socketRoom is what a thread keeps for its calls on sockets.
type socketRoom struct {
	message net.Message
	address [net.MaxAddress]byte
	control [2048]byte // more than any message that is received carries
	option  [net.MaxOption]byte
}

func (l *local) socketRoom() *socketRoom {
	if l.sockets == nil {
		l.sockets = new(socketRoom)
	}
	return l.sockets
}

// socketOf returns the socket of a descriptor, with a reference to its description: EBADF, ENOTSOCK.
func socketOf(c *vfs.Context, number int32) (*vfs.Description, net.Socket, error) {
	d, err := c.Get(number)
	if err != nil {
		return nil, nil, err
	}
	if d.PathOnly() {
		d.Decref()
		return nil, nil, unix.EBADF
	}
	s, err := net.Of(d)
	if err != nil {
		d.Decref()
		return nil, nil, err
	}
	return d, s, nil
}

// withSocket calls f with the socket of a descriptor.
func withSocket(t *kernel.Thread, number int32, f func(c *vfs.Context, d *vfs.Description, s net.Socket) error) (uint64, error) {
	c := filesOf(t)
	d, s, err := socketOf(c, number)
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	return 0, f(c, d, s)
}

// typeFlags takes SOCK_NONBLOCK and SOCK_CLOEXEC off a type: EINVAL for other flags.
func typeFlags(v uint32) (typ int, flags uint32, err error) {
	const mask = 0xf // SOCK_TYPE_MASK
	flags = v &^ mask
	if flags&^(unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0 {
		return 0, 0, unix.EINVAL
	}
	return int(v & mask), flags, nil
}

func newSocketFile(c *vfs.Context, s net.Socket, flags uint32) *vfs.Description {
	d := vfs.NewSocket(s, unix.O_RDWR|flags&unix.O_NONBLOCK) // SOCK_NONBLOCK is O_NONBLOCK
	net.Track(s, net.Owner{Inode: d.Inode().Ino(), UID: c.Creds.EUID})
	return d
}

// socket(2)
func sysSocket(t *kernel.Thread, a *args) (uint64, error) {
	typ, flags, err := typeFlags(a.uint(1))
	if err != nil {
		return 0, err
	}
	c := filesOf(t)
	s, err := net.New(c, int(a.int(0)), typ, int(a.int(2)))
	if err != nil {
		return 0, err
	}
	return install(t, newSocketFile(c, s, flags), nil, flags&unix.SOCK_CLOEXEC != 0)
}

// socketpair(2)
func sysSocketpair(t *kernel.Thread, a *args) (uint64, error) {
	typ, flags, err := typeFlags(a.uint(1))
	if err != nil {
		return 0, err
	}
	c := filesOf(t)
	one, two, err := net.NewPair(c, int(a.int(0)), typ, int(a.int(2)))
	if err != nil {
		return 0, err
	}
	return 0, installPair(t, c, newSocketFile(c, one, flags), newSocketFile(c, two, flags), flags&unix.SOCK_CLOEXEC != 0, a.arg(3))
}

// addressAt reads a socket address: EINVAL if it is too long, EFAULT.
func (l *local) addressAt(t *kernel.Thread, addr uint64, length int32) ([]byte, error) {
	if length < 0 || length > net.MaxAddress {
		return nil, unix.EINVAL
	}
	b := l.socketRoom().address[:length]
	return b, copyIn(t, b, addr)
}

// giveAddress writes a socket address to addr, where there is room for as many bytes as the int at
// lengthAt says, and its length to there: EFAULT, EINVAL.
func giveAddress(t *kernel.Thread, addr, lengthAt uint64, address []byte) error {
	room, err := t.MM().ReadUint32(lengthAt)
	if err != nil {
		return err
	}
	if int32(room) < 0 {
		return unix.EINVAL
	}
	// A stream says no address: then not even a bad place for it is touched.
	if b := address[:min(int(room), len(address))]; len(b) > 0 {
		if err := copyOut(t, addr, b); err != nil {
			return err
		}
	}
	return t.MM().WriteUint32(lengthAt, uint32(len(address)))
}

// bind(2)
func sysBind(t *kernel.Thread, a *args) (uint64, error) {
	return withSocket(t, a.int(0), func(c *vfs.Context, _ *vfs.Description, s net.Socket) error {
		addr, err := localOf(t).addressAt(t, a.arg(1), a.int(2))
		if err != nil {
			return err
		}
		return s.Bind(c, addr)
	})
}

// connect(2)
func sysConnect(t *kernel.Thread, a *args) (uint64, error) {
	return withSocket(t, a.int(0), func(c *vfs.Context, d *vfs.Description, s net.Socket) error {
		addr, err := localOf(t).addressAt(t, a.arg(1), a.int(2))
		if err != nil {
			return err
		}
		_, timeout := s.Timeouts()
		w := ioWait{timeout: timeout}
		for {
			on, err := s.Connect(c, addr)
			if err != unix.EAGAIN && err != unix.EINPROGRESS && err != unix.EALREADY || d.NonBlocking() {
				return err
			}
			if on == nil {
				on = d
			}
			if e := w.on(t, on, waiter.WritableEvents); e == unix.EAGAIN {
				return err // the time is over
			} else if e != nil {
				return e
			}
		}
	})
}

// listen(2)
func sysListen(t *kernel.Thread, a *args) (uint64, error) {
	return withSocket(t, a.int(0), func(c *vfs.Context, _ *vfs.Description, s net.Socket) error {
		return s.Listen(c, int(a.int(1)))
	})
}

// accept(2)
func sysAccept(t *kernel.Thread, a *args) (uint64, error) { return accept(t, a, 0) }

// accept4(2)
func sysAccept4(t *kernel.Thread, a *args) (uint64, error) { return accept(t, a, a.uint(3)) }

func accept(t *kernel.Thread, a *args, flags uint32) (uint64, error) {
	if flags&^(unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0 {
		return 0, unix.EINVAL
	}
	c := filesOf(t)
	d, s, err := socketOf(c, a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	// A connection stays in the queue if there is no descriptor for it.
	if uint64(c.Files.Table().Used()) >= t.Proc.Limits.Soft(unix.RLIMIT_NOFILE) {
		return 0, unix.EMFILE
	}
	timeout, _ := s.Timeouts()
	w := ioWait{timeout: timeout}
	var got net.Socket
	for {
		if got, err = s.Accept(c); err != unix.EAGAIN || d.NonBlocking() {
			break
		}
		// A connection is for one of those who wait.
		if err = w.on(t, d, waiter.ReadableEvents|waitq.Exclusive); err != nil {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	file := newSocketFile(c, got, flags)
	if a.arg(1) != 0 {
		peer := got.Peer
		if a, ok := got.(net.Accepted); ok {
			peer = a.From
		}
		address, err := peer(localOf(t).socketRoom().address[:0])
		if err != nil {
			err = unix.ECONNABORTED
		} else {
			err = giveAddress(t, a.arg(1), a.arg(2), address)
		}
		if err != nil {
			file.Decref()
			return 0, err
		}
	}
	return install(t, file, nil, flags&unix.SOCK_CLOEXEC != 0)
}

// getsockname(2)
func sysGetsockname(t *kernel.Thread, a *args) (uint64, error) {
	return withSocket(t, a.int(0), func(_ *vfs.Context, _ *vfs.Description, s net.Socket) error {
		address, err := s.Name(localOf(t).socketRoom().address[:0])
		if err != nil {
			return err
		}
		return giveAddress(t, a.arg(1), a.arg(2), address)
	})
}

// getpeername(2)
func sysGetpeername(t *kernel.Thread, a *args) (uint64, error) {
	return withSocket(t, a.int(0), func(_ *vfs.Context, _ *vfs.Description, s net.Socket) error {
		address, err := s.Peer(localOf(t).socketRoom().address[:0])
		if err != nil {
			return err
		}
		return giveAddress(t, a.arg(1), a.arg(2), address)
	})
}

// shutdown(2)
func sysShutdown(t *kernel.Thread, a *args) (uint64, error) {
	return withSocket(t, a.int(0), func(_ *vfs.Context, _ *vfs.Description, s net.Socket) error {
		return s.Shutdown(int(a.int(1)))
	})
}

// optionRoom returns room for so many bytes of an option's value, as far as they are looked at.
func optionRoom(t *kernel.Thread, a *args, size int) []byte {
	size = min(size, net.OptionSize(int(a.int(1)), int(a.int(2))))
	if size > net.MaxOption {
		return make([]byte, size)
	}
	return localOf(t).socketRoom().option[:size]
}

// setsockopt(2)
func sysSetsockopt(t *kernel.Thread, a *args) (uint64, error) {
	length := a.int(4)
	if length < 0 {
		return 0, unix.EINVAL
	}
	return withSocket(t, a.int(0), func(c *vfs.Context, _ *vfs.Description, s net.Socket) error {
		value := optionRoom(t, a, int(length))
		if err := copyIn(t, value, a.arg(3)); err != nil {
			return err
		}
		return s.SetOption(c, int(a.int(1)), int(a.int(2)), value)
	})
}

// getsockopt(2)
func sysGetsockopt(t *kernel.Thread, a *args) (uint64, error) {
	return withSocket(t, a.int(0), func(c *vfs.Context, _ *vfs.Description, s net.Socket) error {
		room, err := t.MM().ReadUint32(a.arg(4))
		if err != nil {
			return err
		}
		if int32(room) < 0 {
			return unix.EINVAL
		}
		value := optionRoom(t, a, max(int(room), net.MaxOption))
		clear(value)
		if asks, all := net.OptionAsks(int(a.int(1)), int(a.int(2))); asks > 0 {
			if all && int(room) < asks {
				return unix.EINVAL
			}
			if err := copyIn(t, value[:min(int(room), asks)], a.arg(3)); err != nil {
				return err
			}
		}
		n, err := s.Option(c, int(a.int(1)), int(a.int(2)), value)
		if err != nil {
			return err
		}
		n = min(n, int(room))
		if err := copyOut(t, a.arg(3), value[:n]); err != nil {
			return err
		}
		return t.MM().WriteUint32(a.arg(4), uint32(n))
	})
}

// linger gives back the reference to a socket whose descriptor was closed. With the last one it waits for
// what the socket has yet to send, if SO_LINGER asks for that; a signal ends the wait.
func linger(t *kernel.Thread, d *vfs.Description, s net.Socket) {
	defer d.Decref()
	l, ok := s.(net.Lingerer)
	if !ok || d.Refs() != 1 {
		return
	}
	w, atMost := l.Linger()
	if w == nil {
		return
	}
	// Not all of a connection's states are announced: look again now and then.
	const glance = 5 * time.Millisecond
	for over := kernel.After(atMost); !over.Passed(); {
		if t.BlockOn(w, waiter.WritableEvents, kernel.After(min(glance, over.Left()))) != unix.ETIMEDOUT {
			return
		}
	}
}

// ioWait is the waiting of one call for a file, which timeout ends, in nanoseconds from the first wait;
// 0: none.
type ioWait struct {
	timeout  int64
	begun    bool
	deadline kernel.Deadline
}

// on waits until what is ready: EAGAIN when the time is over, ERESTARTSYS, or EINTR when there is a timeout
// (signal(7)).
func (w *ioWait) on(t *kernel.Thread, what waiter.Waitable, mask waiter.EventMask) error {
	if w.timeout == 0 {
		return t.BlockOn(what, mask, kernel.Never)
	}
	if !w.begun {
		w.begun, w.deadline = true, kernel.After(time.Duration(w.timeout))
	}
	switch err := t.BlockOn(what, mask, w.deadline); err {
	case unix.ETIMEDOUT:
		return unix.EAGAIN
	case kernel.ERESTARTSYS:
		return unix.EINTR
	default:
		return err
	}
}

// waitForFile waits until d can be read or written, a socket no longer than SO_RCVTIMEO and SO_SNDTIMEO say.
func waitForFile(t *kernel.Thread, d *vfs.Description, mask waiter.EventMask) error {
	if !d.Socket() {
		return t.Await(d, mask, kernel.Never)
	}
	s, ok := d.File().(net.Socket)
	if !ok {
		return t.Await(d, mask, kernel.Never)
	}
	receive, send := s.Timeouts()
	w := ioWait{timeout: receive}
	if mask == waiter.WritableEvents {
		w.timeout = send
	}
	return w.on(t, d, mask)
}

// hasBrokenPipe says whether EPIPE after done bytes comes with SIGPIPE: not on sockets that send messages,
// nor when some bytes went.
func hasBrokenPipe(d *vfs.Description, done uint64) bool {
	s, ok := d.File().(net.Socket)
	if !ok {
		return true
	}
	_, typ, _ := s.Kind()
	return typ == unix.SOCK_STREAM && done == 0
}

// sendto(2)
func sysSendto(t *kernel.Thread, a *args) (uint64, error) {
	if err := mm.UserRange(a.arg(1), a.arg(2)); err != nil {
		return 0, err
	}
	c := filesOf(t)
	d, s, err := socketOf(c, a.int(0))
	if err != nil {
		return 0, err
	}
	l := localOf(t)
	m := l.newMessage(int(a.int(3)))
	n := uint64(0)
	if a.arg(4) != 0 {
		m.Address, err = l.addressAt(t, a.arg(4), a.int(5))
	}
	if err == nil {
		l.buffer = mm.UserBuffer1(t.MM(), a.arg(1), min(a.arg(2), maxIO))
		n, err = l.send(t, d, s, m)
	}
	d.Decref()
	return n, err
}

// recvfrom(2)
func sysRecvfrom(t *kernel.Thread, a *args) (uint64, error) {
	if err := mm.UserRange(a.arg(1), a.arg(2)); err != nil {
		return 0, err
	}
	c := filesOf(t)
	d, s, err := socketOf(c, a.int(0))
	if err != nil {
		return 0, err
	}
	l := localOf(t)
	m := l.newMessage(int(a.int(3)))
	if a.arg(4) != 0 {
		m.Address = l.socketRoom().address[:0]
	}
	l.buffer = mm.UserBuffer1(t.MM(), a.arg(1), min(a.arg(2), maxIO))
	n, err := l.receive(t, d, s, m)
	d.Decref()
	if err == nil && a.arg(4) != 0 {
		err = giveAddress(t, a.arg(4), a.arg(5), m.Address)
	}
	return n, err
}

// newMessage returns the thread's message, empty.
func (l *local) newMessage(flags int) *net.Message {
	m := &l.socketRoom().message
	*m = net.Message{Flags: flags}
	return m
}

// send sends the buffer, all of it unless the socket is non-blocking, a signal comes or time is over.
func (l *local) send(t *kernel.Thread, d *vfs.Description, s net.Socket, m *net.Message) (uint64, error) {
	if d.NonBlocking() {
		m.Flags |= unix.MSG_DONTWAIT
	}
	var w ioWait
	done := uint64(0)
	for {
		n, err := s.Send(&l.files, &l.buffer, m)
		done += uint64(n)
		if err == nil {
			if n == 0 || l.buffer.Len() == 0 {
				m.Drop()
				return done, nil
			}
			continue
		}
		if err == unix.EAGAIN && m.Flags&unix.MSG_DONTWAIT == 0 {
			on := m.Wait
			if m.Wait = nil; on == nil {
				on = d
			}
			_, w.timeout = s.Timeouts()
			if err = w.on(t, on, waiter.WritableEvents); err == nil {
				continue
			}
		}
		m.Drop()
		if done > 0 {
			return done, nil
		}
		if err == unix.EPIPE && m.Flags&unix.MSG_NOSIGNAL == 0 && hasBrokenPipe(d, 0) {
			brokenPipe(t)
		}
		return 0, err
	}
}

// receive receives into the buffer, and waits for the first byte, or with MSG_WAITALL for all.
func (l *local) receive(t *kernel.Thread, d *vfs.Description, s net.Socket, m *net.Message) (uint64, error) {
	if d.NonBlocking() {
		m.Flags |= unix.MSG_DONTWAIT
	}
	m.Got = m.Flags & unix.MSG_CMSG_CLOEXEC
	var w ioWait
	var over error // why a wait for more ended
	done := uint64(0)
	for {
		m.More = false
		n, err := s.Recv(&l.files, &l.buffer, m)
		if err == nil {
			done += uint64(n)
			if !m.More {
				return done, nil
			}
			m.Continued = true
			continue
		}
		if err == unix.EAGAIN && m.Flags&unix.MSG_DONTWAIT == 0 {
			on := m.Wait
			if m.Wait = nil; on == nil {
				on = d
			}
			w.timeout, _ = s.Timeouts()
			err = w.on(t, on, waiter.ReadableEvents)
			if on != d && (err == unix.EAGAIN || err == unix.EINTR || err == kernel.ERESTARTSYS) {
				over, err = err, nil // with what there is
				m.Flags |= unix.MSG_DONTWAIT
			}
			if err == nil {
				continue
			}
		}
		if done > 0 {
			return done, nil
		}
		if over != nil && err == unix.EAGAIN {
			err = over
		}
		return 0, err
	}
}

// Offsets in struct msghdr, and the sizes of it and of struct mmsghdr.
const (
	messageName, messageNameLength       = 0, 8
	messageVector, messageVectorLength   = 16, 24
	messageControl, messageControlLength = 32, 40
	messageFlagsAt                       = 48
	sizeofMessage, sizeofMessages        = 56, 64
)

// messageAt reads a struct msghdr, sets the buffer to what its iovec names, and returns its bytes: EFAULT,
// EINVAL, EMSGSIZE.
func (l *local) messageAt(t *kernel.Thread, addr uint64) ([]byte, error) {
	b := l.bytes[:sizeofMessage]
	if err := copyIn(t, b, addr); err != nil {
		return nil, err
	}
	if int32(halfword(b, messageNameLength)) < 0 {
		return nil, unix.EINVAL
	}
	count := word(b, messageVectorLength)
	if count > maxSegments {
		return nil, unix.EMSGSIZE
	}
	return b, l.vector(t, word(b, messageVector), count)
}

// sendmsg(2)
func sysSendmsg(t *kernel.Thread, a *args) (uint64, error) {
	c := filesOf(t)
	d, s, err := socketOf(c, a.int(0))
	if err != nil {
		return 0, err
	}
	n, err := localOf(t).sendMessage(t, d, s, a.arg(1), int(a.int(2)))
	d.Decref()
	return n, err
}

func (l *local) sendMessage(t *kernel.Thread, d *vfs.Description, s net.Socket, addr uint64, flags int) (uint64, error) {
	b, err := l.messageAt(t, addr)
	if err != nil {
		return 0, err
	}
	m := l.newMessage(flags)
	if name := word(b, messageName); name != 0 {
		if m.Address, err = l.addressAt(t, name, int32(min(halfword(b, messageNameLength), net.MaxAddress))); err != nil {
			return 0, err
		}
	}
	if n := word(b, messageControlLength); n != 0 {
		if n > net.MaxControl {
			return 0, unix.ENOBUFS
		}
		m.Control = l.socketRoom().control[:0]
		if n > uint64(cap(m.Control)) {
			m.Control = make([]byte, 0, n)
		}
		m.Control = m.Control[:n]
		if err := copyIn(t, m.Control, word(b, messageControl)); err != nil {
			return 0, err
		}
	}
	return l.send(t, d, s, m)
}

// recvmsg(2)
func sysRecvmsg(t *kernel.Thread, a *args) (uint64, error) {
	c := filesOf(t)
	d, s, err := socketOf(c, a.int(0))
	if err != nil {
		return 0, err
	}
	n, err := localOf(t).receiveMessage(t, d, s, a.arg(1), int(a.int(2)))
	d.Decref()
	return n, err
}

func (l *local) receiveMessage(t *kernel.Thread, d *vfs.Description, s net.Socket, addr uint64, flags int) (uint64, error) {
	b, err := l.messageAt(t, addr)
	if err != nil {
		return 0, err
	}
	name, nameRoom := word(b, messageName), int(halfword(b, messageNameLength))
	control, controlRoom := word(b, messageControl), word(b, messageControlLength)
	room := l.socketRoom()
	m := l.newMessage(flags)
	if name != 0 {
		m.Address = room.address[:0]
	}
	m.Room.Bytes = room.control[:0]
	if control != 0 {
		m.Room.Size = int(min(controlRoom, uint64(len(room.control))))
	}
	n, err := l.receive(t, d, s, m)
	if err != nil {
		return 0, err
	}
	if name != 0 {
		if err := copyOut(t, name, m.Address[:min(nameRoom, len(m.Address))]); err != nil {
			return 0, err
		}
		if err := t.MM().WriteUint32(addr+messageNameLength, uint32(len(m.Address))); err != nil {
			return 0, err
		}
	}
	if len(m.Room.Bytes) > 0 {
		if err := copyOut(t, control, m.Room.Bytes); err != nil {
			return 0, err
		}
	}
	if err := t.MM().WriteUint32(addr+messageFlagsAt, uint32(m.Got)); err != nil {
		return 0, err
	}
	return n, t.MM().WriteUint64(addr+messageControlLength, uint64(len(m.Room.Bytes)))
}

// sendmmsg(2)
func sysSendmmsg(t *kernel.Thread, a *args) (uint64, error) {
	c := filesOf(t)
	d, s, err := socketOf(c, a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	count := min(a.uint(2), maxSegments)
	for i := range uint64(count) {
		addr := a.arg(1) + i*sizeofMessages
		n, err := localOf(t).sendMessage(t, d, s, addr, int(a.int(3)))
		if err == nil {
			err = t.MM().WriteUint32(addr+sizeofMessage, uint32(n))
		}
		if err != nil {
			if i > 0 {
				return i, nil
			}
			return 0, err
		}
		if t.Interrupted() {
			return i + 1, nil
		}
	}
	return uint64(count), nil
}

// recvmmsg(2): the timeout is looked at after each message only (BUGS there).
func sysRecvmmsg(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := deadlineAt(t, a.arg(4))
	if err != nil {
		return 0, err
	}
	c := filesOf(t)
	d, s, err := socketOf(c, a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	flags := int(a.int(3))
	got := uint64(0)
	for got < uint64(a.uint(2)) {
		addr := a.arg(1) + got*sizeofMessages
		var n uint64
		if n, err = localOf(t).receiveMessage(t, d, s, addr, flags&^unix.MSG_WAITFORONE); err != nil {
			break
		}
		if err = t.MM().WriteUint32(addr+sizeofMessage, uint32(n)); err != nil {
			break
		}
		got++
		if flags&unix.MSG_WAITFORONE != 0 {
			flags |= unix.MSG_DONTWAIT
		}
		if deadline.Passed() || t.Interrupted() {
			break
		}
	}
	if got > 0 {
		err = nil
	}
	return got, giveTimeLeft(t, a.arg(4), deadline, 1, err)
}
