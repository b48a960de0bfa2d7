package tree

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
	"elver/vfs/devfs"
	"elver/vfs/tmpfs"
	"elver/vfs/tty"
)

func TestPopulate(t *testing.T) {
	for name, console := range map[string]tty.Console{
		"terminal": tty.New(func([]byte) {}, func(int32, kernel.Signal) {}),
		"stream":   tty.NewStream(func([]byte) {}),
	} {
		t.Run(name, func(t *testing.T) {
			root := tmpfs.New(tmpfs.Options{})
			c := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(root.Root(), "rootfs")))
			k := kernel.New(kernel.Config{Syscall: func(*kernel.Thread) {}})
			random := func(p []byte) { clear(p) }
			dev, err := devfs.New(devfs.Config{Random: random, Console: console})
			if err != nil {
				t.Fatal(err)
			}
			if err := Populate(c, Config{Kernel: k, Dev: dev, Random: random}); err != nil {
				t.Fatal(err)
			}
			if err := InstallConsole(c, console, nil); err != nil {
				t.Fatal(err)
			}
			as, err := mm.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			thread, err := k.NewFirst(as, c.Files, kernel.DefaultLimits(10), "test")
			if err != nil {
				t.Fatal(err)
			}
			c = vfs.NewContext(thread)
			for _, path := range []string{"/dev/null", "/dev/stdin", "/dev/fd/1", "/dev/shm", "/proc/self/status", "/sys/devices/system/cpu/online", "/tmp"} {
				var a vfs.Attr
				if err := c.Stat(vfs.AtCWD, path, 0, &a); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
			d, err := c.OpenFile(vfs.AtCWD, "/dev/stdin", unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			console.Input([]byte("hi\n"))
			p := make([]byte, 10)
			b := mm.KernelBuffer(p)
			if n, err := d.Read(c, &b); string(p[:n]) != "hi\n" || err != nil {
				t.Errorf("%q, %v", p[:n], err)
			}
			d.Decref()
			var a vfs.Attr
			c.Fstat(0, &a)
			want := uint32(unix.S_IFCHR)
			if name == "stream" {
				want = unix.S_IFIFO
			}
			if a.Mode&unix.S_IFMT != want {
				t.Errorf("mode %o", a.Mode)
			}
		})
	}
}

// TestStderrApart: with a stream of its own, standard error doesn't reach the console, and cannot be read.
func TestStderrApart(t *testing.T) {
	var out, errs strings.Builder
	console := tty.NewStream(func(p []byte) { out.Write(p) })
	root := tmpfs.New(tmpfs.Options{})
	c := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(root.Root(), "rootfs")))
	if err := InstallConsole(c, console, tty.NewStream(func(p []byte) { errs.Write(p) })); err != nil {
		t.Fatal(err)
	}
	for fd, text := range map[int32]string{1: "out", 2: "err"} {
		d, err := c.Get(fd)
		if err != nil {
			t.Fatal(err)
		}
		b := mm.KernelBuffer([]byte(text))
		if _, err := d.Write(c, &b); err != nil {
			t.Error(err)
		}
		b = mm.KernelBuffer(make([]byte, 1))
		if _, err := d.Read(c, &b); fd == 2 && err != unix.EBADF {
			t.Errorf("reading standard error: %v", err)
		}
		d.Decref()
	}
	if out.String() != "out" || errs.String() != "err" {
		t.Errorf("console %q, standard error %q", out.String(), errs.String())
	}
}
