package unixsocket

import (
	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
)

// fifo is bytes in frames, first in, first out. Its owner locks it.
type fifo struct {
	frames []uint64 // a ring, its length a power of two; nil before the first byte
	first  uint32   // frames[first % len] holds the oldest byte
	used   uint32   // how many are in use
	start  int      // where the oldest byte is in the first frame
	end    int      // where the next byte goes in the last one
}

func (f *fifo) frame(i uint32) []byte {
	return metal.View(f.frames[(f.first+i)&uint32(len(f.frames)-1)], metal.FrameSize)
}

// grow adds a frame: ENOBUFS if there is none.
func (f *fifo) grow() error {
	frame, ok := mm.AllocFrame(metal.OwnerPageCache)
	if !ok {
		return unix.ENOBUFS
	}
	if f.used == uint32(len(f.frames)) {
		ring := make([]uint64, max(2*len(f.frames), 1))
		for i := range f.used {
			ring[i] = f.frames[(f.first+i)&(f.used-1)]
		}
		f.frames, f.first = ring, 0
	}
	f.frames[(f.first+f.used)&uint32(len(f.frames)-1)] = frame
	f.used++
	f.end = 0
	return nil
}

// add appends n bytes of src, and returns how many it could: fewer with EFAULT or ENOBUFS.
func (f *fifo) add(src *mm.Buffer, n int) (int, error) {
	done := 0
	for done < n {
		if f.used == 0 || f.end == metal.FrameSize {
			if err := f.grow(); err != nil {
				return done, err
			}
		}
		k, err := src.CopyIn(f.frame(f.used - 1)[f.end:min(f.end+n-done, metal.FrameSize)])
		f.end += k
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// undo takes the last n bytes away again.
func (f *fifo) undo(n int) {
	for f.end -= n; f.end < 0; f.end += metal.FrameSize {
		f.used--
		metal.Unref(f.frames[(f.first+f.used)&uint32(len(f.frames)-1)])
	}
}

// copyTo copies n bytes, from the one at position at on, to dst: fewer with EFAULT.
// Precondition: they are there.
func (f *fifo) copyTo(dst *mm.Buffer, at, n int) (int, error) {
	done := 0
	for at += f.start; done < n; {
		off := at % metal.FrameSize
		k, err := dst.CopyOut(f.frame(uint32(at / metal.FrameSize))[off:min(off+n-done, metal.FrameSize)])
		at += k
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// drop takes the oldest n bytes out. The last frame stays for what comes next.
// Precondition: they are there.
func (f *fifo) drop(n int) {
	f.start += n
	for f.used > 1 && f.start >= metal.FrameSize {
		metal.Unref(f.frames[f.first&uint32(len(f.frames)-1)])
		f.first++
		f.used--
		f.start -= metal.FrameSize
	}
	if f.used == 1 && f.start == f.end {
		f.start, f.end = 0, 0
	}
}

// release gives all frames back.
func (f *fifo) release() {
	for ; f.used > 0; f.used-- {
		metal.Unref(f.frames[f.first&uint32(len(f.frames)-1)])
		f.first++
	}
	*f = fifo{}
}
