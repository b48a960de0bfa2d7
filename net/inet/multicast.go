package inet

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// Groups that a socket is a member of, and the sources that it hears in them (ip(7), RFC 3678). netstack joins groups
// as a whole and tells routers so; what a socket doesn't want of them it refuses when it comes.

// Limits of a socket: net.ipv4.igmp_max_memberships, igmp_max_msf and net.ipv6.mld_max_msf. Linux bounds memberships of
// IPv6 by memory (net.core.optmem_max).
const (
	maxMemberships4 = 20
	maxMemberships6 = 1000
	maxSources4     = 10
	maxSources6     = 64
)

// membership is of a group at an interface. It is immutable.
type membership struct {
	group    tcpip.Address
	nic      tcpip.NICID
	asked    tcpip.Address // the interface's address, if it was chosen by that
	excludes bool          // all sources are heard but those of the list
	listed   bool          // there is a list, though it may be empty
	sources  []tcpip.Address
}

// choosy is an endpoint that asks what it may receive of groups; netstack gets it from runtime/_gvisor.
type choosy interface {
	SetChoice(admit func(nic tcpip.NICID, group, source tcpip.Address) bool)
}

// members returns what the socket is a member of.
func (s *Socket) members() []membership {
	if m := s.groups.Load(); m != nil {
		return *m
	}
	return nil
}

// setMembers has the socket be a member of these groups. Precondition: mu is held.
func (s *Socket) setMembers(m []membership) {
	s.groups.Store(&m)
	s.choose()
}

// choose has the endpoint ask from now on.
func (s *Socket) choose() {
	if e, ok := s.ep().(choosy); ok {
		e.SetChoice(s.admits)
	}
}

// admits says whether the socket receives what a source sends to a group.
func (s *Socket) admits(nic tcpip.NICID, group, source tcpip.Address) bool {
	for _, m := range s.members() {
		if m.group == group && m.nic == nic {
			return slices.Contains(m.sources, source) != m.excludes
		}
	}
	// IP_MULTICAST_ALL: that others are members is enough.
	if group.Len() == header.IPv4AddressSize {
		return !s.ownGroups[0].Load()
	}
	return !s.ownGroups[1].Load()
}

// change is what an option of groups asks for.
type change struct {
	six    bool
	group  tcpip.Address
	source tcpip.Address
	nic    tcpip.NICID
	asked  tcpip.Address
}

func (c *change) protocol() tcpip.NetworkProtocolNumber {
	if c.six {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

func (c *change) multicast() bool {
	if c.six {
		return header.IsV6MulticastAddress(c.group)
	}
	return header.IsV4MulticastAddress(c.group)
}

// findInterface sets the interface: that of the number or with the address, or that on the way to the group.
func (s *Socket) findInterface(c *change) bool {
	stack := s.network.Stack()
	switch {
	case c.nic != 0:
		return stack.HasNIC(c.nic)
	case c.asked.Len() != 0:
		c.nic = stack.CheckLocalAddress(0, c.protocol(), c.asked)
	default:
		if r, err := stack.FindRoute(0, tcpip.Address{}, c.group, c.protocol(), false); err == nil {
			c.nic = r.NICID()
			r.Release()
		}
	}
	return c.nic != 0
}

// join makes the socket a member of a group, of all its sources or of none: EINVAL, ENODEV, EADDRINUSE, ENOBUFS.
// Precondition: mu is held.
func (s *Socket) join(c *change, excludes bool) error {
	if !c.multicast() {
		return unix.EINVAL
	}
	if !s.findInterface(c) {
		return unix.ENODEV
	}
	count := 0
	for _, m := range s.members() {
		if m.group == c.group && m.nic == c.nic {
			return unix.EADDRINUSE
		}
		if m.group.Len() == c.group.Len() {
			count++
		}
	}
	if !c.six && count >= maxMemberships4 {
		return unix.ENOBUFS
	} else if count >= maxMemberships6 {
		return unix.ENOMEM
	}
	if err := s.ep().SetSockOpt(&tcpip.AddMembershipOption{NIC: c.nic, MulticastAddr: c.group}); err != nil {
		return errnoOf(err)
	}
	s.setMembers(append(slices.Clone(s.members()), membership{group: c.group, nic: c.nic, asked: c.asked, excludes: excludes}))
	return nil
}

// leave ends a membership: EINVAL, ENODEV, EADDRNOTAVAIL. Precondition: mu is held.
func (s *Socket) leave(c *change) error {
	if c.six && !c.multicast() {
		return unix.EINVAL
	}
	if !c.six && !s.findInterface(c) && c.asked.Len() == 0 && c.nic == 0 {
		return unix.ENODEV
	}
	for i, m := range s.members() {
		if m.group != c.group || c.nic != 0 && m.nic != c.nic || c.nic == 0 && c.asked.Len() != 0 && m.asked != c.asked {
			continue
		}
		s.setMembers(slices.Delete(slices.Clone(s.members()), i, i+1))
		return errnoOf(s.ep().SetSockOpt(&tcpip.RemoveMembershipOption{NIC: m.nic, MulticastAddr: m.group}))
	}
	return unix.EADDRNOTAVAIL
}

// member returns the place of a membership, or -1. Without an interface IPv6 takes the first of the group.
func (s *Socket) member(c *change) int {
	return slices.IndexFunc(s.members(), func(m membership) bool {
		return m.group == c.group && (m.nic == c.nic || c.six && c.nic == 0)
	})
}

// replace puts another membership in the place of one. Precondition: mu is held.
func (s *Socket) replace(i int, m membership) {
	all := slices.Clone(s.members())
	all[i] = m
	s.setMembers(all)
}

// setSource adds a source to the list of a membership, or takes it away, which has to be of the kind that excludes says
// or without a list: EINVAL, ENODEV, EADDRNOTAVAIL, ENOBUFS. Precondition: mu is held.
func (s *Socket) setSource(c *change, excludes, add bool) error {
	if !c.multicast() {
		return unix.EINVAL
	}
	if probe := *c; !s.findInterface(&probe) {
		return unix.ENODEV
	} else if !c.six {
		*c = probe
	}
	i := s.member(c)
	if i < 0 {
		return unix.EINVAL
	}
	m := s.members()[i]
	if m.excludes != excludes && m.listed {
		return unix.EINVAL
	}
	m.excludes = excludes
	at := slices.Index(m.sources, c.source)
	most := maxSources4
	if c.six {
		most = maxSources6
	}
	var err error
	switch {
	case add && len(m.sources) >= most:
		return unix.ENOBUFS
	case add == (at >= 0):
		err = unix.EADDRNOTAVAIL
	case add:
		m.sources, m.listed = append(slices.Clone(m.sources), c.source), true
	case len(m.sources) == 1 && !excludes: // nothing is left to hear
		return s.leave(c)
	default:
		m.sources = slices.Delete(slices.Clone(m.sources), at, at+1)
	}
	s.replace(i, m)
	return err
}

// setFilter sets the list of a membership: EINVAL, ENODEV, EADDRNOTAVAIL. Precondition: mu is held.
func (s *Socket) setFilter(c *change, mode uint32, sources []tcpip.Address) error {
	if !c.multicast() || mode != unix.MCAST_INCLUDE && mode != unix.MCAST_EXCLUDE {
		return unix.EINVAL
	}
	if probe := *c; !s.findInterface(&probe) {
		return unix.ENODEV
	} else if !c.six {
		*c = probe
	}
	if mode == unix.MCAST_INCLUDE && len(sources) == 0 {
		return s.leave(c)
	}
	i := s.member(c)
	if i < 0 {
		return unix.EINVAL
	}
	m := s.members()[i]
	m.excludes, m.sources, m.listed = mode == unix.MCAST_EXCLUDE, sources, len(sources) > 0
	s.replace(i, m)
	return nil
}

// Layouts of what programs pass (linux/in.h): struct group_req has an interface and the address of a group,
// struct group_source_req a source's too; struct ip_msfilter and struct group_filter have lists.
const (
	sizeofStorage     = 128 // struct sockaddr_storage
	groupAt           = 8
	sourceAt          = groupAt + sizeofStorage
	sizeofGroupReq    = sourceAt
	sizeofSourceReq   = sourceAt + sizeofStorage
	sizeofMreqSource  = 12
	sizeofFilter      = 16 // without sources
	sizeofGroupFilter = groupAt + sizeofStorage + 8
)

// address reads a struct sockaddr_storage of the family: EADDRNOTAVAIL.
func storedAddress(b []byte, six bool) (tcpip.Address, error) {
	switch family := binary.LittleEndian.Uint16(b); {
	case six && family == unix.AF_INET6:
		return tcpip.AddrFrom16([16]byte(b[8:24])), nil
	case !six && family == unix.AF_INET:
		return tcpip.AddrFrom4([4]byte(b[4:8])), nil
	}
	return tcpip.Address{}, unix.EADDRNOTAVAIL
}

// groupOption says whether an option is about groups and their sources.
func groupOption(name int, six bool) bool {
	switch name {
	case unix.MCAST_JOIN_GROUP, unix.MCAST_LEAVE_GROUP, unix.MCAST_BLOCK_SOURCE, unix.MCAST_UNBLOCK_SOURCE,
		unix.MCAST_JOIN_SOURCE_GROUP, unix.MCAST_LEAVE_SOURCE_GROUP, unix.MCAST_MSFILTER:
		return true
	}
	if six {
		return name == unix.IPV6_ADD_MEMBERSHIP || name == unix.IPV6_DROP_MEMBERSHIP
	}
	switch name {
	case unix.IP_ADD_MEMBERSHIP, unix.IP_DROP_MEMBERSHIP, unix.IP_ADD_SOURCE_MEMBERSHIP, unix.IP_DROP_SOURCE_MEMBERSHIP,
		unix.IP_BLOCK_SOURCE, unix.IP_UNBLOCK_SOURCE, unix.IP_MSFILTER:
		return true
	}
	return false
}

// setGroup is setsockopt(2) of an option about groups.
func (s *Socket) setGroup(name int, value []byte, six bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := change{six: six}
	switch name {
	case unix.IP_MSFILTER:
		return s.setShortFilter(value)
	case unix.MCAST_MSFILTER:
		return s.setGroupFilter(value, six)
	case unix.MCAST_JOIN_GROUP, unix.MCAST_LEAVE_GROUP:
		if len(value) < sizeofGroupReq {
			return unix.EINVAL
		}
		c.nic = tcpip.NICID(binary.LittleEndian.Uint32(value))
		var err error
		if c.group, err = storedAddress(value[groupAt:], six); err != nil {
			if !six {
				err = unix.EINVAL
			}
			return err
		}
	case unix.MCAST_BLOCK_SOURCE, unix.MCAST_UNBLOCK_SOURCE, unix.MCAST_JOIN_SOURCE_GROUP, unix.MCAST_LEAVE_SOURCE_GROUP:
		if len(value) < sizeofSourceReq {
			return unix.EINVAL
		}
		c.nic = tcpip.NICID(binary.LittleEndian.Uint32(value))
		var err error
		if c.group, err = storedAddress(value[groupAt:], six); err != nil {
			return err
		}
		if c.source, err = storedAddress(value[sourceAt:], six); err != nil {
			return err
		}
	case unix.IP_BLOCK_SOURCE, unix.IP_UNBLOCK_SOURCE, unix.IP_ADD_SOURCE_MEMBERSHIP, unix.IP_DROP_SOURCE_MEMBERSHIP:
		if len(value) != sizeofMreqSource {
			return unix.EINVAL
		}
		c.group, c.asked, _, _ = request(value[:8], false)
		c.source = tcpip.AddrFrom4([4]byte(value[8:]))
	default: // IP_ADD_MEMBERSHIP and those like it
		if s.stream() {
			return unix.EPROTO
		}
		var err error
		if c.group, c.asked, c.nic, err = request(value, six); err != nil {
			return err
		}
	}
	return s.changeGroup(&c, name)
}

// changeGroup does what an option asks for whose value was read. The options of IPv4 and IPv6 that mean the same have
// different numbers. Precondition: mu is held.
func (s *Socket) changeGroup(c *change, name int) error {
	if c.six {
		switch name {
		case unix.IPV6_ADD_MEMBERSHIP:
			name = unix.MCAST_JOIN_GROUP
		case unix.IPV6_DROP_MEMBERSHIP:
			name = unix.MCAST_LEAVE_GROUP
		}
	}
	switch name {
	case unix.MCAST_JOIN_GROUP, unix.IP_ADD_MEMBERSHIP:
		return s.join(c, true)
	case unix.MCAST_LEAVE_GROUP, unix.IP_DROP_MEMBERSHIP:
		return s.leave(c)
	case unix.MCAST_BLOCK_SOURCE, unix.IP_BLOCK_SOURCE:
		return s.setSource(c, true, true)
	case unix.MCAST_UNBLOCK_SOURCE, unix.IP_UNBLOCK_SOURCE:
		return s.setSource(c, true, false)
	case unix.MCAST_LEAVE_SOURCE_GROUP, unix.IP_DROP_SOURCE_MEMBERSHIP:
		return s.setSource(c, false, false)
	}
	// To hear a source, a socket is made a member with no source yet.
	if err := s.join(c, false); err != nil && err != unix.EADDRINUSE {
		return err
	}
	return s.setSource(c, false, true)
}

// setShortFilter is IP_MSFILTER. Precondition: mu is held.
func (s *Socket) setShortFilter(value []byte) error {
	if len(value) < sizeofFilter {
		return unix.EINVAL
	}
	n := binary.LittleEndian.Uint32(value[12:])
	if n > maxSources4 {
		return unix.ENOBUFS
	}
	if len(value) < sizeofFilter+int(n)*header.IPv4AddressSize {
		return unix.EINVAL
	}
	var c change
	c.group, c.asked, _, _ = request(value[:8], false)
	var sources []tcpip.Address
	for b := value[sizeofFilter:]; n > 0; n-- {
		sources = append(sources, tcpip.AddrFrom4([4]byte(b)))
		b = b[header.IPv4AddressSize:]
	}
	return s.setFilter(&c, binary.LittleEndian.Uint32(value[8:]), sources)
}

// setGroupFilter is MCAST_MSFILTER. Precondition: mu is held.
func (s *Socket) setGroupFilter(value []byte, six bool) error {
	if len(value) < sizeofGroupFilter {
		return unix.EINVAL
	}
	n, most := binary.LittleEndian.Uint32(value[sizeofGroupFilter-4:]), uint32(maxSources4)
	if six {
		most = maxSources6
	}
	if n > most {
		return unix.ENOBUFS
	}
	if len(value) < sizeofGroupFilter+int(n)*sizeofStorage {
		return unix.EINVAL
	}
	c := change{six: six, nic: tcpip.NICID(binary.LittleEndian.Uint32(value))}
	var err error
	if c.group, err = storedAddress(value[groupAt:], six); err != nil {
		return err
	}
	var sources []tcpip.Address
	for b := value[sizeofGroupFilter:]; n > 0; n-- {
		a, err := storedAddress(b, six)
		if err != nil {
			return err
		}
		sources = append(sources, a)
		b = b[sizeofStorage:]
	}
	return s.setFilter(&c, binary.LittleEndian.Uint32(value[sizeofGroupFilter-8:]), sources)
}

// filter is getsockopt(2) of IP_MSFILTER or MCAST_MSFILTER: value asks for a group and says how many sources there is
// room for, and is told how many there are: EINVAL, ENODEV, EADDRNOTAVAIL.
func (s *Socket) filter(name int, value []byte, six bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := change{six: six}
	var err error
	size, each := sizeofFilter, header.IPv4AddressSize
	if name == unix.MCAST_MSFILTER {
		size, each = sizeofGroupFilter, sizeofStorage
		c.nic = tcpip.NICID(binary.LittleEndian.Uint32(value))
		if c.group, err = storedAddress(value[groupAt:], six); err != nil {
			return 0, err
		}
	} else {
		c.group, c.asked, _, _ = request(value[:8], false)
	}
	if !c.multicast() {
		return 0, unix.EINVAL
	}
	if name == unix.IP_MSFILTER && !s.findInterface(&c) {
		return 0, unix.ENODEV
	}
	i := slices.IndexFunc(s.members(), func(m membership) bool { return m.group == c.group && m.nic == c.nic })
	if i < 0 {
		return 0, unix.EADDRNOTAVAIL
	}
	m := s.members()[i]
	room := min(int(binary.LittleEndian.Uint32(value[size-4:])), len(m.sources), (len(value)-size)/each)
	mode := unix.MCAST_INCLUDE
	if m.excludes {
		mode = unix.MCAST_EXCLUDE
	}
	put32(value[size-8:], mode)
	put32(value[size-4:], len(m.sources))
	for i, a := range m.sources[:room] {
		b := value[size+i*each:][:each]
		switch {
		case name == unix.IP_MSFILTER:
			copy(b, a.AsSlice())
		case six:
			clear(b)
			appendAddress(b[:0], unix.AF_INET6, tcpip.FullAddress{Addr: a})
		default:
			clear(b)
			appendAddress(b[:0], unix.AF_INET, tcpip.FullAddress{Addr: a})
		}
	}
	return size + room*each, nil
}
