package vfs

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// AtCWD is the directory descriptor that means the working directory.
const AtCWD = unix.AT_FDCWD

// lookup flags, beside unix.RESOLVE_*.
type lookup uint64

const (
	noFollow   lookup = 1 << 32 << iota // the last component may be a symbolic link itself
	emptyPath                           // an empty path is the directory descriptor's file
	keepParent                          // stop before the last component
)

// walker follows a path through the tree.
type walker struct {
	c     *Context
	flags lookup
	root  Path
	start Path
	at    Path
	rest  string
	links int

	last  string // the last component, not yet followed; "" when the path has none but /
	slash bool   // slashes stand behind it
	jump  bool   // the walk ended with a magic link
}

// begin sets w to the start of path.
func (c *Context) begin(w *walker, dirfd int32, path string, flags lookup) error {
	w.c, w.flags, w.rest = c, flags, path
	if path == "" && flags&emptyPath == 0 {
		return unix.ENOENT
	}
	if len(path) >= pathMax {
		return unix.ENAMETOOLONG
	}
	absolute := path != "" && path[0] == '/'
	fs := c.Files.fs
	fs.mu.Lock()
	w.root, w.at = fs.root, fs.cwd
	fs.mu.Unlock()
	if dirfd != AtCWD && (!absolute || flags&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0) {
		d, err := c.Files.table.Get(dirfd)
		if err != nil {
			return err
		}
		w.at = d.path
		d.Decref()
		if path != "" && !w.at.Dentry.isDir() {
			return unix.ENOTDIR
		}
	}
	if flags&unix.RESOLVE_IN_ROOT != 0 {
		w.root = w.at
	}
	w.start = w.at
	if absolute {
		return w.restart()
	}
	return nil
}

// restart goes to the root, for an absolute path.
func (w *walker) restart() error {
	if w.flags&unix.RESOLVE_BENEATH != 0 {
		return unix.EXDEV
	}
	if w.flags&unix.RESOLVE_NO_XDEV != 0 && w.at.Mount != w.root.Mount {
		return unix.EXDEV
	}
	w.at = w.root
	return nil
}

// parent walks until one component is left, which it puts into last.
func (w *walker) parent() error {
	for {
		rest := w.rest
		for rest != "" && rest[0] == '/' {
			rest = rest[1:]
		}
		if rest == "" {
			w.last, w.slash, w.rest = "", w.rest != "", ""
			return nil
		}
		end := 0
		for end < len(rest) && rest[end] != '/' {
			end++
		}
		name, tail := rest[:end], rest[end:]
		behind := end
		for behind < len(rest) && rest[behind] == '/' {
			behind++
		}
		if !w.at.Dentry.isDir() {
			return unix.ENOTDIR
		}
		if err := w.c.search(w.at.Dentry.inode); err != nil {
			return err
		}
		if len(name) > nameMax {
			return unix.ENAMETOOLONG
		}
		w.slash = tail != ""
		if behind == len(rest) {
			w.last, w.rest = name, ""
			return nil
		}
		w.rest = tail
		if err := w.step(name, true); err != nil {
			return err
		}
	}
}

// step goes from the directory at to its entry name, through mounts, and through symbolic links if
// follow is set, when it changes rest.
func (w *walker) step(name string, follow bool) error {
	w.jump = false
	switch name {
	case ".":
		return nil
	case "..":
		return w.up()
	}
	child, err := w.c.find(w.at, name)
	if err != nil {
		return err
	}
	return w.enter(child, follow)
}

// enter goes to the dentry child of at.
func (w *walker) enter(child *Dentry, follow bool) error {
	p := Path{w.at.Mount, child}
	if child.mounts.Load() != 0 {
		p = p.Mount.ns.top(p)
		if w.flags&unix.RESOLVE_NO_XDEV != 0 && p.Mount != w.at.Mount {
			return unix.EXDEV
		}
	}
	if !follow || child.dir != nil {
		w.at = p
		return nil
	}
	mode, _, _ := p.Dentry.inode.Perm()
	if mode&unix.S_IFMT != unix.S_IFLNK {
		w.at = p
		return nil
	}
	return w.link(p)
}

// link follows the symbolic link p, which lies in the directory at.
func (w *walker) link(p Path) error {
	if w.flags&unix.RESOLVE_NO_SYMLINKS != 0 {
		return unix.ELOOP
	}
	w.links++
	if w.links > maxLinks || p.Mount != nil && p.Mount.has(unix.MS_NOSYMFOLLOW) {
		return unix.ELOOP
	}
	if j, ok := p.Dentry.inode.(Jumper); ok {
		if w.flags&unix.RESOLVE_NO_MAGICLINKS != 0 {
			return unix.ELOOP
		}
		to, err := j.Jump(w.c)
		if err != nil {
			return err
		}
		if w.flags&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 || w.flags&unix.RESOLVE_NO_XDEV != 0 && to.Mount != w.at.Mount {
			return unix.EXDEV
		}
		w.at, w.jump = to, true
		return nil
	}
	target, err := p.Dentry.inode.Readlink(w.c)
	if err != nil {
		return err
	}
	if target == "" {
		return unix.ENOENT
	}
	if w.rest != "" || w.slash {
		w.rest = target + "/" + w.rest
	} else {
		w.rest = target
	}
	if target[0] == '/' {
		return w.restart()
	}
	return nil
}

// up goes to the parent directory, out of mounts and never out of the root.
func (w *walker) up() error {
	if w.at == w.start && w.flags&unix.RESOLVE_BENEATH != 0 {
		return unix.EXDEV
	}
	p := w.at
	for p != w.root {
		if p.Dentry != p.Mount.root {
			if up := p.Dentry.parent.Load(); up != nil {
				p.Dentry = up
			}
			break
		}
		under, ok := p.Mount.covers()
		if !ok {
			break
		}
		p = under
	}
	if p.Dentry.mounts.Load() != 0 {
		p = p.Mount.ns.top(p)
	}
	if w.flags&unix.RESOLVE_NO_XDEV != 0 && p.Mount != w.at.Mount {
		return unix.EXDEV
	}
	w.at = p
	return nil
}

// finish follows the last component too.
func (w *walker) finish() error {
	for {
		if err := w.parent(); err != nil {
			return err
		}
		if w.last == "" {
			if w.slash && !w.at.Dentry.isDir() {
				return unix.ENOTDIR
			}
			return nil
		}
		slash := w.slash
		if err := w.step(w.last, w.flags&noFollow == 0 || slash); err != nil {
			return err
		}
		if w.rest != "" {
			continue
		}
		if slash && !w.at.Dentry.isDir() {
			return unix.ENOTDIR
		}
		return nil
	}
}

// find looks name up in the directory p.
func (c *Context) find(p Path, name string) (*Dentry, error) {
	d := p.Dentry
	switch d.inode.FS().Caching() {
	case Resident:
		if child := d.child(name); child != nil {
			return child, nil
		}
		return nil, unix.ENOENT
	case Cached:
		if child := d.child(name); child != nil && child.fresh() {
			return child, nil
		}
	}
	d.dir.changeMu.Lock()
	defer d.dir.changeMu.Unlock()
	return c.findLocked(d, name)
}

// findLocked is find. Precondition: changeMu is held.
func (c *Context) findLocked(d *Dentry, name string) (*Dentry, error) {
	switch d.inode.FS().Caching() {
	case Resident:
		if child := d.child(name); child != nil {
			return child, nil
		}
		return nil, unix.ENOENT
	case Cached:
		return c.findCached(d, name)
	}
	i, err := d.inode.Lookup(c, name)
	if err != nil {
		return nil, err
	}
	child := newDentry(name, i)
	child.parent.Store(d)
	return child, nil
}

// Walk returns the file that path names, seen from the directory dirfd. flags are AT_SYMLINK_NOFOLLOW
// and AT_EMPTY_PATH.
func (c *Context) Walk(dirfd int32, path string, flags int) (Path, error) {
	var l lookup
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		l |= noFollow
	}
	if flags&unix.AT_EMPTY_PATH != 0 {
		l |= emptyPath
	}
	return c.walk(dirfd, path, l)
}

func (c *Context) walk(dirfd int32, path string, flags lookup) (Path, error) {
	var w walker
	if err := c.begin(&w, dirfd, path, flags); err != nil {
		return Path{}, err
	}
	if err := w.finish(); err != nil {
		return Path{}, err
	}
	return w.at, nil
}

// walkParent stops before the last component: at is the directory, last the name in it.
func (c *Context) walkParent(w *walker, dirfd int32, path string) error {
	if err := c.begin(w, dirfd, path, 0); err != nil {
		return err
	}
	return w.parent()
}

// Bits of access(2), as the permission bits of others.
const (
	mayExecAccess  = 1
	mayWriteAccess = 2
	mayReadAccess  = 4
)

// permits returns nil if somebody with creds may do want (rwx bits) with a file of mode, uid and gid.
func permits(creds *kernel.Credentials, mode, uid, gid uint32, want uint32) error {
	bits := mode
	switch {
	case creds.FSUID == uid:
		bits >>= 6
	case creds.InGroup(gid):
		bits >>= 3
	}
	if want&^bits&7 == 0 {
		return nil
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		if creds.HasCap(unix.CAP_DAC_OVERRIDE) || want&mayWriteAccess == 0 && creds.HasCap(unix.CAP_DAC_READ_SEARCH) {
			return nil
		}
		return unix.EACCES
	}
	if want == mayReadAccess && creds.HasCap(unix.CAP_DAC_READ_SEARCH) {
		return nil
	}
	if (want&mayExecAccess == 0 || mode&0o111 != 0) && creds.HasCap(unix.CAP_DAC_OVERRIDE) {
		return nil
	}
	return unix.EACCES
}

// search checks the right to go through a directory.
func (c *Context) search(i Inode) error {
	mode, uid, gid := i.Perm()
	return permits(c.Creds, mode, uid, gid, mayExecAccess)
}

// allow checks rights on the file p, a read-only mount included.
func (c *Context) allow(p Path, want uint32) error {
	mode, uid, gid := p.Dentry.inode.Perm()
	if want&mayWriteAccess != 0 && p.Mount != nil && p.Mount.ReadOnly() {
		switch mode & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
			return unix.EROFS
		}
	}
	return permits(c.Creds, mode, uid, gid, want)
}

// owns says whether the caller may act as the file's owner.
func (c *Context) owns(i Inode) bool {
	_, uid, _ := i.Perm()
	return c.Creds.FSUID == uid || c.Creds.HasCap(unix.CAP_FOWNER)
}

// MayRead checks the right to read the file p: EACCES.
func (c *Context) MayRead(p Path) error { return c.allow(p, mayReadAccess) }
