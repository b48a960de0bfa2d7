package vfs

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A descriptor table is two levels of pointers, so that a high descriptor costs no more than the
// chunk it stands in.
const (
	chunkFDs  = 256
	maxChunks = 1 << 20 / chunkFDs // up to /proc/sys/fs/nr_open
)

type chunk struct {
	files   [chunkFDs]atomic.Pointer[Description]
	open    [chunkFDs / 64]uint64 // reserved or in use; guarded by FDTable.mu
	cloexec [chunkFDs / 64]uint64 // guarded by FDTable.mu
}

// FDTable maps file descriptors to open file descriptions. Looking one up takes no lock.
type FDTable struct {
	refs   atomic.Int32 // processes that share the table
	chunks atomic.Pointer[[]*chunk]
	low    chunk // the first chunk

	mu   sync.Mutex
	hint int // no descriptor below is free
	used int
}

// NewFDTable returns an empty table with one reference.
func NewFDTable() *FDTable {
	t := &FDTable{}
	t.refs.Store(1)
	t.chunks.Store(&[]*chunk{&t.low})
	return t
}

// Get returns the description that fd stands for, with a reference that Decref ends: EBADF if there
// is none.
func (t *FDTable) Get(fd int32) (*Description, error) {
	if uint32(fd) < chunkFDs {
		if d := t.low.files[fd].Load(); d != nil && d.Take() {
			return d, nil
		}
	}
	return t.getSlowly(fd)
}

// Peek returns the description that fd stands for, without a reference, or nil if there is none or fd is high:
// enough to see how the file was opened.
func (t *FDTable) Peek(fd int32) *Description {
	if uint32(fd) < chunkFDs {
		return t.low.files[fd].Load()
	}
	return nil
}

func (t *FDTable) getSlowly(fd int32) (*Description, error) {
	for {
		chunks := *t.chunks.Load()
		i := uint32(fd) / chunkFDs
		if i >= uint32(len(chunks)) || chunks[i] == nil {
			return nil, unix.EBADF
		}
		d := chunks[i].files[uint32(fd)%chunkFDs].Load()
		if d == nil {
			return nil, unix.EBADF
		}
		if d.tryIncref() {
			return d, nil
		}
	}
}

// at returns the chunk of fd, making it if need be. Precondition: mu is held, fd is below maxFDs.
func (t *FDTable) at(fd int) *chunk {
	chunks := *t.chunks.Load()
	i := fd / chunkFDs
	if i < len(chunks) && chunks[i] != nil {
		return chunks[i]
	}
	grown := make([]*chunk, max(i+1, len(chunks)))
	copy(grown, chunks)
	grown[i] = new(chunk)
	t.chunks.Store(&grown)
	return grown[i]
}

func (t *FDTable) isOpen(fd int) bool {
	chunks := *t.chunks.Load()
	i := fd / chunkFDs
	return i < len(chunks) && chunks[i] != nil && chunks[i].open[fd%chunkFDs/64]>>(fd%64)&1 != 0
}

// reserve finds the lowest free descriptor from min up, and takes it.
// Precondition: mu is held.
func (t *FDTable) reserve(min int, limit uint64, cloexec bool) (int, error) {
	limit = clampLimit(limit)
	fd := max(min, t.hint)
	chunks := *t.chunks.Load()
	for uint64(fd) < limit {
		i := fd / chunkFDs
		if i >= len(chunks) || chunks[i] == nil {
			break
		}
		free := ^chunks[i].open[fd%chunkFDs/64] >> (fd % 64)
		if free != 0 {
			fd += bits.TrailingZeros64(free)
			break
		}
		fd = fd&^63 + 64
	}
	if uint64(fd) >= limit {
		return 0, unix.EMFILE
	}
	if min <= t.hint {
		t.hint = fd + 1
	}
	t.mark(fd, cloexec)
	return fd, nil
}

// HasRoom returns EMFILE if Install with that limit would: for who must not make a file in vain.
func (t *FDTable) HasRoom(limit uint64) error {
	limit = clampLimit(limit)
	t.mu.Lock()
	defer t.mu.Unlock()
	if uint64(t.used) < limit {
		return nil
	}
	for fd := range limit { // some may be above a limit that was lowered
		if !t.isOpen(int(fd)) {
			return nil
		}
	}
	return unix.EMFILE
}

func clampLimit(limit uint64) uint64 { return min(limit, maxChunks*chunkFDs) }

// mark takes fd. Precondition: mu is held, fd is free.
func (t *FDTable) mark(fd int, cloexec bool) {
	c := t.at(fd)
	word, bit := fd%chunkFDs/64, uint64(1)<<(fd%64)
	c.open[word] |= bit
	if cloexec {
		c.cloexec[word] |= bit
	} else {
		c.cloexec[word] &^= bit
	}
	t.used++
}

// Install gives d the lowest free descriptor from min up. It takes over the caller's reference, on
// failure too. EMFILE: limit (RLIMIT_NOFILE) is reached.
func (t *FDTable) Install(d *Description, min int, limit uint64, cloexec bool) (int, error) {
	if min < 0 || uint64(min) >= clampLimit(limit) && min > 0 {
		d.Decref()
		return 0, unix.EINVAL
	}
	t.mu.Lock()
	fd, err := t.reserve(min, limit, cloexec)
	if err != nil {
		t.mu.Unlock()
		d.Decref()
		return 0, err
	}
	t.at(fd).files[fd%chunkFDs].Store(d)
	t.mu.Unlock()
	return fd, nil
}

// InstallAt makes fd stand for d, closing what it stood for. It takes over the caller's reference.
// EBADF: fd is not below limit.
func (t *FDTable) InstallAt(d *Description, fd int, limit uint64, cloexec bool) error {
	if fd < 0 || uint64(fd) >= clampLimit(limit) {
		d.Decref()
		return unix.EBADF
	}
	t.mu.Lock()
	if t.isOpen(fd) {
		t.used--
	}
	t.mark(fd, cloexec)
	old := t.at(fd).files[fd%chunkFDs].Swap(d)
	t.mu.Unlock()
	if old != nil {
		old.leaveTable(t)
	}
	return nil
}

// remove takes fd out of the table and returns what it stood for. Precondition: mu is held.
func (t *FDTable) remove(fd int) *Description {
	if fd < 0 || !t.isOpen(fd) {
		return nil
	}
	c := t.at(fd)
	d := c.files[fd%chunkFDs].Swap(nil)
	if d == nil {
		return nil
	}
	word, bit := fd%chunkFDs/64, uint64(1)<<(fd%64)
	c.open[word] &^= bit
	c.cloexec[word] &^= bit
	t.used--
	t.hint = min(t.hint, fd)
	return d
}

// Close closes fd: EBADF if it is not open.
func (t *FDTable) Close(fd int32) error {
	t.mu.Lock()
	d := t.remove(int(fd))
	t.mu.Unlock()
	if d == nil {
		return unix.EBADF
	}
	d.leaveTable(t)
	return nil
}

// CloseRange closes the descriptors first to last, or only marks them to be closed by execve.
func (t *FDTable) CloseRange(first, last uint32, onlyCloexec bool) {
	const wordFDs = 64
	var gone [wordFDs]*Description
	for start := first &^ (wordFDs - 1); start <= last; start += wordFDs {
		t.mu.Lock()
		chunks := *t.chunks.Load()
		i := int(start / chunkFDs)
		if i >= len(chunks) {
			t.mu.Unlock()
			return
		}
		n := 0
		if c := chunks[i]; c != nil {
			word := start % chunkFDs / wordFDs
			b := c.open[word]
			if start < first {
				b &= ^uint64(0) << (first - start)
			}
			if last-start < wordFDs-1 {
				b &= 1<<(last-start+1) - 1
			}
			if onlyCloexec {
				c.cloexec[word] |= b
				b = 0
			}
			closed := b
			for ; b != 0; b &= b - 1 {
				file := &c.files[(start+uint32(bits.TrailingZeros64(b)))%chunkFDs]
				if d := file.Load(); d != nil {
					file.Store(nil)
					gone[n] = d
					n++
				} else {
					closed &^= b & -b // reserved only
				}
			}
			if n > 0 {
				c.open[word] &^= closed
				c.cloexec[word] &^= closed
				t.used -= n
				t.hint = min(t.hint, int(start)+bits.TrailingZeros64(closed))
			}
		}
		t.mu.Unlock()
		for i, d := range gone[:n] {
			d.leaveTable(t)
			gone[i] = nil
		}
	}
}

// Is says whether fd stands for d.
func (t *FDTable) Is(fd int32, d *Description) bool {
	chunks := *t.chunks.Load()
	i := uint32(fd) / chunkFDs
	return i < uint32(len(chunks)) && chunks[i] != nil && chunks[i].files[uint32(fd)%chunkFDs].Load() == d
}

// Cloexec returns whether fd has FD_CLOEXEC.
func (t *FDTable) Cloexec(fd int32) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd < 0 || !t.isOpen(int(fd)) {
		return false, unix.EBADF
	}
	return t.at(int(fd)).cloexec[fd%chunkFDs/64]>>(fd%64)&1 != 0, nil
}

// SetCloexec sets or clears FD_CLOEXEC of fd.
func (t *FDTable) SetCloexec(fd int32, on bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd < 0 || !t.isOpen(int(fd)) {
		return unix.EBADF
	}
	c := t.at(int(fd))
	word, bit := fd%chunkFDs/64, uint64(1)<<(fd%64)
	if on {
		c.cloexec[word] |= bit
	} else {
		c.cloexec[word] &^= bit
	}
	return nil
}

// List returns the open descriptors in order.
func (t *FDTable) List() []int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var fds []int32
	for i, c := range *t.chunks.Load() {
		for w := 0; c != nil && w < len(c.open); w++ {
			for b := c.open[w]; b != 0; b &= b - 1 {
				fds = append(fds, int32(i*chunkFDs+w*64+bits.TrailingZeros64(b)))
			}
		}
	}
	return fds
}

// Used returns how many descriptors are open.
func (t *FDTable) Used() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}

// copy returns a table of its own with the same descriptors.
func (t *FDTable) copy() *FDTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := NewFDTable()
	chunks := *t.chunks.Load()
	copies := make([]*chunk, len(chunks))
	for i, c := range chunks {
		if c == nil {
			continue
		}
		to := &n.low
		if i > 0 {
			to = new(chunk)
		}
		copies[i] = to
		for word, open := range c.open {
			for b := open; b != 0; b &= b - 1 {
				fd := word*64 + bits.TrailingZeros64(b)
				d := c.files[fd%chunkFDs].Load()
				if d == nil {
					open &^= b & -b // reserved only
					continue
				}
				d.Incref() // the table's own reference can't end while mu is held
				to.files[fd%chunkFDs].Store(d)
				n.used++
			}
			to.open[word], to.cloexec[word] = open, c.cloexec[word]&open
		}
	}
	n.chunks.Store(&copies)
	return n
}

// closeOnExec closes what has FD_CLOEXEC.
func (t *FDTable) closeOnExec() {
	var gone []*Description
	t.mu.Lock()
	for i, c := range *t.chunks.Load() {
		for w := 0; c != nil && w < len(c.open); w++ {
			for b := c.open[w] & c.cloexec[w]; b != 0; b &= b - 1 {
				if d := t.remove(i*chunkFDs + w*64 + bits.TrailingZeros64(b)); d != nil {
					gone = append(gone, d)
				}
			}
		}
	}
	t.mu.Unlock()
	for _, d := range gone {
		d.leaveTable(t)
	}
}

// drop ends one process's use of the table, and closes everything with the last.
func (t *FDTable) drop() {
	if t.refs.Add(-1) == 0 {
		t.CloseRange(0, ^uint32(0)>>1, false)
	}
}
