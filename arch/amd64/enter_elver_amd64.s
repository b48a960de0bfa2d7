//go:build elver

#include "go_asm.h"
#include "textflag.h"

// The per-CPU block, from GS base: see metalCPU in the runtime's overlay.
#define CPU_CONTEXT	8(GS)
#define CPU_KERNELSP	16(GS)
#define CPU_USERSP	24(GS)
#define CPU_MXCSR	48(GS)
#define CPU_SMAP	52(GS)

// XMM registers live in the legacy region of the context's XSAVE image.
#define EACHXMM(op) \
	op(160, X0); op(176, X1); op(192, X2); op(208, X3); \
	op(224, X4); op(240, X5); op(256, X6); op(272, X7); \
	op(288, X8); op(304, X9); op(320, X10); op(336, X11); \
	op(352, X12); op(368, X13); op(384, X14); op(400, X15)
#define LOADXMM(off, x)	MOVUPS off(DX), x
#define SAVEXMM(off, x)	MOVUPS x, off(DX)

// func enter(c *Context, root uint64) uint64
// Goes to ring 3 with the registers of c, in the address space of root. It returns, to the same stack, from one of the entries
// below, with their Event.
TEXT ·enter(SB),NOSPLIT|NOFRAME,$0-24
	MOVQ	c+0(FP), AX
	MOVQ	root+8(FP), CX
	MOVQ	CR3, DX
	CMPQ	DX, CX
	JEQ	loaded
	MOVQ	CX, CR3
loaded:
	PUSHQ	BP
	MOVQ	SP, CPU_KERNELSP
	MOVQ	AX, CPU_CONTEXT
	MOVQ	Context_extended(AX), DX
	EACHXMM(LOADXMM)
	LDMXCSR	Context_mxcsr(AX)
	CMPL	Context_iret(AX), $0
	JNE	iret
	MOVQ	Context_R15(AX), R15
	MOVQ	Context_R14(AX), R14
	MOVQ	Context_R13(AX), R13
	MOVQ	Context_R12(AX), R12
	MOVQ	Context_RBP(AX), BP
	MOVQ	Context_RBX(AX), BX
	MOVQ	Context_R10(AX), R10
	MOVQ	Context_R9(AX), R9
	MOVQ	Context_R8(AX), R8
	MOVQ	Context_RDX(AX), DX
	MOVQ	Context_RSI(AX), SI
	MOVQ	Context_RDI(AX), DI
	MOVQ	Context_RIP(AX), CX
	MOVQ	Context_RFLAGS(AX), R11
	MOVQ	Context_RSP(AX), SP
	MOVQ	Context_RAX(AX), AX
	SWAPGS
	BYTE	$0x48; BYTE $0x0f; BYTE $0x07	// SYSRETQ

iret:
	PUSHQ	Context_SS(AX)
	PUSHQ	Context_RSP(AX)
	PUSHQ	Context_RFLAGS(AX)
	PUSHQ	Context_CS(AX)
	PUSHQ	Context_RIP(AX)
	MOVQ	Context_R15(AX), R15
	MOVQ	Context_R14(AX), R14
	MOVQ	Context_R13(AX), R13
	MOVQ	Context_R12(AX), R12
	MOVQ	Context_RBP(AX), BP
	MOVQ	Context_RBX(AX), BX
	MOVQ	Context_R11(AX), R11
	MOVQ	Context_R10(AX), R10
	MOVQ	Context_R9(AX), R9
	MOVQ	Context_R8(AX), R8
	MOVQ	Context_RDX(AX), DX
	MOVQ	Context_RSI(AX), SI
	MOVQ	Context_RDI(AX), DI
	MOVQ	Context_RCX(AX), CX
	MOVQ	Context_RAX(AX), AX
	SWAPGS
	BYTE	$0x48; BYTE $0xcf	// IRETQ, as bytes: go vet takes it for a return to Go

// The SYSCALL entry: CX is the program's RIP, R11 its RFLAGS, SP still its own. Interrupts are off
// (SFMASK). A call whose answer is in the context returns from here.
TEXT syscallEntry<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SWAPGS
	MOVQ	SP, CPU_USERSP
	CMPQ	AX, $512
	JAE	slow
	MOVBLZX	64(AX)(GS*1), SP
	TESTL	SP, SP
	JEQ	slow
	SHLQ	$3, SP
	ADDQ	CPU_CONTEXT, SP
	MOVQ	0(SP), AX
	MOVQ	CPU_USERSP, SP
	SWAPGS
	BYTE	$0x48; BYTE $0x0f; BYTE $0x07	// SYSRETQ
slow:
	MOVQ	CPU_CONTEXT, SP
	MOVQ	AX, Context_OrigRAX(SP)
	MOVQ	R15, Context_R15(SP)
	MOVQ	R14, Context_R14(SP)
	MOVQ	R13, Context_R13(SP)
	MOVQ	R12, Context_R12(SP)
	MOVQ	BP, Context_RBP(SP)
	MOVQ	BX, Context_RBX(SP)
	MOVQ	R10, Context_R10(SP)
	MOVQ	R9, Context_R9(SP)
	MOVQ	R8, Context_R8(SP)
	MOVQ	DX, Context_RDX(SP)
	MOVQ	SI, Context_RSI(SP)
	MOVQ	DI, Context_RDI(SP)
	MOVQ	CX, Context_RIP(SP)
	MOVQ	R11, Context_RFLAGS(SP)
	MOVQ	CPU_USERSP, AX
	MOVQ	AX, Context_RSP(SP)
	MOVL	$0, Context_iret(SP)
	MOVQ	Context_extended(SP), DX
	STMXCSR	Context_mxcsr(SP)
	LDMXCSR	CPU_MXCSR
	EACHXMM(SAVEXMM)
	MOVQ	CPU_KERNELSP, SP
	BYTE	$0x5d	// POPQ BP, as a byte: enter pushed it, not this function
	MOVQ	$const_EventSyscall, 24(SP)	// enter's result, above its return address and arguments
	RET

// SYSCALL in compatibility mode: there are no 32-bit programs here.
TEXT syscall32Entry<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$-38, AX	// ENOSYS
	BYTE	$0x0f; BYTE $0x07	// SYSRETL

// The trap entry from user mode: on the trap's stack are the vector, the error code, RIP, CS,
// RFLAGS, RSP and SS; GS is the kernel's.
TEXT trapEntry<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	AX, CPU_USERSP
	MOVQ	CPU_CONTEXT, AX
	MOVQ	R15, Context_R15(AX)
	MOVQ	R14, Context_R14(AX)
	MOVQ	R13, Context_R13(AX)
	MOVQ	R12, Context_R12(AX)
	MOVQ	BP, Context_RBP(AX)
	MOVQ	BX, Context_RBX(AX)
	MOVQ	R11, Context_R11(AX)
	MOVQ	R10, Context_R10(AX)
	MOVQ	R9, Context_R9(AX)
	MOVQ	R8, Context_R8(AX)
	MOVQ	DX, Context_RDX(AX)
	MOVQ	SI, Context_RSI(AX)
	MOVQ	DI, Context_RDI(AX)
	MOVQ	CX, Context_RCX(AX)
	MOVQ	CPU_USERSP, BX
	MOVQ	BX, Context_RAX(AX)
	MOVQ	$-1, Context_OrigRAX(AX)
	MOVQ	0(SP), CX
	MOVQ	CX, Context_Vector(AX)
	MOVQ	8(SP), BX
	MOVQ	BX, Context_ErrorCode(AX)
	MOVQ	16(SP), BX
	MOVQ	BX, Context_RIP(AX)
	MOVQ	24(SP), BX
	MOVQ	BX, Context_CS(AX)
	MOVQ	32(SP), BX
	MOVQ	BX, Context_RFLAGS(AX)
	MOVQ	40(SP), BX
	MOVQ	BX, Context_RSP(AX)
	MOVQ	48(SP), BX
	MOVQ	BX, Context_SS(AX)
	MOVL	$1, Context_iret(AX)
	CMPL	CPU_SMAP, $0
	JEQ	noac
	BYTE	$0x0f; BYTE $0x01; BYTE $0xca	// CLAC: the program may have set AC
noac:
	MOVQ	Context_extended(AX), DX
	STMXCSR	Context_mxcsr(AX)
	LDMXCSR	CPU_MXCSR
	EACHXMM(SAVEXMM)
	MOVL	$const_EventInterrupt, BX
	CMPQ	CX, $32
	JAE	leave
	MOVL	$const_EventException, BX
	CMPQ	CX, $14
	JNE	leave
	MOVL	$const_EventFault, BX
	MOVQ	CR2, DX
	MOVQ	DX, Context_FaultAddress(AX)
leave:
	MOVQ	CPU_KERNELSP, SP
	BYTE	$0x5d	// POPQ BP
	MOVQ	BX, 24(SP)
	RET

// func entryPoints() (syscall, syscall32, trap uintptr)
TEXT ·entryPoints(SB),NOSPLIT,$0-24
	LEAQ	syscallEntry<>(SB), AX
	MOVQ	AX, syscall+0(FP)
	LEAQ	syscall32Entry<>(SB), AX
	MOVQ	AX, syscall32+8(FP)
	LEAQ	trapEntry<>(SB), AX
	MOVQ	AX, trap+16(FP)
	RET

// func xsave(area *byte, components uint64)
TEXT ·xsave(SB),NOSPLIT,$0-16
	MOVQ	area+0(FP), DI
	MOVQ	components+8(FP), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	BYTE	$0x48; BYTE $0x0f; BYTE $0xae; BYTE $0x27	// XSAVE64 (DI)
	RET

// func xrstor(area *byte, components uint64)
TEXT ·xrstor(SB),NOSPLIT,$0-16
	MOVQ	area+0(FP), DI
	MOVQ	components+8(FP), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	BYTE	$0x48; BYTE $0x0f; BYTE $0xae; BYTE $0x2f	// XRSTOR64 (DI)
	RET

// func saveState(c *Context, components uint64)
// The program's GS base is a SWAPGS away, which is cheaper than an MSR.
TEXT ·saveState(SB),NOSPLIT,$0-16
	MOVQ	c+0(FP), CX
	MOVQ	components+8(FP), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVQ	Context_extended(CX), DI
	BYTE	$0x48; BYTE $0x0f; BYTE $0xae; BYTE $0x27	// XSAVE64 (DI)
	BYTE	$0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xc0	// RDFSBASE AX
	SWAPGS
	BYTE	$0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xca	// RDGSBASE DX
	SWAPGS
	MOVQ	AX, Context_fsBase(CX)
	MOVQ	DX, Context_gsBase(CX)
	RET

// func loadState(c *Context, components uint64)
TEXT ·loadState(SB),NOSPLIT,$0-16
	MOVQ	c+0(FP), CX
	MOVQ	components+8(FP), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVQ	Context_extended(CX), DI
	BYTE	$0x48; BYTE $0x0f; BYTE $0xae; BYTE $0x2f	// XRSTOR64 (DI)
	MOVQ	Context_fsBase(CX), AX
	MOVQ	Context_gsBase(CX), DX
	BYTE	$0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xd0	// WRFSBASE AX
	SWAPGS
	BYTE	$0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xda	// WRGSBASE DX
	SWAPGS
	RET

// func fxsave(area *byte)
TEXT ·fxsave(SB),NOSPLIT,$0-8
	MOVQ	area+0(FP), DI
	FXSAVE64	(DI)
	RET

// func fxrstor(area *byte)
TEXT ·fxrstor(SB),NOSPLIT,$0-8
	MOVQ	area+0(FP), DI
	FXRSTOR64	(DI)
	RET

// func readFSBase() uint64
TEXT ·readFSBase(SB),NOSPLIT,$0-8
	BYTE	$0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xc0	// RDFSBASE AX
	MOVQ	AX, ret+0(FP)
	RET

// func writeFSBase(base uint64)
TEXT ·writeFSBase(SB),NOSPLIT,$0-8
	MOVQ	base+0(FP), AX
	BYTE	$0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xd0	// WRFSBASE AX
	RET

// func readDR6() uint64
TEXT ·readDR6(SB),NOSPLIT,$0-8
	MOVQ	DR6, AX
	MOVQ	AX, ret+0(FP)
	RET

// func writeDR6(v uint64)
TEXT ·writeDR6(SB),NOSPLIT,$0-8
	MOVQ	v+0(FP), AX
	MOVQ	AX, DR6
	RET

// func writeDR7(v uint64)
TEXT ·writeDR7(SB),NOSPLIT,$0-8
	MOVQ	v+0(FP), AX
	MOVQ	AX, DR7
	RET

// func writeDR(a0, a1, a2, a3 uint64)
TEXT ·writeDR(SB),NOSPLIT,$0-32
	MOVQ	a0+0(FP), AX
	MOVQ	AX, DR0
	MOVQ	a1+8(FP), AX
	BYTE	$0x0f; BYTE $0x23; BYTE $0xc8	// MOVQ AX, DR1
	MOVQ	a2+16(FP), AX
	BYTE	$0x0f; BYTE $0x23; BYTE $0xd0	// MOVQ AX, DR2
	MOVQ	a3+24(FP), AX
	BYTE	$0x0f; BYTE $0x23; BYTE $0xd8	// MOVQ AX, DR3
	RET
