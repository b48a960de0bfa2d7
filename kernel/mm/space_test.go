//go:build !elver

package mm

import (
	"bytes"
	"errors"
	"math"
	"math/rand"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"elver/runtime/metal"
)

const (
	rw   = unix.PROT_READ | unix.PROT_WRITE
	anon = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	base = 0x10000000
)

// testLimits are limits by resource; the others are infinite.
type testLimits map[int]uint64

func (l testLimits) Soft(resource int) uint64 {
	if n, ok := l[resource]; ok {
		return n
	}
	return math.MaxUint64
}

// mustMap maps and fails the test if it cannot.
func mustMap(t testing.TB, as *AddressSpace, a MmapArgs) uint64 {
	t.Helper()
	addr, err := as.Mmap(a)
	if err != nil {
		t.Fatalf("mmap(%+v): %v", a, err)
	}
	return addr
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func wantFault(t testing.TB, as *AddressSpace, addr uint64, access Access, code int32) {
	t.Helper()
	var segv *SegvError
	if err := as.Fault(addr, access); !errors.As(err, &segv) || segv.Code != code || segv.Addr != addr {
		t.Errorf("fault at %#x (%v): %v, want code %d", addr, access, err, code)
	}
}

func TestVMASet(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	const pages = 3000
	var s vmaSet
	var used [pages]bool // by page
	vmas := map[uint64]*vma{}
	for step := range 6000 {
		at := uint64(rnd.Intn(pages - 3))
		n := uint64(1 + rnd.Intn(3))
		if v := vmas[at]; v != nil {
			s.remove(s.find(v.start))
			delete(vmas, at)
			for i := v.start; i < v.end; i++ {
				used[i] = false
			}
		} else if !used[at] && !used[at+1] && !used[at+2] {
			v := &vma{start: at, end: at + n}
			vmas[at] = v
			s.insert(v)
			for i := v.start; i < v.end; i++ {
				used[i] = true
			}
		}
		if s.count != len(vmas) {
			t.Fatalf("%d VMAs, want %d", s.count, len(vmas))
		}
		if step%20 != 0 {
			continue
		}
		low, high, length := uint64(rnd.Intn(pages/2)), uint64(pages/2+rnd.Intn(pages/2)), uint64(1+rnd.Intn(12))
		wantLow, wantHigh := uint64(0), uint64(0)
		okLow := false
		run := uint64(0)
		for i := low; i < high; i++ {
			if used[i] {
				run = 0
				continue
			}
			if run++; run >= length {
				if !okLow {
					wantLow, okLow = i+1-length, true
				}
				wantHigh = i + 1 - length
			}
		}
		if got, ok := s.roomAbove(low, high, length); ok != okLow || got != wantLow {
			t.Fatalf("step %d: roomAbove(%d, %d, %d) = %d %v, want %d %v", step, low, high, length, got, ok, wantLow, okLow)
		}
		if got, ok := s.roomBelow(low, high, length); ok != okLow || got != wantHigh {
			t.Fatalf("step %d: roomBelow(%d, %d, %d) = %d %v, want %d %v", step, low, high, length, got, ok, wantHigh, okLow)
		}
	}
}

func TestMmapErrors(t *testing.T) {
	before := counts()
	as := newSpace(t)
	file := newFile(4)
	used := mustMap(t, as, MmapArgs{Addr: base, Length: PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	for _, c := range []struct {
		name string
		a    MmapArgs
		want error
	}{
		{"no length", MmapArgs{Flags: anon}, unix.EINVAL},
		{"offset", MmapArgs{Length: 1, Flags: anon, Offset: 5}, unix.EINVAL},
		{"no type", MmapArgs{Length: 1, Flags: unix.MAP_ANONYMOUS}, unix.EINVAL},
		{"bad type", MmapArgs{Length: 1, Flags: unix.MAP_ANONYMOUS | unix.MAP_SHARED_VALIDATE}, unix.EINVAL},
		{"huge length", MmapArgs{Length: math.MaxUint64, Flags: anon}, unix.ENOMEM},
		{"length wraps to pages", MmapArgs{Length: math.MaxUint64 - 8192, Flags: anon}, unix.ENOMEM},
		{"more than user space", MmapArgs{Length: UserEnd + PageSize, Flags: anon}, unix.ENOMEM},
		{"all of user space", MmapArgs{Length: UserEnd, Flags: anon | unix.MAP_NORESERVE}, unix.ENOMEM},
		{"more than the machine", MmapArgs{Length: 1 << 40, Prot: rw, Flags: anon}, unix.ENOMEM},
		{"shared, more than the machine", MmapArgs{Length: 1 << 40, Prot: rw, Flags: unix.MAP_SHARED | unix.MAP_ANONYMOUS}, unix.ENOMEM},
		{"fixed, not aligned", MmapArgs{Addr: base + 1, Length: 1, Flags: anon | unix.MAP_FIXED}, unix.EINVAL},
		{"fixed, low", MmapArgs{Addr: 0, Length: 1, Flags: anon | unix.MAP_FIXED}, unix.EPERM},
		{"fixed, too high", MmapArgs{Addr: UserEnd, Length: 1, Flags: anon | unix.MAP_FIXED}, unix.ENOMEM},
		{"fixed, kernel", MmapArgs{Addr: 0xffff800000000000, Length: 1, Flags: anon | unix.MAP_FIXED}, unix.ENOMEM},
		{"no replace", MmapArgs{Addr: used, Length: 1, Flags: anon | unix.MAP_FIXED_NOREPLACE}, unix.EEXIST},
		{"shared stack", MmapArgs{Length: 1, Flags: unix.MAP_SHARED | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN}, unix.EINVAL},
		{"huge pages", MmapArgs{Length: 2 << 20, Flags: anon | unix.MAP_HUGETLB}, unix.ENOMEM},
		{"file, end wraps", MmapArgs{Length: 1 << 13, Flags: unix.MAP_PRIVATE, File: file, Offset: math.MaxUint64 &^ pageMask}, nil},
		{"file not readable", MmapArgs{Length: 1, Flags: unix.MAP_PRIVATE, File: file, FileProt: unix.PROT_WRITE}, unix.EACCES},
		{"file not writable", MmapArgs{Length: 1, Prot: rw, Flags: unix.MAP_SHARED, File: file, FileProt: unix.PROT_READ}, unix.EACCES},
		{"file not executable", MmapArgs{Length: 1, Prot: unix.PROT_EXEC, Flags: unix.MAP_PRIVATE, File: file, FileProt: unix.PROT_READ}, unix.EPERM},
		{"file, unknown flag", MmapArgs{Length: 1, Flags: unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC, File: file}, unix.EOPNOTSUPP},
		{"file, grows down", MmapArgs{Length: 1, Flags: unix.MAP_PRIVATE | unix.MAP_GROWSDOWN, File: file}, unix.EINVAL},
	} {
		_, err := as.Mmap(c.a)
		wantErr(t, c.name, err, c.want)
	}
	as.Release()
	if file.open != 0 {
		t.Errorf("the file is still mapped %d times", file.open)
	}
	file.drop()
	checkCounts(t, before)
}

func TestAddressChoice(t *testing.T) {
	as := newSpace(t)
	defer as.Release()
	const top = 0x7f0000000000
	as.SetMmapBase(top)
	one := MmapArgs{Length: PageSize, Prot: rw, Flags: anon}
	steps := []struct {
		addr   uint64
		flags  int
		length uint64
		want   uint64
	}{
		{0, 0, 1, top - 0x1000},
		{0, 0, 0x2000, top - 0x3000},
		{0x1234567, 0, 1, 0x1234000},       // a free hint is taken, rounded down
		{0x1234567, 0, 1, top - 0x4000},    // a used one isn't
		{1, 0, 1, MinAddr},                 // raised to mmap_min_addr? a hint in page 0 is none
		{UserEnd, 0, 1, top - 0x5000},      // beyond the end
		{0, unix.MAP_32BIT, 1, 0x40000000}, // bottom-up below 2 GiB
		{0, unix.MAP_32BIT, 1, 0x40001000},
		{0x50000000, unix.MAP_32BIT, 1, 0x50000000},
		{0x90000000, unix.MAP_32BIT, 1, 0x40002000},
		{0x600000000, unix.MAP_GROWSDOWN, 1, 0x600000000},
		{0x600000000 - 0x2000, 0, 0x1000, top - 0x6000}, // in the guard gap
		{0x600000000 - StackGuardGap - 0x1000, 0, 1, 0x600000000 - StackGuardGap - 0x1000},
	}
	for i, s := range steps {
		a := one
		a.Addr, a.Length = s.addr, s.length
		a.Flags |= s.flags
		if s.addr == 1 {
			continue
		}
		if got := mustMap(t, as, a); got != s.want {
			t.Errorf("step %d: mmap(%#x, %#x) = %#x, want %#x", i, s.addr, s.flags, got, s.want)
		}
	}
	// A hole below the base is filled before new room is taken.
	if err := as.Munmap(top-0x3000, 0x1000); err != nil {
		t.Fatal(err)
	}
	if got := mustMap(t, as, one); got != top-0x3000 {
		t.Errorf("the hole at %#x wasn't used, but %#x", top-0x3000, got)
	}
}

func TestReservation(t *testing.T) {
	before := counts()
	as := newSpace(t)
	const size = 400 << 30
	addr := mustMap(t, as, MmapArgs{Length: size, Flags: anon | unix.MAP_NORESERVE})
	for _, off := range []uint64{0, size / 2, size - 2<<20} {
		if err := as.Mprotect(addr+off, 1<<20, rw); err != nil {
			t.Fatal(err)
		}
		if err := as.WriteUint64(addr+off+8, 7); err != nil {
			t.Fatal(err)
		}
	}
	wantFault(t, as, addr+1<<30, AccessRead, AccErr)
	if u := as.Usage(); u.Anon != 3*PageSize || u.Size != size {
		t.Errorf("usage: %+v", u)
	}
	if err := as.Madvise(addr, size, unix.MADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	if v, err := as.ReadUint64(addr + 8); v != 0 || err != nil {
		t.Errorf("after MADV_DONTNEED: %d, %v", v, err)
	}
	if err := as.Munmap(addr, size); err != nil {
		t.Fatal(err)
	}
	if u := as.Usage(); u.Size != 0 || u.RSS != 0 || u.PageTables != PageSize || u.PeakRSS != 3*PageSize {
		t.Errorf("usage after munmap: %+v", u)
	}
	as.Release()
	checkCounts(t, before)
}

func TestMapCount(t *testing.T) {
	before := counts()
	as := newSpace(t)
	addr := mustMap(t, as, MmapArgs{Length: 200000 * PageSize, Flags: anon})
	var err error
	n := uint64(0)
	for ; err == nil; n += 2 {
		err = as.Mprotect(addr+(n+1)*PageSize, PageSize, unix.PROT_READ)
	}
	wantErr(t, "too many VMAs", err, unix.ENOMEM)
	if c := as.Usage().Maps; c != MaxMapCount() {
		t.Errorf("%d VMAs, want %d", c, MaxMapCount())
	}
	// Linux lets mmap make one more than the others.
	one := MmapArgs{Addr: base, Length: PageSize, Prot: rw, Flags: anon}
	mustMap(t, as, one)
	one.Addr += 4 * PageSize
	_, err = as.Mmap(one)
	wantErr(t, "mmap beyond", err, unix.ENOMEM)
	wantErr(t, "munmap that splits", as.Munmap(addr+199990*PageSize, PageSize), unix.ENOMEM)
	wantErr(t, "munmap of all", as.Munmap(addr, 200000*PageSize), nil)
	as.Release()
	checkCounts(t, before)
}

func TestStack(t *testing.T) {
	before := counts()
	limits := testLimits{unix.RLIMIT_STACK: 1 << 20}
	as, _ := New(limits)
	const top = 0x7ffff0000000
	if err := as.SetStack(top, 128<<10, false); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "first page", as.Fault(top-8, AccessWrite), nil)
	wantErr(t, "growth", as.Fault(top-(1<<20), AccessWrite), nil)
	wantFault(t, as, top-(1<<20)-1, AccessWrite, MapErr)
	limits[unix.RLIMIT_STACK] = 8 << 20
	mustMap(t, as, MmapArgs{Addr: top - 4<<20, Length: PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	wantErr(t, "up to the gap", as.Fault(top-3<<20+PageSize, AccessWrite), nil)
	wantFault(t, as, top-3<<20, AccessWrite, MapErr)
	wantFault(t, as, top-3<<20-PageSize, AccessRead, MapErr)
	if r, ok := as.Region(top - 1); !ok || r.Name != "[stack]" || r.Start != top-3<<20+PageSize {
		t.Errorf("region: %+v", r)
	}
	if u := as.Usage(); u.Stack != 3<<20-PageSize {
		t.Errorf("VmStk is %d", u.Stack)
	}
	as.Release()
	checkCounts(t, before)
}

func TestBrk(t *testing.T) {
	before := counts()
	limits := testLimits{unix.RLIMIT_DATA: 1 << 20}
	as, _ := New(limits)
	const start = 0x555555560123
	as.SetBrk(start)
	if got := as.Brk(0); got != start {
		t.Errorf("brk(0) = %#x", got)
	}
	for _, c := range []struct{ to, want uint64 }{
		{start + 10, start + 10},
		{start + 0x5000, start + 0x5000},
		{start - 1, start + 0x5000},
		{start + 2<<20, start + 0x5000}, // RLIMIT_DATA
		{1 << 63, start + 0x5000},
	} {
		if got := as.Brk(c.to); got != c.want {
			t.Errorf("brk(%#x) = %#x, want %#x", c.to, got, c.want)
		}
	}
	wantErr(t, "heap", as.WriteUint32(start+0x4000, 5), nil)
	if r, ok := as.Region(start + 0x4000); !ok || r.Name != "[heap]" {
		t.Errorf("region: %+v %v", r, ok)
	}
	if got := as.Brk(start + 0x1000); got != start+0x1000 {
		t.Errorf("shrinking: %#x", got)
	}
	as.Brk(start + 0x5000)
	if v, err := as.ReadUint32(start + 0x4000); v != 0 || err != nil {
		t.Errorf("memory that came back holds %d, %v", v, err)
	}
	mustMap(t, as, MmapArgs{Addr: 0x555555570000, Length: PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	if got := as.Brk(start + 0xf000); got != start+0x5000 {
		t.Errorf("into a mapping: %#x", got)
	}
	as.Release()
	checkCounts(t, before)
}

func TestLimits(t *testing.T) {
	before := counts()
	limits := testLimits{unix.RLIMIT_AS: 18 * PageSize, unix.RLIMIT_DATA: 8 * PageSize, unix.RLIMIT_MEMLOCK: 2 * PageSize}
	as, _ := New(limits)
	a := mustMap(t, as, MmapArgs{Length: 8 * PageSize, Prot: rw, Flags: anon})
	_, err := as.Mmap(MmapArgs{Length: PageSize, Prot: rw, Flags: anon})
	wantErr(t, "RLIMIT_DATA", err, unix.ENOMEM)
	b := mustMap(t, as, MmapArgs{Length: 8 * PageSize, Prot: unix.PROT_READ, Flags: anon})
	wantErr(t, "mprotect beyond RLIMIT_DATA", as.Mprotect(b, PageSize, rw), unix.ENOMEM)
	_, err = as.Mmap(MmapArgs{Length: 3 * PageSize, Flags: anon})
	wantErr(t, "RLIMIT_AS", err, unix.ENOMEM)
	mustMap(t, as, MmapArgs{Addr: a, Length: 8 * PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	_, err = as.Mremap(b, 8*PageSize, 11*PageSize, unix.MREMAP_MAYMOVE, 0)
	wantErr(t, "mremap beyond RLIMIT_AS", err, unix.ENOMEM)

	wantErr(t, "mlock", as.Mlock(a, 2*PageSize, 0, false), nil)
	wantErr(t, "mlock again", as.Mlock(a, 2*PageSize, 0, false), nil)
	wantErr(t, "mlock beyond RLIMIT_MEMLOCK", as.Mlock(a, 3*PageSize, 0, false), unix.ENOMEM)
	wantErr(t, "mlock by root", as.Mlock(a, 3*PageSize, 0, true), nil)
	if u := as.Usage(); u.Locked != 3*PageSize || u.Anon != 3*PageSize {
		t.Errorf("usage: %+v", u)
	}
	wantErr(t, "DONTNEED of locked memory", as.Madvise(a, PageSize, unix.MADV_DONTNEED), unix.EINVAL)
	wantErr(t, "munlock", as.Munlock(a, 3*PageSize), nil)
	wantErr(t, "mlock of nothing", as.Mlock(0x1000000, PageSize, 0, false), unix.ENOMEM)
	wantErr(t, "mlockall", as.Mlockall(unix.MCL_FUTURE, false), nil)
	wantErr(t, "mlockall of more", as.Mlockall(unix.MCL_CURRENT, false), unix.ENOMEM)
	wantErr(t, "mlockall 0", as.Mlockall(0, false), unix.EINVAL)
	wantErr(t, "munlockall", as.Munlockall(), nil)
	if u := as.Usage(); u.Locked != 0 || u.Maps != 2 {
		t.Errorf("usage: %+v", u)
	}
	as.Release()
	checkCounts(t, before)
}

func TestFaults(t *testing.T) {
	before := counts()
	as := newSpace(t)
	const size = 4 * PageSize
	r := mustMap(t, as, MmapArgs{Addr: base, Length: size, Prot: unix.PROT_READ, Flags: anon | unix.MAP_FIXED})
	x := mustMap(t, as, MmapArgs{Addr: base + size, Length: size, Prot: unix.PROT_READ | unix.PROT_EXEC, Flags: anon | unix.MAP_FIXED})
	w := mustMap(t, as, MmapArgs{Addr: base + 2*size, Length: size, Prot: unix.PROT_WRITE, Flags: anon | unix.MAP_FIXED})
	none := mustMap(t, as, MmapArgs{Addr: base + 3*size, Length: size, Flags: anon | unix.MAP_FIXED})
	wantErr(t, "read", as.Fault(r, AccessRead), nil)
	wantErr(t, "read again", as.Fault(r, AccessRead), nil)
	wantFault(t, as, r+1, AccessWrite, AccErr)
	wantFault(t, as, r+2, AccessExec, AccErr)
	wantErr(t, "exec", as.Fault(x, AccessExec), nil)
	wantErr(t, "write", as.Fault(w, AccessWrite), nil)
	wantErr(t, "read of write-only memory", as.Fault(w, AccessRead), nil)
	wantFault(t, as, none, AccessRead, AccErr)
	wantFault(t, as, base-1, AccessRead, MapErr)
	wantFault(t, as, UserEnd, AccessRead, MapErr)
	wantFault(t, as, 1<<63, AccessWrite, MapErr)
	if u := as.Usage(); u.Anon != PageSize {
		t.Errorf("%d bytes are resident: a page that was only read costs none", u.Anon)
	}
	// Read, then write: the zero page is replaced.
	wantErr(t, "mprotect", as.Mprotect(r, size, rw), nil)
	wantErr(t, "write", as.WriteUint32(r, 1), nil)
	if v, _ := as.ReadUint32(r + PageSize); v != 0 {
		t.Errorf("the zero page holds %d", v)
	}
	// PROT_NONE and back keeps the contents.
	wantErr(t, "mprotect", as.Mprotect(r, size, 0), nil)
	if _, err := as.ReadUint32(r); err != unix.EFAULT {
		t.Errorf("reading PROT_NONE: %v", err)
	}
	wantErr(t, "mprotect", as.Mprotect(r, size, unix.PROT_READ), nil)
	if v, err := as.ReadUint32(r); v != 1 || err != nil {
		t.Errorf("after PROT_NONE: %d, %v", v, err)
	}
	wantErr(t, "write to read-only", as.WriteUint32(r, 2), unix.EFAULT)
	as.Release()
	checkCounts(t, before)
}

func TestOutOfMemory(t *testing.T) {
	before := counts()
	as := newSpace(t)
	limit := metal.SetArenaFrames(4096)
	addr := mustMap(t, as, MmapArgs{Length: 15 << 20, Prot: rw, Flags: anon})
	more := mustMap(t, as, MmapArgs{Length: 15 << 20, Prot: rw, Flags: anon})
	var err error
	n := uint64(0)
	for ; err == nil && n < 15<<20; n += PageSize {
		err = as.Fault(addr+n, AccessWrite)
	}
	for n = 0; err == nil && n < 15<<20; n += PageSize {
		err = as.Fault(more+n, AccessWrite)
	}
	wantErr(t, "the last page", err, unix.ENOMEM)
	s := metal.Frames()
	if s.Free < s.Reserve-4 {
		t.Errorf("%d frames are free, the reserve is %d", s.Free, s.Reserve)
	}
	if as.OutOfMemory() {
		t.Error("no copy failed yet")
	}
	n0, err := as.CopyOut(more+14<<20, make([]byte, 10))
	if n0 != 0 || err != unix.EFAULT || !as.OutOfMemory() {
		t.Errorf("copy without memory: %d, %v", n0, err)
	}
	if _, err := as.Fork(nil); err != unix.ENOMEM {
		t.Errorf("fork without memory: %v", err)
	}
	as.Release()
	metal.SetArenaFrames(limit)
	checkCounts(t, before)
}

func TestFork(t *testing.T) {
	before := counts()
	as := newSpace(t)
	const n = 64
	private := mustMap(t, as, MmapArgs{Length: n * PageSize, Prot: rw, Flags: anon})
	shared := mustMap(t, as, MmapArgs{Length: n * PageSize, Prot: rw, Flags: unix.MAP_SHARED | unix.MAP_ANONYMOUS})
	wiped := mustMap(t, as, MmapArgs{Length: PageSize, Prot: rw, Flags: anon})
	kept := mustMap(t, as, MmapArgs{Length: PageSize, Prot: rw, Flags: anon})
	none := mustMap(t, as, MmapArgs{Length: PageSize, Prot: rw, Flags: anon})
	wantErr(t, "wipe", as.Madvise(wiped, PageSize, unix.MADV_WIPEONFORK), nil)
	wantErr(t, "dontfork", as.Madvise(kept, PageSize, unix.MADV_DONTFORK), nil)
	wantErr(t, "wipe of shared memory", as.Madvise(shared, PageSize, unix.MADV_WIPEONFORK), unix.EINVAL)
	for i := uint64(0); i < n; i++ {
		as.WriteUint32(private+i*PageSize, uint32(i+1))
		as.WriteUint32(shared+i*PageSize, uint32(i+1))
	}
	for _, a := range []uint64{wiped, kept, none} {
		wantErr(t, "write", as.WriteUint32(a, 9), nil)
	}
	wantErr(t, "mprotect", as.Mprotect(none, PageSize, 0), nil)
	frames := metal.Frames().ByOwner[metal.OwnerProgram]
	child, err := as.Fork(nil)
	if err != nil {
		t.Fatal(err)
	}
	if now := metal.Frames().ByOwner[metal.OwnerProgram]; now != frames {
		t.Errorf("fork took %d frames", now-frames)
	}
	expect := func(as *AddressSpace, addr uint64, want uint32) {
		t.Helper()
		if v, err := as.ReadUint32(addr); v != want || err != nil {
			t.Errorf("at %#x: %d, %v; want %d", addr, v, err, want)
		}
	}
	expect(child, wiped, 0)
	expect(as, wiped, 9)
	wantFault(t, child, kept, AccessRead, MapErr)
	wantFault(t, child, none, AccessRead, AccErr)
	wantErr(t, "mprotect in the child", child.Mprotect(none, PageSize, rw), nil)
	expect(child, none, 9)
	for i := uint64(0); i < n; i++ {
		expect(child, private+i*PageSize, uint32(i+1))
		child.WriteUint32(private+i*PageSize, 100)
		expect(as, private+i*PageSize, uint32(i+1))
		as.WriteUint32(private+i*PageSize, 200)
		expect(child, private+i*PageSize, 100)
		child.WriteUint32(shared+i*PageSize, 300)
		expect(as, shared+i*PageSize, 300)
	}
	keyA, errA := as.FutexKey(shared+8, true)
	keyB, errB := child.FutexKey(shared+8, true)
	if keyA != keyB || errA != nil || errB != nil {
		t.Errorf("keys of the same word: %v %v, %v %v", keyA, errA, keyB, errB)
	}
	keyA, _ = as.FutexKey(private, true)
	keyB, _ = child.FutexKey(private, true)
	if keyA == keyB {
		t.Error("private words have the same key")
	}
	as.Release()
	expect(child, private, 100)
	grandchild, _ := child.Fork(nil)
	child.Release()
	// The only one left writes without copying.
	frames = metal.Frames().ByOwner[metal.OwnerProgram]
	grandchild.WriteUint32(private, 5)
	if now := metal.Frames().ByOwner[metal.OwnerProgram]; now != frames {
		t.Errorf("the last user copied: %d frames more", now-frames)
	}
	grandchild.Release()
	checkCounts(t, before)
}

// testFile is a file of a few pages.
type testFile struct {
	mu       sync.Mutex
	frames   []uint64
	dirty    map[uint64]bool
	mappings Mappings
	open     int
	asked    int
	synced   int
}

func newFile(pages int) *testFile {
	f := &testFile{dirty: map[uint64]bool{}}
	for i := range pages {
		pa, _ := metal.AllocFrame(metal.OwnerPageCache)
		p := metal.View(pa, PageSize)
		for j := range p {
			p[j] = byte(i + 1)
		}
		f.frames = append(f.frames, pa)
	}
	return f
}

func (f *testFile) MapFrame(off uint64, write bool) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if off/PageSize >= uint64(len(f.frames)) {
		return 0, unix.EFAULT
	}
	if write {
		f.dirty[off] = true
	}
	metal.Ref(f.frames[off/PageSize])
	return f.frames[off/PageSize], nil
}

func (f *testFile) truncate(pages int) {
	f.mu.Lock()
	cut := f.frames[pages:]
	f.frames = f.frames[:pages]
	f.mu.Unlock()
	f.mappings.Unmap(uint64(pages)*PageSize, math.MaxUint64&^pageMask, true)
	for _, pa := range cut {
		metal.Unref(pa)
	}
}

func (f *testFile) drop() {
	for _, pa := range f.frames {
		metal.Unref(pa)
	}
	f.frames = nil
}

func (f *testFile) MapName() string         { return "/file" }
func (f *testFile) Ident() (uint64, uint64) { return 8, 42 }
func (f *testFile) Mappings() *Mappings     { return &f.mappings }
func (f *testFile) MapOpen()                { f.count(1) }
func (f *testFile) MapClose()               { f.count(-1) }
func (f *testFile) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open += n
}
func (f *testFile) MapSync(off, end uint64) error {
	f.synced += int(end - off)
	return nil
}

// nearFile is a testFile that knows its pages without waiting, but for those that are far.
type nearFile struct {
	*testFile
	far map[uint64]bool
}

func (f nearFile) MapAround(off uint64, n int) (frames [AroundPages]uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range uint64(n) {
		if page := off/PageSize + k; page < uint64(len(f.frames)) && !f.far[page] {
			frames[k] = f.frames[page]
			metal.Ref(frames[k])
		}
	}
	return frames
}

func TestFaultAround(t *testing.T) {
	before := counts()
	as := newSpace(t)
	file := nearFile{newFile(40), map[uint64]bool{20: true}}
	const at = base + 3*PageSize // no multiple of what a fault maps
	mustMap(t, as, MmapArgs{Addr: at, Length: 64 * PageSize, Prot: rw, Flags: unix.MAP_PRIVATE | unix.MAP_FIXED, File: file})
	read := func(page uint64) {
		t.Helper()
		var b [1]byte
		if _, err := as.CopyIn(b[:], at+page*PageSize); err != nil || b[0] != byte(page+1) {
			t.Errorf("page %d has %d, %v", page, b[0], err)
		}
	}
	for page := range uint64(40) {
		read(page)
	}
	if file.asked != 4 {
		t.Errorf("40 pages, one of them far, took %d questions", file.asked)
	}
	if u := as.Usage(); u.FileRSS != 40*PageSize {
		t.Errorf("%d bytes of files are resident", u.FileRSS)
	}
	as.CopyOut(at+PageSize, []byte{99})
	var b [1]byte
	if err := as.Fault(at+40*PageSize, AccessRead); err == nil {
		t.Error("beyond the end of the file")
	}
	// Pages that nobody looks at go, after one look that may have been too early.
	file.mappings.Age(0, 40*PageSize)
	file.mappings.Age(0, 40*PageSize)
	if u := as.Usage(); u.FileRSS != 0 || u.Anon != PageSize {
		t.Errorf("%d bytes of files and %d others are resident", u.FileRSS, u.Anon)
	}
	if _, err := as.CopyIn(b[:], at+PageSize); err != nil || b[0] != 99 {
		t.Errorf("what was written is %d, %v", b[0], err)
	}
	asked := file.asked
	read(2)
	read(3)
	if file.asked != asked+1 {
		t.Errorf("two pages near each other took %d questions", file.asked-asked)
	}
	as.Release()
	file.drop()
	checkCounts(t, before)
}

func TestFiles(t *testing.T) {
	before := counts()
	as := newSpace(t)
	file := newFile(4)
	private := mustMap(t, as, MmapArgs{Addr: base, Length: 8 * PageSize, Prot: rw, Flags: unix.MAP_PRIVATE | unix.MAP_FIXED, File: file})
	shared := mustMap(t, as, MmapArgs{Addr: base + 1<<20, Length: 8 * PageSize, Prot: rw, Flags: unix.MAP_SHARED | unix.MAP_FIXED, File: file})
	read := func(as *AddressSpace, addr uint64, want byte) {
		t.Helper()
		var b [1]byte
		if _, err := as.CopyIn(b[:], addr); err != nil || b[0] != want {
			t.Errorf("at %#x: %d, %v; want %d", addr, b[0], err, want)
		}
	}
	write := func(as *AddressSpace, addr uint64, v byte) {
		t.Helper()
		if _, err := as.CopyOut(addr, []byte{v}); err != nil {
			t.Errorf("write at %#x: %v", addr, err)
		}
	}
	read(as, private, 1)
	read(as, private+PageSize, 2)
	write(as, private, 10)            // after a read
	write(as, private+2*PageSize, 11) // without one
	read(as, shared, 1)
	if len(file.dirty) != 0 {
		t.Errorf("dirty: %v", file.dirty)
	}
	write(as, shared+PageSize, 20)
	read(as, private+PageSize, 20) // not copied yet: the file shows through
	read(as, private+PageSize+1, 2)
	if !file.dirty[PageSize] || len(file.dirty) != 1 {
		t.Errorf("dirty: %v", file.dirty)
	}
	// Written back, written again: the file hears of it.
	delete(file.dirty, PageSize)
	write(as, shared+PageSize, 21)
	if len(file.dirty) != 0 {
		t.Error("asked without need")
	}
	file.mappings.WriteProtect(PageSize, 2*PageSize)
	write(as, shared+PageSize, 22)
	if !file.dirty[PageSize] {
		t.Error("the write after WriteProtect went unnoticed")
	}
	if metal.View(file.frames[1], 1)[0] != 22 || metal.View(file.frames[0], 1)[0] != 1 {
		t.Error("the file's contents are wrong")
	}
	var bus *BusError
	if err := as.Fault(shared+4*PageSize, AccessRead); !errors.As(err, &bus) {
		t.Errorf("beyond the end: %v", err)
	}
	if n, err := as.CopyIn(make([]byte, 2*PageSize), shared+3*PageSize); n != PageSize || err != unix.EFAULT {
		t.Errorf("copy beyond the end: %d, %v", n, err)
	}
	if u := as.Usage(); u.Anon != 2*PageSize || u.FileRSS != 4*PageSize {
		t.Errorf("usage: %+v", u)
	}

	child, err := as.Fork(nil)
	if err != nil {
		t.Fatal(err)
	}
	read(child, private, 10)
	write(child, private, 12)
	read(as, private, 10)
	write(child, shared, 30)
	read(as, shared, 30)
	if file.open != 2 || file.mappings.Count() != 4 {
		t.Errorf("open %d, mapped %d times", file.open, file.mappings.Count())
	}

	// Truncation takes pages from everybody, copies too.
	file.truncate(1)
	for _, as := range []*AddressSpace{as, child} {
		for _, addr := range []uint64{private + PageSize, private + 2*PageSize, shared + PageSize} {
			if err := as.Fault(addr, AccessWrite); !errors.As(err, &bus) {
				t.Errorf("%#x after truncation: %v", addr, err)
			}
		}
	}
	read(as, private, 10)

	// Splits keep offsets; the file is closed with the last piece.
	wantErr(t, "munmap", as.Munmap(shared+PageSize, 6*PageSize), nil)
	if r, _ := as.Region(shared + 7*PageSize); r.Offset != 7*PageSize || r.Name != "/file" || r.Ino != 42 || !r.Shared {
		t.Errorf("region: %+v", r)
	}
	wantErr(t, "msync with a hole", as.Msync(shared, 8*PageSize, unix.MS_SYNC), unix.ENOMEM)
	if file.synced != 2*PageSize {
		t.Errorf("%d bytes synced", file.synced)
	}
	child.Release()
	as.Release()
	if file.open != 0 || file.mappings.Count() != 0 {
		t.Errorf("still open %d times, mapped %d times", file.open, file.mappings.Count())
	}
	file.drop()
	checkCounts(t, before)
}

func TestReadOnlyFile(t *testing.T) {
	as := newSpace(t)
	defer as.Release()
	file := newFile(1)
	a := mustMap(t, as, MmapArgs{Length: PageSize, Prot: unix.PROT_READ, Flags: unix.MAP_SHARED, File: file, FileProt: unix.PROT_READ})
	wantErr(t, "mprotect", as.Mprotect(a, PageSize, rw), unix.EACCES)
	b := mustMap(t, as, MmapArgs{Length: PageSize, Prot: unix.PROT_READ, Flags: unix.MAP_PRIVATE, File: file, FileProt: unix.PROT_READ})
	wantErr(t, "mprotect of a private mapping", as.Mprotect(b, PageSize, rw), nil)
	wantErr(t, "write", as.WriteUint32(b, 7), nil)
	if _, err := as.ForcedCopyOut(a, []byte{1}); err != unix.EFAULT {
		t.Errorf("forced write to a shared file: %v", err)
	}
	if metal.View(file.frames[0], 1)[0] != 1 {
		t.Error("the file was written")
	}
}

func TestCopies(t *testing.T) {
	before := counts()
	as := newSpace(t)
	addr := mustMap(t, as, MmapArgs{Addr: base, Length: 8 * PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	end := addr + 8*PageSize
	data := make([]byte, 3*PageSize+77)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	if n, err := as.CopyOut(addr+100, data); n != len(data) || err != nil {
		t.Fatalf("CopyOut: %d, %v", n, err)
	}
	back := make([]byte, len(data))
	if n, err := as.CopyIn(back, addr+100); n != len(data) || err != nil || !bytes.Equal(back, data) {
		t.Fatalf("CopyIn: %d, %v", n, err)
	}
	if n, err := as.CopyOut(end-50, data); n != 50 || err != unix.EFAULT {
		t.Errorf("CopyOut over the end: %d, %v", n, err)
	}
	if n, err := as.CopyIn(back, UserEnd-10); n != 0 || err != unix.EFAULT {
		t.Errorf("CopyIn over the end of user space: %d, %v", n, err)
	}
	if n, err := as.CopyIn(back, 1<<64-10); n != 0 || err != unix.EFAULT {
		t.Errorf("CopyIn that wraps: %d, %v", n, err)
	}
	if n, err := as.ZeroOut(end-PageSize-5, PageSize+6); n != PageSize+5 || err != unix.EFAULT {
		t.Errorf("ZeroOut: %d, %v", n, err)
	}

	as.CopyOut(end-6, []byte("hello\x00"))
	as.CopyOut(end-PageSize-3, []byte("across\x00"))
	for _, c := range []struct {
		addr uint64
		max  int
		want string
		err  error
	}{
		{end - 6, 4096, "hello", nil},
		{end - 6, 6, "hello", nil},
		{end - 6, 5, "", unix.ENAMETOOLONG},
		{end - PageSize - 3, 100, "across", nil},
		{end, 100, "", unix.EFAULT},
		{UserEnd + 5, 100, "", unix.EFAULT},
		{0, 100, "", unix.EFAULT},
	} {
		if s, err := as.CopyInString(c.addr, c.max); s != c.want || err != c.err {
			t.Errorf("CopyInString(%#x, %d) = %q, %v", c.addr, c.max, s, err)
		}
	}
	as.CopyOut(end-5, []byte("XXXXX"))
	if _, err := as.CopyInString(end-5, 100); err != unix.EFAULT {
		t.Errorf("a string into the void: %v", err)
	}
	long := bytes.Repeat([]byte("a"), 4095)
	as.CopyOut(addr+10, append(long, 0))
	if s, err := as.CopyInString(addr+10, 4096); s != string(long) || err != nil {
		t.Errorf("a long string: %d bytes, %v", len(s), err)
	}

	wantErr(t, "write", as.WriteUint32(addr, 5), nil)
	if prev, err := as.CompareAndSwap32(addr, 5, 6); prev != 5 || err != nil {
		t.Errorf("swap: %d, %v", prev, err)
	}
	if prev, err := as.CompareAndSwap32(addr, 5, 7); prev != 6 || err != nil {
		t.Errorf("failing swap: %d, %v", prev, err)
	}
	wantErr(t, "write across pages", as.WriteUint32(addr+PageSize-2, 0x01020304), nil)
	if v, err := as.ReadUint32(addr + PageSize - 2); v != 0x01020304 || err != nil {
		t.Errorf("read across pages: %#x, %v", v, err)
	}
	wantErr(t, "write", as.WriteUint64(addr+PageSize-4, 1<<40+1), nil)
	if v, err := as.ReadUint64(addr + PageSize - 4); v != 1<<40+1 || err != nil {
		t.Errorf("read: %#x, %v", v, err)
	}

	// Forced: against the protection, and into the zero page without spoiling it.
	wantErr(t, "mprotect", as.Mprotect(addr, 8*PageSize, 0), nil)
	fresh := mustMap(t, as, MmapArgs{Length: PageSize, Prot: unix.PROT_READ, Flags: anon})
	for _, at := range []uint64{addr, fresh, end - 3} {
		if n, err := as.ForcedCopyOut(at, []byte("abc")); n != 3 || err != nil {
			t.Errorf("ForcedCopyOut(%#x): %d, %v", at, n, err)
		}
		var b [3]byte
		if n, err := as.ForcedCopyIn(b[:], at); n != 3 || err != nil || string(b[:]) != "abc" {
			t.Errorf("ForcedCopyIn(%#x): %q, %d, %v", at, b, n, err)
		}
	}
	if _, err := as.ForcedCopyIn(back, end-2); err != unix.EFAULT {
		t.Errorf("forced over the end: %v", err)
	}
	if metal.View(zeroFrame, 1)[0] != 0 {
		t.Fatal("the zero page was written")
	}
	as.Release()
	checkCounts(t, before)
}

func TestBuffer(t *testing.T) {
	as := newSpace(t)
	defer as.Release()
	addr := mustMap(t, as, MmapArgs{Addr: base, Length: 4 * PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	text := []byte("the quick brown fox jumps over the lazy dog")
	kernel := make([]byte, len(text))
	buffers := map[string]Buffer{
		"one":    UserBuffer1(as, addr+PageSize-5, uint64(len(text))),
		"iov1":   UserBuffer(as, []Segment{{addr + 7, uint64(len(text))}}),
		"many":   UserBuffer(as, []Segment{{0, 0}, {addr, 10}, {1 << 63, 0}, {addr + 100, 1}, {addr + PageSize - 2, uint64(len(text)) - 11}, {5, 0}}),
		"kernel": KernelBuffer(kernel),
	}
	for name, b := range buffers {
		if b.Len() != len(text) {
			t.Errorf("%s: length %d", name, b.Len())
		}
		for i := 0; i < len(text); i += 6 {
			n, err := b.CopyOut(text[i:min(len(text), i+6)])
			if err != nil || n != min(6, len(text)-i) {
				t.Fatalf("%s: CopyOut: %d, %v", name, n, err)
			}
		}
		if n, err := b.CopyOut(text); n != 0 || err != nil || b.Len() != 0 || b.Done() != len(text) {
			t.Errorf("%s: CopyOut to a full buffer: %d, %v", name, n, err)
		}
		b.Reset()
		b.Skip(4)
		got := make([]byte, 100)
		if n, err := b.CopyIn(got); err != nil || !bytes.Equal(got[:n], text[4:]) {
			t.Errorf("%s: CopyIn: %q, %v", name, got[:n], err)
		}
		b.Reset()
		b.Limit(9)
		b.Skip(4)
		if n, err := b.ZeroOut(100); n != 5 || err != nil {
			t.Errorf("%s: ZeroOut: %d, %v", name, n, err)
		}
		b.Reset()
		if n, err := b.CopyIn(got); err != nil || string(got[:n]) != "the \x00\x00\x00\x00\x00" {
			t.Errorf("%s: CopyIn after ZeroOut: %q, %v", name, got[:n], err)
		}
	}
	partly := UserBuffer(as, []Segment{{addr, 5}, {0x1000, 5}})
	if n, err := partly.CopyOut(text); n != 5 || err != unix.EFAULT {
		t.Errorf("a bad second segment: %d, %v", n, err)
	}
	empty := UserBuffer(as, nil)
	if n, err := empty.CopyOut(text); n != 0 || err != nil || empty.Len() != 0 {
		t.Errorf("no segments: %d, %v", n, err)
	}
}

func TestMincore(t *testing.T) {
	as := newSpace(t)
	defer as.Release()
	a := mustMap(t, as, MmapArgs{Addr: base, Length: 4 * PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	s := mustMap(t, as, MmapArgs{Addr: base + 4*PageSize, Length: PageSize, Prot: rw, Flags: unix.MAP_ANONYMOUS | unix.MAP_SHARED | unix.MAP_FIXED})
	as.WriteUint32(a+PageSize, 1)
	as.WriteUint32(s, 1)
	vec := mustMap(t, as, MmapArgs{Length: PageSize, Prot: rw, Flags: anon})
	wantErr(t, "mincore", as.Mincore(a, 5*PageSize-1, vec), nil)
	var b [5]byte
	as.CopyIn(b[:], vec)
	if b != [5]byte{0, 1, 0, 0, 1} {
		t.Errorf("mincore: %v", b)
	}
	wantErr(t, "mincore over the end", as.Mincore(a, 6*PageSize, vec), unix.ENOMEM)
	wantErr(t, "mincore, not aligned", as.Mincore(a+1, PageSize, vec), unix.EINVAL)
	wantErr(t, "mincore, bad vector", as.Mincore(a, PageSize, 16), unix.EFAULT)
	wantErr(t, "remove", as.Madvise(s, PageSize, unix.MADV_REMOVE), nil)
	if v, err := as.ReadUint32(s); v != 0 || err != nil {
		t.Errorf("after MADV_REMOVE: %d, %v", v, err)
	}
	wantErr(t, "populate", as.Madvise(a, 4*PageSize, advisePopulateWrite), nil)
	if u := as.Usage(); u.Anon != 5*PageSize {
		t.Errorf("usage: %+v", u)
	}
	wantErr(t, "populate a hole", as.Madvise(a, 1<<20, advisePopulateRead), unix.ENOMEM)
	wantErr(t, "name", as.SetName(a, PageSize, "mine"), nil)
	if r, _ := as.Region(a); r.Name != "[anon:mine]" || r.End != a+PageSize {
		t.Errorf("region: %+v", r)
	}
	wantErr(t, "no name", as.SetName(a, PageSize, ""), nil)
	if r, _ := as.Region(a); r.Name != "" || r.End != a+4*PageSize {
		t.Errorf("region: %+v", r)
	}
}

func TestMremapShared(t *testing.T) {
	before := counts()
	as := newSpace(t)
	a := mustMap(t, as, MmapArgs{Length: 2 * PageSize, Prot: rw, Flags: unix.MAP_ANONYMOUS | unix.MAP_SHARED})
	as.WriteUint32(a, 77)
	// Old length 0 makes a second mapping of the same memory.
	b, err := as.Mremap(a, 0, 2*PageSize, unix.MREMAP_MAYMOVE, 0)
	if err != nil || a == b {
		t.Fatalf("second mapping: %#x, %v", b, err)
	}
	as.WriteUint32(b+4, 78)
	if v, _ := as.ReadUint32(a + 4); v != 78 {
		t.Errorf("read %d", v)
	}
	// Growing doesn't make the object larger.
	c, err := as.Mremap(a, 2*PageSize, 4*PageSize, unix.MREMAP_MAYMOVE, 0)
	if err != nil {
		t.Fatal(err)
	}
	var bus *BusError
	if err := as.Fault(c+2*PageSize, AccessRead); !errors.As(err, &bus) {
		t.Errorf("beyond the object: %v", err)
	}
	if v, _ := as.ReadUint32(c); v != 77 {
		t.Errorf("read %d", v)
	}
	as.Release()
	checkCounts(t, before)
}

func TestThreads(t *testing.T) {
	before := counts()
	as := newSpace(t)
	file := newFile(8)
	const pages = 64
	area := mustMap(t, as, MmapArgs{Addr: base, Length: pages * PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	counter := mustMap(t, as, MmapArgs{Length: PageSize, Prot: rw, Flags: anon})
	fork := make(chan *AddressSpace, 100)
	var group sync.WaitGroup
	const threads, rounds = 6, 300
	for id := range threads {
		group.Add(1)
		go func() {
			defer group.Done()
			rnd := rand.New(rand.NewSource(int64(id)))
			buf := make([]byte, 3*PageSize)
			for range rounds {
				at := area + uint64(rnd.Intn(pages-8))*PageSize
				switch rnd.Intn(10) {
				case 0:
					as.Munmap(at, 2*PageSize)
				case 1:
					as.Mmap(MmapArgs{Addr: at, Length: 8 * PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
				case 2:
					as.Mmap(MmapArgs{Addr: at, Length: 8 * PageSize, Prot: rw, Flags: unix.MAP_SHARED | unix.MAP_FIXED, File: file})
				case 3:
					as.Mmap(MmapArgs{Addr: at, Length: 8 * PageSize, Prot: rw, Flags: unix.MAP_PRIVATE | unix.MAP_FIXED, File: file})
				case 4:
					as.Mprotect(at, 4*PageSize, []int{0, unix.PROT_READ, rw}[rnd.Intn(3)])
				case 5:
					file.mappings.Unmap(uint64(rnd.Intn(4))*PageSize, 6*PageSize, rnd.Intn(2) == 0)
				case 6:
					if rnd.Intn(10) == 0 {
						if c, err := as.Fork(nil); err == nil {
							fork <- c
						}
					}
				case 7:
					as.Mremap(at, 2*PageSize, 2*PageSize, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, area+uint64(rnd.Intn(pages-8))*PageSize)
				default:
					as.CopyOut(at+5, buf)
					as.CopyIn(buf, at+9)
				}
				for {
					v, err := as.ReadUint32(counter)
					if err != nil {
						t.Error(err)
						return
					}
					if prev, err := as.CompareAndSwap32(counter, v, v+1); err != nil {
						t.Error(err)
						return
					} else if prev == v {
						break
					}
				}
			}
		}()
	}
	group.Wait()
	if v, _ := as.ReadUint32(counter); v != threads*rounds {
		t.Errorf("counted %d, want %d", v, threads*rounds)
	}
	close(fork)
	for c := range fork {
		c.Release()
	}
	as.Release()
	if file.open != 0 || file.mappings.Count() != 0 {
		t.Errorf("still open %d times", file.open)
	}
	file.drop()
	checkCounts(t, before)
}

// TestNoGarbage: the hot paths leave the Go heap alone.
func TestNoGarbage(t *testing.T) {
	as := newSpace(t)
	defer as.Release()
	addr := mustMap(t, as, MmapArgs{Length: 64 << 20, Prot: rw, Flags: anon})
	next := addr
	var buf [64]byte
	for name, f := range map[string]func(){
		"Fault": func() { as.Fault(next, AccessWrite); next += PageSize },
		"copies": func() {
			as.CopyOut(addr, buf[:])
			as.CopyIn(buf[:], addr)
		},
		"words": func() {
			v, _ := as.ReadUint32(addr)
			as.WriteUint32(addr, v)
			as.WriteUint64(addr+8, 1)
			as.ReadUint64(addr + 8)
			as.CompareAndSwap32(addr, 0, 1)
		},
		"FutexKey": func() { as.FutexKey(addr, true) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestCopyAfterRelease(t *testing.T) {
	as := newSpace(t)
	addr := mustMap(t, as, MmapArgs{Length: PageSize, Prot: rw, Flags: anon})
	as.WriteUint32(addr, 1)
	as.Acquire()
	as.Release()
	if v, err := as.ReadUint32(addr); v != 1 || err != nil {
		t.Errorf("with a user left: %d, %v", v, err)
	}
	as.Release()
	as.Activate()
	wantErr(t, "write after the last Release", as.WriteUint32(addr, 1), unix.EFAULT)
}

func TestLayout(t *testing.T) {
	l := NewLayout(8<<20, nil)
	if l.StackTop != UserEnd || l.PIEBase != 0x555555554000 || l.BrkGap != 0 {
		t.Errorf("without randomization: %#x", l)
	}
	rnd := rand.New(rand.NewSource(2))
	for range 1000 {
		l := NewLayout(8<<20, rnd.Uint64)
		if l.StackTop > UserEnd || l.StackTop < UserEnd-16<<30 || l.MmapBase >= l.StackTop-8<<20 || l.PIEBase < 0x555555554000 ||
			l.PIEBase > l.MmapBase || (l.StackTop|l.MmapBase|l.PIEBase|l.BrkGap)&pageMask != 0 {
			t.Fatalf("%#x", l)
		}
	}
}

func BenchmarkFault(b *testing.B) {
	as, err := New(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer as.Release()
	const size = 128 << 20
	addr := mustMap(b, as, MmapArgs{Length: size, Prot: rw, Flags: anon})
	at := addr
	for b.Loop() {
		if as.Fault(at, AccessWrite) != nil {
			b.Fatal("fault")
		}
		if at += PageSize; at == addr+size {
			at = addr
			as.Madvise(addr, size, unix.MADV_DONTNEED)
		}
	}
}

func BenchmarkMmapMunmap(b *testing.B) {
	as, err := New(testLimits{})
	if err != nil {
		b.Fatal(err)
	}
	defer as.Release()
	for i := range uint64(20) {
		mustMap(b, as, MmapArgs{Addr: base + i*2*PageSize, Length: PageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	}
	for b.Loop() {
		addr, err := as.Mmap(MmapArgs{Length: 2 * PageSize, Prot: rw, Flags: anon})
		if err != nil || as.Munmap(addr, 2*PageSize) != nil {
			b.Fatal(err)
		}
	}
}
