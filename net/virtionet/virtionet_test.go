package virtionet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

const allFeatures = wanted

// config is an address, a status and an MTU.
func config(up bool, mtu uint16) []byte {
	c := []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, byte(mtu), byte(mtu >> 8)}
	if up {
		c[configStatus] = statusUp
	}
	return c
}

// sinkhole is where packets arrive.
type sinkhole struct {
	link    *Link
	packets chan received
}

type received struct {
	data    []byte
	checked bool
}

func (s *sinkhole) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	s.packets <- received{bytes.Clone(pkt.ToView().AsSlice()), s.link.Capabilities()&stack.CapabilityRXChecksumOffload != 0}
}

func (*sinkhole) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

func openFake(t testing.TB, f *virtio.Fake) (*Link, *sinkhole) {
	t.Helper()
	frames := metal.Frames().ByOwner[metal.OwnerKernel]
	l, err := open(f.Device())
	if err != nil {
		t.Fatal(err)
	}
	s := &sinkhole{l, make(chan received, 1000)}
	l.Attach(s)
	t.Cleanup(func() {
		// A device that fails is stopped on a goroutine of its own.
		for deadline := time.Now().Add(20 * time.Second); metal.Frames().ByOwner[metal.OwnerKernel] != frames; {
			if time.Now().After(deadline) {
				t.Fatalf("%d frames, before there were %d", metal.Frames().ByOwner[metal.OwnerKernel], frames)
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	t.Cleanup(func() { l.close("the test is over") })
	return l, s
}

// pass passes a packet of the device's in as many buffers as it needs.
func pass(t *testing.T, f *virtio.Fake, flags byte, p []byte) {
	t.Helper()
	type piece struct{ head, n uint32 }
	var pieces []piece
	var first []byte
	p = append(make([]byte, headerSize), p...)
	p[headerFlags] = flags
	for len(p) > 0 {
		head, _, in, ok := f.Take(receiveQueue)
		if !ok {
			t.Fatal("the driver gave no buffers")
		}
		n := copy(in[0], p)
		if first == nil {
			first = in[0]
		}
		pieces = append(pieces, piece{head, uint32(n)})
		p = p[n:]
	}
	binary.LittleEndian.PutUint16(first[headerBuffers:], uint16(len(pieces)))
	for _, piece := range pieces {
		f.Return(receiveQueue, piece.head, piece.n)
	}
}

func (s *sinkhole) next(t *testing.T) received {
	t.Helper()
	select {
	case r := <-s.packets:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no packet came")
		return received{}
	}
}

func noise(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return p
}

func TestReceive(t *testing.T) {
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 9000), 256, 256)
	l, s := openFake(t, f)
	if l.MTU() != 9000+header.EthernetMinimumSize {
		t.Errorf("the MTU is %d", l.MTU())
	}
	for i, n := range []int{14, 60, 1514, 4084, 4085, 9014, 65549, 14} {
		p := noise(n)
		flags := []byte{0, flagChecked, flagNeedsChecksum}[i%3]
		pass(t, f, flags, p)
		r := s.next(t)
		if !bytes.Equal(r.data, p) {
			t.Errorf("a packet of %d bytes came as another one of %d", n, len(r.data))
		}
		if r.checked != (flags != 0) {
			t.Errorf("flags %d: its checksum is checked: %v", flags, r.checked)
		}
	}
	for range 2000 { // more than there are buffers
		p := noise(100)
		pass(t, f, 0, p)
		if r := s.next(t); !bytes.Equal(r.data, p) {
			t.Fatal("a small packet came as another one")
		}
	}
	// What is no packet is dropped.
	pass(t, f, 0, noise(13))
	pass(t, f, 0, noise(90_000))
	p := noise(20)
	pass(t, f, 0, p)
	if r := s.next(t); !bytes.Equal(r.data, p) {
		t.Error("what is no packet came as one")
	}
}

// borrower is a sinkhole that keeps the buffers of what comes.
type borrower struct {
	sinkhole
	mu   sync.Mutex // guards what follows
	kept [][]byte
	back []func()
}

func (b *borrower) Lend(memory []byte, back func()) func(from, to int) *buffer.View {
	return func(from, to int) *buffer.View {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.kept, b.back = append(b.kept, memory[from:to]), append(b.back, back)
		return buffer.NewViewWithData(memory[from:to])
	}
}

// Buffers of large packets are lent, but not so many that none are left, and those of other packets aren't.
func TestLend(t *testing.T) {
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 1500), 256, 256)
	l, _ := openFake(t, f)
	b := &borrower{sinkhole: sinkhole{l, make(chan received, 1)}}
	e := Ethernet{ethernet.New(l), l}
	e.Attach(b)
	l.Attach(b)
	for round := range 3 {
		var sent [][]byte
		for range 2 * len(l.buffers) {
			for _, n := range []int{60_000, 1514} {
				p := noise(n)
				sent = append(sent, p)
				pass(t, f, flagChecked, p)
				if r := b.next(t); !bytes.Equal(r.data, p) || !r.checked {
					t.Fatalf("round %d: a packet of %d bytes came as another one", round, n)
				}
			}
		}
		b.mu.Lock()
		kept, back := b.kept, b.back
		b.kept, b.back = nil, nil
		b.mu.Unlock()
		if n := len(kept); n != len(l.buffers)-fewestFrames || int(l.lent.Load()) != n {
			t.Errorf("round %d: %d buffers of %d are lent, the card says %d", round, n, len(l.buffers), l.lent.Load())
		}
		for i, p := range kept {
			if !bytes.Equal(p, sent[2*i]) {
				t.Errorf("round %d: another packet came into a buffer that is lent", round)
			}
			back[i]()
		}
	}
	if l.lent.Load() != 0 {
		t.Errorf("%d buffers are lent that came back", l.lent.Load())
	}
}

// A machine with little memory has small buffers.
func TestSmallBuffers(t *testing.T) {
	defer metal.SetArenaFrames(metal.SetArenaFrames(metal.Frames().Total / 10))
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 9000), 256, 256)
	l, s := openFake(t, f)
	if len(l.buffers) < fewestFrames || len(l.buffers[0].memory) != metal.FrameSize {
		t.Fatalf("%d buffers of %d bytes", len(l.buffers), len(l.buffers[0].memory))
	}
	for _, n := range []int{14, 4084, 4085, 9014, 65549, 14} {
		p := noise(n)
		pass(t, f, 0, p)
		if r := s.next(t); !bytes.Equal(r.data, p) {
			t.Errorf("a packet of %d bytes came as another one of %d", n, len(r.data))
		}
	}
	pass(t, f, 0, noise(90_000))
	p := noise(20)
	pass(t, f, 0, p)
	if r := s.next(t); !bytes.Equal(r.data, p) {
		t.Error("what is no packet came as one")
	}
}

// packetOf is a packet of TCP as netstack passes it down.
func packetOf(gso stack.GSO, size int) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: 100, Payload: buffer.MakeWithData(noise(size)),
	})
	copy(pkt.TransportHeader().Push(header.TCPMinimumSize), noise(header.TCPMinimumSize))
	copy(pkt.NetworkHeader().Push(header.IPv4MinimumSize), noise(header.IPv4MinimumSize))
	copy(pkt.LinkHeader().Push(header.EthernetMinimumSize), noise(header.EthernetMinimumSize))
	pkt.GSOOptions = gso
	return pkt
}

func TestSend(t *testing.T) {
	for name, features := range map[string]uint64{"all": allFeatures, "none": featureMAC} {
		t.Run(name, func(t *testing.T) {
			f := virtio.NewFake(virtio.Net, features, config(true, 1500), 64, 64)
			l, _ := openFake(t, f)
			gso := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, MSS: 1000, L3HdrLen: 20, MaxSize: 65536}
			for _, row := range []struct {
				gso    stack.GSO
				size   int
				header [10]byte
			}{
				{stack.GSO{}, 100, [10]byte{}},
				{gso, 100, [10]byte{1, 0, 0, 0, 0, 0, 34, 0, 16, 0}},
				{gso, 65000, [10]byte{1, 1, 54, 0, 1000 & 255, 1000 >> 8, 34, 0, 16, 0}},
			} {
				for i := range 200 { // more than there are descriptors
					pkt := packetOf(row.gso, row.size)
					want := bytes.Clone(pkt.ToView().AsSlice())
					if i%2 == 0 {
						var list stack.PacketBufferList
						list.PushBack(pkt)
						if n, err := l.WritePackets(list); n != 1 || err != nil {
							t.Fatalf("%d bytes: %d, %v", row.size, n, err)
						}
					} else {
						data := want[len(want)-row.size:]
						pieces := [][]byte{want[:len(want)-row.size], data[:i*row.size/200], data[i*row.size/200:]}
						if err := l.WriteFrame(pieces, &row.gso); err != nil {
							t.Fatalf("%d bytes in pieces: %v", row.size, err)
						}
					}
					pkt.DecRef()
					head, out, _, ok := f.Take(sendQueue)
					if !ok {
						t.Fatal("nothing was sent")
					}
					got := bytes.Join(out, nil)
					if !bytes.Equal(got[:10], row.header[:]) {
						t.Fatalf("the header is %d, wanted %d", got[:10], row.header)
					}
					if !bytes.Equal(got[headerSize:], want) {
						t.Fatalf("%d bytes went out changed", row.size)
					}
					f.Return(sendQueue, head, 0)
				}
			}
		})
	}
}

// holder is a sinkhole that gets the blocks.
type holder struct {
	sinkhole
	blocks [][]byte
}

func (h *holder) Keep(blocks [][]byte) { h.blocks = blocks }

// What is in blocks goes out from there, and is held until it has been sent; what isn't is refused.
func TestHold(t *testing.T) {
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 1500), 64, 64)
	l, _ := openFake(t, f)
	h := &holder{sinkhole: sinkhole{l, make(chan received, 10)}}
	e := Ethernet{ethernet.New(l), l}
	e.Attach(h)
	l.Attach(h)
	if len(h.blocks) != metal.HugeSize/blockSize || len(h.blocks[0]) != blockSize {
		t.Fatalf("there are %d blocks", len(h.blocks))
	}
	gso := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, MSS: 1000, L3HdrLen: 20, MaxSize: 65536}
	for i := range 200 {
		first, second := h.blocks[i%len(h.blocks)], h.blocks[(i+1)%len(h.blocks)]
		head, one, two := noise(66), first[:1+i*10], second[blockSize-60_000:]
		copy(one, noise(len(one)))
		copy(two, noise(len(two)))
		pkt := packetOf(gso, 10)
		if done, err := e.HoldFrame([][]byte{head, one, two}, &gso, pkt.Data()); !done || err != nil {
			t.Fatalf("%v, %v", done, err)
		}
		pkt.DecRef()
		if l.holding.Load() == 0 {
			t.Fatal("nothing is held")
		}
		at, out, _, ok := f.Take(sendQueue)
		if !ok || len(out) != 3 || &out[1][0] != &one[0] || &out[2][0] != &two[0] || len(out[1]) != len(one) || len(out[2]) != len(two) {
			t.Fatalf("%d pieces were sent, not those that are in blocks", len(out))
		}
		if want := []byte{1, 1, 66, 0, 1000 & 255, 1000 >> 8, 34, 0, 16, 0}; !bytes.Equal(out[0][:10], want) || !bytes.Equal(out[0][headerSize:], head) {
			t.Fatalf("the header is %d, wanted %d", out[0][:10], want)
		}
		f.Return(sendQueue, at, 0)
	}
	// What peers send brings the blocks back.
	pass(t, f, 0, noise(60))
	for deadline := time.Now().Add(20 * time.Second); l.holding.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d packets are held that were sent", l.holding.Load())
		}
		time.Sleep(100 * time.Microsecond)
	}
	pkt := packetOf(gso, 10)
	defer pkt.DecRef()
	last := h.blocks[len(h.blocks)-1]
	beyond := append(last[blockSize-10:], 1) // is elsewhere, if it ends where the blocks do
	for name, p := range map[string][]byte{"heap": noise(1000), "beyond": beyond} {
		if done, _ := e.HoldFrame([][]byte{noise(66), last, p}, &gso, pkt.Data()); done {
			t.Errorf("%s: what is in no block was sent", name)
		}
	}
	// A device that takes nothing has nobody hold more than it was given.
	for {
		if _, err := e.HoldFrame([][]byte{noise(66), last}, &gso, pkt.Data()); err != nil {
			break
		}
	}
	if n := int(l.holding.Load()); n != l.send.Outstanding() {
		t.Errorf("%d packets are held, and the device has %d", n, l.send.Outstanding())
	}
}

// A device that takes nothing costs a while, and no memory.
func TestStuckDevice(t *testing.T) {
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 1500), 64, 64)
	l, _ := openFake(t, f)
	failed := false
	for range 1000 {
		var list stack.PacketBufferList
		list.PushBack(packetOf(stack.GSO{}, 1400))
		if _, err := l.WritePackets(list); err != nil {
			failed = true
			break
		}
	}
	if !failed {
		t.Error("a thousand packets went into 64 descriptors")
	}
	for {
		head, _, _, ok := f.Take(sendQueue)
		if !ok {
			break
		}
		f.Return(sendQueue, head, 0)
	}
	var list stack.PacketBufferList
	list.PushBack(packetOf(stack.GSO{}, 1400))
	if _, err := l.WritePackets(list); err != nil {
		t.Errorf("after it has recovered: %v", err)
	}
}

func TestStatus(t *testing.T) {
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 1500), 64, 64)
	l, _ := openFake(t, f)
	e := Ethernet{ethernet.New(l), l}
	changed := make(chan bool, 1)
	e.OnStatus(func() { changed <- e.Up() })
	if !e.Up() || e.SupportedGSO() != stack.HostGSOSupported {
		t.Error("the card is down, or cuts no packets")
	}
	for _, up := range []bool{false, true} {
		f.SetConfig(configStatus, config(up, 0)[configStatus:][:1])
		select {
		case got := <-changed:
			if got != up {
				t.Errorf("up: %v", got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the cable was pulled unnoticed")
		}
	}
}

// Packets of all sizes share few frames: none is lost to one that was sent, nor kept by one that is idle.
func TestSendingFrames(t *testing.T) {
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 1500), 64, 64)
	l, _ := openFake(t, f)
	l.most = 40
	gso := stack.GSO{Type: stack.GSOTCPv4, MSS: 1000}
	for round := range 20 {
		var heads []uint32
		for _, size := range []int{100, 60_000, 10, 10, 10, 10, 60_000, 4084, 4085, 100} {
			data := noise(size)
			if err := l.WriteFrame([][]byte{data[:10], data[10:]}, &gso); err != nil {
				t.Fatalf("round %d: %d bytes: %v", round, size, err)
			}
			head, out, _, ok := f.Take(sendQueue)
			if !ok || !bytes.Equal(bytes.Join(out, nil)[headerSize:], data) {
				t.Fatalf("round %d: %d bytes went out changed", round, size)
			}
			if heads = append(heads, head); size == 4084 {
				for _, head := range heads {
					f.Return(sendQueue, head, 0)
				}
				heads = nil
			}
		}
		for _, head := range heads {
			f.Return(sendQueue, head, 0)
		}
	}
	if l.allocated > l.most {
		t.Errorf("there are %d frames, not %d at most", l.allocated, l.most)
	}
}

// discard is where packets are lost.
type discard struct{}

func (discard) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (discard) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// play has a device do what the bytes of script say, and returns when it is over. The driver waits once, at most,
// for a device that takes nothing: that takes it a while.
func play(t testing.TB, script []byte) {
	f := virtio.NewFake(virtio.Net, allFeatures, config(true, 1500), 16, 16)
	l, _ := openFake(t, f)
	l.Attach(discard{})
	var heads []uint32
	waited := false
	for len(script) >= 4 {
		op, a, b := script[0]%8, script[1], uint32(binary.LittleEndian.Uint16(script[2:]))
		script = script[4:]
		queue := int(a & 1)
		switch op {
		case 0, 1, 2: // a packet, with a header of the script's
			head, _, in, ok := f.Take(receiveQueue)
			if ok {
				copy(in[0], script)
				f.Return(receiveQueue, head, b)
			}
		case 3:
			if head, _, _, ok := f.Take(queue); ok {
				heads = append(heads, head)
			}
		case 4:
			f.Return(queue, b, b<<16)
		case 5:
			f.Jump(queue, uint16(b))
		case 6:
			f.SetConfig(configStatus, []byte{a})
		case 7:
			var list stack.PacketBufferList
			list.PushBack(packetOf(stack.GSO{}, int(b%3000)))
			if a < 128 {
				for _, head := range heads {
					f.Return(sendQueue, head, b)
				}
				heads = nil
			}
			if l.send.Poll(); l.send.Outstanding() == l.send.Size() {
				if waited {
					continue
				}
				waited = true
			}
			l.WritePackets(list)
		}
	}
}

func FuzzHostileDevice(f *testing.F) {
	f.Add([]byte{0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 60, 0, 3, 1, 0, 0, 7, 0, 200, 0})
	f.Add([]byte{4, 0, 255, 255})
	f.Add([]byte{5, 0, 0, 128, 7, 0, 1, 1})
	f.Add([]byte{0, 0, 255, 255, 5, 1, 3, 0})
	f.Fuzz(func(t *testing.T, script []byte) { play(t, script[:min(len(script), 200)]) })
}

func TestHostileDevice(t *testing.T) {
	for seed := range 300 {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		script := make([]byte, 4*(1+r.IntN(60)))
		for i := range script {
			script[i] = byte(r.Uint32())
			if i%4 == 3 && r.IntN(2) == 0 {
				script[i] = 0
			}
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, script) })
	}
}
