package amd64

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// What a debugger sees and changes of a thread: its registers as ptrace(2) lays them out, and its
// hardware breakpoints. The thread is not inside Enter meanwhile.

// UserRegs is struct user_regs_struct of ptrace(2), by index.
type UserRegs [27]uint64

// Indexes of UserRegs that are not a register of Context, in whose order the first ones are.
const (
	regCS     = 17
	regRFLAGS = 18
	regSS     = 20
	regFSBase = 21
	regGSBase = 22
)

// registers returns the part of c that has UserRegs' order.
func (c *Context) registers() [regFSBase]*uint64 {
	return [...]*uint64{&c.R15, &c.R14, &c.R13, &c.R12, &c.RBP, &c.RBX, &c.R11, &c.R10, &c.R9, &c.R8, &c.RAX,
		&c.RCX, &c.RDX, &c.RSI, &c.RDI, &c.OrigRAX, &c.RIP, &c.CS, &c.RFLAGS, &c.RSP, &c.SS}
}

// UserRegs returns the registers. The data segments' selectors are 0, as a 64-bit program's are.
func (c *Context) UserRegs() UserRegs {
	c.ReturnByIRET()
	var r UserRegs
	for i, p := range c.registers() {
		r[i] = *p
	}
	r[regFSBase], r[regGSBase] = c.FSBase(), c.GSBase()
	return r
}

// SetUserReg sets register i of UserRegs: EIO for what the program cannot have. Of RFLAGS it takes UserFlags
// alone.
func (c *Context) SetUserReg(i int, v uint64) error {
	c.ReturnByIRET()
	switch {
	case i < 0 || i >= len(UserRegs{}):
		return unix.EIO
	case i == regCS:
		if v != userCS {
			return unix.EIO
		}
	case i == regSS:
		if v != userSS {
			return unix.EIO
		}
	case i == regRFLAGS:
		v = c.RFLAGS&^UserFlags | v&UserFlags
	case i == regFSBase, i == regGSBase:
		if v >= UserEnd {
			return unix.EIO
		}
		if i == regFSBase {
			c.SetFSBase(v)
		} else {
			c.SetGSBase(v)
		}
		return nil
	case i > regGSBase: // the selectors of the data segments
		if v != 0 {
			return unix.EIO
		}
		return nil
	}
	*c.registers()[i] = v
	return nil
}

// FXSaveSize is the size of struct user_fpregs_struct, in bytes.
const FXSaveSize = sizeLegacy

// FloatRegs returns the x87 and SSE state as struct user_fpregs_struct.
func (c *Context) FloatRegs() []byte {
	return append([]byte(nil), c.ExtendedState()[:sizeLegacy]...)
}

// SetFloatRegs sets the x87 and SSE state from the start of a struct user_fpregs_struct, and leaves the rest
// of the extended state: EINVAL for what the CPU would refuse.
func (c *Context) SetFloatRegs(b []byte) error {
	image := append([]byte(nil), c.ExtendedState()...)
	copy(image[:sizeLegacy], b)
	if ExtendedFeatures() != 0 {
		present := binary.LittleEndian.Uint64(image[offsetXStateBV:])
		binary.LittleEndian.PutUint64(image[offsetXStateBV:], present|componentX87|componentSSE)
	}
	return c.SetExtendedState(image)
}

// XState returns the whole extended state as NT_X86_XSTATE shows it: an XSAVE image in the standard format
// that tells XCR0 where software may (byte 464). EINVAL on a CPU without XSAVE.
func (c *Context) XState() ([]byte, error) {
	if ExtendedFeatures() == 0 {
		return nil, unix.EINVAL
	}
	image := append([]byte(nil), c.ExtendedState()...)
	clear(image[offsetSoftware:sizeLegacy])
	binary.LittleEndian.PutUint64(image[offsetSoftware:], ExtendedFeatures())
	return image, nil
}

// SetXState takes what XState returns: EFAULT for another size, as Linux, EINVAL for what the CPU would
// refuse.
func (c *Context) SetXState(image []byte) error {
	if ExtendedFeatures() == 0 {
		return unix.EINVAL
	}
	if len(image) != ExtendedStateSize() {
		return unix.EFAULT
	}
	return c.SetExtendedState(image)
}

// DebugRegs are the debug registers of a thread (Intel SDM vol. 3, 18.2).
type DebugRegs struct {
	Addr    [4]uint64 // DR0 to DR3
	Status  uint64    // DR6 as the last #DB left it
	Control uint64    // DR7 as the debugger asked for it
}

// Bits of DR6.
const (
	DebugHits = 0xf     // breakpoint 0 to 3
	DebugStep = 1 << 14 // single step
)

// Bits of DR7, and what a breakpoint's four bits of it mean.
const (
	debugExact      = 1<<8 | 1<<9
	debugFirstField = 16
	debugExecute    = 0
	debugIO         = 2
)

// field returns the type and the length in bytes of breakpoint i, and whether it is on.
//
//go:nosplit
func (d *DebugRegs) field(i int) (kind, length uint64, on bool) {
	f := d.Control >> (debugFirstField + 4*i) & 0xf
	return f & 3, [...]uint64{1, 2, 8, 4}[f>>2], d.Control>>(2*i)&3 != 0
}

// check returns EINVAL for what Linux refuses, too: a port's breakpoint, one that isn't aligned or that lies
// in the kernel's half.
func (d *DebugRegs) check() error {
	for i, addr := range d.Addr {
		if addr >= UserEnd {
			return unix.EINVAL
		}
		kind, length, on := d.field(i)
		if on && (kind == debugIO || kind == debugExecute && length != 1 || addr&(length-1) != 0) {
			return unix.EINVAL
		}
	}
	return nil
}

// Debug returns the thread's debug registers.
func (c *Context) Debug() DebugRegs {
	if c.debug == nil {
		return DebugRegs{}
	}
	return *c.debug
}

// SetDebug sets the thread's debug registers: EINVAL for breakpoints that cannot be.
func (c *Context) SetDebug(d DebugRegs) error {
	if err := d.check(); err != nil {
		return err
	}
	c.reload()
	if d == (DebugRegs{}) {
		c.debug, c.unusual = nil, c.noTSC
		return nil
	}
	c.debug, c.unusual = &d, true
	return nil
}

// DebugException returns what the last #DB said in DR6, for the signal, and keeps it for the debugger. After
// a breakpoint on an instruction that instruction is let pass.
func (c *Context) DebugException() uint64 {
	status := c.debugStatus
	if c.debug == nil {
		return status &^ DebugHits
	}
	c.debug.Status = status
	for i := range c.debug.Addr {
		if kind, _, on := c.debug.field(i); on && kind == debugExecute && status>>i&1 != 0 {
			c.RFLAGS |= FlagResume
		}
	}
	return status
}
