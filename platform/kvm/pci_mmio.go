package kvm

import (
	"bytes"
	"fmt"
	"slices"
)

// MMIODevice is a place of a virtio device that no bus lists (virtio 1.2, 4.2).
type MMIODevice struct {
	PA, Size uint64
	GSI      uint32
	trigger  trigger
}

// String returns the device's place.
func (d MMIODevice) String() string { return fmt.Sprintf("mmio %#x", d.PA) }

// Places that QEMU's microvm has for them, and its interrupts: those of the second I/O APIC if there is
// one, else from 16 with ACPI and from 5 without (hw/i386/microvm.c).
const (
	microvmVirtio      = 0xfeb00000
	microvmVirtioBytes = 0x200
	microvmSecondGSI   = 24
	maxMMIODevices     = 64
)

// MMIODevices lists where virtio devices may be that the ACPI tables describe, or where a machine that
// is a microvm by its looks has them. QEMU fills the places of a microvm from the last one on, so the
// highest comes first: devices are found in the order of QEMU's command line.
func (m *Machine) MMIODevices() []MMIODevice {
	list := m.mmioDevices()
	if len(list) > 0 && list[0].PA == microvmVirtio {
		slices.Reverse(list)
	}
	return list
}

func (m *Machine) mmioDevices() []MMIODevice {
	described := len(m.acpi.madt.ioapics) > 0
	if described && !m.acpi.fadt.hardwareReduced {
		return nil // a PC, which has PCI, and something else at that address
	}
	if t, err := readTable(m.hw.Memory, m.acpi.fadt.dsdt); described && err == nil {
		if found := findVirtioMMIO(t[tableHeaderBytes:]); len(found) > 0 {
			return found
		}
	}
	first, n := uint32(5), 8
	for _, e := range m.acpi.madt.ioapics {
		if e.gsiBase == microvmSecondGSI {
			first, n = microvmSecondGSI, 24
		}
	}
	if described && first == 5 {
		first = 16
	}
	var list []MMIODevice
	for i := range n {
		list = append(list, MMIODevice{
			PA: microvmVirtio + uint64(i)*microvmVirtioBytes, Size: microvmVirtioBytes, GSI: first + uint32(i), trigger: trigger{level: true},
		})
	}
	return list
}

// MMIODevice returns the place that a virtio_mmio.device= word names.
func (m *Machine) MMIODevice(pa, size uint64, irq uint32) MMIODevice {
	d := MMIODevice{PA: pa, Size: size, GSI: irq, trigger: trigger{level: true}}
	for _, o := range m.acpi.madt.overrides {
		if uint32(o.irq) == irq {
			d.GSI = o.gsi
		}
	}
	return d
}

// Interrupt routes the device's line.
func (m *Machine) Interrupt(d MMIODevice) (Interrupt, error) { return m.ic.route(d.GSI, d.trigger) }

// findVirtioMMIO finds the devices of hardware id LNRO0005: in their _CRS one range of memory (ACPI 6.5,
// 6.4.3.4) and one interrupt.
func findVirtioMMIO(aml []byte) []MMIODevice {
	id := []byte("LNRO0005\x00")
	var list []MMIODevice
	for len(list) < maxMMIODevices {
		at := bytes.Index(aml, id)
		if at < 0 {
			break
		}
		aml = aml[at+len(id):]
		device := aml
		if next := bytes.Index(device, id); next >= 0 {
			device = device[:next]
		}
		device = device[:min(len(device), 256)]
		const fixed32 = "\x86\x09\x00"
		memory := bytes.Index(device, []byte(fixed32))
		interrupt, ok := findInterrupt(device)
		if memory < 0 || !ok || len(device) < memory+12 {
			continue
		}
		f := fields(device[memory:])
		list = append(list, MMIODevice{PA: uint64(f.u32(4)), Size: uint64(f.u32(8)), GSI: interrupt.gsi, trigger: interrupt.trigger})
	}
	return list
}
