package vfs

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What happens to files, told to who watches them (inotify(7)). The core raises every event, so that all
// file systems have them; with nobody watching anything that costs one load.

// Event is something that happened to a file, or to an entry of a directory.
type Event struct {
	Mask     uint32 // one IN_* event, and IN_ISDIR
	Cookie   uint32 // the same for both halves of a rename
	Name     string // of the entry; "" when it is about the watched file itself
	Unlinked bool   // the entry's file has been removed from the directory
}

// Observer watches a file.
type Observer interface {
	// Observe hears of an event, and returns true to hear of no other. It must not block, and not call
	// AddObserver or RemoveObserver. IN_DELETE_SELF and IN_UNMOUNT are the last events in any case.
	Observe(e Event) (done bool)
}

// observers are those of one file.
type observers struct {
	mu   sync.Mutex
	gone bool // the file was deleted
	list []Observer
}

// watching counts observers of all files.
var watching atomic.Int64

// watched is the files that have observers: *observers to Inode.
var watched sync.Map

func (b *BaseInode) observed(create bool) *observers {
	o := b.watchers.Load()
	if o == nil && create {
		b.watchers.CompareAndSwap(nil, new(observers))
		o = b.watchers.Load()
	}
	return o
}

func observersOf(i Inode, create bool) *observers {
	if w, ok := i.(interface{ observed(bool) *observers }); ok {
		return w.observed(create)
	}
	return nil
}

// AddObserver lets o hear what happens to i: ENOENT when it is gone already.
func AddObserver(i Inode, o Observer) error {
	w := observersOf(i, true)
	if w == nil {
		return unix.ENOSPC
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return unix.ENOENT
	}
	w.list = append(w.list, o)
	watching.Add(1)
	watched.Store(w, i)
	return nil
}

// RemoveObserver undoes AddObserver.
func RemoveObserver(i Inode, o Observer) {
	w := observersOf(i, false)
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep(func(other Observer) bool { return other != o })
}

// keep drops the observers that f returns false for. Precondition: mu is held.
func (w *observers) keep(f func(Observer) bool) {
	n := len(w.list)
	w.list = slices.DeleteFunc(w.list, func(o Observer) bool { return !f(o) })
	watching.Add(int64(len(w.list) - n))
	if len(w.list) == 0 {
		watched.Delete(w)
	}
}

// tell tells the observers of i of an event.
func tell(i Inode, e Event) {
	w := observersOf(i, false)
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := e.Mask&(unix.IN_DELETE_SELF|unix.IN_UNMOUNT) != 0
	w.gone = w.gone || last
	w.keep(func(o Observer) bool { return !o.Observe(e) && !last })
}

func isDirectory(i Inode) uint32 {
	if mode, _, _ := i.Perm(); mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.IN_ISDIR
	}
	return 0
}

// happened tells of an event of the file at d, in its directory first.
//
// Precondition: no lock of the tree is held.
func (d *Dentry) happened(mask uint32) {
	if watching.Load() == 0 {
		return
	}
	mask |= isDirectory(d.inode)
	if parent := d.parent.Load(); parent != nil && parent != d {
		renameMu.RLock()
		name := d.name
		renameMu.RUnlock()
		tell(parent.inode, Event{Mask: mask, Name: name, Unlinked: d.removed.Load()})
	}
	tell(d.inode, Event{Mask: mask})
}

// happened is Dentry.happened for an open file.
func (d *Description) happened(mask uint32) {
	if watching.Load() != 0 && d.path.Dentry != nil && d.mode&pathOnly == 0 {
		d.path.Dentry.happened(mask)
	}
}

// entered tells of a new name in the directory dir. A link changes the file, too.
func entered(dir Inode, name string, i Inode, link bool) {
	if watching.Load() == 0 {
		return
	}
	if link {
		tell(i, Event{Mask: unix.IN_ATTRIB | isDirectory(i)})
	}
	tell(dir, Event{Mask: unix.IN_CREATE | isDirectory(i), Name: name})
}

// left tells that d, named name, was removed from dir, by unlink or rmdir.
func left(dir Inode, name string, d *Dentry) {
	if watching.Load() == 0 {
		return
	}
	if !d.isDir() {
		tell(d.inode, Event{Mask: unix.IN_ATTRIB})
	}
	d.deleted()
	tell(dir, Event{Mask: unix.IN_DELETE | isDirectory(d.inode), Name: name})
}

// deleted tells of the end of a file, if nobody has it open under this name and it has no other.
func (d *Dentry) deleted() {
	if watching.Load() == 0 || !d.removed.Load() || d.pins.Load() != 0 {
		return
	}
	var a Attr
	if d.inode.Stat(&a) == nil && a.Nlink == 0 {
		tell(d.inode, Event{Mask: unix.IN_DELETE_SELF})
	}
}

var lastCookie atomic.Uint32

// renamed tells of a move from the directory from to the directory to. replaced is what it took the
// place of, or nil.
func renamed(from Inode, oldName string, moved *Dentry, to Inode, newName string, replaced *Dentry) {
	if watching.Load() == 0 {
		return
	}
	cookie, kind := lastCookie.Add(1), isDirectory(moved.inode)
	tell(from, Event{Mask: unix.IN_MOVED_FROM | kind, Cookie: cookie, Name: oldName})
	tell(to, Event{Mask: unix.IN_MOVED_TO | kind, Cookie: cookie, Name: newName})
	if replaced != nil {
		tell(replaced.inode, Event{Mask: unix.IN_ATTRIB | isDirectory(replaced.inode)})
	}
	tell(moved.inode, Event{Mask: unix.IN_MOVE_SELF})
	if replaced != nil {
		replaced.deleted()
	}
}

// attributesChanged tells of a SetAttr.
func (d *Dentry) attributesChanged(s *SetAttr) {
	if watching.Load() == 0 {
		return
	}
	const both = SetAtime | SetMtime
	mask := uint32(0)
	if s.Valid&(SetUID|SetGID|SetMode) != 0 || s.Valid&both == both {
		mask |= unix.IN_ATTRIB
	} else if s.Valid&SetAtime != 0 {
		mask |= unix.IN_ACCESS
	} else if s.Valid&SetMtime != 0 {
		mask |= unix.IN_MODIFY
	}
	if s.Valid&SetSize != 0 {
		mask |= unix.IN_MODIFY
	}
	if mask != 0 {
		d.happened(mask)
	}
}

// unmounted tells who watches files of fs that it is there no more.
func unmounted(fs FileSystem) {
	if watching.Load() == 0 {
		return
	}
	watched.Range(func(_, i any) bool {
		if inode := i.(Inode); inode.FS() == fs {
			tell(inode, Event{Mask: unix.IN_UNMOUNT})
		}
		return true
	})
}
