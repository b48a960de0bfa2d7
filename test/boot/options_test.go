package boot

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestElverOptions: what TestElverRun doesn't try.
func TestElverOptions(t *testing.T) {
	t.Parallel()
	box := busybox(t)
	for _, row := range []struct {
		name          string
		words         []string
		stdout, error string // error: contained in stderr
		status        int
	}{
		{name: "q35", words: []string{"--machine", "q35", box, "sh", "-c", "ip -4 addr show eth0 | grep -o '10.0.2.15/24'"}, stdout: "10.0.2.15/24\n"},
		{name: "no network", words: []string{"--net", "none", box, "sh", "-c", "ip link show eth0; ip -4 addr show lo | grep -o 127.0.0.1/8"}, error: "can't find device", stdout: "127.0.0.1/8\n"},
		{name: "network and none", words: []string{"--net", "none", "-p", "1:1", box}, error: "--net none", status: 125},
		{name: "log", words: []string{"--log", "debug", box, "true"}, error: "debug: process 1 ended"},
		{name: "trace", words: []string{"--strace=write", box, "echo", "hello"}, stdout: "hello\n", error: `write(1, "hello\n", 6)`},
		{name: "summary", words: []string{"--summary", box, "cat", "/nonesuch"}, error: "/nonesuch", status: 1},
		{name: "automatic accelerator", words: []string{"--accel", "auto", box, "echo", "ran"}, stdout: "ran\n"},
		{name: "user", words: []string{"-u", "7:8", "--hostname", "here", box, "sh", "-c", "id -u; id -g; hostname"}, stdout: "7\n8\nhere\n"},
		{name: "no QEMU", words: []string{"--qemu", "nonesuch-qemu", box}, error: "--qemu nonesuch-qemu: executable file not found in $PATH\n", status: 125},
		{name: "no kernel", words: []string{"--kernel", box, box}, error: "--kernel: " + box + " is no kernel of Elver's\n", status: 125},
		{name: "status 254", words: []string{box, "sh", "-c", "exit 254"}, status: 254},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := elver(t, "", row.words...)
			if r.stdout != row.stdout || r.status != row.status || !strings.Contains(r.stderr, row.error) || row.error == "" && r.stderr != "" {
				t.Errorf("wanted %q, status %d, %q\n%v", row.stdout, row.status, row.error, r)
			}
		})
	}
}

// TestElverStreams: every byte gets through both ways; streams that are closed or full end nothing but what
// uses them.
func TestElverStreams(t *testing.T) {
	t.Parallel()
	size := 200 << 10
	if soak {
		size = 8 << 20
	}
	all := make([]byte, size)
	for i, source := 0, rand.NewChaCha8([32]byte{1}); i < size; i++ {
		all[i] = byte(source.Uint64())
	}
	t.Run("binary", func(t *testing.T) {
		vms <- struct{}{}
		defer func() { <-vms }()
		r := execute(5*patience, string(all), run(t, busybox(t), "cat"))
		if r.stdout != string(all) || r.status != 0 || r.stderr != "" {
			t.Errorf("status %d, %d bytes of %d after %v\n%s", r.status, len(r.stdout), size, r.took, r.stderr)
		}
	})
	for _, row := range []struct {
		name, shell, program string
		status               int
		stderr               string
	}{
		{"no input", "<&-", "cat; echo end >&2", 0, "end\n"},
		{"no output", ">&-", "echo lost; echo end >&2", 0, "end\n"},
		{"output full", ">/dev/full", "echo lost; sleep 99", 125, "elver: the program's output: write /dev/stdout: no space left on device\n"},
		{"output full, and the program ended well", ">/dev/full", "echo lost", 125, "elver: the program's output: write /dev/stdout: no space left on device\n"},
		{"errors nowhere", "2>&-", "echo lost >&2; exit 3", 3, ""},
		{"errors joined", ">/dev/null 2>&1", "echo lost >&2; exit 4", 4, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			vms <- struct{}{}
			defer func() { <-vms }()
			r := execute(patience, "", append([]string{"sh", "-c", `"$@" ` + row.shell, "sh"}, run(t, busybox(t), "sh", "-c", row.program)...))
			if r.status != row.status || r.stderr != row.stderr || r.stdout != "" {
				t.Errorf("wanted status %d and %q\n%v", row.status, row.stderr, r)
			}
		})
	}
}

// piped is a command whose streams a test holds.
type piped struct {
	*exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors *bytes.Buffer
}

func pipe(t *testing.T, words []string) *piped {
	t.Helper()
	vms <- struct{}{}
	t.Cleanup(func() { <-vms })
	s := &piped{Cmd: exec.Command(words[0], words[1:]...), errors: new(bytes.Buffer)}
	s.Stderr = s.errors
	var err error
	if s.in, err = s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(2*patience, func() { s.Process.Kill() })
	t.Cleanup(func() { stuck.Stop(); s.Process.Kill() })
	return s
}

// line wants the next line of the output.
func (s *piped) line(t *testing.T, want string) {
	t.Helper()
	if line, err := s.out.ReadString('\n'); line != want {
		t.Fatalf("got %q, %v, wanted %q\n%s", line, err, want, s.errors)
	}
}

// end wants the command to end with a status.
func (s *piped) end(t *testing.T, status int) {
	t.Helper()
	s.Wait()
	if got := s.ProcessState.ExitCode(); got != status {
		t.Errorf("status %d, wanted %d\n%s", got, status, s.errors)
	}
}

// TestElverPublishUDP: datagrams get in, and the answers out.
func TestElverPublishUDP(t *testing.T) {
	t.Parallel()
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.LocalAddr().String()
	free.Close()
	s := pipe(t, run(t, "-p", address+":7/udp", build(t, goProgram, "netserver")))
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Until the server is there they are lost.
	for deadline := time.Now().Add(patience); ; {
		c.Write([]byte("datagram"))
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		b := make([]byte, 100)
		if n, err := c.Read(b); err == nil {
			if string(b[:n]) != "datagram" {
				t.Errorf("the echo is %q", b[:n])
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no echo\n%s", s.errors)
		}
	}
	s.Process.Signal(syscall.SIGINT)
	s.end(t, 130)
}

// TestElverStop: Ctrl-Z stops the machine with the command, and what continues one continues both.
func TestElverStop(t *testing.T) {
	t.Parallel()
	state := func(pid int) string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, ok := strings.Cut(string(b), ") "); ok {
			return rest[:1]
		}
		return string(b)
	}
	s := pipe(t, run(t, build(t, staticPIE, "echo")))
	io.WriteString(s.in, "one\n")
	s.line(t, "one\n")
	qemu := qemuOf(t, s.Process.Pid)
	s.Process.Signal(syscall.SIGTSTP)
	for deadline := time.Now().Add(patience); state(s.Process.Pid) != "T" || state(qemu) != "T"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the command is %s, QEMU %s, after SIGTSTP", state(s.Process.Pid), state(qemu))
		}
	}
	io.WriteString(s.in, "two\n")
	s.Process.Signal(syscall.SIGCONT)
	s.line(t, "two\n")
	s.in.Close()
	s.end(t, 8)
}

// TestElverGDB: the machine waits for a debugger, here one that lets it go at once.
func TestElverGDB(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	s := pipe(t, run(t, fmt.Sprintf("--gdb=%d", port), build(t, staticPIE, "helloworld")))
	var c net.Conn
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var err error
		if c, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, s.errors)
		}
	}
	defer c.Close()
	// The remote protocol: $packet#sum. Why it stands, and: detach.
	io.WriteString(c, "+$?#3f")
	c.SetReadDeadline(time.Now().Add(patience))
	reply, err := bufio.NewReader(c).ReadString('#')
	if !strings.HasPrefix(strings.TrimPrefix(reply, "+"), "$T05") {
		t.Fatalf("the debugger hears %q, %v", reply, err)
	}
	io.WriteString(c, "+$D#44")
	s.line(t, hello)
	s.end(t, 0)
	if !strings.Contains(s.errors.String(), fmt.Sprintf("target remote localhost:%d", port)) {
		t.Errorf("it doesn't say what to do: %s", s.errors)
	}
}
