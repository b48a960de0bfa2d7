package syscall

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
	"elver/vfs/tmpfs"
)

// A program is a thread on the host that makes system calls, with memory to pass to them.
type program struct {
	*testing.T
	thread *kernel.Thread
	memory uint64 // the start of scratch memory
	free   uint64 // the first byte of it that is not given out
}

const scratchSize = 256 << 10

// start makes a program with an empty tmpfs as root and no open descriptors.
func start(t *testing.T) *program {
	t.Helper()
	as, err := mm.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	fs := tmpfs.New(tmpfs.Options{})
	files := vfs.NewFiles(vfs.NewNamespace(fs.Root(), "rootfs"))
	k := kernel.New(kernel.Config{Syscall: Dispatch})
	thread, err := k.NewFirst(as, files, nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := as.Mmap(mm.MmapArgs{Addr: 0x10000, Length: scratchSize, Prot: unix.PROT_READ | unix.PROT_WRITE, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED})
	if err != nil {
		t.Fatal(err)
	}
	return &program{T: t, thread: thread, memory: addr, free: addr}
}

// call makes a system call and returns its raw result.
func (p *program) call(number uint64, arguments ...uint64) int64 {
	c := p.thread.Ctx
	var a [6]uint64
	copy(a[:], arguments)
	c.OrigRAX, c.RAX = number, number
	c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	Dispatch(p.thread)
	return int64(c.RAX)
}

// want makes a system call that must return result: a number, or an errno.
func (p *program) want(result any, number uint64, arguments ...uint64) {
	p.Helper()
	var n int64
	switch r := result.(type) {
	case int:
		n = int64(r)
	case unix.Errno:
		n = -int64(r)
	}
	if got := p.call(number, arguments...); got != n {
		p.Errorf("%s%v = %s, want %v", Name(uint32(number)), arguments, resultText(got), result)
	}
}

func resultText(v int64) string {
	pr := printer{result: uint64(v)}
	if v < 0 && v > -4096 {
		pr.errno = unix.Errno(-v)
	}
	pr.printResult(nil)
	return string(pr.text)
}

// room gives out n bytes of scratch memory.
func (p *program) room(n int) uint64 {
	addr := p.free
	p.free += uint64(n+15) &^ 15
	if p.free > p.memory+scratchSize {
		p.Fatal("no scratch memory is left")
	}
	return addr
}

// put writes b to scratch memory.
func (p *program) put(b []byte) uint64 {
	p.Helper()
	addr := p.room(len(b))
	if err := copyOut(p.thread, addr, b); err != nil {
		p.Fatal(err)
	}
	return addr
}

// text puts a string that ends with NUL.
func (p *program) text(s string) uint64 { return p.put(append([]byte(s), 0)) }

// words puts numbers of 8 bytes.
func (p *program) words(v ...uint64) uint64 {
	var b []byte
	for _, w := range v {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return p.put(b)
}

// get reads n bytes.
func (p *program) get(addr uint64, n int) []byte {
	p.Helper()
	b := make([]byte, n)
	if err := copyIn(p.thread, b, addr); err != nil {
		p.Fatal(err)
	}
	return b
}

// minus is a negative argument.
func minus(n int64) uint64 { return uint64(-n) }

func mmKernelBuffer(s string) *mm.Buffer {
	b := mm.KernelBuffer([]byte(s))
	return &b
}
