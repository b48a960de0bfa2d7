// Groups and their sources, as ip(7), ipv6(7) and RFC 3678 describe them, in both of that RFC's interfaces.
#define CHECK_SECONDS 60
#include "check.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#define SA(x) ((struct sockaddr *)&(x))
#define GROUP "239.1.2.3"
#define GROUP6 "ff01::1234"

// musl has neither.
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

static int set(int fd, int level, int name, int v) { return setsockopt(fd, level, name, &v, sizeof v); }

static int option(int fd, int level, int name)
{
	int v = -1;
	socklen_t n = sizeof v;

	return getsockopt(fd, level, name, &v, &n) ? -errno : v;
}

// receiver returns a socket of UDP that is bound to a port of all addresses, and the port.
static int receiver(int family, int *port)
{
	union {
		struct sockaddr_in a;
		struct sockaddr_in6 a6;
	} u;
	socklen_t n = sizeof u;
	struct timeval tv = {30, 0};
	int s = socket(family, SOCK_DGRAM, 0), on = 1;

	memset(&u, 0, sizeof u);
	u.a.sin_family = family;
	u.a.sin_port = htons(*port);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(s, SA(u), family == AF_INET ? sizeof u.a : sizeof u.a6) || getsockname(s, SA(u), &n))
		return -1;
	*port = ntohs(u.a.sin_port);
	return s;
}

// sender returns a socket that sends from an address of loopback.
static int sender(const char *from)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct ip_mreqn r = {.imr_ifindex = 1};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, from, &a.sin_addr);
	return bind(s, SA(a), sizeof a) || setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &r, sizeof r) ? -1 : s;
}

static int sends(int s, const char *to, int port, const char *what)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	inet_pton(AF_INET, to, &a.sin_addr);
	return sendto(s, what, strlen(what), 0, SA(a), sizeof a) != (ssize_t)strlen(what);
}

// hears has both senders, at 127.0.0.1 and 127.0.0.2, send to the group, and says which of them came.
static int hears(int s, int port, const int from[2])
{
	char b[8];
	int heard = 0;

	if (sends(from[0], GROUP, port, "1") || sends(from[1], GROUP, port, "2") || sends(from[0], "127.0.0.1", port, "e"))
		return -1;
	while (recv(s, b, sizeof b, 0) == 1 && b[0] != 'e')
		heard |= b[0] - '0';
	return b[0] == 'e' ? heard : -2;
}

static struct ip_mreq_source from(const char *source)
{
	struct ip_mreq_source r;

	inet_pton(AF_INET, GROUP, &r.imr_multiaddr);
	inet_pton(AF_INET, "127.0.0.1", &r.imr_interface);
	inet_pton(AF_INET, source, &r.imr_sourceaddr);
	return r;
}

static int source(int s, int name, const char *address)
{
	struct ip_mreq_source r = from(address);

	return setsockopt(s, IPPROTO_IP, name, &r, sizeof r);
}

static int member(int s, int name)
{
	struct ip_mreq r;

	inet_pton(AF_INET, GROUP, &r.imr_multiaddr);
	inet_pton(AF_INET, "127.0.0.1", &r.imr_interface);
	return setsockopt(s, IPPROTO_IP, name, &r, sizeof r);
}

static void fill(struct sockaddr_storage *to, const char *address)
{
	memset(to, 0, sizeof *to);
	if (strchr(address, ':')) {
		to->ss_family = AF_INET6;
		inet_pton(AF_INET6, address, &((struct sockaddr_in6 *)to)->sin6_addr);
	} else {
		to->ss_family = AF_INET;
		inet_pton(AF_INET, address, &((struct sockaddr_in *)to)->sin_addr);
	}
}

// The same with struct group_req and struct group_source_req, which are for both families.
static int group(int s, int name, const char *group, unsigned nic)
{
	struct group_req r = {.gr_interface = nic};

	fill(&r.gr_group, group);
	return setsockopt(s, strchr(group, ':') ? IPPROTO_IPV6 : IPPROTO_IP, name, &r, sizeof r);
}

static int group_source(int s, int name, const char *group, const char *source, unsigned nic)
{
	struct group_source_req r = {.gsr_interface = nic};

	fill(&r.gsr_group, group);
	fill(&r.gsr_source, source);
	return setsockopt(s, strchr(group, ':') ? IPPROTO_IPV6 : IPPROTO_IP, name, &r, sizeof r);
}

static void test_include(void)
{
	int port = 0, s, other, c[2];

	CHECK((s = receiver(AF_INET, &port)) >= 0);
	CHECK((other = receiver(AF_INET, &port)) >= 0);
	CHECK((c[0] = sender("127.0.0.1")) >= 0);
	CHECK((c[1] = sender("127.0.0.2")) >= 0);
	CHECK_EQ(source(s, IP_ADD_SOURCE_MEMBERSHIP, "127.0.0.1"), 0);
	CHECK_ERR(source(s, IP_ADD_SOURCE_MEMBERSHIP, "127.0.0.1"), EADDRNOTAVAIL);
	CHECK_ERR(source(s, IP_BLOCK_SOURCE, "127.0.0.2"), EINVAL);
	CHECK_EQ(sends(c[0], GROUP, port, "1"), 0);
	CHECK_EQ(sends(c[1], GROUP, port, "2"), 0);
	close(other); // which heard all, being bound to the port
	CHECK_EQ(sends(c[0], "127.0.0.1", port, "e"), 0);
	char b[8];
	CHECK_EQ(recv(s, b, sizeof b, 0), 1);
	CHECK_EQ(b[0], '1');
	CHECK_EQ(recv(s, b, sizeof b, 0), 1);
	CHECK_EQ(b[0], 'e');
	CHECK_EQ(source(s, IP_ADD_SOURCE_MEMBERSHIP, "127.0.0.2"), 0);
	CHECK_EQ(hears(s, port, c), 3);
	CHECK_EQ(source(s, IP_DROP_SOURCE_MEMBERSHIP, "127.0.0.1"), 0);
	CHECK_EQ(hears(s, port, c), 2);
	CHECK_ERR(source(s, IP_DROP_SOURCE_MEMBERSHIP, "127.0.0.1"), EADDRNOTAVAIL);
	CHECK_ERR(member(s, IP_ADD_MEMBERSHIP), EADDRINUSE);
	// With the last source goes the membership.
	CHECK_EQ(source(s, IP_DROP_SOURCE_MEMBERSHIP, "127.0.0.2"), 0);
	CHECK_ERR(member(s, IP_DROP_MEMBERSHIP), EADDRNOTAVAIL);
	CHECK_EQ(source(s, IP_ADD_SOURCE_MEMBERSHIP, "127.0.0.2"), 0);
	CHECK_EQ(member(s, IP_DROP_MEMBERSHIP), 0);
	CHECK_EQ(member(s, IP_ADD_MEMBERSHIP), 0);
	CHECK_EQ(hears(s, port, c), 3);
	close(s), close(c[0]), close(c[1]);
}

static void test_exclude(void)
{
	int port = 0, s, c[2];

	CHECK((s = receiver(AF_INET, &port)) >= 0);
	CHECK((c[0] = sender("127.0.0.1")) >= 0);
	CHECK((c[1] = sender("127.0.0.2")) >= 0);
	CHECK_ERR(source(s, IP_BLOCK_SOURCE, "127.0.0.1"), EINVAL); // not a member
	CHECK_EQ(member(s, IP_ADD_MEMBERSHIP), 0);
	CHECK_ERR(source(s, IP_UNBLOCK_SOURCE, "127.0.0.1"), EADDRNOTAVAIL);
	CHECK_EQ(hears(s, port, c), 3);
	CHECK_EQ(source(s, IP_BLOCK_SOURCE, "127.0.0.1"), 0);
	CHECK_ERR(source(s, IP_BLOCK_SOURCE, "127.0.0.1"), EADDRNOTAVAIL);
	CHECK_EQ(hears(s, port, c), 2);
	CHECK_ERR(source(s, IP_ADD_SOURCE_MEMBERSHIP, "127.0.0.1"), EINVAL);
	CHECK_EQ(source(s, IP_BLOCK_SOURCE, "127.0.0.2"), 0);
	CHECK_EQ(hears(s, port, c), 0);
	CHECK_EQ(source(s, IP_UNBLOCK_SOURCE, "127.0.0.1"), 0);
	CHECK_EQ(hears(s, port, c), 1);
	CHECK_EQ(source(s, IP_UNBLOCK_SOURCE, "127.0.0.2"), 0);
	CHECK_EQ(hears(s, port, c), 3);
	CHECK_EQ(member(s, IP_DROP_MEMBERSHIP), 0);
	CHECK_ERR(member(s, IP_DROP_MEMBERSHIP), EADDRNOTAVAIL);
	// A membership without a list turns into one of sources.
	CHECK_EQ(member(s, IP_ADD_MEMBERSHIP), 0);
	CHECK_EQ(source(s, IP_ADD_SOURCE_MEMBERSHIP, "127.0.0.2"), 0);
	CHECK_EQ(hears(s, port, c), 2);
	close(s), close(c[0]), close(c[1]);
}

static void test_by_interface(void)
{
	int port = 0, s, c[2];

	CHECK((s = receiver(AF_INET, &port)) >= 0);
	CHECK((c[0] = sender("127.0.0.1")) >= 0);
	CHECK((c[1] = sender("127.0.0.2")) >= 0);
	CHECK_ERR(group(s, MCAST_JOIN_GROUP, "127.0.0.1", 1), EINVAL);
	CHECK_ERR(group(s, MCAST_JOIN_GROUP, GROUP, 99), ENODEV);
	CHECK_ERR(group(s, MCAST_LEAVE_GROUP, GROUP, 1), EADDRNOTAVAIL);
	CHECK_EQ(group(s, MCAST_JOIN_GROUP, GROUP, 1), 0);
	CHECK_ERR(group(s, MCAST_JOIN_GROUP, GROUP, 1), EADDRINUSE);
	CHECK_ERR(member(s, IP_ADD_MEMBERSHIP), EADDRINUSE);
	CHECK_EQ(group_source(s, MCAST_BLOCK_SOURCE, GROUP, "127.0.0.2", 1), 0);
	CHECK_EQ(hears(s, port, c), 1);
	CHECK_ERR(group_source(s, MCAST_UNBLOCK_SOURCE, GROUP, "127.0.0.1", 1), EADDRNOTAVAIL);
	CHECK_EQ(group_source(s, MCAST_UNBLOCK_SOURCE, GROUP, "127.0.0.2", 1), 0);
	CHECK_EQ(hears(s, port, c), 3);
	CHECK_EQ(group(s, MCAST_LEAVE_GROUP, GROUP, 1), 0);
	CHECK_EQ(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP, "127.0.0.2", 1), 0);
	CHECK_EQ(hears(s, port, c), 2);
	CHECK_ERR(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP, "127.0.0.2", 1), EADDRNOTAVAIL);
	CHECK_EQ(group_source(s, MCAST_LEAVE_SOURCE_GROUP, GROUP, "127.0.0.2", 1), 0);
	CHECK_ERR(group(s, MCAST_LEAVE_GROUP, GROUP, 1), EADDRNOTAVAIL);
	CHECK_ERR(group_source(s, MCAST_LEAVE_SOURCE_GROUP, GROUP, "127.0.0.2", 1), EINVAL);
	CHECK_ERR(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP, "::1", 1), EADDRNOTAVAIL);
	// Too short, and one of the other family.
	struct group_req r = {.gr_interface = 1};
	fill(&r.gr_group, GROUP);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, MCAST_JOIN_GROUP, &r, sizeof r - 1), EINVAL);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &r, sizeof r), EINVAL);
	fill(&r.gr_group, GROUP6);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, MCAST_JOIN_GROUP, &r, sizeof r), EINVAL);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &r, 8), EINVAL);
	CHECK_EQ(option(s, IPPROTO_IP, IP_ADD_MEMBERSHIP), -ENOPROTOOPT);
	close(s), close(c[0]), close(c[1]);
}

// filter is a struct ip_msfilter with room for two more sources than Linux takes.
struct filter {
	struct in_addr group, interface;
	uint32_t mode, count;
	struct in_addr sources[12];
};

static void test_filter(void)
{
	struct filter f = {.mode = MCAST_INCLUDE, .count = 1};
	socklen_t n = sizeof f;
	int port = 0, s, c[2];

	inet_pton(AF_INET, GROUP, &f.group);
	inet_pton(AF_INET, "127.0.0.1", &f.interface);
	inet_pton(AF_INET, "127.0.0.2", &f.sources[0]);
	CHECK((s = receiver(AF_INET, &port)) >= 0);
	CHECK((c[0] = sender("127.0.0.1")) >= 0);
	CHECK((c[1] = sender("127.0.0.2")) >= 0);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, 20), EINVAL); // not a member
	CHECK_ERR(getsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, &n), EADDRNOTAVAIL);
	CHECK_EQ(member(s, IP_ADD_MEMBERSHIP), 0);
	n = sizeof f;
	CHECK_EQ(getsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, &n), 0);
	CHECK_EQ(n, 16);
	CHECK_EQ(f.mode, MCAST_EXCLUDE);
	CHECK_EQ(f.count, 0);
	f.mode = MCAST_INCLUDE, f.count = 1;
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, 16), EINVAL);
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, 20), 0);
	CHECK_EQ(hears(s, port, c), 2);
	f.mode = MCAST_EXCLUDE;
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, 20), 0);
	CHECK_EQ(hears(s, port, c), 1);
	memset(f.sources, 0, sizeof f.sources);
	f.count = 12;
	n = sizeof f;
	CHECK_EQ(getsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, &n), 0);
	CHECK_EQ(n, 20);
	CHECK_EQ(f.count, 1);
	CHECK_EQ(f.mode, MCAST_EXCLUDE);
	CHECK_EQ(ntohl(f.sources[0].s_addr), 0x7f000002);
	f.count = 0; // how many there are is told all the same
	n = sizeof f;
	CHECK_EQ(getsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, &n), 0);
	CHECK_EQ(n, 16);
	CHECK_EQ(f.count, 1);
	n = 15;
	CHECK_ERR(getsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, &n), EINVAL);
	f.count = 11;
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, sizeof f), ENOBUFS);
	f.count = 1, f.mode = 7;
	CHECK_ERR(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, 20), EINVAL);
	f.count = 0, f.mode = MCAST_EXCLUDE;
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, 16), 0);
	CHECK_EQ(hears(s, port, c), 3);
	for (int i = 0; i < 10; i++) {
		char a[16];
		snprintf(a, sizeof a, "127.0.1.%d", i);
		CHECK_EQ(source(s, IP_BLOCK_SOURCE, a), 0);
	}
	CHECK_ERR(source(s, IP_BLOCK_SOURCE, "127.0.0.1"), ENOBUFS);
	// No source at all is no membership.
	f.count = 0, f.mode = MCAST_INCLUDE;
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_MSFILTER, &f, 16), 0);
	CHECK_ERR(member(s, IP_DROP_MEMBERSHIP), EADDRNOTAVAIL);
	close(s), close(c[0]), close(c[1]);
}

// wide is a struct group_filter with room for as many sources as IPv6 takes, and one more.
struct wide {
	uint32_t interface;
	struct sockaddr_storage group;
	uint32_t mode, count;
	struct sockaddr_storage sources[65];
};
#define WIDE(n) (144 + 128 * (n))

static void test_group_filter(void)
{
	static struct wide f;
	socklen_t n = sizeof f;
	int port = 0, s, c[2];

	f.interface = 1, f.mode = MCAST_EXCLUDE, f.count = 1;
	fill(&f.group, GROUP);
	fill(&f.sources[0], "127.0.0.1");
	CHECK((s = receiver(AF_INET, &port)) >= 0);
	CHECK((c[0] = sender("127.0.0.1")) >= 0);
	CHECK((c[1] = sender("127.0.0.2")) >= 0);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, WIDE(1)), EINVAL);
	CHECK_ERR(getsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, &n), EADDRNOTAVAIL);
	CHECK_EQ(group(s, MCAST_JOIN_GROUP, GROUP, 1), 0);
	CHECK_EQ(setsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, WIDE(1)), 0);
	CHECK_EQ(hears(s, port, c), 2);
	CHECK_ERR(setsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, WIDE(1) - 1), EINVAL);
	for (int i = 0; i < 10; i++) {
		char a[16];
		snprintf(a, sizeof a, "127.0.0.%d", i + 2);
		fill(&f.sources[i], a);
	}
	f.count = 10;
	CHECK_EQ(setsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, WIDE(10)), 0);
	CHECK_EQ(hears(s, port, c), 1);
	memset(f.sources, 0, sizeof f.sources);
	f.count = 10, f.mode = 9, n = sizeof f;
	CHECK_EQ(getsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, &n), 0);
	CHECK_EQ(n, WIDE(10));
	CHECK_EQ(f.mode, MCAST_EXCLUDE);
	CHECK_EQ(f.count, 10);
	CHECK_EQ(f.sources[9].ss_family, AF_INET);
	CHECK_EQ(ntohl(((struct sockaddr_in *)&f.sources[9])->sin_addr.s_addr), 0x7f00000b);
	f.count = 11;
	CHECK_ERR(setsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, WIDE(11)), ENOBUFS);
	f.count = 1;
	fill(&f.sources[0], "::1");
	CHECK_ERR(setsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, WIDE(1)), EADDRNOTAVAIL);
	f.count = 0, f.mode = MCAST_INCLUDE;
	CHECK_EQ(setsockopt(s, IPPROTO_IP, MCAST_MSFILTER, &f, WIDE(0)), 0);
	CHECK_ERR(group(s, MCAST_LEAVE_GROUP, GROUP, 1), EADDRNOTAVAIL);
	close(s), close(c[0]), close(c[1]);
}

// IP_MULTICAST_ALL: whether a socket that is bound to the port hears what others are members of.
static void test_all(void)
{
	int port = 0, s, other, c[2];

	CHECK((s = receiver(AF_INET, &port)) >= 0);
	CHECK((other = receiver(AF_INET, &port)) >= 0);
	CHECK((c[0] = sender("127.0.0.1")) >= 0);
	CHECK((c[1] = sender("127.0.0.2")) >= 0);
	CHECK_EQ(option(s, IPPROTO_IP, IP_MULTICAST_ALL), 1);
	CHECK_EQ(member(other, IP_ADD_MEMBERSHIP), 0);
	CHECK_EQ(set(s, IPPROTO_IP, IP_MULTICAST_ALL, 0), 0);
	CHECK_EQ(option(s, IPPROTO_IP, IP_MULTICAST_ALL), 0);
	CHECK_ERR(set(s, IPPROTO_IP, IP_MULTICAST_ALL, 2), EINVAL);
	CHECK_EQ(sends(c[0], GROUP, port, "1"), 0);
	CHECK_EQ(set(s, IPPROTO_IP, IP_MULTICAST_ALL, 1), 0);
	CHECK_EQ(sends(c[0], GROUP, port, "2"), 0);
	char b[8];
	CHECK_EQ(recv(s, b, sizeof b, 0), 1);
	CHECK_EQ(b[0], '2');
	CHECK_EQ(recv(other, b, sizeof b, 0), 1);
	CHECK_EQ(b[0], '1');
	// Members hear their own groups.
	CHECK_EQ(set(other, IPPROTO_IP, IP_MULTICAST_ALL, 0), 0);
	CHECK_EQ(sends(c[0], GROUP, port, "3"), 0);
	CHECK_EQ(recv(other, b, sizeof b, 0), 1);
	CHECK_EQ(b[0], '2');
	CHECK_EQ(recv(other, b, sizeof b, 0), 1);
	CHECK_EQ(b[0], '3');
	close(s), close(other), close(c[0]), close(c[1]);
}

// A socket is a member of 20 groups at most (net.ipv4.igmp_max_memberships).
static void test_many(void)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0), made = 0;
	char a[32];

	for (; made < 2000; made++) {
		snprintf(a, sizeof a, "239.7.%d.%d", made / 250, made % 250);
		if (group(s, MCAST_JOIN_GROUP, a, 1))
			break;
	}
	CHECK_EQ(errno, ENOBUFS);
	CHECK(made >= 20 && made < 2000);
	CHECK_EQ(group(s, MCAST_LEAVE_GROUP, "239.7.0.3", 1), 0);
	CHECK_EQ(group(s, MCAST_JOIN_GROUP, a, 1), 0);
	close(s);
}

// hears6 is hears for IPv6, with one sender, of whom want says whether he is heard: Linux sends nothing to groups by a
// loopback interface that has no route for that, and then nothing is known.
static int hears6(int s, int port, int from, int want)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = 1};
	char b[8];
	int heard = 0;

	inet_pton(AF_INET6, GROUP6, &a.sin6_addr);
	if (sendto(from, "1", 1, 0, SA(a), sizeof a) != 1) {
		struct utsname u;
		return errno == ENETUNREACH && !uname(&u) && !strstr(u.release, "elver");
	}
	a.sin6_addr = in6addr_loopback;
	if (sendto(from, "e", 1, 0, SA(a), sizeof a) != 1)
		return -3;
	while (recv(s, b, sizeof b, 0) == 1 && b[0] != 'e')
		heard |= b[0] - '0';
	return b[0] == 'e' && heard == want;
}

static void test_ipv6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	static struct wide f;
	socklen_t n = sizeof f;
	int port = 0, s, other, c;

	CHECK((s = receiver(AF_INET6, &port)) >= 0);
	CHECK((c = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0);
	CHECK_EQ(bind(c, SA(a), sizeof a), 0);
	CHECK_EQ(set(c, IPPROTO_IPV6, IPV6_MULTICAST_IF, 1), 0);
	CHECK_ERR(group(s, MCAST_JOIN_GROUP, "fe80::1", 1), EINVAL);
	CHECK_ERR(group(s, MCAST_JOIN_GROUP, GROUP6, 99), ENODEV);
	CHECK_ERR(group(s, MCAST_LEAVE_GROUP, GROUP6, 1), EADDRNOTAVAIL);
	CHECK_EQ(group(s, MCAST_JOIN_GROUP, GROUP6, 1), 0);
	CHECK_ERR(group(s, MCAST_JOIN_GROUP, GROUP6, 1), EADDRINUSE);
	CHECK(hears6(s, port, c, 1));
	CHECK_EQ(group_source(s, MCAST_BLOCK_SOURCE, GROUP6, "::1", 1), 0);
	CHECK_ERR(group_source(s, MCAST_BLOCK_SOURCE, GROUP6, "::1", 1), EADDRNOTAVAIL);
	CHECK_ERR(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP6, "::1", 1), EINVAL);
	CHECK_ERR(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP6, "127.0.0.1", 1), EADDRNOTAVAIL);
	CHECK(hears6(s, port, c, 0));
	CHECK_EQ(group_source(s, MCAST_UNBLOCK_SOURCE, GROUP6, "::1", 1), 0);
	CHECK(hears6(s, port, c, 1));
	CHECK_EQ(group(s, MCAST_LEAVE_GROUP, GROUP6, 0), 0);
	CHECK_EQ(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP6, "fd00::77", 1), 0);
	CHECK(hears6(s, port, c, 0));
	CHECK_EQ(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP6, "::1", 1), 0);
	CHECK(hears6(s, port, c, 1));
	f.interface = 1, f.count = 65, f.mode = 7;
	fill(&f.group, GROUP6);
	CHECK_EQ(getsockopt(s, IPPROTO_IPV6, MCAST_MSFILTER, &f, &n), 0);
	CHECK_EQ(n, WIDE(2));
	CHECK_EQ(f.mode, MCAST_INCLUDE);
	CHECK_EQ(f.count, 2);
	CHECK_EQ(((struct sockaddr_in6 *)&f.sources[0])->sin6_family, AF_INET6);
	for (int i = 0; i < 65; i++) {
		char t[32];
		snprintf(t, sizeof t, "fd00::%x", i + 1);
		fill(&f.sources[i], t);
	}
	f.count = 65;
	CHECK_ERR(setsockopt(s, IPPROTO_IPV6, MCAST_MSFILTER, &f, WIDE(65)), ENOBUFS);
	f.count = 64;
	CHECK_EQ(setsockopt(s, IPPROTO_IPV6, MCAST_MSFILTER, &f, WIDE(64)), 0);
	CHECK(hears6(s, port, c, 0));
	CHECK_ERR(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP6, "::1", 1), ENOBUFS);
	f.count = 64, n = sizeof f;
	CHECK_EQ(getsockopt(s, IPPROTO_IPV6, MCAST_MSFILTER, &f, &n), 0);
	CHECK_EQ(n, WIDE(64));
	f.mode = MCAST_EXCLUDE;
	CHECK_EQ(setsockopt(s, IPPROTO_IPV6, MCAST_MSFILTER, &f, WIDE(64)), 0);
	CHECK(hears6(s, port, c, 1));
	// The last of the sources, and with it the membership.
	CHECK_EQ(group(s, MCAST_LEAVE_GROUP, GROUP6, 1), 0);
	CHECK_EQ(group_source(s, MCAST_JOIN_SOURCE_GROUP, GROUP6, "::1", 1), 0);
	CHECK_EQ(group_source(s, MCAST_LEAVE_SOURCE_GROUP, GROUP6, "::1", 1), 0);
	CHECK_ERR(group(s, MCAST_LEAVE_GROUP, GROUP6, 1), EADDRNOTAVAIL);
	close(s);
	// IPV6_MULTICAST_ALL
	CHECK((other = receiver(AF_INET6, &port)) >= 0);
	CHECK((s = receiver(AF_INET6, &port)) >= 0); // to whom goes what is for one
	CHECK_EQ(group(other, MCAST_JOIN_GROUP, GROUP6, 1), 0);
	CHECK_EQ(option(s, IPPROTO_IPV6, IPV6_MULTICAST_ALL), 1);
	CHECK(hears6(s, port, c, 1));
	CHECK_EQ(set(s, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0), 0);
	CHECK_EQ(option(s, IPPROTO_IPV6, IPV6_MULTICAST_ALL), 0);
	CHECK(hears6(s, port, c, 0));
	close(s), close(other), close(c);
}

// A socket of IPv6 may be a member of groups of IPv4.
static void test_both(void)
{
	int port = 0, s, c[2];

	CHECK((s = receiver(AF_INET6, &port)) >= 0);
	CHECK((c[0] = sender("127.0.0.1")) >= 0);
	CHECK((c[1] = sender("127.0.0.2")) >= 0);
	CHECK_EQ(source(s, IP_ADD_SOURCE_MEMBERSHIP, "127.0.0.2"), 0);
	CHECK_EQ(hears(s, port, c), 2);
	close(s), close(c[0]), close(c[1]);
	CHECK((s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	CHECK_ERR(group(s, MCAST_JOIN_GROUP, GROUP6, 1), ENOPROTOOPT);
	close(s);
}

static void test_streams(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0), s6 = socket(AF_INET6, SOCK_STREAM, 0);
	struct ipv6_mreq r6 = {.ipv6mr_interface = 1};

	CHECK_ERR(member(s, IP_ADD_MEMBERSHIP), EPROTO);
	CHECK_ERR(member(s, IP_DROP_MEMBERSHIP), EPROTO);
	inet_pton(AF_INET6, GROUP6, &r6.ipv6mr_multiaddr);
	CHECK_ERR(setsockopt(s6, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &r6, sizeof r6), EPROTO);
	CHECK_ERR(setsockopt(s6, IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &r6, sizeof r6), EPROTO);
	close(s), close(s6);
}

TESTS({"include", test_include}, {"exclude", test_exclude}, {"by-interface", test_by_interface},
      {"filter", test_filter}, {"group-filter", test_group_filter}, {"all", test_all}, {"many", test_many},
      {"ipv6", test_ipv6}, {"both", test_both}, {"streams", test_streams})
