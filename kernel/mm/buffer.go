package mm

import (
	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// Segment is a piece of user memory (struct iovec).
type Segment struct{ Addr, Len uint64 }

// Buffer is where a read puts its bytes and where a write takes them: the program's memory, in one
// or many pieces, or the kernel's own. It is a value to embed; making one for a single piece
// allocates nothing. It remembers how far it got.
type Buffer struct {
	as     *AddressSpace // nil: kernel memory
	kernel []byte
	many   []Segment // nil: one
	one    Segment
	index  int    // the current segment
	in     uint64 // bytes done in it, or in kernel
	left   uint64 // bytes from here to the end
	size   uint64 // left at first
}

// UserBuffer returns a Buffer over the segments of iov, which the caller must not change meanwhile.
// Precondition: their lengths add up to less than 2^63.
func UserBuffer(as *AddressSpace, iov []Segment) Buffer {
	if len(iov) == 1 {
		return UserBuffer1(as, iov[0].Addr, iov[0].Len)
	}
	b := Buffer{as: as, many: iov}
	for _, s := range iov {
		b.size += s.Len
	}
	b.left = b.size
	return b
}

// UserBuffer1 returns a Buffer over length bytes of user memory at addr.
func UserBuffer1(as *AddressSpace, addr, length uint64) Buffer {
	return Buffer{as: as, one: Segment{addr, length}, left: length, size: length}
}

// Point makes b the Buffer that UserBuffer1 returns, in place.
func (b *Buffer) Point(as *AddressSpace, addr, length uint64) {
	b.as, b.many = as, nil
	b.one.Addr, b.one.Len = addr, length
	b.in, b.left, b.size = 0, length, length
}

// KernelBuffer returns a Buffer over p.
func KernelBuffer(p []byte) Buffer {
	return Buffer{kernel: p, left: uint64(len(p)), size: uint64(len(p))}
}

// Len returns how many bytes are left.
func (b *Buffer) Len() int { return int(b.left) }

// Done returns how many bytes were transferred or skipped.
func (b *Buffer) Done() int { return int(b.size - b.left) }

// Reset goes back to the start; what Limit cut off stays cut off.
func (b *Buffer) Reset() { b.index, b.in, b.left = 0, 0, b.size }

// Limit makes n bytes from here the end, if there are more.
func (b *Buffer) Limit(n int) {
	if cut := b.left - min(b.left, uint64(n)); cut > 0 {
		b.left -= cut
		b.size -= cut
	}
}

// Skip advances by n bytes, or to the end.
func (b *Buffer) Skip(n int) {
	for left := min(uint64(n), b.left); left > 0; {
		_, k := b.piece(left)
		b.advance(k)
		left -= k
	}
}

// segment returns the current segment, and moves on from one that is done.
func (b *Buffer) segment() *Segment {
	if b.many == nil {
		return &b.one
	}
	for b.in == b.many[b.index].Len && b.index+1 < len(b.many) {
		b.index++
		b.in = 0
	}
	return &b.many[b.index]
}

// piece returns the address of the next bytes, at most n, and how many there are in one piece.
// Precondition: 0 < n <= b.left.
func (b *Buffer) piece(n uint64) (addr, length uint64) {
	if b.as == nil {
		return 0, n
	}
	s := b.segment()
	return s.Addr + b.in, min(n, s.Len-b.in)
}

func (b *Buffer) advance(n uint64) {
	b.in += n
	b.left -= n
}

// CopyOut copies src into the buffer, as far as there is room, and advances. EFAULT, with the number
// of bytes that were done.
func (b *Buffer) CopyOut(src []byte) (int, error) {
	done := 0
	if n := uint64(len(src)); b.short(n) {
		done = amd64.CopyOutTo(b.as.table.Root(), b.one.Addr+b.in, src)
		b.advance(uint64(done))
		if done == len(src) {
			return done, nil
		}
	}
	rest, err := b.copyOut(src[done:])
	return done + rest, err
}

// short says whether the next n bytes can go the short way: in one piece, which most copies go to their end.
func (b *Buffer) short(n uint64) bool {
	return b.as != nil && b.many == nil && n <= b.left && n <= pieceBytes && userRange(b.one.Addr+b.in, n)
}

func (b *Buffer) copyOut(src []byte) (int, error) {
	n := min(len(src), int(b.left))
	if b.as == nil {
		copy(b.kernel[b.in:], src[:n])
		b.advance(uint64(n))
		return n, nil
	}
	for done := 0; done < n; {
		addr, length := b.piece(uint64(n - done))
		k, err := b.as.CopyOut(addr, src[done:done+int(length)])
		b.advance(uint64(k))
		done += k
		if err != nil {
			return done, err
		}
	}
	return n, nil
}

// CopyIn fills dst from the buffer, as far as it goes, and advances. EFAULT, with the number of bytes
// that were done.
func (b *Buffer) CopyIn(dst []byte) (int, error) {
	done := 0
	if n := uint64(len(dst)); b.short(n) {
		done = amd64.CopyInFrom(b.as.table.Root(), dst, b.one.Addr+b.in)
		b.advance(uint64(done))
		if done == len(dst) {
			return done, nil
		}
	}
	rest, err := b.copyIn(dst[done:])
	return done + rest, err
}

func (b *Buffer) copyIn(dst []byte) (int, error) {
	n := min(len(dst), int(b.left))
	if b.as == nil {
		copy(dst[:n], b.kernel[b.in:])
		b.advance(uint64(n))
		return n, nil
	}
	for done := 0; done < n; {
		addr, length := b.piece(uint64(n - done))
		k, err := b.as.CopyIn(dst[done:done+int(length)], addr)
		b.advance(uint64(k))
		done += k
		if err != nil {
			return done, err
		}
	}
	return n, nil
}

// ZeroOut clears n bytes of the buffer, or what is left, and advances. EFAULT, with the number of
// bytes that were done.
func (b *Buffer) ZeroOut(n int) (int, error) {
	n = min(n, int(b.left))
	if b.as == nil {
		clear(b.kernel[b.in : b.in+uint64(n)])
		b.advance(uint64(n))
		return n, nil
	}
	for done := 0; done < n; {
		addr, length := b.piece(uint64(n - done))
		k, err := b.as.ZeroOut(addr, length)
		b.advance(k)
		done += int(k)
		if err != nil {
			return done, err
		}
		metal.CondResched()
	}
	return n, nil
}

// UserRange reports whether the length bytes at addr may be the program's at all: EFAULT if not.
// It is what import_iovec checks of each segment before anything is transferred.
func UserRange(addr, length uint64) error {
	if !userRange(addr, length) {
		return unix.EFAULT
	}
	return nil
}

// InUserRange is UserRange for those who have an answer of their own.
func InUserRange(addr, length uint64) bool { return userRange(addr, length) }
