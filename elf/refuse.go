package elf

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The exit statuses of a program that could not be started.
const (
	StatusFailed        = 125 // Elver is to blame, or the machine is too small
	StatusNotExecutable = 126
	StatusNotFound      = 127
)

// Error says why a program isn't started. Its text is a sentence that begins with the program's name.
type Error struct {
	Errno    unix.Errno // what execve(2) returns
	Status   int        // what the machine ends with when this was its program
	Sentence string
}

func (e *Error) Error() string { return e.Sentence }

func (e *Error) Unwrap() error { return e.Errno }

// refuse makes the Error of a file that cannot be executed.
func refuse(errno unix.Errno, format string, args ...any) error {
	return &Error{errno, StatusNotExecutable, fmt.Sprintf(format, args...)}
}

// failed makes the Error of an operation that failed with err through no fault of the file.
func failed(err error, format string, args ...any) error {
	errno := errnoOf(err)
	sentence := fmt.Sprintf(format, args...)
	if errno == unix.ENOMEM {
		return &Error{errno, StatusFailed, sentence + ": there is not enough memory: pass a larger -m"}
	}
	return &Error{errno, StatusFailed, fmt.Sprintf("%s: %v", sentence, err)}
}

// kinds are files that people try to execute, by how they begin.
var kinds = []struct{ prefix, name string }{
	{"\x1f\x8b", "a gzip file: uncompress it first"},
	{"\xfd7zXZ\x00", "an xz file: uncompress it first"},
	{"\x28\xb5\x2f\xfd", "a zstd file: uncompress it first"},
	{"BZh", "a bzip2 file: uncompress it first"},
	{"\x04\x22\x4d\x18", "an lz4 file: uncompress it first"},
	{"PK\x03\x04", "a zip archive"},
	{"MZ", "a Windows or DOS program"},
	{"\xfe\xed\xfa\xce", "a macOS program (Mach-O)"},
	{"\xce\xfa\xed\xfe", "a macOS program (Mach-O)"},
	{"\xfe\xed\xfa\xcf", "a macOS program (Mach-O)"},
	{"\xcf\xfa\xed\xfe", "a macOS program (Mach-O)"},
	{"\xca\xfe\xba\xbe", "a macOS universal binary or a Java class"},
	{"!<arch>\n", "an ar archive, perhaps a static library or a Debian package"},
	{"!<thin>\n", "an ar archive"},
	{"\x00asm", "a WebAssembly module"},
	{"070701", "a cpio archive"},
	{"070702", "a cpio archive"},
	{"070707", "a cpio archive"},
	{"BC\xc0\xde", "LLVM bitcode"},
	{"hsqs", "a squashfs image"},
}

// notELF refuses a file that begins with start, of size bytes, and isn't an ELF file.
func notELF(name string, start []byte, size int64, errno unix.Errno) error {
	what := ""
	switch {
	case size == 0:
		return refuse(errno, "%s: is empty, not an ELF executable", name)
	case bytes.HasPrefix([]byte(magic), start):
		what = fmt.Sprintf("a file of %d bytes that begins like ELF and ends before its header does", size)
	case len(start) > 262 && string(start[257:262]) == "ustar":
		what = "a tar archive"
	case allZero(start):
		return refuse(errno, "%s: is not an ELF executable: it begins with %d zero bytes", name, len(start))
	case isText(start):
		what = fmt.Sprintf("text that begins with %q, without a first line #! that names an interpreter", firstLine(start))
	}
	for _, k := range kinds {
		if bytes.HasPrefix(start, []byte(k.prefix)) {
			what = k.name
		}
	}
	if what == "" {
		return refuse(errno, "%s: is not an ELF executable: it begins with % x", name, start[:min(len(start), 8)])
	}
	return refuse(errno, "%s: is not an ELF executable: it is %s", name, what)
}

func allZero(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }

func isText(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != '\x1b' || c == 0x7f {
			return false
		}
	}
	return true
}

func firstLine(p []byte) []byte {
	line, _, _ := bytes.Cut(p, []byte("\n"))
	return line[:min(len(line), 30)]
}

// machines are names of e_machine that a Linux user may meet.
var machines = map[uint16]string{
	2: "32-bit SPARC", 3: "32-bit x86 (i386)", 4: "Motorola 68000", 8: "MIPS", 15: "PA-RISC", 20: "32-bit PowerPC",
	21: "64-bit PowerPC", 22: "S/390", 40: "32-bit ARM", 42: "SuperH", 43: "64-bit SPARC", 50: "Itanium",
	183: "64-bit ARM (aarch64)", 243: "RISC-V", 247: "BPF", 258: "LoongArch",
}

func machineName(machine uint16) string {
	if name, ok := machines[machine]; ok {
		return name
	}
	return fmt.Sprintf("machine number %d", machine)
}

// errnoOf returns the errno in err, EIO if there is none.
func errnoOf(err error) unix.Errno {
	errno := unix.EIO
	errors.As(err, &errno)
	return errno
}
