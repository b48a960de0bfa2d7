package elf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
)

// memoryFile is a File whose pages are frames.
type memoryFile struct {
	name  string
	data  []byte
	mu    sync.Mutex
	pages map[uint64]uint64
	maps  int // MapOpen less MapClose
	opens int // by Params.Open less Release
}

func newFile(name string, data []byte) *memoryFile {
	return &memoryFile{name: name, data: data, pages: map[uint64]uint64{}}
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.data).ReadAt(p, off)
}

func (f *memoryFile) Size() int64 { return int64(len(f.data)) }

func (f *memoryFile) Release() { f.opens-- }

func (f *memoryFile) Mappable() mm.Mappable { return f }

func (f *memoryFile) MapName() string { return f.name }

func (f *memoryFile) Ident() (dev, ino uint64) { return 1, uint64(len(f.name)) }

func (f *memoryFile) MapOpen() { f.maps++ }

func (f *memoryFile) MapClose() { f.maps-- }

func (f *memoryFile) MapFrame(off uint64, write bool) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= uint64(len(f.data)) {
		return 0, unix.EFAULT
	}
	pa, ok := f.pages[off]
	if !ok {
		if pa, ok = metal.AllocFrame(metal.OwnerPageCache); !ok {
			return 0, unix.ENOMEM
		}
		metal.Zero(pa, metal.FrameSize)
		copy(metal.View(pa, metal.FrameSize), f.data[off:])
		f.pages[off] = pa
	}
	metal.Ref(pa)
	return pa, nil
}

// drop gives the file's frames back.
func (f *memoryFile) drop() {
	for _, pa := range f.pages {
		metal.Unref(pa)
	}
	clear(f.pages)
}

// world is a root filesystem of memory files, and the check that nothing of it leaks.
type world struct {
	t      testing.TB
	files  map[string]*memoryFile
	before metal.Stats
}

func newWorld(t testing.TB) *world {
	return &world{t: t, files: map[string]*memoryFile{}, before: metal.Frames()}
}

func (w *world) add(name string, data []byte) *memoryFile {
	f := newFile(name, data)
	w.files[name] = f
	return f
}

func (w *world) open(path string) (File, error) {
	f, ok := w.files[path]
	if !ok {
		return nil, unix.ENOENT
	}
	f.opens++
	return f, nil
}

func runsAs(i Identity) func(File) (Identity, error) {
	return func(File) (Identity, error) { return i, nil }
}

func (w *world) params(as *mm.AddressSpace, path string) Params {
	return Params{
		Space: as, File: w.files[path], Path: path, Open: w.open, Args: []string{path, "one"}, Env: []string{"A=b"},
		StackLimit: 8 << 20, Random: rand.Uint64, SignalFrame: 2048, Identify: runsAs(Identity{}),
	}
}

func (w *world) space() *mm.AddressSpace {
	as, err := mm.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return as
}

// end releases as and checks that everything is as it was before.
func (w *world) end(as *mm.AddressSpace, im *Image) {
	w.t.Helper()
	as.Release()
	if im != nil && im.Opened {
		im.File.Release()
	}
	for name, f := range w.files {
		if f.maps != 0 || f.opens != 0 {
			w.t.Errorf("%s: %d mappings and %d opens are left", name, f.maps, f.opens)
		}
		f.drop()
	}
	if after := metal.Frames(); after.ByOwner != w.before.ByOwner || after.Free != w.before.Free {
		w.t.Errorf("frames: %+v before, %+v after", w.before, after)
	}
}

// load loads the program named path.
func (w *world) load(as *mm.AddressSpace, path string) (*Image, error) {
	return Load(w.params(as, path))
}

// recipe is an ELF file to be made.
type recipe struct {
	elf.Header64
	progs []elf.Prog64
	size  int
	patch map[int]string
}

// The code exits with the byte at data, which is 7 if the program was loaded as it should be.
const (
	smallBase = 0x400000
	textAt    = 0x400
	dataAt    = 0x1080 // in the file
	dataVaddr = 0x3080
	status    = 7
)

// small is the recipe of a correct program: text and, on other pages, data and BSS.
func small(kind elf.Type) *recipe {
	base := uint64(smallBase)
	if kind == elf.ET_DYN {
		base = 0
	}
	r := &recipe{size: dataAt + 0x100, patch: map[int]string{}}
	copy(r.Ident[:], "\x7fELF\x02\x01\x01")
	r.Type, r.Machine, r.Version = uint16(kind), uint16(elf.EM_X86_64), 1
	r.Entry, r.Phoff, r.Ehsize, r.Phentsize, r.Shentsize = base+textAt, headerSize, headerSize, segmentSize, 64
	r.progs = []elf.Prog64{
		{Type: ptLoad, Flags: pfRead | pfExec, Vaddr: base, Paddr: base, Filesz: 0x800, Memsz: 0x800, Align: 4096},
		{Type: ptLoad, Flags: pfRead | pfWrite, Off: dataAt, Vaddr: base + dataVaddr, Paddr: base + dataVaddr, Filesz: 0x100, Memsz: 0x2f80, Align: 4096},
		{Type: ptGNUStack, Flags: pfRead | pfWrite, Align: 16},
	}
	code := "\x0f\xb6\x3d" + le32(dataVaddr-(textAt+7)) + // movzx edi, byte [rip + data]
		"\xb8\xe7\x00\x00\x00\x0f\x05" // mov eax, 231; syscall: exit_group
	r.patch[textAt] = code
	r.patch[dataAt] = string([]byte{status})
	return r
}

func le32(v int32) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(v))) }

// interpreted is the recipe of a program that names an interpreter.
func interpreted(kind elf.Type, path string) *recipe {
	r := small(kind)
	r.patch[0x600] = path + "\x00"
	r.progs = append([]elf.Prog64{{Type: ptInterp, Flags: pfRead, Off: 0x600, Vaddr: r.progs[0].Vaddr + 0x600, Filesz: uint64(len(path) + 1), Memsz: uint64(len(path) + 1), Align: 1}}, r.progs...)
	return r
}

func (r *recipe) build() []byte {
	var b bytes.Buffer
	if r.Phnum == 0 {
		r.Phnum = uint16(len(r.progs))
	}
	binary.Write(&b, binary.LittleEndian, &r.Header64)
	file := make([]byte, r.size)
	for at, p := range r.patch {
		copy(file[at:], p)
	}
	var table bytes.Buffer
	binary.Write(&table, binary.LittleEndian, r.progs)
	copy(file, b.Bytes())
	if r.Phoff < uint64(len(file)) {
		copy(file[r.Phoff:], table.Bytes())
	}
	return file
}
