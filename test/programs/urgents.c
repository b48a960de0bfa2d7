// Urgent bytes of TCP (MSG_OOB in send(2) and recv(2), SO_OOBINLINE and SIOCATMARK in socket(7) and tcp(7)), and
// what a connection that was reset says of itself.
#include "check.h"
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <linux/sockios.h>

#define SA(x) ((struct sockaddr *)&(x))

static int pair(int s[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (bind(l, SA(a), n) || listen(l, 1) || getsockname(l, SA(a), &n))
		return -1;
	s[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s[0], SA(a), n))
		return -1;
	setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	s[1] = accept(l, NULL, NULL);
	close(l);
	return s[1];
}

static void close_pair(int s[2])
{
	close(s[0]);
	close(s[1]);
}

static int events(int fd, int want, int timeout)
{
	struct pollfd p = {.fd = fd, .events = want};
	int n = poll(&p, 1, timeout);

	return n <= 0 ? n : p.revents;
}

static int asked(int fd, int request)
{
	int v = -1;

	return ioctl(fd, request, &v) ? -errno : v;
}

// comes waits until so many bytes wait to be received.
static int comes(int fd, int n)
{
	for (int i = 0; i < 10000 && asked(fd, FIONREAD) < n; i++)
		sleep_ms(1);
	return asked(fd, FIONREAD);
}

// stops says whether a receive gives these bytes and no more.
static int stops(int fd, int flags, const char *want)
{
	char b[64];
	int n = recv(fd, b, sizeof b, MSG_DONTWAIT | flags);

	return n == (int)strlen(want) && memcmp(b, want, n) == 0;
}

static void test_reads_stop_at_the_urgent_byte(void)
{
	int s[2];
	char b[16] = "";

	CHECK(pair(s) >= 0);
	CHECK_ERR(recv(s[1], b, 1, MSG_OOB), EINVAL);
	CHECK_EQ(asked(s[1], SIOCATMARK), 0);
	CHECK_EQ(send(s[0], "abc", 3, MSG_OOB), 3);
	CHECK_EQ(events(s[1], POLLPRI, 10000), POLLPRI);
	CHECK_EQ(send(s[0], "de", 2, 0), 2);
	CHECK_EQ(comes(s[1], 2), 2);
	CHECK_EQ(events(s[1], POLLPRI | POLLIN, 0), POLLPRI | POLLIN);
	CHECK_EQ(asked(s[1], SIOCATMARK), 0);
	CHECK(stops(s[1], MSG_PEEK, "ab"));
	CHECK_EQ(recv(s[1], b, 1, 0), 1);
	CHECK_EQ(b[0], 'a');
	CHECK_EQ(asked(s[1], FIONREAD), 1);
	CHECK(stops(s[1], 0, "b"));
	CHECK_EQ(asked(s[1], SIOCATMARK), 1);
	CHECK_EQ(recv(s[1], b, 16, MSG_OOB | MSG_PEEK), 1);
	CHECK_EQ(b[0], 'c');
	b[0] = 0;
	CHECK_EQ(recv(s[1], b, 16, MSG_OOB), 1);
	CHECK_EQ(b[0], 'c');
	CHECK_ERR(recv(s[1], b, 16, MSG_OOB), EINVAL);
	CHECK_EQ(events(s[1], POLLPRI, 0), 0);
	CHECK_EQ(asked(s[1], SIOCATMARK), 1);
	for (int i = 0; i < 1000 && !stops(s[1], MSG_PEEK, "de"); i++)
		sleep_ms(1);
	CHECK(stops(s[1], MSG_PEEK, "de"));
	CHECK_EQ(asked(s[1], SIOCATMARK), 1);
	CHECK(stops(s[1], 0, "de"));
	CHECK_EQ(asked(s[1], SIOCATMARK), 0);
	CHECK_ERR(recv(s[1], b, 16, MSG_DONTWAIT), EAGAIN);
	close_pair(s);
}

static void test_alone(void)
{
	int s[2], e = epoll_create1(0);
	char b[4] = "";
	struct epoll_event w = {.events = EPOLLPRI};
	struct msghdr m = {0};
	struct iovec v = {b, 4};
	fd_set except;

	CHECK(pair(s) >= 0);
	CHECK_EQ(epoll_ctl(e, EPOLL_CTL_ADD, s[1], &w), 0);
	CHECK_EQ(epoll_wait(e, &w, 1, 0), 0);
	CHECK_EQ(send(s[0], "!", 1, MSG_OOB), 1);
	CHECK_EQ(epoll_wait(e, &w, 1, 10000), 1);
	CHECK_EQ(w.events, EPOLLPRI);
	FD_ZERO(&except);
	FD_SET(s[1], &except);
	CHECK_EQ(select(s[1] + 1, NULL, NULL, &except, NULL), 1);
	CHECK(FD_ISSET(s[1], &except));
	CHECK_EQ(events(s[1], POLLPRI | POLLIN, 0), POLLPRI);
	CHECK_EQ(asked(s[1], SIOCATMARK), 1);
	CHECK_EQ(asked(s[1], FIONREAD), 0);
	m.msg_iov = &v, m.msg_iovlen = 1;
	CHECK_EQ(recvmsg(s[1], &m, MSG_OOB), 1);
	CHECK_EQ(b[0], '!');
	CHECK_EQ(m.msg_flags & MSG_OOB, MSG_OOB);
	CHECK_EQ(events(s[1], POLLPRI | POLLIN, 0), 0);
	CHECK_ERR(recv(s[1], b, 4, MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(asked(s[1], SIOCATMARK), 0);
	// A read leaves it out, and with that it's gone.
	CHECK_EQ(send(s[0], "?", 1, MSG_OOB), 1);
	CHECK_EQ(events(s[1], POLLPRI, 10000), POLLPRI);
	CHECK_ERR(recv(s[1], b, 4, MSG_DONTWAIT), EAGAIN);
	CHECK_ERR(recv(s[1], b, 4, MSG_OOB), EINVAL);
	CHECK_EQ(events(s[1], POLLPRI, 0), 0);
	// So it is at the end.
	CHECK_EQ(send(s[0], "?", 1, MSG_OOB), 1);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_EQ(events(s[1], POLLRDHUP, 10000), POLLRDHUP);
	CHECK_EQ(recv(s[1], b, 4, MSG_OOB), 1);
	CHECK_EQ(recv(s[1], b, 4, 0), 0);
	close_pair(s);
	close(e);
}

static void test_inline(void)
{
	int s[2], on = 1;
	char b[4];

	CHECK(pair(s) >= 0);
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
	CHECK_EQ(send(s[0], "ab", 2, 0), 2);
	CHECK_EQ(send(s[0], "c", 1, MSG_OOB), 1);
	CHECK_EQ(send(s[0], "de", 2, 0), 2);
	CHECK_EQ(comes(s[1], 5), 5);
	CHECK_EQ(events(s[1], POLLPRI | POLLIN, 0), POLLPRI | POLLIN);
	CHECK_ERR(recv(s[1], b, 4, MSG_OOB), EINVAL);
	CHECK(stops(s[1], 0, "ab"));
	CHECK_EQ(asked(s[1], SIOCATMARK), 1);
	CHECK(stops(s[1], MSG_PEEK, "cde"));
	CHECK(stops(s[1], 0, "cde"));
	CHECK_EQ(asked(s[1], SIOCATMARK), 0);
	CHECK_EQ(events(s[1], POLLPRI | POLLIN, 0), 0);
	close_pair(s);
}

static void test_the_last_one_counts(void)
{
	int s[2];
	char b[4];

	CHECK(pair(s) >= 0);
	CHECK_EQ(send(s[0], "x", 1, 0), 1);
	CHECK_EQ(send(s[0], "a", 1, MSG_OOB), 1);
	CHECK_EQ(send(s[0], "b", 1, MSG_OOB), 1);
	CHECK_EQ(comes(s[1], 2), 2);
	CHECK_EQ(recv(s[1], b, 4, MSG_OOB), 1);
	CHECK_EQ(b[0], 'b');
	CHECK(stops(s[1], 0, "xa"));
	CHECK_EQ(asked(s[1], SIOCATMARK), 1);
	// One that the reader has come to is left out, though.
	CHECK_EQ(send(s[0], "c", 1, MSG_OOB), 1);
	CHECK_EQ(events(s[1], POLLPRI, 10000), POLLPRI);
	CHECK_EQ(recv(s[1], b, 4, MSG_OOB), 1);
	CHECK_EQ(b[0], 'c');
	CHECK_ERR(recv(s[1], b, 4, MSG_DONTWAIT), EAGAIN);
	close_pair(s);
}

static void *write_parts(void *p)
{
	int s = *(int *)p;

	send(s, "abc", 3, 0);
	sleep_ms(5);
	send(s, "!", 1, MSG_OOB);
	sleep_ms(5);
	send(s, "def", 3, 0);
	return NULL;
}

static void test_waitall_stops_too(void)
{
	int s[2];
	char b[16];
	pthread_t t;

	CHECK(pair(s) >= 0);
	CHECK_EQ(pthread_create(&t, NULL, write_parts, &s[0]), 0);
	CHECK_EQ(events(s[1], POLLPRI, 10000), POLLPRI);
	CHECK_EQ(recv(s[1], b, 6, MSG_WAITALL), 3);
	CHECK_EQ(recv(s[1], b + 3, 3, MSG_WAITALL), 3);
	CHECK(memcmp(b, "abcdef", 6) == 0);
	pthread_join(t, NULL);
	close_pair(s);
}

static volatile sig_atomic_t urgent_signals;

static void on_urgent(int sig) { urgent_signals++; }

static void test_the_owner_gets_a_signal(void)
{
	int s[2];
	struct sigaction a = {.sa_handler = on_urgent}, old;
	char b[4];

	urgent_signals = 0;
	CHECK_EQ(sigaction(SIGURG, &a, &old), 0);
	CHECK(pair(s) >= 0);
	CHECK_EQ(send(s[0], "1", 1, MSG_OOB), 1);
	CHECK_EQ(events(s[1], POLLPRI, 10000), POLLPRI);
	CHECK_EQ(urgent_signals, 0);
	CHECK_EQ(fcntl(s[1], F_SETOWN, getpid()), 0);
	CHECK_EQ(fcntl(s[1], F_SETOWN, getpid()), 0);
	CHECK_EQ(send(s[0], "2", 1, MSG_OOB), 1);
	for (int i = 0; i < 10000 && urgent_signals == 0; i++)
		sleep_ms(1);
	CHECK_EQ(urgent_signals, 1);
	CHECK_EQ(recv(s[1], b, 4, MSG_OOB), 1);
	CHECK_EQ(b[0], '2');
	CHECK_EQ(sigaction(SIGURG, &old, NULL), 0);
	close_pair(s);
}

// Much that fills every buffer between, with urgent bytes in it: nothing but these is left out.
enum { rounds = 200, chunk = 7001 };

static void *write_much(void *p)
{
	int s = *(int *)p;
	static char b[chunk];

	for (int i = 0; i < rounds; i++) {
		memset(b, 'a' + i % 16, chunk);
		b[chunk - 1] = 'A';
		for (int done = 0; done < chunk;) {
			int n = send(s, b + done, chunk - done, MSG_OOB);
			if (n <= 0)
				return NULL;
			done += n;
		}
	}
	shutdown(s, SHUT_WR);
	return NULL;
}

static void test_much(void)
{
	int s[2], on = 1, n;
	long total = 0, marks = 0;
	static char b[4096];
	pthread_t t;

	CHECK(pair(s) >= 0);
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
	CHECK_EQ(pthread_create(&t, NULL, write_much, &s[0]), 0);
	while ((n = recv(s[1], b, sizeof b, 0)) > 0) {
		for (int i = 0; i < n; i++, total++) {
			int last = total % chunk == chunk - 1;
			marks += last;
			CHECK_EQ(b[i], last ? 'A' : 'a' + total / chunk % 16);
		}
	}
	CHECK_EQ(n, 0);
	CHECK_EQ(total, (long)rounds * chunk);
	CHECK_EQ(marks, rounds);
	pthread_join(t, NULL);
	close_pair(s);
}

static void test_not_for_datagrams(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	char b[4];

	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	CHECK_ERR(sendto(s, "x", 1, MSG_OOB, SA(a), sizeof a), EOPNOTSUPP);
	CHECK_ERR(recv(s, b, 4, MSG_OOB | MSG_DONTWAIT), EAGAIN);
	CHECK_ERR(ioctl(s, SIOCATMARK, b), ENOTTY);
	close(s);
}

static void test_reset_with_bytes_unread(void)
{
	struct linger now = {1, 0};
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	int s[2], v;
	char b[8];

	for (int i = 0; i < 2; i++) {
		CHECK(pair(s) >= 0);
		CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
		CHECK_EQ(send(s[0], "hello", 5, 0), 5);
		CHECK_EQ(comes(s[1], 5), 5);
		close(s[0]);
		CHECK_EQ(events(s[1], POLLRDHUP, 10000), POLLRDHUP | POLLHUP | POLLERR);
		n = sizeof a;
		CHECK_ERR(getpeername(s[1], SA(a), &n), ENOTCONN);
		if (i == 0) { // what came before can be read, then the error, then the end
			CHECK_EQ(recv(s[1], b, 2, 0), 2);
			CHECK_EQ(recv(s[1], b, 8, 0), 3);
			CHECK_ERR(recv(s[1], b, 8, 0), ECONNRESET);
			CHECK_EQ(recv(s[1], b, 8, 0), 0);
		} else { // or the other way round
			n = sizeof v;
			CHECK_EQ(getsockopt(s[1], SOL_SOCKET, SO_ERROR, &v, &n), 0);
			CHECK_EQ(v, ECONNRESET);
			CHECK_EQ(recv(s[1], b, 8, 0), 5);
			CHECK_EQ(recv(s[1], b, 8, 0), 0);
		}
		CHECK_ERR(send(s[1], b, 1, MSG_NOSIGNAL), EPIPE);
		close(s[1]);
	}
}

// A close with SO_LINGER of no time is known to the other end when it returns.
static void test_reset_is_known_at_once(void)
{
	struct linger now = {1, 0};
	struct sockaddr_in a;
	int s[2];

	for (int i = 0; i < 100; i++) {
		socklen_t n = sizeof a;
		CHECK(pair(s) >= 0);
		CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
		CHECK_EQ(send(s[0], "hello", 5, 0), 5);
		close(s[0]);
		CHECK_ERR(getpeername(s[1], SA(a), &n), ENOTCONN);
		close(s[1]);
	}
}

// The same while somebody watches the packets, so that there have to be some. Without the right to watch, they
// are seen by nobody.
#define WATCHED(name)                                                                              \
	static void watched_##name(void)                                                           \
	{                                                                                          \
		int s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));                             \
                                                                                                   \
		test_##name();                                                                     \
		if (s >= 0)                                                                        \
			close(s);                                                                  \
	}
WATCHED(reads_stop_at_the_urgent_byte)
WATCHED(alone)
WATCHED(inline)
WATCHED(the_last_one_counts)
WATCHED(waitall_stops_too)
WATCHED(the_owner_gets_a_signal)
WATCHED(much)
WATCHED(reset_with_bytes_unread)

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"reads-stop-at-the-urgent-byte", test_reads_stop_at_the_urgent_byte},
		{"alone", test_alone},
		{"inline", test_inline},
		{"the-last-one-counts", test_the_last_one_counts},
		{"waitall-stops-too", test_waitall_stops_too},
		{"the-owner-gets-a-signal", test_the_owner_gets_a_signal},
		{"much", test_much},
		{"not-for-datagrams", test_not_for_datagrams},
		{"reset-with-bytes-unread", test_reset_with_bytes_unread},
		{"reset-is-known-at-once", test_reset_is_known_at_once},
		{"watched-reads-stop-at-the-urgent-byte", watched_reads_stop_at_the_urgent_byte},
		{"watched-alone", watched_alone},
		{"watched-inline", watched_inline},
		{"watched-the-last-one-counts", watched_the_last_one_counts},
		{"watched-waitall-stops-too", watched_waitall_stops_too},
		{"watched-the-owner-gets-a-signal", watched_the_owner_gets_a_signal},
		{"watched-much", watched_much},
		{"watched-reset-with-bytes-unread", watched_reset_with_bytes_unread},
	};

	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
