package kernel

import (
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// TestAssembly: an operand in memory at address 0 is named.
func TestAssembly(t *testing.T) {
	for want, code := range map[string]string{
		"mov %ecx,0x0":       "\x89\x0c\x25\x00\x00\x00\x00",
		"mov 0x0,%ecx":       "\x8b\x0c\x25\x00\x00\x00\x00",
		"incl 0x0":           "\xff\x04\x25\x00\x00\x00\x00",
		"movl $0x7,0x0":      "\xc7\x04\x25\x00\x00\x00\x00\x07\x00\x00\x00",
		"imul $0x5,0x0,%ecx": "\x6b\x0c\x25\x00\x00\x00\x00\x05",
		"mov %ecx,0x10":      "\x89\x0c\x25\x10\x00\x00\x00",
		"mov %ecx,(%rax)":    "\x89\x08",
		"mov %fs:0x0,%rax":   "\x64\x48\x8b\x04\x25\x00\x00\x00\x00",
		"retq":               "\xc3",
	} {
		insn, err := x86asm.Decode([]byte(code), 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := assembly(insn, 0x1000); got != want {
			t.Errorf("%q, wanted %q", got, want)
		}
	}
}
