package image

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

func TestDecode(t *testing.T) {
	for _, test := range []struct {
		code   string // the instruction in hexadecimal
		opMap  byte
		opcode byte
	}{
		{"90", 0, 0x90},
		{"c3", 0, 0xc3},
		{"0f05", 1, 0x05},
		{"480f05", 1, 0x05},
		{"f30f1efa", 1, 0x1e},                   // endbr64
		{"0f01ca", 1, 0x01},                     // clac
		{"0f01cb", 1, 0x01},                     // stac
		{"0f01f8", 1, 0x01},                     // swapgs
		{"0f0138", 1, 0x01},                     // invlpg [rax]
		{"0fc7f8", 1, 0xc7},                     // rdseed eax
		{"480fc7f0", 1, 0xc7},                   // rdrand rax
		{"f30fc7f8", 1, 0xc7},                   // rdpid rax
		{"f3480faed0", 1, 0xae},                 // wrfsbase rax
		{"480fae6140", 1, 0xae},                 // xrstor64 [rcx+0x40]
		{"480fc727", 1, 0xc7},                   // xsavec64 [rdi]
		{"48cf", 0, 0xcf},                       // iretq
		{"480f07", 1, 0x07},                     // sysretq
		{"0f20d8", 1, 0x20},                     // mov rax, cr3
		{"0f2218", 1, 0x22},                     // mov cr3, rax, with a mod that is ignored
		{"66480f6e042510000000", 1, 0x6e},       // movq xmm0, [0x10]
		{"64488b0c25f8ffffff", 0, 0x8b},         // mov rcx, fs:[-8]
		{"6448c70425f8ffffff23010000", 0, 0xc7}, // mov qword fs:[-8], 0x123
		{"48b88877665544332211", 0, 0xb8},       // mov rax, imm64
		{"66b83412", 0, 0xb8},                   // mov ax, imm16
		{"6648b88877665544332211", 0, 0xb8},     // REX.W wins
		{"a18877665544332211", 0, 0xa1},         // mov eax, moffs64
		{"67a144332211", 0, 0xa1},               // mov eax, moffs32
		{"f60001", 0, 0xf6},                     // test byte [rax], 1
		{"f710", 0, 0xf7},                       // not dword [rax]
		{"f70001000000", 0, 0xf7},               // test dword [rax], 1
		{"66f7000100", 0, 0xf7},                 // test word [rax], 1
		{"c8100000", 0, 0xc8},                   // enter
		{"8d8424f0ffffff", 0, 0x8d},             // lea eax, [rsp-16]
		{"8d0500000000", 0, 0x8d},               // lea eax, [rip]
		{"8d04cd00000000", 0, 0x8d},             // lea eax, [rcx*8+0]
		{"660f3a0fc108", 3, 0x0f},               // palignr
		{"660f38dcc1", 2, 0xdc},                 // aesenc
		{"f2480f38f0c1", 2, 0xf0},               // crc32
		{"c5f877", 1, 0x77},                     // vzeroupper
		{"c5fd6f06", 1, 0x6f},                   // vmovdqa ymm0, [rsi]
		{"c4e37d39c101", 3, 0x39},               // vextracti128
		{"c4e27d78c0", 2, 0x78},                 // vpbroadcastb
		{"c5f173d904", 1, 0x73},                 // vpsrldq
		{"62f17c48104140", 1, 0x10},             // vmovups zmm0, [rcx+0x1000]
		{"62f3fd4843042401", 3, 0x43},           // vshufi64x2 …, [rsp], 1
		{"2e660f1f840000000000", 1, 0x1f},       // long nop
		{"f0480fb10d11223344", 1, 0xb1},         // lock cmpxchg [rip+…], rcx
		{"cd80", 0, 0xcd},                       // int 0x80
		{"41ff24c4", 0, 0xff},                   // jmp [r12+rax*8]
		{"e800000000", 0, 0xe8},                 // call
		{"0f8400000000", 1, 0x84},               // je
		{"0f01d0", 1, 0x01},                     // xgetbv
		{"0f0b", 1, 0x0b},                       // ud2
		{"8fc0", 0, 0x8f},                       // pop rax
		{"f3a4", 0, 0xa4},                       // rep movsb
	} {
		code, err := hex.DecodeString(strings.ReplaceAll(test.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		in, ok := decode(append(bytes.Clone(code), 0x90, 0x90))
		if !ok || in.length != len(code) || in.opMap != test.opMap || in.opcode != test.opcode {
			t.Errorf("% x: got %+v, %v", code, in, ok)
		}
		for n := range code {
			if in, ok := decode(code[:n]); ok && in.length > n {
				t.Errorf("% x cut to %d bytes: got %+v", code, n, in)
			}
		}
	}
	for _, s := range []string{"", "06", "27", "9a", "ea", "d6", "82c000", "0f04", "0f3e", "4040", "8fe878c000", "64", "48c4e2", "c4ff00c0"} {
		code, _ := hex.DecodeString(s)
		if in, ok := decode(code); ok {
			t.Errorf("% x: got %+v, want a refusal", code, in)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff, 0xff})
	f.Add([]byte{0x0f, 0x20, 0x24}) // MOV from CR4 with a mod that would need a SIB byte
	f.Fuzz(func(t *testing.T, code []byte) {
		in, ok := decode(code)
		if !ok {
			return
		}
		if in.length < 1 || in.length > min(15, len(code)) || in.modRM >= in.length || in.fsPrefix >= in.length {
			t.Errorf("% x: %+v", code, in)
		}
		in.absolute(code)
		systemCall(in, code)
	})
}

func TestCode(t *testing.T) {
	for _, test := range []struct {
		name string
		code string
		opts Options
		want string // the code afterwards, or
		err  string // part of the error
	}{
		{name: "load g", code: "64488b0c25f8ffffffc3", want: "65488b0c25f8ffffffc3"},
		{name: "store g", code: "6448c70425f8ffffff23010000c3", want: "6548c70425f8ffffff23010000c3"},
		{name: "prefixes", code: "6664 488b0c25f8ffffff c3", want: "6665 488b0c25f8ffffff c3"},
		{name: "immediate that looks like it", code: "48b864488b0c25f8ffffc3", want: "48b864488b0c25f8ffffc3"},
		{name: "other offset", code: "90 64488b0c25f0ffffff c3", err: "runtime.elverEntry+0x1: 64 48 8b 0c 25 f0 ff ff ff uses the FS segment"},
		{name: "base register", code: "64488b41f8c3", err: "uses the FS segment"},
		{name: "index", code: "64488b04c5f8ffffffc3", err: "uses the FS segment"},
		{name: "RIP relative", code: "64488b05f8ffffffc3", err: "uses the FS segment"},
		{name: "string instruction", code: "64a4c3", err: "uses the FS segment"},
		{name: "absolute address", code: "6448a1f8ffffffffffffffc3", err: "uses the FS segment"},
		{name: "allowed", code: "64488b41f8c3", opts: Options{AllowFS: []string{entrySymbol}}, want: "64488b41f8c3"},
		{name: "allowed isn't patched", code: "64488b0c25f8ffffffc3", opts: Options{AllowFS: []string{entrySymbol}}, want: "64488b0c25f8ffffffc3"},
		{name: "SYSCALL", code: "90 0f05 c3", err: "runtime.elverEntry+0x1: SYSCALL"},
		{name: "SYSENTER", code: "0f34c3", err: "SYSENTER"},
		{name: "INT 0x80", code: "cd80c3", err: "INT 0x80"},
		{name: "INT 3", code: "cd03c3", want: "cd03c3"},
		{name: "allowed SYSCALL", code: "0f05c3", opts: Options{AllowSyscall: []string{entrySymbol}}, want: "0f05c3"},
		{name: "SYSCALL in an immediate", code: "b80f050f05c3", want: "b80f050f05c3"},
		{name: "unknown", code: "90 06 c3", err: "runtime.elverEntry+0x1: bytes 06 c3 are not an instruction"},
		{name: "cut off", code: "90 e80000", err: "are not an instruction"},
	} {
		code, err := hex.DecodeString(strings.ReplaceAll(test.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		out, err := Write(linked{code: code}.bytes(t), test.opts)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error is %v, want %q in it", test.name, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		want, _ := hex.DecodeString(strings.ReplaceAll(test.want, " ", ""))
		if got := out[0x2000:][:len(want)]; !bytes.Equal(got, want) {
			t.Errorf("%s: code is % x, want % x", test.name, got, want)
		}
	}
}

// Functions that overlap, aliases, and bytes that belong to none.
func TestFunctions(t *testing.T) {
	function := func(name uint32, offset, size uint64) elf.Sym64 {
		return elf.Sym64{Name: moreNames + name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 1, Value: testText + 0x1000 + offset, Size: size}
	}
	entry := bytes.Repeat([]byte{0x90}, 16)
	for _, test := range []struct {
		name string
		tail string
		more []elf.Sym64
		err  string
	}{
		{name: "alias", more: []elf.Sym64{function(0, 0, 16)}},
		{name: "inner label", more: []elf.Sym64{function(0, 4, 4)}},
		{name: "overlap", tail: "9090", more: []elf.Sym64{function(0, 15, 3)}, err: "a.f overlaps"},
		{name: "padding", tail: "cccccccc00c3", more: []elf.Sym64{function(0, 21, 1)}},
		{name: "code after", tail: "ccc3", err: "after the last function, at 0xffffffff80200011"},
		{name: "code between", tail: "cc0f05ccc3", more: []elf.Sym64{function(0, 20, 1)}, err: "at 0xffffffff80200011 before a.f"},
	} {
		tail, _ := hex.DecodeString(test.tail)
		k := linked{code: append(bytes.Clone(entry), tail...), names: "a.f\x00", more: test.more}
		in := k.bytes(t)
		// The entry is 16 bytes, whatever follows it: its symbol's size stands in the symbol table.
		f, err := elf.NewFile(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		le.PutUint64(in[f.Section(".symtab").Offset+24+16:], 16)
		_, err = Write(in, Options{})
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: error is %v, want %q in it", test.name, err, test.err)
		}
	}
}

// A real program: everything in it decodes, in step with x86asm where that knows the instruction; its
// system calls are found; and after patching nothing uses FS.
func TestGoProgram(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("go.mod", "module hello\n")
	put("main.go", `package main
import ("crypto/sha256"; "fmt")
var elverImage = [16]uint64{1}
func main() { fmt.Println("hello", sha256.Sum256(nil), elverImage) }
`)
	path := filepath.Join(dir, "hello")
	build := exec.Command("go", "build", "-ldflags", "-T -0x7fe00000", "-o", path)
	build.Dir = dir
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	in, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	_, err = Write(in, Options{})
	if err == nil {
		t.Fatal("a Linux program is taken for a kernel")
	}
	var allow []string
	for _, line := range strings.Split(err.Error(), "\n") {
		name, what, _ := strings.Cut(line, "+")
		if !strings.Contains(what, ": SYSCALL is left in the kernel") {
			t.Errorf("unexpected: %s", line)
		}
		allow = append(allow, name)
	}
	for _, name := range []string{"runtime.futex", "runtime.sysMmap", "time.now", "syscall.rawSyscallNoError", "internal/runtime/syscall/linux.Syscall6"} {
		if !strings.Contains(err.Error(), name+"+") {
			t.Errorf("the SYSCALL in %s was not found", name)
		}
	}

	out, err := Write(in, Options{AllowSyscall: allow})
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	code, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	var known, unknown, gs int
	for _, fn := range textFunctions(text, symbols) {
		code := code[fn.Value-text.Addr:][:fn.Size]
		for pc := 0; pc < len(code); {
			in, ok := decode(code[pc:])
			if !ok {
				t.Fatalf("%s+%#x is not an instruction", fn.Name, pc)
			}
			if in.fsPrefix >= 0 {
				t.Errorf("%s+%#x uses FS", fn.Name, pc)
			}
			if disp, ok := in.absolute(code[pc:]); ok && disp == -8 && code[pc] == 0x65 {
				gs++
			}
			// x86asm stops at prefixes that it doesn't expect, and knows few VEX instructions.
			other, err := x86asm.Decode(code[pc:], 64)
			switch {
			case err != nil || in.vex:
				unknown++
			case other.Len != in.length:
				t.Errorf("%s+%#x: % x is %d bytes long, or %d (%v)", fn.Name, pc, code[pc:min(len(code), pc+15)], in.length, other.Len, other)
			default:
				known++
			}
			pc += in.length
		}
	}
	t.Logf("%d instructions, %d of them unknown to x86asm, %d accesses to g", known+unknown, unknown, gs)
	if known < 100_000 || gs < 300 {
		t.Error("there should be more of them")
	}
}
