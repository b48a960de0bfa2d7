// Signals, as far as one thread can show them: actions, masks, queues, siginfo,
// alternate stacks, restarts, faults.
#include "check.h"
#include <cpuid.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>

static volatile int count, last_signal, order[16], orders;
static volatile siginfo_t info;
static sigjmp_buf jump;

static void counter(int s) { count++, last_signal = s; }
static void recorder(int s) { if (orders < 16) order[orders++] = s; }
static void keeper(int s, siginfo_t *i, void *u) { (void)u; count++, last_signal = s; memcpy((void *)&info, i, sizeof info); }
static void jumper(int s, siginfo_t *i, void *u) { keeper(s, i, u); siglongjmp(jump, 1); }

static void on(int s, void (*f)(int), int flags)
{
	struct sigaction a = {.sa_handler = f, .sa_flags = flags};

	sigaction(s, &a, NULL);
	count = 0;
}

static void on_info(int s, void (*f)(int, siginfo_t *, void *), int flags)
{
	struct sigaction a = {.sa_sigaction = f, .sa_flags = flags | SA_SIGINFO};

	sigaction(s, &a, NULL);
	count = 0;
	memset((void *)&info, 0, sizeof info);
}

static sigset_t set_of(int s)
{
	sigset_t m;

	sigemptyset(&m);
	if (s)
		sigaddset(&m, s);
	return m;
}

static void alarm_ms(int ms)
{
	struct itimerval t = {{0, 0}, {ms / 1000, ms % 1000 * 1000}};

	setitimer(ITIMER_REAL, &t, NULL);
}

static void test_bad_arguments(void)
{
	struct sigaction a = {.sa_handler = SIG_IGN};
	sigset_t m;

	CHECK_ERR(sigaction(SIGKILL, &a, NULL), EINVAL);
	CHECK_ERR(sigaction(SIGSTOP, &a, NULL), EINVAL);
	CHECK_ERR(syscall(SYS_rt_sigaction, 0, &a, NULL, 8), EINVAL);
	CHECK_ERR(syscall(SYS_rt_sigaction, 65, &a, NULL, 8), EINVAL);
	CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, &a, NULL, 4), EINVAL);
	CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, 8, NULL, 8), EFAULT);
	CHECK_ERR(syscall(SYS_rt_sigprocmask, 99, &m, NULL, 8), EINVAL);
	CHECK_ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8, NULL, 8), EFAULT);
	CHECK_ERR(kill(getpid(), 65), EINVAL);
	CHECK_ERR(kill(getpid(), -1), EINVAL);
	CHECK_ERR(kill(0x3fffffff, 0), ESRCH);
	CHECK_ERR(syscall(SYS_tgkill, getpid(), 0x3fffffff, SIGUSR1), ESRCH);
	CHECK_ERR(syscall(SYS_tgkill, -1, getpid(), SIGUSR1), EINVAL);
	CHECK_ERR(syscall(SYS_tkill, 0, SIGUSR1), EINVAL);
	CHECK_EQ(kill(getpid(), 0), 0);
	stack_t small = {.ss_sp = &m, .ss_size = 100};
	CHECK_ERR(syscall(SYS_sigaltstack, &small, NULL), ENOMEM);
	stack_t odd = {.ss_sp = &m, .ss_size = 100000, .ss_flags = 77};
	CHECK_ERR(syscall(SYS_sigaltstack, &odd, NULL), EINVAL);
}

static void test_every_signal(void)
{
	for (int s = 1; s <= 64; s++) {
		if (s == SIGKILL || s == SIGSTOP || s == 32 || s == 33 || s == 34)
			continue; // 32 to 34: the C library's own
		on(s, counter, 0);
		CHECK_EQ(kill(getpid(), s), 0);
		CHECK_EQ(count, 1);
		CHECK_EQ(last_signal, s);
		struct sigaction a;
		CHECK_EQ(sigaction(s, NULL, &a), 0);
		CHECK(a.sa_handler == counter);
		signal(s, SIG_IGN);
		CHECK_EQ(kill(getpid(), s), 0);
		signal(s, SIG_DFL);
	}
}

static void test_mask_and_pending(void)
{
	sigset_t m = set_of(SIGUSR1), old, pending;

	on(SIGUSR1, counter, 0);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &m, &old), 0);
	CHECK(!sigismember(&old, SIGUSR1));
	raise(SIGUSR1), raise(SIGUSR1), raise(SIGUSR1);
	CHECK_EQ(count, 0);
	CHECK_EQ(sigpending(&pending), 0);
	CHECK(sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
	CHECK_EQ(sigprocmask(SIG_SETMASK, &old, NULL), 0);
	CHECK_EQ(count, 1); // standard signals don't queue
	// Ignoring one throws away what is pending.
	sigprocmask(SIG_BLOCK, &m, NULL);
	raise(SIGUSR1);
	signal(SIGUSR1, SIG_IGN);
	on(SIGUSR1, counter, 0);
	sigprocmask(SIG_UNBLOCK, &m, NULL);
	CHECK_EQ(count, 0);
	// SIGKILL and SIGSTOP can't be blocked.
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	sigset_t now;
	sigprocmask(SIG_SETMASK, &old, &now);
	CHECK(!sigismember(&now, SIGKILL) && !sigismember(&now, SIGSTOP) && sigismember(&now, SIGTERM));
}

static void test_queued(void)
{
	sigset_t m = set_of(SIGRTMIN + 2);
	union sigval v;

	on_info(SIGRTMIN + 2, keeper, 0);
	sigprocmask(SIG_BLOCK, &m, NULL);
	for (int i = 0; i < 5; i++) {
		v.sival_int = 100 + i;
		CHECK_EQ(sigqueue(getpid(), SIGRTMIN + 2, v), 0);
	}
	for (int i = 0; i < 4; i++) {
		siginfo_t got;
		CHECK_EQ(sigwaitinfo(&m, &got), SIGRTMIN + 2);
		CHECK_EQ(got.si_code, SI_QUEUE);
		CHECK_EQ(got.si_value.sival_int, 100 + i); // in order
		CHECK_EQ(got.si_pid, getpid());
	}
	sigprocmask(SIG_UNBLOCK, &m, NULL);
	CHECK_EQ(count, 1);
	CHECK_EQ(info.si_value.sival_int, 104);
}

static void test_order(void)
{
	sigset_t all, old;
	int want[] = {SIGUSR1, SIGUSR2, SIGRTMIN + 1, SIGRTMIN + 3, SIGRTMIN + 3};

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	orders = 0;
	for (int i = 4; i >= 0; i--) {
		// Each handler blocks the rest, so that they run one after another.
		struct sigaction a = {.sa_handler = recorder};
		sigfillset(&a.sa_mask);
		sigaction(want[i], &a, NULL);
		kill(getpid(), want[i]);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	CHECK_EQ(orders, 5);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(order[i], want[i]); // the lowest number first
}

static void nester(int s)
{
	count++;
	last_signal = s;
	if (count < 3)
		raise(s);
	order[count - 1 < 15 ? count - 1 : 15] = orders++;
}

static void test_nodefer_and_resethand(void)
{
	on(SIGUSR1, nester, SA_NODEFER);
	orders = 0;
	raise(SIGUSR1);
	CHECK_EQ(count, 3);
	CHECK_EQ(orders, 3);
	// Without it the same signal waits for the handler's end.
	on(SIGUSR1, nester, 0);
	raise(SIGUSR1);
	CHECK_EQ(count, 3);
	on(SIGUSR2, counter, SA_RESETHAND);
	raise(SIGUSR2);
	CHECK_EQ(count, 1);
	struct sigaction a;
	sigaction(SIGUSR2, NULL, &a);
	CHECK(a.sa_handler == SIG_DFL);
	CHECK(a.sa_flags & SA_RESETHAND); // the handler alone is reset
}

static volatile int usr2_in_mask;
static void mask_reader(int s)
{
	sigset_t m;

	(void)s;
	sigprocmask(SIG_BLOCK, NULL, &m);
	usr2_in_mask = sigismember(&m, SIGUSR2) * 2 + sigismember(&m, SIGUSR1);
}

static void test_handler_mask(void)
{
	struct sigaction a = {.sa_handler = mask_reader};
	sigset_t m;

	sigemptyset(&a.sa_mask);
	sigaddset(&a.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &a, NULL);
	raise(SIGUSR1);
	CHECK_EQ(usr2_in_mask, 3);
	sigprocmask(SIG_BLOCK, NULL, &m);
	CHECK(!sigismember(&m, SIGUSR2) && !sigismember(&m, SIGUSR1));
}

static void fault(int s, void (*f)(void), int want_code, void *want_address)
{
	static char stack[65536];
	stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};

	sigaltstack(&alt, NULL);
	on_info(s, jumper, SA_ONSTACK | SA_NODEFER);
	if (sigsetjmp(jump, 1) == 0) {
		f();
		printf("no fault\n");
		check_failed = 1;
		return;
	}
	signal(s, SIG_DFL);
	CHECK_EQ(last_signal, s);
	CHECK_EQ(info.si_signo, s);
	CHECK_EQ(info.si_code, want_code);
	if (want_address)
		CHECK_EQ(info.si_addr, want_address);
}

static char *page;
static void touch_null(void) { *(volatile char *)(uintptr_t)8 = 1; }
static void touch_page(void) { *(volatile char *)(page + 123) = 1; }
static void read_page(void) { (void)*(volatile char *)(page + 77); }
static void call_page(void) { ((void (*)(void))page)(); }
static void noncanonical(void) { *(volatile char *)0x8000000000000000 = 1; }
static void divide(void) { __asm__ volatile("xor %%ecx,%%ecx; mov $1,%%eax; cltd; idiv %%ecx" ::: "eax", "ecx", "edx"); }
static void undefined(void) { __asm__ volatile("ud2"); }
static void privileged(void) { __asm__ volatile("cli"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void simd(void)
{
	unsigned mxcsr = 0x1f80 & ~(1 << 9); // divide by zero unmasked
	__asm__ volatile("ldmxcsr %0; pxor %%xmm1,%%xmm1; mov $1,%%eax; cvtsi2sd %%eax,%%xmm0; divsd %%xmm1,%%xmm0"
			 : : "m"(mxcsr) : "eax", "xmm0", "xmm1");
}

static void test_faults(void)
{
	page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fault(SIGSEGV, touch_null, SEGV_MAPERR, (void *)8);
	if (check_failed) return;
	fault(SIGSEGV, touch_page, SEGV_ACCERR, page + 123);
	if (check_failed) return;
	fault(SIGSEGV, call_page, SEGV_ACCERR, page);
	if (check_failed) return;
	mprotect(page, 4096, PROT_NONE);
	fault(SIGSEGV, read_page, SEGV_ACCERR, page + 77);
	if (check_failed) return;
	munmap(page, 8192);
	fault(SIGSEGV, read_page, SEGV_MAPERR, page + 77);
	if (check_failed) return;
	fault(SIGSEGV, noncanonical, SI_KERNEL, NULL);
	if (check_failed) return;
	fault(SIGSEGV, privileged, SI_KERNEL, NULL);
	if (check_failed) return;
	fault(SIGFPE, divide, FPE_INTDIV, NULL);
	if (check_failed) return;
	fault(SIGILL, undefined, ILL_ILLOPN, NULL);
	if (check_failed) return;
	fault(SIGTRAP, breakpoint, SI_KERNEL, NULL);
}

static void test_simd_fault(void)
{
	unsigned a, name[3], mxcsr = 0x1f80;

	// QEMU's emulation raises no SIMD exceptions, whatever the system.
	__cpuid(0x40000000, a, name[0], name[1], name[2]);
	if (memcmp(name, "TCGTCGTCGTCG", 12) == 0)
		return;
	fault(SIGFPE, simd, FPE_FLTDIV, NULL);
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

static void test_bus_error(void)
{
	char name[] = "/tmp/bus.XXXXXX";
	int fd = mkstemp(name);

	CHECK(fd >= 0);
	unlink(name);
	CHECK_EQ(ftruncate(fd, 100), 0);
	page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	page[4000] = 1; // in the last page of the file: fine
	page += 4096;
	fault(SIGBUS, read_page, BUS_ADRERR, page + 77);
	close(fd);
}

static void step_over(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;

	(void)i;
	count++;
	if (s == SIGILL)
		c->uc_mcontext.gregs[REG_RIP] += 2; // ud2
	c->uc_mcontext.gregs[REG_R12] = 0x1234567890;
}

static void test_changing_the_context(void)
{
	uint64_t r12;

	on_info(SIGILL, step_over, 0);
	__asm__ volatile("mov $1,%%r12; ud2; mov %%r12,%0" : "=r"(r12) : : "r12");
	CHECK_EQ(count, 1);
	CHECK_EQ(r12, 0x1234567890);
	signal(SIGILL, SIG_DFL);
}

static volatile uintptr_t handler_sp;
static volatile int on_stack_flag;
static void stack_looker(int s)
{
	char here;
	stack_t st;

	(void)s;
	handler_sp = (uintptr_t)&here;
	sigaltstack(NULL, &st);
	on_stack_flag = st.ss_flags;
}

static void test_alternate_stack(void)
{
	static char stack[65536];
	stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack}, got;

	CHECK_EQ(sigaltstack(&alt, NULL), 0);
	CHECK_EQ(sigaltstack(NULL, &got), 0);
	CHECK(got.ss_sp == stack && got.ss_size == sizeof stack && got.ss_flags == 0);
	on(SIGUSR1, stack_looker, SA_ONSTACK);
	raise(SIGUSR1);
	CHECK(handler_sp > (uintptr_t)stack && handler_sp < (uintptr_t)stack + sizeof stack);
	CHECK_EQ(on_stack_flag, SS_ONSTACK);
	on(SIGUSR1, stack_looker, 0);
	raise(SIGUSR1);
	CHECK(handler_sp < (uintptr_t)stack || handler_sp > (uintptr_t)stack + sizeof stack);
	alt.ss_flags = SS_DISABLE;
	CHECK_EQ(sigaltstack(&alt, NULL), 0);
	CHECK_EQ(sigaltstack(NULL, &got), 0);
	CHECK_EQ(got.ss_flags, SS_DISABLE);
}

static int eat(volatile char *above)
{
	volatile char frame[4096];

	memset((void *)frame, 1, sizeof frame);
	return above && frame[7] ? eat(frame) + frame[9] : 0;
}
static void overflow(void) { eat((char *)&page); }

static void test_stack_overflow(void)
{
	fault(SIGSEGV, overflow, SEGV_MAPERR, NULL);
}

static void test_restart(void)
{
	int fds[2];
	char c;

	CHECK_EQ(pipe(fds), 0);
	// Without SA_RESTART the read is interrupted.
	on(SIGALRM, counter, 0);
	alarm_ms(50);
	CHECK_ERR(read(fds[0], &c, 1), EINTR);
	CHECK_EQ(count, 1);
	// With it the read goes on; a second alarm's handler writes to the pipe.
	on(SIGALRM, counter, SA_RESTART);
	struct itimerval t = {{0, 20000}, {0, 20000}};
	setitimer(ITIMER_REAL, &t, NULL);
	struct timespec poll_time = {0, 100000000};
	// nanosleep never restarts by itself; its rest is told.
	struct timespec rest = {9, 9};
	CHECK_ERR(nanosleep(&poll_time, &rest), EINTR);
	CHECK(rest.tv_sec == 0 && rest.tv_nsec > 0 && rest.tv_nsec < 100000000);
	CHECK_ERR(pause(), EINTR);
	alarm_ms(0);
	close(fds[0]), close(fds[1]);
}

static int write_end;
static void writer(int s)
{
	(void)s;
	if (++count == 3 && write(write_end, "x", 1) != 1)
		abort();
}

static void test_restarted_read(void)
{
	int fds[2];
	char c = 0;

	CHECK_EQ(pipe(fds), 0);
	write_end = fds[1];
	on(SIGALRM, writer, SA_RESTART);
	struct itimerval t = {{0, 20000}, {0, 20000}};
	setitimer(ITIMER_REAL, &t, NULL);
	ssize_t n = read(fds[0], &c, 1);
	alarm_ms(0);
	CHECK_EQ(n, 1);
	CHECK_EQ(c, 'x');
	CHECK(count >= 3);
	close(fds[0]), close(fds[1]);
}

static void test_sigsuspend(void)
{
	sigset_t block = set_of(SIGUSR1), none, now;

	sigemptyset(&none);
	on(SIGUSR1, counter, 0);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	CHECK_EQ(count, 0);
	CHECK_ERR(sigsuspend(&none), EINTR);
	CHECK_EQ(count, 1);
	sigprocmask(SIG_BLOCK, NULL, &now);
	CHECK(sigismember(&now, SIGUSR1)); // the old mask is back
	sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void test_sigtimedwait(void)
{
	sigset_t m = set_of(SIGUSR2), old;
	struct timespec t = {0, 50000000};
	siginfo_t i;

	sigprocmask(SIG_BLOCK, &m, &old);
	int64_t start = now_ns(CLOCK_MONOTONIC);
	CHECK_ERR(sigtimedwait(&m, &i, &t), EAGAIN);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 50000000);
	kill(getpid(), SIGUSR2);
	CHECK_EQ(sigtimedwait(&m, &i, &t), SIGUSR2);
	CHECK_EQ(i.si_code, SI_USER);
	CHECK_EQ(i.si_pid, getpid());
	CHECK_EQ(i.si_uid, getuid());
	raise(SIGUSR2);
	// glibc's sigwaitinfo makes SI_USER of it.
	CHECK_EQ(syscall(SYS_rt_sigtimedwait, &m, &i, NULL, 8), SIGUSR2);
	CHECK_EQ(i.si_code, SI_TKILL);
	t.tv_nsec = 2000000000;
	CHECK_ERR(sigtimedwait(&m, &i, &t), EINVAL);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void test_siginfo(void)
{
	on_info(SIGUSR1, keeper, 0);
	kill(getpid(), SIGUSR1);
	CHECK_EQ(info.si_code, SI_USER);
	CHECK_EQ(info.si_pid, getpid());
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
	CHECK_EQ(info.si_code, SI_TKILL);
	union sigval v = {.sival_ptr = (void *)0x123456789abc};
	sigqueue(getpid(), SIGUSR1, v);
	CHECK_EQ(info.si_code, SI_QUEUE);
	CHECK(info.si_value.sival_ptr == v.sival_ptr);
	siginfo_t forged = {.si_code = SI_USER};
	// One may not pretend to be kill(2) to another, but to oneself.
	CHECK_EQ(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &forged), 0);
}

static void test_sigpipe(void)
{
	int fds[2];

	CHECK_EQ(pipe(fds), 0);
	close(fds[0]);
	on(SIGPIPE, counter, 0);
	CHECK_ERR(write(fds[1], "x", 1), EPIPE);
	CHECK_EQ(count, 1);
	signal(SIGPIPE, SIG_IGN);
	CHECK_ERR(write(fds[1], "x", 1), EPIPE);
	close(fds[1]);
}

// A busy loop is interrupted: nothing waits for a system call.
static void test_interrupting_a_loop(void)
{
	on(SIGALRM, counter, 0);
	alarm_ms(30);
	int64_t start = now_ns(CLOCK_MONOTONIC);
	while (count == 0)
		;
	CHECK(now_ns(CLOCK_MONOTONIC) - start < 1000000000);
	CHECK_EQ(last_signal, SIGALRM);
}

// Ignoring SIGSEGV helps against kill(2), though not against a fault.
static void test_ignored_segv(void)
{
	signal(SIGSEGV, SIG_IGN);
	CHECK_EQ(kill(getpid(), SIGSEGV), 0);
	signal(SIGSEGV, SIG_DFL);
}

static void read_tsc(void) { __asm__ volatile("rdtsc" ::: "rax", "rdx"); }

// passes_turns reads the counter, if it may, each time that the other process has passed the turn.
static int passes_turns(int in, int out, int mode)
{
	int m = 0;
	char c;

	for (int i = 0; i < 20; i++) {
		if (read(in, &c, 1) != 1)
			return 1;
		if (mode == PR_TSC_ENABLE)
			read_tsc();
		if (prctl(PR_GET_TSC, &m) != 0 || m != mode || write(out, &c, 1) != 1)
			return 1;
	}
	return 0;
}

// A process may give up the time stamp counter, its children with it; others keep it.
static void test_no_time_stamp_counter(void)
{
	int mode = 0, status, to[2], from[2];
	pid_t child;

	CHECK_EQ(prctl(PR_GET_TSC, &mode), 0);
	CHECK_EQ(mode, PR_TSC_ENABLE);
	CHECK_ERR(prctl(PR_SET_TSC, 3), EINVAL);
	CHECK_ERR(prctl(PR_GET_TSC, NULL), EFAULT);
	CHECK_EQ(prctl(PR_SET_TSC, PR_TSC_SIGSEGV), 0);
	CHECK_EQ(prctl(PR_GET_TSC, &mode), 0);
	CHECK_EQ(mode, PR_TSC_SIGSEGV);
	fault(SIGSEGV, read_tsc, SI_KERNEL, NULL);
	if (check_failed) return;
	CHECK(pipe(to) == 0 && pipe(from) == 0);
	child = fork();
	if (child == 0) {
		if (prctl(PR_GET_TSC, &mode) != 0 || mode != PR_TSC_SIGSEGV)
			_exit(1);
		_exit(passes_turns(to[0], from[1], mode));
	}
	CHECK(child > 0);
	CHECK_EQ(prctl(PR_SET_TSC, PR_TSC_ENABLE), 0);
	CHECK_EQ(write(to[1], "x", 1), 1);
	CHECK_EQ(passes_turns(from[0], to[1], PR_TSC_ENABLE), 0);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	read_tsc();
}

TESTS({"bad-arguments", test_bad_arguments}, {"every-signal", test_every_signal},
      {"mask-and-pending", test_mask_and_pending}, {"queued", test_queued}, {"order", test_order},
      {"nodefer-and-resethand", test_nodefer_and_resethand}, {"handler-mask", test_handler_mask},
      {"faults", test_faults}, {"simd-fault", test_simd_fault}, {"bus-error", test_bus_error},
      {"changing-the-context", test_changing_the_context},
      {"alternate-stack", test_alternate_stack}, {"stack-overflow", test_stack_overflow},
      {"restart", test_restart}, {"restarted-read", test_restarted_read},
      {"sigsuspend", test_sigsuspend}, {"sigtimedwait", test_sigtimedwait},
      {"siginfo", test_siginfo}, {"sigpipe", test_sigpipe},
      {"interrupting-a-loop", test_interrupting_a_loop},
      {"ignored-segv", test_ignored_segv}, {"no-time-stamp-counter", test_no_time_stamp_counter})
