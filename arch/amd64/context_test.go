package amd64

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSetExtendedStateRefusesWhatTheCPUWould(t *testing.T) {
	good := func() []byte { return append([]byte(nil), NewContext().ExtendedState()...) }
	tests := []struct {
		name  string
		spoil func(image []byte) []byte
		err   error
	}{
		{"untouched", func(p []byte) []byte { return p }, nil},
		{"FXSAVE part alone", func(p []byte) []byte { return p[:sizeLegacy] }, nil},
		{"too short", func(p []byte) []byte { return p[:sizeLegacy-1] }, unix.EINVAL},
		{"empty", func(p []byte) []byte { return nil }, unix.EINVAL},
		{"reserved MXCSR bit", func(p []byte) []byte { p[offsetMXCSR+3] = 0x80; return p }, unix.EINVAL},
		{"component the CPU lacks", func(p []byte) []byte { p[offsetXStateBV+7] = 0x40; return p }, unix.EINVAL},
		{"compacted form", func(p []byte) []byte { p[offsetXStateBV+15] = 0x80; return p }, unix.EINVAL},
		{"reserved header byte", func(p []byte) []byte { p[offsetXStateBV+63] = 1; return p }, unix.EINVAL},
	}
	for _, test := range tests {
		c := NewContext()
		if err := c.SetExtendedState(test.spoil(good())); err != test.err {
			t.Errorf("%s: %v, want %v", test.name, err, test.err)
		}
	}
}

func TestExtendedStateComesBack(t *testing.T) {
	c := NewContext()
	image := append([]byte(nil), c.ExtendedState()...)
	for i := range 256 {
		image[offsetXMM+i] = byte(i)
	}
	image[sizeLegacy+sizeHeader+5] = 0x77 // upper half of a YMM register
	binary.LittleEndian.PutUint64(image[offsetXStateBV:], componentX87|componentSSE|componentAVX)
	binary.LittleEndian.PutUint32(image[offsetMXCSR:], 0x1fa0)
	if err := c.SetExtendedState(image); err != nil {
		t.Fatal(err)
	}
	d := c.Clone()
	got := d.ExtendedState()
	for i := range image {
		if got[i] != image[i] {
			t.Fatalf("byte %d is %#x, want %#x", i, got[i], image[i])
		}
	}
	if d.extended == c.extended {
		t.Error("a clone shares its extended state")
	}
}

func TestComponentsThatAreNotPresentAreInitial(t *testing.T) {
	c := NewContext()
	image := append([]byte(nil), c.ExtendedState()...)
	for i := range image[:offsetXStateBV] {
		image[i] = 0xff
	}
	binary.LittleEndian.PutUint32(image[offsetMXCSR:], initialMXCSR)
	binary.LittleEndian.PutUint64(image[offsetXStateBV:], 0)
	if err := c.SetExtendedState(image); err != nil {
		t.Fatal(err)
	}
	got := c.ExtendedState()
	if fcw := binary.LittleEndian.Uint16(got); fcw != initialFCW {
		t.Errorf("the x87 control word is %#x, want %#x", fcw, initialFCW)
	}
	if got[offsetXMM] != 0 {
		t.Errorf("XMM0 is %#x, want 0", got[offsetXMM])
	}
}

func TestReturnByIRETShowsWhatSyscallLeft(t *testing.T) {
	c := NewContext()
	c.iret = 0
	c.RIP, c.RFLAGS, c.RCX, c.R11 = 0x1234, 0x246, 1, 2
	c.ReturnByIRET()
	if c.RCX != 0x1234 || c.R11 != 0x246 {
		t.Errorf("RCX %#x, R11 %#x after a system call, want RIP and RFLAGS", c.RCX, c.R11)
	}
	c.RCX = 7
	c.ReturnByIRET()
	if c.RCX != 7 {
		t.Errorf("RCX %#x changed by a second call, want 7", c.RCX)
	}
}
