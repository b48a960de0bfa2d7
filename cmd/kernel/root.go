//go:build elver

package main

import (
	"bytes"
	"errors"
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
	"elver/vfs/tmpfs"
	"elver/vfs/tree"
)

func isELF(m boot.Module) bool {
	const magic = "\x7fELF"
	return m.End-m.Start >= uint64(len(magic)) && bytes.Equal(metal.View(m.Start, len(magic)), []byte(magic))
}

// newRoot builds the file tree: an initrd that is a program is the file /NAME of an in-memory root.
func newRoot(info *boot.Info, program string, config tree.Config) (*vfs.Context, error) {
	fs := tmpfs.New(tmpfs.Options{})
	switch {
	case len(info.Modules) == 0:
		return nil, errors.New("there is no program: pass one with -initrd FILE")
	case program == "":
		return nil, fmt.Errorf("the initrd is neither an ELF program nor an archive: it begins with %q", head(info.Modules[0]))
	}
	initrd := info.Modules[0]
	if _, err := fs.AddFile("/"+program, initrd.Start, initrd.End-initrd.Start, 0o755); err != nil {
		return nil, fmt.Errorf("the initrd as /%s: %w", program, err)
	}
	c := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), "rootfs")))
	if err := tree.Populate(c, config); err != nil {
		return nil, err
	}
	if err := tree.InstallConsole(c, config.Console); err != nil {
		return nil, fmt.Errorf("the console as standard input and output: %w", err)
	}
	return c, nil
}

func head(m boot.Module) []byte { return metal.View(m.Start, int(min(m.End-m.Start, 8))) }

// load loads the program that params name into a first process.
func load(c *vfs.Context, k *kernel.Kernel, params *boot.Params, program string, v *vdso.VDSO) (*kernel.Thread, error) {
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
		VDSO:        v.Map,
	})
	if err != nil {
		return nil, err
	}
	t, err := k.NewFirst(space, c.Files, limits, program)
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
