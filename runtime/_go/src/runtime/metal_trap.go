package runtime

import (
	"internal/abi"
	"internal/goarch"
	"unsafe"
)

// Descriptors, the per-CPU block, and what becomes of exceptions and interrupts in kernel mode.

// metalCPU is the per-CPU block. GS base points at its self, so that the word at GS:-8 is g, where
// the image writer's patch lets Go code find it. elver/arch/amd64 knows the offsets from self.
type metalCPU struct {
	g        uintptr    // GS:-8
	self     uintptr    // GS:0
	context  uintptr    // GS:8: the program's registers, amd64.Context
	kernelSP uintptr    // GS:16: stack of the goroutine that is in user mode
	userSP   uintptr    // GS:24: scratch of the entries from user mode
	userTrap uintptr    // GS:32: where exceptions and interrupts of user mode go
	fixup    uintptr    // GS:40: where a fault on a user address goes on, 0 outside a copy
	mxcsr    uint32     // GS:48: the kernel's MXCSR
	smap     uint32     // GS:52: not 0: user memory needs STAC
	_        uintptr    // GS:56
	answers  [512]uint8 // GS:64: amd64's table of system calls answered at the entry
}

// metalCPU0 is in the data section: the page-fault handler needs it to touch BSS.
var metalCPU0 = metalCPU{mxcsr: 0x1f80}

//go:linkname metal_CPU elver/runtime/metal.CPU
//go:nosplit
func metal_CPU() unsafe.Pointer { return unsafe.Pointer(&metalCPU0.self) }

// Segment selectors, in the order that SYSCALL and SYSRET want (Intel SDM vol. 3, 5.8.8); the
// program's are Linux's, since signal frames show them.
const (
	metalKernelCS = 0x10
	metalKernelSS = 0x18
	metalUser32CS = 0x23
	metalUserSS   = 0x2b
	metalUserCS   = 0x33
	metalTSS      = 0x40
)

// Stacks, by slot of the stacks' area. Entries of the IDT name theirs by IST number. Exceptions
// and interrupts have stacks of their own in kernel mode too: there is no telling how little room
// is left on a goroutine's.
const (
	metalSlotEntry = iota
	metalSlotFault // IST 1: exceptions
	metalSlotInterrupt
	metalSlotNMI
	metalSlotDouble
	metalSlotCheck
	metalSlotDebug // IST 6
	metalSlotFailure
)

// metalInitCPU loads the descriptor tables, the per-CPU block and what SYSCALL needs in order that
// user code can be entered.
//
//go:nosplit
func metalInitCPU() {
	cpu := &metalCPU0
	cpu.self = uintptr(unsafe.Pointer(&cpu.self))
	metalWriteMSR(metalMSRGSBase, uint64(cpu.self))

	tables := metalDirectMap + metalZeroFrame()
	gdt, tss := tables, tables+0x100
	metalSetWord(gdt, metalKernelCS/8, 0x00af9b000000ffff)
	metalSetWord(gdt, metalKernelSS/8, 0x00cf93000000ffff)
	metalSetWord(gdt, metalUser32CS/8, 0x00cffb000000ffff)
	metalSetWord(gdt, metalUserSS/8, 0x00cff3000000ffff)
	metalSetWord(gdt, metalUserCS/8, 0x00affb000000ffff)
	metalSetWord(gdt, metalTSS/8, 0x0000890000000067|(tss&0xffffff)<<16|(tss>>24&0xff)<<56)
	metalSetWord(gdt, metalTSS/8+1, tss>>32)
	// RSP0 at 4, IST1 to IST6 at 36 (Intel SDM vol. 3, 8.7).
	for i := uintptr(1); i <= metalSlotDebug; i++ {
		top := metalMapStack(metalSlotEntry+i, 16<<10)
		*(*uintptr)(unsafe.Pointer(tss + 28 + 8*i)) = top
		if i == 1 {
			*(*uintptr)(unsafe.Pointer(tss + 4)) = top
		}
	}
	*(*uint16)(unsafe.Pointer(tss + 102)) = 104 // no I/O bitmap
	metalFailure.stack = metalMapStack(metalSlotFailure, 32<<10)

	idt := metalDirectMap + metalZeroFrame()
	for v := uintptr(0); v < 256; v++ {
		ist := uintptr(metalSlotFault)
		switch {
		case v == 1: // after MOV SS one comes at the first instruction of another exception's entry
			ist = metalSlotDebug
		case v == 2:
			ist = metalSlotNMI
		case v == 8:
			ist = metalSlotDouble
		case v == 18:
			ist = metalSlotCheck
		case v >= 32:
			ist = metalSlotInterrupt
		}
		dpl := uintptr(0)
		if v == 3 || v == 4 { // INT3 and INTO are the program's to use
			dpl = 3
		}
		stub := metalVectorsPC() + 8*v
		metalSetWord(idt, 2*v, stub&0xffff|metalKernelCS<<16|ist<<32|(0x8e|dpl<<5)<<40|(stub>>16&0xffff)<<48)
		metalSetWord(idt, 2*v+1, stub>>32)
	}
	metalLoadTables(gdt, metalTSS+15, idt, 4095, metalTSS)
	metalInitClock()
}

const metalMSRGSBase = 0xc0000101

// metalTrapFrame is what the kernel-mode trap entry saves.
type metalTrapFrame struct {
	r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi uintptr
	vector, code                                                            uintptr
	rip, cs, rflags, rsp, ss                                                uintptr
}

// metalKernelTrap handles an exception or interrupt that came in kernel mode: it notes an
// interrupt, fills a demand-zero page, resumes a copy of user memory that faulted, or makes the
// goroutine panic as the runtime's signal handler does on Linux.
//
//go:nosplit
func metalKernelTrap(f *metalTrapFrame) {
	if f.vector >= 32 {
		metalNote(f.vector)
		if metalProfile.slots != 0 && !metalProfile.idle {
			metalTimerInKernel(f)
			return
		}
		f.rflags &^= 1 << 9 // one interrupt a halt: see metalIdle
		return
	}
	address := uintptr(0)
	if f.vector == 14 {
		address = metalReadCR2()
		if f.code&1 == 0 && metalDemandZero(address) {
			return
		}
		if resume := metalCPU0.fixup; resume != 0 && address < 1<<47 {
			f.rip = resume
			f.rflags &^= 1 << 18 // AC, which STAC set
			return
		}
	}
	gp := getg()
	if gp == nil || f.vector == 8 || f.vector == 18 || f.rip < metalKernel && f.rip >= 1<<12 ||
		f.rsp < gp.stack.lo+256 || f.rsp > gp.stack.hi || !canpanic() || address >= 4096 && !gp.paniconfault {
		metalFail(f, address)
		return
	}
	switch f.vector {
	case 0:
		gp.sig, gp.sigcode0 = _SIGFPE, _FPE_INTDIV
	case 16, 19:
		gp.sig, gp.sigcode0 = _SIGFPE, 0
	case 14:
		gp.sig, gp.sigcode0 = _SIGSEGV, _SEGV_MAPERR
	default:
		gp.sig, gp.sigcode0 = _SIGSEGV, 0
	}
	gp.sigcode1, gp.sigpc = address, f.rip
	// The push must not fault on this handler's own stack.
	metalPopulate(f.rsp - goarch.PtrSize)
	if shouldPushSigpanic(gp, f.rip, *(*uintptr)(unsafe.Pointer(f.rsp))) {
		f.rsp -= goarch.PtrSize
		*(*uintptr)(unsafe.Pointer(f.rsp)) = f.rip
	}
	f.rip = abi.FuncPCABI0(sigpanic0)
	f.rflags &^= 1<<18 | 1<<10
}

// metalFailure is a kernel failure that is being reported.
var metalFailure = struct {
	running uintptr // 1: the registers are printed, 2: the rest is
	frame   metalTrapFrame
	stack   uintptr // top of the stack that the report runs on
}{stack: 1}

// metalFailureReport completes the report; see elver/cmd/kernel/failure.
var metalFailureReport func(rip uint64)

//go:linkname metal_OnFailure elver/runtime/metal.OnFailure
func metal_OnFailure(report func(rip uint64)) { metalFailureReport = report }

// metalFail reports a kernel failure, the exception of f, and ends the machine. What is certain to work
// comes first. The rest is ordinary Go, which may fault in turn: it runs on a stack of its own, after
// the return from this exception.
//
//go:nosplit
func metalFail(f *metalTrapFrame, address uintptr) {
	failure := &metalFailure
	if failure.running != 0 {
		metalDie("\nelver: kernel failure while reporting one\n")
	}
	failure.running = 1
	metalReport(f, address)
	if getg() == nil || f.vector == 8 || f.vector == 18 {
		metalExit(metalFailed)
	}
	failure.frame = *f
	f.rip = metalFailurePC()
	f.rsp = failure.stack - 64
	f.rflags &^= 1<<18 | 1<<10 | 1<<9
}

// metalFinishReport runs on the failure's stack.
func metalFinishReport() {
	f := &metalFailure.frame
	if metalFailureReport != nil {
		metalFailureReport(uint64(f.rip))
	}
	metalPrint("\ngoroutine stack:\n")
	gp := getg()
	systemstack(func() { traceback(f.rip, f.rsp, 0, gp) })
	exit(metalFailed)
}

// metalPopulate makes sure that the demand-zero page of va is there.
//
//go:nosplit
func metalPopulate(va uintptr) {
	if metalPhys64(metalTable(va, 0))&metalPresent == 0 {
		metalDemandZero(va)
	}
}

// metalReport prints the registers of a kernel failure.
//
//go:nosplit
func metalReport(f *metalTrapFrame, address uintptr) {
	metalPrint("\nelver: kernel failure: exception ")
	metalPrintHex(f.vector)
	metalPrint(" at ")
	metalPrintHex(f.rip)
	metalPrint(", code ")
	metalPrintHex(f.code)
	metalPrint(", address ")
	metalPrintHex(address)
	metalPrint("\n")
	const names = "r15 r14 r13 r12 rbp rbx r11 r10 r9  r8  rax rcx rdx rsi rdi "
	for i := uintptr(0); i < 15; i++ {
		metalPrint(names[4*i : 4*i+4])
		metalPrintHex(*(*uintptr)(add(unsafe.Pointer(f), 8*i)))
		if i%3 == 2 {
			metalPrint("\n")
		} else {
			metalPrint("  ")
		}
	}
	metalPrint("rsp ")
	metalPrintHex(f.rsp)
	metalPrint("  rflags ")
	metalPrintHex(f.rflags)
	metalPrint("\n")
}
