package unixsocket

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/net"
	"elver/vfs"
)

// address is a socket's name. It is immutable.
type address struct {
	raw  []byte    // struct sockaddr_un, with the NUL behind a path
	file vfs.Inode // of a path name
	key  string    // of an abstract name
}

// Names, guarded by links. Sockets of different types may have the same abstract name.
var (
	abstract = make(map[string]*Socket)
	files    = make(map[vfs.Inode]*Socket)
	lastAuto uint32
)

// unnamed is the name of a socket that has none.
var unnamed = binary.LittleEndian.AppendUint16(nil, unix.AF_UNIX)

func abstractKey(typ int, name []byte) string { return string(append([]byte{byte(typ)}, name...)) }

// checkAddress returns the part of a struct sockaddr_un behind the family: EINVAL.
func checkAddress(addr []byte) ([]byte, error) {
	if len(addr) <= 2 || len(addr) > sizeofAddress || binary.LittleEndian.Uint16(addr) != unix.AF_UNIX {
		return nil, unix.EINVAL
	}
	return addr[2:], nil
}

// pathOf returns the path in an address that isn't abstract: a final NUL is not needed (unix(7), BUGS).
func pathOf(name []byte) string {
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return string(name)
}

// Bind gives the socket a name: EINVAL if it has one, EADDRINUSE, and what the path walk returns. The
// family alone as address is an abstract name that the kernel chooses.
func (s *Socket) Bind(c *vfs.Context, addr []byte) error {
	if len(addr) == 2 && binary.LittleEndian.Uint16(addr) == unix.AF_UNIX {
		return s.autobind()
	}
	name, err := checkAddress(addr)
	if err != nil {
		return err
	}
	s.binding.Lock()
	defer s.binding.Unlock()
	if name[0] == 0 {
		return s.bind(&address{raw: bytes.Clone(addr), key: abstractKey(s.typ(), name)})
	}
	path := pathOf(name)
	at, err := c.Bind(path, 0o777)
	if err != nil {
		return err
	}
	raw := append(bytes.Clone(addr[:2]), path...)
	if err := s.bind(&address{raw: append(raw, 0), file: at.Inode()}); err != nil {
		c.Unlink(vfs.AtCWD, path)
		return err
	}
	return nil
}

func (s *Socket) bind(a *address) error {
	links.Lock()
	defer links.Unlock()
	if s.address.Load() != nil {
		return unix.EINVAL
	}
	if a.file != nil {
		files[a.file] = s
	} else {
		if abstract[a.key] != nil {
			return unix.EADDRINUSE
		}
		abstract[a.key] = s
	}
	s.address.Store(a)
	return nil
}

// unbind takes the name away from who looks for it; the socket still shows it. Precondition: links is held.
func (s *Socket) unbind() {
	a := s.address.Load()
	switch {
	case a == nil:
	case a.file != nil && files[a.file] == s:
		delete(files, a.file)
	case a.file == nil && abstract[a.key] == s:
		delete(abstract, a.key)
	}
}

// autobind chooses an abstract name of five hexadecimal digits, unless the socket has a name: ENOSPC.
func (s *Socket) autobind() error {
	s.binding.Lock()
	defer s.binding.Unlock()
	if s.address.Load() != nil {
		return nil
	}
	for range 1 << 20 {
		links.Lock()
		lastAuto = (lastAuto + 1) & 0xfffff
		n := lastAuto
		links.Unlock()
		name := fmt.Appendf([]byte{unix.AF_UNIX, 0, 0}, "%05x", n)
		if s.bind(&address{raw: name, key: abstractKey(s.typ(), name[2:])}) == nil {
			return nil
		}
	}
	return unix.ENOSPC
}

// nameForCredentials names a socket whose peers are to see who it is, as Linux does.
func (s *Socket) nameForCredentials() error {
	if s.On(unix.SO_PASSCRED) && s.address.Load() == nil {
		return s.autobind()
	}
	return nil
}

// find returns the socket with that address, for one of type typ: ECONNREFUSED, EPROTOTYPE, and what the
// path walk returns.
func find(c *vfs.Context, name []byte, typ int) (*Socket, error) {
	if name[0] == 0 {
		links.Lock()
		defer links.Unlock()
		if s := abstract[abstractKey(typ, name)]; s != nil {
			return s, nil
		}
		return nil, unix.ECONNREFUSED
	}
	i, err := c.FindSocket(pathOf(name))
	if err != nil {
		return nil, err
	}
	links.Lock()
	defer links.Unlock()
	s := files[i]
	if s == nil {
		return nil, unix.ECONNREFUSED
	}
	if s.typ() != typ {
		return nil, unix.EPROTOTYPE
	}
	return s, nil
}

// Listen makes the socket take connections, of which backlog may wait: EOPNOTSUPP, EINVAL.
func (s *Socket) Listen(c *vfs.Context, backlog int) error {
	if s.datagram() {
		return unix.EOPNOTSUPP
	}
	links.Lock()
	if state := s.state.Load(); s.address.Load() == nil || state != stateClosed && state != stateListening {
		links.Unlock()
		return unix.EINVAL
	}
	s.backlog.Store(int32(net.Backlog(backlog)))
	s.state.Store(stateListening)
	s.partner = net.Partner(c)
	links.Unlock()
	s.room.Notify(waiter.WritableEvents)
	return nil
}

// Connect connects the socket to the one with that address, or a datagram socket with the family AF_UNSPEC
// to none. EAGAIN: too many connections wait to be accepted there.
func (s *Socket) Connect(c *vfs.Context, addr []byte) (waiter.Waitable, error) {
	if s.datagram() {
		return nil, s.connectDatagram(c, addr)
	}
	name, err := checkAddress(addr)
	if err != nil {
		return nil, err
	}
	if err := s.nameForCredentials(); err != nil {
		return nil, err
	}
	for {
		other, err := find(c, name, s.typ())
		if err != nil {
			return nil, err
		}
		err = s.connectTo(c, other)
		switch err {
		case nil:
			other.queue.Notify(waiter.ReadableEvents)
			s.queue.Notify(writable)
		case unix.EAGAIN:
			return (*room)(other), err
		case errGone:
			continue
		}
		return nil, err
	}
}

// errGone says that a socket was closed since it was found.
const errGone = unix.ESTALE

func (s *Socket) connectTo(c *vfs.Context, other *Socket) error {
	links.Lock()
	defer links.Unlock()
	if other.dead.Load() {
		return errGone
	}
	if other.state.Load() != stateListening || other.shut.Load()&shutReceive != 0 {
		return unix.ECONNREFUSED
	}
	if other.full() {
		return unix.EAGAIN
	}
	switch s.state.Load() {
	case stateConnected:
		return unix.EISCONN
	case stateListening:
		return unix.EINVAL
	}
	e, err := newSocket(s.typ())
	if err != nil {
		return err
	}
	e.embryo.Store(true)
	e.address.Store(other.address.Load())
	e.partner, s.partner = net.Partner(c), other.partner
	e.peer.Store(s)
	s.peer.Store(e)
	e.state.Store(stateConnected)
	s.state.Store(stateConnected)
	other.accepts = append(other.accepts, e)
	other.pending.Store(int32(len(other.accepts)))
	return nil
}

// Accept takes the connection that waits longest: EOPNOTSUPP, EINVAL, EAGAIN.
func (s *Socket) Accept(*vfs.Context) (net.Socket, error) {
	if s.datagram() {
		return nil, unix.EOPNOTSUPP
	}
	links.Lock()
	if s.state.Load() != stateListening {
		links.Unlock()
		return nil, unix.EINVAL
	}
	if len(s.accepts) == 0 {
		shut := s.shut.Load()
		links.Unlock()
		if shut&shutReceive != 0 {
			return nil, unix.EINVAL
		}
		return nil, unix.EAGAIN
	}
	full := s.full()
	e := s.accepts[0]
	s.accepts[0] = nil
	if s.accepts = s.accepts[1:]; len(s.accepts) == 0 {
		s.accepts = nil
	}
	s.pending.Store(int32(len(s.accepts)))
	e.embryo.Store(false)
	links.Unlock()
	if full {
		s.room.Notify(waiter.WritableEvents)
	}
	return e, nil
}

// connectDatagram sets where a datagram socket sends to and from whom alone it receives.
func (s *Socket) connectDatagram(c *vfs.Context, addr []byte) error {
	if len(addr) < 2 {
		return unix.EINVAL
	}
	var other *Socket
	if binary.LittleEndian.Uint16(addr) != unix.AF_UNSPEC {
		name, err := checkAddress(addr)
		if err != nil {
			return err
		}
		if err := s.nameForCredentials(); err != nil {
			return err
		}
		if other, err = find(c, name, unix.SOCK_DGRAM); err != nil {
			return err
		}
	}
	links.Lock()
	if other != nil && (other.dead.Load() || s.dead.Load()) {
		links.Unlock()
		return unix.ECONNREFUSED
	}
	if other != nil && !maySend(s, other) {
		links.Unlock()
		return unix.EPERM
	}
	old := s.peer.Load()
	s.peer.Store(other)
	s.setRelay(other)
	if other != nil {
		s.state.Store(stateConnected)
		s.partner = other.partner
	} else {
		s.state.Store(stateClosed)
	}
	links.Unlock()
	if old != nil && old != other {
		s.disconnected(old)
	}
	s.queue.Notify(writable)
	return nil
}

// maySend says whether the datagram socket other takes messages of s: not if it is connected to somebody
// else.
func maySend(s, other *Socket) bool {
	p := other.peer.Load()
	return p == nil || p == s
}

// disconnected throws away what old sent, and tells it so if it was connected back.
func (s *Socket) disconnected(old *Socket) {
	if s.in.count.Load() == 0 {
		return
	}
	rights := s.in.empty(false)
	s.room.Notify(waiter.WritableEvents)
	discard(rights)
	if !old.dead.Load() && old.peer.Load() == s {
		old.Error.Store(int32(unix.ECONNRESET))
		old.queue.Notify(waiter.EventErr)
	}
}

// Name appends the socket's address.
func (s *Socket) Name(to []byte) ([]byte, error) { return s.appendName(to), nil }

func (s *Socket) appendName(to []byte) []byte {
	if a := s.address.Load(); a != nil {
		return append(to, a.raw...)
	}
	return append(to, unnamed...)
}

// Peer appends the address of the socket that this one is connected to: ENOTCONN.
func (s *Socket) Peer(to []byte) ([]byte, error) {
	p := s.peer.Load()
	if p == nil {
		return nil, unix.ENOTCONN
	}
	return p.appendName(to), nil
}
