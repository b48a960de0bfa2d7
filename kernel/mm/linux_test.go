//go:build !elver

package mm

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests of this file do the same to an AddressSpace and to the test's own process, on the Linux
// that runs it, in a window of addresses that nothing else uses, and compare errno, the VMAs and what
// is in memory.

const (
	windowStart = 0x200000000000
	windowPages = 24
	windowEnd   = windowStart + windowPages*PageSize
)

func errnoOf(err error) unix.Errno {
	if err == nil {
		return 0
	}
	return err.(unix.Errno)
}

func rawMmap(a MmapArgs) (uint64, unix.Errno) {
	fd := -1
	r, _, e := unix.RawSyscall6(unix.SYS_MMAP, uintptr(a.Addr), uintptr(a.Length), uintptr(a.Prot), uintptr(a.Flags), uintptr(fd), uintptr(a.Offset))
	return uint64(r), e
}

func raw(call uintptr, args ...uint64) (uint64, unix.Errno) {
	var a [6]uintptr
	for i, v := range args {
		a[i] = uintptr(v)
	}
	r, _, e := unix.RawSyscall6(call, a[0], a[1], a[2], a[3], a[4], a[5])
	return uint64(r), e
}

// linuxMaps returns the lines of /proc/self/maps in the window, as mapLine writes them.
func linuxMaps(t *testing.T) []string {
	data, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		var start, end uint64
		var prot string
		fmt.Sscanf(s.Text(), "%x-%x %s", &start, &end, &prot)
		if start >= windowStart-windowPages*PageSize && end <= windowEnd+windowPages*PageSize {
			lines = append(lines, fmt.Sprintf("%x-%x %s", start-windowStart, end-windowStart, prot))
		}
	}
	return lines
}

func ourMaps(as *AddressSpace) []string {
	var lines []string
	as.Regions(func(r Region) bool {
		prot := []byte("---p")
		for i, c := range []byte("rwx") {
			if r.Prot&(1<<i) != 0 {
				prot[i] = c
			}
		}
		if r.Shared {
			prot[3] = 's'
		}
		lines = append(lines, fmt.Sprintf("%x-%x %s", r.Start-windowStart, r.End-windowStart, prot))
		return true
	})
	return lines
}

// merged joins neighbours that are alike: Linux doesn't always when both were written to.
func merged(lines []string) []string {
	var out []string
	for _, l := range lines {
		var s, e uint64
		var prot string
		fmt.Sscanf(l, "%x-%x %s", &s, &e, &prot)
		if n := len(out); n > 0 && strings.HasSuffix(prot, "p") {
			var ps, pe uint64
			var pp string
			fmt.Sscanf(out[n-1], "%x-%x %s", &ps, &pe, &pp)
			if pe == s && pp == prot {
				out[n-1] = fmt.Sprintf("%x-%x %s", ps, e, prot)
				continue
			}
		}
		out = append(out, l)
	}
	return out
}

func clearWindow() {
	raw(unix.SYS_MUNMAP, windowStart-windowPages*PageSize, 3*windowPages*PageSize)
}

// linuxCopy moves bytes between p and the window as a system call would.
func linuxCopy(call uintptr, p []byte, addr uint64) (int, unix.Errno) {
	local := unix.Iovec{Base: &p[0]}
	local.SetLen(len(p))
	remote := struct{ base, length uint64 }{addr, uint64(len(p))}
	r, _, e := unix.Syscall6(call, uintptr(unix.Getpid()), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), 0
}

func TestLinuxSame(t *testing.T) {
	// Which neighbours merge, and which of two mistakes is reported, changes with the version.
	var name unix.Utsname
	unix.Uname(&name)
	release := unix.ByteSliceToString(name.Release[:])
	if !strings.HasPrefix(release, "6.17.") && !strings.HasPrefix(release, "6.18.") {
		t.Skipf("mm was compared with Linux 6.18, this is %s", release)
	}
	for _, touch := range []bool{false, true} {
		t.Run(fmt.Sprint("touch=", touch), func(t *testing.T) {
			for seed := range int64(20) {
				if !sameAsLinux(t, seed, touch) {
					return
				}
			}
		})
	}
}

func sameAsLinux(t *testing.T, seed int64, touch bool) bool {
	rnd := rand.New(rand.NewSource(seed))
	before := counts()
	as := newSpace(t)
	defer clearWindow()
	var log []string
	page := func() uint64 { return windowStart + uint64(rnd.Intn(windowPages))*PageSize }
	length := func() uint64 {
		if rnd.Intn(20) == 0 {
			return uint64(rnd.Intn(3)) * 1000
		}
		return uint64(1+rnd.Intn(6)) * PageSize
	}
	prots := []int{0, unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ | unix.PROT_EXEC, unix.PROT_WRITE}
	if touch {
		prots = prots[:5] // process_vm_readv doesn't read what is mapped to be written only
	}
	prot := func() int { return prots[rnd.Intn(len(prots))] }
	for step := range 120 {
		var ours, linux uint64
		var err error
		var errno unix.Errno
		var what string
		switch op := rnd.Intn(10); op {
		case 0, 1, 2:
			a := MmapArgs{Addr: page(), Length: length(), Prot: prot(), Flags: unix.MAP_ANONYMOUS | unix.MAP_PRIVATE | unix.MAP_FIXED}
			switch rnd.Intn(8) {
			case 0:
				a.Flags ^= unix.MAP_PRIVATE | unix.MAP_SHARED
			case 1:
				a.Flags |= unix.MAP_NORESERVE
			case 2:
				a.Flags ^= unix.MAP_FIXED | unix.MAP_FIXED_NOREPLACE
			case 3:
				a.Addr++
			}
			what = fmt.Sprintf("mmap(%#x, %#x, %d, %#x)", a.Addr-windowStart, a.Length, a.Prot, a.Flags)
			ours, err = as.Mmap(a)
			linux, errno = rawMmap(a)
		case 3:
			addr, n := page(), length()
			what = fmt.Sprintf("munmap(%#x, %#x)", addr-windowStart, n)
			err = as.Munmap(addr, n)
			_, errno = raw(unix.SYS_MUNMAP, addr, n)
		case 4, 5, 6:
			addr, n, p := page(), length(), prot()
			what = fmt.Sprintf("mprotect(%#x, %#x, %d)", addr-windowStart, n, p)
			err = as.Mprotect(addr, n, p)
			_, errno = raw(unix.SYS_MPROTECT, addr, n, uint64(p))
		case 7:
			advices := []int{unix.MADV_DONTNEED, unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_RANDOM, unix.MADV_NORMAL, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK, unix.MADV_REMOVE}
			addr, n, adv := page(), length(), advices[rnd.Intn(len(advices))]
			what = fmt.Sprintf("madvise(%#x, %#x, %d)", addr-windowStart, n, adv)
			err = as.Madvise(addr, n, adv)
			_, errno = raw(unix.SYS_MADVISE, addr, n, uint64(adv))
		case 8:
			old, oldLen, newLen := page(), length(), length()
			flags, to := 0, uint64(0)
			if rnd.Intn(2) == 0 {
				flags, to = unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, page()
				if oldLen == newLen && rnd.Intn(3) == 0 {
					flags |= unix.MREMAP_DONTUNMAP
				}
			}
			if v := as.vmas.first(old); v != nil && v.start <= old && old+oldLen > v.end {
				continue // Linux 6.17 made several VMAs in one call possible, in part
			}
			what = fmt.Sprintf("mremap(%#x, %#x, %#x, %d, %#x)", old-windowStart, oldLen, newLen, flags, to-windowStart)
			ours, err = as.Mremap(old, oldLen, newLen, flags, to)
			linux, errno = raw(unix.SYS_MREMAP, old, oldLen, newLen, uint64(flags), to)
		case 9:
			if !touch {
				continue
			}
			addr := page() + uint64(rnd.Intn(PageSize))
			data := bytes.Repeat([]byte{byte(step + 1)}, 1+rnd.Intn(2*PageSize))
			what = fmt.Sprintf("write(%#x, %#x)", addr-windowStart, len(data))
			n, _ := as.CopyOut(addr, data)
			m, _ := linuxCopy(unix.SYS_PROCESS_VM_WRITEV, data, addr)
			if m != n && m != 0 {
				t.Logf("Linux wrote %d bytes, we %d", m, n)
			}
			if m < n {
				// Linux counts whole segments in some versions: write what we wrote.
				linuxCopy(unix.SYS_PROCESS_VM_WRITEV, data[:n], addr)
			}
		}
		log = append(log, what)
		if errnoOf(err) != errno || errno == 0 && ours != linux {
			t.Errorf("seed %d: %s\nwe: %#x %v, Linux: %#x %v", seed, strings.Join(log[max(0, len(log)-4):], "\n"), ours, err, linux, errno)
			return false
		}
		if n := promised(as); n != Committed() {
			t.Errorf("seed %d: %s\n%d bytes are committed, the VMAs have %d", seed, strings.Join(log[max(0, len(log)-4):], "\n"), Committed(), n)
			return false
		}
		a, b := ourMaps(as), linuxMaps(t)
		if touch {
			a, b = merged(a), merged(b)
		}
		if !slices.Equal(a, b) {
			t.Errorf("seed %d: %s\nwe:\n%s\nLinux:\n%s", seed, strings.Join(log[max(0, len(log)-4):], "\n"), strings.Join(a, "\n"), strings.Join(b, "\n"))
			return false
		}
		if touch && step%10 == 9 {
			for addr := uint64(windowStart); addr < windowEnd; addr += PageSize {
				var x, y [PageSize]byte
				n, _ := as.CopyIn(x[:], addr)
				m, _ := linuxCopy(unix.SYS_PROCESS_VM_READV, y[:], addr)
				if n != m || x != y {
					t.Errorf("seed %d: %s\nat %#x we read %d bytes, Linux %d; %x %x", seed, strings.Join(log[max(0, len(log)-4):], "\n"), addr-windowStart, n, m, x[:8], y[:8])
					return false
				}
			}
		}
	}
	as.Release()
	checkCounts(t, before)
	return true
}
