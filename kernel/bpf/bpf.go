// Package bpf is the classic Berkeley packet filter: programs of at most 4096 instructions without loops, as
// seccomp(2) uses them, which look at 64 bytes about a system call, and as sockets do (SO_ATTACH_FILTER in
// socket(7)), which look at a packet.
package bpf

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Instruction is struct sock_filter.
type Instruction struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// InstructionSize is its size in the program's memory, in bytes.
const InstructionSize = 8

// MaxInstructions is how many a program may have (BPF_MAXINSNS).
const MaxInstructions = 4096

// DataSize is the size of what a program looks at, in bytes: struct seccomp_data.
const DataSize = 64

// Data is that, in words.
type Data [DataSize / 4]uint32

// memoryWords is how many words a program has to note things in (BPF_MEMWORDS).
const memoryWords = 16

// Decode reads a program from the program's memory.
func Decode(b []byte) []Instruction {
	p := make([]Instruction, len(b)/InstructionSize)
	for i := range p {
		at := b[i*InstructionSize:]
		p[i] = Instruction{binary.LittleEndian.Uint16(at), at[2], at[3], binary.LittleEndian.Uint32(at[4:])}
	}
	return p
}

// The codes that seccomp allows: class, size or operation, mode or source.
const (
	loadAbsolute  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	loadImmediate = unix.BPF_LD | unix.BPF_IMM
	loadMemory    = unix.BPF_LD | unix.BPF_MEM
	loadLength    = unix.BPF_LD | unix.BPF_W | unix.BPF_LEN

	loadXImmediate = unix.BPF_LDX | unix.BPF_IMM
	loadXMemory    = unix.BPF_LDX | unix.BPF_MEM
	loadXLength    = unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN

	store  = unix.BPF_ST
	storeX = unix.BPF_STX

	returnK = unix.BPF_RET | unix.BPF_K
	returnA = unix.BPF_RET | unix.BPF_A

	toX = unix.BPF_MISC | unix.BPF_TAX
	toA = unix.BPF_MISC | unix.BPF_TXA
)

// Check refuses with EINVAL what Linux refuses of a filter for system calls: instructions that don't exist
// or aren't for that, loads beyond the data, jumps beyond the end, division by a constant zero, a path that
// reads memory before it wrote it, an end without a return.
func Check(p []Instruction) error { return check(p, Instruction.allowed) }

func check(p []Instruction, allowed func(Instruction) bool) error {
	if len(p) == 0 || len(p) > MaxInstructions {
		return unix.EINVAL
	}
	for pc, i := range p {
		if !allowed(i) || !i.staysInside(len(p)-pc-1) {
			return unix.EINVAL
		}
	}
	if last := p[len(p)-1].Code; last != returnK && last != returnA || !writesFirst(p) {
		return unix.EINVAL
	}
	return nil
}

// allowed reports whether the instruction exists and its constant is one for it.
func (i Instruction) allowed() bool {
	switch i.Code {
	case loadAbsolute:
		return i.K < DataSize && i.K%4 == 0
	}
	return i.allowedAnywhere()
}

// allowedAnywhere is allowed for instructions that load nothing of what the program looks at.
func (i Instruction) allowedAnywhere() bool {
	switch i.Code {
	case loadMemory, loadXMemory, store, storeX:
		return i.K < memoryWords
	case loadImmediate, loadLength, loadXImmediate, loadXLength, returnK, returnA, toX, toA:
		return true
	}
	operation, source := i.Code&0xf0, i.Code&unix.BPF_X
	if i.Code&^(0xf0|unix.BPF_X|7) != 0 {
		return false
	}
	switch i.Code & 7 {
	case unix.BPF_ALU:
		switch operation {
		case unix.BPF_DIV, unix.BPF_MOD:
			return source == unix.BPF_X || i.K != 0
		case unix.BPF_LSH, unix.BPF_RSH:
			return source == unix.BPF_X || i.K < 32
		case unix.BPF_NEG:
			return source == 0
		case unix.BPF_ADD, unix.BPF_SUB, unix.BPF_MUL, unix.BPF_OR, unix.BPF_AND, unix.BPF_XOR:
			return true
		}
	case unix.BPF_JMP:
		switch operation {
		case unix.BPF_JA:
			return source == 0
		case unix.BPF_JEQ, unix.BPF_JGT, unix.BPF_JGE, unix.BPF_JSET:
			return true
		}
	}
	return false
}

// jumps reports whether the instruction is a jump, and whether it has a condition.
func (i Instruction) jumps() (always, maybe bool) {
	if i.Code&7 != unix.BPF_JMP {
		return false, false
	}
	always = i.Code == unix.BPF_JMP|unix.BPF_JA
	return always, !always
}

// staysInside reports whether a jump leads to one of the left instructions behind it.
func (i Instruction) staysInside(left int) bool {
	switch always, maybe := i.jumps(); {
	case always:
		return uint64(i.K) < uint64(left)
	case maybe:
		return int(i.JT) < left && int(i.JF) < left
	}
	return true
}

// writesFirst reports whether every path writes a word of memory before it reads it. Precondition: jumps stay
// inside.
func writesFirst(p []Instruction) bool {
	const all = 1<<memoryWords - 1
	reach := make([]uint16, len(p)) // words that are written on every way that jumps there
	for i := range reach {
		reach[i] = all
	}
	written := uint16(0) // on the way to the next instruction
	for pc, i := range p {
		written &= reach[pc]
		switch i.Code {
		case store, storeX:
			written |= 1 << i.K
		case loadMemory, loadXMemory:
			if written>>i.K&1 == 0 {
				return false
			}
		}
		switch always, maybe := i.jumps(); {
		case always:
			reach[pc+1+int(i.K)] &= written
			written = all
		case maybe:
			reach[pc+1+int(i.JT)] &= written
			reach[pc+1+int(i.JF)] &= written
			written = all
		}
	}
	return true
}

// Run runs a program that Check has passed and returns what it returns; 0 if it divides by zero.
func Run(p []Instruction, data *Data) uint32 {
	var a, x uint32
	var memory [memoryWords]uint32
	for pc := 0; pc < len(p); pc++ {
		i := &p[pc]
		switch i.Code {
		case loadAbsolute:
			a = data[i.K/4]
			continue
		case loadImmediate:
			a = i.K
			continue
		case loadMemory:
			a = memory[i.K]
			continue
		case loadLength:
			a = DataSize
			continue
		case loadXImmediate:
			x = i.K
			continue
		case loadXMemory:
			x = memory[i.K]
			continue
		case loadXLength:
			x = DataSize
			continue
		case store:
			memory[i.K] = a
			continue
		case storeX:
			memory[i.K] = x
			continue
		case returnK:
			return i.K
		case returnA:
			return a
		case toX:
			x = a
			continue
		case toA:
			a = x
			continue
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
			continue
		}
		operand := i.K
		if i.Code&unix.BPF_X != 0 {
			operand = x
		}
		if i.Code&7 == unix.BPF_JMP {
			if holds(i.Code&0xf0, a, operand) {
				pc += int(i.JT)
			} else {
				pc += int(i.JF)
			}
			continue
		}
		if operand == 0 && (i.Code&0xf0 == unix.BPF_DIV || i.Code&0xf0 == unix.BPF_MOD) {
			return 0
		}
		a = compute(i.Code&0xf0, a, operand)
	}
	return 0 // not reached: the last instruction returns
}

func holds(operation uint16, a, operand uint32) bool {
	switch operation {
	case unix.BPF_JEQ:
		return a == operand
	case unix.BPF_JGT:
		return a > operand
	case unix.BPF_JGE:
		return a >= operand
	}
	return a&operand != 0
}

// compute does an arithmetic operation. Shifts by 32 and more do what the CPU does: Linux masks the count.
func compute(operation uint16, a, operand uint32) uint32 {
	switch operation {
	case unix.BPF_ADD:
		return a + operand
	case unix.BPF_SUB:
		return a - operand
	case unix.BPF_MUL:
		return a * operand
	case unix.BPF_DIV:
		return a / operand
	case unix.BPF_MOD:
		return a % operand
	case unix.BPF_OR:
		return a | operand
	case unix.BPF_AND:
		return a & operand
	case unix.BPF_XOR:
		return a ^ operand
	case unix.BPF_LSH:
		return a << (operand & 31)
	case unix.BPF_RSH:
		return a >> (operand & 31)
	}
	return -a
}
