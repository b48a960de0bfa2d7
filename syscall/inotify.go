package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs/event"
)

// inotify_init(2)
func sysInotifyInit(t *kernel.Thread, a *args) (uint64, error) { return inotifyInit(t, 0) }

// inotify_init1(2)
func sysInotifyInit1(t *kernel.Thread, a *args) (uint64, error) { return inotifyInit(t, a.uint(0)) }

func inotifyInit(t *kernel.Thread, flags uint32) (uint64, error) {
	d, err := event.NewInotify(t.Creds().RUID, flags)
	return install(t, d, err, flags&unix.IN_CLOEXEC != 0)
}

// inotify_add_watch(2)
func sysInotifyAddWatch(t *kernel.Thread, a *args) (uint64, error) {
	const flags = unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK | unix.IN_MASK_CREATE | unix.IN_MASK_ADD | unix.IN_ISDIR | unix.IN_ONESHOT
	const events = unix.IN_ALL_EVENTS | unix.IN_UNMOUNT | unix.IN_Q_OVERFLOW | unix.IN_IGNORED
	mask := a.uint(2)
	if mask&(flags|events) == 0 {
		return 0, unix.EINVAL
	}
	c := filesOf(t)
	d, err := c.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	if mask&unix.IN_MASK_ADD != 0 && mask&unix.IN_MASK_CREATE != 0 {
		return 0, unix.EINVAL
	}
	f, err := event.InotifyOf(d)
	if err != nil {
		return 0, err
	}
	path, err := pathAt(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	walk := 0
	if mask&unix.IN_DONT_FOLLOW != 0 {
		walk = unix.AT_SYMLINK_NOFOLLOW
	}
	p, err := c.Walk(unix.AT_FDCWD, path, walk)
	if err != nil {
		return 0, err
	}
	if mode, _, _ := p.Inode().Perm(); mask&unix.IN_ONLYDIR != 0 && mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, unix.ENOTDIR
	}
	if err := c.MayRead(p); err != nil {
		return 0, err
	}
	wd, err := f.Add(p.Inode(), mask)
	return uint64(wd), err
}

// inotify_rm_watch(2)
func sysInotifyRmWatch(t *kernel.Thread, a *args) (uint64, error) {
	d, err := filesOf(t).Get(a.int(0))
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	f, err := event.InotifyOf(d)
	if err != nil {
		return 0, err
	}
	return 0, f.Remove(a.int(1))
}
