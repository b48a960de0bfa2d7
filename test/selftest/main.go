//go:build elver

// Selftest is an image of its own: the freestanding runtime and the CPU without the kernel above them.
// It checks what they promise and prints a line for each; the boot tests read them. A word on the
// command line makes it fail in that way instead: the boot tests read the report.
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
	"unsafe"

	"elver/arch/amd64"
	"elver/boot"
	"elver/cmd/kernel/failure"
	"elver/platform/kvm"
	"elver/runtime/metal"
)

func main() {
	amd64.Init()
	failure.Report()
	magic, at, _ := metal.BootInfo()
	info, err := boot.Parse(magic, at, func(pa uint64, n int) ([]byte, bool) { return metal.View(pa, n), metal.Viewable(pa, n) })
	if err != nil {
		panic(err)
	}
	machine, err := kvm.Init(kvm.Facts{RSDP: info.RSDP, MemoryMap: info.MemoryMap})
	if err != nil {
		panic(err)
	}
	words := append([]string{""}, strings.Fields(info.CommandLine)...)
	switch words[len(words)-1] {
	case "fault":
		*(*int)(unsafe.Add(nil, zero+0x1123456789a0-1<<47)) = 1
	case "panic":
		panic("asked to")
	case "overflow":
		debug.SetMaxStack(1 << 20)
		overflow(1 << 40)
	}
	textPointer = channelsAsText
	failed := 0
	for _, t := range []struct {
		name string
		test func() error
	}{
		{"nil dereference", func() error { return panics("invalid memory address", func() { *nilInt = 1 }) }},
		{"jump to nil", func() error { return panics("invalid memory address", func() { nilFunc() }) }},
		{"divide", func() error { return panics("divide by zero", func() { sink = 1 / zero }) }},
		{"not canonical", func() error {
			return panics("invalid memory address", func() { sink = *(*int)(unsafe.Add(nil, zero+1<<62)) })
		}},
		{"bounds", func() error { return panics("index out of range", func() { sink = []int{1}[zero+5] }) }},
		{"page 0", func() error {
			return panics("invalid memory address", func() { sink = *(*int)(unsafe.Add(nil, zero+8)) })
		}},
		{"text is read-only", func() error { return panicsOnFault(func() { **(**byte)(unsafe.Pointer(&textPointer)) = 1 }) }},
		{"goroutines, channels", channels},
		{"fairness", fairness},
		{"timers", timers},
		{"collector", collector},
		{"frames", frames},
		{"clock", clock},
		{"copies", copies},
		{"randomness", randomness},
	} {
		if err := t.test(); err != nil {
			failed++
			fmt.Fprintf(machine.LogWriter(), "FAIL %s: %v\n", t.name, err)
			continue
		}
		fmt.Fprintf(machine.LogWriter(), "ok %s\n", t.name)
	}
	machine.PowerOff(uint8(failed))
}

var (
	zero        int
	sink        int
	nilInt      *int
	nilFunc     func()
	textPointer func()
)

func panics(want string, f func()) (err error) {
	defer func() {
		if r := recover(); r == nil {
			err = fmt.Errorf("no panic")
		} else if got := fmt.Sprint(r); !strings.Contains(got, want) {
			err = fmt.Errorf("panic %q, want %q", got, want)
		}
	}()
	f()
	return nil
}

func panicsOnFault(f func()) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return panics("invalid memory address", f)
}

func overflow(n int) int {
	if n == 0 {
		return 0
	}
	var a [1000]int
	a[n%1000] = overflow(n - 1)
	return a[0] + a[n%1000]
}

func channelsAsText() { sink++ }

// channels passes a token through a ring of goroutines.
func channels() error {
	const n = 1000
	first := make(chan int)
	in := first
	for range n {
		out := make(chan int)
		go func(in, out chan int) { out <- 1 + <-in }(in, out)
		in = out
	}
	first <- 0
	if got := <-in; got != n {
		return fmt.Errorf("the token comes back as %d, want %d", got, n)
	}
	return nil
}

// fairness has a third goroutine and a timer run beside a pair that is always runnable.
func fairness() error {
	ping, pong, stop := make(chan int), make(chan int), make(chan struct{})
	go func() {
		for v := range ping {
			pong <- v
		}
	}()
	go func() {
		for i := 0; ; i++ {
			select {
			case ping <- i:
				<-pong
				metal.CondResched()
			case <-stop:
				close(ping)
				return
			}
		}
	}()
	defer close(stop)
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("a timer of 20 ms comes after one of 5 s")
	}
}

func timers() error {
	start := time.Now()
	time.Sleep(30 * time.Millisecond)
	if took := time.Since(start); took < 30*time.Millisecond || took > 10*time.Second {
		return fmt.Errorf("a sleep of 30 ms takes %v", took)
	}
	order := make(chan int, 3)
	for _, ms := range []int{30, 10, 20} {
		time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { order <- ms })
	}
	for _, want := range []int{10, 20, 30} {
		if got := <-order; got != want {
			return fmt.Errorf("the timer of %d ms comes when that of %d ms is due", got, want)
		}
	}
	return nil
}

// collector makes garbage of many times the machine's memory.
func collector() error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var keep [][]byte
	for i := range 4000 {
		b := make([]byte, 64<<10)
		b[i] = byte(i)
		if i%1000 == 0 {
			keep = append(keep, b)
		}
	}
	runtime.ReadMemStats(&after)
	if after.NumGC == before.NumGC {
		return fmt.Errorf("256 MiB of garbage and no collection")
	}
	for i, b := range keep {
		if b[1000*i] != byte(1000*i) {
			return fmt.Errorf("a live block changed")
		}
	}
	debug.FreeOSMemory()
	return nil
}

func frames() error {
	before := metal.Frames()
	var taken []uint64
	for range 1500 { // more than two blocks
		pa, ok := metal.AllocFrame(metal.OwnerKernel)
		if !ok {
			return fmt.Errorf("no frame after %d, of %d", len(taken), before.Free)
		}
		*(*uint64)(unsafe.Pointer(&metal.View(pa, 8)[0])) = pa
		taken = append(taken, pa)
	}
	for _, pa := range taken {
		if got := *(*uint64)(unsafe.Pointer(&metal.View(pa, 8)[0])); got != pa {
			return fmt.Errorf("frame %#x is also frame %#x", pa, got)
		}
		metal.Ref(pa)
		if left := metal.Unref(pa); left != 1 {
			return fmt.Errorf("%d references, want 1", left)
		}
		metal.Unref(pa)
	}
	huge, ok := metal.AllocHuge(metal.OwnerKernel)
	if !ok || huge%metal.HugeSize != 0 {
		return fmt.Errorf("no aligned 2 MiB: %#x, %v", huge, ok)
	}
	metal.SplitHuge(huge)
	for i := uint64(0); i < metal.HugeSize; i += metal.FrameSize {
		metal.Unref(huge + i)
	}
	if after := metal.Frames(); after.ByOwner[metal.OwnerKernel] != before.ByOwner[metal.OwnerKernel] {
		return fmt.Errorf("%d frames of the kernel's, %d before", after.ByOwner[metal.OwnerKernel], before.ByOwner[metal.OwnerKernel])
	}
	return nil
}

func clock() error {
	last := metal.Nanotime()
	for range 100000 {
		now := metal.Nanotime()
		if now < last {
			return fmt.Errorf("the clock goes back by %d ns", last-now)
		}
		last = now
	}
	return nil
}

// copies checks copies of all lengths around those where another way of copying begins, at all alignments, over
// themselves too.
func copies() error {
	const room = 9000
	var from, to, want [room]byte
	for i := range from {
		from[i] = byte(i * 7 >> 3)
	}
	for _, n := range []int{0, 1, 7, 8, 9, 31, 63, 255, 256, 257, 2047, 2048, 2049, 2055, 2056, 4095, 4096, 4097, 8191} {
		for a := range 17 {
			for b := range 17 {
				clear(to[:])
				clear(want[:])
				for i := range n {
					want[b+i] = from[a+i]
				}
				if copy(to[b:b+n], from[a:]); to != want {
					return fmt.Errorf("%d bytes from %d to %d", n, a, b)
				}
				to, want = from, from
				for i := range n {
					want[b+i] = from[a+i]
				}
				if copy(to[b:b+n], to[a:]); to != want {
					return fmt.Errorf("%d bytes from %d to %d of themselves", n, a, b)
				}
			}
		}
	}
	return nil
}

func randomness() error {
	var a, b [32]byte
	metal.Random(a[:])
	metal.Random(b[:])
	if a == b || a == [32]byte{} {
		return fmt.Errorf("%x twice", a)
	}
	return nil
}
