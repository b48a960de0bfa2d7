// Goload is load: many goroutines, many threads, much garbage, and all at once. What must
// not happen is a lost wakeup, which shows as a timeout of the test.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"elver/test/programs/check"
)

// The lengths are for a test run; ELVER_SECONDS makes the load last longer.
var load = 2 * time.Second

func main() {
	if n, err := strconv.Atoi(os.Getenv("ELVER_SECONDS")); err == nil {
		load = time.Duration(n) * time.Second
	}
	runtime.GOMAXPROCS(4) // more threads than the machine has CPUs
	check.Main(
		check.Test{Name: "100,000 goroutines", Run: goroutines},
		check.Test{Name: "mutexes", Run: mutexes},
		check.Test{Name: "condition variables", Run: conds},
		check.Test{Name: "locked threads", Run: threads},
		check.Test{Name: "threads come and go", Run: comeAndGo},
		check.Test{Name: "blocking reads and writes", Run: blocking},
		check.Test{Name: "garbage", Run: garbage},
		check.Test{Name: "everything at once", Run: everything},
	)
}

func goroutines() error {
	const n = 100_000
	var wg sync.WaitGroup
	var sum atomic.Int64
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			sum.Add(int64(i))
		})
	}
	close(start)
	wg.Wait()
	if want := int64(n) * (n - 1) / 2; sum.Load() != want {
		return fmt.Errorf("the sum is %d, not %d", sum.Load(), want)
	}
	return nil
}

func mutexes() error {
	var mu sync.RWMutex
	var count, reads int
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			runtime.LockOSThread() // each hand-over is a futex
			for i := range 500 {
				if i%4 == 0 {
					mu.RLock()
					reads = count
					mu.RUnlock()
				}
				mu.Lock()
				count++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	_ = reads
	if count != 16*500 {
		return fmt.Errorf("%d turns", count)
	}
	return nil
}

func conds() error {
	var mu sync.Mutex
	cond := sync.NewCond(&mu)
	turn := 0
	const players, rounds = 8, 300
	var wg sync.WaitGroup
	for p := range players {
		wg.Go(func() {
			runtime.LockOSThread()
			for range rounds {
				mu.Lock()
				for turn%players != p {
					cond.Wait()
				}
				turn++
				cond.Broadcast()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if turn != players*rounds {
		return fmt.Errorf("%d turns", turn)
	}
	return nil
}

// threads has goroutines that keep a thread each, and passes a token along.
func threads() error {
	debug.SetMaxThreads(20_000)
	const n = 1000
	first := make(chan int)
	in := first
	for range n {
		before, after := in, make(chan int)
		go func() {
			runtime.LockOSThread()
			for v := range before {
				after <- v + 1
			}
			close(after)
		}()
		in = after
	}
	for range 3 {
		first <- 0
		if v := <-in; v != n {
			return fmt.Errorf("the token says %d", v)
		}
	}
	close(first)
	<-in
	return nil
}

// comeAndGo ends goroutines that are locked to their threads: the threads end
// with them.
func comeAndGo() error {
	for range 50 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				runtime.LockOSThread()
				syscall.Getppid()
			})
		}
		wg.Wait()
	}
	return nil
}

// blocking moves bytes through pipes by system calls that block their threads.
func blocking() error {
	const pairs, turns = 10, 200
	var wg sync.WaitGroup
	errs := make(chan error, pairs*2)
	for range pairs {
		var there, back [2]int
		if err := syscall.Pipe(there[:]); err != nil {
			return err
		}
		if err := syscall.Pipe(back[:]); err != nil {
			return err
		}
		hop := func(in, out int, lead bool) {
			b := []byte{0}
			for i := range turns {
				if !lead || i > 0 {
					if n, err := syscall.Read(in, b); n != 1 || err != nil {
						errs <- fmt.Errorf("read: %d, %v", n, err)
						return
					}
				}
				b[0]++
				if n, err := syscall.Write(out, b); n != 1 || err != nil {
					errs <- fmt.Errorf("write: %d, %v", n, err)
					return
				}
			}
		}
		wg.Go(func() { hop(there[0], back[1], false) })
		wg.Go(func() { hop(back[0], there[1], true) })
		defer func() {
			for _, fd := range append(there[:], back[:]...) {
				syscall.Close(fd)
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

type node struct {
	left, right *node
	check       int
	pad         [8]int
}

func tree(depth, check int) *node {
	n := &node{check: check}
	for i := range n.pad {
		n.pad[i] = check ^ i
	}
	if depth > 0 {
		n.left, n.right = tree(depth-1, check*2), tree(depth-1, check*2+1)
	}
	return n
}

func (n *node) good(depth, check int) bool {
	if n.check != check {
		return false
	}
	for i := range n.pad {
		if n.pad[i] != check^i {
			return false
		}
	}
	return depth == 0 || n.left.good(depth-1, check*2) && n.right.good(depth-1, check*2+1)
}

// garbage builds trees and drops them, and checks a few that stay.
func garbage() error {
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	end := time.Now().Add(load)
	for range 4 {
		wg.Go(func() {
			keep := tree(10, 1)
			for time.Now().Before(end) {
				if !tree(8, 3).good(8, 3) || !keep.good(10, 1) {
					errs <- fmt.Errorf("a tree has been damaged")
					return
				}
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

// everything runs garbage beside tickers, pipes, signals and threads.
func everything() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	var end atomic.Bool
	var wg sync.WaitGroup
	var signals, ticks, bytes, threads atomic.Int64
	errs := make(chan error, 10)
	wg.Go(func() {
		for !end.Load() {
			syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			select {
			case <-c:
				signals.Add(1)
			case <-time.After(20 * time.Second):
				errs <- fmt.Errorf("a signal was lost")
				return
			}
		}
	})
	wg.Go(func() {
		t := time.NewTicker(time.Millisecond)
		for !end.Load() {
			select {
			case <-t.C:
				ticks.Add(1)
			case <-time.After(20 * time.Second):
				errs <- fmt.Errorf("a tick was lost")
				return
			}
		}
	})
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	wg.Go(func() {
		b := make([]byte, 3000)
		for !end.Load() {
			w.Write(b[:rand.Intn(len(b))])
		}
		w.Close()
	})
	wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := r.Read(b)
			bytes.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		for !end.Load() {
			done := make(chan struct{})
			go func() {
				runtime.LockOSThread()
				close(done)
			}()
			<-done
			threads.Add(1)
		}
	})
	wg.Go(func() {
		for !end.Load() {
			time.Sleep(time.Duration(rand.Intn(300)) * time.Microsecond)
			runtime.Gosched()
		}
	})
	err = garbage()
	end.Store(true)
	wg.Wait()
	r.Close()
	if err != nil {
		return err
	}
	select {
	case err := <-errs:
		return err
	default:
	}
	if signals.Load() == 0 || ticks.Load() == 0 || bytes.Load() == 0 || threads.Load() == 0 {
		return fmt.Errorf("%d signals, %d ticks, %d bytes, %d threads", signals.Load(), ticks.Load(), bytes.Load(), threads.Load())
	}
	return nil
}
