package event

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/vfs"
)

// InotifyLimits are the files of /proc/sys/fs/inotify (inotify(7)).
var InotifyLimits = []*InotifyLimit{
	{Name: "max_user_watches", most: 1 << 22},
	{Name: "max_user_instances", most: 1 << 20},
	{Name: "max_queued_events", most: 1 << 18},
}

var maxWatches, maxInstances, maxEvents = InotifyLimits[0], InotifyLimits[1], InotifyLimits[2]

func init() {
	maxWatches.value.Store(65536)
	maxInstances.value.Store(128)
	maxEvents.value.Store(16384)
}

// InotifyLimit is one of InotifyLimits.
type InotifyLimit struct {
	Name  string
	value atomic.Int64
	most  int // what the kernel's memory bears
}

// Get returns the limit.
func (l *InotifyLimit) Get() int { return int(l.value.Load()) }

// Set changes it: EINVAL out of its bounds. What is there already stays.
func (l *InotifyLimit) Set(v int) error {
	if v < 0 || v > l.most {
		return unix.EINVAL
	}
	l.value.Store(int64(v))
	return nil
}

// instances counts inotify instances by user.
var instances struct {
	mu sync.Mutex
	of map[uint32]int
}

// allEvents are the events that a watch may ask for.
const allEvents = unix.IN_ALL_EVENTS

// alwaysTold are the events that a watch gets without asking.
const alwaysTold = unix.IN_UNMOUNT | unix.IN_Q_OVERFLOW | unix.IN_IGNORED

// Inotify is the file of inotify_init(2).
//
// mu is taken beneath the lock under which the core tells of events.
type Inotify struct {
	vfs.BaseFile
	queue waiter.Queue
	uid   uint32

	addMu sync.Mutex // held while a watch is made or changed

	mu      sync.Mutex
	watches map[int32]*inotifyWatch
	byInode map[vfs.Inode]*inotifyWatch
	last    int32
	events  []inotifyEvent
	full    bool // IN_Q_OVERFLOW is the last of events
}

type inotifyWatch struct {
	owner *Inotify
	inode vfs.Inode
	wd    int32
	mask  uint32 // guarded by owner.mu
	dead  bool   // guarded by owner.mu
}

type inotifyEvent struct {
	wd           int32
	mask, cookie uint32
	name         string
}

// size is how many bytes the event takes in a read.
func (e *inotifyEvent) size() int {
	if e.name == "" {
		return unix.SizeofInotifyEvent
	}
	return unix.SizeofInotifyEvent + (len(e.name)+unix.SizeofInotifyEvent)&^(unix.SizeofInotifyEvent-1)
}

// NewInotify returns an inotify instance of user uid; flags are of IN_NONBLOCK and IN_CLOEXEC. EMFILE:
// the user has too many.
func NewInotify(uid, flags uint32) (*vfs.Description, error) {
	if flags&^(unix.IN_NONBLOCK|unix.IN_CLOEXEC) != 0 {
		return nil, unix.EINVAL
	}
	instances.mu.Lock()
	defer instances.mu.Unlock()
	if instances.of == nil {
		instances.of = make(map[uint32]int)
	}
	if instances.of[uid] >= maxInstances.Get() {
		return nil, unix.EMFILE
	}
	instances.of[uid]++
	f := &Inotify{uid: uid, watches: make(map[int32]*inotifyWatch), byInode: make(map[vfs.Inode]*inotifyWatch)}
	return vfs.NewAnonymous(f, "inotify", unix.O_RDONLY|flags&unix.O_NONBLOCK), nil
}

// InotifyOf returns the instance that d is: EINVAL.
func InotifyOf(d *vfs.Description) (*Inotify, error) {
	if f, ok := d.File().(*Inotify); ok {
		return f, nil
	}
	return nil, unix.EINVAL
}

// Add is inotify_add_watch(2) of a file that was found and may be read: the watch descriptor. mask was
// checked.
func (f *Inotify) Add(i vfs.Inode, mask uint32) (int32, error) {
	f.addMu.Lock()
	defer f.addMu.Unlock()
	keep := mask & (allEvents | unix.IN_ONESHOT | unix.IN_EXCL_UNLINK)
	f.mu.Lock()
	if w := f.byInode[i]; w != nil {
		defer f.mu.Unlock()
		if mask&unix.IN_MASK_CREATE != 0 {
			return 0, unix.EEXIST
		}
		if mask&unix.IN_MASK_ADD != 0 {
			keep |= w.mask
		}
		w.mask = keep
		return w.wd, nil
	}
	if len(f.watches) >= maxWatches.Get() {
		f.mu.Unlock()
		return 0, unix.ENOSPC
	}
	f.last = max(f.last+1, 1)
	for f.watches[f.last] != nil {
		f.last = max(f.last+1, 1)
	}
	w := &inotifyWatch{owner: f, inode: i, wd: f.last, mask: keep}
	f.watches[w.wd], f.byInode[i] = w, w
	f.mu.Unlock()
	if err := vfs.AddObserver(i, w); err != nil {
		f.mu.Lock()
		f.forget(w)
		f.mu.Unlock()
		return 0, err
	}
	return w.wd, nil
}

// Remove is inotify_rm_watch(2): EINVAL.
func (f *Inotify) Remove(wd int32) error {
	f.mu.Lock()
	w := f.watches[wd]
	if w == nil {
		f.mu.Unlock()
		return unix.EINVAL
	}
	f.forget(w)
	f.push(inotifyEvent{wd: wd, mask: unix.IN_IGNORED})
	f.mu.Unlock()
	f.queue.Notify(waiter.ReadableEvents)
	vfs.RemoveObserver(w.inode, w)
	return nil
}

// forget takes w out. Precondition: mu is held.
func (f *Inotify) forget(w *inotifyWatch) {
	w.dead = true
	delete(f.watches, w.wd)
	delete(f.byInode, w.inode)
}

// push queues an event, unless it is the same as the last one. Precondition: mu is held.
func (f *Inotify) push(e inotifyEvent) {
	if n := len(f.events); n > 0 && f.events[n-1] == e || f.full && e.mask&unix.IN_IGNORED == 0 {
		return
	}
	if len(f.events) >= maxEvents.Get() {
		if !f.full {
			f.full = true
			f.events = append(f.events, inotifyEvent{wd: -1, mask: unix.IN_Q_OVERFLOW})
		}
		return
	}
	f.events = append(f.events, e)
}

// Observe implements vfs.Observer.
func (w *inotifyWatch) Observe(e vfs.Event) (done bool) {
	f := w.owner
	f.mu.Lock()
	if w.dead {
		f.mu.Unlock()
		return true
	}
	told := e.Mask & (w.mask&allEvents | alwaysTold)
	last := e.Mask&(unix.IN_DELETE_SELF|unix.IN_UNMOUNT) != 0
	if told != 0 && !(e.Unlinked && e.Name != "" && w.mask&unix.IN_EXCL_UNLINK != 0) {
		f.push(inotifyEvent{w.wd, told | e.Mask&unix.IN_ISDIR, e.Cookie, e.Name})
		last = last || w.mask&unix.IN_ONESHOT != 0
	}
	if last {
		f.forget(w)
		f.push(inotifyEvent{wd: w.wd, mask: unix.IN_IGNORED})
	}
	ready := len(f.events) > 0
	f.mu.Unlock()
	if ready {
		f.queue.Notify(waiter.ReadableEvents)
	}
	return last
}

// Read takes events: EAGAIN if there are none, EINVAL if the first has no room.
func (f *Inotify) Read(_ *vfs.Context, dst *mm.Buffer, _ int64) (int, error) {
	total := 0
	for {
		f.mu.Lock()
		if len(f.events) == 0 {
			f.mu.Unlock()
			if total == 0 {
				return 0, unix.EAGAIN
			}
			return total, nil
		}
		e := f.events[0]
		if e.size() > dst.Len() {
			f.mu.Unlock()
			if total == 0 {
				return 0, unix.EINVAL
			}
			return total, nil
		}
		f.events[0] = inotifyEvent{}
		f.events = f.events[1:]
		if e.mask == unix.IN_Q_OVERFLOW {
			f.full = false
		}
		f.mu.Unlock()
		b := make([]byte, e.size())
		binary.LittleEndian.PutUint32(b, uint32(e.wd))
		binary.LittleEndian.PutUint32(b[4:], e.mask)
		binary.LittleEndian.PutUint32(b[8:], e.cookie)
		binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-unix.SizeofInotifyEvent))
		copy(b[16:], e.name)
		n, err := dst.CopyOut(b)
		if err != nil {
			return 0, err
		}
		total += n
	}
}

// Buffered returns how many bytes wait to be read (FIONREAD).
func (f *Inotify) Buffered() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for i := range f.events {
		n += f.events[i].size()
	}
	return n
}

// Readiness says whether there are events.
func (f *Inotify) Readiness(mask waiter.EventMask) waiter.EventMask {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.events) > 0 {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// EventRegister has e told of events.
func (f *Inotify) EventRegister(e *waiter.Entry) error {
	f.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *Inotify) EventUnregister(e *waiter.Entry) { f.queue.EventUnregister(e) }

// Release ends all watches.
func (f *Inotify) Release() {
	f.mu.Lock()
	var all []*inotifyWatch
	for _, w := range f.watches {
		w.dead = true
		all = append(all, w)
	}
	f.events = nil
	f.mu.Unlock()
	for _, w := range all {
		vfs.RemoveObserver(w.inode, w)
	}
	instances.mu.Lock()
	instances.of[f.uid]--
	instances.mu.Unlock()
}

// FdInfo is the lines in /proc/PID/fdinfo.
func (f *Inotify) FdInfo() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, wd := range slices.Sorted(maps.Keys(f.watches)) {
		w := f.watches[wd]
		fmt.Fprintf(&b, "inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:0\n", wd, w.inode.Ino(), w.inode.FS().Dev(), w.mask)
	}
	return b.String()
}
