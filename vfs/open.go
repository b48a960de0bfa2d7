package vfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// OpenHow is struct open_how of openat2(2).
type OpenHow struct {
	Flags   uint64
	Mode    uint64
	Resolve uint64
}

// knownFlags are the flags that openat2 takes; open(2) ignores others.
const knownFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | settable |
	unix.O_SYNC | unix.O_DSYNC | unix.O_LARGEFILE | linuxLargeFile | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_PATH | unix.O_TMPFILE

// linuxLargeFile is O_LARGEFILE as the kernel has it; in user space it is 0 on x86-64.
const linuxLargeFile = 0o100000

// resolveCached is RESOLVE_CACHED, which package unix lacks.
const resolveCached = 0x20

// tmpFile is O_TMPFILE without the O_DIRECTORY in it.
const tmpFile = unix.O_TMPFILE &^ unix.O_DIRECTORY

// Open is openat(2): the new descriptor.
func (c *Context) Open(dirfd int32, path string, flags, mode uint32) (int, error) {
	if err := c.HasRoom(flags); err != nil {
		return 0, err
	}
	d, err := c.OpenFile(dirfd, path, flags, mode)
	if err != nil {
		return 0, err
	}
	return c.Install(d, flags&unix.O_CLOEXEC != 0)
}

// HasRoom returns EMFILE if there is no descriptor for a file that an open with flags could make.
func (c *Context) HasRoom(flags uint32) error {
	if flags&unix.O_CREAT == 0 {
		return nil
	}
	return c.Files.Table().HasRoom(c.limit(unix.RLIMIT_NOFILE))
}

// Open2 is openat2(2).
func (c *Context) Open2(dirfd int32, path string, how OpenHow) (int, error) {
	const resolves = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT | resolveCached
	if how.Flags&^uint64(knownFlags) != 0 || how.Resolve&^resolves != 0 ||
		how.Resolve&unix.RESOLVE_BENEATH != 0 && how.Resolve&unix.RESOLVE_IN_ROOT != 0 {
		return 0, unix.EINVAL
	}
	flags := uint32(how.Flags)
	if how.Mode != 0 && flags&(unix.O_CREAT|tmpFile) == 0 || how.Mode&^0o7777 != 0 {
		return 0, unix.EINVAL
	}
	if flags&unix.O_PATH != 0 && flags&^(unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_PATH|unix.O_CLOEXEC) != 0 {
		return 0, unix.EINVAL
	}
	if how.Resolve&resolveCached != 0 {
		return 0, unix.EAGAIN // allowed always; the caller asks again without it
	}
	if err := c.HasRoom(flags); err != nil {
		return 0, err
	}
	d, err := c.openFile(dirfd, path, flags, uint32(how.Mode), lookup(how.Resolve))
	if err != nil {
		return 0, err
	}
	return c.Install(d, flags&unix.O_CLOEXEC != 0)
}

// OpenFile is openat(2) without a descriptor: the description, with one reference.
func (c *Context) OpenFile(dirfd int32, path string, flags, mode uint32) (*Description, error) {
	return c.openFile(dirfd, path, flags, mode, 0)
}

func (c *Context) openFile(dirfd int32, path string, flags, mode uint32, resolve lookup) (*Description, error) {
	flags &= knownFlags
	if flags&unix.O_PATH != 0 {
		flags &= unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	}
	if flags&tmpFile != 0 {
		if flags&unix.O_DIRECTORY == 0 || flags&unix.O_CREAT != 0 || flags&unix.O_ACCMODE == unix.O_RDONLY {
			return nil, unix.EINVAL
		}
		return c.openTemporary(dirfd, path, flags, mode, resolve)
	}
	if flags&(unix.O_CREAT|unix.O_DIRECTORY) == unix.O_CREAT|unix.O_DIRECTORY {
		return nil, unix.EINVAL
	}
	if flags&unix.O_NOFOLLOW != 0 || flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL {
		resolve |= noFollow
	}
	var w walker
	if err := c.begin(&w, dirfd, path, resolve); err != nil {
		return nil, err
	}
	if flags&unix.O_CREAT == 0 {
		if err := w.finish(); err != nil {
			return nil, err
		}
		return c.openPath(w.at, flags, false)
	}
	for {
		if err := w.parent(); err != nil {
			return nil, err
		}
		if w.last == "" || w.last == "." || w.last == ".." {
			return nil, unix.EISDIR
		}
		if w.slash {
			return nil, unix.EISDIR
		}
		created, err := c.findOrCreate(w.at, w.last, mode)
		if err == nil {
			at := Path{w.at.Mount, created}
			return c.openPath(at, flags, true)
		}
		if err != unix.EEXIST {
			return nil, err
		}
		if flags&unix.O_EXCL != 0 {
			return nil, unix.EEXIST
		}
		err = w.step(w.last, resolve&noFollow == 0)
		if err == unix.ENOENT && w.rest == "" && !w.jump {
			continue // removed meanwhile: make it after all
		}
		if err != nil {
			return nil, err
		}
		if w.rest == "" {
			return c.openPath(w.at, flags, false)
		}
	}
}

// OpenIn opens name in the directory dir of a file system that need not be mounted; make makes the file if
// flags have O_CREAT. EACCES for a name that is none.
func (c *Context) OpenIn(dir Path, name string, flags, mode uint32, make func(dir Inode, mode uint32) (Inode, error)) (*Description, error) {
	if err := checkPlainName(name); err != nil {
		return nil, err
	}
	for {
		child, err := c.find(dir, name)
		if err == nil {
			if flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL {
				return nil, unix.EEXIST
			}
			return c.openPath(Path{dir.Mount, child}, flags&^unix.O_CREAT, false)
		}
		if err != unix.ENOENT || flags&unix.O_CREAT == 0 {
			return nil, err
		}
		child, err = c.create(dir, name, unix.S_IFREG|mode&0o7777, make)
		if err == nil {
			return c.openPath(Path{dir.Mount, child}, flags, true)
		}
		if err != unix.EEXIST {
			return nil, err
		}
	}
}

// checkPlainName refuses what is no name in a directory without subdirectories.
func checkPlainName(name string) error {
	switch {
	case len(name) > nameMax:
		return unix.ENAMETOOLONG
	case name == "":
		return unix.ENOENT
	case name == ".", name == "..", strings.Contains(name, "/"):
		return unix.EACCES
	}
	return nil
}

// findOrCreate makes a regular file name in the directory p: EEXIST if something is there.
func (c *Context) findOrCreate(p Path, name string, mode uint32) (*Dentry, error) {
	if !p.Dentry.isDir() {
		return nil, unix.ENOTDIR
	}
	if p.Dentry.inode.FS().Caching() != Volatile && len(name) <= nameMax {
		if p.Dentry.child(name) != nil {
			return nil, unix.EEXIST
		}
	}
	return c.create(p, name, unix.S_IFREG|mode&0o7777, func(dir Inode, mode uint32) (Inode, error) {
		return dir.Create(c, name, mode, 0)
	})
}

// openPath opens the file at p; created says that this very call made it, so that its permissions
// don't matter.
func (c *Context) openPath(p Path, flags uint32, created bool) (*Description, error) {
	i := p.Inode()
	mode, _, _ := i.Perm()
	typ := mode & unix.S_IFMT
	if flags&unix.O_DIRECTORY != 0 && typ != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	if flags&unix.O_PATH != 0 {
		if h, ok := i.(Holder); ok {
			if err := h.Hold(); err != nil {
				return nil, err
			}
		}
		return NewDescription(pathFile{}, p, flags), nil
	}
	want := uint32(0)
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		want = mayReadAccess
	case unix.O_WRONLY:
		want = mayWriteAccess
	default:
		want = mayReadAccess | mayWriteAccess
	}
	if flags&unix.O_TRUNC != 0 {
		want |= mayWriteAccess
	}
	switch typ {
	case unix.S_IFLNK:
		return nil, unix.ELOOP
	case unix.S_IFDIR:
		if want&mayWriteAccess != 0 || flags&unix.O_CREAT != 0 {
			return nil, unix.EISDIR
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if p.Mount != nil && p.Mount.has(unix.MS_NODEV) {
			return nil, unix.EACCES
		}
	}
	if !created {
		if err := c.allow(p, want); err != nil {
			return nil, err
		}
		if flags&unix.O_NOATIME != 0 && !c.owns(i) {
			return nil, unix.EPERM
		}
	}
	var writes *writers
	if typ == unix.S_IFREG && want&mayWriteAccess != 0 {
		writes = writersOf(i)
	}
	if writes != nil {
		if err := writes.enter(); err != nil {
			return nil, err
		}
	}
	d, err := c.openAllowed(i, p, flags, typ == unix.S_IFREG && flags&unix.O_TRUNC != 0 && !created)
	if writes != nil && (err != nil || d.mode&mayWrite == 0) { // O_TRUNC with O_RDONLY writes while it opens
		writes.leave()
		writes = nil
	}
	if err != nil {
		return nil, err
	}
	d.writes = writes
	d.told, d.created = true, created
	d.happened(unix.IN_OPEN)
	if flags&unix.O_TRUNC != 0 && typ == unix.S_IFREG && !created {
		d.happened(unix.IN_MODIFY)
	}
	return d, nil
}

// openAllowed opens i, which is at p and may be opened so, and truncates it.
func (c *Context) openAllowed(i Inode, p Path, flags uint32, truncate bool) (*Description, error) {
	if h, ok := i.(Holder); ok {
		if err := h.Hold(); err != nil {
			return nil, err
		}
	}
	file, err := c.openInode(i, p, flags)
	if err == nil && truncate {
		if err = c.resize(i, 0); err != nil {
			file.Release()
		}
	}
	if err != nil {
		if h, ok := i.(Holder); ok {
			h.Drop()
		}
		return nil, err
	}
	return NewDescription(file, p, flags), nil
}

// openInode opens i, FIFOs here, everything else by the inode.
func (c *Context) openInode(i Inode, p Path, flags uint32) (File, error) {
	if f, ok := i.(fifoInode); ok {
		if mode, _, _ := i.Perm(); mode&unix.S_IFMT == unix.S_IFIFO {
			return c.openFIFO(f.FIFO(), flags)
		}
	}
	return i.Open(c, p, flags)
}

// openTemporary is open with O_TMPFILE: path names the directory.
func (c *Context) openTemporary(dirfd int32, path string, flags, mode uint32, resolve lookup) (*Description, error) {
	dir, err := c.walk(dirfd, path, resolve)
	if err != nil {
		return nil, err
	}
	if !dir.Dentry.isDir() {
		return nil, unix.ENOTDIR
	}
	if err := dir.writable(); err != nil {
		return nil, err
	}
	if err := c.allow(dir, mayWriteAccess|mayExecAccess); err != nil {
		return nil, err
	}
	t, ok := dir.Inode().(TemporaryMaker)
	if !ok {
		return nil, unix.EOPNOTSUPP
	}
	mode, _, _ = c.NewOwner(dir.Inode(), unix.S_IFREG|mode&0o7777)
	i, err := t.Temporary(c, mode&^c.Files.CurrentUmask(), flags&unix.O_EXCL == 0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("/#")
	writeUint(&b, i.Ino())
	p := Path{dir.Mount, NewDetached(i, b.String())}
	p.Dentry.removed.Store(true)
	d, err := c.openPath(p, flags&^(unix.O_TMPFILE|unix.O_CREAT|unix.O_TRUNC|unix.O_EXCL), true)
	if err == nil {
		d.flags.Or(unix.O_TMPFILE) // F_GETFL shows it
	}
	return d, err
}

func writeUint(b *strings.Builder, v uint64) {
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + v%10)
		v /= 10
		if v == 0 {
			break
		}
	}
	b.Write(digits[i:])
}

// pathFile is a file opened with O_PATH: it can do nothing.
type pathFile struct{ BaseFile }
