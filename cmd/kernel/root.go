//go:build elver

package main

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"elver/boot"
	"elver/elf"
	"elver/kernel"
	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/syscall"
	"elver/vfs"
	"elver/vfs/cpio"
	"elver/vfs/tmpfs"
	"elver/vfs/tree"
)

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

func head(m boot.Module) []byte { return metal.View(m.Start, int(min(m.End-m.Start, 8))) }

// newRoot builds the file tree. An initrd that is a program is the file /NAME of an in-memory root; an
// archive is the root.
func newRoot(info *boot.Info, program string, config tree.Config) (*vfs.Context, error) {
	fs := tmpfs.New(tmpfs.Options{})
	if len(info.Modules) == 0 {
		return nil, errors.New("there is no program: pass one with -initrd FILE")
	}
	initrd := info.Modules[0]
	if size := initrd.End - initrd.Start; program != "" {
		if _, err := fs.AddFile("/"+program, initrd.Start, size, 0o755); err != nil {
			return nil, fmt.Errorf("the initrd as /%s: %w", program, err)
		}
	} else if err := cpio.Unpack(fs, initrd.Start, size); err != nil {
		return nil, fmt.Errorf("the initrd: %w", err)
	}
	c := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(fs.Root(), "rootfs")))
	if err := tree.Populate(c, config); err != nil {
		return nil, err
	}
	if err := tree.InstallConsole(c, config.Console); err != nil {
		return nil, err
	}
	return c, nil
}

// start makes the first process and has it execute the program: the initrd's, or in a root from an
// archive the one that argv[0] names, by the search path if need be, or /init.
func start(c *vfs.Context, k *kernel.Kernel, params *boot.Params, program string) (*kernel.Thread, error) {
	argv := params.Argv
	env := params.Environment()
	path := "/" + program
	switch {
	case program != "":
		if len(argv) == 0 {
			argv = []string{program}
		}
	case len(argv) == 0:
		path, argv = "/init", []string{"/init"}
	default:
		path = search(c, argv[0], env)
	}
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
	if err := syscall.Execute(t, path, argv, env); err != nil {
		return nil, notStarted(path, err)
	}
	return t, nil
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
