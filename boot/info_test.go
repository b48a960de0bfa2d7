package boot

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
)

// memory is physical memory from address base on.
type memory struct {
	base uint64
	b    []byte
}

func (m *memory) view(pa uint64, n int) ([]byte, bool) {
	if pa < m.base || pa-m.base > uint64(len(m.b)) || uint64(n) > uint64(len(m.b))-(pa-m.base) {
		return nil, false
	}
	return m.b[pa-m.base:][:n], true
}

// add appends values and returns the address of the first.
func (m *memory) add(values ...any) uint64 {
	for len(m.b)%8 != 0 {
		m.b = append(m.b, 0)
	}
	at := m.base + uint64(len(m.b))
	for _, v := range values {
		if s, ok := v.(string); ok {
			m.b = append(m.b, s...)
			m.b = append(m.b, 0)
			continue
		}
		var err error
		if m.b, err = binary.Append(m.b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return at
}

// end fills memory up to a chunk of strings.
func (m *memory) end() { m.b = append(m.b, make([]byte, 512)...) }

// multibootFields is a multiboot information structure with the fields that are read.
type multibootFields struct {
	flags, lower, upper, commandLine, modules, modulesAt, mapBytes, mapAt, loader uint32
}

func (f multibootFields) words() []uint32 {
	w := make([]uint32, 17)
	w[0], w[1], w[2], w[4], w[5], w[6], w[11], w[12], w[16] = f.flags, f.lower, f.upper, f.commandLine, f.modules, f.modulesAt, f.mapBytes, f.mapAt, f.loader
	return w
}

func multibootExample(loader, line, module string) (*memory, uint64) {
	m := &memory{base: 0x9000}
	f := multibootFields{flags: 1 | 1<<2 | 1<<3 | 1<<6 | 1<<9, lower: 640, upper: 1000, modules: 1}
	f.loader = uint32(m.add(loader))
	f.commandLine = uint32(m.add(line))
	f.modulesAt = uint32(m.add(uint32(0x200000), uint32(0x201234), uint32(m.add(module)), uint32(0)))
	f.mapAt = uint32(m.add(
		uint32(20), uint64(0), uint64(0x9fc00), uint32(1),
		uint32(24), uint64(0x100000), uint64(0x7f00000), uint32(1), uint32(0), // a longer entry
		uint32(20), uint64(0xfffc0000), uint64(0x40000), uint32(2),
		uint32(20), uint64(0xfffffffffffff000), uint64(0x2000), uint32(99),
		uint32(20), uint64(5), uint64(0), uint32(1),
	))
	f.mapBytes = 4*24 + 28
	at := m.add(f.words())
	m.end()
	return m, at
}

func TestMultiboot(t *testing.T) {
	m, at := multibootExample("qemu", "build/elver.kernel elver.strace=1 -- a b", "/tmp/dir/hello rest of it")
	got, err := Parse(MultibootMagic, at, m.view)
	if err != nil {
		t.Fatal(err)
	}
	want := &Info{
		Protocol:    Multiboot,
		Loader:      "qemu",
		CommandLine: "elver.strace=1 -- a b",
		Modules:     []Module{{0x200000, 0x201234, "/tmp/dir/hello rest of it"}},
		MemoryMap: []MemoryRange{
			{0, 0x9fc00, Usable},
			{0x100000, 0x8000000, Usable},
			{0xfffc0000, 0x100000000, Reserved},
			{0xfffffffffffff000, 0xffffffffffffffff, Reserved},
		},
		InitrdName: "hello",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf(" got %+v\nwant %+v", got, want)
	}
}

func TestKernelPath(t *testing.T) {
	for _, test := range []struct{ loader, line, want string }{
		{"qemu", "/path/kernel ", ""},
		{"qemu", "/path/kernel", ""},
		{"qemu", "kernel a 'b c'", "a 'b c'"},
		{"GRUB 2.06-13", "a b", "a b"},
		{"GRUB 2.12", "", ""},
		{"GNU GRUB 0.97", "/kernel a b", "a b"},
		{"", "/kernel a b", "a b"},
	} {
		m, at := multibootExample(test.loader, test.line, "")
		i, err := Parse(MultibootMagic, at, m.view)
		if err != nil || i.CommandLine != test.want || i.InitrdName != "" {
			t.Errorf("%q from %q becomes %q, want %q (%v)", test.line, test.loader, i.CommandLine, test.want, err)
		}
	}
}

func TestMultibootLeast(t *testing.T) {
	m := &memory{base: 0x1000}
	at := m.add(multibootFields{flags: 1, lower: 640, upper: 31 << 10}.words())
	got, err := Parse(MultibootMagic, at, m.view)
	want := &Info{Protocol: Multiboot, MemoryMap: []MemoryRange{{0, 640 << 10, Usable}, {1 << 20, 32 << 20, Usable}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func pvhExample(version uint32) (*memory, uint64) {
	m := &memory{base: 0x5000}
	line := m.add("elver.log=info -- a")
	module := m.add("/boot/root.cpio")
	modules := m.add(
		uint64(0x7000000), uint64(0x1234), module, uint64(0),
		uint64(0x8000000), uint64(0), uint64(0), uint64(0),
	)
	memmap := m.add(
		uint64(0), uint64(0xa0000), uint32(1), uint32(0),
		uint64(0x100000000), uint64(0x40000000), uint32(3), uint32(0),
	)
	at := m.add(uint32(PVHMagic), version, uint32(0), uint32(2), modules, line, uint64(0xf5aa0))
	if version > 0 {
		m.add(memmap, uint32(2), uint32(0))
	}
	if version > 0 {
		m.end()
	}
	return m, at
}

func TestPVH(t *testing.T) {
	for version := range uint32(3) {
		m, at := pvhExample(version)
		got, err := Parse(PVHMagic, at, m.view)
		if version == 0 && err != nil {
			// The strings' chunk reaches beyond this memory's end: give it more.
			m.end()
			got, err = Parse(PVHMagic, at, m.view)
		}
		if err != nil {
			t.Fatal(err)
		}
		want := &Info{
			Protocol:    PVH,
			CommandLine: "elver.log=info -- a",
			Modules:     []Module{{0x7000000, 0x7001234, "/boot/root.cpio"}, {Start: 0x8000000, End: 0x8000000}},
			RSDP:        0xf5aa0,
			InitrdName:  "root.cpio",
		}
		if version > 0 {
			want.MemoryMap = []MemoryRange{{0, 0xa0000, Usable}, {0x100000000, 0x140000000, ACPIReclaimable}}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("version %d:\n got %+v\nwant %+v", version, got, want)
		}
	}
}

func TestHostileInfo(t *testing.T) {
	put32 := func(m *memory, pa uint64, v uint32) { binary.LittleEndian.PutUint32(m.b[pa-m.base:], v) }
	type example func() (*memory, uint64)
	multiboot := func() (*memory, uint64) { return multibootExample("qemu", "k", "m") }
	pvh := func() (*memory, uint64) { m, at := pvhExample(1); return m, at }
	for _, test := range []struct {
		name    string
		example example
		magic   uint32
		offset  uint64
		value   uint32
		want    string
	}{
		{"magic", multiboot, 0x12345678, 0, 0x24f, "neither multiboot nor PVH"},
		{"modules", multiboot, MultibootMagic, 20, 1 << 31, "modules"},
		{"modules address", multiboot, MultibootMagic, 24, 0xfffffff8, "not in memory"},
		{"memory map", multiboot, MultibootMagic, 44, 0xffffffff, "memory map is"},
		{"memory map address", multiboot, MultibootMagic, 48, 0xffffffff, "not in memory"},
		{"command line", multiboot, MultibootMagic, 16, 0xffffffff, "not in memory"},
		{"PVH magic", pvh, PVHMagic, 0, 0, "begins with"},
		{"PVH modules", pvh, PVHMagic, 12, 1000, "modules"},
		{"PVH modules address", pvh, PVHMagic, 20, 0xffffffff, "not in memory"},
		{"PVH command line", pvh, PVHMagic, 28, 0xffffffff, "not in memory"},
		{"PVH memory map", pvh, PVHMagic, 48, 1 << 30, "memory map has"},
	} {
		m, at := test.example()
		put32(m, at+test.offset, test.value)
		if _, err := Parse(test.magic, at, m.view); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want %q in it", test.name, err, test.want)
		}
	}

	// A string without an end, an entry that is too short, a module that ends before it begins.
	m := &memory{base: 0, b: []byte(strings.Repeat("x", 2*maxStringBytes))}
	at := m.add(multibootFields{flags: multibootHasCommandLine, commandLine: 16}.words())
	if _, err := Parse(MultibootMagic, at, m.view); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("endless command line: %v", err)
	}
	m = &memory{base: 0x1000}
	entries := m.add(uint32(0), make([]byte, 60))
	at = m.add(multibootFields{flags: multibootHasMemoryMap, mapAt: uint32(entries), mapBytes: 60}.words())
	if _, err := Parse(MultibootMagic, at, m.view); err == nil || !strings.Contains(err.Error(), "fewer than") {
		t.Errorf("entry of no bytes: %v", err)
	}
	m = &memory{base: 0x1000}
	module := m.add(uint32(8), uint32(7), uint32(0), uint32(0))
	at = m.add(multibootFields{flags: multibootHasModules, modules: 1, modulesAt: uint32(module)}.words())
	if _, err := Parse(MultibootMagic, at, m.view); err == nil || !strings.Contains(err.Error(), "before it begins") {
		t.Errorf("module that ends before it begins: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	m, at := multibootExample("qemu", "kernel a b", "hello")
	f.Add(uint32(MultibootMagic), at, m.base, m.b)
	m, at = pvhExample(1)
	f.Add(uint32(PVHMagic), at, m.base, m.b)
	f.Fuzz(func(t *testing.T, magic uint32, at, base uint64, b []byte) {
		m := &memory{base, b}
		reads := 0
		i, err := Parse(magic, at, func(pa uint64, n int) ([]byte, bool) {
			if reads++; reads > 1<<16 || n > 4096 {
				t.Fatalf("read %d is of %d bytes", reads, n)
			}
			return m.view(pa, n)
		})
		if err != nil {
			return
		}
		if len(i.Modules) > maxModules || len(i.MemoryMap) > maxMemoryRanges || len(i.CommandLine) > 2*maxStringBytes {
			t.Error("the information is longer than its bounds")
		}
		for _, r := range i.MemoryMap {
			if r.End <= r.Start || r.Kind < Usable || r.Kind > Unusable {
				t.Errorf("memory range %+v", r)
			}
		}
		for _, mod := range i.Modules {
			if mod.End < mod.Start {
				t.Errorf("module %+v", mod)
			}
		}
	})
}
