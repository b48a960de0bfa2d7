package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
		for _, needed := range append([]string{p.Interpreter}, p.envProgram()...) {
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
