package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/kernel/bpf"
	"elver/vfs"
)

// Filter chooses what a socket receives (SO_ATTACH_FILTER in socket(7)).
type Filter struct {
	program []bpf.Instruction // nil: everything
	locked  bool              // it can't be changed any more
}

// Filters returns the filter, nil if there is none.
func (b *Base) Filters() *Filter {
	if f := b.filter.Load(); f != nil && f.program != nil {
		return f
	}
	return nil
}

// Run returns how many bytes of a packet the socket receives: 0 if it doesn't receive it.
func (f *Filter) Run(p *bpf.Packet) int {
	return min(int(bpf.RunPacket(f.program, p)), len(p.Data))
}

// IsFilterOption says whether an option of level SOL_SOCKET is about filters: a family that has them passes it
// to SetFilter.
func IsFilterOption(name int) bool {
	return name == unix.SO_ATTACH_FILTER || name == unix.SO_DETACH_FILTER || name == unix.SO_LOCK_FILTER
}

// SetFilter sets such an option: EINVAL for what is no filter, EPERM for one that is locked, ENOENT when there
// is none to detach.
func (b *Base) SetFilter(c *vfs.Context, name int, value []byte) error {
	if len(value) < 4 {
		return unix.EINVAL
	}
	old := b.filter.Load()
	if old == nil {
		old = new(Filter)
	}
	f := Filter{program: old.program, locked: old.locked}
	switch name {
	case unix.SO_LOCK_FILTER:
		on := binary.LittleEndian.Uint32(value) != 0
		if f.locked && !on {
			return unix.EPERM
		}
		f.locked = on
	case unix.SO_DETACH_FILTER:
		if f.locked {
			return unix.EPERM
		}
		if f.program == nil {
			return unix.ENOENT
		}
		f.program = nil
	default:
		const sizeofProgram = 16 // struct sock_fprog
		if len(value) != sizeofProgram {
			return unix.EINVAL
		}
		if f.locked {
			return unix.EPERM
		}
		n, at := int(binary.LittleEndian.Uint16(value)), binary.LittleEndian.Uint64(value[8:])
		if n == 0 || n > bpf.MaxInstructions || at == 0 {
			return unix.EINVAL
		}
		code := make([]byte, n*bpf.InstructionSize)
		if _, err := c.Thread.MM().CopyIn(code, at); err != nil {
			return err
		}
		f.program = bpf.Decode(code)
		if err := bpf.CheckPacket(f.program); err != nil {
			return err
		}
	}
	b.filter.Store(&f)
	return nil
}

// SetPeekOffset is SetOption of SO_PEEK_OFF.
func (b *Base) SetPeekOffset(value []byte) error {
	if len(value) < 4 {
		return unix.EINVAL
	}
	b.PeekOffset.Store(int32(binary.LittleEndian.Uint32(value)))
	return nil
}

// Peeked moves SO_PEEK_OFF on by n bytes that were looked at, or back by n that were taken.
func (b *Base) Peeked(n int, taken bool) {
	for {
		off := b.PeekOffset.Load()
		if off < 0 {
			return
		}
		to := off + int32(n)
		if taken {
			to = max(off-int32(n), 0)
		}
		if b.PeekOffset.CompareAndSwap(off, to) {
			return
		}
	}
}
