package syscall

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

func TestEpoll(t *testing.T) {
	p := start(t)
	ep := uint64(p.call(unix.SYS_EPOLL_CREATE1, unix.EPOLL_CLOEXEC))
	p.want(unix.EINVAL, unix.SYS_EPOLL_CREATE1, 1)
	p.want(unix.EINVAL, unix.SYS_EPOLL_CREATE, 0)
	efd := uint64(p.call(unix.SYS_EVENTFD2, 0, unix.EFD_NONBLOCK))
	in := p.put([]byte{unix.EPOLLIN, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0})
	p.want(0, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, efd, in)
	p.want(unix.EEXIST, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, efd, in)
	p.want(unix.EFAULT, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_MOD, efd, badAddress)
	p.want(unix.EINVAL, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, ep, in)
	p.want(unix.EINVAL, unix.SYS_EPOLL_CTL, ep, 9, efd, in)
	p.want(unix.EBADF, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, 99, in)
	p.want(unix.EINVAL, unix.SYS_EPOLL_CTL, efd, unix.EPOLL_CTL_ADD, ep, in)
	file := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_RDWR|unix.O_CREAT, 0o644))
	p.want(unix.EPERM, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, file, in)
	out := p.room(12 * 40)
	p.want(0, unix.SYS_EPOLL_WAIT, ep, out, 10, 0)
	p.want(0, unix.SYS_EPOLL_WAIT, ep, out, 10, 20)
	p.want(8, unix.SYS_WRITE, efd, p.words(3), 8)
	p.want(1, unix.SYS_EPOLL_WAIT, ep, out, 40, minus(1))
	if b := p.get(out, 12); halfword(b, 0) != unix.EPOLLIN || word(b, 4) != 77 {
		t.Errorf("event %x", b)
	}
	p.want(1, unix.SYS_EPOLL_PWAIT, ep, out, 1, 0, p.words(0), 8)
	p.want(unix.EINVAL, unix.SYS_EPOLL_PWAIT, ep, out, 1, 0, p.words(0), 7)
	p.want(1, unix.SYS_EPOLL_PWAIT2, ep, out, 1, p.words(0, 0), 0, 0)
	p.want(unix.EINVAL, unix.SYS_EPOLL_WAIT, ep, out, 0, 0)
	p.want(unix.EINVAL, unix.SYS_EPOLL_WAIT, efd, out, 1, 0)
	p.want(8, unix.SYS_READ, efd, out, 8)
	p.want(unix.EAGAIN, unix.SYS_READ, efd, out, 8)
	p.want(0, unix.SYS_EPOLL_WAIT, ep, out, 10, 0)
	p.want(0, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_DEL, efd, 0)
	p.want(unix.ENOENT, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_DEL, efd, 0)
	p.want(0, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, efd, in)
	p.want(8, unix.SYS_WRITE, efd, p.words(1), 8)
	if n := testing.AllocsPerRun(100, func() { p.call(unix.SYS_EPOLL_WAIT, ep, out, 10, 0) }); n != 0 {
		t.Errorf("epoll_wait allocates %v times", n)
	}
}

func TestTimerfdAndSignalfd(t *testing.T) {
	p := start(t)
	fd := uint64(p.call(unix.SYS_TIMERFD_CREATE, unix.CLOCK_MONOTONIC, 0))
	out := p.room(128)
	p.want(unix.EINVAL, unix.SYS_TIMERFD_CREATE, 99, 0)
	p.want(0, unix.SYS_TIMERFD_SETTIME, fd, 0, p.words(0, 0, 0, 10e6), out)
	begin := time.Now()
	p.want(8, unix.SYS_READ, fd, out, 8)
	if d := time.Since(begin); d < 9*time.Millisecond || word(p.get(out, 8), 0) != 1 {
		t.Errorf("%d expirations after %v", word(p.get(out, 8), 0), d)
	}
	p.want(0, unix.SYS_TIMERFD_GETTIME, fd, out)
	p.want(unix.EINVAL, unix.SYS_TIMERFD_SETTIME, fd, 8, p.words(0, 0, 0, 1), 0)
	p.want(unix.EINVAL, unix.SYS_TIMERFD_SETTIME, fd, 0, p.words(0, 0, 0, 1e9), 0)

	set := p.words(1 << (sigUSR1 - 1))
	p.want(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, set, 0, 8)
	sfd := uint64(p.call(unix.SYS_SIGNALFD4, minus(1), set, 8, unix.SFD_NONBLOCK))
	p.want(unix.EAGAIN, unix.SYS_READ, sfd, out, 128)
	p.want(0, unix.SYS_KILL, 1, sigUSR1)
	p.want(128, unix.SYS_READ, sfd, out, 128)
	if n := halfword(p.get(out, 128), 0); n != sigUSR1 {
		t.Errorf("ssi_signo %d", n)
	}
	p.want(int(sfd), unix.SYS_SIGNALFD4, sfd, set, 8, 0)
	p.want(unix.EINVAL, unix.SYS_SIGNALFD4, fd, set, 8, 0)
	p.want(unix.EINVAL, unix.SYS_SIGNALFD4, minus(1), set, 4, 0)
}

func TestMemfd(t *testing.T) {
	p := start(t)
	fd := uint64(p.call(unix.SYS_MEMFD_CREATE, p.text("hi"), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING))
	p.want(0, unix.SYS_FTRUNCATE, fd, 4096)
	p.want(0, unix.SYS_FCNTL, fd, unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
	p.want(unix.F_SEAL_SHRINK, unix.SYS_FCNTL, fd, unix.F_GET_SEALS)
	p.want(unix.EPERM, unix.SYS_FTRUNCATE, fd, 0)
	shared := func(fd uint64, prot, flags uint64) (uint64, unix.Errno) {
		addr := p.call(unix.SYS_MMAP, 0, 4096, prot, flags, fd, 0)
		if addr < 0 && addr >= -4095 {
			return 0, unix.Errno(-addr)
		}
		return uint64(addr), 0
	}
	// A private mapping, which is never written back, doesn't stand in the way; one that could be made
	// writable does.
	private, _ := shared(fd, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	reader, _ := shared(fd, unix.PROT_READ, unix.MAP_SHARED)
	p.want(unix.EBUSY, unix.SYS_FCNTL, fd, unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	p.want(unix.F_SEAL_SHRINK, unix.SYS_FCNTL, fd, unix.F_GET_SEALS)
	p.want(0, unix.SYS_MUNMAP, reader, 4096)
	p.want(0, unix.SYS_FCNTL, fd, unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	p.want(0, unix.SYS_MUNMAP, private, 4096)
	if _, err := shared(fd, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != unix.EPERM {
		t.Errorf("mapped to write in spite of the seal: %v", err)
	}
	if _, err := shared(fd, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE); err != 0 {
		t.Errorf("private mapping: %v", err)
	}
	reader, err := shared(fd, unix.PROT_READ, unix.MAP_SHARED)
	if err != 0 {
		t.Errorf("mapping to read: %v", err)
	}
	p.want(unix.EACCES, unix.SYS_MPROTECT, reader, 4096, unix.PROT_READ|unix.PROT_WRITE)
	p.want(unix.EINVAL, unix.SYS_MEMFD_CREATE, p.text("hi"), 1<<20)
	p.want(unix.EFAULT, unix.SYS_MEMFD_CREATE, badAddress, 0)
}

// TestTimerfdCanceled: who waits for a time of the wall clock learns at once that the clock was set.
func TestTimerfdCanceled(t *testing.T) {
	p := start(t)
	fd := uint64(p.call(unix.SYS_TIMERFD_CREATE, unix.CLOCK_REALTIME, 0))
	now := uint64(time.Now().Unix())
	p.want(0, unix.SYS_TIMERFD_SETTIME, fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, p.words(0, 0, now+1000, 0), 0)
	time.AfterFunc(10*time.Millisecond, func() { kernel.SetRealtime(time.Now().UnixNano()) })
	p.want(unix.ECANCELED, unix.SYS_READ, fd, p.room(8), 8)
}
