package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
)

// pipe(2)
func sysPipe(t *kernel.Thread, a *args) (uint64, error) { return pipe(t, a.arg(0), 0) }

// pipe2(2)
func sysPipe2(t *kernel.Thread, a *args) (uint64, error) { return pipe(t, a.arg(0), a.uint(1)) }

func pipe(t *kernel.Thread, addr uint64, flags uint32) (uint64, error) {
	c := filesOf(t)
	r, w, err := c.Pipe(flags)
	if err != nil {
		return 0, err
	}
	return 0, installPair(t, c, r, w, flags&unix.O_CLOEXEC != 0, addr)
}

// installPair gives two files descriptors and writes these to addr; if that fails nothing stays open.
func installPair(t *kernel.Thread, c *vfs.Context, first, second *vfs.Description, cloexec bool, addr uint64) error {
	one, err := c.Install(first, cloexec)
	if err != nil {
		second.Decref()
		return err
	}
	two, err := c.Install(second, cloexec)
	if err != nil {
		c.Close(int32(one))
		return err
	}
	if err := t.MM().WriteUint64(addr, uint64(uint32(one))|uint64(uint32(two))<<32); err != nil {
		c.Close(int32(one))
		c.Close(int32(two))
		return err
	}
	return nil
}
