package vfs

import (
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// anonFS is the file system of files that are in no tree: pipes, eventfds and their like.
type anonFS struct {
	name  string
	magic int64
	dev   uint64
	ino   atomic.Uint64
}

var (
	pipeFS = &anonFS{name: "pipefs", magic: unix.PIPEFS_MAGIC, dev: NewDev()}
	anonFs = &anonFS{name: "anon_inodefs", magic: unix.ANON_INODE_FS_MAGIC, dev: NewDev()}
	sockFS = &anonFS{name: "sockfs", magic: unix.SOCKFS_MAGIC, dev: NewDev()}
)

func (f *anonFS) Type() string     { return f.name }
func (f *anonFS) Dev() uint64      { return f.dev }
func (f *anonFS) Caching() Caching { return Resident }
func (f *anonFS) Sync() error      { return nil }
func (f *anonFS) Statfs(s *StatFS) error {
	s.Type, s.BlockSize = f.magic, 4096
	return nil
}

// anonInode is the one inode of all files of package event.
type anonInode struct{ BaseInode }

var theAnonInode = func() *anonInode {
	i := &anonInode{}
	i.Init(anonFs, 1, 0o600, 0, 0, 0)
	return i
}()

// NewAnonymous returns the description of a file without a place in the tree, with one reference, which
// /proc/PID/fd shows as "anon_inode:" and kind.
func NewAnonymous(file File, kind string, flags uint32) *Description {
	return NewDescription(file, Path{nil, NewDetached(theAnonInode, "anon_inode:"+kind)}, flags)
}

// NewSocket is NewAnonymous for sockets: each has an inode of its own, shown as "socket:[number]".
func NewSocket(file File, flags uint32) *Description {
	i := &anonInode{}
	i.Init(sockFS, sockFS.ino.Add(1), unix.S_IFSOCK|0o777, 0, 0, 0)
	return NewDescription(file, Path{nil, NewDetached(i, "socket:["+strconv.FormatUint(i.Ino(), 10)+"]")}, flags)
}

// streamInode is a pipe to stat, and opened again by open.
type streamInode struct {
	BaseInode
	open func(flags uint32) File
}

// Open opens the stream again, as /proc/self/fd/N and /dev/stdin do.
func (i *streamInode) Open(_ *Context, _ Path, flags uint32) (File, error) { return i.open(flags), nil }

// NewStream returns the description of a file without a place in the tree that stat shows as a pipe:
// the console without a terminal. open makes the file, and again for each later open.
func NewStream(open func(flags uint32) File, flags uint32) *Description {
	i := &streamInode{open: open}
	i.Init(pipeFS, pipeFS.ino.Add(1), unix.S_IFIFO|0o600, 0, 0, 0)
	return NewDescription(open(flags), Path{nil, NewDetached(i, "pipe:["+strconv.FormatUint(i.Ino(), 10)+"]")}, flags)
}
