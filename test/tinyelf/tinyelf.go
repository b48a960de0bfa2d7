// Package tinyelf makes Linux x86-64 executables of a few hundred bytes without
// a compiler: for the demonstration on a machine that has none, and as the sound
// files that the tests of the loader break.
package tinyelf

import (
	"encoding/binary"
)

const (
	// Base is the address of the file's first byte in memory.
	Base = 0x400000
	// HeaderSize is the size of the ELF header and its one program header: the
	// code begins there.
	HeaderSize = 64 + 56
)

// Program returns an ET_EXEC file with one readable, writable and executable
// segment that holds the whole file and is entered at the first byte of code.
func Program(code []byte) []byte {
	le := binary.LittleEndian
	f := make([]byte, HeaderSize, HeaderSize+len(code))
	copy(f, "\x7fELF\x02\x01\x01")
	le.PutUint16(f[16:], 2)  // ET_EXEC
	le.PutUint16(f[18:], 62) // EM_X86_64
	le.PutUint32(f[20:], 1)  // EV_CURRENT
	le.PutUint64(f[24:], Base+HeaderSize)
	le.PutUint64(f[32:], 64) // program headers follow
	le.PutUint16(f[52:], 64)
	le.PutUint16(f[54:], 56)
	le.PutUint16(f[56:], 1)
	ph := f[64:]
	le.PutUint32(ph, 1)     // PT_LOAD
	le.PutUint32(ph[4:], 7) // RWX
	le.PutUint64(ph[16:], Base)
	le.PutUint64(ph[24:], Base)
	le.PutUint64(ph[32:], uint64(HeaderSize+len(code)))
	le.PutUint64(ph[40:], uint64(HeaderSize+len(code)))
	le.PutUint64(ph[48:], 4096)
	return append(f, code...)
}

// Hello returns a program that writes message to its standard output and exits
// with status.
func Hello(message string, status byte) []byte {
	le := binary.LittleEndian
	var code []byte
	code = append(code, 0xb8, 1, 0, 0, 0) // mov eax, write
	code = append(code, 0xbf, 1, 0, 0, 0) // mov edi, 1
	code = append(code, 0x48, 0x8d, 0x35) // lea rsi, [rip+19]: the message
	code = le.AppendUint32(code, 19)      //
	code = append(code, 0xba)             // mov edx, length
	code = le.AppendUint32(code, uint32(len(message)))
	code = append(code, 0x0f, 0x05)            // syscall
	code = append(code, 0xb8, 231, 0, 0, 0)    // mov eax, exit_group
	code = append(code, 0xbf, status, 0, 0, 0) // mov edi, status
	code = append(code, 0x0f, 0x05)            // syscall
	return Program(append(code, message...))
}
