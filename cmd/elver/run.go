package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"elver/boot"
	"elver/cmd/elver/machine"
)

const runDetail = `THING is
  a program           an ELF file or a script with #!, by its path or, without a slash and
                      if no file here has that name, found in PATH; its interpreter
                      and libraries come along, other files don't: see -v
  a directory         that is the root file system; it is shared, and what the program
                      writes there is written to it (but with --read-only)
  an image            an archive of docker save, an OCI layout (directory or tar), with the
                      entrypoint, command, environment, directory and user that it names;
                      what the program writes is gone at the end
  a tar or cpio file  a root file system; the ARGUMENTs begin with the program
  a bundle            what elver build made

Options stand before THING; what follows it is the program's, but for a "--" right after it.
With a terminal, Ctrl-C goes to the program, Ctrl-A x ends the machine. The exit status is the
program's; 128+N if signal N killed it; 125 if Elver refused or failed; 126 if THING can't be
executed; 127 if it isn't there.

  elver run /bin/ls -la /
  elver run --read-only / python3 -c 'print(6 * 7)'
  elver run -v .:/app -w /app python-rootfs/ python3 script.py
  elver run -p 8080:80 nginx.tar
  elver run tar -- c . | tar t
`

// runOptions are those of elver run.
type runOptions struct {
	kernel, qemu string
	memoryMB     int
	cpus         int
	forwards     []machine.Forward
	volumes      []machine.Volume
	env          []string
	workDir      string
	user         string
	hostname     string
	stopSignal   string
	init         bool
	noNetwork    bool
	ip           netip.Prefix
	accel        string
	machineType  string
	readOnly     bool
	unpack       bool
	strace       string // elver.strace; empty: none
	timestamps   bool
	summary      bool
	core         string // elver.core
	profile      string // elver.profile
	log          string
	gdbPort      int
	dryRun       bool
}

const (
	defaultMemoryMB = 1024
	defaultGDBPort  = 1234
)

func (o *runOptions) table() []option {
	boolean := func(to *bool) func(string) error {
		return func(string) error { *to = true; return nil }
	}
	text := func(to *string) func(string) error {
		return func(v string) error { *to = v; return nil }
	}
	inside := func(to *string) func(string) error {
		return func(v string) error { return absolute(v, to) }
	}
	choice := func(to *string, choices []string) func(string) error {
		return func(v string) error {
			if !slices.Contains(choices, v) {
				return fmt.Errorf("%q is not one of %s", v, strings.Join(choices, ", "))
			}
			*to = v
			return nil
		}
	}
	accels := []string{machine.AccelAuto, machine.AccelKVM, machine.AccelTCG}
	levels := []string{"debug", "info", "warning", "error"}
	options := []option{
		{long: "memory", short: "m", value: "SIZE", help: "memory, in MB or with a suffix K, M, G (default 1024, more for large images)",
			set: func(v string) (err error) { o.memoryMB, err = parseMemory(v); return err }},
		{long: "cpus", short: "c", value: "N", help: "virtual CPUs (default 1; Elver uses one)", set: func(v string) (err error) {
			if o.cpus, err = strconv.Atoi(v); err != nil || o.cpus < 1 || o.cpus > 254 {
				return fmt.Errorf("%q is not a number from 1 to 254", v)
			}
			return nil
		}},
		{long: "publish", short: "p", value: "[ADDR:]HOST:GUEST[/udp]", help: "forward a port of this host to one of the program's, or as many of a range (8000-8009:80-89)", set: func(v string) error {
			f, err := parseForwards(v)
			o.forwards = append(o.forwards, f...)
			return err
		}},
		{long: "volume", short: "v", value: "DIR:PATH[:ro]", help: "share a directory of this host with the program at PATH", set: func(v string) error {
			vol, err := parseVolume(v)
			o.volumes = append(o.volumes, vol)
			return err
		}},
		{long: "net", value: "none|user", help: "no network, or QEMU's own with DHCP and DNS (default)", choices: []string{"none", "user"}, set: func(v string) error {
			if v != "none" && v != "user" {
				return fmt.Errorf("%q is not one of none, user (for a bridge or tap use scripts/qemu-guest)", v)
			}
			o.noNetwork = v == "none"
			return nil
		}},
		{long: "ip", value: "ADDR[/BITS]", help: "the machine's address in QEMU's network (default by DHCP: 10.0.2.15)", set: func(v string) (err error) {
			o.ip, err = parseIP(v)
			return err
		}},
		{long: "read-only", help: "the root directory cannot be written to", set: boolean(&o.readOnly)},
		{long: "unpack", help: "share an image's files from a temporary directory instead of taking them into memory, as is done with more than 3 GiB", set: boolean(&o.unpack)},
		{long: "accel", value: "auto|kvm|tcg", help: "hardware virtualisation or emulation (default: KVM where it is found to work)", choices: accels, set: choice(&o.accel, accels)},
		{long: "machine", value: "pc|q35|microvm", help: "the machine's type (default pc)", choices: machine.Types, set: choice(&o.machineType, machine.Types)},
		{long: "strace", value: "CALLS", optional: true, help: "show system calls on standard error: all, or such as file,network,!futex", set: func(v string) error {
			if o.strace = v; v == "" {
				o.strace = "1"
			}
			return nil
		}},
		{long: "timestamps", help: "with the time of each call", set: boolean(&o.timestamps)},
		{long: "summary", help: "say at the end what system calls were made, and what was missing", set: boolean(&o.summary)},
		{long: "core", value: "PATH", help: "a core file of what crashes, as core(5) names it; PATH is best on a -v", set: inside(&o.core)},
		{long: "profile", value: "PATH", help: "profiles of Elver itself, for go tool pprof; PATH is best on a -v", set: inside(&o.profile)},
		{long: "log", value: "LEVEL", help: "what Elver says on standard error: debug, info, warning (default), error", choices: levels, set: choice(&o.log, levels)},
		{long: "gdb", value: "PORT", optional: true, help: "wait for gdb on this port of localhost (default 1234)", set: func(v string) (err error) {
			o.gdbPort = defaultGDBPort
			if v != "" {
				var port uint16
				port, err = parsePort(v)
				o.gdbPort = int(port)
			}
			return err
		}},
		{long: "kernel", value: "FILE", help: "another kernel than the one in this command", set: text(&o.kernel)},
		{long: "qemu", value: "PROGRAM", help: "another QEMU than qemu-system-x86_64", set: text(&o.qemu)},
		{long: "dry-run", help: "print QEMU's command line instead of running it", set: boolean(&o.dryRun)},
	}
	// The ports and volumes first, then what concerns the program.
	return slices.Insert(options, 4, o.program()...)
}

// program returns the options that say how the program runs, which elver build has too.
func (o *runOptions) program() []option {
	return []option{
		{long: "env", short: "e", value: "NAME[=VALUE]", help: "an environment variable; without a value, this process's", set: func(v string) error { return o.addEnv(v) }},
		{long: "env-file", value: "FILE", help: "environment variables, one a line", set: func(v string) error { return o.addEnvFile(v) }},
		{long: "workdir", short: "w", value: "PATH", help: "the directory that the program starts in", set: func(v string) error { return absolute(v, &o.workDir) }},
		{long: "user", short: "u", value: "USER[:GROUP]", help: "who runs the program, by name or number (default root, or as the image says)", set: func(v string) error { o.user = v; return nil }},
		{long: "hostname", value: "NAME", help: "the machine's name", set: func(v string) error { o.hostname = v; return nil }},
		{long: "stop-signal", value: "SIGNAL", help: "what asks the program to end (default SIGTERM, or as the image says)", set: func(v string) error { o.stopSignal = v; return nil }},
		{long: "init", help: "a small init of Elver's own is process 1, and the program process 2", set: func(string) error { o.init = true; return nil }},
	}
}

func runCommand(words []string) (int, error) {
	o := &runOptions{cpus: 1, accel: machine.AccelAuto, machineType: "pc"}
	words, err := parse(o.table(), words)
	if err != nil {
		return statusFailed, err
	}
	if len(words) == 0 {
		return statusFailed, usageError("what is to run? A program, a directory or an image")
	}
	if o.noNetwork && (len(o.forwards) > 0 || o.ip.IsValid()) {
		return statusFailed, usageError("-p and --ip need a network, and --net none leaves it out")
	}
	thing, args := words[0], words[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	w := &workspace{keep: o.dryRun}
	defer w.close()
	subject, err := open(thing)
	if err != nil {
		return statusFailed, err
	}
	defer subject.close()
	c, err := o.prepare(w, subject, args)
	if err != nil {
		return statusFailed, err
	}
	if err := checkLine(c); err != nil {
		return statusFailed, err
	}
	if o.dryRun {
		err := machine.DryRun(c, os.Stdout)
		if err == nil && w.made != "" {
			fmt.Fprintf(os.Stderr, "elver: what the command line needs is in %s: remove it when you are done\n", w.made)
		}
		return 0, err
	}
	if o.gdbPort != 0 {
		fmt.Fprintf(os.Stderr, "elver: the machine waits for gdb: gdb %s -ex 'target remote localhost:%d'\n", c.Kernel, o.gdbPort)
	}
	status, err := machine.Run(c)
	if err == nil && status != 0 && status < 128 {
		if hint := subject.unseen(o, args); hint != "" {
			fmt.Fprintf(os.Stderr, "elver: %s\n", hint)
		}
	}
	return status, err
}

// prepare makes the machine's configuration.
func (o *runOptions) prepare(w *workspace, subject *subject, args []string) (*machine.Config, error) {
	c := &machine.Config{
		QEMU: o.qemu, MemoryMB: o.memoryMB, CPUs: o.cpus, Type: o.machineType, Accel: o.accel,
		Network: !o.noNetwork, IP: o.ip, Forwards: o.forwards, Volumes: o.volumes, GDBPort: o.gdbPort, RootReadOnly: o.readOnly,
	}
	if subject.share = o.unpack; o.unpack && subject.kind != kindImage {
		return nil, usageError("--unpack is for images; %s is none", subject.name)
	}
	spec, err := subject.resolve(o, args)
	if err != nil {
		return nil, err
	}
	if err := subject.place(w, c, spec); err != nil {
		return nil, err
	}
	if o.readOnly && subject.kind != kindDirectory {
		return nil, usageError("--read-only is for a root directory; %s is taken into memory", subject.name)
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = defaultMemoryMB
		if c.Initrd != "" {
			if info, err := os.Stat(c.Initrd); err == nil {
				c.MemoryMB = max(c.MemoryMB, 512+2*int(info.Size()>>20))
			}
		}
	}
	if c.Kernel == "" {
		if c.Kernel, err = kernelPath(o.kernel, w.dir); err != nil {
			return nil, err
		}
	}
	c.Argv = spec.argv
	c.Parameters = append(spec.parameters(), c.Parameters...)
	c.Parameters = append(c.Parameters, o.parameters()...)
	return c, nil
}

// parameters returns the words for Elver that the options ask for.
func (o *runOptions) parameters() []string {
	var words []string
	if o.strace != "" {
		words = append(words, "elver.strace="+machine.Quote(o.strace))
	}
	if o.timestamps {
		words = append(words, "elver.timestamps=1")
	}
	if o.summary {
		words = append(words, "elver.summary=1")
	}
	if o.core != "" {
		words = append(words, "elver.core="+machine.Quote(o.core))
	}
	if o.profile != "" {
		words = append(words, "elver.profile="+machine.Quote(o.profile))
	}
	if o.log != "" {
		words = append(words, "elver.log="+o.log)
	}
	if o.init {
		words = append(words, "elver.init=1")
	}
	if o.hostname != "" {
		words = append(words, "elver.hostname="+machine.Quote(o.hostname))
	}
	return words
}

// checkLine takes the command line apart as the kernel will: what it refuses is refused here, and no word
// of the program's may turn out to be one of Elver's.
func checkLine(c *machine.Config) error {
	line, err := c.CommandLine("")
	if err != nil {
		return err
	}
	program := ""
	if c.InitrdIsProgram {
		program = filepath.Base(c.Initrd)
	}
	p, err := boot.ParseCommandLine(line, program)
	if err != nil {
		return fmt.Errorf("the kernel wouldn't take this: %w", err)
	}
	if !c.Plain && !slices.Equal(p.Argv, c.Argv) && !(len(c.Argv) == 0 && len(p.Argv) <= 1) {
		return errors.New("the program's arguments don't survive the kernel's command line")
	}
	return nil
}
