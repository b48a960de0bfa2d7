package inet

import (
	"fmt"
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// insideCounter is a stack that says how many packets of a protocol stayed within an interface, which is to say that
// they were sent and received without having been made.
type insideCounter interface {
	CountedInside(tcpip.NICID, tcpip.NetworkProtocolNumber) uint64
}

// ipCounts is what was counted of a version of IP.
type ipCounts struct {
	received, malformed, misaddressed, delivered, sent, discarded, fragmentsFailed, unroutable uint64

	icmp4 []*tcpip.ICMPv4Stats
	icmp6 []*tcpip.ICMPv6Stats
}

// countIP adds up what the interfaces that match counted.
func (n *Network) countIP(protocol tcpip.NetworkProtocolNumber, match func(tcpip.NICID) bool) ipCounts {
	var c ipCounts
	s := n.Stack()
	for id, info := range s.NICInfo() {
		if !match(id) {
			continue
		}
		if i, ok := any(s).(insideCounter); ok {
			inside := i.CountedInside(id, protocol)
			c.received, c.delivered, c.sent = c.received+inside, c.delivered+inside, c.sent+inside
		}
		stats, ok := info.NetworkStats[protocol].(stack.IPNetworkEndpointStats)
		if !ok {
			continue
		}
		ip := stats.IPStats()
		c.received += ip.PacketsReceived.Value()
		c.malformed += ip.MalformedPacketsReceived.Value()
		c.misaddressed += ip.InvalidDestinationAddressesReceived.Value()
		c.delivered += ip.PacketsDelivered.Value()
		c.sent += ip.PacketsSent.Value()
		c.discarded += ip.OutgoingPacketErrors.Value()
		c.fragmentsFailed += ip.MalformedFragmentsReceived.Value()
		c.unroutable += ip.Forwarding.Unrouteable.Value()
		switch stats := stats.(type) {
		case *ipv4.Stats:
			c.icmp4 = append(c.icmp4, &stats.ICMP)
		case *ipv6.Stats:
			c.icmp6 = append(c.icmp6, &stats.ICMP)
		}
	}
	return c
}

func everyNIC(tcpip.NICID) bool { return true }

// count is a number with the name that the files of statistics have for it.
type count struct {
	name  string
	value uint64
}

// counts makes a list of names numbers; what isn't in values isn't counted.
func counts(names string, values map[string]uint64) []count {
	var list []count
	for name := range strings.FieldsSeq(names) {
		list = append(list, count{name, values[name]})
	}
	return list
}

// appendCounts writes numbers as /proc/net/snmp does: a line with the names and one with the values.
func appendCounts(b *strings.Builder, group string, list []count) {
	b.WriteString(group + ":")
	for _, c := range list {
		b.WriteString(" " + c.name)
	}
	b.WriteString("\n" + group + ":")
	for _, c := range list {
		fmt.Fprintf(b, " %d", c.value)
	}
	b.WriteByte('\n')
}

// icmp4Types are the types of ICMP by what Linux calls their counters (RFC 2011).
var icmp4Types = []struct {
	name   string
	number int
	get    func(*tcpip.ICMPv4PacketStats) *tcpip.StatCounter
}{
	{"DestUnreachs", 3, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.DstUnreachable }},
	{"TimeExcds", 11, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.TimeExceeded }},
	{"ParmProbs", 12, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.ParamProblem }},
	{"SrcQuenchs", 4, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.SrcQuench }},
	{"Redirects", 5, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.Redirect }},
	{"Echos", 8, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.EchoRequest }},
	{"EchoReps", 0, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.EchoReply }},
	{"Timestamps", 13, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.Timestamp }},
	{"TimestampReps", 14, func(p *tcpip.ICMPv4PacketStats) *tcpip.StatCounter { return p.TimestampReply }},
}

// icmp6Types are those of ICMPv6 (RFC 2466), in the order of their files.
var icmp6Types = []struct {
	name   string
	number int
	get    func(*tcpip.ICMPv6PacketStats) *tcpip.StatCounter
}{
	{"DestUnreachs", 1, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.DstUnreachable }},
	{"PktTooBigs", 2, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.PacketTooBig }},
	{"TimeExcds", 3, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.TimeExceeded }},
	{"ParmProblems", 4, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.ParamProblem }},
	{"Echos", 128, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.EchoRequest }},
	{"EchoReplies", 129, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.EchoReply }},
	{"GroupMembQueries", 130, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.MulticastListenerQuery }},
	{"GroupMembResponses", 131, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.MulticastListenerReport }},
	{"GroupMembReductions", 132, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.MulticastListenerDone }},
	{"RouterSolicits", 133, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.RouterSolicit }},
	{"RouterAdvertisements", 134, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.RouterAdvert }},
	{"NeighborSolicits", 135, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.NeighborSolicit }},
	{"NeighborAdvertisements", 136, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.NeighborAdvert }},
	{"Redirects", 137, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.RedirectMsg }},
	{"MLDv2Reports", 143, func(p *tcpip.ICMPv6PacketStats) *tcpip.StatCounter { return p.MulticastListenerReportV2 }},
}

// procSNMP is /proc/net/snmp (RFC 2011, 2012 and 2013).
func (n *Network) procSNMP() string {
	var b strings.Builder
	v := func(c *tcpip.StatCounter) uint64 { return c.Value() }
	ip := n.countIP(ipv4.ProtocolNumber, everyNIC)
	forwarding := uint64(2) // no
	for _, info := range n.Stack().NICInfo() {
		if info.Forwarding[ipv4.ProtocolNumber] {
			forwarding = 1
		}
	}
	var ttl tcpip.DefaultTTLOption
	n.Stack().NetworkProtocolOption(ipv4.ProtocolNumber, &ttl)
	appendCounts(&b, "Ip", counts("Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests "+
		"OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits", map[string]uint64{
		"Forwarding": forwarding, "DefaultTTL": uint64(ttl), "InReceives": ip.received, "InHdrErrors": ip.malformed, "InAddrErrors": ip.misaddressed,
		"InDelivers": ip.delivered, "OutRequests": ip.sent + ip.discarded, "OutDiscards": ip.discarded, "OutNoRoutes": ip.unroutable,
		"ReasmFails": ip.fragmentsFailed, "OutTransmits": ip.sent,
	}))

	icmp, types := map[string]uint64{}, [2][]count{}
	for _, t := range icmp4Types {
		in, out := uint64(0), uint64(0)
		for _, s := range ip.icmp4 {
			in += v(t.get(&s.PacketsReceived.ICMPv4PacketStats))
			out += v(t.get(&s.PacketsSent.ICMPv4PacketStats))
		}
		icmp["In"+t.name], icmp["Out"+t.name] = in, out
		icmp["InMsgs"] += in
		icmp["OutMsgs"] += out
		if in != 0 {
			types[0] = append(types[0], count{fmt.Sprintf("InType%d", t.number), in})
		}
		if out != 0 {
			types[1] = append(types[1], count{fmt.Sprintf("OutType%d", t.number), out})
		}
	}
	for _, s := range ip.icmp4 {
		icmp["InErrors"] += v(s.PacketsReceived.Invalid)
		icmp["OutErrors"] += v(s.PacketsSent.Dropped)
		icmp["OutRateLimitGlobal"] += v(s.PacketsSent.RateLimited)
	}
	const kinds = "DestUnreachs %[1]sTimeExcds %[1]sParmProbs %[1]sSrcQuenchs %[1]sRedirects %[1]sEchos %[1]sEchoReps %[1]sTimestamps %[1]sTimestampReps %[1]sAddrMasks %[1]sAddrMaskReps"
	appendCounts(&b, "Icmp", counts(fmt.Sprintf("InMsgs InErrors InCsumErrors %[1]s"+kinds, "In")+
		fmt.Sprintf(" OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost %[1]s"+kinds, "Out"), icmp))
	if list := slices.Concat(types[0], types[1]); len(list) > 0 {
		appendCounts(&b, "IcmpMsg", list)
	}

	s := n.Stack().Stats()
	fmt.Fprintf(&b, "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors\n"+
		"Tcp: 1 200 120000 -1 %d %d %d %d %d %d %d %d %d %d %d\n", v(s.TCP.ActiveConnectionOpenings), v(s.TCP.PassiveConnectionOpenings), v(s.TCP.FailedConnectionAttempts),
		v(s.TCP.EstablishedResets), v(s.TCP.CurrentEstablished), v(s.TCP.ValidSegmentsReceived), v(s.TCP.SegmentsSent), v(s.TCP.Retransmits),
		v(s.TCP.InvalidSegmentsReceived), v(s.TCP.ResetsSent), v(s.TCP.ChecksumErrors))
	const datagrams = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors"
	appendCounts(&b, "Udp", counts(datagrams, map[string]uint64{
		"InDatagrams": v(s.UDP.PacketsReceived), "NoPorts": v(s.UDP.UnknownPortErrors),
		"InErrors":     v(s.UDP.MalformedPacketsReceived) + v(s.UDP.ReceiveBufferErrors) + v(s.UDP.ChecksumErrors),
		"OutDatagrams": v(s.UDP.PacketsSent), "RcvbufErrors": v(s.UDP.ReceiveBufferErrors), "InCsumErrors": v(s.UDP.ChecksumErrors),
	}))
	appendCounts(&b, "UdpLite", counts(datagrams, nil))
	return b.String()
}

// What /proc/net/netstat has, in Linux's order.
const (
	tcpExtended = "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps " +
		"LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab DelayedACKs DelayedACKLocked DelayedACKLost " +
		"ListenOverflows ListenDrops TCPHPHits TCPPureAcks TCPHPAcks TCPRenoRecovery TCPSackRecovery TCPSACKReneging TCPSACKReorder " +
		"TCPRenoReorder TCPTSReorder TCPFullUndo TCPPartialUndo TCPDSACKUndo TCPLossUndo TCPLostRetransmit TCPRenoFailures " +
		"TCPSackFailures TCPLossFailures TCPFastRetrans TCPSlowStartRetrans TCPTimeouts TCPLossProbes TCPLossProbeRecovery " +
		"TCPRenoRecoveryFail TCPSackRecoveryFail TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent TCPDSACKRecv " +
		"TCPDSACKOfoRecv TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger TCPAbortFailed " +
		"TCPMemoryPressures TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld TCPDSACKIgnoredNoUndo TCPSpuriousRTOs " +
		"TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop " +
		"TCPMinTTLDrop TCPDeferAcceptDrop IPReversePathFilter TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop TCPRetransFail " +
		"TCPRcvCoalesce TCPOFOQueue TCPOFODrop TCPOFOMerge TCPChallengeACK TCPSYNChallenge TCPFastOpenActive TCPFastOpenActiveFail " +
		"TCPFastOpenPassive TCPFastOpenPassiveFail TCPFastOpenListenOverflow TCPFastOpenCookieReqd TCPFastOpenBlackhole " +
		"TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv TCPToZeroWindowAdv TCPWantZeroWindowAdv " +
		"TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect TCPHystartTrainCwnd TCPHystartDelayDetect TCPHystartDelayCwnd " +
		"TCPACKSkippedSynRecv TCPACKSkippedPAWS TCPACKSkippedSeq TCPACKSkippedFinWait2 TCPACKSkippedTimeWait TCPACKSkippedChallenge " +
		"TCPWinProbe TCPKeepAlive TCPMTUPFail TCPMTUPSuccess TCPDelivered TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop " +
		"TCPWqueueTooBig TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash TCPDSACKRecvSegs TCPDSACKIgnoredDubious " +
		"TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired TCPAOBad TCPAOKeyNotFound TCPAOGood TCPAODroppedIcmps"
	ipExtended = "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets " +
		"OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps"
)

// procNetstat is /proc/net/netstat.
func (n *Network) procNetstat() string {
	var b strings.Builder
	s := n.Stack().Stats()
	t, v := &s.TCP, func(c *tcpip.StatCounter) uint64 { return c.Value() }
	appendCounts(&b, "TcpExt", counts(tcpExtended, map[string]uint64{
		"SyncookiesSent": v(t.ListenOverflowSynCookieSent), "SyncookiesRecv": v(t.ListenOverflowSynCookieRcvd),
		"SyncookiesFailed": v(t.ListenOverflowInvalidSynCookieRcvd), "ListenOverflows": v(t.ListenOverflowAckDrop),
		"ListenDrops": v(t.ListenOverflowAckDrop) + v(t.ListenOverflowSynDrop), "TCPRenoRecovery": v(t.FastRecovery),
		"TCPSackRecovery": v(t.SACKRecovery), "TCPFastRetrans": v(t.FastRetransmit), "TCPSlowStartRetrans": v(t.SlowStartRetransmits),
		"TCPTimeouts": v(t.Timeouts), "TCPLossProbeRecovery": v(t.TLPRecovery), "TCPDSACKRecv": v(t.SegmentsAckedWithDSACK),
		"TCPDSACKRecvSegs": v(t.SegmentsAckedWithDSACK), "TCPAbortOnTimeout": v(t.EstablishedTimedout), "TCPSpuriousRTOs": v(t.SpuriousRTORecovery),
	}))
	received := n.countIP(ipv4.ProtocolNumber, everyNIC).received
	in, out := uint64(0), uint64(0)
	for _, i := range n.Interfaces() { // bytes aren't counted by protocol
		in += i.Stats.Rx.Bytes.Value()
		out += i.Stats.Tx.Bytes.Value()
	}
	appendCounts(&b, "IpExt", counts(ipExtended, map[string]uint64{"InOctets": in, "OutOctets": out, "InNoECTPkts": received}))
	return b.String()
}

// appendSNMP6 writes what interfaces counted of IPv6, a number a line (RFC 2465 and 2466).
func (n *Network) appendSNMP6(b *strings.Builder, match func(tcpip.NICID) bool) {
	v := func(c *tcpip.StatCounter) uint64 { return c.Value() }
	line := func(name string, value uint64) { fmt.Fprintf(b, "%-32s\t%d\n", name, value) }
	ip := n.countIP(ipv6.ProtocolNumber, match)
	for _, c := range counts("InReceives InHdrErrors InTooBigErrors InNoRoutes InAddrErrors InUnknownProtos InTruncatedPkts InDiscards InDelivers "+
		"OutForwDatagrams OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates "+
		"InMcastPkts OutMcastPkts InOctets OutOctets InMcastOctets OutMcastOctets InBcastOctets OutBcastOctets InNoECTPkts InECT1Pkts "+
		"InECT0Pkts InCEPkts OutTransmits", map[string]uint64{
		"InReceives": ip.received, "InHdrErrors": ip.malformed, "InAddrErrors": ip.misaddressed, "InDelivers": ip.delivered,
		"OutRequests": ip.sent + ip.discarded, "OutDiscards": ip.discarded, "OutNoRoutes": ip.unroutable, "ReasmFails": ip.fragmentsFailed,
		"InNoECTPkts": ip.received, "OutTransmits": ip.sent,
	}) {
		line("Ip6"+c.name, c.value)
	}
	var in, out [256]uint64 // by type
	var allIn, allOut, errors, outErrors uint64
	for _, s := range ip.icmp6 {
		for _, t := range icmp6Types {
			in[t.number] += v(t.get(&s.PacketsReceived.ICMPv6PacketStats))
			out[t.number] += v(t.get(&s.PacketsSent.ICMPv6PacketStats))
		}
		errors += v(s.PacketsReceived.Invalid)
		outErrors += v(s.PacketsSent.Dropped)
	}
	for _, t := range icmp6Types {
		allIn += in[t.number]
		allOut += out[t.number]
	}
	line("Icmp6InMsgs", allIn)
	line("Icmp6InErrors", errors)
	line("Icmp6OutMsgs", allOut)
	line("Icmp6OutErrors", outErrors)
	line("Icmp6InCsumErrors", 0)
	for _, way := range []struct {
		name   string
		counts *[256]uint64
	}{{"In", &in}, {"Out", &out}} {
		for _, t := range icmp6Types {
			line("Icmp6"+way.name+t.name, way.counts[t.number])
		}
	}
	for _, way := range []struct {
		name   string
		counts *[256]uint64
	}{{"In", &in}, {"Out", &out}} {
		for number, c := range way.counts {
			if c != 0 {
				line(fmt.Sprintf("Icmp6%sType%d", way.name, number), c)
			}
		}
	}
}

// procSNMP6 is /proc/net/snmp6. Datagrams of UDP are counted in /proc/net/snmp, whatever carries them.
func (n *Network) procSNMP6() string {
	var b strings.Builder
	n.appendSNMP6(&b, everyNIC)
	for _, group := range []string{"Udp6", "UdpLite6"} {
		for _, c := range counts("InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors", nil) {
			fmt.Fprintf(&b, "%-32s\t%d\n", group+c.name, c.value)
		}
	}
	return b.String()
}

// interfaceSNMP6 makes the files of /proc/net/dev_snmp6.
func (n *Network) interfaceSNMP6() map[string]func() string {
	files := map[string]func() string{}
	for _, i := range n.Interfaces() {
		files[i.Name] = func() string {
			var b strings.Builder
			fmt.Fprintf(&b, "%-32s\t%d\n", "ifIndex", i.Index)
			n.appendSNMP6(&b, func(nic tcpip.NICID) bool { return int(nic) == i.Index })
			return b.String()
		}
	}
	return files
}
