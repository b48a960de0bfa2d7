//go:build !elver

package virtio

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"elver/platform/kvm"
	"elver/runtime/metal"
)

// Fake is a device in memory for the tests of drivers. A test plays the device: it takes the chains that the
// driver made available and returns them, or what it likes. It exists on the host alone.
type Fake struct {
	Type    Type
	Offered uint64 // features, beside version 1
	Sizes   []int  // of the queues
	Notices atomic.Int32

	mu        sync.Mutex
	state     uint8
	taken     uint64
	config    []byte
	rings     map[int]*ring
	next      map[int]uint16
	used      map[int]uint16
	changed   bool
	interrupt chan struct{}
}

// NewFake returns a device with that configuration.
func NewFake(typ Type, offered uint64, config []byte, sizes ...int) *Fake {
	return &Fake{Type: typ, Offered: offered, Sizes: sizes, config: config, interrupt: make(chan struct{}, 1)}
}

// Device returns the device as a driver takes it.
func (f *Fake) Device() *Device { return &Device{Type: f.Type, t: fakeTransport{f}, ordered: true} }

// SetConfig changes the configuration from off on.
func (f *Fake) SetConfig(off int, p []byte) {
	f.mu.Lock()
	copy(f.config[off:], p)
	f.changed = true
	f.mu.Unlock()
	f.raise()
}

// Config returns the word of the configuration at off.
func (f *Fake) Config(off int) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return le.Uint32(f.config[off:])
}

// Take takes the next chain of a queue: not ok if there is none.
func (f *Fake) Take(queue int) (head uint32, out, in [][]byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rings[queue]
	if r == nil || uint16(atomic.LoadUint32(r.word(r.available))>>16) == f.next[queue] {
		return 0, nil, nil, false
	}
	head = uint32(le.Uint16(r.memory[r.available+ringHeaderBytes+2*int(f.next[queue]%uint16(r.size)):]))
	f.next[queue]++
	f.setAvailableEvent(r, f.next[queue])
	table, at := r.memory, int(head)
	for {
		d := table[at*descriptorBytes:]
		pa, n, flags, next := le.Uint64(d), int(le.Uint32(d[8:])), le.Uint16(d[12:]), le.Uint16(d[14:])
		switch {
		case flags&descriptorIndirect != 0:
			table, at = metal.View(pa, n), 0
			continue
		case flags&descriptorWrite != 0:
			in = append(in, metal.View(pa, n))
		default:
			out = append(out, metal.View(pa, n))
		}
		if flags&descriptorNext == 0 {
			return head, out, in, true
		}
		at = int(next)
	}
}

// setAvailableEvent asks for a notice of chain number index.
func (f *Fake) setAvailableEvent(r *ring, index uint16) {
	at := r.used + ringHeaderBytes + usedBytes*r.size
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&r.memory[at])), uint32(index))
}

// Return returns a chain, or a number that is none, and interrupts if the driver wants that.
func (f *Fake) Return(queue int, head, written uint32) {
	f.mu.Lock()
	r := f.rings[queue]
	if r == nil {
		f.mu.Unlock()
		return
	}
	p := r.memory[r.used+ringHeaderBytes+usedBytes*int(f.used[queue]%uint16(r.size)):]
	le.PutUint32(p, head)
	le.PutUint32(p[4:], written)
	f.mu.Unlock()
	f.Jump(queue, 1)
}

// Jump moves the used index by n.
func (f *Fake) Jump(queue int, n uint16) {
	f.mu.Lock()
	r := f.rings[queue]
	if r == nil {
		f.mu.Unlock()
		return
	}
	old := f.used[queue]
	f.used[queue] += n
	atomic.SwapUint32(r.word(r.used), uint32(f.used[queue])<<16)
	wanted := true
	if f.taken&FeatureEventIdx != 0 {
		at := r.available + ringHeaderBytes + 2*r.size
		event := uint16(atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.memory[at]))))
		wanted = f.used[queue]-event-1 < f.used[queue]-old
	}
	f.mu.Unlock()
	if wanted {
		f.raise()
	}
}

func (f *Fake) raise() {
	select {
	case f.interrupt <- struct{}{}:
	default:
	}
}

// fakeTransport is a Fake as a transport.
type fakeTransport struct{ f *Fake }

func (t fakeTransport) String() string { return "in memory" }
func (t fakeTransport) legacy() bool   { return false }
func (t fakeTransport) status() uint8 {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	return t.f.state
}

func (t fakeTransport) setStatus(v uint8) {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	t.f.state = v
	if v == 0 {
		t.f.rings, t.f.next, t.f.used = map[int]*ring{}, map[int]uint16{}, map[int]uint16{}
	}
}

func (t fakeTransport) features() uint64     { return t.f.Offered | FeatureVersion1 }
func (t fakeTransport) setFeatures(v uint64) { t.f.taken = v }

func (t fakeTransport) queueSize(i int) int {
	if i >= len(t.f.Sizes) {
		return 0
	}
	return t.f.Sizes[i]
}

func (t fakeTransport) enable(i int, r *ring, _ int) error {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	t.f.rings[i] = r
	return nil
}

func (t fakeTransport) notify(int) {
	t.f.Notices.Add(1)
}

func (t fakeTransport) interrupts(int) ([]kvm.Interrupt, error) {
	return []kvm.Interrupt{fakeLine(t.f.interrupt)}, nil
}

type fakeLine chan struct{}

func (l fakeLine) Wait() { <-l }
func (l fakeLine) Done() {}

func (t fakeTransport) acknowledge() (config bool) {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	config, t.f.changed = t.f.changed, false
	return config
}

func (t fakeTransport) setConfigInterrupt(int) error { return nil }
func (t fakeTransport) configLen() int               { return len(t.f.config) }

func (t fakeTransport) config8(off int) uint8 {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	return t.f.config[off]
}

func (t fakeTransport) setConfig32(off int, v uint32) {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	le.PutUint32(t.f.config[off:], v)
}

func (t fakeTransport) generation() uint32 { return 0 }

// Idle says whether the device has given back all that it took of a queue.
func (f *Fake) Idle(queue int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next[queue] == f.used[queue]
}

// NeedReset has the device say that it works no more until it is reset (virtio 1.2, 2.1.2).
func (f *Fake) NeedReset() {
	f.mu.Lock()
	f.state |= statusNeedsReset
	f.changed = true
	f.mu.Unlock()
	f.raise()
}
