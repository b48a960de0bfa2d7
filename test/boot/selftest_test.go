package boot

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// selftest builds the image that checks the runtime from within.
func selftest(t *testing.T) string {
	t.Helper()
	image := filepath.Join(root, "build/selftest/selftest.kernel")
	cmd := exec.Command("go", "run", "./runtime/mkkernel", "-pkg", "./test/selftest", "-o", image)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return image
}

// TestRuntime checks what the freestanding runtime promises, and how the kernel reports its own failure.
func TestRuntime(t *testing.T) {
	image := selftest(t)
	t.Run("promises", func(t *testing.T) {
		for _, machine := range [][]string{{"-cpu", "max"}, {"-cpu", "qemu64", "-M", "q35"}, {"-cpu", "max", "-M", "microvm"}} {
			r := vm{raw: true, kernel: image, mem: 64, qemu: append(clock(), machine...)}.run(t)
			if n := strings.Count(r.stdout, "ok "); n != 15 || strings.Contains(r.stdout, "FAIL") {
				t.Errorf("%v: %d of 15 checks passed\n%v", machine, n, r)
			}
		}
	})
	for _, test := range []struct {
		word string
		want []string
	}{
		{"fault", []string{"kernel failure: exception 0x0+e at 0x", `rip|rsp 0x`, `in main\.main\+0x`, `=> 0x`, `goroutine stack:`, `selftest/main\.go:\d+`}},
		{"panic", []string{"panic: asked to", `goroutine 1 \[running\]`, `selftest/main\.go:\d+`}},
		{"overflow", []string{"stack exceeds", `main\.overflow`}},
	} {
		t.Run(test.word, func(t *testing.T) {
			r := vm{kernel: image, mem: 64, args: test.word}.run(t)
			if r.status != 125 {
				t.Errorf("status %d, want 125", r.status)
			}
			for _, want := range test.want {
				if !regexp.MustCompile(want).MatchString(r.stderr) {
					t.Errorf("the report lacks %s\n%s", want, clip(r.stderr))
				}
			}
		})
	}
}
