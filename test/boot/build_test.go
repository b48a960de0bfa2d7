package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"elver/test/tinyelf"
)

// A kind is a way to make an executable.
type kind string

const (
	staticPIE kind = "glibc-static-pie"
	staticExe kind = "glibc-static"
	musl      kind = "musl-static"
	dynamic   kind = "glibc-dynamic"
	goProgram kind = "go"
	rust      kind = "rust-static"
	tiny      kind = "tiny" // without a compiler
)

var programs = filepath.Join(root, "test/programs")

type building struct {
	once      sync.Once
	path      string
	err, skip string
}

var (
	buildsMu sync.Mutex
	builds   = map[string]*building{}
)

// build returns the path of the program of that name, made as kind says. Of the
// compilers only Rust's may be missing: the test is skipped then.
func build(t testing.TB, k kind, name string) string {
	t.Helper()
	buildsMu.Lock()
	b := builds[string(k)+name]
	if b == nil {
		b = &building{}
		builds[string(k)+name] = b
	}
	buildsMu.Unlock()
	b.once.Do(func() { b.make(k, name) })
	if b.skip != "" {
		t.Skip(b.skip)
	}
	if b.err != "" {
		t.Fatal(b.err)
	}
	return b.path
}

func (b *building) make(k kind, name string) {
	dir := filepath.Join(cache, "bin", string(k))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		b.err = err.Error()
		return
	}
	b.path = filepath.Join(dir, name)
	source := filepath.Join(programs, name+".c")
	if name == "helloworld" {
		source = filepath.Join(root, "test/helloworld/helloworld.c")
	}
	var words []string
	switch k {
	case staticPIE:
		words = []string{"gcc", "-O2", "-fPIE", "-static-pie", "-pthread", "-o", b.path, source}
	case staticExe:
		words = []string{"gcc", "-O2", "-static", "-no-pie", "-pthread", "-o", b.path, source}
	case dynamic:
		words = []string{"gcc", "-O2", "-pthread", "-o", b.path, source}
	case musl:
		// Linux's own headers, which the wrapper leaves out, come after musl's.
		words = []string{"musl-gcc", "-O2", "-static", "-pthread", "-idirafter", "/usr/include",
			"-idirafter", "/usr/include/x86_64-linux-gnu", "-o", b.path, source}
	case goProgram:
		words = []string{"go", "build", "-o", b.path, "./" + name}
	case rust:
		source = filepath.Join(programs, name+".rs")
		words = []string{"rustc", "-O", "-C", "target-feature=+crt-static", "-o", b.path, source}
	case tiny:
		b.err = errorString(os.WriteFile(b.path, tinyelf.Hello("Hello world!\n", 0), 0o755))
		return
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		b.err = "there is no " + words[0] + " here: please install it (see the Makefile)"
		if k == rust {
			b.err, b.skip = "", "there is no rustc here"
		}
		return
	}
	if k != goProgram && newer(b.path, source, filepath.Join(programs, "check.h")) {
		return
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = programs
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.err = strings.Join(words, " ") + ": " + err.Error() + "\n" + string(out)
	}
}

// newer says whether the file is there and not older than any of its sources.
func newer(file string, sources ...string) bool {
	f, err := os.Stat(file)
	if err != nil {
		return false
	}
	for _, s := range sources {
		if i, err := os.Stat(s); err == nil && i.ModTime().After(f.ModTime()) {
			return false
		}
	}
	return true
}

func errorString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// write puts data into a file of that name for one test.
func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
