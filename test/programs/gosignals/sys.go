package main

import (
	"syscall"
	"unsafe"
)

// setitimer takes a pointer to struct itimerval, of which interval is the first
// half.
func setitimer(which int, interval *syscall.Timeval) {
	syscall.RawSyscall(syscall.SYS_SETITIMER, uintptr(which), uintptr(unsafe.Pointer(interval)), 0)
}

// samples adds up the counts of a profile in the protocol buffer format of
// pprof: field 2 of the message is a sample, whose field 2 holds its values, the
// number of samples first. A field of two numbers is not packed.
func samples(p []byte) (total int64) {
	for len(p) > 0 {
		field, sample, _, rest := next(p)
		p = rest
		for field == 2 && len(sample) > 0 {
			f, _, count, more := next(sample)
			sample = more
			if f == 2 {
				total += int64(count)
				break
			}
		}
	}
	return total
}

// next splits the first field off a message: it holds bytes, or a number.
func next(p []byte) (field int, body []byte, number uint64, rest []byte) {
	key, p := varint(p)
	number, p = varint(p)
	if key&7 == 2 {
		return int(key >> 3), p[:number], 0, p[number:]
	}
	return int(key >> 3), nil, number, p
}

func varint(p []byte) (v uint64, rest []byte) {
	for i, b := range p {
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, p[i+1:]
		}
	}
	return v, nil
}
