// Package amd64 is the CPU: the program's registers and the way into ring 3 and back, page tables,
// access to user memory, ports and model-specific registers.
//
// On the image (build tag elver) it is the machine's; on the host, where the packages above are
// tested, user memory is reached by walking the page tables in software, and ring 3 cannot be
// entered.
package amd64

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UserEnd is the first address that the program cannot have. The last canonical page stays
// unmapped: SYSRET to its end would fault in ring 0 (Intel SDM vol. 2, SYSRET).
const UserEnd = 0x00007ffffffff000

// Event says why the program came back to the kernel.
type Event uint8

// The events that end Enter.
const (
	EventSyscall   Event = iota // SYSCALL: number in OrigRAX, arguments in RDI, RSI, RDX, R10, R8, R9
	EventFault                  // page fault: FaultAddress and ErrorCode are set
	EventException              // any other exception: Vector and ErrorCode are set
	EventInterrupt              // an interrupt was noted; nothing of the program changed
)

// Page-fault error code bits (Intel SDM vol. 3, 4.7).
const (
	FaultPresent  = 1 << 0 // the page was present: a rights violation
	FaultWrite    = 1 << 1
	FaultUser     = 1 << 2
	FaultReserved = 1 << 3
	FaultFetch    = 1 << 4
)

// Selectors of the program's segments, as Linux has them: programs see them in signal frames.
const (
	user32CS = 0x23
	userCS   = 0x33
	userSS   = 0x2b
)

// RFLAGS bits (Intel SDM vol. 1, 3.4.3).
const (
	FlagCarry     = 1 << 0
	FlagParity    = 1 << 2
	FlagAdjust    = 1 << 4
	FlagZero      = 1 << 6
	FlagSign      = 1 << 7
	FlagTrap      = 1 << 8
	FlagInterrupt = 1 << 9
	FlagDirection = 1 << 10
	FlagOverflow  = 1 << 11
	FlagResume    = 1 << 16
	FlagAlign     = 1 << 18
	FlagID        = 1 << 21

	flagReserved = 1 << 1 // reads as one

	// UserFlags are the flags that a program may set through sigreturn or ptrace, as in Linux's
	// FIX_EFLAGS.
	UserFlags = FlagCarry | FlagParity | FlagAdjust | FlagZero | FlagSign | FlagTrap | FlagDirection |
		FlagOverflow | FlagResume | FlagAlign
)

// Context is the CPU state of one thread of the program. The registers stand in the order of
// Linux's struct user_regs_struct. They may be read and written while the thread is not inside
// Enter; whoever writes RIP, RCX, R11 or RFLAGS calls ReturnByIRET first.
type Context struct {
	R15, R14, R13, R12, RBP, RBX uint64
	R11, R10, R9, R8             uint64
	RAX, RCX, RDX, RSI, RDI      uint64
	OrigRAX, RIP, CS, RFLAGS     uint64
	RSP, SS                      uint64

	Vector, ErrorCode uint64 // of the last EventFault or EventException
	FaultAddress      uint64 // of the last EventFault

	// extended is the XSAVE image (Intel SDM vol. 1, 13.4), 64-byte aligned. XMM0 to XMM15 are
	// current in it whenever the kernel runs; the rest of it only while another thread, or
	// none, owns the CPU's extended state.
	extended *byte
	spare    *byte  // see makeRoom; nil: no signal was handled
	mxcsr    uint32 // current whenever the kernel runs
	iret     uint32 // not 0: leave by IRETQ

	noTSC   bool // RDTSC raises #GP
	unusual bool // noTSC, or debug isn't nil

	fsBase, gsBase uint64 // current while another thread, or none, owns the CPU's state

	// Answers are results that the system call entry may return by itself: see AnswerAtEntry.
	Answers [8]uint64

	debug       *DebugRegs // nil: no debugger has set any
	debugStatus uint64     // DR6 at the last EventException by #DB
}

// Offsets in the legacy region of an XSAVE image, in bytes (Intel SDM vol. 1, 13.4.1, 13.4.2).
const (
	offsetMXCSR    = 24
	offsetXMM      = 160
	sizeLegacy     = 512
	offsetXStateBV = 512
	sizeHeader     = 64

	componentX87 = 1 << 0
	componentSSE = 1 << 1
	componentAVX = 1 << 2
)

const (
	initialFCW   = 0x37f  // all x87 exceptions masked, 64-bit precision
	initialMXCSR = 0x1f80 // all SSE exceptions masked
)

// NewContext returns the state of a program's first thread before its first instruction: registers
// zero, interrupts on, extended state as after a reset.
func NewContext() *Context {
	c := &Context{CS: userCS, SS: userSS, RFLAGS: FlagInterrupt | flagReserved, iret: 1, extended: newImage(0)}
	c.ResetExtendedState()
	return c
}

// newImage returns memory for an XSAVE image, zero, behind room bytes, a multiple of 64.
func newImage(room int) *byte {
	buffer := make([]byte, room+ExtendedStateSize()+sizeMagic2+63) // the word follows it in a signal frame
	pad := int(-uintptr(unsafe.Pointer(&buffer[0])) & 63)
	return &buffer[room+pad]
}

// Clone returns a copy of c for a new thread or process.
func (c *Context) Clone() *Context {
	c.spill()
	d := *c
	d.extended, d.spare = newImage(0), nil
	copy(d.image(), c.image())
	d.iret = 1
	d.debug = nil // a debugger's breakpoints are for the thread that it set them in
	d.unusual = d.noTSC
	return &d
}

// ReturnByIRET makes the next Enter restore every register, RCX and R11 included, which SYSRET
// cannot. After a system call these two then hold what SYSCALL left in them, so it is called before
// they are written.
func (c *Context) ReturnByIRET() {
	if c.iret == 0 {
		c.iret = 1
		c.RCX, c.R11 = c.RIP, c.RFLAGS
		c.CS, c.SS = userCS, userSS
	}
}

// FSBase returns the base of the FS segment: the program's thread pointer.
func (c *Context) FSBase() uint64 {
	c.spill()
	return c.fsBase
}

// SetFSBase sets the base of the FS segment.
func (c *Context) SetFSBase(base uint64) {
	c.spill()
	c.fsBase = base
	c.reload()
}

// TSC reports whether the program can read the time stamp counter.
func (c *Context) TSC() bool { return !c.noTSC }

// SetTSC lets the program read the time stamp counter, or have RDTSC and RDTSCP raise #GP.
func (c *Context) SetTSC(on bool) {
	c.spill()
	c.noTSC = !on
	c.unusual = c.noTSC || c.debug != nil
	c.reload()
}

// GSBase returns the base of the GS segment.
func (c *Context) GSBase() uint64 {
	c.spill()
	return c.gsBase
}

// SetGSBase sets the base of the GS segment.
func (c *Context) SetGSBase(base uint64) {
	c.spill()
	c.gsBase = base
	c.reload()
}

//go:nosplit
func (c *Context) image() []byte { return unsafe.Slice(c.extended, ExtendedStateSize()) }

// ExtendedState returns the thread's x87, vector and other extended state as an XSAVE image in the
// standard format, or an FXSAVE image on a CPU without XSAVE, valid until the next Enter. It must
// not be written to: see SetExtendedState.
func (c *Context) ExtendedState() []byte {
	c.spill()
	image := c.image()
	binary.LittleEndian.PutUint32(image[offsetMXCSR:], c.mxcsr)
	return image
}

// SetExtendedState replaces the extended state by an image that came from the program: FXSAVE's 512
// bytes, or an XSAVE image in the standard format. What the CPU would refuse in it is EINVAL;
// components that the image lacks get their initial state.
func (c *Context) SetExtendedState(image []byte) error {
	mxcsr, present, err := checkImage(image)
	if err != nil {
		return err
	}
	c.spill()
	c.reload()
	copy(c.image(), image)
	c.settle(mxcsr, present)
	return nil
}

// checkImage returns the MXCSR and the components of an image that came from the program, or EINVAL for what
// the CPU would refuse.
func checkImage(image []byte) (mxcsr uint32, present uint64, err error) {
	if len(image) < sizeLegacy {
		return 0, 0, unix.EINVAL
	}
	mxcsr = binary.LittleEndian.Uint32(image[offsetMXCSR:])
	if mxcsr&^mxcsrMask() != 0 {
		return 0, 0, unix.EINVAL // LDMXCSR and XRSTOR raise #GP (Intel SDM vol. 1, 10.2.3)
	}
	present = componentX87 | componentSSE
	if features := ExtendedFeatures(); features != 0 && len(image) >= sizeLegacy+sizeHeader {
		header := (*[sizeHeader / 8]uint64)(unsafe.Pointer(&image[offsetXStateBV]))
		present = header[0]
		// XCOMP_BV and the reserved bytes: XRSTOR's standard form wants zeros.
		if present&^features != 0 || header[1]|header[2]|header[3]|header[4]|header[5]|header[6]|header[7] != 0 {
			return 0, 0, unix.EINVAL
		}
	}
	return mxcsr, present, nil
}

// settle finishes an image with these components that has become the context's: what it lacks gets its
// initial state and is marked so, whatever bytes stand there.
func (c *Context) settle(mxcsr uint32, present uint64) {
	own := c.image()
	if present&componentX87 == 0 {
		clear(own[:offsetMXCSR])
		clear(own[32:offsetXMM])
		binary.LittleEndian.PutUint16(own, initialFCW)
	}
	if present&componentSSE == 0 {
		clear(own[offsetXMM : offsetXMM+16*16])
	}
	c.mxcsr = mxcsr
	if present&(componentSSE|componentAVX) == 0 {
		c.mxcsr = initialMXCSR
	}
	if ExtendedFeatures() != 0 {
		header := (*[sizeHeader / 8]uint64)(unsafe.Pointer(&own[offsetXStateBV]))
		*header = [sizeHeader / 8]uint64{present | componentX87 | componentSSE}
	}
}

// ResetExtendedState gives the thread the extended state that a new program has.
func (c *Context) ResetExtendedState() {
	c.spill()
	image := c.image()
	*(*[sizeLegacy]byte)(image) = [sizeLegacy]byte{}
	binary.LittleEndian.PutUint16(image, initialFCW)
	c.mxcsr = initialMXCSR
	binary.LittleEndian.PutUint32(image[offsetMXCSR:], initialMXCSR)
	if ExtendedFeatures() != 0 {
		header := (*[sizeHeader / 8]uint64)(unsafe.Pointer(&image[offsetXStateBV]))
		*header = [sizeHeader / 8]uint64{componentX87 | componentSSE} // all else is initial
	}
	c.reload()
}
