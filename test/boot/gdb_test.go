package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"elver/test/need"
)

// TestProfile: pprof reads the profiles of the kernel, and finds its functions in them.
func TestProfile(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	r := vm{program: busybox(t), script: []string{"-e", share},
		args: `elver.profile=/kernel -- busybox sh -c "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo $i >/dev/null; done; busybox find /proc >/dev/null; echo done"`}.run(t)
	if r.stdout != "done\n" || r.status != 0 {
		t.Errorf("%v", r)
	}
	for file, want := range map[string]string{"kernel.cpu.pprof": `elver/syscall\.Dispatch`, "kernel.heap.pprof": `elver/kernel\.New`} {
		out, err := exec.Command("go", "tool", "pprof", "-raw", filepath.Join(share, file)).CombinedOutput()
		if err != nil || !regexp.MustCompile(want).Match(out) {
			t.Errorf("%s lacks %s: %v\n%s", file, want, err, clip(string(out)))
		}
	}
}

// TestGDB: gdb stops the kernel in a function and names functions, lines and arguments, as
// docs/looking-inside.md says.
func TestGDB(t *testing.T) {
	t.Parallel()
	need.Command(t, "gdb")
	output := filepath.Join(t.TempDir(), "output")
	qemu := vm{program: build(t, staticPIE, "helloworld"), raw: true}.command()
	for i, word := range qemu {
		if word == "stdio" { // the serial port's: gdb has it
			qemu[i] = "file:" + output
		}
	}
	vms <- struct{}{}
	defer func() { <-vms }()
	r := execute(patience, "", []string{"gdb", "-nx", "-batch", kernelImage,
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
