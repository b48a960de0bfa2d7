package udp

import "gvisor.dev/gvisor/pkg/tcpip"

// SetChoice has admit asked about what comes to groups.
func (e *endpoint) SetChoice(admit func(nic tcpip.NICID, group, source tcpip.Address) bool) {
	e.net.SetChoice(admit)
}
