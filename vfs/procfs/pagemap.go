package procfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// pageMapFile is /proc/PID/pagemap: eight bytes for each page of the address space (Linux:
// Documentation/admin-guide/mm/pagemap.rst).
type pageMapFile struct {
	vfs.BaseInode
	process *kernel.Process
}

// Bits of an entry, above the frame's number.
const (
	pageMapExclusive = 1 << 56
	pageMapFileOrShm = 1 << 61
	pageMapPresent   = 1 << 63
)

func pageMap(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	m := &pageMapFile{process: p}
	m.Init(f, ino, unix.S_IFREG|0o400, 0, 0, 0)
	return m
}

// Open opens it. Frame numbers are for the privileged only.
func (m *pageMapFile) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	if c.Thread == nil || !c.Thread.MayAttach(m.process) {
		return nil, unix.EACCES
	}
	return &openPageMap{process: m.process, numbers: c.Creds.HasCap(unix.CAP_SYS_ADMIN)}, nil
}

type openPageMap struct {
	vfs.BaseFile
	process *kernel.Process
	numbers bool
}

func (*openPageMap) Seekable() bool { return true }

// Seek finds no end, and no holes.
func (*openPageMap) Seek(int64, int) (int64, error) { return 0, unix.EINVAL }

// Read reads entries, whole ones: EINVAL.
func (o *openPageMap) Read(c *vfs.Context, dst *mm.Buffer, off int64) (int, error) {
	const entryBytes = 8
	if off%entryBytes != 0 || dst.Len()%entryBytes != 0 {
		return 0, unix.EINVAL
	}
	as := o.process.AcquireMM()
	if as == nil {
		return 0, nil
	}
	defer as.Release()
	var pages [64]mm.PageState
	var b [len(pages) * entryBytes]byte
	total := 0
	for page := uint64(off) / entryBytes; dst.Len() > 0 && page < mm.UserEnd/mm.PageSize; {
		n := min(len(pages), dst.Len()/entryBytes, int(min(mm.UserEnd/mm.PageSize-page, 1<<20)))
		as.PageStates(page*mm.PageSize, pages[:n])
		for k, s := range pages[:n] {
			e := uint64(0)
			if s.Present {
				e = pageMapPresent
				if o.numbers {
					e |= s.Frame / mm.PageSize
				}
				if !s.Anonymous {
					e |= pageMapFileOrShm
				}
				if s.Alone {
					e |= pageMapExclusive
				}
			}
			binary.LittleEndian.PutUint64(b[k*entryBytes:], e)
		}
		k, err := dst.CopyOut(b[:n*entryBytes])
		total += k
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, err
		}
		page += uint64(n)
	}
	return total, nil
}
