package syscall

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

const knownSplice = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MORE | unix.SPLICE_F_GIFT

// splice(2)
func sysSplice(t *kernel.Thread, a *args) (uint64, error) {
	n, flags := a.arg(4), a.uint(5)
	if n == 0 {
		return 0, nil
	}
	if flags&^knownSplice != 0 {
		return 0, unix.EINVAL
	}
	c, from, to, err := twoFiles(t, a.int(0), a.int(2))
	if err != nil {
		return 0, err
	}
	defer from.Decref()
	defer to.Decref()
	in, out := vfs.PipeOf(from), vfs.PipeOf(to)
	if in != nil && a.arg(1) != 0 || out != nil && a.arg(3) != 0 {
		return 0, unix.ESPIPE
	}
	if in == nil && out == nil || in == out || !spliceable(from, to) {
		return 0, unix.EINVAL
	}
	x := transfer{from: from, to: to, nonBlocking: flags&unix.SPLICE_F_NONBLOCK != 0}
	if x.fromOff, err = offsetAt(t, a.arg(1)); err != nil {
		return 0, err
	}
	if x.toOff, err = offsetAt(t, a.arg(3)); err != nil {
		return 0, err
	}
	if x.fromOff != nil && !from.TakesOffset() || x.toOff != nil && !to.TakesOffset() {
		return 0, unix.EINVAL
	}
	n = min(n, maxIO)
	var done uint64
	switch {
	case in != nil && out != nil:
		done, err = x.pipes(t, in, out, int(n), false)
	case in != nil:
		done, err = x.drain(t, c, in, int(n))
	default:
		done, err = x.fill(t, c, out, n)
	}
	if err != nil {
		return 0, err
	}
	if err := giveOffset(t, a.arg(1), x.fromOff); err != nil {
		return 0, err
	}
	return done, giveOffset(t, a.arg(3), x.toOff)
}

// spliceable says whether both files are of a kind that bytes are moved between: not what has only a
// descriptor, no directory, and nothing that appends.
func spliceable(from, to *vfs.Description) bool {
	mode, _, _ := from.Inode().Perm()
	return mode&unix.S_IFMT != unix.S_IFDIR && !from.Anonymous() && !to.Anonymous() && to.Flags()&unix.O_APPEND == 0
}

// tee(2)
func sysTee(t *kernel.Thread, a *args) (uint64, error) {
	n, flags := a.arg(2), a.uint(3)
	if flags&^knownSplice != 0 {
		return 0, unix.EINVAL
	}
	if n == 0 {
		return 0, nil
	}
	_, from, to, err := twoFiles(t, a.int(0), a.int(1))
	if err != nil {
		return 0, err
	}
	defer from.Decref()
	defer to.Decref()
	in, out := vfs.PipeOf(from), vfs.PipeOf(to)
	if in == nil || out == nil || in == out {
		return 0, unix.EINVAL
	}
	x := transfer{from: from, to: to, nonBlocking: flags&unix.SPLICE_F_NONBLOCK != 0}
	return x.pipes(t, in, out, int(min(n, maxIO)), true)
}

// waits says whether the call waits for d.
func (x *transfer) waits(d *vfs.Description) bool { return !x.nonBlocking && !d.NonBlocking() }

// await waits for room in the destination if the source has bytes, else for these.
func (x *transfer) await(t *kernel.Thread, in *vfs.Pipe) error {
	if in.Buffered() == 0 {
		if !x.waits(x.from) {
			return unix.EAGAIN
		}
		return t.BlockOn(x.from, waiter.ReadableEvents, kernel.Never)
	}
	if !x.waits(x.to) {
		return unix.EAGAIN
	}
	return waitForFile(t, x.to, waiter.WritableEvents)
}

// pipes moves bytes from pipe to pipe, or copies them with keep: what is there, at least one.
func (x *transfer) pipes(t *kernel.Thread, in, out *vfs.Pipe, n int, keep bool) (uint64, error) {
	for {
		done, err := vfs.Splice(in, out, n, keep)
		if err == unix.EPIPE {
			brokenPipe(t)
		}
		if err != unix.EAGAIN {
			return uint64(done), err
		}
		if err := x.await(t, in); err != nil {
			return 0, err
		}
	}
}

// drain moves bytes from a pipe to a file or socket until the pipe is empty or n went.
func (x *transfer) drain(t *kernel.Thread, c *vfs.Context, in *vfs.Pipe, n int) (uint64, error) {
	done := 0
	for done < n {
		k, err := in.Drain(n-done, func(p []byte) (int, error) { return x.put(c, p) })
		done += k
		if err == nil && k > 0 {
			if in.Buffered() == 0 || t.Interrupted() {
				break
			}
			continue
		}
		if err == unix.EAGAIN && (done == 0 || in.Buffered() != 0) {
			err = x.await(t, in)
			if err == nil {
				continue
			}
		}
		if err == unix.EPIPE && hasBrokenPipe(x.to, uint64(done)) {
			brokenPipe(t)
		}
		if done > 0 {
			err = nil
		}
		return uint64(done), err
	}
	return uint64(done), nil
}

// put writes once.
func (x *transfer) put(c *vfs.Context, p []byte) (int, error) {
	b := mm.KernelBuffer(p)
	if x.toOff == nil {
		return x.to.Write(c, &b)
	}
	n, err := x.to.Pwrite(c, &b, *x.toOff)
	*x.toOff += int64(n)
	return n, err
}

// fill moves bytes from a file or socket into a pipe, no more than it has room for: bytes that were taken
// from a stream must not be lost.
func (x *transfer) fill(t *kernel.Thread, c *vfs.Context, out *vfs.Pipe, n uint64) (uint64, error) {
	for out.Room() == 0 {
		if x.to.Readiness(waiter.EventErr)&waiter.EventErr != 0 {
			break // nobody reads: writing will say so
		}
		if !x.waits(x.to) {
			return 0, unix.EAGAIN
		}
		if err := t.BlockOn(x.to, waiter.WritableEvents, kernel.Never); err != nil {
			return 0, err
		}
	}
	x.place = !x.from.Seekable()
	return x.run(t, c, min(n, uint64(max(out.Room(), 1))))
}

// vmsplice(2): the pages are copied, whether they are a gift or not.
func sysVmsplice(t *kernel.Thread, a *args) (uint64, error) {
	flags := a.uint(3)
	if flags&^knownSplice != 0 {
		return 0, unix.EINVAL
	}
	c := filesOf(t)
	d, err := c.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	if vfs.PipeOf(d) == nil || !d.Readable() && !d.Writable() {
		return 0, unix.EBADF
	}
	l := localOf(t)
	if err := l.vector(t, a.arg(1), a.arg(2)); err != nil {
		return 0, err
	}
	if l.buffer.Len() == 0 {
		return 0, nil
	}
	move, events := d.Write, waiter.WritableEvents
	if !d.Writable() {
		move, events = d.Read, waiter.ReadableEvents
	}
	for {
		n, err := move(c, &l.buffer)
		if err == unix.EPIPE {
			brokenPipe(t)
		}
		if err != unix.EAGAIN || flags&unix.SPLICE_F_NONBLOCK != 0 {
			return uint64(n), err
		}
		if err := t.BlockOn(d, events, kernel.Never); err != nil {
			return 0, err
		}
	}
}
