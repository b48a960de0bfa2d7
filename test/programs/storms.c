// Programs that misbehave: threads without end, signals without end, memory
// without end (with the argument "memory", which only a machine that can be
// spared should see). They are bounded, and afterwards the kernel holds no more
// than before: threads, goroutines, frames, descriptors.
#include "check.h"
#include <dirent.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

// counter reads a line of /proc/elver/counters; 0 on Linux, which has none.
static long counter(const char *name)
{
	char line[128];
	long value = 0;
	FILE *f = fopen("/proc/elver/counters", "r");

	if (!f)
		return 0;
	while (fgets(line, sizeof line, f)) {
		size_t n = strlen(name);
		if (strncmp(line, name, n) == 0 && line[n] == ' ')
			value = atol(line + n + 1);
	}
	fclose(f);
	return value;
}

static const char *const held[] = {"threads", "goroutines", "memory_program", "memory_page_tables"};
enum { nheld = sizeof held / sizeof *held };

struct state {
	long counts[nheld];
	int fds;
};

static struct state look(void)
{
	struct state s = {.fds = 0};
	DIR *d = opendir("/proc/self/fd");

	while (d && readdir(d))
		s.fds++;
	if (d)
		closedir(d);
	for (int i = 0; i < nheld; i++)
		s.counts[i] = counter(held[i]);
	return s;
}

// settled waits until the kernel holds what it held: what ends does so in the
// background. Of program memory and page tables the tests' own may grow by a little.
static void settled(const struct state *before)
{
	const long slack[nheld] = {0, 1, 256 << 10, 64 << 10};

	for (int tries = 0;; tries++) {
		struct state now = look();
		int worse = now.fds > before->fds ? 100 : 0;

		for (int i = 0; i < nheld; i++)
			if (now.counts[i] > before->counts[i] + slack[i])
				worse = i + 1;
		if (!worse)
			return;
		if (tries == 200) {
			printf("%s: %ld before, %ld after\n", worse == 100 ? "descriptors" : held[worse - 1],
			       worse == 100 ? before->fds : before->counts[worse - 1], worse == 100 ? now.fds : now.counts[worse - 1]);
			CHECK(!"the kernel holds more than before");
		}
		sleep_ms(50);
	}
}

// child runs f in a process of its own and returns its status.
static int child(void (*f)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		f();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

// Each thread makes two more until there are enough, or the kernel says no.
enum { bomb = 1500 };
static volatile int born;

static void *multiply(void *arg)
{
	pthread_attr_t a;
	pthread_t t;

	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 16384);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < 2; i++) {
		if (__sync_add_and_fetch(&born, 1) > bomb || pthread_create(&t, &a, multiply, NULL) != 0) {
			__sync_add_and_fetch(&born, bomb);
			break;
		}
	}
	pause();
	return arg;
}

static void thread_bomb(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, multiply, NULL) != 0)
		_exit(1);
	while (born <= bomb)
		sleep_ms(1);
	raise(SIGKILL);
}

static void test_threads(void)
{
	struct state before = look();

	for (int i = 0; i < 3; i++)
		CHECK_EQ(child(thread_bomb), SIGKILL);
	settled(&before);
}

static volatile int taken;

static void count(int sig) { taken += sig != 0; }

// Signals from everybody to everybody; real-time ones are queued up to a limit.
static void signal_storm(void)
{
	struct rlimit few = {500, 500};
	union sigval v = {.sival_int = 1};
	struct timespec end, now;
	pid_t parent = getpid(), kids[4];
	sigset_t set;
	int queued = 0;

	setrlimit(RLIMIT_SIGPENDING, &few);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (sigqueue(parent, SIGRTMIN + 1, v) == 0)
		queued++;
	if (errno != EAGAIN || queued < 100 || queued > 500)
		_exit(1);
	for (int s = 1; s <= 31; s++)
		if (s != SIGKILL && s != SIGSTOP && s != SIGCHLD && s != SIGTSTP)
			signal(s, count);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec++;
	for (int i = 0; i < 4; i++) {
		kids[i] = fork();
		if (kids[i] == 0)
			for (int s = 1;; s = s % 31 + 1)
				if (s != SIGKILL && s != SIGSTOP && s != SIGCHLD && s != SIGTSTP) {
					kill(parent, s);
					kill(getpid(), s);
				}
	}
	do {
		if (taken < 0)
			_exit(2);
		getppid();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec || now.tv_nsec < end.tv_nsec);
	for (int i = 0; i < 4; i++)
		kill(kids[i], SIGKILL);
	for (int i = 0; i < 4; i++)
		while (waitpid(kids[i], NULL, 0) < 0 && errno == EINTR)
			;
	if (taken == 0)
		_exit(3);
	raise(SIGKILL); // with what is queued still pending
}

static void test_signals(void)
{
	struct state before = look();

	CHECK_EQ(child(signal_storm), SIGKILL);
	settled(&before);
}

// Every kind of descriptor, waited for by threads, all thrown away at once.
static void *reader(void *arg)
{
	char c[64];

	while (read((int)(long)arg, c, sizeof c) >= 0)
		;
	return NULL;
}

static void descriptors(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	struct itimerspec soon = {.it_value.tv_nsec = 1000000, .it_interval.tv_nsec = 1000000};
	int ep = epoll_create1(0);

	for (int i = 0; i < 50; i++) {
		int p[2], s[2], e = eventfd(0, 0), t = timerfd_create(CLOCK_MONOTONIC, 0);
		pthread_t thread;

		if (pipe(p) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, s) != 0 || e < 0 || t < 0)
			_exit(1);
		timerfd_settime(t, 0, &soon, NULL);
		epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev);
		epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &ev);
		epoll_ctl(ep, EPOLL_CTL_ADD, t, &ev);
		long fds[] = {p[0], s[0], e, t};
		if (pthread_create(&thread, NULL, reader, (void *)fds[i % 4]) != 0)
			_exit(1);
		if (write(p[1], "x", 1) != 1 || write(s[1], "x", 1) != 1)
			_exit(1);
	}
	sleep_ms(20);
	raise(SIGKILL);
}

static void test_descriptors(void)
{
	struct state before = look();

	for (int i = 0; i < 3; i++)
		CHECK_EQ(child(descriptors), SIGKILL);
	settled(&before);
}

// Memory until death.
static void all_memory(void)
{
	for (;;) {
		volatile char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			_exit(1);
		for (int i = 0; i < 1 << 20; i += 4096)
			p[i] = 1;
	}
}

static void test_memory(void)
{
	struct state before = look();

	for (int i = 0; i < 3; i++)
		CHECK_EQ(child(all_memory), SIGKILL);
	settled(&before);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"threads", test_threads}, {"signals", test_signals}, {"descriptors", test_descriptors}, {"memory", test_memory}};

	// Without an argument everything but the last.
	return check_main(argc, argv, tests, argc < 2 ? 3 : 4);
}
