package inet

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"elver/net"
)

// Setting is a file of /proc/sys/net that can be written: one number or several.
type Setting struct {
	Path  string // below /proc/sys/net
	Count int
	Get   func() []int
	Set   func([]int) error // EINVAL
}

// settings are what sockets look at themselves.
type settings struct {
	once         sync.Once
	unprivileged atomic.Int32 // the first port that needs no privilege
	nonLocal     [2]atomic.Bool
	v6Only       atomic.Bool
	pingFirst    atomic.Int64 // the groups whose members may have sockets for ICMP echo
	pingLast     atomic.Int64
}

// set returns the settings of the network.
func (n *Network) set() *settings {
	s := &n.settings
	s.once.Do(func() {
		s.unprivileged.Store(1024)
		s.pingLast.Store(1<<31 - 1)
	})
	return s
}

// Settings returns what of the network can be set (Documentation/networking/ip-sysctl.rst).
func (n *Network) Settings() []Setting {
	var list []Setting
	// add adds a setting of numbers within bounds.
	add := func(path string, least, most int, initial []int, set func(v []int) error) {
		var now atomic.Pointer[[]int]
		now.Store(&initial)
		list = append(list, Setting{path, len(initial), func() []int { return slices.Clone(*now.Load()) }, func(v []int) error {
			for _, x := range v {
				if x < least || x > most {
					return unix.EINVAL
				}
			}
			if err := set(v); err != nil {
				return err
			}
			kept := slices.Clone(v)
			now.Store(&kept)
			return nil
		}})
	}
	one := func(path string, least, most, initial int, set func(v int) error) {
		add(path, least, most, []int{initial}, func(v []int) error { return set(v[0]) })
	}
	flag := func(path string, initial int, set func(on bool) error) {
		one(path, 0, 1, initial, func(v int) error { return set(v != 0) })
	}
	const most = 1<<31 - 1

	for path, limit := range net.Limits() {
		one(path, limit.Least, most, int(limit.Load()), func(v int) error {
			limit.Store(int32(v))
			if path == "core/rmem_default" || path == "core/wmem_default" {
				n.setBuffers(n.Stack())
			}
			return nil
		})
	}
	for _, f := range []struct {
		path     string
		protocol tcpip.NetworkProtocolNumber
	}{{"ipv4/ip_forward", ipv4.ProtocolNumber}, {"ipv6/conf/all/forwarding", ipv6.ProtocolNumber}} {
		flag(f.path, 0, func(on bool) error {
			return errnoOf(n.Stack().SetForwardingDefaultAndAllNICs(f.protocol, on))
		})
	}
	one("ipv4/ip_default_ttl", 1, 255, 64, func(v int) error {
		ttl := tcpip.DefaultTTLOption(v)
		return errnoOf(n.Stack().SetNetworkProtocolOption(ipv4.ProtocolNumber, &ttl))
	})
	add("ipv4/ip_local_port_range", 1, 65535, []int{firstLocalPort, lastLocalPort}, func(v []int) error {
		if v[0] > v[1] {
			return unix.EINVAL
		}
		return errnoOf(n.Stack().SetPortRange(uint16(v[0]), uint16(v[1])))
	})
	one("ipv4/ip_unprivileged_port_start", 0, 65535, 1024, func(v int) error {
		n.set().unprivileged.Store(int32(v))
		return nil
	})
	flag("ipv4/ip_nonlocal_bind", 0, func(on bool) error { n.set().nonLocal[0].Store(on); return nil })
	flag("ipv6/ip_nonlocal_bind", 0, func(on bool) error { n.set().nonLocal[1].Store(on); return nil })
	flag("ipv6/bindv6only", 0, func(on bool) error { n.set().v6Only.Store(on); return nil })
	add("ipv4/ping_group_range", 0, most, []int{0, most}, func(v []int) error {
		if v[0] > v[1] { // nobody
			v[0], v[1] = 1, 0
		}
		n.set().pingFirst.Store(int64(v[0]))
		n.set().pingLast.Store(int64(v[1]))
		return nil
	})
	flag("ipv4/tcp_sack", 1, func(on bool) error { return n.setTCP(new(tcpip.TCPSACKEnabled(on))) })
	flag("ipv4/tcp_moderate_rcvbuf", 1, func(on bool) error { return n.setTCP(new(tcpip.TCPModerateReceiveBufferOption(on))) })
	one("ipv4/tcp_syn_retries", 1, 127, 6, func(v int) error { return n.setTCP(new(tcpip.TCPSynRetriesOption(v))) })
	one("ipv4/tcp_fin_timeout", 1, most, 60, func(v int) error {
		return n.setTCP(new(tcpip.TCPLingerTimeoutOption(time.Duration(v) * time.Second)))
	})
	buffers := []int{minTCPBuffer, defaultTCPBuffer, maxTCPBuffer}
	ordered := func(v []int) bool { return v[0] <= v[1] && v[1] <= v[2] }
	add("ipv4/tcp_rmem", 1, most, buffers, func(v []int) error {
		if !ordered(v) {
			return unix.EINVAL
		}
		return n.setTCP(&tcpip.TCPReceiveBufferSizeRangeOption{Min: v[0], Default: v[1], Max: v[2]})
	})
	add("ipv4/tcp_wmem", 1, most, buffers, func(v []int) error {
		if !ordered(v) {
			return unix.EINVAL
		}
		return n.setTCP(&tcpip.TCPSendBufferSizeRangeOption{Min: v[0], Default: v[1], Max: v[2]})
	})
	return list
}

func (n *Network) setTCP(option tcpip.SettableTransportProtocolOption) error {
	return errnoOf(n.Stack().SetTransportProtocolOption(tcp.ProtocolNumber, option))
}

// setBuffers sets the buffers of new sockets that are none of TCP.
func (n *Network) setBuffers(s *stack.Stack) {
	send, receive := net.DefaultBuffers()
	s.SetOption(tcpip.SendBufferSizeOption{Min: minTCPBuffer, Default: send, Max: maxTCPBuffer})
	s.SetOption(tcpip.ReceiveBufferSizeOption{Min: minTCPBuffer, Default: receive, Max: maxTCPBuffer})
}

// mayPing says whether who has these groups may have a socket for ICMP echo.
func (s *settings) mayPing(gid uint32, groups []uint32) bool {
	first, last := s.pingFirst.Load(), s.pingLast.Load()
	in := func(g uint32) bool { return int64(g) >= first && int64(g) <= last }
	if in(gid) {
		return true
	}
	for _, g := range groups {
		if in(g) {
			return true
		}
	}
	return false
}
