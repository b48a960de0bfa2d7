package inet

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/runtime/metal"
)

func words(v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func newPacketSocket(n *Network) *packetSocket {
	s := &packetSocket{network: n}
	s.Init(unix.AF_PACKET, unix.SOCK_RAW, 0)
	return s
}

func TestRingRequests(t *testing.T) {
	frames := metal.Frames().Free
	s := newPacketSocket(new(Network))
	if err := s.setRing(words(4096, 1, 2048, 2)); err != unix.EINVAL {
		t.Errorf("without a version: %v", err)
	}
	if err := s.SetOption(nil, solPacket, packetVersion, words(2)); err != unix.EINVAL {
		t.Errorf("version 3: %v", err)
	}
	if err := s.SetOption(nil, solPacket, packetVersion, words(tpacketV2)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]uint32{
		{4096, 1, 2048, 3}, {4096, 1, 0, 2}, {4096, 1, 8192, 1}, {4096, 1, 32, 128}, {100, 1, 96, 1}, {0, 1, 2048, 0},
		{1 << 31, 1, 2048, 1 << 20}, {1 << 28, 1 << 31, 1 << 28, 1 << 31}, {4096, 1 << 31, 4096, 1 << 31}, {0xfffff000, 1, 2048, 2}, {4096, 0, 2048, 2},
	} {
		if err := s.setRing(words(bad...)); err != unix.EINVAL {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := s.setRing(words(8192, 3, 2048, 12)); err != nil {
		t.Fatal(err)
	}
	if err := s.setRing(words(8192, 3, 2048, 12)); err != unix.EBUSY {
		t.Errorf("a second ring: %v", err)
	}
	m, err := s.Mappable(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := m.(*packetRing)
	r.MapOpen()
	if err := s.setRing(words(0, 0, 0, 0)); err != unix.EBUSY {
		t.Errorf("it is mapped: %v", err)
	}
	if _, err := r.MapFrame(6*metal.FrameSize, true); err != unix.EFAULT {
		t.Errorf("beyond the end: %v", err)
	}
	s.Release()
	r.MapClose()
	if n := metal.Frames().Free; n != frames {
		t.Errorf("%d frames are lost", frames-n)
	}
}

func TestRing(t *testing.T) {
	s := newPacketSocket(new(Network))
	s.version = tpacketV2
	if err := s.setRing(words(8192, 1, 2720, 3)); err != nil { // frames that cross pages
		t.Fatal(err)
	}
	defer s.Release()
	put := func(n int) bool {
		f := frame{data: make([]byte, n), length: n, network: 14, at: 5e9 + 7, nic: 1, protocol: uint16(ipv4.ProtocolNumber)}
		for i := range f.data {
			f.data[i] = byte(i)
		}
		return s.take(&f)
	}
	if s.Readiness(waiter.ReadableEvents) != 0 {
		t.Error("an empty ring is readable")
	}
	for i := range 3 {
		if !put(60 + 2000*i) {
			t.Fatalf("no room for packet %d", i)
		}
	}
	if put(60) {
		t.Error("a full ring takes packets")
	}
	if s.Readiness(waiter.ReadableEvents) == 0 {
		t.Error("a ring with packets isn't readable")
	}
	for i, want := range []uint32{60, 2060, 2720 - 66} {
		at := s.ring.at(i)
		if status, length, n := s.ring.word(at), s.ring.word(at+4), s.ring.word(at+8); status != statusUser || length != uint32(60+2000*i) || n != want {
			t.Errorf("frame %d: %d, %d, %d", i, status, length, n)
		}
		s.ring.write(at, words(statusKernel))
	}
	if !put(60) || s.ring.word(s.ring.at(0)) != statusUser|statusLosing {
		t.Error("nobody hears of the lost packet")
	}
}

// TestSettings: /proc/sys/net takes what makes sense, and keeps it.
func TestSettings(t *testing.T) {
	n := new(Network)
	for _, s := range n.Settings() {
		v := s.Get()
		if len(v) != s.Count {
			t.Errorf("%s has %d numbers, not %d", s.Path, len(v), s.Count)
		}
		if err := s.Set(v); err != nil {
			t.Errorf("%s: what it is: %v", s.Path, err)
		}
		for i := range v {
			v[i] = -1
		}
		if err := s.Set(v); err == nil {
			t.Errorf("%s takes %d", s.Path, v)
		}
		if s.Get()[0] == -1 {
			t.Errorf("%s keeps what was refused", s.Path)
		}
		switch s.Path {
		case "ipv4/ip_local_port_range":
			if s.Set([]int{2000, 1000}) == nil || s.Set([]int{20000, 20010}) != nil {
				t.Errorf("%s: wrong", s.Path)
			}
			if first, last := n.Stack().PortRange(); first != 20000 || last != 20010 {
				t.Errorf("ports from %d to %d", first, last)
			}
		case "ipv4/ip_forward":
			if s.Set([]int{1}) != nil {
				t.Errorf("%s: wrong", s.Path)
			}
			if on, err := n.Stack().NICForwarding(tcpip.NICID(LoopbackNIC), ipv4.ProtocolNumber); err != nil || !on {
				t.Errorf("forwarding is %v, %v", on, err)
			}
		}
	}
}
