package image

import (
	"encoding/binary"
	"fmt"
)

// Scratch: what the stub zeroes and fills behind the loaded bytes. The page directories of the
// first 4 GiB serve three times: PML4[0] maps them one to one, PML4[256] is the direct map, and the
// first GiB is the kernel mapping at PML4[511], PDPT[510].
const (
	scratchPML4     = 0
	scratchPDPT     = 1 * pageSize // of the identity mapping and the direct map
	scratchPDPTHigh = 2 * pageSize
	scratchPD       = 3 * pageSize // four of them
	scratchTables   = 7 * pageSize
	bootStackBytes  = 16 << 10
	scratchBytes    = scratchTables + bootStackBytes
)

// What the stub passes to the 64-bit entry as the protocol's magic. See boot.Parse.
const (
	multibootMagic = 0x2badb002 // Multiboot Specification 0.6.96, 3.2
	pvhMagic       = 0x336ec578 // Xen's public/arch-x86/hvm/start_info.h; the stub sets it for PVH
)

// Bits of control registers (Intel SDM vol. 3, 2.5 and 2.2.1).
const (
	cr0PE = 1 << 0
	cr0MP = 1 << 1
	cr0ET = 1 << 4
	cr0NE = 1 << 5
	cr0WP = 1 << 16
	cr0PG = 1 << 31

	cr4PAE        = 1 << 5
	cr4MCE        = 1 << 6
	cr4PGE        = 1 << 7
	cr4OSFXSR     = 1 << 9
	cr4OSXMMEXCPT = 1 << 10

	efer    = 0xc0000080
	eferSCE = 1 << 0
	eferLME = 1 << 8
	eferNXE = 1 << 11

	cpuidExtNX = 1 << 20 // CPUID 0x80000001 EDX
	cpuidExtLM = 1 << 29

	pagePresent = 1 << 0
	pageWrite   = 1 << 1
	pageLarge   = 1 << 7
)

// Ports of the refusal: the first serial port, and the two ways of telling the host a status.
const (
	serialPort     = 0x3f8
	serialStatus   = 0x3fd
	serialTxEmpty  = 0x20
	statusPort     = 0x5e9 // an isa-debugcon, which reads as 0xe9
	debugExitPort  = 0xf4  // isa-debug-exit
	refusedStatus  = 125
	pmControl      = 0x604   // PM1a_CNT as QEMU's firmware places it, on pc and q35
	pmSleep        = 1 << 13 // SLP_EN, with SLP_TYP 0, which is S5 there
	logPort        = 0x4e9   // likewise: where Elver's own words go if the machine has it
	debugconProbe  = 0xe9
	noLongModeText = "elver: this CPU has no 64-bit long mode\n"
	noRoomText     = "elver: the kernel doesn't fit into the memory: pass a larger -m\n"
	ramProbe       = 0x5aa51ee7
)

// stub is the code between the boot loader and the 64-bit entry.
//
// A loader enters it in 32-bit protected mode without paging, with flat segments and no stack:
// multiboot with EAX = 0x2badb002, PVH with any EAX, both with EBX = the physical address of the
// boot information. It leaves with a jump to the 64-bit entry, and there
//
//	RDI  magic: 0x2badb002 (multiboot) or 0x336ec578 (PVH)
//	RSI  physical address of the boot information
//	RDX  physical address of the image (its boot page)
//	RCX  physical end of scratch
//	R8   physical start of scratch (the loaded bytes end there), at which PML4 is
//	RSP  top of the boot stack of 16 KiB, which ends scratch, in the direct map
//
// Interrupts are off, DF is clear, CS is 0x08, DS, ES and SS are 0x10, FS and GS null; SSE works;
// NXE is set where the CPU has NX. Physical 0 to 4 GiB are mapped one to one and at DirectMap, the
// first GiB also at KernelBase, all writable and executable. The kernel mapping therefore shows,
// where the Go BSS is to be, scratch and what the loader put behind it: until the kernel has tables
// of its own it must not touch its BSS.
type stub struct {
	code                     []byte
	multibootEntry, pvhEntry uint32
}

// newStub assembles the stub. Go's assembler has no 32-bit mode for amd64, hence the bytes.
func newStub(l *layout) *stub {
	a := &assembler{base: uint32(l.start) + stubOffset, labels: map[string]int{}}
	scratch := uint32(l.loadEnd)
	table := func(offset uint32) uint32 { return scratch + offset }

	a.label("multiboot")
	a.emit(0xfa, 0xfc)                   // cli; cld
	a.jump8(0xeb, "common")              // jmp common
	a.label("pvh")                       //
	a.emit(0xfa, 0xfc)                   // cli; cld
	a.emit(0xb8).u32(pvhMagic)           // mov eax, pvhMagic
	a.label("common")                    //
	a.emit(0x89, 0xdd)                   // mov ebp, ebx      (CPUID takes EBX)
	a.emit(0x89, 0xc6)                   // mov esi, eax
	a.emit(0xb8).u32(0x80000000)         // mov eax, 0x80000000
	a.emit(0x0f, 0xa2)                   // cpuid
	a.emit(0x3d).u32(0x80000001)         // cmp eax, 0x80000001
	a.jump8(0x72, "refuse")              // jb refuse
	a.emit(0xb8).u32(0x80000001)         // mov eax, 0x80000001
	a.emit(0x0f, 0xa2)                   // cpuid
	a.emit(0xf7, 0xc2).u32(cpuidExtLM)   // test edx, LM
	a.jump8(0x75, "long")                // jnz long
	a.label("refuse")                    //
	a.emit(0xbe).address("text")         // mov esi, text
	a.jump8(0xeb, "char")                // jmp char
	a.label("poor")                      //
	a.emit(0xbe).address("room")         // mov esi, room
	a.label("char")                      //
	a.emit(0xac)                         // lodsb
	a.emit(0x84, 0xc0)                   // test al, al
	a.jump8(0x74, "end")                 // jz end
	a.emit(0x88, 0xc4)                   // mov ah, al
	a.emit(0x66, 0xba).u16(logPort)      // mov dx, logPort
	a.emit(0xec)                         // in al, dx
	a.emit(0x3c, debugconProbe)          // cmp al, debugconProbe
	a.jump8(0x74, "put")                 // je put
	a.emit(0x66, 0xba).u16(serialStatus) // mov dx, serialStatus
	a.label("wait")                      //
	a.emit(0xec)                         // in al, dx         (0xff where there is no port)
	a.emit(0xa8, serialTxEmpty)          // test al, serialTxEmpty
	a.jump8(0x74, "wait")                // jz wait
	a.emit(0x66, 0xba).u16(serialPort)   // mov dx, serialPort
	a.label("put")                       //
	a.emit(0x88, 0xe0)                   // mov al, ah
	a.emit(0xee)                         // out dx, al
	a.jump8(0xeb, "char")                // jmp char
	a.label("end")                       //
	a.emit(0x66, 0xba).u16(statusPort)   // mov dx, statusPort
	a.emit(0xec)                         // in al, dx
	a.emit(0x3c, debugconProbe)          // cmp al, debugconProbe
	a.emit(0xb0, refusedStatus)          // mov al, refusedStatus
	a.jump8(0x75, "exit")                // jne exit
	a.emit(0xee)                         // out dx, al
	a.label("exit")                      //
	a.emit(0xe6, debugExitPort)          // out debugExitPort, al
	a.emit(0x66, 0xba).u16(pmControl)    // mov dx, pmControl
	a.emit(0x66, 0xb8).u16(pmSleep)      // mov ax, pmSleep
	a.emit(0x66, 0xef)                   // out dx, ax
	a.label("halt")                      //
	a.emit(0xf4)                         // hlt
	a.jump8(0xeb, "halt")                // jmp halt
	a.label("long")                      //
	// A loader may drop what doesn't fit into the memory, and say nothing.
	a.emit(0xc7, 0x05).u32(uint32(l.scratchEnd) - 4).u32(ramProbe) // mov dword [end of scratch], ramProbe
	a.emit(0x81, 0x3d).u32(uint32(l.scratchEnd) - 4).u32(ramProbe) // cmp dword [end of scratch], ramProbe
	a.jump8(0x75, "poor")                                          // jne poor
	a.emit(0x89, 0xd3)                                             // mov ebx, edx      (feature bits)
	a.emit(0xbf).u32(scratch)                                      // mov edi, scratch
	a.emit(0x31, 0xc0)                                             // xor eax, eax
	a.emit(0xb9).u32(scratchBytes / 4)                             // mov ecx, scratchBytes/4
	a.emit(0xf3, 0xab)                                             // rep stosd
	a.emit(0xbf).u32(table(scratchPD))                             // mov edi, PD
	a.emit(0xb8).u32(pagePresent | pageWrite | pageLarge)
	a.emit(0xb9).u32(4 * 512) // mov ecx, 4*512
	a.label("fill")           //
	a.emit(0x89, 0x07)        // mov [edi], eax
	a.emit(0x83, 0xc7, 8)     // add edi, 8
	a.emit(0x05).u32(2 << 20) // add eax, 2 MiB
	a.emit(0x49)              // dec ecx
	a.jump8(0x75, "fill")     // jnz fill
	for _, e := range []struct{ at, to uint32 }{
		{scratchPML4 + 8*0, scratchPDPT},
		{scratchPML4 + 8*256, scratchPDPT},
		{scratchPML4 + 8*511, scratchPDPTHigh},
		{scratchPDPT + 8*0, scratchPD + 0*pageSize},
		{scratchPDPT + 8*1, scratchPD + 1*pageSize},
		{scratchPDPT + 8*2, scratchPD + 2*pageSize},
		{scratchPDPT + 8*3, scratchPD + 3*pageSize},
		{scratchPDPTHigh + 8*510, scratchPD},
	} {
		a.emit(0xc7, 0x05).u32(table(e.at)).u32(table(e.to) | pagePresent | pageWrite) // mov dword [at], to
	}
	a.emit(0x0f, 0x20, 0xe0)   // mov eax, cr4
	a.emit(0x83, 0xe0, cr4MCE) // and eax, MCE      (the platform's business)
	a.emit(0x0d).u32(cr4PAE | cr4PGE | cr4OSFXSR | cr4OSXMMEXCPT)
	a.emit(0x0f, 0x22, 0xe0)                                   // mov cr4, eax
	a.emit(0xb8).u32(table(scratchPML4))                       // mov eax, PML4
	a.emit(0x0f, 0x22, 0xd8)                                   // mov cr3, eax
	a.emit(0xb9).u32(efer)                                     // mov ecx, EFER
	a.emit(0x0f, 0x32)                                         // rdmsr
	a.emit(0x0d).u32(eferSCE | eferLME)                        // or eax, SCE|LME
	a.emit(0xf7, 0xc3).u32(cpuidExtNX)                         // test ebx, NX
	a.jump8(0x74, "nonx")                                      // jz nonx
	a.emit(0x0d).u32(eferNXE)                                  // or eax, NXE
	a.label("nonx")                                            //
	a.emit(0x0f, 0x30)                                         // wrmsr
	a.emit(0x0f, 0x01, 0x15).u32(uint32(l.start) + gdtrOffset) // lgdt [gdtr]
	a.emit(0xb8).u32(cr0PG | cr0WP | cr0NE | cr0ET | cr0MP | cr0PE)
	a.emit(0x0f, 0x22, 0xc0)                 // mov cr0, eax     (EM, TS, CD and NW become clear)
	a.emit(0xea).address("long64").u16(0x08) // jmp 0x08:long64

	a.label("long64")
	a.emit(0xb8).u32(0x10)                                           // mov eax, 0x10
	a.emit(0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0)                       // mov ds, es, ss, eax
	a.emit(0x31, 0xc0)                                               // xor eax, eax
	a.emit(0x8e, 0xe0, 0x8e, 0xe8)                                   // mov fs, gs, eax
	a.emit(0x48, 0xb8).u64(KernelBase + l.start + gdtrOffset + 0x10) // mov rax, upper gdtr
	a.emit(0x0f, 0x01, 0x10)                                         // lgdt [rax]
	a.emit(0x48, 0xbc).u64(DirectMap + l.scratchEnd)                 // mov rsp, top of stack
	a.emit(0x89, 0xf7)                                               // mov edi, esi     (magic)
	a.emit(0x89, 0xee)                                               // mov esi, ebp     (information)
	a.emit(0xba).u32(uint32(l.start))                                // mov edx, image
	a.emit(0xb9).u32(uint32(l.scratchEnd))                           // mov ecx, end of scratch
	a.emit(0x41, 0xb8).u32(scratch)                                  // mov r8d, scratch
	a.emit(0x31, 0xed)                                               // xor ebp, ebp     (ends frame chains)
	a.emit(0x48, 0xb8).u64(l.entry)                                  // mov rax, entry
	a.emit(0xff, 0xe0)                                               // jmp rax

	a.label("text")                   //
	a.emit([]byte(noLongModeText)...) //
	a.emit(0)                         //
	a.label("room")                   //
	a.emit([]byte(noRoomText)...)     //
	a.emit(0)                         //

	code := a.finish()
	if stubOffset+len(code) > pageSize {
		panic("image: the entry stub is longer than its page")
	}
	return &stub{
		code:           code,
		multibootEntry: a.addressOf("multiboot"),
		pvhEntry:       a.addressOf("pvh"),
	}
}

// assembler collects machine code whose first byte is at physical address base.
type assembler struct {
	base   uint32
	code   []byte
	labels map[string]int
	fixups []fixup
}

// fixup is a place that a label's address or distance goes to.
type fixup struct {
	at    int
	label string
	short bool // one byte, relative to the byte after it
}

func (a *assembler) emit(b ...byte) *assembler { a.code = append(a.code, b...); return a }

func (a *assembler) u16(v uint16) *assembler {
	a.code = binary.LittleEndian.AppendUint16(a.code, v)
	return a
}

func (a *assembler) u32(v uint32) *assembler {
	a.code = binary.LittleEndian.AppendUint32(a.code, v)
	return a
}

func (a *assembler) u64(v uint64) *assembler {
	a.code = binary.LittleEndian.AppendUint64(a.code, v)
	return a
}

func (a *assembler) label(name string) { a.labels[name] = len(a.code) }

func (a *assembler) addressOf(label string) uint32 { return a.base + uint32(a.labels[label]) }

// jump8 emits a jump of opcode op with a one-byte distance.
func (a *assembler) jump8(op byte, label string) {
	a.emit(op, 0)
	a.fixups = append(a.fixups, fixup{at: len(a.code) - 1, label: label, short: true})
}

// address emits a label's 32-bit physical address.
func (a *assembler) address(label string) *assembler {
	a.fixups = append(a.fixups, fixup{at: len(a.code), label: label})
	return a.u32(0)
}

func (a *assembler) finish() []byte {
	for _, f := range a.fixups {
		to, ok := a.labels[f.label]
		if !ok {
			panic(fmt.Sprintf("image: no label %s in the stub", f.label))
		}
		if !f.short {
			binary.LittleEndian.PutUint32(a.code[f.at:], a.base+uint32(to))
			continue
		}
		distance := to - (f.at + 1)
		if distance != int(int8(distance)) {
			panic(fmt.Sprintf("image: label %s is too far for a short jump", f.label))
		}
		a.code[f.at] = byte(distance)
	}
	return a.code
}
