// /proc and /sys: the files that programs read, in the form in which they parse them.
#include "check.h"
#include <sys/uio.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static char text[1 << 18];

// slurp reads a whole file, and returns its length or -1.
static int slurp(const char *path)
{
	int fd = open(path, O_RDONLY), n = 0;
	ssize_t r;

	if (fd < 0)
		return -1;
	while (n < (int)sizeof text - 1 && (r = read(fd, text + n, sizeof text - 1 - n)) > 0)
		n += r;
	text[n] = 0;
	close(fd);
	return n;
}

static int spit(const char *path, const char *s)
{
	int fd = open(path, O_WRONLY), n;

	if (fd < 0)
		return -1;
	n = write(fd, s, strlen(s));
	close(fd);
	return n;
}

// number returns the number behind key at the start of a line of text, or -1.
static long number(const char *key)
{
	for (char *p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (!strncmp(p, key, strlen(key)))
			return strtol(p + strlen(key), NULL, 10);
	return -1;
}

static const char *const per_process[] = {
	"auxv", "cgroup", "cmdline", "comm", "coredump_filter", "environ", "exe", "fd", "fdinfo", "io", "limits", "loginuid", "maps",
	"mountinfo", "mounts", "mountstats", "oom_adj", "oom_score", "oom_score_adj", "personality", "root", "cwd", "sessionid", "setgroups",
	"smaps", "smaps_rollup", "stat", "statm", "status", "task", "timerslack_ns", "uid_map", "gid_map", "wchan", "schedstat",
};

static void test_every_pid(void)
{
	int go[2], status;
	char path[64], c;

	CHECK_EQ(pipe(go), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	close(go[0]);
	for (unsigned i = 0; i < sizeof per_process / sizeof per_process[0]; i++) {
		struct stat st;
		for (int who = 0; who < 2; who++) {
			snprintf(path, sizeof path, "/proc/%d/%s", who ? pid : getpid(), per_process[i]);
			if (lstat(path, &st) != 0)
				printf("# %s is missing\n", per_process[i]);
			CHECK_EQ(lstat(path, &st), 0);
			if (S_ISREG(st.st_mode))
				CHECK(slurp(path) >= 0);
			if (S_ISLNK(st.st_mode))
				CHECK(readlink(path, text, 100) > 0);
		}
	}
	close(go[1]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	CHECK_EQ(slurp(path), -1);
}

static void test_stat(void)
{
	CHECK(slurp("/proc/self/stat") > 0);
	char *p = strrchr(text, ')');
	int pid, ppid, pgrp, session, tty, tpgid, fields = 0;
	char state;
	CHECK(p != NULL);
	CHECK_EQ(atoi(text), getpid());
	CHECK_EQ(sscanf(p + 2, "%c %d %d %d %d %d", &state, &ppid, &pgrp, &session, &tty, &tpgid), 6);
	CHECK(state == 'R' && ppid == getppid() && pgrp == getpgrp() && session == getsid(0));
	for (pid = 0; p[pid]; pid++)
		fields += p[pid] == ' ';
	CHECK_EQ(fields, 50); // 52 fields, two of them before
	long size, resident, shared, code, lib, data, dirty;
	CHECK(slurp("/proc/self/statm") > 0);
	CHECK_EQ(sscanf(text, "%ld %ld %ld %ld %ld %ld %ld", &size, &resident, &shared, &code, &lib, &data, &dirty), 7);
	CHECK(size >= resident && resident > 0 && code > 0 && data > 0);
}

static void test_status(void)
{
	prctl(PR_SET_NAME, "named");
	CHECK(slurp("/proc/self/status") > 0);
	CHECK(!strncmp(text, "Name:\tnamed\nUmask:\t0022\nState:\tR (running)\nTgid:\t", 48));
	CHECK_EQ(number("Pid:\t"), getpid());
	CHECK_EQ(number("PPid:\t"), getppid());
	CHECK_EQ(number("Threads:\t"), 1);
	CHECK(number("VmRSS:\t") > 0 && number("VmSize:\t") > 0 && number("FDSize:\t") > 0);
	CHECK_EQ(number("NoNewPrivs:\t"), 0);
	CHECK_EQ(number("Uid:\t"), (long)getuid());
	CHECK(strstr(text, "\nSigCgt:\t0000000000000000\n") && strstr(text, "\nvoluntary_ctxt_switches:\t"));
	CHECK(spit("/proc/self/comm", "other") > 0);
	CHECK(slurp("/proc/self/comm") > 0);
	CHECK(!strcmp(text, "other\n"));
	char name[16];
	prctl(PR_GET_NAME, name);
	CHECK(!strcmp(name, "other"));
}

static void *thread(void *arg)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/task/%ld/comm", syscall(SYS_gettid));
	pthread_setname_np(pthread_self(), "worker");
	*(int *)arg = slurp(path) == 7 && !strcmp(text, "worker\n") && slurp("/proc/thread-self/comm") == 7;
	return NULL;
}

static void test_threads(void)
{
	pthread_t t;
	int good = 0;

	CHECK_EQ(pthread_create(&t, NULL, thread, &good), 0);
	pthread_join(t, NULL);
	CHECK_EQ(good, 1);
}

static void test_memory(void)
{
	char *m = mmap(NULL, 64 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), line[64];
	unsigned long from, to;

	memset(m, 1, 32 << 12);
	CHECK_EQ(mprotect(m + (63 << 12), 4096, PROT_NONE), 0); // a border
	snprintf(line, sizeof line, "%lx-%lx rw-p 00000000 00:00 0", (unsigned long)m, (unsigned long)m + (63 << 12));
	CHECK(slurp("/proc/self/maps") > 0);
	CHECK(strstr(text, "[stack]") && strstr(text, "[vdso]") && strstr(text, "r-xp"));
	CHECK(sscanf(text, "%lx-%lx ", &from, &to) == 2 && from < to);
	long rss = 0, anonymous = 0;
	CHECK(slurp("/proc/self/smaps") > 0);
	for (char *p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		if (sscanf(p, "%lx-%lx ", &from, &to) == 2 && p[0] != 'V' && to > from && (unsigned long)m >= from && (unsigned long)m < to) {
			char *r = strstr(p, "\nRss:"), *a = strstr(p, "\nAnonymous:");
			CHECK(r && a);
			rss = atol(r + 5), anonymous = atol(a + 11);
			break;
		}
	}
	CHECK(rss >= 128 && anonymous >= 128);
	CHECK(strstr(text, "\nVmFlags: rd "));
	CHECK(slurp("/proc/self/smaps_rollup") > 0);
	CHECK(strstr(text, "[rollup]\nRss:") && number("Rss:") >= 128);
	munmap(m, 64 << 12);
}

static void test_limits(void)
{
	CHECK(slurp("/proc/self/limits") > 0);
	CHECK(!strncmp(text, "Limit                     Soft Limit           Hard Limit           Units     \n", 79));
	CHECK(strstr(text, "\nMax stack size            8388608              unlimited            bytes     \n"));
}

static void test_descriptors(void)
{
	char path[64], name[64];
	int fd = open("/dev/null", O_RDWR | O_APPEND | O_CLOEXEC);

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, name, sizeof name);
	CHECK(n == 9 && !memcmp(name, "/dev/null", 9));
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	CHECK(slurp(path) > 0);
	CHECK(!strncmp(text, "pos:\t0\nflags:\t02102002\nmnt_id:\t", 31));
	close(fd);
	CHECK_EQ(slurp(path), -1);
}

static void test_machine(void)
{
	struct utsname u;

	CHECK(slurp("/proc/cpuinfo") > 0);
	CHECK_EQ(number("processor\t: "), 0);
	CHECK(strstr(text, "\nvendor_id\t: ") && strstr(text, "\nmodel name\t: ") && strstr(text, "\ncpu MHz\t\t: "));
	char *flags = strstr(text, "\nflags\t\t: ");
	CHECK(flags && strstr(flags, " sse2 ") && strstr(flags, " lm ") && strstr(flags, " fxsr "));
	CHECK(slurp("/proc/meminfo") > 0);
	long total = number("MemTotal:"), available = number("MemAvailable:");
	CHECK(total > 0 && number("MemFree:") > 0 && available > 0 && available < total);
	CHECK(number("SwapTotal:") >= 0 && number("Cached:") >= 0 && number("Committed_AS:") >= 0);
	CHECK(slurp("/proc/stat") > 0);
	CHECK(!strncmp(text, "cpu  ", 5) && number("btime ") > 0 && strstr(text, "\ncpu0 ") && number("procs_running ") >= 0);
	double up, idle, a, b, c;
	CHECK(slurp("/proc/uptime") > 0);
	CHECK(sscanf(text, "%lf %lf\n", &up, &idle) == 2 && up > 0);
	int running, tasks, last;
	CHECK(slurp("/proc/loadavg") > 0);
	CHECK_EQ(sscanf(text, "%lf %lf %lf %d/%d %d", &a, &b, &c, &running, &tasks, &last), 6);
	uname(&u);
	CHECK(slurp("/proc/sys/kernel/hostname") > 0);
	CHECK(!strncmp(text, u.nodename, strlen(u.nodename)) && text[strlen(u.nodename)] == '\n');
	CHECK(slurp("/proc/sys/kernel/osrelease") > 0);
	CHECK(!strncmp(text, u.release, strlen(u.release)));
	CHECK(slurp("/proc/version") > 0);
	CHECK(!strncmp(text, "Linux version ", 14) && strstr(text, u.release));
	CHECK(slurp("/proc/filesystems") > 0);
	CHECK(strstr(text, "nodev\ttmpfs\n") && strstr(text, "nodev\tproc\n") && strstr(text, "nodev\tdevpts\n"));
	CHECK(slurp("/proc/devices") > 0);
	CHECK(strstr(text, "\n136 pts\n") && strstr(text, "\nBlock devices:\n"));
	CHECK(slurp("/proc/partitions") > 0 && !strncmp(text, "major minor  #blocks  name\n", 27));
	CHECK(slurp("/proc/swaps") > 0 && !strncmp(text, "Filename\t\t\t\tType\t\tSize", 22));
	CHECK(slurp("/proc/interrupts") > 0 && slurp("/proc/vmstat") > 0 && number("nr_free_pages ") > 0);
	CHECK(slurp("/proc/cmdline") >= 0 && slurp("/proc/mounts") > 0 && strstr(text, " /proc proc rw"));
}

static void test_io(void)
{
	char buffer[1000] = { 0 };
	int null = open("/dev/null", O_WRONLY), pair[2];
	struct iovec iov[2] = { { buffer, 300 }, { buffer + 300, 300 } };

	CHECK_EQ(pipe(pair), 0);
	int n = slurp("/proc/self/io");
	CHECK(n > 0);
	long long rchar = number("rchar: "), wchar = number("wchar: "), syscr = number("syscr: "), syscw = number("syscw: ");
	CHECK(rchar > 0 && number("read_bytes: ") >= 0 && number("write_bytes: ") >= 0 && number("cancelled_write_bytes: ") >= 0);
	CHECK_EQ(write(null, buffer, 1000), 1000);
	CHECK_EQ(writev(pair[1], iov, 2), 600);
	CHECK_EQ(read(pair[0], buffer, 400), 400);
	CHECK_EQ(readv(pair[0], iov, 2), 200);
	CHECK(slurp("/proc/self/io") > 0);
	CHECK_EQ(number("wchar: ") - wchar, 1600);
	CHECK_EQ(number("syscw: ") - syscw, 2);
	CHECK_EQ(number("rchar: ") - rchar, n + 600); // the file itself, too
	CHECK_EQ(number("syscr: ") - syscr, 2 + 2);
	close(null), close(pair[0]), close(pair[1]);
}

static void test_settings(void)
{
	static const char *const files[] = {
		"kernel/pid_max", "kernel/threads-max", "kernel/random/uuid", "kernel/random/boot_id", "kernel/cap_last_cap", "kernel/ngroups_max",
		"kernel/shmmax", "kernel/sem", "kernel/msgmni", "kernel/core_pattern", "kernel/randomize_va_space", "kernel/pty/max", "kernel/domainname",
		"vm/overcommit_memory", "vm/max_map_count", "vm/mmap_min_addr", "vm/swappiness", "vm/min_free_kbytes", "fs/file-max", "fs/nr_open",
		"fs/file-nr", "fs/pipe-max-size", "fs/inotify/max_user_watches", "fs/epoll/max_user_watches", "fs/aio-max-nr", "fs/aio-nr", "net/core/somaxconn",
	};
	char path[128];

	for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
		snprintf(path, sizeof path, "/proc/sys/%s", files[i]);
		if (slurp(path) <= 0)
			printf("# %s is missing\n", path);
		CHECK(slurp(path) > 1 && text[strlen(text) - 1] == '\n');
	}
	CHECK(slurp("/sys/devices/system/cpu/online") > 0 && text[0] == '0');
	CHECK(slurp("/sys/devices/system/cpu/possible") > 0 && text[0] == '0');
	CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
}

static void test_pagemap(void)
{
	enum { pages = 4 };
	char *p = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t e[pages];

	CHECK(p != MAP_FAILED && fd >= 0);
	p[4096] = 1;
	CHECK_EQ(pread(fd, e, sizeof e, (uintptr_t)p / 4096 * 8), sizeof e);
	CHECK_EQ(e[0] >> 63, 0);
	CHECK_EQ(e[1] >> 61, 4); // present, and no file's
	CHECK_EQ(e[2] >> 63, 0);
	CHECK_ERR(pread(fd, e, 8, 4), EINVAL);
	CHECK_ERR(pread(fd, e, 7, 8), EINVAL);
	close(fd);
	munmap(p, pages * 4096);
}

// What can't be changed can be written as it is, and says so to whoever wants another value.
static void test_tunables(void)
{
	static const char *const names[] = {"/proc/sys/vm/mmap_min_addr", "/proc/sys/fs/pipe-user-pages-hard", "/proc/sys/kernel/randomize_va_space"};
	char before[40];

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		int fd = open(names[i], O_RDWR);

		if (fd < 0) { // only root's
			CHECK_EQ(errno, EACCES);
			continue;
		}
		ssize_t n = read(fd, before, sizeof before);
		CHECK(n > 0);
		CHECK_EQ(pwrite(fd, before, n, 0), n);
		CHECK_ERR(pwrite(fd, "x", 1, 0), EINVAL);
		close(fd);
	}
}

TESTS({"tunables", test_tunables}, {"pagemap", test_pagemap}, {"every-pid", test_every_pid}, {"stat", test_stat}, {"status", test_status}, {"threads", test_threads}, {"memory", test_memory},
      {"limits", test_limits}, {"descriptors", test_descriptors}, {"machine", test_machine}, {"io", test_io}, {"settings", test_settings})
