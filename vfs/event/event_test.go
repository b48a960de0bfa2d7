package event

import (
	"encoding/binary"
	"math"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
	"elver/vfs/tmpfs"
)

const edge = unix.EPOLLET & 0xffffffff

func newContext(t testing.TB) *vfs.Context {
	t.Helper()
	return vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(tmpfs.New(tmpfs.Options{}).Root(), "")))
}

func newThread(t *testing.T) (*vfs.Context, *kernel.Thread) {
	t.Helper()
	k := kernel.New(kernel.Config{Syscall: func(*kernel.Thread) {}})
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	thread, err := k.NewFirst(as, newContext(t).Files, kernel.DefaultLimits(100), "test")
	if err != nil {
		t.Fatal(err)
	}
	return vfs.NewContext(thread), thread
}

func put(t testing.TB, c *vfs.Context, d *vfs.Description, v uint64) error {
	t.Helper()
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], v)
	b := mm.KernelBuffer(p[:])
	_, err := d.Write(c, &b)
	return err
}

func get(t testing.TB, c *vfs.Context, d *vfs.Description) (uint64, error) {
	t.Helper()
	var p [8]byte
	b := mm.KernelBuffer(p[:])
	_, err := d.Read(c, &b)
	return binary.LittleEndian.Uint64(p[:]), err
}

func eventfd(t testing.TB, initial, flags uint32) *vfs.Description {
	t.Helper()
	d, err := NewEventfd(initial, flags)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEventfd(t *testing.T) {
	c := newContext(t)
	d := eventfd(t, 3, 0)
	if v, err := get(t, c, d); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if _, err := get(t, c, d); err != unix.EAGAIN {
		t.Error(err)
	}
	if err := put(t, c, d, math.MaxUint64); err != unix.EINVAL {
		t.Error(err)
	}
	put(t, c, d, math.MaxUint64-1)
	if d.Readiness(waiter.EventOut)&waiter.EventOut != 0 {
		t.Error("writable when full")
	}
	if err := put(t, c, d, 1); err != unix.EAGAIN {
		t.Error(err)
	}
	b := mm.KernelBuffer(make([]byte, 4))
	if _, err := d.Read(c, &b); err != unix.EINVAL {
		t.Error(err)
	}
	s := eventfd(t, 2, unix.EFD_SEMAPHORE)
	for range 2 {
		if v, err := get(t, c, s); v != 1 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	}
	if _, err := get(t, c, s); err != unix.EAGAIN {
		t.Error(err)
	}
}

func epoll(t testing.TB) (*vfs.Description, *Epoll) {
	t.Helper()
	d, err := NewEpoll(0)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := EpollOf(d)
	return d, e
}

// ready is struct epoll_event.
type ready struct {
	events uint32
	data   uint64
}

// decode reads n events.
func decode(b []byte, n int) []ready {
	var all []ready
	for ; n > 0; n, b = n-1, b[SizeofEvent:] {
		all = append(all, ready{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:])})
	}
	return all
}

func collect(e *Epoll) []ready {
	out := make([]byte, 8*SizeofEvent)
	return decode(out, e.Collect(out, true, new(Round)))
}

func TestEpollInPieces(t *testing.T) {
	_, e := epoll(t)
	const files = 10
	var fds [files]*vfs.Description
	for i := range fds {
		fds[i] = eventfd(t, 1, 0)
		if err := e.Add(int32(i), fds[i], unix.EPOLLIN, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	e.Add(99, fds[0], unix.EPOLLIN|unix.EPOLLET, 99) // the same file once more
	for range 3 {
		var round Round
		var out [4 * SizeofEvent]byte
		seen := map[uint64]int{}
		for {
			n := e.Collect(out[:], false, &round)
			for _, v := range decode(out[:], n) {
				seen[v.data]++
			}
			if n < 4 {
				break
			}
			// Between the pieces another event comes for what was reported, another waiter looks, files go.
			for _, i := range e.items {
				i.NotifyEvent(waiter.EventIn)
			}
			e.Collect(out[:2*SizeofEvent], true, new(Round))
		}
		e.Finish(&round)
		for data, n := range seen {
			if n > 1 && data != 99 {
				t.Errorf("event %d came %d times in one round", data, n)
			}
		}
		if len(seen) < files-4 {
			t.Errorf("only %d events came", len(seen))
		}
	}
	var round Round
	e.Collect(make([]byte, 3*SizeofEvent), false, &round)
	if err := e.Delete(99, fds[0]); err != nil {
		t.Error(err)
	}
	for i := range fds {
		fds[i].Decref()
	}
	e.Finish(&round)
	if len(e.items) != 0 || e.first != nil || len(collect(e)) != 0 {
		t.Error("a closed file stayed")
	}
}

// Closing a file must not look at all others.
func BenchmarkEpollClose(b *testing.B) {
	_, e := epoll(b)
	fds := make([]*vfs.Description, b.N)
	for i := range fds {
		fds[i] = eventfd(b, 0, 0)
		e.Add(int32(i), fds[i], unix.EPOLLIN, 0)
	}
	b.ResetTimer()
	for i := range fds {
		fds[i].Decref()
	}
}

func TestEpoll(t *testing.T) {
	c := newContext(t)
	ed, e := epoll(t)
	d := eventfd(t, 0, 0)
	if err := e.Add(5, d, unix.EPOLLIN, 77); err != nil {
		t.Fatal(err)
	}
	if err := e.Add(5, d, unix.EPOLLIN, 77); err != unix.EEXIST {
		t.Error(err)
	}
	if got := collect(e); len(got) != 0 || ed.Readiness(waiter.EventIn) != 0 {
		t.Error(got)
	}
	put(t, c, d, 1)
	for range 3 { // level-triggered
		if ed.Readiness(waiter.EventIn) == 0 {
			t.Error("not ready")
		}
		if got := collect(e); len(got) != 1 || got[0] != (ready{unix.EPOLLIN, 77}) {
			t.Error(got)
		}
	}
	get(t, c, d)
	if got := collect(e); len(got) != 0 || ed.Readiness(waiter.EventIn) != 0 {
		t.Error(got)
	}
	// Edge-triggered.
	if err := e.Modify(5, d, unix.EPOLLIN|edge, 78); err != nil {
		t.Fatal(err)
	}
	put(t, c, d, 1)
	if got := collect(e); len(got) != 1 || got[0].data != 78 {
		t.Error(got)
	}
	if got := collect(e); len(got) != 0 {
		t.Error(got)
	}
	put(t, c, d, 1)
	if got := collect(e); len(got) != 1 {
		t.Error(got)
	}
	// A change of the wish looks again.
	e.Modify(5, d, unix.EPOLLIN|edge, 79)
	if got := collect(e); len(got) != 1 || got[0].data != 79 {
		t.Error(got)
	}
	// One shot.
	e.Modify(5, d, unix.EPOLLIN|unix.EPOLLONESHOT, 80)
	if got := collect(e); len(got) != 1 {
		t.Error(got)
	}
	put(t, c, d, 1)
	if got := collect(e); len(got) != 0 || ed.Readiness(waiter.EventIn) != 0 {
		t.Error(got)
	}
	e.Modify(5, d, unix.EPOLLIN|unix.EPOLLONESHOT, 81)
	if got := collect(e); len(got) != 1 {
		t.Error(got)
	}
	if err := e.Delete(6, d); err != unix.ENOENT {
		t.Error(err)
	}
	if err := e.Delete(5, d); err != nil {
		t.Error(err)
	}
	// Hang-ups come unasked; a closed file leaves.
	r, w, _ := c.Pipe(0)
	e.Add(1, r, 0, 1)
	w.Decref()
	if got := collect(e); len(got) != 1 || got[0].events != unix.EPOLLHUP {
		t.Error(got)
	}
	r.Decref()
	if len(e.items) != 0 || len(collect(e)) != 0 {
		t.Error("a closed file stayed")
	}
	f, err := c.OpenFile(vfs.AtCWD, "/f", unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Add(1, f, unix.EPOLLIN, 1); err != unix.EPERM {
		t.Error(err)
	}
	if err := e.Add(1, ed, unix.EPOLLIN, 1); err != unix.EINVAL {
		t.Error(err)
	}
	ed.Decref()
	d.Decref()
}

func TestEpollRotates(t *testing.T) {
	_, e := epoll(t)
	for i := range 5 {
		e.Add(int32(i), eventfd(t, 1, 0), unix.EPOLLIN, uint64(i))
	}
	seen := map[uint64]int{}
	var out [2 * SizeofEvent]byte
	for range 5 {
		n := e.Collect(out[:], true, new(Round))
		if n != 2 {
			t.Fatal(n)
		}
		for _, v := range decode(out[:], n) {
			seen[v.data]++
		}
	}
	for i := range uint64(5) {
		if seen[i] != 2 {
			t.Errorf("file %d was seen %d times of 10", i, seen[i])
		}
	}
}

func TestEpollNested(t *testing.T) {
	c := newContext(t)
	d := eventfd(t, 0, 0)
	inner, first := epoll(t)
	first.Add(1, d, unix.EPOLLIN, 1)
	chain := []*vfs.Description{inner}
	for i := range 6 {
		outer, e := epoll(t)
		err := e.Add(1, chain[len(chain)-1], unix.EPOLLIN, uint64(i+2))
		if i < 4 && err != nil {
			t.Fatalf("level %d: %v", i, err)
		}
		if i >= 4 {
			if err != unix.ELOOP {
				t.Errorf("level %d: %v", i, err)
			}
			break
		}
		chain = append(chain, outer)
	}
	if err := first.Add(2, chain[2], unix.EPOLLIN, 9); err != unix.ELOOP {
		t.Errorf("a circle: %v", err)
	}
	last := chain[len(chain)-1]
	e, ch := waiter.NewChannelEntry(waiter.EventIn)
	last.EventRegister(&e)
	put(t, c, d, 1)
	select {
	case <-ch:
	default:
		t.Error("no wake-up through five epolls")
	}
	if last.Readiness(waiter.EventIn) == 0 {
		t.Error("not ready through five epolls")
	}
	get(t, c, d)
	if last.Readiness(waiter.EventIn) != 0 {
		t.Error("still ready")
	}
	last.EventUnregister(&e)
	for _, d := range chain {
		d.Decref()
	}
}

// TestEpollStress has writers, readers and waiters at once: no event may be lost.
func TestEpollStress(t *testing.T) {
	c := newContext(t)
	const files, rounds = 8, 2000
	ed, e := epoll(t)
	var fds [files]*vfs.Description
	for i := range fds {
		fds[i] = eventfd(t, 0, 0)
		flags := uint32(unix.EPOLLIN)
		if i%2 == 0 {
			flags |= edge
		}
		e.Add(int32(i), fds[i], flags, uint64(i))
	}
	var wg sync.WaitGroup
	for i := range fds {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range rounds {
				put(t, c, fds[i], 1)
			}
		}()
	}
	total := uint64(0)
	entry, ch := waiter.NewChannelEntry(waiter.EventIn)
	ed.EventRegister(&entry)
	for total < files*rounds {
		var out [4 * SizeofEvent]byte
		n := e.Collect(out[:], true, new(Round))
		if n == 0 {
			if ed.Readiness(waiter.EventIn) == 0 {
				select {
				case <-ch:
				case <-time.After(10 * time.Second):
					t.Fatalf("lost wake-up at %d of %d", total, files*rounds)
				}
			}
			continue
		}
		for _, ev := range decode(out[:], n) {
			v, err := get(t, c, fds[ev.data])
			if err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
			if err == nil {
				total += v
			}
		}
	}
	wg.Wait()
	ed.EventUnregister(&entry)
	ed.Decref()
}

func TestTimerfd(t *testing.T) {
	c, thread := newThread(t)
	d, err := NewTimerfd(thread, unix.CLOCK_MONOTONIC, 0)
	if err != nil {
		t.Fatal(err)
	}
	timer, err := TimerOf(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, d); err != unix.EAGAIN {
		t.Error(err)
	}
	e, ch := waiter.NewChannelEntry(waiter.EventIn)
	d.EventRegister(&e)
	if _, _, err := timer.Set(time.Millisecond, time.Millisecond, 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for d.Readiness(waiter.EventIn)&waiter.EventIn == 0 {
			<-ch
		}
		if v, err := get(t, c, d); v == 0 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	}
	if _, interval := timer.Get(); interval != time.Millisecond {
		t.Error(interval)
	}
	d.EventUnregister(&e)
	d.Decref()
	if _, err := NewTimerfd(thread, unix.CLOCK_PROCESS_CPUTIME_ID, 0); err != unix.EINVAL {
		t.Error(err)
	}
}

func TestSignalfd(t *testing.T) {
	c, thread := newThread(t)
	usr1 := kernel.Signal(unix.SIGUSR1)
	thread.SetMask(kernel.SetOf(usr1))
	d, err := NewSignalfd(thread, kernel.SetOf(usr1), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 300)
	b := mm.KernelBuffer(p)
	if _, err := d.Read(c, &b); err != unix.EAGAIN {
		t.Error(err)
	}
	e, ch := waiter.NewChannelEntry(waiter.EventIn)
	d.EventRegister(&e)
	thread.Proc.Kill(usr1, thread.UserInfo(usr1, kernel.SIUser))
	select {
	case <-ch:
	case <-time.After(time.Second):
		t.Error("nobody was told")
	}
	d.EventUnregister(&e)
	if d.Readiness(waiter.EventIn)&waiter.EventIn == 0 {
		t.Error("not ready")
	}
	b = mm.KernelBuffer(p)
	if n, err := d.Read(c, &b); n != 128 || err != nil || binary.LittleEndian.Uint32(p) != uint32(unix.SIGUSR1) || binary.LittleEndian.Uint32(p[12:]) != 1 {
		t.Errorf("%d, %v: %v", n, err, p[:24])
	}
	d.Decref()
}

func BenchmarkEpollOneOf1000(b *testing.B) {
	_, e := epoll(b)
	for i := range 1000 {
		initial := uint32(0)
		if i == 500 {
			initial = 1
		}
		e.Add(int32(i), eventfd(b, initial, 0), unix.EPOLLIN, uint64(i))
	}
	var out [16 * SizeofEvent]byte
	var round Round
	b.ReportAllocs()
	for range b.N {
		if e.Collect(out[:], true, &round) != 1 {
			b.Fatal()
		}
	}
}
