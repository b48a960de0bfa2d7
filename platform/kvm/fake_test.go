package kvm

import (
	"sync"
	"time"
)

// fakeMachine is a PC in memory: RAM, an I/O APIC, a serial port, an RTC, PM1 registers, and the
// ways to end it. All of it is guarded by mu.
type fakeMachine struct {
	mu       sync.Mutex
	ram      []byte
	cpuid    map[uint32][4]uint32
	msr      map[uint32]uint64
	tsc      uint64
	ended    []string          // what was done that would end a machine, in order
	bytes    map[uint16][]byte // what was written to ports without a device
	answers  map[uint16]uint8  // what other ports answer to a read; 0xff where nothing is said
	uart     *fakeUART
	rtc      *fakeRTC
	pm       fakePM
	apic     fakeIOAPIC
	mmio8    map[uint64]uint8
	selector uint32 // of the generic event device, at gedAddress
	vectors  [256]chan struct{}
	nextPage uint64
}

const (
	fakePM1Event   = 0x600
	fakePM1Control = 0x604
	fakeSMI        = 0xb2
	gedAddress     = 0xfea00000
	sleepAddress   = gedAddress + 0x200
)

func newFakeMachine() *fakeMachine {
	m := &fakeMachine{
		ram:      make([]byte, 2<<20),
		cpuid:    map[uint32][4]uint32{1: {0, 7 << 24, 0, 0}},
		msr:      make(map[uint32]uint64),
		bytes:    make(map[uint16][]byte),
		answers:  map[uint16]uint8{keyboardPort: 0},
		mmio8:    make(map[uint64]uint8),
		nextPage: 1 << 20,
	}
	for i := range m.vectors {
		m.vectors[i] = make(chan struct{}, 1)
	}
	m.uart = &fakeUART{machine: m}
	m.rtc = &fakeRTC{}
	m.apic.machine = m
	for i := range m.apic.entries {
		m.apic.entries[i] = redirectMasked
	}
	return m
}

func (m *fakeMachine) end(how string) { m.ended = append(m.ended, how) }

func (m *fakeMachine) In8(port uint16) uint8 {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.uart != nil && port >= com1 && port < com1+8:
		return m.uart.read(port - com1)
	case m.rtc != nil && port == rtcData:
		return m.rtc.read()
	}
	if v, ok := m.answers[port]; ok {
		return v
	}
	return 0xff
}

func (m *fakeMachine) Out8(port uint16, v uint8) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.uart != nil && port >= com1 && port < com1+8:
		m.uart.write(port-com1, v)
	case m.rtc != nil && port == rtcIndex:
		m.rtc.index = v
	case port == fakeSMI && v == 0xf1:
		m.pm.control |= pm1SCIEnable
	case port == debugExit:
		m.end("debug exit")
	case port == keyboardPort && v == keyboardReset:
		m.end("keyboard reset")
	case port == resetControl && v&4 != 0:
		m.end("reset control")
	case port == 0x99:
		m.end("reset register")
	}
	m.bytes[port] = append(m.bytes[port], v)
}

func (m *fakeMachine) In16(port uint16) uint16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch port {
	case fakePM1Event:
		return m.pm.status
	case fakePM1Event + 2:
		return m.pm.enable
	case fakePM1Control:
		return m.pm.control
	}
	return 0xffff
}

func (m *fakeMachine) Out16(port uint16, v uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch port {
	case fakePM1Event:
		m.pm.status &^= v
	case fakePM1Event + 2:
		m.pm.enable = v
	case fakePM1Control:
		m.pm.control = v
		if v&pm1SleepEnable != 0 && v>>pm1SleepTypeShift&7 == 5 && v&pm1SCIEnable != 0 {
			m.end("S5")
		}
	}
	m.sci()
}

// fakePM is the PM1 event and control registers.
type fakePM struct {
	status, enable, control uint16
}

// sci sets the level of the system control interrupt.
func (m *fakeMachine) sci() { m.apic.set(9, m.pm.status&m.pm.enable != 0) }

func (m *fakeMachine) pressPowerButton() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pm.status |= pm1PowerButton
	m.sci()
}

func (m *fakeMachine) In32(uint16) uint32          { return ^uint32(0) }
func (m *fakeMachine) Out32(uint16, uint32)        {}
func (m *fakeMachine) Map(uint64)                  {}
func (m *fakeMachine) TripleFault()                { m.end("triple fault") }
func (m *fakeMachine) Halt()                       { m.end("halt") }
func (m *fakeMachine) ReadMSR(r uint32) uint64     { return m.msr[r] }
func (m *fakeMachine) WriteMSR(r uint32, v uint64) { m.msr[r] = v }
func (m *fakeMachine) TSC() uint64                 { return m.tsc }

func (m *fakeMachine) CPUID(leaf, _ uint32) (eax, ebx, ecx, edx uint32) {
	r := m.cpuid[leaf]
	return r[0], r[1], r[2], r[3]
}

func (m *fakeMachine) Load32(pa uint64) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch pa {
	case defaultIOAPIC + ioapicWindow:
		return m.apic.read()
	case gedAddress:
		v := m.selector
		m.selector = 0
		return v
	}
	return ^uint32(0)
}

func (m *fakeMachine) Store32(pa uint64, v uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch pa {
	case defaultIOAPIC + ioapicIndex:
		m.apic.index = v
	case defaultIOAPIC + ioapicWindow:
		m.apic.write(v)
	}
}

func (m *fakeMachine) Load8(pa uint64) uint8 { return m.mmio8[pa] }
func (m *fakeMachine) Store8(pa uint64, v uint8) {
	m.mmio8[pa] = v
	if pa == sleepAddress && v == 5<<sleepTypeShift|sleepEnable {
		m.end("S5")
	}
}

func (m *fakeMachine) Memory(pa uint64, n int) ([]byte, bool) {
	if n < 0 || pa > uint64(len(m.ram)) || uint64(n) > uint64(len(m.ram))-pa {
		return nil, false
	}
	return m.ram[pa : pa+uint64(n) : pa+uint64(n)], true
}

func (m *fakeMachine) AllocPage() (uint64, []byte, bool) {
	pa := m.nextPage
	m.nextPage += 4096
	page, ok := m.Memory(pa, 4096)
	return pa, page, ok
}

func (m *fakeMachine) WaitIRQ(vector uint8) { <-m.vectors[vector] }

// fakeIOAPIC delivers to the vectors as the 82093AA does: an edge when it comes, a level as long as
// it is there and the input isn't masked.
type fakeIOAPIC struct {
	machine *fakeMachine
	index   uint32
	entries [24]uint32
	high    [24]uint32
	level   [24]bool
}

func (a *fakeIOAPIC) read() uint32 {
	if a.index == ioapicVersion {
		return 0x11 | (24-1)<<16
	}
	if i := a.index - ioapicRedirection; i < 48 {
		if i%2 == 1 {
			return a.high[i/2]
		}
		return a.entries[i/2]
	}
	return 0
}

func (a *fakeIOAPIC) write(v uint32) {
	i := a.index - ioapicRedirection
	if i >= 48 {
		return
	}
	if i%2 == 1 {
		a.high[i/2] = v
		return
	}
	a.entries[i/2] = v
	if v&redirectLevel != 0 && a.level[i/2] {
		a.deliver(int(i / 2))
	}
}

func (a *fakeIOAPIC) set(input int, level bool) {
	rising := level && !a.level[input]
	a.level[input] = level
	if rising {
		a.deliver(input)
	}
}

func (a *fakeIOAPIC) deliver(input int) {
	if a.entries[input]&redirectMasked != 0 {
		return
	}
	select {
	case a.machine.vectors[uint8(a.entries[input])] <- struct{}{}:
	default:
	}
}

// fakeUART is a 16550A with the host's end of its line.
type fakeUART struct {
	machine            *fakeMachine
	fifoMode           bool
	enable, line       uint8
	modem, scratch     uint8
	errors             uint8 // bits of the line status that a read clears
	receiver           []byte
	host               []byte // input that waits on the host
	sent               []byte
	stalls             int // how many looks at the status find the transmitter busy after a write
	busy               int
	maxBurst, burst    int
	missingTransmitter bool
}

func (u *fakeUART) capacity() int {
	if u.fifoMode {
		return uartFIFOSize
	}
	return 1
}

// refill moves what the host has into the receiver, as far as there is room.
func (u *fakeUART) refill() {
	for len(u.host) > 0 && len(u.receiver) < u.capacity() {
		u.receiver = append(u.receiver, u.host[0])
		u.host = u.host[1:]
	}
	u.irq()
}

func (u *fakeUART) irq() {
	pending := u.enable&enableReceive != 0 && len(u.receiver) > 0 || u.enable&enableStatus != 0 && u.errors != 0
	u.machine.apic.set(com1IRQ, pending && u.modem&modemOut2 != 0)
}

func (u *fakeUART) read(r uint16) uint8 {
	defer u.irq()
	switch r {
	case uartData:
		if len(u.receiver) == 0 {
			return 0
		}
		b := u.receiver[0]
		u.receiver = u.receiver[1:]
		if u.modem&modemLoop == 0 {
			u.refill()
		}
		return b
	case uartEnable:
		return u.enable
	case uartLine:
		return u.line
	case uartModem:
		return u.modem
	case uartStatus:
		v := u.errors
		u.errors = 0
		if len(u.receiver) > 0 {
			v |= statusData
		}
		if u.busy > 0 {
			u.busy--
		} else if !u.missingTransmitter {
			v |= statusTransmitter | statusIdle
			u.burst = 0
		}
		return v
	case uartScratch:
		return u.scratch
	}
	return 0
}

func (u *fakeUART) write(r uint16, v uint8) {
	defer u.irq()
	if u.line&lineDivisor != 0 && r <= uartEnable {
		return
	}
	switch r {
	case uartData:
		if u.modem&modemLoop != 0 {
			if len(u.receiver) < u.capacity() {
				u.receiver = append(u.receiver, v)
			}
			return
		}
		u.sent = append(u.sent, v)
		u.burst++
		u.maxBurst = max(u.maxBurst, u.burst)
		u.busy = u.stalls
	case uartEnable:
		u.enable = v
	case uartFIFO:
		if on := v&fifoOn != 0; on != u.fifoMode {
			u.receiver = nil // as on the chip: a change clears both FIFOs
			u.fifoMode = on
		}
	case uartLine:
		u.line = v
	case uartModem:
		u.modem = v
	case uartScratch:
		u.scratch = v
	}
}

// input is what the host types.
func (m *fakeMachine) input(p string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uart.host = append(m.uart.host, p...)
	m.uart.refill()
}

func (m *fakeMachine) lineError(bits LineEvent, b byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uart.errors |= uint8(bits)
	m.uart.receiver = append(m.uart.receiver, b)
	m.uart.irq()
}

func (m *fakeMachine) sent() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.uart.sent)
}

func (m *fakeMachine) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.uart.host)
}

// fakeRTC is an MC146818 with a script of what happens while it is read.
type fakeRTC struct {
	index    uint8
	regs     [128]uint8
	updating int // so many looks at status A find an update under way
	forever  bool
	reads    int
	onRead   func(n int) // after the n-th read
}

func (r *fakeRTC) read() uint8 {
	r.reads++
	if r.onRead != nil {
		r.onRead(r.reads)
	}
	if r.index == rtcStatusA && (r.updating > 0 || r.forever) {
		r.updating--
		return r.regs[rtcStatusA] | rtcUpdating
	}
	return r.regs[r.index&0x7f]
}

// eventually waits for a goroutine to do its work.
func eventually(cond func() bool) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return true
		}
	}
	return false
}
