package inet

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/net"
)

// wire is a card without a device: its frames go to another one.
type wire struct {
	mac        tcpip.LinkAddress
	cuts       bool // it takes large packets, and completes checksums
	mtu        atomic.Uint32
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	peer       *wire
	arrived    chan []byte

	mu       sync.Mutex
	frames   [][]byte // that were sent
	straight int      // those that no packet was made for
}

func (w *wire) send(straight bool, pieces ...[]byte) {
	frame := bytes.Join(pieces, nil)
	w.mu.Lock()
	w.frames = append(w.frames, frame)
	if straight {
		w.straight++
	}
	w.mu.Unlock()
	w.peer.arrived <- frame
}

func (w *wire) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range list.AsSlice() {
		w.send(false, pkt.AsSlices()...)
	}
	return list.Len(), nil
}

func (w *wire) Capabilities() stack.LinkEndpointCapabilities {
	if w.cuts {
		return stack.CapabilityRXChecksumOffload
	}
	return 0
}

func (w *wire) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		w.dispatcher.Store(nil)
	} else {
		w.dispatcher.Store(&d)
	}
}

func (w *wire) MTU() uint32                           { return w.mtu.Load() + header.EthernetMinimumSize }
func (w *wire) SetMTU(mtu uint32)                     { w.mtu.Store(mtu) }
func (w *wire) LinkAddress() tcpip.LinkAddress        { return w.mac }
func (w *wire) IsAttached() bool                      { return w.dispatcher.Load() != nil }
func (*wire) MaxHeaderLength() uint16                 { return 0 }
func (*wire) SetLinkAddress(tcpip.LinkAddress)        {}
func (*wire) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (*wire) AddHeader(*stack.PacketBuffer)           {}
func (*wire) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (*wire) Wait()                                   {}
func (*wire) Close()                                  {}
func (*wire) SetOnCloseAction(func())                 {}

// wired is a wire as netstack sees it.
type wired struct {
	*ethernet.Endpoint
	wire *wire
}

func (w wired) GSOMaxSize() uint32 { return stack.GVisorGSOMaxSize }

func (w wired) SupportedGSO() stack.SupportedGSO {
	if w.wire.cuts {
		return stack.HostGSOSupported
	}
	return stack.GVisorGSOSupported
}

// HasRoom is always true: a wire keeps nothing back.
func (wired) HasRoom() bool { return true }

func (w wired) WriteFrame(pieces [][]byte, _ *stack.GSO) tcpip.Error {
	w.wire.send(true, pieces...)
	return nil
}

// sent returns how many frames were sent, and how many of them straight.
func (w *wire) sent() (frames, straight int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.frames), w.straight
}

// last returns the last frame of TCP whose data ends with what.
func (w *wire) last(what string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.frames) - 1; i >= 0; i-- {
		if f := w.frames[i]; bytes.HasSuffix(f, []byte(what)) {
			return f
		}
	}
	return nil
}

// check says what is wrong with a frame of TCP from a wire to another.
func (w *wire) check(f []byte, to tcpip.LinkAddress, ttl, tos byte) error {
	eth := header.Ethernet(f)
	if eth.SourceAddress() != w.mac || eth.DestinationAddress() != to {
		return fmt.Errorf("it goes from %v to %v", eth.SourceAddress(), eth.DestinationAddress())
	}
	p := f[header.EthernetMinimumSize:]
	var segment header.TCP
	var sum uint16
	switch eth.Type() {
	case ipv4.ProtocolNumber:
		h := header.IPv4(p)
		gotTOS, _ := h.TOS()
		if !h.IsValid(len(p)) || !h.IsChecksumValid() || int(h.TotalLength()) != len(p) || h.HeaderLength() != header.IPv4MinimumSize {
			return fmt.Errorf("the header is %x", p[:20])
		} else if h.TTL() != ttl || gotTOS != tos || h.Flags() != header.IPv4FlagDontFragment || h.ID() != 0 {
			return fmt.Errorf("TTL %d, TOS %d, flags %d, number %d", h.TTL(), gotTOS, h.Flags(), h.ID())
		}
		segment = header.TCP(h.Payload())
		sum = header.PseudoHeaderChecksum(header.TCPProtocolNumber, h.SourceAddress(), h.DestinationAddress(), uint16(len(segment)))
	case ipv6.ProtocolNumber:
		h := header.IPv6(p)
		gotTOS, _ := h.TOS()
		if !h.IsValid(len(p)) || int(h.PayloadLength()) != len(p)-header.IPv6MinimumSize || tcpip.TransportProtocolNumber(h.NextHeader()) != header.TCPProtocolNumber {
			return fmt.Errorf("the header is %x", p[:40])
		} else if h.HopLimit() != ttl || gotTOS != tos {
			return fmt.Errorf("hop limit %d, class %d", h.HopLimit(), gotTOS)
		}
		segment = header.TCP(h.Payload())
		sum = header.PseudoHeaderChecksum(header.TCPProtocolNumber, h.SourceAddress(), h.DestinationAddress(), uint16(len(segment)))
	default:
		return fmt.Errorf("of protocol %x", eth.Type())
	}
	if w.cuts {
		if segment.Checksum() != sum {
			return fmt.Errorf("the device is to add to %x, not %x", segment.Checksum(), sum)
		}
	} else if checksum.Checksum(segment, sum) != 0xffff {
		return fmt.Errorf("the checksum is wrong: %x", segment.Checksum())
	}
	return nil
}

// plug connects two networks by two wires, with the addresses 10.9.0.1 and fd00:9::1, and 2.
func plug(t *testing.T, cuts bool) (n [2]*Network, w [2]*wire) {
	t.Helper()
	over := make(chan struct{})
	var carrying sync.WaitGroup
	for i := range w {
		w[i] = &wire{mac: tcpip.LinkAddress("\x52\x54\x00\x00\x00" + string(rune(i+1))), cuts: cuts, arrived: make(chan []byte, 10_000)}
		w[i].mtu.Store(1500)
	}
	for i := range w {
		w[i].peer = w[1-i]
		n[i] = new(Network)
		nic, err := n[i].AddNIC("eth0", wired{ethernet.New(w[i]), w[i]})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []tcpip.ProtocolAddress{
			{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: wireAddress(unix.AF_INET, i).WithPrefix()},
			{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: wireAddress(unix.AF_INET6, i).WithPrefix()},
		} {
			a.AddressWithPrefix.PrefixLen -= 8
			if err := n[i].Stack().AddProtocolAddress(nic, a, stack.AddressProperties{}); err != nil {
				t.Fatal(err)
			}
			n[i].Stack().AddRoute(tcpip.Route{Destination: a.AddressWithPrefix.Subnet(), NIC: nic})
		}
		carrying.Go(func() {
			for {
				select {
				case frame := <-w[i].arrived:
					if d := w[i].dispatcher.Load(); d != nil {
						pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
						(*d).DeliverNetworkPacket(0, pkt)
						pkt.DecRef()
					}
				case <-over:
					return
				}
			}
		})
	}
	t.Cleanup(func() { close(over); carrying.Wait() })
	return n, w
}

const wireNIC = LoopbackNIC + 1

func wireAddress(family, i int) tcpip.Address {
	if family == unix.AF_INET {
		return tcpip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)})
	}
	return tcpip.AddrFrom16([16]byte{0xfd, 0, 0, 9, 15: byte(i + 1)})
}

// across connects the first network to the second.
func across(t *testing.T, n [2]*Network, family int) (a *Socket, b net.Socket) {
	t.Helper()
	l := newSocket(t, n[1], family, unix.SOCK_STREAM)
	defer l.Release()
	if err := l.Listen(context(), 1); err != nil {
		t.Fatal(err)
	}
	name, failure := l.ep().GetLocalAddress()
	if failure != nil {
		t.Fatal(failure)
	}
	where := appendAddress(nil, family, tcpip.FullAddress{Addr: wireAddress(family, 1), Port: name.Port})
	a = newSocket(t, n[0], family, unix.SOCK_STREAM)
	err := retry(a, waiter.WritableEvents, func() error {
		_, err := a.Connect(context(), where)
		switch err {
		case unix.EINPROGRESS, unix.EALREADY:
			return unix.EAGAIN
		case unix.ENETUNREACH, unix.EADDRNOTAVAIL: // while an address of IPv6 is looked for elsewhere
			time.Sleep(10 * time.Millisecond)
			a.queue.Notify(waiter.WritableEvents)
			return unix.EAGAIN
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = retry(l, waiter.ReadableEvents, func() (err error) { b, err = l.Accept(context()); return err })
	if err != nil {
		t.Fatal(err)
	}
	a.ep().SocketOptions().SetDelayOption(false)
	return a, b
}

// say has a send what, which is all that b receives next.
func say(t *testing.T, a, b net.Socket, what string) {
	t.Helper()
	begin(t, a, what)
	hear(t, b, what)
}

func begin(t *testing.T, a net.Socket, what string) {
	t.Helper()
	src := mm.KernelBuffer([]byte(what))
	for src.Len() > 0 {
		if err := retry(a, waiter.WritableEvents, func() error { _, err := a.Send(context(), &src, new(net.Message)); return err }); err != nil {
			t.Fatalf("sending: %v", err)
		}
	}
}

func hear(t *testing.T, b net.Socket, what string) {
	t.Helper()
	got := make([]byte, len(what))
	dst := mm.KernelBuffer(got)
	for dst.Len() > 0 {
		err := retry(b, waiter.ReadableEvents, func() error {
			n, err := b.Recv(context(), &dst, new(net.Message))
			if err == nil && n == 0 {
				err = unix.EPIPE
			}
			return err
		})
		if err != nil {
			t.Fatalf("receiving: %v", err)
		}
	}
	if string(got) != what {
		t.Fatalf("of %d bytes, some came changed", len(what))
	}
}

// Segments go straight into a card's frames while nothing is in the way, and everything that is honoured by the
// long way is honoured at once when it begins: who watches, the neighbour's address, the interface's state, addresses.
func TestStraightWay(t *testing.T) {
	_, ours := any(&stack.Route{}).(interface{ Inside() bool }) // not netstack as it comes
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, cuts := range []bool{false, true} {
			t.Run(fmt.Sprintf("family %d, the card cuts packets: %v", family, cuts), func(t *testing.T) {
				t.Parallel()
				testStraightWay(t, family, cuts, ours)
			})
		}
	}
}

func testStraightWay(t *testing.T, family int, cuts, ours bool) {
	n, w := plug(t, cuts)
	a, b := across(t, n, family)
	defer a.Release()
	defer b.Release()
	s, protocol, here, there := n[0].Stack(), tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber), wireAddress(family, 0), wireAddress(family, 1)
	ttlOption, tosOption := tcpip.IPv4TTLOption, tcpip.IPv4TOSOption
	if family == unix.AF_INET6 {
		protocol, ttlOption, tosOption = ipv6.ProtocolNumber, tcpip.IPv6HopLimitOption, tcpip.IPv6TrafficClassOption
	}
	count := 0
	mark := func() string {
		count++
		return fmt.Sprintf("<message %d>%s", count, strings.Repeat("x", count%2))
	}
	checked := func(what string, to tcpip.LinkAddress, ttl, tos byte) {
		t.Helper()
		if err := w[0].check(w[0].last(what), to, ttl, tos); err != nil {
			t.Errorf("%q: %v", what, err)
		}
	}
	goesStraight := func() {
		t.Helper()
		_, before := w[0].sent()
		for deadline := time.Now().Add(time.Minute); ; {
			what := mark()
			say(t, a, b, what)
			checked(what, w[1].mac, 64, 0)
			if _, now := w[0].sent(); !ours || now > before {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("nothing goes straight")
			}
		}
	}
	goesStraight()

	// Much of it, and all of it is counted.
	large := strings.Repeat("what is sent and received, ", 20_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		begin(t, a, large)
	}()
	hear(t, b, large)
	<-done
	say(t, b, a, large[:10_000])

	// Who watches sees what is sent next.
	p, err := PacketFamily{n[0]}.Socket(context(), unix.SOCK_RAW, 0x300) // ETH_P_ALL
	if err != nil {
		t.Fatal(err)
	}
	_, straight := w[0].sent()
	what := mark()
	say(t, a, b, what)
	for seen := false; !seen; {
		got := make([]byte, 2000)
		dst, m := mm.KernelBuffer(got), net.Message{}
		size := 0
		if err := retry(p, waiter.ReadableEvents, func() (err error) { size, err = p.Recv(context(), &dst, &m); return err }); err != nil {
			t.Fatalf("the segment is not seen: %v", err)
		}
		seen = bytes.HasSuffix(got[:size], []byte(what))
	}
	if _, now := w[0].sent(); now != straight {
		t.Errorf("%d segments went straight while somebody watched", now-straight)
	}
	p.Release()
	goesStraight()

	// Options count from the next segment on.
	a.ep().SetSockOptInt(ttlOption, 33)
	a.ep().SetSockOptInt(tosOption, 0x48)
	what = mark()
	say(t, a, b, what)
	checked(what, w[1].mac, 33, 0x48)
	a.ep().SetSockOptInt(ttlOption, 64)
	a.ep().SetSockOptInt(tosOption, 0)

	// The neighbour is another one: what goes there is lost until it is the right one again.
	elsewhere := tcpip.LinkAddress("\x52\x54\x00\x00\x00\x77")
	s.AddStaticNeighbor(wireNIC, protocol, there, elsewhere)
	what = mark()
	begin(t, a, what)
	checked(what, elsewhere, 64, 0)
	s.AddStaticNeighbor(wireNIC, protocol, there, w[1].mac)
	hear(t, b, what)
	goesStraight()
	s.RemoveNeighbor(wireNIC, protocol, there)
	goesStraight() // after it was found again

	// Nothing leaves an interface that is down, nor from an address that is no more, nor with an MTU that allows
	// no packets; what was to be sent is, afterwards.
	silent := func(why string, stop, start func() tcpip.Error) {
		t.Helper()
		if err := stop(); err != nil {
			t.Fatalf("%s: %v", why, err)
		}
		what := mark()
		begin(t, a, what)
		if f := w[0].last(what); f != nil {
			t.Errorf("%s: a segment was sent", why)
		}
		if err := start(); err != nil {
			t.Fatalf("no more %s: %v", why, err)
		}
		hear(t, b, what)
		goesStraight()
	}
	silent("an MTU of 60", func() tcpip.Error { return s.SetNICMTU(wireNIC, 60) }, func() tcpip.Error { return s.SetNICMTU(wireNIC, 1500) })
	silent("an interface that is down", func() tcpip.Error { return s.DisableNIC(wireNIC) }, func() tcpip.Error { return s.EnableNIC(wireNIC) })
	silent("an address that is no more", func() tcpip.Error { return s.RemoveAddress(wireNIC, here) }, func() tcpip.Error {
		with := here.WithPrefix()
		with.PrefixLen -= 8
		return s.AddProtocolAddress(wireNIC, tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: with}, stack.AddressProperties{})
	})

	// Everything is counted, at the latest a moment later.
	tx := s.NICInfo()[wireNIC].Stats.Tx
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		w[0].mu.Lock()
		frames, size := uint64(len(w[0].frames)), uint64(0)
		for _, f := range w[0].frames {
			size += uint64(len(f))
		}
		w[0].mu.Unlock()
		packets, counted := tx.Packets.Value(), tx.Bytes.Value()
		if packets == frames && counted == size {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d packets of %d bytes are counted of %d of %d bytes", packets, counted, frames, size)
		}
	}
}
