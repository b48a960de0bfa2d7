package rootfs

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Kind is what a program is.
type Kind string

const (
	Static  Kind = "static ELF"
	Dynamic Kind = "dynamic ELF"
	Script  Kind = "script"
)

// FS is where programs and libraries are looked for: the host's files or an image's. Names are absolute,
// with slashes; symbolic links are followed.
type FS interface {
	// Open opens a regular file.
	Open(name string) (File, error)
	// Real returns the name of a file without symbolic links.
	Real(name string) (string, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Library is a shared library that a program or another library asks for.
type Library struct {
	Name     string // as it is asked for
	Path     string // where it is; empty if it wasn't found
	NeededBy string // path of the first that asks
}

// Program is what Examine finds out about one.
type Program struct {
	Path        string
	Kind        Kind
	Interpreter string // the loader of a dynamic program; a script's interpreter
	ScriptArg   string // what follows a script's interpreter
	Libraries   []Library
	PIE         bool
	Go          bool // made by the Go toolchain

	interpreterMissing bool
	viaCache           bool   // a library was found by way of ld.so.conf
	unwinder           string // libgcc_s, which glibc opens when a thread is cancelled; empty if it isn't there
}

// Missing returns what the program needs and isn't there.
func (p *Program) Missing() []string {
	var missing []string
	if p.interpreterMissing {
		missing = append(missing, p.Interpreter)
	}
	for _, l := range p.Libraries {
		if l.Path == "" {
			missing = append(missing, l.Name)
		}
	}
	return missing
}

// Files returns the paths of the interpreter and the libraries that were found.
func (p *Program) Files() []string {
	var files []string
	if p.Interpreter != "" && !p.interpreterMissing {
		files = append(files, p.Interpreter)
	}
	for _, l := range p.Libraries {
		if l.Path != "" && !slices.Contains(files, l.Path) {
			files = append(files, l.Path)
		}
	}
	if p.unwinder != "" {
		files = append(files, p.unwinder)
	}
	return files
}

// EnvProgram returns the path of the program that a "#!/usr/bin/env NAME" script asks for, empty if it asks
// for none. What isn't found is returned as its name.
func (p *Program) EnvProgram(files FS) string {
	if path.Base(p.Interpreter) != "env" {
		return ""
	}
	words := strings.Fields(p.ScriptArg)
	if len(words) > 0 && (words[0] == "-S" || words[0] == "--split-string") {
		words = words[1:]
	}
	for _, w := range words {
		if strings.Contains(w, "=") {
			continue
		}
		for _, dir := range strings.Split(DefaultPath, ":") {
			if f, err := files.Open(path.Join(dir, w)); err == nil {
				f.Close()
				return path.Join(dir, w)
			}
		}
		return w
	}
	return ""
}

// DefaultPath is where programs are looked for in a root that doesn't say otherwise.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ErrForeign is of a program that no Linux on x86-64 runs.
var ErrForeign = errors.New("not a program for Linux on x86-64")

// Examine reads a program's headers and finds its libraries in files as ld.so(8) does.
func Examine(files FS, name string) (*Program, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, min(256, f.Size()))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if line, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		interpreter, arg, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if !strings.HasPrefix(interpreter, "/") {
			return nil, fmt.Errorf("%s: its first line names no interpreter by an absolute path", name)
		}
		return &Program{Path: name, Kind: Script, Interpreter: interpreter, ScriptArg: strings.TrimSpace(arg)}, nil
	}
	e, err := newELF(name, f)
	if err != nil {
		return nil, err
	}
	p := &Program{Path: name, Kind: Static, PIE: e.Type == elf.ET_DYN, Go: e.Section(".go.buildinfo") != nil || e.Section(".note.go.buildid") != nil}
	if p.Interpreter, err = interpreterOf(e); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if p.Interpreter == "" {
		return p, nil
	}
	p.Kind = Dynamic
	if _, err := files.Real(p.Interpreter); err != nil {
		p.interpreterMissing = true
	}
	s := &search{files: files, program: p, musl: strings.Contains(path.Base(p.Interpreter), "musl"), seen: map[string]int{}}
	return p, s.closure(name, e)
}

// newELF opens an ELF file that Elver's machine can run.
func newELF(name string, r io.ReaderAt) (*elf.File, error) {
	ident := make([]byte, elf.EI_NIDENT)
	switch n, _ := r.ReadAt(ident, 0); {
	case !bytes.HasPrefix(ident[:n], []byte(elf.ELFMAG)):
		return nil, fmt.Errorf("%s is neither an ELF file nor a script with #! (%w)", name, ErrForeign)
	case elf.Class(ident[elf.EI_CLASS]) == elf.ELFCLASS32:
		return nil, fmt.Errorf("%s is a program of 32 bits: %w", name, ErrForeign)
	case elf.Data(ident[elf.EI_DATA]) == elf.ELFDATA2MSB:
		return nil, fmt.Errorf("%s is for a big-endian machine: %w", name, ErrForeign)
	}
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%s is a damaged ELF file: %w", name, err)
	}
	switch {
	case e.Machine != elf.EM_X86_64:
		return nil, fmt.Errorf("%s is for %s: %w", name, strings.TrimPrefix(e.Machine.String(), "EM_"), ErrForeign)
	case e.OSABI != elf.ELFOSABI_NONE && e.OSABI != elf.ELFOSABI_LINUX:
		return nil, fmt.Errorf("%s is for %s: %w", name, strings.TrimPrefix(e.OSABI.String(), "ELFOSABI_"), ErrForeign)
	case e.Type != elf.ET_EXEC && e.Type != elf.ET_DYN:
		return nil, fmt.Errorf("%s is an ELF file of type %s, no program", name, strings.TrimPrefix(e.Type.String(), "ET_"))
	}
	return e, nil
}

func interpreterOf(e *elf.File) (string, error) {
	for _, p := range e.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		if p.Filesz == 0 || p.Filesz > pathMax {
			return "", errors.New("the name of its interpreter is empty or too long")
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return "", err
		}
		b, _, _ = bytes.Cut(b, []byte{0})
		return string(b), nil
	}
	return "", nil
}

// search follows DT_NEEDED through the libraries.
type search struct {
	files   FS
	program *Program
	musl    bool
	seen    map[string]int // by name: index in program.Libraries
	conf    []string       // directories of ld.so.conf, read when they are needed
	confOK  bool
}

// object is an ELF file whose libraries are looked for.
type object struct {
	path   string
	e      *elf.File
	file   io.Closer
	rpaths []string // its own and its loaders' DT_RPATH
}

const maxLibraries = 4096

func (s *search) closure(name string, e *elf.File) error {
	queue := []object{{path: name, e: e, file: io.NopCloser(nil)}}
	defer func() {
		for _, o := range queue {
			o.file.Close()
		}
	}()
	for ; len(queue) > 0; queue = queue[1:] {
		o := queue[0]
		needed, err := o.e.ImportedLibraries()
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			return fmt.Errorf("%s: its dynamic section cannot be read: %w", o.path, err)
		}
		origin := path.Dir(o.path)
		if real, err := s.files.Real(o.path); err == nil {
			origin = path.Dir(real)
		}
		runpath := expand(o.e, elf.DT_RUNPATH, origin)
		if len(runpath) == 0 {
			o.rpaths = append(expand(o.e, elf.DT_RPATH, origin), o.rpaths...)
		}
		for _, n := range needed {
			if _, ok := s.seen[n]; ok {
				continue
			}
			if len(s.program.Libraries) == maxLibraries {
				return fmt.Errorf("%s needs more than %d libraries", name, maxLibraries)
			}
			s.seen[n] = len(s.program.Libraries)
			library := s.find(n, origin, o.rpaths, runpath)
			s.program.Libraries = append(s.program.Libraries, Library{Name: n, Path: library.path, NeededBy: o.path})
			if library.e != nil {
				library.rpaths = o.rpaths
				queue = append(queue, library)
			}
		}
		o.file.Close()
	}
	if _, ok := s.seen["libgcc_s.so.1"]; !ok && !s.musl {
		if o := s.find("libgcc_s.so.1", "/", nil, nil); o.e != nil {
			s.program.unwinder = o.path
			o.file.Close()
		}
	}
	return nil
}

// find returns a library, or nothing.
func (s *search) find(name, origin string, rpaths, runpath []string) object {
	try := func(at string) object {
		f, err := s.files.Open(at)
		if err != nil {
			return object{}
		}
		e, err := elf.NewFile(f)
		if err != nil || e.Machine != elf.EM_X86_64 || e.Type != elf.ET_DYN {
			f.Close()
			return object{}
		}
		return object{path: at, e: e, file: f}
	}
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(origin, name)
		}
		return try(name)
	}
	dirs := slices.Concat(rpaths, runpath) // musl looks into both, and so does glibc where it has one
	if s.musl {
		dirs = append(dirs, s.muslDirs()...)
	} else {
		dirs = append(dirs, "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
	}
	for _, dir := range dirs {
		if o := try(path.Join(dir, name)); o.e != nil {
			return o
		}
	}
	if s.musl {
		// Its loader is its C library.
		if strings.HasPrefix(name, "libc.") {
			return try(s.program.Interpreter)
		}
		return object{}
	}
	for _, dir := range s.confDirs() {
		if o := try(path.Join(dir, name)); o.e != nil {
			s.program.viaCache = true
			return o
		}
	}
	return object{}
}

// expand returns the directories of DT_RPATH or DT_RUNPATH.
func expand(e *elf.File, tag elf.DynTag, origin string) []string {
	values, _ := e.DynString(tag)
	var dirs []string
	for _, v := range values {
		for _, dir := range strings.Split(v, ":") {
			for token, to := range map[string]string{"ORIGIN": origin, "LIB": "lib/x86_64-linux-gnu", "PLATFORM": "x86_64"} {
				dir = strings.ReplaceAll(strings.ReplaceAll(dir, "${"+token+"}", to), "$"+token, to)
			}
			if path.IsAbs(dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

func (s *search) muslDirs() []string {
	if b, err := readAll(s.files, "/etc/ld-musl-x86_64.path"); err == nil {
		return strings.FieldsFunc(string(b), func(r rune) bool { return r == ':' || r == '\n' })
	}
	return []string{"/lib", "/usr/local/lib", "/usr/lib"}
}

// confDirs returns the directories of /etc/ld.so.conf, which ldconfig(8) made the cache from.
func (s *search) confDirs() []string {
	if !s.confOK {
		s.confOK = true
		s.readConf("/etc/ld.so.conf", 0)
	}
	return s.conf
}

func (s *search) readConf(name string, depth int) {
	b, err := readAll(s.files, name)
	if err != nil || depth > 8 {
		return
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include"); ok && strings.TrimLeft(pattern, " \t") != pattern {
			pattern = strings.TrimSpace(pattern)
			if !path.IsAbs(pattern) {
				pattern = path.Join(path.Dir(name), pattern)
			}
			for _, match := range glob(s.files, pattern) {
				s.readConf(match, depth+1)
			}
		} else if path.IsAbs(line) {
			s.conf = append(s.conf, line)
		}
	}
}

// glob returns the files that match a pattern in its last component.
func glob(files FS, pattern string) []string {
	lister, ok := files.(interface{ Names(dir string) []string })
	if !ok {
		return nil
	}
	var matches []string
	for _, name := range lister.Names(path.Dir(pattern)) {
		if ok, _ := path.Match(path.Base(pattern), name); ok {
			matches = append(matches, path.Join(path.Dir(pattern), name))
		}
	}
	return matches
}

// readAll returns a configuration file's content.
func readAll(files FS, name string) ([]byte, error) {
	const most = 1 << 20
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, min(f.Size(), most))
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// Host returns the files of the host.
func Host() FS { return hostFS{} }

type hostFS struct{}

type hostFile struct {
	*os.File
	size int64
}

// Size returns the file's length in bytes.
func (f hostFile) Size() int64 { return f.size }

// Open opens a regular file.
func (hostFS) Open(name string) (File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is no regular file")}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return hostFile{f, info.Size()}, nil
}

// Real resolves symbolic links.
func (hostFS) Real(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// Names lists a directory.
func (hostFS) Names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
