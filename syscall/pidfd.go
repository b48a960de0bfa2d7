package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
	"elver/vfs/event"
)

// pidfd_open(2). PIDFD_THREAD is refused, as before Linux 6.9.
func sysPidfdOpen(t *kernel.Thread, a *args) (uint64, error) {
	pid, flags := a.int(0), a.uint(1)
	if flags&^unix.PIDFD_NONBLOCK != 0 || pid <= 0 {
		return 0, unix.EINVAL
	}
	k := t.Proc.Kernel()
	p := k.Process(pid)
	switch {
	case p != nil:
	case k.Thread(pid) != nil:
		return 0, unix.EINVAL // a thread that leads no process
	default:
		return 0, unix.ESRCH
	}
	return install(t, event.NewPidfd(p, flags), nil, true)
}

// processOf returns the process of the pidfd that is descriptor fd, and whether it is non-blocking:
// EBADF.
func processOf(t *kernel.Thread, fd int32) (*kernel.Process, bool, error) {
	d, err := localOf(t).files.Get(fd)
	if err != nil {
		return nil, false, err
	}
	defer d.Decref()
	p, err := event.ProcessOf(d)
	return p, d.Flags()&unix.O_NONBLOCK != 0, err
}

// pidfdSignalThreadGroup is PIDFD_SIGNAL_THREAD_GROUP: what a pidfd of a process does anyhow.
const pidfdSignalThreadGroup = 2

// pidfd_send_signal(2). Signals to a thread or to a process group are refused, as before Linux 6.9.
func sysPidfdSendSignal(t *kernel.Thread, a *args) (uint64, error) {
	sig := kernel.Signal(a.int(1))
	if flags := a.uint(3); flags != 0 && flags != pidfdSignalThreadGroup {
		return 0, unix.EINVAL
	}
	d, err := localOf(t).files.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	p, err := event.ProcessNamed(d)
	d.Decref()
	if err != nil {
		return 0, err
	}
	if a.arg(2) == 0 {
		return 0, t.SignalProcess(p, sig, nil)
	}
	info, err := siginfoAt(t, a.arg(2), a.int(1))
	if err != nil {
		return 0, err
	}
	number, err := t.MM().ReadUint32(a.arg(2))
	if err != nil {
		return 0, err
	}
	if int32(number) != a.int(1) {
		return 0, unix.EINVAL
	}
	return 0, t.SignalProcess(p, sig, &info)
}

// pidfd_getfd(2)
func sysPidfdGetfd(t *kernel.Thread, a *args) (uint64, error) {
	if a.uint(2) != 0 {
		return 0, unix.EINVAL
	}
	p, _, err := processOf(t, a.int(0))
	if err != nil {
		return 0, err
	}
	if _, gone := p.HasEnded(); gone {
		return 0, unix.ESRCH
	}
	if !t.MayAttach(p) {
		return 0, unix.EPERM
	}
	files, ok := p.Attach.(*vfs.Files)
	if !ok {
		return 0, unix.EBADF
	}
	d, err := files.Table().Get(a.int(1))
	return install(t, d, err, true)
}

// clonePidfd has c make a pidfd of the child in its parent and store its number at addr.
func clonePidfd(t *kernel.Thread, c *kernel.CloneArgs, addr uint64) {
	c.Announce = func(child *kernel.Process) (undo func(), err error) {
		files := filesOf(t)
		fd, err := files.Install(event.NewPidfd(child, 0), true)
		if err != nil {
			return nil, err
		}
		if err := t.MM().WriteUint32(addr, uint32(fd)); err != nil {
			files.Close(int32(fd))
			return nil, err
		}
		return func() { files.Close(int32(fd)) }, nil
	}
}
