// Binding, moving and propagation of mounts. Needs privileges, and works in a file system of its own.
#include "check.h"
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

static char dir[] = "/tmp/mounts.XXXXXX";

// fresh makes dir an empty tmpfs, private, and goes there.
static int fresh(void)
{
	static int made;

	if (!made && !mkdtemp(dir))
		return -1;
	made = 1;
	mkdir(dir, 0700); // the last of the tests that share it takes it away
	if (chdir("/") || mount("none", dir, "tmpfs", 0, NULL) || mount(NULL, dir, NULL, MS_PRIVATE, NULL))
		return -1;
	return chdir(dir) || mkdir("a", 0755) || mkdir("b", 0755) || mkdir("c", 0755);
}

static int stale(void)
{
	return chdir("/") || umount2(dir, MNT_DETACH);
}

static int tmpfs_with_file(const char *at, const char *file)
{
	if (mount("none", at, "tmpfs", 0, NULL))
		return -1;
	return close(open(file, O_CREAT | O_WRONLY, 0644));
}

static void test_bind(void)
{
	CHECK_EQ(fresh(), 0);
	CHECK_EQ(tmpfs_with_file("a", "a/f"), 0);
	CHECK_EQ(mkdir("a/sub", 0755), 0);
	CHECK_EQ(tmpfs_with_file("a/sub", "a/sub/inner"), 0);
	CHECK_EQ(mkdir("a/sub/deep", 0755), 0);
	CHECK_EQ(tmpfs_with_file("a/sub/deep", "a/sub/deep/innermost"), 0);
	CHECK_EQ(mount("a", "b", NULL, MS_BIND, NULL), 0);
	CHECK_EQ(access("b/f", F_OK), 0);
	CHECK_ERR(access("b/sub/inner", F_OK), ENOENT);
	CHECK_EQ(mount("a", "c", NULL, MS_BIND | MS_REC, NULL), 0);
	CHECK_EQ(access("c/f", F_OK), 0);
	CHECK_EQ(access("c/sub/inner", F_OK), 0);
	CHECK_EQ(access("c/sub/deep/innermost", F_OK), 0);
	// One of a folder has what is mounted in that.
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(mount("a/sub", "d", NULL, MS_BIND | MS_REC, NULL), 0);
	CHECK_EQ(access("d/deep/innermost", F_OK), 0);
	CHECK_ERR(umount2("d", 0), EBUSY);
	CHECK_EQ(umount2("d/deep", 0), 0);
	CHECK_EQ(umount2("d", 0), 0);
	CHECK_EQ(access("a/sub/deep/innermost", F_OK), 0);
	CHECK_EQ(stale(), 0);
}

static void test_move(void)
{
	CHECK_EQ(fresh(), 0);
	CHECK_EQ(tmpfs_with_file("a", "a/f"), 0);
	CHECK_EQ(mkdir("a/sub", 0755), 0);
	CHECK_EQ(tmpfs_with_file("a/sub", "a/sub/inner"), 0);
	CHECK_EQ(close(open("file", O_CREAT | O_WRONLY, 0644)), 0);
	CHECK_ERR(mount("b", "c", NULL, MS_MOVE, NULL), EINVAL);
	CHECK_ERR(mount("a", "a/sub", NULL, MS_MOVE, NULL), ELOOP);
	CHECK_ERR(mount("none", "c", NULL, MS_MOVE, NULL), ENOENT);
	CHECK_ERR(mount("a", "file", NULL, MS_MOVE, NULL), EINVAL);
	CHECK_EQ(mount("a", "b", NULL, MS_MOVE, NULL), 0);
	CHECK_ERR(access("a/f", F_OK), ENOENT);
	CHECK_EQ(access("b/f", F_OK), 0);
	CHECK_EQ(access("b/sub/inner", F_OK), 0);
	CHECK_EQ(mount("b/sub", "c", NULL, MS_MOVE, NULL), 0);
	CHECK_EQ(access("c/inner", F_OK), 0);
	CHECK_ERR(access("b/sub/inner", F_OK), ENOENT);
	CHECK_EQ(umount2("b", 0), 0);
	CHECK_EQ(access("c/inner", F_OK), 0);
	CHECK_EQ(stale(), 0);
}

static int listed(const char *what)
{
	static char text[64 << 10];
	int fd = open("/proc/self/mountinfo", O_RDONLY), n = 0, k;

	while ((k = read(fd, text + n, sizeof text - 1 - n)) > 0)
		n += k;
	text[n] = 0;
	close(fd);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (strstr(line, dir) && strstr(line, what))
			return 1;
	return 0;
}

static void test_propagation(void)
{
	CHECK_EQ(fresh(), 0);
	CHECK_EQ(tmpfs_with_file("a", "a/f"), 0);
	CHECK_ERR(mount(NULL, "b", NULL, MS_PRIVATE, NULL), EINVAL);
	CHECK_ERR(mount(NULL, "a", NULL, MS_PRIVATE | MS_SLAVE, NULL), EINVAL);
	CHECK_ERR(mount(NULL, "a", NULL, MS_PRIVATE | MS_NOSUID, NULL), EINVAL);
	CHECK_ERR(mount(NULL, "missing", NULL, MS_PRIVATE, NULL), ENOENT);
	CHECK_EQ(mount(NULL, dir, NULL, MS_PRIVATE | MS_REC, NULL), 0);
	CHECK_EQ(mount(NULL, "a", NULL, MS_SLAVE | MS_SILENT, NULL), 0);
	CHECK(!listed("unbindable") && !listed("shared:"));
	CHECK_EQ(mount(NULL, "a", NULL, MS_UNBINDABLE, NULL), 0);
	CHECK(listed("/a rw,relatime unbindable - tmpfs"));
	CHECK_ERR(mount("a", "b", NULL, MS_BIND, NULL), EINVAL);
	// It is left out of what is bound with all in it.
	CHECK_EQ(mount(dir, "c", NULL, MS_BIND | MS_REC, NULL), 0);
	CHECK_ERR(access("c/a/f", F_OK), ENOENT);
	CHECK_EQ(umount2("c", MNT_DETACH), 0);
	CHECK_EQ(mount(NULL, dir, NULL, MS_PRIVATE | MS_REC, NULL), 0);
	CHECK_EQ(mount("a", "b", NULL, MS_BIND, NULL), 0);
	CHECK_EQ(access("b/f", F_OK), 0);
	CHECK_EQ(stale(), 0);
	CHECK_EQ(rmdir(dir), 0);
}

// What lists mounts is ready with an error, once, when they have changed.
static void test_poll(void)
{
	static const char *const files[] = {"/proc/self/mountinfo", "/proc/mounts"};
	struct epoll_event e = {.events = EPOLLPRI}, got;
	struct timeval now = {0, 0};
	fd_set in, except;
	int status;
	pid_t pid;

	CHECK_EQ(fresh(), 0);
	for (int i = 0; i < 2; i++) {
		int fd = open(files[i], O_RDONLY), other = open(files[i], O_RDONLY), ep = epoll_create1(0);
		struct pollfd p = {.fd = fd, .events = POLLIN | POLLPRI};
		CHECK(fd >= 0 && other >= 0 && ep >= 0);
		CHECK_EQ(poll(&p, 1, 0), 1);
		CHECK_EQ(p.revents, POLLIN);
		CHECK_EQ(mount("none", "a", "tmpfs", 0, NULL), 0);
		CHECK_EQ(poll(&p, 1, 0), 1);
		CHECK_EQ(p.revents, POLLIN | POLLPRI | POLLERR);
		CHECK_EQ(poll(&p, 1, 0), 1);
		CHECK_EQ(p.revents, POLLIN);
		FD_ZERO(&in);
		FD_ZERO(&except);
		FD_SET(other, &in);
		FD_SET(other, &except);
		CHECK_EQ(select(other + 1, &in, NULL, &except, &now), 2);
		FD_SET(other, &except);
		CHECK_EQ(select(other + 1, NULL, NULL, &except, &now), 0);

		// Waiting for it; without interest in anything the error counts still.
		p.events = 0;
		CHECK((pid = fork()) >= 0);
		if (pid == 0)
			_exit(umount("a"));
		CHECK_EQ(poll(&p, 1, -1), 1);
		CHECK_EQ(p.revents, POLLERR);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		CHECK_EQ(poll(&p, 1, 0), 0);

		CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), 0);
		CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
		CHECK((pid = fork()) >= 0);
		if (pid == 0)
			_exit(mount("none", "b", "tmpfs", 0, NULL));
		CHECK_EQ(epoll_wait(ep, &got, 1, -1), 1);
		CHECK_EQ(got.events, EPOLLERR | EPOLLPRI);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
		CHECK_EQ(umount("b"), 0);
		CHECK_EQ(epoll_wait(ep, &got, 1, -1), 1);
		CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
		close(fd);
		close(other);
		close(ep);
	}
	CHECK_EQ(stale(), 0);
}

// What ran from a mount doesn't keep it busy once it has ended.
static void test_ended(void)
{
	static char program[1 << 16];
	int from = open("/proc/self/exe", O_RDONLY), to, status;
	ssize_t n;

	CHECK_EQ(fresh(), 0);
	CHECK_EQ(mount("none", "a", "tmpfs", 0, NULL), 0);
	to = open("a/program", O_CREAT | O_WRONLY, 0755);
	CHECK(from >= 0 && to >= 0);
	while ((n = read(from, program, sizeof program)) > 0)
		CHECK_EQ(write(to, program, n), n);
	close(from);
	close(to);
	for (int i = 0; i < 3; i++) {
		pid_t child = fork();
		if (child == 0) {
			execl("a/program", "program", "none-of-its-tests", NULL);
			_exit(1);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFEXITED(status));
	}
	CHECK_EQ(umount2("a", 0), 0);
	CHECK_EQ(stale(), 0);
}

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

// MS_NOSYMFOLLOW: links can be made and read, and lead nowhere. Nothing is mounted on the links of /proc/PID/fd.
static void test_links(void)
{
	char path[32], target[8];
	struct statvfs v;

	CHECK_EQ(fresh(), 0);
	CHECK_EQ(mount("none", "a", "tmpfs", MS_NOSYMFOLLOW, NULL), 0);
	CHECK_EQ(close(open("a/file", O_CREAT | O_WRONLY, 0644)), 0);
	CHECK_EQ(symlink("file", "a/link"), 0);
	CHECK_EQ(readlink("a/link", target, sizeof target), 4);
	CHECK_ERR(open("a/link", O_RDONLY), ELOOP);
	CHECK_EQ(statvfs("a", &v), 0);
	CHECK(v.f_flag & 0x2000);
	CHECK_EQ(mount(NULL, "a", NULL, MS_REMOUNT, NULL), 0);
	CHECK_EQ(close(open("a/link", O_RDONLY)), 0);

	int fd = open("a/file", O_RDONLY);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int link = open(path, O_PATH | O_NOFOLLOW);
	CHECK(link >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", link);
	CHECK_ERR(mount("a/file", path, NULL, MS_BIND, NULL), ENOENT);
	close(link), close(fd);
	CHECK_EQ(stale(), 0);
}

// A mount is busy by what was opened through it, and not by what another mount of the same files has open.
static void test_busy(void)
{
	CHECK_EQ(fresh(), 0);
	CHECK_EQ(mount("a", "b", NULL, MS_BIND, NULL), 0);
	int fd = open("a/file", O_CREAT | O_RDWR, 0600);
	CHECK_EQ(access("b/file", F_OK), 0);
	CHECK_EQ(umount("b"), 0);
	CHECK_EQ(mount("a", "b", NULL, MS_BIND, NULL), 0);
	CHECK_EQ(chdir("b"), 0);
	CHECK_ERR(umount("../b"), EBUSY);
	CHECK_EQ(chdir(".."), 0);
	CHECK_EQ(umount("b"), 0);
	close(fd);
	CHECK_EQ(stale(), 0);
}

static int pivot_root(const char *to, const char *put) { return (int)syscall(SYS_pivot_root, to, put); }

// In a mount namespace of its own where there are such, and there and back again where there is but one.
static void test_pivot_root(void)
{
	char back[64], cwd[64];
	int ends[2];

	// What takes the directory away, from the tree that it stands in.
	CHECK_EQ(pipe(ends), 0);
	if (fork() == 0) {
		close(ends[1]);
		_exit(read(ends[0], back, 1) == 0 && rmdir(dir));
	}
	if (unshare(CLONE_NEWNS) == 0)
		CHECK_EQ(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
	CHECK_EQ(fresh(), 0);
	CHECK_EQ(tmpfs_with_file("a", "a/f"), 0);
	CHECK_EQ(mkdir("a/old", 0755), 0);
	CHECK_EQ(mkdir("a/old/sub", 0755), 0);
	CHECK_ERR(pivot_root("nowhere", "a/old"), ENOENT);
	CHECK_ERR(pivot_root("a", "a/f"), ENOTDIR);
	CHECK_ERR(pivot_root("b", "b"), EINVAL);	    // nothing is mounted there
	CHECK_ERR(pivot_root("a", "c"), EINVAL);	    // not beneath the new root
	CHECK_ERR(pivot_root("/", "/"), EBUSY);
	CHECK_ERR(pivot_root(NULL, "a/old"), EFAULT);
	pid_t child = fork();
	if (child == 0) {
		int ok = setresuid(1, 1, 1) == 0 && pivot_root("a", "a/old") == -1 && errno == EPERM;
		_exit(!ok);
	}
	int status;
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	// Others of the same root get the new one, too; a working directory elsewhere stays.
	int go[2], told[2];
	char c;
	CHECK(pipe(go) == 0 && pipe(told) == 0);
	child = fork();
	if (child == 0) {
		int ok = chdir("/") == 0 && write(told[1], "x", 1) == 1 && read(go[0], &c, 1) == 1 && access("/f", F_OK) == 0 &&
			 access("f", F_OK) == 0 && getcwd(cwd, sizeof cwd) && strcmp(cwd, "/") == 0;
		_exit(!ok);
	}
	CHECK_EQ(read(told[0], &c, 1), 1);
	CHECK_EQ(pivot_root("a", "a/old"), 0);
	CHECK_EQ(write(go[1], "x", 1), 1);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	CHECK_EQ(access("/f", F_OK), 0);
	CHECK_EQ(access("/old/proc/self", F_OK), 0);
	CHECK_ERR(access("/proc", F_OK), ENOENT);
	CHECK(getcwd(cwd, sizeof cwd) != NULL);
	snprintf(back, sizeof back, "/old%s", dir);
	CHECK_EQ(strcmp(cwd, back), 0);
	CHECK_EQ(access("b", F_OK), 0);
	// And back.
	snprintf(back, sizeof back, "/old%s/c", dir);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(pivot_root("/old", back), 0);
	CHECK_EQ(access("/proc/self", F_OK), 0);
	CHECK(getcwd(cwd, sizeof cwd) != NULL);
	CHECK_EQ(strcmp(cwd, "/"), 0);
	CHECK_EQ(chdir(dir), 0);
	CHECK_EQ(access("c/f", F_OK), 0);
	// One on top of the other, as container runtimes do it.
	CHECK_EQ(chdir("c"), 0);
	CHECK_EQ(pivot_root(".", "."), 0);
	CHECK_EQ(access("/f", F_OK), 0);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(access("f", F_OK), 0);
	CHECK_EQ(umount2(".", MNT_DETACH), 0);
	CHECK_EQ(access("/f", F_OK), 0);
	CHECK_ERR(access("/proc", F_OK), ENOENT);
}

TESTS({"busy", test_busy}, {"links", test_links}, {"bind", test_bind}, {"ended", test_ended}, {"move", test_move}, {"poll", test_poll}, {"propagation", test_propagation}, {"pivot_root", test_pivot_root})
