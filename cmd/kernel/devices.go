//go:build elver

package main

import (
	"time"

	"elver/boot"
	"elver/kernel/klog"
	"elver/kernel/mm"
	"elver/kernel/random"
	"elver/platform/kvm"
	"elver/platform/kvm/virtio"
	"elver/platform/kvm/virtio/balloon"
	hostconsole "elver/platform/kvm/virtio/console"
	"elver/platform/kvm/virtio/entropy"
)

// devices are the machine's virtio devices.
type devices struct {
	all     []*virtio.Device // of all types
	entropy *entropy.Source  // nil: there is none
}

const (
	// logWait is how long the machine waits for a console of virtio's to say that it is one.
	logWait = 10 * time.Second
	// seedWait is how long it waits for the first random bytes of the host's if the CPU has none.
	seedWait = 10 * time.Second
	// reseedWait is how long the host may take for later ones.
	reseedWait = time.Minute
	seedBytes  = 64
)

// openDevices finds the virtio devices, and starts those that belong to no folder of the file tree and to no
// network: random numbers, the log's console, the balloon.
func openDevices(machine *kvm.Machine, params *boot.Params) *devices {
	list, errs := virtio.Probe(machine, params.VirtioMMIO)
	for _, err := range errs {
		klog.Warnf("%v", err)
	}
	d := &devices{all: list}
	logs := false
	for _, v := range list {
		var err error
		switch v.Type {
		case virtio.Entropy:
			if d.entropy != nil || !v.Claim() {
				continue
			}
			if d.entropy, err = entropy.Open(v); err == nil {
				d.seed()
			}
		case virtio.Console:
			if logs || machine.HasLogChannel() || !v.Claim() {
				continue // one channel is enough, and the machine's own needs no driver
			}
			var c *hostconsole.Console
			if c, err = hostconsole.Open(v); err == nil && c.Usable(logWait) {
				machine.SetLog(c)
				logs = true
			}
		case virtio.Balloon:
			if !v.Claim() {
				continue
			}
			var b *balloon.Balloon
			if b, err = balloon.Open(v, balloon.Config{Reclaim: mm.ReclaimCaches}); err == nil {
				mm.RegisterLastResort(b.Deflate)
			}
		}
		if err != nil {
			klog.Warnf("%v", err)
		}
	}
	return d
}

// seed stirs the host's random bytes into the machine's, now and each time that some were used for a while. A
// CPU that has random numbers of its own doesn't wait for the first ones.
func (d *devices) seed() {
	stir := func(patience time.Duration) {
		var seed [seedBytes]byte
		if err := d.entropy.Fill(seed[:], patience); err != nil {
			klog.Warnf("random numbers: %v", err)
			return
		}
		random.Stir(seed[:])
	}
	random.OnStale(func() { stir(reseedWait) })
	if random.Hardware() {
		go stir(reseedWait)
	} else {
		stir(seedWait)
	}
}
