package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/bpf"
)

// seccomp(2)
func sysSeccomp(t *kernel.Thread, a *args) (uint64, error) {
	flags, addr := a.uint(1), a.arg(2)
	switch a.uint(0) {
	case unix.SECCOMP_SET_MODE_STRICT:
		if flags != 0 || addr != 0 {
			return 0, unix.EINVAL
		}
		return 0, t.SetSeccompStrict()
	case unix.SECCOMP_SET_MODE_FILTER:
		return seccompFilter(t, flags, addr)
	case unix.SECCOMP_GET_ACTION_AVAIL:
		if flags != 0 {
			return 0, unix.EINVAL
		}
		action, err := t.MM().ReadUint32(addr)
		if err != nil {
			return 0, err
		}
		switch action {
		case unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD, unix.SECCOMP_RET_TRAP, unix.SECCOMP_RET_ERRNO,
			unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_ALLOW:
			return 0, nil
		}
		return 0, unix.EOPNOTSUPP
	}
	return 0, unix.EINVAL // SECCOMP_GET_NOTIF_SIZES too: nobody can be notified
}

// seccompFilter is SECCOMP_SET_MODE_FILTER, with a struct sock_fprog at addr.
func seccompFilter(t *kernel.Thread, flags uint32, addr uint64) (uint64, error) {
	if flags&^kernel.SeccompFlags != 0 {
		return 0, unix.EINVAL
	}
	b := localOf(t).bytes[:16]
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	n, at := int(halfword(b, 0)&0xffff), word(b, 8)
	if n == 0 || n > bpf.MaxInstructions {
		return 0, unix.EINVAL
	}
	if !t.NoNewPrivs() && !t.Creds().HasCap(unix.CAP_SYS_ADMIN) {
		return 0, unix.EACCES
	}
	code := make([]byte, n*bpf.InstructionSize)
	if err := copyIn(t, code, at); err != nil {
		return 0, err
	}
	tid, err := t.AddSeccompFilter(bpf.Decode(code), flags)
	return uint64(tid), err
}
