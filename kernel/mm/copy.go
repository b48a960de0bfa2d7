package mm

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// The copy functions are the kernel's way to user memory. Each checks that the range is the
// program's, copies up to a fault, resolves it, which may park, and goes on. EFAULT is the only error
// unless said otherwise; with it comes how many bytes were done. No lock of inodes, page cache or
// address spaces may be held.

// userRange reports whether the n bytes at addr are all the program's (Linux's access_ok).
func userRange(addr, n uint64) bool { return addr <= UserEnd && n <= UserEnd-addr }

// pieceBytes is how much is copied before others may run.
const pieceBytes = 1 << 20

// resume resolves the fault that stopped a copy at addr, or returns EFAULT.
func (as *AddressSpace) resume(addr uint64, access Access) error {
	err := as.Fault(addr, access)
	if err == nil {
		return nil
	}
	if err == unix.ENOMEM {
		as.noRoom.Store(true)
	}
	return unix.EFAULT
}

// CopyIn copies from user memory at addr to dst.
func (as *AddressSpace) CopyIn(dst []byte, addr uint64) (int, error) {
	if !userRange(addr, uint64(len(dst))) {
		return 0, unix.EFAULT
	}
	done := 0
	if len(dst) <= pieceBytes { // the short way, which most copies go to their end
		if done = amd64.CopyInFrom(as.table.Root(), dst, addr); done == len(dst) {
			return done, nil
		}
	}
	for done < len(dst) {
		piece := dst[done:min(len(dst), done+pieceBytes)]
		n := amd64.CopyInFrom(as.table.Root(), piece, addr+uint64(done))
		done += n
		if n < len(piece) {
			if err := as.resume(addr+uint64(done), AccessRead); err != nil {
				return done, err
			}
		} else if done < len(dst) {
			metal.CondResched()
		}
	}
	return done, nil
}

// CopyOut copies src to user memory at addr.
func (as *AddressSpace) CopyOut(addr uint64, src []byte) (int, error) {
	if !userRange(addr, uint64(len(src))) {
		return 0, unix.EFAULT
	}
	done := 0
	if len(src) <= pieceBytes {
		if done = amd64.CopyOutTo(as.table.Root(), addr, src); done == len(src) {
			return done, nil
		}
	}
	for done < len(src) {
		piece := src[done:min(len(src), done+pieceBytes)]
		n := amd64.CopyOutTo(as.table.Root(), addr+uint64(done), piece)
		done += n
		if n < len(piece) {
			if err := as.resume(addr+uint64(done), AccessWrite); err != nil {
				return done, err
			}
		} else if done < len(src) {
			metal.CondResched()
		}
	}
	return done, nil
}

// ZeroOut clears n bytes of user memory at addr.
func (as *AddressSpace) ZeroOut(addr, n uint64) (uint64, error) {
	if !userRange(addr, n) {
		return 0, unix.EFAULT
	}
	done := uint64(0)
	for done < n {
		piece := min(n-done, pieceBytes)
		k := uint64(amd64.ZeroOutTo(as.table.Root(), addr+done, int(piece)))
		done += k
		if k < piece {
			if err := as.resume(addr+done, AccessWrite); err != nil {
				return done, err
			}
		} else if done < n {
			metal.CondResched()
		}
	}
	return done, nil
}

// CopyInString reads a string that ends with a zero byte, which is not returned. ENAMETOOLONG if the
// first max bytes hold none.
func (as *AddressSpace) CopyInString(addr uint64, max int) (string, error) {
	var buffer [256]byte
	var long []byte
	for done := 0; done < max; {
		if addr >= UserEnd {
			return "", unix.EFAULT
		}
		// Not beyond the page: what follows the string may not be mapped.
		n := min(len(buffer), max-done, int(PageSize-addr&pageMask))
		piece := buffer[:n]
		if _, err := as.CopyIn(piece, addr); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(piece, 0); i >= 0 {
			if long == nil {
				return string(piece[:i]), nil
			}
			return string(append(long, piece[:i]...)), nil
		}
		long = append(long, piece...)
		done += n
		addr += uint64(n)
	}
	return "", unix.ENAMETOOLONG
}

// ReadUint32 reads a word at addr, in one access if it is aligned.
func (as *AddressSpace) ReadUint32(addr uint64) (uint32, error) {
	if !userRange(addr, 4) {
		return 0, unix.EFAULT
	}
	for {
		if addr&3 == 0 {
			if v, ok := amd64.LoadUser32From(as.table.Root(), addr); ok {
				return v, nil
			}
		} else {
			var word [4]byte
			_, err := as.CopyIn(word[:], addr)
			return binary.LittleEndian.Uint32(word[:]), err
		}
		if err := as.resume(addr, AccessRead); err != nil {
			return 0, err
		}
	}
}

// WriteUint32 writes a word at addr, in one access if it is aligned.
func (as *AddressSpace) WriteUint32(addr uint64, v uint32) error {
	if !userRange(addr, 4) {
		return unix.EFAULT
	}
	if addr&3 != 0 {
		var word [4]byte
		binary.LittleEndian.PutUint32(word[:], v)
		_, err := as.CopyOut(addr, word[:])
		return err
	}
	for !amd64.StoreUser32To(as.table.Root(), addr, v) {
		if err := as.resume(addr, AccessWrite); err != nil {
			return err
		}
	}
	return nil
}

// ReadUint64 reads eight bytes at addr.
func (as *AddressSpace) ReadUint64(addr uint64) (uint64, error) {
	if userRange(addr, 8) {
		if v, ok := amd64.LoadUser64From(as.table.Root(), addr); ok {
			return v, nil
		}
	}
	var word [8]byte
	_, err := as.CopyIn(word[:], addr)
	return binary.LittleEndian.Uint64(word[:]), err
}

// WriteUint64 writes eight bytes at addr.
func (as *AddressSpace) WriteUint64(addr uint64, v uint64) error {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], v)
	_, err := as.CopyOut(addr, word[:])
	return err
}

// CompareAndSwap32 stores new at addr if old is there, in one step, and returns what was there. EINVAL
// if addr isn't aligned.
func (as *AddressSpace) CompareAndSwap32(addr uint64, old, new uint32) (uint32, error) {
	if addr&3 != 0 {
		return 0, unix.EINVAL
	}
	if !userRange(addr, 4) {
		return 0, unix.EFAULT
	}
	for {
		if prev, ok := amd64.CompareAndSwapUser32In(as.table.Root(), addr, old, new); ok {
			return prev, nil
		}
		if err := as.resume(addr, AccessWrite); err != nil {
			return 0, err
		}
	}
}

// ForcedCopyIn reads memory of any program, whatever its protection: for ptrace and /proc/PID/mem.
func (as *AddressSpace) ForcedCopyIn(dst []byte, addr uint64) (int, error) {
	return as.forced(addr, len(dst), AccessRead, func(done int, page []byte) { copy(dst[done:], page) })
}

// ForcedCopyOut writes memory of any program, whatever its protection, except that shared memory must
// be writable: for the loader and ptrace. A private page is copied first, so that no file changes.
func (as *AddressSpace) ForcedCopyOut(addr uint64, src []byte) (int, error) {
	return as.forced(addr, len(src), AccessWrite, func(done int, page []byte) { copy(page, src[done:]) })
}

// forced calls do with the pieces of the n bytes at addr, as they stand in the direct map.
func (as *AddressSpace) forced(addr uint64, n int, access Access, do func(done int, page []byte)) (int, error) {
	if !userRange(addr, uint64(n)) {
		return 0, unix.EFAULT
	}
	for done := 0; done < n; {
		at := addr + uint64(done)
		pa, err := as.pin(at&^pageMask, access)
		if err != nil {
			if err == unix.ENOMEM {
				as.noRoom.Store(true)
			}
			return done, unix.EFAULT
		}
		in := at & pageMask
		k := min(n-done, int(PageSize-in))
		do(done, metal.View(pa+in, k))
		metal.Unref(pa)
		done += k
		metal.CondResched()
	}
	return n, nil
}

// pin returns the frame of page with a reference, having faulted it in for access in spite of its
// protection.
func (as *AddressSpace) pin(page uint64, access Access) (uint64, error) {
	write := access == AccessWrite
	for {
		as.lock()
		pa, err := as.tryPin(page, write)
		as.unlock()
		if pa != 0 || err != nil {
			return pa, err
		}
	}
}

// tryPin is one step of pin, beneath the lock. 0 without an error: look again.
func (as *AddressSpace) tryPin(page uint64, write bool) (uint64, error) {
	v := as.reach(page)
	switch {
	case v == nil,
		write && v.flags&vmMayWrite == 0,
		write && v.flags&vmMayShare != 0 && v.flags&vmWrite == 0,
		!write && v.flags&vmMayRead == 0:
		return 0, unix.EFAULT
	}
	entry := as.table.Lookup(page)
	private := v.flags&vmMayShare == 0
	mapped := entry != nil && *entry != 0
	if mapped && write && private && *entry&amd64.EntryWritable == 0 {
		bits := entryBits(v.flags)
		if v.flags&vmWrite != 0 {
			bits |= writable
		}
		if err := as.ownCopy(v, entry, page, bits); err != nil {
			return 0, err
		}
	}
	if mapped && (private || !write || *entry&amd64.EntryWritable != 0) {
		pa := entry.Frame()
		metal.Ref(pa)
		return pa, nil
	}
	write = write && v.flags&vmWrite != 0
	err := as.resolve(v, page, write)
	if err == errAskFile {
		err = as.fetch(v, page, write)
	}
	return 0, err
}
