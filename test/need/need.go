// Package need finds the commands that tests run. A test that wants one which
// isn't there fails: left out, it would be a hole that nobody sees. The Makefile
// and .ci/run install them (scripts/need).
package need

import (
	"os/exec"
	"testing"
)

// Command returns the path of the command of that name, and fails the test if
// the machine lacks it.
func Command(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("there is no %s here: please install it (see the Makefile)", name)
	}
	return path
}
