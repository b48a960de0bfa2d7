package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// AddHost adds a file of the host at its own path, with the symbolic links that lead there. It becomes
// root's, with the permissions it has. It returns the path without the links.
func (t *Tree) AddHost(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	at := t.Root
	here := "/"
	todo := strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			// Of a link's target. Its directory is walked again from the top.
			todo = append(strings.Split(filepath.Dir(here), "/"), todo...)
			at, here = t.Root, "/"
			continue
		}
		next := filepath.Join(here, part)
		info, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		old := at.Children[part]
		switch mode := info.Mode(); {
		case mode&os.ModeSymlink != 0:
			target, err := os.Readlink(next)
			if err != nil {
				return "", err
			}
			if links++; links > maxSymlinks {
				return "", fmt.Errorf("%s: %w", path, ErrLoop)
			}
			if old == nil {
				n := &Node{Mode: TypeSymlink | 0o777, Target: target, ModTime: info.ModTime()}
				if _, err := t.put(place{at, part, next}, n); err != nil {
					return "", err
				}
			}
			todo = append(strings.Split(target, "/"), todo...)
			if strings.HasPrefix(target, "/") {
				at, here = t.Root, "/"
			}
		case mode.IsDir():
			if old == nil {
				if old, err = t.put(place{at, part, next}, &Node{Mode: TypeDir | 0o755, ModTime: info.ModTime()}); err != nil {
					return "", err
				}
			}
			if !old.IsDir() {
				return "", fmt.Errorf("%s: %w", next, ErrNotDir)
			}
			at, here = old, next
		case mode.IsRegular():
			if len(todo) > 0 && strings.Join(todo, "") != "" {
				return "", fmt.Errorf("%s: %w", next, ErrNotDir)
			}
			if old != nil {
				return next, nil
			}
			if err := t.grow(info.Size()); err != nil {
				return "", err
			}
			n := &Node{Mode: TypeRegular | uint32(mode.Perm()), ModTime: info.ModTime(), content: content{path: next, size: info.Size()}}
			_, err := t.put(place{at, part, next}, n)
			return next, err
		default:
			return "", fmt.Errorf("%s is neither a file nor a directory", next)
		}
	}
	return here, nil
}

// AddDirectory adds what is in a directory of the host as the root's content: owners, permissions, links and
// devices as they are. Sockets are left out; what can't be read is an error.
func (t *Tree) AddDirectory(dir string) error {
	links := map[[2]uint64]*Node{}
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		at, err := t.resolve("/"+filepath.ToSlash(rel), false, false)
		if err != nil {
			return err
		}
		n := &Node{Mode: uint32(info.Mode().Perm()), ModTime: info.ModTime()}
		for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if info.Mode()&mode != 0 {
				n.Mode |= bit
			}
		}
		id, several := n.own(info)
		switch mode := info.Mode(); {
		case mode.IsDir():
			n.Mode |= TypeDir
		case mode&fs.ModeSymlink != 0:
			n.Mode |= TypeSymlink
			if n.Target, err = os.Readlink(name); err != nil {
				return err
			}
		case mode.IsRegular():
			if several && links[id] != nil {
				_, err := t.put(at, links[id])
				return err
			}
			if err := t.grow(info.Size()); err != nil {
				return err
			}
			n.Mode |= TypeRegular
			n.content = content{path: name, size: info.Size()}
			if err := n.readXattrs(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			links[id] = n
		case mode&fs.ModeNamedPipe != 0:
			n.Mode |= TypeFIFO
		case mode&fs.ModeCharDevice != 0:
			n.Mode |= TypeChar
		case mode&fs.ModeDevice != 0:
			n.Mode |= TypeBlock
		default:
			return nil
		}
		_, err = t.put(at, n)
		return err
	})
}

// readXattrs takes over the extended attributes of a file of the host that may be read.
func (n *Node) readXattrs(name string) error {
	list := make([]byte, 64<<10)
	size, err := unix.Llistxattr(name, list)
	if err != nil {
		return nil // its file system has none
	}
	value := make([]byte, 64<<10)
	for attribute := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		size, err := unix.Lgetxattr(name, attribute, value)
		if err != nil {
			continue
		}
		if err := n.setXattr(attribute, string(value[:size])); err != nil {
			return err
		}
	}
	return nil
}

// own takes over the owner and the device's numbers, and returns what tells hard links of one file, and
// whether there are several.
func (n *Node) own(info fs.FileInfo) (id [2]uint64, several bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return id, false
	}
	n.UID, n.GID = s.Uid, s.Gid
	if info.Mode()&fs.ModeDevice != 0 {
		n.Major, n.Minor = unix.Major(uint64(s.Rdev)), unix.Minor(uint64(s.Rdev))
	}
	return [2]uint64{uint64(s.Dev), uint64(s.Ino)}, s.Nlink > 1
}

// minimal are the files that programs look for in any root, unless it has its own.
var minimal = []struct {
	path, content string
}{
	{"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	{"/etc/group", "root:x:0:\nnogroup:x:65534:\n"},
	{"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
}

// AddProgram adds a program of the host and what it needs to start: for an ELF file its interpreter and
// libraries, for a script its interpreter and what that needs. A library that isn't found is an error.
func (t *Tree) AddProgram(path string) (*Program, error) {
	if info, err := os.Stat(path); err == nil {
		t.ModTime = info.ModTime() // rather than now: the same program makes the same archive
	}
	p, err := t.addExecutable(path, 0)
	if err != nil {
		return nil, err
	}
	for _, f := range minimal {
		if err := t.AddBytes(f.path, 0o644, []byte(f.content)); err != nil {
			return nil, err
		}
	}
	return p, t.MakeDir("/root")
}

// AddTerminal adds the host's description of a kind of terminal (terminfo(5)), if there is one to be read: for
// editors, pagers and whatever else draws on the screen.
func (t *Tree) AddTerminal(name string) {
	if name == "" || strings.Contains(name, "/") {
		return
	}
	for _, dir := range []string{"/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"} {
		file := filepath.Join(dir, name[:1], name)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if _, err := t.AddHost(file); err == nil {
			return
		}
	}
}

// addExecutable adds an ELF file or a script. depth is how many scripts led here.
func (t *Tree) addExecutable(path string, depth int) (*Program, error) {
	p, err := Examine(Host(), path)
	if err != nil {
		return nil, err
	}
	if _, err := t.AddHost(path); err != nil {
		return nil, err
	}
	if p.Kind == Script {
		// Linux follows five (fs/exec.c).
		if depth++; depth > 5 {
			return nil, fmt.Errorf("%s: scripts that interpret one another", path)
		}
		needs := []string{p.Interpreter}
		if named := p.EnvProgram(Host()); named != "" {
			needs = append(needs, named)
		}
		for _, needed := range needs {
			if _, err := t.addExecutable(needed, depth); err != nil {
				if errors.Is(err, os.ErrNotExist) {
					return nil, fmt.Errorf("%s is a script for %s, which is not on this machine: install it, or run a root file system that has it", path, needed)
				}
				return nil, err
			}
		}
		return p, nil
	}
	if missing := p.Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("%s needs %s, which %s not on this machine: install what it belongs to, or run a root file system that has it (elver run DIRECTORY %s)",
			path, strings.Join(missing, ", "), isAre(missing), path)
	}
	for _, f := range p.Files() {
		if _, err := t.AddHost(f); err != nil {
			return nil, err
		}
	}
	if p.viaCache {
		// The interpreter finds them there, as here.
		if _, err := t.AddHost("/etc/ld.so.cache"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return p, nil
}

func isAre(list []string) string {
	if len(list) == 1 {
		return "is"
	}
	return "are"
}
