//go:build elver

package main

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"elver/cmd/kernel/profile"
	"elver/kernel/klog"
	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
)

// heapRate is how many bytes of the heap give a sample of its profile: the kernel's is small.
const heapRate = 16 << 10

// profiler takes the kernel's profiles: elver.profile. The profiles are empty unless it was started.
type profiler struct {
	started int64 // metal.Nanotime
}

func (p *profiler) start() {
	runtime.MemProfileRate = heapRate
	metal.StartProfile()
	p.started = metal.Nanotime()
}

func (p *profiler) cpu() string {
	return string(profile.CPU(metal.Profile(), time.Duration(metal.Nanotime()-p.started)))
}

func (p *profiler) heap() string {
	runtime.GC()
	return string(profile.Heap())
}

// write writes the profiles to prefix.cpu.pprof and prefix.heap.pprof in the program's file system.
func (p *profiler) write(c *vfs.Context, prefix string) {
	for _, f := range []struct{ name, content string }{{prefix + ".cpu.pprof", p.cpu()}, {prefix + ".heap.pprof", p.heap()}} {
		file, err := c.OpenFile(vfs.AtCWD, f.name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
		if err != nil {
			klog.Warnf("elver.profile: %s: %v", f.name, err)
			continue
		}
		b := mm.KernelBuffer([]byte(f.content))
		if _, err := file.File().Write(c, &b, 0); err != nil {
			klog.Warnf("elver.profile: %s: %v", f.name, err)
		}
		file.Decref()
	}
}
