//go:build elver

// The image's main: it wires the packages together, runs the program, and powers the machine off
// with its status.
package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/boot"
	"elver/cmd/kernel/failure"
	"elver/elf"
	"elver/kernel"
	"elver/kernel/klog"
	"elver/kernel/random"
	"elver/net"
	"elver/net/unixsocket"
	"elver/platform/kvm"
	"elver/runtime/metal"
	"elver/syscall"
	"elver/vdso"
	"elver/vfs/ninep"
	"elver/vfs/procfs"
	"elver/vfs/tree"
)

func main() {
	runtime.MemProfileRate = 0 // unless elver.profile asks
	amd64.Init()
	failure.Report()
	limitHeap()
	magic, at, entryTSC := metal.BootInfo()
	info, err := boot.Parse(magic, at, view)
	if err == nil {
		err = info.AddBundle(metal.ImageStart(), view)
	}
	if err != nil {
		info = &boot.Info{}
	}
	machine, initErr := kvm.Init(kvm.Facts{RSDP: info.RSDP, MemoryMap: info.MemoryMap})
	klog.SetOutput(machine.LogWriter())
	status := elf.StatusFailed
	if err = errors.Join(err, initErr); err == nil {
		status, err = run(machine, info, entryTSC)
	}
	if err != nil {
		fmt.Fprintf(machine.LogWriter(), "elver: %v\n", err)
	}
	machine.PowerOff(uint8(status))
}

// view shows physical memory to the parser of the boot information.
func view(pa uint64, n int) ([]byte, bool) {
	if !metal.Viewable(pa, n) {
		return nil, false
	}
	return metal.View(pa, n), true
}

// leastHeap is how much memory the Go runtime may always take, in bytes.
const leastHeap = 6 << 20

// heapShare says how much of a large machine's memory the heap has before the collector first looks at it: one part in
// heapShare. A collection costs about the same whatever has been allocated since the last.
const heapShare = 32

// limitHeap keeps the Go heap small beside the program: the smaller the machine, the harder the
// collector works.
func limitHeap() {
	total := metal.Frames().Total * metal.FrameSize
	switch {
	case total < 32<<20:
		debug.SetGCPercent(25)
	case total < 128<<20:
		debug.SetGCPercent(50)
	default:
		metal.SetLeastHeap(total / heapShare)
	}
	// The limit counts what the runtime needs for itself too: below leastHeap it would do nothing but collect.
	debug.SetMemoryLimit(int64(max(total/2, leastHeap)))
	debug.SetMaxStack(1 << 20) // nothing in the kernel recurses deeply
}

// run runs the program and returns the machine's exit status: the program's, or one that goes with
// the error.
func run(machine *kvm.Machine, info *boot.Info, entryTSC uint64) (status int, err error) {
	program := programName(info)
	params, err := boot.ParseBundledLine(info.BundledLine, info.CommandLine, program)
	if err != nil {
		return elf.StatusFailed, err
	}
	if params.Log != "" {
		level, err := klog.Parse(params.Log)
		if err != nil {
			return elf.StatusFailed, err
		}
		klog.SetLevel(level)
	}
	if len(params.Ignored) > 0 {
		klog.Infof("words of the command line that have no meaning here: %s", strings.Join(params.Ignored, " "))
	}
	v, err := vdso.New()
	if err != nil {
		return elf.StatusFailed, fmt.Errorf("the vDSO: %w", err)
	}
	startClock(machine, v)
	syscall.VDSO = v
	if n := machine.CPUCount(); n > 1 {
		klog.Infof("the machine has %d CPUs; one is used", n)
	}
	net.Register(unix.AF_UNIX, unixsocket.Family{})
	network := registerFamilies()
	if err := watch(params, machine.LogWriter()); err != nil {
		return elf.StatusFailed, err
	}
	var profiling profiler
	if params.Profile != "" {
		profiling.start()
	}
	k := kernel.New(kernel.Config{
		Profiled: params.Profile != "",
		Syscall:  syscall.Dispatch, Signaled: syscall.TraceSignal, Exited: syscall.TraceExit, Core: syscall.DumpCore,
		Report: machine.LogWriter(), Symbol: elf.Symbol,
	})
	terminal := newConsole(machine, k, params)
	devices := openDevices(machine, params)
	var shares *ninep.Shares // with the root
	root, err := newRoot(machine, devices, info, params, program, terminal.Console, tree.Config{
		Kernel: k, Random: random.Fill, CommandLine: info.CommandLine,
		CPUInfo: func() string { return amd64.CPUInfo(amd64.CPUID, metal.TSCFrequency()) },
		Elver:   map[string]func() string{"counters": func() string { return counters(k, network, shares) }, "goroutines": goroutines, "idle": idle, "cpu.pprof": profiling.cpu, "heap.pprof": profiling.heap},
		Net:     procNet(network), NetFolders: network.ProcFolders(), NetSettings: netSettings(network), SysDevices: func() []procfs.Entry { return sysDevices(network) },
		DropNames: func() { shares.DropFids() },
	})
	if err != nil {
		return elf.StatusFailed, err
	}
	shares = root.shares
	if params.Hostname != "" {
		k.SetHostname(params.Hostname)
		provide(root.c, "/etc/hostname", params.Hostname+"\n")
	}
	startNetwork(network, devices.all, params, root.c, k)
	thread, err := root.start(k, params)
	if err != nil {
		var refused *elf.Error
		if errors.As(err, &refused) {
			return refused.Status, err
		}
		return elf.StatusFailed, err
	}
	terminal.adopt(thread)
	if err := machine.OnPowerButton(func() { shutDown(k, thread.Proc, kernel.Signal(params.StopSignal)) }); err != nil {
		klog.Infof("power button: %v", err)
	}
	klog.Infof("entry tsc=%d frequency=%d; the program starts %d ticks later", entryTSC, metal.TSCFrequency(), metal.TSC()-entryTSC)
	firstInstruction := metal.TSC() - entryTSC
	thread.Start()
	ended := k.Wait()
	within(10*time.Second, "the other processes don't end", k.Stop)
	if params.Profile != "" {
		profiling.write(root.c, params.Profile)
	}
	within(10*time.Second, "the 9p server doesn't take what was written", root.shares.Sync)
	network.Drain(lastWords)
	if params.Summary {
		syscall.WriteSummary(machine.LogWriter())
		writeMachineSummary(machine.LogWriter(), firstInstruction)
	}
	return ended.Code(), nil
}

// watch has system calls traced and counted if the parameters ask for it.
func watch(params *boot.Params, log io.Writer) error {
	if params.Strace {
		var calls *syscall.Selection
		if params.StraceSet != "" {
			var err error
			if calls, err = syscall.ParseSelection(params.StraceSet); err != nil {
				return err
			}
		}
		syscall.Trace(log, calls, params.Timestamps)
	}
	if params.Summary {
		syscall.Count()
	}
	if !params.Strace && !params.Summary {
		syscall.AnswerAtEntry()
	}
	return nil
}

// writeMachineSummary writes what the run took of the machine. firstInstruction is how many ticks of
// the TSC the kernel took until the program's first instruction.
func writeMachineSummary(w io.Writer, firstInstruction uint64) {
	size := metal.MachineSize()
	fmt.Fprintf(w, "peak memory: %.1f MB of %d MB, the kernel's own included\ntime to the first instruction: %.3f ms\n",
		float64(size-metal.Frames().Least*metal.FrameSize)/(1<<20), size>>20,
		float64(firstInstruction)*1e3/float64(metal.TSCFrequency()))
}

// lastWords is how long the machine stays on for what the program has sent.
const lastWords = 5 * time.Second

// within runs f, and goes on without it after a while: a dead server must not keep the machine up.
func within(patience time.Duration, complaint string, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		klog.Warnf("%s within %v", complaint, patience)
	}
}

// shutDown ends the program as init does: SIGTERM to all, or the signal that stops the program, which
// is for it alone; and SIGKILL to what is left after ten seconds. An init of the kernel's own would pass the
// signal on once more.
func shutDown(k *kernel.Kernel, program *kernel.Process, stop kernel.Signal) {
	if stop != 0 {
		program.Kill(stop, kernel.KernelInfo(stop))
	} else {
		killAll(k, kernel.Signal(unix.SIGTERM))
	}
	time.AfterFunc(10*time.Second, func() { killAll(k, kernel.Signal(unix.SIGKILL)) })
}

func killAll(k *kernel.Kernel, sig kernel.Signal) {
	own := k.Init()
	for _, p := range k.Processes() {
		if p == own {
			continue
		}
		p.Kill(sig, kernel.KernelInfo(sig))
	}
}
