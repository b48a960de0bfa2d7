// eventfd.
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

static void test_counter(void)
{
	uint64_t v;
	int fd = eventfd(5, EFD_NONBLOCK | EFD_CLOEXEC);
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};

	CHECK(fd >= 0);
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, POLLIN | POLLOUT);
	CHECK_EQ(read(fd, &v, 8), 8);
	CHECK_EQ(v, 5);
	CHECK_ERR(read(fd, &v, 8), EAGAIN);
	v = 3;
	CHECK_EQ(write(fd, &v, 8), 8);
	CHECK_EQ(write(fd, &v, 8), 8);
	CHECK_EQ(read(fd, &v, 8), 8);
	CHECK_EQ(v, 6);
	if (write(fd, (uint64_t[]){7, 9}, 16) == 8) // EINVAL from Linux 6.10 on, before it adds once
		CHECK_EQ(read(fd, (uint64_t[]){0, 0}, 16), 8);
	CHECK_ERR(read(fd, &v, 8), EAGAIN);
	v = UINT64_MAX;
	CHECK_ERR(write(fd, &v, 8), EINVAL);
	v = UINT64_MAX - 1;
	CHECK_EQ(write(fd, &v, 8), 8);
	v = 1;
	CHECK_ERR(write(fd, &v, 8), EAGAIN);
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, POLLIN);
	CHECK_ERR(read(fd, &v, 4), EINVAL);
	CHECK_ERR(write(fd, &v, 4), EINVAL);
	close(fd);
	CHECK_ERR(eventfd(0, 0x10000), EINVAL);
}

static void test_semaphore(void)
{
	uint64_t v;
	int fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);

	CHECK_EQ(read(fd, &v, 8), 8);
	CHECK_EQ(v, 1);
	CHECK_EQ(read(fd, &v, 8), 8);
	CHECK_ERR(read(fd, &v, 8), EAGAIN);
	close(fd);
}

static void *later(void *arg)
{
	uint64_t one = 1;

	sleep_ms(30);
	return (void *)(long)write(*(int *)arg, &one, 8);
}

static void test_blocking(void)
{
	uint64_t v;
	int fd = eventfd(0, 0);
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, later, &fd), 0);
	CHECK_EQ(read(fd, &v, 8), 8);
	CHECK_EQ(v, 1);
	pthread_join(t, NULL);
	close(fd);
}

TESTS({"counter", test_counter}, {"semaphore", test_semaphore}, {"blocking", test_blocking})
