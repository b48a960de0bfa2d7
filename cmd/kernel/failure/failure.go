//go:build elver

// Package failure completes the report of a kernel failure: the runtime prints the exception and the
// registers, this package the instructions around it and what the program was doing; the goroutine's
// stack follows from the runtime. It runs while the kernel is broken: it keeps to one buffer, and a
// second failure in it ends the machine at once.
package failure

import (
	"fmt"
	"runtime"

	"golang.org/x/arch/x86/x86asm"

	"elver/arch/amd64"
	"elver/runtime/metal"
	"elver/syscall"
)

// Report installs the report.
func Report() { metal.OnFailure(report) }

func report(rip uint64) {
	if f := runtime.FuncForPC(uintptr(rip)); f != nil {
		file, line := f.FileLine(uintptr(rip))
		metal.Console(fmt.Appendf(nil, "in %s+%#x (%s:%d)\n", f.Name(), rip-uint64(f.Entry()), file, line))
		metal.Console(disassemble(uint64(f.Entry()), rip))
	}
	if c := amd64.Last(); c != nil {
		metal.Console(fmt.Appendf(nil, "the program was last at %#x, in system call %s (%d)\n", c.RIP, syscall.Name(uint32(c.OrigRAX)), int64(c.OrigRAX)))
	}
}

// disassemble shows the instructions around rip, decoded from the function's entry on.
func disassemble(entry, rip uint64) []byte {
	const before, after = 6, 4
	var out []byte
	var at [before]uint64
	n := 0
	pc := entry
	for ; pc < rip && pc-entry < 64<<10; n++ {
		at[n%before] = pc
		pc += length(pc)
	}
	for i := max(0, n-before); i < n; i++ {
		out = line(out, at[i%before], "   ")
	}
	for i := 0; i <= after; i++ {
		mark := "   "
		if pc == rip {
			mark = "=> "
		}
		out = line(out, pc, mark)
		pc += length(pc)
	}
	return out
}

func decode(pc uint64) (x86asm.Inst, error) { return x86asm.Decode(metal.Text(pc, 16), 64) }

// length returns the length of the instruction at pc; one that can't be decoded counts as a byte.
func length(pc uint64) uint64 {
	if inst, err := decode(pc); err == nil {
		return uint64(inst.Len)
	}
	return 1
}

func line(out []byte, pc uint64, mark string) []byte {
	text := "(not decoded)"
	if inst, err := decode(pc); err == nil {
		text = x86asm.GoSyntax(inst, pc, nil)
	}
	return fmt.Appendf(out, "  %s%#x: %s\n", mark, pc, text)
}
