package kernel

import (
	"slices"

	"golang.org/x/sys/unix"
)

// CapSet is a set of capabilities (capabilities(7)), bit N for capability N.
type CapSet uint64

// AllCaps holds every capability that Linux 6.12 knows.
const AllCaps CapSet = 1<<(unix.CAP_LAST_CAP+1) - 1

// Has reports whether the set holds capability c.
func (s CapSet) Has(c int) bool { return s>>uint(c)&1 != 0 }

// Secure bits (capabilities(7)). Each has a lock one bit above it.
const (
	SecureNoRoot         = 1 << 0
	SecureNoSetuidFixup  = 1 << 2
	SecureKeepCaps       = 1 << 4
	SecureNoAmbientRaise = 1 << 6
)

// Credentials are what a thread may do (credentials(7)). They are immutable once a thread has them:
// whoever changes them makes a copy.
type Credentials struct {
	RUID, EUID, SUID, FSUID uint32
	RGID, EGID, SGID, FSGID uint32
	Groups                  []uint32 // supplementary, sorted
	Permitted, Effective    CapSet
	Inheritable             CapSet
	Bounding, Ambient       CapSet
	SecureBits              uint32
}

// RootCredentials returns what the first process has: root with every capability.
func RootCredentials() *Credentials {
	return &Credentials{Permitted: AllCaps, Effective: AllCaps, Bounding: AllCaps}
}

// HasCap reports whether c is in the effective set.
func (c *Credentials) HasCap(capability int) bool { return c.Effective.Has(capability) }

// InGroup reports whether gid is the filesystem group or a supplementary one.
func (c *Credentials) InGroup(gid uint32) bool {
	if c.FSGID == gid {
		return true
	}
	_, found := slices.BinarySearch(c.Groups, gid)
	return found
}

// Clone returns a copy to change. The groups are shared: they are replaced, never written to.
func (c *Credentials) Clone() *Credentials {
	d := *c
	return &d
}

// MaxGroups is NGROUPS_MAX.
const MaxGroups = 65536

// same returns whether id is one of set.
func same(id uint32, set ...uint32) bool { return slices.Contains(set, id) }

// unset is the user or group id that means "leave it".
const unset = ^uint32(0)

// SetUID implements setuid(2) on a copy of c.
func (c *Credentials) SetUID(uid uint32) (*Credentials, error) {
	if uid == unset {
		return nil, unix.EINVAL
	}
	n := c.Clone()
	switch {
	case c.HasCap(unix.CAP_SETUID):
		n.RUID, n.EUID, n.SUID = uid, uid, uid
	case same(uid, c.RUID, c.SUID):
		n.EUID = uid
	default:
		return nil, unix.EPERM
	}
	n.FSUID = n.EUID
	n.fixCaps(c)
	return n, nil
}

// setReal sets a real and an effective id, as setreuid(2) and setregid(2) do: who isn't privileged gets one of the ids
// there are. The saved id follows where the process may be leaving privileges behind.
func setReal(real, effective, saved *uint32, toReal, toEffective uint32, privileged bool) error {
	r, e, s := *real, *effective, *saved
	if !privileged && (toReal != unset && !same(toReal, r, e) || toEffective != unset && !same(toEffective, r, e, s)) {
		return unix.EPERM
	}
	assign(real, toReal)
	assign(effective, toEffective)
	if toReal != unset || toEffective != unset && toEffective != r {
		*saved = *effective
	}
	return nil
}

// SetREUID implements setreuid(2) on a copy of c; ^0 leaves an id as it is.
func (c *Credentials) SetREUID(ruid, euid uint32) (*Credentials, error) {
	n := c.Clone()
	if err := setReal(&n.RUID, &n.EUID, &n.SUID, ruid, euid, c.HasCap(unix.CAP_SETUID)); err != nil {
		return nil, err
	}
	n.FSUID = n.EUID
	n.fixCaps(c)
	return n, nil
}

// SetRESUID implements setresuid(2) on a copy of c; ^0 leaves an id as it is.
func (c *Credentials) SetRESUID(ruid, euid, suid uint32) (*Credentials, error) {
	n := c.Clone()
	for _, id := range []uint32{ruid, euid, suid} {
		if id != unset && !c.HasCap(unix.CAP_SETUID) && !same(id, c.RUID, c.EUID, c.SUID) {
			return nil, unix.EPERM
		}
	}
	assign(&n.RUID, ruid)
	assign(&n.EUID, euid)
	assign(&n.SUID, suid)
	n.FSUID = n.EUID
	n.fixCaps(c)
	return n, nil
}

// SetFSUID implements setfsuid(2) on a copy of c. It never fails: what is not allowed changes
// nothing.
func (c *Credentials) SetFSUID(uid uint32) *Credentials {
	if uid == unset || !c.HasCap(unix.CAP_SETUID) && !same(uid, c.RUID, c.EUID, c.SUID, c.FSUID) {
		return c
	}
	n := c.Clone()
	n.FSUID = uid
	if c.SecureBits&SecureNoSetuidFixup == 0 {
		switch {
		case c.FSUID == 0 && uid != 0:
			n.Effective &^= filesystemCaps
		case c.FSUID != 0 && uid == 0:
			n.Effective |= n.Permitted & filesystemCaps
		}
	}
	return n
}

// filesystemCaps are the capabilities that follow the filesystem uid.
const filesystemCaps CapSet = 1<<unix.CAP_CHOWN | 1<<unix.CAP_MKNOD | 1<<unix.CAP_DAC_OVERRIDE |
	1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_LINUX_IMMUTABLE |
	1<<unix.CAP_MAC_OVERRIDE

// SetGID implements setgid(2) on a copy of c.
func (c *Credentials) SetGID(gid uint32) (*Credentials, error) {
	if gid == unset {
		return nil, unix.EINVAL
	}
	n := c.Clone()
	switch {
	case c.HasCap(unix.CAP_SETGID):
		n.RGID, n.EGID, n.SGID = gid, gid, gid
	case same(gid, c.RGID, c.SGID):
		n.EGID = gid
	default:
		return nil, unix.EPERM
	}
	n.FSGID = n.EGID
	return n, nil
}

// SetREGID implements setregid(2) on a copy of c; ^0 leaves an id as it is.
func (c *Credentials) SetREGID(rgid, egid uint32) (*Credentials, error) {
	n := c.Clone()
	if err := setReal(&n.RGID, &n.EGID, &n.SGID, rgid, egid, c.HasCap(unix.CAP_SETGID)); err != nil {
		return nil, err
	}
	n.FSGID = n.EGID
	return n, nil
}

// SetRESGID implements setresgid(2) on a copy of c; ^0 leaves an id as it is.
func (c *Credentials) SetRESGID(rgid, egid, sgid uint32) (*Credentials, error) {
	n := c.Clone()
	for _, id := range []uint32{rgid, egid, sgid} {
		if id != unset && !c.HasCap(unix.CAP_SETGID) && !same(id, c.RGID, c.EGID, c.SGID) {
			return nil, unix.EPERM
		}
	}
	assign(&n.RGID, rgid)
	assign(&n.EGID, egid)
	assign(&n.SGID, sgid)
	n.FSGID = n.EGID
	return n, nil
}

// SetFSGID implements setfsgid(2) on a copy of c; what is not allowed changes nothing.
func (c *Credentials) SetFSGID(gid uint32) *Credentials {
	if gid == unset || !c.HasCap(unix.CAP_SETGID) && !same(gid, c.RGID, c.EGID, c.SGID, c.FSGID) {
		return c
	}
	n := c.Clone()
	n.FSGID = gid
	return n
}

// SetGroups implements setgroups(2) on a copy of c. It takes over groups.
func (c *Credentials) SetGroups(groups []uint32) (*Credentials, error) {
	if !c.HasCap(unix.CAP_SETGID) {
		return nil, unix.EPERM
	}
	if len(groups) > MaxGroups {
		return nil, unix.EINVAL
	}
	slices.Sort(groups)
	n := c.Clone()
	n.Groups = groups
	return n, nil
}

// SetCaps implements capset(2) on a copy of c.
func (c *Credentials) SetCaps(effective, permitted, inheritable CapSet) (*Credentials, error) {
	effective, permitted, inheritable = effective&AllCaps, permitted&AllCaps, inheritable&AllCaps
	switch {
	case !c.HasCap(unix.CAP_SETPCAP) && inheritable&^(c.Inheritable|c.Permitted) != 0,
		inheritable&^(c.Inheritable|c.Bounding) != 0,
		permitted&^c.Permitted != 0,
		effective&^permitted != 0:
		return nil, unix.EPERM
	}
	n := c.Clone()
	n.Effective, n.Permitted, n.Inheritable = effective, permitted, inheritable
	n.Ambient &= permitted & inheritable
	return n, nil
}

func assign(p *uint32, id uint32) {
	if id != unset {
		*p = id
	}
}

// fixCaps makes the capabilities follow a change of user ids from old (capabilities(7), "Effect of
// user ID changes on capabilities").
func (c *Credentials) fixCaps(old *Credentials) {
	if c.SecureBits&SecureNoSetuidFixup != 0 {
		return
	}
	hadRoot := old.RUID == 0 || old.EUID == 0 || old.SUID == 0
	hasRoot := c.RUID == 0 || c.EUID == 0 || c.SUID == 0
	if hadRoot && !hasRoot {
		if c.SecureBits&SecureKeepCaps == 0 {
			c.Permitted, c.Effective = 0, 0
		}
		c.Ambient = 0
	}
	switch {
	case old.EUID == 0 && c.EUID != 0:
		c.Effective = 0
	case old.EUID != 0 && c.EUID == 0:
		c.Effective = c.Permitted
	}
}

// FileRights are what a file gives who executes it, and what stands in the way of that.
type FileRights struct {
	SetUID, SetGID *uint32   // its owner and group, if it has the bits; nil: it hasn't
	Caps           *FileCaps // nil: it has none
	// Untrusted says that others see or share what the program does, so that it must gain nothing they
	// lack, unless the caller may change its ids anyway; NoNewPrivs that it gains nothing in any case.
	Untrusted, NoNewPrivs bool
}

// FileCaps are the capabilities of a file (capabilities(7), "File capabilities").
type FileCaps struct {
	Permitted, Inheritable CapSet
	Effective              bool
}

// Exec returns the credentials that a program starts with which c executes (execve(2); capabilities(7),
// "Transformation of capabilities during execve()"). setID says that they change whose the program is, secure
// that it must not trust its environment (AT_SECURE). EPERM: the file wants capabilities in effect that it doesn't get.
func (c *Credentials) Exec(f FileRights) (n *Credentials, setID, secure bool, err error) {
	n = c.Clone()
	if f.SetUID != nil {
		n.EUID = *f.SetUID
	}
	if f.SetGID != nil {
		n.EGID = *f.SetGID
	}
	permitted, effective := CapSet(0), false
	if f.Caps != nil {
		permitted = c.Bounding&f.Caps.Permitted | c.Inheritable&f.Caps.Inheritable
		effective = f.Caps.Effective
		if effective && f.Caps.Permitted&^permitted != 0 {
			return nil, false, false, unix.EPERM
		}
	}
	// A program with capabilities of its own that is set-user-ID root has those alone.
	if n.SecureBits&SecureNoRoot == 0 && !(f.Caps != nil && n.EUID == 0 && n.RUID != 0) && (n.EUID == 0 || n.RUID == 0) {
		permitted = c.Inheritable | c.Bounding
		effective = effective || n.EUID == 0
	}
	setID = n.EUID != c.RUID || n.EGID != c.RGID
	if (setID || permitted&^c.Permitted != 0) && (f.Untrusted || f.NoNewPrivs) {
		if !c.HasCap(unix.CAP_SETUID) || f.NoNewPrivs {
			n.EUID, n.EGID = n.RUID, n.RGID
		}
		permitted &= c.Permitted
	}
	n.SUID, n.FSUID = n.EUID, n.EUID
	n.SGID, n.FSGID = n.EGID, n.EGID
	if f.Caps != nil || setID {
		n.Ambient = 0
	}
	n.Permitted = permitted | n.Ambient
	n.Effective = n.Ambient
	if effective {
		n.Effective = n.Permitted
	}
	n.SecureBits &^= SecureKeepCaps
	secure = setID || n.RUID != 0 && (effective || n.Permitted&^n.Ambient != 0)
	return n, setID, secure, nil
}

// MayAttach reports whether t may look into p as a debugger does (ptrace(2), "Ptrace access mode checking").
func (t *Thread) MayAttach(p *Process) bool {
	c, o := t.Creds(), p.Creds()
	switch {
	case p == t.Proc, c.HasCap(unix.CAP_SYS_PTRACE):
		return true
	case p.Dumpable() != dumpableUser, o.Permitted&^c.Permitted != 0:
		return false
	}
	return c.RUID == o.RUID && c.RUID == o.EUID && c.RUID == o.SUID && c.RGID == o.RGID && c.RGID == o.EGID && c.RGID == o.SGID
}
