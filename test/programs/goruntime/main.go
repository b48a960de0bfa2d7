// Goruntime checks more of what Go's runtime asks of a kernel: sleeps and clocks to
// the letter, faults that become panics, the poller, and memory that is reserved,
// limited and given back.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"elver/test/programs/check"
)

func main() {
	check.Main(
		check.Test{Name: "sleep is neither short nor long", Run: sleeps},
		check.Test{Name: "timers fire in order", Run: timersInOrder},
		check.Test{Name: "clock never goes back", Run: clockGoesOn},
		check.Test{Name: "division by zero is recovered", Run: divide},
		check.Test{Name: "bad address is a panic", Run: badAddress},
		check.Test{Name: "pipe through the poller", Run: pipe},
		check.Test{Name: "pipe deadline", Run: pipeDeadline},
		check.Test{Name: "close ends a read", Run: closeEndsRead},
		check.Test{Name: "context timeout", Run: contextTimeout},
		check.Test{Name: "large reservations", Run: reservations},
		check.Test{Name: "memory limit", Run: memoryLimit},
		check.Test{Name: "freed memory goes back", Run: freed},
	)
}

func sleeps() error {
	for _, d := range []time.Duration{1, time.Microsecond, 100 * time.Microsecond, time.Millisecond, 30 * time.Millisecond} {
		start := time.Now()
		time.Sleep(d)
		if took := time.Since(start); took < d || took > d+2*time.Second {
			return fmt.Errorf("slept %v for %v", took, d)
		}
	}
	return nil
}

func timersInOrder() error {
	const n = 2000
	var mu sync.Mutex
	var early int
	var wg sync.WaitGroup
	wg.Add(n)
	start := time.Now()
	for range n {
		d := time.Duration(rand.Intn(200)) * time.Millisecond
		time.AfterFunc(d, func() {
			defer wg.Done()
			if time.Since(start) < d {
				mu.Lock()
				early++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if early != 0 {
		return fmt.Errorf("%d of %d timers fired early", early, n)
	}
	return nil
}

// clockGoesOn reads the clocks on several threads; what one thread reads must
// not be before what another has read already. The monotonic clock is read
// without the kernel, by time.Since, and by the system call: both must agree.
func clockGoesOn() error {
	var last atomic.Int64
	start := time.Now()
	startByCall := monotonicByCall()
	startAfter := time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range cap(errs) {
		wg.Go(func() {
			runtime.LockOSThread()
			var wall time.Time
			for range 20_000 {
				seen := last.Load()
				now := int64(time.Since(start))
				if now < seen {
					errs <- fmt.Errorf("%d ns after %d ns", now, seen)
					return
				}
				for seen < now && !last.CompareAndSwap(seen, now) {
					seen = last.Load()
				}
				low := time.Since(startAfter)
				call := monotonicByCall() - startByCall
				if high := time.Since(start); call < low || call > high {
					errs <- fmt.Errorf("the system call says %v, between %v and %v", call, low, high)
					return
				}
				w := time.Now().Round(0)
				if w.Before(wall) {
					errs <- fmt.Errorf("%v after %v", w, wall)
					return
				}
				wall = w
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func monotonicByCall() time.Duration {
	const monotonic = 1
	var ts syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}

func caught(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	f()
	return nil
}

var (
	Result int // keeps what is computed
	zero   int
)

func wants(err error, sentence string) error {
	if err == nil || !strings.Contains(err.Error(), sentence) {
		return fmt.Errorf("wanted %q, got %v", sentence, err)
	}
	return nil
}

func divide() error {
	return wants(caught(func() { Result = 1 / zero }), "integer divide by zero")
}

func badAddress() error {
	const page = 4096
	m, err := syscall.Mmap(-1, 0, page, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer syscall.Munmap(m)
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	err = caught(func() { m[7] = 1 })
	if a, ok := err.(interface{ Addr() uintptr }); !ok || a.Addr()%page != 7 {
		return fmt.Errorf("wanted a fault at 7 in a page, got %v", err)
	}
	return nil
}

func pipe() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	const size = 4 << 20
	go func() {
		b := make([]byte, 10_007)
		for n := 0; n < size; {
			for i := range b {
				b[i] = byte((n + i) % 251)
			}
			m, err := w.Write(b[:min(len(b), size-n)])
			n += m
			if err != nil {
				break
			}
		}
		w.Close()
	}()
	b, err := io.ReadAll(r)
	if err != nil || len(b) != size {
		return fmt.Errorf("%d bytes, %v", len(b), err)
	}
	for i := range b {
		if b[i] != byte(i%251) {
			return fmt.Errorf("byte %d is %d", i, b[i])
		}
	}
	return r.Close()
}

func pipeDeadline() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	defer r.Close()
	r.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	_, err = r.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wanted the deadline, got %v", err)
	}
	return nil
}

func closeEndsRead() error {
	for range 100 {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		done := make(chan error)
		go func() {
			_, err := r.Read(make([]byte, 1))
			done <- err
		}()
		runtime.Gosched()
		r.Close()
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("wanted ErrClosed, got %v", err)
		}
		w.Close()
	}
	return nil
}

func contextTimeout() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	if ctx.Err() != context.DeadlineExceeded {
		return ctx.Err()
	}
	return nil
}

// reservations maps far more address space than there is memory, and uses a
// page here and there.
func reservations() error {
	const size, step = 64 << 30, 1 << 30
	m, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return err
	}
	for i := 0; i < size; i += step {
		m[i] = byte(i/step + 1)
	}
	for i := 0; i < size; i += step {
		if m[i] != byte(i/step+1) || m[i+step/2] != 0 {
			return fmt.Errorf("at %#x: %d and %d", i, m[i], m[i+step/2])
		}
	}
	return syscall.Munmap(m)
}

var keep [][]byte

// churn allocates mb MiB, holding the last few.
func churn(mb int) {
	keep = make([][]byte, 64)
	for i := range mb * 64 {
		b := make([]byte, 16<<10)
		b[i%len(b)] = 1
		keep[i%len(keep)] = b
	}
	keep = nil
}

func memoryLimit() error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(48 << 20))
	churn(256)
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	if total := s.Sys - s.HeapReleased; total > 64<<20 {
		return fmt.Errorf("%d MiB in use under a limit of 48", total>>20)
	}
	return nil
}

func freed() error {
	usage := func() (residentKB int64) {
		b, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			return -1
		}
		var size, resident int64
		fmt.Sscan(string(b), &size, &resident)
		return resident * 4
	}
	debug.FreeOSMemory()
	before := usage()
	b := make([]byte, 40<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	during := usage()
	runtime.KeepAlive(b)
	b = nil
	debug.FreeOSMemory()
	after := usage()
	if before <= 0 || during < before+35<<10 || after > during-35<<10 {
		return fmt.Errorf("resident: %d kB before, %d during, %d after", before, during, after)
	}
	return nil
}
