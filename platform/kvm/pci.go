package kvm

import (
	"fmt"
	"sync"
)

// Configuration mechanism #1 of PCI (PCI Local Bus 3.0, 3.2.2.3.2): an address port and a data port.
const (
	pciAddress = 0xcf8
	pciData    = 0xcfc
	pciEnable  = 1 << 31
)

// Registers of the configuration space (PCI Local Bus 3.0, 6.1 and 6.2).
const (
	pciVendor        = 0x00
	pciCommand       = 0x04
	pciStatus        = 0x06
	pciClass         = 0x08
	pciHeaderType    = 0x0e
	pciBAR           = 0x10
	pciSecondaryBus  = 0x19 // of a bridge
	pciSubsystem     = 0x2c
	pciCapabilities  = 0x34
	pciInterruptLine = 0x3c
	pciInterruptPin  = 0x3d

	pciCommandMemory = 1 << 1
	pciCommandMaster = 1 << 2
	pciCommandNoINTx = 1 << 10
	pciStatusList    = 1 << 4 // there are capabilities
	pciMultiFunction = 1 << 7
	pciHeaderDevice  = 0
	pciHeaderBridge  = 1

	pciBARIO      = 1 << 0
	pciBAR64      = 2 << 1
	pciBARFlags   = 0xf
	pciBARs       = 6
	pciConfigSize = 256
	pciBuses      = 256
)

// Registers are the registers of a device that were mapped for a driver, by offset. Each access is one
// access of that width to the device; offsets are multiples of it and lie inside.
type Registers interface {
	Load8(off uint32) uint8
	Load16(off uint32) uint16
	Load32(off uint32) uint32
	Store8(off uint32, v uint8)
	Store16(off uint32, v uint16)
	Store32(off uint32, v uint32)
}

// Registers maps n bytes of device registers at the physical address pa. The mapping lasts.
func (m *Machine) Registers(pa uint64, n int) Registers { return mapRegisters(pa, n) }

// pci is the machine's PCI buses. Its lock is taken alone.
type pci struct {
	mu sync.Mutex // guards the address port
	io ports

	intxMu sync.Mutex // guards intx
	intx   map[uint8]*sharedLine
}

// PCIFunction is one function of a PCI device.
type PCIFunction struct {
	m                   *Machine
	pci                 *pci
	address             uint32 // as the address port takes it
	Vendor, Device      uint16
	SubVendor, SubModel uint16
	Class               uint32 // base class, subclass, programming interface
}

// String returns the function's place, as lspci prints it.
func (f *PCIFunction) String() string {
	return fmt.Sprintf("pci 0000:%02x:%02x.%d", f.address>>16&0xff, f.address>>11&31, f.address>>8&7)
}

// PCIFunctions lists the functions of all PCI devices that are no bridges: none if the machine has no
// PCI, or one that is reached by memory alone.
func (m *Machine) PCIFunctions() []*PCIFunction {
	p := &pci{io: m.hw, intx: make(map[uint8]*sharedLine)}
	m.hw.Out32(pciAddress, pciEnable)
	if m.hw.In32(pciAddress) != pciEnable {
		return nil
	}
	var found []*PCIFunction
	var seen [pciBuses]bool
	var scan func(bus uint32)
	scan = func(bus uint32) {
		if seen[bus] {
			return // a bridge that leads back: firmware never set it up
		}
		seen[bus] = true
		for slot := range uint32(32) {
			for function := range uint32(8) {
				f := &PCIFunction{m: m, pci: p, address: pciEnable | bus<<16 | slot<<11 | function<<8}
				id := f.Config32(pciVendor)
				if id&0xffff == 0xffff {
					if function == 0 {
						break
					}
					continue
				}
				header := f.Config8(pciHeaderType)
				switch header &^ pciMultiFunction {
				case pciHeaderDevice:
					sub := f.Config32(pciSubsystem)
					f.Vendor, f.Device = uint16(id), uint16(id>>16)
					f.SubVendor, f.SubModel = uint16(sub), uint16(sub>>16)
					f.Class = f.Config32(pciClass) >> 8
					found = append(found, f)
				case pciHeaderBridge:
					if next := f.Config8(pciSecondaryBus); next != 0 {
						scan(uint32(next))
					}
				}
				if function == 0 && header&pciMultiFunction == 0 {
					break
				}
			}
		}
	}
	scan(0)
	return found
}

// Config32 reads the aligned word of the configuration space at off.
func (f *PCIFunction) Config32(off uint8) uint32 {
	f.pci.mu.Lock()
	defer f.pci.mu.Unlock()
	f.pci.io.Out32(pciAddress, f.address|uint32(off&^3))
	return f.pci.io.In32(pciData)
}

// Config16 reads 16 bits.
func (f *PCIFunction) Config16(off uint8) uint16 { return uint16(f.Config32(off) >> (off & 2 * 8)) }

// Config8 reads a byte.
func (f *PCIFunction) Config8(off uint8) uint8 { return uint8(f.Config32(off) >> (off & 3 * 8)) }

// SetConfig32 writes the aligned word at off.
func (f *PCIFunction) SetConfig32(off uint8, v uint32) {
	f.pci.mu.Lock()
	defer f.pci.mu.Unlock()
	f.pci.io.Out32(pciAddress, f.address|uint32(off&^3))
	f.pci.io.Out32(pciData, v)
}

// SetConfig16 writes 16 bits, and no others: a status register would lose bits to its own value.
func (f *PCIFunction) SetConfig16(off uint8, v uint16) {
	f.pci.mu.Lock()
	defer f.pci.mu.Unlock()
	f.pci.io.Out32(pciAddress, f.address|uint32(off&^3))
	f.pci.io.Out16(pciData+uint16(off&2), v)
}

// PCICapability is an entry of a function's list of capabilities: its number and where it stands in
// the configuration space.
type PCICapability struct{ ID, At uint8 }

// Capabilities returns the list, of which a device may claim anything: entries lie inside the
// configuration space, and there are no more than fit there.
func (f *PCIFunction) Capabilities() []PCICapability {
	if f.Config16(pciStatus)&pciStatusList == 0 {
		return nil
	}
	var list []PCICapability
	at := f.Config8(pciCapabilities) &^ 3
	for at >= 0x40 && len(list) < (pciConfigSize-0x40)/4 {
		word := f.Config16(at)
		list = append(list, PCICapability{uint8(word), at})
		at = uint8(word>>8) &^ 3
	}
	return list
}

// BAR returns the memory that base address register i decodes.
func (f *PCIFunction) BAR(i int) (pa, size uint64, err error) {
	if i < 0 || i >= pciBARs {
		return 0, 0, fmt.Errorf("%v: there is no base address register %d", f, i)
	}
	at := uint8(pciBAR + 4*i)
	low := f.Config32(at)
	if low&pciBARIO != 0 {
		return 0, 0, fmt.Errorf("%v: base address register %d is of I/O ports, not of memory", f, i)
	}
	wide := low&pciBAR64 != 0 && i+1 < pciBARs
	pa = uint64(low &^ pciBARFlags)
	if wide {
		pa |= uint64(f.Config32(at+4)) << 32
	}
	if pa == 0 {
		return 0, 0, fmt.Errorf("%v: the firmware gave base address register %d no address", f, i)
	}
	// The bits that stay 0 tell the size (6.2.5.1). Nothing may decode the addresses that are there
	// meanwhile.
	command := f.Config16(pciCommand)
	f.SetConfig16(pciCommand, command&^pciCommandMemory)
	f.SetConfig32(at, ^uint32(0))
	mask := 0xffffffff<<32 | uint64(f.Config32(at)&^pciBARFlags)
	f.SetConfig32(at, low)
	if wide {
		f.SetConfig32(at+4, ^uint32(0))
		mask = mask&0xffffffff | uint64(f.Config32(at+4))<<32
		f.SetConfig32(at+4, uint32(pa>>32))
	}
	f.SetConfig16(pciCommand, command)
	size = -mask
	if size == 0 || size&(size-1) != 0 || pa+size < pa {
		return 0, 0, fmt.Errorf("%v: base address register %d claims a size of %#x bytes", f, i, size)
	}
	return pa, size, nil
}

// Window returns the physical address of n bytes at off in base address register i, if they are
// inside it.
func (f *PCIFunction) Window(i int, off, n uint64) (pa uint64, err error) {
	pa, size, err := f.BAR(i)
	if err != nil {
		return 0, err
	}
	if off > size || n > size-off {
		return 0, fmt.Errorf("%v: %d registers at %#x exceed base address register %d of %#x bytes", f, n, off, i, size)
	}
	return pa + off, nil
}

// Enable lets the function decode its memory and do DMA.
func (f *PCIFunction) Enable() {
	f.SetConfig16(pciCommand, f.Config16(pciCommand)|pciCommandMemory|pciCommandMaster)
}
