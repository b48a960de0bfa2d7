package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
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
		return 0, unix.EOPNOTSUPP
	default:
		return 0, unix.EINVAL
	}
	if same {
		return 0, nil
	}
	return different, nil
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
