//go:build !elver

package kvm

func mapRegisters(uint64, int) Registers {
	panic("platform: there are no device registers to map on the host")
}
