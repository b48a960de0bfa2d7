package metal

// Goroutine returns what the calling goroutine has to itself as long as it runs: the address of its
// descriptor, which is for comparing and no more.
func Goroutine() uintptr
