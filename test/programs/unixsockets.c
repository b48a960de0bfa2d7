// AF_UNIX sockets: stream, datagram, seqpacket; names, control messages, waiting.
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

// musl's wrapper reads what it is given, bad pointers too.
#define sendmsg(fd, message, flags) syscall(SYS_sendmsg, fd, message, flags)

// The C library's versions look at what they pass on.
#define sendmsg(fd, message, flags) syscall(SYS_sendmsg, fd, message, flags)
#define recvmsg(fd, message, flags) syscall(SYS_recvmsg, fd, message, flags)
#define sendmmsg(fd, messages, n, flags) syscall(SYS_sendmmsg, fd, messages, n, flags)
#define recvmmsg(fd, messages, n, flags, time) syscall(SYS_recvmmsg, fd, messages, n, flags, time)

#ifndef SIOCOUTQ
#define SIOCOUTQ 0x5411
#endif

static int pair[2];
static volatile int pipes;

static void on_pipe(int sig)
{
	(void)sig;
	pipes++;
}

static int make_pair(int type)
{
	return socketpair(AF_UNIX, type, 0, pair);
}

static void close_pair(void)
{
	close(pair[0]);
	close(pair[1]);
}

static int poll_now(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

static socklen_t abstract_name(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "elver-%s-%d", name, (int)getpid());
	return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a->sun_path + 1);
}

static socklen_t path_name(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	snprintf(a->sun_path, sizeof a->sun_path, "/tmp/elver-%s-%d", name, (int)getpid());
	return sizeof *a;
}

static void arguments(void)
{
	int fd[2], *volatile nowhere = (int *)8;
	CHECK_ERR(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
	CHECK_ERR(socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
	CHECK_ERR(socket(AF_UNIX, 12, 0), EINVAL);
	CHECK_ERR(socket(AF_UNIX, 7, 0), ESOCKTNOSUPPORT);
	CHECK_ERR(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
	CHECK_ERR(socket(AF_UNIX, SOCK_STREAM, 5), EPROTONOSUPPORT);
	CHECK_ERR(socket(AF_UNIX, SOCK_STREAM | 0x100000, 0), EINVAL);
	CHECK_ERR(socketpair(AF_UNIX, SOCK_STREAM | 0x100000, 0, fd), EINVAL);
	CHECK_ERR(socketpair(AF_UNIX, SOCK_STREAM, 0, nowhere), EFAULT);
	CHECK_ERR(socketpair(AF_UNIX, SOCK_STREAM, 5, fd), EPROTONOSUPPORT);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, AF_UNIX);
	CHECK(s >= 0);
	CHECK_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(s, F_GETFL), O_RDWR | O_NONBLOCK);
	struct stat st;
	CHECK_EQ(fstat(s, &st), 0);
	CHECK(S_ISSOCK(st.st_mode));
	char b[8];
	CHECK_ERR(read(s, b, 1), EINVAL);
	CHECK_ERR(write(s, b, 1), ENOTCONN);
	CHECK_ERR(lseek(s, 0, SEEK_SET), ESPIPE);
	CHECK_ERR(pread(s, b, 1, 0), ESPIPE);
	CHECK_ERR(recv(s, b, 1, 0), EINVAL);
	CHECK_ERR(send(s, b, 1, MSG_NOSIGNAL), ENOTCONN);
	CHECK_ERR(listen(s, 1), EINVAL);
	CHECK_ERR(accept(s, 0, 0), EINVAL);
	CHECK_ERR(accept4(s, 0, 0, 1), EINVAL);
	CHECK_ERR(shutdown(s, 3), EINVAL);
	CHECK_ERR(shutdown(s, -1), EINVAL);
	struct sockaddr_un a;
	socklen_t len = sizeof a;
	CHECK_ERR(getpeername(s, (void *)&a, &len), ENOTCONN);
	CHECK_ERR(getsockname(s, (void *)&a, (void *)8), EFAULT);
	len = -1;
	CHECK_ERR(getsockname(s, (void *)&a, &len), EINVAL);
	len = sizeof a;
	CHECK_EQ(getsockname(s, (void *)&a, &len), 0);
	CHECK_EQ(len, 2);
	CHECK_EQ(a.sun_family, AF_UNIX);
	CHECK_ERR(bind(s, (void *)&a, 1), EINVAL);
	CHECK_ERR(bind(s, (void *)&a, sizeof a + 1), EINVAL);
	CHECK_ERR(bind(s, (void *)&a, 200), EINVAL);
	CHECK_ERR(bind(s, (void *)8, 20), EFAULT);
	a.sun_family = AF_INET;
	CHECK_ERR(bind(s, (void *)&a, sizeof a), EINVAL);
	CHECK_ERR(connect(s, (void *)&a, sizeof a), EINVAL);
	int z = open("/dev/null", O_RDWR);
	CHECK_ERR(send(z, b, 1, 0), ENOTSOCK);
	CHECK_ERR(recv(z, b, 1, 0), ENOTSOCK);
	CHECK_ERR(listen(z, 1), ENOTSOCK);
	CHECK_ERR(getsockopt(z, SOL_SOCKET, SO_TYPE, b, &len), ENOTSOCK);
	close(z);
	close(s);
	CHECK_ERR(send(s, b, 1, 0), EBADF);
	CHECK_ERR(bind(s, (void *)&a, sizeof a), EBADF);
	CHECK_EQ(make_pair(SOCK_STREAM), 0);
	CHECK_ERR(send(pair[0], (void *)8, 5, 0), EFAULT);
	struct msghdr m = {.msg_iovlen = 1025};
	CHECK_ERR(sendmsg(pair[0], &m, 0), EMSGSIZE);
	CHECK_ERR(recvmsg(pair[0], &m, 0), EMSGSIZE);
	CHECK_ERR(sendmsg(pair[0], (void *)8, 0), EFAULT);
	m.msg_iovlen = 0;
	m.msg_control = (void *)8;
	m.msg_controllen = 16;
	CHECK_ERR(sendmsg(pair[0], &m, 0), EFAULT);
	m.msg_controllen = 1 << 30;
	CHECK_ERR(sendmsg(pair[0], &m, 0), ENOBUFS);
	close_pair();
}

static void streams(void)
{
	char b[64];
	CHECK_EQ(make_pair(SOCK_STREAM), 0);
	CHECK_ERR(recv(pair[0], b, 1, MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(poll_now(pair[0]), POLLOUT);
	CHECK_EQ(send(pair[0], "hello", 5, 0), 5);
	CHECK_EQ(write(pair[0], " world", 6), 6);
	CHECK_EQ(poll_now(pair[1]), POLLIN | POLLOUT);
	int n = 0;
	CHECK_EQ(ioctl(pair[1], FIONREAD, &n), 0);
	CHECK_EQ(n, 11);
	CHECK_EQ(recv(pair[1], b, 3, MSG_PEEK), 3);
	CHECK_EQ(recv(pair[1], b, sizeof b, MSG_PEEK), 11);
	CHECK_EQ(recv(pair[1], b, 3, MSG_TRUNC), 3);
	CHECK_EQ(recv(pair[1], b, 0, 0), 0);
	CHECK_EQ(read(pair[1], b, 0), 0);
	CHECK_EQ(read(pair[1], b, sizeof b), 8);
	CHECK_EQ(memcmp(b, "lo world", 8), 0);
	struct iovec out[3] = {{"a", 1}, {"", 0}, {"bcd", 3}}, in[2] = {{b, 2}, {b + 10, 10}};
	CHECK_EQ(writev(pair[1], out, 3), 4);
	CHECK_EQ(readv(pair[0], in, 2), 4);
	CHECK(b[0] == 'a' && b[1] == 'b' && b[10] == 'c' && b[11] == 'd');
	CHECK_EQ(shutdown(pair[0], SHUT_WR), 0);
	CHECK_EQ(poll_now(pair[1]), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(read(pair[1], b, 1), 0);
	CHECK_EQ(send(pair[1], "x", 1, 0), 1);
	CHECK_EQ(read(pair[0], b, 1), 1);
	signal(SIGPIPE, on_pipe);
	pipes = 0;
	CHECK_ERR(send(pair[0], "x", 1, 0), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_ERR(write(pair[0], "x", 1), EPIPE);
	CHECK_EQ(pipes, 2);
	CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(pipes, 2);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	CHECK_ERR(sendto(pair[1], "x", 1, 0, (void *)&a, sizeof a), EISCONN);
	CHECK_EQ(shutdown(pair[1], SHUT_WR), 0);
	CHECK_EQ(poll_now(pair[1]), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
	close_pair();

	CHECK_EQ(make_pair(SOCK_STREAM), 0);
	CHECK_EQ(send(pair[0], "unread", 6, 0), 6);
	CHECK_EQ(send(pair[1], "left", 4, 0), 4);
	close(pair[1]);
	CHECK_EQ(poll_now(pair[0]), POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR);
	CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(recv(pair[0], b, 10, 0), 4);
	CHECK_ERR(recv(pair[0], b, 10, 0), ECONNRESET);
	CHECK_EQ(recv(pair[0], b, 10, 0), 0);
	close(pair[0]);
}

static void full_stream(void)
{
	static char b[100000];
	CHECK_EQ(make_pair(SOCK_STREAM | SOCK_NONBLOCK), 0);
	long sent = 0, n;
	while ((n = write(pair[0], b, sizeof b)) > 0)
		sent += n;
	CHECK_EQ(errno, EAGAIN);
	CHECK(sent > 100000 && sent < 1000000);
	CHECK_EQ(poll_now(pair[0]), 0);
	int queued = 0;
	CHECK_EQ(ioctl(pair[0], SIOCOUTQ, &queued), 0);
	CHECK(queued >= sent / 2);
	long got = 0;
	while (got < sent) {
		n = read(pair[1], b, sizeof b);
		CHECK(n > 0);
		got += n;
	}
	CHECK_EQ(poll_now(pair[0]), POLLOUT);
	close_pair();
}

static void packets(void)
{
	char b[64];
	CHECK_EQ(make_pair(SOCK_SEQPACKET), 0);
	CHECK_EQ(send(pair[0], "hello", 5, MSG_EOR), 5);
	CHECK_EQ(send(pair[0], "", 0, 0), 0);
	CHECK_EQ(send(pair[0], "world!", 6, 0), 6);
	struct iovec v = {b, 3};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	CHECK_EQ(recvmsg(pair[1], &m, MSG_PEEK), 3);
	CHECK_EQ(m.msg_flags, MSG_TRUNC);
	CHECK_EQ(recvmsg(pair[1], &m, MSG_TRUNC), 5);
	CHECK_EQ(m.msg_flags, MSG_TRUNC);
	CHECK_EQ(recv(pair[1], b, sizeof b, 0), 0);
	CHECK_EQ(recv(pair[1], b, sizeof b, 0), 6);
	CHECK_ERR(recv(pair[1], b, sizeof b, MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(send(pair[0], "last", 4, 0), 4);
	close(pair[0]);
	CHECK_EQ(recv(pair[1], b, sizeof b, 0), 4);
	CHECK_EQ(recv(pair[1], b, sizeof b, 0), 0);
	signal(SIGPIPE, on_pipe);
	pipes = 0;
	CHECK_ERR(send(pair[1], "x", 1, 0), EPIPE);
	CHECK_ERR(write(pair[1], "x", 1), EPIPE);
	CHECK_EQ(pipes, 0);
	close(pair[1]);
}

static void datagrams(void)
{
	static char big[300000];
	char b[64];
	CHECK_EQ(make_pair(SOCK_DGRAM), 0);
	CHECK_EQ(send(pair[0], "hello", 5, 0), 5);
	CHECK_EQ(send(pair[0], "yo", 2, 0), 2);
	int n = 0;
	CHECK_EQ(ioctl(pair[1], FIONREAD, &n), 0);
	CHECK_EQ(n, 5);
	CHECK_EQ(recv(pair[1], b, 2, 0), 2);
	CHECK_EQ(recv(pair[1], b, 64, 0), 2);
	CHECK_EQ(memcmp(b, "yo", 2), 0);
	CHECK_EQ(write(pair[0], b, 0), 0);
	CHECK_EQ(poll_now(pair[1]), POLLIN | POLLOUT);
	CHECK_EQ(recv(pair[1], b, 64, 0), 0);
	CHECK_ERR(send(pair[0], big, 212992 - 31, 0), EMSGSIZE);
	CHECK_EQ(send(pair[0], big, 212992 - 32, 0), 212992 - 32);
	CHECK_EQ(recv(pair[1], big, sizeof big, 0), 212992 - 32);
	// Only the sender's own limit counts between two that are connected with each other.
	n = 0;
	while (send(pair[0], b, 1, MSG_DONTWAIT) == 1)
		n++;
	CHECK_EQ(errno, EAGAIN);
	CHECK(n > 100 && n < 1000);
	CHECK_EQ(poll_now(pair[0]), 0);
	close(pair[1]);
	CHECK_ERR(send(pair[0], b, 1, 0), ECONNREFUSED);
	CHECK_ERR(send(pair[0], b, 1, 0), ENOTCONN);
	close(pair[0]);

	struct sockaddr_un server, client, from;
	socklen_t server_len = abstract_name(&server, "ds"), client_len = abstract_name(&client, "dc"), len;
	int s = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK_ERR(connect(c, (void *)&server, server_len), ECONNREFUSED);
	CHECK_ERR(sendto(c, b, 1, 0, (void *)&server, server_len), ECONNREFUSED);
	CHECK_EQ(bind(s, (void *)&server, server_len), 0);
	CHECK_EQ(bind(c, (void *)&client, client_len), 0);
	CHECK_EQ(sendto(c, "q", 1, 0, (void *)&server, server_len), 1);
	len = sizeof from;
	CHECK_EQ(recvfrom(s, b, 64, 0, (void *)&from, &len), 1);
	CHECK_EQ(len, client_len);
	CHECK_EQ(memcmp(&from, &client, len), 0);
	CHECK_EQ(sendto(s, "answer", 6, 0, (void *)&from, len), 6);
	CHECK_EQ(recv(c, b, 64, 0), 6);
	CHECK_EQ(connect(c, (void *)&server, server_len), 0);
	CHECK_EQ(connect(c, (void *)&server, server_len), 0);
	len = sizeof from;
	CHECK_EQ(getpeername(c, (void *)&from, &len), 0);
	CHECK_EQ(len, server_len);
	n = 0;
	while (send(c, b, 1, MSG_DONTWAIT) == 1)
		n++;
	CHECK_EQ(errno, EAGAIN);
	int limit = 10;
	FILE *f = fopen("/proc/sys/net/unix/max_dgram_qlen", "r");
	if (f && fscanf(f, "%d", &limit) == 1 && limit == 10)
		CHECK_EQ(n, 11);
	if (f)
		fclose(f);
	CHECK_EQ(poll_now(c), 0);
	int ep = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	CHECK_EQ(recv(s, b, 64, 0), 1);
	CHECK_EQ(epoll_wait(ep, &e, 1, 1000), 1);
	CHECK_EQ(poll_now(c), POLLOUT);
	close(ep);
	// Whoever is connected to another takes nothing from third parties.
	int third = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK_ERR(sendto(third, b, 1, 0, (void *)&client, client_len), EPERM);
	CHECK_ERR(connect(third, (void *)&client, client_len), EPERM);
	close(third);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	CHECK_EQ(connect(c, &none, sizeof none), 0);
	CHECK_ERR(send(c, b, 1, 0), ENOTCONN);
	int stream = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR(connect(stream, (void *)&server, server_len), ECONNREFUSED);
	CHECK_ERR(listen(s, 1), EOPNOTSUPP);
	CHECK_ERR(accept(s, 0, 0), EOPNOTSUPP);
	close(stream);
	close(s);
	close(c);
	CHECK_EQ(make_pair(SOCK_DGRAM), 0);
	shutdown(pair[0], SHUT_WR);
	CHECK_ERR(send(pair[0], b, 1, 0), EPIPE);
	shutdown(pair[1], SHUT_RD);
	CHECK_EQ(recv(pair[1], b, 1, 0), 0);
	CHECK_ERR(recv(pair[1], b, 1, MSG_DONTWAIT), EAGAIN);
	close_pair();
}

static void names(void)
{
	struct sockaddr_un a, got;
	socklen_t alen = path_name(&a, "path"), len;
	unlink(a.sun_path);
	int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR(connect(c, (void *)&a, alen), ENOENT);
	umask(022);
	CHECK_EQ(bind(s, (void *)&a, alen), 0);
	struct stat st;
	CHECK_EQ(stat(a.sun_path, &st), 0);
	CHECK_EQ(st.st_mode, S_IFSOCK | 0755);
	CHECK_ERR(open(a.sun_path, O_RDONLY), ENXIO);
	len = sizeof got;
	CHECK_EQ(getsockname(s, (void *)&got, &len), 0);
	CHECK_EQ(len, 2 + strlen(a.sun_path) + 1);
	CHECK_EQ(strcmp(got.sun_path, a.sun_path), 0);
	len = 4; // cut off
	memset(&got, 0, sizeof got);
	CHECK_EQ(getsockname(s, (void *)&got, &len), 0);
	CHECK_EQ(len, 2 + strlen(a.sun_path) + 1);
	CHECK_EQ(got.sun_path[2], 0);
	CHECK_ERR(bind(c, (void *)&a, alen), EADDRINUSE);
	CHECK_ERR(connect(c, (void *)&a, alen), ECONNREFUSED); // nobody listens
	struct sockaddr_un other;
	socklen_t olen = path_name(&other, "second");
	CHECK_ERR(bind(s, (void *)&other, olen), EINVAL);
	CHECK_ERR(access(other.sun_path, F_OK), ENOENT);
	CHECK_EQ(listen(s, 5), 0);
	CHECK_EQ(listen(s, 5), 0);
	int d = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK_ERR(connect(d, (void *)&a, alen), EPROTOTYPE);
	close(d);
	CHECK_EQ(poll_now(s), 0);
	CHECK_EQ(poll_now(c), POLLOUT | POLLHUP);
	CHECK_EQ(connect(c, (void *)&a, alen), 0);
	CHECK_EQ(poll_now(s), POLLIN);
	CHECK_EQ(poll_now(c), POLLOUT);
	CHECK_ERR(connect(c, (void *)&a, alen), EISCONN);
	CHECK_ERR(connect(s, (void *)&a, alen), EINVAL);
	CHECK_ERR(listen(c, 1), EINVAL);
	CHECK_EQ(send(c, "early", 5, 0), 5);
	len = sizeof got;
	memset(&got, 0, sizeof got);
	int t = accept4(s, (void *)&got, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	CHECK(t >= 0);
	CHECK_EQ(len, 2);
	CHECK_EQ(fcntl(t, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(t, F_GETFL), O_RDWR | O_NONBLOCK);
	len = sizeof got;
	CHECK_EQ(getsockname(t, (void *)&got, &len), 0);
	CHECK_EQ(strcmp(got.sun_path, a.sun_path), 0);
	len = sizeof got;
	CHECK_EQ(getpeername(c, (void *)&got, &len), 0);
	CHECK_EQ(strcmp(got.sun_path, a.sun_path), 0);
	char b[16];
	CHECK_EQ(read(t, b, 16), 5);
	len = sizeof got;
	CHECK_EQ(send(t, "x", 1, 0), 1);
	CHECK_EQ(recvfrom(c, b, 16, 0, (void *)&got, &len), 1);
	CHECK_EQ(len, 2 + strlen(a.sun_path) + 1);
	close(t);
	CHECK_EQ(read(c, b, 16), 0);
	len = sizeof got;
	CHECK_EQ(getpeername(c, (void *)&got, &len), 0);
	close(c);
	CHECK_EQ(unlink(a.sun_path), 0);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR(connect(c, (void *)&a, alen), ENOENT);
	close(s);
	int file = open(a.sun_path, O_CREAT | O_RDWR, 0600);
	CHECK(file >= 0);
	close(file);
	CHECK_ERR(connect(c, (void *)&a, alen), ECONNREFUSED);
	CHECK_ERR(bind(c, (void *)&a, alen), EADDRINUSE);
	unlink(a.sun_path);
	strcpy(a.sun_path, "/tmp/none/sock");
	CHECK_ERR(bind(c, (void *)&a, alen), ENOENT);

	// Without a NUL at its end the path is as long as there is room.
	memset(&a, 0, sizeof a);
	a.sun_family = AF_UNIX;
	memset(a.sun_path, 'x', sizeof a.sun_path);
	memcpy(a.sun_path, "/tmp/", 5);
	CHECK_EQ(bind(c, (void *)&a, sizeof a), 0);
	struct {
		struct sockaddr_un a;
		char more[20];
	} long_name;
	len = sizeof long_name;
	CHECK_EQ(getsockname(c, (void *)&long_name, &len), 0);
	CHECK_EQ(len, sizeof a + 1);
	CHECK_EQ(unlink(long_name.a.sun_path), 0);
	close(c);

	// Abstract names, and those that the kernel chooses.
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	alen = abstract_name(&a, "n");
	CHECK_EQ(bind(s, (void *)&a, alen), 0);
	CHECK_ERR(bind(c, (void *)&a, alen), EADDRINUSE);
	CHECK_EQ(bind(c, (void *)&a, alen - 1), 0);
	close(s);
	close(c);
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(bind(s, (void *)&a, alen), 0);
	close(s);
	s = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK_EQ(bind(s, (void *)&a, 2), 0);
	CHECK_EQ(bind(s, (void *)&a, 2), 0);
	len = sizeof got;
	CHECK_EQ(getsockname(s, (void *)&got, &len), 0);
	CHECK_EQ(len, 8);
	CHECK_EQ(got.sun_path[0], 0);
	CHECK_EQ(strspn(got.sun_path + 1, "0123456789abcdef") >= 5, 1);
	close(s);
}

static void backlog(void)
{
	struct sockaddr_un a;
	socklen_t alen = abstract_name(&a, "b");
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), c[4];
	CHECK_EQ(bind(s, (void *)&a, alen), 0);
	CHECK_EQ(listen(s, 1), 0);
	CHECK_ERR(accept(s, 0, 0), EAGAIN);
	char b[4];
	int n;
	CHECK_ERR(recv(s, b, 1, 0), EINVAL);
	CHECK_ERR(send(s, b, 1, MSG_NOSIGNAL), ENOTCONN);
	CHECK_ERR(ioctl(s, FIONREAD, &n), EINVAL);
	for (int i = 0; i < 4; i++)
		c[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK_EQ(connect(c[0], (void *)&a, alen), 0);
	CHECK_EQ(connect(c[1], (void *)&a, alen), 0);
	CHECK_ERR(connect(c[2], (void *)&a, alen), EAGAIN);
	int t = accept(s, 0, 0);
	CHECK(t >= 0);
	CHECK_EQ(fcntl(t, F_GETFL), O_RDWR);
	CHECK_EQ(connect(c[2], (void *)&a, alen), 0);
	// Whoever is not accepted when the listener goes is reset.
	close(s);
	CHECK_ERR(recv(c[1], b, 1, 0), ECONNRESET);
	CHECK_EQ(recv(c[1], b, 1, 0), 0);
	CHECK_ERR(connect(c[3], (void *)&a, alen), ECONNREFUSED);
	// A connection that goes while nobody accepts stays in the queue.
	s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	CHECK_EQ(bind(s, (void *)&a, alen), 0);
	CHECK_EQ(listen(s, 0), 0);
	int q = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	CHECK_EQ(connect(q, (void *)&a, alen), 0);
	CHECK_EQ(send(q, "bye", 3, 0), 3);
	close(q);
	q = accept(s, 0, 0);
	CHECK(q >= 0);
	CHECK_EQ(recv(q, b, 4, 0), 3);
	CHECK_EQ(recv(q, b, 4, 0), 0);
	shutdown(s, SHUT_RD);
	CHECK_ERR(accept(s, 0, 0), EINVAL);
	close(q);
	close(s);
	close(t);
	for (int i = 0; i < 4; i++)
		close(c[i]);
}

static int send_fds(int to, const int *fds, int n, const char *text)
{
	union {
		char b[CMSG_SPACE(4 * 300)];
		struct cmsghdr h;
	} u;
	struct iovec v = {(void *)text, strlen(text)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = CMSG_SPACE(4 * n)};
	memset(&u, 0, sizeof u);
	u.h.cmsg_level = SOL_SOCKET;
	u.h.cmsg_type = SCM_RIGHTS;
	u.h.cmsg_len = CMSG_LEN(4 * n);
	memcpy(CMSG_DATA(&u.h), fds, 4 * n);
	return sendmsg(to, &m, MSG_DONTWAIT);
}

// receive_fds receives up to size bytes, with room for that many descriptors.
static int receive_fds(int from, char *text, int size, int *fds, int room, int flags, int *got_flags)
{
	union {
		char b[CMSG_SPACE(4 * 300)];
		struct cmsghdr h;
	} u;
	struct iovec v = {text, size};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = room ? CMSG_LEN(4 * room) : 0};
	for (int i = 0; i < 10; i++)
		fds[i] = -1;
	int n = recvmsg(from, &m, flags);
	*got_flags = m.msg_flags;
	if (n >= 0 && m.msg_controllen >= sizeof(struct cmsghdr)) {
		if (u.h.cmsg_level != SOL_SOCKET || u.h.cmsg_type != SCM_RIGHTS)
			return -2;
		memcpy(fds, CMSG_DATA(&u.h), u.h.cmsg_len - CMSG_LEN(0));
	}
	return n;
}

static int open_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void rights(void)
{
	char b[64];
	int got[10], flags, p[2], before = open_fds();
	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(make_pair(SOCK_STREAM), 0);
	int bad[2] = {p[0], 999};
	CHECK_ERR(send_fds(pair[0], bad, 2, "x"), EBADF);
	static int many[300];
	CHECK_ERR(send_fds(pair[0], many, 254, "x"), EINVAL);
	CHECK_EQ(send_fds(pair[0], many, 253, "x"), 1);
	CHECK_EQ(recv(pair[1], b, 1, 0), 1); // they are closed

	CHECK_EQ(send(pair[0], "abc", 3, 0), 3);
	CHECK_EQ(send_fds(pair[0], p, 2, "def"), 3);
	CHECK_EQ(send(pair[0], "ghi", 3, 0), 3);
	// One receive takes what is before the descriptors and what they came with.
	CHECK_EQ(receive_fds(pair[1], b, 64, got, 10, MSG_PEEK, &flags), 6);
	CHECK(got[0] >= 0 && got[1] >= 0 && got[2] == -1);
	close(got[0]);
	close(got[1]);
	CHECK_EQ(receive_fds(pair[1], b, 64, got, 10, MSG_CMSG_CLOEXEC, &flags), 6);
	CHECK_EQ(flags, MSG_CMSG_CLOEXEC);
	CHECK_EQ(memcmp(b, "abcdef", 6), 0);
	CHECK_EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	close(p[0]);
	close(p[1]);
	CHECK_EQ(write(got[1], "through", 7), 7);
	close(got[1]);
	CHECK_EQ(read(got[0], b, 64), 7);
	CHECK_EQ(read(got[0], b, 64), 0);
	CHECK_EQ(receive_fds(pair[1], b, 64, got + 1, 5, 0, &flags), 3);
	CHECK_EQ(flags, 0);
	close(got[0]);

	// Too little room closes the rest.
	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(send_fds(pair[0], p, 2, "x"), 1);
	close(p[1]);
	CHECK_EQ(receive_fds(pair[1], b, 64, got, 1, 0, &flags), 1);
	CHECK_EQ(flags, MSG_CTRUNC);
	CHECK(got[0] >= 0 && got[1] == -1);
	CHECK_EQ(read(p[0], b, 1), 0);
	close(got[0]);
	// None, and the last descriptors are gone.
	CHECK_EQ(send_fds(pair[0], p, 1, "x"), 1);
	CHECK_EQ(receive_fds(pair[1], b, 64, got, 0, 0, &flags), 1);
	CHECK_EQ(flags, MSG_CTRUNC);
	close(p[0]);
	// What is never received is closed with the socket.
	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(send_fds(pair[0], p + 1, 1, "x"), 1);
	close(p[1]);
	close_pair();
	CHECK_EQ(read(p[0], b, 1), 0);
	close(p[0]);
	// A descriptor that finds no number.
	CHECK_EQ(make_pair(SOCK_DGRAM), 0);
	CHECK_EQ(send_fds(pair[0], pair, 2, "x"), 1);
	struct rlimit old, none;
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = pair[1] + 2;
	setrlimit(RLIMIT_NOFILE, &none);
	int n = receive_fds(pair[1], b, 64, got, 5, 0, &flags);
	setrlimit(RLIMIT_NOFILE, &old);
	CHECK_EQ(n, 1);
	CHECK_EQ(flags, MSG_CTRUNC);
	CHECK(got[0] >= 0 && got[1] == -1);
	close(got[0]);
	close_pair();
	CHECK_EQ(open_fds(), before);
}

static void circles(void)
{
	char b[4];
	int p[2];
	CHECK_EQ(pipe(p), 0);
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		// Each end waits in the other's queue, and holds the pipe.
		CHECK_EQ(make_pair(type), 0);
		int fds[2] = {pair[0], p[1]};
		CHECK_EQ(send_fds(pair[0], fds, 2, "x"), 1);
		fds[0] = pair[1];
		CHECK_EQ(send_fds(pair[1], fds, 2, "x"), 1);
		close_pair();
	}
	close(p[1]);
	// The next socket that goes takes them along, on Linux at some later time.
	struct pollfd f = {p[0], POLLIN, 0};
	for (int i = 0; i < 100 && poll(&f, 1, 0) == 0; i++) {
		CHECK_EQ(make_pair(SOCK_STREAM), 0);
		int own = pair[0];
		CHECK_EQ(send_fds(pair[0], &own, 1, "x"), 1);
		close_pair();
		usleep(20000);
	}
	CHECK_EQ(poll(&f, 1, 0), 1);
	CHECK_EQ(read(p[0], b, 1), 0);
	close(p[0]);
	// A long chain of sockets in each other's queues goes without trouble.
	int last = open("/dev/null", O_RDONLY);
	for (int i = 0; i < 3000; i++) {
		CHECK_EQ(make_pair(SOCK_DGRAM), 0);
		if (send_fds(pair[0], &last, 1, "x") != 1) {
			CHECK_EQ(errno, ETOOMANYREFS);
			close_pair();
			break;
		}
		close(last);
		close(pair[0]);
		last = pair[1];
	}
	close(last);
}

static int receive_creds(int fd, struct ucred *u, int *flags)
{
	union {
		char b[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr h;
	} c;
	char b[64];
	struct iovec v = {b, sizeof b};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c};
	int n = recvmsg(fd, &m, 0);
	*flags = m.msg_flags;
	memset(u, 0xff, sizeof *u);
	if (n >= 0 && m.msg_controllen == sizeof c && c.h.cmsg_type == SCM_CREDENTIALS)
		memcpy(u, CMSG_DATA(&c.h), sizeof *u);
	return n;
}

static int send_creds(int fd, pid_t pid, uid_t uid)
{
	union {
		char b[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr h;
	} c;
	memset(&c, 0, sizeof c);
	struct ucred u = {pid, uid, getgid()};
	struct iovec v = {"creds", 5};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c};
	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_CREDENTIALS;
	c.h.cmsg_len = CMSG_LEN(sizeof u);
	memcpy(CMSG_DATA(&c.h), &u, sizeof u);
	return sendmsg(fd, &m, 0);
}

static void credentials(void)
{
	struct ucred u;
	int flags, one = 1;
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		CHECK_EQ(make_pair(type), 0);
		socklen_t len = sizeof u;
		CHECK_EQ(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &u, &len), 0);
		CHECK(len == sizeof u && u.pid == getpid() && u.uid == geteuid() && u.gid == getegid());
		CHECK_EQ(send(pair[0], "none", 4, 0), 4);
		CHECK_EQ(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one), 0);
		CHECK_EQ(send(pair[0], "automatic", 9, 0), 9);
		CHECK_EQ(send_creds(pair[0], getpid(), getuid()), 5);
		CHECK_EQ(receive_creds(pair[1], &u, &flags), 4);
		CHECK(u.pid == 0 && u.uid == 65534 && u.gid == 65534);
		CHECK_EQ(receive_creds(pair[1], &u, &flags), type == SOCK_STREAM ? 14 : 9);
		CHECK(u.pid == getpid() && u.uid == getuid() && u.gid == getgid());
		CHECK_ERR(send_creds(pair[0], 0x3fffff, getuid()), geteuid() == 0 ? ESRCH : EPERM);
		char b[16];
		struct iovec v = {b, 16};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
		CHECK_EQ(send(pair[0], "x", 1, 0), 1);
		if (type == SOCK_DGRAM)
			CHECK_EQ(recv(pair[1], b, 16, 0), 5);
		CHECK_EQ(recvmsg(pair[1], &m, 0), 1);
		CHECK_EQ(m.msg_flags, MSG_CTRUNC);
		close_pair();
	}
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t len = sizeof u;
	CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &len), 0);
	CHECK(u.pid == 0 && u.uid == (uid_t)-1 && u.gid == (gid_t)-1);
	close(s);
}

static int option(int fd, int name)
{
	int v = -12345;
	socklen_t len = sizeof v;
	return getsockopt(fd, SOL_SOCKET, name, &v, &len) < 0 ? -errno : v;
}

static int set_option(int fd, int name, int v)
{
	return setsockopt(fd, SOL_SOCKET, name, &v, sizeof v);
}

static void options(void)
{
	CHECK_EQ(make_pair(SOCK_SEQPACKET), 0);
	int s = pair[0], v = 0;
	CHECK_EQ(option(s, SO_TYPE), SOCK_SEQPACKET);
	CHECK_EQ(option(s, SO_DOMAIN), AF_UNIX);
	CHECK_EQ(option(s, SO_PROTOCOL), 0);
	CHECK_EQ(option(s, SO_ERROR), 0);
	CHECK_EQ(option(s, SO_ACCEPTCONN), 0);
	CHECK_EQ(option(s, SO_RCVLOWAT), 1);
	CHECK_EQ(option(s, 9999), -ENOPROTOOPT);
	CHECK_ERR(set_option(s, SO_TYPE, 1), ENOPROTOOPT);
	CHECK_ERR(set_option(s, 9999, 1), ENOPROTOOPT);
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, 3), EINVAL);
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, -1), EINVAL);
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4), EFAULT);
	CHECK_ERR(setsockopt(s, 6, 1, &v, 4), EOPNOTSUPP);
	socklen_t len = 4;
	CHECK_ERR(getsockopt(s, 6, 1, &v, &len), EOPNOTSUPP);
	len = -1;
	CHECK_ERR(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &len), EINVAL);
	len = 1;
	v = 0x11111111;
	CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &len), 0);
	CHECK_EQ(v, 0x11111100 | SOCK_SEQPACKET);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(set_option(s, SO_KEEPALIVE, i), 0);
		CHECK_EQ(option(s, SO_KEEPALIVE), i);
		CHECK_EQ(set_option(s, SO_REUSEADDR, i), 0);
		CHECK_EQ(option(s, SO_REUSEADDR), i);
	}
	CHECK_EQ(set_option(s, SO_SNDBUF, 10000), 0);
	CHECK_EQ(option(s, SO_SNDBUF), 20000);
	CHECK_EQ(set_option(s, SO_SNDBUF, 1), 0);
	CHECK_EQ(option(s, SO_SNDBUF), 4608);
	CHECK_EQ(set_option(s, SO_RCVBUF, 1), 0);
	CHECK_EQ(option(s, SO_RCVBUF), 2304);
	struct timeval t = {0, 30000}, u;
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, 8), EINVAL);
	t.tv_usec = 1000000;
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), EDOM);
	t.tv_usec = 32000;
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), 0);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t), 0);
	len = sizeof u;
	CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &u, &len), 0);
	CHECK(len == sizeof u && u.tv_sec == 0 && u.tv_usec == 32000);
	struct timespec begin, end;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	char b[4];
	CHECK_ERR(recv(s, b, 4, 0), EAGAIN);
	CHECK_ERR(read(s, b, 4), EAGAIN);
	clock_gettime(CLOCK_MONOTONIC, &end);
	long ms = (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;
	CHECK(ms >= 60);
	while (send(s, b, 4, 0) == 4)
		;
	CHECK_EQ(errno, EAGAIN);
	struct linger l = {1, 5}, m = {0};
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l), 0);
	len = sizeof m;
	CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_LINGER, &m, &len), 0);
	CHECK(m.l_onoff == 1 && m.l_linger == 5);
	close_pair();
	// The pending error is told once.
	CHECK_EQ(make_pair(SOCK_STREAM), 0);
	CHECK_EQ(send(pair[0], "x", 1, 0), 1);
	close(pair[1]);
	CHECK_EQ(option(pair[0], SO_ERROR), ECONNRESET);
	CHECK_EQ(option(pair[0], SO_ERROR), 0);
	close(pair[0]);
}

static void *send_slowly(void *arg)
{
	(void)arg;
	for (int i = 0; i < 5; i++) {
		usleep(10000);
		if (send(pair[0], "12345678", 8, 0) != 8)
			return "send";
	}
	return 0;
}

static void *drain(void *arg)
{
	static char b[70000];
	long left = (long)arg;
	usleep(10000);
	while (left > 0) {
		long n = read(pair[1], b, sizeof b);
		if (n <= 0)
			return "read";
		left -= n;
	}
	return 0;
}

static void *connect_late(void *arg)
{
	usleep(20000);
	int c = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un *a = arg;
	if (connect(c, (void *)a, 3 + strlen(a->sun_path + 1)) != 0)
		return "connect";
	char b[4];
	if (read(c, b, 4) != 2)
		return "read";
	close(c);
	return 0;
}

static void no_op(int sig)
{
	(void)sig;
}

static void blocking(void)
{
	char b[64];
	void *r;
	pthread_t t;
	CHECK_EQ(make_pair(SOCK_STREAM), 0);
	CHECK_EQ(pthread_create(&t, 0, send_slowly, 0), 0);
	CHECK_EQ(recv(pair[1], b, 40, MSG_WAITALL), 40);
	pthread_join(t, &r);
	CHECK(r == 0);
	int low = 20;
	CHECK_EQ(setsockopt(pair[1], SOL_SOCKET, SO_RCVLOWAT, &low, 4), 0);
	CHECK_EQ(pthread_create(&t, 0, send_slowly, 0), 0);
	CHECK_EQ(recv(pair[1], b, 40, 0), 24);
	pthread_join(t, &r);
	CHECK_EQ(recv(pair[1], b, 40, MSG_DONTWAIT), 16);
	static char big[1000000];
	CHECK_EQ(pthread_create(&t, 0, drain, (void *)sizeof big), 0);
	CHECK_EQ(write(pair[0], big, sizeof big), sizeof big);
	pthread_join(t, &r);
	CHECK(r == 0);
	// A signal ends a wait that has no bytes yet, and cuts short one that has.
	struct sigaction sa = {.sa_handler = no_op};
	sigaction(SIGALRM, &sa, 0);
	struct itimerval it = {.it_value = {0, 30000}};
	setitimer(ITIMER_REAL, &it, 0);
	CHECK_ERR(recv(pair[1], b, 1, 0), EINTR);
	setitimer(ITIMER_REAL, &it, 0);
	CHECK_EQ(send(pair[0], "abc", 3, 0), 3);
	CHECK_EQ(recv(pair[1], b, 10, MSG_WAITALL), 3);
	sa.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &sa, 0);
	it.it_value.tv_usec = 3000;
	setitimer(ITIMER_REAL, &it, 0);
	CHECK_EQ(pthread_create(&t, 0, send_slowly, 0), 0);
	CHECK_EQ(recv(pair[1], b, 8, MSG_WAITALL), 8);
	pthread_join(t, &r);
	CHECK_EQ(recv(pair[1], b, 64, 0), 32);
	// With a timeout a signal ends it in spite of SA_RESTART.
	struct timeval tv = {5, 0};
	setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setitimer(ITIMER_REAL, &it, 0);
	CHECK_ERR(recv(pair[1], b, 1, 0), EINTR);
	close_pair();

	struct sockaddr_un a;
	socklen_t alen = abstract_name(&a, "w");
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(bind(s, (void *)&a, alen), 0);
	CHECK_EQ(listen(s, 1), 0);
	CHECK_EQ(pthread_create(&t, 0, connect_late, &a), 0);
	int c = accept(s, 0, 0);
	CHECK(c >= 0);
	CHECK_EQ(write(c, "ok", 2), 2);
	CHECK_EQ(read(c, b, 1), 0);
	close(c);
	pthread_join(t, &r);
	CHECK(r == 0);
	// connect waits for room in the backlog.
	CHECK_EQ(listen(s, 0), 0);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(connect(c, (void *)&a, alen), 0);
	CHECK_EQ(pthread_create(&t, 0, connect_late, &a), 0);
	usleep(60000);
	close(accept(s, 0, 0));
	int d = accept(s, 0, 0);
	CHECK(d >= 0);
	CHECK_EQ(write(d, "ok", 2), 2);
	pthread_join(t, &r);
	CHECK(r == 0);
	close(d);
	close(c);
	close(s);
}

static void many_messages(void)
{
	char b[4][16];
	CHECK_EQ(make_pair(SOCK_DGRAM), 0);
	struct mmsghdr m[4];
	struct iovec v[4];
	memset(m, 0, sizeof m);
	for (int i = 0; i < 4; i++) {
		v[i] = (struct iovec){"message", 3 + i};
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	CHECK_EQ(sendmmsg(pair[0], m, 4, 0), 4);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(m[i].msg_len, 3 + i);
		v[i] = (struct iovec){b[i], 16};
	}
	CHECK_EQ(recvmmsg(pair[1], m, 2, 0, 0), 2);
	CHECK_EQ(m[1].msg_len, 4);
	CHECK_EQ(recvmmsg(pair[1], m, 4, MSG_WAITFORONE, 0), 2);
	CHECK_EQ(m[0].msg_len, 5);
	CHECK_EQ(m[1].msg_len, 6);
	CHECK_ERR(recvmmsg(pair[1], m, 4, MSG_DONTWAIT, 0), EAGAIN);
	struct timespec t = {0, 1000000000};
	CHECK_ERR(recvmmsg(pair[1], m, 4, MSG_DONTWAIT, &t), EINVAL);
	close_pair();
}

static void epolls(void)
{
	char b[64];
	CHECK_EQ(make_pair(SOCK_STREAM), 0);
	int ep = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(send(pair[0], "x", 1, 0), 1);
		CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
		CHECK_EQ(e.events, EPOLLIN);
		CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	}
	CHECK_EQ(shutdown(pair[0], SHUT_WR), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
	CHECK_EQ(e.events, EPOLLIN | EPOLLRDHUP);
	CHECK_EQ(read(pair[1], b, 64), 3);
	close(pair[0]);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
	CHECK_EQ(e.events, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
	close(pair[1]);
	close(ep);
}

#define ROUNDS 3000
static void *echo(void *arg)
{
	int fd = *(int *)arg;
	char b[64];
	for (;;) {
		int n = read(fd, b, sizeof b);
		if (n <= 0)
			return 0;
		if (write(fd, b, n) != n)
			return "write";
	}
}

static void ping_pong(void)
{
	for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_STREAM) {
		pthread_t t;
		void *r;
		CHECK_EQ(make_pair(type), 0);
		CHECK_EQ(pthread_create(&t, 0, echo, &pair[1]), 0);
		for (int i = 0; i < ROUNDS; i++) {
			int back = -1;
			CHECK_EQ(write(pair[0], &i, sizeof i), sizeof i);
			CHECK_EQ(read(pair[0], &back, sizeof back), sizeof back);
			CHECK_EQ(back, i);
		}
		shutdown(pair[0], SHUT_WR);
		pthread_join(t, &r);
		CHECK(r == 0);
		close_pair();
	}
}

TESTS({"arguments", arguments}, {"streams", streams}, {"full_stream", full_stream},
      {"packets", packets}, {"datagrams", datagrams}, {"names", names}, {"backlog", backlog},
      {"rights", rights}, {"circles", circles}, {"credentials", credentials}, {"options",
      options}, {"blocking", blocking}, {"many_messages", many_messages}, {"epolls", epolls},
      {"ping_pong", ping_pong})
