package ninep

import (
	"container/list"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/runtime/metal"
)

const pageSize = metal.FrameSize

// leafPages is how many pages of a file a leaf holds.
const leafPages = 64

// Bits of a leaf's entry beside the frame.
const (
	pageDirty = 1 << 0 // a shared mapping wrote to it
	pageUsed  = 1 << 1 // since eviction last looked at it
	pageBits  = pageSize - 1
)

// leaf is a run of pages of a file.
type leaf struct {
	pages  *pages
	key    uint64            // of the first page, divided by leafPages
	frames [leafPages]uint64 // frame and bits, 0: not here; guarded by pages.mu
	count  int
	in     *list.Element // of resident.leaves; guarded by resident.mu
}

// pages are the pages of a file that are in memory.
type pages struct {
	owner    *file
	size     atomic.Int64 // of the file, in bytes
	mappings mm.Mappings

	mu      sync.Mutex // guards what follows
	leaves  map[uint64]*leaf
	last    *leaf // the one used last
	loading []*load
	dirty   int
}

// load is a read of pages on its way.
type load struct {
	first, n uint64
	canceled bool // what it reads may be old: it is not to be kept
	done     kernel.Completion
}

// resident is all pages of all files here.
var resident struct {
	count atomic.Int64  // pages
	made  atomic.Uint64 // frames that were ever taken for pages

	mu     sync.Mutex
	leaves list.List // of *leaf, in the order in which eviction looks at them
}

// leaf returns the leaf of page n, or nil. Precondition: mu is held.
func (p *pages) leaf(n uint64) *leaf {
	if l := p.last; l != nil && l.key == n/leafPages {
		return l
	}
	l := p.leaves[n/leafPages]
	if l != nil {
		p.last = l
	}
	return l
}

// lookup returns the frame of page n, or 0. Precondition: mu is held.
func (p *pages) lookup(n uint64) uint64 {
	l := p.leaf(n)
	if l == nil {
		return 0
	}
	entry := l.frames[n%leafPages]
	if entry == 0 {
		return 0
	}
	l.frames[n%leafPages] = entry | pageUsed
	return entry &^ pageBits
}

// insert makes frame page n. Precondition: mu is held, and the page isn't here.
func (p *pages) insert(n, frame uint64) {
	l := p.leaf(n)
	if l == nil {
		l = &leaf{pages: p, key: n / leafPages}
		if p.leaves == nil {
			p.leaves = make(map[uint64]*leaf)
		}
		p.leaves[l.key] = l
		p.last = l
		resident.mu.Lock()
		l.in = resident.leaves.PushBack(l)
		resident.mu.Unlock()
	}
	l.frames[n%leafPages] = frame | pageUsed
	l.count++
	resident.count.Add(1)
}

// remove takes page n out and returns its frame. Precondition: mu is held.
func (p *pages) remove(l *leaf, n uint64) uint64 {
	entry := l.frames[n%leafPages]
	if entry == 0 {
		return 0
	}
	l.frames[n%leafPages] = 0
	if entry&pageDirty != 0 {
		p.dirty--
	}
	resident.count.Add(-1)
	if l.count--; l.count == 0 {
		delete(p.leaves, l.key)
		if p.last == l {
			p.last = nil
		}
		resident.mu.Lock()
		resident.leaves.Remove(l.in)
		resident.mu.Unlock()
	}
	return entry &^ pageBits
}

// get returns the frame of page n with a reference for the caller, or 0. write: it becomes dirty, and
// first says that it was the file's first dirty page.
func (p *pages) get(n uint64, write bool) (frame uint64, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	frame = p.lookup(n)
	if frame == 0 {
		return 0, false
	}
	if write {
		if l := p.leaf(n); l.frames[n%leafPages]&pageDirty == 0 {
			l.frames[n%leafPages] |= pageDirty
			p.dirty++
			first = p.dirty == 1
		}
	}
	metal.Ref(frame)
	return frame, first
}

// invalidate takes the pages [from, to) out, dirty ones only if dirty is set, and out of the mappings.
func (p *pages) invalidate(from, to uint64, dirty bool) {
	frames := p.take(from, to, dirty)
	if len(frames) > 0 {
		p.mappings.Unmap(from*pageSize, min(to, 1<<51)*pageSize, false)
	}
	unref(frames)
}

// take takes the frames of the pages [from, to) out and returns them; reads of them that are on their
// way will not be kept.
func (p *pages) take(from, to uint64, dirty bool) []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.loading {
		if l.first < to && from < l.first+l.n {
			l.canceled = true
		}
	}
	var frames []uint64
	some := func(l *leaf) {
		for k := range l.frames {
			n := l.key*leafPages + uint64(k)
			if n < from || n >= to || !dirty && l.frames[k]&pageDirty != 0 {
				continue
			}
			if frame := p.remove(l, n); frame != 0 {
				frames = append(frames, frame)
			}
		}
	}
	if (to-1)/leafPages-from/leafPages < 8 {
		for key := from / leafPages; key <= (to-1)/leafPages; key++ {
			if l := p.leaves[key]; l != nil {
				some(l)
			}
		}
		return frames
	}
	for key, l := range p.leaves {
		if key*leafPages < to && (key+1)*leafPages > from {
			some(l)
		}
	}
	return frames
}

func unref(frames []uint64) {
	for k, frame := range frames {
		metal.Unref(frame)
		if k%256 == 255 {
			metal.CondResched()
		}
	}
}

// clearTail makes the bytes behind the size zero in the page where the file ends, if it is here: a
// mapping may have written there.
func (p *pages) clearTail(size int64) {
	in := size % pageSize
	if in == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if frame := p.lookup(uint64(size / pageSize)); frame != 0 {
		clear(metal.View(frame, pageSize)[in:])
	}
}

// The page cache takes no more than a share of the memory, and less when that is scarce.
const (
	cacheShare = 2 // half of all
	cacheSpare = 8 // an eighth stays free
	evictBatch = 64
)

// newPage returns a frame with undefined contents for the page cache: ENOMEM.
//
// Precondition: no lock of this package is held but writeMu.
func newPage() (uint64, error) {
	if resident.made.Add(1)%evictBatch == 0 {
		s := metal.Frames()
		if uint64(resident.count.Load()) > s.Total/cacheShare || s.Free < s.Total/cacheSpare {
			Reclaim(2 * evictBatch)
		}
	}
	frame, ok := mm.AllocFrame(metal.OwnerPageCache)
	if !ok {
		return 0, unix.ENOMEM
	}
	return frame, nil
}

// Reclaim gives back about n frames of pages, and returns how many: those that were used longest ago and are
// clean and in no mapping, then those that mappings haven't used lately, and at last those that have to be
// written back first. It is mm's shrinker.
//
// Precondition: no lock of this package is held but writeMu.
func Reclaim(n int) int {
	freed := evict(n, 2, false)
	if freed < n {
		freed += evict(n-freed, 3, true)
	}
	if freed < n && writeBackSome() {
		freed += evict(n-freed, 3, true)
	}
	return freed
}

// evict looks at all pages rounds times, until it has given back n of them. mapped: those that are mapped
// lose what mappings don't use.
func evict(n, rounds int, mapped bool) int {
	freed := 0
	resident.mu.Lock()
	looks := rounds*resident.leaves.Len() + 1 // the first time a page may just have been used
	resident.mu.Unlock()
	for ; looks > 0 && freed < n; looks-- {
		resident.mu.Lock()
		e := resident.leaves.Front()
		if e == nil {
			resident.mu.Unlock()
			break
		}
		resident.leaves.MoveToBack(e)
		l := e.Value.(*leaf)
		resident.mu.Unlock()
		freed += l.evict(mapped)
		metal.CondResched()
	}
	return freed
}

// writeBackSome writes back the dirty pages of files that nobody writes to now, and says whether there are any.
func writeBackSome() bool {
	var files []*file
	resident.mu.Lock()
	for e := resident.leaves.Front(); e != nil; e = e.Next() {
		// Leaves of a file mostly stand together.
		if r := e.Value.(*leaf).pages.owner; len(files) == 0 || files[len(files)-1] != r {
			files = append(files, r)
		}
	}
	resident.mu.Unlock()
	wrote := false
	for _, r := range files {
		r.pages.mu.Lock()
		dirty := r.pages.dirty > 0
		r.pages.mu.Unlock()
		// Whoever holds writeMu may be the one that needs the memory.
		if !dirty || !r.writeMu.TryLock() {
			continue
		}
		r.hold()
		wrote = r.writeBackLocked(0, 1<<63) == nil || wrote
		r.writeMu.Unlock()
		r.unhold()
	}
	return wrote
}

// evict takes the pages out of l that nobody needs.
func (l *leaf) evict(mapped bool) int {
	p := l.pages
	var frames []uint64
	p.mu.Lock()
	if mapped && l.isMapped() {
		p.mu.Unlock()
		p.mappings.Age(l.key*leafPages*pageSize, (l.key+1)*leafPages*pageSize)
		p.mu.Lock()
	}
	for k, entry := range l.frames {
		switch {
		case entry == 0 || entry&pageDirty != 0:
		case entry&pageUsed != 0:
			l.frames[k] = entry &^ pageUsed
		case metal.Refs(entry&^pageBits) == 1: // ours: neither mapped nor being copied
			frames = append(frames, p.remove(l, l.key*leafPages+uint64(k)))
		}
	}
	p.mu.Unlock()
	unref(frames)
	return len(frames)
}

// isMapped says whether somebody else has frames of clean pages. Precondition: pages.mu is held.
func (l *leaf) isMapped() bool {
	for _, entry := range l.frames {
		if entry != 0 && entry&pageDirty == 0 && metal.Refs(entry&^pageBits) > 1 {
			return true
		}
	}
	return false
}

// Resident returns how many frames all files of all shares have here.
func Resident() int { return int(resident.count.Load()) }
