package kvm

import (
	"sync"
	"sync/atomic"
	"time"

	"elver/runtime/metal"
)

// com1 is the first serial port of the PC, and its ISA interrupt.
const (
	com1    = 0x3f8
	com1IRQ = 4
)

// Registers of the 16550A (National Semiconductor PC16550D data sheet, table II).
const (
	uartData     = 0 // receiver buffer and transmitter holding register; divisor low with DLAB
	uartEnable   = 1 // interrupt enable; divisor high with DLAB
	uartFIFO     = 2 // write: FIFO control
	uartLine     = 3 // line control
	uartModem    = 4 // modem control
	uartStatus   = 5 // line status
	uartScratch  = 7
	uartFIFOSize = 16

	enableReceive = 1 << 0
	enableStatus  = 1 << 2

	fifoOn      = 1 << 0
	fifoTrigger = 3 << 6 // interrupt at 14 bytes, or when four characters' time nothing comes

	line8N1     = 3
	lineDivisor = 1 << 7 // DLAB

	modemDTR  = 1 << 0
	modemRTS  = 1 << 1
	modemOut2 = 1 << 3 // gates the interrupt on a PC
	modemLoop = 1 << 4

	statusData        = 1 << 0
	statusTransmitter = 1 << 5 // the FIFO is empty
	statusIdle        = 1 << 6 // so is the shift register
)

// LineEvent is a set of things that happened on the line; its bits are those of the line status
// register.
type LineEvent uint8

// The events.
const (
	LineOverrun LineEvent = 1 << 1 // input was lost
	LineParity  LineEvent = 1 << 2
	LineFraming LineEvent = 1 << 3
	LineBreak   LineEvent = 1 << 4

	lineEvents = LineOverrun | LineParity | LineFraming | LineBreak
)

// Serial is a serial port. Output is polled, since a virtual machine's port takes a byte at once as
// long as the host does; input is driven by interrupts and flows only as fast as it is taken: what
// the handler leaves stays in the port, and from there in the host's pipe or terminal.
//
// Lock order: input, then whatever the handler locks. output is taken alone.
type Serial struct {
	io   ports
	base uint16

	// events holds the events seen and not reported yet. Every read of the status register clears
	// them there, whoever reads it.
	events atomic.Uint32

	output sync.Mutex // guards the transmitter

	resume chan struct{} // tells the second goroutine of Listen that there is room
	full   atomic.Bool   // the handler left something, or may be about to

	input    sync.Mutex // guards what follows, and the receiver
	handler  func(p []byte) int
	notify   func(LineEvent)
	buffer   [64]byte
	buffered []byte // part of buffer: read and not taken by the handler yet
	stopped  bool   // the receive interrupt is off
}

// probeSerial finds the port at base and sets it up, or returns nil if there is none. Input that
// came before is kept: with a pipe for its standard input a program's first byte waits in the port
// when the machine starts.
func probeSerial(io ports, base uint16) *Serial {
	s := &Serial{io: io, base: base, resume: make(chan struct{}, 1)}
	const pattern = 0xf8 // neither ASCII nor UTF-8
	s.out(uartScratch, pattern)
	if s.in(uartScratch) != pattern || s.in(uartStatus) == 0xff {
		return nil
	}
	s.out(uartEnable, 0)
	s.out(uartLine, lineDivisor|line8N1)
	s.out(uartData, 1) // 115200 baud; a virtual port ignores it
	s.out(uartEnable, 0)
	s.out(uartLine, line8N1)

	// To turn the FIFO on clears it and the receiver buffer. The byte in that buffer keeps QEMU from
	// delivering another until it is read, and in loopback mode reading it does not wake QEMU for more.
	// So another byte would have to come by chance in the microsecond between these two accesses to be
	// lost; no order of accesses closes that gap.
	s.out(uartModem, modemLoop)
	if s.in(uartStatus)&statusData != 0 {
		early := s.in(uartData)
		s.out(uartFIFO, fifoOn|fifoTrigger)
		s.buffered = append(s.buffer[:0], early)
	} else {
		s.out(uartFIFO, fifoOn|fifoTrigger)
	}

	// One byte through the loop: it shows that the port works, and that it is read outside of loopback
	// mode asks QEMU for the input held back so far.
	s.out(uartData, pattern)
	for range 1000 { // some 87 µs at 115200 baud
		if s.in(uartStatus)&statusData != 0 {
			break
		}
	}
	s.out(uartModem, modemDTR|modemRTS|modemOut2)
	found := false
	for len(s.buffered) < len(s.buffer) && s.in(uartStatus)&statusData != 0 {
		b := s.in(uartData)
		if b == pattern && !found {
			found = true
			continue
		}
		s.buffered = append(s.buffered, b)
	}
	if !found {
		return nil
	}
	s.events.Store(0)
	return s
}

func (s *Serial) in(register uint16) uint8     { return s.io.In8(s.base + register) }
func (s *Serial) out(register uint16, v uint8) { s.io.Out8(s.base+register, v) }

// status reads the line status register and keeps the events that the read clears.
func (s *Serial) status() uint8 {
	v := s.in(uartStatus)
	if e := v & uint8(lineEvents); e != 0 {
		s.events.Or(uint32(e))
	}
	return v
}

// Write sends p byte for byte and returns when the port has taken all of it. It parks while the
// host doesn't take output.
func (s *Serial) Write(p []byte) (int, error) {
	s.output.Lock()
	defer s.output.Unlock()
	for rest := p; len(rest) > 0; {
		s.await(statusTransmitter)
		n := min(len(rest), uartFIFOSize)
		for _, b := range rest[:n] {
			s.out(uartData, b)
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// Drain returns when all output has left the port.
func (s *Serial) Drain() {
	s.output.Lock()
	defer s.output.Unlock()
	s.await(statusIdle)
}

// await waits until a bit of the status is set: first spinning, as is right for a port that is
// merely slow, then asleep between looks, for the host may be stopped for hours.
func (s *Serial) await(bit uint8) {
	const spins = 200
	nap := 100 * time.Microsecond
	for i := 0; s.status()&bit == 0; i++ {
		metal.CondResched()
		if i >= spins {
			time.Sleep(nap)
			nap = min(2*nap, 10*time.Millisecond)
		}
	}
}

// listen starts to read: handler gets the input, in order, and returns how much of it it took;
// notify, if not nil, hears of line events. When handler takes less than it was given, reading
// stops until Resume is called. Neither is called by two goroutines at once.
//
// Precondition: Listen was not called before.
func (s *Serial) listen(line *Line, handler func(p []byte) int, notify func(LineEvent)) {
	s.input.Lock()
	s.handler, s.notify = handler, notify
	s.out(uartEnable, enableReceive|enableStatus)
	s.input.Unlock()
	go func() {
		for {
			s.receive()
			line.Wait()
			line.Done() // a level that is still there after receive interrupts again
		}
	}()
	go func() {
		for range s.resume {
			s.receive()
		}
	}()
}

// Resume says that the handler can take input again. It never blocks and may be called with the
// handler's own locks held; it costs next to nothing when reading wasn't stopped.
func (s *Serial) Resume() {
	if !s.full.Load() {
		return
	}
	select {
	case s.resume <- struct{}{}:
	default:
	}
}

// receive hands on what is in the port until it is empty or the handler full.
func (s *Serial) receive() {
	s.input.Lock()
	defer s.input.Unlock()
	for {
		s.fill()
		if e := LineEvent(s.events.Swap(0)); e != 0 && s.notify != nil {
			s.notify(e)
		}
		if len(s.buffered) == 0 {
			break
		}
		// Set before the handler looks for room, so that a Resume between its look and here counts.
		s.full.Store(true)
		n := s.handler(s.buffered)
		s.buffered = s.buffered[:copy(s.buffer[:], s.buffered[n:])]
		if len(s.buffered) > 0 {
			if !s.stopped {
				s.stopped = true
				s.out(uartEnable, enableStatus)
			}
			return
		}
		s.full.Store(false)
		metal.CondResched()
	}
	if s.stopped {
		s.stopped = false
		s.out(uartEnable, enableReceive|enableStatus) // interrupts at once if something came meanwhile
	}
}

// fill reads from the port into the buffer, if that is empty.
func (s *Serial) fill() {
	if len(s.buffered) > 0 {
		return
	}
	s.buffered = s.buffer[:0]
	for len(s.buffered) < len(s.buffer) && s.status()&statusData != 0 {
		b := s.in(uartData)
		// A break comes with a NUL that nobody sent (data sheet, 8.6.4).
		if b == 0 && LineEvent(s.events.Load())&LineBreak != 0 {
			continue
		}
		s.buffered = append(s.buffered, b)
	}
}
