package virtio

import (
	"elver/boot"
	"elver/platform/kvm"
)

// Probe finds the virtio devices of the machine: those on PCI, those that the ACPI tables or the words
// virtio_mmio.device= of the command line describe, and those of QEMU's microvm. errs says which devices
// cannot be used, and why.
func Probe(m *kvm.Machine, words []boot.VirtioMMIODevice) (list []*Device, errs []error) {
	add := func(d *Device, err error) {
		if err != nil {
			errs = append(errs, err)
		} else if d != nil {
			list = append(list, d)
		}
	}
	for _, f := range m.PCIFunctions() {
		add(probePCI(m, f))
	}
	var places []kvm.MMIODevice
	for _, w := range words {
		places = append(places, m.MMIODevice(w.Base, w.Size, w.IRQ))
	}
	places = append(places, m.MMIODevices()...)
	seen := make(map[uint64]bool)
	for _, place := range places {
		if !seen[place.PA] {
			seen[place.PA] = true
			add(probeMMIO(m, place))
		}
	}
	return list, errs
}
