//go:build elver

package amd64

import (
	"unsafe"

	"elver/runtime/metal"
)

// owner is the context whose extended state and segment bases the CPU holds: whose thread was last
// in user mode. They move only when another thread gets there.
var owner *Context

// Last returns the context that was last in user mode, or nil, for the report of a failure.
func Last() *Context { return owner }

// Enter runs the program with the registers of c, in the address space of the page table at root,
// until it comes back. The caller's goroutine keeps the CPU throughout.
//
// It is nosplit, and so is what it calls before it enters: a function's prologue may reschedule, and
// another thread would load what belongs to it.
//
//go:nosplit
func (c *Context) Enter(root uint64) Event {
	if c.iret != 0 && !c.sanitise() {
		c.Vector, c.ErrorCode = vectorGP, 0
		return EventException
	}
	metal.BeforeUser()
	if owner != c {
		c.own()
	}
	event := Event(enter(c, root))
	if event >= EventException {
		c.note(event)
	}
	return event
}

// EnterProfiled is Enter while a CPU profile is taken.
//
//go:nosplit
func (c *Context) EnterProfiled(root uint64) Event {
	metal.CloseKernel()
	event := c.Enter(root)
	metal.OpenKernel()
	return event
}

// note keeps what has to be taken from the CPU before another thread gets it.
//
//go:nosplit
func (c *Context) note(event Event) {
	if event == EventInterrupt {
		metal.Note(c.Vector)
	} else if c.Vector == vectorDB {
		c.debugStatus = readDR6()
		writeDR6(0) // the CPU only ever sets bits
	}
}

const (
	vectorDB = 1
	vectorGP = 13
)

// sanitise makes what the program chose for IRETQ harmless: CS, SS and RFLAGS come from signal
// frames. It reports false if RIP is not canonical, which IRETQ would only find out in ring 0.
//
//go:nosplit
func (c *Context) sanitise() bool {
	if c.CS != user32CS {
		c.CS = userCS
	}
	c.SS = userSS
	c.RFLAGS = c.RFLAGS&(UserFlags|FlagID) | FlagInterrupt | flagReserved
	return c.RIP < 1<<47
}

// own gives the CPU's extended state and segment bases to c.
//
//go:nosplit
func (c *Context) own() {
	if owner != nil {
		owner.save()
	}
	owner = c
	if c.unusual || unusual {
		c.ownUnusual()
	}
	*(*uint32)(unsafe.Add(unsafe.Pointer(c.extended), offsetMXCSR)) = initialMXCSR
	if features != 0 && fsgsbase {
		loadState(c, features)
		return
	}
	c.ownSlowly()
}

// unusual says that the CPU holds what few contexts ask for: breakpoints, or no time stamp counter.
var unusual bool

// ownUnusual gives that of c to the CPU.
//
//go:nosplit
func (c *Context) ownUnusual() {
	unusual = c.unusual
	c.ownDebug()
	if c.noTSC != tscOff {
		c.ownTSC()
	}
}

// ownDebug gives the CPU's debug registers to c. A breakpoint that a copy of the kernel's into the program's
// memory meets is no event: the trap entry lets it pass.
//
//go:nosplit
func (c *Context) ownDebug() {
	writeDR7(0)
	if d := c.debug; d != nil {
		writeDR(d.Addr[0], d.Addr[1], d.Addr[2], d.Addr[3])
		if v := d.hardware(); v != 0 {
			writeDR7(v)
		}
	}
}

// tscOff says that the program's RDTSC raises #GP; the kernel's never does (Intel SDM vol. 3, 2.5, CR4.TSD).
var tscOff bool

// ownTSC lets the program read the time stamp counter or not, as c has it.
//
//go:nosplit
func (c *Context) ownTSC() {
	tscOff = c.noTSC
	if tscOff {
		writeCR4(readCR4() | cr4TSD)
	} else {
		writeCR4(readCR4() &^ cr4TSD)
	}
}

// ownSlowly is own on a CPU without XSAVE or FSGSBASE.
//
//go:nosplit
func (c *Context) ownSlowly() {
	if features != 0 {
		xrstor(c.extended, features)
	} else {
		fxrstor(c.extended)
	}
	if fsgsbase {
		writeFSBase(c.fsBase)
	} else {
		WriteMSR(msrFSBase, c.fsBase)
	}
	WriteMSR(msrKernelGSBase, c.gsBase)
}

// fxsaveArea takes what FXSAVE writes: XMM registers too, which are the kernel's by then.
var fxsaveArea [sizeLegacy + 16]byte

// hardware returns the DR7 that the CPU gets: the breakpoints that are on, and nothing else.
//
//go:nosplit
func (d *DebugRegs) hardware() uint64 {
	v := uint64(0)
	for i := range d.Addr {
		if _, _, on := d.field(i); on {
			v |= 1<<(2*i) | d.Control&(0xf<<(debugFirstField+4*i)) | debugExact
		}
	}
	return v
}

// save stores the state that the CPU holds for c. XMM registers and MXCSR are in c already.
//
//go:nosplit
func (c *Context) save() {
	if features != 0 && fsgsbase {
		saveState(c, features&^componentSSE)
		return
	}
	c.saveSlowly()
}

// saveSlowly is save on a CPU without XSAVE or FSGSBASE.
//
//go:nosplit
func (c *Context) saveSlowly() {
	if features != 0 {
		xsave(c.extended, features&^componentSSE)
	} else {
		area := unsafe.Add(unsafe.Pointer(&fxsaveArea), -uintptr(unsafe.Pointer(&fxsaveArea))&15)
		fxsave((*byte)(area))
		copy(c.image()[:offsetXMM], unsafe.Slice((*byte)(area), offsetXMM))
	}
	if fsgsbase {
		c.fsBase = readFSBase()
	} else {
		c.fsBase = ReadMSR(msrFSBase)
	}
	c.gsBase = ReadMSR(msrKernelGSBase) // SWAPGS put it there
}

// spill makes all of c current in memory; the CPU goes on holding it.
func (c *Context) spill() {
	if owner == c {
		c.save()
	}
}

// reload makes the next Enter load the state from memory.
func (c *Context) reload() {
	if owner == c {
		owner = nil
	}
}

// Release tells that the thread of c has ended: its state needn't be saved any more.
func (c *Context) Release() { c.reload() }

//go:noescape
func enter(c *Context, root uint64) uint64

// saveState and loadState move the components of the extended state and both segment bases from the
// CPU to c and back, on a CPU with XSAVE and FSGSBASE.
//
//go:noescape
func saveState(c *Context, components uint64)

//go:noescape
func loadState(c *Context, components uint64)

//go:noescape
func xsave(area *byte, components uint64)

//go:noescape
func xrstor(area *byte, components uint64)

//go:noescape
func fxsave(area *byte)

//go:noescape
func fxrstor(area *byte)

func readFSBase() uint64
func writeFSBase(base uint64)

func readDR6() uint64
func writeDR6(v uint64)
func writeDR7(v uint64)

// writeDR sets the addresses of the four breakpoints.
func writeDR(a0, a1, a2, a3 uint64)

// entryPoints returns the addresses of the system call entries, of 64-bit and of compatibility
// mode, and of the trap entry.
func entryPoints() (syscall, syscall32, trap uintptr)

// AnswerAtEntry makes system call number nr return Answers[i] of the calling thread's context,
// straight from the entry: for calls that only tell what the kernel knows beforehand. With i
// negative the call goes to the kernel again.
func AnswerAtEntry(nr, i int) {
	v := uint8(0)
	if i >= 0 {
		v = uint8(unsafe.Offsetof(Context{}.Answers)/8) + uint8(i)
	}
	answered[nr] = v
	if !answersSuspended {
		answersOfCPU()[nr] = v
	}
}

// answered is what AnswerAtEntry asked for.
var (
	answered         [512]uint8
	answersSuspended bool
)

func answersOfCPU() *[512]uint8 { return (*[512]uint8)(unsafe.Add(metal.CPU(), 64)) }

// SuspendAnswers makes every system call go to the kernel, until it is called with false: somebody watches
// a thread's.
func SuspendAnswers(on bool) {
	answersSuspended = on
	if on {
		clear(answersOfCPU()[:])
	} else {
		*answersOfCPU() = answered
	}
}
