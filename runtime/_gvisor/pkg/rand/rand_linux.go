// Package rand stands in the kernel for gVisor's package of that name: its numbers are those of the Go
// runtime's ChaCha8, which the CPU seeds, and cost no call.
package rand

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

type reader struct{}

func (reader) Read(p []byte) (int, error) {
	n := len(p)
	for len(p) >= 8 {
		binary.NativeEndian.PutUint64(p, rand.Uint64())
		p = p[8:]
	}
	if len(p) > 0 {
		var last [8]byte
		binary.NativeEndian.PutUint64(last[:], rand.Uint64())
		copy(p, last[:])
	}
	return n, nil
}

// Reader gives random numbers.
var Reader io.Reader = reader{}

// Read fills p.
func Read(p []byte) (int, error) { return Reader.Read(p) }
