package random

import (
	"bytes"
	"testing"
)

func TestFillDiffers(t *testing.T) {
	var a, b [64]byte
	Fill(a[:])
	Fill(b[:])
	if a == b || bytes.Equal(a[:32], a[32:]) || a == [64]byte{} {
		t.Errorf("Fill repeats itself: %x, %x", a, b)
	}
}

func TestStirChangesTheFuture(t *testing.T) {
	pool.mu.Lock()
	before := *generator()
	pool.mu.Unlock()
	Stir([]byte("the same"))
	if v, w := before.Uint64(), Uint64(); v == w {
		t.Errorf("after Stir the generator goes on as before: %#x", v)
	}
	Stir(make([]byte, 1000))
	if a, b := Uint64(), Uint64(); a == b {
		t.Error("a number came twice in a row")
	}
}
