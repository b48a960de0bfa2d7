#include "go_asm.h"
#include "go_tls.h"
#include "textflag.h"

// What Go's runtime asks of Linux, asked of the machine: each function goes on in the Go function
// of the metal_*.go files with the same arguments.

TEXT runtime·exit(SB),NOSPLIT|NOFRAME,$0-4
	JMP	·metalExit(SB)

// func exitThread(wait *atomic.Uint32)
TEXT runtime·exitThread(SB),NOSPLIT,$0-8
	MOVQ	wait+0(FP), AX
	MOVL	$0, (AX)	// the stack may be freed: nothing runs before the switch
	CALL	·metalExitM(SB)
	INT	$3

TEXT runtime·open(SB),NOSPLIT,$0-20
	MOVL	$-1, ret+16(FP)
	RET

TEXT runtime·closefd(SB),NOSPLIT,$0-12
	MOVL	$-1, ret+8(FP)
	RET

TEXT runtime·write1(SB),NOSPLIT|NOFRAME,$0-28
	JMP	·metalWrite1(SB)

TEXT runtime·read(SB),NOSPLIT,$0-28
	MOVL	$-1, ret+24(FP)
	RET

// func pipe2(flags int32) (r, w int32, errno int32)
TEXT runtime·pipe2(SB),NOSPLIT,$0-20
	MOVL	$38, errno+16(FP)	// ENOSYS
	RET

TEXT runtime·usleep(SB),NOSPLIT|NOFRAME,$0-4
	JMP	·metalUsleep(SB)

TEXT runtime·gettid(SB),NOSPLIT|NOFRAME,$0-4
	JMP	·metalGettid(SB)

// The runtime signals itself only to die.
TEXT runtime·raise(SB),NOSPLIT|NOFRAME,$0-4
	JMP	·metalExit(SB)

TEXT runtime·raiseproc(SB),NOSPLIT|NOFRAME,$0-4
	JMP	·metalExit(SB)

TEXT ·getpid(SB),NOSPLIT,$0-8
	MOVQ	$1, ret+0(FP)
	RET

// Asynchronous preemption is off: no thread is ever signalled.
TEXT ·tgkill(SB),NOSPLIT,$0-24
	RET

TEXT runtime·setitimer(SB),NOSPLIT,$0-24
	RET

TEXT runtime·timer_create(SB),NOSPLIT,$0-28
	MOVL	$-38, ret+24(FP)
	RET

TEXT runtime·timer_settime(SB),NOSPLIT,$0-28
	MOVL	$-38, ret+24(FP)
	RET

TEXT runtime·timer_delete(SB),NOSPLIT,$0-12
	MOVL	$-38, ret+8(FP)
	RET

TEXT runtime·mincore(SB),NOSPLIT,$0-28
	MOVL	$-38, ret+24(FP)
	RET

// func nanotime1() int64
TEXT runtime·nanotime1<ABIInternal>(SB),NOSPLIT|NOFRAME,$0-8
	JMP	·metalNanotime<ABIInternal>(SB)

// There are no signals.
TEXT runtime·rtsigprocmask(SB),NOSPLIT,$0-28
	RET

TEXT runtime·rt_sigaction(SB),NOSPLIT,$0-36
	MOVL	$0, ret+32(FP)
	RET

TEXT runtime·sigaltstack(SB),NOSPLIT,$0-16
	RET

TEXT runtime·sigtramp(SB),NOSPLIT|TOPFRAME|NOFRAME,$0
	INT	$3

TEXT runtime·cgoSigtramp(SB),NOSPLIT|NOFRAME,$0
	INT	$3

TEXT runtime·sigreturn__sigaction(SB),NOSPLIT|NOFRAME,$0
	INT	$3

TEXT runtime·sigfwd(SB),NOSPLIT,$0-32
	INT	$3

TEXT runtime·callCgoSigaction(SB),NOSPLIT,$0-28
	INT	$3

TEXT runtime·callCgoMmap(SB),NOSPLIT,$0-48
	INT	$3

TEXT runtime·callCgoMunmap(SB),NOSPLIT,$0-16
	INT	$3

TEXT runtime·sysMmap(SB),NOSPLIT|NOFRAME,$0-48
	JMP	·metalMmap(SB)

TEXT runtime·sysMunmap(SB),NOSPLIT|NOFRAME,$0-16
	JMP	·metalMunmap(SB)

TEXT runtime·madvise(SB),NOSPLIT|NOFRAME,$0-28
	JMP	·metalMadvise(SB)

// func futex(addr unsafe.Pointer, op int32, val uint32, ts, addr2 unsafe.Pointer, val3 uint32) int32
TEXT runtime·futex(SB),NOSPLIT|NOFRAME,$0-44
	JMP	·metalFutex(SB)

// func clone(flags int32, stk, mp, gp, fn unsafe.Pointer) int32
TEXT runtime·clone(SB),NOSPLIT|NOFRAME,$0-44
	JMP	·metalClone(SB)

// Sets the thread pointer to DI. It is called once, for m0: while rt0_go looks whether TLS works,
// GS points at m0's tls.
// m0 lies in demand-zero memory, which the fault handler cannot fill through a GS that points there.
TEXT runtime·settls(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$0, (DI)
	ADDQ	$8, DI
	MOVQ	DI, DX
	MOVL	DX, AX
	SHRQ	$32, DX
	MOVL	$0xc0000101, CX
	WRMSR
	RET

TEXT runtime·osyield(SB),NOSPLIT|NOFRAME,$0
	JMP	·metalYield(SB)

// func sched_getaffinity(pid, len uintptr, buf *byte) int32
// One CPU. It is the first question that the runtime asks the OS: from here on GS points at the
// CPU's block.
TEXT runtime·sched_getaffinity(SB),NOSPLIT,$0-28
	MOVQ	buf+16(FP), DI
	MOVQ	$1, (DI)
	MOVL	$8, ret+24(FP)
	get_tls(CX)
	MOVQ	g(CX), R8
	MOVQ	R8, runtime·metalCPU0(SB)
	LEAQ	runtime·metalCPU0+8(SB), DX
	MOVL	DX, AX
	SHRQ	$32, DX
	MOVL	$0xc0000101, CX
	WRMSR
	RET

// func access(name *byte, mode int32) int32
TEXT runtime·access(SB),NOSPLIT,$0-20
	MOVL	$-1, ret+16(FP)
	RET

TEXT runtime·connect(SB),NOSPLIT,$0-28
	MOVL	$-1, ret+24(FP)
	RET

TEXT runtime·socket(SB),NOSPLIT,$0-20
	MOVL	$-1, ret+16(FP)
	RET

// func sbrk0() uintptr
TEXT runtime·sbrk0(SB),NOSPLIT,$0-8
	MOVQ	$0, ret+0(FP)
	RET

// func vgetrandom1(buf *byte, length uintptr, flags uint32, state uintptr, stateSize uintptr) int
TEXT runtime·vgetrandom1<ABIInternal>(SB),NOSPLIT,$0-48
	MOVQ	$-1, AX
	RET
