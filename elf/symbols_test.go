package elf

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/test/need"
)

// bytesMap is a mappable file in frames of its own.
type bytesMap struct{ data []byte }

func (m *bytesMap) MapFrame(off uint64, write bool) (uint64, error) {
	if off >= uint64(len(m.data)) {
		return 0, os.ErrInvalid
	}
	pa, ok := metal.AllocFrame(metal.OwnerPageCache)
	if !ok {
		return 0, os.ErrInvalid
	}
	metal.Zero(pa, mm.PageSize)
	copy(metal.View(pa, mm.PageSize), m.data[off:])
	return pa, nil
}
func (m *bytesMap) MapName() string          { return "bytes" }
func (m *bytesMap) Ident() (dev, ino uint64) { return 1, 1 }

func TestSymbol(t *testing.T) {
	gcc := need.Command(t, "gcc")
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	if err := os.WriteFile(source, []byte("int wanted(int x) { return x + 1; }\nint main(void) { return wanted(1); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-O0", "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(need.Command(t, "nm"), binary).Output()
	if err != nil {
		t.Fatalf("nm, which gcc comes with: %v", err)
	}
	var at uint64
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "wanted" {
			for _, c := range f[0] {
				at = at<<4 | uint64(strings.IndexRune("0123456789abcdef", c))
			}
		}
	}
	before := metal.Frames()
	// The text of a position-independent program lies at its own offset.
	if got := Symbol(&bytesMap{data}, at+4); got != "wanted+0x4" {
		t.Errorf("Symbol(%#x) = %q, want wanted+0x4", at+4, got)
	}
	for cut := 0; cut < len(data); cut += 97 { // a file cut anywhere is no harm
		Symbol(&bytesMap{data[:cut]}, at)
	}
	for i := 0; i < len(data); i += 31 {
		spoilt := append([]byte(nil), data...)
		spoilt[i] ^= 0xff
		Symbol(&bytesMap{spoilt}, at)
	}
	if after := metal.Frames(); after.Free != before.Free {
		t.Errorf("%d frames are free, %d before", after.Free, before.Free)
	}
}
