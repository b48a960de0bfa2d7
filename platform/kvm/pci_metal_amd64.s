//go:build elver

#include "textflag.h"

// func load16(va uint64) uint16
TEXT ·load16(SB), NOSPLIT, $0-10
	MOVQ	va+0(FP), AX
	MOVW	(AX), AX
	MOVW	AX, ret+8(FP)
	RET

// func store16(va uint64, v uint16)
TEXT ·store16(SB), NOSPLIT, $0-10
	MOVQ	va+0(FP), AX
	MOVW	v+8(FP), BX
	MOVW	BX, (AX)
	RET
