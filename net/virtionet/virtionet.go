// Package virtionet drives virtio network devices (virtio 1.2, 5.1) as links of netstack.
//
// A frame is copied once each way, between netstack's buffers and frames of the driver's. Received frames
// are delivered in batches on a goroutine of the link's own, and the device is told of new buffers once
// a batch. Nothing is offloaded to the device yet.
//
// Lock order: Link.mu is a leaf.
package virtionet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

// Features (5.1.3).
const (
	featureMTU       = 1 << 3
	featureMAC       = 1 << 5
	featureMergeable = 1 << 15
)

// Sizes in bytes of the header before a frame: the short one is that of devices before virtio 1.0
// without mergeable buffers (5.1.6).
const (
	headerSize      = 12
	shortHeaderSize = 10
)

// Offsets in the configuration (5.1.4).
const (
	configMAC = 0
	configMTU = 10
)

// Queues (5.1.2).
const (
	receiveQueue = 0
	sendQueue    = 1
)

const (
	defaultMTU = 1500
	maxMTU     = metal.FrameSize - headerSize - header.EthernetMinimumSize
	mostFrames = 128 // of a queue
)

// slot is a request with a frame of memory.
type slot struct {
	request virtio.Request
	pa      uint64
	written uint32
	err     error
}

// Link is a network card.
type Link struct {
	device        *virtio.Device
	receive, send *virtio.Queue
	mac           tcpip.LinkAddress
	mtu           uint32
	header        int
	arrived       chan struct{} // holds a token when received isn't empty

	mu         sync.Mutex // guards what follows
	dispatcher stack.NetworkDispatcher
	received   []*slot
	idle       []*slot // for sending
}

// Open starts a device, and returns it as an Ethernet link.
func Open(v *virtio.Device) (stack.LinkEndpoint, error) {
	features, err := v.Start(virtio.FeatureIndirect | featureMAC | featureMTU | featureMergeable)
	if err != nil {
		return nil, err
	}
	l := &Link{device: v, mtu: defaultMTU, header: headerSize, arrived: make(chan struct{}, 1)}
	if v.Legacy() && features&featureMergeable == 0 {
		l.header = shortHeaderSize
	}
	if err := l.configure(features); err != nil {
		return nil, err
	}
	if l.receive, err = v.NewQueue(receiveQueue, mostFrames); err != nil {
		return nil, err
	}
	if l.send, err = v.NewQueue(sendQueue, mostFrames); err != nil {
		return nil, err
	}
	if err := v.Run(); err != nil {
		return nil, err
	}
	for range l.send.Size() {
		s, err := newSlot()
		if err != nil {
			break
		}
		s.request.Done = func(*virtio.Request, uint32, error) { l.sent(s) }
		l.idle = append(l.idle, s)
	}
	buffers := 0
	for range l.receive.Size() {
		s, err := newSlot()
		if err != nil {
			break
		}
		s.request.In = []virtio.Buffer{{PA: s.pa, Len: metal.FrameSize}}
		s.request.Done = func(_ *virtio.Request, n uint32, err error) { l.came(s, n, err) }
		if err := l.receive.Add(&s.request); err != nil {
			return nil, err
		}
		buffers++
	}
	if buffers == 0 || len(l.idle) == 0 {
		v.Stop("there is no memory for its frames")
		return nil, errors.New("there is no memory for the frames of the network card: pass a larger -m")
	}
	l.receive.Notify()
	go l.deliver()
	return ethernet.New(l), nil
}

// configure reads the address and the MTU.
func (l *Link) configure(features uint64) error {
	if features&featureMAC == 0 {
		return fmt.Errorf("%v: a network card without an address", l.device)
	}
	var mac [header.EthernetAddressSize]byte
	if err := l.device.Config(configMAC, mac[:]); err != nil {
		return err
	}
	l.mac = tcpip.LinkAddress(mac[:])
	if features&featureMTU == 0 {
		return nil
	}
	var mtu [2]byte
	if err := l.device.Config(configMTU, mtu[:]); err != nil {
		return err
	}
	if v := uint32(binary.LittleEndian.Uint16(mtu[:])); v >= header.IPv4MinimumMTU {
		l.mtu = min(v, maxMTU)
	}
	return nil
}

func newSlot() (*slot, error) {
	pa, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return nil, errors.New("virtionet: no frame")
	}
	return &slot{pa: pa}, nil
}

// sent takes a frame back that the device has sent.
func (l *Link) sent(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, s)
}

// came queues a received frame for the link's goroutine.
func (l *Link) came(s *slot, n uint32, err error) {
	l.mu.Lock()
	s.written, s.err = n, err
	l.received = append(l.received, s)
	l.mu.Unlock()
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

// deliver hands received frames to the stack, for ever or until the device fails.
func (l *Link) deliver() {
	var batch []*slot
	for range l.arrived {
		l.mu.Lock()
		batch, l.received = l.received, batch[:0]
		d := l.dispatcher
		l.mu.Unlock()
		for _, s := range batch {
			if s.err != nil {
				return
			}
			if pkt := l.packet(s); pkt != nil && d != nil {
				d.DeliverNetworkPacket(0, pkt)
				pkt.DecRef()
			}
			if err := l.receive.Add(&s.request); err != nil {
				return
			}
		}
		l.receive.Notify()
		metal.CondResched()
	}
}

// packet copies a received frame, and returns nil if it is none. A frame always fits in one buffer, since
// the device was offered no segmentation.
func (l *Link) packet(s *slot) *stack.PacketBuffer {
	n := min(int(s.written), metal.FrameSize)
	if n < l.header+header.EthernetMinimumSize {
		return nil
	}
	view := buffer.NewViewWithData(metal.View(s.pa, n)[l.header:])
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
}

// take returns a frame to send in.
func (l *Link) take() *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.idle) == 0 {
		return nil
	}
	s := l.idle[len(l.idle)-1]
	l.idle = l.idle[:len(l.idle)-1]
	return s
}

// WritePackets sends packets: ErrNoBufferSpace when the device is behind.
func (l *Link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	var failure tcpip.Error
	for _, pkt := range list.AsSlice() {
		s := l.take()
		if s == nil {
			l.send.Notify()
			l.send.Poll()
			if s = l.take(); s == nil {
				failure = &tcpip.ErrNoBufferSpace{}
				break
			}
		}
		if l.header+pkt.Size() > metal.FrameSize {
			l.sent(s)
			failure = &tcpip.ErrMessageTooLong{}
			break
		}
		to := metal.View(s.pa, metal.FrameSize)
		clear(to[:l.header])
		at := l.header
		for _, part := range pkt.AsSlices() {
			at += copy(to[at:], part)
		}
		s.request.Out = append(s.request.Out[:0], virtio.Buffer{PA: s.pa, Len: uint32(at)})
		if err := l.send.Add(&s.request); err != nil {
			l.sent(s)
			failure = &tcpip.ErrNoBufferSpace{}
			break
		}
		n++
	}
	l.send.Notify()
	return n, failure
}

// Attach has received packets go to d.
func (l *Link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached says whether packets go anywhere.
func (l *Link) IsAttached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dispatcher != nil
}

// MTU returns how long a frame may be, with its Ethernet header.
func (l *Link) MTU() uint32 { return l.mtu + header.EthernetMinimumSize }

// SetMTU does nothing: the device says what it takes.
func (*Link) SetMTU(uint32) {}

// MaxHeaderLength returns 0: the header that the device wants is in no packet.
func (*Link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress returns the card's address.
func (l *Link) LinkAddress() tcpip.LinkAddress { return l.mac }

// SetLinkAddress does nothing.
func (*Link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities returns none.
func (*Link) Capabilities() stack.LinkEndpointCapabilities { return 0 }

// ARPHardwareType says Ethernet.
func (*Link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader does nothing: Ethernet's is added above.
func (*Link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader does nothing.
func (*Link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Wait returns at once: the link lives as long as the machine.
func (*Link) Wait() {}

// Close does nothing.
func (*Link) Close() {}

// SetOnCloseAction does nothing.
func (*Link) SetOnCloseAction(func()) {}
