package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"elver/test/need"
)

// A debianScript is testdata/debian/NAME.sh: bash runs it with Debian's programs in a directory of its own,
// on Linux as in the guest, and it must print what NAME.out holds. ELVER_RECORD=1 writes these files by
// running the scripts on this Linux. Lines of the form "# soak", "# system", "# memory MB" and "# seconds N" at its
// head say where it runs, and with what.
type debianScript struct {
	name, text, want string
	root             *debianRoot
	mem              int
	timeout          time.Duration
}

var scriptHead = regexp.MustCompile(`(?m)^# (soak|system|memory|seconds) ?(\d*)$`)

func debianScripts(t testing.TB) (scripts []debianScript) {
	t.Helper()
	files, err := filepath.Glob("testdata/debian/*.sh")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata/debian: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := debianScript{name: strings.TrimSuffix(filepath.Base(file), ".sh"), text: string(text), root: quickRoot, timeout: 5 * time.Minute}
		for _, m := range scriptHead.FindAllStringSubmatch(s.text, -1) {
			n, _ := strconv.Atoi(m[2])
			switch m[1] {
			case "soak":
				s.root = soakRoot
			case "system":
				s.root = systemRoot
			case "memory":
				s.mem = n
			case "seconds":
				s.timeout = time.Duration(n) * time.Second
			}
		}
		want, err := os.ReadFile(s.outputFile())
		if err != nil && os.Getenv("ELVER_RECORD") == "" {
			t.Fatal(err)
		}
		s.want = string(want)
		scripts = append(scripts, s)
	}
	return scripts
}

func (s debianScript) outputFile() string { return "testdata/debian/" + s.name + ".out" }

// record runs the script on this Linux, in namespaces of its own, and keeps what it prints.
func (s debianScript) record(t *testing.T, root, dir string) {
	t.Helper()
	inside := fmt.Sprintf(`mount --make-rprivate / && mount --rbind /dev "$0/dev" && mount -t sysfs none "$0/sys" && ip link set lo up
		cd "$0" && exec env -i HOME=/root TERM=linux PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		taskset 1 chroot . /bin/bash -c 'cd /tmp/%s && exec bash script 2>&1'`, filepath.Base(dir))
	r := execute(s.timeout, "", []string{"unshare", "-m", "-n", "-p", "-f", "--mount-proc=" + root + "/proc", "sh", "-c", inside, root})
	if r.status != 0 {
		t.Fatalf("the script failed on Linux\n%v", r)
	}
	if err := os.WriteFile(s.outputFile(), []byte(r.stdout), 0o644); err != nil {
		t.Fatal(err)
	}
}

// prepare makes the script's directory in a root.
func (s debianScript) prepare(t *testing.T, root string) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), s.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(s.text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// differ tells where what came differs from what Linux prints.
func (s debianScript) differ(t *testing.T, r result) {
	t.Helper()
	if r.stdout != s.want || r.status != 0 {
		got, want := strings.Split(r.stdout, "\n"), strings.Split(s.want, "\n")
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Errorf("line %d: %q, Linux prints %q", i+1, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
				break
			}
		}
		t.Errorf("not what Linux prints, with status 0\n%v", r)
	}
	if strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("the kernel reports a failure\n%v", r)
	}
}

// TestDebianScripts compares what Debian's programs print with what they print on Linux.
func TestDebianScripts(t *testing.T) {
	for _, s := range debianScripts(t) {
		if s.root != quickRoot && !soak { // they download hundreds of megabytes
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			root := s.root.dir(t)
			dir := s.prepare(t, root)
			if os.Getenv("ELVER_RECORD") != "" {
				s.record(t, root, dir)
				return
			}
			s.differ(t, vm{args: "bash -c 'cd /tmp/" + filepath.Base(dir) + " && exec bash script 2>&1'",
				script: []string{"-e", root}, mem: s.mem, timeout: s.timeout}.run(t))
		})
	}
}

// TestDebianArchive runs Debian's programs from an archive in memory.
func TestDebianArchive(t *testing.T) {
	need.Command(t, "cpio")
	const name = "coreutils"
	for _, s := range debianScripts(t) {
		if s.name != name {
			continue
		}
		root := debianDir(t)
		dir := s.prepare(t, root)
		archive := filepath.Join(t.TempDir(), "root.cpio.gz")
		cmd := exec.Command("sh", "-c", `{ printf '%s\n' lib sbin tmp var root etc etc/passwd etc/group etc/nsswitch.conf usr usr/lib
			find "tmp/$1" bin lib64 lib/x86_64-linux-gnu/ld* lib/x86_64-linux-gnu/lib[cmst]* usr/libexec/coreutils
			find usr/bin usr/sbin/chroot -size -300k ! -name '*git*'
			find usr/lib/x86_64-linux-gnu -maxdepth 1 -name 'lib[agp]*.so*' -size -1000k
		} | cpio -o -H newc --quiet -R 0:0 | gzip -1 >"$0"`, archive, filepath.Base(dir))
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		s.differ(t, vm{program: archive, args: "bash -c 'cd /tmp/" + filepath.Base(dir) + " && exec bash script 2>&1'",
			mem: 512, timeout: s.timeout}.run(t))
		return
	}
	t.Fatal("there is no script", name)
}
