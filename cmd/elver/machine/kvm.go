package machine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// KVMWorks says whether KVM does. A /dev/kvm that can be opened says little: nested or restricted ones hang.
// So Elver itself is booted as far as the first instructions of a program, which must end with status 42
// within two seconds. The answer holds until the host boots again, and scripts/qemu-guest shares it.
func KVMWorks(c *Config, qemu string) bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	name := c.QEMU
	if name == "" {
		name = "qemu-system-x86_64"
	}
	boot := "unknown"
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		boot = strings.TrimSpace(string(b))
	}
	dir, cacheErr := CacheDir()
	cache := filepath.Join(dir, "kvm")
	if cacheErr == nil {
		if b, err := os.ReadFile(cache); err == nil {
			if words := strings.Fields(string(b)); len(words) == 3 && words[0] == boot && words[2] == name {
				return words[1] == "yes"
			}
		}
	}
	answer := "no"
	works := probe(c.Kernel, qemu)
	if works {
		answer = "yes"
	}
	if cacheErr == nil {
		// By a rename: others may read it at this moment. An answer that isn't kept is asked again.
		aside := fmt.Sprintf("%s.%d", cache, os.Getpid())
		if os.WriteFile(aside, fmt.Appendf(nil, "%s %s %s\n", boot, answer, name), 0o600) == nil {
			os.Rename(aside, cache)
		}
	}
	return works
}

// probe boots the smallest program by KVM.
func probe(kernel, qemu string) bool {
	dir, err := TempDir()
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	program, status := filepath.Join(dir, "probe"), filepath.Join(dir, "status")
	if err := os.WriteFile(program, probeProgram(), 0o700); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-m", "64",
		"-nodefaults", "-display", "none", "-no-reboot", "-chardev", "file,id=status,path="+escape(status),
		"-device", "isa-debugcon,iobase=0x5e9,chardev=status", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
		"-kernel", kernel, "-initrd", program)
	cmd.SysProcAttr = processAttributes(true)
	cmd.WaitDelay = time.Second
	cmd.Run() // its exit status says nothing: QEMU's own has it
	b, err := os.ReadFile(status)
	return err == nil && len(b) == 1 && b[0] == 42
}

// probeProgram is an ELF file with one segment: mov edi,42; mov eax,231 (exit_group); syscall.
func probeProgram() []byte {
	const base, headers = 0x400000, 64 + 56
	code := []byte{0xbf, 42, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05}
	le := binary.LittleEndian
	f := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	f = le.AppendUint32(f, 62<<16|2) // EM_X86_64, ET_EXEC
	f = le.AppendUint32(f, 1)
	for _, v := range []uint64{base + headers, 64, 0} { // entry, program headers, section headers
		f = le.AppendUint64(f, v)
	}
	for _, v := range []uint16{0, 0, 64, 56, 1, 0, 0, 0} { // flags, sizes and counts
		f = le.AppendUint16(f, v)
	}
	f = le.AppendUint64(f, 5<<32|1) // PT_LOAD, read and execute
	size := uint64(headers + len(code))
	for _, v := range []uint64{0, base, base, size, size, 4096} {
		f = le.AppendUint64(f, v)
	}
	return append(f, code...)
}

// CacheDir returns the directory for what can be made again, and makes it.
func CacheDir() (string, error) {
	dir := os.Getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(dir) {
		home := os.Getenv("HOME")
		if !filepath.IsAbs(home) {
			return "", errors.New("neither HOME nor XDG_CACHE_HOME names a directory")
		}
		dir = filepath.Join(home, ".cache")
	}
	dir = filepath.Join(dir, "elver")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	// What others can write to isn't believed.
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Getuid() || !info.IsDir() {
		return "", fmt.Errorf("%s belongs to somebody else", dir)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return dir, os.Chmod(dir, 0o700)
	}
	return dir, nil
}

// TempDir makes a directory whose path QEMU takes everywhere: without commas and blanks.
func TempDir() (string, error) {
	base := os.TempDir()
	if strings.ContainsAny(base, ", \t\n") || !filepath.IsAbs(base) {
		base = "/tmp"
	}
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		return "", fmt.Errorf("there is no directory %s for temporary files (TMPDIR)", base)
	}
	return os.MkdirTemp(base, "elver-")
}
