// Package cpio makes a tree of files from an initrd: cpio archives of the newc and crc formats, one
// behind the other with NULs between, each as it is or compressed, as Linux takes them
// (Documentation/driver-api/early-userspace/buffer-format.rst).
//
// The headers are parsed here rather than by a library: the memory that an uncompressed archive lies in
// becomes the files' memory, so the place of each file in it must be known, and what a hostile header
// says must be refused before anything is sized by it.
//
// Names are resolved as Linux does, in the tree that grows: through symbolic links of earlier records,
// with .. ending at the root. So no name leads out of the file system that is filled.
package cpio

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"

	"elver/runtime/metal"
	"elver/vfs/tmpfs"
)

// pieceSize is how much of a decompressed archive stands in memory beside its files, in bytes.
const pieceSize = 64 << 10

// Is reports whether a file that begins with head (8 bytes are enough) is an archive or compressed, and
// so is for Unpack. That includes formats that Unpack refuses with a sentence that names them.
func Is(head []byte) bool {
	head = bytes.TrimLeft(head, "\x00")
	for _, magic := range []string{magicNewc, magicCRC, magicOld} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return sniff(head) != nil
}

// Unpack fills fs, which is not yet in use, from the initrd of size bytes of physical memory at pa. The
// files of an uncompressed archive keep using that memory, which must stay as it is; a compressed one's
// are copies.
//
// What is no archive is refused with a sentence, and so is what doesn't fit into memory; fs then holds
// a part of the files. A record that Linux would pass over (a file in the way of a directory, say) is
// left out with a line in the log.
func Unpack(fs *tmpfs.FS, pa, size uint64) error {
	if size > math.MaxInt || !metal.Viewable(pa, int(size)) {
		return fmt.Errorf("the initrd: its %d bytes at %#x are not in memory", size, pa)
	}
	u := newUnpacker(fs)
	defer u.c.Files.Exit()
	all := metal.View(pa, int(size))
	if err := u.archives(&archive{source: &memory{all}, all: all, pa: pa}); err != nil {
		return fmt.Errorf("the initrd: %w", err)
	}
	u.finish()
	return nil
}

// A source gives the bytes of an archive; bufio.Reader is one.
type source interface {
	Peek(n int) ([]byte, error) // the next n bytes, or with an error those that are left
	Discard(n int) (int, error)
}

// memory is the source of what lies in memory.
type memory struct{ rest []byte }

func (m *memory) Peek(n int) ([]byte, error) {
	if n > len(m.rest) {
		return m.rest, io.EOF
	}
	return m.rest[:n], nil
}

func (m *memory) Discard(n int) (int, error) {
	if n > len(m.rest) {
		n = len(m.rest)
		m.rest = nil
		return n, io.EOF
	}
	m.rest = m.rest[n:]
	return n, nil
}

// archive is a sequence of archives: the initrd, or what a compressed part of it holds.
type archive struct {
	source
	at uint64 // bytes that were taken

	// Of the initrd itself:
	all []byte
	pa  uint64

	// Of a compressed part:
	format *format
	start  uint64 // its offset in the initrd
}

// inPlace says whether the archive's memory may become the files'.
func (a *archive) inPlace() bool { return a.format == nil }

// discard takes up to n bytes.
func (a *archive) discard(n int) error {
	k, err := a.source.Discard(n)
	a.at += uint64(k)
	return err
}

// refuse returns a sentence about what stands at offset at.
func (a *archive) refuse(at uint64, sentence string, args ...any) error {
	where := fmt.Sprintf("at offset %d", at)
	if a.format != nil {
		where = fmt.Sprintf("at offset %d of what the %s data at offset %d holds", at, a.format.name, a.start)
	}
	return fmt.Errorf("%s: %s", where, fmt.Sprintf(sentence, args...))
}

// short returns the error for an archive that ends inside of what; err is the source's.
func (a *archive) short(err error, what string) error {
	if err != io.EOF {
		return a.broken(err)
	}
	return a.refuse(a.at, "the archive ends inside of %s: it was cut off", what)
}

// broken returns the error for data that can't be decompressed.
func (a *archive) broken(err error) error {
	if a.format.isTooLarge(err) {
		return fmt.Errorf("the %s data at offset %d needs more memory to decompress than there is (%s): give the machine more with -m, or compress with a smaller window", a.format.name, a.start, memoryLeft())
	}
	return fmt.Errorf("the %s data at offset %d can't be decompressed: %w", a.format.name, a.start, err)
}

// skipPadding takes NULs, and returns the beginning of what comes next, or nothing at the end.
func (a *archive) skipPadding() ([]byte, error) {
	for {
		p, err := a.Peek(512)
		n := len(p) - len(bytes.TrimLeft(p, "\x00"))
		if n < len(p) {
			if err := a.discard(n); err != nil {
				return nil, err
			}
			next, _ := a.Peek(len(magicNewc))
			return next, nil
		}
		if derr := a.discard(n); derr != nil {
			return nil, derr
		}
		switch err {
		case nil:
		case io.EOF:
			return nil, nil
		default:
			return nil, a.broken(err)
		}
		metal.CondResched()
	}
}

// archives unpacks a to its end.
func (u *unpacker) archives(a *archive) error {
	for {
		head, err := a.skipPadding()
		if err != nil || len(head) == 0 {
			return err
		}
		if head[0] == '0' {
			err = u.record(a)
		} else if f := sniff(head); f != nil && a.format == nil {
			err = u.compressed(a, f)
		} else {
			err = a.refuse(a.at, "a cpio header (%s or %s) is wanted, and %q is there", magicNewc, magicCRC, head[:min(len(head), len(magicNewc))])
		}
		if err != nil {
			return err
		}
		metal.CondResched()
	}
}

// compressed unpacks the compressed part of the initrd a that comes next.
func (u *unpacker) compressed(a *archive, f *format) error {
	if f.open == nil {
		return a.refuse(a.at, "%s, which Elver doesn't take: %s", f.name, f.instead)
	}
	in := &input{memory: a.all, at: int(a.at)}
	inner := &archive{format: f, start: a.at}
	s, err := newStream(f, in)
	if err != nil {
		return inner.broken(err)
	}
	defer s.close()
	inner.source = bufio.NewReaderSize(s, pieceSize)
	if err := u.archives(inner); err != nil {
		return err
	}
	return a.discard(in.at - int(a.at))
}
