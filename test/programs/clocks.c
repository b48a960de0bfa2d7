// Clocks and sleeping.
#include "check.h"
#include <sys/timex.h>

#define MS 1000000LL

static void test_clocks(void)
{
	static const clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW,
					CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE,
					CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_TAI};
	struct timespec t;

	for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++) {
		CHECK_EQ(clock_gettime(ids[i], &t), 0);
		CHECK(t.tv_nsec >= 0 && t.tv_nsec < 1000 * MS && t.tv_sec >= 0);
		CHECK_EQ(clock_getres(ids[i], &t), 0);
		CHECK(t.tv_sec == 0 && t.tv_nsec > 0 && t.tv_nsec <= 10 * MS);
	}
	CHECK_ERR(syscall(SYS_clock_gettime, 99, &t), EINVAL);
	CHECK_ERR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8), EFAULT);
	CHECK_EQ(syscall(SYS_clock_getres, CLOCK_MONOTONIC, 0), 0);
}

static void test_monotonic(void)
{
	int64_t last = now_ns(CLOCK_MONOTONIC);

	for (int i = 0; i < 100000; i++) {
		int64_t t = now_ns(CLOCK_MONOTONIC);
		CHECK(t >= last);
		last = t;
	}
	struct timespec a;
	for (int i = 0; i < 1000; i++) {
		// The vDSO and the system call agree.
		CHECK_EQ(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &a), 0);
		int64_t t = a.tv_sec * 1000 * MS + a.tv_nsec;
		CHECK(t >= last);
		last = now_ns(CLOCK_MONOTONIC);
		CHECK(last >= t);
	}
}

static void test_wall_clock(void)
{
	struct timeval tv;
	time_t t = time(NULL);

	CHECK(t > 1600000000 && t < 4000000000);
	CHECK_EQ(gettimeofday(&tv, NULL), 0);
	CHECK(tv.tv_sec - t <= 2 && tv.tv_usec < 1000000);
	CHECK_EQ(syscall(SYS_time, NULL) / 10, time(NULL) / 10);
	struct timezone tz;
	CHECK_EQ(syscall(SYS_gettimeofday, NULL, &tz), 0);
}

static void sleeps(int64_t ns)
{
	struct timespec t = {ns / (1000 * MS), ns % (1000 * MS)};
	int64_t start = now_ns(CLOCK_MONOTONIC), took;

	CHECK_EQ(nanosleep(&t, NULL), 0);
	took = now_ns(CLOCK_MONOTONIC) - start;
	CHECK(took >= ns);
	CHECK(took < ns + 20000 * MS); // a loaded host takes its time
}

static void test_nanosleep(void)
{
	sleeps(1);
	sleeps(50000);
	sleeps(1 * MS);
	sleeps(20 * MS);
	sleeps(150 * MS);
	struct timespec bad = {0, 1000 * MS};
	CHECK_ERR(nanosleep(&bad, NULL), EINVAL);
	bad.tv_nsec = -1;
	CHECK_ERR(nanosleep(&bad, NULL), EINVAL);
	bad.tv_sec = -1, bad.tv_nsec = 0;
	CHECK_ERR(nanosleep(&bad, NULL), EINVAL);
	CHECK_ERR(syscall(SYS_nanosleep, 8, 0), EFAULT);
	struct timespec zero = {0, 0};
	CHECK_EQ(nanosleep(&zero, NULL), 0);
}

static void test_absolute_sleep(void)
{
	struct timespec t;

	for (int i = 0; i < 2; i++) {
		clockid_t id = i ? CLOCK_REALTIME : CLOCK_MONOTONIC;
		int64_t until = now_ns(id) + 60 * MS;
		t.tv_sec = until / (1000 * MS), t.tv_nsec = until % (1000 * MS);
		CHECK_EQ(clock_nanosleep(id, TIMER_ABSTIME, &t, NULL), 0);
		CHECK(now_ns(id) >= until);
		CHECK_EQ(clock_nanosleep(id, TIMER_ABSTIME, &t, NULL), 0); // in the past
	}
	CHECK_EQ(clock_nanosleep(99, 0, &t, NULL), EINVAL);
	CHECK_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL), EINVAL);
	CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL), EOPNOTSUPP);
}

// While a program sleeps it uses no CPU time; while it spins it does.
static void test_cpu_time(void)
{
	int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID), start;

	sleep_ms(200);
	CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 100 * MS);
	start = now_ns(CLOCK_MONOTONIC);
	cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
	while (now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu < 50 * MS) // which others may need, too
		CHECK(now_ns(CLOCK_MONOTONIC) - start < 60000 * MS);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 40 * MS);
}

// Nobody adjusts the clock here: what it says of itself can be read.
static void test_adjustment(void)
{
	struct timex t = {0};
	struct timeval left;

	CHECK(adjtimex(&t) >= 0);
	CHECK(t.tick >= 9000 && t.tick <= 11000 && t.tolerance > 0 && t.precision > 0);
	CHECK(llabs(t.time.tv_sec - now_ns(CLOCK_REALTIME) / 1000000000) < 60);
	CHECK(clock_adjtime(CLOCK_REALTIME, &t) >= 0);
	CHECK_ERR(clock_adjtime(CLOCK_MONOTONIC, &t), EOPNOTSUPP);
	CHECK_ERR(clock_adjtime(99, &t), EINVAL);
	CHECK_ERR(syscall(SYS_adjtimex, 8), EFAULT);
	CHECK_EQ(adjtime(NULL, &left), 0);
	struct timeval none = {0};
	if (geteuid() == 0)
		CHECK_EQ(adjtime(&none, &left), 0);
}

TESTS({"clocks", test_clocks}, {"monotonic", test_monotonic}, {"wall-clock", test_wall_clock},
      {"nanosleep", test_nanosleep}, {"absolute-sleep", test_absolute_sleep},
      {"cpu-time", test_cpu_time}, {"adjustment", test_adjustment})
