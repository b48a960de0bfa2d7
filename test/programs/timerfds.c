// timerfd.
#include "check.h"
#include <poll.h>
#include <sys/timerfd.h>

#define MS 1000000LL

static void test_each_clock(void)
{
	static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};

	for (int i = 0; i < 3; i++) {
		struct itimerspec s = {{0, 0}, {0, 40 * MS}}, got;
		uint64_t n;
		int fd = timerfd_create(clocks[i], TFD_CLOEXEC);
		struct pollfd p = {fd, POLLIN, 0};
		CHECK(fd >= 0);
		int64_t start = now_ns(CLOCK_MONOTONIC);
		CHECK_EQ(timerfd_settime(fd, 0, &s, NULL), 0);
		CHECK_EQ(timerfd_gettime(fd, &got), 0);
		CHECK(got.it_value.tv_nsec <= 40 * MS);
		// Unless the host stopped us meanwhile, it isn't due yet.
		int early = poll(&p, 1, 0) == 0;
		CHECK(early || now_ns(CLOCK_MONOTONIC) - start >= 40 * MS);
		CHECK_EQ(read(fd, &n, 8), 8);
		CHECK_EQ(n, 1);
		CHECK(now_ns(CLOCK_MONOTONIC) - start >= 40 * MS);
		close(fd);
	}
}

static void test_periodic(void)
{
	struct itimerspec s = {{0, 10 * MS}, {0, 10 * MS}};
	uint64_t n;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	CHECK_EQ(timerfd_settime(fd, 0, &s, NULL), 0);
	CHECK_ERR(read(fd, &n, 8), EAGAIN);
	sleep_ms(105);
	CHECK_EQ(read(fd, &n, 8), 8);
	CHECK(n >= 8);
	CHECK_ERR(read(fd, &n, 8), EAGAIN);
	CHECK_ERR(read(fd, &n, 4), EINVAL);
	s.it_value.tv_nsec = 0;
	CHECK_EQ(timerfd_settime(fd, 0, &s, NULL), 0); // disarmed
	sleep_ms(30);
	CHECK_ERR(read(fd, &n, 8), EAGAIN);
	close(fd);
}

static void test_absolute(void)
{
	int64_t at = now_ns(CLOCK_MONOTONIC) + 50 * MS;
	struct itimerspec s = {{0, 0}, {at / (1000 * MS), at % (1000 * MS)}};
	uint64_t n;
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);

	CHECK_EQ(timerfd_settime(fd, TFD_TIMER_ABSTIME, &s, NULL), 0);
	CHECK_EQ(read(fd, &n, 8), 8);
	CHECK(now_ns(CLOCK_MONOTONIC) >= at);
	s.it_value.tv_sec = 0, s.it_value.tv_nsec = 1;
	CHECK_EQ(timerfd_settime(fd, TFD_TIMER_ABSTIME, &s, NULL), 0);
	CHECK_EQ(read(fd, &n, 8), 8);
	close(fd);
	CHECK_ERR(timerfd_create(99, 0), EINVAL);
	CHECK_ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
	s.it_value.tv_nsec = 1000 * MS;
	fd = timerfd_create(CLOCK_REALTIME, 0);
	CHECK_ERR(timerfd_settime(fd, 0, &s, NULL), EINVAL);
	s.it_value.tv_nsec = 1;
	CHECK_ERR(timerfd_settime(0x3fff, 0, &s, NULL), EBADF);
	CHECK_ERR(timerfd_settime(1, 0, &s, NULL), EINVAL);
	close(fd);
}

TESTS({"each-clock", test_each_clock}, {"periodic", test_periodic}, {"absolute", test_absolute})
