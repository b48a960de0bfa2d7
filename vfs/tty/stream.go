package tty

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/kernel/waitq"
	"elver/vfs"
)

// The escape byte of the host's script: doubled it is itself, before endOfFile the end of the input.
const (
	escape    = 0x10
	endOfFile = 0x04
)

// Stream is the console without a terminal: bytes in with an end, bytes out, nothing translated.
type Stream struct {
	output func([]byte)
	queue  waitq.Queue
	room   chan struct{}

	readMu sync.Mutex
	piece  [pieceSize]byte // guarded by readMu

	mu      sync.Mutex
	data    []byte
	escaped bool
	ended   bool

	outMu sync.Mutex
	in    [pieceSize]byte
}

// NewStream returns a stream that writes by output, which may block.
func NewStream(output func([]byte)) *Stream {
	return &Stream{output: output, room: make(chan struct{}, 1)}
}

// Room returns the channel that gets a token when Input can take more.
func (s *Stream) Room() <-chan struct{} { return s.room }

// Input takes what came in on the line, stuffed as the host does, and returns how many bytes: fewer
// than all when readers are behind.
func (s *Stream) Input(p []byte) int {
	s.mu.Lock()
	n := 0
	for n < len(p) && len(s.data) < bufferSize {
		b := p[n]
		n++
		switch {
		case s.ended: // what comes behind the end is nobody's
		case s.escaped:
			s.escaped = false
			if b == endOfFile {
				s.ended = true
			} else {
				s.data = append(s.data, b)
			}
		case b == escape:
			s.escaped = true
		default:
			s.data = append(s.data, b)
		}
	}
	s.mu.Unlock()
	s.queue.Notify(waiter.ReadableEvents)
	return n
}

// EndOfInput says that nothing comes any more.
func (s *Stream) EndOfInput() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.queue.Notify(waiter.ReadableEvents)
}

// Read reads what is there: EAGAIN if nothing is, 0 at the end.
func (s *Stream) Read(dst *mm.Buffer) (int, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	total := 0
	for dst.Len() > 0 {
		s.mu.Lock()
		k := copy(s.piece[:min(dst.Len(), pieceSize)], s.data)
		ended := s.ended
		s.mu.Unlock()
		if k == 0 {
			if total == 0 && !ended {
				return 0, unix.EAGAIN
			}
			break
		}
		n, err := dst.CopyOut(s.piece[:k])
		s.mu.Lock()
		s.data = append(s.data[:0], s.data[n:]...)
		s.mu.Unlock()
		select {
		case s.room <- struct{}{}:
		default:
		}
		total += n
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
	}
	return total, nil
}

// Write writes everything.
func (s *Stream) Write(src *mm.Buffer) (int, error) { return writeAll(src, s.writePiece) }

func (s *Stream) writePiece(src *mm.Buffer) (int, error) {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	n, err := src.CopyIn(s.in[:min(src.Len(), pieceSize)])
	if n > 0 {
		s.output(s.in[:n])
	}
	return n, err
}

// Buffered returns how many bytes wait (FIONREAD).
func (s *Stream) Buffered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.data)
}

// Open returns an open file on the stream.
func (s *Stream) Open(flags uint32) vfs.File { return &streamFile{stream: s} }

type streamFile struct {
	vfs.BaseFile
	stream *Stream
}

// Buffered returns how many bytes wait (FIONREAD).
func (f *streamFile) Buffered() int { return f.stream.Buffered() }

// Read reads what is there.
func (f *streamFile) Read(c *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	return f.stream.Read(dst)
}

// Write writes everything.
func (f *streamFile) Write(c *vfs.Context, src *mm.Buffer, off int64) (int, error) {
	return f.stream.Write(src)
}

// Readiness says what is possible now. The end of the input is no hang-up: the same file is the output, which
// goes on.
func (f *streamFile) Readiness(mask waiter.EventMask) waiter.EventMask {
	s := f.stream
	r := waiter.WritableEvents
	s.mu.Lock()
	if len(s.data) > 0 || s.ended {
		r |= waiter.ReadableEvents
	}
	s.mu.Unlock()
	return r & mask
}

// EventRegister has e told of input.
func (f *streamFile) EventRegister(e *waiter.Entry) error {
	f.stream.queue.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *streamFile) EventUnregister(e *waiter.Entry) { f.stream.queue.EventUnregister(e) }

// Console is what stands on the console's line: a Terminal or a Stream.
type Console interface {
	Input(p []byte) int
	Room() <-chan struct{}
	EndOfInput()
	Open(flags uint32) vfs.File
}
