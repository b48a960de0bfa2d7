// Threads that compute in registers only, taken off the CPU and back on by one
// another: nobody sees another's registers, FS base or MXCSR.
#include "check.h"
#include <pthread.h>

static __thread long mine;
static volatile int bad;

static void *compute(void *arg)
{
	uint64_t k = (uint64_t)(long)arg * 0x9e3779b97f4a7c15ULL, in[4] = {k, k + 1, k + 2, k + 3}, out[4], r;
	uint32_t mxcsr = 0x1f80 | ((uint32_t)(long)arg % 4 << 13), got;

	mine = (long)arg;
	for (int round = 0; round < 30; round++) {
		__asm__ volatile("ldmxcsr %5; movdqu %3,%%xmm7; movdqu %4,%%xmm13; mov %6,%%r12; mov $1000000,%%ecx; 1: add $1,%%r12; dec %%ecx; jnz 1b;"
				 "movdqu %%xmm7,%0; movdqu %%xmm13,%1; mov %%r12,%2"
				 : "=m"(out[0]), "=m"(out[2]), "=r"(r)
				 : "m"(in[0]), "m"(in[2]), "m"(mxcsr), "r"(k)
				 : "rcx", "r12", "xmm7", "xmm13", "memory");
		__asm__ volatile("stmxcsr %0" : "=m"(got));
		if (memcmp(in, out, sizeof in) || r != k + 1000000 || got != mxcsr || mine != (long)arg)
			bad++;
		if (round % 3 == 0)
			sched_yield();
		if (round % 5 == 0)
			sleep_ms(1);
		errno = (int)(long)arg;
		syscall(SYS_getppid);
		if (errno != (int)(long)arg)
			bad++;
	}
	return NULL;
}

static void test_switches(void)
{
	pthread_t t[8];

	for (long i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, compute, (void *)(i + 1)), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(bad, 0);
}

TESTS({"switches", test_switches})
