package syscall

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"elver/net"
	"elver/net/unixsocket"
)

func init() { net.Register(unix.AF_UNIX, unixsocket.Family{}) }

// int32s puts ints.
func (p *program) int32s(v ...int32) uint64 {
	var b []byte
	for _, w := range v {
		b = binary.LittleEndian.AppendUint32(b, uint32(w))
	}
	return p.put(b)
}

// sockaddr puts an address of AF_UNIX.
func (p *program) sockaddr(path string) uint64 {
	return p.put(append([]byte{unix.AF_UNIX, 0}, path...))
}

// pair makes two connected sockets.
func (p *program) pair(typ uint64) (a, b uint64) {
	p.Helper()
	at := p.room(8)
	p.want(0, unix.SYS_SOCKETPAIR, unix.AF_UNIX, typ, 0, at)
	raw := p.get(at, 8)
	return uint64(halfword(raw, 0)), uint64(halfword(raw, 4))
}

func TestSockets(t *testing.T) {
	p := start(t)
	p.want(unix.EAFNOSUPPORT, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	p.want(unix.EFAULT, unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, badAddress)
	a, b := p.pair(unix.SOCK_STREAM)
	buf, text := p.room(64), p.text("hello")
	p.want(unix.EFAULT, unix.SYS_SENDTO, a, badAddress, 5, 0, 0, 0)
	p.want(unix.EFAULT, unix.SYS_SENDTO, a, 1<<63, 5, 0, 0, 0)
	p.want(unix.EINVAL, unix.SYS_SENDTO, a, text, 5, 0, text, 200)
	p.want(5, unix.SYS_SENDTO, a, text, 5, 0, 0, 0)
	p.want(unix.EFAULT, unix.SYS_RECVFROM, b, badAddress, 5, 0, 0, 0)
	p.want(5, unix.SYS_RECVFROM, b, buf, 64, 0, 0, 0)
	p.want(unix.EAGAIN, unix.SYS_RECVFROM, b, buf, 64, unix.MSG_DONTWAIT, 0, 0)
	// SIGPIPE is for streams alone.
	p.want(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, p.words(1<<(uint64(unix.SIGPIPE)-1)), 0, 8)
	q, r := p.pair(unix.SOCK_SEQPACKET)
	p.want(0, unix.SYS_CLOSE, r)
	p.want(unix.EPIPE, unix.SYS_WRITE, q, text, 5)
	pending := p.room(8)
	p.want(0, unix.SYS_RT_SIGPENDING, pending, 8)
	if word(p.get(pending, 8), 0) != 0 {
		t.Error("SIGPIPE for a packet")
	}
	p.want(0, unix.SYS_SHUTDOWN, a, unix.SHUT_WR)
	p.want(unix.EPIPE, unix.SYS_SENDTO, a, text, 5, unix.MSG_NOSIGNAL, 0, 0)
	p.want(0, unix.SYS_RT_SIGPENDING, pending, 8)
	if word(p.get(pending, 8), 0) != 0 {
		t.Error("SIGPIPE in spite of MSG_NOSIGNAL")
	}
	p.want(unix.EPIPE, unix.SYS_WRITE, a, text, 5)
	p.want(0, unix.SYS_RT_SIGPENDING, pending, 8)
	if word(p.get(pending, 8), 0) == 0 {
		t.Error("no SIGPIPE")
	}
	x, y := p.pair(unix.SOCK_DGRAM)
	if n := testing.AllocsPerRun(100, func() {
		p.call(unix.SYS_SENDTO, x, text, 5, 0, 0, 0)
		p.call(unix.SYS_RECVFROM, y, buf, 64, 0, 0, 0)
		p.call(unix.SYS_WRITE, x, text, 5)
		p.call(unix.SYS_READ, y, buf, 64)
	}); n != 0 {
		t.Errorf("a datagram costs %v allocations", n)
	}
}

// The wanted lines are what strace 6.1 prints for the same calls on Linux.
func TestStraceSockets(t *testing.T) {
	lines := traced(t, func(p *program) {
		buf, one := p.room(100), p.int32s(1)
		name := p.sockaddr("/sck\x00")
		room := func(n int32) uint64 { return p.int32s(n) }
		out := p.room(110)
		p.call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		p.call(unix.SYS_BIND, 0, name, 7)
		p.call(unix.SYS_LISTEN, 0, 5)
		p.call(unix.SYS_GETSOCKNAME, 0, out, room(110))
		p.call(unix.SYS_GETSOCKNAME, 0, out, room(2))
		p.call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
		p.call(unix.SYS_CONNECT, 1, name, 7)
		p.call(unix.SYS_ACCEPT4, 0, out, room(110), unix.SOCK_CLOEXEC)
		p.call(unix.SYS_ACCEPT, 1, 0, 0)
		p.call(unix.SYS_GETPEERNAME, 0, out, room(14))
		p.call(unix.SYS_SENDTO, 1, p.text("hello\n"), 6, unix.MSG_NOSIGNAL, 0, 0)
		p.call(unix.SYS_RECVFROM, 2, buf, 100, unix.MSG_DONTWAIT, 0, 0)
		p.call(unix.SYS_SHUTDOWN, 1, unix.SHUT_WR)
		p.call(unix.SYS_SHUTDOWN, 1, 9)
		p.call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0, out)
		p.call(unix.SYS_SETSOCKOPT, 3, unix.SOL_SOCKET, unix.SO_PASSCRED, one, 4)
		p.call(unix.SYS_SETSOCKOPT, 3, unix.SOL_TCP, unix.TCP_NODELAY, one, 4)
		p.call(unix.SYS_SETSOCKOPT, 3, unix.SOL_SOCKET, unix.SO_LINGER, p.int32s(1, 5), 8)
		p.call(unix.SYS_SETSOCKOPT, 3, unix.SOL_SOCKET, unix.SO_RCVTIMEO, p.words(1, 500000), 16)
		p.call(unix.SYS_GETSOCKOPT, 3, unix.SOL_SOCKET, unix.SO_TYPE, buf, room(8))
		p.call(unix.SYS_GETSOCKOPT, 3, unix.SOL_SOCKET, 9999, buf, room(4))
		p.call(unix.SYS_GETSOCKOPT, 3, unix.SOL_SOCKET, unix.SO_PEERCRED, buf, room(12))
		p.call(unix.SYS_GETSOCKOPT, 3, unix.SOL_SOCKET, unix.SO_SNDBUF, buf, room(1))
		iov := p.words(p.text("ab"), 2, p.text("cd"), 2)
		control := p.int32s(24, 0, unix.SOL_SOCKET, unix.SCM_RIGHTS, 1, 2)
		p.call(unix.SYS_SENDMSG, 4, p.words(0, 0, iov, 2, control, 24, 0), unix.MSG_NOSIGNAL)
		in := p.words(out, 110, p.words(buf, 3), 1, p.room(100), 100, 0)
		p.call(unix.SYS_RECVMSG, 3, in, unix.MSG_CMSG_CLOEXEC)
		p.call(unix.SYS_RECVMSG, 3, in, 0)
		p.call(unix.SYS_SENDMMSG, 4, p.words(0, 0, iov, 1, 0, 0, 0, 0, 0, 0, iov+16, 1, 0, 0, 0, 0), 2, unix.MSG_DONTWAIT)
		two := p.words(p.room(10), 10, p.room(10), 10)
		p.call(unix.SYS_RECVMMSG, 3, p.words(0, 0, two, 1, 0, 0, 0, 0, 0, 0, two+16, 1, 0, 0, 0, 0), 2, unix.MSG_WAITFORONE, 0)
		p.call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		p.call(unix.SYS_BIND, 7, p.sockaddr("\x00abs\x01x"), 8)
		p.call(unix.SYS_SENDTO, 4, p.text("hi"), 2, 0, p.sockaddr("\x00abs\x01x"), 8)
		p.call(unix.SYS_BIND, 7, 0, 0)
		p.call(unix.SYS_BIND, 7, p.put([]byte{unix.AF_INET, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}), 16)
		p.call(unix.SYS_BIND, 7, p.put([]byte{unix.AF_INET6, 0, 0, 80, 23: 1, 27: 0}), 28)
		p.call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP)
		p.call(unix.SYS_SENDMSG, 4, 8, 0)
	})
	checkLines(t, lines,
		`socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 0`,
		`bind(0, {sa_family=AF_UNIX, sun_path="/sck"}, 7) = 0`,
		`listen(0, 5)                            = 0`,
		`getsockname(0, {sa_family=AF_UNIX, sun_path="/sck"}, [110 => 7]) = 0`,
		`getsockname(0, {sa_family=AF_UNIX}, [2 => 7]) = 0`,
		`socket(AF_UNIX, SOCK_STREAM, 0)         = 1`,
		`connect(1, {sa_family=AF_UNIX, sun_path="/sck"}, 7) = 0`,
		`accept4(0, {sa_family=AF_UNIX}, [110 => 2], SOCK_CLOEXEC) = 2`,
		`accept(1, NULL, NULL)                   = -1 EINVAL (Invalid argument)`,
		`getpeername(0, §, [14])           = -1 ENOTCONN (Transport endpoint is not connected)`,
		`sendto(1, "hello\n", 6, MSG_NOSIGNAL, NULL, 0) = 6`,
		`recvfrom(2, "hello\n", 100, MSG_DONTWAIT, NULL, NULL) = 6`,
		`shutdown(1, SHUT_WR)                    = 0`,
		`shutdown(1, 0x9 /* SHUT_??? */)         = -1 EINVAL (Invalid argument)`,
		`socketpair(AF_UNIX, SOCK_DGRAM|SOCK_NONBLOCK, 0, [3, 4]) = 0`,
		`setsockopt(3, SOL_SOCKET, SO_PASSCRED, [1], 4) = 0`,
		`setsockopt(3, SOL_TCP, TCP_NODELAY, [1], 4) = -1 EOPNOTSUPP (Operation not supported)`,
		`setsockopt(3, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=5}, 8) = 0`,
		`setsockopt(3, SOL_SOCKET, SO_RCVTIMEO_OLD, "\1\0\0\0\0\0\0\0 \241\7\0\0\0\0\0", 16) = 0`,
		`getsockopt(3, SOL_SOCKET, SO_TYPE, [2], [8 => 4]) = 0`,
		`getsockopt(3, SOL_SOCKET, 0x270f /* SO_??? */, §, [4]) = -1 ENOPROTOOPT (Protocol not available)`,
		`getsockopt(3, SOL_SOCKET, SO_PEERCRED, {pid=1, uid=0, gid=0}, [12]) = 0`,
		`getsockopt(3, SOL_SOCKET, SO_SNDBUF, "\x00", [1]) = 0`,
		`sendmsg(4, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="ab", iov_len=2}, {iov_base="cd", iov_len=2}], msg_iovlen=2, msg_control=[{cmsg_len=24, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[1, 2]}], msg_controllen=24, msg_flags=0}, MSG_NOSIGNAL) = 4`,
		`recvmsg(3, {msg_name=§, msg_namelen=110 => 0, msg_iov=[{iov_base="abc", iov_len=3}], msg_iovlen=1, msg_control=[{cmsg_len=28, cmsg_level=SOL_SOCKET, cmsg_type=SCM_CREDENTIALS, cmsg_data={pid=1, uid=0, gid=0}}, {cmsg_len=24, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[5, 6]}], msg_controllen=56, msg_flags=MSG_TRUNC|MSG_CMSG_CLOEXEC}, MSG_CMSG_CLOEXEC) = 3`,
		`recvmsg(3, {msg_namelen=0}, 0)          = -1 EAGAIN (Resource temporarily unavailable)`,
		`sendmmsg(4, [{msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="ab", iov_len=2}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, msg_len=2}, {msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="cd", iov_len=2}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, msg_len=2}], 2, MSG_DONTWAIT) = 2`,
		`recvmmsg(3, [{msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="ab", iov_len=10}], msg_iovlen=1, msg_controllen=0, msg_flags=MSG_CTRUNC}, msg_len=2}, {msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="cd", iov_len=10}], msg_iovlen=1, msg_controllen=0, msg_flags=MSG_CTRUNC}, msg_len=2}], 2, MSG_WAITFORONE, NULL) = 2`,
		`socket(AF_UNIX, SOCK_DGRAM, 0)          = 7`,
		`bind(7, {sa_family=AF_UNIX, sun_path=@"abs\1x"}, 8) = 0`,
		`sendto(4, "hi", 2, 0, {sa_family=AF_UNIX, sun_path=@"abs\1x"}, 8) = 2`,
		`bind(7, NULL, 0)                        = -1 EINVAL (Invalid argument)`,
		`bind(7, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EINVAL (Invalid argument)`,
		`bind(7, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = -1 EINVAL (Invalid argument)`,
		`socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = -1 EAFNOSUPPORT (Address family not supported by protocol)`,
		`sendmsg(4, 0x8, 0)                      = -1 EFAULT (Bad address)`,
	)
}
