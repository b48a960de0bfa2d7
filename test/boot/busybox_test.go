package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

var fetchBusybox = sync.OnceValues(func() (string, string) {
	dir := filepath.Join(cache, "busybox")
	path := filepath.Join(dir, "bin/busybox")
	if _, err := os.Stat(path); err == nil {
		return path, ""
	}
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return "", err.Error()
	}
	// The package is fetched and unpacked, not installed.
	cmd := exec.Command("sh", "-c", "apt-get download busybox-static && dpkg -x busybox-static_*.deb busybox && rm -f busybox-static_*.deb")
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", "cannot fetch Debian's busybox-static: " + err.Error() + "\n" + string(out)
	}
	return path, ""
})

// busybox returns the path of Debian's static busybox.
func busybox(t testing.TB) string {
	t.Helper()
	path, problem := fetchBusybox()
	if problem != "" {
		t.Fatal(problem)
	}
	return path
}

func TestBusybox(t *testing.T) {
	rows := []struct {
		name, args, stdin, stdout string
		status                    int
	}{
		{"uname", "busybox uname -srm", "", "Linux 6.12.0-elver x86_64\n", 0},
		{"echo-as-argument", "echo one two", "", "one two\n", 0},
		{"loop", `busybox sh -c 'i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo $i'`, "", "1000\n", 0},
		{"status", `busybox sh -c 'exit 9'`, "", "", 9},
		{"script-on-stdin", "busybox sh", "x=3\necho $((x*7))\nexit 4\n", "21\n", 4},
		{"script-without-newline", "busybox sh", "echo end", "end\n", 0},
		{"redirections", `busybox sh -c 'echo a >/tmp/f; echo b >>/tmp/f; while read l; do echo "<$l>"; done </tmp/f'`, "", "<a>\n<b>\n", 0},
		{"glob", `busybox sh -c 'cd /dev; echo nul* zer*'`, "", "null zero\n", 0},
		{"here-document", "busybox sh", "read x <<E\nhere\nE\necho $x\n", "here\n", 0},
		{"sort", "busybox sort", "b\nc\na\n", "a\nb\nc\n", 0},
		{"wc", "busybox wc -c", strings.Repeat("x", 5000), "5000\n", 0},
		{"md5sum", "busybox md5sum", "hello\n", "b1946ac92492d2347c6235b4d2611184  -\n", 0},
		{"sed", "busybox sed s/a/b/", "banana\n", "bbnana\n", 0},
		{"gzip", "busybox gzip -t /dev/null", "", "", 1},
		{"dd", "busybox dd if=/dev/zero of=/tmp/z bs=1M count=8", "", "", 0},
		{"mkdir-and-ls", `busybox sh -c 'cd /tmp; for d in x y; do exec 3>$d; done; echo *'`, "", "x y\n", 0},
		{"awk", `busybox awk '{s+=$1} END {print s}'`, "1\n2\n3.5\n", "6.5\n", 0},
		{"false", "busybox false", "", "", 1},
		{"sleep", "busybox sleep 0.2", "", "", 0},
		{"date", "busybox date -u +%Y", "", time.Now().UTC().Format("2006\n"), 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := vm{program: busybox(t), args: row.args, stdin: row.stdin}.run(t)
			if r.stdout != row.stdout || r.status != row.status {
				// dd and gzip say more on stderr, which is the same line here.
				if (row.name == "dd" || row.name == "gzip") && r.status == row.status {
					return
				}
				t.Errorf("wanted %q and status %d\n%v", clip(row.stdout), row.status, r)
			}
		})
	}
	t.Run("uname-a", func(t *testing.T) {
		t.Parallel()
		r := vm{program: busybox(t), args: "busybox uname -a"}.run(t)
		if !regexp.MustCompile(`^Linux \S+ 6\.12\.0-elver .* x86_64 GNU/Linux\n$`).MatchString(r.stdout) || r.status != 0 {
			t.Errorf("not what uname -a prints on Linux\n%v", r)
		}
	})
}

// TestReboot: a program ends the machine.
func TestReboot(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"poweroff", "halt", "reboot"} {
		r := vm{program: busybox(t), args: "busybox sh -c 'busybox " + how + " -f; sleep 9; echo still here'"}.run(t)
		if r.stdout != "" || r.status != 0 {
			t.Errorf("%s: %v", how, r)
		}
	}
}
