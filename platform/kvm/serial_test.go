package kvm

import (
	"strings"
	"sync"
	"testing"
)

// sink is a handler with bounded room.
type sink struct {
	mu     sync.Mutex
	room   int
	got    []byte
	events LineEvent
}

func (s *sink) take(p []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(p), s.room)
	s.room -= n
	s.got = append(s.got, p[:n]...)
	return n
}

func (s *sink) notify(e LineEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events |= e
}

func (s *sink) makeRoom(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room += n
}

func (s *sink) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.got)
}

func (s *sink) has(want string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return string(s.got) == want
	}
}

func startFake(t *testing.T, m *fakeMachine) *Machine {
	t.Helper()
	k, err := start(m, Facts{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSerialWrite(t *testing.T) {
	m := newFakeMachine()
	k := startFake(t, m)
	m.uart.stalls = 203 // longer than it is spun for
	text := strings.Repeat("0123456789abcdef\r\n\x00\xff", 20)
	if n, err := k.Console().Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	k.Console().Drain()
	if m.sent() != text {
		t.Errorf("sent %q", m.sent())
	}
	if m.uart.maxBurst > uartFIFOSize {
		t.Errorf("%d bytes at once into a FIFO of %d", m.uart.maxBurst, uartFIFOSize)
	}
}

func TestNoSerialPort(t *testing.T) {
	m := newFakeMachine()
	m.uart = nil
	k := startFake(t, m)
	if k.Console() != nil {
		t.Error("a serial port where none is")
	}
	if err := k.Listen(func(p []byte) int { return len(p) }, nil); err == nil {
		t.Error("Listen: no error")
	}
	k.PowerOff(0)
}

// TestEarlyInput: what came before the port was set up is neither lost nor reordered, whatever it
// is; the probe's own byte never shows.
func TestEarlyInput(t *testing.T) {
	for _, text := range []string{"", "x", "\x00", "\xf8", "\xf8\xf8", "hello, this is longer than the receiver's FIFO is"} {
		m := newFakeMachine()
		m.input(text)
		k := startFake(t, m)
		s := &sink{room: 1000}
		if err := k.Listen(s.take, s.notify); err != nil {
			t.Fatal(err)
		}
		if !eventually(s.has(text)) {
			t.Errorf("%q came as %q", text, s.got)
		}
		if m.sent() != "" {
			t.Errorf("the probe sent %q", m.sent())
		}
	}
}

func TestSerialInput(t *testing.T) {
	m := newFakeMachine()
	k := startFake(t, m)
	s := &sink{room: 1 << 20}
	if err := k.Listen(s.take, s.notify); err != nil {
		t.Fatal(err)
	}
	var want string
	for range 50 {
		text := strings.Repeat("some input\n", 7)
		want += text
		m.input(text)
		if !eventually(s.has(want)) {
			t.Fatalf("got %q, want %q", s.got, want)
		}
	}
}

// TestBackPressure: what the handler doesn't take stays with the host, and comes when there is room.
func TestBackPressure(t *testing.T) {
	m := newFakeMachine()
	k := startFake(t, m)
	s := &sink{room: 10}
	if err := k.Listen(s.take, s.notify); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("abcdefghij", 100)
	m.input(text)
	if !eventually(s.has(text[:10])) {
		t.Fatalf("got %q", s.got)
	}
	stopped := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.uart.enable&enableReceive == 0
	}
	if !eventually(stopped) {
		t.Fatal("a full handler doesn't stop the interrupts")
	}
	if m.waiting() < 800 {
		t.Errorf("only %d bytes are left on the host", m.waiting())
	}
	for n := 10; n < len(text); n += 30 {
		s.makeRoom(30)
		k.Console().Resume()
		if want := text[:min(n+30, len(text))]; !eventually(s.has(want)) {
			t.Fatalf("with room for %d: got %d bytes", len(want), len(s.got))
		}
	}
	s.makeRoom(100)
	k.Console().Resume()
	m.input("more")
	if !eventually(s.has(text + "more")) {
		t.Errorf("reading doesn't go on after it was stopped: %q", s.got)
	}
	if !eventually(func() bool { return !stopped() }) {
		t.Error("the interrupts stay off")
	}
}

func TestLineEvents(t *testing.T) {
	m := newFakeMachine()
	k := startFake(t, m)
	s := &sink{room: 100}
	if err := k.Listen(s.take, s.notify); err != nil {
		t.Fatal(err)
	}
	m.input("a")
	if !eventually(s.has("a")) {
		t.Fatalf("got %q", s.got)
	}
	m.lineError(LineBreak, 0)
	seen := func(e LineEvent) func() bool {
		return func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.events&e != 0
		}
	}
	if !eventually(seen(LineBreak)) {
		t.Error("no break")
	}
	m.input("\x00b")
	if !eventually(s.has("a\x00b")) {
		t.Errorf("got %q: a break's NUL is no input, a NUL without a break is", s.got)
	}
	m.lineError(LineOverrun, 'c')
	if !eventually(seen(LineOverrun)) || !eventually(s.has("a\x00bc")) {
		t.Errorf("events %#x, got %q", s.events, s.got)
	}
}
