package syscall

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/elf"
	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/random"
	"elver/vdso"
	"elver/vfs"
)

// Limits of execve(2): a string's length with its end (MAX_ARG_STRLEN), and what all of them, with
// their pointers, have at the most whatever the stack's limit (three quarters of _STK_LIM).
const (
	maxArgString = 131072
	maxArgTotal  = 6 << 20
)

// VDSO is mapped into every program; nil: none is. It is set before the first.
var VDSO *vdso.VDSO

// execve(2)
func sysExecve(t *kernel.Thread, a *args) (uint64, error) {
	return execveAt(t, vfs.AtCWD, a.arg(0), a.arg(1), a.arg(2), 0)
}

// execveat(2)
func sysExecveat(t *kernel.Thread, a *args) (uint64, error) {
	flags := a.int(4)
	if flags&^(unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW) != 0 {
		return 0, unix.EINVAL
	}
	return execveAt(t, a.int(0), a.arg(1), a.arg(2), a.arg(3), int(flags))
}

func execveAt(t *kernel.Thread, dirFD int32, nameAt, argvAt, envAt uint64, flags int) (uint64, error) {
	name, err := pathAt(t, nameAt)
	if err != nil {
		return 0, err
	}
	left := min(t.Proc.Limits.Soft(unix.RLIMIT_STACK)/4, maxArgTotal)
	argv, err := stringsAt(t, argvAt, &left)
	if err != nil {
		return 0, err
	}
	env, err := stringsAt(t, envAt, &left)
	if err != nil {
		return 0, err
	}
	if len(argv) == 0 {
		argv = []string{""} // as Linux does since 5.18
	}
	return 0, ExecuteAt(t, dirFD, name, argv, env, flags)
}

// stringsAt reads an array of strings that ends with a null pointer, and takes what they need from
// left: E2BIG.
func stringsAt(t *kernel.Thread, addr uint64, left *uint64) ([]string, error) {
	var list []string
	if addr == 0 {
		return nil, nil
	}
	for ; ; addr += 8 {
		p, err := t.MM().ReadUint64(addr)
		if err != nil {
			return nil, err
		}
		if p == 0 {
			return list, nil
		}
		s, err := t.MM().CopyInString(p, maxArgString)
		if err == unix.ENAMETOOLONG {
			return nil, unix.E2BIG
		} else if err != nil {
			return nil, err
		}
		need := uint64(len(s)) + 1 + 8
		if need > *left {
			return nil, unix.E2BIG
		}
		*left -= need
		list = append(list, s)
	}
}

// Execute is ExecuteAt from the working directory.
func Execute(t *kernel.Thread, name string, argv, env []string) error {
	return ExecuteAt(t, vfs.AtCWD, name, argv, env, 0)
}

// ExecuteAt makes t run the program of a file in place of its own, as execveat(2) says. An error that
// comes of the file is an *elf.Error; after any the old program goes on.
func ExecuteAt(t *kernel.Thread, dirFD int32, name string, argv, env []string, flags int) error {
	c := filesOf(t)
	file, err := elf.OpenAt(c, dirFD, name, flags)
	if err != nil {
		return err
	}
	filename := execPath(dirFD, name)
	space, err := mm.New(t.Proc.Limits)
	if err != nil {
		file.Release()
		return err
	}
	space.DisableLarge(t.MM().LargeDisabled())
	var creds *kernel.Credentials
	var secure bool
	clearing := uint32(perReadImpliesExec)
	image, err := elf.Load(elf.Params{
		Space: space, File: file, Path: filename,
		Open: func(path string) (elf.File, error) { return elf.Open(c, path) },
		Args: argv, Env: env,
		Identify: func(f elf.File) (i elf.Identity, err error) {
			rights := rightsOf(t, elf.Description(f))
			var setID bool
			if creds, setID, secure, err = t.Creds().Exec(rights); err != nil {
				return i, err
			}
			if rights.SetUID != nil || rights.SetGID != nil || setID || creds.Permitted&^t.Creds().Permitted != 0 {
				clearing = perClearOnSetID
			}
			return elf.Identity{UID: creds.RUID, EUID: creds.EUID, GID: creds.RGID, EGID: creds.EGID, Secure: secure,
				FixedLayout: t.Personality()&^clearing&perNoRandomize != 0}, nil
		},
		StackLimit: t.Proc.Limits.Soft(unix.RLIMIT_STACK),
		Random:     random.Uint64,
		HWCap:      amd64.HWCap(), HWCap2: amd64.HWCap2(),
		SignalFrame: uint64(amd64.MaxSignalFrame()),
		VDSO:        mapVDSO(),
	})
	if err == nil {
		d := elf.Description(image.File)
		e := &kernel.Executable{
			Path: c.Files.Name(d.Path()), File: d,
			ArgStart: image.ArgStart, ArgEnd: image.ArgEnd, EnvStart: image.EnvStart, EnvEnd: image.EnvEnd,
			Auxv:      image.Auxv,
			CodeStart: image.CodeStart, CodeEnd: image.CodeEnd, DataStart: image.DataStart, DataEnd: image.DataEnd,
			StackStart: image.StackStart,
			Secret:     c.MayRead(d.Path()) != nil,
		}
		running := elf.Running(image.File)
		running.Acquire()
		space.SetProgram(running)
		oldTID := t.TID
		if err = t.Exec(space, creds, filename[strings.LastIndexByte(filename, '/')+1:], e); err == nil {
			t.SetPersonality(t.Personality() &^ clearing)
			if secure {
				t.SetParentDeathSignal(0)
			}
			image.File.Release() // the address space keeps it
			if image.Opened {
				file.Release()
			}
			t.Local = nil
			t.Ctx.RIP, t.Ctx.RSP = image.Entry, image.StackPointer
			t.TraceExec(oldTID)
			return nil
		}
		if image.Opened {
			image.File.Release()
		}
	}
	space.Release()
	file.Release()
	return err
}

// rightsOf returns what the file of d gives t when t executes it.
func rightsOf(t *kernel.Thread, d *vfs.Description) (r kernel.FileRights) {
	r.NoNewPrivs = t.NoNewPrivs()
	r.Untrusted = t.TracedWithoutPrivilege() || filesOf(t).Files.SharesDirectories()
	if d.Path().Mount.NoSUID() {
		return r
	}
	r.Caps = fileCaps(vfs.FileCapabilities(d.Path()))
	var a vfs.Attr
	if r.NoNewPrivs || d.Stat(&a) != nil {
		return r
	}
	if a.Mode&unix.S_ISUID != 0 {
		r.SetUID = &a.UID
	}
	if a.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
		r.SetGID = &a.GID
	}
	return r
}

// fileCaps decodes struct vfs_ns_cap_data (linux/capability.h); nil: that gives nobody of this machine anything.
func fileCaps(b []byte) *kernel.FileCaps {
	const (
		revision2, size2 = 0x02000000, 20
		revision3, size3 = 0x03000000, 24
		revisionMask     = 0xff000000
		effective        = 1
	)
	if len(b) < size2 {
		return nil
	}
	switch magic := halfword(b, 0) & revisionMask; {
	case magic == revision2 && len(b) == size2:
	case magic == revision3 && len(b) == size3 && halfword(b, 20) == 0: // those of another user namespace's root don't count
	default:
		return nil
	}
	set := func(at int) kernel.CapSet {
		return (kernel.CapSet(halfword(b, at)) | kernel.CapSet(halfword(b, at+8))<<32) & kernel.AllCaps
	}
	return &kernel.FileCaps{Permitted: set(4), Inheritable: set(8), Effective: halfword(b, 0)&effective != 0}
}

// execPath is the program's name as AT_EXECFN and an interpreter get it.
func execPath(dirFD int32, name string) string {
	switch {
	case dirFD == vfs.AtCWD || strings.HasPrefix(name, "/"):
		return name
	case name == "":
		return "/dev/fd/" + strconv.Itoa(int(dirFD))
	}
	return "/dev/fd/" + strconv.Itoa(int(dirFD)) + "/" + name
}

func mapVDSO() func(*mm.AddressSpace) (uint64, error) {
	if VDSO == nil {
		return nil
	}
	return VDSO.Map
}
