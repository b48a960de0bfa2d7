// Linux AIO by its system calls: reads, writes, polls, eventfd, the ring.
#include "check.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static long io_setup(unsigned n, aio_context_t *c) { return syscall(SYS_io_setup, n, c); }
static long io_destroy(aio_context_t c) { return syscall(SYS_io_destroy, c); }
static long io_submit(aio_context_t c, long n, struct iocb **p) { return syscall(SYS_io_submit, c, n, p); }
static long io_cancel(aio_context_t c, struct iocb *p, struct io_event *e) { return syscall(SYS_io_cancel, c, p, e); }
static long io_getevents(aio_context_t c, long min, long max, struct io_event *e, struct timespec *t)
{
	return syscall(SYS_io_getevents, c, min, max, e, t);
}

static struct timespec none = {0, 0};

static int temporary(void)
{
	char name[] = "/tmp/aioXXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	return fd;
}

static void test_setup(void)
{
	aio_context_t c = 1;

	CHECK_ERR(io_setup(1, &c), EINVAL);
	c = 0;
	CHECK_ERR(io_setup(0, &c), EINVAL);
	CHECK_ERR(io_setup(1U << 30, &c), EINVAL);
	CHECK_ERR(io_setup(1, (void *)8), EFAULT);
	CHECK_ERR(io_destroy(0), EINVAL);
	CHECK_ERR(io_destroy(4096), EINVAL);
	CHECK_EQ(io_setup(64, &c), 0);
	CHECK(c != 0);
	// The ring is there to be read (libaio does): nr, head, tail, magic.
	unsigned *ring = (unsigned *)c;
	CHECK(ring[1] >= 128);
	CHECK_EQ(ring[2], 0);
	CHECK_EQ(ring[3], 0);
	CHECK_EQ(ring[4], 0xa10a10a1);
	CHECK_EQ(ring[7], 32);
	CHECK_EQ(io_destroy(c), 0);
	CHECK_ERR(io_destroy(c), EINVAL);
	for (int i = 0; i < 50; i++) {
		c = 0;
		CHECK_EQ(io_setup(1024, &c), 0);
		CHECK_EQ(io_destroy(c), 0);
	}
}

static void test_readwrite(void)
{
	aio_context_t c = 0;
	int fd = temporary();
	char out[8192], in[8192] = {0};
	struct io_event e[8];

	memset(out, 'x', sizeof out);
	CHECK_EQ(io_setup(4, &c), 0);
	struct iocb w = {.aio_data = 11, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd, .aio_buf = (uintptr_t)out, .aio_nbytes = sizeof out, .aio_offset = 100};
	struct iocb s = {.aio_data = 12, .aio_lio_opcode = IOCB_CMD_FSYNC, .aio_fildes = fd};
	struct iocb *list[] = {&w, &s, NULL};
	CHECK_EQ(io_submit(c, 1, list), 1);
	CHECK_EQ(io_getevents(c, 1, 8, e, NULL), 1);
	CHECK(e[0].data == 11 && e[0].obj == (uintptr_t)&w && e[0].res == 8192 && e[0].res2 == 0);
	struct iovec v[2] = {{in, 10}, {in + 10, 90}};
	struct iocb r = {.aio_data = 13, .aio_lio_opcode = IOCB_CMD_PREADV, .aio_fildes = fd, .aio_buf = (uintptr_t)v, .aio_nbytes = 2, .aio_offset = 100};
	struct iocb past = {.aio_data = 14, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uintptr_t)in, .aio_nbytes = 10, .aio_offset = 100000};
	list[0] = &r, list[1] = &past;
	CHECK_EQ(io_submit(c, 2, list), 2);
	CHECK_EQ(io_getevents(c, 2, 2, e, NULL), 2);
	CHECK(e[0].data == 13 && e[0].res == 100 && in[0] == 'x' && in[99] == 'x' && in[100] == 0);
	CHECK(e[1].data == 14 && e[1].res == 0);
	list[0] = &s;
	CHECK_EQ(io_submit(c, 1, list), 1);
	CHECK_EQ(io_getevents(c, 1, 1, e, NULL), 1);
	CHECK(e[0].data == 12 && e[0].res == 0);
	CHECK_EQ(io_getevents(c, 0, 8, e, NULL), 0);
	CHECK_EQ(io_getevents(c, 1, 8, e, &none), 0);
	struct timespec t = {0, 20000000};
	int64_t start = now_ns(CLOCK_MONOTONIC);
	CHECK_EQ(io_getevents(c, 1, 8, e, &t), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 19000000);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
	CHECK_EQ(io_destroy(c), 0);
	close(fd);
}

static void test_errors(void)
{
	aio_context_t c = 0;
	int fd = temporary(), ro = open("/dev/null", O_RDONLY);
	char b[16];
	struct io_event e[8];

	CHECK_EQ(io_setup(4, &c), 0);
	struct iocb i = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uintptr_t)b, .aio_nbytes = 16};
	struct iocb good = i, *list[] = {&i, &good};
	CHECK_ERR(io_submit(c + 1, 1, list), EINVAL);
	CHECK_ERR(io_submit(c, -1, list), EINVAL);
	CHECK_EQ(io_submit(c, 0, list), 0);
	CHECK_ERR(io_submit(c, 1, (void *)8), EFAULT);
	i.aio_fildes = 999;
	CHECK_ERR(io_submit(c, 2, list), EBADF);
	list[0] = &good, list[1] = &i;
	CHECK_EQ(io_submit(c, 2, list), 1); // the first alone
	CHECK_EQ(io_getevents(c, 1, 8, e, NULL), 1);
	list[0] = &i;
	i.aio_fildes = fd, i.aio_lio_opcode = 99;
	CHECK_ERR(io_submit(c, 1, list), EINVAL);
	i.aio_lio_opcode = IOCB_CMD_NOOP;
	CHECK_ERR(io_submit(c, 1, list), EINVAL);
	i.aio_lio_opcode = IOCB_CMD_PWRITE, i.aio_fildes = ro;
	CHECK_ERR(io_submit(c, 1, list), EBADF);
	i.aio_fildes = fd, i.aio_nbytes = (uint64_t)-1;
	CHECK_ERR(io_submit(c, 1, list), EINVAL);
	i.aio_nbytes = 16, i.aio_reserved2 = 1;
	CHECK_ERR(io_submit(c, 1, list), EINVAL);
	i.aio_reserved2 = 0, i.aio_flags = IOCB_FLAG_RESFD, i.aio_resfd = fd;
	CHECK_ERR(io_submit(c, 1, list), EINVAL);
	i.aio_resfd = 999;
	CHECK_ERR(io_submit(c, 1, list), EBADF);
	i.aio_flags = 0, i.aio_buf = 8; // an error of the operation: an event
	CHECK_EQ(io_submit(c, 1, list), 1);
	CHECK_EQ(io_getevents(c, 1, 8, e, NULL), 1);
	CHECK_EQ((int64_t)e[0].res, -EFAULT);
	CHECK_ERR(io_getevents(c, -1, 8, e, NULL), EINVAL);
	CHECK_ERR(io_getevents(c, 2, 1, e, NULL), EINVAL);
	CHECK_ERR(io_getevents(c + 1, 0, 1, e, NULL), EINVAL);
	CHECK_ERR(io_cancel(c, &i, e), EINVAL);
	CHECK_ERR(io_cancel(c, (void *)8, e), EFAULT);
	CHECK_EQ(io_destroy(c), 0);
	close(fd), close(ro);
}

static void test_eventfd(void)
{
	aio_context_t c = 0;
	int fd = temporary(), ev = eventfd(0, EFD_NONBLOCK);
	char b[16] = "hello";
	struct io_event e[8];
	uint64_t n;

	CHECK_EQ(io_setup(8, &c), 0);
	struct iocb i = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd, .aio_buf = (uintptr_t)b, .aio_nbytes = 5, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = ev};
	struct iocb *list[] = {&i, &i, &i};
	CHECK_EQ(io_submit(c, 3, list), 3);
	CHECK_EQ(io_getevents(c, 3, 8, e, NULL), 3);
	CHECK_EQ(read(ev, &n, 8), 8);
	CHECK_EQ(n, 3);
	CHECK_EQ(io_destroy(c), 0);
	close(fd), close(ev);
}

static void test_poll(void)
{
	aio_context_t c = 0;
	int p[2];
	struct io_event e[8];

	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(io_setup(8, &c), 0);
	struct iocb i = {.aio_data = 5, .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = p[0], .aio_buf = POLLIN}, *list[] = {&i};
	CHECK_EQ(io_submit(c, 1, list), 1);
	CHECK_EQ(io_getevents(c, 1, 8, e, &none), 0);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(io_getevents(c, 1, 8, e, NULL), 1);
	CHECK(e[0].data == 5 && (e[0].res & POLLIN));
	CHECK_EQ(io_submit(c, 1, list), 1); // ready at once
	CHECK_EQ(io_getevents(c, 1, 8, e, NULL), 1);
	char b;
	CHECK_EQ(read(p[0], &b, 1), 1);
	CHECK_EQ(io_submit(c, 1, list), 1);
	CHECK_ERR(io_cancel(c, &i, e), EINPROGRESS);
	CHECK_EQ(io_getevents(c, 1, 8, e, NULL), 1);
	CHECK_EQ(e[0].res, 0);
	CHECK_EQ(io_submit(c, 1, list), 1);
	CHECK_EQ(io_destroy(c), 0); // with one pending
	close(p[0]), close(p[1]);
}

static void test_full(void)
{
	aio_context_t c = 0;
	int fd = temporary();
	struct io_event e[8];
	long n = 0, got, back = 0;

	CHECK_EQ(io_setup(1, &c), 0);
	struct iocb i = {.aio_lio_opcode = IOCB_CMD_FSYNC, .aio_fildes = fd}, *list[] = {&i};
	while (n < 100000 && (got = io_submit(c, 1, list)) == 1)
		n++;
	int err = errno;
	CHECK(n > 1 && n < 100000 && err == EAGAIN);
	while (back < n && (got = io_getevents(c, 1, 8, e, NULL)) > 0)
		back += got;
	CHECK_EQ(back, n);
	CHECK_EQ(io_submit(c, 1, list), 1);
	CHECK_EQ(io_destroy(c), 0);
	close(fd);
}

static aio_context_t shared;

static void *submit_later(void *arg)
{
	struct timespec t = {0, 20000000};
	static struct iocb i;
	struct iocb *list[] = {&i};

	i = (struct iocb){.aio_data = 9, .aio_lio_opcode = IOCB_CMD_FSYNC, .aio_fildes = *(int *)arg};
	nanosleep(&t, NULL);
	io_submit(shared, 1, list);
	return NULL;
}

static void test_threads(void)
{
	int fd = temporary();
	struct io_event e[8];
	pthread_t t;

	CHECK_EQ(io_setup(4, &shared), 0);
	CHECK_EQ(pthread_create(&t, NULL, submit_later, &fd), 0);
	CHECK_EQ(io_getevents(shared, 1, 8, e, NULL), 1);
	CHECK_EQ(e[0].data, 9);
	pthread_join(t, NULL);
	CHECK_EQ(io_destroy(shared), 0);
	close(fd);
}

static void test_fork(void)
{
	aio_context_t c = 0;
	int status;
	struct io_event e[1];

	CHECK_EQ(io_setup(4, &c), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int bad = io_getevents(c, 0, 1, e, &none) != -1 || errno != EINVAL;
		_exit(bad);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(io_destroy(c), 0);
}

static void test_uring(void)
{
	CHECK(syscall(SYS_io_uring_setup, 0, NULL) == -1);
}

TESTS({"setup", test_setup}, {"readwrite", test_readwrite}, {"errors", test_errors}, {"eventfd", test_eventfd},
      {"poll", test_poll}, {"full", test_full}, {"threads", test_threads}, {"fork", test_fork}, {"uring", test_uring})
