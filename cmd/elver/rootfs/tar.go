package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Names that say what a layer takes away from those below (OCI image specification, layer.md).
const (
	whiteout       = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
)

// paxXattr is what star, GNU tar and docker put before an extended attribute's name in a PAX record.
const paxXattr = "SCHILY.xattr."

// AddTar adds the files of a tar archive. With layered set it is a layer of an image, whose whiteouts
// take away what the layers before it made.
func (t *Tree) AddTar(r io.Reader, layered bool) error {
	t.layer++
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.addRecord(archive, h, layered); err != nil {
			return fmt.Errorf("%.100q: %w", h.Name, err)
		}
	}
}

func (t *Tree) addRecord(r io.Reader, h *tar.Header, layered bool) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	// As in a chroot: ".." in the record's own name ends at the root.
	name := path.Clean("/" + h.Name)
	if base := path.Base(name); layered && strings.HasPrefix(base, whiteout) {
		return t.whiteOut(path.Dir(name), base)
	}
	at, err := t.resolve(name, true, false)
	if err != nil {
		return err
	}
	n, err := nodeOf(h)
	if err != nil {
		return err
	}
	old := at.node()
	switch h.Typeflag {
	case tar.TypeDir:
		if old != nil && old.IsDir() {
			old.Mode, old.UID, old.GID, old.ModTime, old.Xattrs = n.Mode, n.UID, n.GID, n.ModTime, n.Xattrs
			if at.name != "" {
				old.layer = t.layer
			}
			return nil
		}
	case tar.TypeLink:
		// The link's own ".." and symbolic links lead nowhere but into the tree.
		to, err := t.resolve(path.Clean("/"+h.Linkname), false, false)
		if err != nil {
			return fmt.Errorf("a hard link to %.100q: %w", h.Linkname, err)
		}
		n = to.node()
		if n == nil || n.IsDir() {
			return fmt.Errorf("a hard link to %.100q, which is no file", h.Linkname)
		}
		if old == n {
			return nil
		}
	case tar.TypeReg, tar.TypeGNUSparse:
		if n.content, err = t.store(r, h.Size); err != nil {
			return err
		}
	}
	_, err = t.put(at, n)
	return err
}

// nodeOf makes a node of a record's header, without its content.
func nodeOf(h *tar.Header) (*Node, error) {
	const most = 1<<32 - 2
	if h.Uid < 0 || h.Uid > most || h.Gid < 0 || h.Gid > most {
		return nil, fmt.Errorf("the owner %d:%d is out of range", h.Uid, h.Gid)
	}
	n := &Node{Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime.Truncate(time.Second)}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeLink:
		n.Mode |= TypeRegular
	case tar.TypeDir:
		n.Mode |= TypeDir
	case tar.TypeSymlink:
		n.Mode |= TypeSymlink
		n.Target = h.Linkname
		if n.Target == "" || len(n.Target) > pathMax || strings.IndexByte(n.Target, 0) >= 0 {
			return nil, errors.New("a symbolic link whose target is empty or too long")
		}
	case tar.TypeChar, tar.TypeBlock:
		// Numbers as mknod(2) takes them: 12 and 20 bits.
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return nil, fmt.Errorf("the device %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
		n.Mode |= TypeChar
		if h.Typeflag == tar.TypeBlock {
			n.Mode = n.Mode&^TypeMask | TypeBlock
		}
	case tar.TypeFifo:
		n.Mode |= TypeFIFO
	default:
		return nil, fmt.Errorf("a record of the type %q, which is no file", h.Typeflag)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			if err := n.setXattr(name, value); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// whiteOut takes away what layers before this one made in dir.
func (t *Tree) whiteOut(dir, base string) error {
	at, err := t.resolve(dir, false, true)
	if err != nil {
		if errors.Is(err, ErrNotThere) || errors.Is(err, ErrNotDir) {
			return nil
		}
		return err
	}
	n := at.node()
	if n == nil || !n.IsDir() {
		return nil
	}
	if base == opaqueWhiteout {
		t.prune(n)
		return nil
	}
	name := strings.TrimPrefix(base, whiteout)
	if child := n.Children[name]; child != nil && t.old(child) {
		delete(n.Children, name)
	}
	return nil
}

// prune empties a directory of what layers before this one made.
func (t *Tree) prune(dir *Node) {
	for name, child := range dir.Children {
		if t.old(child) {
			delete(dir.Children, name)
		}
	}
}

// old says whether nothing in n is of this layer, after n was emptied of the rest.
func (t *Tree) old(n *Node) bool {
	if n.IsDir() {
		t.prune(n)
	}
	return n.layer != t.layer && len(n.Children) == 0
}
