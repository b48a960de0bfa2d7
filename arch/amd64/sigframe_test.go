package amd64

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignalFrameRoundTrip(t *testing.T) {
	c := NewContext()
	registers := func(c *Context) [17]*uint64 {
		return [...]*uint64{&c.R8, &c.R9, &c.R10, &c.R11, &c.R12, &c.R13, &c.R14, &c.R15,
			&c.RDI, &c.RSI, &c.RBP, &c.RBX, &c.RDX, &c.RAX, &c.RCX, &c.RSP, &c.RIP}
	}
	for i, r := range registers(c) {
		*r = uint64(i+1) * 0x1111
	}
	c.RSP = 0x7fff0000
	c.RFLAGS |= FlagCarry | FlagTrap
	frame, end := c.PlaceSignalFrame(0)
	extended := frame + uint64(SignalStateOffset)
	if frame%16 != 8 || extended%64 != 0 || end > c.RSP-redZone || frame+uint64(SignalFrameSize) > extended {
		t.Fatalf("frame %#x, extended %#x, end %#x", frame, extended, end)
	}
	if _, end := c.PlaceSignalFrame(0x20000); end > 0x20000 {
		t.Fatalf("the frame ends at %#x, above the alternate stack", end)
	}
	f := SignalFrame{Handler: 0x400000, Restorer: 0x400100, Signal: 11, Mask: 0x55, StackSP: 1, StackFlags: 2, StackSize: 3}
	before := *c
	b := c.EncodeSignalFrame(frame, &f)
	if uint64(len(b)) != end-frame {
		t.Errorf("%d bytes for %d", len(b), end-frame)
	}
	b = bytes.Clone(b)
	// Linux's offsets of the registers, and of the mask.
	if got := binary.LittleEndian.Uint64(b[48:]); got != 0x1111 {
		t.Errorf("r8 is %#x", got)
	}
	if got := binary.LittleEndian.Uint64(b[48+16*8:]); got != 17*0x1111 {
		t.Errorf("rip is %#x", got)
	}
	if got := binary.LittleEndian.Uint64(b[48+184:]); got != extended {
		t.Errorf("fpstate is %#x", got)
	}
	if got := binary.LittleEndian.Uint64(b[304:]); got != f.Mask || SignalFrameSize != 440 {
		t.Errorf("mask is %#x, size %d", got, SignalFrameSize)
	}
	c.EnterSignalHandler(frame, &f)
	if c.RDI != 11 || c.RSP != frame || c.RSI != frame+312 || c.RDX != frame+8 || c.RAX != 0 || c.RIP != f.Handler || c.RFLAGS&FlagTrap != 0 {
		t.Errorf("registers of the handler: %+v", c)
	}
	var g SignalFrame
	if n := copy(c.SignalFrameBuffer(), b); n != len(b) {
		t.Fatalf("there is room for %d bytes of %d", n, len(b))
	}
	at, err := c.RestoreSignalFrame(&g)
	if err != nil || at != extended || g.Mask != f.Mask || g.StackSP != 1 || g.StackFlags != 2 || g.StackSize != 3 {
		t.Errorf("restored: %+v, %#x, %v", g, at, err)
	}
	for i, r := range registers(c) {
		if want := *registers(&before)[i]; *r != want {
			t.Errorf("register %d is %#x, want %#x", i, *r, want)
		}
	}
	if c.RFLAGS != before.RFLAGS {
		t.Errorf("flags are %#x, want %#x", c.RFLAGS, before.RFLAGS)
	}
}

func TestSignalStateSize(t *testing.T) {
	c := NewContext()
	image := bytes.Clone(c.ExtendedState())
	image[160], image[sizeLegacy+sizeHeader] = 5, 6
	binary.LittleEndian.PutUint64(image[offsetXStateBV:], ExtendedFeatures())
	if err := c.SetExtendedState(image); err != nil {
		t.Fatal(err)
	}
	frame, _ := c.PlaceSignalFrame(0x100000)
	state := bytes.Clone(c.EncodeSignalFrame(frame, &SignalFrame{})[SignalStateOffset:])
	if got := statedSize(&state[0]); got != len(state) {
		t.Errorf("size is %d, want %d", got, len(state))
	}
	le := binary.LittleEndian
	spoils := map[string]func(s []byte){
		"magic":     func(s []byte) { le.PutUint32(s[464:], 0) },
		"too large": func(s []byte) { le.PutUint32(s[480:], 1<<30) },
		"too small": func(s []byte) { le.PutUint32(s[480:], 512) },
		"beyond":    func(s []byte) { le.PutUint32(s[468:], 600) },
	}
	for name, spoil := range spoils {
		s := bytes.Clone(state)
		spoil(s)
		if got := statedSize(&s[0]); got != sizeLegacy {
			t.Errorf("%s: size is %d", name, got)
		}
	}
	// restore takes the first n bytes of s, and returns what became of XMM0 and of the upper half of YMM0.
	restore := func(s []byte, n int) (xmm, ymm byte, err error) {
		c.ResetExtendedState()
		clear(c.image()[sizeLegacy+sizeHeader:])
		copy(c.SignalFrameBuffer()[SignalStateOffset:], s[:n])
		err = c.RestoreSignalState(n)
		return c.ExtendedState()[160], c.ExtendedState()[sizeLegacy+sizeHeader], err
	}
	spoils["no magic behind"] = func(s []byte) { s[len(s)-1] ^= 1 }
	for name, spoil := range spoils {
		s := bytes.Clone(state)
		spoil(s)
		if xmm, ymm, err := restore(s, len(s)); xmm != 5 || ymm != 0 || err != nil {
			t.Errorf("%s: %d, %d, %v; want the legacy part alone", name, xmm, ymm, err)
		}
	}
	if xmm, ymm, err := restore(state, len(state)); xmm != 5 || ymm != 6 || err != nil {
		t.Errorf("the whole: %d, %d, %v", xmm, ymm, err)
	}
	if xmm, ymm, err := restore(state, 0); xmm != 0 || ymm != 0 || err != nil {
		t.Errorf("initial state: %d, %d, %v", xmm, ymm, err)
	}
	for _, n := range []int{1, sizeLegacy - 1, sizeLegacy, len(state) - 1} {
		if _, _, err := restore(state, n); err != unix.EFAULT {
			t.Errorf("%d bytes: %v, want EFAULT", n, err)
		}
	}
	for name, spoil := range map[string]func(s []byte){
		"reserved MXCSR bit": func(s []byte) { s[offsetMXCSR+3] = 0x80 },
		"compacted form":     func(s []byte) { s[offsetXStateBV+15] = 0x80 },
	} {
		s := bytes.Clone(state)
		spoil(s)
		if xmm, _, err := restore(s, len(s)); xmm != 0 || err != unix.EINVAL {
			t.Errorf("%s: %d, %v, want EINVAL", name, xmm, err)
		}
	}
}
