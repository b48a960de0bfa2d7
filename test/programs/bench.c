// Counts what things cost by RDTSC, which under "-icount shift=0" reads
// instructions. The argument names one thing; it prints the cost of one round.
//
// As /init of a Linux initramfs it runs everything and powers off.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <linux/futex.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t ticks(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (uint64_t)hi << 32 | lo;
}

#define MEASURE(rounds, ...)                                                               \
	({                                                                                 \
		for (int i = 0; i < (rounds) / 10 + 1; i++) {                              \
			__VA_ARGS__;                                                       \
		}                                                                          \
		uint64_t start_ = ticks();                                                 \
		for (int i = 0; i < (rounds); i++) {                                       \
			__VA_ARGS__;                                                       \
		}                                                                          \
		(ticks() - start_) / (rounds);                                             \
	})

static void must(int ok)
{
	if (!ok) {
		perror("bench");
		_exit(1);
	}
}

static uint64_t null_call(void)
{
	return MEASURE(20000, { long r; __asm__ volatile("syscall" : "=a"(r) : "0"(SYS_getppid) : "rcx", "r11", "memory"); });
}

static uint64_t no_call(void)
{
	return MEASURE(20000, { long r; __asm__ volatile("syscall" : "=a"(r) : "0"(9999) : "rcx", "r11", "memory"); });
}

static uint64_t clock_read(void)
{
	struct timespec t;

	return MEASURE(20000, clock_gettime(CLOCK_MONOTONIC, &t));
}

static uint64_t write_null(void)
{
	static char block[4096];
	int fd = open("/dev/null", O_WRONLY);

	must(fd >= 0);
	return MEASURE(5000, must(write(fd, block, sizeof block) == sizeof block));
}

static uint64_t read_zero(void)
{
	static char block[4096];
	int fd = open("/dev/zero", O_RDONLY);

	must(fd >= 0);
	return MEASURE(5000, must(read(fd, block, sizeof block) == sizeof block));
}

// a_file makes a file of 64 KiB.
static int a_file(const char *name)
{
	static char block[65536];
	int fd = open(name, O_RDWR | O_CREAT, 0600);

	must(fd >= 0 && write(fd, block, sizeof block) == sizeof block);
	return fd;
}

static uint64_t open_close(void)
{
	close(a_file("/tmp/bench"));
	return MEASURE(2000, {
		int fd = open("/tmp/bench", O_RDONLY);
		must(fd >= 0);
		close(fd);
	});
}

static uint64_t stat_file(void)
{
	struct stat s;

	close(a_file("/tmp/bench"));
	return MEASURE(5000, must(stat("/tmp/bench", &s) == 0));
}

static uint64_t file_write(void)
{
	static char block[4096];
	int fd = a_file("/tmp/bench");

	return MEASURE(5000, must(pwrite(fd, block, sizeof block, 0) == sizeof block));
}

static uint64_t file_read(void)
{
	static char block[4096];
	int fd = a_file("/tmp/bench");

	return MEASURE(5000, must(pread(fd, block, sizeof block, 0) == sizeof block));
}

static uint64_t file_read_64k(void)
{
	static char block[65536];
	int fd = a_file("/tmp/bench");

	return MEASURE(2000, must(pread(fd, block, sizeof block, 0) == sizeof block));
}

// Each page once, of a file whose pages are in memory.
static uint64_t file_fault(void)
{
	enum { pages = 2048 };
	static char block[65536];
	int fd = open("/tmp/bench-large", O_RDWR | O_CREAT, 0600);
	volatile char sum = 0;

	must(fd >= 0);
	for (int i = 0; i < pages / 16; i++)
		must(write(fd, block, sizeof block) == sizeof block);
	char *p = mmap(NULL, pages * 4096L, PROT_READ, MAP_PRIVATE, fd, 0);
	must(p != MAP_FAILED);
	uint64_t start = ticks();
	for (long i = 0; i < pages; i++)
		sum += p[i * 4096];
	return (ticks() - start) / pages;
}

static uint64_t first_touch(void)
{
	enum { pages = 2000 };
	char *p = mmap(NULL, (pages + 1) * 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED);
	madvise(p, (pages + 1) * 4096L, MADV_NOHUGEPAGE);
	p[pages * 4096L] = 1; // its page table is there
	uint64_t start = ticks();
	for (long i = 0; i < pages; i++)
		p[i * 4096] = 1;
	return (ticks() - start) / pages;
}

// A page of 64 MiB touched in order where large pages are asked for.
static uint64_t first_touch_large(void)
{
	enum { pages = 16384, large = 2 << 20 };
	char *p = mmap(NULL, pages * 4096L + large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED);
	p = (char *)(((uintptr_t)p + large - 1) & -large);
	madvise(p, pages * 4096L, MADV_HUGEPAGE);
	uint64_t start = ticks();
	for (long i = 0; i < pages; i++)
		p[i * 4096] = 1;
	return (ticks() - start) / pages;
}

static uint64_t map_unmap(void)
{
	return MEASURE(2000, {
		char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(p != MAP_FAILED);
		munmap(p, 4096);
	});
}

static void *pipe_partner(void *arg)
{
	int *fds = arg;
	char c;

	while (read(fds[0], &c, 1) == 1 && write(fds[3], &c, 1) == 1)
		;
	return NULL;
}

static uint64_t pipe_round_trip(void)
{
	int fds[4];
	char c = 0;
	pthread_t t;

	must(pipe(fds) == 0 && pipe(fds + 2) == 0);
	must(pthread_create(&t, NULL, pipe_partner, fds) == 0);
	return MEASURE(2000, {
		must(write(fds[1], &c, 1) == 1);
		must(read(fds[2], &c, 1) == 1);
	});
}

static void *nothing(void *arg) { return arg; }

static uint64_t thread_create_join(void)
{
	return MEASURE(500, {
		pthread_t t;
		must(pthread_create(&t, NULL, nothing, NULL) == 0);
		pthread_join(t, NULL);
	});
}

static volatile int turn;

static void futex_turn(int mine)
{
	while (turn != mine)
		syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !mine, NULL, NULL, 0);
}

static void futex_pass(int other)
{
	turn = other;
	syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *futex_partner(void *arg)
{
	for (;;) {
		futex_turn(1);
		futex_pass(0);
	}
	return arg;
}

static uint64_t futex_round_trip(void)
{
	pthread_t t;

	must(pthread_create(&t, NULL, futex_partner, NULL) == 0);
	return MEASURE(2000, {
		futex_pass(1);
		futex_turn(0);
	});
}

static void on_signal(int signal) { (void)signal; }

static uint64_t signal_to_self(void)
{
	signal(SIGUSR1, on_signal);
	pid_t pid = getpid(), tid = (pid_t)syscall(SYS_gettid);
	return MEASURE(5000, must(syscall(SYS_tgkill, pid, tid, SIGUSR1) == 0));
}

static uint64_t eventfd_epoll(void)
{
	int e = eventfd(0, 0), ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	uint64_t v = 1;

	must(e >= 0 && ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev) == 0);
	return MEASURE(3000, {
		must(write(e, &v, 8) == 8);
		must(epoll_wait(ep, &ev, 1, -1) == 1);
		must(read(e, &v, 8) == 8);
	});
}

static uint64_t epoll_one_of_1000(void)
{
	int ep = epoll_create1(0), e = -1;
	struct epoll_event ev = {.events = EPOLLIN};
	uint64_t v = 1;

	for (int i = 0; i < 1000; i++) {
		e = eventfd(0, 0);
		must(e >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev) == 0);
	}
	must(write(e, &v, 8) == 8);
	return MEASURE(3000, must(epoll_wait(ep, &ev, 1, -1) == 1));
}

// listen_on returns a socket that listens on some port of the loopback interface, and its address.
static int listen_on(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	must(l >= 0 && bind(l, (void *)a, sizeof *a) == 0 && listen(l, 10) == 0);
	must(getsockname(l, (void *)a, &n) == 0);
	return l;
}

static int dial(struct sockaddr_in *a)
{
	int one = 1, c = socket(AF_INET, SOCK_STREAM, 0);

	must(c >= 0 && connect(c, (void *)a, sizeof *a) == 0);
	setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return c;
}

// tcp_echo answers whatever comes, on one connection after the other.
static void *tcp_echo(void *arg)
{
	int l = *(int *)arg, one = 1;
	char b[16384];

	for (;;) {
		ssize_t n;
		int c = accept(l, NULL, NULL);

		must(c >= 0);
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		while ((n = read(c, b, sizeof b)) > 0)
			must(write(c, b, n) == n);
		close(c);
	}
	return NULL;
}

static uint64_t tcp_round_trip(void)
{
	struct sockaddr_in a;
	int l = listen_on(&a);
	char b[14] = "0123456789";
	pthread_t t;

	must(pthread_create(&t, NULL, tcp_echo, &l) == 0);
	int c = dial(&a);
	return MEASURE(2000, {
		must(write(c, b, sizeof b) == sizeof b);
		must(read(c, b, sizeof b) == sizeof b);
	});
}

static uint64_t tcp_connection(void)
{
	struct sockaddr_in a;
	int l = listen_on(&a);
	char b[14] = "0123456789";
	pthread_t t;

	must(pthread_create(&t, NULL, tcp_echo, &l) == 0);
	return MEASURE(300, {
		int c = dial(&a);
		must(write(c, b, sizeof b) == sizeof b);
		must(read(c, b, sizeof b) == sizeof b);
		close(c);
	});
}

enum { mebibyte = 1 << 20 };

static void *tcp_drain(void *arg)
{
	static char b[65536];
	int c = accept(*(int *)arg, NULL, NULL);
	ssize_t n;
	size_t got = 0;

	must(c >= 0);
	while ((n = read(c, b, sizeof b)) > 0)
		for (got += n; got >= mebibyte; got -= mebibyte)
			must(write(c, b, 1) == 1);
	return NULL;
}

static uint64_t tcp_mebibyte(void)
{
	static char b[65536];
	struct sockaddr_in a;
	int l = listen_on(&a);
	char done;
	pthread_t t;

	must(pthread_create(&t, NULL, tcp_drain, &l) == 0);
	int c = dial(&a);
	return MEASURE(20, {
		for (int left = mebibyte; left > 0; left -= sizeof b)
			must(write(c, b, sizeof b) == sizeof b);
		must(read(c, &done, 1) == 1);
	});
}

static void *udp_echo(void *arg)
{
	int s = *(int *)arg;
	char b[2048];

	for (;;) {
		struct sockaddr_in from;
		socklen_t n = sizeof from;
		ssize_t k = recvfrom(s, b, sizeof b, 0, (void *)&from, &n);

		must(k >= 0 && sendto(s, b, k, 0, (void *)&from, n) == k);
	}
	return NULL;
}

static uint64_t udp_round_trip(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	char b[14] = "0123456789";
	pthread_t t;

	must(s >= 0 && c >= 0 && bind(s, (void *)&a, sizeof a) == 0 && getsockname(s, (void *)&a, &n) == 0);
	must(connect(c, (void *)&a, sizeof a) == 0);
	must(pthread_create(&t, NULL, udp_echo, &s) == 0);
	return MEASURE(2000, {
		must(write(c, b, sizeof b) == sizeof b);
		must(read(c, b, sizeof b) == sizeof b);
	});
}

static void reap(pid_t child)
{
	int status;

	must(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static uint64_t fork_exit_wait(void)
{
	return MEASURE(200, {
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		reap(child);
	});
}

static uint64_t fork_with_1000_files(void)
{
	int fd = open("/dev/null", O_RDONLY);

	must(fd >= 0);
	for (int i = 0; i < 1000; i++)
		must(dup(fd) >= 0);
	return fork_exit_wait();
}

// The program itself, which ends at once when its name isn't the one it has here.
static uint64_t vfork_exec_wait(void)
{
	const char *self = (const char *)getauxval(AT_EXECFN);

	return MEASURE(200, {
		pid_t child = vfork();
		if (child == 0) {
			execl(self, "nothing", NULL);
			_exit(1);
		}
		reap(child);
	});
}

// Where busybox is; without it there is nothing to measure.
static uint64_t shell_pipeline(void)
{
	int null = open("/dev/null", O_WRONLY);

	must(null >= 0);
	if (access("/busybox", X_OK) != 0)
		return 0;
	return MEASURE(50, {
		pid_t child = vfork();
		if (child == 0) {
			dup2(null, 1);
			execl("/busybox", "sh", "-c", "echo x | /busybox cat | /busybox wc", NULL);
			_exit(1);
		}
		reap(child);
	});
}

// idle returns for how many nanoseconds the CPU was halted. They are no instructions, although the counter goes on:
// while it waits for the host's 9p server there is nothing else for the machine to do.
static uint64_t idle(void)
{
	static const char *const where[][2] = {
		{"/proc/elver/idle", ""}, {"/proc/timer_list", ".idle_sleeptime : "}};
	static char text[1 << 16];

	for (int i = 0; i < 2; i++) {
		size_t n = 0;
		ssize_t k;
		char *at;
		int fd = open(where[i][0], O_RDONLY);

		if (fd < 0)
			continue;
		while ((k = read(fd, text + n, sizeof text - 1 - n)) > 0)
			n += k;
		close(fd);
		text[n] = 0;
		at = strstr(text, where[i][1]);
		must(at != NULL);
		return strtoull(strpbrk(at, "0123456789"), NULL, 10);
	}
	must(0);
	return 0;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

// BUSY is the instructions of an act, halts left out. A kernel's nanoseconds are as good as its measurement of the
// counter's rate, and so they are converted back by its own clock.
#define BUSY(...)                                                                          \
	({                                                                                 \
		uint64_t halted_ = idle(), ns_ = now(), start_ = ticks();                  \
		__VA_ARGS__;                                                               \
		uint64_t ticks_ = ticks() - start_;                                        \
		ns_ = now() - ns_, halted_ = idle() - halted_;                             \
		ticks_ - (uint64_t)((double)halted_ * ticks_ / ns_);                       \
	})

// The share that make bench gives the machine: "data", and a tree of small files. Without one there is nothing to
// measure.
#define SHARE "/share"

static uint64_t read_data(int rounds)
{
	static char block[65536];
	int fd = open(SHARE "/data", O_RDONLY);
	uint64_t cost = 0, size = 0;
	ssize_t n;

	if (fd < 0)
		return 0;
	while (rounds-- > 0) {
		must(lseek(fd, 0, SEEK_SET) == 0);
		size = 0;
		cost = BUSY(while ((n = read(fd, block, sizeof block)) > 0) size += n);
	}
	must(size >= mebibyte);
	return cost / (size / mebibyte);
}

static uint64_t share_read(void) { return read_data(1); }
static uint64_t share_read_again(void) { return read_data(2); }

// walk stats everything beneath a directory, which it closes, and returns how much that is.
static uint64_t walk(int dir)
{
	DIR *d = fdopendir(dir);
	struct dirent *e;
	struct stat s;
	uint64_t n = 0;

	must(d != NULL);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		must(fstatat(dir, e->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0);
		n++;
		if (S_ISDIR(s.st_mode))
			n += walk(openat(dir, e->d_name, O_RDONLY | O_DIRECTORY));
	}
	closedir(d);
	return n;
}

static uint64_t share_walk(void)
{
	uint64_t n = 1, cost;

	if (access(SHARE "/tree", F_OK) != 0)
		return 0;
	cost = BUSY(n = walk(open(SHARE "/tree", O_RDONLY | O_DIRECTORY)));
	return cost / n;
}

// The best of some: what is known may be believed for a time only, and the host may be slow.
static uint64_t share_walk_again(void)
{
	uint64_t best = share_walk(), cost;

	for (int i = 0; i < 5; i++)
		if ((cost = share_walk()) < best)
			best = cost;
	return best;
}

// mount_share loads the drivers that an initramfs has in /modules, in the order of their names, and mounts the share
// with as much caching and as large messages as Linux has.
static void mount_share(void)
{
	char name[64];

	for (char c = 'a'; c <= 'z'; c++) {
		snprintf(name, sizeof name, "/modules/%c", c);
		int fd = open(name, O_RDONLY);
		if (fd < 0)
			break;
		if (syscall(SYS_finit_module, fd, "", 0) != 0)
			perror(name);
		close(fd);
	}
	mkdir(SHARE, 0755);
	mkdir("/proc", 0755);
	if (mount("none", "/proc", "proc", 0, NULL) != 0 ||
	    mount("bench", SHARE, "9p", 0, "trans=virtio,version=9p2000.L,cache=loose,msize=512000") != 0)
		perror("mount");
}

static void loopback_up(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	must(s >= 0 && ioctl(s, SIOCSIFFLAGS, &r) == 0);
	close(s);
}

// serve has port 9 read what comes until its end and answer with a byte, and port 19 send as many MiB as the
// byte that comes first says. The bench, which is their client, counts.
static void serve(void)
{
	static char block[65536];
	int listeners[2], one = 1;

	for (int i = 0; i < 2; i++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(i ? 19 : 9)};

		must((listeners[i] = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
		setsockopt(listeners[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		must(bind(listeners[i], (struct sockaddr *)&a, sizeof a) == 0 && listen(listeners[i], 10) == 0);
	}
	if (fork() == 0)
		for (;;) {
			int fd = accept(listeners[0], NULL, NULL);

			must(fd >= 0);
			while (read(fd, block, sizeof block) > 0)
				;
			must(write(fd, block, 1) == 1);
			close(fd);
		}
	for (;;) {
		unsigned char mebibytes;
		int fd = accept(listeners[1], NULL, NULL);

		must(fd >= 0);
		if (read(fd, &mebibytes, 1) == 1)
			for (long left = mebibytes << 20; left > 0;) {
				ssize_t n = write(fd, block, sizeof block);
				if (n <= 0)
					break;
				left -= n;
			}
		close(fd);
	}
}

static const struct {
	const char *name;
	uint64_t (*run)(void);
} things[] = {
	{"null", null_call},
	{"no-call", no_call},
	{"clock", clock_read},
	{"write-null", write_null},
	{"read-zero", read_zero},
	{"open", open_close},
	{"stat", stat_file},
	{"file-write", file_write},
	{"file-read", file_read},
	{"file-read-64k", file_read_64k},
	{"file-fault", file_fault},
	{"touch", first_touch},
	{"touch-large", first_touch_large},
	{"map", map_unmap},
	{"pipe", pipe_round_trip},
	{"futex", futex_round_trip},
	{"thread", thread_create_join},
	{"signal", signal_to_self},
	{"eventfd", eventfd_epoll},
	{"epoll-1000", epoll_one_of_1000},
	{"tcp", tcp_round_trip},
	{"tcp-connect", tcp_connection},
	{"tcp-mebibyte", tcp_mebibyte},
	{"udp", udp_round_trip},
	{"fork", fork_exit_wait},
	{"fork-files", fork_with_1000_files},
	{"exec", vfork_exec_wait},
	{"pipeline", shell_pipeline},
	{"9p-read", share_read},
	{"9p-read-again", share_read_again},
	{"9p-walk", share_walk},
	{"9p-walk-again", share_walk_again},
};

static void run(int i)
{
	uint64_t cost = things[i].run();

	printf("bench %s %llu\n", things[i].name, (unsigned long long)cost);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	enum { n = sizeof things / sizeof *things };

	if (strcmp(argv[0], "nothing") == 0)
		return 0;
	if (argc > 1 || strcmp(argv[0], "/init") != 0) {
		if (argc != 2)
			return 2;
		if (strcmp(argv[1], "serve") == 0)
			serve();
		for (int i = 0; i < n; i++)
			if (strcmp(argv[1], things[i].name) == 0) {
				run(i);
				return 0;
			}
		return 2;
	}
	// The init of a bare initramfs.
	mkdir("/dev", 0755);
	mkdir("/tmp", 0755);
	mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3));
	mknod("/dev/zero", S_IFCHR | 0666, makedev(1, 5));
	loopback_up();
	mount_share();
	for (int i = 0; i < n; i++) { // each in a process of its own, as elsewhere in a machine
		pid_t child = fork();
		if (child == 0) {
			execl(argv[0], argv[0], things[i].name, NULL);
			_exit(1);
		}
		waitpid(child, NULL, 0);
	}
	reboot(RB_POWER_OFF);
	return 0;
}
