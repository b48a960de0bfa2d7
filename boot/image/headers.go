package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// The boot page, which is file offset 0. All of it is below 8 KiB, where multiboot loaders look.
// Offset 0x202 stays zero: "HdrS" there would make QEMU take the image for Linux.
const (
	phdrOffset      = 0x40
	phdrLimit       = 0x200
	noteOffset      = 0x280
	multibootOffset = 0x2c0
	gdtOffset       = 0x300
	gdtrOffset      = 0x320
	stubOffset      = 0x340
)

// Multiboot Specification 0.6.96, 3.1.
const (
	multibootHeaderMagic = 0x1badb002
	multibootPageAlign   = 1 << 0 // modules begin on pages
	multibootMemoryInfo  = 1 << 1
	multibootAddresses   = 1 << 16 // the address fields are valid; ELF64 needs them (GRUB, QEMU)
	multibootFlags       = multibootPageAlign | multibootMemoryInfo | multibootAddresses
)

// Xen's public/elfnote.h: the 32-bit physical entry of a PVH kernel.
const xenNotePhys32Entry = 18

// page returns the boot page without its ELF header, which needs the sections' place.
func (s *stub) page(l *layout) []byte {
	page := make([]byte, pageSize)
	le := binary.LittleEndian

	// QEMU reads the descriptor as 8 bytes, others as 4.
	note := page[noteOffset:noteOffset]
	note = le.AppendUint32(note, 4)
	note = le.AppendUint32(note, 8)
	note = le.AppendUint32(note, xenNotePhys32Entry)
	note = append(note, "Xen\x00"...)
	le.AppendUint64(note, uint64(s.pvhEntry))

	header := page[multibootOffset:multibootOffset]
	for _, v := range []uint32{
		multibootHeaderMagic,
		multibootFlags,
		1<<32 - (multibootHeaderMagic + multibootFlags), // checksum
		uint32(l.start + multibootOffset),               // header_addr
		uint32(l.start),                                 // load_addr
		uint32(l.loadEnd),                               // load_end_addr
		uint32(l.scratchEnd),                            // bss_end_addr
		s.multibootEntry,
	} {
		header = le.AppendUint32(header, v)
	}

	// Accessed bits are set, so that the processor never writes to this page.
	for i, descriptor := range []uint64{
		0,
		0x00af9b000000ffff, // 0x08: 64-bit code
		0x00cf93000000ffff, // 0x10: data
	} {
		le.PutUint64(page[gdtOffset+8*i:], descriptor)
	}
	// One limit and an 8-byte base serve LGDT in both modes.
	le.PutUint16(page[gdtrOffset:], 3*8-1)
	le.PutUint64(page[gdtrOffset+2:], l.start+gdtOffset)
	le.PutUint16(page[gdtrOffset+0x10:], 3*8-1)
	le.PutUint64(page[gdtrOffset+0x12:], KernelBase+l.start+gdtOffset)

	copy(page[stubOffset:], s.code)
	return page
}

// appendHeaders appends the section headers to the image and fills in its ELF header and program
// headers.
func appendHeaders(out []byte, l *layout, sections []elf.Section64, names uint16) []byte {
	loads := []struct {
		span
		flags elf.ProgFlag
	}{
		{span{l.text.start, l.text.start + pageSize}, elf.PF_R | elf.PF_X},
		{span{l.text.start + pageSize, l.text.end}, elf.PF_R | elf.PF_X},
		{l.rodata, elf.PF_R},
		{l.data, elf.PF_R | elf.PF_W},
	}
	// Loaders that look for the PVH note keep what the last PT_NOTE says: there must be only one.
	progs := []elf.Prog64{{
		Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Align: 4,
		Off: noteOffset, Vaddr: l.text.start + noteOffset, Paddr: l.start + noteOffset,
		Filesz: 24, Memsz: 24,
	}}
	for _, load := range loads {
		size := load.end - load.start
		if size == 0 {
			continue
		}
		progs = append(progs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(load.flags), Align: pageSize,
			Off: load.start - l.text.start, Vaddr: load.start, Paddr: load.start - KernelBase,
			Filesz: size, Memsz: size,
		})
	}
	// Scratch is known by its physical address only: its upper-half alias would be in the Go BSS.
	progs = append(progs, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Align: pageSize,
		Off: l.loadEnd - l.start, Vaddr: l.loadEnd, Paddr: l.loadEnd, Memsz: l.scratchEnd - l.loadEnd,
	})

	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: l.start + stubOffset, Phoff: phdrOffset, Shoff: uint64(len(out)),
		Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)),
		Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: names,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)

	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) } // a Buffer's Write cannot fail
	put(header)
	put(progs)
	if b.Len() > phdrLimit {
		panic("image: the program headers reach into the area after them")
	}
	copy(out, b.Bytes())
	b.Reset()
	put(sections)
	return append(out, b.Bytes()...)
}
