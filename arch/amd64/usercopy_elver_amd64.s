//go:build elver

#include "textflag.h"

// GS:40 is where the kernel's page-fault handler goes on when a user address faults; it clears AC.
#define CPU_FIXUP	40(GS)
#define CPU_SMAP	52(GS)
#define STAC	CMPL CPU_SMAP, $0; JEQ 4(PC); BYTE $0x0f; BYTE $0x01; BYTE $0xcb
#define CLAC	CMPL CPU_SMAP, $0; JEQ 4(PC); BYTE $0x0f; BYTE $0x01; BYTE $0xca

// func copyUser(dst, src, n uint64) uint64
TEXT ·copyUser(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ	dst+0(FP), DI
	MOVQ	src+8(FP), SI
	MOVQ	n+16(FP), CX
	LEAQ	copyBytes<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	CMPQ	CX, $64
	JB	words
blocks:
	MOVUPS	0(SI), X0
	MOVUPS	16(SI), X1
	MOVUPS	32(SI), X2
	MOVUPS	48(SI), X3
	MOVUPS	X0, 0(DI)
	MOVUPS	X1, 16(DI)
	MOVUPS	X2, 32(DI)
	MOVUPS	X3, 48(DI)
	ADDQ	$64, SI
	ADDQ	$64, DI
	SUBQ	$64, CX
	CMPQ	CX, $64
	JAE	blocks
words:
	CMPQ	CX, $8
	JB	bytes
	MOVQ	0(SI), AX
	MOVQ	AX, 0(DI)
	ADDQ	$8, SI
	ADDQ	$8, DI
	SUBQ	$8, CX
	JMP	words
bytes:
	TESTQ	CX, CX
	JEQ	done
	MOVB	0(SI), AX
	MOVB	AX, 0(DI)
	INCQ	SI
	INCQ	DI
	DECQ	CX
	JMP	bytes
done:
	JMP	copyStop<>(SB)

// After a fault: byte by byte up to the one that faults.
TEXT copyBytes<>(SB),NOSPLIT|NOFRAME,$0-32
	LEAQ	copyStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
loop:
	TESTQ	CX, CX
	JEQ	done
	MOVB	0(SI), AX
	MOVB	AX, 0(DI)
	INCQ	SI
	INCQ	DI
	DECQ	CX
	JMP	loop
done:
	JMP	copyStop<>(SB)

TEXT copyStop<>(SB),NOSPLIT|NOFRAME,$0-32
	CLAC
	MOVQ	$0, CPU_FIXUP
	MOVQ	CX, 32(SP)
	RET

// func zeroUser(dst, n uint64) uint64
TEXT ·zeroUser(SB),NOSPLIT|NOFRAME,$0-24
	MOVQ	dst+0(FP), DI
	MOVQ	n+8(FP), CX
	LEAQ	zeroBytes<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	PXOR	X0, X0
	CMPQ	CX, $64
	JB	tail
blocks:
	MOVUPS	X0, 0(DI)
	MOVUPS	X0, 16(DI)
	MOVUPS	X0, 32(DI)
	MOVUPS	X0, 48(DI)
	ADDQ	$64, DI
	SUBQ	$64, CX
	CMPQ	CX, $64
	JAE	blocks
tail:
	JMP	zeroBytes<>(SB)

TEXT zeroBytes<>(SB),NOSPLIT|NOFRAME,$0-24
	LEAQ	zeroStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
loop:
	TESTQ	CX, CX
	JEQ	done
	MOVB	$0, 0(DI)
	INCQ	DI
	DECQ	CX
	JMP	loop
done:
	JMP	zeroStop<>(SB)

TEXT zeroStop<>(SB),NOSPLIT|NOFRAME,$0-24
	CLAC
	MOVQ	$0, CPU_FIXUP
	MOVQ	CX, 24(SP)
	RET

// func LoadUser32(addr uint64) (v uint32, ok bool)
TEXT ·LoadUser32(SB),NOSPLIT|NOFRAME,$0-13
	MOVQ	addr+0(FP), DI
	MOVB	$0, ok+12(FP)
	LEAQ	wordStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	MOVL	0(DI), AX
	MOVL	AX, v+8(FP)
	MOVB	$1, ok+12(FP)
	JMP	wordStop<>(SB)

TEXT wordStop<>(SB),NOSPLIT|NOFRAME,$0-0
	CLAC
	MOVQ	$0, CPU_FIXUP
	RET

// func StoreUser32(addr uint64, v uint32) (ok bool)
TEXT ·StoreUser32(SB),NOSPLIT|NOFRAME,$0-17
	MOVQ	addr+0(FP), DI
	MOVL	v+8(FP), CX
	MOVB	$0, ok+16(FP)
	LEAQ	wordStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	MOVL	CX, 0(DI)
	MOVB	$1, ok+16(FP)
	JMP	wordStop<>(SB)

// func CompareAndSwapUser32(addr uint64, old, new uint32) (prev uint32, ok bool)
TEXT ·CompareAndSwapUser32(SB),NOSPLIT|NOFRAME,$0-21
	MOVQ	addr+0(FP), DI
	MOVL	new+12(FP), CX
	MOVB	$0, ok+20(FP)
	LEAQ	wordStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	MOVL	old+8(FP), AX
	STAC
	LOCK
	CMPXCHGL	CX, 0(DI)
	MOVL	AX, prev+16(FP)
	MOVB	$1, ok+20(FP)
	JMP	wordStop<>(SB)
