//go:build elver

#include "textflag.h"

// GS:40 is where the kernel's page-fault handler goes on when a user address faults; it clears AC.
#define CPU_FIXUP	40(GS)
#define CPU_SMAP	52(GS)
#define STAC	CMPL CPU_SMAP, $0; JEQ 4(PC); BYTE $0x0f; BYTE $0x01; BYTE $0xcb
#define CLAC	CMPL CPU_SMAP, $0; JEQ 4(PC); BYTE $0x0f; BYTE $0x01; BYTE $0xca

// LOADROOT loads the page table in DX unless it is loaded.
#define LOADROOT	MOVQ CR3, AX; CMPQ AX, DX; JEQ 2(PC); MOVQ DX, CR3

// func copyUser(root, dst, src, n uint64) uint64
// Whole blocks go first, by an index that counts up to 0.
TEXT ·copyUser(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	root+0(FP), DX
	MOVQ	dst+8(FP), DI
	MOVQ	src+16(FP), SI
	MOVQ	n+24(FP), CX
	LOADROOT
	MOVQ	CX, BX
	ANDQ	$~127, BX
	JEQ	short
	LEAQ	copyBlocksStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	ADDQ	BX, SI
	ADDQ	BX, DI
	SUBQ	BX, CX
	NEGQ	BX
blocks:
	MOVUPS	0(SI)(BX*1), X0
	MOVUPS	16(SI)(BX*1), X1
	MOVUPS	32(SI)(BX*1), X2
	MOVUPS	48(SI)(BX*1), X3
	MOVUPS	64(SI)(BX*1), X4
	MOVUPS	80(SI)(BX*1), X5
	MOVUPS	96(SI)(BX*1), X6
	MOVUPS	112(SI)(BX*1), X7
	MOVUPS	X0, 0(DI)(BX*1)
	MOVUPS	X1, 16(DI)(BX*1)
	MOVUPS	X2, 32(DI)(BX*1)
	MOVUPS	X3, 48(DI)(BX*1)
	MOVUPS	X4, 64(DI)(BX*1)
	MOVUPS	X5, 80(DI)(BX*1)
	MOVUPS	X6, 96(DI)(BX*1)
	MOVUPS	X7, 112(DI)(BX*1)
	SUBQ	$-128, BX
	JNE	blocks
	TESTQ	CX, CX
	JEQ	done
short:
	LEAQ	copyBytes<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	CMPQ	CX, $16
	JB	word
words:
	MOVUPS	0(SI), X0
	MOVUPS	X0, 0(DI)
	ADDQ	$16, SI
	ADDQ	$16, DI
	SUBQ	$16, CX
	CMPQ	CX, $16
	JAE	words
word:
	CMPQ	CX, $8
	JB	bytes
	MOVQ	0(SI), AX
	MOVQ	AX, 0(DI)
	ADDQ	$8, SI
	ADDQ	$8, DI
	SUBQ	$8, CX
bytes:
	CMPQ	CX, $4
	JB	rest
	MOVL	0(SI), AX
	MOVL	AX, 0(DI)
	ADDQ	$4, SI
	ADDQ	$4, DI
	SUBQ	$4, CX
rest:
	TESTQ	CX, CX
	JEQ	done
	MOVB	0(SI), AX
	MOVB	AX, 0(DI)
	INCQ	SI
	INCQ	DI
	DECQ	CX
	JMP	rest
done:
	JMP	copyStop<>(SB)

// After a fault in a block: BX is what is left of the blocks, negative, and CX what follows them.
TEXT copyBlocksStop<>(SB),NOSPLIT|NOFRAME,$0-40
	ADDQ	BX, SI
	ADDQ	BX, DI
	SUBQ	BX, CX
	JMP	copyBytes<>(SB)

// After a fault: byte by byte up to the one that faults.
TEXT copyBytes<>(SB),NOSPLIT|NOFRAME,$0-40
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

TEXT copyStop<>(SB),NOSPLIT|NOFRAME,$0-40
	CLAC
	MOVQ	$0, CPU_FIXUP
	MOVQ	CX, 40(SP)
	RET

// func zeroUser(root, dst, n uint64) uint64
TEXT ·zeroUser(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ	root+0(FP), DX
	MOVQ	dst+8(FP), DI
	MOVQ	n+16(FP), CX
	LOADROOT
	LEAQ	zeroBytes<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	PXOR	X0, X0
	CMPQ	CX, $128
	JB	tail
blocks:
	MOVUPS	X0, 0(DI)
	MOVUPS	X0, 16(DI)
	MOVUPS	X0, 32(DI)
	MOVUPS	X0, 48(DI)
	MOVUPS	X0, 64(DI)
	MOVUPS	X0, 80(DI)
	MOVUPS	X0, 96(DI)
	MOVUPS	X0, 112(DI)
	SUBQ	$-128, DI
	ADDQ	$-128, CX
	CMPQ	CX, $128
	JAE	blocks
tail:
	JMP	zeroBytes<>(SB)

TEXT zeroBytes<>(SB),NOSPLIT|NOFRAME,$0-32
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

TEXT zeroStop<>(SB),NOSPLIT|NOFRAME,$0-32
	CLAC
	MOVQ	$0, CPU_FIXUP
	MOVQ	CX, 32(SP)
	RET

// func LoadUser32From(root, addr uint64) (v uint32, ok bool)
TEXT ·LoadUser32From(SB),NOSPLIT|NOFRAME,$0-21
	MOVQ	root+0(FP), DX
	MOVQ	addr+8(FP), DI
	LOADROOT
	MOVB	$0, ok+20(FP)
	LEAQ	wordStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	MOVL	0(DI), AX
	MOVL	AX, v+16(FP)
	MOVB	$1, ok+20(FP)
	JMP	wordStop<>(SB)

TEXT wordStop<>(SB),NOSPLIT|NOFRAME,$0-0
	CLAC
	MOVQ	$0, CPU_FIXUP
	RET

// func LoadUser64From(root, addr uint64) (v uint64, ok bool)
TEXT ·LoadUser64From(SB),NOSPLIT|NOFRAME,$0-25
	MOVQ	root+0(FP), DX
	MOVQ	addr+8(FP), DI
	LOADROOT
	MOVB	$0, ok+24(FP)
	LEAQ	wordStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	MOVQ	0(DI), AX
	MOVQ	AX, v+16(FP)
	MOVB	$1, ok+24(FP)
	JMP	wordStop<>(SB)

// func StoreUser32To(root, addr uint64, v uint32) (ok bool)
TEXT ·StoreUser32To(SB),NOSPLIT|NOFRAME,$0-25
	MOVQ	root+0(FP), DX
	MOVQ	addr+8(FP), DI
	MOVL	v+16(FP), CX
	LOADROOT
	MOVB	$0, ok+24(FP)
	LEAQ	wordStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	STAC
	MOVL	CX, 0(DI)
	MOVB	$1, ok+24(FP)
	JMP	wordStop<>(SB)

// func CompareAndSwapUser32In(root, addr uint64, old, new uint32) (prev uint32, ok bool)
TEXT ·CompareAndSwapUser32In(SB),NOSPLIT|NOFRAME,$0-29
	MOVQ	root+0(FP), DX
	MOVQ	addr+8(FP), DI
	MOVL	new+20(FP), CX
	LOADROOT
	MOVB	$0, ok+28(FP)
	LEAQ	wordStop<>(SB), AX
	MOVQ	AX, CPU_FIXUP
	MOVL	old+16(FP), AX
	STAC
	LOCK
	CMPXCHGL	CX, 0(DI)
	MOVL	AX, prev+24(FP)
	MOVB	$1, ok+28(FP)
	JMP	wordStop<>(SB)
