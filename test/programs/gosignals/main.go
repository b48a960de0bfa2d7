// Gosignals checks signals as Go programs use them: os/signal, profiles, preemption, and what
// they must leave alone.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"elver/test/programs/check"
)

func main() {
	runtime.GOMAXPROCS(4) // more threads than the machine has CPUs
	check.Main(
		check.Test{Name: "notify", Run: notify},
		check.Test{Name: "every signal is notified", Run: every},
		check.Test{Name: "ignore", Run: ignore},
		check.Test{Name: "stop and reset", Run: stop},
		check.Test{Name: "notify context", Run: notifyContext},
		check.Test{Name: "signal ends no system call", Run: restarts},
		check.Test{Name: "signals to threads", Run: toThreads},
		check.Test{Name: "interval timer", Run: itimer},
		check.Test{Name: "CPU profile", Run: profile},
		check.Test{Name: "registers in a storm", Run: storm},
	)
}

func kill(s syscall.Signal) error { return syscall.Kill(os.Getpid(), s) }

func wait(c <-chan os.Signal, want os.Signal) error {
	select {
	case s := <-c:
		if s != want {
			return fmt.Errorf("got %v, not %v", s, want)
		}
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("no %v", want)
	}
}

func notify() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	for range 2000 {
		if err := kill(syscall.SIGUSR1); err != nil {
			return err
		}
		if err := wait(c, syscall.SIGUSR1); err != nil {
			return err
		}
	}
	return nil
}

func every() error {
	c := make(chan os.Signal, 1000) // the runtime's own SIGURG comes too
	signal.Notify(c)
	defer signal.Reset()
	defer signal.Stop(c)
	for s := syscall.Signal(1); s < 65; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGPROF, syscall.SIGURG, 32, 33, 34:
			continue // they can't be caught, or are the runtime's or the C library's
		case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
			continue
		}
		if err := kill(s); err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
		for got := os.Signal(syscall.SIGURG); got != s; {
			if got != syscall.SIGURG {
				return fmt.Errorf("got %v, not %v", got, s)
			}
			select {
			case got = <-c:
			case <-time.After(10 * time.Second):
				return fmt.Errorf("no %v", s)
			}
		}
	}
	return nil
}

func ignore() error {
	signal.Ignore(syscall.SIGHUP, syscall.SIGTERM)
	defer signal.Reset()
	for range 100 {
		kill(syscall.SIGHUP)
		kill(syscall.SIGTERM)
	}
	if !signal.Ignored(syscall.SIGHUP) {
		return fmt.Errorf("SIGHUP isn't ignored")
	}
	return nil
}

func stop() error {
	c, d := make(chan os.Signal, 10), make(chan os.Signal, 10)
	signal.Notify(c, syscall.SIGWINCH)
	signal.Notify(d, syscall.SIGWINCH)
	defer signal.Reset()
	signal.Stop(c)
	kill(syscall.SIGWINCH)
	if err := wait(d, syscall.SIGWINCH); err != nil {
		return err
	}
	signal.Reset(syscall.SIGWINCH)
	kill(syscall.SIGWINCH)
	time.Sleep(20 * time.Millisecond)
	if len(c) != 0 || len(d) != 0 {
		return fmt.Errorf("%d and %d signals came after Stop and Reset", len(c), len(d))
	}
	return nil
}

func notifyContext() error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	kill(syscall.SIGINT)
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("the context isn't done")
	}
}

// restarts reads from a blocking pipe on a thread of its own while signals come:
// SA_RESTART must hide them all.
func restarts() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	defer signal.Stop(c)
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		return err
	}
	done := make(chan error, 1)
	var tid atomic.Int64
	go func() {
		runtime.LockOSThread()
		tid.Store(int64(syscall.Gettid()))
		b := make([]byte, 1)
		n, err := syscall.Read(fds[0], b)
		if err == nil && (n != 1 || b[0] != 'x') {
			err = fmt.Errorf("read %d bytes, %q", n, b)
		}
		done <- err
	}()
	for tid.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 100 {
		syscall.Tgkill(os.Getpid(), int(tid.Load()), syscall.SIGUSR2)
		time.Sleep(2 * time.Millisecond)
	}
	syscall.Write(fds[1], []byte("x"))
	err := <-done
	syscall.Close(fds[0])
	syscall.Close(fds[1])
	return err
}

// toThreads directs signals at threads that compute, sleep, and wait.
func toThreads() error {
	c := make(chan os.Signal, 100)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	var end atomic.Bool
	var wg sync.WaitGroup
	tids := make(chan int)
	for i := range 9 {
		wg.Go(func() {
			runtime.LockOSThread()
			tids <- syscall.Gettid()
			for !end.Load() {
				switch i % 3 {
				case 0:
				case 1:
					ts := syscall.Timespec{Nsec: 2_000_000}
					syscall.Nanosleep(&ts, nil)
				case 2:
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	for range 9 {
		tid := <-tids
		for range 20 {
			if err := syscall.Tgkill(os.Getpid(), tid, syscall.SIGUSR1); err != nil {
				return err
			}
			if err := wait(c, syscall.SIGUSR1); err != nil {
				return fmt.Errorf("to thread %d: %w", tid, err)
			}
		}
	}
	end.Store(true)
	wg.Wait()
	return nil
}

func itimer() error {
	c := make(chan os.Signal, 100)
	signal.Notify(c, syscall.SIGALRM)
	defer signal.Stop(c)
	const real = 0
	set := func(d time.Duration) {
		v := struct{ interval, value syscall.Timeval }{syscall.NsecToTimeval(int64(d)), syscall.NsecToTimeval(int64(d))}
		setitimer(real, &v.interval)
	}
	set(5 * time.Millisecond)
	defer set(0)
	for range 20 {
		if err := wait(c, syscall.SIGALRM); err != nil {
			return err
		}
	}
	return nil
}

// profile wants samples in proportion to the CPU time that was used, and that
// most of them name the busy function.
func profile() error {
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		return err
	}
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for start := time.Now(); time.Since(start) < 1500*time.Millisecond; {
		_ = spin(1 << 20)
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	pprof.StopCPUProfile()
	z, err := gzip.NewReader(&b)
	if err != nil {
		return err
	}
	p, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	if !bytes.Contains(p, []byte("main.spin")) {
		return fmt.Errorf("no sample is in main.spin")
	}
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	wanted := int64(used / (10 * time.Millisecond))
	if n := samples(p); n < wanted*7/10 || n > wanted*13/10 {
		return fmt.Errorf("%d samples in %v of CPU time", n, used)
	}
	return nil
}

//go:noinline
func spin(n int) (x uint64) {
	x = 1
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// storm computes on several threads, in integer and vector registers, while
// every thread is showered with signals; the results must not change.
func storm() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(c)
	go func() {
		for range c {
		}
	}()
	wantInt, wantFloat, wantCopy := spin(1<<14), floats(1<<12), copies()
	var end atomic.Bool
	var wg sync.WaitGroup
	var turns atomic.Int64
	tids, errs := make(chan int, 4), make(chan error, 4)
	for range 4 {
		wg.Go(func() {
			runtime.LockOSThread()
			tids <- syscall.Gettid()
			for !end.Load() {
				if got := spin(1 << 14); got != wantInt {
					errs <- fmt.Errorf("integers: %#x, not %#x", got, wantInt)
					return
				}
				if got := floats(1 << 12); got != wantFloat {
					errs <- fmt.Errorf("floats: %v, not %v", got, wantFloat)
					return
				}
				if got := copies(); got != wantCopy {
					errs <- fmt.Errorf("copies: %v, not %v", got, wantCopy)
					return
				}
				turns.Add(1)
			}
		})
	}
	var to [4]int
	for i := range to {
		to[i] = <-tids
	}
	pid := os.Getpid()
	for start := time.Now(); time.Since(start) < 3*time.Second && len(errs) == 0; {
		for i, tid := range to {
			syscall.Tgkill(pid, tid, [...]syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGURG}[i%3])
		}
		syscall.Kill(pid, syscall.SIGUSR1)
		if turns.Load()%16 == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
	end.Store(true)
	wg.Wait()
	if len(errs) > 0 {
		return <-errs
	}
	if turns.Load() < 4 {
		return fmt.Errorf("the threads got %d turns done", turns.Load())
	}
	return nil
}

//go:noinline
func floats(n int) (sum float64) {
	a, b, c, d := 1.0, 2.0, 3.0, 4.0
	for i := range n {
		x := float64(i)
		a = math.FMA(a, 0.999, math.Sqrt(x))
		b = b*0.5 + a
		c = math.Abs(c-b) + 1/(x+1)
		d += c * 1e-3
	}
	return a + b + c + d
}

var pattern = bytes.Repeat([]byte("every byte has its place "), 200)

// copies moves, compares and counts: memmove and its kin use the widest vector
// registers there are.
//
//go:noinline
func copies() (n int) {
	var buffer [5000]byte
	for i := range 40 {
		copy(buffer[i:], pattern)
		if bytes.Equal(buffer[i:len(pattern)-i], pattern[:len(pattern)-2*i]) {
			n += bytes.Count(buffer[:], []byte("b")) + bytes.IndexByte(buffer[i:], 'p')
		}
	}
	return n
}
