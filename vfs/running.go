package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A file that runs as a program can't be opened for writing or truncated, and one that is open for writing can't be run:
// ETXTBSY (execve(2), open(2), truncate(2)). That is for what execve loads, not for what mmap maps: a shared library may
// be written to.

// writers counts who writes to a file, or, below zero, the address spaces whose program it is.
type writers struct{ n atomic.Int32 }

// enter adds a writer: ETXTBSY if the file runs.
func (w *writers) enter() error {
	for {
		n := w.n.Load()
		if n < 0 {
			return unix.ETXTBSY
		}
		if w.n.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (w *writers) leave() { w.n.Add(-1) }

// run adds one that runs the file: ETXTBSY if there are writers.
func (w *writers) run() error {
	for {
		n := w.n.Load()
		if n > 0 {
			return unix.ETXTBSY
		}
		if w.n.CompareAndSwap(n, n-1) {
			return nil
		}
	}
}

func (w *writers) end() { w.n.Add(1) }

// programInode is an inode that may be a program's.
type programInode interface{ writersOf() *writers }

func (b *BaseInode) writersOf() *writers { return &b.writers }

// writersOf returns the count of i, a regular file; nil if it has none.
func writersOf(i Inode) *writers {
	if p, ok := i.(programInode); ok {
		return p.writersOf()
	}
	return nil
}

// Running keeps a file from being written to, and open, as long as a program runs from it (mm.Program).
type Running struct{ d *Description }

// Run says that the file runs as a program until Release: ETXTBSY if it is open for writing.
func (d *Description) Run() (Running, error) {
	if w := writersOf(d.inode); w != nil {
		if err := w.run(); err != nil {
			return Running{}, err
		}
	}
	d.Incref()
	return Running{d}, nil
}

// Acquire has the file run once more.
//
// Precondition: it runs.
func (r Running) Acquire() {
	if w := writersOf(r.d.inode); w != nil {
		w.n.Add(-1)
	}
	r.d.Incref()
}

// Release undoes Run and Acquire.
func (r Running) Release() {
	if w := writersOf(r.d.inode); w != nil {
		w.end()
	}
	r.d.Decref()
}
