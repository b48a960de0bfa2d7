package virtio

import (
	"fmt"

	"elver/platform/kvm"
	"elver/runtime/metal"
)

// Registers of a device in memory (4.2.2), those of the legacy interface (4.2.4) among them.
const (
	mmioMagic         = 0x000
	mmioVersion       = 0x004
	mmioDevice        = 0x008
	mmioFeatures      = 0x010
	mmioFeaturesSel   = 0x014
	mmioDriver        = 0x020
	mmioDriverSel     = 0x024
	mmioPageSize      = 0x028 // legacy
	mmioQueueSel      = 0x030
	mmioQueueMax      = 0x034
	mmioQueueNum      = 0x038
	mmioQueueAlign    = 0x03c // legacy
	mmioQueuePage     = 0x040 // legacy
	mmioQueueReady    = 0x044
	mmioQueueNotify   = 0x050
	mmioInterrupt     = 0x060
	mmioInterruptDone = 0x064
	mmioStatus        = 0x070
	mmioQueueTable    = 0x080
	mmioQueueDriver   = 0x090
	mmioQueueDevice   = 0x0a0
	mmioGeneration    = 0x0fc
	mmioConfig        = 0x100
	mmioBytes         = 0x200

	mmioMagicValue = 0x74726976 // "virt"
)

// mmioDeviceAt is a device that has its registers in memory.
type mmioDeviceAt struct {
	place   kvm.MMIODevice
	machine *kvm.Machine
	typ     Type
	old     bool
	r       kvm.Registers
}

// probeMMIO returns the device at place, nil if there is none.
func probeMMIO(m *kvm.Machine, place kvm.MMIODevice) (*Device, error) {
	if place.Size < mmioConfig {
		return nil, fmt.Errorf("%v: %d bytes are too few for a virtio device", place, place.Size)
	}
	return newMMIO(m, place, m.Registers(place.PA, mmioBytes))
}

func newMMIO(m *kvm.Machine, place kvm.MMIODevice, r kvm.Registers) (*Device, error) {
	if r.Load32(mmioMagic) != mmioMagicValue {
		return nil, nil
	}
	version, typ := r.Load32(mmioVersion), Type(r.Load32(mmioDevice))
	if typ == 0 {
		return nil, nil // a place that is empty
	}
	if version != 1 && version != 2 {
		return nil, fmt.Errorf("%v: a virtio device with an interface of version %d, which Elver doesn't know", place, version)
	}
	d := &mmioDeviceAt{place: place, machine: m, typ: typ, old: version == 1, r: r}
	return &Device{Type: typ, t: d, ordered: m.KeepsOrder()}, nil
}

func (d *mmioDeviceAt) String() string    { return d.place.String() }
func (d *mmioDeviceAt) legacy() bool      { return d.old }
func (d *mmioDeviceAt) status() uint8     { return uint8(d.r.Load32(mmioStatus)) }
func (d *mmioDeviceAt) setStatus(v uint8) { d.r.Store32(mmioStatus, uint32(v)) }

func (d *mmioDeviceAt) features() uint64 {
	d.r.Store32(mmioFeaturesSel, 0)
	v := uint64(d.r.Load32(mmioFeatures))
	if !d.old {
		d.r.Store32(mmioFeaturesSel, 1)
		v |= uint64(d.r.Load32(mmioFeatures)) << 32
	}
	return v
}

func (d *mmioDeviceAt) setFeatures(v uint64) {
	d.r.Store32(mmioDriverSel, 0)
	d.r.Store32(mmioDriver, uint32(v))
	if d.old {
		d.r.Store32(mmioPageSize, metal.FrameSize)
		return
	}
	d.r.Store32(mmioDriverSel, 1)
	d.r.Store32(mmioDriver, uint32(v>>32))
}

func (d *mmioDeviceAt) queueSize(i int) int {
	d.r.Store32(mmioQueueSel, uint32(i))
	return int(min(d.r.Load32(mmioQueueMax), 1<<15))
}

func (d *mmioDeviceAt) interrupts(int) ([]kvm.Interrupt, error) {
	line, err := d.machine.Interrupt(d.place)
	if err != nil {
		return nil, err
	}
	return []kvm.Interrupt{line}, nil
}

func (d *mmioDeviceAt) enable(i int, r *ring, _ int) error {
	d.r.Store32(mmioQueueSel, uint32(i))
	d.r.Store32(mmioQueueNum, uint32(r.size))
	if d.old {
		d.r.Store32(mmioQueueAlign, ringAlign)
		d.r.Store32(mmioQueuePage, uint32(r.pa/metal.FrameSize))
		return nil
	}
	store64 := func(off uint32, v uint64) {
		d.r.Store32(off, uint32(v))
		d.r.Store32(off+4, uint32(v>>32))
	}
	store64(mmioQueueTable, r.pa)
	store64(mmioQueueDriver, r.pa+uint64(r.available))
	store64(mmioQueueDevice, r.pa+uint64(r.used))
	d.r.Store32(mmioQueueReady, 1)
	return nil
}

func (d *mmioDeviceAt) notify(i int) { d.r.Store32(mmioQueueNotify, uint32(i)) }

func (d *mmioDeviceAt) acknowledge() (config bool) {
	pending := d.r.Load32(mmioInterrupt)
	if pending != 0 {
		d.r.Store32(mmioInterruptDone, pending)
	}
	return pending&isrConfig != 0
}

func (d *mmioDeviceAt) setConfigInterrupt(int) error { return nil }

func (d *mmioDeviceAt) configLen() int { return mmioBytes - mmioConfig }

func (d *mmioDeviceAt) config8(off int) uint8 { return d.r.Load8(mmioConfig + uint32(off)) }

func (d *mmioDeviceAt) setConfig32(off int, v uint32) { d.r.Store32(mmioConfig+uint32(off), v) }

func (d *mmioDeviceAt) generation() uint32 {
	if d.old {
		return 0 // the legacy interface has none
	}
	return d.r.Load32(mmioGeneration)
}
