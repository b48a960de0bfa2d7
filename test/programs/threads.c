// POSIX threads.
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/prctl.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static volatile int shared, flag;

static void *adder(void *arg)
{
	for (int i = 0; i < 10000; i++) {
		pthread_mutex_lock(&mutex);
		shared++;
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

static void test_create_and_join(void)
{
	pthread_t t[8];
	void *r;

	shared = 0;
	for (long i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, adder, (void *)i), 0);
	for (long i = 0; i < 8; i++) {
		CHECK_EQ(pthread_join(t[i], &r), 0);
		CHECK_EQ((long)r, i);
	}
	CHECK_EQ(shared, 80000);
}

static int queue, consumed;
static void *consumer(void *arg)
{
	for (;;) {
		pthread_mutex_lock(&mutex);
		while (queue == 0)
			pthread_cond_wait(&cond, &mutex);
		if (queue < 0) {
			pthread_mutex_unlock(&mutex);
			return arg;
		}
		queue--, consumed++;
		pthread_mutex_unlock(&mutex);
	}
}

static void test_condition(void)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, consumer, NULL);
	for (int i = 0; i < 5000; i++) {
		pthread_mutex_lock(&mutex);
		queue++;
		pthread_mutex_unlock(&mutex);
		pthread_cond_signal(&cond);
	}
	for (int left = 1; left;) {
		pthread_mutex_lock(&mutex);
		left = queue;
		if (!left)
			queue = -1;
		pthread_mutex_unlock(&mutex);
		pthread_cond_broadcast(&cond);
		sched_yield();
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(consumed, 5000);
	struct timespec at;
	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_nsec += 30000000;
	if (at.tv_nsec >= 1000000000)
		at.tv_sec++, at.tv_nsec -= 1000000000;
	pthread_mutex_lock(&mutex);
	CHECK_EQ(pthread_cond_timedwait(&cond, &mutex, &at), ETIMEDOUT);
	pthread_mutex_unlock(&mutex);
}

static pthread_barrier_t barrier;
static volatile int phase_count[100], serial;
static void *phases(void *arg)
{
	for (int i = 0; i < 100; i++) {
		__atomic_add_fetch(&phase_count[i], 1, __ATOMIC_SEQ_CST);
		if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
			__atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
		if (phase_count[i] != 5)
			return (void *)1;
	}
	return arg;
}

static void test_barrier(void)
{
	pthread_t t[5];
	void *r;

	pthread_barrier_init(&barrier, NULL, 5);
	for (int i = 0; i < 5; i++)
		pthread_create(&t[i], NULL, phases, NULL);
	for (int i = 0; i < 5; i++) {
		pthread_join(t[i], &r);
		CHECK(r == NULL);
	}
	CHECK_EQ(serial, 100);
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static volatile int a, b, torn;
static void *reader(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		pthread_rwlock_rdlock(&rwlock);
		if (a != b)
			torn++;
		pthread_rwlock_unlock(&rwlock);
	}
	return arg;
}
static void *writer(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		pthread_rwlock_wrlock(&rwlock);
		a++;
		if (i % 100 == 0)
			sched_yield();
		b++;
		pthread_rwlock_unlock(&rwlock);
	}
	return arg;
}

static void test_rwlock(void)
{
	pthread_t t[6];

	for (int i = 0; i < 6; i++)
		pthread_create(&t[i], NULL, i < 2 ? writer : reader, NULL);
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(torn, 0);
	CHECK_EQ(a, 6000);
}

static pthread_key_t key;
static volatile int destroyed;
static __thread int local = 5;
static void destroy(void *v) { destroyed += (int)(long)v; }
static void *specific(void *arg)
{
	pthread_setspecific(key, arg);
	local += (int)(long)arg;
	sched_yield();
	return (void *)(long)(local + (pthread_getspecific(key) == arg));
}

static void test_thread_specific(void)
{
	pthread_t t[3];
	void *r;

	CHECK_EQ(pthread_key_create(&key, destroy), 0);
	for (long i = 1; i <= 3; i++)
		pthread_create(&t[i - 1], NULL, specific, (void *)i);
	for (long i = 1; i <= 3; i++) {
		pthread_join(t[i - 1], &r);
		CHECK_EQ((long)r, 6 + i);
	}
	CHECK_EQ(local, 5);
	CHECK_EQ(destroyed, 6);
}

static volatile int cleaned;
static void cleanup(void *arg) { cleaned += (int)(long)arg; }
static void *sleeper(void *arg)
{
	int p[2];

	pthread_cleanup_push(cleanup, (void *)7);
	flag = 1;
	if (arg) {
		for (;;)
			pthread_testcancel();
	} else if (pipe(p) == 0) {
		char c;
		if (read(p[0], &c, 1)) // for ever: a cancellation point
			abort();
	}
	pthread_cleanup_pop(0);
	return NULL;
}

static void test_cancellation(void)
{
	for (long i = 0; i < 2; i++) {
		pthread_t t;
		void *r;
		flag = cleaned = 0;
		CHECK_EQ(pthread_create(&t, NULL, sleeper, (void *)i), 0);
		while (!flag)
			sched_yield();
		sleep_ms(20);
		CHECK_EQ(pthread_cancel(t), 0);
		CHECK_EQ(pthread_join(t, &r), 0);
		CHECK(r == PTHREAD_CANCELED);
		CHECK_EQ(cleaned, 7);
	}
}

static pthread_mutex_t robust;
static void *die_with_lock(void *arg)
{
	pthread_mutex_lock(&robust);
	return arg;
}

static void test_robust_mutex(void)
{
	pthread_mutexattr_t attr;
	pthread_t t;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	CHECK_EQ(pthread_mutex_init(&robust, &attr), 0);
	pthread_create(&t, NULL, die_with_lock, NULL);
	sleep_ms(20);
	CHECK_EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
	CHECK_EQ(pthread_mutex_consistent(&robust), 0);
	CHECK_EQ(pthread_mutex_unlock(&robust), 0);
	pthread_join(t, NULL);
	CHECK_EQ(pthread_mutex_lock(&robust), 0);
	pthread_mutex_unlock(&robust);
}

static volatile pthread_t handled_by;
static volatile int handled;
static void handler(int s) { (void)s; handled_by = pthread_self(); handled++; }
static void *spinner(void *arg)
{
	flag = 1;
	while (!handled)
		;
	return arg;
}

static void test_directed_signals(void)
{
	pthread_t t;
	struct sigaction act = {.sa_handler = handler};

	sigaction(SIGUSR1, &act, NULL);
	flag = handled = 0;
	pthread_create(&t, NULL, spinner, NULL);
	while (!flag)
		sched_yield();
	CHECK_EQ(pthread_kill(t, SIGUSR1), 0);
	pthread_join(t, NULL);
	CHECK(pthread_equal(handled_by, t));
	// To the process: a thread that doesn't block it takes it.
	sigset_t m;
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	flag = handled = 0;
	pthread_create(&t, NULL, spinner, NULL);
	while (!flag)
		sched_yield();
	pthread_sigmask(SIG_BLOCK, &m, NULL);
	kill(getpid(), SIGUSR1);
	pthread_join(t, NULL);
	pthread_sigmask(SIG_UNBLOCK, &m, NULL);
	CHECK(pthread_equal(handled_by, t));
	CHECK_EQ(handled, 1);
}

static void *namer(void *arg)
{
	char name[17] = {0};

	prctl(PR_GET_NAME, name);
	prctl(PR_SET_NAME, "other");
	*(long *)arg = syscall(SYS_gettid);
	return (void *)(long)strcmp(name, "main-name");
}

static void test_names_and_ids(void)
{
	pthread_t t;
	void *r;
	long tid = 0;
	char name[17] = {0};

	prctl(PR_SET_NAME, "main-name");
	pthread_create(&t, NULL, namer, &tid);
	pthread_join(t, &r);
	CHECK(r == NULL); // inherited
	prctl(PR_GET_NAME, name);
	CHECK(strcmp(name, "main-name") == 0); // its own
	CHECK(tid > 0 && tid != getpid());
	CHECK_EQ(syscall(SYS_gettid), getpid());
}

static sem_t sem;
static void *poster(void *arg)
{
	for (int i = 0; i < 1000; i++)
		sem_post(&sem);
	return arg;
}

static void test_semaphore(void)
{
	pthread_t t;

	sem_init(&sem, 0, 0);
	pthread_create(&t, NULL, poster, NULL);
	for (int i = 0; i < 1000; i++)
		CHECK_EQ(sem_wait(&sem), 0);
	pthread_join(t, NULL);
	CHECK_ERR(sem_trywait(&sem), EAGAIN);
}

static void *burn(void *arg)
{
	volatile unsigned long *n = arg;

	while (!flag)
		(*n)++;
	return NULL;
}

// Spinning threads share the CPU, and leave some to others.
static void test_fairness(void)
{
	static volatile unsigned long n[4];
	pthread_t t[4];

	flag = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, burn, (void *)&n[i]);
	sleep_ms(1500);
	flag = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	unsigned long least = n[0], most = n[0];
	for (int i = 1; i < 4; i++) {
		least = n[i] < least ? n[i] : least;
		most = n[i] > most ? n[i] : most;
	}
	CHECK(least > most / 10);
}

static void *leaver(void *arg)
{
	pthread_exit(arg);
}

static void test_detached(void)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < 300; i++) {
		pthread_t t;
		CHECK_EQ(pthread_create(&t, &attr, leaver, NULL), 0);
	}
	sleep_ms(50);
}

TESTS({"create-and-join", test_create_and_join}, {"condition", test_condition},
      {"barrier", test_barrier}, {"rwlock", test_rwlock}, {"thread-specific", test_thread_specific},
      {"cancellation", test_cancellation}, {"robust-mutex", test_robust_mutex},
      {"directed-signals", test_directed_signals}, {"names-and-ids", test_names_and_ids},
      {"semaphore", test_semaphore}, {"fairness", test_fairness}, {"detached", test_detached})
