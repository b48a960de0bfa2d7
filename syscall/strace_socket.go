package syscall

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"elver/net"
)

// How strace shows the calls on sockets.

// entryLength returns the int that call r overwrites with the length of what it gives back, and shows
// both: what it was when the call began.
func (p *printer) entryLength(r *row) uint32 {
	addr := uint64(0)
	for i, k := range r.args {
		switch k {
		case lengthInOut:
			addr = p.values[i]
		case messageOut:
			if p.values[i] != 0 {
				addr = p.values[i] + messageNameLength
			}
		}
	}
	if addr == 0 {
		return 0
	}
	v, _ := p.t.MM().ReadUint32(addr)
	return v
}

// sockaddr prints the address of n bytes at addr.
func (p *printer) sockaddr(addr, n uint64) {
	n = min(uint64(uint32(n)), net.MaxAddress)
	if addr == 0 || n < 2 {
		p.pointer(addr)
		return
	}
	b := p.fetch(addr, int(n))
	if b == nil {
		return
	}
	family := uint64(binary.LittleEndian.Uint16(b))
	p.add("{sa_family=")
	p.flags(socketDomain, family)
	switch {
	case len(b) == 2:
	case family == unix.AF_UNIX && b[2] == 0:
		p.add(", sun_path=@")
		p.quote(b[3:], false)
	case family == unix.AF_UNIX:
		p.add(", sun_path=")
		p.quote([]byte(cut(b[2:])), false)
	case family == unix.AF_INET && len(b) >= 8:
		p.port(", sin_port=htons(", b)
		p.add(`), sin_addr=inet_addr("` + netip.AddrFrom4([4]byte(b[4:8])).String() + `")`)
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6:
		p.port(", sin6_port=htons(", b)
		p.add("), sin6_flowinfo=htonl(")
		p.unsigned(uint64(binary.BigEndian.Uint32(b[4:])))
		p.add(`), inet_pton(AF_INET6, "` + netip.AddrFrom16([16]byte(b[8:24])).String() + `", &sin6_addr), sin6_scope_id=`)
		p.unsigned(uint64(halfword(b, 24)))
	case family == unix.AF_NETLINK && len(b) >= unix.SizeofSockaddrNetlink:
		p.add(", nl_pid=")
		p.unsigned(uint64(halfword(b, 4)))
		p.add(", nl_groups=")
		p.groupMask(halfword(b, 8))
	default:
		p.add(", sa_data=")
		p.quote(b[2:], false)
	}
	p.add("}")
}

func (p *printer) port(name string, b []byte) {
	p.add(name)
	p.unsigned(uint64(binary.BigEndian.Uint16(b[2:])))
}

// groupMask is strace's %08x with a prefix, which a zero has too.
func (p *printer) groupMask(v uint32) {
	const digits = "0123456789abcdef"
	p.add("0")
	if v == 0 {
		p.add("0000000")
		return
	}
	p.add("x")
	for shift := 28; shift >= 0; shift -= 4 {
		p.text = append(p.text, digits[v>>shift&15])
	}
}

// sockaddrOut prints an address that the call wrote to argument i, whose length is at the next one.
func (p *printer) sockaddrOut(i int, addr uint64) {
	length, err := p.t.MM().ReadUint32(p.values[i+1])
	if p.errno != 0 || err != nil || addr == 0 || length == 0 {
		p.pointer(addr)
		return
	}
	p.sockaddr(addr, uint64(min(length, p.entry)))
}

// lengthInOut prints the int at addr, and what it was before if that is another value.
func (p *printer) lengthInOut(addr uint64) {
	b := p.fetch(addr, 4)
	if b == nil {
		return
	}
	p.add("[")
	if now := halfword(b, 0); p.errno == 0 && now != p.entry {
		p.signed(int64(int32(p.entry)))
		p.add(" => ")
	}
	p.signed(int64(int32(halfword(b, 0))))
	p.add("]")
}

// protocol prints the protocol of socket(2), which depends on the family.
func (p *printer) protocol(v uint64) {
	switch p.values[0] {
	case unix.AF_INET, unix.AF_INET6:
		p.flags(ipProtocol, v)
	case unix.AF_NETLINK:
		p.flags(netlinkProtocol, v)
	default:
		p.signed(int64(int32(v)))
	}
}

// optionNames are the kinds of the names of options, by level.
var optionNames = map[int32]kind{
	unix.SOL_SOCKET: socketOption, unix.SOL_TCP: tcpOption, unix.SOL_IP: ipOption, unix.SOL_IPV6: ipv6Option,
}

func (p *printer) optionName(v uint64) {
	if k, ok := optionNames[int32(p.values[1])]; ok {
		p.flags(k, uint64(uint32(v)))
		return
	}
	p.hexZero(uint64(uint32(v)))
}

// optionValue prints n bytes of an option's value at addr.
func (p *printer) optionValue(addr uint64, n int) {
	if n < 0 || addr == 0 {
		p.pointer(addr)
		return
	}
	b := p.fetch(addr, min(n, maxString))
	if b == nil {
		return
	}
	socket := int32(p.values[1]) == unix.SOL_SOCKET
	switch name := p.values[2]; {
	case socket && name == unix.SO_LINGER && n == 8:
		p.add("{l_onoff=")
		p.signed(int64(int32(halfword(b, 0))))
		p.add(", l_linger=")
		p.signed(int64(int32(halfword(b, 4))))
		p.add("}")
	case socket && name == unix.SO_PEERCRED && n == unix.SizeofUcred:
		p.ucred(b)
	case n == 4:
		p.add("[")
		p.signed(int64(int32(halfword(b, 0))))
		p.add("]")
	default:
		p.quote(b, n < 4)
		if n > maxString {
			p.add("...")
		}
	}
}

// optionOut prints what getsockopt(2) gave back.
func (p *printer) optionOut(addr uint64) {
	n, err := p.t.MM().ReadUint32(p.values[4])
	if p.errno != 0 || err != nil {
		p.pointer(addr)
		return
	}
	p.optionValue(addr, int(int32(n)))
}

func (p *printer) ucred(b []byte) {
	for i, name := range [...]string{"{pid=", ", uid=", ", gid="} {
		p.add(name)
		p.signed(int64(int32(halfword(b, 4*i))))
	}
	p.add("}")
}

// message prints a struct msghdr of which have bytes were received, or all are to be sent; out says that
// the call has written it.
func (p *printer) message(addr, have uint64, out bool, nameRoom uint32) {
	b := p.fetch(addr, sizeofMessage)
	if b == nil {
		return
	}
	name, length := word(b, messageName), halfword(b, messageNameLength)
	p.add("{msg_name=")
	p.sockaddr(name, uint64(min(length, nameRoom)))
	p.add(", msg_namelen=")
	if out && length != nameRoom {
		p.signed(int64(int32(nameRoom)))
		p.add(" => ")
	}
	p.signed(int64(int32(length)))
	p.add(", msg_iov=")
	p.iovec(word(b, messageVector), word(b, messageVectorLength), have)
	p.add(", msg_iovlen=")
	p.unsigned(word(b, messageVectorLength))
	controlLength := word(b, messageControlLength)
	if controlLength > 0 {
		p.add(", msg_control=")
		p.control(word(b, messageControl), controlLength)
	}
	p.add(", msg_controllen=")
	p.unsigned(controlLength)
	p.add(", msg_flags=")
	p.flags(messageFlags, uint64(halfword(b, messageFlagsAt)))
	p.add("}")
}

// control prints control messages.
func (p *printer) control(addr, n uint64) {
	if addr == 0 || n < unix.SizeofCmsghdr {
		p.pointer(addr)
		return
	}
	b := p.fetch(addr, int(min(n, mostControl)))
	if b == nil {
		return
	}
	p.add("[")
	first := true
	net.EachControl(b, func(level, typ int, data []byte) error {
		if !first {
			p.add(", ")
		}
		first = false
		p.add("{cmsg_len=")
		p.unsigned(uint64(unix.SizeofCmsghdr + len(data)))
		p.add(", cmsg_level=")
		p.flags(optionLevel, uint64(uint32(level)))
		p.add(", cmsg_type=")
		if level != unix.SOL_SOCKET {
			p.hexZero(uint64(uint32(typ)))
		} else {
			p.flags(controlType, uint64(uint32(typ)))
		}
		p.controlData(level, typ, data)
		p.add("}")
		return nil
	})
	p.add("]")
}

// mostControl is how many bytes of control messages are looked at.
const mostControl = 4096

func (p *printer) controlData(level, typ int, data []byte) {
	if len(data) == 0 {
		return
	}
	p.add(", cmsg_data=")
	switch {
	case level == unix.SOL_SOCKET && typ == unix.SCM_RIGHTS && len(data) >= 4:
		p.add("[")
		for i := 0; i+4 <= len(data); i += 4 {
			if i > 0 {
				p.add(", ")
			}
			if i/4 >= maxElements {
				p.add("...")
				break
			}
			p.signed(int64(int32(halfword(data, i))))
		}
		p.add("]")
	case level == unix.SOL_SOCKET && typ == unix.SCM_CREDENTIALS && len(data) == unix.SizeofUcred:
		p.ucred(data)
	default:
		p.quote(data[:min(len(data), maxString)], true)
		if len(data) > maxString {
			p.add("...")
		}
	}
}

// messageOut prints what recvmsg(2) gave back.
func (p *printer) messageOut(addr uint64) {
	if p.errno == 0 {
		p.message(addr, p.result, true, p.entry)
		return
	}
	if b := p.fetch(addr, sizeofMessage); b != nil {
		p.add("{msg_namelen=")
		p.signed(int64(int32(halfword(b, messageNameLength))))
		p.add("}")
	}
}

// messages prints the array of sendmmsg(2) or recvmmsg(2): as many as were sent or received.
func (p *printer) messages(addr uint64, out bool) {
	if p.errno != 0 {
		p.pointer(addr)
		return
	}
	p.add("[")
	for i := range min(p.result, maxElements) {
		if i > 0 {
			p.add(", ")
		}
		at := addr + i*sizeofMessages
		length, err := p.t.MM().ReadUint32(at + sizeofMessage)
		if err != nil {
			p.hex(at)
			break
		}
		have := uint64(1 << 63)
		if out {
			have = uint64(length)
		}
		p.add("{msg_hdr=")
		p.message(at, have, false, net.MaxAddress)
		p.add(", msg_len=")
		p.unsigned(uint64(length))
		p.add("}")
	}
	p.add("]")
}
