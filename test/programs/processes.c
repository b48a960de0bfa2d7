// Processes: many of them, large ones, their ends, and who hears of that.
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/futex.h>

static char self[PATH_MAX];

// holds tells that it runs and ends with its standard input: as this process, or as a child of the parent's.
static int holds(int apart)
{
	pid_t pid = apart ? syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) : 0;
	int status = 7;

	if (pid != 0)
		return pid < 0;
	if (open("/proc/self/exe", O_WRONLY) != -1 || errno != ETXTBSY || truncate("/proc/self/exe", 0) != -1 || errno != ETXTBSY)
		status = 1;
	pid = getpid();
	if (write(1, &pid, sizeof pid) != sizeof pid || read(0, &pid, 1) != 0)
		status = 1;
	return status;
}

// executed is what this program does when it executes itself.
static int executed(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--hold"))
		return holds(0);
	if (argc > 1 && !strcmp(argv[1], "--hold-apart"))
		return holds(1);
	return argc > 1 && !strcmp(argv[1], "--exit") ? atoi(argv[2]) : -1;
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

// test_large: a fork costs page tables, not copies.
static void test_large(void)
{
	const char *mebibytes = getenv("LARGE"); // for the long test
	const size_t size = (mebibytes ? strtoul(mebibytes, NULL, 10) : 256) << 20;
	int status;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < size; i += 4096)
		p[i] = i >> 12;
	pid_t pid = fork(); // where there is no room for a copy
	CHECK(pid >= 0);
	if (pid == 0) {
		for (size_t i = 0; i < size; i += 4096)
			if (p[i] != (char)(i >> 12))
				_exit(1);
		p[4096] = 77;
		_exit(p[4096] != 77);
	}
	p[8192] = 78;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(p[4096] == 1 && p[8192] == 78);
	munmap(p, size);
}

// frames counts the frames that programs and their page tables have, where the kernel tells: Linux doesn't.
static long frames(void)
{
	static char b[8192];
	long total = 0;
	int fd = open("/proc/elver/counters", O_RDONLY);

	if (fd < 0)
		return 0;
	ssize_t n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n > 0 ? n : 0] = 0;
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "\nmemory_program " : "\nmemory_page_tables ", *at = strstr(b, name);

		if (!at)
			return -1;
		total += strtol(at + strlen(name), NULL, 10);
	}
	return total;
}

// test_thousand: fork, execve and wait leave nothing behind.
static void test_thousand(void)
{
	int fds = open_fds(), status;
	long before = 0;

	personality(ADDR_NO_RANDOMIZE); // an emulator translates code anew at each new address
	for (int i = 0; i < 1000; i++) {
		char code[8];
		pid_t pid;

		if (i == 4) // what this process itself touches for it is there
			before = frames();
		sprintf(code, "%d", i % 100);
		char *argv[] = {self, "--exit", code, NULL};
		pid = i % 2 ? fork() : vfork();
		CHECK(pid >= 0);
		if (pid == 0) {
			execv(self, argv);
			_exit(127);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, (i % 100) << 8);
		CHECK_ERR(kill(pid, 0), ESRCH);
	}
	CHECK_EQ(open_fds(), fds);
	CHECK_ERR(wait(NULL), ECHILD);
	CHECK_EQ(frames(), before);
}

// test_at_once: 500 children that live at the same time.
static void test_at_once(void)
{
	enum { many = 500 };
	static pid_t pids[many];
	int fds[2], status, ready = 0;
	char c;

	CHECK_EQ(pipe(fds), 0);
	int said[2];
	CHECK_EQ(pipe(said), 0);
	memset(pids, 1, sizeof pids);
	frames();
	long before = frames();
	for (int i = 0; i < many; i++) {
		pids[i] = fork();
		CHECK(pids[i] >= 0);
		if (pids[i] == 0) {
			close(fds[1]);
			write(said[1], "x", 1);
			read(fds[0], &c, 1); // until the parent closes its end
			_exit(i % 7);
		}
	}
	while (ready < many && read(said[0], &c, 1) == 1)
		ready++;
	CHECK_EQ(ready, many);
	close(fds[0]);
	close(fds[1]);
	close(said[0]);
	close(said[1]);
	for (int i = 0; i < many; i++) {
		CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
		CHECK_EQ(status, (i % 7) << 8);
	}
	CHECK_ERR(wait(NULL), ECHILD);
	CHECK_EQ(frames(), before);
}

// test_bomb: RLIMIT_NPROC bounds who forks without end.
static void test_bomb(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit r = {20, 20};
		int made = 0;

		if (geteuid() == 0 && (setgid(4343) || setuid(4343)))
			_exit(100);
		if (setrlimit(RLIMIT_NPROC, &r))
			_exit(101);
		for (;;) {
			pid_t child = fork();

			if (child == 0)
				pause();
			if (child < 0)
				break;
			if (++made > 30)
				_exit(102);
		}
		int error = errno;
		signal(SIGTERM, SIG_IGN);
		kill(-1, SIGTERM); // all of that user
		while (wait(&status) > 0)
			;
		_exit(error != EAGAIN || made < 1 || made > 20);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void test_crash(void)
{
	int status;
	volatile int before = 5;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		before = *(volatile int *)(long)(getpid() & 0); // crashes
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && before == 5);
}

static int pipe_fds[2], socket_fds[2], message_queue, semaphores;
static char *word;

static void block(int how)
{
	struct pollfd p = {pipe_fds[0], POLLIN, 0};
	struct epoll_event e = {.events = EPOLLIN};
	struct sembuf down = {0, -1, 0};
	struct {
		long type;
		char text[8];
	} message;
	char c[70000];
	sigset_t none;
	fd_set set;
	int ep;

	switch (how) {
	case 0: pause(); break;
	case 1: read(pipe_fds[0], c, 1); break;
	case 2: for (;;) write(pipe_fds[1], c, sizeof c); break;
	case 3: poll(&p, 1, -1); break;
	case 4: FD_ZERO(&set); FD_SET(pipe_fds[0], &set); select(pipe_fds[0] + 1, &set, NULL, NULL, NULL); break;
	case 5: ep = epoll_create1(0); epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &e); epoll_wait(ep, &e, 1, -1); break;
	case 6: sleep(1000); break;
	case 7: sigemptyset(&none); sigsuspend(&none); break;
	case 8: sigemptyset(&none); sigaddset(&none, SIGUSR1); sigwaitinfo(&none, NULL); break;
	case 9: syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL); break;
	case 10: recv(socket_fds[0], c, 1, 0); break;
	case 11: for (;;) send(socket_fds[0], c, sizeof c, 0); break;
	case 12: semop(semaphores, &down, 1); break;
	case 13: msgrcv(message_queue, &message, 8, 0, 0); break;
	case 14: if (fork() == 0) pause(); wait(NULL); break;
	case 15: read(eventfd(0, 0), c, 8); break;
	case 16: if (vfork() == 0) { for (;;) syscall(SYS_pause); } break;
	case 17: flock(open("/tmp/processes-lock", O_RDWR | O_CREAT, 0600), LOCK_EX); break;
	case 18: accept(socket_fds[1], NULL, NULL); for (;;) raise(SIGSTOP); break;
	}
	pause();
}

// test_blocked: a child that is killed in a blocking call goes.
static void test_blocked(void)
{
	enum { ways = 19 };
	int status, lock = open("/tmp/processes-lock", O_RDWR | O_CREAT, 0600);

	CHECK(flock(lock, LOCK_EX) == 0);
	CHECK(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds) == 0);
	semaphores = semget(IPC_PRIVATE, 1, 0600);
	message_queue = msgget(IPC_PRIVATE, 0600);
	word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int threads = 0; threads < 2; threads++)
		for (int how = 0; how < ways; how++) {
			pid_t pid = fork();

			CHECK(pid >= 0);
			if (pid == 0) {
				setpgid(0, 0);
				if (threads) {
					pthread_t thread;
					pthread_create(&thread, NULL, (void *(*)(void *))pause, NULL);
				}
				block(how);
				_exit(1);
			}
			setpgid(pid, pid);
			sleep_ms(how < 2 ? 20 : 3);
			CHECK_EQ(kill(-pid, SIGKILL), 0);
			CHECK_EQ(waitpid(pid, &status, 0), pid);
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		}
	semctl(semaphores, 0, IPC_RMID);
	msgctl(message_queue, IPC_RMID, NULL);
	close(lock);
	unlink("/tmp/processes-lock");
}

static void *spins(void *arg)
{
	for (volatile long i = 0;; i++)
		;
	return arg;
}

static void *sleeps(void *arg)
{
	pause();
	return arg;
}

static void *executes(void *arg)
{
	char *argv[] = {self, "--exit", "42", NULL};

	execv(self, argv);
	return arg;
}

// test_exec_of_thread: execve by one thread ends the others, and the new program has the process's number.
static void test_exec_of_thread(void)
{
	int status;

	for (int i = 0; i < 10; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			pthread_t thread;

			for (int j = 0; j < 3; j++) {
				pthread_create(&thread, NULL, spins, NULL);
				pthread_create(&thread, NULL, sleeps, NULL);
			}
			pthread_create(&thread, NULL, executes, NULL);
			pause();
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 42 << 8);
	}
}

static volatile int signals_seen;

static void on_signal(int sig)
{
	signals_seen |= 1 << sig;
}

// test_orphaned: a stopped group that nobody could continue any more gets SIGHUP and SIGCONT.
static void test_orphaned(void)
{
	int fds[2], status, seen = 0;

	CHECK_EQ(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		pid_t child = fork();
		if (child == 0) {
			setpgid(0, 0);
			signal(SIGHUP, on_signal);
			signal(SIGCONT, on_signal);
			raise(SIGSTOP);
			for (int i = 0; i < 1000 && signals_seen != (1 << SIGHUP | 1 << SIGCONT); i++)
				sleep_ms(5);
			seen = signals_seen;
			write(fds[1], &seen, sizeof seen);
			_exit(0);
		}
		waitpid(child, &status, WUNTRACED);
		_exit(!WIFSTOPPED(status));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(read(fds[0], &seen, sizeof seen), sizeof seen);
	CHECK_EQ(seen, 1 << SIGHUP | 1 << SIGCONT);
	close(fds[0]);
	close(fds[1]);
}

static void test_parents(void)
{
	int fds[2], status;
	pid_t orphan, adopted;

	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid_t pid = fork();
	if (pid == 0) {
		orphan = fork();
		if (orphan == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			write(fds[1], "x", 1);
			pause();
		}
		char c;
		read(fds[0], &c, 1);
		write(fds[1], &orphan, sizeof orphan);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
	adopted = waitpid(orphan, &status, 0); // the nearest subreaper's, and ended by its parent's end
	CHECK_EQ(adopted, orphan);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	close(fds[0]);
	close(fds[1]);
}

static void test_waitid(void)
{
	siginfo_t info = {0};
	pid_t pid = fork();

	if (pid == 0) {
		raise(SIGSTOP);
		_exit(9);
	}
	CHECK_EQ(waitid(P_PID, pid, &info, WSTOPPED), 0);
	CHECK(info.si_code == CLD_STOPPED && info.si_status == SIGSTOP && info.si_pid == pid && info.si_uid == getuid());
	memset(&info, 0, sizeof info);
	CHECK_EQ(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG), 0);
	CHECK_EQ(info.si_pid, 0);
	kill(pid, SIGCONT);
	CHECK_EQ(waitid(P_PGID, 0, &info, WCONTINUED), 0);
	CHECK(info.si_code == CLD_CONTINUED && info.si_status == SIGCONT);
	int fd = syscall(SYS_pidfd_open, pid, 0);
	CHECK_EQ(waitid(3 /* P_PIDFD */, fd, &info, WEXITED | WNOWAIT), 0);
	CHECK(info.si_code == CLD_EXITED && info.si_status == 9);
	CHECK_EQ(waitid(3, fd, &info, WEXITED), 0);
	CHECK_ERR(waitid(3, fd, &info, WEXITED), ECHILD);
	CHECK_ERR(waitid(P_ALL, 0, &info, 0), EINVAL);
	CHECK_ERR(waitid(99, 0, &info, WEXITED), EINVAL);
	close(fd);
}

static void test_limits(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_AS, &(struct rlimit){64 << 20, 64 << 20});
		if (mmap(NULL, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED || errno != ENOMEM)
			_exit(1);
		setrlimit(RLIMIT_DATA, &(struct rlimit){8 << 20, 8 << 20});
		if (sbrk(16 << 20) != (void *)-1 || errno != ENOMEM)
			_exit(2);
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){100, 100});
		signal(SIGXFSZ, SIG_IGN);
		int fd = open("/tmp/processes-file", O_RDWR | O_CREAT, 0600);
		unlink("/tmp/processes-file");
		if (pwrite(fd, "x", 1, 100) != -1 || errno != EFBIG)
			_exit(3);
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){5, 5});
		while (dup(0) >= 0)
			;
		if (errno != EMFILE)
			_exit(4);
		// Where there is no descriptor, no file is made.
		if (open("/tmp/processes-never", O_RDWR | O_CREAT, 0600) != -1 || access("/tmp/processes-never", F_OK) != -1)
			_exit(5);
		setrlimit(RLIMIT_CPU, &(struct rlimit){1, 3});
		for (volatile long i = 0;; i++)
			;
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU);
}

static void test_fork_advice(void)
{
	int status;
	char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	p[0] = p[4096] = p[8192] = 5;
	CHECK_EQ(madvise(p, 4096, MADV_DONTFORK), 0);
	CHECK_EQ(madvise(p + 4096, 4096, MADV_WIPEONFORK), 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(can_read(p) | (p[4096] != 0) << 1 | (p[8192] != 5) << 2);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	munmap(p, 3 * 4096);
}

static void test_compare(void)
{
	int status, one = dup(0), two = dup(1);
	pid_t pid = fork();

	if (pid == 0)
		pause();
	CHECK_EQ(syscall(SYS_kcmp, getpid(), pid, 0, one, one), 0);
	CHECK(syscall(SYS_kcmp, getpid(), pid, 1, 0, 0) > 0);
	CHECK(syscall(SYS_kcmp, getpid(), pid, 2, 0, 0) > 0);
	CHECK_EQ(syscall(SYS_kcmp, getpid(), getpid(), 2, 0, 0), 0);
	CHECK_ERR(syscall(SYS_kcmp, getpid(), pid, 0, one, 1000), EBADF);
	CHECK_ERR(syscall(SYS_kcmp, getpid(), pid, 99, 0, 0), EINVAL);
	int ep = epoll_create1(0), event = eventfd(0, 0);
	unsigned slot[3] = {ep, event, 0};
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, event, &(struct epoll_event){EPOLLIN}), 0);
	CHECK_EQ(syscall(SYS_kcmp, getpid(), getpid(), 7, event, slot), 0);
	CHECK(syscall(SYS_kcmp, getpid(), getpid(), 7, ep, slot) > 0);
	slot[1] = 999;
	CHECK_ERR(syscall(SYS_kcmp, getpid(), getpid(), 7, event, slot), ENOENT);
	close(ep);
	close(event);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	CHECK_ERR(syscall(SYS_kcmp, getpid(), pid, 1, 0, 0), ESRCH);
	CHECK_ERR(syscall(SYS_setns, 1000, 0), EBADF);
	CHECK_ERR(syscall(SYS_setns, 0, 0), EINVAL);
	close(one);
	close(two);
}

// test_sharing: processes of clone can have descriptors and directories together.
static void test_sharing(void)
{
	int status;
	char where[100];

	CHECK_EQ(chdir("/"), 0);
	for (int flags = 0; flags < 2; flags++) {
		int fd = dup(0), shares = flags ? CLONE_FILES | CLONE_FS : 0;
		pid_t pid = syscall(SYS_clone, shares | SIGCHLD, 0, 0, 0, 0);

		if (pid == 0) {
			close(fd);
			umask(0123);
			_exit(chdir("/tmp"));
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		CHECK_EQ(fcntl(fd, F_GETFD) == -1, flags);
		CHECK(getcwd(where, sizeof where) && !strcmp(where, flags ? "/tmp" : "/"));
		CHECK_EQ(umask(022), flags ? 0123 : 022);
		close(fd);
	}
	pid_t pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) { // execve ends it
		char *argv[] = {self, "--exit", "0", NULL};

		fcntl(0, F_SETFD, FD_CLOEXEC);
		execv(self, argv);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(fcntl(0, F_GETFD), FD_CLOEXEC);
	fcntl(0, F_SETFD, 0);
	CHECK_EQ(chdir("/"), 0);
}

static void test_arguments(void)
{
	static char text[131072], *argv[200];
	int status;

	memset(text, 'x', sizeof text - 1);
	argv[0] = self, argv[1] = "--exit", argv[2] = "5";
	pid_t pid = fork();
	if (pid == 0) {
		argv[3] = text; // 128 KiB with its end, no more
		execv(self, argv);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 5 << 8);
	pid = fork();
	if (pid == 0) {
		for (int i = 3; i < 199; i++)
			argv[i] = text;
		execv(self, argv);
		_exit(errno == E2BIG);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 1 << 8);
}

// run_held runs path, which tells its process's id once it runs and ends when *hold is closed. Returns the id of the
// child, and in *holder whose answer came: 0 if it is none.
static pid_t run_held(int fd, const char *path, const char *how, int *hold, pid_t *holder)
{
	int in[2], out[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || (pid = fork()) < 0)
		return -1;
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		syscall(SYS_execveat, fd, path, ((char *[]){"held", (char *)how, NULL}), NULL, AT_EMPTY_PATH);
		_exit(100 + (errno == ETXTBSY));
	}
	close(in[0]);
	close(out[1]);
	if (read(out[0], holder, sizeof *holder) != sizeof *holder)
		*holder = 0;
	close(out[0]);
	*hold = in[1];
	return pid;
}

static int write_to(const char *path, const char *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);

	if (fd >= 0 && write(fd, text, size) == (ssize_t)size)
		return fd;
	return -1;
}

// exec_errno returns why path can't be executed; 0: it could.
static int exec_errno(const char *path)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execl(path, "tried", "--exit", "0", NULL);
		_exit(errno);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A program's file isn't written to while it runs, and doesn't run while it is written to.
static void test_busy(void)
{
	char dir[] = "/tmp/busy.XXXXXX", script[2 * PATH_MAX];
	int fd, from, hold, status, size;
	siginfo_t info;
	struct stat st;
	pid_t pid, holder;
	char *text;

	CHECK((from = open(self, O_RDONLY)) >= 0);
	CHECK_EQ(fstat(from, &st), 0);
	CHECK((text = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, from, 0)) != MAP_FAILED);
	close(from);
	CHECK(mkdtemp(dir));
	CHECK_EQ(chdir(dir), 0);

	// Open for writing: it doesn't run, nor does what needs it.
	CHECK((fd = write_to("program", text, st.st_size)) >= 0);
	size = snprintf(script, sizeof script, "#!%s/program\n", dir);
	CHECK((from = write_to("script", script, size)) >= 0);
	CHECK_EQ(exec_errno("program"), ETXTBSY);
	CHECK_EQ(exec_errno("script"), ETXTBSY);
	close(from);
	CHECK_EQ(exec_errno("script"), ETXTBSY);
	close(fd);
	CHECK_EQ(exec_errno("program"), 0);
	CHECK((from = open("script", O_RDWR)) >= 0);
	CHECK_EQ(exec_errno("script"), ETXTBSY);
	close(from);
	CHECK((from = open("program", O_RDONLY)) >= 0);
	CHECK_EQ(exec_errno("program"), 0);
	CHECK_EQ(chmod("program", 0600), 0);
	CHECK((fd = open("program", O_RDWR)) >= 0);
	CHECK_EQ(exec_errno("program"), EACCES);
	close(fd);
	CHECK_EQ(chmod("program", 0700), 0);
	CHECK_EQ(exec_errno("program"), 0);

	// Running, it can't be opened for writing nor truncated, but read, linked and removed.
	CHECK((pid = run_held(AT_FDCWD, "program", "--hold", &hold, &holder)) > 0);
	CHECK_EQ(holder, pid);
	CHECK_ERR(open("program", O_WRONLY), ETXTBSY);
	CHECK_ERR(open("program", O_RDWR | O_CREAT, 0600), ETXTBSY);
	CHECK_ERR(open("program", O_RDONLY | O_TRUNC), ETXTBSY);
	CHECK_ERR(open("program", O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK_ERR(truncate("program", st.st_size), ETXTBSY);
	snprintf(script, sizeof script, "/proc/%d/exe", pid);
	CHECK_ERR(open(script, O_WRONLY), ETXTBSY);
	CHECK_ERR(truncate(script, 1), ETXTBSY);
	CHECK_EQ(access("program", W_OK), 0);
	CHECK_EQ(link("program", "other"), 0);
	CHECK_ERR(open("other", O_WRONLY), ETXTBSY);
	CHECK_EQ(exec_errno("other"), 0);
	CHECK_EQ(unlink("program"), 0);
	CHECK_ERR(truncate("other", 1), ETXTBSY);
	CHECK_EQ(rename("other", "program"), 0);
	close(hold);
	CHECK_EQ(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0); // what is left is no program
	CHECK((fd = open("program", O_WRONLY)) >= 0);
	close(fd);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 7 << 8);

	// A child runs the program of its parent, longer than that.
	CHECK((pid = run_held(AT_FDCWD, "program", "--hold-apart", &hold, &holder)) > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(holder > 0 && holder != pid);
	CHECK_ERR(open("program", O_WRONLY), ETXTBSY);
	close(hold);
	CHECK_EQ(waitpid(holder, &status, 0), holder);
	CHECK_EQ(status, 7 << 8);
	CHECK((fd = open("program", O_WRONLY)) >= 0);
	close(fd);

	// What mmap maps is no program.
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, from, 0) != MAP_FAILED);
	CHECK((fd = open("program", O_RDWR)) >= 0);
	close(fd);
	close(from);

	// memfd_create opens no file: its program runs, and then can't be opened again.
	CHECK((fd = memfd_create("program", MFD_CLOEXEC)) >= 0);
	CHECK_EQ(write(fd, text, st.st_size), st.st_size);
	CHECK((pid = run_held(fd, "", "--hold", &hold, &holder)) > 0);
	CHECK_EQ(holder, pid);
	snprintf(script, sizeof script, "/proc/self/fd/%d", fd);
	CHECK_ERR(open(script, O_RDWR), ETXTBSY);
	close(hold);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 7 << 8);
	CHECK((hold = open(script, O_RDWR)) >= 0);
	pid = run_held(fd, "", "--hold", &from, &holder);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 101 << 8);
	close(from);
	close(hold);
	close(fd);
	CHECK_EQ(unlink("program"), 0);
	CHECK_EQ(unlink("script"), 0);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(rmdir(dir), 0);
	munmap(text, st.st_size);
}

// Whose children end tells their adopter by SIGCHLD, whatever their parent chose: once for the one that had ended
// before, and once for the one that ends after.
static void test_adopted(void)
{
	sigset_t set;
	siginfo_t info;
	pid_t pid, late;
	int fds[2], status;

	while (waitpid(-1, &status, WNOHANG) > 0) // process 1 has orphans of the other tests
		;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGUSR1);
	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	if ((pid = fork()) == 0) {
		pid_t early = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
		if (early == 0)
			_exit(1);
		waitid(P_PID, early, &info, WEXITED | WNOWAIT | __WALL);
		if ((late = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0)) == 0)
			_exit(read(fds[0], &status, 1) == 1 ? 2 : 3);
		_exit(late < 0);
	}
	for (int ended = 0; ended < 3;) {
		CHECK_EQ(sigwaitinfo(&set, &info), SIGCHLD);
		while (waitpid(-1, &status, WNOHANG) > 0)
			ended++;
		if (ended == 2)
			CHECK_EQ(write(fds[1], "x", 1), 1);
	}
	CHECK_ERR(waitpid(-1, &status, __WALL), ECHILD);
	CHECK_EQ(sigtimedwait(&set, &info, &(struct timespec){0, 0}), -1);
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	CHECK_EQ(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
	close(fds[0]);
	close(fds[1]);
}

static const struct test tests[] = {
	{"large", test_large}, {"thousand", test_thousand}, {"at-once", test_at_once}, {"bomb", test_bomb}, {"crash", test_crash},
	{"blocked", test_blocked}, {"exec-of-thread", test_exec_of_thread}, {"orphaned", test_orphaned}, {"parents", test_parents}, {"adopted", test_adopted},
	{"waitid", test_waitid}, {"limits", test_limits}, {"fork-advice", test_fork_advice}, {"compare", test_compare},
	{"sharing", test_sharing}, {"arguments", test_arguments}, {"busy", test_busy},
};

int main(int argc, char **argv)
{
	int status = executed(argc, argv);

	if (status >= 0)
		return status;
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = 0;
	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
