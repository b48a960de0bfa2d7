//go:build !elver

package metal

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// The host's arena: ordinary memory whose offset plus arenaBase is the physical address. Frame
// number 0 stays out of it, so that pa 0 is never a frame, as on the machine.
const (
	arenaBase   = 1 << 20
	arenaFrames = 256 << 20 / FrameSize
	reserve     = 64
)

var arena struct {
	mu     sync.Mutex
	memory []byte
	refs   [arenaFrames]uint32
	owner  [arenaFrames]Owner
	huge   [arenaFrames]bool
	next   int // where the search for a free frame starts
	limit  uint64
	used   uint64
	peak   uint64 // guarded by mu: the most that were used
	counts [Owners]uint64
	whole  uint64 // of the program's frames, those in 2 MiB frames
}

func init() {
	m, err := syscall.Mmap(-1, 0, arenaFrames*FrameSize+HugeSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		panic(fmt.Sprintf("metal: no arena for the frames of a host test: %v", err))
	}
	pad := -uintptr(unsafe.Pointer(&m[0])) & (HugeSize - 1)
	arena.memory = m[pad : pad+arenaFrames*FrameSize]
	arena.limit = arenaFrames
}

// SetArenaFrames limits the arena to n frames for a test that runs out of memory, and returns the
// former limit. It exists on the host alone.
func SetArenaFrames(n uint64) uint64 {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	old := arena.limit
	arena.limit = min(n, arenaFrames)
	return old
}

func index(pa uint64) int {
	if pa < arenaBase || pa >= arenaBase+arenaFrames*FrameSize {
		panic(fmt.Sprintf("metal: %#x is not a frame", pa))
	}
	return int((pa - arenaBase) / FrameSize)
}

// AllocFrame returns a frame of 4 KiB with one reference and undefined contents. ok is false when
// no frame is free, and for the program, the page cache and the balloon when only the reserve is.
func AllocFrame(o Owner) (pa uint64, ok bool) {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if !available(o, 1) {
		return 0, false
	}
	for range arenaFrames {
		i := arena.next
		arena.next = (i + 1) % arenaFrames
		if arena.refs[i] == 0 {
			take(i, o)
			return arenaBase + uint64(i)*FrameSize, true
		}
	}
	return 0, false
}

// AllocHuge returns 2 MiB of aligned memory as one frame with one reference, or ok false.
func AllocHuge(o Owner) (pa uint64, ok bool) {
	const n = HugeSize / FrameSize
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if !available(o, n) {
		return 0, false
	}
search:
	for i := (HugeSize - arenaBase) / FrameSize; i+n <= arenaFrames; i += n {
		for j := range n {
			if arena.refs[i+j] != 0 {
				continue search
			}
		}
		for j := range n {
			take(i+j, o)
		}
		arena.huge[i] = true
		if o == OwnerProgram {
			arena.whole += n
		}
		return arenaBase + uint64(i)*FrameSize, true
	}
	return 0, false
}

func available(o Owner, n uint64) bool {
	keep := uint64(0)
	if o == OwnerProgram || o == OwnerPageCache || o == OwnerBalloon {
		keep = reserve
	}
	return arena.used+n+keep <= arena.limit
}

func take(i int, o Owner) {
	arena.refs[i] = 1
	arena.owner[i] = o
	arena.used++
	arena.peak = max(arena.peak, arena.used)
	arena.counts[o]++
}

// counted returns the index of the frame that counts the references of the one at pa: the first of a
// 2 MiB frame. Precondition: arena.mu is held.
func counted(pa uint64) int {
	i := index(pa)
	if head := i - int(pa%HugeSize/FrameSize); head >= 0 && arena.huge[head] {
		i = head
	}
	if arena.refs[i] == 0 {
		panic(fmt.Sprintf("metal: a reference to the free frame %#x", pa))
	}
	return i
}

// Ref adds a reference to the frame at pa.
func Ref(pa uint64) {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	arena.refs[counted(pa)]++
}

// Unref drops a reference of the frame (4 KiB or 2 MiB) at pa, frees it with the last one, and
// returns how many are left.
func Unref(pa uint64) uint32 {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	return unref(pa)
}

// unref is Unref. Precondition: arena.mu is held.
func unref(pa uint64) uint32 {
	i := counted(pa)
	arena.refs[i]--
	left := arena.refs[i]
	if left != 0 {
		return left
	}
	n := 1
	if arena.huge[i] {
		n = HugeSize / FrameSize
		forgetHuge(i)
	}
	for j := range n {
		arena.refs[i+j] = 0
		arena.used--
		arena.counts[arena.owner[i+j]]--
	}
	return 0
}

// forgetHuge makes frame i no longer the first of a 2 MiB frame. Precondition: arena.mu is held.
func forgetHuge(i int) {
	arena.huge[i] = false
	if arena.owner[i] == OwnerProgram {
		arena.whole -= HugeSize / FrameSize
	}
}

// Refs returns how many references the frame at pa has.
func Refs(pa uint64) uint32 {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if head := index(pa) - int(pa%HugeSize/FrameSize); head >= 0 && arena.huge[head] {
		return arena.refs[head]
	}
	return arena.refs[index(pa)]
}

// SplitHuge makes the 2 MiB frame at pa 512 frames of 4 KiB, each with as many references as the
// whole had. It does nothing if that was done already.
func SplitHuge(pa uint64) {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	i := index(pa)
	if !arena.huge[i] {
		return
	}
	forgetHuge(i)
	for j := range HugeSize / FrameSize {
		arena.refs[i+j] = arena.refs[i]
	}
}

// RefHuge adds a reference to the 2 MiB frame at pa, or to all the frames that it was split into.
func RefHuge(pa uint64) {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if i := index(pa); arena.huge[i] {
		arena.refs[i]++
		return
	}
	for end := pa + HugeSize; pa < end; pa += FrameSize {
		arena.refs[counted(pa)]++
	}
}

// UnrefHuge drops a reference of the 2 MiB frame at pa, or of all the frames that it was split into.
func UnrefHuge(pa uint64) {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if arena.huge[index(pa)] {
		unref(pa)
		return
	}
	for end := pa + HugeSize; pa < end; pa += FrameSize {
		unref(pa)
	}
}

// WholeRefs returns how many references the 2 MiB frame at pa has, 0 if it was split.
func WholeRefs(pa uint64) uint32 {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if i := index(pa); arena.huge[i] {
		return arena.refs[i]
	}
	return 0
}

// MachineSize returns the size of the arena, in bytes.
func MachineSize() uint64 { return arenaFrames * FrameSize }

// View returns the n bytes of physical memory at pa through the direct map.
func View(pa uint64, n int) []byte {
	i := index(pa) * FrameSize
	i += int(pa % FrameSize)
	return arena.memory[i : i+n : i+n]
}

// Zero clears the frame of size bytes (FrameSize or HugeSize) at pa.
func Zero(pa uint64, size int) { clear(View(pa, size)) }

// Frames returns the counts of frames.
func Frames() Stats {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	s := Stats{Total: arena.limit, Free: arena.limit - arena.used, Least: max(arena.limit, arena.peak) - arena.peak, Reserve: reserve, Huge: arena.whole, ByOwner: arena.counts}
	s.ByOwner[OwnerFree] = s.Free
	return s
}

// FreeFrames is Free and Reserve of Frames.
func FreeFrames() (free, reserve uint64) {
	s := Frames()
	return s.Free, s.Reserve
}

var started = time.Now()

// TSC returns the time stamp counter.
func TSC() uint64 { return uint64(time.Since(started)) }

// Nanotime returns the nanoseconds since the test began.
func Nanotime() int64 { return int64(time.Since(started)) }

// TSCFrequency returns how many TSC ticks a second has.
func TSCFrequency() uint64 { return uint64(time.Second) }

// IdleTime returns for how many nanoseconds the CPU was halted: on the host that isn't known.
func IdleTime() int64 { return 0 }

// CondResched lets other goroutines run if the caller has had the CPU for a whole time slice. Loops
// over work whose size the program chose call it.
func CondResched() {}

// WaitIRQ parks the goroutine until an interrupt came in on vector since the last call.
// One goroutine may wait for a vector.
func WaitIRQ(vector uint8) { select {} }

// Parker is where one goroutine waits to be woken. Its zero value is ready. A Wake that nobody waits for
// stays until the next Park, or until Reset.
type Parker struct {
	once sync.Once
	wake chan struct{}
}

func (p *Parker) channel() chan struct{} {
	p.once.Do(func() { p.wake = make(chan struct{}, 1) })
	return p.wake
}

// Park waits for a Wake.
func (p *Parker) Park() { <-p.channel() }

// Wake ends p's Park, or the next one. Any goroutine may call it; it takes no lock.
func (p *Parker) Wake() {
	select {
	case p.channel() <- struct{}{}:
	default:
	}
}

// Parked says whether no Wake is left over.
func (p *Parker) Parked() bool { return len(p.channel()) == 0 }

// Reset forgets a Wake that is left over. Precondition: nobody is in Park.
func (p *Parker) Reset() {
	select {
	case <-p.channel():
	default:
	}
}

// Idle reports whether no other goroutine could run now: on the host that isn't known.
func Idle() bool { return false }

// Console writes p to the kernel's emergency console (log channel, else serial port).
func Console(p []byte) {}

// Tick lets the other goroutines run.
func Tick() { runtime.Gosched() }

// Viewable reports whether View can show the n bytes at pa.
func Viewable(pa uint64, n int) bool {
	return n >= 0 && pa >= arenaBase && pa < arenaBase+arenaFrames*FrameSize && uint64(n) <= arenaBase+arenaFrames*FrameSize-pa
}

// Random fills p with random bytes, which on the host are good enough for a test.
func Random(p []byte) (hardware bool) {
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return true
}
