package bpf

import (
	"testing"

	"golang.org/x/sys/unix"
)

// arp is what tcpdump -dd makes of "arp", and udp of "ip and udp dst port 68".
var (
	arp = []Instruction{{Code: loadHalf, K: 12}, {Code: unix.BPF_JMP | unix.BPF_JEQ, K: 0x806, JF: 1}, {Code: returnK, K: 65535}, {Code: returnK}}
	udp = []Instruction{
		{Code: loadHalf, K: 12}, {Code: unix.BPF_JMP | unix.BPF_JEQ, K: 0x800, JF: 8},
		{Code: loadByte, K: 23}, {Code: unix.BPF_JMP | unix.BPF_JEQ, K: 17, JF: 6},
		{Code: loadHalf, K: 20}, {Code: unix.BPF_JMP | unix.BPF_JSET, K: 0x1fff, JT: 4},
		{Code: loadXHeaderLength, K: 14}, {Code: loadHalfIndirect, K: 16},
		{Code: unix.BPF_JMP | unix.BPF_JEQ, K: 68, JF: 1}, {Code: returnK, K: 1500}, {Code: returnK},
	}
)

func TestRunPacket(t *testing.T) {
	frame := make([]byte, 60)
	frame[12], frame[13] = 8, 6
	datagram := make([]byte, 60)
	datagram[12], datagram[14], datagram[23], datagram[14+24+3] = 8, 0x46, 17, 68
	ret := func(i Instruction) []Instruction { return []Instruction{i, {Code: returnA}} }
	word := func(k uint32) []Instruction { return ret(Instruction{Code: loadAbsolute, K: k}) }
	for name, c := range map[string]struct {
		p      []Instruction
		packet Packet
		want   uint32
	}{
		"arp":             {arp, Packet{Data: frame}, 65535},
		"no arp":          {arp, Packet{Data: datagram}, 0},
		"udp":             {udp, Packet{Data: datagram}, 1500},
		"no udp":          {udp, Packet{Data: frame}, 0},
		"cut":             {udp, Packet{Data: datagram[:40]}, 0},
		"empty":           {arp, Packet{}, 0},
		"protocol":        {word(ancillaryProtocol), Packet{Protocol: 0x86dd}, 0x86dd},
		"type":            {word(ancillaryType), Packet{Type: 4}, 4},
		"no interface":    {word(ancillaryInterface), Packet{}, 0},
		"interface":       {word(ancillaryInterface), Packet{Interface: 2}, 2},
		"network header":  {ret(Instruction{Code: loadByte, K: fromNetworkHeader + 9}), Packet{Data: datagram, Network: 14}, 17},
		"link header":     {ret(Instruction{Code: loadHalf, K: fromLinkHeader + 12}), Packet{Data: datagram}, 0x800},
		"no link header":  {ret(Instruction{Code: loadHalf, K: fromLinkHeader + 12}), Packet{Data: datagram, Link: -1}, 0},
		"length":          {ret(Instruction{Code: loadLength}), Packet{Data: frame}, 60},
		"far":             {word(0x7fffffff), Packet{Data: frame}, 0},
		"x wraps":         {[]Instruction{{Code: loadXImmediate, K: 0xffffffff}, {Code: loadByteIndirect, K: 13}, {Code: returnA}}, Packet{Data: frame}, 8},
		"xor":             {[]Instruction{{Code: loadImmediate, K: 6}, {Code: loadXImmediate, K: 3}, {Code: loadAbsolute, K: ancillaryXor}, {Code: returnA}}, Packet{}, 5},
		"division by x=0": {[]Instruction{{Code: loadImmediate, K: 6}, {Code: unix.BPF_ALU | unix.BPF_DIV | unix.BPF_X}, {Code: returnK, K: 9}}, Packet{}, 0},
	} {
		if err := CheckPacket(c.p); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := RunPacket(c.p, &c.packet); got != c.want {
			t.Errorf("%s gives %d, not %d", name, got, c.want)
		}
	}
	for name, p := range map[string][]Instruction{
		"no return":        {{Code: loadHalf}},
		"no such addition": word(ancillary + 52),
		"unaligned":        word(ancillary + 1),
		"a call of":        {{Code: 0x85}, {Code: returnA}},
	} {
		if CheckPacket(p) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// FuzzRunPacket: what CheckPacket accepts, RunPacket ends without a panic.
func FuzzRunPacket(f *testing.F) {
	f.Add([]byte{0x28, 0, 0, 0, 12, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0}, []byte("packet"), 2)
	f.Fuzz(func(t *testing.T, b, data []byte, network int) {
		if p := Decode(b); CheckPacket(p) == nil && network >= -1 && network <= 1<<20 {
			RunPacket(p, &Packet{Data: data, Network: network})
		}
	})
}
