package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"
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
