// The futex system call, without a library between.
#include "check.h"
#include <pthread.h>

// Of linux/futex.h, which musl's compiler wrapper doesn't find.
enum {
	FUTEX_WAIT = 0,
	FUTEX_WAKE = 1,
	FUTEX_WAIT_BITSET = 9,
	FUTEX_CLOCK_REALTIME = 256,
	FUTEX_WAIT_PRIVATE = 128 + 0,
	FUTEX_WAKE_PRIVATE = 128 + 1,
	FUTEX_CMP_REQUEUE_PRIVATE = 128 + 4,
	FUTEX_WAKE_OP_PRIVATE = 128 + 5,
	FUTEX_WAIT_BITSET_PRIVATE = 128 + 9,
	FUTEX_WAKE_BITSET_PRIVATE = 128 + 10,
	FUTEX_UNLOCK_PI_PRIVATE = 128 + 7,
	FUTEX_WAIT_REQUEUE_PI_PRIVATE = 128 + 11,
	FUTEX_CMP_REQUEUE_PI_PRIVATE = 128 + 12,
	FUTEX_OP_ADD = 1,
	FUTEX_OP_CMP_GT = 4,
};
#define FUTEX_OP(op, arg, cmp, cmp_arg) ((op) << 28 | (cmp) << 24 | (arg) << 12 | (cmp_arg))

static int word, other;

static long futex(int *u, int op, int val, const void *timeout, int *u2, int val3)
{
	return syscall(SYS_futex, u, op, val, timeout, u2, val3);
}

static void test_bad_arguments(void)
{
	CHECK_ERR(futex((int *)3, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
	CHECK_ERR(futex((int *)8, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	int file = open("/tmp", O_RDWR | O_TMPFILE, 0600);
	CHECK(file >= 0 && ftruncate(file, 4096) == 0);
	int *in_file = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	CHECK(in_file != MAP_FAILED);
	CHECK_EQ(futex(in_file, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
	CHECK_EQ(ftruncate(file, 0), 0);
	CHECK_ERR(futex(in_file, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
	CHECK_EQ(munmap(in_file, 4096), 0);
	close(file);
	CHECK_ERR(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
	CHECK_ERR(futex(&word, FUTEX_WAIT, 77, NULL, NULL, 0), EAGAIN);
	CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
	CHECK_EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
	struct timespec bad = {0, 2000000000};
	CHECK_ERR(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0), EINVAL);
}

static void test_timeouts(void)
{
	struct timespec t = {0, 30000000};
	int64_t start = now_ns(CLOCK_MONOTONIC);

	CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0), ETIMEDOUT);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
	for (int i = 0; i < 2; i++) {
		clockid_t id = i ? CLOCK_REALTIME : CLOCK_MONOTONIC;
		int64_t until = now_ns(id) + 30000000;
		t.tv_sec = until / 1000000000, t.tv_nsec = until % 1000000000;
		CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET | (i ? FUTEX_CLOCK_REALTIME : 0), 0, &t, NULL, -1), ETIMEDOUT);
		CHECK(now_ns(id) >= until);
		CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET | (i ? FUTEX_CLOCK_REALTIME : 0), 0, &t, NULL, -1), ETIMEDOUT);
	}
}

static volatile int waiting, woken;
static void *wait_bits(void *arg)
{
	__atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
	long r = futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (int)(long)arg);
	__atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
	return (void *)r;
}

static void gather(pthread_t *t, int n, long bits)
{
	waiting = woken = 0;
	for (int i = 0; i < n; i++)
		pthread_create(&t[i], NULL, wait_bits, (void *)(bits ? bits : 1L << i));
	while (waiting < n)
		sched_yield();
	sleep_ms(50); // and now they sleep
}

static void test_wake_and_bitset(void)
{
	pthread_t t[8];

	gather(t, 8, 0);
	CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 100, NULL, NULL, 0x11), 2);
	CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 3, NULL, NULL, 0), 3);
	sleep_ms(20);
	CHECK_EQ(woken, 5);
	CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 3);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(woken, 8);
}

static void test_requeue(void)
{
	pthread_t t[6];

	gather(t, 6, -1);
	CHECK_ERR(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10L, &other, 5), EAGAIN);
	CHECK_EQ(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)3L, &other, 0), 4);
	sleep_ms(20);
	CHECK_EQ(woken, 1);
	CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0), 2);
	CHECK_EQ(futex(&other, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0), 3);
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
}

static void test_wake_op(void)
{
	pthread_t t[2];

	gather(t, 2, -1);
	other = 5;
	// other += 3; wake two on word, and on other if it was above 4 (nobody is there).
	int op = FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_GT, 4);
	CHECK_EQ(futex(&word, FUTEX_WAKE_OP_PRIVATE, 2, (void *)1L, &other, op), 2);
	CHECK_EQ(other, 8);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	other = 0;
}

static void on_signal(int s) { (void)s; }

static void test_interrupted(void)
{
	struct sigaction a = {.sa_handler = on_signal};
	struct itimerval t = {{0, 0}, {0, 30000}};

	sigaction(SIGALRM, &a, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EINTR);
}

static void *wake_shared(void *arg)
{
	sleep_ms(30);
	futex(arg, FUTEX_WAKE, 1, NULL, NULL, 0);
	return NULL;
}

// Two mappings of one page are one futex.
static void test_shared(void)
{
	int fd = syscall(SYS_memfd_create, "futex", 0);
	pthread_t t;

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, 4096), 0);
	int *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(a != MAP_FAILED && b != MAP_FAILED && a != b);
	pthread_create(&t, NULL, wake_shared, b + 5);
	struct timespec limit = {5, 0};
	CHECK_EQ(futex(a + 5, FUTEX_WAIT, 0, &limit, NULL, 0), 0);
	pthread_join(t, NULL);
	close(fd);
}

static int mutex, counter;
static void *hammer(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		int c = 0;
		if (!__atomic_compare_exchange_n(&mutex, &c, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			while (__atomic_exchange_n(&mutex, 2, __ATOMIC_SEQ_CST) != 0)
				futex(&mutex, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
		}
		counter++;
		if (__atomic_exchange_n(&mutex, 0, __ATOMIC_SEQ_CST) == 2)
			futex(&mutex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	return arg;
}

static void test_mutex_of_ones_own(void)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, hammer, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(counter, 80000);
}

static int condition, lock;
static volatile int owned;

// Waits at the condition for the PI lock, and lets it go again.
static void *wait_for_lock(void *arg)
{
	if (futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, &lock, 0) != 0)
		return (void *)1;
	if ((__atomic_load_n(&lock, __ATOMIC_SEQ_CST) & 0x3fffffff) != (int)syscall(SYS_gettid))
		return (void *)2;
	owned++;
	if (futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) != 0)
		return (void *)3;
	return arg;
}

static void requeue_pi(int held)
{
	pthread_t t[4];
	int served = 0;

	owned = 0;
	lock = held ? (int)syscall(SYS_gettid) : 0;
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, wait_for_lock, NULL), 0);
	// Who isn't there yet is not served.
	for (int tries = 0; served < 4 && tries < 5000; tries++) {
		long n = futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)10, &lock, 0);
		CHECK(n >= 0);
		served += (int)n;
		sleep_ms(1);
	}
	CHECK_EQ(served, 4);
	if (held) {
		CHECK_EQ(owned, 0);
		CHECK_EQ(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
	}
	for (int i = 0; i < 4; i++) {
		void *r;
		CHECK_EQ(pthread_join(t[i], &r), 0);
		CHECK_EQ((long)r, 0);
	}
	CHECK_EQ(owned, 4);
	CHECK_EQ(lock, 0);
}

static void test_requeue_pi(void)
{
	struct timespec past = {0, 0};
	pthread_t t;
	void *r;

	CHECK_ERR(futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, &condition, 0), EINVAL);
	CHECK_ERR(futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, NULL, &lock, 0), EAGAIN);
	CHECK_ERR(futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, &past, &lock, 0), ETIMEDOUT);
	CHECK_ERR(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 2, (void *)1, &lock, 0), EINVAL);
	CHECK_ERR(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1, &lock, 1), EAGAIN);
	CHECK_ERR(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1, &condition, 0), EINVAL);
	CHECK_EQ(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1, &lock, 0), 0);
	requeue_pi(0);
	if (!check_failed)
		requeue_pi(1);
	if (check_failed)
		return;
	// The plain operations leave those who want a PI lock alone.
	lock = 0;
	CHECK_EQ(pthread_create(&t, NULL, wait_for_lock, NULL), 0);
	for (int tries = 0; tries < 5000; tries++) {
		sleep_ms(1);
		if (futex(&condition, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) != 0)
			break;
	}
	CHECK_ERR(futex(&condition, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EINVAL);
	CHECK_EQ(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)0, &lock, 0), 1);
	CHECK_EQ(pthread_join(t, &r), 0);
	CHECK_EQ((long)r, 0);
}

TESTS({"bad-arguments", test_bad_arguments}, {"timeouts", test_timeouts},
      {"wake-and-bitset", test_wake_and_bitset}, {"requeue", test_requeue}, {"wake-op", test_wake_op},
      {"interrupted", test_interrupted}, {"shared", test_shared},
      {"mutex-of-ones-own", test_mutex_of_ones_own}, {"requeue-pi", test_requeue_pi})
