package ipv4

import "gvisor.dev/gvisor/pkg/tcpip"

// Groups calls f with each group that was joined at this interface, and how often.
func (e *endpoint) Groups(f func(group tcpip.Address, joins uint64)) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	e.igmp.genericMulticastProtocol.GroupsLocked(f)
}
