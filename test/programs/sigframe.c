// What a handler finds and leaves: every register survives signals at random
// instants, in loops and around system calls, nested handlers included.
#include "check.h"
#include <ucontext.h>

static volatile int handled;

// The handler soils all it can.
static void soil(int s)
{
	(void)s;
	handled++;
	__asm__ volatile("pcmpeqd %%xmm0,%%xmm0; movdqa %%xmm0,%%xmm1; movdqa %%xmm0,%%xmm2; movdqa %%xmm0,%%xmm3;"
			 "movdqa %%xmm0,%%xmm4; movdqa %%xmm0,%%xmm5; movdqa %%xmm0,%%xmm6; movdqa %%xmm0,%%xmm7;"
			 "movdqa %%xmm0,%%xmm8; movdqa %%xmm0,%%xmm15; fninit; fld1; fldz; std; cld"
			 ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm15");
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vpcmpeqd %%xmm0,%%xmm0,%%xmm0; vinsertf128 $1,%%xmm0,%%ymm0,%%ymm0;"
				 "vmovaps %%ymm0,%%ymm6; vmovaps %%ymm0,%%ymm9; vmovaps %%ymm0,%%ymm14; vzeroupper" ::: "xmm0", "xmm6", "xmm9", "xmm14");
	errno = 12345;
	if (handled % 3 == 0)
		syscall(SYS_getppid);
	if (handled % 50 == 0)
		raise(SIGUSR2); // nested
}

static void timer(int us)
{
	struct itimerval t = {{0, us}, {0, us}};

	setitimer(ITIMER_REAL, &t, NULL);
}

static void start(void)
{
	struct sigaction a = {.sa_handler = soil, .sa_flags = SA_RESTART};

	sigaction(SIGALRM, &a, NULL);
	sigaction(SIGUSR2, &a, NULL);
	handled = 0;
	timer(1000);
}

static uint64_t vectors[16][4] __attribute__((aligned(32))), vectors_out[16][4] __attribute__((aligned(32)));
static uint64_t sum_out[8];

// loop runs a computation in registers only and leaves its results in sum_out.
__attribute__((noinline)) static void loop(uint64_t n, int calls)
{
	__asm__ volatile("movdqa vectors(%%rip),%%xmm6; movdqa vectors+32(%%rip),%%xmm9; movdqa vectors+64(%%rip),%%xmm14;"
			 "xor %%r8,%%r8; xor %%r9,%%r9; xor %%r12,%%r12; xor %%r13,%%r13; mov $1,%%r14; mov %0,%%rbx;"
			 "fldpi;"
			 "1: add $3,%%r8; add %%r8,%%r9; xor %%r9,%%r12; rol $7,%%r12; add %%r12,%%r13; imul $31,%%r14;"
			 "paddq %%xmm9,%%xmm6; pxor %%xmm6,%%xmm14;"
			 "test %1,%1; jz 2f; mov $39,%%eax; syscall; 2: dec %%rbx; jnz 1b;"
			 "fstpl sum_out+40(%%rip);"
			 "mov %%r8,sum_out(%%rip); mov %%r9,sum_out+8(%%rip); mov %%r12,sum_out+16(%%rip);"
			 "mov %%r13,sum_out+24(%%rip); mov %%r14,sum_out+32(%%rip);"
			 "movdqa %%xmm6,vectors_out(%%rip); movdqa %%xmm14,vectors_out+32(%%rip)"
			 : : "r"(n), "r"(calls)
			 : "rax", "rbx", "rcx", "r8", "r9", "r11", "r12", "r13", "r14", "xmm6", "xmm9", "xmm14", "memory");
}

static void compare(uint64_t n, int calls)
{
	uint64_t want[8], want_vectors[16][4];

	for (unsigned i = 0; i < sizeof vectors / 8; i++)
		((uint64_t *)vectors)[i] = 0x0123456789abcdefULL * (i + 3);
	loop(n, calls); // undisturbed
	memcpy(want, sum_out, sizeof want);
	memcpy(want_vectors, vectors_out, sizeof want_vectors);
	start();
	for (int i = 0; i < 40 && (i < 4 || handled < 60); i++) {
		memset(sum_out, 0, sizeof sum_out);
		errno = 77;
		loop(n, calls);
		if (memcmp(want, sum_out, sizeof want) || memcmp(want_vectors, vectors_out, 64)) {
			timer(0);
			printf("round %d after %d signals differs\n", i, handled);
			check_failed = 1;
			return;
		}
	}
	timer(0);
	CHECK(handled > 10);
}

static void test_loop(void) { compare(3000000, 0); }
static void test_system_calls(void) { compare(30000, 1); }

static void test_ymm(void)
{
	static uint64_t in[4] = {1, 2, 3, 4}, out[4];

	if (!__builtin_cpu_supports("avx"))
		return;
	start();
	for (int round = 0; round < 40 && handled < 60; round++) {
		__asm__ volatile("vmovdqu %1,%%ymm14; mov $2000000,%%ecx; 1: dec %%ecx; jnz 1b; vmovdqu %%ymm14,%0; vzeroupper"
				 : "=m"(out) : "m"(in) : "ecx", "xmm14");
		if (memcmp(in, out, 32)) {
			timer(0);
			CHECK(memcmp(in, out, 32) == 0);
		}
	}
	timer(0);
	CHECK(handled > 10);
}

static void *volatile red_zone_ok;
static volatile ucontext_t *seen;
static volatile uint64_t frame_sp, context_sp, context_flags, context_cs, trap_r15;
static void look(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;

	(void)s, (void)i;
	frame_sp = (uint64_t)__builtin_frame_address(0);
	context_sp = c->uc_mcontext.gregs[REG_RSP];
	context_flags = c->uc_mcontext.gregs[REG_EFL];
	context_cs = c->uc_mcontext.gregs[REG_CSGSFS] & 0xffff;
	trap_r15 = c->uc_mcontext.gregs[REG_R15];
	// The vector state is there and aligned, and magic words mark its extent.
	seen = (ucontext_t *)((uintptr_t)c->uc_mcontext.fpregs % 64 == 0 ? u : NULL);
	uint32_t *sw = (uint32_t *)((char *)c->uc_mcontext.fpregs + 464);
	red_zone_ok = sw[0] == 0x46505853 ? (void *)sw : NULL;
	handled++;
}

static void test_frame(void)
{
	struct sigaction a = {.sa_sigaction = look, .sa_flags = SA_SIGINFO};
	uint64_t before;

	sigaction(SIGUSR1, &a, NULL);
	handled = 0;
	// kill by hand, so that registers are known at that instant.
	__asm__ volatile("mov $0x77665544,%%r15; mov %%rsp,%0; mov $62,%%eax; mov %1,%%edi; mov $10,%%esi; syscall"
			 : "=&r"(before) : "r"(getpid()) : "rax", "rcx", "rdi", "rsi", "r11", "r15", "memory");
	CHECK_EQ(handled, 1);
	CHECK_EQ(trap_r15, 0x77665544);
	CHECK_EQ(context_sp, before);
	CHECK(context_sp - frame_sp > 128); // beyond the red zone
	CHECK_EQ((frame_sp + 16) % 16, 0);
	CHECK(context_flags & 0x200);
	CHECK_EQ(context_cs, 0x33);
	CHECK(seen != NULL);
	CHECK(red_zone_ok != NULL || !__builtin_cpu_supports("avx"));
}

static uint64_t set_flags;
static void set_context(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;

	(void)s, (void)i;
	c->uc_mcontext.gregs[REG_EFL] |= set_flags;
}

// A program can't gain by what it writes into the frame.
static void test_hostile_frame(void)
{
	struct sigaction a = {.sa_sigaction = set_context, .sa_flags = SA_SIGINFO};
	uint64_t flags;

	sigaction(SIGUSR1, &a, NULL);
	set_flags = 0x3000 /* IOPL */ | 0x4000 /* NT */ | 0x1 /* CF */;
	__asm__ volatile("mov $62,%%eax; mov %1,%%edi; mov $10,%%esi; syscall; pushfq; pop %0"
			 : "=r"(flags) : "r"(getpid()) : "rax", "rcx", "rdi", "rsi", "r11", "memory", "cc");
	CHECK_EQ(flags & 0x3000, 0);
	CHECK(flags & 0x200);
}

TESTS({"loop", test_loop}, {"system-calls", test_system_calls}, {"ymm", test_ymm},
      {"frame", test_frame}, {"hostile-frame", test_hostile_frame})
