//go:build elver

package main

import (
	"time"

	"elver/kernel"
	"elver/kernel/klog"
	"elver/platform/kvm"
	"elver/runtime/metal"
	"elver/vdso"
)

// startClock sets the wall clock, and the TSC's frequency where the hypervisor tells it, and lets
// programs read the time through v.
func startClock(machine *kvm.Machine, v *vdso.VDSO) {
	if clock := machine.KVMClock(); clock != nil {
		if hz, ok := clock.TSCFrequency(); ok {
			metal.SetTSCFrequency(hz)
		}
	}
	if now, err := machine.WallClock(); err == nil {
		late := int64(0)
		if now.Nanosecond() == 0 {
			// The real-time clock's seconds, and what it took a busy host to answer.
			late = int64(1500 * time.Millisecond)
		}
		kernel.SetRealtimeAtLeast(now.UnixNano(), late)
	} else {
		klog.Warnf("the machine tells no date: the clock starts at 1970: %v", err)
	}
	kernel.OnSetRealtime = func() { publishClock(v) }
	publishClock(v)
	if !metal.RefineClock() {
		go func() {
			for !metal.RefineClock() {
				time.Sleep(35 * time.Millisecond)
			}
			publishClock(v)
		}()
	}
}

// publishClock has programs compute the time as the kernel does. No program runs meanwhile.
func publishClock(v *vdso.VDSO) {
	tsc, scale, ns := metal.Clock()
	v.Update(vdso.Params{TSC: tsc, Mult: scale, Shift: 32, MonotonicNS: uint64(ns), RealtimeOffsetNS: kernel.WallOffset(), CPUs: 1})
}
