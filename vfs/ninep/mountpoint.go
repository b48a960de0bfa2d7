package ninep

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/vfs"
)

// AddMountPoint makes name a file of the root to mount something on, of the type in mode (S_IFDIR or
// S_IFREG): in memory, never on the server, unless the server has a file of that name. It reports whether
// it had to.
//
// Precondition: the file system isn't in use yet.
func (f *FS) AddMountPoint(name string, mode uint32) (added bool, err error) {
	root := f.root.Inode().(*inode)
	if f.root.Child(name) != nil {
		return false, nil
	}
	i, err := root.Lookup(nil, name)
	if err == nil {
		f.root.Add(name, i)
		return false, nil
	}
	if err != unix.ENOENT {
		return false, err
	}
	// Numbers that no server gives to files: those of its host's files are small.
	f.pointsMu.Lock()
	defer f.pointsMu.Unlock()
	p := &mountPoint{}
	p.Init(f, ^uint64(0)>>1-uint64(len(f.mountPoints.list)), mode, 0, 0, 0)
	f.mountPoints.list = append(f.mountPoints.list, point{name, p.Ino()})
	f.root.Add(name, p)
	return true, nil
}

// mountPoints are those that are in memory.
type mountPoints struct {
	pointsMu sync.Mutex // guards list
	list     []point
}

type point struct {
	name string
	ino  uint64
}

// after returns the mount point that a list of the root shows behind n others.
func (p *mountPoints) after(n int64) (point, bool) {
	p.pointsMu.Lock()
	defer p.pointsMu.Unlock()
	if n < 0 || n >= int64(len(p.list)) {
		return point{}, false
	}
	return p.list[n], true
}

// has says whether name is a mount point in memory.
func (p *mountPoints) has(name string) bool {
	p.pointsMu.Lock()
	defer p.pointsMu.Unlock()
	return slices.ContainsFunc(p.list, func(q point) bool { return q.name == name })
}

// mountPoint is a directory or file in memory, empty and unchangeable.
type mountPoint struct{ vfs.BaseInode }

// Open opens it.
func (m *mountPoint) Open(*vfs.Context, vfs.Path, uint32) (vfs.File, error) {
	return &emptyDir{}, nil
}

// emptyDir is an open directory in memory.
type emptyDir struct{ vfs.BaseFile }

// Seekable says yes.
func (*emptyDir) Seekable() bool { return true }

// Read refuses.
func (*emptyDir) Read(*vfs.Context, *mm.Buffer, int64) (int, error) { return 0, unix.EISDIR }

// ReadDir finds nothing.
func (*emptyDir) ReadDir(*vfs.Context, int64, func(string, uint64, uint32, int64) bool) error {
	return nil
}
