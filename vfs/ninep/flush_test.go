package ninep

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
)

// holder keeps answers of some kinds back.
type holder struct {
	mu      sync.Mutex
	kinds   map[uint8]bool
	release chan struct{}
	held    chan uint8
}

func (m *mounted) hold(kinds ...uint8) *holder {
	h := &holder{kinds: make(map[uint8]bool), release: make(chan struct{}), held: make(chan uint8, 1000)}
	for _, kind := range kinds {
		h.kinds[kind] = true
	}
	m.pipe.late = func(kind uint8) {
		h.mu.Lock()
		held, release := h.kinds[kind], h.release
		h.mu.Unlock()
		if held {
			h.held <- kind
			select {
			case <-release:
			case <-m.pipe.stopped:
			}
		}
	}
	return h
}

func (h *holder) let() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds = nil
	close(h.release)
}

// thread is a goroutine of the test's as a thread of a program.
func newThread(t *testing.T) *kernel.Thread {
	t.Helper()
	th, err := kernel.New(kernel.Config{}).NewFirst(nil, nil, nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	return th
}

func kill(th *kernel.Thread) {
	th.Proc.Kill(kernel.Signal(unix.SIGKILL), kernel.KernelInfo(kernel.Signal(unix.SIGKILL)))
}

// start has th do what, and returns where the result comes.
func start(th *kernel.Thread, do func() error) chan error {
	result := make(chan error, 1)
	go func() {
		defer th.Impersonate()()
		result <- do()
	}()
	return result
}

func (m *mounted) within(what string, result chan error) error {
	m.t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(time.Minute):
		buffer := make([]byte, 1<<20)
		m.t.Fatalf("%s: no end\n%s", what, buffer[:runtime.Stack(buffer, true)])
		return nil
	}
}

// settled waits until no message is out any more.
func (m *mounted) settled() {
	m.t.Helper()
	c := m.fs.c
	for k := 0; ; k++ {
		c.mu.Lock()
		free, limbo, busy := len(c.tags), len(c.limbo), c.busy
		c.mu.Unlock()
		if free == maxCalls && limbo == 0 && busy == 0 {
			return
		}
		if k == 60000 {
			m.t.Fatalf("%d tags are free, %d fids in limbo, %d messages out", free, limbo, busy)
		}
		time.Sleep(time.Millisecond)
	}
}

// Whoever is killed waits for no answer; and when that comes nevertheless, all is as it should be.
func TestKilledWhileWaiting(t *testing.T) {
	buffer := func() *mm.Buffer { b := mm.KernelBuffer(make([]byte, 10000)); return &b }
	rows := []struct {
		name  string
		holds []uint8
		do    func(m *mounted, d *vfs.Description) error
	}{
		{"read", []uint8{tread}, func(m *mounted, d *vfs.Description) error { _, err := d.Read(m.Context, buffer()); return err }},
		{"read, flush answered late", []uint8{tread, tflush}, func(m *mounted, d *vfs.Description) error { _, err := d.Read(m.Context, buffer()); return err }},
		{"fault", []uint8{tread}, func(m *mounted, d *vfs.Description) error {
			mapped, err := d.Mappable(m.Context)
			if err == nil {
				_, err = mapped.MapFrame(0, false)
			}
			return err
		}},
		{"write", []uint8{twrite}, func(m *mounted, d *vfs.Description) error { _, err := d.Write(m.Context, buffer()); return err }},
		{"truncate", []uint8{tsetattr}, func(m *mounted, d *vfs.Description) error { return d.Truncate(m.Context, 7) }},
		{"fsync", []uint8{tfsync}, func(m *mounted, d *vfs.Description) error { return d.Sync(false) }},
		{"look up", []uint8{twalk}, func(m *mounted, _ *vfs.Description) error { var a vfs.Attr; return m.Stat(vfs.AtCWD, "/d/g", 0, &a) }},
		{"look up what isn't there", []uint8{twalk}, func(m *mounted, _ *vfs.Description) error { var a vfs.Attr; return m.Stat(vfs.AtCWD, "/none", 0, &a) }},
		{"attributes", []uint8{tgetattr}, func(m *mounted, _ *vfs.Description) error { var a vfs.Attr; return m.Stat(vfs.AtCWD, "/d/g", 0, &a) }},
		{"open", []uint8{tlopen}, func(m *mounted, _ *vfs.Description) error {
			_, err := m.OpenFile(vfs.AtCWD, "/d/g", unix.O_RDWR, 0)
			return err
		}},
		{"create", []uint8{tlcreate}, func(m *mounted, _ *vfs.Description) error {
			_, err := m.OpenFile(vfs.AtCWD, "/new", unix.O_RDWR|unix.O_CREAT, 0o600)
			return err
		}},
		{"make a directory", []uint8{tmkdir}, func(m *mounted, _ *vfs.Description) error { return m.Mkdir(vfs.AtCWD, "/e", 0o755) }},
		{"remove", []uint8{tunlinkat}, func(m *mounted, _ *vfs.Description) error { return m.Unlink(vfs.AtCWD, "/d/g") }},
		{"rename", []uint8{trenameat}, func(m *mounted, _ *vfs.Description) error { return m.Rename(vfs.AtCWD, "/d/g", vfs.AtCWD, "/moved", 0) }},
		{"list", []uint8{treaddir}, func(m *mounted, _ *vfs.Description) error {
			d, err := m.OpenFile(vfs.AtCWD, "/d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			defer d.Decref()
			return d.ReadDir(m.Context, func(vfs.Dirent) bool { return true })
		}},
		{"statfs", []uint8{tstatfs}, func(m *mounted, _ *vfs.Description) error { var s vfs.StatFS; return m.Statfs("/", &s) }},
		{"everything", []uint8{tread, twalk, tclunk, tflush, tlopen, tgetattr}, func(m *mounted, d *vfs.Description) error { _, err := d.Read(m.Context, buffer()); return err }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := mount(t)
			content := pattern(100000, 5)
			m.hostWrite("f", content)
			m.ok("mkdir", m.Mkdir(vfs.AtCWD, "/d", 0o755))
			m.hostWrite("d/g", "g")
			d := m.open("/f", unix.O_RDWR)
			h := m.hold(row.holds...)
			th := newThread(t)
			result := start(th, func() error { return row.do(m, d) })
			<-h.held
			flushes := m.pipe.count(tflush)
			kill(th)
			if err := m.within("the killed", result); err != unix.EINTR {
				t.Errorf("the killed got %v", err)
			}
			if row.name != "write" {
				// Others don't wait for the dead.
				for m.pipe.count(tflush) == flushes {
					time.Sleep(time.Millisecond)
				}
			}
			h.let()
			m.settled()
			if row.name == "write" || row.name == "truncate" {
				if got := m.hostRead("f"); m.read("/f") != got {
					t.Errorf("what is read isn't what the host has: %q", clip(got))
				}
			} else if got := m.read("/f"); got != content {
				t.Errorf("%d bytes are read, or others", len(got))
			}
			m.write("/after", "x")
			m.ok("unlink", m.Unlink(vfs.AtCWD, "/after"))
			d.Decref()
		})
	}
}

// A message whose Tflush was answered has no tag any more, though its memory comes back later.
func TestFlushedTagsAreReused(t *testing.T) {
	m := mount(t)
	for k := range maxCalls + 10 {
		m.hostWrite(fmt.Sprint("f", k), "content")
	}
	h := m.hold(tgetattr)
	for k := range maxCalls + 10 {
		th := newThread(t)
		result := start(th, func() error { var a vfs.Attr; return m.Stat(vfs.AtCWD, fmt.Sprint("/f", k), 0, &a) })
		<-h.held
		kill(th)
		m.want("stat", m.within("stat", result), unix.EINTR)
	}
	h.let()
	m.settled()
	if got := m.read("/f1"); got != "content" {
		t.Errorf("read %q", got)
	}
}

// When all tags belong to messages that the server doesn't even flush, those who wait for one can be killed too.
func TestNoTagIsLeft(t *testing.T) {
	m := mount(t)
	d := m.open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	h := m.hold(tfsync, tflush)
	sync := func() error { return d.Sync(false) }
	for range maxCalls {
		th := newThread(t)
		result := start(th, sync)
		<-h.held
		kill(th)
		m.want("fsync", m.within("fsync", result), unix.EINTR)
		<-h.held // the flush
	}
	th, patient := newThread(t), newThread(t)
	last, next := start(th, sync), start(patient, sync)
	for {
		m.fs.c.mu.Lock()
		waiting := len(m.fs.c.waiting)
		m.fs.c.mu.Unlock()
		if waiting == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	kill(th)
	m.want("without a tag", m.within("without a tag", last), unix.EINTR)
	h.let()
	m.ok("with one", m.within("with one", next))
	m.settled()
	d.Decref()
}

// dirty opens /f and writes to it by a shared mapping.
func (m *mounted) dirty() *vfs.Description {
	m.t.Helper()
	d := m.open("/f", unix.O_RDWR)
	mapped, err := d.Mappable(m.Context)
	m.ok("mappable", err)
	frame, err := mapped.MapFrame(0, true)
	m.ok("map", err)
	copy(metal.View(frame, 4096), "mapped")
	metal.Unref(frame)
	return d
}

// What a shared mapping wrote is written back even by the killed.
func TestKilledWriteBack(t *testing.T) {
	m := mount(t)
	m.hostWrite("f", pattern(8192, 1))
	th := newThread(t)
	kill(th)
	d := m.dirty()
	m.ok("write back", m.within("write back", start(th, func() error { d.Decref(); return nil })))
	if got := m.hostRead("f"); got[:6] != "mapped" {
		t.Errorf("the host has %q", got[:6])
	}
	m.settled()
}

// For a silent server nobody waits whom a signal ends, and others not for ever.
func TestSilentServer(t *testing.T) {
	m := mountDir(t, t.TempDir(), Options{glance: 200 * time.Millisecond})
	m.hostWrite("f", pattern(8192, 1))
	d := m.dirty()
	h := m.hold(twrite, tflush, tclunk, tgetattr, tfsync, twalk)
	th := newThread(t)
	result := start(th, func() error { d.Decref(); return nil })
	<-h.held
	kill(th)
	m.ok("silence", m.within("silence", result))

	// The others wait until the server is taken for dead.
	result = start(newThread(t), func() error { var a vfs.Attr; return m.Stat(vfs.AtCWD, "/none", 0, &a) })
	m.want("death", m.within("death", result), unix.EIO)
	h.let()
	m.settled()
}

// What a thread has the server read and write is counted for it.
func TestStorageIsCounted(t *testing.T) {
	m := mount(t)
	m.hostWrite("f", pattern(100000, 1))
	th := newThread(t)
	m.ok("read and write", m.within("read and write", start(th, func() error {
		d := m.open("/f", unix.O_RDWR)
		defer d.Decref()
		m.get(d, 10)
		m.put(d, "some")
		return nil
	})))
	if got := th.IO(); got.ReadBytes != 100000 || got.WrittenBytes != 4 {
		t.Errorf("%+v", got)
	}
}
