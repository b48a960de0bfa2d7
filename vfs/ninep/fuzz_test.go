package ninep

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
)

// scripted is a server whose answers are made of data: those to the first messages as they should be, so that
// the mount succeeds, then anything. When the data ends every answer is an error.
type scripted struct {
	mu    sync.Mutex
	data  []byte
	calls int
}

func (s *scripted) MaxSpans() int { return 100 }

func (s *scripted) take(n int) []byte {
	p := s.data[:min(n, len(s.data))]
	s.data = s.data[len(p):]
	return p
}

func (s *scripted) Stop(string) {}

func (s *scripted) Send(m *Message) { m.Done(s.exchange(m)) }

func (s *scripted) exchange(m *Message) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	kind := m.Head[4]
	reply := []byte{0, 0, 0, 0, kind + 1, m.Head[5], m.Head[6]}
	switch {
	case s.calls == 1:
		reply = append(le.AppendUint32(reply, 64<<10), 8, 0)
		reply = append(reply, version...)
	case s.calls == 2:
		reply = append(reply, qidDir, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
	case s.calls == 3:
		reply = append(le.AppendUint64(reply, getattrBasic), qidDir, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
		reply = append(le.AppendUint32(reply, unix.S_IFDIR|0o777), make([]byte, 140)...)
	default:
		how := s.take(2)
		if len(how) < 2 {
			reply[4] = rlerror
			reply = le.AppendUint32(reply, uint32(unix.EIO))
			break
		}
		if how[0] >= 0xf0 {
			reply[how[0]&7%7] = how[1] // a header that lies
		}
		reply = append(reply, s.take(int(how[1]))...)
		if how[0]&1 != 0 {
			reply = append(reply, make([]byte, 200)...) // bodies of zeros are mostly understood
		}
	}
	if s.calls <= 3 || reply[0]|reply[1]|reply[2]|reply[3] == 0 {
		le.PutUint32(reply, uint32(len(reply)))
	}
	n := copy(m.Reply, reply)
	for _, span := range m.In {
		n += copy(metal.View(span.PA, int(span.Len)), reply[min(n, len(reply)):])
	}
	return n, nil
}

// FuzzServer does what programs do, on a server that answers anything: errors may come of it, never more.
func FuzzServer(f *testing.F) {
	attributes := func(kind byte, mode uint32, size uint64) []byte {
		b := le.AppendUint64([]byte{0, 153}, getattrBasic)
		b = append(b, kind, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0)
		b = le.AppendUint32(b, mode)
		b = append(b, make([]byte, 24)...)
		b = le.AppendUint64(b, size)
		return append(b, make([]byte, 96)...)
	}
	walk := []byte{0, 15, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}
	f.Add([]byte{})
	f.Add(append(walk, attributes(0, unix.S_IFREG|0o666, 5000)...))
	f.Add(append(append(walk, attributes(qidDir, unix.S_IFDIR|0o777, 0)...), walk...))
	f.Add([]byte("\xf1\xff\x00\x10random data of no meaning at all\x01\x00\x01\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fs, err := New(&scripted{data: data}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), "fs0")))
		for range 3 {
			var a vfs.Attr
			c.Stat(vfs.AtCWD, "/f", 0, &a)
			if d, err := c.OpenFile(vfs.AtCWD, "/f", unix.O_RDWR|unix.O_CREAT, 0o600); err == nil {
				b := mm.KernelBuffer(make([]byte, 10000))
				d.Read(c, &b)
				b = mm.KernelBuffer([]byte("text"))
				d.Write(c, &b)
				d.Truncate(c, 3)
				d.Sync(false)
				d.Decref()
			}
			if d, err := c.OpenFile(vfs.AtCWD, "/", unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
				n := 0
				d.ReadDir(c, func(vfs.Dirent) bool { n++; return n < 1000 })
				d.Decref()
			}
			c.Mkdir(vfs.AtCWD, "/d", 0o755)
			c.Rename(vfs.AtCWD, "/f", vfs.AtCWD, "/d/g", 0)
			c.Readlink(vfs.AtCWD, "/d/g")
			c.Unlink(vfs.AtCWD, "/d/g")
			if p, err := c.Walk(vfs.AtCWD, "/d", 0); err == nil {
				c.GetXattr(p, "user.x")
				c.ListXattr(p)
			}
			var s vfs.StatFS
			c.Statfs("/", &s)
		}
		c.Files.Exit()
		fs.Unmounted()
		for k := 0; fs.Fids() > 1; k++ { // loads that nobody waits for
			if k == 10000 {
				t.Fatalf("%d fids are left", fs.Fids())
			}
			time.Sleep(time.Millisecond)
			fs.DropFids()
		}
	})
}
