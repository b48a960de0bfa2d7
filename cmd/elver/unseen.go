package main

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// unseen returns what to do about an argument that names a file of this host which the program, one of the
// host's that failed, cannot have seen; empty if there is none.
func (s *subject) unseen(o *runOptions, args []string) string {
	if s.kind != kindProgram {
		return ""
	}
	for _, arg := range args {
		if arg == "" || arg[0] == '-' {
			continue
		}
		info, err := os.Stat(arg)
		inside := path.Join("/", o.workDir, arg)
		if path.IsAbs(arg) {
			inside = path.Clean(arg)
		}
		if err != nil || s.sees(o, inside) {
			continue
		}
		how := "by -v .:/host -w /host"
		if dir := path.Clean(arg); path.IsAbs(dir) {
			if !info.IsDir() {
				dir = path.Dir(dir)
			}
			how = fmt.Sprintf("by -v %s:%s", dir, dir)
		} else if strings.HasPrefix(dir, "..") {
			how = "by -v"
		}
		return fmt.Sprintf("%s is on this host, where the program doesn't see it: share its directory %s, or the whole host (elver run --read-only / %s), but for its /tmp", arg, how, s.name)
	}
	return ""
}

// sees says whether a path leads somewhere inside of the machine.
func (s *subject) sees(o *runOptions, inside string) bool {
	if inside == "/tmp" {
		return true
	}
	roots := []string{"/dev", "/proc", "/sys"} // always there
	for _, v := range o.volumes {
		roots = append(roots, v.Guest)
	}
	for _, root := range roots {
		if inside == root || strings.HasPrefix(inside, root+"/") {
			return true
		}
	}
	if s.tree == nil { // a static program: it is all there is
		return inside == "/" || inside == "/"+path.Base(s.path)
	}
	_, err := s.tree.Lookup(inside)
	return err == nil
}
