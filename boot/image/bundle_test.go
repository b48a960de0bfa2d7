package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"elver/boot"
)

// zeros is a file of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBundle(t *testing.T) {
	kernel := write(t, linked{code: someCode}, Options{})
	if ok, bundle := IsKernel(kernel[:pageSize]); !ok || bundle {
		t.Errorf("a kernel: %v, a bundle: %v", ok, bundle)
	}
	line, module := "a=b -- c", strings.Repeat("0123456789", 1000)
	var out bytes.Buffer
	if err := Bundle(&out, kernel, line, strings.NewReader(module), int64(len(module))); err != nil {
		t.Fatal(err)
	}
	file := out.Bytes()
	if ok, bundle := IsKernel(file[:pageSize]); !ok || !bundle {
		t.Errorf("a kernel: %v, a bundle: %v", ok, bundle)
	}
	word := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(file[at:])) }
	start, loadEnd, bssEnd := word(multibootOffset+16), word(multibootOffset+20), word(multibootOffset+24)
	if loadEnd-start != uint64(len(file)) || bssEnd != loadEnd {
		t.Errorf("loaded are %#x to %#x, of a file of %#x", start, loadEnd, len(file))
	}
	b := boot.DecodeBundle(file[boot.BundleOffset:])
	if got := file[b.Line-start:][:b.LineBytes]; string(got) != line {
		t.Errorf("the command line is %q", got)
	}
	if got := file[b.Module.Start-start : b.Module.End-start]; string(got) != module || b.Module.Start%pageSize != 0 {
		t.Errorf("the module at %#x has %d bytes", b.Module.Start, len(got))
	}
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	last := f.Progs[len(f.Progs)-1]
	if last.Type != elf.PT_LOAD || last.Paddr != b.Line || last.Paddr+last.Filesz != b.Module.End || last.Off != b.Line-start {
		t.Errorf("the last segment is %+v", last.ProgHeader)
	}
	for _, p := range f.Progs[:len(f.Progs)-1] {
		if p.Paddr < last.Paddr+last.Memsz && last.Paddr < p.Paddr+p.Memsz {
			t.Errorf("segment %+v lies over the last", p.ProgHeader)
		}
	}
	for name, err := range map[string]error{
		"a bundle":     Bundle(io.Discard, file, "", strings.NewReader(""), 0),
		"no kernel":    Bundle(io.Discard, make([]byte, 8192), "", strings.NewReader(""), 0),
		"short module": Bundle(io.Discard, kernel, "", strings.NewReader("x"), 2),
		"too large":    Bundle(io.Discard, kernel, "", zeros{}, 3<<30),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
