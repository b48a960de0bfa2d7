package syscall

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/runtime/metal"
	"elver/vfs/procfs"
)

const machine = "x86_64"

// uname(2)
func sysUname(t *kernel.Thread, a *args) (uint64, error) {
	host, domain := t.Kernel().Hostname()
	release := procfs.OSRelease
	if t.Personality()&perUname26 != 0 {
		release = uname26(release)
	}
	var e encoder
	for _, s := range [...]string{procfs.OSType, host, release, procfs.OSVersion, machine, domain} {
		e.text(s, kernel.MaxHostname+1)
	}
	return 0, copyOut(t, a.arg(0), e.b)
}

// uname26 makes 2.6.60+x.y of a release "z.x.y", for programs that know no later one.
func uname26(release string) string {
	version, rest, _ := strings.Cut(release, "-")
	parts := strings.Split(version, ".")
	minor, _ := strconv.Atoi(parts[1])
	return fmt.Sprintf("2.6.%d-%s", 60+minor, rest)
}

// reboot(2). The machine is the program's: to restart is to end, as with QEMU's -no-reboot.
func sysReboot(t *kernel.Thread, a *args) (uint64, error) {
	if !t.Creds().HasCap(unix.CAP_SYS_BOOT) {
		return 0, unix.EPERM
	}
	if a.uint(0) != unix.LINUX_REBOOT_MAGIC1 {
		return 0, unix.EINVAL
	}
	switch a.uint(1) {
	case unix.LINUX_REBOOT_MAGIC2, 85072278, 369367448, 537993216: // MAGIC2A to MAGIC2C
	default:
		return 0, unix.EINVAL
	}
	switch a.uint(2) {
	case unix.LINUX_REBOOT_CMD_CAD_ON, unix.LINUX_REBOOT_CMD_CAD_OFF: // there is no keyboard
		return 0, nil
	case unix.LINUX_REBOOT_CMD_RESTART2:
		if _, err := t.MM().CopyInString(a.arg(3), 256); err != nil {
			return 0, unix.EFAULT
		}
	case unix.LINUX_REBOOT_CMD_RESTART, unix.LINUX_REBOOT_CMD_HALT, unix.LINUX_REBOOT_CMD_POWER_OFF:
	default:
		return 0, unix.EINVAL
	}
	t.Kernel().PowerOff()
	return 0, t.Block(kernel.Never) // until it is killed with the rest
}

// sethostname(2)
func sysSethostname(t *kernel.Thread, a *args) (uint64, error) {
	name, err := nameAt(t, a)
	if err != nil {
		return 0, err
	}
	t.Kernel().SetHostname(name)
	return 0, nil
}

// setdomainname(2)
func sysSetdomainname(t *kernel.Thread, a *args) (uint64, error) {
	name, err := nameAt(t, a)
	if err != nil {
		return 0, err
	}
	t.Kernel().SetDomainname(name)
	return 0, nil
}

func nameAt(t *kernel.Thread, a *args) (string, error) {
	if !t.Creds().HasCap(unix.CAP_SYS_ADMIN) {
		return "", unix.EPERM
	}
	if n := a.int(1); n < 0 || n > kernel.MaxHostname {
		return "", unix.EINVAL
	}
	b := make([]byte, a.int(1))
	err := copyIn(t, b, a.arg(0))
	return string(b), err
}

// sysinfo(2). Load averages are 0: nobody samples them.
func sysSysinfo(t *kernel.Thread, a *args) (uint64, error) {
	frames := metal.Frames()
	tasks, _ := t.Kernel().Counts()
	e := encoder{localOf(t).bytes[:0]}
	e.u64(uint64(kernel.Monotonic()+1e9-1) / 1e9)
	e.zero(3 * 8) // loads
	e.u64((frames.Total - frames.ByOwner[metal.OwnerBalloon]) * metal.FrameSize)
	e.u64(frames.Free * metal.FrameSize)
	e.zero(4 * 8) // shared, buffers, total and free swap
	e.u16(uint16(min(tasks, 1<<16-1)))
	e.zero(6 + 2*8) // padding, total and free high memory
	e.u32(1)        // unit: bytes
	e.zero(4)
	return 0, copyOut(t, a.arg(0), e.b)
}

// Flags of personality(2) that have an effect here. All are kept, as is the execution domain.
const (
	perUname26         = 0x0020000 // UNAME26
	perNoRandomize     = 0x0040000 // ADDR_NO_RANDOMIZE
	perReadImpliesExec = 0x0400000 // READ_IMPLIES_EXEC
	perStickyTimeouts  = 0x4000000 // STICKY_TIMEOUTS

	// perClearOnSetID is PER_CLEAR_ON_SETID: these two, MMAP_PAGE_ZERO and ADDR_COMPAT_LAYOUT, which a program that
	// gains privileges must not have been given.
	perClearOnSetID = perNoRandomize | perReadImpliesExec | 0x0100000 | 0x0200000
)

// personality(2): 0xffffffff only asks.
func sysPersonality(t *kernel.Thread, a *args) (uint64, error) {
	old := t.Personality()
	if p := a.uint(0); p != 0xffffffff {
		t.SetPersonality(p)
	}
	return uint64(old), nil
}
