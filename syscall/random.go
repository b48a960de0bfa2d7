package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/random"
)

// getrandom(2): the source is always ready, so it never blocks.
func sysGetrandom(t *kernel.Thread, a *args) (uint64, error) {
	flags := a.uint(2)
	if flags&^(unix.GRND_NONBLOCK|unix.GRND_RANDOM|unix.GRND_INSECURE) != 0 ||
		flags&(unix.GRND_RANDOM|unix.GRND_INSECURE) == unix.GRND_RANDOM|unix.GRND_INSECURE {
		return 0, unix.EINVAL
	}
	addr, size := a.arg(0), min(a.arg(1), maxIO)
	if err := mm.UserRange(addr, size); err != nil {
		return 0, err
	}
	b := &localOf(t).bytes
	done := uint64(0)
	for done < size {
		piece := b[:min(size-done, uint64(len(b)))]
		random.Fill(piece)
		n, err := t.MM().CopyOut(addr+done, piece)
		done += uint64(n)
		if err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
		if done < size && t.Interrupted() {
			break
		}
	}
	return done, nil
}
