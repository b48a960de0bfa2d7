//go:build !elver

package amd64

import (
	"encoding/binary"
	"sync"

	"elver/runtime/metal"
)

// The host's fake CPU walks the page tables in software. Its lock stands for the TLB: a copy holds it
// from the walk to its last byte, and an invalidation waits for it, so that a frame isn't given back
// while a copy still uses it. Any number of roots count as loaded, as on a machine with many CPUs.
var hostCPU struct {
	mu            sync.Mutex
	root          uint64 // guarded by mu
	kernelRoot    uint64
	invalidations uint64 // guarded by mu
}

func init() {
	pa, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		panic("amd64: no frame for the kernel's page table")
	}
	metal.Zero(pa, pageSize)
	hostCPU.kernelRoot, hostCPU.root = pa, pa
}

// KernelRoot returns the physical address of the kernel's root table.
func KernelRoot() uint64 { return hostCPU.kernelRoot }

// CurrentRoot returns the physical address of the loaded root table.
func CurrentRoot() uint64 {
	hostCPU.mu.Lock()
	defer hostCPU.mu.Unlock()
	return hostCPU.root
}

// LoadRoot loads the root table at pa.
func LoadRoot(pa uint64) {
	hostCPU.mu.Lock()
	defer hostCPU.mu.Unlock()
	hostCPU.root = pa
}

// InvalidatePage makes the TLB forget the page at va.
func InvalidatePage(va uint64) { FlushTLB() }

// FlushTLB makes the TLB forget all user pages.
func FlushTLB() {
	hostCPU.mu.Lock()
	defer hostCPU.mu.Unlock()
	hostCPU.invalidations++
}

func rootLoaded(root uint64) bool { return true }

func unloadRoot(root uint64) {
	hostCPU.mu.Lock()
	defer hostCPU.mu.Unlock()
	if hostCPU.root == root {
		hostCPU.root = hostCPU.kernelRoot
	}
}

// walk returns the bytes from addr to the end of its page, at most n, if the program may access them.
// Precondition: hostCPU.mu is held.
func walk(root, addr uint64, n int, write bool) []byte {
	if root == hostCPU.kernelRoot || addr >= userTableEnd {
		return nil
	}
	need := EntryPresent | EntryUser
	if write {
		need |= EntryWritable
	}
	table := root
	for shift := uint(rootShift); ; shift -= levelBits {
		e := tableAt(table)[(addr>>shift)&(entries-1)]
		if e&need != need {
			return nil
		}
		table = e.Frame()
		if shift == slotShift && e&EntryLarge != 0 {
			table += addr & (LeafSpan - pageSize)
			break
		}
		if shift == pageShift {
			break
		}
	}
	in := addr & (pageSize - 1)
	return metal.View(table+in, min(n, int(pageSize-in)))
}

// each calls do with each piece of the n bytes of user memory at addr, up to a fault.
func each(root, addr uint64, n int, write bool, do func(done int, page []byte)) int {
	hostCPU.mu.Lock()
	defer hostCPU.mu.Unlock()
	done := 0
	for done < n {
		page := walk(root, addr+uint64(done), n-done, write)
		if page == nil {
			break
		}
		do(done, page)
		done += len(page)
	}
	return done
}

// CopyInFrom copies from user memory of the address space at root and returns how many bytes it did
// before a fault.
func CopyInFrom(root uint64, dst []byte, src uint64) int {
	return each(root, src, len(dst), false, func(done int, page []byte) { copy(dst[done:], page) })
}

// CopyOutTo copies to user memory of the address space at root.
func CopyOutTo(root uint64, dst uint64, src []byte) int {
	return each(root, dst, len(src), true, func(done int, page []byte) { copy(page, src[done:]) })
}

// ZeroOutTo clears user memory of the address space at root.
func ZeroOutTo(root uint64, dst uint64, n int) int {
	return each(root, dst, n, true, func(_ int, page []byte) { clear(page) })
}

// LoadUser32From reads a word of the address space at root; ok false is a fault.
func LoadUser32From(root uint64, addr uint64) (v uint32, ok bool) {
	n := each(root, addr, 4, false, func(_ int, page []byte) {
		if len(page) == 4 {
			v = binary.LittleEndian.Uint32(page)
		}
	})
	return v, n == 4
}

// LoadUser64From reads eight bytes of the address space at root; ok false is a fault.
func LoadUser64From(root uint64, addr uint64) (v uint64, ok bool) {
	var word [8]byte
	ok = CopyInFrom(root, word[:], addr) == 8
	return binary.LittleEndian.Uint64(word[:]), ok
}

// StoreUser32To writes a word of the address space at root; false is a fault.
func StoreUser32To(root uint64, addr uint64, v uint32) bool {
	var word [4]byte
	binary.LittleEndian.PutUint32(word[:], v)
	return CopyOutTo(root, addr, word[:]) == 4
}

// CompareAndSwapUser32In stores new at addr if old is there; prev is what was there, ok false a fault.
func CompareAndSwapUser32In(root uint64, addr uint64, old, new uint32) (prev uint32, ok bool) {
	n := each(root, addr, 4, true, func(_ int, page []byte) {
		prev = binary.LittleEndian.Uint32(page)
		if prev == old {
			binary.LittleEndian.PutUint32(page, new)
		}
	})
	return prev, n == 4
}
