// Package net is sockets as system calls see them: what a protocol family implements, and the bytes
// of addresses, options and control messages that all families share.
//
// A Socket never blocks: unix.EAGAIN says that nothing could be done now, and the caller waits for the
// socket's readiness, where signals and timeouts are handled, as it does for every vfs.File.
// Addresses are the bytes of Linux's struct sockaddr.
//
// The package's locks, that of a Base and that of the list of open sockets, are leaves.
package net

import (
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/vfs"
)

// MaxAddress is the size of struct sockaddr_storage: no address is longer.
const MaxAddress = 128

// Socket is an open socket, of any family. A family embeds Base for what is the same in all.
type Socket interface {
	vfs.File
	vfs.Ioctler

	// Kind returns what socket(2) was called with.
	Kind() (family, typ, protocol int)
	// Timeouts returns SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds; 0: none.
	Timeouts() (receive, send int64)

	Bind(c *vfs.Context, addr []byte) error
	// Connect begins to connect, or says how it stands with that. EAGAIN: it can't begin now; the
	// caller asks again when wait is writable. EINPROGRESS, EALREADY: it goes on, and the caller
	// asks again when the socket is writable.
	Connect(c *vfs.Context, addr []byte) (wait waiter.Waitable, err error)
	Listen(c *vfs.Context, backlog int) error
	// Accept takes the first connection that waits: EAGAIN if none does.
	Accept(c *vfs.Context) (Socket, error)
	// Send sends from src, which may be a part of it on a stream. EAGAIN: there is no room;
	// see Message.Wait. EPIPE: nobody receives any more.
	Send(c *vfs.Context, src *mm.Buffer, m *Message) (int, error)
	// Recv receives into dst, and returns how many bytes came, or with MSG_TRUNC how long the
	// message is. EAGAIN: nothing is there. 0 without an error is the end of a stream.
	Recv(c *vfs.Context, dst *mm.Buffer, m *Message) (int, error)
	// Shutdown is shutdown(2): how is one of SHUT_RD, SHUT_WR and SHUT_RDWR.
	Shutdown(how int) error

	// Name and Peer append the address of the socket and of the one that it is connected to.
	Name(to []byte) ([]byte, error)
	Peer(to []byte) ([]byte, error)

	// SetOption is setsockopt(2), with no more of the value than MaxOption.
	SetOption(c *vfs.Context, level, name int, value []byte) error
	// Option is getsockopt(2): it fills value, and returns how much of it counts.
	Option(c *vfs.Context, level, name int, value []byte) (int, error)
}

// MaxOption is how much of an option's value is looked at, in bytes.
const MaxOption = 256

// sizeofGroupFilter is the size of a struct group_filter without sources, which are as large as each other address.
const sizeofGroupFilter, sizeofSource, maxSources = 144, 128, 64

// sizeofFilter is the size of a struct ip_msfilter without sources.
const sizeofFilter = 16

// OptionSize is how much of this option's value is looked at, in bytes, where that may be more than MaxOption.
func OptionSize(level, name int) int {
	if ip := level == unix.IPPROTO_IP || level == unix.IPPROTO_IPV6; ip && name >= unix.MCAST_JOIN_GROUP && name <= unix.MCAST_MSFILTER {
		return sizeofGroupFilter + maxSources*sizeofSource
	}
	return MaxOption
}

// OptionAsks returns how many bytes of its value getsockopt(2) reads first, and whether it takes no fewer.
func OptionAsks(level, name int) (size int, all bool) {
	switch {
	case level == unix.SOL_PACKET: // PACKET_HDRLEN is asked about what is there
		return 4, false
	case level == unix.IPPROTO_IP && name == unix.IP_MSFILTER:
		return sizeofFilter, true
	case (level == unix.IPPROTO_IP || level == unix.IPPROTO_IPV6) && name == unix.MCAST_MSFILTER:
		return sizeofGroupFilter, true
	}
	return 0, false
}

// Message is what goes with the bytes of a message.
type Message struct {
	// Flags are MSG_* of the call.
	Flags int
	// Address is where to send to, empty for the peer; or who sent it, appended to what the
	// caller passes and left alone by a socket that doesn't say.
	Address []byte
	// Control are the control messages to send. Send takes them away when it has read them, so
	// that a call repeated for the rest of the bytes doesn't send them again.
	Control []byte
	// Room is where received control messages go, and how much there is of it.
	Room ControlRoom
	// Got are MSG_* of the message that was received.
	Got int
	// More asks the caller to receive on before it returns: MSG_WAITALL or SO_RCVLOWAT isn't
	// satisfied yet.
	More bool
	// Continued says that this is such a going on: address and credentials are there already.
	Continued bool
	// Wait is what becomes writable when there is room, after EAGAIN of Send, or readable when there is
	// enough, after that of Recv; nil: the socket.
	Wait waiter.Waitable

	// Rights and Credentials were read from Control and are not sent yet.
	Rights         []*vfs.Description
	Credentials    unix.Ucred
	HasCredentials bool
}

// Drop gives back what a message holds that was not sent.
func (m *Message) Drop() {
	for _, d := range m.Rights {
		d.Decref()
	}
	m.Rights = nil
}

// Accepted is a socket that accept(2) may find to have lost its connection already: it tells the peer all the same.
type Accepted interface {
	// From appends the address that the connection came from.
	From(to []byte) ([]byte, error)
}

// Lingerer is a socket whose close may have to wait for what it has yet to send (SO_LINGER in socket(7)).
type Lingerer interface {
	// Linger closes the socket, before its Release, and returns what becomes ready when the close need
	// not wait any more, and how long to wait at most; nil if there is no reason to.
	Linger() (waiter.Waitable, time.Duration)
}

// Family makes the sockets of a protocol family. typ is SOCK_* without flags.
type Family interface {
	Socket(c *vfs.Context, typ, protocol int) (Socket, error)
	// Pair makes two sockets that are connected with each other: EOPNOTSUPP.
	Pair(c *vfs.Context, typ, protocol int) (a, b Socket, err error)
}

// Linux's numbers of families and types end before these.
const (
	maxFamily = 46
	maxType   = 11
)

var families [maxFamily]Family

// Register makes f the family AF_*. It is called before the first process starts.
func Register(number int, f Family) { families[number] = f }

var interfaces func(c *vfs.Context, request uint32, arg uint64) (uint64, error)

// RegisterInterfaces makes f answer the requests of netdevice(7). It is called before the first process
// starts.
func RegisterInterfaces(f func(c *vfs.Context, request uint32, arg uint64) (uint64, error)) {
	interfaces = f
}

// InterfaceIoctl answers the requests of netdevice(7), which sockets of all families take: ENOTTY for
// others.
func InterfaceIoctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	if interfaces == nil {
		return 0, unix.ENOTTY
	}
	return interfaces(c, request, arg)
}

// familyOf checks as socket(2) does: EAFNOSUPPORT, EINVAL.
func familyOf(family, typ int) (Family, error) {
	if family < 0 || family >= maxFamily {
		return nil, unix.EAFNOSUPPORT
	}
	if typ < 0 || typ >= maxType {
		return nil, unix.EINVAL
	}
	if families[family] == nil {
		return nil, unix.EAFNOSUPPORT
	}
	return families[family], nil
}

// New makes a socket (socket(2)): EAFNOSUPPORT, EINVAL, and the family's errors.
func New(c *vfs.Context, family, typ, protocol int) (Socket, error) {
	f, err := familyOf(family, typ)
	if err != nil {
		return nil, err
	}
	return f.Socket(c, typ, protocol)
}

// NewPair makes two connected sockets (socketpair(2)).
func NewPair(c *vfs.Context, family, typ, protocol int) (a, b Socket, err error) {
	f, err := familyOf(family, typ)
	if err != nil {
		return nil, nil, err
	}
	return f.Pair(c, typ, protocol)
}

// Of returns the socket that d is: ENOTSOCK if it is none.
func Of(d *vfs.Description) (Socket, error) {
	if s, ok := d.File().(Socket); ok {
		return s, nil
	}
	return nil, unix.ENOTSOCK
}
