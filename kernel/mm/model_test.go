//go:build !elver

package mm

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"elver/runtime/metal"
)

// A model of an address space is an array of pages. The test does the same to both and compares
// what can be seen: contents, rights, the frames in use.

const modelPages = 48

type modelPage struct {
	mapped, shared bool
	prot           int
	value          *uint32 // what the page holds; shared pages point to one value
	written        bool
}

type model [modelPages]modelPage

func (m *model) fork() model {
	child := *m
	for i := range child {
		if p := &child[i]; p.mapped && !p.shared {
			v := *p.value
			p.value = &v
		}
	}
	return child
}

// objects returns how many pages of shared memory the models together hold, touched ones alone.
func objects(models ...*model) (private, shared int) {
	seen := map[*uint32]bool{}
	for _, m := range models {
		for i := range m {
			p := &m[i]
			switch {
			case !p.mapped:
			case p.shared && !seen[p.value] && *p.value != 0:
				seen[p.value] = true
				shared++
			case !p.shared && p.written:
				private++
			}
		}
	}
	return private, shared
}

func TestModel(t *testing.T) {
	for seed := range int64(150) {
		if !runModel(t, seed) {
			return
		}
	}
}

func runModel(t *testing.T, seed int64) bool {
	rnd := rand.New(rand.NewSource(seed))
	before := counts()
	as := newSpace(t)
	var m model
	var log []string
	at := func(page int) uint64 { return base + uint64(page)*PageSize }
	pick := func() (first, n int) {
		first = rnd.Intn(modelPages)
		return first, 1 + rnd.Intn(min(10, modelPages-first))
	}
	mapped := func(first, n int) bool {
		for _, p := range m[first : first+n] {
			if !p.mapped {
				return false
			}
		}
		return true
	}
	bad := func(format string, args ...any) bool {
		t.Errorf("seed %d: %s\n%s", seed, strings.Join(log, "\n"), fmt.Sprintf(format, args...))
		as.Release()
		return false
	}
	for step := range 200 {
		first, n := pick()
		var err, want error
		switch op := rnd.Intn(12); op {
		case 0, 1, 2:
			shared := rnd.Intn(3) == 0
			prot := []int{0, unix.PROT_READ, rw, rw}[rnd.Intn(4)]
			flags := unix.MAP_FIXED | unix.MAP_ANONYMOUS | unix.MAP_PRIVATE
			if shared {
				flags ^= unix.MAP_PRIVATE | unix.MAP_SHARED
			}
			log = append(log, fmt.Sprintf("mmap %d+%d prot %d shared %v", first, n, prot, shared))
			_, err = as.Mmap(MmapArgs{Addr: at(first), Length: uint64(n) * PageSize, Prot: prot, Flags: flags})
			for i := range n {
				m[first+i] = modelPage{mapped: true, shared: shared, prot: prot, value: new(uint32)}
			}
		case 3:
			log = append(log, fmt.Sprintf("munmap %d+%d", first, n))
			err = as.Munmap(at(first), uint64(n)*PageSize)
			for i := range n {
				m[first+i] = modelPage{}
			}
		case 4, 5:
			prot := []int{0, unix.PROT_READ, rw}[rnd.Intn(3)]
			log = append(log, fmt.Sprintf("mprotect %d+%d %d", first, n, prot))
			err = as.Mprotect(at(first), uint64(n)*PageSize, prot)
			for i := range n {
				if !m[first+i].mapped {
					want = unix.ENOMEM
					break
				}
				m[first+i].prot = prot
			}
		case 6:
			log = append(log, fmt.Sprintf("dontneed %d+%d", first, n))
			err = as.Madvise(at(first), uint64(n)*PageSize, unix.MADV_DONTNEED)
			for i := range n {
				p := &m[first+i]
				if !p.mapped {
					want = unix.ENOMEM
				} else if !p.shared {
					p.value, p.written = new(uint32), false
				}
			}
		case 7:
			to := rnd.Intn(modelPages - n + 1)
			if !mapped(first, n) || to < first+n && first < to+n {
				continue
			}
			same := true
			v := as.vmas.first(at(first))
			same = v.end >= at(first+n)
			log = append(log, fmt.Sprintf("mremap %d+%d to %d", first, n, to))
			_, err = as.Mremap(at(first), uint64(n)*PageSize, uint64(n)*PageSize, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, at(to))
			if !same {
				want = unix.EFAULT
				break
			}
			for i := range n {
				m[to+i], m[first+i] = m[first+i], modelPage{}
			}
		case 8:
			if rnd.Intn(4) != 0 {
				continue
			}
			log = append(log, "fork; the child writes; one of them goes on")
			child, ferr := as.Fork(nil)
			if ferr != nil {
				return bad("fork: %v", ferr)
			}
			twin := m.fork()
			for i := range twin {
				if p := &twin[i]; p.mapped && p.prot == rw && rnd.Intn(2) == 0 {
					*p.value, p.written = rnd.Uint32()|1, true
					if err := child.WriteUint32(at(i), *p.value); err != nil {
						return bad("the child's write to %d: %v", i, err)
					}
				}
			}
			if rnd.Intn(2) == 0 {
				as, child, m = child, as, twin
			}
			child.Release()
		default:
			log = append(log, fmt.Sprintf("write %d+%d", first, n))
			for i := first; i < first+n; i++ {
				p := &m[i]
				value := rnd.Uint32() | 1
				err := as.WriteUint32(at(i)+8, value)
				if ok := p.mapped && p.prot == rw; ok != (err == nil) {
					return bad("write to page %d: %v, the model has %+v", i, err, *p)
				} else if ok {
					as.WriteUint32(at(i), value)
					as.WriteUint32(at(i)+8, 0)
					*p.value, p.written = value, true
				}
			}
		}
		if err != want {
			return bad("%v, want %v", err, want)
		}
		if private, _ := objects(&m); as.Usage().Anon != uint64(private)*PageSize {
			return bad("%d bytes of private memory, the model has %d pages", as.Usage().Anon, private)
		}
		if step%8 != 0 {
			continue
		}
		for i := range m {
			p := &m[i]
			v, err := as.ReadUint32(at(i))
			readable := p.mapped && p.prot != 0
			if readable != (err == nil) || readable && v != *p.value {
				return bad("page %d: %#x, %v; the model has %+v", i, v, err, *p)
			}
			if p.mapped && !readable {
				var word [4]byte
				if _, err := as.ForcedCopyIn(word[:], at(i)); err != nil || binary.LittleEndian.Uint32(word[:]) != *p.value {
					return bad("page %d, forced: %x, %v; the model has %+v", i, word, err, *p)
				}
			}
		}
		size := uint64(0)
		last := Region{}
		ok := true
		as.Regions(func(r Region) bool {
			size += r.End - r.Start
			ok = ok && r.Start >= last.End && r.Start < r.End
			for a := r.Start; a < r.End; a += PageSize {
				p := m[(a-base)/PageSize]
				ok = ok && p.mapped && p.prot == r.Prot && p.shared == r.Shared
			}
			last = r
			return true
		})
		pages := 0
		for _, p := range m {
			if p.mapped {
				pages++
			}
		}
		if u := as.Usage(); !ok || size != uint64(pages)*PageSize || u.Size != size {
			return bad("the regions are wrong: %d bytes, %d mapped, usage %+v", size, pages, u)
		}
		if n := promised(as); n != Committed() {
			return bad("%d bytes are committed, the VMAs have %d", Committed(), n)
		}
		if s := metal.Frames(); s.ByOwner[metal.OwnerPageCache] != before[metal.OwnerPageCache] {
			return bad("page cache frames appeared")
		}
	}
	as.Release()
	checkCounts(t, before)
	return !t.Failed()
}
