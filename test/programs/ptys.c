// Pseudoterminals: both ends, the controlling terminal, job control, hang-ups.
#include "check.h"
#include <dirent.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

static char name[64];

static int master(void)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY);

	if (m < 0 || grantpt(m) != 0 || unlockpt(m) != 0 || ptsname_r(m, name, sizeof name) != 0)
		return -1;
	return m;
}

static int readable(int fd, int ms)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, ms) == 1 ? p.revents : 0;
}

// got reads what is there within a moment and compares it.
static int got(int fd, const char *want)
{
	char b[256];
	size_t n = 0;

	while (n < strlen(want) && (readable(fd, 2000) & POLLIN)) {
		ssize_t r = read(fd, b + n, sizeof b - n);
		if (r <= 0)
			break;
		n += r;
	}
	if (n == strlen(want) && memcmp(b, want, n) == 0)
		return 1;
	printf("# got %zu bytes: %.*s\n", n, (int)n, b);
	return 0;
}

static int put(int fd, const char *s) { return write(fd, s, strlen(s)) == (ssize_t)strlen(s); }

static void test_open(void)
{
	int n, m = posix_openpt(O_RDWR | O_NOCTTY), lock;
	char path[64];
	struct stat st;

	CHECK(m >= 0);
	CHECK_EQ(ioctl(m, TIOCGPTN, &n), 0);
	snprintf(path, sizeof path, "/dev/pts/%d", n);
	CHECK_EQ(ioctl(m, TIOCGPTLCK, &lock), 0);
	CHECK_EQ(lock, 1);
	CHECK_ERR(open(path, O_RDWR | O_NOCTTY), EIO);
	CHECK_EQ(grantpt(m), 0);
	CHECK_EQ(unlockpt(m), 0);
	CHECK_EQ(strcmp(ptsname(m), path), 0);
	CHECK_EQ(stat(path, &st), 0);
	CHECK(S_ISCHR(st.st_mode) && (st.st_mode & 0777 & ~0020) == 0600 && st.st_uid == getuid());
	CHECK_EQ(st.st_rdev, ((dev_t)136 << 8) + n);
	int s = open(path, O_RDWR | O_NOCTTY);
	CHECK(s >= 0 && isatty(s) && isatty(m));
	CHECK_EQ(ttyname_r(s, name, sizeof name), 0);
	CHECK_EQ(strcmp(name, path), 0);
	int other = master();
	CHECK(other >= 0 && strcmp(name, path) != 0);
	DIR *d = opendir("/dev/pts");
	struct dirent *e;
	int found = 0;
	while ((e = readdir(d)))
		found += !strcmp(e->d_name, path + 9) || !strcmp(e->d_name, name + 9) || !strcmp(e->d_name, "ptmx");
	closedir(d);
	CHECK_EQ(found, 3);
	close(other), close(m), close(s);
	CHECK_ERR(stat(path, &st), ENOENT);
}

static void test_settings(void)
{
	int m = master(), s = open(name, O_RDWR | O_NOCTTY);
	struct termios t, u;
	struct winsize w = {24, 80, 1, 2}, v;

	CHECK_EQ(tcgetattr(s, &t), 0);
	CHECK_EQ(t.c_iflag, ICRNL | IXON);
	CHECK_EQ(t.c_oflag, OPOST | ONLCR);
	CHECK_EQ(t.c_cflag, B38400 | CS8 | CREAD);
	CHECK_EQ(t.c_lflag, ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN);
	CHECK(t.c_cc[VINTR] == 3 && t.c_cc[VEOF] == 4 && t.c_cc[VMIN] == 1 && t.c_cc[VERASE] == 127);
	cfmakeraw(&t);
	cfsetspeed(&t, B115200);
	CHECK_EQ(tcsetattr(m, TCSANOW, &t), 0); // the master sets the terminal's
	CHECK_EQ(tcgetattr(s, &u), 0);
	CHECK_EQ(u.c_lflag, t.c_lflag);
	CHECK_EQ(cfgetospeed(&u), B115200);
	CHECK_EQ(ioctl(s, TIOCGWINSZ, &v), 0);
	CHECK(v.ws_row == 0 && v.ws_col == 0);
	CHECK_EQ(ioctl(m, TIOCSWINSZ, &w), 0);
	CHECK_EQ(ioctl(s, TIOCGWINSZ, &v), 0);
	CHECK(v.ws_row == 24 && v.ws_col == 80 && v.ws_xpixel == 1 && v.ws_ypixel == 2);
	CHECK_ERR(ioctl(s, TIOCGPTN, &v), ENOTTY);
	CHECK_ERR(tcgetattr(open("/dev/null", O_RDWR), &t), ENOTTY);
	CHECK_ERR(ioctl(s, TCGETS, 8), EFAULT);
	// The short form of System V has the lower half of each word, and leaves the upper one alone.
	struct {
		unsigned short iflag, oflag, cflag, lflag;
		unsigned char line, cc[8];
	} old;
	CHECK_ERR(ioctl(s, TCGETA, 8), EFAULT);
	CHECK_EQ(ioctl(s, TCGETA, &old), 0);
	CHECK(old.lflag == (unsigned short)u.c_lflag && old.cc[VINTR] == 3);
	old.lflag |= ECHO, old.cc[VINTR] = 5;
	CHECK_EQ(ioctl(s, TCSETAW, &old), 0);
	CHECK_EQ(tcgetattr(s, &t), 0);
	CHECK_EQ(t.c_lflag, u.c_lflag | ECHO);
	CHECK(t.c_cc[VINTR] == 5 && t.c_cc[VSTART] == u.c_cc[VSTART] && t.c_cflag == u.c_cflag && t.c_iflag == u.c_iflag);
	pid_t pid;
	CHECK_ERR(ioctl(s, TIOCGPGRP, &pid), ENOTTY); // not ours
	CHECK_ERR(ioctl(s, TIOCNOTTY), ENOTTY);
	CHECK_ERR(tcflow(s, 99), EINVAL);
	CHECK_ERR(ioctl(s, TCFLSH, 99), EINVAL);
	int line = 1;
	CHECK_EQ(ioctl(s, TIOCGETD, &line), 0);
	CHECK_EQ(line, 0);
	close(m), close(s);
}

static void test_lines(void)
{
	int m = master(), s = open(name, O_RDWR | O_NOCTTY), n;

	CHECK(put(m, "hello\r"));
	CHECK(got(s, "hello\n"));
	CHECK(got(m, "hello\r\n")); // the echo
	CHECK(put(s, "a\nb\n"));
	CHECK(got(m, "a\r\nb\r\n"));
	CHECK(put(m, "abc\x7f\x7fx"));
	CHECK_EQ(readable(s, 20), 0);
	CHECK(put(m, "\n"));
	CHECK(readable(s, 2000)); // what is typed comes a moment later
	n = 0;
	for (int i = 0; i < 200 && n != 3; i++) { // Linux counts it yet later
		CHECK_EQ(ioctl(s, FIONREAD, &n), 0);
		usleep(10000);
	}
	CHECK_EQ(n, 3);
	CHECK(got(s, "ax\n"));
	CHECK(got(m, "abc\b \b\b \bx\r\n"));
	CHECK(put(m, "part\x04"));
	CHECK(got(s, "part"));
	CHECK(put(m, "\x04"));
	char b[10];
	CHECK_EQ(read(s, b, 10), 0);
	CHECK(put(m, "flushed"));
	usleep(50000);
	CHECK_EQ(tcflush(s, TCIFLUSH), 0);
	CHECK(put(m, "kept\n"));
	CHECK(got(s, "kept\n"));
	close(m), close(s);
}

static void test_raw(void)
{
	int m = master(), s = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
	struct termios t;
	static char big[100000];
	size_t total = 0, back = 0;
	ssize_t n;

	tcgetattr(s, &t);
	cfmakeraw(&t);
	tcsetattr(s, TCSANOW, &t);
	CHECK_ERR(read(s, big, 10), EAGAIN);
	CHECK(put(m, "\x03\x1a\r\n\x7f"));
	CHECK(got(s, "\x03\x1a\r\n\x7f"));
	memset(big, 'z', sizeof big);
	while ((n = write(s, big, 1000)) > 0) // until the master's reader is behind
		total += n;
	int err = errno;
	CHECK(err == EAGAIN && total > 1000 && total < 90000);
	struct pollfd p = {s, POLLOUT, 0};
	CHECK_EQ(poll(&p, 1, 0), 0);
	while (back < total && (n = read(m, big, sizeof big)) > 0)
		back += n;
	CHECK_EQ(back, total);
	CHECK_EQ(poll(&p, 1, 1000), 1);
	close(m), close(s);
}

static void test_closing(void)
{
	int m = master(), s;
	char b[64];

	CHECK_EQ(readable(m, 10), 0); // nobody has opened it yet
	s = open(name, O_RDWR | O_NOCTTY);
	CHECK(put(s, "last"));
	close(s);
	CHECK((readable(m, 100) & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP));
	CHECK(got(m, "last"));
	CHECK_ERR(read(m, b, 10), EIO);
	CHECK_EQ(readable(m, 100), POLLHUP);
	s = open(name, O_RDWR | O_NOCTTY); // it may come back
	CHECK_EQ(readable(m, 10), 0);
	CHECK(put(s, "again"));
	CHECK(got(m, "again"));
	close(m);
	CHECK_EQ(read(s, b, 10), 0);
	CHECK_ERR(write(s, b, 10), EIO);
	struct termios t;
	CHECK_ERR(tcgetattr(s, &t), EIO);
	struct pollfd p = {s, POLLIN | POLLOUT, 0};
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, POLLIN | POLLOUT | POLLERR | POLLHUP);
	close(s);
}

static void test_peer(void)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY), s;

	CHECK_ERR(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY), EIO);
	CHECK_EQ(unlockpt(m), 0);
	s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(s >= 0);
	CHECK_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
	CHECK(put(s, "x"));
	CHECK(got(m, "x"));
	close(s), close(m);
}

static void test_packets(void)
{
	int m = master(), s = open(name, O_RDWR | O_NOCTTY), on = 1;
	char b[64];

	CHECK_EQ(ioctl(m, TIOCPKT, &on), 0);
	CHECK(put(s, "data"));
	CHECK_EQ(read(m, b, sizeof b), 5);
	CHECK(b[0] == TIOCPKT_DATA && !memcmp(b + 1, "data", 4));
	tcflush(s, TCIFLUSH);
	struct pollfd p = {m, POLLIN | POLLPRI, 0};
	CHECK_EQ(poll(&p, 1, 1000), 1);
	CHECK(p.revents & POLLPRI);
	CHECK_EQ(read(m, b, sizeof b), 1);
	CHECK_EQ(b[0], TIOCPKT_FLUSHREAD);
	close(s), close(m);
}

static volatile int interrupts, hangups, windows;

static void handler(int sig)
{
	interrupts += sig == SIGINT, hangups += sig == SIGHUP, windows += sig == SIGWINCH;
}

// session runs f as the leader of a session whose terminal is the slave of m; it returns f's result.
static int session(int m, int (*f)(int s))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct sigaction a = {.sa_handler = handler};
		sigaction(SIGINT, &a, NULL);
		sigaction(SIGHUP, &a, NULL);
		sigaction(SIGWINCH, &a, NULL);
		if (setsid() < 0)
			_exit(90);
		int s = open(name, O_RDWR);
		if (s < 0)
			_exit(91);
		close(m);
		alarm(20);
		_exit(f(s));
	}
	// Who waits plays the user: it answers each "?" by typing what follows it.
	char c, typed[2] = {0};
	for (;;) {
		if (readable(m, 5000) == 0 || read(m, &c, 1) != 1)
			break;
		if (c == '!') { // hang up
			close(m);
			break;
		}
		if (c == '?') {
			if (read(m, typed, 1) != 1)
				break;
			if (typed[0] == 'w') {
				struct winsize w = {10, 20, 0, 0};
				ioctl(m, TIOCSWINSZ, &w);
			} else if (typed[0] == 'c')
				put(m, "\x03");
			else
				put(m, typed);
		}
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return WIFSIGNALED(status) ? 200 + WTERMSIG(status) : 199;
	return WEXITSTATUS(status);
}

static int controls(int s)
{
	pid_t p;
	int t = open("/dev/tty", O_RDWR);

	if (t < 0)
		return 1;
	if (tcgetpgrp(s) != getpid() || tcgetpgrp(t) != getpid())
		return 2;
	if (ioctl(s, TIOCGSID, &p) != 0 || p != getpid())
		return 3;
	put(t, "?c");
	for (int i = 0; i < 200 && !interrupts; i++)
		usleep(10000);
	if (interrupts != 1)
		return 4;
	put(t, "?w");
	for (int i = 0; i < 200 && !windows; i++)
		usleep(10000);
	if (windows != 1)
		return 5;
	if (tcsetpgrp(s, 1) != -1 || errno != EPERM)
		return 6;
	if (tcsetpgrp(s, 99999) != -1 || errno != ESRCH)
		return 7;
	if (ioctl(s, TIOCSCTTY, 0) != 0) // it is ours already
		return 8;
	// Another terminal does not become ours by opening it.
	int m2 = master(), s2 = open(name, O_RDWR);
	if (ioctl(s2, TIOCGSID, &p) != -1 || errno != ENOTTY)
		return 9;
	if (ioctl(s2, TIOCSCTTY, 0) != -1 || errno != EPERM)
		return 10;
	close(m2);
	if (ioctl(s, TIOCNOTTY) != 0)
		return 11;
	if (hangups != 1)
		return 12;
	if (open("/dev/tty", O_RDWR) != -1 || errno != ENXIO)
		return 13;
	if (ioctl(s, TIOCSCTTY, 0) != 0 || tcgetpgrp(s) != getpid())
		return 14;
	return 0;
}

static void test_controlling(void)
{
	int m = master();

	CHECK_EQ(session(m, controls), 0);
	close(m);
}

static int background(int s)
{
	int status;
	char b[4];
	pid_t pid = fork();

	if (pid == 0) {
		setpgid(0, 0);
		signal(SIGTTOU, SIG_IGN);
		if (read(s, b, 1) != 1) // stops, and goes on in the foreground
			_exit(1);
		_exit(b[0] == 'y' ? 0 : 2);
	}
	setpgid(pid, pid);
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTTIN)
		return 20;
	if (tcsetpgrp(s, pid) != 0 || tcgetpgrp(s) != pid)
		return 21;
	kill(-pid, SIGCONT);
	put(s, "?y"); // TOSTOP isn't set: the background may write
	if (waitpid(pid, &status, 0) != pid)
		return 22;
	if (status != 0)
		return WEXITSTATUS(status);
	signal(SIGTTOU, SIG_IGN);
	return tcsetpgrp(s, getpid()) == 0 ? 0 : 23;
}

static void test_background(void)
{
	int m = master();
	struct termios t;

	tcgetattr(m, &t);
	t.c_lflag &= ~(ICANON | ECHO);
	tcsetattr(m, TCSANOW, &t);
	CHECK_EQ(session(m, background), 0);
	close(m);
}

static int hung_up(int s)
{
	char b[4];

	put(s, "!");
	for (int i = 0; i < 200 && !hangups; i++)
		usleep(10000);
	if (hangups != 1)
		return 1;
	if (read(s, b, 1) != 0)
		return 2;
	if (open("/dev/tty", O_RDWR) != -1 || errno != ENXIO)
		return 3;
	return 0;
}

static void test_hangup(void) { CHECK_EQ(session(master(), hung_up), 0); }

static int pipes[2];

static int leaves(int s)
{
	pid_t pid = fork();

	(void)s;
	if (pid == 0) {
		alarm(20);
		for (int i = 0; i < 300 && !hangups; i++)
			usleep(10000);
		if (write(pipes[1], hangups ? "h" : "n", 1) != 1)
			_exit(1);
		_exit(0);
	}
	return 0; // the leader ends: the foreground gets SIGHUP
}

static void test_leader_exits(void)
{
	int m = master();
	char c;

	CHECK_EQ(pipe(pipes), 0);
	CHECK_EQ(session(m, leaves), 0);
	CHECK_EQ(read(pipes[0], &c, 1), 1);
	CHECK_EQ(c, 'h');
	close(m);
}

TESTS({"open", test_open}, {"settings", test_settings}, {"lines", test_lines}, {"raw", test_raw}, {"closing", test_closing},
      {"peer", test_peer}, {"packets", test_packets}, {"controlling", test_controlling}, {"background", test_background},
      {"hangup", test_hangup}, {"leader-exits", test_leader_exits})
