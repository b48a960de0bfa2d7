package syscall

import (
	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel"
)

// arch_prctl(2)
func sysArchPrctl(t *kernel.Thread, a *args) (uint64, error) {
	switch addr := a.arg(1); a.arg(0) {
	case archSetFS:
		if addr >= amd64.UserEnd {
			return 0, unix.EPERM
		}
		t.Ctx.SetFSBase(addr)
		return 0, nil
	case archSetGS:
		if addr >= amd64.UserEnd {
			return 0, unix.EPERM
		}
		t.Ctx.SetGSBase(addr)
		return 0, nil
	case archGetFS:
		return 0, t.MM().WriteUint64(addr, t.Ctx.FSBase())
	case archGetGS:
		return 0, t.MM().WriteUint64(addr, t.Ctx.GSBase())
	case archGetCPUID:
		return 1, nil // CPUID never faults
	case archSetCPUID:
		return 0, unix.ENODEV
	}
	return 0, unix.EINVAL
}
