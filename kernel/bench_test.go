package kernel

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel/mm"
)

// bench runs a machine whose threads do the system calls that step says until it returns false.
func bench(b *testing.B, threads int, step func(t *Thread) bool) {
	as, err := mm.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := as.Mmap(mm.MmapArgs{Addr: dataBase, Length: 0x100000, Prot: unix.PROT_READ | unix.PROT_WRITE, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED}); err != nil {
		b.Fatal(err)
	}
	k := New(Config{
		enter: func(t *Thread) amd64.Event { t.Ctx.OrigRAX = 1; return amd64.EventSyscall },
		Syscall: func(t *Thread) {
			if !step(t) {
				t.ExitGroup(0)
			}
		},
	})
	t, err := k.NewFirst(as, nil, nil, "bench")
	if err != nil {
		b.Fatal(err)
	}
	for range threads - 1 {
		if _, err := t.Clone(CloneArgs{Flags: threadFlags}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	t.Start()
	k.Wait()
	b.StopTimer()
	k.Stop()
}

func BenchmarkNullSyscall(b *testing.B) {
	n := 0
	bench(b, 1, func(t *Thread) bool { n++; t.Return(0); return n < b.N })
}

// One round is a wake and a wait of one of two threads.
func BenchmarkFutexWaitWake(b *testing.B) {
	b.ReportAllocs()
	n := uint32(0)
	bench(b, 2, func(t *Thread) bool {
		turn := atomic.LoadUint32(&n)
		if turn&1 == uint32(t.TID)&1 {
			t.MM().WriteUint32(dataBase, turn+1)
			atomic.StoreUint32(&n, turn+1)
			t.FutexWake(dataBase, false, 1, FutexAll)
		} else if err := t.FutexWait(dataBase, false, turn, FutexAll, Never); err != nil {
			t.Fail(err)
		}
		return turn < uint32(b.N)
	})
}

func BenchmarkThreadCreateExit(b *testing.B) {
	b.ReportAllocs()
	n := 0
	bench(b, 1, func(t *Thread) bool {
		if t.TID != 1 {
			t.Exit(0)
			return true
		}
		n++
		if _, err := t.Clone(CloneArgs{Flags: threadFlags}); err != nil {
			b.Error(err)
		}
		t.Yield()
		return n < b.N
	})
}

func BenchmarkSignalToSelf(b *testing.B) {
	b.ReportAllocs()
	n := 0
	bench(b, 1, func(t *Thread) bool {
		if n == 0 {
			t.Proc.SetAction(10, Action{Handler: handlerBase, Flags: SARestorer})
			t.Ctx.RSP = dataBase + 0x8000
		}
		n++
		if t.Ctx.RIP == handlerBase {
			t.Ctx.RSP += 8
			t.Sigreturn()
		} else {
			t.TGKill(1, 1, 10)
			t.Return(0)
		}
		return n < 2*b.N
	})
}
