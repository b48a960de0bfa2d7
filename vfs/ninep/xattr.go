package ninep

import (
	"strings"

	"golang.org/x/sys/unix"

	"elver/runtime/metal"
)

// maxXattr bounds the value of an attribute, and the list of names, in bytes (xattr(7)).
const maxXattr = 64 << 10

// GetXattr returns the value of an attribute: ENODATA.
func (i *inode) GetXattr(name string) ([]byte, error) { return i.readXattr(name) }

// ListXattr returns the names.
func (i *inode) ListXattr() []string {
	list, err := i.readXattr("")
	if err != nil || len(list) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
}

// readXattr returns the value of the attribute name, or with "" the names of all, each ended by a NUL.
func (i *inode) readXattr(name string) ([]byte, error) {
	c := i.fs.c
	from, err := i.acquire()
	if err != nil {
		return nil, err
	}
	defer i.release(from)
	fid := c.newFid()
	size, err := c.xattrWalk(from, fid, name)
	if err != nil {
		c.freeFid(fid)
		return nil, err
	}
	defer c.clunk(fid)
	if size > maxXattr {
		return nil, unix.E2BIG
	}
	value := make([]byte, 0, size)
	err = withFrame(func(frame uint64) error {
		for uint64(len(value)) < size {
			k := uint32(min(size-uint64(len(value)), pageSize))
			n, err := c.read(fid, uint64(len(value)), []Span{{PA: frame, Len: k}}, k)
			if err != nil || n == 0 {
				return err
			}
			value = append(value, metal.View(frame, int(n))...)
		}
		return nil
	})
	return value, err
}

// SetXattr sets an attribute: EEXIST, ENODATA as flags say.
func (i *inode) SetXattr(name string, value []byte, flags int) error {
	err := i.writeXattr(name, value, uint32(flags))
	i.expire()
	return err
}

// RemoveXattr removes an attribute: ENODATA.
func (i *inode) RemoveXattr(name string) error {
	if _, err := i.readXattr(name); err != nil {
		return err
	}
	// To the protocol, an attribute without a value is none.
	err := i.writeXattr(name, nil, unix.XATTR_REPLACE)
	i.expire()
	return err
}

func (i *inode) writeXattr(name string, value []byte, flags uint32) error {
	c := i.fs.c
	from, err := i.acquire()
	if err != nil {
		return err
	}
	defer i.release(from)
	fid := c.newFid()
	if _, err := c.walk(from, fid); err != nil {
		c.freeFid(fid)
		return err
	}
	err = c.xattrCreate(fid, name, uint64(len(value)), flags)
	if err == nil {
		err = withFrame(func(frame uint64) error {
			for at := 0; at < len(value); {
				k := copy(metal.View(frame, pageSize), value[at:])
				n, err := c.write(fid, uint64(at), []Span{{PA: frame, Len: uint32(k)}}, uint32(k), false)
				if err != nil {
					return err
				}
				if n == 0 {
					return unix.EIO
				}
				at += int(n)
			}
			return nil
		})
	}
	// The server sets the attribute when the fid is given back.
	if e := c.clunk(fid); err == nil {
		err = e
	}
	return err
}

// withFrame calls do with a frame to read into or write from.
func withFrame(do func(frame uint64) error) error {
	frame, err := newPage()
	if err != nil {
		return err
	}
	defer metal.Unref(frame)
	return do(frame)
}
