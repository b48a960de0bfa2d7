package profile

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"testing"
	"time"

	"elver/runtime/metal"
)

// raw returns what pprof reads in a profile.
func raw(t *testing.T, profile []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "profile")
	if err := os.WriteFile(name, profile, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "tool", "pprof", "-raw", name).CombinedOutput()
	if err != nil {
		t.Fatalf("pprof: %v\n%s", err, out)
	}
	return string(out)
}

func check(t *testing.T, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestCPU(t *testing.T) {
	interrupted := reflect.ValueOf(allocateMuch).Pointer()
	caller := reflect.ValueOf(check).Pointer() + 1
	got := raw(t, CPU([]metal.Sample{{Count: 7, Stack: []uintptr{interrupted, caller}}, {Count: 1234, Stack: []uintptr{0}}}, 3*time.Second))
	check(t, got, `samples/count cpu/nanoseconds`, `Duration: 3`, `(?m)^ +7 +7000000: 1 2`, `(?m)^ +1234 +1234000000: \d+ *$`,
		`elver/cmd/kernel/profile\.allocateMuch .*profile_test\.go:\d+`, `elver/cmd/kernel/profile\.check`, `the program \(user mode\)`)
}

var kept [][]byte

func allocateMuch() {
	for range 64 {
		kept = append(kept, make([]byte, 64<<10))
	}
}

func TestHeap(t *testing.T) {
	allocateMuch()
	runtime.GC()
	runtime.GC()
	check(t, raw(t, Heap()), `alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes`, `profile\.allocateMuch`)
	if len(kept) == 0 {
		t.Error("unreachable: keeps the memory alive")
	}
}
