package kernel

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSetUIDDropsCapabilities(t *testing.T) {
	c := RootCredentials()
	n, err := c.SetUID(1000)
	if err != nil || n.RUID != 1000 || n.EUID != 1000 || n.SUID != 1000 || n.FSUID != 1000 {
		t.Fatalf("setuid(1000): %+v, %v", n, err)
	}
	if n.Permitted != 0 || n.Effective != 0 {
		t.Errorf("capabilities are left: %x, %x", n.Permitted, n.Effective)
	}
	if _, err := n.SetUID(0); err != unix.EPERM {
		t.Errorf("back to root: %v", err)
	}
	if c.RUID != 0 || c.Permitted != AllCaps {
		t.Error("the old credentials changed")
	}
	if _, err := n.SetUID(^uint32(0)); err != unix.EINVAL {
		t.Errorf("setuid(-1): %v", err)
	}
}

func TestSavedUID(t *testing.T) {
	c := RootCredentials()
	n, err := c.SetRESUID(1000, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n.Effective != 0 || n.Permitted != AllCaps {
		t.Errorf("euid 1000 with suid 0: effective %x, permitted %x", n.Effective, n.Permitted)
	}
	back, err := n.SetUID(0)
	if err != nil || back.EUID != 0 || back.RUID != 1000 || back.Effective != AllCaps {
		t.Errorf("setuid(0): %+v, %v", back, err)
	}
	if _, err := n.SetRESUID(7, unset, unset); err != unix.EPERM {
		t.Errorf("setresuid(7): %v", err)
	}
	if n, err := n.SetREUID(unset, 0); err != nil || n.SUID != 0 || n.EUID != 0 {
		t.Errorf("setreuid(-1, 0): %+v, %v", n, err)
	}
}

func TestKeepCaps(t *testing.T) {
	c := RootCredentials()
	c.SecureBits = SecureKeepCaps
	n, _ := c.SetUID(1000)
	if n.Permitted != AllCaps || n.Effective != 0 {
		t.Errorf("permitted %x, effective %x", n.Permitted, n.Effective)
	}
}

func TestSetCaps(t *testing.T) {
	c := RootCredentials()
	n, err := c.SetCaps(1<<unix.CAP_KILL, 1<<unix.CAP_KILL|1<<unix.CAP_CHOWN, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.SetCaps(1<<unix.CAP_SETUID, 1<<unix.CAP_SETUID, 0); err != unix.EPERM {
		t.Errorf("a capability that is not permitted: %v", err)
	}
	if _, err := n.SetCaps(1<<unix.CAP_CHOWN, 1<<unix.CAP_KILL, 0); err != unix.EPERM {
		t.Errorf("effective beyond permitted: %v", err)
	}
	if _, err := n.SetGroups([]uint32{3, 1}); err != unix.EPERM {
		t.Errorf("setgroups without CAP_SETGID: %v", err)
	}
	g, err := c.SetGroups([]uint32{3, 1})
	if err != nil || !g.InGroup(3) || !g.InGroup(0) || g.InGroup(2) {
		t.Errorf("groups %v, %v", g, err)
	}
}

func TestLimits(t *testing.T) {
	l := DefaultLimits(1000)
	if got, _ := l.Get(unix.RLIMIT_STACK); got != (unix.Rlimit{Cur: 8 << 20, Max: Infinity}) {
		t.Errorf("stack: %v", got)
	}
	user := &Credentials{}
	for _, c := range []struct {
		resource int
		to       unix.Rlimit
		creds    *Credentials
		want     error
	}{
		{16, unix.Rlimit{}, user, unix.EINVAL},
		{-1, unix.Rlimit{}, user, unix.EINVAL},
		{unix.RLIMIT_CORE, unix.Rlimit{Cur: 2, Max: 1}, user, unix.EINVAL},
		{unix.RLIMIT_NPROC, unix.Rlimit{Cur: 1, Max: 2000}, user, unix.EPERM},
		{unix.RLIMIT_NPROC, unix.Rlimit{Cur: 1, Max: 2000}, RootCredentials(), nil},
		{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 1, Max: Infinity}, RootCredentials(), unix.EPERM},
		{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 10, Max: 10}, user, nil},
	} {
		if err := l.Set(c.resource, c.to, c.creds); err != nil && err != c.want || err == nil && c.want != nil {
			t.Errorf("set %d to %v: %v, want %v", c.resource, c.to, err, c.want)
		}
	}
	f := l.Fork()
	f.Set(unix.RLIMIT_NOFILE, unix.Rlimit{}, user)
	if l.Soft(unix.RLIMIT_NOFILE) != 10 {
		t.Error("a copy's limit is the original's")
	}
}
