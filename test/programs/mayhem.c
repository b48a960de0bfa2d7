// Calls system calls at random, with arguments that are nearly right: mayhem
// SEED CHILDREN CALLS. Every child is a process with descriptors, buffers and
// paths of all kinds to take arguments from, some with several threads; what it
// does follows from its seed alone (MAYHEM=1 in the environment tells how each ended). Whatever they do, the first process must go
// on, and the kernel hold no more at the end than it held at the start.
//
// On Linux the children are nobody's, in namespaces of their own. In the guest
// they are root's. With a fourth argument the child of that number runs alone.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static int guest; // Elver, rather than Linux

// --- Chance ---

static __thread uint64_t state;

static uint64_t any(void) // xorshift64*
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t n) { return any() % n; }
static int one_in(int n) { return below(n) == 0; }

// --- What arguments are taken from ---

enum { nfds = 40, page = 4096, large = 2 << 20 };

static int fds[nfds], opened;
static char *pages;    // read and written, 16 pages
static char *readonly; // one page
static char *nothing;  // one page, PROT_NONE
static char *shared;   // of a file, four pages, the last beyond its end
static char *region;   // 32 pages for calls that map, unmap and protect
static char *wide;     // the same, room for three large pages

static const char *const paths[] = {
    ".", "..", "/", "a", "b", "dir", "dir/c", "dir/../a", "link", "fifo", "socket", "none", "none/none", "", "a/", "dir/.",
    "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/shm/mayhem", "/proc/self/maps", "/proc/self/fd/3",
    "/proc/self/mem", "/proc/self/status", "/proc/self/cwd", "/proc/self/task", "/proc/meminfo", "/proc/sys/kernel/hostname",
    "/sys/devices/system/cpu/online", "/proc/self/fdinfo", "/proc/self/exe", "/proc/thread-self/comm", "/proc/net/tcp", "/tmp", "/dev/fd/0",
};

static int add(int fd)
{
	if (fd >= 0 && opened < nfds)
		fds[opened++] = fd;
	return fd;
}

static void open_everything(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "socket"};
	sigset_t set;
	int p[2], s;
	socklen_t n = sizeof in;

	opened = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (pipe2(p, O_NONBLOCK * below(2)) == 0)
		add(p[0]), add(p[1]);
	if (socketpair(AF_UNIX, below(2) ? SOCK_STREAM : SOCK_SEQPACKET, 0, p) == 0)
		add(p[0]), add(p[1]);
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, p) == 0)
		add(p[0]), add(p[1]);
	add(epoll_create1(0));
	add(eventfd(below(3), below(2) * EFD_SEMAPHORE));
	add(timerfd_create(CLOCK_MONOTONIC, 0));
	add(signalfd(-1, &set, 0));
	add(inotify_init1(IN_NONBLOCK * below(2)));
	add(memfd_create("mayhem", MFD_ALLOW_SEALING));
	mkdir("dir", 0777);
	mkfifo("fifo", 0666);
	symlink("dir/c", "link");
	if (add(open("a", O_RDWR | O_CREAT, 0666)) >= 0)
		ftruncate(fds[opened - 1], 3 * page / 2);
	add(open("a", O_RDONLY | O_PATH));
	add(open("dir", O_RDONLY | O_DIRECTORY));
	add(open("dir/c", O_RDWR | O_CREAT | O_APPEND, 0666));
	add(open("fifo", O_RDWR));
	add(open("/dev/null", O_RDWR));
	add(open("/dev/zero", O_RDWR));
	add(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	add(open("/proc/self/maps", O_RDONLY));
	add(open("/proc/self/task", O_RDONLY));
	s = add(socket(AF_INET, SOCK_STREAM, 0));
	if (s >= 0 && bind(s, (void *)&in, sizeof in) == 0 && listen(s, 4) == 0 && getsockname(s, (void *)&in, &n) == 0) {
		int c = add(socket(AF_INET, SOCK_STREAM, 0));
		if (c >= 0 && connect(c, (void *)&in, sizeof in) == 0)
			add(accept(s, NULL, NULL));
	}
	add(socket(AF_INET6, SOCK_DGRAM, 0));
	s = add(socket(AF_UNIX, SOCK_STREAM, 0));
	if (s >= 0 && bind(s, (void *)&un, sizeof un) == 0)
		listen(s, 4);
	add(socket(AF_NETLINK, SOCK_RAW, 0));
	add(syscall(SYS_pidfd_open, getpid(), 0));

	pages = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	readonly = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	nothing = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	region = mmap(NULL, 32 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	wide = mmap(NULL, 4 * large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	wide = (char *)(((uintptr_t)wide + large - 1) & -large);
	madvise(wide, 3 * large, MADV_HUGEPAGE);
	s = open("a", O_RDWR);
	shared = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, s, 0);
	if (s >= 0)
		close(s);
}

static uint64_t number(void)
{
	static const uint64_t edges[] = {0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 100, 255, 256, 511, 512, 1023, 1024, 4095, 4096, 4097, 65535, 65536,
	                                 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7ffffffffffff000, 0x7fffffffffffffff,
	                                 0x8000000000000000, 0xfffffffffffff000, -1ull, -2ull, -100ull};

	switch (below(4)) {
	case 0: return edges[below(sizeof edges / sizeof *edges)];
	case 1: return below(40);
	case 2: return 1ull << below(64);
	default: return any() >> below(64);
	}
}

static uint64_t flags(void)
{
	uint64_t f = 0;

	for (int n = below(4); n > 0; n--)
		f |= 1ull << below(one_in(8) ? 64 : 24);
	return one_in(3) ? below(16) : f;
}

static uint64_t length(void) { return one_in(24) ? below(5) * (large / 2) : one_in(6) ? number() : below(one_in(3) ? 12 * page : 200); }

static void *address(void)
{
	switch (below(14)) {
	case 13: return wide + below(3 * large);
	case 12: return region + below(32 * page);
	case 0: return NULL;
	case 1: return readonly;
	case 2: return nothing;
	case 3: return shared + below(4 * page);
	case 4: return (void *)number();
	case 5: return pages + 16 * page - below(64); // its end
	case 6: return shared + page - below(16);
	default: return pages + below(12 * page) / 8 * 8;
	}
}

static int fd(void)
{
	if (one_in(12))
		return (int)number();
	return opened ? fds[below(opened)] : 0;
}

// fill makes a structure of small numbers, pointers, descriptors and noise.
static void *fill(void)
{
	uint64_t *p = (uint64_t *)(pages + below(12 * page) / 8 * 8);

	if (one_in(8))
		return address();
	for (int i = 0; i < 32; i++)
		switch (below(6)) {
		case 0: p[i] = (uint64_t)address(); break;
		case 1: p[i] = number(); break;
		case 2: p[i] = (uint32_t)fd() | flags() << 32; break;
		case 3: p[i] = below(16) | below(16) << 32; break;
		default: p[i] = 0;
		}
	return p;
}

static void *vector(void)
{
	struct iovec *v = (void *)(pages + below(8 * page) / 8 * 8);

	for (int i = 0; i < 12; i++)
		v[i] = (struct iovec){address(), one_in(10) ? number() : below(2 * page)};
	return one_in(12) ? address() : v;
}

static void *socket_address(void)
{
	char *p = pages + below(12 * page) / 8 * 8;

	if (one_in(6))
		return fill();
	switch (below(4)) {
	case 0:
		*(struct sockaddr_un *)p = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "socket"};
		p[2] *= below(2); // or abstract
		break;
	case 1:
		*(struct sockaddr_in6 *)p = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = below(65536), .sin6_addr = in6addr_loopback};
		break;
	default:
		*(struct sockaddr_in *)p = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = below(65536), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	}
	return p;
}

static void *message(void)
{
	struct msghdr *m = (void *)(pages + 13 * page);
	struct cmsghdr *c = (void *)(pages + 14 * page);

	if (one_in(10))
		return fill();
	memset(m, 0, 4 * sizeof *m);
	for (int i = 0; i < 4; i++)
		m[i] = (struct msghdr){.msg_name = one_in(2) ? socket_address() : NULL, .msg_namelen = below(32), .msg_iov = vector(), .msg_iovlen = below(6),
		                       .msg_control = one_in(2) ? c : NULL, .msg_controllen = below(80)};
	c->cmsg_len = one_in(6) ? number() : CMSG_LEN(below(4) * 4);
	c->cmsg_level = one_in(4) ? (int)number() : SOL_SOCKET;
	c->cmsg_type = 1 + below(3);
	for (int i = 0; i < 4; i++)
		((int *)CMSG_DATA(c))[i] = fd();
	return m;
}

static void *times(void)
{
	struct timespec *t = (void *)(pages + below(12 * page) / 8 * 8);

	if (one_in(8))
		return fill();
	for (int i = 0; i < 4; i++)
		t[i] = one_in(8) ? (struct timespec){number(), number()} : (struct timespec){0, below(3000000)};
	return t;
}

static const char *path(void)
{
	char *p = pages + below(12 * page);

	switch (below(16)) {
	case 0: return address();
	case 1: // too long
		memset(p, 'x', 2 * page);
		p[2 * page] = 0;
		return p;
	default: return paths[below(sizeof paths / sizeof *paths)];
	}
}

// --- Calls ---

// Arguments by letter: f descriptor, p path, b buffer, l length, n number, F flags, o small number, s signal, i process, a address
// in the region, u structure, v iovecs, A socket address, M message, t times, d directory descriptor, z 0, I ioctl, L level of a socket option,
// C command of fcntl, G operation of futex. Others are anything.
static const struct {
	int number;
	const char *args;
} known[] = {
    {SYS_read, "fbl"}, {SYS_write, "fbl"}, {SYS_open, "pFn"}, {SYS_openat, "dpFn"}, {SYS_close, "f"}, {SYS_stat, "pb"}, {SYS_fstat, "fb"},
    {SYS_lstat, "pb"}, {SYS_poll, "uot"}, {SYS_ppoll, "uotul"}, {SYS_lseek, "fno"}, {SYS_mmap, "alFFfn"}, {SYS_mmap, "zlooFn"},
    {SYS_mprotect, "alo"}, {SYS_munmap, "al"}, {SYS_mremap, "allFa"}, {SYS_madvise, "alo"}, {SYS_mincore, "alb"}, {SYS_msync, "alo"},
    {SYS_mlock, "al"}, {SYS_munlock, "al"}, {SYS_mlock2, "alo"}, {SYS_brk, "n"}, {SYS_ioctl, "fIu"}, {SYS_ioctl, "fIu"}, {SYS_ioctl, "fIn"}, {SYS_ioctl, "fnu"}, {SYS_pread64, "fbln"},
    {SYS_pwrite64, "fbln"}, {SYS_readv, "fvo"}, {SYS_writev, "fvo"}, {SYS_preadv2, "fvonzF"}, {SYS_pwritev2, "fvonzF"}, {SYS_access, "po"},
    {SYS_faccessat2, "dpoF"}, {SYS_pipe2, "bF"}, {SYS_select, "ouuut"}, {SYS_pselect6, "ouuutu"}, {SYS_dup, "f"}, {SYS_dup3, "ffF"},
    {SYS_nanosleep, "tb"}, {SYS_clock_nanosleep, "ootb"}, {SYS_getitimer, "ob"}, {SYS_sendfile, "ffbl"}, {SYS_socket, "oon"},
    {SYS_socketpair, "oonb"}, {SYS_connect, "fAo"}, {SYS_accept4, "fbbF"}, {SYS_sendto, "fblFAo"}, {SYS_recvfrom, "fblFbb"},
    {SYS_sendmsg, "fMF"}, {SYS_recvmsg, "fMF"}, {SYS_sendmmsg, "fMoF"}, {SYS_recvmmsg, "fMoFt"}, {SYS_shutdown, "fo"}, {SYS_bind, "fAo"},
    {SYS_listen, "fn"}, {SYS_getsockname, "fbb"}, {SYS_getpeername, "fbb"}, {SYS_setsockopt, "fLouo"}, {SYS_setsockopt, "fLobl"}, {SYS_setsockopt, "fLnul"},
    {SYS_getsockopt, "fLobu"}, {SYS_getsockopt, "fLnbu"}, {SYS_wait4, "ibFb"}, {SYS_waitid, "oibFb"}, {SYS_uname, "b"}, {SYS_fcntl, "foF"}, {SYS_fcntl, "fCo"}, {SYS_fcntl, "fCu"}, {SYS_fcntl, "fou"},
    {SYS_fcntl, "fnf"}, {SYS_flock, "fo"}, {SYS_fsync, "f"}, {SYS_fdatasync, "f"}, {SYS_truncate, "pn"}, {SYS_ftruncate, "fl"},
    {SYS_getdents64, "fbl"}, {SYS_getcwd, "bl"}, {SYS_chdir, "p"}, {SYS_fchdir, "f"}, {SYS_renameat2, "dpdpF"}, {SYS_mkdirat, "dpn"},
    {SYS_rmdir, "p"}, {SYS_linkat, "dpdpF"}, {SYS_unlinkat, "dpF"}, {SYS_symlinkat, "pdp"}, {SYS_readlinkat, "dpbl"}, {SYS_fchmodat, "dpn"},
    {SYS_fchmod, "fn"}, {SYS_fchown, "fnn"}, {SYS_fchownat, "dpnnF"}, {SYS_umask, "n"}, {SYS_getrlimit, "ob"}, {SYS_prlimit64, "ioub"},
    {SYS_getrusage, "ob"}, {SYS_sysinfo, "b"}, {SYS_times, "b"}, {SYS_syslog, "obl"}, {SYS_rt_sigaction, "subl"}, {SYS_rt_sigprocmask, "oubl"},
    {SYS_rt_sigpending, "bl"}, {SYS_rt_sigtimedwait, "ubtl"}, {SYS_rt_sigqueueinfo, "isu"}, {SYS_sigaltstack, "ub"}, {SYS_mknodat, "dpnn"},
    {SYS_personality, "n"}, {SYS_statfs, "pb"}, {SYS_fstatfs, "fb"}, {SYS_getpriority, "oi"}, {SYS_sched_getparam, "ib"},
    {SYS_sched_setscheduler, "iou"}, {SYS_sched_getattr, "ibnz"}, {SYS_sched_setattr, "iuz"}, {SYS_sched_setaffinity, "ilu"},
    {SYS_sched_getaffinity, "ilb"}, {SYS_prctl, "ouuuu"}, {SYS_prctl, "onnnn"}, {SYS_arch_prctl, "nu"}, {SYS_setxattr, "ppblF"},
    {SYS_fsetxattr, "fpblF"}, {SYS_getxattr, "ppbl"}, {SYS_fgetxattr, "fpbl"}, {SYS_listxattr, "pbl"}, {SYS_flistxattr, "fbl"},
    {SYS_removexattr, "pp"}, {SYS_futex, "uonoun"}, {SYS_futex, "uGotuo"}, {SYS_futex, "uontun"}, {SYS_futex, "uottuo"}, {SYS_io_setup, "ou"}, {SYS_epoll_ctl, "fofu"},
    {SYS_epoll_wait, "fboo"}, {SYS_epoll_pwait2, "fbotul"}, {SYS_timer_create, "ouu"}, {SYS_timer_settime, "oouu"}, {SYS_timer_gettime, "ob"},
    {SYS_timer_delete, "o"}, {SYS_timerfd_settime, "fotb"}, {SYS_timerfd_gettime, "fb"}, {SYS_timerfd_create, "oF"}, {SYS_eventfd2, "nF"},
    {SYS_signalfd4, "fulF"}, {SYS_inotify_add_watch, "fpF"}, {SYS_inotify_rm_watch, "fo"}, {SYS_splice, "fufulF"}, {SYS_tee, "fflF"},
    {SYS_vmsplice, "fvoF"}, {SYS_copy_file_range, "fufulF"}, {SYS_fallocate, "fonn"}, {SYS_fadvise64, "fnno"}, {SYS_readahead, "fnl"},
    {SYS_sync_file_range, "fnnF"}, {SYS_utimensat, "dptF"}, {SYS_name_to_handle_at, "dpubF"}, {SYS_open_by_handle_at, "fuF"},
    {SYS_memfd_create, "pF"}, {SYS_getrandom, "blF"}, {SYS_process_vm_readv, "ivovoz"}, {SYS_process_vm_writev, "ivovoz"}, {SYS_kcmp, "iioff"},
    {SYS_statx, "dpFFb"}, {SYS_openat2, "dpul"}, {SYS_close_range, "ffF"}, {SYS_pidfd_open, "iF"}, {SYS_pidfd_send_signal, "fsuz"},
    {SYS_pidfd_getfd, "ffz"}, {SYS_clone3, "ul"}, {SYS_membarrier, "oFo"}, {SYS_rseq, "ulFn"}, {SYS_set_robust_list, "ul"},
    {SYS_get_robust_list, "ibb"}, {SYS_semget, "nnF"}, {SYS_semop, "ouo"}, {SYS_semctl, "ooou"}, {SYS_shmget, "nlF"}, {SYS_shmat, "oaF"},
    {SYS_shmdt, "a"}, {SYS_shmctl, "oob"}, {SYS_msgget, "nF"}, {SYS_msgsnd, "oulF"}, {SYS_msgrcv, "oblnF"}, {SYS_msgctl, "oob"},
    {SYS_mq_open, "pFnu"}, {SYS_mq_timedsend, "fblot"}, {SYS_mq_timedreceive, "fblbt"}, {SYS_mq_notify, "fu"}, {SYS_mq_getsetattr, "fub"},
    {SYS_ptrace, "oiuu"}, {SYS_seccomp, "oFu"}, {SYS_capget, "uu"}, {SYS_capset, "uu"}, {SYS_setresuid, "nnn"}, {SYS_setgroups, "ou"},
    {SYS_getgroups, "ob"}, {SYS_setpgid, "io"}, {SYS_getsid, "i"}, {SYS_execve, "puu"}, {SYS_execveat, "dpuuF"}, {SYS_mount, "pppFu"},
    {SYS_umount2, "pF"}, {SYS_chroot, "p"}, {SYS_pivot_root, "pp"}, {SYS_sethostname, "bl"}, {SYS_io_submit, "nou"}, {SYS_io_getevents, "noobt"},
    {SYS_io_destroy, "n"}, {SYS_process_madvise, "fvooz"}, {SYS_remap_file_pages, "alono"}, {SYS_futex_waitv, "uoFto"}, {SYS_fchmodat2, "dpnF"},
    {SYS_process_mrelease, "fz"}, {SYS_set_mempolicy, "oun"}, {SYS_get_mempolicy, "bbnaF"}, {SYS_mbind, "alounF"}, {SYS_pkey_mprotect, "aloo"},
    {SYS_clock_getres, "ob"}, {SYS_clock_gettime, "ob"}, {SYS_modify_ldt, "oul"}, {SYS_ioprio_set, "oio"}, {SYS_rt_sigsuspend, "ul"},
    {SYS_pause, ""}, {SYS_restart_syscall, ""}, {SYS_rt_sigreturn, ""}, {SYS_sync, ""}, {SYS_setsid, ""}, {SYS_munlockall, ""}, {SYS_mlockall, "F"},
};

// left_out are calls that end the game rather than play it: the machine's end, its clock, and endings of one's own.
static int left_out(int n)
{
	switch (n) {
	case SYS_reboot: case SYS_settimeofday: case SYS_clock_settime: case SYS_adjtimex: case SYS_clock_adjtime:
	case SYS_exit: case SYS_exit_group: case SYS_kexec_load: case SYS_kexec_file_load:
	case SYS_vfork: case SYS_fork: case SYS_clone: // below, counted
	case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_tgsigqueueinfo: // below, to oneself
		return 1;
	// What outlives the program: only in a machine that ends with it.
	case SYS_mount: case SYS_umount2: case SYS_pivot_root: case SYS_chroot: case SYS_sethostname: case SYS_setdomainname:
	case SYS_swapon: case SYS_swapoff: case SYS_init_module: case SYS_finit_module: case SYS_delete_module: case SYS_acct: case SYS_syslog:
	case SYS_sync: case SYS_quotactl: case SYS_mlockall:
		return !guest;
	}
	return 0;
}

static uint64_t argument(char kind)
{
	switch (kind) {
	case 'f': return fd();
	case 'd': return one_in(3) ? (uint64_t)fd() : (uint64_t)AT_FDCWD;
	case 'p': return (uint64_t)path();
	case 'b': return (uint64_t)address();
	case 'l': return length();
	case 'n': return number();
	case 'F': return flags();
	case 'o': return one_in(16) ? number() : below(32);
	case 's': return one_in(10) ? number() : 1 + below(64);
	case 'i': return one_in(3) ? 0 : one_in(4) ? number() | 1 << 22 : (uint64_t)getpid();
	case 'a':
		if (one_in(3))
			return (uint64_t)wide + (one_in(2) ? below(6) * (large / 2) : below(3 * large / page) * page);
		return one_in(10) ? number() : (uint64_t)region + below(32) * page;
	case 'u': return (uint64_t)fill();
	case 'v': return (uint64_t)vector();
	case 'A': return (uint64_t)socket_address();
	case 'M': return (uint64_t)message();
	case 't': return (uint64_t)times();
	case 'z': return 0;
	case 'I': // terminals, files, sockets and interfaces
		switch (below(4)) {
		case 0: return 0x5400 + below(0x80);
		case 1: return 0x8900 + below(0xff);
		case 2: return (uint64_t[]){0x80045430, 0x40045431, 0x5441, 0x80046601, 0x40086602, 0x80086601, 0x40087602, 0xc020660b, 0x40049409, 0x1260, 0x127b, 0x40045436}[below(12)];
		}
		return any();
	case 'L': return (uint64_t[]){SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, 255, 263, 270, 58}[below(9)];
	case 'C': return 1024 + below(20);
	case 'G': return below(14) | below(4) << 7;
	}
	return (uint64_t[]){number(), (uint64_t)address(), fd(), flags(), (uint64_t)fill(), (uint64_t)path()}[below(6)];
}

// called is what a child calls now, for whom asks why it never ended.
static struct call {
	uint64_t number, args[6];
} *called;
static volatile int *played; // how many calls it has made

static void one_call(int thread)
{
	int number, i;
	const char *kinds = "";
	struct call c = {0};

	if (one_in(16))
		number = below(470);
	else {
		i = below(sizeof known / sizeof *known);
		number = known[i].number;
		kinds = known[i].args;
	}
	if (one_in(200)) {
		if (one_in(2))
			raise(one_in(4) ? SIGSTOP : 1 + below(64));
		else if (fork() == 0)
			_exit(below(256));
		return;
	}
	if (left_out(number) || ((number == SYS_rt_sigreturn || number == SYS_brk) && !one_in(20)))
		return;
	c.number = number;
	for (i = 0; i < 6; i++)
		c.args[i] = argument(*kinds ? *kinds++ : '?');
	if (number == SYS_prlimit64 && c.args[1] == RLIMIT_CPU)
		return;
	called[thread] = c;
	syscall(number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5]);
}

// --- Children ---

static int calls;
static uint64_t seed;

static __thread sigjmp_buf again;

static void nudge(int sig) { (void)sig; }

// A wild pointer costs the rest of the call; what the buffers were comes back.
static void fault(int sig)
{
	mmap(pages, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(region, 32 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(wide, 3 * large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	madvise(wide, 3 * large, MADV_HUGEPAGE);
	siglongjmp(again, sig);
}

// prepare lets calls that wait end by a signal soon.
static void prepare(void)
{
	struct sigaction a = {.sa_handler = nudge};
	struct itimerval every = {{0, 20000}, {0, 20000}};

	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sigaction(SIGALRM, &a, NULL);
	for (int sig = 1; sig < 64; sig++)
		if (sig != SIGALRM && sig != SIGCHLD && one_in(2))
			sigaction(sig, &a, NULL);
	a.sa_handler = fault;
	sigaction(SIGSEGV, &a, NULL);
	sigaction(SIGBUS, &a, NULL);
	signal(SIGPIPE, SIG_IGN);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void *play(void *arg)
{
	int thread = (intptr_t)arg;

	state = seed * 1000003 + thread * 7919 + 1;
	for (int i = 0; i < 4; i++)
		any();
	volatile int i = 0;
	sigsetjmp(again, 1);
	for (; i < calls; i++, ++*played) {
		if (thread == 0 && i % 16 == 15)
			prepare();
		one_call(thread);
	}
	return NULL;
}

static void child(void)
{
	char dir[64];
	pthread_t t;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(dir, sizeof dir, "%d", getpid());
	mkdir(dir, 0777);
	if (!guest && (chown(dir, 65534, 65534) < 0 || chdir(dir) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
		_exit(0); // somebody who isn't root: nothing is theirs to break, so nothing is tried
	if (guest && chdir(dir) < 0)
		_exit(0);
	setpgid(0, 0);
	for (int i = 0; i < 3; i++)
		dup2(open("/dev/null", O_RDWR), i);
	setrlimit(RLIMIT_AS, &(struct rlimit){256 << 20, 256 << 20});
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 20, 1 << 20});
	setrlimit(RLIMIT_NPROC, &(struct rlimit){100, 100});
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	state = seed + 1;
	any();
	open_everything();
	prepare();
	if (seed % 4 == 0)
		for (intptr_t i = 1; i < 4; i++)
			pthread_create(&t, NULL, play, (void *)i);
	play(0);
	_exit(0);
}

static void clean(const char *dir)
{
	char command[100];

	// Not by system(3): a shell is not there in every guest.
	snprintf(command, sizeof command, "%s/dir/c", dir), unlink(command);
	for (const char *const *p = (const char *const[]){"a", "b", "link", "fifo", "socket", "none", NULL}; *p; p++)
		snprintf(command, sizeof command, "%s/%s", dir, *p), unlink(command);
	snprintf(command, sizeof command, "%s/dir", dir), rmdir(command);
	rmdir(dir);
}

// alive checks that the basics still work.
static int alive(void)
{
	int p[2], status;
	char c = 0;
	pid_t pid;

	if (pipe(p) < 0)
		return 0;
	if ((pid = fork()) == 0)
		_exit(write(p[1], "x", 1) == 1 ? 7 : 8);
	if (pid < 0 || read(p[0], &c, 1) != 1 || c != 'x' || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
		return 0;
	close(p[0]);
	close(p[1]);
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	int children = argc > 2 ? atoi(argv[2]) : 40, only = argc > 4 ? atoi(argv[4]) : -1;
	struct utsname u;
	char base[] = "/tmp/mayhem.XXXXXX";

	setlinebuf(stdout);
	calls = argc > 3 ? atoi(argv[3]) : 200;
	uname(&u);
	guest = access("/proc/elver", F_OK) == 0;
	if (!guest) {
		int status;
		pid_t pid;

		// Without a world of their own nothing is tried.
		if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWPID) < 0) {
			printf("ok mayhem\n");
			return 0;
		}
		if ((pid = fork()) != 0)
			return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	}
	if (guest && first % 2) { // large pages everywhere
		int policy = open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY);

		if (write(policy, "always", 6) != 6) {
			printf("FAIL large pages for all: %s\n", strerror(errno));
			return 1;
		}
		close(policy);
	}
	mkdir("/tmp", 01777);
	if (!mkdtemp(base) || chmod(base, 0777) < 0 || chdir(base) < 0) {
		perror(base);
		return 1;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	played = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	called = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < children; i++) {
		int status, waited = 0;
		char dir[16];
		pid_t pid;

		if (only >= 0 && i != only)
			continue;
		seed = first * 100000 + i;
		*played = 0;
		if ((pid = fork()) == 0)
			child();
		if (pid < 0) {
			printf("FAIL fork before child %d: %s\n", i, strerror(errno));
			return 1;
		}
		// It has 5 s, and its stopped ones go on.
		while (waitpid(pid, &status, WNOHANG) != pid) {
			nanosleep(&(struct timespec){0, 10000000}, NULL);
			if (waited++ % 10 == 9)
				kill(pid, SIGCONT);
			if (waited >= 500)
				kill(pid, SIGKILL);
			if (waited == 3000) {
				printf("FAIL child %d can't be killed in call %d(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)\n", i, (int)called->number, called->args[0],
				       called->args[1], called->args[2], called->args[3], called->args[4], called->args[5]);
				return 1;
			}
		}
		if (only >= 0 || getenv("MAYHEM"))
			printf("child %d: status %#x after %d calls, the last %d(%#lx, %#lx, %#lx)\n", i, status, *played, (int)called->number, called->args[0],
			       called->args[1], called->args[2]);
		// What it leaves behind is ours, and ends; we are process 1.
		if (getpid() == 1)
			kill(-1, SIGKILL);
		for (int j = 0; (pid_t)waitpid(-1, &status, WNOHANG) >= 0; j++) {
			if (j == 10000) {
				printf("FAIL child %d leaves children that can't be killed\n", i);
				return 1;
			}
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		}
		snprintf(dir, sizeof dir, "%d", pid);
		clean(dir);
		if (!alive()) {
			printf("FAIL after child %d the machine is no more what it was\n", i);
			return 1;
		}
	}
	rmdir(base);
	printf("ok mayhem\n");
	return 0;
}
