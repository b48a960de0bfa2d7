// Filters of sockets, SO_PEEK_OFF, and addresses that aren't the machine's: socket(7), ip(7).
#define CHECK_SECONDS 60
#include "check.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifndef SO_DETACH_FILTER
#define SO_DETACH_FILTER 27
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define SA(x) ((struct sockaddr *)&(x))
#define N(a) (sizeof(a) / sizeof *(a))

static int events(int fd, int want, int timeout)
{
	struct pollfd p = {.fd = fd, .events = want};
	int n = poll(&p, 1, timeout);

	return n <= 0 ? n : p.revents;
}

static int set(int fd, int level, int name, int v) { return setsockopt(fd, level, name, &v, sizeof v); }

static int option(int fd, int level, int name)
{
	int v = -99;
	socklen_t n = sizeof v;

	return getsockopt(fd, level, name, &v, &n) ? -1000 - errno : v;
}

static int attach(int fd, struct sock_filter *code, int n)
{
	struct sock_fprog p = {n, code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p);
}

static int udp(struct sockaddr_in *a)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t n = sizeof *a;

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return bind(s, SA(*a), sizeof *a) || getsockname(s, SA(*a), &n) ? -1 : s;
}

// first_is lets a message through whose byte at k is c, no more of it than that.
#define FIRST_IS(k, c, most)                                                                                      \
	{                                                                                                             \
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, k), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, c, 0, 1),                      \
			BPF_STMT(BPF_RET | BPF_K, most), BPF_STMT(BPF_RET | BPF_K, 0)                                         \
	}

static void refused(void)
{
	struct sockaddr_in a;
	int s = udp(&a);
	struct sock_filter endless[] = {BPF_STMT(BPF_LD | BPF_IMM, 0)};
	struct sock_filter fine[] = {BPF_STMT(BPF_RET | BPF_K, -1)};
	struct sock_fprog p = {1, fine};

	CHECK_ERR(attach(s, endless, 1), EINVAL);
	CHECK_ERR(attach(s, fine, 0), EINVAL);
	CHECK_ERR(attach(s, NULL, 1), EINVAL);
	CHECK_ERR(attach(s, (void *)16, 1), EFAULT);
	CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, 8), EINVAL);
	CHECK_ERR(set(s, SOL_SOCKET, SO_DETACH_FILTER, 0), ENOENT);
	CHECK(attach(s, fine, 1) == 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_LOCK_FILTER), 0);
	CHECK(set(s, SOL_SOCKET, SO_DETACH_FILTER, 0) == 0);
	CHECK(attach(s, fine, 1) == 0);
	CHECK(set(s, SOL_SOCKET, SO_LOCK_FILTER, 1) == 0);
	CHECK_EQ(option(s, SOL_SOCKET, SO_LOCK_FILTER), 1);
	CHECK_ERR(attach(s, fine, 1), EPERM);
	CHECK_ERR(set(s, SOL_SOCKET, SO_DETACH_FILTER, 0), EPERM);
	CHECK_ERR(set(s, SOL_SOCKET, SO_LOCK_FILTER, 0), EPERM);
	close(s);
}

static void datagrams(void)
{
	struct sockaddr_in a, b;
	int to = udp(&a), from = udp(&b);
	struct sock_filter code[] = FIRST_IS(8, 'y', 8 + 4); // behind the header
	char buf[100];

	CHECK(attach(to, code, N(code)) == 0);
	CHECK_EQ(sendto(from, "no", 2, 0, SA(a), sizeof a), 2);
	CHECK_EQ(sendto(from, "", 0, 0, SA(a), sizeof a), 0);
	CHECK_EQ(events(to, POLLIN, 100), 0);
	CHECK_ERR(recv(to, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(sendto(from, "no", 2, 0, SA(a), sizeof a), 2);
	CHECK_EQ(sendto(from, "yes, and more", 13, 0, SA(a), sizeof a), 13);
	CHECK_EQ(sendto(from, "no", 2, 0, SA(a), sizeof a), 2);
	CHECK_EQ(sendto(from, "y", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(events(to, POLLIN, 30000), POLLIN);
	CHECK_EQ(recv(to, buf, sizeof buf, MSG_PEEK), 4);
	CHECK_EQ(recv(to, buf, sizeof buf, 0), 4);
	CHECK(memcmp(buf, "yes,", 4) == 0);
	CHECK_EQ(recv(to, buf, sizeof buf, 0), 1);
	CHECK_EQ(events(to, POLLIN, 0), 0);
	// The ports are in the header.
	struct sock_filter port[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohs(b.sin_port), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, -1), BPF_STMT(BPF_RET | BPF_K, 0),
	};
	CHECK(attach(to, port, N(port)) == 0);
	CHECK_EQ(sendto(to, "other", 5, 0, SA(a), sizeof a), 5);
	CHECK_EQ(sendto(from, "mine", 4, 0, SA(a), sizeof a), 4);
	CHECK_EQ(recv(to, buf, sizeof buf, 0), 4);
	CHECK(set(to, SOL_SOCKET, SO_DETACH_FILTER, 0) == 0);
	CHECK_EQ(sendto(to, "other", 5, 0, SA(a), sizeof a), 5);
	CHECK_EQ(recv(to, buf, sizeof buf, 0), 5);
	close(to);
	close(from);
}

static void unix_datagrams(void)
{
	struct sock_filter code[] = FIRST_IS(0, 'y', 3);
	char buf[100];

	for (int kind = 0; kind < 2; kind++) {
		int p[2];

		CHECK(socketpair(AF_UNIX, kind ? SOCK_SEQPACKET : SOCK_DGRAM, 0, p) == 0);
		CHECK(attach(p[0], code, N(code)) == 0);
		CHECK_EQ(send(p[1], "no", 2, 0), 2);
		CHECK_EQ(send(p[1], "yes!", 4, 0), 4);
		CHECK_EQ(send(p[1], "no", 2, 0), 2);
		CHECK_EQ(recv(p[0], buf, sizeof buf, 0), 3);
		CHECK_ERR(recv(p[0], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
		close(p[0]);
		close(p[1]);
	}
}

static void packets(void)
{
	struct sockaddr_in a, b;
	int to = udp(&a), from = udp(&b);
	int s = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));
	struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex("lo")};
	// UDP over IPv4 to our port; no more than 40 bytes of it.
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 6),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SKF_NET_OFF + 9),              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 4),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),                           BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohs(a.sin_port), 0, 1),     BPF_STMT(BPF_RET | BPF_K, 40),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	char buf[200];

	if (s < 0 && errno == EPERM) { // on a host that doesn't let us
		close(to);
		close(from);
		return;
	}
	CHECK(bind(s, SA(lo), sizeof lo) == 0);
	CHECK(attach(s, code, N(code)) == 0);
	while (recv(s, buf, sizeof buf, MSG_DONTWAIT) > 0) // what came before the filter
		;
	CHECK_EQ(sendto(from, "no", 2, 0, SA(b), sizeof b), 2);
	CHECK_EQ(sendto(from, "yes, and so much more", 21, 0, SA(a), sizeof a), 21);
	CHECK_EQ(events(s, POLLIN, 30000), POLLIN);
	CHECK_EQ(recv(s, buf, sizeof buf, MSG_TRUNC), 40);
	CHECK(memcmp(buf + 28, "yes, and so ", 12) == 0);
	close(s);
	close(to);
	close(from);
}

static void peek_stream(int a, int b)
{
	char buf[20] = "";

	CHECK_EQ(option(b, SOL_SOCKET, SO_PEEK_OFF), -1);
	CHECK_EQ(send(a, "abc", 3, 0), 3);
	CHECK_EQ(send(a, "defgh", 5, 0), 5);
	CHECK_EQ(events(b, POLLIN, 30000), POLLIN);
	while (recv(b, buf, 8, MSG_PEEK) < 8)
		;
	CHECK(set(b, SOL_SOCKET, SO_PEEK_OFF, 2) == 0);
	CHECK_EQ(option(b, SOL_SOCKET, SO_PEEK_OFF), 2);
	CHECK_EQ(recv(b, buf, 3, MSG_PEEK), 3);
	CHECK(memcmp(buf, "cde", 3) == 0);
	CHECK_EQ(option(b, SOL_SOCKET, SO_PEEK_OFF), 5);
	CHECK_EQ(recv(b, buf, 3, MSG_PEEK), 3);
	CHECK(memcmp(buf, "fgh", 3) == 0);
	CHECK_ERR(recv(b, buf, 3, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(recv(b, buf, 4, 0), 4);
	CHECK(memcmp(buf, "abcd", 4) == 0);
	CHECK_EQ(option(b, SOL_SOCKET, SO_PEEK_OFF), 4);
	CHECK_EQ(send(a, "xyz", 3, 0), 3);
	CHECK_EQ(recv(b, buf, 10, MSG_PEEK), 3); // which waits
	CHECK(memcmp(buf, "xyz", 3) == 0);
	CHECK(set(b, SOL_SOCKET, SO_PEEK_OFF, -1) == 0);
	CHECK_EQ(recv(b, buf, 10, MSG_PEEK), 7);
	close(a);
	CHECK_EQ(recv(b, buf, 20, 0), 7);
	CHECK_EQ(recv(b, buf, 20, 0), 0);
	close(b);
}

static void peek_unix(void)
{
	int p[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	peek_stream(p[0], p[1]);
}

static void peek_tcp(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(l, SA(a), sizeof a) == 0 && listen(l, 1) == 0 && getsockname(l, SA(a), &n) == 0);
	CHECK(connect(c, SA(a), sizeof a) == 0);
	int s = accept(l, NULL, NULL);
	close(l);
	CHECK(s >= 0);
	if (option(s, SOL_SOCKET, SO_PEEK_OFF) == -1000 - EOPNOTSUPP) { // Linux before 6.9
		close(s);
		close(c);
		return;
	}
	peek_stream(c, s);
}

static void peek_datagrams(void)
{
	int p[2];
	char buf[20] = "";

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p) == 0);
	CHECK_EQ(send(p[0], "abc", 3, 0), 3);
	CHECK_EQ(send(p[0], "defgh", 5, 0), 5);
	CHECK(set(p[1], SOL_SOCKET, SO_PEEK_OFF, 1) == 0);
	CHECK_EQ(recv(p[1], buf, 20, MSG_PEEK), 2);
	CHECK(memcmp(buf, "bc", 2) == 0);
	CHECK_EQ(recv(p[1], buf, 20, MSG_PEEK), 5);
	CHECK(memcmp(buf, "defgh", 5) == 0);
	CHECK_ERR(recv(p[1], buf, 20, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(recv(p[1], buf, 20, 0), 3);
	CHECK_EQ(option(p[1], SOL_SOCKET, SO_PEEK_OFF), 5);
	CHECK(set(p[1], SOL_SOCKET, SO_PEEK_OFF, 0) == 0);
	CHECK_EQ(recv(p[1], buf, 2, MSG_PEEK), 2);
	CHECK_EQ(recv(p[1], buf, 20, MSG_PEEK), 3);
	CHECK(memcmp(buf, "fgh", 3) == 0);
	close(p[0]);
	close(p[1]);
}

static void foreign(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("192.0.2.77")};

	for (int kind = 0; kind < 2; kind++) {
		int s = socket(AF_INET, kind ? SOCK_STREAM : SOCK_DGRAM, 0);
		socklen_t n = sizeof a;

		a.sin_port = 0;
		CHECK_ERR(bind(s, SA(a), sizeof a), EADDRNOTAVAIL);
		CHECK(set(s, IPPROTO_IP, IP_FREEBIND, 1) == 0);
		CHECK(bind(s, SA(a), sizeof a) == 0);
		CHECK(getsockname(s, SA(a), &n) == 0);
		CHECK(a.sin_addr.s_addr == inet_addr("192.0.2.77") && a.sin_port != 0);
		if (kind)
			CHECK(listen(s, 1) == 0);
		// It is nobody else's yet.
		int t = socket(AF_INET, kind ? SOCK_STREAM : SOCK_DGRAM, 0);
		a.sin_port = 0;
		CHECK_ERR(bind(t, SA(a), sizeof a), EADDRNOTAVAIL);
		close(t);
		close(s);
	}
	int s = socket(AF_INET, SOCK_STREAM, 0);
	if (geteuid() == 0) {
		CHECK(set(s, IPPROTO_IP, IP_TRANSPARENT, 1) == 0 || errno == EPERM);
	} else {
		CHECK_ERR(set(s, IPPROTO_IP, IP_TRANSPARENT, 1), EPERM);
	}
	CHECK(set(s, IPPROTO_IP, IP_TRANSPARENT, 0) == 0);
	close(s);
}

static void later(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, b;
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(l, SA(a), sizeof a) == 0 && listen(l, 1) == 0 && getsockname(l, SA(a), &n) == 0);
	CHECK(set(s, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) == 0);
	b = a;
	b.sin_port = 0;
	b.sin_addr.s_addr = inet_addr("192.0.2.77");
	CHECK_ERR(bind(s, SA(b), sizeof b), EADDRNOTAVAIL);
	b.sin_addr.s_addr = inet_addr("127.0.0.1");
	CHECK(bind(s, SA(b), sizeof b) == 0);
	CHECK(bind(s, SA(b), sizeof b) == 0); // Linux counts who has no port as not bound
	n = sizeof b;
	CHECK(getsockname(s, SA(b), &n) == 0);
	CHECK_EQ(b.sin_port, 0);
	CHECK(connect(s, SA(a), sizeof a) == 0);
	CHECK(getsockname(s, SA(b), &n) == 0);
	CHECK(b.sin_port != 0);
	close(s);
	close(l);
}

TESTS({"refused", refused}, {"datagrams", datagrams}, {"unix_datagrams", unix_datagrams}, {"packets", packets},
      {"peek_unix", peek_unix}, {"peek_tcp", peek_tcp}, {"peek_datagrams", peek_datagrams}, {"foreign", foreign},
      {"later", later})
