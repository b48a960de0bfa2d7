package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// FS returns the tree as files to look for programs in.
func (t *Tree) FS() FS { return treeFS{t} }

type treeFS struct{ t *Tree }

// treeFile is an open file of a tree.
type treeFile struct {
	io.ReaderAt
	io.Closer
	size int64
}

// Size returns the file's length in bytes.
func (f treeFile) Size() int64 { return f.size }

// Open opens a regular file.
func (f treeFS) Open(name string) (File, error) {
	n, err := f.t.Lookup(name)
	if err != nil {
		return nil, err
	}
	if n.Type() != TypeRegular {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	switch c := &n.content; {
	case c.path != "":
		return Host().Open(c.path)
	case c.spool != nil:
		return treeFile{io.NewSectionReader(c.spool, c.at, c.size), io.NopCloser(nil), c.size}, nil
	default:
		return treeFile{bytes.NewReader(c.bytes), io.NopCloser(nil), c.size}, nil
	}
}

// Real resolves symbolic links.
func (f treeFS) Real(name string) (string, error) {
	at, err := f.t.resolve(name, false, true)
	if err != nil {
		return "", err
	}
	if at.node() == nil {
		return "", fmt.Errorf("%s: %w", name, ErrNotThere)
	}
	return at.path, nil
}

// Names lists a directory.
func (f treeFS) Names(dir string) []string {
	n, err := f.t.Lookup(dir)
	if err != nil {
		return nil
	}
	var names []string
	for name := range n.Children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Directory returns the files of a directory of the host that is a root: absolute symbolic links begin in it,
// and none leads out.
func Directory(dir *os.Root) FS { return directoryFS{dir} }

type directoryFS struct{ root *os.Root }

// Real resolves symbolic links, as in a chroot.
func (f directoryFS) Real(name string) (string, error) {
	here := "/"
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		next := path.Join(here, part)
		if next == "/" {
			here = next
			continue
		}
		info, err := f.root.Lstat(next[1:])
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			here = next
			continue
		}
		if links++; links > maxSymlinks {
			return "", fmt.Errorf("%s: %w", name, ErrLoop)
		}
		target, err := f.root.Readlink(next[1:])
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			here = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return here, nil
}

// Open opens a regular file.
func (f directoryFS) Open(name string) (File, error) {
	real, err := f.Real(name)
	if err != nil {
		return nil, err
	}
	if real == "/" {
		return nil, errors.New("/ is no regular file")
	}
	info, err := f.root.Lstat(real[1:])
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	file, err := f.root.Open(real[1:])
	if err != nil {
		return nil, err
	}
	return hostFile{file, info.Size()}, nil
}

// Names lists a directory.
func (f directoryFS) Names(dir string) []string {
	real, err := f.Real(dir)
	if err != nil {
		return nil
	}
	d, err := f.root.Open(path.Join(".", real))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	slices.Sort(names)
	return names
}
