package kvm

import (
	"errors"
	"math/bits"
	"time"
)

// KVM's paravirtual interface (Linux, Documentation/virt/kvm/x86/cpuid.rst and msr.rst).
const (
	hypervisorPresent = 1 << 31 // CPUID.01H:ECX

	kvmSignatureLeaf  = 0x40000000
	kvmLastLeaf       = 0x40001000 // further on when the machine shows Hyper-V's interface too
	kvmLeafStep       = 0x100
	kvmFeaturesOffset = 1

	kvmFeatureClock       = 1 << 0
	kvmFeatureClock2      = 1 << 3
	kvmFeatureClockStable = 1 << 24

	msrWallClock    = 0x4b564d00
	msrSystemTime   = 0x4b564d01
	msrWallClockOld = 0x11 // with kvmFeatureClock alone
	msrSystemOld    = 0x12

	systemTimeEnable = 1 << 0
)

// kvmFeatures returns KVM's feature bits, 0 under any other hypervisor or none.
func kvmFeatures(cpu processor) uint32 {
	if _, _, ecx, _ := cpu.CPUID(1, 0); ecx&hypervisorPresent == 0 {
		return 0
	}
	for leaf := uint32(kvmSignatureLeaf); leaf <= kvmLastLeaf; leaf += kvmLeafStep {
		_, ebx, ecx, edx := cpu.CPUID(leaf, 0)
		// "KVMKVMKVM\0\0\0", by fours.
		if ebx == 0x4b4d564b && ecx == 0x564b4d56 && edx == 0x4d {
			features, _, _, _ := cpu.CPUID(leaf+kvmFeaturesOffset, 0)
			return features
		}
	}
	return 0
}

// emulated says that QEMU emulates the CPU (its TCG says so by name).
func emulated(cpu processor) bool {
	if _, _, ecx, _ := cpu.CPUID(1, 0); ecx&hypervisorPresent == 0 {
		return false
	}
	_, ebx, ecx, edx := cpu.CPUID(kvmSignatureLeaf, 0)
	return ebx == 0x54474354 && ecx == 0x43544743 && edx == 0x47435447 // "TCGTCGTCGTCG", by fours
}

// KVMClock is the clock that KVM keeps for the machine in a page of its memory.
type KVMClock struct {
	cpu       processor
	page      []byte
	pa        uint64
	wallMSR   uint32
	stableTSC bool
}

const (
	timeInfoBytes  = 32
	wallClockAt    = 64 // our own choice of a place in the page
	wallClockBytes = 12
)

// startKVMClock asks KVM for its clock, or returns nil if there is none.
func startKVMClock(hw hardware) *KVMClock {
	features := kvmFeatures(hw)
	wall, system := uint32(msrWallClock), uint32(msrSystemTime)
	switch {
	case features&kvmFeatureClock2 != 0:
	case features&kvmFeatureClock != 0:
		wall, system = msrWallClockOld, msrSystemOld
	default:
		return nil
	}
	pa, page, ok := hw.AllocPage()
	if !ok {
		return nil
	}
	c := &KVMClock{cpu: hw, page: page, pa: pa, wallMSR: wall, stableTSC: features&kvmFeatureClockStable != 0}
	hw.WriteMSR(system, pa|systemTimeEnable)
	if t, ok := c.timeInfo(); !ok || t.multiplier == 0 {
		hw.WriteMSR(system, 0)
		return nil
	}
	return c
}

// timeInfo is KVM's struct pvclock_vcpu_time_info.
type timeInfo struct {
	tsc        uint64 // the TSC when systemNS was taken
	systemNS   uint64
	multiplier uint32 // with shift: from TSC ticks to nanoseconds, see nanoseconds
	shift      int8
	flags      uint8
}

var errClockBusy = errors.New("platform: KVM never finishes an update of its clock")

// readVersioned copies n bytes of the page at offset at, which KVM changes at will: its first word
// is odd during a change and another one after it.
func (c *KVMClock) readVersioned(at, n int) ([timeInfoBytes]byte, bool) {
	var out [timeInfoBytes]byte
	p := c.page[at : at+n]
	for range 1 << 16 {
		before := le.Uint32(p)
		copy(out[:], p) // a store: the compiler can't take the second load of the version for the first
		if after := le.Uint32(p); before == after && before&1 == 0 {
			return out, true
		}
	}
	return out, false
}

func (c *KVMClock) timeInfo() (timeInfo, bool) {
	p, ok := c.readVersioned(0, timeInfoBytes)
	return parseTimeInfo(p[:]), ok
}

func parseTimeInfo(p []byte) timeInfo {
	return timeInfo{
		tsc:        le.Uint64(p[8:]),
		systemNS:   le.Uint64(p[16:]),
		multiplier: le.Uint32(p[24:]),
		shift:      int8(p[28]),
		flags:      p[29],
	}
}

// nanoseconds converts TSC ticks: shift first, then multiply by a fraction of 2^32.
func (t timeInfo) nanoseconds(ticks uint64) uint64 {
	if t.shift >= 0 {
		ticks <<= uint(t.shift)
	} else {
		ticks >>= uint(-int(t.shift))
	}
	hi, lo := bits.Mul64(ticks, uint64(t.multiplier))
	return hi<<32 | lo>>32
}

// frequency is how many TSC ticks make a second, rounded; 0 if the scale makes no sense.
func (t timeInfo) frequency() uint64 {
	if t.multiplier == 0 {
		return 0
	}
	const scaled = uint64(time.Second) << 32
	m := uint64(t.multiplier)
	if t.shift > 32 || t.shift < -32 {
		return 0
	}
	if t.shift >= 0 {
		return (scaled/m + 1<<uint(t.shift)>>1) >> uint(t.shift)
	}
	// Divide late, for the sake of the low bits.
	hi, lo := bits.Mul64(scaled, 1<<uint(-int(t.shift)))
	if hi >= m {
		return 0
	}
	q, r := bits.Div64(hi, lo, m)
	if r >= m-r {
		q++
	}
	return q
}

// TSCFrequency returns how many TSC ticks a second has, as KVM says.
func (c *KVMClock) TSCFrequency() (hz uint64, ok bool) {
	t, ok := c.timeInfo()
	hz = t.frequency()
	return hz, ok && hz != 0
}

// StableTSC reports whether KVM promises that the TSC runs alike on all CPUs and does not change its
// frequency.
func (c *KVMClock) StableTSC() bool { return c.stableTSC }

// now returns the time: KVM's wall clock is the time at which its system time was 0.
func (c *KVMClock) now() (time.Time, error) {
	c.cpu.WriteMSR(c.wallMSR, c.pa+wallClockAt)
	wall, ok := c.readVersioned(wallClockAt, wallClockBytes)
	if !ok {
		return time.Time{}, errClockBusy
	}
	t, ok := c.timeInfo()
	if !ok {
		return time.Time{}, errClockBusy
	}
	seconds, ns := le.Uint32(wall[4:]), le.Uint32(wall[8:])
	since := t.systemNS
	if tsc := c.cpu.TSC(); tsc > t.tsc {
		since += t.nanoseconds(tsc - t.tsc)
	}
	if seconds == 0 {
		return time.Time{}, errors.New("platform: KVM doesn't tell the date")
	}
	return time.Unix(int64(seconds), int64(ns)).Add(time.Duration(since)).UTC(), nil
}
