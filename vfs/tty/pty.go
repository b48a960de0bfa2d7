package tty

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/vfs"
)

// ptyBuffer is how much output waits for the master's reader, in bytes. Echo may exceed it.
const ptyBuffer = 8192

// Master is the master end of a pseudoterminal (pty(7)): what a program writes here is typed at the
// terminal, and what is printed there is read here. The terminal is the other end.
type Master struct {
	vfs.BaseFile
	terminal *Terminal
	number   int
	open     func(c *vfs.Context, flags uint32) (*vfs.Description, error) // TIOCGPTPEER
	closed   func()
	queue    waitq.Queue

	readMu sync.Mutex // held across copies; before mu
	piece  [pieceSize]byte

	writeMu sync.Mutex
	in      [pieceSize]byte

	mu         sync.Mutex // a leaf
	data       []byte
	slaves     int
	everOpened bool
	locked     bool
	packet     bool
	status     byte // of packet mode, to be read yet
}

// PTYMajor is the major device number of the terminals of /dev/pts.
const PTYMajor = 136

// NewPTY returns the two ends of a pseudoterminal. signal sends a signal to a process group; open opens
// the terminal's file for TIOCGPTPEER, and closed is called when the master is closed.
func NewPTY(number int, signal func(group int32, s kernel.Signal), open func(c *vfs.Context, flags uint32) (*vfs.Description, error), closed func()) (*Master, *Terminal) {
	m := &Master{number: number, locked: true, open: open, closed: closed}
	t := New(m.take, signal)
	t.termios.Oflag |= unix.ONLCR
	t.termios.Cflag = unix.B38400 | unix.CS8 | unix.CREAD
	t.pty, t.device = m, unix.Mkdev(PTYMajor, uint32(number))
	m.terminal = t
	return m, t
}

// take takes output of the terminal.
func (m *Master) take(p []byte) {
	m.mu.Lock()
	if len(m.data) < 4*ptyBuffer { // more is echo that nobody reads
		m.data = append(m.data, p...)
	}
	m.mu.Unlock()
	m.queue.Notify(waiter.ReadableEvents)
}

// outputRoom returns how many bytes the terminal's output may take now.
func (t *Terminal) outputRoom() int {
	if t.pty == nil {
		return pieceSize
	}
	t.pty.mu.Lock()
	defer t.pty.mu.Unlock()
	return max(ptyBuffer-len(t.pty.data), 0)
}

func (m *Master) slaveOpened() {
	m.mu.Lock()
	m.slaves++
	m.everOpened = true
	m.mu.Unlock()
}

func (m *Master) slaveClosed() {
	m.mu.Lock()
	m.slaves--
	last := m.slaves == 0
	m.mu.Unlock()
	if last {
		m.queue.Notify(waiter.ReadableEvents | waiter.EventHUp)
	}
}

// Locked says whether the terminal can't be opened yet (TIOCSPTLCK).
func (m *Master) Locked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locked
}

// tellMaster notes an event for packet mode. Precondition: t.mu is held.
func (t *Terminal) tellMaster(event byte) {
	m := t.pty
	if m == nil {
		return
	}
	m.mu.Lock()
	packet := m.packet
	if packet {
		switch event {
		case unix.TIOCPKT_STOP:
			m.status &^= unix.TIOCPKT_START
		case unix.TIOCPKT_START:
			m.status &^= unix.TIOCPKT_STOP
		case unix.TIOCPKT_DOSTOP:
			m.status &^= unix.TIOCPKT_NOSTOP
		case unix.TIOCPKT_NOSTOP:
			m.status &^= unix.TIOCPKT_DOSTOP
		}
		m.status |= event
	}
	m.mu.Unlock()
	if packet {
		m.queue.Notify(waiter.ReadableEvents | waiter.EventPri)
	}
}

// flowChanged tells packet mode whether ^S and ^Q stop and start output. Precondition: terminal.mu is held.
func (m *Master) flowChanged(old, s *unix.Termios) {
	flow := func(s *unix.Termios) bool {
		return s.Iflag&unix.IXON != 0 && s.Cc[unix.VSTOP] == 19 && s.Cc[unix.VSTART] == 17
	}
	if was, is := flow(old), flow(s); was != is {
		event := byte(unix.TIOCPKT_NOSTOP)
		if is {
			event = unix.TIOCPKT_DOSTOP
		}
		m.terminal.tellMaster(event)
	}
}

// Terminal returns the other end.
func (m *Master) Terminal() *Terminal { return m.terminal }

// Buffered returns how many bytes wait to be read.
func (m *Master) Buffered() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.data)
}

// Read reads what the terminal printed: EAGAIN if there is nothing, EIO when nobody has it open any more.
func (m *Master) Read(c *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	m.readMu.Lock()
	defer m.readMu.Unlock()
	if dst.Len() == 0 {
		return 0, nil
	}
	total := 0
	m.mu.Lock()
	packet, status := m.packet, m.status
	m.status = 0
	empty, gone := len(m.data) == 0, m.everOpened && m.slaves == 0
	m.mu.Unlock()
	switch {
	case packet && status != 0:
		return dst.CopyOut([]byte{status})
	case empty && gone:
		return 0, unix.EIO
	case empty:
		return 0, unix.EAGAIN
	case packet:
		n, err := dst.CopyOut([]byte{unix.TIOCPKT_DATA})
		if err != nil {
			return 0, err
		}
		total = n
	}
	for dst.Len() > 0 {
		m.mu.Lock()
		k := copy(m.piece[:min(dst.Len(), pieceSize)], m.data)
		m.mu.Unlock()
		if k == 0 {
			break
		}
		n, err := dst.CopyOut(m.piece[:k])
		m.mu.Lock()
		n = min(n, len(m.data)) // it was flushed meanwhile
		m.data = append(m.data[:0], m.data[n:]...)
		m.mu.Unlock()
		total += n
		if err != nil {
			if total == 0 {
				return 0, err
			}
			break
		}
	}
	m.terminal.queue.Notify(waiter.WritableEvents)
	return total, nil
}

// Write types: EAGAIN while the terminal's readers are behind.
func (m *Master) Write(c *vfs.Context, src *mm.Buffer, off int64) (int, error) {
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	total := 0
	for src.Len() > 0 {
		before := *src
		n, err := src.CopyIn(m.in[:min(src.Len(), pieceSize)])
		taken := m.terminal.Input(m.in[:n])
		total += taken
		if taken < n {
			*src = before
			src.Skip(taken)
			err = unix.EAGAIN
		}
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
	}
	return total, nil
}

// Release hangs the terminal up.
func (m *Master) Release() {
	m.closed()
	m.terminal.Hangup()
}

// Readiness says what is possible now.
func (m *Master) Readiness(mask waiter.EventMask) waiter.EventMask {
	var r waiter.EventMask
	m.mu.Lock()
	if len(m.data) > 0 {
		r |= waiter.ReadableEvents
	}
	if m.status != 0 {
		r |= waiter.ReadableEvents | waiter.EventPri
	}
	if m.everOpened && m.slaves == 0 {
		r |= waiter.EventHUp
	}
	m.mu.Unlock()
	t := m.terminal
	t.mu.Lock()
	if !t.full() {
		r |= waiter.WritableEvents
	}
	t.mu.Unlock()
	return r & mask
}

// EventRegister has e told of output.
func (m *Master) EventRegister(e *waiter.Entry) error {
	m.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (m *Master) EventUnregister(e *waiter.Entry) { m.queue.EventUnregister(e) }

// Ioctl is ioctl_tty(2) on a master: most requests mean the terminal.
func (m *Master) Ioctl(c *vfs.Context, request uint32, arg uint64) (uint64, error) {
	if c.Thread == nil {
		return 0, unix.ENOTTY
	}
	as := c.Thread.MM()
	flag := func(p *bool) (uint64, error) {
		v, err := as.ReadUint32(arg)
		if err != nil {
			return 0, err
		}
		m.mu.Lock()
		*p = v != 0
		m.mu.Unlock()
		return 0, nil
	}
	show := func(v uint32) (uint64, error) { return 0, as.WriteUint32(arg, v) }
	switch request {
	case unix.TIOCGPTN:
		return show(uint32(m.number))
	case unix.TIOCSPTLCK:
		return flag(&m.locked)
	case unix.TIOCGPTLCK:
		return show(truth(m.Locked()))
	case unix.TIOCPKT:
		m.mu.Lock()
		m.status = 0
		m.mu.Unlock()
		return flag(&m.packet)
	case unix.TIOCGPKT:
		m.mu.Lock()
		on := m.packet
		m.mu.Unlock()
		return show(truth(on))
	case unix.TIOCGPTPEER:
		d, err := m.open(c, uint32(arg))
		if err != nil {
			return 0, err
		}
		fd, err := c.Install(d, arg&unix.O_CLOEXEC != 0)
		return uint64(fd), err
	case unix.TIOCSIG:
		if arg < 1 || arg > kernel.SIGRTMAX {
			return 0, unix.EINVAL
		}
		m.terminal.signal(m.terminal.Group(), kernel.Signal(arg))
		return 0, nil
	case unix.TIOCINQ:
		return show(uint32(m.Buffered()))
	case unix.TIOCSCTTY, unix.TIOCNOTTY, unix.TIOCSPGRP:
		return 0, unix.ENOTTY
	case unix.TIOCGDEV:
		return show(deviceWord(unix.Mkdev(5, 2)))
	case unix.TCFLSH:
		if arg == unix.TCOFLUSH || arg == unix.TCIOFLUSH { // what was typed and not read
			m.terminal.Flush(unix.TCIFLUSH)
		}
		if arg == unix.TCIFLUSH || arg == unix.TCIOFLUSH {
			m.mu.Lock()
			m.data = m.data[:0]
			m.mu.Unlock()
			m.terminal.queue.Notify(waiter.WritableEvents)
		}
		if arg > unix.TCIOFLUSH {
			return 0, unix.EINVAL
		}
		return 0, nil
	}
	return m.terminal.ioctl(c, request, arg)
}

func truth(v bool) uint32 {
	if v {
		return 1
	}
	return 0
}
