// Package netlink is AF_NETLINK of the protocols NETLINK_ROUTE (rtnetlink(7)), for interfaces, addresses,
// routes and neighbours, which of them change being announced, and NETLINK_SOCK_DIAG (sock_diag(7)), for
// sockets of AF_INET and AF_INET6.
//
// The package's only lock, Socket.mu, is a leaf, and nothing is copied from or to a program under it.
package netlink

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
	"elver/net/inet"
	"elver/vfs"
)

const (
	sizeofAddress = 12 // struct sockaddr_nl
	sizeofHeader  = 16 // struct nlmsghdr
	// maxRequest is how much of what a program sends is looked at, in bytes.
	maxRequest = 32 << 10
	// maxQueued is how many datagrams may wait to be received.
	maxQueued = 64
	// datagramSize is about how long a part of a dump is: programs have room for a page.
	datagramSize = 3500
)

// Family makes the sockets of AF_NETLINK.
type Family struct{ Network *inet.Network }

// others numbers the sockets whose process has one already.
var others atomic.Int32

// Socket makes a socket: EPROTONOSUPPORT for all but NETLINK_ROUTE, ESOCKTNOSUPPORT.
func (f Family) Socket(_ *vfs.Context, typ, protocol int) (net.Socket, error) {
	if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	if protocol != unix.NETLINK_ROUTE && protocol != unix.NETLINK_SOCK_DIAG {
		return nil, unix.EPROTONOSUPPORT
	}
	s := &Socket{network: f.Network}
	s.Init(unix.AF_NETLINK, typ, protocol)
	return s, nil
}

// Pair refuses.
func (Family) Pair(*vfs.Context, int, int) (net.Socket, net.Socket, error) {
	return nil, nil, unix.EOPNOTSUPP
}

// Socket is a socket of AF_NETLINK.
type Socket struct {
	net.Base
	network *inet.Network
	queue   waiter.Queue

	mu       sync.Mutex // guards what follows
	port     uint32     // 0: not bound
	groups   uint32
	received [][]byte
}

// Seekable says no.
func (s *Socket) Seekable() bool { return false }

// Release drops what was not received.
func (s *Socket) Release() {
	s.Untrack()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = nil
}

// Readiness says what the socket is ready for.
func (s *Socket) Readiness(mask waiter.EventMask) waiter.EventMask {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := waiter.WritableEvents
	if len(s.received) > 0 {
		r |= waiter.ReadableEvents
	}
	if s.Error.Load() != 0 {
		r |= waiter.EventErr
	}
	return r & mask
}

// EventRegister has e told of changes.
func (s *Socket) EventRegister(e *waiter.Entry) error {
	s.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (s *Socket) EventUnregister(e *waiter.Entry) { s.queue.EventUnregister(e) }

// parseAddress reads a struct sockaddr_nl.
func parseAddress(b []byte) (port, groups uint32, err error) {
	if len(b) < sizeofAddress || binary.LittleEndian.Uint16(b) != unix.AF_NETLINK {
		return 0, 0, unix.EINVAL
	}
	return binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]), nil
}

func appendAddress(to []byte, port, groups uint32) []byte {
	to = append(to, unix.AF_NETLINK, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(to, port), groups)
}

// Bind is bind(2): EINVAL.
func (s *Socket) Bind(c *vfs.Context, addr []byte) error {
	port, groups, err := parseAddress(addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.port != 0 && port != 0 && port != s.port {
		return unix.EINVAL
	}
	if port != 0 {
		s.port = port
	}
	s.groups = groups
	s.autobind(c)
	return nil
}

// autobind gives the socket a number. Precondition: mu is held.
func (s *Socket) autobind(c *vfs.Context) {
	if s.port != 0 {
		return
	}
	if s.port = uint32(net.PID(c)); s.port == 0 || others.Add(1) > 1 {
		s.port = uint32(-4096 - others.Load())
	}
}

// Connect takes the kernel's address: EINVAL.
func (s *Socket) Connect(c *vfs.Context, addr []byte) (waiter.Waitable, error) {
	port, _, err := parseAddress(addr)
	if err == nil && port != 0 {
		err = unix.ECONNREFUSED
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.autobind(c)
	return nil, err
}

// Listen refuses.
func (*Socket) Listen(*vfs.Context, int) error { return unix.EOPNOTSUPP }

// Accept refuses.
func (*Socket) Accept(*vfs.Context) (net.Socket, error) { return nil, unix.EOPNOTSUPP }

// Shutdown refuses.
func (*Socket) Shutdown(int) error { return unix.EOPNOTSUPP }

// Name appends the socket's address.
func (s *Socket) Name(to []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return appendAddress(to, s.port, s.groups), nil
}

// Peer appends the kernel's address.
func (s *Socket) Peer(to []byte) ([]byte, error) { return appendAddress(to, 0, 0), nil }

// SetOption takes the options of netlink(7), which all ask for more words or fewer.
func (s *Socket) SetOption(c *vfs.Context, level, name int, value []byte) error {
	if level != unix.SOL_NETLINK {
		return s.Base.SetOption(c, level, name, value)
	}
	switch name {
	case unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_DROP_MEMBERSHIP:
		if len(value) < 4 {
			return unix.EINVAL
		}
		group := binary.LittleEndian.Uint32(value)
		if group == 0 || group > 32 { // of those from 33 up, nothing is told here
			if group == 0 || group > maxGroup {
				return unix.EINVAL
			}
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if bit := uint32(1) << (group - 1); name == unix.NETLINK_ADD_MEMBERSHIP {
			s.groups |= bit
		} else {
			s.groups &^= bit
		}
		return nil
	}
	return nil
}

// maxGroup is the last group of rtnetlink (RTNLGRP_MAX).
const maxGroup = 38

// announce sends a message to the sockets of NETLINK_ROUTE that are in a group. A socket that doesn't
// receive learns by ENOBUFS that it missed some.
func announce(group uint32, message []byte) {
	for _, e := range net.Open(unix.AF_NETLINK) {
		s, ok := e.Socket.(*Socket)
		if !ok {
			continue
		}
		if _, _, protocol := s.Kind(); protocol != unix.NETLINK_ROUTE {
			continue
		}
		s.mu.Lock()
		wants, full := s.groups>>(group-1)&1 != 0, len(s.received) >= maxQueued
		s.mu.Unlock()
		switch {
		case wants && full:
			s.Error.Store(int32(unix.ENOBUFS))
			s.queue.Notify(waiter.EventErr)
		case wants:
			s.put([][]byte{message})
		}
	}
}

// Ioctl answers the requests about interfaces.
func (*Socket) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	return net.InterfaceIoctl(c, request, arg)
}

// Write is send without flags.
func (s *Socket) Write(c *vfs.Context, src *mm.Buffer, _ int64) (int, error) {
	var m net.Message
	return s.Send(c, src, &m)
}

// Read is recv without flags.
func (s *Socket) Read(c *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	var m net.Message
	return s.Recv(c, dst, &m)
}

// Send answers requests: EMSGSIZE, ENOBUFS when too many answers wait, ECONNREFUSED for an address that
// isn't the kernel's.
func (s *Socket) Send(c *vfs.Context, src *mm.Buffer, m *net.Message) (int, error) {
	if len(m.Address) > 0 {
		if port, _, err := parseAddress(m.Address); err != nil {
			return 0, err
		} else if port != 0 {
			return 0, unix.ECONNREFUSED
		}
	}
	m.Control = nil
	n := src.Len()
	if n > maxRequest {
		return 0, unix.EMSGSIZE
	}
	p := make([]byte, n)
	if _, err := src.CopyIn(p); err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.autobind(c)
	port, waiting := s.port, len(s.received)
	s.mu.Unlock()
	if waiting >= maxQueued {
		return 0, unix.ENOBUFS
	}
	for len(p) >= sizeofHeader {
		length := int(binary.LittleEndian.Uint32(p))
		if length < sizeofHeader || length > len(p) {
			break
		}
		a := answer{port: port, request: p[:length], mayChange: c.Creds.HasCap(unix.CAP_NET_ADMIN), uid: uint32(c.Creds.EUID)}
		if _, _, protocol := s.Kind(); protocol == unix.NETLINK_SOCK_DIAG {
			a.diagnose(s.network)
		} else {
			a.serve(s.network)
		}
		s.put(a.parts())
		p = p[min((length+3)&^3, len(p)):]
	}
	return n, nil
}

// Deliver queues a datagram of the kernel's own: false if too many wait already. mq_notify(3) with
// SIGEV_THREAD listens to a socket for its notification.
func (s *Socket) Deliver(datagram []byte) bool {
	s.mu.Lock()
	full := len(s.received) >= maxQueued
	s.mu.Unlock()
	if !full {
		s.put([][]byte{datagram})
	}
	return !full
}

// put queues datagrams.
func (s *Socket) put(parts [][]byte) {
	if len(parts) == 0 {
		return
	}
	s.mu.Lock()
	s.received = append(s.received, parts...)
	s.mu.Unlock()
	s.queue.Notify(waiter.ReadableEvents)
}

// Recv receives a datagram: EAGAIN.
func (s *Socket) Recv(_ *vfs.Context, dst *mm.Buffer, m *net.Message) (int, error) {
	if err := s.TakeError(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	if len(s.received) == 0 {
		s.mu.Unlock()
		return 0, unix.EAGAIN
	}
	p := s.received[0]
	if m.Flags&unix.MSG_PEEK == 0 {
		s.received = s.received[1:]
	}
	s.mu.Unlock()
	n := min(len(p), dst.Len())
	if _, err := dst.CopyOut(p[:n]); err != nil {
		return 0, err
	}
	if m.Address != nil {
		m.Address = appendAddress(m.Address, 0, 0)
	}
	if n < len(p) {
		m.Got |= unix.MSG_TRUNC
		if m.Flags&unix.MSG_TRUNC != 0 {
			return len(p), nil
		}
	}
	return n, nil
}
