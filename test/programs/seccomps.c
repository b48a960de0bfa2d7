// Secure computing: strict mode and filters.
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(v) BPF_STMT(BPF_RET | BPF_K, v)
// CALL returns v for a system call.
#define CALL(nr, v) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), RETURN(v)

static long seccomp(unsigned operation, unsigned flags, void *args)
{
	return syscall(SYS_seccomp, operation, flags, args);
}

// filter installs a filter: its result for these calls, ALLOW for all others.
#define filter(flags, ...)                                                                                  \
	({                                                                                                  \
		struct sock_filter code_[] = {LOAD(nr), __VA_ARGS__, RETURN(SECCOMP_RET_ALLOW)};             \
		struct sock_fprog prog_ = {sizeof code_ / sizeof *code_, code_};                             \
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -1 : seccomp(SECCOMP_SET_MODE_FILTER, flags, &prog_); \
	})

// in_child runs f in a child, and returns the status.
static int in_child(int (*f)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(f());
	waitpid(pid, &status, 0);
	return status & ~0x80; // core or not
}

static void test_errors(void)
{
	struct sock_filter bad[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RETURN(SECCOMP_RET_ALLOW)}, allow[] = {RETURN(SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {2, bad}, empty = {0, bad}, nowhere = {1, (void *)8}, fine = {1, allow};
	unsigned action = SECCOMP_RET_ERRNO;

	CHECK_EQ(prctl(PR_GET_SECCOMP), 0);
	CHECK_ERR(seccomp(99, 0, NULL), EINVAL);
	CHECK_ERR(seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
	CHECK_ERR(seccomp(SECCOMP_SET_MODE_STRICT, 0, &prog), EINVAL);
	CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0x8000, &fine), EINVAL);
	CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, NULL), EFAULT);
	CHECK_ERR(prctl(PR_SET_SECCOMP, 3, &fine), EINVAL);
	if (geteuid() == 0) { // others need no_new_privs first
		CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), EINVAL);
		CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &empty), EINVAL);
		CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &nowhere), EFAULT);
	}
	CHECK_EQ(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action), 0);
	action = 0x12340000;
	CHECK_ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action), EOPNOTSUPP);
	CHECK_ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 1, &action), EINVAL);
}

static int privileges(void)
{
	struct sock_filter allow[] = {RETURN(SECCOMP_RET_ALLOW)};
	struct sock_fprog fine = {1, allow};

	if (geteuid() == 0 && setresuid(4242, 4242, 4242))
		return 1;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fine) != -1 || errno != EACCES)
		return 2;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return 3;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fine))
		return 4;
	if (prctl(PR_GET_SECCOMP) != 2)
		return 5;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != -1 || errno != EINVAL ? 6 : 0;
}

static void test_privileges(void)
{
	CHECK_EQ(in_child(privileges), 0);
}

static int strict(void)
{
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
		return 1;
	write(-1, "", 0);
	read(-1, NULL, 0);
	syscall(SYS_exit, 5);
	return 1;
}

static int strict_killed(void)
{
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	syscall(SYS_getpid);
	return 1;
}

static void test_strict(void)
{
	CHECK_EQ(in_child(strict), 5 << 8);
	CHECK_EQ(in_child(strict_killed), SIGKILL);
}

static int errnos(void)
{
	// getpid is one of the calls that a kernel may like to answer fast.
	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_ERRNO | 77), CALL(SYS_getppid, SECCOMP_RET_ERRNO), CALL(SYS_getuid, SECCOMP_RET_ERRNO | 0xffff)))
		return 1;
	if (syscall(SYS_getpid) != -1 || errno != 77)
		return 2;
	if (syscall(SYS_getppid) != 0)
		return 3;
	if (syscall(SYS_getuid) != -1 || errno != 4095)
		return 4;
	if (syscall(SYS_gettid) <= 0)
		return 5;
	// Of two filters the stricter counts, whichever is newer.
	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_ALLOW), CALL(SYS_gettid, SECCOMP_RET_ERRNO | 5)))
		return 6;
	if (syscall(SYS_getpid) != -1 || errno != 77 || syscall(SYS_gettid) != -1 || errno != 5)
		return 7;
	if (fork() == 0) // a child has them too
		_exit(syscall(SYS_getpid) != -1 || errno != 77);
	int status;
	wait(&status);
	return status ? 8 : 0;
}

static void test_errno(void)
{
	CHECK_EQ(in_child(errnos), 0);
}

static int arguments(void)
{
	struct sock_filter code[] = {
		LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 1, 0), RETURN(SECCOMP_RET_ALLOW),
		LOAD(args[1]), BPF_STMT(BPF_ST, 3), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x12345678, 0, 4), BPF_STMT(BPF_LD | BPF_MEM, 3),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff), BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO), BPF_STMT(BPF_RET | BPF_A, 0),
		RETURN(SECCOMP_RET_ERRNO | 100),
	};
	struct sock_fprog prog = {sizeof code / sizeof *code, code};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog))
		return 1;
	if (syscall(SYS_lseek, -1, 0x1234567800000042, 0) != -1 || errno != 0x42)
		return 2;
	return syscall(SYS_lseek, -1, 0x42, 0) != -1 || errno != 100 ? 3 : 0;
}

static void test_arguments(void)
{
	CHECK_EQ(in_child(arguments), 0);
}

static volatile siginfo_t got;
static volatile long rax;

static void on_sys(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig;
	got = *info;
	rax = u->uc_mcontext.gregs[REG_RAX];
	u->uc_mcontext.gregs[REG_RAX] = 4711;
}

static int trap(void)
{
	struct sigaction action = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};

	sigaction(SIGSYS, &action, NULL);
	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_TRAP | 99)))
		return 1;
	if (syscall(SYS_getpid) != 4711)
		return 2;
	if (got.si_signo != SIGSYS || got.si_code != SYS_SECCOMP || got.si_errno != 99 || got.si_syscall != SYS_getpid ||
	    got.si_arch != AUDIT_ARCH_X86_64 || rax != SYS_getpid || got.si_call_addr == NULL)
		return 3;
	return 0;
}

static int trap_default(void)
{
	signal(SIGSYS, SIG_IGN); // no escape
	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_TRAP)))
		return 1;
	syscall(SYS_getpid);
	return 2;
}

static void test_trap(void)
{
	CHECK_EQ(in_child(trap), 0);
	CHECK_EQ(in_child(trap_default), SIGSYS);
}

static int kill_process(void)
{
	signal(SIGSYS, SIG_IGN);
	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_KILL_PROCESS)))
		return 1;
	syscall(SYS_getpid);
	return 2;
}

static void *getpid_thread(void *arg)
{
	syscall(SYS_getpid);
	return arg;
}

static int kill_thread(void)
{
	static int never;
	pthread_t thread;

	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_KILL_THREAD)))
		return 1;
	pthread_create(&thread, NULL, getpid_thread, &never);
	pthread_join(thread, NULL); // its word is cleared whatever it dies of
	return 6;
}

static int kill_only_thread(void)
{
	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_KILL_THREAD)))
		return 1;
	syscall(SYS_getpid);
	return 2;
}

static int kill_unknown(void)
{
	if (filter(0, CALL(SYS_getpid, 0x12340000)))
		return 1;
	syscall(SYS_getpid);
	return 2;
}

static void test_kill(void)
{
	CHECK_EQ(in_child(kill_process), SIGSYS);
	CHECK_EQ(in_child(kill_thread), 6 << 8);
	CHECK_EQ(in_child(kill_only_thread), SIGSYS);
	CHECK_EQ(in_child(kill_unknown), SIGSYS);
}

static int others(void)
{
	if (filter(0, CALL(SYS_getpid, SECCOMP_RET_LOG), CALL(SYS_gettid, SECCOMP_RET_TRACE | 1), CALL(SYS_getuid, SECCOMP_RET_USER_NOTIF)))
		return 1;
	if (syscall(SYS_getpid) <= 0)
		return 2;
	if (syscall(SYS_gettid) != -1 || errno != ENOSYS) // nobody traces
		return 3;
	return syscall(SYS_getuid) != -1 || errno != ENOSYS ? 4 : 0;
}

static void test_others(void)
{
	CHECK_EQ(in_child(others), 0);
}

static volatile int go, ended;

static void *synced(void *arg)
{
	while (!go)
		sleep_ms(1);
	long n = syscall(SYS_getpid);
	ended = 1;
	while (go != 2)
		sleep_ms(1);
	return n == -1 && errno == 77 ? arg : NULL;
}

static void *own_filter(void *arg)
{
	filter(0, CALL(SYS_getuid, SECCOMP_RET_ERRNO | 3));
	ended = 2;
	while (go != 3)
		sleep_ms(1);
	return arg;
}

static int sync_threads(void)
{
	pthread_t thread, other;
	void *result;
	static int yes;

	pthread_create(&thread, NULL, synced, &yes);
	if (filter(SECCOMP_FILTER_FLAG_TSYNC, CALL(SYS_getpid, SECCOMP_RET_ERRNO | 77)))
		return 1;
	go = 1;
	while (!ended)
		sleep_ms(1);
	pthread_create(&other, NULL, own_filter, NULL);
	while (ended != 2)
		sleep_ms(1);
	if (filter(SECCOMP_FILTER_FLAG_TSYNC, CALL(SYS_geteuid, SECCOMP_RET_ERRNO | 1)) <= 0) // the id of the thread that has its own
		return 2;
	if (filter(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH, CALL(SYS_geteuid, SECCOMP_RET_ERRNO | 1)) != -1 || errno != ESRCH)
		return 3;
	if (syscall(SYS_geteuid) == -1)
		return 4;
	go = 2;
	pthread_join(thread, &result);
	go = 3;
	pthread_join(other, NULL);
	return result == &yes ? 0 : 5;
}

static void test_sync(void)
{
	CHECK_EQ(in_child(sync_threads), 0);
}

static int status_fields(void)
{
	char line[100];
	int mode = -1, filters = -1;

	filter(0, CALL(SYS_getuid, SECCOMP_RET_ERRNO));
	filter(0, CALL(SYS_getuid, SECCOMP_RET_ERRNO));
	FILE *f = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof line, f)) {
		sscanf(line, "Seccomp: %d", &mode);
		sscanf(line, "Seccomp_filters: %d", &filters);
	}
	return mode != 2 || filters != 2;
}

static void test_proc(void)
{
	CHECK_EQ(in_child(status_fields), 0);
}

static int many(void)
{
	static struct sock_filter code[4096];
	struct sock_fprog prog = {4096, code};
	int n = 0;

	for (int i = 0; i < 4096; i++)
		code[i] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	while (n < 20 && seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog) == 0)
		n++;
	return errno == ENOMEM ? n : 100;
}

static void test_many(void)
{
	int n = in_child(many) >> 8; // at most, if nobody has put any on us

	CHECK(n >= 1 && n <= 8);
}

TESTS({"errors", test_errors}, {"privileges", test_privileges}, {"strict", test_strict}, {"errno", test_errno},
      {"arguments", test_arguments}, {"trap", test_trap}, {"kill", test_kill}, {"others", test_others},
      {"sync", test_sync}, {"proc", test_proc}, {"many", test_many})
