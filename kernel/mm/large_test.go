//go:build !elver

package mm

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

const largeBase = 0x40000000

// mapLarge maps n large pages' worth of private memory that wants large pages.
func mapLarge(t testing.TB, as *AddressSpace, n uint64) uint64 {
	t.Helper()
	addr := mustMap(t, as, MmapArgs{Addr: largeBase, Length: n * LargeSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	wantErr(t, "MADV_HUGEPAGE", as.Madvise(addr, n*LargeSize, unix.MADV_HUGEPAGE), nil)
	return addr
}

func mustWrite(t testing.TB, as *AddressSpace, addr uint64, v uint32) {
	t.Helper()
	if err := as.WriteUint32(addr, v); err != nil {
		t.Fatalf("write to %#x: %v", addr, err)
	}
}

func wantWord(t testing.TB, as *AddressSpace, addr uint64, want uint32) {
	t.Helper()
	if v, err := as.ReadUint32(addr); err != nil || v != want {
		t.Fatalf("%#x holds %#x (%v), want %#x", addr, v, err, want)
	}
}

func largeBytes(as *AddressSpace) uint64 { return as.Residents(0, UserEnd).Large }

func wantLarge(t testing.TB, as *AddressSpace, what string, pages, anon uint64) {
	t.Helper()
	if got := largeBytes(as); got != pages*LargeSize {
		t.Fatalf("%s: %d bytes in large pages, want %d", what, got, pages*LargeSize)
	}
	if got := as.Usage().Anon; got != anon {
		t.Fatalf("%s: %d bytes of private memory, want %d", what, got, anon)
	}
}

func TestLargePages(t *testing.T) {
	before := counts()
	as := newSpace(t)
	addr := mapLarge(t, as, 4)
	mustWrite(t, as, addr+5*PageSize, 1)
	wantLarge(t, as, "after a write", 1, LargeSize)
	if s := metal.Frames(); s.Huge != largePages {
		t.Errorf("%d frames are in large pages", s.Huge)
	}
	wantWord(t, as, addr+LargeSize, 0)
	wantLarge(t, as, "after a read", 2, 2*LargeSize)
	r, _ := as.Region(addr)
	if !r.HugePage || r.NoHugePage || !r.MayBeLarge {
		t.Errorf("region: %+v", r)
	}

	// What only looks leaves them alone.
	var in [largePages]byte
	if n, err := as.Residence(addr, in[:]); n != largePages || err != nil || slices.Contains(in[:], 0) {
		t.Errorf("mincore: %d, %v", n, err)
	}
	var states [3]PageState
	as.PageStates(addr+LargeSize-PageSize, states[:])
	if !states[0].Present || !states[0].Alone || !states[0].Anonymous || states[1].Frame%LargeSize != 0 || states[2].Frame != states[1].Frame+PageSize {
		t.Errorf("pagemap: %+v", states)
	}
	wantErr(t, "mlock", as.Mlock(addr+PageSize, PageSize, 0, true), nil)
	wantErr(t, "munlock", as.Munlock(addr+PageSize, PageSize), nil)
	wantErr(t, "dontdump", as.Madvise(addr, PageSize, unix.MADV_DONTDUMP), nil)
	wantErr(t, "dodump", as.Madvise(addr, PageSize, unix.MADV_DODUMP), nil)
	wantLarge(t, as, "after looking", 2, 2*LargeSize)

	// A part of one goes: the rest stays, in small pages.
	wantErr(t, "dontneed", as.Madvise(addr, PageSize, unix.MADV_DONTNEED), nil)
	wantLarge(t, as, "after DONTNEED of a page", 1, 2*LargeSize-PageSize)
	wantWord(t, as, addr+5*PageSize, 1)
	wantErr(t, "munmap", as.Munmap(addr+LargeSize+PageSize, PageSize), nil)
	wantLarge(t, as, "after munmap of a page", 0, 2*LargeSize-2*PageSize)
	mustWrite(t, as, addr+2*LargeSize, 2)
	wantErr(t, "mprotect of half", as.Mprotect(addr+2*LargeSize, LargeSize/2, unix.PROT_READ), nil)
	wantLarge(t, as, "after mprotect of half", 0, 3*LargeSize-2*PageSize)
	if as.WriteUint32(addr+2*LargeSize, 3) == nil {
		t.Error("a write to the half that is read-only")
	}
	mustWrite(t, as, addr+2*LargeSize+LargeSize/2, 3)

	// A whole one keeps its size through mprotect and mremap, and goes at once.
	mustWrite(t, as, addr+3*LargeSize, 4)
	for _, prot := range []int{unix.PROT_READ, unix.PROT_NONE, rw} {
		wantErr(t, "mprotect", as.Mprotect(addr+3*LargeSize, LargeSize, prot), nil)
		wantLarge(t, as, "after mprotect", 1, 4*LargeSize-2*PageSize)
	}
	to, err := as.Mremap(addr+3*LargeSize, LargeSize, LargeSize, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, addr+8*LargeSize)
	wantErr(t, "mremap", err, nil)
	wantLarge(t, as, "after mremap", 1, 4*LargeSize-2*PageSize)
	wantWord(t, as, to, 4)
	to, err = as.Mremap(to, LargeSize, LargeSize, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, addr+10*LargeSize+PageSize)
	wantErr(t, "mremap", err, nil)
	wantLarge(t, as, "after mremap to an odd place", 0, 4*LargeSize-2*PageSize)
	wantWord(t, as, to, 4)
	as.Release()
	checkCounts(t, before)
}

func TestLargeWho(t *testing.T) {
	before := counts()
	as := newSpace(t)
	write := func(addr uint64) { mustWrite(t, as, addr, 1) }
	// Neither without asking, nor where there is no room, nor after a refusal.
	plain := mustMap(t, as, MmapArgs{Addr: largeBase, Length: 3 * LargeSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	write(plain)
	wantLarge(t, as, "not asked for", 0, PageSize)
	wantErr(t, "hugepage", as.Madvise(plain+PageSize, 2*LargeSize, unix.MADV_HUGEPAGE), nil)
	write(plain + 2*PageSize)
	write(plain + 2*LargeSize)
	wantLarge(t, as, "no room", 0, 3*PageSize)
	write(plain + LargeSize)
	wantLarge(t, as, "room", 1, 3*PageSize+LargeSize)
	wantErr(t, "nohugepage", as.Madvise(plain, 3*LargeSize, unix.MADV_NOHUGEPAGE), nil)
	wantErr(t, "dontneed", as.Madvise(plain, 3*LargeSize, unix.MADV_DONTNEED), nil)
	write(plain + LargeSize)
	wantLarge(t, as, "refused", 0, PageSize)
	wantErr(t, "collapse", as.Madvise(plain+LargeSize, LargeSize, adviseCollapse), unix.EINVAL)
	wantErr(t, "munmap", as.Munmap(plain, 3*LargeSize), nil)

	SetLargePolicy(LargeAlways)
	defer SetLargePolicy(LargeMadvise)
	plain = mustMap(t, as, MmapArgs{Addr: largeBase, Length: 3 * LargeSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	write(plain)
	wantLarge(t, as, "always", 1, LargeSize)
	as.DisableLarge(true)
	write(plain + LargeSize)
	wantLarge(t, as, "disabled", 1, LargeSize+PageSize)
	child, err := as.Fork(nil)
	wantErr(t, "fork", err, nil)
	if !child.LargeDisabled() {
		t.Error("the child has large pages again")
	}
	child.Release()
	as.DisableLarge(false)
	SetLargePolicy(LargeNever)
	wantErr(t, "hugepage", as.Madvise(plain, 3*LargeSize, unix.MADV_HUGEPAGE), nil)
	write(plain + 2*LargeSize)
	wantLarge(t, as, "never", 1, LargeSize+2*PageSize)
	as.Release()
	checkCounts(t, before)
}

func TestLargeFork(t *testing.T) {
	before := counts()
	as := newSpace(t)
	addr := mapLarge(t, as, 3)
	for i := range uint64(3) {
		mustWrite(t, as, addr+i*LargeSize, 1)
	}
	frames := metal.Frames().ByOwner[metal.OwnerProgram]
	child, err := as.Fork(nil)
	wantErr(t, "fork", err, nil)
	wantLarge(t, child, "child", 3, 3*LargeSize)
	if n := metal.Frames().ByOwner[metal.OwnerProgram]; n != frames {
		t.Errorf("the fork took %d frames", n-frames)
	}
	// Either side's write copies a small page, and the other keeps its large one.
	mustWrite(t, child, addr+PageSize, 7)
	mustWrite(t, as, addr+LargeSize, 8)
	wantWord(t, as, addr+PageSize, 0)
	wantWord(t, child, addr, 1)
	wantWord(t, child, addr+LargeSize, 1)
	wantLarge(t, as, "parent", 2, 3*LargeSize)
	wantLarge(t, child, "child", 2, 3*LargeSize)
	if n := metal.Frames().ByOwner[metal.OwnerProgram]; n != frames+2 {
		t.Errorf("two writes took %d frames", n-frames)
	}
	grandchild, err := child.Fork(nil)
	wantErr(t, "fork", err, nil)
	child.Release()
	wantWord(t, grandchild, addr+PageSize, 7)
	wantWord(t, grandchild, addr+2*LargeSize, 1)
	grandchild.Release()
	// Alone again, what is still whole is written to as it is.
	mustWrite(t, as, addr+2*LargeSize, 9)
	wantLarge(t, as, "parent", 2, 3*LargeSize)
	mustWrite(t, as, addr, 9)
	wantLarge(t, as, "parent", 1, 3*LargeSize)
	if n := metal.Frames().ByOwner[metal.OwnerProgram]; n != frames {
		t.Errorf("%d frames more than before the fork", n-frames)
	}
	as.Release()
	checkCounts(t, before)
}

func TestLargeCollapse(t *testing.T) {
	before := counts()
	as := newSpace(t)
	addr := mustMap(t, as, MmapArgs{Addr: largeBase, Length: 3 * LargeSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	collapse := func() error { return as.Madvise(addr, 2*LargeSize, adviseCollapse) }
	wantErr(t, "collapse of nothing", collapse(), unix.EINVAL)
	mustWrite(t, as, addr+PageSize, 1)
	mustWrite(t, as, addr+LargeSize-PageSize, 2)
	wantWord(t, as, addr+LargeSize+PageSize, 0)
	wantErr(t, "collapse", collapse(), nil)
	wantLarge(t, as, "collapsed", 2, 2*LargeSize)
	wantErr(t, "collapse again", collapse(), nil)
	for page, want := range map[uint64]uint32{0: 0, 1: 1, largePages - 1: 2, largePages: 0, largePages + 1: 0} {
		wantWord(t, as, addr+page*PageSize, want)
	}
	mustWrite(t, as, addr+LargeSize+7*PageSize, 3)
	wantErr(t, "split", as.Madvise(addr, PageSize, unix.MADV_DONTNEED), nil)
	child, err := as.Fork(nil)
	wantErr(t, "fork", err, nil)
	wantErr(t, "collapse of shared pages", collapse(), unix.EAGAIN)
	child.Release()
	wantErr(t, "collapse", collapse(), nil)
	wantLarge(t, as, "collapsed", 2, 2*LargeSize)
	wantWord(t, as, addr+PageSize, 1)
	wantErr(t, "collapse of a page", as.Madvise(addr, PageSize, adviseCollapse), nil)
	wantErr(t, "collapse of two halves", as.Madvise(addr+PageSize, LargeSize-2*PageSize, adviseCollapse), unix.EINVAL)
	as.Release()
	checkCounts(t, before)
}

// TestLargeWithoutMemory: without 2 MiB in one piece there are small pages, and a page table that has no frame fails
// as ever; a split never does.
func TestLargeWithoutMemory(t *testing.T) {
	before := counts()
	as := newSpace(t)
	addr := mapLarge(t, as, 2)
	mustWrite(t, as, addr, 1)
	used := metal.Frames()
	limit := metal.SetArenaFrames(used.Total - used.Free + used.Reserve + 8)
	defer metal.SetArenaFrames(limit)
	mustWrite(t, as, addr+LargeSize, 2)
	wantLarge(t, as, "memory is short", 1, LargeSize+PageSize)
	metal.SetArenaFrames(0)
	wantErr(t, "mprotect", as.Mprotect(addr, PageSize, unix.PROT_READ), nil)
	wantLarge(t, as, "split without memory", 0, LargeSize+PageSize)
	if child, err := as.Fork(nil); err != unix.ENOMEM {
		t.Errorf("fork: %v, %v", child, err)
	}
	metal.SetArenaFrames(limit)
	wantWord(t, as, addr, 1)
	as.Release()
	checkCounts(t, before)
}

// TestLargeThreads: threads write, fork, split and collapse at once; nobody's words change but by who wrote them.
// Forced writes stay out of it: one that meets a fork and a copy on another CPU may be lost, and there is but one.
func TestLargeThreads(t *testing.T) {
	before := counts()
	as := newSpace(t)
	const threads = 4
	addr := mapLarge(t, as, 2)
	var wg sync.WaitGroup
	for id := range uint64(threads) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewSource(int64(id)))
			word := func(page uint64) uint64 { return addr + page*PageSize + id*4 }
			var want [2 * largePages]uint32
			for range 1500 {
				page := uint64(rnd.Intn(len(want)))
				switch rnd.Intn(40) {
				case 0:
					as.Madvise(addr+page*PageSize&^(LargeSize-1), LargeSize, adviseCollapse)
				case 1:
					as.Mprotect(addr+page*PageSize, PageSize, rw|unix.PROT_EXEC)
				case 2:
					var b [8]byte
					as.ForcedCopyIn(b[:], word(page))
				case 3:
					child, err := as.Fork(nil)
					if err != nil {
						t.Errorf("fork: %v", err)
						return
					}
					child.WriteUint32(word(page), 1<<31)
					child.Release()
				case 4:
					largeBytes(as)
				default:
					if v, err := as.ReadUint32(word(page)); err != nil || v != want[page] {
						t.Errorf("thread %d, page %d: %d (%v), want %d", id, page, v, err, want[page])
						return
					}
					want[page]++
					as.WriteUint32(word(page), want[page])
				}
			}
		}()
	}
	wg.Wait()
	as.Release()
	checkCounts(t, before)
}

// The model of address spaces with large pages is made of pieces, four to a large page, each with words in four
// of its pages. Several spaces live at once, forks of each other.

const (
	pieceSize = LargeSize / 4
	pieces    = 20
)

var wordAt = [4]uint64{0, PageSize, pieceSize / 2, pieceSize - PageSize}

type modelPiece struct {
	mapped bool
	prot   int
	words  [4]uint32
}

type modelSpace struct {
	as     *AddressSpace
	pieces [pieces]modelPiece
}

func TestLargeModel(t *testing.T) {
	for seed := range int64(12) {
		if !runLargeModel(t, seed) {
			return
		}
	}
}

func runLargeModel(t *testing.T, seed int64) bool {
	rnd := rand.New(rand.NewSource(seed))
	before := counts()
	policy := LargePolicy(seed % 2) // as asked for, or always
	SetLargePolicy(policy)
	defer SetLargePolicy(LargeMadvise)
	spaces := []*modelSpace{{as: newSpace(t)}}
	var log []string
	bad := func(format string, args ...any) bool {
		t.Errorf("seed %d: %s\n%s", seed, strings.Join(log, "\n"), fmt.Sprintf(format, args...))
		for _, s := range spaces {
			s.as.Release()
		}
		return false
	}
	at := func(piece int) uint64 { return largeBase + uint64(piece)*pieceSize }
	for range 250 {
		which := rnd.Intn(len(spaces))
		s := spaces[which]
		as := s.as
		first := rnd.Intn(pieces)
		n := 1 + rnd.Intn(min(8, pieces-first))
		start, size := at(first), uint64(n)*pieceSize
		whole := func() bool {
			return !slices.ContainsFunc(s.pieces[first:first+n], func(p modelPiece) bool { return !p.mapped })
		}
		note := func(what string, args ...any) {
			log = append(log, fmt.Sprintf("%d: %s %d+%d", which, fmt.Sprintf(what, args...), first, n))
		}
		var err, want error
		switch op := rnd.Intn(24); op {
		case 0, 1, 2, 3:
			prot := []int{unix.PROT_NONE, unix.PROT_READ, rw, rw, rw}[rnd.Intn(5)]
			note("mmap %d", prot)
			_, err = as.Mmap(MmapArgs{Addr: start, Length: size, Prot: prot, Flags: anon | unix.MAP_FIXED})
			if rnd.Intn(4) != 0 {
				as.Madvise(start, size, unix.MADV_HUGEPAGE)
			}
			for i := range n {
				s.pieces[first+i] = modelPiece{mapped: true, prot: prot}
			}
		case 4:
			note("munmap")
			err = as.Munmap(start, size)
			clear(s.pieces[first : first+n])
		case 5, 6, 7:
			if !whole() {
				continue
			}
			prot := []int{unix.PROT_NONE, unix.PROT_READ, rw, rw}[rnd.Intn(4)]
			note("mprotect %d", prot)
			err = as.Mprotect(start, size, prot)
			for i := range n {
				s.pieces[first+i].prot = prot
			}
		case 8:
			if !whole() {
				continue
			}
			note("dontneed")
			err = as.Madvise(start, size, unix.MADV_DONTNEED)
			for i := range n {
				s.pieces[first+i].words = [4]uint32{}
			}
		case 9, 10:
			to := rnd.Intn(pieces - n + 1)
			if !whole() || to < first+n && first < to+n {
				continue
			}
			note("mremap to %d", to)
			if as.vmas.first(start).end < start+size {
				want = unix.EFAULT
			}
			_, err = as.Mremap(start, size, size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, at(to))
			if want == nil {
				for i := range n {
					s.pieces[to+i], s.pieces[first+i] = s.pieces[first+i], modelPiece{}
				}
			}
		case 11, 12:
			note("collapse")
			as.Madvise(start, size, adviseCollapse) // may refuse
		case 13:
			if len(spaces) == 4 {
				continue
			}
			note("fork")
			var child *AddressSpace
			if child, err = as.Fork(nil); err == nil {
				spaces = append(spaces, &modelSpace{child, s.pieces})
			}
		case 14:
			if len(spaces) == 1 {
				continue
			}
			note("exit")
			as.Release()
			spaces = slices.Delete(spaces, which, which+1)
		case 15:
			note("wipe and advise")
			as.Madvise(start, size, []int{unix.MADV_NOHUGEPAGE, unix.MADV_HUGEPAGE, unix.MADV_DONTDUMP, unix.MADV_DODUMP}[rnd.Intn(4)])
		case 16:
			if !whole() {
				continue
			}
			note("populate")
			as.Mlock(start, size, 0, true)
			as.Munlock(start, size)
		default:
			k := rnd.Intn(4)
			value := rnd.Uint32()
			note("write %d", k)
			for i := first; i < first+n; i++ {
				p := &s.pieces[i]
				err := as.WriteUint32(at(i)+wordAt[k], value)
				if ok := p.mapped && p.prot == rw; ok != (err == nil) {
					return bad("write to piece %d: %v, the model has %+v", i, err, *p)
				} else if ok {
					p.words[k] = value
				}
			}
		}
		if err != want {
			return bad("%v, want %v", err, want)
		}
		if why := checkLarge(spaces, before, rnd); why != "" {
			return bad("%s", why)
		}
	}
	for _, s := range spaces {
		s.as.Release()
	}
	checkCounts(t, before)
	return !t.Failed()
}

// checkLarge compares the spaces with their models, and what they have with the frames that are handed out.
func checkLarge(spaces []*modelSpace, before [metal.Owners]uint64, rnd *rand.Rand) string {
	frames := map[uint64]bool{}
	tables := uint64(0)
	for which, s := range spaces {
		i := rnd.Intn(pieces) // one of each is enough: reading makes pages
		for k, off := range wordAt {
			p := s.pieces[i]
			at := uint64(largeBase+i*pieceSize) + off
			v, err := s.as.ReadUint32(at)
			if ok := p.mapped && p.prot != unix.PROT_NONE; ok != (err == nil) || ok && v != p.words[k] {
				return fmt.Sprintf("space %d, piece %d, word %d: %#x, %v; the model has %+v", which, i, k, v, err, p)
			}
			if p.mapped && rnd.Intn(20) == 0 {
				var word [4]byte
				if _, err := s.as.ForcedCopyIn(word[:], at); err != nil || binary.LittleEndian.Uint32(word[:]) != p.words[k] {
					return fmt.Sprintf("space %d, piece %d, forced: %x, %v; the model has %+v", which, i, word, err, p)
				}
			}
		}
		resident, spares := uint64(0), uint64(0)
		for at := uint64(largeBase); at < largeBase+pieces*pieceSize; at += PageSize {
			entry := s.as.table.Peek(at)
			if entry == 0 || entry.Frame() == zeroFrame {
				continue
			}
			if !s.pieces[(at-largeBase)/pieceSize].mapped {
				return fmt.Sprintf("space %d has a page at %#x, where nothing is mapped", which, at)
			}
			frames[entry.Frame()] = true
			resident += PageSize
			if entry&amd64.EntryLarge != 0 && at%LargeSize == 0 {
				spares++
			}
		}
		u := s.as.Usage()
		if u.Anon != resident {
			return fmt.Sprintf("space %d has %d bytes, and counts %d", which, resident, u.Anon)
		}
		if r := s.as.Residents(0, UserEnd); r.Anon != resident || r.Large != spares*LargeSize {
			return fmt.Sprintf("space %d has %d bytes, %d large pages, and shows %+v", which, resident, spares, r)
		}
		tables += u.PageTables / PageSize
	}
	now := counts()
	if n := now[metal.OwnerProgram] - before[metal.OwnerProgram]; n != uint64(len(frames)) {
		return fmt.Sprintf("%d frames are handed out, %d mapped", n, len(frames))
	}
	if n := now[metal.OwnerPageTable] - before[metal.OwnerPageTable]; n != tables {
		return fmt.Sprintf("%d page tables are handed out, %d counted", n, tables)
	}
	return ""
}
