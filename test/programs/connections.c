// How connections of TCP begin and end, and what each end is told of that: connect(2), accept(2), shutdown(2), close(2),
// poll(2), SO_ERROR and SO_LINGER in socket(7), tcp(7).
#define CHECK_SECONDS 60
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#define SA(x) ((struct sockaddr *)&(x))

// What poll(2) says of a connection that is over, and of one that failed.
#define OVER (POLLIN | POLLOUT | POLLRDHUP | POLLHUP)
#define FAILED (OVER | POLLERR)

static struct sockaddr_in at; // of the listening socket
static int l, s[2];
static volatile sig_atomic_t pipes;

static void broken(int sig) { pipes += sig == SIGPIPE; }

static int listener(int backlog)
{
	socklen_t n = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return bind(fd, SA(at), n) || listen(fd, backlog) || getsockname(fd, SA(at), &n) ? -1 : fd;
}

static int pair(void)
{
	signal(SIGPIPE, broken);
	pipes = 0;
	l = listener(5);
	s[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s[0], SA(at), sizeof at))
		return -1;
	s[1] = accept(l, NULL, NULL);
	close(l);
	return s[1] < 0 ? -1 : 0;
}

static int client(int flags) { return socket(AF_INET, SOCK_STREAM | flags, 0); }

static int reset(int fd)
{
	struct linger now = {1, 0};

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) || close(fd);
}

static int events(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP};

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

// becomes waits until poll(2) says this, and returns what it says in the end.
static int becomes(int fd, int want)
{
	for (int i = 0; i < 20000 && events(fd) != want; i++)
		sleep_ms(1);
	return events(fd);
}

static int state(int fd)
{
	struct tcp_info i = {0};
	socklen_t n = sizeof i;

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n) ? -1 : i.tcpi_state;
}

static int reaches(int fd, int want)
{
	for (int i = 0; i < 20000 && state(fd) != want; i++)
		sleep_ms(1);
	return state(fd);
}

static int error(int fd)
{
	int v = -1;
	socklen_t n = sizeof v;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &n) ? -1 : v;
}

static int peer(int fd)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;

	return getpeername(fd, SA(a), &n);
}

static char b[4096];

static int gets_(int fd) { return recv(fd, b, sizeof b, MSG_DONTWAIT); }
static int sends(int fd) { return send(fd, "abc", 3, MSG_DONTWAIT); }
static int goes(int fd) { return connect(fd, SA(at), sizeof at); }

static void test_reset(void)
{
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends(s[0]), 3);
	CHECK_EQ(reset(s[0]), 0);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_ERR(peer(s[1]), ENOTCONN);
	CHECK_EQ(state(s[1]), TCP_CLOSE);
	CHECK_EQ(gets_(s[1]), 3); // what came before
	CHECK_ERR(gets_(s[1]), ECONNRESET);
	CHECK_EQ(gets_(s[1]), 0);
	CHECK_ERR(sends(s[1]), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_EQ(error(s[1]), 0);
	CHECK_EQ(events(s[1]), OVER);
	close(s[1]);

	CHECK_EQ(pair(), 0);
	CHECK_EQ(reset(s[0]), 0);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_EQ(error(s[1]), ECONNRESET);
	CHECK_EQ(error(s[1]), 0);
	CHECK_EQ(events(s[1]), OVER);
	CHECK_EQ(gets_(s[1]), 0);
	CHECK_ERR(shutdown(s[1], SHUT_RDWR), ENOTCONN);
	CHECK_ERR(goes(s[1]), EISCONN);
	CHECK_ERR(listen(s[1], 1), EINVAL);
	close(s[1]);

	CHECK_EQ(pair(), 0);
	CHECK_EQ(reset(s[0]), 0);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_ERR(sends(s[1]), ECONNRESET);
	CHECK_EQ(pipes, 0);
	CHECK_ERR(sends(s[1]), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_ERR(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_EQ(gets_(s[1]), 0);
	close(s[1]);

	// What was looked at stays.
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends(s[0]), 3);
	CHECK_EQ(reset(s[0]), 0);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_EQ(recv(s[1], b, 9, MSG_PEEK), 3);
	CHECK_EQ(recv(s[1], b, 9, MSG_PEEK), 3);
	close(s[1]);
}

// A close that leaves something unread is a reset.
static void test_unread(void)
{
	CHECK_EQ(pair(), 0);
	CHECK_EQ(sends(s[1]), 3);
	CHECK_EQ(becomes(s[0], POLLIN | POLLOUT), POLLIN | POLLOUT);
	CHECK_EQ(sends(s[0]), 3);
	close(s[0]);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_EQ(gets_(s[1]), 3);
	CHECK_ERR(gets_(s[1]), ECONNRESET);
	CHECK_EQ(gets_(s[1]), 0);
	close(s[1]);
}

static void test_half_closed(void)
{
	CHECK_EQ(pair(), 0);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(gets_(s[1]), 0);
	CHECK_EQ(sends(s[1]), 3);
	CHECK_EQ(becomes(s[0], POLLIN | POLLOUT), POLLIN | POLLOUT);
	CHECK_EQ(gets_(s[0]), 3);
	CHECK_EQ(state(s[0]), TCP_FIN_WAIT2);
	CHECK_EQ(state(s[1]), TCP_CLOSE_WAIT);
	CHECK_ERR(sends(s[0]), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_EQ(error(s[0]), 0);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_EQ(shutdown(s[1], SHUT_WR), 0);
	CHECK_EQ(becomes(s[0], OVER), OVER);
	CHECK_EQ(becomes(s[1], OVER), OVER);
	CHECK_EQ(reaches(s[1], TCP_CLOSE), TCP_CLOSE);
	CHECK_EQ(gets_(s[0]), 0);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(state(s[i]), TCP_CLOSE);
		CHECK_ERR(peer(s[i]), ENOTCONN);
		for (int how = SHUT_RD; how <= SHUT_RDWR; how++)
			CHECK_ERR(shutdown(s[i], how), ENOTCONN);
		CHECK_ERR(goes(s[i]), EISCONN);
		close(s[i]);
	}
	// After SHUT_RD nobody waits, but what comes can be read.
	CHECK_EQ(pair(), 0);
	CHECK_EQ(shutdown(s[0], SHUT_RD), 0);
	CHECK_EQ(recv(s[0], b, 9, 0), 0);
	CHECK_EQ(events(s[0]), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(sends(s[1]), 3);
	for (int i = 0; i < 20000 && recv(s[0], b, 9, MSG_PEEK) == 0; i++)
		sleep_ms(1);
	CHECK_EQ(recv(s[0], b, 9, 0), 3);
	CHECK_EQ(recv(s[0], b, 9, 0), 0);
	CHECK_EQ(sends(s[0]), 3);
	close(s[0]), close(s[1]);
}

static void test_both_close(void)
{
	CHECK_EQ(pair(), 0);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_EQ(shutdown(s[1], SHUT_WR), 0);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(becomes(s[i], OVER), OVER);
		CHECK_EQ(reaches(s[i], TCP_CLOSE), TCP_CLOSE);
		CHECK_EQ(gets_(s[i]), 0);
	}
	CHECK_ERR(sends(s[0]), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_ERR(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	CHECK_ERR(send(s[1], "x", 1, MSG_NOSIGNAL | MSG_OOB), EPIPE);
	CHECK_EQ(pipes, 1);
	close(s[0]), close(s[1]);
}

// Bytes for a peer that has closed are answered by a reset, which is a broken pipe to who heard the end before.
static void test_to_nobody(void)
{
	CHECK_EQ(pair(), 0);
	close(s[0]);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(state(s[1]), TCP_CLOSE_WAIT);
	CHECK_EQ(sends(s[1]), 3);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_ERR(sends(s[1]), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_EQ(error(s[1]), 0);
	CHECK_EQ(gets_(s[1]), 0);
	CHECK_EQ(state(s[1]), TCP_CLOSE);
	CHECK_ERR(peer(s[1]), ENOTCONN);
	close(s[1]);
	CHECK_EQ(pair(), 0);
	close(s[0]);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(sends(s[1]), 3);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_EQ(gets_(s[1]), 0);
	CHECK_EQ(error(s[1]), EPIPE);
	CHECK_EQ(events(s[1]), OVER);
	close(s[1]);
}

static void test_listening(void)
{
	int c = client(0);

	CHECK((l = listener(5)) >= 0);
	CHECK_ERR(goes(l), EISCONN);
	CHECK_ERR(gets_(l), ENOTCONN);
	CHECK_ERR(send(l, "x", 1, MSG_NOSIGNAL), EPIPE);
	CHECK_EQ(shutdown(l, SHUT_WR), 0);
	CHECK_EQ(events(l), 0);
	CHECK_EQ(goes(c), 0);
	CHECK_EQ(becomes(l, POLLIN), POLLIN);
	CHECK_EQ(shutdown(l, SHUT_RD), 0);
	CHECK_EQ(events(l), POLLOUT | POLLHUP);
	CHECK_ERR(accept4(l, NULL, NULL, SOCK_NONBLOCK), EINVAL);
	CHECK_EQ(becomes(c, FAILED), FAILED); // it was not accepted
	CHECK_ERR(gets_(c), ECONNRESET);
	close(c);
	CHECK((c = client(0)) >= 0);
	CHECK_ERR(goes(c), ECONNREFUSED);
	CHECK_EQ(listen(l, 5), 0);
	CHECK_EQ(shutdown(l, SHUT_RDWR), 0);
	CHECK_ERR(shutdown(l, SHUT_RDWR), ENOTCONN);
	CHECK_EQ(state(l), TCP_CLOSE);
	close(l), close(c);
	// So is one that waits when the socket is closed.
	CHECK((l = listener(5)) >= 0);
	CHECK((c = client(0)) >= 0);
	CHECK_EQ(goes(c), 0);
	close(l);
	CHECK_EQ(becomes(c, FAILED), FAILED);
	CHECK_ERR(gets_(c), ECONNRESET);
	CHECK_EQ(gets_(c), 0);
	close(c);
}

// accept(2) gives connections that are over already, and tells whose they were.
static void test_accepted_late(void)
{
	struct sockaddr_in own, from = {0};
	socklen_t n = sizeof own;
	int c = client(0), a;

	CHECK((l = listener(5)) >= 0);
	signal(SIGPIPE, broken);
	CHECK_EQ(goes(c), 0);
	CHECK_EQ(getsockname(c, SA(own), &n), 0);
	CHECK_EQ(becomes(l, POLLIN), POLLIN);
	CHECK_EQ(reset(c), 0);
	// That the reset has arrived shows at a connection that is made after it.
	CHECK((c = client(0)) >= 0);
	CHECK_EQ(goes(c), 0);
	n = sizeof from;
	CHECK((a = accept(l, SA(from), &n)) >= 0);
	CHECK_EQ(n, sizeof from);
	CHECK_EQ(from.sin_port, own.sin_port);
	CHECK_EQ(becomes(a, FAILED), FAILED);
	CHECK_ERR(peer(a), ENOTCONN);
	CHECK_ERR(gets_(a), ECONNRESET);
	CHECK_EQ(gets_(a), 0);
	CHECK_ERR(sends(a), EPIPE);
	close(a);
	CHECK((a = accept(l, NULL, NULL)) >= 0);
	close(a), close(c);
	CHECK((c = client(0)) >= 0);
	CHECK_EQ(goes(c), 0);
	CHECK_EQ(sends(c), 3);
	close(c);
	CHECK((a = accept(l, NULL, NULL)) >= 0);
	CHECK_EQ(becomes(a, POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(gets_(a), 3);
	CHECK_EQ(gets_(a), 0);
	CHECK_EQ(peer(a), 0);
	close(a), close(l);
}

// A socket that connects to its own port is its own peer.
static void test_to_itself(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, of;
	socklen_t n = sizeof a;
	int c = client(0);

	signal(SIGPIPE, broken);
	CHECK_EQ(bind(c, SA(a), n), 0);
	CHECK_EQ(getsockname(c, SA(a), &n), 0);
	CHECK_EQ(connect(c, SA(a), n), 0);
	CHECK_EQ(state(c), TCP_ESTABLISHED);
	CHECK_EQ(sends(c), 3);
	CHECK_EQ(becomes(c, POLLIN | POLLOUT), POLLIN | POLLOUT);
	CHECK_EQ(gets_(c), 3);
	CHECK_EQ(getpeername(c, SA(of), &n), 0);
	CHECK_EQ(of.sin_port, a.sin_port);
	CHECK_EQ(shutdown(c, SHUT_WR), 0);
	CHECK_EQ(becomes(c, OVER), OVER);
	CHECK_EQ(gets_(c), 0);
	CHECK_EQ(reaches(c, TCP_CLOSE), TCP_CLOSE);
	CHECK_ERR(sends(c), EPIPE);
	close(c);
}

static int ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 30000) < 0 ? -1 : p.revents;
}

static void test_in_progress(void)
{
	int c = client(SOCK_NONBLOCK);

	CHECK((l = listener(5)) >= 0);
	CHECK_ERR(goes(c), EINPROGRESS);
	CHECK_EQ(ready(c), POLLOUT);
	CHECK_EQ(error(c), 0);
	CHECK_EQ(goes(c), 0); // told once
	CHECK_ERR(goes(c), EISCONN);
	close(c);
	close(l);
	signal(SIGPIPE, broken);
	pipes = 0;
	// Nobody listens there any more.
	CHECK((c = client(SOCK_NONBLOCK)) >= 0);
	CHECK_ERR(goes(c), EINPROGRESS);
	CHECK_EQ(ready(c), POLLOUT | POLLERR | POLLHUP);
	CHECK_EQ(events(c), FAILED);
	CHECK_EQ(error(c), ECONNREFUSED);
	CHECK_EQ(error(c), 0);
	CHECK_EQ(events(c), OVER);
	CHECK_EQ(gets_(c), 0);
	CHECK_ERR(sends(c), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_ERR(peer(c), ENOTCONN);
	CHECK_ERR(goes(c), ECONNABORTED);
	CHECK_EQ(events(c), POLLOUT | POLLHUP);
	CHECK_ERR(goes(c), EINPROGRESS);
	CHECK_EQ(ready(c), POLLOUT | POLLERR | POLLHUP);
	CHECK_ERR(goes(c), ECONNREFUSED);
	CHECK_ERR(gets_(c), ENOTCONN);
	CHECK_ERR(goes(c), EINPROGRESS);
	CHECK_EQ(ready(c), POLLOUT | POLLERR | POLLHUP);
	CHECK_ERR(gets_(c), ECONNREFUSED);
	CHECK_EQ(gets_(c), 0);
	CHECK_EQ(error(c), 0);
	close(c);
	CHECK((c = client(SOCK_NONBLOCK)) >= 0);
	CHECK_ERR(goes(c), EINPROGRESS);
	CHECK_EQ(ready(c), POLLOUT | POLLERR | POLLHUP);
	CHECK_ERR(sends(c), ECONNREFUSED);
	CHECK_ERR(sends(c), EPIPE);
	CHECK_EQ(pipes, 2);
	close(c);
}

// A connection that nobody answers, because too many wait to be accepted already.
static void test_unanswered(void)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int c = client(SOCK_NONBLOCK), others[4];

	CHECK((l = listener(0)) >= 0);
	for (int i = 0; i < 4; i++) {
		CHECK((others[i] = client(SOCK_NONBLOCK)) >= 0);
		CHECK_ERR(goes(others[i]), EINPROGRESS);
	}
	CHECK_ERR(goes(c), EINPROGRESS);
	CHECK_ERR(goes(c), EALREADY);
	CHECK_EQ(events(c), 0);
	CHECK_EQ(state(c), TCP_SYN_SENT);
	CHECK_ERR(sends(c), EAGAIN);
	CHECK_ERR(gets_(c), EAGAIN);
	CHECK_ERR(peer(c), ENOTCONN);
	CHECK_EQ(error(c), 0);
	CHECK_EQ(shutdown(c, SHUT_WR), 0);
	CHECK_EQ(state(c), TCP_CLOSE);
	CHECK_EQ(events(c), POLLOUT | POLLERR | POLLHUP);
	CHECK_EQ(error(c), ECONNRESET);
	CHECK_ERR(goes(c), EINPROGRESS);
	CHECK_ERR(listen(c, 1), EINVAL);
	CHECK_EQ(connect(c, &nowhere, sizeof nowhere), 0);
	CHECK_EQ(events(c), POLLOUT | POLLERR | POLLHUP);
	CHECK_ERR(goes(c), EINPROGRESS); // which forgets that error
	CHECK_EQ(error(c), 0);
	close(c);
	for (int i = 0; i < 4; i++)
		close(others[i]);
	close(l);
}

static void test_misuse(void)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int c = client(0);

	CHECK_EQ(pair(), 0);
	CHECK_ERR(listen(s[0], 1), EINVAL);
	CHECK_ERR(goes(s[0]), EISCONN);
	CHECK_ERR(accept(s[0], NULL, NULL), EINVAL);
	CHECK_EQ(connect(s[0], &nowhere, sizeof nowhere), 0);
	CHECK_EQ(becomes(s[1], FAILED), FAILED);
	CHECK_ERR(gets_(s[1]), ECONNRESET);
	CHECK_EQ(events(s[0]), POLLOUT | POLLERR | POLLHUP);
	CHECK_EQ(error(s[0]), ECONNRESET);
	CHECK_EQ(state(s[0]), TCP_CLOSE);
	CHECK_ERR(peer(s[0]), ENOTCONN);
	close(s[0]), close(s[1]);
	CHECK_EQ(events(c), POLLOUT | POLLHUP);
	CHECK_ERR(gets_(c), ENOTCONN);
	CHECK_ERR(sends(c), EPIPE);
	CHECK_EQ(pipes, 1);
	CHECK_ERR(shutdown(c, SHUT_RD), ENOTCONN);
	CHECK_ERR(shutdown(c, 3), EINVAL);
	CHECK_ERR(peer(c), ENOTCONN);
	close(c);
}

static void test_low_water(void)
{
	int five = 5;

	CHECK_EQ(pair(), 0);
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_RCVLOWAT, &five, sizeof five), 0);
	CHECK_EQ(sends(s[0]), 3);
	for (int i = 0; i < 20000 && recv(s[1], b, 9, MSG_PEEK | MSG_DONTWAIT) != 3; i++)
		sleep_ms(1);
	CHECK_EQ(events(s[1]), POLLOUT);
	CHECK_EQ(gets_(s[1]), 3);
	CHECK_EQ(sends(s[0]), 3);
	CHECK_EQ(sends(s[0]), 3);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
	CHECK_EQ(gets_(s[1]), 6);
	CHECK_EQ(sends(s[0]), 3);
	close(s[0]);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(recv(s[1], b, 9, 0), 3);
	CHECK_EQ(recv(s[1], b, 9, 0), 0);
	close(s[1]);
}

static void wake(int sig) { (void)sig; }

static void test_wait_for_all(void)
{
	struct sigaction a = {.sa_handler = wake};
	struct itimerval again = {{0, 50000}, {0, 50000}}, never = {0};
	struct timeval tv = {0, 200000};

	CHECK_EQ(pair(), 0);
	sigaction(SIGALRM, &a, NULL);
	CHECK_EQ(sends(s[0]), 3);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
	CHECK_EQ(setitimer(ITIMER_REAL, &again, NULL), 0);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 3); // interrupted
	CHECK_ERR(recv(s[1], b, 10, MSG_WAITALL), EINTR);
	CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(sends(s[0]), 3);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 3); // too long
	CHECK_ERR(recv(s[1], b, 10, MSG_WAITALL), EAGAIN);
	CHECK_EQ(sends(s[0]), 3);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_EQ(becomes(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 3); // the end
	CHECK_EQ(recv(s[1], b, 10, MSG_WAITALL), 0);
	close(s[0]), close(s[1]);
}

// Who closes first has a connection in TIME-WAIT for a minute. The same one may be made again meanwhile.
static void test_again(void)
{
	struct sockaddr_in own;
	socklen_t n = sizeof own;
	int on = 1;

	for (int first = 0; first < 2; first++) {
		CHECK((l = listener(5)) >= 0);
		CHECK((s[0] = client(0)) >= 0);
		CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
		CHECK_EQ(goes(s[0]), 0);
		CHECK((s[1] = accept(l, NULL, NULL)) >= 0);
		CHECK_EQ(getsockname(s[0], SA(own), &n), 0);
		close(s[first]);
		CHECK_EQ(becomes(s[!first], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
		CHECK_EQ(shutdown(s[!first], SHUT_WR), 0);
		CHECK_EQ(reaches(s[!first], TCP_CLOSE), TCP_CLOSE);
		close(s[!first]);
		CHECK((s[0] = client(0)) >= 0);
		CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
		CHECK_EQ(bind(s[0], SA(own), n), 0);
		if (first == 1) { // the listening side's doesn't stand in the way of a newer SYN (RFC 6191)
			CHECK_EQ(goes(s[0]), 0);
			CHECK((s[1] = accept(l, NULL, NULL)) >= 0);
			CHECK_EQ(sends(s[0]), 3);
			CHECK_EQ(recv(s[1], b, 9, 0), 3);
			close(s[1]);
		}
		close(s[0]), close(l);
	}
}

TESTS({"reset", test_reset}, {"unread", test_unread}, {"half-closed", test_half_closed}, {"both-close", test_both_close},
      {"to-nobody", test_to_nobody}, {"listening", test_listening}, {"accepted-late", test_accepted_late},
      {"to-itself", test_to_itself}, {"in-progress", test_in_progress}, {"unanswered", test_unanswered},
      {"misuse", test_misuse}, {"low-water", test_low_water}, {"wait-for-all", test_wait_for_all}, {"again", test_again})
