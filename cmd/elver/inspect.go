package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"elver/cmd/elver/rootfs"
	"elver/cmd/elver/scan"
	"elver/syscall/calls"
)

const inspectDetail = `THING is what elver run takes; of a directory or an image, PROGRAM is a path in it, or a name that its
PATH has (default: what the image runs).

The system calls are those that the code can make as far as it can be read: that of the program, and that
of its libraries which it reaches. What it loads or makes while it runs isn't seen; and that a call can be
made doesn't say that it ever is.

The exit status is 0 if the program should run, 1 if it can't: because it is for another system, or lacks
its interpreter or libraries. With --strict a system call that Elver lacks counts as well.
`

// inspectOptions are those of elver inspect.
type inspectOptions struct {
	json, strict bool
}

func (o *inspectOptions) table() []option {
	return []option{
		{long: "json", help: "for programs to read", set: func(string) error { o.json = true; return nil }},
		{long: "strict", help: "status 1 also if it can make system calls that Elver lacks", set: func(string) error { o.strict = true; return nil }},
	}
}

// report is what inspect finds out.
type report struct {
	Path        string          `json:"path"`
	In          string          `json:"in,omitempty"` // the directory or image
	Image       *imageReport    `json:"image,omitempty"`
	Kind        string          `json:"kind"`
	PIE         bool            `json:"pie"`
	Go          bool            `json:"go"`
	Interpreter string          `json:"interpreter,omitempty"`
	Script      string          `json:"script,omitempty"` // the script that led to the program
	Libraries   []libraryReport `json:"libraries"`
	Missing     []string        `json:"missing"`
	Calls       []string        `json:"systemCalls"`
	Lacking     []string        `json:"systemCallsMissing"`
	Partial     []callInPart    `json:"systemCallsInPart"`
	Unknown     int             `json:"systemCallsUnknown"`
	CodeBytes   int64           `json:"codeBytes"`
	Runs        bool            `json:"shouldRun"`
}

type imageReport struct {
	Kind       string   `json:"kind"`
	Name       string   `json:"name,omitempty"`
	Entrypoint []string `json:"entrypoint"`
	Cmd        []string `json:"cmd"`
	Env        []string `json:"env"`
	WorkDir    string   `json:"workdir,omitempty"`
	User       string   `json:"user,omitempty"`
	Ports      []string `json:"ports"`
	Bytes      int64    `json:"bytes"`
}

type libraryReport struct {
	Name     string `json:"name"`
	Path     string `json:"path,omitempty"`
	NeededBy string `json:"neededBy"`
}

type callInPart struct {
	Name string `json:"name"`
	Note string `json:"note"`
}

func inspectCommand(words []string) (int, error) {
	o := &inspectOptions{}
	words, err := parse(o.table(), words)
	if err != nil {
		return statusFailed, err
	}
	if len(words) == 0 || len(words) > 2 {
		return statusFailed, usageError("of what? A program, a directory or an image, and perhaps a program in it")
	}
	s, err := open(words[0])
	if err != nil {
		return inspectFailure(o, words[0], err)
	}
	defer s.close()
	r, err := s.inspect(words[1:])
	if err != nil {
		return inspectFailure(o, words[0], err)
	}
	if o.json {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(r)
	} else {
		r.print(os.Stdout)
	}
	if !r.Runs || o.strict && len(r.Lacking) > 0 {
		return 1, err
	}
	return 0, err
}

// inspectFailure says that something can't be run, which is what was asked.
func inspectFailure(o *inspectOptions, name string, err error) (int, error) {
	var f failure
	if errors.As(err, &f) {
		if f.status == statusNotFound {
			return f.status, err
		}
		err = f.err
	}
	if o.json {
		return 1, errors.Join(err, json.NewEncoder(os.Stdout).Encode(map[string]any{"path": name, "shouldRun": false, "error": err.Error()}))
	}
	return 1, err
}

// files returns the subject's root, for programs to be found in.
func (s *subject) files() rootfs.FS {
	switch {
	case s.tree != nil:
		return s.tree.FS()
	case s.dir != nil:
		return rootfs.Directory(s.dir)
	}
	return rootfs.Host()
}

// program returns the path of the program to inspect.
func (s *subject) program(words []string) (string, error) {
	name := ""
	switch {
	case s.kind == kindProgram:
		return s.path, nil
	case len(words) > 0:
		name = words[0]
	case s.image != nil && len(s.image.Config.Entrypoint)+len(s.image.Config.Cmd) > 0:
		name = slices.Concat(s.image.Config.Entrypoint, s.image.Config.Cmd)[0]
	case s.has("init"):
		name = "/init"
	default:
		return "", fmt.Errorf("%s doesn't say what it runs: name a program in it (elver inspect %s PROGRAM)", s.name, s.name)
	}
	if strings.Contains(name, "/") {
		return path.Clean("/" + name), nil
	}
	search := rootfs.DefaultPath
	if s.image != nil {
		for _, v := range s.image.Config.Env {
			if value, ok := strings.CutPrefix(v, "PATH="); ok {
				search = value
			}
		}
	}
	for _, dir := range strings.Split(search, ":") {
		if f, err := s.files().Open(path.Join("/", dir, name)); err == nil {
			f.Close()
			return path.Join("/", dir, name), nil
		}
	}
	return "", failure{statusNotFound, fmt.Errorf("there is no %s in the PATH of %s", name, s.name)}
}

func (s *subject) inspect(words []string) (*report, error) {
	if s.kind == kindCPIO || s.kind == kindBundle {
		return nil, fmt.Errorf("%s is a %s: unpack it, and inspect the directory", s.name, s.kind)
	}
	name, err := s.program(words)
	if err != nil {
		return nil, err
	}
	files := s.files()
	r := &report{Path: name, Libraries: []libraryReport{}, Missing: []string{}, Calls: []string{}, Lacking: []string{}, Partial: []callInPart{}}
	if s.kind != kindProgram {
		r.In = s.name
	}
	if s.image != nil {
		c := s.image.Config
		r.Image = &imageReport{Kind: string(s.image.Kind), Name: c.Name, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkDir: c.WorkDir, User: c.User, Ports: c.Ports, Bytes: s.tree.Bytes()}
	}
	p, err := rootfs.Examine(files, name)
	for depth := 0; err == nil && p.Kind == rootfs.Script && depth < 5; depth++ {
		r.Script = r.Path
		r.Path = p.Interpreter
		if named := p.EnvProgram(files); named != "" {
			r.Path = named
		}
		p, err = rootfs.Examine(files, r.Path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, rootfs.ErrNotThere) {
			r.Kind, r.Missing = string(rootfs.Script), append(r.Missing, r.Path)
			r.Path, r.Interpreter, r.Script = r.Script, r.Path, ""
			return r, nil
		}
	}
	if err != nil {
		return nil, err
	}
	r.Kind, r.PIE, r.Go, r.Interpreter = string(p.Kind), p.PIE, p.Go, p.Interpreter
	for _, l := range p.Libraries {
		r.Libraries = append(r.Libraries, libraryReport(l))
	}
	r.Missing = append(r.Missing, p.Missing()...)
	r.Runs = len(r.Missing) == 0
	return r, r.scan(files, p)
}

// scan fills in the system calls.
func (r *report) scan(files rootfs.FS, p *rootfs.Program) error {
	var sources []scan.Source
	for _, name := range append([]string{p.Path}, p.Files()...) {
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		sources = append(sources, scan.Source{Name: name, File: f})
	}
	var line progress
	line.say("reading the code of " + r.Path + " and its libraries")
	result, err := scan.Programs(sources)
	line.end()
	if err != nil {
		return err
	}
	r.Unknown, r.CodeBytes = result.Unknown, result.Bytes
	for _, n := range result.Calls {
		c, ok := calls.ByNumber(n)
		if !ok {
			continue
		}
		r.Calls = append(r.Calls, c.Name)
		switch c.State {
		case calls.Missing:
			r.Lacking = append(r.Lacking, c.Name)
		case calls.Partial:
			r.Partial = append(r.Partial, callInPart{c.Name, c.Note})
		}
	}
	return nil
}

func (r *report) print(f *os.File) {
	w := io.Writer(f)
	row := func(left, format string, args ...any) {
		fmt.Fprintf(w, "%-14s%s\n", left, fmt.Sprintf(format, args...))
	}
	if i := r.Image; i != nil {
		row("image", "%s %s, %d MB", i.Kind, i.Name, i.Bytes>>20)
		if words := slices.Concat(i.Entrypoint, i.Cmd); len(words) > 0 {
			row("runs", "%s", shellWords(words))
		}
		if i.User != "" || i.WorkDir != "" {
			row("", "as %s in %s", orElse(i.User, "root"), orElse(i.WorkDir, "/"))
		}
		if len(i.Ports) > 0 {
			row("ports", "%s", strings.Join(i.Ports, ", "))
		}
	}
	if r.Script != "" {
		row("script", "%s", r.Script)
	}
	kind := r.Kind
	if r.Go {
		kind += ", made by Go"
	}
	if r.PIE {
		kind += ", position-independent"
	}
	row("program", "%s (%s)", r.Path, kind)
	if r.Interpreter != "" {
		row("interpreter", "%s", r.Interpreter)
	}
	for i, l := range r.Libraries {
		left := ""
		if i == 0 {
			left = "libraries"
		}
		if l.Path == "" {
			row(left, "%s %s", l.Name, paint(f, red, "is missing")+", needed by "+l.NeededBy)
		} else {
			row(left, "%s", l.Path)
		}
	}
	if len(r.Calls) > 0 {
		row("system calls", "%d can be made, by %d KB of code that is reached", len(r.Calls), r.CodeBytes>>10)
	}
	if r.Unknown > 0 {
		row("", "and others at %d places whose number isn't known", r.Unknown)
	}
	if len(r.Lacking) > 0 {
		row("not in Elver", "%s", paint(f, yellow, strings.Join(r.Lacking, ", ")))
	}
	for i, c := range r.Partial {
		left := ""
		if i == 0 {
			left = "in part"
		}
		row(left, "%s: %s", c.Name, c.Note)
	}
	switch {
	case !r.Runs:
		row("verdict", "%s", paint(f, red, "it can't run: "+strings.Join(r.Missing, ", ")+" "+beVerb(r.Missing)+" missing"))
	case len(r.Lacking) > 0:
		row("verdict", "%s", paint(f, green, "it should run")+", unless it depends on what Elver hasn't (elver run --summary tells)")
	default:
		row("verdict", "%s", paint(f, green, "it should run"))
	}
}

func beVerb(list []string) string {
	if len(list) == 1 {
		return "is"
	}
	return "are"
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// shellWords shows words without control characters, quoted where that is needed.
func shellWords(words []string) string {
	shown := make([]string, len(words))
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " '\"\\$`") || strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			w = fmt.Sprintf("%q", w)
		}
		shown[i] = w
	}
	return strings.Join(shown, " ")
}
