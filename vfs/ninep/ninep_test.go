package ninep

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
)

func (m *mounted) ok(what string, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%s: %v", what, err)
	}
}

func (m *mounted) want(what string, got, wanted error) {
	m.t.Helper()
	if !errors.Is(got, wanted) {
		m.t.Errorf("%s: got %v, want %v", what, got, wanted)
	}
}

func (m *mounted) open(path string, flags uint32) *vfs.Description {
	m.t.Helper()
	d, err := m.OpenFile(vfs.AtCWD, path, flags, 0o644)
	m.ok("open "+path, err)
	return d
}

func (m *mounted) write(path, content string) {
	m.t.Helper()
	d := m.open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	defer d.Decref()
	m.put(d, content)
}

func (m *mounted) put(d *vfs.Description, content string) {
	m.t.Helper()
	b := mm.KernelBuffer([]byte(content))
	n, err := d.Write(m.Context, &b)
	m.ok("write", err)
	if n != len(content) {
		m.t.Fatalf("wrote %d bytes of %d", n, len(content))
	}
}

func (m *mounted) get(d *vfs.Description, n int) string {
	m.t.Helper()
	p := make([]byte, n)
	b := mm.KernelBuffer(p)
	n, err := d.Read(m.Context, &b)
	m.ok("read", err)
	return string(p[:n])
}

func (m *mounted) read(path string) string {
	m.t.Helper()
	d := m.open(path, unix.O_RDONLY)
	defer d.Decref()
	var all strings.Builder
	for {
		s := m.get(d, 100000)
		if s == "" {
			return all.String()
		}
		all.WriteString(s)
	}
}

func (m *mounted) host(path string) string { return filepath.Join(m.dir, path) }

func (m *mounted) hostWrite(path, content string) {
	m.t.Helper()
	m.ok("host", os.WriteFile(m.host(path), []byte(content), 0o644))
}

func (m *mounted) hostRead(path string) string {
	m.t.Helper()
	p, err := os.ReadFile(m.host(path))
	m.ok("host", err)
	return string(p)
}

func pattern(n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return string(p)
}

func TestReadsWhatTheHostHas(t *testing.T) {
	m := mount(t)
	for _, n := range []int{0, 1, 4095, 4096, 4097, 300000, 3 << 20} {
		name := fmt.Sprint("file", n)
		content := pattern(n, uint64(n))
		m.hostWrite(name, content)
		if got := m.read("/" + name); got != content {
			t.Errorf("%s: %d bytes came, or others", name, len(got))
		}
		before := m.pipe.count(tread)
		if got := m.read("/" + name); got != content {
			t.Errorf("%s: not the same the second time", name)
		}
		if after := m.pipe.count(tread); after != before && n > 0 {
			t.Errorf("%s: the second time took %d reads of the server", name, after-before)
		}
	}
	if n := m.pipe.count(tread); n > 40 {
		t.Errorf("%d reads", n)
	}
	m.want("missing", func() error { _, err := m.OpenFile(vfs.AtCWD, "/none", unix.O_RDONLY, 0); return err }(), unix.ENOENT)
}

func TestHostSeesWhatIsWritten(t *testing.T) {
	m := mount(t)
	content := pattern(1<<20+123, 7)
	m.write("/f", content)
	if got := m.hostRead("f"); got != content {
		t.Errorf("the host has %d bytes, or others", len(got))
	}
	m.write("/f", "short")
	if got := m.hostRead("f"); got != "short" {
		t.Errorf("the host has %q", got)
	}
	d := m.open("/f", unix.O_WRONLY|unix.O_APPEND)
	m.put(d, "er")
	d.Decref()
	if got := m.hostRead("f"); got != "shorter" {
		t.Errorf("the host has %q", got)
	}
	if got := m.read("/f"); got != "shorter" {
		t.Errorf("read %q", got)
	}
}

// Random writes, reads and truncations, against the same done to memory.
func TestRandomAccess(t *testing.T) {
	m := mount(t)
	d := m.open("/f", unix.O_RDWR|unix.O_CREAT)
	defer d.Decref()
	r := rand.New(rand.NewPCG(1, 2))
	var model []byte
	const most = 200000
	for step := range 1500 {
		off, n := r.IntN(most), r.IntN(20000)
		if r.IntN(3) == 0 {
			off, n = off&^4095, 4096*(1+r.IntN(3))
		}
		switch r.IntN(8) {
		case 0:
			m.ok("truncate", d.Truncate(m.Context, int64(off)))
			if off <= len(model) {
				model = model[:off:off]
			} else {
				model = append(model, make([]byte, off-len(model))...)
			}
		case 1, 2, 3:
			p := []byte(pattern(n, uint64(step)))
			b := mm.KernelBuffer(p)
			if k, err := d.Pwrite(m.Context, &b, int64(off)); err != nil || k != n {
				t.Fatalf("step %d: wrote %d of %d: %v", step, k, n, err)
			}
			if n == 0 {
				break
			}
			if off+n > len(model) {
				model = append(model, make([]byte, off+n-len(model))...)
			}
			copy(model[off:], p)
		case 4:
			Reclaim(20)
		default:
			p := make([]byte, n)
			b := mm.KernelBuffer(p)
			k, err := d.Pread(m.Context, &b, int64(off))
			var wanted []byte
			if off < len(model) {
				wanted = model[off:min(len(model), off+n)]
			}
			if err != nil || !bytes.Equal(p[:k], wanted) {
				t.Fatalf("step %d: read %d bytes at %d, of %d: %v; the file has %d", step, k, off, n, err, len(model))
			}
		}
	}
	if got := m.hostRead("f"); got != string(model) {
		t.Errorf("the host has something else: %d bytes, of %d", len(got), len(model))
	}
}

func TestDirectories(t *testing.T) {
	m := mount(t)
	const n = 3000
	var wanted []string
	for k := range n {
		name := fmt.Sprintf("file-%05d", k)
		m.hostWrite(name, "")
		wanted = append(wanted, name)
	}
	m.ok("mkdir", m.Mkdir(vfs.AtCWD, "/dir", 0o750))
	wanted = append(wanted, "dir", ".", "..")
	slices.Sort(wanted)
	d := m.open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	defer d.Decref()
	list := func() (got []string, offsets []int64) {
		for {
			left := 37
			before := len(got)
			m.ok("readdir", d.ReadDir(m.Context, func(e vfs.Dirent) bool {
				if left--; left < 0 {
					return false
				}
				got = append(got, e.Name)
				offsets = append(offsets, e.Next)
				return true
			}))
			if len(got) == before {
				return got, offsets
			}
		}
	}
	got, offsets := list()
	sorted := slices.Clone(got)
	slices.Sort(sorted)
	if !slices.Equal(sorted, wanted) {
		t.Errorf("%d entries, of %d", len(got), len(wanted))
	}
	if k := m.pipe.count(treaddir); k > 20 {
		t.Errorf("%d messages", k)
	}
	// Back to somewhere in the middle.
	if _, err := d.Seek(m.Context, offsets[1234], unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
	if again, _ := list(); !slices.Equal(again, got[1235:]) {
		t.Errorf("%d entries behind the 1235th, of %d", len(again), len(got)-1235)
	}
	if _, err := d.Seek(m.Context, 0, unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
	os.Remove(m.host("file-00000"))
	if again, _ := list(); len(again) != len(got)-1 {
		t.Errorf("%d entries after one was removed, of %d", len(again), len(got)-1)
	}

	var a vfs.Attr
	m.ok("stat", m.Stat(vfs.AtCWD, "/dir", 0, &a))
	if a.Mode != unix.S_IFDIR|0o750 {
		t.Errorf("mode %o", a.Mode)
	}
	m.write("/dir/f", "x")
	m.want("rmdir", m.Rmdir(vfs.AtCWD, "/dir"), unix.ENOTEMPTY)
	m.ok("unlink", m.Unlink(vfs.AtCWD, "/dir/f"))
	m.ok("rmdir", m.Rmdir(vfs.AtCWD, "/dir"))
	m.want("stat", m.Stat(vfs.AtCWD, "/dir", 0, &a), unix.ENOENT)
}

func TestNames(t *testing.T) {
	m := mount(t)
	m.write("/a", "one")
	m.ok("link", m.Link(vfs.AtCWD, "/a", vfs.AtCWD, "/b", 0))
	var a, b vfs.Attr
	m.ok("stat", m.Stat(vfs.AtCWD, "/a", 0, &a))
	m.ok("stat", m.Stat(vfs.AtCWD, "/b", 0, &b))
	if a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
		t.Errorf("%+v %+v", a, b)
	}
	// The name that the fid was walked to goes; the file stays.
	m.ok("unlink", m.Unlink(vfs.AtCWD, "/a"))
	m.write("/a", "another")
	m.ok("stat", m.Stat(vfs.AtCWD, "/b", 0, &b))
	if got := m.read("/b"); got != "one" || b.Size != 3 {
		t.Errorf("read %q, size %d", got, b.Size)
	}
	m.ok("chmod", m.Chmod(vfs.AtCWD, "/b", 0o600, 0))
	if s, err := os.Stat(m.host("b")); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("the host has %v, %v", s, err)
	}
	m.ok("rename", m.Rename(vfs.AtCWD, "/a", vfs.AtCWD, "/b", 0))
	if got := m.read("/b"); got != "another" {
		t.Errorf("read %q", got)
	}
	m.want("the old name", m.Stat(vfs.AtCWD, "/a", 0, &a), unix.ENOENT)
	m.ok("mkdir", m.Mkdir(vfs.AtCWD, "/d", 0o755))
	m.ok("mkdir", m.Mkdir(vfs.AtCWD, "/d/e", 0o755))
	m.write("/d/e/f", "deep")
	m.ok("rename", m.Rename(vfs.AtCWD, "/d", vfs.AtCWD, "/moved", 0))
	m.fs.DropFids()
	if got := m.read("/moved/e/f"); got != "deep" {
		t.Errorf("read %q", got)
	}
	m.ok("symlink", m.Symlink("moved/e/f", vfs.AtCWD, "/s"))
	if got, err := m.Readlink(vfs.AtCWD, "/s"); err != nil || got != "moved/e/f" {
		t.Errorf("readlink: %q, %v", got, err)
	}
	if got := m.read("/s"); got != "deep" {
		t.Errorf("read %q", got)
	}
	m.want("rename", m.Rename(vfs.AtCWD, "/s", vfs.AtCWD, "/b", unix.RENAME_NOREPLACE), unix.EEXIST)
	m.want("exclusive", func() error {
		_, err := m.OpenFile(vfs.AtCWD, "/b", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
		return err
	}(), unix.EEXIST)
	long := strings.Repeat("n", 255)
	m.write("/"+long, "long")
	if got := m.read("/" + long); got != "long" {
		t.Errorf("read %q", got)
	}
	m.ok("fifo", m.Mknod(vfs.AtCWD, "/fifo", unix.S_IFIFO|0o600, 0))
	if s, err := os.Lstat(m.host("fifo")); err == nil {
		t.Errorf("the host has %v", s)
	}
	m.ok("mknod", m.Mknod(vfs.AtCWD, "/plain", unix.S_IFREG|0o600, 0))
}

// What the server is not asked to make is made in memory.
func TestSpecials(t *testing.T) {
	m := mount(t)
	m.ok("mkdir", m.Mkdir(vfs.AtCWD, "/d", 0o755))
	m.write("/d/file", "x")
	m.ok("fifo", m.Mknod(vfs.AtCWD, "/d/refused", unix.S_IFIFO|0o600, 0))
	m.want("again", m.Mknod(vfs.AtCWD, "/d/refused", unix.S_IFIFO|0o600, 0), unix.EEXIST)
	_, err := m.Bind("/d/refused-socket", 0o755)
	m.ok("bind", err)
	d := m.open("/d/refused", unix.O_RDWR)
	m.put(d, "through")
	if got := m.get(d, 10); got != "through" {
		t.Errorf("read %q", got)
	}
	var a vfs.Attr
	m.ok("fstat", d.Stat(&a))
	if a.Mode != unix.S_IFIFO|0o600 || a.Nlink != 1 {
		t.Errorf("%+v", a)
	}
	d.Decref()
	list := func() string {
		d := m.open("/d", unix.O_RDONLY|unix.O_DIRECTORY)
		defer d.Decref()
		var names []string
		// One entry at a time, each from the cookie of the one before.
		for full := true; full; {
			full = false
			m.ok("list", d.ReadDir(m.Context, func(e vfs.Dirent) bool {
				if full {
					return false
				}
				if e.Name != "." && e.Name != ".." {
					names = append(names, e.Name)
				}
				full = true
				return true
			}))
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	if got := list(); got != "file refused refused-socket" {
		t.Errorf("the directory has %q", got)
	}
	m.want("rmdir", m.Rmdir(vfs.AtCWD, "/d"), unix.ENOTEMPTY)
	m.ok("rename", m.Rename(vfs.AtCWD, "/d/refused", vfs.AtCWD, "/d/file", 0))
	m.ok("link", m.Link(vfs.AtCWD, "/d/file", vfs.AtCWD, "/d/link", 0))
	m.write("/d/other", "other")
	m.ok("rename", m.Rename(vfs.AtCWD, "/d/other", vfs.AtCWD, "/d/refused-socket", 0))
	if got := list(); got != "file link refused-socket" || m.read("/d/refused-socket") != "other" {
		t.Errorf("the directory has %q", got)
	}
	for _, n := range []string{"file", "link", "refused-socket"} {
		m.ok("unlink "+n, m.Unlink(vfs.AtCWD, "/d/"+n))
	}
	m.ok("rmdir", m.Rmdir(vfs.AtCWD, "/d"))
	// The host's own are shown, and what is behind them is here.
	m.ok("mkfifo", unix.Mkfifo(m.host("hosts"), 0o600))
	opens := m.pipe.count(tlopen)
	d = m.open("/hosts", unix.O_RDWR)
	m.put(d, "through")
	if got := m.get(d, 10); got != "through" {
		t.Errorf("read %q", got)
	}
	d.Decref()
	m.want("chmod", m.Chmod(vfs.AtCWD, "/hosts", 0o666, 0), unix.EOPNOTSUPP)
	if n := m.pipe.count(tlopen); n != opens {
		t.Errorf("the server was asked to open %d FIFOs", n-opens)
	}
	if all := &m.fs.specials; all.count.Load() != 0 || len(all.dirs) != 0 {
		t.Errorf("%d files left in memory", all.count.Load())
	}
}

func TestFilesWithoutAName(t *testing.T) {
	m := mount(t)
	d := m.open("/f", unix.O_RDWR|unix.O_CREAT)
	m.put(d, "hello, world")
	m.ok("unlink", m.Unlink(vfs.AtCWD, "/f"))
	m.write("/f", "another file of that name")
	var a vfs.Attr
	m.ok("fstat", d.Stat(&a))
	if a.Nlink != 0 || a.Size != 12 {
		t.Errorf("%+v", a)
	}
	m.ok("truncate", d.Truncate(m.Context, 5))
	m.ok("truncate", d.Truncate(m.Context, 10))
	m.ok("chmod", d.Inode().SetAttr(m.Context, &vfs.SetAttr{Valid: vfs.SetMode, Mode: 0o600}))
	m.ok("stat", d.Stat(&a))
	if a.Size != 10 || a.Mode&0o777 != 0o600 {
		t.Errorf("%+v", a)
	}
	d.Seek(m.Context, 0, unix.SEEK_SET)
	if got := m.get(d, 100); got != "hello\x00\x00\x00\x00\x00" {
		t.Errorf("read %q", got)
	}
	if got := m.hostRead("f"); got != "another file of that name" {
		t.Errorf("the host has %q", got)
	}
	d.Decref()

	temporary, err := m.OpenFile(vfs.AtCWD, "/", unix.O_RDWR|unix.O_TMPFILE|unix.O_EXCL, 0o600)
	m.ok("O_TMPFILE", err)
	if _, err := m.OpenFile(vfs.AtCWD, "/", unix.O_RDWR|unix.O_TMPFILE, 0o600); err != unix.EOPNOTSUPP {
		t.Errorf("a nameless file that may be linked: %v", err)
	}
	m.put(temporary, "nobody sees me")
	temporary.Seek(m.Context, 0, unix.SEEK_SET)
	if got := m.get(temporary, 100); got != "nobody sees me" {
		t.Errorf("read %q", got)
	}
	m.ok("grow", temporary.Truncate(m.Context, 3*4096))
	mapped, err := temporary.Mappable(m.Context)
	m.ok("mappable", err)
	for page := range uint64(3) {
		frame, err := mapped.MapFrame(page*4096, false)
		m.ok("map", err)
		want := make([]byte, 4096)
		if page == 0 {
			copy(want, "nobody sees me")
		}
		if !bytes.Equal(metal.View(frame, 4096), want) {
			t.Errorf("page %d is mapped as something else", page)
		}
		metal.Unref(frame)
	}
	m.ok("cut", temporary.Truncate(m.Context, 6))
	m.ok("grow", temporary.Truncate(m.Context, 5000))
	temporary.Seek(m.Context, 0, unix.SEEK_SET)
	if got := m.get(temporary, 6000); got != "nobody"+strings.Repeat("\x00", 4994) {
		t.Errorf("read %q, of %d bytes", clip(got), len(got))
	}
	list, _ := os.ReadDir(m.dir)
	if len(list) != 1 {
		t.Errorf("the host has %v", list)
	}
	temporary.Decref()
}

func clip(s string) string { return s[:min(len(s), 100)] }

func TestHostChangesShow(t *testing.T) {
	m := mount(t)
	m.hostWrite("f", "first")
	m.hostWrite("gone", "x")
	if got := m.read("/f") + m.read("/gone"); got != "firstx" {
		t.Errorf("read %q", got)
	}
	m.want("missing", func() error { var a vfs.Attr; return m.Stat(vfs.AtCWD, "/late", 0, &a) }(), unix.ENOENT)
	d := m.open("/f", unix.O_RDONLY)
	defer d.Decref()
	m.hostWrite("f", "the second one, which is longer")
	m.hostWrite("late", "l")
	os.Remove(m.host("gone"))
	time.Sleep(time.Duration(freshFor) + 50*time.Millisecond)
	if got := m.read("/f"); got != "the second one, which is longer" {
		t.Errorf("read %q", got)
	}
	if got := m.get(d, 100); got != "the second one, which is longer" {
		t.Errorf("the open file reads %q", got)
	}
	if got := m.read("/late"); got != "l" {
		t.Errorf("read %q", got)
	}
	var a vfs.Attr
	m.want("removed", m.Stat(vfs.AtCWD, "/gone", 0, &a), unix.ENOENT)
}

// That a name is missing isn't believed while something is renamed: a server whose fids are paths may not find
// what is there.
func TestMissingWhileRenaming(t *testing.T) {
	m := mount(t)
	var a vfs.Attr
	m.fs.renamesBegun.Add(1)
	m.want("missing", m.Stat(vfs.AtCWD, "/f", 0, &a), unix.ENOENT)
	m.hostWrite("f", "there")
	if got := m.read("/f"); got != "there" {
		t.Errorf("read %q", got)
	}
	m.fs.renamesOver.Add(1)
	m.want("missing", m.Stat(vfs.AtCWD, "/g", 0, &a), unix.ENOENT)
	m.hostWrite("g", "late")
	m.want("remembered", m.Stat(vfs.AtCWD, "/g", 0, &a), unix.ENOENT)
}

// Names that were found are looked up again when they are old: the host may have put another file there.
func TestHostReplaces(t *testing.T) {
	m := mount(t)
	m.ok("mkdir", os.MkdirAll(m.host("d/sub"), 0o755))
	m.hostWrite("d/sub/f", "old")
	m.hostWrite("d/becomes", "a file")
	m.hostWrite("d/moves", "content")
	m.ok("mkdir", m.Chdir("/d/sub"))
	if got := m.read("/d/sub/f") + m.read("f") + m.read("/d/becomes") + m.read("/d/moves"); got != "oldolda filecontent" {
		t.Errorf("read %q", got)
	}
	open := m.open("/d/sub/f", unix.O_RDONLY)
	defer open.Decref()
	m.ok("remove", os.Remove(m.host("d/becomes")))
	m.ok("mkdir", os.Mkdir(m.host("d/becomes"), 0o700))
	m.hostWrite("d/becomes/x", "inside")
	m.hostWrite("d/new", "a new one")
	m.ok("rename", os.Rename(m.host("d/new"), m.host("d/sub/f")))
	m.ok("rename", os.Rename(m.host("d/moves"), m.host("d/moved")))
	time.Sleep(time.Duration(freshFor) + 50*time.Millisecond)
	if got := m.read("/d/sub/f"); got != "a new one" {
		t.Errorf("read %q", got)
	}
	if got := m.read("f"); got != "a new one" {
		t.Errorf("from the working directory, read %q", got)
	}
	if got := m.get(open, 10); got != "old" {
		t.Errorf("the file that was replaced has %q", got)
	}
	var a vfs.Attr
	if err := open.Stat(&a); err != nil || a.Nlink != 0 {
		t.Errorf("it has %d names, %v", a.Nlink, err)
	}
	if got := m.read("/d/becomes/x"); got != "inside" {
		t.Errorf("read %q", got)
	}
	m.want("moved", m.Stat(vfs.AtCWD, "/d/moves", 0, &a), unix.ENOENT)
	if got := m.read("/d/moved"); got != "content" {
		t.Errorf("read %q", got)
	}
	m.ok("remove", os.RemoveAll(m.host("d")))
	time.Sleep(time.Duration(freshFor) + 50*time.Millisecond)
	m.want("removed", m.Stat(vfs.AtCWD, "f", 0, &a), unix.ENOENT)
	m.want("removed", m.Stat(vfs.AtCWD, "/d", 0, &a), unix.ENOENT)
	m.ok("mkdir", m.Mkdir(vfs.AtCWD, "/d", 0o755))
	m.write("/d/f", "again")
	m.ok("chdir", m.Chdir("/"))
}

// Walking a large tree leaves a bounded number of dentries and inodes, and what is in use stays.
func TestEviction(t *testing.T) {
	m := mount(t)
	const dirs, files = 36, 280
	for d := range dirs {
		m.ok("mkdir", os.Mkdir(m.host(fmt.Sprint(d)), 0o755))
		for f := range files {
			m.hostWrite(fmt.Sprint(d, "/", f), "")
		}
	}
	m.hostWrite("0/kept", "kept")
	m.ok("chdir", m.Chdir("/0"))
	kept := m.open("/0/kept", unix.O_RDWR)
	defer kept.Decref()
	sub := m.open("/1", unix.O_RDONLY|unix.O_DIRECTORY)
	defer sub.Decref()
	var a vfs.Attr
	for d := range dirs {
		for f := range files {
			if err := m.Stat(vfs.AtCWD, fmt.Sprintf("/%d/%d", d, f), 0, &a); err != nil {
				t.Fatal(err)
			}
		}
	}
	ino := a.Ino
	for k := 0; k < 500 && vfs.CachedDentries() > vfs.MaxDentries(); k++ {
		time.Sleep(time.Millisecond)
	}
	if n := vfs.CachedDentries(); n > vfs.MaxDentries() {
		t.Errorf("%d dentries are cached, %d may be", n, vfs.MaxDentries())
	}
	m.put(kept, "still")
	if got := m.read("kept"); got != "still" {
		t.Errorf("read %q", got)
	}
	m.ok("stat", m.Stat(vfs.AtCWD, fmt.Sprintf("/%d/%d", dirs-1, files-1), 0, &a))
	if a.Ino != ino {
		t.Errorf("inode %d, before %d", a.Ino, ino)
	}
	runtime.GC()
	m.fs.DropFids()
	m.fs.inodesMu.Lock()
	alive := 0
	for _, w := range m.fs.inodes {
		if w.Value() != nil {
			alive++
		}
	}
	m.fs.inodesMu.Unlock()
	if alive > int(vfs.MaxDentries())+100 {
		t.Errorf("%d inodes are alive", alive)
	}
	m.ok("chdir", m.Chdir("/"))
}

func TestMappings(t *testing.T) {
	m := mount(t)
	m.hostWrite("f", strings.Repeat("a", 3*4096+100))
	d := m.open("/f", unix.O_RDWR)
	mapped, err := d.Mappable(m.Context)
	m.ok("mappable", err)
	counted := mapped.(mm.Counted)
	counted.MapOpen()
	if _, err := mapped.MapFrame(4*4096, false); err != unix.EFAULT {
		t.Errorf("behind the end: %v", err)
	}
	frame, err := mapped.MapFrame(4096, true)
	m.ok("map", err)
	copy(metal.View(frame, 4096), "mapped")
	if got := m.read("/f"); got[4096:4102] != "mapped" {
		t.Error("a read doesn't see what a mapping wrote")
	}
	m.ok("msync", mapped.(mm.Syncer).MapSync(0, 3*4096))
	if got := m.hostRead("f"); got[4090:4106] != "aaaaaamappedaaaa" || len(got) != 3*4096+100 {
		t.Errorf("the host has %q", got[4090:4106])
	}
	b := mm.KernelBuffer([]byte("written"))
	if _, err := d.Pwrite(m.Context, &b, 4096+100); err != nil {
		t.Fatal(err)
	}
	if string(metal.View(frame+100, 7)) != "written" {
		t.Error("a mapping doesn't see what was written")
	}
	again, err := mapped.MapFrame(3*4096, true)
	m.ok("map", err)
	copy(metal.View(again, 4096), strings.Repeat("z", 4096)) // beyond the end, too
	metal.Unref(frame)
	metal.Unref(again)
	d.Decref()
	counted.MapClose()
	if got := m.hostRead("f"); len(got) != 3*4096+100 || got[3*4096:] != strings.Repeat("z", 100) {
		t.Errorf("the host has %d bytes", len(got))
	}
	m.ok("truncate", m.Truncate("/f", 4*4096))
	if got := m.read("/f"); got[3*4096+100:] != strings.Repeat("\x00", 4096-100) {
		t.Error("what a mapping wrote behind the end shows")
	}
}

func TestXattrs(t *testing.T) {
	m := mount(t)
	m.write("/f", "x")
	p, err := m.Walk(vfs.AtCWD, "/f", 0)
	m.ok("walk", err)
	if unix.Setxattr(m.host("f"), "user.host", []byte("h"), 0) == unix.EOPNOTSUPP {
		t.Skip("the host's file system has no attributes")
	}
	value := pattern(3000, 3)
	m.ok("set", m.SetXattr(p, "user.big", []byte(value), 0))
	got, err := m.GetXattr(p, "user.big")
	if err != nil || string(got) != value {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	buffer := make([]byte, 4096)
	if n, err := unix.Getxattr(m.host("f"), "user.big", buffer); err != nil || string(buffer[:n]) != value {
		t.Errorf("the host has %d bytes, %v", n, err)
	}
}

func TestReclaim(t *testing.T) {
	m := mount(t)
	m.hostWrite("f", pattern(1<<20, 1))
	m.read("/f")
	if Resident() < 256 {
		t.Errorf("%d pages are here", Resident())
	}
	d := m.open("/f", unix.O_RDWR)
	mapped, _ := d.Mappable(m.Context)
	frame, err := mapped.MapFrame(8192, true)
	m.ok("map", err)
	if n := Reclaim(1 << 20); n < 200 {
		t.Errorf("%d pages were reclaimed", n)
	}
	if n := Resident(); n != 1 {
		t.Errorf("%d pages are here", n)
	}
	metal.Unref(frame)
	d.Decref()
	if got := m.read("/f"); got != pattern(1<<20, 1) {
		t.Error("it reads otherwise")
	}
}

func TestManyAtOnce(t *testing.T) {
	m := mount(t)
	m.hostWrite("shared", pattern(400000, 9))
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			name := fmt.Sprintf("/own%d", g)
			for k := range 20 {
				content := pattern(10000+g*1000+k, uint64(g))
				m.write(name, content)
				if m.read(name) != content {
					t.Errorf("%s: read something else", name)
				}
				if g%2 == 0 {
					Reclaim(50)
				}
				if m.read("/shared") != pattern(400000, 9) {
					t.Error("shared: read something else")
				}
				if k%5 == 4 {
					if err := m.Unlink(vfs.AtCWD, name); err != nil {
						t.Error(err)
					}
					m.fs.DropFids()
				}
			}
		})
	}
	group.Wait()
}

func TestStatfs(t *testing.T) {
	m := mount(t)
	var s vfs.StatFS
	m.ok("statfs", m.Statfs("/", &s))
	if s.Blocks == 0 || s.BlockSize == 0 || s.Type != 0x01021997 {
		t.Errorf("%+v", s)
	}
}

// A server that answers nonsense costs errors, never more.
func TestHostileServer(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 0))
		var mu sync.Mutex
		spoil := func(kind uint8, reply []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if kind == tversion || r.IntN(4) != 0 {
				return reply
			}
			switch r.IntN(6) {
			case 0: // shorter
				return reply[:r.IntN(len(reply))]
			case 1: // another tag or type
				reply[4+r.IntN(3)]++
			case 2: // noise in the body
				for range 4 {
					reply[r.IntN(len(reply))] = byte(r.Uint32())
				}
			case 3: // big numbers
				for k := 7 + r.IntN(len(reply)); k < len(reply); k++ {
					reply[k] = 0xff
				}
			case 4: // an error of any number
				return le.AppendUint32([]byte{11, 0, 0, 0, rlerror, reply[5], reply[6]}, r.Uint32N(1<<uint(r.IntN(32))))
			case 5: // a size that lies
				le.PutUint32(reply, r.Uint32())
			}
			return reply
		}
		m := mount(t)
		m.hostWrite("f", pattern(100000, seed))
		m.pipe.spoil = spoil
		for range 30 {
			m.Mkdir(vfs.AtCWD, "/d", 0o755)
			if d, err := m.OpenFile(vfs.AtCWD, "/f", unix.O_RDWR, 0); err == nil {
				b := mm.KernelBuffer(make([]byte, 50000))
				d.Read(m.Context, &b)
				b = mm.KernelBuffer(make([]byte, 50000))
				d.Write(m.Context, &b)
				d.Truncate(m.Context, 12345)
				d.Sync(false)
				if mapped, err := d.Mappable(m.Context); err == nil {
					if frame, err := mapped.MapFrame(0, true); err == nil {
						metal.Unref(frame)
					}
				}
				d.Decref()
			}
			if d, err := m.OpenFile(vfs.AtCWD, "/", unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
				n := 0
				d.ReadDir(m.Context, func(vfs.Dirent) bool { n++; return n < 1000 })
				d.Decref()
			}
			if d, err := m.OpenFile(vfs.AtCWD, "/d/new", unix.O_RDWR|unix.O_CREAT, 0o600); err == nil {
				d.Decref()
			}
			m.Rename(vfs.AtCWD, "/d/new", vfs.AtCWD, "/g", 0)
			m.Unlink(vfs.AtCWD, "/g")
			m.Symlink("f", vfs.AtCWD, "/s")
			m.Readlink(vfs.AtCWD, "/s")
			m.Unlink(vfs.AtCWD, "/s")
			var s vfs.StatFS
			m.Statfs("/", &s)
			if p, err := m.Walk(vfs.AtCWD, "/f", 0); err == nil {
				m.GetXattr(p, "user.x")
				m.SetXattr(p, "user.x", []byte("y"), 0)
				m.ListXattr(p)
			}
		}
		m.pipe.spoil = nil
	}
}

// Whichever request the server refuses, it is left with no fid but the root's.
func TestRefusalsKeepNoFids(t *testing.T) {
	m := mount(t)
	var mu sync.Mutex
	left, refused := 0, 0 // how many requests come before the one that is refused
	m.pipe.refuse = func(kind uint8) bool {
		mu.Lock()
		defer mu.Unlock()
		if kind == tclunk { // a fid is gone whatever the server says to that
			return false
		}
		left--
		if left == -1 {
			refused++
		}
		return left == -1
	}
	fids := func() int {
		m.pipe.mu.Lock()
		defer m.pipe.mu.Unlock()
		return len(m.pipe.fids)
	}
	for k := 0; ; k++ {
		dir := fmt.Sprint("/", k)
		m.ok("mkdir", os.Mkdir(m.host(dir), 0o755))
		m.hostWrite(dir+"/f", pattern(20000, 1))
		mu.Lock()
		before := refused
		left = k
		mu.Unlock()
		for _, flags := range []uint32{unix.O_RDWR, unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC, unix.O_WRONLY | unix.O_APPEND} {
			for _, n := range []string{"f", "new"} {
				d, err := m.OpenFile(vfs.AtCWD, dir+"/"+n, flags, 0o600)
				if err != nil {
					continue
				}
				b := mm.KernelBuffer(make([]byte, 5000))
				d.Read(m.Context, &b)
				b = mm.KernelBuffer(make([]byte, 5000))
				d.Write(m.Context, &b)
				d.Truncate(m.Context, 12345)
				d.Sync(false)
				if mapped, err := d.Mappable(m.Context); err == nil {
					mapped.(mm.Counted).MapOpen()
					if frame, err := mapped.MapFrame(0, true); err == nil {
						metal.Unref(frame)
					}
					mapped.(mm.Counted).MapClose()
				}
				d.Decref()
			}
		}
		if d, err := m.OpenFile(vfs.AtCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
			d.ReadDir(m.Context, func(vfs.Dirent) bool { return true })
			d.Decref()
		}
		if d, err := m.OpenFile(vfs.AtCWD, dir, unix.O_RDWR|unix.O_TMPFILE, 0o600); err == nil {
			d.Decref()
		}
		m.Mkdir(vfs.AtCWD, dir+"/d", 0o755)
		m.Symlink("f", vfs.AtCWD, dir+"/s")
		m.Readlink(vfs.AtCWD, dir+"/s")
		m.Link(vfs.AtCWD, dir+"/new", vfs.AtCWD, dir+"/d/link", 0)
		m.Rename(vfs.AtCWD, dir+"/new", vfs.AtCWD, dir+"/f", 0)
		if p, err := m.Walk(vfs.AtCWD, dir+"/f", 0); err == nil {
			m.GetXattr(p, "user.x")
			m.SetXattr(p, "user.x", []byte("y"), 0)
			m.ListXattr(p)
		}
		m.Unlink(vfs.AtCWD, dir+"/d/link")
		m.Rmdir(vfs.AtCWD, dir+"/d")
		m.fs.putCreated(nil)
		for range 10000 { // what is loaded ahead or clunked by nobody's leave
			m.fs.DropFids()
			if m.fs.Fids() == 1 && fids() == 1 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if m.fs.Fids() != 1 || fids() != 1 {
			t.Fatalf("request %d refused: the client has %d fids, the server %d, wanted the root's", k, m.fs.Fids(), fids())
		}
		if refused == before {
			if k < 50 {
				t.Errorf("only %d requests were sent", k)
			}
			break
		}
	}
}

func TestDyingServer(t *testing.T) {
	m := mount(t)
	m.hostWrite("f", "x")
	d := m.open("/f", unix.O_RDWR)
	m.pipe.conn.Close()
	b := mm.KernelBuffer(make([]byte, 10))
	if _, err := d.Read(m.Context, &b); err != unix.EIO {
		t.Errorf("read: %v", err)
	}
	m.want("sync", d.Sync(false), unix.EIO)
	m.want("open", func() error { _, err := m.OpenFile(vfs.AtCWD, "/g", unix.O_RDONLY, 0); return err }(), unix.EIO)
	d.Decref()
}

func TestMountPoints(t *testing.T) {
	m := mount(t)
	m.hostWrite("b", "")
	m.ok("mkdir", os.Mkdir(m.host("proc"), 0o755))
	for _, n := range []string{"dev", "proc", "tmp"} {
		_, err := m.fs.AddMountPoint(n, unix.S_IFDIR|0o755)
		m.ok(n, err)
	}
	m.want("mkdir", m.Mkdir(vfs.AtCWD, "/dev", 0o755), unix.EEXIST)
	d := m.open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	defer d.Decref()
	var names []string
	for range 10 {
		first := true
		m.ok("readdir", d.ReadDir(m.Context, func(e vfs.Dirent) bool {
			if !first {
				return false
			}
			first = false
			names = append(names, e.Name)
			return true
		}))
	}
	if got := strings.Join(names, " "); got != ". .. b proc dev tmp" {
		t.Errorf("the root lists %s", got)
	}
	if list, _ := os.ReadDir(m.dir); len(list) != 2 {
		t.Errorf("the host has %v", list)
	}
}
