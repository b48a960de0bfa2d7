package tmpfs

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
)

type buffer = mm.Buffer

const pageSize = metal.FrameSize

// A file's frames are found in two steps: the first densePages by a slice, the others by a map of
// leaves, so that neither a small file nor a sparse one costs much.
const densePages = 512

type leaf [densePages]uint64

// regular is a regular file.
//
// A reader or writer takes a reference of the frame under mu and copies without it, since a fault in
// the copy may come back to this file's MapFrame. writeMu orders writes, appends and changes of size;
// no fault takes it.
type regular struct {
	vfs.BaseInode
	xattrs

	size atomic.Int64

	writeMu sync.Mutex // before mu

	mu       sync.Mutex
	dense    []uint64         // frames by page number, 0: none
	leaves   map[uint64]*leaf // by page number / densePages; key 0 isn't used
	count    int64            // frames
	base     uint64           // the file's first baseSize bytes lie here, but for pages that have frames
	baseSize int64
	holds    int
	gone     bool // no name and nobody holds it: the frames were given back
	seals    uint32
	canSeal  bool
	linkable bool // made by O_TMPFILE without O_EXCL, and nobody has named it

	mappings mm.Mappings
}

func (r *regular) tmpfs() *FS { return r.FS().(*FS) }

// Hold counts somebody who has the file open or mapped.
func (r *regular) Hold() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return unix.ENOENT
	}
	r.holds++
	return nil
}

// Drop undoes Hold.
func (r *regular) Drop() {
	r.mu.Lock()
	r.holds--
	gone := r.holds == 0 && r.Links() == 0 && !r.gone
	if gone {
		r.gone = true
	}
	r.mu.Unlock()
	if gone {
		r.destroy()
	}
}

func (r *regular) revive() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || r.Links() == 0 && !r.linkable {
		return unix.ENOENT
	}
	r.linkable = false
	return nil
}

// unlinked is called when the last name went.
func (r *regular) unlinked() {
	r.mu.Lock()
	gone := r.holds == 0 && !r.gone
	if gone {
		r.gone = true
	}
	r.mu.Unlock()
	if gone {
		r.destroy()
	}
}

func (r *regular) destroy() {
	r.mu.Lock()
	frames := r.cut(0)
	r.mu.Unlock()
	r.giveBack(frames)
	r.tmpfs().inodes.Add(-1)
}

func (r *regular) giveBack(frames []uint64) {
	for i, frame := range frames {
		metal.Unref(frame)
		if i%256 == 255 {
			metal.CondResched()
		}
	}
	r.tmpfs().uncharge(int64(len(frames)))
}

// lookup returns the frame of page n, or 0. Precondition: mu is held.
func (r *regular) lookup(n uint64) uint64 {
	if n < densePages {
		if n < uint64(len(r.dense)) {
			return r.dense[n]
		}
		return 0
	}
	if l := r.leaves[n/densePages]; l != nil {
		return l[n%densePages]
	}
	return 0
}

// set makes frame page n; 0 takes it out. Precondition: mu is held.
func (r *regular) set(n, frame uint64) {
	if n < densePages {
		if n >= uint64(len(r.dense)) {
			if frame == 0 {
				return
			}
			r.dense = append(r.dense, make([]uint64, n+1-uint64(len(r.dense)))...)
		}
		r.dense[n] = frame
		return
	}
	l := r.leaves[n/densePages]
	if l == nil {
		if frame == 0 {
			return
		}
		if r.leaves == nil {
			r.leaves = make(map[uint64]*leaf)
		}
		l = new(leaf)
		r.leaves[n/densePages] = l
	}
	l[n%densePages] = frame
}

// cut takes out the frames from page n up and returns them. Precondition: mu is held.
func (r *regular) cut(n uint64) []uint64 { return r.take(n, math.MaxUint64) }

// take takes out the frames of pages [from, to) and returns them. Precondition: mu is held.
func (r *regular) take(from, to uint64) []uint64 {
	var frames []uint64
	for i := from; i < min(to, uint64(len(r.dense))); i++ {
		if r.dense[i] != 0 {
			frames = append(frames, r.dense[i])
			r.dense[i] = 0
		}
	}
	if from < uint64(len(r.dense)) && to >= uint64(len(r.dense)) {
		r.dense = r.dense[:from:from]
	}
	for key, l := range r.leaves {
		first := key * densePages
		if first >= to || first+densePages <= from {
			continue
		}
		left := false
		for i := range l {
			if l[i] == 0 {
				continue
			}
			if n := first + uint64(i); n >= from && n < to {
				frames = append(frames, l[i])
				l[i] = 0
			} else {
				left = true
			}
		}
		if !left {
			delete(r.leaves, key)
		}
	}
	r.count -= int64(len(frames))
	return frames
}

// inBase returns how many bytes of page n lie in the memory that the file began with.
// Precondition: mu is held.
func (r *regular) inBase(n uint64) int {
	if r.baseSize == 0 || n >= (uint64(r.baseSize)+pageSize-1)/pageSize {
		return 0
	}
	return int(min(uint64(r.baseSize)-n*pageSize, pageSize))
}

// newFrame returns a charged frame with undefined contents.
func (r *regular) newFrame() (uint64, error) {
	if err := r.tmpfs().charge(1); err != nil {
		return 0, err
	}
	frame, ok := mm.AllocFrame(metal.OwnerPageCache)
	if !ok {
		r.tmpfs().uncharge(1)
		return 0, unix.ENOSPC
	}
	return frame, nil
}

// page returns the frame of page n with a reference for the caller, making it if it isn't there. Pages
// that still lie in the base are copied when own is set or they aren't whole; otherwise the frame may be
// the base's, which nobody may write to.
func (r *regular) page(n uint64, own bool) (uint64, error) {
	r.mu.Lock()
	frame, copied, err := r.pageLocked(n, own)
	r.mu.Unlock()
	if copied {
		// Shared mappings may still show the base's page.
		r.mappings.Unmap(n*pageSize, (n+1)*pageSize, false)
	}
	return frame, err
}

func (r *regular) pageLocked(n uint64, own bool) (frame uint64, copied bool, err error) {
	if frame = r.lookup(n); frame != 0 {
		metal.Ref(frame)
		return frame, false, nil
	}
	k := r.inBase(n)
	if k == pageSize && !own && r.base%pageSize == 0 {
		frame = r.base + n*pageSize
		metal.Ref(frame)
		return frame, false, nil
	}
	if frame, err = r.newFrame(); err != nil {
		return 0, false, err
	}
	view := metal.View(frame, pageSize)
	if k > 0 {
		copy(view, metal.View(r.base+n*pageSize, k))
	}
	clear(view[k:])
	r.set(n, frame)
	r.count++
	metal.Ref(frame)
	return frame, k == pageSize, nil
}

// Stat fills a.
func (r *regular) Stat(a *vfs.Attr) error {
	r.BaseInode.Stat(a)
	a.Size = r.size.Load()
	r.mu.Lock()
	a.Blocks = uint64(r.count) * (pageSize / 512)
	if r.baseSize > 0 {
		a.Blocks += (uint64(r.baseSize) + 511) / 512
	}
	r.mu.Unlock()
	return nil
}

// SetAttr changes attributes and the size.
func (r *regular) SetAttr(c *vfs.Context, s *vfs.SetAttr) error {
	if s.Valid&vfs.SetSize != 0 {
		if err := r.resize(c, s.Size); err != nil {
			return err
		}
	}
	if s.Valid&^vfs.SetSize != 0 {
		return r.BaseInode.SetAttr(c, s)
	}
	return nil
}

func (r *regular) resize(c *vfs.Context, size int64) error {
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	old := r.size.Load()
	if seals := r.sealed(); size > old && seals&unix.F_SEAL_GROW != 0 || size < old && seals&unix.F_SEAL_SHRINK != 0 {
		return unix.EPERM
	}
	if size > old {
		if _, err := c.CheckFileSize(size-1, 1, math.MaxInt64); err != nil {
			return err
		}
	}
	if size < old {
		r.shrink(size)
	}
	r.size.Store(size)
	r.Modified()
	r.dropPrivileges(c)
	return nil
}

// shrink cuts the file. The size changes before the frames go, so that nobody maps them again.
// Precondition: writeMu is held.
func (r *regular) shrink(size int64) {
	r.size.Store(size)
	first := (uint64(size) + pageSize - 1) / pageSize
	r.mu.Lock()
	frames := r.cut(first)
	r.baseSize = min(r.baseSize, size)
	if tail := uint64(size) % pageSize; tail != 0 {
		if frame := r.lookup(uint64(size) / pageSize); frame != 0 {
			clear(metal.View(frame, pageSize)[tail:])
		}
	}
	r.mu.Unlock()
	r.mappings.Unmap(first*pageSize, 1<<63, true)
	r.giveBack(frames)
}

// dropPrivileges takes set-id bits away after a change by somebody who isn't privileged (write(2)), and
// capabilities whoever made it.
func (r *regular) dropPrivileges(c *vfs.Context) {
	if r.capable.Load() {
		r.RemoveXattr(capability)
	}
	mode, _, _ := r.Perm()
	if mode&(unix.S_ISUID|unix.S_ISGID) == 0 || c.Creds.HasCap(unix.CAP_FSETID) {
		return
	}
	drop := uint32(unix.S_ISUID)
	if mode&unix.S_IXGRP != 0 {
		drop |= unix.S_ISGID
	}
	if mode&drop != 0 {
		r.BaseInode.SetAttr(c, &vfs.SetAttr{Valid: vfs.SetMode, Mode: mode &^ drop & 0o7777})
	}
}

// Open opens the file.
func (r *regular) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	return &file{r: r, path: p, noatime: flags&unix.O_NOATIME != 0}, nil
}

// file is an open regular file, and what maps it.
type file struct {
	vfs.BaseFile
	r       *regular
	path    vfs.Path
	noatime bool
}

// Seekable says yes.
func (f *file) Seekable() bool { return true }

// Size returns the file's size.
func (f *file) Size() int64 { return f.r.size.Load() }

// Read reads at off.
func (f *file) Read(c *vfs.Context, dst *buffer, off int64) (int, error) {
	r := f.r
	total := 0
	for {
		k := min(int64(dst.Len()), r.size.Load()-off, int64(pageSize-off%pageSize))
		if k <= 0 {
			break
		}
		n, err := r.readPage(dst, uint64(off)/pageSize, int(off%pageSize), int(k))
		total += n
		off += int64(n)
		if err != nil {
			if total == 0 {
				return 0, err
			}
			break
		}
		if total%(1<<20) < pageSize {
			metal.CondResched()
		}
	}
	if total > 0 && !f.noatime {
		r.Accessed()
	}
	return total, nil
}

// readPage copies k bytes of page n from offset in on into dst.
func (r *regular) readPage(dst *buffer, n uint64, in, k int) (int, error) {
	r.mu.Lock()
	frame := r.lookup(n)
	if frame != 0 {
		metal.Ref(frame)
		r.mu.Unlock()
		m, err := dst.CopyOut(metal.View(frame, pageSize)[in : in+k])
		metal.Unref(frame)
		return m, err
	}
	inBase := r.inBase(n)
	r.mu.Unlock()
	if in < inBase {
		// The base's memory stays, whatever becomes of the file.
		return dst.CopyOut(metal.View(r.base+n*pageSize+uint64(in), min(k, inBase-in)))
	}
	return dst.ZeroOut(k)
}

// Write writes at off, or at the end if off is vfs.Append.
func (f *file) Write(c *vfs.Context, src *buffer, off int64) (int, error) {
	r := f.r
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	if off == vfs.Append {
		off = r.size.Load()
	}
	left, err := c.CheckFileSize(off, src.Len(), math.MaxInt64)
	if err != nil || left == 0 {
		return 0, err
	}
	if seals := r.sealed(); seals != 0 {
		if seals&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 || seals&unix.F_SEAL_GROW != 0 && off+int64(left) > r.size.Load() {
			return 0, unix.EPERM
		}
	}
	total := 0
	for total < left {
		in := int(off % pageSize)
		k := min(pageSize-in, left-total)
		var n int
		n, err = r.writePage(src, uint64(off)/pageSize, in, k)
		total += n
		off += int64(n)
		if n > 0 && off > r.size.Load() {
			r.size.Store(off)
		}
		if err != nil {
			break
		}
		if total%(1<<20) < pageSize {
			metal.CondResched()
		}
	}
	if total > 0 {
		r.Modified()
		r.dropPrivileges(c)
		return total, nil
	}
	return 0, err
}

// writePage copies k bytes from src into page n from offset in on. Precondition: writeMu is held.
func (r *regular) writePage(src *buffer, n uint64, in, k int) (int, error) {
	r.mu.Lock()
	frame := r.lookup(n)
	if frame == 0 && k == pageSize {
		r.mu.Unlock()
		return r.writeNewPage(src, n)
	}
	copied := false
	if frame != 0 {
		metal.Ref(frame)
	} else {
		var err error
		if frame, copied, err = r.pageLocked(n, true); err != nil {
			r.mu.Unlock()
			return 0, err
		}
	}
	r.mu.Unlock()
	if copied {
		r.mappings.Unmap(n*pageSize, (n+1)*pageSize, false)
	}
	m, err := src.CopyIn(metal.View(frame, pageSize)[in : in+k])
	metal.Unref(frame)
	return m, err
}

// writeNewPage fills a page that has no frame yet, and shows it only then.
func (r *regular) writeNewPage(src *buffer, n uint64) (int, error) {
	frame, err := r.newFrame()
	if err != nil {
		return 0, err
	}
	view := metal.View(frame, pageSize)
	m, err := src.CopyIn(view)
	r.mu.Lock()
	there := r.lookup(n) // a fault of this very copy may have made the page
	base := r.inBase(n)
	if m == pageSize && there == 0 {
		r.set(n, frame)
		r.count++
		r.mu.Unlock()
		if base != 0 {
			r.mappings.Unmap(n*pageSize, (n+1)*pageSize, false)
		}
		return m, err
	}
	copied := false
	if m > 0 {
		page, c, err2 := r.pageLocked(n, true)
		if err2 != nil {
			m, err = 0, err2
		} else {
			copy(metal.View(page, pageSize), view[:m])
			metal.Unref(page)
			copied = c
		}
	}
	r.mu.Unlock()
	if copied {
		r.mappings.Unmap(n*pageSize, (n+1)*pageSize, false)
	}
	metal.Unref(frame)
	r.tmpfs().uncharge(1)
	return m, err
}

// Seek finds the end, data and holes; the core does the rest.
func (f *file) Seek(off int64, whence int) (int64, error) {
	r := f.r
	size := r.size.Load()
	if whence == unix.SEEK_END {
		pos := size + off
		if off > 0 && pos < 0 {
			return 0, unix.EOVERFLOW
		}
		if pos < 0 {
			return 0, unix.EINVAL
		}
		return pos, nil
	}
	if off < 0 || off >= size {
		return 0, unix.ENXIO
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := uint64(off) / pageSize
	end := (uint64(size) + pageSize - 1) / pageSize
	if whence == unix.SEEK_DATA {
		next := r.nextData(n)
		if next >= end {
			return 0, unix.ENXIO
		}
		return max(off, int64(next*pageSize)), nil
	}
	for n < end && r.hasData(n) {
		n++
	}
	if n >= end {
		return size, nil
	}
	return max(off, int64(n*pageSize)), nil
}

func (r *regular) hasData(n uint64) bool { return r.lookup(n) != 0 || r.inBase(n) != 0 }

// nextData returns the first page from n up that has data, or a very high number.
// Precondition: mu is held.
func (r *regular) nextData(n uint64) uint64 {
	for ; n < densePages; n++ {
		if r.hasData(n) {
			return n
		}
		if n >= uint64(len(r.dense)) && r.inBase(n) == 0 {
			n = densePages
			break
		}
	}
	if r.inBase(n) != 0 {
		return n
	}
	keys := make([]uint64, 0, len(r.leaves))
	for key := range r.leaves {
		if key >= n/densePages {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		for i, frame := range r.leaves[key] {
			if at := key*densePages + uint64(i); frame != 0 && at >= n {
				return at
			}
		}
	}
	return math.MaxInt64 / pageSize
}

// Allocate is fallocate(2): allocating, punching holes and zeroing ranges.
func (f *file) Allocate(c *vfs.Context, mode uint32, off, length int64) error {
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if mode&^known != 0 || mode&unix.FALLOC_FL_PUNCH_HOLE != 0 && mode != unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE {
		return unix.EOPNOTSUPP
	}
	r := f.r
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	seals := r.sealed()
	end := off + length
	if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
		if seals&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 {
			return unix.EPERM
		}
		r.punch(uint64(off), uint64(end))
		r.Modified()
		if mode&unix.FALLOC_FL_PUNCH_HOLE != 0 {
			return nil
		}
	}
	if end > r.size.Load() && mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		if seals&unix.F_SEAL_GROW != 0 {
			return unix.EPERM
		}
		if _, err := c.CheckFileSize(end-1, 1, math.MaxInt64); err != nil {
			return err
		}
	}
	// What can't fit is refused before anything is taken.
	first, last := uint64(off)/pageSize, uint64(end-1)/pageSize
	fs := r.tmpfs()
	if int64(last-first) > fs.maxPages {
		return unix.ENOSPC
	}
	for n := first; n <= last; n++ {
		r.mu.Lock()
		there := r.hasData(n)
		r.mu.Unlock()
		if there {
			continue
		}
		frame, err := r.page(n, true)
		if err != nil {
			return err
		}
		metal.Unref(frame)
		if n%256 == 0 {
			metal.CondResched()
		}
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 && end > r.size.Load() {
		r.size.Store(end)
	}
	r.Modified()
	return nil
}

// punch makes the bytes [from, to) zero and gives whole pages back. Precondition: writeMu is held.
func (r *regular) punch(from, to uint64) {
	first, last := (from+pageSize-1)/pageSize, to/pageSize
	r.mu.Lock()
	var frames []uint64
	if first < last {
		frames = r.take(first, last)
	}
	inBase := r.baseSize > 0 && from < uint64(r.baseSize)
	r.mu.Unlock()
	if first < last {
		r.mappings.Unmap(first*pageSize, last*pageSize, true)
		r.giveBack(frames)
	}
	zero := func(n, a, b uint64) {
		r.mu.Lock()
		there := r.hasData(n)
		r.mu.Unlock()
		if !there || a >= b {
			return
		}
		if frame, err := r.page(n, true); err == nil {
			clear(metal.View(frame, pageSize)[a:b])
			metal.Unref(frame)
		}
	}
	if from/pageSize == to/pageSize {
		zero(from/pageSize, from%pageSize, to%pageSize)
		return
	}
	if from%pageSize != 0 {
		zero(from/pageSize, from%pageSize, pageSize)
	}
	zero(to/pageSize, 0, to%pageSize)
	if inBase {
		// The base shows through where a frame was taken: cover it with pages of zeros.
		for n := first; n < last; n++ {
			zero(n, 0, pageSize)
		}
	}
}

// Mappable returns what mmap maps.
func (f *file) Mappable(*vfs.Context) (mm.Mappable, error) { return f, nil }

// MapFrame returns the frame of the page at off.
func (f *file) MapFrame(off uint64, write bool) (uint64, error) {
	r := f.r
	if off >= uint64(r.size.Load()+pageSize-1)&^(pageSize-1) {
		return 0, unix.EFAULT
	}
	return r.page(off/pageSize, write)
}

// MapAround returns those frames that are there.
func (f *file) MapAround(off uint64, n int) (frames [mm.AroundPages]uint64) {
	r := f.r
	first := off / pageSize
	r.mu.Lock()
	defer r.mu.Unlock()
	end := uint64(r.size.Load()+pageSize-1) / pageSize
	for k := range min(uint64(n), end-min(first, end)) {
		frame := r.lookup(first + k)
		if frame == 0 && r.base%pageSize == 0 && r.inBase(first+k) == pageSize {
			frame = r.base + (first+k)*pageSize
		}
		if frame != 0 {
			metal.Ref(frame)
			frames[k] = frame
		}
	}
	return frames
}

// MapName returns the path.
func (f *file) MapName() string { return f.path.String() }

// Ident returns the device and inode numbers.
func (f *file) Ident() (dev, ino uint64) { return f.r.tmpfs().dev, f.r.Ino() }

// MapOpen holds the file for a mapping.
func (f *file) MapOpen() { f.r.Hold() }

// MapClose lets it go.
func (f *file) MapClose() { f.r.Drop() }

// Mappings returns who maps the file.
func (f *file) Mappings() *mm.Mappings { return &f.r.mappings }

// Resident says whether the page at off is in memory.
func (f *file) Resident(off uint64) bool {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	return f.r.hasData(off / pageSize)
}

// MapSync does nothing: memory is where the data lives.
func (f *file) MapSync(off, end uint64) error { return nil }

// MapPunch makes [off, end) zero.
func (f *file) MapPunch(off, end uint64) error {
	f.r.writeMu.Lock()
	defer f.r.writeMu.Unlock()
	f.r.punch(off, end)
	return nil
}

// Sync does nothing.
func (f *file) Sync(bool) error { return nil }

func (r *regular) sealed() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seals
}

// Seals returns the seals (F_GET_SEALS): EINVAL if the file takes none.
func (f *file) Seals() (uint32, error) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	if !f.r.canSeal {
		return 0, unix.EINVAL
	}
	return f.r.seals, nil
}

// AddSeals adds seals (F_ADD_SEALS).
func (f *file) AddSeals(seals uint32) error {
	r := f.r
	const known = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_EXEC
	if seals&^known != 0 {
		return unix.EINVAL
	}
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	old, err := r.seal(seals)
	// The mappings are looked at without the lock that MapFrame takes, and once no new one can be made.
	if err == nil && seals&^old&unix.F_SEAL_WRITE != 0 && r.mappings.Writable() {
		r.mu.Lock()
		r.seals = old
		r.mu.Unlock()
		return unix.EBUSY
	}
	return err
}

func (r *regular) seal(seals uint32) (old uint32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch old = r.seals; {
	case !r.canSeal:
		return old, unix.EINVAL
	case old&unix.F_SEAL_SEAL != 0:
		return old, unix.EPERM
	}
	r.seals |= seals
	return old, nil
}

// MapWritable refuses what a seal forbids.
func (f *file) MapWritable() error {
	if f.r.sealed()&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 {
		return unix.EPERM
	}
	return nil
}

// Sealer is an open file that has seals.
type Sealer interface {
	Seals() (uint32, error)
	AddSeals(seals uint32) error
}

// Memfd is memfd_create(2): a file without a name in f, shown as "/memfd:" and name. flags are of
// MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL and MFD_EXEC.
func (f *FS) Memfd(c *vfs.Context, name string, flags uint32) (*vfs.Description, error) {
	if err := f.chargeInode(); err != nil {
		return nil, err
	}
	mode := uint32(0o777)
	if flags&unix.MFD_NOEXEC_SEAL != 0 {
		mode = 0o666
	}
	r := f.newInode(unix.S_IFREG|mode, c.Creds.FSUID, c.Creds.FSGID, 0).(*regular)
	r.AddLinks(-1)
	r.canSeal = true
	r.holds = 1
	switch {
	case flags&unix.MFD_NOEXEC_SEAL != 0:
		r.seals = unix.F_SEAL_EXEC
	case flags&unix.MFD_ALLOW_SEALING == 0:
		r.seals = unix.F_SEAL_SEAL
	}
	p := vfs.Path{Dentry: vfs.NewDetached(r, "/memfd:"+name+" (deleted)")}
	return vfs.NewDescription(&file{r: r, path: p}, p, unix.O_RDWR), nil
}
