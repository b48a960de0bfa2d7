#include "go_asm.h"
#include "go_tls.h"
#include "textflag.h"

// The entry of the image, from the 32-bit stub: DI is the boot protocol's magic, SI its
// information, CX the end of the boot scratch. GS base must be right before Go code is called.
TEXT runtime·elverEntry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CLI
	CLD
	MOVQ	DI, R12
	MOVQ	SI, R13
	MOVQ	CX, R15
	LEAQ	runtime·metalCPU0+8(SB), DX
	MOVL	DX, AX
	SHRQ	$32, DX
	MOVL	$0xc0000101, CX
	WRMSR
	XORL	BP, BP
	SUBQ	$64, SP
	ANDQ	$~15, SP
	// Segment registers hold the stub's; SSE on: CR0.EM=0, MP=1, CR4.OSFXSR|OSXMMEXCPT.
	MOVQ	CR0, AX
	ANDQ	$~4, AX
	ORQ	$0x10022, AX
	MOVQ	AX, CR0
	MOVQ	CR4, AX
	ORQ	$0x680, AX
	MOVQ	AX, CR4
	MOVL	$0x1f80, 32(SP)
	LDMXCSR	32(SP)
	PXOR	X15, X15
	MOVQ	R12, 0(SP)
	MOVQ	R13, 8(SP)
	MOVQ	R15, 16(SP)
	LEAQ	·metalBoot(SB), AX	// by register: the boot stack has room beyond NOSPLIT's budget
	CALL	AX
	MOVQ	24(SP), SP
	XORL	BP, BP
	JMP	_rt0_amd64(SB)

// func metalRDTSC() uint64
TEXT ·metalRDTSC(SB),NOSPLIT,$0-8
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+0(FP)
	RET

// func metalNanotime() int64
TEXT ·metalNanotime<ABIInternal>(SB),NOSPLIT|NOFRAME,$0-8
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	SUBQ	·metalClock+metalClockState_tsc(SB), AX
	MULQ	·metalClock+metalClockState_scale(SB)
	SHRQ	$32, DX, AX
	ADDQ	·metalClock+metalClockState_ns(SB), AX
	RET

// func metalScale(x, scale uint64) uint64
TEXT ·metalScale(SB),NOSPLIT,$0-24
	MOVQ	x+0(FP), AX
	MULQ	scale+8(FP)
	SHRQ	$32, DX, AX
	MOVQ	AX, ret+16(FP)
	RET

// func metalCPUID(leaf, sub uint32, out *[4]uint32)
TEXT ·metalCPUID(SB),NOSPLIT,$0-16
	MOVL	leaf+0(FP), AX
	MOVL	sub+4(FP), CX
	MOVQ	out+8(FP), DI
	CPUID
	MOVL	AX, 0(DI)
	MOVL	BX, 4(DI)
	MOVL	CX, 8(DI)
	MOVL	DX, 12(DI)
	RET

// func metalReadMSR(msr uint32) uint64
TEXT ·metalReadMSR(SB),NOSPLIT,$0-16
	MOVL	msr+0(FP), CX
	RDMSR
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+8(FP)
	RET

// func metalWriteMSR(msr uint32, v uint64)
TEXT ·metalWriteMSR(SB),NOSPLIT,$0-16
	MOVL	msr+0(FP), CX
	MOVL	v+8(FP), AX
	MOVL	v+12(FP), DX
	WRMSR
	RET

// func metalRDRAND() (v uint64, ok bool)
TEXT ·metalRDRAND(SB),NOSPLIT,$0-9
	RDRANDQ	AX
	SETCS	ok+8(FP)
	MOVQ	AX, v+0(FP)
	RET

// func metalRDSEED() (v uint64, ok bool)
TEXT ·metalRDSEED(SB),NOSPLIT,$0-9
	RDSEEDQ	AX
	SETCS	ok+8(FP)
	MOVQ	AX, v+0(FP)
	RET

// func metalIn8(port uint16) uint8
TEXT ·metalIn8(SB),NOSPLIT,$0-9
	MOVW	port+0(FP), DX
	INB
	MOVB	AX, ret+8(FP)
	RET

// func metalOut8(port uint16, v uint8)
TEXT ·metalOut8(SB),NOSPLIT,$0-3
	MOVW	port+0(FP), DX
	MOVB	v+2(FP), AX
	OUTB
	RET

// func metalOut16(port uint16, v uint16)
TEXT ·metalOut16(SB),NOSPLIT,$0-4
	MOVW	port+0(FP), DX
	MOVW	v+2(FP), AX
	OUTW
	RET

// func metalLoad32(va uintptr) uint32
TEXT ·metalLoad32(SB),NOSPLIT,$0-12
	MOVQ	va+0(FP), AX
	MOVL	(AX), AX
	MOVL	AX, ret+8(FP)
	RET

// func metalStore32(va uintptr, v uint32)
TEXT ·metalStore32(SB),NOSPLIT,$0-12
	MOVQ	va+0(FP), AX
	MOVL	v+8(FP), CX
	MOVL	CX, (AX)
	RET

// func metalMaskPICs()
// Masks the two legacy interrupt controllers.
TEXT ·metalMaskPICs(SB),NOSPLIT,$0
	MOVB	$0xff, AX
	OUTB	$0x21
	OUTB	$0xa1
	RET

// func metalClear(va, n uintptr)
// n is a multiple of 64. SSE, not REP STOS: -icount counts every iteration of a REP.
TEXT ·metalClear(SB),NOSPLIT,$0-16
	MOVQ	va+0(FP), DI
	MOVQ	n+8(FP), CX
	ADDQ	DI, CX
	PXOR	X0, X0
loop:
	MOVUPS	X0, 0(DI)
	MOVUPS	X0, 16(DI)
	MOVUPS	X0, 32(DI)
	MOVUPS	X0, 48(DI)
	MOVUPS	X0, 64(DI)
	MOVUPS	X0, 80(DI)
	MOVUPS	X0, 96(DI)
	MOVUPS	X0, 112(DI)
	ADDQ	$128, DI
	CMPQ	DI, CX
	JB	loop
	RET

// func metalLoadRoot(pa uintptr)
TEXT ·metalLoadRoot(SB),NOSPLIT,$0-8
	MOVQ	pa+0(FP), AX
	MOVQ	AX, CR3
	RET

// func metalReadCR2() uintptr
TEXT ·metalReadCR2(SB),NOSPLIT,$0-8
	MOVQ	CR2, AX
	MOVQ	AX, ret+0(FP)
	RET

// func metalInvalidate(va uintptr)
TEXT ·metalInvalidate(SB),NOSPLIT,$0-8
	MOVQ	va+0(FP), AX
	INVLPG	(AX)
	RET

// func metalLoadTables(gdt, gdtLimit, idt, idtLimit, tss uintptr)
TEXT ·metalLoadTables(SB),NOSPLIT,$16-40
	MOVQ	gdtLimit+8(FP), AX
	MOVW	AX, 0(SP)
	MOVQ	gdt+0(FP), AX
	MOVQ	AX, 2(SP)
	LGDT	0(SP)
	MOVQ	idtLimit+24(FP), AX
	MOVW	AX, 0(SP)
	MOVQ	idt+16(FP), AX
	MOVQ	AX, 2(SP)
	LIDT	0(SP)
	MOVQ	tss+32(FP), AX
	LTR	AX
	// DS, ES, FS and GS hold no descriptor; a load of GS clears its base, which comes back.
	MOVL	$0xc0000101, CX
	RDMSR
	MOVL	AX, BX
	XORL	AX, AX
	MOVW	AX, DS
	MOVW	AX, ES
	MOVW	AX, FS
	MOVW	AX, GS
	MOVL	BX, AX
	WRMSR
	// SS and CS: by a far return in 64-bit code.
	MOVQ	SP, BX
	PUSHQ	$0x18
	PUSHQ	BX
	PUSHFQ
	PUSHQ	$0x10
	LEAQ	reloaded(SB), AX
	PUSHQ	AX
	IRETQ
TEXT reloaded(SB),NOSPLIT|NOFRAME,$0
	// The frame of metalLoadTables: 16 bytes and the saved BP.
	MOVQ	16(SP), BP
	LEAQ	24(SP), SP
	RET

// func metalHalt()
// Halts until an interrupt. The handler returns with interrupts off, so that just one is taken.
TEXT ·metalHalt(SB),NOSPLIT,$0
	STI
	HLT
	CLI
	RET

// func metalSetPriority(class uint64)
// Interrupts of vectors up to class<<4|15 wait.
TEXT ·metalSetPriority(SB),NOSPLIT,$0-8
	MOVQ	class+0(FP), AX
	MOVQ	AX, CR8
	RET

// func metalInterruptsOn()
TEXT ·metalInterruptsOn(SB),NOSPLIT,$0
	STI
	RET

// func metalInterruptsOff()
TEXT ·metalInterruptsOff(SB),NOSPLIT,$0
	CLI
	RET

// func metalReset()
// Ends a machine that can't be switched off: a triple fault, which ends QEMU with -no-reboot.
TEXT ·metalReset(SB),NOSPLIT,$16
	CLI
	MOVQ	$0, 0(SP)
	MOVQ	$0, 8(SP)
	LIDT	0(SP)
	INT	$3
	HLT
	JMP	-1(PC)

// func metalSwitch(sp, oldG *uintptr, nextSP, nextG uintptr)
// Gives the CPU to another M: saves the stack pointer and g, and takes the other's.
TEXT ·metalSwitch(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ	sp+0(FP), AX
	MOVQ	oldG+8(FP), BX
	MOVQ	nextSP+16(FP), CX
	MOVQ	nextG+24(FP), DX
	PUSHQ	BP
	MOVQ	SP, (AX)
	get_tls(DI)
	MOVQ	g(DI), AX
	MOVQ	AX, (BX)
	MOVQ	DX, g(DI)
	MOVQ	DX, R14
	MOVQ	CX, SP
	POPQ	BP
	RET

// Where a new M starts, on its own stack.
TEXT runtime·metalStartM(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	get_tls(CX)
	MOVQ	g(CX), R14
	SUBQ	$16, SP
	CALL	·metalStarted(SB)
	MOVQ	0(SP), AX
	ADDQ	$16, SP
	TESTQ	R14, R14
	JEQ	nog
	PUSHQ	AX
	CALL	runtime·stackcheck(SB)
	POPQ	AX
nog:
	CALL	AX
	CALL	·metalExitM(SB)
	INT	$3

// func metalStartPC() uintptr
TEXT ·metalStartPC(SB),NOSPLIT,$0-8
	LEAQ	runtime·metalStartM(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func metalVectorsPC() uintptr
TEXT ·metalVectorsPC(SB),NOSPLIT,$0-8
	LEAQ	runtime·metalVectors(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func metalFailurePC() uintptr
TEXT ·metalFailurePC(SB),NOSPLIT,$0-8
	LEAQ	runtime·metalFailureEntry(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// Where a kernel failure goes on, on its own stack.
TEXT runtime·metalFailureEntry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	XORL	BP, BP
	PXOR	X15, X15
	LEAQ	·metalFinishReport(SB), AX
	CALL	AX
	INT	$3

// The trap entry of every vector: 8 bytes each. The CALL's return address tells the vector; it
// stands below the error code, or the 0 pushed in its place (as bytes: the linker would add up the pushes).
#define STUB	BYTE $0x6a; BYTE $0x00; CALL runtime·metalTrap(SB); BYTE $0x90
#define STUBCODE	BYTE $0x66; BYTE $0x90; CALL runtime·metalTrap(SB); BYTE $0x90
#define STUB8	STUB; STUB; STUB; STUB; STUB; STUB; STUB; STUB
#define STUB32	STUB8; STUB8; STUB8; STUB8

TEXT runtime·metalVectors(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	STUB8						// 0-7
	STUBCODE; STUB; STUBCODE; STUBCODE; STUBCODE; STUBCODE; STUBCODE; STUB	// 8-15
	STUB; STUBCODE; STUB; STUB; STUB; STUBCODE; STUB; STUB	// 16-23
	STUB; STUB; STUB; STUB; STUB; STUBCODE; STUBCODE; STUB	// 24-31
	STUB32; STUB32; STUB32; STUB32; STUB32; STUB32; STUB32

// On the stack: the stub's address, the error code, RIP, CS, RFLAGS, RSP, SS.
TEXT runtime·metalTrap(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CLD
	PUSHQ	AX
	PUSHQ	CX
	LEAQ	runtime·metalVectors(SB), CX
	MOVQ	16(SP), AX
	SUBQ	CX, AX
	SHRQ	$3, AX
	MOVQ	AX, 16(SP)
	CMPQ	AX, $2
	JEQ	nmi
	TESTB	$3, 40(SP)
	JEQ	kernel
	POPQ	CX
	POPQ	AX
	SWAPGS
	BYTE $0x65; BYTE $0xff; BYTE $0x24; BYTE $0x25; LONG $32	// JMP *GS:32, userTrap

nmi:
	// Nothing sends NMIs that mean something to us. GS may be the program's here.
	POPQ	CX
	POPQ	AX
	ADDQ	$16, SP
	IRETQ

debug:
	// #DB in kernel mode: MOV SS before SYSCALL delays the program's into the entry, where GS
	// is still its own (CVE-2018-8897). It is the program's affair: go on without.
	POPQ	CX
	POPQ	AX
	ADDQ	$16, SP
	ANDQ	$~0x100, 16(SP)
	IRETQ

kernel:
	CMPQ	AX, $1
	JEQ	debug
	CMPQ	AX, $8
	JEQ	lost
	CMPQ	AX, $18
	JEQ	lost
save:
	PUSHQ	DX
	PUSHQ	SI
	PUSHQ	DI
	// In metalTrapFrame's order RDI lies highest, then RSI, RDX, RCX, RAX.
	MOVQ	0(SP), DI
	MOVQ	8(SP), SI
	MOVQ	16(SP), DX
	MOVQ	24(SP), CX
	MOVQ	32(SP), AX
	MOVQ	DI, 32(SP)
	MOVQ	SI, 24(SP)
	MOVQ	DX, 16(SP)
	MOVQ	CX, 8(SP)
	MOVQ	AX, 0(SP)
	PUSHQ	R8
	PUSHQ	R9
	PUSHQ	R10
	PUSHQ	R11
	PUSHQ	BX
	PUSHQ	BP
	PUSHQ	R12
	PUSHQ	R13
	PUSHQ	R14
	PUSHQ	R15
	MOVQ	SP, AX
	SUBQ	$272, SP
	MOVUPS	X0, 16(SP)
	MOVUPS	X1, 32(SP)
	MOVUPS	X2, 48(SP)
	MOVUPS	X3, 64(SP)
	MOVUPS	X4, 80(SP)
	MOVUPS	X5, 96(SP)
	MOVUPS	X6, 112(SP)
	MOVUPS	X7, 128(SP)
	MOVUPS	X8, 144(SP)
	MOVUPS	X9, 160(SP)
	MOVUPS	X10, 176(SP)
	MOVUPS	X11, 192(SP)
	MOVUPS	X12, 208(SP)
	MOVUPS	X13, 224(SP)
	MOVUPS	X14, 240(SP)
	MOVUPS	X15, 256(SP)
	PXOR	X15, X15
	MOVQ	AX, 0(SP)
	// By register: this stack is the trap's own, so the linker's budget for NOSPLIT doesn't apply.
	LEAQ	·metalKernelTrap(SB), AX
	CALL	AX
	MOVUPS	16(SP), X0
	MOVUPS	32(SP), X1
	MOVUPS	48(SP), X2
	MOVUPS	64(SP), X3
	MOVUPS	80(SP), X4
	MOVUPS	96(SP), X5
	MOVUPS	112(SP), X6
	MOVUPS	128(SP), X7
	MOVUPS	144(SP), X8
	MOVUPS	160(SP), X9
	MOVUPS	176(SP), X10
	MOVUPS	192(SP), X11
	MOVUPS	208(SP), X12
	MOVUPS	224(SP), X13
	MOVUPS	240(SP), X14
	MOVUPS	256(SP), X15
	ADDQ	$272, SP
	POPQ	R15
	POPQ	R14
	POPQ	R13
	POPQ	R12
	POPQ	BP
	POPQ	BX
	POPQ	R11
	POPQ	R10
	POPQ	R9
	POPQ	R8
	POPQ	AX
	POPQ	CX
	POPQ	DX
	POPQ	SI
	POPQ	DI
	ADDQ	$16, SP
	IRETQ

lost:
	// #DF and #MC come anywhere, also where GS is the program's.
	PUSHQ	DX
	LEAQ	runtime·metalCPU0+8(SB), DX
	MOVL	DX, AX
	SHRQ	$32, DX
	MOVL	$0xc0000101, CX
	WRMSR
	POPQ	DX
	JMP	save
