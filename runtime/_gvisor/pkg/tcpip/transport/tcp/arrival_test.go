package tcp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// The short way of arrival.go is compared with the long one: two stacks that differ in nothing else get the same
// frames, and have to be in the same state, have the same counters and send the same after each.

const (
	nicID    = 1
	port     = 7
	peerPort = 4321
	ours     = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x01")
	theirs   = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x02")
)

// taker is what virtionet asks for.
type taker interface {
	TakeFrame(*buffer.View, bool) bool
}

// card is an interface of Ethernet whose frames a test brings and reads.
type card struct {
	*ethernet.Endpoint
	wire  *channel.Endpoint
	taker taker
	short bool
	taken int
}

func (c *card) Attach(d stack.NetworkDispatcher) {
	c.taker, _ = d.(taker)
	c.Endpoint.Attach(d)
}

func (c *card) bring(frame []byte) {
	if v := buffer.NewViewWithData(frame); c.short && c.taker.TakeFrame(v, false) {
		c.taken++
	} else {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
		c.wire.InjectInbound(0, pkt)
		pkt.DecRef()
	}
}

// sent returns what the interface has sent.
func (c *card) sent() (list [][]byte) {
	for {
		pkt := c.wire.Read()
		if pkt == nil {
			return list
		}
		v := pkt.ToView()
		list = append(list, v.ToSlice())
		v.Release()
		pkt.DecRef()
	}
}

// ones is where the stacks have their secrets from, which are the same for both.
type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

// host is a stack with a listening socket and a connection that was made to it.
type host struct {
	t      *testing.T
	stack  *stack.Stack
	clock  *faketime.ManualClock
	card   *card
	listen tcpip.Endpoint
	ep     *Endpoint
	queue  waiter.Queue
	read   bytes.Buffer
	events atomic.Int32
	watcher
	family
}

type family struct {
	name        string
	proto       tcpip.NetworkProtocolNumber
	here, there tcpip.Address
	modern      bool // with time stamps, selective acknowledgments and window scales
}

var families = []family{
	{"IPv4", ipv4.ProtocolNumber, tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), true},
	{"IPv4 of old", ipv4.ProtocolNumber, tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), false},
	{"IPv6", ipv6.ProtocolNumber, tcpip.AddrFrom16([16]byte{0xfd, 15: 2}), tcpip.AddrFrom16([16]byte{0xfd, 15: 1}), true},
}

func must(t *testing.T, err tcpip.Error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newHost(t *testing.T, f family, short bool) *host {
	h := &host{t: t, family: f, clock: faketime.NewManualClock()}
	h.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{NewProtocol},
		Clock:              h.clock, HandleLocal: true, SecureRNG: ones{}, RandSource: rand.NewSource(1),
	})
	sack := tcpip.TCPSACKEnabled(true)
	must(t, h.stack.SetTransportProtocolOption(ProtocolNumber, &sack))
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	must(t, h.stack.SetTransportProtocolOption(ProtocolNumber, &moderate))
	wire := channel.New(1024, 1514, ours)
	h.card = &card{Endpoint: ethernet.New(wire), wire: wire, short: short}
	must(t, h.stack.CreateNICWithOptions(nicID, h.card, stack.NICOptions{DeliverLinkPackets: true}))
	h.address(true)
	must(t, h.stack.AddStaticNeighbor(nicID, f.proto, f.there, theirs))
	h.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID}, {Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	l, err := h.stack.NewEndpoint(ProtocolNumber, f.proto, new(waiter.Queue))
	must(t, err)
	must(t, l.Bind(tcpip.FullAddress{Port: port}))
	must(t, l.Listen(8))
	h.listen = l
	h.card.sent()
	t.Cleanup(func() {
		l.Close()
		if h.ep != nil {
			h.ep.Abort()
		}
		h.stack.Destroy()
	})
	return h
}

func (h *host) address(on bool) {
	if on {
		must(h.t, h.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol: h.proto, AddressWithPrefix: tcpip.AddressWithPrefix{Address: h.here, PrefixLen: 24},
		}, stack.AddressProperties{}))
	} else {
		must(h.t, h.stack.RemoveAddress(nicID, h.here))
	}
}

// settle waits until the processors have nothing left to do. What one is doing may be for another to go on with.
func (h *host) settle() {
	d := &h.listen.(*Endpoint).protocol.dispatcher
	for range 2 {
		d.pause()
		d.resume()
	}
}

func (h *host) bring(frame []byte) {
	h.card.bring(frame)
	h.settle()
}

// accept takes the connection that was made.
func (h *host) accept() {
	var e tcpip.Endpoint
	for deadline := time.Now().Add(time.Minute); ; {
		var err tcpip.Error
		if e, _, err = h.listen.Accept(nil); err == nil {
			break
		}
		if time.Now().After(deadline) {
			h.t.Fatal("no connection was made:", err)
		}
		runtime.Gosched()
	}
	h.ep = e.(*Endpoint)
	entry := waiter.NewFunctionEntry(waiter.ReadableEvents, func(waiter.EventMask) { h.events.Add(1) })
	h.ep.waiterQueue.EventRegister(&entry)
	h.settle()
}

// take reads up to n bytes.
func (h *host) take(n int) {
	_, _ = h.ep.Read(&tcpip.LimitedWriter{W: &h.read, N: int64(n)}, tcpip.ReadOptions{})
	h.ep.ModerateRecvBuf(n)
	h.settle()
}

func (h *host) write(n int) {
	_, _ = h.ep.Write(bytes.NewReader(bytes.Repeat([]byte{'w'}, n)), tcpip.WriteOptions{})
	h.settle()
}

// state is all that can be told of the host.
func (h *host) state() string {
	var b strings.Builder
	e := h.ep
	e.mu.Lock()
	if e.snd != nil && e.EndpointState() != StateClose && e.EndpointState() != StateError {
		var s TCPEndpointState
		e.completeStateLocked(&s)
		s.Sender.Cubic.T = tcpip.MonotonicTime{}
		fmt.Fprintf(&b, "%+v\n", &s)
		r, d := e.rcv, e.snd
		fmt.Fprintln(&b, "receiver", r.rcvWnd, r.rcvWUP, r.prevBufUsed, r.closed, len(r.pendingRcvdSegments), r.lastRcvdAckTime)
		fmt.Fprintln(&b, "sender", d.state, d.zeroWindowProbing, d.rc.minRTT, d.rc.tlpRxtOut, d.rc.exitedRecovery, d.firstRetransmittedSegXmitTime,
			d.resendTimer.enabled(), d.probeTimer.enabled(), d.reorderTimer.enabled(), d.acks.timer.enabled(), d.acks.answered, d.acks.came, d.writeNext != nil)
		fmt.Fprintln(&b, "keepalive", e.keepalive.timer.enabled(), e.keepalive.unacked)
		if d.resendTimer.enabled() {
			fmt.Fprintln(&b, "resend at", d.resendTimer.target)
		}
		if d.probeTimer.enabled() {
			fmt.Fprintln(&b, "probe at", d.probeTimer.target)
		}
		if d.acks.timer.enabled() {
			fmt.Fprintln(&b, "acknowledge at", d.acks.timer.target)
		}
	}
	fmt.Fprintln(&b, "urgent", e.urgent.state.Load(), e.urgent.value, e.urgent.at, e.urgent.end)
	fmt.Fprintln(&b, "state", e.EndpointState(), e.receiveMemUsed(), h.read.Len(), h.events.Load() > 0, e.recentTSTime)
	e.mu.Unlock()
	stats := h.stack.Stats()
	card := h.stack.NICInfo()[nicID].Stats
	for _, s := range []any{&stats.TCP, &stats.IP, &stats.NICs.Rx, &stats.NICs.Tx, &card.Rx, &e.stats} {
		count(&b, reflect.ValueOf(s).Elem())
	}
	return b.String()
}

// count writes the counters that aren't 0.
func count(b *strings.Builder, v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.Type() == reflect.TypeFor[*tcpip.StatCounter]():
			if c := f.Interface().(*tcpip.StatCounter); c != nil && c.Value() != 0 {
				fmt.Fprintln(b, v.Type().Field(i).Name, c.Value())
			}
		case f.Type() == reflect.TypeFor[tcpip.StatCounter]():
			if c := f.Addr().Interface().(*tcpip.StatCounter); c.Value() != 0 {
				fmt.Fprintln(b, v.Type().Field(i).Name, c.Value())
			}
		case f.Kind() == reflect.Struct:
			count(b, f)
		}
	}
}

// peer is the other end of the connection of both hosts.
type peer struct {
	family
	next    uint32 // that it sends
	acked   uint32 // the most that it has acknowledged
	sent    uint32 // the end of what the hosts have sent
	heard   uint32 // what they acknowledged
	stamp   uint32
	echo    uint32
	odd     bool // the next frame is damaged
	padding int
}

// packet is what a frame says.
type packet struct {
	seq, ack uint32
	flags    header.TCPFlags
	window   uint16
	stamp    uint32
	options  []byte // in place of the time stamps
	payload  []byte
}

func (p *peer) frame(s packet) []byte {
	options := s.options
	if options == nil && p.modern {
		options = binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, s.stamp)
		options = binary.BigEndian.AppendUint32(options, p.echo)
	}
	size := header.TCPMinimumSize + len(options)
	f := []byte(string(ours) + string(theirs))
	if p.proto == ipv4.ProtocolNumber {
		f = append(f, 8, 0)
		ip := header.IPv4(make([]byte, header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip) + size + len(s.payload)), TTL: 64, Protocol: 6, SrcAddr: p.there, DstAddr: p.here})
		ip.SetChecksum(^ip.CalculateChecksum())
		f = append(f, ip...)
	} else {
		f = append(f, 0x86, 0xdd)
		ip := header.IPv6(make([]byte, header.IPv6MinimumSize))
		ip.Encode(&header.IPv6Fields{PayloadLength: uint16(size + len(s.payload)), TransportProtocol: 6, HopLimit: 64, SrcAddr: p.there, DstAddr: p.here})
		f = append(f, ip...)
	}
	tcp := header.TCP(make([]byte, size, size+len(s.payload)))
	tcp.Encode(&header.TCPFields{
		SrcPort: peerPort, DstPort: port, SeqNum: s.seq, AckNum: s.ack, DataOffset: uint8(size), Flags: s.flags, WindowSize: s.window,
	})
	copy(tcp[header.TCPMinimumSize:], options)
	sum := header.PseudoHeaderChecksum(6, p.there, p.here, uint16(size+len(s.payload)))
	tcp.SetChecksum(^tcp.CalculateChecksum(checksum.Checksum(s.payload, sum)))
	f = append(append(f, tcp...), s.payload...)
	if p.odd {
		f[len(f)-1] ^= 1
	}
	return append(f, make([]byte, p.padding)...)
}

// hear reads a frame that a host sent.
func (p *peer) hear(f []byte) {
	f = f[header.EthernetMinimumSize:]
	if p.proto == ipv4.ProtocolNumber {
		f = header.IPv4(f).Payload()
	} else {
		f = header.IPv6(f).Payload()
	}
	tcp := header.TCP(f)
	if len(f) < header.TCPMinimumSize || tcp.DestinationPort() != peerPort {
		return
	}
	end := tcp.SequenceNumber() + uint32(len(tcp.Payload()))
	if tcp.Flags().Intersects(header.TCPFlagSyn | header.TCPFlagFin) {
		end++
	}
	if int32(end-p.sent) > 0 || tcp.Flags().Contains(header.TCPFlagSyn) {
		p.sent = end
	}
	p.heard = tcp.AckNumber()
	if o := tcp.ParsedOptions(); o.TS {
		p.echo = o.TSVal
	}
}

// pairOf connects two hosts to one peer.
func pairOf(t *testing.T, f family) (hosts [2]*host, p *peer) {
	hosts = [2]*host{newHost(t, f, true), newHost(t, f, false)}
	p = &peer{family: f, next: 0xfffffff0, stamp: 1000}
	options := []byte{2, 4, 5, 0xb4}
	if f.modern {
		options = append(options, 4, 2, 8, 10, 0, 0, 3, 0xe8, 0, 0, 0, 0, 1, 3, 3, 4)
	}
	both(t, hosts, p, "SYN", func(h *host) {
		h.bring(p.frame(packet{seq: p.next, flags: header.TCPFlagSyn, window: 60000, options: options}))
	})
	p.next++
	p.acked = p.sent
	both(t, hosts, p, "ACK", func(h *host) {
		h.bring(p.frame(packet{seq: p.next, ack: p.sent, flags: header.TCPFlagAck, window: 4000, stamp: p.stamp}))
		h.accept()
	})
	return hosts, p
}

// both does something with both hosts, and compares what comes of it.
func both(t *testing.T, hosts [2]*host, p *peer, what string, f func(*host)) {
	t.Helper()
	var states [2]string
	var sent [2][][]byte
	for i, h := range hosts {
		f(h)
		sent[i] = h.card.sent()
		if h.ep != nil {
			states[i] = h.state()
		}
	}
	if states[0] != states[1] {
		a, b := strings.Split(states[0], "\n"), strings.Split(states[1], "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("%s: the short way leaves\n%s\nthe long one\n%s", what, a[i], b[i])
			}
		}
		t.FailNow()
	}
	if !reflect.DeepEqual(sent[0], sent[1]) {
		t.Fatalf("%s: the short way sends\n%x\nthe long one\n%x", what, sent[0], sent[1])
	}
	for _, frame := range sent[0] {
		p.hear(frame)
	}
}

// TestArrivals plays connections with all that may happen on them.
func TestArrivals(t *testing.T) {
	scripts, steps := 42, 100
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			taken := 0
			for seed := range scripts {
				hosts, p := pairOf(t, f)
				r := rand.New(rand.NewSource(int64(seed)))
				var said []string
				for step := range steps {
					name, act := p.step(r, hosts, seed%3)
					said = append(said, name)
					if step >= 12 {
						said = said[1:]
					}
					both(t, hosts, p, fmt.Sprintf("script %d, step %d, after %s", seed, step, strings.Join(said, ", ")), act)
					if !bytes.Equal(hosts[0].read.Bytes(), hosts[1].read.Bytes()) {
						t.Fatalf("script %d: they read other bytes", seed)
					}
				}
				taken += hosts[0].card.taken
			}
			if taken < scripts*steps/10 {
				t.Errorf("the short way took %d frames", taken)
			}
		})
	}
}

// step returns what happens next. Of three kinds of connections one is peaceful, one loses segments, and in one
// everything happens.
func (p *peer) step(r *rand.Rand, hosts [2]*host, kind int) (string, func(*host)) {
	p.stamp++
	p.odd, p.padding = false, 0
	data := bytes.Repeat([]byte{byte('a' + r.Intn(26))}, 1+r.Intn(300))
	s := packet{seq: p.next, ack: p.sent, flags: header.TCPFlagAck, window: 4000, stamp: p.stamp}
	if r.Intn(8) == 0 {
		s.window = uint16(3000 + r.Intn(2000))
	}
	if r.Intn(4) == 0 {
		s.ack = p.acked // nothing new
	} else if r.Intn(6) == 0 && p.sent != p.acked {
		s.ack = p.acked + uint32(r.Intn(int(p.sent-p.acked)+1))
	}
	send := func(name string) (string, func(*host)) {
		if int32(s.ack-p.acked) > 0 && int32(s.ack-p.sent) <= 0 {
			p.acked = s.ack
		}
		f := p.frame(s)
		return name, func(h *host) { h.bring(f) }
	}
	most := []int{10, 17, 29}[kind]
	switch n := r.Intn(most); n {
	case 0, 1, 2:
		s.payload, s.flags = data, s.flags|header.TCPFlagPsh
		p.next += uint32(len(data))
		if r.Intn(4) == 0 {
			p.padding = r.Intn(20)
		}
		return send("data")
	case 3:
		return send("an acknowledgment")
	case 4, 5, 6:
		size := 1 + r.Intn(3000)
		return fmt.Sprint("write ", size), func(h *host) { h.write(size) }
	case 7:
		size := 1 + r.Intn(2000)
		return "read", func(h *host) { h.take(size) }
	case 8:
		return "read all", func(h *host) { h.take(1 << 20) }
	case 9:
		d := time.Duration(r.Intn(30)) * time.Millisecond
		return fmt.Sprint("time passes, ", d), func(h *host) {
			h.clock.Advance(d)
			h.settle()
		}
	case 10:
		p.next += uint32(len(data)) // lost
		return "nothing, as a segment was lost,", func(*host) {}
	case 11, 12:
		// What is missing comes, and more.
		s.seq = p.heard
		s.payload = bytes.Repeat([]byte{'r'}, min(1400, int(p.next-p.heard)))
		return send("what was missing")
	case 13:
		s.seq -= uint32(r.Intn(400))
		s.payload = data
		if end := s.seq + uint32(len(data)); int32(end-p.next) > 0 {
			p.next = end
		}
		return send("data that was there in part")
	case 14:
		s.ack = p.acked
		return send("a duplicate acknowledgment")
	case 15:
		d := time.Duration(r.Intn(2000)) * time.Millisecond
		return fmt.Sprint("time passes, ", d), func(h *host) {
			h.clock.Advance(d)
			h.settle()
		}
	case 16:
		if p.modern && p.sent != p.acked {
			s.ack = p.acked
			from := p.acked + uint32(r.Intn(int(p.sent-p.acked)))
			s.options = binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, s.stamp)
			s.options = binary.BigEndian.AppendUint32(s.options, p.echo)
			s.options = binary.BigEndian.AppendUint32(append(s.options, 1, 1, 5, 10), from)
			s.options = binary.BigEndian.AppendUint32(s.options, p.sent)
		}
		return send("a selective acknowledgment")
	case 17:
		s.stamp -= uint32(r.Intn(100))
		s.payload = data
		p.next += uint32(len(data))
		return send("data with an old time stamp")
	case 18:
		s.window = 0
		return send("a closed window")
	case 19:
		s.payload = bytes.Repeat([]byte{'b'}, 1400)
		s.seq += uint32(r.Intn(1 << 22))
		return send("data far beyond")
	case 20:
		s.ack = p.sent + uint32(r.Intn(5000))
		return send("an acknowledgment of what was not sent")
	case 21:
		p.odd = true
		s.payload = data
		return send("a damaged segment")
	case 22:
		s.flags |= header.TCPFlagUrg
		s.payload = data
		p.next += uint32(len(data))
		return send("urgent data")
	case 23:
		s.options = []byte{1, 1, 1, 0}
		s.payload = data
		p.next += uint32(len(data))
		return send("data without time stamps")
	case 24:
		if r.Intn(6) != 0 {
			return "nothing", func(*host) {}
		}
		s.flags |= header.TCPFlagFin
		p.next++
		return send("FIN")
	case 25:
		if r.Intn(8) != 0 {
			return "nothing", func(*host) {}
		}
		flags := []tcpip.ShutdownFlags{tcpip.ShutdownRead, tcpip.ShutdownWrite}[r.Intn(2)]
		return "shutdown", func(h *host) {
			_ = h.ep.Shutdown(flags)
			h.settle()
		}
	case 26:
		if r.Intn(12) != 0 {
			return "nothing", func(*host) {}
		}
		s.flags |= header.TCPFlagRst
		return send("RST")
	case 27:
		on := r.Intn(2) == 0
		return fmt.Sprint("keepalive ", on), func(h *host) { h.ep.SocketOptions().SetKeepAlive(on) }
	default:
		s.payload = bytes.Repeat([]byte{'l'}, 1400)
		p.next += 1400
		return send("a full segment")
	}
}

// TestArrivalsFollowChanges has the short way take no frame that the long one doesn't deliver.
func TestArrivalsFollowChanges(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			hosts, p := pairOf(t, f)
			short := hosts[0].card
			data := func(what string, want bool) {
				t.Helper()
				s := packet{seq: p.next, ack: p.sent, flags: header.TCPFlagAck | header.TCPFlagPsh, window: 4000, stamp: p.stamp, payload: []byte("data")}
				before := short.taken
				both(t, hosts, p, what, func(h *host) { h.bring(p.frame(s)) })
				if taken := short.taken != before; taken != want {
					t.Errorf("%s: taken %v, want %v", what, taken, want)
				}
				if int32(p.heard-p.next) > 0 || want {
					p.next += 4
				}
				both(t, hosts, p, what, func(h *host) {
					h.take(1000)
					h.clock.Advance(time.Second)
					h.settle()
				})
			}
			data("at first", true)
			both(t, hosts, p, "an address goes", func(h *host) { h.address(false) })
			data("without the address", false)
			both(t, hosts, p, "an address comes", func(h *host) { h.address(true) })
			data("with the address", true)

			both(t, hosts, p, "the interface goes", func(h *host) { must(t, h.stack.DisableNIC(nicID)) })
			data("without the interface", false)
			both(t, hosts, p, "the interface comes", func(h *host) {
				must(t, h.stack.EnableNIC(nicID))
				must(t, h.stack.AddStaticNeighbor(nicID, f.proto, f.there, theirs))
			})
			for _, proto := range []tcpip.NetworkProtocolNumber{header.EthernetProtocolAll, f.proto} {
				data("with nobody watching", true)
				both(t, hosts, p, "a watcher comes", func(h *host) { must(t, h.stack.RegisterPacketEndpoint(nicID, proto, &h.watcher)) })
				data("watched", false)
				for _, h := range hosts {
					if h.watcher.seen != 1 {
						t.Errorf("a watcher of %#x saw %d frames", proto, h.watcher.seen)
					}
				}
				both(t, hosts, p, "a watcher goes", func(h *host) {
					h.stack.UnregisterPacketEndpoint(nicID, proto, &h.watcher)
					h.watcher.seen = 0
				})
			}
			data("with nobody watching any more", true)

			// An endpoint that is gone gets nothing, and who has its address next gets all.
			both(t, hosts, p, "it ends", func(h *host) {
				h.ep.Abort()
				h.settle()
			})
			s := packet{seq: p.next, ack: p.sent, flags: header.TCPFlagAck, window: 4000, stamp: p.stamp, payload: []byte("data")}
			both(t, hosts, p, "data for nobody", func(h *host) { h.bring(p.frame(s)) })
		})
	}
}

// watcher is a packet endpoint.
type watcher struct{ seen int }

func (w *watcher) HandlePacket(_ tcpip.NICID, _ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if pkt.PktType != tcpip.PacketOutgoing {
		w.seen++
	}
}
