package runtime

import "unsafe"

// The frame allocator: the one owner of physical memory.
//
// Memory is divided into blocks of 2 MiB. A block is whole (free, or handed out as one frame of
// 2 MiB) or split into 512 frames of 4 KiB, of which those never handed out yet lie above the
// block's mark and those given back hang in its list; so a block needs no preparation before its
// first frame is taken. Split blocks with a free frame hang in one list, so every operation takes
// constant time.
//
// Everything is nosplit: the page-fault handler allocates. One CPU runs at a time with interrupts
// off; with more, metalFrames gets a lock.

const (
	metalOwnerFree = iota
	metalOwnerProgram
	metalOwnerPageCache
	metalOwnerPageTable
	metalOwnerBalloon
	metalOwnerGoHeap
	metalOwnerKernel
	metalOwners
)

const (
	metalFramesPerBlock = metalHuge / metalPage

	metalBlockNone  = 0 // no memory, or memory that isn't ours
	metalBlockFree  = 1
	metalBlockSplit = 2
	metalBlockWhole = 3 // handed out as one frame of 2 MiB

	metalNoFrame = 0xffff
	metalNoBlock = 0xffffffff
)

// metalBlock describes 2 MiB of physical memory.
type metalBlock struct {
	state uint8
	owner uint8  // of a whole block
	used  uint16 // frames handed out, of a split block
	mark  uint16 // frames from here on were never handed out
	free  uint16 // first of the frames given back
	next  uint32 // neighbours in the list of split blocks with a free frame
	prev  uint32
}

// metalFrameInfo describes a frame of a split block; the first of a whole block counts for it.
type metalFrameInfo struct {
	refs  uint32
	owner uint8
	_     uint8
	next  uint16 // in the block's list of free frames
}

var metalFrames = struct {
	blocks  uintptr // []metalBlock in the direct map
	frames  uintptr // []metalFrameInfo in the direct map
	count   uintptr // of blocks
	partial uint32  // first split block with a free frame
	fresh   uint32  // blocks below have been looked at for a free block
	total   uintptr
	free    uintptr
	least   uintptr // the fewest that were ever free
	reserve uintptr // the program gets none when no more than these are free
	owners  [metalOwners]uintptr
	whole   uintptr // of the program's frames, those in whole blocks
}{partial: metalNoBlock}

//go:nosplit
func metalBlockAt(i uintptr) *metalBlock {
	return (*metalBlock)(unsafe.Pointer(metalFrames.blocks + i*unsafe.Sizeof(metalBlock{})))
}

//go:nosplit
func metalFrameAt(i uintptr) *metalFrameInfo {
	return (*metalFrameInfo)(unsafe.Pointer(metalFrames.frames + i*unsafe.Sizeof(metalFrameInfo{})))
}

// metalInitFrames hands the memory that boot found to the allocator.
//
//go:nosplit
func metalInitFrames() {
	f, b := &metalFrames, &metalBootInfo
	f.count = (b.top + metalHuge - 1) / metalHuge
	size := f.count * (unsafe.Sizeof(metalBlock{}) + metalFramesPerBlock*unsafe.Sizeof(metalFrameInfo{}))
	at := metalPlace(size)
	if at == 0 {
		metalDie("elver: too little memory to boot: pass a larger -m\n")
	}
	metalKeep(at, at+size)
	f.frames = metalDirectMap + at
	f.blocks = f.frames + f.count*metalFramesPerBlock*unsafe.Sizeof(metalFrameInfo{})
	metalClear(f.blocks, f.count*unsafe.Sizeof(metalBlock{}))
	for i := 0; i < b.ramCount; i++ {
		r := (*metalRange)(add(unsafe.Pointer(&b.ram), uintptr(i)*unsafe.Sizeof(metalRange{})))
		for pa := r.start; pa < r.end; {
			end := min((pa+metalHuge)&^(metalHuge-1), r.end)
			if pa&(metalHuge-1) == 0 && end-pa == metalHuge && metalKept(pa, end) == 0 {
				metalBlockAt(pa / metalHuge).state = metalBlockFree
				f.total += metalFramesPerBlock
			} else {
				metalDonate(pa, end)
			}
			pa = end
		}
	}
	f.free, f.least = f.total, f.total
	f.reserve = min(f.total/16, 4096) // the Go heap's; up to 16 MiB
}

// metalKept returns the end of a kept range that overlaps [start, end), or 0.
//
//go:nosplit
func metalKept(start, end uintptr) uintptr {
	b := &metalBootInfo
	for i := 0; i < b.keepCount; i++ {
		k := (*metalRange)(add(unsafe.Pointer(&b.keep), uintptr(i)*unsafe.Sizeof(metalRange{})))
		if k.start < end && start < k.end {
			return k.end
		}
	}
	return 0
}

// metalPlace finds size bytes of RAM below 4 GiB that nobody keeps.
//
//go:nosplit
func metalPlace(size uintptr) uintptr {
	b := &metalBootInfo
	for i := 0; i < b.ramCount; i++ {
		r := (*metalRange)(add(unsafe.Pointer(&b.ram), uintptr(i)*unsafe.Sizeof(metalRange{})))
		for at := r.start; at+size <= min(r.end, metalBootMap); {
			end := metalKept(at, at+size)
			if end == 0 {
				return at
			}
			at = end
		}
	}
	return 0
}

// metalDonate gives the frames of [start, end), all in one block, that nobody keeps.
//
//go:nosplit
func metalDonate(start, end uintptr) {
	f := &metalFrames
	n := start / metalHuge
	block := metalBlockAt(n)
	if block.state != metalBlockSplit {
		*block = metalBlock{state: metalBlockSplit, used: metalFramesPerBlock, mark: metalFramesPerBlock, free: metalNoFrame}
		for i := uintptr(0); i < metalFramesPerBlock; i++ {
			*metalFrameAt(n*metalFramesPerBlock + i) = metalFrameInfo{refs: 1, owner: metalOwnerKernel}
		}
	}
	for pa := start; pa < end; {
		if kept := metalKept(pa, pa+metalPage); kept != 0 {
			pa = kept
			continue
		}
		for next := min(metalNextKept(pa), end); pa < next; pa += metalPage {
			metalPush(n, pa/metalPage)
			f.total++
		}
	}
}

// metalNextKept returns where the first kept range above pa starts.
//
//go:nosplit
func metalNextKept(pa uintptr) uintptr {
	b := &metalBootInfo
	next := ^uintptr(0)
	for i := 0; i < b.keepCount; i++ {
		if k := (*metalRange)(add(unsafe.Pointer(&b.keep), uintptr(i)*unsafe.Sizeof(metalRange{}))); k.start >= pa {
			next = min(next, k.start)
		}
	}
	return next
}

// metalAllocFrame returns a frame for owner with one reference, or 0. Its contents are undefined.
//
//go:nosplit
func metalAllocFrame(owner uint8) uintptr {
	f := &metalFrames
	if f.free <= f.reserve && owner < metalOwnerGoHeap {
		return 0
	}
	if f.partial == metalNoBlock && !metalSplitFree() {
		return 0
	}
	n := uintptr(f.partial)
	block := metalBlockAt(n)
	var i uintptr
	if block.free != metalNoFrame {
		i = n*metalFramesPerBlock + uintptr(block.free)
		block.free = metalFrameAt(i).next
	} else {
		i = n*metalFramesPerBlock + uintptr(block.mark)
		block.mark++
	}
	block.used++
	if block.used == metalFramesPerBlock {
		metalUnlink(block)
	}
	frame := metalFrameAt(i)
	frame.refs = 1
	frame.owner = owner
	f.free--
	f.least = min(f.least, f.free)
	f.owners[owner&7%metalOwners]++
	return i * metalPage
}

// metalAllocHuge returns a block for owner with one reference, or 0.
//
//go:nosplit
func metalAllocHuge(owner uint8) uintptr {
	f := &metalFrames
	if f.free <= f.reserve+metalFramesPerBlock && owner < metalOwnerGoHeap {
		return 0
	}
	n := metalFreeBlock()
	if n == metalNoBlock {
		return 0
	}
	block := metalBlockAt(n)
	block.state = metalBlockWhole
	block.owner = owner
	metalFrameAt(n * metalFramesPerBlock).refs = 1
	f.free -= metalFramesPerBlock
	f.least = min(f.least, f.free)
	f.owners[owner&7%metalOwners] += metalFramesPerBlock
	if owner == metalOwnerProgram {
		f.whole += metalFramesPerBlock
	}
	return n * metalHuge
}

// metalFreeBlock returns the lowest free block, or metalNoBlock.
//
//go:nosplit
func metalFreeBlock() uintptr {
	f := &metalFrames
	for n := uintptr(f.fresh); n < f.count; n++ {
		if metalBlockAt(n).state == metalBlockFree {
			f.fresh = uint32(n + 1)
			return n
		}
	}
	f.fresh = uint32(f.count)
	return metalNoBlock
}

// metalSplitFree makes a free block the one that frames are taken from.
//
//go:nosplit
func metalSplitFree() bool {
	n := metalFreeBlock()
	if n == metalNoBlock {
		return false
	}
	*metalBlockAt(n) = metalBlock{state: metalBlockSplit, free: metalNoFrame}
	metalLink(uint32(n))
	return true
}

//go:nosplit
func metalLink(n uint32) {
	f, block := &metalFrames, metalBlockAt(uintptr(n))
	block.prev, block.next = metalNoBlock, f.partial
	if f.partial != metalNoBlock {
		metalBlockAt(uintptr(f.partial)).prev = n
	}
	f.partial = n
}

//go:nosplit
func metalUnlink(block *metalBlock) {
	if block.prev != metalNoBlock {
		metalBlockAt(uintptr(block.prev)).next = block.next
	} else {
		metalFrames.partial = block.next
	}
	if block.next != metalNoBlock {
		metalBlockAt(uintptr(block.next)).prev = block.prev
	}
}

// metalPush puts frame i of the split block n on its list of free frames.
//
//go:nosplit
func metalPush(n, i uintptr) {
	block, frame := metalBlockAt(n), metalFrameAt(i)
	frame.refs = 0
	frame.next = block.free
	block.free = uint16(i % metalFramesPerBlock)
	if block.used == metalFramesPerBlock {
		metalLink(uint32(n))
	}
	block.used--
	if block.used == 0 && (block.next != metalNoBlock || block.prev != metalNoBlock) {
		metalUnlink(block)
		metalReturnBlock(n)
	}
}

//go:nosplit
func metalReturnBlock(n uintptr) {
	metalBlockAt(n).state = metalBlockFree
	metalFrames.fresh = min(metalFrames.fresh, uint32(n))
}

// metalRef adds a reference to the frame at pa.
//
//go:nosplit
func metalRef(pa uintptr) { metalCounted(pa).refs++ }

// metalCounted returns the entry that counts the references of the frame that pa lies in.
//
//go:nosplit
func metalCounted(pa uintptr) *metalFrameInfo {
	frame := metalFrameAt(pa / metalPage)
	if metalBlockAt(pa/metalHuge).state == metalBlockWhole {
		frame = metalFrameAt(pa / metalHuge * metalFramesPerBlock)
	}
	if frame.refs == 0 {
		metalFatal("elver: a reference to a free frame\n", pa)
	}
	return frame
}

// metalUnref drops a reference of the frame at pa, frees it with the last one, and returns how
// many are left.
//
//go:nosplit
func metalUnref(pa uintptr) uint32 {
	frame := metalCounted(pa)
	frame.refs--
	if frame.refs != 0 {
		return frame.refs
	}
	f, n := &metalFrames, pa/metalHuge
	if block := metalBlockAt(n); block.state == metalBlockWhole {
		f.owners[block.owner&7%metalOwners] -= metalFramesPerBlock
		if block.owner == metalOwnerProgram {
			f.whole -= metalFramesPerBlock
		}
		f.free += metalFramesPerBlock
		metalReturnBlock(n)
		return 0
	}
	f.owners[frame.owner&7%metalOwners]--
	f.free++
	metalPush(n, pa/metalPage)
	return 0
}

// metalSplitHuge makes the 2 MiB frame at pa 512 frames with as many references each, if it isn't yet.
//
//go:nosplit
func metalSplitHuge(pa uintptr) {
	n := pa / metalHuge
	block := metalBlockAt(n)
	if block.state != metalBlockWhole {
		return
	}
	refs := metalCounted(pa).refs
	owner := block.owner
	if owner == metalOwnerProgram {
		metalFrames.whole -= metalFramesPerBlock
	}
	*block = metalBlock{state: metalBlockSplit, used: metalFramesPerBlock, mark: metalFramesPerBlock, free: metalNoFrame}
	for i := uintptr(0); i < metalFramesPerBlock; i++ {
		*metalFrameAt(n*metalFramesPerBlock + i) = metalFrameInfo{refs: refs, owner: owner}
	}
}

// metalRefHuge adds a reference to all of the 2 MiB at pa, one frame or 512.
//
//go:nosplit
func metalRefHuge(pa uintptr) {
	if metalBlockAt(pa/metalHuge).state == metalBlockWhole {
		metalRef(pa)
		return
	}
	for end := pa + metalHuge; pa < end; pa += metalPage {
		metalRef(pa)
	}
}

// metalUnrefHuge drops a reference of all of the 2 MiB at pa, one frame or 512.
//
//go:nosplit
func metalUnrefHuge(pa uintptr) {
	if metalBlockAt(pa/metalHuge).state == metalBlockWhole {
		metalUnref(pa)
		return
	}
	for end := pa + metalHuge; pa < end; pa += metalPage {
		metalUnref(pa)
	}
}

// What follows is elver/runtime/metal's side.

//go:linkname metal_AllocFrame elver/runtime/metal.AllocFrame
//go:nosplit
func metal_AllocFrame(owner uint8) (uint64, bool) {
	pa := metalAllocFrame(owner)
	return uint64(pa), pa != 0
}

//go:linkname metal_AllocHuge elver/runtime/metal.AllocHuge
//go:nosplit
func metal_AllocHuge(owner uint8) (uint64, bool) {
	pa := metalAllocHuge(owner)
	return uint64(pa), pa != 0
}

//go:linkname metal_Ref elver/runtime/metal.Ref
//go:nosplit
func metal_Ref(pa uint64) { metalRef(uintptr(pa)) }

//go:linkname metal_Unref elver/runtime/metal.Unref
//go:nosplit
func metal_Unref(pa uint64) uint32 { return metalUnref(uintptr(pa)) }

//go:linkname metal_Refs elver/runtime/metal.Refs
//go:nosplit
func metal_Refs(pa uint64) uint32 { return metalCounted(uintptr(pa)).refs }

//go:linkname metal_SplitHuge elver/runtime/metal.SplitHuge
//go:nosplit
func metal_SplitHuge(pa uint64) { metalSplitHuge(uintptr(pa)) }

//go:linkname metal_RefHuge elver/runtime/metal.RefHuge
//go:nosplit
func metal_RefHuge(pa uint64) { metalRefHuge(uintptr(pa)) }

//go:linkname metal_UnrefHuge elver/runtime/metal.UnrefHuge
//go:nosplit
func metal_UnrefHuge(pa uint64) { metalUnrefHuge(uintptr(pa)) }

//go:linkname metal_WholeRefs elver/runtime/metal.WholeRefs
//go:nosplit
func metal_WholeRefs(pa uint64) uint32 {
	if metalBlockAt(uintptr(pa)/metalHuge).state != metalBlockWhole {
		return 0
	}
	return metalCounted(uintptr(pa)).refs
}

// metal_FreeFrames returns how many frames are free, and how many of them are kept for the Go heap.
//
//go:linkname metal_FreeFrames elver/runtime/metal.FreeFrames
//go:nosplit
func metal_FreeFrames() (free, reserve uint64) {
	return uint64(metalFrames.free), uint64(metalFrames.reserve)
}

//go:linkname metal_frameStats elver/runtime/metal.frameStats
//go:nosplit
func metal_frameStats(counts *[5 + metalOwners]uint64) {
	f := &metalFrames
	counts[0], counts[1], counts[2], counts[3], counts[4] = uint64(f.total), uint64(f.free), uint64(f.reserve), uint64(f.least), uint64(f.whole)
	for i := range f.owners {
		counts[5+i] = uint64(f.owners[i])
	}
}
