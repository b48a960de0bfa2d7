//go:build elver

#include "textflag.h"

// func tripleFault()
TEXT ·tripleFault(SB), NOSPLIT, $16-0
	CLI
	MOVQ	$0, 0(SP)	// limit 0, base 0: no gate for the trap, nor for the double fault
	MOVQ	$0, 8(SP)
	MOVQ	SP, AX
	BYTE	$0x0f; BYTE $0x01; BYTE $0x18	// LIDT (AX)
	BYTE	$0x0f; BYTE $0x0b		// UD2
loop:
	HLT
	JMP	loop

// func halt()
TEXT ·halt(SB), NOSPLIT, $0-0
	CLI
loop:
	HLT
	JMP	loop

// func load8(va uint64) uint8
TEXT ·load8(SB), NOSPLIT, $0-9
	MOVQ	va+0(FP), AX
	MOVB	(AX), AX
	MOVB	AX, ret+8(FP)
	RET

// func store8(va uint64, v uint8)
TEXT ·store8(SB), NOSPLIT, $0-9
	MOVQ	va+0(FP), AX
	MOVB	v+8(FP), BX
	MOVB	BX, (AX)
	RET
