package procfs

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// memoryPiece is how many bytes of a process's memory are moved at once.
const memoryPiece = 64 << 10

// memFile is /proc/PID/mem: the memory of a process, whatever its protection, for who may trace it.
type memFile struct {
	vfs.BaseInode
	process *kernel.Process
}

func mem(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	m := &memFile{process: p}
	m.Init(f, ino, unix.S_IFREG|0o600, 0, 0, 0)
	return m
}

// SetAttr ignores a change of size, as O_TRUNC makes it.
func (m *memFile) SetAttr(c *vfs.Context, s *vfs.SetAttr) error {
	if s.Valid == vfs.SetSize {
		return nil
	}
	return unix.EPERM
}

// Open opens the memory that the process has now: what it executes later has another.
func (m *memFile) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	if c.Thread == nil || !c.Thread.MayAttach(m.process) {
		return nil, unix.EACCES
	}
	return &openMem{process: m.process, space: m.process.MM()}, nil
}

type openMem struct {
	vfs.BaseFile
	process *kernel.Process
	space   *mm.AddressSpace // only to compare: it is the process that keeps it
}

func (*openMem) Seekable() bool { return true }

// Seek finds no end, and no holes.
func (*openMem) Seek(int64, int) (int64, error) { return 0, unix.EINVAL }

// acquire returns the memory for the caller to Release; nil when the process has given it up.
func (o *openMem) acquire() *mm.AddressSpace {
	as := o.process.AcquireMM()
	if as != nil && as != o.space {
		as.Release()
		return nil
	}
	return as
}

// move calls step for the pieces of n bytes at off, which returns how many of a piece it moved: EIO if the first
// byte isn't there.
func (o *openMem) move(n int, off int64, step func(as *mm.AddressSpace, piece []byte, addr uint64) (int, error)) (int, error) {
	as := o.acquire()
	if as == nil {
		return 0, nil
	}
	defer as.Release()
	buffer := make([]byte, min(n, memoryPiece))
	done := 0
	for done < n {
		piece := buffer[:min(n-done, memoryPiece)]
		k, err := step(as, piece, uint64(off)+uint64(done))
		done += k
		if err != nil && done == 0 {
			return 0, err
		}
		if err != nil || k < len(piece) {
			break
		}
	}
	return done, nil
}

func (o *openMem) Read(c *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	return o.move(dst.Len(), off, func(as *mm.AddressSpace, piece []byte, addr uint64) (int, error) {
		n := readable(as, piece, addr)
		if n == 0 {
			return 0, unix.EIO
		}
		return dst.CopyOut(piece[:n])
	})
}

// readable fills piece as far as there is memory.
func readable(as *mm.AddressSpace, piece []byte, addr uint64) int {
	for done := 0; ; {
		end := min(len(piece), done+int(mm.PageSize-(addr+uint64(done))%mm.PageSize))
		n, err := as.ForcedCopyIn(piece[done:end], addr+uint64(done))
		if done += n; err != nil || done == len(piece) {
			return done
		}
	}
}

func (o *openMem) Write(c *vfs.Context, src *mm.Buffer, off int64) (int, error) {
	return o.move(src.Len(), off, func(as *mm.AddressSpace, piece []byte, addr uint64) (int, error) {
		n, err := src.CopyIn(piece)
		if n == 0 {
			return 0, err
		}
		put, err := as.ForcedCopyOut(addr, piece[:n])
		if put == 0 && err != nil {
			return 0, unix.EIO
		}
		return put, err
	})
}
