// inotify: each event in its order, watches that end, limits.
#include "check.h"
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static char dir[64];

static const char *in(const char *name)
{
	static char paths[8][512];
	static int n;
	char *p = paths[n++ % 8];

	snprintf(p, sizeof paths[0], "%s/%s", dir, name);
	return p;
}

static int start(void)
{
	strcpy(dir, "/tmp/inotifyXXXXXX");
	if (!mkdtemp(dir))
		abort();
	return inotify_init1(IN_NONBLOCK);
}

static void finish(int fd)
{
	char cmd[64];

	close(fd);
	DIR *d = opendir(dir);
	struct dirent *e;
	while ((e = readdir(d)))
		if (unlink(in(e->d_name)) != 0)
			rmdir(in(e->d_name));
	closedir(d);
	snprintf(cmd, sizeof cmd, "%s", dir);
	rmdir(cmd);
}

static void make(const char *name)
{
	int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (write(fd, "content", 7) != 7)
		abort();
	close(fd);
}

static const struct { unsigned bit; const char *name; } bits[] = {
	{IN_ACCESS, "ACCESS"}, {IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"},
	{IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {IN_OPEN, "OPEN"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},
	{IN_CREATE, "CREATE"}, {IN_DELETE, "DELETE"}, {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
	{IN_UNMOUNT, "UNMOUNT"}, {IN_Q_OVERFLOW, "Q_OVERFLOW"}, {IN_IGNORED, "IGNORED"}, {IN_ISDIR, "ISDIR"},
};

// seen returns all events as "wd BITS name" in lines.
static const char *seen(int fd)
{
	static char text[8192];
	char b[4096] __attribute__((aligned(8)));
	size_t n = 0;
	ssize_t r;

	text[0] = 0;
	while ((r = read(fd, b, sizeof b)) > 0)
		for (char *p = b; p < b + r;) {
			struct inotify_event *e = (void *)p;
			n += snprintf(text + n, sizeof text - n, "%d", e->wd);
			for (unsigned i = 0; i < sizeof bits / sizeof bits[0]; i++)
				if (e->mask & bits[i].bit)
					n += snprintf(text + n, sizeof text - n, " %s", bits[i].name);
			if (e->len)
				n += snprintf(text + n, sizeof text - n, " %s", e->name);
			if (e->len % 16 != 0)
				n += snprintf(text + n, sizeof text - n, " (length %d)", e->len);
			n += snprintf(text + n, sizeof text - n, "\n");
			p += sizeof *e + e->len;
		}
	return text;
}

#define SEEN(want)                                                                          \
	do {                                                                               \
		const char *s_ = seen(fd);                                                 \
		if (strcmp(s_, want)) {                                                    \
			printf("# line %d got:\n%s", __LINE__, s_);                        \
			CHECK(!"the events that were wanted");                             \
		}                                                                          \
	} while (0)

static void test_errors(void)
{
	int fd = start();

	CHECK_ERR(inotify_init1(1), EINVAL);
	CHECK_ERR(inotify_add_watch(fd, "/tmp", 0), EINVAL);
	CHECK_ERR(inotify_add_watch(999, "/tmp", IN_OPEN), EBADF);
	CHECK_ERR(inotify_add_watch(0, "/tmp", IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN), EINVAL);
	CHECK_ERR(inotify_add_watch(0, "/tmp", IN_OPEN), EINVAL);
	CHECK_ERR(inotify_add_watch(fd, "/tmp/none/such", IN_OPEN), ENOENT);
	CHECK_ERR(inotify_add_watch(fd, (char *)8, IN_OPEN), EFAULT);
	make("f");
	CHECK_ERR(inotify_add_watch(fd, in("f"), IN_OPEN | IN_ONLYDIR), ENOTDIR);
	CHECK_ERR(inotify_rm_watch(fd, 1), EINVAL);
	CHECK_ERR(inotify_rm_watch(0, 1), EINVAL);
	char b[64];
	CHECK_ERR(read(fd, b, sizeof b), EAGAIN);
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_OPEN), 1);
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_OPEN), 1);
	CHECK_ERR(inotify_add_watch(fd, in("f"), IN_OPEN | IN_MASK_CREATE), EEXIST);
	close(open(in("f"), O_RDONLY));
	CHECK_ERR(read(fd, b, 15), EINVAL);
	int n;
	CHECK_EQ(ioctl(fd, FIONREAD, &n), 0);
	CHECK_EQ(n, 16);
	CHECK_EQ(read(fd, b, 16), 16);
	CHECK_EQ(inotify_rm_watch(fd, 1), 0);
	SEEN("1 IGNORED\n");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_OPEN), 2); // numbers aren't used again
	CHECK_ERR(write(fd, b, 16), EBADF);
	finish(fd);
}

static void test_file(void)
{
	int fd = start(), f;
	char b[16];

	make("f");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_ALL_EVENTS), 1);
	f = open(in("f"), O_RDWR);
	CHECK_EQ(read(f, b, 3), 3);
	CHECK_EQ(pwrite(f, b, 3, 10), 3);
	CHECK_EQ(pread(f, b, 3, 100), 0);
	CHECK_EQ(ftruncate(f, 5), 0);
	CHECK_EQ(fchmod(f, 0600), 0);
	close(dup(f));
	SEEN("1 OPEN\n1 ACCESS\n1 MODIFY\n1 ATTRIB\n");
	close(f);
	SEEN("1 CLOSE_WRITE\n");
	close(open(in("f"), O_RDONLY | O_TRUNC));
	SEEN("1 OPEN\n1 MODIFY\n1 CLOSE_NOWRITE\n");
	struct timespec t[2] = {{1, 0}, {2, 0}};
	CHECK_EQ(utimensat(AT_FDCWD, in("f"), t, 0), 0);
	SEEN("1 ATTRIB\n");
	t[0].tv_nsec = UTIME_OMIT;
	CHECK_EQ(utimensat(AT_FDCWD, in("f"), t, 0), 0);
	SEEN("1 MODIFY\n");
	CHECK_EQ(link(in("f"), in("g")), 0);
	SEEN("1 ATTRIB\n");
	CHECK_EQ(rename(in("f"), in("h")), 0);
	SEEN("1 MOVE_SELF\n");
	CHECK_EQ(unlink(in("h")), 0);
	SEEN("1 ATTRIB\n");
	f = open(in("g"), O_RDONLY);
	CHECK_EQ(unlink(in("g")), 0);
	SEEN("1 OPEN\n1 ATTRIB\n");
	close(f);
	SEEN("1 CLOSE_NOWRITE\n1 DELETE_SELF\n1 IGNORED\n");
	make("f");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_DELETE_SELF), 2);
	CHECK_EQ(unlink(in("f")), 0);
	SEEN("2 DELETE_SELF\n2 IGNORED\n");
	CHECK_ERR(inotify_rm_watch(fd, 2), EINVAL);
	finish(fd);
}

static void test_directory(void)
{
	int fd = start();

	CHECK_EQ(inotify_add_watch(fd, dir, IN_ALL_EVENTS), 1);
	make("f");
	SEEN("1 CREATE f\n1 OPEN f\n1 MODIFY f\n1 CLOSE_WRITE f\n");
	CHECK_EQ(mkdir(in("d"), 0755), 0);
	CHECK_EQ(symlink("x", in("s")), 0);
	CHECK_EQ(mkfifo(in("p"), 0600), 0);
	CHECK_EQ(link(in("f"), in("a-name-of-sixteen-and-more")), 0);
	SEEN("1 CREATE ISDIR d\n1 CREATE s\n1 CREATE p\n1 CREATE a-name-of-sixteen-and-more\n");
	CHECK_EQ(chmod(in("d"), 0700), 0);
	CHECK_EQ(chmod(in("f"), 0600), 0);
	SEEN("1 ATTRIB ISDIR d\n1 ATTRIB f\n");
	CHECK_EQ(chmod(dir, 0750), 0);
	SEEN("1 ATTRIB ISDIR\n");
	CHECK_EQ(rename(in("f"), in("g")), 0);
	SEEN("1 MOVED_FROM f\n1 MOVED_TO g\n");
	CHECK_EQ(rename(in("g"), in("d/g")), 0);
	SEEN("1 MOVED_FROM g\n");
	CHECK_EQ(rename(in("d/g"), in("f")), 0);
	SEEN("1 MOVED_TO f\n");
	CHECK_EQ(unlink(in("f")), 0);
	CHECK_EQ(rmdir(in("d")), 0);
	SEEN("1 DELETE f\n1 DELETE ISDIR d\n");
	closedir(opendir(dir));
	SEEN("1 OPEN ISDIR\n1 CLOSE_NOWRITE ISDIR\n");
	DIR *d = opendir(dir);
	readdir(d);
	closedir(d);
	SEEN("1 OPEN ISDIR\n1 ACCESS ISDIR\n1 CLOSE_NOWRITE ISDIR\n");
	finish(fd);
}

static void test_both(void)
{
	int fd = start();

	CHECK_EQ(mkdir(in("d"), 0755), 0);
	make("f");
	CHECK_EQ(inotify_add_watch(fd, dir, IN_ALL_EVENTS), 1);
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_ALL_EVENTS), 2);
	CHECK_EQ(inotify_add_watch(fd, in("d"), IN_ALL_EVENTS), 3);
	close(open(in("f"), O_RDONLY));
	SEEN("1 OPEN f\n2 OPEN\n1 CLOSE_NOWRITE f\n2 CLOSE_NOWRITE\n");
	CHECK_EQ(rename(in("f"), in("d/f")), 0);
	SEEN("1 MOVED_FROM f\n3 MOVED_TO f\n2 MOVE_SELF\n");
	make("g");
	seen(fd);
	CHECK_EQ(rename(in("g"), in("d/f")), 0); // the watched file is replaced
	SEEN("1 MOVED_FROM g\n3 MOVED_TO f\n2 ATTRIB\n2 DELETE_SELF\n2 IGNORED\n");
	CHECK_EQ(unlink(in("d/f")), 0);
	SEEN("3 DELETE f\n");
	CHECK_EQ(rename(in("d"), in("e")), 0);
	SEEN("1 MOVED_FROM ISDIR d\n1 MOVED_TO ISDIR e\n3 MOVE_SELF\n");
	CHECK_EQ(rmdir(in("e")), 0);
	SEEN("3 DELETE_SELF\n3 IGNORED\n1 DELETE ISDIR e\n");
	finish(fd);
}

static void test_cookies(void)
{
	int fd = start();
	char b[256] __attribute__((aligned(8)));
	struct inotify_event *e = (void *)b, *g = (void *)(b + 32);

	make("f");
	CHECK_EQ(inotify_add_watch(fd, dir, IN_MOVE), 1);
	CHECK_EQ(rename(in("f"), in("g")), 0);
	CHECK_EQ(read(fd, b, sizeof b), 64);
	CHECK(e->cookie != 0 && e->cookie == g->cookie && e->len == 16 && !strcmp(g->name, "g"));
	unsigned old = e->cookie;
	CHECK_EQ(rename(in("g"), in("f")), 0);
	CHECK_EQ(read(fd, b, sizeof b), 64);
	CHECK(e->cookie != old);
	finish(fd);
}

static void test_flags(void)
{
	int fd = start(), f;

	make("f");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_OPEN | IN_ONESHOT), 1);
	close(open(in("f"), O_RDONLY));
	close(open(in("f"), O_RDONLY));
	SEEN("1 OPEN\n1 IGNORED\n");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_OPEN), 2);
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_MASK_ADD | IN_CLOSE), 2);
	close(open(in("f"), O_RDONLY));
	SEEN("2 OPEN\n2 CLOSE_NOWRITE\n");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_ATTRIB), 2); // replaces
	close(open(in("f"), O_RDONLY));
	SEEN("");
	CHECK_EQ(inotify_rm_watch(fd, 2), 0);
	seen(fd);
	CHECK_EQ(inotify_add_watch(fd, dir, IN_MODIFY | IN_EXCL_UNLINK), 3);
	f = open(in("f"), O_RDWR);
	CHECK_EQ(write(f, "x", 1), 1);
	SEEN("3 MODIFY f\n");
	unlink(in("f"));
	CHECK_EQ(write(f, "x", 1), 1);
	SEEN("");
	CHECK_EQ(inotify_add_watch(fd, dir, IN_MODIFY), 3);
	CHECK_EQ(write(f, "x", 1), 1);
	SEEN("3 MODIFY f\n");
	close(f);
	finish(fd);
}

static void test_merging(void)
{
	int fd = start(), f;

	make("f");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_MODIFY | IN_ATTRIB), 1);
	f = open(in("f"), O_RDWR);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(write(f, "x", 1), 1);
	fchmod(f, 0600);
	CHECK_EQ(write(f, "x", 1), 1);
	SEEN("1 MODIFY\n1 ATTRIB\n1 MODIFY\n");
	close(f);
	finish(fd);
}

static void test_overflow(void)
{
	int fd = start(), n = 0, overflow = 0;
	char b[4096] __attribute__((aligned(8)));
	ssize_t r;

	make("f");
	CHECK_EQ(inotify_add_watch(fd, in("f"), IN_OPEN | IN_CLOSE), 1);
	for (int i = 0; i < 9000; i++)
		close(open(in("f"), O_RDONLY));
	while ((r = read(fd, b, sizeof b)) > 0)
		for (char *p = b; p < b + r; p += 16, n++) {
			struct inotify_event *e = (void *)p;
			if (e->mask & IN_Q_OVERFLOW)
				overflow += e->wd == -1;
		}
	CHECK_EQ(overflow, 1);
	CHECK_EQ(n, 16385);
	close(open(in("f"), O_RDONLY));
	SEEN("1 OPEN\n1 CLOSE_NOWRITE\n");
	finish(fd);
}

static void *later(void *arg)
{
	usleep(20000);
	make("late");
	return arg;
}

static void test_waiting(void)
{
	int fd = start();
	char b[256];
	pthread_t t;

	CHECK_EQ(inotify_add_watch(fd, dir, IN_CREATE), 1);
	struct pollfd p = {fd, POLLIN, 0};
	CHECK_EQ(poll(&p, 1, 0), 0);
	CHECK_EQ(pthread_create(&t, NULL, later, NULL), 0);
	CHECK_EQ(poll(&p, 1, 5000), 1);
	pthread_join(t, NULL);
	SEEN("1 CREATE late\n");
	fcntl(fd, F_SETFL, 0);
	unlink(in("late"));
	CHECK_EQ(pthread_create(&t, NULL, later, NULL), 0);
	CHECK_EQ(read(fd, b, sizeof b), 32);
	pthread_join(t, NULL);
	finish(fd);
}

TESTS({"errors", test_errors}, {"file", test_file}, {"directory", test_directory}, {"both", test_both}, {"cookies", test_cookies},
      {"flags", test_flags}, {"merging", test_merging}, {"overflow", test_overflow}, {"waiting", test_waiting})
