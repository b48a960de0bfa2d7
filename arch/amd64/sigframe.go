package amd64

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The signal frame of x86-64 Linux (struct rt_sigframe, struct ucontext and struct sigcontext_64 of
// arch/x86/include/asm/sigframe.h and uapi/asm/sigcontext.h), from the handler's stack pointer up:
//
//	  0  return address: the restorer
//	  8  uc_flags
//	 16  uc_link
//	 24  uc_stack: sp, flags, size
//	 48  uc_mcontext: registers, selectors, fault, pointer to the extended state
//	304  uc_sigmask
//	312  siginfo, 128 bytes
//	440  end
//
// and above it, 64-byte aligned, the extended state: an XSAVE image in the standard format whose bytes
// 464 to 511 describe it, and a magic word behind it.
const (
	frameFlags    = 8
	frameStack    = 24
	frameMContext = 48
	frameSigmask  = 304
	frameInfo     = 312

	// SignalFrameSize is the size of a signal frame without its extended state, in bytes.
	SignalFrameSize = 440
	sizeSiginfo     = 128

	// offsets from frameMContext
	mcontextR8      = 0
	mcontextFlags   = 136
	mcontextCS      = 144
	mcontextSS      = 150
	mcontextError   = 152
	mcontextTrap    = 160
	mcontextOldmask = 168
	mcontextCR2     = 176
	mcontextFPState = 184
	offsetSoftware  = 464 // struct _fpx_sw_bytes in the image
	magic1          = 0x46505853
	magic2          = 0x46505845
	sizeMagic2      = 4
	ucFPXState      = 1 << 0
	ucSigcontextSS  = 1 << 1
	ucStrictRestore = 1 << 2
	redZone         = 128
	alignExtended   = 64
	noSystemCall    = ^uint64(0)
	offsetFSW       = 2
	mxcsrMasksShift = 7
	floatExceptions = 0x3f
)

// SignalFrame is what a signal frame holds besides the registers.
type SignalFrame struct {
	Handler, Restorer uint64
	Signal            int
	Info              [sizeSiginfo]byte // siginfo_t
	Mask              uint64            // the blocked signals to restore
	StackSP           uint64            // stack_t
	StackFlags        int32
	StackSize         uint64
}

// PlaceSignalFrame returns where a signal frame goes: on the stack that ends at altStack, or if that is 0
// below the red zone of the program's stack. [frame, end) is to be written and extended is where in it the
// extended state starts.
func (c *Context) PlaceSignalFrame(altStack uint64) (frame, extended, end uint64) {
	sp := c.RSP - redZone
	if altStack != 0 {
		sp = altStack
	}
	size := uint64(ExtendedStateSize())
	if ExtendedFeatures() != 0 {
		size += sizeMagic2
	}
	extended = (sp - size) &^ (alignExtended - 1)
	end = extended + size
	frame = (extended-SignalFrameSize)&^15 - 8 // as if the handler had been called
	return frame, extended, end
}

// EncodeSignalFrame writes the frame of the registers and of f to b, which is the memory of
// PlaceSignalFrame's [frame, end).
func (c *Context) EncodeSignalFrame(b []byte, frame, extended uint64, f *SignalFrame) {
	c.ReturnByIRET() // the frame shows what SYSCALL left in RCX and R11
	le := binary.LittleEndian
	clear(b[:SignalFrameSize])
	le.PutUint64(b, f.Restorer)
	flags := uint64(ucSigcontextSS | ucStrictRestore)
	if ExtendedFeatures() != 0 {
		flags |= ucFPXState
	}
	le.PutUint64(b[frameFlags:], flags)
	le.PutUint64(b[frameStack:], f.StackSP)
	le.PutUint32(b[frameStack+8:], uint32(f.StackFlags))
	le.PutUint64(b[frameStack+16:], f.StackSize)

	m := b[frameMContext:]
	for i, r := range c.signalRegisters() {
		le.PutUint64(m[mcontextR8+8*i:], *r)
	}
	le.PutUint64(m[mcontextFlags:], c.RFLAGS)
	le.PutUint16(m[mcontextCS:], uint16(c.CS))
	le.PutUint16(m[mcontextSS:], uint16(c.SS))
	le.PutUint64(m[mcontextError:], c.ErrorCode)
	le.PutUint64(m[mcontextTrap:], c.Vector)
	le.PutUint64(m[mcontextOldmask:], f.Mask)
	le.PutUint64(m[mcontextCR2:], c.FaultAddress)
	le.PutUint64(m[mcontextFPState:], extended)
	le.PutUint64(b[frameSigmask:], f.Mask)
	copy(b[frameInfo:], f.Info[:])

	x := b[extended-frame:]
	image := c.ExtendedState()
	copy(x, image)
	if features := ExtendedFeatures(); features != 0 {
		software := x[offsetSoftware:sizeLegacy]
		clear(software)
		le.PutUint32(software, magic1)
		le.PutUint32(software[4:], uint32(len(image)+sizeMagic2))
		le.PutUint64(software[8:], features)
		le.PutUint32(software[16:], uint32(len(image)))
		le.PutUint32(x[len(image):], magic2)
	}
}

// EnterSignalHandler sets the registers as a handler finds them whose frame is at frame.
func (c *Context) EnterSignalHandler(frame uint64, f *SignalFrame) {
	c.ReturnByIRET()
	c.RDI = uint64(f.Signal)
	c.RSI = frame + frameInfo
	c.RDX = frame + frameFlags
	c.RAX = 0
	c.RIP = f.Handler
	c.RSP = frame
	c.CS, c.SS = userCS, userSS
	c.RFLAGS &^= FlagDirection | FlagResume | FlagTrap
	c.OrigRAX = noSystemCall
	c.ResetExtendedState()
}

// signalRegisters are the general registers in the order of struct sigcontext_64.
func (c *Context) signalRegisters() [17]*uint64 {
	return [...]*uint64{&c.R8, &c.R9, &c.R10, &c.R11, &c.R12, &c.R13, &c.R14, &c.R15,
		&c.RDI, &c.RSI, &c.RBP, &c.RBX, &c.RDX, &c.RAX, &c.RCX, &c.RSP, &c.RIP}
}

// RestoreSignalFrame takes the registers from a frame that came from the program, SignalFrameSize bytes at
// b, and returns in f what else it holds, and where its extended state is (0: there is none). Of the
// flags only UserFlags are taken. A code or stack segment that is not the program's is EFAULT.
func (c *Context) RestoreSignalFrame(b []byte, f *SignalFrame) (extended uint64, err error) {
	le := binary.LittleEndian
	m := b[frameMContext:]
	cs, ss := uint64(le.Uint16(m[mcontextCS:]))|3, uint64(le.Uint16(m[mcontextSS:]))|3
	flags := le.Uint64(b[frameFlags:])
	if flags&ucSigcontextSS == 0 || flags&ucStrictRestore == 0 {
		ss = userSS
	}
	if cs != userCS || ss != userSS {
		return 0, unix.EFAULT
	}
	c.ReturnByIRET()
	for i, r := range c.signalRegisters() {
		*r = le.Uint64(m[mcontextR8+8*i:])
	}
	c.RFLAGS = c.RFLAGS&^UserFlags | le.Uint64(m[mcontextFlags:])&UserFlags
	c.CS, c.SS = userCS, userSS
	c.OrigRAX = noSystemCall
	f.Mask = le.Uint64(b[frameSigmask:])
	f.StackSP = le.Uint64(b[frameStack:])
	f.StackFlags = int32(le.Uint32(b[frameStack+8:]))
	f.StackSize = le.Uint64(b[frameStack+16:])
	return le.Uint64(m[mcontextFPState:]), nil
}

// SignalLegacySize is how many bytes of a frame's extended state tell the size of the whole.
const SignalLegacySize = sizeLegacy

// SignalStateSize returns how many bytes the extended state has whose first SignalLegacySize bytes are
// legacy, the magic word behind it included: SignalLegacySize itself for an FXSAVE image.
func SignalStateSize(legacy []byte) int {
	le := binary.LittleEndian
	software := legacy[offsetSoftware:sizeLegacy]
	size, whole := le.Uint32(software[16:]), le.Uint32(software[4:])
	if ExtendedFeatures() == 0 || le.Uint32(software) != magic1 ||
		size < sizeLegacy+sizeHeader || size > uint32(ExtendedStateSize()) || size > whole {
		return sizeLegacy
	}
	return int(size) + sizeMagic2
}

// RestoreSignalState takes the extended state that a signal frame holds: as many bytes as
// SignalStateSize says, or none for the initial state. It writes to state. EINVAL is an image that the
// CPU would refuse.
func (c *Context) RestoreSignalState(state []byte) error {
	le := binary.LittleEndian
	if len(state) == 0 {
		c.ResetExtendedState()
		return nil
	}
	if n := len(state) - sizeMagic2; n > sizeLegacy {
		if le.Uint32(state[n:]) != magic2 {
			return c.SetExtendedState(state[:sizeLegacy])
		}
		present := le.Uint64(state[offsetXStateBV:])
		le.PutUint64(state[offsetXStateBV:], present&le.Uint64(state[offsetSoftware+8:])&ExtendedFeatures())
		return c.SetExtendedState(state[:n])
	}
	return c.SetExtendedState(state)
}

// FloatExceptions returns the floating-point exceptions that are raised and not masked, as bits 0 to 5
// of MXCSR or, with simd false, of the x87 status word (Intel SDM vol. 1, 8.1.3, 10.2.3).
func (c *Context) FloatExceptions(simd bool) uint32 {
	image := c.ExtendedState()
	if simd {
		mxcsr := binary.LittleEndian.Uint32(image[offsetMXCSR:])
		return mxcsr &^ (mxcsr >> mxcsrMasksShift) & floatExceptions
	}
	control, status := binary.LittleEndian.Uint16(image), binary.LittleEndian.Uint16(image[offsetFSW:])
	return uint32(status &^ control & floatExceptions)
}

// MaxSignalFrame returns the most that a signal frame takes of a stack, in bytes, alignment included:
// AT_MINSIGSTKSZ.
func MaxSignalFrame() int {
	return SignalFrameSize + ExtendedStateSize() + sizeMagic2 + redZone + alignExtended + 16
}
