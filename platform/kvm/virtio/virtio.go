// Package virtio drives virtio devices (Virtual I/O Device version 1.2): it finds them on PCI and in
// memory, negotiates features, and moves buffers through split virtqueues.
//
// A driver takes a Device from Probe and calls, in this order, Start with the features that it knows,
// NewQueue for each of its queues, and Run. From then on requests go through the queues; see Queue.
//
// The device is trusted with nothing: what it writes is checked, and a device that breaks the rules is
// reset and fails all that it was asked, which costs its driver's users an error and nobody else
// anything.
//
// Lock order: Device.mu, then Queue.mu.
package virtio

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"elver/platform/kvm"
)

// Type says what a device is (virtio 1.2, 5).
type Type uint32

// The types of devices.
const (
	Net      Type = 1
	Block    Type = 2
	Console  Type = 3
	Entropy  Type = 4
	Balloon  Type = 5
	NineP    Type = 9
	Vsock    Type = 19
	FS       Type = 26
	maxTypes Type = 64
)

// Features that belong to no type (virtio 1.2, 6).
const (
	FeatureIndirect  = 1 << 28
	FeatureEventIdx  = 1 << 29
	FeatureVersion1  = 1 << 32
	FeatureAccess    = 1 << 33 // the device translates addresses; Elver has no IOMMU to ask for them
	FeatureRingReset = 1 << 40
)

// Bits of the device status (2.1).
const (
	statusAcknowledge = 1 << 0
	statusDriver      = 1 << 1
	statusDriverOK    = 1 << 2
	statusFeaturesOK  = 1 << 3
	statusNeedsReset  = 1 << 6
	statusFailed      = 1 << 7
)

// ErrBroken is the error of requests to a device that broke the rules, or that was reset.
var ErrBroken = errors.New("virtio: the device does not work any more")

// transport is how a device is reached: PCI or registers in memory.
type transport interface {
	String() string
	status() uint8
	setStatus(v uint8)
	features() uint64
	setFeatures(v uint64)
	// legacy says that the device follows the draft before virtio 1.0.
	legacy() bool
	// queueSize returns how many descriptors queue i may have; 0 if there is no such queue.
	queueSize(i int) int
	// enable tells the device where queue i is, and asks for its interrupts by number n of
	// interrupts' list.
	enable(i int, r *ring, n int) error
	notify(i int)
	// interrupts returns what the device can have, at most n.
	interrupts(n int) ([]kvm.Interrupt, error)
	// acknowledge ends the interrupt that came, and says whether the configuration may have changed; a
	// message may always be about that.
	acknowledge() (config bool)
	// setConfigInterrupt asks for interrupt number n of interrupts' list when the configuration changes.
	setConfigInterrupt(n int) error
	configLen() int
	config8(off int) uint8
	setConfig32(off int, v uint32)
	generation() uint32
}

// Device is a virtio device.
type Device struct {
	Type     Type
	t        transport
	features uint64
	ordered  bool // memory barriers are kept: see kvm.Machine.KeepsOrder
	broken   atomic.Bool
	claimed  atomic.Bool

	mu         sync.Mutex // guards what follows, and is held while the device is reset
	queues     []*Queue
	interrupts []kvm.Interrupt // once it ran
	onConfig   func()
}

// String says which device it is, for reports.
func (d *Device) String() string { return fmt.Sprintf("virtio device of type %d at %v", d.Type, d.t) }

// Bus returns which function of PCI the device is, as Linux writes it: "0000:00:03.0"; "" for one that isn't on PCI.
func (d *Device) Bus() string {
	place, on := strings.CutPrefix(d.t.String(), "pci ")
	if !on {
		return ""
	}
	return place
}

// Claim reserves the device for a driver, and returns false if it has one.
func (d *Device) Claim() bool { return d.claimed.CompareAndSwap(false, true) }

// Unclaim undoes Claim.
func (d *Device) Unclaim() { d.claimed.Store(false) }

// Start resets the device and negotiates: the result is what of want the device has. Version 1 is
// negotiated by itself; FeatureEventIdx is not where the hypervisor loses wake-ups with it.
func (d *Device) Start(want uint64) (features uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.reset(); err != nil {
		return 0, err
	}
	d.queues = nil
	d.broken.Store(false)
	d.t.setStatus(statusAcknowledge)
	d.t.setStatus(statusAcknowledge | statusDriver)
	offered := d.t.features()
	if !d.t.legacy() {
		if offered&FeatureVersion1 == 0 {
			return 0, d.refuse("it is older than virtio 1.0")
		}
		want |= FeatureVersion1
	} else {
		want &= 1<<32 - 1
	}
	if !d.ordered {
		want &^= FeatureEventIdx
	}
	d.features = offered & want
	d.t.setFeatures(d.features)
	if d.t.legacy() {
		return d.features, nil
	}
	d.t.setStatus(statusAcknowledge | statusDriver | statusFeaturesOK)
	if d.t.status()&statusFeaturesOK == 0 {
		return 0, d.refuse(fmt.Sprintf("it doesn't work with the features %#x, of the %#x that it offers", d.features, offered))
	}
	return d.features, nil
}

func (d *Device) refuse(why string) error {
	d.t.setStatus(statusFailed)
	return fmt.Errorf("%v: %s", d, why)
}

// Features returns what was negotiated.
func (d *Device) Features() uint64 { return d.features }

// Legacy says that the device follows the draft before virtio 1.0, of which some devices have other
// structures.
func (d *Device) Legacy() bool { return d.t.legacy() }

// OnConfigChange has f called, on a goroutine of the device's, when its configuration has changed, and at
// times when it hasn't.
//
// Precondition: Start; Run was not called yet.
func (d *Device) OnConfigChange(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onConfig = f
}

// Run tells the device that its driver is ready, and starts to serve its interrupts.
//
// Precondition: Start and NewQueue for each queue, in their order.
func (d *Device) Run() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	want := len(d.queues)
	if d.onConfig != nil {
		want++
	}
	if d.interrupts == nil {
		list, err := d.t.interrupts(want)
		if err != nil {
			return d.refuse(err.Error())
		}
		d.interrupts = list
		for n, interrupt := range list {
			go d.serve(interrupt, n)
		}
	}
	if d.onConfig != nil {
		if err := d.t.setConfigInterrupt((want - 1) % len(d.interrupts)); err != nil {
			return d.refuse(err.Error())
		}
	}
	for i, q := range d.queues {
		if err := d.t.enable(q.index, q.ring, i%len(d.interrupts)); err != nil {
			return d.refuse(err.Error())
		}
	}
	d.t.setStatus(d.t.status() | statusDriverOK)
	return nil
}

// serve handles the completions of the queues that interrupt number n is for, for ever.
func (d *Device) serve(interrupt kvm.Interrupt, n int) {
	for {
		interrupt.Wait()
		changed := d.t.acknowledge()
		d.mu.Lock()
		queues, lines, onConfig := d.queues, len(d.interrupts), d.onConfig
		d.mu.Unlock()
		for i, q := range queues {
			if i%lines == n {
				q.Poll()
			}
		}
		if changed && onConfig != nil && len(queues)%lines == n {
			onConfig()
		}
		interrupt.Done()
	}
}

// reset stops the device: when it returns without an error, the device touches memory no more.
//
// Precondition: mu is held.
func (d *Device) reset() error {
	d.t.setStatus(0)
	// A device may take its time (4.1.4.3.1); QEMU's are done at once.
	for nap := time.Microsecond; d.t.status() != 0; nap *= 2 {
		if nap > time.Second/2 {
			return fmt.Errorf("%v: it doesn't answer a reset", d)
		}
		time.Sleep(nap)
	}
	return nil
}

// Stop resets the device; all its requests fail with an error that says why and wraps ErrBroken.
func (d *Device) Stop(why string) { d.fail(why) }

// fail resets the device because of what it did. What it was asked fails with ErrBroken and the reason.
func (d *Device) fail(why string) {
	if !d.broken.CompareAndSwap(false, true) {
		return
	}
	d.mu.Lock()
	err := d.reset()
	queues := d.queues
	d.mu.Unlock()
	for _, q := range queues {
		q.abort(err == nil, fmt.Errorf("%v: %s: %w", d, why, ErrBroken))
	}
}

// SetConfig32 writes a word of the configuration, little-endian, at off: an error if it hasn't that much.
func (d *Device) SetConfig32(off int, v uint32) error {
	if n := d.t.configLen(); off < 0 || off+4 > n {
		return fmt.Errorf("%v: its configuration has %d bytes, %d are needed", d, n, off+4)
	}
	d.t.setConfig32(off, v)
	return nil
}

// Config copies the device's configuration from off into p: an error if it hasn't that much.
func (d *Device) Config(off int, p []byte) error {
	if n := d.t.configLen(); off < 0 || off+len(p) > n {
		return fmt.Errorf("%v: its configuration has %d bytes, %d are needed", d, n, off+len(p))
	}
	// The generation changes with the configuration (2.5.2): read until it stood still.
	for range 1000 {
		before := d.t.generation()
		for i := range p {
			p[i] = d.t.config8(off + i)
		}
		if d.t.generation() == before {
			return nil
		}
	}
	return fmt.Errorf("%v: its configuration never stands still", d)
}
