//go:build elver

package metal

import (
	"sync/atomic"
	"unsafe"
)

// directMap is where all RAM is mapped.
const directMap = -1 << 47

// AllocFrame returns a frame of 4 KiB with one reference and undefined contents. ok is false when
// no frame is free, and for the program, its page tables, the page cache and the balloon when only
// the reserve is.
func AllocFrame(o Owner) (pa uint64, ok bool)

// AllocHuge returns 2 MiB of aligned memory as one frame with one reference, or ok false.
func AllocHuge(o Owner) (pa uint64, ok bool)

// Ref adds a reference to the frame at pa.
func Ref(pa uint64)

// Unref drops a reference of the frame (4 KiB or 2 MiB) at pa, frees it with the last one, and
// returns how many are left.
func Unref(pa uint64) uint32

// Refs returns how many references the frame at pa has.
func Refs(pa uint64) uint32

// SplitHuge makes the 2 MiB frame at pa 512 frames of 4 KiB, each with as many references as the
// whole had. It does nothing if that was done already.
func SplitHuge(pa uint64)

// RefHuge adds a reference to the 2 MiB frame at pa, or to all the frames that it was split into.
func RefHuge(pa uint64)

// UnrefHuge drops a reference of the 2 MiB frame at pa, or of all the frames that it was split into.
func UnrefHuge(pa uint64)

// WholeRefs returns how many references the 2 MiB frame at pa has, 0 if it was split.
func WholeRefs(pa uint64) uint32

//go:noescape
func frameStats(counts *[5 + Owners]uint64)

// Frames returns the counts of frames.
func Frames() Stats {
	var counts [5 + Owners]uint64
	frameStats(&counts)
	s := Stats{Total: counts[0], Free: counts[1], Reserve: counts[2], Least: counts[3], Huge: counts[4]}
	copy(s.ByOwner[:], counts[5:])
	s.ByOwner[OwnerFree] = s.Free
	return s
}

// FreeFrames is Free and Reserve of Frames, for who asks often.
func FreeFrames() (free, reserve uint64)

// MachineSize returns how much memory the machine has, in bytes: what its owner asked for.
func MachineSize() uint64

// View returns the n bytes of physical memory at pa through the direct map.
func View(pa uint64, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(nil, int(pa)+directMap)), n)
}

// Viewable reports whether View can show the n bytes at pa: they are RAM, or firmware tables behind
// the RAM below 4 GiB.
func Viewable(pa uint64, n int) bool

// Zero clears the frame of size bytes (FrameSize or HugeSize) at pa.
func Zero(pa uint64, size int) { clearMemory(unsafe.Add(nil, int(pa)+directMap), uintptr(size)) }

func clearMemory(p unsafe.Pointer, n uintptr)

// MapDevice maps n bytes of device registers at the physical address pa, uncached, and returns
// their virtual address. The mapping lasts.
func MapDevice(pa uint64, n int) uintptr

// KernelRoot returns the physical address of the kernel's top-level page table, whose upper half
// every address space shares.
func KernelRoot() uint64

// SetLeastHeap has the garbage collector leave the kernel's heap alone until it has n bytes. SetGCPercent undoes it.
func SetLeastHeap(n uint64)

// TSC returns the time stamp counter.
func TSC() uint64

// Nanotime returns the nanoseconds since boot.
func Nanotime() int64

// TSCFrequency returns how many TSC ticks a second has.
func TSCFrequency() uint64

// IdleTime returns for how many nanoseconds the CPU was halted.
func IdleTime() int64

// SetTSCFrequency replaces the measured frequency by one that the hypervisor told.
func SetTSCFrequency(hz uint64)

// RefineClock measures the frequency again, over a longer time than boot could. It returns true when
// the clock is as good as it gets, and otherwise wants to be called again 30 to 50 ms later.
func RefineClock() bool

// Clock returns how time is computed from the time stamp counter: nanoseconds since boot are
// ns + (TSC-tsc)*scale>>32.
func Clock() (tsc, scale uint64, ns int64)

// Tick is called after an interrupt of user mode: it readies the goroutines whose interrupts are
// pending and lets the other goroutines run.
func Tick()

// CondResched lets other goroutines run if the caller has had the CPU for a whole time slice. Loops
// over work whose size the program chose call it.
func CondResched()

// BeforeUser arms the timer for the end of the time slice or the next Go timer. It is called before
// every entry into user mode.
func BeforeUser()

// Note notes an interrupt on vector that came in user mode.
func Note(vector uint64)

// StartProfile starts to take samples of what the CPU does. From then on OpenKernel and CloseKernel are
// called after and before user mode.
func StartProfile()

// OpenKernel lets the profile's timer interrupt the kernel.
func OpenKernel()

// CloseKernel turns interrupts off again.
func CloseKernel()

const profileDepth = 30

func profiledStack(i int, pcs *[profileDepth]uintptr) (count uint64, depth int, ok bool)

// Profile returns the samples that StartProfile's profile has so far.
func Profile() []Sample {
	var samples []Sample
	for i := 0; ; i++ {
		var pcs [profileDepth]uintptr
		count, depth, ok := profiledStack(i, &pcs)
		if !ok {
			return samples
		}
		if count != 0 {
			samples = append(samples, Sample{Count: count, Stack: append([]uintptr(nil), pcs[:depth]...)})
		}
	}
}

// WaitIRQ parks the goroutine until an interrupt came in on vector since the last call.
// One goroutine may wait for a vector.
func WaitIRQ(vector uint8)

// Parker is where one goroutine waits to be woken. Its zero value is ready. A Wake that nobody waits for
// stays until the next Park, or until Reset.
type Parker struct {
	word uintptr // 0, woken, or the goroutine that waits
}

const woken = 1

// Park waits for a Wake.
func (p *Parker) Park() { park(&p.word) }

// Wake ends p's Park, or the next one. Any goroutine may call it; it takes no lock.
func (p *Parker) Wake() {
	for {
		switch g := atomic.LoadUintptr(&p.word); {
		case g == woken:
			return
		case g == 0:
			if atomic.CompareAndSwapUintptr(&p.word, 0, woken) {
				return
			}
		case atomic.CompareAndSwapUintptr(&p.word, g, 0):
			ready(g)
			return
		}
	}
}

// Parked says whether somebody is in Park whom no Wake has ended.
func (p *Parker) Parked() bool { return atomic.LoadUintptr(&p.word) > woken }

// Reset forgets a Wake that is left over. Precondition: nobody is in Park.
func (p *Parker) Reset() { atomic.StoreUintptr(&p.word, 0) }

// Idle reports whether no other goroutine could run now.
func Idle() bool

// park parks the goroutine and stores it in word, unless that isn't 0: then it is set to 0.
func park(word *uintptr)

func ready(g uintptr)

// CPU returns the address of the CPU's block, at which GS base points.
func CPU() unsafe.Pointer

// Console writes p to the kernel's emergency console: the log channel, else the serial port.
func Console(p []byte)

// OnFailure says what completes the report of a kernel failure at rip.
func OnFailure(report func(rip uint64))

// Text returns n bytes of the kernel's text at va, fewer at its end.
func Text(va uint64, n int) []byte {
	start, end := textBounds()
	if va < start || va >= end {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(nil, int(va))), min(uint64(n), end-va))
}

func textBounds() (start, end uint64)

// PortWrite is a write of Size bytes (1 or 2) to an I/O port.
type PortWrite struct {
	Port, Size, Value uint32
}

// SetPowerOff says which port writes, eight at most, switch the machine off when the kernel fails.
func SetPowerOff(writes []PortWrite) {
	for i, w := range writes[:min(len(writes), 8)] {
		setPowerOff(i, w.Port, w.Size, w.Value)
	}
}

func setPowerOff(i int, port, size, value uint32)

// Random fills p from the CPU's generator. hardware is false if it has none: p then depends on the
// time stamp counter alone and needs stirring with more.
func Random(p []byte) (hardware bool)

// ImageStart returns the physical address of the image's first page.
func ImageStart() uint64

// BootInfo returns what the entry got from the boot loader: the protocol's magic number, the
// physical address of its information, and the time stamp counter at the entry.
func BootInfo() (magic uint32, info, entryTSC uint64)

func start()

func init() { start() }
