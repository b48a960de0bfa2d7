package vfs

import (
	"golang.org/x/sys/unix"
)

// NewOwner returns owner and mode of a file that c makes in the directory dir: a set-group-id
// directory hands its group down (inode(7)).
func (c *Context) NewOwner(dir Inode, mode uint32) (newMode, uid, gid uint32) {
	dirMode, _, dirGID := dir.Perm()
	uid, gid = c.Creds.FSUID, c.Creds.FSGID
	if dirMode&unix.S_ISGID != 0 {
		gid = dirGID
		if mode&unix.S_IFMT == unix.S_IFDIR {
			mode |= unix.S_ISGID
		} else if mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP && !c.Creds.InGroup(gid) && !c.Creds.HasCap(unix.CAP_FSETID) {
			mode &^= unix.S_ISGID
		}
	}
	return mode, uid, gid
}

// create makes name in the directory p by act, which gets the mode with the umask applied.
func (c *Context) create(p Path, name string, mode uint32, act func(dir Inode, mode uint32) (Inode, error)) (*Dentry, error) {
	d := p.Dentry
	if !d.isDir() {
		return nil, unix.ENOTDIR
	}
	dir := d.inode
	if err := c.search(dir); err != nil {
		return nil, err
	}
	if len(name) > nameMax {
		return nil, unix.ENAMETOOLONG
	}
	d.dir.changeMu.Lock()
	defer d.dir.changeMu.Unlock()
	if d.dir.dead {
		return nil, unix.ENOENT
	}
	if _, err := c.findLocked(d, name); err == nil {
		return nil, unix.EEXIST
	} else if err != unix.ENOENT {
		return nil, err
	}
	if err := c.allow(p, mayWriteAccess|mayExecAccess); err != nil {
		return nil, err
	}
	if mode&unix.S_IFMT != unix.S_IFLNK {
		// Whether a set-group-id directory takes the bit away is seen before the umask, which could hide that
		// the group was to execute the file.
		mode, _, _ = c.NewOwner(dir, mode)
		mode &^= c.Files.CurrentUmask()
	}
	i, err := act(dir, mode)
	if err != nil {
		return nil, err
	}
	child := newDentry(name, i)
	if dir.FS().Caching() == Volatile {
		child.parent.Store(d)
	} else {
		d.enter(child)
	}
	entered(dir, name, i, mode&unix.S_IFMT == 0)
	return child, nil
}

// newName walks to the directory in which path names something that is to be made. Slashes behind the
// name are for directories only.
func (c *Context) newName(w *walker, dirfd int32, path string, directory bool) error {
	if err := c.walkParent(w, dirfd, path); err != nil {
		return err
	}
	if w.last == "" || w.last == "." || w.last == ".." {
		return unix.EEXIST
	}
	if w.slash && !directory {
		if !w.at.Dentry.isDir() {
			return unix.ENOTDIR
		}
		if _, err := c.find(w.at, w.last); err == nil {
			return unix.EEXIST
		}
		return unix.ENOENT
	}
	return nil
}

// Mkdir is mkdirat(2).
func (c *Context) Mkdir(dirfd int32, path string, mode uint32) error {
	var w walker
	if err := c.newName(&w, dirfd, path, true); err != nil {
		return err
	}
	_, err := c.create(w.at, w.last, unix.S_IFDIR|mode&0o1777, func(dir Inode, mode uint32) (Inode, error) {
		return dir.Create(c, w.last, mode, 0)
	})
	return err
}

// Mknod is mknodat(2): mode has the type, 0 for a regular file.
func (c *Context) Mknod(dirfd int32, path string, mode uint32, rdev uint64) error {
	switch mode & unix.S_IFMT {
	case 0:
		mode |= unix.S_IFREG
		rdev = 0
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
		rdev = 0
	case unix.S_IFCHR, unix.S_IFBLK:
	case unix.S_IFDIR:
		return unix.EPERM
	default:
		return unix.EINVAL
	}
	var w walker
	if err := c.newName(&w, dirfd, path, false); err != nil {
		return err
	}
	_, err := c.create(w.at, w.last, mode&(unix.S_IFMT|0o7777), func(dir Inode, mode uint32) (Inode, error) {
		if typ := mode & unix.S_IFMT; (typ == unix.S_IFCHR || typ == unix.S_IFBLK) && !c.Creds.HasCap(unix.CAP_MKNOD) {
			return nil, unix.EPERM
		}
		return dir.Create(c, w.last, mode, rdev)
	})
	return err
}

// Bind makes a socket file for bind(2) of AF_UNIX and returns its place: EADDRINUSE if something is there.
func (c *Context) Bind(path string, mode uint32) (Path, error) {
	var w walker
	err := c.newName(&w, AtCWD, path, false)
	if err == nil {
		var d *Dentry
		d, err = c.create(w.at, w.last, unix.S_IFSOCK|mode&0o777, func(dir Inode, mode uint32) (Inode, error) {
			return dir.Create(c, w.last, mode, 0)
		})
		if err == nil {
			return Path{w.at.Mount, d}, nil
		}
	}
	if err == unix.EEXIST {
		err = unix.EADDRINUSE
	}
	return Path{}, err
}

// FindSocket returns the socket file that connect(2) of AF_UNIX names: EACCES if the caller may not write
// to it, ECONNREFUSED if it is none.
func (c *Context) FindSocket(path string) (Inode, error) {
	p, err := c.walk(AtCWD, path, 0)
	if err != nil {
		return nil, err
	}
	if err := c.allow(p, mayWriteAccess); err != nil {
		return nil, err
	}
	i := p.Inode()
	if mode, _, _ := i.Perm(); mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, unix.ECONNREFUSED
	}
	return i, nil
}

// Symlink is symlinkat(2).
func (c *Context) Symlink(target string, dirfd int32, path string) error {
	if target == "" {
		return unix.ENOENT
	}
	if len(target) >= pathMax {
		return unix.ENAMETOOLONG
	}
	var w walker
	if err := c.newName(&w, dirfd, path, false); err != nil {
		return err
	}
	_, err := c.create(w.at, w.last, unix.S_IFLNK|0o777, func(dir Inode, mode uint32) (Inode, error) {
		return dir.Symlink(c, w.last, target)
	})
	return err
}

// linkMode is the mode for create of a name for a file that is there: it has no type.
const linkMode = 0

// Link is linkat(2); flags of AT_SYMLINK_FOLLOW and AT_EMPTY_PATH.
func (c *Context) Link(oldDirfd int32, oldPath string, newDirfd int32, newPath string, flags int) error {
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return unix.EINVAL
	}
	if flags&unix.AT_EMPTY_PATH != 0 && !c.Creds.HasCap(unix.CAP_DAC_READ_SEARCH) {
		return unix.ENOENT
	}
	walkFlags := flags&unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW
	if flags&unix.AT_SYMLINK_FOLLOW != 0 {
		walkFlags &^= unix.AT_SYMLINK_NOFOLLOW
	}
	old, err := c.fileAt(oldDirfd, oldPath, walkFlags)
	if err != nil {
		return err
	}
	var w walker
	if err := c.newName(&w, newDirfd, newPath, false); err != nil {
		return err
	}
	i := old.Inode()
	if _, err := c.find(w.at, w.last); err == nil {
		return unix.EEXIST
	}
	if old.Mount != w.at.Mount {
		return unix.EXDEV
	}
	if old.Dentry.isDir() {
		return unix.EPERM
	}
	_, err = c.create(w.at, w.last, linkMode, func(dir Inode, _ uint32) (Inode, error) {
		return i, dir.Link(c, w.last, i)
	})
	return err
}

// mayRemove checks the right to take child out of the directory p, and the type that is expected.
func (c *Context) mayRemove(p Path, child *Dentry, directory bool) error {
	if err := c.allow(p, mayWriteAccess|mayExecAccess); err != nil {
		return err
	}
	dirMode, dirUID, _ := p.Inode().Perm()
	_, uid, _ := child.inode.Perm()
	if dirMode&unix.S_ISVTX != 0 && c.Creds.FSUID != uid && c.Creds.FSUID != dirUID && !c.Creds.HasCap(unix.CAP_FOWNER) {
		return unix.EPERM
	}
	if directory && !child.isDir() {
		return unix.ENOTDIR
	}
	if !directory && child.isDir() {
		return unix.EISDIR
	}
	if child.mounts.Load() != 0 {
		return unix.EBUSY
	}
	return nil
}

// Unlink is unlinkat(2) without AT_REMOVEDIR.
func (c *Context) Unlink(dirfd int32, path string) error {
	var w walker
	if err := c.walkParent(&w, dirfd, path); err != nil {
		return err
	}
	if w.last == "" || w.last == "." || w.last == ".." {
		return unix.EISDIR
	}
	return c.unlink(w.at, w.last, w.slash)
}

// UnlinkIn removes name from the directory dir of a file system that need not be mounted.
func (c *Context) UnlinkIn(dir Path, name string) error {
	if err := checkPlainName(name); err != nil {
		return err
	}
	return c.unlink(dir, name, false)
}

// unlink removes a name from the directory at; slash says that the path went on as a directory's.
func (c *Context) unlink(at Path, name string, slash bool) error {
	if err := c.searchDir(at); err != nil {
		return err
	}
	d := at.Dentry
	d.dir.changeMu.Lock()
	defer d.dir.changeMu.Unlock()
	child, err := c.findChecked(d, name)
	if err != nil {
		return err
	}
	if slash {
		if child.isDir() {
			return unix.EISDIR
		}
		return unix.ENOTDIR
	}
	if err := c.mayRemove(at, child, false); err != nil {
		return err
	}
	if err := d.inode.Unlink(c, name, child.inode); err != nil {
		return err
	}
	child.removed.Store(true)
	d.leave(child)
	left(d.inode, name, child)
	return nil
}

func (c *Context) searchDir(p Path) error {
	if !p.Dentry.isDir() {
		return unix.ENOTDIR
	}
	return c.search(p.Inode())
}

func (c *Context) findChecked(d *Dentry, name string) (*Dentry, error) {
	if len(name) > nameMax {
		return nil, unix.ENAMETOOLONG
	}
	return c.findLocked(d, name)
}

// Rmdir is rmdir(2), and unlinkat(2) with AT_REMOVEDIR.
func (c *Context) Rmdir(dirfd int32, path string) error {
	var w walker
	if err := c.walkParent(&w, dirfd, path); err != nil {
		return err
	}
	switch w.last {
	case "":
		return unix.EBUSY
	case ".":
		return unix.EINVAL
	case "..":
		return unix.ENOTEMPTY
	}
	if err := c.searchDir(w.at); err != nil {
		return err
	}
	d := w.at.Dentry
	d.dir.changeMu.Lock()
	defer d.dir.changeMu.Unlock()
	child, err := c.findChecked(d, w.last)
	if err != nil {
		return err
	}
	if err := c.mayRemove(w.at, child, true); err != nil {
		return err
	}
	child.dir.changeMu.Lock()
	defer child.dir.changeMu.Unlock()
	if err := c.emptied(child); err != nil {
		return err
	}
	if err := d.inode.Rmdir(c, w.last, child.inode); err != nil {
		return err
	}
	child.dir.dead = true
	child.removed.Store(true)
	d.leave(child)
	left(d.inode, w.last, child)
	return nil
}

// emptied checks that a directory that is to go holds nothing, as far as the core knows.
func (c *Context) emptied(d *Dentry) error {
	if d.inode.FS().Caching() == Resident && !d.empty() {
		return unix.ENOTEMPTY
	}
	return nil
}

// Rename is renameat2(2).
func (c *Context) Rename(oldDirfd int32, oldPath string, newDirfd int32, newPath string, flags uint32) error {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE|unix.RENAME_WHITEOUT) != 0 ||
		flags&unix.RENAME_EXCHANGE != 0 && flags&(unix.RENAME_NOREPLACE|unix.RENAME_WHITEOUT) != 0 {
		return unix.EINVAL
	}
	if flags&unix.RENAME_WHITEOUT != 0 && !c.Creds.HasCap(unix.CAP_MKNOD) {
		return unix.EPERM
	}
	var from, to walker
	if err := c.walkParent(&from, oldDirfd, oldPath); err != nil {
		return err
	}
	if err := c.walkParent(&to, newDirfd, newPath); err != nil {
		return err
	}
	if from.at.Mount != to.at.Mount {
		return unix.EXDEV
	}
	if from.last == "" || from.last == "." || from.last == ".." {
		return unix.EBUSY
	}
	if to.last == "" || to.last == "." || to.last == ".." {
		if flags&unix.RENAME_NOREPLACE != 0 {
			return unix.EEXIST
		}
		return unix.EBUSY
	}
	if err := c.searchDir(from.at); err != nil {
		return err
	}
	if err := c.searchDir(to.at); err != nil {
		return err
	}

	renameMu.Lock()
	defer renameMu.Unlock()
	a, b := from.at.Dentry, to.at.Dentry
	switch {
	case a == b:
		a.dir.changeMu.Lock()
		defer a.dir.changeMu.Unlock()
	case b.within(a):
		a.dir.changeMu.Lock()
		defer a.dir.changeMu.Unlock()
		b.dir.changeMu.Lock()
		defer b.dir.changeMu.Unlock()
	default:
		b.dir.changeMu.Lock()
		defer b.dir.changeMu.Unlock()
		a.dir.changeMu.Lock()
		defer a.dir.changeMu.Unlock()
	}
	return c.rename(&from, &to, flags)
}

// rename is Rename with both directories locked.
func (c *Context) rename(from, to *walker, flags uint32) error {
	a, b := from.at.Dentry, to.at.Dentry
	moved, err := c.findChecked(a, from.last)
	if err != nil {
		return err
	}
	target, err := c.findChecked(b, to.last)
	if err != nil && err != unix.ENOENT {
		return err
	}
	if target == nil && flags&unix.RENAME_EXCHANGE != 0 {
		return unix.ENOENT
	}
	if target != nil && flags&unix.RENAME_NOREPLACE != 0 {
		return unix.EEXIST
	}
	if !moved.isDir() && (from.slash || to.slash && flags&unix.RENAME_EXCHANGE == 0) {
		return unix.ENOTDIR
	}
	if flags&unix.RENAME_EXCHANGE != 0 && to.slash && !target.isDir() {
		return unix.ENOTDIR
	}
	if b.within(moved) {
		return unix.EINVAL // into itself
	}
	if target != nil && a.within(target) {
		if flags&unix.RENAME_EXCHANGE != 0 {
			return unix.EINVAL
		}
		return unix.ENOTEMPTY
	}
	if target != nil && target.inode == moved.inode {
		return nil // two names of one file: nothing happens (rename(2))
	}
	if err := c.mayRemove(from.at, moved, moved.isDir()); err != nil {
		return err
	}
	if b.dir.dead {
		return unix.ENOENT
	}
	if target == nil {
		if err := c.allow(to.at, mayWriteAccess|mayExecAccess); err != nil {
			return err
		}
	} else {
		kind := moved.isDir()
		if flags&unix.RENAME_EXCHANGE != 0 {
			kind = target.isDir()
		}
		if err := c.mayRemove(to.at, target, kind); err != nil {
			return err
		}
	}
	if moved.isDir() && a != b {
		// Its ".." changes.
		if err := c.allow(Path{from.at.Mount, moved}, mayWriteAccess); err != nil {
			return err
		}
	}
	var replaced Inode
	if target != nil {
		replaced = target.inode
		if target.isDir() && flags&unix.RENAME_EXCHANGE == 0 {
			target.dir.changeMu.Lock()
			defer target.dir.changeMu.Unlock()
			if err := c.emptied(target); err != nil {
				return err
			}
		}
	}
	var whiteout Inode
	if flags&unix.RENAME_WHITEOUT != 0 {
		if a.inode.FS().Caching() != Resident {
			return unix.EINVAL
		}
		// What overlay file systems take for "not there": a device without a number.
		if whiteout, err = a.inode.Create(c, from.last, unix.S_IFCHR, 0); err != nil {
			return err
		}
		flags &^= unix.RENAME_WHITEOUT
	}
	if err := a.inode.Rename(c, from.last, moved.inode, b.inode, to.last, replaced, flags); err != nil {
		if whiteout != nil {
			a.inode.Unlink(c, from.last, whiteout)
		}
		return err
	}
	a.leave(moved)
	if target != nil {
		b.leave(target)
	}
	moved.name = to.last
	b.enter(moved)
	if whiteout != nil {
		a.enter(newDentry(from.last, whiteout))
	}
	switch {
	case flags&unix.RENAME_EXCHANGE != 0:
		target.name = from.last
		a.enter(target)
		renamed(a.inode, from.last, moved, b.inode, to.last, nil)
		renamed(b.inode, to.last, target, a.inode, from.last, nil)
		return nil
	case target != nil:
		target.removed.Store(true)
		if target.isDir() {
			target.dir.dead = true
		}
	}
	renamed(a.inode, from.last, moved, b.inode, to.last, target)
	return nil
}

// Dirent is an entry of a directory.
type Dirent struct {
	Name string
	Ino  uint64
	Type uint8 // DT_*
	Next int64 // the offset behind it
}

// dotCookies are the offsets of "." and ".."; those of entries follow.
const dotCookies = 2

// ReadDir calls emit for the entries behind the offset, until that returns false, and moves the offset
// behind the last one that it took: getdents64(2). An entry is seen once however the directory
// changes. ENOTDIR, ENOENT for a directory that was removed.
func (d *Description) ReadDir(c *Context, emit func(Dirent) bool) error {
	if d.mode&mayRead == 0 {
		return unix.EBADF
	}
	dir := d.path.Dentry
	if dir == nil || !dir.isDir() {
		return unix.ENOTDIR
	}
	defer d.happened(unix.IN_ACCESS)
	d.posMu.Lock()
	defer d.posMu.Unlock()
	if dir.removed.Load() {
		return unix.ENOENT
	}
	if d.pos == 0 {
		if !emit(Dirent{".", dir.inode.Ino(), unix.DT_DIR, 1}) {
			return nil
		}
		d.pos = 1
	}
	if d.pos == 1 {
		up := dir.inode.Ino()
		w := walker{c: c, root: c.Files.Root(), at: d.path}
		if w.up() == nil {
			up = w.at.Inode().Ino()
		}
		if !emit(Dirent{"..", up, unix.DT_DIR, 2}) {
			return nil
		}
		d.pos = dotCookies
	}
	if f, ok := d.file.(DirFile); ok {
		return f.ReadDir(c, d.pos-dotCookies, func(name string, ino uint64, mode uint32, next int64) bool {
			if !emit(Dirent{name, ino, uint8(mode & unix.S_IFMT >> 12), next + dotCookies}) {
				return false
			}
			d.pos = next + dotCookies
			return true
		})
	}
	if dir.inode.FS().Caching() != Resident {
		return unix.ENOTDIR
	}
	var batch [32]entry
	for {
		entries := dir.after(uint64(d.pos-dotCookies), batch[:0])
		for _, e := range entries {
			mode, _, _ := e.inode.Perm()
			next := int64(e.cookie) + dotCookies
			if !emit(Dirent{e.name, e.inode.Ino(), uint8(mode & unix.S_IFMT >> 12), next}) {
				return nil
			}
			d.pos = next
		}
		if len(entries) < len(batch) {
			return nil
		}
	}
}

// isMountRoot says whether p is where a mount begins. What has no place in the tree, such as a pipe that is reached through
// /proc/PID/fd, belongs to no mount.
func (p Path) isMountRoot() bool { return p.Mount != nil && p.Dentry == p.Mount.root }

// Mount is mount(2).
func (c *Context) Mount(source, target, fsType string, flags uint64, options string) error {
	at, err := c.walk(AtCWD, target, 0)
	if err != nil {
		return err
	}
	if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	ns := c.Files.Namespace()
	const propagation = unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | mountUnbindable
	switch {
	case flags&unix.MS_REMOUNT != 0:
		if !at.isMountRoot() {
			return unix.EINVAL
		}
		const times = unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
		if flags&(times|unix.MS_STRICTATIME) == 0 {
			flags |= at.Mount.flags.Load() & times // kept
		}
		at.Mount.flags.Store(flags&mountFlags | at.Mount.flags.Load()&mountUnbindable)
		ns.changed()
		return nil
	case flags&unix.MS_BIND != 0:
		from, err := c.walk(AtCWD, source, 0)
		if err != nil {
			return err
		}
		if _, magic := at.Inode().(Jumper); magic {
			return unix.ENOENT // a link of /proc/PID/fd leads to its file, and nothing hides it
		}
		if from.Mount == nil || from.Mount.has(mountUnbindable) {
			return unix.EINVAL
		}
		return ns.bind(at, from, flags&unix.MS_REC != 0)
	case flags&propagation != 0:
		return ns.setPropagation(at, flags)
	case flags&unix.MS_MOVE != 0:
		return c.moveMount(source, at)
	}
	ns.mu.RLock()
	mounter := ns.types[fsType]
	ns.mu.RUnlock()
	if mounter == nil {
		return unix.ENODEV
	}
	root, err := mounter(c, source, options)
	if err != nil {
		return err
	}
	_, err = ns.Attach(at, root, source, accessTimes(flags))
	return err
}

// accessTimes returns flags with the default for times of access: mount(2), MS_RELATIME.
func accessTimes(flags uint64) uint64 {
	if flags&(unix.MS_NOATIME|unix.MS_STRICTATIME) == 0 {
		return flags | unix.MS_RELATIME
	}
	return flags &^ unix.MS_RELATIME
}

func (c *Context) moveMount(source string, to Path) error {
	from, err := c.walk(AtCWD, source, 0)
	if err != nil {
		return err
	}
	if !from.isMountRoot() || to.Mount == nil {
		return unix.EINVAL
	}
	ns := from.Mount.ns
	ns.mu.Lock()
	defer ns.mu.Unlock()
	m := from.Mount
	if m.parent == nil || to.Mount.gone {
		return unix.EINVAL
	}
	if to.Dentry.isDir() != m.root.isDir() {
		return unix.EINVAL
	}
	for up := to.Mount; up != nil; up = up.parent {
		if up == m {
			return unix.ELOOP
		}
	}
	delete(ns.points, mountKey{m.parent, m.point})
	m.point.mounts.Add(-1)
	m.parent, m.point = to.Mount, to.Dentry
	to.Dentry.mounts.Add(1)
	ns.points[mountKey{to.Mount, to.Dentry}] = m
	// Behind its new parent in the list, with everything in it.
	kept, behind := ns.list[:0:0], []*Mount(nil)
	in := map[*Mount]bool{m: true}
	for _, o := range ns.list {
		if in[o] || in[o.parent] {
			in[o] = true
			behind = append(behind, o)
		} else {
			kept = append(kept, o)
		}
	}
	ns.list = append(kept, behind...)
	ns.changed()
	return nil
}

// PivotRoot is pivot_root(2) for the process that calls it, and returns the places of the old root and the new: whose root
// or working directory was the old one is to have the new one, by Repoint.
func (c *Context) PivotRoot(newRoot, putOld string) (from, to Path, err error) {
	if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
		return from, to, unix.EPERM
	}
	to, err = c.walk(AtCWD, newRoot, 0)
	if err != nil {
		return from, to, err
	}
	put, err := c.walk(AtCWD, putOld, 0)
	if err != nil {
		return from, to, err
	}
	if !to.Dentry.isDir() || !put.Dentry.isDir() {
		return from, to, unix.ENOTDIR
	}
	from = c.Files.Root()
	ns := c.Files.Namespace()
	return from, to, ns.pivot(from, to, ns.top(put))
}

// Unmount is umount2(2).
func (c *Context) Unmount(target string, flags int) error {
	if flags&^(unix.MNT_FORCE|unix.MNT_DETACH|unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW) != 0 {
		return unix.EINVAL
	}
	l := lookup(0)
	if flags&unix.UMOUNT_NOFOLLOW != 0 {
		l = noFollow
	}
	p, err := c.walk(AtCWD, target, l)
	if err != nil {
		return err
	}
	if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	if p.Mount != nil {
		p = p.Mount.ns.top(p) // of a root or working directory, what was mounted on it later
	}
	if !p.isMountRoot() {
		return unix.EINVAL
	}
	lazy := flags&unix.MNT_DETACH != 0
	if !lazy && p.Mount.busy() {
		return unix.EBUSY
	}
	return p.Mount.ns.Detach(p.Mount, lazy)
}

// Xattrs. The name spaces: user.* follows the file's permissions, trusted.* wants CAP_SYS_ADMIN,
// security.* is for who may change it, system.* is not kept (xattr(7)).

// capability is the attribute that holds a file's capabilities (capabilities(7), "File capabilities").
const capability = "security.capability"

// FileCapabilities returns the attribute of p that holds its capabilities, nil if it has none.
func FileCapabilities(p Path) []byte {
	x, ok := p.Inode().(Xattrer)
	if !ok {
		return nil
	}
	b, err := x.GetXattr(capability)
	if err != nil {
		return nil
	}
	return b
}

// validCapabilities reports whether b may be a file's capabilities: struct vfs_cap_data or vfs_ns_cap_data of the
// revision that its size says (linux/capability.h).
func validCapabilities(b []byte) bool {
	return len(b) == 20 && b[3] == 2 || len(b) == 24 && b[3] == 3
}

func (c *Context) xattrs(p Path, name string, write bool) (Xattrer, error) {
	if len(name) == 0 || len(name) > nameMax {
		return nil, unix.ERANGE
	}
	if write {
		if err := p.writable(); err != nil {
			return nil, err
		}
	}
	i := p.Inode()
	x, ok := i.(Xattrer)
	if !ok {
		return nil, unix.EOPNOTSUPP
	}
	mode, _, _ := i.Perm()
	switch {
	case len(name) > 5 && name[:5] == "user.":
		if typ := mode & unix.S_IFMT; typ != unix.S_IFREG && typ != unix.S_IFDIR {
			if write {
				return nil, unix.EPERM
			}
			return nil, unix.ENODATA
		}
		want := uint32(mayReadAccess)
		if write {
			want = mayWriteAccess
			if mode&(unix.S_IFMT|unix.S_ISVTX) == unix.S_IFDIR|unix.S_ISVTX && !c.owns(i) {
				return nil, unix.EPERM
			}
		}
		if err := c.allow(p, want); err != nil {
			return nil, err
		}
	case len(name) > 8 && name[:8] == "trusted.":
		if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
			if write {
				return nil, unix.EPERM
			}
			return nil, unix.ENODATA
		}
	case len(name) > 9 && name[:9] == "security.":
		need := unix.CAP_SYS_ADMIN
		if name == capability {
			need = unix.CAP_SETFCAP
		}
		if write && !c.Creds.HasCap(need) {
			return nil, unix.EPERM
		}
	default:
		return nil, unix.EOPNOTSUPP
	}
	return x, nil
}

// GetXattr is getxattr(2) of the file p, which Walk or Description.Path found.
func (c *Context) GetXattr(p Path, name string) ([]byte, error) {
	x, err := c.xattrs(p, name, false)
	if err != nil {
		return nil, err
	}
	return x.GetXattr(name)
}

// SetXattr is setxattr(2).
func (c *Context) SetXattr(p Path, name string, value []byte, flags int) error {
	if flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		return unix.EINVAL
	}
	if len(value) > 65536 {
		return unix.E2BIG
	}
	if name == capability && !validCapabilities(value) {
		return unix.EINVAL
	}
	x, err := c.xattrs(p, name, true)
	if err != nil {
		return err
	}
	if err = x.SetXattr(name, value, flags); err == nil {
		p.Dentry.happened(unix.IN_ATTRIB)
	}
	return err
}

// RemoveXattr is removexattr(2).
func (c *Context) RemoveXattr(p Path, name string) error {
	x, err := c.xattrs(p, name, true)
	if err != nil {
		return err
	}
	if err = x.RemoveXattr(name); err == nil {
		p.Dentry.happened(unix.IN_ATTRIB)
	}
	return err
}

// ListXattr is listxattr(2).
func (c *Context) ListXattr(p Path) ([]string, error) {
	x, ok := p.Inode().(Xattrer)
	if !ok {
		return nil, nil
	}
	names := x.ListXattr()
	if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
		kept := names[:0]
		for _, n := range names {
			if len(n) < 8 || n[:8] != "trusted." {
				kept = append(kept, n)
			}
		}
		names = kept
	}
	return names, nil
}
