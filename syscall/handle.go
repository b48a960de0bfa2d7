package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// File handles: no file system here has them, as many of Linux's have none.

// Flags of name_to_handle_at(2).
const (
	handleMountIDUnique = 0x1   // AT_HANDLE_MNT_ID_UNIQUE
	handleFID           = 0x200 // AT_HANDLE_FID
)

// name_to_handle_at(2)
func sysNameToHandleAt(t *kernel.Thread, a *args) (uint64, error) {
	flags := int(a.uint(4))
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH|handleFID|handleMountIDUnique) != 0 {
		return 0, unix.EINVAL
	}
	path, err := pathOrEmpty(t, a.arg(1), flags)
	if err != nil {
		return 0, err
	}
	walk := unix.AT_SYMLINK_NOFOLLOW
	if flags&unix.AT_SYMLINK_FOLLOW != 0 {
		walk = 0
	}
	if _, err := filesOf(t).Walk(a.int(0), path, walk|flags&unix.AT_EMPTY_PATH); err != nil {
		return 0, err
	}
	return 0, unix.EOPNOTSUPP
}

// open_by_handle_at(2)
func sysOpenByHandleAt(t *kernel.Thread, a *args) (uint64, error) {
	const maxHandle = 128 // MAX_HANDLE_SZ, in bytes
	if !t.Creds().HasCap(unix.CAP_DAC_READ_SEARCH) {
		return 0, unix.EPERM
	}
	if fd := a.int(0); fd != unix.AT_FDCWD {
		d, err := filesOf(t).Get(fd)
		if err != nil {
			return 0, err
		}
		d.Decref()
	}
	var head [8]byte
	if err := copyIn(t, head[:], a.arg(1)); err != nil {
		return 0, err
	}
	if n := binary.LittleEndian.Uint32(head[:]); n == 0 || n > maxHandle {
		return 0, unix.EINVAL
	}
	return 0, unix.ESTALE
}
