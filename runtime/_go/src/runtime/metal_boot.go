package runtime

import "unsafe"

// Boot: from the image's 64-bit entry to rt0_go. Everything here runs before the Go runtime, on
// the boot stack, with the boot tables of the entry stub: no allocation, no write barrier, no
// global that lies in BSS (BSS is demand-zero, and the page-fault handler isn't there yet).

// elverImage is filled by the image writer: where the linked image lies.
var elverImage = metalImage{alive: 1}

type metalImage struct {
	textStart, textEnd       uintptr // virtual
	rodataStart, rodataEnd   uintptr
	dataStart, dataEnd       uintptr // of what is in the file
	bssEnd                   uintptr
	physStart                uintptr // physical
	scratchStart, scratchEnd uintptr // boot tables and boot stack, free after boot
	alive                    uintptr // not zero, so that the variable lies in the data section
	_                        [5]uintptr
}

// The virtual layout of the upper half. Its top-level entries are all filled at boot, so that
// every address space shares them by copying the root's upper half once.
const (
	metalDirectMap = 0xffff800000000000 // all RAM
	metalWindow    = 0xffffc00000000000 // the Go runtime's reservations, demand-zero
	metalWindowEnd = 0xffffc08000000000
	metalDevices   = 0xfffffd0000000000 // device registers, uncached
	metalStacks    = 0xfffffe0000000000 // CPU and boot stacks between guard pages
	metalKernel    = 0xffffffff80000000 // the image, at its physical address plus this
	metalBootMap   = 4 << 30            // what the entry stub's direct map covers
)

const (
	metalPage = 4096
	metalHuge = 2 << 20
)

// What the entry stub says in EAX about who started us.
const (
	metalMultiboot = 0x2badb002
	metalPVH       = 0x336ec578
)

type metalRange struct{ start, end uintptr }

// metalBootInfo is what the boot protocol told, in the data section.
var metalBootInfo = struct {
	alive       uintptr
	magic, info uintptr
	entryTSC    uint64
	ram         [64]metalRange // usable memory, as the firmware lists it
	ramCount    int
	keep        [64]metalRange // parts of it that are in use
	keepCount   int
	modules     int // how many of keep, from 0, are boot modules
	top         uintptr
	lowTop      uintptr // end of RAM below 4 GiB, firmware tables behind it included
	root        uintptr
	nx          uintptr // the page-table bit, or 0
}{alive: 1}

// metalBoot is called by the entry on the boot stack. It returns the stack pointer to start the
// Go runtime with.
//
//go:nosplit
func metalBoot(magic, info, scratchEnd uintptr) uintptr {
	b := &metalBootInfo
	b.magic, b.info = magic, info
	b.entryTSC = metalRDTSC()
	metalMaskPICs()
	metalProbeConsole()
	metalKeep(elverImage.physStart, scratchEnd)
	metalKeepBundle()
	switch magic {
	case metalMultiboot:
		metalReadMultiboot()
	case metalPVH:
		metalReadPVH()
	default:
		metalDie("elver: booted by an unknown protocol: use a multiboot or PVH loader\n")
	}
	metalInitFrames()
	metalInitTables()
	metalInitCPU()
	return metalEntryStack()
}

//go:nosplit
func metalPhys32(pa uintptr) uintptr {
	return uintptr(*(*uint32)(unsafe.Pointer(metalDirectMap + pa)))
}

//go:nosplit
func metalPhys64(pa uintptr) uintptr {
	return *(*uintptr)(unsafe.Pointer(metalDirectMap + pa))
}

// metalKeep notes that [start, end) is in use and not to be handed out.
//
//go:nosplit
func metalKeep(start, end uintptr) {
	b := &metalBootInfo
	start &^= metalPage - 1
	end = (end + metalPage - 1) &^ (metalPage - 1)
	if start >= end {
		return
	}
	if b.keepCount == len(b.keep) {
		metalDie("elver: more boot modules than can be kept: pass one initrd\n")
	}
	*(*metalRange)(add(unsafe.Pointer(&b.keep), uintptr(b.keepCount)*unsafe.Sizeof(metalRange{}))) = metalRange{start, end}
	b.keepCount++
}

// metalKeepString keeps a string that ends with NUL.
//
//go:nosplit
func metalKeepString(pa uintptr) {
	end := pa
	for end < pa+1<<16 && *(*byte)(unsafe.Pointer(metalDirectMap + end)) != 0 {
		end++
	}
	metalKeep(pa, end+1)
}

// metalKeepBundle keeps what elver build put behind the image: the command line and the root file system,
// from the one's start to the other's end (elver/boot, bundle.go).
//
//go:nosplit
func metalKeepBundle() {
	const offset, magic = 0xf00, 0x316c646e42766c45 // "ElvBndl1"
	at := elverImage.physStart + offset
	if metalPhys64(at) == magic {
		metalKeep(metalPhys64(at+8), metalPhys64(at+32))
	}
}

// metalRAM notes that the firmware says [start, end) is memory of kind (1: usable).
//
//go:nosplit
func metalRAM(start, size, kind uintptr) {
	b := &metalBootInfo
	end := start + size
	if end < start || size == 0 {
		return
	}
	if kind != 1 {
		// Firmware tables stand just behind the low RAM; the direct map includes them.
		if start <= b.lowTop && end > b.lowTop && end <= 0xc0000000 {
			b.lowTop = end
		}
		return
	}
	start = max((start+metalPage-1)&^(metalPage-1), 1<<20)
	end &^= metalPage - 1
	if start >= end || b.ramCount == len(b.ram) {
		return
	}
	*(*metalRange)(add(unsafe.Pointer(&b.ram), uintptr(b.ramCount)*unsafe.Sizeof(metalRange{}))) = metalRange{start, end}
	b.ramCount++
	b.top = max(b.top, end)
	if end < metalBootMap {
		b.lowTop = max(b.lowTop, end)
	}
}

// metalReadMultiboot reads the Multiboot information (specification 0.6.96, 3.3).
//
//go:nosplit
func metalReadMultiboot() {
	info := metalBootInfo.info
	flags := metalPhys32(info)
	if flags&(1<<3) != 0 {
		n, at := min(metalPhys32(info+20), 32), metalPhys32(info+24)
		for i := uintptr(0); i < n; i++ {
			metalKeep(metalPhys32(at+16*i), metalPhys32(at+16*i+4))
			metalKeepString(metalPhys32(at + 16*i + 8))
		}
		metalKeep(at, at+16*n)
	}
	metalKeep(info, info+128)
	if flags&(1<<2) != 0 {
		metalKeepString(metalPhys32(info + 16))
	}
	if flags&(1<<9) != 0 {
		metalKeepString(metalPhys32(info + 64))
	}
	if flags&(1<<6) != 0 {
		size, at := metalPhys32(info+44), metalPhys32(info+48)
		metalKeep(at, at+size)
		for off := uintptr(0); off+24 <= size; off += metalPhys32(at+off) + 4 {
			metalRAM(metalPhys64(at+off+4), metalPhys64(at+off+12), metalPhys32(at+off+20))
		}
	} else if flags&1 != 0 {
		metalRAM(1<<20, metalPhys32(info+8)<<10, 1)
	}
}

// metalReadPVH reads struct hvm_start_info (Xen, public/arch-x86/hvm/start_info.h).
//
//go:nosplit
func metalReadPVH() {
	info := metalBootInfo.info
	n, at := min(metalPhys32(info+12), 32), metalPhys64(info+16)
	for i := uintptr(0); i < n; i++ {
		start := metalPhys64(at + 32*i)
		metalKeep(start, start+metalPhys64(at+32*i+8))
		if line := metalPhys64(at + 32*i + 16); line != 0 {
			metalKeepString(line)
		}
	}
	metalKeep(at, at+32*n)
	metalKeep(info, info+64)
	if line := metalPhys64(info + 24); line != 0 {
		metalKeepString(line)
	}
	if metalPhys32(info+4) == 0 {
		metalDie("elver: the PVH loader gives no memory map (start info version 0)\n")
	}
	mapAt, entries := metalPhys64(info+40), metalPhys32(info+48)
	metalKeep(mapAt, mapAt+24*entries)
	for i := uintptr(0); i < entries; i++ {
		metalRAM(metalPhys64(mapAt+24*i), metalPhys64(mapAt+24*i+8), metalPhys32(mapAt+24*i+16))
	}
}

// Page-table entry bits (Intel SDM vol. 3, 4.5).
const (
	metalPresent  = 1 << 0
	metalWrite    = 1 << 1
	metalThrough  = 1 << 3
	metalUncached = 1 << 4
	metalLarge    = 1 << 7
	metalGlobal   = 1 << 8
	metalNX       = 1 << 63
	metalFrame    = 0x000ffffffffff000
)

// metalInitTables builds the kernel's own page tables and loads them: the direct map, the image
// with the rights that its parts need, page 0 and all of the lower half unmapped.
//
//go:nosplit
func metalInitTables() {
	b := &metalBootInfo
	if metalCPUIDBit(0x80000001, 3, 20) {
		b.nx = metalNX
	}
	b.root = metalZeroFrame()
	for i := uintptr(256); i < 512; i++ {
		switch va := i<<39 | 0xffff000000000000; {
		case va >= metalDirectMap && va < metalDirectMap+b.top,
			va == metalWindow, va == metalDevices, va == metalStacks, i == 511:
			metalSetEntry(b.root+8*i, metalZeroFrame()|metalPresent|metalWrite)
		}
	}
	rw := uintptr(metalPresent|metalWrite|metalGlobal) | b.nx
	b.lowTop = (b.lowTop + metalHuge - 1) &^ (metalHuge - 1)
	giant := metalCPUIDBit(0x80000001, 3, 26)
	for pa := uintptr(0); pa < b.top; {
		switch {
		case pa >= b.lowTop && pa < metalBootMap:
			pa = metalBootMap
		case giant && pa&(1<<30-1) == 0 && (pa+1<<30 <= b.lowTop || pa >= metalBootMap && pa+1<<30 <= b.top):
			metalSetEntry(metalTable(metalDirectMap+pa, 2), pa|rw|metalLarge)
			pa += 1 << 30
		default:
			metalSetEntry(metalTable(metalDirectMap+pa, 1), pa|rw|metalLarge)
			pa += metalHuge
		}
	}
	image := &elverImage
	metalMapImage(image.textStart, image.textEnd, metalPresent|metalGlobal)
	metalMapImage(image.rodataStart, image.rodataEnd, metalPresent|metalGlobal|b.nx)
	metalMapImage(image.dataStart, image.dataEnd, rw)
	metalLoadRoot(b.root)
}

//go:nosplit
func metalMapImage(start, end, bits uintptr) {
	at := uintptr(0)
	for va := start; va < end; va += metalPage {
		if va == start || va&(metalHuge-1) == 0 {
			at = metalTable(va, 0)
		}
		metalSetEntry(at, (va-metalKernel)|bits)
		at += 8
	}
}

//go:nosplit
func metalSetEntry(pa, entry uintptr) { *(*uintptr)(unsafe.Pointer(metalDirectMap + pa)) = entry }

// metalTable returns the physical address of the entry that maps the kernel address va at level
// (0: 4 KiB, 1: 2 MiB, 2: 1 GiB), making the tables on the way.
//
//go:nosplit
func metalTable(va uintptr, level int) uintptr {
	table := metalBootInfo.root
	for l := 3; l > level; l-- {
		at := table + (va>>(12+9*uint(l))&511)*8
		entry := metalPhys64(at)
		if entry&metalPresent == 0 {
			entry = metalZeroFrame() | metalPresent | metalWrite
			metalSetEntry(at, entry)
		}
		table = entry & metalFrame
	}
	return table + (va>>(12+9*uint(level))&511)*8
}

// metalZeroFrame returns a cleared frame for the kernel's tables.
//
//go:nosplit
func metalZeroFrame() uintptr {
	pa := metalAllocFrame(metalOwnerKernel)
	if pa == 0 {
		metalDie("elver: too little memory to boot: pass a larger -m\n")
	}
	metalClear(metalDirectMap+pa, metalPage)
	return pa
}

// metalMapStack maps size bytes of cleared stack in the slot'th MiB of the stacks' area and
// returns its top. The page below it and the one above stay unmapped.
//
//go:nosplit
func metalMapStack(slot, size uintptr) uintptr {
	top := metalStacks + (slot+1)<<20 - metalPage
	for va := top - size; va < top; va += metalPage {
		metalSetEntry(metalTable(va, 0), metalZeroFrame()|metalPresent|metalWrite|metalGlobal|metalBootInfo.nx)
	}
	return top
}

// The environment that the Go runtime starts in. The kernel's code runs with interrupts off, so
// no goroutine can be preempted where it stands; memory that is given back is zero when it comes
// again; ERMS off keeps memmove from REP, which counts an instruction a byte; SSE 4.2 off keeps
// hash/crc32 from spending a million instructions on tables as a package that imports it starts.
const metalEnvironment = "GODEBUG=adaptivestackstart=0,asyncpreemptoff=1,madvdontneed=1,cpu.erms=off,cpu.sse42=off\x00"

// metalEntryStack makes the first thread's stack (it must have more than the 64 KiB that rt0_go
// takes for g0) with argc, argv, envp and the auxiliary vector as rt0_go finds them on Linux.
//
//go:nosplit
func metalEntryStack() uintptr {
	top := metalMapStack(metalSlotEntry, 128<<10)
	random := top - 16
	metalSeed(random)
	sp := random - 16*8
	metalSetWord(sp, 0, 1) // argc
	metalSetWord(sp, 1, uintptr(unsafe.Pointer(unsafe.StringData("elver\x00"))))
	metalSetWord(sp, 2, 0)
	metalSetWord(sp, 3, uintptr(unsafe.Pointer(unsafe.StringData(metalEnvironment))))
	metalSetWord(sp, 4, 0)
	metalSetWord(sp, 5, _AT_PAGESZ)
	metalSetWord(sp, 6, metalPage)
	metalSetWord(sp, 7, _AT_RANDOM)
	metalSetWord(sp, 8, random)
	metalSetWord(sp, 9, _AT_NULL)
	metalSetWord(sp, 10, 0)
	return sp
}

//go:nosplit
func metalSetWord(base, i, v uintptr) { *(*uintptr)(unsafe.Pointer(base + 8*i)) = v }
