// Files that are larger than the memory: what is kept of them makes room for what is needed. The working
// directory is on a file system with a disk behind it.
#include "check.h"
#include <sys/wait.h>

enum { PAGE = 4096, BIG = 48 << 20, ROOM = 12 << 20 };

static unsigned char value(size_t page, int round)
{
	return page * 7 + page / 251 + round;
}

// fill writes the big file, with a byte of its own at the beginning of each page.
static int fill(const char *name)
{
	static char piece[1 << 20];
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (size_t at = 0; at < BIG; at += sizeof piece) {
		for (size_t i = 0; i < sizeof piece; i += PAGE)
			piece[i] = value((at + i) / PAGE, 0);
		if (write(fd, piece, sizeof piece) != sizeof piece)
			return -1;
	}
	return fd;
}

static void test_read(void)
{
	static char piece[1 << 20];
	int fd = fill("big");

	CHECK(fd >= 0);
	for (int round = 0; round < 2; round++) {
		CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
		for (size_t at = 0; at < BIG; at += sizeof piece) {
			CHECK_EQ(read(fd, piece, sizeof piece), sizeof piece);
			for (size_t i = 0; i < sizeof piece; i += PAGE)
				CHECK_EQ((unsigned char)piece[i], value((at + i) / PAGE, 0));
		}
	}
	close(fd);
}

static void test_map(void)
{
	int fd = open("big", O_RDWR);

	CHECK(fd >= 0);
	for (int flags = MAP_SHARED; flags <= MAP_PRIVATE; flags++) {
		unsigned char *p = mmap(NULL, BIG, PROT_READ, flags, fd, 0);
		CHECK(p != MAP_FAILED);
		for (size_t i = 0; i < BIG; i += PAGE)
			CHECK_EQ(p[i], value(i / PAGE, 0));
		CHECK_EQ(munmap(p, BIG), 0);
	}
	close(fd);
}

static void test_map_and_write(void)
{
	int fd = open("big", O_RDWR);
	unsigned char *p = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < BIG; i += PAGE)
		p[i] = value(i / PAGE, 1);
	for (size_t i = 0; i < BIG; i += 64 * PAGE) {
		unsigned char c;
		CHECK_EQ(pread(fd, &c, 1, i), 1);
		CHECK_EQ(c, value(i / PAGE, 1));
	}
	for (size_t i = 0; i < BIG; i += PAGE)
		CHECK_EQ(p[i], value(i / PAGE, 1));
	CHECK_EQ(munmap(p, BIG), 0);
	CHECK_EQ(fsync(fd), 0);
	close(fd);
}

// Memory of the program's own is more important than what is kept of files.
static void test_anonymous(void)
{
	int fd = open("big", O_RDONLY), status;
	static char piece[1 << 16];

	while (read(fd, piece, sizeof piece) > 0)
		;
	unsigned char *p = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < ROOM; i += PAGE)
		p[i] = i / PAGE;
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	while (read(fd, piece, sizeof piece) > 0)
		;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		for (size_t i = 0; i < ROOM / 4; i += PAGE)
			p[i]++;
		_exit(p[PAGE] != 2);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	for (size_t i = 0; i < ROOM; i += PAGE)
		CHECK_EQ(p[i], (unsigned char)(i / PAGE));
	munmap(p, ROOM);
	close(fd);
	unlink("big");
}

TESTS({"read", test_read}, {"map", test_map}, {"map-and-write", test_map_and_write}, {"anonymous", test_anonymous})
