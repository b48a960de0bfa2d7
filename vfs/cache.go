package vfs

import (
	"math"
	"sync/atomic"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/runtime/metal"
)

// The dentries of a Cached file system are what is known of a tree that is elsewhere. A name is believed for
// a second, as the default of Linux's NFS is for what changes often, and then looked up again when somebody
// asks for it. When there are too many dentries, those that nobody asked for lately are evicted: taken out of
// the tree. Whoever is on the way through one at that moment goes on with it; to keep one file from having
// two dentries, the next to look its name up finds it by its inode and enters it again.

// believed is how long a name is believed, in nanoseconds.
const believed = int64(time.Second)

// cachedDentries is how many are in the trees of Cached file systems.
var cachedDentries atomic.Int64

// Of the memory, dentries and what hangs on them may take a part.
const (
	dentryBytes = 1200 // with an inode of 9p, roughly
	dentryShare = 24
	fewDentries = 1024
)

// CachedDentries returns how many dentries are cached.
func CachedDentries() int64 { return cachedDentries.Load() }

// MaxDentries returns how many dentries may be cached.
func MaxDentries() int64 {
	return int64(max(metal.Frames().Total*metal.FrameSize/dentryShare/dentryBytes, fewDentries))
}

// evicting is set while a goroutine evicts.
var evicting atomic.Bool

// fresh says whether d's name is believed without a question.
func (d *Dentry) fresh() bool {
	if !d.used.Load() {
		d.used.Store(true)
	}
	to := d.freshTo.Load()
	return to == math.MaxInt64 || kernel.Monotonic() < to
}

func (d *Dentry) believe() {
	if d.freshTo.Load() != math.MaxInt64 {
		d.freshTo.Store(kernel.Monotonic() + believed)
	}
}

// findCached is findLocked in a Cached file system.
func (c *Context) findCached(d *Dentry, name string) (*Dentry, error) {
	child := d.child(name)
	if child == nil {
		if d.dir.dead {
			return nil, unix.ENOENT // who still has the directory finds nothing in it
		}
		i, err := d.inode.Lookup(c, name)
		if err != nil {
			return nil, err
		}
		return c.enterCached(d, name, i), nil
	}
	r, ok := d.inode.(Revalidator)
	if !ok || child.fresh() {
		return child, nil
	}
	i, err := r.Revalidate(c, name, child.inode)
	switch {
	case err == nil && i == child.inode:
		child.believe()
		return child, nil
	case err != nil && err != unix.ENOENT:
		return nil, err
	case child.covered():
		child.believe() // it can't go while something is mounted there
		return child, nil
	}
	child.removed.Store(true)
	d.leave(child)
	r.Forget(name, child.inode)
	if err != nil {
		return nil, err
	}
	return c.enterCached(d, name, i), nil
}

// enterCached enters i, which Lookup found as name, into d.
func (c *Context) enterCached(d *Dentry, name string, i Inode) *Dentry {
	child := lastDentry(i)
	if child == nil || child.parent.Load() != d || child.name != name || child.removed.Load() {
		child = newDentry(name, i)
	}
	d.enter(child)
	if cachedDentries.Load() > MaxDentries() && evicting.CompareAndSwap(false, true) {
		ns := c.Files.Namespace()
		go func() {
			defer evicting.Store(false)
			ns.evictDentries(MaxDentries() * 3 / 4)
		}()
	}
	return child
}

// covered says whether a mount stands on d or beneath it.
func (d *Dentry) covered() bool {
	if d.mounts.Load() != 0 {
		return true
	}
	found := false
	d.eachDir(func(dir *Dentry) bool {
		dir.dir.mu.Lock()
		defer dir.dir.mu.Unlock()
		for _, c := range dir.dir.children {
			if c.mounts.Load() != 0 {
				found = true
				break
			}
		}
		return !found
	})
	return found
}

// eachDir calls f for d, if it is a directory, and all directories that are cached beneath it, until f
// returns false.
func (d *Dentry) eachDir(f func(dir *Dentry) bool) {
	if d.dir == nil {
		return
	}
	for todo := []*Dentry{d}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !f(at) {
			return
		}
		at.dir.mu.Lock()
		for _, c := range at.dir.children {
			if c.dir != nil {
				todo = append(todo, c)
			}
		}
		at.dir.mu.Unlock()
		metal.CondResched()
	}
}

// EvictDentries evicts all that can be.
func (ns *Namespace) EvictDentries() { ns.evictDentries(0) }

// evictDentries evicts those that weren't used since it looked last, until keep are left.
func (ns *Namespace) evictDentries(keep int64) {
	// A directory is empty only after its children are gone: that takes some rounds.
	for range 4 {
		roots := map[*Dentry]bool{}
		ns.mu.RLock()
		for _, m := range ns.list {
			if m.fs.Caching() == Cached {
				root := m.root
				for up := root.parent.Load(); up != nil && up != root; up = root.parent.Load() {
					root = up
				}
				roots[root] = true
			}
		}
		ns.mu.RUnlock()
		for root := range roots {
			root.eachDir(func(dir *Dentry) bool {
				dir.evictChildren(keep)
				return cachedDentries.Load() > keep
			})
		}
		if cachedDentries.Load() <= keep {
			return
		}
	}
}

// evictChildren evicts children of d until keep dentries are left.
func (d *Dentry) evictChildren(keep int64) {
	if !d.dir.changeMu.TryLock() {
		return // what is changing now is in use
	}
	defer d.dir.changeMu.Unlock()
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	for name, c := range d.dir.children {
		if cachedDentries.Load() <= keep {
			return
		}
		if c.used.Load() {
			c.used.Store(false)
			continue
		}
		if c.pins.Load() != 0 || c.mounts.Load() != 0 || c.freshTo.Load() == math.MaxInt64 || c.dir != nil && !c.empty() {
			continue
		}
		if e, ok := c.inode.(evictable); ok {
			p := weak.Make(c)
			e.setEvicted(&p)
			delete(d.dir.children, name)
			cachedDentries.Add(-1)
		}
	}
}

// evictable is an inode that remembers the dentry that was evicted last, as a BaseInode does.
type evictable interface {
	setEvicted(p *weak.Pointer[Dentry])
	lastEvicted() *weak.Pointer[Dentry]
}

func (b *BaseInode) setEvicted(p *weak.Pointer[Dentry]) { b.evicted.Store(p) }
func (b *BaseInode) lastEvicted() *weak.Pointer[Dentry] { return b.evicted.Load() }

// lastDentry returns the dentry of i that was evicted last, if anybody still has it.
func lastDentry(i Inode) *Dentry {
	if e, ok := i.(evictable); ok {
		if p := e.lastEvicted(); p != nil {
			return p.Value()
		}
	}
	return nil
}
