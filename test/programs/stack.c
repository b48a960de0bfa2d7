// The stack grows on demand as far as RLIMIT_STACK, and what execve(2) and
// getauxval(3) say lies on it.
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/resource.h>

static int deep(int n)
{
	volatile char frame[1024];

	memset((void *)frame, n, sizeof frame);
	return n == 0 ? 0 : deep(n - 1) + (frame[5] == (char)n ? 0 : 1);
}

static void test_growth(void)
{
	struct rlimit r;

	CHECK_EQ(getrlimit(RLIMIT_STACK, &r), 0);
	CHECK(r.rlim_cur >= 8 << 20);
	CHECK_EQ(deep(7000), 0); // more than 7 MB
}

static void test_growth_by_the_kernel(void)
{
	// The first touch below is the kernel's.
	volatile char *here = (volatile char *)&here;
	int zero = open("/dev/zero", O_RDONLY);

	CHECK_EQ(read(zero, (void *)(here - (7700 << 10)), 4096), 4096);
	close(zero);
}

extern char **environ;

static void test_auxv(void)
{
	char **p = environ;
	int found[64] = {0};
	Elf64_auxv_t *a;

	while (*p)
		p++;
	for (a = (Elf64_auxv_t *)(p + 1); a->a_type != AT_NULL; a++)
		if (a->a_type < 64)
			found[a->a_type]++;
	static const int must[] = {AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS,
				   AT_ENTRY, AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM,
				   AT_HWCAP, AT_CLKTCK, AT_SECURE, AT_RANDOM, AT_EXECFN, AT_SYSINFO_EHDR};
	for (unsigned i = 0; i < sizeof must / sizeof *must - 1; i++)
		CHECK_EQ(found[must[i]], 1);
	CHECK_EQ(getauxval(AT_PAGESZ), 4096);
	CHECK_EQ(getauxval(AT_CLKTCK), 100);
	CHECK_EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
	CHECK_EQ(getauxval(AT_SECURE), 0);
	CHECK_EQ(getauxval(AT_BASE), 0);
	CHECK_EQ(getauxval(AT_UID), getuid());
	CHECK_EQ(getauxval(AT_EGID), getegid());
	CHECK(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
	CHECK(can_read((char *)getauxval(AT_RANDOM)) && can_read((char *)getauxval(AT_RANDOM) + 8));
	CHECK(*(uint64_t *)getauxval(AT_RANDOM) != 0);
	CHECK(getauxval(51 /* AT_MINSIGSTKSZ */) >= 1024);

	Elf64_Phdr *ph = (Elf64_Phdr *)getauxval(AT_PHDR);
	int loads = 0, phdr_in_load = 0;
	uintptr_t bias = 0;
	for (unsigned i = 0; i < getauxval(AT_PHNUM); i++)
		if (ph[i].p_type == PT_LOAD && ph[i].p_offset == 0)
			bias = ((uintptr_t)ph & -4096UL) - ph[i].p_vaddr;
	for (unsigned i = 0; i < getauxval(AT_PHNUM); i++)
		if (ph[i].p_type == PT_LOAD) {
			loads++;
			uintptr_t a0 = bias + ph[i].p_vaddr;
			phdr_in_load |= (uintptr_t)ph >= a0 && (uintptr_t)ph < a0 + ph[i].p_memsz;
		}
	CHECK(loads >= 2 && phdr_in_load);
	uintptr_t entry = getauxval(AT_ENTRY);
	CHECK(can_read((void *)entry) && !can_write((void *)entry));
	char *execfn = (char *)getauxval(AT_EXECFN);
	CHECK(execfn && strlen(execfn) > 0);
}

static void test_segments(void)
{
	static const char constant[8192] = {1};
	static char bss[3 * 4096];

	CHECK(can_read(constant) && !can_write((char *)constant));
	for (unsigned i = 0; i < sizeof bss; i++)
		CHECK(bss[i] == 0);
	CHECK(can_write(bss + 5000));
	CHECK(!can_write((char *)(uintptr_t)test_segments));
	CHECK(!can_read((char *)0) && !can_read((char *)4096));
}

TESTS({"growth", test_growth}, {"growth-by-the-kernel", test_growth_by_the_kernel},
      {"auxv", test_auxv}, {"segments", test_segments})
