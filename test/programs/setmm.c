// prctl(PR_SET_MM): a program says where /proc and brk find what execve placed. It needs CAP_SYS_RESOURCE, but for
// PR_SET_MM_MAP.
#include "check.h"
#include <elf.h>
#include <sys/prctl.h>
#include <sys/wait.h>

// struct prctl_mm_map, of linux/prctl.h
struct map {
	uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
	uint64_t arg_start, arg_end, env_start, env_end, *auxv;
	uint32_t auxv_size, exe_fd;
};

static char *first_argument;

static int set(int option, uint64_t addr, uint64_t size) { return prctl(PR_SET_MM, option, addr, size, 0); }

// anonymous puts a name where /proc looks for one: Linux reads no mapped files there.
static char *anonymous(const char *name, size_t size)
{
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memcpy(p, name, size);
}

static int privileged(void) { return set(PR_SET_MM_BRK, 8, 0) == -1 && errno == EINVAL; }

static ssize_t proc(const char *name, char *b, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/%s", name);
	int fd = open(path, O_RDONLY);
	n = read(fd, b, size - 1);
	b[n > 0 ? n : 0] = 0;
	close(fd);
	return n;
}

// map_now reads what is so far from /proc/self/stat.
static int map_now(struct map *m)
{
	static char b[2048];
	unsigned long long f[60] = {0};
	int n = 3;

	memset(m, 0, sizeof *m);
	if (proc("stat", b, sizeof b) <= 0)
		return -1;
	for (char *p = strrchr(b, ')') + 4; p && n < 60; p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL)
		f[n++] = strtoull(p, NULL, 10); // p is field n+1 of proc(5)
	m->start_code = f[25], m->end_code = f[26], m->start_stack = f[27];
	m->start_data = f[44], m->end_data = f[45], m->start_brk = f[46];
	m->arg_start = f[47], m->arg_end = f[48], m->env_start = f[49], m->env_end = f[50];
	m->brk = (uint64_t)sbrk(0);
	m->exe_fd = -1;
	return m->arg_start == (uint64_t)first_argument ? 0 : -1;
}

static void test_errors(void)
{
	struct map m;

	CHECK_EQ(map_now(&m), 0);
	CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_BRK, m.brk, 0, 1), EINVAL);
	CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_BRK, m.brk, 1, 0), EINVAL);
	CHECK_ERR(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m - 1), EINVAL);
	CHECK_ERR(set(PR_SET_MM_MAP, 8, sizeof m), EFAULT);
	unsigned size = 0;
	CHECK_EQ(set(PR_SET_MM_MAP_SIZE, (uint64_t)&size, 0), 0);
	CHECK_EQ(size, sizeof m);
	CHECK_ERR(set(PR_SET_MM_MAP_SIZE, 8, 0), EFAULT);
	if (!privileged()) {
		CHECK_ERR(set(PR_SET_MM_BRK, m.brk, 0), EPERM);
		CHECK_ERR(set(PR_SET_MM_EXE_FILE, 0, 0), EPERM);
		CHECK_ERR(set(PR_SET_MM_AUXV, 0, 0), EPERM);
		return;
	}
	CHECK_ERR(set(99, m.brk, 0), EINVAL);
	CHECK_ERR(set(PR_SET_MM_ARG_START, 0x7ffffffff000, 0), EINVAL);
	CHECK_ERR(set(PR_SET_MM_ARG_START, m.arg_end + 1, 0), EINVAL); // would end before it starts
	CHECK_ERR(set(PR_SET_MM_BRK, m.start_brk - 1, 0), EINVAL);
	CHECK_ERR(set(PR_SET_MM_ENV_END, 0x7fffffffefff, 0), EFAULT); // above everything
	CHECK_ERR(set(PR_SET_MM_AUXV, 8, 16), EFAULT);
	CHECK_ERR(set(PR_SET_MM_AUXV, (uint64_t)&m, 4096), EINVAL);
	CHECK_ERR(set(PR_SET_MM_EXE_FILE, 99, 0), EBADF);
	int fd = open("/", O_RDONLY);
	CHECK_ERR(set(PR_SET_MM_EXE_FILE, fd, 0), EACCES);
	close(fd);
	fd = open("/proc/self/exe", O_RDONLY);
	CHECK_ERR(set(PR_SET_MM_EXE_FILE, fd, 0), EBUSY); // it is mapped
	close(fd);
}

static void test_map(void)
{
	static uint64_t vector[] = {AT_PAGESZ, 4096, AT_UID, 77, AT_NULL, 0, 5, 6};
	static const char text[] = "a new name\0and more";
	char *name = anonymous(text, sizeof text);
	char b[4096];
	struct map m, old;

	CHECK_EQ(map_now(&m), 0);
	old = m;
	CHECK_EQ(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), 0); // as it is
	m.arg_start = (uint64_t)name;
	m.arg_end = (uint64_t)name + sizeof text;
	m.auxv = vector;
	m.auxv_size = sizeof vector;
	CHECK_EQ(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), 0);
	CHECK_EQ(proc("cmdline", b, sizeof b), sizeof text);
	CHECK(memcmp(b, name, sizeof text) == 0);
	CHECK_EQ(proc("auxv", b, sizeof b), 48);
	CHECK(memcmp(b, vector, 48) == 0);
	m.auxv_size = 4096;
	CHECK_ERR(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), EINVAL);
	m.auxv = NULL;
	m.auxv_size = 16;
	CHECK_ERR(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), EINVAL);
	m = old;
	m.end_code = m.start_code;
	CHECK_ERR(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), EINVAL);
	m = old;
	m.env_start = 0;
	CHECK_ERR(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), EINVAL);
	// A heap of its own.
	char *heap = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(heap != MAP_FAILED);
	munmap(heap, 1 << 20);
	m = old;
	m.start_brk = m.brk = (uint64_t)heap;
	CHECK_EQ(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), 0);
	CHECK_EQ(syscall(SYS_brk, 0), (uint64_t)heap);
	CHECK_EQ(syscall(SYS_brk, heap + 8192), (uint64_t)heap + 8192);
	heap[8191] = 1;
	CHECK_EQ(syscall(SYS_brk, heap), (uint64_t)heap);
	CHECK_EQ(set(PR_SET_MM_MAP, (uint64_t)&old, sizeof old), 0);
	CHECK_EQ(syscall(SYS_brk, 0), old.brk);
}

// A child has its parent's, and changes its own.
static void test_fork(void)
{
	char *name = anonymous("child", 6);
	char b[256], was[256];
	struct map m;
	int status;
	ssize_t n = proc("cmdline", was, sizeof was);

	CHECK_EQ(map_now(&m), 0);
	pid_t pid = fork();
	if (pid == 0) {
		m.arg_start = (uint64_t)name;
		m.arg_end = (uint64_t)name + 6;
		_exit(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m) || proc("cmdline", b, sizeof b) != 6 || strcmp(b, name));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(proc("cmdline", b, sizeof b), n);
	CHECK(memcmp(b, was, n) == 0);
}

static void test_fields(void)
{
	char *name = anonymous("fields", 7);
	static uint64_t vector[] = {AT_UID, 78, AT_NULL, 0};
	char b[4096];
	struct map m;

	if (!privileged())
		return;
	CHECK_EQ(map_now(&m), 0);
	if ((uint64_t)name < m.arg_end) { // one after the other, the range right at each moment
		CHECK_EQ(set(PR_SET_MM_ARG_START, (uint64_t)name, 0), 0);
		CHECK_EQ(set(PR_SET_MM_ARG_END, (uint64_t)name + 7, 0), 0);
	} else {
		CHECK_EQ(set(PR_SET_MM_ARG_END, (uint64_t)name + 7, 0), 0);
		CHECK_EQ(set(PR_SET_MM_ARG_START, (uint64_t)name, 0), 0);
	}
	CHECK_EQ(proc("cmdline", b, sizeof b), 7);
	CHECK(strcmp(b, name) == 0);
	CHECK_EQ(set(PR_SET_MM_AUXV, (uint64_t)vector, sizeof vector), 0);
	CHECK_EQ(proc("auxv", b, sizeof b), sizeof vector);
	CHECK(memcmp(b, vector, sizeof vector) == 0);
	CHECK_EQ(set(PR_SET_MM_BRK, m.brk + 100, 0), 0);
	CHECK_EQ(syscall(SYS_brk, 0), m.brk + 100);
	CHECK_EQ(set(PR_SET_MM_MAP, (uint64_t)&m, sizeof m), 0);
}

// Who writes over its last argument's end is shown as one string, over the environment too.
static void test_title(void)
{
	struct map m;
	char b[4096], *args;
	size_t length;

	CHECK_EQ(map_now(&m), 0);
	length = m.arg_end - m.arg_start;
	args = malloc(m.env_end - m.arg_start);
	memcpy(args, (char *)m.arg_start, m.env_end - m.arg_start);
	memset((char *)m.arg_start, 'x', length);
	((char *)m.arg_start)[length / 2] = 0;
	CHECK_EQ(proc("cmdline", b, sizeof b), length / 2 + 1);
	CHECK_EQ(strlen(b), length / 2);
	memset((char *)m.arg_start, 'y', length);
	if (m.env_end > m.env_start + 1) {
		*(char *)m.env_start = 'z';
		((char *)m.env_start)[1] = 0;
		CHECK_EQ(proc("cmdline", b, sizeof b), length + 2);
		CHECK_EQ(b[length], 'z');
	}
	memcpy((char *)m.arg_start, args, m.env_end - m.arg_start);
	free(args);
}

static const struct test tests[] = {
	{"errors", test_errors}, {"map", test_map}, {"fork", test_fork}, {"fields", test_fields}, {"title", test_title},
};

int main(int argc, char **argv)
{
	first_argument = argv[0];
	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
