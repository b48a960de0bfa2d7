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
	// SignalInfoOffset is where in a frame its siginfo is, SignalInfoSize how many bytes that has.
	SignalInfoOffset = int(unsafe.Offsetof(rtSigframe{}.info))
	SignalInfoSize   = 128
	// SignalStateOffset is how far behind the start of a frame its extended state begins: what the
	// alignments of PlaceSignalFrame come to.
	SignalStateOffset = (SignalFrameSize+15)&^15 + 8

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
	reserved                               [8]uint64

	sigmask uint64
	info    [SignalInfoSize]byte
}

// softwareBytes is struct _fpx_sw_bytes.
type softwareBytes struct {
	magic, whole uint32
	features     uint64
	size         uint32
	_            [7]uint32
}

// softwareOf returns what describes an image.
func softwareOf(image *byte) *softwareBytes {
	return (*softwareBytes)(unsafe.Add(unsafe.Pointer(image), offsetSoftware))
}

// imageRoom is how much memory an image that takes part in signal frames has before it, for the frame: both
// then move in one copy.
const imageRoom = (SignalStateOffset + alignExtended - 1) &^ (alignExtended - 1)

// frameBefore returns the frame whose extended state image is. Precondition: image has imageRoom.
func frameBefore(image *byte) *rtSigframe {
	return (*rtSigframe)(unsafe.Add(unsafe.Pointer(image), -SignalStateOffset))
}

// wholeFrame returns the n bytes of the frame whose extended state image is, the extended state included.
func wholeFrame(image *byte, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(image), -SignalStateOffset)), n)
}

// makeRoom gives the context images with room for a frame: most threads never handle a signal.
func (c *Context) makeRoom() {
	if c.spare != nil {
		return
	}
	c.spill()
	image := newImage(imageRoom)
	copy(unsafe.Slice(image, ExtendedStateSize()), c.image())
	c.extended, c.spare = image, newImage(imageRoom)
}

// SignalFrame is what a signal frame holds besides the registers and the siginfo.
type SignalFrame struct {
	Handler, Restorer uint64
	Signal            int
	Mask              uint64 // the blocked signals to restore
	StackSP           uint64 // stack_t
	StackFlags        int32
	StackSize         uint64
}

// PlaceSignalFrame returns where a signal frame goes, extended state included: on the stack that ends at
// altStack, or if that is 0 below the red zone of the program's stack.
func (c *Context) PlaceSignalFrame(altStack uint64) (frame, end uint64) {
	sp := c.RSP - redZone
	if altStack != 0 {
		sp = altStack
	}
	size := uint64(signalStateSize())
	extended := (sp - size) &^ (alignExtended - 1)
	return extended - uint64(SignalStateOffset), extended + size
}

// signalStateSize returns how many bytes the extended state of a frame has.
func signalStateSize() int {
	if ExtendedFeatures() == 0 {
		return ExtendedStateSize()
	}
	return ExtendedStateSize() + sizeMagic2
}

// EncodeSignalFrame returns the bytes of the frame of the registers and of f that go to frame, good until
// the next change of the context. The siginfo at SignalInfoOffset is the caller's to fill in.
func (c *Context) EncodeSignalFrame(frame uint64, f *SignalFrame) []byte {
	c.makeRoom()
	c.ReturnByIRET() // the frame shows what SYSCALL left in RCX and R11
	features := ExtendedFeatures()
	c.ExtendedState()
	c.reload() // the handler gets another
	r := frameBefore(c.extended)
	r.restorer, r.flags, r.link = f.Restorer, ucSigcontextSS|ucStrictRestore, 0
	r.stackSP, r.stackFlags, r.stackSize = f.StackSP, f.StackFlags, f.StackSize
	r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15 = c.R8, c.R9, c.R10, c.R11, c.R12, c.R13, c.R14, c.R15
	r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp = c.RDI, c.RSI, c.RBP, c.RBX, c.RDX, c.RAX, c.RCX, c.RSP
	r.rip, r.rflags = c.RIP, c.RFLAGS
	r.cs, r.gs, r.fs, r.ss = uint16(c.CS), 0, 0, uint16(c.SS)
	r.errorCode, r.trap, r.oldmask, r.cr2 = c.ErrorCode, c.Vector, f.Mask, c.FaultAddress
	r.fpstate = frame + uint64(SignalStateOffset)
	r.reserved = [8]uint64{}
	r.sigmask = f.Mask
	if features != 0 {
		r.flags |= ucFPXState
		// Neither XSAVE nor XRSTOR touches the software's bytes, and behind the image there is room.
		size := ExtendedStateSize()
		state := unsafe.Slice(c.extended, size+sizeMagic2)
		*softwareOf(c.extended) = softwareBytes{
			magic: magic1, whole: uint32(len(state)), features: features, size: uint32(size),
		}
		binary.LittleEndian.PutUint32(state[size:], magic2)
	}
	return wholeFrame(c.extended, SignalStateOffset+signalStateSize())
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

// SignalFrameBuffer returns memory for a frame that comes from the program, with its extended state behind it
// as PlaceSignalFrame has it: for RestoreSignalFrame and RestoreSignalState. The state may be replaced by
// one from elsewhere in between.
func (c *Context) SignalFrameBuffer() []byte {
	c.makeRoom()
	return wholeFrame(c.spare, SignalStateOffset+signalStateSize())
}

// RestoreSignalFrame takes the registers from the frame in SignalFrameBuffer, and returns in f what else it
// holds, and where its extended state is (0: there is none). Of the flags only UserFlags are taken. A code or
// stack segment that is not the program's is EFAULT.
func (c *Context) RestoreSignalFrame(f *SignalFrame) (extended uint64, err error) {
	r := frameBefore(c.spare)
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

// statedSize returns how many bytes the extended state has that begins at legacy, the magic word behind it
// included: sizeLegacy itself for an FXSAVE image.
func statedSize(legacy *byte) int {
	s := softwareOf(legacy)
	if ExtendedFeatures() == 0 || s.magic != magic1 || s.size < sizeLegacy+sizeHeader ||
		s.size > uint32(ExtendedStateSize()) || s.size > s.whole {
		return sizeLegacy
	}
	return int(s.size) + sizeMagic2
}

// RestoreSignalState takes the extended state that a signal frame holds, of which n bytes came to
// SignalFrameBuffer; none is the initial state. EFAULT says that it needs more, EINVAL that the CPU would
// refuse it.
func (c *Context) RestoreSignalState(n int) error {
	if n == 0 {
		c.ResetExtendedState()
		return nil
	}
	if n < sizeLegacy {
		return unix.EFAULT
	}
	state := unsafe.Slice(c.spare, n)
	size := statedSize(c.spare)
	switch {
	case n < size:
		return unix.EFAULT
	case size == sizeLegacy, binary.LittleEndian.Uint32(state[size-sizeMagic2:]) != magic2:
		return c.SetExtendedState(state[:sizeLegacy])
	}
	state = state[:size-sizeMagic2]
	*(*uint64)(unsafe.Pointer(&state[offsetXStateBV])) &= softwareOf(c.spare).features & ExtendedFeatures()
	if len(state) < ExtendedStateSize() {
		return c.SetExtendedState(state)
	}
	// The whole is there: it becomes the context's where it is.
	mxcsr, present, err := checkImage(state)
	if err != nil {
		return err
	}
	c.spill()
	c.reload()
	c.extended, c.spare = c.spare, c.extended
	c.settle(mxcsr, present)
	return nil
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
