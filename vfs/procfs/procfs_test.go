package procfs

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
	"elver/vfs/tmpfs"
)

func newProcess(t *testing.T) (*vfs.Context, *kernel.Thread) {
	t.Helper()
	root := tmpfs.New(tmpfs.Options{})
	for _, d := range []string{"/proc", "/sys", "/bin"} {
		root.Add(d, unix.S_IFDIR|0o755, 0, 0, 0)
	}
	root.AddContent("/bin/prog", []byte("program"), 0o755)
	ns := vfs.NewNamespace(root.Root(), "rootfs")
	k := kernel.New(kernel.Config{Syscall: func(*kernel.Thread) {}})
	files := vfs.NewFiles(ns)
	boot := vfs.BootContext(files)
	for point, fs := range map[string]*FS{"/proc": New(Config{Kernel: k, Random: func(p []byte) { clear(p) }}), "/sys": NewSys(nil)} {
		at, err := boot.Walk(vfs.AtCWD, point, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ns.Attach(at, fs.Root(), fs.Type(), unix.MS_NOSUID); err != nil {
			t.Fatal(err)
		}
		ns.Register(fs.Type(), fs.Mounter())
	}
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	thread, err := k.NewFirst(as, files, kernel.DefaultLimits(100), "prog")
	if err != nil {
		t.Fatal(err)
	}
	exe, err := boot.OpenFile(vfs.AtCWD, "/bin/prog", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	thread.Proc.SetExecutable(&kernel.Executable{Path: "/bin/prog", File: exe})
	return vfs.NewContext(thread), thread
}

func read(t *testing.T, c *vfs.Context, path string) string {
	t.Helper()
	d, err := c.OpenFile(vfs.AtCWD, path, unix.O_RDONLY, 0)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return ""
	}
	defer d.Decref()
	var out []byte
	p := make([]byte, 100)
	for {
		b := mm.KernelBuffer(p)
		n, err := d.Read(c, &b)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if n == 0 {
			return string(out)
		}
		out = append(out, p[:n]...)
	}
}

func list(t *testing.T, c *vfs.Context, path string) []string {
	t.Helper()
	d, err := c.OpenFile(vfs.AtCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer d.Decref()
	var names []string
	for {
		n := len(names)
		if err := d.ReadDir(c, func(e vfs.Dirent) bool {
			if len(names) == n+3 {
				return false
			}
			names = append(names, e.Name)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(names) == n {
			return names
		}
	}
}

func TestSelf(t *testing.T) {
	c, _ := newProcess(t)
	if l, err := c.Readlink(vfs.AtCWD, "/proc/self"); l != "1" || err != nil {
		t.Errorf("self: %q, %v", l, err)
	}
	if l, err := c.Readlink(vfs.AtCWD, "/proc/self/exe"); l != "/bin/prog" || err != nil {
		t.Errorf("exe: %q, %v", l, err)
	}
	if got := read(t, c, "/proc/self/exe"); got != "program" {
		t.Errorf("exe holds %q", got)
	}
	// The link leads to the file even when its name is gone.
	if err := c.Unlink(vfs.AtCWD, "/bin/prog"); err != nil {
		t.Fatal(err)
	}
	if l, _ := c.Readlink(vfs.AtCWD, "/proc/self/exe"); l != "/bin/prog (deleted)" {
		t.Errorf("exe: %q", l)
	}
	if got := read(t, c, "/proc/self/exe"); got != "program" {
		t.Errorf("exe holds %q", got)
	}
	r, w, err := c.Pipe(0)
	if err != nil {
		t.Fatal(err)
	}
	c.Install(r, false)
	c.Install(w, true)
	if l, err := c.Readlink(vfs.AtCWD, "/proc/self/fd/0"); !strings.HasPrefix(l, "pipe:[") || err != nil {
		t.Errorf("fd/0: %q, %v", l, err)
	}
	if got := strings.Join(list(t, c, "/proc/self/fd"), " "); got != ". .. 0 1" {
		t.Errorf("fd: %s", got)
	}
	d, err := c.OpenFile(vfs.AtCWD, "/proc/self/fd/1", unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d.Decref()
	if _, err := c.OpenFile(vfs.AtCWD, "/proc/self/fd/7", unix.O_RDONLY, 0); err != unix.ENOENT {
		t.Error(err)
	}
	if got := read(t, c, "/proc/self/fdinfo/1"); !strings.Contains(got, "flags:\t02000001\n") {
		t.Errorf("fdinfo: %q", got)
	}
}

func TestFiles(t *testing.T) {
	c, thread := newProcess(t)
	for _, name := range list(t, c, "/proc/self") {
		var a vfs.Attr
		if err := c.Stat(vfs.AtCWD, "/proc/self/"+name, unix.AT_SYMLINK_NOFOLLOW, &a); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		again := a
		if err := c.Stat(vfs.AtCWD, "/proc/self/"+name, unix.AT_SYMLINK_NOFOLLOW, &again); err != nil || again.Ctime != a.Ctime || again.Mtime != a.Mtime {
			t.Errorf("%s: its times don't stay: %v, then %v, %v", name, a.Ctime, again.Ctime, err)
		}
		if a.Mode&unix.S_IFMT == unix.S_IFREG && name != "mem" && name != "pagemap" { // one has nothing at 0, the other no end
			read(t, c, "/proc/self/"+name)
		}
	}
	for path, part := range map[string]string{
		"/proc/self/status":                           "Name:\tprog\n",
		"/proc/self/stat":                             "1 (prog) R 0 ",
		"/proc/self/limits":                           "Max open files            1024                 1048576              files",
		"/proc/self/mounts":                           "proc /proc proc rw,nosuid",
		"/proc/mounts":                                "rootfs / tmpfs",
		"/proc/self/mountinfo":                        " - proc proc rw",
		"/proc/self/task/1/comm":                      "prog\n",
		"/proc/thread-self/comm":                      "prog\n",
		"/proc/meminfo":                               "MemTotal:",
		"/proc/version":                               "Linux version 6.12.0-elver",
		"/proc/uptime":                                ".",
		"/proc/stat":                                  "btime ",
		"/proc/loadavg":                               "0.00 0.00 0.00 ",
		"/proc/filesystems":                           "nodev\tproc\n",
		"/proc/sys/kernel/osrelease":                  "6.12.0-elver\n",
		"/proc/sys/vm/overcommit_memory":              "0\n",
		"/proc/sys/vm/mmap_min_addr":                  "65536\n",
		"/proc/sys/kernel/random/boot_id":             "00000000-0000-4000-8000-000000000000\n",
		"/sys/devices/system/cpu/online":              "0\n",
		"/sys/kernel/mm/transparent_hugepage/enabled": "[madvise]",
	} {
		if got := read(t, c, path); !strings.Contains(got, part) {
			t.Errorf("%s holds %q, want %q in it", path, got, part)
		}
	}
	if fields := strings.Fields(read(t, c, "/proc/self/stat")); len(fields) != 52 {
		t.Errorf("stat has %d fields, want 52", len(fields))
	}
	write := func(path, value string) error {
		d, err := c.OpenFile(vfs.AtCWD, path, unix.O_WRONLY|unix.O_TRUNC, 0)
		if err != nil {
			return err
		}
		defer d.Decref()
		b := mm.KernelBuffer([]byte(value))
		_, err = d.Write(c, &b)
		return err
	}
	if err := write("/proc/self/comm", "renamed\n"); err != nil || thread.Comm() != "renamed" {
		t.Errorf("comm: %v, %q", err, thread.Comm())
	}
	if err := write("/proc/sys/kernel/hostname", "box\n"); err != nil || read(t, c, "/proc/sys/kernel/hostname") != "box\n" {
		t.Errorf("hostname: %v", err)
	}
	for _, w := range []struct {
		file, value string
		err         error
		score, adj  string // thereafter
	}{
		{"oom_score_adj", "-1000", nil, "-1000", "-17"},
		{"oom_score_adj", "1000\n", nil, "1000", "15"},
		{"oom_score_adj", "1001", unix.EINVAL, "1000", "15"},
		{"oom_adj", "-17", nil, "-1000", "-17"},
		{"oom_adj", "-18", unix.EINVAL, "-1000", "-17"},
		{"oom_adj", "15", nil, "1000", "15"},
		{"oom_score_adj", "x", unix.EINVAL, "1000", "15"},
	} {
		err := write("/proc/self/"+w.file, w.value)
		score, adj := read(t, c, "/proc/self/oom_score_adj"), read(t, c, "/proc/self/oom_adj")
		if err != w.err || score != w.score+"\n" || adj != w.adj+"\n" {
			t.Errorf("%s to %s: %v, then score %q and adj %q; want %v, %q, %q", w.value, w.file, err, score, adj, w.err, w.score, w.adj)
		}
	}
	if err := write("/proc/self/timerslack_ns", "70000\n"); err != nil || thread.TimerSlack() != 70000 || read(t, c, "/proc/self/timerslack_ns") != "70000\n" {
		t.Errorf("timerslack_ns: %v, %d", err, thread.TimerSlack())
	}
	if err := write("/proc/version", "x"); err == nil {
		t.Error("version was written")
	}
	if err := c.Mkdir(vfs.AtCWD, "/proc/x", 0o755); err == nil {
		t.Error("mkdir in /proc")
	}
	if _, err := c.OpenFile(vfs.AtCWD, "/proc/99999", unix.O_RDONLY, 0); err != unix.ENOENT {
		t.Error(err)
	}
}

// TestDevices has files and links of devices, which are asked for once, and folders below net.
func TestDevices(t *testing.T) {
	asked, value := 0, "1500"
	sys := NewSys(func() []Entry {
		asked++
		return []Entry{
			{Path: "devices/virtual/net/lo/mtu", Get: func() (string, error) { return value + "\n", nil }, Set: func(_ *vfs.Context, v string) error {
				value = v
				return nil
			}},
			{Path: "devices/virtual/net/lo/speed", Get: func() (string, error) { return "", unix.EINVAL }},
			{Path: "class/net/lo", Target: "../../devices/virtual/net/lo"},
		}
	})
	folders := map[string]func() map[string]func() string{"dev_snmp6": func() map[string]func() string {
		return map[string]func() string{"lo": func() string { return "ifIndex 1\n" }}
	}}
	proc := New(Config{Net: map[string]func() string{"dev": func() string { return "" }}, NetFolders: folders})
	root := tmpfs.New(tmpfs.Options{})
	ns := vfs.NewNamespace(root.Root(), "rootfs")
	c := vfs.BootContext(vfs.NewFiles(ns))
	for point, fs := range map[string]*FS{"/proc": proc, "/sys": sys} {
		root.Add(point, unix.S_IFDIR|0o755, 0, 0, 0)
		at, err := c.Walk(vfs.AtCWD, point, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ns.Attach(at, fs.Root(), fs.Type(), unix.MS_NOSUID); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 0 {
		t.Error("devices are asked for though nobody looks")
	}
	if got := read(t, c, "/sys/class/net/lo/mtu"); got != "1500\n" {
		t.Errorf("the file has %q", got)
	}
	d, err := c.OpenFile(vfs.AtCWD, "/sys/class/net/lo/mtu", unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := mm.KernelBuffer([]byte("1400"))
	if _, err := d.File().Write(c, &b, 0); err != nil {
		t.Error(err)
	}
	d.Decref()
	if got := read(t, c, "/sys/devices/virtual/net/lo/mtu"); got != "1400\n" {
		t.Errorf("after a write the file has %q", got)
	}
	if _, err := c.OpenFile(vfs.AtCWD, "/sys/class/net/lo/speed", unix.O_WRONLY, 0); err != unix.EACCES {
		t.Errorf("opening a file to write that can't be written: %v", err)
	}
	if asked != 1 {
		t.Errorf("devices were asked for %d times", asked)
	}
	if got := read(t, c, "/proc/net/dev_snmp6/lo"); got != "ifIndex 1\n" {
		t.Errorf("the file in a folder of net has %q", got)
	}
}
