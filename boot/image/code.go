package image

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// fixCode decodes every function of the text, moves the accesses to the g of the runtime from FS to
// GS, and refuses other uses of FS and system calls. loaded holds the image from address base on.
//
// With the Go linker's layout of thread-local storage every access of the runtime to g is an operand
// %fs:-8, a 32-bit displacement without base and index. The processor's word for the GS base then
// belongs to the kernel (swapgs), and the FS base stays the program's.
func fixCode(f *elf.File, symbols []elf.Symbol, loaded []byte, base uint64, opts Options) error {
	text := f.Section(".text")
	if text == nil {
		return errors.New("the linked kernel has no section .text")
	}
	functions := textFunctions(text, symbols)
	if len(functions) == 0 {
		return errors.New("the linked kernel's symbol table names no functions")
	}
	var problems []error
	end := text.Addr
	for _, fn := range functions {
		if fn.Value < end {
			if fn.Value+fn.Size <= end {
				continue // a second name for what was seen
			}
			problems = append(problems, fmt.Errorf("function %s overlaps the one before it", fn.Name))
			continue
		}
		if at, ok := notPadding(loaded[end-base : fn.Value-base]); !ok {
			problems = append(problems, fmt.Errorf("there is code or data between functions, at %#x before %s", end+uint64(at), fn.Name))
		}
		end = fn.Value + fn.Size
		problems = append(problems, fixFunction(strings.TrimSuffix(fn.Name, abi0Suffix), loaded[fn.Value-base:end-base], opts)...)
	}
	if at, ok := notPadding(loaded[end-base : text.Addr+text.Size-base]); !ok {
		problems = append(problems, fmt.Errorf("there is code or data after the last function, at %#x", end+uint64(at)))
	}
	return errors.Join(problems...)
}

// textFunctions returns the functions in section text that have a size, by address.
func textFunctions(text *elf.Section, symbols []elf.Symbol) []elf.Symbol {
	var functions []elf.Symbol
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 &&
			s.Value >= text.Addr && s.Value <= text.Addr+text.Size && s.Size <= text.Addr+text.Size-s.Value {
			functions = append(functions, s)
		}
	}
	slices.SortFunc(functions, func(a, b elf.Symbol) int {
		return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(b.Size, a.Size))
	})
	return functions
}

// notPadding returns the offset of the first byte that isn't INT3 or zero.
func notPadding(b []byte) (int, bool) {
	i := slices.IndexFunc(b, func(c byte) bool { return c != 0xcc && c != 0 })
	return i, i < 0
}

// fixFunction patches one function in place and returns what is wrong with it.
func fixFunction(name string, code []byte, opts Options) (problems []error) {
	allowFS := slices.Contains(opts.AllowFS, name)
	allowSyscall := slices.Contains(opts.AllowSyscall, name)
	for pc := 0; pc < len(code); {
		in, ok := decode(code[pc:])
		if !ok {
			return append(problems, fmt.Errorf("%s+%#x: bytes % x are not an instruction that the image writer knows", name, pc, code[pc:min(pc+15, len(code))]))
		}
		if call := systemCall(in, code[pc:]); call != "" && !allowSyscall {
			problems = append(problems, fmt.Errorf("%s+%#x: %s is left in the kernel, which has nobody to call", name, pc, call))
		}
		if in.fsPrefix >= 0 && !allowFS {
			if disp, absolute := in.absolute(code[pc:]); absolute && disp == -8 {
				code[pc+in.fsPrefix] = 0x65
			} else {
				problems = append(problems, fmt.Errorf("%s+%#x: % x uses the FS segment other than as %%fs:-8", name, pc, code[pc:pc+in.length]))
			}
		}
		pc += in.length
	}
	return problems
}

// systemCall returns the name of the instruction if it enters a kernel.
func systemCall(in instruction, code []byte) string {
	switch {
	case in.vex:
	case in.opMap == 1 && in.opcode == 0x05:
		return "SYSCALL"
	case in.opMap == 1 && in.opcode == 0x34:
		return "SYSENTER"
	case in.opMap == 0 && in.opcode == 0xcd && code[in.length-1] == 0x80:
		return "INT 0x80"
	}
	return ""
}
