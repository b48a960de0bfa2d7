//go:build elver

package amd64

import (
	"unsafe"

	"elver/runtime/metal"
)

// Model-specific registers (Intel SDM vol. 4; AMD64 APM vol. 2, 6.1.1).
const (
	msrEFER         = 0xc0000080
	msrSTAR         = 0xc0000081
	msrLSTAR        = 0xc0000082
	msrCSTAR        = 0xc0000083
	msrSFMASK       = 0xc0000084
	msrFSBase       = 0xc0000100
	msrKernelGSBase = 0xc0000102
)

// Control register bits (Intel SDM vol. 3, 2.5).
const (
	cr0AM = 1 << 18

	cr4TSD      = 1 << 2
	cr4UMIP     = 1 << 11
	cr4FSGSBASE = 1 << 16
	cr4OSXSAVE  = 1 << 18
	cr4SMEP     = 1 << 20
	cr4SMAP     = 1 << 21
)

// What the CPU has, found by Init.
var (
	features     uint64 // XCR0
	extendedSize = sizeLegacy
	fsgsbase     bool
	nx           bool
	mxcsrValid   uint32 = 0xffbf
	hwcap        uint64
)

// Init prepares the CPU for user mode: the system call entry, the protections that it has, and its
// extended state. Until then OSXSAVE is off, so that no package finds AVX and the kernel leaves the
// program's upper vector halves alone.
func Init() {
	_, _, _, d := CPUID(0x80000001, 0)
	nx = d>>20&1 != 0
	maxLeaf, _, _, _ := CPUID(0, 0)
	_, _, c1, d1 := CPUID(1, 0)
	hwcap = uint64(d1)
	var b7, c7 uint32
	if maxLeaf >= 7 {
		_, b7, c7, _ = CPUID(7, 0)
	}
	cr4 := readCR4()
	if b7>>0&1 != 0 {
		fsgsbase = true
		cr4 |= cr4FSGSBASE
	}
	if b7>>7&1 != 0 {
		cr4 |= cr4SMEP
	}
	if b7>>20&1 != 0 {
		cr4 |= cr4SMAP
		*(*uint32)(unsafe.Add(metal.CPU(), 52)) = 1
	}
	if c7>>2&1 != 0 {
		cr4 |= cr4UMIP
	}
	if c1>>26&1 != 0 {
		cr4 |= cr4OSXSAVE
	}
	writeCR4(cr4)
	writeCR0(readCR0() | cr0AM)
	if c1>>26&1 != 0 {
		initXSAVE(c1)
	}
	initMXCSR()

	entry, entry32, trap := entryPoints()
	*(*uintptr)(unsafe.Add(metal.CPU(), 32)) = trap
	WriteMSR(msrSTAR, 0x10<<32|0x23<<48)
	WriteMSR(msrLSTAR, uint64(entry))
	WriteMSR(msrCSTAR, uint64(entry32))
	WriteMSR(msrSFMASK, FlagTrap|FlagInterrupt|FlagDirection|FlagAlign|3<<12|1<<14)
	WriteMSR(msrEFER, ReadMSR(msrEFER)|1)
}

// initXSAVE turns on the extended state that programs use: x87, SSE, AVX and AVX-512 (opmasks and
// both parts of the upper registers, which XCR0 takes only together).
func initXSAVE(c1 uint32) {
	lo, _, _, hi := CPUID(13, 0)
	offered := uint64(hi)<<32 | uint64(lo)
	const avx512 = 7 << 5
	features = componentX87 | componentSSE
	if c1>>28&1 != 0 && offered&componentAVX != 0 {
		features |= componentAVX
		if offered&avx512 == avx512 {
			features |= avx512
		}
	}
	writeXCR0(features)
	_, size, _, _ := CPUID(13, 0)
	extendedSize = int(size)
}

// initMXCSR finds the MXCSR bits that the CPU allows (Intel SDM vol. 1, 11.6.6).
func initMXCSR() {
	area := unsafe.Add(unsafe.Pointer(&fxsaveArea), -uintptr(unsafe.Pointer(&fxsaveArea))&15)
	fxsave((*byte)(area))
	if mask := *(*uint32)(unsafe.Add(area, 28)); mask != 0 {
		mxcsrValid = mask
	}
}

// ExtendedStateSize returns the size of an extended-state image, in bytes.
func ExtendedStateSize() int { return extendedSize }

// ExtendedFeatures returns XCR0, the components that an XSAVE image can have; 0 on a CPU that has
// FXSAVE alone.
func ExtendedFeatures() uint64 { return features }

func mxcsrMask() uint32 { return mxcsrValid }

// HasNX reports whether pages can be made not executable.
func HasNX() bool { return nx }

// HWCap returns the value of AT_HWCAP: CPUID leaf 1, EDX.
func HWCap() uint64 { return hwcap }

// HWCap2 returns the value of AT_HWCAP2: bit 1 says that FSGSBASE is on.
func HWCap2() uint64 {
	if fsgsbase {
		return 2
	}
	return 0
}

// LoadRoot makes the page table at pa the CPU's.
func LoadRoot(pa uint64)

// CurrentRoot returns the page table that is loaded.
func CurrentRoot() uint64

// KernelRoot returns the page table that maps the kernel alone.
func KernelRoot() uint64 { return metal.KernelRoot() }

// InvalidatePage drops the translation of va.
func InvalidatePage(va uint64)

// FlushTLB drops all translations but the kernel's global ones.
func FlushTLB() { LoadRoot(CurrentRoot()) }

// CPUID returns what the instruction of that name does for a leaf and sub-leaf.
func CPUID(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// ReadMSR reads a model-specific register.
func ReadMSR(msr uint32) uint64

// WriteMSR writes a model-specific register.
func WriteMSR(msr uint32, v uint64)

// In8 reads a byte from an I/O port.
func In8(port uint16) uint8

// In16 reads two bytes from an I/O port.
func In16(port uint16) uint16

// In32 reads four bytes from an I/O port.
func In32(port uint16) uint32

// Out8 writes a byte to an I/O port.
func Out8(port uint16, v uint8)

// Out16 writes two bytes to an I/O port.
func Out16(port uint16, v uint16)

// Out32 writes four bytes to an I/O port.
func Out32(port uint16, v uint32)

// LoadMMIO32 reads a device register.
func LoadMMIO32(va uint64) uint32

// StoreMMIO32 writes a device register.
func StoreMMIO32(va uint64, v uint32)

func readCR0() uint64
func writeCR0(v uint64)
func readCR4() uint64
func writeCR4(v uint64)
func writeXCR0(v uint64)
