// Package tree puts into a root file system what is always there: /dev, /dev/shm, /proc, /sys and /tmp.
package tree

import (
	"fmt"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
	"elver/vfs/devfs"
	"elver/vfs/devpts"
	"elver/vfs/mqueue"
	"elver/vfs/procfs"
	"elver/vfs/tmpfs"
	"elver/vfs/tty"
)

// Config is what these file systems stand on.
type Config struct {
	Dev         *devfs.FS
	Kernel      *kernel.Kernel
	Random      func(p []byte)
	CommandLine string
	CPUInfo     func() string
	Elver       map[string]func() string                   // of /proc/elver
	Net         map[string]func() string                   // of /proc/net
	NetFolders  map[string]func() map[string]func() string // of /proc/net
	NetSettings []procfs.Setting                           // of /proc/sys/net
	SysDevices  func() []procfs.Entry                      // of /sys
	DropNames   func()                                     // gives back what file systems keep of names beside dentries
}

// ttyGroup is Debian's group tty, which terminals belong to so that others may write to them.
const ttyGroup = 5

// Populate mounts them in c's namespace, over any root, and makes their types known to mount(2).
func Populate(c *vfs.Context, config Config) error {
	dev := config.Dev
	proc := procfs.New(procfs.Config{Kernel: config.Kernel, Random: config.Random, CommandLine: config.CommandLine, CPUInfo: config.CPUInfo, Elver: config.Elver, Net: config.Net, NetFolders: config.NetFolders, NetSettings: config.NetSettings, DropNames: config.DropNames})
	sys := procfs.NewSys(config.SysDevices)
	memory := tmpfs.Options{Device: dev.OpenDevice}
	shared := tmpfs.Options{Mode: 0o1777, Device: dev.OpenDevice}
	for _, m := range []struct {
		at    string
		root  *vfs.Dentry
		flags uint64
	}{
		{"/dev", dev.Root(), unix.MS_NOSUID},
		{"/dev/pts", devpts.New(config.Kernel, devpts.Options{Mode: 0o620, GID: ttyGroup, HasGID: true}).Root(), unix.MS_NOSUID | unix.MS_NOEXEC},
		{"/dev/shm", tmpfs.New(shared).Root(), unix.MS_NOSUID | unix.MS_NODEV},
		{"/dev/mqueue", mqueue.Machine().Root(), unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/proc", proc.Root(), unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/sys", sys.Root(), unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		if err := mkdir(c, m.at, 0o755); err != nil {
			return err
		}
		at, err := c.Walk(vfs.AtCWD, m.at, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", m.at, err)
		}
		fs := m.root.Inode().FS()
		if _, err := c.Files.Namespace().Attach(at, m.root, fs.Type(), m.flags|unix.MS_RELATIME); err != nil {
			return fmt.Errorf("%s: %w", m.at, err)
		}
	}
	if err := mkdir(c, "/tmp", 0o1777); err != nil {
		return err
	}
	ns := c.Files.Namespace()
	ns.Register("tmpfs", tmpfs.Mounter(memory))
	ns.Register("ramfs", tmpfs.Mounter(memory))
	ns.Register("devtmpfs", func(*vfs.Context, string, string) (*vfs.Dentry, error) { return dev.Root(), nil })
	ns.Register("devpts", devpts.Mounter(config.Kernel))
	ns.Register("mqueue", mqueue.Mounter)
	ns.Register("proc", proc.Mounter())
	ns.Register("sysfs", sys.Mounter())
	return nil
}

// mkdir makes a directory unless it is there.
func mkdir(c *vfs.Context, path string, mode uint32) error {
	old := c.Umask(0)
	defer c.Umask(old)
	if err := c.Mkdir(vfs.AtCWD, path, mode); err != nil && err != unix.EEXIST {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// OpenConsole returns the console's description for the program's first three descriptors, with one
// reference: /dev/console if it is a terminal, else what stat shows as a pipe.
func OpenConsole(c *vfs.Context, console tty.Console) (*vfs.Description, error) {
	if _, ok := console.(*tty.Terminal); ok {
		return c.OpenFile(vfs.AtCWD, "/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0)
	}
	return vfs.NewStream(console.Open, unix.O_RDWR), nil
}

// InstallConsole makes the console descriptors 0, 1 and 2. If stderr isn't nil, and the console no
// terminal, 2 is what stderr's output gets.
//
// Precondition: c has none yet.
func InstallConsole(c *vfs.Context, console tty.Console, stderr *tty.Stream) error {
	d, err := OpenConsole(c, console)
	if err != nil {
		return fmt.Errorf("the console as standard input and output: %w", err)
	}
	descriptors := [3]*vfs.Description{d, d, d}
	if _, ok := console.(*tty.Terminal); !ok && stderr != nil {
		descriptors[2] = vfs.NewStream(stderr.Open, unix.O_WRONLY)
	} else {
		d.Incref()
	}
	d.Incref()
	for _, d := range descriptors {
		if _, err := c.Install(d, false); err != nil {
			return fmt.Errorf("the console as standard input and output: %w", err)
		}
	}
	return nil
}
