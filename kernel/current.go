package kernel

import (
	"sync"

	"elver/runtime/metal"
)

// running finds a thread by the goroutine that it is, for waits that are reached by ways that know of no
// thread: a fault in a copy that wants a page of a server, for example.
var running struct {
	mu      sync.Mutex
	threads [256]*Thread // lists, linked by Thread.nextRunning
}

// A descriptor of a goroutine has some 500 bytes.
func runningBucket(goroutine uintptr) **Thread {
	return &running.threads[goroutine>>9%uintptr(len(running.threads))]
}

// enterRunning notes that the calling goroutine is t.
func (t *Thread) enterRunning() {
	t.goroutine = metal.Goroutine()
	b := runningBucket(t.goroutine)
	running.mu.Lock()
	t.nextRunning, *b = *b, t
	running.mu.Unlock()
}

func (t *Thread) leaveRunning() {
	running.mu.Lock()
	defer running.mu.Unlock()
	for b := runningBucket(t.goroutine); *b != nil; b = &(*b).nextRunning {
		if *b == t {
			*b, t.nextRunning = t.nextRunning, nil
			return
		}
	}
}

// Current returns the thread that the calling goroutine is, or nil: the kernel has goroutines of its own.
func Current() *Thread {
	g := metal.Goroutine()
	running.mu.Lock()
	defer running.mu.Unlock()
	t := *runningBucket(g)
	for t != nil && t.goroutine != g {
		t = t.nextRunning
	}
	return t
}
