// Package machine starts Elver in QEMU and joins its console, its log and its status to this process.
//
// Nothing that a caller passes is read by a shell, and values within QEMU's options have their commas
// doubled, so that no name can become an option. Run leaves nothing behind: no process, no file, no changed
// terminal.
package machine

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// Accelerators and machine types, as the flags name them.
const (
	AccelAuto = "auto"
	AccelKVM  = "kvm"
	AccelTCG  = "tcg"
)

// Types are the machine types that Elver drives.
var Types = []string{"pc", "q35", "microvm"}

// Volume is a directory of the host that the program sees at Guest.
type Volume struct {
	Host, Guest string
	ReadOnly    bool
}

// Forward is a port of the host whose connections or packets go to one of the program.
type Forward struct {
	Protocol    string // tcp or udp
	HostAddress string // empty: all
	Host, Guest uint16
}

// Config says what machine to start, and what on it.
type Config struct {
	QEMU   string // the program; empty: qemu-system-x86_64
	Kernel string // path of the kernel image
	Initrd string // path; empty if there is none
	// InitrdIsProgram says that the initrd is the program itself, which the kernel names after the file.
	InitrdIsProgram bool
	Root            string // a directory that is the root file system; empty if there is none
	RootReadOnly    bool
	RootMapped      bool // it is as rootfs.Tree.Share writes one
	Volumes         []Volume
	MemoryMB        int
	CPUs            int
	Type            string
	Accel           string
	Network         bool
	IP              netip.Prefix // the machine's address; not valid: by DHCP
	Forwards        []Forward
	GDBPort         int // 0: none

	// Parameters are words for Elver itself, unquoted; Argv is the program's.
	Parameters []string
	Argv       []string
	// Plain says that the command line is the bundle's own but for Parameters.
	Plain bool
}

// Quote makes a word that boot.ParseCommandLine, like a shell, takes as it is.
func Quote(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-") == "" && !strings.HasPrefix(word, "virtio_mmio.") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// QuoteAll quotes words.
func QuoteAll(words []string) []string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Quote(w)
	}
	return quoted
}

// escape makes a value for one of QEMU's comma-separated options.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// List makes a parameter that has a list of values.
func List(name string, values []string) string {
	var b strings.Builder
	b.WriteString(name + "=[")
	for _, v := range values {
		// Always quoted: a bare ] would end the list.
		b.WriteString(" '" + strings.ReplaceAll(v, "'", `'\''`) + "'")
	}
	return b.String() + " ]"
}

// maxCommandLine is the longest that the kernel takes, in bytes.
const maxCommandLine = 60 << 10

// CommandLine returns the kernel's.
func (c *Config) CommandLine(console string) (string, error) {
	words := append([]string{}, c.Parameters...)
	if console != "" {
		words = append(words, "elver.console="+console, "elver.stderr=log")
	}
	if fstab := c.fstab(); len(fstab) > 0 {
		words = append(words, List("vfs.fstab", fstab))
	}
	if c.IP.IsValid() {
		words = append(words, "netdev.ip="+c.ipParameter())
	}
	if !c.Plain || len(c.Argv) > 0 {
		words = append(words, "--")
	}
	words = append(words, QuoteAll(c.Argv)...)
	line := strings.Join(words, " ")
	if len(line) > maxCommandLine {
		return "", fmt.Errorf("the program's arguments and environment are %d bytes long together, and %d is the most", len(line), maxCommandLine)
	}
	if strings.IndexByte(line, 0) >= 0 {
		return "", errors.New("an argument or environment variable holds a NUL")
	}
	return line, nil
}

func (c *Config) fstab() []string {
	var entries []string
	for i, v := range c.Volumes {
		entry := fmt.Sprintf("vol%d:%s:9p", i, v.Guest)
		if v.ReadOnly {
			entry += ":ro"
		}
		entries = append(entries, entry)
	}
	if c.RootReadOnly {
		entries = append(entries, "tmpfs:/tmp:tmpfs")
	}
	return entries
}

// slirpHost returns where QEMU's network has its gateway (offset 2) or its name server (3).
func (c *Config) slirpHost(offset byte) netip.Addr {
	a := c.IP.Masked().Addr().As4()
	a[3] += offset
	return netip.AddrFrom4(a)
}

func (c *Config) ipParameter() string {
	return fmt.Sprintf("%s:%s:%s", c.IP, c.slirpHost(2), c.slirpHost(3))
}

func (c *Config) device(name string) string {
	if c.Type == "microvm" {
		return name + "-device"
	}
	return name + "-pci"
}

// Arguments returns QEMU's, but for the channels (console, log, status), which are chardevs of these names.
func (c *Config) Arguments(accel, line string) ([]string, error) {
	for _, path := range []string{c.Kernel, c.Initrd} {
		// QEMU cuts these at commas and blanks, in whatever way they are written.
		if strings.ContainsAny(path, ", \t\n") {
			return nil, fmt.Errorf("QEMU doesn't take the path %q: it holds a blank or a comma", path)
		}
	}
	args := []string{
		"-machine", c.Type, "-m", strconv.Itoa(c.MemoryMB),
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-device", "isa-debugcon,iobase=0x4e9,chardev=log",
		"-device", "isa-debugcon,iobase=0x5e9,chardev=status",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4",
		"-serial", "chardev:console",
	}
	if accel == AccelKVM {
		args = append(args, "-accel", "kvm", "-cpu", "host", "-smp", strconv.Itoa(c.CPUs))
	} else {
		// QEMU before 8.1 leaves out memory barriers when there can be only one CPU.
		args = append(args, "-accel", "tcg", "-cpu", "max", "-smp", fmt.Sprintf("%d,maxcpus=%d", c.CPUs, c.CPUs+1))
	}
	share := func(id, dir, model string, readOnly bool) error {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		fsdev := "local,id=" + id + ",path=" + escape(dir) + ",security_model=" + model + ",multidevs=remap"
		if readOnly {
			fsdev += ",readonly=on"
		}
		args = append(args, "-fsdev", fsdev, "-device", c.device("virtio-9p")+",fsdev="+id+",mount_tag="+id)
		return nil
	}
	if c.Root != "" {
		model := "none"
		if c.RootMapped {
			model = "mapped-file"
		}
		if err := share("fs0", c.Root, model, c.RootReadOnly); err != nil {
			return nil, err
		}
	}
	for i, v := range c.Volumes {
		if err := share(fmt.Sprintf("vol%d", i), v.Host, "none", v.ReadOnly); err != nil {
			return nil, err
		}
	}
	if c.Network {
		netdev := "user,id=net0"
		guest := ""
		if c.IP.IsValid() {
			guest = c.IP.Addr().String()
			netdev += ",net=" + c.IP.Masked().String() + ",dhcpstart=" + guest
		}
		for _, f := range c.Forwards {
			netdev += fmt.Sprintf(",hostfwd=%s:%s:%d-%s:%d", f.Protocol, f.HostAddress, f.Host, guest, f.Guest)
		}
		args = append(args, "-netdev", netdev, "-device", c.device("virtio-net")+",netdev=net0")
	}
	if c.GDBPort != 0 {
		args = append(args, "-gdb", fmt.Sprintf("tcp:127.0.0.1:%d", c.GDBPort), "-S")
	}
	args = append(args, "-kernel", c.Kernel)
	if c.Initrd != "" {
		args = append(args, "-initrd", c.Initrd)
	}
	return append(args, "-append", line), nil
}
