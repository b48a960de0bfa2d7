package inet

import (
	"path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"

	"elver/kernel"
	"elver/vfs"
)

// TestSysFiles has a card on PCI, one elsewhere and lo in /sys: each link leads to something there, and what is known
// of an interface that is up isn't known of one that is down.
func TestSysFiles(t *testing.T) {
	n := new(Network)
	for name, p := range map[string]Place{"eth0": {Bus: "0000:00:03.0", Device: "virtio1"}, "eth1": {Device: "virtio4"}} {
		nic, err := n.AddNIC(name, channel.New(1, 1500, "\x02\x00\x00\x00\x00\x07"))
		if err != nil {
			t.Fatal(err)
		}
		n.SetPlace(nic, p)
	}
	places := map[string]bool{}
	files := map[string]SysFile{}
	list := n.SysFiles()
	for _, f := range list {
		if _, twice := files[f.Path]; twice {
			t.Errorf("%s is there twice", f.Path)
		}
		files[f.Path] = f
		for p := f.Path; p != "."; p = path.Dir(p) {
			places[p] = true
		}
	}
	for _, f := range list {
		if f.Target == "" {
			continue
		}
		if to := path.Join(path.Dir(f.Path), f.Target); !places[to] && to != "bus/virtio" && to != "class/net" {
			t.Errorf("%s leads to %s, which isn't there", f.Path, to)
		}
	}
	if got := files["class/net/eth0"].Target; got != "../../devices/pci0000:00/0000:00:03.0/virtio1/net/eth0" {
		t.Errorf("eth0 is at %s", got)
	}
	content := func(name, file string) string {
		s, err := files[path.Join("class/net", files["class/net/"+name].Target, file)].Get()
		if err != nil {
			return err.Error()
		}
		return strings.TrimSuffix(s, "\n")
	}
	for _, c := range [][3]string{
		{"lo", "address", "00:00:00:00:00:00"}, {"lo", "flags", "0x9"}, {"lo", "type", "772"}, {"lo", "mtu", "65536"}, {"lo", "operstate", "unknown"},
		{"lo", "speed", "invalid argument"}, {"lo", "carrier", "1"}, {"lo", "statistics/rx_packets", "0"}, {"lo", "ifindex", "1"},
		{"eth0", "address", "02:00:00:00:00:07"}, {"eth0", "broadcast", "ff:ff:ff:ff:ff:ff"}, {"eth0", "flags", "0x1003"}, {"eth0", "type", "1"},
		{"eth0", "mtu", "1500"}, {"eth0", "operstate", "up"}, {"eth0", "speed", "-1"}, {"eth0", "duplex", "unknown"}, {"eth0", "name_assign_type", "1"},
	} {
		if got := content(c[0], c[1]); got != c[2] {
			t.Errorf("%s of %s: %q, want %q", c[1], c[0], got, c[2])
		}
	}

	set := func(c *vfs.Context, file, value string) error {
		return files["devices/platform/virtio4/net/eth1/"+file].Set(c, value)
	}
	nobody := context()
	nobody.Creds = new(kernel.Credentials)
	if err := set(nobody, "mtu", "1400\n"); err != unix.EPERM {
		t.Errorf("somebody without privileges sets the MTU: %v", err)
	}
	for _, bad := range []string{"", "much", "0", "-1", "65537", "99999999999"} {
		if err := set(context(), "mtu", bad); err != unix.EINVAL {
			t.Errorf("an MTU of %q: %v", bad, err)
		}
	}
	if err := set(context(), "flags", "0x1002\n"); err != nil {
		t.Error(err)
	}
	for file, want := range map[string]string{"flags": "0x1002", "operstate": "down", "carrier": "invalid argument", "dormant": "invalid argument"} {
		if got := content("eth1", file); got != want {
			t.Errorf("%s of an interface that is down: %q, want %q", file, got, want)
		}
	}
}

// TestFibTrie makes a trie of routes as Linux 6.18 does, whose text this is.
func TestFibTrie(t *testing.T) {
	leaf := func(key uint32, prefix int, scope, kind string) *fibLeaf {
		return &fibLeaf{key, []fibRoute{{prefix, scope, kind}}}
	}
	root := fibTrie([]*fibLeaf{
		leaf(0x0a000200, 24, "link", "UNICAST"), leaf(0x0a00020f, 32, "host", "LOCAL"), leaf(0x0a0002ff, 32, "link", "BROADCAST"),
		leaf(0x7f000000, 8, "host", "LOCAL"), leaf(0x7f000001, 32, "host", "LOCAL"), leaf(0x7fffffff, 32, "link", "BROADCAST"),
	})
	var b strings.Builder
	root.write(&b, 0)
	const want = `  +-- 0.0.0.0/1 2 0 2
     +-- 10.0.2.0/24 2 0 2
        +-- 10.0.2.0/28 2 0 2
           |-- 10.0.2.0
              /24 link UNICAST
           |-- 10.0.2.15
              /32 host LOCAL
        |-- 10.0.2.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
`
	if b.String() != want {
		t.Errorf("the trie is\n%swant\n%s", b.String(), want)
	}
	var s fibStat
	s.add(root, 0)
	if s.leaves != 6 || s.prefixes != 6 || s.pointers != 18 || s.empty != 8 || s.deepest != 3 || s.inner[1] != 1 || s.inner[2] != 4 {
		t.Errorf("it counts as %+v", s)
	}
	if fibTrie(nil) != nil {
		t.Error("a trie of nothing isn't nothing")
	}
}

// TestFibTrieOfAll has every address of a small network and both ends of all addresses in the trie.
func TestFibTrieOfAll(t *testing.T) {
	var leaves []*fibLeaf
	for key := range uint32(300) {
		leaves = append(leaves, &fibLeaf{key, []fibRoute{{32, "host", "LOCAL"}}})
	}
	leaves = append(leaves, &fibLeaf{^uint32(0), []fibRoute{{32, "host", "LOCAL"}}})
	var s fibStat
	s.add(fibTrie(leaves), 0)
	if s.leaves != len(leaves) || s.pointers > 4*len(leaves) {
		t.Errorf("%d leaves count as %+v", len(leaves), s)
	}
}

// TestStatistics reads the files of numbers: as many values as names, and those that a connection within the machine
// makes.
func TestStatistics(t *testing.T) {
	n := new(Network)
	a, b := connected(t, n)
	defer a.Release()
	defer b.Release()
	values := map[string]string{}
	for _, text := range []string{n.procSNMP(), n.procNetstat()} {
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for i := 0; i < len(lines); i += 2 {
			names, numbers := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			if len(names) != len(numbers) || names[0] != numbers[0] {
				t.Fatalf("%d names and %d values: %s", len(names), len(numbers), lines[i])
			}
			for at, name := range names[1:] {
				values[names[0]+name] = numbers[at+1]
			}
		}
	}
	for name, want := range map[string]string{"Ip:DefaultTTL": "64", "Ip:Forwarding": "2", "Tcp:ActiveOpens": "1", "Tcp:PassiveOpens": "1", "Tcp:CurrEstab": "2", "TcpExt:TCPTimeouts": "0"} {
		if values[name] != want {
			t.Errorf("%s is %q, want %q", name, values[name], want)
		}
	}
	for _, name := range []string{"Ip:InReceives", "Ip:InDelivers", "Ip:OutRequests", "Tcp:InSegs", "Tcp:OutSegs", "IpExt:InOctets"} {
		if values[name] == "0" || values[name] == "" {
			t.Errorf("%s is %q after a connection", name, values[name])
		}
	}
	for _, text := range []string{n.procSNMP6(), n.interfaceSNMP6()["lo"]()} {
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) != 2 || !strings.Contains(line, " \t") {
				t.Errorf("not a name and a number: %q", line)
			}
		}
	}
}

// TestProcNet reads all files of /proc/net: each line ends, and those of tables have their heads.
func TestProcNet(t *testing.T) {
	n := new(Network)
	if err := n.AddAddress(LoopbackNIC, tcpip.AddressWithPrefix{Address: tcpip.AddrFrom16([16]byte{0: 0xfe, 1: 0xc0, 15: 9}), PrefixLen: 64}); err != nil {
		t.Fatal(err)
	}
	for name, content := range n.ProcFiles() {
		if text := content(); text != "" && text[len(text)-1] != '\n' {
			t.Errorf("%s ends in the middle of a line", name)
		}
	}
	addresses := n.procAddresses6()
	for _, want := range []string{
		"00000000000000000000000000000001 01 80 10 80       lo\n",
		"fec00000000000000000000000000009 01 40 40 80       lo\n",
	} {
		if !strings.Contains(addresses, want) {
			t.Errorf("if_inet6 has no %q:\n%s", want, addresses)
		}
	}
	for line := range strings.Lines(n.procRoute6()) {
		if f := strings.Fields(line); len(f) != 10 || len(f[0]) != 32 || len(f[4]) != 32 {
			t.Errorf("not a route: %q", line)
		}
	}
	for _, line := range strings.Split(strings.TrimSuffix(n.procProtocols(), "\n"), "\n") {
		if got := len(strings.Fields(line)); got != 26 {
			t.Errorf("%d fields: %q", got, line)
		}
	}
}
