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
	hardware  bool
	stale     func()
	fresh     int64 // metal.Nanotime of when stale was called last
}

// staleNS is after how long numbers that are used ought to come from a new seed, as Linux has it
// (CRNG_RESEED_INTERVAL).
const staleNS = 60e9

// OnStale has f called, on a goroutine of its own, when numbers are used and a minute has passed since the
// last time. It is called before the first process starts.
func OnStale(f func()) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	pool.stale, pool.fresh = f, metal.Nanotime()
}

// Callers hold pool.mu.
func generator() *rand.ChaCha8 {
	if pool.generator == nil {
		var seed [32]byte
		pool.hardware = metal.Random(seed[:]) // or, without such an instruction, from the time stamp counter
		pool.generator = rand.NewChaCha8(seed)
	}
	if pool.stale != nil {
		if now := metal.Nanotime(); now-pool.fresh > staleNS {
			pool.fresh = now
			go pool.stale()
		}
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

// Hardware reports whether the CPU has a generator of its own: without one, and before Stir got
// something unpredictable, the numbers depend on the time stamp counter alone.
func Hardware() bool {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	generator()
	return pool.hardware
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
