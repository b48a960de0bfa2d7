package tcpip

import "math"

// plus and minus stop at the ends of what an int64 holds, as time.Time does.
func plus(a, b int64) int64 {
	c := a + b
	if (c < a) != (b < 0) {
		return ends(b > 0)
	}
	return c
}

func minus(a, b int64) int64 {
	c := a - b
	if (c > a) != (b < 0) {
		return ends(b < 0)
	}
	return c
}

func ends(last bool) int64 {
	if last {
		return math.MaxInt64
	}
	return math.MinInt64
}
