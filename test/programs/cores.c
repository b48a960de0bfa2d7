// Core files, where the system writes them to the working directory.
#include "check.h"
#include <elf.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char dir[] = "/tmp/cores-XXXXXX", pattern[200];
static volatile long value;

static void *waits(void *arg)
{
	pause();
	return arg;
}

// die runs a child that crashes, in an empty directory, and returns its status. It may leave a core file of up to
// limit bytes, if it is dumpable.
static int die(rlim_t limit, int dumpable, int sig)
{
	int status;
	pid_t pid;

	unlink("core");
	pid = fork();
	if (pid == 0) {
		struct rlimit r = {limit, limit};
		pthread_t thread;

		setrlimit(RLIMIT_CORE, &r);
		prctl(PR_SET_DUMPABLE, dumpable);
		pthread_create(&thread, NULL, waits, NULL);
		value = 0x1234567887654321;
		if (sig)
			raise(sig);
		*(volatile int *)(long)(sig & 8) = 0;
		_exit(1);
	}
	waitpid(pid, &status, 0);
	return status;
}

// usable says whether this system names core files as the tests expect.
static int usable(void)
{
	FILE *f = fopen("/proc/sys/kernel/core_pattern", "r");
	char uses_pid = '1';

	if (!f || !fgets(pattern, sizeof pattern, f))
		return 0;
	fclose(f);
	f = fopen("/proc/sys/kernel/core_uses_pid", "r");
	fread(&uses_pid, 1, 1, f);
	fclose(f);
	if (strcmp(pattern, "core\n") || uses_pid != '0')
		return 0;
	return (strcmp(dir + 11, "XXXXXX") || mkdtemp(dir)) && chdir(dir) == 0;
}

static void test_status(void)
{
	int status, core;
	siginfo_t info;
	struct stat s;

	if (!usable())
		return;
	status = die(RLIM_INFINITY, 1, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && WCOREDUMP(status));
	CHECK_EQ(stat("core", &s), 0);
	CHECK(S_ISREG(s.st_mode) && (s.st_mode & 0777) == 0600 && s.st_size > 8192);
	status = die(RLIM_INFINITY, 1, SIGTERM);
	CHECK(WTERMSIG(status) == SIGTERM && !WCOREDUMP(status) && access("core", F_OK) == -1);
	status = die(RLIM_INFINITY, 1, SIGQUIT);
	CHECK(WTERMSIG(status) == SIGQUIT && WCOREDUMP(status) && access("core", F_OK) == 0);
	status = die(0, 1, 0);
	CHECK(WTERMSIG(status) == SIGSEGV && !WCOREDUMP(status) && access("core", F_OK) == -1);
	status = die(RLIM_INFINITY, 0, 0);
	CHECK(WTERMSIG(status) == SIGSEGV && !WCOREDUMP(status) && access("core", F_OK) == -1);
	status = die(8192, 1, 0);
	CHECK_EQ(WTERMSIG(status), SIGSEGV);
	CHECK(stat("core", &s) == 0 && s.st_size <= 8192);
	core = open("core", O_WRONLY); // whoever has the old file open keeps it
	CHECK(core >= 0 && die(RLIM_INFINITY, 1, 0) && fstat(core, &s) == 0 && s.st_size <= 8192);
	close(core);
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};

		setrlimit(RLIMIT_CORE, &r);
		abort();
	}
	CHECK_EQ(waitid(P_PID, pid, &info, WEXITED), 0);
	CHECK(info.si_code == CLD_DUMPED && info.si_status == SIGABRT);
}

// find returns where the core file has the memory at addr.
static off_t find(const char *core, unsigned long addr)
{
	const Elf64_Ehdr *e = (void *)core;
	const Elf64_Phdr *p = (void *)(core + e->e_phoff);

	for (int i = 0; i < e->e_phnum; i++)
		if (p[i].p_type == PT_LOAD && p[i].p_vaddr <= addr && addr < p[i].p_vaddr + p[i].p_filesz)
			return p[i].p_offset + addr - p[i].p_vaddr;
	return -1;
}

static void test_content(void)
{
	struct stat s;
	int threads = 0, others = 0;

	if (!usable())
		return;
	die(RLIM_INFINITY, 1, 0);
	int fd = open("core", O_RDONLY);
	CHECK(fd >= 0 && fstat(fd, &s) == 0);
	char *core = mmap(NULL, s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	const Elf64_Ehdr *e = (void *)core;
	CHECK(!memcmp(core, ELFMAG, SELFMAG) && e->e_type == ET_CORE && e->e_machine == EM_X86_64);
	off_t at = find(core, (unsigned long)&value);
	CHECK(at > 0 && at < s.st_size);
	CHECK(*(long *)(core + at) == 0x1234567887654321);
	const Elf64_Phdr *p = (void *)(core + e->e_phoff);
	CHECK_EQ(p->p_type, PT_NOTE);
	for (size_t off = 0; off < p->p_filesz;) {
		const Elf64_Nhdr *n = (void *)(core + p->p_offset + off);

		threads += n->n_type == NT_PRSTATUS && n->n_descsz == 336;
		others += n->n_type == NT_PRPSINFO && n->n_descsz == 136;
		others += n->n_type == NT_SIGINFO && n->n_descsz == 128;
		others += n->n_type == NT_AUXV || n->n_type == NT_FILE;
		off += sizeof *n + ((n->n_namesz + 3) & ~3U) + ((n->n_descsz + 3) & ~3U);
	}
	CHECK_EQ(threads, 2);
	CHECK_EQ(others, 4);
	munmap(core, s.st_size);
	close(fd);
}

static void test_end(void)
{
	if (!usable())
		return;
	unlink("core");
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(rmdir(dir), 0);
}

TESTS({"status", test_status}, {"content", test_content}, {"end", test_end})
