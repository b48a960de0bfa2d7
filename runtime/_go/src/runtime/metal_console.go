package runtime

import "unsafe"

// The emergency console and the end of the machine: what the runtime's own messages and a kernel
// failure need, with nothing beneath but ports.

// Ports: QEMU's isa-debugcon devices, which read as 0xe9, and isa-debug-exit.
const (
	metalPortSerial    = 0x3f8
	metalPortLog       = 0x4e9
	metalPortStatus    = 0x5e9
	metalPortDebugExit = 0xf4
	metalDebugconIs    = 0xe9
)

// metalFailed is the exit status that says that Elver, not the program, failed.
const metalFailed = 125

var metalConsole = struct {
	alive    uintptr
	logPort  bool
	powerOff [8]metalPortWrite // how to switch the machine off, from ACPI
}{alive: 1}

type metalPortWrite struct{ port, size, value uint32 }

//go:nosplit
func metalProbeConsole() { metalConsole.logPort = metalIn8(metalPortLog) == metalDebugconIs }

//go:nosplit
func metalPutByte(b byte) {
	if metalConsole.logPort {
		metalOut8(metalPortLog, b)
		return
	}
	for i := 0; i < 1<<16 && metalIn8(metalPortSerial+5)&0x20 == 0; i++ {
	}
	metalOut8(metalPortSerial, b)
}

//go:nosplit
func metalPrint(s string) {
	for i := 0; i < len(s); i++ {
		metalPutByte(*(*byte)(add(unsafe.Pointer(unsafe.StringData(s)), uintptr(i))))
	}
}

//go:nosplit
func metalPrintHex(v uintptr) {
	metalPutByte('0')
	metalPutByte('x')
	for shift := 60; shift >= 0; shift -= 4 {
		d := byte(v >> uint(shift) & 15)
		if d > 9 {
			d += 'a' - '9' - 1
		}
		metalPutByte('0' + d)
	}
}

// metalDie ends the machine with a sentence.
//
//go:nosplit
func metalDie(sentence string) {
	metalPrint(sentence)
	metalExit(metalFailed)
}

//go:nosplit
func metalFatal(sentence string, v uintptr) {
	metalPrintHex(v)
	metalPutByte(' ')
	metalDie(sentence)
}

// metalWrite1 serves the runtime's write, which prints its messages.
//
//go:nosplit
func metalWrite1(fd, p uintptr, n int32) int32 {
	for i := uintptr(0); i < uintptr(n); i++ {
		metalPutByte(*(*byte)(unsafe.Pointer(p + i)))
	}
	return n
}

// metalExit serves exit: the runtime leaves only when it failed.
//
//go:nosplit
func metalExit(code int32) {
	if metalIn8(metalPortStatus) == metalDebugconIs {
		metalOut8(metalPortStatus, metalFailed)
	}
	metalOut8(metalPortDebugExit, metalFailed)
	for i := uintptr(0); i < uintptr(len(metalConsole.powerOff)); i++ {
		w := (*metalPortWrite)(add(unsafe.Pointer(&metalConsole.powerOff), i*unsafe.Sizeof(metalPortWrite{})))
		switch w.size {
		case 1:
			metalOut8(uint16(w.port), uint8(w.value))
		case 2:
			metalOut16(uint16(w.port), uint16(w.value))
		}
	}
	metalReset()
}

// metal_SetPowerOff says which port writes switch the machine off.
//
//go:linkname metal_SetPowerOff elver/runtime/metal.setPowerOff
func metal_SetPowerOff(i int, port, size, value uint32) {
	metalConsole.powerOff[i] = metalPortWrite{port, size, value}
}

//go:linkname metal_Console elver/runtime/metal.Console
func metal_Console(p []byte) {
	for _, b := range p {
		metalPutByte(b)
	}
}
