package tcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// sendInside passes what was just queued to be sent to the other end of the connection, if that end is in
// this stack too and everything that was sent before has arrived: the sequence numbers of both ends move as
// if the segment had been sent and acknowledged, without the packets. It returns false if the segment has to
// go the long way.
//
// +checklocks:e.mu
func (e *Endpoint) sendInside(s *segment) bool {
	snd := e.snd
	if s == nil || snd == nil || e.route == nil || e.route.RequiresTXTransportChecksum() {
		return false
	}
	if state := e.EndpointState(); state != StateEstablished && state != StateCloseWait {
		return false
	}
	if snd.SndUna != snd.SndNxt || snd.writeNext != nil || snd.writeList.Front() != s || s.Next() != nil ||
		snd.isAssignedSequenceNumber(s) || e.ops.GetCorkOption() || !e.segmentQueue.empty() {
		return false
	}
	peer := e.inside
	if peer == nil {
		id := stack.TransportEndpointID{
			LocalPort: e.ID.RemotePort, LocalAddress: e.ID.RemoteAddress,
			RemotePort: e.ID.LocalPort, RemoteAddress: e.ID.LocalAddress,
		}
		found, ok := e.stack.FindTransportEndpoint(e.route.NetProto(), ProtocolNumber, id, e.route.NICID()).(*Endpoint)
		if !ok || found == e || found.ID != id {
			return false
		}
		peer = found
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
		e.shutdownFlags != 0 || n > e.selectWindow() {
		return false
	}
	snd.writeList.Remove(s)
	from.sndQueueInfo.sndQueueMu.Lock()
	from.sndQueueInfo.SndBufUsed -= int(n)
	from.sndQueueInfo.sndQueueMu.Unlock()
	snd.SndNxt = snd.SndNxt.Add(n)
	snd.SndUna = snd.SndNxt
	snd.RTTMeasureSeqNum = snd.SndNxt

	s.setOwner(e, recvQ)
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

// mostMerged is how many bytes of small writes one segment gathers while it waits to be sent.
const mostMerged = 32 << 10

// mergeSmall adds what a program writes to the segment that waits to be sent last, if that has room: a
// segment takes a kilobyte of its own, and a program may write byte by byte to a peer that doesn't receive.
//
// +checklocks:e.mu
func (e *Endpoint) mergeSmall(b *buffer.Buffer) *segment {
	last := e.snd.writeList.Back()
	if last == nil || e.snd.isAssignedSequenceNumber(last) || last.payloadSize() == 0 || last.ReadRefs() != 1 ||
		b.Size() > mostMerged/8 || last.payloadSize()+int(b.Size()) > mostMerged {
		return nil
	}
	last.pkt.Data().AppendView(buffer.NewViewWithData(b.Flatten()))
	b.Release()
	last.dataMemSize = last.pkt.MemSize()
	return last
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
