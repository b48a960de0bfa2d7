package tcp

import "gvisor.dev/gvisor/pkg/tcpip"

// LastPeer returns the address that the connection is, or was, with.
func (e *Endpoint) LastPeer() tcpip.FullAddress {
	e.LockUser()
	defer e.UnlockUser()
	return e.getRemoteAddress()
}
