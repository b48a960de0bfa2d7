package syscall

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/klog"
)

// The actions of syslog(2).
const (
	syslogClose = iota
	syslogOpen
	syslogRead
	syslogReadAll
	syslogReadClear
	syslogClear
	syslogConsoleOff
	syslogConsoleOn
	syslogConsoleLevel
	syslogSizeUnread
	syslogSizeBuffer
)

// syslogState is how far programs have read the kernel's log, and from where on it counts.
var syslogState struct {
	mu      sync.Mutex // guards what follows
	read    uint64
	cleared uint64
}

// consoleLevels are the log's levels by the console log levels of Linux: what is below is shown.
var consoleLevels = [...]klog.Level{1: klog.Error, klog.Error, klog.Error, klog.Error, klog.Warning, klog.Warning, klog.Info, klog.Debug}

// syslog(2). The log is Elver's own, with what elver.log= lets through.
func sysSyslog(t *kernel.Thread, a *args) (uint64, error) {
	action, addr, length := a.int(0), a.arg(1), a.int(2)
	if action != syslogReadAll && action != syslogSizeBuffer && !t.Creds().HasCap(unix.CAP_SYSLOG) && !t.Creds().HasCap(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	s := &syslogState
	switch action {
	case syslogClose, syslogOpen:
		return 0, nil
	case syslogRead:
		if addr == 0 || length < 0 {
			return 0, unix.EINVAL
		}
		t.PrepareBlock()
		for length > 0 {
			s.mu.Lock()
			text := logFrom(s.read, int(length), false)
			s.read = max(s.read, klog.Written()-min(klog.Written(), uint64(klog.Size()))) + uint64(len(text))
			s.mu.Unlock()
			if len(text) > 0 {
				return uint64(len(text)), copyOut(t, addr, text)
			}
			// Nobody tells of new lines: they are rare.
			if err := t.Block(kernel.After(time.Second)); err != nil && err != unix.ETIMEDOUT {
				return 0, err
			}
		}
		return 0, nil
	case syslogReadAll, syslogReadClear:
		if addr == 0 || length < 0 {
			return 0, unix.EINVAL
		}
		s.mu.Lock()
		text := logFrom(s.cleared, int(length), true)
		s.mu.Unlock()
		if err := copyOut(t, addr, text); err != nil {
			return 0, err
		}
		if action == syslogReadClear {
			s.mu.Lock()
			s.cleared = klog.Written()
			s.mu.Unlock()
		}
		return uint64(len(text)), nil
	case syslogClear:
		s.mu.Lock()
		s.cleared = klog.Written()
		s.mu.Unlock()
		return 0, nil
	case syslogConsoleOff:
		klog.SetLevel(klog.Error)
		return 0, nil
	case syslogConsoleOn:
		klog.SetLevel(klog.Warning)
		return 0, nil
	case syslogConsoleLevel:
		if length < 1 || int(length) >= len(consoleLevels) {
			return 0, unix.EINVAL
		}
		klog.SetLevel(consoleLevels[length])
		return 0, nil
	case syslogSizeUnread:
		s.mu.Lock()
		defer s.mu.Unlock()
		return uint64(len(logFrom(s.read, klog.Size(), false))), nil
	case syslogSizeBuffer:
		return uint64(klog.Size()), nil
	}
	return 0, unix.EINVAL
}

// logFrom returns up to n bytes of the log from place on: the last ones if last is set, else the first.
func logFrom(place uint64, n int, last bool) []byte {
	text := make([]byte, klog.Size())
	k, _ := klog.ReadAt(text, place)
	if text = text[:k]; k > n {
		if last {
			return text[k-n:]
		}
		return text[:n]
	}
	return text
}
