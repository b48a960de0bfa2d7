package kvm

import (
	"errors"
	"fmt"
	"time"
)

// The real-time clock of the PC (Motorola MC146818A data sheet): an index port, which also holds
// the NMI mask in bit 7 (clear here: NMIs stay on), and a data port.
const (
	rtcIndex = 0x70
	rtcData  = 0x71

	rtcSeconds = 0x00
	rtcMinutes = 0x02
	rtcHours   = 0x04
	rtcDay     = 0x07
	rtcMonth   = 0x08
	rtcYear    = 0x09
	rtcStatusA = 0x0a
	rtcStatusB = 0x0b

	rtcUpdating = 1 << 7 // of status A: the date is about to change, or changing
	rtcBinary   = 1 << 2 // of status B: not BCD
	rtc24Hours  = 1 << 1 // of status B
	rtcPM       = 1 << 7 // of the hours, on a 12-hour clock
)

// The wait for the end of an update, which takes 2.2 ms (data sheet, table 5), is given up after both. The time
// alone says little on a host that lets the machine wait.
const (
	rtcPatience = time.Second
	rtcTries    = 1000
)

var errNoRTC = errors.New("platform: the machine has no real-time clock: the date is unknown")

type rtc struct {
	io      ports
	century uint8 // register of the century, or 0 (FADT, CENTURY)
}

// rtcDate is the clock's registers as they stand.
type rtcDate struct {
	second, minute, hour, day, month, year, century uint8
}

// read returns the time, which the clock keeps in UTC, to the second.
func (r rtc) read() (time.Time, error) {
	if r.get(rtcStatusA) == 0xff && r.get(rtcStatusB) == 0xff {
		return time.Time{}, errNoRTC
	}
	start := time.Now()
	for try := 0; ; try++ {
		if r.get(rtcStatusA)&rtcUpdating == 0 {
			d := r.snapshot()
			// An update that began meanwhile shows as a flag or as another second.
			if r.get(rtcStatusA)&rtcUpdating == 0 && r.snapshot() == d {
				return d.decode(r.get(rtcStatusB))
			}
		}
		if try > rtcTries && time.Since(start) > rtcPatience {
			return time.Time{}, errors.New("platform: the real-time clock never stops updating: the date is unknown")
		}
	}
}

func (r rtc) get(register uint8) uint8 {
	r.io.Out8(rtcIndex, register)
	return r.io.In8(rtcData)
}

func (r rtc) snapshot() rtcDate {
	d := rtcDate{
		second: r.get(rtcSeconds),
		minute: r.get(rtcMinutes),
		hour:   r.get(rtcHours),
		day:    r.get(rtcDay),
		month:  r.get(rtcMonth),
		year:   r.get(rtcYear),
	}
	if r.century != 0 {
		d.century = r.get(r.century & 0x7f)
	}
	return d
}

// decode makes a time of the registers, in the format that status B tells.
func (d rtcDate) decode(statusB uint8) (time.Time, error) {
	number := func(b uint8) int {
		if statusB&rtcBinary != 0 {
			return int(b)
		}
		return int(b>>4)*10 + int(b&0xf)
	}
	hour := number(d.hour)
	if statusB&rtc24Hours == 0 {
		hour = number(d.hour&^rtcPM) % 12
		if d.hour&rtcPM != 0 {
			hour += 12
		}
	}
	year := number(d.year)
	if c := number(d.century); c >= 19 && c <= 99 {
		year += 100 * c
	} else if year += 1900; year < 1970 {
		year += 100
	}
	month, day, minute, second := number(d.month), number(d.day), number(d.minute), number(d.second)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// time.Date takes anything and normalises it; a date that changes that way was none.
	if t.Year() != year || int(t.Month()) != month || t.Day() != day || t.Hour() != hour || t.Minute() != minute || t.Second() != second {
		return time.Time{}, fmt.Errorf("platform: the real-time clock holds no date: day %d, month %d, year %d, %d:%d:%d", day, month, year, hour, minute, second)
	}
	return t, nil
}
