// Package devpts is /dev/pts: ptmx, whose every open makes a pseudoterminal (pty(7)), and a file for each
// terminal that has its master open.
//
// FS.mu guards the table of terminals; it is a leaf.
package devpts

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
	"elver/vfs/tty"
)

// maxTerminals is /proc/sys/kernel/pty/max.
const maxTerminals = 4096

// Options are what mount(2) takes.
type Options struct {
	Mode   uint32 // permissions of terminals
	GID    uint32
	HasGID bool // terminals belong to GID rather than to the group of who opens ptmx
}

// FS is a devpts.
type FS struct {
	kernel  *kernel.Kernel
	options Options
	dev     uint64
	root    *root
	dentry  *vfs.Dentry
	ptmx    *ptmx

	mu        sync.Mutex
	terminals map[int]*slave
}

// New returns a devpts without terminals.
func New(k *kernel.Kernel, o Options) *FS {
	f := &FS{kernel: k, options: o, dev: vfs.NewDev(), terminals: make(map[int]*slave)}
	f.root, f.ptmx = &root{}, &ptmx{}
	f.root.Init(f, 1, unix.S_IFDIR|0o755, 0, 0, 0)
	f.ptmx.Init(f, 2, unix.S_IFCHR|0o666, 0, 0, unix.Mkdev(5, 2))
	f.dentry = vfs.NewRoot(f.root)
	return f
}

// Mounter returns what makes instances for mount(2): gid= and mode=, each instance with terminals of
// its own.
func Mounter(k *kernel.Kernel) vfs.Mounter {
	return func(c *vfs.Context, source, options string) (*vfs.Dentry, error) {
		o := Options{Mode: 0o600}
		for _, word := range strings.Split(options, ",") {
			key, value, _ := strings.Cut(word, "=")
			var err error
			var n uint64
			switch key {
			case "gid":
				n, err = strconv.ParseUint(value, 10, 32)
				o.GID, o.HasGID = uint32(n), true
			case "mode":
				n, err = strconv.ParseUint(value, 8, 12)
				o.Mode = uint32(n) & 0o777
			}
			if err != nil {
				return nil, unix.EINVAL
			}
		}
		return New(k, o).dentry, nil
	}
}

// Root returns the root's dentry, to mount.
func (f *FS) Root() *vfs.Dentry { return f.dentry }

// Type returns the name of the type.
func (f *FS) Type() string { return "devpts" }

// Dev returns the device number.
func (f *FS) Dev() uint64 { return f.dev }

// Caching says that terminals come and go.
func (f *FS) Caching() vfs.Caching { return vfs.Volatile }

// Sync does nothing.
func (f *FS) Sync() error { return nil }

// Statfs fills s.
func (f *FS) Statfs(s *vfs.StatFS) error {
	s.Type, s.BlockSize = unix.DEVPTS_SUPER_MAGIC, 4096
	return nil
}

// Count returns how many terminals there are.
func (f *FS) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.terminals)
}

// root is the directory.
type root struct{ vfs.BaseInode }

func (r *root) fs() *FS { return r.FS().(*FS) }

// Lookup finds ptmx or a terminal.
func (r *root) Lookup(c *vfs.Context, name string) (vfs.Inode, error) {
	f := r.fs()
	if name == "ptmx" {
		return f.ptmx, nil
	}
	n, err := strconv.Atoi(name)
	if err != nil || strconv.Itoa(n) != name {
		return nil, unix.ENOENT
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.terminals[n]; s != nil {
		return s, nil
	}
	return nil, unix.ENOENT
}

// Open opens the directory.
func (r *root) Open(*vfs.Context, vfs.Path, uint32) (vfs.File, error) {
	return &openRoot{fs: r.fs()}, nil
}

type openRoot struct {
	vfs.BaseFile
	fs *FS
}

func (*openRoot) Seekable() bool { return true }

func (*openRoot) Read(*vfs.Context, *mm.Buffer, int64) (int, error) { return 0, unix.EISDIR }

// ReadDir lists ptmx at cookie 1, and terminal n at n+2.
func (o *openRoot) ReadDir(c *vfs.Context, off int64, add func(string, uint64, uint32, int64) bool) error {
	if off < 1 && !add("ptmx", 2, unix.S_IFCHR, 1) {
		return nil
	}
	o.fs.mu.Lock()
	var numbers []int
	for n := range o.fs.terminals {
		if int64(n)+2 > off {
			numbers = append(numbers, n)
		}
	}
	o.fs.mu.Unlock()
	slices.Sort(numbers)
	for _, n := range numbers {
		if !add(strconv.Itoa(n), uint64(n)+3, unix.S_IFCHR, int64(n)+2) {
			return nil
		}
	}
	return nil
}

// ptmx makes a pseudoterminal of each open.
type ptmx struct{ vfs.BaseInode }

// Open returns the master end of a new pseudoterminal: ENOSPC when there are too many.
func (p *ptmx) Open(c *vfs.Context, at vfs.Path, flags uint32) (vfs.File, error) {
	f := p.FS().(*FS)
	s := &slave{}
	mode, gid := f.options.Mode, c.Creds.FSGID
	if f.options.HasGID {
		gid = f.options.GID
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for f.terminals[n] != nil {
		n++
	}
	if n >= maxTerminals {
		return nil, unix.ENOSPC
	}
	s.Init(f, uint64(n)+3, unix.S_IFCHR|mode, c.Creds.FSUID, gid, unix.Mkdev(tty.PTYMajor, uint32(n)))
	s.master, s.terminal = tty.NewPTY(n, f.signal, func(c *vfs.Context, flags uint32) (*vfs.Description, error) {
		file, err := s.Open(c, vfs.Path{}, flags)
		if err != nil {
			return nil, err
		}
		return vfs.NewDescription(file, vfs.Path{Dentry: vfs.NewDetached(s, "/dev/pts/"+strconv.Itoa(n))}, flags), nil
	}, func() {
		f.mu.Lock()
		delete(f.terminals, n)
		f.mu.Unlock()
	})
	f.terminals[n] = s
	return s.master, nil
}

// signal sends a terminal's signal to the group in its foreground.
func (f *FS) signal(group int32, sig kernel.Signal) {
	if f.kernel == nil || group == 0 {
		return
	}
	if g := f.kernel.ProcessGroup(group); g != nil {
		g.Kill(sig, kernel.KernelInfo(sig))
	}
}

// slave is a terminal's file.
type slave struct {
	vfs.BaseInode
	master   *tty.Master
	terminal *tty.Terminal
}

// Open opens the terminal: EIO while it is locked, EBUSY when somebody wants it alone.
func (s *slave) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	if s.master.Locked() {
		return nil, unix.EIO
	}
	if s.terminal.Exclusive() && !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
		return nil, unix.EBUSY
	}
	return s.terminal.OpenFor(c, flags), nil
}
