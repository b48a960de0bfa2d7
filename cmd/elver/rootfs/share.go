package rootfs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// QEMU's security model "mapped-file" (its manual, "-fsdev local") lets whoever runs it share files of any
// owner and type: on the host all are regular files and directories of that user, and what they are in the
// machine stands in a file of the same name in the directory's .virtfs_metadata.
const (
	metadataDir  = ".virtfs_metadata"
	metadataRoot = ".virtfs_metadata_root" // of the shared directory itself
)

// Share writes the tree into a directory that is empty, for QEMU to share by its security model mapped-file.
// No symbolic link and no device is made on the host. File capabilities aren't kept there.
func (t *Tree) Share(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	s := &sharer{root: root, files: map[*Node]string{}}
	if err := root.WriteFile(metadataRoot, metadata(t.Root), 0o600); err != nil {
		return err
	}
	return s.directory(".", t.Root)
}

// Capable returns how many files have capabilities, which Share doesn't keep.
func (t *Tree) Capable() int {
	seen := map[*Node]bool{}
	var count func(n *Node)
	count = func(n *Node) {
		if n.Xattrs["security.capability"] != "" {
			seen[n] = true
		}
		for _, child := range n.Children {
			count(child)
		}
	}
	count(t.Root)
	return len(seen)
}

type sharer struct {
	root  *os.Root
	files map[*Node]string // where regular files are, for their further names
}

func (s *sharer) directory(at string, dir *Node) error {
	if len(dir.Children) == 0 {
		return nil
	}
	if err := s.root.Mkdir(path.Join(at, metadataDir), 0o700); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(dir.Children)) {
		if strings.HasPrefix(name, metadataDir) {
			return fmt.Errorf("/%s: QEMU keeps its own records by that name: the file can't be shared", path.Join(at, name))
		}
		if err := s.file(at, name, dir.Children[name]); err != nil {
			return err
		}
	}
	return nil
}

func (s *sharer) file(dir, name string, n *Node) error {
	at, about := path.Join(dir, name), path.Join(dir, metadataDir, name)
	if first, ok := s.files[n]; ok {
		firstDir, firstName := path.Split(first)
		return errors.Join(s.root.Link(first, at), s.root.Link(path.Join(firstDir, metadataDir, firstName), about))
	}
	var err error
	switch n.Type() {
	case TypeDir:
		if err = s.root.Mkdir(at, 0o700); err == nil {
			err = s.directory(at, n)
		}
	case TypeSymlink:
		err = s.root.WriteFile(at, []byte(n.Target), 0o600)
	case TypeRegular:
		s.files[n] = at
		err = s.content(at, n)
	default:
		err = s.root.WriteFile(at, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := s.root.WriteFile(about, metadata(n), 0o600); err != nil {
		return err
	}
	if n.ModTime.IsZero() {
		return nil
	}
	return s.root.Chtimes(at, n.ModTime, n.ModTime)
}

func (s *sharer) content(at string, n *Node) error {
	r, err := n.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := s.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	for name, value := range n.Xattrs {
		if strings.HasPrefix(name, "user.") {
			unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0) // where the host's file system has them
		}
	}
	return errors.Join(err, f.Close())
}

// metadata returns what QEMU is to say of a file. It reads the numbers as C's int.
func metadata(n *Node) []byte {
	mode := n.Mode
	if n.Type() == TypeSymlink {
		mode |= 0o777 // symlink(7)
	}
	b := fmt.Appendf(nil, "virtfs.uid=%d\nvirtfs.gid=%d\nvirtfs.mode=%d\n", int32(n.UID), int32(n.GID), mode)
	if typ := n.Type(); typ == TypeChar || typ == TypeBlock {
		b = fmt.Appendf(b, "virtfs.rdev=%d\n", int32(unix.Mkdev(n.Major, n.Minor)))
	}
	return b
}
