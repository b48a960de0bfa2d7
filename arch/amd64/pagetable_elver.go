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
