package elf

import (
	"errors"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

// Params say what is executed, by whom and how.
type Params struct {
	Space *mm.AddressSpace // new and empty
	File  File             // the program; the caller's to release
	Path  string           // as execve(2) was given it: AT_EXECFN, and the argument of a script's interpreter
	Open  func(path string) (File, error)
	Args  []string
	Env   []string

	// Identify says as whom the file runs that is loaded in the end: the program, or a script's interpreter.
	Identify   func(File) (Identity, error)
	StackLimit uint64

	Random        func() uint64 // random numbers
	HWCap, HWCap2 uint64        // CPUID.1:EDX; AT_HWCAP2
	SignalFrame   uint64        // AT_MINSIGSTKSZ, in bytes
	// VDSO maps the vDSO and returns the address of its ELF header; nil: there is none.
	VDSO func(*mm.AddressSpace) (uint64, error)
}

// Identity is as whom a program runs.
type Identity struct {
	UID, EUID, GID, EGID uint32
	Secure               bool // AT_SECURE
	FixedLayout          bool // no address space randomization
}

// Image is a loaded program. Addresses are in its memory; ranges end before their End.
type Image struct {
	Entry, StackPointer uint64

	// File is what was loaded: Params.File, or the interpreter of a script. That one was Opened: the
	// caller releases it. Path is its name.
	File   File
	Opened bool
	Path   string

	Base   uint64 // of the interpreter (AT_BASE)
	Bias   uint64 // what was added to the program's own addresses
	Brk    uint64 // where the heap starts
	Layout mm.Layout
	Auxv   []byte // as it stands on the stack, AT_NULL included

	ArgStart, ArgEnd, EnvStart, EnvEnd     uint64
	AuxvStart, AuxvEnd                     uint64
	CodeStart, CodeEnd, DataStart, DataEnd uint64
	StackStart                             uint64 // StackPointer, for /proc/PID/stat
}

// Load loads the program that p describes and makes its stack. Any error is an *Error. After one,
// the address space is fit for nothing but its release.
func Load(p Params) (*Image, error) {
	r, err := p.resolve()
	if err != nil {
		return nil, err
	}
	im := &Image{File: r.file, Opened: r.opened, Path: r.path}
	identity, err := p.Identify(im.File)
	if err != nil {
		err = failed(err, "%s: gives no privileges", im.Path)
	} else {
		err = (&loading{p, identity}).load(im, r.args)
	}
	if err != nil {
		r.release()
		return nil, err
	}
	return im, nil
}

// loading is the loading of one program.
type loading struct {
	Params
	Identity
}

func (p *loading) load(im *Image, args []string) error {
	main, err := parse(im.File, im.Path, unix.ENOEXEC)
	if err != nil {
		return err
	}
	var interp *program
	if main.interp != "" {
		file, err := p.Open(main.interp)
		if err != nil {
			return noInterpreter(err, im.Path, "needs the interpreter", main.interp)
		}
		defer file.Release()
		if interp, err = parse(file, main.interp, unix.ELIBBAD); err != nil {
			return because(err, im.Path)
		}
		interp.interp = "" // an interpreter's own is ignored
		if err := interp.checkEntry(main.interp, unix.ELIBBAD); err != nil {
			return because(err, im.Path)
		}
		return p.place(im, args, main, interp, file)
	}
	return p.place(im, args, main, nil, nil)
}

// because says of an error with the interpreter which program wanted it.
func because(err error, name string) error {
	var e *Error
	errors.As(err, &e)
	return &Error{e.Errno, e.Status, name + ": cannot be started by its interpreter: " + e.Sentence}
}

// place maps the program, its interpreter and the vDSO, and makes the stack.
func (p *loading) place(im *Image, args []string, main, interp *program, interpFile File) error {
	s, err := p.measure(im.Path, args)
	if err != nil {
		return err
	}
	random := p.Random
	if p.FixedLayout {
		random = nil
	}
	im.Layout = mm.NewLayout(p.StackLimit, random)
	p.Space.SetMmapBase(im.Layout.MmapBase)
	if err := p.Space.SetStack(im.Layout.StackTop, s.reserve(p.StackLimit), main.exec); err != nil {
		return failed(err, "%s: its stack cannot be made", im.Path)
	}
	l := loader{p.Space, im.File, im.Path}
	if im.Bias, err = l.chooseBias(main, im.Layout.PIEBase); err != nil {
		return err
	}
	if err := l.mapAll(main, im.Bias); err != nil {
		return err
	}
	end := im.bounds(main)
	im.Entry = main.entry + im.Bias
	if interp != nil {
		l := loader{p.Space, interpFile, main.interp}
		if im.Base, err = l.chooseBias(interp, 0); err != nil {
			return because(err, im.Path)
		}
		if err := l.mapAll(interp, im.Base); err != nil {
			return because(err, im.Path)
		}
		im.Entry = interp.entry + im.Base
	}
	ehdr := uint64(0)
	if p.VDSO != nil {
		if ehdr, err = p.VDSO(p.Space); err != nil {
			return failed(err, "%s: the vDSO cannot be mapped", im.Path)
		}
	}
	if err := p.writeStack(im, s, main, ehdr); err != nil {
		return err
	}
	p.placeHeap(im, main, end)
	return nil
}

// placeHeap chooses where the heap starts: behind the program's image, but for one that was loaded
// where mmap finds room. That one's heap would soon meet other mappings, and grows where programs
// with an interpreter are loaded instead.
func (p *loading) placeHeap(im *Image, main *program, end uint64) {
	switch {
	case main.kind == etDyn && main.interp == "":
		end = im.Layout.PIEBase + mm.PageSize
	case !p.FixedLayout:
		end += mm.PageSize // so that the heap never adjoins the BSS
	}
	im.Brk = pageEnd(end) + im.Layout.BrkGap
	p.Space.SetBrk(im.Brk)
}

// bounds notes where code and data are, and returns the end of the program's memory, page aligned.
func (im *Image) bounds(main *program) (end uint64) {
	codeStart, first := ^uint64(0), true
	for s := range main.loads {
		if s.flags&pfExec != 0 {
			codeStart = min(codeStart, s.vaddr)
			im.CodeEnd = max(im.CodeEnd, s.vaddr+s.fileSize+im.Bias)
		}
		if at := s.vaddr + im.Bias; first || at > im.DataStart {
			im.DataStart, first = at, false
		}
		im.DataEnd = max(im.DataEnd, s.vaddr+s.fileSize+im.Bias)
		end = max(end, s.vaddr+s.memory+im.Bias)
	}
	if codeStart != ^uint64(0) {
		im.CodeStart = codeStart + im.Bias
	}
	return pageEnd(end)
}

// loader maps the segments of one file.
type loader struct {
	space *mm.AddressSpace
	file  File
	name  string
}

// chooseBias returns what is added to the addresses of a file: nothing for ET_EXEC; for ET_DYN what
// puts its first segment at base if the file has an interpreter, and where mmap finds room otherwise (the
// interpreter itself, a static PIE).
func (l *loader) chooseBias(p *program, base uint64) (uint64, error) {
	var first *segment
	for s := range p.loads {
		first = s
		break
	}
	if p.kind == etExec || first == nil {
		return 0, nil
	}
	if p.interp == "" {
		span := p.span()
		if span == 0 {
			return 0, nil
		}
		at, err := l.space.Mmap(mm.MmapArgs{Length: span, Prot: unix.PROT_NONE, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS})
		if err == nil {
			err = l.space.Munmap(at, span)
		}
		if err != nil {
			return 0, l.cannotMap(err, first)
		}
		base = at
	}
	base &^= p.alignment() - 1
	return base - pageStart(first.vaddr), nil
}

func (l *loader) mapAll(p *program, bias uint64) error {
	flags := unix.MAP_PRIVATE | unix.MAP_FIXED_NOREPLACE
	for s := range p.loads {
		if err := l.mapSegment(s, bias, flags); err != nil {
			return err
		}
		flags = unix.MAP_PRIVATE | unix.MAP_FIXED
	}
	return nil
}

// mapSegment maps the pages of a segment that come from the file, clears what follows the file's bytes
// on the last of them, and maps the rest as zeroed memory.
func (l *loader) mapSegment(s *segment, bias uint64, flags int) error {
	if s.memory == 0 {
		return nil
	}
	at := s.vaddr + bias
	if at >= mm.UserEnd || s.memory > mm.UserEnd-at {
		return refuse(unix.EINVAL, "%s: its segment at %#x ends above the program's addresses when it is loaded at %#x", l.name, s.vaddr, at)
	}
	prot := s.prot()
	zero := pageStart(at)
	if s.fileSize != 0 {
		start, end := pageStart(at), at+s.fileSize
		zero = pageEnd(end)
		_, err := l.space.Mmap(mm.MmapArgs{
			Addr: start, Length: zero - start, Prot: prot, Flags: flags, File: l.file.Mappable(), Offset: pageStart(s.offset),
		})
		if err != nil {
			return l.cannotMap(err, s)
		}
		// As on Linux, a segment that cannot be written keeps what the file has there.
		if s.memory > s.fileSize && prot&unix.PROT_WRITE != 0 {
			if _, err := l.space.ForcedCopyOut(end, zeroes[:zero-end]); err != nil {
				return failed(copyError(l.space), "%s: the end of its segment at %#x cannot be cleared", l.name, s.vaddr)
			}
		}
		flags = unix.MAP_PRIVATE | unix.MAP_FIXED
	}
	if end := pageEnd(at + s.memory); s.memory > s.fileSize && end > zero {
		_, err := l.space.Mmap(mm.MmapArgs{
			Addr: zero, Length: end - zero, Flags: flags | unix.MAP_ANONYMOUS,
			Prot: unix.PROT_READ | unix.PROT_WRITE | prot&unix.PROT_EXEC, // whatever the segment says
		})
		if err != nil {
			return l.cannotMap(err, s)
		}
	}
	return nil
}

func (l *loader) cannotMap(err error, s *segment) error {
	switch errno := errnoOf(err); errno {
	case unix.ENOMEM:
		return failed(err, "%s: its segment at %#x of %d bytes cannot be mapped", l.name, s.vaddr, s.memory)
	case unix.EEXIST:
		return refuse(errno, "%s: its segment at %#x lies where the stack or another mapping is", l.name, s.vaddr)
	default:
		return refuse(errno, "%s: its segment at %#x of %d bytes cannot be mapped: %v", l.name, s.vaddr, s.memory, err)
	}
}

// copyError returns why a copy into space failed.
func copyError(space *mm.AddressSpace) error {
	if space.OutOfMemory() {
		return unix.ENOMEM
	}
	return unix.EFAULT
}

var zeroes [mm.PageSize]byte
