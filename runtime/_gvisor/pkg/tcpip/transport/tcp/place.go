package tcp

import "gvisor.dev/gvisor/pkg/tcpip/stack"

// handleInPlace does the processor's work for s, the last segment in the queue of e, if that takes no more than a few
// segments of its own: it makes or ends a connection. The processor would get the CPU next, and the goroutine that
// serves the card after it. It returns false if something is left for the processor, which has its turn then.
func (e *Endpoint) handleInPlace(a *stack.Arrival, s *segment) bool {
	if s.payloadSize() != 0 || !a.MayAnswer() {
		return false
	}
	switch state := e.EndpointState(); {
	case state == StateListen:
		handleListen(e)
	case state.connecting():
		handleConnecting(e)
	case state.connected() && state != StateTimeWait && e.hasSentAll():
		handleConnected(e)
	default:
		return false
	}
	// Who owns it wakes the processor for the rest.
	return e.segmentQueue.empty() || e.isOwnedByUser()
}

// hasSentAll says whether nothing waits to be sent, for which a segment could make room. Somebody who has the
// endpoint's lock may be about to send.
func (e *Endpoint) hasSentAll() bool {
	if !e.TryLock() {
		return false
	}
	defer e.mu.Unlock()
	return e.snd.writeNext == nil
}
