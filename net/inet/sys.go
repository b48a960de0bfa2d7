package inet

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"elver/vfs"
)

// Place is where the device of an interface is in the machine.
type Place struct {
	Bus      string // the function of PCI, as lspci(8) prints it with its domain; "" for a device that isn't on PCI
	Device   string // virtio0 ...
	Features uint64 // of virtio
}

// SetPlace says where the device of an interface is. It is called before programs start.
func (n *Network) SetPlace(nic tcpip.NICID, p Place) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.places == nil {
		n.places = map[tcpip.NICID]Place{}
	}
	n.places[nic] = p
}

func (n *Network) place(nic tcpip.NICID) (Place, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.places[nic]
	return p, ok
}

// SysFile is a file of /sys, or a link if Target is not empty.
type SysFile struct {
	Path   string
	Get    func() (string, error)
	Set    func(c *vfs.Context, value string) error // nil: it can't be written
	Target string
}

// QueueLength is how many packets wait for a card on Linux, where there is such a queue.
const QueueLength = 1000

// SysFiles returns the files of the interfaces that there are now (Documentation/ABI/testing/sysfs-class-net).
func (n *Network) SysFiles() []SysFile {
	var list []SysFile
	for _, i := range n.Interfaces() {
		at, up := "virtual", "../../" // up leads to /sys from the device, or as far up from lo
		p, isDevice := n.place(tcpip.NICID(i.Index))
		if isDevice {
			at, up = "platform", "../../../"
			if p.Bus != "" {
				at, up = "pci"+strings.TrimSuffix(p.Bus, p.Bus[strings.LastIndexByte(p.Bus, ':'):])+"/"+p.Bus, "../../../../"
			}
			device := "devices/" + at + "/" + p.Device
			list = append(list, virtioFiles(device, up, &p)...)
			at += "/" + p.Device
		}
		at += "/net/" + i.Name
		list = append(list, SysFile{Path: "class/net/" + i.Name, Target: "../../devices/" + at})
		folder := "devices/" + at + "/"
		if isDevice {
			list = append(list, SysFile{Path: folder + "device", Target: "../../../" + p.Device})
		}
		list = append(list, SysFile{Path: folder + "subsystem", Target: up + "../../class/net"})
		list = append(list, n.interfaceFiles(folder, i, isDevice)...)
	}
	return list
}

// virtioFiles are the files of a network card as a device of virtio. up leads to /sys from there.
func virtioFiles(device, up string, p *Place) []SysFile {
	fixed := func(name, value string) SysFile {
		return SysFile{Path: device + "/" + name, Get: func() (string, error) { return value + "\n", nil }}
	}
	var features strings.Builder // bit by bit, the first first
	for bit := range 64 {
		features.WriteByte('0' + byte(p.Features>>bit&1))
	}
	const modalias = "virtio:d00000001v00001AF4"
	return []SysFile{
		fixed("device", "0x0001"), fixed("vendor", "0x1af4"), fixed("modalias", modalias), fixed("status", "0x0000000f"),
		fixed("features", features.String()), fixed("uevent", "DRIVER=virtio_net\nMODALIAS="+modalias),
		{Path: device + "/driver", Target: up + "bus/virtio/drivers/virtio_net"},
		{Path: device + "/subsystem", Target: up + "bus/virtio"},
		{Path: "bus/virtio/devices/" + p.Device, Target: "../../../" + device},
		{Path: "bus/virtio/drivers/virtio_net/" + p.Device, Target: "../../../../" + device},
	}
}

// interfaceFiles are the files of an interface below its folder.
func (n *Network) interfaceFiles(folder string, i Interface, isDevice bool) []SysFile {
	var list []SysFile
	file := func(name string, get func(i *Interface) (string, error)) *SysFile {
		list = append(list, SysFile{Path: folder + name, Get: func() (string, error) {
			for _, now := range n.Interfaces() {
				if now.Index == i.Index {
					s, err := get(&now)
					return s + "\n", err
				}
			}
			return "", unix.ENODEV
		}})
		return &list[len(list)-1]
	}
	fixed := func(name, value string) { file(name, func(*Interface) (string, error) { return value, nil }) }
	// running is for what is only known of an interface that is up.
	running := func(name, value string) {
		file(name, func(i *Interface) (string, error) {
			if !i.Up {
				return "", unix.EINVAL
			}
			return value, nil
		})
	}
	number := func(name string, get func(i *Interface) int) {
		file(name, func(i *Interface) (string, error) { return strconv.Itoa(get(i)), nil })
	}
	broadcast, nameType, changes := header.EthernetBroadcastAddress, "1", "2"
	if i.Loopback {
		broadcast, nameType, changes = "\x00\x00\x00\x00\x00\x00", "2", "0"
	}
	fixed("addr_assign_type", "0")
	fixed("addr_len", "6")
	fixed("address", i.hardwareAddress().String())
	fixed("broadcast", broadcast.String())
	running("carrier", "1")
	fixed("carrier_changes", changes)
	fixed("carrier_down_count", strconv.Itoa(int(changes[0]-'0')/2))
	fixed("carrier_up_count", strconv.Itoa(int(changes[0]-'0')/2))
	fixed("dev_id", "0x0")
	fixed("dev_port", "0")
	running("dormant", "0")
	if i.Loopback {
		for _, name := range []string{"duplex", "speed"} {
			file(name, func(*Interface) (string, error) { return "", unix.EINVAL })
		}
	} else {
		running("duplex", "unknown")
		running("speed", "-1")
	}
	file("flags", func(i *Interface) (string, error) {
		return fmt.Sprintf("%#x", i.Flags()&^(unix.IFF_RUNNING|unix.IFF_LOWER_UP)), nil
	}).Set = n.setter(i.Index, func(nic tcpip.NICID, v uint64) error { return n.SetUp(nic, v&unix.IFF_UP != 0) })
	fixed("gro_flush_timeout", "0")
	fixed("ifalias", "")
	fixed("ifindex", strconv.Itoa(i.Index))
	fixed("iflink", strconv.Itoa(i.Index))
	fixed("link_mode", "0")
	file("mtu", func(i *Interface) (string, error) { return strconv.Itoa(i.MTU), nil }).Set = n.setter(i.Index, n.setMTU)
	fixed("name_assign_type", nameType)
	fixed("napi_defer_hard_irqs", "0")
	fixed("netdev_group", "0")
	file("operstate", func(i *Interface) (string, error) {
		switch {
		case !i.Up:
			return "down", nil
		case i.Loopback:
			return "unknown", nil
		}
		return "up", nil
	})
	if isDevice {
		for _, name := range []string{"phys_port_id", "phys_port_name", "phys_switch_id"} {
			file(name, func(*Interface) (string, error) { return "", unix.EOPNOTSUPP })
		}
	}
	fixed("proto_down", "0")
	running("testing", "0")
	fixed("threaded", "0")
	fixed("tx_queue_len", strconv.Itoa(QueueLength))
	fixed("type", strconv.Itoa(int(i.Hardware())))
	fixed("uevent", fmt.Sprintf("INTERFACE=%s\nIFINDEX=%d", i.Name, i.Index))
	fixed("power/control", "auto")
	fixed("power/runtime_active_time", "0")
	fixed("power/runtime_status", "unsupported")
	fixed("power/runtime_suspended_time", "0")
	fixed("queues/rx-0/rps_cpus", "0")
	fixed("queues/rx-0/rps_flow_cnt", "0")
	fixed("queues/tx-0/tx_maxrate", "0")
	fixed("queues/tx-0/tx_timeout", "0")
	number("statistics/rx_packets", func(i *Interface) int { return int(i.Stats.Rx.Packets.Value()) })
	number("statistics/tx_packets", func(i *Interface) int { return int(i.Stats.Tx.Packets.Value()) })
	number("statistics/rx_bytes", func(i *Interface) int { return int(i.Stats.Rx.Bytes.Value()) })
	number("statistics/tx_bytes", func(i *Interface) int { return int(i.Stats.Tx.Bytes.Value()) })
	number("statistics/tx_dropped", func(i *Interface) int { return int(i.Stats.TxPacketsDroppedNoBufferSpace.Value()) })
	for _, name := range []string{
		"collisions", "multicast", "rx_compressed", "rx_crc_errors", "rx_dropped", "rx_errors", "rx_fifo_errors", "rx_frame_errors",
		"rx_length_errors", "rx_missed_errors", "rx_nohandler", "rx_over_errors", "tx_aborted_errors", "tx_carrier_errors",
		"tx_compressed", "tx_errors", "tx_fifo_errors", "tx_heartbeat_errors", "tx_window_errors",
	} {
		fixed("statistics/"+name, "0")
	}
	return list
}

// hardwareAddress returns the address of the link, which is all zeros for lo.
func (i *Interface) hardwareAddress() tcpip.LinkAddress {
	if len(i.MAC) != header.EthernetAddressSize {
		return "\x00\x00\x00\x00\x00\x00"
	}
	return i.MAC
}

// setter returns what takes a number written to a file of an interface: EPERM, EINVAL, and set's errors.
func (n *Network) setter(index int, set func(nic tcpip.NICID, v uint64) error) func(*vfs.Context, string) error {
	return func(c *vfs.Context, text string) error {
		if !c.Creds.HasCap(unix.CAP_NET_ADMIN) {
			return unix.EPERM
		}
		v, err := strconv.ParseUint(strings.TrimSpace(text), 0, 32)
		if err != nil {
			return unix.EINVAL
		}
		return set(tcpip.NICID(index), v)
	}
}

// setMTU sets how large packets are: EINVAL, ENODEV.
func (n *Network) setMTU(nic tcpip.NICID, mtu uint64) error {
	if mtu < header.IPv4MinimumMTU || mtu > 65536 {
		return unix.EINVAL
	}
	return errnoOf(n.Stack().SetNICMTU(nic, uint32(mtu)))
}
