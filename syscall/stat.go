package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
)

// stat(2)
func sysStat(t *kernel.Thread, a *args) (uint64, error) {
	return statAt(t, vfs.AtCWD, a.arg(0), a.arg(1), 0)
}

// lstat(2)
func sysLstat(t *kernel.Thread, a *args) (uint64, error) {
	return statAt(t, vfs.AtCWD, a.arg(0), a.arg(1), unix.AT_SYMLINK_NOFOLLOW)
}

// fstat(2)
func sysFstat(t *kernel.Thread, a *args) (uint64, error) {
	l := localOf(t)
	if err := l.files.Fstat(a.int(0), &l.attr); err != nil {
		return 0, err
	}
	return 0, l.writeStat(t, a.arg(1))
}

// newfstatat(2)
func sysNewfstatat(t *kernel.Thread, a *args) (uint64, error) {
	if a.uint(3)&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	return statAt(t, a.int(0), a.arg(1), a.arg(2), int(a.uint(3))&^unix.AT_NO_AUTOMOUNT)
}

func statAt(t *kernel.Thread, dirFD int32, path, result uint64, flags int) (uint64, error) {
	name, err := pathOrEmpty(t, path, flags)
	if err != nil {
		return 0, err
	}
	l := localOf(t)
	if err := filesOf(t).Stat(dirFD, name, flags, &l.attr); err != nil {
		return 0, err
	}
	return 0, l.writeStat(t, result)
}

// pathOrEmpty reads a path; with AT_EMPTY_PATH a null pointer is an empty one (since Linux 6.11).
func pathOrEmpty(t *kernel.Thread, addr uint64, flags int) (string, error) {
	if addr == 0 && flags&unix.AT_EMPTY_PATH != 0 {
		return "", nil
	}
	return pathAt(t, addr)
}

// writeStat writes attr as struct stat (Linux: arch/x86/include/uapi/asm/stat.h).
func (l *local) writeStat(t *kernel.Thread, addr uint64) error {
	at := &l.attr
	b := (*[structStatBytes]byte)(l.bytes[:])
	le := binary.LittleEndian
	le.PutUint64(b[0:], at.Dev)
	le.PutUint64(b[8:], at.Ino)
	le.PutUint64(b[16:], uint64(at.Nlink))
	le.PutUint32(b[24:], at.Mode)
	le.PutUint32(b[28:], at.UID)
	le.PutUint32(b[32:], at.GID)
	le.PutUint32(b[36:], 0)
	le.PutUint64(b[40:], at.Rdev)
	le.PutUint64(b[48:], uint64(at.Size))
	le.PutUint64(b[56:], uint64(at.BlockSize))
	le.PutUint64(b[64:], at.Blocks)
	le.PutUint64(b[72:], uint64(at.Atime.Sec))
	le.PutUint64(b[80:], uint64(at.Atime.Nsec))
	le.PutUint64(b[88:], uint64(at.Mtime.Sec))
	le.PutUint64(b[96:], uint64(at.Mtime.Nsec))
	le.PutUint64(b[104:], uint64(at.Ctime.Sec))
	le.PutUint64(b[112:], uint64(at.Ctime.Nsec))
	clear(b[120:])
	return copyOut(t, addr, b[:])
}

const structStatBytes = 144

// statx(2)
func sysStatx(t *kernel.Thread, a *args) (uint64, error) {
	flags, mask := int(a.uint(2)), a.uint(3)
	if mask&unix.STATX__RESERVED != 0 || flags&statxSyncType == statxSyncType {
		return 0, unix.EINVAL
	}
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_EMPTY_PATH|statxSyncType) != 0 {
		return 0, unix.EINVAL
	}
	name, err := pathOrEmpty(t, a.arg(1), flags)
	if err != nil {
		return 0, err
	}
	l := localOf(t)
	if err := filesOf(t).Stat(a.int(0), name, flags&(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH), &l.attr); err != nil {
		return 0, err
	}
	var s unix.Statx_t
	l.attr.FillStatx(&s)
	e := encoder{l.bytes[:0]}
	e.u32(s.Mask)
	e.u32(s.Blksize)
	e.u64(s.Attributes)
	e.u32(s.Nlink)
	e.u32(s.Uid)
	e.u32(s.Gid)
	e.u16(s.Mode)
	e.u16(0)
	e.u64(s.Ino)
	e.u64(s.Size)
	e.u64(s.Blocks)
	e.u64(s.Attributes_mask)
	for _, stamp := range [...]unix.StatxTimestamp{s.Atime, s.Btime, s.Ctime, s.Mtime} {
		e.u64(uint64(stamp.Sec))
		e.u32(stamp.Nsec)
		e.u32(0)
	}
	e.u32(s.Rdev_major)
	e.u32(s.Rdev_minor)
	e.u32(s.Dev_major)
	e.u32(s.Dev_minor)
	e.u64(s.Mnt_id)
	e.zero(256 - len(e.b))
	return 0, copyOut(t, a.arg(4), e.b)
}

// statfs(2)
func sysStatfs(t *kernel.Thread, a *args) (uint64, error) {
	path, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	var s vfs.StatFS
	if err := filesOf(t).Statfs(path, &s); err != nil {
		return 0, err
	}
	return 0, writeStatfs(t, a.arg(1), &s)
}

// fstatfs(2)
func sysFstatfs(t *kernel.Thread, a *args) (uint64, error) {
	var s vfs.StatFS
	if err := filesOf(t).Fstatfs(a.int(0), &s); err != nil {
		return 0, err
	}
	return 0, writeStatfs(t, a.arg(1), &s)
}

func writeStatfs(t *kernel.Thread, addr uint64, s *vfs.StatFS) error {
	var f unix.Statfs_t
	s.Fill(&f)
	e := encoder{localOf(t).bytes[:0]}
	e.u64(uint64(f.Type))
	e.u64(uint64(f.Bsize))
	e.u64(f.Blocks)
	e.u64(f.Bfree)
	e.u64(f.Bavail)
	e.u64(f.Files)
	e.u64(f.Ffree)
	e.u32(uint32(f.Fsid.Val[0]))
	e.u32(uint32(f.Fsid.Val[1]))
	e.u64(uint64(f.Namelen))
	e.u64(uint64(f.Frsize))
	e.u64(uint64(f.Flags))
	e.zero(4 * 8)
	return copyOut(t, addr, e.b)
}

// access(2)
func sysAccess(t *kernel.Thread, a *args) (uint64, error) {
	return accessAt(t, vfs.AtCWD, a.arg(0), a.uint(1), 0)
}

// faccessat(2)
func sysFaccessat(t *kernel.Thread, a *args) (uint64, error) {
	return accessAt(t, a.int(0), a.arg(1), a.uint(2), 0)
}

// faccessat2(2)
func sysFaccessat2(t *kernel.Thread, a *args) (uint64, error) {
	return accessAt(t, a.int(0), a.arg(1), a.uint(2), int(a.uint(3)))
}

func accessAt(t *kernel.Thread, dirFD int32, path uint64, mode uint32, flags int) (uint64, error) {
	if mode&^7 != 0 || flags&^(unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	name, err := pathOrEmpty(t, path, flags)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Access(dirFD, name, mode, flags)
}

// chmod(2)
func sysChmod(t *kernel.Thread, a *args) (uint64, error) {
	return chmodAt(t, vfs.AtCWD, a.arg(0), a.uint(1), 0)
}

// fchmodat(2), whose system call has no flags.
func sysFchmodat(t *kernel.Thread, a *args) (uint64, error) {
	return chmodAt(t, a.int(0), a.arg(1), a.uint(2), 0)
}

// fchmodat2(2)
func sysFchmodat2(t *kernel.Thread, a *args) (uint64, error) {
	return chmodAt(t, a.int(0), a.arg(1), a.uint(2), int(a.uint(3)))
}

func chmodAt(t *kernel.Thread, dirFD int32, path uint64, mode uint32, flags int) (uint64, error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	name, err := pathOrEmpty(t, path, flags)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Chmod(dirFD, name, mode, flags)
}

// fchmod(2)
func sysFchmod(t *kernel.Thread, a *args) (uint64, error) {
	return 0, filesOf(t).Fchmod(a.int(0), a.uint(1))
}

// chown(2)
func sysChown(t *kernel.Thread, a *args) (uint64, error) {
	return chownAt(t, vfs.AtCWD, a.arg(0), a.uint(1), a.uint(2), 0)
}

// lchown(2)
func sysLchown(t *kernel.Thread, a *args) (uint64, error) {
	return chownAt(t, vfs.AtCWD, a.arg(0), a.uint(1), a.uint(2), unix.AT_SYMLINK_NOFOLLOW)
}

// fchownat(2)
func sysFchownat(t *kernel.Thread, a *args) (uint64, error) {
	return chownAt(t, a.int(0), a.arg(1), a.uint(2), a.uint(3), int(a.uint(4)))
}

func chownAt(t *kernel.Thread, dirFD int32, path uint64, uid, gid uint32, flags int) (uint64, error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	name, err := pathOrEmpty(t, path, flags)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Chown(dirFD, name, uid, gid, flags)
}

// fchown(2)
func sysFchown(t *kernel.Thread, a *args) (uint64, error) {
	return 0, filesOf(t).Fchown(a.int(0), a.uint(1), a.uint(2))
}

// utimensat(2)
func sysUtimensat(t *kernel.Thread, a *args) (uint64, error) {
	flags := int(a.uint(3))
	var times *[2]unix.Timespec
	if a.arg(2) != 0 {
		times = new([2]unix.Timespec)
		for i := range times {
			ts, err := timespecAt(t, a.arg(2)+16*uint64(i))
			if err != nil {
				return 0, err
			}
			times[i] = ts
		}
		if times[0].Nsec == unix.UTIME_OMIT && times[1].Nsec == unix.UTIME_OMIT {
			return 0, nil
		}
	}
	if a.arg(1) == 0 && a.int(0) != unix.AT_FDCWD { // futimens(3)
		if flags != 0 {
			return 0, unix.EINVAL
		}
		return 0, filesOf(t).Utimens(a.int(0), "", times, unix.AT_EMPTY_PATH)
	}
	return utimesAt(t, a.int(0), a.arg(1), times, flags)
}

// utimes(2)
func sysUtimes(t *kernel.Thread, a *args) (uint64, error) {
	times, err := timevalsAt(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	return utimesAt(t, vfs.AtCWD, a.arg(0), times, 0)
}

// futimesat(2)
func sysFutimesat(t *kernel.Thread, a *args) (uint64, error) {
	times, err := timevalsAt(t, a.arg(2))
	if err != nil {
		return 0, err
	}
	if a.arg(1) == 0 && a.int(0) != unix.AT_FDCWD {
		return 0, filesOf(t).Utimens(a.int(0), "", times, unix.AT_EMPTY_PATH)
	}
	return utimesAt(t, a.int(0), a.arg(1), times, 0)
}

// utime(2)
func sysUtime(t *kernel.Thread, a *args) (uint64, error) {
	var times *[2]unix.Timespec
	if a.arg(1) != 0 {
		ts, err := timespecAt(t, a.arg(1)) // struct utimbuf: two time_t
		if err != nil {
			return 0, err
		}
		times = &[2]unix.Timespec{{Sec: ts.Sec}, {Sec: ts.Nsec}}
	}
	return utimesAt(t, vfs.AtCWD, a.arg(0), times, 0)
}

func utimesAt(t *kernel.Thread, dirFD int32, path uint64, times *[2]unix.Timespec, flags int) (uint64, error) {
	name, err := pathOrEmpty(t, path, flags)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Utimens(dirFD, name, times, flags)
}

// timevalsAt reads a pair of struct timeval, nil for a null pointer.
func timevalsAt(t *kernel.Thread, addr uint64) (*[2]unix.Timespec, error) {
	if addr == 0 {
		return nil, nil
	}
	times := new([2]unix.Timespec)
	for i := range times {
		tv, err := timespecAt(t, addr+16*uint64(i))
		if err != nil {
			return nil, err
		}
		if tv.Nsec < 0 || tv.Nsec >= 1e6 {
			return nil, unix.EINVAL
		}
		times[i] = unix.Timespec{Sec: tv.Sec, Nsec: tv.Nsec * 1000}
	}
	return times, nil
}

// umask(2)
func sysUmask(t *kernel.Thread, a *args) (uint64, error) {
	return uint64(localOf(t).files.Umask(a.uint(0) & 0o777)), nil
}
