// Package profile writes profiles of the kernel in the format of pprof (github.com/google/pprof,
// proto/profile.proto), uncompressed: elver.profile.
package profile

import (
	"runtime"
	"time"

	"elver/runtime/metal"
)

// CPU returns the CPU profile of samples, which were taken over duration.
func CPU(samples []metal.Sample, duration time.Duration) []byte {
	const period = int64(time.Second / metal.ProfileRate)
	b := newBuilder([]valueType{{"samples", "count"}, {"cpu", "nanoseconds"}}, valueType{"cpu", "nanoseconds"}, period)
	b.duration = duration.Nanoseconds()
	for _, s := range samples {
		b.sample(s.Stack, true, int64(s.Count), int64(s.Count)*period)
	}
	return b.bytes()
}

// Heap returns the profile of the kernel's heap, as of the last collection. It is empty unless
// runtime.MemProfileRate was set at the start.
func Heap() []byte {
	var records []runtime.MemProfileRecord
	for {
		n, ok := runtime.MemProfile(records, true)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.MemProfileRecord, n+n/4+16)
	}
	b := newBuilder([]valueType{{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"}, {"inuse_space", "bytes"}},
		valueType{"space", "bytes"}, int64(runtime.MemProfileRate))
	for i := range records {
		r := &records[i]
		// An object of n bytes is in the profile about once in rate/n times (runtime.MemProfileRate).
		scaled := func(objects, bytes int64) (int64, int64) {
			if objects == 0 || bytes == 0 {
				return 0, 0
			}
			scale := max(1, float64(runtime.MemProfileRate)/(float64(bytes)/float64(objects)))
			return int64(float64(objects) * scale), int64(float64(bytes) * scale)
		}
		objects, space := scaled(r.AllocObjects, r.AllocBytes)
		usedObjects, usedSpace := scaled(r.InUseObjects(), r.InUseBytes())
		b.sample(r.Stack(), false, objects, space, usedObjects, usedSpace)
	}
	return b.bytes()
}

type valueType struct{ kind, unit string }

// builder makes a message Profile. Its strings, functions and locations are numbered as they turn up.
type builder struct {
	message   message
	strings   map[string]int
	table     []string
	functions map[string]uint64
	locations map[uintptr]uint64
	duration  int64
}

// Numbers of the fields of the messages in profile.proto.
const (
	profileSampleType = 1
	profileSample     = 2
	profileLocation   = 4
	profileFunction   = 5
	profileString     = 6
	profileDuration   = 10
	profilePeriodType = 11
	profilePeriod     = 12

	typeKind = 1
	typeUnit = 2

	sampleLocation = 1
	sampleValue    = 2

	locationID      = 1
	locationAddress = 3
	locationLine    = 4

	lineFunction = 1
	lineNumber   = 2

	functionID   = 1
	functionName = 2
	functionFile = 4
)

func newBuilder(types []valueType, periodType valueType, period int64) *builder {
	b := &builder{strings: make(map[string]int), functions: make(map[string]uint64), locations: make(map[uintptr]uint64)}
	b.string("")
	for _, t := range types {
		b.message.nested(profileSampleType, b.valueType(t))
	}
	b.message.nested(profilePeriodType, b.valueType(periodType))
	b.message.number(profilePeriod, uint64(period))
	return b
}

func (b *builder) valueType(t valueType) message {
	var m message
	m.number(typeKind, b.string(t.kind))
	m.number(typeUnit, b.string(t.unit))
	return m
}

// string returns the number of s in the string table.
func (b *builder) string(s string) uint64 {
	i, known := b.strings[s]
	if !known {
		i = len(b.table)
		b.strings[s] = i
		b.table = append(b.table, s)
	}
	return uint64(i)
}

// sample adds a stack with its values. interrupted says that the innermost frame was interrupted;
// otherwise it is a return address, as the others are.
func (b *builder) sample(stack []uintptr, interrupted bool, values ...int64) {
	var m message
	for i, pc := range stack {
		m.number(sampleLocation, b.location(pc, i == 0 && interrupted))
	}
	for _, v := range values {
		m.number(sampleValue, uint64(v))
	}
	b.message.nested(profileSample, m)
}

// location returns the number of the location of pc, which is a return address unless it was
// interrupted.
func (b *builder) location(pc uintptr, interrupted bool) uint64 {
	if interrupted && pc != 0 {
		pc++ // CallersFrames takes every address for a return address
	}
	if id, known := b.locations[pc]; known {
		return id
	}
	id := uint64(len(b.locations) + 1)
	b.locations[pc] = id
	var m message
	m.number(locationID, id)
	m.number(locationAddress, uint64(pc))
	if pc == 0 {
		m.nested(locationLine, b.line("the program (user mode)", "", 0))
	} else {
		frames := runtime.CallersFrames([]uintptr{pc})
		for {
			frame, more := frames.Next()
			if frame.Function != "" {
				m.nested(locationLine, b.line(frame.Function, frame.File, frame.Line))
			}
			if !more {
				break
			}
		}
	}
	b.message.nested(profileLocation, m)
	return id
}

func (b *builder) line(function, file string, line int) message {
	id, known := b.functions[function]
	if !known {
		id = uint64(len(b.functions) + 1)
		b.functions[function] = id
		var m message
		m.number(functionID, id)
		m.number(functionName, b.string(function))
		m.number(functionFile, b.string(file))
		b.message.nested(profileFunction, m)
	}
	var m message
	m.number(lineFunction, id)
	m.number(lineNumber, uint64(line))
	return m
}

func (b *builder) bytes() []byte {
	b.message.number(profileDuration, uint64(b.duration))
	for _, s := range b.table {
		b.message.nested(profileString, message(s))
	}
	return b.message
}

// message is a message of protocol buffers, encoded.
type message []byte

// Wire types.
const (
	wireVarint = 0
	wireBytes  = 2
)

func (m *message) varint(v uint64) {
	for ; v >= 0x80; v >>= 7 {
		*m = append(*m, byte(v)|0x80)
	}
	*m = append(*m, byte(v))
}

func (m *message) number(field int, v uint64) {
	m.varint(uint64(field)<<3 | wireVarint)
	m.varint(v)
}

func (m *message) nested(field int, inner message) {
	m.varint(uint64(field)<<3 | wireBytes)
	m.varint(uint64(len(inner)))
	*m = append(*m, inner...)
}
