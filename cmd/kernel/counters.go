//go:build elver

package main

import (
	"fmt"
	"runtime"
	"strings"

	"elver/kernel"
	"elver/net/inet"
	"elver/runtime/metal"
	"elver/vfs/ninep"
)

// counters is /proc/elver/counters: a line for each counter, its name and its value. What counts
// memory is in bytes.
func counters(k *kernel.Kernel, network *inet.Network, shares *ninep.Shares) string {
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	frames := metal.Frames()
	did := k.Counters()
	received, sent := network.Packets()
	fids, kept := shares.Fids()
	bytes := func(frames uint64) uint64 { return frames * metal.FrameSize }
	var b strings.Builder
	for _, c := range []struct {
		name  string
		value any
	}{
		{"uptime_ns", metal.Nanotime()},
		{"syscalls", did.Syscalls}, {"page_faults", did.Faults}, {"preemptions", did.Preemptions}, {"threads", did.Threads},
		{"goroutines", runtime.NumGoroutine()},
		{"memory_total", bytes(frames.Total)}, {"memory_free", bytes(frames.Free)}, {"memory_free_least", bytes(frames.Least)},
		{"memory_reserve", bytes(frames.Reserve)},
		{"memory_program", bytes(frames.ByOwner[metal.OwnerProgram])}, {"memory_page_cache", bytes(frames.ByOwner[metal.OwnerPageCache])},
		{"memory_page_tables", bytes(frames.ByOwner[metal.OwnerPageTable])}, {"memory_kernel_heap", bytes(frames.ByOwner[metal.OwnerGoHeap])},
		{"memory_kernel_other", bytes(frames.ByOwner[metal.OwnerKernel])}, {"memory_balloon", bytes(frames.ByOwner[metal.OwnerBalloon])},
		{"heap_live", heap.HeapAlloc}, {"heap_allocated", heap.TotalAlloc}, {"heap_objects", heap.HeapObjects},
		{"gc_cycles", heap.NumGC}, {"gc_pause_ns", heap.PauseTotalNs},
		{"packets_received", received}, {"packets_sent", sent},
		{"9p_requests", ninep.Requests()}, {"9p_requests_waiting", shares.Waiting()}, {"9p_fids_used", fids - kept}, {"9p_fids_kept", kept},
	} {
		fmt.Fprintf(&b, "%s %v\n", c.name, c.value)
	}
	return b.String()
}

// idle is /proc/elver/idle: for how many nanoseconds the CPU was halted. Unlike counters it costs next to nothing.
func idle() string { return fmt.Sprintln(metal.IdleTime()) }

// mostStacks bounds what goroutines shows, in bytes.
const mostStacks = 1 << 20

// goroutines is /proc/elver/goroutines: what each goroutine of the kernel's is doing.
func goroutines() string {
	for size := 16 << 10; ; size *= 4 {
		p := make([]byte, size)
		n := runtime.Stack(p, true)
		if n < size || size >= mostStacks {
			return string(p[:n]) + "\n"
		}
	}
}
