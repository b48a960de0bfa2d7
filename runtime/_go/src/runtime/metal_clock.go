package runtime

import _ "unsafe" // for linkname

// The clock: the time stamp counter, its frequency measured against the PIT at boot and measured
// again, over a longer time, as soon as the machine has been up long enough; and the timer
// interrupt of the local APIC.

const (
	metalPITFrequency = 1193182 // Hz (Intel 8254)
	metalFirstTicks   = 120     // PIT ticks of the first measurement: 0.1 ms, good for 1 %
	metalSecondTicks  = 36000   // of the second: 30 ms, of the 55 ms that 16 bits last
	metalThirdTicks   = 56000   // not to wrap, though the frequency is known to an eighth only
)

// metalClock is in the data section: it is read before BSS can be.
var metalClock = metalClockState{scale: 1 << 32}

type metalClockState struct {
	scale      uint64 // nanoseconds of a TSC tick, times 1<<32
	tsc        uint64 // nanotime was ns when the counter was tsc
	ns         int64
	frequency  uint64       // Hz
	pit        metalReading // when the running measurement began
	pitRefine  bool         // the frequency is still a rough one
	armed      int64        // nanotime at which the timer will interrupt; 0: not armed
	timerScale uint64       // APIC timer ticks of a nanosecond, times 1<<32; 0: TSC deadline mode
	apic       uintptr
	x2apic     bool
	idle       uint64 // TSC ticks that the CPU was halted
}

// metalTimeSlice is how long a goroutine, or the program, runs before others have their turn: as on a
// Linux that counts 250 ticks a second. Threads that spin until another goes on wait that long for each.
const metalTimeSlice = 4e6

// metalNanotime returns ns + (TSC-tsc)*scale>>32. It is read some ten times a packet.
func metalNanotime() int64

//go:nosplit
func metalSetFrequency(hz uint64) {
	c := &metalClock
	now := metalRDTSC()
	c.ns, c.tsc = metalNanotime(), now
	c.frequency = max(hz, 1)
	c.scale = 1e9 << 32 / c.frequency
}

// metalPITRead returns the count of the PIT's channel 2, which runs down.
//
//go:nosplit
func metalPITRead() uint64 {
	metalOut8(0x43, 0x80)
	lo := metalIn8(0x42)
	return uint64(metalIn8(0x42))<<8 | uint64(lo)
}

// metalReading is a timer's count at a known time: the TSC stood at tsc, give or take slack.
type metalReading struct {
	count, tsc, slack uint64
}

//go:nosplit
func metalPITReading() metalReading {
	before := metalRDTSC()
	count := metalPITRead()
	after := metalRDTSC()
	return metalReading{count, before + (after-before)/2, (after - before) / 2}
}

// metalAPICReading is metalPITReading for the APIC's timer, which start sets running.
//
//go:nosplit
func metalAPICReading(start bool) metalReading {
	count := uint64(0xffffffff)
	before := metalRDTSC()
	if start {
		metalAPICWrite(metalAPICInitial, 0xffffffff)
	} else {
		count = uint64(metalAPICRead(metalAPICCurrent))
	}
	after := metalRDTSC()
	return metalReading{count, before + (after-before)/2, (after - before) / 2}
}

// metalMeasure returns the TSC's frequency between two readings, or 0 if the host stopped the machine
// while one was taken, and the result could be off by more than an eighth.
//
//go:nosplit
func metalMeasure(from, to metalReading) uint64 {
	ticks, elapsed := (from.count-to.count)&0xffff, to.tsc-from.tsc
	if ticks == 0 || from.slack+to.slack > elapsed/8 {
		return 0
	}
	return elapsed * metalPITFrequency / ticks
}

// metalInitClock measures the TSC, and the APIC's timer with it.
//
//go:nosplit
func metalInitClock() {
	c := &metalClock
	metalInitAPIC()
	metalOut8(0x61, metalIn8(0x61)&^2|1) // gate on, speaker off
	metalOut8(0x43, 0xb0)                // channel 2, both bytes, one-shot
	metalOut8(0x42, 0xff)
	metalOut8(0x42, 0xff)
	// Between a count that was just written and its first tick the counter doesn't run yet.
	first := metalPITRead()
	start := metalRDTSC()
	for metalPITRead() == first && metalRDTSC()-start < 1<<20 {
	}
	start = metalRDTSC()
	for attempt := 0; attempt < 20 && c.frequency == 0; attempt++ {
		apic := metalAPICReading(true)
		c.pit = metalPITReading()
		now := c.pit
		for (c.pit.count-now.count)&0xffff < metalFirstTicks && now.tsc-c.pit.tsc < 1<<28 {
			now = metalPITReading()
		}
		end := metalAPICReading(false)
		elapsed := end.tsc - apic.tsc
		if apic.slack+end.slack > elapsed/8 {
			continue
		}
		c.frequency = metalMeasure(c.pit, now)
		if c.frequency != 0 && c.timerScale != 0 {
			c.timerScale = (apic.count - end.count) << 32 / (elapsed * 1e9 / c.frequency)
		}
	}
	metalAPICWrite(metalAPICInitial, 0)
	c.pitRefine = c.frequency != 0
	if c.frequency == 0 { // no PIT: take what CPUID says, else 1 GHz
		c.frequency = metalCPUIDFrequency()
	}
	if c.frequency == 0 {
		c.frequency = 1e9
	}
	c.tsc = start
	c.scale = 1e9 << 32 / c.frequency
}

// metalCPUIDFrequency returns the TSC's frequency from CPUID leaf 0x15 or 0x16, or 0.
//
//go:nosplit
func metalCPUIDFrequency() uint64 {
	var out [4]uint32
	metalCPUID(0, 0, &out)
	if out[0] >= 0x15 {
		metalCPUID(0x15, 0, &out)
		if out[0] != 0 && out[1] != 0 && out[2] != 0 {
			return uint64(out[2]) * uint64(out[1]) / uint64(out[0])
		}
		metalCPUID(0x16, 0, &out)
		return uint64(out[0]&0xffff) * 1e6
	}
	return 0
}

// metal_RefineClock measures the TSC again, if the time since the measurement began is long enough for
// that and not so long that the PIT's 16 bits may have wrapped. It returns true when the clock is as
// good as it gets, and otherwise wants to be called again 30 to 50 ms later.
//
//go:linkname metal_RefineClock elver/runtime/metal.RefineClock
func metal_RefineClock() bool {
	c := &metalClock
	if !c.pitRefine {
		return true
	}
	ticks := (metalRDTSC() - c.pit.tsc) * metalPITFrequency / c.frequency
	if ticks < metalSecondTicks {
		return false
	}
	now := metalPITReading()
	hz := metalMeasure(c.pit, now)
	if ticks < metalThirdTicks && now.slack < c.frequency/50000 && hz > c.frequency/8*7 && hz < c.frequency/8*9 {
		c.pitRefine = false
		metalSetFrequency(hz)
		return true
	}
	c.pit = now
	return false
}

// The local APIC's registers (Intel SDM vol. 3, 11.4.1), as offsets of its page.
const (
	metalAPICEOI      = 0xb0
	metalAPICSpurious = 0xf0
	metalAPICTimer    = 0x320
	metalAPICLINT0    = 0x350
	metalAPICInitial  = 0x380
	metalAPICCurrent  = 0x390
	metalAPICDivide   = 0x3e0

	metalMSRAPICBase    = 0x1b
	metalMSRTSCDeadline = 0x6e0

	metalVectorTimer    = 0xfe
	metalVectorSpurious = 0xff
)

//go:nosplit
func metalInitAPIC() {
	c := &metalClock
	base := metalReadMSR(metalMSRAPICBase)
	c.x2apic = metalCPUIDBit(1, 2, 21)
	if c.x2apic {
		metalWriteMSR(metalMSRAPICBase, base|1<<11|1<<10)
	} else {
		metalWriteMSR(metalMSRAPICBase, base|1<<11)
		c.apic = metal_MapDevice(base&0xffffff000, metalPage)
	}
	metalAPICWrite(metalAPICSpurious, 1<<8|metalVectorSpurious)
	metalAPICWrite(metalAPICLINT0, 1<<16)
	metalAPICWrite(metalAPICDivide, 0xb)
	if metalCPUIDBit(1, 2, 24) {
		metalAPICWrite(metalAPICTimer, 2<<17|metalVectorTimer)
	} else {
		metalAPICWrite(metalAPICTimer, metalVectorTimer)
		c.timerScale = 1
	}
}

//go:nosplit
func metalAPICWrite(register uintptr, v uint32) {
	if metalClock.x2apic {
		metalWriteMSR(0x800+uint32(register>>4), uint64(v))
		return
	}
	metalStore32(metalClock.apic+register, v)
}

//go:nosplit
func metalAPICRead(register uintptr) uint32 {
	if metalClock.x2apic {
		return uint32(metalReadMSR(0x800 + uint32(register>>4)))
	}
	return metalLoad32(metalClock.apic + register)
}

// metalArm makes the timer interrupt when nanotime reaches deadline.
//
//go:nosplit
func metalArm(deadline int64) {
	c := &metalClock
	c.armed = deadline
	delay := uint64(max(deadline-metalNanotime(), 1))
	if c.timerScale == 0 {
		metalWriteMSR(metalMSRTSCDeadline, metalRDTSC()+min(delay, 1e9)*c.frequency/1e9)
		return
	}
	// The timer's rate is known to a few per cent: of a long delay all but the end comes first.
	if delay > 200e3 {
		delay -= delay / 8
	}
	metalAPICWrite(metalAPICInitial, uint32(min(max(metalScale(min(delay, 1e9), c.timerScale), 1), 0xffffffff)))
}

// metalIdle halts the CPU until an interrupt, or until deadline.
//
//go:nosplit
func metalIdle(deadline int64) {
	profiled := metalProfile.slots != 0
	if profiled {
		metal_CloseKernel()
		metalProfile.idle = true
	}
	metalIdleClosed(deadline)
	if profiled {
		metalProfile.idle = false
		metalArm(metalNanotime() + metalProfilePeriod)
		metal_OpenKernel()
	}
}

// metalIdleClosed is metalIdle with interrupts off.
//
//go:nosplit
func metalIdleClosed(deadline int64) {
	if metalIRQ.pending != 0 {
		return
	}
	if deadline != metalForever && (metalClock.armed == 0 || deadline < metalClock.armed) {
		metalArm(deadline)
	}
	halted := metalRDTSC()
	metalHalt()
	metalClock.idle += metalRDTSC() - halted
}

// metalBeforeUser arms the timer, if it isn't already, for the end of the time slice or the next Go
// timer. It is called before every entry into user mode.
//
//go:linkname metalBeforeUser elver/runtime/metal.BeforeUser
//go:nosplit
func metalBeforeUser() {
	// As timers.wakeTime, but 0, which stands for never, becomes the greatest number.
	ts := &getg().m.p.ptr().timers
	armed := uint64(metalClock.armed) - 1
	if uint64(ts.minWhenModified.Load())-1 < armed || uint64(ts.minWhenHeap.Load())-1 < armed || armed == 1<<64-1 {
		metalArmSlice()
	}
}

// metalArmSlice arms the timer for the end of a time slice that starts now, or the next Go timer, if it
// isn't armed for an earlier time.
//
//go:nosplit
func metalArmSlice() {
	c := &metalClock
	when := getg().m.p.ptr().timers.wakeTime()
	slice := metalNanotime() + metalTimeSlice
	if metalProfile.slots != 0 {
		slice += metalProfilePeriod - metalTimeSlice
	}
	if when == 0 || when > slice {
		when = slice
	}
	if c.armed == 0 || when < c.armed {
		metalArm(when)
	}
}

// metal_Tick is called after an interrupt of user mode and, by way of CondResched, at the end of a
// slice in the kernel: it readies the goroutines whose interrupts are pending, lets every M that
// can run do so, then the other goroutines.
//
//go:linkname metal_Tick elver/runtime/metal.Tick
func metal_Tick() {
	metalReadyIRQs()
	metalYield()
	metalIRQ.slice = metalNanotime() + metalTimeSlice
	Gosched()
}

// metal_CondResched is metal_Tick when a slice has passed since the last.
//
//go:linkname metal_CondResched elver/runtime/metal.CondResched
func metal_CondResched() {
	if metalNanotime() >= metalIRQ.slice {
		metal_Tick()
	}
}

//go:linkname metal_SetTSCFrequency elver/runtime/metal.SetTSCFrequency
func metal_SetTSCFrequency(hz uint64) {
	metalSetFrequency(hz)
	metalClock.pitRefine = false
}

//go:linkname metal_TSCFrequency elver/runtime/metal.TSCFrequency
func metal_TSCFrequency() uint64 { return metalClock.frequency }

//go:linkname metal_IdleTime elver/runtime/metal.IdleTime
func metal_IdleTime() int64 { return int64(metalScale(metalClock.idle, metalClock.scale)) }

//go:linkname metal_Clock elver/runtime/metal.Clock
func metal_Clock() (tsc, scale uint64, ns int64) {
	c := &metalClock
	return c.tsc, c.scale, c.ns
}

// metalNow serves time.now. The kernel's own wall clock starts in 1970: the one that programs see is
// the kernel package's.
//
//go:nosplit
func metalNow() (sec int64, nsec int32, mono int64) {
	mono = metalNanotime()
	return mono / 1e9, int32(mono % 1e9), mono
}

//go:linkname metal_Nanotime elver/runtime/metal.Nanotime
//go:nosplit
func metal_Nanotime() int64 { return metalNanotime() }
