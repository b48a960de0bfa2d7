package syscall

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// Bytes between two files, through a buffer of the kernel's: sendfile, copy_file_range, splice into a pipe.

// copyPiece is how many bytes are moved at once.
const copyPiece = 64 << 10

// transfer is a copy from one file to another, at offsets of its own or at those of the files.
type transfer struct {
	from, to       *vfs.Description
	fromOff, toOff *int64
	nonBlocking    bool // of the call: SPLICE_F_NONBLOCK
	place          bool // what was read must be written: waiting for room even so
}

// run moves up to n bytes and returns how many. It waits, unless told not to, for the first of them.
func (x *transfer) run(t *kernel.Thread, c *vfs.Context, n uint64) (uint64, error) {
	n = min(n, maxIO)
	buffer := make([]byte, min(n, copyPiece))
	done := uint64(0)
	for done < n {
		got, err := x.read(t, c, buffer[:min(n-done, copyPiece)], done == 0)
		if err != nil && done > 0 || got == 0 {
			if done > 0 {
				err = nil
			}
			return done, err
		}
		put, err := x.write(t, c, buffer[:got])
		done += uint64(put)
		if put < got {
			x.giveBack(c, int64(got-put))
			if done > 0 {
				err = nil
			}
			return done, err
		}
		if t.Interrupted() {
			break
		}
	}
	return done, nil
}

func (x *transfer) read(t *kernel.Thread, c *vfs.Context, p []byte, first bool) (int, error) {
	for {
		b := mm.KernelBuffer(p)
		var n int
		var err error
		if x.fromOff != nil {
			n, err = x.from.Pread(c, &b, *x.fromOff)
			*x.fromOff += int64(n)
		} else {
			n, err = x.from.Read(c, &b)
		}
		if n > 0 {
			return n, nil
		}
		if err != unix.EAGAIN || x.nonBlocking || !first || x.from.NonBlocking() {
			return 0, err
		}
		if err := waitForFile(t, x.from, waiter.ReadableEvents); err != nil {
			return 0, err
		}
	}
}

func (x *transfer) write(t *kernel.Thread, c *vfs.Context, p []byte) (int, error) {
	b := mm.KernelBuffer(p)
	done := 0
	for b.Len() > 0 {
		var n int
		var err error
		if x.toOff != nil {
			n, err = x.to.Pwrite(c, &b, *x.toOff)
			*x.toOff += int64(n)
		} else {
			n, err = x.to.Write(c, &b)
		}
		done += n
		if err == unix.EPIPE && hasBrokenPipe(x.to, uint64(done)) {
			brokenPipe(t)
		}
		if err == unix.EAGAIN && (x.place || !x.nonBlocking && !x.to.NonBlocking()) {
			err = waitForFile(t, x.to, waiter.WritableEvents)
		}
		if err != nil {
			return done, err
		}
		if n == 0 && x.to.Seekable() {
			return done, nil
		}
	}
	return done, nil
}

// giveBack moves the source's offset back over n bytes that found no room. Bytes from a stream would be
// lost: see place.
func (x *transfer) giveBack(c *vfs.Context, n int64) {
	switch {
	case x.fromOff != nil:
		*x.fromOff -= n
	case x.from.Seekable():
		x.from.Seek(c, -n, unix.SEEK_CUR)
	}
}

// offsetAt reads an offset that a call takes and gives back; nil for a null pointer.
func offsetAt(t *kernel.Thread, addr uint64) (*int64, error) {
	if addr == 0 {
		return nil, nil
	}
	v, err := t.MM().ReadUint64(addr)
	if err != nil {
		return nil, err
	}
	off := int64(v)
	if off < 0 {
		return nil, unix.EINVAL
	}
	return &off, nil
}

// giveOffset writes the offset back.
func giveOffset(t *kernel.Thread, addr uint64, off *int64) error {
	if off == nil {
		return nil
	}
	return t.MM().WriteUint64(addr, uint64(*off))
}

// twoFiles gets the files that a call moves bytes between.
func twoFiles(t *kernel.Thread, in, out int32) (c *vfs.Context, from, to *vfs.Description, err error) {
	c = filesOf(t)
	if from, err = c.Get(in); err != nil {
		return nil, nil, nil, err
	}
	if to, err = c.Get(out); err != nil {
		from.Decref()
		return nil, nil, nil, err
	}
	if !from.Readable() || !to.Writable() {
		from.Decref()
		to.Decref()
		return nil, nil, nil, unix.EBADF
	}
	return c, from, to, nil
}

// sendfile(2)
func sysSendfile(t *kernel.Thread, a *args) (uint64, error) {
	off, err := offsetAt(t, a.arg(2))
	if err != nil {
		return 0, err
	}
	c, from, to, err := twoFiles(t, a.int(1), a.int(0))
	if err != nil {
		return 0, err
	}
	defer from.Decref()
	defer to.Decref()
	if off != nil && !from.TakesOffset() {
		return 0, unix.ESPIPE
	}
	// Bytes of a stream would be lost if they found no room, so that only a pipe, whose room is known, takes
	// them, and not another pipe's: splice(2) is for that. A program that is told EINVAL reads and writes.
	out := vfs.PipeOf(to)
	if vfs.PipeOf(from) != nil || !from.TakesOffset() && out == nil || !spliceable(from, to) {
		return 0, unix.EINVAL
	}
	x := transfer{from: from, to: to, fromOff: off}
	var n uint64
	if out != nil {
		n, err = x.fill(t, c, out, a.arg(3))
	} else {
		n, err = x.run(t, c, a.arg(3))
	}
	t.CountRead(n)
	t.CountWrite(n)
	if err != nil {
		return 0, err
	}
	return n, giveOffset(t, a.arg(2), off)
}

// copy_file_range(2)
func sysCopyFileRange(t *kernel.Thread, a *args) (uint64, error) {
	c, from, to, err := twoFiles(t, a.int(0), a.int(2))
	if err != nil {
		return 0, err
	}
	defer from.Decref()
	defer to.Decref()
	if a.uint(5) != 0 {
		return 0, unix.EINVAL
	}
	x := transfer{from: from, to: to}
	if x.fromOff, err = offsetAt(t, a.arg(1)); err != nil {
		return 0, err
	}
	if x.toOff, err = offsetAt(t, a.arg(3)); err != nil {
		return 0, err
	}
	if to.Flags()&unix.O_APPEND != 0 {
		return 0, unix.EBADF
	}
	for _, d := range [...]*vfs.Description{from, to} {
		switch mode, _, _ := d.Inode().Perm(); mode & unix.S_IFMT {
		case unix.S_IFREG:
		case unix.S_IFDIR:
			return 0, unix.EISDIR
		default:
			return 0, unix.EINVAL
		}
	}
	if from.Inode() == to.Inode() && overlap(from, to, &x, a.arg(4)) {
		return 0, unix.EINVAL
	}
	n, err := x.run(t, c, a.arg(4))
	t.CountRead(n)
	t.CountWrite(n)
	if err != nil {
		return 0, err
	}
	if err := giveOffset(t, a.arg(1), x.fromOff); err != nil {
		return 0, err
	}
	return n, giveOffset(t, a.arg(3), x.toOff)
}

// overlap says whether a copy within one file would read what it writes.
func overlap(from, to *vfs.Description, x *transfer, n uint64) bool {
	start, end := from.Offset(), to.Offset()
	if x.fromOff != nil {
		start = *x.fromOff
	}
	if x.toOff != nil {
		end = *x.toOff
	}
	return uint64(max(start-end, end-start)) < n
}
