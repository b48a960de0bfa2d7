package mm

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// vmFlags are the flags of a VMA, with Linux's values (VM_READ and so on; include/linux/mm.h).
type vmFlags uint32

const (
	vmRead       vmFlags = 1 << 0
	vmWrite      vmFlags = 1 << 1
	vmExec       vmFlags = 1 << 2
	vmShared     vmFlags = 1 << 3 // shared, and may be written
	vmMayRead    vmFlags = 1 << 4
	vmMayWrite   vmFlags = 1 << 5
	vmMayExec    vmFlags = 1 << 6
	vmMayShare   vmFlags = 1 << 7 // made with MAP_SHARED
	vmGrowsDown  vmFlags = 1 << 8
	vmLocked     vmFlags = 1 << 13
	vmSeqRead    vmFlags = 1 << 15
	vmRandRead   vmFlags = 1 << 16
	vmDontCopy   vmFlags = 1 << 17
	vmLockFault  vmFlags = 1 << 19 // VM_LOCKONFAULT
	vmAccount    vmFlags = 1 << 20 // counted in Committed
	vmNoReserve  vmFlags = 1 << 21
	vmWipeOnFork vmFlags = 1 << 25
	vmDontDump   vmFlags = 1 << 26
	vmHugePage   vmFlags = 1 << 29
	vmNoHugePage vmFlags = 1 << 30

	vmAccess = vmRead | vmWrite | vmExec
)

// protFlags translates PROT_READ, PROT_WRITE and PROT_EXEC, whose bits are the same.
func protFlags(prot int) vmFlags { return vmFlags(prot) & vmAccess }

// backing is what a file mapping shares with the pieces it is split into and with its forks.
type backing struct {
	file     Mappable
	shared   *SharedMemory // file, if it is one
	mappings *Mappings     // of a Tracked file
	around   Around        // file, if it is one
	refs     atomic.Int64  // VMAs, and faults in progress
}

func newBacking(file Mappable) *backing {
	b := &backing{file: file}
	b.refs.Store(1)
	b.shared, _ = file.(*SharedMemory)
	b.around, _ = file.(Around)
	if t, ok := file.(Tracked); ok {
		b.mappings = t.Mappings()
	}
	if c, ok := file.(Counted); ok {
		c.MapOpen()
	}
	return b
}

// release drops a reference. It may call the file, hence no lock may be held.
func (b *backing) release() {
	if b.refs.Add(-1) == 0 {
		b.close()
	}
}

// close tells the file that this mapping of it is gone.
func (b *backing) close() {
	if c, ok := b.file.(Counted); ok {
		c.MapClose()
	}
}

// vma is a piece of address space whose pages are alike.
type vma struct {
	start, end uint64
	flags      vmFlags
	offset     uint64   // of start in the file
	back       *backing // nil for private anonymous memory
	name       string   // for /proc/PID/maps, without a file
	written    bool     // it had pages of the program's own: it stays committed when made read-only
}

func (v *vma) pages() uint64 { return (v.end - v.start) / PageSize }

// lowest returns the lowest address that v keeps others away from: its guard gap counts.
func (v *vma) lowest() uint64 {
	if v.flags&vmGrowsDown == 0 {
		return v.start
	}
	return v.start - min(v.start, StackGuardGap)
}

// fileOffset returns the offset in the file of the page at addr.
func (v *vma) fileOffset(addr uint64) uint64 { return v.offset + (addr - v.start) }

// joins reports whether what describes a VMA beginning at v.end would continue v, so that both can
// be one.
func (v *vma) joins(flags vmFlags, back *backing, offset uint64, name string) bool {
	if v.flags != flags || v.name != name {
		return false
	}
	if v.back == nil || back == nil {
		return v.back == back
	}
	return (v.back == back || v.back.file == back.file) && v.offset+(v.end-v.start) == offset
}

// vmaSet holds VMAs in the order of their addresses: an array of chunks, each an array. With n VMAs
// an insertion moves about √n words, and a search for room skips the chunks whose gaps are too small.
type vmaSet struct {
	chunks []*vmaChunk // none is empty
	count  int
	found  position // what find returned last, valid or not
}

const chunkSize = 64

type vmaChunk struct {
	vmas   [chunkSize]*vma
	n      int
	gap    uint64 // the largest gap before one of vmas; the first one's begins in the chunk before
	gapOld bool   // gap has to be computed again
}

// position is a place in a vmaSet. An insertion or removal makes it void.
type position struct{ chunk, index int }

// find returns the position of the first VMA that ends above addr.
func (s *vmaSet) find(addr uint64) position {
	// A system call asks for one place several times. Whether it is still the right one shows.
	if p := s.found; p.chunk < len(s.chunks) {
		c := s.chunks[p.chunk]
		if p.index > 0 && p.index < c.n && c.vmas[p.index].end > addr && c.vmas[p.index-1].end <= addr {
			return p
		}
	}
	s.found = s.search(addr)
	return s.found
}

func (s *vmaSet) search(addr uint64) position {
	lo, hi := 0, len(s.chunks)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if c := s.chunks[mid]; c.vmas[c.n-1].end > addr {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == len(s.chunks) {
		return position{lo, 0}
	}
	c := s.chunks[lo]
	i, j := 0, c.n-1
	for i < j {
		mid := int(uint(i+j) / 2)
		if c.vmas[mid].end > addr {
			j = mid
		} else {
			i = mid + 1
		}
	}
	return position{lo, i}
}

// at returns the VMA at p, nil at the end.
func (s *vmaSet) at(p position) *vma {
	if p.chunk >= len(s.chunks) {
		return nil
	}
	return s.chunks[p.chunk].vmas[p.index]
}

func (s *vmaSet) next(p position) position {
	if p.index+1 < s.chunks[p.chunk].n {
		return position{p.chunk, p.index + 1}
	}
	return position{p.chunk + 1, 0}
}

// before returns the VMA before p and its position, nil at the start.
func (s *vmaSet) before(p position) (*vma, position) {
	if p.index > 0 {
		p.index--
	} else if p.chunk > 0 {
		p = position{p.chunk - 1, s.chunks[p.chunk-1].n - 1}
	} else {
		return nil, p
	}
	return s.at(p), p
}

// first returns the first VMA that ends above addr, nil if there is none.
func (s *vmaSet) first(addr uint64) *vma { return s.at(s.find(addr)) }

// moved notes that the VMA at p, or the gap before it, changed.
func (s *vmaSet) moved(p position) {
	for i := p.chunk; i < min(p.chunk+2, len(s.chunks)); i++ {
		s.chunks[i].gapOld = true
	}
}

// insert adds v, which overlaps no other.
func (s *vmaSet) insert(v *vma) {
	p := s.find(v.start)
	if p.chunk == len(s.chunks) {
		if p.chunk == 0 {
			s.chunks = append(s.chunks, &vmaChunk{})
		} else {
			p.chunk--
		}
		p.index = s.chunks[p.chunk].n
	}
	c := s.chunks[p.chunk]
	if c.n == chunkSize {
		half := &vmaChunk{n: chunkSize / 2, gapOld: true}
		copy(half.vmas[:], c.vmas[chunkSize/2:])
		clear(c.vmas[chunkSize/2:])
		c.n = chunkSize / 2
		s.chunks = slices.Insert(s.chunks, p.chunk+1, half)
		if p.index > c.n {
			c.gapOld = true
			p = position{p.chunk + 1, p.index - c.n}
			c = half
		}
	}
	copy(c.vmas[p.index+1:c.n+1], c.vmas[p.index:c.n])
	c.vmas[p.index] = v
	c.n++
	s.count++
	s.moved(p)
}

// remove takes out the VMA at p.
func (s *vmaSet) remove(p position) {
	c := s.chunks[p.chunk]
	copy(c.vmas[p.index:], c.vmas[p.index+1:c.n])
	c.n--
	c.vmas[c.n] = nil
	s.count--
	if c.n == 0 {
		s.chunks = slices.Delete(s.chunks, p.chunk, p.chunk+1)
	}
	s.moved(p)
}

// largestGap returns the size of the largest gap before a VMA of chunk i.
func (s *vmaSet) largestGap(i int) uint64 {
	c := s.chunks[i]
	if c.gapOld {
		end := uint64(0)
		if i > 0 {
			end = s.chunks[i-1].vmas[s.chunks[i-1].n-1].end
		}
		c.gap = 0
		for _, v := range c.vmas[:c.n] {
			if low := v.lowest(); low > end {
				c.gap = max(c.gap, low-end)
			}
			end = v.end
		}
		c.gapOld = false
	}
	return c.gap
}

// roomBelow returns the highest address of length free bytes in [low, high).
func (s *vmaSet) roomBelow(low, high, length uint64) (uint64, bool) {
	p := s.find(high - 1)
	top := high
	if v := s.at(p); v != nil {
		top = min(top, v.lowest())
	}
	for {
		v, q := s.before(p)
		bottom := low
		if v != nil {
			bottom = max(low, v.end)
		}
		if top >= bottom && top-bottom >= length {
			return top - length, true
		}
		if v == nil || v.lowest() <= low {
			return 0, false
		}
		top, p = v.lowest(), q
		if p.index == s.chunks[p.chunk].n-1 && s.largestGap(p.chunk) < length {
			p.index = 0
			top = s.at(p).lowest()
		}
	}
}

// roomAbove returns the lowest address of length free bytes in [low, high).
func (s *vmaSet) roomAbove(low, high, length uint64) (uint64, bool) {
	p := s.find(low)
	bottom := low
	for {
		v := s.at(p)
		top := high
		if v != nil {
			top = min(high, v.lowest())
		}
		if top >= bottom && top-bottom >= length {
			return bottom, true
		}
		if v == nil || v.end >= high {
			return 0, false
		}
		bottom = max(bottom, v.end)
		if p = s.next(p); p.index == 0 && p.chunk < len(s.chunks) && s.largestGap(p.chunk) < length {
			p.index = s.chunks[p.chunk].n - 1
			if v, _ := s.before(p); v != nil {
				bottom = max(bottom, v.end)
			}
		}
	}
}

// The operations of an address space on its VMAs. as.mu is held in all of them.

// count adds sign times pages to what as counts of memory with flags.
func (as *AddressSpace) count(flags vmFlags, pages uint64, sign int64) {
	n := uint64(sign * int64(pages))
	as.total += n
	switch {
	case isData(flags):
		as.data += n
	case flags&vmGrowsDown != 0:
		as.stack += n
	case flags&(vmExec|vmWrite) == vmExec:
		as.exec += n
	}
	if flags&vmLocked != 0 {
		as.locked += n
	}
	if sign > 0 {
		as.peakTotal = max(as.peakTotal, as.total)
	}
}

// isData reports whether RLIMIT_DATA counts memory with flags.
func isData(flags vmFlags) bool { return flags&(vmWrite|vmShared|vmGrowsDown) == vmWrite }

// mayGrow reports whether RLIMIT_AS and RLIMIT_DATA allow pages more with flags.
func (as *AddressSpace) mayGrow(flags vmFlags, pages uint64) bool {
	if as.total+pages > as.limits.Soft(unix.RLIMIT_AS)/PageSize {
		return false
	}
	return !isData(flags) || as.data+pages <= as.limits.Soft(unix.RLIMIT_DATA)/PageSize
}

// add inserts a new VMA and counts it. It takes over the caller's reference of back.
func (as *AddressSpace) add(v *vma) {
	as.vmas.insert(v)
	as.count(v.flags, v.pages(), 1)
	if v.back != nil && v.back.mappings != nil {
		v.back.mappings.add(as)
	}
}

// drop removes the VMA at p, which the caller counted off already.
func (as *AddressSpace) drop(p position) {
	v := as.vmas.at(p)
	as.vmas.remove(p)
	if as.last == v {
		as.last = nil
	}
	as.forget(v.back)
}

// forget gives up a VMA's reference of back. The file hears of the last one after the lock.
func (as *AddressSpace) forget(back *backing) {
	if back == nil {
		return
	}
	if back.mappings != nil {
		back.mappings.remove(as)
	}
	as.unref(back)
}

// unref gives up a reference of back that isn't a VMA's.
func (as *AddressSpace) unref(back *backing) {
	if back.refs.Add(-1) == 0 {
		as.closing = append(as.closing, back)
	}
}

// split cuts v at addr, which is inside it, and returns the upper part.
func (as *AddressSpace) split(v *vma, addr uint64) *vma {
	upper := &vma{start: addr, end: v.end, flags: v.flags, offset: v.fileOffset(addr), back: v.back, name: v.name, written: v.written}
	v.end = addr
	if v.back != nil {
		v.back.refs.Add(1)
		if v.back.mappings != nil {
			v.back.mappings.add(as)
		}
	}
	as.last = nil
	as.vmas.insert(upper)
	return upper
}

// splitCounted is split, with vm.max_map_count: ENOMEM.
func (as *AddressSpace) splitCounted(v *vma, addr uint64) (*vma, error) {
	if as.vmas.count >= MaxMapCount() || !roomForObjects(as.vmas.count) {
		return nil, unix.ENOMEM
	}
	return as.split(v, addr), nil
}

// place puts a mapping into the free range [start, end): a new VMA, or more of its neighbours. It
// takes over the caller's reference of back.
func (as *AddressSpace) place(start, end uint64, flags vmFlags, back *backing, offset uint64, name string) {
	p := as.vmas.find(start)
	next := as.vmas.at(p)
	prev, q := as.vmas.before(p)
	joinPrev := prev != nil && prev.end == start && prev.joins(flags, back, offset, name)
	fresh := vma{start: start, end: end, flags: flags, offset: offset, back: back, name: name}
	joinNext := next != nil && next.start == end && fresh.joins(next.flags, next.back, next.offset, next.name)
	if !joinPrev && !joinNext {
		v := fresh // on the heap, which most mappings don't need
		as.add(&v)
		return
	}
	as.count(flags, fresh.pages(), 1)
	switch {
	case joinPrev && joinNext:
		prev.end = next.end
		prev.written = prev.written || next.written
		as.drop(p)
		as.vmas.moved(q)
	case joinPrev:
		prev.end = end
		as.vmas.moved(q)
	default:
		next.start, next.offset = start, offset
		as.vmas.moved(p)
	}
	if back != nil {
		as.unref(back)
	}
}

// modify gives [start, end), which lies in v, other flags (and a name, if v has no file), splitting
// and merging as it must. It returns the VMA that holds the range then. ENOMEM when a split would
// pass vm.max_map_count.
func (as *AddressSpace) modify(v *vma, start, end uint64, flags vmFlags, name string) (*vma, error) {
	if v.flags == flags && v.name == name {
		return v, nil
	}
	p := as.vmas.find(start)
	prev, q := as.vmas.before(p)
	n := as.vmas.next(p)
	next := as.vmas.at(n)
	fresh := vma{start: start, end: end, flags: flags, offset: v.fileOffset(start), back: v.back, name: name}
	joinPrev := start == v.start && prev != nil && prev.end == start && prev.joins(flags, v.back, fresh.offset, name)
	joinNext := end == v.end && next != nil && next.start == end && fresh.joins(next.flags, next.back, next.offset, next.name)
	recount := func() {
		as.count(v.flags, fresh.pages(), -1)
		as.count(flags, fresh.pages(), 1)
	}
	as.last = nil
	switch {
	case joinPrev && joinNext:
		recount()
		prev.end = next.end
		prev.written = prev.written || v.written || next.written
		as.drop(n)
		as.drop(p)
		as.vmas.moved(q)
		return prev, nil
	case joinPrev:
		recount()
		prev.end = end
		prev.written = prev.written || v.written
		if end == v.end {
			as.drop(p)
		} else {
			v.start, v.offset = end, v.fileOffset(end)
			as.vmas.moved(p)
		}
		as.vmas.moved(q)
		return prev, nil
	case joinNext:
		recount()
		next.start, next.offset = start, fresh.offset
		next.written = next.written || v.written
		as.vmas.moved(n)
		if start == v.start {
			as.drop(p)
		} else {
			v.end = start
			as.vmas.moved(p)
		}
		return next, nil
	}
	var err error
	if start > v.start {
		if v, err = as.splitCounted(v, start); err != nil {
			return nil, err
		}
	}
	if end < v.end {
		if _, err = as.splitCounted(v, end); err != nil {
			return nil, err
		}
	}
	recount()
	v.flags, v.name = flags, name
	return v, nil
}
