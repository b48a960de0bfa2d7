package vfs

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
)

// Signal-driven I/O (fcntl(2), O_ASYNC): the owner of a description gets a signal when it becomes ready.

// Kinds of owners of F_SETOWN_EX.
const (
	OwnerThread = iota
	OwnerProcess
	OwnerGroup
)

// async tells the owner of d what happens to the file, as the descriptor fd.
type async struct {
	d      *Description
	fd     int32
	kernel *kernel.Kernel
	entry  waiter.Entry
}

// FollowAsync begins or ends signals by what O_ASYNC says now; fd is the descriptor that it was set by.
func (d *Description) FollowAsync(c *Context, fd int32) {
	on := d.Flags()&unix.O_ASYNC != 0
	d.ownerMu.Lock()
	a := d.async
	switch {
	case on && a == nil && c.Thread != nil:
		d.async = &async{d: d, fd: fd, kernel: c.Thread.Kernel()}
	case !on && a != nil:
		d.async = nil
	default:
		d.ownerMu.Unlock()
		return
	}
	begun := d.async
	d.ownerMu.Unlock()
	if begun != nil {
		begun.entry.Init(begun, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventPri|waiter.EventErr|waiter.EventHUp)
		d.EventRegister(&begun.entry)
	} else {
		d.EventUnregister(&a.entry)
	}
}

// NotifyEvent sends the signal from a goroutine of its own: who notifies may hold locks.
func (a *async) NotifyEvent(mask waiter.EventMask) { go a.signal(mask) }

// signal sends what F_SETSIG chose, or SIGIO without details.
func (a *async) signal(mask waiter.EventMask) {
	a.d.ownerMu.Lock()
	over := a.d.async != a
	a.d.ownerMu.Unlock()
	// An end of a pipe hears of what concerns the other one, too.
	if mask &= a.d.Readiness(mask); over || mask == 0 {
		return
	}
	_, _, chosen := a.d.Owner()
	sig := kernel.Signal(unix.SIGIO)
	info := kernel.KernelInfo(sig)
	if chosen != 0 {
		sig = kernel.Signal(chosen)
		code, band := reason(mask)
		info = kernel.IOInfo(sig, code, band, a.fd)
	}
	a.d.tellOwner(a.kernel, sig, info)
}

// tellOwner sends the owner a signal.
func (d *Description) tellOwner(k *kernel.Kernel, sig kernel.Signal, info kernel.Siginfo) {
	kind, id, _ := d.Owner()
	var to []*kernel.Process
	switch {
	case id <= 0:
	case kind == OwnerThread:
		if t := k.Thread(id); t != nil && d.mayTell(t.Creds()) {
			t.Send(sig, info)
		}
	case kind == OwnerProcess:
		if p := k.Process(id); p != nil {
			to = append(to, p)
		}
	default:
		for _, p := range k.Processes() {
			if g := p.Group(); g != nil && g.ID() == id {
				to = append(to, p)
			}
		}
	}
	for _, p := range to {
		if d.mayTell(p.Creds()) {
			p.Kill(sig, info)
		}
	}
}

// Urgent is a file whose EventPri is that an urgent byte has come, of which SIGURG tells the owner (socket(7)).
type Urgent interface{ SendsUrgent() bool }

// urgentTeller waits for that.
type urgentTeller struct {
	d      *Description
	kernel *kernel.Kernel
	entry  waiter.Entry
}

// followUrgent has the owner told of urgent bytes from now on.
func (d *Description) followUrgent(k *kernel.Kernel) {
	if f, ok := d.file.(Urgent); !ok || !f.SendsUrgent() {
		return
	}
	u := &urgentTeller{d: d, kernel: k}
	d.ownerMu.Lock()
	known := d.urgent != nil
	if !known {
		d.urgent = u
	}
	d.ownerMu.Unlock()
	if !known {
		u.entry.Init(u, waiter.EventPri)
		d.EventRegister(&u.entry)
	}
}

// NotifyEvent sends the signal from a goroutine of its own, as async does.
func (u *urgentTeller) NotifyEvent(waiter.EventMask) {
	go u.d.tellOwner(u.kernel, kernel.Signal(unix.SIGURG), kernel.KernelInfo(kernel.Signal(unix.SIGURG)))
}

// mayTell checks that who set the owner could have killed it.
func (d *Description) mayTell(o *kernel.Credentials) bool {
	d.ownerMu.Lock()
	uid, euid := d.ownerUID, d.ownerEUID
	d.ownerMu.Unlock()
	return euid == 0 || euid == o.SUID || euid == o.RUID || uid == o.SUID || uid == o.RUID
}

// reason returns si_code and si_band (sigaction(2), SIGPOLL).
func reason(mask waiter.EventMask) (code int32, band int64) {
	const pollIn, pollOut, pollErr, pollPri, pollHUp = 1, 2, 4, 5, 6
	switch {
	case mask&waiter.EventHUp != 0:
		return pollHUp, unix.EPOLLHUP | unix.EPOLLERR
	case mask&waiter.EventErr != 0:
		return pollErr, unix.EPOLLERR
	case mask&waiter.ReadableEvents != 0:
		return pollIn, unix.EPOLLIN | unix.EPOLLRDNORM
	case mask&waiter.EventPri != 0:
		return pollPri, unix.EPOLLPRI | unix.EPOLLRDBAND
	}
	return pollOut, unix.EPOLLOUT | unix.EPOLLWRNORM | unix.EPOLLWRBAND
}
