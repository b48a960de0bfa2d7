package elf

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// change makes an odd file out of a good one.
type change struct {
	name  string
	kind  elf.Type
	edit  func(r *recipe)          // nil: none
	bytes func(file []byte) []byte // of the built file; nil: none
	want  string                   // part of the sentence; "": it runs
	errno unix.Errno
	// linux says that Linux runs what we refuse: a file that lost a part, of which the user had better
	// hear, or one that wants addresses below ours of vm.mmap_min_addr.
	linux bool
}

func (c *change) build() []byte {
	kind := c.kind
	if kind == 0 {
		kind = elf.ET_EXEC
	}
	r := small(kind)
	if c.edit != nil {
		c.edit(r)
	}
	file := r.build()
	if c.bytes != nil {
		file = c.bytes(file)
	}
	return file
}

func content(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }

func start(s string) func([]byte) []byte {
	return func(f []byte) []byte { copy(f, s); return f }
}

func cut(n int) func([]byte) []byte { return func(f []byte) []byte { return f[:n] } }

// sectionTable gives the file a section table behind its end.
func sectionTable(r *recipe) {
	r.Shoff, r.Shnum = uint64(r.size), 4
	r.size += 4 * 64
}

// low adds a segment at an address that is perhaps too low.
func low(vaddr uint64) func(*recipe) {
	return func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead | pfWrite, Off: 0x80, Vaddr: vaddr, Filesz: 16, Memsz: 16})
	}
}

var broken = []change{
	{name: "empty", bytes: content(""), want: "is empty", errno: unix.ENOEXEC},
	{name: "one byte", bytes: content("\x7f"), want: "begins like ELF and ends before", errno: unix.ENOEXEC},
	{name: "magic alone", bytes: content("\x7fELF"), want: "it has 4 bytes, and its ELF header alone has 64", errno: unix.ENOEXEC},
	{name: "half a header", bytes: cut(63), want: "is truncated: it has 63 bytes", errno: unix.ENOEXEC},
	{name: "header alone", bytes: cut(64), want: "its 3 program headers start at offset 64", errno: unix.ENOEXEC},
	{name: "half the program headers", bytes: cut(100), want: "is truncated: it has 100 bytes", errno: unix.ENOEXEC},
	{name: "zeroes", bytes: content(strings.Repeat("\x00", 5000)), want: "begins with 512 zero bytes", errno: unix.ENOEXEC},
	{name: "random", bytes: content("\x01\x02\x03\xfe\x80\x90\xa0\xb0\xc0"), want: "it begins with 01 02 03 fe 80 90 a0 b0", errno: unix.ENOEXEC},
	{name: "almost magic", bytes: start("\x7fELG"), want: "it begins with 7f 45 4c 47", errno: unix.ENOEXEC},
	{name: "text", bytes: content("hello world\n"), want: `text that begins with "hello world"`, errno: unix.ENOEXEC},
	{name: "gzip", bytes: content("\x1f\x8b\x08\x00abc"), want: "a gzip file", errno: unix.ENOEXEC},
	{name: "xz", bytes: content("\xfd7zXZ\x00\x00"), want: "an xz file", errno: unix.ENOEXEC},
	{name: "zstd", bytes: content("\x28\xb5\x2f\xfd\x00"), want: "a zstd file", errno: unix.ENOEXEC},
	{name: "bzip2", bytes: content("BZh91AY&SY\xff"), want: "a bzip2 file", errno: unix.ENOEXEC},
	{name: "zip", bytes: content("PK\x03\x04\x14\x00"), want: "a zip archive", errno: unix.ENOEXEC},
	{name: "PE", bytes: content("MZ\x90\x00\x03"), want: "a Windows or DOS program", errno: unix.ENOEXEC},
	{name: "Mach-O", bytes: content("\xcf\xfa\xed\xfe\x07\x00"), want: "a macOS program", errno: unix.ENOEXEC},
	{name: "ar", bytes: content("!<arch>\ndebian-binary"), want: "an ar archive", errno: unix.ENOEXEC},
	{name: "cpio", bytes: content("070701000"), want: "a cpio archive", errno: unix.ENOEXEC},
	{name: "wasm", bytes: content("\x00asm\x01\x00"), want: "a WebAssembly module", errno: unix.ENOEXEC},
	{name: "tar", bytes: content("a" + strings.Repeat("\x00", 256) + "ustar" + strings.Repeat("\x00", 250)), want: "a tar archive", errno: unix.ENOEXEC},

	{name: "i386", edit: func(r *recipe) { r.Ident[4] = class32; r.Machine = 3 }, want: "is a 32-bit program for 32-bit x86 (i386)", errno: unix.ENOEXEC},
	{name: "32-bit ARM", edit: func(r *recipe) { r.Ident[4] = class32; r.Machine = 40 }, want: "for 32-bit ARM", errno: unix.ENOEXEC},
	{name: "x32", edit: func(r *recipe) { r.Ident[4] = class32; r.Phentsize = 32 }, want: "x32 ABI", errno: unix.ENOEXEC},
	{name: "aarch64", edit: func(r *recipe) { r.Machine = 183 }, want: "is a program for 64-bit ARM (aarch64); this machine is an x86-64", errno: unix.ENOEXEC},
	{name: "riscv", edit: func(r *recipe) { r.Machine = 243 }, want: "is a program for RISC-V", errno: unix.ENOEXEC},
	{name: "unknown machine", edit: func(r *recipe) { r.Machine = 4711 }, want: "machine number 4711", errno: unix.ENOEXEC},
	{name: "no machine", edit: func(r *recipe) { r.Machine = 0 }, want: "machine number 0", errno: unix.ENOEXEC},
	{name: "big-endian s390x", edit: func(r *recipe) { r.Ident[5] = 2; r.Machine = 22 << 8; r.Type = 2 << 8 }, want: "is a big-endian program for S/390", errno: unix.ENOEXEC},
	{name: "big-endian ppc", edit: func(r *recipe) { r.Ident[5] = 2; r.Machine = 21 << 8; r.Type = 3 << 8 }, want: "big-endian program for 64-bit PowerPC", errno: unix.ENOEXEC},
	{name: "object file", edit: func(r *recipe) { r.Type = 1; r.Phnum = 0 }, want: "object file that has yet to be linked", errno: unix.ENOEXEC},
	{name: "core dump", edit: func(r *recipe) { r.Type = 4 }, want: "is a core dump", errno: unix.ENOEXEC},
	{name: "type none", edit: func(r *recipe) { r.Type = 0 }, want: "ELF file of type 0", errno: unix.ENOEXEC},
	{name: "processor's type", edit: func(r *recipe) { r.Type = 0xff00 }, want: "ELF file of type 65280", errno: unix.ENOEXEC},
	{name: "small program headers", edit: func(r *recipe) { r.Phentsize = 32 }, want: "program headers of 32 bytes", errno: unix.ENOEXEC},
	{name: "large program headers", edit: func(r *recipe) { r.Phentsize = 57 }, want: "program headers of 57 bytes", errno: unix.ENOEXEC},
	{name: "no program headers", edit: func(r *recipe) { r.progs = nil }, want: "has no program headers", errno: unix.ENOEXEC},
	{name: "too many program headers", edit: func(r *recipe) { r.Phnum = 1171; r.size = 1 << 17 }, want: "has 1171 program headers", errno: unix.ENOEXEC},
	{name: "extended program header count", edit: func(r *recipe) { r.Phnum = 0xffff }, want: "has 65535 program headers", errno: unix.ENOEXEC},
	{name: "program headers beyond the end", edit: func(r *recipe) { r.Phoff = 1 << 20 }, want: "start at offset 1048576", errno: unix.ENOEXEC},
	{name: "program headers wrap", edit: func(r *recipe) { r.Phoff = ^uint64(0) - 8 }, want: "is truncated", errno: unix.ENOEXEC},
	{name: "program headers at a negative offset", edit: func(r *recipe) { r.Phoff = 1 << 63 }, want: "is truncated", errno: unix.ENOEXEC},

	{name: "shared library", kind: elf.ET_DYN, edit: func(r *recipe) { r.Entry = 0 }, want: "is a shared library: it has no entry point", errno: unix.ENOEXEC},
	{name: "no entry", edit: func(r *recipe) { r.Entry = 0 }, want: "has no entry point", errno: unix.ENOEXEC},
	{name: "entry in the data", edit: func(r *recipe) { r.Entry = smallBase + dataVaddr }, want: "entry point 0x403080 is in none of its executable segments", errno: unix.ENOEXEC},
	{name: "entry outside", edit: func(r *recipe) { r.Entry = 0x12345678 }, want: "entry point 0x12345678", errno: unix.ENOEXEC},
	{name: "entry in the kernel", edit: func(r *recipe) { r.Entry = 0xffffffff81000000 }, want: "entry point 0xffffffff81000000", errno: unix.ENOEXEC},
	{name: "nothing executable", edit: func(r *recipe) { r.progs[0].Flags = pfRead }, want: "none of its executable segments", errno: unix.ENOEXEC},
	{name: "nothing to load", edit: func(r *recipe) { r.progs[0].Type, r.progs[1].Type = 0, 0 }, want: "no segment to load", errno: unix.ENOEXEC},

	{name: "cut in the data", edit: func(r *recipe) { r.progs[1].Filesz = 0x2f00 }, want: "it has 4480 bytes and should have at least 16256", errno: unix.ENOEXEC},
	{name: "cut before the data", bytes: cut(0x1000), want: "it has 4096 bytes and should have at least 4480", errno: unix.ENOEXEC},
	{name: "cut in the code", bytes: cut(0x300), want: "should have at least 4480", errno: unix.ENOEXEC},
	{name: "cut in the last page", edit: sectionTable, bytes: cut(dataAt + 0x80), want: "it has 4352 bytes and should have at least 4736", errno: unix.ENOEXEC, linux: true},
	{name: "segment far beyond the end", edit: func(r *recipe) { r.progs[1].Off += 1 << 40 }, want: "is truncated", errno: unix.ENOEXEC},
	{name: "segment at a negative offset", edit: func(r *recipe) { r.progs[1].Off |= 1 << 63 }, want: "no file is so long", errno: unix.EINVAL},
	{name: "segment's offset wraps", edit: func(r *recipe) {
		r.progs[1].Off = ^uint64(0xfff) | 0x80
		r.progs[1].Filesz, r.progs[1].Memsz = 0x2000, 0x3000
	}, want: "no file is so long", errno: unix.EINVAL},

	{name: "more in the file than in memory", edit: func(r *recipe) { r.progs[1].Memsz = 0xff }, want: "more bytes in the file (0x100) than in memory (0xff)", errno: unix.EINVAL},
	{name: "offset and address differ", edit: func(r *recipe) { r.progs[1].Off += 8 }, want: "the two differ within a page", errno: unix.EINVAL},
	{name: "wrapping segment", edit: func(r *recipe) { r.progs[1].Memsz = ^uint64(0) - 0x1000 }, want: "wraps around", errno: unix.EINVAL},
	{name: "segment in the kernel", edit: func(r *recipe) { r.progs[1].Vaddr = 0xffffffff81000080; r.progs[1].Memsz = 0x100 }, want: "ends above 0x7ffffffff000", errno: unix.EINVAL},
	{name: "segment in the hole", edit: func(r *recipe) { r.progs[1].Vaddr = 0x800000000080 }, want: "ends above 0x7ffffffff000", errno: unix.EINVAL},
	{name: "segment in the last page", edit: func(r *recipe) { r.progs[1].Vaddr = 0x7ffffffff080; r.progs[1].Memsz = 0x100 }, want: "ends above 0x7ffffffff000", errno: unix.EINVAL},
	{name: "segment up to the last page", edit: func(r *recipe) { r.progs[1].Vaddr = 0x7fffffffe080; r.progs[1].Memsz = 0x1000 }, want: "ends above 0x7ffffffff000", errno: unix.EINVAL},
	{name: "segment of all memory", edit: func(r *recipe) { r.progs[1].Memsz = 1 << 47 }, want: "ends above 0x7ffffffff000", errno: unix.EINVAL},
	{name: "segment of 64 TiB", edit: func(r *recipe) { r.progs[1].Memsz = 1 << 46 }, want: "of 70368744177664 bytes cannot be mapped: there is not enough memory", errno: unix.ENOMEM},
	{name: "negative size", edit: func(r *recipe) { r.progs[1].Memsz = 1 << 63 }, want: "ends above", errno: unix.EINVAL},
	{name: "address 0", edit: low(0x80), want: "lies below 0x10000", errno: unix.EPERM, linux: true},
	{name: "below mmap_min_addr", edit: low(0xf080), want: "lies below 0x10000", errno: unix.EPERM, linux: true},
	{name: "overlapping segments", edit: func(r *recipe) { r.progs[1].Vaddr = smallBase + 0x80 }, want: "segments at 0x400000 and 0x400080 overlap", errno: unix.ENOEXEC},
	{name: "position-independent and larger than memory", kind: elf.ET_DYN, edit: func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead, Vaddr: 0x7fffffff0000, Memsz: 0x1000})
	}, want: "there is not enough memory", errno: unix.ENOMEM},

	{name: "interpreter without a name", edit: func(r *recipe) { r.progs[2] = elf.Prog64{Type: ptInterp, Off: 0x700, Filesz: 1} }, want: "its interpreter has 1 bytes", errno: unix.ENOEXEC},
	{name: "interpreter with a long name", edit: func(r *recipe) { r.progs[2] = elf.Prog64{Type: ptInterp, Off: 0x10, Filesz: 4097} }, want: "its interpreter has 4097 bytes", errno: unix.ENOEXEC},
	{name: "interpreter's name without end", edit: func(r *recipe) {
		r.patch[0x700] = "/lib/ld"
		r.progs[2] = elf.Prog64{Type: ptInterp, Off: 0x700, Filesz: 7}
	}, want: "has no end", errno: unix.ENOEXEC},
	{name: "interpreter's name beyond the end", edit: func(r *recipe) { r.progs[2] = elf.Prog64{Type: ptInterp, Off: 0x10000, Filesz: 9} }, want: "the name of its interpreter ends at 65545", errno: unix.EIO},
	{name: "interpreter's name wraps", edit: func(r *recipe) { r.progs[2] = elf.Prog64{Type: ptInterp, Off: ^uint64(0), Filesz: 9} }, want: "is truncated", errno: unix.EIO},
	{name: "empty interpreter", edit: func(r *recipe) { r.progs[2] = elf.Prog64{Type: ptInterp, Off: 0x700, Filesz: 9} }, want: "interpreter is empty", errno: unix.ENOENT},
	{name: "missing interpreter", edit: func(r *recipe) {
		r.patch[0x700] = "/lib64/ld-none.so.2\x00"
		r.progs[2] = elf.Prog64{Type: ptInterp, Off: 0x700, Filesz: 20}
	}, want: "needs the interpreter /lib64/ld-none.so.2, which is not in the root filesystem: pass -e ROOTFS or an initrd that holds it", errno: unix.ENOENT},
}

// odd are files with something wrong in them that run all the same.
var odd = []change{
	{name: "as it should be"},
	{name: "position-independent", kind: elf.ET_DYN},
	{name: "class 32", edit: func(r *recipe) { r.Ident[4] = class32 }},
	{name: "class 0", edit: func(r *recipe) { r.Ident[4] = 0 }},
	{name: "byte order 2", edit: func(r *recipe) { r.Ident[5] = 2 }},
	{name: "rubbish in e_ident", edit: func(r *recipe) { copy(r.Ident[4:], "rubbish here") }},
	{name: "e_version 0", edit: func(r *recipe) { r.Version = 0 }},
	{name: "e_flags", edit: func(r *recipe) { r.Flags = 0xdeadbeef }},
	{name: "e_ehsize 0", edit: func(r *recipe) { r.Ehsize = 0 }},
	{name: "section table beyond the end", edit: func(r *recipe) { r.Shoff = 1 << 40; r.Shnum = 99; r.Shstrndx = 98 }},
	{name: "section headers of no size", edit: func(r *recipe) { r.Shentsize = 0 }},
	{name: "lost section table", edit: sectionTable, bytes: cut(dataAt + 0x100)},
	{name: "end of the last page missing", edit: func(r *recipe) { r.progs[1].Filesz = 0xf00 }},
	{name: "rubbish at the end", edit: func(r *recipe) { r.size += 12345 }},
	{name: "physical addresses", edit: func(r *recipe) { r.progs[0].Paddr = ^uint64(0); r.progs[1].Paddr = 1 }},
	{name: "alignment 0", edit: func(r *recipe) { r.progs[0].Align, r.progs[1].Align = 0, 0 }},
	{name: "alignment 3", kind: elf.ET_DYN, edit: func(r *recipe) { r.progs[0].Align, r.progs[1].Align = 3, 12345 }},
	{name: "alignment of 2 MiB", kind: elf.ET_DYN, edit: func(r *recipe) { r.progs[0].Align = 2 << 20 }},
	{name: "alignment of 1 GiB", kind: elf.ET_DYN, edit: func(r *recipe) { r.progs[1].Align = 1 << 30 }},
	{name: "no stack header", edit: func(r *recipe) { r.progs = r.progs[:2] }},
	{name: "executable stack", edit: func(r *recipe) { r.progs[2].Flags |= pfExec }},
	{name: "segments in reverse order", edit: func(r *recipe) { r.progs[0], r.progs[1] = r.progs[1], r.progs[0] }},
	{name: "segment of nothing", edit: func(r *recipe) {
		r.progs = append([]elf.Prog64{{Type: ptLoad, Flags: pfRead, Vaddr: smallBase + 0x10000}}, r.progs...)
	}},
	{name: "BSS alone", edit: func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead | pfWrite, Vaddr: smallBase + 0x10010, Memsz: 0x5000})
	}},
	{name: "BSS that cannot be written", edit: func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead, Vaddr: smallBase + 0x10010, Memsz: 0x5000})
	}},
	{name: "a hole of 1 TiB", edit: func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead, Vaddr: 1 << 40, Filesz: 0x100, Memsz: 0x100})
	}},
	{name: "a segment that a later BSS covers", edit: func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead | pfWrite, Off: 0x800, Vaddr: smallBase + 0x4800, Filesz: 0x100, Memsz: 0x100})
		r.progs[1], r.progs[3] = r.progs[3], r.progs[1]
	}},
	{name: "segments that share a page", edit: func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead | pfExec | pfWrite, Off: 0x800, Vaddr: smallBase + 0x800, Filesz: 0x100, Memsz: 0x100})
	}},
	{name: "the same segment twice", edit: func(r *recipe) { r.progs = append(r.progs, r.progs[1]) }},
	{name: "BSS that the next segment covers", edit: func(r *recipe) {
		r.progs[0].Flags |= pfWrite
		r.progs[0].Memsz = 0x8000
	}},
	{name: "unknown program headers", edit: func(r *recipe) {
		for _, kind := range []uint32{0, 2, 4, 5, 6, 7, 99, 0x6474e550, 0x6474e552, 0x65a3dbe6, 0x6fffffff} {
			r.progs = append(r.progs, elf.Prog64{Type: kind, Off: ^uint64(0), Vaddr: 1 << 63, Filesz: ^uint64(0), Memsz: 5, Align: 77})
		}
	}},
	{name: "1000 program headers", edit: func(r *recipe) {
		r.Phoff, r.size = 0x2000, 0x2000+1003*segmentSize
		r.progs = append(r.progs, make([]elf.Prog64, 1000)...)
	}},
	{name: "program headers in no segment", edit: func(r *recipe) { r.Phoff = uint64(r.size); r.size += 3 * segmentSize }},
	{name: "misaligned program headers", edit: func(r *recipe) { r.Phoff = 0x101 }},
	{name: "large memory that is never touched", edit: func(r *recipe) {
		r.progs = append(r.progs, elf.Prog64{Type: ptLoad, Flags: pfRead | pfWrite, Vaddr: 1 << 32, Memsz: 16 << 20})
	}},
	{name: "program headers in the header", edit: func(r *recipe) {
		// The first program header begins at e_phentsize: 56, 1 segment, which make its type and
		// flags, PT_LOAD and RX. Only Linux's few fields of the header are left as they are.
		r.progs = []elf.Prog64{{Type: 0x00000001, Flags: 0x00000007, Vaddr: smallBase, Filesz: dataAt + 0x100, Memsz: dataAt + 0x100, Align: 4096}}
		r.Phoff, r.Phnum = 56, 1
		r.Entry = smallBase + textAt
		r.patch[textAt] = "\xbf\x07\x00\x00\x00\xb8\xe7\x00\x00\x00\x0f\x05"
	}},
}

// onHost runs a file on the Linux beneath the test; ok is false when there is none that can.
func onHost(t *testing.T, file []byte) (ran, ok bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, file, 0o755); err != nil {
		return false, false
	}
	err := exec.Command(path).Run()
	if err == nil {
		return false, true
	}
	var e *exec.ExitError
	return errors.As(err, &e) && e.ExitCode() == status, true
}

func TestBroken(t *testing.T) {
	if len(broken) < 60 {
		t.Errorf("only %d broken files", len(broken))
	}
	for _, c := range broken {
		t.Run(c.name, func(t *testing.T) {
			file := c.build()
			w := newWorld(t)
			w.add("prog", file)
			as := w.space()
			im, err := w.load(as, "prog")
			w.end(as, im)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("it is loaded: %+v, %v", im, err)
			}
			checkSentence(t, e)
			if !strings.Contains(e.Error(), c.want) || e.Errno != c.errno || !errors.Is(err, c.errno) {
				t.Errorf("%v (%v)\nwant …%s… (%v)", e, e.Errno, c.want, c.errno)
			}
			if status := map[bool]int{false: StatusNotExecutable, true: StatusFailed}[e.Errno == unix.ENOMEM]; e.Status != status {
				t.Errorf("status %d", e.Status)
			}
			if ran, ok := onHost(t, file); ok && ran != c.linux {
				t.Errorf("Linux runs it: %t", ran)
			}
		})
	}
}

// checkSentence checks that an Error is one line that begins with the program's name.
func checkSentence(t *testing.T, e *Error) {
	t.Helper()
	if s := e.Error(); !strings.HasPrefix(s, "prog: ") || strings.ContainsAny(s, "\n\x00") || len(s) > 400 {
		t.Errorf("not a sentence: %q", s)
	}
}

func TestOdd(t *testing.T) {
	for _, c := range odd {
		t.Run(c.name, func(t *testing.T) {
			file := c.build()
			w := newWorld(t)
			w.add("prog", file)
			as := w.space()
			im, err := w.load(as, "prog")
			if err != nil {
				t.Error(err)
			} else {
				checkImage(t, as, im, file)
			}
			w.end(as, im)
			if ran, ok := onHost(t, file); ok && !ran {
				t.Error("Linux doesn't run it")
			}
		})
	}
}
