package mm

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// Mappings knows which address spaces map a file, so that its pages can be taken from them. A file
// has one, and its Mappables return it (Tracked). The zero value is ready.
type Mappings struct {
	round atomic.Uint64 // counts Unmap and WriteProtect: a frame fetched before is not mapped after

	mu     sync.Mutex
	spaces map[*AddressSpace]int // how many VMAs of each; guarded by mu
}

func (m *Mappings) add(as *AddressSpace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spaces == nil {
		m.spaces = make(map[*AddressSpace]int)
	}
	m.spaces[as]++
}

func (m *Mappings) remove(as *AddressSpace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spaces[as]--; m.spaces[as] == 0 {
		delete(m.spaces, as)
	}
}

// Count returns how many VMAs map the file.
func (m *Mappings) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, k := range m.spaces {
		n += k
	}
	return n
}

// Writable reports whether a shared mapping of the file can be written, or made so.
func (m *Mappings) Writable() bool {
	found := false
	m.each(0, 1<<63, func(as *AddressSpace, v *vma, from, to uint64) {
		found = found || v.flags&(vmShared|vmMayWrite) == vmShared|vmMayWrite
	})
	return found
}

// Unmap takes the pages of [off, end) from all mappings, so that the next access asks the file again:
// the file was truncated, or wants its frames back. private: the copies that private mappings made
// go too, as truncate(2) demands. The file must already return other frames, or none.
//
// Precondition: the caller holds no lock under which it serves MapFrame.
func (m *Mappings) Unmap(off, end uint64, private bool) {
	m.each(off, end, func(as *AddressSpace, v *vma, from, to uint64) { as.zap(from, to, !private) })
}

// WriteProtect makes the next write to the pages of [off, end) call MapFrame once more: the file is
// about to write them back and wants to know when they become dirty again.
//
// Precondition: as for Unmap.
func (m *Mappings) WriteProtect(off, end uint64) {
	m.each(off, end, func(as *AddressSpace, v *vma, from, to uint64) {
		if v.flags&vmShared != 0 {
			as.writeProtect(from, to)
		}
	})
}

// Age takes from all mappings those pages of [off, end) that weren't accessed since the last Age: the file
// wants frames back that nobody needs. Locked memory keeps its pages.
//
// Precondition: as for Unmap.
func (m *Mappings) Age(off, end uint64) {
	m.each(off, end, func(as *AddressSpace, v *vma, from, to uint64) {
		if v.flags&vmLocked == 0 {
			as.age(from, to)
		}
	})
}

// each calls do, with the address space locked, for the part [from, to) of each VMA that maps
// something of [off, end).
func (m *Mappings) each(off, end uint64, do func(as *AddressSpace, v *vma, from, to uint64)) {
	m.round.Add(1)
	m.mu.Lock()
	spaces := make([]*AddressSpace, 0, len(m.spaces))
	for as := range m.spaces {
		spaces = append(spaces, as)
	}
	m.mu.Unlock()
	for _, as := range spaces {
		as.eachMapping(m, off, end, do)
	}
}

func (as *AddressSpace) eachMapping(m *Mappings, off, end uint64, do func(as *AddressSpace, v *vma, from, to uint64)) {
	as.lock()
	defer as.unlock()
	for _, c := range as.vmas.chunks {
		for _, v := range c.vmas[:c.n] {
			if v.back == nil || v.back.mappings != m {
				continue
			}
			lo, hi := max(off, v.offset), min(end, v.fileOffset(v.end))
			if lo < hi {
				do(as, v, v.start+(lo&^pageMask-v.offset), v.start+min(v.end-v.start, roundUp(hi-v.offset)))
			}
		}
		metal.CondResched()
	}
}

// writeProtect takes the right to write from the entries of [start, end) that share their frames.
func (as *AddressSpace) writeProtect(start, end uint64) {
	for va := start; va < end; {
		table, base := as.table.Next(va, end)
		if table == nil {
			return
		}
		va = max(va, base)
		stop := min(end, base+amd64.LeafSpan)
		for ; va < stop; va += PageSize {
			if entry := &table[amd64.Index(va)]; *entry&amd64.EntryWritable != 0 {
				*entry &^= writable
				as.table.Changed(va)
			}
		}
		metal.CondResched()
	}
}

// age empties the entries of a file's frames in [start, end) that weren't accessed since it looked last.
func (as *AddressSpace) age(start, end uint64) {
	as.notePeak()
	for va := start; va < end; {
		table, base := as.table.Next(va, end)
		if table == nil {
			return
		}
		va = max(va, base)
		for stop := min(end, base+amd64.LeafSpan); va < stop; va += PageSize {
			entry := &table[amd64.Index(va)]
			old := *entry
			switch {
			case old == 0 || old&entrySoftware != 0:
			case old&amd64.EntryAccessed != 0:
				*entry = old &^ amd64.EntryAccessed
				as.table.Changed(va)
			default:
				*entry = 0
				as.table.Changed(va)
				as.uncount(old)
				as.table.Drop(old.Frame())
			}
		}
		metal.CondResched()
	}
}

// SharedMemory is memory without a file that several mappings share: what MAP_SHARED|MAP_ANONYMOUS
// makes. Its frames exist once they are touched. It is a Mappable, and freed when neither its maker
// nor a mapping holds it.
type SharedMemory struct {
	size     uint64
	number   uint64 // its inode number
	charged  int64  // pages counted in committed
	refs     atomic.Int64
	mappings Mappings

	mu    sync.Mutex
	table amd64.PageTable // offset to frame; guarded by mu
}

var sharedNumbers atomic.Uint64

// sharedDevice is the device number of the file system that shared memory seems to be on.
const sharedDevice = 1

// maxShared is what SharedMemory's table can index.
const maxShared = 1 << 47

// NewSharedMemory makes size bytes of shared memory, held by the caller until MapClose. noReserve: it
// doesn't count in Committed. ENOMEM.
func NewSharedMemory(size uint64, noReserve bool) (*SharedMemory, error) {
	size = roundUp(size)
	if size > maxShared || !noReserve && !enough(size/PageSize) {
		return nil, unix.ENOMEM
	}
	s := &SharedMemory{size: size, number: sharedNumbers.Add(1)}
	s.refs.Store(1)
	if !s.table.InitSparse() {
		return nil, unix.ENOMEM
	}
	if !noReserve {
		s.charged = int64(size / PageSize)
		committed.Add(s.charged)
	}
	return s, nil
}

// MapFrame implements Mappable.
func (s *SharedMemory) MapFrame(off uint64, write bool) (uint64, error) {
	if off >= s.size {
		return 0, unix.EFAULT
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := s.table.Entry(off)
	if entry == nil {
		return 0, unix.ENOMEM
	}
	if *entry == 0 {
		pa, ok := metal.AllocFrame(metal.OwnerProgram)
		if !ok {
			return 0, unix.ENOMEM
		}
		metal.Zero(pa, PageSize)
		*entry = amd64.Entry(pa)
	}
	pa := entry.Frame()
	metal.Ref(pa)
	return pa, nil
}

// MapName implements Mappable with the name that Linux shows.
func (s *SharedMemory) MapName() string { return "/dev/zero (deleted)" }

// Ident implements Mappable.
func (s *SharedMemory) Ident() (dev, ino uint64) { return sharedDevice, s.number }

// Mappings implements Tracked.
func (s *SharedMemory) Mappings() *Mappings { return &s.mappings }

// Resident implements Residence.
func (s *SharedMemory) Resident(off uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := s.table.Lookup(off)
	return off < s.size && entry != nil && *entry != 0
}

// ResidentBytes returns how much of it has frames.
func (s *SharedMemory) ResidentBytes() (bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for off := uint64(0); off < s.size; {
		table, base := s.table.Next(off, s.size)
		if table == nil {
			break
		}
		off = max(off, base)
		for stop := min(s.size, base+amd64.LeafSpan); off < stop; off += PageSize {
			if table[amd64.Index(off)] != 0 {
				bytes += PageSize
			}
		}
	}
	return bytes
}

// MapPunch implements Puncher.
func (s *SharedMemory) MapPunch(off, end uint64) error {
	s.empty(off, min(end, s.size))
	s.mappings.Unmap(off, end, false)
	return nil
}

// empty drops the frames of [off, end).
func (s *SharedMemory) empty(off, end uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for off < end {
		table, base := s.table.Next(off, end)
		if table == nil {
			break
		}
		off = max(off, base)
		for stop := min(end, base+amd64.LeafSpan); off < stop; off += PageSize {
			if entry := &table[amd64.Index(off)]; *entry != 0 {
				metal.Unref(entry.Frame())
				*entry = 0
			}
		}
		metal.CondResched()
	}
}

// MapOpen implements Counted.
func (s *SharedMemory) MapOpen() { s.refs.Add(1) }

// MapClose implements Counted, and ends the maker's hold.
func (s *SharedMemory) MapClose() {
	if s.refs.Add(-1) != 0 {
		return
	}
	s.empty(0, s.size)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.Destroy()
	committed.Add(-s.charged)
}

// Key names a futex: two threads that mean the same word have the same Key, which is comparable.
type Key struct {
	space         *AddressSpace // nil for memory that is shared
	dev, ino, off uint64
}

// FutexKey returns the key of the futex at addr. shared: FUTEX_PRIVATE_FLAG isn't set, so the word may
// be in memory that other processes map; it must be mapped then. EINVAL for an address that isn't
// aligned, EFAULT.
func (as *AddressSpace) FutexKey(addr uint64, shared bool) (Key, error) {
	if addr&3 != 0 {
		return Key{}, unix.EINVAL
	}
	if addr >= UserEnd {
		return Key{}, unix.EFAULT
	}
	if !shared {
		return Key{space: as, off: addr}, nil
	}
	key, ofFile, err := as.sharedKey(addr)
	if err == nil && ofFile {
		// Beyond the end of a file there is no word.
		if _, err := as.ReadUint32(addr); err != nil {
			return Key{}, unix.EFAULT
		}
	}
	return key, err
}

func (as *AddressSpace) sharedKey(addr uint64) (key Key, ofFile bool, err error) {
	as.lock()
	defer as.unlock()
	v := as.reach(addr)
	if v == nil || v.flags&vmAccess == 0 {
		return Key{}, false, unix.EFAULT
	}
	if v.flags&vmMayShare == 0 {
		return Key{space: as, off: addr}, false, nil
	}
	_, anonymous := v.back.file.(*SharedMemory)
	key.off = v.fileOffset(addr)
	key.dev, key.ino = v.back.file.Ident()
	return key, !anonymous, nil
}
