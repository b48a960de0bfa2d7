// epoll.
#include "check.h"
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static int add(int ep, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

static void test_bad_arguments(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), p[2];
	struct epoll_event e = {.events = EPOLLIN};

	CHECK(ep >= 0);
	CHECK_EQ(pipe(p), 0);
	CHECK_ERR(epoll_create1(77), EINVAL);
	CHECK_ERR(syscall(SYS_epoll_create, 0), EINVAL);
	CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, 0x3fff, &e), EBADF);
	CHECK_ERR(epoll_ctl(0x3fff, EPOLL_CTL_ADD, p[0], &e), EBADF);
	CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e), EINVAL);
	CHECK_ERR(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e), EINVAL);
	CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e), ENOENT);
	CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], &e), ENOENT);
	CHECK_ERR(epoll_ctl(ep, 99, p[0], &e), EINVAL);
	CHECK_EQ(add(ep, p[0], EPOLLIN), 0);
	CHECK_ERR(add(ep, p[0], EPOLLIN), EEXIST);
	CHECK_ERR(epoll_wait(ep, &e, 0, 0), EINVAL);
	CHECK_ERR(epoll_wait(ep, &e, -1, 0), EINVAL);
	int file = open("/tmp", O_RDONLY);
	CHECK_ERR(add(ep, file, EPOLLIN), EPERM); // files are always ready
	close(file), close(ep), close(p[0]), close(p[1]);
}

static void test_level_and_edge(void)
{
	int ep = epoll_create1(0), p[2], q[2];
	struct epoll_event e[4];
	char c;

	CHECK(pipe(p) == 0 && pipe(q) == 0);
	CHECK_EQ(add(ep, p[0], EPOLLIN), 0);
	CHECK_EQ(add(ep, q[0], EPOLLIN | EPOLLET), 0);
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 0);
	CHECK_EQ(write(p[1], "ab", 2), 2);
	CHECK_EQ(write(q[1], "ab", 2), 2);
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 2);
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 1); // only the level
	CHECK_EQ(e[0].data.fd, p[0]);
	CHECK_EQ(write(q[1], "c", 1), 1);
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 2); // a new edge
	CHECK_EQ(read(p[0], &c, 1), 1);
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 1);
	CHECK_EQ(read(p[0], &c, 1), 1);
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 0);
	close(p[1]);
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 1);
	CHECK_EQ(e[0].events, EPOLLHUP);
	close(p[0]); // closing the last descriptor takes it out
	CHECK_EQ(epoll_wait(ep, e, 4, 0), 0);
	close(q[0]), close(q[1]), close(ep);
}

static void test_oneshot_and_modify(void)
{
	int ep = epoll_create1(0), fd = eventfd(1, 0);
	struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 42};

	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
	CHECK_EQ(e.data.u64, 42);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	e.events = EPOLLOUT, e.data.u64 = 43;
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
	CHECK(e.events == EPOLLOUT && e.data.u64 == 43);
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	close(ep), close(fd);
}

static void test_nested(void)
{
	int outer = epoll_create1(0), inner = epoll_create1(0), fd = eventfd(0, 0);
	struct epoll_event e;
	uint64_t one = 1;

	CHECK_EQ(add(inner, fd, EPOLLIN), 0);
	CHECK_EQ(add(outer, inner, EPOLLIN), 0);
	CHECK_ERR(add(inner, outer, EPOLLIN), ELOOP);
	CHECK_EQ(epoll_wait(outer, &e, 1, 0), 0);
	CHECK_EQ(write(fd, &one, 8), 8);
	CHECK_EQ(epoll_wait(outer, &e, 1, 0), 1);
	CHECK_EQ(e.data.fd, inner);
	close(outer), close(inner), close(fd);
}

static void test_timeout(void)
{
	int ep = epoll_create1(0);
	struct epoll_event e;
	int64_t start = now_ns(CLOCK_MONOTONIC);

	CHECK_EQ(epoll_wait(ep, &e, 1, 50), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 50000000);
	struct timespec t = {0, 3000000};
	start = now_ns(CLOCK_MONOTONIC);
	long r = syscall(441 /* epoll_pwait2 */, ep, &e, 1, &t, NULL, 8);
	CHECK_EQ(r, 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 3000000);
	close(ep);
}

static void test_rdhup(void)
{
	int ep = epoll_create1(0), s[2];
	struct epoll_event e;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	CHECK_EQ(add(ep, s[0], EPOLLIN | EPOLLRDHUP), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	CHECK_EQ(shutdown(s[1], SHUT_WR), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
	CHECK_EQ(e.events, EPOLLIN | EPOLLRDHUP);
	close(s[1]);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
	CHECK_EQ(e.events, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
	close(s[0]), close(ep);
}

static int wake_fd;
static void *waker(void *arg)
{
	uint64_t one = 1;

	for (int i = 0; i < 2000; i++) {
		if (write(wake_fd, &one, 8) != 8)
			return (void *)1;
		if (i % 7 == 0)
			sched_yield();
	}
	return arg;
}

// No wakeup is lost: every count arrives, though nobody polls.
static void test_no_lost_wakeups(void)
{
	int ep = epoll_create1(0);
	struct epoll_event e;
	uint64_t sum = 0, v;
	pthread_t t;

	wake_fd = eventfd(0, EFD_NONBLOCK);
	CHECK_EQ(add(ep, wake_fd, EPOLLIN | EPOLLET), 0);
	CHECK_EQ(pthread_create(&t, NULL, waker, NULL), 0);
	while (sum < 2000) {
		CHECK_EQ(epoll_wait(ep, &e, 1, 5000), 1);
		while (read(wake_fd, &v, 8) == 8)
			sum += v;
	}
	pthread_join(t, NULL);
	CHECK_EQ(sum, 2000);
	close(ep), close(wake_fd);
}

// One call returns all that fits, each file once, however many they are.
static void test_many(void)
{
	enum { N = 300 };
	int ep = epoll_create1(0), fds[N], seen[N + 10] = {0};
	struct epoll_event e[2 * N];

	for (int i = 0; i < N; i++) {
		fds[i] = eventfd(1, EFD_NONBLOCK);
		struct epoll_event add = {.events = EPOLLIN, .data.u32 = i};
		CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &add), 0);
	}
	for (int round = 0; round < 2; round++) {
		CHECK_EQ(epoll_wait(ep, e, 2 * N, 0), N);
		CHECK_EQ(epoll_wait(ep, e, N, 0), N);
		for (int i = 0; i < N; i++)
			seen[e[i].data.u32]++;
		CHECK_EQ(epoll_wait(ep, e, 100, 0), 100);
	}
	for (int i = 0; i < N; i++)
		CHECK_EQ(seen[i], 2);
	// What comes before a bad address is delivered; the rest stays.
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_EQ(munmap(page + 4096, 4096), 0);
	int n = epoll_wait(ep, (void *)(page + 4096 - 200 * sizeof e[0]), N, 0);
	CHECK(n > 0 && n <= 200);
	CHECK_ERR(epoll_wait(ep, (void *)(page + 4096), N, 0), EFAULT);
	CHECK_EQ(epoll_wait(ep, e, 2 * N, 0), N);
	for (int i = 0; i < N; i++)
		close(fds[i]);
	CHECK_EQ(epoll_wait(ep, e, 2 * N, 0), 0);
	close(ep);
}

static volatile int woken;

static void *wait_exclusively(void *arg)
{
	struct epoll_event e;

	if (epoll_wait((int)(long)arg, &e, 1, 1000) == 1)
		__sync_fetch_and_add(&woken, 1);
	return NULL;
}

// exclusively checks that of epolls that ask for it exclusively one is woken when fd becomes readable.
static void exclusively(int fd, int (*begin)(int fd), int (*end)(int fd))
{
	pthread_t t[3];
	int ep[3];

	for (int i = 0; i < 3; i++) {
		CHECK((ep[i] = epoll_create1(0)) >= 0);
		CHECK_EQ(add(ep[i], fd, EPOLLIN | EPOLLEXCLUSIVE), 0);
	}
	CHECK_ERR(add(ep[0], ep[1], EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
	// A thread that waits too late sees the event by itself: once none must have.
	woken = 0;
	for (int tries = 0; woken != 1 && tries < 30; tries++) {
		woken = 0;
		for (int i = 0; i < 3; i++)
			CHECK_EQ(pthread_create(&t[i], NULL, wait_exclusively, (void *)(long)ep[i]), 0);
		sleep_ms(100);
		CHECK_EQ(begin(fd), 0);
		for (int i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
		CHECK(woken >= 1);
		CHECK_EQ(end(fd), 0);
	}
	CHECK_EQ(woken, 1);
	for (int i = 0; i < 3; i++)
		close(ep[i]);
	close(fd);
}

static int count_up(int fd) { return eventfd_write(fd, 1); }

static int count_down(int fd)
{
	eventfd_t n;

	return eventfd_read(fd, &n);
}

static void test_exclusive(void) { exclusively(eventfd(0, 0), count_up, count_down); }

static struct sockaddr_in own_address(int fd)
{
	struct sockaddr_in a = {0};
	socklen_t n = sizeof a;

	getsockname(fd, (struct sockaddr *)&a, &n);
	return a;
}

static int connection;

static int begin_connection(int fd)
{
	struct sockaddr_in a = own_address(fd);

	connection = socket(AF_INET, SOCK_STREAM, 0);
	return connect(connection, (struct sockaddr *)&a, sizeof a);
}

static int end_connection(int fd)
{
	int s = accept(fd, NULL, NULL);

	close(connection);
	return s < 0 ? s : close(s);
}

static void test_exclusive_connections(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK_EQ(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	CHECK_EQ(listen(fd, 8), 0);
	exclusively(fd, begin_connection, end_connection);
}

static int send_datagram(int fd)
{
	struct sockaddr_in a = own_address(fd);

	return sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof a) - 1;
}

static int receive_datagram(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) - 1;
}

static void test_exclusive_datagrams(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK_EQ(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	exclusively(fd, send_datagram, receive_datagram);
}

TESTS({"bad-arguments", test_bad_arguments}, {"level-and-edge", test_level_and_edge},
      {"oneshot-and-modify", test_oneshot_and_modify}, {"nested", test_nested},
      {"timeout", test_timeout}, {"rdhup", test_rdhup}, {"many", test_many}, {"no-lost-wakeups", test_no_lost_wakeups},
      {"exclusive", test_exclusive}, {"exclusive-connections", test_exclusive_connections},
      {"exclusive-datagrams", test_exclusive_datagrams})
