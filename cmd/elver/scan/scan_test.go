package scan

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"elver/test/need"
)

// compile makes a program of a source.
func compile(t *testing.T, name, source string, words ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(need.Command(t, words[0]), append(words[1:], "-o", "program", name)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "program")
}

func scanFile(t *testing.T, name string) *Result {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Programs([]Source{{name, f}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// assembly makes system calls in the ways that compilers and libraries have: by constants, by way of other
// registers and the stack, at the end of branches, by functions that take the number.
const assembly = `
.globl _start
_start:
	mov $1000, %eax
	mov $39, %eax
	syscall
	xor %eax, %eax
	mov $186, %al
	syscall
	lea -16(%rsp), %rsi
	mov $228, %ebx
	mov %ebx, -8(%rsp)
	call other
	mov -8(%rsp), %eax
	syscall
	test %edi, %edi
	mov $97, %eax
	je 1f
	mov $98, %eax
1:	syscall
	mov $425, %edi
	call wrapper
	mov $426, %esi
	mov %rsi, %rdi
	jmp wrapper
other:
	lea pointed(%rip), %rdx
	ret
	.p2align 4
wrapper:
	endbr64
	vmovdqu %ymm0, -64(%rsp)
	push %rbx
	mov %rdi, %rax
	mov %rsi, %rdi
	syscall
	pop %rbx
	ret
	.p2align 4
pointed:
	mov $99, %eax
	syscall
	mov (%rdx), %eax
	syscall
	ret
	.p2align 4
data:
	.byte 0x0f, 0x05
`

func TestAssembly(t *testing.T) {
	program := compile(t, "a.s", assembly, "gcc", "-nostdlib", "-static")
	r := scanFile(t, program)
	for _, n := range []int{39, 186, 228, 97, 98, 425, 426, 99} {
		if !slices.Contains(r.Calls, n) {
			t.Errorf("%d isn't found: %v", n, r.Calls)
		}
	}
	if slices.Contains(r.Calls, 1000) || r.Unknown == 0 {
		t.Errorf("%v, %d unknown", r.Calls, r.Unknown)
	}
}

func TestGo(t *testing.T) {
	const source = `package main
import "syscall"
func main() { syscall.Syscall(425, 0, 0, 0); syscall.RawSyscall6(426, 0, 0, 0, 0, 0, 0) }`
	for _, flags := range []string{"", "-s"} {
		r := scanFile(t, compile(t, "a.go", source, "go", "build", "-ldflags="+flags))
		for _, n := range []int{0, 1, 231, 425, 426} {
			if !slices.Contains(r.Calls, n) {
				t.Errorf("%q: %d isn't found: %v", flags, n, r.Calls)
			}
		}
		if slices.Contains(r.Calls, 427) || len(r.Calls) > 150 {
			t.Errorf("%q: %v", flags, r.Calls)
		}
	}
}

// FuzzPrograms: no file makes the scan fail otherwise than by an error.
func FuzzPrograms(f *testing.F) {
	if b, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		Programs([]Source{{name, file}})
	})
}
