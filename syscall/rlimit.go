package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// getrlimit(2)
func sysGetrlimit(t *kernel.Thread, a *args) (uint64, error) {
	l, err := t.Proc.Limits.Get(int(a.int(0)))
	if err != nil {
		return 0, err
	}
	return 0, writePair(t, a.arg(1), l.Cur, l.Max)
}

// setrlimit(2)
func sysSetrlimit(t *kernel.Thread, a *args) (uint64, error) {
	to, err := rlimitAt(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	return 0, t.Proc.Limits.Set(int(a.int(0)), to, t.Creds())
}

func rlimitAt(t *kernel.Thread, addr uint64) (unix.Rlimit, error) {
	pair, err := timespecAt(t, addr) // two longs as well
	return unix.Rlimit{Cur: uint64(pair.Sec), Max: uint64(pair.Nsec)}, err
}

// prlimit(2)
func sysPrlimit64(t *kernel.Thread, a *args) (uint64, error) {
	var to unix.Rlimit
	resource := int(a.int(1))
	if a.arg(2) != 0 {
		var err error
		if to, err = rlimitAt(t, a.arg(2)); err != nil {
			return 0, err
		}
	}
	p := t.Proc
	if pid := a.int(0); pid != 0 {
		o := t.Kernel().Thread(pid)
		if o == nil {
			return 0, unix.ESRCH
		}
		if p = o.Proc; p != t.Proc && !sameUser(t, o) {
			return 0, unix.EPERM
		}
	}
	old, err := p.Limits.Get(resource)
	if err != nil {
		return 0, err
	}
	if a.arg(2) != 0 {
		if err := p.Limits.Set(resource, to, t.Creds()); err != nil {
			return 0, err
		}
	}
	if a.arg(3) != 0 {
		return 0, writePair(t, a.arg(3), old.Cur, old.Max)
	}
	return 0, nil
}

// sameUser says whether t may change o's limits (prlimit(2)).
func sameUser(t, o *kernel.Thread) bool {
	c, of := t.Creds(), o.Creds()
	return c.HasCap(unix.CAP_SYS_RESOURCE) ||
		c.RUID == of.RUID && c.RUID == of.EUID && c.RUID == of.SUID && c.RGID == of.RGID && c.RGID == of.EGID && c.RGID == of.SGID
}
