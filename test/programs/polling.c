// poll and select on what a single-threaded program has: files and devices.
#include "check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/personality.h>
#include <sys/select.h>

static void test_poll(void)
{
	struct pollfd p[4] = {
		{open("/dev/null", O_RDWR), POLLIN | POLLOUT, 0},
		{-1, POLLIN, 99},
		{1000, POLLIN, 0},
		{open("/dev/zero", O_RDONLY), POLLIN, 0},
	};

	CHECK_EQ(poll(p, 4, -1), 3);
	CHECK_EQ(p[0].revents, POLLIN | POLLOUT);
	CHECK_EQ(p[1].revents, 0);
	CHECK_EQ(p[2].revents, POLLNVAL);
	CHECK_EQ(p[3].revents, POLLIN);
	CHECK_ERR(syscall(SYS_poll, 8, 1, 0), EFAULT);
	CHECK_ERR(syscall(SYS_poll, p, 1U << 30, 0), EINVAL);
	close(p[0].fd), close(p[3].fd);
}

static void test_timeout(void)
{
	int64_t start = now_ns(CLOCK_MONOTONIC), took;

	CHECK_EQ(poll(NULL, 0, 0), 0);
	CHECK_EQ(poll(NULL, 0, 50), 0);
	took = now_ns(CLOCK_MONOTONIC) - start;
	CHECK(took >= 50000000 && took < 450000000);
	struct timespec t = {0, 30000000};
	start = now_ns(CLOCK_MONOTONIC);
	CHECK_EQ(ppoll(NULL, 0, &t, NULL), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
	struct timeval tv = {0, 30000};
	start = now_ns(CLOCK_MONOTONIC);
	CHECK_EQ(syscall(SYS_select, 0, NULL, NULL, NULL, &tv), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
	CHECK(tv.tv_sec == 0 && tv.tv_usec == 0); // Linux writes what is left
	t.tv_nsec = 2000000000;
	CHECK_ERR(ppoll(NULL, 0, &t, NULL), EINVAL);
}

static void test_select(void)
{
	fd_set r, w;
	int fd = open("/dev/null", O_RDWR);
	struct timeval none = {0, 0};

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(fd, &r);
	FD_SET(fd, &w);
	CHECK_EQ(select(fd + 1, &r, &w, NULL, NULL), 2);
	CHECK(FD_ISSET(fd, &r) && FD_ISSET(fd, &w));
	close(fd);
	CHECK_ERR(select(fd + 1, &r, NULL, NULL, &none), EBADF);
	CHECK_ERR(select(-1, NULL, NULL, NULL, &none), EINVAL);
	struct timespec t = {0, 1000000};
	CHECK_EQ(pselect(0, NULL, NULL, NULL, &t, NULL), 0);
}

// epoll takes no file that can't make anybody wait.
static void test_epoll_refuses(void)
{
	static const struct {
		const char *path;
		int err;
	} files[] = {{"/dev/null", EPERM}, {"/dev/zero", EPERM}, {"/dev/full", EPERM}, {"/dev/urandom", EPERM}, {"/dev/random", 0},
		     {"/tmp", EPERM}, {"/proc/self/maps", EPERM}, {"/proc/self/exe", EPERM}};

	for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
		struct epoll_event e = {.events = EPOLLIN};
		struct pollfd p = {.fd = open(files[i].path, O_RDONLY), .events = POLLIN};
		int ep = epoll_create1(0);

		CHECK(p.fd >= 0 && ep >= 0);
		if (files[i].err)
			CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p.fd, &e), files[i].err);
		else
			CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, p.fd, &e), 0);
		CHECK_EQ(poll(&p, 1, 0), 1);
		CHECK_EQ(p.revents, POLLIN);
		close(ep);
		close(p.fd);
	}
}

// With STICKY_TIMEOUTS a timeout keeps its value, whatever time is left.
static void test_sticky(void)
{
	struct pollfd p = {open("/dev/null", O_RDWR), POLLIN, 0};
	struct timespec t = {50, 7}, n = {0, 1000000};
	struct timeval tv = {50, 7};
	fd_set in;

	CHECK(p.fd >= 0);
	FD_ZERO(&in);
	FD_SET(p.fd, &in);
	int before = personality(0xffffffff);
	CHECK_EQ(personality(before | STICKY_TIMEOUTS), before);
	CHECK_EQ(syscall(SYS_ppoll, &p, 1, &t, NULL, 8), 1);
	CHECK(t.tv_sec == 50 && t.tv_nsec == 7);
	CHECK_EQ(syscall(SYS_select, p.fd + 1, &in, NULL, NULL, &tv), 1);
	CHECK(tv.tv_sec == 50 && tv.tv_usec == 7);
	CHECK_EQ(syscall(SYS_pselect6, p.fd + 1, &in, NULL, NULL, &t, NULL), 1);
	CHECK(t.tv_sec == 50 && t.tv_nsec == 7);
	CHECK_EQ(syscall(SYS_ppoll, NULL, 0, &n, NULL, 8), 0);
	CHECK_EQ(n.tv_nsec, 1000000);
	personality(before);
	CHECK_EQ(syscall(SYS_ppoll, NULL, 0, &n, NULL, 8), 0);
	CHECK_EQ(n.tv_nsec, 0);
	close(p.fd);
}

TESTS({"sticky", test_sticky}, {"poll", test_poll}, {"timeout", test_timeout}, {"select", test_select}, {"epoll-refuses", test_epoll_refuses})
