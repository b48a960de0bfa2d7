package mm

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"elver/runtime/metal"
)

// Reclaim: memory that only saves work, such as pages of files that can be read again, is given back before
// anybody is refused a frame. Those who keep such memory register a shrinker.

var shrinkers struct {
	mu   sync.Mutex // guards list
	list []func(frames int) int
	last func(frames int) int
}

// reclaimBatch is how many frames are reclaimed when one is missing.
const reclaimBatch = 64

// RegisterShrinker has shrink called when memory is scarce. It gives about that many frames back, may park
// meanwhile, and returns how many it gave: 0 when it has none.
func RegisterShrinker(shrink func(frames int) int) {
	shrinkers.mu.Lock()
	defer shrinkers.mu.Unlock()
	if shrinkers.list == nil && shrinkers.last == nil {
		watchHeap()
	}
	shrinkers.list = append(shrinkers.list, shrink)
}

// RegisterLastResort has give called, as a shrinker is, when those have no more: it is for memory that was
// lent to the host, who is to have it rather than the page cache.
func RegisterLastResort(give func(frames int) int) {
	shrinkers.mu.Lock()
	defer shrinkers.mu.Unlock()
	if shrinkers.list == nil && shrinkers.last == nil {
		watchHeap()
	}
	shrinkers.last = give
}

// Reclaim gives back about n frames, and returns how many.
//
// Precondition: the caller holds no lock of an address space, and none that a shrinker takes.
func Reclaim(n int) int {
	freed := ReclaimCaches(n)
	if freed < n {
		freed += collect()
	}
	shrinkers.mu.Lock()
	last := shrinkers.last
	shrinkers.mu.Unlock()
	if freed < n && last != nil {
		freed += last(n - freed)
	}
	return freed
}

// collected is about the last collect.
var collected struct {
	mu     sync.Mutex // is held meanwhile, and guards what follows
	frames uint64     // that it gave back
	at     time.Time
}

const (
	// fewFrames aren't worth a collection.
	fewFrames = 256
	// collectAgain is how long after a collection that gave few frames the next one may be.
	collectAgain = 100 * time.Millisecond
)

// collect has the Go heap give back what nobody refers to, and returns how many frames that were. By itself, it keeps
// garbage until as much again was allocated as was in use before.
func collect() int {
	collected.mu.Lock()
	defer collected.mu.Unlock()
	before := metal.Frames().ByOwner[metal.OwnerGoHeap]
	if before < fewFrames || collected.frames < fewFrames && time.Since(collected.at) < collectAgain {
		return 0
	}
	runtime.GC() // a sync.Pool keeps things for one collection
	debug.FreeOSMemory()
	after := metal.Frames().ByOwner[metal.OwnerGoHeap]
	collected.frames, collected.at = max(before, after)-after, time.Now()
	return int(collected.frames)
}

// ReclaimCaches is Reclaim without the last resort.
func ReclaimCaches(n int) int {
	shrinkers.mu.Lock()
	list := shrinkers.list
	shrinkers.mu.Unlock()
	freed := 0
	for _, shrink := range list {
		if freed >= n {
			break
		}
		freed += shrink(n - freed)
	}
	return freed
}

// AllocFrame is metal.AllocFrame, after a Reclaim if need be.
//
// Precondition: as for Reclaim.
func AllocFrame(o metal.Owner) (pa uint64, ok bool) {
	pa, ok = metal.AllocFrame(o)
	for tries := 0; !ok && tries < 3 && Reclaim(reclaimBatch) > 0; tries++ {
		pa, ok = metal.AllocFrame(o)
	}
	return pa, ok
}

// MakeRoom sees to it that n frames are free beside the reserve, by a Reclaim if need be: false if they
// aren't to be had.
//
// Precondition: as for Reclaim.
func MakeRoom(n int) bool {
	for {
		f := metal.Frames()
		if f.Free >= f.Reserve+uint64(n) {
			return true
		}
		if Reclaim(max(int(f.Reserve+uint64(n)-f.Free), reclaimBatch)) == 0 {
			return false
		}
	}
}

// watchHeap keeps the reserve free for the Go heap: when that has taken of it, as a collection that just ended
// shows, pages go.
func watchHeap() {
	type sentinel struct{ _ [16]byte }
	var again func(*sentinel)
	again = func(s *sentinel) {
		if f := metal.Frames(); f.Free < f.Reserve {
			go Reclaim(int(f.Reserve - f.Free))
		}
		runtime.SetFinalizer(s, again)
	}
	runtime.SetFinalizer(new(sentinel), again)
}
