package tcpip

import (
	"math"
	"testing"
	"time"
)

func TestMonotonicTimeStopsAtItsEnds(t *testing.T) {
	at := func(ns int64) MonotonicTime { return MonotonicTime{nanoseconds: ns} }
	for _, x := range []struct {
		a    int64
		d    time.Duration
		want int64
	}{
		{0, 0, 0}, {5, 3, 8}, {5, -8, -3}, {math.MaxInt64, 1, math.MaxInt64}, {math.MaxInt64, -1, math.MaxInt64 - 1},
		{math.MinInt64, -1, math.MinInt64}, {math.MinInt64, 1, math.MinInt64 + 1}, {1, math.MaxInt64, math.MaxInt64},
		{-1, math.MinInt64, math.MinInt64}, {math.MaxInt64, math.MinInt64, -1},
	} {
		if got := at(x.a).Add(x.d); got != at(x.want) {
			t.Errorf("%d + %d is %v", x.a, x.d, got)
		}
	}
	for _, x := range []struct {
		a, b int64
		want time.Duration
	}{
		{0, 0, 0}, {5, 3, 2}, {3, 5, -2}, {math.MaxInt64, -1, math.MaxInt64}, {math.MinInt64, 1, math.MinInt64},
		{0, math.MinInt64, math.MaxInt64}, {-1, math.MinInt64, math.MaxInt64}, {math.MinInt64, math.MinInt64, 0},
	} {
		if got := at(x.a).Sub(at(x.b)); got != x.want {
			t.Errorf("%d - %d is %v", x.a, x.b, int64(got))
		}
	}
}
