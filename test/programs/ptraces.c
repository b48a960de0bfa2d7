// ptrace(2): stops, events, registers, memory, breakpoints, and who waits for whom.
#include "check.h"
#include <elf.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define EVENT_STOP 128 // PTRACE_EVENT_STOP: not in every libc
#define SINGLEBLOCK 33 // PTRACE_SINGLEBLOCK: nor this
#define SYSGOOD (SIGTRAP | 0x80)

static long trace(int request, pid_t pid, long addr, long data) {
	return syscall(SYS_ptrace, request, pid, addr, data);
}

// report is the next status of pid.
static int report(pid_t pid) {
	int s;
	return waitpid(pid, &s, __WALL) == pid ? s : -1;
}

static int stopped(int s, int sig) { return WIFSTOPPED(s) && s >> 8 == sig; }
static int exited(int s) { return WIFEXITED(s); }
static int event(int s, int event) { return stopped(s, SIGTRAP | event << 8); }

// traced forks a child that is traced and stops by SIGSTOP before it runs f.
static pid_t traced(void (*f)(void)) {
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
			_exit(99);
		kill(getpid(), SIGSTOP); // not raise, which may change the mask
		f();
		_exit(0);
	}
	if (!stopped(report(pid), SIGSTOP))
		return -1;
	return pid;
}

// child forks a child that isn't traced.
static pid_t child(void (*f)(void)) {
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		f();
		_exit(0);
	}
	return pid;
}

static void end(pid_t pid) {
	kill(pid, SIGKILL);
	while (waitpid(pid, 0, __WALL) == pid)
		;
}

static volatile long shared = 1;
static void nothing(void) {}
static void exit7(void) { _exit(7); }
static void forever(void) {
	for (;;)
		pause();
}
static void spin(void) {
	for (;;)
		shared++;
}

static char stateof(pid_t pid) {
	char name[64], text[4096];
	snprintf(name, sizeof name, "/proc/%d/stat", pid);
	int fd = open(name, O_RDONLY), n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	return strrchr(text, ')')[2];
}

static int tracerof(pid_t pid) {
	char name[64], text[4096];
	snprintf(name, sizeof name, "/proc/%d/status", pid);
	int fd = open(name, O_RDONLY), n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = 0;
	return atoi(strstr(text, "TracerPid:") + 10);
}

// becomes waits until pid's state is the one wanted.
static int becomes(pid_t pid, char state) {
	for (int i = 0; i < 2000; i++) {
		if (stateof(pid) == state)
			return 1;
		usleep(5000);
	}
	return 0;
}

static void test_traceme(void) {
	pid_t pid = traced(exit7);
	CHECK(pid > 0);
	CHECK_EQ(stateof(pid), 't');
	CHECK_EQ(tracerof(pid), getpid());
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 7);
}

static void test_errors(void) {
	CHECK(trace(PTRACE_CONT, 1 << 22, 0, 0) == -1 && errno == ESRCH);
	CHECK(trace(PTRACE_ATTACH, 1 << 22, 0, 0) == -1 && errno == ESRCH);
	CHECK(trace(PTRACE_ATTACH, getpid(), 0, 0) == -1 && errno == EPERM);
	pid_t pid = child(forever);
	CHECK(trace(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH);
	CHECK(trace(PTRACE_SEIZE, pid, 1, 0) == -1 && errno == EIO);
	CHECK_EQ(trace(PTRACE_SEIZE, pid, 0, 0), 0);
	CHECK(trace(PTRACE_ATTACH, pid, 0, 0) == -1 && errno == EPERM);
	CHECK(trace(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH); // it runs
	CHECK(trace(12345, pid, 0, 0) == -1 && errno == ESRCH);
	end(pid);
	pid = traced(nothing);
	CHECK(trace(12345, pid, 0, 0) == -1 && errno == EIO);
	CHECK(trace(PTRACE_CONT, pid, 0, 65) == -1 && errno == EIO);
	CHECK(trace(PTRACE_SETOPTIONS, pid, 0, 1 << 10) == -1 && errno == EINVAL);
	CHECK(trace(PTRACE_INTERRUPT, pid, 0, 0) == -1 && errno == EIO); // not seized
	CHECK(trace(PTRACE_LISTEN, pid, 0, 0) == -1 && errno == EIO);
	long word;
	CHECK(trace(PTRACE_PEEKDATA, pid, 8, (long)&word) == -1 && errno == EIO);
	CHECK(trace(PTRACE_POKEDATA, pid, 8, 1) == -1 && errno == EIO);
	CHECK(trace(PTRACE_PEEKDATA, pid, (long)&shared, 8) == -1 && errno == EFAULT);
	CHECK(trace(PTRACE_PEEKUSER, pid, 3, (long)&word) == -1 && errno == EIO);
	CHECK(trace(PTRACE_PEEKUSER, pid, 928, (long)&word) == -1 && errno == EIO);
	CHECK(trace(PTRACE_GETREGS, pid, 0, 8) == -1 && errno == EFAULT);
	struct iovec v = {&word, 7};
	CHECK(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, (long)&v) == -1 && errno == EINVAL);
	v.iov_len = 8;
	CHECK(trace(PTRACE_GETREGSET, pid, 999, (long)&v) == -1 && errno == EINVAL);
	end(pid);
	if (fork() == 0) { // who isn't the tracer
		errno = 0;
		_exit(trace(PTRACE_TRACEME, 0, 0, 0) == 0 && trace(PTRACE_TRACEME, 0, 0, 0) == -1 && errno == EPERM ? 5 : 6);
	}
	int s;
	wait(&s);
	CHECK_EQ(WEXITSTATUS(s), 5);
}

static void test_memory(void) {
	pid_t pid = traced(nothing);
	long word;
	CHECK_EQ(trace(PTRACE_POKEDATA, pid, (long)&shared, 0x1122334455667788), 0);
	CHECK_EQ(trace(PTRACE_PEEKDATA, pid, (long)&shared, (long)&word), 0);
	CHECK_EQ(word, 0x1122334455667788);
	CHECK_EQ(shared, 1);
	// A page that may not be written becomes the tracee's own.
	CHECK_EQ(trace(PTRACE_PEEKTEXT, pid, (long)exit7, (long)&word), 0);
	CHECK_EQ(trace(PTRACE_POKETEXT, pid, (long)exit7, ~word), 0);
	CHECK(*(long *)exit7 == word);
	char name[64];
	snprintf(name, sizeof name, "/proc/%d/mem", pid);
	int fd = open(name, O_RDWR);
	CHECK(fd >= 0);
	long got = 0;
	CHECK_EQ(pread(fd, &got, 8, (long)exit7), 8);
	CHECK_EQ(got, ~word);
	CHECK_EQ(pwrite(fd, &word, 8, (long)exit7), 8);
	CHECK_EQ(trace(PTRACE_PEEKTEXT, pid, (long)exit7, (long)&got), 0);
	CHECK_EQ(got, word);
	CHECK(pread(fd, &got, 8, 8) == -1 && errno == EIO);
	CHECK_EQ(lseek(fd, (long)&shared, SEEK_SET), (long)&shared);
	CHECK_EQ(read(fd, &got, 8), 8);
	CHECK_EQ(got, 0x1122334455667788);
	CHECK(lseek(fd, 0, SEEK_END) == -1 && errno == EINVAL);
	struct iovec own[2] = {{&got, 3}, {(char *)&got + 3, 5}}, its = {(void *)&shared, 8};
	got = 0;
	CHECK_EQ(process_vm_readv(pid, own, 2, &its, 1, 0), 8);
	CHECK_EQ(got, 0x1122334455667788);
	got = 42;
	CHECK_EQ(process_vm_writev(pid, own, 2, &its, 1, 0), 8);
	CHECK_EQ(trace(PTRACE_PEEKDATA, pid, (long)&shared, (long)&word), 0);
	CHECK_EQ(word, 42);
	struct iovec none = {(void *)8, 8}, text = {(void *)exit7, 8};
	CHECK(process_vm_readv(pid, own, 2, &none, 1, 0) == -1 && errno == EFAULT);
	CHECK(process_vm_writev(pid, own, 2, &text, 1, 0) == -1 && errno == EFAULT);
	CHECK(process_vm_readv(pid, own, 2, &its, 1, 1) == -1 && errno == EINVAL);
	CHECK(process_vm_readv(1 << 22, own, 2, &its, 1, 0) == -1 && errno == ESRCH);
	end(pid);
	CHECK_EQ(read(fd, &got, 8), 0); // the memory is gone
	close(fd);
}

static void threecalls(void) {
	syscall(SYS_getpid);
	syscall(SYS_getppid);
	_exit(syscall(SYS_dup, 77) == 123 ? 9 : 8);
}

// nextcall lets pid go on to the next end of a call, which has to be of that number, and returns the registers.
static int nextcall(pid_t pid, long number, struct user_regs_struct *r) {
	if (trace(PTRACE_SYSCALL, pid, 0, 0) != 0 || !stopped(report(pid), SYSGOOD) || trace(PTRACE_GETREGS, pid, 0, (long)r) != 0)
		return 0;
	return (long)r->orig_rax == number;
}

struct info { // struct ptrace_syscall_info
	uint8_t op;
	uint32_t arch;
	uint64_t ip, sp, v[7];
	uint32_t data;
};

static void test_syscalls(void) {
	pid_t pid = traced(threecalls);
	struct user_regs_struct r;
	struct info i;
	CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD), 0);
	CHECK_EQ(trace(0x420e, pid, sizeof i, (long)&i), 24); // PTRACE_GET_SYSCALL_INFO
	CHECK_EQ(i.op, 0);
	do { // the end of kill
		CHECK_EQ(trace(PTRACE_SYSCALL, pid, 0, 0), 0);
		CHECK(stopped(report(pid), SYSGOOD));
		CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
	} while (r.orig_rax != SYS_getpid);
	CHECK_EQ(r.rax, -ENOSYS);
	CHECK_EQ(trace(0x420e, pid, sizeof i, (long)&i), 80);
	CHECK(i.op == 1 && i.arch == 0xc000003e && i.ip == r.rip && i.sp == r.rsp && i.v[0] == SYS_getpid);
	CHECK(nextcall(pid, SYS_getpid, &r));
	CHECK_EQ(r.rax, pid);
	CHECK_EQ(trace(0x420e, pid, sizeof i, (long)&i), 33);
	CHECK(i.op == 2 && i.v[0] == (uint64_t)pid && (uint8_t)i.v[1] == 0);
	CHECK(nextcall(pid, SYS_getppid, &r));
	CHECK(nextcall(pid, SYS_getppid, &r));
	CHECK_EQ(r.rax, getpid());
	CHECK(nextcall(pid, SYS_dup, &r));
	CHECK_EQ(r.rdi, 77);
	r.orig_rax = -1; // the call isn't made
	CHECK_EQ(trace(PTRACE_SETREGS, pid, 0, (long)&r), 0);
	CHECK(nextcall(pid, -1, &r));
	CHECK_EQ(r.rax, -ENOSYS);
	r.rax = 123;
	CHECK_EQ(trace(PTRACE_SETREGS, pid, 0, (long)&r), 0);
	CHECK(nextcall(pid, SYS_exit_group, &r));
	r.rdi = 11;
	CHECK(trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rdi), 9 + 33) == 0);
	CHECK_EQ(trace(PTRACE_SYSCALL, pid, 0, 0), 0);
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 42);
}

static void test_emulated(void) {
	pid_t pid = traced(threecalls);
	struct user_regs_struct r;
	for (int n = 0; n < 20; n++) {
		CHECK_EQ(trace(PTRACE_SYSEMU, pid, 0, 0), 0);
		int s = report(pid);
		CHECK(stopped(s, SIGTRAP));
		CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
		if (r.orig_rax == SYS_dup)
			break;
	}
	CHECK_EQ(r.orig_rax, SYS_dup);
	r.rax = 123;
	CHECK_EQ(trace(PTRACE_SETREGS, pid, 0, (long)&r), 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 9);
}

// Steps.

__attribute__((noinline)) static void steps(void) {
	register long n asm("rax") = SYS_getppid;
	asm volatile("int3; nop; nop; syscall; nop; int3" : "+r"(n)::"rcx", "r11", "memory");
}

static void test_steps(void) {
	pid_t pid = traced(steps);
	struct user_regs_struct r;
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP));
	siginfo_t info;
	CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
	CHECK_EQ(info.si_code, SI_KERNEL);
	CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
	unsigned long at = r.rip;
	int lengths[] = {1, 1, 2, 1};
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(trace(PTRACE_SINGLESTEP, pid, 0, 0), 0);
		CHECK(stopped(report(pid), SIGTRAP));
		CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
		at += lengths[i];
		CHECK_EQ(r.rip, at);
		CHECK_EQ(r.eflags & 0x100, 0);
		CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
		CHECK_EQ(info.si_code, i == 2 ? TRAP_BRKPT : TRAP_TRACE);
	}
	CHECK_EQ(r.rax, getpid());
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP)); // the last breakpoint: no trap flag is left
	CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
	CHECK_EQ(r.rip, at + 1);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(exited(report(pid)));
}

// Nothing stops in this but its branches: a call, two rounds of a loop, its end, and a return.
void branches(void);
extern char branches_callee[], branches_back[], branches_loop[];
asm(".text\nbranches: nop\n push %rcx\n call branches_callee\n"
    "branches_back: mov $3, %ecx\n"
    "branches_loop: xor %eax, %eax\n dec %ecx\n jnz branches_loop\n test %eax, %eax\n jnz branches\n pop %rcx\n int3\n ret\n"
    "branches_callee: nop\n lea 1(%rax), %rax\n ret\n");

static void blocks(void) {
	asm volatile("int3");
	branches();
	_exit(0);
}

static void test_blocks(void) {
	pid_t pid = traced(blocks);
	struct utsname machine;
	struct user_regs_struct r;
	siginfo_t info;
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP));
	CHECK_EQ(uname(&machine), 0);
	void *wanted[] = {branches, branches_callee, branches_back, branches_loop, branches_loop};
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(trace(SINGLEBLOCK, pid, 0, 0), 0);
		CHECK(stopped(report(pid), SIGTRAP));
		CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
		if (i == 1 && r.rip == (unsigned long)branches + 1 && !strstr(machine.release, "elver"))
			break; // a Linux on a CPU that can't tell branches, as many virtual ones
		CHECK_EQ(r.rip, (unsigned long)wanted[i]);
		CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
		CHECK_EQ(info.si_code, TRAP_TRACE);
	}
	if (r.rip != (unsigned long)branches_loop) {
		CHECK_EQ(trace(PTRACE_KILL, pid, 0, 0), 0);
		CHECK(WIFSIGNALED(report(pid)));
		return;
	}
	CHECK_EQ(trace(SINGLEBLOCK, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP)); // the breakpoint comes first
	CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
	CHECK_EQ(info.si_code, SI_KERNEL);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(exited(report(pid)));
}

static volatile unsigned long handled;
static void handler(int sig) {
	unsigned long flags;
	asm volatile("pushfq; popq %0" : "=r"(flags));
	handled = sig | (flags & 0x100);
}
static void handles(void) {
	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	_exit(handled == SIGUSR1 ? 3 : 4);
}

static void test_stepintohandler(void) {
	pid_t pid = traced(handles);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGUSR1));
	CHECK_EQ(trace(PTRACE_SINGLESTEP, pid, 0, SIGUSR1), 0);
	CHECK(stopped(report(pid), SIGTRAP));
	struct user_regs_struct r;
	CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
	CHECK_EQ(r.rip, (unsigned long)handler);
	CHECK_EQ(r.rdi, SIGUSR1);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 3);
}

static void stops(void) {
	raise(SIGSTOP);
	_exit(0);
}

// A thread that is stopped already is there for its tracer at once.
static void test_attachstopped(void) {
	for (int i = 0; i < 20; i++) {
		int status;
		long word;
		pid_t pid = fork();
		if (pid == 0)
			stops();
		CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
		CHECK(WIFSTOPPED(status));
		CHECK_EQ(trace(PTRACE_ATTACH, pid, 0, 0), 0);
		CHECK_EQ(trace(PTRACE_PEEKUSER, pid, 0, (long)&word), 0);
		CHECK_EQ(trace(PTRACE_DETACH, pid, 0, 0), 0);
		kill(pid, SIGKILL);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFSIGNALED(status));
	}
}

// Breakpoints of the CPU.

static void writes(void) {
	shared = 5;
	exit7();
}

static long debugreg(int i) { return offsetof(struct user, u_debugreg) + 8 * i; }

static void test_watchpoint(void) {
	pid_t pid = traced(writes);
	long word;
	CHECK(trace(PTRACE_POKEUSER, pid, debugreg(0), 0xffff800000000000) == -1 && errno == EINVAL);
	CHECK(trace(PTRACE_POKEUSER, pid, debugreg(4), 0) == -1 && errno == EIO);
	CHECK_EQ(trace(PTRACE_POKEUSER, pid, debugreg(0), (long)&shared), 0);
	CHECK_EQ(trace(PTRACE_POKEUSER, pid, debugreg(1), (long)exit7), 0);
	CHECK(trace(PTRACE_POKEUSER, pid, debugreg(7), 1 | 2 << 16) == -1 && errno == EINVAL); // of a port
	CHECK_EQ(trace(PTRACE_POKEUSER, pid, debugreg(7), 1 | 9 << 16 | 4), 0); // 8 bytes written; an instruction
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP));
	siginfo_t info;
	CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
	CHECK_EQ(info.si_code, 4); // TRAP_HWBKPT
	CHECK_EQ(trace(PTRACE_PEEKUSER, pid, debugreg(6), (long)&word), 0);
	CHECK_EQ(word & 0xf, 1);
	CHECK_EQ(trace(PTRACE_PEEKDATA, pid, (long)&shared, (long)&word), 0);
	CHECK_EQ(word, 5);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP));
	struct user_regs_struct r;
	CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
	CHECK_EQ(r.rip, (unsigned long)exit7);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0); // and over it
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 7);
}

// Registers.

static void test_registers(void) {
	pid_t pid = traced(nothing);
	struct user_regs_struct r, q;
	memset(&r, 0x55, sizeof r);
	CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
	CHECK(r.cs == 0x33 && r.ss == 0x2b && r.ds == 0 && r.es == 0 && r.fs == 0 && r.gs == 0);
	CHECK(r.fs_base != 0 && (r.eflags & 0x200));
	struct iovec v = {&q, sizeof q + 8};
	memset(&q, 0x55, sizeof q);
	CHECK_EQ(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, (long)&v), 0);
	CHECK_EQ(v.iov_len, sizeof q);
	CHECK(memcmp(&r, &q, sizeof r) == 0);
	v.iov_len = 16;
	CHECK_EQ(trace(PTRACE_SETREGSET, pid, NT_PRSTATUS, (long)&v), 0);
	CHECK_EQ(v.iov_len, 16);
	unsigned long flags = r.eflags;
	r.eflags = ~0ul;
	CHECK_EQ(trace(PTRACE_SETREGS, pid, 0, (long)&r), 0);
	CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&q), 0);
	CHECK_EQ(q.eflags & ~(0x54dd5ul | 0x202), 0);
	r.eflags = flags;
	CHECK_EQ(trace(PTRACE_SETREGS, pid, 0, (long)&r), 0);
	r.cs = 0x10;
	CHECK(trace(PTRACE_SETREGS, pid, 0, (long)&r) == -1 && errno == EIO);
	r.cs = 0x33;
	CHECK(trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, fs_base), 1ul << 63) == -1 && errno == EIO);

	struct user_fpregs_struct f, g;
	CHECK_EQ(trace(PTRACE_GETFPREGS, pid, 0, (long)&f), 0);
	CHECK_EQ(f.mxcsr, 0x1f80);
	for (int i = 0; i < 64; i++)
		f.xmm_space[i] = i * 0x01010101;
	CHECK_EQ(trace(PTRACE_SETFPREGS, pid, 0, (long)&f), 0);
	CHECK_EQ(trace(PTRACE_GETFPREGS, pid, 0, (long)&g), 0);
	CHECK(memcmp(f.xmm_space, g.xmm_space, sizeof g.xmm_space) == 0);
	f.mxcsr = ~0u;
	CHECK(trace(PTRACE_SETFPREGS, pid, 0, (long)&f) == -1 && errno == EINVAL);
	static uint64_t state[2048];
	v = (struct iovec){state, sizeof state};
	CHECK_EQ(trace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, (long)&v), 0);
	CHECK(v.iov_len >= 576 && v.iov_len < sizeof state);
	CHECK(memcmp((char *)state + 160, g.xmm_space, sizeof g.xmm_space) == 0);
	CHECK((state[464 / 8] & 3) == 3); // XCR0
	((char *)state)[160] = 0x77;
	CHECK_EQ(trace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, (long)&v), 0);
	CHECK_EQ(trace(PTRACE_GETFPREGS, pid, 0, (long)&g), 0);
	CHECK_EQ(((char *)g.xmm_space)[0], 0x77);
	state[512 / 8 + 2] = 1; // a reserved word
	CHECK(trace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, (long)&v) == -1 && errno == EINVAL);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(exited(report(pid)));
}

static void test_badrip(void) {
	unsigned long bad[] = {0x8000000000000000, 0xffffffff80200000, 0x7ffffffff000, 8};
	for (int i = 0; i < 4; i++) {
		pid_t pid = traced(nothing);
		struct user_regs_struct r;
		CHECK_EQ(trace(PTRACE_GETREGS, pid, 0, (long)&r), 0);
		r.rip = bad[i];
		r.rsp = bad[i];
		CHECK_EQ(trace(PTRACE_SETREGS, pid, 0, (long)&r), 0);
		CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
		CHECK(stopped(report(pid), SIGSEGV));
		CHECK_EQ(trace(PTRACE_CONT, pid, 0, SIGSEGV), 0);
		int s = report(pid);
		CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV);
	}
}

// Signals.

static volatile int got1, got2, value;
static void count1(int s) { got1++; }
static void count2(int s, siginfo_t *i, void *c) {
	got2++;
	value = i->si_value.sival_int;
}
static void signals(void) {
	struct sigaction a = {.sa_sigaction = count2, .sa_flags = SA_SIGINFO};
	signal(SIGUSR1, count1);
	signal(SIGWINCH, SIG_IGN);
	sigaction(SIGUSR2, &a, 0);
	raise(SIGUSR1);  // suppressed
	raise(SIGUSR1);  // becomes SIGUSR2
	raise(SIGWINCH); // seen though it is ignored
	sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 1}); // with another value
	_exit(got1 == 0 && got2 == 2 && value == 99 ? 3 : 4);
}

static void test_signals(void) {
	pid_t pid = traced(signals);
	siginfo_t info;
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGUSR1));
	CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
	CHECK(info.si_signo == SIGUSR1 && info.si_code == SI_TKILL && info.si_pid == pid);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGUSR1));
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, SIGUSR2), 0);
	CHECK(stopped(report(pid), SIGWINCH));
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, SIGWINCH), 0);
	CHECK(stopped(report(pid), SIGUSR2));
	CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
	CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == 1);
	info.si_value.sival_int = 99;
	CHECK_EQ(trace(PTRACE_SETSIGINFO, pid, 0, (long)&info), 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, SIGUSR2), 0);
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 3);
}

static void test_sigmask(void) {
	pid_t pid = traced(forever);
	uint64_t mask = 0, usr1 = 1ul << (SIGUSR1 - 1);
	CHECK(trace(PTRACE_GETSIGMASK, pid, 4, (long)&mask) == -1 && errno == EINVAL);
	mask = usr1 | 1ul << (SIGKILL - 1);
	CHECK_EQ(trace(PTRACE_SETSIGMASK, pid, 8, (long)&mask), 0);
	CHECK_EQ(trace(PTRACE_GETSIGMASK, pid, 8, (long)&mask), 0);
	CHECK_EQ(mask, usr1);
	union sigval v = {.sival_int = 5};
	CHECK_EQ(sigqueue(pid, SIGUSR1, v), 0);
	struct { uint64_t off; uint32_t flags; int32_t nr; } peek = {0, 1, 4};
	siginfo_t infos[4];
	CHECK_EQ(trace(PTRACE_PEEKSIGINFO, pid, (long)&peek, (long)infos), 1);
	CHECK(infos[0].si_signo == SIGUSR1 && infos[0].si_value.sival_int == 5);
	peek.flags = 0;
	CHECK_EQ(trace(PTRACE_PEEKSIGINFO, pid, (long)&peek, (long)infos), 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(becomes(pid, 'S'));
	CHECK_EQ(waitpid(pid, 0, WNOHANG), 0);
	end(pid);
}

static void test_kill(void) {
	pid_t pid = traced(nothing);
	CHECK_EQ(kill(pid, SIGKILL), 0); // ends a stop
	int s = report(pid);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL);
	pid = traced(nothing);
	CHECK_EQ(trace(PTRACE_KILL, pid, 0, 0), 0);
	s = report(pid);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL);
}

// Attaching.

static void sleeps(void) {
	struct timespec d = {3, 0};
	_exit(nanosleep(&d, 0) == 0 ? 3 : 4);
}

static void test_attach(void) {
	pid_t pid = child(sleeps);
	CHECK(becomes(pid, 'S'));
	CHECK_EQ(trace(PTRACE_ATTACH, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGSTOP));
	CHECK_EQ(stateof(pid), 't');
	CHECK_EQ(trace(PTRACE_DETACH, pid, 0, 0), 0);
	CHECK_EQ(tracerof(pid), 0);
	int s = report(pid); // the sleep went on
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 3);

	pid = child(spin);
	CHECK_EQ(trace(PTRACE_ATTACH, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGSTOP));
	CHECK_EQ(trace(PTRACE_DETACH, pid, 0, SIGTERM), 0);
	s = report(pid);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGTERM);

	pid = child(forever);
	kill(pid, SIGSTOP);
	CHECK_EQ(waitpid(pid, &s, WUNTRACED), pid);
	CHECK_EQ(trace(PTRACE_ATTACH, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGSTOP)); // although it was stopped
	CHECK_EQ(trace(PTRACE_DETACH, pid, 0, 0), 0);
	CHECK(becomes(pid, 'T'));
	end(pid);
}

static void test_seize(void) {
	pid_t pid = child(forever);
	CHECK(becomes(pid, 'S'));
	CHECK_EQ(trace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD), 0);
	CHECK_EQ(waitpid(pid, 0, WNOHANG), 0);
	CHECK_EQ(trace(PTRACE_INTERRUPT, pid, 0, 0), 0);
	int s = report(pid);
	CHECK(event(s, EVENT_STOP));
	siginfo_t info;
	CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
	CHECK_EQ(info.si_code, SIGTRAP | EVENT_STOP << 8);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	// A group stop: the signal, then the stop.
	CHECK_EQ(kill(pid, SIGSTOP), 0);
	CHECK(stopped(report(pid), SIGSTOP));
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, SIGSTOP), 0);
	s = report(pid);
	CHECK_EQ(s >> 8, SIGSTOP | EVENT_STOP << 8);
	CHECK_EQ(trace(PTRACE_LISTEN, pid, 0, 0), 0);
	CHECK(trace(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH);
	CHECK_EQ(waitpid(pid, 0, WNOHANG), 0);
	CHECK_EQ(kill(pid, SIGCONT), 0);
	CHECK(event(report(pid), EVENT_STOP));
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGCONT));
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(becomes(pid, 'S'));
	CHECK_EQ(trace(PTRACE_INTERRUPT, pid, 0, 0), 0);
	CHECK(event(report(pid), EVENT_STOP));
	CHECK_EQ(trace(PTRACE_DETACH, pid, 0, 0), 0);
	CHECK(becomes(pid, 'S'));
	end(pid);
}

static void test_groupstop(void) {
	pid_t pid = traced(forever);
	siginfo_t info;
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, SIGSTOP), 0); // the stop takes place
	CHECK(stopped(report(pid), SIGSTOP));
	CHECK(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info) == -1 && errno == EINVAL);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0); // it runs all the same
	CHECK(becomes(pid, 'S'));
	CHECK_EQ(kill(pid, SIGUSR1), 0);
	CHECK(stopped(report(pid), SIGUSR1));
	end(pid);
}

// Events.

static void forks(void) {
	int s;
	pid_t pid = fork();
	if (pid == 0)
		_exit(5);
	waitpid(pid, &s, 0);
	pid = vfork();
	if (pid == 0)
		_exit(6);
	waitpid(pid, &s, 0);
	_exit(WEXITSTATUS(s));
}

static void test_fork(void) {
	pid_t pid = traced(forks);
	unsigned long message;
	CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT), 0);
	for (int round = 0; round < 2; round++) {
		CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
		CHECK(event(report(pid), round ? PTRACE_EVENT_VFORK : PTRACE_EVENT_FORK));
		CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message), 0);
		pid_t kid = message;
		CHECK(stopped(report(kid), SIGSTOP));
		CHECK_EQ(tracerof(kid), getpid());
		CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
		CHECK_EQ(trace(PTRACE_CONT, kid, 0, 0), 0);
		CHECK(event(report(kid), PTRACE_EVENT_EXIT));
		CHECK_EQ(trace(PTRACE_GETEVENTMSG, kid, 0, (long)&message), 0);
		CHECK_EQ(message, (5 + round) << 8);
		CHECK_EQ(trace(PTRACE_CONT, kid, 0, 0), 0);
		if (round) {
			CHECK(event(report(pid), PTRACE_EVENT_VFORK_DONE));
			CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message), 0);
			CHECK_EQ(message, kid);
			CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
		}
		// Its parent learns of the end after us.
		int s = report(kid);
		CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 5 + round);
		CHECK(stopped(report(pid), SIGCHLD));
	}
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(event(report(pid), PTRACE_EVENT_EXIT));
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 6);
}

static void executes(void) { execl("/proc/self/exe", "ptraces", "--exit", "21", NULL); }

static void test_exec(void) {
	pid_t pid = traced(executes);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP)); // of old
	siginfo_t info;
	CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info), 0);
	CHECK_EQ(info.si_code, SI_USER);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	int s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 21);

	pid = traced(executes);
	struct user_regs_struct r;
	CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD), 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(event(report(pid), PTRACE_EVENT_EXEC));
	unsigned long message;
	CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message), 0);
	CHECK_EQ(message, pid);
	CHECK(nextcall(pid, SYS_execve, &r)); // its end
	CHECK(r.rax == 0 && r.rip != 0 && r.rbx == 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 21);
}

static int pipefd[2];
static void *waits(void *p) {
	char c;
	while (read(pipefd[0], &c, 1) != 1)
		;
	return 0;
}
static void *executor(void *p) {
	executes();
	return 0;
}
static void threads(void) {
	pthread_t t;
	pthread_create(&t, 0, waits, 0);
	if (write(pipefd[1], "x", 1) != 1)
		_exit(98);
	pthread_join(t, 0);
	pthread_create(&t, 0, executor, 0);
	for (;;)
		pause();
}

static void test_threads(void) {
	CHECK_EQ(pipe(pipefd), 0);
	pid_t pid = traced(threads);
	unsigned long message;
	CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC), 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(event(report(pid), PTRACE_EVENT_CLONE));
	CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message), 0);
	pid_t tid = message;
	CHECK(stopped(report(tid), SIGSTOP));
	CHECK_EQ(trace(PTRACE_CONT, tid, 0, 0), 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	int s = report(tid); // a thread's end is reported, too
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 0);
	CHECK(event(report(pid), PTRACE_EVENT_CLONE));
	CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message), 0);
	tid = message;
	CHECK(stopped(report(tid), SIGSTOP));
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK_EQ(trace(PTRACE_CONT, tid, 0, 0), 0);
	CHECK(event(report(pid), PTRACE_EVENT_EXEC)); // the thread executes, and has the process's id then
	CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message), 0);
	CHECK_EQ(message, tid);
	CHECK_EQ(waitpid(tid, 0, __WALL | WNOHANG), -1);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	s = report(pid);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 21);
	close(pipefd[0]);
	close(pipefd[1]);
}

// A tracer that isn't the parent.

static void test_strangerstracee(void) {
	pid_t pid = child(forever);
	int to[2], from[2];
	char c;
	CHECK(pipe(to) == 0 && pipe(from) == 0);
	pid_t tracer = fork();
	if (tracer == 0) {
		int s, ok = trace(PTRACE_SEIZE, pid, 0, 0) == 0;
		c = ok;
		ok &= write(from[1], &c, 1) == 1 && read(to[0], &c, 1) == 1;
		ok &= waitpid(pid, &s, 0) == pid && WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL;
		ok &= waitpid(pid, &s, 0) == -1 && errno == ECHILD;
		_exit(ok ? 3 : 4);
	}
	CHECK(read(from[0], &c, 1) == 1 && c == 1);
	CHECK_EQ(tracerof(pid), tracer);
	kill(pid, SIGKILL);
	CHECK(becomes(pid, 'Z'));
	CHECK_EQ(waitpid(pid, 0, WNOHANG), 0); // ours, but its tracer comes first
	CHECK_EQ(write(to[1], "x", 1), 1);
	int s;
	CHECK_EQ(waitpid(pid, &s, 0), pid);
	CHECK(WIFSIGNALED(s));
	CHECK_EQ(waitpid(tracer, &s, 0), tracer);
	CHECK_EQ(WEXITSTATUS(s), 3);
	close(to[0]), close(to[1]), close(from[0]), close(from[1]);
}

static void test_tracerdies(void) {
	for (int kills = 0; kills < 2; kills++) {
		pid_t pid = child(forever);
		pid_t tracer = fork();
		if (tracer == 0) {
			int s, ok = trace(PTRACE_SEIZE, pid, 0, kills ? PTRACE_O_EXITKILL : 0) == 0 &&
				trace(PTRACE_INTERRUPT, pid, 0, 0) == 0 && waitpid(pid, &s, 0) == pid;
			_exit(ok ? 3 : 4);
		}
		int s;
		CHECK_EQ(waitpid(tracer, &s, 0), tracer);
		CHECK_EQ(WEXITSTATUS(s), 3);
		if (kills) {
			CHECK_EQ(waitpid(pid, &s, 0), pid);
			CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL);
		} else {
			CHECK(becomes(pid, 'S'));
			CHECK_EQ(tracerof(pid), 0);
			end(pid);
		}
	}
}

static void test_waitid(void) {
	pid_t pid = traced(nothing);
	CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT), 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	siginfo_t i;
	memset(&i, 0, sizeof i);
	CHECK_EQ(waitid(P_PID, pid, &i, WSTOPPED | WNOWAIT), 0);
	CHECK(i.si_code == CLD_TRAPPED && i.si_pid == pid && i.si_status == (SIGTRAP | PTRACE_EVENT_EXIT << 8));
	CHECK_EQ(waitid(P_PID, pid, &i, WSTOPPED), 0);
	i.si_pid = 0;
	CHECK_EQ(waitid(P_PID, pid, &i, WSTOPPED | WNOHANG), 0);
	CHECK_EQ(i.si_pid, 0);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(exited(report(pid)));
}

static volatile int chldcode, chldstatus;
static void onchld(int s, siginfo_t *i, void *c) { chldcode = i->si_code, chldstatus = i->si_status; }

static void test_sigchld(void) {
	struct sigaction a = {.sa_sigaction = onchld, .sa_flags = SA_SIGINFO | SA_RESTART};
	pid_t pid = traced(exit7);
	sigaction(SIGCHLD, &a, 0);
	CHECK_EQ(trace(PTRACE_SYSCALL, pid, 0, 0), 0);
	CHECK(stopped(report(pid), SIGTRAP));
	CHECK(chldcode == CLD_TRAPPED && chldstatus == SIGTRAP);
	CHECK_EQ(trace(PTRACE_CONT, pid, 0, 0), 0);
	CHECK(exited(report(pid)));
	CHECK(chldcode == CLD_EXITED && chldstatus == 7);
	signal(SIGCHLD, SIG_DFL);
}

// A thread that isn't the tracer can wait, but not ask.
static pid_t othertracee;
static int otherwait, otherpeek;
static void *other(void *p) {
	long word;
	int s;
	otherpeek = trace(PTRACE_PEEKDATA, othertracee, (long)&shared, (long)&word) == -1 ? errno : 0;
	errno = 0;
	otherwait = waitpid(othertracee, &s, __WALL | __WNOTHREAD | WNOHANG) == -1 ? errno : 0;
	return 0;
}

static void test_otherthread(void) {
	othertracee = traced(forever);
	pthread_t t;
	CHECK_EQ(pthread_create(&t, 0, other, 0), 0);
	pthread_join(t, 0);
	CHECK_EQ(otherpeek, ESRCH);
	CHECK_EQ(otherwait, ECHILD);
	end(othertracee);
}

static void test_permission(void) {
	if (getuid() != 0)
		return;
	pid_t pid = child(forever);
	pid_t stranger = fork();
	if (stranger == 0) {
		long word;
		struct iovec own = {&word, 8}, its = {(void *)&shared, 8};
		if (setgid(1000) || setuid(1000))
			_exit(9);
		int bad = 0;
		bad |= !(trace(PTRACE_ATTACH, pid, 0, 0) == -1 && errno == EPERM);
		bad |= 2 * !(process_vm_readv(pid, &own, 1, &its, 1, 0) == -1 && errno == EPERM);
		char name[64];
		snprintf(name, sizeof name, "/proc/%d/mem", pid);
		bad |= 4 * !(open(name, O_RDONLY) == -1 && errno == EACCES);
		_exit(bad);
	}
	int s;
	CHECK_EQ(waitpid(stranger, &s, 0), stranger);
	CHECK_EQ(WEXITSTATUS(s), 0);
	end(pid);
}

// Many at once: each steps through a fork and an end.
static void test_many(void) {
	pid_t pids[20];
	for (int i = 0; i < 20; i++) {
		pids[i] = traced(exit7);
		CHECK(pids[i] > 0);
		CHECK_EQ(trace(PTRACE_SYSCALL, pids[i], 0, 0), 0);
	}
	int left = 20;
	while (left > 0) {
		int s;
		pid_t pid = waitpid(-1, &s, __WALL);
		CHECK(pid > 0);
		if (WIFEXITED(s)) {
			CHECK_EQ(WEXITSTATUS(s), 7);
			left--;
		} else {
			CHECK(stopped(s, SIGTRAP));
			CHECK_EQ(trace(PTRACE_SYSCALL, pid, 0, 0), 0);
		}
	}
}

static const struct test tests[] = {{"traceme", test_traceme}, {"errors", test_errors}, {"memory", test_memory}, {"syscalls", test_syscalls}, {"emulated", test_emulated},
	{"steps", test_steps}, {"blocks", test_blocks}, {"step-into-handler", test_stepintohandler}, {"watchpoint", test_watchpoint}, {"registers", test_registers},
	{"bad-rip", test_badrip}, {"signals", test_signals}, {"sigmask", test_sigmask}, {"kill", test_kill}, {"attach", test_attach}, {"attach-stopped", test_attachstopped},
	{"seize", test_seize}, {"group-stop", test_groupstop}, {"fork", test_fork}, {"exec", test_exec}, {"threads", test_threads},
	{"strangers-tracee", test_strangerstracee}, {"tracer-dies", test_tracerdies}, {"waitid", test_waitid}, {"sigchld", test_sigchld},
	{"other-thread", test_otherthread}, {"permission", test_permission}, {"many", test_many}};

int main(int argc, char **argv) {
	if (argc == 3 && strcmp(argv[1], "--exit") == 0)
		return atoi(argv[2]);
	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
