package rootfs

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const (
	cpioMagic   = "070701" // newc (cpio(5))
	cpioHeader  = 110
	cpioTrailer = "TRAILER!!!"
	// Behind a file's record one of this name holds its extended attributes: see the kernel's vfs/cpio.
	cpioMetadata = "METADATA!!!"
	pageSize     = 4096
)

// WriteCPIO writes the tree as a cpio archive of the newc format. The content of files that have a page or
// more begins on page boundaries, by NULs behind their names: the kernel uses it where it lies.
func (t *Tree) WriteCPIO(w io.Writer) error {
	c := &cpioWriter{w: bufio.NewWriterSize(w, 1<<18), inodes: map[*Node]uint32{}, links: map[*Node]uint32{}}
	countLinks(t.Root, c.links)
	c.record("", t.Root)
	c.directory("", t.Root)
	c.header(cpioTrailer, len(cpioTrailer)+1, 0, &Node{}, 1, 0)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}

type cpioWriter struct {
	w      *bufio.Writer
	at     int64
	err    error
	inodes map[*Node]uint32
	links  map[*Node]uint32
}

func countLinks(n *Node, links map[*Node]uint32) {
	for _, child := range n.Children {
		links[child]++
		if child.IsDir() {
			countLinks(child, links)
		}
	}
}

func (c *cpioWriter) directory(path string, dir *Node) {
	for _, name := range slices.Sorted(maps.Keys(dir.Children)) {
		child := dir.Children[name]
		if c.err != nil {
			return
		}
		c.record(path+name, child)
		if child.IsDir() {
			c.directory(path+name+"/", child)
		}
	}
}

// record writes one name of a file; with the first one comes the content.
func (c *cpioWriter) record(name string, n *Node) {
	if name == "" {
		name = "."
	}
	_, again := c.inodes[n]
	if !again {
		c.inodes[n] = uint32(len(c.inodes) + 1)
	}
	nameSize := len(name) + 1
	switch {
	case n.Type() == TypeSymlink:
		c.header(name, nameSize, int64(len(n.Target)), n, 1, c.inodes[n])
		c.write([]byte(n.Target))
		c.pad(4)
	case n.Type() != TypeRegular || again:
		c.header(name, nameSize, 0, n, max(c.links[n], 1), c.inodes[n])
	default:
		if n.Size() >= pageSize {
			begin := c.at + int64(cpioHeader+nameSize)
			if padded := nameSize + int(-begin&(pageSize-1)); padded <= pageSize {
				nameSize = padded
			}
		}
		c.header(name, nameSize, n.Size(), n, max(c.links[n], 1), c.inodes[n])
		c.content(name, n)
		c.pad(4)
	}
	if !again && len(n.Xattrs) > 0 {
		c.metadata(n)
	}
}

// metadata writes a file's extended attributes.
func (c *cpioWriter) metadata(n *Node) {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
		item := "\x01\x01" + name + "\x00" + n.Xattrs[name] // the version and the type
		b = fmt.Appendf(b, "%08X%s", 8+len(item), item)
	}
	c.header(cpioMetadata, len(cpioMetadata)+1, int64(len(b)), &Node{Mode: TypeRegular}, 1, 0)
	c.write(b)
	c.pad(4)
}

func (c *cpioWriter) header(name string, nameSize int, size int64, n *Node, links, inode uint32) {
	mtime := n.ModTime.Unix()
	if n.ModTime.IsZero() || mtime < 0 || mtime > 0xffffffff {
		mtime = 0
	}
	c.write(fmt.Appendf(nil, "%s%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		cpioMagic, inode, n.Mode, n.UID, n.GID, links, mtime, size, 0, 0, n.Major, n.Minor, nameSize, 0))
	c.write([]byte(name))
	c.write(make([]byte, nameSize-len(name)))
	c.pad(4)
}

func (c *cpioWriter) content(name string, n *Node) {
	if c.err != nil {
		return
	}
	r, err := n.Open()
	if err != nil {
		c.err = err
		return
	}
	defer r.Close()
	written, err := io.CopyN(c.w, r, n.Size())
	c.at += written
	if err == io.EOF {
		err = fmt.Errorf("/%s became shorter while it was read", strings.TrimPrefix(name, "/"))
	}
	c.err = err
}

func (c *cpioWriter) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
		c.at += int64(len(b))
	}
}

func (c *cpioWriter) pad(to int64) { c.write(make([]byte, -c.at&(to-1))) }
