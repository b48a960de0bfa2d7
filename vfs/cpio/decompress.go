package cpio

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"

	"elver/runtime/metal"
)

// format is a way to compress, told by the first bytes.
type format struct {
	name  string
	magic string

	// open returns what decompresses in, using up to limit bytes of heap. nil: not supported.
	open func(in *input, limit uint64) (io.Reader, error)
	heap uint64 // what open's reader takes of the heap in any case, in bytes
	// A decompressor that goes on with whatever comes behind the compressed data ends with the error
	// end, having taken overrun bytes too many.
	end     error
	overrun int
	endless bool // the data may end with the memory

	instead string // if not supported: what to do
}

const recompress = "compress it with gzip, zstd, xz, lz4 or bzip2, or not at all"

var formats = [...]format{
	{name: "gzip", magic: "\x1f\x8b", open: openGzip, heap: 64 << 10},
	{name: "zstd", magic: "\x28\xb5\x2f\xfd", open: openZstd, heap: 1 << 20, end: zstd.ErrMagicMismatch, overrun: 4},
	{name: "lz4", magic: lz4Legacy, open: openLZ4Legacy, heap: 24 << 20, endless: true},
	{name: "lz4", magic: "\x04\x22\x4d\x18", open: openLZ4, heap: 12 << 20},
	// The decompressor looks for another stream behind the first.
	{name: "bzip2", magic: "BZh", open: openBzip2, heap: 5 << 20, end: bzip2.StructuralError("bad magic value in continuation file"), overrun: 2},
	{name: "xz", magic: "\xfd7zXZ\x00", open: openXZ, heap: 1 << 20, endless: true},
	{name: "lzma data", magic: "\x5d\x00\x00", instead: recompress},
	{name: "lzop data", magic: "\x89LZO", instead: recompress},
	{name: "a cpio archive of the old binary format", magic: "\xc7\x71", instead: "make it with cpio -H newc"},
	{name: "a cpio archive of the old binary format", magic: "\x71\xc7", instead: "make it with cpio -H newc"},
}

// sniff returns the format of what begins with head, or nil.
func sniff(head []byte) *format {
	for i := range formats {
		if bytes.HasPrefix(head, []byte(formats[i].magic)) {
			return &formats[i]
		}
	}
	return nil
}

// errTooLarge says that a decompressor wants more heap than it may have.
var errTooLarge = errors.New("the memory is too small for the decompressor")

func (f *format) isTooLarge(err error) bool {
	return err == errTooLarge || err == zstd.ErrWindowSizeExceeded || err == zstd.ErrDecoderSizeExceeded || err == xz.ErrMemlimit
}

func openGzip(in *input, _ uint64) (io.Reader, error) {
	z, err := gzip.NewReader(in)
	if err == nil {
		// Another member is for the caller to find.
		z.Multistream(false)
	}
	return z, err
}

func openBzip2(in *input, _ uint64) (io.Reader, error) { return bzip2.NewReader(in), nil }

func openZstd(in *input, limit uint64) (io.Reader, error) {
	// Linux's own limit of the window.
	limit = min(limit, 128<<20)
	return zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(limit), zstd.WithDecoderMaxMemory(limit))
}

func openLZ4(in *input, _ uint64) (io.Reader, error) { return lz4.NewReader(in), nil }

// openXZ lets the decompressor, which takes all that it is given for its own, see one stream.
func openXZ(in *input, limit uint64) (io.Reader, error) {
	if n := xzLength(in.memory[in.at:]); n > 0 {
		in.memory = in.memory[:in.at+n]
	}
	return xz.NewReader(in, uint32(min(limit, math.MaxUint32)))
}

// xzLength returns how long the xz stream is that p begins with, or 0 if its end isn't there. The end is
// a footer with an index before it, whose blocks reach back to the beginning of p (The .xz File Format
// 1.1.0, sections 2 and 4): an xz file that the stream holds uncompressed has a footer too, but another
// beginning.
func xzLength(p []byte) int {
	const headerBytes, footerBytes = 12, 12
	le := binary.LittleEndian
	budget := uint64(len(p)) + 1<<20 // bytes of what seem to be indexes: a hostile stream is full of them
	for end := headerBytes + footerBytes; ; end++ {
		next := bytes.Index(p[min(end-2, len(p)):], []byte("YZ"))
		if next < 0 {
			return 0
		}
		end += next
		footer := p[end-footerBytes : end]
		indexBytes := 4 * (uint64(le.Uint32(footer[4:])) + 1)
		if crc32.ChecksumIEEE(footer[4:10]) != le.Uint32(footer) || indexBytes > uint64(end-headerBytes-footerBytes) {
			continue
		}
		if indexBytes > budget {
			return 0
		}
		budget -= indexBytes
		at := end - footerBytes - int(indexBytes)
		if blocks, ok := xzBlocks(p[at : end-footerBytes]); ok && blocks == uint64(at-headerBytes) {
			return end
		}
	}
}

// xzBlocks returns how long the blocks are that an index lists, in bytes.
func xzBlocks(index []byte) (total uint64, ok bool) {
	n := len(index) - 4
	if index[0] != 0 || crc32.ChecksumIEEE(index[:n]) != binary.LittleEndian.Uint32(index[n:]) {
		return 0, false
	}
	r := bytes.NewReader(index[1:n])
	number := func() uint64 {
		v, err := binary.ReadUvarint(r)
		if err != nil || v > math.MaxInt64 {
			r.Reset(nil)
			return 0
		}
		return v
	}
	for records := number(); records > 0 && r.Len() > 0; records-- {
		total += (number() + 3) &^ 3
		number() // how long the block's data is
		if total > math.MaxInt64/2 {
			return 0, false
		}
	}
	return total, true
}

// lz4Legacy begins what Linux's build makes (lz4 -l): blocks of up to 8 MiB behind their sizes, without
// an end.
const (
	lz4Legacy      = "\x02\x21\x4c\x18"
	lz4LegacyBound = 8<<20 + 8<<20/255 + 16 // the largest compressed block, in bytes
)

// openLZ4Legacy lets the decompressor see the data as far as there are blocks: until the memory ends or
// a size is none.
func openLZ4Legacy(in *input, _ uint64) (io.Reader, error) {
	rest := in.memory[in.at:]
	end := 0
	for end+4 <= len(rest) {
		size := uint64(rest[end]) | uint64(rest[end+1])<<8 | uint64(rest[end+2])<<16 | uint64(rest[end+3])<<24
		if string(rest[end:end+4]) == lz4Legacy {
			size = 0
		} else if size == 0 || size > lz4LegacyBound {
			break
		}
		end = int(min(uint64(end)+4+size, uint64(len(rest))))
	}
	in.memory = in.memory[:in.at+end]
	return lz4.NewReader(in), nil
}

// input is the memory that a decompressor reads. Behind its end are as many NULs as the decompressor
// looks beyond its data, so that it meets the same end everywhere.
type input struct {
	memory []byte
	at     int
	nuls   int
	ended  bool // something was wanted behind the end
}

// Read reads.
func (in *input) Read(p []byte) (int, error) {
	n := 0
	if in.at < len(in.memory) {
		n = copy(p, in.memory[in.at:])
	}
	for n < len(p) && in.at+n >= len(in.memory) && in.at+n < len(in.memory)+in.nuls {
		p[n] = 0
		n++
	}
	in.at += n
	if n == 0 && len(p) > 0 {
		in.ended = true
		return 0, io.EOF
	}
	return n, nil
}

// ReadByte reads a byte.
func (in *input) ReadByte() (byte, error) {
	var p [1]byte
	_, err := in.Read(p[:])
	return p[0], err
}

// stream is the decompressed data. Its errors stay.
type stream struct {
	format *format
	in     *input
	r      io.Reader
	err    error
}

// newStream returns what the data at in's place, which is of format f, holds.
func newStream(f *format, in *input) (*stream, error) {
	in.nuls = f.overrun
	var room uint64
	if s := metal.Frames(); s.Free > s.Reserve {
		room = (s.Free - s.Reserve) * metal.FrameSize
	}
	if f.heap > room {
		return nil, errTooLarge
	}
	r, err := f.open(in, max(room/2, 1<<20))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return &stream{format: f, in: in, r: r}, nil
}

// Read reads. After io.EOF, in stands behind the compressed data.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil {
		switch {
		case s.format.end != nil && err == s.format.end:
			s.in.at -= s.format.overrun
			err = io.EOF
		case err == io.EOF && (s.format.end != nil || s.in.ended && !s.format.endless):
			err = io.ErrUnexpectedEOF
		}
		s.err = err
	}
	return n, err
}

// close gives the decompressor's memory back.
func (s *stream) close() {
	if z, ok := s.r.(*zstd.Decoder); ok {
		z.Close()
	}
}
