// Package vdso is the shared object that the kernel maps into every program (vdso(7)): functions that
// tell the time without a system call, and the page of data that they read.
//
// The image is made at run time by an assembler of a few dozen instructions. The data page lies one page
// below the image; writers of it are serialised by the caller, and readers, which are programs, see
// either all of an Update or nothing of it.
package vdso

import (
	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
)

// PageSize is the size of the image and of the data page, in bytes.
const PageSize = 4096

// Params say how the time follows from the TSC:
//
//	CLOCK_MONOTONIC = MonotonicNS + (TSC - params.TSC) * Mult >> Shift
//	CLOCK_REALTIME  = CLOCK_MONOTONIC + RealtimeOffsetNS
//
// The product has 128 bits; a kernel that computes the same way agrees to the nanosecond.
type Params struct {
	TSC              uint64
	Mult             uint64
	Shift            uint8 // below 64
	MonotonicNS      uint64
	RealtimeOffsetNS int64
	CPUs             int // that programs run on
}

// VDSO is the image and its data page, in a frame each, which it keeps for good.
type VDSO struct {
	code, data frame
}

// New makes a VDSO whose functions ask the kernel until the first Update. ENOMEM.
func New() (*VDSO, error) {
	code, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return nil, unix.ENOMEM
	}
	data, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		metal.Unref(code)
		return nil, unix.ENOMEM
	}
	copy(metal.View(code, PageSize), Image())
	metal.Zero(data, PageSize)
	return &VDSO{code: frame{"[vdso]", code, 1}, data: frame{"[vvar]", data, 2}}, nil
}

// Update makes programs compute the time by p from now on.
//
// Precondition: no other Update or Disable is running.
func (v *VDSO) Update(p Params) {
	page := metal.View(v.data.pa, PageSize)
	begin(page)
	storeUint64(page, dataTSC, p.TSC)
	storeUint64(page, dataMult, p.Mult)
	storeUint32(page, dataShift, uint32(p.Shift&63))
	storeUint32(page, dataCPUs, uint32(p.CPUs))
	for clock := range lastClock + 1 {
		ns := p.MonotonicNS
		if clock == unix.CLOCK_REALTIME || clock == unix.CLOCK_REALTIME_COARSE {
			ns += uint64(p.RealtimeOffsetNS)
		}
		storeUint64(page, dataBase+8*clock, ns)
	}
	storeUint32(page, dataClocks, clockMask)
	end(page)
}

// Map maps data and image into as, where mmap finds room, and returns the address of the image's ELF
// header, which is AT_SYSINFO_EHDR. ENOMEM.
func (v *VDSO) Map(as *mm.AddressSpace) (ehdr uint64, err error) {
	base, err := as.Mmap(mm.MmapArgs{Length: 2 * PageSize, Prot: unix.PROT_NONE, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS})
	if err != nil {
		return 0, err
	}
	const flags = unix.MAP_PRIVATE | unix.MAP_FIXED
	ehdr = base + PageSize
	_, err = as.Mmap(mm.MmapArgs{Addr: base, Length: PageSize, Prot: unix.PROT_READ, Flags: flags, File: &v.data})
	if err == nil {
		_, err = as.Mmap(mm.MmapArgs{Addr: ehdr, Length: PageSize, Prot: unix.PROT_READ | unix.PROT_EXEC, Flags: flags, File: &v.code})
	}
	if err != nil {
		as.Munmap(base, 2*PageSize)
		return 0, err
	}
	return ehdr, nil
}

// frame is a mappable file of one page.
type frame struct {
	name string
	pa   uint64
	ino  uint64
}

func (f *frame) MapFrame(off uint64, write bool) (uint64, error) {
	if off != 0 || write {
		return 0, unix.EFAULT
	}
	metal.Ref(f.pa)
	return f.pa, nil
}

func (f *frame) MapName() string { return f.name }

// Ident returns numbers that no file system has: no device is 0:0xfff.
func (f *frame) Ident() (dev, ino uint64) { return unix.Mkdev(0, 0xfff), f.ino }
