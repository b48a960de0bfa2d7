// AF_NETLINK and /proc/net: rtnetlink(7), sock_diag(7), netdevice(7), proc_pid_net(5). On Linux it works in a
// network namespace of its own.
#define CHECK_SECONDS 60
#include "check.h"
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SA(x) ((struct sockaddr *)&(x))

static int privileged;

static int netlink(int protocol, int groups)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	struct timeval tv = {30, 0};

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	return bind(s, SA(a), sizeof a) ? -1 : s;
}

static struct {
	struct nlmsghdr h;
	char room[512];
} ask;

static void attribute(int type, const void *data, int n)
{
	struct rtattr *r = (struct rtattr *)((char *)&ask + NLMSG_ALIGN(ask.h.nlmsg_len));

	r->rta_type = type, r->rta_len = RTA_LENGTH(n);
	memcpy(RTA_DATA(r), data, n);
	ask.h.nlmsg_len = NLMSG_ALIGN(ask.h.nlmsg_len) + RTA_ALIGN(r->rta_len);
}

static void *begin(int type, int flags, int body)
{
	memset(&ask, 0, sizeof ask);
	ask.h = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(body), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = 7};
	return NLMSG_DATA(&ask.h);
}

static char answer[32768];

// asked sends the request and returns the errno of the answer, -1 if it is something else.
static int asked(int s)
{
	struct nlmsghdr *h = (struct nlmsghdr *)answer;

	if (send(s, &ask, ask.h.nlmsg_len, 0) != ask.h.nlmsg_len || recv(s, answer, sizeof answer, 0) < (ssize_t)sizeof *h)
		return -errno;
	return h->nlmsg_type == NLMSG_ERROR && h->nlmsg_seq == 7 ? -((struct nlmsgerr *)NLMSG_DATA(h))->error : -1;
}

static int address(int s, int type, int flags, const char *text, int prefix)
{
	struct ifaddrmsg *m = begin(type, NLM_F_ACK | flags, sizeof *m);
	struct in_addr a;

	inet_aton(text, &a);
	m->ifa_family = AF_INET, m->ifa_prefixlen = prefix, m->ifa_index = 1;
	attribute(IFA_LOCAL, &a, 4);
	return asked(s);
}

static void test_dump(void)
{
	int s = netlink(NETLINK_ROUTE, 0), lo = 0, done = 0;

	CHECK(s >= 0);
	struct rtgenmsg *g = begin(RTM_GETLINK, NLM_F_DUMP, sizeof *g);
	g->rtgen_family = AF_UNSPEC;
	CHECK_EQ(send(s, &ask, ask.h.nlmsg_len, 0), ask.h.nlmsg_len);
	while (!done) {
		ssize_t n = recv(s, answer, sizeof answer, 0);
		CHECK(n > 0);
		for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE) {
				done = 1;
				break;
			}
			CHECK_EQ(h->nlmsg_type, RTM_NEWLINK);
			struct ifinfomsg *i = NLMSG_DATA(h);
			int k = IFLA_PAYLOAD(h);
			for (struct rtattr *r = IFLA_RTA(i); RTA_OK(r, k); r = RTA_NEXT(r, k))
				if (r->rta_type == IFLA_IFNAME && strcmp(RTA_DATA(r), "lo") == 0) {
					lo = 1;
					CHECK_EQ(i->ifi_index, 1);
					CHECK_EQ(i->ifi_type, 772);
					CHECK(i->ifi_flags & IFF_LOOPBACK);
				}
		}
	}
	CHECK(lo);
	// A request that nobody knows.
	begin(RTM_GETLINK, NLM_F_ACK, 1);
	ask.h.nlmsg_type = 4000;
	CHECK_EQ(asked(s), EOPNOTSUPP);
	CHECK_ERR(recv(s, answer, 8, MSG_DONTWAIT), EAGAIN);
	CHECK_ERR(socket(AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
	CHECK_ERR(socket(AF_NETLINK, SOCK_RAW, 77), EPROTONOSUPPORT);
	close(s);
}

static void test_changes(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("10.9.9.9")};
	int s, watch, t;

	if (!privileged)
		return;
	CHECK((s = netlink(NETLINK_ROUTE, 0)) >= 0);
	CHECK((watch = netlink(NETLINK_ROUTE, RTMGRP_IPV4_IFADDR)) >= 0);
	CHECK((t = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_ERR(bind(t, SA(a), sizeof a), EADDRNOTAVAIL);
	CHECK_EQ(address(s, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "10.9.9.9", 24), 0);
	CHECK_EQ(address(s, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "10.9.9.9", 24), EEXIST);
	CHECK_EQ(bind(t, SA(a), sizeof a), 0);
	ssize_t n = recv(watch, answer, sizeof answer, 0);
	CHECK(n > 0);
	struct nlmsghdr *h = (void *)answer;
	CHECK_EQ(h->nlmsg_type, RTM_NEWADDR);
	CHECK_EQ(((struct ifaddrmsg *)NLMSG_DATA(h))->ifa_index, 1);
	CHECK_EQ(((struct ifaddrmsg *)NLMSG_DATA(h))->ifa_prefixlen, 24);
	CHECK_EQ(address(s, RTM_DELADDR, 0, "10.9.9.9", 24), 0);
	CHECK_EQ(address(s, RTM_DELADDR, 0, "10.9.9.9", 24), EADDRNOTAVAIL);
	CHECK(recv(watch, answer, sizeof answer, 0) > 0);
	CHECK_EQ(h->nlmsg_type, RTM_DELADDR);
	CHECK_ERR(recv(watch, answer, sizeof answer, MSG_DONTWAIT), EAGAIN);
	close(t), close(watch), close(s);
}

static void test_sockets(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int s, l, found = 0, done = 0;
	struct stat st;
	char want[64], line[512];

	CHECK((l = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(bind(l, SA(a), sizeof a), 0);
	CHECK_EQ(listen(l, 9), 0);
	CHECK_EQ(getsockname(l, SA(a), &n), 0);
	CHECK_EQ(fstat(l, &st), 0);
	FILE *f = fopen("/proc/net/tcp", "r");
	CHECK(f != NULL);
	snprintf(want, sizeof want, " 0100007F:%04X 00000000:0000 0A 00000000:00000000", ntohs(a.sin_port));
	while (fgets(line, sizeof line, f))
		if (strstr(line, want)) {
			found++;
			CHECK_EQ(strlen(line), 150);
			snprintf(want, sizeof want, " %lu ", (unsigned long)st.st_ino);
			CHECK(strstr(line, want) != NULL);
		}
	fclose(f);
	CHECK_EQ(found, 1);
	CHECK((s = netlink(NETLINK_SOCK_DIAG, 0)) >= 0);
	struct inet_diag_req_v2 *r = begin(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sizeof *r);
	r->sdiag_family = AF_INET, r->sdiag_protocol = IPPROTO_TCP, r->idiag_states = 1 << TCP_LISTEN;
	CHECK_EQ(send(s, &ask, ask.h.nlmsg_len, 0), ask.h.nlmsg_len);
	found = 0;
	while (!done) {
		ssize_t k = recv(s, answer, sizeof answer, 0);
		CHECK(k > 0);
		for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, k); h = NLMSG_NEXT(h, k)) {
			if (h->nlmsg_type == NLMSG_DONE) {
				done = 1;
				break;
			}
			CHECK_EQ(h->nlmsg_type, SOCK_DIAG_BY_FAMILY);
			struct inet_diag_msg *m = NLMSG_DATA(h);
			CHECK_EQ(m->idiag_state, TCP_LISTEN);
			if (m->id.idiag_sport == a.sin_port) {
				found++;
				CHECK_EQ(m->idiag_inode, st.st_ino);
				CHECK_EQ(m->idiag_wqueue, 9);
				CHECK_EQ(m->id.idiag_src[0], a.sin_addr.s_addr);
			}
		}
	}
	CHECK_EQ(found, 1);
	close(s), close(l);
}

// has says whether a file has a line with that text.
static int has(const char *path, const char *text)
{
	char line[512];
	FILE *f = fopen(path, "r");
	int found = 0;

	while (f && fgets(line, sizeof line, f))
		found |= strstr(line, text) != NULL;
	if (f)
		fclose(f);
	return found;
}

static void test_files(void)
{
	static const char *const there[] = {
		"tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "unix", "dev", "route", "if_inet6", "ipv6_route", "arp", "snmp",
		"sockstat", "sockstat6", "packet", "netlink",
	};
	char path[64];
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0an abstract name"};
	int s;

	for (size_t i = 0; i < sizeof there / sizeof *there; i++) {
		snprintf(path, sizeof path, "/proc/net/%s", there[i]);
		CHECK_EQ(access(path, R_OK), 0);
		snprintf(path, sizeof path, "/proc/self/net/%s", there[i]);
		CHECK_EQ(access(path, R_OK), 0);
	}
	CHECK(has("/proc/net/dev", "    lo:"));
	CHECK(has("/proc/net/snmp", "Tcp: RtoAlgorithm"));
	CHECK(has("/proc/net/sockstat", "sockets: used "));
	CHECK((s = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	CHECK_EQ(bind(s, SA(a), sizeof(sa_family_t) + 17), 0);
	CHECK(has("/proc/net/unix", " @an abstract name"));
	CHECK_EQ(listen(s, 1), 0);
	CHECK(has("/proc/net/unix", "00010000 0001 01"));
	close(s);
	CHECK(!has("/proc/net/unix", " @an abstract name"));
	CHECK(has("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"));
	CHECK_EQ(access("/proc/sys/net/core/somaxconn", R_OK), 0);
	CHECK_EQ(access("/proc/sys/net/ipv4/tcp_rmem", R_OK), 0);
}

static void test_requests(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	struct ifconf c;
	struct ifreq all[8];
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(s >= 0);
	CHECK_EQ(ioctl(s, SIOCGIFMTU, &r), 0);
	CHECK_EQ(r.ifr_mtu, 65536);
	CHECK_EQ(ioctl(s, SIOCGIFHWADDR, &r), 0);
	CHECK_EQ(r.ifr_hwaddr.sa_family, 772);
	c.ifc_len = 0, c.ifc_req = NULL;
	CHECK_EQ(ioctl(s, SIOCGIFCONF, &c), 0);
	CHECK(c.ifc_len >= (int)sizeof r);
	c.ifc_len = sizeof all, c.ifc_req = all;
	CHECK_EQ(ioctl(s, SIOCGIFCONF, &c), 0);
	CHECK(strcmp(all[0].ifr_name, "lo") == 0);
	strcpy(r.ifr_name, "none0");
	CHECK_ERR(ioctl(s, SIOCGIFMTU, &r), ENODEV);
	if (privileged) {
		struct rtentry e = {.rt_flags = RTF_UP, .rt_dev = "lo"};
		struct sockaddr_in *to = (void *)&e.rt_dst, *mask = (void *)&e.rt_genmask;
		to->sin_family = mask->sin_family = AF_INET;
		to->sin_addr.s_addr = inet_addr("10.77.0.0"), mask->sin_addr.s_addr = inet_addr("255.255.0.0");
		CHECK_EQ(ioctl(s, SIOCADDRT, &e), 0);
		CHECK_ERR(ioctl(s, SIOCADDRT, &e), EEXIST);
		CHECK_EQ(ioctl(s, SIOCDELRT, &e), 0);
		CHECK_ERR(ioctl(s, SIOCDELRT, &e), ESRCH);
		strcpy(r.ifr_name, "lo");
		CHECK_EQ(ioctl(s, SIOCGIFFLAGS, &r), 0);
		r.ifr_flags &= ~IFF_UP;
		CHECK_EQ(ioctl(s, SIOCSIFFLAGS, &r), 0);
		CHECK_EQ(ioctl(s, SIOCGIFFLAGS, &r), 0);
		CHECK_EQ(r.ifr_flags & IFF_UP, 0);
		r.ifr_flags |= IFF_UP;
		CHECK_EQ(ioctl(s, SIOCSIFFLAGS, &r), 0);
	}
	close(s);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"dump", test_dump}, {"changes", test_changes}, {"sockets", test_sockets}, {"files", test_files},
		{"requests", test_requests},
	};

	struct ifreq r = {.ifr_name = "lo"};
	// Elver has no namespaces and is the program's alone.
	if (access("/proc/elver", F_OK) == 0) {
		privileged = 1;
	} else if (unshare(CLONE_NEWNET) == 0) {
		int s = socket(AF_INET, SOCK_DGRAM, 0);
		ioctl(s, SIOCGIFFLAGS, &r);
		r.ifr_flags |= IFF_UP;
		privileged = ioctl(s, SIOCSIFFLAGS, &r) == 0;
		close(s);
	}
	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
