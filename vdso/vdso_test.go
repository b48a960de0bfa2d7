package vdso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"
	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/test/need"
)

func TestImageIsAnOrdinarySharedObject(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(Image()))
	if err != nil {
		t.Fatal(err)
	}
	if len(Image()) != PageSize || f.Type != elf.ET_DYN || f.Machine != elf.EM_X86_64 {
		t.Errorf("%d bytes, %v, %v", len(Image()), f.Type, f.Machine)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	found := map[string]elf.Symbol{}
	for _, s := range symbols {
		found[s.Name] = s
		if s.Version != version {
			t.Errorf("%s has version %q", s.Name, s.Version)
		}
		if s.Value < text.Addr || s.Value+s.Size > text.Addr+text.Size {
			t.Errorf("%s lies outside .text", s.Name)
		}
	}
	for _, function := range functions {
		strong, weak := found["__vdso_"+function.name], found[function.name]
		if elf.ST_BIND(strong.Info) != elf.STB_GLOBAL || elf.ST_BIND(weak.Info) != elf.STB_WEAK {
			t.Errorf("%s: bindings %#x and %#x", function.name, strong.Info, weak.Info)
		}
		if strong.Value != weak.Value || strong.Size == 0 {
			t.Errorf("%s: %#x and %#x", function.name, strong.Value, weak.Value)
		}
	}
	if name, err := f.DynString(elf.DT_SONAME); err != nil || len(name) != 1 || name[0] != soname {
		t.Errorf("DT_SONAME is %q, %v", name, err)
	}
	for _, s := range f.Sections[1:] {
		if s.Offset+s.Size > PageSize {
			t.Errorf("section %s ends beyond the page", s.Name)
		}
	}
}

// lookup finds a symbol through DT_HASH, as a dynamic linker does.
func lookup(t *testing.T, name string) (uint64, bool) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(Image()))
	if err != nil {
		t.Fatal(err)
	}
	hash, _ := f.Section(".hash").Data()
	word := func(i uint32) uint32 { return binary.LittleEndian.Uint32(hash[4*i:]) }
	symbols, _ := f.DynamicSymbols()
	for i := word(2 + symbolHash(name)%word(0)); i != 0; i = word(2 + word(0) + i) {
		if symbols[i-1].Name == name {
			return symbols[i-1].Value, true
		}
	}
	return 0, false
}

func TestHashTable(t *testing.T) {
	for _, f := range functions {
		for _, name := range []string{f.name, "__vdso_" + f.name} {
			if _, ok := lookup(t, name); !ok {
				t.Errorf("%s isn't found", name)
			}
		}
	}
	if _, ok := lookup(t, "__vdso_nothing"); ok {
		t.Error("__vdso_nothing is found")
	}
	if h := symbolHash(version); h != 0x3ae75f6 { // what glibc and Go have as a constant
		t.Errorf("the hash of %s is %#x", version, h)
	}
}

// decode returns the instructions of the image's text by their offset.
func decode(t *testing.T) map[uint64]x86asm.Inst {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(Image()))
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	code, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	insts := map[uint64]x86asm.Inst{}
	for at := 0; at < len(code); {
		inst, err := x86asm.Decode(code[at:], 64)
		if err != nil {
			t.Fatalf(".text+%#x: % x: %v", at, code[at:min(at+8, len(code))], err)
		}
		insts[text.Addr+uint64(at)] = inst
		at += inst.Len
	}
	return insts
}

// TestInstructions follows each function to every end: all jumps hit instructions, nothing touches the
// stack or a register that a call must keep, and the data page is found.
func TestInstructions(t *testing.T) {
	insts := decode(t)
	for _, f := range functions {
		start, _ := lookup(t, f.name)
		todo, seen := []uint64{start}, map[uint64]bool{}
		for len(todo) > 0 {
			pc := todo[0]
			todo = todo[1:]
			for !seen[pc] {
				seen[pc] = true
				inst, ok := insts[pc]
				if !ok {
					t.Fatalf("%s: %#x is not an instruction", f.name, pc)
				}
				next := pc + uint64(inst.Len)
				for _, arg := range inst.Args {
					switch arg := arg.(type) {
					case x86asm.Reg:
						switch arg {
						case x86asm.RBX, x86asm.RSP, x86asm.RBP, x86asm.R12, x86asm.R13, x86asm.R14, x86asm.R15:
							t.Errorf("%s: %v uses %v", f.name, inst, arg)
						}
					case x86asm.Mem:
						if arg.Base == x86asm.RIP && int64(next)+int64(int32(arg.Disp)) != -PageSize {
							t.Errorf("%s: %v: %#x is not the data page", f.name, inst, int64(next)+int64(int32(arg.Disp)))
						}
					}
				}
				if inst.Op == x86asm.RET {
					break
				}
				if inst.Op == x86asm.INT || inst.Op == x86asm.PUSH || inst.Op == x86asm.POP || inst.Op == x86asm.CALL {
					t.Fatalf("%s: %v at %#x", f.name, inst, pc)
				}
				if rel, ok := inst.Args[0].(x86asm.Rel); ok {
					target := uint64(int64(next) + int64(rel))
					if inst.Op == x86asm.JMP {
						pc = target
						continue
					}
					todo = append(todo, target)
				}
				pc = next
			}
		}
	}
}

func TestClockGettimeIsShort(t *testing.T) {
	insts := decode(t)
	pc, _ := lookup(t, "__vdso_clock_gettime")
	n := 1
	for ; insts[pc].Op != x86asm.RET; n++ {
		pc += uint64(insts[pc].Len)
	}
	if n > 60 {
		t.Errorf("%d instructions from the call to the return", n)
	}
	t.Logf("%d instructions", n)
}

// TestSplit checks the arithmetic of emitSplit and of gettimeofday.
func TestSplit(t *testing.T) {
	check := func(ns uint64) {
		high, _ := bits.Mul64(ns>>9, 0x44b82fa09b5a53)
		sec := high >> 11
		nsec := ns - sec*nsPerSecond
		if sec != ns/nsPerSecond || nsec != ns%nsPerSecond {
			t.Fatalf("%d ns are %d s %d ns", ns, sec, nsec)
		}
		if us := nsec * 274877907 >> 38; us != nsec/1000 {
			t.Fatalf("%d ns are %d µs", nsec, us)
		}
	}
	for _, ns := range []uint64{0, 1, 511, 512, nsPerSecond - 1, nsPerSecond, 1<<63 - 1, 1 << 63, ^uint64(0)} {
		check(ns)
	}
	for range 200000 {
		s := rand.Uint64() / nsPerSecond
		check(s * nsPerSecond)
		check(s*nsPerSecond + 999_999_999)
		check(s*nsPerSecond - 1)
		check(rand.Uint64() >> rand.IntN(64))
	}
	for us := uint64(1); us < 1_000_000; us++ {
		check(us*1000 - 1)
		check(us * 1000)
	}
}

const caller = `
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <x86intrin.h>

struct data { unsigned seq, clocks; unsigned long tsc, mult; unsigned shift, cpus; unsigned long base[8]; };

static void fail(const char *what, long a, long b) { printf("%s: %ld, %ld\n", what, a, b); exit(1); }

int main(int argc, char **argv)
{
	// argv: image, then the offsets of the functions; the page before the image is the data.
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open(argv[1], O_RDONLY);
	if (read(fd, m + 4096, 4096) != 4096) return 2;
	if (mprotect(m + 4096, 4096, PROT_READ | PROT_EXEC)) return 3;
	volatile struct data *d = (void *)m;
	char *image = m + 4096;
	long (*volatile gettime)(long, struct timespec *) = (void *)(image + atol(argv[2]));
	int (*volatile gtod)(struct timeval *, struct timezone *) = (void *)(image + atol(argv[3]));
	time_t (*volatile seconds)(time_t *) = (void *)(image + atol(argv[4]));
	int (*volatile getres)(int, struct timespec *) = (void *)(image + atol(argv[5]));
	int (*volatile cpu)(unsigned *, unsigned *, void *) = (void *)(image + atol(argv[6]));

	// Nothing in the page: system calls.
	struct timespec a, b, c;
	struct timeval tv;
	struct timezone tz;
	for (int clock = 0; clock < 12; clock++) {
		if (syscall(SYS_clock_gettime, clock, &a)) {
			if (gettime(clock, &b) != -errno) fail("fallback has no error", clock, 0);
			continue;
		}
		if (gettime(clock, &b)) fail("fallback fails", clock, 0);
		syscall(SYS_clock_gettime, clock, &c);
		long x = a.tv_sec * 1000000000 + a.tv_nsec, y = b.tv_sec * 1000000000 + b.tv_nsec, z = c.tv_sec * 1000000000 + c.tv_nsec;
		if (y < x || y > z) fail("fallback is wrong", clock, y);
	}
	if (gettime(99, &b) != -EINVAL) fail("clock 99", 0, 0);
	if (gtod(&tv, &tz) || labs(tv.tv_sec - time(0)) > 1) fail("gettimeofday falls back to", tv.tv_sec, time(0));
	if (labs(seconds(0) - time(0)) > 1) fail("time falls back to", seconds(0), time(0));
	unsigned n = 77, node = 77;
	if (cpu(&n, &node, 0) || n > 4096) fail("getcpu falls back to", n, node);

	// A clock of our own: 3 ticks are 2 ns.
	unsigned long base = 1234567890123456789;
	d->mult = (2ul << 40) / 3; d->shift = 40; d->cpus = 1; d->clocks = 0xf3;
	for (int i = 0; i < 8; i++) d->base[i] = base + i * 1000000007ul;
	long last = 0;
	for (int clock = 0; clock < 8; clock++) {
		if (clock == 2 || clock == 3) continue;
		for (int i = 0; i < 1000; i++) {
			unsigned long before = __rdtsc();
			d->tsc = before - i * 1000003ul;
			_mm_lfence();
			// The upper half of the clock's register is rubbish.
			if (gettime(0x5a5a5a5a00000000 | clock, &b)) fail("gettime", clock, i);
			_mm_lfence();
			unsigned long after = __rdtsc();
			unsigned long ns = b.tv_sec * 1000000000ul + b.tv_nsec - d->base[clock];
			unsigned long low = (unsigned long)((unsigned __int128)(before - d->tsc) * d->mult >> d->shift);
			unsigned long high = (unsigned long)((unsigned __int128)(after - d->tsc) * d->mult >> d->shift);
			if (b.tv_nsec < 0 || b.tv_nsec > 999999999) fail("nanoseconds", clock, b.tv_nsec);
			if (ns < low || ns > high) fail("not between", ns - low, high - ns);
		}
	}
	// A TSC before the page's.
	d->tsc = __rdtsc() + (1ul << 40);
	gettime(1, &b);
	if (b.tv_sec * 1000000000ul + b.tv_nsec != d->base[1]) fail("a lagging TSC gives", b.tv_sec, b.tv_nsec);
	// A product of more than 64 bits.
	d->tsc = __rdtsc() - 1000000; d->mult = 1ul << 62; d->shift = 62;
	gettime(1, &b);
	last = b.tv_sec * 1000000000ul + b.tv_nsec - d->base[1];
	if (last < 1000000 || last > 1000000000) fail("a million ticks are", last, 0);

	d->tsc = __rdtsc();
	memset(&tz, 1, sizeof tz);
	if (gtod(&tv, &tz) || tv.tv_sec != base / 1000000000 || tz.tz_minuteswest || tz.tz_dsttime) fail("gettimeofday", tv.tv_sec, 0);
	if (labs(tv.tv_usec - (long)(base % 1000000000 / 1000)) > 100000) fail("microseconds", tv.tv_usec, 0);
	if (gtod(0, &tz) || gtod(&tv, 0) || gtod(0, 0)) fail("gettimeofday of nothing", 0, 0);
	time_t s;
	if (seconds(&s) != base / 1000000000 || s != base / 1000000000 || seconds(0) != s) fail("time", s, 0);

	int fine[] = {0, 1, 4, 7};
	for (int i = 0; i < 4; i++) {
		b.tv_sec = b.tv_nsec = 9;
		if (getres(fine[i], &b) || b.tv_sec || b.tv_nsec != 1 || getres(fine[i], 0)) fail("getres", i, b.tv_nsec);
	}
	syscall(SYS_clock_getres, CLOCK_MONOTONIC_COARSE, &a);
	if (getres(CLOCK_MONOTONIC_COARSE, &b) || a.tv_nsec != b.tv_nsec) fail("coarse", a.tv_nsec, b.tv_nsec);
	if (getres(99, &b) != -EINVAL) fail("getres of clock 99", 0, 0);

	n = node = 77;
	if (cpu(&n, &node, 0) || n || node || cpu(0, 0, 0)) fail("getcpu", n, node);
	puts("all is well");
	return 0;
}
`

// TestOnTheHost runs the functions in a C program.
func TestOnTheHost(t *testing.T) {
	gcc := need.Command(t, "gcc")
	dir := t.TempDir()
	image, source, program := filepath.Join(dir, "vdso.so"), filepath.Join(dir, "caller.c"), filepath.Join(dir, "caller")
	if err := os.WriteFile(image, Image(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, []byte(caller), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-O1", "-w", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	args := []string{image}
	for _, f := range functions {
		at, _ := lookup(t, "__vdso_"+f.name)
		args = append(args, fmt.Sprint(at))
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "all is well" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestUpdate(t *testing.T) {
	v, err := New()
	if err != nil {
		t.Fatal(err)
	}
	page := metal.View(v.data.pa, PageSize)
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(page[at:]) }
	if page[dataClocks] != 0 {
		t.Error("a new page has clocks")
	}
	v.Update(Params{TSC: 5, Mult: 6, Shift: 7, MonotonicNS: 8, RealtimeOffsetNS: -3, CPUs: 1})
	if binary.LittleEndian.Uint32(page[dataSeq:]) != 2 || word(dataTSC) != 5 || word(dataMult) != 6 || page[dataShift] != 7 || page[dataCPUs] != 1 {
		t.Errorf("% x", page[:dataSize])
	}
	if word(dataBase+8*unix.CLOCK_MONOTONIC) != 8 || word(dataBase+8*unix.CLOCK_BOOTTIME) != 8 || word(dataBase+8*unix.CLOCK_REALTIME) != 5 {
		t.Errorf("% x", page[dataBase:dataSize])
	}
}

func TestMap(t *testing.T) {
	v, err := New()
	if err != nil {
		t.Fatal(err)
	}
	before := metal.Frames()
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ehdr, err := v.Map(as)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2*PageSize)
	if _, err := as.ForcedCopyIn(got, ehdr-PageSize); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[PageSize:], Image()) {
		t.Error("the image isn't what is mapped")
	}
	v.Update(Params{MonotonicNS: 0x1122334455667788})
	if _, err := as.ForcedCopyIn(got, ehdr-PageSize); err != nil {
		t.Fatal(err)
	}
	if binary.LittleEndian.Uint64(got[dataBase+8:]) != 0x1122334455667788 {
		t.Error("an update doesn't reach the program")
	}
	want := map[string]int{"[vvar]": unix.PROT_READ, "[vdso]": unix.PROT_READ | unix.PROT_EXEC}
	as.Regions(func(r mm.Region) bool {
		if prot, ok := want[r.Name]; !ok || r.Prot != prot {
			t.Errorf("%#x-%#x %s with protection %d", r.Start, r.End, r.Name, r.Prot)
		}
		delete(want, r.Name)
		return true
	})
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
	as.Release()
	if after := metal.Frames(); after.ByOwner != before.ByOwner {
		t.Errorf("frames: %+v before, %+v after", before, after)
	}
}
