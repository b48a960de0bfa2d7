//go:build elver

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"elver/boot"
	"elver/elf"
	"elver/kernel"
	"elver/kernel/klog"
	"elver/kernel/mm"
	"elver/kernel/random"
	"elver/platform/kvm"
	"elver/runtime/metal"
	"elver/syscall"
	"elver/vfs"
	"elver/vfs/cpio"
	"elver/vfs/devfs"
	"elver/vfs/ninep"
	"elver/vfs/tmpfs"
	"elver/vfs/tree"
	"elver/vfs/tty"
)

// rootTag is the tag of the 9p share that is the root file system.
const rootTag = "fs0"

// root is the file tree that the program sees.
type root struct {
	c       *vfs.Context
	shares  *ninep.Shares
	program string // the initrd's name, when that is the program; else empty
	file    string // the name in the root of the file that holds it
	// made are the folders of a share's top that are there for the mounts of vfs.fstab alone, in memory.
	made map[string]bool
}

// programName returns the name of the initrd if it is a program, or is taken for one: anything but an
// archive. It is empty otherwise.
func programName(info *boot.Info) string {
	if len(info.Modules) == 0 || cpio.Is(head(info.Modules[0])) {
		return ""
	}
	if info.InitrdName == "" {
		return "init" // PVH tells no name
	}
	return info.InitrdName
}

// always are the folders that every root has.
var always = []string{"dev", "proc", "sys", "tmp"}

// fileName returns the name of the file in the root that holds a program: its own, but for one that is named
// as a folder that has to be there.
func fileName(program string) string {
	if slices.Contains(always, program) {
		return program + ".elf"
	}
	return program
}

func head(m boot.Module) []byte { return metal.View(m.Start, int(min(m.End-m.Start, 8))) }

// newRoot builds the file tree: the share fs0, else what an archive holds, else memory. An initrd that is
// a program is the file /NAME there, over a share mounted on a file in memory.
func newRoot(machine *kvm.Machine, devices *devices, info *boot.Info, params *boot.Params, program string, console tty.Console, config tree.Config) (*root, error) {
	dev, err := devfs.New(devfs.Config{Random: config.Random, Stir: random.Stir, Console: console, Entropy: devices.entropy})
	if err != nil {
		return nil, fmt.Errorf("the files of /dev: %w", err)
	}
	config.Dev = dev
	shares, errs := ninep.NewShares(devices.all, ninep.Options{Device: dev.OpenDevice})
	for _, err := range errs {
		klog.Warnf("%v", err)
	}
	r := &root{shares: shares, program: program, file: fileName(program)}
	memory := tmpfs.New(tmpfs.Options{Device: dev.OpenDevice})
	archive := len(info.Modules) > 0 && program == ""
	var file *vfs.Dentry
	if len(info.Modules) > 0 {
		initrd := info.Modules[0]
		if archive {
			if err := cpio.Unpack(memory, initrd.Start, initrd.End-initrd.Start); err != nil {
				return nil, err
			}
		} else {
			var err error
			if file, err = memory.AddFile("/"+r.file, initrd.Start, initrd.End-initrd.Start, 0o755); err != nil {
				return nil, fmt.Errorf("the initrd as /%s: %w", r.file, err)
			}
		}
	}
	tag, options := rootShare(params, shares)
	switch {
	case !archive && tag != "":
		if err := r.mountShare(tag, options, file, params.Fstab, config); err != nil {
			return nil, err
		}
	case len(info.Modules) == 0:
		return nil, errors.New("there is no program: pass one with -initrd FILE, or a root file system as the 9p share " + rootTag)
	default:
		r.c = vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(memory.Root(), "rootfs")))
		if err := tree.Populate(r.c, config); err != nil {
			return nil, err
		}
	}
	r.c.Files.Namespace().Register("9p", shares.Mounter())
	if err := r.mountAll(params.Fstab); err != nil {
		return nil, err
	}
	var stderr *tty.Stream
	if params.StderrToLog && machine.HasLogChannel() {
		log := machine.LogWriter()
		stderr = tty.NewStream(func(p []byte) { log.Write(p) })
	}
	return r, tree.InstallConsole(r.c, console, stderr)
}

// rootShare returns the tag of the share that is the root, with its options: the one that vfs.fstab or
// vfs.rootdev names, else fs0 if there is one, else none.
func rootShare(params *boot.Params, shares *ninep.Shares) (tag, options string) {
	for _, entry := range params.Fstab {
		if m := parseMount(entry); m.target == "/" && m.kind == "9p" {
			return m.source, m.options
		}
	}
	if params.RootFS != "" && kindOf(params.RootFS) == "9p" {
		return params.RootDevice, params.RootOptions
	}
	for _, t := range shares.Tags() {
		if t == rootTag {
			return t, ""
		}
	}
	return "", ""
}

// mountShare makes a share the root, with what is always there over it: in memory where the share has no
// place for it, and never on the host. program, if not nil, is the initrd's file.
func (r *root) mountShare(tag, options string, program *vfs.Dentry, fstab []string, config tree.Config) error {
	fs, err := r.shares.Mount(tag, options)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("there is no 9p share %q to be the root file system: the machine has %q", tag, r.shares.Tags())
	} else if err != nil {
		return err
	}
	if program != nil {
		if there, err := fs.Root().Inode().Lookup(nil, r.file); err == nil {
			if mode, _, _ := there.Perm(); mode&unix.S_IFMT != unix.S_IFREG {
				r.file += ".elf"
			}
		}
		if _, err := fs.AddMountPoint(r.file, unix.S_IFREG|0o755); err != nil {
			return fmt.Errorf("/%s over the share %q: %w", r.file, tag, err)
		}
	}
	lacksTmp := false
	for _, name := range always {
		added, err := fs.AddMountPoint(name, unix.S_IFDIR|0o755)
		if err != nil {
			return fmt.Errorf("/%s of the share %q: %w", name, tag, err)
		}
		lacksTmp = lacksTmp || added && name == "tmp"
	}
	r.made = map[string]bool{}
	for _, entry := range fstab {
		name := topOf(parseMount(entry).target)
		if name == "" {
			continue
		}
		added, err := fs.AddMountPoint(name, unix.S_IFDIR|0o755)
		if err != nil {
			return fmt.Errorf("/%s of the share %q: %w", name, tag, err)
		}
		r.made[name] = r.made[name] || added
	}
	r.c = vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), tag)))
	if err := tree.Populate(r.c, config); err != nil {
		return err
	}
	if program != nil {
		at, err := r.c.Walk(vfs.AtCWD, "/"+r.file, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			_, err = r.c.Files.Namespace().Attach(at, program, "initrd", 0)
		}
		if err != nil {
			return fmt.Errorf("/%s over the share %q, which has something else of that name: %w", r.file, tag, err)
		}
	}
	if lacksTmp {
		return r.c.Mount("tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	}
	return nil
}

// mountEntry is an entry of vfs.fstab: SOURCE:TARGET:TYPE[:FLAGS[:OPTIONS[:UKOPTIONS]]].
type mountEntry struct {
	source, target, kind, options string
	flags                         uint64
}

func parseMount(entry string) (m mountEntry) {
	fields := append(strings.Split(entry, ":"), "", "", "", "", "")
	m = mountEntry{source: fields[0], target: fields[1], kind: kindOf(fields[2]), options: fields[4]}
	for _, word := range strings.Split(fields[3], ",") {
		switch word {
		case "ro":
			m.flags |= unix.MS_RDONLY
		case "nosuid":
			m.flags |= unix.MS_NOSUID
		case "nodev":
			m.flags |= unix.MS_NODEV
		case "noexec":
			m.flags |= unix.MS_NOEXEC
		default:
			var n uint64
			if _, err := fmt.Sscan(word, &n); err == nil {
				m.flags |= n
			}
		}
	}
	return m
}

// kindOf returns Linux's name for a type of file system that Unikraft calls otherwise.
func kindOf(kind string) string {
	switch kind {
	case "9pfs":
		return "9p"
	case "ramfs":
		return "tmpfs"
	}
	return kind
}

// topOf returns the first component of an absolute path, empty for the root's.
func topOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	if name == "." || name == ".." {
		return ""
	}
	return name
}

// mountAll mounts the entries of vfs.fstab below the root. A target that is missing is made where that
// is in memory: a share's folders are the host's.
func (r *root) mountAll(fstab []string) error {
	for _, entry := range fstab {
		m := parseMount(entry)
		if m.target == "/" || m.kind == "extract" { // done: the root is one or the other
			continue
		}
		if !strings.HasPrefix(m.target, "/") || m.kind == "" {
			return fmt.Errorf("vfs.fstab: %q is not SOURCE:TARGET:TYPE with an absolute TARGET", entry)
		}
		if err := r.makeTarget(m.target); err != nil {
			return fmt.Errorf("vfs.fstab: %s is not there to mount %q on, and cannot be made: %w", m.target, m.source, err)
		}
		if err := r.c.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("vfs.fstab: %q cannot be mounted on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// makeTarget makes the folders of path that are missing, in memory.
func (r *root) makeTarget(path string) error {
	if r.c.Access(vfs.AtCWD, path, unix.F_OK, 0) != unix.ENOENT {
		return nil // what else is wrong with it, mount says
	}
	if top := topOf(path); r.made[top] {
		if err := r.c.Mount("tmpfs", "/"+top, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
		r.made[top] = false
	}
	at := ""
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		parent := at + "/"
		at += "/" + name
		if r.c.Access(vfs.AtCWD, at, unix.F_OK, 0) != unix.ENOENT {
			continue
		}
		var fs vfs.StatFS
		if err := r.c.Statfs(parent, &fs); err != nil {
			return err
		}
		if fs.Type != unix.TMPFS_MAGIC {
			return fmt.Errorf("%s lies on a share of the host: make %s there", parent, at)
		}
		if err := r.c.Mkdir(vfs.AtCWD, at, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// start makes the first process and has it execute the program: the initrd's, or in a root without one
// what argv[0] names, by the search path if need be, or /init.
func (r *root) start(k *kernel.Kernel, params *boot.Params) (*kernel.Thread, error) {
	space, err := mm.New(nil)
	if err != nil {
		return nil, errors.New("there is not enough memory for a process: pass a larger -m")
	}
	if params.OwnInit {
		if err := k.StartInit(); err != nil {
			return nil, err
		}
	}
	limits := kernel.DefaultLimits(metal.Frames().Total / 8)
	if params.Core != "" {
		if err := k.SetCorePattern(params.Core); err != nil {
			return nil, fmt.Errorf("elver.core=%s: a core file cannot be piped to a program: name a file", params.Core)
		}
		limits.Set(unix.RLIMIT_CORE, unix.Rlimit{Cur: kernel.Infinity, Max: kernel.Infinity}, kernel.RootCredentials())
	}
	t, err := k.NewFirst(space, r.c.Files, limits, r.program)
	if err != nil {
		return nil, err
	}
	if params.Dir != "" && params.Dir != "/" {
		if err := r.c.Chdir(params.Dir); err != nil {
			return nil, fmt.Errorf("env.vars sets PWD=%s, which is no directory to start in: %w", params.Dir, err)
		}
	}
	if params.User != nil {
		creds, err := credentials(params.User)
		if err != nil {
			return nil, fmt.Errorf("elver.user: %w", err)
		}
		t.SetCreds(creds)
	}
	argv, env := params.Argv, params.Environment()
	path := "/init"
	switch {
	case params.Init != "":
		path = params.Init
		if len(argv) == 0 {
			argv = []string{path}
		}
	case r.program != "":
		path = "/" + r.file
		if len(argv) == 0 {
			argv = []string{r.program}
		}
	case len(argv) == 0:
		argv = []string{path}
	default:
		path = search(r.c, argv[0], env)
	}
	if err := syscall.Execute(t, path, argv, env); err != nil {
		return nil, notStarted(path, err)
	}
	return t, nil
}

// credentials returns those of a user. One that isn't root may take any port all the same: the machine and
// its addresses are the program's own.
func credentials(u *boot.User) (*kernel.Credentials, error) {
	c, err := kernel.RootCredentials().SetGroups(u.Groups)
	if err != nil {
		return nil, err
	}
	if c, err = c.SetRESGID(u.GID, u.GID, u.GID); err != nil {
		return nil, err
	}
	if c, err = c.SetRESUID(u.UID, u.UID, u.UID); err != nil || u.UID == 0 {
		return c, err
	}
	c = c.Clone()
	ports := kernel.CapSet(1) << unix.CAP_NET_BIND_SERVICE
	c.Permitted, c.Effective, c.Inheritable, c.Ambient = ports, ports, ports, ports
	return c, nil
}

// search returns where the program name is: name itself if it holds a slash, else the first folder of
// PATH that has it.
func search(c *vfs.Context, name string, env []string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, v := range env {
		folders, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for _, folder := range strings.Split(folders, ":") {
			if path := folder + "/" + name; c.Access(vfs.AtCWD, path, unix.X_OK, 0) == nil {
				return path
			}
		}
	}
	return name
}

// notStarted makes err, which Execute returned for the program at path, an *elf.Error.
func notStarted(path string, err error) error {
	var refused *elf.Error
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return &elf.Error{Errno: unix.ENOENT, Status: elf.StatusNotFound, Sentence: path + ": there is no such program in the root file system"}
	case errors.Is(err, unix.EACCES):
		return &elf.Error{Errno: unix.EACCES, Status: elf.StatusNotExecutable, Sentence: path + " is not executable: it is no regular file or lacks the permission (chmod +x)"}
	}
	return fmt.Errorf("%s: %w", path, err)
}
