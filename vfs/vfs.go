// Package vfs is the file tree: mounts, path walk, open file descriptions, descriptor tables, and the
// operations on them that system calls are made of.
//
// A file system implements Inode for its files and File for each of their opens; everything else (the
// dentry tree, permissions, offsets, descriptors, mounts) is here, once. Reads and writes never block:
// they return unix.EAGAIN, and the caller waits for the file's readiness (package waiter of gVisor),
// where signals and timeouts are handled. See File for what an implementation may hold while it copies.
//
// Lock order:
//
//	renameMu
//	  Namespace.mu
//	    directory.changeMu, an ancestor's before its descendant's
//	      FDTable.mu, fsInfo.mu
//	      directory.mu
//	        FileDescription.posMu
//	          a file system's own locks
//	waitGraph.mu and FileLocks.mu are leaves
package vfs

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// Limits of names (path_resolution(7)).
const (
	nameMax  = 255
	pathMax  = 4096
	maxLinks = 40
)

// Attr are the attributes of a file, as stat(2) and statx(2) show them.
type Attr struct {
	Dev       uint64 // device number of the file system, as unix.Mkdev encodes it
	Ino       uint64
	Mode      uint32 // type and permission bits
	Nlink     uint32
	UID, GID  uint32
	Rdev      uint64
	Size      int64
	BlockSize uint32 // preferred size of reads and writes, in bytes
	Blocks    uint64 // in units of 512 bytes
	Atime     unix.Timespec
	Mtime     unix.Timespec
	Ctime     unix.Timespec
	Btime     unix.Timespec
	MountID   uint64
	MountRoot bool // the file is the root of its mount
}

// FillStat writes a as struct stat.
func (a *Attr) FillStat(s *unix.Stat_t) {
	*s = unix.Stat_t{
		Dev: a.Dev, Ino: a.Ino, Nlink: uint64(a.Nlink), Mode: a.Mode, Uid: a.UID, Gid: a.GID, Rdev: a.Rdev,
		Size: a.Size, Blksize: int64(a.BlockSize), Blocks: int64(a.Blocks),
		Atim: a.Atime, Mtim: a.Mtime, Ctim: a.Ctime,
	}
}

// FillStatx writes a as struct statx, with all basic fields and the birth time.
func (a *Attr) FillStatx(s *unix.Statx_t) {
	stamp := func(t unix.Timespec) unix.StatxTimestamp {
		return unix.StatxTimestamp{Sec: t.Sec, Nsec: uint32(t.Nsec)}
	}
	*s = unix.Statx_t{
		Mask:    unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID,
		Blksize: a.BlockSize, Nlink: a.Nlink, Uid: a.UID, Gid: a.GID, Mode: uint16(a.Mode),
		Ino: a.Ino, Size: uint64(a.Size), Blocks: a.Blocks,
		Atime: stamp(a.Atime), Btime: stamp(a.Btime), Ctime: stamp(a.Ctime), Mtime: stamp(a.Mtime),
		Rdev_major: unix.Major(a.Rdev), Rdev_minor: unix.Minor(a.Rdev),
		Dev_major: unix.Major(a.Dev), Dev_minor: unix.Minor(a.Dev), Mnt_id: a.MountID,
		Attributes_mask: unix.STATX_ATTR_MOUNT_ROOT,
	}
	if a.MountRoot {
		s.Attributes |= unix.STATX_ATTR_MOUNT_ROOT
	}
}

// SetAttr is a change of attributes; only the fields named by Valid count.
type SetAttr struct {
	Valid    SetMask
	Mode     uint32 // permission bits
	UID, GID uint32
	Size     int64
	Atime    unix.Timespec
	Mtime    unix.Timespec
}

// SetMask names fields of SetAttr.
type SetMask uint32

// The fields.
const (
	SetMode SetMask = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
)

// StatFS describes a file system as statfs(2) does. Sizes are in blocks.
type StatFS struct {
	Type               int64
	BlockSize          int64
	Blocks, BlocksFree uint64
	Files, FilesFree   uint64
	ID                 uint64
	MountFlags         int64 // ST_*; filled in by the core
}

// Fill writes s as struct statfs.
func (s *StatFS) Fill(t *unix.Statfs_t) {
	*t = unix.Statfs_t{
		Type: s.Type, Bsize: s.BlockSize, Frsize: s.BlockSize, Blocks: s.Blocks, Bfree: s.BlocksFree, Bavail: s.BlocksFree,
		Files: s.Files, Ffree: s.FilesFree, Namelen: nameMax, Flags: s.MountFlags,
		Fsid: unix.Fsid{Val: [2]int32{int32(s.ID), int32(s.ID >> 32)}},
	}
}

// Now returns the wall-clock time for time stamps.
func Now() unix.Timespec {
	ns := kernel.Realtime()
	return unix.Timespec{Sec: ns / 1e9, Nsec: ns % 1e9}
}

// FileSystem is one instance of a file system.
type FileSystem interface {
	// Type is its name in /proc/mounts.
	Type() string
	// Dev is its device number, unique among the instances (NewDev).
	Dev() uint64
	// Statfs fills s, MountFlags apart.
	Statfs(s *StatFS) error
	// Caching says how the core keeps its dentries.
	Caching() Caching
	// Sync writes everything back.
	Sync() error
}

// Caching says what a file system's dentries are to it.
type Caching uint8

const (
	// Resident: the dentry tree is the directory. A name that isn't there doesn't exist, and Lookup
	// is never called (tmpfs).
	Resident Caching = iota
	// Cached: dentries cache what Lookup found for a while. Others may change the tree, too (9p). Its
	// directories are Revalidators.
	Cached
	// Volatile: names come and go by themselves; each walk calls Lookup (procfs).
	Volatile
)

// Inode is a file. Implementations embed BaseInode, which refuses every operation as the file's type
// demands.
//
// Directory operations are called with the directories locked against change, after all checks of
// permission, existence and type; an implementation only does the act. In a Resident file system the
// core then enters or removes the dentry, which is the act; the methods keep counts and times.
type Inode interface {
	FS() FileSystem
	Ino() uint64
	// Perm returns the mode (type and permissions) and the owner. It costs next to nothing.
	Perm() (mode, uid, gid uint32)
	// Stat fills a, MountID and MountRoot apart.
	Stat(a *Attr) error
	// SetAttr changes attributes and the change time. The core has checked permissions.
	SetAttr(c *Context, s *SetAttr) error
	// Open returns an open file. flags are those of open(2); O_TRUNC is done by the core.
	Open(c *Context, p Path, flags uint32) (File, error)
	// Readlink returns a symbolic link's target.
	Readlink(c *Context) (string, error)

	// Lookup finds name in a directory that isn't Resident: ENOENT if it isn't there.
	Lookup(c *Context, name string) (Inode, error)
	// Create makes a file of any type but a symbolic link (mode has the type).
	Create(c *Context, name string, mode uint32, rdev uint64) (Inode, error)
	// Symlink makes a symbolic link.
	Symlink(c *Context, name, target string) (Inode, error)
	// Link enters i under another name.
	Link(c *Context, name string, i Inode) error
	// Unlink removes a name of i, which is no directory.
	Unlink(c *Context, name string, i Inode) error
	// Rmdir removes the directory i, which the core found empty if the file system is Resident.
	Rmdir(c *Context, name string, i Inode) error
	// Rename moves i, named name here, to newName in newDir. replaced is what newName was there, or
	// nil; with unix.RENAME_EXCHANGE in flags it takes i's place.
	Rename(c *Context, name string, i Inode, newDir Inode, newName string, replaced Inode, flags uint32) error
}

// Revalidator is a directory inode of a Cached file system.
type Revalidator interface {
	// Revalidate finds name as Lookup does. known is what it was: if it still is, that is returned.
	Revalidate(c *Context, name string, known Inode) (Inode, error)
	// Forget says that name isn't i's any more, which nobody here has done.
	Forget(name string, i Inode)
}

// TemporaryMaker is a directory inode that can make a file without a name (O_TMPFILE). Linkable says that it may
// get one later (linkat(2)): EOPNOTSUPP where that can't be.
type TemporaryMaker interface {
	Temporary(c *Context, mode uint32, linkable bool) (Inode, error)
}

// Jumper is a symbolic link that leads to a file rather than to a path (/proc/PID/exe, fd/N).
type Jumper interface {
	Jump(c *Context) (Path, error)
}

// Xattrer is an inode with extended attributes. The core has checked permissions and name space.
type Xattrer interface {
	GetXattr(name string) ([]byte, error)
	SetXattr(name string, value []byte, flags int) error
	ListXattr() []string
	RemoveXattr(name string) error
}

// Holder is an inode that wants to know whether somebody has it open. Hold is called for each
// reference that keeps an unlinked file alive (an open file description, a mapping), and returns
// ENOENT when the file is already gone; Drop ends it.
type Holder interface {
	Hold() error
	Drop()
}
