//go:build elver

package amd64

import "unsafe"

// Access to user memory of the address space whose page table is at root, which is loaded if it isn't.
// The range must be below UserEnd. Each function stops at a fault and tells how far it got: resolving
// the fault and going on is the caller's.
//
// All are nosplit or assembly: a function's prologue may reschedule, and another thread would load
// its own root between the check and the copy.

// CopyInFrom copies from user memory at src to dst and returns how many bytes it copied.
//
//go:nosplit
func CopyInFrom(root uint64, dst []byte, src uint64) int {
	n := uint64(len(dst))
	return int(n - copyUser(root, uint64(uintptr(unsafe.Pointer(unsafe.SliceData(dst)))), src, n))
}

// CopyOutTo copies src to user memory at dst and returns how many bytes it copied.
//
//go:nosplit
func CopyOutTo(root uint64, dst uint64, src []byte) int {
	n := uint64(len(src))
	return int(n - copyUser(root, dst, uint64(uintptr(unsafe.Pointer(unsafe.SliceData(src)))), n))
}

// ZeroOutTo clears n bytes of user memory at dst and returns how many it cleared.
//
//go:nosplit
func ZeroOutTo(root uint64, dst uint64, n int) int { return n - int(zeroUser(root, dst, uint64(n))) }

// LoadUser32From reads four bytes of user memory; ok is false after a fault.
func LoadUser32From(root, addr uint64) (v uint32, ok bool)

// LoadUser64From reads eight bytes of user memory; ok is false after a fault.
func LoadUser64From(root, addr uint64) (v uint64, ok bool)

// StoreUser32To writes four bytes of user memory; ok is false after a fault.
func StoreUser32To(root, addr uint64, v uint32) (ok bool)

// CompareAndSwapUser32In replaces four bytes of user memory by new if they are old, in one step, and
// returns what they were; ok is false after a fault.
func CompareAndSwapUser32In(root, addr uint64, old, new uint32) (prev uint32, ok bool)

// copyUser and zeroUser return how many bytes are left.
func copyUser(root, dst, src, n uint64) uint64
func zeroUser(root, dst, n uint64) uint64
