// Package devfs is /dev: the devices that every program expects, on a tmpfs of their own in which the
// program may make, rename and remove files as it likes (devtmpfs).
package devfs

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/platform/kvm/virtio/entropy"
	"elver/runtime/metal"
	"elver/vfs"
	"elver/vfs/tmpfs"
	"elver/vfs/tty"
)

// Config is what the devices stand on.
type Config struct {
	Random  func(p []byte)  // fills p with random bytes; required
	Stir    func(p []byte)  // mixes in what programs write to /dev/random; nil: it is ignored
	Console tty.Console     // /dev/console; nil: it can't be opened
	Entropy *entropy.Source // /dev/hwrng; nil: it isn't there
}

// Numbers of devices (Linux, Documentation/admin-guide/devices.txt).
const (
	memMajor     = 1
	ttyAuxMajor  = 5
	nullMinor    = 3
	zeroMinor    = 5
	fullMinor    = 7
	randomMinor  = 8
	urandomMinor = 9
	miscMajor    = 10
	hwrngMinor   = 183
	ttyMinor     = 0
	consoleMinor = 1
)

// FS is a /dev.
type FS struct {
	*tmpfs.FS
	config Config
}

// New returns a /dev with its files.
func New(config Config) (*FS, error) {
	f := &FS{config: config}
	f.FS = tmpfs.New(tmpfs.Options{Type: "devtmpfs", Device: f.open, Pages: 1024})
	for _, d := range []struct {
		name  string
		mode  uint32
		gid   uint32
		major uint32
		minor uint32
	}{
		{"null", 0o666, 0, memMajor, nullMinor},
		{"zero", 0o666, 0, memMajor, zeroMinor},
		{"full", 0o666, 0, memMajor, fullMinor},
		{"random", 0o666, 0, memMajor, randomMinor},
		{"urandom", 0o666, 0, memMajor, urandomMinor},
		{"tty", 0o666, 5, ttyAuxMajor, ttyMinor},
		{"console", 0o600, 5, ttyAuxMajor, consoleMinor},
	} {
		if _, err := f.Add(d.name, unix.S_IFCHR|d.mode, 0, d.gid, unix.Mkdev(d.major, d.minor)); err != nil {
			return nil, err
		}
	}
	if config.Entropy != nil {
		if _, err := f.Add("hwrng", unix.S_IFCHR|0o600, 0, 0, unix.Mkdev(miscMajor, hwrngMinor)); err != nil {
			return nil, err
		}
	}
	for _, l := range [][2]string{{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"}} {
		if _, err := f.AddSymlink(l[0], l[1]); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{"shm", "pts"} {
		if _, err := f.Add(d, unix.S_IFDIR|0o755, 0, 0, 0); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// OpenDevice opens the device rdev for a file system that found its file: ENXIO if there is none.
func (f *FS) OpenDevice(c *vfs.Context, mode uint32, rdev uint64, p vfs.Path, flags uint32) (vfs.File, error) {
	return f.open(c, mode, rdev, p, flags)
}

func (f *FS) open(c *vfs.Context, mode uint32, rdev uint64, p vfs.Path, flags uint32) (vfs.File, error) {
	if mode&unix.S_IFMT != unix.S_IFCHR {
		return nil, unix.ENXIO
	}
	switch rdev {
	case unix.Mkdev(memMajor, nullMinor):
		return theNull, nil
	case unix.Mkdev(memMajor, zeroMinor):
		return &zero{path: p}, nil
	case unix.Mkdev(memMajor, fullMinor):
		return &full{}, nil
	case unix.Mkdev(memMajor, randomMinor):
		return &random{urandom{source: f.config.Random, stir: f.config.Stir}}, nil
	case unix.Mkdev(memMajor, urandomMinor):
		return &urandom{source: f.config.Random, stir: f.config.Stir}, nil
	case unix.Mkdev(miscMajor, hwrngMinor):
		if f.config.Entropy == nil {
			return nil, unix.ENODEV
		}
		// Linux refuses who would write (drivers/char/hw_random/core.c, rng_dev_open).
		if flags&unix.O_ACCMODE != unix.O_RDONLY {
			return nil, unix.EINVAL
		}
		return &hwrng{source: f.config.Entropy}, nil
	case unix.Mkdev(ttyAuxMajor, ttyMinor):
		t := tty.Controlling(c)
		if t == nil {
			return nil, unix.ENXIO
		}
		return t.Open(flags), nil
	case unix.Mkdev(ttyAuxMajor, consoleMinor):
		if f.config.Console == nil {
			return nil, unix.ENXIO
		}
		return f.config.Console.Open(flags), nil
	}
	return nil, unix.ENXIO
}

// null swallows everything. One stands for all opens: it has no state.
type null struct{ vfs.BaseFile }

var theNull vfs.File = null{}

func (null) Read(*vfs.Context, *mm.Buffer, int64) (int, error)          { return 0, nil }
func (null) Write(_ *vfs.Context, src *mm.Buffer, _ int64) (int, error) { return swallow(src) }

// Swallows makes it a vfs.Sink.
func (null) Swallows() {}

// Seek always lands at the start (null(4)).
func (null) Seek(int64, int) (int64, error) { return 0, nil }

// swallow takes everything and looks at nothing.
func swallow(src *mm.Buffer) (int, error) {
	n := src.Len()
	src.Skip(n)
	return n, nil
}

// zero gives zeros and swallows everything.
type zero struct {
	vfs.BaseFile
	path vfs.Path
}

func (*zero) Read(_ *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	return dst.ZeroOut(dst.Len())
}
func (*zero) Write(_ *vfs.Context, src *mm.Buffer, _ int64) (int, error) { return swallow(src) }
func (*zero) Seek(int64, int) (int64, error)                             { return 0, nil }

// Mappable returns nil: a mapping of /dev/zero is anonymous memory (zero(4)).
func (*zero) Mappable(*vfs.Context) (mm.Mappable, error) { return nil, nil }

// full gives zeros and is always full.
type full struct{ zero }

func (*full) Write(_ *vfs.Context, src *mm.Buffer, _ int64) (int, error) { return 0, unix.ENOSPC }

// urandom gives random bytes; what is written to it is mixed into their source.
//
// Small reads come straight from the source. Large ones come from a generator that the source seeded
// and that is thrown away behind the read (ChaCha8): the source may be an instruction that takes
// hundreds of cycles for eight bytes.
type urandom struct {
	vfs.BaseFile
	source func([]byte)
	stir   func([]byte)
}

func (r *urandom) Read(_ *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	return Fill(r.source, dst)
}

func (r *urandom) Write(_ *vfs.Context, src *mm.Buffer, _ int64) (int, error) {
	if r.stir == nil {
		return swallow(src)
	}
	var piece [256]byte
	total := 0
	for src.Len() > 0 {
		n, err := src.CopyIn(piece[:min(len(piece), src.Len())])
		r.stir(piece[:n])
		if total += n; err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
		metal.CondResched()
	}
	return total, nil
}

func (r *urandom) Seek(int64, int) (int64, error) { return 0, nil }

// Ioctl is what random(4) lists: there is always entropy enough, and who brings more has it stirred in.
func (r *urandom) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	const clearPool, reseed, most = 0x5206, 0x5207, 256 // RNDCLEARPOOL, RNDRESEEDCRNG; bits in the pool
	if c.Thread == nil {
		return 0, unix.EINVAL
	}
	as := c.Thread.MM()
	switch request {
	case unix.RNDGETENTCNT:
		return 0, as.WriteUint32(arg, most)
	case unix.RNDADDTOENTCNT, unix.RNDADDENTROPY, unix.RNDZAPENTCNT, clearPool, reseed:
		if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
	default:
		return 0, unix.EINVAL
	}
	if request != unix.RNDADDTOENTCNT && request != unix.RNDADDENTROPY {
		return 0, nil
	}
	count, err := as.ReadUint32(arg)
	if err != nil {
		return 0, err
	}
	if int32(count) < 0 {
		return 0, unix.EINVAL
	}
	if request == unix.RNDADDTOENTCNT {
		return 0, nil
	}
	size, err := as.ReadUint32(arg + 4)
	if err != nil {
		return 0, err
	}
	if int32(size) < 0 {
		return 0, unix.EINVAL
	}
	src := mm.UserBuffer1(as, arg+8, uint64(size))
	n, err := r.Write(c, &src, 0)
	if err == nil && n < int(size) {
		err = unix.EFAULT
	}
	return 0, err
}

// random is one that epoll takes: Linux's may have to wait for entropy, this one is always ready.
type random struct{ urandom }

func (*random) EventRegister(*waiter.Entry) error { return nil }

// hwrng gives the random bytes of a device as they are. A read waits for the first ones.
type hwrng struct {
	vfs.BaseFile
	source *entropy.Source
}

func (h *hwrng) Read(_ *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	var piece [64]byte
	defer clear(piece[:])
	total := 0
	for dst.Len() > 0 {
		n, err := h.source.Take(piece[:min(len(piece), dst.Len())])
		if err != nil {
			err = unix.ENODEV
		} else if n == 0 {
			err = unix.EAGAIN
		} else {
			n, err = dst.CopyOut(piece[:n])
			total += n
		}
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
	}
	return total, nil
}

// Seekable says no: it has no place.
func (*hwrng) Seekable() bool { return false }

// Readiness says whether there is something to read.
func (h *hwrng) Readiness(mask waiter.EventMask) waiter.EventMask { return h.source.Readiness(mask) }

func (h *hwrng) EventRegister(e *waiter.Entry) error { return h.source.EventRegister(e) }
func (h *hwrng) EventUnregister(e *waiter.Entry)     { h.source.EventUnregister(e) }

// Fill fills dst with random bytes that come from source: getrandom(2) too.
func Fill(source func([]byte), dst *mm.Buffer) (int, error) {
	var piece [256]byte
	if dst.Len() <= len(piece) {
		p := piece[:dst.Len()]
		source(p)
		return dst.CopyOut(p)
	}
	var seed [32]byte
	source(seed[:])
	g := rand.NewChaCha8(seed)
	total := 0
	for dst.Len() > 0 {
		p := piece[:min(len(piece), (dst.Len()+7)&^7)]
		for i := 0; i < len(p); i += 8 {
			binary.LittleEndian.PutUint64(p[i:], g.Uint64())
		}
		n, err := dst.CopyOut(p[:min(len(p), dst.Len())])
		total += n
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
	}
	return total, nil
}
