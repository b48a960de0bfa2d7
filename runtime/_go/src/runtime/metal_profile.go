package runtime

import "unsafe"

// A CPU profile of the kernel. While one is taken, and only then, the timer interrupts kernel mode
// too: code between user mode and user mode runs with interrupts on, but with a task priority
// (CR8; Intel SDM vol. 3, 11.8.6) that lets only the timer's vector through. A device's interrupt would come
// again and again until the goroutine that serves it could run.

const (
	metalProfileSlots  = 4096 // different stacks that are told apart; a power of two
	metalProfileDepth  = 30   // frames of a stack
	metalProfilePeriod = 1e6  // ns

	metalPriorityTimer = metalVectorTimer>>4 - 1 // of CR8
)

// metalStack is a stack that was seen, innermost frame first. A sample of user mode has the one frame 0.
type metalStack struct {
	count uint64
	depth uint64
	pc    [metalProfileDepth]uintptr
}

// metalProfile is in the data section: interrupts look at it before BSS can be touched.
var metalProfile = struct {
	alive uintptr
	slots uintptr // of [metalProfileSlots]metalStack; 0: no profile is taken
	lost  uint64  // samples of stacks that found no slot
	idle  bool    // the CPU halts: nobody's time
}{alive: 1}

// metal_StartProfile starts to take samples, which metal_Profile returns.
//
//go:linkname metal_StartProfile elver/runtime/metal.StartProfile
func metal_StartProfile() {
	const size = metalProfileSlots * unsafe.Sizeof(metalStack{})
	slots := persistentalloc(size, 64, &memstats.other_sys)
	memclrNoHeapPointers(slots, size) // an interrupt touches no page that isn't there
	metalProfile.slots = uintptr(slots)
}

// metal_ProfiledStack copies the stack in slot i to pcs and returns how often it was seen: 0 if the slot is
// empty, and whether there is a slot i.
//
//go:linkname metal_ProfiledStack elver/runtime/metal.profiledStack
func metal_ProfiledStack(i int, pcs *[metalProfileDepth]uintptr) (count uint64, depth int, ok bool) {
	if metalProfile.slots == 0 || uint(i) >= metalProfileSlots {
		return 0, 0, false
	}
	s := metalStackAt(uintptr(i))
	*pcs = s.pc
	return s.count, int(s.depth), true
}

//go:nosplit
func metalStackAt(i uintptr) *metalStack {
	return (*metalStack)(unsafe.Pointer(metalProfile.slots + i*unsafe.Sizeof(metalStack{})))
}

// metalSample counts a sample of the code at pc whose frame pointer is bp.
//
//go:nosplit
func metalSample(pc, bp uintptr) {
	var stack metalStack
	stack.pc[0] = pc
	n := uintptr(1)
	hash := pc
	for n < metalProfileDepth && pc != 0 && metalOnStack(bp) {
		// The caller's frame pointer, and where the call returns to.
		next, back := *(*uintptr)(unsafe.Pointer(bp)), *(*uintptr)(unsafe.Pointer(bp + 8))
		if back == 0 {
			break
		}
		stack.pc[n&31%metalProfileDepth] = back
		n++
		hash = (hash<<5 | hash>>59) ^ back
		if next <= bp {
			break
		}
		bp = next
	}
	hash *= 0x9e3779b97f4a7c15
	for try := uintptr(0); try < 16; try++ {
		s := metalStackAt((hash>>40 + try) & (metalProfileSlots - 1))
		if s.count == 0 {
			s.depth, s.pc = uint64(n), stack.pc
		} else if s.depth != uint64(n) || s.pc != stack.pc {
			continue
		}
		s.count++
		return
	}
	metalProfile.lost++
}

// metalOnStack reports whether a frame at bp lies on the stack of the running g, or of the goroutine that
// it works for.
//
//go:nosplit
func metalOnStack(bp uintptr) bool {
	gp := getg()
	if gp == nil || bp&7 != 0 {
		return false
	}
	if gp.stack.lo <= bp && bp+16 <= gp.stack.hi {
		return true
	}
	if gp.m == nil || gp.m.curg == nil {
		return false
	}
	gp = gp.m.curg
	return gp.stack.lo <= bp && bp+16 <= gp.stack.hi
}

// metalTimerInKernel takes a sample of the kernel code that the timer interrupted, and arms it again.
//
//go:nosplit
func metalTimerInKernel(f *metalTrapFrame) {
	metalSample(f.rip, f.rbp)
	metalArm(metalNanotime() + metalProfilePeriod)
}

// metal_OpenKernel lets the timer interrupt the kernel from now on, and metal_CloseKernel ends that, if a
// profile is taken: they enclose what runs between user mode and user mode.
//
//go:linkname metal_OpenKernel elver/runtime/metal.OpenKernel
//go:nosplit
func metal_OpenKernel() {
	metalSetPriority(metalPriorityTimer)
	metalInterruptsOn()
}

//go:linkname metal_CloseKernel elver/runtime/metal.CloseKernel
//go:nosplit
func metal_CloseKernel() {
	metalInterruptsOff()
	metalSetPriority(0)
}
