package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestGDB: gdb stops the kernel in a function and names functions, lines and arguments, as
// docs/looking-inside.md says.
func TestGDB(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("there is no gdb here: install the package gdb")
	}
	output := filepath.Join(t.TempDir(), "output")
	qemu := vm{program: build(t, staticPIE, "helloworld"), raw: true}.command()
	for i, word := range qemu {
		if word == "stdio" { // the serial port's: gdb has it
			qemu[i] = "file:" + output
		}
	}
	vms <- struct{}{}
	defer func() { <-vms }()
	r := execute(2*time.Minute, "", []string{"gdb", "-nx", "-batch", kernelImage,
		"-ex", "set pagination off", "-ex", "set substitute-path elver " + root,
		"-ex", fmt.Sprintf("target remote | exec %s -S -gdb stdio", strings.Join(qemu, " ")),
		"-ex", "hbreak elver/syscall.sysWrite", "-ex", "continue", "-ex", "backtrace", "-ex", "list", "-ex", "delete", "-ex", "continue"})
	for _, want := range []string{
		`(?m)^#0 .*elver/syscall\.sysWrite \(t=0x[0-9a-f]+, .* at .*/syscall/file\.go:\d+$`,
		`(?m)^#\d+ .*elver/kernel\.\(\*Thread\)\.run .* at .*/kernel/loop\.go:\d+$`,
		`(?m)^\d+\tfunc sysWrite\(`,
	} {
		if !regexp.MustCompile(want).MatchString(r.stdout) {
			t.Errorf("gdb's output lacks %s\n%v", want, r)
		}
	}
	if got, err := os.ReadFile(output); string(got) != hello {
		t.Errorf("the program wrote %q, %v", got, err)
	}
}
