//go:build elver

#include "textflag.h"

// The functions without a body that aren't here are pushed by the runtime's overlay.

// func TSC() uint64
TEXT ·TSC(SB),NOSPLIT,$0-8
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+0(FP)
	RET
