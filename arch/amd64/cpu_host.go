//go:build !elver

package amd64

// The host's fake CPU has x87, SSE and AVX state and no-execute pages.

// ExtendedStateSize returns the size of an extended-state image, in bytes.
func ExtendedStateSize() int { return 832 }

// ExtendedFeatures returns XCR0, the components that an XSAVE image can have; 0 on a CPU that has
// FXSAVE alone.
func ExtendedFeatures() uint64 { return componentX87 | componentSSE | componentAVX }

func mxcsrMask() uint32 { return 0xffff }

// HasNX reports whether pages can be made not executable.
func HasNX() bool { return true }

// HWCap returns the value of AT_HWCAP: CPUID leaf 1, EDX.
func HWCap() uint64 { return 0x178bfbff }

// HWCap2 returns the value of AT_HWCAP2: bit 1 says that FSGSBASE is on.
func HWCap2() uint64 { return 2 }
