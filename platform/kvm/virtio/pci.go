package virtio

import (
	"fmt"

	"elver/platform/kvm"
)

// Identities on PCI (4.1.2).
const (
	pciVendor       = 0x1af4
	pciTransitional = 0x1000
	pciModern       = 0x1040
	pciLast         = 0x107f
)

// The capabilities that say where the device's registers are (4.1.4).
const (
	capVendor = 0x09

	capCommon = 1
	capNotify = 2
	capISR    = 3
	capDevice = 4

	capLength     = 2 // offsets in the capability
	capType       = 3
	capBAR        = 4
	capOffset     = 8
	capBytes      = 12
	capMultiplier = 16
)

// Registers of the common configuration (4.1.4.3).
const (
	commonDeviceSelect  = 0
	commonDeviceFeature = 4
	commonDriverSelect  = 8
	commonDriverFeature = 12
	commonConfigVector  = 16
	commonStatus        = 20
	commonGeneration    = 21
	commonQueueSelect   = 22
	commonQueueSize     = 24
	commonQueueVector   = 26
	commonQueueEnable   = 28
	commonQueueNotify   = 30
	commonQueueTable    = 32
	commonQueueDriver   = 40
	commonQueueDevice   = 48
	commonBytes         = 56

	noVector = 0xffff

	isrConfig = 1 << 1 // 4.1.4.5; the same bit in memory (4.2.2)
)

// pciDevice is a device on PCI. Of its registers all but the notifications and the ISR are accessed
// while the device is set up or reset, by one goroutine.
type pciDevice struct {
	place      string
	function   *kvm.PCIFunction
	typ        Type
	common     kvm.Registers
	isr        kvm.Registers
	config     kvm.Registers // nil: none
	configSize int
	notices    kvm.Registers
	noticeSize uint32
	multiplier uint32
	noticeAt   []uint32 // by queue
	byMessage  bool
}

// probePCI returns the device that f is, nil if it is no virtio device.
func probePCI(m *kvm.Machine, f *kvm.PCIFunction) (*Device, error) {
	if f.Vendor != pciVendor || f.Device < pciTransitional || f.Device > pciLast {
		return nil, nil
	}
	d := &pciDevice{place: f.String(), function: f, typ: Type(f.SubModel)}
	if f.Device >= pciModern {
		d.typ = Type(f.Device - pciModern)
	}
	seen := map[uint8]bool{}
	for _, c := range f.Capabilities() {
		if c.ID != capVendor || c.At > 256-capMultiplier {
			continue
		}
		kind := f.Config8(c.At + capType)
		if kind < capCommon || kind > capDevice || seen[kind] {
			continue // the first of several is the one to use (4.1.4.1)
		}
		bar := int(f.Config8(c.At + capBAR))
		if bar > 5 {
			continue // reserved: to be ignored
		}
		off, n := f.Config32(c.At+capOffset), f.Config32(c.At+capBytes)
		n = min(n, 1<<20)
		if n == 0 {
			continue
		}
		pa, err := f.Window(bar, uint64(off), uint64(n))
		if err != nil {
			return nil, err
		}
		if kind == capCommon && n < commonBytes {
			return nil, fmt.Errorf("%v: its registers have %d bytes, of %d", f, n, commonBytes)
		}
		seen[kind] = true
		r := m.Registers(pa, int(n))
		switch kind {
		case capCommon:
			d.common = r
		case capNotify:
			if c.At > 256-capMultiplier-4 {
				continue
			}
			d.notices, d.noticeSize, d.multiplier = r, n, f.Config32(c.At+capMultiplier)
		case capISR:
			d.isr = r
		case capDevice:
			d.config, d.configSize = r, int(n)
		}
	}
	if d.common == nil || d.notices == nil || d.isr == nil {
		return nil, fmt.Errorf("%v: a virtio device from before virtio 1.0, which Elver doesn't drive on PCI", f)
	}
	f.Enable()
	return &Device{Type: d.typ, t: d, ordered: m.KeepsOrder()}, nil
}

func (d *pciDevice) String() string    { return d.place }
func (d *pciDevice) legacy() bool      { return false }
func (d *pciDevice) status() uint8     { return d.common.Load8(commonStatus) }
func (d *pciDevice) setStatus(v uint8) { d.common.Store8(commonStatus, v) }

func (d *pciDevice) features() uint64 {
	d.common.Store32(commonDeviceSelect, 0)
	low := d.common.Load32(commonDeviceFeature)
	d.common.Store32(commonDeviceSelect, 1)
	return uint64(low) | uint64(d.common.Load32(commonDeviceFeature))<<32
}

func (d *pciDevice) setFeatures(v uint64) {
	d.common.Store32(commonDriverSelect, 0)
	d.common.Store32(commonDriverFeature, uint32(v))
	d.common.Store32(commonDriverSelect, 1)
	d.common.Store32(commonDriverFeature, uint32(v>>32))
}

func (d *pciDevice) queueSize(i int) int {
	d.common.Store16(commonQueueSelect, uint16(i))
	return int(d.common.Load16(commonQueueSize))
}

func (d *pciDevice) interrupts(n int) (list []kvm.Interrupt, err error) {
	list, d.byMessage, err = d.function.Interrupts(n)
	return list, err
}

func (d *pciDevice) setConfigInterrupt(n int) error {
	if !d.byMessage {
		return nil
	}
	d.common.Store16(commonConfigVector, uint16(n))
	if d.common.Load16(commonConfigVector) != uint16(n) {
		return fmt.Errorf("it has no interrupt for changes of its configuration")
	}
	return nil
}

func (d *pciDevice) enable(i int, r *ring, n int) error {
	c := d.common
	c.Store16(commonQueueSelect, uint16(i))
	c.Store16(commonQueueSize, uint16(r.size))
	vector := uint16(noVector)
	if d.byMessage {
		vector = uint16(n)
	}
	c.Store16(commonQueueVector, vector)
	if c.Load16(commonQueueVector) != vector {
		return fmt.Errorf("it has no interrupt for queue %d", i)
	}
	at := uint64(c.Load16(commonQueueNotify)) * uint64(d.multiplier)
	if at+2 > uint64(d.noticeSize) {
		return fmt.Errorf("the notification of queue %d lies at %#x, outside of its registers", i, at)
	}
	for len(d.noticeAt) <= i {
		d.noticeAt = append(d.noticeAt, 0)
	}
	d.noticeAt[i] = uint32(at)
	store64 := func(off uint32, v uint64) {
		c.Store32(off, uint32(v))
		c.Store32(off+4, uint32(v>>32))
	}
	store64(commonQueueTable, r.pa)
	store64(commonQueueDriver, r.pa+uint64(r.available))
	store64(commonQueueDevice, r.pa+uint64(r.used))
	c.Store16(commonQueueEnable, 1)
	return nil
}

func (d *pciDevice) notify(i int) { d.notices.Store16(d.noticeAt[i], uint16(i)) }

// acknowledge reads the ISR, which lowers the line; messages need nothing.
func (d *pciDevice) acknowledge() (config bool) {
	return d.byMessage || d.isr.Load8(0)&isrConfig != 0
}

func (d *pciDevice) configLen() int                { return d.configSize }
func (d *pciDevice) config8(off int) uint8         { return d.config.Load8(uint32(off)) }
func (d *pciDevice) setConfig32(off int, v uint32) { d.config.Store32(uint32(off), v) }
func (d *pciDevice) generation() uint32            { return uint32(d.common.Load8(commonGeneration)) }
