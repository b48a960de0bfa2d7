// Corners that programs for one family don't reach: flags of single calls, and what two interfaces say of one thing.
#include "check.h"
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

static char dir[] = "/tmp/corners.XXXXXX";

static int make_dir(void)
{
	static int made;

	if (!made && mkdtemp(dir) && chdir(dir) == 0)
		made = 1;
	return made;
}

static long pwritev2_(int fd, const char *s, off_t off, int flags)
{
	struct iovec v = {(void *)s, strlen(s)};

	return syscall(SYS_pwritev2, fd, &v, 1, off, 0, flags);
}

// RWF_APPEND writes at the end, wherever the call points; the offset moves only where there is none.
static void test_append(void)
{
	char buffer[16];

	CHECK(make_dir());
	int fd = open("append", O_CREAT | O_RDWR | O_TRUNC, 0600);
	CHECK_EQ(write(fd, "abc", 3), 3);
	CHECK_EQ(pwritev2_(fd, "de", 0, RWF_APPEND), 2);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3);
	CHECK_EQ(lseek(fd, 1, SEEK_SET), 1);
	CHECK_EQ(pwritev2_(fd, "f", -1, RWF_APPEND), 1);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 6);
	CHECK_EQ(pwritev2_(fd, "X", 0, RWF_APPEND | RWF_DSYNC), 1);
	CHECK_EQ(pwritev2_(fd, "Q", 7, RWF_SYNC), 1);
	CHECK_EQ(pread(fd, buffer, sizeof buffer, 0), 8);
	CHECK(memcmp(buffer, "abcdefXQ", 8) == 0);
	CHECK_ERR(pwritev2_(fd, "X", 0, 1 << 20), EOPNOTSUPP);
	close(fd);
	fd = open("append", O_WRONLY | O_SYNC);
	CHECK_EQ(write(fd, "Z", 1), 1);
	CHECK_EQ(pwrite(fd, "Y", 1, 1), 1);
	close(fd);
	fd = open("/dev/null", O_WRONLY | O_SYNC); // which has no disk to wait for
	CHECK_EQ(write(fd, "Z", 1), 1);
	CHECK_EQ(pwritev2_(fd, "Z", -1, RWF_DSYNC), 1);
	close(fd);
}

// RWF_NOWAIT doesn't wait for a pipe, neither of preadv2 nor of Linux AIO.
static void test_nowait(void)
{
	int p[2];
	char byte[2];
	struct iovec v = {byte, 1};
	aio_context_t context = 0;
	struct iocb b = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (uint64_t)byte, .aio_nbytes = 1, .aio_rw_flags = RWF_NOWAIT}, *list = &b;
	struct io_event e;

	CHECK_EQ(pipe(p), 0);
	CHECK_ERR(syscall(SYS_preadv2, p[0], &v, 1, -1L, 0L, RWF_NOWAIT), EAGAIN);
	CHECK_EQ(syscall(SYS_io_setup, 1, &context), 0);
	b.aio_fildes = p[0];
	CHECK_EQ(syscall(SYS_io_submit, context, 1, &list), 1);
	CHECK_EQ(syscall(SYS_io_getevents, context, 1, 1, &e, NULL), 1);
	CHECK_EQ(e.res, -EAGAIN);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(syscall(SYS_io_submit, context, 1, &list), 1);
	CHECK_EQ(syscall(SYS_io_getevents, context, 1, 1, &e, NULL), 1);
	CHECK_EQ(e.res, 1);
	CHECK_EQ(syscall(SYS_io_destroy, context), 0);
	close(p[0]), close(p[1]);
}

// A file without a name gets one only if O_TMPFILE made it, without O_EXCL.
static void test_nameless(void)
{
	char path[64];

	CHECK(make_dir());
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	CHECK(fd >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	CHECK_EQ(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), 0);
	CHECK_EQ(unlink("named"), 0);
	CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "again", AT_SYMLINK_FOLLOW), ENOENT);
	close(fd);
	fd = open(".", O_TMPFILE | O_EXCL | O_RDWR, 0600);
	CHECK(fd >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), ENOENT);
	close(fd);
	fd = open("gone", O_CREAT | O_RDWR, 0600);
	CHECK_EQ(unlink("gone"), 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "back", AT_SYMLINK_FOLLOW), ENOENT);
	close(fd);
}

// A stream says no address, and doesn't touch the place for it.
static void test_stream_address(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof at, length = 99;
	char c;
	int l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0), v[2];

	CHECK_EQ(bind(l, (struct sockaddr *)&at, size), 0);
	CHECK_EQ(listen(l, 1), 0);
	CHECK_EQ(getsockname(l, (struct sockaddr *)&at, &size), 0);
	CHECK_EQ(connect(s, (struct sockaddr *)&at, size), 0);
	int a = accept(l, NULL, NULL);
	CHECK_EQ(send(a, "x", 1, 0), 1);
	CHECK_EQ(syscall(SYS_recvfrom, s, &c, 1, 0, -1L, &length), 1);
	CHECK_EQ(length, 0);
	close(a), close(s), close(l);
	CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, 0, v), EOPNOTSUPP);
	CHECK_ERR(socketpair(AF_INET, SOCK_DGRAM, IPPROTO_TCP, v), EPROTONOSUPPORT);
	CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, IPPROTO_ICMP, v), EPROTONOSUPPORT);
}

// Whoever reads a coarse clock with and without the vDSO sees no time go backwards.
static void test_coarse(void)
{
	static const clockid_t clocks[] = {CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};

	for (int i = 0; i < 2; i++) {
		struct timespec last = {0, 0}, now;

		for (int k = 0; k < 2000; k++) {
			CHECK_EQ(k % 2 ? clock_gettime(clocks[i], &now) : syscall(SYS_clock_gettime, clocks[i], &now), 0);
			CHECK(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec));
			last = now;
		}
	}
}

static volatile int *caught;

static void catch(int sig)
{
	(void)sig;
	++*caught;
}

static int state(pid_t pid)
{
	char path[32], line[512], *end;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, line, sizeof line - 1);
	close(fd);
	if (n <= 0)
		return 0;
	line[n] = 0;
	return (end = strrchr(line, ')')) ? end[2] : 0;
}

// Who was sent a signal doesn't look asleep until it has had it.
static void test_woken(void)
{
	caught = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	signal(SIGUSR1, catch);
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	for (int i = 0; i < 50; i++) {
		while (state(pid) != 'S')
			sched_yield();
		CHECK_EQ(*caught, i);
		CHECK_EQ(kill(pid, SIGUSR1), 0);
	}
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

static void test_entropy(void)
{
	int bits = -1, fd = open("/dev/urandom", O_RDWR);
	struct {
		int bits, size;
		char data[4];
	} more = {8, 4, "abc"};

	CHECK_EQ(ioctl(fd, RNDGETENTCNT, &bits), 0);
	CHECK(bits > 0 && bits <= 4096);
	CHECK_ERR(ioctl(fd, RNDGETENTCNT, 8), EFAULT);
	CHECK_ERR(ioctl(fd, 0x5401, &bits), EINVAL);
	if (geteuid() == 0) {
		CHECK_EQ(ioctl(fd, RNDADDENTROPY, &more), 0);
		more.bits = -1;
		CHECK_ERR(ioctl(fd, RNDADDENTROPY, &more), EINVAL);
	}
	close(fd);
}

// A set-group-id directory takes the bit from files that its group was to execute, before the umask has a word. For
// root, which may keep it, a child goes without the capability.
static void test_group(void)
{
	struct stat st;

	CHECK(make_dir());
	if (geteuid() != 0)
		return;
	CHECK_EQ(chmod(dir, 0755), 0);
	CHECK_EQ(mkdir("group", 0777), 0);
	CHECK_EQ(chown("group", 0, 4711), 0);
	CHECK_EQ(chmod("group", 02777), 0);
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		umask(010);
		_exit(setresgid(4712, 4712, 4712) || setresuid(4712, 4712, 4712) || close(open("group/f", O_CREAT | O_WRONLY, 02777)) ||
		      stat("group/f", &st) || st.st_gid != 4711 || (st.st_mode & 07777) != 0767);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

TESTS({"append", test_append}, {"group", test_group}, {"nowait", test_nowait}, {"nameless", test_nameless}, {"stream-address", test_stream_address},
      {"coarse", test_coarse}, {"woken", test_woken}, {"entropy", test_entropy})
