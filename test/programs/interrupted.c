// What a signal at a random instant must leave as it was: general registers,
// flags, x87, MXCSR, XMM and YMM registers, errno, the mask, the alternate stack.
// The handlers overwrite all of them, and are interrupted themselves.
#include "check.h"
#include <cpuid.h>
#include <pthread.h>

static timer_t disturber;
static volatile long taken, nested, deepest;
static __thread volatile int depth;
static __thread uint64_t seed;

static unsigned chance(unsigned n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(seed >> 33) % n;
}

static void again(void)
{
	struct itimerspec when = {.it_value.tv_nsec = 10000 + (long)chance(200000)};

	timer_settime(disturber, 0, &when, NULL);
}

static int avx;

// clobber fills what a handler may use, and more.
static void clobber(uint64_t with)
{
	double d[2] = {(double)with, -1};
	uint32_t mxcsr = 0x1f80 | 3 << 13;

	__asm__ volatile("ldmxcsr %1; .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15; movdqu %0,%%xmm\\i; .endr;"
			 "fninit; fldl %0; fldl %0; fldl %0; std; cld" ::"m"(d), "m"(mxcsr)
			 : "memory", "cc");
	if (avx)
		__asm__ volatile(".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15; vinsertf128 $1,%0,%%ymm\\i,%%ymm\\i; .endr" ::"m"(d)
				 : "memory");
	errno = (int)with;
}

static void handler(int sig, siginfo_t *info, void *context)
{
	int before = errno;

	(void)context;
	depth++;
	taken++;
	if (depth > 1)
		nested++;
	if (depth > deepest)
		deepest = depth;
	clobber((uint64_t)taken * 7919 + (unsigned)sig);
	if (info->si_code == SI_TIMER)
		again();
	if (depth < 6 && chance(3) == 0)
		pthread_kill(pthread_self(), chance(2) ? SIGUSR1 : SIGRTMIN + 3);
	if (chance(4) == 0)
		syscall(SYS_getppid);
	if (chance(16) == 0)
		sched_yield();
	clobber((uint64_t)taken * 104729);
	depth--;
	errno = before;
}

// compute keeps values in every register and counts, and says what changed.
static long compute(uint64_t k)
{
	uint64_t in[4] = {k, ~k, k * 3, k ^ 0x5555555555555555}, lows[2] = {0, 0}, highs[4] = {0, 0, 0, 0};
	uint64_t wrong = 0;
	uint32_t mxcsr = 0x1f80 | (uint32_t)(k % 4) << 13, got;
	double half = 0.5 + (double)(k % 1000), back = 0;
	uint16_t control = 0x037f & ~(uint16_t)0x300, control_got = 0;

	// Loop and compare in the same breath: nothing here is spilled to memory.
	__asm__ volatile("fninit; fldcw %[cw]; fldl %[half]; ldmxcsr %[mx];"
			 "movdqu %[in],%%xmm1; movdqu %[in],%%xmm9; movdqu 16+%[in],%%xmm15;"
			 "mov %[k],%%r8; mov %[k],%%r9; not %%r9; mov %[k],%%r10; mov %[k],%%r11; mov %[k],%%r12;"
			 "mov %[k],%%r13; mov %[k],%%r14; mov %[k],%%rsi; mov %[k],%%rdi; mov $60000,%%ecx;"
			 "1: lea (%%r8,%%r9),%%rax; cmp $-1,%%rax; setne %%dl; movzbl %%dl,%%edx; or %%rdx,%[wrong];"
			 "stc; setnc %%dl; movzbl %%dl,%%edx; or %%rdx,%[wrong];"
			 "mov %%r10,%%rax; xor %%r11,%%rax; or %%rax,%[wrong]; mov %%r12,%%rax; xor %%r13,%%rax; or %%rax,%[wrong];"
			 "mov %%r14,%%rax; xor %%rsi,%%rax; or %%rax,%[wrong]; xor %%rdi,%%rsi; or %%rsi,%[wrong]; mov %%rdi,%%rsi;"
			 "dec %%ecx; jnz 1b;"
			 "movdqu %%xmm1,%[lows]; pxor %%xmm9,%%xmm1; movdqu %%xmm1,%[highs]; movdqu %%xmm15,16+%[highs];"
			 "fstpl %[back]; fnstcw %[cwgot]; stmxcsr %[mxgot]"
			 : [wrong] "+b"(wrong), [lows] "=m"(lows), [highs] "=m"(highs), [back] "=m"(back), [cwgot] "=m"(control_got), [mxgot] "=m"(got)
			 : [in] "m"(in), [k] "m"(k), [cw] "m"(control), [half] "m"(half), [mx] "m"(mxcsr)
			 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "xmm1", "xmm9", "xmm15", "cc", "memory");
	if (wrong != 0)
		return 1;
	if (memcmp(lows, in, 16) || highs[0] || highs[1] || memcmp(highs + 2, in + 2, 16))
		return 2;
	if (back != half || control_got != control)
		return 3;
	// MXCSR's sticky flags may not be set by anybody else either.
	if (got != mxcsr)
		return 4;
	if (avx) {
		uint64_t y[4];
		uint64_t zero = 0;
		__asm__ volatile("vmovdqu %[in],%%ymm3; vmovdqu %[in],%%ymm12; mov $60000,%%ecx; 1: vptest %%ymm3,%%ymm3; dec %%ecx; jnz 1b;"
				 "vmovdqu %%ymm12,%[y]; vpcmpeqq %%xmm3,%%xmm12,%%xmm3; vpmovmskb %%xmm3,%[zero]; vzeroupper"
				 : [y] "=m"(y), [zero] "=r"(zero)
				 : [in] "m"(in)
				 : "rcx", "xmm3", "xmm12", "cc", "memory");
		if (memcmp(y, in, 32) || zero != 0xffff)
			return 5;
	}
	return 0;
}

static long loop(long id, int rounds)
{
	seed = (uint64_t)id * 977;
	for (int i = 0; i < rounds; i++) {
		errno = (int)id * 1000 + i % 1000;
		long r = compute((uint64_t)id * 0x9e3779b97f4a7c15ULL + (unsigned)i);
		if (r)
			return r;
		if (errno != (int)id * 1000 + i % 1000)
			return 6;
		if (i % 8 == 0)
			pthread_kill(pthread_self(), SIGUSR1);
	}
	return 0;
}

static void start(int flags)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_RESTART | SA_SIGINFO | flags};
	unsigned x, b, c, d;

	avx = __get_cpuid_count(7, 0, &x, &b, &c, &d) && (b & 1 << 5) && __get_cpuid(1, &x, &b, &c, &d) && (c & 1 << 27) && (c & 1 << 28);
	taken = nested = deepest = 0;
	CHECK_EQ(sigaction(SIGALRM, &a, NULL), 0);
	CHECK_EQ(sigaction(SIGUSR1, &a, NULL), 0);
	CHECK_EQ(sigaction(SIGRTMIN + 3, &a, NULL), 0);
	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &ev, &disturber), 0);
	again();
}

static void stop(void)
{
	signal(SIGALRM, SIG_IGN);
	timer_delete(disturber);
}

static void test_one(void)
{
	start(0);
	CHECK_EQ(loop(1, 400), 0);
	stop();
	CHECK(taken > 0);
}

static void test_nested(void)
{
	start(SA_NODEFER);
	CHECK_EQ(loop(2, 400), 0);
	stop();
	CHECK(nested > 0);
}

static void test_alternate_stack(void)
{
	static char memory[1 << 17];
	stack_t s = {.ss_sp = memory, .ss_size = sizeof memory}, now;

	CHECK_EQ(sigaltstack(&s, NULL), 0);
	start(SA_ONSTACK | SA_NODEFER);
	CHECK_EQ(loop(3, 400), 0);
	stop();
	CHECK_EQ(sigaltstack(NULL, &now), 0);
	CHECK(now.ss_sp == memory && now.ss_size == sizeof memory && now.ss_flags == 0);
	CHECK(nested > 0);
	s.ss_flags = SS_DISABLE;
	CHECK_EQ(sigaltstack(&s, NULL), 0);
}

static void *thread(void *arg) { return (void *)loop((long)arg, 150); }

static void test_threads(void)
{
	pthread_t t[4];
	sigset_t before, after;

	sigprocmask(SIG_SETMASK, NULL, &before);
	start(SA_NODEFER);
	for (long i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, thread, (void *)(i + 4)), 0);
	for (int i = 0; i < 4; i++) {
		void *r;
		CHECK_EQ(pthread_join(t[i], &r), 0);
		CHECK_EQ((long)r, 0);
	}
	stop();
	sigprocmask(SIG_SETMASK, NULL, &after);
	CHECK(memcmp(&before, &after, 8) == 0);
	CHECK(nested > 0);
}

TESTS({"one-level", test_one}, {"nested", test_nested}, {"alternate-stack", test_alternate_stack}, {"threads", test_threads})
