// Package tty is the terminal: the line discipline between a serial line and the program (termios(3)),
// and the plain byte stream that stands in its place when the host has no terminal.
//
// The driver calls Input from a goroutine of its own, and gives an output function that may block. The
// output function must not wait for that goroutine, since echo is written from it.
//
// Lock order: readMu, mu, outMu. outMu alone is held while the output function runs; none of mu's
// holders blocks.
package tty

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/waitq"
)

// bufferSize is how much input waits for a reader, and the longest line, its end included (termios(3),
// "Canonical and noncanonical mode").
const bufferSize = 4096

// pieceSize is how much output is handed to the driver at a time.
const pieceSize = 512

// Terminal is a terminal with its line discipline.
type Terminal struct {
	output func([]byte)
	signal func(group int32, s kernel.Signal)
	queue  waitq.Queue
	room   chan struct{}
	pty    *Master // the other end; nil of a serial line
	device uint64  // its number

	hangups atomic.Uint32 // files opened before the last one can do nothing any more

	readMu sync.Mutex
	piece  [pieceSize]byte // guarded by readMu: on its way to a reader

	mu        sync.Mutex
	termios   unix.Termios
	size      unix.Winsize
	data      []byte // for readers
	chunks    []int  // in canonical mode: how data divides into lines; an end of file ends one too
	line      []byte // being typed in canonical mode
	echo      []byte // to be written when mu is dropped
	literal   bool   // VLNEXT was typed
	stopped   bool   // VSTOP was typed
	ended     bool   // no input comes any more
	column    int    // of the cursor
	start     int    // column where the line being typed begins
	need      int    // bytes that the last raw read waited for
	expired   bool   // VTIME is over
	exclusive bool   // TIOCEXCL
	timer     *time.Timer
	session   *kernel.Session
	group     int32 // in the foreground

	outMu sync.Mutex
	out   [2 * pieceSize]byte
	in    [pieceSize]byte
}

// New returns a terminal that writes by output, and sends signals to process groups by signal; group
// 0 is that of the first process.
//
// It translates no newline into carriage return and newline until the program asks for it: the host's
// own terminal does that.
func New(output func([]byte), signal func(group int32, s kernel.Signal)) *Terminal {
	t := &Terminal{output: output, signal: signal, room: make(chan struct{}, 1)}
	t.termios = unix.Termios{
		Iflag:  unix.ICRNL | unix.IXON,
		Oflag:  unix.OPOST,
		Cflag:  unix.B38400 | unix.CS8 | unix.CREAD | unix.HUPCL,
		Lflag:  unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN,
		Ispeed: 38400, Ospeed: 38400,
	}
	c := &t.termios.Cc
	c[unix.VINTR], c[unix.VQUIT], c[unix.VERASE], c[unix.VKILL], c[unix.VEOF] = 3, 28, 127, 21, 4
	c[unix.VMIN], c[unix.VSTART], c[unix.VSTOP], c[unix.VSUSP] = 1, 17, 19, 26
	c[unix.VREPRINT], c[unix.VDISCARD], c[unix.VWERASE], c[unix.VLNEXT] = 18, 15, 23, 22
	t.device = unix.Mkdev(5, 1)
	return t
}

// Room returns the channel that gets a token when Input can take more.
func (t *Terminal) Room() <-chan struct{} { return t.room }

func (t *Terminal) canonical() bool        { return t.termios.Lflag&unix.ICANON != 0 }
func (t *Terminal) local(flag uint32) bool { return t.termios.Lflag&flag != 0 }

// Input takes what came in on the line, and returns how many bytes: fewer than all when readers are
// behind; Room tells when to come again.
func (t *Terminal) Input(p []byte) int {
	t.mu.Lock()
	n := 0
	var signals []kernel.Signal
	for n < len(p) && !t.full() {
		if s := t.take(p[n]); s != 0 {
			signals = append(signals, s)
		}
		n++
	}
	if n > 0 && !t.canonical() && t.termios.Cc[unix.VMIN] > 0 && t.termios.Cc[unix.VTIME] > 0 && len(t.data) > 0 {
		t.arm()
	}
	ready := t.readable()
	echo := t.echo
	t.echo = nil
	group := t.group
	t.mu.Unlock()
	if len(echo) > 0 {
		t.write(echo, false)
	}
	for _, s := range signals {
		t.signal(group, s)
	}
	if ready {
		t.queue.Notify(waiter.ReadableEvents)
	}
	return n
}

// EndOfInput says that nothing comes any more: readers see the end of the file.
func (t *Terminal) EndOfInput() {
	t.mu.Lock()
	if t.canonical() && len(t.line) > 0 {
		t.commit()
	}
	t.ended = true
	t.mu.Unlock()
	t.queue.Notify(waiter.ReadableEvents | waiter.EventHUp)
}

// full says whether more input would have nowhere to go. Precondition: mu is held.
func (t *Terminal) full() bool {
	if t.canonical() {
		return len(t.data) >= bufferSize // a line too long is cut, not held up
	}
	return len(t.data) >= bufferSize-1
}

// take processes one byte of input and returns the signal that it means, or 0.
// Precondition: mu is held.
func (t *Terminal) take(b byte) kernel.Signal {
	i := t.termios.Iflag
	cc := &t.termios.Cc
	is := func(index int) bool { return cc[index] != 0 && b == cc[index] }
	if i&unix.ISTRIP != 0 {
		b &= 0x7f
	}
	if t.literal {
		t.literal = false
		t.add(b)
		return 0
	}
	if i&unix.IXON != 0 {
		switch {
		case is(unix.VSTOP):
			t.stop0()
			return 0
		case is(unix.VSTART):
			t.start0()
			return 0
		}
		if t.stopped && i&unix.IXANY != 0 {
			t.start0()
		}
	}
	if t.local(unix.ISIG) {
		var s kernel.Signal
		switch {
		case is(unix.VINTR):
			s = kernel.Signal(unix.SIGINT)
		case is(unix.VQUIT):
			s = kernel.Signal(unix.SIGQUIT)
		case is(unix.VSUSP):
			s = kernel.Signal(unix.SIGTSTP)
		}
		if s != 0 {
			if !t.local(unix.NOFLSH) {
				t.flushInput()
			}
			t.start0()
			t.echoByte(b)
			return s
		}
	}
	switch {
	case b == '\r' && i&unix.IGNCR != 0:
		return 0
	case b == '\r' && i&unix.ICRNL != 0:
		b = '\n'
	case b == '\n' && i&unix.INLCR != 0:
		b = '\r'
	}
	if i&unix.IUCLC != 0 && t.local(unix.IEXTEN) && b >= 'A' && b <= 'Z' {
		b += 'a' - 'A'
	}
	if !t.canonical() {
		t.data = append(t.data, b)
		t.echoByte(b)
		return 0
	}
	extended := t.local(unix.IEXTEN)
	switch {
	case is(unix.VERASE):
		t.erase(1)
	case is(unix.VWERASE) && extended:
		t.eraseWord()
	case is(unix.VKILL):
		t.kill(b)
	case is(unix.VLNEXT) && extended:
		t.literal = true
		if t.local(unix.ECHO) && t.local(unix.ECHOCTL) {
			t.echo = append(t.echo, '^', '\b')
		}
	case is(unix.VREPRINT) && extended && t.local(unix.ECHO):
		t.echoByte(b)
		t.echoRaw('\n')
		for _, c := range t.line {
			t.echoByte(c)
		}
	case is(unix.VEOF):
		t.commit()
	case b == '\n' || is(unix.VEOL) || is(unix.VEOL2) && extended:
		if t.local(unix.ECHO) || b == '\n' && t.local(unix.ECHONL) {
			if b == '\n' {
				t.echoRaw(b)
			} else {
				t.echoByte(b)
			}
		}
		t.line = append(t.line, b)
		t.commit()
	default:
		t.add(b)
	}
	return 0
}

// add puts an ordinary byte into the line. Precondition: mu is held.
func (t *Terminal) add(b byte) {
	if !t.canonical() {
		t.data = append(t.data, b)
		t.echoByte(b)
		return
	}
	if len(t.line) >= bufferSize-1 {
		if t.termios.Iflag&unix.IMAXBEL != 0 {
			t.echo = append(t.echo, 7)
		}
		return
	}
	if len(t.line) == 0 {
		t.start = t.column
	}
	t.line = append(t.line, b)
	t.echoByte(b)
}

// commit gives the line to readers. Precondition: mu is held.
func (t *Terminal) commit() {
	t.data = append(t.data, t.line...)
	t.chunks = append(t.chunks, len(t.line))
	t.line = t.line[:0]
}

// start0 lets output go on. Precondition: mu is held (who is notified does no more than wake a waiter).
func (t *Terminal) start0() {
	if t.stopped {
		t.stopped = false
		t.queue.Notify(waiter.WritableEvents)
		t.tellMaster(unix.TIOCPKT_START)
	}
}

// stop0 holds output up. Precondition: mu is held.
func (t *Terminal) stop0() {
	if !t.stopped {
		t.stopped = true
		t.tellMaster(unix.TIOCPKT_STOP)
	}
}

// shown returns how many columns b takes when it is echoed at a column.
func (t *Terminal) shown(b byte, column int) int {
	switch {
	case b == '\t':
		return 8 - column%8
	case b < ' ' || b == 127:
		if t.local(unix.ECHOCTL) {
			return 2
		}
		return 0
	case t.termios.Iflag&unix.IUTF8 != 0 && b&0xc0 == 0x80:
		return 0
	}
	return 1
}

// echoByte echoes b. Precondition: mu is held.
func (t *Terminal) echoByte(b byte) {
	if !t.local(unix.ECHO) {
		return
	}
	t.column += t.shown(b, t.column)
	if (b < ' ' && b != '\t' && b != '\n' || b == 127) && t.local(unix.ECHOCTL) {
		t.echo = append(t.echo, '^', b^0x40)
		return
	}
	t.echoRaw(b)
}

// echoRaw echoes b as output processing has it. Precondition: mu is held.
func (t *Terminal) echoRaw(b byte) {
	if b == '\n' {
		t.column = 0
		if t.termios.Oflag&(unix.OPOST|unix.ONLCR) == unix.OPOST|unix.ONLCR {
			t.echo = append(t.echo, '\r')
		}
	}
	t.echo = append(t.echo, b)
}

// erase takes the last n characters out of the line and off the screen. Precondition: mu is held.
func (t *Terminal) erase(n int) {
	for ; n > 0 && len(t.line) > 0; n-- {
		end := len(t.line)
		cut := end - 1
		if t.termios.Iflag&unix.IUTF8 != 0 {
			for cut > 0 && t.line[cut]&0xc0 == 0x80 {
				cut--
			}
		}
		width := t.width(end) - t.width(cut)
		gone := t.line[cut]
		t.line = t.line[:cut]
		if !t.local(unix.ECHO) {
			continue
		}
		if !t.local(unix.ECHOE) {
			t.echoByte(gone)
			continue
		}
		t.column -= width
		for ; width > 0; width-- {
			if gone == '\t' {
				t.echo = append(t.echo, '\b')
			} else {
				t.echo = append(t.echo, '\b', ' ', '\b')
			}
		}
	}
}

// width returns how many columns the first n bytes of the line take.
func (t *Terminal) width(n int) int {
	column := t.start
	for _, b := range t.line[:n] {
		column += t.shown(b, column)
	}
	return column - t.start
}

func (t *Terminal) eraseWord() {
	word := func(b byte) bool {
		return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
	}
	seen := false
	for len(t.line) > 0 {
		w := word(t.line[len(t.line)-1])
		if seen && !w {
			return
		}
		seen = seen || w
		t.erase(1)
	}
}

func (t *Terminal) kill(b byte) {
	if t.local(unix.ECHOKE) && t.local(unix.ECHOE) {
		t.erase(len(t.line))
		return
	}
	t.line = t.line[:0]
	t.echoByte(b)
	if t.local(unix.ECHOK) && t.local(unix.ECHO) {
		t.echoRaw('\n')
	}
}

// flushInput forgets what was typed. Precondition: mu is held.
func (t *Terminal) flushInput() {
	t.data, t.chunks, t.line = t.data[:0], nil, t.line[:0]
	t.tellRoom()
	t.tellMaster(unix.TIOCPKT_FLUSHREAD)
}

func (t *Terminal) tellRoom() {
	if t.pty != nil {
		t.pty.queue.Notify(waiter.WritableEvents)
		return
	}
	select {
	case t.room <- struct{}{}:
	default:
	}
}

// arm starts VTIME. Precondition: mu is held.
func (t *Terminal) arm() {
	t.expired = false
	if t.timer != nil {
		t.timer.Stop()
	}
	t.timer = time.AfterFunc(time.Duration(t.termios.Cc[unix.VTIME])*100*time.Millisecond, func() {
		t.mu.Lock()
		t.expired = true
		t.mu.Unlock()
		t.queue.Notify(waiter.ReadableEvents)
	})
}

// readable says whether a read would not wait. Precondition: mu is held.
func (t *Terminal) readable() bool {
	if t.ended {
		return true
	}
	if t.canonical() {
		return len(t.chunks) > 0
	}
	vmin, vtime := int(t.termios.Cc[unix.VMIN]), t.termios.Cc[unix.VTIME]
	if t.expired && (vmin == 0 || len(t.data) > 0) {
		return true
	}
	if vmin == 0 {
		return len(t.data) > 0
	}
	if vtime > 0 && t.need == 0 {
		return len(t.data) > 0
	}
	if t.need > 0 {
		vmin = min(vmin, t.need)
	}
	return len(t.data) >= vmin
}

// Read reads a line in canonical mode, else as VMIN and VTIME say.
func (t *Terminal) Read(dst *mm.Buffer) (int, error) {
	t.readMu.Lock()
	defer t.readMu.Unlock()
	if dst.Len() == 0 {
		return 0, nil
	}
	total := 0
	for {
		t.mu.Lock()
		limit, err := t.available(dst.Len(), total)
		if err != nil || limit == 0 {
			t.mu.Unlock()
			if total > 0 {
				err = nil
			}
			return total, err
		}
		k := copy(t.piece[:min(limit, pieceSize)], t.data)
		t.mu.Unlock()
		n, err := dst.CopyOut(t.piece[:k])
		t.mu.Lock()
		more := t.consume(n)
		t.mu.Unlock()
		total += n
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
		if !more || dst.Len() == 0 {
			return total, nil
		}
	}
}

// available returns how many of want bytes a read that has total may take now; 0 without an error is
// the end of the file. Precondition: mu and readMu are held.
func (t *Terminal) available(want, total int) (int, error) {
	if t.canonical() {
		if len(t.chunks) > 0 {
			if t.chunks[0] == 0 && total == 0 {
				t.chunks = t.chunks[1:]
				return 0, nil
			}
			return min(want, t.chunks[0]), nil
		}
	} else {
		vmin, vtime := int(t.termios.Cc[unix.VMIN]), t.termios.Cc[unix.VTIME]
		have := len(t.data)
		enough := have >= min(vmin, want) && have > 0 || t.expired && have > 0 || total > 0 && have > 0
		if enough {
			t.expired, t.need = false, 0
			return min(want, have), nil
		}
		if !t.ended && total == 0 {
			switch {
			case vmin == 0 && vtime == 0:
				return 0, nil
			case vmin == 0 && t.expired:
				t.expired = false
				t.timer = nil
				return 0, nil
			case vmin == 0 && t.timer == nil:
				t.arm()
			}
			t.need = min(vmin, want)
		} else if have > 0 {
			return min(want, have), nil
		}
	}
	if t.ended {
		return 0, nil
	}
	return 0, unix.EAGAIN
}

// consume takes n bytes out, and says whether the same read may go on. Precondition: mu is held.
func (t *Terminal) consume(n int) bool {
	n = min(n, len(t.data)) // it was flushed meanwhile
	t.data = append(t.data[:0], t.data[n:]...)
	t.tellRoom()
	if len(t.chunks) == 0 {
		return len(t.data) > 0
	}
	t.chunks[0] -= min(n, t.chunks[0])
	if t.chunks[0] == 0 {
		t.chunks = t.chunks[1:]
		return !t.canonical() && len(t.data) > 0
	}
	return true
}

// Write writes through output processing: EAGAIN while VSTOP holds the output up.
func (t *Terminal) Write(src *mm.Buffer) (int, error) { return writeAll(src, t.writePiece) }

// writeAll writes src by pieces. What comes to an error after some of it was written counts as that much.
func writeAll(src *mm.Buffer, piece func(*mm.Buffer) (int, error)) (int, error) {
	total := 0
	for src.Len() > 0 {
		n, err := piece(src)
		total += n
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
	}
	return total, nil
}

func (t *Terminal) writePiece(src *mm.Buffer) (int, error) {
	t.outMu.Lock()
	defer t.outMu.Unlock()
	t.mu.Lock()
	stopped := t.stopped
	t.mu.Unlock()
	room := t.outputRoom()
	if stopped || room == 0 {
		return 0, unix.EAGAIN
	}
	n, err := src.CopyIn(t.in[:min(src.Len(), pieceSize, room)])
	t.put(t.in[:n], true)
	return n, err
}

func (t *Terminal) write(p []byte, process bool) {
	t.outMu.Lock()
	defer t.outMu.Unlock()
	for len(p) > 0 {
		n := min(len(p), pieceSize)
		t.put(p[:n], process)
		p = p[n:]
	}
}

// put hands p, of pieceSize at most, to the driver. Precondition: outMu is held.
func (t *Terminal) put(p []byte, process bool) {
	t.mu.Lock()
	o := t.termios.Oflag
	if !process || o&unix.OPOST == 0 || o&(unix.ONLCR|unix.OCRNL|unix.ONOCR|unix.OLCUC|unix.TAB3) == 0 {
		if process {
			t.follow(p)
		}
		t.mu.Unlock()
		t.output(p)
		return
	}
	out := t.out[:0]
	for _, b := range p {
		switch {
		case b == '\n' && o&unix.ONLCR != 0:
			out = append(out, '\r')
			t.column = 0
		case b == '\r' && o&unix.ONOCR != 0 && t.column == 0:
			continue
		case b == '\r' && o&unix.OCRNL != 0:
			b = '\n'
		case b == '\t' && o&unix.TAB3 == unix.TAB3:
			for k := 8 - t.column%8; k > 0; k-- {
				out = append(out, ' ')
				t.column++
			}
			if len(out) > pieceSize {
				t.mu.Unlock()
				t.output(out)
				t.mu.Lock()
				out = t.out[:0]
			}
			continue
		case o&unix.OLCUC != 0 && b >= 'a' && b <= 'z':
			b -= 'a' - 'A'
		}
		out = append(out, b)
		t.move(b)
		if len(out) > 2*pieceSize-16 {
			t.mu.Unlock()
			t.output(out)
			t.mu.Lock()
			out = t.out[:0]
		}
	}
	t.mu.Unlock()
	t.output(out)
}

// follow moves the column along p: only what is behind the last line end counts.
func (t *Terminal) follow(p []byte) {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '\n' || p[i] == '\r' {
			t.column = 0
			p = p[i+1:]
			break
		}
	}
	for _, b := range p {
		t.move(b)
	}
}

func (t *Terminal) move(b byte) {
	switch {
	case b == '\n' || b == '\r':
		t.column = 0
	case b == '\b':
		t.column = max(t.column-1, 0)
	case b == '\t':
		t.column += 8 - t.column%8
	case b >= ' ' && b != 127 && (t.termios.Iflag&unix.IUTF8 == 0 || b&0xc0 != 0x80):
		t.column++
	}
}

// Termios returns the settings (TCGETS).
func (t *Terminal) Termios() unix.Termios {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.termios
}

// SetTermios changes the settings (TCSETS, TCSETSW; TCSETSF with flush). Output is written at once, so
// there is none to wait for.
func (t *Terminal) SetTermios(s unix.Termios, flush bool) {
	t.mu.Lock()
	was := t.canonical()
	if t.pty != nil {
		s.Cflag = s.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD
		t.pty.flowChanged(&t.termios, &s)
	}
	t.termios = s
	if flush {
		t.flushInput()
	}
	switch {
	case was && !t.canonical():
		t.data = append(t.data, t.line...)
		t.line, t.chunks = t.line[:0], nil
	case !was && t.canonical() && len(t.data) > 0:
		t.chunks = []int{len(t.data)}
	}
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	t.expired, t.need, t.literal = false, 0, false
	if s.Iflag&unix.IXON == 0 {
		t.start0()
	}
	ready := t.readable()
	t.mu.Unlock()
	if ready {
		t.queue.Notify(waiter.ReadableEvents)
	}
}

// Size returns the size of the window (TIOCGWINSZ).
func (t *Terminal) Size() unix.Winsize {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size
}

// SetSize sets it (TIOCSWINSZ), and sends SIGWINCH if it changed.
func (t *Terminal) SetSize(w unix.Winsize) {
	t.mu.Lock()
	changed := t.size != w
	t.size = w
	group := t.group
	t.mu.Unlock()
	if changed {
		t.signal(group, kernel.Signal(unix.SIGWINCH))
	}
}

// Buffered returns how many bytes a read could get (FIONREAD).
func (t *Terminal) Buffered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.data)
}

// Flush is TCFLSH: queue is TCIFLUSH, TCOFLUSH or TCIOFLUSH. Output never waits.
func (t *Terminal) Flush(queue int) error {
	switch queue {
	case unix.TCIFLUSH, unix.TCIOFLUSH:
		t.mu.Lock()
		t.flushInput()
		t.mu.Unlock()
	case unix.TCOFLUSH:
	default:
		return unix.EINVAL
	}
	return nil
}

// Flow is TCXONC: TCOOFF and TCOON stop and start output; TCIOFF and TCION send the characters.
func (t *Terminal) Flow(action int) error {
	t.mu.Lock()
	stop, start := t.termios.Cc[unix.VSTOP], t.termios.Cc[unix.VSTART]
	switch action {
	case unix.TCOOFF:
		t.stop0()
	case unix.TCOON:
		t.start0()
	}
	t.mu.Unlock()
	switch action {
	case unix.TCOOFF, unix.TCOON:
	case unix.TCIOFF:
		t.write([]byte{stop}, false)
	case unix.TCION:
		t.write([]byte{start}, false)
	default:
		return unix.EINVAL
	}
	return nil
}
