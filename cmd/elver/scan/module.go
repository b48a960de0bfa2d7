// Package scan finds the system calls that programs can make, by reading their code.
//
// A module's code is decoded function by function, as far as functions are reached: all of the program's,
// and of a library's those that reached code calls, takes the address of, or refers to in data. Within a
// function constants are followed through registers and stack slots, and a function that makes the system
// call which an argument names, such as syscall(3), hands the question on to its callers.
//
// What comes out is an estimate: code that is made or loaded while the program runs isn't seen, and that a
// call can be made doesn't say that it ever is.
package scan

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
)

// maxCode bounds the code of one module that is decoded, in bytes.
const maxCode = 512 << 20

// fewFunctions is how many bytes of code a function has on average in files that name few of them: stripped
// ones whose C library was built without unwind tables, as musl is.
const fewFunctions = 1536

// segment is a part of a module in memory.
type segment struct {
	start uint64
	data  []byte
	code  bool
}

// module is a program or library.
type module struct {
	name      string
	segments  []segment
	functions []uint64        // where functions begin, sorted
	starts    map[uint64]bool // the same
	exports   map[string]uint64
	imports   map[uint64]string // by the address of the GOT slot
	stubs     map[uint64]string // PLT entries by their address
	pointers  []uint64          // addresses in code that data holds
	dataNames []string          // symbols that data refers to
	entry     uint64
	bare      bool // little tells where functions begin
}

// load reads a module.
func load(name string, r io.ReaderAt) (*module, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := &module{name: name, starts: map[uint64]bool{}, exports: map[string]uint64{}, imports: map[uint64]string{}, stubs: map[uint64]string{}, entry: f.Entry}
	total := uint64(0)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&(elf.PF_X|elf.PF_W) == elf.PF_W && p.Filesz == 0 {
			continue
		}
		if total += p.Filesz; total > maxCode {
			return nil, fmt.Errorf("%s has more than %d MiB of code and data", name, maxCode>>20)
		}
		data := make([]byte, p.Filesz)
		if _, err := p.ReadAt(data, 0); err != nil {
			return nil, fmt.Errorf("%s is cut off: %w", name, err)
		}
		m.segments = append(m.segments, segment{p.Vaddr, data, p.Flags&elf.PF_X != 0})
	}
	m.readSymbols(f)
	m.readRelocations(f)
	m.readFrames(f)
	m.readGo(f)
	code := 0
	for _, s := range m.segments {
		if s.code {
			code += len(s.data)
		}
	}
	m.bare = code > fewFunctions*len(m.starts)
	m.functions = slices.Sorted(maps.Keys(m.starts))
	m.findStubs()
	return m, nil
}

func (m *module) readSymbols(f *elf.File) {
	add := func(s elf.Symbol, export bool) {
		t := elf.ST_TYPE(s.Info)
		if s.Section == elf.SHN_UNDEF || t != elf.STT_FUNC && t != elf.STT_GNU_IFUNC && t != elf.STT_NOTYPE || !m.isCode(s.Value) {
			return
		}
		if t != elf.STT_NOTYPE {
			m.starts[s.Value] = true
		}
		if export {
			m.exports[s.Name] = s.Value
		}
	}
	if symbols, err := f.DynamicSymbols(); err == nil {
		for _, s := range symbols {
			add(s, true)
		}
	}
	if symbols, err := f.Symbols(); err == nil {
		for _, s := range symbols {
			add(s, false)
		}
	}
}

func (m *module) isCode(at uint64) bool {
	s := m.at(at)
	return s != nil && s.code
}

// at returns the segment that holds an address.
func (m *module) at(address uint64) *segment {
	for i := range m.segments {
		if s := &m.segments[i]; address >= s.start && address-s.start < uint64(len(s.data)) {
			return s
		}
	}
	return nil
}

// bytes returns what is from an address to the end of its segment.
func (m *module) bytes(address uint64) []byte {
	if s := m.at(address); s != nil {
		return s.data[address-s.start:]
	}
	return nil
}

// Types of relocations (System V ABI, AMD64 supplement).
const (
	r64       = 1
	rGlobDat  = 6
	rJumpSlot = 7
	rRelative = 8
	rIRelativ = 37
)

func (m *module) readRelocations(f *elf.File) {
	symbols, _ := f.DynamicSymbols()
	for _, section := range f.Sections {
		if section.Type != elf.SHT_RELA {
			continue
		}
		data, err := section.Data()
		if err != nil {
			continue
		}
		for ; len(data) >= 24; data = data[24:] {
			offset, info, addend := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:])
			name := ""
			if i := info >> 32; i > 0 && i <= uint64(len(symbols)) {
				name = symbols[i-1].Name
			}
			switch info & 0xffffffff {
			case rGlobDat, rJumpSlot:
				m.imports[offset] = name
			case r64:
				if name != "" {
					m.dataNames = append(m.dataNames, name)
				}
			case rRelative, rIRelativ:
				if m.isCode(addend) {
					m.pointers = append(m.pointers, addend)
				}
			}
		}
	}
}

// readFrames takes the functions' bounds of .eh_frame (LSB Core, 10.6), which stripped files have too.
func (m *module) readFrames(f *elf.File) {
	section := f.Section(".eh_frame")
	if section == nil {
		return
	}
	data, err := section.Data()
	if err != nil {
		return
	}
	le := binary.LittleEndian
	encodings := map[int]byte{} // of the CIE at an offset
	for at := 0; at+8 <= len(data); {
		length := int(le.Uint32(data[at:]))
		if length == 0 || length < 4 || length > len(data)-at-4 {
			return // 64-bit lengths are not in use
		}
		body := data[at+4 : at+4+length]
		if id := int(le.Uint32(body)); id == 0 {
			encodings[at] = pointerEncoding(body[4:])
		} else if cie := at + 4 - id; len(body) >= 12 {
			if encoding, ok := encodings[cie]; ok && encoding&0x7f == 0x1b { // relative to here, 4 bytes signed
				start := section.Addr + uint64(at+8) + uint64(int64(int32(le.Uint32(body[4:]))))
				if m.isCode(start) {
					m.starts[start] = true
				}
			}
		}
		at += 4 + length
	}
}

// pointerEncoding returns how a CIE's FDEs write addresses.
func pointerEncoding(cie []byte) byte {
	if len(cie) == 0 {
		return 0
	}
	augmentation, rest, ok := bytes.Cut(cie[1:], []byte{0})
	if !ok || len(augmentation) == 0 || augmentation[0] != 'z' {
		return 0
	}
	skip := func() {
		for len(rest) > 0 && rest[0]&0x80 != 0 {
			rest = rest[1:]
		}
		if len(rest) > 0 {
			rest = rest[1:]
		}
	}
	skip() // code alignment
	skip() // data alignment
	skip() // return address register
	skip() // length of the augmentation's data
	for _, c := range augmentation[1:] {
		if len(rest) == 0 {
			return 0
		}
		switch c {
		case 'R':
			return rest[0]
		case 'L':
			rest = rest[1:]
		case 'P':
			size := map[byte]int{0x0b: 4, 0x03: 4, 0x0c: 8, 0x04: 8, 0x00: 8}[rest[0]&0x0f]
			if size == 0 || len(rest) < 1+size {
				return 0
			}
			rest = rest[1+size:]
		}
	}
	return 0
}

// readGo takes the functions of a Go program from its own table, which it has even when it is stripped.
func (m *module) readGo(f *elf.File) {
	section := f.Section(".gopclntab")
	if section == nil {
		section = f.Section(".data.rel.ro.gopclntab")
	}
	text := f.Section(".text")
	if section == nil || text == nil {
		return
	}
	data, err := section.Data()
	if err != nil {
		return
	}
	defer func() { _ = recover() }() // of a table that is damaged
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return
	}
	for i := range table.Funcs {
		if fn := &table.Funcs[i]; m.isCode(fn.Entry) && fn.End > fn.Entry {
			m.starts[fn.Entry] = true
		}
	}
}

// findStubs finds the entries of the procedure linkage table: an indirect jump by a slot of the GOT, with or
// without ENDBR64 before it and a BND prefix.
func (m *module) findStubs() {
	for _, s := range m.segments {
		if !s.code {
			continue
		}
		for from := 0; ; {
			i := bytes.Index(s.data[from:], []byte{0xff, 0x25})
			if i < 0 || from+i+6 > len(s.data) {
				break
			}
			i += from
			from = i + 1
			at := s.start + uint64(i)
			name, ok := m.imports[at+6+uint64(int64(int32(binary.LittleEndian.Uint32(s.data[i+2:]))))]
			if !ok {
				continue
			}
			if i > 0 && s.data[i-1] == 0xf2 {
				i--
				at--
			}
			m.stubs[at] = name
			if i >= 4 && bytes.Equal(s.data[i-4:i], endbr64) {
				m.stubs[at-4] = name
			}
		}
	}
}

var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// holding returns the function that an address belongs to: its beginning and end. The end is where the next one
// begins, as assembly functions go on behind the end that their frames' description gives.
func (m *module) holding(address uint64) (start, end uint64, ok bool) {
	i, found := slices.BinarySearch(m.functions, address)
	if !found {
		if i == 0 {
			return 0, 0, false
		}
		i--
	}
	start = m.functions[i]
	s := m.at(start)
	if s == nil || m.at(address) != s {
		return 0, 0, false
	}
	end = s.start + uint64(len(s.data))
	if i+1 < len(m.functions) {
		end = min(end, m.functions[i+1])
	}
	return start, end, true
}

// begin notes that a function begins at an address of code.
func (m *module) begin(at uint64) {
	if i, found := slices.BinarySearch(m.functions, at); !found {
		m.functions = slices.Insert(m.functions, i, at)
		m.starts[at] = true
	}
}
