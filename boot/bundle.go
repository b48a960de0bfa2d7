package boot

import (
	"encoding/binary"
	"errors"
)

// A bundle is an image with a root file system and a command line inside (elver build). Behind the kernel's
// scratch, on pages of their own, lie the command line and then the module, a cpio archive. Where, the boot
// page says at BundleOffset; the runtime keeps those frames (metal_boot.go).
const (
	BundleOffset = 0xf00
	BundleBytes  = 40
	bundleMagic  = "ElvBndl1"
)

// Bundle says where the parts of a bundle lie in physical memory.
type Bundle struct {
	Line      uint64 // the command line's first byte
	LineBytes uint64
	Module    Module
}

// Encode returns what stands at BundleOffset.
func (b *Bundle) Encode() []byte {
	out := []byte(bundleMagic)
	for _, v := range []uint64{b.Line, b.LineBytes, b.Module.Start, b.Module.End} {
		out = le.AppendUint64(out, v)
	}
	return out
}

// DecodeBundle reads what stands at BundleOffset. It returns nil if the image is no bundle.
func DecodeBundle(p []byte) *Bundle {
	if len(p) < BundleBytes || string(p[:len(bundleMagic)]) != bundleMagic {
		return nil
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(p[len(bundleMagic)+8*i:]) }
	return &Bundle{Line: word(0), LineBytes: word(1), Module: Module{Start: word(2), End: word(3)}}
}

// AddBundle takes in what the image at physical address image has inside: its module, if the loader passes
// none, and its command line.
func (i *Info) AddBundle(image uint64, mem func(pa uint64, n int) ([]byte, bool)) error {
	p, ok := mem(image+BundleOffset, BundleBytes)
	if !ok {
		return errors.New("the image's first page is not in memory")
	}
	b := DecodeBundle(p)
	if b == nil {
		return nil
	}
	if b.LineBytes > maxStringBytes || b.Module.End < b.Module.Start {
		return errors.New("what the image says of its contents makes no sense")
	}
	line, ok := mem(b.Line, int(b.LineBytes))
	if !ok {
		return errors.New("the image's command line is not in memory")
	}
	i.BundledLine = string(line)
	if len(i.Modules) == 0 && b.Module.End > b.Module.Start {
		i.Modules, i.InitrdName = []Module{b.Module}, ""
	}
	return nil
}
