package cpio

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"elver/kernel/klog"
	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
	"elver/vfs/tmpfs"
)

// maxWarnings is how many records that are left out are named in the log.
const maxWarnings = 8

// unpacker makes files in a file system.
type unpacker struct {
	fs *tmpfs.FS
	c  *vfs.Context // root's, in a name space of the file system alone

	lastName string // the directory that was resolved last, as the records call it
	last     place

	file vfs.Inode // what the last record made; nil if that was left out

	links    map[linkKey]*linkGroup // files with several names, by what their records call them
	times    map[vfs.Inode]uint32   // modification times of the directories, set when all is there
	warnings int
}

// place is a directory and its path without symbolic links.
type place struct {
	dentry *vfs.Dentry
	path   string
}

// entry is a name in a directory.
type entry struct {
	dir  place
	name string
}

func (e entry) path() string { return strings.TrimSuffix(e.dir.path, "/") + "/" + e.name }

// linkKey is what the records of one file have in common.
type linkKey struct{ ino, major, minor, typ uint32 }

// linkGroup is a file whose record says that it has several names.
type linkGroup struct {
	inode vfs.Inode
	// The names while the file is empty: GNU cpio writes the content with the last name.
	empty []entry
}

func newUnpacker(fs *tmpfs.FS) *unpacker {
	return &unpacker{
		fs:    fs,
		c:     vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), ""))),
		links: make(map[linkKey]*linkGroup),
		times: make(map[vfs.Inode]uint32),
	}
}

// finish ends the work when all files are there.
func (u *unpacker) finish() {
	for i, mtime := range u.times {
		u.setTimes(i, mtime)
	}
	if n := u.warnings - maxWarnings; n > 0 {
		klog.Warnf("initrd: %d more records are left out", n)
	}
}

// record unpacks the record that comes next.
func (u *unpacker) record(a *archive) error {
	h, name, err := a.header()
	if err != nil {
		return err
	}
	if name == trailer {
		// What follows is another archive, with inode numbers of its own.
		clear(u.links)
		return a.skip(h, a.at, name)
	}
	data := a.at
	if a.inPlace() && uint64(h.size) > uint64(len(a.all))-data {
		return a.refuse(data, "%q announces %d bytes, and %d are left: the archive was cut off", shorten(name), h.size, uint64(len(a.all))-data)
	}
	// Names, links and targets stand in the Go heap, which takes of the reserve what it needs.
	if s := metal.Frames(); s.Free < s.Reserve {
		return u.noMemory(h, name)
	}
	err = u.unpack(a, h, name)
	if errno, ok := err.(unix.Errno); ok {
		if errno == unix.ENOSPC || errno == unix.ENOMEM {
			return u.noMemory(h, name)
		}
		if u.warnings++; u.warnings <= maxWarnings {
			klog.Warnf("initrd: %q is left out: %v", shorten(name), err)
		}
	} else if err != nil {
		return err
	}
	return a.skip(h, data, name)
}

// skip goes to the end of a record whose content begins at data.
func (a *archive) skip(h header, data uint64, name string) error {
	end := data + uint64(h.size)
	if err := a.discard(int(end - a.at)); err != nil {
		return a.short(err, fmt.Sprintf("%q", shorten(name)))
	}
	// Headers are aligned within their archive. The last one needs no padding.
	p, _ := a.Peek(int(align(uint64(h.size)) - uint64(h.size)))
	return a.discard(len(p))
}

// shorten returns name as a sentence can hold it.
func shorten(name string) string {
	if len(name) > 128 {
		return name[:128] + "…"
	}
	return name
}

func (u *unpacker) noMemory(h header, name string) error {
	return fmt.Errorf("its files don't fit into memory: %q needs %d KiB, and there are %s: give the machine more with -m", shorten(name), (uint64(h.size)+1023)/1024, u.room())
}

// room says how much is left in the file system and the memory.
func (u *unpacker) room() string {
	var s vfs.StatFS
	u.fs.Statfs(&s)
	return fmt.Sprintf("%d KiB of the file system's %d KiB free, %d of %d inodes, %s", s.BlocksFree*4, s.Blocks*4, s.FilesFree, s.Files, memoryLeft())
}

func memoryLeft() string {
	s := metal.Frames()
	return fmt.Sprintf("%d MiB of %d MiB of memory free", s.Free*metal.FrameSize>>20, s.Total*metal.FrameSize>>20)
}

// unpack makes the file of a record. An errno is the reason to leave the record out.
func (u *unpacker) unpack(a *archive, h header, name string) error {
	typ := h.mode & unix.S_IFMT
	if name == metadataName && typ == unix.S_IFREG {
		return u.metadata(a, h)
	}
	u.file = nil
	switch typ {
	case unix.S_IFREG, unix.S_IFLNK:
	case unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		if h.size != 0 {
			return unix.EINVAL
		}
	default:
		return unix.EINVAL
	}
	e, err := u.resolve(name, typ == unix.S_IFDIR)
	if err != nil {
		return err
	}
	if typ == unix.S_IFDIR {
		return u.directory(h, e)
	}
	var target string
	if typ == unix.S_IFLNK {
		if target, err = a.target(h, name); err != nil {
			return err
		}
		if target == "" {
			return unix.ENOENT
		}
	}
	if typ == unix.S_IFREG && h.crc && a.inPlace() {
		if err := a.verify(h, name); err != nil {
			return err
		}
	}

	key := linkKey{h.ino, h.devMajor, h.devMinor, typ}
	group := u.links[key]
	linked := h.nlink > 1 && typ != unix.S_IFLNK
	if !linked || group != nil && group.inode.(interface{ Links() uint32 }).Links() == 0 {
		group = nil
	}
	old := e.dir.dentry.Child(e.name)
	if group == nil || old == nil || old.Inode() != group.inode {
		if err := u.vacate(e, typ); err != nil {
			return err
		}
	}
	inPlace := typ == unix.S_IFREG && a.inPlace() && h.size > 0
	if group != nil {
		if !inPlace || group.empty == nil {
			return u.another(a, h, name, e, group)
		}
		// Here comes the content of the names before: this file takes the place of the empty one.
		if err := u.vacate(e, 0); err != nil {
			return err
		}
	}

	var d *vfs.Dentry
	switch {
	case typ == unix.S_IFLNK:
		d, err = u.fs.AddSymlink(e.path(), target)
	case inPlace:
		d, err = u.fs.AddFile(e.path(), a.pa+a.at, uint64(h.size), 0)
	default:
		d, err = u.fs.Add(e.path(), h.mode&(unix.S_IFMT|0o7777), h.uid, h.gid, device(h))
	}
	if err != nil {
		return err
	}
	if group != nil {
		if err := u.move(group, d.Inode()); err != nil {
			return err
		}
	} else if linked {
		group = &linkGroup{inode: d.Inode()}
		if typ == unix.S_IFREG && h.size == 0 {
			group.empty = []entry{e}
		}
		u.links[key] = group
	}
	if typ == unix.S_IFREG && !inPlace && h.size > 0 {
		if err := u.write(a, h, name, d); err != nil {
			return err
		}
	}
	return u.setAttr(h, d.Inode())
}

func device(h header) uint64 {
	if typ := h.mode & unix.S_IFMT; typ != unix.S_IFCHR && typ != unix.S_IFBLK {
		return 0
	}
	return unix.Mkdev(h.rdevMajor, h.rdevMinor)
}

// target reads what a symbolic link holds.
func (a *archive) target(h header, name string) (string, error) {
	if h.size >= pathMax {
		return "", a.refuse(a.at, "the symbolic link %q has a target of %d bytes; %d are possible", shorten(name), h.size, pathMax-1)
	}
	p, err := a.Peek(int(h.size))
	if err != nil {
		return "", a.short(err, fmt.Sprintf("%q", shorten(name)))
	}
	target, _, _ := strings.Cut(string(p), "\x00")
	return target, nil
}

// verify compares the sum of the content that comes next with the header's, if there is content: the
// records of a file's other names have none.
//
// Precondition: a is in memory and holds the content.
func (a *archive) verify(h header, name string) error {
	p, _ := a.Peek(int(h.size))
	var sum uint32
	for len(p) > 0 {
		k := min(len(p), pieceSize)
		sum += checksum(p[:k])
		p = p[k:]
		metal.CondResched()
	}
	return a.compare(h, name, sum)
}

func (a *archive) compare(h header, name string, sum uint32) error {
	if h.crc && h.size > 0 && sum != h.sum {
		return a.refuse(a.at, "the content of %q has the checksum %#x, and its header says %#x: the archive is damaged", shorten(name), sum, h.sum)
	}
	return nil
}

func checksum(p []byte) (sum uint32) {
	for _, b := range p {
		sum += uint32(b)
	}
	return sum
}

// directory makes or changes the directory e.
func (u *unpacker) directory(h header, e entry) error {
	d := e.dir.dentry
	if e.name != "" {
		if err := u.vacate(e, unix.S_IFDIR); err != nil {
			return err
		}
		var err error
		if d, err = u.fs.Add(e.path(), unix.S_IFDIR|h.mode&0o7777, h.uid, h.gid, 0); err != nil {
			return err
		}
	}
	u.times[d.Inode()] = h.mtime
	return u.setAttr(h, d.Inode())
}

// another enters e as one more name of a group's file, and its content if there is any.
func (u *unpacker) another(a *archive, h header, name string, e entry, group *linkGroup) error {
	d := e.dir.dentry.Child(e.name)
	if d == nil {
		if err := e.dir.dentry.Inode().Link(u.c, e.name, group.inode); err != nil {
			return err
		}
		d = e.dir.dentry.Add(e.name, group.inode)
		if group.empty != nil {
			group.empty = append(group.empty, e)
		}
	}
	if h.mode&unix.S_IFMT == unix.S_IFREG && h.size > 0 {
		group.empty = nil
		if err := u.write(a, h, name, d); err != nil {
			return err
		}
	}
	return u.setAttr(h, group.inode)
}

// move makes the names of a group that had no content names of i.
func (u *unpacker) move(group *linkGroup, i vfs.Inode) error {
	for _, e := range group.empty {
		dir := e.dir.dentry
		if d := dir.Child(e.name); d == nil || d.Inode() != group.inode {
			continue // another file has the name since
		}
		if err := dir.Inode().Unlink(u.c, e.name, group.inode); err != nil {
			return err
		}
		dir.Remove(e.name)
		if err := dir.Inode().Link(u.c, e.name, i); err != nil {
			return err
		}
		dir.Add(e.name, i)
	}
	group.inode, group.empty = i, nil
	return nil
}

// write makes the content that comes next the file d's, in pieces.
func (u *unpacker) write(a *archive, h header, name string, d *vfs.Dentry) error {
	// A size that can't be is refused before memory is filled with what there is of it.
	var s vfs.StatFS
	if err := u.fs.Statfs(&s); err != nil {
		return err
	}
	if (uint64(h.size)+metal.FrameSize-1)/metal.FrameSize > s.BlocksFree {
		return unix.ENOSPC
	}
	if err := d.Inode().SetAttr(u.c, &vfs.SetAttr{Valid: vfs.SetSize}); err != nil {
		return err
	}
	f, err := d.Inode().Open(u.c, vfs.Path{Dentry: d}, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Release()
	var sum uint32
	for off := int64(0); off < int64(h.size); {
		p, err := a.Peek(int(min(pieceSize, int64(h.size)-off)))
		if err != nil {
			return a.short(err, fmt.Sprintf("%q", shorten(name)))
		}
		if h.crc {
			sum += checksum(p)
		}
		for rest := p; len(rest) > 0; {
			b := mm.KernelBuffer(rest)
			n, err := f.Write(u.c, &b, off)
			if err != nil {
				return err
			}
			rest = rest[n:]
			off += int64(n)
		}
		if err := a.discard(len(p)); err != nil {
			return err
		}
		metal.CondResched()
	}
	return a.compare(h, name, sum)
}

// setAttr gives a file what its record says.
func (u *unpacker) setAttr(h header, i vfs.Inode) error {
	u.file = i
	t := unix.Timespec{Sec: int64(h.mtime)}
	s := vfs.SetAttr{
		Valid: vfs.SetUID | vfs.SetGID | vfs.SetAtime | vfs.SetMtime,
		UID:   h.uid, GID: h.gid, Atime: t, Mtime: t,
	}
	if h.mode&unix.S_IFMT != unix.S_IFLNK {
		s.Valid |= vfs.SetMode
		s.Mode = h.mode & 0o7777
	}
	return i.SetAttr(u.c, &s)
}

func (u *unpacker) setTimes(i vfs.Inode, mtime uint32) {
	t := unix.Timespec{Sec: int64(mtime)}
	i.SetAttr(u.c, &vfs.SetAttr{Valid: vfs.SetAtime | vfs.SetMtime, Atime: t, Mtime: t})
}

// vacate takes away what stands at e, unless it is a directory and one is wanted.
func (u *unpacker) vacate(e entry, typ uint32) error {
	d := e.dir.dentry.Child(e.name)
	if d == nil {
		return nil
	}
	mode, _, _ := d.Inode().Perm()
	directory := mode&unix.S_IFMT == unix.S_IFDIR
	if directory && typ == unix.S_IFDIR {
		return nil
	}
	u.lastName, u.last = "", place{}
	if directory {
		delete(u.times, d.Inode())
		return u.c.Rmdir(vfs.AtCWD, e.path())
	}
	return u.c.Unlink(vfs.AtCWD, e.path())
}

// resolve returns the place of a record's name, making the directories that are missing. The name of an
// entry is empty only for a directory that is there already and is called by a name like ".".
func (u *unpacker) resolve(name string, directory bool) (entry, error) {
	if name == "" {
		return entry{}, unix.ENOENT
	}
	dir, base := split(name)
	if base == "" || base == "." || base == ".." {
		if !directory {
			return entry{}, unix.EISDIR
		}
		p, err := u.directoryAt(name)
		return entry{dir: p}, err
	}
	if len(base) > nameMax {
		return entry{}, unix.ENAMETOOLONG
	}
	p, err := u.directoryAt(dir)
	e := entry{p, base}
	if err == nil && len(e.path()) >= pathMax {
		err = unix.ENAMETOOLONG
	}
	return e, err
}

// split cuts the last component off a name.
func split(name string) (dir, base string) {
	name = strings.TrimRight(name, "/")
	i := strings.LastIndexByte(name, '/')
	return name[:i+1], name[i+1:]
}

// directoryAt returns the directory of that name, which it makes if it is missing.
func (u *unpacker) directoryAt(name string) (place, error) {
	if u.last.dentry != nil && name == u.lastName {
		return u.last, nil
	}
	p, err := u.c.Walk(vfs.AtCWD, "/"+name, 0)
	if err == unix.ENOENT {
		if err = u.makeDirectory(name); err == nil {
			p, err = u.c.Walk(vfs.AtCWD, "/"+name, 0)
		}
	}
	if err != nil {
		return place{}, err
	}
	if mode, _, _ := p.Inode().Perm(); mode&unix.S_IFMT != unix.S_IFDIR {
		return place{}, unix.ENOTDIR
	}
	at := place{p.Dentry, p.String()}
	u.lastName, u.last = name, at
	return at, nil
}

// makeDirectory makes the directory that name's last component is, and those above it.
func (u *unpacker) makeDirectory(name string) error {
	dir, base := split(name)
	if base == "" {
		return nil
	}
	p, err := u.directoryAt(dir)
	if err != nil || base == "." || base == ".." {
		return err
	}
	e := entry{p, base}
	if len(e.path()) >= pathMax || len(base) > nameMax {
		return unix.ENAMETOOLONG
	}
	if p.dentry.Child(base) != nil {
		return nil // a symbolic link to nothing, as the caller will find
	}
	_, err = u.fs.Add(e.path(), unix.S_IFDIR|0o755, 0, 0, 0)
	return err
}
