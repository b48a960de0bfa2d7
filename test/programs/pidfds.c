// pidfds: a child by a descriptor that stays its own.
#include "check.h"
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define PIDFD_FLAG 0x1000 // CLONE_PIDFD

static int pidfd_open_(pid_t pid, unsigned flags) { return syscall(434, pid, flags); }
static int pidfd_send(int fd, int sig, siginfo_t *info, unsigned flags) { return syscall(424, fd, sig, info, flags); }
static int pidfd_getfd_(int fd, int target, unsigned flags) { return syscall(438, fd, target, flags); }

static int readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1 && p.revents & POLLIN;
}

static pid_t paused(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (;;)
			pause();
	}
	return pid;
}

static void test_arguments(void)
{
	siginfo_t info;
	char byte;
	int fd;

	CHECK_ERR(pidfd_open_(0, 0), EINVAL);
	CHECK_ERR(pidfd_open_(-1, 0), EINVAL);
	CHECK_ERR(pidfd_open_(getpid(), 1), EINVAL);
	CHECK_ERR(pidfd_open_(INT_MAX, 0), ESRCH);
	fd = pidfd_open_(getpid(), 0);
	CHECK(fd >= 0);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_ERR(read(fd, &byte, 1), EINVAL);
	CHECK_EQ(pidfd_send(fd, 0, NULL, 0), 0);
	CHECK_ERR(pidfd_send(fd, 0, NULL, 0x1000), EINVAL);
	CHECK_ERR(pidfd_send(fd, 99, NULL, 0), EINVAL);
	CHECK_ERR(pidfd_send(0, 0, NULL, 0), EBADF);
	CHECK_ERR(pidfd_send(99, 0, NULL, 0), EBADF);
	memset(&info, 0, sizeof info);
	info.si_signo = SIGUSR2;
	info.si_code = SI_QUEUE;
	CHECK_ERR(pidfd_send(fd, SIGUSR1, &info, 0), EINVAL);
	CHECK_ERR(pidfd_send(fd, SIGUSR1, (void *)8, 0), EFAULT);
	CHECK(!readable(fd, 0));
	CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
	CHECK_ERR(waitid(P_PIDFD, 0, &info, WEXITED), EBADF);
	close(fd);
	// The process's directory will do, but not a thread's.
	fd = open("/proc/self", O_RDONLY | O_DIRECTORY);
	CHECK_EQ(pidfd_send(fd, 0, NULL, 0), 0);
	close(fd);
	fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
	CHECK_ERR(pidfd_send(fd, 0, NULL, 0), EBADF);
	close(fd);
}

static void test_end(void)
{
	siginfo_t info;
	pid_t pid = paused();
	int fd = pidfd_open_(pid, O_NONBLOCK);

	CHECK(pid > 0 && fd >= 0);
	CHECK(!readable(fd, 0));
	CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), EAGAIN);
	CHECK_EQ(pidfd_send(fd, SIGTERM, NULL, 0), 0);
	CHECK(readable(fd, 5000));
	CHECK_EQ(waitid(P_PIDFD, fd, &info, WEXITED), 0);
	CHECK_EQ(info.si_pid, pid);
	CHECK_EQ(info.si_code, CLD_KILLED);
	CHECK_EQ(info.si_status, SIGTERM);
	CHECK(readable(fd, 0));
	CHECK_ERR(pidfd_send(fd, 0, NULL, 0), ESRCH);
	CHECK_ERR(pidfd_getfd_(fd, 0, 0), ESRCH);
	CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
	close(fd);
}

static void test_clone(void)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args;

	for (int three = 0; three < 2; three++) {
		int fd = -1, status;
		pid_t pid;

		if (three) {
			memset(&args, 0, sizeof args);
			args.flags = PIDFD_FLAG;
			args.pidfd = (uintptr_t)&fd;
			args.exit_signal = SIGCHLD;
			pid = syscall(435, &args, sizeof args);
		} else {
			pid = syscall(SYS_clone, PIDFD_FLAG | SIGCHLD, 0, &fd, 0, 0);
		}
		if (pid == 0)
			_exit(fd == -1 && fcntl(3, F_GETFD) == -1 ? 7 : 8); // it is the parent's alone
		CHECK(pid > 0);
		CHECK_EQ(fd, 3);
		CHECK(readable(fd, 5000));
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(WEXITSTATUS(status), 7);
		close(fd);
	}
	CHECK_ERR(syscall(SYS_clone, PIDFD_FLAG | SIGCHLD, 0, 8, 0, 0), EFAULT);
	CHECK_ERR(syscall(SYS_clone, PIDFD_FLAG | CLONE_PARENT_SETTID | SIGCHLD, 0, 8, 0, 0), EINVAL);
	CHECK_EQ(fcntl(3, F_GETFD), -1); // the refused one is closed again
	CHECK_ERR(waitpid(-1, NULL, 0), ECHILD);
}

static void test_getfd(void)
{
	int ends[2], fd, mine, status;
	pid_t pid;
	char byte = 0;

	CHECK_EQ(pipe(ends), 0);
	CHECK_EQ(dup2(ends[0], 50), 50);
	pid = paused();
	fd = pidfd_open_(pid, 0);
	CHECK(fd >= 0);
	close(50);
	CHECK_ERR(pidfd_getfd_(fd, 50, 1), EINVAL);
	CHECK_ERR(pidfd_getfd_(fd, 51, 0), EBADF);
	CHECK_ERR(pidfd_getfd_(ends[0], 50, 0), EBADF);
	mine = pidfd_getfd_(fd, 50, 0);
	CHECK(mine >= 0);
	CHECK_EQ(fcntl(mine, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(write(ends[1], "x", 1), 1);
	CHECK_EQ(read(mine, &byte, 1), 1);
	CHECK_EQ(byte, 'x');
	CHECK_EQ(pidfd_send(fd, SIGKILL, NULL, 0), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	close(mine);
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

TESTS({"arguments", test_arguments}, {"end", test_end}, {"clone", test_clone}, {"getfd", test_getfd})
