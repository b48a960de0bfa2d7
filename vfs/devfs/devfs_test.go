package devfs

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
	"elver/vfs/tmpfs"
	"elver/vfs/tty"
)

func newContext(t testing.TB) *vfs.Context {
	t.Helper()
	root := tmpfs.New(tmpfs.Options{})
	root.Add("/dev", unix.S_IFDIR|0o755, 0, 0, 0)
	ns := vfs.NewNamespace(root.Root(), "rootfs")
	console := tty.New(func([]byte) {}, func(int32, kernel.Signal) {})
	dev, err := New(Config{Console: console, Random: func(p []byte) {
		for i := range p {
			p[i] = byte(i) | 1
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := vfs.BootContext(vfs.NewFiles(ns))
	at, err := c.Walk(vfs.AtCWD, "/dev", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ns.Attach(at, dev.Root(), "devtmpfs", unix.MS_NOSUID); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDevices(t *testing.T) {
	c := newContext(t)
	for _, test := range []struct {
		name    string
		read    int
		content byte
		write   error
	}{
		{"null", 0, 0, nil},
		{"zero", 1003, 0, nil},
		{"full", 1003, 0, unix.ENOSPC},
		{"urandom", 1003, 1, nil},
		{"random", 1003, 1, nil},
	} {
		d, err := c.OpenFile(vfs.AtCWD, "/dev/"+test.name, unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := bytes.Repeat([]byte{0xaa}, 1003)
		b := mm.KernelBuffer(p)
		n, err := d.Read(c, &b)
		if n != test.read || err != nil {
			t.Errorf("%s: read %d, %v", test.name, n, err)
		}
		if n > 0 && test.content == 0 && !bytes.Equal(p, make([]byte, 1003)) {
			t.Errorf("%s: not zeros", test.name)
		}
		if n > 0 && test.content != 0 && bytes.Count(p, []byte{0xaa}) > 50 {
			t.Errorf("%s: not random", test.name)
		}
		b = mm.KernelBuffer(p)
		if _, err := d.Write(c, &b); err != test.write {
			t.Errorf("%s: write: %v", test.name, err)
		}
		if pos, err := d.Seek(c, 5, unix.SEEK_SET); err != nil && err != unix.ESPIPE {
			t.Errorf("%s: seek: %d, %v", test.name, pos, err)
		}
		d.Decref()
	}
	d, err := c.OpenFile(vfs.AtCWD, "/dev/console", unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if tty.Of(d) == nil {
		t.Error("the console is no terminal")
	}
	d.Decref()
	if _, err := c.OpenFile(vfs.AtCWD, "/dev/tty", unix.O_RDWR, 0); err != unix.ENXIO {
		t.Errorf("/dev/tty without a controlling terminal: %v", err)
	}
	var a vfs.Attr
	c.Stat(vfs.AtCWD, "/dev/null", 0, &a)
	if a.Mode != unix.S_IFCHR|0o666 || a.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("mode %o rdev %#x", a.Mode, a.Rdev)
	}
	if _, err := c.OpenFile(vfs.AtCWD, "/dev/fd", unix.O_NOFOLLOW, 0); err != unix.ELOOP {
		t.Error(err)
	}
}

func BenchmarkNull(b *testing.B) {
	c := newContext(b)
	fd, err := c.Open(vfs.AtCWD, "/dev/null", unix.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	buf := mm.KernelBuffer(make([]byte, 4096))
	b.ReportAllocs()
	for range b.N {
		d, _ := c.Get(int32(fd))
		d.Write(c, &buf)
		d.Decref()
	}
}

// TestStir: what is written to /dev/urandom reaches the source of random numbers, whole.
func TestStir(t *testing.T) {
	var stirred []byte
	u := &urandom{stir: func(p []byte) { stirred = append(stirred, p...) }}
	want := bytes.Repeat([]byte("0123456789"), 77)
	b := mm.KernelBuffer(want)
	if n, err := u.Write(nil, &b, 0); n != len(want) || err != nil || !bytes.Equal(stirred, want) {
		t.Errorf("%d bytes, %v; %q is mixed in", n, err, stirred)
	}
}
