package inet

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"elver/vfs"
)

// Requests of SIOCETHTOOL (linux/ethtool.h), which ethtool(8) makes; drivers refuse what they don't know.
const (
	ethtoolGetSettings     = 0x01
	ethtoolGetDriver       = 0x03
	ethtoolGetLink         = 0x0a
	ethtoolGetRxChecksum   = 0x14
	ethtoolGetTxChecksum   = 0x16
	ethtoolGetScatter      = 0x18
	ethtoolGetStrings      = 0x1b
	ethtoolGetTSO          = 0x1e
	ethtoolGetPermanent    = 0x20
	ethtoolGetUFO          = 0x21
	ethtoolGetGSO          = 0x23
	ethtoolGetFlags        = 0x25
	ethtoolGetGRO          = 0x2b
	ethtoolGetSetInfo      = 0x37
	ethtoolGetFeatures     = 0x3a
	ethtoolGetChannels     = 0x3c
	ethtoolGetTimestamping = 0x41
	ethtoolGetLinkSettings = 0x4c
)

// errTooSmall is what Linux says to who has no room for an address: an errno that it meant to keep for itself.
const errTooSmall = unix.Errno(525)

// Sets of names.
const (
	setFeatures = 4
	sizeofName  = 32
)

// feature is something that a link can do, and whether cards and lo do it. Nothing of it can be switched.
type feature struct {
	name     string
	card, lo bool
}

// features are those of Linux, in its order. Cards of virtio that cut segments leave checksums and segments to the
// device, and take large packets from it; lo has neither checksums nor segments to make.
var features = []feature{
	{"tx-scatter-gather", true, true}, {"tx-checksum-ipv4", false, false}, {"tx-checksum-ip-generic", true, true},
	{"tx-checksum-ipv6", false, false}, {"highdma", true, true}, {"tx-scatter-gather-fraglist", false, true},
	{"tx-vlan-hw-insert", false, false}, {"rx-vlan-hw-parse", false, false}, {"rx-vlan-filter", false, false},
	{"vlan-challenged", false, true}, {"tx-generic-segmentation", true, true}, {"rx-gro", true, true}, {"rx-lro", false, false},
	{"tx-tcp-segmentation", true, true}, {"tx-gso-robust", true, false}, {"tx-tcp-ecn-segmentation", false, true},
	{"tx-tcp-mangleid-segmentation", false, true}, {"tx-tcp6-segmentation", true, true}, {"tx-fcoe-segmentation", false, false},
	{"tx-gre-segmentation", false, false}, {"tx-gre-csum-segmentation", false, false}, {"tx-ipxip4-segmentation", false, false},
	{"tx-ipxip6-segmentation", false, false}, {"tx-udp_tnl-segmentation", false, false}, {"tx-udp_tnl-csum-segmentation", false, false},
	{"tx-gso-partial", false, false}, {"tx-tunnel-remcsum-segmentation", false, false}, {"tx-sctp-segmentation", false, false},
	{"tx-esp-segmentation", false, false}, {"tx-udp-segmentation", false, false}, {"tx-gso-list", false, false},
	{"tx-checksum-fcoe-crc", false, false}, {"tx-checksum-sctp", false, false}, {"rx-ntuple-filter", false, false},
	{"rx-hashing", false, false}, {"rx-checksum", true, true}, {"tx-nocache-copy", false, false}, {"loopback", false, true},
	{"rx-fcs", false, false}, {"rx-all", false, false}, {"tx-vlan-stag-hw-insert", false, false}, {"rx-vlan-stag-hw-parse", false, false},
	{"rx-vlan-stag-filter", false, false}, {"l2-fwd-offload", false, false}, {"hw-tc-offload", false, false},
	{"esp-hw-offload", false, false}, {"esp-tx-csum-hw-offload", false, false}, {"rx-udp_tunnel-port-offload", false, false},
	{"tls-hw-tx-offload", false, false}, {"tls-hw-rx-offload", false, false}, {"rx-gro-hw", true, false},
	{"tls-hw-record", false, false}, {"rx-gro-list", false, false}, {"macsec-hw-offload", false, false},
	{"rx-udp-gro-forwarding", false, false}, {"hsr-tag-ins-offload", false, false}, {"hsr-tag-rm-offload", false, false},
	{"hsr-fwd-offload", false, false}, {"hsr-dup-offload", false, false},
}

// Features of virtio (5.1.3) that make those of a card.
const (
	virtioChecksum      = 1 << 0
	virtioGuestChecksum = 1 << 1
	virtioGuestTSO      = 1<<7 | 1<<8
	virtioHostTSO4      = 1 << 11
	virtioHostTSO6      = 1 << 12
)

// does says whether an interface does something of features.
func (n *Network) does(i *Interface, f *feature) bool {
	if i.Loopback {
		return f.lo
	}
	needs := uint64(0)
	switch f.name {
	case "tx-checksum-ip-generic", "tx-scatter-gather":
		needs = virtioChecksum
	case "tx-tcp-segmentation", "tx-generic-segmentation":
		needs = virtioChecksum | virtioHostTSO4
	case "tx-tcp6-segmentation":
		needs = virtioChecksum | virtioHostTSO6
	case "rx-checksum":
		needs = virtioGuestChecksum
	case "rx-gro-hw":
		needs = virtioGuestTSO
	}
	p, _ := n.place(tcpip.NICID(i.Index))
	return f.card && p.Features&needs == needs
}

// doesNamed is does as the older requests tell it.
func (n *Network) doesNamed(i *Interface, name string) uint32 {
	at := slices.IndexFunc(features, func(f feature) bool { return f.name == name })
	return uint32(number(n.does(i, &features[at])))
}

// ethtool answers SIOCETHTOOL, whose request is at arg: EOPNOTSUPP for what is not known of the interface, EPERM,
// EFAULT.
func (n *Network) ethtool(c *vfs.Context, i *Interface, arg uint64) error {
	as := c.Thread.MM()
	command, err := as.ReadUint32(arg)
	if err != nil {
		return err
	}
	put := func(size int, fill func(b []byte)) error { // of size bytes in all
		b := make([]byte, size)
		if _, err := as.CopyIn(b, arg); err != nil {
			return err
		}
		fill(b)
		_, err := as.CopyOut(arg, b)
		return err
	}
	value := func(v uint32) error { return as.WriteUint32(arg+4, v) } // of struct ethtool_value
	p, isDevice := n.place(tcpip.NICID(i.Index))
	switch command {
	case ethtoolGetLink:
		return value(uint32(number(i.Up)))
	case ethtoolGetFlags: // large receive offload, VLAN offloads, filters and hashes: none
		return value(0)
	case ethtoolGetRxChecksum:
		return value(n.doesNamed(i, "rx-checksum"))
	case ethtoolGetTxChecksum:
		return value(n.doesNamed(i, "tx-checksum-ip-generic"))
	case ethtoolGetScatter:
		return value(n.doesNamed(i, "tx-scatter-gather"))
	case ethtoolGetTSO:
		return value(n.doesNamed(i, "tx-tcp-segmentation"))
	case ethtoolGetGSO:
		return value(n.doesNamed(i, "tx-generic-segmentation"))
	case ethtoolGetGRO:
		return value(n.doesNamed(i, "rx-gro"))
	case ethtoolGetUFO:
		return value(0)
	case ethtoolGetTimestamping: // struct ethtool_ts_info
		return put(44, func(b []byte) {
			const receive, software = 1 << 3, 1 << 4 // SOF_TIMESTAMPING_RX_SOFTWARE, _SOFTWARE
			clear(b[4:])
			binary.LittleEndian.PutUint32(b[4:], receive|software)
			binary.LittleEndian.PutUint32(b[8:], 0xffffffff) // no clock of its own
		})
	case ethtoolGetPermanent: // struct ethtool_perm_addr
		room, err := as.ReadUint32(arg + 4)
		if err != nil {
			return err
		}
		address := []byte(i.hardwareAddress())
		if room < uint32(len(address)) {
			return errTooSmall
		}
		return put(8+len(address), func(b []byte) {
			binary.LittleEndian.PutUint32(b[4:], uint32(len(address)))
			copy(b[8:], address)
		})
	case ethtoolGetFeatures:
		return n.getFeatures(c, i, arg)
	case ethtoolGetSetInfo: // struct ethtool_sset_info
		return n.getSetInfo(c, arg)
	case ethtoolGetStrings:
		return n.getStrings(c, arg)
	}
	if !isDevice {
		return unix.EOPNOTSUPP
	}
	switch command {
	case ethtoolGetDriver: // struct ethtool_drvinfo
		return put(196, func(b []byte) {
			clear(b[4:])
			copy(b[4:36], "virtio_net")
			copy(b[36:68], "1.0.0")
			copy(b[100:131], p.Bus)
		})
	case ethtoolGetLinkSettings:
		return n.getLinkSettings(c, arg)
	case ethtoolGetSettings: // struct ethtool_cmd
		return put(44, func(b []byte) {
			const unknown, portOther = 0xff, 0xff
			clear(b[4:])
			binary.LittleEndian.PutUint16(b[12:], 0xffff) // the speed, which goes on at 28
			b[14], b[15] = unknown, portOther
			binary.LittleEndian.PutUint16(b[28:], 0xffff)
		})
	case ethtoolGetChannels: // struct ethtool_channels: one for both ways, at most and now
		return put(36, func(b []byte) {
			clear(b[4:])
			binary.LittleEndian.PutUint32(b[16:], 1)
			binary.LittleEndian.PutUint32(b[32:], 1)
		})
	}
	return unix.EOPNOTSUPP
}

// getFeatures answers ETHTOOL_GFEATURES: words of available, requested, active and unchangeable features.
func (n *Network) getFeatures(c *vfs.Context, i *Interface, arg uint64) error {
	as := c.Thread.MM()
	room, err := as.ReadUint32(arg + 4)
	if err != nil {
		return err
	}
	blocks := (len(features) + 31) / 32
	b := make([]byte, 16*blocks)
	for at := range features {
		block, bit := b[at/32*16:], uint32(1)<<(at%32)
		set := func(word int) {
			binary.LittleEndian.PutUint32(block[4*word:], binary.LittleEndian.Uint32(block[4*word:])|bit)
		}
		if n.does(i, &features[at]) {
			set(1)
			set(2)
		}
		set(3) // nothing of it changes here
	}
	if err := as.WriteUint32(arg+4, uint32(blocks)); err != nil {
		return err
	}
	_, err = as.CopyOut(arg+8, b[:16*min(int(room), blocks)])
	return err
}

// getSetInfo answers ETHTOOL_GSSET_INFO: how many names there are in each set that is asked for and known.
func (n *Network) getSetInfo(c *vfs.Context, arg uint64) error {
	as := c.Thread.MM()
	mask, err := as.ReadUint64(arg + 8)
	if err != nil {
		return err
	}
	if mask == 0 {
		return nil
	}
	if err := as.WriteUint64(arg+8, mask&(1<<setFeatures)); err != nil {
		return err
	}
	if mask&(1<<setFeatures) == 0 {
		return nil
	}
	return as.WriteUint32(arg+16, uint32(len(features)))
}

// getStrings answers ETHTOOL_GSTRINGS: the names of a set, one after the other.
func (n *Network) getStrings(c *vfs.Context, arg uint64) error {
	as := c.Thread.MM()
	set, err := as.ReadUint32(arg + 4)
	if err != nil {
		return err
	}
	if set != setFeatures {
		return unix.EOPNOTSUPP
	}
	if err := as.WriteUint32(arg+8, uint32(len(features))); err != nil {
		return err
	}
	b := make([]byte, sizeofName*len(features))
	for at, f := range features {
		copy(b[at*sizeofName:(at+1)*sizeofName-1], f.name)
	}
	_, err = as.CopyOut(arg+12, b)
	return err
}

// getLinkSettings answers ETHTOOL_GLINKSETTINGS: who asks says how many words his masks of modes have, and is told how
// many there are, as a negative number, until he knows.
func (n *Network) getLinkSettings(c *vfs.Context, arg uint64) error {
	const size, words, at = 48, 4, 18 // struct ethtool_link_settings, and where it has the number of words
	as := c.Thread.MM()
	var b [size + 3*4*words]byte
	if _, err := as.CopyIn(b[:size], arg); err != nil {
		return err
	}
	asked := int8(b[at])
	command := [4]byte(b[:4])
	clear(b[:])
	copy(b[:], command[:])
	if asked != words {
		b[at] = byte(256 - words)
		_, err := as.CopyOut(arg, b[:size])
		return err
	}
	binary.LittleEndian.PutUint32(b[4:], 0xffffffff) // the speed and the duplex aren't known
	b[8], b[9] = 0xff, 0xff                          // and the port is another one
	b[at] = words
	_, err := as.CopyOut(arg, b[:])
	return err
}
