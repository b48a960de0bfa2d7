// File locks: flock, record locks of processes, record locks of open file descriptions.
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/wait.h>

static char path[64];

static int another(void)
{
	if (!path[0]) {
		strcpy(path, "/tmp/lockXXXXXX");
		int fd = mkstemp(path);
		if (ftruncate(fd, 1000) != 0)
			abort();
		close(fd);
	}
	return open(path, O_RDWR);
}

static int set(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, cmd, &l);
}

// child runs f in a child and returns its exit status.
static int child(int (*f)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(f());
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void test_flock(void)
{
	int a = another(), b = another(), c = dup(a);

	CHECK_ERR(flock(a, 0), EINVAL);
	CHECK_ERR(flock(999, LOCK_SH), EBADF);
	CHECK_EQ(flock(a, LOCK_EX), 0);
	CHECK_EQ(flock(a, LOCK_EX | LOCK_NB), 0);
	CHECK_EQ(flock(c, LOCK_EX | LOCK_NB), 0); // the same open file
	CHECK_ERR(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	CHECK_ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK_EQ(flock(a, LOCK_SH), 0);
	CHECK_EQ(flock(b, LOCK_SH | LOCK_NB), 0);
	CHECK_ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK_EQ(flock(b, LOCK_UN), 0);
	CHECK_EQ(flock(a, LOCK_EX | LOCK_NB), 0);
	close(a);
	CHECK_ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK); // c holds it still
	close(c);
	CHECK_EQ(flock(b, LOCK_EX | LOCK_NB), 0);
	CHECK_EQ(set(b, F_SETLK, F_WRLCK, 0, 0), 0); // another kind of lock altogether
	close(b);
	int dir = open("/tmp", O_RDONLY);
	CHECK_EQ(flock(dir, LOCK_EX | LOCK_NB), 0);
	close(dir);
}

static int ready[2];

static int flock_waits(void)
{
	int fd = another();
	int64_t start = now_ns(CLOCK_MONOTONIC);

	if (write(ready[1], "", 1) != 1)
		return 3;
	if (flock(fd, LOCK_EX) != 0)
		return 1;
	return now_ns(CLOCK_MONOTONIC) - start < 20000000 ? 2 : 0;
}

static void test_flock_waits(void)
{
	int fd = another(), status;
	struct timespec t = {0, 50000000};

	char c;

	CHECK_EQ(pipe(ready), 0);
	CHECK_EQ(flock(fd, LOCK_SH), 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(flock_waits());
	CHECK_EQ(read(ready[0], &c, 1), 1); // a busy machine may start it late
	nanosleep(&t, NULL);
	CHECK_EQ(flock(fd, LOCK_UN), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	close(fd);
}

static void handler(int sig) { (void)sig; }

static void test_interrupted(void)
{
	int a = another(), b = another();
	struct sigaction s = {.sa_handler = handler};
	// Again and again: the first may come before the wait.
	struct itimerval t = {{0, 20000}, {0, 20000}}, off = {0};

	sigaction(SIGALRM, &s, NULL);
	CHECK_EQ(flock(a, LOCK_EX), 0);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_ERR(flock(b, LOCK_EX), EINTR);
	setitimer(ITIMER_REAL, &off, NULL);
	close(a);
	a = another();
	CHECK_EQ(set(a, F_OFD_SETLK, F_WRLCK, 0, 0), 0);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_ERR(set(b, F_OFD_SETLKW, F_RDLCK, 5, 5), EINTR);
	setitimer(ITIMER_REAL, &off, NULL);
	close(a), close(b);
}

static int see; // what child processes look at
static struct flock seen[8];

// look finds every lock that forbids a write, from the eyes of another process.
static int look(void)
{
	int fd = another(), n = 0;
	off_t at = 0;

	for (;;) {
		struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at};
		if (fcntl(fd, F_GETLK, &l) != 0)
			return 100;
		if (l.l_type == F_UNLCK)
			return n;
		if (n == see && (seen[n].l_type != l.l_type || seen[n].l_start != l.l_start || seen[n].l_len != l.l_len ||
				 l.l_whence != SEEK_SET || l.l_pid != getppid()))
			return 101;
		n++;
		if (l.l_len == 0)
			return n;
		at = l.l_start + l.l_len;
	}
}

#define SEEN(i, type, start, len) (see = i, seen[i] = (struct flock){.l_type = type, .l_start = start, .l_len = len}, child(look))

static void test_records(void)
{
	int fd = another();

	CHECK_EQ(child(look), 0);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 100, 100), 0);
	CHECK_EQ(SEEN(0, F_WRLCK, 100, 100), 1);
	CHECK_EQ(set(fd, F_SETLK, F_RDLCK, 140, 20), 0); // splits it
	CHECK_EQ(SEEN(0, F_WRLCK, 100, 40), 3);
	CHECK_EQ(SEEN(1, F_RDLCK, 140, 20), 3);
	CHECK_EQ(SEEN(2, F_WRLCK, 160, 40), 3);
	CHECK_EQ(set(fd, F_SETLK, F_UNLCK, 150, 20), 0);
	CHECK_EQ(SEEN(1, F_RDLCK, 140, 10), 3);
	CHECK_EQ(SEEN(2, F_WRLCK, 170, 30), 3);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 140, 30), 0); // all one again
	CHECK_EQ(SEEN(0, F_WRLCK, 100, 100), 1);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 200, 10), 0); // next to it
	CHECK_EQ(SEEN(0, F_WRLCK, 100, 110), 1);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 500, 0), 0);
	CHECK_EQ(SEEN(1, F_WRLCK, 500, 0), 2);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 110, -10), 0); // [100, 110)
	CHECK_EQ(SEEN(0, F_WRLCK, 100, 110), 2);
	struct flock end = {.l_type = F_RDLCK, .l_whence = SEEK_END, .l_start = -1000, .l_len = 10};
	CHECK_EQ(fcntl(fd, F_SETLK, &end), 0);
	CHECK_EQ(SEEN(0, F_RDLCK, 0, 10), 3);
	lseek(fd, 20, SEEK_SET);
	end = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_CUR, .l_start = 5, .l_len = 5};
	CHECK_EQ(fcntl(fd, F_SETLK, &end), 0);
	CHECK_EQ(SEEN(1, F_RDLCK, 25, 5), 4);
	CHECK_EQ(set(fd, F_SETLK, F_UNLCK, 0, 0), 0);
	CHECK_EQ(child(look), 0);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 0, 0), 0);
	close(open(path, O_RDONLY)); // any close of the file drops them all
	CHECK_EQ(child(look), 0);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 0, 0), 0);
	dup2(0, fd);
	CHECK_EQ(child(look), 0);
	close(fd);
}

static void test_errors(void)
{
	int fd = another(), ro = open(path, O_RDONLY), wo = open(path, O_WRONLY);
	struct flock l = {.l_type = F_RDLCK, .l_whence = 9};

	CHECK_ERR(fcntl(fd, F_SETLK, &l), EINVAL);
	CHECK_ERR(fcntl(fd, F_SETLK, (void *)8), EFAULT);
	CHECK_ERR(set(fd, F_SETLK, 9, 0, 0), EINVAL);
	CHECK_ERR(set(fd, F_GETLK, F_UNLCK, 0, 0), EINVAL);
	CHECK_ERR(set(fd, F_SETLK, F_RDLCK, -1, 0), EINVAL);
	CHECK_ERR(set(fd, F_SETLK, F_RDLCK, 0, -1), EINVAL);
	CHECK_ERR(set(fd, F_SETLK, F_RDLCK, LONG_MAX, 2), EOVERFLOW);
	CHECK_EQ(set(fd, F_SETLK, F_RDLCK, LONG_MAX, 1), 0);
	CHECK_ERR(set(ro, F_SETLK, F_WRLCK, 0, 0), EBADF);
	CHECK_ERR(set(wo, F_SETLK, F_RDLCK, 0, 0), EBADF);
	l = (struct flock){.l_type = F_RDLCK, .l_pid = 1};
	CHECK_ERR(fcntl(fd, F_OFD_SETLK, &l), EINVAL);
	close(fd), close(ro), close(wo);
}

static int conflict(void)
{
	int fd = another();

	if (set(fd, F_SETLK, F_RDLCK, 0, 10) != 0)
		return 1;
	if (set(fd, F_SETLK, F_WRLCK, 0, 10) != -1 || (errno != EAGAIN && errno != EACCES))
		return 2;
	if (set(fd, F_SETLK, F_RDLCK, 15, 10) != -1 || (errno != EAGAIN && errno != EACCES))
		return 3;
	if (set(fd, F_SETLK, F_WRLCK, 30, 10) != 0)
		return 4;
	return 0;
}

static void test_conflicts(void)
{
	int fd = another();

	CHECK_EQ(set(fd, F_SETLK, F_RDLCK, 0, 10), 0);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 20, 10), 0);
	CHECK_EQ(child(conflict), 0);
	close(fd);
}

// Two processes want what the other has: one of them is told.
static void test_deadlock(void)
{
	int fd = another(), go[2], status;
	char b;
	struct timespec t = {0, 50000000};

	CHECK_EQ(pipe(go), 0);
	CHECK_EQ(set(fd, F_SETLK, F_WRLCK, 0, 10), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int own = another();
		if (set(own, F_SETLK, F_WRLCK, 10, 10) != 0)
			_exit(1);
		if (write(go[1], "x", 1) != 1)
			_exit(2);
		_exit(set(own, F_SETLKW, F_WRLCK, 0, 10) == 0 ? 0 : 3);
	}
	CHECK_EQ(read(go[0], &b, 1), 1);
	nanosleep(&t, NULL);
	CHECK_ERR(set(fd, F_SETLKW, F_WRLCK, 10, 10), EDEADLK);
	CHECK_EQ(set(fd, F_SETLK, F_UNLCK, 0, 0), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	close(fd), close(go[0]), close(go[1]);
}

static void test_exit_releases(void)
{
	int fd = another(), go[2];
	char b;

	CHECK_EQ(pipe(go), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int own = another();
		set(own, F_SETLK, F_WRLCK, 0, 0);
		flock(own, LOCK_EX);
		if (write(go[1], "x", 1) != 1)
			_exit(2);
		pause();
	}
	CHECK_EQ(read(go[0], &b, 1), 1);
	CHECK_ERR(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	kill(pid, SIGKILL);
	CHECK_EQ(set(fd, F_SETLKW, F_WRLCK, 0, 0), 0);
	CHECK_EQ(flock(fd, LOCK_EX), 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	close(fd), close(go[0]), close(go[1]);
}

static void test_ofd(void)
{
	int a = another(), b = another(), c = dup(a);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 50};

	CHECK_EQ(set(a, F_OFD_SETLK, F_WRLCK, 0, 100), 0);
	CHECK_EQ(set(c, F_OFD_SETLK, F_WRLCK, 0, 100), 0);
	CHECK_ERR(set(b, F_OFD_SETLK, F_RDLCK, 99, 1), EAGAIN);
	CHECK_EQ(set(b, F_OFD_SETLK, F_RDLCK, 100, 1), 0);
	CHECK_ERR(set(b, F_SETLK, F_RDLCK, 0, 1), EAGAIN); // it forbids the process's own, too
	CHECK_EQ(fcntl(b, F_OFD_GETLK, &l), 0);
	CHECK(l.l_type == F_WRLCK && l.l_start == 0 && l.l_len == 100 && l.l_pid == -1);
	close(another()); // other descriptors don't matter
	CHECK_ERR(set(b, F_OFD_SETLK, F_RDLCK, 99, 1), EAGAIN);
	close(a);
	CHECK_ERR(set(b, F_OFD_SETLK, F_RDLCK, 99, 1), EAGAIN);
	close(c);
	CHECK_EQ(set(b, F_OFD_SETLK, F_RDLCK, 99, 1), 0);
	close(b);
}

static volatile int counter, failed;

static void *count(void *arg)
{
	int fd = another();

	(void)arg;
	for (int i = 0; i < 300; i++) {
		if (flock(fd, LOCK_EX) != 0)
			failed = 1;
		int n = counter;
		if (i % 16 == 0)
			sched_yield();
		counter = n + 1;
		flock(fd, LOCK_UN);
	}
	close(fd);
	return NULL;
}

static void test_contention(void)
{
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, count, NULL), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(failed, 0);
	CHECK_EQ(counter, 8 * 300);
	unlink(path);
}

TESTS({"flock", test_flock}, {"flock-waits", test_flock_waits}, {"interrupted", test_interrupted}, {"records", test_records},
      {"errors", test_errors}, {"conflicts", test_conflicts}, {"deadlock", test_deadlock}, {"exit-releases", test_exit_releases},
      {"ofd", test_ofd}, {"contention", test_contention})
