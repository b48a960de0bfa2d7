package boot

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// onShare lists programs that check themselves in a folder of the host's: on the host first, then with that
// folder as the root file system of a VM.
var onShare = []struct {
	program string
	tests   []string // of the program's; all without
	kind    kind
	mem     int
	timeout time.Duration
	soak    bool
}{
	{"pressure", nil, staticPIE, 40, 3 * time.Minute, false},
	{"ondisk", []string{"nameless-and-mapped", "nameless-resized", "sparse", "attributes"}, staticPIE, 64, 3 * time.Minute, false},
	{"ondisk", []string{"many-files"}, staticPIE, 64, 10 * time.Minute, true},
}

func TestShare(t *testing.T) {
	for _, row := range onShare {
		if row.soak && !soak { // it takes minutes on a loaded machine
			continue
		}
		t.Run(row.program, func(t *testing.T) {
			t.Parallel()
			program := build(t, row.kind, row.program)
			cmd := exec.Command(program, row.tests...)
			cmd.Dir = t.TempDir()
			onHost, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("fails on the host's Linux already: %v\n%s", err, onHost)
			}
			dir := t.TempDir()
			r := vm{program: program, args: strings.Join(row.tests, " "), mem: row.mem, script: []string{"-e", dir}, timeout: row.timeout}.run(t)
			if r.status != 0 || r.stdout != string(onHost) || r.stderr != "" {
				t.Errorf("wanted what Linux gives, status 0 and no log\n%v", r)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("on the host are left %v, %v", left, err)
			}
		})
	}
}

// TestSeveralShares mounts a second one by vfs.fstab, runs a program that is named as a folder of the first, and
// finds the files of the network, which no host gets.
func TestSeveralShares(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile(build(t, staticPIE, "show"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := t.TempDir(), filepath.Join(t.TempDir(), "a, b")
	for _, dir := range []string{first + "/etc", first + "/data", second + "/d"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(second+"/d/f", []byte("from the second\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := vm{
		program: write(t, "etc", program), script: []string{"-e", first, "-e", second, "-n"},
		args: `vfs.fstab=[ "fs1:/data:9pfs:ro" ] -- /data/d/f /etc/resolv.conf /etc/hosts /etc/hostname`,
	}.run(t)
	const want = "from the second\nnameserver 10.0.2.3\n127.0.0.1\tlocalhost\n::1\tlocalhost\n/etc/hostname: missing\n"
	if r.stdout != want || r.status != 1 || r.stderr != "" {
		t.Errorf("wanted %q\n%v", want, r)
	}
	if left, err := os.ReadDir(first + "/etc"); err != nil || len(left) != 0 {
		t.Errorf("the host has %v, %v", left, err)
	}
}

// silentShare returns arguments of QEMU for the share "silent", whose server answers no read in a machine's lifetime.
func silentShare(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("x"), 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"-fsdev", "local,id=silent,security_model=none,throttling.bps-total=1,path=" + strings.ReplaceAll(dir, ",", ",,"),
		"-device", "virtio-9p-pci,fsdev=silent,mount_tag=silent"}
}

// TestSilentShare kills what waits for a server that doesn't answer.
func TestSilentShare(t *testing.T) {
	const mounted = `vfs.fstab=[ "silent:/silent:9pfs" ] -- `
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		r := vm{program: build(t, staticPIE, "impatient"), args: mounted + "/silent/file", qemu: silentShare(t)}.run(t)
		if r.stdout != "child 0 is dead\nchild 1 is dead\n" || r.status != 128+int(syscall.SIGALRM) {
			t.Error(r)
		}
	})
	t.Run("power button", func(t *testing.T) {
		t.Parallel()
		words := vm{program: build(t, staticPIE, "show"), args: mounted + "/proc/sys/kernel/ostype /silent/file", qemu: silentShare(t)}.command()
		cmd, _, out := started(t, words...)
		if got, err := out.ReadString('\n'); got != "Linux\n" {
			t.Fatalf("got %q, %v", got, err)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, out)
		cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 128+int(syscall.SIGTERM) {
			t.Errorf("status %d", status)
		}
	})
}
