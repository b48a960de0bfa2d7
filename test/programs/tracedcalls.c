// System calls whose arguments and results are the same on every run, for a comparison of traces.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void handler(int sig) { (void)sig; }

int main(void)
{
	char buffer[64] = "";
	struct stat st = {0};

	close_range(3, ~0U, 0); // what it was started with
	int fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0640);
	if (fd < 0)
		return 1;
	write(fd, "one\ttwo\n\1\377\"quoted\\", 19);
	pwrite(fd, "three", 5, 100);
	lseek(fd, 2, SEEK_SET);
	read(fd, buffer, 10);
	pread(fd, buffer, 5, 100);
	ftruncate(fd, 12);
	fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096);
	struct iovec iov[] = {{"a\n", 2}, {"", 0}, {"a string that is longer than strace shows of one", 48}};
	writev(fd, iov, 3);
	fchmod(fd, 0600);
	fcntl(fd, F_GETFL);
	fcntl(fd, F_DUPFD_CLOEXEC, 50);
	fcntl(fd, F_SETFD, 0);
	flock(fd, LOCK_EX | LOCK_NB);
	close(fd);
	close(fd);
	stat("/none/such", &st);
	stat(NULL, &st);
	access("/", R_OK | X_OK);
	openat(AT_FDCWD, "/", O_WRONLY);
	mkdir("/", 0755);
	symlink("", "/tmp/empty");

	char *p = mmap((void *)0x10000000, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	mprotect(p, 4096, PROT_READ);
	madvise(p, 8192, MADV_DONTNEED);
	mremap(p, 3 * 4096, 4096, 0);
	msync(p, 4096, MS_SYNC);
	munmap(p, 4096);
	mmap(NULL, 0, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	int pipes[2], pair[2];
	pipe2(pipes, O_NONBLOCK);
	read(pipes[0], buffer, 1);
	write(pipes[1], "x", 1);
	struct pollfd fds[] = {{pipes[0], POLLIN | POLLHUP, 0}, {pipes[1], POLLOUT, 0}, {-1, 0, 0}};
	poll(fds, 3, 0);
	fd_set set;
	FD_ZERO(&set);
	FD_SET(pipes[0], &set);
	struct timeval no = {0, 0};
	select(pipes[1] + 1, &set, NULL, NULL, &no);
	socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair);
	send(pair[0], "message", 7, MSG_DONTWAIT);
	recv(pair[1], buffer, 3, MSG_TRUNC | MSG_PEEK);
	recv(pair[1], buffer, sizeof buffer, 0);
	struct sockaddr_un address = {AF_UNIX, "/none/such"};
	connect(pair[0], (struct sockaddr *)&address, sizeof address);
	int on = 1;
	setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	shutdown(pair[0], SHUT_RDWR);
	socket(AF_INET, SOCK_STREAM, 12345);

	int event = eventfd(3, EFD_SEMAPHORE);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = {EPOLLIN | EPOLLET, {.u64 = 7}};
	epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e);
	epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e);
	epoll_wait(epoll, &e, 1, 0);
	int watch = inotify_init1(IN_NONBLOCK);
	inotify_add_watch(watch, "/none/such", IN_CREATE | IN_ONLYDIR);
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	timerfd_settime(timer, 0, &(struct itimerspec){{1, 2}, {0, 0}}, NULL);

	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	sigaddset(&action.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGKILL, &action, NULL);
	sigset_t block;
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, NULL);
	alarm(0);
	setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
	nanosleep(&(struct timespec){0, 1000}, NULL);
	nanosleep(&(struct timespec){-1, 0}, NULL);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){0, 1}, NULL);

	struct termios modes;
	ioctl(pipes[0], TCGETS, &modes);
	ioctl(pipes[0], FIONREAD, &on);
	struct rlimit limit = {10, 20};
	setrlimit(RLIMIT_CORE, &limit);
	getrlimit(RLIMIT_CORE, &limit);
	umask(022);
	wait4(-1, NULL, WNOHANG, NULL);
	return 3;
}
