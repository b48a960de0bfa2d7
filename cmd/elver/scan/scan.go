package scan

import (
	"encoding/binary"
	"io"
	"maps"
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// Result is what a scan found.
type Result struct {
	Calls   []int // numbers of system calls, sorted
	Unknown int   // sites whose number isn't known
	Bytes   int64 // of code that was decoded
}

// Source is a program or library to scan; the first is the program.
type Source struct {
	Name string
	File io.ReaderAt
}

// Programs scans a program and its libraries.
func Programs(sources []Source) (*Result, error) {
	s := &scanner{result: &Result{}, numbers: map[int]bool{}, functions: map[place]*function{}}
	for _, source := range sources {
		m, err := load(source.Name, source.File)
		if err != nil {
			return nil, err
		}
		s.modules = append(s.modules, m)
	}
	s.run()
	s.result.Calls = slices.Sorted(maps.Keys(s.numbers))
	return s.result, nil
}

// place is an address in a module.
type place struct {
	m  *module
	at uint64
}

// function is one that was reached.
type function struct {
	callers []callSite
	// wraps are the registers whose value at the function's beginning is the number of a system call.
	wraps map[x86asm.Reg]bool
}

// callSite is a call of a function, with what the registers held.
type callSite struct {
	from  *function
	state registers
}

type scanner struct {
	modules   []*module
	result    *Result
	numbers   map[int]bool
	functions map[place]*function
	queue     []place
	wrappers  []*function // whose callers are to be asked
}

func (s *scanner) run() {
	if len(s.modules) == 0 {
		return
	}
	program := s.modules[0]
	s.reach(program, program.entry)
	for _, at := range program.functions {
		s.reach(program, at)
	}
	// Initialisers, tables of functions and the like.
	for _, m := range s.modules {
		for _, at := range m.pointers {
			s.reach(m, at)
		}
		for _, name := range m.dataNames {
			s.reachName(name)
		}
		if m != program {
			s.reach(m, m.entry)
		}
	}
	for len(s.queue) > 0 {
		next := s.queue[len(s.queue)-1]
		s.queue = s.queue[:len(s.queue)-1]
		s.decode(next)
	}
	s.askCallers()
	if s.numbers[rtSigaction] {
		// Who handles signals returns from them, by code that is only named by its address.
		s.numbers[rtSigreturn] = true
	}
}

const (
	rtSigaction = 13
	rtSigreturn = 15
)

// reach has the function decoded that an address belongs to.
func (s *scanner) reach(m *module, at uint64) *function {
	if !m.isCode(at) {
		return nil
	}
	start, _, ok := m.holding(at)
	if !ok {
		start = at
		m.begin(at)
	}
	p := place{m, start}
	f := s.functions[p]
	if f == nil {
		f = &function{wraps: map[x86asm.Reg]bool{}}
		s.functions[p] = f
		s.queue = append(s.queue, p)
	}
	return f
}

// reachName reaches what a symbol means: the first module that exports it counts.
func (s *scanner) reachName(name string) *function {
	for _, m := range s.modules {
		if at, ok := m.exports[name]; ok {
			return s.reach(m, at)
		}
	}
	return nil
}

// A value is what is known of a register: constants, or that it is what a register was at the function's
// beginning.
type value struct {
	constants [4]int64
	n         uint8
	argument  x86asm.Reg // 0: none
}

func constant(v int64) value { return value{constants: [4]int64{v}, n: 1} }

func (v value) known() bool { return v.n > 0 || v.argument != 0 }

// merge returns what is known where two courses meet: of constants all, of one that isn't known nothing.
func merge(a, b value) value {
	if !a.known() {
		return b
	}
	if a.argument != 0 || b.argument != 0 {
		if a == b || !b.known() {
			return a
		}
		if a.argument != 0 && b.n > 0 {
			return a
		}
		return b
	}
	for _, c := range b.constants[:b.n] {
		if !slices.Contains(a.constants[:a.n], c) && int(a.n) < len(a.constants) {
			a.constants[a.n] = c
			a.n++
		}
	}
	return a
}

const stackSlots = 8

// slot is a word of the stack, by its distance from RSP or RBP.
type slot struct {
	base  x86asm.Reg
	disp  int64
	value value
}

// registers is what is known at an instruction.
type registers struct {
	r     [16]value
	slots [stackSlots]slot
	next  uint8
}

func atEntry() registers {
	var g registers
	for i := range g.r {
		g.r[i].argument = x86asm.RAX + x86asm.Reg(i)
	}
	return g
}

func (g *registers) merge(h *registers) {
	for i := range g.r {
		g.r[i] = merge(g.r[i], h.r[i])
	}
}

// wide returns the index of the 64-bit register that r is a part of, or -1.
func wide(r x86asm.Reg) int {
	switch {
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX)
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX)
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX)
	case r >= x86asm.AL && r <= x86asm.BL:
		return int(r - x86asm.AL)
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + 4
	}
	return -1
}

// stack returns the slot of a stack operand.
func (g *registers) stack(m x86asm.Mem) *slot {
	if m.Base != x86asm.RSP && m.Base != x86asm.RBP || m.Index != 0 || m.Segment != 0 {
		return nil
	}
	for i := range g.slots {
		if s := &g.slots[i]; s.base == m.Base && s.disp == m.Disp {
			return s
		}
	}
	return nil
}

func (g *registers) spill(m x86asm.Mem, v value) {
	if m.Base != x86asm.RSP && m.Base != x86asm.RBP || m.Index != 0 || m.Segment != 0 {
		return
	}
	s := g.stack(m)
	if s == nil {
		s = &g.slots[g.next%stackSlots]
		g.next++
	}
	*s = slot{m.Base, m.Disp, v}
}

// moved forgets the slots of a base that changed.
func (g *registers) moved(base x86asm.Reg) {
	for i := range g.slots {
		if g.slots[i].base == base {
			g.slots[i] = slot{}
		}
	}
}

// callerSaved are the registers that a call may change in both of C's and Go's conventions.
var callerSaved = []x86asm.Reg{x86asm.RAX, x86asm.RCX, x86asm.RDX, x86asm.RSI, x86asm.RDI, x86asm.R8, x86asm.R9, x86asm.R10, x86asm.R11}

// decode follows the code of a function.
func (s *scanner) decode(p place) {
	m := p.m
	_, end, ok := m.holding(p.at)
	code := m.bytes(p.at)
	if !ok || len(code) == 0 {
		return
	}
	if n := end - p.at; n < uint64(len(code)) {
		code = code[:n]
	}
	self := s.functions[p]
	state := atEntry()
	live := true // control comes here from the instruction before
	targets := map[uint64]*registers{}
	s.result.Bytes += int64(len(code))
	for off := 0; off < len(code); {
		pc := p.at + uint64(off)
		if known := targets[pc]; known != nil {
			if live {
				state.merge(known)
			} else {
				state = *known
			}
			live = true
		}
		if len(code)-off >= 4 && string(code[off:off+4]) == string(endbr64) {
			off += 4
			continue
		}
		in, err := x86asm.Decode(code[off:], 64)
		if err != nil || in.Len == 0 {
			// AVX and the like, which change no general register as a rule.
			off += skip(code[off:])
			continue
		}
		next := pc + uint64(in.Len)
		off += in.Len
		if !live {
			state = registers{}
			live = true
		}
		s.references(m, &in, next)
		switch in.Op {
		case x86asm.SYSCALL:
			s.site(self, state.r[0])
			state.r[0] = value{}
			state.r[wide(x86asm.RCX)], state.r[wide(x86asm.R11)] = value{}, value{}
			continue
		case x86asm.CALL:
			s.call(m, self, &in, next, &state)
			for _, r := range callerSaved {
				state.r[wide(r)] = value{}
			}
			continue
		case x86asm.JMP:
			target, direct := relative(&in, next)
			switch {
			case direct && target >= p.at && target < end && !m.bare:
				join(targets, target, &state)
			default:
				s.call(m, self, &in, next, &state) // a tail call, or by a table in the function
			}
			live = false
			continue
		case x86asm.RET, x86asm.UD2, x86asm.HLT:
			live = false
			continue
		}
		if target, direct := relative(&in, next); direct {
			if target >= p.at && target < end {
				join(targets, target, &state)
			} else {
				s.call(m, self, &in, next, &state)
			}
			continue
		}
		state.execute(&in)
	}
}

func join(targets map[uint64]*registers, at uint64, state *registers) {
	if known := targets[at]; known != nil {
		known.merge(state)
		return
	}
	copied := *state
	targets[at] = &copied
}

// relative returns where a direct jump or call leads.
func relative(in *x86asm.Inst, next uint64) (uint64, bool) {
	if rel, ok := in.Args[0].(x86asm.Rel); ok {
		return next + uint64(int64(rel)), true
	}
	return 0, false
}

// skip returns the length of an instruction that isn't decoded, as well as that can be told: of a VEX or EVEX
// one, by its operands.
func skip(code []byte) int {
	at := 0
	switch {
	case len(code) > 3 && code[0] == 0xc5:
		at = 3
	case len(code) > 4 && code[0] == 0xc4:
		at = 4
	case len(code) > 6 && code[0] == 0x62:
		at = 6
	default:
		return 1
	}
	// The opcode stands before at; a ModRM byte follows, but for VZEROUPPER.
	if code[at-1] == 0x77 {
		return at
	}
	if at >= len(code) {
		return 1
	}
	modrm := code[at]
	n := at + 1
	mod, rm := modrm>>6, modrm&7
	if mod != 3 {
		if rm == 4 {
			if n < len(code) && mod == 0 && code[n]&7 == 5 {
				n += 4
			}
			n++
		}
		switch {
		case mod == 1:
			n++
		case mod == 2, mod == 0 && rm == 5:
			n += 4
		}
	}
	// Opcode map 3 has an immediate byte, and so have some of map 1.
	if code[0] == 0xc4 && code[1]&0x1f == 3 || code[0] == 0x62 && code[1]&7 == 3 {
		n++
	} else if op := code[at-1]; op >= 0x70 && op <= 0x73 || op == 0xc2 || op >= 0xc4 && op <= 0xc6 {
		n++
	}
	return min(n, len(code))
}

// site notes a SYSCALL instruction of f with number in RAX.
func (s *scanner) site(f *function, number value) {
	switch {
	case number.n > 0:
		for _, c := range number.constants[:number.n] {
			s.number(c)
		}
	case number.argument != 0:
		s.wrap(f, number.argument)
	default:
		s.result.Unknown++
	}
}

func (s *scanner) number(n int64) {
	if n >= 0 && n < 1024 {
		s.numbers[int(n)] = true
	}
}

func (s *scanner) wrap(f *function, r x86asm.Reg) {
	if !f.wraps[r] {
		f.wraps[r] = true
		s.wrappers = append(s.wrappers, f)
	}
}

// askCallers asks the callers of functions that make the call which an argument names.
func (s *scanner) askCallers() {
	type asked struct {
		f *function
		r x86asm.Reg
	}
	done := map[asked]bool{}
	for len(s.wrappers) > 0 {
		f := s.wrappers[len(s.wrappers)-1]
		s.wrappers = s.wrappers[:len(s.wrappers)-1]
		for _, r := range slices.Sorted(maps.Keys(f.wraps)) {
			if done[asked{f, r}] {
				continue
			}
			done[asked{f, r}] = true
			for i := range f.callers {
				c := &f.callers[i]
				s.site(c.from, c.state.r[wide(r)])
			}
		}
	}
}

// call notes a call or a jump out of the function.
func (s *scanner) call(m *module, from *function, in *x86asm.Inst, next uint64, state *registers) {
	var to *function
	if target, direct := relative(in, next); direct {
		if name, ok := m.stubs[target]; ok {
			to = s.reachName(name)
		} else {
			if (in.Op == x86asm.CALL || m.bare) && m.isCode(target) {
				m.begin(target)
			}
			to = s.reach(m, target)
		}
	} else if mem, ok := in.Args[0].(x86asm.Mem); ok && mem.Base == x86asm.RIP {
		if name, ok := m.imports[next+uint64(mem.Disp)]; ok {
			to = s.reachName(name)
		}
	}
	if to != nil {
		to.callers = append(to.callers, callSite{from, *state})
	}
}

// references reaches what an instruction takes the address of.
func (s *scanner) references(m *module, in *x86asm.Inst, next uint64) {
	for _, arg := range in.Args {
		switch a := arg.(type) {
		case x86asm.Mem:
			if a.Base != x86asm.RIP {
				continue
			}
			at := next + uint64(a.Disp)
			if name, ok := m.imports[at]; ok {
				s.reachName(name)
			} else if in.Op == x86asm.LEA && m.isCode(at) {
				if name, ok := m.stubs[at]; ok {
					s.reachName(name)
				} else {
					s.reach(m, at)
				}
			} else if in.Op == x86asm.MOV && !m.isCode(at) {
				// A pointer to a function in constant data, as Go's closures are.
				if b := m.bytes(at); len(b) >= 8 {
					if to := binary.LittleEndian.Uint64(b); m.isCode(to) {
						if m.starts[to] {
							s.reach(m, to)
						}
					}
				}
			}
		case x86asm.Imm:
			if a > 0 && m.starts[uint64(a)] {
				s.reach(m, uint64(a))
			}
		}
	}
}

// execute follows what an instruction does to the registers.
func (g *registers) execute(in *x86asm.Inst) {
	set := func(r x86asm.Reg, v value) {
		if i := wide(r); i >= 0 {
			g.r[i] = v
			if i == wide(x86asm.RSP) || i == wide(x86asm.RBP) {
				g.moved(x86asm.RAX + x86asm.Reg(i))
			}
		}
	}
	get := func(arg x86asm.Arg) value {
		switch a := arg.(type) {
		case x86asm.Imm:
			return constant(int64(a))
		case x86asm.Reg:
			if i := wide(a); i >= 0 && a < x86asm.RIP && a >= x86asm.EAX {
				return g.r[i]
			}
		case x86asm.Mem:
			if s := g.stack(a); s != nil {
				return s.value
			}
		}
		return value{}
	}
	switch in.Op {
	case x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.BT:
		return
	case x86asm.PUSH:
		g.moved(x86asm.RSP)
		return
	case x86asm.CPUID, x86asm.RDTSC, x86asm.MUL, x86asm.DIV, x86asm.IDIV, x86asm.CDQ, x86asm.CQO, x86asm.CWDE, x86asm.CDQE:
		g.r[wide(x86asm.RAX)], g.r[wide(x86asm.RDX)] = value{}, value{}
		return
	case x86asm.CMPXCHG:
		g.r[wide(x86asm.RAX)] = value{}
	}
	switch to := in.Args[0].(type) {
	case x86asm.Reg:
		switch {
		case in.Op == x86asm.MOV && (wide(to) < 0 || to >= x86asm.EAX && to < x86asm.RIP):
			set(to, get(in.Args[1]))
		case in.Op == x86asm.MOV && (to >= x86asm.AL && to <= x86asm.BL):
			// "xor eax, eax; mov al, 56"
			imm, ok := in.Args[1].(x86asm.Imm)
			if v := g.r[wide(to)]; ok && v.n == 1 {
				set(to, constant(v.constants[0]&^0xff|int64(imm)&0xff))
			} else {
				set(to, value{})
			}
		case in.Op == x86asm.MOVSXD:
			set(to, get(in.Args[1]))
		case (in.Op == x86asm.XOR || in.Op == x86asm.SUB) && in.Args[1] == in.Args[0]:
			set(to, constant(0))
		case in.Op >= x86asm.CMOVA && in.Op <= x86asm.CMOVS:
			set(to, merge(get(in.Args[0]), get(in.Args[1])))
		case in.Op == x86asm.LEA:
			// A small constant by way of a register that holds one.
			if mem, ok := in.Args[1].(x86asm.Mem); ok && mem.Index == 0 && mem.Base != 0 && mem.Base != x86asm.RIP && wide(mem.Base) >= 0 {
				if v := g.r[wide(mem.Base)]; v.n == 1 {
					set(to, constant(v.constants[0]+mem.Disp))
					return
				}
			}
			set(to, value{})
		case in.Op == x86asm.OR && in.Args[1] == x86asm.Imm(-1):
			set(to, constant(-1))
		default:
			set(to, value{})
		}
	case x86asm.Mem:
		if in.Op == x86asm.MOV {
			g.spill(to, get(in.Args[1]))
		} else if s := g.stack(to); s != nil {
			s.value = value{}
		}
	}
	if in.Op == x86asm.XCHG {
		if r, ok := in.Args[1].(x86asm.Reg); ok {
			set(r, value{})
		}
	}
}
