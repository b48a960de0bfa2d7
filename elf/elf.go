// Package elf loads programs: ELF64 executables for x86-64, with their interpreter if they name one, and
// scripts, into a new address space with the stack that execve(2) promises.
//
// The rule for odd files is Linux's (fs/binfmt_elf.c): what it runs, runs. What it would refuse, or
// would kill at the first instruction, is refused with an Error, whose sentence says what was found.
// Load keeps nothing: a failed one leaves an address space to release.
package elf

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

// File is a file that may hold a program.
type File interface {
	io.ReaderAt
	// Mappable returns the file as it is mapped: the object itself and no wrapper of it, for package
	// mm asks it what else it can.
	Mappable() mm.Mappable
	// Size returns the size in bytes.
	Size() int64
	// Release ends the caller's use of the file; its mappings hold it by themselves.
	Release()
}

// Sizes of the structures of an ELF64 file, in bytes.
const (
	headerSize  = 64
	segmentSize = 56
)

// Values of the gABI, chapters 4 and 5.
const (
	magic = "\x7fELF"

	class32      = 1
	bigEndian    = 2
	etRel        = 1
	etExec       = 2
	etDyn        = 3
	etCore       = 4
	emX86_64     = 62
	ptLoad       = 1
	ptInterp     = 3
	ptGNUStack   = 0x6474e551
	pfExec       = 1
	pfWrite      = 2
	pfRead       = 4
	maxTableSize = 65536 // bytes of program headers that Linux reads
)

// header is the part of the ELF header that matters.
type header struct {
	kind, machine    uint16
	entry            uint64
	tableOffset      uint64
	entrySize, count uint16
	// Linux reads nothing of the section table; here it tells whether a file was cut.
	sectionOffset           uint64
	sectionSize, sectionNum uint16
}

// segment is a program header.
type segment struct {
	kind, flags      uint32
	offset, vaddr    uint64
	fileSize, memory uint64
	align            uint64
}

// program is a parsed and checked file.
type program struct {
	header
	segments []segment // all of them
	interp   string    // of PT_INTERP, "" without
	exec     bool      // PT_GNU_STACK asks for an executable stack
}

func parseHeader(p []byte) header {
	le := binary.LittleEndian
	return header{
		kind: le.Uint16(p[16:]), machine: le.Uint16(p[18:]), entry: le.Uint64(p[24:]),
		tableOffset: le.Uint64(p[32:]), sectionOffset: le.Uint64(p[40:]),
		entrySize: le.Uint16(p[54:]), count: le.Uint16(p[56:]),
		sectionSize: le.Uint16(p[58:]), sectionNum: le.Uint16(p[60:]),
	}
}

func parseSegment(p []byte) segment {
	le := binary.LittleEndian
	return segment{
		kind: le.Uint32(p), flags: le.Uint32(p[4:]), offset: le.Uint64(p[8:]), vaddr: le.Uint64(p[16:]),
		fileSize: le.Uint64(p[32:]), memory: le.Uint64(p[40:]), align: le.Uint64(p[48:]),
	}
}

func (s *segment) prot() int {
	prot := unix.PROT_NONE
	if s.flags&pfRead != 0 {
		prot |= unix.PROT_READ
	}
	if s.flags&pfWrite != 0 {
		prot |= unix.PROT_WRITE
	}
	if s.flags&pfExec != 0 {
		prot |= unix.PROT_EXEC
	}
	return prot
}

// loads calls yield for the PT_LOAD segments, in the file's order.
func (p *program) loads(yield func(*segment) bool) {
	for i := range p.segments {
		if p.segments[i].kind == ptLoad && !yield(&p.segments[i]) {
			return
		}
	}
}

// span returns the page-aligned size of the range from the lowest to the highest segment.
func (p *program) span() uint64 {
	low, high := ^uint64(0), uint64(0)
	for s := range p.loads {
		low = min(low, pageStart(s.vaddr))
		high = max(high, s.vaddr+s.memory)
	}
	if low > high {
		return 0
	}
	return pageEnd(high - low)
}

// alignment returns the largest alignment that a segment asks for, at least a page. Linux ignores
// those that are no power of two.
func (p *program) alignment() uint64 {
	align := uint64(mm.PageSize)
	for s := range p.loads {
		if s.align&(s.align-1) == 0 {
			align = max(align, s.align)
		}
	}
	return align
}

// tableAddress returns where the program headers stand in memory, before relocation: 0 if no segment
// holds them.
func (p *program) tableAddress() uint64 {
	address := uint64(0)
	for s := range p.loads {
		if s.offset <= p.tableOffset && p.tableOffset < s.offset+s.fileSize {
			address = p.tableOffset - s.offset + s.vaddr
		}
	}
	return address
}

const pageMask = mm.PageSize - 1

func pageStart(addr uint64) uint64 { return addr &^ pageMask }

func pageEnd(addr uint64) uint64 { return (addr + pageMask) &^ pageMask }

// readFull reads exactly len(p) bytes at off.
func readFull(f File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
