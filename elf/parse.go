package elf

import (
	"encoding/binary"
	"io"
	"math/bits"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

const pathMax = 4096

// parse reads and checks the headers of f. wrong is the errno of a file that is no executable of this
// machine: ENOEXEC for the program itself, ELIBBAD for its interpreter.
func parse(f File, name string, wrong unix.Errno) (*program, error) {
	size := f.Size()
	var start [headerSize]byte
	n, err := f.ReadAt(start[:min(headerSize, max(size, 0))], 0)
	if err != nil && err != io.EOF {
		return nil, failed(err, "%s: cannot be read", name)
	}
	if n < 4 || string(start[:4]) != magic {
		var more [512]byte
		k, _ := f.ReadAt(more[:min(int64(len(more)), max(size, 0))], 0)
		return nil, notELF(name, more[:k], size, wrong)
	}
	if n < headerSize {
		return nil, refuse(wrong, "%s: is truncated: it has %d bytes, and its ELF header alone has %d", name, size, headerSize)
	}
	p := &program{header: parseHeader(start[:])}
	if err := p.checkHeader(start[:], name, wrong); err != nil {
		return nil, err
	}
	tableSize := uint64(p.count) * segmentSize
	if end, carry := bits.Add64(p.tableOffset, tableSize, 0); carry != 0 || end > uint64(size) {
		return nil, refuse(wrong, "%s: is truncated: it has %d bytes, and its %d program headers start at offset %d",
			name, size, p.count, p.tableOffset)
	}
	table := make([]byte, tableSize)
	if err := readFull(f, table, int64(p.tableOffset)); err != nil {
		return nil, failed(err, "%s: its program headers cannot be read", name)
	}
	p.segments = make([]segment, p.count)
	for i := range p.segments {
		p.segments[i] = parseSegment(table[i*segmentSize:])
	}
	for i := range p.segments {
		switch s := &p.segments[i]; s.kind {
		case ptInterp:
			if p.interp == "" { // the first one counts
				if p.interp, err = readInterp(f, name, s, wrong); err != nil {
					return nil, err
				}
			}
		case ptGNUStack:
			p.exec = s.flags&pfExec != 0
		}
	}
	if err := p.checkSegments(name, size, wrong); err != nil {
		return nil, err
	}
	return p, nil
}

// checkHeader makes the checks of Linux, which believes e_machine and ignores what e_ident says of class
// and byte order; those only help to say what else a file is.
func (p *program) checkHeader(start []byte, name string, wrong unix.Errno) error {
	fits := (p.kind == etExec || p.kind == etDyn) && p.machine == emX86_64 && p.entrySize == segmentSize
	if !fits {
		machine := p.machine
		big := start[5] == bigEndian
		if big {
			machine = binary.BigEndian.Uint16(start[18:])
		}
		switch {
		case machine == emX86_64 && start[4] == class32:
			return refuse(wrong, "%s: is a 32-bit program for x86-64 (the x32 ABI); only 64-bit programs run here", name)
		case big:
			return refuse(wrong, "%s: is a big-endian program for %s; this machine is a little-endian x86-64", name, machineName(machine))
		case machine != emX86_64 && start[4] == class32:
			return refuse(wrong, "%s: is a 32-bit program for %s; only 64-bit x86-64 programs run here", name, machineName(machine))
		case machine != emX86_64:
			return refuse(wrong, "%s: is a program for %s; this machine is an x86-64", name, machineName(machine))
		}
	}
	switch {
	case p.kind == etRel:
		return refuse(wrong, "%s: is an object file that has yet to be linked, not an executable", name)
	case p.kind == etCore:
		return refuse(wrong, "%s: is a core dump, not an executable", name)
	case p.kind != etExec && p.kind != etDyn:
		return refuse(wrong, "%s: is an ELF file of type %d, not an executable", name, p.kind)
	case p.entrySize != segmentSize:
		return refuse(wrong, "%s: has program headers of %d bytes; those of an x86-64 program have %d", name, p.entrySize, segmentSize)
	case p.count == 0:
		return refuse(wrong, "%s: has no program headers: there is nothing to load", name)
	case int(p.count)*segmentSize > maxTableSize:
		return refuse(wrong, "%s: has %d program headers, more than fit into %d bytes", name, p.count, maxTableSize)
	}
	return nil
}

func readInterp(f File, name string, s *segment, wrong unix.Errno) (string, error) {
	if s.fileSize < 2 || s.fileSize > pathMax {
		return "", refuse(wrong, "%s: the name of its interpreter has %d bytes; 2 to %d are possible", name, s.fileSize, pathMax)
	}
	if end, carry := bits.Add64(s.offset, s.fileSize, 0); carry != 0 || end > uint64(f.Size()) {
		return "", refuse(unix.EIO, "%s: is truncated: it has %d bytes, and the name of its interpreter ends at %d", name, f.Size(), end)
	}
	path := make([]byte, s.fileSize)
	if err := readFull(f, path, int64(s.offset)); err != nil {
		return "", failed(err, "%s: the name of its interpreter cannot be read", name)
	}
	if path[len(path)-1] != 0 {
		return "", refuse(wrong, "%s: the name of its interpreter has no end", name)
	}
	for i, c := range path {
		if c == 0 {
			path = path[:i]
			break
		}
	}
	if len(path) == 0 {
		return "", refuse(unix.ENOENT, "%s: the name of its interpreter is empty", name)
	}
	return string(path), nil
}

// checkSegments checks what can be known before anything is mapped.
func (p *program) checkSegments(name string, size int64, wrong unix.Errno) error {
	// Program headers inside the ELF header are the work of somebody who knows what they do.
	byHand := p.tableOffset < headerSize
	cut := uint64(0) // where the file should end at least
	none := true
	for s := range p.loads {
		none = false
		_, wraps := bits.Add64(s.vaddr, s.memory, 0)
		_, fileWraps := bits.Add64(s.offset, s.fileSize, 0)
		switch {
		case wraps != 0:
			return refuse(unix.EINVAL, "%s: its segment at %#x of %#x bytes wraps around the end of the address space", name, s.vaddr, s.memory)
		case s.vaddr >= mm.UserEnd || s.memory > mm.UserEnd-s.vaddr:
			return refuse(unix.EINVAL, "%s: its segment at %#x of %#x bytes ends above %#x, where a program's addresses end", name, s.vaddr, s.memory, uint64(mm.UserEnd))
		case s.fileSize > s.memory:
			return refuse(unix.EINVAL, "%s: its segment at %#x has more bytes in the file (%#x) than in memory (%#x)", name, s.vaddr, s.fileSize, s.memory)
		case s.fileSize != 0 && (s.offset^s.vaddr)&pageMask != 0:
			return refuse(unix.EINVAL, "%s: its segment at %#x comes from offset %#x of the file: the two differ within a page, so that it cannot be mapped", name, s.vaddr, s.offset)
		case p.kind == etExec && s.memory != 0 && s.vaddr < mm.MinAddr:
			return refuse(unix.EPERM, "%s: its segment at %#x lies below %#x, where nothing can be mapped", name, s.vaddr, uint64(mm.MinAddr))
		case s.fileSize != 0 && (fileWraps != 0 || s.offset+s.fileSize >= 1<<63):
			return refuse(unix.EINVAL, "%s: its segment at %#x comes from offset %#x of the file, of %#x bytes: no file is so long", name, s.vaddr, s.offset, s.fileSize)
		}
		if s.fileSize != 0 {
			cut = max(cut, s.offset+s.fileSize)
		}
	}
	if none && p.interp == "" {
		return refuse(wrong, "%s: has no segment to load", name)
	}
	if cut > uint64(size) && !byHand {
		// Linux runs a file whose end is missing until it touches a missing page; within the last
		// page the missing bytes are zero, which some files rely on. They lack a section table.
		sections := p.sectionOffset + uint64(p.sectionSize)*uint64(p.sectionNum)
		cutSections := p.sectionNum != 0 && p.sectionOffset >= cut && sections > uint64(size)
		if cut > pageEnd(uint64(size)) || cutSections {
			if cutSections {
				cut = sections
			}
			return refuse(wrong, "%s: is truncated: it has %d bytes and should have at least %d", name, size, cut)
		}
	}
	if !byHand {
		if err := p.checkOverlap(name, wrong); err != nil {
			return err
		}
	}
	return p.checkEntry(name, wrong)
}

// checkOverlap refuses segments that want different bytes of the file at one address. (That they
// share a page, or that one lies in another's zeroed end, is common.)
func (p *program) checkOverlap(name string, wrong unix.Errno) error {
	for i := range p.segments {
		a := &p.segments[i]
		if a.kind != ptLoad || a.fileSize == 0 {
			continue
		}
		for j := range i {
			b := &p.segments[j]
			if b.kind == ptLoad && a.vaddr < b.vaddr+b.fileSize && b.vaddr < a.vaddr+a.fileSize &&
				a.vaddr-a.offset != b.vaddr-b.offset {
				return refuse(wrong, "%s: its segments at %#x and %#x overlap", name, b.vaddr, a.vaddr)
			}
		}
	}
	return nil
}

// checkEntry refuses a program that would die at its first instruction. With an interpreter it is that
// one's entry point that counts.
func (p *program) checkEntry(name string, wrong unix.Errno) error {
	if p.interp != "" {
		return nil
	}
	for s := range p.loads {
		if s.flags&pfExec != 0 && s.memory != 0 && pageStart(s.vaddr) <= p.entry && p.entry < pageEnd(s.vaddr+s.memory) {
			if p.kind != etDyn || p.entry != 0 {
				return nil
			}
		}
	}
	if p.entry == 0 {
		if p.kind == etDyn {
			return refuse(wrong, "%s: is a shared library: it has no entry point", name)
		}
		return refuse(wrong, "%s: has no entry point", name)
	}
	return refuse(wrong, "%s: its entry point %#x is in none of its executable segments", name, p.entry)
}
