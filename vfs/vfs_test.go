package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
	"elver/vfs/tmpfs"
)

func newContext(t testing.TB) *vfs.Context {
	t.Helper()
	before := metal.Frames().ByOwner[metal.OwnerPageCache]
	fs := tmpfs.New(tmpfs.Options{})
	ns := vfs.NewNamespace(fs.Root(), "rootfs")
	ns.Register("tmpfs", tmpfs.Mounter(tmpfs.Options{}))
	c := vfs.BootContext(vfs.NewFiles(ns))
	t.Cleanup(func() {
		c.Files.Exit()
		if n := metal.Frames().ByOwner[metal.OwnerPageCache] - before; int64(n) != fs.Pages() {
			t.Errorf("the page cache has %d frames more than before, the file system counts %d", n, fs.Pages())
		}
	})
	return c
}

func user(c *vfs.Context, uid uint32) *vfs.Context {
	n := *c
	n.Creds = &kernel.Credentials{RUID: uid, EUID: uid, SUID: uid, FSUID: uid, RGID: uid, EGID: uid, SGID: uid, FSGID: uid}
	return &n
}

func want(t *testing.T, what string, got, wanted error) {
	t.Helper()
	if !errors.Is(got, wanted) {
		t.Errorf("%s: got %v, want %v", what, got, wanted)
	}
}

func ok(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func write(t testing.TB, c *vfs.Context, path, content string) {
	t.Helper()
	d, err := c.OpenFile(vfs.AtCWD, path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
	ok(t, path, err)
	defer d.Decref()
	b := mm.KernelBuffer([]byte(content))
	if n, err := d.Write(c, &b); n != len(content) || err != nil {
		t.Fatalf("write %s: %d, %v", path, n, err)
	}
}

func readAll(t testing.TB, c *vfs.Context, d *vfs.Description) string {
	t.Helper()
	var out []byte
	p := make([]byte, 3000)
	for {
		b := mm.KernelBuffer(p)
		n, err := d.Read(c, &b)
		ok(t, "read", err)
		if n == 0 {
			return string(out)
		}
		out = append(out, p[:n]...)
	}
}

func read(t testing.TB, c *vfs.Context, path string) string {
	t.Helper()
	d, err := c.OpenFile(vfs.AtCWD, path, unix.O_RDONLY, 0)
	ok(t, path, err)
	defer d.Decref()
	return readAll(t, c, d)
}

func names(t testing.TB, c *vfs.Context, path string) string {
	t.Helper()
	d, err := c.OpenFile(vfs.AtCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	ok(t, path, err)
	defer d.Decref()
	var n []string
	ok(t, "readdir", d.ReadDir(c, func(e vfs.Dirent) bool { n = append(n, e.Name); return true }))
	return strings.Join(n, " ")
}

func TestWalk(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	ok(t, "mkdir", c.Mkdir(at, "/a", 0o755))
	ok(t, "mkdir", c.Mkdir(at, "/a/b/", 0o755))
	write(t, c, "/a/b/file", "hello")
	ok(t, "symlink", c.Symlink("b", at, "/a/link"))
	ok(t, "symlink", c.Symlink("/a/b/file", at, "/a/b/abs"))
	ok(t, "symlink", c.Symlink("loop", at, "/loop"))
	ok(t, "symlink", c.Symlink("nowhere", at, "/dangling"))
	for _, p := range []string{"/a/b/file", "a/b/file", "//a///b//file", "/a/./b/../b/file", "/../../a/b/file", "/a/link/file", "/a/link/abs", "/a/link/../b/abs"} {
		if got := read(t, c, p); got != "hello" {
			t.Errorf("%s holds %q", p, got)
		}
	}
	var a vfs.Attr
	for _, test := range []struct {
		path  string
		flags int
		err   error
	}{
		{"", 0, unix.ENOENT},
		{"/a/b/file/", 0, unix.ENOTDIR},
		{"/a/b/file/.", 0, unix.ENOTDIR},
		{"/a/b/file/..", 0, unix.ENOTDIR},
		{"/a/b/file/x", 0, unix.ENOTDIR},
		{"/a/x", 0, unix.ENOENT},
		{"/a/x/y", 0, unix.ENOENT},
		{"/loop", 0, unix.ELOOP},
		{"/loop/x", 0, unix.ELOOP},
		{"/loop", unix.AT_SYMLINK_NOFOLLOW, nil},
		{"/dangling", 0, unix.ENOENT},
		{"/dangling/", unix.AT_SYMLINK_NOFOLLOW, unix.ENOENT},
		{"/a/link/", unix.AT_SYMLINK_NOFOLLOW, nil},
		{"/" + strings.Repeat("n", 255), 0, unix.ENOENT},
		{"/" + strings.Repeat("n", 256), 0, unix.ENAMETOOLONG},
		{strings.Repeat("/", 4095), 0, nil},
		{strings.Repeat("/", 4096), 0, unix.ENAMETOOLONG},
	} {
		want(t, fmt.Sprintf("stat %.20q", test.path), c.Stat(at, test.path, test.flags, &a), test.err)
	}
	// Forty links are followed, forty-one are not.
	write(t, c, "/l0", "x")
	for i := range 41 {
		ok(t, "symlink", c.Symlink(fmt.Sprintf("l%d", i), at, fmt.Sprintf("/l%d", i+1)))
	}
	want(t, "40 links", c.Stat(at, "/l40", 0, &a), nil)
	want(t, "41 links", c.Stat(at, "/l41", 0, &a), unix.ELOOP)

	ok(t, "chdir", c.Chdir("/a/link"))
	if d, err := c.Getcwd(); d != "/a/b" || err != nil {
		t.Errorf("getcwd: %q, %v", d, err)
	}
	ok(t, "rename", c.Rename(at, "/a", at, "/z", 0))
	if d, err := c.Getcwd(); d != "/z/b" || err != nil {
		t.Errorf("getcwd after a rename: %q, %v", d, err)
	}
	if got := read(t, c, "file"); got != "hello" {
		t.Errorf("relative: %q", got)
	}
	fd, err := c.Open(at, "/z", unix.O_PATH, 0)
	ok(t, "open O_PATH", err)
	want(t, "stat at", c.Stat(int32(fd), "b/file", 0, &a), nil)
	want(t, "stat of the descriptor", c.Stat(int32(fd), "", unix.AT_EMPTY_PATH, &a), nil)
	want(t, "stat of ..", c.Stat(int32(fd), "..", 0, &a), nil)
	want(t, "bad fd", c.Stat(99, "x", 0, &a), unix.EBADF)
	want(t, "absolute with a bad fd", c.Stat(99, "/", 0, &a), nil)

	for _, test := range []struct {
		path    string
		resolve uint64
		err     error
	}{
		{"b/file", unix.RESOLVE_BENEATH, nil},
		{"../z", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"/z", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"../../b/file", unix.RESOLVE_IN_ROOT, nil},
		{"/b/file", unix.RESOLVE_IN_ROOT, nil},
		{"link/file", unix.RESOLVE_NO_SYMLINKS, unix.ELOOP},
	} {
		_, err := c.Open2(int32(fd), test.path, vfs.OpenHow{Resolve: test.resolve})
		want(t, "openat2 "+test.path, err, test.err)
	}
}

func TestOpenFlags(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	ok(t, "mkdir", c.Mkdir(at, "/d", 0o755))
	write(t, c, "/f", "data")
	ok(t, "symlink", c.Symlink("f", at, "/s"))
	ok(t, "symlink", c.Symlink("new", at, "/dangling"))
	for _, test := range []struct {
		path  string
		flags uint32
		err   error
	}{
		{"/none", unix.O_RDONLY, unix.ENOENT},
		{"/d", unix.O_WRONLY, unix.EISDIR},
		{"/d", unix.O_RDWR, unix.EISDIR},
		{"/d", unix.O_CREAT, unix.EISDIR},
		{"/", unix.O_CREAT, unix.EISDIR},
		{"/f", unix.O_DIRECTORY, unix.ENOTDIR},
		{"/f/", unix.O_RDONLY, unix.ENOTDIR},
		{"/new/", unix.O_CREAT | unix.O_WRONLY, unix.EISDIR},
		{"/f", unix.O_CREAT | unix.O_EXCL, unix.EEXIST},
		{"/s", unix.O_NOFOLLOW, unix.ELOOP},
		{"/s", unix.O_NOFOLLOW | unix.O_PATH, nil},
		{"/dangling", unix.O_CREAT | unix.O_EXCL, unix.EEXIST},
		{"/d", unix.O_DIRECTORY | unix.O_CREAT, unix.EINVAL},
		{"/dangling", unix.O_CREAT | unix.O_WRONLY, nil},
		{"/new", unix.O_RDONLY, nil},
		{"/f/x", unix.O_CREAT | unix.O_WRONLY, unix.ENOTDIR},
		{"/none/x", unix.O_CREAT | unix.O_WRONLY, unix.ENOENT},
		{"/d", unix.O_TMPFILE, unix.EINVAL},
		{"/d", unix.O_TMPFILE | unix.O_RDWR, nil},
		{"/d/", unix.O_RDONLY | unix.O_DIRECTORY, nil},
	} {
		d, err := c.OpenFile(at, test.path, test.flags, 0o600)
		want(t, fmt.Sprintf("open %s %#x", test.path, test.flags), err, test.err)
		if err == nil {
			d.Decref()
		}
	}
	d, err := c.OpenFile(at, "/f", unix.O_RDWR|unix.O_TRUNC, 0)
	ok(t, "open", err)
	var a vfs.Attr
	d.Stat(&a)
	if a.Size != 0 {
		t.Errorf("O_TRUNC left %d bytes", a.Size)
	}
	d.Decref()
	p, err := c.OpenFile(at, "/f", unix.O_PATH, 0)
	ok(t, "O_PATH", err)
	b := mm.KernelBuffer(make([]byte, 1))
	_, err = p.Read(c, &b)
	want(t, "read of an O_PATH file", err, unix.EBADF)
	p.Decref()
	c.Umask(0o27)
	d, err = c.OpenFile(at, "/m", unix.O_CREAT|unix.O_WRONLY, 0o6777)
	ok(t, "create", err)
	d.Stat(&a)
	if a.Mode != unix.S_IFREG|0o6750 {
		t.Errorf("mode %o after umask 027", a.Mode)
	}
	d.Decref()
}

func TestPermissions(t *testing.T) {
	root := newContext(t)
	c := user(root, 1000)
	at := int32(vfs.AtCWD)
	ok(t, "mkdir", root.Mkdir(at, "/closed", 0o700))
	write(t, root, "/closed/f", "x")
	ok(t, "mkdir", root.Mkdir(at, "/tmp", 0o1777))
	root.Chmod(at, "/tmp", 0o1777, 0)
	write(t, root, "/tmp/root", "x")
	write(t, root, "/secret", "x")
	ok(t, "chmod", root.Chmod(at, "/secret", 0o640, 0))
	var a vfs.Attr
	want(t, "through a closed directory", c.Stat(at, "/closed/f", 0, &a), unix.EACCES)
	want(t, "mkdir in /", c.Mkdir(at, "/x", 0o777), unix.EACCES)
	want(t, "unlink in /", c.Unlink(at, "/secret"), unix.EACCES)
	want(t, "sticky unlink", c.Unlink(at, "/tmp/root"), unix.EPERM)
	_, err := c.OpenFile(at, "/secret", unix.O_RDONLY, 0)
	want(t, "open", err, unix.EACCES)
	want(t, "access", c.Access(at, "/secret", unix.R_OK, 0), unix.EACCES)
	want(t, "access F_OK", c.Access(at, "/secret", 0, 0), nil)
	want(t, "chmod of another's", c.Chmod(at, "/secret", 0o777, 0), unix.EPERM)
	want(t, "chown of another's", c.Chown(at, "/secret", 1000, ^uint32(0), 0), unix.EPERM)
	write(t, c, "/tmp/mine", "x")
	want(t, "give away", c.Chown(at, "/tmp/mine", 1001, ^uint32(0), 0), unix.EPERM)
	want(t, "chown to itself", c.Chown(at, "/tmp/mine", 1000, 1000, 0), nil)
	want(t, "chmod of one's own", c.Chmod(at, "/tmp/mine", 0o4755, 0), nil)
	c.Stat(at, "/tmp/mine", 0, &a)
	if a.UID != 1000 || a.GID != 1000 || a.Mode != unix.S_IFREG|0o4755 {
		t.Errorf("uid %d gid %d mode %o", a.UID, a.GID, a.Mode)
	}
	want(t, "root executes what nobody may", root.Access(at, "/secret", unix.X_OK, 0), unix.EACCES)
	want(t, "root reads all", root.Access(at, "/secret", unix.R_OK|unix.W_OK, 0), nil)
	want(t, "mknod of a device", c.Mknod(at, "/tmp/dev", unix.S_IFCHR|0o666, unix.Mkdev(1, 3)), unix.EPERM)
	want(t, "chroot", c.Chroot("/tmp"), unix.EPERM)
	// A write by somebody else takes set-uid away.
	write(t, c, "/tmp/mine", "y")
	c.Stat(at, "/tmp/mine", 0, &a)
	if a.Mode&unix.S_ISUID != 0 {
		t.Errorf("set-uid survived a write: %o", a.Mode)
	}
}

func TestNamespaceOps(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	ok(t, "mkdir", c.Mkdir(at, "/d", 0o755))
	want(t, "mkdir again", c.Mkdir(at, "/d", 0o755), unix.EEXIST)
	want(t, "mkdir .", c.Mkdir(at, "/d/.", 0o755), unix.EEXIST)
	want(t, "mkdir /", c.Mkdir(at, "/", 0o755), unix.EEXIST)
	write(t, c, "/d/f", "one")
	write(t, c, "/g", "two")
	want(t, "rmdir of a full one", c.Rmdir(at, "/d"), unix.ENOTEMPTY)
	want(t, "rmdir of a file", c.Rmdir(at, "/g"), unix.ENOTDIR)
	want(t, "rmdir .", c.Rmdir(at, "/d/."), unix.EINVAL)
	want(t, "rmdir ..", c.Rmdir(at, "/d/.."), unix.ENOTEMPTY)
	want(t, "rmdir /", c.Rmdir(at, "/"), unix.EBUSY)
	want(t, "unlink of a directory", c.Unlink(at, "/d"), unix.EISDIR)
	want(t, "unlink g/", c.Unlink(at, "/g/"), unix.ENOTDIR)
	want(t, "unlink nothing", c.Unlink(at, "/none"), unix.ENOENT)

	ok(t, "link", c.Link(at, "/g", at, "/d/h", 0))
	var a vfs.Attr
	c.Stat(at, "/g", 0, &a)
	if a.Nlink != 2 {
		t.Errorf("%d links, want 2", a.Nlink)
	}
	want(t, "link of a directory", c.Link(at, "/d", at, "/e", 0), unix.EPERM)
	want(t, "link over something", c.Link(at, "/g", at, "/d/f", 0), unix.EEXIST)
	want(t, "symlink slash", c.Symlink("x", at, "/new/"), unix.ENOENT)
	want(t, "same file", c.Rename(at, "/g", at, "/d/h", 0), nil)
	want(t, "still there", c.Stat(at, "/g", 0, &a), nil)

	want(t, "noreplace", c.Rename(at, "/g", at, "/d/f", unix.RENAME_NOREPLACE), unix.EEXIST)
	ok(t, "exchange", c.Rename(at, "/g", at, "/d/f", unix.RENAME_EXCHANGE))
	if read(t, c, "/g") != "one" || read(t, c, "/d/f") != "two" {
		t.Error("exchange did not exchange")
	}
	ok(t, "exchange of file and directory", c.Mkdir(at, "/e", 0o755))
	ok(t, "exchange", c.Rename(at, "/g", at, "/e", unix.RENAME_EXCHANGE))
	if read(t, c, "/e") != "one" {
		t.Error("exchange of a file and a directory")
	}
	want(t, "into itself", c.Rename(at, "/d", at, "/d/x", 0), unix.EINVAL)
	want(t, "over its parent", c.Rename(at, "/d/f", at, "/d", 0), unix.ENOTEMPTY)
	want(t, "file over directory", c.Rename(at, "/e", at, "/g", 0), unix.EISDIR)
	want(t, "directory over file", c.Rename(at, "/g", at, "/e", 0), unix.ENOTDIR)
	want(t, "rename of ..", c.Rename(at, "/d/..", at, "/q", 0), unix.EBUSY)
	ok(t, "directory over empty directory", c.Rename(at, "/g", at, "/d/sub", 0))
	c.Stat(at, "/d", 0, &a)
	if a.Nlink != 3 {
		t.Errorf("/d has %d links, want 3", a.Nlink)
	}
	ok(t, "replace", c.Rename(at, "/e", at, "/d/f", 0))
	if got := names(t, c, "/d"); got != ". .. h sub f" {
		t.Errorf("/d holds %q", got)
	}
	// An unlinked file lives while it is open.
	d, err := c.OpenFile(at, "/d/f", unix.O_RDWR, 0)
	ok(t, "open", err)
	ok(t, "unlink", c.Unlink(at, "/d/f"))
	if got := readAll(t, c, d); got != "one" {
		t.Errorf("unlinked: %q", got)
	}
	if got := c.Files.Name(d.Path()); got != "/d/f (deleted)" {
		t.Errorf("name %q", got)
	}
	d.Decref()
	// A removed working directory.
	ok(t, "mkdir", c.Mkdir(at, "/gone", 0o755))
	ok(t, "chdir", c.Chdir("/gone"))
	ok(t, "rmdir", c.Rmdir(at, "/gone"))
	_, err = c.Getcwd()
	want(t, "getcwd", err, unix.ENOENT)
	want(t, "create in it", c.Mkdir(at, "x", 0o755), unix.ENOENT)
}

func TestReadDirStable(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	for i := range 300 {
		write(t, c, fmt.Sprintf("/f%d", i), "")
	}
	d, err := c.OpenFile(at, "/", unix.O_RDONLY, 0)
	ok(t, "open", err)
	defer d.Decref()
	seen := map[string]int{}
	for step := 0; ; step++ {
		n := 0
		ok(t, "readdir", d.ReadDir(c, func(e vfs.Dirent) bool {
			if n == 7 {
				return false
			}
			n++
			seen[e.Name]++
			return true
		}))
		if n == 0 {
			break
		}
		// Remove what was seen, as rm -r does.
		for name := range seen {
			if name != "." && name != ".." {
				c.Unlink(at, "/"+name)
			}
		}
	}
	if len(seen) != 302 {
		t.Errorf("%d names seen, want 302", len(seen))
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s seen %d times", name, n)
		}
	}
	if _, err := d.Seek(c, 0, unix.SEEK_SET); err != nil {
		t.Error(err)
	}
}

func TestFDTable(t *testing.T) {
	c := newContext(t)
	c.Limits = kernel.DefaultLimits(100)
	at := int32(vfs.AtCWD)
	write(t, c, "/f", "0123456789")
	for i := range 10 {
		fd, err := c.Open(at, "/f", unix.O_RDONLY, 0)
		if fd != i || err != nil {
			t.Fatalf("open %d: %d, %v", i, fd, err)
		}
	}
	ok(t, "close", c.Close(3))
	ok(t, "close", c.Close(5))
	want(t, "close again", c.Close(5), unix.EBADF)
	want(t, "close -1", c.Close(-1), unix.EBADF)
	if fd, _ := c.Dup(0); fd != 3 {
		t.Errorf("dup gave %d, want 3", fd)
	}
	if fd, _ := c.DupFrom(0, 700, true); fd != 700 {
		t.Errorf("F_DUPFD gave %d", fd)
	}
	if on, _ := c.Files.Table().Cloexec(700); !on {
		t.Error("F_DUPFD_CLOEXEC did not set it")
	}
	if _, err := c.DupFrom(0, 1024, false); err != unix.EINVAL {
		t.Errorf("F_DUPFD at the limit: %v", err)
	}
	if _, err := c.Dup2(0, 1024); err != unix.EBADF {
		t.Errorf("dup2 at the limit: %v", err)
	}
	if _, err := c.Dup3(4, 4, 0); err != unix.EINVAL {
		t.Errorf("dup3 of the same: %v", err)
	}
	if fd, err := c.Dup2(0, 1023); fd != 1023 || err != nil {
		t.Errorf("dup2: %d, %v", fd, err)
	}
	// The offset is shared.
	d, _ := c.Get(0)
	e, _ := c.Get(1023)
	if d != e {
		t.Error("dup2 made another description")
	}
	d.Decref()
	e.Decref()
	child := c.Files.Fork().(*vfs.Files)
	child.Exec()
	if _, err := child.Table().Get(700); err != unix.EBADF {
		t.Errorf("close on exec: %v", err)
	}
	if d, err := child.Table().Get(1023); err != nil {
		t.Error(err)
	} else {
		d.Decref()
	}
	child.Exit()
	ok(t, "close_range", c.CloseRange(4, ^uint32(0), 0))
	if got := fmt.Sprint(c.Files.Table().List()); got != "[0 1 2 3]" {
		t.Errorf("left open: %v", got)
	}
	limit := unix.Rlimit{Cur: 5, Max: 5}
	c.Limits.Set(unix.RLIMIT_NOFILE, limit, c.Creds)
	_, err := c.Dup(0)
	ok(t, "dup", err)
	_, err = c.Dup(0)
	want(t, "dup beyond the limit", err, unix.EMFILE)
}

func TestRegular(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	d, err := c.OpenFile(at, "/f", unix.O_RDWR|unix.O_CREAT, 0o644)
	ok(t, "open", err)
	defer d.Decref()
	put := func(off int64, s string) {
		t.Helper()
		b := mm.KernelBuffer([]byte(s))
		if n, err := d.Pwrite(c, &b, off); n != len(s) || err != nil {
			t.Fatalf("pwrite: %d, %v", n, err)
		}
	}
	get := func(off int64, n int) string {
		t.Helper()
		p := make([]byte, n)
		b := mm.KernelBuffer(p)
		n, err := d.Pread(c, &b, off)
		ok(t, "pread", err)
		return string(p[:n])
	}
	// A sparse file.
	put(1<<40+4090, "abcdefghij")
	if got := get(1<<40+4088, 20); got != "\x00\x00abcdefghij" {
		t.Errorf("got %q", got)
	}
	if got := get(1<<30, 8); got != strings.Repeat("\x00", 8) {
		t.Errorf("a hole holds %q", got)
	}
	var a vfs.Attr
	d.Stat(&a)
	if a.Size != 1<<40+4100 || a.Blocks != 16 {
		t.Errorf("size %d blocks %d", a.Size, a.Blocks)
	}
	if pos, err := d.Seek(c, 0, unix.SEEK_DATA); pos != 1<<40 || err != nil {
		t.Errorf("SEEK_DATA: %d, %v", pos, err)
	}
	if pos, err := d.Seek(c, 1<<40, unix.SEEK_HOLE); pos != 1<<40+4100 || err != nil {
		t.Errorf("SEEK_HOLE: %d, %v", pos, err)
	}
	big := mm.KernelBuffer([]byte("x"))
	_, err = d.Pwrite(c, &big, 1<<63-1)
	want(t, "beyond the end of the world", err, unix.EFBIG)
	put(1<<63-2, "x")
	ok(t, "truncate", d.Truncate(c, 3))
	if got := get(0, 10); got != "\x00\x00\x00" {
		t.Errorf("got %q", got)
	}
	ok(t, "truncate", d.Truncate(c, 0))
	// What was cut stays cut.
	put(0, strings.Repeat("z", 9000))
	ok(t, "truncate", d.Truncate(c, 5))
	ok(t, "truncate", d.Truncate(c, 10))
	if got := get(0, 20); got != "zzzzz\x00\x00\x00\x00\x00" {
		t.Errorf("got %q", got)
	}
	want(t, "truncate to -1", d.Truncate(c, -1), unix.EINVAL)
	// Append.
	ok(t, "F_SETFL", d.SetFlags(c, unix.O_APPEND))
	b := mm.KernelBuffer([]byte("end"))
	d.Write(c, &b)
	if pos, _ := d.Seek(c, 0, unix.SEEK_CUR); pos != 13 {
		t.Errorf("offset %d after an append", pos)
	}
	d.SetFlags(c, 0)
	// Holes.
	ok(t, "truncate", d.Truncate(c, 0))
	put(0, strings.Repeat("q", 16384))
	ok(t, "punch", d.Allocate(c, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4000, 8300))
	p := []byte(get(0, 16384))
	if !bytes.Equal(p[:4000], bytes.Repeat([]byte("q"), 4000)) || !bytes.Equal(p[4000:12300], make([]byte, 8300)) || p[12300] != 'q' {
		t.Error("the hole is wrong")
	}
	d.Stat(&a)
	if a.Blocks != 16 {
		t.Errorf("%d blocks after the hole", a.Blocks)
	}
	ok(t, "allocate", d.Allocate(c, 0, 0, 40000))
	d.Stat(&a)
	if a.Size != 40000 || a.Blocks != 80 {
		t.Errorf("size %d blocks %d", a.Size, a.Blocks)
	}
	want(t, "allocate too much", d.Allocate(c, 0, 0, 1<<50), unix.ENOSPC)
	c.Limits = kernel.DefaultLimits(10)
	c.Limits.Set(unix.RLIMIT_FSIZE, unix.Rlimit{Cur: 50000, Max: 50000}, c.Creds)
	b = mm.KernelBuffer(make([]byte, 20))
	if n, err := d.Pwrite(c, &b, 49990); n != 10 || err != nil {
		t.Errorf("up to RLIMIT_FSIZE: %d, %v", n, err)
	}
	_, err = d.Pwrite(c, &b, 50000)
	want(t, "beyond RLIMIT_FSIZE", err, unix.EFBIG)
	want(t, "truncate beyond RLIMIT_FSIZE", d.Truncate(c, 50001), unix.EFBIG)
	// The frames come back with the file.
	ok(t, "unlink", c.Unlink(at, "/f"))
}

func TestNoSpace(t *testing.T) {
	fs := tmpfs.New(tmpfs.Options{Pages: 4, Inodes: 3})
	c := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), "")))
	at := int32(vfs.AtCWD)
	d, err := c.OpenFile(at, "/f", unix.O_RDWR|unix.O_CREAT, 0o644)
	ok(t, "open", err)
	b := mm.KernelBuffer(make([]byte, 5*4096))
	if n, err := d.Write(c, &b); n != 4*4096 || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
	_, err = d.Write(c, &b)
	want(t, "a full file system", err, unix.ENOSPC)
	ok(t, "mkdir", c.Mkdir(at, "/d", 0o755))
	want(t, "too many inodes", c.Mkdir(at, "/e", 0o755), unix.ENOSPC)
	ok(t, "unlink", c.Unlink(at, "/f"))
	if fs.Pages() != 4 {
		t.Errorf("%d pages while open", fs.Pages())
	}
	d.Decref()
	if fs.Pages() != 0 {
		t.Errorf("%d pages after the last close", fs.Pages())
	}
	ok(t, "room again", c.Mkdir(at, "/e", 0o755))
}

// Whoever stays in a file system that is unmounted lazily goes on making directories there and removing them.
func TestUnmountedLazily(t *testing.T) {
	c := newContext(t)
	ok(t, "mkdir", c.Mkdir(vfs.AtCWD, "/mnt", 0o755))
	ok(t, "mount", c.Mount("none", "/mnt", "tmpfs", 0, ""))
	ok(t, "chdir", c.Chdir("/mnt"))
	churn := func() {
		t.Helper()
		for range 100 {
			ok(t, "mkdir", c.Mkdir(vfs.AtCWD, "d", 0o755))
			ok(t, "rmdir", c.Rmdir(vfs.AtCWD, "d"))
		}
	}
	for i := range 20 {
		ok(t, "mkdir", c.Mkdir(vfs.AtCWD, fmt.Sprint(i), 0o755))
	}
	for i := range 10 { // the list keeps holes
		ok(t, "rmdir", c.Rmdir(vfs.AtCWD, fmt.Sprint(i)))
	}
	churn()
	ok(t, "mkdir", c.Mkdir(vfs.AtCWD, "left", 0o755))
	ok(t, "rmdir", c.Rmdir(vfs.AtCWD, "left"))
	ok(t, "umount", c.Unmount("/mnt", unix.MNT_DETACH))
	churn()
}

func TestInPlace(t *testing.T) {
	huge, got := metal.AllocHuge(metal.OwnerKernel)
	if !got {
		t.Fatal("no memory")
	}
	metal.SplitHuge(huge)
	const size = 3*4096 + 100
	module := metal.View(huge, 4*4096)
	for i := range module {
		module[i] = byte(i / 4096 * 16)
		if i >= size {
			module[i] = 0xee
		}
	}
	fs := tmpfs.New(tmpfs.Options{})
	_, err := fs.AddFile("/bin/prog", huge, size, 0o755)
	ok(t, "AddFile", err)
	c := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), "")))
	if got := read(t, c, "/bin/prog"); got != string(module[:size]) {
		t.Error("the content is wrong")
	}
	if fs.Pages() != 0 {
		t.Errorf("reading took %d frames", fs.Pages())
	}
	d, err := c.OpenFile(vfs.AtCWD, "/bin/prog", unix.O_RDWR, 0)
	ok(t, "open", err)
	m, err := d.Mappable(c)
	ok(t, "Mappable", err)
	frame, err := m.MapFrame(4096, false)
	ok(t, "MapFrame", err)
	if frame != huge+4096 {
		t.Errorf("page 1 is mapped at %#x, not in place", frame)
	}
	metal.Unref(frame)
	// The last page is a copy with zeros behind the end.
	frame, err = m.MapFrame(3*4096, false)
	ok(t, "MapFrame", err)
	if v := metal.View(frame, 4096); v[99] != 48 || v[100] != 0 || v[4095] != 0 {
		t.Error("the last page shows what is behind the file")
	}
	metal.Unref(frame)
	_, err = m.MapFrame(4*4096, false)
	want(t, "beyond the end", err, unix.EFAULT)
	b := mm.KernelBuffer([]byte("new"))
	_, err = d.Pwrite(c, &b, 4096+10)
	ok(t, "pwrite", err)
	if module[4096+10] != 16 {
		t.Error("a write changed the module")
	}
	frame, _ = m.MapFrame(4096, false)
	if v := metal.View(frame, 4096); string(v[9:14]) != "\x10new\x10" {
		t.Errorf("the written page holds %q", v[9:14])
	}
	metal.Unref(frame)
	ok(t, "truncate", d.Truncate(c, 10))
	ok(t, "truncate", d.Truncate(c, 20))
	if got := read(t, c, "/bin/prog"); got != string(append(make([]byte, 10), make([]byte, 10)...)) {
		t.Errorf("after truncation: %q", got)
	}
	d.Decref()
	ok(t, "unlink", c.Unlink(vfs.AtCWD, "/bin/prog"))
	if fs.Pages() != 0 {
		t.Errorf("%d frames left", fs.Pages())
	}
}

func TestMounts(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	ok(t, "mkdir", c.Mkdir(at, "/mnt", 0o755))
	write(t, c, "/mnt/below", "")
	ok(t, "mount", c.Mount("none", "/mnt", "tmpfs", unix.MS_NOSUID, "size=64k,mode=755"))
	if got := names(t, c, "/mnt"); got != ". .." {
		t.Errorf("/mnt holds %q", got)
	}
	write(t, c, "/mnt/f", "m")
	var a, b vfs.Attr
	c.Stat(at, "/mnt/..", 0, &a)
	c.Stat(at, "/", 0, &b)
	if a.Ino != b.Ino || a.Dev != b.Dev {
		t.Error(".. of a mount's root leads elsewhere")
	}
	want(t, "link across", c.Link(at, "/mnt/f", at, "/f", 0), unix.EXDEV)
	want(t, "rename across", c.Rename(at, "/mnt/f", at, "/f", 0), unix.EXDEV)
	want(t, "rmdir of a mount point", c.Rmdir(at, "/mnt"), unix.EBUSY)
	ok(t, "mkdir", c.Mkdir(at, "/bind", 0o755))
	ok(t, "bind", c.Mount("/mnt", "/bind", "", unix.MS_BIND, ""))
	if got := read(t, c, "/bind/f"); got != "m" {
		t.Errorf("bound: %q", got)
	}
	ok(t, "chdir", c.Chdir("/bind"))
	if got, _ := c.Getcwd(); got != "/bind" {
		t.Errorf("getcwd %q", got)
	}
	want(t, "busy", c.Unmount("/bind", 0), unix.EBUSY)
	ok(t, "chdir", c.Chdir("/"))
	// Nothing propagates, and so nothing can be made to.
	want(t, "shared", c.Mount("", "/bind", "", unix.MS_SHARED, ""), unix.EINVAL)
	ok(t, "private", c.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	ok(t, "unbindable", c.Mount("", "/bind", "", unix.MS_UNBINDABLE, ""))
	ok(t, "remount", c.Mount("", "/bind", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	want(t, "bind of what is unbindable", c.Mount("/bind", "/mnt", "", unix.MS_BIND, ""), unix.EINVAL)
	ok(t, "private", c.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	_, err := c.OpenFile(at, "/bind/new", unix.O_CREAT|unix.O_WRONLY, 0o644)
	want(t, "create on a read-only mount", err, unix.EROFS)
	want(t, "mkdir on a read-only mount", c.Mkdir(at, "/bind/x", 0o755), unix.EROFS)
	var lines []string
	for _, m := range c.Files.Namespace().Mounts(c.Files.Root()) {
		lines = append(lines, m.Source+" "+m.Point+" "+m.Type+" "+m.Options)
	}
	if got := strings.Join(lines, ";"); got != "rootfs / tmpfs rw,relatime;none /mnt tmpfs rw,nosuid,relatime;none /bind tmpfs ro,relatime" {
		t.Errorf("mounts: %s", got)
	}
	ok(t, "umount", c.Unmount("/bind", 0))
	ok(t, "umount", c.Unmount("/mnt", 0))
	want(t, "umount again", c.Unmount("/mnt", 0), unix.EINVAL)
	if got := names(t, c, "/mnt"); got != ". .. below" {
		t.Errorf("/mnt holds %q", got)
	}
	var s vfs.StatFS
	ok(t, "statfs", c.Statfs("/", &s))
	if s.Type != unix.TMPFS_MAGIC || s.Blocks == 0 {
		t.Errorf("statfs: %+v", s)
	}
	ok(t, "chroot", c.Chroot("/mnt"))
	if got := read(t, c, "/../below"); got != "" {
		t.Errorf("chroot: %q", got)
	}
}

func pipe(t testing.TB, c *vfs.Context, flags uint32) (r, w *vfs.Description) {
	t.Helper()
	r, w, err := c.Pipe(flags)
	ok(t, "pipe", err)
	return r, w
}

func TestPipe(t *testing.T) {
	c := newContext(t)
	r, w := pipe(t, c, 0)
	get := func(n int) (string, error) {
		p := make([]byte, n)
		b := mm.KernelBuffer(p)
		n, err := r.Read(c, &b)
		return string(p[:n]), err
	}
	put := func(s string) (int, error) {
		b := mm.KernelBuffer([]byte(s))
		return w.Write(c, &b)
	}
	_, err := get(1)
	want(t, "read of an empty pipe", err, unix.EAGAIN)
	put("hello ")
	put("world")
	if s, err := get(100); s != "hello world" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	// Fill it; a write of PIPE_BUF is all or nothing.
	total := 0
	for {
		n, err := put(strings.Repeat("x", 3000))
		if err != nil {
			want(t, "full", err, unix.EAGAIN)
			break
		}
		total += n
	}
	if total%3000 != 0 || w.Readiness(waiter.EventOut)&waiter.EventOut != 0 {
		t.Errorf("%d bytes, readiness %#x", total, w.Readiness(waiter.EventOut))
	}
	if n := vfs.PipeOf(r).Buffered(); n != total {
		t.Errorf("FIONREAD %d, want %d", n, total)
	}
	if _, err := vfs.PipeOf(r).Resize(c, 4096); err != unix.EBUSY {
		t.Errorf("shrink of a full pipe: %v", err)
	}
	if n, err := vfs.PipeOf(r).Resize(c, 100000); n != 131072 || err != nil {
		t.Errorf("resize: %d, %v", n, err)
	}
	for total > 0 {
		s, err := get(5000)
		ok(t, "read", err)
		total -= len(s)
	}
	if n, err := put(strings.Repeat("y", 300000)); n != 131072 || err != nil {
		t.Errorf("a large write: %d, %v", n, err)
	}
	r.Decref()
	_, err = put("x")
	want(t, "nobody reads", err, unix.EPIPE)
	if w.Readiness(0)&waiter.EventErr == 0 {
		t.Error("no EventErr without readers")
	}
	w.Decref()

	r, w = pipe(t, c, unix.O_DIRECT)
	put("one")
	put("two")
	if s, _ := get(2); s != "on" {
		t.Errorf("packet %q", s)
	}
	if s, _ := get(10); s != "two" {
		t.Errorf("packet %q", s)
	}
	put("last")
	w.Decref()
	if s, _ := get(10); s != "last" {
		t.Errorf("after close %q", s)
	}
	if s, err := get(10); s != "" || err != nil {
		t.Errorf("end of file: %q, %v", s, err)
	}
	if r.Readiness(0)&waiter.EventHUp == 0 {
		t.Error("no EventHUp without writers")
	}
	// Opened again by way of /dev/fd, it doesn't wait for a writer as a FIFO does.
	again, err := r.Inode().Open(c, vfs.Path{}, unix.O_RDONLY)
	ok(t, "open", err)
	b := mm.KernelBuffer(make([]byte, 1))
	if n, err := again.Read(c, &b, 0); n != 0 || err != nil || again.Readiness(0)&waiter.EventHUp == 0 {
		t.Errorf("opened again: %d, %v", n, err)
	}
	again.Release()
	r.Decref()
}

func TestFIFO(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	ok(t, "mkfifo", c.Mknod(at, "/p", unix.S_IFIFO|0o644, 0))
	_, err := c.OpenFile(at, "/p", unix.O_WRONLY|unix.O_NONBLOCK, 0)
	want(t, "nobody reads", err, unix.ENXIO)
	got := make(chan string)
	go func() {
		d, err := c.OpenFile(at, "/p", unix.O_RDONLY, 0)
		if err != nil {
			got <- err.Error()
			return
		}
		defer d.Decref()
		e, ch := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp)
		d.EventRegister(&e)
		defer d.EventUnregister(&e)
		p := make([]byte, 10)
		for {
			b := mm.KernelBuffer(p)
			n, err := d.Read(c, &b)
			if err != unix.EAGAIN {
				got <- string(p[:n])
				return
			}
			<-ch
		}
	}()
	d, err := c.OpenFile(at, "/p", unix.O_WRONLY, 0)
	ok(t, "open", err)
	b := mm.KernelBuffer([]byte("through"))
	d.Write(c, &b)
	if s := <-got; s != "through" {
		t.Errorf("got %q", s)
	}
	d.Decref()
}

func TestXattr(t *testing.T) {
	c := newContext(t)
	write(t, c, "/f", "")
	p, err := c.Walk(vfs.AtCWD, "/f", 0)
	ok(t, "walk", err)
	_, err = c.GetXattr(p, "user.a")
	want(t, "get", err, unix.ENODATA)
	ok(t, "set", c.SetXattr(p, "user.a", []byte("1"), 0))
	want(t, "create", c.SetXattr(p, "user.a", nil, unix.XATTR_CREATE), unix.EEXIST)
	want(t, "replace", c.SetXattr(p, "user.b", nil, unix.XATTR_REPLACE), unix.ENODATA)
	want(t, "other", c.SetXattr(p, "other.b", nil, 0), unix.EOPNOTSUPP)
	if v, err := c.GetXattr(p, "user.a"); string(v) != "1" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	ok(t, "trusted", c.SetXattr(p, "trusted.x", nil, 0))
	if l, _ := c.ListXattr(p); fmt.Sprint(l) != "[trusted.x user.a]" {
		t.Error(l)
	}
	if l, _ := user(c, 5).ListXattr(p); fmt.Sprint(l) != "[user.a]" {
		t.Error(l)
	}
	ok(t, "remove", c.RemoveXattr(p, "user.a"))
}

func BenchmarkPipe(b *testing.B) {
	c := newContext(b)
	r, w := pipe(b, c, 0)
	p := []byte("x")
	b.ReportAllocs()
	for range b.N {
		out := mm.KernelBuffer(p)
		w.Write(c, &out)
		in := mm.KernelBuffer(p)
		r.Read(c, &in)
	}
	r.Decref()
	w.Decref()
}

func BenchmarkStat(b *testing.B) {
	c := newContext(b)
	c.Mkdir(vfs.AtCWD, "/a", 0o755)
	c.Mkdir(vfs.AtCWD, "/a/b", 0o755)
	write(b, c, "/a/b/c", "x")
	var a vfs.Attr
	b.ReportAllocs()
	for range b.N {
		c.Stat(vfs.AtCWD, "/a/b/c", 0, &a)
	}
}

func TestWhiteout(t *testing.T) {
	c := newContext(t)
	d, err := c.OpenFile(vfs.AtCWD, "/old", unix.O_CREAT|unix.O_WRONLY, 0o644)
	ok(t, "create", err)
	d.Decref()
	want(t, "with exchange", c.Rename(vfs.AtCWD, "/old", vfs.AtCWD, "/new", unix.RENAME_WHITEOUT|unix.RENAME_EXCHANGE), unix.EINVAL)
	ok(t, "rename", c.Rename(vfs.AtCWD, "/old", vfs.AtCWD, "/new", unix.RENAME_WHITEOUT))
	var a vfs.Attr
	ok(t, "stat", c.Stat(vfs.AtCWD, "/old", 0, &a))
	if a.Mode != unix.S_IFCHR || a.Rdev != 0 || a.Nlink != 1 {
		t.Errorf("the whiteout is %o, %#x, %d links", a.Mode, a.Rdev, a.Nlink)
	}
	ok(t, "stat", c.Stat(vfs.AtCWD, "/new", 0, &a))
	ok(t, "unlink", c.Unlink(vfs.AtCWD, "/old"))
	ok(t, "unlink", c.Unlink(vfs.AtCWD, "/new"))
}
