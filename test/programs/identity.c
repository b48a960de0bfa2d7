// Who and where a program is: identity, limits, the machine, odds and ends.
#include "check.h"
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static void test_ids(void)
{
	CHECK(getpid() > 0);
	CHECK_EQ(syscall(SYS_gettid), getpid());
	CHECK(getppid() >= 0);
	uid_t r, e, s;
	CHECK_EQ(getresuid(&r, &e, &s), 0);
	CHECK(r == getuid() && e == geteuid());
	gid_t rg, eg, sg;
	CHECK_EQ(getresgid(&rg, &eg, &sg), 0);
	CHECK(rg == getgid() && eg == getegid());
	CHECK_EQ(setuid(getuid()), 0);
	CHECK_EQ(setgid(getgid()), 0);
	CHECK(getgroups(0, NULL) >= 0);
	CHECK(getpgrp() >= 0);
	CHECK(getsid(0) >= 0);
	CHECK_ERR(syscall(SYS_getresuid, 8, 8, 8), EFAULT);
	CHECK_EQ(syscall(SYS_set_tid_address, NULL), getpid());
}

static void test_uname(void)
{
	struct utsname u;

	CHECK_EQ(uname(&u), 0);
	CHECK(strcmp(u.sysname, "Linux") == 0);
	CHECK(strcmp(u.machine, "x86_64") == 0);
	CHECK(atoi(u.release) >= 4);
	CHECK(u.nodename[0] && u.version[0]);
	char name[65];
	CHECK_EQ(gethostname(name, sizeof name), 0);
	CHECK(strcmp(name, u.nodename) == 0);
	CHECK_ERR(syscall(SYS_uname, 8), EFAULT);
}

static void test_limits(void)
{
	struct rlimit r;

	for (int i = 0; i < RLIMIT_NLIMITS; i++) {
		CHECK_EQ(getrlimit(i, &r), 0);
		CHECK(r.rlim_cur <= r.rlim_max);
	}
	CHECK_ERR(getrlimit(99, &r), EINVAL);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &r), 0);
	CHECK(r.rlim_cur >= 256);
	struct rlimit low = {20, r.rlim_max};
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	int fd, last = -1;
	while ((fd = open("/dev/null", O_RDONLY)) >= 0)
		last = fd;
	int err = errno;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &r), 0);
	CHECK_EQ(err, EMFILE);
	CHECK_EQ(last, 19);
	for (fd = 3; fd < 20; fd++)
		close(fd);
	struct rlimit wrong = {10, 5};
	CHECK_ERR(setrlimit(RLIMIT_NOFILE, &wrong), EINVAL);
	CHECK_EQ(prlimit(getpid(), RLIMIT_CORE, NULL, &r), 0);
}

static void test_sysinfo(void)
{
	struct sysinfo si;

	CHECK_EQ(sysinfo(&si), 0);
	CHECK(si.totalram > 0 && si.freeram <= si.totalram && si.mem_unit > 0);
	CHECK(si.uptime >= 0 && si.procs >= 1);
	CHECK_ERR(syscall(SYS_sysinfo, 8), EFAULT);
}

static void test_scheduling(void)
{
	cpu_set_t set;
	unsigned cpu = 99, node = 99;

	CPU_ZERO(&set);
	CHECK(syscall(SYS_sched_getaffinity, 0, sizeof set, &set) >= 8);
	CHECK(CPU_COUNT(&set) >= 1);
	CHECK_EQ(syscall(SYS_getcpu, &cpu, &node, NULL), 0);
	CHECK(CPU_ISSET(cpu, &set));
	CHECK_EQ(sched_setaffinity(0, sizeof set, &set), 0);
	CHECK_ERR(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
	CPU_ZERO(&set);
	CHECK_ERR(sched_setaffinity(0, sizeof set, &set), EINVAL);
	CHECK_EQ(sched_yield(), 0);
	CHECK_EQ(syscall(SYS_sched_getscheduler, 0), SCHED_OTHER);
	CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
	CHECK_EQ(sched_get_priority_min(SCHED_OTHER), 0);
	struct sched_param p;
	CHECK_EQ(syscall(SYS_sched_getparam, 0, &p), 0);
	CHECK_EQ(p.sched_priority, 0);
	errno = 0;
	CHECK(getpriority(PRIO_PROCESS, 0) >= -20);
	CHECK_ERR(syscall(SYS_sched_getscheduler, -1), EINVAL);
}

// What a thread asked of the scheduler is seen by others and goes to its children.
static void test_scheduling_is_inherited(void)
{
	int status, started[2], ends[2];
	pid_t pid;
	char c;

	CHECK_EQ(pipe(started), 0);
	CHECK_EQ(pipe(ends), 0);
	setpgid(0, 0);
	CHECK_EQ(setpriority(PRIO_PROCESS, 0, 5), 0);
	CHECK_EQ(prctl(PR_SET_TIMERSLACK, 70000), 0);
	pid = fork();
	if (pid == 0) {
		int ok = getpriority(PRIO_PROCESS, 0) == 5 && prctl(PR_GET_TIMERSLACK) == 70000;

		ok &= write(started[1], "x", 1) == 1;
		prctl(PR_SET_TIMERSLACK, 0); // the default: the parent's
		ok &= prctl(PR_GET_TIMERSLACK) == 70000;
		ok &= setpriority(PRIO_PROCESS, getppid(), 6) == 0;
		ok &= read(ends[0], &c, 1) == 1;
		_exit(ok);
	}
	CHECK_EQ(read(started[0], &c, 1), 1);
	CHECK_EQ(setpriority(PRIO_PROCESS, pid, 8), 0);
	CHECK_EQ(getpriority(PRIO_PROCESS, pid), 8);
	CHECK_EQ(write(ends[1], "x", 1), 1);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WEXITSTATUS(status), 1);
	CHECK_EQ(getpriority(PRIO_PROCESS, 0), 6);
	CHECK_EQ(getpriority(PRIO_PGRP, 0), 6);
	CHECK_ERR(getpriority(PRIO_PGRP, -1), ESRCH);
	CHECK_ERR(getpriority(PRIO_USER, -1), ESRCH);
	CHECK_ERR(getpriority(9, 0), EINVAL);
	CHECK_ERR(getpriority(PRIO_PROCESS, INT_MAX), ESRCH);
	for (int i = 0; i < 2; i++) {
		close(started[i]);
		close(ends[i]);
	}
}

// A personality is kept; with UNAME26 the kernel seems to be an old one.
static void test_personality(void)
{
	struct utsname u;

	CHECK_EQ(personality(0xffffffff), 0);
	CHECK_EQ(personality(ADDR_NO_RANDOMIZE | UNAME26), 0);
	CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE | UNAME26);
	CHECK_EQ(uname(&u), 0);
	CHECK(strncmp(u.release, "2.6.", 4) == 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(personality(0xffffffff) == (ADDR_NO_RANDOMIZE | UNAME26));
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WEXITSTATUS(status), 1);
	CHECK_EQ(personality(READ_IMPLIES_EXEC), ADDR_NO_RANDOMIZE | UNAME26);
	int (*f)(void) = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(f != MAP_FAILED);
	memcpy(f, "\x31\xc0\xc3", 3); // xor eax, eax; ret
	CHECK_EQ(f(), 0);
	CHECK_EQ(personality(0), READ_IMPLIES_EXEC);
	CHECK_EQ(munmap(f, 4096), 0);
}

static void test_prctl(void)
{
	char name[17] = {0};

	CHECK_EQ(prctl(PR_SET_NAME, "a-name-that-is-too-long"), 0);
	CHECK_EQ(prctl(PR_GET_NAME, name), 0);
	CHECK(strcmp(name, "a-name-that-is-") == 0);
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
	CHECK_EQ(prctl(PR_SET_DUMPABLE, 0), 0);
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
	CHECK_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	CHECK_ERR(prctl(9999, 0, 0, 0, 0), EINVAL);
}

static void test_usage(void)
{
	struct rusage u;
	struct tms t;
	volatile unsigned spin = 0;

	while (clock() < CLOCKS_PER_SEC / 20)
		spin++;
	CHECK_EQ(getrusage(RUSAGE_SELF, &u), 0);
	CHECK(u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec +
		      u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec > 20000);
	CHECK(u.ru_maxrss > 0);
	CHECK_EQ(getrusage(RUSAGE_CHILDREN, &u), 0);
	CHECK_ERR(getrusage(55, &u), EINVAL);
	CHECK(times(&t) != -1);
}

static void test_unknown_calls(void)
{
	CHECK_ERR(syscall(333 + 2000), ENOSYS);
	CHECK_ERR(syscall(100000), ENOSYS);
	CHECK_ERR(syscall(174 /* create_module */), ENOSYS);
}

static void test_membarrier_rseq(void)
{
	// glibc has registered the thread already, or nobody has.
	long r = syscall(SYS_rseq, 8, 32, 0, 0x53053053);
	int err = errno;
	CHECK(r == -1 && (err == EINVAL || err == EBUSY || err == EFAULT));
	CHECK(syscall(SYS_membarrier, 0, 0, 0) >= 0);
}

TESTS({"ids", test_ids}, {"uname", test_uname}, {"limits", test_limits}, {"sysinfo", test_sysinfo},
      {"scheduling", test_scheduling}, {"scheduling-is-inherited", test_scheduling_is_inherited},
      {"personality", test_personality}, {"prctl", test_prctl}, {"usage", test_usage},
      {"unknown-calls", test_unknown_calls}, {"membarrier-rseq", test_membarrier_rseq})
