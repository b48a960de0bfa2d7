package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// sendInside passes what was just queued to be sent to the other end of the connection, if that end is in
// this stack too and everything that was sent before has arrived: the sequence numbers of both ends move as
// if the segment had been sent and acknowledged, without the packets. It returns false if the segment has to
// go the long way.
//
// +checklocks:e.mu
func (e *Endpoint) sendInside(s *segment) bool {
	snd := e.snd
	if s == nil || snd == nil || e.route == nil {
		return false
	}
	if state := e.EndpointState(); state != StateEstablished && state != StateCloseWait {
		return false
	}
	if !e.isNext(s) || e.ops.GetCorkOption() || !e.route.Inside() {
		return false
	}
	peer := e.peer()
	if peer == nil {
		return false
	}
	// Whoever holds the peer's lock may want this one.
	if !peer.TryLock() {
		return false
	}
	peer.ownedByUser.Store(1)
	taken := peer.takeInside(e, s)
	if taken {
		e.inside = peer
	} else {
		e.inside = nil
	}
	peer.UnlockUser()
	return taken
}

// isNext says whether everything that was sent before s has arrived, and s is what was queued.
//
// +checklocks:e.mu
func (e *Endpoint) isNext(s *segment) bool {
	snd := e.snd
	return snd.SndUna == snd.SndNxt && snd.writeNext == nil && snd.writeList.Front() == s && s.Next() == nil &&
		!snd.isAssignedSequenceNumber(s) && e.segmentQueue.empty()
}

// peer returns the other end of a connection within the stack, or nil.
//
// +checklocks:e.mu
func (e *Endpoint) peer() *Endpoint {
	if e.inside != nil {
		return e.inside
	}
	id := reverse(e.ID)
	found, ok := e.stack.FindTransportEndpoint(e.route.NetProto(), ProtocolNumber, id, e.route.NICID()).(*Endpoint)
	if !ok || found == e || found.ID != id {
		return nil
	}
	return found
}

// reverse is how the other end writes an id.
func reverse(id stack.TransportEndpointID) stack.TransportEndpointID {
	return stack.TransportEndpointID{
		LocalPort: id.RemotePort, LocalAddress: id.RemoteAddress, RemotePort: id.LocalPort, RemoteAddress: id.LocalAddress,
	}
}

// takeInside is the other end of sendInside.
//
// +checklocks:e.mu
// +checklocks:from.mu
func (e *Endpoint) takeInside(from *Endpoint, s *segment) bool {
	switch e.EndpointState() {
	case StateEstablished, StateFinWait1, StateFinWait2:
	default:
		return false
	}
	rcv, snd, n := e.rcv, from.snd, seqnum.Size(s.payloadSize())
	if e.closed || rcv.closed || rcv.RcvNxt != snd.SndNxt || len(rcv.pendingRcvdSegments) != 0 || !e.segmentQueue.empty() ||
		e.shutdownFlags&tcpip.ShutdownRead != 0 || n > e.selectWindow() {
		return false
	}
	from.countInside(int(n))
	snd.writeList.Remove(s)
	from.sndQueueInfo.sndQueueMu.Lock()
	from.sndQueueInfo.SndBufUsed -= int(n)
	from.sndQueueInfo.sndQueueMu.Unlock()
	snd.SndNxt = snd.SndNxt.Add(n)
	snd.SndUna = snd.SndNxt
	snd.RTTMeasureSeqNum = snd.SndNxt

	s.setOwner(e, recvQ)
	s.sequenceNumber = rcv.RcvNxt
	rcv.RcvNxt = snd.SndNxt
	if rcv.RcvAcc.LessThan(rcv.RcvNxt) {
		rcv.RcvAcc = rcv.RcvNxt
	}
	e.readyToRead(s)
	s.DecRef() // the list's reference
	acknowledged, window := rcv.getSendParams()
	e.snd.MaxSentAck = acknowledged
	snd.SndWnd = window << snd.SndWndScale
	return true
}

// finishInside tells the other end that nothing follows, as sendInside does, when s is the segment that would:
// both ends go on as if it had been acknowledged.
//
// +checklocks:e.mu
func (e *Endpoint) finishInside(s *segment) bool {
	if e.snd == nil || e.route == nil || !e.isNext(s) || !e.route.Inside() {
		return false
	}
	peer := e.peer()
	if peer == nil || !peer.TryLock() {
		return false
	}
	peer.ownedByUser.Store(1)
	taken := peer.takeFinish(e, s)
	peer.UnlockUser()
	if !taken {
		return false
	}
	switch e.EndpointState() {
	case StateFinWait1:
		e.setEndpointState(StateFinWait2)
	case StateLastAck:
		e.inside = nil
		e.transitionToStateCloseLocked()
	}
	return true
}

// takeFinish is the other end of finishInside.
//
// +checklocks:e.mu
// +checklocks:from.mu
func (e *Endpoint) takeFinish(from *Endpoint, s *segment) bool {
	state := e.EndpointState()
	if state != StateEstablished && state != StateFinWait2 {
		return false
	}
	rcv, snd := e.rcv, from.snd
	if rcv.closed || rcv.RcvNxt != snd.SndNxt || len(rcv.pendingRcvdSegments) != 0 || !e.segmentQueue.empty() {
		return false
	}
	from.countInside(0)
	snd.writeList.Remove(s)
	s.DecRef()
	snd.finSent = true
	snd.SndNxt++
	snd.SndUna, snd.RTTMeasureSeqNum = snd.SndNxt, snd.SndNxt

	rcv.RcvNxt++
	if rcv.RcvAcc.LessThan(rcv.RcvNxt) {
		rcv.RcvAcc = rcv.RcvNxt
	}
	e.snd.MaxSentAck = rcv.RcvNxt
	rcv.closed = true
	e.readyToRead(nil)
	e.updateConnDirectionState(connDirectionStateRcvClosed)
	if state == StateEstablished {
		e.setEndpointState(StateCloseWait)
	} else {
		e.inside = nil
		e.setRecentTimestamp(e.RecentTS)
		e.setEndpointState(StateTimeWait)
		startTimeWait(e)
	}
	return true
}

// resetInside tells the other end that the connection is reset, as the packet would that need not be sent then.
//
// +checklocks:e.mu
func (e *Endpoint) resetInside() bool {
	if e.snd == nil || e.rcv == nil || e.route == nil || !e.route.Inside() {
		return false
	}
	peer := e.peer()
	if peer == nil || !peer.TryLock() {
		return false
	}
	peer.ownedByUser.Store(1)
	defer peer.UnlockUser()
	state := peer.EndpointState()
	switch state {
	case StateEstablished, StateFinWait1, StateFinWait2, StateCloseWait:
	default:
		return false
	}
	if rcv := peer.rcv; rcv.RcvNxt != e.snd.SndNxt || len(rcv.pendingRcvdSegments) != 0 || !peer.segmentQueue.empty() {
		return false
	}
	e.countInside(0)
	e.stack.Stats().TCP.ResetsSent.Increment()
	e.stack.Stats().TCP.ResetsReceived.Increment()
	e.inside, peer.inside = nil, nil
	if state == StateCloseWait { // as handleReset does
		peer.transitionToStateCloseLocked()
		peer.hardError = &tcpip.ErrAborted{}
	} else {
		peer.resetConnectionLocked(&tcpip.ErrConnectionReset{})
	}
	peer.waiterQueue.Notify(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
	return true
}

// connectInside makes the connection that e is about to ask for, if it is to an endpoint of this stack that
// listens and has room: both ends get what they would have got of three packets. It returns false if the
// packets have to be sent.
//
// +checklocks:e.mu
func (e *Endpoint) connectInside() bool {
	if !e.route.Inside() {
		return false
	}
	id := reverse(e.ID)
	l, ok := e.stack.FindTransportEndpoint(e.route.NetProto(), ProtocolNumber, id, e.route.NICID()).(*Endpoint)
	if !ok || l == e || l.EndpointState() != StateListen || !l.TryLock() {
		return false
	}
	l.ownedByUser.Store(1)
	defer l.UnlockUser()
	if l.EndpointState() != StateListen || l.closed || l.deferAccept != 0 || !l.segmentQueue.empty() || l.acceptQueueIsFull() {
		return false
	}
	l.rcvQueueMu.Lock()
	shut := l.RcvClosed
	l.rcvQueueMu.Unlock()
	if shut {
		return false
	}
	n := l.acceptInside(e, id)
	if n == nil {
		return false
	}
	now := e.stack.Clock().NowMonotonic()
	e.TSOffset = e.protocol.tsOffset(e.ID.LocalAddress, e.ID.RemoteAddress)
	n.TSOffset = n.protocol.tsOffset(id.LocalAddress, id.RemoteAddress)
	e.SendTSOk, n.SendTSOk = true, true
	e.RecentTS, n.RecentTS = n.tsVal(now), e.tsVal(now)
	e.recentTSTime, n.recentTSTime = now, now
	var sack tcpip.TCPSACKEnabled
	e.stack.TransportProtocolOption(ProtocolNumber, &sack)
	options := header.TCPSynOptions{SACKPermitted: bool(sack)}
	e.maybeEnableSACKPermitted(options)
	n.maybeEnableSACKPermitted(options)
	e.amss = calculateAdvertisedMSS(e.userMSS, e.route)
	n.amss = calculateAdvertisedMSS(n.userMSS, n.route)

	ours := generateSecureISN(e.ID, e.stack.Clock(), e.protocol.seqnumSecret)
	theirs := generateSecureISN(id, e.stack.Clock(), e.protocol.seqnumSecret)
	ourWindow, theirWindow := seqnum.Size(e.initialReceiveWindow()), seqnum.Size(n.initialReceiveWindow())
	ourScale, theirScale := e.rcvWndScaleForHandshake(), n.rcvWndScaleForHandshake()
	e.establish(ours, theirs, ourWindow, theirWindow, n.amss, ourScale, theirScale)
	n.establish(theirs, ours, theirWindow, ourWindow, e.amss, theirScale, ourScale)
	e.inside, n.inside = n, e
	n.isConnectNotified = true
	for range 3 {
		e.countInside(0)
	}
	n.mu.Unlock()

	e.stack.Stats().TCP.ActiveConnectionOpenings.Increment()
	e.stack.Stats().TCP.PassiveConnectionOpenings.Increment()
	l.acceptMu.Lock()
	l.acceptQueue.endpoints.PushBack(n)
	l.acceptMu.Unlock()
	l.waiterQueue.Notify(waiter.ReadableEvents)
	e.waiterQueue.Notify(waiter.WritableEvents)
	return true
}

// acceptInside makes the endpoint of the listening one for a connection of e's, which calls it id. It is locked;
// nil: it can't be had.
//
// +checklocks:e.mu
// +checklocks:from.mu
func (e *Endpoint) acceptInside(from *Endpoint, id stack.TransportEndpointID) *Endpoint {
	ctx, route := e.listenCtx, from.route
	protocol := ctx.netProto
	if protocol == 0 {
		protocol = route.NetProto()
	}
	if id.LocalAddress == id.RemoteAddress {
		route.Acquire()
	} else {
		r, err := e.stack.FindRoute(route.NICID(), id.LocalAddress, id.RemoteAddress, route.NetProto(), false)
		if err != nil {
			return nil
		}
		route = r
	}
	n := newEndpoint(e.stack, e.protocol, protocol, &waiter.Queue{})
	n.mu.Lock()
	n.owner = e.owner
	n.ops.SetV6Only(ctx.v6Only)
	n.ID = id
	n.boundNICID = route.NICID()
	n.route = route
	n.effectiveNetProtos = []tcpip.NetworkProtocolNumber{route.NetProto()}
	n.ops.SetReceiveBufferSize(int64(ctx.rcvWnd), false)
	n.setEndpointState(StateConnecting)
	n.initGSO()
	e.propagateInheritableOptionsLocked(n)
	registered := false
	if n.reserveTupleLocked() {
		err := n.stack.RegisterTransportEndpoint(n.effectiveNetProtos, ProtocolNumber, n.ID, n, n.boundPortFlags, n.boundBindToDevice)
		registered = err == nil
	}
	n.isRegistered = registered
	if !registered {
		n.mu.Unlock()
		n.Close()
		return nil
	}
	return n
}

// establish gives an endpoint what a handshake leaves it with: the sequence numbers, windows, and scales of its
// own and of the other end.
//
// +checklocks:e.mu
func (e *Endpoint) establish(iss, irs seqnum.Value, ourWindow, theirWindow seqnum.Size, mss uint16, ourScale, theirScale int) {
	initSender(e, iss, irs, theirWindow, mss, theirScale)
	e.snd.updateRTO(time.Microsecond)
	e.rcvQueueMu.Lock()
	e.rcv = newReceiver(e, irs, ourWindow, uint8(ourScale))
	e.RcvAutoParams.PrevCopiedBytes = int(ourWindow)
	e.rcvQueueMu.Unlock()
	e.setEndpointState(StateEstablished)
}

// countInside counts a segment that was not made, with so many bytes and a time stamp.
//
// +checklocks:e.mu
func (e *Endpoint) countInside(bytes int) {
	const options = 12
	ip := header.IPv4MinimumSize
	if e.route.NetProto() == header.IPv6ProtocolNumber {
		ip = header.IPv6MinimumSize
	}
	e.route.CountInside(ip + header.TCPMinimumSize + options + bytes)
	e.stats.SegmentsSent.Increment()
	e.stack.Stats().TCP.SegmentsSent.Increment()
	e.stack.Stats().TCP.ValidSegmentsReceived.Increment()
}

// lockWait is how long a processor leaves an endpoint alone whose lock a goroutine has that isn't running.
const lockWait = 50 * time.Microsecond

// again queues an endpoint that has more segments. If somebody holds its lock who waits for something, such
// as room in a network card's queue, then to try again at once would keep the one CPU from ever finishing it.
func (p *processor) again(ep *Endpoint) {
	if ep.TryLock() {
		ep.mu.Unlock()
	} else {
		time.Sleep(lockWait)
	}
	p.epQ.enqueue(ep)
}
