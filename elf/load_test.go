package elf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/test/need"
)

// peek reads the program's memory.
func peek(t testing.TB, as *mm.AddressSpace, addr uint64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := as.ForcedCopyIn(p, addr); err != nil {
		t.Fatalf("%#x+%#x: %v", addr, n, err)
	}
	return p
}

// checkImage compares memory with what the program headers promise, as they stand in file: later
// segments win, page by page.
func checkImage(t testing.TB, as *mm.AddressSpace, im *Image, file []byte) {
	t.Helper()
	checkSegments(t, as, im.Bias, file)
	h := parseHeader(file)
	if h.kind == etExec && im.Bias != 0 {
		t.Errorf("ET_EXEC moved by %#x", im.Bias)
	}
	if _, ok := as.Region(im.Entry); !ok {
		t.Errorf("nothing is at the entry point %#x", im.Entry)
	}
	if im.StackPointer%16 != 0 {
		t.Errorf("stack pointer %#x", im.StackPointer)
	}
}

func checkSegments(t testing.TB, as *mm.AddressSpace, bias uint64, file []byte) {
	t.Helper()
	h := parseHeader(file)
	pages := map[uint64][]byte{} // what each page should hold
	prots := map[uint64]int{}
	for i := range h.count {
		s := parseSegment(file[h.tableOffset+uint64(i)*segmentSize:])
		if s.kind != ptLoad || s.memory == 0 {
			continue
		}
		fileEnd := pageStart(s.vaddr)
		if s.fileSize != 0 {
			fileEnd = pageEnd(s.vaddr + s.fileSize)
		}
		for page := pageStart(s.vaddr); page < min(pageEnd(s.vaddr+s.memory), pageStart(s.vaddr)+(1<<20)); page += mm.PageSize {
			want := make([]byte, mm.PageSize)
			prot := s.prot()
			if page < fileEnd {
				copy(want, file[min(uint64(len(file)), page-s.vaddr+s.offset):])
				if end := s.vaddr + s.fileSize; s.memory > s.fileSize && s.flags&pfWrite != 0 && end < page+mm.PageSize {
					clear(want[max(end, page)-page:])
				}
			} else if s.memory > s.fileSize {
				prot = prot&unix.PROT_EXEC | unix.PROT_READ | unix.PROT_WRITE
			} else {
				continue
			}
			pages[page], prots[page] = want, prot
		}
	}
	for page, want := range pages {
		r, ok := as.Region(page + bias)
		if !ok || r.Prot != prots[page] {
			t.Errorf("page %#x: protection %d, mapped %t; want %d", page, r.Prot, ok, prots[page])
			continue
		}
		if got := peek(t, as, page+bias, mm.PageSize); !bytes.Equal(got, want) {
			t.Errorf("page %#x: differs", page)
		}
	}
}

// view is the initial stack as a program sees it.
type view struct {
	args, env []string
	auxv      map[uint64]uint64
	order     []uint64
}

func readStack(t testing.TB, as *mm.AddressSpace, sp uint64) view {
	t.Helper()
	next := func() uint64 {
		v := binary.LittleEndian.Uint64(peek(t, as, sp, 8))
		sp += 8
		return v
	}
	text := func(addr uint64) string {
		s, err := as.CopyInString(addr, 1<<20)
		if err != nil {
			t.Fatalf("the string at %#x: %v", addr, err)
		}
		return s
	}
	v := view{auxv: map[uint64]uint64{}}
	for range next() {
		v.args = append(v.args, text(next()))
	}
	if next() != 0 {
		t.Error("argv has no end")
	}
	for p := next(); p != 0; p = next() {
		v.env = append(v.env, text(p))
	}
	for {
		kind, value := next(), next()
		if kind == atNull {
			return v
		}
		v.auxv[kind] = value
		v.order = append(v.order, kind)
	}
}

func TestStack(t *testing.T) {
	w := newWorld(t)
	w.add("/bin/prog", small(elf.ET_DYN).build())
	as := w.space()
	p := w.params(as, "/bin/prog")
	p.Args = []string{"prog", "", "two words", strings.Repeat("x", 5000)}
	p.Env = []string{"HOME=/", "EMPTY=", ""}
	p.Identify = runsAs(Identity{UID: 1, EUID: 2, GID: 3, EGID: 4, Secure: true})
	p.HWCap, p.HWCap2 = 0x178bfbff, 2
	p.VDSO = func(*mm.AddressSpace) (uint64, error) { return 0x7fff00001000, nil }
	im, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	v := readStack(t, as, im.StackPointer)
	if !slices.Equal(v.args, p.Args) || !slices.Equal(v.env, p.Env) {
		t.Errorf("%q, %q", v.args, v.env)
	}
	for kind, want := range map[uint64]uint64{
		atSysinfoEHdr: 0x7fff00001000, atHWCap: p.HWCap, atHWCap2: 2, atPageSize: 4096, atClockTicks: 100,
		atPHDR: im.Bias + headerSize, atPHEnt: 56, atPHNum: 3, atBase: 0, atFlags: 0, atEntry: im.Entry,
		atUID: 1, atEUID: 2, atGID: 3, atEGID: 4, atSecure: 1, atMinSigStackSize: 2048,
		atRseqFeatureSize: 28, atRseqAlign: 32,
	} {
		if got, ok := v.auxv[kind]; !ok || got != want {
			t.Errorf("AT %d is %#x, want %#x", kind, got, want)
		}
	}
	for kind, want := range map[uint64]string{atExecFn: "/bin/prog", atPlatform: "x86_64"} {
		if got, err := as.CopyInString(v.auxv[kind], 100); got != want || err != nil {
			t.Errorf("AT %d is %q, %v", kind, got, err)
		}
	}
	if bytes.Equal(peek(t, as, v.auxv[atRandom], 16), make([]byte, 16)) {
		t.Error("AT_RANDOM is zero")
	}
	if !bytes.Equal(im.Auxv, peek(t, as, im.AuxvStart, int(im.AuxvEnd-im.AuxvStart))) {
		t.Error("Auxv isn't what the stack has")
	}
	if got := string(peek(t, as, im.ArgStart, int(im.ArgEnd-im.ArgStart))); got != strings.Join(p.Args, "\x00")+"\x00" {
		t.Errorf("arguments: %q", got)
	}
	if got := string(peek(t, as, im.EnvStart, int(im.EnvEnd-im.EnvStart))); got != strings.Join(p.Env, "\x00")+"\x00" {
		t.Errorf("environment: %q", got)
	}
	// The path ends eight zero bytes below the top.
	if got := string(peek(t, as, im.Layout.StackTop-18, 18)); got != "/bin/prog\x00\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("top of the stack: %q", got)
	}
	w.end(as, im)
}

func TestNoArguments(t *testing.T) {
	w := newWorld(t)
	w.add("prog", small(elf.ET_EXEC).build())
	as := w.space()
	p := w.params(as, "prog")
	p.Args, p.Env = nil, nil
	im, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	if v := readStack(t, as, im.StackPointer); len(v.args) != 1 || v.args[0] != "" || v.env != nil {
		t.Errorf("%q, %q", v.args, v.env)
	}
	w.end(as, im)
}

func TestArgumentLimits(t *testing.T) {
	long := strings.Repeat("x", maxString-1)
	for _, c := range []struct {
		name       string
		args, env  []string
		stackLimit uint64
		ok         bool
	}{
		{"longest string", []string{long}, nil, 8 << 20, true},
		{"too long a string", []string{long + "x"}, nil, 8 << 20, false},
		{"too long an environment string", nil, []string{long + "x"}, 8 << 20, false},
		{"a quarter of the stack", slices.Repeat([]string{long}, 15), nil, 8 << 20, true},
		{"more than a quarter of the stack", slices.Repeat([]string{long}, 8), slices.Repeat([]string{long}, 9), 8 << 20, false},
		{"a small stack", []string{long[:100<<10]}, nil, 64 << 10, true},
		{"more than 128 KiB on a small stack", []string{long, "x"}, nil, 64 << 10, false},
		{"6 MiB of an unlimited stack", slices.Repeat([]string{long}, 47), nil, ^uint64(0), true},
		{"more than 6 MiB", slices.Repeat([]string{long}, 49), nil, ^uint64(0), false},
		{"many pointers", slices.Repeat([]string{""}, 300000), nil, 8 << 20, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add("prog", small(elf.ET_EXEC).build())
			as := w.space()
			p := w.params(as, "prog")
			p.Args, p.Env, p.StackLimit = c.args, c.env, c.stackLimit
			im, err := Load(p)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, unix.E2BIG) {
				t.Error(err)
			}
			if im != nil {
				if v := readStack(t, as, im.StackPointer); len(v.args) != max(1, len(c.args)) {
					t.Errorf("%d arguments", len(v.args))
				}
			}
			w.end(as, im)
		})
	}
}

func TestInterpreter(t *testing.T) {
	for _, kind := range []elf.Type{elf.ET_EXEC, elf.ET_DYN} {
		for _, interpKind := range []elf.Type{elf.ET_EXEC, elf.ET_DYN} {
			t.Run(fmt.Sprintf("%v by %v", kind, interpKind), func(t *testing.T) {
				w := newWorld(t)
				main := interpreted(kind, "/lib/ld").build()
				w.add("prog", main)
				r := small(interpKind)
				if interpKind == elf.ET_EXEC { // out of the program's way
					r.Entry += 1 << 30
					for i := range r.progs {
						r.progs[i].Vaddr += 1 << 30
					}
				}
				interp := r.build()
				w.add("/lib/ld", interp)
				as := w.space()
				im, err := w.load(as, "prog")
				if err != nil {
					t.Fatal(err)
				}
				checkImage(t, as, im, main)
				checkSegments(t, as, im.Base, interp)
				v := readStack(t, as, im.StackPointer)
				if im.Entry != r.Entry+im.Base || v.auxv[atBase] != im.Base || v.auxv[atEntry] != parseHeader(main).entry+im.Bias {
					t.Errorf("entry %#x, base %#x, AT_ENTRY %#x", im.Entry, im.Base, v.auxv[atEntry])
				}
				if kind == elf.ET_DYN && im.Bias != im.Layout.PIEBase {
					t.Errorf("loaded at %#x, not at %#x", im.Bias, im.Layout.PIEBase)
				}
				if interpKind == elf.ET_DYN && (im.Base == 0 || im.Base > im.Layout.MmapBase) {
					t.Errorf("the interpreter is at %#x", im.Base)
				}
				w.end(as, im)
			})
		}
	}
}

func TestBrokenInterpreter(t *testing.T) {
	for _, c := range broken {
		if c.errno == unix.ENOMEM || strings.Contains(c.name, "interpreter") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add("prog", interpreted(elf.ET_DYN, "/lib/ld").build())
			w.add("/lib/ld", c.build())
			as := w.space()
			im, err := w.load(as, "prog")
			w.end(as, im)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("it is loaded: %v", err)
			}
			checkSentence(t, e)
			want := c.errno
			if want == unix.ENOEXEC {
				want = unix.ELIBBAD
			}
			if e.Errno != want || !strings.Contains(e.Error(), "prog: cannot be started by its interpreter: /lib/ld: ") {
				t.Errorf("%v (%v), want %v", e, e.Errno, want)
			}
		})
	}
}

func TestInterpreterThatCannotBeOpened(t *testing.T) {
	w := newWorld(t)
	w.add("prog", interpreted(elf.ET_DYN, "/lib/ld").build())
	for _, errno := range []unix.Errno{unix.EACCES, unix.ELOOP, unix.EIO, unix.ENOTDIR} {
		as := w.space()
		p := w.params(as, "prog")
		p.Open = func(string) (File, error) { return nil, errno }
		_, err := Load(p)
		var e *Error
		if !errors.As(err, &e) || e.Errno != errno {
			t.Errorf("%v: %v", errno, err)
		} else {
			checkSentence(t, e)
		}
		w.end(as, nil)
	}
}

func TestStackProtection(t *testing.T) {
	for flags, want := range map[uint32]int{
		pfRead | pfWrite:          unix.PROT_READ | unix.PROT_WRITE,
		pfRead | pfWrite | pfExec: unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC,
	} {
		w := newWorld(t)
		r := small(elf.ET_EXEC)
		r.progs[2].Flags = flags
		w.add("prog", r.build())
		as := w.space()
		im, err := w.load(as, "prog")
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := as.Region(im.StackPointer); !ok || r.Prot != want || !r.Stack {
			t.Errorf("flags %d: %+v", flags, r)
		}
		w.end(as, im)
	}
}

// TestLayout checks where things are without randomization, as Linux shows them with setarch -R.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		recipe           *recipe
		bias, brk, entry uint64
	}{
		{small(elf.ET_EXEC), 0, 0x406000, smallBase + textAt},
		{interpreted(elf.ET_DYN, "/lib/ld"), 0x555555554000, 0x55555555a000, 0},
		{small(elf.ET_DYN), 0, 0x555555555000, 0},
	} {
		w := newWorld(t)
		w.add("prog", c.recipe.build())
		w.add("/lib/ld", small(elf.ET_DYN).build())
		as := w.space()
		p := w.params(as, "prog")
		p.Identify = runsAs(Identity{FixedLayout: true})
		im, err := Load(p)
		if err != nil {
			t.Fatal(err)
		}
		if im.Layout.StackTop != mm.UserEnd || c.bias != 0 && im.Bias != c.bias || im.Brk != c.brk || c.entry != 0 && im.Entry != c.entry {
			t.Errorf("%+v", im)
		}
		if got := as.Brk(im.Brk + 1); got != im.Brk+1 {
			t.Errorf("the heap doesn't grow: %#x", got)
		}
		w.end(as, im)
	}
}

func TestRandomLayout(t *testing.T) {
	seen := map[string]map[uint64]bool{}
	for range 20 {
		w := newWorld(t)
		w.add("prog", interpreted(elf.ET_DYN, "/lib/ld").build())
		w.add("/lib/ld", small(elf.ET_DYN).build())
		as := w.space()
		im, err := w.load(as, "prog")
		if err != nil {
			t.Fatal(err)
		}
		for what, v := range map[string]uint64{"bias": im.Bias, "base": im.Base, "stack": im.StackPointer, "brk": im.Brk} {
			if seen[what] == nil {
				seen[what] = map[uint64]bool{}
			}
			seen[what][v] = true
		}
		if im.Brk <= im.Bias || im.Brk&pageMask != 0 {
			t.Errorf("the heap is at %#x, the program at %#x", im.Brk, im.Bias)
		}
		w.end(as, im)
	}
	for what, values := range seen {
		if len(values) < 15 {
			t.Errorf("%s: %d values of 20", what, len(values))
		}
	}
}

func TestScripts(t *testing.T) {
	prog := small(elf.ET_EXEC).build()
	padding := strings.Repeat(" ", 300)
	for _, c := range []struct {
		name, script string
		want         []string // the arguments, nil: refused
		sentence     string
		errno        unix.Errno
	}{
		{"plain", "#!/bin/sh\necho", []string{"/bin/sh", "prog", "one"}, "", 0},
		{"blanks", "#! \t /bin/sh \t \n", []string{"/bin/sh", "prog", "one"}, "", 0},
		{"one argument", "#!/bin/sh -x -y  z \n", []string{"/bin/sh", "-x -y  z", "prog", "one"}, "", 0},
		{"no newline", "#!/bin/sh", []string{"/bin/sh", "prog", "one"}, "", 0},
		{"no newline, an argument", "#!/bin/sh -e", []string{"/bin/sh", "-e", "prog", "one"}, "", 0},
		{"zero byte", "#!/bin/sh\x00-x\n", []string{"/bin/sh", "prog", "one"}, "", 0},
		{"long line", "#!/bin/sh " + strings.Repeat("x", 400) + "\n", []string{"/bin/sh", strings.Repeat("x", 245), "prog", "one"}, "", 0},
		{"no interpreter", "#!\n", nil, "names no interpreter", unix.ENOEXEC},
		{"blanks alone", "#! \t \n", nil, "names no interpreter", unix.ENOEXEC},
		{"many blanks", "#!" + padding + "/bin/sh\n", nil, "names no interpreter", unix.ENOEXEC},
		{"long interpreter", "#!/" + strings.Repeat("x", 300) + "\n", nil, "names no interpreter within 256 bytes", unix.ENOEXEC},
		{"missing interpreter", "#!/bin/none -x\n", nil, "prog: is a script for /bin/none, which is not in the root filesystem: pass -e ROOTFS or an initrd that holds it", unix.ENOENT},
		{"carriage return", "#!/bin/sh\r\necho\r\n", nil, "carriage return", unix.ENOENT},
		{"itself", "#!prog\n", nil, "more than 5 times", unix.ELOOP},
		{"another script", "#!/bin/script4 -a\n", []string{"/bin/sh", "/bin/script1", "/bin/script2", "/bin/script3", "/bin/script4", "-a", "prog", "one"}, "", 0},
		{"too many scripts", "#!/bin/script5\n", nil, "more than 5 times", unix.ELOOP},
		{"an interpreter that is text", "#!/bin/text\n", nil, "/bin/text: is not an ELF executable: it is text", unix.ENOEXEC},
		{"ELF behind it", "#!/bin/dynamic\n", []string{"/bin/dynamic", "prog", "one"}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add("/bin/sh", prog)
			w.add("/bin/text", []byte("words"))
			w.add("/bin/dynamic", interpreted(elf.ET_DYN, "/lib/ld").build())
			w.add("/lib/ld", small(elf.ET_DYN).build())
			w.add("/bin/script1", []byte("#!/bin/sh\n"))
			for i := 2; i <= 5; i++ {
				w.add(fmt.Sprintf("/bin/script%d", i), fmt.Appendf(nil, "#!/bin/script%d\n", i-1))
			}
			w.add("prog", []byte(c.script))
			as := w.space()
			im, err := w.load(as, "prog")
			if err == nil {
				v := readStack(t, as, im.StackPointer)
				if !slices.Equal(v.args, c.want) {
					t.Errorf("%q", v.args)
				}
				if fn, _ := as.CopyInString(v.auxv[atExecFn], 100); fn != "prog" {
					t.Errorf("AT_EXECFN is %q", fn)
				}
				if im.File == File(w.files["prog"]) || im.Path != c.want[0] {
					t.Errorf("loaded is %s", im.Path)
				}
			} else if c.want != nil || !strings.Contains(err.Error(), c.sentence) || !errors.Is(err, c.errno) {
				t.Error(err)
			}
			w.end(as, im)
		})
	}
}

// TestScriptsOnLinux compares parseScript with the kernel beneath the test.
func TestScriptsOnLinux(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	for _, script := range []string{
		"#!/usr/bin/printf\n", "#!/usr/bin/printf <%s>", "#! \t/usr/bin/printf  <%s> \t\n", "#!/usr/bin/printf <%s> <%s>  \nx",
		"#!/usr/bin/printf " + strings.Repeat("y", 300), "#!/usr/bin/printf " + strings.Repeat("y", 300) + "\n", "#!\n", "#!", "#! ", "#!/",
		"#!" + strings.Repeat(" ", 253), "#!" + strings.Repeat(" ", 260) + "/usr/bin/printf\n",
		"#!" + strings.Repeat(" ", 254-len("/usr/bin/printf")) + "/usr/bin/printf\n", "#!" + strings.Repeat(" ", 253-len("/usr/bin/printf")) + "/usr/bin/printf\n",
		"#!" + strings.Repeat(" ", 252-len("/usr/bin/printf")) + "/usr/bin/printf x\n", "#!" + strings.Repeat(" ", 254-len("/usr/bin/printf")) + "/usr/bin/printf",
		"#!" + strings.Repeat(" ", 253-len("/usr/bin/printf")) + "/usr/bin/printf  x\n",
		"#!/usr/bin/printf a\x00b\n", "#!/usr/bin/printf\x00 b\n", "#!/usr/bin/printf\r\n", "#!/usr/bin/printf \t a \x00 c",
	} {
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(path).CombinedOutput()
		want := string(out)
		if err != nil {
			want = "fails"
		}
		line, ok := parseScript([]byte(script)[:min(len(script), scriptLine)])
		got := "fails"
		if ok {
			args := []string{path}
			if line.optional {
				args = []string{line.argument, path}
			}
			if out, err := exec.Command(line.path, args...).CombinedOutput(); err == nil {
				got = string(out)
			}
		}
		if got != want {
			t.Errorf("%q: parsed as %+v, %t: gives %q, Linux %q", script, line, ok, got, want)
		}
	}
}

// TestOutOfMemory lets each frame of a load in turn be the one that isn't there.
func TestOutOfMemory(t *testing.T) {
	old := metal.SetArenaFrames(1 << 30)
	defer metal.SetArenaFrames(old)
	for spare := uint64(0); ; spare++ {
		metal.SetArenaFrames(old)
		w := newWorld(t)
		w.add("prog", interpreted(elf.ET_DYN, "/lib/ld").build())
		w.add("/lib/ld", small(elf.ET_DYN).build())
		as, err := mm.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := metal.Frames()
		metal.SetArenaFrames(s.Total - s.Free + s.Reserve + spare)
		im, err := w.load(as, "prog")
		metal.SetArenaFrames(old)
		w.end(as, im)
		if err == nil {
			if spare == 0 {
				t.Error("a load takes no frame")
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Errno != unix.ENOMEM || e.Status != StatusFailed {
			t.Fatalf("%d frames: %v", spare, err)
		}
	}
}

const hello = `
#include <stdio.h>
static char large[1000000];
int counter = 4711;
__thread int local = 5;
int main(int argc, char **argv) { large[5] = argc; printf("Hello %d\n", counter + local); return 0; }
`

// TestRealPrograms loads what gcc makes and compares memory with the file.
func TestRealPrograms(t *testing.T) {
	gcc := need.Command(t, "gcc")
	source := filepath.Join(t.TempDir(), "hello.c")
	if err := os.WriteFile(source, []byte(hello), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []string{"-static-pie", "-static -no-pie", "-pie", "-no-pie", "-static-pie -Wl,-z,max-page-size=0x200000", "-static -no-pie -Wl,-z,noseparate-code", "-static -no-pie -Wl,-N,--defsym=__ehdr_start=0"} {
		t.Run(flags, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hello")
			args := append(strings.Fields(flags), "-o", path, source)
			if out, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
				t.Fatalf("gcc: %v\n%s", err, out)
			}
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := elf.NewFile(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			w.add("prog", file)
			var interp []byte
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP {
					name, _ := readInterp(w.files["prog"], "prog", &segment{offset: p.Off, fileSize: p.Filesz}, unix.ENOEXEC)
					if interp, err = os.ReadFile(name); err != nil {
						t.Fatal(err)
					}
					w.add(name, interp)
				}
			}
			as := w.space()
			im, err := w.load(as, "prog")
			if err != nil {
				t.Fatal(err)
			}
			checkImage(t, as, im, file)
			if interp != nil {
				checkSegments(t, as, im.Base, interp)
				h := parseHeader(interp)
				if im.Entry != h.entry+im.Base {
					t.Errorf("entry %#x", im.Entry)
				}
			} else if im.Entry != f.Entry+im.Bias {
				t.Errorf("entry %#x", im.Entry)
			}
			for _, s := range f.Sections {
				if s.Flags&elf.SHF_ALLOC == 0 || s.Size == 0 || s.Flags&elf.SHF_TLS != 0 && s.Type == elf.SHT_NOBITS {
					continue
				}
				want := make([]byte, s.Size)
				if s.Type != elf.SHT_NOBITS {
					want, _ = s.Data()
				}
				if !bytes.Equal(peek(t, as, s.Addr+im.Bias, int(s.Size)), want) {
					t.Errorf("section %s differs", s.Name)
				}
			}
			align := uint64(4096)
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD {
					align = max(align, p.Align)
				}
				if p.Type == elf.PT_PHDR && binary.LittleEndian.Uint64(auxEntry(im.Auxv, atPHDR)) != p.Vaddr+im.Bias {
					t.Error("AT_PHDR is wrong")
				}
			}
			if im.Bias%align != 0 {
				t.Errorf("loaded at %#x, alignment %#x", im.Bias, align)
			}
			w.end(as, im)
		})
	}
}

func auxEntry(auxv []byte, kind uint64) []byte {
	for i := 0; i < len(auxv); i += 16 {
		if binary.LittleEndian.Uint64(auxv[i:]) == kind {
			return auxv[i+8 : i+16]
		}
	}
	return make([]byte, 8)
}

// TestAuxvOrder compares with the kernel beneath the test: programs may not care, people who diff do.
func TestAuxvOrder(t *testing.T) {
	own, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.add("prog", small(elf.ET_EXEC).build())
	as := w.space()
	p := w.params(as, "prog")
	p.VDSO = func(*mm.AddressSpace) (uint64, error) { return 4096, nil }
	im, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	kinds := func(auxv []byte) (kinds []uint64) {
		for ; len(auxv) >= 16; auxv = auxv[16:] {
			kinds = append(kinds, binary.LittleEndian.Uint64(auxv))
		}
		return kinds
	}
	ours := kinds(im.Auxv)
	// Older and newer kernels have fewer and more entries.
	var theirs []uint64
	for _, kind := range kinds(own) {
		if slices.Contains(ours, kind) && !slices.Contains(theirs, kind) {
			theirs = append(theirs, kind)
		}
	}
	ours = slices.DeleteFunc(ours, func(kind uint64) bool { return !slices.Contains(theirs, kind) })
	if !slices.Equal(ours, theirs) {
		t.Errorf("%v, Linux has %v", ours, theirs)
	}
	w.end(as, im)
}

// FuzzLoad loads arbitrary files: the outcome is a program or an Error, and nothing leaks.
func FuzzLoad(f *testing.F) {
	for _, c := range slices.Concat(broken, odd) {
		f.Add(c.build(), uint64(0))
	}
	f.Add(interpreted(elf.ET_DYN, "/lib/ld").build(), uint64(1))
	f.Add([]byte("#!/lib/ld -x\n"), uint64(2))
	ld := small(elf.ET_DYN).build()
	f.Fuzz(func(t *testing.T, file []byte, seed uint64) {
		for _, asInterpreter := range []bool{false, true} {
			w := newWorld(t)
			if asInterpreter {
				w.add("prog", interpreted(elf.ET_DYN, "/lib/ld").build())
				w.add("/lib/ld", file)
			} else {
				w.add("prog", file)
				w.add("/lib/ld", ld)
			}
			as := w.space()
			p := w.params(as, "prog")
			source := rand.New(rand.NewPCG(seed, 0))
			p.Random = source.Uint64
			p.Identify = runsAs(Identity{FixedLayout: seed&1 != 0})
			im, err := Load(p)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Errno == 0 || e.Status < StatusFailed || e.Status > StatusNotFound || strings.Contains(e.Error(), "\n") {
					t.Errorf("%v", err)
				}
			} else {
				v := readStack(t, as, im.StackPointer)
				if len(v.args) < 2 {
					t.Errorf("%q", v.args)
				}
			}
			w.end(as, im)
		}
	})
}
