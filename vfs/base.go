package vfs

import (
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
)

var lastDev atomic.Uint32

// NewDev returns a device number for an instance of a file system that has no device.
func NewDev() uint64 { return unix.Mkdev(0, lastDev.Add(1)+4) }

// BaseInode keeps an inode's attributes and answers every operation as a file that can do nothing:
// ENOTDIR for the operations of a directory, EINVAL for a link's, ENXIO for open. Embed it, call Init,
// and override what the file can do.
type BaseInode struct {
	fs  FileSystem
	ino uint64

	mode atomic.Uint32
	uid  atomic.Uint32
	gid  atomic.Uint32

	locks    atomic.Pointer[FileLocks] // nil until somebody locks the file
	watchers atomic.Pointer[observers] // nil until somebody watches it
	evicted  atomic.Pointer[weak.Pointer[Dentry]]
	writers  writers

	attrMu              sync.Mutex
	nlink               uint32
	rdev                uint64
	atime, mtime, ctime unix.Timespec
	btime               unix.Timespec
}

// Init gives the inode its identity. It has one link, a directory two.
func (b *BaseInode) Init(fs FileSystem, ino uint64, mode, uid, gid uint32, rdev uint64) {
	b.fs, b.ino, b.rdev = fs, ino, rdev
	b.mode.Store(mode)
	b.uid.Store(uid)
	b.gid.Store(gid)
	now := Now()
	b.atime, b.mtime, b.ctime, b.btime = now, now, now, now
	b.nlink = 1
	if mode&unix.S_IFMT == unix.S_IFDIR {
		b.nlink = 2
	}
}

// Born sets all times, and the owner.
func (b *BaseInode) Born(at unix.Timespec, uid, gid uint32) {
	b.uid.Store(uid)
	b.gid.Store(gid)
	b.attrMu.Lock()
	b.atime, b.mtime, b.ctime, b.btime = at, at, at, at
	b.attrMu.Unlock()
}

// FS returns the file system.
func (b *BaseInode) FS() FileSystem { return b.fs }

// Ino returns the inode number.
func (b *BaseInode) Ino() uint64 { return b.ino }

// Rdev returns the device number of a device file.
func (b *BaseInode) Rdev() uint64 { return b.rdev }

// Perm returns type, permissions and owner.
func (b *BaseInode) Perm() (mode, uid, gid uint32) {
	return b.mode.Load(), b.uid.Load(), b.gid.Load()
}

// Stat fills a; Size and Blocks stay 0.
func (b *BaseInode) Stat(a *Attr) error {
	b.attrMu.Lock()
	*a = Attr{
		Dev: b.fs.Dev(), Ino: b.ino, Mode: b.mode.Load(), Nlink: b.nlink, UID: b.uid.Load(), GID: b.gid.Load(),
		Rdev: b.rdev, BlockSize: 4096, Atime: b.atime, Mtime: b.mtime, Ctime: b.ctime, Btime: b.btime,
	}
	b.attrMu.Unlock()
	return nil
}

// SetAttr changes all but the size, which it ignores.
func (b *BaseInode) SetAttr(c *Context, s *SetAttr) error {
	b.attrMu.Lock()
	defer b.attrMu.Unlock()
	if s.Valid&SetMode != 0 {
		b.mode.Store(b.mode.Load()&unix.S_IFMT | s.Mode&^unix.S_IFMT)
	}
	if s.Valid&SetUID != 0 {
		b.uid.Store(s.UID)
	}
	if s.Valid&SetGID != 0 {
		b.gid.Store(s.GID)
	}
	if s.Valid&SetAtime != 0 {
		b.atime = s.Atime
	}
	if s.Valid&SetMtime != 0 {
		b.mtime = s.Mtime
	}
	b.ctime = Now()
	return nil
}

// Accessed sets the access time as relatime does: if it is not after the last modification, or a day
// old.
func (b *BaseInode) Accessed() {
	now := Now()
	b.attrMu.Lock()
	if !after(b.atime, b.mtime) || !after(b.atime, b.ctime) || now.Sec-b.atime.Sec > 24*3600 {
		b.atime = now
	}
	b.attrMu.Unlock()
}

func after(a, b unix.Timespec) bool {
	return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec
}

// Modified sets the modification and change times.
func (b *BaseInode) Modified() {
	now := Now()
	b.attrMu.Lock()
	b.mtime, b.ctime = now, now
	b.attrMu.Unlock()
}

// Changed sets the change time.
func (b *BaseInode) Changed() {
	now := Now()
	b.attrMu.Lock()
	b.ctime = now
	b.attrMu.Unlock()
}

// AddLinks changes the link count, and the change time with it, and returns the new count.
func (b *BaseInode) AddLinks(n int) uint32 {
	now := Now()
	b.attrMu.Lock()
	defer b.attrMu.Unlock()
	b.nlink = uint32(int(b.nlink) + n)
	b.ctime = now
	return b.nlink
}

// Links returns the link count.
func (b *BaseInode) Links() uint32 {
	b.attrMu.Lock()
	defer b.attrMu.Unlock()
	return b.nlink
}

// Open refuses.
func (b *BaseInode) Open(*Context, Path, uint32) (File, error) { return nil, unix.ENXIO }

// Readlink refuses: not a symbolic link.
func (b *BaseInode) Readlink(*Context) (string, error) { return "", unix.EINVAL }

// Lookup refuses: not a directory.
func (b *BaseInode) Lookup(*Context, string) (Inode, error) { return nil, b.noDirectory(unix.ENOENT) }

// Create refuses.
func (b *BaseInode) Create(*Context, string, uint32, uint64) (Inode, error) {
	return nil, b.noDirectory(unix.EPERM)
}

// Symlink refuses.
func (b *BaseInode) Symlink(*Context, string, string) (Inode, error) {
	return nil, b.noDirectory(unix.EPERM)
}

// Link refuses.
func (b *BaseInode) Link(*Context, string, Inode) error { return b.noDirectory(unix.EPERM) }

// Unlink refuses.
func (b *BaseInode) Unlink(*Context, string, Inode) error { return b.noDirectory(unix.EPERM) }

// Rmdir refuses.
func (b *BaseInode) Rmdir(*Context, string, Inode) error { return b.noDirectory(unix.EPERM) }

// Rename refuses.
func (b *BaseInode) Rename(*Context, string, Inode, Inode, string, Inode, uint32) error {
	return b.noDirectory(unix.EPERM)
}

func (b *BaseInode) noDirectory(otherwise error) error {
	if b.mode.Load()&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return otherwise
}

// BaseFile answers every operation of File that a plain file may not have. Embed it and override.
type BaseFile struct{}

// Read refuses.
func (BaseFile) Read(*Context, *mm.Buffer, int64) (int, error) { return 0, unix.EINVAL }

// Write refuses.
func (BaseFile) Write(*Context, *mm.Buffer, int64) (int, error) { return 0, unix.EINVAL }

// Seekable says no.
func (BaseFile) Seekable() bool { return false }

// Release does nothing.
func (BaseFile) Release() {}

// Readiness says readable and writable.
func (BaseFile) Readiness(mask waiter.EventMask) waiter.EventMask {
	return mask & (waiter.ReadableEvents | waiter.WritableEvents)
}

// EventRegister refuses: readiness never changes, and epoll doesn't take such a file (epoll_ctl(2), EPERM).
func (BaseFile) EventRegister(*waiter.Entry) error { return unix.EPERM }

// EventUnregister does nothing.
func (BaseFile) EventUnregister(*waiter.Entry) {}
