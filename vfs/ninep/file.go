package ninep

import (
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/runtime/metal"
	"elver/vfs"
)

// file is a regular file: its data, and the fids that were opened for it. All that open it share them.
type file struct {
	*inode
	pages pages

	// writeMu orders writes, write-back and changes of size. It is held across messages and across
	// copies of the program's memory, whose faults don't take it.
	writeMu   mutex
	changes   atomic.Uint64 // counts the beginnings and ends of writes and changes of size
	doubtful  atomic.Bool   // whoever was changing it was killed: the server knows what became of that
	ownChange atomic.Bool   // the server's time of modification changed by our own doing

	openMu      mutex  // guards what follows, and is held while a fid is opened
	read, write uint32 // open fids: for reading, and for writing
	writeReads  bool   // write can read, too

	holdMu    sync.Mutex // guards what follows
	holds     int        // descriptions and mappings
	lastError error      // of a write-back, for the next fsync
}

func (r *file) held() bool {
	r.holdMu.Lock()
	defer r.holdMu.Unlock()
	return r.holds > 0
}

func (r *file) hold() {
	r.holdMu.Lock()
	r.holds++
	r.holdMu.Unlock()
}

func (r *file) drop() {
	r.writeBackIfDirty()
	r.unhold()
}

// unhold undoes hold.
func (r *file) unhold() {
	r.holdMu.Lock()
	r.holds--
	last := r.holds == 0
	r.holdMu.Unlock()
	if last {
		r.dropOpenIfUnused()
	}
}

// dropOpenIfUnused gives the open fids back if nobody has the file open, and the pages too if nobody can
// open it any more.
func (r *file) dropOpenIfUnused() {
	r.openMu.Lock(true)
	defer r.openMu.Unlock()
	if r.held() || r.fs.justCreated(r) {
		return
	}
	for _, fid := range []*uint32{&r.read, &r.write} {
		if *fid != noFid {
			r.fs.c.clunk(*fid)
			*fid = noFid
		}
	}
	if r.gone() {
		r.pages.invalidate(0, math.MaxUint64/pageSize, true)
	}
}

// adoptOpen makes fid, which is open for reading and writing, the file's.
func (r *file) adoptOpen(fid uint32) {
	r.openMu.Lock(true)
	defer r.openMu.Unlock()
	if r.write != noFid {
		r.fs.c.clunk(fid)
		return
	}
	r.write, r.writeReads = fid, true
}

// readFid returns an open fid to read from: EBADF if there is none.
//
// Precondition: the caller holds the file as long as it uses the fid.
func (r *file) readFid() (uint32, error) {
	if err := r.openMu.Lock(false); err != nil {
		return noFid, err
	}
	defer r.openMu.Unlock()
	switch {
	case r.read != noFid:
		return r.read, nil
	case r.write != noFid && r.writeReads:
		return r.write, nil
	}
	return noFid, unix.EBADF
}

func (r *file) writeFid() (uint32, error) {
	r.openMu.Lock(true)
	defer r.openMu.Unlock()
	if r.write == noFid {
		return noFid, unix.EBADF
	}
	return r.write, nil
}

// ensureOpen opens what a file opened with flags needs and nobody opened yet.
func (r *file) ensureOpen(flags uint32) error {
	if err := r.openMu.Lock(false); err != nil {
		return err
	}
	defer r.openMu.Unlock()
	access := flags & unix.O_ACCMODE
	if access != unix.O_RDONLY && r.write == noFid {
		// Part of a page can be written only when the rest can be read.
		fid, err := r.openAs(unix.O_RDWR)
		if r.writeReads = err == nil; err == unix.EACCES && access == unix.O_WRONLY {
			fid, err = r.openAs(unix.O_WRONLY)
		}
		if err != nil {
			return err
		}
		r.write = fid
	}
	if access != unix.O_WRONLY && r.read == noFid && (r.write == noFid || !r.writeReads) {
		fid, err := r.openAs(unix.O_RDONLY)
		if err != nil {
			return err
		}
		r.read = fid
	}
	return nil
}

// openAs opens another fid of the file.
func (r *file) openAs(flags uint32) (uint32, error) {
	from, err := r.acquire()
	if err != nil {
		return noFid, err
	}
	defer r.release(from)
	c := r.fs.c
	fid := c.newFid()
	if _, err := c.walk(from, fid); err != nil {
		c.freeFid(fid)
		return noFid, err
	}
	if err := c.open(fid, flags|unix.O_NOFOLLOW); err != nil {
		c.clunk(fid)
		return noFid, err
	}
	return fid, nil
}

// refreshed takes over attributes that the server told, and drops the pages if the host changed the data.
// before is what changes was before the server was asked: if we wrote meanwhile, its answer may be older.
func (r *file) refreshed(a attributes, before uint64) {
	r.mu.Lock()
	old := r.attr
	r.mu.Unlock()
	busy := before%2 == 1 || r.changes.Load() != before
	own := r.ownChange.Load()
	r.set(a, busy)
	if busy {
		return
	}
	r.ownChange.Store(false)
	if !own && (old.Mtime != a.mtime || old.Size != int64(a.size)) {
		r.pages.invalidate(0, math.MaxUint64/pageSize, false)
	}
}

// beginChange and endChange stand around what changes data on the server. Precondition: writeMu is held.
func (r *file) beginChange() {
	r.changes.Add(1)
	r.ownChange.Store(true)
}

func (r *file) endChange() {
	r.changes.Add(1)
	now := vfs.Now()
	r.mu.Lock()
	r.attr.Mtime, r.attr.Ctime = now, now
	r.attr.Size = r.pages.size.Load()
	r.touched = true
	r.mu.Unlock()
	doubtful := r.doubtful.Swap(false)
	r.ownChange.Store(!doubtful)
	if doubtful {
		r.expire()
	}
}

// readPages fills frames with what the file has from page first on, zeros behind it, and returns how many of
// the bytes the server had.
func (r *file) readPages(first uint64, frames []uint64) (int64, error) {
	r.hold()
	defer r.unhold()
	fid, err := r.readFid()
	if err != nil {
		return 0, err
	}
	spans := make([]Span, 0, len(frames))
	want := int64(len(frames)) * pageSize
	base := int64(first) * pageSize
	got := int64(0)
	for got < want {
		spans = spans[:0]
		for at := got; at < want && len(spans) < r.fs.c.pages; at = at&^(pageSize-1) + pageSize {
			in := at % pageSize
			spans = append(spans, Span{PA: frames[at/pageSize] + uint64(in), Len: uint32(pageSize - in)})
		}
		ask := uint32(0)
		for _, s := range spans {
			ask += s.Len
		}
		n, err := r.fs.c.read(fid, uint64(base+got), spans, ask)
		if err != nil {
			return 0, err
		}
		got += int64(n)
		// Less than was asked for is the end, unless the file is known to be longer.
		if n == 0 || n < ask && base+got >= r.pages.size.Load() {
			break
		}
	}
	for at := got; at < want; at = at&^(pageSize-1) + pageSize {
		clear(metal.View(frames[at/pageSize], pageSize)[at%pageSize:])
	}
	return got, nil
}

// load brings up to n pages from first on here, as far as they aren't, in one piece; or it waits for a
// load of the first one that is on its way. some says that the first page may be here now; if not, the
// file ends before it.
func (r *file) load(first, n uint64) (some bool, err error) {
	p := &r.pages
	p.mu.Lock()
	for _, l := range p.loading {
		if first >= l.first && first < l.first+l.n {
			p.mu.Unlock()
			return true, l.done.Wait(false)
		}
		if l.first > first {
			n = min(n, l.first-first)
		}
	}
	for k := range n {
		if p.lookup(first+k) != 0 {
			n = k
			break
		}
	}
	if n == 0 {
		p.mu.Unlock()
		return true, nil
	}
	l := &load{first: first, n: n}
	p.loading = append(p.loading, l)
	p.mu.Unlock()

	frames := make([]uint64, 0, n)
	for range n {
		frame, e := newPage()
		if e != nil {
			if len(frames) == 0 {
				err = e
			}
			break
		}
		frames = append(frames, frame)
	}
	var got int64
	if err == nil {
		got, err = r.readPages(first, frames)
	}
	p.mu.Lock()
	for k := range p.loading {
		if p.loading[k] == l {
			p.loading = append(p.loading[:k], p.loading[k+1:]...)
			break
		}
	}
	for k, frame := range frames {
		if err == nil && !l.canceled && int64(k)*pageSize < got && p.lookup(first+uint64(k)) == 0 {
			p.insert(first+uint64(k), frame)
			frames[k] = 0
		}
	}
	p.mu.Unlock()
	l.done.Complete()
	for _, frame := range frames {
		if frame != 0 {
			metal.Unref(frame)
		}
	}
	return err == nil && (got > 0 || l.canceled), err
}

// page returns the frame of page n with a reference for the caller, loading it, and up to ahead pages with
// it, if it isn't here: EFAULT behind the end of the file.
func (r *file) page(n uint64, ahead uint64, write bool) (uint64, error) {
	for {
		frame, first := r.pages.get(n, write)
		if first {
			r.fs.addDirty(r)
		}
		if frame != 0 {
			return frame, nil
		}
		end := uint64(r.pages.size.Load()+pageSize-1) / pageSize
		if n >= end {
			return 0, unix.EFAULT
		}
		some, err := r.load(n, min(max(ahead, 1), end-n))
		if err != nil {
			return 0, err
		}
		if !some {
			return 0, unix.EFAULT // the file is shorter than it seemed
		}
	}
}

// resize sets the size.
func (r *file) resize(c *vfs.Context, size int64) error {
	if err := r.writeMu.Lock(false); err != nil {
		return err
	}
	defer r.writeMu.Unlock()
	old := r.pages.size.Load()
	if size > old {
		if _, err := c.CheckFileSize(size-1, 1, math.MaxInt64); err != nil {
			return err
		}
	}
	r.beginChange()
	defer r.endChange()
	err := error(unix.ENOENT)
	if !r.gone() {
		err = r.change(attrChange{mask: setattrSize, size: uint64(size)})
	}
	if err == unix.ENOENT && r.held() {
		err = r.resizeNameless(old, size)
	}
	if err != nil {
		r.doubtful.Store(err == unix.EINTR)
		return err
	}
	if size < old {
		r.pages.size.Store(size)
		first := uint64(size+pageSize-1) / pageSize
		frames := r.pages.take(first, math.MaxUint64/pageSize, true)
		if size%pageSize != 0 {
			// A read on its way of the page where the file now ends would bring back what was cut.
			r.pages.cancel(uint64(size) / pageSize)
		}
		r.pages.clearTail(size)
		r.pages.mappings.Unmap(first*pageSize, 1<<63, true)
		unref(frames)
	} else {
		r.pages.clearTail(old)
		r.pages.size.Store(size)
	}
	r.dropPrivileges(c)
	return nil
}

// cancel keeps a load of page n that is on its way from being kept.
func (p *pages) cancel(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.loading {
		if n >= l.first && n < l.first+l.n {
			l.canceled = true
		}
	}
}

// resizeNameless changes the size of a file that has no name, of which servers know only by their open
// fids, which take reads and writes alone. What was cut off becomes zeros, in case it grows again; growing
// writes the last byte, so that the server has as much to read as the file is long.
func (r *file) resizeNameless(old, size int64) error {
	if size == old {
		return nil
	}
	from := size
	if size > old {
		from, old = size-1, size
	}
	fid, err := r.writeFid()
	if err != nil {
		return err
	}
	frame, err := newPage()
	if err != nil {
		return err
	}
	defer metal.Unref(frame)
	metal.Zero(frame, pageSize)
	for at := from; at < old; {
		var spans []Span
		n := int64(0)
		for len(spans) < r.fs.c.pages && at+n < old {
			k := min(pageSize, old-at-n)
			spans = append(spans, Span{PA: frame, Len: uint32(k)})
			n += k
		}
		took, err := r.fs.c.write(fid, uint64(at), spans, uint32(n), false)
		if err != nil {
			return err
		}
		if took == 0 {
			return unix.EIO
		}
		at += int64(took)
	}
	return nil
}

// dropPrivileges takes set-id bits away after a change by somebody who isn't privileged (write(2)).
func (r *file) dropPrivileges(c *vfs.Context) {
	mode := r.mode.Load()
	if mode&(unix.S_ISUID|unix.S_ISGID) == 0 || c.Creds.HasCap(unix.CAP_FSETID) {
		return
	}
	keep := mode &^ unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		keep &^= unix.S_ISGID
	}
	if keep != mode {
		r.SetAttr(c, &vfs.SetAttr{Valid: vfs.SetMode, Mode: keep & 0o7777})
	}
}

func (r *file) writeBackIfDirty() {
	r.pages.mu.Lock()
	dirty := r.pages.dirty > 0
	r.pages.mu.Unlock()
	if dirty {
		r.writeBack(0, 1<<63)
	}
}

// writeBack writes the dirty pages of the bytes [off, end) to the server. Its error is also the next
// fsync's.
func (r *file) writeBack(off, end uint64) error {
	r.hold()
	defer r.unhold()
	r.writeMu.Lock(true)
	defer r.writeMu.Unlock()
	return r.writeBackLocked(off, end)
}

// writeBackLocked is writeBack. Precondition: writeMu is held.
func (r *file) writeBackLocked(off, end uint64) error {
	first, last := off/pageSize, (end-1)/pageSize
	for {
		run, frames, more := r.pages.cleanRun(first, last, uint64(r.fs.c.pages))
		if len(frames) == 0 {
			if !more {
				r.fs.dirtyMu.Lock()
				r.pages.mu.Lock()
				if r.pages.dirty == 0 {
					delete(r.fs.dirty, r)
				}
				r.pages.mu.Unlock()
				r.fs.dirtyMu.Unlock()
			}
			return nil
		}
		// From here on a write to these pages makes them dirty anew.
		r.pages.mappings.WriteProtect(run*pageSize, (run+uint64(len(frames)))*pageSize)
		err := r.writeFrames(run, frames)
		unref(frames)
		if err != nil {
			r.holdMu.Lock()
			r.lastError = err
			r.holdMu.Unlock()
			return err
		}
		first = run + uint64(len(frames))
		if first > last {
			first = last
		}
	}
}

// writeFrames writes frames, the pages from run on, as far as the file goes.
func (r *file) writeFrames(run uint64, frames []uint64) error {
	fid, err := r.writeFid()
	if err != nil {
		return err
	}
	r.beginChange()
	defer r.endChange()
	at := int64(run) * pageSize
	end := min(at+int64(len(frames))*pageSize, r.pages.size.Load())
	for at < end {
		var spans []Span
		n := uint32(0)
		for pos := at; pos < end; {
			in := pos % pageSize
			k := min(pageSize-in, end-pos)
			spans = append(spans, Span{PA: frames[uint64(pos)/pageSize-run] + uint64(in), Len: uint32(k)})
			n += uint32(k)
			pos += k
		}
		took, err := r.fs.c.write(fid, uint64(at), spans, n, true)
		if err != nil {
			r.doubtful.Store(err == unix.EINTR)
			return err
		}
		if took == 0 {
			return unix.EIO
		}
		at += int64(took)
	}
	return nil
}

// cleanRun finds the first run of dirty pages in [first, last], at most n, and makes them clean. It returns
// where it begins and its frames, with references; without frames, more says whether any page of the file
// is dirty.
func (p *pages) cleanRun(first, last, n uint64) (run uint64, frames []uint64, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dirty == 0 {
		return 0, nil, false
	}
	run = math.MaxUint64
	for key, l := range p.leaves {
		if key*leafPages > last || (key+1)*leafPages <= first || key*leafPages >= run {
			continue
		}
		for k, entry := range l.frames {
			if at := key*leafPages + uint64(k); entry&pageDirty != 0 && at >= first && at <= last {
				run = min(run, at)
				break
			}
		}
	}
	if run == math.MaxUint64 {
		return 0, nil, true
	}
	for at := run; at <= last && uint64(len(frames)) < n; at++ {
		l := p.leaf(at)
		if l == nil || l.frames[at%leafPages]&pageDirty == 0 {
			break
		}
		l.frames[at%leafPages] &^= pageDirty
		p.dirty--
		frame := l.frames[at%leafPages] &^ pageBits
		metal.Ref(frame)
		frames = append(frames, frame)
	}
	return run, frames, true
}

// sync writes back, and has the server do so.
func (r *file) sync(dataOnly bool) error {
	err := r.writeBack(0, 1<<63)
	r.holdMu.Lock()
	if err == nil {
		err = r.lastError
	}
	r.lastError = nil
	r.holdMu.Unlock()
	if err != nil {
		return err
	}
	fid, err := r.writeFid()
	if err != nil {
		if fid, err = r.readFid(); err != nil {
			return nil
		}
	}
	return r.fs.c.fsync(fid, dataOnly)
}
