package ip

import "gvisor.dev/gvisor/pkg/tcpip"

// GroupsLocked calls f with each group that was joined, and how often.
//
// Precondition: g.protocolMU must be read locked.
func (g *GenericMulticastProtocolState) GroupsLocked(f func(group tcpip.Address, joins uint64)) {
	for group, info := range g.memberships {
		// One that was left may be here until the routers have been told.
		if info.joins > 0 {
			f(group, info.joins)
		}
	}
}
