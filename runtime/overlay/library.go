package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// slimmed is the module that holds the network stack. As it comes, it spends a million instructions
// before main (registering every type for checkpoints, compiling expressions, filling a pool of random
// numbers) and links packages that ask an OS for all of that.
const slimmed = "gvisor.dev/gvisor"

// slimmedParts are the folders below its pkg that the kernel may import packages from.
var slimmedParts = []string{
	"atomicbitops", "bits", "buffer", "context", "gohacks", "rand", "refs", "sleep", "sync", "tcpip", "waiter",
}

// An edit replaces text in a file of the module: for what no file beside it can do.
type edit struct{ file, old, new string }

// edits hook the files of runtime/_gvisor into the module, each in one place.
var edits = []edit{
	// inside.go: connections within the machine, and small writes.
	{"pkg/tcpip/transport/tcp/endpoint.go", "	terminateAtRestore bool\n}", "	terminateAtRestore bool\n\n	inside    *Endpoint\n	confirmed tcpip.MonotonicTime\n	urgent    urgent\n}"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "	e.LockUser()\n	defer e.UnlockUser()\n\n	// Return if either", "	if !opts.Atomic {\n		return e.write(p, opts)\n	}\n\n	e.LockUser()\n	defer e.UnlockUser()\n\n	// Return if either"},
	{
		"pkg/tcpip/transport/tcp/dispatcher.go", "!ep.isOwnedByUser() {\n					p.epQ.enqueue(ep)\n",
		"!ep.isOwnedByUser() {\n					p.again(ep)\n",
	},
	// urgent.go: urgent bytes.
	{"pkg/tcpip/transport/tcp/segment.go", "	lost bool\n}", "	lost bool\n\n	// urgent says that the last byte is.\n	urgent bool\n}"},
	{"pkg/tcpip/transport/tcp/snd.go", "				if seg.payloadSize()+nSeg.payloadSize() > available {\n", "				if seg.urgent || nSeg.urgent || seg.payloadSize()+nSeg.payloadSize() > available {\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "		seg.flags = header.TCPFlagAck | header.TCPFlagPsh\n	}\n", "		seg.flags = header.TCPFlagAck | header.TCPFlagPsh\n		if seg.urgent {\n			seg.flags |= header.TCPFlagUrg\n		}\n	}\n"},
	{"pkg/tcpip/transport/tcp/connect.go", "		WindowSize: uint16(tf.rcvWnd),\n	})\n	copy(tcp[", "		WindowSize: uint16(tf.rcvWnd),\n\n		UrgentPointer: urgentPointer(tf.flags),\n	})\n	copy(tcp["},
	{"pkg/tcpip/transport/tcp/endpoint.go", "func (e *Endpoint) readyToRead(s *segment) {\n", "func (e *Endpoint) readyToRead(s *segment) {\n	if s != nil && (s.urgent || s.flags&header.TCPFlagUrg != 0 || e.urgent.state.Load() != urgentNone) {\n		e.noteUrgent(s)\n	}\n"},
	{
		"pkg/tcpip/transport/tcp/endpoint.go", "	defer e.UnlockUser()\n\n	if err := e.checkReadLocked(); err != nil {\n",
		"	defer e.UnlockUser()\n\n	leftOut := 0\n	if e.urgent.state.Load() != urgentNone {\n		var err tcpip.Error\n		if dst, leftOut, err = e.untilUrgent(dst, opts.Peek); err != nil {\n			return tcpip.ReadResult{}, err\n		}\n	}\n	if err := e.checkReadLocked(); err != nil {\n",
	},
	{"pkg/tcpip/transport/tcp/endpoint.go", "	var err error\n	done := 0\n", "	var err error\n	done := -leftOut\n"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "				result |= waiter.ReadableEvents\n			}\n			if e.RcvClosed {\n", "				result |= waiter.ReadableEvents\n			}\n			result = e.urgentReadiness(mask, result)\n			if e.RcvClosed {\n"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "	return e.RcvBufUsed, nil\n", "	return e.urgentQueued(), nil\n"},
	// Connections within the machine are made and ended without packets too.
	{"pkg/tcpip/transport/tcp/endpoint.go", "	// Start a new handshake.\n", "	if e.connectInside() {\n		return &tcpip.ErrConnectStarted{}\n	}\n\n	// Start a new handshake.\n"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "			e.sendData(s)\n", "			if !e.finishInside(s) {\n				e.sendData(s)\n			}\n"},
	{"pkg/tcpip/transport/tcp/connect.go", "		e.sendEmptyRaw(header.TCPFlagAck|header.TCPFlagRst, resetSeqNum, ackNum, 0)\n", "		if !e.resetInside() {\n			e.sendEmptyRaw(header.TCPFlagAck|header.TCPFlagRst, resetSeqNum, ackNum, 0)\n		}\n"},
	// The same for datagrams, which are charged for what they take.
	{"pkg/tcpip/transport/udp/endpoint.go", "	dataSz := p.Len()\n", "	if n, done, err := e.sendInside(&udpInfo, p); done {\n		return n, err\n	}\n\n	dataSz := p.Len()\n"},
	{"pkg/tcpip/transport/udp/endpoint.go", "e.rcvBufSize += pkt.Data().Size()", "e.rcvBufSize += charge(pkt.Data().Size())"},
	{"pkg/tcpip/transport/udp/endpoint.go", "e.rcvBufSize -= p.pkt.Data().Size()", "e.rcvBufSize -= charge(p.pkt.Data().Size())"},
	// errors.go: who has asked for errors hears of them without being connected.
	{"pkg/tcpip/transport/udp/endpoint.go", "		if e.net.State() == transport.DatagramEndpointStateConnected {\n			e.onICMPError(", "		if e.hears(pkt) {\n			e.onICMPError("},
	{"pkg/tcpip/transport/udp/endpoint.go", "				Addr: id.RemoteAddress,\n				Port: e.remotePort,\n", "				Addr: failedAt(id.RemoteAddress, pkt),\n				Port: failedPort(e.remotePort, udp),\n"},
	// acknowledge.go: answers take acknowledgments along.
	{"pkg/tcpip/transport/tcp/connect.go", "	if e.rcv.RcvNxt != e.snd.MaxSentAck {\n		e.snd.sendAck()\n	}\n", "	if e.rcv.RcvNxt != e.snd.MaxSentAck {\n		e.acknowledge()\n	}\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	corkTimer timer `state:\"nosave\"`\n", "	corkTimer timer `state:\"nosave\"`\n\n	acks acknowledgments `state:\"nosave\"`\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	ep.snd.corkTimer.init(", "	ep.snd.acks.answered = !ep.ops.GetQuickAck()\n	ep.snd.acks.timer.init(ep, ackExpired)\n	ep.snd.corkTimer.init("},
	{"pkg/tcpip/transport/tcp/endpoint.go", "		e.snd.corkTimer.cleanup()\n", "		e.snd.corkTimer.cleanup()\n		e.snd.acks.timer.cleanup()\n"},
	// timer.go: the timers of all connections are in one queue.
	{"pkg/tcpip/transport/tcp/protocol.go", "	dispatcher dispatcher\n", "	dispatcher dispatcher\n\n	timers timers\n"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "	timeWaitTimer tcpip.Timer `state:\"nosave\"`\n", "	timeWaitTimer tcpip.Timer `state:\"nosave\"`\n\n	alarm    alarm\n	straight *stack.Straight\n"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "e.keepalive.timer.init(e.stack.Clock(), timerHandler(e, e.keepaliveTimerExpired))", "e.keepalive.timer.init(e, keepaliveExpired)"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "e.finWait2Timer = e.stack.Clock().AfterFunc(e.tcpLingerTimeout, e.finWait2TimerExpired)", "e.finWait2Timer = e.after(e.lingerTime(), (*Endpoint).finWait2TimerExpired)"},
	{"pkg/tcpip/transport/tcp/rcv.go", "e.finWait2Timer = e.stack.Clock().AfterFunc(e.tcpLingerTimeout, e.finWait2TimerExpired)", "e.finWait2Timer = e.after(e.lingerTime(), (*Endpoint).finWait2TimerExpired)"},
	{"pkg/tcpip/transport/tcp/dispatcher.go", "ep.stack.Clock().AfterFunc(timeWaitDuration, ep.timeWaitTimerExpired)", "ep.after(timeWaitDuration, (*Endpoint).timeWaitTimerExpired)"},
	// What lingers in TIME-WAIT is as little as it needs.
	{"pkg/tcpip/transport/tcp/dispatcher.go", "	timeWaitDuration := ep.getTimeWaitDuration()\n", "	ep.h, ep.straight = nil, nil\n	timeWaitDuration := ep.getTimeWaitDuration()\n"},
	{"pkg/tcpip/transport/tcp/connect.go", "newBackoffTimer(h.ep.stack.Clock(), InitialRTO, MaxRTO, timerHandler(e, h.retransmitHandlerLocked))", "e.newHandshakeTimer()"},
	{"pkg/tcpip/transport/tcp/snd.go", "resendTimer.init(ep.snd.ep.stack.Clock(), timerHandler(ep.snd.ep, ep.snd.retransmitTimerExpired))", "resendTimer.init(ep, resendExpired)"},
	{"pkg/tcpip/transport/tcp/snd.go", "reorderTimer.init(ep.snd.ep.stack.Clock(), timerHandler(ep.snd.ep, ep.snd.rc.reorderTimerExpired))", "reorderTimer.init(ep, reorderExpired)"},
	{"pkg/tcpip/transport/tcp/snd.go", "probeTimer.init(ep.snd.ep.stack.Clock(), timerHandler(ep.snd.ep, ep.snd.probeTimerExpired))", "probeTimer.init(ep, probeExpired)"},
	{"pkg/tcpip/transport/tcp/snd.go", "corkTimer.init(ep.snd.ep.stack.Clock(), timerHandler(ep.snd.ep, ep.snd.corkTimerExpired))", "corkTimer.init(ep, corkExpired)"},
	// One initial sequence number is made for a connection, not two, and no map of the segments that are in a list.
	{"pkg/tcpip/transport/tcp/accept.go", "	isn := generateSecureISN(s.id, l.stack.Clock(), l.protocol.seqnumSecret)\n", ""},
	{"pkg/tcpip/transport/tcp/accept.go", "ep.newPassiveHandshake(isn, irs, ", "ep.newPassiveHandshake(irs, "},
	{"pkg/tcpip/transport/tcp/connect.go", "newPassiveHandshake(isn, irs seqnum.Value, ", "newPassiveHandshake(irs seqnum.Value, "},
	{"pkg/tcpip/transport/tcp/connect.go", "h.resetToSynRcvd(isn, irs, ", "h.resetToSynRcvd(h.iss, irs, "},
	{"pkg/tcpip/transport/tcp/snd.go", "		writeList: protectedWriteList{\n			set: make(map[*segment]struct{}),\n		},\n", ""},
	{"pkg/tcpip/transport/tcp/snd.go", "type protectedWriteList struct {\n	writeList segmentList\n	set       map[*segment]struct{}\n", "type protectedWriteList struct {\n	writeList segmentList\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	if _, ok := wl.set[seg]; !ok {\n		panic(\"segment not found write list\")\n	}\n	wl.writeList.Remove(seg)\n	delete(wl.set, seg)\n", "	wl.writeList.Remove(seg)\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	if _, ok := wl.set[seg]; ok {\n		panic(\"segment already in write list\")\n	}\n	wl.writeList.PushBack(seg)\n	wl.set[seg] = struct{}{}\n", "	wl.writeList.PushBack(seg)\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	if _, ok := wl.set[seg]; ok {\n		panic(\"segment already in write list\")\n	}\n	wl.writeList.InsertAfter(before, seg)\n	wl.set[seg] = struct{}{}\n", "	wl.writeList.InsertAfter(before, seg)\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	if _, ok := s.writeList.set[seg]; !ok {\n		panic(\"attempted to send segment not in write list\")\n	}\n", ""},
	// ways.go: routes that were found are found again.
	{"pkg/tcpip/stack/stack.go", "	routeTable tcpip.RouteList `state:\"nosave\"`\n", "	routeTable tcpip.RouteList `state:\"nosave\"`\n\n	ways ways\n"},
	{"pkg/tcpip/stack/stack.go", "func (s *Stack) FindRoute(", "func (s *Stack) findRoute("},
	{"pkg/tcpip/stack/stack.go", "	nic.NetworkLinkEndpoint.SetLinkAddress(addr)\n", "	nic.NetworkLinkEndpoint.SetLinkAddress(addr)\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/nic.go", "	n.promiscuous.Store(enable)\n", "	n.promiscuous.Store(enable)\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/nic.go", "	n.spoofing.Store(enable)\n", "	n.spoofing.Store(enable)\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/nic.go", "	return forwardingEP.SetForwarding(enable), nil\n", "	defer changes.Add(1)\n	return forwardingEP.SetForwarding(enable), nil\n"},
	// Closed endpoints are not listed for who would save them.
	{"pkg/tcpip/tcpip.go", "	danglingEndpointsMu.Lock()\n	danglingEndpoints[e] = struct{}{}\n	danglingEndpointsMu.Unlock()\n", ""},
	{"pkg/tcpip/tcpip.go", "	danglingEndpointsMu.Lock()\n	delete(danglingEndpoints, e)\n	danglingEndpointsMu.Unlock()\n", ""},
	// finish.go: the last bytes of a stream aren't held back, and take its FIN along.
	{"pkg/tcpip/transport/tcp/snd.go", "	startCork bool\n", "	startCork bool\n\n	finWent bool\n	orphan  orphan\n"},
	// orphan.go: closed connections end in time, whatever their peers do.
	{"pkg/tcpip/transport/tcp/snd.go", "	// Give up if we've waited more than a minute", "	if s.abandoned() {\n		s.ep.stack.Stats().TCP.EstablishedTimedout.Increment()\n		return &tcpip.ErrTimeout{}\n	}\n\n	// Give up if we've waited more than a minute"},
	{"pkg/tcpip/transport/tcp/snd.go", "			if !nextTooBig && seg.payloadSize() < available {\n", "			if !nextTooBig && seg.payloadSize() < available && !s.isLast(seg) && !seg.urgent {\n"},
	// net/inet ends what a cork holds back; this timer would give a segment that was sent another number.
	{"pkg/tcpip/transport/tcp/snd.go", "							s.corkTimer.enable(MinRTO)\n", ""},
	{"pkg/tcpip/transport/tcp/snd.go", "s.sendSegmentFromPacketBuffer(seg.pkt, seg.flags, ", "s.sendSegmentFromPacketBuffer(seg.pkt, s.finish(seg), "},
	{"pkg/tcpip/transport/tcp/snd.go", "updateWriteNext(seg *segment) {\n", "updateWriteNext(seg *segment) {\n	seg = s.afterFinish(seg)\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "seg != nil && s.Outstanding < s.SndCwnd; seg = seg.Next() {", "seg != nil && s.Outstanding < s.SndCwnd; seg = s.writeNext {"},
	// crowd.go: half-open connections are bounded by memory too, and those that linger after their end.
	{"pkg/tcpip/transport/tcp/connect.go", "func (e *Endpoint) getTimeWaitDuration() time.Duration {\n", "func (e *Endpoint) getTimeWaitDuration() time.Duration {\n	if isCrowded() {\n		return 0\n	}\n"},
	{
		"pkg/tcpip/transport/tcp/accept.go", "len(e.acceptQueue.pendingEndpoints) == e.acceptQueue.capacity-1",
		"useCookies(len(e.acceptQueue.pendingEndpoints), e.acceptQueue.capacity-1)",
	},
	// straight.go: segments go into a card's frames without packets.
	{"pkg/tcpip/transport/tcp/connect.go", "	// We ignore SYN send errors and let the callers re-attempt send.\n", "	defer putOptions(tf.opts)\n	if e.sendSynStraight(r, &tf) {\n		return nil\n	}\n	// We ignore SYN send errors and let the callers re-attempt send.\n"},
	{"pkg/tcpip/transport/tcp/connect.go", "		e.stats.SendErrors.SynSendToNetworkFailed.Increment()\n	}\n	putOptions(tf.opts)\n", "		e.stats.SendErrors.SynSendToNetworkFailed.Increment()\n	}\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	// We need to clone the packet because sendRaw takes ownership of pkt,\n", "	s.answering()\n\n	if done, err := s.ep.sendStraight(pkt, flags, seq, rcvNxt, rcvWnd); done {\n		return err\n	}\n\n	// We need to clone the packet because sendRaw takes ownership of pkt,\n"},
	{"pkg/tcpip/transport/tcp/snd.go", "	return s.ep.sendEmptyRaw(flags, seq, rcvNxt, rcvWnd)\n", "	if done, err := s.ep.sendStraight(nil, flags, seq, rcvNxt, rcvWnd); done {\n		return err\n	}\n	return s.ep.sendEmptyRaw(flags, seq, rcvNxt, rcvWnd)\n"},
	{"pkg/tcpip/stack/nic.go", "	qDisc QueueingDiscipline\n", "	qDisc QueueingDiscipline\n\n	frames FrameWriter\n"},
	{"pkg/tcpip/stack/nic.go", "	nic.linkResQueue.init(nic)\n", "	nic.linkResQueue.init(nic)\n	if opts.QDisc == nil {\n		nic.frames, _ = ep.(FrameWriter)\n	}\n"},
	// Who sees the packets of an interface is known, and who sees those of all.
	{"pkg/tcpip/stack/stack.go", "	demux *transportDemuxer\n", "	demux *transportDemuxer\n\n	watchers watchers\n	flows    flows\n"},
	{"pkg/tcpip/stack/nic.go", "	packetEPs map[tcpip.NetworkProtocolNumber]*packetEndpointList\n", "	packetEPs map[tcpip.NetworkProtocolNumber]*packetEndpointList\n	watched   atomicbitops.Bool\n	arrivals  arrivals\n	blocks    blocks\n	inside    insideCounts\n"},
	{"pkg/tcpip/stack/nic.go", "	eps.add(ep)\n", "	eps.add(ep)\n	n.watch()\n"},
	{"pkg/tcpip/stack/nic.go", "		delete(n.packetEPs, netProto)\n	}\n", "		delete(n.packetEPs, netProto)\n	}\n	n.watch()\n"},
	// rawprotocols.go: raw endpoints of any protocol.
	{"pkg/tcpip/stack/transport_demuxer.go", "	queuedProtocols map[protocolIDs]queuedTransportProtocol\n}", "	queuedProtocols map[protocolIDs]queuedTransportProtocol\n\n	foreign foreign\n}"},
	{
		"pkg/tcpip/stack/transport_demuxer.go", "	eps, ok := d.protocol[protocolIDs{pkt.NetworkProtocolNumber, protocol}]\n	if !ok {\n		return false\n	}\n\n	// As in net/ipv4",
		"	eps, ok := d.raw(protocolIDs{pkt.NetworkProtocolNumber, protocol})\n	if !ok {\n		return false\n	}\n\n	// As in net/ipv4",
	},
	{"pkg/tcpip/stack/transport_demuxer.go", "	if !ok {\n		return &tcpip.ErrNotSupported{}\n	}\n", "	if !ok {\n		eps = d.rawOf(protocolIDs{netProto, transProto})\n	}\n"},
	{
		"pkg/tcpip/stack/transport_demuxer.go", "	eps, ok := d.protocol[protocolIDs{netProto, transProto}]\n	if !ok {\n		panic(fmt.Errorf(\"tried to unregister endpoint",
		"	eps, ok := d.raw(protocolIDs{netProto, transProto})\n	if !ok {\n		panic(fmt.Errorf(\"tried to unregister endpoint",
	},
	{
		"pkg/tcpip/stack/nic.go", "	if !ok {\n		n.stats.unknownL4ProtocolRcvdPacketCounts.Increment(uint64(protocol))\n",
		"	if !ok {\n		if n.stack.demux.heard(protocol, pkt) {\n			return TransportPacketHandled, false\n		}\n		n.stats.unknownL4ProtocolRcvdPacketCounts.Increment(uint64(protocol))\n",
	},
	{"pkg/tcpip/stack/transport_demuxer.go", "	eps.rawEndpoints = append(eps.rawEndpoints, ep)\n", "	eps.rawEndpoints = append(eps.rawEndpoints, ep)\n	d.stack.watchers.Add(1)\n"},
	{"pkg/tcpip/stack/transport_demuxer.go", "			eps.rawEndpoints = eps.rawEndpoints[:lastIdx]\n", "			eps.rawEndpoints = eps.rawEndpoints[:lastIdx]\n			d.stack.watchers.Add(-1)\n"},
	// arrival.go: what is remembered of those who get packets is forgotten in time.
	{"pkg/tcpip/stack/transport_demuxer.go", "			eps.unregisterEndpoint(id, ep, flags, bindToDevice)\n", "			eps.unregisterEndpoint(id, ep, flags, bindToDevice)\n			d.stack.flows.forget(id)\n"},
	{"pkg/tcpip/stack/transport_demuxer.go", "	if err := epsByNIC.registerEndpoint(d, ", "	defer d.stack.flows.forget(id)\n	if err := epsByNIC.registerEndpoint(d, "},
	{"pkg/tcpip/stack/addressable_endpoint_state.go", "	delete(a.endpoints, addrState.addr.Address)\n", "	delete(a.endpoints, addrState.addr.Address)\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/addressable_endpoint_state.go", "	addrState.notifyChangedLocked()\n	return addrState, nil\n", "	changes.Add(1)\n	addrState.notifyChangedLocked()\n	return addrState, nil\n"},
	{"pkg/tcpip/stack/addressable_endpoint_state.go", "	prevKind := a.kind\n	a.kind = kind\n", "	prevKind := a.kind\n	a.kind = kind\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/addressable_endpoint_state.go", "	a.kind = PermanentExpired\n", "	a.kind = PermanentExpired\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/addressable_endpoint_state.go", "func (a *AddressableEndpointState) OnNetworkEndpointEnabledChanged() {\n", "func (a *AddressableEndpointState) OnNetworkEndpointEnabledChanged() {\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/iptables.go", "	it.modified = true\n", "	it.modified = true\n	changes.Add(1)\n"},
	// From this machine to all of 127.0.0.0/8, the source is 127.0.0.1, as on Linux.
	{"pkg/tcpip/stack/stack.go", "		localAddr = remoteAddr\n	}\n\n	if localAddressNICID == 0 {", "		localAddr = sourceFor(remoteAddr)\n	}\n\n	if localAddressNICID == 0 {"},
	// Initial sequence numbers come of a keyed hash made for that, as Linux's do, and times are added as numbers.
	{"pkg/tcpip/transport/tcp/connect.go", "	\"crypto/sha256\"\n", "	sha256 \"gvisor.dev/gvisor/pkg/tcpip/transport/tcp/keyed\"\n"},
	{"pkg/tcpip/transport/tcp/protocol.go", "	\"crypto/sha256\"\n", "	sha256 \"gvisor.dev/gvisor/pkg/tcpip/transport/tcp/keyed\"\n"},
	{"pkg/tcpip/tcpip.go", "time.Unix(0, mt.nanoseconds).Add(d).Sub(time.Unix(0, 0)).Nanoseconds()", "plus(mt.nanoseconds, int64(d))"},
	{"pkg/tcpip/tcpip.go", "time.Unix(0, mt.nanoseconds).Sub(time.Unix(0, u.nanoseconds))", "time.Duration(minus(mt.nanoseconds, u.nanoseconds))"},
	{"pkg/tcpip/transport/internal/network/endpoint.go", "e.connectRouteRLocked(nicID, localAddr, dst, netProto)", "e.findRoute(nicID, localAddr, dst, netProto, info.ID.LocalAddress)"},
	{"pkg/tcpip/transport/internal/network/endpoint.go", "	effectiveNetProto tcpip.NetworkProtocolNumber\n", "	effectiveNetProto tcpip.NetworkProtocolNumber\n	last              lastInside\n	choice            choice\n"},
	// choice.go: a socket says which sources it hears in groups.
	{"pkg/tcpip/transport/udp/endpoint.go", "	hdr := header.UDP(pkt.TransportHeader().Slice())\n	netHdr", "	if !e.net.Admits(pkt.NICID, id.LocalAddress, id.RemoteAddress) {\n		return\n	}\n	hdr := header.UDP(pkt.TransportHeader().Slice())\n	netHdr"},
	{"pkg/tcpip/transport/raw/endpoint.go", "		info := e.net.Info()\n\n		switch state", "		if !e.net.Admits(pkt.NICID, dstAddr, srcAddr) {\n			return false\n		}\n		info := e.net.Info()\n\n		switch state"},
	{"pkg/tcpip/transport/internal/network/endpoint.go", "	e.setEndpointState(transport.DatagramEndpointStateClosed)\n", "	e.last.drop()\n	e.setEndpointState(transport.DatagramEndpointStateClosed)\n"},
	// Bytes go from programs into views and back without views in between.
	{"pkg/buffer/buffer.go", "io.Copy(v, lr)", "v.fill(r, vsize)"},
	{"pkg/tcpip/stack/packet_buffer.go", "func (d PacketData) ReadTo(dst io.Writer, peek bool) (int, error) {\n", "func (d PacketData) ReadTo(dst io.Writer, peek bool) (int, error) {\n	if !peek {\n		return d.take(dst)\n	}\n"},
	{"pkg/buffer/chunk.go", "		idx = bits.MostSignificantOne64(uint64(size) >> baseChunkSizeLog2)\n		if size > 1<<(idx+baseChunkSizeLog2) {\n			idx++\n		}\n", "		idx = bits.Len(uint(size-1)) - baseChunkSizeLog2\n"},
	{"pkg/buffer/chunk.go", "	\"gvisor.dev/gvisor/pkg/bits\"\n", "	\"math/bits\"\n\n"},
	// Scoreboards share what they keep for their trees.
	{"pkg/tcpip/transport/tcp/sack_scoreboard.go", "		ranges:    btree.NewG[header.SACKBlock](defaultBtreeDegree, sackBlockLess),\n", "		ranges:    newRanges(),\n"},
	// How long options may get is known without making them.
	{
		"pkg/tcpip/transport/tcp/endpoint.go", "	var maxSackBlocks [header.TCPMaxSACKBlocks]header.SACKBlock\n	options := e.makeOptions(maxSackBlocks[:])\n	size = len(options)\n	putOptions(options)\n\n	return size\n",
		"	return e.mostOptions()\n",
	},
	// The counters, a kilobyte of pointers, aren't copied to count.
	{"pkg/tcpip/stack/stack.go", "func (s *Stack) Stats() tcpip.Stats {\n	return s.stats\n", "func (s *Stack) Stats() *tcpip.Stats {\n	return &s.stats\n"},
	{"pkg/tcpip/stack/route.go", "func (r *Route) Stats() tcpip.Stats {\n", "func (r *Route) Stats() *tcpip.Stats {\n"},
	// lend.go: memory that a device writes is shown as it is.
	{"pkg/buffer/chunk.go", "	data []byte\n}", "	data []byte\n	back func()\n}"},
	{"pkg/buffer/chunk.go", "func (c *chunk) destroy() {\n", "func (c *chunk) destroy() {\n	if c.back != nil {\n		c.data = nil\n		c.back()\n		return\n	}\n"},
	// A view is cleared where bytes come into it that nobody writes, not its chunk as a whole.
	{"pkg/buffer/chunk.go", "		clear(c.data)\n", ""},
	{"pkg/buffer/view.go", "		v.growCap(n)\n	}\n	v.write += n\n}\n", "		v.growCap(n)\n	}\n	clear(v.chunk.data[v.write : v.write+n])\n	v.write += n\n}\n"},
}

// rewrites are made wherever the text occurs.
var rewrites = []edit{
	// ways.go again.
	{"pkg/tcpip/stack/stack.go", "	s.routeMu.Lock()\n", "	s.routeMu.Lock()\n	changes.Add(1)\n"},
	{"pkg/tcpip/stack/nic.go", "	if n.deliverLinkPackets {\n", "	if n.deliverLinkPackets && n.watched.Load() {\n"},
	// What the protocol has set is asked of it without a way through the stack, which puts the answers on the heap.
	{"pkg/tcpip/transport/tcp/endpoint.go", "e.stack.TransportProtocolOption(ProtocolNumber, ", "e.protocol.Option("},
	{"pkg/tcpip/transport/tcp/endpoint.go", " s.TransportProtocolOption(ProtocolNumber, ", " protocol.Option("},
	{"pkg/tcpip/transport/tcp/snd.go", "ep.snd.ep.stack.TransportProtocolOption(ProtocolNumber, ", "ep.protocol.Option("},
	{"pkg/tcpip/transport/tcp/connect.go", " e.stack.TransportProtocolOption(ProtocolNumber, ", " e.protocol.Option("},
	{"pkg/tcpip/transport/tcp/accept.go", "e.stack.TransportProtocolOption(header.TCPProtocolNumber, ", "e.protocol.Option("},
}

// apply makes edits in the copies at root, each in one place unless everywhere is set.
func apply(edits []edit, root string, everywhere bool) error {
	for _, e := range edits {
		name := filepath.Join(root, e.file)
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := strings.Count(string(data), e.old); n != 1 && (n == 0 || !everywhere) {
			return fmt.Errorf("%s has %d places with %q, not one: the edits in runtime/overlay fit another version of it", name, n, e.old)
		}
		// The file is a link into the module until now.
		if err := os.Remove(name); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(data), e.old, e.new)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// slim makes a copy of the module by links, without the generated code for checkpoints, with the files
// below laid in place of its own or beside them, and with the edits. It returns a go.mod that says to use it.
func (b *Builder) slim(laid string) (modFile string, err error) {
	laid, err = filepath.Abs(laid)
	if err != nil {
		return "", err
	}
	dir, ownMod, err := b.module(slimmed)
	if err != nil {
		return "", err
	}
	root := filepath.Join(b.work, "gvisor")
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	for _, part := range slimmedParts {
		if err := linkPackages(dir, root, filepath.Join("pkg", part)); err != nil {
			return "", err
		}
	}
	err = filepath.WalkDir(laid, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(laid, path)
		if err != nil {
			return err
		}
		to := filepath.Join(root, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(path, to)
	})
	if err != nil {
		return "", err
	}
	if err := apply(edits, root, false); err != nil {
		return "", err
	}
	if err := apply(rewrites, root, true); err != nil {
		return "", err
	}
	if err := copyFile(filepath.Join(dir, "go.mod"), filepath.Join(root, "go.mod"), ""); err != nil {
		return "", err
	}
	modFile = filepath.Join(b.work, "kernel.mod")
	if err := copyFile(ownMod, modFile, fmt.Sprintf("\nreplace %s => %q\n", slimmed, root)); err != nil {
		return "", err
	}
	return modFile, copyFile(strings.TrimSuffix(ownMod, ".mod")+".sum", filepath.Join(b.work, "kernel.sum"), "")
}

// module returns the folder of a module that this one needs, and this one's go.mod.
func (b *Builder) module(path string) (dir, goMod string, err error) {
	cmd := exec.Command(b.goTool, "mod", "download", "-json", path)
	cmd.Env = append(os.Environ(), "GOROOT="+b.goroot, "GOTOOLCHAIN=local", "GOFLAGS=")
	out, err := cmd.Output()
	var m struct{ Dir, Error string }
	if e := json.Unmarshal(out, &m); e != nil || m.Error != "" || m.Dir == "" {
		return "", "", fmt.Errorf("the module %s cannot be had: %s (%v)", path, m.Error, err)
	}
	out, err = exec.Command(b.goTool, "env", "GOMOD").Output()
	if err != nil {
		return "", "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return m.Dir, strings.TrimSpace(string(out)), nil
}

// linkPackages links the Go files below the folder part of from to the same place below to.
func linkPackages(from, to, part string) error {
	return filepath.WalkDir(filepath.Join(from, part), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case strings.HasSuffix(name, "_autogen.go") || strings.HasSuffix(name, "_test.go"):
			return nil
		case strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".s"):
			return os.Symlink(path, filepath.Join(to, rel))
		}
		return nil
	})
}

// copyFile copies a file and adds more to it.
func copyFile(from, to, more string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, append(data, more...), 0o644)
}
