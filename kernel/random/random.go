// Package random is the machine's source of random numbers: a ChaCha8 generator, seeded from the CPU's
// own and stirred with whatever else is unpredictable. It may be used by any goroutine.
//
// The generator is the one that Go's runtime trusts (math/rand/v2, ChaCha8: fast key erasure, so an
// earlier output cannot be computed from a later state).
package random

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"

	"elver/runtime/metal"
)

var pool struct {
	mu        sync.Mutex
	generator *rand.ChaCha8 // nil before the first use
}

// Callers hold pool.mu.
func generator() *rand.ChaCha8 {
	if pool.generator == nil {
		var seed [32]byte
		metal.Random(seed[:]) // or, without such an instruction, from the time stamp counter
		pool.generator = rand.NewChaCha8(seed)
	}
	return pool.generator
}

// Fill fills p with random bytes.
func Fill(p []byte) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	generator().Read(p)
}

// Uint64 returns a random number.
func Uint64() uint64 {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	return generator().Uint64()
}

// Stir mixes p, which may be known to others, into the state: it never becomes easier to guess.
func Stir(p []byte) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	g := generator()
	for len(p) > 0 {
		var seed [32]byte
		n := copy(seed[:24], p)
		p = p[n:]
		binary.LittleEndian.PutUint64(seed[24:], metal.TSC())
		var key [32]byte
		g.Read(key[:])
		for i := range seed {
			seed[i] ^= key[i]
		}
		g.Seed(seed)
	}
}
