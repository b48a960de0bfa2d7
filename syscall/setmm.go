package syscall

import (
	"golang.org/x/sys/unix"

	"elver/elf"
	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// memoryMap is what PR_SET_MM sets, in the order of struct prctl_mm_map and, from 1 on, of the single
// options (PR_SET_MM_START_CODE to PR_SET_MM_ENV_END).
type memoryMap struct {
	fields [11]uint64
	auxv   []byte // nil: as it is
}

// Indices of memoryMap.fields.
const (
	startCode = iota
	endCode
	startData
	endData
	startStack
	startHeap
	endHeap
	argStart
	argEnd
	envStart
	envEnd
)

const (
	sizeOfMemoryMap  = 104 // struct prctl_mm_map
	maxAuxv          = 416 // bytes: mm_struct.saved_auxv of Linux 6.12
	noFile           = ^uint32(0)
	mmapMin, mmapMax = mm.MinAddr, mm.UserEnd
)

// setMM is prctl(PR_SET_MM): where /proc and brk(2) look for what execve placed.
func setMM(t *kernel.Thread, option, addr, arg4, arg5 uint64) error {
	whole := option == unix.PR_SET_MM_MAP || option == unix.PR_SET_MM_MAP_SIZE
	if arg5 != 0 || arg4 != 0 && !whole && option != unix.PR_SET_MM_AUXV {
		return unix.EINVAL
	}
	switch option {
	case unix.PR_SET_MM_MAP_SIZE:
		return t.MM().WriteUint32(addr, sizeOfMemoryMap)
	case unix.PR_SET_MM_MAP:
		return setMemoryMap(t, addr, arg4)
	}
	if !t.Creds().HasCap(unix.CAP_SYS_RESOURCE) {
		return unix.EPERM
	}
	switch {
	case option == unix.PR_SET_MM_EXE_FILE:
		return setExeFile(t, int32(addr))
	case option == unix.PR_SET_MM_AUXV:
		m := memoryMapOf(t)
		if err := m.readAuxv(t, addr, arg4); err != nil {
			return err
		}
		m.apply(t)
		return nil
	case addr < mmapMin || addr >= mmapMax || option < unix.PR_SET_MM_START_CODE || option > unix.PR_SET_MM_ENV_END:
		return unix.EINVAL
	}
	m := memoryMapOf(t)
	field := option - unix.PR_SET_MM_START_CODE
	m.fields[field] = addr
	if err := m.check(t); err != nil {
		return err
	}
	if field == startStack || field >= argStart {
		above := false
		t.MM().Regions(func(r mm.Region) bool {
			above = r.End > addr
			return !above
		})
		if !above {
			return unix.EFAULT
		}
	}
	m.apply(t)
	return nil
}

// setMemoryMap is PR_SET_MM_MAP, everything at once.
func setMemoryMap(t *kernel.Thread, addr, size uint64) error {
	if size != sizeOfMemoryMap {
		return unix.EINVAL
	}
	var b [sizeOfMemoryMap]byte
	if err := copyIn(t, b[:], addr); err != nil {
		return err
	}
	m := memoryMapOf(t)
	// The structure has the stack behind the heap.
	for i, field := range [...]int{startCode, endCode, startData, endData, startHeap, endHeap, startStack, argStart, argEnd, envStart, envEnd} {
		m.fields[field] = word(b[:], 8*i)
	}
	if err := m.check(t); err != nil {
		return err
	}
	if n := uint64(halfword(b[:], 96)); n != 0 {
		if word(b[:], 88) == 0 {
			return unix.EINVAL
		}
		if err := m.readAuxv(t, word(b[:], 88), n); err != nil {
			return err
		}
	}
	if fd := halfword(b[:], 100); fd != noFile {
		if c := t.Creds(); !c.HasCap(unix.CAP_CHECKPOINT_RESTORE) && !c.HasCap(unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		if err := setExeFile(t, int32(fd)); err != nil {
			return err
		}
	}
	m.apply(t)
	return nil
}

func memoryMapOf(t *kernel.Thread) *memoryMap {
	e := t.Proc.Executable()
	start, end := t.MM().Heap()
	return &memoryMap{fields: [...]uint64{e.CodeStart, e.CodeEnd, e.DataStart, e.DataEnd, e.StackStart, start, end,
		e.ArgStart, e.ArgEnd, e.EnvStart, e.EnvEnd}}
}

// check is Linux's validate_prctl_map_addr: EINVAL.
func (m *memoryMap) check(t *kernel.Thread) error {
	for _, v := range m.fields {
		if v < mmapMin || v >= mmapMax {
			return unix.EINVAL
		}
	}
	f := &m.fields
	if f[startCode] >= f[endCode] || f[startData] > f[endData] || f[startHeap] > f[endHeap] || f[argStart] > f[argEnd] || f[envStart] > f[envEnd] {
		return unix.EINVAL
	}
	if f[endHeap]-f[startHeap]+f[endData]-f[startData] > t.Proc.Limits.Soft(unix.RLIMIT_DATA) {
		return unix.EINVAL
	}
	return nil
}

// readAuxv reads an auxiliary vector, which ends with AT_NULL at the latest where its room does.
func (m *memoryMap) readAuxv(t *kernel.Thread, addr, size uint64) error {
	if size > maxAuxv {
		return unix.EINVAL
	}
	var b [maxAuxv]byte
	if err := copyIn(t, b[:size], addr); err != nil {
		return err
	}
	const entry = 16
	clear(b[maxAuxv-entry:])
	n := 0
	for word(b[:], n) != 0 {
		n += entry
	}
	m.auxv = append([]byte(nil), b[:n+entry]...)
	return nil
}

// apply makes m the process's. The file stays.
func (m *memoryMap) apply(t *kernel.Thread) {
	f := &m.fields
	exchange(t, func(e *kernel.Executable) {
		e.CodeStart, e.CodeEnd, e.DataStart, e.DataEnd = f[startCode], f[endCode], f[startData], f[endData]
		e.StackStart = f[startStack]
		e.ArgStart, e.ArgEnd, e.EnvStart, e.EnvEnd = f[argStart], f[argEnd], f[envStart], f[envEnd]
		if m.auxv != nil {
			e.Auxv = m.auxv
		}
	})
	t.MM().SetHeap(f[startHeap], f[endHeap])
}

// exchange gives the process a changed copy of its Executable.
func exchange(t *kernel.Thread, change func(*kernel.Executable)) {
	e := *t.Proc.Executable()
	change(&e)
	t.Proc.SetExecutable(&e)
}

// descriptionOf returns the open file of e, nil if it has none.
func descriptionOf(e *kernel.Executable) *vfs.Description {
	d, _ := e.File.(*vfs.Description)
	return d
}

// setExeFile makes fd what /proc/self/exe leads to, once nothing of the old file is mapped any more: EBUSY.
func setExeFile(t *kernel.Thread, fd int32) error {
	c := filesOf(t)
	file, err := elf.OpenAt(c, fd, "", unix.AT_EMPTY_PATH)
	if err == unix.ETXTBSY {
		err = unix.EACCES // as Linux's replace_mm_exe_file has it
	}
	if err != nil {
		return err
	}
	d := elf.Description(file)
	if old := descriptionOf(t.Proc.Executable()); old != nil {
		dev, ino := uint64(0), uint64(0)
		if m, err := old.Mappable(c); err == nil && m != nil {
			dev, ino = m.Ident()
		}
		busy := false
		t.MM().Regions(func(r mm.Region) bool {
			busy = r.File != nil && r.Dev == dev && r.Ino == ino
			return !busy
		})
		if busy {
			file.Release()
			return unix.EBUSY
		}
	}
	e := *t.Proc.Executable()
	e.Path, e.File = c.Files.Name(d.Path()), d
	running := elf.Running(file)
	running.Acquire()
	old := t.MM().SetProgram(running)
	t.Proc.SetExecutable(&e)
	if old != nil {
		old.Release()
	}
	file.Release() // the address space keeps it
	return nil
}
