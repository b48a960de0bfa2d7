package bpf

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// Loads of a packet's bytes, and what Linux adds to them (bpf.txt, "BPF engine and instruction set").
const (
	loadHalf           = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
	loadByte           = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	loadIndirect       = unix.BPF_LD | unix.BPF_W | unix.BPF_IND
	loadHalfIndirect   = unix.BPF_LD | unix.BPF_H | unix.BPF_IND
	loadByteIndirect   = unix.BPF_LD | unix.BPF_B | unix.BPF_IND
	loadXHeaderLength  = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH
	ancillary          = 0xfffff000 // SKF_AD_OFF: from here on, what isn't in the packet
	fromNetworkHeader  = 0xfff00000 // SKF_NET_OFF
	fromLinkHeader     = 0xffe00000 // SKF_LL_OFF
	ancillaryProtocol  = ancillary + 0
	ancillaryType      = ancillary + 4
	ancillaryInterface = ancillary + 8
	ancillaryMark      = ancillary + 20
	ancillaryQueue     = ancillary + 24
	ancillaryHardware  = ancillary + 28
	ancillaryHash      = ancillary + 32
	ancillaryCPU       = ancillary + 36
	ancillaryXor       = ancillary + 40 // ALU_XOR_X
	ancillaryTag       = ancillary + 44
	ancillaryHasTag    = ancillary + 48
	ancillaryRandom    = ancillary + 56
)

// Packet is what a filter of a socket looks at.
type Packet struct {
	Data []byte
	// Network is where the network header begins in Data, and Link where the link's does, which may be
	// before Data: -1 if a program can't know.
	Network, Link int

	Protocol  uint16 // ETH_P_*
	Type      uint32 // PACKET_HOST and its like
	Interface uint32
	Hardware  uint32 // ARPHRD_*
}

// CheckPacket is Check for a filter of a socket.
func CheckPacket(p []Instruction) error { return check(p, Instruction.allowedOfPacket) }

func (i Instruction) allowedOfPacket() bool {
	switch i.Code {
	case loadAbsolute, loadHalf, loadByte:
		if i.K < ancillary {
			return true
		}
		switch i.K {
		case ancillaryProtocol, ancillaryType, ancillaryInterface, ancillaryMark, ancillaryQueue, ancillaryHardware,
			ancillaryHash, ancillaryCPU, ancillaryXor, ancillaryTag, ancillaryHasTag, ancillaryRandom:
			return true
		}
		return false
	case loadIndirect, loadHalfIndirect, loadByteIndirect, loadXHeaderLength:
		return true
	}
	return i.allowedAnywhere()
}

// RunPacket runs a program that CheckPacket has passed and returns how many bytes of the packet are wanted: 0
// for none, also if it looks beyond the end or divides by zero.
func RunPacket(p []Instruction, packet *Packet) uint32 {
	var a, x uint32
	var memory [memoryWords]uint32
	for pc := 0; pc < len(p); pc++ {
		i := &p[pc]
		ok := true
		switch i.Code {
		case loadAbsolute:
			if i.K == ancillaryXor {
				a ^= x
			} else {
				a, ok = packet.load(i.K, 4)
			}
		case loadHalf:
			a, ok = packet.load(i.K, 2)
		case loadByte:
			a, ok = packet.load(i.K, 1)
		case loadIndirect:
			a, ok = packet.load(x+i.K, 4)
		case loadHalfIndirect:
			a, ok = packet.load(x+i.K, 2)
		case loadByteIndirect:
			a, ok = packet.load(x+i.K, 1)
		case loadXHeaderLength:
			if x, ok = packet.load(i.K, 1); ok {
				x = x & 0xf << 2
			}
		case loadLength:
			a = uint32(len(packet.Data))
		case loadXLength:
			x = uint32(len(packet.Data))
		case loadImmediate:
			a = i.K
		case loadMemory:
			a = memory[i.K]
		case loadXImmediate:
			x = i.K
		case loadXMemory:
			x = memory[i.K]
		case store:
			memory[i.K] = a
		case storeX:
			memory[i.K] = x
		case returnK:
			return i.K
		case returnA:
			return a
		case toX:
			x = a
		case toA:
			a = x
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		default:
			operand := i.K
			if i.Code&unix.BPF_X != 0 {
				operand = x
			}
			operation := i.Code & 0xf0
			switch {
			case i.Code&7 != unix.BPF_JMP:
				if ok = operand != 0 || operation != unix.BPF_DIV && operation != unix.BPF_MOD; ok {
					a = compute(operation, a, operand)
				}
			case holds(operation, a, operand):
				pc += int(i.JT)
			default:
				pc += int(i.JF)
			}
		}
		if !ok {
			return 0
		}
	}
	return 0 // not reached: the last instruction returns
}

// load loads n bytes, in the network's order, at an offset that counts from the end of the numbers for what
// isn't in the packet.
func (p *Packet) load(k uint32, n int) (uint32, bool) {
	at := int64(k)
	switch {
	case k >= ancillary:
		return p.ancillary(k)
	case k >= fromNetworkHeader:
		if p.Network < 0 {
			return 0, false
		}
		at = int64(k-fromNetworkHeader) + int64(p.Network)
	case k >= fromLinkHeader:
		if p.Link < 0 {
			return 0, false
		}
		at = int64(k-fromLinkHeader) + int64(p.Link)
	}
	if at+int64(n) > int64(len(p.Data)) {
		return 0, false
	}
	b := p.Data[at:]
	switch n {
	case 1:
		return uint32(b[0]), true
	case 2:
		return uint32(binary.BigEndian.Uint16(b)), true
	}
	return binary.BigEndian.Uint32(b), true
}

// ancillary returns what Linux knows of a packet. There are no marks, hashes and tags.
func (p *Packet) ancillary(k uint32) (uint32, bool) {
	switch k {
	case ancillaryProtocol:
		return uint32(p.Protocol), true
	case ancillaryType:
		return p.Type, true
	case ancillaryInterface:
		return p.Interface, p.Interface != 0
	case ancillaryHardware:
		return p.Hardware, p.Interface != 0
	case ancillaryRandom:
		return rand.Uint32(), true
	case ancillaryMark, ancillaryQueue, ancillaryHash, ancillaryCPU, ancillaryTag, ancillaryHasTag:
		return 0, true
	}
	return 0, false
}
