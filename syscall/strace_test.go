package syscall

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// traced runs f with tracing on and returns what was written, a line per element.
func traced(t *testing.T, f func(p *program)) []string {
	t.Helper()
	p := start(t)
	var w bytes.Buffer
	Trace(&w, nil, false)
	defer func() { trace, observed = nil, false }()
	f(p)
	return strings.Split(strings.TrimSuffix(w.String(), "\n"), "\n")
}

// checkLines compares lines with wants, in which § stands for any address or number.
func checkLines(t *testing.T, lines []string, wants ...string) {
	t.Helper()
	for i, want := range wants {
		if i >= len(lines) {
			t.Errorf("no line for %s", want)
			continue
		}
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(want), `§`, `(0x[0-9a-f]+|-?[0-9]+)`) + "$"
		if !regexp.MustCompile(pattern).MatchString(lines[i]) {
			t.Errorf("line %d:\n got %s\nwant %s", i, lines[i], want)
		}
	}
	if len(lines) > len(wants) {
		t.Errorf("more lines than expected: %q", lines[len(wants):])
	}
}

// The wanted lines are what strace 6.1 prints for the same calls on Linux.
func TestStrace(t *testing.T) {
	lines := traced(t, func(p *program) {
		out := p.room(1024)
		p.call(unix.SYS_OPENAT, minus(100), p.text("/f"), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
		p.call(unix.SYS_WRITE, 0, p.text("a\tb\n\x01\x012\xff long long long long long long string\n"), 45)
		p.call(unix.SYS_OPENAT, minus(100), p.text("/f"), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		p.call(unix.SYS_READ, 1, out, 3)
		p.call(unix.SYS_LSEEK, 1, 0, unix.SEEK_END)
		p.call(unix.SYS_PREAD64, 1, out, 5, 0)
		p.call(unix.SYS_STAT, p.text("/"), out)
		p.call(unix.SYS_NEWFSTATAT, minus(100), p.text("/none"), 0x1000, 0)
		p.call(unix.SYS_WRITEV, 0, p.words(p.text("vm\n"), 3, p.memory+100000, 4), 2)
		p.call(unix.SYS_READV, 1, 1, 2)
		p.call(unix.SYS_CLOCK_GETTIME, 99, 0x1000)
		p.call(unix.SYS_CLOCK_NANOSLEEP, 1, 0, p.words(0, 1000), 0x1000)
		p.call(unix.SYS_RT_SIGACTION, 12, p.words(0x55ed4f393769, saRestorer|saOnStack|saRestart, 0x7f8258623050, 1<<9|1<<34), 0, 8)
		p.call(unix.SYS_RT_SIGACTION, 13, p.words(1, saRestorer, 0x7f8258623050, 0), out, 8)
		p.call(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, p.words(^uint64(3<<31)), 0, 8)
		p.call(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.words(0), out, 8)
		p.call(unix.SYS_PIPE2, out, unix.O_NONBLOCK|unix.O_CLOEXEC)
		p.call(unix.SYS_POLL, p.words(2|unix.POLLIN<<32, 3|(unix.POLLOUT|unix.POLLHUP)<<32), 2, 0)
		p.call(unix.SYS_POLL, p.words(2|unix.POLLIN<<32), 1, 0)
		p.call(unix.SYS_POLL, 0, 0, 1)
		p.call(unix.SYS_SELECT, 10, p.words(1<<2), p.words(1<<3), 0, 0)
		p.call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0, out)
		p.call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_STACK, 0, out)
		p.call(unix.SYS_UNAME, out)
		p.call(unix.SYS_MMAP, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, minus(1), 0)
		p.call(unix.SYS_MMAP, 0x200000, 8192, 0, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE|unix.MAP_NORESERVE, minus(1), 0)
		p.call(unix.SYS_MPROTECT, 0x200000, 4096, 7)
		p.call(unix.SYS_MADVISE, 0x200000, 4096, unix.MADV_DONTNEED)
		p.call(unix.SYS_FCNTL, 1, unix.F_GETFL)
		p.call(unix.SYS_FCNTL, 1, unix.F_SETFL, unix.O_NONBLOCK)
		p.call(unix.SYS_FCNTL, 1, unix.F_GETFD)
		p.call(unix.SYS_FCNTL, 1, unix.F_DUPFD_CLOEXEC, 100)
		p.call(unix.SYS_IOCTL, 1, unix.TIOCGWINSZ, 0x1000)
		p.call(unix.SYS_FUTEX, p.words(5), futexWait|futexPrivate, 4, 0)
		p.call(unix.SYS_FUTEX, out, futexWake|futexPrivate, 1)
		p.call(unix.SYS_FUTEX, p.words(5), futexWaitBitset|futexPrivate|futexClockRealtime, 5, p.words(0, 9), 0, 1<<32-1)
		p.call(unix.SYS_ARCH_PRCTL, archGetFS, out)
		p.call(unix.SYS_UMASK, 0o22)
		p.call(unix.SYS_ACCESS, p.text("/"), unix.R_OK|unix.X_OK)
		p.call(unix.SYS_ACCESS, p.text("/"), 0)
		p.call(unix.SYS_SCHED_GETAFFINITY, 0, 128, out)
		p.call(unix.SYS_RSEQ, out, 32, 0, 0x53053053)
		p.call(463, 1, 2, 3)
		p.call(unix.SYS_KILL, 1, 0)
		p.call(unix.SYS_GETPID)
		p.call(unix.SYS_IO_URING_SETUP, 8, 0)
		p.call(unix.SYS_EXIT_GROUP, 3)
	})
	checkLines(t, lines,
		`openat(AT_FDCWD, "/f", O_WRONLY|O_CREAT|O_TRUNC, 0600) = 0`,
		`write(0, "a\tb\n\1\0012\377 long long long long lon"..., 45) = 45`,
		`openat(AT_FDCWD, "/f", O_RDONLY|O_NONBLOCK|O_CLOEXEC) = 1`,
		`read(1, "a\tb", 3)                      = 3`,
		`lseek(1, 0, SEEK_END)                   = 45`,
		`pread64(1, "a\tb\n\1", 5, 0)            = 5`,
		`stat("/", {st_mode=S_IFDIR|0755, st_size=§, ...}) = 0`,
		`newfstatat(AT_FDCWD, "/none", 0x1000, 0) = -1 ENOENT (No such file or directory)`,
		`writev(0, [{iov_base="vm\n", iov_len=3}, {iov_base="\0\0\0\0", iov_len=4}], 2) = 7`,
		`readv(1, 0x1, 2)                        = -1 EFAULT (Bad address)`,
		`clock_gettime(0x63 /* CLOCK_??? */, 0x1000) = -1 EINVAL (Invalid argument)`,
		`clock_nanosleep(CLOCK_MONOTONIC, 0, {tv_sec=0, tv_nsec=1000}, 0x1000) = 0`,
		`rt_sigaction(SIGUSR2, {sa_handler=0x55ed4f393769, sa_mask=[USR1 RT_3], sa_flags=SA_RESTORER|SA_ONSTACK|SA_RESTART, sa_restorer=0x7f8258623050}, NULL, 8) = 0`,
		`rt_sigaction(SIGPIPE, {sa_handler=SIG_IGN, sa_mask=[], sa_flags=SA_RESTORER, sa_restorer=0x7f8258623050}, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0`,
		`rt_sigprocmask(SIG_BLOCK, ~[RTMIN RT_1], NULL, 8) = 0`,
		`rt_sigprocmask(SIG_SETMASK, [], ~[KILL STOP RTMIN RT_1], 8) = 0`,
		`pipe2([2, 3], O_NONBLOCK|O_CLOEXEC)     = 0`,
		`poll([{fd=2, events=POLLIN}, {fd=3, events=POLLOUT|POLLHUP}], 2, 0) = 1 ([{fd=3, revents=POLLOUT}])`,
		`poll([{fd=2, events=POLLIN}], 1, 0)     = 0 (Timeout)`,
		`poll(NULL, 0, 1)                        = 0 (Timeout)`,
		`select(10, [2], [3], NULL, NULL)        = 1 (out [3])`,
		`prlimit64(0, RLIMIT_NOFILE, NULL, {rlim_cur=1024, rlim_max=1024*1024}) = 0`,
		`prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0`,
		`uname({sysname="Linux", nodename="elver", ...}) = 0`,
		`mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = §`,
		`mmap(0x200000, 8192, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE|MAP_FIXED_NOREPLACE, -1, 0) = 0x200000`,
		`mprotect(0x200000, 4096, PROT_READ|PROT_WRITE|PROT_EXEC) = 0`,
		`madvise(0x200000, 4096, MADV_DONTNEED)  = 0`,
		`fcntl(1, F_GETFL)                       = 0x8800 (flags O_RDONLY|O_NONBLOCK|O_LARGEFILE)`,
		`fcntl(1, F_SETFL, O_RDONLY|O_NONBLOCK)  = 0`,
		`fcntl(1, F_GETFD)                       = 0x1 (flags FD_CLOEXEC)`,
		`fcntl(1, F_DUPFD_CLOEXEC, 100)          = 100`,
		`ioctl(1, TIOCGWINSZ, 0x1000)            = -1 ENOTTY (Inappropriate ioctl for device)`,
		`futex(§, FUTEX_WAIT_PRIVATE, 4, NULL) = -1 EAGAIN (Resource temporarily unavailable)`,
		`futex(§, FUTEX_WAKE_PRIVATE, 1)   = 0`,
		`futex(§, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 5, {tv_sec=0, tv_nsec=9}, FUTEX_BITSET_MATCH_ANY) = -1 ETIMEDOUT (Connection timed out)`,
		`arch_prctl(ARCH_GET_FS, [0])            = 0`,
		`umask(022)                              = 022`,
		`access("/", R_OK|X_OK)                  = 0`,
		`access("/", F_OK)                       = 0`,
		`sched_getaffinity(0, 128, [0])          = 8`,
		`rseq(§, 0x20, 0, 0x53053053)      = 0`,
		`syscall_0x1cf(0x1, 0x2, 0x3, 0x0, 0x0, 0x0) = -1 ENOSYS (Function not implemented)`,
		`kill(1, 0)                              = 0`,
		`getpid()                                = 1`,
		`io_uring_setup(8, NULL)                 = -1 ENOSYS (Function not implemented)`,
		`exit_group(3)                           = ?`,
	)
}

func TestStraceOfSignalsAndExits(t *testing.T) {
	lines := traced(t, func(p *program) {
		for _, info := range []kernel.Siginfo{
			kernel.FaultInfo(kernel.Signal(unix.SIGSEGV), kernel.SegvMapErr, 0),
			p.thread.UserInfo(kernel.Signal(unix.SIGUSR2), kernel.SIUser),
			kernel.KernelInfo(kernel.Signal(unix.SIGSEGV)),
		} {
			TraceSignal(p.thread, info)
		}
		TraceExit(p.thread, kernel.Exited(3))
		TraceExit(p.thread, kernel.Killed(kernel.Signal(unix.SIGKILL)))
	})
	checkLines(t, lines,
		`--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---`,
		`--- SIGUSR2 {si_signo=SIGUSR2, si_code=SI_USER, si_pid=1, si_uid=0} ---`,
		`--- SIGSEGV {si_signo=SIGSEGV, si_code=SI_KERNEL, si_addr=NULL} ---`,
		`+++ exited with 3 +++`,
		`+++ killed by SIGKILL +++`,
	)
}

func TestStraceOfThreads(t *testing.T) {
	lines := traced(t, func(p *program) {
		one := &tracedCall{printer: printer{t: p.thread, values: [6]uint64{0, 0x1000, 100}}, tid: 1, number: unix.SYS_READ}
		two := &tracedCall{printer: printer{t: p.thread}, tid: 2, number: unix.SYS_GETPID}
		one.enter()
		two.enter()
		two.leave(1)
		one.leave(^uint64(kernel.ERESTARTSYS) + 1)
	})
	checkLines(t, lines,
		`[pid     1] read(0,  <unfinished ...>`,
		`[pid     2] getpid()                    = 1`,
		`[pid     1] <... read resumed>0x1000, 100) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)`,
	)
}

// Nothing that a program passes may stop the tracer.
func TestStraceOfNonsense(t *testing.T) {
	traced(t, func(p *program) {
		for i := range rows {
			for _, v := range []uint64{0, 1, ^uint64(0), badAddress, p.memory, 1 << 63} {
				c := &tracedCall{printer: printer{t: p.thread, values: [6]uint64{v, v, v, v, v, v}}, tid: 1, number: uint32(rows[i].number)}
				c.enter()
				c.leave(v)
			}
		}
	})
}

func TestSummary(t *testing.T) {
	p := start(t)
	Count()
	defer func() { counting, observed = false, false }()
	for range 3 {
		p.call(unix.SYS_GETPID)
	}
	p.call(unix.SYS_IO_URING_SETUP)
	p.call(unix.SYS_MEMBARRIER)
	p.call(9999)
	p.call(unix.SYS_OPENAT, minus(100), p.text("/no\nsuch"), unix.O_RDONLY)
	p.call(unix.SYS_ACCESS, p.text("/no\nsuch"), 0)
	var w bytes.Buffer
	WriteSummary(&w)
	for _, want := range []string{
		`(?m)^         3            +\d+\.\d{6} +\d+\.\d\d  getpid$`, `(?m)^         1          1 .*  openat$`, `(?m)^         7          3 .*  total`,
		`(?m)^not implemented \(ENOSYS\): io_uring_setup$`, `served in part: membarrier: `, `does not have: 1 call`,
		`(?m)^not found: "/no\\nsuch", 2 times$`,
	} {
		if !regexp.MustCompile(want).MatchString(w.String()) {
			t.Errorf("the summary lacks %q:\n%s", want, w.String())
		}
	}
}

func TestSelection(t *testing.T) {
	for list, wants := range map[string]map[int]bool{
		"file":               {unix.SYS_OPENAT: true, unix.SYS_EXECVE: true, unix.SYS_READ: false, limit: false},
		"%desc,!close":       {unix.SYS_READ: true, unix.SYS_CLOSE: false, unix.SYS_MMAP: true, unix.SYS_BRK: false},
		"!futex":             {unix.SYS_FUTEX: false, unix.SYS_READ: true, limit: true},
		"!futex, !%memory":   {unix.SYS_FUTEX: false, unix.SYS_BRK: false, unix.SYS_READ: true},
		"read,write":         {unix.SYS_READ: true, unix.SYS_WRITE: true, unix.SYS_CLOSE: false},
		"network,%process":   {unix.SYS_SENDTO: true, unix.SYS_WAIT4: true, unix.SYS_READ: false},
		"all":                {unix.SYS_READ: true, limit: true},
		"stat":               {unix.SYS_STAT: true, unix.SYS_LSTAT: false},
		"clock,creds,signal": {unix.SYS_CLOCK_GETTIME: true, unix.SYS_SETUID: true, unix.SYS_KILL: true},
	} {
		s, err := ParseSelection(list)
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		for number, want := range wants {
			if s.has(uint32(number)) != want {
				t.Errorf("%s: %s: %v", list, Name(uint32(number)), !want)
			}
		}
	}
	for _, bad := range []string{"", "file,", "!", "nosuch", "%read", "read;write"} {
		if _, err := ParseSelection(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	known := make(map[string]bool)
	for _, r := range rows {
		known[r.name] = true
	}
	for class, names := range classes {
		for _, name := range strings.Fields(names) {
			if !known[name] {
				t.Errorf("%s: there is no system call %s", class, name)
			}
		}
	}
}

func TestLayouts(t *testing.T) {
	if n := binary.Size(unix.Statfs_t{}); n != 120 {
		t.Errorf("struct statfs has %d bytes", n)
	}
}
