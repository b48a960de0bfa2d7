package kvm

import (
	"testing"
	"time"
)

// pciMachine is a fakeMachine with PCI: configuration spaces by the address that the port takes.
type pciMachine struct {
	*fakeMachine
	address uint32
	spaces  map[uint32]*[pciConfigSize]byte
	sizes   map[uint32]uint32 // of base address registers, by the address of the register
	memory  map[uint64]uint32
}

func newPCIMachine() *pciMachine {
	return &pciMachine{fakeMachine: newFakeMachine(), spaces: make(map[uint32]*[pciConfigSize]byte), sizes: make(map[uint32]uint32), memory: make(map[uint64]uint32)}
}

// add makes a function.
func (m *pciMachine) add(bus, slot, function, id uint32, header uint8) *[pciConfigSize]byte {
	s := new([pciConfigSize]byte)
	le.PutUint32(s[:], id)
	s[pciHeaderType] = header
	m.spaces[bus<<16|slot<<11|function<<8] = s
	return s
}

func (m *pciMachine) word() (space *[pciConfigSize]byte, at uint32) {
	return m.spaces[m.address&0xffff00], m.address & 0xfc
}

func (m *pciMachine) In32(port uint16) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch port {
	case pciAddress:
		return m.address
	case pciData:
		if s, at := m.word(); s != nil {
			return le.Uint32(s[at:])
		}
	}
	return ^uint32(0)
}

func (m *pciMachine) Out32(port uint16, v uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch port {
	case pciAddress:
		m.address = v
	case pciData:
		if s, at := m.word(); s != nil {
			if size, ok := m.sizes[m.address&0xfffffc]; ok {
				v = v&-size | le.Uint32(s[at:])&pciBARFlags
			}
			le.PutUint32(s[at:], v)
		}
	}
}

func (m *pciMachine) Out16(port uint16, v uint16) {
	if port&^2 != pciData {
		m.fakeMachine.Out16(port, v)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, at := m.word(); s != nil {
		le.PutUint16(s[at+uint32(port&2):], v)
	}
}

func (m *pciMachine) Load32(pa uint64) uint32 {
	if pa >= 0xfd000000 && pa < 0xfe000000 {
		return m.memory[pa]
	}
	return m.fakeMachine.Load32(pa)
}

func (m *pciMachine) Store32(pa uint64, v uint32) {
	if pa >= 0xfd000000 && pa < 0xfe000000 {
		m.memory[pa] = v
		return
	}
	m.fakeMachine.Store32(pa, v)
}

func TestPCI(t *testing.T) {
	m := newPCIMachine()
	m.add(0, 0, 0, 0x12378086, 0)
	bridge := m.add(0, 1, 0, 0x00011b36, pciHeaderBridge|pciMultiFunction)
	bridge[pciSecondaryBus] = 3
	loop := m.add(0, 1, 2, 0x00021b36, pciHeaderBridge)
	loop[pciSecondaryBus] = 3
	s := m.add(3, 31, 0, 0x10411af4, 0)
	back := m.add(3, 4, 0, 0x00031b36, pciHeaderBridge)
	back[pciSecondaryBus] = 3
	le.PutUint16(s[pciSubsystem+2:], 7)
	le.PutUint16(s[pciStatus:], pciStatusList)
	s[pciCapabilities] = 0x40
	copy(s[0x40:], []byte{pciCapMSIX, 0x50, 3, 0, 1, 0x08, 0, 0}) // 4 entries at 0x800 of register 1
	copy(s[0x50:], []byte{9, 0x40})                               // and round again
	le.PutUint32(s[pciBAR+4:], 0xfd001000)
	m.sizes[3<<16|31<<11|pciBAR+4] = 0x1000
	le.PutUint32(s[pciBAR+8:], 0xfd800000|pciBAR64)
	le.PutUint32(s[pciBAR+12:], 2)
	m.sizes[3<<16|31<<11|pciBAR+8] = 0x4000
	m.sizes[3<<16|31<<11|pciBAR+12] = 1
	s[pciBAR] = pciBARIO

	k := startFakeOn(t, m)
	list := k.PCIFunctions()
	if len(list) != 2 {
		t.Fatalf("found %v", list)
	}
	f := list[1]
	if f.Vendor != 0x1af4 || f.Device != 0x1041 || f.SubModel != 7 || f.String() != "pci 0000:03:1f.0" {
		t.Errorf("found %v: %+v", f, *f)
	}
	if n := len(f.Capabilities()); n != (pciConfigSize-0x40)/4 {
		t.Errorf("a round list of capabilities has %d entries", n)
	}
	if pa, size, err := f.BAR(1); err != nil || pa != 0xfd001000 || size != 0x1000 {
		t.Errorf("register 1: %#x, %#x, %v", pa, size, err)
	}
	if pa, size, err := f.BAR(2); err != nil || pa != 2<<32|0xfd800000 || size != 0x4000 {
		t.Errorf("register 2: %#x, %#x, %v", pa, size, err)
	}
	for _, i := range []int{-1, 0, 4, 6} {
		if _, _, err := f.BAR(i); err == nil {
			t.Errorf("register %d was taken", i)
		}
	}
	if _, err := f.Window(1, 0xffc, 8); err == nil {
		t.Error("a window that exceeds its register")
	}
	if _, err := f.Window(1, 1<<63, 1<<63); err == nil {
		t.Error("a window that wraps")
	}

	interrupts, byMessage, err := f.Interrupts(2)
	if err != nil || !byMessage || len(interrupts) != 2 {
		t.Fatalf("%d interrupts, %v, %v", len(interrupts), byMessage, err)
	}
	const table = 0xfd001800
	if m.memory[table] != messageAddress|7<<12 || m.memory[table+16+8] != firstLineVector+1 || m.memory[table+12] != 0 {
		t.Errorf("the table is %#x", m.memory)
	}
	if control := f.Config16(0x42); control&(msixOn|msixMaskAll) != msixOn {
		t.Errorf("MSI-X control is %#x", control)
	}
	m.vectors[m.memory[table+16+8]] <- struct{}{}
	interrupts[1].Wait()
	interrupts[1].Done()
}

func TestSharedInterruptLine(t *testing.T) {
	m := newPCIMachine()
	for slot := range uint32(2) {
		s := m.add(0, slot, 0, 0x10411af4, 0)
		s[pciInterruptPin], s[pciInterruptLine] = 1, 11
	}
	k := startFakeOn(t, m)
	served := make(chan int)
	for n, f := range k.PCIFunctions() {
		list, byMessage, err := f.Interrupts(3)
		if err != nil || byMessage || len(list) != 1 {
			t.Fatalf("%d interrupts, %v, %v", len(list), byMessage, err)
		}
		go func() {
			for {
				list[0].Wait()
				served <- n
				list[0].Done()
			}
		}()
	}
	for range 3 {
		m.mu.Lock()
		m.apic.set(11, true)
		m.mu.Unlock()
		seen := [2]bool{}
		for range 2 {
			select {
			case n := <-served:
				seen[n] = true
			case <-time.After(5 * time.Second):
				t.Fatal("nobody was woken")
			}
			m.mu.Lock()
			m.apic.set(11, false)
			m.mu.Unlock()
		}
		if !seen[0] || !seen[1] {
			t.Error("one of them was woken twice")
		}
	}
}

func TestMMIODevicesInAML(t *testing.T) {
	device := func(pa uint32, gsi byte) string {
		memory := "\x86\x09\x00\x01" + string(le.AppendUint32(nil, pa)) + "\x00\x02\x00\x00"
		return "\x08_HID\x0dLNRO0005\x00\x08_CRS" + memory + "\x89\x06\x00\x03\x01" + string(gsi) + "\x00\x00\x00"
	}
	aml := "…" + device(0xfeb00000, 24) + device(0xfeb00200, 25) + "\x08_HID\x0dLNRO0005\x00 without anything"
	list := findVirtioMMIO([]byte(aml))
	if len(list) != 2 || list[1].PA != 0xfeb00200 || list[1].Size != 0x200 || list[1].GSI != 25 {
		t.Errorf("found %+v", list)
	}
}
