package kvm

import "testing"

func TestRouting(t *testing.T) {
	m := newFakeMachine()
	pcTables(m)
	for i := range m.apic.entries {
		m.apic.entries[i] = 0x77 // left by the firmware
	}
	ic, err := startInterrupts(m, parseMADT(append(make([]byte, tableHeaderBytes), pcMADT()...)))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range m.apic.entries {
		if e&redirectMasked == 0 {
			t.Errorf("input %d is not masked", i)
		}
	}
	l, err := ic.routeISA(4)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.apic.entries[4]; got != uint32(l.vector) || l.vector < firstLineVector {
		t.Errorf("ISA 4: %#x, want the vector %#x, edge, high, not masked", got, l.vector)
	}
	if got := m.apic.high[4]; got != 7<<24 {
		t.Errorf("destination %#x, want local APIC 7", got)
	}
	timer, err := ic.routeISA(0)
	if err != nil || m.apic.entries[2] != uint32(timer.vector) || timer.vector == l.vector {
		t.Errorf("ISA 0: %v; GSI 2: %#x", err, m.apic.entries[2])
	}
	low, err := ic.route(16, trigger{level: true, low: true})
	if err != nil || m.apic.entries[16] != uint32(low.vector)|redirectLow|redirectLevel {
		t.Errorf("GSI 16: %v, %#x", err, m.apic.entries[16])
	}
	m.apic.set(16, true)
	low.Wait()
	if m.apic.entries[16]&redirectMasked == 0 {
		t.Error("a level-triggered line isn't masked while it is served")
	}
	low.Done() // the level is still there
	low.Wait()
	m.apic.set(16, false)
	low.Done()
	if m.apic.entries[16]&redirectMasked != 0 {
		t.Error("a line stays masked")
	}
	if _, err := ic.route(16, trigger{}); err == nil {
		t.Error("one line, two users")
	}
	if _, err := ic.route(24, trigger{}); err == nil {
		t.Error("a line beyond the last input")
	}
}

func TestNoIOAPIC(t *testing.T) {
	m := newFakeMachine()
	ic, err := startInterrupts(m, madt{ioapics: []ioapicEntry{{pa: 0xfeb00000}}})
	if err == nil {
		t.Error("no error")
	}
	if _, err := ic.routeISA(4); err == nil {
		t.Error("a line without an I/O APIC")
	}
}

func TestVectorsRunOut(t *testing.T) {
	m := newFakeMachine()
	ic, _ := startInterrupts(m, madt{})
	ic.next = lastLineVector
	if l, err := ic.route(1, trigger{}); err != nil || l.vector != lastLineVector {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := ic.route(2, trigger{}); err == nil {
		t.Error("no error")
	}
}

func TestPICs(t *testing.T) {
	m := newFakeMachine()
	maskPICs(m)
	for _, port := range []uint16{pic1Data, pic2Data} {
		p := m.bytes[port]
		if len(p) != 4 || p[3] != 0xff {
			t.Errorf("port %#x got % x", port, p)
		}
	}
	if m.bytes[pic1Data][0] != picVector || m.bytes[pic2Data][0] != picVector+8 {
		t.Error("wrong vectors")
	}
}
