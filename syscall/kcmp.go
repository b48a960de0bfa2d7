package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
	"elver/vfs/event"
)

// What kcmp(2) compares.
const (
	kcmpFile = iota
	kcmpVM
	kcmpFiles
	kcmpFS
	kcmpSigHand
	kcmpIO
	kcmpSysVSem
	kcmpEpollTarget
)

// different is kcmp's result for what isn't the same, without an order.
const different = 3

// kcmp(2)
func sysKcmp(t *kernel.Thread, a *args) (uint64, error) {
	k := t.Kernel()
	one, two := k.Thread(a.int(0)), k.Thread(a.int(1))
	if one == nil || two == nil {
		return 0, unix.ESRCH
	}
	if !t.MayAttach(one.Proc) || !t.MayAttach(two.Proc) {
		return 0, unix.EPERM
	}
	p, q := one.Proc, two.Proc
	f, ok1 := p.Attach.(*vfs.Files)
	g, ok2 := q.Attach.(*vfs.Files)
	same := false
	switch a.int(2) {
	case kcmpFile:
		if !ok1 || !ok2 {
			return 0, unix.EBADF
		}
		d, err := f.Table().Get(int32(a.arg(3)))
		if err != nil {
			return 0, err
		}
		defer d.Decref()
		same = g.Table().Is(int32(a.arg(4)), d)
		if _, err := g.Table().Cloexec(int32(a.arg(4))); !same && err != nil {
			return 0, err
		}
	case kcmpVM:
		same = p.MM() == q.MM()
	case kcmpFiles:
		same = ok1 && ok2 && f.Table() == g.Table()
	case kcmpFS:
		same = ok1 && ok2 && f.SharesFS(g)
	case kcmpSigHand:
		same = p.SharesActions(q)
	case kcmpIO:
		same = true // nobody has an I/O context
	case kcmpSysVSem:
		same = one.SharesSemaphoreUndo(two)
	case kcmpEpollTarget:
		if !ok1 || !ok2 {
			return 0, unix.EBADF
		}
		var err error
		if same, err = watchesFile(t, f, int32(a.arg(3)), g, a.arg(4)); err != nil {
			return 0, err
		}
	default:
		return 0, unix.EINVAL
	}
	if same {
		return 0, nil
	}
	return different, nil
}

// watchesFile reports whether the file fd of f is what an epoll of g watches, which a struct kcmp_epoll_slot at
// slotAt names: EBADF, EINVAL if the descriptor is no epoll, ENOENT if it doesn't watch one of that number.
func watchesFile(t *kernel.Thread, f *vfs.Files, fd int32, g *vfs.Files, slotAt uint64) (bool, error) {
	slot := localOf(t).bytes[:12]
	if err := copyIn(t, slot, slotAt); err != nil {
		return false, err
	}
	d, err := f.Table().Get(fd)
	if err != nil {
		return false, err
	}
	defer d.Decref()
	o, err := g.Table().Get(int32(halfword(slot, 0)))
	if err != nil {
		return false, err
	}
	defer o.Decref()
	e, err := event.EpollOf(o)
	if err != nil {
		return false, err
	}
	any, same := e.Watches(d, int32(halfword(slot, 4)))
	if !any {
		return false, unix.ENOENT
	}
	return same, nil
}

// setns(2): there are no namespaces, so no descriptor is one.
func sysSetns(t *kernel.Thread, a *args) (uint64, error) {
	d, err := localOf(t).files.Get(a.int(0))
	if err != nil {
		return 0, err
	}
	d.Decref()
	return 0, unix.EINVAL
}
