// Files as a program finds them on a disk of its own: sparse and large ones, many in a directory, ones without a
// name, extended attributes. Runs in its working directory, and leaves nothing there.
#include "check.h"
#include <dirent.h>
#include <sys/wait.h>
#include <sys/xattr.h>

enum { PAGE = 4096 };

// nameless returns a file of size bytes whose name is gone.
static int nameless(off_t size)
{
	char name[] = "nameless.XXXXXX";
	int fd = mkstemp(name);

	if (fd < 0 || unlink(name) || ftruncate(fd, size))
		return -1;
	return fd;
}

static void test_nameless_and_mapped(void)
{
	int flags[] = { MAP_PRIVATE, MAP_SHARED };

	for (int i = 0; i < 2; i++) {
		int fd = nameless(20 * PAGE), from = open("/dev/zero", O_RDONLY);
		CHECK(fd >= 0 && from >= 0);
		char *p = mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, flags[i], fd, 0);
		CHECK(p != MAP_FAILED);
		CHECK_EQ(p[19 * PAGE + 5], 0);
		memset(p, 'x', PAGE);
		CHECK_EQ(read(from, p + 3 * PAGE, 4 * PAGE), 4 * PAGE);
		CHECK_EQ(pread(fd, p + 10 * PAGE, PAGE, 0), PAGE);
		CHECK_EQ(p[10 * PAGE], flags[i] == MAP_SHARED ? 'x' : 0);
		struct stat st;
		CHECK_EQ(fstat(fd, &st), 0);
		CHECK_EQ(st.st_size, 20 * PAGE);
		CHECK_EQ(st.st_nlink, 0);
		CHECK_EQ(munmap(p, 20 * PAGE), 0);
		char c = 'y';
		CHECK_EQ(pread(fd, &c, 1, 0), 1);
		CHECK_EQ(c, flags[i] == MAP_SHARED ? 'x' : 0);
		CHECK_EQ(pread(fd, &c, 1, 20 * PAGE), 0);
		close(fd);
		close(from);
	}
}

static void test_nameless_resized(void)
{
	int fd = nameless(0);
	char buffer[3 * PAGE], zeros[3 * PAGE] = { 0 };

	CHECK(fd >= 0);
	memset(buffer, 'a', sizeof buffer);
	CHECK_EQ(pwrite(fd, buffer, sizeof buffer, 0), sizeof buffer);
	CHECK_EQ(ftruncate(fd, 10), 0);
	CHECK_EQ(pread(fd, buffer, sizeof buffer, 0), 10);
	CHECK_EQ(ftruncate(fd, 2 * PAGE + 1), 0);
	CHECK_EQ(pread(fd, buffer, sizeof buffer, 0), 2 * PAGE + 1);
	CHECK(memcmp(buffer, "aaaaaaaaaa", 10) == 0);
	CHECK(memcmp(buffer + 10, zeros, 2 * PAGE + 1 - 10) == 0);
	CHECK_EQ(pwrite(fd, "end", 3, 5 * PAGE), 3);
	CHECK_EQ(pread(fd, buffer, PAGE, 4 * PAGE), PAGE);
	CHECK(memcmp(buffer, zeros, PAGE) == 0);
	close(fd);
}

static void test_sparse(void)
{
	const off_t size = 3LL << 30;
	int fd = open("sparse", O_RDWR | O_CREAT | O_EXCL, 0600);
	char c = 'x';
	struct stat st;

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, size), 0);
	CHECK_EQ(pwrite(fd, "middle", 6, size / 2 + 1), 6);
	CHECK_EQ(pwrite(fd, "end", 3, size - 3), 3);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, size);
	CHECK(st.st_blocks < 4096);
	CHECK_EQ(pread(fd, &c, 1, size / 3), 1);
	CHECK_EQ(c, 0);
	CHECK_EQ(pread(fd, &c, 1, size / 2 + 2), 1);
	CHECK_EQ(c, 'i');
	CHECK_EQ(pread(fd, &c, 1, size), 0);
	char *p = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK(memcmp(p + size - 3, "end", 3) == 0);
	CHECK(memcmp(p + size / 2 + 1, "middle", 6) == 0);
	CHECK_EQ(p[PAGE], 0);
	munmap(p, size);
	CHECK_EQ(lseek(fd, -2, SEEK_END), size - 2);
	CHECK_EQ(read(fd, &c, 1), 1);
	CHECK_EQ(c, 'n');
	CHECK_EQ(ftruncate(fd, 5), 0);
	CHECK_EQ(ftruncate(fd, size), 0);
	CHECK_EQ(pread(fd, &c, 1, size - 3), 1);
	CHECK_EQ(c, 0);
	close(fd);
	CHECK_EQ(unlink("sparse"), 0);
}

static void test_many_files(void)
{
	enum { FILES = 10000 };
	static unsigned char seen[FILES];
	char name[64];
	struct stat st;
	int removed = 0;

	CHECK_EQ(mkdir("many", 0700), 0);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "many/a-name-of-some-length-%d", i);
		int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
		CHECK(fd >= 0);
		CHECK_EQ(close(fd), 0);
	}
	for (int i = 0; i < FILES; i += 7) {
		snprintf(name, sizeof name, "many/a-name-of-some-length-%d", i);
		CHECK_EQ(stat(name, &st), 0);
		CHECK_EQ(st.st_size, 0);
	}
	// As rm -r does: names go while the directory is read.
	DIR *d = opendir("many");
	CHECK(d != NULL);
	for (struct dirent *e; (e = readdir(d));) {
		int i;
		if (sscanf(e->d_name, "a-name-of-some-length-%d", &i) != 1)
			continue;
		CHECK(i >= 0 && i < FILES && !seen[i]);
		seen[i] = 1;
		CHECK_EQ(unlinkat(dirfd(d), e->d_name, 0), 0);
		removed++;
	}
	closedir(d);
	CHECK_EQ(removed, FILES);
	CHECK_EQ(rmdir("many"), 0);
}

static void test_attributes(void)
{
	int fd = open("attributed", O_RDWR | O_CREAT | O_EXCL, 0600);
	char value[5000], got[5000], list[256];

	CHECK(fd >= 0);
	memset(value, 'v', sizeof value);
	if (fsetxattr(fd, "user.first", "1", 1, 0) < 0 && errno == EOPNOTSUPP)
		goto end; // and nothing else is to be had
	CHECK_EQ(getxattr("attributed", "user.first", got, sizeof got), 1);
	CHECK_EQ(getxattr("attributed", "user.first", NULL, 0), 1);
	CHECK_EQ(setxattr("attributed", "user.long", value, 2000, XATTR_CREATE), 0);
	CHECK_ERR(setxattr("attributed", "user.long", value, 2000, XATTR_CREATE), EEXIST);
	CHECK_ERR(setxattr("attributed", "user.none", value, 1, XATTR_REPLACE), ENODATA);
	CHECK_ERR(getxattr("attributed", "user.none", got, sizeof got), ENODATA);
	CHECK_ERR(getxattr("attributed", "user.long", got, 10), ERANGE);
	CHECK_EQ(getxattr("attributed", "user.long", got, sizeof got), 2000);
	CHECK(memcmp(got, value, 2000) == 0);
	CHECK_EQ(fsetxattr(fd, "user.third", value, 100, 0), 0);
	ssize_t n = listxattr("attributed", list, sizeof list);
	int found = 0;
	for (char *p = list; p < list + n; p += strlen(p) + 1)
		found += !strcmp(p, "user.first") || !strcmp(p, "user.long") || !strcmp(p, "user.third");
	CHECK_EQ(found, 3);
	CHECK_EQ(removexattr("attributed", "user.long"), 0);
	CHECK_ERR(removexattr("attributed", "user.long"), ENODATA);
	CHECK_ERR(fgetxattr(fd, "user.long", got, sizeof got), ENODATA);
	CHECK_EQ(mkdir("attributed.d", 0700), 0);
	CHECK_EQ(setxattr("attributed.d", "user.dir", "yes", 3, 0), 0);
	CHECK_EQ(getxattr("attributed.d", "user.dir", got, sizeof got), 3);
	CHECK_EQ(rmdir("attributed.d"), 0);
end:
	close(fd);
	CHECK_EQ(unlink("attributed"), 0);
}

TESTS({"nameless-and-mapped", test_nameless_and_mapped}, {"nameless-resized", test_nameless_resized},
      {"sparse", test_sparse}, {"many-files", test_many_files}, {"attributes", test_attributes})
