package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

var le = binary.LittleEndian

// A made-up linked kernel, as the Go linker lays it out: text (with the ELF header page), read-only
// data, data, BSS.
const (
	testText   = KernelBase + 0x1ff000
	testRodata = testText + 0x2000
	testData   = testRodata + 0x1000
	testBSS    = 0x123450
	testTable  = testData + 0x40
)

// A linked is what the made-up kernel is made of.
type linked struct {
	code   []byte
	entry  string // name of the symbol at the beginning of code
	more   []elf.Sym64
	names  string // of more, each with its NUL, referred to from offset moreNames on
	noSyms bool
}

const moreNames = 0x100

// bytes lays the kernel out: ELF header, program headers, code at 0x1000, rodata at 0x2000, data
// at 0x3000, then section names, strings, symbols and section headers.
func (k linked) bytes(t *testing.T) []byte {
	t.Helper()
	if k.entry == "" {
		k.entry = entrySymbol + abi0Suffix
	}
	file := make([]byte, 0x3000+0x200)
	if copy(file[0x1000:0x2000], k.code) != len(k.code) {
		t.Fatal("code is longer than a page")
	}
	for i := range 0x40 {
		file[0x2000+i] = 'r'
	}
	for i := range 0x200 {
		file[0x3000+i] = 'd'
	}
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, le, v); err != nil {
			t.Fatal(err)
		}
	}

	names := "\x00.text\x00.rodata\x00.data\x00.bss\x00.symtab\x00.strtab\x00.shstrtab\x00"
	name := func(n string) uint32 { return uint32(strings.Index(names, "\x00"+n+"\x00") + 1) }
	strtab := make([]byte, moreNames)
	copy(strtab[1:], k.entry)
	copy(strtab[0x80:], tableSymbol)
	strtab = append(strtab, k.names...)

	symbols := []elf.Sym64{
		{},
		{Name: 1, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 1, Value: testText + 0x1000, Size: uint64(len(k.code))},
		{Name: 0x80, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT), Shndx: 3, Value: testTable, Size: 128},
	}
	symbols = append(symbols, k.more...)

	at := uint64(len(file))
	put([]byte(names))
	strtabAt := at + uint64(b.Len())
	put(strtab)
	put(make([]byte, -(int(at)+b.Len())&7))
	symtabAt := at + uint64(b.Len())
	put(symbols)
	sectionsAt := at + uint64(b.Len())
	alloc := func(n string, kind elf.SectionType, flags elf.SectionFlag, addr, off, size uint64) elf.Section64 {
		return elf.Section64{Name: name(n), Type: uint32(kind), Flags: uint64(flags | elf.SHF_ALLOC), Addr: addr, Off: off, Size: size, Addralign: 16}
	}
	sections := []elf.Section64{
		{},
		alloc(".text", elf.SHT_PROGBITS, elf.SHF_EXECINSTR, testText+0x1000, 0x1000, uint64(len(k.code))),
		alloc(".rodata", elf.SHT_PROGBITS, 0, testRodata, 0x2000, 0x40),
		alloc(".data", elf.SHT_PROGBITS, elf.SHF_WRITE, testData, 0x3000, 0x200),
		alloc(".bss", elf.SHT_NOBITS, elf.SHF_WRITE, testData+0x200, 0x3200, testBSS-0x200),
		{Name: name(".strtab"), Type: uint32(elf.SHT_STRTAB), Off: strtabAt, Size: uint64(len(strtab)), Addralign: 1},
		{Name: name(".shstrtab"), Type: uint32(elf.SHT_STRTAB), Off: at, Size: uint64(len(names)), Addralign: 1},
		{Name: name(".symtab"), Type: uint32(elf.SHT_SYMTAB), Off: symtabAt, Size: uint64(24 * len(symbols)), Link: 5, Info: 1, Addralign: 8, Entsize: 24},
	}
	if k.noSyms {
		sections = sections[:7]
	}
	put(sections)
	file = append(file, b.Bytes()...)

	b.Reset()
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: testText + 0x1000,
		Phoff: 64, Shoff: sectionsAt, Ehsize: 64, Phentsize: 56, Phnum: 3, Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 6,
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	put(header)
	load := func(flags elf.ProgFlag, off, addr, filesz, memsz uint64) {
		put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Off: off, Vaddr: addr, Paddr: addr, Filesz: filesz, Memsz: memsz, Align: pageSize})
	}
	load(elf.PF_R|elf.PF_X, 0, testText, 0x1000+uint64(len(k.code)), 0x1000+uint64(len(k.code)))
	load(elf.PF_R, 0x2000, testRodata, 0x40, 0x40)
	load(elf.PF_R|elf.PF_W, 0x3000, testData, 0x200, testBSS)
	copy(file, b.Bytes())
	return file
}

func write(t *testing.T, k linked, opts Options) []byte {
	t.Helper()
	out, err := Write(k.bytes(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// someCode is a function with nothing to find fault with: ret.
var someCode = []byte{0xc3}

func TestHeaders(t *testing.T) {
	out := write(t, linked{code: someCode}, Options{})
	const (
		start   = 0x1fe000
		loadEnd = testData - KernelBase + pageSize
		bssEnd  = loadEnd + 11*pageSize
	)
	at := func(offset int, bits int) uint64 {
		b := out[offset:]
		switch bits {
		case 16:
			return uint64(le.Uint16(b))
		case 32:
			return uint64(le.Uint32(b))
		}
		return le.Uint64(b)
	}
	for _, field := range []struct {
		name   string
		offset int
		bits   int
		want   uint64
	}{
		{"ELF magic", 0, 32, 0x464c457f},
		{"ELF class, data, version", 4, 32, 0x00010102},
		{"e_type", 16, 16, 2},
		{"e_machine", 18, 16, 62},
		{"e_version", 20, 32, 1},
		{"e_entry", 24, 64, start + stubOffset},
		{"e_phoff", 32, 64, 64},
		{"e_ehsize", 52, 16, 64},
		{"e_phentsize", 54, 16, 56},
		{"e_phnum", 56, 16, 6},
		{"e_shentsize", 58, 16, 64},

		{"multiboot magic", 0x2c0, 32, 0x1badb002},
		{"multiboot flags", 0x2c4, 32, 0x00010003},
		{"multiboot checksum", 0x2c8, 32, 0x100000000 - 0x1badb002 - 0x00010003},
		{"multiboot header_addr", 0x2cc, 32, start + 0x2c0},
		{"multiboot load_addr", 0x2d0, 32, start},
		{"multiboot load_end_addr", 0x2d4, 32, loadEnd},
		{"multiboot bss_end_addr", 0x2d8, 32, bssEnd},
		{"multiboot entry_addr", 0x2dc, 32, start + stubOffset},

		{"note name size", 0x280, 32, 4},
		{"note descriptor size", 0x284, 32, 8},
		{"note type", 0x288, 32, 18},
		{"note name", 0x28c, 32, 'X' | 'e'<<8 | 'n'<<16},
		{"PVH entry", 0x290, 64, start + stubOffset + 4},

		{"GDT null", 0x300, 64, 0},
		{"GDT code", 0x308, 64, 0x00af9b000000ffff},
		{"GDT data", 0x310, 64, 0x00cf93000000ffff},
		{"GDTR limit", 0x320, 16, 23},
		{"GDTR base", 0x322, 64, start + 0x300},
		{"GDTR limit, upper half", 0x330, 16, 23},
		{"GDTR base, upper half", 0x332, 64, KernelBase + start + 0x300},

		{"Linux's HdrS", 0x202, 32, 0},
		{"multiboot entry: cli; cld; jmp +7", 0x340, 32, 0x07ebfcfa},
		{"PVH entry: cli; cld; mov eax", 0x344, 32, 0x78b8fcfa},
	} {
		if got := at(field.offset, field.bits); got != field.want {
			t.Errorf("%s is %#x, want %#x", field.name, got, field.want)
		}
	}
	if n := bytes.Count(out[:8192], []byte{0x02, 0xb0, 0xad, 0x1b}); n != 1 {
		t.Errorf("%d multiboot headers in the first 8 KiB", n)
	}

	f, err := elf.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	type segment struct {
		kind                           elf.ProgType
		flags                          elf.ProgFlag
		off, vaddr, paddr, file, memsz uint64
	}
	want := []segment{
		{elf.PT_NOTE, elf.PF_R, 0x280, KernelBase + start + 0x280, start + 0x280, 24, 24},
		{elf.PT_LOAD, elf.PF_R | elf.PF_X, 0, KernelBase + start, start, 0x1000, 0x1000},
		{elf.PT_LOAD, elf.PF_R | elf.PF_X, 0x1000, testText, testText - KernelBase, 0x2000, 0x2000},
		{elf.PT_LOAD, elf.PF_R, 0x3000, testRodata, testRodata - KernelBase, 0x1000, 0x1000},
		{elf.PT_LOAD, elf.PF_R | elf.PF_W, 0x4000, testData, testData - KernelBase, 0x1000, 0x1000},
		{elf.PT_LOAD, elf.PF_R | elf.PF_W, 0x5000, loadEnd, loadEnd, 0, bssEnd - loadEnd},
	}
	for i, p := range f.Progs {
		got := segment{p.Type, p.Flags, p.Off, p.Vaddr, p.Paddr, p.Filesz, p.Memsz}
		if i >= len(want) || got != want[i] {
			t.Errorf("program header %d is %+v", i, got)
		}
	}
}

func TestContents(t *testing.T) {
	for _, strip := range []bool{false, true} {
		out := write(t, linked{code: someCode}, Options{Strip: strip})
		data := out[0x4000:]
		for i := range 16 {
			want := []uint64{
				testText - pageSize, testRodata, testRodata, testData, testData, testData + pageSize,
				testData + 0x124000, 0x1fe000, 0x203000, 0x20e000,
			}
			want = append(want, make([]uint64, 6)...)
			if got := le.Uint64(data[0x40+8*i:]); got != want[i] {
				t.Errorf("%s[%d] is %#x, want %#x", tableSymbol, i, got, want[i])
			}
		}
		if data[0x3f] != 'd' || data[0xc0] != 'd' || data[0x1ff] != 'd' {
			t.Error("the data around the table has changed")
		}
		if !bytes.Equal(data[0x200:0x1000], make([]byte, 0xe00)) {
			t.Error("the page in which the BSS begins isn't zero to its end")
		}

		f, err := elf.NewFile(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		text := f.Section(".text")
		if text == nil || text.Addr != testText+0x1000 || text.Offset != 0x2000 {
			t.Errorf(".text is %+v", text)
		}
		if b, err := f.Section(".rodata").Data(); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{'r'}, 0x40)) {
			t.Errorf(".rodata is %q, %v", b, err)
		}
		symbols, err := f.Symbols()
		if strip != (err != nil) || !strip && (len(symbols) != 2 || symbols[0].Value != testText+0x1000) {
			t.Errorf("strip %v: symbols %v, %v", strip, symbols, err)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	edit := func(f func(b []byte)) []byte {
		b := linked{code: someCode}.bytes(t)
		f(b)
		return b
	}
	put64 := func(offset int, v uint64) func([]byte) {
		return func(b []byte) { le.PutUint64(b[offset:], v) }
	}
	const phdrs = 64
	for _, test := range []struct {
		name string
		in   []byte
		want string
	}{
		{"empty", nil, "not a readable ELF"},
		{"32-bit machine", edit(func(b []byte) { b[18] = 3 }), "want a 64-bit x86-64 executable"},
		{"PIE", edit(func(b []byte) { b[16] = 3 }), "-buildmode=pie"},
		{"no symbols", linked{code: someCode, noSyms: true}.bytes(t), "no symbol table"},
		{"linked low", edit(put64(phdrs+16, 0x400000)), "outside the kernel's mapping"},
		{"linked where Linux is", edit(put64(phdrs+16, KernelBase)), "outside the kernel's mapping"},
		{"huge BSS", edit(put64(phdrs+2*56+40, 1<<31)), "outside the kernel's mapping"},
		{"overlap", edit(put64(phdrs+56+16, testText+0x1000)), "begins before the end"},
		{"writable text", edit(func(b []byte) { b[phdrs+4] = 7 }), "both writable and executable"},
		{"no data", edit(func(b []byte) { b[phdrs+2*56] = 0 }), "no data segment"},
		{"table in BSS", edit(func(b []byte) { clear(b[0x3040:0x30c0]) }), "initial value"},
		{"truncated", linked{code: someCode}.bytes(t)[:0x2800], "not a readable ELF"},
		{"entry", linked{code: someCode, entry: "main.main"}.bytes(t), ""},
		{"entry outside", func() []byte {
			b := linked{code: someCode, entry: "main.main"}.bytes(t)
			le.PutUint64(b[24:], testData)
			return b
		}(), "not in the text"},
	} {
		_, err := Write(test.in, Options{})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error is %v, want %q in it", test.name, err, test.want)
		}
	}
}

// The stub, decoded by another: every byte up to the text is an instruction, in 32-bit mode up to the
// far jump and in 64-bit mode after it.
func TestStub(t *testing.T) {
	out := write(t, linked{code: someCode}, Options{})
	code := out[stubOffset:pageSize]
	code = code[:bytes.Index(code, []byte(noLongModeText))]
	mode := 32
	var listing []string
	for pc := 0; pc < len(code); {
		in, err := x86asm.Decode(code[pc:], mode)
		if err != nil {
			t.Fatalf("%d-bit code at %#x: % x: %v", mode, pc, code[pc:], err)
		}
		listing = append(listing, strings.ToLower(x86asm.GNUSyntax(in, uint64(0x1fe000+stubOffset+pc), nil)))
		pc += in.Len
		if in.Op == x86asm.LJMP {
			mode = 64
		}
	}
	// What matters most, in this order.
	want := []string{
		"cli", "cld", "jmp 0x1fe34b", "cli", "cld", "mov $0x336ec578,%eax", "mov %ebx,%ebp", "mov %eax,%esi",
		"cpuid", "cmp $0x80000001,%eax", "cpuid", "test $0x20000000,%edx", "hlt",
		"mov $0x203000,%edi", "mov $0x2c00,%ecx", "rep stos %eax,%es:(%edi)",
		"mov $0x206000,%edi", "mov $0x83,%eax", "mov $0x800,%ecx", "add $0x200000,%eax",
		"movl $0x204003,0x203000", "movl $0x204003,0x203800", "movl $0x205003,0x203ff8",
		"movl $0x206003,0x204000", "movl $0x207003,0x204008", "movl $0x208003,0x204010", "movl $0x209003,0x204018",
		"movl $0x206003,0x205ff0",
		"or $0x6a0,%eax", "mov %eax,%cr4", "mov $0x203000,%eax", "mov %eax,%cr3",
		"mov $0xc0000080,%ecx", "rdmsr", "or $0x101,%eax", "or $0x800,%eax", "wrmsr",
		"lgdtl 0x1fe320", "mov $0x80010033,%eax", "mov %eax,%cr0", "ljmp",
		"mov $-0x7fe01cd0,%rax", "lgdtl (%rax)", "mov $-0x7fffffdf2000,%rsp", // in the upper half
		"mov %esi,%edi", "mov %ebp,%esi", "mov $0x1fe000,%edx", "mov $0x20e000,%ecx", "mov $0x203000,%r8d",
		"mov $-0x7fe00000,%rax", "jmp *%rax",
	}
	i := 0
	for _, line := range listing {
		if i < len(want) && strings.HasPrefix(line, want[i]) {
			i++
		}
	}
	if i < len(want) {
		t.Fatalf("%q is not where it should be in\n%s", want[i], strings.Join(listing, "\n"))
	}
	if last := listing[len(listing)-1]; mode != 64 || last != want[len(want)-1] {
		t.Errorf("the stub ends in %q in %d-bit mode", last, mode)
	}
}
