package boot

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestScriptOptions checks what needs no VM.
func TestScriptOptions(t *testing.T) {
	t.Parallel()
	program := build(t, tiny, "hello")
	rows := []struct {
		name    string
		options []string
		status  int
		out     string // regular expressions
		errs    string
	}{
		{"help", []string{"-h"}, 0, `(?s)-kernel.*-initrd.*-append`, `^$`},
		{"dry-run", []string{"-D", "-W", "-k", kernelImage, "-i", program, "-a", "a 'b c'"}, 0,
			`^qemu-system-x86_64 .*-accel tcg -cpu max -smp 1,maxcpus=2 .*-append 'a '\\''b c'\\'''`, `^$`},
		{"dry-run-cpus", []string{"-DW", "-c2", "-s", "3"}, 0, `-smp 6,maxcpus=7 `, `^$`},
		{"dry-run-machine", []string{"-DW", "-t", "microvm", "-m", "77"}, 0, `-machine microvm -m 77 `, `^$`},
		{"dry-run-never-nographic", []string{"-DW"}, 0, `-display none`, `^$`},
		{"dry-run-gdb", []string{"-DWP", "-g", "1234"}, 0, `-S -gdb|-gdb tcp:127\.0\.0\.1:1234|-S`, `^$`},
		{"dry-run-trace", []string{"-DW", "-T", "/tmp/x.log"}, 0, `-D /tmp/x\.log`, `^$`},
		{"dry-run-extra", []string{"-DW", "--", "-cpu", "qemu64"}, 0, `-cpu qemu64 \n$`, `^$`},
		{"dry-run-kvm", []string{"-D", "--accel", "kvm"}, 0, `-accel kvm -cpu host `, `^$`},
		{"share", []string{"-DW", "-e", "/tmp"}, 0, `-fsdev local,id=fs0,path=/tmp,.* -device virtio-9p-pci,`, `^$`},
		{"shares", []string{"-DW", "-e", "/tmp", "-e", "/"}, 0, `id=fs0,path=/tmp,.*mount_tag=fs0 .*id=fs1,path=/,.*mount_tag=fs1 `, `^$`},
		{"share-on-microvm", []string{"-DW", "-t", "microvm", "-e", "/tmp"}, 0, `-device virtio-9p-device,`, `^$`},
		{"share-missing", []string{"-W", "-e", "/no/folder"}, 125, `^$`, `/no/folder`},
		{"port-malformed", []string{"-N", "80:x"}, 125, `^$`, `-N wants`},
		{"bridge", []string{"-DW", "-b", "br0", "-b", "br1"}, 0, `-netdev bridge,id=net1,br=br0 -device virtio-net-pci,netdev=net1,mac=52:54:00(:[0-9a-f]{2}){3} -netdev bridge,id=net2,br=br1 `, `^$`},
		{"bridge-missing", []string{"-b", "nobridge7"}, 125, `^$`, `no bridge`},
		{"bridge-malformed", []string{"-b", "a,b"}, 125, `^$`, `name of a bridge`},
		{"disk", []string{"-d", "x"}, 125, `^$`, `disk`},
		{"qcow2", []string{"-q", "x"}, 125, `^$`, `disk`},
		{"rng", []string{"-DWr"}, 0, `-object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,rng=rng0 `, `^$`},
		{"balloon", []string{"-DWl", "-t", "microvm"}, 0, `-device virtio-balloon-device,deflate-on-oom=on `, `^$`},
		{"unknown-option", []string{"-y"}, 125, `^$`, `-y`},
		{"stray-word", []string{"hello"}, 125, `^$`, `hello`},
		{"no-value", []string{"-i"}, 125, `^$`, `-i`},
		{"bad-memory", []string{"-m", "much"}, 125, `^$`, `much`},
		{"bad-machine", []string{"-t", "arm64v"}, 125, `^$`, `arm64v`},
		{"bad-accelerator", []string{"--accel", "hvf"}, 125, `^$`, `hvf`},
		{"no-kernel", []string{"-k", "/no/kernel"}, 125, `^$`, `/no/kernel`},
		{"no-qemu", []string{"-W", "-Q", "/no/qemu"}, 125, `^$`, `/no/qemu`},
		{"qemu-fails", []string{"-W", "-i", program, "--", "-no-such-option"}, 125, `^$`, `no-such-option`},
		{"no-program", []string{"-W", "-i", "/no/program"}, 127, `^$`, `/no/program`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			options := row.options
			if row.name != "no-kernel" && row.name != "help" {
				options = append([]string{"-k", kernelImage}, options...)
			}
			r := execute(patience, "", append([]string{script}, options...))
			if r.status != row.status || !regexp.MustCompile(row.out).MatchString(r.stdout) ||
				!regexp.MustCompile(row.errs).MatchString(r.stderr) {
				t.Errorf("wanted status %d, output like %q and errors like %q\n%v", row.status, row.out, row.errs, r)
			}
		})
	}
}

// TestScriptPaths: commas and spaces, which QEMU cuts, and the name that becomes
// argv[0].
func TestScriptPaths(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a folder, with 'all' sorts")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(build(t, staticPIE, "args"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(kernelImage)
	if err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(dir, "elver, the kernel")
	if err := os.WriteFile(kernel, image, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, argv0 := range map[string]string{"args": "args", "ar,gs 2": "ar_gs_2", "-args": "-args", "args=1": "args=1", "proc": "proc"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		r := vm{program: path, kernel: kernel, args: "-- x"}.run(t)
		if !strings.HasPrefix(r.stdout, "argv[0]="+argv0+"\nargv[1]=x\nenv ") || r.status != 0 {
			t.Errorf("%s: wanted argv[0] %s\n%v", name, argv0, r)
		}
		// Relative to the current directory, too.
		cmd := exec.Command(script, "-W", "-k", "./elver, the kernel", "-i", "./"+name, "-a", "-- y")
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil || !strings.HasPrefix(string(out), "argv[0]="+argv0+"\nargv[1]=y\n") {
			t.Errorf("%s by a relative path: %v\n%s", name, err, out)
		}
	}
}

// started runs a command in a process group of its own and kills all of it when
// it isn't done in time. It takes a place among the VMs until the test ends.
func started(t *testing.T, words ...string) (cmd *exec.Cmd, in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	vms <- struct{}{}
	cmd = exec.Command(words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	t.Cleanup(func() {
		timer.Stop()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-vms
	})
	return cmd, in, bufio.NewReader(pipe)
}

// TestScriptEndsBeforeStdin: the program ends while its input goes on.
func TestScriptEndsBeforeStdin(t *testing.T) {
	t.Parallel()
	// The input is never closed and never written.
	cmd, in, out := started(t, script, "-W", "-k", kernelImage, "-i", build(t, staticPIE, "status"), "-a", "exit 5")
	defer in.Close()
	all, _ := io.ReadAll(out)
	if cmd.Wait(); string(all) != "before exit\n" || cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("status %d, output %q", cmd.ProcessState.ExitCode(), all)
	}
}

// TestScriptConversation: a partner on pipes sees each line at once.
func TestScriptConversation(t *testing.T) {
	t.Parallel()
	cmd, in, lines := started(t, script, "-W", "-k", kernelImage, "-i", build(t, staticPIE, "echo"))
	for i := range 20 {
		want := fmt.Sprintf("line %d\n", i)
		io.WriteString(in, want)
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Fatalf("got %q, %v; wanted %q", got, err, want)
		}
	}
	in.Close()
	rest, _ := io.ReadAll(lines)
	cmd.Wait()
	if len(rest) != 0 || cmd.ProcessState.ExitCode() != (10*7+10*8)&127 {
		t.Errorf("status %d, rest %q", cmd.ProcessState.ExitCode(), rest)
	}
}

// TestScriptStreams: standard streams that are files, /dev/null or closed.
func TestScriptStreams(t *testing.T) {
	t.Parallel()
	echo, status := build(t, staticPIE, "echo"), build(t, staticPIE, "status")
	dir := t.TempDir()
	for _, c := range []struct {
		name, redirect, program, args, out, errs string
		status                                   int
	}{
		{"stdin-null", "</dev/null", echo, "", "", "^$", 0},
		{"stdin-closed", "<&-", echo, "", "", "^$", 0},
		{"stdin-file", "<in", echo, "", "from a file", "^$", 11},
		{"stderr-file", "</dev/null", status, "null", "before null\n", "SIGSEGV", 139},
		{"stdout-closed", "</dev/null >&-", status, "exit 6", "", "", 6},
		{"stderr-closed", "</dev/null 2>&-", status, "null", "before null\n", "^$", 139},
		{"stderr-to-stdout", "</dev/null 2>&1", status, "null", "*before null\n*SIGSEGV*", "^$", 139},
	} {
		t.Run(c.name, func(t *testing.T) {
			os.WriteFile(filepath.Join(dir, "in"), []byte("from a file"), 0o666)
			vms <- struct{}{}
			defer func() { <-vms }()
			cmd := exec.Command("sh", "-c", `exec "$0" -W -k "$1" -i "$2" -a "$3" `+c.redirect, script, kernelImage, c.program, c.args)
			cmd.Dir = dir
			errFile, err := os.Create(filepath.Join(dir, c.name))
			if err != nil {
				t.Fatal(err)
			}
			errFile.WriteString("kept: ")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, errFile
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			timer := time.AfterFunc(patience, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			cmd.Run()
			timer.Stop()
			errFile.Close()
			errs, _ := os.ReadFile(errFile.Name())
			kept, found := bytes.CutPrefix(errs, []byte("kept: "))
			if !found || !regexp.MustCompile(c.errs).Match(kept) || !matches(c.out, out.String()) || cmd.ProcessState.ExitCode() != c.status {
				t.Errorf("status %d, output %q, errors %q", cmd.ProcessState.ExitCode(), out.String(), errs)
			}
		})
	}
}

// TestPowerButton: SIGTERM to the script is SIGTERM to the program.
func TestPowerButton(t *testing.T) {
	for _, machine := range []string{"x86pc", "x86q35", "microvm"} {
		t.Run(machine, func(t *testing.T) {
			t.Parallel()
			cmd, in, out := started(t, script, "-W", "-k", kernelImage, "-t", machine, "-i", build(t, staticPIE, "echo"))
			io.WriteString(in, "up\n")
			if got, err := out.ReadString('\n'); got != "up\n" {
				t.Fatalf("got %q, %v", got, err)
			}
			start := time.Now()
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != 143 || time.Since(start) > 12*time.Second {
				t.Errorf("status %d after %v, wanted 143 at once", status, time.Since(start))
			}
		})
	}
}

// TestReaderGone: the reader of the output ends first, as in "| head -1".
func TestReaderGone(t *testing.T) {
	t.Parallel()
	r := execute(patience, "", []string{"sh", "-c",
		`"$0" -W -k "$1" -i "$2" -a "busybox yes" </dev/null | head -n 1`, script, kernelImage, busybox(t)})
	if r.stdout != "y\n" || r.status != 0 {
		t.Errorf("%v", r)
	}
}

// TestSlowReader: nothing is lost when the host reads slowly.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	r := execute(patience, "", []string{"sh", "-c",
		`"$0" -W -k "$1" -i "$2" -a "busybox seq 1 60000" </dev/null | (sleep 2; cat)`, script, kernelImage, busybox(t)})
	if n := strings.Count(r.stdout, "\n"); n != 60000 || !strings.HasSuffix(r.stdout, "\n60000\n") {
		t.Errorf("%d lines, %v", n, r)
	}
}

// TestNothingLeft: no files and no processes of the script outlive it.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	cmd := exec.Command(script, "-W", "-k", kernelImage, "-i", build(t, staticPIE, "helloworld"))
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != hello {
		t.Fatalf("%v: %s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestGroupSignalled: timeout(1) and a closing terminal signal QEMU together with
// the script, which may see QEMU dead already. Nothing stays behind that holds the
// output open.
func TestGroupSignalled(t *testing.T) {
	t.Parallel()
	cmd, in, out := started(t, script, "-W", "-k", kernelImage, "-i", build(t, staticPIE, "echo"))
	io.WriteString(in, "up\n")
	if got, err := out.ReadString('\n'); got != "up\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	pid := cmd.Process.Pid
	cmd.Process.Signal(syscall.SIGSTOP)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		name, _ := os.ReadFile("/proc/" + child + "/comm")
		if n, _ := strconv.Atoi(child); strings.HasPrefix(string(name), "qemu-system") {
			syscall.Kill(n, syscall.SIGTERM)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(time.Second) // QEMU ends
	cmd.Process.Signal(syscall.SIGCONT)
	start := time.Now()
	io.Copy(io.Discard, out)
	cmd.Wait()
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the output was held open for %v", took)
	}
}

// TestPVH boots a copy whose multiboot magic is zeroed: QEMU then finds the PVH
// note.
func TestPVH(t *testing.T) {
	t.Parallel()
	image, err := os.ReadFile(kernelImage)
	if err != nil {
		t.Fatal(err)
	}
	magic := []byte{0x02, 0xb0, 0xad, 0x1b}
	at := bytes.Index(image[:8192], magic)
	if at < 0 || at%4 != 0 {
		t.Fatalf("no multiboot header in the first 8 KiB (%d)", at)
	}
	copy(image[at:], []byte{0, 0, 0, 0})
	kernel := write(t, "pvh.kernel", image)
	for _, machine := range []string{"pc", "q35", "microvm"} {
		for _, mem := range []int{32, 6144} {
			t.Run(fmt.Sprint(machine, mem), func(t *testing.T) {
				t.Parallel()
				r := vm{kernel: kernel, program: build(t, staticPIE, "args"), args: "one 'two three'", mem: mem, raw: true,
					qemu: []string{"-M", machine, "-cpu", "max"}}.run(t)
				if !strings.HasPrefix(r.stdout, "argv[0]=args\nargv[1]=one\nargv[2]=two three\nenv ") && !strings.Contains(r.stdout, "\nargv[1]=one\nargv[2]=two three\nenv ") {
					t.Errorf("%v", r)
				}
			})
		}
	}
}

// TestIdle: a VM that waits burns no host CPU.
func TestIdle(t *testing.T) {
	t.Parallel()
	r := execute(patience, "", []string{"sh", "-c",
		`"$0" -W -k "$1" -i "$2" -a "busybox sleep 10"; times`, script, kernelImage, busybox(t)})
	// The last line of times(1) is what the children took: user and system.
	lines := strings.Fields(strings.TrimSpace(r.stdout))
	if len(lines) < 4 {
		t.Fatalf("%v", r)
	}
	var used float64
	for _, field := range lines[len(lines)-2:] {
		var m, s float64
		fmt.Sscanf(field, "%fm%fs", &m, &s)
		used += 60*m + s
	}
	if used > 3 {
		t.Errorf("sleeping for 10 s took %.2f s of host CPU", used)
	}
}
