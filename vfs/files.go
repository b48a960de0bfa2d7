package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// fsInfo is what CLONE_FS shares: root, working directory and umask.
type fsInfo struct {
	refs  atomic.Int32
	umask atomic.Uint32

	mu   sync.Mutex
	ns   *Namespace
	root Path
	cwd  Path
}

func newFSInfo(ns *Namespace, root, cwd Path, umask uint32) *fsInfo {
	f := &fsInfo{ns: ns, root: root, cwd: cwd}
	f.refs.Store(1)
	f.umask.Store(umask)
	root.pin()
	cwd.pin()
	return f
}

func (f *fsInfo) copy() *fsInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	return newFSInfo(f.ns, f.root, f.cwd, f.umask.Load())
}

func (f *fsInfo) drop() {
	if f.refs.Add(-1) == 0 {
		f.root.unpin()
		f.cwd.unpin()
	}
}

// Files is what a process has of the file tree: descriptors, root, working directory, umask. It is the
// process's kernel.Attachment.
type Files struct {
	table *FDTable
	fs    *fsInfo
}

var _ kernel.Sharer = (*Files)(nil)

// NewFiles returns the files of a first process: no descriptors, the namespace's root as root and
// working directory, umask 022.
func NewFiles(ns *Namespace) *Files {
	root := ns.Root()
	return &Files{table: NewFDTable(), fs: newFSInfo(ns, root, root, 0o022)}
}

// Clone returns the files of a new process or thread that shares the table (CLONE_FILES) and the
// directories (CLONE_FS) or has copies.
func (f *Files) Clone(shareTable, shareFS bool) *Files {
	n := &Files{}
	if shareTable {
		f.table.refs.Add(1)
		n.table = f.table
	} else {
		n.table = f.table.copy()
	}
	if shareFS {
		f.fs.refs.Add(1)
		n.fs = f.fs
	} else {
		n.fs = f.fs.copy()
	}
	return n
}

// SharesDirectories reports whether another process has the same root and working directory (CLONE_FS), and could
// change them under this one.
func (f *Files) SharesDirectories() bool { return f.fs.refs.Load() > 1 }

// Fork returns copies for a new process.
func (f *Files) Fork() kernel.Attachment { return f.Clone(false, false) }

// ForkSharing returns copies for a new process, of what it doesn't share (CLONE_FILES, CLONE_FS).
func (f *Files) ForkSharing(files, fs bool) kernel.Attachment { return f.Clone(files, fs) }

// Exec unshares the table and closes what is marked FD_CLOEXEC.
func (f *Files) Exec() {
	f.UnshareTable()
	f.table.closeOnExec()
}

// Exit closes everything that nobody shares.
func (f *Files) Exit() {
	f.table.drop()
	f.fs.drop()
}

// UnshareTable is unshare(CLONE_FILES).
func (f *Files) UnshareTable() {
	if f.table.refs.Load() == 1 {
		return
	}
	old := f.table
	f.table = old.copy()
	old.drop()
}

// UnshareFS is unshare(CLONE_FS).
func (f *Files) UnshareFS() {
	if f.fs.refs.Load() == 1 {
		return
	}
	old := f.fs
	f.fs = old.copy()
	old.drop()
}

// SharesFS reports whether f and g have working directory, root and umask together (CLONE_FS).
func (f *Files) SharesFS(g *Files) bool { return f.fs == g.fs }

// Table returns the descriptor table.
func (f *Files) Table() *FDTable { return f.table }

// Namespace returns the mounts.
func (f *Files) Namespace() *Namespace { return f.fs.ns }

// Umask sets the umask and returns the former one.
func (f *Files) Umask(mask uint32) uint32 { return f.fs.umask.Swap(mask & 0o777) }

// CurrentUmask returns the umask, for /proc/PID/status.
func (f *Files) CurrentUmask() uint32 { return f.fs.umask.Load() }

// Root returns the root directory.
func (f *Files) Root() Path {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.fs.root
}

// CWD returns the working directory.
func (f *Files) CWD() Path {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.fs.cwd
}

func (f *Files) setCWD(p Path) {
	p.pin()
	f.fs.mu.Lock()
	old := f.fs.cwd
	f.fs.cwd = p
	f.fs.mu.Unlock()
	old.unpin()
}

func (f *Files) setRoot(p Path) {
	p.pin()
	f.fs.mu.Lock()
	old := f.fs.root
	f.fs.root = p
	f.fs.mu.Unlock()
	old.unpin()
}

// Repoint makes root and working directory to where they are from.
func (f *Files) Repoint(from, to Path) {
	if f.Root() == from {
		f.setRoot(to)
	}
	if f.CWD() == from {
		f.setCWD(to)
	}
}

// Name returns the absolute path of p as the process sees it, with " (deleted)" behind it when the
// name is gone, as /proc/PID/fd shows it.
func (f *Files) Name(p Path) string {
	name, ok := p.name(f.Root())
	if !ok {
		name = "(unreachable)" + name
	}
	if p.Dentry.removed.Load() {
		name += " (deleted)"
	}
	return name
}

// Getcwd returns the working directory: ENOENT if it was removed.
func (f *Files) Getcwd() (string, error) {
	cwd := f.CWD()
	if cwd.Dentry.removed.Load() {
		return "", unix.ENOENT
	}
	return f.Name(cwd), nil
}
