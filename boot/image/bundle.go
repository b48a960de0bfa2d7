package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"elver/boot"
)

// maxBundle is how far a bundle reaches, in bytes of physical memory: loaders work below 4 GiB, where
// machines have devices from 3 GiB on.
const maxBundle = 0xb0000000

// IsKernel reports whether a file that begins with page, 4 KiB, is an image that Write made, and whether it
// is a bundle.
func IsKernel(page []byte) (kernel, bundle bool) {
	if len(page) < pageSize || !bytes.HasPrefix(page, []byte(elf.ELFMAG)) ||
		binary.LittleEndian.Uint32(page[multibootOffset:]) != multibootHeaderMagic ||
		string(page[noteOffset+12:noteOffset+16]) != "Xen\x00" {
		return false, false
	}
	return true, boot.DecodeBundle(page[boot.BundleOffset:]) != nil
}

// Bundle writes an image that is kernel with a command line and a module of size bytes inside. Symbols are
// left out.
//
// To multiboot loaders the image is one flat piece, from the boot page to the module's end, with zeros where
// the kernel's scratch is; to PVH loaders the command line and the module are a segment of their own.
func Bundle(w io.Writer, kernel []byte, line string, module io.Reader, size int64) error {
	if len(kernel) < pageSize {
		return errors.New("the kernel is no image of Elver's")
	}
	if ok, bundle := IsKernel(kernel[:pageSize]); !ok || bundle {
		return errors.New("the kernel is no image of Elver's, or has something inside already")
	}
	word := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(kernel[at:])) }
	// The multiboot header's addresses: see page.
	start, loadEnd, scratchEnd := word(multibootOffset+16), word(multibootOffset+20), word(multibootOffset+24)
	if loadEnd < start+pageSize || loadEnd-start > uint64(len(kernel)) || scratchEnd < loadEnd || scratchEnd-loadEnd > 1<<20 {
		return errors.New("the kernel's headers make no sense")
	}
	lineAt := roundUp(scratchEnd)
	moduleAt := roundUp(lineAt + uint64(len(line)) + 1)
	if size < 0 || size > maxBundle || moduleAt+uint64(size) > maxBundle {
		return fmt.Errorf("the root file system has %d MiB, and %d MiB is the most that loaders take", size>>20, (maxBundle-moduleAt)>>20)
	}
	end := moduleAt + uint64(size)

	flat := bytes.Clone(kernel[:loadEnd-start])
	b := boot.Bundle{Line: lineAt, LineBytes: uint64(len(line)), Module: boot.Module{Start: moduleAt, End: end}}
	copy(flat[boot.BundleOffset:], b.Encode())
	binary.LittleEndian.PutUint32(flat[multibootOffset+20:], uint32(end)) // load_end_addr
	binary.LittleEndian.PutUint32(flat[multibootOffset+24:], uint32(end)) // bss_end_addr
	if err := addSegment(flat, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Align: pageSize,
		Off: lineAt - start, Vaddr: lineAt, Paddr: lineAt, Filesz: end - lineAt, Memsz: end - lineAt,
	}); err != nil {
		return err
	}
	flat = append(flat, make([]byte, lineAt-loadEnd)...)
	flat = append(flat, line...)
	flat = append(flat, make([]byte, moduleAt-lineAt-uint64(len(line)))...)
	if _, err := w.Write(flat); err != nil {
		return err
	}
	if n, err := io.CopyN(w, module, size); err != nil {
		return fmt.Errorf("the root file system ends after %d of its %d bytes: %w", n, size, err)
	}
	return nil
}

// addSegment adds a program header to an image, and takes its section headers away.
func addSegment(image []byte, p elf.Prog64) error {
	var h elf.Header64
	if err := binary.Read(bytes.NewReader(image), binary.LittleEndian, &h); err != nil {
		return err
	}
	at := int(h.Phoff) + int(h.Phnum)*int(h.Phentsize)
	h.Phnum++
	h.Shoff, h.Shnum, h.Shstrndx = 0, 0, 0
	var header, program bytes.Buffer
	if err := errors.Join(binary.Write(&header, binary.LittleEndian, h), binary.Write(&program, binary.LittleEndian, p)); err != nil {
		return err
	}
	if h.Phentsize != uint16(program.Len()) || at+program.Len() > phdrLimit {
		return errors.New("the kernel has no room for another program header")
	}
	copy(image, header.Bytes())
	copy(image[at:], program.Bytes())
	return nil
}
