// Package console drives virtio console devices (virtio 1.2, 5.3) as a one-way channel to the host, for logs.
//
// Open starts a device. Its first port, if that is a console (QEMU's virtconsole), takes what is written;
// what the host types there is not read. A device of several ports says only after a while what they are:
// Usable waits for that.
//
// A host that takes nothing must not stop the machine: after a while of that, what is written is dropped and
// counted, until the host takes something again.
//
// Lock order: Console.writing, then Console.mu, a leaf.
package console

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

// Features (5.3.3).
const featureMultiport = 1 << 1

// Queues (5.3.2): those of the first port, and with several ports those that tell of them.
const (
	receiveQueue = iota
	sendQueue
	hearQueue
	tellQueue
)

// Messages about ports (5.3.6.2): number of the port, event, value.
const (
	messageBytes = 8

	deviceReady = 0
	portAdd     = 1
	portRemove  = 2
	portReady   = 3
	consolePort = 4
	portOpen    = 6
)

const (
	frames    = 8   // of what was written and the host has not taken
	slot      = 256 // bytes for a message: one that tells a port's name is longer than others
	heard     = 8   // messages that may come at once
	told      = 8   // and go
	patience  = 2 * time.Second
	soon      = 200 * time.Millisecond
	firstPort = 0
)

// Console is a device.
type Console struct {
	device *virtio.Device
	send   *virtio.Queue
	hear   *virtio.Queue // nil: there is one port, a console
	tell   *virtio.Queue
	free   chan *virtio.Request // frames to write to
	slots  chan *virtio.Request // messages to send
	added  event                // the port is there
	other  event                // another port is
	usable event                // the port is a console

	mu   sync.Mutex // guards what follows
	open bool       // the port is there and a console

	writing sync.Mutex // is held by a writer, and guards what follows
	stalled bool
	dropped int
}

// event is something that happens once: closed when it has.
type event struct {
	once sync.Once
	c    chan struct{}
}

func (e *event) happen() { e.once.Do(func() { close(e.c) }) }

// within waits for it, at most that long, and says whether it has happened.
func (e *event) within(wait time.Duration) bool {
	over := time.NewTimer(wait)
	defer over.Stop()
	select {
	case <-e.c:
		return true
	case <-over.C:
		return e.happened()
	}
}

func (e *event) happened() bool {
	select {
	case <-e.c:
		return true
	default:
		return false
	}
}

// Open starts a device.
func Open(v *virtio.Device) (*Console, error) {
	features, err := v.Start(featureMultiport)
	if err != nil {
		return nil, err
	}
	c := &Console{device: v, free: make(chan *virtio.Request, frames), slots: make(chan *virtio.Request, told)}
	for _, e := range []*event{&c.added, &c.other, &c.usable} {
		e.c = make(chan struct{})
	}
	count := sendQueue + 1
	if features&featureMultiport != 0 {
		count = tellQueue + 1
	}
	queues := make([]*virtio.Queue, tellQueue+1)
	for i := range count {
		if queues[i], err = v.NewQueue(i, 2*frames); err != nil {
			return nil, err
		}
	}
	c.send, c.hear, c.tell = queues[sendQueue], queues[hearQueue], queues[tellQueue]
	if err := v.Run(); err != nil {
		return nil, err
	}
	for range frames {
		pa, ok := metal.AllocFrame(metal.OwnerKernel)
		if !ok {
			break
		}
		c.free <- &virtio.Request{
			Out: []virtio.Buffer{{PA: pa}},
			// A device that failed keeps its frames: it may not have stopped.
			Done: func(r *virtio.Request, _ uint32, err error) {
				if err == nil {
					c.free <- r
				}
			},
		}
	}
	if len(c.free) == 0 {
		v.Stop("there is no memory for it")
		return nil, fmt.Errorf("%v: there is no memory for it", v)
	}
	if c.hear == nil {
		c.use(true)
		return c, nil
	}
	if err := c.listen(); err != nil {
		v.Stop(err.Error())
		return nil, err
	}
	return c, nil
}

// use says whether the port is a console.
func (c *Console) use(open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open = open; open {
		c.usable.happen()
	}
}

// listen begins to hear and tell of the ports.
func (c *Console) listen() error {
	pa, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return fmt.Errorf("%v: there is no memory for it", c.device)
	}
	for i := range heard {
		at := pa + uint64(i*slot)
		r := &virtio.Request{In: []virtio.Buffer{{PA: at, Len: slot}}}
		r.Done = func(r *virtio.Request, written uint32, err error) {
			if err != nil {
				return
			}
			c.hears(metal.View(at, int(written)))
			if c.hear.Add(r) == nil {
				c.hear.Notify()
			}
		}
		if err := c.hear.Add(r); err != nil {
			return err
		}
	}
	for i := range told {
		c.slots <- &virtio.Request{
			Out: []virtio.Buffer{{PA: pa + uint64((heard+i)*slot), Len: messageBytes}},
			Done: func(r *virtio.Request, _ uint32, err error) {
				if err == nil {
					c.slots <- r
				}
			},
		}
	}
	c.hear.Notify()
	c.say(firstPort, deviceReady)
	return nil
}

// hears has a message of the device's.
func (c *Console) hears(p []byte) {
	if len(p) < messageBytes {
		return
	}
	port, what := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint16(p[4:])
	if port != firstPort {
		if what == portAdd {
			c.other.happen()
		}
		return
	}
	switch what {
	case portAdd:
		c.added.happen()
		c.say(firstPort, portReady)
	case portRemove:
		c.use(false)
	case consolePort:
		c.say(firstPort, portOpen)
		c.use(true)
	}
}

// say tells the device that something is so. A device that takes no messages hears no more of them.
func (c *Console) say(port uint32, event uint16) {
	select {
	case r := <-c.slots:
		p := metal.View(r.Out[0].PA, messageBytes)
		binary.LittleEndian.PutUint32(p, port)
		binary.LittleEndian.PutUint16(p[4:], event)
		binary.LittleEndian.PutUint16(p[6:], 1)
		if c.tell.Add(r) == nil {
			c.tell.Notify()
		}
	default:
	}
}

// Usable says whether there is a console to write to, and waits until that is known, at most that long. A
// device tells of all its ports at once: when another one is known, the first follows soon or isn't there.
func (c *Console) Usable(wait time.Duration) bool {
	over := time.NewTimer(wait)
	defer over.Stop()
	select {
	case <-c.usable.c:
		return true
	case <-c.other.c:
		return c.added.within(soon) && c.usable.within(wait)
	case <-over.C:
		return c.usable.happened()
	}
}

// Write sends p to the host, as far as that takes it. It cannot fail.
func (c *Console) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	n := len(p)
	c.mu.Lock()
	open := c.open
	c.mu.Unlock()
	for len(p) > 0 {
		var r *virtio.Request
		if open {
			r = c.take()
		}
		if r == nil {
			c.dropped += len(p)
			break
		}
		if c.dropped > 0 {
			p = append(fmt.Appendf(nil, "\n[%d bytes of the log were lost: the host took nothing]\n", c.dropped), p...)
			c.dropped = 0
		}
		b := &r.Out[0]
		k := copy(metal.View(b.PA, metal.FrameSize), p)
		b.Len = uint32(k)
		if c.send.Add(r) != nil {
			break // the device failed
		}
		c.send.Notify()
		p = p[k:]
	}
	return n, nil
}

// take returns a frame to write to, nil if the host has taken none for long. Precondition: writing is held.
func (c *Console) take() *virtio.Request {
	select {
	case r := <-c.free:
		c.stalled = false
		return r
	default:
	}
	if c.stalled {
		return nil
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case r := <-c.free:
		return r
	case <-over.C:
		c.stalled = true
		return nil
	}
}

// Drain waits until the host has what was written, or a while.
func (c *Console) Drain() {
	c.writing.Lock()
	defer c.writing.Unlock()
	for at := time.Now(); c.send.Outstanding() > 0 && !c.stalled && time.Since(at) < patience; {
		c.send.Poll()
		time.Sleep(time.Millisecond)
	}
}
