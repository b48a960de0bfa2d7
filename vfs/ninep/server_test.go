package ninep

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hugelgupf/p9/fsimpl/templatefs"
	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"
	"golang.org/x/sys/unix"

	"elver/runtime/metal"
	"elver/vfs"
)

// hostFile is a file of the host as p9's server serves it. As with QEMU's server, a fid is a path, and an
// open file beside it.
type hostFile struct {
	templatefs.NotImplementedFile
	p9.DefaultWalkGetAttr
	path string
	file *os.File
}

type attacher struct{ root string }

func (a attacher) Attach() (p9.File, error) { return &hostFile{path: a.root}, nil }

func toErrno(err error) error {
	var n syscall.Errno
	if errors.As(err, &n) {
		return linux.Errno(n)
	}
	return err
}

func (h *hostFile) stat() (p9.QID, unix.Stat_t, error) {
	var s unix.Stat_t
	if err := unix.Lstat(h.path, &s); err != nil {
		return p9.QID{}, s, toErrno(err)
	}
	return p9.QID{Type: p9.ModeFromOS(fileMode(s.Mode)).QIDType(), Path: s.Ino}, s, nil
}

func fileMode(mode uint32) os.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.ModeDir
	case unix.S_IFLNK:
		return os.ModeSymlink
	}
	return 0
}

func (h *hostFile) Walk(names []string) (qids []p9.QID, _ p9.File, err error) {
	at := &hostFile{path: h.path}
	for _, n := range names {
		at = &hostFile{path: filepath.Join(at.path, n)}
		q, _, err := at.stat()
		if err != nil {
			return nil, nil, err
		}
		qids = append(qids, q)
	}
	return qids, at, nil
}

func (h *hostFile) GetAttr(req p9.AttrMask) (p9.QID, p9.AttrMask, p9.Attr, error) {
	q, s, err := h.stat()
	return q, req, p9.Attr{
		Mode: p9.FileMode(s.Mode), UID: p9.UID(s.Uid), GID: p9.GID(s.Gid), NLink: p9.NLink(s.Nlink), RDev: p9.Dev(s.Rdev),
		Size: uint64(s.Size), BlockSize: uint64(s.Blksize), Blocks: uint64(s.Blocks),
		ATimeSeconds: uint64(s.Atim.Sec), ATimeNanoSeconds: uint64(s.Atim.Nsec),
		MTimeSeconds: uint64(s.Mtim.Sec), MTimeNanoSeconds: uint64(s.Mtim.Nsec),
		CTimeSeconds: uint64(s.Ctim.Sec), CTimeNanoSeconds: uint64(s.Ctim.Nsec),
	}, err
}

func (h *hostFile) SetAttr(valid p9.SetAttrMask, a p9.SetAttr) error {
	if valid.Permissions {
		if err := unix.Chmod(h.path, uint32(a.Permissions)&0o7777); err != nil {
			return toErrno(err)
		}
	}
	if valid.Size {
		if err := unix.Truncate(h.path, int64(a.Size)); err != nil {
			return toErrno(err)
		}
	}
	if valid.UID || valid.GID {
		if err := unix.Lchown(h.path, int(a.UID), int(a.GID)); err != nil {
			return toErrno(err)
		}
	}
	if valid.ATime || valid.MTime {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
		if valid.ATime {
			times[0] = unix.Timespec{Sec: int64(a.ATimeSeconds), Nsec: int64(a.ATimeNanoSeconds)}
		}
		if valid.MTime {
			times[1] = unix.Timespec{Sec: int64(a.MTimeSeconds), Nsec: int64(a.MTimeNanoSeconds)}
		}
		return toErrno(unix.UtimesNanoAt(unix.AT_FDCWD, h.path, times, unix.AT_SYMLINK_NOFOLLOW))
	}
	return nil
}

func (h *hostFile) Close() error {
	if h.file != nil {
		h.file.Close()
	}
	return nil
}

func (h *hostFile) Open(mode p9.OpenFlags) (p9.QID, uint32, error) {
	q, _, err := h.stat()
	if err == nil {
		h.file, err = os.OpenFile(h.path, int(mode), 0)
	}
	return q, 0, toErrno(err)
}

func (h *hostFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.file.ReadAt(p, off)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (h *hostFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := h.file.WriteAt(p, off)
	return n, toErrno(err)
}

func (h *hostFile) FSync() error { return toErrno(h.file.Sync()) }

func (h *hostFile) child(n string) *hostFile { return &hostFile{path: filepath.Join(h.path, n)} }

func (h *hostFile) Create(n string, mode p9.OpenFlags, perm p9.FileMode, _ p9.UID, _ p9.GID) (p9.File, p9.QID, uint32, error) {
	made := h.child(n)
	fd, err := unix.Open(made.path, int(mode)|unix.O_CREAT|unix.O_CLOEXEC, uint32(perm))
	if err != nil {
		return nil, p9.QID{}, 0, toErrno(err)
	}
	unix.Fchmod(fd, uint32(perm))
	made.file = os.NewFile(uintptr(fd), made.path)
	q, _, err := made.stat()
	return made, q, 0, err
}

func (h *hostFile) Mkdir(n string, perm p9.FileMode, _ p9.UID, _ p9.GID) (p9.QID, error) {
	made := h.child(n)
	if err := unix.Mkdir(made.path, uint32(perm)); err != nil {
		return p9.QID{}, toErrno(err)
	}
	q, _, err := made.stat()
	return q, err
}

func (h *hostFile) Symlink(target, n string, _ p9.UID, _ p9.GID) (p9.QID, error) {
	return p9.QID{}, toErrno(unix.Symlink(target, h.child(n).path))
}

func (h *hostFile) Link(target p9.File, n string) error {
	return toErrno(unix.Link(target.(*hostFile).path, h.child(n).path))
}

func (h *hostFile) RenameAt(n string, dir p9.File, newName string) error {
	return toErrno(unix.Rename(h.child(n).path, dir.(*hostFile).child(newName).path))
}

func (h *hostFile) UnlinkAt(n string, flags uint32) error {
	return toErrno(unix.Unlinkat(unix.AT_FDCWD, h.child(n).path, int(flags)))
}

func (h *hostFile) Renamed(dir p9.File, n string) { h.path = dir.(*hostFile).child(n).path }

func (h *hostFile) Readlink() (string, error) {
	s, err := os.Readlink(h.path)
	return s, toErrno(err)
}

func (h *hostFile) Readdir(offset uint64, count uint32) (p9.Dirents, error) {
	list, err := os.ReadDir(h.path) // in the order of names
	if err != nil {
		return nil, toErrno(err)
	}
	var out p9.Dirents
	for k := int(offset); k < len(list) && len(out) < int(count); k++ {
		q, _, err := h.child(list[k].Name()).stat()
		if err != nil {
			continue
		}
		out = append(out, p9.Dirent{QID: q, Type: q.Type, Name: list[k].Name(), Offset: uint64(k + 1)})
	}
	return out, nil
}

func (h *hostFile) GetXattr(n string) ([]byte, error) {
	p := make([]byte, 64<<10)
	k, err := unix.Getxattr(h.path, n, p)
	if err != nil {
		return nil, toErrno(err)
	}
	return p[:k], nil
}

func (h *hostFile) SetXattr(n string, value []byte, flags p9.XattrFlags) error {
	return toErrno(unix.Setxattr(h.path, n, value, int(flags)))
}

func (h *hostFile) StatFS() (p9.FSStat, error) {
	var s unix.Statfs_t
	err := unix.Statfs(h.path, &s)
	return p9.FSStat{BlockSize: uint32(s.Bsize), Blocks: s.Blocks, BlocksFree: s.Bfree, BlocksAvailable: s.Bavail, Files: s.Files, FilesFree: s.Ffree}, toErrno(err)
}

// pipeTransport carries messages to a server at the other end of a connection.
type pipeTransport struct {
	conn    net.Conn
	stopped chan struct{}
	once    sync.Once

	sendMu  sync.Mutex
	mu      sync.Mutex
	waiting map[uint16]*pending
	err     error
	sent    map[uint8]int
	spoil   func(kind uint8, reply []byte) []byte // changes answers
	late    func(kind uint8)                      // is called before an answer is delivered, and may block
	refuse  func(kind uint8) bool                 // says which requests fail without reaching the server
	fids    map[uint32]bool                       // that the server has
}

// note keeps fids as the answer to a request changes them.
func (p *pipeTransport) note(request, reply []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ok := reply[4] == request[4]+1
	switch request[4] {
	case tattach:
		if ok {
			p.fids[le.Uint32(request[7:])] = true
		}
	case twalk:
		if ok && (len(reply) < 9 || le.Uint16(reply[7:]) == le.Uint16(request[15:])) {
			p.fids[le.Uint32(request[11:])] = true
		}
	case txattrwalk:
		if ok {
			p.fids[le.Uint32(request[11:])] = true
		}
	case tclunk:
		delete(p.fids, le.Uint32(request[7:]))
	}
}

type pending struct {
	kind  uint8
	reply chan []byte
}

func (p *pipeTransport) MaxSpans() int { return 252 }

func (p *pipeTransport) Stop(string) {
	p.once.Do(func() { close(p.stopped) })
	p.conn.Close()
}

func (p *pipeTransport) Send(m *Message) { go func() { m.Done(p.exchange(m)) }() }

func (p *pipeTransport) exchange(m *Message) (int, error) {
	tag := binary.LittleEndian.Uint16(m.Head[5:])
	w := &pending{m.Head[4], make(chan []byte, 1)}
	if p.refuse != nil && p.refuse(w.kind) {
		return copy(m.Reply, le.AppendUint32([]byte{11, 0, 0, 0, rlerror, m.Head[5], m.Head[6]}, uint32(unix.EIO))), nil
	}
	p.mu.Lock()
	if p.err != nil {
		p.mu.Unlock()
		return 0, p.err
	}
	p.waiting[tag] = w
	p.sent[w.kind]++
	p.mu.Unlock()
	whole := append([]byte(nil), m.Head...)
	for _, s := range m.Out {
		whole = append(whole, metal.View(s.PA, int(s.Len))...)
	}
	p.sendMu.Lock()
	_, err := p.conn.Write(whole)
	p.sendMu.Unlock()
	if err != nil {
		return 0, err
	}
	reply, ok := <-w.reply
	if !ok {
		return 0, io.ErrUnexpectedEOF
	}
	p.note(whole, reply)
	if p.late != nil {
		p.late(w.kind)
		select {
		case <-p.stopped:
			return 0, io.ErrUnexpectedEOF
		default:
		}
	}
	if p.spoil != nil {
		reply = p.spoil(w.kind, reply)
	}
	n := copy(m.Reply, reply)
	total := n
	for _, s := range m.In {
		k := copy(metal.View(s.PA, int(s.Len)), reply[n:])
		n += k
		total += k
	}
	return total, nil
}

func (p *pipeTransport) receive() {
	for {
		var head [7]byte
		_, err := io.ReadFull(p.conn, head[:])
		var reply []byte
		if err == nil {
			reply = make([]byte, binary.LittleEndian.Uint32(head[:]))
			copy(reply, head[:])
			_, err = io.ReadFull(p.conn, reply[7:])
		}
		p.mu.Lock()
		if err != nil {
			p.err = err
			for _, w := range p.waiting {
				close(w.reply)
			}
			p.waiting = nil
			p.mu.Unlock()
			return
		}
		tag := binary.LittleEndian.Uint16(head[5:])
		w := p.waiting[tag]
		delete(p.waiting, tag)
		p.mu.Unlock()
		w.reply <- reply
	}
}

func (p *pipeTransport) count(kind uint8) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent[kind]
}

// share is a directory of the host, mounted.
type mounted struct {
	*vfs.Context
	t    *testing.T
	dir  string
	fs   *FS
	pipe *pipeTransport
}

func mount(t *testing.T) *mounted {
	t.Helper()
	dir := t.TempDir()
	return mountDir(t, dir, Options{})
}

func mountDir(t *testing.T, dir string, o Options) *mounted {
	t.Helper()
	unix.Umask(0)
	frames := metal.Frames().ByOwner
	here, there := net.Pipe()
	served := make(chan struct{})
	go func() {
		p9.NewServer(attacher{dir}).Handle(there, there)
		close(served)
	}()
	p := &pipeTransport{conn: here, stopped: make(chan struct{}), waiting: make(map[uint16]*pending), sent: make(map[uint8]int), fids: make(map[uint32]bool)}
	go p.receive()
	fs, err := New(p, o)
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(fs.Root(), "fs0")
	m := &mounted{vfs.BootContext(vfs.NewFiles(ns)), t, dir, fs, p}
	t.Cleanup(func() {
		m.Files.Exit()
		fs.Unmounted()
		here.Close()
		<-served
		leaked := func() int {
			return int(metal.Frames().ByOwner[metal.OwnerPageCache] - frames[metal.OwnerPageCache])
		}
		for k := 0; k < 10000 && (fs.Fids() > 1 || leaked() != 0); k++ {
			time.Sleep(time.Millisecond) // loads that nobody waits for, and what is written back late
			fs.DropFids()
		}
		if n := fs.Fids(); n > 1 {
			t.Errorf("%d fids are left", n)
		}
		if n := leaked(); n != 0 {
			t.Errorf("the page cache has %d frames more than before", n)
		}
	})
	return m
}
