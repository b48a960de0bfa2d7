// Package ninep is the file system of a server that speaks 9P2000.L: a directory of the host.
//
// It takes it that mostly nobody but this machine writes to the share, and looks anew at what it knows of a
// name or a file when that is older than freshFor: changes that the host makes show about a second later, those
// of data when the file is opened, looked at or read to its end. What is open stays the file that was opened.
//
// Data goes through pages in frames that read, write and mappings share. write(2) writes through to the
// server; what is written to a shared mapping is written back by msync, fsync, munmap, close, and every
// few seconds.
//
// A fid is the server's handle for a name rather than for a file: servers like QEMU keep a path. So an
// inode has a fid for its name, which can be dropped and walked to again, and, while it is open, others
// that were opened and outlive the name. A file without a name is served by the latter and by what is
// known of it.
//
// Lock order:
//
//	file.writeMu         writes, write-back and changes of size, one at a time
//	  FS.fidMu           fids of names, and names
//	  inode.mu           attributes
//	  pages.mu           the pages of a file
//	    resident.mu      the list of all leaves
//	  specials.specialsMu  is a leaf
//
// None but writeMu is held while a message is on its way or the program's memory is copied.
package ninep

import (
	"container/list"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// freshFor is how long attributes, and names that weren't there, are believed, in nanoseconds.
const freshFor = int64(time.Second)

// Bounds of what is kept of files that nobody uses.
const (
	maxIdleFids  = 2048
	maxNegatives = 512 // names of a directory that aren't there
	maxDepth     = 4096
)

// writeBackAfter is how long a write to a shared mapping may stay here.
const writeBackAfter = 5 * time.Second

// Options say how a share is mounted.
type Options struct {
	// Name is the tree that the server is asked for (aname).
	Name string
	// Device opens a character or block device. nil: ENXIO.
	Device func(c *vfs.Context, mode uint32, rdev uint64, p vfs.Path, flags uint32) (vfs.File, error)

	onUnmount func()
	glance    time.Duration // see client; 0: defaultGlance
}

// parse takes the options of mount(8) for 9p. Those that say how the share is reached or cached are known
// and mean nothing here.
func (o *Options) parse(options string) error {
	for _, word := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "aname":
			o.Name = value
		case "version":
			if value != version {
				return fmt.Errorf("9p: the version %q of the protocol isn't spoken, only %s: %w", value, version, unix.EINVAL)
			}
		case "", "trans", "msize", "cache", "access", "uname", "dfltuid", "dfltgid", "debug", "noextend", "posixacl", "rw", "ro",
			"nodevmap", "loose", "mmap", "cachetag", "locktimeout", "afid", "defaults":
		default:
			return fmt.Errorf("9p: there is no mount option %q: %w", key, unix.EINVAL)
		}
	}
	return nil
}

// FS is a mounted share.
type FS struct {
	c       *client
	options Options
	dev     uint64
	root    *vfs.Dentry
	user    uint32      // whom the server takes us for
	noChown atomic.Bool // the server refused to give a file away

	inodesMu sync.Mutex // guards inodes
	inodes   map[uint64]weak.Pointer[inode]
	sweepAt  int // how many inodes there are when the dead ones are swept out

	fidMu    sync.Mutex // guards the fids and names of all inodes, and what follows
	idle     list.List  // of *inode: those with a fid, the one used longest ago first
	dropping bool       // a goroutine gives fids back, since there are too many

	dirtyMu    sync.Mutex // guards what follows
	dirty      map[*file]struct{}
	dirtyTimer *time.Timer

	// Renames that began and those that are over: see inode.lookup.
	renamesBegun, renamesOver atomic.Uint64

	createdMu sync.Mutex
	created   *file // the last file that was made, with its open fid

	mountPoints
	specials
}

var shrinkOnce sync.Once

// New mounts the share that t leads to.
func New(t Transport, o Options) (*FS, error) {
	shrinkOnce.Do(func() { mm.RegisterShrinker(Reclaim) })
	f := &FS{c: newClient(t), options: o, dev: vfs.NewDev(), inodes: make(map[uint64]weak.Pointer[inode]), sweepAt: 1024, dirty: make(map[*file]struct{})}
	if o.glance != 0 {
		f.c.glance = o.glance
	}
	if err := f.c.start(); err != nil {
		return nil, err
	}
	fid := f.c.newFid()
	if _, err := f.c.attach(fid, f.user, o.Name); err != nil {
		return nil, fmt.Errorf("9p: the server refuses the tree %q: %w", o.Name, err)
	}
	a, err := f.c.getattr(fid)
	if err != nil {
		return nil, fmt.Errorf("9p: the server tells nothing of its root: %w", err)
	}
	if a.mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("9p: the root of the share is no directory: %w", unix.ENOTDIR)
	}
	i := f.newInode(a)
	i.root, i.fid, i.fidUsers = true, fid, 1 // for ever
	f.enter(i)
	f.root = vfs.NewRoot(i)
	return f, nil
}

// Mounter returns what mount(2) calls for the type "9p": the source is a share's tag.
func (s *Shares) Mounter() vfs.Mounter {
	return func(c *vfs.Context, source, options string) (*vfs.Dentry, error) {
		fs, err := s.Mount(source, options)
		if err != nil {
			return nil, err
		}
		return fs.root, nil
	}
}

// Root returns the root's dentry, to mount.
func (f *FS) Root() *vfs.Dentry { return f.root }

// Type returns the name of the type.
func (f *FS) Type() string { return "9p" }

// Dev returns the device number.
func (f *FS) Dev() uint64 { return f.dev }

// Caching says that names are kept.
func (f *FS) Caching() vfs.Caching { return vfs.Cached }

// Statfs fills s.
func (f *FS) Statfs(s *vfs.StatFS) error {
	root := f.root.Inode().(*inode)
	fid, err := root.acquire()
	if err != nil {
		return err
	}
	defer root.release(fid)
	t, err := f.c.statfs(fid)
	if err != nil {
		return err
	}
	const magic = 0x01021997 // V9FS_MAGIC of statfs(2)
	*s = vfs.StatFS{Type: magic, BlockSize: int64(t.blockSize), Blocks: t.blocks, BlocksFree: t.avail, Files: t.files, FilesFree: t.filesFree, ID: f.dev}
	return nil
}

// Sync writes everything back that shared mappings hold.
func (f *FS) Sync() error {
	var first error
	for _, r := range f.takeDirty() {
		if err := r.writeBack(0, 1<<63); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (f *FS) takeDirty() []*file {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	files := make([]*file, 0, len(f.dirty))
	for r := range f.dirty {
		files = append(files, r)
	}
	return files
}

// addDirty notes that r has pages to write back.
func (f *FS) addDirty(r *file) {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if len(f.dirty) == 0 {
		if f.dirtyTimer == nil {
			f.dirtyTimer = time.AfterFunc(writeBackAfter, f.writeBackOld)
		} else {
			f.dirtyTimer.Reset(writeBackAfter)
		}
	}
	f.dirty[r] = struct{}{}
}

func (f *FS) writeBackOld() {
	f.Sync()
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if len(f.dirty) > 0 {
		f.dirtyTimer.Reset(writeBackAfter)
	}
}

// Unmounted writes back and gives all fids and pages back that nobody uses.
func (f *FS) Unmounted() {
	f.Sync()
	f.putCreated(nil)
	f.inodesMu.Lock()
	var files []*file
	for _, w := range f.inodes {
		if i := w.Value(); i != nil && i.file != nil {
			files = append(files, i.file)
		}
	}
	f.inodesMu.Unlock()
	for _, r := range files {
		r.pages.invalidate(0, 1<<63, true)
	}
	f.dropFids(0)
	if f.options.onUnmount != nil {
		f.options.onUnmount()
	}
}

// Fids returns how many fids the server has for us.
func (f *FS) Fids() int {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.fids
}

// FidsKept returns how many of them nobody uses: they are kept for their next use.
func (f *FS) FidsKept() int {
	f.createdMu.Lock()
	created := f.created
	f.createdMu.Unlock()
	kept := 0
	if created != nil && !created.held() {
		kept = 1
	}
	f.fidMu.Lock()
	defer f.fidMu.Unlock()
	return kept + f.idle.Len()
}

// Waiting returns how many messages the server has to answer.
func (f *FS) Waiting() int {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.busy
}

// DropFids gives back all fids of names that are kept for their next use.
func (f *FS) DropFids() { f.dropFids(0) }

// dropFids clunks fids of names that nobody uses, until keep are left.
func (f *FS) dropFids(keep int) {
	for {
		f.fidMu.Lock()
		if f.idle.Len() <= keep {
			f.fidMu.Unlock()
			return
		}
		i := f.idle.Remove(f.idle.Front()).(*inode)
		fid := i.fid
		i.fid, i.inIdle = noFid, nil
		f.fidMu.Unlock()
		f.c.clunk(fid)
	}
}

// enter makes i findable by its number.
func (f *FS) enter(i *inode) {
	f.inodesMu.Lock()
	defer f.inodesMu.Unlock()
	if len(f.inodes) >= f.sweepAt {
		for path, w := range f.inodes {
			if w.Value() == nil {
				delete(f.inodes, path)
			}
		}
		f.sweepAt = max(1024, 2*len(f.inodes))
	}
	f.inodes[i.path.Load()] = weak.Make(i)
}

// find returns the inode that has the number path, or nil.
func (f *FS) find(path uint64) *inode {
	f.inodesMu.Lock()
	defer f.inodesMu.Unlock()
	return f.inodes[path].Value()
}

// putCreated keeps r, which was just made and has a fid that is open, until another is made: the open that
// follows a creation finds it. If none follows (mknod(2)), the fid is given back here.
func (f *FS) putCreated(r *file) {
	f.createdMu.Lock()
	old := f.created
	f.created = r
	f.createdMu.Unlock()
	if old != nil && old != r {
		old.dropOpenIfUnused()
	}
}

// justCreated says whether r waits for the open that follows its creation.
func (f *FS) justCreated(r *file) bool {
	f.createdMu.Lock()
	defer f.createdMu.Unlock()
	return f.created == r
}

// opened ends that wait.
func (f *FS) opened(r *file) {
	f.createdMu.Lock()
	if f.created == r {
		f.created = nil
	}
	f.createdMu.Unlock()
}

// monotonic returns the time by which freshness is measured, in nanoseconds.
func monotonic() int64 { return kernel.Monotonic() }
