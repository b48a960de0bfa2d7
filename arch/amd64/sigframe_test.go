package amd64

import (
	"bytes"
	"encoding/binary"
	"testing"
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
	frame, extended, end := c.PlaceSignalFrame(0)
	if frame%16 != 8 || extended%64 != 0 || end > c.RSP-redZone || frame+uint64(SignalFrameSize) > extended {
		t.Fatalf("frame %#x, extended %#x, end %#x", frame, extended, end)
	}
	if _, _, end := c.PlaceSignalFrame(0x20000); end > 0x20000 {
		t.Fatalf("the frame ends at %#x, above the alternate stack", end)
	}
	b := make([]byte, SignalFrameSize)
	f := SignalFrame{Handler: 0x400000, Restorer: 0x400100, Signal: 11, Mask: 0x55, StackSP: 1, StackFlags: 2, StackSize: 3}
	before := *c
	if state := c.EncodeSignalFrame(b, extended, &f); uint64(len(state)) != end-extended {
		t.Errorf("%d bytes of extended state for %d", len(state), end-extended)
	}
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
	at, err := c.RestoreSignalFrame(b, &g)
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
	_, extended, _ := c.PlaceSignalFrame(0x100000)
	state := bytes.Clone(c.EncodeSignalFrame(make([]byte, SignalFrameSize), extended, &SignalFrame{}))
	if got := SignalStateSize(state); got != len(state) {
		t.Errorf("size is %d, want %d", got, len(state))
	}
	le := binary.LittleEndian
	for name, spoil := range map[string]func(s []byte){
		"magic":     func(s []byte) { le.PutUint32(s[464:], 0) },
		"too large": func(s []byte) { le.PutUint32(s[480:], 1<<30) },
		"too small": func(s []byte) { le.PutUint32(s[480:], 512) },
		"beyond":    func(s []byte) { le.PutUint32(s[468:], 600) },
	} {
		s := bytes.Clone(state)
		spoil(s)
		if got := SignalStateSize(s); got != SignalLegacySize {
			t.Errorf("%s: size is %d", name, got)
		}
	}
	// Without the magic word behind it only the legacy part counts, and nothing fails.
	s := bytes.Clone(state)
	s[160] = 7
	s[len(s)-1] ^= 1
	if err := c.RestoreSignalState(s); err != nil || c.ExtendedState()[160] != 7 {
		t.Errorf("legacy part: %v", err)
	}
	if err := c.RestoreSignalState(nil); err != nil || c.ExtendedState()[160] != 0 {
		t.Errorf("initial state: %v", err)
	}
}
