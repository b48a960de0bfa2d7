// Signals read from a file descriptor.
#include "check.h"
#include <poll.h>
#include <sys/signalfd.h>

static void test_signalfd(void)
{
	sigset_t m;
	struct signalfd_siginfo i[3];

	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigaddset(&m, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	int fd = signalfd(-1, &m, SFD_NONBLOCK | SFD_CLOEXEC);
	struct pollfd p = {fd, POLLIN, 0};
	CHECK(fd >= 0);
	CHECK_ERR(read(fd, i, sizeof i), EAGAIN);
	CHECK_EQ(poll(&p, 1, 0), 0);
	union sigval v = {.sival_int = 55};
	sigqueue(getpid(), SIGRTMIN + 1, v);
	kill(getpid(), SIGUSR1);
	CHECK_EQ(poll(&p, 1, 1000), 1);
	CHECK_EQ(read(fd, i, sizeof i), 2 * sizeof i[0]);
	CHECK_EQ(i[0].ssi_signo, SIGUSR1);
	CHECK_EQ(i[0].ssi_code, SI_USER);
	CHECK_EQ(i[0].ssi_pid, getpid());
	CHECK_EQ(i[1].ssi_signo, SIGRTMIN + 1);
	CHECK_EQ(i[1].ssi_int, 55);
	CHECK_ERR(read(fd, i, 10), EINVAL);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR2);
	CHECK_EQ(signalfd(fd, &m, 0), fd);
	sigprocmask(SIG_BLOCK, &m, NULL);
	raise(SIGUSR2);
	CHECK_EQ(read(fd, i, sizeof i), sizeof i[0]);
	CHECK_EQ(i[0].ssi_signo, SIGUSR2);
	close(fd);
	CHECK_ERR(signalfd(0x3fff, &m, 0), EBADF);
}

static void test_blocking(void)
{
	sigset_t m;
	struct signalfd_siginfo i;
	struct itimerval t = {{0, 0}, {0, 50000}};

	sigemptyset(&m);
	sigaddset(&m, SIGALRM);
	sigprocmask(SIG_BLOCK, &m, NULL);
	int fd = signalfd(-1, &m, 0);
	int64_t start = now_ns(CLOCK_MONOTONIC);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_EQ(read(fd, &i, sizeof i), sizeof i);
	CHECK_EQ(i.ssi_signo, SIGALRM);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 49000000);
	close(fd);
}

// O_ASYNC: a signal says that a file became ready.
static void test_signal_driven(void)
{
	int p[2];
	sigset_t set;
	siginfo_t info;
	char c;
	struct timespec wait = {5, 0}, none = {0, 0};
	struct f_owner_ex owner = {F_OWNER_PID, getpid()}, got;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(fcntl(p[0], F_SETOWN, getpid()), 0);
	CHECK_EQ(fcntl(p[0], F_GETOWN), getpid());
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_ERR(sigtimedwait(&set, NULL, &none), EAGAIN); // not asked for yet
	CHECK_EQ(read(p[0], &c, 1), 1);
	CHECK_EQ(fcntl(p[0], F_SETFL, O_ASYNC), 0);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(sigtimedwait(&set, &info, &wait), SIGIO);
	CHECK_EQ(fcntl(p[0], F_SETSIG, SIGRTMIN + 1), 0);
	CHECK_EQ(fcntl(p[0], F_SETOWN_EX, &owner), 0);
	CHECK_EQ(fcntl(p[0], F_GETOWN_EX, &got), 0);
	CHECK_EQ(got.pid, getpid());
	CHECK_EQ(read(p[0], &c, 1), 1);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(sigtimedwait(&set, &info, &wait), SIGRTMIN + 1);
	CHECK_EQ(info.si_fd, p[0]);
	CHECK_EQ(info.si_code, POLL_IN);
	CHECK(info.si_band & 1);
	while (sigtimedwait(&set, NULL, &none) > 0)
		;
	CHECK_EQ(fcntl(p[0], F_SETFL, 0), 0);
	CHECK_EQ(read(p[0], &c, 1), 1);
	CHECK_EQ(write(p[1], "x", 1), 1);
	sleep_ms(20);
	CHECK_ERR(sigtimedwait(&set, NULL, &none), EAGAIN);
	close(p[0]), close(p[1]);
}

TESTS({"signalfd", test_signalfd}, {"blocking", test_blocking},
      {"signal-driven", test_signal_driven})
