// UDP, ICMP, raw and packet sockets as udp(7), ip(7), ipv6(7), icmp(7), raw(7) and packet(7) describe them.
#define CHECK_SECONDS 60
#include "check.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <netpacket/packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SA(x) ((struct sockaddr *)&(x))

static struct sockaddr_in at(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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

	return getsockopt(fd, level, name, &v, &n) ? -errno : v;
}

static int set(int fd, int level, int name, int v) { return setsockopt(fd, level, name, &v, sizeof v); }

// bound returns a UDP socket that is bound to a port of loopback, and where.
static int bound(struct sockaddr_in *a)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t n = sizeof *a;
	struct timeval tv = {30, 0};

	*a = at(0);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	return bind(s, SA(*a), sizeof *a) || getsockname(s, SA(*a), &n) ? -1 : s;
}

static int bound6(struct sockaddr_in6 *a)
{
	int s = socket(AF_INET6, SOCK_DGRAM, 0);
	socklen_t n = sizeof *a;
	struct timeval tv = {30, 0};

	*a = (struct sockaddr_in6){.sin6_family = AF_INET6};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	if (bind(s, SA(*a), sizeof *a) || getsockname(s, SA(*a), &n))
		return -1;
	a->sin6_addr = in6addr_loopback;
	return s;
}

static char control[512];
static struct msghdr got;

// receive receives a message with its control messages, and returns its length.
static int receive(int s, int flags)
{
	static char b[2048];
	static struct iovec v;
	static struct sockaddr_storage from;

	v = (struct iovec){b, sizeof b};
	got = (struct msghdr){.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
			      .msg_name = &from, .msg_namelen = sizeof from};
	return recvmsg(s, &got, flags);
}

static void *find(int level, int type)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&got); c; c = CMSG_NXTHDR(&got, c))
		if (c->cmsg_level == level && c->cmsg_type == type)
			return CMSG_DATA(c);
	return NULL;
}

static void test_connect(void)
{
	struct sockaddr_in a, b, own, unspec = {.sin_family = AF_UNSPEC};
	socklen_t n = sizeof own;
	int x, y, c;
	char p[16];

	CHECK((x = bound(&a)) >= 0);
	CHECK((y = bound(&b)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(events(c, POLLIN | POLLOUT, 0), POLLOUT);
	CHECK_ERR(getpeername(c, SA(own), &n), ENOTCONN);
	CHECK_ERR(shutdown(c, SHUT_RD), ENOTCONN);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(c, SA(own), &n), 0);
	CHECK_EQ(own.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK(own.sin_port != 0);
	// A connected socket receives of its peer alone.
	CHECK_EQ(sendto(y, "stranger", 8, 0, SA(own), sizeof own), 8);
	CHECK_EQ(sendto(x, "friend", 6, 0, SA(own), sizeof own), 6);
	CHECK_EQ(recv(c, p, 16, 0), 6);
	CHECK_ERR(recv(c, p, 16, MSG_DONTWAIT), EAGAIN);
	// It may send elsewhere, and be connected again.
	CHECK_EQ(sendto(c, "you", 3, 0, SA(b), sizeof b), 3);
	CHECK_EQ(recv(y, p, 16, 0), 3);
	CHECK_EQ(connect(c, SA(b), sizeof b), 0);
	CHECK_EQ(getpeername(c, SA(own), &n), 0);
	CHECK_EQ(own.sin_port, b.sin_port);
	CHECK_EQ(send(c, "again", 5, 0), 5);
	CHECK_EQ(recv(y, p, 16, 0), 5);
	CHECK_EQ(connect(c, SA(unspec), sizeof unspec), 0);
	// How glibc learns which addresses it can reach.
	int six = socket(AF_INET6, SOCK_DGRAM, 0);
	struct sockaddr_in6 name;
	socklen_t k = sizeof name;
	own = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(53)};
	CHECK_EQ(connect(six, SA(own), sizeof own), 0);
	CHECK_EQ(getsockname(six, SA(name), &k), 0);
	CHECK(IN6_IS_ADDR_V4MAPPED(&name.sin6_addr));
	CHECK_EQ(connect(six, SA(unspec), sizeof unspec), 0);
	name = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(53)};
	CHECK_EQ(connect(six, SA(name), sizeof name), 0);
	CHECK_EQ(getsockname(six, SA(name), &k), 0);
	CHECK(IN6_IS_ADDR_LOOPBACK(&name.sin6_addr));
	close(six);
	CHECK_ERR(getpeername(c, SA(own), &n), ENOTCONN);
	CHECK_ERR(send(c, "x", 1, 0), EDESTADDRREQ);
	CHECK_EQ(sendto(c, "more", 4, 0, SA(a), sizeof a), 4);
	CHECK_EQ(recv(x, p, 16, 0), 4);
	// shutdown ends a wait, without an end of file for who doesn't wait.
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(shutdown(c, SHUT_RD), 0);
	CHECK_EQ(events(c, POLLIN | POLLRDHUP, 0), POLLIN | POLLRDHUP);
	CHECK_EQ(recv(c, p, 16, 0), 0);
	CHECK_EQ(shutdown(c, SHUT_WR), 0);
	CHECK_EQ(events(c, 0, 0), POLLHUP);
	CHECK_ERR(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
	close(c), close(x), close(y);
}

static void test_refused(void)
{
	struct sockaddr_in a;
	int s, c;
	char p[16];

	CHECK((s = bound(&a)) >= 0);
	close(s);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(send(c, "x", 1, 0), 1);
	CHECK_EQ(events(c, POLLERR, 10000), POLLERR);
	CHECK_EQ(option(c, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	CHECK_EQ(option(c, SOL_SOCKET, SO_ERROR), 0);
	CHECK_EQ(send(c, "x", 1, 0), 1);
	CHECK_EQ(events(c, POLLERR, 10000), POLLERR);
	CHECK_ERR(send(c, "x", 1, 0), ECONNREFUSED);
	CHECK_EQ(send(c, "x", 1, 0), 1);
	CHECK_EQ(events(c, POLLIN, 10000), POLLERR);
	CHECK_ERR(recv(c, p, 1, 0), ECONNREFUSED);
	CHECK_ERR(recv(c, p, 1, MSG_DONTWAIT), EAGAIN);
	close(c);
	// Without a connection nobody is told.
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	sleep_ms(50);
	CHECK_EQ(events(c, POLLIN, 0), 0);
	CHECK_EQ(option(c, SOL_SOCKET, SO_ERROR), 0);
	close(c);
}

static void test_error_queue(void)
{
	struct sockaddr_in a;
	int s, c;
	char p[16];

	CHECK((s = bound(&a)) >= 0);
	close(s);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(set(c, IPPROTO_IP, IP_RECVERR, 1), 0);
	CHECK_EQ(option(c, IPPROTO_IP, IP_RECVERR), 1);
	CHECK_ERR(recv(c, p, 1, MSG_ERRQUEUE), EAGAIN);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(send(c, "hello", 5, 0), 5);
	CHECK_EQ(events(c, POLLERR, 10000), POLLERR);
	CHECK_EQ(receive(c, MSG_ERRQUEUE), 5);
	CHECK(memcmp(got.msg_iov->iov_base, "hello", 5) == 0);
	CHECK(got.msg_flags & MSG_ERRQUEUE);
	CHECK_EQ(((struct sockaddr_in *)got.msg_name)->sin_port, a.sin_port);
	struct sock_extended_err *e = find(IPPROTO_IP, IP_RECVERR);
	CHECK(e != NULL);
	CHECK_EQ(e->ee_errno, ECONNREFUSED);
	CHECK_EQ(e->ee_origin, SO_EE_ORIGIN_ICMP);
	CHECK_EQ(e->ee_type, ICMP_DEST_UNREACH);
	CHECK_EQ(e->ee_code, ICMP_PORT_UNREACH);
	struct sockaddr_in *offender = (struct sockaddr_in *)SO_EE_OFFENDER(e);
	CHECK_EQ(offender->sin_family, AF_INET);
	CHECK_EQ(offender->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(events(c, POLLERR, 0), 0);
	CHECK_ERR(recv(c, p, 1, MSG_ERRQUEUE), EAGAIN);
	close(c);
}

// A socket that isn't connected hears of errors if it asked for that.
static void test_error_queue_unconnected(void)
{
	for (int six = 0; six < 2; six++) {
		struct sockaddr_in a, from;
		struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		int s, c, level = six ? IPPROTO_IPV6 : IPPROTO_IP, name = six ? IPV6_RECVERR : IP_RECVERR;
		char p[16];

		CHECK((s = bound(&a)) >= 0);
		close(s);
		a6.sin6_port = a.sin_port;
		struct sockaddr *to = six ? (struct sockaddr *)&a6 : (struct sockaddr *)&a;
		socklen_t n = six ? sizeof a6 : sizeof a;
		CHECK((c = socket(to->sa_family, SOCK_DGRAM, 0)) >= 0);
		CHECK_EQ(sendto(c, "x", 1, 0, to, n), 1);
		CHECK_EQ(set(c, level, name, 1), 0);
		CHECK_EQ(sendto(c, "hello", 5, 0, to, n), 5);
		CHECK_EQ(events(c, POLLIN, 10000), POLLERR);
		CHECK_ERR(recv(c, p, 16, MSG_DONTWAIT), ECONNREFUSED);
		CHECK_ERR(recv(c, p, 16, MSG_DONTWAIT), EAGAIN);
		CHECK_EQ(events(c, POLLIN, 0), POLLERR);
		CHECK_EQ(receive(c, MSG_ERRQUEUE), 5);
		memcpy(&from, got.msg_name, sizeof from);
		CHECK_EQ(from.sin_family, to->sa_family);
		CHECK_EQ(from.sin_port, a.sin_port);
		if (!six)
			CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
		CHECK_EQ(events(c, POLLIN, 0), 0);
		close(c);
	}
}

static void test_control(void)
{
	struct sockaddr_in a;
	int s, c;
	int *v;

	CHECK((s = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(set(s, IPPROTO_IP, IP_PKTINFO, 1), 0);
	CHECK_EQ(set(s, IPPROTO_IP, IP_RECVTTL, 1), 0);
	CHECK_EQ(set(s, IPPROTO_IP, IP_RECVTOS, 1), 0);
	CHECK_EQ(set(c, IPPROTO_IP, IP_TTL, 33), 0);
	CHECK_EQ(set(c, IPPROTO_IP, IP_TOS, 0x10), 0);
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(receive(s, 0), 1);
	struct in_pktinfo *i = find(IPPROTO_IP, IP_PKTINFO);
	CHECK(i != NULL);
	CHECK_EQ(i->ipi_ifindex, 1);
	CHECK_EQ(i->ipi_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(i->ipi_spec_dst.s_addr, htonl(INADDR_LOOPBACK));
	CHECK((v = find(IPPROTO_IP, IP_TTL)) != NULL);
	CHECK_EQ(*v, 33);
	unsigned char *tos = find(IPPROTO_IP, IP_TOS);
	CHECK(tos != NULL);
	CHECK_EQ(*tos, 0x10);
	CHECK_EQ(set(s, SOL_SOCKET, SO_TIMESTAMP, 1), 0);
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(receive(s, 0), 1);
	struct timeval *tv = find(SOL_SOCKET, SO_TIMESTAMP);
	CHECK(tv != NULL);
	CHECK(llabs(tv->tv_sec - time(NULL)) < 5);
	CHECK_EQ(set(s, SOL_SOCKET, SO_TIMESTAMPNS, 1), 0);
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(receive(s, 0), 1);
	struct timespec *ts = find(SOL_SOCKET, SO_TIMESTAMPNS);
	CHECK(ts != NULL);
	CHECK(llabs(ts->tv_sec - time(NULL)) < 5);
	// Too little room.
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	char b[4];
	struct iovec iov = {b, 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = 8};
	CHECK_EQ(recvmsg(s, &m, 0), 1);
	CHECK(m.msg_flags & MSG_CTRUNC);
	close(s), close(c);
}

// sends sends a byte with a control message.
static int sends(int s, void *to, int tolen, int level, int type, void *data, int len)
{
	char room[64] = "", b = 'x';
	struct iovec iov = {&b, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE(len),
			   .msg_name = to, .msg_namelen = tolen};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = level, c->cmsg_type = type, c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	return sendmsg(s, &m, 0);
}

static void test_sent_control(void)
{
	struct sockaddr_in a, from;
	struct sockaddr_in6 six;
	socklen_t n = sizeof from;
	int s, c, v = 44;
	char b[4];

	CHECK((s = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(set(s, IPPROTO_IP, IP_RECVTTL, 1), 0);
	CHECK_EQ(set(s, IPPROTO_IP, IP_RECVTOS, 1), 0);
	CHECK_EQ(sends(c, &a, sizeof a, IPPROTO_IP, IP_TTL, &v, sizeof v), 1);
	CHECK_EQ(receive(s, 0), 1);
	CHECK_EQ(*(int *)find(IPPROTO_IP, IP_TTL), 44);
	v = 0x20;
	CHECK_EQ(sends(c, &a, sizeof a, IPPROTO_IP, IP_TOS, &v, sizeof v), 1);
	CHECK_EQ(receive(s, 0), 1);
	CHECK_EQ(*(unsigned char *)find(IPPROTO_IP, IP_TOS), 0x20);
	v = 300;
	CHECK_ERR(sends(c, &a, sizeof a, IPPROTO_IP, IP_TTL, &v, sizeof v), EINVAL);
	CHECK_ERR(sends(c, &a, sizeof a, IPPROTO_IP, 9999, &v, sizeof v), EINVAL);
	// The source address of one message.
	struct in_pktinfo i = {.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK + 4)};
	CHECK_EQ(sends(c, &a, sizeof a, IPPROTO_IP, IP_PKTINFO, &i, sizeof i), 1);
	CHECK_EQ(recvfrom(s, b, 4, 0, SA(from), &n), 1);
	CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK + 4));
	close(s), close(c);
	CHECK((s = bound6(&six)) >= 0);
	CHECK((c = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(set(s, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), 0);
	CHECK_EQ(set(s, IPPROTO_IPV6, IPV6_RECVTCLASS, 1), 0);
	v = 55;
	CHECK_EQ(sends(c, &six, sizeof six, IPPROTO_IPV6, IPV6_HOPLIMIT, &v, sizeof v), 1);
	CHECK_EQ(receive(s, 0), 1);
	CHECK_EQ(*(int *)find(IPPROTO_IPV6, IPV6_HOPLIMIT), 55);
	v = 0x28;
	CHECK_EQ(sends(c, &six, sizeof six, IPPROTO_IPV6, IPV6_TCLASS, &v, sizeof v), 1);
	CHECK_EQ(receive(s, 0), 1);
	CHECK_EQ(*(int *)find(IPPROTO_IPV6, IPV6_TCLASS), 0x28);
	struct in6_pktinfo i6 = {.ipi6_addr = in6addr_loopback, .ipi6_ifindex = 1};
	CHECK_EQ(sends(c, &six, sizeof six, IPPROTO_IPV6, IPV6_PKTINFO, &i6, sizeof i6), 1);
	CHECK_EQ(receive(s, 0), 1);
	close(s), close(c);
}

static void test_ipv6(void)
{
	struct sockaddr_in6 a, from;
	struct sockaddr_in four;
	socklen_t n = sizeof from;
	int s, c;
	char b[4];

	CHECK((s = bound6(&a)) >= 0);
	CHECK((c = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(set(s, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), 0);
	CHECK_EQ(option(s, IPPROTO_IPV6, IPV6_RECVPKTINFO), 1);
	CHECK_EQ(option(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
	CHECK_EQ(set(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), 0);
	CHECK_EQ(option(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 9);
	CHECK_EQ(set(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1), 0);
	CHECK_EQ(option(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(receive(s, 0), 1);
	struct in6_pktinfo *i = find(IPPROTO_IPV6, IPV6_PKTINFO);
	CHECK(i != NULL);
	CHECK_EQ(i->ipi6_ifindex, 1);
	CHECK(IN6_IS_ADDR_LOOPBACK(&i->ipi6_addr));
	close(c);
	// Of IPv4 on the same socket.
	four = at(ntohs(a.sin6_port));
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(sendto(c, "four", 4, 0, SA(four), sizeof four), 4);
	CHECK_EQ(recvfrom(s, b, 4, 0, SA(from), &n), 4);
	CHECK_EQ(n, sizeof from);
	CHECK(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
	CHECK_EQ(sendto(s, "back", 4, 0, SA(from), sizeof from), 4);
	CHECK_EQ(recv(c, b, 4, 0), 4);
	close(s), close(c);
	CHECK((c = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(set(c, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
	CHECK_ERR(sendto(c, "x", 1, 0, SA(a), sizeof a), ENETUNREACH);
	close(c);
}

static void test_sizes(void)
{
	struct sockaddr_in a;
	int s, c, v;
	static char b[66000];

	CHECK((s = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_ERR(sendto(c, b, 65508, 0, SA(a), sizeof a), EMSGSIZE);
	CHECK_EQ(sendto(c, b, 65507, 0, SA(a), sizeof a), 65507);
	CHECK_EQ(recv(s, b, sizeof b, 0), 65507);
	CHECK_EQ(sendto(c, b, 300, 0, SA(a), sizeof a), 300);
	CHECK_EQ(sendto(c, b, 20, 0, SA(a), sizeof a), 20);
	CHECK_EQ(events(s, POLLIN, 10000), POLLIN);
	CHECK_EQ(ioctl(s, FIONREAD, &v), 0);
	CHECK_EQ(v, 300); // of the next one alone
	CHECK_EQ(recv(s, b, 10, MSG_TRUNC | MSG_PEEK), 300);
	CHECK_EQ(recv(s, b, 0, 0), 0); // takes the message nevertheless
	CHECK_EQ(recv(s, b, sizeof b, 0), 20);
	CHECK_EQ(sendto(c, NULL, 0, 0, SA(a), sizeof a), 0);
	CHECK_EQ(read(s, b, sizeof b), 0);
	// A buffer that is full loses what comes.
	CHECK_EQ(set(s, SOL_SOCKET, SO_RCVBUF, 4096), 0);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(sendto(c, b, 1000, 0, SA(a), sizeof a), 1000);
	int n = 0;
	while (recv(s, b, sizeof b, MSG_DONTWAIT) > 0)
		n++;
	CHECK(n > 0 && n < 50);
	CHECK_ERR(sendto(c, (void *)8, 4, 0, SA(a), sizeof a), EFAULT);
	CHECK_ERR(sendto(c, "x", 1, 0, SA(a), 8), EINVAL);
	CHECK_ERR(sendto(c, "x", 1, 0, (void *)8, sizeof a), EFAULT);
	CHECK_ERR(sendto(c, "x", 1, MSG_OOB, SA(a), sizeof a), EOPNOTSUPP);
	a.sin_port = 0;
	CHECK_ERR(sendto(c, "x", 1, 0, SA(a), sizeof a), EINVAL);
	close(s), close(c);
}

static void test_corked(void)
{
	struct sockaddr_in a;
	int s, c;
	char b[16];

	CHECK((s = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(send(c, "ab", 2, MSG_MORE), 2);
	CHECK_EQ(send(c, "cd", 2, MSG_MORE), 2);
	CHECK_EQ(events(s, POLLIN, 20), 0);
	CHECK_EQ(send(c, "e", 1, 0), 1);
	CHECK_EQ(recv(s, b, 16, 0), 5);
	CHECK(memcmp(b, "abcde", 5) == 0);
	CHECK_EQ(set(c, IPPROTO_UDP, UDP_CORK, 1), 0);
	CHECK_EQ(option(c, IPPROTO_UDP, UDP_CORK), 1);
	CHECK_EQ(send(c, "fg", 2, 0), 2);
	CHECK_EQ(send(c, "hi", 2, 0), 2);
	CHECK_EQ(events(s, POLLIN, 20), 0);
	CHECK_EQ(set(c, IPPROTO_UDP, UDP_CORK, 0), 0);
	CHECK_EQ(recv(s, b, 16, 0), 4);
	close(s), close(c);
}

static void test_many(void)
{
	struct sockaddr_in a;
	int s, c;
	struct mmsghdr m[4];
	struct iovec v[4];
	char b[4][8];
	struct timespec ts = {0, 100000000};

	CHECK((s = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	memset(m, 0, sizeof m);
	for (int i = 0; i < 4; i++) {
		v[i] = (struct iovec){b[i], i + 1};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1, .msg_name = &a, .msg_namelen = sizeof a};
	}
	CHECK_EQ(sendmmsg(c, m, 4, 0), 4);
	CHECK_EQ(m[2].msg_len, 3);
	for (int i = 0; i < 4; i++) {
		v[i].iov_len = 8;
		m[i].msg_hdr.msg_name = NULL;
	}
	CHECK_EQ(recvmmsg(s, m, 2, MSG_WAITFORONE, NULL), 2);
	CHECK_EQ(m[0].msg_len, 1);
	CHECK_EQ(m[1].msg_len, 2);
	CHECK_EQ(recvmmsg(s, m, 4, MSG_DONTWAIT, NULL), 2);
	CHECK_ERR(recvmmsg(s, m, 4, MSG_DONTWAIT, NULL), EAGAIN);
	CHECK_EQ(sendmmsg(c, m, 0, 0), 0);
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(recvmmsg(s, m, 4, MSG_WAITFORONE, &ts), 1);
	ts.tv_nsec = -1;
	CHECK_ERR(recvmmsg(s, m, 4, 0, &ts), EINVAL);
	close(s), close(c);
}

static void test_ports(void)
{
	struct sockaddr_in a, any = {.sin_family = AF_INET};
	int s, c;

	CHECK((s = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_ERR(bind(c, SA(a), sizeof a), EADDRINUSE);
	any.sin_port = a.sin_port;
	CHECK_ERR(bind(c, SA(any), sizeof any), EADDRINUSE);
	// For UDP, SO_REUSEADDR on both allows it.
	CHECK_EQ(set(c, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	CHECK_ERR(bind(c, SA(a), sizeof a), EADDRINUSE);
	close(s);
	CHECK((s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(set(s, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	CHECK_EQ(bind(c, SA(a), sizeof a), 0);
	CHECK_ERR(bind(c, SA(a), sizeof a), EINVAL);
	close(s), close(c);
}

static void test_multicast(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET}, group;
	socklen_t n = sizeof a;
	struct ip_mreqn r = {.imr_ifindex = 1};
	int s, c;
	char b[8];

	CHECK((s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(option(c, IPPROTO_IP, IP_MULTICAST_TTL), 1);
	CHECK_EQ(option(c, IPPROTO_IP, IP_MULTICAST_LOOP), 1);
	CHECK_EQ(set(c, IPPROTO_IP, IP_MULTICAST_TTL, 7), 0);
	CHECK_EQ(option(c, IPPROTO_IP, IP_MULTICAST_TTL), 7);
	CHECK_ERR(set(c, IPPROTO_IP, IP_MULTICAST_TTL, 256), EINVAL);
	unsigned char byte = 0;
	CHECK_EQ(setsockopt(c, IPPROTO_IP, IP_MULTICAST_LOOP, &byte, 1), 0);
	CHECK_EQ(option(c, IPPROTO_IP, IP_MULTICAST_LOOP), 0);
	byte = 1;
	CHECK_EQ(setsockopt(c, IPPROTO_IP, IP_MULTICAST_LOOP, &byte, 1), 0);
	CHECK_EQ(bind(s, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(s, SA(a), &n), 0);
	r.imr_multiaddr.s_addr = inet_addr("127.0.0.1");
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r), EINVAL);
	r.imr_multiaddr.s_addr = inet_addr("239.1.2.3");
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r), EADDRNOTAVAIL);
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r), 0);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r), EADDRINUSE);
	CHECK_EQ(setsockopt(c, IPPROTO_IP, IP_MULTICAST_IF, &r, sizeof r), 0);
	group = a;
	group.sin_addr = r.imr_multiaddr;
	struct timeval tv = {30, 0};
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(sendto(c, "to all", 6, 0, SA(group), sizeof group), 6);
	CHECK_EQ(recv(s, b, 8, 0), 6);
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r), 0);
	close(s), close(c);
	struct ipv6_mreq r6 = {.ipv6mr_interface = 1};
	inet_pton(AF_INET6, "ff02::1234", &r6.ipv6mr_multiaddr);
	CHECK((s = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(setsockopt(s, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &r6, sizeof r6), 0);
	CHECK_EQ(setsockopt(s, IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &r6, sizeof r6), 0);
	CHECK_EQ(option(s, IPPROTO_IPV6, IPV6_MULTICAST_HOPS), 1);
	CHECK_EQ(option(s, IPPROTO_IPV6, IPV6_MULTICAST_LOOP), 1);
	close(s);
}

// line returns how often a file has a line with both words.
static int line(const char *name, const char *one, const char *other)
{
	char text[400];
	int n = 0;
	FILE *f = fopen(name, "r");

	if (f == 0)
		return -1;
	while (fgets(text, sizeof text, f))
		n += strstr(text, one) && strstr(text, other);
	fclose(f);
	return n;
}

// The groups that the machine hears are listed, with how many sockets asked for them.
static void test_listed_groups(void)
{
	struct ip_mreqn r = {.imr_multiaddr.s_addr = inet_addr("239.77.1.2"), .imr_ifindex = 1};
	struct ipv6_mreq r6 = {.ipv6mr_interface = 1};
	const char *g6 = "ff020000000000000000000000774321";
	int s[2], t[2];

	inet_pton(AF_INET6, "ff02::77:4321", &r6.ipv6mr_multiaddr);
	CHECK_EQ(line("/proc/net/igmp", "lo ", ": "), 1);
	CHECK_EQ(line("/proc/net/igmp", "02014DEF", ""), 0);
	CHECK_EQ(line("/proc/net/igmp6", "lo ", " ff020000000000000000000000000001 "), 1);
	CHECK_EQ(line("/proc/net/igmp6", g6, ""), 0);
	for (int i = 0; i < 2; i++) {
		CHECK((s[i] = socket(AF_INET, SOCK_DGRAM, 0)) >= 0 && (t[i] = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
		CHECK_EQ(setsockopt(s[i], IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r), 0);
		CHECK_EQ(setsockopt(t[i], IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &r6, sizeof r6), 0);
	}
	CHECK_EQ(line("/proc/net/igmp", "\t\t\t\t02014DEF     2 ", ""), 1);
	CHECK_EQ(line("/proc/net/igmp6", "1    lo              ff020000000000000000000000774321     2 ", " 0\n"), 1);
	CHECK_EQ(setsockopt(s[0], IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r), 0);
	close(t[0]);
	CHECK_EQ(line("/proc/net/igmp", "\t\t\t\t02014DEF     1 ", ""), 1);
	CHECK_EQ(line("/proc/net/igmp6", g6, "     1 "), 1);
	close(s[0]), close(s[1]), close(t[1]);
	CHECK_EQ(line("/proc/net/igmp", "02014DEF", ""), 0);
	CHECK_EQ(line("/proc/net/igmp6", g6, ""), 0);
	CHECK_EQ(line("/proc/net/dev_mcast", "lo ", ""), 0);
}

static void test_broadcast(void)
{
	struct sockaddr_in a = at(9);
	int c;

	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	a.sin_addr.s_addr = htonl(INADDR_BROADCAST);
	CHECK_ERR(sendto(c, "x", 1, 0, SA(a), sizeof a) == 1 ? 0 : -1, errno == ENETUNREACH ? ENETUNREACH : EACCES);
	CHECK_EQ(set(c, SOL_SOCKET, SO_BROADCAST, 1), 0);
	close(c);
}

static void test_ip_options(void)
{
	static const struct {
		int name, first, value;
	} kept[] = {
		{IP_TOS, 0, 0x10}, {IP_TTL, 64, 5}, {IP_PKTINFO, 0, 1}, {IP_RECVTTL, 0, 1}, {IP_RECVTOS, 0, 1},
		{IP_RECVERR, 0, 1}, {IP_MTU_DISCOVER, IP_PMTUDISC_WANT, IP_PMTUDISC_DONT}, {IP_FREEBIND, 0, 1},
		{IP_MULTICAST_ALL, 1, 0}, {IP_BIND_ADDRESS_NO_PORT, 0, 1}, {IP_RECVORIGDSTADDR, 0, 1},
		{IP_RECVOPTS, 0, 1}, {IP_RETOPTS, 0, 1},
	};
	int s;

	CHECK((s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		CHECK_EQ((kept[i].name << 16) + option(s, IPPROTO_IP, kept[i].name), (kept[i].name << 16) + kept[i].first);
		CHECK_EQ(set(s, IPPROTO_IP, kept[i].name, kept[i].value), 0);
		CHECK_EQ((kept[i].name << 16) + option(s, IPPROTO_IP, kept[i].name), (kept[i].name << 16) + kept[i].value);
	}
	CHECK_ERR(set(s, IPPROTO_IP, IP_TTL, 256), EINVAL);
	CHECK_ERR(set(s, IPPROTO_IP, IP_TTL, 0), EINVAL);
	CHECK_ERR(set(s, IPPROTO_IP, IP_HDRINCL, 1), ENOPROTOOPT);
	CHECK_ERR(set(s, IPPROTO_IP, IP_MTU_DISCOVER, 77), EINVAL);
	CHECK_ERR(set(s, IPPROTO_TCP, 1, 1), ENOPROTOOPT);
	CHECK_ERR(set(s, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
	CHECK_EQ(option(s, IPPROTO_IP, IP_MTU), -ENOTCONN);
	close(s);
	static const struct {
		int name, first, value;
	} kept6[] = {
		{IPV6_TCLASS, 0, 0x20}, {IPV6_RECVTCLASS, 0, 1}, {IPV6_RECVHOPLIMIT, 0, 1}, {IPV6_RECVPKTINFO, 0, 1},
		{IPV6_RECVERR, 0, 1}, {IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT, IPV6_PMTUDISC_DONT}, {IPV6_DONTFRAG, 0, 1},
		{IPV6_V6ONLY, 0, 1}, {IPV6_MULTICAST_HOPS, 1, 9}, {IPV6_MULTICAST_LOOP, 1, 0},
	};
	CHECK((s = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
	for (size_t i = 0; i < sizeof kept6 / sizeof *kept6; i++) {
		CHECK_EQ((kept6[i].name << 16) + option(s, IPPROTO_IPV6, kept6[i].name), (kept6[i].name << 16) + kept6[i].first);
		CHECK_EQ(set(s, IPPROTO_IPV6, kept6[i].name, kept6[i].value), 0);
		CHECK_EQ((kept6[i].name << 16) + option(s, IPPROTO_IPV6, kept6[i].name), (kept6[i].name << 16) + kept6[i].value);
	}
	close(s);
}

static void test_bind_to_device(void)
{
	struct sockaddr_in a;
	int s, c;
	char name[16] = "x", b[4];
	socklen_t n = sizeof name;

	CHECK((s = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(getsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, name, &n), 0);
	CHECK_EQ(n, 0);
	CHECK_ERR(setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "nothing0", 9), ENODEV);
	CHECK_EQ(setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
	n = sizeof name;
	CHECK_EQ(getsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, name, &n), 0);
	CHECK_EQ(n, 3);
	CHECK(strcmp(name, "lo") == 0);
	CHECK_EQ(sendto(c, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(recv(s, b, 4, 0), 1);
	close(s), close(c);
}

static void test_ping(void)
{
	struct sockaddr_in a = at(0), from;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	socklen_t n = sizeof from;
	struct {
		struct icmphdr h;
		char data[8];
	} p = {.h = {.type = ICMP_ECHO, .un.echo.sequence = htons(3)}, .data = "echoed"}, r;
	int s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);

	if (s < 0 && errno == EACCES) // net.ipv4.ping_group_range
		return;
	CHECK(s >= 0);
	struct timeval tv = {30, 0};
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(sendto(s, &p, sizeof p, 0, SA(a), sizeof a), sizeof p);
	CHECK_EQ(recvfrom(s, &r, sizeof r, 0, SA(from), &n), sizeof r);
	CHECK_EQ(r.h.type, ICMP_ECHOREPLY);
	CHECK_EQ(ntohs(r.h.un.echo.sequence), 3);
	CHECK(strcmp(r.data, "echoed") == 0);
	CHECK_EQ(from.sin_addr.s_addr, a.sin_addr.s_addr);
	n = sizeof from;
	CHECK_EQ(getsockname(s, SA(from), &n), 0);
	CHECK_EQ(from.sin_port, r.h.un.echo.id); // the id is the port
	close(s);
	CHECK((s = socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)) >= 0);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	p.h.type = ICMP6_ECHO_REQUEST;
	CHECK_EQ(sendto(s, &p, sizeof p, 0, SA(six), sizeof six), sizeof p);
	CHECK_EQ(recv(s, &r, sizeof r, 0), sizeof r);
	CHECK_EQ(r.h.type, ICMP6_ECHO_REPLY);
	close(s);
}

static void test_raw(void)
{
	struct sockaddr_in a = at(0), from;
	socklen_t n = sizeof from;
	unsigned char b[256];
	int s, c, u;

	s = socket(AF_INET, SOCK_RAW, IPPROTO_UDP);
	if (s < 0 && errno == EPERM)
		return;
	CHECK(s >= 0);
	CHECK_ERR(socket(AF_INET, SOCK_RAW, 0), EPROTONOSUPPORT);
	struct timeval tv = {30, 0};
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK((u = bound(&a)) >= 0);
	CHECK((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(sendto(c, "seen", 4, 0, SA(a), sizeof a), 4);
	CHECK_EQ(recv(u, b, sizeof b, 0), 4);
	// A raw socket sees the IP header.
	do
		CHECK_EQ(recvfrom(s, b, sizeof b, 0, SA(from), &n), 20 + 8 + 4);
	while (memcmp(b + 22, &a.sin_port, 2) != 0);
	CHECK_EQ(b[0], 0x45);
	CHECK_EQ(b[9], IPPROTO_UDP);
	CHECK_EQ(ntohs(*(uint16_t *)(b + 2)), 32);
	CHECK(memcmp(b + 28, "seen", 4) == 0);
	CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(from.sin_port, 0);
	// What it sends gets a header.
	struct {
		struct udphdr h;
		char data[4];
	} p = {.h = {.source = htons(7), .dest = a.sin_port, .len = htons(12)}, .data = "raw!"};
	CHECK_EQ(sendto(s, &p, 12, 0, SA(a), sizeof a), 12);
	n = sizeof from;
	CHECK_EQ(recvfrom(u, b, sizeof b, 0, SA(from), &n), 4);
	CHECK(memcmp(b, "raw!", 4) == 0);
	CHECK_EQ(ntohs(from.sin_port), 7);
	close(s);
	// With IP_HDRINCL, or IPPROTO_RAW, it brings its own.
	CHECK((s = socket(AF_INET, SOCK_RAW, IPPROTO_RAW)) >= 0);
	CHECK_EQ(option(s, IPPROTO_IP, IP_HDRINCL), 1);
	struct {
		struct iphdr ip;
		struct udphdr h;
		char data[4];
	} q = {.ip = {.version = 4, .ihl = 5, .ttl = 9, .protocol = IPPROTO_UDP, .tot_len = htons(32)}, .h = p.h, .data = "own!"};
	q.ip.saddr = q.ip.daddr = htonl(INADDR_LOOPBACK);
	CHECK_EQ(set(u, IPPROTO_IP, IP_RECVTTL, 1), 0);
	CHECK_EQ(sendto(s, &q, 32, 0, SA(a), sizeof a), 32);
	CHECK_EQ(receive(u, 0), 4);
	CHECK_EQ(*(int *)find(IPPROTO_IP, IP_TTL), 9);
	CHECK_ERR(recv(s, b, 1, MSG_DONTWAIT), EAGAIN); // it receives nothing
	close(s), close(u), close(c);
}

// Raw sockets are for any protocol: programs bring what the kernel doesn't speak.
static void test_raw_protocols(void)
{
	struct sockaddr_in a = at(0), from;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct timeval tv = {30, 0};
	socklen_t n = sizeof from;
	unsigned char b[256];
	int s[2], c;

	a.sin_port = 0;
	for (int protocol = 153; protocol < 156; protocol++) {
		for (int i = 0; i < 2; i++) {
			s[i] = socket(AF_INET, SOCK_RAW, protocol);
			if (s[i] < 0 && errno == EPERM)
				return;
			CHECK(s[i] >= 0);
			CHECK_EQ(setsockopt(s[i], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
		}
		CHECK((c = socket(AF_INET, SOCK_RAW, 200)) >= 0);
		CHECK_EQ(sendto(s[0], "mine", 4, 0, SA(a), sizeof a), 4);
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(recvfrom(s[i], b, sizeof b, 0, SA(from), &n), 24);
			CHECK_EQ(b[9], protocol);
			CHECK(memcmp(b + 20, "mine", 4) == 0);
			CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
		}
		CHECK_ERR(recv(c, b, 1, MSG_DONTWAIT), EAGAIN);
		close(s[1]);
		CHECK_EQ(sendto(s[0], "more", 4, 0, SA(a), sizeof a), 4);
		CHECK_EQ(recv(s[0], b, sizeof b, 0), 24);
		close(s[0]), close(c);
		CHECK((s[0] = socket(AF_INET6, SOCK_RAW, protocol)) >= 0);
		CHECK_EQ(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
		CHECK_EQ(sendto(s[0], "six", 3, 0, SA(six), sizeof six), 3);
		CHECK_EQ(recv(s[0], b, sizeof b, 0), 3); // without the header
		CHECK(memcmp(b, "six", 3) == 0);
		close(s[0]);
	}
}

// Raw sockets of IPv6 choose which messages they hear, and where a checksum is.
static void test_raw_ipv6(void)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct timeval tv = {30, 0};
	unsigned char b[64], echo[8] = {128, 0, 0, 0, 7, 7, 0, 1}, other[8] = {200, 0, 0, 0, 1, 2, 3, 4};
	unsigned filter[8], got[8];
	socklen_t n = sizeof got;
	int s = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), c, v = 2, w;

	if (s < 0 && errno == EPERM)
		return;
	CHECK(s >= 0);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(getsockopt(s, IPPROTO_ICMPV6, 1, got, &n), 0);
	CHECK_EQ(n, 32);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(got[i], 0);
	memset(filter, 0xff, sizeof filter);
	filter[6] &= ~(1u << 8); // 200 alone
	CHECK_EQ(setsockopt(s, IPPROTO_ICMPV6, 1, filter, sizeof filter), 0);
	CHECK_EQ(getsockopt(s, IPPROTO_ICMPV6, 1, got, &n), 0);
	CHECK(memcmp(filter, got, 32) == 0);
	CHECK_EQ(sendto(s, echo, 8, 0, SA(six), sizeof six), 8);
	CHECK_EQ(sendto(s, other, 8, 0, SA(six), sizeof six), 8);
	CHECK_EQ(recv(s, b, sizeof b, 0), 8); // neither the echo nor the answer
	CHECK_EQ(b[0], 200);
	CHECK(b[2] | b[3]); // the checksum was made
	CHECK_ERR(setsockopt(s, IPPROTO_ICMPV6, 2, filter, sizeof filter), ENOPROTOOPT);
	CHECK_ERR(setsockopt(s, IPPROTO_IPV6, IPV6_CHECKSUM, &v, sizeof v), EINVAL);
	n = sizeof w;
	CHECK_EQ(getsockopt(s, IPPROTO_IPV6, IPV6_CHECKSUM, &w, &n), 0);
	CHECK_EQ(w, 2);
	close(s);
	CHECK((s = socket(AF_INET6, SOCK_RAW, 159)) >= 0);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_ERR(setsockopt(s, IPPROTO_ICMPV6, 1, filter, sizeof filter), EOPNOTSUPP);
	CHECK_EQ(getsockopt(s, IPPROTO_IPV6, IPV6_CHECKSUM, &w, &n), 0);
	CHECK_EQ(w, -1);
	v = 3;
	CHECK_ERR(setsockopt(s, IPPROTO_IPV6, IPV6_CHECKSUM, &v, sizeof v), EINVAL);
	v = 4;
	CHECK_EQ(setsockopt(s, SOL_RAW, IPV6_CHECKSUM, &v, sizeof v), 0);
	CHECK_EQ(getsockopt(s, SOL_RAW, IPV6_CHECKSUM, &w, &n), 0);
	CHECK_EQ(w, 4);
	CHECK_EQ(sendto(s, "abcd\0\0gh", 8, 0, SA(six), sizeof six), 8);
	CHECK_EQ(recv(s, b, sizeof b, 0), 8);
	CHECK(memcmp(b, "abcd", 4) == 0 && memcmp(b + 6, "gh", 2) == 0 && (b[4] | b[5]));
	CHECK_ERR(sendto(s, "abcd", 4, 0, SA(six), sizeof six), EINVAL);
	v = -7;
	CHECK_EQ(setsockopt(s, IPPROTO_IPV6, IPV6_CHECKSUM, &v, sizeof v), 0);
	CHECK_EQ(getsockopt(s, IPPROTO_IPV6, IPV6_CHECKSUM, &w, &n), 0);
	CHECK_EQ(w, -1);
	close(s);
	CHECK((c = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
	CHECK_ERR(setsockopt(c, IPPROTO_IPV6, IPV6_CHECKSUM, &v, sizeof v), ENOPROTOOPT);
	CHECK_ERR(setsockopt(c, IPPROTO_ICMPV6, 1, filter, sizeof filter), ENOPROTOOPT);
	close(c);
}

static void test_packet(void)
{
	struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = 1}, from;
	socklen_t n = sizeof from;
	int s, d;

	s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	if (s < 0 && errno == EPERM)
		return;
	CHECK(s >= 0);
	CHECK((d = socket(AF_PACKET, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(bind(d, SA(ll), sizeof ll), 0);
	ll.sll_protocol = htons(ETH_P_ALL);
	CHECK_EQ(bind(s, SA(ll), sizeof ll), 0);
	CHECK_EQ(getsockname(d, SA(from), &n), 0);
	CHECK_EQ(from.sll_family, AF_PACKET);
	CHECK_EQ(from.sll_ifindex, 1);
	CHECK_EQ(from.sll_protocol, htons(ETH_P_IP));
	CHECK_EQ(from.sll_hatype, 772); // ARPHRD_LOOPBACK
	CHECK_EQ(from.sll_halen, 6);
	CHECK_ERR(connect(s, SA(ll), sizeof ll), EOPNOTSUPP);
	CHECK_ERR(listen(s, 1), EOPNOTSUPP);
	ll.sll_ifindex = 9999;
	CHECK_ERR(bind(s, SA(ll), sizeof ll), ENODEV);
	close(s), close(d);
}

static void test_refusals(void)
{
	CHECK_ERR(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
	CHECK_ERR(socket(AF_INET, SOCK_DGRAM, 300), EINVAL);
	CHECK_ERR(socket(AF_INET, SOCK_RDM, 0), ESOCKTNOSUPPORT);
	CHECK_ERR(socket(99, SOCK_DGRAM, 0), EAFNOSUPPORT);
	CHECK_ERR(socket(-1, SOCK_DGRAM, 0), EAFNOSUPPORT);
	CHECK_ERR(socket(AF_INET, SOCK_DGRAM | 0x10, 0), EINVAL);
	CHECK_ERR(socketpair(AF_INET, SOCK_DGRAM, 0, (int[2]){0}), EOPNOTSUPP);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"connect", test_connect},
		{"refused", test_refused},
		{"error-queue", test_error_queue},
		{"error-queue-unconnected", test_error_queue_unconnected},
		{"control", test_control},
		{"sent-control", test_sent_control},
		{"ipv6", test_ipv6},
		{"sizes", test_sizes},
		{"corked", test_corked},
		{"many", test_many},
		{"ports", test_ports},
		{"multicast", test_multicast},
		{"listed_groups", test_listed_groups},
		{"broadcast", test_broadcast},
		{"ip-options", test_ip_options},
		{"bind-to-device", test_bind_to_device},
		{"ping", test_ping},
		{"raw", test_raw},
		{"raw-protocols", test_raw_protocols},
		{"raw-ipv6", test_raw_ipv6},
		{"packet", test_packet},
		{"refusals", test_refusals},
	};

	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
