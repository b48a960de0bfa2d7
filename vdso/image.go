package vdso

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
)

const (
	soname  = "linux-vdso.so.1"
	version = "LINUX_2.6"
)

// Image returns the shared object, one page long. Callers only read it.
var Image = sync.OnceValue(build)

// The image's sections, in the order in which they lie in it and in the section table, which starts
// with the null section. There is no symbol table but the dynamic one.
const (
	hashSection = iota + 1
	dynsymSection
	dynstrSection
	versymSection
	verdefSection
	dynamicSection
	unwindHeaderSection
	unwindSection
	textSection
	shstrtabSection
	sections
)

// Sizes of the structures of an ELF64 file, in bytes.
const (
	headerSize        = 64
	segmentSize       = 56
	sectionHeaderSize = 64
	symbolSize        = 24
	dynamicSize       = 16
)

// Values of the gABI (chapters 4 and 5) and of the LSB (Core, "Symbol Versioning").
const (
	shtProgbits = 1
	shtStrtab   = 3
	shtHash     = 5
	shtDynamic  = 6
	shtDynsym   = 11
	shtVerdef   = 0x6ffffffd
	shtVersym   = 0x6fffffff

	shfAlloc = 2
	shfExec  = 4

	ptLoad       = 1
	ptDynamic    = 2
	ptGNUEHFrame = 0x6474e550

	pfExec = 1
	pfRead = 4

	dtHash      = 4
	dtStrtab    = 5
	dtSymtab    = 6
	dtStrsz     = 10
	dtSyment    = 11
	dtSoname    = 14
	dtVersym    = 0x6ffffff0
	dtVerdef    = 0x6ffffffc
	dtVerdefnum = 0x6ffffffd

	bindGlobal   = 1
	bindWeak     = 2
	typeFunction = 2

	etDyn      = 3
	emX86_64   = 62
	versionELF = 1
)

// section is a row of the section table, and what lies in the image for it.
type section struct {
	name        string
	kind, flags uint32
	link, info  uint32
	align, item uint64 // alignment and size of an entry, in bytes
	address     uint64 // in the file, and in memory unless it isn't loaded
	data        record
}

func layout() []section {
	return []section{
		{},
		hashSection:         {name: ".hash", kind: shtHash, flags: shfAlloc, link: dynsymSection, align: 8, item: 4},
		dynsymSection:       {name: ".dynsym", kind: shtDynsym, flags: shfAlloc, link: dynstrSection, info: 1, align: 8, item: symbolSize},
		dynstrSection:       {name: ".dynstr", kind: shtStrtab, flags: shfAlloc, align: 1},
		versymSection:       {name: ".gnu.version", kind: shtVersym, flags: shfAlloc, link: dynsymSection, align: 2, item: 2},
		verdefSection:       {name: ".gnu.version_d", kind: shtVerdef, flags: shfAlloc, link: dynstrSection, info: 2, align: 8},
		dynamicSection:      {name: ".dynamic", kind: shtDynamic, flags: shfAlloc, link: dynstrSection, align: 8, item: dynamicSize},
		unwindHeaderSection: {name: ".eh_frame_hdr", kind: shtProgbits, flags: shfAlloc, align: 4},
		unwindSection:       {name: ".eh_frame", kind: shtProgbits, flags: shfAlloc, align: 8},
		textSection:         {name: ".text", kind: shtProgbits, flags: shfAlloc | shfExec, align: 16},
		shstrtabSection:     {name: ".shstrtab", kind: shtStrtab, align: 1},
	}
}

func build() []byte {
	parts := layout()
	var names stringTable
	offsets := make([]uint32, sections)
	for i := range parts {
		offsets[i] = names.add(parts[i].name)
	}
	parts[shstrtabSection].data = names.bytes

	// Sizes don't depend on addresses: fill the sections to place them, and again with their places.
	text, bodies := assemble()
	fill(parts, text, bodies)
	const segments = 3
	end := uint64(headerSize + segments*segmentSize)
	for i := 1; i < sections; i++ {
		end = alignUp(end, parts[i].align)
		parts[i].address = end
		end += uint64(len(parts[i].data))
	}
	fill(parts, text, bodies)
	sectionTable := alignUp(end, 8)

	image := make([]byte, PageSize)
	var headers, table record
	headers.text("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 64 bits, little endian, System V
	headers.u16(etDyn, emX86_64)
	headers.u32(versionELF)
	headers.u64(parts[textSection].address, headerSize, sectionTable)
	headers.u32(0)
	headers.u16(headerSize, segmentSize, segments, sectionHeaderSize, sections, shstrtabSection)
	headers.u32(ptLoad, pfRead|pfExec)
	headers.u64(0, 0, 0, PageSize, PageSize, PageSize)
	headers.segment(ptDynamic, &parts[dynamicSection])
	headers.segment(ptGNUEHFrame, &parts[unwindHeaderSection])
	copy(image, headers)
	for i := range parts {
		p := &parts[i]
		table.u32(offsets[i], p.kind)
		memory := p.address
		if p.flags&shfAlloc == 0 {
			memory = 0
		}
		table.u64(uint64(p.flags), memory, p.address, uint64(len(p.data)))
		table.u32(p.link, p.info)
		table.u64(p.align, p.item)
		copy(image[p.address:], p.data)
	}
	if end := sectionTable + uint64(len(table)); end > PageSize {
		panic(fmt.Sprintf("vdso: the image has %d bytes, more than a page", end))
	}
	copy(image[sectionTable:], table)
	return image
}

// body is where in the code a function lies.
type body struct{ start, size int }

// assemble returns the code of the functions.
func assemble() (*assembler, []body) {
	text := newAssembler()
	bodies := make([]body, len(functions))
	for i, f := range functions {
		text.align()
		start := len(text.code)
		f.emit(text)
		bodies[i] = body{start, len(text.code) - start}
	}
	return text, bodies
}

// fill makes the contents of the sections from the addresses that they have so far.
func fill(parts []section, text *assembler, bodies []body) {
	var strings stringTable
	var symbols, versions record
	const ownVersion, functionVersion = 1, 2
	names := []string{""}
	symbols.u64(0, 0, 0)
	versions.u16(0)
	for i, f := range functions {
		symbol := func(name string, bind byte) {
			names = append(names, name)
			symbols.u32(strings.add(name))
			symbols.u8(bind<<4|typeFunction, 0)
			symbols.u16(textSection)
			symbols.u64(parts[textSection].address+uint64(bodies[i].start), uint64(bodies[i].size))
			versions.u16(functionVersion)
		}
		symbol("__vdso_"+f.name, bindGlobal)
		symbol(f.name, bindWeak)
	}
	parts[textSection].data = text.finish(int(parts[textSection].address))
	parts[dynsymSection].data = symbols
	parts[versymSection].data = versions
	parts[hashSection].data = hashTable(names)

	// A Verdef of 20 bytes and its only Verdaux of 8, twice; the first is the object's own (flag 1).
	var definitions record
	definitions.u16(1, 1, ownVersion, 1)
	definitions.u32(symbolHash(soname), 20, 28, strings.add(soname), 0)
	definitions.u16(1, 0, functionVersion, 1)
	definitions.u32(symbolHash(version), 20, 0, strings.add(version), 0)
	parts[verdefSection].data = definitions
	parts[dynstrSection].data = strings.bytes

	var dynamic record
	dynamic.u64(dtSoname, uint64(strings.add(soname)))
	dynamic.u64(dtHash, parts[hashSection].address)
	dynamic.u64(dtStrtab, parts[dynstrSection].address)
	dynamic.u64(dtSymtab, parts[dynsymSection].address)
	dynamic.u64(dtStrsz, uint64(len(strings.bytes)))
	dynamic.u64(dtSyment, symbolSize)
	dynamic.u64(dtVersym, parts[versymSection].address)
	dynamic.u64(dtVerdef, parts[verdefSection].address)
	dynamic.u64(dtVerdefnum, 2)
	dynamic.u64(0, 0)
	parts[dynamicSection].data = dynamic

	fillUnwind(parts)
}

// fillUnwind tells debuggers and unwinders that everywhere in .text the return address is on top of
// the stack (LSB Core, "Exception Frames").
func fillUnwind(parts []section) {
	const (
		pcRelative   = 0x1b // DW_EH_PE_pcrel|sdata4
		dataRelative = 0x3b
		unsigned     = 0x03
		cieSize      = 24
		fdeSize      = 20
	)
	unwind, header := parts[unwindSection].address, parts[unwindHeaderSection].address
	text := parts[textSection].address
	var u, h record
	u.u32(cieSize-4, 0)
	u.u8(1)
	u.text("zR\x00")
	u.u8(1, 0x78, 16, 1, pcRelative) // code alignment 1, data alignment -8, RIP is column 16
	u.u8(0x0c, 7, 8)                 // DW_CFA_def_cfa RSP, 8
	u.u8(0x90, 1, 0, 0)              // DW_CFA_offset RIP, 1; padding
	u.u32(fdeSize-4, cieSize+4, uint32(text-(unwind+cieSize+8)), uint32(len(parts[textSection].data)), 0)
	u.u32(0)
	parts[unwindSection].data = u
	h.u8(1, pcRelative, unsigned, dataRelative)
	h.u32(uint32(unwind-(header+4)), 1, uint32(text-header), uint32(unwind+cieSize-header))
	parts[unwindHeaderSection].data = h
}

// hashTable makes the DT_HASH table of the symbols.
func hashTable(names []string) record {
	const buckets = 7
	table := make([]uint32, 2+buckets+len(names))
	table[0], table[1] = buckets, uint32(len(names))
	chains := table[2+buckets:]
	for i := 1; i < len(names); i++ {
		head := &table[2+symbolHash(names[i])%buckets]
		chains[i], *head = *head, uint32(i)
	}
	var r record
	r.u32(table...)
	return r
}

// symbolHash is the hash function of the gABI (figure 5-13).
func symbolHash(name string) uint32 {
	h := uint32(0)
	for i := range len(name) {
		h = h<<4 + uint32(name[i])
		high := h & 0xf0000000
		h = (h ^ high>>24) &^ high
	}
	return h
}

// stringTable is a string table under construction.
type stringTable struct{ bytes record }

// add returns the offset of s, which it enters if it isn't there. A string may be the end of another.
func (t *stringTable) add(s string) uint32 {
	if len(t.bytes) == 0 {
		t.bytes = record{0}
	}
	if i := strings.Index(string(t.bytes), s+"\x00"); i >= 0 {
		return uint32(i)
	}
	at := len(t.bytes)
	t.bytes.text(s)
	t.bytes.u8(0)
	return uint32(at)
}

// record is a structure of little-endian numbers under construction.
type record []byte

func (r *record) text(s string) { *r = append(*r, s...) }

func (r *record) u8(values ...byte) { *r = append(*r, values...) }

func (r *record) u16(values ...uint16) {
	for _, v := range values {
		*r = binary.LittleEndian.AppendUint16(*r, v)
	}
}

func (r *record) u32(values ...uint32) {
	for _, v := range values {
		*r = binary.LittleEndian.AppendUint32(*r, v)
	}
}

func (r *record) u64(values ...uint64) {
	for _, v := range values {
		*r = binary.LittleEndian.AppendUint64(*r, v)
	}
}

// segment adds a program header of an unwritable segment that consists of s.
func (r *record) segment(kind uint32, s *section) {
	r.u32(kind, pfRead)
	r.u64(s.address, s.address, s.address, uint64(len(s.data)), uint64(len(s.data)), s.align)
}

func alignUp(v, align uint64) uint64 { return (v + align - 1) &^ (align - 1) }
