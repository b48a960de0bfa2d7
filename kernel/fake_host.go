//go:build !elver

package kernel

// Impersonate makes the calling goroutine t, which is never started, for the tests of what waits, until the
// function that it returns is called. It exists on the host alone.
func (t *Thread) Impersonate() (stop func()) {
	t.enterRunning()
	return t.leaveRunning
}
