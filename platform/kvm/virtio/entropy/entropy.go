// Package entropy drives virtio entropy devices (virtio 1.2, 5.4): the host's random bytes.
//
// Open starts a device. Take takes what the device has given and asks for more; it never blocks, and the
// source, a waiter.Waitable, is readable when there is something to take.
//
// Lock order: Source.mu is a leaf.
package entropy

import (
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

// portion is how many bytes the device is asked for at once.
const portion = 512

// Source is an entropy device.
type Source struct {
	device  *virtio.Device
	queue   *virtio.Queue
	changed waiter.Queue
	frame   uint64
	request virtio.Request

	mu     sync.Mutex // guards what follows
	have   []byte     // of the frame: what was not taken yet
	asked  bool       // the device has the frame
	failed error
}

// Open starts a device.
func Open(v *virtio.Device) (*Source, error) {
	if _, err := v.Start(0); err != nil {
		return nil, err
	}
	q, err := v.NewQueue(0, 1)
	if err != nil {
		return nil, err
	}
	frame, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return nil, fmt.Errorf("%v: there is no memory for it", v)
	}
	if err := v.Run(); err != nil {
		metal.Unref(frame)
		return nil, err
	}
	s := &Source{device: v, queue: q, frame: frame}
	s.request.In = []virtio.Buffer{{PA: frame, Len: portion}}
	s.request.Done = s.came
	return s, nil
}

// came has what the device wrote. One that gives nothing breaks the rules (5.4.6.2), and would be asked for
// ever.
func (s *Source) came(_ *virtio.Request, written uint32, err error) {
	if err == nil && written == 0 {
		go s.device.Stop("it gave no random bytes")
		err = virtio.ErrBroken
	}
	s.mu.Lock()
	s.asked = false
	if err != nil {
		s.failed = err
	} else {
		s.have = metal.View(s.frame, int(written))
	}
	s.mu.Unlock()
	s.changed.Notify(waiter.ReadableEvents)
}

// Take moves random bytes into p, which nobody else gets, and returns how many: 0 if none are there yet.
// An error that wraps virtio.ErrBroken: there will be no more.
func (s *Source) Take(p []byte) (int, error) {
	s.mu.Lock()
	n := copy(p, s.have)
	clear(s.have[:n])
	s.have = s.have[n:]
	err := s.failed
	ask := err == nil && len(s.have) == 0 && !s.asked
	s.asked = s.asked || ask
	s.mu.Unlock()
	if ask {
		if err = s.queue.Add(&s.request); err == nil {
			s.queue.Notify()
		} else {
			s.mu.Lock()
			s.asked, s.failed = false, err
			s.mu.Unlock()
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// Readiness says whether Take has something to say.
func (s *Source) Readiness(mask waiter.EventMask) waiter.EventMask {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.have) == 0 && s.failed == nil {
		return 0
	}
	return mask & waiter.ReadableEvents
}

// EventRegister has e told when there is something to take.
func (s *Source) EventRegister(e *waiter.Entry) error {
	s.changed.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (s *Source) EventUnregister(e *waiter.Entry) { s.changed.EventUnregister(e) }

// Fill fills p, and gives up after a while: for who is no program.
func (s *Source) Fill(p []byte, patience time.Duration) error {
	e, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	s.changed.EventRegister(&e)
	defer s.changed.EventUnregister(&e)
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		n, err := s.Take(p)
		if err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if n > 0 {
			continue
		}
		select {
		case <-ready:
		case <-over.C:
			return fmt.Errorf("%v: it gave no random bytes within %v", s.device, patience)
		}
	}
}
