package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
)

// getcwd(2): the system call returns the length, NUL included.
func sysGetcwd(t *kernel.Thread, a *args) (uint64, error) {
	name, err := localOf(t).files.Getcwd()
	if err != nil {
		return 0, err
	}
	if a.arg(1) < uint64(len(name)+1) {
		return 0, unix.ERANGE
	}
	b := append(make([]byte, 0, len(name)+1), name...)
	return uint64(len(name) + 1), copyOut(t, a.arg(0), append(b, 0))
}

// chdir(2)
func sysChdir(t *kernel.Thread, a *args) (uint64, error) {
	path, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Chdir(path)
}

// fchdir(2)
func sysFchdir(t *kernel.Thread, a *args) (uint64, error) {
	return 0, filesOf(t).Fchdir(a.int(0))
}

// chroot(2)
func sysChroot(t *kernel.Thread, a *args) (uint64, error) {
	path, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Chroot(path)
}

// mkdir(2)
func sysMkdir(t *kernel.Thread, a *args) (uint64, error) {
	return mkdirAt(t, vfs.AtCWD, a.arg(0), a.uint(1))
}

// mkdirat(2)
func sysMkdirat(t *kernel.Thread, a *args) (uint64, error) {
	return mkdirAt(t, a.int(0), a.arg(1), a.uint(2))
}

func mkdirAt(t *kernel.Thread, dirFD int32, addr uint64, mode uint32) (uint64, error) {
	path, err := pathAt(t, addr)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Mkdir(dirFD, path, mode)
}

// mknod(2)
func sysMknod(t *kernel.Thread, a *args) (uint64, error) {
	return mknodAt(t, vfs.AtCWD, a.arg(0), a.uint(1), a.uint(2))
}

// mknodat(2)
func sysMknodat(t *kernel.Thread, a *args) (uint64, error) {
	return mknodAt(t, a.int(0), a.arg(1), a.uint(2), a.uint(3))
}

func mknodAt(t *kernel.Thread, dirFD int32, addr uint64, mode, device uint32) (uint64, error) {
	path, err := pathAt(t, addr)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Mknod(dirFD, path, mode, uint64(device))
}

// unlink(2)
func sysUnlink(t *kernel.Thread, a *args) (uint64, error) {
	return unlinkAt(t, vfs.AtCWD, a.arg(0), 0)
}

// rmdir(2)
func sysRmdir(t *kernel.Thread, a *args) (uint64, error) {
	return unlinkAt(t, vfs.AtCWD, a.arg(0), unix.AT_REMOVEDIR)
}

// unlinkat(2)
func sysUnlinkat(t *kernel.Thread, a *args) (uint64, error) {
	return unlinkAt(t, a.int(0), a.arg(1), a.uint(2))
}

func unlinkAt(t *kernel.Thread, dirFD int32, addr uint64, flags uint32) (uint64, error) {
	if flags&^unix.AT_REMOVEDIR != 0 {
		return 0, unix.EINVAL
	}
	path, err := pathAt(t, addr)
	if err != nil {
		return 0, err
	}
	if flags != 0 {
		return 0, filesOf(t).Rmdir(dirFD, path)
	}
	return 0, filesOf(t).Unlink(dirFD, path)
}

// rename(2)
func sysRename(t *kernel.Thread, a *args) (uint64, error) {
	return renameAt(t, vfs.AtCWD, a.arg(0), vfs.AtCWD, a.arg(1), 0)
}

// renameat(2)
func sysRenameat(t *kernel.Thread, a *args) (uint64, error) {
	return renameAt(t, a.int(0), a.arg(1), a.int(2), a.arg(3), 0)
}

// renameat2(2)
func sysRenameat2(t *kernel.Thread, a *args) (uint64, error) {
	return renameAt(t, a.int(0), a.arg(1), a.int(2), a.arg(3), a.uint(4))
}

func renameAt(t *kernel.Thread, fromFD int32, from uint64, toFD int32, to uint64, flags uint32) (uint64, error) {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE|unix.RENAME_WHITEOUT) != 0 ||
		flags&unix.RENAME_EXCHANGE != 0 && flags&^unix.RENAME_EXCHANGE != 0 {
		return 0, unix.EINVAL
	}
	oldPath, newPath, err := twoPaths(t, from, to)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Rename(fromFD, oldPath, toFD, newPath, flags)
}

func twoPaths(t *kernel.Thread, first, second uint64) (string, string, error) {
	one, err := pathAt(t, first)
	if err != nil {
		return "", "", err
	}
	two, err := pathAt(t, second)
	return one, two, err
}

// link(2)
func sysLink(t *kernel.Thread, a *args) (uint64, error) {
	return linkAt(t, vfs.AtCWD, a.arg(0), vfs.AtCWD, a.arg(1), 0)
}

// linkat(2)
func sysLinkat(t *kernel.Thread, a *args) (uint64, error) {
	return linkAt(t, a.int(0), a.arg(1), a.int(2), a.arg(3), a.uint(4))
}

func linkAt(t *kernel.Thread, fromFD int32, from uint64, toFD int32, to uint64, flags uint32) (uint64, error) {
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	oldPath, newPath, err := twoPaths(t, from, to)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Link(fromFD, oldPath, toFD, newPath, int(flags))
}

// symlink(2)
func sysSymlink(t *kernel.Thread, a *args) (uint64, error) {
	return symlinkAt(t, a.arg(0), vfs.AtCWD, a.arg(1))
}

// symlinkat(2)
func sysSymlinkat(t *kernel.Thread, a *args) (uint64, error) {
	return symlinkAt(t, a.arg(0), a.int(1), a.arg(2))
}

func symlinkAt(t *kernel.Thread, target uint64, dirFD int32, path uint64) (uint64, error) {
	to, name, err := twoPaths(t, target, path)
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Symlink(to, dirFD, name)
}

// readlink(2)
func sysReadlink(t *kernel.Thread, a *args) (uint64, error) {
	return readlinkAt(t, vfs.AtCWD, a.arg(0), a.arg(1), a.int(2), true)
}

// readlinkat(2)
func sysReadlinkat(t *kernel.Thread, a *args) (uint64, error) {
	return readlinkAt(t, a.int(0), a.arg(1), a.arg(2), a.int(3), false)
}

func readlinkAt(t *kernel.Thread, dirFD int32, addr, buffer uint64, size int32, named bool) (uint64, error) {
	if size <= 0 {
		return 0, unix.EINVAL
	}
	path, err := pathAt(t, addr)
	if err != nil {
		return 0, err
	}
	if path == "" && (named || dirFD == vfs.AtCWD) {
		return 0, unix.ENOENT
	}
	target, err := filesOf(t).Readlink(dirFD, path)
	if err != nil {
		return 0, err
	}
	target = target[:min(len(target), int(size))]
	return uint64(len(target)), copyOut(t, buffer, []byte(target))
}

// maxDirents is how many bytes of entries one call returns at most, whatever room the program has.
const maxDirents = 32 << 10

// getdents64(2)
func sysGetdents64(t *kernel.Thread, a *args) (uint64, error) {
	return listDir(t, a, func(e *encoder, d vfs.Dirent, length int) {
		e.u64(d.Ino)
		e.u64(uint64(d.Next))
		e.u16(uint16(length))
		e.b = append(e.b, d.Type)
		e.b = append(e.b, d.Name...)
	})
}

// getdents(2): the old form, with the type in the last byte.
func sysGetdents(t *kernel.Thread, a *args) (uint64, error) {
	return listDir(t, a, func(e *encoder, d vfs.Dirent, length int) {
		end := len(e.b) + length
		e.u64(d.Ino)
		e.u64(uint64(d.Next))
		e.u16(uint16(length))
		e.b = append(e.b, d.Name...)
		e.zero(end - 1 - len(e.b))
		e.b = append(e.b, d.Type)
	})
}

// listDir collects entries, each length bytes long, as put lays them out.
func listDir(t *kernel.Thread, a *args, put func(e *encoder, d vfs.Dirent, length int)) (uint64, error) {
	const header = 8 + 8 + 2 + 1 // both forms: a byte of type, and the name ends with NUL
	return withFile(t, a.int(0), func(c *vfs.Context, d *vfs.Description) (uint64, error) {
		room := min(int(a.uint(2)), maxDirents)
		e := encoder{make([]byte, 0, room)}
		full := false
		err := d.ReadDir(c, func(entry vfs.Dirent) bool {
			length := (header + len(entry.Name) + 1 + 7) &^ 7
			if len(e.b)+length > room {
				full = true
				return false
			}
			end := len(e.b) + length
			put(&e, entry, length)
			e.zero(end - len(e.b))
			return true
		})
		if err != nil && len(e.b) == 0 {
			return 0, err
		}
		if full && len(e.b) == 0 {
			return 0, unix.EINVAL // not even one entry fits
		}
		return uint64(len(e.b)), copyOut(t, a.arg(1), e.b)
	})
}
