package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Console is what the program's file descriptors 0 to 2 are.
type Console string

const (
	ConsoleTTY  Console = "tty"  // a terminal, the default
	ConsolePipe Console = "pipe" // not a terminal; input is byte-stuffed by the host
)

// Params is the command line, taken apart.
type Params struct {
	// Argv is the program's. It is empty when the command line names no program and there is no
	// program in the initrd whose name is known.
	Argv []string
	Env  []string // env.vars: what the user set; see Environment
	Dir  string   // working directory: PWD of env.vars, else "/"

	Fstab []string // vfs.fstab: source:target:type[:flags:options:ukoptions]
	// Before vfs.fstab Unikraft named the root file system by these.
	RootFS, RootDevice, RootOptions, RootFlags string

	NetdevIP   []NetdevIP         // netdev.ip, one for each device
	VirtioMMIO []VirtioMMIODevice // virtio_mmio.device

	Strace     bool    // elver.strace
	StraceSet  string  // elver.strace: which calls; empty: all
	Timestamps bool    // elver.timestamps
	Summary    bool    // elver.summary
	Log        string  // elver.log: debug, info, warning (the default) or error
	Console    Console // elver.console
	// StderrToLog is elver.stderr=log: without a terminal, standard error goes to the log channel.
	StderrToLog bool
	// Rows and Columns are elver.window: the terminal's size; 0: not known.
	Rows, Columns uint16
	Init          string // elver.init=/…: the program's path, where argv[0] is another name
	OwnInit       bool   // elver.init=1: process 1 is the kernel's own
	// Entrypoint is elver.entrypoint: how many words of a bundle's command line the loader's don't replace.
	Entrypoint int
	User       *User // elver.user: who runs the program; nil: root
	// Hostname is elver.hostname: the machine's name, whatever a network says. Empty: not set.
	Hostname string
	// StopSignal is elver.stopsignal: what the power button sends to the program; 0: SIGTERM, to all.
	StopSignal int
	Profile    string // elver.profile
	Core       string // elver.core

	// Ignored are the words that have no meaning here and were passed over: Linux's, those of
	// Unikraft's other libraries, and the kernel's name where Unikraft wants it.
	Ignored []string

	oldNetdev oldNetdev
}

// NetdevIP is one value of netdev.ip: address/bits[:gateway[:dns0[:dns1[:hostname[:domain]]]]]. What
// is left out is zero.
type NetdevIP struct {
	Address    IPv4
	PrefixBits int
	Gateway    IPv4
	DNS        []IPv4
	Hostname   string
	Domain     string
}

// maxHostname is the longest name that sethostname(2) takes, in bytes.
const maxHostname = 64

// User is a value of elver.user: UID[:GID[:GROUP,GROUP…]], in numbers. Without a GID the group is 0.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
}

func parseUser(v string) (*User, error) {
	var failed bool
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 10, 32)
		// 2³²-1 means "leave it" in setuid(2) and its kin.
		failed = failed || err != nil || n == 1<<32-1
		return uint32(n)
	}
	fields := strings.Split(v, ":")
	u := &User{UID: number(fields[0])}
	if len(fields) > 1 {
		u.GID = number(fields[1])
	}
	if len(fields) > 2 {
		for _, s := range strings.Split(fields[2], ",") {
			u.Groups = append(u.Groups, number(s))
		}
	}
	if failed || len(fields) > 3 {
		return nil, fmt.Errorf("%q is not UID[:GID[:GROUP,GROUP…]] in numbers", v)
	}
	return u, nil
}

// setWindow takes ROWSxCOLUMNS.
func (p *Params) setWindow(v string) error {
	rows, columns, _ := strings.Cut(v, "x")
	for _, size := range []struct {
		text string
		to   *uint16
	}{{rows, &p.Rows}, {columns, &p.Columns}} {
		n, err := strconv.ParseUint(size.text, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not ROWSxCOLUMNS, such as 24x80", v)
		}
		*size.to = uint16(n)
	}
	return nil
}

// IPv4 is an address in network byte order.
type IPv4 [4]byte

func (a IPv4) String() string { return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3]) }

// VirtioMMIODevice is one value of virtio_mmio.device: size@base:irq[:id], as Linux has it.
type VirtioMMIODevice struct {
	Base, Size uint64
	IRQ        uint32
}

// The environment that a program gets unless env.vars says otherwise.
var defaultEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root",
	"TERM=linux",
}

// Environment returns the defaults, overridden and followed by what env.vars sets. The last value of
// a variable counts.
func (p *Params) Environment() []string {
	var env []string
	for _, v := range append(slices.Clone(defaultEnv), p.Env...) {
		name, _, _ := strings.Cut(v, "=")
		i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if i < 0 {
			env = append(env, v)
		} else {
			env[i] = v
		}
	}
	return env
}

// families maps a family to its keys. Setters get one value; a value in brackets is several calls.
var families = map[string]map[string]setter{
	"env": {"vars": list((*Params).addEnv)},
	"vfs": {
		"fstab":     list(func(p *Params, v string) error { p.Fstab = append(p.Fstab, v); return nil }),
		"rootfs":    text(func(p *Params) *string { return &p.RootFS }),
		"rootdev":   text(func(p *Params) *string { return &p.RootDevice }),
		"rootopts":  text(func(p *Params) *string { return &p.RootOptions }),
		"rootflags": text(func(p *Params) *string { return &p.RootFlags }),
	},
	"netdev": {
		"ip":               list((*Params).addNetdevIP),
		"ipv4_addr":        ipv4(func(o *oldNetdev) *IPv4 { return &o.address }),
		"ipv4_gw_addr":     ipv4(func(o *oldNetdev) *IPv4 { return &o.gateway }),
		"ipv4_subnet_mask": ipv4(func(o *oldNetdev) *IPv4 { return &o.mask }),
	},
	"virtio_mmio": {"device": list((*Params).addVirtioMMIO)},
	"elver": {
		"strace":     {isBool: true, set: (*Params).setStrace},
		"timestamps": boolean(func(p *Params) *bool { return &p.Timestamps }),
		"summary":    boolean(func(p *Params) *bool { return &p.Summary }),
		"log": oneOf([]string{"debug", "info", "warning", "error"},
			func(p *Params, v string) { p.Log = v }),
		"console": oneOf([]string{string(ConsoleTTY), string(ConsolePipe)},
			func(p *Params, v string) { p.Console = Console(v) }),
		"window": {set: (*Params).setWindow},
		"entrypoint": {set: func(p *Params, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return fmt.Errorf("%q is not a number of words", v)
			}
			p.Entrypoint = n
			return nil
		}},
		"stderr": oneOf([]string{"console", "log"},
			func(p *Params, v string) { p.StderrToLog = v == "log" }),
		"init": {set: func(p *Params, v string) error {
			if strings.HasPrefix(v, "/") {
				p.Init = v
				return nil
			}
			if boolean(func(p *Params) *bool { return &p.OwnInit }).set(p, v) != nil {
				return fmt.Errorf("%q is neither an absolute path nor 1, for a process 1 of the kernel's own", v)
			}
			return nil
		}},
		"user": {set: func(p *Params, v string) (err error) {
			p.User, err = parseUser(v)
			return err
		}},
		"hostname": {set: func(p *Params, v string) error {
			if v == "" || len(v) > maxHostname || strings.ContainsAny(v, "/ \n\t") {
				return fmt.Errorf("%q is not a host name of 1 to %d letters", v, maxHostname)
			}
			p.Hostname = v
			return nil
		}},
		"stopsignal": {set: func(p *Params, v string) (err error) {
			p.StopSignal, err = parseSignal(v)
			return err
		}},
		"profile": text(func(p *Params) *string { return &p.Profile }),
		"core":    text(func(p *Params) *string { return &p.Core }),
	},
}

// signals are the names of Linux's on x86-64, from 1 on (signal(7)): of the host's own there may be others.
var signals = strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS")

// Real-time signals, as the C libraries number them for programs.
const signalRTMin, signalRTMax = 34, 64

// parseSignal takes a signal by number or name, with or without SIG: TERM, SIGTERM, 15, RTMIN+3.
func parseSignal(v string) (int, error) {
	name := strings.TrimPrefix(strings.ToUpper(v), "SIG")
	n := slices.Index(signals, name) + 1
	if n == 0 {
		n, _ = strconv.Atoi(name)
	}
	for _, base := range []struct {
		name  string
		value int
	}{{"RTMIN", signalRTMin}, {"RTMAX", signalRTMax}} {
		if offset, ok := strings.CutPrefix(name, base.name); ok {
			add, err := strconv.Atoi(offset)
			if n = base.value + add; n < signalRTMin || err != nil && offset != "" {
				n = 0
			}
		}
	}
	if n < 1 || n > signalRTMax {
		return 0, fmt.Errorf("%q is no signal, such as QUIT, SIGTERM or 15", v)
	}
	return n, nil
}

// setter is what a parameter does with its value. Its errors follow "parameter family.key: ".
type setter struct {
	set    func(*Params, string) error
	isList bool
	isBool bool // may stand without a value, which means true
}

func list(add func(*Params, string) error) setter { return setter{set: add, isList: true} }

func text(field func(*Params) *string) setter {
	return setter{set: func(p *Params, v string) error { *field(p) = v; return nil }}
}

func oneOf(choices []string, set func(*Params, string)) setter {
	return setter{set: func(p *Params, v string) error {
		if !slices.Contains(choices, v) {
			return fmt.Errorf("%q is not one of %s", v, strings.Join(choices, ", "))
		}
		set(p, v)
		return nil
	}}
}

// setStrace takes a truth value or a list of system calls.
func (p *Params) setStrace(v string) error {
	p.StraceSet = ""
	if err := boolean(func(p *Params) *bool { return &p.Strace }).set(p, v); err != nil {
		p.Strace, p.StraceSet = true, v
	}
	return nil
}

// boolean takes what Unikraft takes: true, on, yes or a number that isn't zero, and their opposites.
func boolean(field func(*Params) *bool) setter {
	return setter{isBool: true, set: func(p *Params, v string) error {
		switch v {
		case "true", "on", "yes":
			*field(p) = true
		case "false", "off", "no":
			*field(p) = false
		default:
			n, err := strconv.ParseInt(v, 0, 64)
			if err != nil {
				return fmt.Errorf("%q is neither true (1, on, yes) nor false (0, off, no)", v)
			}
			*field(p) = n != 0
		}
		return nil
	}}
}

// Words that people, loaders and hypervisors put on Linux's command line out of habit. Only what
// can't well be a program or its argument is here.
var linuxWords = []string{
	"quiet", "ro", "rw", "nokaslr", "noapic", "nolapic", "nosmp", "nomodule", "nomodules",
	"i8042.dumbkbd", "i8042.noaux", "i8042.nomux", "i8042.nopnp",
}

var linuxKeys = []string{
	"console", "root", "rootfstype", "rootflags", "reboot", "panic", "pci", "tsc", "loglevel",
	"earlyprintk", "earlycon", "clocksource", "swiotlb", "8250.nr_uarts", "random.trust_cpu", "BOOT_IMAGE",
}

// ParseCommandLine takes the command line apart. program is the base name of the initrd's file when
// that is an ELF, else empty: if the first word of argv has that base name, it is argv[0], otherwise
// program is argv[0] and all words are arguments.
//
// The line is "[parameters] -- argv…". Without "--", leading words that are parameters or Linux's
// are taken off and the rest is argv. A "--" counts only if what is before it can be parameters, so
// that "sh -c 'echo $1' -- x" is a program's command line; the one word there that may have no
// meaning at all is the first, where Unikraft's tools write the kernel's name. Hypervisors append
// virtio_mmio.device=… after everything: at the end of argv these are parameters, too, unless
// they are quoted, which no hypervisor does.
//
// An error is one sentence about the word that caused it.
func ParseCommandLine(line, program string) (*Params, error) {
	return ParseBundledLine("", line, program)
}

// ParseBundledLine takes apart the command line that an image has inside together with the loader's line. The
// loader's parameters come after the image's own; its other words replace those of the image's but for the
// first elver.entrypoint.
func ParseBundledLine(bundled, line, program string) (*Params, error) {
	p := newParams()
	var argv []word
	if bundled != "" {
		words, err := splitWords(bundled)
		if err == nil {
			p, argv, err = p.parseWords(words, program)
		}
		if err != nil {
			return nil, fmt.Errorf("the image's own command line: %w", err)
		}
	}
	words, err := splitWords(line)
	if err != nil {
		return nil, err
	}
	appended := len(words)
	for appended > 0 && !words[appended-1].quoted && isVirtioMMIODevice(words[appended-1].text) {
		appended--
	}
	p, given, err := p.parseWords(words[:appended], program)
	if err != nil {
		return nil, err
	}
	if len(given) > 0 {
		argv = append(argv[:min(p.Entrypoint, len(argv))], given...)
	}
	if _, err := p.takeAll(words[appended:]); err != nil {
		return nil, err
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	for _, w := range argv {
		p.Argv = append(p.Argv, w.text)
	}
	if program != "" && (len(p.Argv) == 0 || baseName(p.Argv[0]) != program) {
		p.Argv = slices.Insert(p.Argv, 0, program)
	}
	return p, nil
}

func newParams() *Params { return &Params{Dir: "/", Log: "warning", Console: ConsoleTTY} }

// parseWords reads the parameters, and returns them over those of p and what is the program's.
func (p *Params) parseWords(words []word, program string) (*Params, []word, error) {
	before := *p
	rest, found, err := p.takeToSeparator(words, program)
	if err != nil {
		return nil, nil, err
	}
	if !found {
		p = &before
		if rest, err = p.takeAll(words); err != nil {
			return nil, nil, err
		}
	}
	return p, rest, nil
}

// takeToSeparator reads parameters up to "--" and returns what follows it. found is false if there
// is no "--" or something before it cannot be a parameter.
func (p *Params) takeToSeparator(words []word, program string) (rest []word, found bool, err error) {
	isSeparator := func(w word) bool { return w.text == "--" }
	if !slices.ContainsFunc(words, isSeparator) {
		return nil, false, nil
	}
	for first := true; len(words) > 0; first = false {
		w := words[0]
		if isSeparator(w) {
			return words[1:], true, nil
		}
		n, err := p.take(words)
		switch {
		case err != nil:
			return nil, false, err
		case n > 0:
		case isAssignment(w.text):
			if n = 1; w.listOpen {
				if n = listLength(words); n == 0 {
					return nil, false, errOpenList(w)
				}
			}
			p.Ignored = append(p.Ignored, w.text)
		case isParameterName(w.text):
			return nil, false, fmt.Errorf("parameter %s needs a value: %s=…", w.text, w.text)
		case first && w.text != program && !strings.ContainsAny(w.text, "/=") && !strings.HasPrefix(w.text, "-"):
			n = 1
			p.Ignored = append(p.Ignored, w.text)
		default:
			return nil, false, nil
		}
		words = words[n:]
	}
	return nil, false, nil
}

// takeAll reads leading parameters and returns the words after them.
func (p *Params) takeAll(words []word) ([]word, error) {
	for len(words) > 0 {
		n, err := p.take(words)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		words = words[n:]
	}
	return words, nil
}

// take reads one parameter, or one of Linux's, and returns how many words it has: 0 if the first
// word isn't a parameter.
func (p *Params) take(words []word) (int, error) {
	w := words[0]
	name, value, hasValue := strings.Cut(w.text, "=")
	family, key, _ := strings.Cut(name, ".")
	keys := families[family]
	s, known := keys[key]
	switch {
	case keys == nil || !strings.Contains(name, ".") || !hasValue && !(known && s.isBool):
		if slices.Contains(linuxWords, w.text) || hasValue && slices.Contains(linuxKeys, name) {
			p.Ignored = append(p.Ignored, w.text)
			return 1, nil
		}
		return 0, nil
	case !known:
		return 0, fmt.Errorf("unknown parameter %s: the family %s has %s", name, family, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
	case !hasValue:
		value = "1"
	}
	values, n := []string{value}, 1
	if w.listOpen {
		if !s.isList {
			return 0, fmt.Errorf("parameter %s takes one value, not a list in brackets", name)
		}
		if n = listLength(words); n == 0 {
			return 0, errOpenList(w)
		}
		values = listValues(words[:n])
	}
	for _, v := range values {
		if err := s.set(p, v); err != nil {
			return 0, fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return n, nil
}

// listLength returns the number of words of the list that begins in the first one, 0 if it doesn't
// end.
func listLength(words []word) int {
	return 1 + slices.IndexFunc(words, func(w word) bool { return w.listClose })
}

func errOpenList(w word) error {
	name, _, _ := strings.Cut(w.text, "=")
	return fmt.Errorf("parameter %s begins a list that no ] ends", name)
}

// listValues returns the elements of a list. Its brackets may stand alone or touch an element.
func listValues(words []word) []string {
	var values []string
	for i, w := range words {
		v := w.text
		if i == len(words)-1 {
			v = v[:len(v)-1]
		}
		if i == 0 {
			_, v, _ = strings.Cut(v, "=[")
		}
		if v != "" {
			values = append(values, v)
		}
	}
	return values
}

// isAssignment reports whether the word has the form of a parameter with a value, whoever's it is.
func isAssignment(text string) bool {
	name, _, ok := strings.Cut(text, "=")
	return ok && name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	})
}

func isParameterName(text string) bool {
	family, key, ok := strings.Cut(text, ".")
	_, known := families[family][key]
	return ok && known
}

func isVirtioMMIODevice(text string) bool {
	value, ok := strings.CutPrefix(text, "virtio_mmio.device=")
	return ok && new(Params).addVirtioMMIO(value) == nil
}

// finish checks what only the whole line tells.
func (p *Params) finish() error {
	if len(p.NetdevIP) == 0 && p.oldNetdev != (oldNetdev{}) {
		old := p.oldNetdev
		if old.address == (IPv4{}) || old.mask == (IPv4{}) {
			return errors.New("netdev.ipv4_addr and netdev.ipv4_subnet_mask need each other; better is netdev.ip=address/bits:gateway")
		}
		mask := binary.BigEndian.Uint32(old.mask[:])
		ones := bits.LeadingZeros32(^mask)
		if mask<<ones != 0 {
			return fmt.Errorf("parameter netdev.ipv4_subnet_mask: %v is not a mask, which is ones and then zeros", old.mask)
		}
		p.NetdevIP = []NetdevIP{{Address: old.address, PrefixBits: ones, Gateway: old.gateway}}
	}
	for _, v := range p.Env {
		if dir, ok := strings.CutPrefix(v, "PWD="); ok {
			if !strings.HasPrefix(dir, "/") {
				return fmt.Errorf("parameter env.vars: PWD=%s is not an absolute path", dir)
			}
			p.Dir = dir
		}
	}
	return nil
}

func (p *Params) addEnv(v string) error {
	if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
		return fmt.Errorf("%q is not NAME=value", v)
	}
	p.Env = append(p.Env, v)
	return nil
}

func (p *Params) addNetdevIP(v string) error {
	fields := strings.Split(v, ":")
	if len(fields) > 6 {
		return fmt.Errorf("%q has more fields than address/bits:gateway:dns:dns:hostname:domain", v)
	}
	fields = append(fields, make([]string, 6-len(fields))...)
	var n NetdevIP
	if fields[0] != "" {
		address, prefix, ok := strings.Cut(fields[0], "/")
		if !ok {
			return fmt.Errorf("%q lacks the length of its network prefix, such as %s/24", v, address)
		}
		var err error
		if n.Address, err = parseIPv4(address); err != nil {
			return err
		}
		if n.PrefixBits, err = strconv.Atoi(prefix); err != nil || n.PrefixBits < 0 || n.PrefixBits > 32 {
			return fmt.Errorf("%q is not the length of a network prefix, 0 to 32", prefix)
		}
	}
	for i, field := range fields[1:4] {
		if field == "" {
			continue
		}
		a, err := parseIPv4(field)
		if err != nil {
			return err
		}
		if i == 0 {
			n.Gateway = a
		} else {
			n.DNS = append(n.DNS, a)
		}
	}
	n.Hostname, n.Domain = fields[4], fields[5]
	p.NetdevIP = append(p.NetdevIP, n)
	return nil
}

// oldNetdev is what Unikraft before 0.16 took one by one for its first device.
type oldNetdev struct{ address, mask, gateway IPv4 }

func ipv4(field func(*oldNetdev) *IPv4) setter {
	return setter{set: func(p *Params, v string) (err error) {
		*field(&p.oldNetdev), err = parseIPv4(v)
		return err
	}}
}

func parseIPv4(s string) (a IPv4, err error) {
	parts := strings.Split(s, ".")
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || len(parts) != len(a) {
			return IPv4{}, fmt.Errorf("%q is not an IPv4 address", s)
		}
		a[i] = byte(n)
	}
	return a, nil
}

// addVirtioMMIO reads size@base:irq[:id], as Linux documents it (admin-guide/kernel-parameters).
func (p *Params) addVirtioMMIO(v string) error {
	bad := fmt.Errorf("%q is not size@base:irq", v)
	sizeText, rest, ok := strings.Cut(v, "@")
	if !ok {
		return bad
	}
	fields := strings.Split(rest, ":")
	if len(fields) != 2 && len(fields) != 3 {
		return bad
	}
	shift := 0
	if n := len(sizeText); n > 0 {
		// K, M, G in either case; a hexadecimal number has none of these letters.
		if i := strings.IndexByte("kmg", sizeText[n-1]|0x20); i >= 0 {
			shift, sizeText = 10*(i+1), sizeText[:n-1]
		}
	}
	size, err1 := strconv.ParseUint(sizeText, 0, 32)
	base, err2 := strconv.ParseUint(fields[0], 0, 64)
	irq, err3 := strconv.ParseUint(fields[1], 0, 32)
	if err := errors.Join(err1, err2, err3); err != nil || size == 0 || base+size<<shift < base {
		return bad
	}
	if len(fields) == 3 {
		if _, err := strconv.ParseUint(fields[2], 0, 32); err != nil {
			return bad
		}
	}
	p.VirtioMMIO = append(p.VirtioMMIO, VirtioMMIODevice{Base: base, Size: size << shift, IRQ: uint32(irq)})
	return nil
}
