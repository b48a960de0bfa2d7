// Package klog is the kernel's leveled log. Lines go to one writer, which the image's main sets to
// the log channel; before that, and when none is set, they are dropped.
//
// A line is one Write, so that lines of different threads do not mix. The writer is called with
// the log's lock held: it must not log.
package klog

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Level says how much a line matters.
type Level int32

// The levels, the most important first.
const (
	Error Level = iota
	Warning
	Info
	Debug
)

// String returns the level's name, as the parameter elver.log= has it.
func (l Level) String() string {
	switch l {
	case Error:
		return "error"
	case Warning:
		return "warning"
	case Info:
		return "info"
	case Debug:
		return "debug"
	}
	return fmt.Sprintf("Level(%d)", int32(l))
}

// Parse returns the level of that name.
func Parse(name string) (Level, error) {
	for l := Error; l <= Debug; l++ {
		if l.String() == name {
			return l, nil
		}
	}
	return 0, fmt.Errorf("elver.log: no level is called %q: use error, warning, info or debug", name)
}

var (
	level   atomic.Int32
	started = time.Now()

	mu      sync.Mutex // guards what follows
	output  io.Writer
	kept    [keptBytes]byte // what was written last, a ring
	written uint64          // bytes, ever
)

// keptBytes is how much of the log can be read back.
const keptBytes = 16 << 10

func init() { level.Store(int32(Warning)) }

// SetLevel drops all lines that matter less than l.
func SetLevel(l Level) { level.Store(int32(l)) }

// SetOutput sends the lines that follow to w.
func SetOutput(w io.Writer) {
	mu.Lock()
	defer mu.Unlock()
	output = w
}

// Enabled reports whether lines of level l are written: for callers whose arguments are dear.
func Enabled(l Level) bool { return int32(l) <= level.Load() }

// Errorf logs what went wrong in Elver itself.
func Errorf(format string, args ...any) { logf(Error, format, args...) }

// Warnf logs what a user should know.
func Warnf(format string, args ...any) { logf(Warning, format, args...) }

// Infof logs what happens.
func Infof(format string, args ...any) { logf(Info, format, args...) }

// Debugf logs for whoever works on Elver.
func Debugf(format string, args ...any) { logf(Debug, format, args...) }

func logf(l Level, format string, args ...any) {
	if !Enabled(l) {
		return
	}
	since := time.Since(started)
	line := fmt.Appendf(nil, "[%5d.%06d] %s: ", since/time.Second, since%time.Second/time.Microsecond, l)
	line = fmt.Appendf(line, format, args...)
	if line[len(line)-1] != '\n' {
		line = append(line, '\n')
	}
	write(l, line)
}

// Write puts a finished text, a report for example, into the log whatever the level is.
func Write(text []byte) { write(Error, text) }

func write(l Level, text []byte) {
	mu.Lock()
	defer mu.Unlock()
	keep([]byte{'<', "3467"[l], '>'}) // syslog(2)'s levels
	keep(text)
	if output != nil {
		output.Write(text)
	}
}

// keep adds text to what can be read back. Precondition: mu is held.
func keep(text []byte) {
	for _, c := range text {
		kept[written%keptBytes] = c
		written++
	}
}

// Size returns how much of the log can be read back at most, in bytes.
func Size() int { return keptBytes }

// Written returns how many bytes have been logged: the place where the log ends.
func Written() uint64 {
	mu.Lock()
	defer mu.Unlock()
	return written
}

// ReadAt copies what was logged from place on, as far as it is kept, into p. It returns how many bytes, and the
// place behind them.
func ReadAt(p []byte, place uint64) (n int, next uint64) {
	mu.Lock()
	defer mu.Unlock()
	place = min(max(place, written-min(written, keptBytes)), written)
	for n < len(p) && place < written {
		p[n] = kept[place%keptBytes]
		n++
		place++
	}
	return n, place
}
