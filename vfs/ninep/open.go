package ninep

import (
	"fmt"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/kernel/random"
	"elver/runtime/metal"
	"elver/vfs"
)

// Read-ahead, in pages: how much a sequential reader is ahead of at first and at most, what is loaded
// around a page that a fault wants, and up to which size a file is read at once.
const (
	firstAhead = 32
	maxAhead   = 2 * maxPages
	aroundPage = 16
	smallFile  = 64
)

// openFile is an open regular file, and what maps it.
type openFile struct {
	vfs.BaseFile
	r     *file
	path  vfs.Path
	flags uint32

	mu    sync.Mutex // guards what follows: the state of read-ahead
	next  int64      // where a sequential reader reads next
	ahead uint64     // how many pages to be ahead of it
	asked uint64     // pages before this one were asked for
}

func (r *file) open(_ *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	if err := r.refresh(); err != nil {
		return nil, err
	}
	err := r.ensureOpen(flags)
	r.fs.opened(r) // the core holds it by now
	if err != nil {
		return nil, err
	}
	return &openFile{r: r, path: p, flags: flags}, nil
}

// Seekable says yes.
func (f *openFile) Seekable() bool { return true }

// Size returns the size.
func (f *openFile) Size() int64 { return f.r.pages.size.Load() }

// Release writes back what shared mappings wrote. The core drops the inode behind it.
func (f *openFile) Release() { f.r.writeBackIfDirty() }

// Read reads at off.
func (f *openFile) Read(_ *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	r := f.r
	if off >= r.pages.size.Load() {
		// The host may have appended to it.
		if err := r.refresh(); err != nil {
			return 0, err
		}
		if r.pages.size.Load() == 0 {
			return f.readDirect(dst, off)
		}
	}
	sequential := f.sequential(off)
	total := 0
	for {
		in := int(off % pageSize)
		k := min(int64(dst.Len()), r.pages.size.Load()-off, int64(pageSize-in))
		if k <= 0 {
			break
		}
		n := uint64(off) / pageSize
		frame, _ := r.pages.get(n, false)
		if frame == 0 || sequential {
			own := f.readAhead(n, (uint64(in)+uint64(dst.Len())+pageSize-1)/pageSize, sequential, frame == 0)
			var err error
			if frame == 0 {
				frame, err = r.page(n, own, false)
			}
			if err == unix.EFAULT {
				break // it ends earlier than it seemed
			}
			if err != nil {
				if total == 0 {
					return 0, err
				}
				break
			}
		}
		m, err := dst.CopyOut(metal.View(frame, pageSize)[in : in+int(k)])
		metal.Unref(frame)
		total += m
		off += int64(m)
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
	f.mu.Lock()
	f.next = off
	f.mu.Unlock()
	return total, nil
}

// sequential says whether a read at off continues the one before.
func (f *openFile) sequential(off int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off == f.next {
		return true
	}
	f.ahead, f.asked = 0, 0
	return false
}

// readAhead has pages loaded that a reader of want pages from n on, who reads on behind them if sequential
// is set, needs soon, without waiting. missing: page n isn't here; the caller loads it itself, and as many
// pages with it as readAhead returns.
func (f *openFile) readAhead(n, want uint64, sequential, missing bool) (own uint64) {
	r := f.r
	end := uint64(r.pages.size.Load()+pageSize-1) / pageSize
	size := uint64(r.fs.c.pages)
	f.mu.Lock()
	if sequential {
		// The next window is asked for when half of this one is read.
		if !missing && (n+f.ahead/2 < f.asked || f.asked >= end) {
			f.mu.Unlock()
			return 0
		}
		f.ahead = min(max(2*f.ahead, firstAhead), maxAhead)
		if end <= smallFile {
			f.ahead = smallFile
		}
		want = max(want, f.ahead)
	}
	from, upTo := f.asked, min(n+min(want, 4*maxAhead), end)
	if missing {
		own = min(size, max(upTo, n+1)-n)
		from = n + own
	}
	from = max(from, n)
	f.asked = max(upTo, n)
	f.mu.Unlock()
	for ; from < upTo; from += size {
		go r.load(from, min(size, upTo-from))
	}
	return own
}

// readDirect reads a file that has no size but may have content, as those of the host's /proc have.
func (f *openFile) readDirect(dst *mm.Buffer, off int64) (int, error) {
	r := f.r
	if dst.Len() == 0 || r.gone() {
		return 0, nil
	}
	fid, err := r.readFid()
	if err != nil {
		return 0, err
	}
	frame, err := newPage()
	if err != nil {
		return 0, err
	}
	defer metal.Unref(frame)
	k := uint32(min(dst.Len(), pageSize))
	n, err := r.fs.c.read(fid, uint64(off), []Span{{PA: frame, Len: k}}, k)
	if err != nil {
		return 0, err
	}
	return dst.CopyOut(metal.View(frame, pageSize)[:n])
}

// Write writes at off, or at the end if off is vfs.Append.
func (f *openFile) Write(c *vfs.Context, src *mm.Buffer, off int64) (int, error) {
	r := f.r
	if err := r.writeMu.Lock(false); err != nil {
		return 0, err
	}
	defer r.writeMu.Unlock()
	if off == vfs.Append {
		if err := r.refresh(); err != nil {
			return 0, err
		}
		off = r.pages.size.Load()
	}
	left, err := c.CheckFileSize(off, src.Len(), math.MaxInt64)
	if err != nil || left == 0 {
		return 0, err
	}
	fid, err := r.writeFid()
	if err != nil {
		return 0, err
	}
	r.beginChange()
	defer r.endChange()
	total := 0
	for total < left {
		var n int
		n, err = r.writeSome(fid, src, off, left-total)
		total += n
		off += int64(n)
		if err != nil || n == 0 {
			break
		}
		metal.CondResched()
	}
	if total == 0 {
		return 0, err
	}
	r.dropPrivileges(c)
	if f.flags&unix.O_DSYNC != 0 {
		if err := r.fs.c.fsync(fid, f.flags&unix.O_SYNC != unix.O_SYNC); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// writing is a page that a write is about to change.
type writing struct {
	frame uint64
	n     uint64
	here  bool // it is in the cache
	keep  bool // it is whole, and goes there
}

// writeSome writes up to left bytes of src at off by one message, and returns how many.
//
// Precondition: writeMu is held.
func (r *file) writeSome(fid uint32, src *mm.Buffer, off int64, left int) (int, error) {
	size := r.pages.size.Load()
	if off > size {
		r.pages.clearTail(size)
	}
	var pages []writing
	var spans []Span
	total := 0
	var err error
	for total < left && len(pages) < r.fs.c.pages {
		in := int((off + int64(total)) % pageSize)
		k := min(pageSize-in, left-total)
		var w writing
		if w, err = r.pageToWrite(uint64(off+int64(total))/pageSize, in, k); err != nil {
			break
		}
		var m int
		m, err = src.CopyIn(metal.View(w.frame, pageSize)[in : in+k])
		if m < k && !w.here && w.keep && int64(w.n)*pageSize < size {
			// A whole page that became part of one: the rest of it is on the server.
			w.keep = false
		}
		if m == 0 {
			metal.Unref(w.frame)
			break
		}
		pages = append(pages, w)
		spans = append(spans, Span{PA: w.frame + uint64(in), Len: uint32(m)})
		total += m
		if err != nil {
			break
		}
	}
	if total == 0 {
		return 0, err
	}
	r.showWritten(pages, spans)
	took, e := r.fs.c.write(fid, uint64(off), spans, uint32(total), false)
	if e != nil || int(took) < total {
		// What isn't on the server isn't here either.
		first := uint64(off+int64(took)) / pageSize
		r.pages.invalidate(first, uint64(off+int64(total)-1)/pageSize+1, true)
	}
	for _, w := range pages {
		if !w.here && !w.keep {
			r.pages.invalidate(w.n, w.n+1, false) // a read may have brought it before the server had this
		}
		metal.Unref(w.frame)
	}
	if e != nil {
		r.doubtful.Store(e == unix.EINTR)
		return 0, e
	}
	if end := off + int64(took); end > size {
		r.pages.size.Store(end)
	}
	if int(took) < total {
		return int(took), unix.EIO // src is further than that: no more of it can be written
	}
	return total, err
}

// pageToWrite returns a page of which a write changes the k bytes from in on.
func (r *file) pageToWrite(n uint64, in, k int) (writing, error) {
	for {
		r.pages.mu.Lock()
		frame := r.pages.lookup(n)
		if frame != 0 {
			metal.Ref(frame)
			r.pages.mu.Unlock()
			return writing{frame: frame, n: n, here: true}, nil
		}
		r.pages.cancelLocked(n)
		r.pages.mu.Unlock()
		start, size := int64(n)*pageSize, r.pages.size.Load()
		whole := in == 0 && (k == pageSize || start+int64(k) >= size)
		if whole || start >= size {
			frame, err := newPage()
			if err != nil {
				return writing{}, err
			}
			metal.Zero(frame, pageSize)
			return writing{frame: frame, n: n, keep: true}, nil
		}
		some, err := r.load(n, 1)
		if err == nil && some {
			continue
		}
		// It can't be read. So it is written as it is, and not kept.
		frame, err = newPage()
		if err != nil {
			return writing{}, err
		}
		return writing{frame: frame, n: n}, nil
	}
}

func (p *pages) cancelLocked(n uint64) {
	for _, l := range p.loading {
		if n >= l.first && n < l.first+l.n {
			l.canceled = true
		}
	}
}

// showWritten puts new pages into the cache, before the server has them: whoever reads them then doesn't
// ask the server. What came there meanwhile, by a fault of the copy, gets the new bytes.
func (r *file) showWritten(list []writing, spans []Span) {
	p := &r.pages
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, w := range list {
		if w.here {
			continue
		}
		p.cancelLocked(w.n)
		if frame := p.lookup(w.n); frame != 0 {
			in := spans[k].PA % pageSize
			copy(metal.View(frame, pageSize)[in:], metal.View(spans[k].PA, int(spans[k].Len)))
			continue
		}
		if w.keep {
			metal.Ref(w.frame)
			p.insert(w.n, w.frame)
		}
	}
}

// Mappable returns what mmap maps.
func (f *openFile) Mappable(*vfs.Context) (mm.Mappable, error) {
	if f.flags&unix.O_ACCMODE == unix.O_WRONLY {
		return nil, unix.EACCES
	}
	return f, nil
}

// MapFrame returns the frame of the page at off.
func (f *openFile) MapFrame(off uint64, write bool) (uint64, error) {
	n := off / pageSize
	if frame, first := f.r.pages.get(n, write); frame != 0 && off < f.end() {
		if first {
			f.r.fs.addDirty(f.r)
		}
		return frame, nil
	} else if frame != 0 {
		metal.Unref(frame)
		return 0, unix.EFAULT
	}
	// Faults come in no order, but near each other: load the pages around. Those before come only along
	// with a message that is sent anyway.
	r := f.r
	from := n &^ (aroundPage - 1)
	ahead := uint64(2 * aroundPage)
	if r.pages.size.Load() <= smallFile*pageSize {
		from, ahead = 0, smallFile
	}
	if from < n {
		r.pages.mu.Lock()
		for k := n; k > from; k-- {
			if r.pages.lookup(k-1) != 0 {
				from = k
				break
			}
		}
		r.pages.mu.Unlock()
		if end := f.end() / pageSize; from < n && from < end {
			if _, err := r.load(from, min(ahead, end-from)); err != nil {
				return 0, err
			}
		}
	}
	return r.page(n, ahead, write)
}

// MapAround returns the frames of pages that are here.
func (f *openFile) MapAround(off uint64, n int) (frames [mm.AroundPages]uint64) {
	p := &f.r.pages
	first, end := off/pageSize, f.end()/pageSize
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range min(uint64(n), end-min(first, end)) {
		l := p.leaf(first + k)
		if l == nil {
			continue
		}
		// It isn't used yet, as eviction sees it.
		if entry := l.frames[(first+k)%leafPages]; entry != 0 {
			frames[k] = entry &^ pageBits
			metal.Ref(frames[k])
		}
	}
	return frames
}

// end returns up to where the file can be mapped.
func (f *openFile) end() uint64 {
	return uint64(f.r.pages.size.Load()+pageSize-1) &^ (pageSize - 1)
}

// MapName returns the path.
func (f *openFile) MapName() string { return f.path.String() }

// Ident returns the device and inode numbers.
func (f *openFile) Ident() (dev, ino uint64) { return f.r.fs.dev, f.r.Ino() }

// MapOpen holds the file for a mapping.
func (f *openFile) MapOpen() { f.r.hold() }

// MapClose lets it go, and writes back.
func (f *openFile) MapClose() { f.r.drop() }

// Mappings returns who maps the file.
func (f *openFile) Mappings() *mm.Mappings { return &f.r.pages.mappings }

// Resident says whether the page at off is in memory.
func (f *openFile) Resident(off uint64) bool {
	f.r.pages.mu.Lock()
	defer f.r.pages.mu.Unlock()
	return f.r.pages.lookup(off/pageSize) != 0
}

// MapSync writes back what mappings wrote to [off, end).
func (f *openFile) MapSync(off, end uint64) error { return f.r.writeBack(off, end) }

// Sync is fsync(2).
func (f *openFile) Sync(dataOnly bool) error { return f.r.sync(dataOnly) }

// Allocate is fallocate(2) as far as it makes a file longer, which is all that the protocol can do.
func (f *openFile) Allocate(c *vfs.Context, mode uint32, off, length int64) error {
	if mode != 0 {
		return unix.EOPNOTSUPP
	}
	if off+length <= f.r.pages.size.Load() {
		return nil
	}
	return f.r.resize(c, off+length)
}

// temporaryName returns a name that nothing has.
func temporaryName() string { return fmt.Sprintf(".elver-%016x", random.Uint64()) }
