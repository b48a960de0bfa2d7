// What sockets of one machine see of each other (ip(7), udp(7), tcp(7)): a kernel may take a shorter way than
// packets between them, and it must not show.
#define CHECK_SECONDS 60
#include "check.h"
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define SA(x) ((struct sockaddr *)&(x))

static struct sockaddr_in host(int last, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000000 | last)};
	return a;
}

static int set(int fd, int level, int name, int v) { return setsockopt(fd, level, name, &v, sizeof v); }

static int option(int fd, int level, int name)
{
	int v = -1;
	socklen_t n = sizeof v;

	return getsockopt(fd, level, name, &v, &n) ? -errno : v;
}

static int events(int fd, int want, int timeout)
{
	struct pollfd p = {.fd = fd, .events = want};
	int n = poll(&p, 1, timeout);

	return n <= 0 ? n : p.revents;
}

// at returns a socket bound to 127.0.0.last, and where that is.
static int at(int type, int last, struct sockaddr_in *a)
{
	int s = socket(AF_INET, type, 0);
	socklen_t n = sizeof *a;
	struct timeval tv = {30, 0};

	*a = host(last, 0);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	return bind(s, SA(*a), sizeof *a) || getsockname(s, SA(*a), &n) ? -1 : s;
}

static int listener(struct sockaddr_in *a, int backlog)
{
	int l = at(SOCK_STREAM, 1, a);

	return l >= 0 && listen(l, backlog) == 0 ? l : -1;
}

static int dial(struct sockaddr_in *a)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct timeval tv = {30, 0};

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	return connect(s, SA(*a), sizeof *a) ? -1 : s;
}

static int port_of(int s)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;

	return getsockname(s, SA(a), &n) ? -1 : ntohs(a.sin_port);
}

// A connected socket receives from its peer alone.
static void test_connected_receives_from_its_peer(void)
{
	struct sockaddr_in a, b, c;
	int s = at(SOCK_DGRAM, 1, &a), peer = at(SOCK_DGRAM, 1, &b), other = at(SOCK_DGRAM, 1, &c);
	char buf[8];

	CHECK(s >= 0 && peer >= 0 && other >= 0);
	CHECK_EQ(connect(s, SA(b), sizeof b), 0);
	CHECK_EQ(sendto(other, "no", 2, 0, SA(a), sizeof a), 2);
	CHECK_EQ(sendto(peer, "yes", 3, 0, SA(a), sizeof a), 3);
	CHECK_EQ(recv(s, buf, sizeof buf, 0), 3);
	CHECK_ERR(recv(s, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
	// To the others nobody is there.
	CHECK_EQ(connect(other, SA(a), sizeof a), 0);
	CHECK_EQ(send(other, "no", 2, 0), 2);
	CHECK_EQ(events(other, 0, 10000), POLLERR);
	CHECK_ERR(send(other, "no", 2, 0), ECONNREFUSED);
	close(s);
	CHECK_EQ(send(other, "gone", 4, 0), 4);
	CHECK_EQ(events(other, 0, 10000), POLLERR);
	CHECK_EQ(option(other, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	close(peer);
	close(other);
}

// Which address a datagram comes from, and where it arrives, for all of 127.0.0.0/8.
static void test_addresses(void)
{
	struct sockaddr_in two, from, any = host(0, 0);
	int r = at(SOCK_DGRAM, 2, &two), s = socket(AF_INET, SOCK_DGRAM, 0), w = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t n = sizeof from;
	char c;

	any.sin_addr.s_addr = 0;
	CHECK(r >= 0 && bind(w, SA(any), sizeof any) == 0);
	CHECK_EQ(sendto(s, "1", 1, 0, SA(two), sizeof two), 1);
	CHECK_EQ(recvfrom(r, &c, 1, 0, SA(from), &n), 1);
	CHECK_EQ(ntohl(from.sin_addr.s_addr), 0x7f000001);
	CHECK_EQ(ntohs(from.sin_port), port_of(s));
	// Another address of the same port is another socket's, or nobody's.
	struct sockaddr_in one = host(1, ntohs(two.sin_port)), to = host(200, port_of(w));
	CHECK_EQ(sendto(s, "2", 1, 0, SA(one), sizeof one), 1);
	CHECK_ERR(recv(r, &c, 1, MSG_DONTWAIT), EAGAIN);
	for (int i = 0; i < 3; i++) { // one address and the other, in turns
		CHECK_EQ(sendto(s, "3", 1, 0, SA(to), sizeof to), 1);
		CHECK_EQ(sendto(s, "4", 1, 0, SA(two), sizeof two), 1);
		CHECK(recvfrom(w, &c, 1, 0, SA(from), &n) == 1 && c == '3');
		CHECK_EQ(ntohl(from.sin_addr.s_addr), 0x7f000001);
		CHECK(recv(r, &c, 1, 0) == 1 && c == '4');
	}
	// A socket sends from the address that it is bound or connected to.
	struct sockaddr_in five, here;
	int f = at(SOCK_DGRAM, 5, &five);
	CHECK_EQ(sendto(f, "5", 1, 0, SA(two), sizeof two), 1);
	CHECK_EQ(recvfrom(r, &c, 1, 0, SA(from), &n), 1);
	CHECK_EQ(from.sin_addr.s_addr, five.sin_addr.s_addr);
	CHECK_EQ(connect(s, SA(to), sizeof to), 0);
	CHECK_EQ(getsockname(s, SA(here), &n), 0);
	CHECK_EQ(ntohl(here.sin_addr.s_addr), 0x7f000001);
	CHECK_EQ(sendto(s, "6", 1, 0, SA(two), sizeof two), 1);
	CHECK_EQ(recv(r, &c, 1, 0), 1);
	CHECK_EQ(send(s, "7", 1, 0), 1);
	CHECK(recv(w, &c, 1, 0) == 1 && c == '7');
	close(r);
	close(s);
	close(w);
	close(f);
}

// Of sockets that share a port, one receives each datagram, and always the same those of a sender.
static void test_shared_port(void)
{
	enum { sockets = 4, senders = 64 };
	int r[sockets], seen[sockets] = {0};
	struct sockaddr_in a = host(1, 0);
	socklen_t n = sizeof a;

	for (int i = 0; i < sockets; i++) {
		r[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		CHECK_EQ(set(r[i], SOL_SOCKET, SO_REUSEPORT, 1), 0);
		CHECK_EQ(bind(r[i], SA(a), sizeof a), 0);
		CHECK_EQ(getsockname(r[i], SA(a), &n), 0);
	}
	for (int i = 0; i < senders; i++) {
		int s = socket(AF_INET, SOCK_DGRAM, 0), to = -1;
		for (int j = 0; j < 3; j++) {
			char c;
			int got = 0;
			CHECK_EQ(sendto(s, "x", 1, 0, SA(a), sizeof a), 1);
			for (int k = 0; k < sockets; k++)
				if (recv(r[k], &c, 1, 0) == 1) {
					got++;
					CHECK(to == -1 || to == k);
					to = k;
				}
			CHECK_EQ(got, 1);
		}
		seen[to]++;
		close(s);
	}
	int used = 0;
	for (int i = 0; i < sockets; i++) {
		used += seen[i] > 0;
		close(r[i]);
	}
	CHECK(used > 1);
}

// What doesn't fit into SO_RCVBUF is lost, datagrams without bytes among it.
static void test_full(void)
{
	struct sockaddr_in a;
	int r = at(SOCK_DGRAM, 1, &a), s = socket(AF_INET, SOCK_DGRAM, 0);
	char b[1024] = "";

	CHECK(r >= 0);
	CHECK_EQ(set(r, SOL_SOCKET, SO_RCVBUF, 8192), 0);
	for (int size = 0; size <= 1024; size += 512) {
		int got = 0;
		for (int i = 0; i < 200; i++) {
			memcpy(b, &i, sizeof i);
			CHECK_EQ(sendto(s, b, size, 0, SA(a), sizeof a), size);
		}
		for (ssize_t n; (n = recv(r, b, sizeof b, MSG_DONTWAIT)) >= 0; got++) {
			CHECK_EQ(n, size);
			CHECK(size == 0 || memcmp(b, &got, sizeof got) == 0); // the first ones
		}
		CHECK_EQ(errno, EAGAIN);
		CHECK(got >= 4 && got <= 64);
	}
	CHECK_EQ(sendto(s, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(recv(r, b, sizeof b, 0), 1);
	close(r);
	close(s);
}

static char control[512];
static struct msghdr m;

static ssize_t receive(int fd, void *p, size_t n, int flags)
{
	static struct iovec iov;

	iov = (struct iovec){p, n};
	m = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	return recvmsg(fd, &m, flags);
}

static void *find(int level, int type)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == level && c->cmsg_type == type)
			return CMSG_DATA(c);
	return NULL;
}

static void test_control(void)
{
	struct sockaddr_in a;
	int r = at(SOCK_DGRAM, 3, &a), s = socket(AF_INET, SOCK_DGRAM, 0);
	char b[4];

	CHECK(r >= 0);
	CHECK_EQ(set(r, IPPROTO_IP, IP_PKTINFO, 1), 0);
	CHECK_EQ(set(r, IPPROTO_IP, IP_RECVTTL, 1), 0);
	CHECK_EQ(set(r, IPPROTO_IP, IP_RECVTOS, 1), 0);
	CHECK_EQ(set(r, SOL_SOCKET, SO_TIMESTAMPNS, 1), 0);
	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	for (int i = 0; i < 2; i++) {
		struct timespec *t;
		int64_t before = now_ns(CLOCK_REALTIME);
		CHECK_EQ(send(s, "x", 1, 0), 1);
		CHECK_EQ(receive(r, b, sizeof b, 0), 1);
		int64_t after = now_ns(CLOCK_REALTIME);
		struct in_pktinfo *p = find(IPPROTO_IP, IP_PKTINFO);
		int *ttl = find(IPPROTO_IP, IP_TTL);
		unsigned char *tos = find(IPPROTO_IP, IP_TOS);
		t = find(SOL_SOCKET, SO_TIMESTAMPNS);
		CHECK(p && ttl && tos && t);
		CHECK_EQ(p->ipi_ifindex, 1);
		CHECK_EQ(p->ipi_addr.s_addr, a.sin_addr.s_addr);
		CHECK_EQ(p->ipi_spec_dst.s_addr, a.sin_addr.s_addr);
		CHECK_EQ(*ttl, i ? 7 : 64);
		CHECK_EQ(*tos, i ? IPTOS_LOWDELAY : 0);
		int64_t is = t->tv_sec * 1000000000LL + t->tv_nsec;
		CHECK(is >= before && is <= after);
		CHECK_EQ(set(s, IPPROTO_IP, IP_TTL, 7), 0);
		CHECK_EQ(set(s, IPPROTO_IP, IP_TOS, IPTOS_LOWDELAY), 0);
	}
	close(r);
	close(s);
}

static void test_control6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t n = sizeof a;
	int r = socket(AF_INET6, SOCK_DGRAM, 0), s = socket(AF_INET6, SOCK_DGRAM, 0);
	char b[4];

	CHECK_EQ(bind(r, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(r, SA(a), &n), 0);
	CHECK_EQ(set(r, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), 0);
	CHECK_EQ(set(r, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), 0);
	CHECK_EQ(set(r, IPPROTO_IPV6, IPV6_RECVTCLASS, 1), 0);
	CHECK_EQ(set(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), 0);
	CHECK_EQ(set(s, IPPROTO_IPV6, IPV6_TCLASS, 0x20), 0);
	CHECK_EQ(sendto(s, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK_EQ(receive(r, b, sizeof b, 0), 1);
	struct in6_pktinfo *p = find(IPPROTO_IPV6, IPV6_PKTINFO);
	int *hops = find(IPPROTO_IPV6, IPV6_HOPLIMIT), *class = find(IPPROTO_IPV6, IPV6_TCLASS);
	CHECK(p && hops && class);
	CHECK_EQ(p->ipi6_ifindex, 1);
	CHECK(memcmp(&p->ipi6_addr, &in6addr_loopback, sizeof in6addr_loopback) == 0);
	CHECK_EQ(*hops, 9);
	CHECK_EQ(*class, 0x20);
	close(r);
	close(s);
}

// An IPv6 socket and one of IPv4 talk to each other.
static void test_both_families(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6}, from;
	socklen_t n = sizeof a;
	int r = socket(AF_INET6, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
	char b[4];

	CHECK_EQ(set(r, IPPROTO_IPV6, IPV6_V6ONLY, 0), 0);
	CHECK_EQ(bind(r, SA(a), sizeof a), 0);
	CHECK_EQ(getsockname(r, SA(a), &n), 0);
	struct sockaddr_in to = host(1, ntohs(a.sin6_port));
	CHECK_EQ(sendto(s, "x", 1, 0, SA(to), sizeof to), 1);
	CHECK_EQ(recvfrom(r, b, sizeof b, 0, SA(from), &n), 1);
	CHECK(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
	CHECK_EQ(ntohs(from.sin6_port), port_of(s));
	CHECK_EQ(sendto(r, "yz", 2, 0, SA(from), n), 2);
	CHECK_EQ(recv(s, b, sizeof b, 0), 2);
	CHECK_EQ(connect(r, SA(from), n), 0);
	CHECK_EQ(send(r, "yes", 3, 0), 3);
	CHECK_EQ(recv(s, b, sizeof b, 0), 3);
	close(r);
	close(s);
}

static void test_flags(void)
{
	struct sockaddr_in a;
	int r = at(SOCK_DGRAM, 1, &a), s = socket(AF_INET, SOCK_DGRAM, 0);
	char b[8] = "";

	CHECK_EQ(connect(s, SA(a), sizeof a), 0);
	CHECK_EQ(send(s, "abcdef", 6, 0), 6);
	CHECK_EQ(receive(r, b, 3, MSG_PEEK), 3);
	CHECK_EQ(m.msg_flags, MSG_TRUNC);
	CHECK_EQ(recv(r, b, 3, MSG_PEEK | MSG_TRUNC), 6);
	CHECK_EQ(receive(r, b, 3, 0), 3);
	CHECK(memcmp(b, "abc", 3) == 0 && m.msg_flags == MSG_TRUNC);
	CHECK_ERR(recv(r, b, 3, MSG_DONTWAIT), EAGAIN); // the rest is lost
	CHECK_ERR(send(s, (void *)8, 6, 0), EFAULT);
	CHECK_ERR(recv(r, b, 3, MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(send(s, "", 0, 0), 0);
	CHECK_EQ(recv(r, b, 3, 0), 0);
	struct mmsghdr out[8], in[8];
	struct iovec iov[8];
	char bytes[8][4];
	for (int i = 0; i < 8; i++) {
		iov[i] = (struct iovec){"wxyz", i % 4 + 1};
		out[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	CHECK_EQ(sendmmsg(s, out, 8, 0), 8);
	for (int i = 0; i < 8; i++) {
		iov[i] = (struct iovec){bytes[i], 4};
		in[i].msg_hdr = out[i].msg_hdr;
	}
	CHECK_EQ(recvmmsg(r, in, 8, MSG_DONTWAIT, NULL), 8);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(in[i].msg_len, i % 4 + 1);
	CHECK_EQ(shutdown(s, SHUT_WR), 0);
	signal(SIGPIPE, SIG_IGN);
	CHECK_ERR(send(s, "x", 1, 0), EPIPE);
	close(r);
	close(s);
}

static void test_edges(void)
{
	struct sockaddr_in a;
	int r = at(SOCK_DGRAM, 1, &a), s = socket(AF_INET, SOCK_DGRAM, 0), p = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN | EPOLLET};
	char b[4];

	CHECK_EQ(epoll_ctl(p, EPOLL_CTL_ADD, r, &e), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(epoll_wait(p, &e, 1, 0), 0);
		CHECK_EQ(sendto(s, "x", 1, 0, SA(a), sizeof a), 1);
		CHECK_EQ(epoll_wait(p, &e, 1, 10000), 1);
		CHECK_EQ(epoll_wait(p, &e, 1, 0), 0);
		CHECK_EQ(recv(r, b, 1, 0), 1);
	}
	close(p);
	close(r);
	close(s);
}

// counter reads a number of /proc/net/snmp.
static long counter(const char *group, const char *name)
{
	char names[4096], values[4096], *a, *b, *x, *y;
	size_t n = strlen(group);
	long v = -1;
	FILE *f = fopen("/proc/net/snmp", "r");

	while (f && v < 0 && fgets(names, sizeof names, f) && fgets(values, sizeof values, f))
		if (strncmp(names, group, n) == 0 && names[n] == ':')
			for (x = strtok_r(names, " \n", &a), y = strtok_r(values, " \n", &b); x && y; x = strtok_r(NULL, " \n", &a), y = strtok_r(NULL, " \n", &b))
				if (strcmp(x, name) == 0)
					v = atol(y);
	if (f)
		fclose(f);
	return v;
}

static void test_counters(void)
{
	struct sockaddr_in a;
	int r = at(SOCK_DGRAM, 1, &a), s = socket(AF_INET, SOCK_DGRAM, 0);
	long in = counter("Udp", "InDatagrams"), out = counter("Udp", "OutDatagrams"), none = counter("Udp", "NoPorts"),
	     opened = counter("Tcp", "ActiveOpens"), accepted = counter("Tcp", "PassiveOpens");
	char c;

	CHECK(in >= 0 && out >= 0 && none >= 0 && opened >= 0 && accepted >= 0);
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(sendto(s, "x", 1, 0, SA(a), sizeof a), 1);
		CHECK_EQ(recv(r, &c, 1, 0), 1);
	}
	close(r);
	CHECK_EQ(sendto(s, "x", 1, 0, SA(a), sizeof a), 1);
	CHECK(counter("Udp", "InDatagrams") >= in + 10);
	CHECK(counter("Udp", "OutDatagrams") >= out + 11);
	CHECK(counter("Udp", "NoPorts") >= none + 1);
	int l = listener(&a, 1), t = dial(&a);
	CHECK(l >= 0 && t >= 0);
	CHECK(counter("Tcp", "ActiveOpens") >= opened + 1);
	CHECK(counter("Tcp", "PassiveOpens") >= accepted + 1);
	long segments = counter("Tcp", "OutSegs");
	for (int i = 0; i < 10; i++)
		CHECK_EQ(write(t, "x", 1), 1);
	CHECK(counter("Tcp", "OutSegs") >= segments + 1);
	close(l);
	close(t);
	close(s);
}

static int state(int s)
{
	struct tcp_info i;
	socklen_t n = sizeof i;

	return getsockopt(s, IPPROTO_TCP, TCP_INFO, &i, &n) ? -1 : i.tcpi_state;
}

// listed looks for a connection of two local ports in /proc/net/tcp, and returns its state or 0.
static int listed(int port, int peer)
{
	char line[256];
	unsigned from, to, state = 0;
	FILE *f = fopen("/proc/net/tcp", "r");

	while (f && state == 0 && fgets(line, sizeof line, f))
		if (sscanf(line, " %*d: %*x:%x %*x:%x %x", &from, &to, &state) != 3 || from != port || to != peer)
			state = 0;
	if (f)
		fclose(f);
	return state;
}

// becomes waits until a connection is in a state: of what has arrived, Linux may tell later.
static int becomes(int s, int want)
{
	int is = state(s);

	for (int i = 0; i < 10000 && is != want; i++, is = state(s))
		sleep_ms(1);
	return is;
}

static void test_states(void)
{
	struct sockaddr_in a, mine;
	int l = listener(&a, 5), c = dial(&a), s = accept(l, NULL, NULL);
	socklen_t n = sizeof mine;
	char b[4];

	CHECK(s >= 0);
	int theirs = ntohs(a.sin_port), ours = port_of(c);
	CHECK_EQ(state(l), TCP_LISTEN);
	CHECK_EQ(state(c), TCP_ESTABLISHED);
	CHECK_EQ(state(s), TCP_ESTABLISHED);
	CHECK_EQ(listed(ours, theirs), TCP_ESTABLISHED);
	CHECK_EQ(listed(theirs, ours), TCP_ESTABLISHED);
	CHECK_EQ(getpeername(s, SA(mine), &n), 0);
	CHECK_EQ(ntohs(mine.sin_port), ours);
	CHECK_EQ(events(s, POLLIN | POLLRDHUP, 0), 0);
	CHECK_EQ(write(c, "ab", 2), 2);
	CHECK_EQ(shutdown(c, SHUT_WR), 0);
	CHECK_EQ(events(s, POLLIN | POLLRDHUP, 10000), POLLIN | POLLRDHUP);
	CHECK_EQ(becomes(c, TCP_FIN_WAIT2), TCP_FIN_WAIT2);
	CHECK_EQ(becomes(s, TCP_CLOSE_WAIT), TCP_CLOSE_WAIT);
	CHECK_EQ(read(s, b, sizeof b), 2);
	CHECK_EQ(read(s, b, sizeof b), 0);
	signal(SIGPIPE, SIG_IGN);
	CHECK_ERR(write(c, "x", 1), EPIPE);
	CHECK_EQ(write(s, "cd", 2), 2); // the other way is open
	CHECK_EQ(read(c, b, sizeof b), 2);
	CHECK_EQ(shutdown(s, SHUT_WR), 0);
	CHECK_EQ(read(c, b, sizeof b), 0);
	CHECK_EQ(becomes(s, TCP_CLOSE), TCP_CLOSE);
	CHECK_EQ(events(s, POLLIN, 0), POLLIN | POLLHUP);
	CHECK_EQ(events(c, POLLIN, 0), POLLIN | POLLHUP);
	// Who ended it first remembers it for a while.
	CHECK_EQ(listed(ours, theirs), TCP_TIME_WAIT);
	CHECK_EQ(listed(theirs, ours), 0);
	close(c);
	close(s);
	CHECK_EQ(listed(ours, theirs), TCP_TIME_WAIT);
	int again = socket(AF_INET, SOCK_STREAM, 0);
	mine = host(1, ours);
	CHECK_ERR(bind(again, SA(mine), sizeof mine), EADDRINUSE);
	close(again);
	close(l);
}

static void test_close_first(void)
{
	struct sockaddr_in a;
	int l = listener(&a, 5), c, s;
	char b[8];

	// By who accepted.
	c = dial(&a), s = accept(l, NULL, NULL);
	CHECK_EQ(write(s, "abc", 3), 3);
	close(s);
	CHECK_EQ(becomes(c, TCP_CLOSE_WAIT), TCP_CLOSE_WAIT);
	CHECK_EQ(read(c, b, sizeof b), 3);
	CHECK_EQ(read(c, b, sizeof b), 0);
	int ours = port_of(c);
	close(c);
	CHECK_EQ(listed(ntohs(a.sin_port), ours), TCP_TIME_WAIT);
	CHECK_EQ(listed(ours, ntohs(a.sin_port)), 0);
	// Before it is accepted.
	c = dial(&a);
	CHECK_EQ(write(c, "defg", 4), 4);
	close(c);
	CHECK_EQ(events(l, POLLIN, 10000), POLLIN);
	s = accept(l, NULL, NULL);
	CHECK_EQ(read(s, b, sizeof b), 4);
	CHECK_EQ(read(s, b, sizeof b), 0);
	close(s);
	// What is written to who has closed resets.
	c = dial(&a), s = accept(l, NULL, NULL);
	close(s);
	signal(SIGPIPE, SIG_IGN);
	CHECK_EQ(write(c, "x", 1), 1);
	CHECK(events(c, 0, 10000) & POLLHUP);
	CHECK_ERR(write(c, "x", 1), EPIPE);
	close(c);
	close(l);
}

static void test_reset(void)
{
	struct sockaddr_in a;
	int l = listener(&a, 5), c, s;
	char b[8];

	// Bytes that nobody reads.
	c = dial(&a), s = accept(l, NULL, NULL);
	CHECK_EQ(write(c, "abc", 3), 3);
	CHECK_EQ(events(s, POLLIN, 10000), POLLIN);
	close(s);
	CHECK(events(c, 0, 10000) & POLLHUP);
	CHECK_ERR(read(c, b, sizeof b), ECONNRESET);
	CHECK_EQ(read(c, b, sizeof b), 0);
	close(c);
	// SO_LINGER without time.
	struct linger now = {1, 0};
	c = dial(&a), s = accept(l, NULL, NULL);
	CHECK_EQ(setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	int ours = port_of(c);
	close(c);
	CHECK(events(s, 0, 10000) & POLLHUP);
	CHECK_ERR(read(s, b, sizeof b), ECONNRESET);
	close(s);
	CHECK_EQ(listed(ours, ntohs(a.sin_port)), 0);
	// With time: there is nothing to wait for.
	struct linger later = {1, 20};
	c = dial(&a), s = accept(l, NULL, NULL);
	CHECK_EQ(setsockopt(c, SOL_SOCKET, SO_LINGER, &later, sizeof later), 0);
	CHECK_EQ(write(c, "abc", 3), 3);
	int64_t begin = now_ns(CLOCK_MONOTONIC);
	close(c);
	CHECK(now_ns(CLOCK_MONOTONIC) - begin < 15000000000);
	CHECK_EQ(read(s, b, sizeof b), 3);
	CHECK_EQ(read(s, b, sizeof b), 0);
	close(s);
	// Connections that nobody accepts.
	c = dial(&a);
	close(l);
	CHECK(events(c, 0, 10000) & POLLHUP);
	CHECK_ERR(read(c, b, sizeof b), ECONNRESET);
	close(c);
}

// The end comes after all bytes, however many wait.
static void test_end_after_bytes(void)
{
	static char block[65536];
	struct sockaddr_in a;
	int l = listener(&a, 5);

	for (int way = 0; way < 2; way++) {
		int c = dial(&a), s = accept(l, NULL, NULL), from = way ? s : c, to = way ? c : s;
		long sent = 0, got = 0;
		ssize_t n;

		CHECK_EQ(fcntl(from, F_SETFL, O_NONBLOCK), 0);
		while ((n = write(from, block, sizeof block)) > 0)
			sent += n;
		CHECK_EQ(errno, EAGAIN);
		if (way)
			CHECK_EQ(shutdown(from, SHUT_WR), 0);
		else
			close(from);
		while ((n = read(to, block, sizeof block)) > 0)
			got += n;
		CHECK_EQ(n, 0);
		CHECK_EQ(got, sent);
		close(to);
		if (way)
			close(from);
	}
	close(l);
}

// A connection from another address, and of another family.
static void test_connections(void)
{
	struct sockaddr_in a, from, name;
	struct sockaddr_in6 b = {.sin6_family = AF_INET6}, peer;
	int l = listener(&a, 5), c = at(SOCK_STREAM, 3, &from), s;
	socklen_t n = sizeof name;
	char byte;

	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_EQ(connect(c, SA(a), sizeof a), -1);
	CHECK_EQ(errno, EISCONN);
	s = accept(l, SA(name), &n);
	CHECK_EQ(name.sin_addr.s_addr, from.sin_addr.s_addr);
	CHECK_EQ(name.sin_port, from.sin_port);
	CHECK_EQ(write(s, "x", 1), 1);
	CHECK_EQ(read(c, &byte, 1), 1);
	close(s);
	close(c);
	close(l);
	l = socket(AF_INET6, SOCK_STREAM, 0);
	CHECK_EQ(bind(l, SA(b), sizeof b), 0);
	CHECK_EQ(listen(l, 5), 0);
	n = sizeof b;
	CHECK_EQ(getsockname(l, SA(b), &n), 0);
	a = host(1, ntohs(b.sin6_port));
	c = dial(&a);
	CHECK(c >= 0);
	s = accept(l, SA(peer), &n);
	CHECK(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
	CHECK_EQ(write(c, "x", 1), 1);
	CHECK_EQ(read(s, &byte, 1), 1);
	close(s);
	close(c);
	c = socket(AF_INET6, SOCK_STREAM, 0);
	b.sin6_addr = in6addr_loopback;
	CHECK_EQ(connect(c, SA(b), sizeof b), 0);
	n = sizeof peer;
	s = accept(l, SA(peer), &n);
	CHECK(memcmp(&peer.sin6_addr, &in6addr_loopback, 16) == 0);
	CHECK_EQ(write(c, "y", 1), 1);
	CHECK_EQ(read(s, &byte, 1), 1);
	close(c);
	CHECK_EQ(read(s, &byte, 1), 0);
	close(s);
	close(l);
	// Without blocking it goes on at first, whatever the way.
	l = listener(&a, 5);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK_ERR(connect(c, SA(a), sizeof a), EINPROGRESS);
	CHECK_EQ(events(c, POLLOUT, 10000), POLLOUT);
	CHECK_EQ(option(c, SOL_SOCKET, SO_ERROR), 0);
	CHECK_EQ(connect(c, SA(a), sizeof a), 0);
	CHECK_ERR(connect(c, SA(a), sizeof a), EISCONN);
	close(c);
	close(l);
}

static void test_defer_accept(void)
{
	struct sockaddr_in a;
	int l = listener(&a, 5);
	char c;

	CHECK_EQ(set(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, 30), 0);
	int s = dial(&a);
	CHECK(s >= 0);
	CHECK_EQ(events(l, POLLIN, 100), 0);
	CHECK_EQ(write(s, "x", 1), 1);
	CHECK_EQ(events(l, POLLIN, 10000), POLLIN);
	int t = accept(l, NULL, NULL);
	CHECK_EQ(read(t, &c, 1), 1);
	close(t);
	close(s);
	close(l);
}

// Of sockets that listen at one port, one gets each connection.
static void test_shared_listeners(void)
{
	enum { sockets = 3, connections = 30 };
	struct sockaddr_in a = host(1, 0);
	socklen_t n = sizeof a;
	int l[sockets], c[connections], accepted = 0, used = 0;

	for (int i = 0; i < sockets; i++) {
		l[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		CHECK_EQ(set(l[i], SOL_SOCKET, SO_REUSEPORT, 1), 0);
		CHECK_EQ(bind(l[i], SA(a), sizeof a), 0);
		CHECK_EQ(listen(l[i], connections), 0);
		CHECK_EQ(getsockname(l[i], SA(a), &n), 0);
	}
	for (int i = 0; i < connections; i++) {
		c[i] = dial(&a);
		CHECK(c[i] >= 0);
	}
	for (int i = 0; i < sockets; i++) {
		int s, some = 0;
		while ((s = accept(l[i], NULL, NULL)) >= 0) {
			some++;
			close(s);
		}
		accepted += some;
		used += some > 0;
	}
	CHECK_EQ(accepted, connections);
	CHECK(used > 1);
	for (int i = 0; i < connections; i++)
		close(c[i]);
	for (int i = 0; i < sockets; i++)
		close(l[i]);
}

// A packet socket sees what goes between sockets while it is there.
static void test_watched(void)
{
	struct sockaddr_in a, u;
	int l = listener(&a, 5), c = dial(&a), s = accept(l, NULL, NULL), r = at(SOCK_DGRAM, 1, &u), d = socket(AF_INET, SOCK_DGRAM, 0);
	char b[64];

	for (int i = 0; i < 3; i++) {
		int p = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)), datagrams = 0, segments = 0, syn = 0;
		unsigned char packet[2048];
		ssize_t n;

		CHECK(p >= 0);
		CHECK_EQ(sendto(d, "watched", 7, 0, SA(u), sizeof u), 7);
		CHECK_EQ(recv(r, b, sizeof b, 0), 7);
		CHECK_EQ(write(c, "watched", 7), 7);
		CHECK_EQ(read(s, b, sizeof b), 7);
		CHECK_EQ(write(s, "answered", 8), 8);
		CHECK_EQ(read(c, b, sizeof b), 8);
		int c2 = dial(&a), s2 = accept(l, NULL, NULL);
		CHECK(c2 >= 0 && s2 >= 0);
		while ((n = recv(p, packet, sizeof packet, MSG_DONTWAIT)) > 0) {
			int h = (packet[0] & 15) * 4;
			struct tcphdr *t = (void *)(packet + h);
			if (packet[9] == IPPROTO_UDP && n == h + 8 + 7 && memcmp(packet + h + 8, "watched", 7) == 0)
				datagrams++;
			if (packet[9] == IPPROTO_TCP && n > h + t->doff * 4)
				segments++;
			if (packet[9] == IPPROTO_TCP && t->syn && !t->ack)
				syn++;
		}
		CHECK(datagrams >= 1 && segments >= 2 && syn >= 1);
		if (i == 1) // this one ends unseen
			close(p);
		close(c2);
		CHECK_EQ(read(s2, b, sizeof b), 0);
		close(s2);
		if (i != 1)
			close(p);
		CHECK_EQ(write(c, "unseen", 6), 6);
		CHECK_EQ(read(s, b, sizeof b), 6);
		CHECK_EQ(sendto(d, "unseen", 6, 0, SA(u), sizeof u), 6);
		CHECK_EQ(recv(r, b, sizeof b, 0), 6);
	}
	close(c);
	CHECK_EQ(read(s, b, sizeof b), 0);
	close(s);
	close(l);
	close(r);
	close(d);
}

enum { threads = 4, rounds = 100 };

static void *serve(void *arg)
{
	int l = *(int *)arg;
	long sum = 0;

	for (int i = 0; i < rounds; i++) {
		char b[256];
		ssize_t n;
		int s = accept(l, NULL, NULL);
		if (s < 0)
			return (void *)-1;
		while ((n = read(s, b, sizeof b)) > 0) {
			sum += n;
			if (write(s, b, n) != n)
				return (void *)-1;
		}
		close(s);
	}
	return (void *)sum;
}

static void *ask(void *arg)
{
	long sum = 0;

	for (int i = 0; i < rounds; i++) {
		char b[256] = "";
		int s = dial(arg), n = i % 200 + 1;
		if (s < 0 || write(s, b, n) != n)
			return (void *)-1;
		if (i % 3)
			shutdown(s, SHUT_WR);
		for (int got = 0; got < n;) {
			ssize_t k = read(s, b, sizeof b);
			if (k <= 0)
				return (void *)-1;
			got += k;
		}
		sum += n;
		close(s);
	}
	return (void *)sum;
}

static void test_many_at_once(void)
{
	struct sockaddr_in a;
	int l = listener(&a, 3);
	pthread_t server[threads], client[threads];
	long sent = 0, got = 0;

	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < threads; i++) {
		CHECK_EQ(pthread_create(&server[i], NULL, serve, &l), 0);
		CHECK_EQ(pthread_create(&client[i], NULL, ask, &a), 0);
	}
	for (int i = 0; i < threads; i++) {
		void *v;
		pthread_join(client[i], &v);
		CHECK(v != (void *)-1);
		sent += (long)v;
		pthread_join(server[i], &v);
		CHECK(v != (void *)-1);
		got += (long)v;
	}
	CHECK_EQ(got, sent);
	close(l);
}

static int shared;

static void *flood(void *arg)
{
	for (int i = 0; i < 500; i++)
		sendto(shared, &i, sizeof i, MSG_DONTWAIT, arg, sizeof(struct sockaddr_in));
	return NULL;
}

// Sockets are closed and bound anew while others send to them.
static void test_closed_meanwhile(void)
{
	struct sockaddr_in a;
	int r = at(SOCK_DGRAM, 1, &a);
	pthread_t t[threads];

	shared = socket(AF_INET, SOCK_DGRAM, 0);
	for (int i = 0; i < threads; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, flood, &a), 0);
	for (int i = 0; i < 200; i++) {
		char b[8];
		recv(r, b, sizeof b, MSG_DONTWAIT);
		close(r);
		r = socket(AF_INET, SOCK_DGRAM, 0);
		CHECK_EQ(bind(r, SA(a), sizeof a), 0);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	close(r);
	close(shared);
}

TESTS({"connected receives from its peer", test_connected_receives_from_its_peer}, {"addresses", test_addresses},
      {"shared port", test_shared_port}, {"full", test_full}, {"control messages", test_control}, {"control messages of IPv6", test_control6},
      {"both families", test_both_families}, {"flags", test_flags}, {"edges", test_edges}, {"counters", test_counters},
      {"states", test_states}, {"close first", test_close_first}, {"reset", test_reset}, {"end after bytes", test_end_after_bytes},
      {"connections", test_connections}, {"defer accept", test_defer_accept}, {"shared listeners", test_shared_listeners},
      {"watched", test_watched}, {"many at once", test_many_at_once}, {"closed meanwhile", test_closed_meanwhile})
