// Package keyed is a hash with a key: SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
// 2012), which Linux takes for initial sequence numbers too. RFC 6528 asks for a function that nobody without the
// key can foresee.
//
// A Hash is used as one of the standard library's: the first 16 bytes that are written to it are the key.
package keyed

import (
	"encoding/binary"
	"math/bits"
)

// most is how many bytes are hashed at most, the key included: two addresses of IPv6 and two ports.
const most = 16 + 2*16 + 2*2

// Hash is what was written so far.
type Hash struct {
	bytes [most]byte
	n     int
}

// New returns an empty one.
func New() *Hash { return new(Hash) }

// Write adds bytes, as many as there is room for.
func (h *Hash) Write(p []byte) (int, error) {
	h.n += copy(h.bytes[h.n:], p)
	return len(p), nil
}

// Sum appends the eight bytes of the hash.
func (h *Hash) Sum(to []byte) []byte {
	k0, k1 := binary.LittleEndian.Uint64(h.bytes[:]), binary.LittleEndian.Uint64(h.bytes[8:])
	return binary.LittleEndian.AppendUint64(to, sum(k0, k1, h.bytes[16:max(h.n, 16)]))
}

func sum(k0, k1 uint64, p []byte) uint64 {
	s := state{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	length := len(p)
	for ; len(p) >= 8; p = p[8:] {
		s.add(binary.LittleEndian.Uint64(p))
	}
	last := uint64(length) << 56
	for i, c := range p {
		last |= uint64(c) << (8 * i)
	}
	s.add(last)
	s.v2 ^= 0xff
	for range 4 {
		s.round()
	}
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

type state struct{ v0, v1, v2, v3 uint64 }

func (s *state) add(m uint64) {
	s.v3 ^= m
	s.round()
	s.round()
	s.v0 ^= m
}

func (s *state) round() {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
}
