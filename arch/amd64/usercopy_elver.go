//go:build elver

package amd64

import "unsafe"

// Access to user memory. The address space must be loaded and the range below UserEnd; the caller's
// goroutine isn't rescheduled inside. Each function stops at a fault and tells how far it got:
// resolving the fault and going on is the caller's.

// CopyIn copies from user memory at src to dst and returns how many bytes it copied.
//
//go:nosplit
func CopyIn(dst []byte, src uint64) int {
	n := uint64(len(dst))
	return int(n - copyUser(uint64(uintptr(unsafe.Pointer(unsafe.SliceData(dst)))), src, n))
}

// CopyOut copies src to user memory at dst and returns how many bytes it copied.
//
//go:nosplit
func CopyOut(dst uint64, src []byte) int {
	n := uint64(len(src))
	return int(n - copyUser(dst, uint64(uintptr(unsafe.Pointer(unsafe.SliceData(src)))), n))
}

// ZeroOut clears n bytes of user memory at dst and returns how many it cleared.
//
//go:nosplit
func ZeroOut(dst uint64, n int) int { return n - int(zeroUser(dst, uint64(n))) }

// LoadUser32 reads four bytes of user memory; ok is false after a fault.
func LoadUser32(addr uint64) (v uint32, ok bool)

// StoreUser32 writes four bytes of user memory; ok is false after a fault.
func StoreUser32(addr uint64, v uint32) (ok bool)

// CompareAndSwapUser32 replaces four bytes of user memory by new if they are old, in one step, and
// returns what they were; ok is false after a fault.
func CompareAndSwapUser32(addr uint64, old, new uint32) (prev uint32, ok bool)

// copyUser and zeroUser return how many bytes are left.
func copyUser(dst, src, n uint64) uint64
func zeroUser(dst, n uint64) uint64
