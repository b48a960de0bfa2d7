//go:build elver

package amd64

// The CPU's side of page tables. One CPU runs so far: with more, rootLoaded asks whether any has the
// root, and Flush's invalidations become a shootdown.

func rootLoaded(root uint64) bool { return CurrentRoot() == root }

// unloadRoot makes sure that no CPU walks root any more.
func unloadRoot(root uint64) {
	if CurrentRoot() == root {
		LoadRoot(KernelRoot())
	}
}

// The functions below are the copy functions of usercopy with the address space named. They are
// nosplit, and so must be what they call: a function's prologue may reschedule, and another thread
// would load its own root between the check and the copy.

// CopyInFrom copies from user memory of the address space at root; like CopyIn.
//
//go:nosplit
func CopyInFrom(root uint64, dst []byte, src uint64) int {
	if CurrentRoot() != root {
		LoadRoot(root)
	}
	return CopyIn(dst, src)
}

// CopyOutTo copies to user memory of the address space at root; like CopyOut.
//
//go:nosplit
func CopyOutTo(root uint64, dst uint64, src []byte) int {
	if CurrentRoot() != root {
		LoadRoot(root)
	}
	return CopyOut(dst, src)
}

// ZeroOutTo clears user memory of the address space at root; like ZeroOut.
//
//go:nosplit
func ZeroOutTo(root uint64, dst uint64, n int) int {
	if CurrentRoot() != root {
		LoadRoot(root)
	}
	return ZeroOut(dst, n)
}

// LoadUser32From reads a word of the address space at root; like LoadUser32.
//
//go:nosplit
func LoadUser32From(root uint64, addr uint64) (uint32, bool) {
	if CurrentRoot() != root {
		LoadRoot(root)
	}
	return LoadUser32(addr)
}

// StoreUser32To writes a word of the address space at root; like StoreUser32.
//
//go:nosplit
func StoreUser32To(root uint64, addr uint64, v uint32) bool {
	if CurrentRoot() != root {
		LoadRoot(root)
	}
	return StoreUser32(addr, v)
}

// CompareAndSwapUser32In works on a word of the address space at root; like CompareAndSwapUser32.
//
//go:nosplit
func CompareAndSwapUser32In(root uint64, addr uint64, old, new uint32) (prev uint32, ok bool) {
	if CurrentRoot() != root {
		LoadRoot(root)
	}
	return CompareAndSwapUser32(addr, old, new)
}
