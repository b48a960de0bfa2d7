package cpio

import (
	"bytes"
)

// The formats by their first six bytes (cpio(5)).
const (
	magicNewc = "070701"
	magicCRC  = "070702" // newc with a sum of each file's bytes
	magicOld  = "070707"
)

const (
	headerSize = 110  // the magic number and 13 fields of 8 hexadecimal digits
	pathMax    = 4096 // with the NUL
	nameMax    = 255
	trailer    = "TRAILER!!!"
)

// header is what stands before a file's name and content.
type header struct {
	crc bool

	ino, mode, uid, gid, nlink, mtime, size, devMajor, devMinor, rdevMajor, rdevMinor, nameSize, sum uint32
}

var fieldNames = [13]string{
	"inode", "mode", "uid", "gid", "nlink", "mtime", "filesize", "devmajor", "devminor", "rdevmajor", "rdevminor", "namesize", "check",
}

// align returns n rounded up to the multiple of 4 at which the next part of a record begins.
func align(n uint64) uint64 { return (n + 3) &^ 3 }

// header reads the header and name that come next.
func (a *archive) header() (h header, name string, err error) {
	offset := a.at
	p, err := a.Peek(headerSize)
	switch {
	case len(p) >= 6 && string(p[:6]) == magicOld:
		return h, "", a.refuse(offset, "a cpio archive of the old character format, which Elver doesn't take: make it with cpio -H newc")
	case len(p) >= 6 && string(p[:6]) != magicNewc && string(p[:6]) != magicCRC:
		return h, "", a.refuse(offset, "a cpio header (%s or %s) is wanted, and %q is there", magicNewc, magicCRC, p[:6])
	case len(p) < headerSize:
		return h, "", a.short(err, "a header")
	}
	h.crc = string(p[:6]) == magicCRC
	for i, field := range [13]*uint32{
		&h.ino, &h.mode, &h.uid, &h.gid, &h.nlink, &h.mtime, &h.size, &h.devMajor, &h.devMinor, &h.rdevMajor, &h.rdevMinor, &h.nameSize, &h.sum,
	} {
		digits := p[6+8*i : 6+8*i+8]
		n, ok := hex(digits)
		if !ok {
			return h, "", a.refuse(offset, "the header's field %s is %q, which is no hexadecimal number", fieldNames[i], digits)
		}
		*field = n
	}
	if h.nameSize == 0 || h.nameSize > pathMax {
		return h, "", a.refuse(offset, "the header announces a name of %d bytes; 1 to %d are possible", h.nameSize, pathMax)
	}
	end := headerSize + int(h.nameSize)
	p, err = a.Peek(int(align(uint64(end))))
	if len(p) < end {
		return h, "", a.short(err, "a name")
	}
	// The name may be followed by more NULs than one, which put the content on a page's boundary.
	raw := p[headerSize:end]
	if raw[len(raw)-1] != 0 {
		return h, "", a.refuse(offset, "the name %q does not end with a NUL", raw[:min(len(raw), 64)])
	}
	raw, _, _ = bytes.Cut(raw, []byte{0})
	name = string(raw)
	return h, name, a.discard(len(p))
}

// hex returns the number that 8 hexadecimal digits are.
func hex(digits []byte) (n uint32, ok bool) {
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | uint32(c)
	}
	return n, true
}
