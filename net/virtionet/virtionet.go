// Package virtionet drives virtio network devices (virtio 1.2, 5.1) as links of netstack.
//
// A packet is copied once each way, between netstack's buffers and frames of the driver's, but large ones that are
// received stay where they are until a program reads them, and what programs write much of at once is written into
// blocks of the driver's that the device reads. Segments of TCP to send come in
// pieces, without a packet made of them (see netstack's Straight). Where the device
// does checksums and segmentation, TCP's packets of up to 64 KiB cross it as they are. Received packets are
// delivered in batches on the goroutine that serves the interrupt, with interrupts off until there are no
// more; frames that were sent are taken back when the next ones are, without an interrupt.
//
// The device is trusted with little: what it says about a packet is checked before it is believed, but for
// its word that a checksum is right, and it leaves alone what it has passed.
//
// Lock order: Link.mu is a leaf.
package virtionet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"elver/kernel/klog"
	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

// Features (5.1.3).
const (
	featureChecksum      = 1 << 0 // the device completes checksums
	featureGuestChecksum = 1 << 1 // and may leave them to be completed
	featureMTU           = 1 << 3
	featureMAC           = 1 << 5
	featureGuestTSO4     = 1 << 7 // the device may pass large packets of TCP
	featureGuestTSO6     = 1 << 8
	featureHostTSO4      = 1 << 11 // and takes them
	featureHostTSO6      = 1 << 12
	featureMergeable     = 1 << 15 // a packet may lie in several buffers
	featureStatus        = 1 << 16
)

// wanted is what the driver makes use of. Large packets need the buffers of several frames.
const wanted = virtio.FeatureIndirect | virtio.FeatureEventIdx | featureChecksum | featureGuestChecksum | featureMTU |
	featureMAC | featureGuestTSO4 | featureGuestTSO6 | featureHostTSO4 | featureHostTSO6 | featureMergeable | featureStatus

// Offsets in the configuration (5.1.4).
const (
	configMAC    = 0
	configStatus = 6
	configMTU    = 10

	statusUp = 1 << 0
)

// Queues (5.1.2).
const (
	receiveQueue = 0
	sendQueue    = 1
)

const (
	defaultMTU = 1500
	// largestPacket is what a device may pass at most: 64 KiB of IP, and Ethernet's header.
	largestPacket = 1<<16 + header.EthernetMinimumSize
	mostFrames    = 128 // that wait to be received in
	fewestFrames  = 16
	// largeBuffer is the size of a buffer that takes any packet with its header. One is cheaper to handle than many frames,
	// and what comes in it needn't be copied. There are as many as fit hugeBuffers times 2 MiB, if that is little.
	largeBuffer = largestPacket/metal.FrameSize*metal.FrameSize + metal.FrameSize
	hugeBuffers = 2
	// worthLending is how large a packet is whose buffer is lent to those who get it, until they have read it.
	worthLending = 16 << 10
	mostSending  = 512 // frames to send in: eight large packets and many small ones
	// blockSize is how large the blocks are that netstack gets for what programs write: the device reads them where they
	// are, until the packet has been sent.
	blockSize = 1 << 16

	// What was sent is taken back when this many packets or frames are not enough: many at a time.
	fewSending = 16
)

// How long a packet waits for the device to take others: longer than any that works needs.
const (
	roomTries = 8
	roomWait  = 10 * time.Millisecond
)

// inbound is a buffer to receive in: a frame, or a large one.
type inbound struct {
	request virtio.Request
	memory  []byte
	written uint32
	lend    func(from, to int) *buffer.View // nil until it is lent
}

// outbound is a packet that is being sent, or one that is no more: that keeps a frame for the next.
type outbound struct {
	request virtio.Request
	frames  []uint64
	holding bool
	held    buffer.Buffer // whose bytes the device reads
}

// Link is a network card.
type Link struct {
	device        *virtio.Device
	receive, send *virtio.Queue
	mac           tcpip.LinkAddress
	header        int
	mergeable     bool
	large         bool // packets come that are larger than the MTU
	segments      bool // the device cuts large packets
	maxMTU        uint32
	mtu           atomic.Uint32
	down          atomic.Bool
	dispatcher    atomic.Pointer[stack.NetworkDispatcher]
	taker         atomic.Pointer[taker]
	lender        atomic.Pointer[lender]
	blocks        []byte // what is read where it is, in one piece of memory
	blocksAt      uint64
	given         atomic.Bool // the blocks
	onStatus      atomic.Pointer[func()]

	// The goroutine that polls the receive queue has these.
	received []*inbound
	buffers  []*inbound // all of them
	memory   []uint64   // what they lie in
	partial  partial
	checked  atomic.Bool // the packet that is delivered now has a good checksum
	lent     atomic.Int32
	holding  atomic.Int32 // packets that the device reads in blocks

	lost sync.Once     // says so
	room chan struct{} // holds a token when frames came back that somebody waited for

	mu        sync.Mutex // guards what follows
	idle      []*outbound
	made      int      // of them, and of those that are being sent
	frames    []uint64 // to send in
	allocated int
	most      int // of allocated
	waiting   int
	closed    bool
}

// Open starts a device, and returns it as an Ethernet link.
func Open(v *virtio.Device) (stack.LinkEndpoint, error) {
	l, err := open(v)
	if err != nil {
		return nil, err
	}
	return Ethernet{ethernet.New(l), l}, nil
}

// A taker takes the frames that it can deal with as they are, so that no packet is made of them: the kernel's
// netstack does (TakeFrame in runtime/_gvisor). It takes what it returns true for.
type taker interface {
	TakeFrame(frame *buffer.View, checked bool) bool
}

// A lender makes views of memory that isn't the Go heap's, as netstack does in the kernel: what lend returns makes one
// of a part. When nobody has that any more, the memory comes back.
type lender interface {
	Lend(memory []byte, back func()) (lend func(from, to int) *buffer.View)
}

// A keeper takes blocks of memory for what programs write that is to be sent by HoldFrame.
type keeper interface {
	Keep(blocks [][]byte)
}

// Ethernet is a card as netstack sees it.
type Ethernet struct {
	*ethernet.Endpoint
	card *Link
}

// Attach has received frames go to d.
func (e Ethernet) Attach(d stack.NetworkDispatcher) {
	if t, ok := d.(taker); ok {
		e.card.taker.Store(&t)
	} else {
		e.card.taker.Store(nil)
	}
	if t, ok := d.(lender); ok {
		e.card.lender.Store(&t)
	} else {
		e.card.lender.Store(nil)
	}
	if k, ok := d.(keeper); ok && !e.card.given.Swap(true) {
		k.Keep(slices.Collect(slices.Chunk(e.card.blocks, blockSize)))
	}
	e.Endpoint.Attach(d)
}

// GSOMaxSize returns how large a packet may be that is cut later.
func (Ethernet) GSOMaxSize() uint32 { return stack.GVisorGSOMaxSize }

// SupportedGSO says who cuts large packets: the device if it can.
func (e Ethernet) SupportedGSO() stack.SupportedGSO {
	if e.card.segments {
		return stack.HostGSOSupported
	}
	return stack.GVisorGSOSupported
}

// WriteFrame sends a frame in pieces.
func (e Ethernet) WriteFrame(pieces [][]byte, gso *stack.GSO) tcpip.Error {
	return e.card.WriteFrame(pieces, gso)
}

// HoldFrame sends a frame in pieces of which those after the first are in blocks, and are the bytes of data: the
// device reads them there. It returns false if it can't, and then nothing has happened.
func (e Ethernet) HoldFrame(pieces [][]byte, gso *stack.GSO, data stack.PacketData) (bool, tcpip.Error) {
	return e.card.hold(pieces, gso, data)
}

// HasRoom says whether a few frames can be sent at once, so that whoever may not wait sends them.
func (e Ethernet) HasRoom() bool { return e.card.hasRoom() }

// Up says whether the cable is plugged in.
func (e Ethernet) Up() bool { return !e.card.down.Load() }

// OnStatus has f called when Up may have changed.
func (e Ethernet) OnStatus(f func()) { e.card.onStatus.Store(&f) }

func open(v *virtio.Device) (*Link, error) {
	features, err := v.Start(wanted)
	if err == nil && features&featureMergeable == 0 && features&(featureGuestTSO4|featureGuestTSO6) != 0 {
		features, err = v.Start(wanted &^ (featureGuestTSO4 | featureGuestTSO6))
	}
	if err != nil {
		return nil, err
	}
	l := &Link{
		device: v, header: headerSize, mergeable: features&featureMergeable != 0,
		large: features&(featureGuestTSO4|featureGuestTSO6) != 0, room: make(chan struct{}, 1),
	}
	if v.Legacy() && !l.mergeable {
		l.header = shortHeaderSize
	}
	const cutting = featureChecksum | featureHostTSO4 | featureHostTSO6
	l.segments = features&cutting == cutting
	if err := l.configure(features); err != nil {
		return nil, err
	}
	if l.receive, err = v.NewQueue(receiveQueue, mostFrames); err != nil {
		return nil, err
	}
	if l.send, err = v.NewQueue(sendQueue, 0); err != nil {
		return nil, err
	}
	l.receive.SetAfter(l.deliver)
	l.send.SetQuiet()
	if features&featureStatus != 0 {
		v.OnConfigChange(l.look)
	}
	if err := v.Run(); err != nil {
		return nil, err
	}
	l.look()
	if err := l.fill(); err != nil {
		l.close(err.Error())
		return nil, err
	}
	return l, nil
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
	l.mtu.Store(defaultMTU)
	l.maxMTU = 1<<16 - 1
	if !l.mergeable {
		l.maxMTU = uint32(metal.FrameSize - l.header - header.EthernetMinimumSize)
	}
	if features&featureMTU == 0 {
		return nil
	}
	var mtu [2]byte
	if err := l.device.Config(configMTU, mtu[:]); err != nil {
		return err
	}
	if v := uint32(binary.LittleEndian.Uint16(mtu[:])); v >= header.IPv4MinimumMTU {
		l.maxMTU = min(v, l.maxMTU)
		l.mtu.Store(l.maxMTU)
	}
	return nil
}

// look reads whether the cable is plugged in.
func (l *Link) look() {
	if l.device.Features()&featureStatus == 0 {
		return
	}
	var status [2]byte
	if l.device.Config(configStatus, status[:]) != nil {
		return
	}
	down := status[0]&statusUp == 0
	if l.down.Swap(down) != down {
		if f := l.onStatus.Load(); f != nil {
			(*f)()
		}
	}
}

// fill makes the buffers to receive in, as many as suit the machine.
func (l *Link) fill() error {
	total := int(metal.Frames().Total)
	l.most = max(min(total/32, mostSending), 4*fewestFrames)
	if share := total / 64 / (metal.HugeSize / metal.FrameSize); l.large {
		for range min(share, hugeBuffers) {
			pa, ok := metal.AllocHuge(metal.OwnerKernel)
			if !ok {
				break
			}
			l.memory = append(l.memory, pa)
			for at := 0; at+largeBuffer <= metal.HugeSize; at += largeBuffer {
				l.buffer(pa+uint64(at), largeBuffer)
			}
		}
	}
	if l.segments && total/64 >= metal.HugeSize/metal.FrameSize {
		if pa, ok := metal.AllocHuge(metal.OwnerKernel); ok {
			l.memory = append(l.memory, pa)
			l.blocks, l.blocksAt = metal.View(pa, metal.HugeSize), pa
		}
	}
	if len(l.buffers) == 0 {
		for range min(max(total/64, fewestFrames), l.receive.Size()) {
			pa, ok := metal.AllocFrame(metal.OwnerKernel)
			if !ok {
				break
			}
			l.memory = append(l.memory, pa)
			l.buffer(pa, metal.FrameSize)
		}
	}
	if len(l.buffers) == 0 {
		return errors.New("there is no memory for the frames of the network card: pass a larger -m")
	}
	l.buffers = l.buffers[:min(len(l.buffers), l.receive.Size())]
	for _, in := range l.buffers {
		if err := l.receive.Add(&in.request); err != nil {
			return err
		}
	}
	l.receive.Notify()
	return nil
}

// buffer makes a buffer of the size bytes at pa.
func (l *Link) buffer(pa uint64, size int) {
	in := &inbound{memory: metal.View(pa, size)}
	in.request.In = []virtio.Buffer{{PA: pa, Len: uint32(size)}}
	in.request.Done = func(_ *virtio.Request, n uint32, err error) {
		if err != nil {
			l.lost.Do(func() { klog.Warnf("a network card is lost: %v", err) })
			return
		}
		in.written = n
		l.received = append(l.received, in)
	}
	l.buffers = append(l.buffers, in)
}

// close stops the device and gives the memory back. Precondition: none of it is lent.
func (l *Link) close(why string) {
	l.device.Stop(why)
	freeFrames(l.memory)
	l.mu.Lock()
	defer l.mu.Unlock()
	freeFrames(l.frames)
	for _, out := range l.idle {
		freeFrames(out.frames)
	}
	l.buffers, l.memory, l.blocks, l.frames, l.idle, l.most, l.closed = nil, nil, nil, nil, nil, 0, true
}

func freeFrames(list []uint64) {
	for _, pa := range list {
		metal.Unref(pa)
	}
}

// deliver hands received packets to the stack, and gives the buffers back to the device that aren't lent.
func (l *Link) deliver() {
	d, t := l.dispatcher.Load(), l.taker.Load()
	// What arrives waits in the Go heap for programs to read it. The last memory is not for that: TCP's peers
	// send again what is dropped.
	if free, reserve := metal.FreeFrames(); free < reserve/8 {
		d, t = nil, nil
	}
	for i, in := range l.received {
		l.received[i] = nil
		frame, checked, lent := l.frameOf(in)
		if !lent && l.receive.Add(&in.request) != nil {
			break // the device failed
		}
		switch {
		case frame == nil:
		case t != nil && (*t).TakeFrame(frame, checked):
		case d == nil:
			frame.Release()
		default:
			l.checked.Store(checked)
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(frame)})
			(*d).DeliverNetworkPacket(0, pkt)
			pkt.DecRef()
		}
	}
	l.received = l.received[:0]
	l.receive.Notify()
	// Peers acknowledge what has been sent: those who wrote it may want the blocks.
	if l.holding.Load() != 0 {
		l.send.Poll()
	}
}

// partial is a packet of which some buffers have come.
type partial struct {
	view    *buffer.View // nil: it is dropped
	left    int          // buffers that are yet to come
	checked bool
}

// lendable returns the view of the frame in a buffer that lies at from, if that is lent, and nil otherwise.
func (l *Link) lendable(in *inbound, from int) *buffer.View {
	lender, size := l.lender.Load(), int(in.written)-from
	if lender == nil || size < worthLending || size > largestPacket || int(l.lent.Load()) >= len(l.buffers)-fewestFrames {
		return nil
	}
	if in.lend == nil {
		in.lend = (*lender).Lend(in.memory, func() {
			l.lent.Add(-1)
			if l.receive.Add(&in.request) == nil {
				l.receive.Notify()
			}
		})
	}
	l.lent.Add(1)
	return in.lend(from, int(in.written))
}

// frameOf takes what came in a buffer, and returns the frame that it completes, nil if it doesn't. checked says that
// its checksum needs no look, lent that the buffer is the frame's now; if not, it has been copied.
func (l *Link) frameOf(in *inbound) (frame *buffer.View, checked, lent bool) {
	p := in.memory[:min(int(in.written), len(in.memory))]
	if l.partial.left == 0 {
		h, ok := parseHeader(p, l.header, l.mergeable)
		if !ok {
			return nil, false, false
		}
		p = p[l.header:]
		checked = h.flags&(flagNeedsChecksum|flagChecked) != 0
		if h.buffers == 1 {
			if frame = l.lendable(in, l.header); frame != nil {
				return frame, checked, true
			}
		}
		l.partial = partial{left: h.buffers, checked: checked}
		// The buffers but for the last one are full. Few packets have more bytes than the largest view that is used
		// again, which grows for them.
		if size := len(p) + (h.buffers-1)*len(in.memory); size <= largestPacket+len(in.memory) {
			l.partial.view = buffer.NewView(min(size, buffer.MaxChunkSize))
		}
	}
	l.partial.left--
	if v := l.partial.view; v != nil {
		if v.Size()+len(p) > largestPacket {
			v.Release()
			l.partial.view = nil
		} else {
			v.Write(p)
		}
	}
	if l.partial.left > 0 || l.partial.view == nil {
		return nil, false, false
	}
	view := l.partial.view
	l.partial.view = nil
	if view.Size() < header.EthernetMinimumSize {
		view.Release()
		return nil, false, false
	}
	return view, l.partial.checked, false
}

// sent takes back what the device has sent.
func (l *Link) sent(out *outbound) {
	if out.holding {
		out.holding = false
		out.held.Release()
		l.holding.Add(-1)
	}
	l.mu.Lock()
	l.giveBack(out)
	waiting := l.waiting > 0
	l.mu.Unlock()
	if waiting {
		select {
		case l.room <- struct{}{}:
		default:
		}
	}
}

// giveBack makes a packet idle. Precondition: mu is held.
func (l *Link) giveBack(out *outbound) {
	if l.closed {
		freeFrames(out.frames)
		out.frames = nil
		return
	}
	if len(out.frames) > 1 {
		l.frames = append(l.frames, out.frames[1:]...)
		out.frames = out.frames[:1]
	}
	l.idle = append(l.idle, out)
}

// take returns a packet to send with frames for n bytes, nil if there are none now. It makes no more than a few
// unless all is set.
func (l *Link) take(n int, all bool) *outbound {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out *outbound
	if k := len(l.idle); k > 0 {
		out = l.idle[k-1]
		l.idle = l.idle[:k-1]
	} else if l.closed || l.made >= fewSending && !all {
		return nil
	} else {
		out = new(outbound)
		out.request.Done = func(*virtio.Request, uint32, error) { l.sent(out) }
		l.made++
	}
	out.request.Out = out.request.Out[:0]
	for i := 0; n > 0; i++ {
		if i == len(out.frames) {
			pa, ok := l.frame(all)
			if !ok {
				l.giveBack(out)
				return nil
			}
			out.frames = append(out.frames, pa)
		}
		out.request.Out = append(out.request.Out, virtio.Buffer{PA: out.frames[i], Len: uint32(min(n, metal.FrameSize))})
		n -= metal.FrameSize
	}
	return out
}

// frame returns a frame to send in. It makes no more than a few, or takes those that idle packets keep, unless all is
// set. Precondition: mu is held.
func (l *Link) frame(all bool) (pa uint64, ok bool) {
	if k := len(l.frames); k > 0 {
		pa = l.frames[k-1]
		l.frames = l.frames[:k-1]
		return pa, true
	}
	if l.allocated < l.most && (all || l.allocated < fewSending) {
		if pa, ok = metal.AllocFrame(metal.OwnerKernel); ok {
			l.allocated++
			return pa, true
		}
	}
	if all {
		for _, out := range l.idle {
			if len(out.frames) > 0 {
				pa = out.frames[0]
				out.frames = out.frames[:0]
				return pa, true
			}
		}
	}
	return 0, false
}

// WritePackets sends packets: ErrNoBufferSpace when the device is behind and doesn't catch up.
func (l *Link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	var failure tcpip.Error
	for _, pkt := range list.AsSlice() {
		if failure = l.write(pkt); failure != nil {
			break
		}
		n++
	}
	l.send.Notify()
	return n, failure
}

func (l *Link) write(pkt *stack.PacketBuffer) tcpip.Error {
	data := pkt.Data().Size()
	return l.transmit(pkt.AsSlices(), &pkt.GSOOptions, pkt.Size()-data, data, nil)
}

// WriteFrame sends a frame: its headers, and what comes after them. It has the errors of WritePackets.
func (l *Link) WriteFrame(pieces [][]byte, gso *stack.GSO) tcpip.Error {
	data := 0
	for _, p := range pieces[1:] {
		data += len(p)
	}
	err := l.transmit(pieces, gso, len(pieces[0]), data, nil)
	l.send.Notify()
	return err
}

func (l *Link) hold(pieces [][]byte, gso *stack.GSO, held stack.PacketData) (bool, tcpip.Error) {
	data := 0
	for _, p := range pieces[1:] {
		if _, ok := l.inBlock(p); !ok {
			return false, nil
		}
		data += len(p)
	}
	if len(pieces) > l.send.Limit() || l.header+len(pieces[0]) > metal.FrameSize {
		return false, nil
	}
	err := l.transmit(pieces, gso, len(pieces[0]), data, &held)
	l.send.Notify()
	return true, err
}

// transmit makes a packet available to the device that consists of pieces, with so many bytes of headers and of data.
// They are copied, unless held is given: the pieces after the first are its bytes then, and are in blocks.
func (l *Link) transmit(pieces [][]byte, gso *stack.GSO, headers, data int, held *stack.PacketData) tcpip.Error {
	if headers+data > largestPacket {
		return &tcpip.ErrMessageTooLong{}
	}
	copied := pieces
	room := l.header + headers + data
	if held != nil {
		copied, room = pieces[:1], l.header+headers
	}
	for try := 0; ; try++ {
		if out := l.take(room, try > 0); out != nil {
			first := metal.View(out.frames[0], metal.FrameSize)
			putHeader(first[:l.header], gso, headers, data)
			copyOut(out.frames, l.header, copied)
			for _, p := range pieces[len(copied):] {
				pa, _ := l.inBlock(p)
				out.request.Out = append(out.request.Out, virtio.Buffer{PA: pa, Len: uint32(len(p))})
			}
			if held != nil {
				out.held, out.holding = held.ToBuffer(), true
				l.holding.Add(1)
			}
			err := l.send.Add(&out.request)
			if err == nil {
				return nil
			}
			l.sent(out)
			if err != virtio.ErrFull {
				return &tcpip.ErrNoBufferSpace{}
			}
		}
		switch {
		case try == 0:
			l.send.Poll()
		case try > roomTries:
			return &tcpip.ErrNoBufferSpace{}
		default:
			l.waitForRoom()
		}
	}
}

// hasRoom says whether a few small packets can be sent without waiting.
func (l *Link) hasRoom() bool {
	const enough = fewSending / 4
	if l.ready() >= enough {
		return true
	}
	l.send.Poll()
	return l.ready() >= enough
}

// ready returns how many small packets can be sent without waiting, at least.
func (l *Link) ready() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0
	}
	return len(l.idle) + max(fewSending-l.made, 0)
}

// waitForRoom waits until the device has sent something, or a while.
func (l *Link) waitForRoom() {
	l.mu.Lock()
	l.waiting++
	l.mu.Unlock()
	l.send.Notify()
	l.send.Listen()
	over := time.NewTimer(roomWait)
	select {
	case <-l.room:
	case <-over.C:
	}
	over.Stop()
	l.mu.Lock()
	l.waiting--
	l.mu.Unlock()
}

// copyOut copies pieces into frames, from an offset in the first one on.
func copyOut(frames []uint64, offset int, pieces [][]byte) {
	to := metal.View(frames[0], metal.FrameSize)[offset:]
	for _, part := range pieces {
		for len(part) > 0 {
			if len(to) == 0 {
				frames = frames[1:]
				to = metal.View(frames[0], metal.FrameSize)
			}
			k := copy(to, part)
			to, part = to[k:], part[k:]
		}
	}
}

// Attach has received packets go to d.
func (l *Link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached says whether packets go anywhere.
func (l *Link) IsAttached() bool { return l.dispatcher.Load() != nil }

// MTU returns how long a frame may be, with its Ethernet header.
func (l *Link) MTU() uint32 { return l.mtu.Load() + header.EthernetMinimumSize }

// SetMTU sets how long a packet may be, within what the device takes.
func (l *Link) SetMTU(mtu uint32) { l.mtu.Store(min(mtu, l.maxMTU)) }

// MaxHeaderLength returns 0: the header that the device wants is in no packet.
func (*Link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress returns the card's address.
func (l *Link) LinkAddress() tcpip.LinkAddress { return l.mac }

// SetLinkAddress does nothing.
func (*Link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities says whether the checksum of the packet that is being delivered needs no look: netstack asks
// for each packet, on the goroutine that delivers it, and nowhere else. Checksums to send that the device
// completes are a matter of GSO (see putHeader).
func (l *Link) Capabilities() stack.LinkEndpointCapabilities {
	if l.checked.Load() {
		return stack.CapabilityRXChecksumOffload
	}
	return 0
}

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
