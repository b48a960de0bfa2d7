package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
)

// File is what a file system or a device makes of one open.
//
// Read and Write move bytes between the file and the buffer, at off if the file is seekable, and
// return how many. They never block: unix.EAGAIN says that nothing could be moved now, and Readiness
// when it can. A copy into or out of the buffer may fault and the fault may need this very file, so an
// implementation holds no lock across it that MapFrame, Readiness or a notification takes.
type File interface {
	waiter.Waitable
	Read(c *Context, dst *mm.Buffer, off int64) (int, error)
	// Write writes at off, or where the file ends if off is Append.
	Write(c *Context, src *mm.Buffer, off int64) (int, error)
	// Seekable says whether the file has an offset.
	Seekable() bool
	// Release is called when the last descriptor of the description is closed.
	Release()
}

// Append is the offset that File.Write takes for the end of the file.
const Append = -1

// Optional parts of a File.
type (
	// DirFile lists a directory that isn't Resident. It calls add for each entry behind the cookie
	// off, and stops when add returns false. Cookies are positive and never reused; next is the cookie
	// that continues behind the entry. "." and ".." are the core's.
	DirFile interface {
		ReadDir(c *Context, off int64, add func(name string, ino uint64, mode uint32, next int64) bool) error
	}
	// Seeker overrides how lseek finds the end, data and holes.
	Seeker interface {
		Seek(off int64, whence int) (int64, error)
	}
	// Mapper is a file that mmap takes. The Mappable is held by the mapping: see Holder.
	Mapper interface {
		Mappable(c *Context) (mm.Mappable, error)
	}
	// Allocator is a file with fallocate(2).
	Allocator interface {
		Allocate(c *Context, mode uint32, off, length int64) error
	}
	// Syncer is a file with fsync(2).
	Syncer interface {
		Sync(dataOnly bool) error
	}
	// Ioctler is a file with requests of its own: ENOTTY for those that it doesn't know.
	Ioctler interface {
		Ioctl(c *Context, request uint32, arg uint64) (uint64, error)
	}
	// Waiter is a file whose reads can wait by themselves, which is shorter than asking whether it is
	// ready: Read, but it never returns EAGAIN. ERESTARTSYS: a signal came first.
	Waiter interface {
		ReadWaiting(c *Context, dst *mm.Buffer) (int, error)
	}
	// FlagsSetter hears of F_SETFL.
	FlagsSetter interface {
		SetFlags(flags uint32) error
	}
	// Flusher hears of every close of a descriptor of the file. table stands for the process.
	Flusher interface {
		Flush(table any)
	}
	// FdInfoer adds lines to /proc/PID/fdinfo/N.
	FdInfoer interface {
		FdInfo() string
	}
)

// settable are the status flags that F_SETFL changes.
const settable = unix.O_APPEND | unix.O_ASYNC | unix.O_DIRECT | unix.O_NOATIME | unix.O_NONBLOCK

// Description is an open file description (open(2)): what descriptors made by dup and fork share.
// Get, Incref and NewDescription give a reference, which Decref ends; the last one closes the file.
type Description struct {
	file  File
	path  Path
	inode Inode
	mode  uint8 // what the open allows
	flags atomic.Uint32
	refs  atomic.Int64

	waiter   Waiter // the file, if it is one and the open allows reading
	seekable bool
	created  bool
	sink     bool     // the file is a Sink, and may be written to
	socket   bool     // the inode is one
	told     bool     // made by open: watchers hear of it
	flushes  bool     // file is a Flusher
	writes   *writers // where the open counts as one that may write; nil if it doesn't

	// fileLocks is where the locks of the file are, once it has any; nil if it can't be locked.
	fileLocks *atomic.Pointer[FileLocks]

	// posMu keeps the offset, and is held across reads and writes that use it.
	posMu sync.Mutex
	pos   int64

	// ownerMu keeps who gets SIGIO.
	ownerMu    sync.Mutex
	ownerType  int32
	ownerID    int32
	ownerSig   int32
	ownerUID   uint32 // of who set the owner
	ownerEUID  uint32
	async      *async // nil without O_ASYNC
	urgent     *urgentTeller
	closeHooks []CloseHook
}

// CloseHook hears when a description is closed for good: epoll forgets it then.
type CloseHook interface {
	Closed(d *Description)
}

const (
	mayRead = 1 << iota
	mayWrite
	pathOnly
)

// NewDescription returns the description of file, opened with flags, with one reference. p is its
// place in the tree, or a path whose Dentry is detached (NewAnonymous).
func NewDescription(file File, p Path, flags uint32) *Description {
	d := &Description{file: file, path: p}
	if p.Dentry != nil {
		d.inode = p.Dentry.inode
		if l, ok := d.inode.(locker); ok {
			d.fileLocks = l.fileLocks()
		}
		mode, _, _ := d.inode.Perm()
		d.socket = mode&unix.S_IFMT == unix.S_IFSOCK
	}
	switch {
	case flags&unix.O_PATH != 0:
		d.mode = pathOnly
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		d.mode = mayRead
	case flags&unix.O_ACCMODE == unix.O_WRONLY:
		d.mode = mayWrite
	case flags&unix.O_ACCMODE == unix.O_RDWR:
		d.mode = mayRead | mayWrite
	}
	d.seekable = file.Seekable()
	_, d.sink = file.(Sink)
	d.sink = d.sink && d.mode&mayWrite != 0
	_, d.flushes = file.(Flusher)
	if d.mode&mayRead != 0 {
		d.waiter, _ = file.(Waiter)
	}
	d.flags.Store(flags &^ (unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_CLOEXEC))
	d.refs.Store(1)
	if p.Dentry != nil {
		p.pin()
	}
	return d
}

// File returns the file's implementation, for operations of its own kind.
func (d *Description) File() File { return d.file }

// Path returns where the file was opened.
func (d *Description) Path() Path { return d.path }

// Inode returns the inode.
func (d *Description) Inode() Inode { return d.inode }

// Flags returns access mode and status flags, as F_GETFL does.
func (d *Description) Flags() uint32 { return d.flags.Load() }

// NonBlocking says whether O_NONBLOCK is set.
func (d *Description) NonBlocking() bool { return d.flags.Load()&unix.O_NONBLOCK != 0 }

// Sink is a File that takes all that is written to it without a look at it.
type Sink interface{ Swallows() }

// Swallows says that a write takes everything, without a look at it, and that nobody wants to know.
func (d *Description) Swallows() bool { return d.sink && watching.Load() == 0 }

// Created says whether the open made the file.
func (d *Description) Created() bool { return d.created }

// Anonymous says whether the file is one of the kernel's objects that are in no file system: an eventfd, an
// epoll instance and the like.
func (d *Description) Anonymous() bool { return d.inode == Inode(theAnonInode) }

// Readable says whether the open allows reading.
func (d *Description) Readable() bool { return d.mode&mayRead != 0 }

// Writable says whether the open allows writing.
func (d *Description) Writable() bool { return d.mode&mayWrite != 0 }

// PathOnly says whether the file was opened with O_PATH.
func (d *Description) PathOnly() bool { return d.mode&pathOnly != 0 }

// Socket says whether the file is a socket.
func (d *Description) Socket() bool { return d.socket }

// Seekable says whether the file has an offset.
func (d *Description) Seekable() bool { return d.seekable }

// SetFlags changes the status flags that F_SETFL may change.
func (d *Description) SetFlags(c *Context, flags uint32) error {
	if d.PathOnly() {
		return unix.EBADF
	}
	if s, ok := d.file.(FlagsSetter); ok {
		if err := s.SetFlags(flags & settable); err != nil {
			return err
		}
	}
	for {
		old := d.flags.Load()
		if d.flags.CompareAndSwap(old, old&^settable|flags&settable) {
			return nil
		}
	}
}

// Incref adds a reference.
//
// Precondition: the caller has one.
func (d *Description) Incref() { d.refs.Add(1) }

// Take adds a reference to what Peek returned, unless the file is closed by now or somebody else is at it:
// then Get has to look again.
func (d *Description) Take() bool {
	n := d.refs.Load()
	return n != 0 && d.refs.CompareAndSwap(n, n+1)
}

// Refs returns how many references there are, for a moment.
func (d *Description) Refs() int64 { return d.refs.Load() }

// tryIncref adds a reference unless the file is already closed.
func (d *Description) tryIncref() bool {
	for {
		n := d.refs.Load()
		if n == 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Decref drops a reference, and closes the file with the last.
func (d *Description) Decref() {
	if d.refs.Add(-1) == 0 {
		d.release()
	}
}

func (d *Description) release() {
	d.ownerMu.Lock()
	hooks, a, u := d.closeHooks, d.async, d.urgent
	d.closeHooks, d.async, d.urgent = nil, nil, nil
	d.ownerMu.Unlock()
	if u != nil {
		d.EventUnregister(&u.entry)
	}
	if a != nil {
		d.EventUnregister(&a.entry)
	}
	for _, h := range hooks {
		h.Closed(d)
	}
	if watching.Load() != 0 && d.told {
		if d.mode&mayWrite != 0 {
			d.happened(unix.IN_CLOSE_WRITE)
		} else {
			d.happened(unix.IN_CLOSE_NOWRITE)
		}
	}
	d.dropLocks()
	d.file.Release()
	if d.writes != nil {
		d.writes.leave()
	}
	if h, ok := d.inode.(Holder); ok {
		h.Drop()
	}
	if d.path.Dentry != nil {
		d.path.unpin()
	}
}

// AddCloseHook has h called when the file is closed for good.
func (d *Description) AddCloseHook(h CloseHook) {
	d.ownerMu.Lock()
	d.closeHooks = append(d.closeHooks, h)
	d.ownerMu.Unlock()
}

// RemoveCloseHook undoes AddCloseHook.
func (d *Description) RemoveCloseHook(h CloseHook) {
	d.ownerMu.Lock()
	defer d.ownerMu.Unlock()
	for i := range d.closeHooks {
		if d.closeHooks[i] == h {
			d.closeHooks = append(d.closeHooks[:i:i], d.closeHooks[i+1:]...)
			return
		}
	}
}

// Owner returns what F_GETOWN_EX and F_GETSIG return.
func (d *Description) Owner() (kind, id, signal int32) {
	d.ownerMu.Lock()
	defer d.ownerMu.Unlock()
	return d.ownerType, d.ownerID, d.ownerSig
}

// SetOwner sets what F_SETOWN_EX sets, on behalf of t.
func (d *Description) SetOwner(kind, id int32, t *kernel.Thread) {
	creds := t.Creds()
	d.followUrgent(t.Kernel())
	d.ownerMu.Lock()
	d.ownerUID, d.ownerEUID = creds.RUID, creds.EUID
	d.ownerType, d.ownerID = kind, id
	d.ownerMu.Unlock()
}

// SetOwnerSignal sets what F_SETSIG sets.
func (d *Description) SetOwnerSignal(signal int32) {
	d.ownerMu.Lock()
	d.ownerSig = signal
	d.ownerMu.Unlock()
}

// Readiness returns which of mask's events the file is ready for, errors and hang-up beside.
func (d *Description) Readiness(mask waiter.EventMask) waiter.EventMask {
	return d.file.Readiness(mask | waiter.EventErr | waiter.EventHUp)
}

// Reporter is a file that shows some events to a program once: Reported hears of those that a call returned.
type Reporter interface{ Reported(events waiter.EventMask) }

// Reported says that poll, select or epoll_wait returned these events.
func (d *Description) Reported(events waiter.EventMask) {
	if events&waiter.EventErr != 0 {
		if r, ok := d.file.(Reporter); ok {
			r.Reported(events)
		}
	}
}

// EventRegister has e told of events. Of a file whose readiness never changes there is nothing to tell.
func (d *Description) EventRegister(e *waiter.Entry) error {
	if err := d.file.EventRegister(e); err != unix.EPERM {
		return err
	}
	return nil
}

// EventUnregister undoes EventRegister.
func (d *Description) EventUnregister(e *waiter.Entry) { d.file.EventUnregister(e) }

// Read reads at the offset and moves it. EAGAIN: nothing is there yet.
func (d *Description) Read(c *Context, dst *mm.Buffer) (int, error) {
	if d.mode&mayRead == 0 {
		return 0, unix.EBADF
	}
	if !d.seekable {
		n, err := d.file.Read(c, dst, 0)
		d.moved(n, unix.IN_ACCESS)
		return n, err
	}
	n, err := d.readOn(c, dst)
	d.moved(n, unix.IN_ACCESS)
	return n, err
}

// Waits says whether ReadWaiting may be called: the file can wait, and is not to return EAGAIN.
func (d *Description) Waits() bool { return d.waiter != nil && d.flags.Load()&unix.O_NONBLOCK == 0 }

// ReadWaiting is Read that waits (Waiter). Precondition: Waits.
func (d *Description) ReadWaiting(c *Context, dst *mm.Buffer) (int, error) {
	n, err := d.waiter.ReadWaiting(c, dst)
	d.moved(n, unix.IN_ACCESS)
	return n, err
}

func (d *Description) readOn(c *Context, dst *mm.Buffer) (int, error) {
	d.posMu.Lock()
	defer d.posMu.Unlock()
	n, err := d.file.Read(c, dst, d.pos)
	d.pos += int64(n)
	return n, err
}

// moved tells of n bytes read or written.
func (d *Description) moved(n int, mask uint32) {
	if n > 0 && watching.Load() != 0 {
		d.happened(mask)
	}
}

// Write writes at the offset, or at the end with O_APPEND, and moves it. EAGAIN: there is no room
// yet. EPIPE: the caller raises SIGPIPE.
func (d *Description) Write(c *Context, src *mm.Buffer) (int, error) {
	if d.mode&mayWrite == 0 {
		return 0, unix.EBADF
	}
	if !d.seekable {
		n, err := d.file.Write(c, src, 0)
		d.moved(n, unix.IN_MODIFY)
		return n, err
	}
	n, err := d.writeOn(c, src)
	return d.written(n, err)
}

// written is what follows a write of n bytes to a file that has a place: with O_DSYNC or O_SYNC it is on the
// disk before anybody hears of it (open(2)).
func (d *Description) written(n int, err error) (int, error) {
	d.moved(n, unix.IN_MODIFY)
	if f := d.flags.Load(); f&unix.O_DSYNC != 0 && n > 0 && d.seekable {
		if e := d.SyncWritten(f&unix.O_SYNC != unix.O_SYNC); e != nil {
			return 0, e
		}
	}
	return n, err
}

// SyncWritten is Sync for a write that asks for it: what has nothing to sync, such as a device, takes it.
func (d *Description) SyncWritten(dataOnly bool) error {
	if s, ok := d.file.(Syncer); ok {
		return s.Sync(dataOnly)
	}
	return nil
}

// Append writes at the end, wherever the offset is, which with move goes behind what is written (RWF_APPEND of
// pwritev2(2)).
//
// Precondition: d is seekable.
func (d *Description) Append(c *Context, src *mm.Buffer, move bool) (int, error) {
	if d.mode&mayWrite == 0 {
		return 0, unix.EBADF
	}
	n, err := d.append(c, src, move)
	return d.written(n, err)
}

func (d *Description) append(c *Context, src *mm.Buffer, move bool) (int, error) {
	pos := new(int64)
	if move {
		d.posMu.Lock()
		defer d.posMu.Unlock()
		pos = &d.pos
	}
	return d.appendAt(c, src, pos)
}

func (d *Description) writeOn(c *Context, src *mm.Buffer) (int, error) {
	d.posMu.Lock()
	defer d.posMu.Unlock()
	return d.writeAt(c, src, &d.pos)
}

func (d *Description) writeAt(c *Context, src *mm.Buffer, pos *int64) (int, error) {
	if d.flags.Load()&unix.O_APPEND != 0 {
		return d.appendAt(c, src, pos)
	}
	n, err := d.file.Write(c, src, *pos)
	*pos += int64(n)
	return n, err
}

// appendAt writes at the end and sets pos to the place behind.
func (d *Description) appendAt(c *Context, src *mm.Buffer, pos *int64) (int, error) {
	n, err := d.file.Write(c, src, Append)
	if n > 0 {
		if s, ok := d.file.(Sizer); ok {
			*pos = s.Size()
		}
	}
	return n, err
}

// Sizer is a File that knows its size.
type Sizer interface{ Size() int64 }

// TakesOffset says whether the file can be read and written at an offset: it has one of its own, or takes any although it
// keeps none, as /dev/null does.
func (d *Description) TakesOffset() bool {
	if d.seekable {
		return true
	}
	_, ok := d.file.(Seeker)
	return ok
}

// Pread reads at off.
func (d *Description) Pread(c *Context, dst *mm.Buffer, off int64) (int, error) {
	if d.mode&mayRead == 0 {
		return 0, unix.EBADF
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	if !d.TakesOffset() {
		return 0, unix.ESPIPE
	}
	n, err := d.file.Read(c, dst, off)
	d.moved(n, unix.IN_ACCESS)
	return n, err
}

// Pwrite writes at off; with O_APPEND at the end nevertheless, as Linux does (pwrite(2), BUGS).
func (d *Description) Pwrite(c *Context, src *mm.Buffer, off int64) (int, error) {
	if d.mode&mayWrite == 0 {
		return 0, unix.EBADF
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	if !d.TakesOffset() {
		return 0, unix.ESPIPE
	}
	n, err := d.writeAt(c, src, &off)
	return d.written(n, err)
}

// Seek moves the offset (lseek(2)).
func (d *Description) Seek(c *Context, off int64, whence int) (int64, error) {
	if d.mode&pathOnly != 0 {
		return 0, unix.EBADF
	}
	if !d.seekable {
		if s, ok := d.file.(Seeker); ok {
			return s.Seek(off, whence)
		}
		return 0, unix.ESPIPE
	}
	d.posMu.Lock()
	defer d.posMu.Unlock()
	base := int64(0)
	switch whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		base = d.pos
	case unix.SEEK_END, unix.SEEK_DATA, unix.SEEK_HOLE:
		if s, ok := d.file.(Seeker); ok {
			pos, err := s.Seek(off, whence)
			if err == nil {
				d.pos = pos
			}
			return pos, err
		}
		var a Attr
		if err := d.inode.Stat(&a); err != nil {
			return 0, err
		}
		if whence == unix.SEEK_END {
			base = a.Size
			break
		}
		if off < 0 || off >= a.Size {
			return 0, unix.ENXIO
		}
		if whence == unix.SEEK_HOLE {
			base, off = a.Size, 0
		}
	default:
		return 0, unix.EINVAL
	}
	pos := base + off
	if off > 0 && pos < base {
		return 0, unix.EOVERFLOW
	}
	if pos < 0 {
		return 0, unix.EINVAL
	}
	d.pos = pos
	return pos, nil
}

// Offset returns the offset, for /proc/PID/fdinfo.
func (d *Description) Offset() int64 {
	d.posMu.Lock()
	defer d.posMu.Unlock()
	return d.pos
}

// Stat fills a.
func (d *Description) Stat(a *Attr) error { return d.path.stat(a) }

// Mappable returns the file as mmap takes it: ENODEV if it can't be mapped. The mapping holds the file
// by itself; the description may be closed.
func (d *Description) Mappable(c *Context) (mm.Mappable, error) {
	if d.PathOnly() {
		return nil, unix.EBADF
	}
	m, ok := d.file.(Mapper)
	if !ok {
		return nil, unix.ENODEV
	}
	return m.Mappable(c)
}

// Truncate sets the size (ftruncate(2)).
func (d *Description) Truncate(c *Context, size int64) error {
	if d.PathOnly() {
		return unix.EBADF
	}
	if size < 0 {
		return unix.EINVAL
	}
	mode, _, _ := d.inode.Perm()
	if mode&unix.S_IFMT != unix.S_IFREG || d.mode&mayWrite == 0 {
		return unix.EINVAL
	}
	err := d.inode.SetAttr(c, &SetAttr{Valid: SetSize, Size: size})
	if err == nil {
		d.happened(unix.IN_MODIFY)
	}
	return err
}

// Allocate is fallocate(2).
func (d *Description) Allocate(c *Context, mode uint32, off, length int64) error {
	if d.mode&mayWrite == 0 {
		return unix.EBADF
	}
	if off < 0 || length <= 0 {
		return unix.EINVAL
	}
	if off+length < 0 {
		return unix.EFBIG
	}
	a, ok := d.file.(Allocator)
	if !ok {
		switch typ, _, _ := d.inode.Perm(); typ & unix.S_IFMT {
		case unix.S_IFIFO:
			return unix.ESPIPE
		case unix.S_IFREG:
			return unix.EOPNOTSUPP
		}
		return unix.ENODEV
	}
	err := a.Allocate(c, mode, off, length)
	if err == nil {
		d.happened(unix.IN_MODIFY)
	}
	return err
}

// Sync is fsync(2) and fdatasync(2).
func (d *Description) Sync(dataOnly bool) error {
	if d.PathOnly() {
		return unix.EBADF
	}
	if s, ok := d.file.(Syncer); ok {
		return s.Sync(dataOnly)
	}
	switch typ, _, _ := d.inode.Perm(); typ & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK:
		return nil
	}
	return unix.EINVAL
}
