package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"elver/boot"
	"elver/test/need"
)

const qemuName = "qemu-system-x86_64"

// probe is a kernel that checks what the stub promises, one letter for each promise kept, and
// leaves through isa-debug-exit with status 0.
func probe() []byte {
	a := &assembler{labels: map[string]int{}}
	// RBX, R12..R15 keep the arguments.
	a.emit(0x89, 0xfb)       // mov ebx, edi
	a.emit(0x49, 0x89, 0xf4) // mov r12, rsi
	a.emit(0x49, 0x89, 0xd5) // mov r13, rdx
	a.emit(0x49, 0x89, 0xce) // mov r14, rcx
	a.emit(0x4d, 0x89, 0xc7) // mov r15, r8
	say := func(c byte) {
		a.emit(0x66, 0xba).u16(serialPort) // mov dx, serialPort
		a.emit(0xb0, c, 0xee)              // mov al, c; out dx, al
	}
	n := 0
	failUnless := func(jcc byte, c byte) { // if the condition holds say c, else '!'
		n++
		label := "ok" + string(rune('a'+n))
		a.jump8(jcc, label)
		say('!')
		a.label(label)
		say(c)
	}
	const jz = 0x74
	a.emit(0x81, 0xfb).u32(multibootMagic) // cmp ebx, multibootMagic
	a.jump8(jz, "multiboot")
	a.emit(0x81, 0xfb).u32(pvhMagic) // cmp ebx, pvhMagic
	failUnless(jz, 'P')
	// hvm_start_info begins with its magic, seen through the direct map.
	a.emit(0x48, 0xb8).u64(DirectMap)            // mov rax, DirectMap
	a.emit(0x41, 0x81, 0x3c, 0x04).u32(pvhMagic) // cmp dword [r12+rax], pvhMagic
	failUnless(jz, 'i')
	a.jump8(0xeb, "common")
	a.label("multiboot")
	say('M')
	a.emit(0x41, 0xf6, 0x04, 0x24, 0x40) // test byte [r12], memory map bit (identity map)
	failUnless(0x75, 'i')
	a.label("common")
	a.emit(0x8c, 0xc8)       // mov eax, cs
	a.emit(0x83, 0xf8, 0x08) // cmp eax, 8
	failUnless(jz, 'c')
	a.emit(0x8c, 0xd0)       // mov eax, ss
	a.emit(0x83, 0xf8, 0x10) // cmp eax, 0x10
	failUnless(jz, 's')
	// The stack: its top is the end of scratch in the direct map, and it works.
	a.emit(0x48, 0xb8).u64(DirectMap) // mov rax, DirectMap
	a.emit(0x4c, 0x01, 0xf0)          // add rax, r14
	a.emit(0x48, 0x39, 0xc4)          // cmp rsp, rax
	failUnless(jz, 't')
	a.emit(0x50, 0x59)       // push rax; pop rcx
	a.emit(0x48, 0x39, 0xc8) // cmp rax, rcx (say changed rax's low byte before the push)
	failUnless(jz, 'p')
	// The three mappings show the same: the ELF magic of the boot page.
	a.emit(0x41, 0x81, 0x7d, 0x00).u32(0x464c457f) // cmp dword [r13], ELF magic
	failUnless(jz, '1')
	a.emit(0x48, 0xb8).u64(DirectMap)
	a.emit(0x42, 0x81, 0x3c, 0x28).u32(0x464c457f) // cmp dword [rax+r13], ELF magic
	failUnless(jz, '2')
	a.emit(0x48, 0xb8).u64(KernelBase)
	a.emit(0x42, 0x81, 0x3c, 0x28).u32(0x464c457f)
	failUnless(jz, '3')
	// The table: its physical scratch end is what came in RCX.
	a.emit(0x48, 0xb8).u64(testTable + 9*8) // mov rax, &elverImage[9]
	a.emit(0x4c, 0x39, 0x30)                // cmp [rax], r14
	failUnless(jz, 'e')
	a.emit(0x48, 0xb8).u64(testTable + 8*8) // mov rax, &elverImage[8]
	a.emit(0x4c, 0x39, 0x38)                // cmp [rax], r15
	failUnless(jz, 'b')
	a.emit(0x0f, 0x20, 0xd8) // mov rax, cr3
	a.emit(0x4c, 0x39, 0xf8) // cmp rax, r15
	failUnless(jz, 'r')
	// SSE works, and the new GDT can be read: load a selector.
	a.emit(0x0f, 0x57, 0xc0) // xorps xmm0, xmm0
	a.emit(0xb8).u32(0x10)
	a.emit(0x8e, 0xd0) // mov ss, eax
	say('\n')
	a.emit(0x31, 0xc0, 0xe6, debugExitPort) // xor eax, eax; out debugExitPort, al
	a.label("halt")
	a.emit(0xf4)
	a.jump8(0xeb, "halt")
	return a.finish()
}

func runQEMU(t *testing.T, kernel []byte, args ...string) (output string, status int) {
	t.Helper()
	qemu := need.Command(t, qemuName)
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, append([]string{
		"-accel", "tcg", "-nodefaults", "-m", "32", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", path,
	}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		t.Fatalf("QEMU did not end; it printed %q %q", out, stderr.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if stderr.Len() != 0 {
		t.Logf("QEMU: %s", strings.TrimSpace(stderr.String()))
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestBoot(t *testing.T) {
	kernel := write(t, linked{code: probe()}, Options{})
	pvh := bytes.Clone(kernel)
	clear(pvh[multibootOffset : multibootOffset+4])
	for _, protocol := range []struct {
		name   string
		kernel []byte
		want   string
	}{
		{"multiboot", kernel, "Micstp123ebr\n"},
		{"pvh", pvh, "Picstp123ebr\n"},
	} {
		for _, machine := range []string{"pc", "q35", "microvm"} {
			for _, cpu := range []string{"max", "qemu64"} {
				t.Run(protocol.name+"/"+machine+"/"+cpu, func(t *testing.T) {
					out, status := runQEMU(t, protocol.kernel, "-M", machine, "-cpu", cpu)
					if out != protocol.want || status != 1 {
						t.Errorf("printed %q with status %d, want %q with 1", out, status, protocol.want)
					}
				})
			}
		}
	}
}

// dumped are the ranges of memory in which QEMU leaves the boot information: by PVH it is in low memory,
// page 0 included, and in the firmware's; by multiboot in low memory, with strings behind the image.
var dumped = []span{
	{0, 0x30000},
	{0xe0000, 0x100000},
	{testData - KernelBase + pageSize + scratchBytes, testData - KernelBase + pageSize + scratchBytes + 0x1000},
}

// dumper is a kernel that writes the address of its boot information and what is in those ranges to
// the debug console.
func dumper() []byte {
	a := &assembler{labels: map[string]int{}}
	a.emit(0x66, 0xba).u16(dumpPort) // mov dx, dumpPort
	a.emit(0x56)                     // push rsi
	a.emit(0x48, 0x89, 0xe6)         // mov rsi, rsp
	a.emit(0xb9).u32(8)              // mov ecx, 8
	a.emit(0xf3, 0x6e)               // rep outsb
	for _, s := range dumped {
		a.emit(0xbe).u32(uint32(s.start))         // mov esi, start
		a.emit(0xb9).u32(uint32(s.end - s.start)) // mov ecx, length
		a.emit(0xf3, 0x6e)                        // rep outsb
	}
	a.emit(0xe6, debugExitPort) // out debugExitPort, al
	a.emit(0xf4)                // hlt
	return a.finish()
}

const dumpPort = 0xe9

// What QEMU really hands over, read by package boot.
func TestBootInformation(t *testing.T) {
	kernel := write(t, linked{code: dumper()}, Options{})
	pvh := bytes.Clone(kernel)
	clear(pvh[multibootOffset : multibootOffset+4])
	dir := t.TempDir()
	initrd := filepath.Join(dir, "hello")
	if err := os.WriteFile(initrd, make([]byte, 0x1234), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []struct {
		name   string
		kernel []byte
		magic  uint32
	}{{"multiboot", kernel, boot.MultibootMagic}, {"pvh", pvh, boot.PVHMagic}} {
		for _, machine := range []string{"pc", "q35", "microvm"} {
			t.Run(protocol.name+"/"+machine, func(t *testing.T) {
				dump := filepath.Join(t.TempDir(), "dump")
				runQEMU(t, protocol.kernel, "-M", machine, "-cpu", "max",
					"-initrd", initrd, "-append", "elver.log=info -- 'a b' c",
					"-chardev", "file,id=dump,path="+dump, "-device", "isa-debugcon,chardev=dump")
				b, err := os.ReadFile(dump)
				if err != nil || len(b) < 8 {
					t.Fatalf("the dump has %d bytes: %v", len(b), err)
				}
				info, err := boot.Parse(protocol.magic, le.Uint64(b), func(pa uint64, n int) ([]byte, bool) {
					at := uint64(8)
					for _, s := range dumped {
						if s.start <= pa && pa+uint64(n) <= s.end {
							return b[at+pa-s.start:][:n], true
						}
						at += s.end - s.start
					}
					return nil, false
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v", *info)
				wantLoader := map[uint32]string{boot.MultibootMagic: "qemu"}[protocol.magic]
				if info.Loader != wantLoader {
					t.Errorf("the loader is %q, want %q", info.Loader, wantLoader)
				}
				params, err := boot.ParseCommandLine(info.CommandLine, info.InitrdName)
				if err != nil {
					t.Fatal(err)
				}
				want := []string{"a b", "c"}
				if protocol.magic == boot.MultibootMagic {
					want = []string{"hello", "a b", "c"}
				}
				if params.Log != "info" || !slices.Equal(params.Argv, want) {
					t.Errorf("%q becomes log=%s, argv %q, want %q", info.CommandLine, params.Log, params.Argv, want)
				}
				if len(info.Modules) != 1 || info.Modules[0].End-info.Modules[0].Start != 0x1234 {
					t.Errorf("modules are %+v", info.Modules)
				} else if m := info.Modules[0]; m.Start < testData-KernelBase+pageSize+scratchBytes || m.Start%pageSize != 0 {
					t.Errorf("the module at %#x is in the image or not on a page", m.Start)
				}
				var usable uint64
				for _, r := range info.MemoryMap {
					if r.Kind == boot.Usable {
						usable += r.End - r.Start
					}
				}
				if usable < 31<<20 || usable > 32<<20 {
					t.Errorf("%d bytes of memory are usable, of 32 MiB", usable)
				}
			})
		}
	}
}

func TestBootWithoutLongMode(t *testing.T) {
	kernel := write(t, linked{code: probe()}, Options{})
	for _, cpu := range []string{"qemu32", "486"} {
		t.Run(cpu, func(t *testing.T) {
			status := filepath.Join(t.TempDir(), "status")
			out, exit := runQEMU(t, kernel, "-cpu", cpu,
				"-chardev", "file,id=status,path="+status, "-device", "isa-debugcon,iobase=0x5e9,chardev=status")
			if out != noLongModeText || exit != refusedStatus<<1|1 {
				t.Errorf("printed %q with status %d, want %q with %d", out, exit, noLongModeText, refusedStatus<<1|1)
			}
			if b, _ := os.ReadFile(status); !bytes.Equal(b, []byte{refusedStatus}) {
				t.Errorf("status channel has % x, want %x", b, refusedStatus)
			}
		})
	}
}
