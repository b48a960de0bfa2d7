package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// root is the source tree: the tests run in test/boot.
var root, _ = filepath.Abs("../..")

var (
	kernelImage = filepath.Join(root, "build/elver.kernel")
	script      = filepath.Join(root, "scripts/qemu-guest")
	cache       = filepath.Join(root, "test/.cache")
	soak        = os.Getenv("ELVER_SOAK") != ""
	// vms bounds how many VMs run at a time.
	vms chan struct{}
)

func TestMain(m *testing.M) {
	if path := os.Getenv("ELVER_KERNEL"); path != "" {
		kernelImage, _ = filepath.Abs(path)
	}
	n, err := strconv.Atoi(os.Getenv("ELVER_VMS"))
	if err != nil || n < 1 {
		n = 2
	}
	vms = make(chan struct{}, n)
	if _, err := os.Stat(kernelImage); err != nil {
		fmt.Fprintf(os.Stderr, "there is no image to boot at %s: run make first\n", kernelImage)
		os.Exit(1)
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		fmt.Fprintln(os.Stderr, "there is no qemu-system-x86_64 here: install the package qemu-system-x86")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what a machine does within seconds, the
// busiest hosts thought of. Only what hangs takes so long.
const patience = 2 * time.Minute

// vm says how to boot one program.
type vm struct {
	program string // path of the initrd; none if empty
	args    string // -append
	stdin   string
	mem     int      // MB; the script's default if 0
	script  []string // further options of the script
	qemu    []string // further arguments of QEMU
	raw     bool     // without the script
	kernel  string   // another image
	timeout time.Duration
}

// result is what came out of a VM.
type result struct {
	stdout, stderr string
	status         int // 0-255, or -1 if it had to be killed
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("status %d after %v\n--- stdout ---\n%s\n--- stderr ---\n%s",
		r.status, r.took.Round(time.Millisecond), clip(r.stdout), clip(r.stderr))
}

// clip keeps the failure of a chatty program readable.
func clip(s string) string {
	const most = 6000
	if len(s) <= most {
		return s
	}
	return s[:most/2] + "\n[...]\n" + s[len(s)-most/2:]
}

// command returns the words that boot v.
func (v vm) command() []string {
	kernel := v.kernel
	if kernel == "" {
		kernel = kernelImage
	}
	if v.raw {
		mem := v.mem
		if mem == 0 {
			mem = 256
		}
		words := []string{"qemu-system-x86_64", "-accel", "tcg", "-m", strconv.Itoa(mem), "-display", "none",
			"-serial", "stdio", "-no-reboot", "-kernel", kernel}
		if v.program != "" {
			words = append(words, "-initrd", v.program)
		}
		if v.args != "" {
			words = append(words, "-append", v.args)
		}
		return append(words, v.qemu...)
	}
	words := []string{script, "-k", kernel}
	if os.Getenv("ELVER_KVM") == "" {
		words = append(words, "-W")
	}
	if v.program != "" {
		words = append(words, "-i", v.program)
	}
	if v.args != "" {
		words = append(words, "-a", v.args)
	}
	if v.mem != 0 {
		words = append(words, "-m", strconv.Itoa(v.mem))
	}
	words = append(words, v.script...)
	if len(v.qemu) > 0 {
		words = append(append(words, "--"), v.qemu...)
	}
	return words
}

// run boots v and waits for its end. It fails the test if that doesn't come
// within the timeout.
func (v vm) run(t testing.TB) result {
	t.Helper()
	vms <- struct{}{}
	defer func() { <-vms }()
	timeout := v.timeout
	if timeout == 0 {
		timeout = patience
	}
	r := execute(timeout, v.stdin, v.command())
	if r.status < 0 {
		t.Fatalf("%s: no end within %v\n%v", strings.Join(v.command(), " "), timeout, r)
	}
	return r
}

// execute runs a command in a process group of its own, so that nothing of it
// outlives the timeout.
func execute(timeout time.Duration, stdin string, words []string) result {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	r := result{stdout: out.String(), stderr: errs.String(), took: time.Since(start)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		r.status = -1
	case err == nil:
	case errors.As(err, &exit):
		r.status = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.status = 128 + int(ws.Signal())
		}
	default:
		r.status = -1
		r.stderr += err.Error()
	}
	return r
}
