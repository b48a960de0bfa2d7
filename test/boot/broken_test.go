package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"elver/test/tinyelf"
)

// Offsets in an ELF64 header, and in the first program header behind it.
const (
	eIdent, eType, eMachine, eVersion, eEntry = 0, 16, 18, 20, 24
	ePhoff, eEhsize, ePhentsize, ePhnum       = 32, 52, 54, 56
	pType, pFlags, pOffset, pVaddr            = 64, 68, 72, 80
	pFilesz, pMemsz, pAlign                   = 96, 104, 112
)

func put16(at int, v uint16) func([]byte) []byte {
	return func(f []byte) []byte { binary.LittleEndian.PutUint16(f[at:], v); return f }
}
func put64(at int, v uint64) func([]byte) []byte {
	return func(f []byte) []byte { binary.LittleEndian.PutUint64(f[at:], v); return f }
}
func put8(at int, v byte) func([]byte) []byte {
	return func(f []byte) []byte { f[at] = v; return f }
}
func cut(n int) func([]byte) []byte { return func(f []byte) []byte { return f[:n] } }
func both(a, b func([]byte) []byte) func([]byte) []byte {
	return func(f []byte) []byte { return b(a(f)) }
}

// segments replaces the program headers by these, in front of the code.
func segments(headers ...[]byte) func([]byte) []byte {
	return func(f []byte) []byte {
		code := f[tinyelf.HeaderSize:]
		g := append([]byte{}, f[:64]...)
		g = append(g, bytes.Join(headers, nil)...)
		binary.LittleEndian.PutUint16(g[ePhnum:], uint16(len(headers)))
		binary.LittleEndian.PutUint64(g[eEntry:], tinyelf.Base+uint64(len(g)))
		return append(g, code...)
	}
}

func header(kind, flags uint32, offset, vaddr, filesz, memsz, align uint64) []byte {
	b := make([]byte, 0, 56)
	le := binary.LittleEndian
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, flags)
	for _, v := range []uint64{offset, vaddr, vaddr, filesz, memsz, align} {
		b = le.AppendUint64(b, v)
	}
	return b
}

// interpreter adds a PT_INTERP of that name, which stands behind the code.
func interpreter(name string) func([]byte) []byte {
	return func(f []byte) []byte {
		size := uint64(len(f) + 56)
		f = segments(
			header(3, 4, size, tinyelf.Base+size, uint64(len(name)), uint64(len(name)), 1),
			header(1, 7, 0, tinyelf.Base, size, size, 4096),
		)(f)
		return append(f, name...)
	}
}

// broken lists what is done to a sound program of a few bytes so that Linux
// refuses it. status is Elver's: 126 for a file that is not an executable for
// this machine, 125 where either may be said.
var broken = []struct {
	name  string
	spoil func([]byte) []byte
}{
	{"empty", cut(0)},
	{"one-byte", cut(1)},
	{"magic-only", cut(4)},
	{"ident-only", cut(16)},
	{"half-a-header", cut(40)},
	{"header-less-a-byte", cut(63)},
	{"header-only", cut(64)},
	{"half-a-program-header", cut(90)},
	{"program-header-less-a-byte", cut(tinyelf.HeaderSize - 1)},
	{"bad-magic", put8(0, 'E')},
	{"bad-magic-end", put8(3, 'f')},
	{"text-file", func([]byte) []byte { return []byte("just some words\n") }},
	{"zeros", func(f []byte) []byte { return make([]byte, 4096) }},
	{"noise", func(f []byte) []byte {
		g := make([]byte, 5000)
		x := uint32(1)
		for i := range g {
			x = x*1664525 + 1013904223
			g[i] = byte(x >> 24)
		}
		return g
	}},
	{"type-none", put16(eType, 0)},
	{"type-relocatable", put16(eType, 1)},
	{"type-core", put16(eType, 4)},
	{"type-absurd", put16(eType, 0xffff)},
	{"machine-none", put16(eMachine, 0)},
	{"machine-386", put16(eMachine, 3)},
	{"machine-arm", put16(eMachine, 40)},
	{"machine-aarch64", put16(eMachine, 183)},
	{"machine-riscv", put16(eMachine, 243)},
	{"machine-big-endian", func(f []byte) []byte {
		f[5] = 2
		f[eMachine], f[eMachine+1] = 0, 62
		f[eType], f[eType+1] = 0, 2
		return f
	}},
	{"class-32", both(put8(4, 1), put16(ePhentsize, 32))},
	{"phentsize-0", put16(ePhentsize, 0)},
	{"phentsize-32", put16(ePhentsize, 32)},
	{"phentsize-64", put16(ePhentsize, 64)},
	{"phnum-0", put16(ePhnum, 0)},
	{"phnum-2-of-1", put16(ePhnum, 2000)},
	{"phnum-absurd", put16(ePhnum, 0xffff)},
	{"phoff-past-the-end", put64(ePhoff, 1<<20)},
	{"phoff-absurd", put64(ePhoff, 1<<62)},
	{"phoff-negative", put64(ePhoff, ^uint64(63))},
	{"filesz-above-memsz", put64(pFilesz, 1<<20)},
	{"memsz-absurd", put64(pMemsz, 1<<47)},
	{"memsz-wraps", put64(pMemsz, ^uint64(0))},
	{"sizes-absurd", both(put64(pFilesz, 1<<62), put64(pMemsz, 1<<62))},
	{"vaddr-in-the-kernel", put64(pVaddr, 0xffffffff80000000)},
	{"vaddr-non-canonical", put64(pVaddr, 0x0000800000000000)},
	{"vaddr-last-page", put64(pVaddr, 0x00007ffffffff000)},
	{"vaddr-end-of-the-world", put64(pVaddr, 0xfffffffffffff000)},
	{"vaddr-zero", put64(pVaddr, 0)},
	{"vaddr-not-congruent", put64(pVaddr, tinyelf.Base+8)},
	{"offset-not-congruent", put64(pOffset, 3)},
	{"offset-negative", put64(pOffset, ^uint64(4095))},
	{"interpreter-missing", interpreter("/lib64/ld-nowhere.so.2\x00")},
	{"interpreter-empty", interpreter("\x00")},
	{"interpreter-unterminated", interpreter("/lib64/ld-linux-x86-64.so.2")},
	{"interpreter-too-long", interpreter("/" + strings.Repeat("x", 5000) + "\x00")},
	{"interpreter-past-the-end", both(interpreter("/lib/x\x00"), func(f []byte) []byte {
		binary.LittleEndian.PutUint64(f[pOffset:], 1<<30)
		return f
	})},
	{"script-without-interpreter", func([]byte) []byte { return []byte("#!/no/such/shell\necho hi\n") }},
	{"script-of-nothing", func([]byte) []byte { return []byte("#!\n") }},
	{"truncated-pie", func([]byte) []byte { return nil }}, // filled in below
	{"truncated-exe", func([]byte) []byte { return nil }}, // filled in below
	{"interpreter-is-a-folder", interpreter("/proc\x00")},
}

// One sentence: something readable on one line, no stack, no register dump.
var sentence = regexp.MustCompile(`\A[^\n]{12,400}\n\z`)

func TestBroken(t *testing.T) {
	if len(broken) < 50 {
		t.Fatalf("only %d broken files", len(broken))
	}
	dir := t.TempDir()
	for _, row := range broken {
		t.Run(row.name, func(t *testing.T) {
			sound := tinyelf.Hello("it ran all the same\n", 0)
			file := row.spoil(sound)
			switch row.name {
			case "truncated-pie", "truncated-exe":
				k := staticPIE
				if row.name == "truncated-exe" {
					k = staticExe
				}
				whole, err := os.ReadFile(build(t, k, "helloworld"))
				if err != nil {
					t.Fatal(err)
				}
				file = whole[:300]
			}
			path := filepath.Join(dir, row.name)
			if err := os.WriteFile(path, file, 0o755); err != nil {
				t.Fatal(err)
			}
			if row.name != "empty" { // the shell's habit: Go's exec reports it well
				if out, err := exec.Command(path).CombinedOutput(); err == nil {
					t.Fatalf("Linux runs this: %s", out)
				}
			}
			t.Parallel()
			r := vm{program: path, mem: 64}.run(t)
			if r.status != 125 && r.status != 126 && r.status != 127 {
				t.Errorf("wanted a refusal, status 125 to 127\n%v", r)
			}
			if r.stdout != "" || !sentence.MatchString(r.stderr) {
				t.Errorf("wanted one sentence on stderr and nothing else\n%v", r)
			}
		})
	}
}

// odd lists files that Linux runs in spite of what they look like.
var odd = []struct {
	name  string
	spoil func([]byte) []byte
}{
	{"sound", func(f []byte) []byte { return f }},
	{"version-0", put16(eVersion, 0)},
	{"ident-version-0", put8(6, 0)},
	{"osabi-solaris", put8(7, 6)},
	{"ident-padding", put8(12, 0xff)},
	{"ehsize-0", put16(eEhsize, 0)},
	{"section-headers-absurd", put64(40, 1<<60)},
	{"align-0", put64(pAlign, 0)},
	{"align-not-a-power-of-2", put64(pAlign, 12345)},
	{"flags-strange", func(f []byte) []byte { f[pFlags+3] = 0xf0; return f }},
	{"flags-of-the-header", put8(48, 0xff)},
	{"bss-of-many-pages", put64(pMemsz, 1<<20)},
	{"unknown-segments", func(f []byte) []byte {
		return segments(
			header(0x6abcdef0, 0, 1<<40, 1<<50, 77, 3, 5),
			header(1, 7, 0, tinyelf.Base, uint64(len(f)+112), uint64(len(f)+112), 4096),
			header(4, 4, 1<<40, 9, 1<<40, 0, 3),
		)(f)
	}},
	{"overlapping-segments", func(f []byte) []byte {
		return segments(
			header(1, 7, 0, tinyelf.Base, uint64(len(f)+56), uint64(len(f)+56), 4096),
			header(1, 7, 0, tinyelf.Base, uint64(len(f)+56), uint64(len(f)+56), 4096),
		)(f)
	}},
	{"trailing-rubbish", func(f []byte) []byte { return append(f, make([]byte, 9000)...) }},
	{"type-dyn", put16(eType, 3)},
}

func TestOdd(t *testing.T) {
	dir := t.TempDir()
	for _, row := range odd {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(dir, row.name)
			if err := os.WriteFile(path, row.spoil(tinyelf.Hello(hello, 3)), 0o755); err != nil {
				t.Fatal(err)
			}
			onHost := execute(patience, "", []string{path})
			if onHost.stdout != hello || onHost.status != 3 {
				t.Fatalf("Linux doesn't run this either\n%v", onHost)
			}
			t.Parallel()
			r := vm{program: path, mem: 64}.run(t)
			if r.stdout != hello || r.status != 3 || r.stderr != "" {
				t.Errorf("wanted what Linux does: %q and status 3\n%v", hello, r)
			}
		})
	}
}

// TestRefusals: what else can be wrong before a program runs. One sentence each.
func TestRefusals(t *testing.T) {
	cpio := append([]byte("070701"), bytes.Repeat([]byte("0"), 60)...)
	whole := cpioArchive(map[string]string{"etc/motd": "hi\n", "bin/": ""})
	rows := []struct {
		name   string
		vm     vm
		status int
		says   string
	}{
		{"no-initrd", vm{}, 125, `(?i)initrd|-i`},
		{"unknown-parameter", vm{program: "hello", args: "elver.nonsense=1 x"}, 125, `elver\.nonsense`},
		{"unknown-vfs-parameter", vm{program: "hello", args: "vfs.nonsense=1 --"}, 125, `vfs\.nonsense`},
		{"unclosed-quote", vm{program: "hello", args: `"a b`}, 125, `(?i)quot|"`},
		{"bad-log-level", vm{program: "hello", args: "elver.log=loud --"}, 125, `loud`},
		{"little-memory", vm{program: "hello", mem: 11}, 125, `(?i)memory|-m`},
		{"no-room-for-the-kernel", vm{program: "hello", mem: 10}, 125, `doesn't fit.*-m`},
		{"no-room-at-all", vm{program: "hello", mem: 2}, 125, `doesn't fit.*-m`},
		{"a-megabyte", vm{program: "hello", mem: 1}, 125, `-m`},
		{"little-memory-for-the-program", vm{program: "big", mem: 32}, 125, `(?i)memory|-m`},
		{"truncated-cpio", vm{program: write(t, "root.cpio", whole[:len(whole)-300])}, 125, `(?i)cpio|initrd|archive|cut|trunc|end`},
		{"cpio-of-noise", vm{program: write(t, "noise.cpio", cpio)}, 125, `.`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			switch row.vm.program {
			case "hello":
				row.vm.program = build(t, staticPIE, "helloworld")
			case "big":
				// A program whose file alone is larger than the memory left.
				row.vm.program = write(t, "big", append(tinyelf.Hello(hello, 0), make([]byte, 28<<20)...))
			}
			r := row.vm.run(t)
			if r.status != row.status || r.stdout != "" || !sentence.MatchString(r.stderr) ||
				!regexp.MustCompile(row.says).MatchString(r.stderr) {
				t.Errorf("wanted status %d and one sentence that matches %q\n%v", row.status, row.says, r)
			}
		})
	}
}

// TestMissingProgram is the script's to refuse.
func TestMissingProgram(t *testing.T) {
	t.Parallel()
	r := vm{program: "/no/such/file"}.run(t)
	if r.status != 127 || !sentence.MatchString(r.stderr) {
		t.Errorf("wanted status 127 and a sentence\n%v", r)
	}
	r = vm{program: "/etc"}.run(t)
	if r.status != 126 || !sentence.MatchString(r.stderr) {
		t.Errorf("wanted status 126 and a sentence\n%v", r)
	}
}

// cpioArchive makes a newc archive. Names that end with a slash are folders.
func cpioArchive(files map[string]string) []byte {
	var b bytes.Buffer
	ino := 1
	add := func(name, data string, mode int) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		ino++
		b.WriteString(name)
		b.WriteByte(0)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
		b.WriteString(data)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for name, data := range files {
		if dir, ok := strings.CutSuffix(name, "/"); ok {
			add(dir, "", 0o40755)
		} else {
			add(name, data, 0o100755)
		}
	}
	add("TRAILER!!!", "", 0)
	return b.Bytes()
}
