// What /sys/class/net and /proc/net say of interfaces, routes and counters: sysfs-class-net and proc_pid_net(5). On
// Linux it works in a network namespace of its own.
#define CHECK_SECONDS 60
#include "check.h"
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

#define SA(x) ((struct sockaddr *)&(x))

static int privileged;

// content reads a file as a line without its end: NULL and errno if it can't.
static char *content(const char *path)
{
	static char line[65536];
	int fd = open(path, O_RDONLY), n = 0, r, e;

	if (fd < 0)
		return NULL;
	while ((r = read(fd, line + n, sizeof line - 1 - n)) > 0)
		n += r;
	e = errno;
	close(fd);
	if (r < 0) {
		errno = e;
		return NULL;
	}
	line[n] = 0;
	if (n > 0 && line[n - 1] == '\n')
		line[n - 1] = 0;
	return line;
}

static int says(const char *path, const char *want)
{
	char *got = content(path);

	return got && !strcmp(got, want);
}

static int has(const char *path, const char *what)
{
	char *got = content(path);

	return got && strstr(got, what);
}

// test_class: the folder of lo, which the class links to.
static void test_class(void)
{
	char link[256];
	int n = readlink("/sys/class/net/lo", link, sizeof link - 1);
	struct stat a, b;

	CHECK(n > 0);
	link[n] = 0;
	CHECK(!strcmp(link, "../../devices/virtual/net/lo"));
	CHECK(says("/sys/class/net/lo/ifindex", "1"));
	CHECK(says("/sys/class/net/lo/iflink", "1"));
	CHECK(says("/sys/class/net/lo/address", "00:00:00:00:00:00"));
	CHECK(says("/sys/class/net/lo/broadcast", "00:00:00:00:00:00"));
	CHECK(says("/sys/class/net/lo/addr_len", "6"));
	CHECK(says("/sys/class/net/lo/type", "772"));
	CHECK(says("/sys/class/net/lo/mtu", "65536"));
	CHECK(says("/sys/class/net/lo/flags", "0x9"));
	CHECK(says("/sys/class/net/lo/operstate", "unknown"));
	CHECK(says("/sys/class/net/lo/carrier", "1"));
	CHECK(says("/sys/class/net/lo/dormant", "0"));
	CHECK(says("/sys/class/net/lo/link_mode", "0"));
	CHECK(says("/sys/class/net/lo/netdev_group", "0"));
	CHECK(says("/sys/class/net/lo/dev_id", "0x0"));
	CHECK(says("/sys/class/net/lo/tx_queue_len", "1000"));
	CHECK(says("/sys/class/net/lo/uevent", "INTERFACE=lo\nIFINDEX=1"));
	CHECK(says("/sys/class/net/lo/statistics/rx_errors", "0"));
	CHECK(content("/sys/class/net/lo/statistics/rx_bytes") && content("/sys/class/net/lo/statistics/tx_packets"));
	CHECK(!content("/sys/class/net/lo/speed") && errno == EINVAL);
	CHECK(!content("/sys/class/net/lo/duplex") && errno == EINVAL);
	CHECK(!content("/sys/class/net/nosuch/mtu") && errno == ENOENT);
	CHECK(!stat("/sys/class/net/lo/subsystem/lo/mtu", &a) && !stat("/sys/class/net/lo/mtu", &b) && a.st_ino == b.st_ino);
	CHECK(!stat("/sys/class/net/lo/queues/rx-0", &a) && S_ISDIR(a.st_mode));
}

static int put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY), r, e;

	if (fd < 0)
		return -1;
	r = write(fd, value, strlen(value)), e = errno;
	close(fd);
	errno = e;
	return r < 0 ? -1 : 0;
}

// test_change: what is written to files counts, and what others change is seen there.
static void test_change(void)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = {.ifr_name = "lo"};

	if (!privileged)
		return;
	CHECK(!put("/sys/class/net/lo/mtu", "40000\n"));
	CHECK(!ioctl(s, SIOCGIFMTU, &r));
	CHECK_EQ(r.ifr_mtu, 40000);
	CHECK_ERR(put("/sys/class/net/lo/mtu", "much\n"), EINVAL);
	CHECK_ERR(put("/sys/class/net/lo/ifindex", "7\n"), EACCES);
	r.ifr_mtu = 65536;
	CHECK(!ioctl(s, SIOCSIFMTU, &r));
	CHECK(says("/sys/class/net/lo/mtu", "65536"));
	CHECK(!put("/sys/class/net/lo/flags", "0x8\n"));
	CHECK(!ioctl(s, SIOCGIFFLAGS, &r));
	CHECK(!(r.ifr_flags & IFF_UP));
	CHECK(says("/sys/class/net/lo/flags", "0x8"));
	CHECK(says("/sys/class/net/lo/operstate", "down"));
	CHECK(!content("/sys/class/net/lo/carrier") && errno == EINVAL);
	CHECK(!put("/sys/class/net/lo/flags", "0x9\n"));
	CHECK(says("/sys/class/net/lo/carrier", "1"));
	close(s);
}

// counter reads a number of a file whose lines come in pairs, names and values; -1 if it isn't there.
static long long counter(const char *path, const char *group, const char *name)
{
	char *text = content(path), names[16384], values[16384], *n, *v, *ns, *vs;
	size_t g = strlen(group);

	for (; text; text = strchr(text, '\n'), text = text ? text + 1 : NULL) {
		char *next = strchr(text, '\n');

		if (!next || strncmp(text, group, g) || text[g] != ':')
			continue;
		snprintf(names, sizeof names, "%.*s", (int)(next - text), text);
		snprintf(values, sizeof values, "%.*s", (int)strcspn(next + 1, "\n"), next + 1);
		n = strtok_r(names, " ", &ns), v = strtok_r(values, " ", &vs);
		for (; n && v; n = strtok_r(NULL, " ", &ns), v = strtok_r(NULL, " ", &vs))
			if (!strcmp(n, name))
				return atoll(v);
		return -1;
	}
	return -1;
}

// test_counters: a connection and a datagram within the machine count as those that leave it.
static void test_counters(void)
{
	static const struct {
		const char *path, *group, *name;
	} rising[] = {
		{"/proc/net/snmp", "Ip", "InReceives"}, {"/proc/net/snmp", "Ip", "InDelivers"}, {"/proc/net/snmp", "Ip", "OutRequests"},
		{"/proc/net/snmp", "Tcp", "ActiveOpens"}, {"/proc/net/snmp", "Tcp", "PassiveOpens"}, {"/proc/net/snmp", "Tcp", "InSegs"},
		{"/proc/net/snmp", "Tcp", "OutSegs"}, {"/proc/net/snmp", "Udp", "InDatagrams"}, {"/proc/net/snmp", "Udp", "OutDatagrams"},
		{"/proc/net/snmp", "Udp", "NoPorts"}, {"/proc/net/snmp", "Icmp", "OutDestUnreachs"}, {"/proc/net/snmp", "Icmp", "InMsgs"},
		{"/proc/net/netstat", "IpExt", "InOctets"}, {"/proc/net/netstat", "IpExt", "OutOctets"},
	};
	static const char *const still[] = {"SyncookiesSent", "TW", "DelayedACKs", "ListenOverflows", "ListenDrops", "TCPTimeouts", "TCPLossProbes",
		"TCPSynRetrans", "TCPOrigDataSent", "TCPKeepAlive", "TCPAbortOnTimeout", "TCPReqQFullDrop", "TCPDelivered"};
	long long before[sizeof rising / sizeof *rising];
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int l, c, s, u, v;
	char b[4];

	for (unsigned i = 0; i < sizeof rising / sizeof *rising; i++)
		CHECK((before[i] = counter(rising[i].path, rising[i].group, rising[i].name)) >= 0);
	for (unsigned i = 0; i < sizeof still / sizeof *still; i++)
		CHECK(counter("/proc/net/netstat", "TcpExt", still[i]) >= 0);
	l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!bind(l, SA(a), n) && !listen(l, 1) && !getsockname(l, SA(a), &n));
	c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!connect(c, SA(a), n));
	CHECK((s = accept(l, NULL, NULL)) >= 0);
	CHECK_EQ(write(c, "abc", 3), 3);
	CHECK_EQ(read(s, b, sizeof b), 3);
	CHECK(counter("/proc/net/snmp", "Tcp", "CurrEstab") >= 2);
	close(c), close(s), close(l);
	u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
	a.sin_port = 0;
	CHECK(!bind(u, SA(a), n) && !getsockname(u, SA(a), &n));
	CHECK_EQ(sendto(v, "abc", 3, 0, SA(a), n), 3);
	CHECK_EQ(read(u, b, sizeof b), 3);
	close(u);
	CHECK(!connect(v, SA(a), n));
	CHECK_EQ(write(v, "abc", 3), 3);
	CHECK_ERR(read(v, b, sizeof b), ECONNREFUSED);
	close(v);
	for (unsigned i = 0; i < sizeof rising / sizeof *rising; i++)
		if (counter(rising[i].path, rising[i].group, rising[i].name) <= before[i]) {
			printf("FAIL %s: %s %s doesn't count\n", check_name, rising[i].group, rising[i].name);
			check_failed = 1;
		}
	CHECK(has("/proc/net/snmp6", "Ip6InReceives                   \t"));
	CHECK(has("/proc/net/dev_snmp6/lo", "ifIndex                         \t1\n"));
}

// test_tables: addresses, routes, groups and protocols as programs read them.
static void test_tables(void)
{
	CHECK(has("/proc/net/fib_trie", "Main:\n  +-- "));
	CHECK(has("/proc/net/fib_trie", "\nLocal:\n"));
	CHECK(has("/proc/net/fib_trie", "|-- 127.0.0.1\n"));
	CHECK(has("/proc/net/fib_trie", "/32 host LOCAL\n"));
	CHECK(has("/proc/net/fib_trie", "|-- 127.255.255.255\n"));
	CHECK(has("/proc/net/fib_trie", "/32 link BROADCAST\n"));
	CHECK(has("/proc/net/fib_triestat", "Basic info: size of leaf:"));
	CHECK(has("/proc/net/if_inet6", "00000000000000000000000000000001 01 80 10 80       lo"));
	CHECK(has("/proc/net/ipv6_route", "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 "));
	CHECK(has("/proc/net/igmp", "010000E0     1 0:00000000\t\t0"));
	CHECK(has("/proc/net/igmp6", "1    lo              ff020000000000000000000000000001     1 0000000C 0"));
	CHECK(has("/proc/net/protocols", "\nTCP "));
	CHECK(has("/proc/net/protocols", "\nUDPv6 "));
	CHECK(has("/proc/net/ptype", "0800          ip_rcv\n"));
	CHECK(has("/proc/net/psched", "000f4240 3b9aca00"));
	CHECK(has("/proc/net/rt_cache", "Iface\tDestination\tGateway"));
	CHECK(content("/proc/net/softnet_stat") && content("/proc/net/dev_mcast") && content("/proc/net/anycast6"));
}

static int tool(int s, const char *name, void *request)
{
	struct ifreq r = {0};

	strcpy(r.ifr_name, name);
	r.ifr_data = request;
	return ioctl(s, SIOCETHTOOL, &r);
}

// test_ethtool: what ethtool(8) asks of lo.
static void test_ethtool(void)
{
	static struct {
		struct ethtool_gstrings head;
		char names[256][ETH_GSTRING_LEN];
	} names = {.head = {.cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_FEATURES}};
	struct {
		struct ethtool_sset_info head;
		__u32 count;
	} info = {.head = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1 << ETH_SS_FEATURES}};
	struct {
		struct ethtool_gfeatures head;
		struct ethtool_get_features_block blocks[8];
	} got = {.head = {.cmd = ETHTOOL_GFEATURES, .size = 8}};
	struct ethtool_value v = {.cmd = ETHTOOL_GLINK};
	struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
	struct ethtool_ts_info stamps = {.cmd = ETHTOOL_GET_TS_INFO};
	struct {
		struct ethtool_perm_addr head;
		char address[32];
	} permanent = {.head = {.cmd = ETHTOOL_GPERMADDR, .size = 32}};
	static const char *const active[] = {"tx-scatter-gather", "tx-checksum-ip-generic", "highdma", "rx-checksum", "rx-gro", "loopback"};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK_EQ(tool(s, "lo", &v), 0);
	CHECK_EQ(v.data, 1);
	v.cmd = ETHTOOL_GTXCSUM;
	CHECK_EQ(tool(s, "lo", &v), 0);
	CHECK_EQ(v.data, 1);
	v.cmd = ETHTOOL_GRINGPARAM;
	CHECK_ERR(tool(s, "lo", &v), EOPNOTSUPP);
	v.cmd = 0x7fff;
	CHECK_ERR(tool(s, "lo", &v), EOPNOTSUPP);
	CHECK_ERR(tool(s, "lo", NULL), EFAULT);
	CHECK_ERR(tool(s, "nosuch", &v), ENODEV);
	CHECK_ERR(tool(s, "lo", &driver), EOPNOTSUPP);
	CHECK_EQ(tool(s, "lo", &stamps), 0);
	CHECK_EQ(stamps.phc_index, -1);
	CHECK(stamps.so_timestamping & 1 << 4);
	CHECK_EQ(tool(s, "lo", &permanent), 0);
	CHECK_EQ(permanent.head.size, 6);
	CHECK(!memcmp(permanent.address, "\0\0\0\0\0", 6));
	CHECK_EQ(tool(s, "lo", &info), 0);
	CHECK_EQ(info.head.sset_mask, 1 << ETH_SS_FEATURES);
	CHECK(info.count > 40 && info.count <= 256);
	CHECK_EQ(tool(s, "lo", &names), 0);
	CHECK_EQ(names.head.len, info.count);
	CHECK_EQ(tool(s, "lo", &got), 0);
	CHECK_EQ(got.head.size, (info.count + 31) / 32);
	for (unsigned i = 0; i < sizeof active / sizeof *active; i++) {
		unsigned at = 0;

		while (at < info.count && strcmp(names.names[at], active[i]))
			at++;
		CHECK(at < info.count);
		CHECK(got.blocks[at / 32].active >> at % 32 & 1);
	}
	close(s);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"class", test_class}, {"change", test_change}, {"counters", test_counters}, {"tables", test_tables}, {"ethtool", test_ethtool},
	};
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	// Elver has no namespaces and is the program's alone.
	if (access("/proc/elver", F_OK) == 0) {
		privileged = 1;
	} else if (unshare(CLONE_NEWNET | CLONE_NEWNS) == 0) {
		int s = socket(AF_INET, SOCK_DGRAM, 0);
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
		privileged = mount("sysfs", "/sys", "sysfs", 0, NULL) == 0 && ioctl(s, SIOCSIFFLAGS, &up) == 0;
		close(s);
	}
	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
