// Package rootfs makes root file systems for the machine on the host: trees of files in memory, filled
// from image archives, tar files, programs of the host with their libraries, and written as a cpio
// archive that the kernel unpacks.
//
// A name of an archive is resolved in the tree alone, as in a chroot: symbolic links lead to places in
// the tree, and ".." ends at its root. Nothing is ever unpacked into the host's folders, so nothing that an
// archive says can reach them. Sizes are bounded by Limits.
//
// A Tree is for one goroutine.
package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// File types and bits of a mode as Linux numbers them (inode(7)), whatever the host is.
const (
	TypeMask    = 0o170000
	TypeSocket  = 0o140000
	TypeSymlink = 0o120000
	TypeRegular = 0o100000
	TypeBlock   = 0o060000
	TypeDir     = 0o040000
	TypeChar    = 0o020000
	TypeFIFO    = 0o010000
)

const (
	nameMax     = 255
	pathMax     = 4095
	maxSymlinks = 40       // path_resolution(7)
	maxXattrs   = 32 << 10 // of one file, names and values; Linux's file systems have room for 4 to 64 KiB
)

// Limits bound what a hostile or damaged archive can make the host keep.
type Limits struct {
	Bytes int64 // of the content of all files
	Files int
}

// DefaultLimits are those of what fits as an initrd below 4 GiB.
var DefaultLimits = Limits{Bytes: 3 << 30, Files: 1 << 20}

// SharedLimits are those of what is to be shared from a directory for temporary files: a tree is in it twice.
func SharedLimits() Limits {
	l := DefaultLimits
	var s unix.Statfs_t
	if unix.Statfs(os.TempDir(), &s) == nil {
		half := int64(min(uint64(s.Bavail), 1<<40) * uint64(s.Bsize) / 2)
		l = Limits{Bytes: max(l.Bytes, min(half, 64<<30)), Files: 4 << 20}
	}
	return l
}

// Node is a file of any type. Hard links are one node under several names.
type Node struct {
	Mode         uint32 // type and permissions
	UID, GID     uint32
	Major, Minor uint32 // of a device
	ModTime      time.Time
	Target       string            // of a symbolic link
	Xattrs       map[string]string // extended attributes; nil if there are none
	Children     map[string]*Node  // of a directory
	content      content
	layer        int // that of an image which made it
}

// Type returns the type's bits of the mode.
func (n *Node) Type() uint32 { return n.Mode & TypeMask }

// setXattr gives n an extended attribute, if it is one that the kernel keeps.
func (n *Node) setXattr(name, value string) error {
	if name != "security.capability" && !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "trusted.") || strings.IndexByte(name, 0) >= 0 {
		return nil
	}
	total := len(name) + len(value)
	for other, v := range n.Xattrs {
		total += len(other) + len(v)
	}
	if len(name) > nameMax || total > maxXattrs {
		return fmt.Errorf("its extended attributes are larger than %d KiB", maxXattrs>>10)
	}
	if n.Xattrs == nil {
		n.Xattrs = map[string]string{}
	}
	n.Xattrs[name] = value
	return nil
}

// IsDir says whether n is a directory.
func (n *Node) IsDir() bool { return n.Type() == TypeDir }

// Size returns the length of a regular file's content in bytes.
func (n *Node) Size() int64 { return n.content.size }

// Open opens a regular file's content.
func (n *Node) Open() (io.ReadCloser, error) { return n.content.open() }

// content is where a regular file's bytes are: in a file of the host, in the tree's spool, or here.
type content struct {
	path  string
	spool *os.File
	at    int64
	bytes []byte
	size  int64
}

func (c *content) open() (io.ReadCloser, error) {
	switch {
	case c.path != "":
		return os.Open(c.path)
	case c.spool != nil:
		return io.NopCloser(io.NewSectionReader(c.spool, c.at, c.size)), nil
	}
	return io.NopCloser(strings.NewReader(string(c.bytes))), nil
}

// Tree is a root file system.
type Tree struct {
	Root *Node
	// ModTime is that of files which have none of their own.
	ModTime time.Time
	limits  Limits
	bytes   int64
	files   int
	layer   int
	spool   *os.File // content of archives; nil until there is some
	spooled int64
}

// New returns an empty tree.
func New(l Limits) *Tree {
	return &Tree{limits: l, Root: &Node{Mode: TypeDir | 0o755, Children: map[string]*Node{}}}
}

// Close drops the files' content.
func (t *Tree) Close() error {
	if t.spool == nil {
		return nil
	}
	spool := t.spool
	t.spool = nil
	return errors.Join(spool.Close(), removeIfThere(spool.Name()))
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Bytes returns how long the content of all files is.
func (t *Tree) Bytes() int64 { return t.bytes }

// InMemory says whether the tree can be written as an initrd, and if not, why.
func (t *Tree) InMemory() error {
	switch {
	case t.bytes > DefaultLimits.Bytes:
		return fmt.Errorf("its files are larger than %d MiB, which is the most that is taken into memory", DefaultLimits.Bytes>>20)
	case t.files > DefaultLimits.Files:
		return fmt.Errorf("it holds more than %d files, which is the most that is taken into memory", DefaultLimits.Files)
	}
	return nil
}

// Errors of lookups.
var (
	ErrNotThere = errors.New("there is no such file")
	ErrNotDir   = errors.New("a part of the path is no directory")
	ErrLoop     = errors.New("too many symbolic links")
)

// place is a name in a directory of the tree, whether or not something has that name.
type place struct {
	dir  *Node
	name string // empty for the root itself
	path string // absolute, without symbolic links
}

func (p place) node() *Node {
	if p.name == "" {
		return p.dir
	}
	return p.dir.Children[p.name]
}

// resolve finds the place of name. Missing directories on the way are made if create is set. follow says
// whether a symbolic link at the end is followed.
func (t *Tree) resolve(name string, create, follow bool) (place, error) {
	type step struct {
		dir  *Node
		path string
	}
	stack := []step{{t.Root, "/"}}
	todo := strings.Split(name, "/")
	links := 0
	for i := 0; i < len(todo); i++ {
		part := todo[i]
		last := true
		for _, rest := range todo[i+1:] {
			last = last && (rest == "" || rest == ".")
		}
		here := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
			continue
		}
		if len(part) > nameMax || strings.IndexByte(part, 0) >= 0 {
			return place{}, fmt.Errorf("a name in %.80q is longer than %d bytes or holds a NUL", name, nameMax)
		}
		at := place{here.dir, part, path.Join(here.path, part)}
		n := at.node()
		if n != nil && n.Type() == TypeSymlink && (!last || follow) {
			if links++; links > maxSymlinks {
				return place{}, fmt.Errorf("%.80s: %w", name, ErrLoop)
			}
			if strings.HasPrefix(n.Target, "/") {
				stack = stack[:1]
			}
			todo = append(strings.Split(n.Target, "/"), todo[i+1:]...)
			i = -1
			continue
		}
		if last {
			return at, nil
		}
		if n == nil {
			if !create {
				return place{}, fmt.Errorf("%.80s: %w", name, ErrNotThere)
			}
			var err error
			if n, err = t.put(at, &Node{Mode: TypeDir | 0o755}); err != nil {
				return place{}, err
			}
		}
		if !n.IsDir() {
			return place{}, fmt.Errorf("%.80s: %w", name, ErrNotDir)
		}
		stack = append(stack, step{n, at.path})
	}
	here := stack[len(stack)-1]
	if here.path == "/" {
		return place{dir: t.Root, path: "/"}, nil
	}
	// The path ended in "..": name the directory by its parent.
	parent := stack[len(stack)-2]
	return place{parent.dir, path.Base(here.path), here.path}, nil
}

// put puts n at a place, in the stead of what is there.
func (t *Tree) put(at place, n *Node) (*Node, error) {
	if at.name == "" {
		return nil, errors.New("the root directory cannot be another file")
	}
	if len(at.path) > pathMax {
		return nil, fmt.Errorf("the path %.80s… is longer than %d bytes", at.path, pathMax)
	}
	if t.files++; t.files > t.limits.Files {
		return nil, fmt.Errorf("it holds more than %d files", t.limits.Files)
	}
	if n.IsDir() && n.Children == nil {
		n.Children = map[string]*Node{}
	}
	if n.ModTime.IsZero() {
		n.ModTime = t.ModTime
	}
	n.layer = t.layer
	at.dir.Children[at.name] = n
	return n, nil
}

// Lookup returns the file at path, symbolic links followed.
func (t *Tree) Lookup(path string) (*Node, error) {
	at, err := t.resolve(path, false, true)
	if err != nil {
		return nil, err
	}
	if n := at.node(); n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%s: %w", path, ErrNotThere)
}

// ReadFile returns the content of a regular file of at most most bytes.
func (t *Tree) ReadFile(path string, most int64) ([]byte, error) {
	n, err := t.Lookup(path)
	if err != nil {
		return nil, err
	}
	if n.Type() != TypeRegular {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	if n.Size() > most {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	r, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, most))
}

// MakeDir makes the directory path and those above that are missing.
func (t *Tree) MakeDir(path string) error {
	at, err := t.resolve(path, true, true)
	if err != nil {
		return err
	}
	switch n := at.node(); {
	case n == nil:
		_, err = t.put(at, &Node{Mode: TypeDir | 0o755})
	case !n.IsDir():
		err = fmt.Errorf("%s: %w", path, ErrNotDir)
	}
	return err
}

// AddBytes makes a regular file of root's with this content, unless there is something already.
func (t *Tree) AddBytes(path string, mode uint32, b []byte) error {
	at, err := t.resolve(path, true, true)
	if err != nil || at.node() != nil {
		return err
	}
	if err := t.grow(int64(len(b))); err != nil {
		return err
	}
	_, err = t.put(at, &Node{Mode: TypeRegular | mode&0o7777, content: content{bytes: b, size: int64(len(b))}})
	return err
}

// grow counts n more bytes of content.
func (t *Tree) grow(n int64) error {
	if n < 0 || n > t.limits.Bytes-t.bytes {
		return fmt.Errorf("its files are larger than %d MiB, for which there is no room: unpack it into a directory, and run that", t.limits.Bytes>>20)
	}
	t.bytes += n
	return nil
}

// store copies size bytes of r into the spool.
func (t *Tree) store(r io.Reader, size int64) (content, error) {
	if err := t.grow(size); err != nil {
		return content{}, err
	}
	if t.spool == nil {
		f, err := os.CreateTemp("", "elver-root-*")
		if err != nil {
			return content{}, err
		}
		// Where the system allows it the file has no name from here on, and goes with the process.
		os.Remove(f.Name())
		t.spool = f
	}
	c := content{spool: t.spool, at: t.spooled, size: size}
	n, err := io.CopyN(io.NewOffsetWriter(t.spool, t.spooled), r, size)
	t.spooled += n
	return c, err
}
