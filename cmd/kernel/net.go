//go:build elver

package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"elver/boot"
	"elver/kernel"
	"elver/kernel/klog"
	"elver/kernel/mm"
	"elver/net"
	"elver/net/inet"
	"elver/net/netlink"
	"elver/net/unixsocket"
	"elver/net/virtionet"
	"elver/platform/kvm/virtio"
	"elver/vfs"
	"elver/vfs/ninep"
	"elver/vfs/procfs"
	"elver/vfs/tmpfs"
)

// leaseWait is how long the program's start waits for a DHCP server: those of virtual machines answer at
// once, and a name server that is known from the start is one that every program finds.
const leaseWait = 100 * time.Millisecond

// registerFamilies has programs make sockets.
func registerFamilies() *inet.Network {
	network := new(inet.Network)
	for _, number := range []int{unix.AF_INET, unix.AF_INET6} {
		net.Register(number, inet.Family{Network: network, Number: number})
	}
	net.RegisterInterfaces(network.Ioctl)
	network.Follow(func(e inet.Event) { netlink.Announce(network, e) })
	net.Register(unix.AF_PACKET, inet.PacketFamily{Network: network})
	net.Register(unix.AF_NETLINK, netlink.Family{Network: network})
	return network
}

// procNet makes the files of /proc/net.
func procNet(network *inet.Network) map[string]func() string {
	files := network.ProcFiles()
	files["unix"] = unixsocket.Proc
	files["netlink"] = netlink.Proc
	return files
}

// netSettings makes the files of /proc/sys/net that can be set.
func netSettings(network *inet.Network) []procfs.Setting {
	var list []procfs.Setting
	for _, s := range network.Settings() {
		list = append(list, procfs.Setting(s))
	}
	return list
}

// sysDevices makes the files of network interfaces in /sys.
func sysDevices(network *inet.Network) []procfs.Entry {
	var list []procfs.Entry
	for _, e := range network.SysFiles() {
		list = append(list, procfs.Entry(e))
	}
	return list
}

// startNetwork makes the machine's network cards interfaces, with the addresses of netdev.ip in their
// order, or a DHCP server's.
func startNetwork(network *inet.Network, devices []*virtio.Device, params *boot.Params, c *vfs.Context, k *kernel.Kernel) {
	addresses := params.NetdevIP
	use := func(c *vfs.Context, nic tcpip.NICID, name string, l *inet.Lease) {
		if params.Hostname != "" {
			l.Hostname = "" // the user's choice counts
		}
		configure(network, nic, name, l, c, k)
	}
	c = vfs.BootContext(vfs.NewFiles(c.Files.Namespace())) // the process's are its own to change
	network.LookForDuplicates()
	var once sync.Once
	network.OnNameServers(func(servers []string) {
		once.Do(func() { provideNameServers(vfs.BootContext(c.Files), "", servers) })
	})
	number := 0
	var configured []chan struct{}
	for at, v := range devices {
		if v.Type != virtio.Net || !v.Claim() {
			continue
		}
		link, err := virtionet.Open(v)
		if err != nil {
			klog.Warnf("a network card cannot be used: %v", err)
			continue
		}
		name := fmt.Sprintf("eth%d", number)
		nic, err := network.AddNIC(name, link)
		if err != nil {
			klog.Warnf("%s: %v", name, err)
			continue
		}
		network.SetPlace(nic, inet.Place{Bus: v.Bus(), Device: fmt.Sprintf("virtio%d", at), Features: v.Features()})
		if number < len(addresses) {
			use(c, nic, name, leaseOf(addresses[number]))
		} else {
			done := make(chan struct{})
			configured = append(configured, done)
			go func() {
				c := vfs.BootContext(c.Files)
				lease, err := network.AskDHCP(nic, nil)
				if err == nil {
					use(c, nic, name, lease)
				} else {
					klog.Warnf("%s has no address: %v", name, err)
				}
				close(done)
				if err == nil {
					network.KeepLease(nic, lease)
				}
			}()
		}
		number++
	}
	if number > 0 {
		provide(c, "/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	}
	patience := time.After(leaseWait)
	for _, done := range configured {
		select {
		case <-done:
		case <-patience:
			return
		}
	}
}

// leaseOf makes a value of netdev.ip a lease for ever.
func leaseOf(a boot.NetdevIP) *inet.Lease {
	l := &inet.Lease{
		Address:  tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(a.Address), PrefixLen: a.PrefixBits},
		Hostname: a.Hostname, Domain: a.Domain,
	}
	if a.Gateway != (boot.IPv4{}) {
		l.Gateway = tcpip.AddrFrom4(a.Gateway)
	}
	for _, server := range a.DNS {
		l.DNS = append(l.DNS, tcpip.AddrFrom4(server))
	}
	return l
}

// configure gives an interface its address, and the machine what else came with it.
func configure(network *inet.Network, nic tcpip.NICID, name string, l *inet.Lease, c *vfs.Context, k *kernel.Kernel) {
	if err := network.Configure(nic, l); err != nil {
		klog.Warnf("%s: the address %v cannot be used: %v", name, l.Address, err)
		return
	}
	klog.Infof("%s: %v, gateway %v", name, l.Address, l.Gateway)
	if l.Hostname != "" {
		k.SetHostname(l.Hostname)
		provide(c, "/etc/hostname", l.Hostname+"\n")
	}
	var servers []string
	for _, server := range l.DNS {
		servers = append(servers, server.String())
	}
	if len(servers) > 0 {
		search := strings.Join(l.Search, " ")
		if search == "" {
			search = l.Domain
		}
		provideNameServers(c, search, servers)
	}
}

// provideNameServers makes /etc/resolv.conf: those that are known first count.
func provideNameServers(c *vfs.Context, search string, servers []string) {
	var text strings.Builder
	if search != "" {
		fmt.Fprintf(&text, "search %s\n", search)
	}
	for _, server := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	provide(c, "/etc/resolv.conf", text.String())
}

// providing is held while a file is provided: IPv4's configuration and routers of IPv6 may bring name servers at once.
var providing sync.Mutex

// provide makes a file of /etc that the root lacks: in memory, never on the host.
func provide(c *vfs.Context, path, text string) {
	providing.Lock()
	defer providing.Unlock()
	if c.Access(vfs.AtCWD, path, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) != unix.ENOENT {
		return
	}
	etc, err := c.Walk(vfs.AtCWD, "/etc", 0)
	share, shared := c.Files.Namespace().Root().Mount.FS().(*ninep.FS)
	switch {
	case err == unix.ENOENT && !shared:
		err = c.Mkdir(vfs.AtCWD, "/etc", 0o755)
	case err == nil && etc.Inode().FS() == vfs.FileSystem(share):
		err = provideOver(c, share, etc, path, text)
		shared = true
	case err == nil:
		shared = false
	}
	if err == nil && !shared {
		_, err = writeFile(c, path, text)
	}
	if err != nil {
		klog.Infof("%s: %v", path, err)
	}
}

// provideOver mounts a file in memory on the place that path has in the folder etc of a share.
func provideOver(c *vfs.Context, share *ninep.FS, etc vfs.Path, path, text string) error {
	memory := vfs.BootContext(vfs.NewFiles(vfs.NewNamespace(tmpfs.New(tmpfs.Options{Pages: 256}).Root(), "tmpfs")))
	name := path[strings.LastIndexByte(path, '/')+1:]
	file, err := writeFile(memory, "/"+name, text)
	if err != nil {
		return err
	}
	if err := share.AddPlace(etc.Inode(), name); err != nil {
		return err
	}
	at, err := c.Walk(vfs.AtCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		_, err = c.Files.Namespace().Attach(at, file, "tmpfs", unix.MS_RELATIME)
	}
	return err
}

// writeFile makes a file.
func writeFile(c *vfs.Context, path, text string) (*vfs.Dentry, error) {
	file, err := c.OpenFile(vfs.AtCWD, path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	defer file.Decref()
	b := mm.KernelBuffer([]byte(text))
	_, err = file.File().Write(c, &b, 0)
	return file.Path().Dentry, err
}
