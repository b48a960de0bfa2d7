package bpf

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheck(t *testing.T) {
	ret := Instruction{Code: returnK}
	for name, p := range map[string][]Instruction{
		"empty":               {},
		"no return":           {{Code: loadImmediate}},
		"load beyond":         {{Code: loadAbsolute, K: 64}, ret},
		"load misaligned":     {{Code: loadAbsolute, K: 2}, ret},
		"byte":                {{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS}, ret},
		"indirect":            {{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_IND}, ret},
		"header length":       {{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH}, ret},
		"memory beyond":       {{Code: store, K: 16}, ret},
		"division by zero":    {{Code: unix.BPF_ALU | unix.BPF_DIV}, ret},
		"remainder by zero":   {{Code: unix.BPF_ALU | unix.BPF_MOD}, ret},
		"shift":               {{Code: unix.BPF_ALU | unix.BPF_LSH, K: 32}, ret},
		"no such arithmetic":  {{Code: unix.BPF_ALU | 0xb0}, ret},
		"no such jump":        {{Code: unix.BPF_JMP | 0x50}, ret},
		"high bits":           {{Code: 0x100 | loadImmediate}, ret},
		"jump to the end":     {{Code: unix.BPF_JMP | unix.BPF_JA, K: 1}, ret},
		"jump far":            {{Code: unix.BPF_JMP | unix.BPF_JA, K: ^uint32(0)}, ret},
		"jump, true":          {{Code: unix.BPF_JMP | unix.BPF_JEQ, JT: 1}, ret},
		"jump, false":         {{Code: unix.BPF_JMP | unix.BPF_JEQ, JF: 1}, ret},
		"unwritten":           {{Code: loadMemory, K: 3}, ret},
		"written on one path": {{Code: unix.BPF_JMP | unix.BPF_JEQ, JT: 1}, {Code: store, K: 3}, {Code: loadMemory, K: 3}, ret},
		"too long":            append(make([]Instruction, MaxInstructions), ret),
	} {
		if Check(p) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for name, p := range map[string][]Instruction{
		"return":               {ret},
		"return A":             {{Code: returnA}},
		"written on both":      {{Code: unix.BPF_JMP | unix.BPF_JEQ, JT: 2}, {Code: store, K: 3}, {Code: unix.BPF_JMP | unix.BPF_JA, K: 1}, {Code: storeX, K: 3}, {Code: loadMemory, K: 3}, ret},
		"division by X":        {{Code: unix.BPF_ALU | unix.BPF_DIV | unix.BPF_X}, ret},
		"the last of the data": {{Code: loadAbsolute, K: 60}, ret},
	} {
		if err := Check(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRun(t *testing.T) {
	data := &Data{0: 39, 1: 0xc000003e, 15: 77}
	alu := func(op uint16, a, k uint32) []Instruction {
		return []Instruction{{Code: loadImmediate, K: a}, {Code: unix.BPF_ALU | op, K: k}, {Code: returnA}}
	}
	for name, c := range map[string]struct {
		p    []Instruction
		want uint32
	}{
		"load":    {[]Instruction{{Code: loadAbsolute, K: 60}, {Code: returnA}}, 77},
		"length":  {[]Instruction{{Code: loadLength}, {Code: returnA}}, 64},
		"add":     {alu(unix.BPF_ADD, 0xffffffff, 2), 1},
		"sub":     {alu(unix.BPF_SUB, 1, 2), 0xffffffff},
		"mul":     {alu(unix.BPF_MUL, 0x80000001, 2), 2},
		"div":     {alu(unix.BPF_DIV, 0x80000001, 2), 0x40000000},
		"mod":     {alu(unix.BPF_MOD, 17, 5), 2},
		"or":      {alu(unix.BPF_OR, 5, 2), 7},
		"and":     {alu(unix.BPF_AND, 5, 4), 4},
		"xor":     {alu(unix.BPF_XOR, 5, 4), 1},
		"lsh":     {alu(unix.BPF_LSH, 5, 31), 0x80000000},
		"rsh":     {alu(unix.BPF_RSH, 0x80000000, 31), 1},
		"neg":     {alu(unix.BPF_NEG, 1, 0), 0xffffffff},
		"by zero": {[]Instruction{{Code: loadImmediate, K: 9}, {Code: unix.BPF_ALU | unix.BPF_DIV | unix.BPF_X}, {Code: returnK, K: 1}}, 0},
		"memory":  {[]Instruction{{Code: loadImmediate, K: 9}, {Code: store, K: 15}, {Code: loadXMemory, K: 15}, {Code: toA}, {Code: returnA}}, 9},
		"X":       {[]Instruction{{Code: loadXImmediate, K: 9}, {Code: storeX}, {Code: loadMemory}, {Code: toX}, {Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_X}, {Code: returnA}}, 18},
		"jumps": {[]Instruction{{Code: loadAbsolute}, {Code: unix.BPF_JMP | unix.BPF_JGT, K: 38, JF: 3}, {Code: unix.BPF_JMP | unix.BPF_JGE, K: 40, JT: 2},
			{Code: unix.BPF_JMP | unix.BPF_JSET, K: 0xd8, JT: 1}, {Code: unix.BPF_JMP | unix.BPF_JEQ, K: 39, JT: 1}, {Code: returnK, K: 1}, {Code: returnK, K: 2}}, 2},
	} {
		if err := Check(c.p); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := Run(c.p, data); got != c.want {
			t.Errorf("%s gives %#x, not %#x", name, got, c.want)
		}
	}
}

// FuzzRun: what Check accepts, Run ends without a panic.
func FuzzRun(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p := Decode(b); Check(p) == nil {
			Run(p, &Data{})
		}
	})
}
