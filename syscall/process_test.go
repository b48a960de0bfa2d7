package syscall

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs/procfs"
)

const sigUSR1 = 10

func TestIdentity(t *testing.T) {
	p := start(t)
	p.want(1, unix.SYS_GETPID)
	p.want(1, unix.SYS_GETTID)
	p.want(0, unix.SYS_GETPPID)
	p.want(1, unix.SYS_GETPGRP)
	p.want(1, unix.SYS_GETSID, 0)
	p.want(unix.ESRCH, unix.SYS_GETPGID, 999)
	p.want(0, unix.SYS_GETUID)
	out := p.room(64)
	p.want(0, unix.SYS_GETGROUPS, 0, 0)
	p.want(0, unix.SYS_SETGROUPS, 2, p.words(20<<32|10))
	p.want(2, unix.SYS_GETGROUPS, 8, out)
	p.want(unix.EINVAL, unix.SYS_GETGROUPS, 1, out)
	p.want(0, unix.SYS_CAPGET, p.words(0), 0)
	header := p.words(unix.LINUX_CAPABILITY_VERSION_3)
	p.want(0, unix.SYS_CAPGET, header, out)
	if got := halfword(p.get(out, 24), 0); got != 0xffffffff {
		t.Errorf("effective capabilities %#x", got)
	}
	p.want(0, unix.SYS_SETRESUID, 5, 6, 7)
	p.want(0, unix.SYS_GETRESUID, out, out+4, out+8)
	if b := p.get(out, 12); halfword(b, 0) != 5 || halfword(b, 4) != 6 || halfword(b, 8) != 7 {
		t.Error("getresuid: wrong ids")
	}
	p.want(unix.EPERM, unix.SYS_SETUID, 0)
	p.want(unix.EPERM, unix.SYS_SETHOSTNAME, out, 3)
}

func TestUname(t *testing.T) {
	p := start(t)
	out := p.room(390)
	p.want(0, unix.SYS_UNAME, out)
	b := p.get(out, 390)
	for i, want := range []string{"Linux", "elver", "6.12.0-elver", procfs.OSVersion, "x86_64", "(none)"} {
		if got := cut(b[65*i : 65*i+65]); got != want {
			t.Errorf("field %d: %q, want %q", i, got, want)
		}
	}
	p.want(unix.EFAULT, unix.SYS_UNAME, badAddress)
	p.want(0, unix.SYS_SETHOSTNAME, p.text("box"), 3)
	if n, _ := p.thread.Kernel().Hostname(); n != "box" {
		t.Errorf("hostname %q", n)
	}
	p.want(unix.EINVAL, unix.SYS_SETHOSTNAME, out, 65)
}

func TestUnknownNumbers(t *testing.T) {
	p := start(t)
	for _, n := range []uint64{336, 400, 463, 1 << 30, ^uint64(0), unix.SYS_IO_URING_SETUP} {
		p.want(unix.ENOSYS, n)
	}
	p.want(1, 1<<32|unix.SYS_GETPID) // only the low half of the register counts
}

func TestSignals(t *testing.T) {
	p := start(t)
	act := p.words(0x1234, saSigInfo|saRestorer, 0x5678, 1<<63)
	old := p.room(32)
	p.want(0, unix.SYS_RT_SIGACTION, sigUSR1, act, old, 8)
	p.want(0, unix.SYS_RT_SIGACTION, sigUSR1, 0, old, 8)
	if b := p.get(old, 32); word(b, 0) != 0x1234 || word(b, 8) != saSigInfo|saRestorer || word(b, 16) != 0x5678 || word(b, 24) != 1<<63 {
		t.Errorf("rt_sigaction: %x", b)
	}
	p.want(unix.EINVAL, unix.SYS_RT_SIGACTION, 9, act, 0, 8)
	p.want(unix.EINVAL, unix.SYS_RT_SIGACTION, 0, 0, old, 8)
	p.want(unix.EINVAL, unix.SYS_RT_SIGACTION, 65, act, 0, 8)
	p.want(unix.EINVAL, unix.SYS_RT_SIGACTION, 10, act, 0, 16)
	p.want(unix.EFAULT, unix.SYS_RT_SIGACTION, 10, badAddress, 0, 8)

	all := p.words(^uint64(0))
	p.want(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, all, old, 8)
	p.want(unix.EINVAL, unix.SYS_RT_SIGPROCMASK, 7, all, old, 8)
	p.want(0, unix.SYS_RT_SIGPROCMASK, 7, 0, old, 8)
	if got := word(p.get(old, 8), 0); got != ^uint64(1<<8|1<<18) {
		t.Errorf("mask %#x: SIGKILL and SIGSTOP are never blocked", got)
	}
	p.want(0, unix.SYS_KILL, 1, sigUSR1)
	p.want(unix.ESRCH, unix.SYS_KILL, 4321, 0)
	p.want(unix.EINVAL, unix.SYS_KILL, 1, 65)
	p.want(unix.EINVAL, unix.SYS_TGKILL, 1, 0, 0)
	p.want(0, unix.SYS_TGKILL, 1, 1, 0)
	p.want(0, unix.SYS_RT_SIGPENDING, old, 8)
	if got := word(p.get(old, 8), 0); got != 1<<9 {
		t.Errorf("pending %#x", got)
	}
	info := p.room(128)
	p.want(sigUSR1, unix.SYS_RT_SIGTIMEDWAIT, all, info, 0, 8)
	if i := kernel.DecodeSiginfo(p.get(info, 128)); i.Code != kernel.SIUser || i.PID() != 1 {
		t.Errorf("siginfo %+v", i)
	}
	p.want(unix.EAGAIN, unix.SYS_RT_SIGTIMEDWAIT, all, info, p.words(0, 1000), 8)
	p.want(unix.EINVAL, unix.SYS_RT_SIGTIMEDWAIT, all, info, p.words(0, 1e9), 8)

	stack := p.words(0x20000, 0, 8192)
	p.want(0, unix.SYS_SIGALTSTACK, stack, 0)
	p.want(0, unix.SYS_SIGALTSTACK, 0, old)
	if b := p.get(old, 24); word(b, 0) != 0x20000 || word(b, 16) != 8192 {
		t.Errorf("sigaltstack: %x", b)
	}
	p.want(unix.ENOMEM, unix.SYS_SIGALTSTACK, p.words(0x20000, 0, 100), 0)
	p.want(unix.EINVAL, unix.SYS_SIGALTSTACK, p.words(0x20000, 64, 8192), 0)
}

func TestTime(t *testing.T) {
	p := start(t)
	out := p.room(64)
	p.want(0, unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, out)
	p.want(0, unix.SYS_CLOCK_GETTIME, unix.CLOCK_REALTIME, out)
	if sec := int64(word(p.get(out, 16), 0)); max(sec-time.Now().Unix(), time.Now().Unix()-sec) > 2 {
		t.Errorf("CLOCK_REALTIME says %d", sec)
	}
	p.want(unix.EINVAL, unix.SYS_CLOCK_GETTIME, 99, out)
	p.want(unix.EFAULT, unix.SYS_CLOCK_GETTIME, 0, badAddress)
	p.want(0, unix.SYS_CLOCK_GETRES, 0, 0)
	p.want(0, unix.SYS_GETTIMEOFDAY, out, out+16)
	begin := time.Now()
	p.want(0, unix.SYS_NANOSLEEP, p.words(0, 20e6), 0)
	if d := time.Since(begin); d < 20*time.Millisecond {
		t.Errorf("nanosleep slept %v", d)
	}
	p.want(unix.EINVAL, unix.SYS_NANOSLEEP, p.words(0, 1e9), 0)
	p.want(unix.EINVAL, unix.SYS_NANOSLEEP, p.words(minus(1), 0), 0)
	p.want(unix.EFAULT, unix.SYS_NANOSLEEP, badAddress, 0)
	p.want(0, unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, timerAbsolute, p.words(0, 1), 0)
	p.want(unix.EOPNOTSUPP, unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_THREAD_CPUTIME_ID, 0, p.words(0, 1), 0)
	p.want(0, unix.SYS_ALARM, 100)
	p.want(100, unix.SYS_ALARM, 0)
	p.want(0, unix.SYS_SETITIMER, 0, p.words(1, 2, 50, 3), 0)
	p.want(0, unix.SYS_GETITIMER, 0, out)
	if b := p.get(out, 32); word(b, 0) != 1 || word(b, 8) != 2 || word(b, 16) != 49 && word(b, 16) != 50 {
		t.Errorf("getitimer: %d.%06d, left %d", word(b, 0), word(b, 8), word(b, 16))
	}
	p.want(unix.EINVAL, unix.SYS_SETITIMER, 0, p.words(0, 0, 0, 1e6), 0)
	p.want(0, unix.SYS_SETITIMER, 0, 0, 0)
	id := p.room(4)
	p.want(0, unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, 0, id)
	n := uint64(halfword(p.get(id, 4), 0))
	p.want(0, unix.SYS_TIMER_SETTIME, n, 0, p.words(0, 0, 60, 0), out)
	p.want(0, unix.SYS_TIMER_GETTIME, n, out)
	p.want(0, unix.SYS_TIMER_GETOVERRUN, n)
	p.want(0, unix.SYS_TIMER_DELETE, n)
	p.want(unix.EINVAL, unix.SYS_TIMER_DELETE, n)
}

func TestMemory(t *testing.T) {
	p := start(t)
	at := p.call(unix.SYS_MMAP, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, minus(1), 0)
	if at <= 0 {
		t.Fatalf("mmap = %s", resultText(at))
	}
	m := uint64(at)
	p.want(0, unix.SYS_MPROTECT, m, 4096, unix.PROT_READ)
	p.want(0, unix.SYS_MADVISE, m, 8192, unix.MADV_DONTNEED)
	p.want(0, unix.SYS_MUNMAP, m, 8192)
	p.want(unix.EINVAL, unix.SYS_MUNMAP, m+1, 8192)
	p.want(unix.EINVAL, unix.SYS_MMAP, 0, 0, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, minus(1), 0)
	p.want(unix.EINVAL, unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, minus(1), 5)
	p.want(unix.EBADF, unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, 55, 0)
	fd := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_RDWR|unix.O_CREAT, 0o644))
	p.want(3, unix.SYS_WRITE, fd, p.text("abc"), 3)
	at = p.call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_SHARED, fd, 0)
	if at <= 0 {
		t.Fatalf("mmap of a file = %s", resultText(at))
	}
	if got := p.get(uint64(at), 4); string(got) != "abc\x00" {
		t.Errorf("mapped %q", got)
	}
	readOnly := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_RDONLY, 0))
	p.want(unix.EACCES, unix.SYS_MMAP, 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED, readOnly, 0)
	writeOnly := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_WRONLY, 0))
	p.want(unix.EACCES, unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, writeOnly, 0)
	p.want(unix.EINVAL, unix.SYS_MLOCKALL, 0)
}

func TestFutexes(t *testing.T) {
	p := start(t)
	word := p.words(5)
	p.want(unix.EAGAIN, unix.SYS_FUTEX, word, futexWait|futexPrivate, 4, 0)
	p.want(unix.ETIMEDOUT, unix.SYS_FUTEX, word, futexWait, 5, p.words(0, 1000))
	p.want(unix.ETIMEDOUT, unix.SYS_FUTEX, word, futexWaitBitset|futexClockRealtime, 5, p.words(0, 1000), 0, 1)
	p.want(unix.EINVAL, unix.SYS_FUTEX, word, futexWait, 5, p.words(0, 1e9))
	p.want(unix.EINVAL, unix.SYS_FUTEX, word, futexWaitBitset, 5, 0, 0, 0)
	p.want(0, unix.SYS_FUTEX, word, futexWake, 1)
	p.want(unix.EINVAL, unix.SYS_FUTEX, word+1, futexWake, 1)
	p.want(unix.ENOSYS, unix.SYS_FUTEX, word, futexWake|futexClockRealtime, 1)
	p.want(unix.ENOSYS, unix.SYS_FUTEX, word, 99, 1)
	p.want(unix.EAGAIN, unix.SYS_FUTEX, word, futexCmpRequeue, 1, 1, word, 4)
	p.want(unix.EINVAL, unix.SYS_FUTEX_WAITV, word, 0, 0, 0, 0)
}

func TestMiscellany(t *testing.T) {
	p := start(t)
	out := p.room(256)
	p.want(0, unix.SYS_PRCTL, unix.PR_SET_NAME, p.text("a very long name of a thread"))
	p.want(0, unix.SYS_PRCTL, unix.PR_GET_NAME, out)
	if got := cut(p.get(out, 16)); got != "a very long nam" {
		t.Errorf("name %q", got)
	}
	p.want(unix.EINVAL, unix.SYS_PRCTL, 9999)
	p.want(0, unix.SYS_ARCH_PRCTL, archSetFS, 0x12345)
	p.want(0, unix.SYS_ARCH_PRCTL, archGetFS, out)
	if got := word(p.get(out, 8), 0); got != 0x12345 {
		t.Errorf("FS base %#x", got)
	}
	p.want(unix.EPERM, unix.SYS_ARCH_PRCTL, archSetFS, 1<<63)
	p.want(unix.EINVAL, unix.SYS_ARCH_PRCTL, 1, out)
	p.want(0, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, p.words(100, 200), out)
	p.want(0, unix.SYS_GETRLIMIT, unix.RLIMIT_NOFILE, out)
	if b := p.get(out, 16); word(b, 0) != 100 || word(b, 8) != 200 {
		t.Errorf("RLIMIT_NOFILE %d, %d", word(b, 0), word(b, 8))
	}
	p.want(unix.EINVAL, unix.SYS_SETRLIMIT, unix.RLIMIT_NOFILE, p.words(300, 200))
	p.want(unix.EINVAL, unix.SYS_GETRLIMIT, 99, out)
	p.want(8, unix.SYS_SCHED_GETAFFINITY, 0, 128, out)
	p.want(unix.EINVAL, unix.SYS_SCHED_GETAFFINITY, 0, 4, out)
	p.want(unix.EINVAL, unix.SYS_SCHED_SETAFFINITY, 0, 8, p.words(2))
	p.want(0, unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_RR, p.words(7))
	p.want(unix.SCHED_RR, unix.SYS_SCHED_GETSCHEDULER, 0)
	p.want(unix.EINVAL, unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_RR, p.words(0))
	p.want(99, unix.SYS_SCHED_GET_PRIORITY_MAX, unix.SCHED_FIFO)
	p.want(20, unix.SYS_GETPRIORITY, 0, 0)
	p.want(0, unix.SYS_SETPRIORITY, 0, 0, 5)
	p.want(15, unix.SYS_GETPRIORITY, 0, 0)
	p.want(0, unix.SYS_SYSINFO, out)
	if word(p.get(out, 112), 32) == 0 || halfword(p.get(out, 112), 104) != 1 {
		t.Error("sysinfo: no memory")
	}
	p.want(0, unix.SYS_GETCPU, out, out+4, 0)
	p.want(0, unix.SYS_GETRUSAGE, 0, out)
	p.want(unix.EINVAL, unix.SYS_GETRUSAGE, 5, out)
	p.want(1, unix.SYS_SET_TID_ADDRESS, out)
	p.want(0x1ff, unix.SYS_MEMBARRIER, 0, 0)
	p.want(0, unix.SYS_MEMBARRIER, 8, 0)
	p.want(unix.EINVAL, unix.SYS_MEMBARRIER, 3, 0)
	p.want(0, unix.SYS_PERSONALITY, 0xffffffff)
	p.want(unix.ECHILD, unix.SYS_WAIT4, minus(1), 0, 0, 0)
	p.want(unix.EINVAL, unix.SYS_WAIT4, minus(1), 0, 1<<20, 0)
	p.want(unix.EINVAL, unix.SYS_WAITID, 0, 0, out, 0, 0)
	p.want(unix.EINVAL, unix.SYS_CLONE3, out, 8)
	p.want(0, unix.SYS_UNSHARE, unix.CLONE_FILES|unix.CLONE_FS)
	p.want(unix.EINVAL, unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	p.want(1000, unix.SYS_GETRANDOM, p.room(1000), 1000, 0)
	p.want(unix.EINVAL, unix.SYS_GETRANDOM, out, 8, 8)
	p.want(unix.EFAULT, unix.SYS_GETRANDOM, badAddress, 8, 0)
}

func TestNoAllocations(t *testing.T) {
	p := start(t)
	fd := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_RDWR|unix.O_CREAT, 0o644))
	buffer, iov := p.room(4096), p.words(p.memory, 100)
	p.want(4096, unix.SYS_WRITE, fd, buffer, 4096)
	for _, c := range [][]uint64{
		{unix.SYS_GETPID}, {unix.SYS_GETPPID},
		{unix.SYS_PREAD64, fd, buffer, 4096, 0}, {unix.SYS_PWRITE64, fd, buffer, 4096, 0},
		{unix.SYS_READ, fd, buffer, 4096}, {unix.SYS_WRITE, fd, buffer, 0},
		{unix.SYS_READV, fd, iov, 1},
		{unix.SYS_LSEEK, fd, 0, 0}, {unix.SYS_FSTAT, fd, buffer},
		{unix.SYS_CLOCK_GETTIME, 1, buffer}, {unix.SYS_FUTEX, buffer, futexWake, 1},
		{unix.SYS_RT_SIGPROCMASK, 0, 0, buffer, 8}, {unix.SYS_POLL, p.words(unix.POLLIN<<32 | fd), 1, 0},
		{unix.SYS_READ, 99, buffer, 1},
	} {
		if n := testing.AllocsPerRun(100, func() { p.call(c[0], c[1:]...) }); n != 0 {
			t.Errorf("%s allocates %v times", Name(uint32(c[0])), n)
		}
	}
}

func BenchmarkGetpid(b *testing.B) {
	t := &testing.T{}
	p := start(t)
	p.thread.Ctx.OrigRAX = unix.SYS_GETPID
	for b.Loop() {
		Dispatch(p.thread)
	}
}
