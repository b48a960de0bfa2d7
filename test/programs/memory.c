// mmap and its family, and brk: anonymous memory.
#include "check.h"
#include <sys/resource.h>

#define PAGE 4096UL
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static char *map(void *at, size_t n, int prot, int flags)
{
	return mmap(at, n, prot, ANON | flags, -1, 0);
}

static void test_bad_arguments(void)
{
	char *p = map(NULL, 4 * PAGE, RW, 0);

	CHECK(p != MAP_FAILED);
	CHECK_ERR((long)mmap(NULL, 0, RW, ANON, -1, 0), EINVAL);
	CHECK_ERR((long)mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
	CHECK_ERR((long)mmap(p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
	int fd = open("/tmp", O_RDWR | O_TMPFILE, 0600), wronly;
	CHECK(fd >= 0);
	char path[32];
	sprintf(path, "/proc/self/fd/%d", fd);
	wronly = open(path, O_WRONLY);
	CHECK(wronly >= 0);
	CHECK_ERR((long)mmap(NULL, PAGE, RW, 0, wronly, 0), EINVAL); // neither shared nor private
	CHECK_ERR((long)mmap(NULL, PAGE, RW, MAP_PRIVATE, wronly, 0), EACCES);
	close(wronly);
	close(fd);
	fd = open("/dev/zero", O_RDONLY);
	char *zeros = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(zeros != MAP_FAILED);
	CHECK_ERR(mprotect(zeros, PAGE, RW), EACCES);
	CHECK_EQ(munmap(zeros, PAGE), 0);
	close(fd);
	CHECK_ERR((long)mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
	CHECK_ERR((long)mmap(NULL, PAGE, RW, MAP_PRIVATE, 999, 0), EBADF);
	CHECK_ERR(syscall(SYS_mmap, NULL, PAGE, RW, ANON, -1, 5), EINVAL);
	CHECK_ERR((long)mmap(NULL, 0xffffffffffffffff, RW, ANON, -1, 0), ENOMEM);
	CHECK_ERR((long)mmap(NULL, 1UL << 47, PROT_NONE, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
	CHECK_ERR((long)mmap((void *)0x7ffffffff000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	CHECK_ERR((long)mmap((void *)0xffff800000000000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	CHECK_ERR((long)mmap((void *)0xfffffffffffff000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	CHECK_ERR(munmap(p + 1, PAGE), EINVAL);
	CHECK_ERR(munmap(p, 0), EINVAL);
	CHECK_ERR(munmap(p, 0xffffffffffffffff), EINVAL);
	CHECK_ERR(munmap((void *)0xffff800000000000, PAGE), EINVAL);
	CHECK_ERR(syscall(SYS_mprotect, p + 1, PAGE, PROT_READ), EINVAL);
	CHECK_ERR(mprotect(p, PAGE, 0x4000), EINVAL);
	CHECK_EQ(mprotect(p, 0, PROT_READ), 0);
	CHECK_ERR(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
	CHECK_ERR(madvise(p, PAGE, 9999), EINVAL);
	CHECK_EQ(madvise(p, 0, MADV_DONTNEED), 0);
	CHECK_ERR((long)mremap(p + 1, PAGE, PAGE, 0), EINVAL);
	CHECK_ERR((long)mremap(p, PAGE, 0, 0), EINVAL);
	CHECK_ERR((long)mremap(p, PAGE, PAGE, 0x100), EINVAL);
	CHECK_ERR(msync(p + 1, PAGE, MS_SYNC), EINVAL);
	CHECK_ERR(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	CHECK_EQ(munmap(p, 4 * PAGE), 0);
	CHECK_EQ(munmap(p, 4 * PAGE), 0); // nothing there is no error
	CHECK_ERR(mprotect(p, PAGE, PROT_READ), ENOMEM);
	CHECK_ERR((long)mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
}

static void test_hint(void)
{
	char *area = map(NULL, 64 * PAGE, PROT_NONE, 0), *p;

	CHECK(area != MAP_FAILED);
	CHECK_EQ(munmap(area, 64 * PAGE), 0);
	p = map(area + 16 * PAGE, PAGE, RW, 0);
	CHECK_EQ(p, area + 16 * PAGE); // free: taken
	char *q = map(area + 16 * PAGE, PAGE, RW, 0);
	CHECK(q != MAP_FAILED && q != p); // occupied: somewhere else
	char *r = map(area + 32 * PAGE + 5, PAGE, RW, 0);
	CHECK_EQ(r, area + 32 * PAGE); // rounded down
	*p = 1, *q = 2, *r = 3;
	CHECK(*p == 1 && *q == 2 && *r == 3);
	munmap(p, PAGE), munmap(q, PAGE), munmap(r, PAGE);
	p = map((void *)8, PAGE, RW, 0); // below mmap_min_addr: as good as none
	CHECK(p != MAP_FAILED && (uintptr_t)p >= 65536);
	munmap(p, PAGE);
}

static void test_fixed(void)
{
	char *p = map(NULL, 8 * PAGE, RW, 0);

	CHECK(p != MAP_FAILED);
	memset(p, 7, 8 * PAGE);
	CHECK_EQ(map(p + 2 * PAGE, 2 * PAGE, RW, MAP_FIXED), p + 2 * PAGE);
	CHECK(p[2 * PAGE - 1] == 7 && p[2 * PAGE] == 0 && p[4 * PAGE - 1] == 0 && p[4 * PAGE] == 7);
	CHECK_ERR((long)map(p + PAGE, PAGE, RW, MAP_FIXED_NOREPLACE), EEXIST);
	CHECK_ERR((long)map(p - PAGE, 4 * PAGE, RW, MAP_FIXED_NOREPLACE), EEXIST);
	CHECK_EQ(munmap(p + PAGE, PAGE), 0);
	CHECK_EQ(map(p + PAGE, PAGE, RW, MAP_FIXED_NOREPLACE), p + PAGE);
	CHECK(p[PAGE] == 0 && p[PAGE - 1] == 7);
	CHECK_EQ(munmap(p, 8 * PAGE), 0);
	// Where programs that aren't position-independent stand, if it is free.
	p = map((void *)0x10000000, PAGE, RW, MAP_FIXED_NOREPLACE);
	CHECK_EQ(p, 0x10000000);
	munmap(p, PAGE);
}

static void test_unmap_in_the_middle(void)
{
	char *p = map(NULL, 9 * PAGE, RW, 0);

	memset(p, 1, 9 * PAGE);
	CHECK_EQ(munmap(p + 3 * PAGE, 3 * PAGE), 0);
	CHECK(can_read(p + 3 * PAGE - 8) && !can_read(p + 3 * PAGE));
	CHECK(!can_read(p + 6 * PAGE - 8) && can_read(p + 6 * PAGE));
	CHECK(!can_read(p + 3 * PAGE - 4)); // across the edge
	CHECK_EQ(munmap(p, 9 * PAGE), 0);  // over the hole
	CHECK(!can_read(p) && !can_read(p + 8 * PAGE));
}

static void test_mprotect(void)
{
	char *p = map(NULL, 6 * PAGE, RW, 0);

	memset(p, 5, 6 * PAGE);
	CHECK_EQ(mprotect(p + PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(mprotect(p + 3 * PAGE, PAGE, PROT_NONE), 0);
	CHECK(can_read(p + PAGE) && !can_write(p + PAGE));
	CHECK(!can_read(p + 3 * PAGE) && !can_write(p + 3 * PAGE));
	CHECK(can_write(p) && can_write(p + 2 * PAGE) && can_write(p + 4 * PAGE));
	CHECK_EQ(mprotect(p, 6 * PAGE, RW), 0);
	CHECK(p[PAGE + 1] == 5 && p[3 * PAGE + 1] == 5);
	CHECK(can_write(p + PAGE) && can_write(p + 3 * PAGE));
	CHECK_EQ(munmap(p + 2 * PAGE, PAGE), 0);
	// A hole: an error, but what comes before it is done.
	CHECK_ERR(mprotect(p, 6 * PAGE, PROT_READ), ENOMEM);
	CHECK(!can_write(p) && !can_write(p + PAGE));
	CHECK(can_write(p + 3 * PAGE));
	munmap(p, 6 * PAGE);
}

static void test_executable(void)
{
	unsigned char *p = (unsigned char *)map(NULL, PAGE, RW | PROT_EXEC, 0);

	CHECK((void *)p != MAP_FAILED);
	memcpy(p, "\xb8\x2a\x00\x00\x00\xc3", 6); // mov $42,%eax; ret
	CHECK_EQ(((int (*)(void))p)(), 42);
	p[1] = 43; // self-modifying code needs no ceremony on x86
	CHECK_EQ(((int (*)(void))p)(), 43);
	CHECK_EQ(mprotect(p, PAGE, PROT_READ | PROT_EXEC), 0);
	CHECK_EQ(((int (*)(void))p)(), 43);
	CHECK(!can_write(p));
	munmap(p, PAGE);
}

// remap_file_pages is old, and a mapping in place of another by now.
static void test_remap_file_pages(void)
{
	enum { pages = 6 };
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	for (int i = 0; i < pages; i++)
		p[i * PAGE] = 'a' + i;
	for (int i = 0; i < pages; i++)
		CHECK_EQ(remap_file_pages(p + i * PAGE, PAGE, 0, pages - 1 - i, 0), 0);
	for (int i = 0; i < pages; i++)
		CHECK_EQ(p[i * PAGE], 'a' + pages - 1 - i);
	p[0] = 'z';
	CHECK_EQ(remap_file_pages(p + 5 * PAGE, PAGE, 0, 5, 0), 0);
	CHECK_EQ(p[5 * PAGE], 'z');
	CHECK_ERR(remap_file_pages(p, PAGE, PROT_READ, 0, 0), EINVAL);
	CHECK_ERR(remap_file_pages(p, 0, 0, 0, 0), EINVAL);
	CHECK_ERR(remap_file_pages(p, PAGE, 0, -1UL, 0), EINVAL);
	CHECK_EQ(munmap(p + 2 * PAGE, PAGE), 0);
	CHECK_ERR(remap_file_pages(p, pages * PAGE, 0, 0, 0), EINVAL);
	CHECK_ERR(remap_file_pages(p + 2 * PAGE, PAGE, 0, 0, 0), EINVAL);
	munmap(p, pages * PAGE);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_ERR(remap_file_pages(p, PAGE, 0, 0, 0), EINVAL);
	munmap(p, PAGE);
}

static void test_mremap(void)
{
	char *p = map(NULL, 8 * PAGE, RW, 0), *q, *r;

	for (int i = 0; i < 8; i++)
		p[i * PAGE] = (char)(i + 1);
	CHECK_EQ(mremap(p, 8 * PAGE, 4 * PAGE, 0), p); // shrink
	CHECK(can_read(p + 3 * PAGE) && !can_read(p + 4 * PAGE));
	CHECK_EQ(mremap(p, 4 * PAGE, 6 * PAGE, 0), p); // grow where it is
	CHECK(p[3 * PAGE] == 4 && p[5 * PAGE] == 0);
	CHECK_EQ(map(p + 6 * PAGE, PAGE, RW, MAP_FIXED), p + 6 * PAGE);
	CHECK_EQ(mprotect(p + 6 * PAGE, PAGE, PROT_READ), 0);
	CHECK_ERR((long)mremap(p, 6 * PAGE, 7 * PAGE, 0), ENOMEM); // in the way
	q = mremap(p, 6 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q != p);
	CHECK(q[0] == 1 && q[3 * PAGE] == 4 && q[99 * PAGE] == 0);
	CHECK(!can_read(p));
	r = map(NULL, 200 * PAGE, RW, 0);
	CHECK_EQ(mremap(q, 100 * PAGE, 50 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r), r);
	CHECK(r[0] == 1 && r[3 * PAGE] == 4 && !can_read(q) && !can_read(q + 99 * PAGE));
	CHECK_ERR((long)mremap(r, 50 * PAGE, 50 * PAGE, MREMAP_FIXED, q), EINVAL);
	CHECK_ERR((long)mremap(r, 50 * PAGE, 50 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r + PAGE), EINVAL);
	q = mremap(r, 50 * PAGE, 50 * PAGE, MREMAP_MAYMOVE | 4 /* DONTUNMAP */, NULL);
	CHECK(q != MAP_FAILED && q != r);
	CHECK(q[0] == 1 && r[0] == 0 && q[3 * PAGE] == 4); // the old place is there, empty
	munmap(q, 50 * PAGE), munmap(r, 200 * PAGE), munmap(p + 6 * PAGE, PAGE);
	// Length 0 duplicates a shared mapping.
	p = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*p = 9;
	q = mremap(p, 0, PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && *q == 9);
	*q = 10;
	CHECK_EQ(*p, 10);
	munmap(p, PAGE), munmap(q, PAGE);
}

static void test_madvise(void)
{
	char *p = map(NULL, 4 * PAGE, RW, 0);

	memset(p, 3, 4 * PAGE);
	CHECK_EQ(madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	CHECK(p[0] == 3 && p[PAGE] == 0 && p[3 * PAGE - 1] == 0 && p[3 * PAGE] == 3);
	for (int advice = MADV_NORMAL; advice <= MADV_WILLNEED; advice++)
		CHECK_EQ(madvise(p, 4 * PAGE, advice), 0);
	CHECK_EQ(madvise(p, PAGE, MADV_FREE), 0);
	CHECK(p[0] == 3 || p[0] == 0);
	CHECK_EQ(madvise(p, PAGE, MADV_DONTDUMP), 0);
	CHECK_EQ(madvise(p, 4 * PAGE, MADV_DONTFORK), 0);
	CHECK_EQ(madvise(p, 4 * PAGE, MADV_DOFORK), 0);
	munmap(p + PAGE, PAGE);
	memset(p + 2 * PAGE, 4, PAGE);
	CHECK_ERR(madvise(p, 4 * PAGE, MADV_DONTNEED), ENOMEM); // but it is done
	CHECK(p[0] == 0 && p[2 * PAGE] == 0);
	munmap(p, 4 * PAGE);
}

static void test_large_reservation(void)
{
	size_t huge = 512UL << 30;
	char *p = map(NULL, huge, PROT_NONE, MAP_NORESERVE);

	CHECK(p != MAP_FAILED);
	CHECK(!can_read(p) && !can_read(p + huge - 8));
	CHECK_EQ(mprotect(p + (300UL << 30), 2 * PAGE, RW), 0);
	p[(300UL << 30) + 5] = 1;
	CHECK(!can_read(p + (300UL << 30) - 8));
	CHECK_EQ(mmap(p + (400UL << 30), PAGE, RW, ANON | MAP_FIXED, -1, 0), p + (400UL << 30));
	p[400UL << 30] = 2;
	CHECK_EQ(munmap(p, huge), 0);
	CHECK(!can_read(p + (300UL << 30)));
	// Several at once, as Go, Java and the sanitizers do.
	char *q[8];
	for (int i = 0; i < 8; i++)
		CHECK((q[i] = map(NULL, huge, PROT_NONE, MAP_NORESERVE)) != MAP_FAILED);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(munmap(q[i], huge), 0);
}

static void test_overcommit(void)
{
	char mode = '0';
	int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY);

	if (fd >= 0 && read(fd, &mode, 1) != 1)
		mode = '0';
	close(fd);
	if (mode != '0')
		return; // this Linux is set up otherwise
	// What obviously can't be kept is refused, and NORESERVE asks for no promise.
	CHECK_ERR((long)map(NULL, 64UL << 40, RW, 0), ENOMEM);
	char *p = map(NULL, 1UL << 40, RW, MAP_NORESERVE);
	CHECK(p != MAP_FAILED);
	p[512UL << 30] = 1;
	munmap(p, 1UL << 40);
}

static void test_growsdown(void)
{
	char *area = map(NULL, 1024 * PAGE, PROT_NONE, 0), *p;

	CHECK_EQ(munmap(area, 1024 * PAGE), 0);
	p = map(area + 1000 * PAGE, PAGE, RW, MAP_FIXED | MAP_GROWSDOWN);
	CHECK_EQ(p, area + 1000 * PAGE);
	for (int i = 0; i < 16; i++)
		*(volatile char *)(p - i * PAGE) = (char)i;
	for (int i = 0; i < 16; i++)
		CHECK_EQ(p[-i * (long)PAGE], i);
	munmap(p - 16 * PAGE, 17 * PAGE);
}

static void test_brk(void)
{
	char *start = (char *)syscall(SYS_brk, 0), *p;

	CHECK(start != NULL);
	CHECK_EQ(syscall(SYS_brk, start + 10 * PAGE + 3), start + 10 * PAGE + 3);
	p = (char *)(((uintptr_t)start + PAGE - 1) & -PAGE);
	memset(p, 1, 9 * PAGE);
	CHECK_EQ(syscall(SYS_brk, start), start);
	CHECK_EQ(syscall(SYS_brk, start + 10 * PAGE), start + 10 * PAGE);
	CHECK_EQ(p[4 * PAGE], 0); // new again
	CHECK_EQ(syscall(SYS_brk, 4096), start + 10 * PAGE);         // below: unchanged
	CHECK_EQ(syscall(SYS_brk, 0x7fffffff0000), start + 10 * PAGE); // too far: unchanged
	CHECK_EQ(syscall(SYS_brk, -1L), start + 10 * PAGE);
	// Something mapped in the way stops it.
	char *block = (char *)(((uintptr_t)start + 20 * PAGE) & -PAGE);
	CHECK_EQ(map(block, PAGE, RW, MAP_FIXED_NOREPLACE), block);
	CHECK_EQ(syscall(SYS_brk, start + 40 * PAGE), start + 10 * PAGE);
	munmap(block, PAGE);
	CHECK_EQ(syscall(SYS_brk, start), start);
	struct rlimit old, low = {PAGE, RLIM_INFINITY};
	CHECK_EQ(getrlimit(RLIMIT_DATA, &old), 0);
	low.rlim_max = old.rlim_max;
	CHECK_EQ(setrlimit(RLIMIT_DATA, &low), 0);
	CHECK_EQ(syscall(SYS_brk, start + 1000 * PAGE), start);
	CHECK_EQ(setrlimit(RLIMIT_DATA, &old), 0);
}

static void test_address_space_limit(void)
{
	struct rlimit old, low;

	CHECK_EQ(getrlimit(RLIMIT_AS, &old), 0);
	low.rlim_cur = 64 << 20;
	low.rlim_max = old.rlim_max;
	CHECK_EQ(setrlimit(RLIMIT_AS, &low), 0);
	void *p = map(NULL, 128 << 20, PROT_NONE, MAP_NORESERVE);
	int err = errno;
	CHECK_EQ(setrlimit(RLIMIT_AS, &old), 0);
	CHECK(p == MAP_FAILED);
	CHECK_EQ(err, ENOMEM);
}

static void test_shared_anonymous(void)
{
	char *p = mmap(NULL, 3 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	CHECK_EQ(p[PAGE], 0);
	memset(p, 6, 3 * PAGE);
	CHECK_EQ(madvise(p, 3 * PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(p[2 * PAGE], 6); // shared memory isn't lost by DONTNEED
	CHECK_EQ(msync(p, 3 * PAGE, MS_SYNC), 0);
	munmap(p, 3 * PAGE);
}

// smaps_kb returns what /proc/self/smaps says of the mapping that starts at p, -1 if nothing.
static long smaps_kb(void *p, const char *field)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	unsigned long start;
	long kb = -1;
	int here = 0;

	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-", &start) == 1 && strchr(line, '-'))
			here = start == (unsigned long)p;
		else if (here && strncmp(line, field, strlen(field)) == 0)
			sscanf(line + strlen(field), ": %ld", &kb);
	}
	if (f)
		fclose(f);
	return kb;
}

static void test_mincore_mlock(void)
{
	char *p = map(NULL, 4 * PAGE, RW, 0);
	unsigned char in[4];

	p[0] = p[2 * PAGE] = 1;
	CHECK_EQ(mincore(p, 4 * PAGE, in), 0);
	CHECK(in[0] & 1);
	CHECK(!(in[1] & 1));
	CHECK(in[2] & 1);
	CHECK_EQ(mlock(p, 4 * PAGE), 0);
	CHECK_EQ(mincore(p, 4 * PAGE, in), 0);
	CHECK((in[1] & 1) && (in[3] & 1));
	CHECK_EQ(smaps_kb(p, "Rss"), 16);
	CHECK_EQ(smaps_kb(p, "Locked"), 16);
	CHECK_EQ(munlock(p, 4 * PAGE), 0);
	CHECK_ERR(mincore(p + 1, PAGE, in), EINVAL);
	munmap(p + PAGE, PAGE);
	CHECK_ERR(mincore(p, 4 * PAGE, in), ENOMEM);
	CHECK_ERR(mlock(p, 4 * PAGE), ENOMEM);
	munmap(p, 4 * PAGE);
	p = map(NULL, 4 * PAGE, RW, MAP_POPULATE);
	CHECK_EQ(mincore(p, 4 * PAGE, in), 0);
	CHECK((in[0] & 1) && (in[3] & 1));
	munmap(p, 4 * PAGE);
}

// Kernel and program see the same memory: what a call writes goes through the
// same page tables, faults included.
static void test_kernel_copies(void)
{
	int zero = open("/dev/zero", O_RDONLY);
	char *p = map(NULL, 4 * PAGE, RW, 0);

	CHECK(zero >= 0);
	memset(p, 1, 4 * PAGE);
	CHECK_EQ(mprotect(p + 2 * PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(read(zero, p + PAGE, 2 * PAGE), PAGE); // as far as it goes
	CHECK(p[PAGE] == 0 && p[2 * PAGE - 1] == 0 && p[2 * PAGE] == 1);
	CHECK_ERR(read(zero, p + 2 * PAGE, PAGE), EFAULT);
	CHECK_ERR(read(zero, (void *)0xffff800000001000, PAGE), EFAULT);
	CHECK_ERR(read(zero, (void *)0x7ffffffff000, PAGE), EFAULT);
	char *q = map(NULL, 2 * PAGE, RW, 0); // never touched
	CHECK_EQ(read(zero, q + 10, PAGE), PAGE);
	munmap(p, 4 * PAGE), munmap(q, 2 * PAGE);
	close(zero);
}

// A random walk over a small area beside a model of it.
static void test_random_walk(void)
{
	enum { pages = 96, steps = 6000 };
	static signed char prot[pages];    // -1: unmapped
	static unsigned char value[pages]; // of the first byte
	char *area = map(NULL, (pages + 2) * PAGE, PROT_NONE, 0) + PAGE;
	unsigned seed = 12345;

	munmap(area, pages * PAGE);
	memset(prot, -1, sizeof prot);
	for (int step = 0; step < steps; step++) {
		seed = seed * 1103515245 + 12345;
		int from = (seed >> 8) % pages, n = 1 + (seed >> 16) % 8, op = (seed >> 24) % 7;
		static const int prots[] = {PROT_NONE, PROT_READ, RW};
		int pr = prots[(seed >> 4) % 3];

		if (from + n > pages)
			n = pages - from;
		char *at = area + from * PAGE;
		switch (op) {
		case 0:
		case 1:
			CHECK_EQ(map(at, n * PAGE, pr, MAP_FIXED), at);
			memset(prot + from, pr, n);
			memset(value + from, 0, n);
			break;
		case 2:
			CHECK_EQ(munmap(at, n * PAGE), 0);
			memset(prot + from, -1, n);
			break;
		case 3: {
			int good = 0;
			while (good < n && prot[from + good] >= 0)
				good++;
			int r = mprotect(at, n * PAGE, pr);
			CHECK_EQ(r, good == n ? 0 : -1);
			memset(prot + from, pr, good);
			break;
		}
		case 4: {
			int holes = 0;
			for (int i = from; i < from + n; i++) {
				holes |= prot[i] < 0;
				value[i] = 0;
			}
			CHECK_EQ(madvise(at, n * PAGE, MADV_DONTNEED), holes ? -1 : 0);
			break;
		}
		case 5:
			for (int i = from; i < from + n; i++)
				if (prot[i] == RW)
					area[i * PAGE] = (char)(value[i] = (unsigned char)step);
			break;
		case 6:
			if (prot[from] >= 0 && from + n < pages) {
				// Move one page, to a place that may hold something.
				char *to = area + (from + n) * PAGE;
				CHECK_EQ(mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
				prot[from + n] = prot[from];
				value[from + n] = value[from];
				prot[from] = -1;
			}
			break;
		}
		for (int i = 0; i < pages; i += step % 16 == 0 ? 1 : 7) {
			char *p = area + i * PAGE;
			if (prot[i] > 0)
				CHECK_EQ((unsigned char)*p, value[i]);
			if (step % 16 == 0) {
				CHECK_EQ(can_read(p), prot[i] > 0);
				if (prot[i] != RW)
					CHECK(!can_write(p));
			}
		}
	}
	munmap(area - PAGE, (pages + 2) * PAGE);
}

// Big blocks come and go: what is unmapped is given back, or this runs out of
// memory in a VM of ordinary size.
static void test_giving_back(void)
{
	for (int i = 0; i < 100; i++) {
		size_t n = 8 << 20;
		char *p = map(NULL, n, RW, 0);

		CHECK(p != MAP_FAILED);
		for (size_t at = 0; at < n; at += PAGE)
			p[at] = 1;
		CHECK_EQ(munmap(p, n), 0);
	}
}

TESTS({"bad-arguments", test_bad_arguments}, {"hint", test_hint}, {"fixed", test_fixed},
      {"unmap-in-the-middle", test_unmap_in_the_middle}, {"mprotect", test_mprotect},
      {"executable", test_executable}, {"mremap", test_mremap}, {"remap-file-pages", test_remap_file_pages}, {"madvise", test_madvise},
      {"large-reservation", test_large_reservation}, {"overcommit", test_overcommit},
      {"growsdown", test_growsdown}, {"brk", test_brk},
      {"address-space-limit", test_address_space_limit},
      {"shared-anonymous", test_shared_anonymous}, {"mincore-mlock", test_mincore_mlock},
      {"kernel-copies", test_kernel_copies}, {"random-walk", test_random_walk},
      {"giving-back", test_giving_back})
