package vfs

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
)

// Context is on whose behalf the tree is used. A thread has one; whoever changes the thread's
// credentials or files (setuid, unshare, exec) sets the fields anew. Its methods are what system calls
// are made of: arguments decoded, paths as strings, dirfd a descriptor or AtCWD.
type Context struct {
	Files  *Files
	Creds  *kernel.Credentials
	Limits *kernel.Limits
	Thread *kernel.Thread // nil outside of a program: tests, boot
}

// NewContext returns t's context.
//
// Precondition: t.Proc.Attach is a *Files.
func NewContext(t *kernel.Thread) *Context {
	return &Context{Files: t.Proc.Attach.(*Files), Creds: t.Creds(), Limits: t.Proc.Limits, Thread: t}
}

// BootContext returns a context of root without limits, for what happens before the first process.
func BootContext(files *Files) *Context {
	return &Context{Files: files, Creds: kernel.RootCredentials()}
}

func (c *Context) limit(resource int) uint64 {
	if c == nil || c.Limits == nil {
		if resource == unix.RLIMIT_NOFILE {
			return 1024
		}
		return kernel.Infinity
	}
	return c.Limits.Soft(resource)
}

// wait blocks the thread until w is ready for mask, or a signal comes.
func (c *Context) wait(w waiter.Waitable, mask waiter.EventMask) error {
	if c.Thread != nil {
		return c.Thread.BlockOn(w, mask, kernel.Never)
	}
	e, ch := waiter.NewChannelEntry(mask)
	w.EventRegister(&e)
	defer w.EventUnregister(&e)
	if w.Readiness(mask) == 0 {
		<-ch
	}
	return nil
}

// CheckFileSize returns how many of n bytes at off a write may put into a regular file that takes max
// bytes: EFBIG, with SIGXFSZ when RLIMIT_FSIZE is the reason, if none.
func (c *Context) CheckFileSize(off int64, n int, max int64) (int, error) {
	limit := c.limit(unix.RLIMIT_FSIZE)
	if n == 0 {
		return 0, nil
	}
	if uint64(off) >= limit {
		if c != nil && c.Thread != nil {
			c.Thread.Send(kernel.Signal(unix.SIGXFSZ), kernel.KernelInfo(kernel.Signal(unix.SIGXFSZ)))
		}
		return 0, unix.EFBIG
	}
	if off >= max {
		return 0, unix.EFBIG
	}
	if left := limit - uint64(off); uint64(n) > left {
		n = int(left)
	}
	if left := max - off; int64(n) > left {
		n = int(left)
	}
	return n, nil
}

// Get returns the description of fd with a reference: EBADF.
func (c *Context) Get(fd int32) (*Description, error) { return c.Files.table.Get(fd) }

// Peek is FDTable.Peek.
func (c *Context) Peek(fd int32) *Description { return c.Files.table.Peek(fd) }

// Install gives d the lowest free descriptor, and takes over the reference: EMFILE.
func (c *Context) Install(d *Description, cloexec bool) (int, error) {
	return c.Files.table.Install(d, 0, c.limit(unix.RLIMIT_NOFILE), cloexec)
}

// Close closes fd.
func (c *Context) Close(fd int32) error { return c.Files.table.Close(fd) }

// CloseRange is close_range(2).
func (c *Context) CloseRange(first, last uint32, flags uint32) error {
	if flags&^(unix.CLOSE_RANGE_UNSHARE|unix.CLOSE_RANGE_CLOEXEC) != 0 || first > last {
		return unix.EINVAL
	}
	if flags&unix.CLOSE_RANGE_UNSHARE != 0 {
		c.Files.UnshareTable()
	}
	c.Files.table.CloseRange(first, last, flags&unix.CLOSE_RANGE_CLOEXEC != 0)
	return nil
}

// Dup is dup(2).
func (c *Context) Dup(fd int32) (int, error) { return c.DupFrom(fd, 0, false) }

// DupFrom is F_DUPFD and F_DUPFD_CLOEXEC: the lowest free descriptor from min up.
func (c *Context) DupFrom(fd int32, min int, cloexec bool) (int, error) {
	d, err := c.Get(fd)
	if err != nil {
		return 0, err
	}
	return c.Files.table.Install(d, min, c.limit(unix.RLIMIT_NOFILE), cloexec)
}

// Dup2 is dup2(2).
func (c *Context) Dup2(from, to int32) (int, error) {
	if from == to {
		d, err := c.Get(from)
		if err != nil {
			return 0, err
		}
		d.Decref()
		return int(to), nil
	}
	return c.Dup3(from, to, 0)
}

// Dup3 is dup3(2); flags is 0 or O_CLOEXEC.
func (c *Context) Dup3(from, to int32, flags int) (int, error) {
	if flags&^unix.O_CLOEXEC != 0 || from == to {
		return 0, unix.EINVAL
	}
	if to < 0 || uint64(to) >= c.limit(unix.RLIMIT_NOFILE) {
		return 0, unix.EBADF
	}
	d, err := c.Get(from)
	if err != nil {
		return 0, err
	}
	if err := c.Files.table.InstallAt(d, int(to), c.limit(unix.RLIMIT_NOFILE), flags&unix.O_CLOEXEC != 0); err != nil {
		return 0, err
	}
	return int(to), nil
}

// fileAt returns the file of dirfd and path as fstatat, fchownat and their like name it: a path, or with
// an empty path (AT_EMPTY_PATH) the descriptor itself.
func (c *Context) fileAt(dirfd int32, path string, flags int) (Path, error) {
	if path == "" && flags&unix.AT_EMPTY_PATH != 0 && dirfd != AtCWD {
		d, err := c.Get(dirfd)
		if err != nil {
			return Path{}, err
		}
		defer d.Decref()
		return d.path, nil
	}
	return c.Walk(dirfd, path, flags)
}

// Reopen opens the file of a descriptor anew, as open of /proc/self/fd/N does.
func (c *Context) Reopen(fd int32, flags uint32) (*Description, error) {
	d, err := c.Get(fd)
	if err != nil {
		return nil, err
	}
	defer d.Decref()
	return c.openPath(d.path, flags, false)
}

// Stat is fstatat(2). flags are those of Walk.
func (c *Context) Stat(dirfd int32, path string, flags int, a *Attr) error {
	p, err := c.fileAt(dirfd, path, flags)
	if err != nil {
		return err
	}
	return p.stat(a)
}

// Fstat is fstat(2).
func (c *Context) Fstat(fd int32, a *Attr) error {
	d, err := c.Get(fd)
	if err != nil {
		return err
	}
	defer d.Decref()
	return d.Stat(a)
}

// Access is faccessat2(2): mode is made of R_OK, W_OK and X_OK; flags of AT_EACCESS, AT_EMPTY_PATH and
// AT_SYMLINK_NOFOLLOW.
func (c *Context) Access(dirfd int32, path string, mode uint32, flags int) error {
	if mode&^7 != 0 || flags&^(unix.AT_EACCESS|unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW) != 0 {
		return unix.EINVAL
	}
	as := *c
	if flags&unix.AT_EACCESS == 0 {
		as.Creds = realCredentials(c.Creds)
	}
	p, err := as.fileAt(dirfd, path, flags)
	if err != nil || mode == 0 {
		return err
	}
	typ, _, _ := p.Inode().Perm()
	if mode&mayExecAccess != 0 && typ&unix.S_IFMT == unix.S_IFREG && p.Mount != nil && p.Mount.has(unix.MS_NOEXEC) {
		return unix.EACCES
	}
	return as.allow(p, mode)
}

// realCredentials is who the caller really is, for access(2): the real ids, and root's capabilities
// only for a real root.
func realCredentials(c *kernel.Credentials) *kernel.Credentials {
	if c.RUID == c.FSUID && c.RGID == c.FSGID && (c.RUID != 0 || c.Effective == c.Permitted) && (c.RUID == 0 || c.Effective == 0) {
		return c
	}
	n := c.Clone()
	n.FSUID, n.FSGID = c.RUID, c.RGID
	n.Effective = 0
	if c.RUID == 0 {
		n.Effective = c.Permitted
	}
	return n
}

// Readlink is readlinkat(2).
func (c *Context) Readlink(dirfd int32, path string) (string, error) {
	var p Path
	var err error
	if path == "" {
		p, err = c.fileAt(dirfd, path, unix.AT_EMPTY_PATH)
		if err == nil {
			if mode, _, _ := p.Inode().Perm(); mode&unix.S_IFMT != unix.S_IFLNK {
				return "", unix.ENOENT
			}
		}
	} else {
		p, err = c.walk(dirfd, path, noFollow)
	}
	if err != nil {
		return "", err
	}
	return p.Inode().Readlink(c)
}

// Chdir is chdir(2).
func (c *Context) Chdir(path string) error {
	p, err := c.walk(AtCWD, path, 0)
	if err != nil {
		return err
	}
	return c.chdir(p)
}

// Fchdir is fchdir(2).
func (c *Context) Fchdir(fd int32) error {
	d, err := c.Get(fd)
	if err != nil {
		return err
	}
	defer d.Decref()
	return c.chdir(d.path)
}

func (c *Context) chdir(p Path) error {
	if !p.Dentry.isDir() {
		return unix.ENOTDIR
	}
	if err := c.search(p.Inode()); err != nil {
		return err
	}
	c.Files.setCWD(p)
	return nil
}

// Chroot is chroot(2).
func (c *Context) Chroot(path string) error {
	p, err := c.walk(AtCWD, path, 0)
	if err != nil {
		return err
	}
	if !p.Dentry.isDir() {
		return unix.ENOTDIR
	}
	if err := c.search(p.Inode()); err != nil {
		return err
	}
	if !c.Creds.HasCap(unix.CAP_SYS_CHROOT) {
		return unix.EPERM
	}
	c.Files.setRoot(p)
	return nil
}

// Getcwd is getcwd(2), without the final NUL.
func (c *Context) Getcwd() (string, error) { return c.Files.Getcwd() }

// Statfs is statfs(2).
func (c *Context) Statfs(path string, s *StatFS) error {
	p, err := c.walk(AtCWD, path, 0)
	if err != nil {
		return err
	}
	return p.statfs(s)
}

// Fstatfs is fstatfs(2).
func (c *Context) Fstatfs(fd int32, s *StatFS) error {
	d, err := c.Get(fd)
	if err != nil {
		return err
	}
	defer d.Decref()
	return d.path.statfs(s)
}

func (p Path) statfs(s *StatFS) error {
	*s = StatFS{}
	if err := p.Inode().FS().Statfs(s); err != nil {
		return err
	}
	if p.Mount != nil {
		s.MountFlags = p.Mount.statFlags()
	}
	return nil
}

// writable refuses changes on a read-only mount.
func (p Path) writable() error {
	if p.Mount != nil && p.Mount.ReadOnly() {
		return unix.EROFS
	}
	return nil
}

// Chmod is fchmodat2(2).
func (c *Context) Chmod(dirfd int32, path string, mode uint32, flags int) error {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return unix.EINVAL
	}
	p, err := c.fileAt(dirfd, path, flags)
	if err != nil {
		return err
	}
	return c.chmod(p, mode)
}

// Fchmod is fchmod(2).
func (c *Context) Fchmod(fd int32, mode uint32) error {
	d, err := c.getNoPath(fd)
	if err != nil {
		return err
	}
	defer d.Decref()
	return c.chmod(d.path, mode)
}

// getNoPath is Get for operations that O_PATH descriptors refuse.
func (c *Context) getNoPath(fd int32) (*Description, error) {
	d, err := c.Get(fd)
	if err != nil {
		return nil, err
	}
	if d.PathOnly() {
		d.Decref()
		return nil, unix.EBADF
	}
	return d, nil
}

func (c *Context) chmod(p Path, mode uint32) error {
	if err := p.writable(); err != nil {
		return err
	}
	i := p.Inode()
	if !c.owns(i) {
		return unix.EPERM
	}
	typ, _, gid := i.Perm()
	if typ&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	mode &= 0o7777
	if mode&unix.S_ISGID != 0 && !c.Creds.InGroup(gid) && !c.Creds.HasCap(unix.CAP_FSETID) {
		mode &^= unix.S_ISGID
	}
	return p.setAttr(c, &SetAttr{Valid: SetMode, Mode: mode})
}

// unset is the id that chown leaves as it is.
const unset = ^uint32(0)

// Chown is fchownat(2); ^0 leaves an id as it is.
func (c *Context) Chown(dirfd int32, path string, uid, gid uint32, flags int) error {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return unix.EINVAL
	}
	p, err := c.fileAt(dirfd, path, flags)
	if err != nil {
		return err
	}
	return c.chown(p, uid, gid)
}

// Fchown is fchown(2).
func (c *Context) Fchown(fd int32, uid, gid uint32) error {
	d, err := c.getNoPath(fd)
	if err != nil {
		return err
	}
	defer d.Decref()
	return c.chown(d.path, uid, gid)
}

func (c *Context) chown(p Path, uid, gid uint32) error {
	if err := p.writable(); err != nil {
		return err
	}
	i := p.Inode()
	mode, oldUID, oldGID := i.Perm()
	s := SetAttr{}
	root := c.Creds.HasCap(unix.CAP_CHOWN)
	if uid != unset {
		if !root && (c.Creds.FSUID != oldUID || uid != oldUID) {
			return unix.EPERM
		}
		s.Valid |= SetUID
		s.UID = uid
	}
	if gid != unset {
		if !root && (c.Creds.FSUID != oldUID || gid != oldGID && !c.Creds.InGroup(gid)) {
			return unix.EPERM
		}
		s.Valid |= SetGID
		s.GID = gid
	}
	// A change of owner takes set-id bits away (chown(2)).
	if mode&unix.S_IFMT != unix.S_IFDIR && mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		s.Valid |= SetMode
		s.Mode = mode & 0o7777 &^ unix.S_ISUID
		if mode&unix.S_IXGRP != 0 {
			s.Mode &^= unix.S_ISGID
		}
	}
	if err := p.setAttr(c, &s); err != nil {
		return err
	}
	if x, ok := i.(Xattrer); ok && mode&unix.S_IFMT != unix.S_IFDIR {
		x.RemoveXattr(capability) // its capabilities, too, if there are any
	}
	return nil
}

// Truncate is truncate(2).
func (c *Context) Truncate(path string, size int64) error {
	if size < 0 {
		return unix.EINVAL
	}
	p, err := c.walk(AtCWD, path, 0)
	if err != nil {
		return err
	}
	i := p.Inode()
	mode, _, _ := i.Perm()
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return unix.EISDIR
	case unix.S_IFREG:
	default:
		return unix.EINVAL
	}
	if err := c.allow(p, mayWriteAccess); err != nil {
		return err
	}
	if w := writersOf(i); w != nil {
		if err := w.enter(); err != nil {
			return err
		}
		defer w.leave()
	}
	return p.setAttr(c, &SetAttr{Valid: SetSize, Size: size})
}

// setAttr changes attributes and tells who watches the file.
func (p Path) setAttr(c *Context, s *SetAttr) error {
	err := p.Inode().SetAttr(c, s)
	if err == nil {
		p.Dentry.attributesChanged(s)
	}
	return err
}

func (c *Context) resize(i Inode, size int64) error {
	return i.SetAttr(c, &SetAttr{Valid: SetSize, Size: size})
}

// Utimens is utimensat(2). times nil: now. An Nsec of UTIME_NOW or UTIME_OMIT means that. An empty
// path with AT_EMPTY_PATH (or, as the system call does for a null pointer) is the descriptor's file.
func (c *Context) Utimens(dirfd int32, path string, times *[2]unix.Timespec, flags int) error {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return unix.EINVAL
	}
	if times != nil {
		for _, t := range times {
			if t.Nsec != unix.UTIME_NOW && t.Nsec != unix.UTIME_OMIT && (t.Nsec < 0 || t.Nsec >= 1e9) {
				return unix.EINVAL
			}
		}
		if times[0].Nsec == unix.UTIME_OMIT && times[1].Nsec == unix.UTIME_OMIT {
			return nil
		}
	}
	p, err := c.fileAt(dirfd, path, flags)
	if err != nil {
		return err
	}
	if err := p.writable(); err != nil {
		return err
	}
	i := p.Inode()
	now := Now()
	s := SetAttr{Valid: SetAtime | SetMtime, Atime: now, Mtime: now}
	onlyNow := times == nil || times[0].Nsec == unix.UTIME_NOW && times[1].Nsec == unix.UTIME_NOW
	if !c.owns(i) {
		if !onlyNow {
			return unix.EPERM
		}
		if err := c.allow(p, mayWriteAccess); err != nil {
			return err
		}
	}
	if times != nil {
		switch times[0].Nsec {
		case unix.UTIME_NOW:
		case unix.UTIME_OMIT:
			s.Valid &^= SetAtime
		default:
			s.Atime = times[0]
		}
		switch times[1].Nsec {
		case unix.UTIME_NOW:
		case unix.UTIME_OMIT:
			s.Valid &^= SetMtime
		default:
			s.Mtime = times[1]
		}
	}
	return p.setAttr(c, &s)
}

// Umask is umask(2).
func (c *Context) Umask(mask uint32) uint32 { return c.Files.Umask(mask) }
