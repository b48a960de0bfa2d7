package vdso

import (
	"encoding/binary"
	"fmt"
)

// register is a general register by its number in an instruction (Intel SDM vol. 2, table 3-1).
type register uint8

const (
	rax register = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
)

// memory is the operand [base + 8·index + disp]; index rsp stands for no index, as in the encoding.
type memory struct {
	base, index register
	disp        int8
}

func at(base register, disp int8) memory { return memory{base, rsp, disp} }

// Condition codes of Jcc (Intel SDM vol. 2, appendix B).
const (
	ifCarry    = 0x2
	ifNotCarry = 0x3
	ifZero     = 0x4
	ifNotZero  = 0x5
	ifAbove    = 0x7
)

// assembler emits the few instructions that the vDSO consists of. Jumps are 32 bits wide and name
// labels, which may be bound later.
type assembler struct {
	code   []byte
	labels map[string]int
	uses   map[int]string // where a 32-bit displacement awaits its label
	image  map[int]int    // where one awaits the place of the code: to an offset in the image
}

func newAssembler() *assembler {
	return &assembler{labels: map[string]int{}, uses: map[int]string{}, image: map[int]int{}}
}

func (a *assembler) bytes(b ...byte) { a.code = append(a.code, b...) }

func (a *assembler) imm32(v uint32) { a.code = binary.LittleEndian.AppendUint32(a.code, v) }

func (a *assembler) label(name string) { a.labels[name] = len(a.code) }

// align pads with INT3 up to a multiple of 16: nothing falls through from one function into the next.
func (a *assembler) align() {
	for len(a.code)%16 != 0 {
		a.bytes(0xcc)
	}
}

// finish resolves the displacements in code whose first byte lies at offset start of the image. It may be
// called again for another place.
func (a *assembler) finish(start int) []byte {
	for where, offset := range a.image {
		binary.LittleEndian.PutUint32(a.code[where:], uint32(offset-(start+where+4)))
	}
	for where, name := range a.uses {
		target, ok := a.labels[name]
		if !ok {
			panic(fmt.Sprintf("vdso: the label %q is not bound", name))
		}
		binary.LittleEndian.PutUint32(a.code[where:], uint32(target-(where+4)))
	}
	return a.code
}

// rexRegister emits prefix and opcode of an instruction on reg (ModRM.reg) and rm (ModRM.rm).
func (a *assembler) rexRegister(wide bool, reg, rm register, opcode ...byte) {
	a.rex(wide, reg, 0, rm)
	a.bytes(opcode...)
	a.bytes(0xc0 | byte(reg&7)<<3 | byte(rm&7))
}

// rexMemory is rexRegister for a memory operand; every one here has an 8-bit displacement.
func (a *assembler) rexMemory(wide bool, reg register, m memory, opcode ...byte) {
	a.rex(wide, reg, m.index, m.base)
	a.bytes(opcode...)
	if m.index == rsp && m.base&7 != rsp {
		a.bytes(0x40 | byte(reg&7)<<3 | byte(m.base&7))
	} else {
		a.bytes(0x44|byte(reg&7)<<3, 3<<6|byte(m.index&7)<<3|byte(m.base&7))
	}
	a.bytes(byte(m.disp))
}

func (a *assembler) rex(wide bool, reg, index, base register) {
	prefix := byte(0x40) | byte(reg>>3)<<2 | byte(index>>3)<<1 | byte(base>>3)
	if wide {
		prefix |= 8
	}
	if prefix != 0x40 {
		a.bytes(prefix)
	}
}

func (a *assembler) jump(condition byte, name string) {
	a.bytes(0x0f, 0x80|condition)
	a.reference(name)
}

func (a *assembler) reference(name string) {
	a.uses[len(a.code)] = name
	a.imm32(0)
}

// leaImage loads the address of the byte at offset in the image, which may be negative.
func (a *assembler) leaImage(dst register, offset int) {
	a.rex(true, dst, 0, 0)
	a.bytes(0x8d, byte(dst&7)<<3|5)
	a.image[len(a.code)] = offset
	a.imm32(0)
}

func (a *assembler) move(dst, src register)            { a.rexRegister(true, src, dst, 0x89) }
func (a *assembler) move32(dst, src register)          { a.rexRegister(false, src, dst, 0x89) }
func (a *assembler) load32(dst register, m memory)     { a.rexMemory(false, dst, m, 0x8b) }
func (a *assembler) store(m memory, src register)      { a.rexMemory(true, src, m, 0x89) }
func (a *assembler) store32(m memory, src register)    { a.rexMemory(false, src, m, 0x89) }
func (a *assembler) add(dst register, m memory)        { a.rexMemory(true, dst, m, 0x03) }
func (a *assembler) subtract(dst register, m memory)   { a.rexMemory(true, dst, m, 0x2b) }
func (a *assembler) subtractRegister(dst, s register)  { a.rexRegister(true, s, dst, 0x29) }
func (a *assembler) or(dst, src register)              { a.rexRegister(true, src, dst, 0x09) }
func (a *assembler) zero(dst register)                 { a.rexRegister(false, dst, dst, 0x31) }
func (a *assembler) test(x, y register)                { a.rexRegister(true, y, x, 0x85) }
func (a *assembler) compare32(x register, m memory)    { a.rexMemory(false, x, m, 0x3b) }
func (a *assembler) bitTest32(bits, number register)   { a.rexRegister(false, number, bits, 0x0f, 0xa3) }
func (a *assembler) moveIfCarry(dst, src register)     { a.rexRegister(true, dst, src, 0x0f, 0x42) }
func (a *assembler) multiply(m memory)                 { a.rexMemory(true, 4, m, 0xf7) } // RDX:RAX = RAX·m
func (a *assembler) multiplyRegister(src register)     { a.rexRegister(true, 4, src, 0xf7) }
func (a *assembler) shiftRightDouble(low, hi register) { a.rexRegister(true, hi, low, 0x0f, 0xad) } // by CL
func (a *assembler) shiftLeft(dst register, n byte)    { a.rexRegister(true, 4, dst, 0xc1); a.bytes(n) }
func (a *assembler) shiftRight(dst register, n byte)   { a.rexRegister(true, 5, dst, 0xc1); a.bytes(n) }
func (a *assembler) lfence()                           { a.bytes(0x0f, 0xae, 0xe8) }
func (a *assembler) rdtsc()                            { a.bytes(0x0f, 0x31) }
func (a *assembler) pause()                            { a.bytes(0xf3, 0x90) }
func (a *assembler) syscall()                          { a.bytes(0x0f, 0x05) }
func (a *assembler) ret()                              { a.bytes(0xc3) }

func (a *assembler) jumpAlways(name string) {
	a.bytes(0xe9)
	a.reference(name)
}

func (a *assembler) compareImmediate32(x register, v int8) {
	a.rexRegister(false, 7, x, 0x83)
	a.bytes(byte(v))
}

func (a *assembler) testImmediate32(x register, bits uint32) {
	a.rexRegister(false, 0, x, 0xf7)
	a.imm32(bits)
}

func (a *assembler) moveImmediate32(dst register, v uint32) {
	a.rex(false, 0, 0, dst)
	a.bytes(0xb8 | byte(dst&7))
	a.imm32(v)
}

func (a *assembler) moveImmediate(dst register, v uint64) {
	a.rex(true, 0, 0, dst)
	a.bytes(0xb8 | byte(dst&7))
	a.code = binary.LittleEndian.AppendUint64(a.code, v)
}

// multiplyImmediate is dst = src·v.
func (a *assembler) multiplyImmediate(dst, src register, v uint32) {
	a.rexRegister(true, dst, src, 0x69)
	a.imm32(v)
}
