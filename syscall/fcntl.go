package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
	"elver/vfs/tmpfs"
)

// fcntl(2)
func sysFcntl(t *kernel.Thread, a *args) (uint64, error) {
	number, command, arg := a.int(0), a.int(1), a.arg(2)
	c := filesOf(t)
	d, err := c.Get(number)
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	table := c.Files.Table()
	switch command { // what a descriptor opened with O_PATH can do too
	case unix.F_DUPFD, unix.F_DUPFD_CLOEXEC:
		if arg >= min(t.Proc.Limits.Soft(unix.RLIMIT_NOFILE), 1<<31) {
			return 0, unix.EINVAL
		}
		n, err := c.DupFrom(number, int(arg), command == unix.F_DUPFD_CLOEXEC)
		return uint64(n), err
	case unix.F_GETFD:
		on, err := table.Cloexec(number)
		return uint64(truth(on)) * unix.FD_CLOEXEC, err
	case unix.F_SETFD:
		return 0, table.SetCloexec(number, arg&unix.FD_CLOEXEC != 0)
	case unix.F_GETFL:
		return uint64(d.Flags()), nil
	}
	if d.PathOnly() {
		return 0, unix.EBADF
	}
	switch command {
	case unix.F_SETFL:
		return 0, d.SetFlags(c, uint32(arg))
	case unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
		return lockFile(t, d, command, arg)
	case unix.F_SETOWN:
		kind, id := int32(ownerPID), int32(arg)
		if id < 0 {
			kind, id = ownerPGRP, -id
		}
		d.SetOwner(kind, id)
		return 0, nil
	case unix.F_GETOWN:
		kind, id, _ := d.Owner()
		if kind == ownerPGRP {
			id = -id
		}
		return uint64(int64(id)), nil
	case unix.F_SETOWN_EX:
		pair, err := t.MM().ReadUint64(arg)
		if err != nil {
			return 0, err
		}
		if kind := int32(pair); kind < ownerTID || kind > ownerPGRP {
			return 0, unix.EINVAL
		}
		d.SetOwner(int32(pair), int32(pair>>32))
		return 0, nil
	case unix.F_GETOWN_EX:
		kind, id, _ := d.Owner()
		return 0, t.MM().WriteUint64(arg, uint64(uint32(kind))|uint64(uint32(id))<<32)
	case unix.F_SETSIG:
		if arg > kernel.SIGRTMAX {
			return 0, unix.EINVAL
		}
		d.SetOwnerSignal(int32(arg))
		return 0, nil
	case unix.F_GETSIG:
		_, _, signal := d.Owner()
		return uint64(signal), nil
	case unix.F_GET_SEALS, unix.F_ADD_SEALS:
		s, ok := d.File().(tmpfs.Sealer)
		if !ok {
			return 0, unix.EINVAL
		}
		if command == unix.F_GET_SEALS {
			seals, err := s.Seals()
			return uint64(seals), err
		}
		if !d.Writable() {
			return 0, unix.EPERM
		}
		return 0, s.AddSeals(uint32(arg))
	case unix.F_GETPIPE_SZ, unix.F_SETPIPE_SZ:
		p := vfs.PipeOf(d)
		if p == nil {
			return 0, unix.EBADF
		}
		if command == unix.F_GETPIPE_SZ {
			return uint64(p.Size()), nil
		}
		n, err := p.Resize(c, int(uint32(arg)))
		return uint64(n), err
	}
	return 0, unix.EINVAL
}

// lockFile checks what the lock calls of fcntl(2) do, and grants every lock: locks of one process never
// exclude each other, and there is no second one to hold any.
func lockFile(t *kernel.Thread, d *vfs.Description, command int32, addr uint64) (uint64, error) {
	b := localOf(t).bytes[:32] // struct flock
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	kind, whence, start, length := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), int64(word(b, 8)), int64(word(b, 16))
	if whence > unix.SEEK_END || whence == unix.SEEK_SET && (start < 0 || length < 0 && start+length < 0) {
		return 0, unix.EINVAL
	}
	switch command {
	case unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
		if halfword(b, 24) != 0 { // l_pid
			return 0, unix.EINVAL
		}
	}
	switch command {
	case unix.F_GETLK, unix.F_OFD_GETLK:
		if kind != unix.F_RDLCK && kind != unix.F_WRLCK {
			return 0, unix.EINVAL
		}
		binary.LittleEndian.PutUint16(b, unix.F_UNLCK)
		return 0, copyOut(t, addr, b)
	}
	switch kind {
	case unix.F_RDLCK:
		if !d.Readable() {
			return 0, unix.EBADF
		}
	case unix.F_WRLCK:
		if !d.Writable() {
			return 0, unix.EBADF
		}
	case unix.F_UNLCK:
	default:
		return 0, unix.EINVAL
	}
	return 0, nil
}

// flock(2): every lock is granted, as in lockFile.
func sysFlock(t *kernel.Thread, a *args) (uint64, error) {
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		switch a.int(1) &^ unix.LOCK_NB {
		case unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN:
			return 0, nil
		}
		return 0, unix.EINVAL
	})
}
