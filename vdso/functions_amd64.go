package vdso

import "golang.org/x/sys/unix"

// Offsets in the data page. Clock i's nanoseconds at the TSC value tscBase are base[i]; only those
// whose bit is set in clocks may be read here.
const (
	dataSeq    = 0 // uint32, odd while the page is being written
	dataClocks = 4
	dataTSC    = 8
	dataMult   = 16
	dataShift  = 24 // uint32
	dataCPUs   = 28 // uint32
	dataBase   = 32 // [lastClock + 1]uint64
	dataSize   = dataBase + 8*(lastClock+1)
)

const lastClock = unix.CLOCK_BOOTTIME

// The clocks that are a constant away from the TSC. The coarse ones are as fine as the others: there
// is no tick whose time they could return.
const clockMask = 1<<unix.CLOCK_REALTIME | 1<<unix.CLOCK_MONOTONIC | 1<<unix.CLOCK_MONOTONIC_RAW |
	1<<unix.CLOCK_REALTIME_COARSE | 1<<unix.CLOCK_MONOTONIC_COARSE | 1<<unix.CLOCK_BOOTTIME

// Of these, the ones whose resolution is a nanosecond beyond doubt; clock_getres(2) asks the kernel
// for the others.
const fineMask = 1<<unix.CLOCK_REALTIME | 1<<unix.CLOCK_MONOTONIC | 1<<unix.CLOCK_MONOTONIC_RAW | 1<<unix.CLOCK_BOOTTIME

const nsPerSecond = 1_000_000_000

// The functions, by the name that vdso(7) gives them without "__vdso_".
var functions = []struct {
	name string
	emit func(*assembler)
}{
	{"clock_gettime", emitClockGettime},
	{"gettimeofday", emitGettimeofday},
	{"time", emitTime},
	{"clock_getres", emitClockGetres},
	{"getcpu", emitGetcpu},
}

// The functions keep to registers that a call may change, and never touch the stack: one unwind rule
// serves every instruction.

// int clock_gettime(clockid_t EDI, struct timespec *RSI)
func emitClockGettime(a *assembler) {
	a.compareImmediate32(rdi, lastClock)
	a.jump(ifAbove, "clock_gettime.system")
	a.move32(rdi, rdi) // the upper half is the caller's rubbish
	emitRead(a, "clock_gettime", memory{r8, rdi, dataBase})
	emitSplit(a)
	a.store(at(rsi, 0), rdx)
	a.store(at(rsi, 8), rcx)
	a.zero(rax)
	a.ret()
	emitWait(a, "clock_gettime")
	a.label("clock_gettime.system")
	emitSystem(a, unix.SYS_CLOCK_GETTIME)
}

// int gettimeofday(struct timeval *RDI, struct timezone *RSI); each may be NULL.
func emitGettimeofday(a *assembler) {
	a.move(r10, rdi) // emitRead wants the clock's number in EDI
	a.zero(rdi)
	emitRead(a, "gettimeofday", at(r8, dataBase+8*unix.CLOCK_REALTIME))
	a.test(r10, r10)
	a.jump(ifZero, "gettimeofday.zone")
	emitSplit(a)
	a.store(at(r10, 0), rdx)
	// Nanoseconds below 2^30 divided by 1000: 274877907 is 2^38/1000 rounded up.
	a.multiplyImmediate(rcx, rcx, 274877907)
	a.shiftRight(rcx, 38)
	a.store(at(r10, 8), rcx)
	a.label("gettimeofday.zone")
	a.zero(rax)
	a.test(rsi, rsi)
	a.jump(ifZero, "gettimeofday.end")
	a.store(at(rsi, 0), rax)
	a.label("gettimeofday.end")
	a.ret()
	emitWait(a, "gettimeofday")
	a.label("gettimeofday.system")
	a.move(rdi, r10)
	emitSystem(a, unix.SYS_GETTIMEOFDAY)
}

// time_t time(time_t *RDI), which may be NULL.
func emitTime(a *assembler) {
	a.move(r10, rdi)
	a.zero(rdi)
	emitRead(a, "time", at(r8, dataBase+8*unix.CLOCK_REALTIME))
	emitSplit(a)
	a.move(rax, rdx)
	a.test(r10, r10)
	a.jump(ifZero, "time.end")
	a.store(at(r10, 0), rax)
	a.label("time.end")
	a.ret()
	emitWait(a, "time")
	a.label("time.system")
	a.move(rdi, r10)
	emitSystem(a, unix.SYS_TIME)
}

// int clock_getres(clockid_t EDI, struct timespec *RSI), which may be NULL.
func emitClockGetres(a *assembler) {
	a.compareImmediate32(rdi, lastClock)
	a.jump(ifAbove, "clock_getres.system")
	a.moveImmediate32(rax, fineMask)
	a.bitTest32(rax, rdi)
	a.jump(ifNotCarry, "clock_getres.system")
	a.zero(rax)
	a.test(rsi, rsi)
	a.jump(ifZero, "clock_getres.end")
	a.store(at(rsi, 0), rax)
	a.moveImmediate32(rcx, 1)
	a.store(at(rsi, 8), rcx)
	a.label("clock_getres.end")
	a.ret()
	a.label("clock_getres.system")
	emitSystem(a, unix.SYS_CLOCK_GETRES)
}

// int getcpu(unsigned *RDI, unsigned *RSI, void *unused); each may be NULL. With several CPUs the
// kernel knows.
func emitGetcpu(a *assembler) {
	a.leaImage(r8, -PageSize)
	a.load32(rax, at(r8, dataCPUs))
	a.compareImmediate32(rax, 1)
	a.jump(ifNotZero, "getcpu.system")
	a.zero(rax)
	a.test(rdi, rdi)
	a.jump(ifZero, "getcpu.node")
	a.store32(at(rdi, 0), rax)
	a.label("getcpu.node")
	a.test(rsi, rsi)
	a.jump(ifZero, "getcpu.end")
	a.store32(at(rsi, 0), rax)
	a.label("getcpu.end")
	a.ret()
	a.label("getcpu.system")
	emitSystem(a, unix.SYS_GETCPU)
}

// emitRead leaves the nanoseconds of the clock with the number EDI, whose base is the given operand
// over R8, in RAX, or jumps to the label "function.system" when the page doesn't have that clock. It uses
// RCX, RDX, R8, R9, and wants emitWait after the function's end.
func emitRead(a *assembler, function string, base memory) {
	a.leaImage(r8, -PageSize)
	a.label(function + ".again")
	a.load32(r9, at(r8, dataSeq))
	a.testImmediate32(r9, 1)
	a.jump(ifNotZero, function+".wait")
	a.load32(rax, at(r8, dataClocks))
	a.bitTest32(rax, rdi)
	a.jump(ifNotCarry, function+".system")
	// LFENCE keeps RDTSC behind the loads (Intel SDM vol. 2, RDTSC).
	a.lfence()
	a.rdtsc()
	a.shiftLeft(rdx, 32)
	a.or(rax, rdx)
	// A CPU whose TSC lags a little behind the one that wrote the page reads the page's time.
	a.zero(rcx)
	a.subtract(rax, at(r8, dataTSC))
	a.moveIfCarry(rax, rcx)
	a.multiply(at(r8, dataMult))
	a.load32(rcx, at(r8, dataShift))
	a.shiftRightDouble(rax, rdx)
	a.add(rax, base)
	a.compare32(r9, at(r8, dataSeq))
	a.jump(ifNotZero, function+".again")
}

// emitWait is the rest of emitRead, out of the way of its straight path: the page is being written.
func emitWait(a *assembler, function string) {
	a.label(function + ".wait")
	a.pause()
	a.jumpAlways(function + ".again")
}

// emitSplit makes the nanoseconds in RAX seconds in RDX and nanoseconds in RCX. Instead of dividing by
// 10^9 = 2^9·1953125 it multiplies by 2^75/1953125, rounded up, which is exact for 64 bits.
func emitSplit(a *assembler) {
	a.move(rcx, rax)
	a.shiftRight(rax, 9)
	a.moveImmediate(rdx, 0x44b82fa09b5a53)
	a.multiplyRegister(rdx)
	a.shiftRight(rdx, 11)
	a.multiplyImmediate(rax, rdx, nsPerSecond)
	a.subtractRegister(rcx, rax)
}

// emitSystem asks the kernel with the arguments as they are.
func emitSystem(a *assembler, number uint32) {
	a.moveImmediate32(rax, number)
	a.syscall()
	a.ret()
}
