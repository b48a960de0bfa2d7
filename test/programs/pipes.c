// Pipes.
#include "check.h"
#include <sys/mount.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static void test_basics(void)
{
	int p[2];
	char buffer[16];

	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	CHECK_EQ(fcntl(p[0], F_GETFD), FD_CLOEXEC);
	CHECK_EQ(write(p[1], "abcdef", 6), 6);
	int n = 0;
	CHECK_EQ(ioctl(p[0], FIONREAD, &n), 0);
	CHECK_EQ(n, 6);
	CHECK_EQ(read(p[0], buffer, 4), 4);
	CHECK_EQ(read(p[0], buffer, 16), 2);
	CHECK(memcmp(buffer, "ef", 2) == 0);
	CHECK_ERR(lseek(p[0], 0, SEEK_CUR), ESPIPE);
	CHECK_ERR(pread(p[0], buffer, 1, 0), ESPIPE);
	CHECK_ERR(write(p[0], "x", 1), EBADF);
	CHECK_ERR(read(p[1], buffer, 1), EBADF);
	struct stat st;
	CHECK_EQ(fstat(p[0], &st), 0);
	CHECK(S_ISFIFO(st.st_mode));
	CHECK_EQ(write(p[1], "last", 4), 4);
	close(p[1]);
	CHECK_EQ(read(p[0], buffer, 16), 4);
	CHECK_EQ(read(p[0], buffer, 16), 0);
	close(p[0]);
	CHECK_ERR(syscall(SYS_pipe2, 8, 0), EFAULT);
	CHECK_ERR(pipe2(p, 0x40000000), EINVAL);
}

static void test_full(void)
{
	static char block[4096];
	int p[2], total = 0;
	ssize_t n;

	CHECK_EQ(pipe2(p, O_NONBLOCK), 0);
	CHECK_ERR(read(p[0], block, 1), EAGAIN);
	CHECK_EQ(fcntl(p[0], F_SETPIPE_SZ, 0), 4096);
	CHECK_EQ(fcntl(p[0], F_SETPIPE_SZ, 65535), 65536);
	while ((n = write(p[1], block, sizeof block)) > 0)
		total += (int)n;
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(total, 65536);
	CHECK_EQ(fcntl(p[0], F_GETPIPE_SZ), 65536);
	struct pollfd f = {p[1], POLLOUT, 0};
	CHECK_EQ(poll(&f, 1, 0), 0);
	CHECK_EQ(read(p[0], block, sizeof block), sizeof block);
	CHECK_EQ(poll(&f, 1, 0), 1);
	CHECK_EQ(write(p[1], block, sizeof block), sizeof block);
	CHECK(fcntl(p[0], F_SETPIPE_SZ, 131072) >= 131072);
	CHECK_EQ(write(p[1], block, sizeof block), sizeof block);
	close(p[0]), close(p[1]);
}

static void test_poll(void)
{
	int p[2];
	CHECK_EQ(pipe(p), 0);
	struct pollfd f[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};

	CHECK_EQ(poll(f, 2, 0), 1);
	CHECK_EQ(f[1].revents, POLLOUT);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(poll(f, 2, 0), 2);
	CHECK_EQ(f[0].revents, POLLIN);
	close(p[1]);
	CHECK_EQ(poll(f, 1, 0), 1);
	CHECK_EQ(f[0].revents, POLLIN | POLLHUP);
	char c;
	CHECK_EQ(read(p[0], &c, 1), 1);
	CHECK_EQ(poll(f, 1, 0), 1);
	CHECK_EQ(f[0].revents, POLLHUP);
	close(p[0]);
	CHECK_EQ(pipe(p), 0);
	close(p[0]);
	f[0] = (struct pollfd){p[1], POLLOUT, 0};
	CHECK_EQ(poll(f, 1, 0), 1);
	CHECK(f[0].revents & POLLERR);
	close(p[1]);
}

static void test_packets(void)
{
	int p[2];
	char buffer[16];

	CHECK_EQ(pipe2(p, O_DIRECT), 0);
	CHECK_EQ(write(p[1], "one", 3), 3);
	CHECK_EQ(write(p[1], "two22", 5), 5);
	CHECK_EQ(read(p[0], buffer, 16), 3);
	CHECK_EQ(read(p[0], buffer, 2), 2); // the rest of that packet is gone
	CHECK_EQ(write(p[1], "3", 1), 1);
	CHECK_EQ(read(p[0], buffer, 16), 1);
	close(p[0]), close(p[1]);
}

static int flood[2];
static void *flooder(void *arg)
{
	char block[512];

	memset(block, (int)(long)arg, sizeof block);
	for (int i = 0; i < 400; i++)
		if (write(flood[1], block, sizeof block) != sizeof block)
			return (void *)1;
	return NULL;
}

// Writes of up to PIPE_BUF bytes don't mix.
static void test_atomic_writes(void)
{
	pthread_t t[4];
	int seen[4] = {0};
	char block[512];

	CHECK_EQ(pipe(flood), 0);
	for (long i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, flooder, (void *)(i + 1)), 0);
	for (int i = 0; i < 1600; i++) {
		for (size_t got = 0; got < sizeof block;) {
			ssize_t n = read(flood[0], block + got, sizeof block - got);
			CHECK(n > 0);
			got += n;
		}
		for (unsigned j = 1; j < sizeof block; j++)
			CHECK(block[j] == block[0]);
		CHECK(block[0] >= 1 && block[0] <= 4);
		seen[block[0] - 1]++;
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		CHECK_EQ(seen[i], 400);
	}
	close(flood[0]), close(flood[1]);
}

static void test_splice(void)
{
	int a[2], b[2];
	char buffer[16];

	CHECK_EQ(pipe(a), 0);
	CHECK_EQ(pipe(b), 0);
	CHECK_EQ(write(a[1], "spliced", 7), 7);
	CHECK_EQ(tee(a[0], b[1], 100, 0), 7);
	CHECK_EQ(read(b[0], buffer, 16), 7);
	memset(buffer, 0, sizeof buffer);
	CHECK_EQ(tee(a[0], b[1], 3, 0), 3); // the pipe keeps its bytes
	CHECK_EQ(write(b[1], "+", 1), 1);   // and is not written to through the other one
	CHECK_EQ(read(b[0], buffer, 16), 4);
	CHECK(memcmp(buffer, "spl+", 4) == 0);
	CHECK_ERR(tee(a[0], a[1], 3, 0), EINVAL);
	CHECK_ERR(tee(a[0], b[0], 3, 0), EBADF);
	CHECK_ERR(tee(b[0], a[1], 3, SPLICE_F_NONBLOCK), EAGAIN);
	CHECK_ERR(tee(a[0], b[1], 3, 0x100), EINVAL);
	CHECK_EQ(splice(a[0], NULL, b[1], NULL, 100, 0), 7);
	CHECK_EQ(read(b[0], buffer, 16), 7);
	CHECK(memcmp(buffer, "spliced", 7) == 0);
	close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static void test_vmsplice(void)
{
	int p[2];
	char in[5] = {0}, more[5] = {0};
	struct iovec from[2] = {{"spli", 4}, {"ced", 3}}, to[2] = {{in, 4}, {more, 4}};

	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(vmsplice(p[1], from, 2, 0), 7);
	CHECK_EQ(vmsplice(p[0], to, 2, 0), 7);
	CHECK(strcmp(in, "spli") == 0 && strcmp(more, "ced") == 0);
	CHECK_ERR(vmsplice(p[0], to, 2, SPLICE_F_NONBLOCK), EAGAIN);
	CHECK_ERR(vmsplice(p[1], from, 2, 0x100), EINVAL);
	int other = open("/dev/null", O_RDWR);
	CHECK_ERR(vmsplice(other, from, 2, 0), EBADF);
	close(other);
	CHECK_EQ(vmsplice(p[1], from, 0, 0), 0);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	CHECK_ERR(vmsplice(p[1], from, 2, 0), EPIPE);
	close(p[1]);
}

static void test_fifo(void)
{
	char name[] = "/tmp/fifoXXXXXX";

	CHECK(mkdtemp(name));
	char path[64];
	snprintf(path, sizeof path, "%s/f", name);
	CHECK_EQ(mkfifo(path, 0600), 0);
	CHECK_ERR(open(path, O_WRONLY | O_NONBLOCK), ENXIO);
	int r = open(path, O_RDONLY | O_NONBLOCK), w = open(path, O_WRONLY);
	char c;
	CHECK(r >= 0 && w >= 0);
	CHECK_EQ(write(w, "z", 1), 1);
	CHECK_EQ(read(r, &c, 1), 1);
	close(w);
	CHECK_EQ(read(r, &c, 1), 0);
	close(r);
	unlink(path), rmdir(name);
}

// A pipe has a path in /proc, but no place in the file tree that a mount could have to do with.
static void test_not_in_the_tree(void)
{
	char path[40];
	int p[2], wanted = geteuid() == 0 ? EINVAL : EPERM;

	CHECK_EQ(pipe(p), 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
	CHECK_ERR(mount(NULL, path, NULL, MS_REMOUNT, NULL), wanted);
	CHECK_ERR(mount(NULL, path, NULL, MS_PRIVATE, NULL), wanted);
	CHECK_ERR(mount(path, "/proc/self/comm", NULL, MS_MOVE, NULL), wanted);
	CHECK_ERR(mount(path, "/proc/self/comm", NULL, MS_BIND, NULL), wanted);
	CHECK_ERR(umount2(path, 0), wanted);
	close(p[0]);
	close(p[1]);
}

TESTS({"not-in-the-tree", test_not_in_the_tree}, {"basics", test_basics}, {"full", test_full}, {"poll", test_poll}, {"packets", test_packets},
      {"atomic-writes", test_atomic_writes}, {"splice", test_splice}, {"vmsplice", test_vmsplice},
      {"fifo", test_fifo})
