//go:build !elver

package ninep

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hugelgupf/p9/p9"
	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
	"elver/vfs"
)

// shareDevice is a virtio-9p device in memory with a server behind it.
type shareDevice struct {
	*virtio.Fake
	conn net.Conn
	over chan struct{}
	done sync.WaitGroup

	mu   sync.Mutex // guards what follows
	out  map[uint16]chain
	act  func(c chain, reply []byte) (acted bool) // what it does instead of an answer
	acts int
}

// chain is a request that the device has.
type chain struct {
	kind uint8
	head uint32
	in   [][]byte
}

// tagged returns a configuration whose tag says to have n bytes.
func tagged(n int, tag string) []byte { return append(le.AppendUint16(nil, uint16(n)), tag...) }

func newShareDevice(t *testing.T, dir string, features uint64, size int) *shareDevice {
	here, there := net.Pipe()
	d := &shareDevice{
		Fake: virtio.NewFake(virtio.NineP, features|featureMountTag, tagged(3, "fs0"), size),
		conn: here, over: make(chan struct{}), out: make(map[uint16]chain),
	}
	d.done.Go(func() { p9.NewServer(attacher{dir}).Handle(there, there) })
	d.done.Go(d.take)
	d.done.Go(d.answer)
	t.Cleanup(func() {
		close(d.over)
		here.Close()
		d.done.Wait()
	})
	return d
}

// take hands requests to the server.
func (d *shareDevice) take() {
	for {
		select {
		case <-d.over:
			return
		default:
		}
		head, out, in, ok := d.Take(0)
		if !ok {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		var whole []byte
		for _, p := range out {
			whole = append(whole, p...)
		}
		d.mu.Lock()
		d.out[le.Uint16(whole[5:])] = chain{whole[4], head, in}
		d.mu.Unlock()
		if _, err := d.conn.Write(whole); err != nil {
			return
		}
	}
}

// answer takes answers to where the requests want them.
func (d *shareDevice) answer() {
	for {
		var head [headerBytes]byte
		if _, err := io.ReadFull(d.conn, head[:]); err != nil {
			return
		}
		reply := make([]byte, le.Uint32(head[:]))
		copy(reply, head[:])
		if _, err := io.ReadFull(d.conn, reply[headerBytes:]); err != nil {
			return
		}
		d.mu.Lock()
		tag := le.Uint16(head[5:])
		c := d.out[tag]
		delete(d.out, tag)
		acted := d.act != nil && d.act(c, reply)
		if acted {
			d.acts++
		}
		d.mu.Unlock()
		if !acted {
			d.Return(0, c.head, c.put(reply))
		}
	}
}

// put writes an answer into the chain, and returns how much of it had room.
func (c chain) put(reply []byte) uint32 {
	n := 0
	for _, p := range c.in {
		n += copy(p, reply[n:])
	}
	return uint32(n)
}

// does has the device do f instead of answering messages of that kind, all or the next one alone.
func (d *shareDevice) does(kind uint8, all bool, f func(c chain, reply []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acts = 0
	d.act = func(c chain, reply []byte) bool {
		if c.kind != kind || !all && d.acts > 0 {
			return false
		}
		f(c, reply)
		return true
	}
}

// mountDevice mounts a folder with the file f by way of a device.
func mountDevice(t *testing.T, features uint64, size int, o Options) (*mounted, *shareDevice) {
	t.Helper()
	unix.Umask(0)
	frames := metal.Frames().ByOwner
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(pattern(20_000, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	device := newShareDevice(t, dir, features, size)
	shares, errs := NewShares([]*virtio.Device{device.Device()}, o)
	if len(errs) != 0 {
		t.Fatal(errs)
	}
	fs, err := shares.Mount("fs0", "")
	if err != nil {
		t.Fatal(err)
	}
	m := &mounted{vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), "fs0"))), t, dir, fs, nil}
	t.Cleanup(func() {
		m.Files.Exit()
		fs.Unmounted()
		d := shares.all["fs0"].device
		d.Stop("the test is over")
		kept := func() (n uint64) {
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, x := range d.idle {
				n += uint64(len(x.out) + len(x.in))
			}
			return n
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			fs.DropFids()
			Reclaim(1000) // pages of a file that is known no more, since the device named another by its qid
			now := metal.Frames().ByOwner
			cache, kernel := now[metal.OwnerPageCache], now[metal.OwnerKernel]-kept()
			if cache == frames[metal.OwnerPageCache] && kernel == frames[metal.OwnerKernel] {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d frames of the page cache and %d of the driver's are there, %d and %d before",
					cache, kernel, frames[metal.OwnerPageCache], frames[metal.OwnerKernel])
				return
			}
		}
	})
	return m, device
}

// load opens /f and reads all of it.
func (m *mounted) load() (string, error) {
	d, err := m.OpenFile(vfs.AtCWD, "/f", unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer d.Decref()
	p := make([]byte, 20_000)
	for n := 0; n < len(p); {
		b := mm.KernelBuffer(p[n:])
		k, err := d.Read(m.Context, &b)
		if err != nil || k == 0 {
			return string(p[:n]), err
		}
		n += int(k)
	}
	return string(p), nil
}

// bounded is load that fails the test when it has no end.
func (m *mounted) bounded() (got string, err error) {
	m.t.Helper()
	err = m.within("reading", start(newThread(m.t), func() error {
		var err error
		got, err = m.load()
		return err
	}))
	return got, err
}

func TestDevice(t *testing.T) {
	for name, features := range map[string]uint64{"direct": 0, "indirect": virtio.FeatureIndirect, "events": virtio.FeatureIndirect | virtio.FeatureEventIdx} {
		t.Run(name, func(t *testing.T) {
			m, _ := mountDevice(t, features, 64, Options{})
			if got, err := m.bounded(); err != nil || got != pattern(20_000, 1) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			m.write("/g", pattern(100_000, 2))
			if got := m.hostRead("g"); got != pattern(100_000, 2) {
				t.Errorf("the host has %d bytes, or others", len(got))
			}
		})
	}
}

// A device that breaks the rules of the ring is given up: everything fails with EIO from then on.
func TestBrokenDevice(t *testing.T) {
	for name, f := range map[string]func(d *shareDevice, c chain, reply []byte){
		"another's number": func(d *shareDevice, c chain, reply []byte) { d.Return(0, c.head+1, c.put(reply)) },
		"no number":        func(d *shareDevice, c chain, reply []byte) { d.Return(0, 64, c.put(reply)) },
		"a huge number":    func(d *shareDevice, c chain, reply []byte) { d.Return(0, ^uint32(0), c.put(reply)) },
		"twice": func(d *shareDevice, c chain, reply []byte) {
			n := c.put(reply)
			d.Return(0, c.head, n)
			d.Return(0, c.head, n)
		},
		"a jump":            func(d *shareDevice, c chain, _ []byte) { d.Jump(0, 77) },
		"a jump of a round": func(d *shareDevice, c chain, _ []byte) { d.Jump(0, 1<<15) },
		"backwards":         func(d *shareDevice, c chain, _ []byte) { d.Jump(0, ^uint16(0)) },
		"asks for a reset":  func(d *shareDevice, c chain, _ []byte) { d.NeedReset() },
		"silence":           func(*shareDevice, chain, []byte) {},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{}
			if name == "silence" {
				o.glance = 10 * time.Millisecond
			}
			m, d := mountDevice(t, virtio.FeatureIndirect, 64, o)
			d.does(tread, false, func(c chain, reply []byte) { f(d, c, reply) })
			// An answer that comes twice is an answer the first time.
			if _, err := m.bounded(); err != unix.EIO && (name != "twice" || err != nil) {
				t.Errorf("read: %v", err)
			}
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				var s vfs.StatFS
				err := m.Statfs("/", &s)
				if err == unix.EIO {
					break
				}
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("afterwards: %v", err)
				}
			}
			m.want("create", m.creates(), unix.EIO)
		})
	}
}

// creates asks the server for what cannot be known here.
func (m *mounted) creates() error {
	_, err := m.OpenFile(vfs.AtCWD, "/new", unix.O_RDWR|unix.O_CREAT, 0o600)
	return err
}

// A device that lies of an answer costs whoever asked, and nobody else.
func TestLyingDevice(t *testing.T) {
	for name, row := range map[string]struct {
		f  func(c chain, reply []byte) (written uint32)
		ok bool
	}{
		"more than there is room for": {func(c chain, reply []byte) uint32 { c.put(reply); return 1 << 31 }, true},
		"nothing":                     {func(c chain, reply []byte) uint32 { return 0 }, false},
		"nothing, by its word":        {func(c chain, reply []byte) uint32 { c.put(reply); return 0 }, false},
		"less than a header":          {func(c chain, reply []byte) uint32 { c.put(reply); return headerBytes - 1 }, false},
		"a header":                    {func(c chain, reply []byte) uint32 { c.put(reply); return headerBytes }, false},
		"less than it says": {func(c chain, reply []byte) uint32 {
			n := c.put(reply)
			return n - 1
		}, false},
		"a size beyond the buffers": {func(c chain, reply []byte) uint32 {
			le.PutUint32(reply, 1<<20)
			return max(c.put(reply), 1<<20)
		}, false},
		"more data than it sent": {func(c chain, reply []byte) uint32 {
			le.PutUint32(reply[headerBytes:], uint32(len(reply)))
			return c.put(reply)
		}, false},
		"all the data there is": {func(c chain, reply []byte) uint32 {
			le.PutUint32(reply[headerBytes:], ^uint32(0))
			return c.put(reply)
		}, false},
		"another's tag": {func(c chain, reply []byte) uint32 { reply[5]++; return c.put(reply) }, false},
		"another type":  {func(c chain, reply []byte) uint32 { reply[4]++; return c.put(reply) }, false},
		"no error": {func(c chain, reply []byte) uint32 {
			reply[4] = rlerror
			le.PutUint32(reply[7:], 0)
			return c.put(reply)
		}, false},
		"no error of Linux": {func(c chain, reply []byte) uint32 {
			reply[4] = rlerror
			le.PutUint32(reply[7:], ^uint32(0))
			return c.put(reply)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, d := mountDevice(t, virtio.FeatureIndirect, 64, Options{})
			d.does(tread, true, func(c chain, reply []byte) { d.Return(0, c.head, row.f(c, reply)) })
			switch got, err := m.bounded(); {
			case row.ok && (err != nil || got != pattern(20_000, 1)):
				t.Errorf("read: %d bytes, %v", len(got), err)
			case !row.ok && err != unix.EIO:
				t.Errorf("read: %d bytes, %v", len(got), err)
			}
			d.does(0, false, nil)
			if got, err := m.bounded(); err != nil || got != pattern(20_000, 1) {
				t.Errorf("afterwards: %d bytes, %v", len(got), err)
			}
		})
	}
}

// Many at once and a device that does what it likes: each gets an answer or an error.
func TestWildDevice(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m, d := mountDevice(t, virtio.FeatureIndirect, 16, Options{glance: 20 * time.Millisecond})
			r := rand.New(rand.NewPCG(seed, 0))
			d.mu.Lock()
			d.act = func(c chain, reply []byte) bool {
				switch r.IntN(60) {
				case 0:
					d.Return(0, c.head, r.Uint32())
				case 1:
					reply[r.IntN(len(reply))]++
					d.Return(0, c.head, c.put(reply))
				case 2:
					d.Return(0, c.head, c.put(reply[:r.IntN(len(reply))]))
				case 3:
					if seed%2 == 1 {
						d.Return(0, r.Uint32N(20), 100)
						return true
					}
					return false
				default:
					return false
				}
				return true
			}
			d.mu.Unlock()
			var all []chan error
			for k := range 40 {
				all = append(all, start(newThread(t), func() error {
					for range 5 {
						m.load()
						if d, err := m.OpenFile(vfs.AtCWD, fmt.Sprint("/new", k), unix.O_RDWR|unix.O_CREAT, 0o600); err == nil {
							b := mm.KernelBuffer(make([]byte, 5000))
							d.Write(m.Context, &b)
							d.Decref()
						}
						m.Unlink(vfs.AtCWD, fmt.Sprint("/new", k))
					}
					return nil
				}))
			}
			for _, result := range all {
				m.within("the wild device", result)
			}
		})
	}
}

// What a device says of itself is believed only when it can be true.
func TestDeviceIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		features uint64
		config   []byte
		sizes    []int
		says     string
	}{
		"no feature of a tag":  {0, tagged(3, "fs0"), []int{64}, "without a tag"},
		"no configuration":     {featureMountTag, nil, []int{64}, "has 0 bytes"},
		"half a length":        {featureMountTag, []byte{3}, []int{64}, "has 1 bytes"},
		"no tag":               {featureMountTag, tagged(0, "fs0"), []int{64}, "has 0 bytes"},
		"a tag beyond the end": {featureMountTag, tagged(4, "fs0"), []int{64}, "6 are needed"},
		"a long tag":           {featureMountTag, tagged(256, strings.Repeat("x", 256)), []int{64}, "has 256 bytes"},
		"the longest tag":      {featureMountTag, tagged(65535, "fs0"), []int{64}, "has 65535 bytes"},
		"no queue":             {featureMountTag, tagged(3, "fs0"), nil, "no queue"},
		"a small queue":        {featureMountTag, tagged(3, "fs0"), []int{8}, "16 are needed"},
	} {
		t.Run(name, func(t *testing.T) {
			s, errs := NewShares([]*virtio.Device{virtio.NewFake(virtio.NineP, row.features, row.config, row.sizes...).Device()}, Options{})
			if len(errs) == 0 {
				_, err := s.Mount("fs0", "")
				errs = append(errs, err)
			}
			if len(errs) != 1 || errs[0] == nil || !strings.Contains(errs[0].Error(), row.says) || strings.Contains(errs[0].Error(), "\n") {
				t.Errorf("it says %v, not %q", errs, row.says)
			}
		})
	}
	t.Run("the same tag", func(t *testing.T) {
		fake := func() *virtio.Device {
			return virtio.NewFake(virtio.NineP, featureMountTag, tagged(3, "fs0"), 64).Device()
		}
		s, errs := NewShares([]*virtio.Device{fake(), fake()}, Options{})
		if len(s.Tags()) != 1 || len(errs) != 1 {
			t.Errorf("%v, %v", s.Tags(), errs)
		}
	})
}

// A server that breaks while the share is mounted.
func TestDeviceBreaksAtMount(t *testing.T) {
	for _, kind := range []uint8{tversion, tattach, tgetattr} {
		d := newShareDevice(t, t.TempDir(), virtio.FeatureIndirect, 64)
		d.does(kind, true, func(c chain, reply []byte) { d.Return(0, c.head+1, binary.LittleEndian.Uint32(reply)) })
		s, errs := NewShares([]*virtio.Device{d.Device()}, Options{})
		if len(errs) != 0 {
			t.Fatal(errs)
		}
		result := make(chan error, 1)
		go func() { _, err := s.Mount("fs0", ""); result <- err }()
		select {
		case err := <-result:
			if err == nil {
				t.Errorf("message %d: mounted", kind)
			}
		case <-time.After(time.Minute):
			t.Fatalf("message %d: no end", kind)
		}
	}
}
