package elf

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"elver/kernel/mm"
	"elver/runtime/metal"
)

// Section types and symbol types that matter here (gABI, chapter 4).
const (
	sectionSize = 64
	symbolSize  = 24

	shtSymtab = 2
	shtDynsym = 11
	sttFunc   = 2
)

// Bounds of what is read of a file to name an address: the file is the program's.
const (
	maxSections = 4096
	maxSymbols  = 1 << 20
	maxName     = 256
)

// Symbol names the function whose code lies at offset off of the file m, as "name+0x12", from the file's
// symbol table; it is empty if that has none. It serves reports: it reads the whole table.
func Symbol(m mm.Mappable, off uint64) string {
	f := mapped{m}
	var start [headerSize]byte
	if _, err := f.ReadAt(start[:], 0); err != nil || string(start[:4]) != magic {
		return ""
	}
	h := parseHeader(start[:])
	addr, ok := f.address(&h, off)
	if !ok || h.sectionSize != sectionSize || h.sectionNum > maxSections {
		return ""
	}
	sections := make([]byte, int(h.sectionNum)*sectionSize)
	if _, err := f.ReadAt(sections, int64(h.sectionOffset)); err != nil {
		return ""
	}
	for _, kind := range []uint32{shtSymtab, shtDynsym} {
		for i := range int(h.sectionNum) {
			s := parseSection(sections[i*sectionSize:])
			if s.kind != kind || s.link >= uint32(h.sectionNum) {
				continue
			}
			names := parseSection(sections[int(s.link)*sectionSize:])
			if name := f.function(s, names, addr); name != "" {
				return name
			}
		}
	}
	return ""
}

// section is a section header.
type section struct {
	kind, link   uint32
	offset, size uint64
}

func parseSection(p []byte) section {
	le := binary.LittleEndian
	return section{kind: le.Uint32(p[4:]), offset: le.Uint64(p[24:]), size: le.Uint64(p[32:]), link: le.Uint32(p[40:])}
}

// mapped reads a file through its frames.
type mapped struct{ file mm.Mappable }

// ReadAt implements io.ReaderAt.
func (f mapped) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := uint64(off) + uint64(done)
		frame, err := f.file.MapFrame(at&^(mm.PageSize-1), false)
		if err != nil {
			return done, io.ErrUnexpectedEOF
		}
		done += copy(p[done:], metal.View(frame, mm.PageSize)[at%mm.PageSize:])
		metal.Unref(frame)
	}
	return done, nil
}

// address returns the address that the program headers give the file's offset off.
func (f mapped) address(h *header, off uint64) (uint64, bool) {
	for i := range uint64(h.count) {
		var b [segmentSize]byte
		if _, err := f.ReadAt(b[:], int64(h.tableOffset+i*segmentSize)); err != nil {
			return 0, false
		}
		if s := parseSegment(b[:]); s.kind == ptLoad && off >= s.offset && off-s.offset < s.fileSize {
			return s.vaddr + off - s.offset, true
		}
	}
	return 0, false
}

// function returns the name of the function of a symbol table that addr lies in, with the distance.
func (f mapped) function(table, names section, addr uint64) string {
	le := binary.LittleEndian
	var piece [64 * symbolSize]byte
	for first := uint64(0); first < min(table.size/symbolSize, maxSymbols); first += 64 {
		n := min(table.size/symbolSize-first, 64) * symbolSize
		if _, err := f.ReadAt(piece[:n], int64(table.offset+first*symbolSize)); err != nil {
			return ""
		}
		for b := piece[:n]; len(b) > 0; b = b[symbolSize:] {
			value, size := le.Uint64(b[8:]), le.Uint64(b[16:])
			if b[4]&15 != sttFunc || addr < value || addr-value >= max(size, 1) {
				continue
			}
			name := make([]byte, maxName)
			n, _ := f.ReadAt(name, int64(names.offset+uint64(le.Uint32(b))))
			text, _, _ := strings.Cut(string(name[:n]), "\x00")
			return fmt.Sprintf("%s+%#x", printable(text), addr-value)
		}
		metal.CondResched()
	}
	return ""
}

// printable returns s without what would harm a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
