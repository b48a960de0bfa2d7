package ninep

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/vfs"
)

// special is a FIFO, socket or device that was made here. The server isn't asked to make any: QEMU's makes
// one, opens it to set its mode, refuses to open what isn't a regular file or a directory, and complains of a
// compromised guest; without privileges a server makes no devices. What is behind such files is this machine's
// own anyway. They are in memory, listed behind what the server has, and gone when the machine ends.
type special struct {
	vfs.BaseInode
	pipe *vfs.Pipe
}

// specialName is a name of one.
type specialName struct {
	special *special
	seq     int64 // its place in lists of the directory
}

// specials are those of a file system.
type specials struct {
	count      atomic.Int64 // how many there are: mostly none
	specialsMu sync.Mutex   // guards what follows
	lastSeq    int64
	// By the directory's number, for directories without users are forgotten.
	dirs map[uint64]map[string]specialName
}

// specialCookies are the cookies of specials in lists of directories, their places added.
const specialCookies = int64(1) << 62

// FIFO returns what the core opens.
func (s *special) FIFO() *vfs.Pipe { return s.pipe }

// Open opens a device.
func (s *special) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	mode, _, _ := s.Perm()
	if open := s.FS().(*FS).options.Device; open != nil && (mode&unix.S_IFMT == unix.S_IFCHR || mode&unix.S_IFMT == unix.S_IFBLK) {
		return open(c, mode, s.Rdev(), p, flags)
	}
	return nil, unix.ENXIO
}

// newSpecial makes one.
func (i *inode) newSpecial(n string, mode, uid, gid uint32, rdev uint64) *special {
	s := &special{}
	if mode&unix.S_IFMT == unix.S_IFIFO {
		s.pipe = vfs.NewPipe()
	}
	all := &i.fs.specials
	all.specialsMu.Lock()
	defer all.specialsMu.Unlock()
	// Numbers that no server gives to files: those of its host's files are small.
	s.Init(i.fs, 1<<62+uint64(all.lastSeq), mode, uid, gid, rdev)
	all.enter(i, n, s)
	return s
}

// AddPlace makes name, which isn't there, an empty file in the directory dir to mount something on: in memory,
// never on the server. EXDEV for a directory of another file system.
func (f *FS) AddPlace(dir vfs.Inode, name string) error {
	i, ok := dir.(*inode)
	if !ok || i.fs != f {
		return unix.EXDEV
	}
	i.newSpecial(name, unix.S_IFREG|0o644, 0, 0, 0)
	i.changed(name)
	return nil
}

// Precondition: specialsMu is held.
func (all *specials) enter(dir *inode, n string, s *special) {
	if all.dirs == nil {
		all.dirs = make(map[uint64]map[string]specialName)
	}
	if all.dirs[dir.Ino()] == nil {
		all.dirs[dir.Ino()] = make(map[string]specialName)
	}
	all.lastSeq++
	all.dirs[dir.Ino()][n] = specialName{s, all.lastSeq}
	all.count.Add(1)
}

// Precondition: specialsMu is held, the name is there.
func (all *specials) leave(dir *inode, n string) {
	delete(all.dirs[dir.Ino()], n)
	if len(all.dirs[dir.Ino()]) == 0 {
		delete(all.dirs, dir.Ino())
	}
	all.count.Add(-1)
}

// special returns what is in memory under that name, or nil.
func (i *inode) special(n string) *special {
	all := &i.fs.specials
	if all.count.Load() == 0 {
		return nil
	}
	all.specialsMu.Lock()
	defer all.specialsMu.Unlock()
	return all.dirs[i.Ino()][n].special
}

// hasSpecials says whether the directory isn't empty, whatever the server says.
func (i *inode) hasSpecials() bool {
	all := &i.fs.specials
	all.specialsMu.Lock()
	defer all.specialsMu.Unlock()
	return len(all.dirs[i.Ino()]) != 0
}

// linkSpecial enters another name.
func (i *inode) linkSpecial(n string, s *special) {
	all := &i.fs.specials
	all.specialsMu.Lock()
	all.enter(i, n, s)
	all.specialsMu.Unlock()
	s.AddLinks(1)
	i.changed(n)
}

// unlinkSpecial takes a name away.
func (i *inode) unlinkSpecial(n string, s *special) {
	all := &i.fs.specials
	all.specialsMu.Lock()
	all.leave(i, n)
	all.specialsMu.Unlock()
	s.AddLinks(-1)
}

// renameSpecial moves s, named n here, to newName in the directory to, where replaced was or nothing.
func (i *inode) renameSpecial(n string, s *special, to *inode, newName string, replaced vfs.Inode) error {
	switch r := replaced.(type) {
	case *special:
		to.unlinkSpecial(newName, r)
	case *inode:
		if err := to.remove(newName, r, 0); err != nil {
			return err
		}
	}
	all := &i.fs.specials
	all.specialsMu.Lock()
	all.leave(i, n)
	all.enter(to, newName, s)
	all.specialsMu.Unlock()
	s.Changed()
	to.changed(newName)
	return nil
}

// listSpecials lists those of the directory behind the cookie off.
func (i *inode) listSpecials(off int64, add func(name string, ino uint64, mode uint32, next int64) bool) {
	all := &i.fs.specials
	if all.count.Load() == 0 {
		return
	}
	all.specialsMu.Lock()
	here := maps.Clone(all.dirs[i.Ino()])
	all.specialsMu.Unlock()
	names := slices.SortedFunc(maps.Keys(here), func(a, b string) int { return cmp.Compare(here[a].seq, here[b].seq) })
	for _, n := range names {
		e := here[n]
		mode, _, _ := e.special.Perm()
		if next := specialCookies + e.seq; next > off && !add(n, e.special.Ino(), mode&unix.S_IFMT, next) {
			return
		}
	}
}
