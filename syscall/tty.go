package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
)

// ioctl(2): what every file knows is here, the rest in the file.
func sysIoctl(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		request, arg := a.uint(1), a.arg(2)
		switch request {
		case fioCLEX:
			return 0, c.Files.Table().SetCloexec(a.int(0), true)
		case fioNCLEX:
			return 0, c.Files.Table().SetCloexec(a.int(0), false)
		case fioNBIO:
			return setStatus(t, c, d, unix.O_NONBLOCK, arg)
		case fioASYNC:
			n, err := setStatus(t, c, d, unix.O_ASYNC, arg)
			d.FollowAsync(c, a.int(0))
			return n, err
		case fioSETOWN, siocSPGRP, fioGETOWN, siocGPGRP:
			if d.Socket() {
				return socketOwner(t, d, request, arg)
			}
		case unix.TIOCINQ: // FIONREAD
			if p := vfs.PipeOf(d); p != nil {
				return 0, t.MM().WriteUint32(arg, uint32(p.Buffered()))
			}
			if f, ok := d.File().(interface{ Buffered() int }); ok {
				return 0, t.MM().WriteUint32(arg, uint32(f.Buffered()))
			}
			if mode, _, _ := d.Inode().Perm(); mode&unix.S_IFMT == unix.S_IFREG {
				var attr vfs.Attr
				if err := d.Stat(&attr); err != nil {
					return 0, err
				}
				return 0, t.MM().WriteUint32(arg, uint32(attr.Size-d.Offset()))
			}
		case unix.FICLONE:
			return 0, shareExtents(c, d, int32(arg))
		case unix.FICLONERANGE:
			from, err := t.MM().ReadUint64(arg)
			if err != nil {
				return 0, err
			}
			return 0, shareExtents(c, d, int32(from))
		}
		if f, ok := d.File().(vfs.Ioctler); ok {
			return f.Ioctl(c, request, arg)
		}
		return 0, unix.ENOTTY
	})
}

// socketOwner gets or sets who is told of a socket's events (socket(7)): ESRCH.
func socketOwner(t *kernel.Thread, d *vfs.Description, request uint32, arg uint64) (uint64, error) {
	if request == fioGETOWN || request == siocGPGRP {
		kind, id, _ := d.Owner()
		if kind == vfs.OwnerGroup {
			id = -id
		}
		return 0, t.MM().WriteUint32(arg, uint32(id))
	}
	v, err := t.MM().ReadUint32(arg)
	if err != nil {
		return 0, err
	}
	kind, id := int32(vfs.OwnerProcess), int32(v)
	if id < 0 {
		kind, id = vfs.OwnerGroup, -id
	}
	d.SetOwner(kind, id, t)
	return 0, nil
}

// shareExtents refuses to share the extents of the file from with to, which no file system here does: ioctl_ficlone(2).
func shareExtents(c *vfs.Context, to *vfs.Description, from int32) error {
	d, err := c.Get(from)
	if err != nil {
		return err
	}
	defer d.Decref()
	if d.PathOnly() {
		return unix.EBADF
	}
	if d.Inode().FS() != to.Inode().FS() {
		return unix.EXDEV
	}
	for _, f := range []*vfs.Description{d, to} {
		switch mode, _, _ := f.Inode().Perm(); mode & unix.S_IFMT {
		case unix.S_IFREG:
		case unix.S_IFDIR:
			return unix.EISDIR
		default:
			return unix.EINVAL
		}
	}
	if !d.Readable() || !to.Writable() || to.Flags()&unix.O_APPEND != 0 {
		return unix.EBADF
	}
	return unix.EOPNOTSUPP
}

// setStatus sets or clears a status flag, as the int at addr says.
func setStatus(t *kernel.Thread, c *vfs.Context, d *vfs.Description, flag uint32, addr uint64) (uint64, error) {
	on, err := t.MM().ReadUint32(addr)
	if err != nil {
		return 0, err
	}
	flags := d.Flags() &^ flag
	if on != 0 {
		flags |= flag
	}
	return 0, d.SetFlags(c, flags)
}
