package tcp

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// What most segments look like is known before they come (Jacobson's header prediction): the next bytes in order, or
// the acknowledgment of all that was sent, on a connection where nothing is lost. Such a segment is dealt with as it
// arrives, on the goroutine that serves the card, if nothing has to be sent for it: that goroutine can't wait for
// room in the card's queue. What is done for it is what handleSegmentsLocked does, with all its effects but for
// timers that would be set and stopped again. All other segments are left to the processor.

// confirmEvery is how often a peer's acknowledgments confirm that it is reachable: far less than it stays that way.
const confirmEvery = time.Second

// Receive implements stack.Receiver.
func (e *Endpoint) Receive(a *stack.Arrival) bool {
	segment := a.Segment()
	h := header.TCP(segment)
	offset := int(h.DataOffset())
	if offset < header.TCPMinimumSize || offset > len(segment) || !a.Intact() {
		return false
	}
	if flags := h.Flags(); flags&^header.TCPFlagPsh == header.TCPFlagAck && e.EndpointState() == StateEstablished && e.TryLock() {
		taken := e.receivePredicted(a, h[:offset], segment[offset:])
		e.mu.Unlock()
		if taken {
			return true
		}
	}
	e.receiveAny(a, h[:offset])
	return true
}

// receiveAny has the processor handle the segment, as queuePacket does.
func (e *Endpoint) receiveAny(a *stack.Arrival, h header.TCP) {
	a.Count()
	e.countReceived()
	s := newArrived(a, h, e.stack.Clock().NowMonotonic())
	s.options = h[header.TCPMinimumSize:]
	if t, stamped, ok := parseStamps(s.options); ok {
		s.parsedOptions = header.TCPOptions{TS: stamped, TSVal: t.value, TSEcr: t.echo}
	} else {
		s.parsedOptions = header.ParseTCPOptions(s.options)
	}
	if s.flags.Contains(header.TCPFlagRst) {
		e.stack.Stats().TCP.ResetsReceived.Increment()
	}
	if e.enqueueSegment(s) && !e.isOwnedByUser() && !e.handleInPlace(a, s) {
		d := &e.protocol.dispatcher
		p := &d.processors[0]
		if len(d.processors) > 1 {
			p = d.selectProcessor(a.ID)
		}
		p.queueEndpoint(e)
	}
	s.DecRef()
}

func (e *Endpoint) countReceived() {
	e.stack.Stats().TCP.ValidSegmentsReceived.Increment()
	e.stats.SegmentsReceived.Increment()
}

// newArrived is newIncomingSegment without the options.
func newArrived(a *stack.Arrival, h header.TCP, now tcpip.MonotonicTime) *segment {
	s := newSegment()
	s.id = a.ID
	s.sequenceNumber = seqnum.Value(h.SequenceNumber())
	s.ackNumber = seqnum.Value(h.AckNumber())
	s.flags = h.Flags()
	s.window = seqnum.Size(h.WindowSize())
	s.rcvdTime = now
	s.csumValid = true
	s.pkt = a.Packet(len(h))
	s.dataMemSize = s.pkt.MemSize()
	return s
}

// stamps are the time stamps that a segment has.
type stamps struct{ value, echo uint32 }

// parseStamps reads options that are nothing, or time stamps alone as RFC 7323, appendix A, lays them out.
func parseStamps(options []byte) (t stamps, has, ok bool) {
	const layout = header.TCPOptionNOP<<24 | header.TCPOptionNOP<<16 | header.TCPOptionTS<<8 | header.TCPOptionTSLength
	switch {
	case len(options) == 0:
		return t, false, true
	case len(options) == 12 && binary.BigEndian.Uint32(options) == layout:
		return stamps{binary.BigEndian.Uint32(options[4:]), binary.BigEndian.Uint32(options[8:])}, true, true
	}
	return t, false, false
}

// receivePredicted handles the segment if it is one that was expected. If it returns false, nothing has happened.
//
// +checklocks:e.mu
func (e *Endpoint) receivePredicted(a *stack.Arrival, h header.TCP, payload []byte) bool {
	t, stamped, ok := parseStamps(h[header.TCPMinimumSize:])
	if !ok || stamped != e.SendTSOk || !e.isQuiet() {
		return false
	}
	rcv, snd := e.rcv, e.snd
	n := seqnum.Size(len(payload))
	sequence, next := seqnum.Value(h.SequenceNumber()), rcv.RcvNxt.Add(n)
	window := seqnum.Size(h.WindowSize()) << snd.SndWndScale
	// A segment that is old by its time stamp (RFC 7323, 5.3), or one that is larger than the window, is none.
	if sequence != rcv.RcvNxt || !rcv.acceptable(rcv.RcvNxt, n) || rcv.RcvAcc.LessThan(next) || window == 0 ||
		stamped && (t.echo == 0 || seqnum.Value(t.value).LessThan(seqnum.Value(e.RecentTS))) ||
		n > 0 && e.receiveMemUsed() > int(e.ops.GetReceiveBufferSize()) ||
		next != snd.MaxSentAck && !e.waits(next) {
		return false
	}
	ack := seqnum.Value(h.AckNumber())
	front := snd.writeList.Front()
	switch {
	case ack == snd.SndUna && front == nil:
	case ack == snd.SndUna:
		// Neither does this segment count as a duplicate acknowledgment, nor does it show that others were lost.
		if n == 0 && !e.SACKPermitted && snd.SndWnd == window || front.xmitCount != 1 || !snd.rc.XmitTime.Before(front.xmitTime) {
			return false
		}
	case ack == snd.SndNxt:
		for s := front; s != nil; s = s.Next() {
			if s.xmitCount != 1 || s.acked {
				return false
			}
		}
	default:
		return false
	}

	now := e.stack.Clock().NowMonotonic()
	a.Count()
	e.countReceived()
	rcv.lastRcvdAckTime = now
	if n > 0 {
		s := newArrived(a, h, now)
		s.setOwner(e, recvQ)
		e.rcvQueueMu.Lock()
		e.RcvBufUsed += int(n)
		e.rcvQueue.PushBack(s) // with its reference
		e.rcvQueueMu.Unlock()
		rcv.RcvNxt = next
		rcv.updateRTT(now)
	} else {
		a.Drop()
	}
	snd.receivePredicted(ack, sequence, window, t, now)
	if rcv.RcvNxt != snd.MaxSentAck {
		snd.acks.came = now
		snd.acks.wait()
	}
	e.resetKeepaliveTimer(true)
	if n > 0 {
		e.waiterQueue.Notify(waiter.ReadableEvents)
	}
	return true
}

// isQuiet says whether the connection is in the state in which it is most of the time: bytes go in order both ways,
// none are lost, and none wait to be sent or to be processed.
//
// +checklocks:e.mu
func (e *Endpoint) isQuiet() bool {
	if e.EndpointState() != StateEstablished || e.closed || e.shutdownFlags != 0 || e.urgent.state.Load() != urgentNone ||
		e.probe != nil {
		return false
	}
	rcv, snd := e.rcv, e.snd
	if rcv.closed || len(rcv.pendingRcvdSegments) != 0 || e.sack.NumBlocks != 0 || snd.writeNext != nil || snd.zeroWindowProbing ||
		snd.FastRecovery.Active || snd.state != tcpip.Open || snd.rc.Reord || snd.rc.tlpRxtOut || snd.SackedOut != 0 ||
		!e.scoreboard.Empty() {
		return false
	}
	q := &e.segmentQueue
	q.mu.Lock()
	quiet := q.emptyLocked() && !q.frozen
	q.mu.Unlock()
	return quiet
}

// receivePredicted is handleRcvdSegment for a segment that acknowledges all that was sent, or nothing new, of a
// connection that is quiet.
//
// +checklocks:s.ep.mu
func (s *sender) receivePredicted(ack, sequence seqnum.Value, window seqnum.Size, t stamps, now tcpip.MonotonicTime) {
	e := s.ep
	rtt := unknownRTT
	if !e.SendTSOk && s.RTTMeasureSeqNum.LessThan(ack) {
		rtt = now.Sub(s.RTTMeasureTime)
		s.updateRTO(rtt)
		s.RTTMeasureSeqNum = s.SndNxt
	}
	if e.SendTSOk && seqnum.Value(e.RecentTS).LessThan(seqnum.Value(t.value)) && sequence.LessThanEq(s.MaxSentAck) {
		e.RecentTS, e.recentTSTime = t.value, now
	}
	rack := e.SACKPermitted && e.tcpRecovery&tcpip.TCPRACKLossDetection != 0
	if rack {
		s.rc.setDSACKSeen(false)
	}
	s.DupAckCount = 0
	s.SndWnd = window
	acked := s.SndUna.Size(ack)
	if acked > 0 {
		if e.SendTSOk {
			rtt = e.elapsed(now, t.echo)
			s.updateRTO(rtt)
		}
		s.SndUna = ack
		outstanding := s.Outstanding
		for seg := s.writeList.Front(); seg != nil; seg = s.writeList.Front() {
			if rack {
				s.rc.delivered(seg, now)
			}
			s.writeList.Remove(seg)
			s.Outstanding -= s.pCount(seg, s.MaxPayloadSize)
			seg.DecRef()
		}
		s.cc.Update(outstanding-s.Outstanding, rtt, now)
		if s.FastRecovery.Last.LessThan(s.SndUna) {
			if e.tcpRecovery&tcpip.TCPRACKLossDetection != 0 {
				s.rc.exitRecovery()
			}
			s.reorderTimer.disable()
		}
		e.updateSndBufferUsage(int(acked))
		s.Outstanding = 0
		s.firstRetransmittedSegXmitTime = tcpip.MonotonicTime{}
		s.resendTimer.disable()
		s.probeTimer.disable()
		if now.Sub(e.confirmed) >= confirmEvery {
			e.confirmed = now
			e.route.ConfirmReachable()
		}
	}
	if rack {
		s.rc.updateRACKReorderWindow()
	}
	if s.SndCwnd > InitialCwnd && now.Sub(s.LastSendTime) > s.RTO {
		s.SndCwnd = InitialCwnd // see sendData
	}
	if s.SndUna != s.SndNxt {
		s.postXmit(false, true)
	}
}

// delivered is update and detectReorder for a segment that was sent once, of a connection without reordering, and is
// acknowledged now.
//
// +checklocks:rc.snd.ep.mu
func (rc *rackControl) delivered(seg *segment, now tcpip.MonotonicTime) {
	rc.RTT = now.Sub(seg.xmitTime)
	if rc.RTT < rc.minRTT || rc.minRTT == 0 {
		rc.minRTT = rc.RTT
	}
	end := seg.sequenceNumber.Add(seqnum.Size(seg.payloadSize()))
	if rc.XmitTime.Before(seg.xmitTime) || seg.xmitTime == rc.XmitTime && rc.EndSequence.LessThan(end) {
		rc.XmitTime, rc.EndSequence = seg.xmitTime, end
	}
	rc.detectReorder(seg)
}
