package kvm

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestPowerOff(t *testing.T) {
	everything := []string{"debug exit", "S5", "reset register", "reset control", "keyboard reset", "triple fault", "halt"}
	for _, test := range []struct {
		name   string
		tables func(m *fakeMachine)
		want   []string
	}{
		{"pc", func(m *fakeMachine) { pcTables(m) }, everything},
		{"microvm", microvmTables, slices.DeleteFunc(slices.Clone(everything), func(s string) bool { return s == "reset register" })},
		{"no ACPI", func(*fakeMachine) {}, []string{"debug exit", "reset control", "keyboard reset", "triple fault", "halt"}},
	} {
		m := newFakeMachine()
		test.tables(m)
		m.answers[statusPort] = debugconPresent
		k := startFake(t, m)
		k.PowerOff(0xc3)
		if !slices.Equal(m.ended, test.want) {
			t.Errorf("%s: %v, want %v", test.name, m.ended, test.want)
		}
		if got := string(m.bytes[statusPort]); got != "\xc3" {
			t.Errorf("%s: status channel got %q", test.name, got)
		}
		if got := string(m.bytes[debugExit]); got != "\xc3" {
			t.Errorf("%s: debug exit got %q", test.name, got)
		}
	}
}

// TestNoStatusChannel: a port that isn't ours is not written to.
func TestNoStatusChannel(t *testing.T) {
	m := newFakeMachine()
	startFake(t, m).PowerOffNow(1)
	if p := m.bytes[statusPort]; p != nil {
		t.Errorf("got % x", p)
	}
}

func TestReset(t *testing.T) {
	m := newFakeMachine()
	microvmTables(m)
	startFake(t, m).Reset()
	if m.mmio8[gedAddress+0x202] != 0x42 {
		t.Errorf("the reset register got %#x", m.mmio8[gedAddress+0x202])
	}
}

func TestPowerButton(t *testing.T) {
	m := newFakeMachine()
	pcTables(m)
	k := startFake(t, m)
	m.pm.status = 0xffff // pressed before anybody listened
	var presses atomic.Int32
	if err := k.OnPowerButton(func() { presses.Add(1) }); err != nil {
		t.Fatal(err)
	}
	for want := int32(1); want <= 3; want++ {
		m.pressPowerButton()
		if !eventually(func() bool { return presses.Load() == want }) {
			t.Fatalf("pressed %d times, heard of %d", want, presses.Load())
		}
	}
}

func TestPowerButtonOfGED(t *testing.T) {
	m := newFakeMachine()
	microvmTables(m)
	k := startFake(t, m)
	var presses atomic.Int32
	if err := k.OnPowerButton(func() { presses.Add(1) }); err != nil {
		t.Fatal(err)
	}
	for want := int32(1); want <= 3; want++ {
		m.mu.Lock()
		m.selector |= gedPowerDown
		m.apic.set(9, true)
		m.apic.set(9, false)
		m.mu.Unlock()
		if !eventually(func() bool { return presses.Load() == want }) {
			t.Fatalf("pressed %d times, heard of %d", want, presses.Load())
		}
	}
}

func TestNoPowerButton(t *testing.T) {
	k := startFake(t, newFakeMachine())
	if err := k.OnPowerButton(func() { t.Error("pressed") }); err != nil {
		t.Error(err)
	}
}

func TestLogWriter(t *testing.T) {
	m := newFakeMachine()
	k := startFake(t, m)
	if k.HasLogChannel() {
		t.Error("a log channel where none is")
	}
	k.LogWriter().Write([]byte("one "))
	m.answers[logPort] = debugconPresent
	k = startFake(t, m)
	k.LogWriter().Write([]byte("two"))
	if got := m.sent() + string(m.bytes[logPort]); !strings.HasSuffix(got, "one two") || !k.HasLogChannel() {
		t.Errorf("got %q", got)
	}
}

// TestSoftOffWrites: the writes alone switch the machine off.
func TestSoftOffWrites(t *testing.T) {
	m := newFakeMachine()
	pcTables(m)
	for _, w := range startFake(t, m).power.softOffWrites() {
		if w.size == 1 {
			m.Out8(w.port, uint8(w.value))
		} else {
			m.Out16(w.port, uint16(w.value))
		}
	}
	if !slices.Equal(m.ended, []string{"S5"}) {
		t.Errorf("%v", m.ended)
	}
	m = newFakeMachine()
	microvmTables(m)
	if w := startFake(t, m).power.softOffWrites(); w != nil {
		t.Errorf("%v for a register in memory", w)
	}
}
