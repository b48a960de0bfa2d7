package elf

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

// Core is what a core file tells of a process besides its memory (core(5)).
type Core struct {
	Space   *mm.AddressSpace
	Process CoreProcess
	Threads []CoreThread // first the one that died
	Siginfo []byte       // of the signal that killed it: struct siginfo
	Auxv    []byte
}

// CoreProcess is NT_PRPSINFO.
type CoreProcess struct {
	State                byte // as /proc shows it
	Nice                 int8
	UID, GID             uint32
	PID, PPID, PGID, SID int32
	Name                 string // of the program
	Arguments            string // separated by spaces
}

// CoreThread is NT_PRSTATUS, NT_FPREGSET and NT_X86_XSTATE.
type CoreThread struct {
	TID                 int32
	Signal, Code        int32
	Pending, Blocked    uint64
	UserNS, SystemNS    int64
	ChildUser, ChildSys int64
	PPID, PGID, SID     int32
	Registers           [27]uint64 // struct user_regs_struct
	FloatRegisters      []byte     // struct user_fpregs_struct
	ExtendedState       []byte     // an XSAVE image; nil: the CPU has none
}

// Notes of a core file (Linux: include/uapi/linux/elf.h).
const (
	noteStatus  = 1
	noteFloat   = 2
	notePSInfo  = 3
	noteAuxv    = 6
	noteFile    = 0x46494c45
	noteSiginfo = 0x53494749
	noteXState  = 0x202
)

// Sizes of the headers of a core file, in bytes.
const (
	sizeofHeader  = 64
	sizeofProgram = 56
)

// dumped is a piece of memory in a core file; of some only the start is there, or nothing.
type dumped struct {
	mm.Region
	size uint64 // how much the file has
}

// Write writes the core file: EFBIG when it would be longer than limit bytes, which then are written. A page that
// was never touched becomes a hole.
func (c *Core) Write(w io.WriterAt, limit uint64) error {
	segments := c.segments()
	notes := c.notes(segments)
	at := uint64(sizeofHeader + sizeofProgram*(1+len(segments)))
	e := buffer{}
	e.bytes("\x7fELF", 2 /* 64-bit */, 1 /* little-endian */, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	const typeCore, machineX86 = 4, 62
	e.u16(typeCore)
	e.u16(machineX86)
	e.u32(1)
	e.u64(0)
	e.u64(sizeofHeader)
	e.u64(0)
	e.u32(0)
	for _, v := range []uint16{sizeofHeader, sizeofProgram, uint16(1 + len(segments)), 0, 0, 0} {
		e.u16(v)
	}
	const typeLoad, typeNote = 1, 4
	e.program(typeNote, 0, at, 0, uint64(len(notes)), 0, 4)
	at = pageUp(at + uint64(len(notes)))
	first := at
	for _, s := range segments {
		flags := uint32(0)
		for _, p := range [...]struct {
			prot int
			flag uint32
		}{{unix.PROT_READ, 4}, {unix.PROT_WRITE, 2}, {unix.PROT_EXEC, 1}} {
			if s.Prot&p.prot != 0 {
				flags |= p.flag
			}
		}
		e.program(typeLoad, flags, at, s.Start, s.size, s.End-s.Start, mm.PageSize)
		at += s.size
	}
	out := limited{w, limit}
	if err := out.write(append(e.b, notes...), 0); err != nil {
		return err
	}
	at = first
	for _, s := range segments {
		if err := c.copy(&out, s.Start, s.size, at); err != nil {
			return err
		}
		at += s.size
	}
	if first == at { // nothing else makes the file as long as its headers say
		return nil
	}
	return out.write([]byte{0}, at)
}

// segments chooses what is written of each mapping, as coredump_filter's default says: what is the program's
// own, and of a file's mapping that it hasn't changed the ELF header.
func (c *Core) segments() []dumped {
	const most = 0xfff0 // program headers have a number of 16 bits
	var list []dumped
	c.Space.Regions(func(r mm.Region) bool {
		list = append(list, dumped{r, c.sizeOf(r)})
		return len(list) < most
	})
	return list
}

func (c *Core) sizeOf(r mm.Region) uint64 {
	switch {
	case r.DontDump || r.Name == "[vvar]":
		return 0
	case r.File == nil, r.Name == "[vdso]", r.Anonymous, c.Space.Residents(r.Start, r.End).Anon > 0:
		return r.End - r.Start
	case r.Offset == 0 && r.Prot&unix.PROT_READ != 0:
		var magic [4]byte
		if n, _ := c.Space.ForcedCopyIn(magic[:], r.Start); n == len(magic) && string(magic[:]) == "\x7fELF" {
			return mm.PageSize
		}
	}
	return 0
}

// copy writes the pages of [start, start+size) that are in memory to the file at offset at.
func (c *Core) copy(out *limited, start, size, at uint64) error {
	var resident [64]byte
	page := make([]byte, mm.PageSize)
	for done := uint64(0); done < size; {
		n, err := c.Space.Residence(start+done, resident[:min(uint64(len(resident)), (size-done)/mm.PageSize)])
		if err != nil || n == 0 {
			return nil // unmapped meanwhile: it stays a hole
		}
		for _, in := range resident[:n] {
			if in != 0 {
				if got, _ := c.Space.ForcedCopyIn(page, start+done); got == len(page) {
					if err := out.write(page, at+done); err != nil {
						return err
					}
				}
			}
			done += mm.PageSize
		}
	}
	return nil
}

// limited is a file of which only the first bytes are written.
type limited struct {
	w     io.WriterAt
	limit uint64
}

func (l *limited) write(p []byte, at uint64) error {
	if at >= l.limit {
		return unix.EFBIG
	}
	n := min(uint64(len(p)), l.limit-at)
	if _, err := l.w.WriteAt(p[:n], int64(at)); err != nil {
		return err
	}
	if n < uint64(len(p)) {
		return unix.EFBIG
	}
	return nil
}

func pageUp(n uint64) uint64 { return (n + mm.PageSize - 1) &^ (mm.PageSize - 1) }

// buffer puts a core file's headers together.
type buffer struct{ b []byte }

func (e *buffer) bytes(s string, rest ...byte) { e.b = append(append(e.b, s...), rest...) }
func (e *buffer) u16(v uint16)                 { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *buffer) u32(v uint32)                 { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *buffer) u64(v uint64)                 { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

// text writes s, cut, in n bytes.
func (e *buffer) text(s string, n int) {
	field := make([]byte, n)
	copy(field[:n-1], s)
	e.b = append(e.b, field...)
}

// program writes a program header.
func (e *buffer) program(typ, flags uint32, off, addr, fileSize, size, align uint64) {
	e.u32(typ)
	e.u32(flags)
	for _, v := range [...]uint64{off, addr, 0, fileSize, size, align} {
		e.u64(v)
	}
}

// note writes a note, padded to words.
func (e *buffer) note(name string, typ uint32, content []byte) {
	e.u32(uint32(len(name) + 1))
	e.u32(uint32(len(content)))
	e.u32(typ)
	e.bytes(name, 0)
	e.pad()
	e.b = append(e.b, content...)
	e.pad()
}

func (e *buffer) pad() {
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *buffer) time(ns int64) {
	e.u64(uint64(ns / 1e9))
	e.u64(uint64(ns % 1e9 / 1e3))
}

func (c *Core) notes(segments []dumped) []byte {
	var e buffer
	for i, t := range c.Threads {
		e.note("CORE", noteStatus, t.status())
		if i == 0 {
			e.note("CORE", notePSInfo, c.Process.info())
			e.note("CORE", noteSiginfo, c.Siginfo)
			e.note("CORE", noteAuxv, c.Auxv)
			e.note("CORE", noteFile, files(segments))
		}
		e.note("CORE", noteFloat, t.FloatRegisters)
		if t.ExtendedState != nil {
			e.note("LINUX", noteXState, t.ExtendedState)
		}
	}
	return e.b
}

// status is struct elf_prstatus.
func (t *CoreThread) status() []byte {
	var e buffer
	e.u32(uint32(t.Signal))
	e.u32(uint32(t.Code))
	e.u32(0)
	e.u32(uint32(t.Signal)) // pr_cursig, and padding
	e.u64(t.Pending)
	e.u64(t.Blocked)
	for _, v := range [...]int32{t.TID, t.PPID, t.PGID, t.SID} {
		e.u32(uint32(v))
	}
	for _, ns := range [...]int64{t.UserNS, t.SystemNS, t.ChildUser, t.ChildSys} {
		e.time(ns)
	}
	for _, r := range t.Registers {
		e.u64(r)
	}
	e.u64(1) // pr_fpvalid
	return e.b
}

// info is struct elf_prpsinfo.
func (p *CoreProcess) info() []byte {
	var e buffer
	zombie := byte(0)
	if p.State == 'Z' {
		zombie = 1
	}
	e.bytes("", 0, p.State, zombie, byte(p.Nice), 0, 0, 0, 0)
	e.u64(0)
	for _, v := range [...]uint32{p.UID, p.GID, uint32(p.PID), uint32(p.PPID), uint32(p.PGID), uint32(p.SID)} {
		e.u32(v)
	}
	e.text(p.Name, 16)
	e.text(p.Arguments, 80)
	return e.b
}

// files is NT_FILE: which files are mapped where.
func files(segments []dumped) []byte {
	var e buffer
	names := []byte{}
	count := uint64(0)
	for _, s := range segments {
		if s.File == nil || s.Anonymous || s.Name == "[vdso]" || s.Name == "[vvar]" {
			continue
		}
		e.u64(s.Start)
		e.u64(s.End)
		e.u64(s.Offset / mm.PageSize)
		names = append(append(names, s.Name...), 0)
		count++
	}
	var all buffer
	all.u64(count)
	all.u64(mm.PageSize)
	all.b = append(append(all.b, e.b...), names...)
	return all.b
}
