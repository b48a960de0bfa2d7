package tty

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
)

type line struct {
	*Terminal
	out     strings.Builder
	signals []kernel.Signal
}

func newLine() *line {
	l := &line{}
	l.Terminal = New(func(p []byte) { l.out.Write(p) }, func(group int32, s kernel.Signal) { l.signals = append(l.signals, s) })
	return l
}

func (l *line) shown() string {
	s := l.out.String()
	l.out.Reset()
	return s
}

func (l *line) get(n int) (string, error) {
	p := make([]byte, n)
	b := mm.KernelBuffer(p)
	n, err := l.Read(&b)
	return string(p[:n]), err
}

func (l *line) expect(t *testing.T, n int, want string, wantErr error) {
	t.Helper()
	if got, err := l.get(n); got != want || err != wantErr {
		t.Errorf("read %q, %v; want %q, %v", got, err, want, wantErr)
	}
}

func TestCanonical(t *testing.T) {
	l := newLine()
	l.Input([]byte("hel"))
	l.expect(t, 10, "", unix.EAGAIN)
	l.Input([]byte("lp\x7fo\rnext\n"))
	l.expect(t, 3, "hel", nil)
	l.expect(t, 100, "lo\n", nil)
	l.expect(t, 100, "next\n", nil)
	if got := l.shown(); got != "hellp\b \bo\nnext\n" {
		t.Errorf("echo %q", got)
	}
	l.Input([]byte("one two  \x17three\x15four\n"))
	l.expect(t, 100, "four\n", nil)
	l.shown()
	// Control characters take two columns.
	l.Input([]byte("a\x01\x7f\x7f"))
	if got := l.shown(); got != "a^A\b \b\b \b\b \b" {
		t.Errorf("echo %q", got)
	}
	// End of file: with something before it, and alone.
	l.Input([]byte("tail\x04\x04"))
	l.expect(t, 100, "tail", nil)
	l.expect(t, 100, "", nil)
	l.expect(t, 100, "", unix.EAGAIN)
	l.Input([]byte("exact\x04"))
	l.expect(t, 5, "exact", nil)
	l.expect(t, 5, "", unix.EAGAIN)
	// VLNEXT.
	l.Input([]byte("\x16\x03\n"))
	l.expect(t, 5, "\x03\n", nil)
	if len(l.signals) != 0 {
		t.Error("a quoted ^C sent a signal")
	}
	// A line too long is cut, its end is kept.
	l.Input([]byte(strings.Repeat("x", 5000)))
	l.Input([]byte("\n"))
	if got, _ := l.get(9000); got != strings.Repeat("x", 4095)+"\n" {
		t.Errorf("a long line came as %d bytes", len(got))
	}
}

func TestSignals(t *testing.T) {
	l := newLine()
	l.Input([]byte("abc\x03\x1c\x1adef\n"))
	if len(l.signals) != 3 || l.signals[0] != kernel.Signal(unix.SIGINT) || l.signals[1] != kernel.Signal(unix.SIGQUIT) || l.signals[2] != kernel.Signal(unix.SIGTSTP) {
		t.Errorf("signals %v", l.signals)
	}
	l.expect(t, 100, "def\n", nil)
	if got := l.shown(); got != "abc^C^\\^Zdef\n" {
		t.Errorf("echo %q", got)
	}
	l.SetSize(unix.Winsize{Row: 24, Col: 80})
	l.SetSize(unix.Winsize{Row: 24, Col: 80})
	if len(l.signals) != 4 {
		t.Errorf("signals %v", l.signals)
	}
}

func TestRaw(t *testing.T) {
	l := newLine()
	s := l.Termios()
	s.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	s.Iflag &^= unix.ICRNL | unix.IXON
	l.Input([]byte("typed"))
	l.SetTermios(s, false)
	l.expect(t, 100, "typed", nil)
	l.Input([]byte("\x03\r\x13"))
	l.expect(t, 100, "\x03\r\x13", nil)
	s.Cc[unix.VMIN] = 0
	l.SetTermios(s, false)
	l.expect(t, 100, "", nil)
	s.Cc[unix.VMIN] = 3
	l.SetTermios(s, false)
	l.Input([]byte("ab"))
	l.expect(t, 100, "", unix.EAGAIN)
	l.expect(t, 2, "ab", nil)
	l.Input([]byte("abc"))
	l.expect(t, 100, "abc", nil)
	// VTIME alone: the read ends when it is over.
	s.Cc[unix.VMIN], s.Cc[unix.VTIME] = 0, 1
	l.SetTermios(s, false)
	f := l.Open(0)
	e, ch := waiter.NewChannelEntry(waiter.ReadableEvents)
	f.EventRegister(&e)
	l.expect(t, 100, "", unix.EAGAIN)
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Fatal("VTIME never ended")
	}
	l.expect(t, 100, "", nil)
	// VMIN and VTIME: the time runs from the last byte.
	s.Cc[unix.VMIN] = 5
	l.SetTermios(s, false)
	l.expect(t, 100, "", unix.EAGAIN)
	l.Input([]byte("xy"))
	for l.Open(0).Readiness(waiter.EventIn) == 0 {
		<-ch
	}
	l.expect(t, 100, "xy", nil)
	f.EventUnregister(&e)
	// Back to lines: what is there is one.
	l.Input([]byte("zz"))
	s.Lflag |= unix.ICANON
	l.SetTermios(s, false)
	l.expect(t, 100, "zz", nil)
	// Back-pressure.
	s.Lflag &^= unix.ICANON
	s.Cc[unix.VMIN], s.Cc[unix.VTIME] = 1, 0
	l.SetTermios(s, false)
	select {
	case <-l.Room():
	default:
	}
	if n := l.Input(make([]byte, 10000)); n != 4095 {
		t.Errorf("took %d bytes", n)
	}
	select {
	case <-l.Room():
		t.Error("room before a read")
	default:
	}
	l.get(1)
	<-l.Room()
}

func TestOutput(t *testing.T) {
	l := newLine()
	put := func(s string) {
		b := mm.KernelBuffer([]byte(s))
		if n, err := l.Write(&b); n != len(s) || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}
	put("a\nb\n")
	if got := l.shown(); got != "a\nb\n" {
		t.Errorf("%q", got)
	}
	s := l.Termios()
	s.Oflag |= unix.ONLCR
	l.SetTermios(s, false)
	put("a\nb\n")
	if got := l.shown(); got != "a\r\nb\r\n" {
		t.Errorf("%q", got)
	}
	long := strings.Repeat("\n", 3000)
	put(long)
	if got := l.shown(); got != strings.Repeat("\r\n", 3000) {
		t.Errorf("%d bytes", len(got))
	}
	l.Input([]byte("x\r"))
	if got := l.shown(); got != "x\r\n" {
		t.Errorf("%q", got)
	}
	s.Oflag |= unix.TAB3
	l.SetTermios(s, false)
	put("ab\tc")
	if got := l.shown(); got != "ab      c" {
		t.Errorf("%q", got)
	}
	put(strings.Repeat("\t", 2000))
	l.shown()
	// VSTOP holds output up.
	l.Input([]byte{19})
	later := mm.KernelBuffer([]byte("later"))
	f := l.Open(0)
	if _, err := l.Write(&later); err != unix.EAGAIN || f.Readiness(waiter.EventOut) != 0 {
		t.Errorf("output after VSTOP: %v", err)
	}
	l.Input([]byte{17})
	put("later")
	if got := l.shown(); got != "later" {
		t.Errorf("%q", got)
	}
}

func TestStream(t *testing.T) {
	var out strings.Builder
	s := NewStream(func(p []byte) { out.Write(p) })
	get := func(n int) (string, error) {
		p := make([]byte, n)
		b := mm.KernelBuffer(p)
		n, err := s.Read(&b)
		return string(p[:n]), err
	}
	if _, err := get(10); err != unix.EAGAIN {
		t.Error(err)
	}
	s.Input([]byte("a\x03\r\n\x10"))
	s.Input([]byte("\x10b\x04"))
	if got, err := get(100); got != "a\x03\r\n\x10b\x04" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if n := s.Input(make([]byte, 9000)); n != 4096 {
		t.Errorf("took %d", n)
	}
	get(9000)
	<-s.Room()
	s.Input([]byte("end\x10\x04ignored"))
	if got, err := get(100); got != "end" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := get(100); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	b := mm.KernelBuffer([]byte("out\n"))
	s.Write(&b)
	if out.String() != "out\n" {
		t.Errorf("%q", out.String())
	}
	// Who polls its output only sees no hang-up.
	if got := s.Open(0).Readiness(waiter.EventHUp | waiter.EventErr); got != 0 {
		t.Errorf("readiness %#x at the end of the input", got)
	}
	if got := s.Open(0).Readiness(waiter.ReadableEvents | waiter.WritableEvents); got != waiter.ReadableEvents|waiter.WritableEvents {
		t.Errorf("readiness %#x at the end of the input", got)
	}
}
