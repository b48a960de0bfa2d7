package vfs

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/waitq"
)

// Flags of a mount that mean something here.
const (
	mountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME |
		unix.MS_NOSYMFOLLOW
)

// mountUnbindable is the flag of a mount that can't be bound elsewhere (mount(2), MS_UNBINDABLE).
const mountUnbindable = unix.MS_UNBINDABLE

// Mount is a file system, or a subtree of one, at a place of the tree.
type Mount struct {
	ns     *Namespace
	id     uint64
	fs     FileSystem
	root   *Dentry
	source string
	flags  atomic.Uint64 // MS_* of mountFlags, and mountUnbindable
	pins   atomic.Int64  // open files, roots and working directories

	// guarded by ns.mu
	parent *Mount // nil of the namespace's root, and when unmounted
	point  *Dentry
	gone   bool
}

// FS returns the file system.
func (m *Mount) FS() FileSystem { return m.fs }

// Root returns the place where the mount's tree begins.
func (m *Mount) Root() Path { return Path{m, m.root} }

// ID returns the mount's number, as /proc/self/mountinfo and statx show it.
func (m *Mount) ID() uint64 { return m.id }

// ReadOnly says whether MS_RDONLY is set.
func (m *Mount) ReadOnly() bool { return m.flags.Load()&unix.MS_RDONLY != 0 }

func (m *Mount) has(flag uint64) bool { return m.flags.Load()&flag != 0 }

// covers returns the place under the mount's root.
func (m *Mount) covers() (Path, bool) {
	m.ns.mu.RLock()
	defer m.ns.mu.RUnlock()
	if m.parent == nil {
		return Path{}, false
	}
	return Path{m.parent, m.point}, true
}

type mountKey struct {
	mount  *Mount
	dentry *Dentry
}

// Namespace is the set of mounts that a process sees.
type Namespace struct {
	mu     sync.RWMutex
	points map[mountKey]*Mount // the topmost mount at a place
	list   []*Mount            // in the order of mounting
	root   *Mount
	lastID uint64
	types  map[string]Mounter

	changes atomic.Uint64 // of what /proc/mounts shows
	queue   waitq.Queue   // told of them
}

// Changes returns a number that another mount, umount or remount makes another one.
func (ns *Namespace) Changes() uint64 { return ns.changes.Load() }

// EventRegister has e told, by EventErr and EventPri, when Changes changes.
func (ns *Namespace) EventRegister(e *waiter.Entry) { ns.queue.EventRegister(e) }

// EventUnregister undoes EventRegister.
func (ns *Namespace) EventUnregister(e *waiter.Entry) { ns.queue.EventUnregister(e) }

func (ns *Namespace) changed() {
	ns.changes.Add(1)
	ns.queue.Notify(waiter.EventErr | waiter.EventPri | waiter.ReadableEvents)
}

// Mounter makes an instance of a file system for mount(2), and returns its root.
type Mounter func(c *Context, source, options string) (*Dentry, error)

// NewNamespace returns a namespace whose root is the file system that root belongs to.
func NewNamespace(root *Dentry, source string) *Namespace {
	ns := &Namespace{points: make(map[mountKey]*Mount), types: make(map[string]Mounter)}
	ns.root = ns.newMount(root, source, unix.MS_RELATIME)
	ns.list = append(ns.list, ns.root)
	return ns
}

func (ns *Namespace) newMount(root *Dentry, source string, flags uint64) *Mount {
	ns.lastID++
	m := &Mount{ns: ns, id: ns.lastID + 20, fs: root.inode.FS(), root: root, source: source}
	m.flags.Store(flags & mountFlags)
	return m
}

// Root returns the root directory.
func (ns *Namespace) Root() Path {
	p := ns.root.Root()
	return ns.top(p)
}

// Register makes a type of file system known to mount(2) and /proc/filesystems.
func (ns *Namespace) Register(name string, m Mounter) {
	ns.mu.Lock()
	ns.types[name] = m
	ns.mu.Unlock()
}

// Types returns the names of the known types of file systems.
func (ns *Namespace) Types() []string {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	var names []string
	for n := range ns.types {
		names = append(names, n)
	}
	return names
}

// top follows mounts that stand on p.
func (ns *Namespace) top(p Path) Path {
	for p.Dentry.mounts.Load() != 0 {
		ns.mu.RLock()
		m := ns.points[mountKey{p.Mount, p.Dentry}]
		ns.mu.RUnlock()
		if m == nil {
			break
		}
		p = Path{m, m.root}
	}
	return p
}

// Attach mounts the tree at root on the directory (or, a file on a file) at.
func (ns *Namespace) Attach(at Path, root *Dentry, source string, flags uint64) (*Mount, error) {
	if at.Dentry.isDir() != root.isDir() {
		return nil, unix.ENOTDIR
	}
	at = ns.top(at)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if at.Mount == nil || at.Mount.gone || at.Dentry.removed.Load() {
		return nil, unix.ENOENT
	}
	return ns.attach(at, root, source, flags), nil
}

// attach is Attach. Precondition: mu is held.
func (ns *Namespace) attach(at Path, root *Dentry, source string, flags uint64) *Mount {
	m := ns.newMount(root, source, flags)
	m.parent, m.point = at.Mount, at.Dentry
	at.Dentry.mounts.Add(1)
	ns.points[mountKey{at.Mount, at.Dentry}] = m
	ns.list = append(ns.list, m)
	ns.changed()
	return m
}

// maxMounts is how many mounts there may be (Linux: fs.mount-max).
const maxMounts = 100000

// bind mounts from on at too, and with all set also what is mounted in it, but for what is unbindable: EINVAL,
// ENOENT, ENOSPC.
func (ns *Namespace) bind(at, from Path, all bool) error {
	if at.Dentry.isDir() != from.Dentry.isDir() {
		return unix.ENOTDIR
	}
	at = ns.top(at)
	renameMu.RLock()
	defer renameMu.RUnlock()
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if at.Mount == nil || at.Mount.gone || from.Mount.gone || at.Dentry.removed.Load() {
		return unix.ENOENT
	}
	list := ns.list // without what is added here
	if len(list) > maxMounts/2 {
		return unix.ENOSPC
	}
	copies := map[*Mount]*Mount{from.Mount: ns.attach(at, from.Dentry, from.Mount.source, from.Mount.flags.Load())}
	if !all {
		return nil
	}
	for _, m := range list { // a mount is behind its parent in the list
		to := copies[m.parent]
		if to == nil || m.has(mountUnbindable) || m.parent == from.Mount && !m.point.within(from.Dentry) {
			continue
		}
		copies[m] = ns.attach(Path{to, m.point}, m.root, m.source, m.flags.Load())
	}
	return nil
}

// setPropagation is mount(2) with one of MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE and MS_SHARED. There are no peer
// groups, of which the last one would make the mount a member: all mounts are private, as a slave without a
// master is.
func (ns *Namespace) setPropagation(at Path, flags uint64) error {
	kind := flags &^ (unix.MS_REC | unix.MS_SILENT)
	switch kind {
	case unix.MS_PRIVATE, unix.MS_SLAVE, mountUnbindable:
	default:
		return unix.EINVAL
	}
	if !at.isMountRoot() {
		return unix.EINVAL
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	in := map[*Mount]bool{at.Mount: true}
	for _, m := range ns.list {
		if flags&unix.MS_REC != 0 && in[m.parent] {
			in[m] = true
		}
		switch {
		case !in[m]:
		case kind == mountUnbindable:
			m.flags.Or(mountUnbindable)
		default:
			m.flags.And(^uint64(mountUnbindable))
		}
	}
	return nil
}

// within says whether p is beneath top, or it, mounts between them followed. Precondition: mu and renameMu are held.
func (ns *Namespace) within(p, top Path) bool {
	for p.Mount != top.Mount {
		if p.Mount == nil || p.Mount.parent == nil {
			return false
		}
		p = Path{p.Mount.parent, p.Mount.point}
	}
	return p.Dentry.within(top.Dentry)
}

// pivot makes the mount whose root is to the one at root, which goes to put: EINVAL, EBUSY, ENOENT, as pivot_root(2)
// has them. Linux refuses to move the root of an initramfs; here that is no other than any.
func (ns *Namespace) pivot(root, to, put Path) error {
	renameMu.RLock()
	defer renameMu.RUnlock()
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if to.Mount == nil || put.Mount == nil || to.Mount.gone || put.Mount.gone || root.Mount.gone {
		return unix.EINVAL
	}
	if to.Dentry.removed.Load() || put.Dentry.removed.Load() {
		return unix.ENOENT
	}
	old, m := root.Mount, to.Mount
	if m == old || put.Mount == old {
		return unix.EBUSY
	}
	if !root.isMountRoot() || !to.isMountRoot() || m.parent == nil || !ns.within(put, to) || !ns.within(to, root) {
		return unix.EINVAL
	}
	delete(ns.points, mountKey{m.parent, m.point})
	m.point.mounts.Add(-1)
	m.parent, m.point = old.parent, old.point
	if old.parent == nil {
		ns.root = m
	} else {
		ns.points[mountKey{m.parent, m.point}] = m
	}
	old.parent, old.point = put.Mount, put.Dentry
	put.Dentry.mounts.Add(1)
	ns.points[mountKey{put.Mount, put.Dentry}] = old
	ns.sort()
	ns.changed()
	return nil
}

// sort puts each mount behind its parent in the list. Precondition: mu is held.
func (ns *Namespace) sort() {
	children := map[*Mount][]*Mount{}
	for _, m := range ns.list {
		children[m.parent] = append(children[m.parent], m)
	}
	sorted := append(make([]*Mount, 0, len(ns.list)), children[nil]...)
	for k := 0; k < len(sorted); k++ {
		sorted = append(sorted, children[sorted[k]]...)
	}
	ns.list = sorted
}

// Detach unmounts m: EBUSY if other mounts stand in it, unless lazy, when they go with it.
func (ns *Namespace) Detach(m *Mount, lazy bool) error {
	gone, err := ns.detach(m, lazy)
	for _, fs := range gone {
		unmounted(fs)
		if u, ok := fs.(Unmounter); ok {
			u.Unmounted()
		}
	}
	return err
}

// Unmounter is a file system that wants to know when its last mount is gone. Files of it may still be
// open.
type Unmounter interface{ Unmounted() }

// detach is Detach, and returns the file systems that are mounted no more.
func (ns *Namespace) detach(m *Mount, lazy bool) ([]FileSystem, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if m.gone || m.parent == nil {
		return nil, unix.EINVAL
	}
	gone := map[*Mount]bool{m: true}
	for _, o := range ns.list { // a mount is behind its parent in the list
		if gone[o.parent] {
			if !lazy {
				return nil, unix.EBUSY
			}
			gone[o] = true
		}
	}
	kept := ns.list[:0:0]
	for _, o := range ns.list {
		if !gone[o] {
			kept = append(kept, o)
			continue
		}
		delete(ns.points, mountKey{o.parent, o.point})
		o.point.mounts.Add(-1)
		o.gone = true
		if o == m {
			o.parent, o.point = nil, nil
		}
	}
	ns.list = kept
	ns.changed()
	left := map[FileSystem]bool{}
	for _, o := range kept {
		left[o.fs] = true
	}
	var unmounted []FileSystem
	for o := range gone {
		if !left[o.fs] {
			left[o.fs] = true
			unmounted = append(unmounted, o.fs)
		}
	}
	return unmounted, nil
}

// busy says whether a file that was opened through m is open, or a process has its root or working directory in m.
func (m *Mount) busy() bool { return m.pins.Load() > 0 }

// MountInfo is one line of /proc/mounts.
type MountInfo struct {
	ID, Parent uint64
	Source     string
	Point      string // as seen from the asked root
	Root       string // which directory of the file system is mounted
	Type       string
	Options    string
	Unbindable bool
	Dev        uint64
}

// Mounts lists the mounts that are beneath root.
func (ns *Namespace) Mounts(root Path) []MountInfo {
	ns.mu.RLock()
	list := append([]*Mount(nil), ns.list...)
	ns.mu.RUnlock()
	var out []MountInfo
	for _, m := range list {
		point, ok := m.Root().name(root)
		if !ok {
			continue
		}
		info := MountInfo{ID: m.id, Source: m.source, Point: point, Root: m.root.inside(), Type: m.fs.Type(), Options: m.options(), Unbindable: m.has(mountUnbindable), Dev: m.fs.Dev()}
		ns.mu.RLock()
		if m.parent != nil {
			info.Parent = m.parent.id
		} else {
			info.Parent = 1
		}
		ns.mu.RUnlock()
		if info.Source == "" {
			info.Source = "none"
		}
		out = append(out, info)
	}
	return out
}

func (m *Mount) options() string {
	f := m.flags.Load()
	o := []string{"rw"}
	if f&unix.MS_RDONLY != 0 {
		o[0] = "ro"
	}
	for _, n := range []struct {
		flag uint64
		name string
	}{{unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"}, {unix.MS_NOATIME, "noatime"}, {unix.MS_NODIRATIME, "nodiratime"}, {unix.MS_RELATIME, "relatime"}, {unix.MS_NOSYMFOLLOW, "nosymfollow"}} {
		if f&n.flag != 0 {
			o = append(o, n.name)
		}
	}
	return strings.Join(o, ",")
}

func (m *Mount) statFlags() int64 {
	const stValid, stRelatime, stNoSymFollow = 0x20, 0x1000, 0x2000
	f := m.flags.Load()
	out := int64(stValid)
	out |= int64(f & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)) // ST_* have the same values
	if f&unix.MS_NOATIME != 0 {
		out |= 0x400
	}
	if f&unix.MS_NODIRATIME != 0 {
		out |= 0x800
	}
	if f&unix.MS_RELATIME != 0 {
		out |= stRelatime
	}
	if f&unix.MS_NOSYMFOLLOW != 0 {
		out |= stNoSymFollow
	}
	return out
}

// NoSUID reports whether set-user-ID and set-group-ID bits have no effect on the mount.
func (m *Mount) NoSUID() bool { return m != nil && m.has(unix.MS_NOSUID) }
