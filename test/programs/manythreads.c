// A thousand and ten thousand threads, all there at once.
#include "check.h"
#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int there, go;

static void *wait_for_all(void *arg)
{
	pthread_mutex_lock(&mutex);
	there++;
	while (!go)
		pthread_cond_wait(&cond, &mutex);
	there--;
	pthread_mutex_unlock(&mutex);
	return arg;
}

static void many(int n)
{
	static pthread_t t[10000];
	pthread_attr_t attr;

	there = go = 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (long i = 0; i < n; i++)
		CHECK_EQ(pthread_create(&t[i], &attr, wait_for_all, (void *)i), 0);
	for (int all = 0; !all; sleep_ms(1)) {
		pthread_mutex_lock(&mutex);
		all = there == n;
		pthread_mutex_unlock(&mutex);
	}
	pthread_mutex_lock(&mutex);
	go = 1;
	pthread_mutex_unlock(&mutex);
	pthread_cond_broadcast(&cond);
	for (long i = 0; i < n; i++) {
		void *r;
		CHECK_EQ(pthread_join(t[i], &r), 0);
		CHECK_EQ((long)r, i);
	}
	CHECK_EQ(there, 0);
}

static void test_thousand(void) { many(1000); }
static void test_ten_thousand(void) { many(10000); }

static void *nothing(void *arg) { return arg; }
static void test_one_after_another(void)
{
	for (int i = 0; i < 10000; i++) {
		pthread_t t;
		CHECK_EQ(pthread_create(&t, NULL, nothing, NULL), 0);
		pthread_join(t, NULL);
	}
}

TESTS({"thousand", test_thousand}, {"ten-thousand", test_ten_thousand},
      {"one-after-another", test_one_after_another})
