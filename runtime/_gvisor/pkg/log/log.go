// Package log stands in the kernel for gVisor's package of that name, of which the network stack uses
// what follows. Nothing is formatted, and nothing runs as the package starts, unless someone listens.
package log

import (
	"runtime/debug"
	"time"
)

// Level is how much a message matters.
type Level uint32

// The levels.
const (
	Warning Level = iota
	Info
	Debug
)

// Logger takes messages.
type Logger interface {
	Debugf(format string, v ...any)
	Infof(format string, v ...any)
	Warningf(format string, v ...any)
	IsLogging(level Level) bool
}

// Sink, if not nil, is told all messages. It is set before the first stack is made.
var Sink func(level Level, format string, v ...any)

type logger struct{}

func (logger) Debugf(format string, v ...any)   { Debugf(format, v...) }
func (logger) Infof(format string, v ...any)    { Infof(format, v...) }
func (logger) Warningf(format string, v ...any) { Warningf(format, v...) }
func (logger) IsLogging(Level) bool             { return Sink != nil }

// Log returns the logger.
func Log() Logger { return logger{} }

// BasicRateLimitedLogger returns the logger: what it is asked for tells of packets that anybody can send,
// which is nothing to warn of.
func BasicRateLimitedLogger(time.Duration) Logger { return logger{} }

// Debugf logs at that level.
func Debugf(format string, v ...any) { say(Debug, format, v) }

// Infof logs at that level.
func Infof(format string, v ...any) { say(Info, format, v) }

// Warningf logs at that level.
func Warningf(format string, v ...any) { say(Warning, format, v) }

func say(level Level, format string, v []any) {
	if Sink != nil {
		Sink(level, format, v...)
	}
}

// BugTracebackOnce tells of a bug.
func BugTracebackOnce(err error) { Warningf("%v\n%s", err, debug.Stack()) }

// LocalStack returns the goroutine's stack.
func LocalStack(int) []byte { return debug.Stack() }
