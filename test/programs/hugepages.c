// Large pages of private memory: who gets them, and that nothing that is done to
// a part of one shows but there. How much is in large pages is asked only where
// the machine has any to give: a Linux may have none, or no 2 MiB in one piece.
#include "check.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>

enum { page = 4096, large = 2 << 20 };

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define COPY 64 // KiB that a file copies into memory at once

static int on_elver(void)
{
	struct utsname u;

	uname(&u);
	return strstr(u.release, "elver") != NULL;
}

// advise is madvise, on a Linux that may have been built without large pages.
static int advise(void *p, long size, int advice)
{
	int r = madvise(p, size, advice);

	return r && errno == EINVAL && !on_elver() ? 0 : r;
}

// area returns n large pages' worth of memory, aligned, with a page that nobody may touch on either side.
static char *area(int n, int advice)
{
	char *p = mmap(NULL, (n + 2L) * large, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((uintptr_t)p + large) & ~(large - 1UL));
	if (mprotect(p, (long)n * large, PROT_READ | PROT_WRITE) || (advice && advise(p, (long)n * large, advice)))
		return NULL;
	return p;
}

// smaps returns the value, in bytes, that the lines `field` of the mappings within [p, p+size) add up to, -1 without any.
static long smaps(const char *p, long size, const char *field)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	int in = 0;
	long sum = -1;
	unsigned long start, end, n;

	if (f == NULL)
		return -1;
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start < (unsigned long)p + size && end > (unsigned long)p;
		else if (in && strncmp(line, field, strlen(field)) == 0 && sscanf(line + strlen(field), " %lu kB", &n) == 1)
			sum = (sum < 0 ? 0 : sum) + n * 1024;
	}
	fclose(f);
	return sum;
}

static long in_large(const char *p, long size) { return smaps(p, size, "AnonHugePages:"); }

// gives says whether the machine has large pages to give now.
static int gives(void)
{
	char *p = area(1, MADV_HUGEPAGE);
	int yes;

	if (p == NULL)
		return 0;
	*p = 1;
	yes = in_large(p, large) == large;
	munmap(p, large);
	return yes || on_elver();
}

// mark writes a word of its own to every page; marked says whether all are there.
static void mark(char *p, long size, int salt)
{
	for (long i = 0; i < size; i += page)
		*(long *)(p + i) = i + salt;
}

static int marked(const char *p, long size, int salt)
{
	for (long i = 0; i < size; i += page)
		if (*(const long *)(p + i) != i + salt)
			return 0;
	return 1;
}

static int zero(const char *p, long size)
{
	for (long i = 0; i < size; i += 8)
		if (*(const long *)(p + i))
			return 0;
	return 1;
}

static void test_touch(void)
{
	char *p = area(4, MADV_HUGEPAGE);

	CHECK(p != NULL);
	CHECK(zero(p, large));
	p[large + 5 * page] = 1;
	if (gives()) {
		CHECK(in_large(p, 4L * large) >= large);
		CHECK(in_large(p + large, large) >= large);
		CHECK(smaps(p, 4L * large, "Rss:") >= large);
	}
	mark(p, 4L * large, 1);
	CHECK(marked(p, 4L * large, 1));
	CHECK_EQ(smaps(p, 4L * large, "Rss:"), 4L * large);
	CHECK_EQ(munmap(p, 4L * large), 0);
}

static void test_not_asked(void)
{
	char *p = area(2, MADV_NOHUGEPAGE);

	CHECK(p != NULL);
	p[large] = 1;
	CHECK_EQ(in_large(p, 2L * large), 0);
	CHECK_EQ(smaps(p, 2L * large, "Rss:"), page);
	CHECK_EQ(munmap(p, 2L * large), 0);
}

static void test_no_room(void)
{
	char *p = area(2, 0);

	// Half of each: neither has room.
	CHECK(p != NULL);
	CHECK_EQ(advise(p, 2L * large, MADV_NOHUGEPAGE), 0);
	CHECK_EQ(advise(p + large / 2, large, MADV_HUGEPAGE), 0);
	p[large / 2] = p[large] = 1;
	CHECK_EQ(in_large(p, 2L * large), 0);
	CHECK_EQ(smaps(p, 2L * large, "Rss:"), 2 * page);
	CHECK_EQ(munmap(p, 2L * large), 0);
}

static void test_parts(void)
{
	char *p = area(4, MADV_HUGEPAGE), *q;

	CHECK(p != NULL);
	mark(p, 4L * large, 2);
	// A page dropped, one unmapped, one made read-only, one without access, one moved.
	CHECK_EQ(madvise(p + 3 * page, page, MADV_DONTNEED), 0);
	CHECK(zero(p + 3 * page, page));
	CHECK_EQ(munmap(p + large + 7 * page, page), 0);
	CHECK(!can_read(p + large + 7 * page));
	CHECK(can_write(p + large + 8 * page + 100));
	CHECK_EQ(mprotect(p + 2 * large, page, PROT_READ), 0);
	CHECK(can_read(p + 2 * large) && !can_write(p + 2 * large));
	CHECK(can_write(p + 2 * large + page + 100));
	CHECK_EQ(mprotect(p + 2 * large + 9 * page, page, PROT_NONE), 0);
	CHECK(!can_read(p + 2 * large + 9 * page));
	CHECK_EQ(mprotect(p + 2 * large, large, PROT_READ | PROT_WRITE), 0);
	q = mremap(p + 3 * large + page, page, 2 * page, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q != p + 3 * large + page);
	CHECK_EQ(*(long *)q, 3L * large + page + 2);
	CHECK(!can_read(p + 3 * large + page));
	CHECK(marked(p, 3 * page, 2));
	for (long i = 0; i < 4L * large; i += page)
		if (i != 3 * page && i != large + 7 * page && i != 3L * large + page)
			CHECK_EQ(*(long *)(p + i), i + 2);
	CHECK_EQ(munmap(q, 2 * page), 0);
	CHECK_EQ(munmap(p, 4L * large), 0);
}

static void test_whole(void)
{
	char *p = area(2, MADV_HUGEPAGE), *to = area(3, 0), *q;
	int give = gives();

	CHECK(p != NULL && to != NULL);
	mark(p, 2L * large, 3);
	CHECK_EQ(mprotect(p, large, PROT_READ), 0);
	CHECK(!can_write(p + large - page));
	CHECK_EQ(mprotect(p, large, PROT_NONE), 0);
	CHECK(!can_read(p));
	CHECK_EQ(mprotect(p, large, PROT_READ | PROT_WRITE), 0);
	CHECK(can_write(p + 100));
	if (give && on_elver())
		CHECK_EQ(in_large(p, 2L * large), 2L * large);
	q = mremap(p, 2L * large, 2L * large, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	CHECK(q == to);
	CHECK(marked(q, 2L * large, 3));
	if (give && on_elver())
		CHECK_EQ(in_large(q, 2L * large), 2L * large);
	p = mremap(q, 2L * large, 2L * large, MREMAP_MAYMOVE | MREMAP_FIXED, q - 3L * large + page);
	CHECK(p == q - 3L * large + page);
	CHECK(marked(p, 2L * large, 3));
	CHECK_EQ(madvise(p, 2L * large, MADV_DONTNEED), 0);
	CHECK(zero(p, 2L * large));
	CHECK_EQ(munmap(p, 2L * large), 0);
	CHECK_EQ(munmap(to, 3L * large), 0);
}

static void test_fork(void)
{
	char *p = area(3, MADV_HUGEPAGE);
	int status;
	pid_t child, second;

	CHECK(p != NULL);
	mark(p, 3L * large, 4);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		int ok = marked(p, 3L * large, 4);

		p[100] = 1;
		*(long *)(p + large) = 77;
		second = fork(); // of what is half large, half small
		if (second == 0)
			_exit(!(p[100] == 1 && *(long *)(p + large) == 77 && marked(p + 2L * large, large, 2 * large + 4)));
		munmap(p + 2L * large + page, page);
		ok = ok && waitpid(second, &status, 0) == second && status == 0 && *(long *)(p + 2L * large) == 2L * large + 4;
		_exit(!ok);
	}
	*(long *)(p + large + page) = 78; // while the child is there
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	CHECK_EQ(p[100], 0);
	CHECK_EQ(*(long *)(p + large + page), 78);
	*(long *)(p + large + page) = large + page + 4;
	CHECK(marked(p, 3L * large, 4));
	p[2L * large + 8] = 1; // and when it is gone
	CHECK(marked(p, 3L * large, 4));
	CHECK_EQ(munmap(p, 3L * large), 0);
}

static void test_looks(void)
{
	char *p = area(2, MADV_HUGEPAGE);
	unsigned char in[large / page];
	char buffer[2 * page];
	struct iovec local = {buffer, sizeof buffer}, remote;
	int fd = open("/proc/self/pagemap", O_RDONLY), mem = open("/proc/self/mem", O_RDWR);
	uint64_t entry;

	CHECK(p != NULL && fd >= 0 && mem >= 0);
	mark(p, large, 5);
	CHECK_EQ(mincore(p, large, in), 0);
	for (int i = 0; i < large / page; i++)
		CHECK_EQ(in[i] & 1, 1);
	CHECK_EQ(mincore(p + large, large, in), 0);
	CHECK_EQ(in[9] & 1, 0);
	CHECK_EQ(pread(fd, &entry, 8, (uintptr_t)(p + 300 * page) / page * 8), 8);
	CHECK(entry >> 63);
	CHECK_EQ(pread(fd, &entry, 8, (uintptr_t)(p + large) / page * 8), 8);
	CHECK(!(entry >> 63));
	remote = (struct iovec){p + page, sizeof buffer};
	CHECK_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), sizeof buffer);
	CHECK_EQ(((long *)buffer)[0], page + 5);
	CHECK_EQ(pwrite(mem, "hello", 5, (uintptr_t)(p + 2 * page + 100)), 5);
	CHECK(memcmp(p + 2 * page + 100, "hello", 5) == 0);
	CHECK(marked(p, large, 5));
	close(fd);
	close(mem);
	CHECK_EQ(munmap(p, 2L * large), 0);
}

// What the kernel writes finds large pages, makes them, and stops where they end.
static void test_copies(void)
{
	char *p = area(2, MADV_HUGEPAGE);
	static char block[COPY << 10];
	int fds[2];

	CHECK(p != NULL);
	memset(block, 'x', sizeof block);
	CHECK_EQ(pipe(fds), 0);
	for (long at = large - (COPY << 9); at < large + (COPY << 9); at += COPY << 10) {
		CHECK_EQ(write(fds[1], block, sizeof block), sizeof block);
		CHECK_EQ(read(fds[0], p + at, sizeof block), sizeof block);
		CHECK(memcmp(p + at, block, sizeof block) == 0);
	}
	CHECK_EQ(p[large - (COPY << 9) - 1], 0);
	CHECK_EQ(p[large + (COPY << 9)], 0);
	CHECK_EQ(write(fds[1], block, sizeof block), sizeof block);
	CHECK_EQ(read(fds[0], p + 2L * large - page, 2 * page), page);
	close(fds[0]);
	close(fds[1]);
	CHECK_EQ(munmap(p, 2L * large), 0);
}

static void test_collapse(void)
{
	char *p = area(2, MADV_NOHUGEPAGE);
	int status;

	CHECK(p != NULL);
	mark(p, large, 6);
	CHECK_ERR(madvise(p, large, MADV_COLLAPSE), EINVAL);
	CHECK_EQ(munmap(p, 2L * large), 0);
	p = area(2, 0);
	CHECK(p != NULL);
	if (in_large(p, 2L * large) != 0 || !gives())
		return;
	mark(p, large, 6);
	p[large] = 9;
	status = madvise(p, 2L * large, MADV_COLLAPSE);
	CHECK(status == 0 || errno == EINVAL || (errno == ENOMEM && !on_elver()) || (errno == EAGAIN && !on_elver()));
	CHECK(marked(p, large, 6));
	CHECK(p[large] == 9 && zero(p + large + 8, large - 8));
	if (on_elver())
		CHECK_EQ(in_large(p, 2L * large), 2L * large);
	CHECK_EQ(madvise(p + page, page, MADV_DONTNEED), 0);
	CHECK_EQ(*(long *)(p + 2 * page), 2 * page + 6);
	CHECK_EQ(munmap(p, 2L * large), 0);
}

static void test_disabled(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		char *p = area(1, MADV_HUGEPAGE);

		if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) || prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) != 1)
			_exit(1);
		*p = 1;
		if (in_large(p, large) != 0)
			_exit(2);
		child = fork();
		if (child == 0) {
			p = area(1, MADV_HUGEPAGE);
			*p = 1;
			_exit(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) != 1 || in_large(p, large) != 0);
		}
		if (waitpid(child, &status, 0) != child || status != 0)
			_exit(3);
		execl("/proc/self/exe", "hugepages", "inherited", NULL);
		_exit(4);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 0);
	CHECK_ERR(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 1), EINVAL);
	CHECK_ERR(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
}

// On Elver the policy is there to be changed; on Linux it is the machine's.
static void test_policy(void)
{
	static const char file[] = "/sys/kernel/mm/transparent_hugepage/enabled";
	static const struct {
		const char *word, *shown;
		int asked, plain;
	} policies[] = {
	    {"always", "[always] madvise never\n", 1, 1}, {"never", "always madvise [never]\n", 0, 0}, {"madvise\n", "always [madvise] never\n", 1, 0}};
	char text[64] = "";
	int fd;

	if (!on_elver())
		return;
	fd = open(file, O_RDWR);
	CHECK(fd >= 0);
	CHECK_ERR(write(fd, "sometimes", 9), EINVAL);
	for (int i = 0; i < 3; i++) {
		char *asked = area(1, MADV_HUGEPAGE), *plain = area(1, 0);

		CHECK_EQ(pwrite(fd, policies[i].word, strlen(policies[i].word), 0), strlen(policies[i].word));
		memset(text, 0, sizeof text);
		CHECK(pread(fd, text, sizeof text - 1, 0) > 0);
		CHECK(strcmp(text, policies[i].shown) == 0);
		*asked = *plain = 1;
		CHECK_EQ(in_large(asked, large), policies[i].asked * large);
		CHECK_EQ(in_large(plain, large), policies[i].plain * large);
		CHECK_EQ(munmap(asked, large) | munmap(plain, large), 0);
	}
	close(fd);
}

static char *common;

static void *hammer(void *arg)
{
	long id = (long)arg;

	for (int round = 0; round < 40; round++) {
		for (long i = 0; i < 2L * large; i += page)
			((volatile long *)(common + i))[id]++;
		switch (id) {
		case 1: mprotect(common + round * page, page, PROT_READ | PROT_WRITE | PROT_EXEC); break;
		case 2: madvise(common, 2L * large, MADV_COLLAPSE); break;
		case 3: madvise(common + large + round * page, page, round % 2 ? MADV_DONTDUMP : MADV_DODUMP); break;
		}
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t t[4];

	common = area(2, MADV_HUGEPAGE);
	CHECK(common != NULL);
	for (long i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, hammer, (void *)i), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (long i = 0; i < 2L * large; i += page)
		for (int id = 0; id < 4; id++)
			CHECK_EQ(((long *)(common + i))[id], 40);
	CHECK_EQ(munmap(common, 2L * large), 0);
}

// More is asked for than there is: what has no large page gets small ones.
static void test_comes_back(void)
{
	long before = smaps(NULL, LONG_MAX, "Rss:");

	for (int round = 0; round < 20; round++) {
		char *p = area(16, MADV_HUGEPAGE);

		CHECK(p != NULL);
		mark(p, 16L * large, round);
		CHECK(marked(p, 16L * large, round));
		CHECK_EQ(munmap(p + page, large), 0); // across two
		CHECK_EQ(munmap(p, 16L * large), 0);
	}
	CHECK(smaps(NULL, LONG_MAX, "Rss:") < before + large);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
	    {"touch", test_touch}, {"not-asked", test_not_asked}, {"no-room", test_no_room}, {"parts", test_parts}, {"whole", test_whole},
	    {"fork", test_fork}, {"looks", test_looks}, {"copies", test_copies}, {"collapse", test_collapse}, {"disabled", test_disabled}, {"policy", test_policy},
	    {"threads", test_threads}, {"comes-back", test_comes_back},
	};

	if (argc == 2 && strcmp(argv[1], "inherited") == 0)
		return prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) != 1;
	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
