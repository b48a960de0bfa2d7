package cpio

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"

	"elver/vfs"
)

// Extended attributes have no place in cpio(5). They stand in a record of their own behind the file's, as the
// patches "initramfs: add support for xattrs" (Roberto Sassu, 2019) proposed it for Linux: the record's name
// is METADATA!!!, its content a sequence of items. An item has its size, itself included, in 8 hexadecimal
// digits, a byte for the version, one for the type, and for an attribute its name, a NUL and its value.
const (
	metadataName    = "METADATA!!!"
	metadataMax     = 64 << 10 // of a record, in bytes
	metadataVersion = 1
	metadataXattr   = 1
	itemHeader      = 10
)

// metadata gives the file of the record before what the content that comes next says.
func (u *unpacker) metadata(a *archive, h header) error {
	if u.file == nil {
		return unix.ENOENT
	}
	if h.size > metadataMax {
		return unix.E2BIG
	}
	p, err := a.Peek(int(h.size))
	if err != nil {
		return a.short(err, metadataName)
	}
	for len(p) > 0 {
		if len(p) < itemHeader {
			return unix.EINVAL
		}
		size, ok := hex(p[:8])
		if !ok || size < itemHeader || uint64(size) > uint64(len(p)) {
			return unix.EINVAL
		}
		version, kind, item := p[8], p[9], p[itemHeader:size]
		p = p[size:]
		if version != metadataVersion || kind != metadataXattr {
			continue // of a later time
		}
		name, value, ok := bytes.Cut(item, []byte{0})
		if !ok {
			return unix.EINVAL
		}
		if err := u.setXattr(string(name), value); err != nil {
			return err
		}
	}
	return nil
}

// setXattr sets an attribute of the record before. Those that nobody could read are left out: the labels of
// security modules, access control lists.
func (u *unpacker) setXattr(name string, value []byte) error {
	if len(name) > nameMax || !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "trusted.") && name != "security.capability" {
		return nil
	}
	x, ok := u.file.(vfs.Xattrer)
	if !ok {
		return unix.EOPNOTSUPP
	}
	return x.SetXattr(name, value, 0)
}
