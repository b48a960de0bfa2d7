package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/vfs"
)

// Sizes of buffers (socket(7)): net.core.wmem_default and wmem_max unless they are set, and the least that
// SO_SNDBUF and SO_RCVBUF set. forcedBuffer bounds what a privileged program may ask for.
const (
	defaultBuffer = 212992
	minSend       = 4608
	minReceive    = 2304
	forcedBuffer  = 64 << 20
)

// Base is what sockets of all families have: the options of level SOL_SOCKET. Embed it and call Init.
type Base struct {
	family        atomic.Int32
	typ, protocol int

	// SendBuffer and ReceiveBuffer are SO_SNDBUF and SO_RCVBUF, in bytes.
	SendBuffer, ReceiveBuffer atomic.Int32
	// Error is SO_ERROR: what the next operation fails with.
	Error atomic.Int32
	// LowWater is SO_RCVLOWAT.
	LowWater atomic.Int32
	// flags are the options that are on or off, bit N for option N.
	flags [2]atomic.Uint64

	receiveTimeout, sendTimeout atomic.Int64 // in nanoseconds, 0: none

	// PeekOffset is SO_PEEK_OFF: where a peek begins, negative: at the start, always. A socket that knows it
	// handles the option by SetPeekOffset.
	PeekOffset atomic.Int32
	filter     atomic.Pointer[Filter]

	tracked tracked // guarded by trackMu

	mu       sync.Mutex
	lingerOn uint32 // guarded by mu
	linger   uint32 // in seconds, guarded by mu
	priority uint32 // guarded by mu
	mark     uint32 // guarded by mu
}

// Init sets what socket(2) was called with.
func (b *Base) Init(family, typ, protocol int) {
	b.family.Store(int32(family))
	b.typ, b.protocol = typ, protocol
	b.SendBuffer.Store(sendDefault.Load())
	b.ReceiveBuffer.Store(receiveDefault.Load())
	b.LowWater.Store(1)
	b.PeekOffset.Store(-1)
}

// Inherit makes b, of a connection, what the listening socket from is.
func (b *Base) Inherit(from *Base) {
	b.Init(from.Kind())
	b.SendBuffer.Store(from.SendBuffer.Load())
	b.ReceiveBuffer.Store(from.ReceiveBuffer.Load())
	b.LowWater.Store(from.LowWater.Load())
	for i := range b.flags {
		b.flags[i].Store(from.flags[i].Load())
	}
	b.receiveTimeout.Store(from.receiveTimeout.Load())
	b.sendTimeout.Store(from.sendTimeout.Load())
	b.PeekOffset.Store(from.PeekOffset.Load())
	from.mu.Lock()
	defer from.mu.Unlock()
	b.lingerOn, b.linger, b.priority, b.mark = from.lingerOn, from.linger, from.priority, from.mark
}

// anyLingers says that SO_LINGER was ever set.
var anyLingers atomic.Bool

// AnyLingers says whether a close has to look for sockets that linger.
func AnyLingers() bool { return anyLingers.Load() }

// Kind returns what Init was called with.
func (b *Base) Kind() (family, typ, protocol int) { return b.Family(), b.typ, b.protocol }

// Family is the first of Kind.
func (b *Base) Family() int { return int(b.family.Load()) }

// Timeouts returns SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds; 0: none.
func (b *Base) Timeouts() (receive, send int64) {
	return b.receiveTimeout.Load(), b.sendTimeout.Load()
}

// On says whether an option that is on or off is on.
func (b *Base) On(option int) bool { return b.flags[option/64].Load()>>(option%64)&1 != 0 }

// TakeError returns the pending error and clears it.
func (b *Base) TakeError() error {
	if b.Error.Load() == 0 {
		return nil
	}
	if e := b.Error.Swap(0); e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// noTimeout is a timeout that has run out already: the socket doesn't block.
const noTimeout = 1

// timeoutOf reads a struct timeval, as Linux's sock_set_timeout does.
func timeoutOf(value []byte) (int64, error) {
	if len(value) < 16 {
		return 0, unix.EINVAL
	}
	sec, usec := int64(binary.LittleEndian.Uint64(value)), int64(binary.LittleEndian.Uint64(value[8:]))
	switch {
	case usec < 0 || usec >= 1e6:
		return 0, unix.EDOM
	case sec < 0:
		return noTimeout, nil
	case sec >= 1<<32:
		return 0, nil
	}
	return sec*1e9 + usec*1e3, nil
}

func putTimeout(value []byte, ns int64) int {
	if ns == noTimeout {
		ns = 0
	}
	binary.LittleEndian.PutUint64(value, uint64(ns/1e9))
	binary.LittleEndian.PutUint64(value[8:], uint64(ns%1e9/1e3))
	return 16
}

// SetOption is SetOption of level SOL_SOCKET: ENOPROTOOPT for what no socket has.
func (b *Base) SetOption(c *vfs.Context, level, name int, value []byte) error {
	if level != unix.SOL_SOCKET {
		return unix.EOPNOTSUPP
	}
	if len(value) < 4 {
		return unix.EINVAL
	}
	v := int32(binary.LittleEndian.Uint32(value))
	switch name {
	case unix.SO_DEBUG:
		if v != 0 && !c.Creds.HasCap(unix.CAP_NET_ADMIN) {
			return unix.EACCES
		}
		b.set(name, v != 0)
	case unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_OOBINLINE, unix.SO_DONTROUTE,
		unix.SO_NO_CHECK, unix.SO_RXQ_OVFL, unix.SO_PASSSEC, unix.SO_ZEROCOPY, unix.SO_BUSY_POLL:
		b.set(name, v != 0)
	case unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS: // one replaces the other
		b.set(unix.SO_TIMESTAMP, false)
		b.set(unix.SO_TIMESTAMPNS, false)
		b.set(name, v != 0)
	case unix.SO_PASSCRED:
		if b.Family() != unix.AF_UNIX && b.Family() != unix.AF_NETLINK {
			return unix.EOPNOTSUPP
		}
		b.set(name, v != 0)
	case unix.SO_SNDBUF:
		b.SendBuffer.Store(bufferSize(v, uint32(sendMost.Load()), minSend))
	case unix.SO_RCVBUF:
		b.ReceiveBuffer.Store(bufferSize(v, uint32(receiveMost.Load()), minReceive))
	case unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE:
		if !c.Creds.HasCap(unix.CAP_NET_ADMIN) {
			return unix.EPERM
		}
		if name == unix.SO_SNDBUFFORCE {
			b.SendBuffer.Store(bufferSize(max(v, 0), forcedBuffer, minSend))
		} else {
			b.ReceiveBuffer.Store(bufferSize(max(v, 0), forcedBuffer, minReceive))
		}
	case unix.SO_RCVLOWAT:
		if v < 0 {
			v = 1<<31 - 1
		}
		b.LowWater.Store(max(v, 1))
	case unix.SO_RCVTIMEO, unix.SO_SNDTIMEO:
		ns, err := timeoutOf(value)
		if err != nil {
			return err
		}
		if name == unix.SO_RCVTIMEO {
			b.receiveTimeout.Store(ns)
		} else {
			b.sendTimeout.Store(ns)
		}
	case unix.SO_LINGER:
		if len(value) < 8 {
			return unix.EINVAL
		}
		if v != 0 {
			anyLingers.Store(true)
		}
		b.mu.Lock()
		b.lingerOn, b.linger = min(uint32(v), 1), binary.LittleEndian.Uint32(value[4:])
		b.mu.Unlock()
	case unix.SO_PRIORITY, unix.SO_MARK:
		if !c.Creds.HasCap(unix.CAP_NET_RAW) && !c.Creds.HasCap(unix.CAP_NET_ADMIN) && (name == unix.SO_MARK || v < 0 || v > 6) {
			return unix.EPERM
		}
		b.mu.Lock()
		if name == unix.SO_MARK {
			b.mark = uint32(v)
		} else {
			b.priority = uint32(v)
		}
		b.mu.Unlock()
	case unix.SO_PEEK_OFF:
		return unix.EOPNOTSUPP
	case unix.SO_TYPE, unix.SO_PROTOCOL, unix.SO_DOMAIN, unix.SO_ERROR, unix.SO_ACCEPTCONN:
		return unix.ENOPROTOOPT
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

// bufferSize doubles the size that a program asks for, as Linux does for its own bookkeeping. A
// negative one is large, as there.
func bufferSize(v int32, most uint32, least int32) int32 {
	return max(int32(2*min(uint32(v), most, forcedBuffer)), least)
}

func (b *Base) set(option int, on bool) {
	if on {
		b.flags[option/64].Or(1 << (option % 64))
	} else {
		b.flags[option/64].And(^(uint64(1) << (option % 64)))
	}
}

// Option is Option of level SOL_SOCKET. The families answer SO_ACCEPTCONN, SO_PEERCRED and their like.
// Precondition: value has room for MaxOption bytes.
func (b *Base) Option(c *vfs.Context, level, name int, value []byte) (int, error) {
	if level != unix.SOL_SOCKET {
		return 0, unix.EOPNOTSUPP
	}
	v := uint32(0)
	switch name {
	case unix.SO_DEBUG, unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_OOBINLINE, unix.SO_DONTROUTE,
		unix.SO_NO_CHECK, unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_RXQ_OVFL, unix.SO_PASSSEC, unix.SO_ZEROCOPY, unix.SO_BUSY_POLL:
		if b.On(name) {
			v = 1
		}
	case unix.SO_PASSCRED:
		if b.Family() != unix.AF_UNIX && b.Family() != unix.AF_NETLINK {
			return 0, unix.EOPNOTSUPP
		}
		if b.On(name) {
			v = 1
		}
	case unix.SO_SNDBUF:
		v = uint32(b.SendBuffer.Load())
	case unix.SO_RCVBUF:
		v = uint32(b.ReceiveBuffer.Load())
	case unix.SO_RCVLOWAT:
		v = uint32(b.LowWater.Load())
	case unix.SO_SNDLOWAT:
		v = 1
	case unix.SO_RCVTIMEO:
		return putTimeout(value, b.receiveTimeout.Load()), nil
	case unix.SO_SNDTIMEO:
		return putTimeout(value, b.sendTimeout.Load()), nil
	case unix.SO_TYPE:
		v = uint32(b.typ)
	case unix.SO_DOMAIN:
		v = uint32(b.Family())
	case unix.SO_PROTOCOL:
		v = uint32(b.protocol)
	case unix.SO_ERROR:
		v = uint32(b.Error.Swap(0))
	case unix.SO_LINGER:
		b.mu.Lock()
		binary.LittleEndian.PutUint32(value, b.lingerOn)
		binary.LittleEndian.PutUint32(value[4:], b.linger)
		b.mu.Unlock()
		return 8, nil
	case unix.SO_PRIORITY, unix.SO_MARK:
		b.mu.Lock()
		v = b.priority
		if name == unix.SO_MARK {
			v = b.mark
		}
		b.mu.Unlock()
	case unix.SO_PEEK_OFF:
		return 0, unix.EOPNOTSUPP
	case unix.SO_LOCK_FILTER:
		if f := b.filter.Load(); f != nil && f.locked {
			v = 1
		}
	case unix.SO_ACCEPTCONN:
	case unix.SO_INCOMING_CPU:
	default:
		return 0, unix.ENOPROTOOPT
	}
	binary.LittleEndian.PutUint32(value, v)
	return 4, nil
}
