// Urgent bytes of AF_UNIX streams (MSG_OOB in send(2) and recv(2), SO_OOBINLINE and SIOCATMARK).
#define CHECK_SECONDS 60
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/sockios.h>

static int s[2];

static int pair(void) { return socketpair(AF_UNIX, SOCK_STREAM, 0, s); }

static void close_pair(void)
{
	close(s[0]);
	close(s[1]);
}

static int sends(const char *what, int flags) { return send(s[0], what, strlen(what), flags) != (ssize_t)strlen(what); }

// gets says whether a receive gives these bytes and no more.
static int gets_(int flags, const char *want)
{
	char b[64];
	int n = recv(s[1], b, sizeof b, MSG_DONTWAIT | flags);

	return n == (int)strlen(want) && memcmp(b, want, n) == 0;
}

static int nothing(int flags)
{
	char b[8];

	return recv(s[1], b, sizeof b, MSG_DONTWAIT | flags) == -1 ? errno : 0;
}

static int mark(void)
{
	int v = -1;

	return ioctl(s[1], SIOCATMARK, &v) ? -errno : v;
}

static int events(int fd, int want, int timeout)
{
	struct pollfd p = {.fd = fd, .events = want};
	int n = poll(&p, 1, timeout);

	return n <= 0 ? n : p.revents;
}

static void in_line(void)
{
	int on = 1;

	setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
}

static void test_refusals(void)
{
	char b[4];
	int v;

	CHECK_EQ(pair(), 0);
	CHECK_EQ(nothing(MSG_OOB), EINVAL);
	CHECK_ERR(recv(s[1], b, 1, MSG_OOB), EINVAL); // nobody waits for it
	CHECK_ERR(send(s[0], "", 0, MSG_OOB), EOPNOTSUPP);
	CHECK_EQ(mark(), 0);
	close(s[0]);
	CHECK_EQ(nothing(MSG_OOB), EINVAL);
	close(s[1]);
	for (int type = SOCK_DGRAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_DGRAM) {
		CHECK_EQ(socketpair(AF_UNIX, type, 0, s), 0);
		CHECK_ERR(send(s[0], "x", 1, MSG_OOB), EOPNOTSUPP);
		CHECK_ERR(recv(s[1], b, 1, MSG_OOB), EOPNOTSUPP);
		CHECK_ERR(ioctl(s[1], SIOCATMARK, &v), EOPNOTSUPP);
		close_pair();
	}
	s[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR(send(s[0], "x", 1, MSG_OOB), ENOTCONN);
	CHECK_ERR(recv(s[0], b, 1, MSG_OOB), EINVAL);
	close(s[0]);
}

static void test_out_of_turn(void)
{
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("abc", MSG_OOB), 0);
	CHECK_EQ(events(s[1], POLLIN | POLLPRI, 0), POLLIN | POLLPRI);
	CHECK_EQ(mark(), 0);
	CHECK(gets_(MSG_OOB | MSG_PEEK, "c"));
	CHECK(gets_(0, "ab"));
	CHECK_EQ(mark(), 1);
	CHECK(gets_(MSG_OOB | MSG_PEEK, "c"));
	CHECK(gets_(MSG_OOB, "c"));
	CHECK_EQ(nothing(MSG_OOB), EINVAL);
	CHECK_EQ(events(s[1], POLLPRI, 0), 0);
	CHECK_EQ(nothing(0), EAGAIN);
	CHECK_EQ(mark(), 0);
	// The place of one that was received ends a receive too.
	CHECK_EQ(sends("hello", MSG_OOB), 0);
	CHECK_EQ(sends("world", 0), 0);
	CHECK(gets_(MSG_OOB, "o"));
	CHECK(gets_(MSG_PEEK, "hell"));
	CHECK(gets_(0, "hell"));
	CHECK_EQ(mark(), 1);
	CHECK(gets_(0, "world"));
	CHECK_EQ(mark(), 0);
	struct iovec v = {.iov_base = (char[8]){0}, .iov_len = 8};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	CHECK_EQ(sends("xy", MSG_OOB), 0);
	CHECK_EQ(recvmsg(s[1], &m, MSG_OOB), 1);
	CHECK_EQ(m.msg_flags & MSG_OOB, MSG_OOB);
	CHECK(gets_(0, "x"));
	close_pair();
}

static void test_left_out(void)
{
	int n = -1;

	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("x", MSG_OOB), 0);
	CHECK_EQ(mark(), 1);
	CHECK_EQ(nothing(0), EAGAIN); // and it is gone
	CHECK_EQ(nothing(MSG_OOB), EINVAL);
	CHECK_EQ(events(s[1], POLLIN | POLLPRI, 0), 0);
	CHECK_EQ(sends("hello", MSG_OOB), 0);
	CHECK_EQ(sends("world", 0), 0);
	CHECK(gets_(MSG_PEEK, "hell"));
	CHECK(gets_(0, "hell"));
	CHECK_EQ(mark(), 1);
	CHECK(gets_(MSG_PEEK, "world"));
	CHECK_EQ(mark(), 1);
	CHECK(gets_(0, "world"));
	CHECK_EQ(nothing(MSG_OOB), EINVAL);
	CHECK_EQ(sends("abc", MSG_OOB), 0);
	CHECK_EQ(ioctl(s[1], FIONREAD, &n), 0);
	CHECK(n >= 3);
	CHECK(gets_(0, "ab"));
	close_pair();
}

static void test_in_line(void)
{
	CHECK_EQ(pair(), 0);
	in_line();
	CHECK_EQ(sends("hello", MSG_OOB), 0);
	CHECK_EQ(sends("world", 0), 0);
	CHECK_EQ(events(s[1], POLLIN | POLLPRI, 0), POLLIN | POLLPRI);
	CHECK_EQ(nothing(MSG_OOB), EINVAL);
	CHECK(gets_(0, "hell"));
	CHECK_EQ(mark(), 1);
	CHECK(gets_(MSG_PEEK, "oworld"));
	CHECK(gets_(0, "oworld"));
	CHECK_EQ(mark(), 0);
	CHECK_EQ(events(s[1], POLLIN | POLLPRI, 0), 0);
	close_pair();
}

static void test_the_last_counts(void)
{
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("hello", MSG_OOB), 0);
	CHECK_EQ(sends("world", MSG_OOB), 0);
	CHECK(gets_(0, "helloworl"));
	CHECK_EQ(mark(), 1);
	CHECK(gets_(MSG_OOB, "d"));
	CHECK_EQ(nothing(0), EAGAIN);
	CHECK_EQ(sends("hello", MSG_OOB), 0);
	CHECK(gets_(MSG_OOB, "o"));
	CHECK_EQ(sends("world", MSG_OOB), 0);
	CHECK(gets_(0, "hellworl"));
	CHECK(gets_(MSG_OOB, "d"));
	// Many that are received out of turn alone take no room.
	char b[2];
	struct timeval tv = {30, 0};
	CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv), 0);
	for (int i = 0; i < 20000; i++) {
		CHECK_EQ(sends("u", MSG_OOB), 0);
		CHECK_EQ(recv(s[1], b, 1, MSG_OOB), 1);
	}
	CHECK_EQ(sends("end", 0), 0);
	CHECK(gets_(0, "end"));
	close_pair();
}

static void test_ends(void)
{
	char b[4];

	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("abc", MSG_OOB), 0);
	close(s[0]);
	CHECK(gets_(0, "ab"));
	CHECK(gets_(MSG_OOB, "c"));
	CHECK(gets_(0, ""));
	close(s[1]);
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("x", MSG_OOB), 0);
	close(s[0]);
	CHECK(gets_(0, ""));
	CHECK(gets_(0, ""));
	close(s[1]);
	// One that was not received is lost bytes to the sender.
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("x", MSG_OOB), 0);
	close(s[1]);
	CHECK_ERR(recv(s[0], b, 4, 0), ECONNRESET);
	close(s[0]);
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("x", MSG_OOB), 0);
	CHECK(gets_(MSG_OOB, "x"));
	close(s[1]);
	CHECK_EQ(recv(s[0], b, 4, 0), 0);
	close(s[0]);
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("xy", MSG_OOB), 0);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK(gets_(0, "x"));
	CHECK(gets_(MSG_OOB, "y"));
	CHECK(gets_(0, ""));
	close_pair();
}

static void test_wait_for_all(void)
{
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends("abc", MSG_OOB), 0);
	CHECK_EQ(sends("def", 0), 0);
	char b[8];
	CHECK_EQ(recv(s[1], b, 5, MSG_WAITALL), 2);
	CHECK_EQ(recv(s[1], b, 3, MSG_WAITALL), 3);
	CHECK_EQ(memcmp(b, "def", 3), 0);
	close_pair();
}

// A file that goes with a message goes with its first byte.
static void test_rights(void)
{
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr h;
	} c;
	struct iovec v = {"pq", 2};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c.b};
	char b[4];

	CHECK_EQ(pair(), 0);
	c.h.cmsg_level = SOL_SOCKET, c.h.cmsg_type = SCM_RIGHTS, c.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&c.h), &s[0], sizeof(int));
	CHECK_EQ(sendmsg(s[0], &m, MSG_OOB), 2);
	v = (struct iovec){b, sizeof b};
	m.msg_controllen = sizeof c.b;
	CHECK_EQ(recvmsg(s[1], &m, 0), 1);
	CHECK_EQ(m.msg_controllen, sizeof c.b);
	int fd;
	memcpy(&fd, CMSG_DATA(&c.h), sizeof fd);
	CHECK_EQ(close(fd), 0);
	m.msg_controllen = sizeof c.b;
	CHECK_EQ(recvmsg(s[1], &m, MSG_OOB), 1);
	CHECK_EQ(m.msg_controllen, 0);
	CHECK_EQ(b[0], 'q');
	// One that goes with an urgent byte which nobody receives is closed: the other end of the pipe ends.
	int p[2];
	CHECK_EQ(pipe(p), 0);
	v = (struct iovec){"r", 1};
	m.msg_controllen = sizeof c.b;
	c.h.cmsg_level = SOL_SOCKET, c.h.cmsg_type = SCM_RIGHTS, c.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&c.h), &p[1], sizeof(int));
	CHECK_EQ(sendmsg(s[0], &m, MSG_OOB), 1);
	close(p[1]);
	CHECK_EQ(nothing(0), EAGAIN);
	close_pair();
	CHECK_EQ(read(p[0], b, 1), 0);
	close(p[0]);
}

static volatile sig_atomic_t signals;

static void note(int sig) { signals += sig == SIGURG; }

static void test_tells(void)
{
	struct epoll_event e = {.events = EPOLLPRI};
	int ep = epoll_create1(0);

	signal(SIGURG, note);
	CHECK_EQ(pair(), 0);
	CHECK_EQ(fcntl(s[1], F_SETOWN, getpid()), 0);
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &e), 0);
	CHECK_EQ(sends("a", 0), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	CHECK_EQ(signals, 0);
	CHECK_EQ(sends("b", MSG_OOB), 0);
	for (int i = 0; i < 10000 && signals == 0; i++)
		sleep_ms(1);
	CHECK_EQ(signals, 1);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
	CHECK_EQ(e.events, EPOLLPRI);
	CHECK(gets_(MSG_OOB, "b"));
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	close(ep);
	close_pair();
}

static void *send_later(void *arg)
{
	sleep_ms(20);
	sends("u", MSG_OOB);
	sleep_ms(20);
	sends("plain", 0);
	return arg;
}

// A receive that waits doesn't take an urgent byte for what it waits for, with MSG_PEEK as little.
static void test_waits(void)
{
	char b[8];
	pthread_t t;

	for (int flags = 0; flags <= MSG_PEEK; flags += MSG_PEEK) {
		CHECK_EQ(pair(), 0);
		CHECK_EQ(pthread_create(&t, NULL, send_later, NULL), 0);
		CHECK_EQ(recv(s[1], b, sizeof b, flags), 5);
		CHECK_EQ(memcmp(b, "plain", 5), 0);
		pthread_join(t, NULL);
		close_pair();
	}
}

TESTS({"refusals", test_refusals}, {"out-of-turn", test_out_of_turn}, {"left-out", test_left_out}, {"in-line", test_in_line},
      {"the-last-counts", test_the_last_counts}, {"ends", test_ends}, {"wait-for-all", test_wait_for_all},
      {"rights", test_rights}, {"tells", test_tells}, {"waits", test_waits})
