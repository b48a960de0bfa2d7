// Files of the root file system: what open(2) and its neighbours promise.
// Works in a directory of its own under /tmp.
#include "check.h"
#include <sys/wait.h>
#include <grp.h>
#include <dirent.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/uio.h>

static char *volatile bad = (char *)8;
static char dir[] = "/tmp/files.XXXXXX";

static int make_dir(void)
{
	static int made;

	if (!made && mkdtemp(dir) && chdir(dir) == 0)
		made = 1;
	return made;
}

static int put(const char *name, const char *data)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	ssize_t n = write(fd, data, strlen(data));

	return close(fd) == 0 && n == (ssize_t)strlen(data);
}

static int holds(const char *name, const char *data)
{
	char buffer[256];
	int fd = open(name, O_RDONLY);
	ssize_t n = read(fd, buffer, sizeof buffer);

	close(fd);
	return n == (ssize_t)strlen(data) && memcmp(buffer, data, n) == 0;
}

static void test_bad_arguments(void)
{
	char buffer[8];

	CHECK(make_dir());
	CHECK_ERR(open("missing", O_RDONLY), ENOENT);
	CHECK_ERR(open("", O_RDONLY), ENOENT);
	CHECK_ERR(open("missing/x", O_CREAT | O_RDWR, 0600), ENOENT);
	CHECK_ERR(syscall(SYS_open, bad, O_RDONLY), EFAULT);
	CHECK_ERR(open("/", O_RDWR), EISDIR);
	CHECK_ERR(open("/tmp", O_CREAT | O_WRONLY, 0600), EISDIR);
	CHECK(put("plain", "x"));
	CHECK_ERR(open("plain/x", O_RDONLY), ENOTDIR);
	CHECK_ERR(open("plain/", O_RDONLY), ENOTDIR);
	CHECK_ERR(open("plain", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_ERR(open("plain", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	char longer[NAME_MAX + 2];
	memset(longer, 'n', sizeof longer - 1);
	longer[sizeof longer - 1] = 0;
	CHECK_ERR(open(longer, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
	static char path[PATH_MAX + 10];
	for (int i = 0; i < PATH_MAX + 8; i += 2)
		memcpy(path + i, "./", 2);
	CHECK_ERR(open(path, O_RDONLY), ENAMETOOLONG);
	CHECK_ERR(read(-1, buffer, 1), EBADF);
	CHECK_ERR(read(1000, buffer, 1), EBADF);
	CHECK_ERR(close(1000), EBADF);
	CHECK_ERR(close(-1), EBADF);
	int r = open("plain", O_RDONLY), w = open("plain", O_WRONLY), d = open(".", O_RDONLY);
	CHECK(r >= 0 && w >= 0 && d >= 0);
	CHECK_ERR(write(r, "x", 1), EBADF);
	CHECK_ERR(read(w, buffer, 1), EBADF);
	CHECK_ERR(read(d, buffer, 1), EISDIR);
	CHECK_ERR(read(r, bad, 1), EFAULT);
	CHECK_ERR(write(w, bad, 1), EFAULT);
	CHECK_ERR(lseek(r, -1, SEEK_SET), EINVAL);
	CHECK_ERR(lseek(r, 0, 99), EINVAL);
	CHECK_ERR(pread(r, buffer, 1, -1), EINVAL);
	CHECK_ERR(ftruncate(r, 0), EINVAL);
	CHECK_ERR(ftruncate(w, -1), EINVAL);
	CHECK_ERR(fcntl(1000, F_GETFL), EBADF);
	CHECK_ERR(fcntl(r, 9999), EINVAL);
	CHECK_ERR(dup2(r, -1), EBADF);
	CHECK_ERR(dup2(r, 1 << 28), EBADF);
	CHECK_ERR(dup3(r, r, 0), EINVAL);
	CHECK_ERR(syscall(SYS_readv, r, NULL, -1), EINVAL);
	CHECK_ERR(syscall(SYS_readv, r, NULL, 2000), EINVAL);
	CHECK_ERR(rmdir("plain"), ENOTDIR);
	CHECK_ERR(unlink("missing"), ENOENT);
	CHECK_ERR(mkdir("plain", 0700), EEXIST);
	CHECK_ERR(mkdir("/", 0700), EEXIST);
	CHECK_ERR(rename("missing", "other"), ENOENT);
	CHECK_ERR(readlink("plain", buffer, 8), EINVAL);
	CHECK_ERR(access("missing", F_OK), ENOENT);
	CHECK_ERR(access("plain", 99), EINVAL);
	CHECK_ERR(chdir("plain"), ENOTDIR);
	CHECK_ERR(openat(1000, "x", O_RDONLY), EBADF);
	CHECK_ERR(openat(r, "x", O_RDONLY), ENOTDIR);
	CHECK_ERR(ioctl(r, 0x5401 /* TCGETS */, buffer), ENOTTY);
	close(r), close(w), close(d);
}

static void test_read_and_write(void)
{
	char buffer[64];

	CHECK(make_dir());
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0644);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "hello, world", 12), 12);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 12);
	CHECK_EQ(read(fd, buffer, 8), 0);
	CHECK_EQ(lseek(fd, 7, SEEK_SET), 7);
	CHECK_EQ(read(fd, buffer, 64), 5);
	CHECK(memcmp(buffer, "world", 5) == 0);
	CHECK_EQ(pwrite(fd, "HELLO", 5, 0), 5);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 12);
	CHECK_EQ(pread(fd, buffer, 8, 3), 8);
	CHECK(memcmp(buffer, "LO, worl", 8) == 0);
	CHECK_EQ(lseek(fd, -2, SEEK_END), 10);
	struct iovec v[3] = {{"AB", 2}, {NULL, 0}, {"CDE", 3}};
	CHECK_EQ(writev(fd, v, 3), 5);
	struct iovec r[2] = {{buffer, 4}, {buffer + 10, 20}};
	CHECK_EQ(preadv(fd, r, 2, 8), 7);
	CHECK(memcmp(buffer, "orAB", 4) == 0 && memcmp(buffer + 10, "CDE", 3) == 0);
	CHECK_EQ(lseek(fd, 100000, SEEK_SET), 100000); // a hole
	CHECK_EQ(write(fd, "end", 3), 3);
	CHECK_EQ(pread(fd, buffer, 4, 50000), 4);
	CHECK(memcmp(buffer, "\0\0\0\0", 4) == 0);
	struct stat st;
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, 100003);
	CHECK(S_ISREG(st.st_mode));
	CHECK_EQ(st.st_mode & 0777, 0644);
	CHECK_EQ(st.st_nlink, 1);
	CHECK(st.st_blksize >= 512);
	close(fd);
	CHECK(holds("f", "x") == 0);
}

static void test_partial_copies(void)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(make_dir());
	munmap(p + 4096, 4096);
	memset(p, 'p', 4096);
	int fd = open("partial", O_RDWR | O_CREAT, 0600);
	// Up to the hole; Linux may stop before it by a page's part, never behind.
	ssize_t n = write(fd, p + 4000, 500);
	CHECK(n == 96 || (n == -1 && errno == EFAULT));
	CHECK_EQ(ftruncate(fd, 5000), 0);
	CHECK_EQ(pread(fd, p + 4000, 500, 0), 96);
	struct iovec v[2] = {{p, 10}, {p + 4096, 10}};
	CHECK_EQ(preadv(fd, v, 2, 0), 10);
	close(fd);
	munmap(p, 4096);
}

static void test_truncate_and_append(void)
{
	CHECK(make_dir());
	CHECK(put("t", "0123456789"));
	CHECK_EQ(truncate("t", 4), 0);
	CHECK(holds("t", "0123"));
	int fd = open("t", O_WRONLY | O_APPEND);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	CHECK_EQ(write(fd, "ab", 2), 2);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 6);
	CHECK(holds("t", "0123ab"));
	CHECK_EQ(ftruncate(fd, 8), 0);
	close(fd);
	struct stat st;
	CHECK_EQ(stat("t", &st), 0);
	CHECK_EQ(st.st_size, 8);
	fd = open("t", O_WRONLY | O_TRUNC);
	close(fd);
	CHECK(holds("t", ""));
	// What is cut off doesn't come back.
	CHECK(put("t", "secret"));
	CHECK_EQ(truncate("t", 1), 0);
	CHECK_EQ(truncate("t", 6), 0);
	char buffer[6];
	fd = open("t", O_RDONLY);
	CHECK_EQ(read(fd, buffer, 6), 6);
	CHECK(memcmp(buffer, "s\0\0\0\0\0", 6) == 0);
	close(fd);
}

static void test_descriptors(void)
{
	CHECK(make_dir());
	CHECK(put("d", "abcdef"));
	int a = open("d", O_RDONLY), b = dup(a), c = open("d", O_RDONLY | O_CLOEXEC);
	char x;

	CHECK(b > a);
	CHECK_EQ(read(a, &x, 1), 1);
	CHECK_EQ(lseek(b, 0, SEEK_CUR), 1); // one offset
	CHECK_EQ(lseek(c, 0, SEEK_CUR), 0); // its own
	CHECK_EQ(fcntl(a, F_GETFD), 0);
	CHECK_EQ(fcntl(c, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(a, F_SETFD, FD_CLOEXEC), 0);
	CHECK_EQ(fcntl(b, F_GETFD), 0); // of the descriptor, not of the file
	CHECK_EQ(dup2(a, 77), 77);
	CHECK_EQ(fcntl(77, F_GETFD), 0);
	CHECK_EQ(dup3(a, 78, O_CLOEXEC), 78);
	CHECK_EQ(fcntl(78, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(dup2(a, a), a);
	CHECK_EQ(fcntl(a, F_DUPFD, 100), 100);
	CHECK_EQ(fcntl(a, F_DUPFD_CLOEXEC, 100), 101);
	CHECK_EQ(fcntl(101, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(a, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDONLY);
	CHECK_EQ(fcntl(a, F_SETFL, O_NONBLOCK | O_RDWR), 0);
	CHECK(fcntl(b, F_GETFL) & O_NONBLOCK);
	CHECK_EQ(fcntl(b, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(b);
	CHECK_EQ(open("d", O_RDONLY), b); // the lowest free one
	for (int fd = 70; fd < 110; fd++)
		close(fd);
	CHECK_EQ(syscall(SYS_close_range, 70, 110, 0), 0);
	close(a), close(b), close(c);
}

static void test_directories(void)
{
	char cwd[PATH_MAX], want[PATH_MAX];
	struct stat st;

	CHECK(make_dir());
	CHECK_EQ(mkdir("sub", 0750), 0);
	CHECK_EQ(stat("sub", &st), 0);
	CHECK(S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0750);
	CHECK(put("sub/one", "1") && put("sub/two", "2"));
	CHECK_EQ(mkdir("sub/three", 0700), 0);
	CHECK_ERR(rmdir("sub"), ENOTEMPTY);
	CHECK_ERR(unlink("sub"), EISDIR);
	CHECK_EQ(chdir("sub"), 0);
	snprintf(want, sizeof want, "%s/sub", dir);
	CHECK(getcwd(cwd, sizeof cwd) && strcmp(cwd, want) == 0);
	CHECK_ERR(syscall(SYS_getcwd, cwd, 3), ERANGE);
	CHECK(holds("../sub/./one", "1"));
	CHECK_EQ(chdir(".."), 0);
	int fd = open("sub", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0);
	int one = openat(fd, "one", O_RDONLY);
	CHECK(one >= 0);
	close(one);
	CHECK_EQ(fstatat(fd, "three", &st, 0), 0);
	CHECK_EQ(fchdir(fd), 0);
	CHECK_EQ(access("two", R_OK), 0);
	CHECK_EQ(chdir(dir), 0);
	DIR *d = fdopendir(fd);
	int seen = 0, others = 0;
	struct dirent *e;
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") && e->d_type == DT_DIR) seen |= 1;
		else if (!strcmp(e->d_name, "..") && e->d_type == DT_DIR) seen |= 2;
		else if (!strcmp(e->d_name, "one") && e->d_type == DT_REG) seen |= 4;
		else if (!strcmp(e->d_name, "two") && e->d_type == DT_REG) seen |= 8;
		else if (!strcmp(e->d_name, "three") && e->d_type == DT_DIR) seen |= 16;
		else others++;
	}
	CHECK_EQ(seen, 31);
	CHECK_EQ(others, 0);
	rewinddir(d);
	CHECK(readdir(d) != NULL);
	closedir(d);
	CHECK_EQ(unlinkat(AT_FDCWD, "sub/three", AT_REMOVEDIR), 0);
	CHECK_EQ(unlink("sub/one"), 0);
	CHECK_EQ(unlink("sub/two"), 0);
	CHECK_EQ(rmdir("sub"), 0);
	CHECK_ERR(stat("sub", &st), ENOENT);
}

static void test_many_entries(void)
{
	enum { n = 2000 };
	static char seen[n];
	char name[32];

	CHECK(make_dir());
	CHECK_EQ(mkdir("many", 0700), 0);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof name, "many/file-%d", i);
		int fd = open(name, O_CREAT | O_WRONLY, 0600);
		CHECK(fd >= 0);
		close(fd);
	}
	DIR *d = opendir("many");
	struct dirent *e;
	int i, count = 0;
	while ((e = readdir(d)))
		if (sscanf(e->d_name, "file-%d", &i) == 1 && i >= 0 && i < n && !seen[i]) {
			seen[i] = 1;
			count++;
			// Taking away what was listed loses none of the others.
			CHECK_EQ(unlinkat(dirfd(d), e->d_name, 0), 0);
		}
	CHECK_EQ(count, n);
	closedir(d);
	CHECK_EQ(rmdir("many"), 0);
}

static void test_links(void)
{
	struct stat a, b;
	char buffer[64];

	CHECK(make_dir());
	CHECK(put("original", "data"));
	CHECK_EQ(link("original", "hard"), 0);
	CHECK_EQ(stat("original", &a), 0);
	CHECK_EQ(stat("hard", &b), 0);
	CHECK(a.st_ino == b.st_ino && a.st_nlink == 2);
	CHECK_ERR(link("original", "hard"), EEXIST);
	CHECK_EQ(unlink("original"), 0);
	CHECK(holds("hard", "data"));
	CHECK_EQ(symlink("hard", "soft"), 0);
	CHECK_EQ(readlink("soft", buffer, sizeof buffer), 4);
	CHECK(memcmp(buffer, "hard", 4) == 0);
	CHECK_EQ(readlink("soft", buffer, 2), 2);
	CHECK(holds("soft", "data"));
	CHECK_EQ(lstat("soft", &a), 0);
	CHECK(S_ISLNK(a.st_mode) && a.st_size == 4);
	CHECK_ERR(open("soft", O_RDONLY | O_NOFOLLOW), ELOOP);
	CHECK_EQ(symlink("loop-b", "loop-a"), 0);
	CHECK_EQ(symlink("loop-a", "loop-b"), 0);
	CHECK_ERR(open("loop-a", O_RDONLY), ELOOP);
	CHECK_EQ(symlink("nowhere", "dangling"), 0);
	CHECK_ERR(open("dangling", O_RDONLY), ENOENT);
	CHECK_ERR(open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
	int fd = open("dangling", O_CREAT | O_WRONLY, 0600);
	CHECK(fd >= 0); // makes what the link names
	close(fd);
	CHECK_EQ(access("nowhere", F_OK), 0);
	CHECK_ERR(symlink("", "empty"), ENOENT);
	CHECK_EQ(symlink(dir, "folder"), 0);
	CHECK_EQ(mkdir("folder/inside", 0700), 0);
	CHECK_EQ(rmdir("inside"), 0);
}

// Who isn't in a directory's group can't make it set the group.
static void test_set_group(void)
{
	struct stat st;
	int status;

	if (geteuid() != 0)
		return; // on a host that doesn't let us
	CHECK(make_dir());
	CHECK_EQ(mkdir("group", 0700), 0);
	CHECK_EQ(chown("group", 12345, 54321), 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(chmod(".", 0777) != 0 || setgroups(0, NULL) != 0 || setgid(12345) != 0 || setuid(12345) != 0 || chmod("group", 02770) != 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(stat("group", &st), 0);
	CHECK_EQ(st.st_mode, S_IFDIR | 0770);
	CHECK_EQ(chmod("group", 02770), 0); // root may
	CHECK_EQ(stat("group", &st), 0);
	CHECK_EQ(st.st_mode, S_IFDIR | 02770);
}

static void test_rename(void)
{
	CHECK(make_dir());
	CHECK(put("from", "1") && put("to", "2"));
	CHECK_EQ(rename("from", "to"), 0);
	CHECK(holds("to", "1"));
	CHECK_ERR(access("from", F_OK), ENOENT);
	CHECK_EQ(rename("to", "to"), 0);
	CHECK_EQ(mkdir("rd", 0700), 0);
	CHECK_EQ(mkdir("rd/in", 0700), 0);
	CHECK_ERR(rename("rd", "rd/in/x"), EINVAL); // into itself
	CHECK_ERR(rename("to", "rd"), EISDIR);
	CHECK_ERR(rename("rd", "to"), ENOTDIR);
	CHECK_EQ(mkdir("empty", 0700), 0);
	CHECK_EQ(rename("rd", "empty"), 0); // over an empty one
	CHECK_EQ(access("empty/in", F_OK), 0);
	CHECK_EQ(mkdir("rd", 0700), 0);
	CHECK_ERR(rename("rd", "empty"), ENOTEMPTY);
	CHECK(put("x", "x") && put("y", "y"));
	CHECK_ERR(syscall(SYS_renameat2, AT_FDCWD, "x", AT_FDCWD, "y", 1 /* NOREPLACE */), EEXIST);
	CHECK_EQ(syscall(SYS_renameat2, AT_FDCWD, "x", AT_FDCWD, "y", 2 /* EXCHANGE */), 0);
	CHECK_ERR(syscall(SYS_renameat2, AT_FDCWD, "x", AT_FDCWD, "y", 6 /* EXCHANGE | WHITEOUT */), EINVAL);
	CHECK(holds("x", "y") && holds("y", "x"));
}

static void test_open_but_unlinked(void)
{
	char buffer[8];
	struct stat st;

	CHECK(make_dir());
	int fd = open("gone", O_RDWR | O_CREAT, 0600);
	CHECK_EQ(write(fd, "still", 5), 5);
	CHECK_EQ(unlink("gone"), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_nlink, 0);
	CHECK_EQ(pread(fd, buffer, 8, 0), 5);
	CHECK(memcmp(buffer, "still", 5) == 0);
	close(fd);
	fd = syscall(SYS_memfd_create, "m", 1);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "mem", 3), 3);
	CHECK_EQ(pread(fd, buffer, 8, 0), 3);
	close(fd);
}

static void test_modes_and_times(void)
{
	struct stat st;

	CHECK(make_dir());
	mode_t old = umask(027);
	CHECK_EQ(umask(027), 027);
	int fd = open("m", O_CREAT | O_WRONLY, 0666);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0640);
	umask(old);
	CHECK_EQ(fchmod(fd, 0604), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0604);
	struct timespec times[2] = {{1000000000, 5}, {1111111111, 999999999}};
	CHECK_EQ(utimensat(AT_FDCWD, "m", times, 0), 0);
	CHECK_EQ(stat("m", &st), 0);
	CHECK(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == 1111111111);
	CHECK_EQ(st.st_mtim.tv_nsec, 999999999);
	CHECK_EQ(write(fd, "x", 1), 1);
	CHECK_EQ(stat("m", &st), 0);
	CHECK(st.st_mtim.tv_sec > 1111111111);
	times[0].tv_nsec = times[1].tv_nsec = UTIME_OMIT;
	CHECK_EQ(utimensat(AT_FDCWD, "m", times, 0), 0);
	times[0].tv_nsec = 2000000000;
	CHECK_ERR(utimensat(AT_FDCWD, "m", times, 0), EINVAL);
	if (getuid() == 0)
		CHECK_EQ(chown("m", 12, 34), 0);
	struct statfs sf;
	CHECK_EQ(statfs("m", &sf), 0);
	CHECK(sf.f_bsize > 0 && sf.f_namelen >= 255);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(fdatasync(fd), 0);
	sync();
	close(fd);
	// statx fills what stat fills.
	uint32_t sx[64];
	CHECK_EQ(syscall(SYS_statx, AT_FDCWD, "m", 0, 0x7ff, sx), 0);
	CHECK_EQ(sx[7] & 0xffff, S_IFREG | 0604); // stx_mode at 28
	CHECK_EQ(*(uint64_t *)(sx + 10), 1);      // stx_size at 40
}

static void test_mapped_file(void)
{
	CHECK(make_dir());
	int fd = open("mapped", O_RDWR | O_CREAT, 0600);
	CHECK_EQ(ftruncate(fd, 3 * 4096), 0);
	char *s = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char c;
	CHECK(s != MAP_FAILED && p != MAP_FAILED);
	s[5000] = 'S';
	CHECK_EQ(pread(fd, &c, 1, 5000), 1);
	CHECK_EQ(c, 'S');
	CHECK_EQ(p[5000], 'S');
	p[5000] = 'P';
	CHECK(s[5000] == 'S');
	CHECK_EQ(pwrite(fd, "W", 1, 9000), 1);
	CHECK(s[9000] == 'W' && p[9000] == 'W');
	CHECK_EQ(msync(s, 3 * 4096, MS_SYNC), 0);
	CHECK_EQ(munmap(p, 3 * 4096), 0);
	char *second = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
	CHECK_EQ(second[5000 - 4096], 'S');
	close(fd); // the mapping stays
	CHECK_EQ(s[9000], 'W');
	CHECK_EQ(unlink("mapped"), 0);
	CHECK_EQ(s[9000], 'W');
	munmap(s, 3 * 4096), munmap(second, 4096);
	fd = open("plain2", O_RDONLY | O_CREAT, 0600);
	CHECK_ERR((long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
	CHECK_ERR((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 100), EINVAL);
	close(fd);
	CHECK_ERR((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0), EBADF);
}

static void test_copies_between_files(void)
{
	CHECK(make_dir());
	CHECK(put("source", "0123456789"));
	int in = open("source", O_RDONLY), out = open("target", O_RDWR | O_CREAT | O_TRUNC, 0600);
	off_t at = 3;
	CHECK_EQ(sendfile(out, in, &at, 4), 4);
	CHECK_EQ(at, 7);
	CHECK(holds("target", "3456"));
	CHECK_EQ(sendfile(out, in, NULL, 100), 10);
	loff_t from = 0, to = 0;
	CHECK_EQ(syscall(SYS_copy_file_range, in, &from, out, &to, 2, 0), 2);
	char buffer[3] = {0};
	CHECK_EQ(pread(out, buffer, 2, 0), 2);
	CHECK(strcmp(buffer, "01") == 0);
	CHECK_EQ(flock(out, LOCK_EX | LOCK_NB), 0);
	CHECK_EQ(flock(out, LOCK_UN), 0);
	CHECK_EQ(posix_fallocate(out, 0, 10000), 0);
	CHECK_EQ(lseek(out, 0, SEEK_END), 10000);
	close(in), close(out);
}

static void test_large_file(void)
{
	static char block[65536];
	uint64_t sum = 0;

	CHECK(make_dir());
	int fd = open("large", O_RDWR | O_CREAT, 0600);
	for (int i = 0; i < 128; i++) { // 8 MB
		for (unsigned j = 0; j < sizeof block; j += 512)
			block[j] = (char)(i + j / 512);
		CHECK_EQ(write(fd, block, sizeof block), sizeof block);
	}
	lseek(fd, 0, SEEK_SET);
	for (int i = 0; i < 128; i++) {
		CHECK_EQ(read(fd, block, sizeof block), sizeof block);
		for (unsigned j = 0; j < sizeof block; j += 512)
			sum += (unsigned char)(block[j] - i - j / 512);
	}
	CHECK_EQ(sum, 0);
	close(fd);
	CHECK_EQ(unlink("large"), 0);
}

static void test_clean(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && unlinkat(dirfd(d), e->d_name, 0) != 0) {
			char inner[600];
			snprintf(inner, sizeof inner, "%s/in", e->d_name);
			unlinkat(dirfd(d), inner, AT_REMOVEDIR);
			unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
		}
	closedir(d);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(rmdir(dir), 0);
}

TESTS({"set-group", test_set_group}, {"bad-arguments", test_bad_arguments}, {"read-and-write", test_read_and_write},
      {"partial-copies", test_partial_copies}, {"truncate-and-append", test_truncate_and_append},
      {"descriptors", test_descriptors}, {"directories", test_directories},
      {"many-entries", test_many_entries}, {"links", test_links}, {"rename", test_rename},
      {"open-but-unlinked", test_open_but_unlinked}, {"modes-and-times", test_modes_and_times},
      {"mapped-file", test_mapped_file}, {"copies-between-files", test_copies_between_files},
      {"large-file", test_large_file}, {"clean", test_clean})
