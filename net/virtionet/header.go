package virtionet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The header before a packet (5.1.6). The short one is that of devices before virtio 1.0 without mergeable
// buffers.
const (
	headerSize      = 12
	shortHeaderSize = 10

	headerFlags          = 0
	headerSegment        = 1
	headerLength         = 2
	headerSegmentSize    = 4
	headerChecksumStart  = 6
	headerChecksumOffset = 8
	headerBuffers        = 10

	flagNeedsChecksum = 1 << 0
	flagChecked       = 1 << 1

	segmentTCP4 = 1
	segmentTCP6 = 4
)

// arrival is what the header of a received packet says.
type arrival struct {
	flags   byte
	buffers int
}

// parseHeader reads the header of a received packet: not ok if it is none.
func parseHeader(p []byte, size int, mergeable bool) (h arrival, ok bool) {
	if len(p) < size {
		return h, false
	}
	h.flags, h.buffers = p[headerFlags], 1
	if mergeable {
		h.buffers = int(binary.LittleEndian.Uint16(p[headerBuffers:]))
	}
	return h, h.buffers > 0
}

// putHeader fills the header of a packet to send, whose headers and whose bytes after these are so many. One of
// TCP on a device that cuts packets has the sum of its pseudo header in place of its checksum.
func putHeader(to []byte, gso *stack.GSO, headers, data int) {
	clear(to)
	if !gso.NeedsCsum || gso.Type != stack.GSOTCPv4 && gso.Type != stack.GSOTCPv6 {
		return
	}
	to[headerFlags] = flagNeedsChecksum
	binary.LittleEndian.PutUint16(to[headerChecksumStart:], header.EthernetMinimumSize+gso.L3HdrLen)
	binary.LittleEndian.PutUint16(to[headerChecksumOffset:], gso.CsumOffset)
	if data <= int(gso.MSS) {
		return
	}
	to[headerSegment] = segmentTCP4
	if gso.Type == stack.GSOTCPv6 {
		to[headerSegment] = segmentTCP6
	}
	binary.LittleEndian.PutUint16(to[headerLength:], uint16(headers))
	binary.LittleEndian.PutUint16(to[headerSegmentSize:], gso.MSS)
}
