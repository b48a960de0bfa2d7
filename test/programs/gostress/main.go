// Gostress puts load on what gobasics merely tries: collections while threads
// allocate, spin, sleep and block, and a profile of it.
package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

type node struct {
	left, right *node
	value       [3]uint64
}

func tree(depth int) *node {
	if depth == 0 {
		return &node{value: [3]uint64{1, 2, 3}}
	}
	return &node{tree(depth - 1), tree(depth - 1), [3]uint64{uint64(depth)}}
}

func (n *node) sum() uint64 {
	if n == nil {
		return 0
	}
	return n.value[0] + n.left.sum() + n.right.sum()
}

func main() {
	runtime.GOMAXPROCS(4)
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		fmt.Println("FAIL profile:", err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	bad := 0
	want := tree(10).sum()
	end := time.Now().Add(3 * time.Second)
	for i := range 8 {
		wg.Go(func() {
			for time.Now().Before(end) {
				switch i % 4 {
				case 0, 1:
					if tree(10).sum() != want {
						mu.Lock()
						bad++
						mu.Unlock()
					}
				case 2:
					for j := range 1000000 {
						_ = j * j
					}
				case 3:
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			runtime.GC()
			time.Sleep(5 * time.Millisecond)
		}
	})
	wg.Wait()
	if bad > 0 {
		fmt.Println("FAIL trees:", bad)
		os.Exit(1)
	}
	fmt.Println("ok trees")
	c := make(chan int, 100)
	go func() {
		for i := range 1000000 {
			c <- i
		}
		close(c)
	}()
	n := 0
	for range c {
		n++
	}
	fmt.Println("ok channels by the million", n)
	pprof.StopCPUProfile()
	if profile.Len() < 200 {
		fmt.Println("FAIL profile: only", profile.Len(), "bytes")
		os.Exit(1)
	}
	fmt.Println("ok profile")
}
