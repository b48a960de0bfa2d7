// Package procfs is /proc and /sys: files whose content is made when they are read.
//
// Every file is a node: a directory with a way to find and list names, a file with a function that
// makes its content (kept by the open file from a read at offset 0 to the next), or a link. Static
// directories are built once; those of processes, threads and descriptors are made by each walk.
package procfs

import (
	"sort"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// Config is what /proc shows beside the kernel's own state.
type Config struct {
	Kernel *kernel.Kernel // nil: no processes
	Random func(p []byte)
	// CommandLine is /proc/cmdline.
	CommandLine string
	// CPUInfo is /proc/cpuinfo.
	CPUInfo func() string
	// Net is /proc/net: names of files and what makes their content.
	Net map[string]func() string
	// NetFolders are the folders of /proc/net. What is in one is asked for when somebody looks for the first time.
	NetFolders map[string]func() map[string]func() string
	// NetSettings are the files of /proc/sys/net that can be set.
	NetSettings []Setting
	// Elver is /proc/elver: names of files and what makes their content.
	Elver map[string]func() string
	// DropNames gives back what file systems keep of names beside dentries; nil if none does.
	DropNames func()
}

// Setting is a file of numbers that can be written.
type Setting struct {
	Path  string
	Count int
	Get   func() []int
	Set   func([]int) error
}

// FS is a /proc or /sys.
type FS struct {
	config Config
	name   string
	magic  int64
	dev    uint64
	root   *vfs.Dentry

	devices     func() []Entry // of /sys
	devicesOnce sync.Once

	mu      sync.Mutex
	lastIno uint64
	values  map[string]string // of files under sys that can be written
	bootID  string
}

// New returns a /proc.
func New(config Config) *FS {
	f := &FS{config: config, name: "proc", magic: unix.PROC_SUPER_MAGIC, dev: vfs.NewDev(), values: make(map[string]string)}
	f.bootID = f.uuid()
	f.root = vfs.NewRoot(f.processes(f.static()))
	return f
}

// Entry is a file of /sys: its path there, what makes its content, and what takes what is written to it, nil if
// nothing can be; or a link, if Target is not empty.
type Entry struct {
	Path   string
	Get    func() (string, error)
	Set    func(c *vfs.Context, value string) error
	Target string
}

// NewSys returns a /sys. devices makes what is of the machine's devices in its folders devices, class and bus when
// somebody looks there for the first time; nil: there is nothing.
func NewSys(devices func() []Entry) *FS {
	f := &FS{name: "sysfs", magic: unix.SYSFS_MAGIC, dev: vfs.NewDev(), values: make(map[string]string), devices: devices}
	top := f.static()
	top.fill = func() { f.addSys(top) }
	f.root = vfs.NewRoot(top)
	return f
}

// Mounter returns what mounts a further instance for mount(2).
func (f *FS) Mounter() vfs.Mounter {
	return func(*vfs.Context, string, string) (*vfs.Dentry, error) { return vfs.NewRoot(f.root.Inode()), nil }
}

// Root returns the root's dentry, to mount.
func (f *FS) Root() *vfs.Dentry { return f.root }

// Type returns the name of the type.
func (f *FS) Type() string { return f.name }

// Dev returns the device number.
func (f *FS) Dev() uint64 { return f.dev }

// Caching says that names come and go.
func (f *FS) Caching() vfs.Caching { return vfs.Volatile }

// Sync does nothing.
func (f *FS) Sync() error { return nil }

// Statfs fills s.
func (f *FS) Statfs(s *vfs.StatFS) error {
	s.Type, s.BlockSize = f.magic, 4096
	return nil
}

func (f *FS) newIno() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastIno++
	return f.lastIno
}

// Inode numbers of what walks make: process, thread or descriptor number above, kind below.
const (
	dynamicIno = 1 << 40
	kindBits   = 8
)

// adder gets the entries of a directory: cookies are positive and rise.
type adder func(name string, ino uint64, mode uint32, cookie int64) bool

// dir is a directory.
type dir struct {
	vfs.BaseInode
	find func(c *vfs.Context, name string) (vfs.Inode, error)
	list func(c *vfs.Context, after int64, add adder) error

	// of a static directory
	fill     func() // makes what follows: most programs never look
	filling  sync.Once
	names    []string
	children map[string]vfs.Inode

	process *kernel.Process // of the directory /proc/PID
}

// Process returns the process whose directory this is, nil for another directory.
func (d *dir) Process() *kernel.Process { return d.process }

func (f *FS) newDir(ino uint64, mode uint32) *dir {
	d := &dir{}
	d.Init(f, ino, unix.S_IFDIR|mode, 0, 0, 0)
	return d
}

// static returns an empty static directory.
func (f *FS) static() *dir {
	d := f.newDir(f.newIno(), 0o555)
	d.children = make(map[string]vfs.Inode)
	return d
}

// sub returns the static directory of that name in d, making it if need be.
func (d *dir) sub(name string) *dir {
	if c, ok := d.children[name]; ok {
		return c.(*dir)
	}
	n := d.FS().(*FS).static()
	d.put(name, n)
	d.AddLinks(1)
	return n
}

func (d *dir) put(name string, i vfs.Inode) {
	d.names = append(d.names, name)
	d.children[name] = i
}

// file adds a file whose content make returns.
func (d *dir) file(name string, make func(c *vfs.Context) string) *text {
	f := d.FS().(*FS)
	t := f.newText(f.newIno(), 0o444, func(c *vfs.Context) ([]byte, error) { return []byte(make(c)), nil })
	d.put(name, t)
	return t
}

// filled makes the static entries, if that is still to do.
func (d *dir) filled() {
	if d.fill != nil {
		d.filling.Do(d.fill)
	}
}

// Lookup finds a name, first among those that come and go.
func (d *dir) Lookup(c *vfs.Context, name string) (vfs.Inode, error) {
	if d.find != nil {
		if i, err := d.find(c, name); err != unix.ENOENT {
			return i, err
		}
	}
	d.filled()
	if i, ok := d.children[name]; ok {
		return i, nil
	}
	return nil, unix.ENOENT
}

// Stat fills a.
func (d *dir) Stat(a *vfs.Attr) error {
	d.filled() // its links count directories
	return d.BaseInode.Stat(a)
}

// Open opens the directory.
func (d *dir) Open(*vfs.Context, vfs.Path, uint32) (vfs.File, error) { return &openDir{dir: d}, nil }

type openDir struct {
	vfs.BaseFile
	dir *dir
}

func (*openDir) Seekable() bool { return true }

func (*openDir) Read(*vfs.Context, *mm.Buffer, int64) (int, error) { return 0, unix.EISDIR }

// ReadDir lists what is static, then the rest.
func (o *openDir) ReadDir(c *vfs.Context, off int64, add func(string, uint64, uint32, int64) bool) error {
	d := o.dir
	d.filled()
	for i := off; i < int64(len(d.names)); i++ {
		n := d.children[d.names[i]]
		mode, _, _ := n.Perm()
		if !add(d.names[i], n.Ino(), mode, i+1) {
			return nil
		}
	}
	if d.list == nil {
		return nil
	}
	base := int64(len(d.names))
	return d.list(c, max(off-base, 0), func(name string, ino uint64, mode uint32, cookie int64) bool {
		return add(name, ino, mode, base+cookie)
	})
}

// text is a file whose content is made when it is read.
type text struct {
	vfs.BaseInode
	make  func(c *vfs.Context) ([]byte, error)
	write func(c *vfs.Context, value string) error // nil: it can't be written
}

func (f *FS) newText(ino uint64, mode uint32, make func(c *vfs.Context) ([]byte, error)) *text {
	t := &text{make: make}
	t.Init(f, ino, unix.S_IFREG|mode, 0, 0, 0)
	return t
}

// writable lets the file be written through set.
func (t *text) writable(set func(c *vfs.Context, value string) error) {
	t.write = set
	t.BaseInode.SetAttr(nil, &vfs.SetAttr{Valid: vfs.SetMode, Mode: 0o644})
}

// SetAttr ignores a change of size: open with O_TRUNC makes one. The rest isn't allowed.
func (t *text) SetAttr(c *vfs.Context, s *vfs.SetAttr) error {
	if s.Valid == vfs.SetSize {
		return nil
	}
	return unix.EPERM
}

// Open opens the file.
func (t *text) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	if flags&unix.O_ACCMODE != unix.O_RDONLY && t.write == nil {
		return nil, unix.EACCES
	}
	return &openText{text: t}, nil
}

type openText struct {
	vfs.BaseFile
	text *text

	mu      sync.Mutex
	content []byte // replaced, never written to
	made    bool
}

func (*openText) Seekable() bool { return true }

// Size is the size that a seek to the end sees.
func (*openText) Size() int64 { return 0 }

func (o *openText) Read(c *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	o.mu.Lock()
	if off == 0 || !o.made {
		p, err := o.text.make(c)
		if err != nil {
			o.mu.Unlock()
			return 0, err
		}
		o.content, o.made = p, true
	}
	p := o.content
	o.mu.Unlock()
	if off >= int64(len(p)) {
		return 0, nil
	}
	p = p[off:]
	return dst.CopyOut(p[:min(len(p), dst.Len())])
}

// maxValue bounds what can be written to a file here.
const maxValue = 4096

func (o *openText) Write(c *vfs.Context, src *mm.Buffer, off int64) (int, error) {
	if o.text.write == nil {
		return 0, unix.EACCES
	}
	n := src.Len()
	if n > maxValue {
		return 0, unix.EINVAL
	}
	p := make([]byte, n)
	n, err := src.CopyIn(p)
	if err != nil {
		return 0, err
	}
	if err := o.text.write(c, string(p[:n])); err != nil {
		return 0, err
	}
	return n, nil
}

// link is a symbolic link.
type link struct {
	vfs.BaseInode
	target func(c *vfs.Context) (string, error)
}

func (f *FS) newLink(ino uint64, target func(c *vfs.Context) (string, error)) *link {
	l := &link{target: target}
	l.Init(f, ino, unix.S_IFLNK|0o777, 0, 0, 0)
	return l
}

// Readlink returns the target.
func (l *link) Readlink(c *vfs.Context) (string, error) { return l.target(c) }

// magic is a link that leads to a file itself, whatever its name is now.
type magic struct {
	vfs.BaseInode
	to func() (vfs.Path, error)
}

func (f *FS) newMagic(ino uint64, mode uint32, to func() (vfs.Path, error)) *magic {
	m := &magic{to: to}
	m.Init(f, ino, unix.S_IFLNK|mode, 0, 0, 0)
	return m
}

// Readlink returns the name of the file as the caller sees it.
func (m *magic) Readlink(c *vfs.Context) (string, error) {
	p, err := m.to()
	if err != nil {
		return "", err
	}
	return c.Files.Name(p), nil
}

// Jump returns the file.
func (m *magic) Jump(*vfs.Context) (vfs.Path, error) { return m.to() }

// number reads a name that is a number without leading zeros.
func number(name string) (int32, bool) {
	n, err := strconv.ParseInt(name, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != name {
		return 0, false
	}
	return int32(n), true
}

// numbers lists numbers as names, each cookie one more than its number.
func numbers(all []int32, kind uint64, mode uint32, after int64, add adder) {
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	for _, n := range all {
		if int64(n) < after {
			continue
		}
		if !add(strconv.Itoa(int(n)), dynamicIno|uint64(n)<<kindBits|kind, mode, int64(n)+1) {
			return
		}
	}
}
