//go:build elver

package kvm

import (
	"elver/arch/amd64"
	"elver/runtime/metal"
)

// registerWindow is mapped device registers, by the virtual address of the first.
type registerWindow uint64

func mapRegisters(pa uint64, n int) Registers {
	page := pa &^ (metal.FrameSize - 1)
	in := pa - page
	return registerWindow(uint64(metal.MapDevice(page, int(in)+n)) + in)
}

func (w registerWindow) Load8(off uint32) uint8       { return load8(uint64(w) + uint64(off)) }
func (w registerWindow) Load16(off uint32) uint16     { return load16(uint64(w) + uint64(off)) }
func (w registerWindow) Load32(off uint32) uint32     { return amd64.LoadMMIO32(uint64(w) + uint64(off)) }
func (w registerWindow) Store8(off uint32, v uint8)   { store8(uint64(w)+uint64(off), v) }
func (w registerWindow) Store16(off uint32, v uint16) { store16(uint64(w)+uint64(off), v) }

func (w registerWindow) Store32(off uint32, v uint32) {
	amd64.StoreMMIO32(uint64(w)+uint64(off), v)
}

// load16 and store16 access 16 bits at va exactly once.
func load16(va uint64) uint16
func store16(va uint64, v uint16)
