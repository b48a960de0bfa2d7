// The device nodes that are always there.
#include "check.h"
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

static void test_null(void)
{
	char c;
	int fd = open("/dev/null", O_RDWR);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "xyz", 3), 3);
	CHECK_EQ(read(fd, &c, 1), 0);
	CHECK_ERR(ioctl(fd, 0x5401, &c), ENOTTY);
	struct stat st;
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK(S_ISCHR(st.st_mode));
	CHECK_EQ(major(st.st_rdev), 1);
	CHECK_EQ(minor(st.st_rdev), 3);
	close(fd);
	fd = open("/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0666);
	CHECK(fd >= 0);
	close(fd);
}

static void test_zero(void)
{
	char buffer[10000];
	int fd = open("/dev/zero", O_RDWR);

	memset(buffer, 1, sizeof buffer);
	CHECK_EQ(read(fd, buffer, sizeof buffer), sizeof buffer);
	for (unsigned i = 0; i < sizeof buffer; i++)
		CHECK(buffer[i] == 0);
	CHECK_EQ(write(fd, buffer, 100), 100);
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(p[5000], 0);
	p[5000] = 1;
	munmap(p, 8192);
	close(fd);
}

static void test_full(void)
{
	char c = 1;
	int fd = open("/dev/full", O_RDWR);

	CHECK_ERR(write(fd, "x", 1), ENOSPC);
	CHECK_EQ(read(fd, &c, 1), 1);
	CHECK_EQ(c, 0);
	c = 1;
	struct iovec v = {&c, 1};
	CHECK_EQ(pread(fd, &c, 1, 1LL << 60), 1);
	CHECK_EQ(c, 0);
	CHECK_EQ(preadv(fd, &v, 1, 5000), 1);
	CHECK_ERR(pwrite(fd, &c, 1, 5000), ENOSPC);
	close(fd);
}

static void test_random(void)
{
	static const char *names[] = {"/dev/random", "/dev/urandom"};
	unsigned char a[64], b[64];

	for (int i = 0; i < 2; i++) {
		int fd = open(names[i], O_RDWR);
		int bits = 0;
		CHECK(fd >= 0);
		CHECK_EQ(read(fd, a, 64), 64);
		CHECK_EQ(read(fd, b, 64), 64);
		CHECK(memcmp(a, b, 64) != 0);
		for (int j = 0; j < 64; j++)
			bits += __builtin_popcount(a[j]);
		CHECK(bits > 150 && bits < 362);
		CHECK_EQ(write(fd, a, 64), 64);
		close(fd);
	}
	CHECK_EQ(syscall(SYS_getrandom, a, 64, 0), 64);
	CHECK_EQ(syscall(SYS_getrandom, b, 64, 2), 64);
	CHECK(memcmp(a, b, 64) != 0);
	CHECK_ERR(syscall(SYS_getrandom, a, 64, 64), EINVAL);
	CHECK_ERR(syscall(SYS_getrandom, 8, 64, 0), EFAULT);
	CHECK_EQ(syscall(SYS_getrandom, a, 0, 0), 0);
}

static void test_nodes(void)
{
	static const struct {
		const char *name;
		unsigned major, minor;
	} nodes[] = {{"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/random", 1, 8},
		     {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
	struct stat st;

	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++) {
		CHECK_EQ(stat(nodes[i].name, &st), 0);
		CHECK(S_ISCHR(st.st_mode));
		CHECK_EQ(st.st_rdev, makedev(nodes[i].major, nodes[i].minor));
	}
	CHECK_EQ(stat("/dev", &st), 0);
	CHECK(S_ISDIR(st.st_mode));
	CHECK_EQ(stat("/tmp", &st), 0);
	CHECK_EQ(st.st_mode & 07777, 01777);
}

static void test_own_executable(void)
{
	char name[PATH_MAX], magic[4];
	ssize_t n = readlink("/proc/self/exe", name, sizeof name - 1);

	CHECK(n > 0);
	name[n] = 0;
	CHECK_EQ(name[0], '/');
	CHECK(strstr(name, "devices") != NULL);
	for (int i = 0; i < 2; i++) {
		int fd = open(i ? name : "/proc/self/exe", O_RDONLY);
		CHECK(fd >= 0);
		CHECK_EQ(read(fd, magic, 4), 4);
		CHECK(memcmp(magic, "\177ELF", 4) == 0);
		close(fd);
	}
}

TESTS({"null", test_null}, {"zero", test_zero}, {"full", test_full}, {"random", test_random},
      {"nodes", test_nodes}, {"own-executable", test_own_executable})
