package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"elver/boot/image"
	"elver/cmd/elver/machine"
	"elver/cmd/elver/rootfs"
)

// workspace is a directory for one run, made when it is needed.
type workspace struct {
	made string
	keep bool
}

func (w *workspace) dir() (string, error) {
	if w.made == "" {
		dir, err := machine.TempDir()
		if err != nil {
			return "", err
		}
		w.made = dir
	}
	return w.made, nil
}

func (w *workspace) close() {
	if w.made != "" && !w.keep {
		os.RemoveAll(w.made)
	}
}

// kind is what a THING is.
type kind string

const (
	kindProgram   kind = "program"
	kindDirectory kind = "directory"
	kindCPIO      kind = "cpio archive"
	kindImage     kind = "image"
	kindBundle    kind = "bundle"
)

// subject is the THING of a command line.
type subject struct {
	name  string // as it was given
	path  string
	kind  kind
	image *rootfs.Image   // of an image
	tree  *rootfs.Tree    // of an image or a program; nil when it isn't needed
	prog  *rootfs.Program // of a program
	dir   *os.Root        // of a directory
	share bool            // an image's files are shared from a directory, not taken into memory
}

// spec is what is to run in the subject.
type spec struct {
	argv       []string
	entrypoint int    // how many words of argv an image's entrypoint is
	program    string // its path, if argv[0] is another name
	env        []string
	workDir    string
	user       string // as elver.user wants it; empty: root
	stopSignal string // empty: SIGTERM
}

// parameters returns the words for Elver.
func (s *spec) parameters() []string {
	var words []string
	if s.program != "" {
		words = append(words, "elver.init="+machine.Quote(s.program))
	}
	env := s.env
	if s.workDir != "" {
		env = append(slices.Clone(env), "PWD="+s.workDir)
	}
	if len(env) > 0 {
		words = append(words, machine.List("env.vars", env))
	}
	if s.user != "" {
		words = append(words, "elver.user="+s.user)
	}
	if s.stopSignal != "" {
		words = append(words, "elver.stopsignal="+machine.Quote(s.stopSignal))
	}
	return words
}

// terminal returns the kind of terminal that the program is told of.
func (s *spec) terminal() string {
	name := "linux" // Elver's own default
	for _, v := range s.env {
		if value, ok := strings.CutPrefix(v, "TERM="); ok {
			name = value
		}
	}
	return name
}

// open finds out what a THING is.
func open(name string) (*subject, error) {
	s := &subject{name: name, path: name}
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) && !strings.Contains(name, "/") {
		if found, lookErr := exec.LookPath(name); lookErr == nil {
			s.path = found
			info, err = os.Stat(found)
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, failure{statusNotFound, fmt.Errorf("there is no %s here%s", name, orInPath(name))}
	case err != nil:
		return nil, failure{statusNotExecutable, fmt.Errorf("%s cannot be reached: %w", name, reason(err))}
	case info.IsDir() && rootfs.IsLayout(s.path):
		s.kind = kindImage
	case info.IsDir():
		s.kind = kindDirectory
		if s.dir, err = os.OpenRoot(s.path); err != nil {
			return nil, failure{statusNotExecutable, fmt.Errorf("the directory %s cannot be read: %w", name, reason(err))}
		}
		return s, nil
	case !info.Mode().IsRegular():
		return nil, failure{statusNotExecutable, fmt.Errorf("%s is neither a file nor a directory", name)}
	default:
		if s.kind, err = kindOfFile(s.path, info); err != nil {
			return nil, err
		}
	}
	switch s.kind {
	case kindImage:
		if s.image, err = rootfs.OpenImage(s.path); err != nil {
			return nil, err
		}
		s.tree = rootfs.New(rootfs.SharedLimits())
		var p progress
		err = s.image.Unpack(s.tree, func(layer, layers int) { p.say(fmt.Sprintf("unpacking layer %d of %d of %s", layer, layers, name)) })
		p.end()
		if err != nil {
			s.close()
			return nil, err
		}
	case kindProgram:
		if info.Mode().Perm()&0o111 == 0 {
			return nil, failure{statusNotExecutable, fmt.Errorf("%s is not executable: chmod +x %s", name, name)}
		}
		if s.prog, err = rootfs.Examine(rootfs.Host(), s.path); err != nil {
			return nil, failure{statusNotExecutable, err}
		}
	}
	return s, nil
}

func orInPath(name string) string {
	if strings.Contains(name, "/") {
		return ""
	}
	return ", nor in PATH"
}

// reason returns what is behind an error of package os, for a sentence that names the file itself.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

func (s *subject) close() {
	if s.image != nil {
		s.image.Close()
	}
	if s.tree != nil {
		s.tree.Close()
	}
	if s.dir != nil {
		s.dir.Close()
	}
}

// kindOfFile tells by a file's first bytes what it is.
func kindOfFile(name string, info os.FileInfo) (kind, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", failure{statusNotExecutable, fmt.Errorf("%s cannot be read, which it must be to come along: %w", name, reason(err))}
	}
	defer f.Close()
	if info.Size() == 0 {
		return "", failure{statusNotExecutable, fmt.Errorf("%s is empty", name)}
	}
	r, err := rootfs.Decompress(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer r.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	head = head[:n]
	kernel, bundle := image.IsKernel(head)
	switch {
	case kernel && bundle:
		return kindBundle, nil
	case kernel:
		return "", failure{statusNotExecutable, fmt.Errorf("%s is a kernel of Elver's with nothing inside: --kernel %s runs something on it", name, name)}
	case bytes.HasPrefix(head, []byte("\x7fELF")), bytes.HasPrefix(head, []byte("#!")):
		return kindProgram, nil
	case bytes.HasPrefix(head, []byte("07070")):
		return kindCPIO, nil
	case rootfs.IsTar(head):
		return kindImage, nil
	}
	return "", failure{statusNotExecutable, fmt.Errorf("%s is neither a program (ELF or #!) nor a cpio or tar archive nor a directory: see elver help run", name)}
}

// resolve says what is to run: the arguments, filled up with what an image's configuration has.
func (s *subject) resolve(o *runOptions, args []string) (*spec, error) {
	var config rootfs.Config
	if s.image != nil {
		config = s.image.Config
	}
	p := &spec{workDir: o.workDir, stopSignal: o.stopSignal}
	if p.stopSignal == "" {
		p.stopSignal = config.StopSignal
	}
	if p.workDir == "" && config.WorkDir != "" {
		p.workDir = path.Clean("/" + config.WorkDir)
	}
	for _, v := range config.Env {
		if name, _, ok := strings.Cut(v, "="); ok && name != "" {
			p.env = append(p.env, v)
		}
	}
	if machine.Terminal() && os.Getenv("TERM") != "" {
		p.env = append(p.env, "TERM="+os.Getenv("TERM"))
	}

	switch s.kind {
	case kindProgram:
		p.argv = append([]string{s.name}, args...)
		if abs, err := filepath.Abs(s.path); err == nil {
			p.program = abs
		}
	case kindImage:
		if len(args) == 0 {
			args = config.Cmd
		}
		p.argv = slices.Concat(config.Entrypoint, args)
		p.entrypoint = len(config.Entrypoint)
	default:
		p.argv = args
	}
	if len(p.argv) == 0 && s.kind != kindCPIO && s.kind != kindBundle && !s.has("init") {
		return nil, fmt.Errorf("%s doesn't say what to run, and has no /init: name a program (elver run %s PROGRAM)", s.name, s.name)
	}

	user := o.user
	if user == "" {
		user = config.User
	}
	if user != "" {
		ids, home, err := s.lookUpUser(user)
		if err != nil {
			return nil, err
		}
		p.user = ids
		if home != "" && !slices.ContainsFunc(p.env, func(v string) bool { return strings.HasPrefix(v, "HOME=") }) {
			p.env = append(p.env, "HOME="+home)
		}
	}
	p.env = append(p.env, o.env...)
	return p, nil
}

// readFile reads a small file of the subject's root.
func (s *subject) readFile(name string) ([]byte, error) {
	const most = 4 << 20
	switch {
	case s.tree != nil:
		return s.tree.ReadFile("/"+name, most)
	case s.dir != nil:
		f, err := s.dir.Open(name) // a link that leads out of the directory is refused
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, most))
	}
	return nil, os.ErrNotExist
}

// has says whether the root has something of that name.
func (s *subject) has(name string) bool {
	switch {
	case s.tree != nil:
		_, err := s.tree.Lookup("/" + name)
		return err == nil
	case s.dir != nil:
		_, err := s.dir.Lstat(name)
		return err == nil
	}
	return false
}

// place gives the machine its root file system.
func (s *subject) place(w *workspace, c *machine.Config, p *spec) (err error) {
	switch s.kind {
	case kindDirectory:
		c.Root = s.path
		return nil
	case kindCPIO:
		c.Initrd, err = safePath(s.path, "root.cpio", w.dir)
		return err
	case kindBundle:
		c.Plain = true
		c.Kernel, err = safePath(s.path, "bundle.kernel", w.dir)
		return err
	case kindProgram:
		if s.prog.Kind == rootfs.Static && p.workDir == "" && plainName(filepath.Base(s.name)) {
			// The file itself is the initrd, under the name that it was called by.
			p.program = ""
			c.InitrdIsProgram = true
			return s.link(w, c)
		}
	}
	if err := s.fill(p); err != nil {
		return err
	}
	dir, err := w.dir()
	if err != nil {
		return err
	}
	if s.kind == kindImage && (s.share || s.tree.InMemory() != nil) {
		return s.unpack(filepath.Join(dir, "root"), c)
	}
	c.Initrd = filepath.Join(dir, "root.cpio")
	f, err := os.OpenFile(c.Initrd, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(s.tree.WriteCPIO(f), f.Close())
}

// unpack puts an image's files into a directory that the machine shares.
func (s *subject) unpack(dir string, c *machine.Config) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var p progress
	defer p.end()
	p.say(fmt.Sprintf("unpacking the %d MiB of %s into %s", s.tree.Bytes()>>20, s.name, dir))
	c.Root, c.RootMapped = dir, true
	if err := s.tree.Share(dir); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if n := s.tree.Capable(); n > 0 {
		p.end()
		fmt.Fprintf(os.Stderr, "elver: %d of the files of %s have capabilities (capabilities(7)), which are lost where an image isn't taken into memory\n", n, s.name)
	}
	return s.tree.Close() // its copy of the content
}

// fill makes the tree hold everything that the program is to find.
func (s *subject) fill(p *spec) error {
	switch s.kind {
	case kindProgram:
		s.tree = rootfs.New(rootfs.DefaultLimits)
		if _, err := s.tree.AddProgram(s.path); err != nil {
			return failure{statusNotExecutable, err}
		}
		s.tree.AddTerminal(p.terminal())
		s.tree.AddTerminal("dumb") // what programs fall back to
	case kindDirectory:
		s.tree = rootfs.New(rootfs.DefaultLimits)
		if err := s.tree.AddDirectory(s.path); err != nil {
			return err
		}
	}
	if p.workDir != "" {
		if err := s.tree.MakeDir(p.workDir); err != nil {
			return fmt.Errorf("the directory to start in: %w", err)
		}
	}
	return nil
}

// plainName says whether a file's name survives QEMU's and the kernel's reading of it.
func plainName(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-") == "" && name[0] != '-'
}

// link makes the program the initrd.
func (s *subject) link(w *workspace, c *machine.Config) error {
	abs, err := filepath.Abs(s.path)
	if err != nil {
		return err
	}
	if filepath.Base(abs) == filepath.Base(s.name) && !strings.ContainsAny(abs, ", \t\n") {
		c.Initrd = abs
		return nil
	}
	dir, err := w.dir()
	if err != nil {
		return err
	}
	c.Initrd = filepath.Join(dir, filepath.Base(s.name))
	return os.Symlink(abs, c.Initrd)
}
