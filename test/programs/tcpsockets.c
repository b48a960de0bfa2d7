// TCP as tcp(7), socket(7), connect(2), shutdown(2), send(2) and recv(2) describe it, over loopback.
#ifndef CHECK_SECONDS
#define CHECK_SECONDS 60
#endif
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <linux/sockios.h>

#define SA(x) ((struct sockaddr *)&(x))

static struct sockaddr_in at(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return a;
}

static int stream(int flags) { return socket(AF_INET, SOCK_STREAM | flags, 0); }

// listener returns a socket that listens, and where.
static int listener(struct sockaddr_in *a, int backlog)
{
	int s = stream(0);
	socklen_t n = sizeof *a;

	*a = at(0);
	if (bind(s, SA(*a), sizeof *a) || listen(s, backlog) || getsockname(s, SA(*a), &n))
		return -1;
	return s;
}

static int pair(int s[2])
{
	struct sockaddr_in a;
	int l = listener(&a, 16);

	s[0] = stream(0);
	if (l < 0 || connect(s[0], SA(a), sizeof a))
		return -1;
	s[1] = accept(l, NULL, NULL);
	close(l);
	return s[1];
}

// nobody returns an address where nobody listens.
static struct sockaddr_in nobody(void)
{
	struct sockaddr_in a;

	close(listener(&a, 1));
	return a;
}

static int events(int fd, int want, int timeout)
{
	struct pollfd p = {.fd = fd, .events = want};
	int n = poll(&p, 1, timeout);

	return n <= 0 ? n : p.revents;
}

static int option(int fd, int level, int name)
{
	int v = -1;
	socklen_t n = sizeof v;

	return getsockopt(fd, level, name, &v, &n) || n != sizeof v ? -errno : v;
}

static int set(int fd, int level, int name, int v) { return setsockopt(fd, level, name, &v, sizeof v); }

static int inqueue(int fd, int request)
{
	int v = -1;

	return ioctl(fd, request, &v) ? -errno : v;
}

// comes waits until so many bytes wait to be received.
static int comes(int fd, int n)
{
	for (int i = 0; i < 10000 && inqueue(fd, FIONREAD) < n; i++)
		sleep_ms(1);
	return inqueue(fd, FIONREAD);
}

static int state(int fd)
{
	struct tcp_info i;
	socklen_t n = sizeof i;

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n) ? -1 : i.tcpi_state;
}

static void test_connect_refused_then_again(void)
{
	struct sockaddr_in none = nobody(), a, own;
	socklen_t n = sizeof own;
	int l, s, c;
	char b[4];

	CHECK((l = listener(&a, 4)) >= 0);
	CHECK((s = stream(0)) >= 0);
	for (int i = 0; i < 3; i++) {
		CHECK_ERR(connect(s, SA(none), sizeof none), ECONNREFUSED);
		CHECK_EQ(option(s, SOL_SOCKET, SO_ERROR), 0);
		CHECK_EQ(state(s), TCP_CLOSE);
	}
	CHECK_ERR(getpeername(s, SA(own), &n), ENOTCONN);
	CHECK_ERR(recv(s, b, 4, 0), ENOTCONN);
	CHECK_ERR(send(s, b, 4, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(events(s, POLLIN | POLLOUT, 0), POLLOUT | POLLHUP);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK((c = accept(l, NULL, NULL)) >= 0);
	CHECK_EQ(send(s, "abc", 3, 0), 3);
	CHECK_EQ(recv(c, b, 4, 0), 3);
	CHECK_EQ(getpeername(s, SA(own), &n), 0);
	CHECK_EQ(own.sin_port, a.sin_port);
	close(s), close(c), close(l);
}

static void test_nonblocking_refused_then_again(void)
{
	struct sockaddr_in none = nobody(), a;
	int l, s;

	CHECK((l = listener(&a, 4)) >= 0);
	CHECK((s = stream(SOCK_NONBLOCK)) >= 0);
	CHECK_EQ(events(s, POLLIN | POLLOUT, 0), POLLOUT | POLLHUP);
	CHECK_ERR(connect(s, SA(none), sizeof none), EINPROGRESS);
	CHECK_EQ(events(s, POLLIN | POLLOUT | POLLRDHUP, 10000), POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
	CHECK_EQ(option(s, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	CHECK_EQ(option(s, SOL_SOCKET, SO_ERROR), 0);
	CHECK_EQ(events(s, POLLIN | POLLOUT | POLLRDHUP, 0), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	// With no error left the second connect says that the first was given up.
	CHECK_ERR(connect(s, SA(a), sizeof a), ECONNABORTED);
	CHECK_ERR(connect(s, SA(a), sizeof a), EINPROGRESS);
	CHECK_EQ(events(s, POLLOUT, 10000), POLLOUT);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK_ERR(connect(s, SA(a), sizeof a), EISCONN);
	close(s);
	// The error that connect tells is gone then.
	CHECK((s = stream(SOCK_NONBLOCK)) >= 0);
	CHECK_ERR(connect(s, SA(none), sizeof none), EINPROGRESS);
	CHECK(events(s, POLLOUT, 10000) & POLLERR);
	CHECK_ERR(connect(s, SA(a), sizeof a), ECONNREFUSED);
	CHECK_EQ(option(s, SOL_SOCKET, SO_ERROR), 0);
	CHECK_ERR(connect(s, SA(a), sizeof a), EINPROGRESS);
	CHECK_EQ(events(s, POLLOUT, 10000), POLLOUT);
	CHECK_EQ(option(s, SOL_SOCKET, SO_ERROR), 0);
	CHECK_EQ(state(s), TCP_ESTABLISHED);
	close(s), close(l);
}

static void test_reading_tells_the_error(void)
{
	struct sockaddr_in none = nobody();
	int s;
	char b[4];

	CHECK((s = stream(SOCK_NONBLOCK)) >= 0);
	CHECK_ERR(connect(s, SA(none), sizeof none), EINPROGRESS);
	CHECK(events(s, POLLOUT, 10000) & POLLERR);
	CHECK_ERR(read(s, b, 4), ECONNREFUSED);
	CHECK_EQ(read(s, b, 4), 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_ERROR), 0);
	close(s);
	CHECK((s = stream(SOCK_NONBLOCK)) >= 0);
	CHECK_ERR(connect(s, SA(none), sizeof none), EINPROGRESS);
	CHECK(events(s, POLLOUT, 10000) & POLLERR);
	CHECK_ERR(send(s, b, 4, MSG_NOSIGNAL), ECONNREFUSED);
	CHECK_ERR(send(s, b, 4, MSG_NOSIGNAL), EPIPE);
	close(s);
}

static void test_connect_to_unspec(void)
{
	struct sockaddr_in a, own, unspec = {.sin_family = AF_UNSPEC};
	socklen_t n = sizeof own;
	int l, s, c;
	char b[4];

	CHECK((l = listener(&a, 4)) >= 0);
	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK((c = accept(l, NULL, NULL)) >= 0);
	CHECK_EQ(connect(s, SA(unspec), sizeof unspec), 0);
	CHECK_ERR(getpeername(s, SA(own), &n), ENOTCONN);
	CHECK_EQ(getsockname(s, SA(own), &n), 0);
	CHECK_EQ(own.sin_addr.s_addr, 0);
	CHECK_ERR(read(c, b, 4), ECONNRESET);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	close(c);
	CHECK((c = accept(l, NULL, NULL)) >= 0);
	CHECK_EQ(write(s, "abc", 3), 3);
	CHECK_EQ(read(c, b, 4), 3);
	close(s), close(c), close(l);
	// A socket that was bound keeps its name, and a listening one ends to listen.
	CHECK((l = listener(&a, 4)) >= 0);
	CHECK_EQ(connect(l, SA(unspec), sizeof unspec), 0);
	CHECK_ERR(accept(l, NULL, NULL), EINVAL);
	CHECK_EQ(getsockname(l, SA(own), &n), 0);
	CHECK_EQ(own.sin_port, a.sin_port);
	CHECK_EQ(own.sin_addr.s_addr, a.sin_addr.s_addr);
	CHECK_EQ(listen(l, 4), 0);
	CHECK_EQ(getsockname(l, SA(a), &n), 0); // it may be another port
	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	close(s), close(l);
}

static void test_names(void)
{
	struct sockaddr_in a, b;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6}, got;
	socklen_t n = sizeof b;
	int l, s;

	CHECK((s = stream(0)) >= 0);
	memset(&b, 0xff, sizeof b);
	CHECK_EQ(getsockname(s, SA(b), &n), 0);
	CHECK_EQ(n, sizeof b);
	CHECK_EQ(b.sin_family, AF_INET);
	CHECK_EQ(b.sin_port, 0);
	CHECK_EQ(b.sin_addr.s_addr, 0);
	CHECK_ERR(getpeername(s, SA(b), &n), ENOTCONN);
	CHECK((l = listener(&a, 4)) >= 0);
	CHECK_EQ(a.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_ERR(getpeername(l, SA(b), &n), ENOTCONN);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(s, SA(b), &n), 0);
	CHECK_EQ(b.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK(ntohs(b.sin_port) >= 1024);
	n = 4;
	memset(&b, 0, sizeof b);
	CHECK_EQ(getpeername(s, SA(b), &n), 0);
	CHECK_EQ(n, sizeof b);
	CHECK_EQ(b.sin_port, a.sin_port);
	CHECK_EQ(b.sin_addr.s_addr, 0);
	n = -1;
	CHECK_ERR(getsockname(s, SA(b), &n), EINVAL);
	n = sizeof b;
	CHECK_ERR(getsockname(s, (void *)8, &n), EFAULT);
	CHECK_EQ(shutdown(s, SHUT_RDWR), 0);
	n = sizeof b;
	CHECK_EQ(getsockname(s, SA(b), &n), 0);
	CHECK_EQ(b.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	close(s), close(l);
	// A dual-stack socket's names.
	CHECK((l = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(bind(l, SA(six), sizeof six), 0);
	CHECK_EQ(listen(l, 4), 0);
	n = sizeof got;
	CHECK_EQ(getsockname(l, SA(got), &n), 0);
	CHECK(IN6_IS_ADDR_UNSPECIFIED(&got.sin6_addr));
	a = at(ntohs(got.sin6_port));
	CHECK((s = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(connect(s, SA(got), sizeof got), 0);
	CHECK_EQ(getpeername(s, SA(got), &n), 0);
	CHECK(IN6_IS_ADDR_LOOPBACK(&got.sin6_addr));
	close(s);
	CHECK((s = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &got.sin6_addr);
	CHECK_EQ(connect(s, SA(got), sizeof got), 0);
	CHECK_EQ(getsockname(s, SA(got), &n), 0);
	CHECK(IN6_IS_ADDR_V4MAPPED(&got.sin6_addr));
	close(s), close(l);
	// connect to no address at all is to this machine.
	CHECK((l = listener(&a, 4)) >= 0);
	CHECK((s = stream(0)) >= 0);
	a.sin_addr.s_addr = 0;
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	n = sizeof b;
	CHECK_EQ(getpeername(s, SA(b), &n), 0);
	CHECK_EQ(b.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	close(s), close(l);
}

static void test_shutdown(void)
{
	int s[2], l;
	char b[16];
	struct sockaddr_in a;
	socklen_t n = sizeof a;

	CHECK(pair(s) >= 0);
	CHECK_ERR(shutdown(s[0], 3), EINVAL);
	CHECK_ERR(shutdown(s[0], -1), EINVAL);
	CHECK_EQ(write(s[1], "abc", 3), 3);
	CHECK_EQ(comes(s[0], 3), 3);
	// What has come can still be read, and what comes later as well.
	CHECK_EQ(shutdown(s[0], SHUT_RD), 0);
	CHECK_EQ(events(s[0], POLLIN | POLLRDHUP | POLLOUT, 0), POLLIN | POLLRDHUP | POLLOUT);
	CHECK_EQ(read(s[0], b, 16), 3);
	CHECK_EQ(read(s[0], b, 16), 0);
	CHECK_EQ(write(s[0], "still", 5), 5);
	CHECK_EQ(read(s[1], b, 16), 5);
	CHECK_EQ(shutdown(s[0], SHUT_RD), 0);
	CHECK_EQ(events(s[1], POLLIN | POLLRDHUP, 0), 0);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_EQ(events(s[0], 0, 0), POLLHUP);
	CHECK_EQ(events(s[1], POLLRDHUP, 10000), POLLRDHUP);
	CHECK_EQ(events(s[1], POLLIN | POLLRDHUP | POLLOUT, 0), POLLIN | POLLRDHUP | POLLOUT);
	CHECK_EQ(read(s[1], b, 16), 0);
	CHECK_ERR(send(s[0], b, 1, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(shutdown(s[0], SHUT_RDWR), 0);
	CHECK_EQ(state(s[1]), TCP_CLOSE_WAIT);
	for (int i = 0; i < 10000 && state(s[0]) == TCP_FIN_WAIT1; i++)
		sleep_ms(1);
	CHECK_EQ(state(s[0]), TCP_FIN_WAIT2);
	CHECK_EQ(shutdown(s[1], SHUT_WR), 0);
	CHECK_EQ(events(s[1], 0, 10000), POLLHUP);
	close(s[0]), close(s[1]);
	// A listening socket that is shut down listens no more, and can again.
	CHECK((l = listener(&a, 4)) >= 0);
	CHECK_EQ(shutdown(l, SHUT_WR), 0);
	CHECK_EQ(option(l, SOL_SOCKET, SO_ACCEPTCONN), 1);
	CHECK_EQ(shutdown(l, SHUT_RD), 0);
	CHECK_EQ(option(l, SOL_SOCKET, SO_ACCEPTCONN), 0);
	CHECK_ERR(accept(l, NULL, NULL), EINVAL);
	CHECK((s[0] = stream(0)) >= 0);
	CHECK_ERR(connect(s[0], SA(a), sizeof a), ECONNREFUSED);
	CHECK_EQ(listen(l, 4), 0);
	CHECK_EQ(getsockname(l, SA(a), &n), 0); // it may be another port
	CHECK_EQ(connect(s[0], SA(a), sizeof a), 0);
	CHECK((s[1] = accept(l, NULL, NULL)) >= 0);
	close(s[0]), close(s[1]), close(l);
}

static void *shut_later(void *arg)
{
	sleep_ms(100);
	shutdown(*(int *)arg, SHUT_RDWR);
	return NULL;
}

static void test_shutdown_ends_waits(void)
{
	struct sockaddr_in a;
	int s[2], l;
	pthread_t t;
	char b[4];

	CHECK(pair(s) >= 0);
	CHECK_EQ(pthread_create(&t, NULL, shut_later, &s[0]), 0);
	CHECK_EQ(read(s[0], b, 4), 0);
	pthread_join(t, NULL);
	close(s[0]), close(s[1]);
	CHECK((l = listener(&a, 4)) >= 0);
	CHECK_EQ(pthread_create(&t, NULL, shut_later, &l), 0);
	CHECK_ERR(accept(l, NULL, NULL), EINVAL);
	pthread_join(t, NULL);
	close(l);
}

static void test_reset(void)
{
	int s[2];
	char b[16];
	struct linger zero = {1, 0};

	// What was not read makes a close a reset.
	CHECK(pair(s) >= 0);
	CHECK_EQ(write(s[1], "unread", 6), 6);
	CHECK_EQ(comes(s[0], 6), 6);
	close(s[0]);
	CHECK(events(s[1], 0, 10000) & POLLHUP);
	CHECK_EQ(events(s[1], POLLIN | POLLRDHUP | POLLOUT, 0), POLLIN | POLLRDHUP | POLLOUT | POLLERR | POLLHUP);
	CHECK_EQ(option(s[1], SOL_SOCKET, SO_ERROR), ECONNRESET);
	CHECK_EQ(read(s[1], b, 4), 0);
	CHECK_ERR(send(s[1], b, 4, MSG_NOSIGNAL), EPIPE);
	close(s[1]);
	// As does SO_LINGER of no time; what came before is gone with it.
	CHECK(pair(s) >= 0);
	CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &zero, sizeof zero), 0);
	CHECK_EQ(write(s[0], "abc", 3), 3);
	CHECK_EQ(comes(s[1], 3), 3);
	close(s[0]);
	CHECK(events(s[1], 0, 10000) & POLLERR);
	CHECK_ERR(send(s[1], b, 4, MSG_NOSIGNAL), ECONNRESET);
	CHECK_ERR(send(s[1], b, 4, MSG_NOSIGNAL), EPIPE);
	close(s[1]);
	// Writing to who is gone is answered by a reset: EPIPE comes from the second on.
	CHECK(pair(s) >= 0);
	close(s[0]);
	CHECK_EQ(events(s[1], POLLIN | POLLRDHUP, 10000), POLLIN | POLLRDHUP);
	CHECK_EQ(send(s[1], "abc", 3, MSG_NOSIGNAL), 3);
	CHECK(events(s[1], POLLHUP, 10000) & POLLHUP);
	CHECK_ERR(send(s[1], "abc", 3, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(read(s[1], b, 4), 0);
	close(s[1]);
}

static volatile sig_atomic_t pipes;
static void on_pipe(int sig) { pipes += sig == SIGPIPE; }

static void test_broken_pipe(void)
{
	int s[2];
	struct iovec v = {"abc", 3};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

	signal(SIGPIPE, on_pipe);
	pipes = 0;
	CHECK(pair(s) >= 0);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_ERR(send(s[0], "abc", 3, MSG_NOSIGNAL), EPIPE);
	CHECK_ERR(sendmsg(s[0], &m, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(pipes, 0);
	CHECK_ERR(send(s[0], "abc", 3, 0), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_ERR(write(s[0], "abc", 3), EPIPE);
	CHECK_EQ(pipes, 2);
	CHECK_ERR(writev(s[0], &v, 1), EPIPE);
	CHECK_EQ(pipes, 3);
	close(s[0]), close(s[1]);
	signal(SIGPIPE, SIG_DFL);
}

static void *drain_later(void *arg)
{
	static char b[65536];
	long total = 0;
	ssize_t n;

	sleep_ms(200);
	while ((n = read(*(int *)arg, b, sizeof b)) > 0)
		total += n;
	return (void *)total;
}

static void test_linger(void)
{
	int s[2], v[2] = {1, 5};
	socklen_t n = sizeof v;
	pthread_t t;
	static char b[1 << 16];
	long sent = 0;
	ssize_t k;
	void *got;

	CHECK(pair(s) >= 0);
	CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_LINGER, v, n), 0);
	v[0] = v[1] = 9;
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_LINGER, v, &n), 0);
	CHECK_EQ(v[0], 1);
	CHECK_EQ(v[1], 5);
	CHECK_ERR(setsockopt(s[0], SOL_SOCKET, SO_LINGER, v, 4), EINVAL);
	while ((k = send(s[0], b, sizeof b, MSG_DONTWAIT)) > 0)
		sent += k;
	CHECK_EQ(pthread_create(&t, NULL, drain_later, &s[1]), 0);
	// close waits until all has arrived.
	int64_t begin = now_ns(CLOCK_MONOTONIC);
	CHECK_EQ(close(s[0]), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - begin >= 100000000);
	pthread_join(t, &got);
	CHECK_EQ((long)got, sent);
	close(s[1]);
	// Without the option it doesn't, and all arrives nevertheless.
	CHECK(pair(s) >= 0);
	sent = 0;
	while ((k = send(s[0], b, sizeof b, MSG_DONTWAIT)) > 0)
		sent += k;
	close(s[0]);
	CHECK_EQ((long)drain_later(&s[1]), sent);
	close(s[1]);
}

static void *write_in_pieces(void *arg)
{
	for (int i = 0; i < 5; i++) {
		sleep_ms(20);
		if (write(*(int *)arg, "ab", 2) != 2)
			return "write failed";
	}
	return NULL;
}

static void test_receive_flags(void)
{
	int s[2];
	char b[16] = "";
	pthread_t t;
	struct sockaddr_in from;
	socklen_t n = sizeof from;

	CHECK(pair(s) >= 0);
	CHECK_EQ(write(s[0], "0123456789", 10), 10);
	CHECK_EQ(comes(s[1], 10), 10);
	CHECK_EQ(recv(s[1], b, 4, MSG_PEEK), 4);
	CHECK_EQ(recv(s[1], b, 16, MSG_PEEK), 10);
	CHECK(memcmp(b, "0123456789", 10) == 0);
	CHECK_EQ(recv(s[1], b, 16, MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL), 10);
	CHECK_EQ(inqueue(s[1], FIONREAD), 10);
	CHECK_EQ(recv(s[1], NULL, 4, MSG_TRUNC), 4); // thrown away
	CHECK_EQ(recv(s[1], b, 0, 0), 0);
	CHECK_EQ(recv(s[1], b, 2, 0), 2);
	CHECK(memcmp(b, "45", 2) == 0);
	// There is no address on a connection.
	from.sin_family = 77;
	CHECK_EQ(recvfrom(s[1], b, 2, 0, SA(from), &n), 2);
	CHECK_EQ(n, 0);
	CHECK_EQ(from.sin_family, 77);
	CHECK_EQ(recv(s[1], b, 16, MSG_DONTWAIT | MSG_WAITALL), 2);
	CHECK_ERR(recv(s[1], b, 16, MSG_DONTWAIT), EAGAIN);
	CHECK_ERR(recv(s[1], b, 16, MSG_DONTWAIT | MSG_PEEK), EAGAIN);
	CHECK_ERR(recv(s[1], b, 16, MSG_ERRQUEUE), EAGAIN);
	CHECK_ERR(recv(s[1], b, 16, MSG_OOB), EINVAL);
	CHECK_EQ(pthread_create(&t, NULL, write_in_pieces, &s[0]), 0);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 10);
	pthread_join(t, NULL);
	CHECK(memcmp(b, "ababababab", 10) == 0);
	CHECK_EQ(pthread_create(&t, NULL, write_in_pieces, &s[0]), 0);
	CHECK_EQ(recv(s[1], b, 6, MSG_WAITALL | MSG_PEEK), 6);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 10);
	pthread_join(t, NULL);
	// A time limit ends it with what there is.
	struct timeval tv = {0, 100000};
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(write(s[0], "xyz", 3), 3);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 3);
	CHECK_ERR(recv(s[1], b, 10, MSG_WAITALL), EAGAIN);
	CHECK_EQ(write(s[0], "xyz", 3), 3);
	close(s[0]);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 3);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 0);
	close(s[1]);
}

static void test_send_flags(void)
{
	int s[2];
	char b[16];
	struct sockaddr_in elsewhere = at(1);

	CHECK(pair(s) >= 0);
	// The address says nothing on a connection.
	CHECK_EQ(sendto(s[0], "ab", 2, 0, SA(elsewhere), sizeof elsewhere), 2);
	CHECK_EQ(send(s[0], "cd", 2, MSG_MORE), 2);
	CHECK_EQ(send(s[0], "ef", 2, MSG_EOR | MSG_DONTROUTE | MSG_CONFIRM), 2);
	CHECK_EQ(recv(s[1], b, 6, MSG_WAITALL), 6);
	CHECK(memcmp(b, "abcdef", 6) == 0);
	CHECK_EQ(send(s[0], b, 0, 0), 0);
	CHECK_EQ(send(s[0], NULL, 0, 0), 0);
	// Corked bytes come when the cork goes, or after 200 ms.
	CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_CORK, 1), 0);
	CHECK_EQ(write(s[0], "abc", 3), 3);
	CHECK_EQ(write(s[0], "def", 3), 3);
	CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_CORK, 0), 0);
	CHECK_EQ(events(s[1], POLLIN, 10000), POLLIN);
	CHECK_EQ(recv(s[1], b, 16, 0), 6);
	CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_CORK, 1), 0);
	CHECK_EQ(write(s[0], "abc", 3), 3);
	CHECK_EQ(recv(s[1], b, 16, 0), 3);
	CHECK_ERR(send(s[0], (void *)8, 4, 0), EFAULT);
	CHECK_ERR(recv(s[1], (void *)8, 4, MSG_DONTWAIT), EAGAIN);
	close(s[0]), close(s[1]);
}

// What a cork, MSG_MORE or Nagle's algorithm holds back goes at once with the end of the stream, not when the
// 200 ms of a cork are over.
static void test_corked_ends(void)
{
	enum { rounds = 60 };
	int64_t begun = now_ns(CLOCK_MONOTONIC);

	for (int i = 0; i < rounds; i++) {
		int s[2];
		char b[16];

		CHECK(pair(s) >= 0);
		if (i % 3 == 0)
			CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_CORK, 1), 0);
		CHECK_EQ(send(s[0], "abc", 3, i % 3 == 1 ? MSG_MORE : 0), 3);
		CHECK_EQ(send(s[0], "def", 3, i % 3 == 1 ? MSG_MORE : 0), 3);
		if (i % 2 == 0)
			CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
		else
			close(s[0]);
		CHECK_EQ(recv(s[1], b, 16, MSG_WAITALL), 6);
		CHECK(memcmp(b, "abcdef", 6) == 0);
		CHECK_EQ(recv(s[1], b, 16, 0), 0);
		if (i % 2 == 0) {
			CHECK_EQ(write(s[1], "answer", 6), 6);
			CHECK_EQ(recv(s[0], b, 16, 0), 6);
			close(s[0]);
		}
		close(s[1]);
	}
	CHECK(now_ns(CLOCK_MONOTONIC) - begun < rounds * 100 * 1000000LL);
}

static void test_timeouts(void)
{
	int s[2], l;
	char b[4];
	struct timeval tv = {0, 60000}, got;
	socklen_t n = sizeof got;
	struct sockaddr_in a;

	CHECK(pair(s) >= 0);
	CHECK_EQ(getsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &got, &n), 0);
	CHECK_EQ(got.tv_sec, 0);
	CHECK_EQ(got.tv_usec, 0);
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(getsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &got, &n), 0);
	CHECK_EQ(got.tv_usec, 60000);
	int64_t begin = now_ns(CLOCK_MONOTONIC);
	CHECK_ERR(read(s[1], b, 4), EAGAIN);
	CHECK(now_ns(CLOCK_MONOTONIC) - begin >= 55000000);
	tv.tv_usec = 1000000;
	CHECK_ERR(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), EDOM);
	CHECK_ERR(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, 8), EINVAL);
	close(s[0]), close(s[1]);
	CHECK((l = listener(&a, 4)) >= 0);
	tv.tv_usec = 60000;
	CHECK_EQ(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_ERR(accept(l, NULL, NULL), EAGAIN);
	close(l);
}

static void test_buffers(void)
{
	int s;

	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(set(s, SOL_SOCKET, SO_SNDBUF, 10000), 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_SNDBUF), 20000);
	CHECK_EQ(set(s, SOL_SOCKET, SO_SNDBUF, 0), 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_SNDBUF), 4608);
	CHECK_EQ(set(s, SOL_SOCKET, SO_RCVBUF, 10000), 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_RCVBUF), 20000);
	CHECK_EQ(set(s, SOL_SOCKET, SO_RCVBUF, 1), 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_RCVBUF), 2304);
	CHECK_EQ(set(s, SOL_SOCKET, SO_RCVLOWAT, 0), 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_RCVLOWAT), 1);
	CHECK_ERR(set(s, SOL_SOCKET, SO_SNDLOWAT, 5), ENOPROTOOPT);
	CHECK_EQ(option(s, SOL_SOCKET, SO_SNDLOWAT), 1);
	close(s);
	// A connection with small buffers moves all that is given it.
	int p[2];
	pthread_t t;
	void *got;
	static char b[30000];
	CHECK(pair(p) >= 0);
	CHECK_EQ(set(p[0], SOL_SOCKET, SO_SNDBUF, 4096), 0);
	CHECK_EQ(set(p[1], SOL_SOCKET, SO_RCVBUF, 4096), 0);
	CHECK_EQ(pthread_create(&t, NULL, drain_later, &p[1]), 0);
	CHECK_EQ(write(p[0], b, sizeof b), sizeof b);
	close(p[0]);
	pthread_join(t, &got);
	CHECK_EQ((long)got, sizeof b);
	close(p[1]);
}

static void test_low_water(void)
{
	int s[2];
	char b[16];

	CHECK(pair(s) >= 0);
	CHECK_EQ(set(s[1], SOL_SOCKET, SO_RCVLOWAT, 5), 0);
	CHECK_EQ(write(s[0], "abc", 3), 3);
	CHECK_EQ(comes(s[1], 3), 3);
	CHECK_EQ(events(s[1], POLLIN, 50), 0);
	CHECK_EQ(recv(s[1], b, 2, 0), 2); // no more was wanted
	CHECK_EQ(write(s[0], "defgh", 5), 5);
	CHECK_EQ(events(s[1], POLLIN, 10000), POLLIN);
	CHECK_EQ(recv(s[1], b, 16, 0), 6);
	close(s[0]), close(s[1]);
}

static void test_socket_options(void)
{
	static const struct {
		int name, first, value, then;
	} kept[] = {
		{SO_REUSEADDR, 0, 5, 1}, {SO_REUSEPORT, 0, 1, 1}, {SO_KEEPALIVE, 0, 1, 1}, {SO_BROADCAST, 0, 1, 1},
		{SO_OOBINLINE, 0, 1, 1}, {SO_DONTROUTE, 0, 1, 1}, {SO_TIMESTAMP, 0, 1, 1}, {SO_PRIORITY, 0, 6, 6},
		{SO_NO_CHECK, 0, 1, 1},
	};
	int s;

	CHECK((s = stream(0)) >= 0);
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		CHECK_EQ(option(s, SOL_SOCKET, kept[i].name), kept[i].first);
		CHECK_EQ(set(s, SOL_SOCKET, kept[i].name, kept[i].value), 0);
		CHECK_EQ(option(s, SOL_SOCKET, kept[i].name), kept[i].then);
		CHECK_EQ(set(s, SOL_SOCKET, kept[i].name, 0), 0);
		CHECK_EQ(option(s, SOL_SOCKET, kept[i].name), 0);
	}
	CHECK_ERR(set(s, SOL_SOCKET, SO_TYPE, 1), ENOPROTOOPT);
	CHECK_ERR(set(s, SOL_SOCKET, SO_ERROR, 1), ENOPROTOOPT);
	CHECK_ERR(set(s, SOL_SOCKET, SO_ACCEPTCONN, 1), ENOPROTOOPT);
	CHECK_ERR(set(s, SOL_SOCKET, 9999, 1), ENOPROTOOPT);
	CHECK_ERR(set(s, 9999, 1, 1), ENOPROTOOPT);
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, "", 1), EINVAL);
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, (void *)8, 4), EFAULT);
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, "abcd", -1), EINVAL);
	CHECK_EQ(option(s, 9999, 1), -EOPNOTSUPP);
	CHECK_EQ(option(s, SOL_SOCKET, 9999), -ENOPROTOOPT);
	CHECK_EQ(option(s, SOL_SOCKET, SO_PEERCRED), 0); // of no process
	char c = 9;
	socklen_t n = 1;
	CHECK_EQ(set(s, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_REUSEADDR, &c, &n), 0);
	CHECK_EQ(n, 1);
	CHECK_EQ(c, 1);
	close(s);
}

static void test_tcp_options(void)
{
	static const struct {
		int name, first, value, then;
	} kept[] = {
		{TCP_NODELAY, 0, 1, 1}, {TCP_CORK, 0, 1, 1}, {TCP_KEEPIDLE, 7200, 30, 30}, {TCP_KEEPINTVL, 75, 10, 10},
		{TCP_KEEPCNT, 9, 3, 3}, {TCP_SYNCNT, 6, 2, 2}, {TCP_LINGER2, 60, 10, 10}, {TCP_DEFER_ACCEPT, 0, 1, 1},
		{TCP_QUICKACK, 1, 0, 0}, {TCP_QUICKACK, 0, 1, 1}, {TCP_USER_TIMEOUT, 0, 3000, 3000},
		{TCP_FASTOPEN, 0, 5, 5}, {TCP_FASTOPEN_CONNECT, 0, 1, 1}, {TCP_NOTSENT_LOWAT, 0, 16384, 16384},
		{TCP_THIN_LINEAR_TIMEOUTS, 0, 1, 1},
	};
	struct sockaddr_in a = at(0);
	char name[16] = "";
	socklen_t n = sizeof name;
	int s;

	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		CHECK_EQ((kept[i].name << 16) + option(s, IPPROTO_TCP, kept[i].name), (kept[i].name << 16) + kept[i].first);
		CHECK_EQ(set(s, IPPROTO_TCP, kept[i].name, kept[i].value), 0);
		if (kept[i].name == TCP_FASTOPEN) // kept by listening sockets alone
			continue;
		CHECK_EQ((kept[i].name << 16) + option(s, IPPROTO_TCP, kept[i].name), (kept[i].name << 16) + kept[i].then);
	}
	CHECK_EQ(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &n), 0);
	CHECK_EQ(n, sizeof name);
	CHECK(strcmp(name, "cubic") == 0 || strcmp(name, "bbr") == 0 || strcmp(name, "reno") == 0);
	CHECK_EQ(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
	CHECK_EQ(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &n), 0);
	CHECK(strcmp(name, "reno") == 0);
	CHECK_ERR(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "nonsense", 8), ENOENT);
	CHECK_ERR(set(s, IPPROTO_TCP, TCP_KEEPCNT, 128), EINVAL);
	CHECK_ERR(set(s, IPPROTO_TCP, TCP_KEEPINTVL, 0), EINVAL);
	CHECK_ERR(set(s, IPPROTO_TCP, TCP_MAXSEG, 10), EINVAL);
	CHECK_EQ(set(s, IPPROTO_TCP, TCP_MAXSEG, 1000), 0);
	CHECK_ERR(set(s, IPPROTO_TCP, TCP_USER_TIMEOUT, -1), EINVAL);
	CHECK_ERR(set(s, IPPROTO_TCP, TCP_INFO, 1), ENOPROTOOPT);
	close(s);
}

static void test_info(void)
{
	struct sockaddr_in a;
	struct tcp_info i;
	socklen_t n = sizeof i;
	int l, s, c;
	char b[16];

	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(state(s), TCP_CLOSE);
	CHECK((l = listener(&a, 7)) >= 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK_EQ(getsockopt(l, IPPROTO_TCP, TCP_INFO, &i, &n), 0);
	CHECK_EQ(i.tcpi_state, TCP_LISTEN);
	CHECK_EQ(i.tcpi_sacked, 7); // the backlog
	CHECK_EQ(i.tcpi_unacked, 1); // who waits
	CHECK((c = accept(l, NULL, NULL)) >= 0);
	CHECK_EQ(write(s, "abc", 3), 3);
	CHECK_EQ(read(c, b, 16), 3);
	CHECK_EQ(getsockopt(s, IPPROTO_TCP, TCP_INFO, &i, &n), 0);
	CHECK_EQ(i.tcpi_state, TCP_ESTABLISHED);
	CHECK(i.tcpi_options & TCPI_OPT_TIMESTAMPS);
	CHECK(i.tcpi_options & TCPI_OPT_SACK);
	CHECK(i.tcpi_options & TCPI_OPT_WSCALE);
	CHECK(i.tcpi_snd_mss > 500);
	CHECK(i.tcpi_snd_cwnd > 0);
	CHECK(i.tcpi_rto > 0);
	n = 8;
	CHECK_EQ(getsockopt(s, IPPROTO_TCP, TCP_INFO, &i, &n), 0);
	CHECK_EQ(n, 8);
	close(s), close(c), close(l);
}

static void test_accepted_inherits(void)
{
	struct sockaddr_in a;
	int l, s, c;
	struct timeval tv = {3, 0};
	socklen_t n = sizeof tv;

	CHECK((l = listener(&a, 4)) >= 0);
	CHECK_EQ(set(l, IPPROTO_TCP, TCP_NODELAY, 1), 0);
	CHECK_EQ(set(l, SOL_SOCKET, SO_KEEPALIVE, 1), 0);
	CHECK_EQ(set(l, IPPROTO_TCP, TCP_KEEPIDLE, 33), 0);
	CHECK_EQ(set(l, IPPROTO_TCP, TCP_KEEPCNT, 4), 0);
	CHECK_EQ(set(l, IPPROTO_TCP, TCP_KEEPINTVL, 44), 0);
	CHECK_EQ(set(l, IPPROTO_TCP, TCP_USER_TIMEOUT, 4000), 0);
	CHECK_EQ(set(l, IPPROTO_IP, IP_TTL, 44), 0);
	CHECK_EQ(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(fcntl(l, F_SETFL, O_NONBLOCK), 0);
	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK(events(l, POLLIN, 10000) == POLLIN);
	CHECK((c = accept(l, NULL, NULL)) >= 0);
	CHECK_EQ(option(c, IPPROTO_TCP, TCP_NODELAY), 1);
	CHECK_EQ(option(c, SOL_SOCKET, SO_KEEPALIVE), 1);
	CHECK_EQ(option(c, IPPROTO_TCP, TCP_KEEPIDLE), 33);
	CHECK_EQ(option(c, IPPROTO_TCP, TCP_KEEPCNT), 4);
	CHECK_EQ(option(c, IPPROTO_TCP, TCP_KEEPINTVL), 44);
	CHECK_EQ(option(c, IPPROTO_TCP, TCP_USER_TIMEOUT), 4000);
	CHECK_EQ(option(c, IPPROTO_IP, IP_TTL), 44);
	CHECK_EQ(option(c, SOL_SOCKET, SO_ACCEPTCONN), 0);
	CHECK_EQ(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, &n), 0);
	CHECK_EQ(tv.tv_sec, 3);
	// The flags are not inherited, but are accept4's.
	CHECK_EQ(fcntl(c, F_GETFL) & O_NONBLOCK, 0);
	CHECK_EQ(fcntl(c, F_GETFD), 0);
	close(s), close(c);
	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK(events(l, POLLIN, 10000) == POLLIN);
	CHECK((c = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	CHECK_EQ(fcntl(c, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	CHECK_EQ(fcntl(c, F_GETFD), FD_CLOEXEC);
	CHECK_ERR(syscall(SYS_accept4, l, NULL, NULL, 4), EINVAL);
	close(s), close(c), close(l);
}

static void test_accept_arguments(void)
{
	struct sockaddr_in a, peer;
	socklen_t n;
	int l, s, c;

	CHECK((l = listener(&a, 4)) >= 0);
	CHECK_ERR(accept(-1, NULL, NULL), EBADF);
	CHECK_ERR(accept(0, NULL, NULL), ENOTSOCK);
	for (int i = 0; i < 3; i++) {
		CHECK((s = stream(0)) >= 0);
		CHECK_EQ(connect(s, SA(a), sizeof a), 0);
		if (i == 0) {
			n = -1;
			CHECK_ERR(accept(l, SA(peer), &n), EINVAL);
		} else if (i == 1) {
			CHECK_ERR(accept(l, SA(peer), (void *)8), EFAULT);
		} else {
			n = 4;
			memset(&peer, 0, sizeof peer);
			CHECK((c = accept(l, SA(peer), &n)) >= 0);
			CHECK_EQ(n, sizeof peer);
			CHECK(peer.sin_family == AF_INET && peer.sin_port != 0 && peer.sin_addr.s_addr == 0);
			close(c);
		}
		close(s);
	}
	close(l);
	CHECK((s = stream(0)) >= 0);
	CHECK_ERR(accept(s, NULL, NULL), EINVAL);
	close(s);
}

static void test_backlog(void)
{
	struct sockaddr_in a;
	int l, s[8], c, done = 0;

	CHECK((l = listener(&a, 2)) >= 0);
	for (int i = 0; i < 8; i++) {
		CHECK((s[i] = stream(SOCK_NONBLOCK)) >= 0);
		if (connect(s[i], SA(a), sizeof a))
			CHECK_EQ(errno, EINPROGRESS);
		events(s[i], POLLOUT, i < 3 ? 10000 : 50);
	}
	// One more than the backlog is completed; the others wait.
	for (int i = 0; i < 8; i++)
		done += events(s[i], POLLOUT, 0) == POLLOUT;
	if (done < 3 || done >= 8)
		CHECK_EQ(done, 3);
	for (int i = 0; i < 3; i++) {
		CHECK((c = accept(l, NULL, NULL)) >= 0);
		close(c);
	}
	for (int i = 0; i < 8; i++)
		close(s[i]);
	close(l);
}

static void test_listen(void)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	int l, s;

	CHECK((l = stream(0)) >= 0);
	CHECK_EQ(listen(l, 1), 0); // binds it to a port
	CHECK_EQ(getsockname(l, SA(a), &n), 0);
	CHECK(a.sin_port != 0);
	CHECK_EQ(a.sin_addr.s_addr, 0);
	CHECK_EQ(listen(l, 10), 0);
	CHECK_EQ(listen(l, -1), 0);
	CHECK_ERR(connect(l, SA(a), sizeof a), EISCONN);
	CHECK_ERR(send(l, "a", 1, MSG_NOSIGNAL), EPIPE);
	char b;
	CHECK_ERR(recv(l, &b, 1, 0), ENOTCONN);
	CHECK_EQ(events(l, POLLIN | POLLOUT, 0), 0);
	CHECK_EQ(inqueue(l, SIOCINQ), -EINVAL);
	CHECK_EQ(inqueue(l, SIOCOUTQ), -EINVAL);
	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK_ERR(listen(s, 1), EINVAL);
	CHECK_ERR(bind(s, SA(a), sizeof a), EINVAL);
	close(s), close(l);
}

static void test_queues(void)
{
	int s[2], sent = 0;
	static char b[1 << 16];
	ssize_t n;

	CHECK(pair(s) >= 0);
	CHECK_EQ(inqueue(s[0], SIOCOUTQ), 0);
	CHECK_EQ(write(s[0], "abcde", 5), 5);
	CHECK_EQ(comes(s[1], 5), 5);
	for (int i = 0; i < 1000 && inqueue(s[0], SIOCOUTQ); i++)
		sleep_ms(1);
	CHECK_EQ(inqueue(s[0], SIOCOUTQ), 0);
	while ((n = send(s[0], b, sizeof b, MSG_DONTWAIT)) > 0)
		sent += n;
	CHECK(sent > 10000);
	CHECK(inqueue(s[0], SIOCOUTQ) > 0);
	close(s[0]), close(s[1]);
}

static void test_epoll_edges(void)
{
	int s[2], e;
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	static char b[1 << 16];
	ssize_t n;

	CHECK(pair(s) >= 0);
	CHECK((e = epoll_create1(0)) >= 0);
	CHECK_EQ(epoll_ctl(e, EPOLL_CTL_ADD, s[0], &ev), 0);
	CHECK_EQ(epoll_wait(e, &ev, 1, 10000), 1);
	CHECK_EQ(ev.events, EPOLLOUT);
	CHECK_EQ(epoll_wait(e, &ev, 1, 0), 0);
	CHECK_EQ(write(s[1], "a", 1), 1);
	CHECK_EQ(epoll_wait(e, &ev, 1, 10000), 1);
	CHECK_EQ(ev.events, EPOLLIN | EPOLLOUT);
	CHECK_EQ(epoll_wait(e, &ev, 1, 0), 0);
	CHECK_EQ(write(s[1], "b", 1), 1); // more is an edge, though the first was not read
	CHECK_EQ(epoll_wait(e, &ev, 1, 10000), 1);
	CHECK_EQ(recv(s[0], b, 2, MSG_WAITALL), 2);
	CHECK_EQ(epoll_wait(e, &ev, 1, 0), 0);
	// Full, then room again.
	while ((n = send(s[0], b, sizeof b, MSG_DONTWAIT)) > 0 || events(s[0], POLLOUT, 50) == POLLOUT)
		;
	while (epoll_wait(e, &ev, 1, 0) > 0)
		;
	while (recv(s[1], b, sizeof b, MSG_DONTWAIT) > 0 || events(s[1], POLLIN, 50) == POLLIN)
		;
	CHECK_EQ(epoll_wait(e, &ev, 1, 10000), 1);
	CHECK_EQ(ev.events, EPOLLOUT);
	close(s[1]);
	CHECK_EQ(epoll_wait(e, &ev, 1, 10000), 1);
	CHECK_EQ(ev.events & (EPOLLIN | EPOLLRDHUP), EPOLLIN | EPOLLRDHUP);
	close(s[0]), close(e);
}

static void test_ports(void)
{
	struct sockaddr_in a, b, any = {.sin_family = AF_INET};
	socklen_t n = sizeof a;
	int l, s, x, y;

	// A socket that was bound, with or without SO_REUSEADDR, against another.
	for (int first = 0; first < 2; first++)
		for (int second = 0; second < 2; second++) {
			a = at(0);
			n = sizeof a;
			CHECK((x = stream(0)) >= 0);
			CHECK((y = stream(0)) >= 0);
			CHECK_EQ(set(x, SOL_SOCKET, SO_REUSEADDR, first), 0);
			CHECK_EQ(set(y, SOL_SOCKET, SO_REUSEADDR, second), 0);
			CHECK_EQ(bind(x, SA(a), sizeof a), 0);
			CHECK_EQ(getsockname(x, SA(a), &n), 0);
			if (first && second) {
				CHECK_EQ(bind(y, SA(a), sizeof a), 0);
				CHECK_EQ(listen(x, 1), 0);
				CHECK_ERR(listen(y, 1), EADDRINUSE);
			} else {
				CHECK_ERR(bind(y, SA(a), sizeof a), EADDRINUSE);
				any.sin_port = a.sin_port;
				CHECK_ERR(bind(y, SA(any), sizeof any), EADDRINUSE);
			}
			close(x), close(y);
		}
	// A connection on the port stands in the way of a new server without SO_REUSEADDR.
	CHECK((l = stream(0)) >= 0);
	CHECK_EQ(set(l, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	a = at(0);
	CHECK_EQ(bind(l, SA(a), sizeof a), 0);
	CHECK_EQ(listen(l, 4), 0);
	CHECK_EQ(getsockname(l, SA(a), &n), 0);
	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK((x = accept(l, NULL, NULL)) >= 0);
	close(l);
	CHECK((l = stream(0)) >= 0);
	CHECK_ERR(bind(l, SA(a), sizeof a), EADDRINUSE);
	close(x);
	CHECK_EQ(events(s, POLLIN, 10000), POLLIN);
	close(s);
	sleep_ms(20);
	CHECK_ERR(bind(l, SA(a), sizeof a), EADDRINUSE); // TIME_WAIT
	CHECK_EQ(set(l, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	CHECK_EQ(bind(l, SA(a), sizeof a), 0);
	CHECK_EQ(listen(l, 4), 0);
	close(l);
	// SO_REUSEPORT wants both to have it.
	CHECK((x = stream(0)) >= 0);
	CHECK((y = stream(0)) >= 0);
	a = at(0);
	CHECK_EQ(set(x, SOL_SOCKET, SO_REUSEPORT, 1), 0);
	CHECK_EQ(bind(x, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(x, SA(a), &n), 0);
	CHECK_ERR(bind(y, SA(a), sizeof a), EADDRINUSE);
	CHECK_EQ(set(y, SOL_SOCKET, SO_REUSEPORT, 1), 0);
	CHECK_EQ(bind(y, SA(a), sizeof a), 0);
	CHECK_EQ(listen(x, 4), 0);
	CHECK_EQ(listen(y, 4), 0);
	close(x), close(y);
	// Different addresses of this machine don't meet; the wildcard meets all.
	CHECK((x = stream(0)) >= 0);
	CHECK((y = stream(0)) >= 0);
	CHECK_EQ(bind(x, SA(a), sizeof a), 0);
	b = a;
	b.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	CHECK_EQ(bind(y, SA(b), sizeof b), 0);
	CHECK_EQ(getsockname(y, SA(b), &n), 0);
	CHECK_EQ(b.sin_addr.s_addr, htonl(INADDR_LOOPBACK + 1));
	close(x), close(y);
	// Clients bound to a port reach two servers from it.
	int l1, l2;
	struct sockaddr_in a1, a2;
	CHECK((l1 = listener(&a1, 4)) >= 0);
	CHECK((l2 = listener(&a2, 4)) >= 0);
	CHECK((x = stream(0)) >= 0);
	CHECK((y = stream(0)) >= 0);
	CHECK_EQ(set(x, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	CHECK_EQ(set(y, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	a = at(0);
	CHECK_EQ(bind(x, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(x, SA(a), &n), 0);
	CHECK_EQ(bind(y, SA(a), sizeof a), 0);
	CHECK_EQ(connect(x, SA(a1), sizeof a1), 0);
	CHECK_ERR(connect(y, SA(a1), sizeof a1), EADDRNOTAVAIL);
	CHECK_EQ(connect(y, SA(a2), sizeof a2), 0);
	close(x), close(y), close(l1), close(l2);
}

static void test_dual_stack_ports(void)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	struct sockaddr_in four = {.sin_family = AF_INET};
	socklen_t n = sizeof six;
	int x, y;

	CHECK((x = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(option(x, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	CHECK_EQ(bind(x, SA(six), sizeof six), 0);
	CHECK_ERR(set(x, IPPROTO_IPV6, IPV6_V6ONLY, 1), EINVAL);
	CHECK_EQ(listen(x, 4), 0);
	CHECK_EQ(getsockname(x, SA(six), &n), 0);
	CHECK((y = stream(0)) >= 0);
	four.sin_port = six.sin6_port;
	CHECK_ERR(bind(y, SA(four), sizeof four), EADDRINUSE);
	close(x);
	// With IPV6_V6ONLY both have the port.
	six.sin6_addr = in6addr_any;
	CHECK((x = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(set(x, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
	CHECK_EQ(option(x, IPPROTO_IPV6, IPV6_V6ONLY), 1);
	CHECK_EQ(bind(x, SA(six), sizeof six), 0);
	CHECK_EQ(listen(x, 4), 0);
	CHECK_EQ(bind(y, SA(four), sizeof four), 0);
	CHECK_EQ(listen(y, 4), 0);
	close(x), close(y);
	// A socket for IPv6 alone doesn't reach IPv4.
	struct sockaddr_in a;
	CHECK((x = listener(&a, 4)) >= 0);
	CHECK((y = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(set(y, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &six.sin6_addr);
	six.sin6_port = a.sin_port;
	CHECK_ERR(connect(y, SA(six), sizeof six), ENETUNREACH);
	CHECK_EQ(set(y, IPPROTO_IPV6, IPV6_V6ONLY, 0), 0);
	CHECK_EQ(connect(y, SA(six), sizeof six), 0);
	close(x), close(y);
	// An address of IPv4 as such is too short for it.
	CHECK((x = listener(&a, 4)) >= 0);
	CHECK((y = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_ERR(connect(y, SA(a), sizeof a), EINVAL);
	CHECK_EQ(option(y, SOL_SOCKET, SO_DOMAIN), AF_INET6);
	close(x), close(y);
}

static void test_bind_arguments(void)
{
	struct sockaddr_in a = at(0), b;
	socklen_t n = sizeof b;
	int s;

	CHECK((s = stream(0)) >= 0);
	CHECK_ERR(bind(s, SA(a), sizeof a - 1), EINVAL);
	CHECK_ERR(bind(s, SA(a), 1000), EINVAL);
	CHECK_ERR(bind(s, SA(a), -1), EINVAL);
	a.sin_family = AF_UNIX;
	CHECK_ERR(bind(s, SA(a), sizeof a), EAFNOSUPPORT);
	CHECK_ERR(connect(s, SA(a), sizeof a), EAFNOSUPPORT);
	a.sin_family = AF_UNSPEC;
	CHECK_ERR(bind(s, SA(a), sizeof a), EAFNOSUPPORT); // 127.0.0.1 is not INADDR_ANY
	a.sin_addr.s_addr = 0;
	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(s, SA(b), &n), 0);
	CHECK_EQ(b.sin_family, AF_INET);
	CHECK(b.sin_port != 0);
	close(s);
	CHECK((s = stream(0)) >= 0);
	a = at(0);
	a.sin_addr.s_addr = inet_addr("192.0.2.7");
	CHECK_ERR(bind(s, SA(a), sizeof a), EADDRNOTAVAIL);
	close(s);
}

static void test_signal_interrupts(void)
{
	int s[2];
	char b[4];
	struct sigaction act = {.sa_handler = on_pipe};
	struct itimerval t = {.it_value.tv_usec = 50000};

	CHECK(pair(s) >= 0);
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_ERR(read(s[0], b, 4), EINTR);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_ERR(recv(s[0], b, 4, MSG_WAITALL), EINTR);
	CHECK_EQ(write(s[1], "ab", 2), 2);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_EQ(recv(s[0], b, 4, MSG_WAITALL), 2);
	// With SO_RCVTIMEO even SA_RESTART doesn't restart it (signal(7)).
	struct timeval tv = {30, 0};
	act.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &act, NULL);
	CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_ERR(read(s[0], b, 4), EINTR);
	close(s[0]), close(s[1]);
	signal(SIGALRM, SIG_DFL);
}

static void test_sendfile(void)
{
	int s[2], f, p[2];
	static char b[100000], got[100000];
	FILE *t = tmpfile();
	off_t at = 10;

	CHECK(t != NULL);
	f = fileno(t);
	for (size_t i = 0; i < sizeof b; i++)
		b[i] = i * 7 >> 3;
	CHECK_EQ(write(f, b, sizeof b), sizeof b);
	CHECK(pair(s) >= 0);
	CHECK_EQ(sendfile(s[0], f, &at, 50000), 50000);
	CHECK_EQ(at, 50010);
	CHECK_EQ(recv(s[1], got, 50000, MSG_WAITALL), 50000);
	CHECK(memcmp(got, b + 10, 50000) == 0);
	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(write(p[1], "through a pipe", 14), 14);
	CHECK_EQ(splice(p[0], NULL, s[0], NULL, 14, SPLICE_F_MOVE), 14);
	CHECK_EQ(splice(s[1], NULL, p[1], NULL, 100, 0), 14);
	CHECK_EQ(read(p[0], got, 100), 14);
	CHECK(memcmp(got, "through a pipe", 14) == 0);
	CHECK_ERR(lseek(s[0], 0, SEEK_CUR), ESPIPE);
	CHECK_ERR(pread(s[0], got, 1, 0), ESPIPE);
	CHECK_ERR(pwrite(s[0], got, 1, 0), ESPIPE);
	CHECK_ERR(ftruncate(s[0], 0), EINVAL);
	CHECK_ERR(fsync(s[0]), EINVAL);
	struct stat st;
	CHECK_EQ(fstat(s[0], &st), 0);
	CHECK(S_ISSOCK(st.st_mode));
	close(s[0]);
	CHECK_EQ(splice(s[1], NULL, p[1], NULL, 100, 0), 0);
	close(s[1]), close(p[0]), close(p[1]);
	fclose(t);
}

static void test_connect_blocking_timeout(void)
{
	// To fill a backlog makes a connect that nobody answers.
	struct sockaddr_in a;
	struct timeval tv = {0, 300000};
	int l, s[6], n = 0, err = 0;

	CHECK((l = listener(&a, 0)) >= 0);
	for (; n < 6 && err == 0; n++) {
		CHECK((s[n] = stream(0)) >= 0);
		if (n > 0)
			CHECK_EQ(setsockopt(s[n], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv), 0);
		err = connect(s[n], SA(a), sizeof a) ? errno : 0;
	}
	CHECK_EQ(err, EINPROGRESS);
	CHECK_ERR(connect(s[n - 1], SA(a), sizeof a), EALREADY);
	CHECK_EQ(state(s[n - 1]), TCP_SYN_SENT);
	for (int i = 0; i < n; i++)
		close(s[i]);
	close(l);
}

static void test_self_connection(void)
{
	struct sockaddr_in a = at(0);
	socklen_t n = sizeof a;
	int s;
	char b[8];

	CHECK((s = stream(0)) >= 0);
	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(s, SA(a), &n), 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK_EQ(write(s, "myself", 6), 6);
	CHECK_EQ(read(s, b, 8), 6);
	close(s);
}

static void test_async(void)
{
	int s[2], on = 1, pid;
	char b[4];

	CHECK(pair(s) >= 0);
	CHECK_EQ(ioctl(s[0], FIONBIO, &on), 0);
	CHECK_ERR(read(s[0], b, 4), EAGAIN);
	CHECK_EQ(fcntl(s[0], F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDWR);
	pid = getpid();
	CHECK_EQ(ioctl(s[0], FIOSETOWN, &pid), 0);
	pid = 0;
	CHECK_EQ(ioctl(s[0], FIOGETOWN, &pid), 0);
	CHECK_EQ(pid, getpid());
	CHECK_EQ(fcntl(s[0], F_GETOWN), getpid());
	close(s[0]), close(s[1]);
}

static void ignored_signal(int sig) { (void)sig; }

// waiter is a thread that waits for a connection.
struct waiter {
	pthread_t thread;
	volatile int tid, got;
	int listener;
};

static void *wait_for_connection(void *arg)
{
	struct waiter *w = arg;

	w->tid = syscall(SYS_gettid);
	w->got = accept(w->listener, NULL, NULL);
	return NULL;
}

// of_status returns a number of a thread's, or the first letter of a word.
static long of_status(int tid, const char *name)
{
	char path[64], line[256];
	long v = -1;
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
	if (!(f = fopen(path, "r")))
		return -1;
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, name, strlen(name))) {
			char *value = line + strlen(name) + 2;

			v = *value >= 'A' ? *value : atol(value);
		}
	fclose(f);
	return v;
}

#define WAITERS 4

static int accepted(struct waiter *w)
{
	int n = 0;

	for (int i = 0; i < WAITERS; i++)
		n += w[i].got > 0;
	return n;
}

// Of threads that wait for connections each connection wakes one, and each of several its own.
static void test_one_is_woken(void)
{
	int woken = 0;

	for (int try = 0; try < 20 && woken != 1; try++) {
		struct waiter w[WAITERS] = {0};
		struct sockaddr_in a;
		long before[WAITERS];
		int l, c[WAITERS];

		CHECK((l = listener(&a, 8)) >= 0);
		for (int i = 0; i < WAITERS; i++) {
			w[i].listener = l;
			CHECK_EQ(pthread_create(&w[i].thread, NULL, wait_for_connection, &w[i]), 0);
		}
		for (int i = 0; i < WAITERS; i++)
			while (!w[i].tid || of_status(w[i].tid, "State") != 'S')
				sleep_ms(1);
		sleep_ms(20);
		for (int i = 0; i < WAITERS; i++)
			before[i] = of_status(w[i].tid, "voluntary_ctxt_switches");
		for (int n = 0; n < WAITERS; n++) {
			CHECK((c[n] = stream(0)) >= 0);
			CHECK_EQ(connect(c[n], SA(a), sizeof a), 0);
			if (n)
				continue;
			while (!accepted(w))
				sleep_ms(1);
			sleep_ms(5);
			woken = 1;
			for (int i = 0; i < WAITERS; i++)
				if (w[i].got <= 0)
					woken += of_status(w[i].tid, "voluntary_ctxt_switches") != before[i];
		}
		for (int i = 0; i < WAITERS; i++) {
			pthread_join(w[i].thread, NULL);
			CHECK(w[i].got > 0);
			close(w[i].got), close(c[i]);
		}
		close(l);
	}
	CHECK_EQ(woken, 1);
}

// Who waits for a connection and has to do with a signal takes none from the others.
static void test_signals_take_no_connection(void)
{
	struct waiter w[WAITERS] = {0};
	struct sockaddr_in a;
	int l, c[WAITERS];

	signal(SIGUSR1, ignored_signal);
	CHECK((l = listener(&a, 8)) >= 0);
	for (int i = 0; i < WAITERS; i++) {
		w[i].listener = l;
		CHECK_EQ(pthread_create(&w[i].thread, NULL, wait_for_connection, &w[i]), 0);
	}
	for (int n = 0; n < WAITERS; n++) {
		CHECK((c[n] = stream(0)) >= 0);
		for (int i = 0; i < WAITERS; i++)
			if (w[i].got <= 0)
				pthread_kill(w[i].thread, SIGUSR1);
		CHECK_EQ(connect(c[n], SA(a), sizeof a), 0);
	}
	for (int i = 0; i < WAITERS; i++) {
		pthread_join(w[i].thread, NULL);
		CHECK(w[i].got > 0);
		close(w[i].got), close(c[i]);
	}
	close(l);
}

// TCP_QUICKACK says what the connection does (tcp(7)): it ends when answers take acknowledgments along.
static void test_quick_ack(void)
{
	int s[2], v;
	char b[4];

	CHECK(pair(s) >= 0);
	CHECK_EQ(option(s[0], IPPROTO_TCP, TCP_QUICKACK), 1);
	CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_QUICKACK, 0), 0);
	CHECK_EQ(option(s[0], IPPROTO_TCP, TCP_QUICKACK), 0);
	CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_QUICKACK, 1), 0);
	CHECK_EQ(option(s[0], IPPROTO_TCP, TCP_QUICKACK), 1);
	CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_QUICKACK, 2), 0);
	CHECK_EQ(option(s[0], IPPROTO_TCP, TCP_QUICKACK), 1);
	for (v = 1; v >= 0; v--) {
		CHECK_EQ(send(s[1], "ask", 3, 0), 3);
		CHECK_EQ(recv(s[0], b, 4, 0), 3);
		CHECK_EQ(set(s[0], IPPROTO_TCP, TCP_QUICKACK, v), 0);
		CHECK_EQ(send(s[0], "say", 3, 0), 3);
		CHECK_EQ(recv(s[1], b, 4, 0), 3);
	}
	close(s[0]), close(s[1]);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"refused-then-again", test_connect_refused_then_again},
		{"nonblocking-refused-then-again", test_nonblocking_refused_then_again},
		{"reading-tells-the-error", test_reading_tells_the_error},
		{"connect-to-unspec", test_connect_to_unspec},
		{"names", test_names},
		{"shutdown", test_shutdown},
		{"shutdown-ends-waits", test_shutdown_ends_waits},
		{"reset", test_reset},
		{"broken-pipe", test_broken_pipe},
		{"linger", test_linger},
		{"receive-flags", test_receive_flags},
		{"send-flags", test_send_flags},
		{"corked-ends", test_corked_ends},
		{"timeouts", test_timeouts},
		{"buffers", test_buffers},
		{"low-water", test_low_water},
		{"socket-options", test_socket_options},
		{"tcp-options", test_tcp_options},
		{"info", test_info},
		{"accepted-inherits", test_accepted_inherits},
		{"accept-arguments", test_accept_arguments},
		{"backlog", test_backlog},
		{"listen", test_listen},
		{"queues", test_queues},
		{"epoll-edges", test_epoll_edges},
		{"ports", test_ports},
		{"dual-stack-ports", test_dual_stack_ports},
		{"bind-arguments", test_bind_arguments},
		{"signal-interrupts", test_signal_interrupts},
		{"sendfile", test_sendfile},
		{"connect-timeout", test_connect_blocking_timeout},
		{"self-connection", test_self_connection},
		{"async", test_async},
		{"one-is-woken", test_one_is_woken},
		{"signals-take-no-connection", test_signals_take_no_connection},
		{"quick-ack", test_quick_ack},
	};

	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
