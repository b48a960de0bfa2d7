package vfs

import (
	"math"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// renameMu orders renames against each other and against whoever prints a path.
var renameMu sync.RWMutex

// Dentry is a name in the tree and the file it names. The root of a mount has no name, a file that is
// in no directory (a pipe, a memfd) no parent.
type Dentry struct {
	inode  Inode
	parent atomic.Pointer[Dentry] // itself for a root; changed under renameMu
	name   string                 // guarded by renameMu
	seq    uint64                 // cookie in the parent's list, guarded by its directory.mu
	dir    *directory             // of a directory, else nil

	mounts  atomic.Int32 // mounts that stand on this dentry
	pins    atomic.Int32 // open files, roots and working directories that are this dentry
	removed atomic.Bool  // unlinked: the name is history

	// Of a Cached file system: see cache.go.
	freshTo atomic.Int64 // the name is believed until then, by kernel.Monotonic
	used    atomic.Bool  // since eviction last looked
}

// directory is what a dentry of a directory has beside.
type directory struct {
	changeMu sync.Mutex // held while names are added, removed and looked up in the file system
	dead     bool       // removed: nothing may be created here; guarded by changeMu

	mu       sync.Mutex // guards what follows, for moments
	children map[string]*Dentry
	list     []slot // in the order of creation, of a Resident file system only
	lastSeq  uint64
	holes    int // slots without a dentry
}

type slot struct {
	seq    uint64
	dentry *Dentry
}

func newDentry(name string, i Inode) *Dentry {
	d := &Dentry{inode: i, name: name}
	if mode, _, _ := i.Perm(); mode&unix.S_IFMT == unix.S_IFDIR {
		d.dir = &directory{}
	}
	return d
}

// NewRoot returns the dentry of a file system's root.
func NewRoot(i Inode) *Dentry {
	d := newDentry("/", i)
	d.parent.Store(d)
	return d
}

// NewDetached returns a dentry of a file that is in no directory, printed as name.
func NewDetached(i Inode, name string) *Dentry { return newDentry(name, i) }

// Inode returns the file that the dentry names.
func (d *Dentry) Inode() Inode { return d.inode }

// pin keeps p, which is open or a root or working directory: its mount is busy.
func (p Path) pin() {
	p.Dentry.pins.Add(1)
	if p.Mount != nil {
		p.Mount.pins.Add(1)
	}
}

// unpin undoes pin.
func (p Path) unpin() {
	if p.Mount != nil {
		p.Mount.pins.Add(-1)
	}
	if p.Dentry.pins.Add(-1) == 0 {
		p.Dentry.deleted()
	}
}

func (d *Dentry) isDir() bool { return d.dir != nil }

// child returns the cached dentry of name, or nil.
func (d *Dentry) child(name string) *Dentry {
	d.dir.mu.Lock()
	c := d.dir.children[name]
	d.dir.mu.Unlock()
	return c
}

// Child returns the dentry of name in a Resident directory, or nil.
func (d *Dentry) Child(name string) *Dentry { return d.child(name) }

// enter makes c a child. Precondition: changeMu is held, or the tree is not yet in use.
func (d *Dentry) enter(c *Dentry) {
	c.parent.Store(d)
	dir := d.dir
	resident := false
	switch d.inode.FS().Caching() {
	case Resident:
		resident = true
	case Cached:
		c.believe()
		c.used.Store(true)
		cachedDentries.Add(1)
	}
	dir.mu.Lock()
	defer dir.mu.Unlock()
	if dir.children == nil {
		dir.children = make(map[string]*Dentry)
	}
	dir.children[c.name] = c
	dir.lastSeq++
	c.seq = dir.lastSeq
	if resident {
		dir.list = append(dir.list, slot{c.seq, c})
	}
}

// leave undoes enter. Precondition: changeMu is held.
func (d *Dentry) leave(c *Dentry) {
	dir := d.dir
	dir.mu.Lock()
	defer dir.mu.Unlock()
	if dir.children[c.name] == c {
		delete(dir.children, c.name)
		if d.inode.FS().Caching() == Cached {
			cachedDentries.Add(-1)
		}
	}
	i := dir.find(c.seq - 1)
	if i == len(dir.list) || dir.list[i].dentry != c {
		return
	}
	dir.list[i].dentry = nil
	dir.holes++
	if dir.holes > 16 && dir.holes > len(dir.list)/2 {
		kept := make([]slot, 0, len(dir.list)-dir.holes)
		for _, s := range dir.list {
			if s.dentry != nil {
				kept = append(kept, s)
			}
		}
		dir.list, dir.holes = kept, 0
	}
}

// find returns the index of the first slot behind cookie. Precondition: mu is held.
func (dir *directory) find(cookie uint64) int {
	return sort.Search(len(dir.list), func(i int) bool { return dir.list[i].seq > cookie })
}

// after returns up to n children of a Resident directory behind cookie.
func (d *Dentry) after(cookie uint64, out []entry) []entry {
	dir := d.dir
	dir.mu.Lock()
	defer dir.mu.Unlock()
	for i := dir.find(cookie); i < len(dir.list) && len(out) < cap(out); i++ {
		if c := dir.list[i].dentry; c != nil {
			// c.name is stable: a rename takes c out of this list first, under mu.
			out = append(out, entry{name: c.name, inode: c.inode, cookie: dir.list[i].seq})
		}
	}
	return out
}

type entry struct {
	name   string
	inode  Inode
	cookie uint64
}

func (d *Dentry) empty() bool {
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	return len(d.dir.children) == 0
}

// Add enters an inode under name in a directory that is not yet in use, for ever: a file system's way to
// build its tree. It returns the new dentry.
func (d *Dentry) Add(name string, i Inode) *Dentry {
	d.dir.changeMu.Lock()
	defer d.dir.changeMu.Unlock()
	c := newDentry(name, i)
	d.enter(c)
	c.freshTo.Store(math.MaxInt64)
	return c
}

// Remove takes a name out of a Resident directory.
func (d *Dentry) Remove(name string) {
	d.dir.changeMu.Lock()
	defer d.dir.changeMu.Unlock()
	if c := d.child(name); c != nil {
		c.removed.Store(true)
		d.leave(c)
	}
}

// Prune empties a Resident tree that is unmounted: drop gets every file beneath d that is no
// directory, once for each of its names.
func (d *Dentry) Prune(drop func(Inode)) {
	d.dir.mu.Lock()
	list := d.dir.list
	d.dir.list, d.dir.children, d.dir.holes = nil, nil, 0
	d.dir.mu.Unlock()
	for _, s := range list {
		switch {
		case s.dentry == nil:
		case s.dentry.isDir():
			s.dentry.Prune(drop)
		default:
			drop(s.dentry.inode)
		}
	}
}

// within says whether d is a or beneath it. Precondition: renameMu is held.
func (d *Dentry) within(a *Dentry) bool {
	for {
		if d == a {
			return true
		}
		p := d.parent.Load()
		if p == nil || p == d {
			return false
		}
		d = p
	}
}

// Path is a place in the tree: a dentry as seen through a mount.
type Path struct {
	Mount  *Mount
	Dentry *Dentry
}

// Inode returns the file at the place.
func (p Path) Inode() Inode { return p.Dentry.inode }

func (p Path) stat(a *Attr) error {
	if err := p.Dentry.inode.Stat(a); err != nil {
		return err
	}
	if p.Mount != nil {
		a.MountID = p.Mount.id
		a.MountRoot = p.Dentry == p.Mount.root
	}
	return nil
}

// Stat fills a.
func (p Path) Stat(a *Attr) error { return p.stat(a) }

// name returns the absolute path of p as seen from root; reachable is false when p is not beneath it.
func (p Path) name(root Path) (name string, reachable bool) {
	if p.Mount == nil {
		return p.Dentry.name, true
	}
	renameMu.RLock()
	defer renameMu.RUnlock()
	var parts []string
	for p != root {
		if p.Dentry == p.Mount.root || p.Dentry.parent.Load() == p.Dentry {
			at, ok := p.Mount.covers()
			if !ok {
				return joinReverse(parts), false
			}
			p = at
			continue
		}
		up := p.Dentry.parent.Load()
		if up == nil {
			return p.Dentry.name, true
		}
		parts = append(parts, p.Dentry.name)
		p.Dentry = up
	}
	return joinReverse(parts), true
}

// inside returns the path of d within its file system.
func (d *Dentry) inside() string {
	renameMu.RLock()
	defer renameMu.RUnlock()
	var parts []string
	for p := d.parent.Load(); p != nil && p != d; d, p = p, p.parent.Load() {
		parts = append(parts, d.name)
	}
	return joinReverse(parts)
}

func joinReverse(parts []string) string {
	if len(parts) == 0 {
		return "/"
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(parts[i])
	}
	return b.String()
}

// String returns the absolute path of p in its namespace, as /proc/PID/maps shows it.
func (p Path) String() string {
	if p.Dentry == nil {
		return ""
	}
	var root Path
	if p.Mount != nil {
		root = p.Mount.ns.Root()
	}
	name, _ := p.name(root)
	if p.Dentry.removed.Load() {
		name += " (deleted)"
	}
	return name
}
