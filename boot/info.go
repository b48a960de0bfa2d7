// Package boot reads what a boot loader hands over: the boot information of the multiboot and PVH
// protocols as one Go struct (Parse), and the command line in it (ParseCommandLine).
//
// What it reads comes from outside and is not trusted: every length is bounded, every address goes
// through the caller's mem, and what doesn't make sense is an error with a sentence. The package
// keeps no reference to the memory that it reads.
package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// What the entry stub passes as magic (elver/boot/image).
const (
	MultibootMagic = 0x2badb002 // Multiboot Specification 0.6.96, 3.2
	PVHMagic       = 0x336ec578 // Xen's public/arch-x86/hvm/start_info.h
)

// Bounds on what a loader may hand over.
const (
	maxStringBytes   = 64 << 10
	maxModules       = 64
	maxMemoryRanges  = 1024
	maxMemoryMapSize = 64 << 10
)

// Protocol is how the kernel was started.
type Protocol uint8

const (
	Multiboot Protocol = iota + 1
	PVH
)

func (p Protocol) String() string {
	switch p {
	case Multiboot:
		return "multiboot"
	case PVH:
		return "PVH"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// MemoryKind says what a range of physical memory may be used for. The values are those of the
// address range types of ACPI 6.5, 15.1, which both protocols use.
type MemoryKind uint32

const (
	Usable          MemoryKind = 1
	Reserved        MemoryKind = 2
	ACPIReclaimable MemoryKind = 3 // usable once the ACPI tables have been read
	ACPINonVolatile MemoryKind = 4
	Unusable        MemoryKind = 5 // found to have errors
)

// MemoryRange is a range of physical addresses, End excluded.
type MemoryRange struct {
	Start, End uint64
	Kind       MemoryKind
}

// Module is a file that the loader put into memory, End excluded.
type Module struct {
	Start, End uint64
	// String is what the loader says about the module. From QEMU by multiboot it is the file's
	// path, with what follows it in the -initrd option; from GRUB what the user wrote after the
	// file's name; by PVH often empty.
	String string
}

// Info is what the loader handed over.
type Info struct {
	Protocol Protocol
	Loader   string // the loader's name; empty by PVH
	// CommandLine is without the path of the kernel, which most multiboot loaders put first.
	CommandLine string
	Modules     []Module
	// MemoryMap is in the loader's order; ranges may overlap, and then the one that isn't usable
	// counts. It is empty when the loader gives none (PVH version 0).
	MemoryMap []MemoryRange
	// RSDP is the physical address of the ACPI root pointer, 0 when the loader doesn't give it.
	RSDP uint64
	// InitrdName is the base name of the first module's file, empty when it isn't known.
	InitrdName string
	// BundledLine is the command line that the image has inside; see AddBundle.
	BundledLine string
}

// Parse reads the boot information at physical address info. magic tells the protocol. mem returns
// the n bytes of memory at pa, or false where there is no memory; it is asked for few bytes at once
// and its result is not kept.
func Parse(magic uint32, info uint64, mem func(pa uint64, n int) ([]byte, bool)) (*Info, error) {
	r := reader{mem: mem}
	var i *Info
	switch magic {
	case MultibootMagic:
		i = r.multiboot(info)
	case PVHMagic:
		i = r.pvh(info)
	default:
		return nil, fmt.Errorf("the boot loader speaks neither multiboot nor PVH: its magic number is %#x", magic)
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(i.Modules) > 0 {
		path, _, _ := strings.Cut(strings.TrimLeft(i.Modules[0].String, " "), " ")
		i.InitrdName = baseName(path)
	}
	return i, nil
}

// baseName returns what follows the last slash.
func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// reader reads physical memory and remembers the first error, after which everything reads as zero.
type reader struct {
	mem func(pa uint64, n int) ([]byte, bool)
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// bytes returns n bytes at pa.
func (r *reader) bytes(what string, pa uint64, n int) []byte {
	if r.err == nil {
		if pa <= math.MaxUint64-uint64(n) {
			if b, ok := r.mem(pa, n); ok && len(b) >= n {
				return b[:n]
			}
		}
		r.fail("the boot loader's %s at %#x, %d bytes long, is not in memory", what, pa, n)
	}
	return make([]byte, n)
}

// string returns the NUL-terminated string at pa.
func (r *reader) string(what string, pa uint64) string {
	var s []byte
	for r.err == nil {
		// Up to an aligned boundary, beyond which there may be no memory.
		const chunk = 256
		b := r.bytes(what, pa, chunk-int(pa%chunk))
		if end := bytes.IndexByte(b, 0); end >= 0 {
			return string(append(s, b[:end]...))
		}
		s = append(s, b...)
		pa += uint64(len(b))
		if len(s) >= maxStringBytes {
			r.fail("the boot loader's %s is longer than %d bytes", what, maxStringBytes)
		}
	}
	return ""
}

var le = binary.LittleEndian

// The multiboot information (Multiboot Specification 0.6.96, 3.3).
const (
	multibootInfoBytes = 68 // to the end of boot_loader_name

	multibootHasMemory      = 1 << 0
	multibootHasCommandLine = 1 << 2
	multibootHasModules     = 1 << 3
	multibootHasMemoryMap   = 1 << 6
	multibootHasLoaderName  = 1 << 9
)

func (r *reader) multiboot(pa uint64) *Info {
	i := &Info{Protocol: Multiboot}
	b := r.bytes("multiboot information", pa, multibootInfoBytes)
	word := func(offset int) uint32 { return le.Uint32(b[offset:]) }
	has := func(flag uint32) bool { return word(0)&flag != 0 }

	if has(multibootHasLoaderName) {
		i.Loader = r.string("name", uint64(word(64)))
	}
	if has(multibootHasCommandLine) {
		i.CommandLine = withoutKernelPath(i.Loader, r.string("command line", uint64(word(16))))
	}
	if has(multibootHasModules) {
		count, at := word(20), uint64(word(24))
		if count > maxModules {
			r.fail("the boot loader passes %d modules, more than %d", count, maxModules)
		}
		for ; count > 0 && r.err == nil; count, at = count-1, at+16 {
			m := r.bytes("module list", at, 16)
			module := Module{Start: uint64(le.Uint32(m)), End: uint64(le.Uint32(m[4:]))}
			if s := le.Uint32(m[8:]); s != 0 {
				module.String = r.string("module string", uint64(s))
			}
			r.addModule(i, module)
		}
	}
	switch {
	case has(multibootHasMemoryMap):
		r.multibootMemoryMap(i, uint64(word(48)), word(44))
	case has(multibootHasMemory):
		// Sizes in KiB from 0 and from 1 MiB to the first hole.
		i.addMemory(0, uint64(word(4))<<10, Usable)
		i.addMemory(1<<20, uint64(word(8))<<10, Usable)
	}
	return i
}

// multibootMemoryMap reads entries that each begin with their own size, which doesn't count itself.
func (r *reader) multibootMemoryMap(i *Info, at uint64, length uint32) {
	const entryBytes = 20
	if length > maxMemoryMapSize {
		r.fail("the boot loader's memory map is %d bytes long, more than %d", length, maxMemoryMapSize)
	}
	for end := at + uint64(length); at+4+entryBytes <= end && r.err == nil; {
		e := r.bytes("memory map", at, 4+entryBytes)
		size := le.Uint32(e)
		if size < entryBytes {
			r.fail("the boot loader's memory map has an entry of %d bytes, fewer than %d", size, entryBytes)
			return
		}
		i.addMemory(le.Uint64(e[4:]), le.Uint64(e[12:]), MemoryKind(le.Uint32(e[20:])))
		at += 4 + uint64(size)
	}
}

// withoutKernelPath removes the kernel's path from a multiboot command line. QEMU, GRUB Legacy and
// most others put it first; GRUB 2, which calls itself "GRUB 2.x", doesn't. QEMU quotes nothing: a
// kernel path with a space in it can't be told from an argument.
func withoutKernelPath(loader, line string) string {
	if strings.HasPrefix(loader, "GRUB ") {
		return line
	}
	_, rest, _ := strings.Cut(line, " ")
	return rest
}

// struct hvm_start_info (Xen's public/arch-x86/hvm/start_info.h).
const (
	pvhInfoBytesV0     = 40
	pvhInfoBytesV1     = 56
	pvhModuleBytes     = 32
	pvhMemoryMapBytes  = 24
	pvhVersionWithMaps = 1
)

func (r *reader) pvh(pa uint64) *Info {
	i := &Info{Protocol: PVH}
	b := r.bytes("PVH start information", pa, pvhInfoBytesV0)
	if magic := le.Uint32(b); magic != PVHMagic {
		r.fail("the PVH start information at %#x begins with %#x, want %#x", pa, magic, PVHMagic)
	}
	version := le.Uint32(b[4:])
	if count, at := le.Uint32(b[12:]), le.Uint64(b[16:]); count > maxModules {
		r.fail("the boot loader passes %d modules, more than %d", count, maxModules)
	} else {
		for ; count > 0 && r.err == nil; count, at = count-1, at+pvhModuleBytes {
			m := r.bytes("module list", at, pvhModuleBytes)
			start, size := le.Uint64(m), le.Uint64(m[8:])
			module := Module{Start: start, End: start + size}
			if s := le.Uint64(m[16:]); s != 0 {
				module.String = r.string("module string", s)
			}
			r.addModule(i, module)
		}
	}
	if s := le.Uint64(b[24:]); s != 0 {
		i.CommandLine = r.string("command line", s)
	}
	i.RSDP = le.Uint64(b[32:])
	if version < pvhVersionWithMaps {
		return i
	}
	b = r.bytes("PVH start information", pa, pvhInfoBytesV1)
	at, count := le.Uint64(b[40:]), le.Uint32(b[48:])
	if count > maxMemoryRanges {
		r.fail("the boot loader's memory map has %d entries, more than %d", count, maxMemoryRanges)
	}
	for ; count > 0 && r.err == nil; count, at = count-1, at+pvhMemoryMapBytes {
		e := r.bytes("memory map", at, pvhMemoryMapBytes)
		i.addMemory(le.Uint64(e), le.Uint64(e[8:]), MemoryKind(le.Uint32(e[16:])))
	}
	return i
}

func (r *reader) addModule(i *Info, m Module) {
	if m.End < m.Start {
		r.fail("the boot loader's module %q ends at %#x, before it begins at %#x", m.String, m.End, m.Start)
	}
	i.Modules = append(i.Modules, m)
}

// addMemory adds a range to the map. Types that ACPI doesn't define yet are reserved to the
// firmware, as ACPI 6.5, 15.1 asks.
func (i *Info) addMemory(start, size uint64, kind MemoryKind) {
	if size == 0 || len(i.MemoryMap) == maxMemoryRanges {
		return
	}
	if kind < Usable || kind > Unusable {
		kind = Reserved
	}
	end := start + size
	if end < start {
		end = math.MaxUint64
	}
	i.MemoryMap = append(i.MemoryMap, MemoryRange{Start: start, End: end, Kind: kind})
}
