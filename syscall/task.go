package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// args are the arguments of a system call, in the registers where the program left them.
type args amd64.Context

// arg returns argument i. With a constant i it is one load.
func (a *args) arg(i int) uint64 {
	switch i {
	case 0:
		return a.RDI
	case 1:
		return a.RSI
	case 2:
		return a.RDX
	case 3:
		return a.R10
	case 4:
		return a.R8
	}
	return a.R9
}

// int returns argument i as C's int.
func (a *args) int(i int) int32 { return int32(a.arg(i)) }

// uint returns argument i as C's unsigned int.
func (a *args) uint(i int) uint32 { return uint32(a.arg(i)) }

// local is what a thread keeps for its system calls, so that the common ones allocate nothing. Only
// the thread itself uses it.
type local struct {
	files    vfs.Context
	buffer   mm.Buffer
	segments [8]mm.Segment
	bytes    [256]byte // a struct on its way to or from the program
	attr     vfs.Attr
	epoll    *epollRoom       // made by the first epoll_wait
	watches  *[fewFiles]watch // made by the first poll
	sockets  *socketRoom      // made by the first call on a socket
}

// localOf returns t's local.
func localOf(t *kernel.Thread) *local {
	if l, ok := t.Local.(*local); ok {
		return l
	}
	return newLocal(t)
}

//go:noinline
func newLocal(t *kernel.Thread) *local {
	l := &local{files: *vfs.NewContext(t)}
	t.Local = l
	return l
}

// filesOf returns the context in which t uses the file tree, with the credentials it has now.
func filesOf(t *kernel.Thread) *vfs.Context {
	l := localOf(t)
	l.files.Creds = t.Creds()
	return &l.files
}

// copyIn reads all of dst from the program's memory at addr: EFAULT.
func copyIn(t *kernel.Thread, dst []byte, addr uint64) error {
	if n, err := t.MM().CopyIn(dst, addr); err != nil {
		return err
	} else if n < len(dst) {
		return unix.EFAULT
	}
	return nil
}

// copyOut writes all of src to the program's memory at addr: EFAULT.
func copyOut(t *kernel.Thread, addr uint64, src []byte) error {
	if n, err := t.MM().CopyOut(addr, src); err != nil {
		return err
	} else if n < len(src) {
		return unix.EFAULT
	}
	return nil
}

// pathAt reads a path that the program passes: EFAULT, ENAMETOOLONG. Whether it may be empty is its
// user's to say.
func pathAt(t *kernel.Thread, addr uint64) (string, error) {
	return t.MM().CopyInString(addr, unix.PathMax)
}

// timespecAt reads a struct timespec or timeval, unchecked.
func timespecAt(t *kernel.Thread, addr uint64) (unix.Timespec, error) {
	b := localOf(t).bytes[:16]
	if err := copyIn(t, b, addr); err != nil {
		return unix.Timespec{}, err
	}
	return unix.Timespec{Sec: int64(binary.LittleEndian.Uint64(b)), Nsec: int64(binary.LittleEndian.Uint64(b[8:]))}, nil
}

// writePair writes two longs, as structs timespec, timeval and rlimit are.
func writePair(t *kernel.Thread, addr, first, second uint64) error {
	b := localOf(t).bytes[:16]
	binary.LittleEndian.PutUint64(b, first)
	binary.LittleEndian.PutUint64(b[8:], second)
	return copyOut(t, addr, b)
}

// writeNS writes ns nanoseconds as a struct timespec.
func writeNS(t *kernel.Thread, addr uint64, ns int64) error {
	return writePair(t, addr, uint64(ns/1e9), uint64(ns%1e9))
}

// An encoder lays out a struct of Linux's, whose paddings the caller writes like fields.
type encoder struct{ b []byte }

func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

// text writes s, cut so that it ends with NUL, in n bytes.
func (e *encoder) text(s string, n int) {
	field := make([]byte, n)
	copy(field[:n-1], s)
	e.b = append(e.b, field...)
}

// zero writes n bytes of padding.
func (e *encoder) zero(n int) {
	for range n {
		e.b = append(e.b, 0)
	}
}
