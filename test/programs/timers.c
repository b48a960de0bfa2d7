// alarm, setitimer and timer_create.
#include "check.h"

#define MS 1000000LL

static volatile int count, code;
static volatile void *value;
static void counter(int s, siginfo_t *i, void *u)
{
	(void)s, (void)u;
	count++, code = i->si_code, value = i->si_value.sival_ptr;
}

static void on(int s)
{
	struct sigaction a = {.sa_sigaction = counter, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigaction(s, &a, NULL);
	count = 0;
}

static void spin_ms(int ms)
{
	int64_t start = now_ns(CLOCK_MONOTONIC);

	while (now_ns(CLOCK_MONOTONIC) - start < ms * MS)
		;
}

static void test_alarm(void)
{
	on(SIGALRM);
	CHECK_EQ(alarm(100), 0);
	int64_t start = now_ns(CLOCK_MONOTONIC);
	CHECK(alarm(1) >= 99);
	CHECK_EQ(count, 0);
	while (count == 0 && now_ns(CLOCK_MONOTONIC) - start < 3000 * MS)
		sleep_ms(10);
	CHECK_EQ(count, 1);
	CHECK_EQ(code, SI_KERNEL);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 990 * MS);
	CHECK_EQ(alarm(0), 0);
}

static void test_interval_timer(void)
{
	struct itimerval t = {{0, 20000}, {0, 20000}}, got;

	on(SIGALRM);
	CHECK_EQ(setitimer(ITIMER_REAL, &t, NULL), 0);
	CHECK_EQ(getitimer(ITIMER_REAL, &got), 0);
	CHECK(got.it_interval.tv_usec == 20000 && got.it_value.tv_usec <= 20000);
	spin_ms(230);
	CHECK(count >= 2 && count <= 12);
	t.it_value.tv_usec = 0;
	CHECK_EQ(setitimer(ITIMER_REAL, &t, &got), 0);
	count = 0;
	spin_ms(50);
	CHECK_EQ(count, 0);
	t.it_value.tv_usec = 1000000;
	CHECK_ERR(setitimer(ITIMER_REAL, &t, NULL), EINVAL);
	CHECK_ERR(setitimer(9, &t, NULL), EINVAL);
}

// wait_for spins until there were n signals. A machine that its host leaves waiting sees time pass in which
// it does nothing.
static void wait_for(int n)
{
	int64_t start = now_ns(CLOCK_MONOTONIC);
	while (count < n && now_ns(CLOCK_MONOTONIC) - start < 10000 * MS)
		;
	spin_ms(20); // for one too many
}

static void test_cpu_timers(void)
{
	for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
		// A virtual machine that its host leaves waiting sees that as CPU time of its own.
		struct itimerval t = {{0, 0}, {1, 0}};
		on(which == ITIMER_VIRTUAL ? SIGVTALRM : SIGPROF);
		CHECK_EQ(setitimer(which, &t, NULL), 0);
		sleep_ms(100); // no CPU time
		CHECK_EQ(count, 0);
		int64_t start = now_ns(CLOCK_MONOTONIC);
		while (count == 0 && now_ns(CLOCK_MONOTONIC) - start < 10000 * MS)
			for (volatile int i = 0; i < 100000; i++)
				;
		CHECK_EQ(count, 1);
	}
}

static void test_posix_timer(void)
{
	static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};

	for (int i = 0; i < 3; i++) {
		timer_t id;
		struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
		struct itimerspec s = {{0, 0}, {0, 30 * MS}}, got;
		e.sigev_value.sival_ptr = (void *)0xabcdef;
		on(SIGRTMIN + 1);
		CHECK_EQ(timer_create(clocks[i], &e, &id), 0);
		CHECK_EQ(timer_settime(id, 0, &s, NULL), 0);
		CHECK_EQ(timer_gettime(id, &got), 0);
		CHECK(got.it_value.tv_nsec > 0 && got.it_value.tv_nsec <= 30 * MS);
		wait_for(1);
		CHECK_EQ(count, 1);
		CHECK_EQ(code, SI_TIMER);
		CHECK(value == (void *)0xabcdef);
		// Absolute, in the past: at once.
		s.it_value.tv_sec = 0, s.it_value.tv_nsec = 1;
		CHECK_EQ(timer_settime(id, TIMER_ABSTIME, &s, NULL), 0);
		wait_for(2);
		CHECK_EQ(count, 2);
		CHECK_EQ(timer_delete(id), 0);
		CHECK(timer_delete(id) != 0);
	}
}

static void test_overrun(void)
{
	timer_t id;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec s = {{0, 5 * MS}, {0, 5 * MS}};
	sigset_t m;
	siginfo_t i;

	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &e, &id), 0);
	CHECK_EQ(timer_settime(id, 0, &s, NULL), 0);
	sleep_ms(100);
	CHECK_EQ(sigwaitinfo(&m, &i), SIGUSR1);
	CHECK(i.si_overrun >= 5);
	CHECK(timer_getoverrun(id) >= 5);
	CHECK_EQ(timer_delete(id), 0);
	struct timespec none = {0, 0};
	while (sigtimedwait(&m, NULL, &none) > 0)
		;
	sigprocmask(SIG_UNBLOCK, &m, NULL);
}

static void test_no_signal(void)
{
	timer_t id;
	struct sigevent e = {.sigev_notify = SIGEV_NONE};
	struct itimerspec s = {{0, 0}, {0, 20 * MS}};

	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &e, &id), 0);
	CHECK_EQ(timer_settime(id, 0, &s, NULL), 0);
	spin_ms(40);
	CHECK_EQ(timer_gettime(id, &s), 0);
	CHECK(s.it_value.tv_sec == 0 && s.it_value.tv_nsec == 0);
	CHECK_EQ(timer_delete(id), 0);
	CHECK_ERR(timer_create(99, &e, &id), EINVAL);
}

TESTS({"alarm", test_alarm}, {"interval-timer", test_interval_timer}, {"cpu-timers", test_cpu_timers},
      {"posix-timer", test_posix_timer}, {"overrun", test_overrun}, {"no-signal", test_no_signal})
