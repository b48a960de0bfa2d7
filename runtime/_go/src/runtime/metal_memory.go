package runtime

import (
	"unsafe"
)

// The kernel's own memory: the window of the Go runtime's reservations and the BSS, both
// demand-zero, and the mappings of device registers.

var metalMemory = struct {
	next    uintptr // end of the window's part that is reserved
	devices uintptr // end of the device area's part that is mapped
}{next: metalWindow, devices: metalDevices}

// metalMmap serves the runtime's mmap. A reservation without MAP_FIXED gets the next addresses of
// the window, whatever its hint says; making reserved memory accessible is nothing, since the
// window is demand-zero throughout.
//
//go:nosplit
func metalMmap(addr, n uintptr, prot, flags, fd int32, off uint32) (p uintptr, err int) {
	if flags&_MAP_FIXED != 0 {
		return addr, 0
	}
	m := &metalMemory
	n = (n + metalPage - 1) &^ (metalPage - 1)
	if n == 0 || n > metalWindowEnd-m.next {
		return 0, _ENOMEM
	}
	p = m.next
	m.next += n
	return p, 0
}

// metalMunmap gives the frames of [addr, addr+n) back, and the addresses if they are the last ones
// that were reserved, as they are when the runtime drops a reservation it doesn't like.
//
//go:nosplit
func metalMunmap(addr, n uintptr) {
	metalDiscard(addr, n)
	if m := &metalMemory; addr+n == m.next && addr >= metalWindow {
		m.next = addr
	}
}

// metalMadvise serves the runtime's madvise: memory that isn't needed goes back; it is zero when
// it is touched again.
//
//go:nosplit
func metalMadvise(addr, n uintptr, advice int32) int32 {
	if advice == _MADV_DONTNEED || advice == _MADV_FREE {
		metalDiscard(addr, n)
	}
	return 0
}

// metalDiscard unmaps and frees what is mapped of [addr, addr+n).
//
//go:nosplit
func metalDiscard(addr, n uintptr) {
	for va := addr; va < addr+n; {
		table := metalBootInfo.root
		level := uint(3)
		for ; level > 0; level-- {
			entry := metalPhys64(table + (va>>(12+9*level)&511)*8)
			if entry&metalPresent == 0 {
				break
			}
			table = entry & metalFrame
		}
		span := uintptr(1) << (12 + 9*level)
		if level == 0 {
			at := table + (va>>12&511)*8
			if entry := metalPhys64(at); entry&metalPresent != 0 {
				metalSetEntry(at, 0)
				metalInvalidate(va)
				metalUnref(entry & metalFrame)
			}
		}
		va = (va + span) &^ (span - 1)
	}
}

// metalAround is how many frames a fault maps: most touched memory of the Go heap is touched
// upwards, and a fault costs more than clearing a page.
const metalAround = 4

// metalDemandZero maps a cleared frame where the kernel touched its demand-zero memory at va, and
// reports whether va lies in such memory.
//
//go:nosplit
func metalDemandZero(va uintptr) bool {
	end := metalMemory.next
	if va < metalWindow || va >= end {
		if va < elverImage.dataEnd || va >= elverImage.bssEnd {
			return false
		}
		end = elverImage.bssEnd
	}
	va &^= metalPage - 1
	at := metalTable(va, 0)
	for i := 0; i < metalAround; i++ {
		if i > 0 && (va&(metalHuge-1) == 0 || va >= end || metalPhys64(at)&metalPresent != 0) {
			break
		}
		pa := metalAllocFrame(metalOwnerGoHeap)
		if pa == 0 {
			if i > 0 {
				break
			}
			metalDie("elver: the kernel is out of memory: pass a larger -m\n")
		}
		metalClear(metalDirectMap+pa, metalPage)
		metalSetEntry(at, pa|metalPresent|metalWrite|metalGlobal|metalBootInfo.nx)
		va += metalPage
		at += 8
	}
	return true
}

// metal_MapDevice maps n bytes of device registers at the physical address pa, uncached, and
// returns their virtual address. The mapping lasts.
//
//go:linkname metal_MapDevice elver/runtime/metal.MapDevice
//go:nosplit
func metal_MapDevice(pa uint64, n int) uintptr {
	m := &metalMemory
	first := uintptr(pa) &^ (metalPage - 1)
	va := m.devices
	for at := first; at < uintptr(pa)+uintptr(n); at += metalPage {
		metalSetEntry(metalTable(m.devices, 0), at|metalPresent|metalWrite|metalUncached|metalThrough|metalGlobal|metalBootInfo.nx)
		m.devices += metalPage
	}
	return va + uintptr(pa) - first
}

//go:linkname metal_KernelRoot elver/runtime/metal.KernelRoot
//go:nosplit
func metal_KernelRoot() uint64 { return uint64(metalBootInfo.root) }

// metalCPUIDBit reports a bit of CPUID leaf: register 0 to 3 is EAX, EBX, ECX, EDX.
//
//go:nosplit
func metalCPUIDBit(leaf uint32, register, bit uint) bool {
	var out [4]uint32
	metalCPUID(leaf&0x80000000, 0, &out)
	if out[0] < leaf {
		return false
	}
	metalCPUID(leaf, 0, &out)
	return out[register&3]>>bit&1 != 0
}

// metalSeed fills 16 bytes at va for the runtime's hash seeds and the kernel's random pool: from
// RDSEED or RDRAND where the CPU has one, stirred with the time stamp counter in any case.
//
//go:nosplit
func metalSeed(va uintptr) {
	rdrand, rdseed := metalCPUIDBit(1, 2, 30), metalCPUIDBit7(1, 18)
	state := metalRDTSC() ^ uint64(va)
	for i := uintptr(0); i < 2; i++ {
		for j := 0; j < 8; j++ {
			state ^= metalRDTSC()
			state ^= metalHardwareRandom(rdseed, rdrand)
			// SplitMix64's finalizer (Steele, Lea, Flood, 2014).
			state += 0x9e3779b97f4a7c15
			state = (state ^ state>>30) * 0xbf58476d1ce4e5b9
			state = (state ^ state>>27) * 0x94d049bb133111eb
			state ^= state >> 31
		}
		*(*uint64)(unsafe.Pointer(va + 8*i)) = state
	}
}

//go:nosplit
func metalHardwareRandom(rdseed, rdrand bool) uint64 {
	for i := 0; i < 10; i++ {
		if rdseed {
			if v, ok := metalRDSEED(); ok {
				return v
			}
		}
		if rdrand {
			if v, ok := metalRDRAND(); ok {
				return v
			}
		}
	}
	return 0
}

//go:nosplit
func metalCPUIDBit7(register, bit uint) bool {
	var out [4]uint32
	metalCPUID(0, 0, &out)
	if out[0] < 7 {
		return false
	}
	metalCPUID(7, 0, &out)
	return out[register&3]>>bit&1 != 0
}

// metal_Random fills p from the hardware's generator; hardware is false if the CPU has none, and
// then p depends on the time stamp counter alone.
//
//go:linkname metal_Random elver/runtime/metal.Random
func metal_Random(p []byte) (hardware bool) {
	var seed [16]byte
	for len(p) > 0 {
		metalSeed(uintptr(unsafe.Pointer(&seed)))
		p = p[copy(p, seed[:]):]
	}
	return metalCPUIDBit(1, 2, 30) || metalCPUIDBit7(1, 18)
}

// metalGetrandom serves getrandom for packages of the standard library.
//
//go:nosplit
func metalGetrandom(p, n uintptr) uintptr {
	var seed [16]byte
	for i := uintptr(0); i < n; i++ {
		if i%16 == 0 {
			metalSeed(uintptr(unsafe.Pointer(&seed)))
		}
		*(*byte)(unsafe.Pointer(p + i)) = seed[i%16]
	}
	return n
}

// metalSyscall6 serves the raw Linux system calls that are left in Go's runtime and libraries:
// fcntl of the standard descriptors (checkfds) and getrandom. Nothing else reaches an OS here.
//
//go:nosplit
//go:linkname metalSyscall6
func metalSyscall6(num, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr) {
	switch num {
	case 72: // fcntl
		return 0, 0, 0
	case 318: // getrandom
		return metalGetrandom(a1, a2), 0, 0
	}
	return ^uintptr(0), 0, _ENOSYS
}

//go:linkname metal_clearMemory elver/runtime/metal.clearMemory
//go:nosplit
func metal_clearMemory(p unsafe.Pointer, n uintptr) { metalClear(uintptr(p), n) }

//go:linkname metal_ImageStart elver/runtime/metal.ImageStart

func metal_ImageStart() uint64 { return uint64(elverImage.physStart) }

//go:linkname metal_BootInfo elver/runtime/metal.BootInfo
//go:nosplit
func metal_BootInfo() (magic uint32, info, entryTSC uint64) {
	b := &metalBootInfo
	return uint32(b.magic), uint64(b.info), b.entryTSC
}

//go:linkname metal_Viewable elver/runtime/metal.Viewable
//go:nosplit
func metal_Viewable(pa uint64, n int) bool {
	b := &metalBootInfo
	end := uintptr(pa) + uintptr(n)
	return n >= 0 && end >= uintptr(pa) && (end <= b.lowTop || uintptr(pa) >= metalBootMap && end <= b.top)
}

//go:linkname metal_textBounds elver/runtime/metal.textBounds
func metal_textBounds() (start, end uint64) {
	return uint64(elverImage.textStart), uint64(elverImage.textEnd)
}

//go:linkname metal_MachineSize elver/runtime/metal.MachineSize
//go:nosplit
func metal_MachineSize() uint64 {
	b := &metalBootInfo
	return uint64(b.lowTop + max(b.top, metalBootMap) - metalBootMap)
}

// metal_SetLeastHeap has the collector leave the heap alone until it has n bytes, as it does by itself until 4 MiB.
//
//go:linkname metal_SetLeastHeap elver/runtime/metal.SetLeastHeap
func metal_SetLeastHeap(n uint64) {
	systemstack(func() {
		lock(&mheap_.lock)
		gcController.heapMinimum = n
		gcControllerCommit()
		unlock(&mheap_.lock)
	})
}
