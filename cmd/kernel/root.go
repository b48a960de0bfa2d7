//go:build elver

package main

import (
	"bytes"
	"errors"
	"fmt"

	"elver/boot"
	"elver/kernel"
	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/syscall"
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

// start makes the first process and has it execute the program that params name.
func start(c *vfs.Context, k *kernel.Kernel, params *boot.Params, program string) (*kernel.Thread, error) {
	argv := params.Argv
	if len(argv) == 0 {
		argv = []string{program}
	}
	path := "/" + program
	space, err := mm.New(nil)
	if err != nil {
		return nil, fmt.Errorf("%s: there is not enough memory: pass a larger -m", path)
	}
	t, err := k.NewFirst(space, c.Files, kernel.DefaultLimits(metal.Frames().Total/8), program)
	if err != nil {
		return nil, err
	}
	if params.Dir != "" && params.Dir != "/" {
		if err := c.Chdir(params.Dir); err != nil {
			return nil, fmt.Errorf("env.vars sets PWD=%s, which is no directory to start in: %w", params.Dir, err)
		}
	}
	if err := syscall.Execute(t, path, argv, params.Environment()); err != nil {
		return nil, err
	}
	return t, nil
}
