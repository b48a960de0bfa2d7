package syscall

import (
	"slices"

	"golang.org/x/sys/unix"

	"elver/kernel"
)

// getuid(2)
func sysGetuid(t *kernel.Thread, a *args) (uint64, error) { return uint64(t.Creds().RUID), nil }

// geteuid(2)
func sysGeteuid(t *kernel.Thread, a *args) (uint64, error) { return uint64(t.Creds().EUID), nil }

// getgid(2)
func sysGetgid(t *kernel.Thread, a *args) (uint64, error) { return uint64(t.Creds().RGID), nil }

// getegid(2)
func sysGetegid(t *kernel.Thread, a *args) (uint64, error) { return uint64(t.Creds().EGID), nil }

// become gives the thread the credentials c, unless err.
func become(t *kernel.Thread, c *kernel.Credentials, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	t.SetCreds(c)
	filesOf(t) // reads and writes go on with the new ones
	return 0, nil
}

// setuid(2)
func sysSetuid(t *kernel.Thread, a *args) (uint64, error) {
	c, err := t.Creds().SetUID(a.uint(0))
	return become(t, c, err)
}

// setgid(2)
func sysSetgid(t *kernel.Thread, a *args) (uint64, error) {
	c, err := t.Creds().SetGID(a.uint(0))
	return become(t, c, err)
}

// setreuid(2)
func sysSetreuid(t *kernel.Thread, a *args) (uint64, error) {
	c, err := t.Creds().SetREUID(a.uint(0), a.uint(1))
	return become(t, c, err)
}

// setregid(2)
func sysSetregid(t *kernel.Thread, a *args) (uint64, error) {
	c, err := t.Creds().SetREGID(a.uint(0), a.uint(1))
	return become(t, c, err)
}

// setresuid(2)
func sysSetresuid(t *kernel.Thread, a *args) (uint64, error) {
	c, err := t.Creds().SetRESUID(a.uint(0), a.uint(1), a.uint(2))
	return become(t, c, err)
}

// setresgid(2)
func sysSetresgid(t *kernel.Thread, a *args) (uint64, error) {
	c, err := t.Creds().SetRESGID(a.uint(0), a.uint(1), a.uint(2))
	return become(t, c, err)
}

// getresuid(2)
func sysGetresuid(t *kernel.Thread, a *args) (uint64, error) {
	c := t.Creds()
	return writeIDs(t, a, c.RUID, c.EUID, c.SUID)
}

// getresgid(2)
func sysGetresgid(t *kernel.Thread, a *args) (uint64, error) {
	c := t.Creds()
	return writeIDs(t, a, c.RGID, c.EGID, c.SGID)
}

func writeIDs(t *kernel.Thread, a *args, ids ...uint32) (uint64, error) {
	for i, id := range ids {
		if err := t.MM().WriteUint32(a.arg(i), id); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// setfsuid(2) returns the former id, whether it changes it or not.
func sysSetfsuid(t *kernel.Thread, a *args) (uint64, error) {
	old := t.Creds()
	_, err := become(t, old.SetFSUID(a.uint(0)), nil)
	return uint64(old.FSUID), err
}

// setfsgid(2)
func sysSetfsgid(t *kernel.Thread, a *args) (uint64, error) {
	old := t.Creds()
	_, err := become(t, old.SetFSGID(a.uint(0)), nil)
	return uint64(old.FSGID), err
}

// getgroups(2)
func sysGetgroups(t *kernel.Thread, a *args) (uint64, error) {
	size, groups := a.int(0), t.Creds().Groups
	if size < 0 {
		return 0, unix.EINVAL
	}
	if size == 0 {
		return uint64(len(groups)), nil
	}
	if int(size) < len(groups) {
		return 0, unix.EINVAL
	}
	e := encoder{make([]byte, 0, 4*len(groups))}
	for _, g := range groups {
		e.u32(g)
	}
	return uint64(len(groups)), copyOut(t, a.arg(1), e.b)
}

// setgroups(2)
func sysSetgroups(t *kernel.Thread, a *args) (uint64, error) {
	if !t.Creds().HasCap(unix.CAP_SETGID) {
		return 0, unix.EPERM
	}
	if a.uint(0) > kernel.MaxGroups {
		return 0, unix.EINVAL
	}
	b := make([]byte, 4*a.uint(0))
	if err := copyIn(t, b, a.arg(1)); err != nil {
		return 0, err
	}
	groups := make([]uint32, a.uint(0))
	for i := range groups {
		groups[i] = halfword(b, 4*i)
	}
	slices.Sort(groups)
	c, err := t.Creds().SetGroups(groups)
	return become(t, c, err)
}

// capVersionAt reads the header of capget and capset, and returns how many words of capabilities its
// version has. An unknown version is answered with ours.
func capVersionAt(t *kernel.Thread, addr uint64) (words int, pid int32, err error) {
	version, err := t.MM().ReadUint32(addr)
	if err != nil {
		return 0, 0, err
	}
	id, err := t.MM().ReadUint32(addr + 4)
	if err != nil {
		return 0, 0, err
	}
	switch version {
	case unix.LINUX_CAPABILITY_VERSION_1:
		return 1, int32(id), nil
	case unix.LINUX_CAPABILITY_VERSION_2, unix.LINUX_CAPABILITY_VERSION_3:
		return 2, int32(id), nil
	}
	if err := t.MM().WriteUint32(addr, unix.LINUX_CAPABILITY_VERSION_3); err != nil {
		return 0, 0, err
	}
	return 0, int32(id), unix.EINVAL
}

// capget(2)
func sysCapget(t *kernel.Thread, a *args) (uint64, error) {
	words, pid, err := capVersionAt(t, a.arg(0))
	if err == unix.EINVAL && words == 0 && a.arg(1) == 0 {
		return 0, nil // the program asked for the version
	}
	if err != nil {
		return 0, err
	}
	if pid < 0 {
		return 0, unix.EINVAL
	}
	of := t
	if pid != 0 {
		if of = t.Kernel().Thread(pid); of == nil {
			return 0, unix.ESRCH
		}
	}
	if a.arg(1) == 0 {
		return 0, nil
	}
	c := of.Creds()
	e := encoder{localOf(t).bytes[:0]}
	for i := range words {
		for _, set := range [...]kernel.CapSet{c.Effective, c.Permitted, c.Inheritable} {
			e.u32(uint32(set >> (32 * i)))
		}
	}
	return 0, copyOut(t, a.arg(1), e.b)
}

// capset(2)
func sysCapset(t *kernel.Thread, a *args) (uint64, error) {
	words, pid, err := capVersionAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	if pid != 0 && pid != t.TID {
		return 0, unix.EPERM
	}
	b := localOf(t).bytes[:12*words]
	if err := copyIn(t, b, a.arg(1)); err != nil {
		return 0, err
	}
	var sets [3]kernel.CapSet
	for i := range words {
		for j := range sets {
			sets[j] |= kernel.CapSet(halfword(b, 12*i+4*j)) << (32 * i)
		}
	}
	c, err := t.Creds().SetCaps(sets[0]&kernel.AllCaps, sets[1]&kernel.AllCaps, sets[2]&kernel.AllCaps)
	return become(t, c, err)
}
