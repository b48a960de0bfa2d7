// Package mqueue is POSIX message queues (mq_overview(7)): a file system of queues, which mq_open(2)
// opens whether it is mounted or not.
//
// Lock order: queue.mu is a leaf but for the locks that a notification takes, and is not held while
// the program's memory is touched or a thread waits.
package mqueue

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/vfs"
)

// Limits of mq_overview(7). Those that the program can change are in Limits.
const (
	MaxPriority = 32768 // MQ_PRIO_MAX: one more than the greatest

	hardMessages = 65536 // HARD_MSGMAX and HARD_MSGSIZEMAX, for the privileged
	hardSize     = 16 << 20
)

// Limits are the files of /proc/sys/fs/mqueue, by name.
var Limits = []*Limit{
	{Name: "msg_default", value: 10, least: 1, most: hardMessages},
	{Name: "msg_max", value: 10, least: 1, most: hardMessages},
	{Name: "msgsize_default", value: 8192, least: 128, most: hardSize},
	{Name: "msgsize_max", value: 8192, least: 128, most: hardSize},
	{Name: "queues_max", value: 256, least: 0, most: 1 << 20},
}

var (
	messagesDefault, messagesMax = Limits[0], Limits[1]
	sizeDefault, sizeMax         = Limits[2], Limits[3]
	queuesMax                    = Limits[4]
)

// Limit is one of Limits.
type Limit struct {
	Name        string
	mu          sync.Mutex
	value       int64
	least, most int64
}

// Get returns the limit.
func (l *Limit) Get() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value
}

// Set changes it: EINVAL out of its bounds.
func (l *Limit) Set(v int64) error {
	if v < l.least || v > l.most {
		return unix.EINVAL
	}
	l.mu.Lock()
	l.value = v
	l.mu.Unlock()
	return nil
}

// FS is the file system of queues. There is one.
type FS struct {
	dev     uint64
	root    *vfs.Dentry
	lastIno atomic.Uint64
	queues  atomic.Int64
}

// Machine returns the machine's queues.
var Machine = sync.OnceValue(func() *FS {
	f := &FS{dev: vfs.NewDev()}
	d := &directory{}
	d.Init(f, f.lastIno.Add(1), unix.S_IFDIR|unix.S_ISVTX|0o777, 0, 0, 0)
	f.root = vfs.NewRoot(d)
	return f
})

// Mounter is for mount(2): every mount shows the same queues.
func Mounter(*vfs.Context, string, string) (*vfs.Dentry, error) { return Machine().root, nil }

// Root returns the root's dentry, to mount.
func (f *FS) Root() *vfs.Dentry { return f.root }

// Type returns the name of the type.
func (f *FS) Type() string { return "mqueue" }

// Dev returns the device number.
func (f *FS) Dev() uint64 { return f.dev }

// Caching says that the dentries are the directory.
func (f *FS) Caching() vfs.Caching { return vfs.Resident }

// Sync does nothing.
func (f *FS) Sync() error { return nil }

// Statfs fills s.
func (f *FS) Statfs(s *vfs.StatFS) error {
	const magic = 0x19800202
	s.Type, s.BlockSize, s.ID = magic, 4096, f.dev
	return nil
}

// directory is the root, which holds queues alone.
type directory struct{ vfs.BaseInode }

// directoryFile is the root opened: the core lists it.
type directoryFile struct{ vfs.BaseFile }

// Seekable says yes: getdents goes on where it was.
func (directoryFile) Seekable() bool { return true }

// Read refuses.
func (directoryFile) Read(*vfs.Context, *mm.Buffer, int64) (int, error) { return 0, unix.EISDIR }

// Open opens the directory.
func (d *directory) Open(*vfs.Context, vfs.Path, uint32) (vfs.File, error) {
	return directoryFile{}, nil
}

// Create makes a queue with the attributes that mq_open gives one by default.
func (d *directory) Create(c *vfs.Context, name string, mode uint32, _ uint64) (vfs.Inode, error) {
	if mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EPERM
	}
	return d.create(c, mode, nil)
}

// create makes a queue: EINVAL, EMFILE, ENOSPC.
func (d *directory) create(c *vfs.Context, mode uint32, a *Attr) (vfs.Inode, error) {
	f := d.FS().(*FS)
	if a == nil {
		a = &Attr{MaxMessages: min(messagesMax.Get(), messagesDefault.Get()), MessageSize: min(sizeMax.Get(), sizeDefault.Get())}
	}
	messages, size := messagesMax.Get(), sizeMax.Get()
	privileged := c.Creds.HasCap(unix.CAP_SYS_RESOURCE)
	if privileged {
		messages, size = hardMessages, hardSize
	}
	if a.MaxMessages <= 0 || a.MessageSize <= 0 || a.MaxMessages > messages || a.MessageSize > size {
		return nil, unix.EINVAL
	}
	if n := f.queues.Add(1); n > queuesMax.Get() && !privileged {
		f.queues.Add(-1)
		return nil, unix.ENOSPC
	}
	// What Linux counts against RLIMIT_MSGQUEUE: getrlimit(2).
	const sizeofMessage, sizeofNode = 48, 48
	bytes := a.MaxMessages*(sizeofMessage+a.MessageSize) + min(a.MaxMessages, MaxPriority)*sizeofNode
	refund, err := c.Thread.ChargeMessageQueue(uint64(bytes))
	if err != nil {
		f.queues.Add(-1)
		return nil, err
	}
	q := &queue{max: a.MaxMessages, size: a.MessageSize, refund: refund, links: 1}
	mode, uid, gid := c.NewOwner(d, mode)
	q.Init(f, f.lastIno.Add(1), mode, uid, gid, 0)
	d.Modified()
	return q, nil
}

// Unlink removes a queue's name; the queue goes when nobody has it open.
func (d *directory) Unlink(_ *vfs.Context, _ string, i vfs.Inode) error {
	i.(*queue).unlink()
	d.Modified()
	return nil
}

// Open is mq_open(2): attr, which may be nil, is for a queue that is made. The description has O_CLOEXEC's
// effect by the caller.
func Open(c *vfs.Context, name string, flags, mode uint32, attr *Attr) (*vfs.Description, error) {
	root := vfs.Path{Dentry: Machine().root}
	return c.OpenIn(root, name, flags, mode, func(dir vfs.Inode, mode uint32) (vfs.Inode, error) {
		return dir.(*directory).create(c, mode, attr)
	})
}

// Unlink is mq_unlink(2).
func Unlink(c *vfs.Context, name string) error {
	return c.UnlinkIn(vfs.Path{Dentry: Machine().root}, name)
}
