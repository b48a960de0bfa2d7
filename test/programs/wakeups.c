// No wakeup is lost: two threads pass a turn to and fro by each means there is,
// while a timer interrupts them at random instants. A lost wakeup is a hang, which
// the watchdog reports. The argument ROUNDS=n changes how long it takes.
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

// Of linux/futex.h, which musl's compiler wrapper doesn't find.
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1

static int rounds = 400;

static uint64_t seed = 88172645463325252ULL;
static unsigned chance(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 33) % n;
}

// Interrupts at random instants: the timer sets itself anew.
static timer_t disturber;

static void disturb(int sig)
{
	struct itimerspec when = {.it_value.tv_nsec = 20000 + (long)chance(400000)};

	timer_settime(disturber, 0, &when, NULL);
	if (sig && chance(4) == 0)
		sched_yield();
}

static void delay(void)
{
	for (volatile unsigned i = chance(3) ? 0 : chance(3000); i > 0; i--)
		;
	if (chance(16) == 0)
		sched_yield();
}

// A way has two ends; pass gives the turn to the other end, take waits for it.
struct way {
	void (*pass)(int to);
	void (*take)(int me);
};

static struct way way;
static volatile int broken;

#define MUST(cond)                      \
	do {                            \
		if (!(cond))            \
			broken = __LINE__; \
	} while (0)

static void *partner(void *arg)
{
	for (int i = 0; i < rounds && !broken; i++) {
		way.take(1);
		delay();
		way.pass(0);
	}
	return arg;
}

static void run(struct way w)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct sigaction a = {.sa_handler = disturb, .sa_flags = SA_RESTART};
	pthread_t t;

	way = w;
	broken = 0;
	CHECK_EQ(sigaction(SIGALRM, &a, NULL), 0);
	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &ev, &disturber), 0);
	CHECK_EQ(pthread_create(&t, NULL, partner, NULL), 0);
	disturb(0);
	for (int i = 0; i < rounds && !broken; i++) {
		delay();
		way.pass(1);
		way.take(0);
	}
	signal(SIGALRM, SIG_IGN);
	timer_delete(disturber);
	CHECK_EQ(broken, 0);
	CHECK_EQ(pthread_join(t, NULL), 0);
}

// EINTR, of the calls that never restart, is not a wakeup.
#define AGAIN(call)                                        \
	({                                                 \
		long r_;                                   \
		do                                         \
			r_ = (long)(call);                 \
		while (r_ < 0 && errno == EINTR);          \
		r_;                                        \
	})

static int word[2];
static void futex_pass(int to)
{
	__atomic_store_n(&word[to], 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &word[to], FUTEX_WAKE, 1, NULL, NULL, 0);
}
static void futex_take(int me)
{
	while (!__atomic_exchange_n(&word[me], 0, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &word[me], FUTEX_WAIT, 0, NULL, NULL, 0);
}
static void test_futex(void) { run((struct way){futex_pass, futex_take}); }

static void futex_take_timed(int me)
{
	struct timespec soon = {0, 1000 + (long)chance(100000)};

	while (!__atomic_exchange_n(&word[me], 0, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &word[me], FUTEX_WAIT, 0, &soon, NULL, 0);
}
static void test_futex_timed(void) { run((struct way){futex_pass, futex_take_timed}); }

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn = 0;
static void cond_pass(int to)
{
	pthread_mutex_lock(&mutex);
	turn = to + 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
}
static void cond_take(int me)
{
	pthread_mutex_lock(&mutex);
	while (turn != me + 1)
		pthread_cond_wait(&cond, &mutex);
	turn = 0;
	pthread_mutex_unlock(&mutex);
}
static void test_condition(void) { run((struct way){cond_pass, cond_take}); }

static sem_t sems[2];
static void sem_pass(int to) { MUST(sem_post(&sems[to]) == 0); }
static void sem_take(int me) { MUST(AGAIN(sem_wait(&sems[me])) == 0); }
static void test_semaphore(void)
{
	sem_init(&sems[0], 0, 0);
	sem_init(&sems[1], 0, 0);
	run((struct way){sem_pass, sem_take});
}

// Descriptors: in[i] is what end i reads, out[i] what the other end writes for it.
static int in[2], out[2];
static long long unit = 1;
static void fd_pass(int to) { MUST(AGAIN(write(out[to], &unit, 8)) == 8); }
static void fd_take(int me)
{
	long long v;

	MUST(AGAIN(read(in[me], &v, 8)) == 8);
}
static void poll_take(int me)
{
	struct pollfd p = {in[me], POLLIN, 0};

	MUST(AGAIN(poll(&p, 1, -1)) == 1);
	fd_take(me);
}
static void select_take(int me)
{
	fd_set set;

	do {
		FD_ZERO(&set);
		FD_SET(in[me], &set);
	} while (select(in[me] + 1, &set, NULL, NULL, NULL) < 0 && errno == EINTR);
	fd_take(me);
}
static int ep[2];
static void epoll_take(int me)
{
	struct epoll_event ev;

	MUST(AGAIN(epoll_wait(ep[me], &ev, 1, -1)) == 1);
	fd_take(me);
}
// Edge-triggered: what is there is drained, then the next edge awaited.
static void edge_take(int me)
{
	struct epoll_event ev;
	long long v;

	for (;;) {
		ssize_t n = read(in[me], &v, 8);
		if (n == 8)
			return;
		MUST(n < 0 && (errno == EAGAIN || errno == EINTR));
		if (broken)
			return;
		MUST(AGAIN(epoll_wait(ep[me], &ev, 1, -1)) == 1);
	}
}

static void each_wait(void)
{
	static const struct {
		void (*take)(int);
		uint32_t events;
	} waits[] = {{fd_take, 0}, {poll_take, 0}, {select_take, 0}, {epoll_take, EPOLLIN}, {edge_take, EPOLLIN | EPOLLET}};

	for (unsigned i = 0; i < sizeof waits / sizeof *waits && !check_failed; i++) {
		for (int e = 0; e < 2 && waits[i].events; e++) {
			struct epoll_event ev = {.events = waits[i].events};
			ep[e] = epoll_create1(0);
			CHECK_EQ(epoll_ctl(ep[e], EPOLL_CTL_ADD, in[e], &ev), 0);
			if (waits[i].events & EPOLLET)
				fcntl(in[e], F_SETFL, O_NONBLOCK);
		}
		run((struct way){fd_pass, waits[i].take});
		for (int e = 0; e < 2 && waits[i].events; e++)
			close(ep[e]);
	}
	for (int e = 0; e < 2; e++) {
		close(in[e]);
		if (out[e] != in[e] && out[e] != in[!e])
			close(out[e]);
	}
}

static void test_pipe(void)
{
	int p[2];

	for (int e = 0; e < 2; e++) {
		CHECK_EQ(pipe(p), 0);
		in[e] = p[0];
		out[e] = p[1];
	}
	each_wait();
}

static void test_eventfd(void)
{
	for (int e = 0; e < 2; e++)
		CHECK((in[e] = out[e] = eventfd(0, EFD_SEMAPHORE)) >= 0);
	each_wait();
}

static void sockets(int type)
{
	int s[2];

	CHECK_EQ(socketpair(AF_UNIX, type, 0, s), 0);
	in[0] = out[1] = s[0];
	in[1] = out[0] = s[1];
	each_wait();
}
static void test_stream(void) { sockets(SOCK_STREAM); }
static void test_datagram(void) { sockets(SOCK_DGRAM); }
static void test_seqpacket(void) { sockets(SOCK_SEQPACKET); }

// A full pipe: the writer is the one that waits.
static void full_pass(int to)
{
	static char block[4096];

	MUST(AGAIN(write(out[to], block, sizeof block)) == sizeof block);
}
static void full_take(int me)
{
	static char block[2][4096];
	size_t done = 0;

	while (done < 4096 && !broken) {
		ssize_t n = read(in[me], block[me], 4096 - done);
		MUST(n > 0 || (n < 0 && errno == EINTR));
		done += n > 0 ? (size_t)n : 0;
	}
}
static void *pump(void *arg)
{
	for (int i = 0; i < rounds && !broken; i++)
		full_pass(1);
	return arg;
}
static void test_full_pipe(void)
{
	pthread_t t;
	int p[2];

	broken = 0;
	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(fcntl(p[1], F_SETPIPE_SZ, 4096), 4096);
	in[1] = p[0];
	out[1] = p[1];
	CHECK_EQ(pthread_create(&t, NULL, pump, NULL), 0);
	for (int i = 0; i < rounds && !broken; i++) {
		delay();
		full_take(1);
	}
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK_EQ(broken, 0);
	close(p[0]);
	close(p[1]);
}

static void timerfd_pass(int to)
{
	struct itimerspec when = {.it_value.tv_nsec = 1 + (long)chance(50000)};

	MUST(timerfd_settime(in[to], 0, &when, NULL) == 0);
}
static void test_timerfd(void)
{
	for (int e = 0; e < 2; e++)
		CHECK((in[e] = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
	run((struct way){timerfd_pass, fd_take});
	if (!check_failed)
		run((struct way){timerfd_pass, poll_take});
	close(in[0]);
	close(in[1]);
}

// Signals, blocked but while they are awaited.
static volatile pthread_t ends[2];
static volatile sig_atomic_t came[2];
static void signal_pass(int to)
{
	while (!ends[to])
		sched_yield();
	MUST(pthread_kill(ends[to], SIGRTMIN + 1 + to) == 0);
}
static void sigwait_take(int me)
{
	sigset_t set;

	ends[me] = pthread_self();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1 + me);
	MUST(AGAIN(sigwaitinfo(&set, NULL)) == SIGRTMIN + 1 + me);
}
static void on_turn(int sig) { came[sig - SIGRTMIN - 1]++; }
static void suspend_take(int me)
{
	sigset_t set;

	ends[me] = pthread_self();
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	sigdelset(&set, SIGRTMIN + 1 + me);
	while (!came[me])
		sigsuspend(&set);
	came[me]--;
}
static void signalfd_take(int me)
{
	struct signalfd_siginfo info;

	ends[me] = pthread_self();
	MUST(AGAIN(read(in[me], &info, sizeof info)) == sizeof info);
	MUST((int)info.ssi_signo == SIGRTMIN + 1 + me);
}
static void signals(void (*take)(int))
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGRTMIN + 2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGRTMIN + 1, on_turn);
	signal(SIGRTMIN + 2, on_turn);
	ends[0] = pthread_self();
	ends[1] = 0;
	run((struct way){signal_pass, take});
}
static void test_sigwait(void) { signals(sigwait_take); }
static void test_sigsuspend(void) { signals(suspend_take); }
static void test_signalfd(void)
{
	sigset_t set;

	for (int e = 0; e < 2; e++) {
		sigemptyset(&set);
		sigaddset(&set, SIGRTMIN + 1 + e);
		CHECK((in[e] = signalfd(-1, &set, 0)) >= 0);
	}
	signals(signalfd_take);
	close(in[0]);
	close(in[1]);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"futex", test_futex}, {"futex-timed", test_futex_timed}, {"condition", test_condition}, {"semaphore", test_semaphore},
		{"pipe", test_pipe}, {"eventfd", test_eventfd}, {"stream", test_stream}, {"datagram", test_datagram},
		{"seqpacket", test_seqpacket}, {"full-pipe", test_full_pipe}, {"timerfd", test_timerfd}, {"sigwait", test_sigwait},
		{"sigsuspend", test_sigsuspend}, {"signalfd", test_signalfd}};

	if (argc > 1 && sscanf(argv[1], "ROUNDS=%d", &rounds) == 1)
		argc--, argv++;
	return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
