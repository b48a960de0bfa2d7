package elf

import (
	"bytes"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	scriptLine = 256 // of a script's first line Linux sees this much
	maxNesting = 5   // interpreters that are scripts themselves
)

// interpreterLine is what a script's first line says.
type interpreterLine struct {
	path     string
	argument string
	optional bool // there is an argument
}

// parseScript reads the first line of a script, which start begins with, by the rules of
// fs/binfmt_script.c: it ends with a newline, or where the 256 bytes do, in which case the interpreter
// must be followed by something, lest its name be cut; what follows the interpreter is one argument
// without the blanks around it. ok is false for anything else.
func parseScript(start []byte) (line interpreterLine, ok bool) {
	var buffer [scriptLine]byte
	copy(buffer[:], start)
	if buffer[0] != '#' || buffer[1] != '!' {
		return line, false
	}
	text := buffer[2:]
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		text = text[:end]
	} else {
		text = text[:len(text)-1]
		name := bytes.TrimLeft(text, " \t")
		if len(name) == 0 || !bytes.ContainsAny(name, " \t\x00") && buffer[scriptLine-1] != 0 && !isBlank(buffer[scriptLine-1]) {
			return line, false
		}
	}
	text = bytes.Trim(text, " \t")
	if len(text) == 0 {
		return line, false
	}
	end := bytes.IndexAny(text, " \t\x00")
	if end < 0 {
		return interpreterLine{path: string(text)}, true
	}
	line.path = string(text[:end])
	if text[end] != 0 {
		argument := bytes.TrimLeft(text[end:], " \t")
		if i := bytes.IndexByte(argument, 0); i >= 0 {
			argument = argument[:i]
		}
		line.argument, line.optional = string(argument), true
	}
	return line, true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// resolved is what is executed in the end.
type resolved struct {
	file   File
	opened bool // file is not p.File: it has to be released
	path   string
	args   []string
}

func (r *resolved) release() {
	if r.opened {
		r.file.Release()
	}
}

// resolve follows scripts to a file that isn't one.
func (p *Params) resolve() (r resolved, err error) {
	r = resolved{file: p.File, path: p.Path, args: p.Args}
	if len(r.args) == 0 {
		r.args = []string{""} // as Linux does since 5.18
	}
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	for depth := 0; ; depth++ {
		var start [scriptLine]byte
		n, err := r.file.ReadAt(start[:min(scriptLine, max(r.file.Size(), 0))], 0)
		if err != nil && err != io.EOF {
			return r, failed(err, "%s: cannot be read", r.path)
		}
		if n < 2 || start[0] != '#' || start[1] != '!' {
			return r, nil
		}
		line, ok := parseScript(start[:n])
		switch {
		case !ok:
			return r, refuse(unix.ENOEXEC, "%s: is a script whose first line names no interpreter within %d bytes", r.path, scriptLine)
		case depth == maxNesting:
			return r, refuse(unix.ELOOP, "%s: is a script whose interpreter is a script, and so on more than %d times", p.Path, maxNesting)
		}
		args := make([]string, 0, len(r.args)+2)
		args = append(args, line.path)
		if line.optional {
			args = append(args, line.argument)
		}
		args = append(args, r.path)
		r.args = append(args, r.args[1:]...)
		file, err := p.Open(line.path)
		if err != nil {
			return r, noInterpreter(err, r.path, "is a script for", line.path)
		}
		r.release()
		r.file, r.opened, r.path = file, true, line.path
	}
}

// noInterpreter makes the Error of a file whose interpreter cannot be opened.
func noInterpreter(err error, name, relation, path string) error {
	errno := errnoOf(err)
	switch {
	case errno == unix.ENOENT && strings.HasSuffix(path, "\r"):
		return refuse(errno, "%s: %s %q, a name that ends with a carriage return: save the file with Unix line ends", name, relation, path)
	case errno == unix.ENOENT:
		return refuse(errno, "%s: %s %s, which is not in the root filesystem: pass -e ROOTFS or an initrd that holds it", name, relation, path)
	case errno == unix.EACCES:
		return refuse(errno, "%s: %s %s, which may not be executed", name, relation, path)
	}
	return refuse(errno, "%s: %s %s, which cannot be opened: %v", name, relation, path, err)
}
