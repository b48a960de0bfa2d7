//go:build elver

package main

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/boot"
	"elver/elf"
	"elver/kernel"
	"elver/kernel/mm"
	"elver/kernel/random"
	"elver/runtime/metal"
	"elver/vdso"
	"elver/vfs"
	"elver/vfs/devfs"
	"elver/vfs/tmpfs"
	"elver/vfs/tty"
)

func isELF(m boot.Module) bool {
	const magic = "\x7fELF"
	return m.End-m.Start >= uint64(len(magic)) && bytes.Equal(metal.View(m.Start, len(magic)), []byte(magic))
}

// root is the file tree and what a program needs to start in it.
type root struct {
	namespace *vfs.Namespace
	files     *vfs.Files
	vdso      *vdso.VDSO
}

// newRoot builds the file tree: an initrd that is a program is the file /NAME of an in-memory root.
func newRoot(info *boot.Info, program string, v *vdso.VDSO, console tty.Console) (*root, error) {
	fs := tmpfs.New(tmpfs.Options{})
	switch {
	case len(info.Modules) == 0:
		return nil, fmt.Errorf("there is no program: pass one with -initrd FILE")
	case program == "":
		return nil, fmt.Errorf("the initrd is neither an ELF program nor an archive: it begins with %q", head(info.Modules[0]))
	}
	initrd := info.Modules[0]
	if _, err := fs.AddFile("/"+program, initrd.Start, initrd.End-initrd.Start, 0o755); err != nil {
		return nil, fmt.Errorf("the initrd as /%s: %w", program, err)
	}
	r := &root{namespace: vfs.NewNamespace(fs.Root(), "rootfs"), vdso: v}
	r.files = vfs.NewFiles(r.namespace)
	r.namespace.Register("tmpfs", tmpfs.Mounter(tmpfs.Options{Mode: 0o1777}))
	dev, err := devfs.New(devfs.Config{Random: random.Fill, Console: console})
	if err != nil {
		return nil, fmt.Errorf("/dev: %w", err)
	}
	for _, m := range []struct {
		at    string
		root  *vfs.Dentry
		name  string
		flags uint64
	}{
		{"/dev", dev.Root(), "devtmpfs", unix.MS_NOSUID},
		{"/dev/shm", tmpfs.New(tmpfs.Options{Mode: 0o1777}).Root(), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
		{"/tmp", tmpfs.New(tmpfs.Options{Mode: 0o1777}).Root(), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := r.mount(m.at, m.root, m.name, m.flags); err != nil {
			return nil, fmt.Errorf("%s: %w", m.at, err)
		}
	}
	return r, nil
}

// mount mounts a tree at path, which it makes if it is missing.
func (r *root) mount(path string, tree *vfs.Dentry, source string, flags uint64) error {
	c := vfs.BootContext(r.files)
	if err := c.Mkdir(vfs.AtCWD, path, 0o755); err != nil && err != unix.EEXIST {
		return err
	}
	at, err := c.Walk(vfs.AtCWD, path, 0)
	if err != nil {
		return err
	}
	_, err = r.namespace.Attach(at, tree, source, flags)
	return err
}

func head(m boot.Module) []byte { return metal.View(m.Start, int(min(m.End-m.Start, 8))) }

// load loads the program that params name into a first process.
func (r *root) load(k *kernel.Kernel, params *boot.Params, program string) (*kernel.Thread, error) {
	c := vfs.BootContext(r.files)
	argv := params.Argv
	if len(argv) == 0 {
		argv = []string{program}
	}
	path := "/" + program
	file, err := elf.Open(c, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	space, err := mm.New(nil)
	if err != nil {
		return nil, err
	}
	limits := kernel.DefaultLimits(metal.Frames().Total / 8)
	image, err := elf.Load(elf.Params{
		Space: space, File: file, Path: path,
		Open:       func(path string) (elf.File, error) { return elf.Open(c, path) },
		Args:       argv,
		Env:        params.Environment(),
		StackLimit: limits.Soft(unix.RLIMIT_STACK),
		Random:     random.Uint64,
		HWCap:      amd64.HWCap(), HWCap2: amd64.HWCap2(),
		SignalFrame: uint64(amd64.ExtendedStateSize()) + 2048,
		VDSO:        r.vdso.Map,
	})
	if err != nil {
		return nil, err
	}
	t, err := k.NewFirst(space, r.files, limits, program)
	if err != nil {
		return nil, err
	}
	t.Proc.SetExecutable(&kernel.Executable{
		Path: path, File: elf.Description(file),
		ArgStart: image.ArgStart, ArgEnd: image.ArgEnd, EnvStart: image.EnvStart, EnvEnd: image.EnvEnd,
		AuxvStart: image.AuxvStart, AuxvEnd: image.AuxvEnd,
		CodeStart: image.CodeStart, CodeEnd: image.CodeEnd, DataStart: image.DataStart, DataEnd: image.DataEnd,
		StackStart: image.StackStart,
	})
	t.Ctx.RIP, t.Ctx.RSP = image.Entry, image.StackPointer
	return t, nil
}

// openConsole makes the console the first three descriptors.
func (r *root) openConsole() error {
	c := vfs.BootContext(r.files)
	if _, err := c.Open(vfs.AtCWD, "/dev/console", unix.O_RDWR, 0); err != nil {
		return fmt.Errorf("/dev/console as standard input and output: %w", err)
	}
	for range 2 {
		if _, err := c.Dup(0); err != nil {
			return fmt.Errorf("/dev/console as standard output: %w", err)
		}
	}
	return nil
}
