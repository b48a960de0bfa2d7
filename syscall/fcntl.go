package syscall

import (
	"encoding/binary"
	"math"

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
		if err := d.SetFlags(c, uint32(arg)); err != nil {
			return 0, err
		}
		d.FollowAsync(c, number)
		return 0, nil
	case unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
		return lockFile(t, c, number, d, command, arg)
	case unix.F_SETOWN:
		kind, id := int32(vfs.OwnerProcess), int32(arg)
		if id < 0 {
			kind, id = vfs.OwnerGroup, -id
		}
		d.SetOwner(kind, id, t)
		return 0, nil
	case unix.F_GETOWN:
		kind, id, _ := d.Owner()
		if kind == vfs.OwnerGroup {
			id = -id
		}
		return uint64(int64(id)), nil
	case unix.F_SETOWN_EX:
		pair, err := t.MM().ReadUint64(arg)
		if err != nil {
			return 0, err
		}
		if kind := int32(pair); kind < vfs.OwnerThread || kind > vfs.OwnerGroup {
			return 0, unix.EINVAL
		}
		d.SetOwner(int32(pair), int32(pair>>32), t)
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
	case fCreatedQuery:
		if d.Created() {
			return 1, nil
		}
		return 0, nil
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
	case unix.F_NOTIFY:
		if uint32(arg)&^dnMultishot == 0 {
			return 0, nil // an end to watching, which nobody does
		}
	}
	return 0, unix.EINVAL
}

// dnMultishot is DN_MULTISHOT: watch for more than one event (fcntl(2)).
const dnMultishot = 1 << 31

// lockFile is what the lock calls of fcntl(2) do.
func lockFile(t *kernel.Thread, c *vfs.Context, number int32, d *vfs.Description, command int32, addr uint64) (uint64, error) {
	b := localOf(t).bytes[:32] // struct flock
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	kind := vfs.LockType(binary.LittleEndian.Uint16(b))
	ofd := command == unix.F_OFD_GETLK || command == unix.F_OFD_SETLK || command == unix.F_OFD_SETLKW
	get := command == unix.F_GETLK || command == unix.F_OFD_GETLK
	switch kind {
	case vfs.LockRead, vfs.LockWrite:
	case vfs.Unlock:
		if get && !ofd {
			return 0, unix.EINVAL
		}
	default:
		return 0, unix.EINVAL
	}
	r, err := lockRange(d, b)
	if err != nil {
		return 0, err
	}
	if ofd && halfword(b, 24) != 0 { // l_pid
		return 0, unix.EINVAL
	}
	if get {
		found, ok := vfs.RecordLock{}, false
		if kind != vfs.Unlock {
			found, ok = d.GetLock(c, ofd, kind, r)
		}
		if !ok {
			binary.LittleEndian.PutUint16(b, unix.F_UNLCK)
			return 0, copyOut(t, addr, b)
		}
		length := uint64(0) // to the end, wherever that is
		if found.End != math.MaxInt64 {
			length = uint64(found.End - found.Start + 1)
		}
		binary.LittleEndian.PutUint16(b, uint16(found.Type))
		binary.LittleEndian.PutUint16(b[2:], unix.SEEK_SET)
		binary.LittleEndian.PutUint64(b[8:], uint64(found.Start))
		binary.LittleEndian.PutUint64(b[16:], length)
		binary.LittleEndian.PutUint32(b[24:], uint32(found.PID))
		return 0, copyOut(t, addr, b)
	}
	if kind == vfs.LockRead && !d.Readable() || kind == vfs.LockWrite && !d.Writable() {
		return 0, unix.EBADF
	}
	wait := command == unix.F_SETLKW || command == unix.F_OFD_SETLKW
	if err := d.SetLock(c, ofd, kind, r, wait); err != nil {
		return 0, err
	}
	if kind != vfs.Unlock && !c.Files.Table().Is(number, d) {
		// Another thread closed the descriptor meanwhile, and found no lock to drop.
		d.SetLock(c, ofd, vfs.Unlock, r, false)
		return 0, unix.EBADF
	}
	return 0, nil
}

// lockRange returns the bytes that a struct flock names.
func lockRange(d *vfs.Description, b []byte) (vfs.LockRange, error) {
	start, length, base := int64(word(b, 8)), int64(word(b, 16)), int64(0)
	switch binary.LittleEndian.Uint16(b[2:]) {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		base = d.Offset()
	case unix.SEEK_END:
		var attr vfs.Attr
		if err := d.Stat(&attr); err != nil {
			return vfs.LockRange{}, err
		}
		base = attr.Size
	default:
		return vfs.LockRange{}, unix.EINVAL
	}
	if start > math.MaxInt64-base {
		return vfs.LockRange{}, unix.EOVERFLOW
	}
	start += base
	if start < 0 {
		return vfs.LockRange{}, unix.EINVAL
	}
	switch {
	case length > 0:
		if length-1 > math.MaxInt64-start {
			return vfs.LockRange{}, unix.EOVERFLOW
		}
		return vfs.LockRange{Start: start, End: start + length - 1}, nil
	case length < 0:
		if start+length < 0 {
			return vfs.LockRange{}, unix.EINVAL
		}
		return vfs.LockRange{Start: start + length, End: start - 1}, nil
	}
	return vfs.LockRange{Start: start, End: math.MaxInt64}, nil
}

// flock(2)
func sysFlock(t *kernel.Thread, a *args) (uint64, error) {
	operation := int(a.int(1)) &^ unix.LOCK_NB
	switch operation {
	case unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN:
	default:
		return 0, unix.EINVAL
	}
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		return 0, d.Flock(c, operation, a.int(1)&unix.LOCK_NB == 0)
	})
}

// fCreatedQuery is F_CREATED_QUERY (Linux 6.12: include/uapi/linux/fcntl.h).
const fCreatedQuery = 1024 + 4
