//go:build !elver

package amd64

import (
	"math/rand"
	"testing"

	"elver/runtime/metal"
)

func TestPageTable(t *testing.T) {
	before := metal.Frames().ByOwner
	var table PageTable
	if !table.Init() {
		t.Fatal("no frame")
	}
	if table.Lookup(0x1000) != nil {
		t.Error("an empty table has a leaf")
	}
	if next, _ := table.Next(0, userTableEnd); next != nil {
		t.Error("an empty table has a next leaf")
	}

	// Entries far apart and close together, found again in order.
	addrs := []uint64{0x1000, 0x2000, 0x1ff000, 0x200000, 0x40000000, 0x8000000000, 0x7fffffffe000}
	for i, va := range addrs {
		*table.Entry(va) = Entry(i+1) << pageShift
	}
	if n := table.Tables(); n != 13 {
		t.Errorf("%d tables", n)
	}
	found := 0
	for va := uint64(0); ; {
		leaf, base := table.Next(va, userTableEnd)
		if leaf == nil {
			break
		}
		for i, e := range leaf {
			if e != 0 {
				if want := addrs[found]; want != base+uint64(i)*pageSize || e.Frame() != uint64(found+1)<<pageShift {
					t.Errorf("entry %d is at %#x, want %#x", found, base+uint64(i)*pageSize, want)
				}
				found++
			}
		}
		va = base + LeafSpan
	}
	if found != len(addrs) {
		t.Errorf("found %d entries, want %d", found, len(addrs))
	}
	if next, base := table.Next(0x400000, 0x8000000000); next == nil || base != 0x40000000 {
		t.Errorf("after 0x400000 comes %#x", base)
	}

	// Only what lies wholly in the free range goes.
	*table.Entry(0x200000) = 0
	table.FreeTables(0x200000, 0x201000, 0x200000, 0x3ff000)
	if table.Lookup(0x200000) == nil {
		t.Error("a table that may map the neighbour was freed")
	}
	table.FreeTables(0x200000, 0x201000, 0x200000, 0x40000000)
	if table.Lookup(0x200000) != nil || table.Lookup(0x1000) == nil || table.Lookup(0x40000000) == nil {
		t.Error("the wrong table was freed")
	}
	for _, va := range addrs {
		if e := table.Lookup(va); e != nil {
			*e = 0
		}
	}
	table.FreeTables(0, userTableEnd, 0, userTableEnd)
	if table.Tables() != 1 {
		t.Errorf("%d tables are left", table.Tables())
	}
	LoadRoot(table.Root())
	table.Destroy()
	if CurrentRoot() != KernelRoot() {
		t.Error("the root that was freed is still loaded")
	}
	if after := metal.Frames().ByOwner; after != before {
		t.Errorf("frames: %v before, %v after", before, after)
	}
}

func TestPageTableKernelHalf(t *testing.T) {
	root := tableAt(KernelRoot())
	root[300] = 0x1234000 | EntryPresent
	root[5] = 0x5678000 | EntryPresent
	defer func() { root[300], root[5] = 0, 0 }()
	var table PageTable
	table.Init()
	own := tableAt(table.Root())
	if own[300] != root[300] || own[5] != 0 {
		t.Errorf("the kernel's half: %#x, the program's: %#x", own[300], own[5])
	}
	table.FreeTables(0, 1<<63, 0, 1<<63)
	if own[300] != root[300] {
		t.Error("the kernel's half was freed")
	}
	table.Destroy()
}

// TestDrops: no frame is given back before the TLB was told.
func TestDrops(t *testing.T) {
	before := metal.Frames().ByOwner
	var table PageTable
	table.Init()
	var frames []uint64
	for i := range uint64(200) {
		pa, _ := metal.AllocFrame(metal.OwnerProgram)
		frames = append(frames, pa)
		*table.Entry(i * pageSize) = Entry(pa) | EntryPresent | EntryUser
	}
	for i := range uint64(50) {
		e := table.Entry(i * pageSize)
		table.Changed(i * pageSize)
		table.Drop(e.Frame())
		*e = 0
	}
	if metal.Refs(frames[0]) != 1 {
		t.Error("freed before the flush")
	}
	flushes := hostCPU.invalidations
	table.Flush()
	if metal.Refs(frames[0]) != 0 || hostCPU.invalidations != flushes+1 {
		t.Errorf("%d references, %d invalidations", metal.Refs(frames[0]), hostCPU.invalidations-flushes)
	}
	table.Flush()
	if hostCPU.invalidations != flushes+1 {
		t.Error("a flush without changes")
	}
	for i := uint64(50); i < 200; i++ {
		e := table.Entry(i * pageSize)
		table.Changed(i * pageSize)
		table.Drop(e.Frame())
		*e = 0
	}
	table.Destroy()
	if after := metal.Frames().ByOwner; after != before {
		t.Errorf("frames: %v before, %v after", before, after)
	}
}

func TestPageTableRandom(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	var table PageTable
	table.InitSparse()
	defer table.Destroy()
	want := map[uint64]Entry{}
	for range 5000 {
		va := uint64(rnd.Int63()) & (userTableEnd - 1) &^ (pageSize - 1)
		if rnd.Intn(2) == 0 {
			va &= 0x3fffff
		}
		e := table.Entry(va)
		if *e != want[va] {
			t.Fatalf("%#x holds %#x, want %#x", va, *e, want[va])
		}
		*e = Entry(rnd.Int63()) & entryAddress
		want[va] = *e
		if got := table.Lookup(va); *got != *e {
			t.Fatalf("%#x: Lookup found %#x, want %#x", va, *got, *e)
		}
	}
	for va := range want {
		*table.Lookup(va) = 0
	}
}

func TestHostCopies(t *testing.T) {
	var table PageTable
	table.Init()
	defer table.Destroy()
	pa, _ := metal.AllocFrame(metal.OwnerProgram)
	metal.Zero(pa, pageSize)
	*table.Entry(0x5000) = Entry(pa) | EntryPresent | EntryUser
	root := table.Root()
	if n := CopyOutTo(root, 0x5000, []byte("hello")); n != 0 {
		t.Errorf("wrote %d bytes to a read-only page", n)
	}
	*table.Entry(0x5000) |= EntryWritable
	if n := CopyOutTo(root, 0x5ffd, []byte("hello")); n != 3 {
		t.Errorf("wrote %d bytes up to the end of the page", n)
	}
	var b [5]byte
	if n := CopyInFrom(root, b[:], 0x5ffd); n != 3 || string(b[:3]) != "hel" {
		t.Errorf("read %d bytes: %q", n, b)
	}
	if prev, ok := CompareAndSwapUser32In(root, 0x5000, 0, 9); prev != 0 || !ok {
		t.Errorf("swap: %d, %v", prev, ok)
	}
	if v, ok := LoadUser32From(root, 0x5000); v != 9 || !ok {
		t.Errorf("load: %d, %v", v, ok)
	}
	if StoreUser32To(root, 0x6000, 1) || ZeroOutTo(root, 0x5ff0, 100) != 16 {
		t.Error("beyond the page")
	}
	*table.Entry(0x5000) &^= EntryUser
	if CopyInFrom(root, b[:], 0x5000) != 0 {
		t.Error("read a page of the kernel's")
	}
	*table.Entry(0x5000) = 0
	metal.Unref(pa)
}
