package tcp

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A closed connection ends though its peer is silent, or says again and again that it has no room; but not while bytes
// arrive, however slowly, nor the soonest.
func TestOrphans(t *testing.T) {
	defer crowded.Store(nil)
	for _, c := range []struct {
		name          string
		window        uint16
		answers       bool
		takes         uint32 // bytes that the peer acknowledges every 20 seconds
		crowded       bool
		least, longer time.Duration // the time to live, 0 for as long as there is something to send
	}{
		{"silent", 4000, false, 0, false, 90 * time.Second, 10 * time.Minute},
		{"without room", 0, true, 0, false, 90 * time.Second, 10 * time.Minute},
		{"without room or a word", 0, false, 0, false, 90 * time.Second, 10 * time.Minute},
		{"slow", 10, true, 10, false, 0, 0},
		{"silent when memory is scarce", 4000, false, 0, true, time.Second, time.Minute},
		{"without room when memory is scarce", 0, true, 0, true, time.Second, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			scarce := func() bool { return c.crowded }
			crowded.Store(&scarce)
			f := families[0]
			h := newHost(t, f, false)
			p := &peer{family: f, next: 1000, stamp: 1000}
			answer := func(ack uint32, window uint16) {
				p.stamp++
				h.bring(p.frame(packet{seq: p.next, ack: ack, flags: header.TCPFlagAck, window: window, stamp: p.stamp}))
			}
			hear := func() (some bool) {
				for _, frame := range h.card.sent() {
					p.hear(frame)
					some = true
				}
				return some
			}
			options := []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 3, 0xe8, 0, 0, 0, 0, 1, 3, 3, 0}
			h.bring(p.frame(packet{seq: p.next, flags: header.TCPFlagSyn, window: 60000, options: options}))
			hear()
			p.next++
			begin := p.sent
			answer(begin, c.window)
			h.accept()
			h.write(2000)
			hear()
			h.ep.Close()
			h.settle()
			hear()
			gone := func() bool { s := h.ep.EndpointState(); return s == StateError || s == StateClose }
			const step = 100 * time.Millisecond
			acked := begin
			for age := time.Duration(0); age < 20*time.Minute; age += step {
				if gone() {
					if c.least == 0 || age < c.least || age > c.longer {
						t.Errorf("ended after %v", age)
					}
					return
				}
				h.clock.Advance(step)
				h.settle()
				asked := hear()
				if c.takes > 0 && age%(20*time.Second) == 0 && int32(p.sent-acked) > 0 {
					acked += min(c.takes, p.sent-acked)
					answer(acked, c.window)
				} else if asked && c.answers {
					answer(acked, c.window)
				}
			}
			if c.longer != 0 {
				t.Errorf("is in state %v after 20 minutes", h.ep.EndpointState())
			}
		})
	}
}
