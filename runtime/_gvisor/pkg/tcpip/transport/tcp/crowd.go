package tcp

import "sync/atomic"

// fewHalfOpen is how many connections a listening endpoint always keeps half open. Each takes several kilobytes: of
// more, those who flood the machine would have a good part of it before the backlog ends.
const fewHalfOpen = 128

// crowded says whether memory is too scarce for more. It is the machine's, for all stacks.
var crowded atomic.Pointer[func() bool]

// SetCrowded has f say when connections beyond a few are made from cookies, which take no memory until the last
// segment of the handshake has come, and know no window scale and no SACK (RFC 4987, 3.6); and when those that ended
// are forgotten at once rather than after TIME-WAIT, as Linux does with more than tcp_max_tw_buckets: a server that
// closes first would have a minute's worth of them.
func (*protocol) SetCrowded(f func() bool) { crowded.Store(&f) }

// useCookies says whether a listening endpoint with so many connections that are half open, of so many at most,
// makes the next one from a cookie.
func useCookies(halfOpen, most int) bool {
	if halfOpen == most {
		return true
	}
	return halfOpen >= fewHalfOpen && isCrowded()
}

func isCrowded() bool {
	f := crowded.Load()
	return f != nil && (*f)()
}
