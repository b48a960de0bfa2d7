// Package tmpfs is the file system in memory: /, /tmp, /dev/shm, and the files of memfd_create.
//
// Its directories are the core's dentries (vfs.Resident). A regular file's data stands in frames of the
// page cache, found by page number; what was never written has none. A file may begin with a piece of
// physical memory, such as an initrd module, that is read and mapped where it lies until it is written
// to.
package tmpfs

import (
	"math"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/runtime/metal"
	"elver/vfs"
)

// Options are the limits of a tmpfs and what its root is like.
type Options struct {
	Pages    uint64 // frames of data; 0: half of the memory
	Inodes   uint64 // 0: one per two frames of the memory
	Mode     uint32 // permissions of the root; 0: 0755
	UID, GID uint32
	Type     string // "" : tmpfs
	// Device opens a character or block device. nil: ENXIO.
	Device func(c *vfs.Context, mode uint32, rdev uint64, p vfs.Path, flags uint32) (vfs.File, error)
}

// FS is a tmpfs.
type FS struct {
	options   Options
	dev       uint64
	root      *vfs.Dentry
	lastIno   atomic.Uint64
	pages     atomic.Int64 // frames in use
	inodes    atomic.Int64
	maxInodes int64
	maxPages  int64
}

// New returns an empty tmpfs.
func New(o Options) *FS {
	f := &FS{options: o, dev: vfs.NewDev()}
	total := metal.Frames().Total
	f.maxPages, f.maxInodes = int64(o.Pages), int64(o.Inodes)
	if o.Pages == 0 {
		f.maxPages = int64(total / 2)
	}
	if o.Inodes == 0 {
		f.maxInodes = int64(total / 2)
	}
	mode := o.Mode
	if mode == 0 {
		mode = 0o755
	}
	f.inodes.Add(1)
	f.root = vfs.NewRoot(f.newInode(unix.S_IFDIR|mode, o.UID, o.GID, 0))
	return f
}

// Mounter returns what makes instances for mount(2) with tmpfs's options (size=, nr_inodes=, mode=,
// uid=, gid=), else as base says.
func Mounter(base Options) vfs.Mounter {
	return func(c *vfs.Context, source, options string) (*vfs.Dentry, error) {
		o := base
		if o.Mode == 0 {
			o.Mode = 0o1777
		}
		o.UID, o.GID = c.Creds.FSUID, c.Creds.FSGID
		for _, word := range strings.Split(options, ",") {
			key, value, _ := strings.Cut(word, "=")
			var err error
			var n uint64
			switch key {
			case "size":
				n, err = parseSize(value, metal.FrameSize)
				o.Pages = max((n+metal.FrameSize-1)/metal.FrameSize, 1)
				if n == 0 {
					o.Pages = math.MaxInt64
				}
			case "nr_blocks":
				o.Pages, err = parseSize(value, 1)
			case "nr_inodes":
				o.Inodes, err = parseSize(value, 1)
			case "mode":
				n, err = strconv.ParseUint(value, 8, 12)
				o.Mode = uint32(n)
			case "uid":
				n, err = strconv.ParseUint(value, 10, 32)
				o.UID = uint32(n)
			case "gid":
				n, err = strconv.ParseUint(value, 10, 32)
				o.GID = uint32(n)
			}
			if err != nil {
				return nil, unix.EINVAL
			}
		}
		return New(o).root, nil
	}
}

// parseSize reads a number with a suffix of k, m, g or % of the memory.
func parseSize(s string, unit uint64) (uint64, error) {
	shift := 0
	if s != "" {
		switch s[len(s)-1] {
		case 'k', 'K':
			shift = 10
		case 'm', 'M':
			shift = 20
		case 'g', 'G':
			shift = 30
		case '%':
			n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
			return metal.Frames().Total * unit * n / 100, err
		}
		if shift != 0 {
			s = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 63-shift)
	return n << shift, err
}

// Root returns the root's dentry, to mount.
func (f *FS) Root() *vfs.Dentry { return f.root }

// Type returns the name of the type.
func (f *FS) Type() string {
	if f.options.Type != "" {
		return f.options.Type
	}
	return "tmpfs"
}

// Dev returns the device number.
func (f *FS) Dev() uint64 { return f.dev }

// Caching says that the dentries are the directory.
func (f *FS) Caching() vfs.Caching { return vfs.Resident }

// Sync does nothing: there is nowhere to write to.
func (f *FS) Sync() error { return nil }

// Statfs fills s.
func (f *FS) Statfs(s *vfs.StatFS) error {
	s.Type, s.BlockSize, s.ID = unix.TMPFS_MAGIC, metal.FrameSize, f.dev
	s.Blocks = uint64(f.maxPages)
	free := max(f.maxPages-f.pages.Load(), 0)
	if st := metal.Frames(); st.Free > st.Reserve {
		free = min(free, int64(st.Free-st.Reserve))
	} else {
		free = 0
	}
	s.BlocksFree = uint64(free)
	s.Files, s.FilesFree = uint64(f.maxInodes), uint64(max(f.maxInodes-f.inodes.Load(), 0))
	return nil
}

// Unmounted gives everything back that nobody has open.
func (f *FS) Unmounted() { f.root.Prune(dropLink) }

// Pages returns how many frames the files use.
func (f *FS) Pages() int64 { return f.pages.Load() }

// charge takes n frames from the limit: ENOSPC.
func (f *FS) charge(n int64) error {
	if f.pages.Add(n) > f.maxPages {
		f.pages.Add(-n)
		return unix.ENOSPC
	}
	return nil
}

func (f *FS) uncharge(n int64) { f.pages.Add(-n) }

// chargeInode takes an inode from the limit.
func (f *FS) chargeInode() error {
	if f.inodes.Add(1) > f.maxInodes {
		f.inodes.Add(-1)
		return unix.ENOSPC
	}
	return nil
}

// newInode makes an inode that is already charged.
func (f *FS) newInode(mode, uid, gid uint32, rdev uint64) vfs.Inode {
	ino := f.lastIno.Add(1)
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		r := &regular{}
		r.Init(f, ino, mode, uid, gid, 0)
		return r
	case unix.S_IFIFO:
		p := &fifo{pipe: vfs.NewPipe()}
		p.Init(f, ino, mode, uid, gid, 0)
		return p
	}
	i := &inode{}
	i.Init(f, ino, mode, uid, gid, rdev)
	return i
}

// Add makes a file in a tree that is not yet in use: mode has the type; missing directories are made.
// It returns the new dentry, or the one that is there if both are directories.
func (f *FS) Add(path string, mode, uid, gid uint32, rdev uint64) (*vfs.Dentry, error) {
	return f.add(path, mode&unix.S_IFMT == unix.S_IFDIR, func() vfs.Inode { return f.newInode(mode, uid, gid, rdev) })
}

func (f *FS) add(path string, directory bool, make func() vfs.Inode) (*vfs.Dentry, error) {
	d := f.root
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	for n, name := range parts {
		if name == "." || name == ".." || len(name) > 255 {
			return nil, unix.EINVAL
		}
		last := n == len(parts)-1
		if c := d.Child(name); c != nil {
			mode, _, _ := c.Inode().Perm()
			if mode&unix.S_IFMT != unix.S_IFDIR {
				if last {
					return nil, unix.EEXIST
				}
				return nil, unix.ENOTDIR
			}
			if last && !directory {
				return nil, unix.EEXIST
			}
			d = c
			continue
		}
		if err := f.chargeInode(); err != nil {
			return nil, err
		}
		var i vfs.Inode
		if last {
			i = make()
		} else {
			i = f.newInode(unix.S_IFDIR|0o755, 0, 0, 0)
		}
		if mode, _, _ := i.Perm(); mode&unix.S_IFMT == unix.S_IFDIR {
			d.Inode().(*inode).AddLinks(1)
		}
		d = d.Add(name, i)
	}
	return d, nil
}

// AddFile makes a regular file whose content is size bytes of physical memory at pa. The memory is read
// and, page aligned, mapped where it lies; a page that is written to is copied first. The frames there
// have a reference of the machine's own that is never dropped.
func (f *FS) AddFile(path string, pa, size uint64, mode uint32) (*vfs.Dentry, error) {
	if size > math.MaxInt64 {
		return nil, unix.EFBIG
	}
	return f.add(path, false, func() vfs.Inode {
		r := f.newInode(unix.S_IFREG|mode&0o7777, 0, 0, 0).(*regular)
		r.base, r.baseSize = pa, int64(size)
		r.size.Store(int64(size))
		return r
	})
}

// AddContent makes a regular file of the given content.
func (f *FS) AddContent(path string, content []byte, mode uint32) (*vfs.Dentry, error) {
	d, err := f.Add(path, unix.S_IFREG|mode&0o7777, 0, 0, 0)
	if err != nil {
		return nil, err
	}
	r := d.Inode().(*regular)
	for off := 0; off < len(content); off += metal.FrameSize {
		frame, err := r.page(uint64(off)/metal.FrameSize, true)
		if err != nil {
			return nil, err
		}
		copy(metal.View(frame, metal.FrameSize), content[off:])
		metal.Unref(frame)
	}
	r.size.Store(int64(len(content)))
	return d, nil
}

// AddSymlink makes a symbolic link.
func (f *FS) AddSymlink(path, target string) (*vfs.Dentry, error) {
	d, err := f.Add(path, unix.S_IFLNK|0o777, 0, 0, 0)
	if err == nil {
		d.Inode().(*inode).target = target
	}
	return d, err
}

// inode is a directory, symbolic link, device or socket.
type inode struct {
	vfs.BaseInode
	xattrs
	target string // of a symbolic link
}

func (i *inode) tmpfs() *FS { return i.FS().(*FS) }

// Stat fills a.
func (i *inode) Stat(a *vfs.Attr) error {
	i.BaseInode.Stat(a)
	a.Size = int64(len(i.target))
	return nil
}

// Open opens a directory or device.
func (i *inode) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	mode, _, _ := i.Perm()
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return &dirFile{}, nil
	case unix.S_IFCHR, unix.S_IFBLK:
		if open := i.tmpfs().options.Device; open != nil {
			return open(c, mode, i.Rdev(), p, flags)
		}
	}
	return nil, unix.ENXIO
}

// Readlink returns a symbolic link's target.
func (i *inode) Readlink(*vfs.Context) (string, error) {
	if mode, _, _ := i.Perm(); mode&unix.S_IFMT != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	return i.target, nil
}

// Create makes a file of any type.
func (i *inode) Create(c *vfs.Context, name string, mode uint32, rdev uint64) (vfs.Inode, error) {
	f := i.tmpfs()
	if err := f.chargeInode(); err != nil {
		return nil, err
	}
	mode, uid, gid := c.NewOwner(i, mode)
	if mode&unix.S_IFMT == unix.S_IFDIR {
		i.AddLinks(1)
	}
	i.Modified()
	return f.newInode(mode, uid, gid, rdev), nil
}

// Symlink makes a symbolic link.
func (i *inode) Symlink(c *vfs.Context, name, target string) (vfs.Inode, error) {
	n, err := i.Create(c, name, unix.S_IFLNK|0o777, 0)
	if err != nil {
		return nil, err
	}
	n.(*inode).target = strings.Clone(target)
	return n, nil
}

// Temporary makes a file that is in no directory.
func (i *inode) Temporary(c *vfs.Context, mode uint32, linkable bool) (vfs.Inode, error) {
	f := i.tmpfs()
	if err := f.chargeInode(); err != nil {
		return nil, err
	}
	mode, uid, gid := c.NewOwner(i, mode)
	r := f.newInode(mode, uid, gid, 0).(*regular)
	r.AddLinks(-1)
	r.linkable = linkable
	return r, nil
}

// linked is what every inode here has: AddLinks, and what happens when the last link is gone.
type linked interface {
	vfs.Inode
	AddLinks(n int) uint32
	unlinked()
	// revive says whether it may get a name: ENOENT once the last one is gone, but for what O_TMPFILE made.
	revive() error
}

func (i *inode) unlinked() { i.tmpfs().inodes.Add(-1) }

func (i *inode) revive() error {
	if i.Links() == 0 {
		return unix.ENOENT
	}
	return nil
}

// Link enters another name of a file.
func (i *inode) Link(c *vfs.Context, name string, n vfs.Inode) error {
	l, ok := n.(linked)
	if !ok {
		return unix.EPERM
	}
	if err := l.revive(); err != nil {
		return err
	}
	l.AddLinks(1)
	i.Modified()
	return nil
}

// Unlink removes a name.
func (i *inode) Unlink(c *vfs.Context, name string, n vfs.Inode) error {
	i.Modified()
	dropLink(n)
	return nil
}

func dropLink(n vfs.Inode) {
	if l, ok := n.(linked); ok && l.AddLinks(-1) == 0 {
		l.unlinked()
	}
}

// Rmdir removes an empty directory.
func (i *inode) Rmdir(c *vfs.Context, name string, n vfs.Inode) error {
	i.AddLinks(-1)
	i.Modified()
	d := n.(*inode)
	d.AddLinks(-2)
	d.unlinked()
	return nil
}

// Rename moves a file.
func (i *inode) Rename(c *vfs.Context, name string, n, newDir vfs.Inode, newName string, replaced vfs.Inode, flags uint32) error {
	to := newDir.(*inode)
	isDir := func(n vfs.Inode) bool {
		if n == nil {
			return false
		}
		mode, _, _ := n.Perm()
		return mode&unix.S_IFMT == unix.S_IFDIR
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		if i != to && isDir(n) != isDir(replaced) {
			from, dest := i, to
			if !isDir(n) {
				from, dest = to, i
			}
			from.AddLinks(-1)
			dest.AddLinks(1)
		}
	} else {
		switch {
		case isDir(replaced):
			to.Rmdir(c, newName, replaced)
		case replaced != nil:
			dropLink(replaced)
		}
		if isDir(n) && i != to {
			i.AddLinks(-1)
			to.AddLinks(1)
		}
	}
	i.Modified()
	to.Modified()
	if t, ok := n.(interface{ Changed() }); ok {
		t.Changed()
	}
	return nil
}

// dirFile is an open directory; the core lists it.
type dirFile struct{ vfs.BaseFile }

// Seekable says yes: directories have offsets.
func (*dirFile) Seekable() bool { return true }

// Read refuses.
func (*dirFile) Read(*vfs.Context, *buffer, int64) (int, error) { return 0, unix.EISDIR }

// Seek knows only absolute offsets, which the core handed out.
func (*dirFile) Seek(off int64, whence int) (int64, error) {
	if whence != unix.SEEK_END {
		return 0, unix.EINVAL
	}
	if off != 0 {
		return 0, unix.EINVAL
	}
	return math.MaxInt64, nil
}

// Sync does nothing.
func (*dirFile) Sync(bool) error { return nil }

// fifo is a named pipe.
type fifo struct {
	inode
	pipe *vfs.Pipe
}

// FIFO returns what the core opens.
func (f *fifo) FIFO() *vfs.Pipe { return f.pipe }

// xattrs are the extended attributes of an inode.
type xattrs struct {
	mu      sync.Mutex
	set     map[string][]byte
	capable atomic.Bool // there is capability in it
}

// capability is the attribute that a change of the file takes away (capabilities(7), "File capabilities").
const capability = "security.capability"

// maxXattrs bounds what the attributes of one file may take, in bytes, as ext4 does by its block.
const maxXattrs = 64 << 10

// GetXattr returns the value of an attribute: ENODATA.
func (x *xattrs) GetXattr(name string) ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v, ok := x.set[name]
	if !ok {
		return nil, unix.ENODATA
	}
	return v, nil
}

// SetXattr sets an attribute.
func (x *xattrs) SetXattr(name string, value []byte, flags int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, there := x.set[name]
	if there && flags&unix.XATTR_CREATE != 0 {
		return unix.EEXIST
	}
	if !there && flags&unix.XATTR_REPLACE != 0 {
		return unix.ENODATA
	}
	total := len(name) + len(value)
	for n, v := range x.set {
		if n != name {
			total += len(n) + len(v)
		}
	}
	if total > maxXattrs+1024 {
		return unix.ENOSPC
	}
	if x.set == nil {
		x.set = make(map[string][]byte)
	}
	x.set[strings.Clone(name)] = append([]byte(nil), value...)
	if name == capability {
		x.capable.Store(true)
	}
	return nil
}

// ListXattr returns the names in order.
func (x *xattrs) ListXattr() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	names := make([]string, 0, len(x.set))
	for n := range x.set {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// RemoveXattr removes an attribute: ENODATA.
func (x *xattrs) RemoveXattr(name string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.set[name]; !ok {
		return unix.ENODATA
	}
	delete(x.set, name)
	if name == capability {
		x.capable.Store(false)
	}
	return nil
}
