package network

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// choice is what an endpoint hears in groups: all of those that somebody of this stack joined, unless it was told.
type choice struct {
	admit atomic.Pointer[func(nic tcpip.NICID, group, source tcpip.Address) bool]
}

// SetChoice has admit asked about what comes to groups. It takes no locks of the stack's.
func (e *Endpoint) SetChoice(admit func(nic tcpip.NICID, group, source tcpip.Address) bool) {
	e.choice.admit.Store(&admit)
}

// Admits says whether the endpoint takes what comes from source to an address of this stack, or a group.
func (e *Endpoint) Admits(nic tcpip.NICID, to, source tcpip.Address) bool {
	admit := e.choice.admit.Load()
	if admit == nil || !header.IsV4MulticastAddress(to) && !header.IsV6MulticastAddress(to) {
		return true
	}
	return (*admit)(nic, to, source)
}
