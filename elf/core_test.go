package elf

import (
	"bytes"
	"debug/elf"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

// coreFile is a file in memory.
type coreFile struct{ b []byte }

func (m *coreFile) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func TestCore(t *testing.T) {
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer as.Release()
	const base, pages = 0x10000000, 8
	if _, err := as.Mmap(mm.MmapArgs{Addr: base, Length: pages * mm.PageSize, Prot: unix.PROT_READ | unix.PROT_WRITE, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED}); err != nil {
		t.Fatal(err)
	}
	if _, err := as.CopyOut(base+3*mm.PageSize+5, []byte("here")); err != nil {
		t.Fatal(err)
	}
	if err := as.Mprotect(base, mm.PageSize, unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	c := Core{Space: as, Process: CoreProcess{PID: 77, Name: "prog", Arguments: "prog -x"}, Siginfo: make([]byte, 128), Auxv: make([]byte, 32)}
	for tid := range int32(3) {
		c.Threads = append(c.Threads, CoreThread{TID: 77 + tid, Signal: 11, FloatRegisters: make([]byte, 512), ExtendedState: make([]byte, 832)})
	}
	var f coreFile
	if err := c.Write(&f, 1<<30); err != nil {
		t.Fatal(err)
	}
	file, err := elf.NewFile(bytes.NewReader(f.b))
	if err != nil {
		t.Fatal(err)
	}
	if file.Type != elf.ET_CORE || file.Machine != elf.EM_X86_64 {
		t.Errorf("type %v, machine %v", file.Type, file.Machine)
	}
	loads, found := 0, false
	for _, p := range file.Progs {
		if p.Type == elf.PT_NOTE {
			checkNotes(t, p)
		}
		if p.Type != elf.PT_LOAD {
			continue
		}
		loads++
		if p.Off%mm.PageSize != 0 || p.Filesz != p.Memsz {
			t.Errorf("segment at %#x: offset %#x, %d of %d bytes", p.Vaddr, p.Off, p.Filesz, p.Memsz)
		}
		if at := uint64(base + 3*mm.PageSize + 5); p.Vaddr <= at && at < p.Vaddr+p.Memsz {
			got := make([]byte, 4)
			p.ReadAt(got, int64(at-p.Vaddr))
			found = string(got) == "here"
		}
	}
	if loads != 2 || !found {
		t.Errorf("%d segments, the memory was found: %v", loads, found)
	}
	var short coreFile
	if err := c.Write(&short, 3*mm.PageSize); err != unix.EFBIG || len(short.b) > 3*mm.PageSize {
		t.Errorf("limited to three pages: %v, %d bytes", err, len(short.b))
	}
}

func checkNotes(t *testing.T, p *elf.Prog) {
	b, err := io.ReadAll(p.Open())
	if err != nil {
		t.Fatal(err)
	}
	var types []uint32
	sizes := map[uint32]uint32{noteStatus: 336, notePSInfo: 136, noteSiginfo: 128, noteFloat: 512, noteXState: 832, noteAuxv: 32, noteFile: 16}
	for len(b) >= 12 {
		nameSize, size, typ := coreWord(b), coreWord(b[4:]), coreWord(b[8:])
		types = append(types, typ)
		if sizes[typ] != size {
			t.Errorf("note %#x has %d bytes", typ, size)
		}
		b = b[12+(nameSize+3)&^3+(size+3)&^3:]
	}
	want := []uint32{noteStatus, notePSInfo, noteSiginfo, noteAuxv, noteFile, noteFloat, noteXState, noteStatus, noteFloat, noteXState, noteStatus, noteFloat, noteXState}
	if len(types) != len(want) || len(b) != 0 {
		t.Fatalf("notes %#x", types)
	}
	for i := range want {
		if types[i] != want[i] {
			t.Fatalf("notes %#x", types)
		}
	}
}

func coreWord(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
