// Gobasics checks what Go's runtime asks of a kernel: goroutines on several
// threads, timers, signals, preemption, the collector. It prints as the C
// programs do.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"elver/test/programs/check"
)

func main() {
	check.Main(
		check.Test{Name: "goroutines", Run: goroutines},
		check.Test{Name: "channels", Run: channels},
		check.Test{Name: "ticker", Run: ticker},
		check.Test{Name: "busy-loop-beside-a-ticker", Run: busyLoop},
		check.Test{Name: "signals", Run: signals},
		check.Test{Name: "collector", Run: collector},
		check.Test{Name: "nil-dereference", Run: nilDereference},
		check.Test{Name: "mutexes", Run: mutexes},
		check.Test{Name: "blocking-calls", Run: blockingCalls},
		check.Test{Name: "stack-growth", Run: stackGrowth},
		check.Test{Name: "files", Run: files},
		check.Test{Name: "time", Run: clock},
	)
}

func goroutines() error {
	var sum atomic.Int64
	var wg sync.WaitGroup
	for i := range 10000 {
		wg.Go(func() { sum.Add(int64(i)) })
	}
	wg.Wait()
	if sum.Load() != 49995000 {
		return fmt.Errorf("sum %d", sum.Load())
	}
	return nil
}

func channels() error {
	a, b := make(chan int), make(chan int)
	go func() {
		for v := range a {
			b <- v + 1
		}
		close(b)
	}()
	v := 0
	for range 100000 {
		a <- v
		v = <-b
	}
	close(a)
	if _, open := <-b; open || v != 100000 {
		return fmt.Errorf("ended at %d", v)
	}
	return nil
}

func ticker() error {
	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		<-tick.C
	}
	if took := time.Since(start); took < 90*time.Millisecond || took > time.Second {
		return fmt.Errorf("ten ticks of 10 ms took %v", took)
	}
	select {
	case <-time.After(20 * time.Millisecond):
	case <-make(chan int):
	}
	return nil
}

// busyLoop has no safepoint: only a signal gets the CPU from it.
func busyLoop() error {
	old := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(old)
	var stop atomic.Bool
	done := make(chan uint64)
	go func() {
		var n uint64
		for !stop.Load() {
			for range 1000 {
				n++
			}
		}
		done <- n
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for range 20 {
		<-tick.C
	}
	stop.Store(true)
	<-done
	if took := time.Since(start); took > 5*time.Second {
		return fmt.Errorf("twenty ticks of 5 ms took %v", took)
	}
	return nil
}

func signals() error {
	c := make(chan os.Signal, 10)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGTERM)
	defer signal.Stop(c)
	for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			return err
		}
		select {
		case got := <-c:
			if got != s {
				return fmt.Errorf("%v came, not %v", got, s)
			}
		case <-time.After(5 * time.Second):
			return fmt.Errorf("%v didn't come", s)
		}
	}
	return nil
}

func collector() error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var keep [64][]byte
	for i := range 20000 {
		keep[i%64] = make([]byte, 4096+i%1000)
	}
	runtime.GC()
	debug.FreeOSMemory()
	runtime.ReadMemStats(&after)
	if after.NumGC <= before.NumGC || after.HeapAlloc > 16<<20 {
		return fmt.Errorf("%d collections, %d bytes", after.NumGC-before.NumGC, after.HeapAlloc)
	}
	runtime.KeepAlive(&keep)
	return nil
}

func nilDereference() (err error) {
	defer func() {
		r := recover()
		if e, ok := r.(runtime.Error); !ok || !strings.Contains(e.Error(), "nil pointer") {
			err = fmt.Errorf("recovered %v", r)
		}
	}()
	var p *[10]int
	p[3] = 1
	return fmt.Errorf("no panic")
}

func mutexes() error {
	var mu sync.Mutex
	var rw sync.RWMutex
	var wg sync.WaitGroup
	n, m := 0, 0
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				mu.Lock()
				n++
				mu.Unlock()
				rw.RLock()
				_ = m
				rw.RUnlock()
			}
			rw.Lock()
			m++
			rw.Unlock()
		})
	}
	wg.Wait()
	if n != 40000 || m != 8 {
		return fmt.Errorf("%d, %d", n, m)
	}
	return nil
}

// blockingCalls holds threads in system calls while others go on.
func blockingCalls() error {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		return err
	}
	done := make(chan byte, 20)
	for range 20 {
		go func() {
			b := make([]byte, 1)
			syscall.Read(fds[0], b)
			done <- b[0]
		}()
	}
	time.Sleep(20 * time.Millisecond)
	if _, err := syscall.Write(fds[1], make([]byte, 20)); err != nil {
		return err
	}
	for range 20 {
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			return fmt.Errorf("a reader sleeps for ever")
		}
	}
	r, w, err := os.Pipe() // and with the poller
	if err != nil {
		return err
	}
	go func() { time.Sleep(10 * time.Millisecond); w.Write([]byte("x")) }()
	if n, err := r.Read(make([]byte, 4)); n != 1 || err != nil {
		return fmt.Errorf("%d, %v", n, err)
	}
	r.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := r.Read(make([]byte, 4)); !os.IsTimeout(err) {
		return fmt.Errorf("wanted a timeout, got %v", err)
	}
	return nil
}

func stackGrowth() error {
	var deep func(n int, pad [128]byte) int
	deep = func(n int, pad [128]byte) int {
		if n == 0 {
			return int(pad[5])
		}
		pad[5]++
		return deep(n-1, pad)
	}
	if got := deep(50000, [128]byte{}); got != 50000&255 {
		return fmt.Errorf("%d", got)
	}
	return nil
}

func files() error {
	dir, err := os.MkdirTemp("", "go")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/f", []byte("data"), 0o600); err != nil {
		return err
	}
	data, err := os.ReadFile(dir + "/f")
	if err != nil || string(data) != "data" {
		return fmt.Errorf("%q, %v", data, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		return fmt.Errorf("%v, %v", entries, err)
	}
	return nil
}

func clock() error {
	if y := time.Now().Year(); y < 2024 || y > 2100 {
		return fmt.Errorf("the year is %d", y)
	}
	last := time.Now()
	for range 10000 {
		now := time.Now()
		if now.Before(last) {
			return fmt.Errorf("time runs backwards")
		}
		last = now
	}
	return nil
}
