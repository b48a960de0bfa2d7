package boot

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"elver/test/need"
)

// TestCoreFile: elver.core names a core file on the share, which gdb opens.
func TestCoreFile(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	program := build(t, staticExe, "status")
	r := vm{program: program, args: "elver.core=/core.%e.%s -- null", script: []string{"-e", share}, mem: 128}.run(t)
	if r.status != 139 || r.stdout != "before null\n" {
		t.Errorf("the core file changed how the program ends\n%v", r)
	}
	core := filepath.Join(share, "core.status.11")
	if s, err := os.Stat(core); err != nil || s.Size() < 8192 {
		t.Fatalf("there is no core file: %v\n%v", err, r)
	}
	need.Command(t, "gdb")
	g := execute(patience, "", []string{"gdb", "-nx", "-batch", program, core, "-ex", "backtrace", "-ex", "print $_siginfo._sifields._sigfault.si_addr", "-ex", "info auxv"})
	for _, want := range []string{
		`Program terminated with signal SIGSEGV`,
		`(?m)^#\d+ .*\bmain \(`,
		`(?m)^\$1 = \(void \*\) 0x0$`,
		`AT_SYSINFO_EHDR`,
	} {
		if !regexp.MustCompile(want).MatchString(g.stdout) {
			t.Errorf("gdb's output lacks %s\n%v", want, g)
		}
	}
}
