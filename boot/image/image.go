// Package image turns the ELF file that the Go linker made into an image that machines boot.
//
// The input is linked with -ldflags "-T -0x7fe00000": the upper-half address of every byte is
// KernelBase plus its physical address, and the segments lie in the file as they will lie in memory.
// Write puts one page in front (ELF and multiboot headers, PVH note, 32-bit entry stub, GDT), so
// that the first part of the output is flat: file offset plus a constant is the physical address.
// After the loaded bytes come, in memory only, the boot page tables and the boot stack ("scratch"),
// and in the file only, the symbols. See stub.go for what the kernel's entry finds in its registers.
//
// Write also changes the code: accesses to the runtime's thread-local g move from FS to GS, which
// leaves FS to programs, and a SYSCALL that the freestanding runtime forgot is refused (code.go).
package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// KernelBase is the virtual address at which physical address 0 of the image's mapping is.
	KernelBase = 0xffffffff80000000
	// DirectMap is the virtual address of the direct map of physical memory.
	DirectMap = 0xffff800000000000

	pageSize = 0x1000

	// The kernel mapping made by the stub is 1 GiB long.
	kernelMapBytes = 1 << 30
)

// Symbols of the linked input that Write looks for.
const (
	entrySymbol = "runtime.elverEntry" // the 64-bit entry; without it, the ELF entry point
	tableSymbol = "runtime.elverImage" // [16]uint64 of initialised data; see imageTable

	abi0Suffix = ".abi0"
)

// Options selects what Write does beyond the necessary. The zero value is the usual image.
type Options struct {
	// Strip leaves out everything that isn't loaded: symbols and debug information.
	Strip bool
	// AllowFS names functions (without the linker's .abi0) that may use the FS segment as they like; they aren't
	// patched.
	AllowFS []string
	// AllowSyscall names functions that may hold SYSCALL, SYSENTER or INT 0x80.
	AllowSyscall []string
}

// span is a range of addresses, end excluded.
type span struct{ start, end uint64 }

// layout is where everything of an image goes.
type layout struct {
	text, rodata, data span // virtual, page aligned; text begins with the boot page
	bssEnd             uint64
	start              uint64 // physical address of the boot page, which is file offset 0
	loadEnd            uint64 // physical end of the loaded bytes, page aligned
	scratchEnd         uint64
	entry              uint64 // 64-bit entry, virtual
}

// Write returns the bootable image made from the linked ELF file in.
// Its errors are sentences that say what is wrong with the input.
func Write(in []byte, opts Options) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("the linked kernel is not a readable ELF file: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("the linked kernel is %v %v %v, want a 64-bit x86-64 executable (GOARCH=amd64, not -buildmode=pie)", f.Class, f.Machine, f.Type)
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("the linked kernel has no symbol table (%w): link without -s, the image writer strips", err)
	}
	l, err := planLayout(f, symbols)
	if err != nil {
		return nil, err
	}

	loaded := make([]byte, l.loadEnd-l.start)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if _, err := p.ReadAt(loaded[p.Vaddr-KernelBase-l.start:][:p.Filesz], 0); err != nil {
			return nil, fmt.Errorf("the linked kernel is truncated: segment at %#x: %w", p.Vaddr, err)
		}
	}
	if err := fixCode(f, symbols, loaded, KernelBase+l.start, opts); err != nil {
		return nil, err
	}
	if err := l.writeTable(symbols, loaded); err != nil {
		return nil, err
	}
	s := newStub(l)
	copy(loaded, s.page(l))

	out, sections, names, err := appendSections(loaded, in, f, l, opts)
	if err != nil {
		return nil, err
	}
	return appendHeaders(out, l, sections, names), nil
}

// planLayout computes where things go and checks that the input has the shape that is assumed.
func planLayout(f *elf.File, symbols []elf.Symbol) (*layout, error) {
	l := &layout{}
	var last uint64
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if p.Vaddr%pageSize != 0 || p.Vaddr < KernelBase+0x100000+pageSize ||
			p.Memsz > kernelMapBytes || p.Vaddr-KernelBase+p.Memsz > kernelMapBytes || p.Filesz > p.Memsz {
			return nil, fmt.Errorf("segment %#x+%#x is outside the kernel's mapping: link with -ldflags \"-T -0x7fe00000\"", p.Vaddr, p.Memsz)
		}
		if p.Vaddr < last {
			return nil, fmt.Errorf("segment %#x begins before the end of the one before it", p.Vaddr)
		}
		if l.bssEnd != 0 {
			return nil, fmt.Errorf("segment %#x follows the one that holds the BSS", p.Vaddr)
		}
		last = roundUp(p.Vaddr + p.Memsz)
		var s *span
		switch p.Flags & (elf.PF_W | elf.PF_X) {
		case elf.PF_X:
			s = &l.text
		case 0:
			s = &l.rodata
		case elf.PF_W:
			s = &l.data
		default:
			return nil, fmt.Errorf("segment %#x is both writable and executable", p.Vaddr)
		}
		end := roundUp(p.Vaddr + p.Filesz)
		if s.end == 0 {
			s.start = p.Vaddr
		} else if s.end != p.Vaddr {
			return nil, fmt.Errorf("segments of the same rights are not neighbours: one ends at %#x, the next begins at %#x", s.end, p.Vaddr)
		}
		s.end = end
		if p.Flags&elf.PF_W != 0 && p.Memsz > p.Filesz {
			l.bssEnd = last
		} else if p.Memsz != p.Filesz {
			return nil, fmt.Errorf("segment %#x is read-only and has zero bytes after its file data", p.Vaddr)
		}
	}
	switch {
	case l.text.end == 0 || l.data.end == 0:
		return nil, errors.New("the linked kernel has no text or no data segment")
	case l.rodata.end == 0:
		l.rodata = span{l.text.end, l.text.end}
	}
	if l.text.start > l.rodata.start || l.rodata.end > l.data.start {
		return nil, errors.New("the segments are not in the order text, read-only data, data")
	}
	if l.bssEnd == 0 {
		l.bssEnd = l.data.end
	}
	l.text.start -= pageSize // the boot page
	l.start = l.text.start - KernelBase
	l.loadEnd = l.data.end - KernelBase
	l.scratchEnd = l.loadEnd + scratchBytes

	l.entry = f.Entry
	if entry := findSymbol(symbols, entrySymbol, elf.STT_FUNC); entry != nil {
		l.entry = entry.Value
	}
	if l.entry < l.text.start || l.entry >= l.text.end {
		return nil, fmt.Errorf("the entry point %#x is not in the text", l.entry)
	}
	return l, nil
}

func roundUp(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// findSymbol returns the symbol of that name and type, nil if there is none. The linker appends
// ".abi0" to assembly functions; a plain name beside it is the wrapper for calls from Go.
func findSymbol(symbols []elf.Symbol, name string, t elf.SymType) *elf.Symbol {
	for _, n := range []string{name + abi0Suffix, name} {
		for i, s := range symbols {
			if s.Name == n && elf.ST_TYPE(s.Info) == t && s.Section != elf.SHN_UNDEF {
				return &symbols[i]
			}
		}
	}
	return nil
}

// imageTable is what runtime.elverImage gets.
func (l *layout) imageTable() [16]uint64 {
	return [16]uint64{
		l.text.start, l.text.end,
		l.rodata.start, l.rodata.end,
		l.data.start, l.data.end,
		l.bssEnd,
		l.start,
		l.loadEnd, l.scratchEnd,
	}
}

func (l *layout) writeTable(symbols []elf.Symbol, loaded []byte) error {
	s := findSymbol(symbols, tableSymbol, elf.STT_OBJECT)
	if s == nil {
		return nil
	}
	table := l.imageTable()
	if s.Size != uint64(binary.Size(table)) {
		return fmt.Errorf("%s is %d bytes long, want %d (16 uint64)", tableSymbol, s.Size, binary.Size(table))
	}
	if s.Value < l.data.start || s.Value+s.Size > l.data.end {
		return fmt.Errorf("%s at %#x is not in initialised data: give it an initial value that isn't zero", tableSymbol, s.Value)
	}
	at := loaded[s.Value-l.text.start:]
	if bytes.Equal(at[:s.Size], make([]byte, s.Size)) {
		// The last page of the data ends in BSS, which is zero: writing there would be lost on a
		// kernel that clears its BSS.
		return fmt.Errorf("%s is in the BSS or has no value yet: give it an initial value that isn't zero", tableSymbol)
	}
	for i, v := range table {
		binary.LittleEndian.PutUint64(at[8*i:], v)
	}
	return nil
}

// appendSections appends what isn't loaded to the flat part and returns the file, its section
// headers and the index of the section names.
func appendSections(out, in []byte, f *elf.File, l *layout, opts Options) ([]byte, []elf.Section64, uint16, error) {
	var eh elf.Header64
	if err := binary.Read(bytes.NewReader(in), binary.LittleEndian, &eh); err != nil {
		return nil, nil, 0, err
	}
	var sections []elf.Section64
	shstrndx := uint16(0)
	for i := range int(eh.Shnum) {
		var sh elf.Section64
		at := eh.Shoff + uint64(i)*uint64(eh.Shentsize)
		if err := binary.Read(bytes.NewReader(in[at:]), binary.LittleEndian, &sh); err != nil {
			return nil, nil, 0, err
		}
		switch {
		case elf.SectionType(sh.Type) == elf.SHT_NULL:
		case elf.SectionFlag(sh.Flags)&elf.SHF_ALLOC != 0:
			sh.Off = l.data.end - l.text.start
			if elf.SectionType(sh.Type) != elf.SHT_NOBITS {
				sh.Off = sh.Addr - l.text.start
			}
		case opts.Strip && i != int(eh.Shstrndx):
			continue
		default:
			if sh.Off > uint64(len(in)) || sh.Size > uint64(len(in))-sh.Off {
				return nil, nil, 0, fmt.Errorf("section %s reaches beyond the end of the linked kernel", f.Sections[i].Name)
			}
			out = alignTo(out, sh.Addralign)
			body := in[sh.Off:][:sh.Size]
			sh.Off = uint64(len(out))
			out = append(out, body...)
		}
		if i == int(eh.Shstrndx) {
			shstrndx = uint16(len(sections))
		}
		sections = append(sections, sh)
	}
	return alignTo(out, 8), sections, shstrndx, nil
}

func alignTo(b []byte, align uint64) []byte {
	for align > 1 && uint64(len(b))%align != 0 {
		b = append(b, 0)
	}
	return b
}
