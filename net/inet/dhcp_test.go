package inet

import (
	"encoding/binary"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// answer makes a server's message with options.
func answer(id uint32, options ...byte) []byte {
	p := make([]byte, dhcpFixed)
	p[0] = 2
	binary.BigEndian.PutUint32(p[4:], id)
	copy(p[16:], []byte{10, 0, 2, 15})
	return append(binary.BigEndian.AppendUint32(p, dhcpMagic), options...)
}

func TestParseDHCP(t *testing.T) {
	l, typ, ok := parseDHCP(answer(7, optionType, 1, dhcpAck, 0, optionMask, 4, 255, 255, 0, 0, optionRouter, 4, 10, 0, 2, 2,
		optionDNS, 8, 10, 0, 2, 3, 1, 1, 1, 1, optionLease, 4, 0, 0, 14, 16, optionServer, 4, 10, 0, 2, 2, optionHost, 2, 'v', 'm', optionEnd), 7)
	if !ok || typ != dhcpAck {
		t.Fatalf("ok %v, type %d", ok, typ)
	}
	if l.Address.String() != "10.0.2.15/16" || l.Gateway != tcpip.AddrFrom4([4]byte{10, 0, 2, 2}) || len(l.DNS) != 2 ||
		l.Duration != time.Hour || l.Hostname != "vm" {
		t.Errorf("parsed %+v", l)
	}
}

func TestParseDHCPRefuses(t *testing.T) {
	good := answer(7, optionType, 1, dhcpOffer, optionEnd)
	for name, p := range map[string][]byte{
		"nothing":          nil,
		"short":            good[:dhcpFixed],
		"of somebody else": answer(8, optionType, 1, dhcpOffer, optionEnd),
		"without a type":   answer(7, optionEnd),
		"cut in an option": answer(7, optionType, 1, dhcpOffer, optionDNS, 40, 1),
		"cut in a length":  answer(7, optionType, 1, dhcpOffer, optionDNS),
	} {
		if l, _, ok := parseDHCP(p, 7); ok {
			t.Errorf("%s: %+v", name, l)
		}
	}
	// Odd lengths of known options do no harm.
	if _, _, ok := parseDHCP(answer(7, optionType, 1, dhcpOffer, optionMask, 1, 0, optionRouter, 0, optionDNS, 3, 1, 1, 1, optionEnd), 7); !ok {
		t.Error("odd options: refused")
	}
}
