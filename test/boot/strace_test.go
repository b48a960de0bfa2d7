package boot

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"elver/test/need"
)

// What differs between any two runs: addresses, random bytes, ids, names of temporary files.
var (
	straceAddress = regexp.MustCompile(`0x[0-9a-f]+`)
	straceBytes   = regexp.MustCompile(`(\\x[0-9a-f]{2}|getrandom\("[^"]*")+`)
	straceThread  = regexp.MustCompile(`(set_tid_address\(A\)) += \d+`)
	straceSelf    = regexp.MustCompile(`(readlink\("/proc/self/exe"), "[^"]*"(?:\.\.\.)?, (\d+)\) += \d+`)
	straceLong    = regexp.MustCompile(`\d{7,}`)
	straceFile    = regexp.MustCompile(`(/tmp/[a-z]+)[A-Za-z0-9]{6}`)
	straceFolder  = regexp.MustCompile(`(st_mode=S_IFDIR\|[^,]*, st_size)=\d+`)
	straceSpaces  = regexp.MustCompile(` +`)
)

func normalTrace(trace string) []string {
	trace = straceAddress.ReplaceAllString(trace, "A")
	trace = straceBytes.ReplaceAllString(trace, "R")
	trace = straceThread.ReplaceAllString(trace, "$1 = T")
	trace = straceSelf.ReplaceAllString(trace, "$1, P, $2) = N")
	trace = straceLong.ReplaceAllString(trace, "N")
	trace = straceFile.ReplaceAllString(trace, "${1}F")
	trace = straceFolder.ReplaceAllString(trace, "$1=N")
	trace = straceSpaces.ReplaceAllString(trace, " ")
	return strings.Split(strings.TrimSuffix(trace, "\n"), "\n")
}

// TestStraceAsOnLinux: the kernel's trace of a program is what Debian's strace prints of it on Linux, line by
// line, but for what differs between any two runs.
func TestStraceAsOnLinux(t *testing.T) {
	need.Command(t, "strace")
	for _, program := range []string{"helloworld", "echo", "tracedcalls"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			file := build(t, staticPIE, program)
			onHost := filepath.Join(t.TempDir(), "trace")
			if r := execute(patience, "", []string{"strace", "-o", onHost, file}); r.status < 0 || r.status > 100 {
				t.Fatalf("strace doesn't run here\n%v", r)
			}
			b, err := os.ReadFile(onHost)
			if err != nil {
				t.Fatal(err)
			}
			_, linux, _ := strings.Cut(string(b), "\n") // execve, which was strace's own
			want := normalTrace(linux)
			got := normalTrace(vm{program: file, args: "elver.strace=1", timeout: 2 * time.Minute}.run(t).stderr)
			wrong := 0
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Errorf("line %d\nhere:  %s\nLinux: %s", i+1, got[i], want[i])
					if wrong++; wrong == 10 {
						return
					}
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d lines, and %d on Linux", len(got), len(want))
			}
		})
	}
}
