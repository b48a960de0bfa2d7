package amd64

import (
	"encoding/binary"
	"unsafe"

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
	// SignalFrameSize is the size of a signal frame without its extended state, in bytes.
	SignalFrameSize = int(unsafe.Sizeof(rtSigframe{}))
	sizeSiginfo     = 128

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

// rtSigframe is struct rt_sigframe.
type rtSigframe struct {
	restorer    uint64
	flags, link uint64 // from here on struct ucontext
	stackSP     uint64
	stackFlags  int32
	_           int32
	stackSize   uint64

	// struct sigcontext_64
	r8, r9, r10, r11, r12, r13, r14, r15   uint64
	rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp uint64
	rip, rflags                            uint64
	cs, gs, fs, ss                         uint16
	errorCode, trap, oldmask, cr2, fpstate uint64
	_                                      [8]uint64

	sigmask uint64
	info    [sizeSiginfo]byte
}

// frameAt returns the frame that b holds. Precondition: b has SignalFrameSize bytes, aligned as
// allocated memory is.
func frameAt(b []byte) *rtSigframe { return (*rtSigframe)(unsafe.Pointer(&b[:SignalFrameSize][0])) }

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
// below the red zone of the program's stack. From frame on SignalFrameSize bytes are to be written, and the
// extended state to [extended, end).
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
	frame = (extended-uint64(SignalFrameSize))&^15 - 8 // as if the handler had been called
	return frame, extended, end
}

// EncodeSignalFrame writes the frame of the registers and of f to b, which has SignalFrameSize bytes and
// goes to frame. What it returns goes to extended; it is good until the next change of the context.
func (c *Context) EncodeSignalFrame(b []byte, extended uint64, f *SignalFrame) []byte {
	c.ReturnByIRET() // the frame shows what SYSCALL left in RCX and R11
	features := ExtendedFeatures()
	flags := uint64(ucSigcontextSS | ucStrictRestore)
	if features != 0 {
		flags |= ucFPXState
	}
	*frameAt(b) = rtSigframe{
		restorer: f.Restorer, flags: flags, stackSP: f.StackSP, stackFlags: f.StackFlags, stackSize: f.StackSize,
		r8: c.R8, r9: c.R9, r10: c.R10, r11: c.R11, r12: c.R12, r13: c.R13, r14: c.R14, r15: c.R15,
		rdi: c.RDI, rsi: c.RSI, rbp: c.RBP, rbx: c.RBX, rdx: c.RDX, rax: c.RAX, rcx: c.RCX, rsp: c.RSP,
		rip: c.RIP, rflags: c.RFLAGS, cs: uint16(c.CS), ss: uint16(c.SS),
		errorCode: c.ErrorCode, trap: c.Vector, oldmask: f.Mask, cr2: c.FaultAddress, fpstate: extended,
		sigmask: f.Mask, info: f.Info,
	}
	image := c.ExtendedState()
	c.reload() // the handler gets another
	if features == 0 {
		return image
	}
	// Neither XSAVE nor XRSTOR touches the software's bytes, and behind the image there is room.
	image = unsafe.Slice(c.extended, len(image)+sizeMagic2)
	le := binary.LittleEndian
	size := len(image) - sizeMagic2
	software := image[offsetSoftware:sizeLegacy]
	le.PutUint32(software, magic1)
	le.PutUint32(software[4:], uint32(len(image)))
	le.PutUint64(software[8:], features)
	le.PutUint32(software[16:], uint32(size))
	clear(software[20:])
	le.PutUint32(image[size:], magic2)
	return image
}

// EnterSignalHandler sets the registers as a handler finds them whose frame is at frame.
func (c *Context) EnterSignalHandler(frame uint64, f *SignalFrame) {
	c.ReturnByIRET()
	c.RDI = uint64(f.Signal)
	c.RSI = frame + uint64(unsafe.Offsetof(rtSigframe{}.info))
	c.RDX = frame + uint64(unsafe.Offsetof(rtSigframe{}.flags))
	c.RAX = 0
	c.RIP = f.Handler
	c.RSP = frame
	c.CS, c.SS = userCS, userSS
	c.RFLAGS &^= FlagDirection | FlagResume | FlagTrap
	c.OrigRAX = noSystemCall
	c.ResetExtendedState()
}

// RestoreSignalFrame takes the registers from a frame that came from the program, SignalFrameSize bytes at
// b, and returns in f what else it holds, and where its extended state is (0: there is none). Of the
// flags only UserFlags are taken. A code or stack segment that is not the program's is EFAULT.
func (c *Context) RestoreSignalFrame(b []byte, f *SignalFrame) (extended uint64, err error) {
	r := frameAt(b)
	cs, ss := uint64(r.cs)|3, uint64(r.ss)|3
	if r.flags&ucSigcontextSS == 0 || r.flags&ucStrictRestore == 0 {
		ss = userSS
	}
	if cs != userCS || ss != userSS {
		return 0, unix.EFAULT
	}
	c.ReturnByIRET()
	c.R8, c.R9, c.R10, c.R11, c.R12, c.R13, c.R14, c.R15 = r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15
	c.RDI, c.RSI, c.RBP, c.RBX, c.RDX, c.RAX, c.RCX, c.RSP = r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp
	c.RIP = r.rip
	c.RFLAGS = c.RFLAGS&^UserFlags | r.rflags&UserFlags
	c.CS, c.SS = userCS, userSS
	c.OrigRAX = noSystemCall
	f.Mask, f.StackSP, f.StackFlags, f.StackSize = r.sigmask, r.stackSP, r.stackFlags, r.stackSize
	return r.fpstate, nil
}

// SignalLegacySize is how many bytes of a frame's extended state tell the size of the whole, and
// MaxSignalState how many the whole has at most.
const SignalLegacySize = sizeLegacy

func MaxSignalState() int { return ExtendedStateSize() + sizeMagic2 }

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
