package tcp

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// isLast says whether seg has the last bytes of the stream: they are neither held back by a cork nor by Nagle's
// algorithm, since nothing comes that could fill the segment (TCP_CORK in tcp(7), RFC 9293, 3.7.4).
func (s *sender) isLast(seg *segment) bool {
	next := seg.Next()
	return next != nil && next.payloadSize() == 0
}

// finish returns the flags that seg, which is about to be sent, goes with. If it has the last bytes of the
// stream and goes for the first time, that includes the FIN, which is its own segment in the write list: it
// counts as sent with this one's packet then, and is sent again alone if that gets lost.
//
// +checklocks:s.ep.mu
func (s *sender) finish(seg *segment) header.TCPFlags {
	if s.writeNext != seg || seg.xmitCount != 1 || !s.isLast(seg) || s.inRecovery() || s.FastRecovery.Active {
		return seg.flags
	}
	fin, size := seg.Next(), seqnum.Size(seg.payloadSize())
	if fin.xmitCount != 0 || int(size) > s.MaxPayloadSize || !seg.sequenceNumber.Add(size).LessThan(s.SndUna.Add(s.SndWnd)) {
		return seg.flags
	}
	fin.sequenceNumber = seg.sequenceNumber.Add(size)
	fin.flags = header.TCPFlagAck | header.TCPFlagFin
	fin.xmitTime, fin.xmitCount = seg.xmitTime, 1
	s.finSent, s.finWent = true, true
	s.SndNxt = fin.sequenceNumber + 1
	return seg.flags | header.TCPFlagFin
}

// afterFinish returns what is to be sent next if seg follows what was just sent: nothing, if seg is the FIN that
// finish sent along.
//
// +checklocks:s.ep.mu
func (s *sender) afterFinish(seg *segment) *segment {
	if seg == nil || !s.finWent {
		return seg
	}
	s.finWent = false
	s.Outstanding += s.pCount(seg, s.MaxPayloadSize)
	return nil
}
