package event

import (
	"fmt"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/vfs"
)

// pidfd is the file of pidfd_open(2): a process that keeps its identity when its number is used again.
// It is readable once the process has ended, and nothing can be read from it.
type pidfd struct {
	vfs.BaseFile
	process *kernel.Process
}

// NewPidfd returns a pidfd of p; flags is 0 or O_NONBLOCK.
func NewPidfd(p *kernel.Process, flags uint32) *vfs.Description {
	return vfs.NewAnonymous(&pidfd{process: p}, "[pidfd]", unix.O_RDWR|flags&unix.O_NONBLOCK)
}

// ProcessOf returns the process of the pidfd d: EBADF if it is none.
func ProcessOf(d *vfs.Description) (*kernel.Process, error) {
	if f, ok := d.File().(*pidfd); ok {
		return f.process, nil
	}
	return nil, unix.EBADF
}

// ProcessNamed is ProcessOf for pidfd_send_signal(2), which takes a directory /proc/PID too.
func ProcessNamed(d *vfs.Description) (*kernel.Process, error) {
	if dir, ok := d.Inode().(interface{ Process() *kernel.Process }); ok {
		if p := dir.Process(); p != nil {
			return p, nil
		}
	}
	return ProcessOf(d)
}

// Readiness says whether the process has ended, and by EPOLLHUP whether it was waited for.
func (f *pidfd) Readiness(mask waiter.EventMask) waiter.EventMask {
	switch zombie, gone := f.process.HasEnded(); {
	case gone:
		return mask & (waiter.ReadableEvents | waiter.EventHUp)
	case zombie:
		return mask & waiter.ReadableEvents
	}
	return 0
}

// EventRegister has e told of the end.
func (f *pidfd) EventRegister(e *waiter.Entry) error {
	f.process.ExitEvents.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (f *pidfd) EventUnregister(e *waiter.Entry) { f.process.ExitEvents.EventUnregister(e) }

// FdInfo is what /proc/PID/fdinfo shows: -1 for a process that is no more.
func (f *pidfd) FdInfo() string {
	pid := f.process.PID
	if _, gone := f.process.HasEnded(); gone {
		pid = -1
	}
	return fmt.Sprintf("Pid:\t%d\nNSpid:\t%d\n", pid, pid)
}
