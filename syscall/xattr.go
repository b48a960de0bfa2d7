package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
)

const maxXattr = 64 << 10 // XATTR_SIZE_MAX and XATTR_LIST_MAX

// placeOf finds the file that a call of the xattr family names in its first argument.
type placeOf func(t *kernel.Thread, a *args) (vfs.Path, func(), error)

func byPath(t *kernel.Thread, a *args) (vfs.Path, func(), error) { return walkTo(t, a, 0) }
func byLink(t *kernel.Thread, a *args) (vfs.Path, func(), error) {
	return walkTo(t, a, unix.AT_SYMLINK_NOFOLLOW)
}

func walkTo(t *kernel.Thread, a *args, flags int) (vfs.Path, func(), error) {
	path, err := pathAt(t, a.arg(0))
	if err != nil {
		return vfs.Path{}, nil, err
	}
	p, err := filesOf(t).Walk(vfs.AtCWD, path, flags)
	return p, func() {}, err
}

func byFD(t *kernel.Thread, a *args) (vfs.Path, func(), error) {
	d, err := filesOf(t).Get(a.int(0))
	if err != nil {
		return vfs.Path{}, nil, err
	}
	if d.PathOnly() {
		d.Decref()
		return vfs.Path{}, nil, unix.EBADF
	}
	return d.Path(), d.Decref, nil
}

// xattrName reads an attribute's name: ERANGE if it is empty or longer than 255 bytes.
func xattrName(t *kernel.Thread, addr uint64) (string, error) {
	name, err := t.MM().CopyInString(addr, 256)
	if err == unix.ENAMETOOLONG || err == nil && name == "" {
		return "", unix.ERANGE
	}
	return name, err
}

func setXattr(t *kernel.Thread, a *args, place placeOf) (uint64, error) {
	flags, size := a.uint(4), a.arg(3)
	if flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		return 0, unix.EINVAL
	}
	name, err := xattrName(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	if size > maxXattr {
		return 0, unix.E2BIG
	}
	value := make([]byte, size)
	if err := copyIn(t, value, a.arg(2)); err != nil {
		return 0, err
	}
	p, done, err := place(t, a)
	if err != nil {
		return 0, err
	}
	defer done()
	return 0, filesOf(t).SetXattr(p, name, value, int(flags))
}

func getXattr(t *kernel.Thread, a *args, place placeOf) (uint64, error) {
	name, err := xattrName(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	p, done, err := place(t, a)
	if err != nil {
		return 0, err
	}
	defer done()
	value, err := filesOf(t).GetXattr(p, name)
	if err != nil {
		return 0, err
	}
	return giveXattr(t, value, a.arg(2), a.arg(3))
}

// giveXattr writes value where the program wants it; with a size of 0 it only wants to know how much.
func giveXattr(t *kernel.Thread, value []byte, addr, size uint64) (uint64, error) {
	if size == 0 {
		return uint64(len(value)), nil
	}
	if size < uint64(len(value)) {
		return 0, unix.ERANGE
	}
	return uint64(len(value)), copyOut(t, addr, value)
}

func listXattr(t *kernel.Thread, a *args, place placeOf) (uint64, error) {
	p, done, err := place(t, a)
	if err != nil {
		return 0, err
	}
	defer done()
	names, err := filesOf(t).ListXattr(p)
	if err != nil {
		return 0, err
	}
	var list []byte
	for _, n := range names {
		list = append(append(list, n...), 0)
	}
	return giveXattr(t, list, a.arg(1), a.arg(2))
}

func removeXattr(t *kernel.Thread, a *args, place placeOf) (uint64, error) {
	name, err := xattrName(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	p, done, err := place(t, a)
	if err != nil {
		return 0, err
	}
	defer done()
	return 0, filesOf(t).RemoveXattr(p, name)
}

// setxattr(2), getxattr(2), listxattr(2), removexattr(2) and their forms for links and descriptors
func sysSetxattr(t *kernel.Thread, a *args) (uint64, error)     { return setXattr(t, a, byPath) }
func sysLsetxattr(t *kernel.Thread, a *args) (uint64, error)    { return setXattr(t, a, byLink) }
func sysFsetxattr(t *kernel.Thread, a *args) (uint64, error)    { return setXattr(t, a, byFD) }
func sysGetxattr(t *kernel.Thread, a *args) (uint64, error)     { return getXattr(t, a, byPath) }
func sysLgetxattr(t *kernel.Thread, a *args) (uint64, error)    { return getXattr(t, a, byLink) }
func sysFgetxattr(t *kernel.Thread, a *args) (uint64, error)    { return getXattr(t, a, byFD) }
func sysListxattr(t *kernel.Thread, a *args) (uint64, error)    { return listXattr(t, a, byPath) }
func sysLlistxattr(t *kernel.Thread, a *args) (uint64, error)   { return listXattr(t, a, byLink) }
func sysFlistxattr(t *kernel.Thread, a *args) (uint64, error)   { return listXattr(t, a, byFD) }
func sysRemovexattr(t *kernel.Thread, a *args) (uint64, error)  { return removeXattr(t, a, byPath) }
func sysLremovexattr(t *kernel.Thread, a *args) (uint64, error) { return removeXattr(t, a, byLink) }
func sysFremovexattr(t *kernel.Thread, a *args) (uint64, error) { return removeXattr(t, a, byFD) }
