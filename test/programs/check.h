// What every test program here shares. A program is a list of tests; it prints
// "ok NAME" for each that passes and "FAIL NAME: ..." for each that doesn't, and
// exits with 1 if one failed. Arguments choose tests by name.
//
// Every program must pass on Linux before it says anything about Elver.
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct test {
	const char *name;
	void (*run)(void);
};

static const char *check_name;
static volatile int check_failed;

// CHECK ends the test function when the condition doesn't hold.
#define CHECK(cond)                                                                        \
	do {                                                                               \
		errno = 0;                                                                 \
		if (!(cond)) {                                                             \
			printf("FAIL %s: %s:%d: %s (errno %d, %s)\n", check_name,          \
			       __FILE__, __LINE__, #cond, errno, strerror(errno));         \
			check_failed = 1;                                                  \
			return;                                                            \
		}                                                                          \
	} while (0)

// CHECK_EQ also says what was found.
#define CHECK_EQ(got, want)                                                                \
	do {                                                                               \
		long long got_ = (long long)(got), want_ = (long long)(want);              \
		if (got_ != want_) {                                                       \
			printf("FAIL %s: %s:%d: %s is %lld (0x%llx), not %lld\n",          \
			       check_name, __FILE__, __LINE__, #got, got_, got_, want_);   \
			check_failed = 1;                                                  \
			return;                                                            \
		}                                                                          \
	} while (0)

// CHECK_ERR wants a call to fail with -1 and this errno.
#define CHECK_ERR(call, want)                                                              \
	do {                                                                               \
		errno = 0;                                                                 \
		long long got_ = (long long)(call);                                        \
		int err_ = errno;                                                          \
		if (got_ != -1 || err_ != (want)) {                                        \
			printf("FAIL %s: %s:%d: %s gave %lld and errno %d (%s), not %s\n", \
			       check_name, __FILE__, __LINE__, #call, got_, err_,          \
			       strerror(err_), #want);                                     \
			check_failed = 1;                                                  \
			return;                                                            \
		}                                                                          \
	} while (0)

// With CHECK_SECONDS a test that takes longer fails, and the next one goes on.
#ifdef CHECK_SECONDS
static sigjmp_buf check_over;

static void check_late(int sig) { siglongjmp(check_over, sig); }

static void check_watch(timer_t t, int seconds)
{
	struct itimerspec when = {.it_value.tv_sec = seconds};

	timer_settime(t, 0, &when, NULL);
}

static void check_run(void (*test)(void))
{
	struct sigevent to = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMAX};
	timer_t t;

#ifdef sigev_notify_thread_id
	to.sigev_notify_thread_id = gettid();
#else
	to._sigev_un._tid = gettid();
#endif
	signal(SIGRTMAX, check_late);
	timer_create(CLOCK_MONOTONIC, &to, &t);
	if (sigsetjmp(check_over, 1)) {
		printf("FAIL %s: no end within %d s\n", check_name, CHECK_SECONDS);
		check_failed = 1;
	} else {
		check_watch(t, CHECK_SECONDS);
		test();
	}
	timer_delete(t);
}
#else
static inline void check_run(void (*test)(void)) { test(); }
#endif

static inline int check_main(int argc, char **argv, const struct test *tests, int n)
{
	int failures = 0;

	for (int i = 0; i < n; i++) {
		int wanted = argc < 2;

		for (int j = 1; j < argc; j++)
			wanted |= strcmp(argv[j], tests[i].name) == 0;
		if (!wanted)
			continue;
		check_name = tests[i].name;
		check_failed = 0;
		check_run(tests[i].run);
		if (check_failed)
			failures++;
		else
			printf("ok %s\n", check_name);
		fflush(stdout);
	}
	return failures != 0;
}

#define TESTS(...)                                                                         \
	int main(int argc, char **argv)                                                    \
	{                                                                                  \
		static const struct test tests[] = {__VA_ARGS__};                          \
		return check_main(argc, argv, tests, sizeof tests / sizeof *tests);        \
	}

// can_read and can_write ask the kernel about a byte of memory, so that a test
// of memory needs no signal handler.
static inline int can_read(const void *p)
{
	// The set is copied in before "how" is looked at.
	syscall(SYS_rt_sigprocmask, 99, p, NULL, 8);
	return errno == EINVAL;
}

static inline int can_write(void *p)
{
	return syscall(SYS_getrandom, p, 1, 1 /* GRND_NONBLOCK */) == 1;
}

static inline int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void sleep_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&t, &t) == -1 && errno == EINTR)
		;
}

#endif
