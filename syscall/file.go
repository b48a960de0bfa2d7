package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/net"
	"elver/runtime/metal"
	"elver/vfs"
)

// Limits of reads and writes (readv(2), write(2)).
const (
	maxIO       = 0x7ffff000 // MAX_RW_COUNT, in bytes
	maxSegments = 1024       // IOV_MAX
)

// read(2)
func sysRead(t *kernel.Thread, a *args) (uint64, error) {
	l := localOf(t)
	var err error
	d := l.files.Peek(a.int(0))
	if d == nil || !d.Take() {
		if d, err = l.files.Get(a.int(0)); err != nil {
			return 0, err
		}
	}
	n := uint64(0)
	if err = l.user(t, d.Readable(), a.arg(1), a.arg(2)); err == nil {
		if d.Waits() {
			var k int
			k, err = d.ReadWaiting(&l.files, &l.buffer)
			n = uint64(k)
		} else {
			n, err = l.read(t, d)
		}
		t.CountRead(n)
	}
	d.Decref()
	return n, err
}

// write(2)
func sysWrite(t *kernel.Thread, a *args) (uint64, error) {
	l := localOf(t)
	d := l.files.Peek(a.int(0))
	if d != nil && d.Swallows() && a.arg(2) <= maxIO && mm.UserRange(a.arg(1), a.arg(2)) == nil {
		t.CountWrite(a.arg(2))
		return a.arg(2), nil
	}
	var err error
	if d == nil || !d.Take() {
		if d, err = l.files.Get(a.int(0)); err != nil {
			return 0, err
		}
	}
	n := uint64(0)
	if err = l.user(t, d.Writable(), a.arg(1), a.arg(2)); err == nil {
		// Mostly all goes at once.
		k := 0
		k, err = d.Write(&l.files, &l.buffer)
		n = uint64(k)
		if err != nil || k > 0 && l.buffer.Len() > 0 {
			n, err = l.writeOn(t, d, n, err)
		}
		t.CountWrite(n)
	}
	d.Decref()
	return n, err
}

// pread64(2)
func sysPread64(t *kernel.Thread, a *args) (uint64, error) {
	l := localOf(t)
	if int64(a.arg(3)) < 0 {
		return 0, unix.EINVAL
	}
	d, err := l.files.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	if err = l.userAt(t, d, d.Readable(), a.arg(1), a.arg(2)); err == nil {
		n, err = l.pread(t, d, int64(a.arg(3)))
		t.CountRead(n)
	}
	d.Decref()
	return n, err
}

// pwrite64(2)
func sysPwrite64(t *kernel.Thread, a *args) (uint64, error) {
	l := localOf(t)
	if int64(a.arg(3)) < 0 {
		return 0, unix.EINVAL
	}
	d, err := l.files.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	if err = l.userAt(t, d, d.Writable(), a.arg(1), a.arg(2)); err == nil {
		n, err = l.pwrite(t, d, int64(a.arg(3)))
		t.CountWrite(n)
	}
	d.Decref()
	return n, err
}

// readv(2)
func sysReadv(t *kernel.Thread, a *args) (uint64, error) {
	return vector(t, a, vectorCall{})
}

// writev(2)
func sysWritev(t *kernel.Thread, a *args) (uint64, error) {
	return vector(t, a, vectorCall{writes: true})
}

// preadv(2). The high half of the offset, in argument 4, is for 32-bit programs.
func sysPreadv(t *kernel.Thread, a *args) (uint64, error) {
	return vector(t, a, vectorCall{at: true})
}

// pwritev(2)
func sysPwritev(t *kernel.Thread, a *args) (uint64, error) {
	return vector(t, a, vectorCall{writes: true, at: true})
}

// preadv2(2)
func sysPreadv2(t *kernel.Thread, a *args) (uint64, error) {
	return vector(t, a, vectorCall{at: a.arg(3) != ^uint64(0), flags: a.uint(5)})
}

// pwritev2(2)
func sysPwritev2(t *kernel.Thread, a *args) (uint64, error) {
	return vector(t, a, vectorCall{writes: true, at: a.arg(3) != ^uint64(0), flags: a.uint(5)})
}

// vectorCall says which of the readv family a call is.
type vectorCall struct {
	writes bool
	at     bool   // at the offset in argument 3
	flags  uint32 // RWF_*
}

func vector(t *kernel.Thread, a *args, c vectorCall) (uint64, error) {
	l := localOf(t)
	off := int64(a.arg(3))
	if c.at && off < 0 {
		return 0, unix.EINVAL
	}
	d, err := l.files.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	if c.at && !d.TakesOffset() {
		return 0, unix.ESPIPE
	}
	if c.writes && !d.Writable() || !c.writes && !d.Readable() {
		return 0, unix.EBADF
	}
	if err := l.vector(t, a.arg(1), a.arg(2)); err != nil {
		return 0, err
	}
	if c.flags&^rwfKnown != 0 {
		return 0, unix.EOPNOTSUPP
	}
	n, err := l.transferred(t, d, c, off)
	if c.writes {
		t.CountWrite(n)
	} else {
		t.CountRead(n)
	}
	return n, err
}

// rwfKnown are the RWF_* that are known (preadv2(2)).
const rwfKnown = unix.RWF_HIPRI | unix.RWF_DSYNC | unix.RWF_SYNC | unix.RWF_NOWAIT | unix.RWF_APPEND

// transferred reads or writes the buffer, at off if c says so, with the flags of c, which are of rwfKnown.
func (l *local) transferred(t *kernel.Thread, d *vfs.Description, c vectorCall, off int64) (n uint64, err error) {
	if c.flags&unix.RWF_NOWAIT != 0 && !d.Seekable() {
		ready := waiter.EventMask(waiter.ReadableEvents)
		if c.writes {
			ready = waiter.WritableEvents
		}
		if d.Readiness(ready|waiter.EventHUp|waiter.EventErr) == 0 {
			return 0, unix.EAGAIN
		}
	}
	switch {
	case !c.writes && c.at:
		return l.pread(t, d, off)
	case !c.writes:
		return l.read(t, d)
	case c.flags&unix.RWF_APPEND != 0 && d.Seekable():
		var k int
		k, err = d.Append(&l.files, &l.buffer, !c.at)
		n = uint64(k)
	case c.at:
		n, err = l.pwrite(t, d, off)
	default:
		n, err = l.write(t, d)
	}
	if n > 0 {
		err = nil
	}
	if n > 0 && c.flags&(unix.RWF_DSYNC|unix.RWF_SYNC) != 0 && d.Seekable() {
		if err = d.SyncWritten(c.flags&unix.RWF_SYNC == 0); err != nil {
			n = 0
		}
	}
	return n, err
}

// user points the buffer at length bytes of the program's memory, for a file that allows the
// transfer or not.
func (l *local) user(t *kernel.Thread, allowed bool, addr, length uint64) error {
	if allowed && length <= maxIO && mm.InUserRange(addr, length) {
		l.buffer.Point(t.MM(), addr, length)
		return nil
	}
	return l.userSlowly(t, allowed, addr, length)
}

func (l *local) userSlowly(t *kernel.Thread, allowed bool, addr, length uint64) error {
	if !allowed {
		return unix.EBADF
	}
	if int64(length) < 0 {
		return unix.EINVAL
	}
	if err := mm.UserRange(addr, length); err != nil {
		return err
	}
	l.buffer.Point(t.MM(), addr, min(length, maxIO))
	return nil
}

// userAt is user for a transfer at an offset.
func (l *local) userAt(t *kernel.Thread, d *vfs.Description, allowed bool, addr, length uint64) error {
	if !d.TakesOffset() && !d.PathOnly() {
		return unix.ESPIPE
	}
	return l.user(t, allowed, addr, length)
}

// vector points the buffer at the count segments that the iovec array at addr names: EINVAL for too
// many or too long ones, EFAULT.
func (l *local) vector(t *kernel.Thread, addr, count uint64) error {
	segments, err := segmentsAt(t, l.segments[:0], addr, count)
	if err != nil {
		return err
	}
	l.buffer = mm.UserBuffer(t.MM(), segments)
	return nil
}

// segmentsAt reads the iovec array at addr into room, if it is large enough for it.
func segmentsAt(t *kernel.Thread, room []mm.Segment, addr, count uint64) ([]mm.Segment, error) {
	if count > maxSegments {
		return nil, unix.EINVAL
	}
	left := uint64(maxIO)
	var raw [128]byte
	for i := uint64(0); i < count; {
		n := min(count-i, uint64(len(raw)/16))
		if err := copyIn(t, raw[:16*n], addr+16*i); err != nil {
			return nil, err
		}
		for j := range n {
			s := mm.Segment{Addr: binary.LittleEndian.Uint64(raw[16*j:]), Len: binary.LittleEndian.Uint64(raw[16*j+8:])}
			if int64(s.Len) < 0 {
				return nil, unix.EINVAL
			}
			if err := mm.UserRange(s.Addr, s.Len); err != nil {
				return nil, err
			}
			s.Len = min(s.Len, left) // Linux cuts the whole at MAX_RW_COUNT
			left -= s.Len
			room = append(room, s)
		}
		i += n
	}
	return room, nil
}

// wouldBlock says whether err is EAGAIN, without the call that a comparison with a constant is.
func wouldBlock(err error) bool {
	n, ok := err.(unix.Errno)
	return ok && n == unix.EAGAIN
}

// read reads into the buffer, and waits for the first byte unless the file is non-blocking.
func (l *local) read(t *kernel.Thread, d *vfs.Description) (uint64, error) {
	for {
		n, err := d.Read(&l.files, &l.buffer)
		if n > 0 {
			return uint64(n), nil
		}
		if !wouldBlock(err) || d.NonBlocking() {
			return 0, err
		}
		if err := waitForFile(t, d, waiter.ReadableEvents); err != nil {
			return 0, err
		}
	}
}

// write writes the buffer: all of it, unless the file is non-blocking or a signal comes.
func (l *local) write(t *kernel.Thread, d *vfs.Description) (uint64, error) {
	n, err := d.Write(&l.files, &l.buffer)
	return l.writeOn(t, d, uint64(n), err)
}

// writeOn goes on with a write of the buffer of which the first try wrote done bytes and ended with err.
func (l *local) writeOn(t *kernel.Thread, d *vfs.Description, done uint64, err error) (uint64, error) {
	last := done
	for {
		if err == nil {
			// Streams may take a part and want to be asked again; of files a part is all.
			if last == 0 || l.buffer.Len() == 0 || d.Seekable() || d.NonBlocking() {
				return done, nil
			}
			metal.CondResched()
		} else {
			if wouldBlock(err) && !d.NonBlocking() {
				err = waitForFile(t, d, waiter.WritableEvents)
			}
			if err != nil {
				if err == unix.EPIPE && hasBrokenPipe(d, done) {
					brokenPipe(t)
				}
				if done > 0 {
					return done, nil
				}
				return 0, err
			}
		}
		var n int
		n, err = d.Write(&l.files, &l.buffer)
		last = uint64(n)
		done += last
	}
}

func (l *local) pread(t *kernel.Thread, d *vfs.Description, off int64) (uint64, error) {
	n, err := d.Pread(&l.files, &l.buffer, off)
	if n > 0 {
		err = nil
	}
	return uint64(n), err
}

func (l *local) pwrite(t *kernel.Thread, d *vfs.Description, off int64) (uint64, error) {
	n, err := d.Pwrite(&l.files, &l.buffer, off)
	if n > 0 {
		err = nil
	}
	return uint64(n), err
}

// brokenPipe sends the thread SIGPIPE (pipe(7)).
func brokenPipe(t *kernel.Thread) {
	const sig = kernel.Signal(unix.SIGPIPE)
	t.Send(sig, t.UserInfo(sig, kernel.SIUser))
}

// lseek(2)
func sysLseek(t *kernel.Thread, a *args) (uint64, error) {
	l := localOf(t)
	d, err := l.files.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	if d.PathOnly() {
		return 0, unix.EBADF
	}
	if a.uint(2) > unix.SEEK_HOLE {
		return 0, unix.EINVAL
	}
	off, err := d.Seek(&l.files, int64(a.arg(1)), int(a.int(2)))
	return uint64(off), err
}

// open(2)
func sysOpen(t *kernel.Thread, a *args) (uint64, error) {
	return openAt(t, vfs.AtCWD, a.arg(0), a.uint(1), a.uint(2))
}

// openat(2)
func sysOpenat(t *kernel.Thread, a *args) (uint64, error) {
	return openAt(t, a.int(0), a.arg(1), a.uint(2), a.uint(3))
}

// creat(2)
func sysCreat(t *kernel.Thread, a *args) (uint64, error) {
	return openAt(t, vfs.AtCWD, a.arg(0), unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, a.uint(1))
}

func openAt(t *kernel.Thread, dirFD int32, addr uint64, flags, mode uint32) (uint64, error) {
	path, err := pathAt(t, addr)
	if err != nil {
		return 0, err
	}
	if flags&unix.O_PATH == 0 {
		flags |= largeFile // which every open file of a 64-bit program has
	}
	n, err := filesOf(t).Open(dirFD, path, flags, mode)
	return uint64(n), err
}

// openat2(2)
func sysOpenat2(t *kernel.Thread, a *args) (uint64, error) {
	const known = 24 // OPEN_HOW_SIZE_VER0
	b, err := extensible(t, a.arg(2), a.arg(3), known)
	if err != nil {
		return 0, err
	}
	how := vfs.OpenHow{Flags: word(b, 0), Mode: word(b, 8), Resolve: word(b, 16)}
	path, err := pathAt(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	if how.Flags&unix.O_PATH == 0 {
		how.Flags |= largeFile
	}
	n, err := filesOf(t).Open2(a.int(0), path, how)
	return uint64(n), err
}

// extensible reads a struct that grows with Linux's versions: size is what the program knows, known
// what we do. EINVAL if it is smaller than the first version, which is known; E2BIG if what we don't
// know isn't zero (openat2(2), "Extensibility").
func extensible(t *kernel.Thread, addr, size uint64, known int) ([]byte, error) {
	if size < uint64(known) {
		return nil, unix.EINVAL
	}
	if size > mm.PageSize {
		return nil, unix.E2BIG
	}
	b := make([]byte, size)
	if err := copyIn(t, b, addr); err != nil {
		return nil, err
	}
	for _, c := range b[known:] {
		if c != 0 {
			return nil, unix.E2BIG
		}
	}
	return b[:known], nil
}

// close(2)
func sysClose(t *kernel.Thread, a *args) (uint64, error) {
	files := &localOf(t).files
	if net.AnyLingers() {
		if d, s, err := socketOf(files, a.int(0)); err == nil {
			defer linger(t, d, s)
		}
	}
	return 0, files.Close(a.int(0))
}

// close_range(2)
func sysCloseRange(t *kernel.Thread, a *args) (uint64, error) {
	return 0, localOf(t).files.CloseRange(a.uint(0), a.uint(1), a.uint(2))
}

// dup(2)
func sysDup(t *kernel.Thread, a *args) (uint64, error) {
	n, err := localOf(t).files.Dup(a.int(0))
	return uint64(n), err
}

// dup2(2)
func sysDup2(t *kernel.Thread, a *args) (uint64, error) {
	n, err := localOf(t).files.Dup2(a.int(0), a.int(1))
	return uint64(n), err
}

// dup3(2)
func sysDup3(t *kernel.Thread, a *args) (uint64, error) {
	n, err := localOf(t).files.Dup3(a.int(0), a.int(1), int(a.int(2)))
	return uint64(n), err
}

// withFile calls f with the open file of descriptor fd: EBADF, also for one opened with O_PATH.
func withFile(t *kernel.Thread, fd int32, f func(c *vfs.Context, d *vfs.Description) (uint64, error)) (uint64, error) {
	c := filesOf(t)
	d, err := c.Get(fd)
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	if d.PathOnly() {
		return 0, unix.EBADF
	}
	return f(c, d)
}

// fsync(2)
func sysFsync(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) { return 0, d.Sync(false) })
}

// fdatasync(2)
func sysFdatasync(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) { return 0, d.Sync(true) })
}

// syncfs(2)
func sysSyncfs(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) { return 0, d.Inode().FS().Sync() })
}

// sync_file_range(2)
func sysSyncFileRange(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		const flags = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		off, n := int64(a.arg(1)), int64(a.arg(2))
		if a.uint(3)&^flags != 0 || off < 0 || n < 0 || off+n < off {
			return 0, unix.EINVAL
		}
		if !d.Seekable() {
			return 0, unix.ESPIPE
		}
		return 0, d.Sync(true)
	})
}

// sync(2)
func sysSync(t *kernel.Thread, a *args) (uint64, error) {
	synced := make(map[vfs.FileSystem]bool)
	files := localOf(t).files.Files
	for _, m := range files.Namespace().Mounts(files.Namespace().Root()) {
		p, err := localOf(t).files.Walk(vfs.AtCWD, m.Point, 0)
		if err == nil && !synced[p.Inode().FS()] {
			synced[p.Inode().FS()] = true
			p.Inode().FS().Sync() // sync(2) has nobody to tell of an error
		}
	}
	return 0, nil
}

// truncate(2)
func sysTruncate(t *kernel.Thread, a *args) (uint64, error) {
	size := int64(a.arg(1))
	if size < 0 {
		return 0, unix.EINVAL
	}
	path, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	c := filesOf(t)
	if _, err := c.CheckFileSize(size, 0, 1<<63-1); err != nil {
		return 0, err
	}
	return 0, c.Truncate(path, size)
}

// ftruncate(2)
func sysFtruncate(t *kernel.Thread, a *args) (uint64, error) {
	size := int64(a.arg(1))
	if size < 0 {
		return 0, unix.EINVAL
	}
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) { return 0, d.Truncate(c, size) })
}

// fallocate(2)
func sysFallocate(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		off, n := int64(a.arg(2)), int64(a.arg(3))
		if off < 0 || n <= 0 {
			return 0, unix.EINVAL
		}
		return 0, d.Allocate(c, a.uint(1), off, n)
	})
}

// posix_fadvise(2)
func sysFadvise64(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		if vfs.PipeOf(d) != nil {
			return 0, unix.ESPIPE
		}
		if int64(a.arg(2)) < 0 || a.uint(3) > unix.FADV_NOREUSE {
			return 0, unix.EINVAL
		}
		return 0, nil
	})
}

// readahead(2)
func sysReadahead(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		if !d.Readable() {
			return 0, unix.EBADF
		}
		if mode, _, _ := d.Inode().Perm(); mode&unix.S_IFMT != unix.S_IFREG {
			return 0, unix.EINVAL
		}
		return 0, nil
	})
}
