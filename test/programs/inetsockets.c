// AF_INET and AF_INET6 sockets over the loopback interface.
#include "check.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static struct sockaddr_in at(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return a;
}

#define SA(x) ((struct sockaddr *)&(x))

// listener returns a socket that listens, and where.
static int listener(struct sockaddr_in *a)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	socklen_t n = sizeof *a;

	*a = at(0);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(s, SA(*a), sizeof *a) || listen(s, 16) || getsockname(s, SA(*a), &n))
		return -1;
	return s;
}

static int pair(int s[2])
{
	struct sockaddr_in a;
	int l = listener(&a);

	s[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || connect(s[0], SA(a), sizeof a))
		return -1;
	s[1] = accept(l, NULL, NULL);
	close(l);
	return s[1];
}

static void test_refusals(void)
{
	struct sockaddr_in a = at(1);
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	char b[8];
	int s;

	CHECK_ERR(socket(AF_INET, 99, 0), EINVAL);
	CHECK_ERR(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
	CHECK_ERR(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
	CHECK((s = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_ERR(connect(s, SA(a), 4), EINVAL);
	CHECK_ERR(bind(s, SA(a), 4), EINVAL);
	CHECK_ERR(bind(s, SA(six), sizeof six), EAFNOSUPPORT);
	CHECK_ERR(bind(s, (void *)8, sizeof a), EFAULT);
	CHECK_ERR(recv(s, b, 8, 0), ENOTCONN);
	CHECK_ERR(send(s, b, 8, MSG_NOSIGNAL), EPIPE);
	CHECK_ERR(accept(s, NULL, NULL), EINVAL);
	CHECK_ERR(shutdown(s, SHUT_RDWR), ENOTCONN);
	CHECK_ERR(connect(s, SA(a), sizeof a), ECONNREFUSED);
	close(s);
	CHECK((s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_ERR(send(s, b, 8, 0), EDESTADDRREQ);
	CHECK_ERR(listen(s, 1), EOPNOTSUPP);
	CHECK_ERR(accept(s, NULL, NULL), EOPNOTSUPP);
	CHECK_ERR(recv(s, b, 8, MSG_DONTWAIT), EAGAIN);
	a.sin_addr.s_addr = inet_addr("192.0.2.1");
	CHECK_ERR(bind(s, SA(a), sizeof a), EADDRNOTAVAIL);
	close(s);
}

static void test_stream(void)
{
	struct sockaddr_in a, peer, own;
	socklen_t n = sizeof peer;
	char b[64];
	int l, c, s;

	CHECK((l = listener(&a)) >= 0);
	CHECK(ntohs(a.sin_port) > 1024);
	CHECK((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_ERR(connect(c, SA(a), sizeof a), EISCONN);
	CHECK((s = accept4(l, SA(peer), &n, SOCK_CLOEXEC)) >= 0);
	CHECK_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(n, sizeof peer);
	n = sizeof own;
	CHECK_EQ(getsockname(c, SA(own), &n), 0);
	CHECK(memcmp(&own, &peer, sizeof own) == 0);
	CHECK_EQ(getpeername(c, SA(own), &n), 0);
	CHECK(memcmp(&own, &a, sizeof own) == 0);

	CHECK_EQ(write(c, "abc", 3), 3);
	CHECK_EQ(send(c, "def", 3, MSG_MORE), 3);
	CHECK_EQ(send(c, "ghi", 3, 0), 3);
	CHECK_EQ(recv(s, b, 2, MSG_PEEK), 2);
	CHECK_EQ(recv(s, b, 9, MSG_WAITALL), 9);
	CHECK(memcmp(b, "abcdefghi", 9) == 0);
	CHECK_ERR(recv(s, b, 1, MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(write(s, "0123456789", 10), 10);
	struct iovec v[2] = {{b, 4}, {b + 10, 6}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	CHECK_EQ(recvmsg(c, &m, MSG_WAITALL), 10);
	CHECK(memcmp(b, "0123", 4) == 0 && memcmp(b + 10, "456789", 6) == 0);
	CHECK_EQ(shutdown(c, SHUT_WR), 0);
	CHECK_EQ(read(s, b, 8), 0);
	CHECK_EQ(write(s, "late", 4), 4);
	CHECK_EQ(read(c, b, 8), 4);
	close(s);
	CHECK_EQ(read(c, b, 8), 0);
	close(c);
	close(l);
	CHECK((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_ERR(connect(c, SA(a), sizeof a), ECONNREFUSED);
	close(c);
}

static void test_nonblocking(void)
{
	struct sockaddr_in a;
	struct pollfd p = {.events = POLLIN};
	int l, c, s, err = 1;
	socklen_t n = sizeof err;
	char b[8];

	CHECK((l = listener(&a)) >= 0);
	CHECK_EQ(fcntl(l, F_SETFL, O_NONBLOCK), 0);
	CHECK_ERR(accept(l, NULL, NULL), EAGAIN);
	p.fd = l;
	CHECK_EQ(poll(&p, 1, 0), 0);
	CHECK((c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
	if (connect(c, SA(a), sizeof a) != 0)
		CHECK_EQ(errno, EINPROGRESS);
	CHECK_EQ(poll(&p, 1, 2000), 1);
	CHECK_EQ(p.revents, POLLIN);
	p.fd = c, p.events = POLLOUT;
	CHECK_EQ(poll(&p, 1, 2000), 1);
	CHECK_EQ(p.revents, POLLOUT);
	CHECK_EQ(getsockopt(c, SOL_SOCKET, SO_ERROR, &err, &n), 0);
	CHECK_EQ(err, 0);
	CHECK((s = accept(l, NULL, NULL)) >= 0);
	CHECK_ERR(read(c, b, 8), EAGAIN);
	CHECK_EQ(write(s, "x", 1), 1);
	p.events = POLLIN;
	CHECK_EQ(poll(&p, 1, 2000), 1);
	close(s);
	CHECK_EQ(read(c, b, 8), 1);
	p.events = POLLIN | POLLRDHUP;
	CHECK_EQ(poll(&p, 1, 2000), 1);
	CHECK(p.revents & POLLRDHUP);
	close(c), close(l);

	// A connection that is refused says so by SO_ERROR, once.
	CHECK((c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
	if (connect(c, SA(a), sizeof a) != 0 && errno == EINPROGRESS) {
		p.fd = c, p.events = POLLOUT;
		CHECK_EQ(poll(&p, 1, 2000), 1);
		CHECK(p.revents & POLLERR);
		CHECK_EQ(getsockopt(c, SOL_SOCKET, SO_ERROR, &err, &n), 0);
		CHECK_EQ(err, ECONNREFUSED);
		CHECK_EQ(getsockopt(c, SOL_SOCKET, SO_ERROR, &err, &n), 0);
		CHECK_EQ(err, 0);
	}
	close(c);
}

enum { BULK = 8 << 20 };

static void *pour(void *arg)
{
	int s = *(int *)arg;
	static char b[100000];

	for (size_t i = 0; i < BULK;) {
		for (size_t k = 0; k < sizeof b; k++)
			b[k] = (char)((i + k) * 31 >> 3);
		size_t want = BULK - i < sizeof b ? BULK - i : sizeof b;
		for (size_t done = 0; done < want;) {
			ssize_t n = write(s, b + done, want - done);
			if (n <= 0)
				return "write failed";
			done += n;
		}
		i += want;
	}
	shutdown(s, SHUT_WR);
	return NULL;
}

static void test_bulk(void)
{
	int s[2];
	pthread_t t;
	void *said;
	static char b[70000];
	size_t at = 0;
	ssize_t n;

	CHECK(pair(s) >= 0);
	CHECK_EQ(pthread_create(&t, NULL, pour, &s[0]), 0);
	while ((n = read(s[1], b, sizeof b)) > 0) {
		for (ssize_t k = 0; k < n; k++)
			if (b[k] != (char)((at + k) * 31 >> 3))
				CHECK_EQ(at + k, -1);
		at += n;
	}
	CHECK_EQ(n, 0);
	CHECK_EQ(at, BULK);
	pthread_join(t, &said);
	CHECK(said == NULL);
	close(s[0]), close(s[1]);
}

static void test_full(void)
{
	int s[2];
	static char b[1 << 16];
	size_t sent = 0, got = 0;
	ssize_t n;
	struct pollfd p;

	CHECK(pair(s) >= 0);
	p.fd = s[0], p.events = POLLOUT;
	do // what the peer takes in makes room again for a while
		while ((n = send(s[0], b, sizeof b, MSG_DONTWAIT)) > 0)
			sent += n;
	while (errno == EAGAIN && poll(&p, 1, 100) == 1);
	while ((n = send(s[0], b, sizeof b, MSG_DONTWAIT)) > 0) // poll wants more room than that
		sent += n;
	CHECK_EQ(errno, EAGAIN);
	struct timeval tv = {0, 50000};
	CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv), 0);
	CHECK_ERR(send(s[0], b, 1, 0), EAGAIN);
	while (got < sent) {
		CHECK((n = read(s[1], b, sizeof b)) > 0);
		got += n;
	}
	CHECK_EQ(poll(&p, 1, 2000), 1);
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_ERR(read(s[1], b, 1), EAGAIN);
	close(s[0]), close(s[1]);
}

static void test_reset(void)
{
	int s[2];
	char b[8];
	struct linger l = {1, 0};

	CHECK(pair(s) >= 0);
	CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &l, sizeof l), 0);
	close(s[0]);
	CHECK_ERR(read(s[1], b, 8), ECONNRESET);
	CHECK_EQ(read(s[1], b, 8), 0);
	CHECK_ERR(send(s[1], b, 8, MSG_NOSIGNAL), EPIPE);
	close(s[1]);
}

static void test_options(void)
{
	int s[2], v;
	socklen_t n = sizeof v;
	static const struct {
		int level, name, value;
	} kept[] = {
		{SOL_SOCKET, SO_REUSEADDR, 1}, {SOL_SOCKET, SO_REUSEPORT, 1}, {SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_NODELAY, 1}, {IPPROTO_TCP, TCP_CORK, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 77},
		{IPPROTO_TCP, TCP_KEEPINTVL, 11}, {IPPROTO_TCP, TCP_KEEPCNT, 5}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 9000},
		{IPPROTO_IP, IP_TTL, 33}, {IPPROTO_IP, IP_TOS, 0x10},
	};

	CHECK(pair(s) >= 0);
	for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
		CHECK_EQ(setsockopt(s[0], kept[i].level, kept[i].name, &kept[i].value, sizeof v), 0);
		CHECK_EQ(getsockopt(s[0], kept[i].level, kept[i].name, &v, &n), 0);
		CHECK_EQ(v, kept[i].value);
	}
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &n), 0);
	CHECK_EQ(v, SOCK_STREAM);
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_DOMAIN, &v, &n), 0);
	CHECK_EQ(v, AF_INET);
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_PROTOCOL, &v, &n), 0);
	CHECK_EQ(v, IPPROTO_TCP);
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_ACCEPTCONN, &v, &n), 0);
	CHECK_EQ(v, 0);
	v = 65536;
	CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &v, sizeof v), 0);
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &v, &n), 0);
	CHECK_EQ(v, 131072);
	v = 0;
	CHECK_ERR(setsockopt(s[0], IPPROTO_TCP, TCP_KEEPIDLE, &v, sizeof v), EINVAL);
	CHECK_ERR(setsockopt(s[0], IPPROTO_TCP, 9999, &v, sizeof v), ENOPROTOOPT);
	CHECK_ERR(getsockopt(s[0], IPPROTO_TCP, 9999, &v, &n), ENOPROTOOPT);
	CHECK_ERR(setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &v, 1), EINVAL);
	struct tcp_info info;
	n = sizeof info;
	CHECK_EQ(getsockopt(s[0], IPPROTO_TCP, TCP_INFO, &info, &n), 0);
	CHECK_EQ(info.tcpi_state, TCP_ESTABLISHED);
	CHECK_EQ(write(s[1], "12345", 5), 5);
	struct pollfd p = {s[0], POLLIN, 0};
	CHECK_EQ(poll(&p, 1, 2000), 1);
	CHECK_EQ(ioctl(s[0], FIONREAD, &v), 0);
	CHECK_EQ(v, 5);
	close(s[0]), close(s[1]);
}

static void test_addresses_in_use(void)
{
	struct sockaddr_in a;
	int one = 1, l, s;

	CHECK((l = listener(&a)) >= 0);
	CHECK((s = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_ERR(bind(s, SA(a), sizeof a), EADDRINUSE);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
	CHECK_ERR(bind(s, SA(a), sizeof a), EADDRINUSE); // the other one listens
	close(l);
	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	CHECK_ERR(bind(s, SA(a), sizeof a), EINVAL);
	close(s);

	int u[2];
	for (int i = 0; i < 2; i++) {
		CHECK((u[i] = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
		CHECK_EQ(setsockopt(u[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof one), 0);
		CHECK_EQ(bind(u[i], SA(a), sizeof a), 0);
		CHECK_EQ(listen(u[i], 5), 0);
	}
	close(u[0]), close(u[1]);
}

static void test_datagrams(void)
{
	struct sockaddr_in a = at(0), from;
	socklen_t n = sizeof a;
	char b[128];
	int s, c;

	CHECK((s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(s, SA(a), &n), 0);
	CHECK_EQ(sendto(c, "hello", 5, 0, SA(a), sizeof a), 5);
	CHECK_EQ(sendto(c, "", 0, 0, SA(a), sizeof a), 0);
	CHECK_EQ(sendto(c, "0123456789", 10, 0, SA(a), sizeof a), 10);
	n = sizeof from;
	CHECK_EQ(recvfrom(s, b, sizeof b, MSG_PEEK, SA(from), &n), 5);
	CHECK_EQ(recvfrom(s, b, sizeof b, 0, SA(from), &n), 5);
	CHECK(memcmp(b, "hello", 5) == 0);
	CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(recv(s, b, sizeof b, 0), 0);
	struct iovec v = {b, 4};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	CHECK_EQ(recvmsg(s, &m, 0), 4);
	CHECK(m.msg_flags & MSG_TRUNC);
	CHECK_EQ(sendto(s, "back", 4, 0, SA(from), sizeof from), 4);
	CHECK_EQ(recv(c, b, 2, MSG_TRUNC), 4);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(send(c, "x", 1, 0), 1);
	CHECK_EQ(recv(s, b, sizeof b, 0), 1);
	static char big[70000];
	CHECK_ERR(send(c, big, sizeof big, 0), EMSGSIZE);
	CHECK_EQ(send(c, big, 60000, 0), 60000);
	CHECK_EQ(recv(s, big, sizeof big, 0), 60000);

	struct mmsghdr mm[3] = {0};
	struct iovec vv[3];
	for (int i = 0; i < 3; i++) {
		vv[i] = (struct iovec){b + i, 1};
		mm[i].msg_hdr = (struct msghdr){.msg_iov = &vv[i], .msg_iovlen = 1};
	}
	CHECK_EQ(sendmmsg(c, mm, 3, 0), 3);
	CHECK_EQ(recvmmsg(s, mm, 3, 0, NULL), 3);
	close(s);
	// Nobody there any more: the answer comes with the next call.
	CHECK_EQ(send(c, "x", 1, 0), 1);
	CHECK_ERR(recv(c, b, 1, 0), ECONNREFUSED);
	close(c);
}

static void test_ipv6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6}, peer;
	socklen_t n = sizeof a;
	struct sockaddr_in four;
	int l, c, s;
	char b[8];

	CHECK((l = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(bind(l, SA(a), sizeof a), 0);
	CHECK_EQ(listen(l, 5), 0);
	CHECK_EQ(getsockname(l, SA(a), &n), 0);
	CHECK_EQ(n, sizeof a);
	a.sin6_addr = in6addr_loopback;
	CHECK((c = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK((s = accept(l, SA(peer), &n)) >= 0);
	CHECK(IN6_IS_ADDR_LOOPBACK(&peer.sin6_addr));
	CHECK_EQ(write(c, "six", 3), 3);
	CHECK_EQ(read(s, b, 8), 3);
	close(c), close(s);
	// The same listener takes connections of IPv4.
	four = at(ntohs(a.sin6_port));
	CHECK((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(connect(c, SA(four), sizeof four), 0);
	CHECK((s = accept(l, SA(peer), &n)) >= 0);
	CHECK(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
	close(c), close(s), close(l);
	int one = 1;
	CHECK((l = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one), 0);
	a.sin6_addr = in6addr_any, a.sin6_port = 0;
	CHECK_EQ(bind(l, SA(a), sizeof a), 0);
	CHECK_EQ(listen(l, 5), 0);
	CHECK_EQ(getsockname(l, SA(a), &n), 0);
	four = at(ntohs(a.sin6_port));
	CHECK((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_ERR(connect(c, SA(four), sizeof four), ECONNREFUSED);
	close(c), close(l);
}

static void *serve(void *arg)
{
	int l = *(int *)arg, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = l};
	char b[256];
	int left = 20;

	epoll_ctl(e, EPOLL_CTL_ADD, l, &ev);
	while (left > 0) {
		if (epoll_wait(e, &ev, 1, 5000) != 1)
			return "epoll_wait timed out";
		if (ev.data.fd == l) {
			struct epoll_event n = {.events = EPOLLIN | EPOLLET, .data.fd = accept4(l, NULL, NULL, SOCK_NONBLOCK)};
			epoll_ctl(e, EPOLL_CTL_ADD, n.data.fd, &n);
			continue;
		}
		ssize_t n;
		while ((n = read(ev.data.fd, b, sizeof b)) > 0)
			if (write(ev.data.fd, b, n) != n)
				return "write failed";
		if (n == 0) {
			close(ev.data.fd);
			left--;
		}
	}
	close(e);
	return NULL;
}

static void test_server(void)
{
	struct sockaddr_in a;
	int l, c[20];
	pthread_t t;
	void *said;
	char b[16];

	CHECK((l = listener(&a)) >= 0);
	CHECK_EQ(pthread_create(&t, NULL, serve, &l), 0);
	for (int i = 0; i < 20; i++) {
		CHECK((c[i] = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
		CHECK_EQ(connect(c[i], SA(a), sizeof a), 0);
	}
	for (int round = 0; round < 10; round++)
		for (int i = 0; i < 20; i++) {
			CHECK_EQ(write(c[i], "ping-pong", 9), 9);
			CHECK_EQ(recv(c[i], b, 9, MSG_WAITALL), 9);
			CHECK(memcmp(b, "ping-pong", 9) == 0);
		}
	for (int i = 0; i < 20; i++)
		close(c[i]);
	pthread_join(t, &said);
	CHECK(said == NULL);
	close(l);
}

static void test_forked_server(void)
{
	struct sockaddr_in a;
	int l, c, status;
	char b[8];

	CHECK((l = listener(&a)) >= 0);
	pid_t p = fork();
	if (p == 0) {
		int s = accept(l, NULL, NULL);
		_exit(write(s, "child", 5) == 5 ? 0 : 1);
	}
	CHECK(p > 0);
	close(l);
	CHECK((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(recv(c, b, 8, MSG_WAITALL), 5);
	CHECK_EQ(waitpid(p, &status, 0), p);
	CHECK_EQ(status, 0);
	close(c);
}

static void test_interfaces(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(s >= 0);
	CHECK_EQ(ioctl(s, SIOCGIFINDEX, &r), 0);
	CHECK_EQ(r.ifr_ifindex, 1);
	CHECK_EQ(ioctl(s, SIOCGIFADDR, &r), 0);
	CHECK_EQ(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(ioctl(s, SIOCGIFFLAGS, &r), 0);
	CHECK(r.ifr_flags & IFF_LOOPBACK && r.ifr_flags & IFF_UP);
	strcpy(r.ifr_name, "none0");
	CHECK_ERR(ioctl(s, SIOCGIFINDEX, &r), ENODEV);
	close(s);
}

static void test_addresses(void)
{
	struct ifaddrs *list;
	int four = 0;

	CHECK_EQ(if_nametoindex("lo"), 1);
	CHECK_EQ(getifaddrs(&list), 0);
	for (struct ifaddrs *i = list; i; i = i->ifa_next)
		if (strcmp(i->ifa_name, "lo") == 0 && i->ifa_addr && i->ifa_addr->sa_family == AF_INET) {
			CHECK_EQ(((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
			CHECK_EQ(((struct sockaddr_in *)i->ifa_netmask)->sin_addr.s_addr, htonl(0xff000000));
			CHECK(i->ifa_flags & IFF_LOOPBACK);
			four++;
		}
	CHECK_EQ(four, 1);
	freeifaddrs(list);
}

// A socket of AF_INET6 whose peer has an address of IPv4 becomes one of AF_INET for a program that asks.
static void test_address_form(void)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6}, six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in a = at(0), got;
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int l, c, s, v = AF_INET, w;
	socklen_t n = sizeof any;

	CHECK((l = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(bind(l, SA(any), sizeof any) | listen(l, 4) | getsockname(l, SA(any), &n), 0);
	CHECK_ERR(setsockopt(l, IPPROTO_IPV6, IPV6_ADDRFORM, &v, sizeof v), ENOTCONN);
	n = sizeof w;
	CHECK_ERR(getsockopt(l, IPPROTO_IPV6, IPV6_ADDRFORM, &w, &n), ENOTCONN);
	a.sin_port = any.sin6_port;
	for (int i = 0; i < 3; i++) {
		CHECK((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
		CHECK_EQ(connect(c, SA(a), sizeof a), 0);
		CHECK((s = accept(l, NULL, NULL)) >= 0);
		n = sizeof w;
		CHECK_EQ(getsockopt(s, IPPROTO_IPV6, IPV6_ADDRFORM, &w, &n), 0);
		CHECK_EQ(w, AF_INET6);
		w = AF_INET6;
		CHECK_ERR(setsockopt(s, IPPROTO_IPV6, IPV6_ADDRFORM, &w, sizeof w), EINVAL);
		CHECK_ERR(setsockopt(s, IPPROTO_IPV6, IPV6_ADDRFORM, &v, 2), EINVAL);
		CHECK_EQ(setsockopt(s, IPPROTO_IPV6, IPV6_ADDRFORM, &v, sizeof v), 0);
		CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &w, &n), 0);
		CHECK_EQ(w, AF_INET);
		n = sizeof got;
		CHECK_EQ(getpeername(s, SA(got), &n), 0);
		CHECK_EQ(n, sizeof got);
		CHECK_EQ(got.sin_family, AF_INET);
		CHECK_EQ(got.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
		CHECK_EQ(getsockname(s, SA(got), &n), 0);
		CHECK_EQ(got.sin_port, any.sin6_port);
		CHECK_EQ(write(s, "four", 4), 4);
		CHECK_EQ(read(c, &w, 4), 4);
		// Once it is let go it listens as one of AF_INET.
		CHECK_EQ(connect(s, &none, sizeof none), 0);
		CHECK_ERR(bind(s, SA(six), sizeof six), EAFNOSUPPORT);
		got = at(0);
		CHECK_EQ(bind(s, SA(got), sizeof got) | listen(s, 2) | getsockname(s, SA(got), &n), 0);
		close(c);
		CHECK((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
		CHECK_EQ(connect(c, SA(got), sizeof got), 0);
		CHECK((w = accept(s, SA(got), &n)) >= 0);
		CHECK_EQ(got.sin_family, AF_INET);
		close(w), close(c), close(s);
	}
	CHECK((c = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
	six.sin6_port = any.sin6_port;
	CHECK_EQ(connect(c, SA(six), sizeof six), 0);
	CHECK_ERR(setsockopt(c, IPPROTO_IPV6, IPV6_ADDRFORM, &v, sizeof v), EADDRNOTAVAIL);
	close(c), close(l);
	// The same for datagrams.
	any = (struct sockaddr_in6){.sin6_family = AF_INET6}, n = sizeof any;
	CHECK((l = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0 && (c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(bind(l, SA(any), sizeof any) | getsockname(l, SA(any), &n), 0);
	a.sin_port = any.sin6_port;
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	n = sizeof got;
	CHECK_EQ(getsockname(c, SA(got), &n), 0);
	six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = got.sin_port};
	six.sin6_addr = (struct in6_addr){{{[10] = 255, 255, 127, 0, 0, 1}}};
	CHECK_EQ(connect(l, SA(six), sizeof six), 0);
	CHECK_EQ(setsockopt(l, IPPROTO_IPV6, IPV6_ADDRFORM, &v, sizeof v), 0);
	CHECK_EQ(write(c, "four", 4), 4);
	CHECK_EQ(recvfrom(l, &w, 4, 0, SA(got), &n), 4);
	CHECK_EQ(n, sizeof got);
	CHECK_EQ(got.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(getpeername(l, SA(got), &n) | getsockname(l, SA(got), &n), 0);
	CHECK_EQ(got.sin_family, AF_INET);
	CHECK_EQ(got.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(write(l, "back", 4) + read(c, &w, 4), 8);
	close(l), close(c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"refusals", test_refusals}, {"stream", test_stream}, {"nonblocking", test_nonblocking},
		{"bulk", test_bulk}, {"full", test_full}, {"reset", test_reset},
		{"options", test_options}, {"addresses-in-use", test_addresses_in_use},
		{"datagrams", test_datagrams}, {"ipv6", test_ipv6}, {"server", test_server},
		{"forked-server", test_forked_server}, {"interfaces", test_interfaces},
		{"addresses", test_addresses}, {"address-form", test_address_form},
	};

	return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
