// POSIX message queues.
#include "check.h"
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char name[40];

// open_new makes a queue whose name nobody else uses.
static mqd_t open_new(int flags, long messages, long size)
{
	struct mq_attr a = {.mq_maxmsg = messages, .mq_msgsize = size};

	sprintf(name, "/check-%d", getpid());
	mq_unlink(name);
	return mq_open(name, O_CREAT | O_EXCL | flags, 0600, messages ? &a : NULL);
}

static void test_errors(void)
{
	struct mq_attr a = {.mq_maxmsg = 0, .mq_msgsize = 10};
	char text[8192], *longest = memset(text, 'x', 300);

	text[0] = '/';
	text[300] = 0;
	CHECK_ERR(mq_open("/no-such-queue", O_RDWR), ENOENT);
	CHECK_ERR(mq_open("/a/b", O_RDWR | O_CREAT, 0600, NULL), EACCES);
	CHECK_ERR(mq_open(longest, O_RDWR | O_CREAT, 0600, NULL), ENAMETOOLONG);
	CHECK_ERR(syscall(SYS_mq_open, "", O_RDWR, 0, NULL), ENOENT);
	CHECK_ERR(mq_open("/check-attr", O_RDWR | O_CREAT, 0600, &a), EINVAL);
	CHECK_ERR(mq_unlink("/no-such-queue"), ENOENT);
	mqd_t q = open_new(O_RDWR, 2, 100), r, w;
	CHECK(q >= 0);
	CHECK_EQ(fcntl(q, F_GETFD), FD_CLOEXEC);
	CHECK_ERR(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL), EEXIST);
	r = mq_open(name, O_RDONLY | O_CREAT, 0600, NULL);
	w = mq_open(name, O_WRONLY);
	CHECK(r >= 0 && w >= 0);
	CHECK_ERR(mq_send(r, "x", 1, 0), EBADF);
	CHECK_ERR(mq_receive(w, text, 100, NULL), EBADF);
	CHECK_ERR(mq_send(q, text, 101, 0), EMSGSIZE);
	CHECK_ERR(mq_receive(q, text, 99, NULL), EMSGSIZE);
	CHECK_ERR(mq_send(q, text, 1, 32768), EINVAL);
	CHECK_ERR(mq_timedsend(q, text, 1, 0, &(struct timespec){0, -1}), EINVAL);
	CHECK_ERR(mq_send(1000, "x", 1, 0), EBADF);
	int null = open("/dev/null", O_RDWR);
	CHECK_ERR(mq_send(null, "x", 1, 0), EBADF);
	close(null);
	a.mq_flags = 1;
	CHECK_ERR(mq_setattr(q, &a, NULL), EINVAL);
	struct sigevent e = {.sigev_notify = 77};
	CHECK_ERR(mq_notify(q, &e), EINVAL);
	e.sigev_notify = SIGEV_SIGNAL;
	e.sigev_signo = 65;
	CHECK_ERR(mq_notify(q, &e), EINVAL);
	CHECK_EQ(mq_close(r), 0);
	CHECK_EQ(mq_close(w), 0);
	CHECK_EQ(mq_unlink(name), 0);
	CHECK_ERR(mq_open(name, O_RDWR), ENOENT);
	CHECK_EQ(mq_send(q, "alive", 5, 0), 0); // while somebody has it open
	CHECK_EQ(mq_close(q), 0);
	CHECK_ERR(mq_close(q), EBADF);
}

static void test_order(void)
{
	mqd_t q = open_new(O_RDWR | O_NONBLOCK, 10, 16);
	static const struct {
		unsigned priority;
		const char *text;
	} in[] = {{1, "a"}, {5, "b"}, {1, "c"}, {0, "d"}, {5, "e"}, {32767, "f"}};
	unsigned priority;
	struct mq_attr a;
	char text[16], got[7] = "";

	CHECK(q >= 0);
	for (int i = 0; i < 6; i++)
		CHECK_EQ(mq_send(q, in[i].text, 1, in[i].priority), 0);
	CHECK_EQ(mq_getattr(q, &a), 0);
	CHECK(a.mq_maxmsg == 10 && a.mq_msgsize == 16 && a.mq_curmsgs == 6 && a.mq_flags == O_NONBLOCK);
	for (int i = 0; i < 6; i++) {
		CHECK_EQ(mq_receive(q, text, 16, &priority), 1);
		got[i] = text[0];
	}
	CHECK(!strcmp(got, "fbeacd"));
	CHECK_EQ(priority, 0);
	CHECK_ERR(mq_receive(q, text, 16, NULL), EAGAIN);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(mq_send(q, "", 0, 0), 0);
	CHECK_ERR(mq_send(q, "", 0, 0), EAGAIN);
	CHECK_EQ(mq_receive(q, text, 16, NULL), 0);
	struct mq_attr old;
	a.mq_flags = 0;
	CHECK_EQ(mq_setattr(q, &a, &old), 0);
	CHECK(old.mq_flags == O_NONBLOCK && old.mq_curmsgs == 9);
	CHECK_EQ(fcntl(q, F_GETFL) & O_NONBLOCK, 0);
	mq_close(q);
	mq_unlink(name);
}

static void on_signal(int sig)
{
	(void)sig;
}

static mqd_t queue;

static void *late_sender(void *arg)
{
	sleep_ms(30);
	mq_send(queue, "late", 4, 3);
	return arg;
}

static void *late_receiver(void *arg)
{
	char text[16];

	sleep_ms(30);
	mq_receive(queue, text, 16, NULL);
	return arg;
}

static void test_waiting(void)
{
	char text[16];
	unsigned priority;
	struct timespec limit;
	pthread_t thread;

	queue = open_new(O_RDWR, 1, 16);
	CHECK(queue >= 0);
	clock_gettime(CLOCK_REALTIME, &limit);
	CHECK_ERR(mq_timedreceive(queue, text, 16, NULL, &limit), ETIMEDOUT);
	limit.tv_nsec += 30000000;
	if (limit.tv_nsec >= 1000000000)
		limit.tv_sec++, limit.tv_nsec -= 1000000000;
	CHECK_ERR(mq_timedreceive(queue, text, 16, NULL, &limit), ETIMEDOUT);
	CHECK(now_ns(CLOCK_REALTIME) >= limit.tv_sec * 1000000000LL + limit.tv_nsec);
	pthread_create(&thread, NULL, late_sender, NULL);
	CHECK_EQ(mq_receive(queue, text, 16, &priority), 4);
	CHECK(priority == 3 && !memcmp(text, "late", 4));
	pthread_join(thread, NULL);
	CHECK_EQ(mq_send(queue, "1", 1, 0), 0);
	CHECK_ERR(mq_timedsend(queue, "2", 1, 0, &limit), ETIMEDOUT);
	pthread_create(&thread, NULL, late_receiver, NULL);
	CHECK_EQ(mq_send(queue, "2", 1, 0), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(mq_receive(queue, text, 16, NULL), 1);
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 20000}}, NULL);
	CHECK_ERR(mq_receive(queue, text, 16, NULL), EINTR);
	mq_close(queue);
	mq_unlink(name);
}

static void test_polling(void)
{
	mqd_t q = open_new(O_RDWR | O_NONBLOCK, 1, 16);
	struct pollfd p = {q, POLLIN | POLLOUT, 0};
	struct epoll_event e = {.events = EPOLLIN | EPOLLET};
	int ep = epoll_create1(0);
	char text[16];

	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, POLLOUT);
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, q, &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	CHECK_EQ(mq_send(q, "x", 1, 0), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 1000), 1);
	CHECK_EQ(e.events, EPOLLIN);
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, POLLIN);
	CHECK_EQ(mq_receive(q, text, 16, NULL), 1);
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, POLLOUT);
	close(ep);
	mq_close(q);
	mq_unlink(name);
}

static volatile siginfo_t got;
static volatile int notified;

static void on_info(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	got = *info;
	notified++;
}

static void on_thread(union sigval value)
{
	notified = value.sival_int;
}

static void test_notify(void)
{
	mqd_t q = open_new(O_RDWR | O_NONBLOCK, 4, 16);
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
	struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_RESTART};
	char text[16];
	int status;

	sigaction(SIGUSR1, &action, NULL);
	notified = 0;
	CHECK_EQ(mq_notify(q, &e), 0);
	CHECK_ERR(mq_notify(q, &e), EBUSY);
	pid_t pid = fork();
	if (pid == 0) {
		if (mq_notify(q, NULL) || mq_notify(q, &e) != -1 || errno != EBUSY)
			_exit(1);
		_exit(mq_send(q, "x", 1, 0));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	for (int i = 0; i < 1000 && !notified; i++)
		sleep_ms(5);
	CHECK_EQ(notified, 1);
	CHECK(got.si_code == SI_MESGQ && got.si_pid == pid && got.si_uid == getuid() && got.si_value.sival_int == 77);
	CHECK_EQ(mq_notify(q, &e), 0); // it was for one message
	CHECK_EQ(mq_send(q, "x", 1, 0), 0);
	sleep_ms(20);
	CHECK_EQ(notified, 1); // the queue wasn't empty
	CHECK_EQ(mq_receive(q, text, 16, NULL), 1);
	CHECK_EQ(mq_receive(q, text, 16, NULL), 1);
	CHECK_EQ(mq_notify(q, NULL), 0);
	CHECK_EQ(mq_send(q, "x", 1, 0), 0);
	CHECK_EQ(notified, 1);
	CHECK_EQ(mq_receive(q, text, 16, NULL), 1);
	mqd_t other = mq_open(name, O_RDONLY);
	CHECK_EQ(mq_notify(other, &e), 0);
	CHECK_EQ(mq_close(other), 0); // which ends it
	CHECK_EQ(mq_notify(q, &e), 0);
	CHECK_EQ(mq_notify(q, NULL), 0);

	struct sigevent thread = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread, .sigev_value.sival_int = 55};
	CHECK_EQ(mq_notify(q, &thread), 0);
	CHECK_EQ(mq_send(q, "x", 1, 0), 0);
	for (int i = 0; i < 1000 && notified != 55; i++)
		sleep_ms(5);
	CHECK_EQ(notified, 55);
	mq_close(q);
	mq_unlink(name);
}

static void test_limits(void)
{
	struct rlimit old, few = {20000, 20000};
	int status;

	CHECK_EQ(getrlimit(RLIMIT_MSGQUEUE, &old), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (setrlimit(RLIMIT_MSGQUEUE, &few))
			_exit(1);
		if (open_new(O_RDWR, 10, 8192) != -1 || errno != EMFILE)
			_exit(2);
		mqd_t q = open_new(O_RDWR, 10, 1000);
		if (q == -1)
			_exit(3);
		if (mq_open("/check-second", O_RDWR | O_CREAT, 0600, &(struct mq_attr){.mq_maxmsg = 10, .mq_msgsize = 1000}) != -1 || errno != EMFILE)
			_exit(4);
		mq_unlink(name);
		mq_close(q);
		q = mq_open("/check-second", O_RDWR | O_CREAT, 0600, &(struct mq_attr){.mq_maxmsg = 10, .mq_msgsize = 1000});
		mq_unlink("/check-second");
		_exit(q == -1 ? 5 : 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void test_file(void)
{
	mqd_t q = open_new(O_RDWR, 4, 16);
	char text[200];
	struct stat s;

	CHECK_EQ(mq_send(q, "12345", 5, 0), 0);
	CHECK_EQ(fstat(q, &s), 0);
	CHECK(S_ISREG(s.st_mode) && (s.st_mode & 0777) == 0600 && s.st_size == 80);
	ssize_t n = pread(q, text, sizeof text, 0);
	CHECK(n > 0);
	text[n] = 0;
	CHECK(strstr(text, "QSIZE:5 ") && strstr(text, "NOTIFY:0 ") && strstr(text, "SIGNO:0 ") && strstr(text, "NOTIFY_PID:0 "));
	mq_close(q);
	mq_unlink(name);
	FILE *f = fopen("/proc/sys/fs/mqueue/msg_max", "r");
	int max;
	CHECK(f && fscanf(f, "%d", &max) == 1 && max == 10);
	fclose(f);
}

TESTS({"errors", test_errors}, {"order", test_order}, {"waiting", test_waiting}, {"polling", test_polling},
      {"notify", test_notify}, {"limits", test_limits}, {"file", test_file})
