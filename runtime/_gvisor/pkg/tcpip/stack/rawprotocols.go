package stack

import (
	"gvisor.dev/gvisor/pkg/sync"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// foreign are the raw endpoints of protocols that the stack doesn't speak: programs do.
type foreign struct {
	mu        sync.RWMutex
	protocols map[protocolIDs]*transportEndpoints // guarded by mu; none is taken away
}

// raw returns the endpoints of a protocol, if the stack speaks it or a raw one was ever there.
func (d *transportDemuxer) raw(ids protocolIDs) (*transportEndpoints, bool) {
	if eps, ok := d.protocol[ids]; ok {
		return eps, true
	}
	d.foreign.mu.RLock()
	defer d.foreign.mu.RUnlock()
	eps, ok := d.foreign.protocols[ids]
	return eps, ok
}

// rawOf is raw for a protocol that the stack doesn't speak, and there is something from now on.
func (d *transportDemuxer) rawOf(ids protocolIDs) *transportEndpoints {
	d.foreign.mu.Lock()
	defer d.foreign.mu.Unlock()
	eps, ok := d.foreign.protocols[ids]
	if !ok {
		if d.foreign.protocols == nil {
			d.foreign.protocols = map[protocolIDs]*transportEndpoints{}
		}
		eps = &transportEndpoints{}
		d.foreign.protocols[ids] = eps
	}
	return eps
}

// heard says whether a raw endpoint takes the packets of a protocol, whose sender then isn't told that nobody does.
func (d *transportDemuxer) heard(protocol tcpip.TransportProtocolNumber, pkt *PacketBuffer) bool {
	eps, ok := d.raw(protocolIDs{pkt.NetworkProtocolNumber, protocol})
	if !ok {
		return false
	}
	eps.mu.RLock()
	defer eps.mu.RUnlock()
	return len(eps.rawEndpoints) != 0
}
