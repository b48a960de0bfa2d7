package kernel

import "sync/atomic"

// counters are what the threads of all processes did, those that ended included.
type counters struct {
	syscalls    atomic.Int64 // sixteen for each that was measured
	faults      atomic.Int64
	preemptions atomic.Int64
}

// Counters says what the machine did since it started.
type Counters struct {
	// Syscalls counts system calls, those excepted that their entry answers. It may be too high by
	// fifteen for each living thread.
	Syscalls    int64
	Faults      int64 // page faults
	Preemptions int64 // of programs, by a timer or a device
	Threads     int   // living ones
}

// Counters returns the counters.
func (k *Kernel) Counters() Counters {
	k.tree.Lock()
	threads := k.tasks
	k.tree.Unlock()
	return Counters{
		Syscalls: k.counters.syscalls.Load(), Faults: k.counters.faults.Load(),
		Preemptions: k.counters.preemptions.Load(), Threads: threads,
	}
}
