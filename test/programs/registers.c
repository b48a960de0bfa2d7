// Every register of the program survives system calls and preemption: general,
// x87, MXCSR, XMM, YMM, ZMM and mask registers where the CPU has them, FS and GS
// base, flags. RSP too: it holds a non-canonical value meanwhile.
#include "check.h"
#include <cpuid.h>

// Of asm/prctl.h, which musl's compiler wrapper doesn't find.
#define ARCH_SET_GS 0x1001
#define ARCH_SET_FS 0x1002
#define ARCH_GET_FS 0x1003
#define ARCH_GET_GS 0x1004

// In the order rax rbx rcx rdx rsi rdi rbp rsp r8..r15.
uint64_t gpr_in[16], gpr_out[16], saved_sp, mask_in[8], mask_out[8];
uint8_t vector_in[32 * 64], vector_out[32 * 64];
volatile uint64_t rounds, number;

#define SAVE_CALLEE "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; mov %rsp, saved_sp(%rip);"
#define LOAD_GPR                                                                           \
	"mov gpr_in+8(%rip),%rbx; mov gpr_in+16(%rip),%rcx; mov gpr_in+24(%rip),%rdx;"     \
	"mov gpr_in+32(%rip),%rsi; mov gpr_in+40(%rip),%rdi; mov gpr_in+48(%rip),%rbp;"    \
	"mov gpr_in+56(%rip),%rsp; mov gpr_in+64(%rip),%r8; mov gpr_in+72(%rip),%r9;"      \
	"mov gpr_in+80(%rip),%r10; mov gpr_in+88(%rip),%r11; mov gpr_in+96(%rip),%r12;"    \
	"mov gpr_in+104(%rip),%r13; mov gpr_in+112(%rip),%r14; mov gpr_in+120(%rip),%r15;" \
	"mov gpr_in(%rip),%rax;"
#define STORE_GPR                                                                              \
	"mov %rax,gpr_out(%rip); mov %rbx,gpr_out+8(%rip); mov %rcx,gpr_out+16(%rip);"         \
	"mov %rdx,gpr_out+24(%rip); mov %rsi,gpr_out+32(%rip); mov %rdi,gpr_out+40(%rip);"     \
	"mov %rbp,gpr_out+48(%rip); mov %rsp,gpr_out+56(%rip); mov %r8,gpr_out+64(%rip);"      \
	"mov %r9,gpr_out+72(%rip); mov %r10,gpr_out+80(%rip); mov %r11,gpr_out+88(%rip);"      \
	"mov %r12,gpr_out+96(%rip); mov %r13,gpr_out+104(%rip); mov %r14,gpr_out+112(%rip);"   \
	"mov %r15,gpr_out+120(%rip);"
#define RESTORE_CALLEE "mov saved_sp(%rip), %rsp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret;"
#define SYSCALLS "1: mov number(%rip),%rax; syscall; decq rounds(%rip); jnz 1b;"
#define SPIN "1: decq rounds(%rip); jnz 1b;"
#define EACH16 ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15;"
#define EACH32 ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31;"
#define LOAD_X EACH16 "movdqu vector_in+64*\\i(%rip),%xmm\\i; .endr;"
#define STORE_X EACH16 "movdqu %xmm\\i,vector_out+64*\\i(%rip); .endr;"
#define LOAD_Y EACH16 "vmovdqu vector_in+64*\\i(%rip),%ymm\\i; .endr;"
#define STORE_Y EACH16 "vmovdqu %ymm\\i,vector_out+64*\\i(%rip); .endr; vzeroupper;"
#define LOAD_Z EACH32 "vmovdqu64 vector_in+64*\\i(%rip),%zmm\\i; .endr;"                   \
	".irp i,0,1,2,3,4,5,6,7; kmovw mask_in+8*\\i(%rip),%k\\i; .endr;"
#define STORE_Z EACH32 "vmovdqu64 %zmm\\i,vector_out+64*\\i(%rip); .endr;"                 \
	".irp i,0,1,2,3,4,5,6,7; kmovw %k\\i,mask_out+8*\\i(%rip); .endr; vzeroupper;"

#define ROUTINE(name, load, body, store)                                                   \
	__attribute__((naked)) static void name(void)                                      \
	{                                                                                  \
		__asm__(SAVE_CALLEE load LOAD_GPR body STORE_GPR store RESTORE_CALLEE);    \
	}
ROUTINE(syscalls_x, LOAD_X, SYSCALLS, STORE_X)
ROUTINE(syscalls_y, LOAD_Y, SYSCALLS, STORE_Y)
ROUTINE(syscalls_z, LOAD_Z, SYSCALLS, STORE_Z)
ROUTINE(spin_x, LOAD_X, SPIN, STORE_X)
ROUTINE(spin_y, LOAD_Y, SPIN, STORE_Y)
ROUTINE(spin_z, LOAD_Z, SPIN, STORE_Z)

static unsigned vector_bytes(void)
{
	unsigned a, b, c, d, lo, hi;

	__cpuid(1, a, b, c, d);
	if (!(c & bit_OSXSAVE))
		return 16;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	if ((lo & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return 16;
	if ((lo & 0xe0) == 0xe0 && (b & bit_AVX512F))
		return 64;
	return 32;
}

static void fill(void)
{
	static unsigned seed = 1;

	for (int i = 0; i < 16; i++)
		gpr_in[i] = 0xa5a5000000000000ULL + 0x0101010101ULL * (i + 1) + ((uint64_t)seed << 40);
	for (unsigned i = 0; i < sizeof vector_in; i++)
		vector_in[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
	for (int i = 0; i < 8; i++)
		mask_in[i] = (seed >> i) & 0xffff;
	memset(gpr_out, 0, sizeof gpr_out);
	memset(vector_out, 0, sizeof vector_out);
	memset(mask_out, 0, sizeof mask_out);
}

static void compare(int system_calls)
{
	unsigned width = vector_bytes();

	for (int i = 0; i < 16; i++) {
		if (system_calls && (i == 0 || i == 2 || i == 9 + 2))
			continue; // rax, rcx, r11
		if (gpr_out[i] != gpr_in[i])
			printf("general register %d: %lx, not %lx\n", i, gpr_out[i], gpr_in[i]);
		CHECK(gpr_out[i] == gpr_in[i]);
	}
	for (unsigned i = 0; i < (width == 64 ? 32 : 16); i++) {
		if (memcmp(vector_in + 64 * i, vector_out + 64 * i, width))
			printf("vector register %u of %u bytes differs\n", i, width);
		CHECK(memcmp(vector_in + 64 * i, vector_out + 64 * i, width) == 0);
	}
	if (width == 64)
		CHECK(memcmp(mask_in, mask_out, sizeof mask_in) == 0);
}

static void run_syscalls(long nr, uint64_t n)
{
	unsigned width = vector_bytes();

	fill();
	number = nr;
	rounds = n;
	(width == 64 ? syscalls_z : width == 32 ? syscalls_y : syscalls_x)();
	compare(1);
}

static void test_getppid(void) { run_syscalls(SYS_getppid, 20000); }
static void test_no_such_call(void)
{
	run_syscalls(9999, 5000);
	CHECK_EQ(gpr_out[0], -ENOSYS);
}
static void test_number_with_high_bits(void)
{
	// The kernel looks at the low 32 bits, as a signed number.
	run_syscalls(0x7fff000000000000 | SYS_getppid, 100);
	CHECK_EQ(gpr_out[0], getppid());
	run_syscalls(-1, 100);
	CHECK_EQ(gpr_out[0], -ENOSYS);
	// Compatibility ("x32") numbers are none of ours.
	run_syscalls(0x40000000 | SYS_getppid, 100);
	CHECK_EQ(gpr_out[0], -ENOSYS);
}
// A call with a bad pointer goes through the fault fix-up.
static void test_faulting_call(void)
{
	run_syscalls(SYS_uname, 2000);
	CHECK_EQ(gpr_out[0], -EFAULT);
}
static void test_sched_yield(void) { run_syscalls(SYS_sched_yield, 2000); }

static void test_preemption(void)
{
	unsigned width = vector_bytes();
	int64_t start = now_ns(CLOCK_MONOTONIC);

	while (now_ns(CLOCK_MONOTONIC) - start < 500 * 1000000LL) {
		fill();
		rounds = 5000000;
		(width == 64 ? spin_z : width == 32 ? spin_y : spin_x)();
		compare(0);
		if (check_failed)
			return;
	}
}

static void test_page_faults(void)
{
	static char pages[64 * 4096] __attribute__((aligned(4096)));

	fill();
	register uint64_t r12 __asm__("r12") = gpr_in[12];
	register uint64_t r15 __asm__("r15") = gpr_in[15];
	__asm__ volatile("movdqu vector_in(%%rip),%%xmm5; movdqu vector_in+64(%%rip),%%xmm15;"
			 "mov $64,%%rcx; mov %2,%%rax; 1: movb $1,(%%rax); add $4096,%%rax; loop 1b;"
			 "movdqu %%xmm5,vector_out(%%rip); movdqu %%xmm15,vector_out+64(%%rip);"
			 : "+r"(r12), "+r"(r15)
			 : "r"(pages)
			 : "rax", "rcx", "xmm5", "xmm15", "memory");
	CHECK(r12 == gpr_in[12] && r15 == gpr_in[15]);
	CHECK(memcmp(vector_in, vector_out, 16) == 0);
	CHECK(memcmp(vector_in + 64, vector_out + 64, 16) == 0);
}

static void test_x87_and_mxcsr(void)
{
	uint32_t mxcsr = 0x1f80 | 0x6000 | 0x0040, old_mxcsr, got_mxcsr; // round to zero, DAZ
	uint16_t cw = 0x0c7f, old_cw, got_cw;                             // round to zero, double
	double out = 0;

	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(old_mxcsr), "=m"(old_cw));
	__asm__ volatile("fldcw %2; ldmxcsr %3; fldpi; mov $20000,%%ebx; 1: mov $39,%%eax; syscall; dec %%ebx; jnz 1b;"
			 "fstpl %4; stmxcsr %0; fnstcw %1"
			 : "=m"(got_mxcsr), "=m"(got_cw)
			 : "m"(cw), "m"(mxcsr), "m"(out)
			 : "rax", "rbx", "rcx", "r11", "memory");
	__asm__ volatile("ldmxcsr %0; fldcw %1" : : "m"(old_mxcsr), "m"(old_cw));
	CHECK_EQ(got_mxcsr & ~0x3f, mxcsr & ~0x3f);
	CHECK_EQ(got_cw, cw);
	CHECK(out == 0x1.921fb54442d18p+1);
	// A program may run with exceptions unmasked: the kernel's own floating
	// point must not trip over that.
	mxcsr = 0x1f80 & ~(0x3f << 7);
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	for (int i = 0; i < 1000; i++)
		syscall(SYS_getppid);
	sleep_ms(5);
	__asm__ volatile("stmxcsr %0" : "=m"(got_mxcsr));
	__asm__ volatile("ldmxcsr %0" : : "m"(old_mxcsr));
	CHECK_EQ(got_mxcsr, mxcsr);
}

static void test_flags(void)
{
	const uint64_t patterns[] = {
		0x202,
		0x202 | 0x8d5,  // CF PF AF ZF SF OF
		0x202 | 0x400,  // DF
		0x202 | 0x40000, // AC
		0x202 | 0x200000 | 0xcd5, // ID and all of the above but AC
	};
	for (unsigned i = 0; i < sizeof patterns / sizeof *patterns; i++) {
		uint64_t got, r11, rcx, here;

		__asm__ volatile("push %4; popfq; mov $110,%%eax; lea 1f(%%rip),%%rbx; syscall;"
				 "1: pushfq; pop %0; mov %%r11,%1; mov %%rcx,%2; mov %%rbx,%3; push $0x202; popfq"
				 : "=&r"(got), "=&r"(r11), "=&r"(rcx), "=&r"(here)
				 : "r"(patterns[i])
				 : "rax", "rcx", "r11", "rbx", "memory", "cc");
		CHECK_EQ(got, patterns[i]);
		CHECK_EQ(r11, patterns[i]);
		CHECK_EQ(rcx, here);
	}
}

static void test_segment_bases(void)
{
	static uint64_t block[2] = {0x1122334455667788, 0x99aabbccddeeff00};
	uint64_t fs, gs, word, self;

	CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs), 0);
	__asm__("mov %%fs:0,%0" : "=r"(self));
	CHECK_EQ(self, fs);
	CHECK_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, block), 0);
	for (int i = 0; i < 1000; i++)
		syscall(SYS_getppid);
	rounds = 20000000;
	__asm__ volatile("1: decq rounds(%%rip); jnz 1b" ::: "memory", "cc");
	sleep_ms(5);
	__asm__ volatile("mov %%gs:8,%0" : "=r"(word));
	CHECK_EQ(word, block[1]);
	CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs), 0);
	CHECK_EQ(gs, (uint64_t)block);
	CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_FS, &word), 0);
	CHECK_EQ(word, fs);
	CHECK_ERR(syscall(SYS_arch_prctl, ARCH_SET_FS, 0x8000000000000000), EPERM);
	CHECK_ERR(syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff800000000000), EPERM);
	CHECK_ERR(syscall(SYS_arch_prctl, ARCH_GET_FS, 8), EFAULT);
	CHECK_ERR(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
	CHECK_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, 0), 0);
}

TESTS({"getppid", test_getppid}, {"no-such-call", test_no_such_call},
      {"number-with-high-bits", test_number_with_high_bits}, {"faulting-call", test_faulting_call},
      {"sched-yield", test_sched_yield}, {"preemption", test_preemption},
      {"page-faults", test_page_faults}, {"x87-and-mxcsr", test_x87_and_mxcsr},
      {"flags", test_flags}, {"segment-bases", test_segment_bases})
