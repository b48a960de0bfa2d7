package syscall

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

var badAddress = uint64(0x7000_0000_0000)

func TestReadAndWrite(t *testing.T) {
	p := start(t)
	name := p.text("/f")
	fd := uint64(p.call(unix.SYS_OPEN, name, unix.O_RDWR|unix.O_CREAT, 0o644))
	if fd != 0 {
		t.Fatalf("open = %d", int64(fd))
	}
	hello := p.text("hello, world")
	out := p.room(100)
	p.want(12, unix.SYS_WRITE, fd, hello, 12)
	p.want(0, unix.SYS_READ, fd, out, 100)
	p.want(12, unix.SYS_LSEEK, fd, 0, unix.SEEK_CUR)
	p.want(5, unix.SYS_LSEEK, fd, 5, unix.SEEK_SET)
	p.want(7, unix.SYS_READ, fd, out, 100)
	if got := p.get(out, 7); string(got) != ", world" {
		t.Errorf("read %q", got)
	}
	p.want(3, unix.SYS_PREAD64, fd, out, 3, 7)
	if got := p.get(out, 3); string(got) != "wor" {
		t.Errorf("pread %q", got)
	}
	p.want(unix.EINVAL, unix.SYS_PREAD64, fd, out, 3, minus(1))
	p.want(unix.EFAULT, unix.SYS_READ, fd, badAddress+1<<47, 3)
	p.want(0, unix.SYS_LSEEK, fd, 0, unix.SEEK_SET)
	p.want(unix.EFAULT, unix.SYS_READ, fd, badAddress, 3)
	p.want(unix.EINVAL, unix.SYS_READ, fd, out, minus(1))
	p.want(unix.EBADF, unix.SYS_READ, 77, out, 3)
	p.want(unix.EBADF, unix.SYS_READ, minus(1), out, 3)
	p.want(unix.EINVAL, unix.SYS_LSEEK, fd, 0, 99)
	p.want(unix.EINVAL, unix.SYS_LSEEK, fd, minus(1), unix.SEEK_SET)

	wr := uint64(p.call(unix.SYS_OPEN, name, unix.O_WRONLY, 0))
	p.want(unix.EBADF, unix.SYS_READ, wr, out, 3)
	p.want(unix.EBADF, unix.SYS_PREAD64, wr, out, 3, 0)
	p.want(0, unix.SYS_CLOSE, wr)
	p.want(unix.EBADF, unix.SYS_CLOSE, wr)
	p.want(unix.EFAULT, unix.SYS_OPEN, badAddress, 0, 0)
	p.want(unix.ENOENT, unix.SYS_OPEN, p.text(""), 0, 0)
	p.want(unix.ENOENT, unix.SYS_OPEN, p.text("/none"), 0, 0)
	p.want(unix.ENAMETOOLONG, unix.SYS_OPEN, p.put(bytes.Repeat([]byte{'a'}, 5000)), 0, 0)
}

func TestVectors(t *testing.T) {
	p := start(t)
	fd := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_RDWR|unix.O_CREAT, 0o644))
	one, two := p.text("abc"), p.text("defgh")
	iov := p.words(one, 3, two, 5)
	p.want(8, unix.SYS_WRITEV, fd, iov, 2)
	out := p.room(64)
	many := make([]uint64, 0, 40)
	for i := range uint64(20) {
		many = append(many, out+i, 1)
	}
	p.want(8, unix.SYS_PREADV, fd, p.words(many...), 20, 0)
	if got := p.get(out, 8); string(got) != "abcdefgh" {
		t.Errorf("preadv %q", got)
	}
	p.want(0, unix.SYS_WRITEV, fd, iov, 0)
	p.want(unix.EINVAL, unix.SYS_WRITEV, fd, iov, 1025)
	p.want(unix.EINVAL, unix.SYS_WRITEV, fd, iov, minus(1))
	p.want(unix.EINVAL, unix.SYS_WRITEV, fd, p.words(one, minus(1)), 1)
	p.want(unix.EFAULT, unix.SYS_WRITEV, fd, badAddress, 1)
	p.want(unix.EFAULT, unix.SYS_WRITEV, fd, p.words(1<<63, 1), 1)
	p.want(unix.EBADF, unix.SYS_WRITEV, 50, badAddress, 1)
	p.want(unix.EOPNOTSUPP, unix.SYS_PREADV2, fd, iov, 2, 0, 0, 1<<20)
}

func TestPipes(t *testing.T) {
	p := start(t)
	pair := p.room(8)
	p.want(0, unix.SYS_PIPE2, pair, unix.O_NONBLOCK)
	r, w := uint64(halfword(p.get(pair, 8), 0)), uint64(halfword(p.get(pair, 8), 4))
	out := p.room(100)
	p.want(unix.EAGAIN, unix.SYS_READ, r, out, 10)
	p.want(3, unix.SYS_WRITE, w, p.text("abc"), 3)
	p.want(unix.ESPIPE, unix.SYS_PREAD64, r, out, 3, 0)
	p.want(unix.ESPIPE, unix.SYS_PWRITE64, w, out, 3, 0)
	p.want(unix.ESPIPE, unix.SYS_LSEEK, r, 0, 0)
	p.want(unix.EBADF, unix.SYS_WRITE, r, out, 3)
	p.want(0, unix.SYS_IOCTL, r, unix.TIOCINQ, out)
	if n := p.get(out, 4)[0]; n != 3 {
		t.Errorf("FIONREAD: %d", n)
	}
	p.want(3, unix.SYS_READ, r, out, 10)
	p.want(0, unix.SYS_CLOSE, w)
	p.want(0, unix.SYS_READ, r, out, 10)
	p.want(unix.EINVAL, unix.SYS_PIPE2, pair, 1)
	p.want(unix.EFAULT, unix.SYS_PIPE2, badAddress, 0)
	// What failed left nothing open: the next descriptor is the lowest free one.
	p.want(int(w), unix.SYS_DUP, r)
	p.want(0, unix.SYS_CLOSE, w)

	// Without a reader: EPIPE and SIGPIPE.
	p.want(0, unix.SYS_PIPE2, pair, 0)
	r2, w2 := uint64(halfword(p.get(pair, 8), 0)), uint64(halfword(p.get(pair, 8), 4))
	p.want(0, unix.SYS_CLOSE, r2)
	p.thread.SetMask(^kernel.SigSet(0))
	p.want(unix.EPIPE, unix.SYS_WRITE, w2, out, 3)
	if !p.thread.Pending().Has(kernel.Signal(unix.SIGPIPE)) {
		t.Error("no SIGPIPE")
	}
}

func TestBlockingPipe(t *testing.T) {
	p := start(t)
	pair := p.room(8)
	p.want(0, unix.SYS_PIPE2, pair, 0)
	r, w := int32(halfword(p.get(pair, 8), 0)), int32(halfword(p.get(pair, 8), 4))
	c := filesOf(p.thread)
	d, err := c.Get(w)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		b := mmKernelBuffer("late")
		d.Write(c, b)
		d.Decref()
	}()
	out := p.room(16)
	p.want(4, unix.SYS_READ, uint64(r), out, 16)
	// A write larger than the pipe waits for a reader.
	dr, err := c.Get(r)
	if err != nil {
		t.Fatal(err)
	}
	const size = 200 << 10
	go func() {
		for left := size; left > 0; {
			b := mmKernelBuffer(string(make([]byte, 4096)))
			n, err := dr.Read(c, b)
			left -= n
			if err == unix.EAGAIN {
				time.Sleep(time.Millisecond)
			}
		}
		dr.Decref()
	}()
	p.want(size, unix.SYS_WRITE, uint64(w), p.memory, size)
}

func TestPollAndSelect(t *testing.T) {
	p := start(t)
	pair := p.room(8)
	p.want(0, unix.SYS_PIPE2, pair, 0)
	r, w := uint64(halfword(p.get(pair, 8), 0)), uint64(halfword(p.get(pair, 8), 4))
	fds := p.words(r|unix.POLLIN<<32, w|unix.POLLOUT<<32, 99|unix.POLLIN<<32, 0xffffffff)
	p.want(2, unix.SYS_POLL, fds, 4, 0)
	b := p.get(fds, 32)
	for i, want := range []byte{0, unix.POLLOUT, unix.POLLNVAL, 0} {
		if got := b[8*i+6]; got != want {
			t.Errorf("fd %d: revents %#x, want %#x", i, got, want)
		}
	}
	begin := time.Now()
	p.want(0, unix.SYS_POLL, fds, 1, 30)
	if d := time.Since(begin); d < 30*time.Millisecond {
		t.Errorf("poll returned after %v", d)
	}
	p.want(unix.EINVAL, unix.SYS_POLL, fds, 1<<31, 0)
	p.want(unix.EFAULT, unix.SYS_POLL, badAddress, 1, 0)

	in, out := p.words(1<<r), p.words(1<<w)
	timeout := p.words(0, 20000)
	p.want(1, unix.SYS_SELECT, 10, in, out, 0, timeout)
	if word(p.get(in, 8), 0) != 0 || word(p.get(out, 8), 0) != 1<<w {
		t.Error("select: wrong sets")
	}
	p.want(1, unix.SYS_WRITE, w, p.text("x"), 1)
	in = p.words(1 << r)
	p.want(1, unix.SYS_PSELECT6, 10, in, 0, 0, 0, p.words(0, 8))
	p.want(0, unix.SYS_CLOSE, w)
	p.want(unix.EBADF, unix.SYS_SELECT, 10, p.words(1<<w), 0, 0, timeout)
	p.want(unix.EINVAL, unix.SYS_SELECT, minus(1), 0, 0, 0, timeout)
	// A closed writing end is a hang-up.
	p.want(1, unix.SYS_READ, r, p.room(8), 8)
	p.want(1, unix.SYS_POLL, fds, 1, minus(1))
	if got := p.get(fds, 8)[6]; got != unix.POLLHUP {
		t.Errorf("revents %#x, want POLLHUP", got)
	}
}

func TestFilesByName(t *testing.T) {
	p := start(t)
	dir, file := p.text("/d"), p.text("/d/f")
	p.want(0, unix.SYS_MKDIR, dir, 0o777)
	p.want(unix.EEXIST, unix.SYS_MKDIR, dir, 0o777)
	fd := uint64(p.call(unix.SYS_CREAT, file, 0o666))
	p.want(5, unix.SYS_WRITE, fd, p.text("12345"), 5)
	st := p.room(144)
	p.want(0, unix.SYS_STAT, file, st)
	if b := p.get(st, 144); halfword(b, 24) != unix.S_IFREG|0o644 || word(b, 48) != 5 || word(b, 16) != 1 {
		t.Errorf("stat: mode %o, size %d, nlink %d", halfword(b, 24), word(b, 48), word(b, 16))
	}
	p.want(0, unix.SYS_NEWFSTATAT, fd, p.text(""), st, unix.AT_EMPTY_PATH)
	p.want(unix.ENOENT, unix.SYS_NEWFSTATAT, fd, p.text(""), st, 0)
	p.want(unix.EINVAL, unix.SYS_NEWFSTATAT, fd, file, st, 1)
	p.want(unix.EFAULT, unix.SYS_STAT, file, badAddress)
	stx := p.room(256)
	p.want(0, unix.SYS_STATX, minus(100), file, 0, unix.STATX_BASIC_STATS, stx)
	if b := p.get(stx, 256); word(b, 40) != 5 {
		t.Errorf("statx: size %d", word(b, 40))
	}
	p.want(unix.EINVAL, unix.SYS_STATX, minus(100), file, 0, 1<<31, stx)
	p.want(0, unix.SYS_SYMLINK, p.text("f"), p.text("/d/l"))
	out := p.room(100)
	p.want(1, unix.SYS_READLINK, p.text("/d/l"), out, 100)
	p.want(unix.EINVAL, unix.SYS_READLINK, p.text("/d/l"), out, 0)
	p.want(unix.EINVAL, unix.SYS_READLINK, file, out, 100)
	p.want(0, unix.SYS_CHDIR, dir)
	p.want(3, unix.SYS_GETCWD, out, 100)
	p.want(unix.ERANGE, unix.SYS_GETCWD, out, 2)
	p.want(0, unix.SYS_ACCESS, p.text("l"), unix.R_OK)
	p.want(unix.EINVAL, unix.SYS_ACCESS, p.text("l"), 8)
	p.want(0, unix.SYS_RENAME, p.text("f"), p.text("g"))
	p.want(unix.ENOENT, unix.SYS_ACCESS, p.text("l"), unix.R_OK)
	p.want(unix.ENOTEMPTY, unix.SYS_RMDIR, dir)

	d := uint64(p.call(unix.SYS_OPEN, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0))
	p.want(unix.EINVAL, unix.SYS_GETDENTS64, d, out, 10)
	n := p.call(unix.SYS_GETDENTS64, d, out, 1000)
	names := map[string]byte{}
	for b := p.get(out, int(n)); len(b) > 0; b = b[b[16]:] {
		names[cut(b[19:])] = b[18]
	}
	for name, typ := range map[string]byte{".": unix.DT_DIR, "..": unix.DT_DIR, "g": unix.DT_REG, "l": unix.DT_LNK} {
		if names[name] != typ {
			t.Errorf("%q has type %d, want %d (all: %v)", name, names[name], typ, names)
		}
	}
	p.want(0, unix.SYS_GETDENTS64, d, out, 1000)
	regular := uint64(p.call(unix.SYS_OPEN, p.text("g"), unix.O_RDONLY, 0))
	p.want(unix.ENOTDIR, unix.SYS_GETDENTS64, regular, out, 1000)
	p.want(0, unix.SYS_UNLINK, p.text("g"))
	p.want(0, unix.SYS_UNLINK, p.text("l"))
	p.want(unix.EISDIR, unix.SYS_UNLINK, dir)
	p.want(0o22, unix.SYS_UMASK, 0o77)
	p.want(0o77, unix.SYS_UMASK, 0)
	statfs := p.room(120)
	p.want(0, unix.SYS_STATFS, p.text("/"), statfs)
	if b := p.get(statfs, 8); word(b, 0) != unix.TMPFS_MAGIC {
		t.Errorf("statfs: type %#x", word(b, 0))
	}
	how := p.words(unix.O_RDONLY, 0, 0)
	p.want(unix.EINVAL, unix.SYS_OPENAT2, minus(100), dir, how, 8)
	p.want(unix.E2BIG, unix.SYS_OPENAT2, minus(100), dir, p.words(0, 0, 0, 1), 32)
	if p.call(unix.SYS_OPENAT2, minus(100), dir, how, 24) < 0 {
		t.Error("openat2 failed")
	}
}

func TestDescriptors(t *testing.T) {
	p := start(t)
	fd := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_RDWR|unix.O_CREAT, 0o644))
	p.want(1, unix.SYS_DUP, fd)
	p.want(7, unix.SYS_DUP2, fd, 7)
	p.want(7, unix.SYS_DUP2, 7, 7)
	p.want(unix.EINVAL, unix.SYS_DUP3, 7, 7, 0)
	p.want(9, unix.SYS_DUP3, fd, 9, unix.O_CLOEXEC)
	p.want(unix.FD_CLOEXEC, unix.SYS_FCNTL, 9, unix.F_GETFD)
	p.want(0, unix.SYS_FCNTL, 9, unix.F_SETFD, 0)
	p.want(0, unix.SYS_FCNTL, 9, unix.F_GETFD)
	p.want(20, unix.SYS_FCNTL, fd, unix.F_DUPFD, 20)
	p.want(unix.EINVAL, unix.SYS_FCNTL, fd, unix.F_DUPFD, 1<<20)
	p.want(unix.O_RDWR|largeFile, unix.SYS_FCNTL, fd, unix.F_GETFL)
	p.want(0, unix.SYS_FCNTL, fd, unix.F_SETFL, unix.O_NONBLOCK|unix.O_APPEND)
	p.want(unix.O_RDWR|largeFile|unix.O_NONBLOCK|unix.O_APPEND, unix.SYS_FCNTL, 20, unix.F_GETFL)
	p.want(unix.ENOTTY, unix.SYS_IOCTL, fd, unix.TCGETS, p.room(36))
	p.want(unix.EBADF, unix.SYS_IOCTL, 7, unix.FICLONE, 20)
	p.want(0, unix.SYS_FCNTL, fd, unix.F_SETFL, 0)
	p.want(unix.EOPNOTSUPP, unix.SYS_IOCTL, 7, unix.FICLONE, 20)
	p.want(unix.EBADF, unix.SYS_IOCTL, 7, unix.FICLONE, 99)
	p.want(unix.EFAULT, unix.SYS_IOCTL, 7, unix.FICLONERANGE, badAddress)
	p.want(unix.EISDIR, unix.SYS_IOCTL, 7, unix.FICLONE, uint64(p.call(unix.SYS_OPEN, p.text("/"), unix.O_RDONLY, 0)))
	p.want(unix.EINVAL, unix.SYS_FCNTL, fd, 999)
	p.want(0, unix.SYS_FCNTL, fd, unix.F_NOTIFY, dnMultishot)
	p.want(unix.EINVAL, unix.SYS_FCNTL, fd, unix.F_NOTIFY, dnMultishot|4)
	p.want(0, unix.SYS_CLOSE_RANGE, 3, ^uint64(0), 0)
	p.want(unix.EBADF, unix.SYS_DUP, 20)
	p.want(unix.EINVAL, unix.SYS_CLOSE_RANGE, 4, 3, 0)
	path := uint64(p.call(unix.SYS_OPEN, p.text("/f"), unix.O_PATH, 0))
	p.want(unix.EBADF, unix.SYS_READ, path, p.room(8), 8)
	p.want(unix.EBADF, unix.SYS_IOCTL, path, unix.TCGETS, 0)
	p.want(0, unix.SYS_FSTAT, path, p.room(144))
}

func TestSendfile(t *testing.T) {
	p := start(t)
	from := uint64(p.call(unix.SYS_OPEN, p.text("/a"), unix.O_RDWR|unix.O_CREAT, 0o644))
	to := uint64(p.call(unix.SYS_OPEN, p.text("/b"), unix.O_RDWR|unix.O_CREAT, 0o644))
	p.want(10, unix.SYS_WRITE, from, p.text("0123456789"), 10)
	off := p.words(4)
	p.want(6, unix.SYS_SENDFILE, to, from, off, 100)
	if got := word(p.get(off, 8), 0); got != 10 {
		t.Errorf("offset %d", got)
	}
	p.want(3, unix.SYS_COPY_FILE_RANGE, from, p.words(0), to, 0, 3, 0)
	out := p.room(20)
	p.want(9, unix.SYS_PREAD64, to, out, 20, 0)
	if got := p.get(out, 9); string(got) != "456789012" {
		t.Errorf("copied %q", got)
	}
	p.want(unix.EINVAL, unix.SYS_SPLICE, from, 0, to, 0, 10, 0)
	pair := p.room(8)
	p.want(0, unix.SYS_PIPE2, pair, 0)
	r, w := uint64(halfword(p.get(pair, 8), 0)), uint64(halfword(p.get(pair, 8), 4))
	p.want(8, unix.SYS_SPLICE, from, p.words(2), w, 0, 100, 0)
	p.want(8, unix.SYS_SPLICE, r, 0, to, p.words(0), 100, 0)
	p.want(unix.ESPIPE, unix.SYS_SPLICE, r, p.words(0), to, 0, 100, 0)
}
