package inet

import (
	"encoding/binary"
	"strings"
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

// A search list is one of names as DNS has them, with their ends shared, and may come in pieces.
func TestSearchList(t *testing.T) {
	const list = "\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04"
	options := []byte{optionType, 1, dhcpAck, optionDomain, 1, 'x', optionSearch, 10}
	options = append(append(options, list[:10]...), optionSearch, byte(len(list)-10))
	options = append(append(options, list[10:]...), optionEnd)
	if l, _, ok := parseDHCP(answer(7, options...), 7); !ok || strings.Join(l.Search, " ") != "eng.apple.com marketing.apple.com" || l.Domain != "x" {
		t.Errorf("parsed %+v", l)
	}
	for _, c := range []struct{ list, want string }{
		{"", ""},
		{"\x00", ""},
		{"\x01a\x00\xc0\x00", "a a"},
		{"\x01a\x00\x01b\xc0\x00\x01c\xc0\x03", "a b.a c.b.a"},
		{"\x01a", ""},             // without an end
		{"\x01a\x00\x05b", "a"},   // cut
		{"\x01a\x00\xc0", "a"},    // cut in a reference
		{"\xc0\x00", ""},          // to itself
		{"\x01a\xc0\x00", ""},     // round and round
		{"\xc0\x02\x01a\x00", ""}, // to what comes
		{"\x40a\x00", ""},         // of a kind that isn't
		{"\x03a\nb\x00", ""},      // no name
		{"\x3f" + strings.Repeat("a", 63) + strings.Repeat("\x3f"+strings.Repeat("b", 63), 4) + "\x00", ""},
	} {
		if got := strings.Join(searchList([]byte(c.list)), " "); got != c.want {
			t.Errorf("%q is %q, not %q", c.list, got, c.want)
		}
	}
	if n := len(searchList([]byte("\x01a\x00" + strings.Repeat("\xc0\x00", 1000)))); n != mostSearched {
		t.Errorf("%d names are used", n)
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
