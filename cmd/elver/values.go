package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"

	"elver/cmd/elver/machine"
)

// What follows takes the values of options apart. Errors say what a value is to look like.

func absolute(v string, to *string) error {
	if !strings.HasPrefix(v, "/") {
		return fmt.Errorf("%q is not an absolute path", v)
	}
	*to = path.Clean(v)
	return nil
}

func parseMemory(v string) (int, error) {
	number, shift := v, 20
	if n := len(v); n > 0 {
		if i := strings.IndexByte("kmg", v[n-1]|0x20); i >= 0 {
			number, shift = v[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if mb := n << shift >> 20; err == nil && mb >= 1 && mb <= 1<<20 {
		return int(mb), nil
	}
	return 0, fmt.Errorf("%q is not a size from 1 MB to 1024 GB, such as 512 or 2G", v)
}

func parsePort(v string) (uint16, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", v)
	}
	return uint16(n), nil
}

// maxForwards is how many ports one option may name.
const maxForwards = 256

// parsePorts takes a port or a range of them, and returns the first and how many there are.
func parsePorts(v string) (first uint16, n int, err error) {
	from, to, isRange := strings.Cut(v, "-")
	if first, err = parsePort(from); err != nil || !isRange {
		return first, 1, err
	}
	last, err := parsePort(to)
	if n = int(last) - int(first) + 1; err == nil && (n < 1 || n > maxForwards) {
		err = fmt.Errorf("%q is not a range of 1 to %d ports", v, maxForwards)
	}
	return first, n, err
}

func parseForwards(v string) ([]machine.Forward, error) {
	f := machine.Forward{Protocol: "tcp"}
	ports, protocol, ok := strings.Cut(v, "/")
	if ok {
		if protocol != "tcp" && protocol != "udp" {
			return nil, fmt.Errorf("%q: the protocol is tcp or udp", v)
		}
		f.Protocol = protocol
	}
	fields := strings.Split(ports, ":")
	if len(fields) == 1 {
		fields = append(fields, fields[0])
	}
	if len(fields) == 3 {
		address, err := netip.ParseAddr(fields[0])
		if err != nil || !address.Is4() {
			return nil, fmt.Errorf("%q: %q is not an IPv4 address of this host", v, fields[0])
		}
		f.HostAddress = address.String()
		fields = fields[1:]
	}
	if len(fields) != 2 {
		return nil, fmt.Errorf("%q is not HOST:GUEST, two ports", v)
	}
	host, n, err := parsePorts(fields[0])
	guest, guests, guestErr := parsePorts(fields[1])
	if err = errors.Join(err, guestErr); err != nil {
		return nil, err
	}
	if n != guests {
		return nil, fmt.Errorf("%q: %d ports of this host cannot be %d of the program's", v, n, guests)
	}
	forwards := make([]machine.Forward, n)
	for i := range forwards {
		f.Host, f.Guest = host+uint16(i), guest+uint16(i)
		forwards[i] = f
	}
	return forwards, nil
}

func parseVolume(v string) (machine.Volume, error) {
	rest, readOnly := strings.CutSuffix(v, ":ro")
	if !readOnly {
		rest = strings.TrimSuffix(rest, ":rw")
	}
	// The host's path may hold colons: the guest's begins at the last one.
	i := strings.LastIndex(rest, ":")
	if i <= 0 || !strings.HasPrefix(rest[i+1:], "/") {
		return machine.Volume{}, fmt.Errorf("%q is not DIRECTORY:/PATH or DIRECTORY:/PATH:ro", v)
	}
	vol := machine.Volume{Host: rest[:i], Guest: path.Clean(rest[i+1:]), ReadOnly: readOnly}
	if vol.Guest == "/" {
		return vol, fmt.Errorf("%q: to have a directory as the root, run it: elver run %s", v, vol.Host)
	}
	info, err := os.Stat(vol.Host)
	switch {
	case err != nil:
		return vol, fmt.Errorf("there is no directory %s on this host", vol.Host)
	case !info.IsDir():
		return vol, fmt.Errorf("%s is not a directory: share the one that it is in", vol.Host)
	}
	return vol, nil
}

func parseIP(v string) (netip.Prefix, error) {
	if !strings.Contains(v, "/") {
		v += "/24"
	}
	p, err := netip.ParsePrefix(v)
	if err != nil || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 29 {
		return p, fmt.Errorf("%q is not an IPv4 address with 8 to 29 bits of network, such as 10.0.2.20/24", v)
	}
	host := p.Addr().As4()[3]
	if network := p.Masked().Addr().As4(); host == network[3] || host-network[3] <= 4 && p.Bits() >= 24 {
		return p, fmt.Errorf("%s: the first four addresses of the network are QEMU's", v)
	}
	return p, nil
}

func (o *runOptions) addEnv(v string) error {
	name, _, hasValue := strings.Cut(v, "=")
	if name == "" {
		return fmt.Errorf("%q is not NAME=value", v)
	}
	if !hasValue {
		value, ok := os.LookupEnv(name)
		if !ok {
			return nil
		}
		v += "=" + value
	}
	o.env = append(o.env, v)
	return nil
}

func (o *runOptions) addEnvFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := o.addEnv(line); err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return lines.Err()
}
