package boot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a command that runs on a pseudo-terminal of the host.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	cmd    *exec.Cmd
	before unix.Termios
	stderr bytes.Buffer

	mu   sync.Mutex
	seen []byte // all output so far
	at   int    // what expect has consumed
	done chan struct{}
}

func onTerminal(t *testing.T, words []string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("no pseudo-terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99})
	term := &terminal{t: t, master: master, slave: slave, done: make(chan struct{})}
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	term.before = *before
	vms <- struct{}{}
	term.cmd = exec.Command(words[0], words[1:]...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, &term.stderr
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	term.cmd.WaitDelay = 5 * time.Second
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen = append(term.seen, buf[:n]...)
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		syscall.Kill(-term.cmd.Process.Pid, syscall.SIGKILL)
		slave.Close()
		master.Close()
		<-vms
	})
	return term
}

func (term *terminal) send(s string) {
	term.t.Helper()
	if _, err := term.master.WriteString(s); err != nil {
		term.t.Fatal(err)
	}
}

// expect waits for the output to hold want, behind what was expected before.
func (term *terminal) expect(want string) {
	term.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		term.mu.Lock()
		i := bytes.Index(term.seen[term.at:], []byte(want))
		if i >= 0 {
			term.at += i + len(want)
		}
		term.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	term.mu.Lock()
	defer term.mu.Unlock()
	term.t.Fatalf("%q didn't come; since the last match there is %q\nall: %q\nstderr: %s", want, term.seen[term.at:], term.seen, term.stderr.String())
}

// end waits for the command's end, wants this status, and the terminal restored.
func (term *terminal) end(status int) {
	term.t.Helper()
	timer := time.AfterFunc(patience, func() { syscall.Kill(-term.cmd.Process.Pid, syscall.SIGKILL) })
	term.cmd.Wait()
	timer.Stop()
	if got := term.cmd.ProcessState.ExitCode(); got != status {
		term.t.Errorf("status %d, wanted %d\nall: %q\nstderr: %s", got, status, term.seen, term.stderr.String())
	}
	after, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	if *after != term.before {
		term.t.Errorf("the terminal isn't restored: %+v, was %+v", *after, term.before)
	}
}

func interactive(t *testing.T, program, args string) *terminal {
	t.Helper()
	return onTerminal(t, vm{program: program, args: args}.command())
}

// TestInteractiveShell types into busybox's shell as a person does.
func TestInteractiveShell(t *testing.T) {
	t.Parallel()
	term := interactive(t, busybox(t), "busybox sh")
	term.expect("# ")
	term.send("echo one$((1+1))\r")
	term.expect("one2\r\n")
	term.expect("# ")
	term.send("ecxx\x7f\x7fho erased\r") // the shell's own editing
	term.expect("\nerased\r\n")
	term.send("x=5; while [ $x -gt 0 ]; do x=$((x-1)); done; echo done=$x\r")
	term.expect("done=0\r\n")
	term.send("cd /dev; pwd\r")
	term.expect("/dev\r\n")
	term.send("while :; do :; done\r")
	time.Sleep(300 * time.Millisecond)
	term.send("\x03") // Ctrl-C goes to the program, not to QEMU
	term.expect("# ")
	term.send("echo alive\r")
	term.expect("\nalive\r\n")
	term.send("exit 42\r")
	term.end(42)
}

// TestEndOfFileKey: Ctrl-D at the start of a line ends the input.
func TestEndOfFileKey(t *testing.T) {
	t.Parallel()
	term := interactive(t, build(t, staticPIE, "echo"), "")
	term.send("line\r")
	term.expect("line\r\nline\r\n") // the echo of the terminal, and the program's
	term.send("\x04")
	term.end(5)
}

func TestLineEditing(t *testing.T) {
	t.Parallel()
	term := interactive(t, build(t, staticPIE, "echo"), "")
	// The line is killed by Ctrl-U, then two letters of the next are rubbed out.
	term.send("wrong\x15right\x7f\x7fid\r")
	term.expect("\nrigid\r\n")
	term.send("\x04")
	term.end(6)
}

func TestInterruptKey(t *testing.T) {
	t.Parallel()
	term := interactive(t, build(t, staticPIE, "echo"), "")
	term.send("a\r")
	term.expect("a\r\na\r\n")
	term.send("\x03")
	term.end(130)
}

// TestMonitorKey: Ctrl-A x ends the VM.
func TestMonitorKey(t *testing.T) {
	t.Parallel()
	term := interactive(t, build(t, staticPIE, "echo"), "")
	term.send("a\r")
	term.expect("a\r\na\r\n")
	term.send("\x01x")
	term.end(125)
}

// TestFullScreen edits and looks at a text on the whole screen of the serial line, whose size they know: by
// busybox's programs, and by Debian's in the long test.
func TestFullScreen(t *testing.T) {
	type step struct{ send, expect string }
	const alternate, normal = "\x1b[?1049h", "\x1b[?1049l" // the screen beside that of the shell
	type row struct {
		name, program string
		debian        bool
		steps         []step
		text          string // the last lines of the file at the end
	}
	rows := []row{
		{"vi", "busybox vi text", false, []step{
			{"", alternate}, {"", "\x1b[32;1Hline 32"}, {"", "\x1b[33;1H\x1b[K- text 1/100 1%"},
			{"G", "- text 100/100 100%"}, {"onew line\x1b", "- text [Modified] 101/101"}, {":wq\r", normal}, {"", "# "},
		}, "line 100/new line/"},
		{"less", "busybox less text", false, []step{{"", "line 32"}, {" ", "line 64"}, {"/line 99\r", "line 99"}, {"q", "# "}}, "line 99/line 100/"},
	}
	if soak {
		rows = append(rows, []row{
			{"vim", "vim.tiny -u NONE text", true, []step{
				{"", alternate}, {"", "line 32"}, {"Goby vim\x1b", ""}, {":w\r", "written"}, {":q\r", normal}, {"", "# "},
			}, "line 100/by vim/"},
			{"nano", "nano text", true, []step{
				{"", alternate}, {"", "GNU nano"}, {"", "line 1"}, {"by nano\r", ""}, {"\x0f", "File Name to Write"}, {"\r", "Wrote 101 lines"}, {"\x18", normal}, {"", "# "},
			}, "line 99/line 100/"},
			{"Debian's less", "less text", true, []step{
				{"", alternate}, {"", "line 32"}, {"G", "line 100"}, {"?line 50\r", "line 50"}, {"q", normal}, {"", "# "},
			}, "line 99/line 100/"},
		}...)
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var v vm
			if row.debian {
				v = vm{script: []string{"-e", soakRoot.dir(t)}, args: `env.vars=[ "TERM=xterm" "PS1=# " ] -- bash --norc --noprofile -i`, mem: 512}
			} else {
				v = vm{program: busybox(t), args: "busybox sh"}
			}
			term := onTerminal(t, v.command())
			term.expect("# ")
			term.send("cd $(mktemp -d); for i in $(seq 100); do echo line $i; done >text; stty size\r")
			term.expect("33 99")
			term.expect("# ")
			term.send(row.program + "\r")
			term.expect("\r\n")
			for _, s := range row.steps {
				term.send(s.send)
				if s.expect != "" {
					term.expect(s.expect)
				}
			}
			term.send("stty -a | grep -c -- ' icanon'; tail -n 2 text | tr '\\n' '/'; rm -r \"$PWD\"; exit 3\r")
			term.expect("1\r\n")
			term.expect(row.text)
			term.end(3)
		})
	}
}

// TestNoAddedReturns: without a terminal nothing turns \n into \r\n, on the
// plain command line neither.
func TestNoAddedReturns(t *testing.T) {
	t.Parallel()
	r := vm{program: build(t, staticPIE, "args"), args: "args a", raw: true}.run(t)
	if strings.Contains(r.stdout, "\r") || !strings.Contains(r.stdout, "argv[1]=a\n") {
		t.Errorf("wanted bare newlines\n%v", r)
	}
}
