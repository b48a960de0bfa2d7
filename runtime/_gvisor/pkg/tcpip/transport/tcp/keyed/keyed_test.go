package keyed

import (
	"encoding/binary"
	"testing"
)

// The vectors are those of the authors' implementation: key and input are 0, 1, 2, and so on.
func TestVectors(t *testing.T) {
	var key, input [16]byte
	for i := range key {
		key[i], input[i] = byte(i), byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 7: 0xab0200f58b01d137, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		h := New()
		h.Write(key[:])
		h.Write(input[:n/2])
		h.Write(input[n/2 : n])
		if got := binary.LittleEndian.Uint64(h.Sum(nil)); got != want {
			t.Errorf("of %d bytes: %#x, want %#x", n, got, want)
		}
	}
}
