package tty

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// Open returns an open file on the terminal.
func (t *Terminal) Open(flags uint32) vfs.File {
	if t.pty != nil {
		t.pty.slaveOpened()
	}
	return &file{terminal: t, hangups: t.hangups.Load(), readable: flags&unix.O_ACCMODE != unix.O_WRONLY}
}

// OpenFor is Open by c, whose session gets the terminal as its controlling one where open(2) does that:
// for a leader of a session that has none, unless O_NOCTTY is set.
func (t *Terminal) OpenFor(c *vfs.Context, flags uint32) vfs.File {
	f := t.Open(flags).(*file)
	if flags&unix.O_NOCTTY != 0 || !f.readable {
		return f
	}
	if s := leads(c); s != nil && s.Terminal() == nil && t.session0() == nil {
		t.SetSession(s, c.Thread.Proc.Group().ID())
	}
	return f
}

// file is an open terminal.
type file struct {
	vfs.BaseFile
	terminal *Terminal
	hangups  uint32 // of the terminal when it was opened
	readable bool
}

// Holder is an open file that is a terminal.
type Holder interface{ Terminal() *Terminal }

// Of returns the terminal that d is, or nil.
func Of(d *vfs.Description) *Terminal {
	if h, ok := d.File().(Holder); ok {
		return h.Terminal()
	}
	return nil
}

// Terminal returns the terminal.
func (f *file) Terminal() *Terminal { return f.terminal }

// Release tells the other end.
func (f *file) Release() {
	if p := f.terminal.pty; p != nil {
		p.slaveClosed()
	}
}

func (f *file) hungUp() bool { return f.hangups != f.terminal.hangups.Load() }

// Buffered returns how many bytes a read could get.
func (f *file) Buffered() int { return f.terminal.Buffered() }

// Read reads; from the background it stops the group.
func (f *file) Read(c *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	if f.hungUp() {
		return 0, nil
	}
	if err := f.stopBackground(c, unix.SIGTTIN); err != nil {
		return 0, err
	}
	return f.terminal.Read(dst)
}

// Write writes; with TOSTOP it stops a group in the background.
func (f *file) Write(c *vfs.Context, src *mm.Buffer, off int64) (int, error) {
	if f.hungUp() {
		return 0, unix.EIO
	}
	t := f.terminal
	t.mu.Lock()
	toStop := t.local(unix.TOSTOP)
	t.mu.Unlock()
	if toStop {
		if err := f.stopBackground(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
	}
	return t.Write(src)
}

// Readiness says what is possible now.
func (f *file) Readiness(mask waiter.EventMask) waiter.EventMask {
	if f.hungUp() {
		return mask & (waiter.ReadableEvents | waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	}
	t := f.terminal
	var r waiter.EventMask
	room := t.outputRoom()
	t.mu.Lock()
	if !t.stopped && room > 0 {
		r |= waiter.WritableEvents
	}
	if t.readable() {
		r |= waiter.ReadableEvents
	}
	t.mu.Unlock()
	return r & mask
}

// EventRegister has e told of input.
func (f *file) EventRegister(e *waiter.Entry) error {
	f.terminal.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *file) EventUnregister(e *waiter.Entry) { f.terminal.queue.EventUnregister(e) }

// Ioctl is ioctl_tty(2).
func (f *file) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	t := f.terminal
	if f.hungUp() {
		if request == unix.TIOCSPGRP {
			return 0, unix.ENOTTY
		}
		return 0, unix.EIO
	}
	switch request {
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TCSETS2, unix.TCSETSW2, unix.TCSETSF2,
		unix.TCSETA, unix.TCSETAW, unix.TCSETAF, unix.TCSBRK, unix.TCSBRKP, unix.TCXONC, unix.TCFLSH, unix.TIOCSETD, unix.TIOCSBRK, unix.TIOCCBRK:
		if err := f.stopBackground(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
	case unix.TIOCSCTTY:
		return 0, f.takeSession(c, arg == 1)
	case unix.TIOCNOTTY:
		s := sessionOf(c)
		if s == nil || s.Terminal() != kernel.Terminal(t) {
			return 0, unix.ENOTTY
		}
		if leads(c) != nil {
			t.leaveSession(s, true)
		}
		return 0, nil
	case unix.TIOCGPGRP, unix.TIOCGSID:
		if s := sessionOf(c); s == nil || s.Terminal() != kernel.Terminal(t) {
			return 0, unix.ENOTTY
		}
	case unix.TIOCSPGRP:
		err := f.stopBackground(c, unix.SIGTTOU)
		if err == unix.EIO {
			err = unix.ENOTTY
		}
		if err == nil {
			err = t.setGroup(c, arg)
		}
		return 0, err
	case unix.TIOCVHANGUP:
		if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		t.Hangup()
		return 0, nil
	}
	return t.ioctl(c, request, arg)
}

// Sizes of structs termio, termios and termios2, as the kernel has them.
const (
	sizeofTermio   = 18
	sizeofTermios  = 36
	sizeofTermios2 = 44
)

// ioctl is what both ends of a terminal can be asked for.
func (t *Terminal) ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	if c.Thread == nil {
		return 0, unix.ENOTTY
	}
	as := c.Thread.MM()
	switch request {
	case unix.TCGETS, unix.TCGETS2:
		var b [sizeofTermios2]byte
		s := t.Termios()
		encodeTermios(b[:], &s)
		n := sizeofTermios
		if request == unix.TCGETS2 {
			n = sizeofTermios2
		}
		_, err := as.CopyOut(arg, b[:n])
		return 0, err
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TCSETS2, unix.TCSETSW2, unix.TCSETSF2:
		var b [sizeofTermios2]byte
		n := sizeofTermios
		extended := request == unix.TCSETS2 || request == unix.TCSETSW2 || request == unix.TCSETSF2
		if extended {
			n = sizeofTermios2
		}
		if _, err := as.CopyIn(b[:n], arg); err != nil {
			return 0, err
		}
		s := decodeTermios(b[:], extended)
		t.SetTermios(s, request == unix.TCSETSF || request == unix.TCSETSF2)
		return 0, nil
	case unix.TCGETA:
		var b [sizeofTermio]byte
		s := t.Termios()
		for i, v := range [...]uint32{s.Iflag, s.Oflag, s.Cflag, s.Lflag} {
			binary.LittleEndian.PutUint16(b[2*i:], uint16(v))
		}
		b[8] = s.Line
		copy(b[9:17], s.Cc[:8])
		_, err := as.CopyOut(arg, b[:])
		return 0, err
	case unix.TCSETA, unix.TCSETAW, unix.TCSETAF:
		var old [sizeofTermio]byte
		if _, err := as.CopyIn(old[:], arg); err != nil {
			return 0, err
		}
		// What the short form doesn't say stays as it is.
		var b [sizeofTermios2]byte
		s := t.Termios()
		encodeTermios(b[:], &s)
		for i := range 4 {
			copy(b[4*i:], old[2*i:2*i+2])
		}
		copy(b[16:], old[8:17]) // c_line and the first of c_cc
		t.SetTermios(decodeTermios(b[:], true), request == unix.TCSETAF)
		return 0, nil
	case unix.TIOCGWINSZ:
		w := t.Size()
		return 0, as.WriteUint64(arg, uint64(w.Row)|uint64(w.Col)<<16|uint64(w.Xpixel)<<32|uint64(w.Ypixel)<<48)
	case unix.TIOCSWINSZ:
		v, err := as.ReadUint64(arg)
		if err != nil {
			return 0, err
		}
		t.SetSize(unix.Winsize{Row: uint16(v), Col: uint16(v >> 16), Xpixel: uint16(v >> 32), Ypixel: uint16(v >> 48)})
		return 0, nil
	case unix.TIOCGPGRP:
		return 0, as.WriteUint32(arg, uint32(t.Group()))
	case unix.TIOCGSID:
		id := t.Session()
		if id == 0 {
			return 0, unix.ENOTTY
		}
		return 0, as.WriteUint32(arg, uint32(id))
	case unix.TIOCINQ:
		return 0, as.WriteUint32(arg, uint32(t.Buffered()))
	case unix.TIOCOUTQ:
		return 0, as.WriteUint32(arg, 0)
	case unix.TCFLSH:
		return 0, t.Flush(int(arg))
	case unix.TCXONC:
		return 0, t.Flow(int(arg))
	case unix.TCSBRK, unix.TCSBRKP, unix.TIOCSBRK, unix.TIOCCBRK:
		return 0, nil // there is no line to break, and output does not wait
	case unix.TIOCGETD:
		return 0, as.WriteUint32(arg, 0) // N_TTY
	case unix.TIOCSETD:
		v, err := as.ReadUint32(arg)
		if err == nil && v != 0 {
			err = unix.EINVAL
		}
		return 0, err
	case unix.TIOCEXCL, unix.TIOCNXCL:
		t.mu.Lock()
		t.exclusive = request == unix.TIOCEXCL
		t.mu.Unlock()
		return 0, nil
	case unix.TIOCGEXCL:
		v := uint32(0)
		if t.Exclusive() {
			v = 1
		}
		return 0, as.WriteUint32(arg, v)
	case unix.TIOCGDEV:
		return 0, as.WriteUint32(arg, deviceWord(t.device))
	case unix.TIOCSTI:
		if s := sessionOf(c); !c.Creds.HasCap(unix.CAP_SYS_ADMIN) && (s == nil || s.Terminal() != kernel.Terminal(t)) {
			return 0, unix.EPERM
		}
		var b [1]byte
		if _, err := as.CopyIn(b[:], arg); err != nil {
			return 0, err
		}
		t.Input(b[:])
		return 0, nil
	case unix.TIOCCONS:
		if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		return 0, nil
	}
	return 0, unix.ENOTTY
}

// Exclusive says whether others than root may not open the terminal (TIOCEXCL).
func (t *Terminal) Exclusive() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.exclusive
}

// Device returns the terminal's device number.
func (t *Terminal) Device() uint64 { return t.device }

// deviceWord is a device number in 32 bits (new_encode_dev), as /proc/PID/stat has it too.
func deviceWord(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// DeviceWord returns the terminal's device number as /proc/PID/stat shows it.
func (t *Terminal) DeviceWord() uint32 { return deviceWord(t.device) }

func encodeTermios(b []byte, s *unix.Termios) {
	for i, v := range [...]uint32{s.Iflag, s.Oflag, s.Cflag, s.Lflag} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	b[16] = s.Line
	copy(b[17:36], s.Cc[:19])
	binary.LittleEndian.PutUint32(b[36:], s.Ispeed)
	binary.LittleEndian.PutUint32(b[40:], s.Ospeed)
}

func decodeTermios(b []byte, extended bool) unix.Termios {
	v := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	s := unix.Termios{Iflag: v(0), Oflag: v(1), Cflag: v(2), Lflag: v(3), Line: b[16]}
	copy(s.Cc[:19], b[17:36])
	s.Ospeed = speed(s.Cflag&unix.CBAUD, v(10), extended)
	s.Ispeed = s.Ospeed
	if in := s.Cflag >> inputShift & unix.CBAUD; in != 0 {
		s.Ispeed = speed(in, v(9), extended)
	}
	return s
}

// inputShift is where the input's speed stands in c_cflag (IBSHIFT).
const inputShift = 16

// speed returns what a speed of c_cflag means in bits per second; exact is for BOTHER.
func speed(code, exact uint32, extended bool) uint32 {
	slow := [...]uint32{0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400}
	fast := [...]uint32{57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000}
	switch {
	case code == unix.BOTHER && extended:
		return exact
	case code < uint32(len(slow)):
		return slow[code]
	case code > unix.CBAUDEX && code-unix.CBAUDEX-1 < uint32(len(fast)):
		return fast[code-unix.CBAUDEX-1]
	}
	return 38400
}
