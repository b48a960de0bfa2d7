package runtime

// Functions of metal_amd64.s.

func metalRDTSC() uint64

// metalScale returns x*scale>>32, from a product of 128 bits.
func metalScale(x, scale uint64) uint64

//go:noescape
func metalCPUID(leaf, sub uint32, out *[4]uint32)

func metalReadMSR(msr uint32) uint64
func metalWriteMSR(msr uint32, v uint64)
func metalRDRAND() (v uint64, ok bool)
func metalRDSEED() (v uint64, ok bool)
func metalIn8(port uint16) uint8
func metalOut8(port uint16, v uint8)
func metalOut16(port uint16, v uint16)
func metalLoad32(va uintptr) uint32
func metalStore32(va uintptr, v uint32)
func metalMaskPICs()
func metalClear(va, n uintptr)
func metalLoadRoot(pa uintptr)
func metalReadCR2() uintptr
func metalInvalidate(va uintptr)
func metalLoadTables(gdt, gdtLimit, idt, idtLimit, tss uintptr)
func metalHalt()
func metalReset()
func metalSetPriority(class uint64)
func metalInterruptsOn()
func metalInterruptsOff()

//go:noescape
func metalSwitch(sp, oldG *uintptr, nextSP, nextG uintptr)

func metalStartPC() uintptr
func metalVectorsPC() uintptr
func metalFailurePC() uintptr
