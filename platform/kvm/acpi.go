package kvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// memory reads physical memory: n bytes at pa, or false if they aren't all there.
type memory func(pa uint64, n int) ([]byte, bool)

// Bounds on what firmware may claim; the largest tables seen in the field stay far below.
const (
	maxTableBytes = 4 << 20
	maxTables     = 256
	maxCPUs       = 4096
	maxIOAPICs    = 64
)

// acpi is what Elver takes from the ACPI tables (ACPI 6.5, chapter 5).
type acpi struct {
	fadt fadt
	madt madt

	softOff    softOff // the \_S5 package
	hasSoftOff bool
	ged        ged // the generic event device
	hasGED     bool
}

var (
	errNoRSDP = errors.New("platform: the firmware left no ACPI tables")
	le        = binary.LittleEndian
)

// readACPI reads the tables that the RSDP at rsdp leads to; 0 means that it is to be searched for.
// With an error, whatever could be read is in the result all the same.
func readACPI(mem memory, rsdp uint64) (acpi, error) {
	var a acpi
	root, err := findRSDP(mem, rsdp)
	if err != nil {
		return a, err
	}
	entries, err := root.tables(mem)
	if err != nil {
		return a, err
	}
	var definitions [][]byte // AML: the DSDT first, then the SSDTs
	seenFADT := false
	for _, pa := range entries {
		t, err := readTable(mem, pa)
		if err != nil {
			continue // a broken table that nobody needs must not keep the machine from starting
		}
		switch string(t[:4]) {
		case "FACP":
			if seenFADT {
				continue
			}
			seenFADT = true
			a.fadt = parseFADT(t)
			if dsdt, err := readTable(mem, a.fadt.dsdt); err == nil && string(dsdt[:4]) == "DSDT" {
				definitions = append([][]byte{dsdt}, definitions...)
			}
		case "APIC":
			a.madt = parseMADT(t)
		case "SSDT":
			definitions = append(definitions, t)
		}
	}
	for _, d := range definitions {
		aml := d[tableHeaderBytes:]
		if !a.hasSoftOff {
			a.softOff, a.hasSoftOff = findSoftOff(aml)
		}
		if a.fadt.hardwareReduced && !a.hasGED {
			a.ged, a.hasGED = findGED(aml)
		}
	}
	if !seenFADT {
		return a, errors.New("platform: the ACPI tables hold no FADT")
	}
	return a, nil
}

// rootPointer is the RSDP (ACPI 6.5, 5.2.5.3).
type rootPointer struct {
	rsdt, xsdt uint64 // xsdt is 0 before ACPI 2
}

const (
	rsdpSignature = "RSD PTR "
	rsdp1Bytes    = 20 // the structure of ACPI 1, which has its own checksum
	rsdp2Bytes    = 36
)

// findRSDP reads the RSDP at hint, else searches where firmware of PCs leaves it: on a 16-byte
// boundary in the first KiB of the extended BIOS data area or in the BIOS below 1 MiB (5.2.5.1).
func findRSDP(mem memory, hint uint64) (rootPointer, error) {
	if hint != 0 {
		if r, ok := parseRSDP(mem, hint); ok {
			return r, nil
		}
	}
	type span struct {
		from uint64
		size int
	}
	spans := []span{{0xf0000, 0x10000}, {0xe0000, 0x10000}} // SeaBIOS uses the upper half
	if word, ok := mem(0x40e, 2); ok {
		if ebda := uint64(le.Uint16(word)) << 4; ebda >= 0x400 {
			spans = append([]span{{ebda, 1024}}, spans...)
		}
	}
	signature := le.Uint64([]byte(rsdpSignature))
	for _, s := range spans {
		p, ok := mem(s.from, s.size)
		if !ok {
			continue
		}
		for at := 0; at+8 <= len(p); at += 16 {
			if le.Uint64(p[at:]) != signature {
				continue
			}
			if r, ok := parseRSDP(mem, s.from+uint64(at)); ok {
				return r, nil
			}
		}
	}
	return rootPointer{}, errNoRSDP
}

func parseRSDP(mem memory, pa uint64) (rootPointer, bool) {
	p, ok := mem(pa, rsdp1Bytes)
	if !ok || string(p[:8]) != rsdpSignature || sum(p) != 0 {
		return rootPointer{}, false
	}
	r := rootPointer{rsdt: uint64(le.Uint32(p[16:]))}
	if revision := p[15]; revision >= 2 {
		if p, ok = mem(pa, rsdp2Bytes); ok && sum(p) == 0 {
			r.xsdt = le.Uint64(p[24:])
		}
	}
	return r, true
}

// tables returns where the tables are: by the XSDT where there is a sound one, else by the RSDT.
func (r rootPointer) tables(mem memory) ([]uint64, error) {
	if r.xsdt != 0 {
		if t, err := readTable(mem, r.xsdt); err == nil && string(t[:4]) == "XSDT" {
			return pointers(t[tableHeaderBytes:], 8), nil
		}
	}
	t, err := readTable(mem, r.rsdt)
	if err != nil {
		return nil, err
	}
	if string(t[:4]) != "RSDT" {
		return nil, fmt.Errorf("platform: the ACPI root table at %#x calls itself %q, not RSDT", r.rsdt, t[:4])
	}
	return pointers(t[tableHeaderBytes:], 4), nil
}

func pointers(p []byte, size int) []uint64 {
	var out []uint64
	for ; len(p) >= size && len(out) < maxTables; p = p[size:] {
		pa := uint64(le.Uint32(p))
		if size == 8 {
			pa = le.Uint64(p)
		}
		if pa != 0 {
			out = append(out, pa)
		}
	}
	return out
}

// tableHeaderBytes is the size of the header that all system tables share (5.2.6): signature,
// length, revision, checksum, and who made it.
const tableHeaderBytes = 36

// readTable returns the table at pa, whole, header included, its checksum verified.
func readTable(mem memory, pa uint64) ([]byte, error) {
	h, ok := mem(pa, tableHeaderBytes)
	if !ok {
		return nil, fmt.Errorf("platform: an ACPI table is said to be at %#x, where no memory is", pa)
	}
	n := le.Uint32(h[4:])
	if n < tableHeaderBytes || n > maxTableBytes {
		return nil, fmt.Errorf("platform: the ACPI table at %#x claims a length of %d bytes", pa, n)
	}
	t, ok := mem(pa, int(n))
	if !ok {
		return nil, fmt.Errorf("platform: the ACPI table at %#x (%d bytes) exceeds memory", pa, n)
	}
	if sum(t) != 0 {
		return nil, fmt.Errorf("platform: the ACPI table %q at %#x has a wrong checksum", t[:4], pa)
	}
	return t, nil
}

// sum adds up the bytes of p. Tables are long and the start of the machine is short, so it adds
// eight at a time, in lanes of 16 bits that are emptied before they can overflow.
func sum(p []byte) uint8 {
	const (
		lanes = 0x00ff00ff00ff00ff
		words = 0xffff / (2 * 0xff) // of two bytes a lane each
	)
	var s uint64
	for len(p) >= 8 {
		chunk := p[:min(len(p)&^7, 8*words)]
		p = p[len(chunk):]
		var lane uint64
		for ; len(chunk) >= 8; chunk = chunk[8:] {
			w := le.Uint64(chunk)
			lane += w&lanes + w>>8&lanes
		}
		s += lane + lane>>16 + lane>>32 + lane>>48
	}
	for _, b := range p {
		s += uint64(b)
	}
	return uint8(s)
}

// register is a Generic Address Structure (5.2.3.2): where a register of the fixed hardware is.
type register struct {
	space uint8 // spaceMemory or spaceIO
	width uint8 // bits
	addr  uint64
}

const (
	spaceMemory = 0
	spaceIO     = 1
)

// present reports whether there is such a register and Elver can reach it.
func (r register) present() bool {
	switch r.space {
	case spaceMemory:
		return r.addr != 0
	case spaceIO:
		return r.addr != 0 && r.addr <= 0xffff
	}
	return false
}

// fadt is what matters of the Fixed ACPI Description Table (5.2.9).
type fadt struct {
	dsdt       uint64
	sci        uint16 // a GSI; an ISA interrupt number where the MADT overrides it
	smiCommand uint16 // port that takes acpiEnable; 0: the machine is in ACPI mode for ever
	acpiEnable uint8
	century    uint8 // the RTC's register for the century, or 0

	pm1aEvent, pm1bEvent     register
	pm1EventBytes            uint8
	pm1aControl, pm1bControl register
	timer                    register // counts at 3.579545 MHz
	timerWide                bool     // 32 bits, else 24

	reset      register
	resetValue uint8

	noPowerButton bool // no fixed power button, that is

	hardwareReduced bool
	sleepControl    register
}

// Bits of the FADT's fixed feature flags (table 5.10).
const (
	fadtPowerButton     = 1 << 4 // set: the button is a control method device
	fadtTimer32         = 1 << 8
	fadtReset           = 1 << 10
	fadtHardwareReduced = 1 << 20
)

// parseFADT reads t, which is of any version: what is beyond its length is absent.
func parseFADT(t []byte) fadt {
	r := fields(t)
	f := fadt{
		dsdt:          uint64(r.u32(40)),
		sci:           r.u16(46),
		smiCommand:    uint16(r.u32(48)),
		acpiEnable:    r.u8(52),
		pm1EventBytes: r.u8(88),
		century:       r.u8(108),
	}
	if x := r.u64(140); x != 0 {
		f.dsdt = x
	}
	flags := r.u32(112)
	f.noPowerButton = flags&fadtPowerButton != 0
	f.timerWide = flags&fadtTimer32 != 0
	f.hardwareReduced = flags&fadtHardwareReduced != 0
	if flags&fadtReset != 0 {
		f.reset, f.resetValue = r.register(116), r.u8(128)
	}
	if f.hardwareReduced {
		// Everything of the fixed hardware is to be ignored (5.2.9).
		f.sci, f.smiCommand = 0, 0
		f.sleepControl = r.register(244)
		return f
	}
	f.pm1aEvent = r.either(148, 56)
	f.pm1bEvent = r.either(160, 60)
	f.pm1aControl = r.either(172, 64)
	f.pm1bControl = r.either(184, 68)
	f.timer = r.either(208, 76)
	f.timer.width = 32
	return f
}

// fields reads little-endian fields at fixed offsets; those beyond the end are 0.
type fields []byte

func (f fields) u8(at int) uint8 {
	if at >= len(f) {
		return 0
	}
	return f[at]
}

func (f fields) u16(at int) uint16 { return uint16(f.u8(at)) | uint16(f.u8(at+1))<<8 }
func (f fields) u32(at int) uint32 { return uint32(f.u16(at)) | uint32(f.u16(at+2))<<16 }
func (f fields) u64(at int) uint64 { return uint64(f.u32(at)) | uint64(f.u32(at+4))<<32 }

func (f fields) register(at int) register {
	return register{space: f.u8(at), width: f.u8(at + 1), addr: f.u64(at + 4)}
}

// either returns the register described at wide, as ACPI 2 and later do, else the I/O port given at
// narrow.
func (f fields) either(wide, narrow int) register {
	if r := f.register(wide); r.present() {
		return r
	}
	return register{space: spaceIO, width: 16, addr: uint64(f.u32(narrow))}
}

// madt is what matters of the Multiple APIC Description Table (5.2.12).
type madt struct {
	cpus      int // enabled ones
	places    int // those, and ones that can be plugged in
	ioapics   []ioapicEntry
	overrides []override
}

type ioapicEntry struct {
	pa      uint64
	gsiBase uint32
}

// override says which global system interrupt an ISA interrupt really is (5.2.12.5).
type override struct {
	irq   uint8
	gsi   uint32
	flags uint16
}

// isaTrigger is how the line signals; where the override leaves it to the bus, as on ISA.
func (o override) isaTrigger() trigger {
	return trigger{level: o.flags>>2&3 == 3, low: o.flags&3 == 3}
}

// sciTrigger is the same for the system control interrupt, which is active low and level triggered
// unless it is said otherwise (FADT, SCI_INT).
func (o override) sciTrigger() trigger {
	return trigger{level: o.flags>>2&3 != 1, low: o.flags&3 != 1}
}

// Types of the MADT's entries.
const (
	madtLocalAPIC  = 0
	madtIOAPIC     = 1
	madtOverride   = 2
	madtLocalX2    = 9
	madtEnabled    = 1 << 0
	madtEntriesAt  = 44 // after the local APIC's address and the flags
	madtISABus     = 0
	madtShortEntry = 2
)

func parseMADT(t []byte) madt {
	var m madt
	for p := t[min(madtEntriesAt, len(t)):]; len(p) >= madtShortEntry; {
		n := int(p[1])
		if n < madtShortEntry || n > len(p) {
			break // what follows can't be told apart any more
		}
		e := fields(p[:n])
		p = p[n:]
		switch e[0] {
		case madtLocalAPIC:
			m.addCPU(e.u32(4))
		case madtLocalX2:
			m.addCPU(e.u32(8))
		case madtIOAPIC:
			if n >= 12 && len(m.ioapics) < maxIOAPICs {
				m.ioapics = append(m.ioapics, ioapicEntry{pa: uint64(e.u32(4)), gsiBase: e.u32(8)})
			}
		case madtOverride:
			if n >= 10 && e.u8(2) == madtISABus && len(m.overrides) < maxTables {
				m.overrides = append(m.overrides, override{irq: e.u8(3), gsi: e.u32(4), flags: e.u16(8)})
			}
		}
	}
	return m
}

// addCPU counts a CPU, which is one to be plugged in later unless its flags say that it is enabled.
func (m *madt) addCPU(flags uint32) {
	if m.places < maxCPUs {
		m.places++
		if flags&madtEnabled != 0 {
			m.cpus++
		}
	}
}

// softOff is what goes into the sleep type fields of the PM1 control registers to power off.
type softOff struct {
	typeA, typeB uint8
}

// AML encodings (ACPI 6.5, 20.2).
const (
	amlZero      = 0x00
	amlOne       = 0x01
	amlByte      = 0x0a
	amlWord      = 0x0b
	amlDword     = 0x0c
	amlQword     = 0x0e
	amlName      = 0x08
	amlPackage   = 0x12
	amlExtended  = 0x5b
	amlRegion    = 0x80 // after amlExtended
	amlRootChar  = '\\'
	amlInterrupt = 0x89 // a resource descriptor, not an opcode (6.4.3.6)
)

// findSoftOff finds Name (_S5, Package {typeA, typeB, …}). Nothing in it needs to be evaluated, so
// its bytes are searched for, instead of interpreting everything before them.
func findSoftOff(aml []byte) (softOff, bool) {
	name := []byte("_S5_")
	for from := 0; ; {
		i := bytes.Index(aml[from:], name)
		if i < 0 {
			return softOff{}, false
		}
		at := from + i
		from = at + len(name)
		before := aml[:at]
		before = bytes.TrimSuffix(before, []byte{amlRootChar})
		if len(before) == 0 || before[len(before)-1] != amlName {
			continue
		}
		if s, ok := parseSoftOff(aml[at+len(name):]); ok {
			return s, true
		}
	}
}

func parseSoftOff(p []byte) (softOff, bool) {
	if len(p) < 3 || p[0] != amlPackage {
		return softOff{}, false
	}
	// PkgLength (20.2.4): the lead byte's top two bits say how many bytes follow it.
	skip := 1 + 1 + int(p[1]>>6)
	if skip >= len(p) {
		return softOff{}, false
	}
	elements := p[skip]
	p = p[skip+1:]
	if elements < 1 {
		return softOff{}, false
	}
	a, n, ok := amlInteger(p)
	if !ok || a > 7 {
		return softOff{}, false // the sleep type field has three bits
	}
	s := softOff{typeA: uint8(a), typeB: uint8(a)}
	if elements > 1 {
		if b, _, ok := amlInteger(p[n:]); ok && b <= 7 {
			s.typeB = uint8(b)
		}
	}
	return s, true
}

// amlInteger reads a constant (20.2.3) and how many bytes it takes.
func amlInteger(p []byte) (v uint64, n int, ok bool) {
	if len(p) == 0 {
		return 0, 0, false
	}
	f := fields(p)
	switch p[0] {
	case amlZero:
		return 0, 1, true
	case amlOne:
		return 1, 1, true
	case amlByte:
		v, n = uint64(f.u8(1)), 2
	case amlWord:
		v, n = uint64(f.u16(1)), 3
	case amlDword:
		v, n = uint64(f.u32(1)), 5
	case amlQword:
		v, n = f.u64(1), 9
	default:
		return 0, 0, false
	}
	return v, n, len(p) >= n
}

// ged is the generic event device of a machine with reduced hardware (5.6.9): an interrupt, and for
// QEMU's a register of event bits that is cleared by reading it.
type ged struct {
	gsi      uint32
	trigger  trigger
	selector uint64 // physical address of the event bits
}

// gedPowerDown is QEMU's event bit of the power button (docs/specs/acpi_hw_reduced_hotplug.rst).
const gedPowerDown = 1 << 1

// findGED finds the device of hardware id ACPI0013 as QEMU's machines describe it: an extended
// interrupt descriptor in its _CRS, and an operation region of memory whose first word is the event
// selector. A device that looks different has a meaning that only its _EVT method knows.
func findGED(aml []byte) (ged, bool) {
	at := bytes.Index(aml, []byte("ACPI0013\x00"))
	if at < 0 {
		return ged{}, false
	}
	// All of the device is a few hundred bytes.
	device := aml[at : at+min(len(aml)-at, 1024)]
	g, ok := findInterrupt(device)
	if !ok {
		return ged{}, false
	}
	region := bytes.Index(device, []byte{amlExtended, amlRegion})
	if region < 0 {
		return ged{}, false
	}
	const nameBytes = 4
	p := device[region+2:]
	if len(p) < nameBytes+1 || p[nameBytes] != spaceMemory {
		return ged{}, false
	}
	g.selector, _, ok = amlInteger(p[nameBytes+1:])
	if !ok || g.selector == 0 {
		return ged{}, false
	}
	return g, true
}

// findInterrupt finds an extended interrupt descriptor of one interrupt (6.4.3.6).
func findInterrupt(p []byte) (ged, bool) {
	for i := 0; i+9 <= len(p); i++ {
		d := fields(p[i:])
		// Tag, length 6, flags (bit 0: consumer), one interrupt.
		if d[0] != amlInterrupt || d.u16(1) != 6 || d[3]&1 == 0 || d[4] != 1 {
			continue
		}
		return ged{gsi: d.u32(5), trigger: trigger{level: d[3]&2 == 0, low: d[3]&4 != 0}}, true
	}
	return ged{}, false
}
