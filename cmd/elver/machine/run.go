package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"
)

// StatusFailed is the exit status when Elver refused or failed.
const StatusFailed = 125

// qemu returns the path of the QEMU to run.
func (c *Config) qemu() (string, error) {
	name := c.QEMU
	if name == "" {
		name = "qemu-system-x86_64"
	}
	path, err := exec.LookPath(name)
	var found *exec.Error
	switch {
	case c.QEMU != "" && errors.As(err, &found):
		return "", fmt.Errorf("--qemu %s: %w", c.QEMU, found.Err)
	case err != nil:
		return "", fmt.Errorf("%s is not installed: on Debian and Ubuntu it is in the package qemu-system-x86, on macOS \"brew install qemu\" brings it", name)
	}
	return path, nil
}

// Terminal says whether the console is to be the terminal that this process has: one for input and output,
// whose keys reach this process.
func Terminal() bool {
	return term.IsTerminal(0) && term.IsTerminal(1) && foreground()
}

// DryRun writes the command line that Run would use, quoted for a shell, with plain channels.
func DryRun(c *Config, w io.Writer) error {
	qemu, err := c.qemu()
	if err != nil {
		qemu = c.QEMU
		if qemu == "" {
			qemu = "qemu-system-x86_64"
		}
	}
	line, err := c.CommandLine("")
	if err != nil {
		return err
	}
	accel := c.Accel
	if accel == AccelAuto {
		accel = AccelTCG
		if err == nil && KVMWorks(c, qemu) {
			accel = AccelKVM
		}
	}
	args, err := c.Arguments(accel, line)
	if err != nil {
		return err
	}
	words := append([]string{qemu, "-chardev", "stdio,id=console,signal=off,mux=on",
		"-chardev", "file,id=log,path=/dev/stderr,append=on", "-chardev", "file,id=status,path=elver.status"}, args...)
	for i, word := range words {
		words[i] = shellQuote(word)
	}
	_, err = fmt.Fprintln(w, strings.Join(words, " "))
	return err
}

// shellQuote quotes a word for a POSIX shell where that is needed.
func shellQuote(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,@%+-") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// vm is a running QEMU.
type vm struct {
	cmd      *exec.Cmd
	process  atomic.Pointer[os.Process] // nil before it is started
	signal   atomic.Int32
	broken   atomic.Pointer[error] // why the output can't be written any more
	attached bool                  // to the terminal

	theirs  closeList      // QEMU's ends of the channels
	readers sync.WaitGroup // of ours
	ended   []byte         // what came over the status channel; after readers
	input   *os.File       // ours of the program's input; nil if QEMU has the terminal

	monitorMu  sync.Mutex
	monitor    *os.File // QMP
	negotiated bool
}

// Run starts the machine, waits for its end and returns the exit status: the program's own, or
// StatusFailed with an error that says why.
//
// Precondition: the caller's goroutine is locked to the main thread, whose end is that of the process: QEMU
// is to end with it.
func Run(c *Config) (status int, err error) {
	qemu, err := c.qemu()
	if err != nil {
		return StatusFailed, err
	}
	accel := c.Accel
	if accel == AccelAuto {
		accel = AccelTCG
		if KVMWorks(c, qemu) {
			accel = AccelKVM
		}
	}
	v := &vm{attached: Terminal()}
	console := "pipe"
	if v.attached {
		console = ""
		if columns, rows, err := term.GetSize(1); err == nil && columns > 0 && rows > 0 {
			c.Parameters = append(c.Parameters, fmt.Sprintf("elver.window=%dx%d", rows, columns))
		}
	}
	line, err := c.CommandLine(console)
	if err != nil {
		return StatusFailed, err
	}
	args, err := c.Arguments(accel, line)
	if err != nil {
		return StatusFailed, err
	}
	return v.run(c, qemu, args)
}

// run joins the channels to QEMU and waits for its end. QEMU makes its streams non-blocking, and with them
// those of everybody who shares them: so all it gets are pipes of its own, unless it has the terminal.
func (v *vm) run(c *Config, qemu string, args []string) (int, error) {
	defer v.theirs.Close()
	v.cmd = exec.Command(qemu)
	v.cmd.SysProcAttr = processAttributes(!v.attached)
	for _, join := range []func() ([]string, error){v.joinLog, v.joinStatus, v.joinMonitor, v.joinConsole} {
		channel, err := join()
		if err != nil {
			return StatusFailed, err
		}
		v.cmd.Args = append(v.cmd.Args, channel...)
	}
	defer v.monitor.Close()
	if v.input != nil {
		// QEMU must not see the end of its own input: from then on it drops output that the reader is slow
		// to take. So the pipe stays open until QEMU has ended.
		defer v.input.Close()
	} else if before, err := term.GetState(0); err == nil {
		defer term.Restore(0, before)
	}
	v.cmd.Args = append(v.cmd.Args, args...)

	stop := v.handleSignals()
	defer stop()
	if err := v.cmd.Start(); err != nil {
		v.theirs.Close()
		v.readers.Wait()
		return StatusFailed, fmt.Errorf("%s cannot be started: %w", qemu, err)
	}
	v.process.Store(v.cmd.Process)
	v.theirs.Close()
	if v.input != nil {
		go feed(v.input)
	}
	err := v.cmd.Wait()
	// What the machine wrote is to be out before this process ends.
	v.readers.Wait()
	return v.verdict(c, v.ended, err)
}

// inherit gives QEMU a file and returns its descriptor there.
func (v *vm) inherit(f *os.File) int {
	v.cmd.ExtraFiles = append(v.cmd.ExtraFiles, f)
	return 2 + len(v.cmd.ExtraFiles)
}

// fromQEMU makes a pipe that read reads to its end, and returns QEMU's end of it.
func (v *vm) fromQEMU(read func(io.Reader)) (*os.File, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	v.theirs = append(v.theirs, theirs)
	v.readers.Add(1)
	go func() {
		defer v.readers.Done()
		defer ours.Close()
		read(ours)
	}()
	return theirs, nil
}

// fdset makes a chardev of a file that QEMU inherits. (Without append QEMU would truncate it, which fails
// for a pipe.)
func (v *vm) fdset(id string, n int, f *os.File) []string {
	return []string{"-add-fd", fmt.Sprintf("fd=%d,set=%d", v.inherit(f), n), "-chardev", fmt.Sprintf("file,id=%s,path=/dev/fdset/%d,append=on", id, n)}
}

// joinLog joins what Elver has to say, and QEMU, to standard error.
func (v *vm) joinLog() ([]string, error) {
	logs, err := v.fromQEMU(func(logged io.Reader) {
		io.Copy(os.Stderr, logged)
		io.Copy(io.Discard, logged) // when nobody listens any more
	})
	if err != nil {
		return nil, err
	}
	v.cmd.Stderr = logs
	return v.fdset("log", 1, logs), nil
}

// joinStatus joins the channel of the status: a byte when the program has ended.
func (v *vm) joinStatus() ([]string, error) {
	statuses, err := v.fromQEMU(func(r io.Reader) { v.ended, _ = io.ReadAll(io.LimitReader(r, 16)) })
	if err != nil {
		return nil, err
	}
	return v.fdset("status", 2, statuses), nil
}

// joinMonitor joins QEMU's monitor, for the power button.
func (v *vm) joinMonitor() ([]string, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	v.monitor, v.theirs = ours, append(v.theirs, theirs)
	go io.Copy(io.Discard, ours)
	return []string{"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", v.inherit(theirs)), "-mon", "chardev=monitor,mode=control"}, nil
}

// joinConsole joins the program's streams: the terminal itself, or pipes.
func (v *vm) joinConsole() ([]string, error) {
	if v.attached {
		v.cmd.Stdin, v.cmd.Stdout = os.Stdin, os.Stdout
		return []string{"-chardev", "stdio,id=console,signal=off,mux=on", "-mon", "console"}, nil
	}
	in, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	v.input, v.theirs = ours, append(v.theirs, in)
	out, err := v.fromQEMU(func(r io.Reader) {
		if err := drain(os.Stdout, r); err != nil {
			v.broken.Store(&err)
			v.quit()
			io.Copy(io.Discard, r)
		}
	})
	if err != nil {
		return nil, err
	}
	v.cmd.Stdin, v.cmd.Stdout = in, out
	return []string{"-chardev", "stdio,id=console,signal=off"}, nil
}

// verdict makes an exit status of how QEMU ended.
func (v *vm) verdict(c *Config, ended []byte, err error) (int, error) {
	broken := v.broken.Load()
	unread := broken != nil && errors.Is(*broken, syscall.EPIPE)
	switch {
	case broken != nil && !unread: // the program cannot know, whatever its own status says
		return StatusFailed, fmt.Errorf("the program's output: %w", *broken)
	case len(ended) > 0:
		return int(ended[len(ended)-1]), nil
	case unread:
		return 128 + int(syscall.SIGPIPE), nil
	}
	if s := v.signal.Load(); s != 0 {
		return 128 + int(s), nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return StatusFailed, fmt.Errorf("QEMU died of signal %d", int(ws.Signal()))
		}
		if exit.ExitCode() == 1 {
			return StatusFailed, errors.New("QEMU failed; what it said is above")
		}
	} else if err != nil {
		return StatusFailed, err
	}
	// An image that doesn't fit cannot say so.
	if c.MemoryMB < 32 {
		return StatusFailed, fmt.Errorf("the virtual machine ended before the program began: %d MB are too little memory, give more with -m", c.MemoryMB)
	}
	return StatusFailed, errors.New("the virtual machine ended before the program did")
}

// drain copies the console's output to its end. QEMU writes byte after byte: what comes within a millisecond
// is written at once.
func drain(to io.Writer, from io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		if n < len(buf)/16 {
			time.Sleep(time.Millisecond)
		}
	}
}

// Bytes of the console's protocol: input is stuffed so that every byte and the end of file get through a
// serial line. DLE DLE is one DLE, DLE EOT the end of file.
const (
	dle = 0x10
	eot = 0x04
)

// feed copies this process's input to the console until its end.
func feed(w io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := os.Stdin.Read(buf)
		if n > 0 {
			if _, err := w.Write(bytes.ReplaceAll(buf[:n], []byte{dle}, []byte{dle, dle})); err != nil {
				return
			}
		}
		if errors.Is(err, syscall.EIO) && term.IsTerminal(0) && !foreground() {
			// In the background there is no input, until the shell brings this job to the front.
			time.Sleep(200 * time.Millisecond)
			continue
		}
		if err != nil {
			w.Write([]byte{dle, eot})
			return
		}
	}
}

// quit ends QEMU without further ado.
func (v *vm) quit() {
	v.command("quit")
	time.AfterFunc(2*time.Second, func() { v.send(syscall.SIGKILL) })
}

// pressPowerButton asks Elver to end: it sends the program SIGTERM, and SIGKILL after 10 s.
func (v *vm) pressPowerButton() {
	v.command("system_powerdown")
	// QEMU itself ends if that didn't help.
	time.AfterFunc(15*time.Second, v.quit)
}

// command has QEMU's monitor execute a command without arguments. One that is given before QEMU has
// started waits for it.
func (v *vm) command(name string) {
	v.monitorMu.Lock()
	defer v.monitorMu.Unlock()
	v.monitor.SetWriteDeadline(time.Now().Add(time.Second))
	if !v.negotiated {
		v.negotiated = true
		io.WriteString(v.monitor, `{"execute":"qmp_capabilities"}`+"\n")
	}
	fmt.Fprintf(v.monitor, `{"execute":%q}`+"\n", name)
}

// handleSignals serves the signals to this process until stop is called.
func (v *vm) handleSignals() (stop func()) {
	c := make(chan os.Signal, 8)
	// A broken pipe is an error of write then, not the end.
	signal.Notify(c, syscall.SIGPIPE)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if !signal.Ignored(s) { // as nohup(1) and shells have it for what runs in the background
			signal.Notify(c, s)
		}
	}
	if !v.attached {
		// QEMU has a process group of its own: it doesn't see what is typed.
		signal.Notify(c, syscall.SIGCONT)
		if !signal.Ignored(syscall.SIGTSTP) {
			signal.Notify(c, syscall.SIGTSTP)
		}
		// Reading from the terminal in the background is an error then, not a stop.
		signal.Ignore(syscall.SIGTTIN)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-c:
				v.handle(s.(syscall.Signal))
			}
		}
	}()
	return func() {
		signal.Stop(c)
		close(done)
	}
}

func (v *vm) handle(s syscall.Signal) {
	switch s {
	case syscall.SIGTERM, syscall.SIGHUP:
		if v.signal.Swap(int32(s)) != 0 {
			v.quit()
			return
		}
		v.pressPowerButton()
	case syscall.SIGINT, syscall.SIGQUIT:
		v.signal.Store(int32(s))
		v.quit()
	case syscall.SIGTSTP:
		v.send(syscall.SIGSTOP)
		syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	case syscall.SIGCONT:
		v.send(syscall.SIGCONT)
	}
}

func (v *vm) send(s syscall.Signal) {
	if p := v.process.Load(); p != nil {
		p.Signal(s)
	}
}

// closeList closes all its files, once.
type closeList []io.Closer

// Close closes them.
func (l *closeList) Close() error {
	for _, c := range *l {
		c.Close()
	}
	*l = nil
	return nil
}
