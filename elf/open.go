package elf

import (
	"io"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
)

// opened is an open file of the tree as a program.
type opened struct {
	mappable mm.Mappable
	c        *vfs.Context
	d        *vfs.Description
	running  vfs.Running
}

// Open opens the file at path, from the working directory, for execution: a regular file that c may
// execute, else EACCES, which nobody writes to, else ETXTBSY. Until the release nobody can.
func Open(c *vfs.Context, path string) (File, error) { return OpenAt(c, unix.AT_FDCWD, path, 0) }

// OpenAt is Open from the directory dirfd; flags may hold O_NOFOLLOW and, for a path that is empty,
// AT_EMPTY_PATH.
func OpenAt(c *vfs.Context, dirfd int32, path string, flags int) (File, error) {
	if err := c.Access(dirfd, path, unix.X_OK, flags|unix.AT_EACCESS); err != nil {
		return nil, err
	}
	open := uint32(unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY)
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		open |= unix.O_NOFOLLOW
	}
	// A program needn't be readable by who may execute it.
	reader := *c
	reader.Creds = kernel.RootCredentials()
	var d *vfs.Description
	var err error
	if path == "" && flags&unix.AT_EMPTY_PATH != 0 && dirfd != vfs.AtCWD {
		d, err = reader.Reopen(dirfd, open&^unix.O_NOFOLLOW) // fexecve(3)
	} else {
		d, err = reader.OpenFile(dirfd, path, open, 0)
	}
	if err != nil {
		return nil, err
	}
	var a vfs.Attr
	if err := d.Stat(&a); err != nil {
		d.Decref()
		return nil, err
	}
	if a.Mode&unix.S_IFMT != unix.S_IFREG {
		d.Decref()
		return nil, unix.EACCES
	}
	m, err := d.Mappable(c)
	if err != nil {
		d.Decref()
		return nil, unix.EACCES
	}
	running, err := d.Run()
	if err != nil {
		d.Decref()
		return nil, err
	}
	return &opened{m, c, d, running}, nil
}

// Description returns the open file that f, from Open, stands on, for /proc/PID/exe.
func Description(f File) *vfs.Description { return f.(*opened).d }

func (o *opened) Mappable() mm.Mappable { return o.mappable }

func (o *opened) Size() int64 {
	var a vfs.Attr
	if o.d.Stat(&a) != nil {
		return 0
	}
	return a.Size
}

// Running returns what keeps f, from Open, from being written to.
func Running(f File) vfs.Running { return f.(*opened).running }

func (o *opened) Release() {
	o.running.Release()
	o.d.Decref()
}

// ReadAt implements io.ReaderAt.
func (o *opened) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		b := mm.KernelBuffer(p[done:])
		n, err := o.d.Pread(o.c, &b, off+int64(done))
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}
