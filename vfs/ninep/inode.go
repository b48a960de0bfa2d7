package ninep

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/vfs"
)

// inode is a file of the share. Every kind of file is one; a regular file and what belongs to it is a
// file, which the inode leads to.
type inode struct {
	vfs.BaseInode // refuses
	fs            *FS
	root          bool
	file          *file // of a regular file

	path atomic.Uint64 // the number
	mode atomic.Uint32
	uid  atomic.Uint32
	gid  atomic.Uint32

	// Guarded by fs.fidMu. The fid belongs to names[0] at the time it was walked to.
	fid      uint32 // noFid: none
	fidUsers int
	inIdle   *list.Element // in fs.idle, when nobody uses the fid
	stale    []uint32      // fids whose name is gone, in use
	names    []name
	orphan   bool // it had names, and has none

	mu       sync.Mutex // guards what follows
	attr     vfs.Attr   // Size apart of a regular file, which pages have
	freshTo  int64      // attr is believed until then, by monotonic
	touched  bool       // but for times and blocks, which only the server knows since we changed data
	target   string     // of a symbolic link, once read
	negative map[string]int64
	pipe     *vfs.Pipe
}

// name is one name of a file.
type name struct {
	dir  *inode
	name string
}

// newInode makes an inode of what the server said.
func (f *FS) newInode(a attributes) *inode {
	i := &inode{fs: f, fid: noFid}
	i.Init(f, a.qid.path, a.mode, a.uid, a.gid, a.rdev)
	i.path.Store(a.qid.path)
	if a.mode&unix.S_IFMT == unix.S_IFREG {
		i.file = &file{inode: i}
		i.file.pages.owner = i.file
		i.file.read, i.file.write = noFid, noFid
	}
	i.set(a, false)
	return i
}

// Ino returns the number.
func (i *inode) Ino() uint64 { return i.path.Load() }

// Perm returns what is known.
func (i *inode) Perm() (mode, uid, gid uint32) { return i.mode.Load(), i.uid.Load(), i.gid.Load() }

// set takes over what the server says. keepSize: the size and times of data are known better here.
func (i *inode) set(a attributes, keepSize bool) {
	i.mode.Store(a.mode)
	i.uid.Store(a.uid)
	i.gid.Store(a.gid)
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.attr
	i.attr = vfs.Attr{
		Dev: i.fs.dev, Ino: a.qid.path, Mode: a.mode, Nlink: uint32(min(a.nlink, 1<<31)), UID: a.uid, GID: a.gid, Rdev: a.rdev,
		Size: int64(a.size), BlockSize: pageBytes, Blocks: a.blocks, Atime: a.atime, Mtime: a.mtime, Ctime: a.ctime, Btime: a.btime,
	}
	if !a.hasBirth {
		i.attr.Btime = a.ctime
	}
	if keepSize {
		i.attr.Mtime, i.attr.Blocks = old.Mtime, old.Blocks
	} else {
		i.touched = false
		if i.file != nil {
			i.file.pages.size.Store(int64(a.size))
		}
	}
	if i.attr.Mtime != old.Mtime {
		i.target = ""
	}
	i.freshTo = monotonic() + freshFor
}

// expire makes the next look at the attributes ask the server.
func (i *inode) expire() {
	i.mu.Lock()
	i.freshTo = 0
	i.mu.Unlock()
}

// gone says whether the file has no name any more, so that the server can't be asked about it.
func (i *inode) gone() bool {
	i.fs.fidMu.Lock()
	defer i.fs.fidMu.Unlock()
	return i.orphan
}

// refresh asks the server for the attributes if those known are too old.
func (i *inode) refresh() error {
	i.mu.Lock()
	fresh := monotonic() < i.freshTo
	i.mu.Unlock()
	if fresh || i.gone() {
		return nil
	}
	return i.fetch()
}

// fetch asks the server for the attributes.
func (i *inode) fetch() error {
	var before uint64
	if i.file != nil {
		before = i.file.changes.Load()
	}
	fid, err := i.acquire()
	var a attributes
	if err == nil {
		a, err = i.fs.c.getattr(fid)
		i.release(fid)
	}
	if err != nil {
		if (err == unix.ENOENT || err == unix.ESTALE) && i.file != nil && i.file.held() {
			return nil // the host removed it: what is open goes on
		}
		return err
	}
	if a.qid.path != i.path.Load() || a.mode&unix.S_IFMT != i.mode.Load()&unix.S_IFMT {
		return i.replaced(a)
	}
	if i.file != nil {
		i.file.refreshed(a, before)
		return nil
	}
	i.set(a, false)
	return nil
}

// replaced is called when the host put another file in the place of this one: the inode goes on as that.
func (i *inode) replaced(a attributes) error {
	if a.mode&unix.S_IFMT != i.mode.Load()&unix.S_IFMT {
		return unix.ESTALE
	}
	if i.file != nil {
		if i.file.held() {
			return nil
		}
		i.file.pages.invalidate(0, 1<<63, true)
	}
	i.path.Store(a.qid.path)
	i.fs.enter(i)
	i.set(a, false)
	return nil
}

// acquire returns the fid of the file's name, walking to it if there is none; release must follow.
func (i *inode) acquire() (uint32, error) {
	f := i.fs
	f.fidMu.Lock()
	if i.fid != noFid {
		fid := i.use()
		f.fidMu.Unlock()
		return fid, nil
	}
	// Up to the nearest directory that has a fid.
	var path []string
	at := i
	for at.fid == noFid {
		if len(at.names) == 0 || len(path) == maxDepth {
			f.fidMu.Unlock()
			return noFid, unix.ESTALE
		}
		path = append(path, at.names[0].name)
		at = at.names[0].dir
	}
	from := at.use()
	f.fidMu.Unlock()
	defer at.release(from)
	slices.Reverse(path)

	fid := f.c.newFid()
	for start := from; len(path) > 0; start = fid {
		n := min(len(path), maxWalk)
		q, err := f.c.walk(start, fid, path[:n]...)
		if err == nil && n == len(path) && q.path != i.path.Load() {
			err = unix.ESTALE
		}
		if err != nil {
			if start == fid || err == unix.ESTALE {
				f.c.clunk(fid)
			} else {
				f.c.freeFid(fid)
			}
			return noFid, err
		}
		path = path[n:]
	}
	return i.adopt(fid), nil
}

// use counts a user of the fid. Precondition: fidMu is held, and there is one.
func (i *inode) use() uint32 {
	if i.inIdle != nil {
		i.fs.idle.Remove(i.inIdle)
		i.inIdle = nil
	}
	i.fidUsers++
	return i.fid
}

// adopt makes fid, which was walked to, the inode's, if it has none yet, and returns the one it has now,
// with a user.
func (i *inode) adopt(fid uint32) uint32 {
	f := i.fs
	f.fidMu.Lock()
	spare := noFid
	if i.fid == noFid {
		i.fid = fid
	} else {
		spare = fid
	}
	fid = i.use()
	f.fidMu.Unlock()
	if spare != noFid {
		f.c.clunk(spare)
	}
	return fid
}

// release ends acquire.
func (i *inode) release(fid uint32) {
	f := i.fs
	f.fidMu.Lock()
	i.fidUsers--
	var clunk []uint32
	tooMany := false
	if i.fidUsers == 0 {
		clunk, i.stale = i.stale, nil
		if i.fid != noFid {
			i.inIdle = f.idle.PushBack(i)
			if f.idle.Len() > maxIdleFids && !f.dropping {
				f.dropping, tooMany = true, true
			}
		}
	}
	f.fidMu.Unlock()
	for _, fid := range clunk {
		f.c.clunk(fid)
	}
	if tooMany {
		go func() {
			f.dropFids(maxIdleFids - maxIdleFids/4)
			f.fidMu.Lock()
			f.dropping = false
			f.fidMu.Unlock()
		}()
	}
}

// addName notes that dir has i as n.
func (i *inode) addName(dir *inode, n string) {
	f := i.fs
	f.fidMu.Lock()
	defer f.fidMu.Unlock()
	if !slices.Contains(i.names, name{dir, n}) {
		i.names = append(i.names, name{dir, n})
	}
	i.orphan = false
}

// hasName says whether dir had i as n.
func (i *inode) hasName(dir *inode, n string) bool {
	f := i.fs
	f.fidMu.Lock()
	defer f.fidMu.Unlock()
	return slices.Contains(i.names, name{dir, n})
}

// dropName notes that dir has i as n no more. The fid may be of that name, and is given up.
func (i *inode) dropName(dir *inode, n string) {
	f := i.fs
	f.fidMu.Lock()
	if at := slices.Index(i.names, name{dir, n}); at >= 0 {
		i.names = slices.Delete(i.names, at, at+1)
	}
	i.orphan = len(i.names) == 0
	clunk := noFid
	if i.fid != noFid {
		if i.fidUsers > 0 {
			i.stale = append(i.stale, i.fid)
		} else {
			clunk = i.fid
			f.idle.Remove(i.inIdle)
			i.inIdle = nil
		}
		i.fid = noFid
	}
	f.fidMu.Unlock()
	if clunk != noFid {
		f.c.clunk(clunk)
	}
}

// moveName notes a rename.
func (i *inode) moveName(dir *inode, n string, newDir *inode, newName string) {
	f := i.fs
	f.fidMu.Lock()
	defer f.fidMu.Unlock()
	at := slices.Index(i.names, name{dir, n})
	if at < 0 {
		i.names = append(i.names, name{newDir, newName})
		return
	}
	i.names[at] = name{newDir, newName}
}

// Stat fills a.
func (i *inode) Stat(a *vfs.Attr) error {
	i.mu.Lock()
	if i.touched {
		i.freshTo = 0
	}
	i.mu.Unlock()
	if err := i.refresh(); err != nil {
		return err
	}
	i.mu.Lock()
	*a = i.attr
	i.mu.Unlock()
	if i.file != nil {
		a.Size = i.file.pages.size.Load()
	}
	return nil
}

// SetAttr changes attributes.
func (i *inode) SetAttr(c *vfs.Context, s *vfs.SetAttr) error {
	if s.Valid&vfs.SetSize != 0 {
		if i.file == nil {
			return unix.EINVAL
		}
		if err := i.file.resize(c, s.Size); err != nil {
			return err
		}
	}
	if s.Valid&^vfs.SetSize == 0 {
		return nil
	}
	if i.file != nil && s.Valid&(vfs.SetAtime|vfs.SetMtime) != 0 {
		// What is written back later would change the times again.
		i.file.writeBack(0, 1<<63)
	}
	var change attrChange
	set := func(what vfs.SetMask, mask uint32) bool {
		if s.Valid&what != 0 {
			change.mask |= mask
			return true
		}
		return false
	}
	if set(vfs.SetMode, setattrMode) {
		switch i.mode.Load() & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFDIR:
		default:
			// To do that a server opens the file, which may block it, and which QEMU's refuses.
			return unix.EOPNOTSUPP
		}
		change.mode = i.mode.Load()&unix.S_IFMT | s.Mode&0o7777
	}
	if set(vfs.SetUID, setattrUID) {
		change.uid = s.UID
	}
	if set(vfs.SetGID, setattrGID) {
		change.gid = s.GID
	}
	if set(vfs.SetAtime, setattrAtime|setattrAtimeSet) {
		change.atime = s.Atime
	}
	if set(vfs.SetMtime, setattrMtime|setattrMtimeSet) {
		change.mtime = s.Mtime
	}
	if !i.gone() {
		if err := i.change(change); err != nil {
			return err
		}
	}
	if change.mask&setattrMode != 0 {
		i.mode.Store(change.mode)
	}
	if change.mask&setattrUID != 0 {
		i.uid.Store(s.UID)
	}
	if change.mask&setattrGID != 0 {
		i.gid.Store(s.GID)
	}
	i.mu.Lock()
	i.attr.Mode, i.attr.UID, i.attr.GID = i.Perm()
	if s.Valid&vfs.SetAtime != 0 {
		i.attr.Atime = s.Atime
	}
	if s.Valid&vfs.SetMtime != 0 {
		i.attr.Mtime = s.Mtime
	}
	i.attr.Ctime = vfs.Now()
	i.freshTo = 0
	i.mu.Unlock()
	if i.file != nil && s.Valid&vfs.SetMtime != 0 {
		i.file.ownChange.Store(true)
	}
	return nil
}

// change sends a change of attributes.
func (i *inode) change(a attrChange) error {
	fid, err := i.acquire()
	if err != nil {
		return err
	}
	defer i.release(fid)
	return i.fs.c.setattr(fid, a)
}

// Readlink returns a symbolic link's target.
func (i *inode) Readlink(*vfs.Context) (string, error) {
	if i.mode.Load()&unix.S_IFMT != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	if err := i.refresh(); err != nil {
		return "", err
	}
	i.mu.Lock()
	target := i.target
	i.mu.Unlock()
	if target != "" {
		return target, nil
	}
	fid, err := i.acquire()
	if err != nil {
		return "", err
	}
	defer i.release(fid)
	if target, err = i.fs.c.readlink(fid); err != nil {
		return "", err
	}
	i.mu.Lock()
	i.target = target
	i.mu.Unlock()
	return target, nil
}

// Open opens anything but a FIFO.
func (i *inode) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	mode := i.mode.Load()
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return i.file.open(c, p, flags)
	case unix.S_IFDIR:
		return i.openDir()
	case unix.S_IFCHR, unix.S_IFBLK:
		if open := i.fs.options.Device; open != nil {
			i.mu.Lock()
			rdev := i.attr.Rdev
			i.mu.Unlock()
			return open(c, mode, rdev, p, flags)
		}
	}
	return nil, unix.ENXIO
}

// FIFO returns what is behind a FIFO: it is this machine's own.
func (i *inode) FIFO() *vfs.Pipe {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pipe == nil {
		i.pipe = vfs.NewPipe()
	}
	return i.pipe
}

// Hold counts somebody who has the file open or mapped.
func (i *inode) Hold() error {
	if i.file != nil {
		i.file.hold()
	}
	return nil
}

// Drop undoes Hold.
func (i *inode) Drop() {
	if i.file != nil {
		i.file.drop()
	}
}
