package ninep

import (
	"math"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/vfs"
)

// Lookup finds name.
func (i *inode) Lookup(_ *vfs.Context, n string) (vfs.Inode, error) {
	if s := i.special(n); s != nil {
		return s, nil
	}
	now := monotonic()
	i.mu.Lock()
	until, known := i.negative[n]
	if known && now >= until {
		delete(i.negative, n)
		known = false
	}
	i.mu.Unlock()
	if known {
		return nil, unix.ENOENT
	}
	found, err := i.lookup(n, nil)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// noteMissing remembers, if err is ENOENT, that n isn't there.
func (i *inode) noteMissing(n string, err error) {
	if err != unix.ENOENT {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.negative == nil || len(i.negative) >= maxNegatives {
		i.negative = make(map[string]int64)
	}
	i.negative[n] = monotonic() + freshFor
}

// Revalidate finds name, which was known, once more.
func (i *inode) Revalidate(c *vfs.Context, n string, known vfs.Inode) (vfs.Inode, error) {
	old, ok := known.(*inode)
	if !ok {
		return i.Lookup(c, n) // in memory
	}
	found, err := i.lookup(n, old)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Forget notes that the host took the name away.
func (i *inode) Forget(n string, known vfs.Inode) {
	if old, ok := known.(*inode); ok {
		old.unlinked(i, n)
	}
}

// renameRetries is how often a name is looked up that may be missing because of a rename.
const renameRetries = 8

// lookup asks the server for name, and remembers if it isn't there. known is what it was before, or nil.
//
// To a server like QEMU's a fid is a path: while a directory above is renamed it may miss what is there. Such
// an answer isn't believed.
func (i *inode) lookup(n string, known *inode) (*inode, error) {
	f := i.fs
	for try := 0; ; try++ {
		over := f.renamesOver.Load()
		found, err := i.ask(n, known)
		if err == nil {
			return found, nil
		}
		quiet := f.renamesBegun.Load() == over
		if quiet {
			i.noteMissing(n, err)
		}
		if quiet || err != unix.ENOENT || try == renameRetries {
			return nil, err
		}
	}
}

// ask is one request of lookup.
func (i *inode) ask(n string, known *inode) (*inode, error) {
	f := i.fs
	dir, err := i.acquire()
	if err != nil {
		return nil, err
	}
	defer i.release(dir)
	var before uint64
	if known != nil && known.file != nil {
		before = known.file.changes.Load()
	}
	fid := f.c.newFid()
	q, err := f.c.walk(dir, fid, n)
	if err != nil {
		f.c.freeFid(fid)
		return nil, err
	}
	a, err := f.c.getattr(fid)
	if err == nil && a.qid.path != q.path {
		err = unix.EIO
	}
	if err == nil && (a.mode&unix.S_IFMT == unix.S_IFDIR) != (a.qid.kind&qidDir != 0) {
		err = unix.EIO
	}
	if err != nil {
		f.c.clunk(fid)
		return nil, err
	}
	var found *inode
	switch {
	case known == nil || known.path.Load() != a.qid.path || known.mode.Load()&unix.S_IFMT != a.mode&unix.S_IFMT || !known.hasName(i, n):
		found = f.same(a, i, n)
	case known.file != nil:
		found = known
		known.file.refreshed(a, before)
	default:
		found = known
		known.set(a, false)
	}
	if found == nil {
		found = f.newInode(a)
		f.enter(found)
	}
	found.addName(i, n)
	found.release(found.adopt(fid))
	return found, nil
}

// same returns the inode that is known for the file that dir has as n: another name of it was found
// before, or this one. Numbers alone don't prove it, since a server that shares several file systems may
// give a number twice.
func (f *FS) same(a attributes, dir *inode, n string) *inode {
	known := f.find(a.qid.path)
	if known == nil || known.mode.Load()&unix.S_IFMT != a.mode&unix.S_IFMT || known.gone() {
		return nil
	}
	if (a.nlink < 2 || a.mode&unix.S_IFMT == unix.S_IFDIR) && !known.hasName(dir, n) {
		return nil
	}
	known.expire() // a may be older than what we wrote meanwhile
	return known
}

// changed notes that the names in the directory changed by our own doing.
func (i *inode) changed(names ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, n := range names {
		delete(i.negative, n)
	}
	i.freshTo = 0
}

// Create makes a file of any type but a symbolic link.
func (i *inode) Create(c *vfs.Context, n string, mode uint32, rdev uint64) (vfs.Inode, error) {
	mode, uid, gid := c.NewOwner(i, mode)
	permissions := mode & 0o7777
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return i.make(n, mode, uid, gid, func(dir uint32) (open uint32, err error) {
			return i.createFile(dir, n, permissions, gid)
		})
	case unix.S_IFDIR:
		return i.make(n, mode, uid, gid, func(dir uint32) (open uint32, err error) {
			return noFid, i.fs.c.mkdir(dir, n, permissions, gid)
		})
	}
	return i.newSpecial(n, mode, uid, gid, rdev), nil
}

// createFile makes a regular file and returns its fid, open for reading and writing.
func (i *inode) createFile(dir uint32, n string, permissions, gid uint32) (uint32, error) {
	f := i.fs
	fid := f.c.newFid()
	if _, err := f.c.walk(dir, fid); err != nil {
		f.c.freeFid(fid)
		return noFid, err
	}
	if err := f.c.create(fid, n, unix.O_RDWR|unix.O_EXCL, permissions, gid); err != nil {
		f.c.clunk(fid)
		return noFid, err
	}
	return fid, nil
}

// Symlink makes a symbolic link.
func (i *inode) Symlink(c *vfs.Context, n, target string) (vfs.Inode, error) {
	mode, uid, gid := c.NewOwner(i, unix.S_IFLNK)
	return i.make(n, mode, uid, gid, func(dir uint32) (uint32, error) {
		return noFid, i.fs.c.symlink(dir, n, target, gid)
	})
}

// make makes the name n by act, which returns the open fid of a regular file, and gives it its owner.
func (i *inode) make(n string, mode, uid, gid uint32, act func(dir uint32) (open uint32, err error)) (vfs.Inode, error) {
	f := i.fs
	dir, err := i.acquire()
	if err != nil {
		return nil, err
	}
	open, err := act(dir)
	i.release(dir)
	i.changed(n)
	if err != nil {
		return nil, err
	}
	made, err := i.lookup(n, nil)
	if err != nil {
		if open != noFid {
			f.c.clunk(open)
		}
		return nil, err
	}
	_, haveUID, haveGID := made.Perm()
	if (haveUID != uid || haveGID != gid) && !f.noChown.Load() {
		if err := made.change(attrChange{mask: setattrUID | setattrGID, uid: uid, gid: gid}); err == unix.EINTR {
			// Whoever made it is killed, and nobody will open it.
		} else if err != nil {
			f.noChown.Store(true)
		} else {
			// A new owner costs a file its set-id bits, and it is made with them.
			if special := mode & (unix.S_ISUID | unix.S_ISGID); special != 0 && made.mode.Load()&unix.S_IFMT != unix.S_IFLNK {
				made.change(attrChange{mask: setattrMode, mode: made.mode.Load()&unix.S_IFMT | mode&0o7777})
			}
			made.fetch()
		}
	}
	if open != noFid {
		if made.file == nil {
			f.c.clunk(open)
			return nil, unix.EIO
		}
		made.file.adoptOpen(open)
		f.putCreated(made.file)
	}
	return made, nil
}

// Temporary makes a file without a name: one whose name is taken away at once. The protocol has no way to give it
// another one: who wants that hears so in time, as on Linux's 9p, and takes an ordinary file.
func (i *inode) Temporary(c *vfs.Context, mode uint32, linkable bool) (vfs.Inode, error) {
	if linkable {
		return nil, unix.EOPNOTSUPP
	}
	var made vfs.Inode
	err := unix.EEXIST
	var n string
	for k := 0; k < 8 && err == unix.EEXIST; k++ {
		n = temporaryName()
		var e error
		if made, e = i.Create(c, n, mode, 0); e == nil {
			err = 0
		} else if e != unix.EEXIST {
			return nil, e
		}
	}
	if err != 0 {
		return nil, err
	}
	if err := i.Unlink(c, n, made); err != nil {
		return nil, err
	}
	return made, nil
}

// Link enters another name of a file.
func (i *inode) Link(_ *vfs.Context, n string, target vfs.Inode) error {
	if s, ok := target.(*special); ok && s.FS() == i.fs {
		i.linkSpecial(n, s)
		return nil
	}
	t, ok := target.(*inode)
	if !ok || t.fs != i.fs {
		return unix.EXDEV
	}
	if t.gone() {
		return unix.ENOENT
	}
	dir, err := i.acquire()
	if err != nil {
		return err
	}
	defer i.release(dir)
	fid, err := t.acquire()
	if err != nil {
		return err
	}
	defer t.release(fid)
	if err := i.fs.c.link(dir, fid, n); err != nil {
		return err
	}
	i.changed(n)
	t.addName(i, n)
	t.expire()
	return nil
}

// Unlink removes a name of a file that is no directory.
func (i *inode) Unlink(_ *vfs.Context, n string, target vfs.Inode) error {
	if s, ok := target.(*special); ok {
		i.unlinkSpecial(n, s)
		return nil
	}
	return i.remove(n, target, 0)
}

// Rmdir removes a directory.
func (i *inode) Rmdir(_ *vfs.Context, n string, target vfs.Inode) error {
	if t, ok := target.(*inode); ok && t.hasSpecials() {
		return unix.ENOTEMPTY
	}
	return i.remove(n, target, unix.AT_REMOVEDIR)
}

func (i *inode) remove(n string, target vfs.Inode, flags uint32) error {
	t, ok := target.(*inode)
	if !ok {
		return unix.EXDEV
	}
	t.beforeUnlink()
	dir, err := i.acquire()
	if err != nil {
		return err
	}
	defer i.release(dir)
	if err := i.fs.c.unlink(dir, n, flags); err != nil {
		if err == unix.ENOENT {
			// The host was faster: to the core, the name is to go all the same.
			err = nil
		}
		if err != nil {
			return err
		}
	}
	i.changed()
	t.unlinked(i, n)
	return nil
}

// beforeUnlink looks at a file that is open for the last time by its name.
func (i *inode) beforeUnlink() {
	if i.file != nil && i.file.held() {
		i.fetch()
	}
}

// unlinked notes that a name is gone.
func (i *inode) unlinked(dir *inode, n string) {
	i.dropName(dir, n)
	i.mu.Lock()
	if i.attr.Mode&unix.S_IFMT == unix.S_IFDIR {
		i.attr.Nlink = 0
	} else if i.attr.Nlink > 0 {
		i.attr.Nlink--
	}
	i.attr.Ctime = vfs.Now()
	i.freshTo = 0
	i.mu.Unlock()
	if i.file != nil {
		i.file.dropOpenIfUnused()
	}
}

// Rename moves a file.
func (i *inode) Rename(_ *vfs.Context, n string, moved vfs.Inode, newDir vfs.Inode, newName string, replaced vfs.Inode, flags uint32) (err error) {
	to, ok := newDir.(*inode)
	if !ok {
		return unix.EXDEV
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		return unix.EINVAL // the protocol has no such message
	}
	if s, ok := moved.(*special); ok {
		return i.renameSpecial(n, s, to, newName, replaced)
	}
	m, ok := moved.(*inode)
	if !ok {
		return unix.EXDEV
	}
	var r *inode
	switch replaced := replaced.(type) {
	case *inode:
		if replaced.hasSpecials() {
			return unix.ENOTEMPTY
		}
		r = replaced
		r.beforeUnlink()
	case *special:
		defer func() {
			if err == nil {
				to.unlinkSpecial(newName, replaced)
			}
		}()
	}
	from, err := i.acquire()
	if err != nil {
		return err
	}
	defer i.release(from)
	dest, err := to.acquire()
	if err != nil {
		return err
	}
	defer to.release(dest)
	i.fs.renamesBegun.Add(1)
	err = i.fs.c.rename(from, n, dest, newName)
	i.fs.renamesOver.Add(1)
	if err != nil {
		return err
	}
	i.changed()
	to.changed(newName)
	if r != nil {
		r.unlinked(to, newName)
	}
	m.moveName(i, n, to, newName)
	m.expire()
	return nil
}

// dirFile is an open directory. The server's offsets may be any 64-bit number; the cookies here count
// entries, and where to ask the server for the n-th is remembered once per batch.
type dirFile struct {
	vfs.BaseFile
	i       *inode
	fid     uint32
	batches []batch
	reply   []byte
	rest    []byte // entries of reply that the core hasn't taken yet
	restAt  int64  // how many entries are before them
	behind  uint64 // where the server continues behind reply
}

// batch is where the server continues: the entry first is behind the server's offset.
type batch struct {
	first  int64
	offset uint64
}

const readdirBytes = 32 << 10

func (i *inode) openDir() (vfs.File, error) {
	dir, err := i.acquire()
	if err != nil {
		return nil, err
	}
	defer i.release(dir)
	f := i.fs
	fid := f.c.newFid()
	if _, err := f.c.walk(dir, fid); err != nil {
		f.c.freeFid(fid)
		return nil, err
	}
	if err := f.c.open(fid, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		f.c.clunk(fid)
		return nil, err
	}
	return &dirFile{i: i, fid: fid}, nil
}

// Seekable says yes.
func (*dirFile) Seekable() bool { return true }

// Read refuses.
func (*dirFile) Read(*vfs.Context, *mm.Buffer, int64) (int, error) { return 0, unix.EISDIR }

// Seek knows only absolute offsets, which the core handed out.
func (*dirFile) Seek(off int64, whence int) (int64, error) {
	if whence != unix.SEEK_END || off != 0 {
		return 0, unix.EINVAL
	}
	return math.MaxInt64, nil
}

// Sync does nothing: the server's directory is the directory.
func (d *dirFile) Sync(dataOnly bool) error { return d.i.fs.c.fsync(d.fid, dataOnly) }

// Release gives the fid back.
func (d *dirFile) Release() { d.i.fs.c.clunk(d.fid) }

// ReadDir lists the entries behind the cookie off. The core calls it one at a time.
func (d *dirFile) ReadDir(_ *vfs.Context, off int64, add func(name string, ino uint64, mode uint32, next int64) bool) error {
	if off == 0 {
		d.batches = append(d.batches[:0], batch{}) // rewinddir(3): what is there now
	}
	if len(d.batches) == 0 {
		d.batches = append(d.batches, batch{})
	}
	if d.reply == nil {
		d.reply = make([]byte, min(readdirBytes, d.i.fs.c.pages*pageBytes))
	}
	if off >= specialCookies {
		d.i.listSpecials(off, add)
		return nil
	}
	index, offset, entries := d.restAt, d.behind, d.rest
	d.rest = nil
	if off == 0 || index != off || len(entries) == 0 {
		// From the last batch on that begins at or before the entry off.
		k := len(d.batches) - 1
		for d.batches[k].first > off {
			k--
		}
		index, offset, entries = d.batches[k].first, d.batches[k].offset, nil
	}
	for fruitless := 0; fruitless < 64; fruitless++ {
		if len(entries) == 0 {
			var err error
			if entries, err = d.i.fs.c.readdir(d.fid, offset, d.reply); err != nil {
				d.reply = nil // it may not be ours any more
				return err
			}
			if len(entries) == 0 {
				if d.points(index, off, add) {
					d.i.listSpecials(off, add)
				}
				return nil
			}
			if offset, err = lastOffset(entries); err != nil {
				return err
			}
			d.behind = offset
		}
		for len(entries) > 0 {
			e := decoder{b: entries}
			q := e.qid()
			e.u64()
			kind, n := e.u8(), e.str()
			if n != "." && n != ".." && n != "" && len(n) <= 255 && !(d.i.root && d.i.fs.has(n)) {
				if index++; index > off {
					if !add(n, q.path, uint32(kind)<<12, index) {
						d.rest, d.restAt = entries, index-1
						return nil
					}
					fruitless = 0
				}
			}
			entries = e.b
		}
		if last := d.batches[len(d.batches)-1]; index > last.first {
			d.batches = append(d.batches, batch{index, offset})
		}
	}
	return unix.EIO // a server that never comes to an end
}

// points lists the mount points of the root, behind the index entries that the server has. It returns
// false if add wants no more.
func (d *dirFile) points(index, off int64, add func(name string, ino uint64, mode uint32, next int64) bool) bool {
	for d.i.root {
		p, ok := d.i.fs.after(max(off, index) - index)
		if !ok {
			break
		}
		off = max(off, index) + 1
		if !add(p.name, p.ino, unix.S_IFDIR, off) {
			return false
		}
	}
	return true
}

// lastOffset checks a batch of entries and returns where the server continues behind it.
func lastOffset(entries []byte) (uint64, error) {
	var offset uint64
	for e := (decoder{b: entries}); len(e.b) > 0; {
		e.qid()
		offset = e.u64()
		e.u8()
		e.str()
		if e.bad {
			return 0, unix.EIO
		}
	}
	return offset, nil
}
