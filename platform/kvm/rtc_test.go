package kvm

import (
	"testing"
	"time"
)

func bcd(n int) uint8 { return uint8(n/10<<4 | n%10) }

// set puts a date into the clock, as BCD on a 24-hour clock.
func (r *fakeRTC) set(t time.Time) {
	r.regs[rtcSeconds], r.regs[rtcMinutes], r.regs[rtcHours] = bcd(t.Second()), bcd(t.Minute()), bcd(t.Hour())
	r.regs[rtcDay], r.regs[rtcMonth], r.regs[rtcYear] = bcd(t.Day()), bcd(int(t.Month())), bcd(t.Year()%100)
	r.regs[0x32] = bcd(t.Year() / 100)
	r.regs[rtcStatusB] = rtc24Hours
}

func TestRTC(t *testing.T) {
	date := time.Date(2026, 12, 31, 23, 59, 58, 0, time.UTC)
	for _, test := range []struct {
		name    string
		century uint8
		change  func(r *fakeRTC)
		want    time.Time
	}{
		{"BCD, century", 0x32, func(*fakeRTC) {}, date},
		{"BCD, no century", 0, func(*fakeRTC) {}, date},
		{"a century that is none", 0x32, func(r *fakeRTC) { r.regs[0x32] = 0 }, date},
		{"the last one", 0, func(r *fakeRTC) { r.regs[rtcYear] = 0x99 }, date.AddDate(-27, 0, 0)},
		{"binary", 0, func(r *fakeRTC) {
			r.regs = [128]uint8{rtcSeconds: 58, rtcMinutes: 59, rtcHours: 23, rtcDay: 31, rtcMonth: 12, rtcYear: 26, rtcStatusB: rtcBinary | rtc24Hours}
		}, date},
		{"12 hours, BCD", 0, func(r *fakeRTC) { r.regs[rtcStatusB], r.regs[rtcHours] = 0, rtcPM|0x11 }, date},
		{"noon", 0, func(r *fakeRTC) { r.regs[rtcStatusB], r.regs[rtcHours] = 0, rtcPM|0x12 }, date.Add(-11 * time.Hour)},
		{"midnight", 0, func(r *fakeRTC) { r.regs[rtcStatusB], r.regs[rtcHours] = 0, 0x12 }, date.Add(-23 * time.Hour)},
		{"while it updates", 0x32, func(r *fakeRTC) { r.updating = 50 }, date},
		{"a second passes while it is read", 0x32, func(r *fakeRTC) {
			r.onRead = func(n int) {
				if n == 7 {
					r.set(date.Add(2 * time.Second))
				}
			}
		}, date.Add(2 * time.Second)},
	} {
		m := newFakeMachine()
		m.rtc.set(date)
		test.change(m.rtc)
		got, err := rtc{m, test.century}.read()
		if err != nil || !got.Equal(test.want) || got.Location() != time.UTC {
			t.Errorf("%s: %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

func TestRTCFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(m *fakeMachine)
	}{
		{"none", func(m *fakeMachine) { m.rtc = nil }},
		{"all registers 0", func(m *fakeMachine) { m.rtc.regs = [128]uint8{} }},
		{"30 February", func(m *fakeMachine) { m.rtc.regs[rtcMonth], m.rtc.regs[rtcDay] = 2, 0x30 }},
		{"updates for ever", func(m *fakeMachine) { m.rtc.forever = true }},
		{"changes for ever", func(m *fakeMachine) {
			m.rtc.onRead = func(n int) { m.rtc.regs[rtcSeconds] = uint8(n % 60) }
		}},
	} {
		m := newFakeMachine()
		m.rtc.set(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		test.change(m)
		start := time.Now()
		if got, err := (rtc{m, 0}).read(); err == nil {
			t.Errorf("%s: %v", test.name, got)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: it took %v", test.name, d)
		}
	}
}
