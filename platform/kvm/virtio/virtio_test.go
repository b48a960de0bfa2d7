package virtio

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"elver/platform/kvm"
	"elver/runtime/metal"
)

// fakeDevice is a device in memory, with one queue. It answers a request by writing the sum of the bytes
// that it reads into the first byte that it may write, and says that it wrote all.
type fakeDevice struct {
	mu        sync.Mutex
	state     uint8
	offered   uint64
	taken     uint64
	old       bool
	ring      *ring
	next      uint16   // of the available ring
	held      []uint16 // heads that were taken and not returned
	used      uint16
	config    []byte
	interrupt chan struct{}
	mute      bool // no interrupts
	deaf      int  // so many notifications are lost
	lazy      bool // answers only by flush
	outOfTurn bool

	notices, interrupted int
}

func newFake(features uint64) *fakeDevice {
	return &fakeDevice{offered: features | FeatureVersion1, interrupt: make(chan struct{}, 1), config: []byte{1, 2, 3, 4}}
}

func (f *fakeDevice) String() string { return "in memory" }
func (f *fakeDevice) legacy() bool   { return f.old }
func (f *fakeDevice) status() uint8 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeDevice) setStatus(v uint8) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = v
	if v == 0 {
		f.ring, f.next, f.used, f.held = nil, 0, 0, nil
	}
	if v&statusFeaturesOK != 0 && f.taken&FeatureVersion1 == 0 {
		f.state &^= statusFeaturesOK
	}
}

func (f *fakeDevice) features() uint64     { return f.offered }
func (f *fakeDevice) setFeatures(v uint64) { f.taken = v }
func (f *fakeDevice) queueSize(i int) int {
	if i > 0 {
		return 0
	}
	return 64
}

func (f *fakeDevice) enable(_ int, r *ring, _ int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring = r
	return nil
}

func (f *fakeDevice) interrupts(int) ([]kvm.Interrupt, error) {
	return []kvm.Interrupt{fakeInterrupt(f.interrupt)}, nil
}

type fakeInterrupt chan struct{}

func (i fakeInterrupt) Wait() { <-i }
func (i fakeInterrupt) Done() {}

func (f *fakeDevice) acknowledge() bool             { return false }
func (f *fakeDevice) setConfigInterrupt(int) error  { return nil }
func (f *fakeDevice) configLen() int                { return len(f.config) }
func (f *fakeDevice) config8(off int) uint8         { return f.config[off] }
func (f *fakeDevice) setConfig32(off int, v uint32) { le.PutUint32(f.config[off:], v) }
func (f *fakeDevice) generation() uint32            { return 0 }

func (f *fakeDevice) notify(int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf > 0 {
		f.deaf--
		return
	}
	f.notices++
	f.fetch()
	if !f.lazy {
		f.flush()
	}
	if f.ring != nil && f.taken&FeatureEventIdx != 0 {
		// Tell me of the next one.
		at := f.ring.used + 4 + usedBytes*f.ring.size
		atomic.StoreUint32((*uint32)(unsafe.Pointer(&f.ring.memory[at])), uint32(f.next))
		f.fetch()
		if !f.lazy {
			f.flush()
		}
	}
}

func (f *fakeDevice) fetch() {
	if f.ring == nil {
		return
	}
	index := uint16(atomic.LoadUint32(f.ring.word(f.ring.available)) >> 16)
	for ; f.next != index; f.next++ {
		at := f.ring.available + 4 + 2*int(f.next%uint16(f.ring.size))
		f.held = append(f.held, le.Uint16(f.ring.memory[at:]))
	}
}

func (f *fakeDevice) flush() {
	if f.outOfTurn {
		rand.Shuffle(len(f.held), func(a, b int) { f.held[a], f.held[b] = f.held[b], f.held[a] })
	}
	for _, head := range f.held {
		f.put(uint32(head), f.answer(head))
	}
	f.held = nil
}

// put returns a request.
func (f *fakeDevice) put(head, written uint32) {
	p := f.ring.memory[f.ring.used+4+usedBytes*int(f.used%uint16(f.ring.size)):]
	le.PutUint32(p, head)
	le.PutUint32(p[4:], written)
	f.used++
	f.setUsed(f.used)
}

func (f *fakeDevice) setUsed(index uint16) {
	old := uint16(atomic.SwapUint32(f.ring.word(f.ring.used), uint32(index)<<16) >> 16)
	wanted := atomic.LoadUint32(f.ring.word(f.ring.available))&availableNoInterrupt == 0
	if f.taken&FeatureEventIdx != 0 {
		event := uint16(atomic.LoadUint32((*uint32)(unsafe.Pointer(&f.ring.memory[f.ring.available+4+2*f.ring.size]))))
		wanted = index-event-1 < index-old
	}
	if wanted {
		f.interrupted++
	}
	if !f.mute && wanted {
		select {
		case f.interrupt <- struct{}{}:
		default:
		}
	}
}

func (f *fakeDevice) answer(head uint16) (written uint32) {
	table, at := f.ring.memory, int(head)
	var sum byte
	first := true
	for {
		d := table[at*descriptorBytes:]
		pa, n, flags, next := le.Uint64(d), le.Uint32(d[8:]), le.Uint16(d[12:]), le.Uint16(d[14:])
		switch {
		case flags&descriptorIndirect != 0:
			table, at = metal.View(pa, int(n)), 0
			continue
		case flags&descriptorWrite == 0:
			for _, b := range metal.View(pa, int(n)) {
				sum += b
			}
		default:
			if first {
				metal.View(pa, 1)[0] = sum
				first = false
			}
			written += n
		}
		if flags&descriptorNext == 0 {
			return written
		}
		at = int(next)
	}
}

func startFake(t *testing.T, f *fakeDevice) (*Device, *Queue) {
	t.Helper()
	frames := metal.Frames().ByOwner[metal.OwnerKernel]
	d := &Device{Type: NineP, t: f, ordered: true}
	if _, err := d.Start(FeatureIndirect | FeatureEventIdx); err != nil {
		t.Fatal(err)
	}
	q, err := d.NewQueue(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Stop("the test is over")
		if after := metal.Frames().ByOwner[metal.OwnerKernel]; after != frames {
			t.Errorf("%d frames, before there were %d", after, frames)
		}
	})
	return d, q
}

// exchange sends n pieces and checks the answer.
func exchange(t *testing.T, q *Queue, n int) error {
	frame, _ := metal.AllocFrame(metal.OwnerPageCache)
	defer metal.Unref(frame)
	view := metal.View(frame, 4096)
	var sum byte
	r := &Request{}
	for k := range n {
		view[k] = byte(rand.Uint32())
		sum += view[k]
		r.Out = append(r.Out, Buffer{frame + uint64(k), 1})
	}
	for k := range n {
		r.In = append(r.In, Buffer{frame + 2048 + uint64(k), 1})
	}
	result := make(chan error, 1)
	r.Done = func(_ *Request, written uint32, err error) {
		if err == nil && int(written) != n {
			t.Errorf("%d bytes were written, of %d", written, n)
		}
		result <- err
	}
	if err := q.Submit(r); err != nil {
		return err
	}
	select {
	case err := <-result:
		if err == nil && view[2048] != sum {
			t.Errorf("the answer is %d, not %d", view[2048], sum)
		}
		return err
	case <-time.After(10 * time.Second):
		t.Error("no answer")
		return nil
	}
}

func TestRequests(t *testing.T) {
	for name, features := range map[string]uint64{
		"direct": 0, "indirect": FeatureIndirect, "events": FeatureEventIdx, "both": FeatureIndirect | FeatureEventIdx,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(features)
			f.outOfTurn = true
			_, q := startFake(t, f)
			var group sync.WaitGroup
			for g := range 50 {
				group.Go(func() {
					for k := range 100 {
						if err := exchange(t, q, 1+(g+k)%(q.Limit()/2)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			if q.freeCount != q.Size() || q.Outstanding() != 0 {
				t.Errorf("%d of %d descriptors are free, %d requests outstanding", q.freeCount, q.Size(), q.Outstanding())
			}
			if err := q.Add(&Request{}); err == nil {
				t.Error("a request without buffers is taken")
			}
		})
	}
}

// What gets lost costs milliseconds.
func TestLostNotifications(t *testing.T) {
	f := newFake(0)
	f.mute = true
	_, q := startFake(t, f)
	for range 5 {
		if err := exchange(t, q, 3); err != nil {
			t.Error(err)
		}
	}
	f.mu.Lock()
	f.deaf = 3
	f.mu.Unlock()
	if err := exchange(t, q, 3); err != nil {
		t.Error(err)
	}
}

func TestHostileDevice(t *testing.T) {
	for name, act := range map[string]func(f *fakeDevice){
		"a request that isn't there": func(f *fakeDevice) { f.put(uint32(f.held[0])+1, 1) },
		"a number that is none":      func(f *fakeDevice) { f.put(0xffffffff, 1) },
		"one too often":              func(f *fakeDevice) { f.put(uint32(f.held[0]), f.answer(f.held[0])); f.put(uint32(f.held[0]), 1) },
		"too many":                   func(f *fakeDevice) { f.setUsed(f.used + 40) },
		"backwards":                  func(f *fakeDevice) { f.setUsed(f.used - 1) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(0)
			f.lazy = true
			_, q := startFake(t, f)
			done := make(chan error, 3)
			for range 2 {
				go func() { done <- exchange(t, q, 2) }()
			}
			for {
				f.mu.Lock()
				if len(f.held) == 2 {
					act(f)
					f.mu.Unlock()
					break
				}
				f.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
			failed := 0
			for range 2 {
				if errors.Is(<-done, ErrBroken) {
					failed++
				}
			}
			if failed == 0 {
				t.Error("nothing failed")
			}
			if err := exchange(t, q, 1); !errors.Is(err, ErrBroken) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
	t.Run("a length that lies", func(t *testing.T) {
		f := newFake(0)
		f.lazy = true
		_, q := startFake(t, f)
		frame, _ := metal.AllocFrame(metal.OwnerPageCache)
		defer metal.Unref(frame)
		done := make(chan uint32, 1)
		r := &Request{In: []Buffer{{frame, 10}}, Done: func(_ *Request, n uint32, _ error) { done <- n }}
		if err := q.Submit(r); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.put(uint32(f.held[0]), 1<<31)
		f.mu.Unlock()
		if n := <-done; n != 10 {
			t.Errorf("%d bytes", n)
		}
	})
}

// A quiet queue brings no interrupt until somebody listens, and a device that keeps up needs no notices.
func TestSuppression(t *testing.T) {
	t.Run("events", func(t *testing.T) { testSuppression(t, FeatureEventIdx) })
	t.Run("flags", func(t *testing.T) { testSuppression(t, 0) })
}

func testSuppression(t *testing.T, features uint64) {
	f := newFake(features)
	f.lazy = true
	_, q := startFake(t, f)
	q.SetQuiet()
	frame, _ := metal.AllocFrame(metal.OwnerPageCache)
	defer metal.Unref(frame)
	var done atomic.Int32
	request := func() *Request {
		return &Request{Out: []Buffer{{frame, 1}}, Done: func(*Request, uint32, error) { done.Add(1) }}
	}
	for range 3 {
		if err := q.Submit(request()); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	f.flush()
	if f.interrupted != 0 || f.notices != 3 {
		t.Errorf("%d interrupts, %d notices", f.interrupted, f.notices)
	}
	f.mu.Unlock()
	q.Poll()
	if done.Load() != 3 {
		t.Errorf("%d requests are done", done.Load())
	}
	q.Listen()
	if err := q.Add(request()); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.fetch() // unasked
	f.flush()
	if f.interrupted != 1 {
		t.Errorf("%d interrupts of one", f.interrupted)
	}
	f.mu.Unlock()
	for deadline := time.Now().Add(10 * time.Second); done.Load() != 4 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if done.Load() != 4 {
		t.Error("the interrupt had no effect")
	}
}

func TestNegotiation(t *testing.T) {
	f := newFake(FeatureEventIdx | FeatureIndirect | 1)
	d := &Device{t: f}
	got, err := d.Start(FeatureEventIdx | 3)
	if err != nil || got != FeatureVersion1|1 {
		t.Errorf("%#x, %v", got, err)
	}
	var p [4]byte
	if err := d.Config(1, p[:3]); err != nil || p != [4]byte{2, 3, 4} {
		t.Errorf("%v, %v", p, err)
	}
	if err := d.Config(1, p[:]); err == nil {
		t.Error("more configuration than there is")
	}
	if _, err := d.NewQueue(1, 0); err == nil {
		t.Error("a queue that isn't there")
	}
	d.ordered = true
	if got, err := d.Start(FeatureEventIdx | 3); err != nil || got != FeatureVersion1|FeatureEventIdx|1 {
		t.Errorf("%#x, %v", got, err)
	}
	f.offered = 0
	if _, err := d.Start(0); err == nil {
		t.Error("a device without version 1 was taken")
	}
	f.old = true
	if got, err := d.Start(0xf00000000); err != nil || got != 0 {
		t.Errorf("%#x, %v", got, err)
	}
}

// A device that asks to be reset has no interrupt for it here: the watch over the queue sees it.
func TestNeedsReset(t *testing.T) {
	f := newFake(0)
	f.lazy = true
	_, q := startFake(t, f)
	done := make(chan error, 1)
	go func() { done <- exchange(t, q, 2) }()
	f.mu.Lock()
	f.state |= statusNeedsReset
	f.mu.Unlock()
	if err := <-done; !errors.Is(err, ErrBroken) {
		t.Errorf("%v", err)
	}
}

// An idle queue is checked ever more seldom, and often again as soon as something happens.
func TestIdleWatch(t *testing.T) {
	f := newFake(0)
	f.lazy = true
	_, q := startFake(t, f)
	frame, _ := metal.AllocFrame(metal.OwnerPageCache)
	defer metal.Unref(frame)
	add := func() {
		r := &Request{In: []Buffer{{frame, 1}}, Done: func(*Request, uint32, error) {}}
		if err := q.Submit(r); err != nil {
			t.Fatal(err)
		}
	}
	at := func() time.Duration {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.watchAt
	}
	add()
	for deadline := time.Now().Add(30 * time.Second); at() < 4*firstWatch && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if at() < 4*firstWatch {
		t.Error("an idle queue is checked all the time")
	}
	q.mu.Lock()
	q.watch(lastWatch)
	q.mu.Unlock()
	if add(); at() > busyWatch {
		t.Errorf("the next check is in %v", at())
	}
}
