// Package overlay lays the freestanding runtime over Go's own: it builds a main package with files
// of the standard library's runtime replaced by those of runtime/_go, by an unmodified Go
// toolchain.
package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Supported are the Go versions whose runtime the overlay fits.
var Supported = []string{"go1.26", "go1.27"}

// KernelBase is the address that the linker puts the text at, as its signed -T wants it: 2 MiB of
// physical memory above 0xffffffff80000000.
const KernelBase = "-0x7fe00000"

// Builder builds kernels with one toolchain.
type Builder struct {
	goroot  string
	goTool  string
	version string
	work    string // folder for the overlay's list and the shadow of a toolchain
}

// New returns a builder that uses the go command of the PATH and keeps its files in the folder
// work. It fails with a sentence if the toolchain's version isn't supported.
func New(work string) (*Builder, error) {
	out, err := exec.Command("go", "env", "-json", "GOROOT", "GOVERSION", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("the go command doesn't run: %w", err)
	}
	var env struct{ GOROOT, GOVERSION, GOMODCACHE string }
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	if err := CheckVersion(env.GOVERSION); err != nil {
		return nil, err
	}
	work, err = filepath.Abs(work)
	if err != nil {
		return nil, err
	}
	b := &Builder{goroot: env.GOROOT, goTool: filepath.Join(env.GOROOT, "bin", "go"), version: env.GOVERSION, work: work}
	if rel, err := filepath.Rel(env.GOMODCACHE, env.GOROOT); err == nil && !strings.HasPrefix(rel, "..") {
		// The go command refuses an overlay over files of the module cache, where a toolchain
		// that it downloaded itself lives.
		if err := b.shadow(); err != nil {
			return nil, fmt.Errorf("shadow of %s: %w", env.GOROOT, err)
		}
	}
	return b, nil
}

// CheckVersion returns a sentence for a person if the overlay doesn't fit a Go version.
func CheckVersion(version string) error {
	for _, s := range Supported {
		if version == s || strings.HasPrefix(version, s+".") || strings.HasPrefix(version, s+"rc") {
			return nil
		}
	}
	return fmt.Errorf("%s is not supported: the freestanding runtime fits %s; set GOTOOLCHAIN to one of them",
		version, strings.Join(Supported, " and "))
}

// shadow makes a GOROOT of symbolic links to the toolchain's files.
func (b *Builder) shadow() error {
	root := filepath.Join(b.work, "goroot-"+b.version)
	done := filepath.Join(root, ".complete")
	if _, err := os.Stat(done); errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(root); err != nil {
			return err
		}
		if err := link(b.goroot, root); err != nil {
			return err
		}
		if err := os.WriteFile(done, nil, 0o644); err != nil {
			return err
		}
	}
	b.goroot, b.goTool = root, filepath.Join(root, "bin", "go")
	return nil
}

// link fills to with links: the folder src file by file, so that the overlay finds real folders,
// everything else as a whole.
func link(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "src" {
			if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
	}
	src := filepath.Join(from, "src")
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Symlink(path, filepath.Join(to, rel))
	})
}

// Build links the main package pkg with the files below the folder laid (runtime/_go) in place of
// the standard library's, and those below library (runtime/_gvisor) in place of gVisor's, and writes the
// ELF file out. ldflags are added to the linker's.
func (b *Builder) Build(laid, library, pkg, out, ldflags string) error {
	edited, err := b.edit()
	if err != nil {
		return err
	}
	list, err := b.list(laid, edited)
	if err != nil {
		return err
	}
	modFile, err := b.slim(library)
	if err != nil {
		return err
	}
	cmd := exec.Command(b.goTool, "build", "-modfile", modFile, "-overlay", list, "-tags", "elver", "-trimpath", "-buildvcs=false",
		"-ldflags", strings.TrimSpace("-T "+KernelBase+" -E runtime.elverEntry "+ldflags), "-o", out, pkg)
	cmd.Env = append(os.Environ(), "GOROOT="+b.goroot, "GOTOOLCHAIN=local", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
		"CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=")
	cmd.Stderr = os.Stderr
	cmd.Stdout = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s: %w", pkg, err)
	}
	return nil
}

// toolchainEdits are made in copies of files of the toolchain.
var toolchainEdits = []edit{
	// Larger copies without AVX, which the kernel has not, go byte by byte where they aren't aligned, as packets
	// seldom are. By words is as right: the last one is copied by itself, and what holds pointers is aligned.
	{"src/runtime/memmove_amd64.s", "	TESTL	$7, AX\n	JEQ	fwdBy8\n", "	JMP	fwdBy8\n"},
	// On one CPU there is nobody to steal from, or to wake while the P is in use; and a brief wait is no reason to give it up.
	{"src/runtime/proc.go", "	if mp.spinning || 2*sched.nmspinning.Load() < gomaxprocs-sched.npidle.Load() {\n", "	if gomaxprocs > 1 && (mp.spinning || 2*sched.nmspinning.Load() < gomaxprocs-sched.npidle.Load()) {\n"},
	{"src/runtime/proc.go", "func wakep() {\n", "func wakep() {\n	if gomaxprocs == 1 && sched.npidle.Load() == 0 {\n		return\n	}\n"},
	{"src/runtime/proc.go", "beforeIdle(now, pollUntil)", "metalLinger(pp, now, pollUntil)"},
	// Type assertions are remembered sooner: a server's are few, and each is made once or twice for a connection.
	{"src/runtime/iface.go", "	if cheaprand()&1023 != 0 {\n		// Only bother updating the cache ~1 in 1000 times.\n		return tab\n", "	if cheaprand()&31 != 0 {\n		return tab\n"},
	// A pool keeps more than one thing where no other CPU looks for it: a packet takes and gives back several.
	{"src/sync/pool.go", "	private any       // Can be used only by the respective P.\n", "	private any       // Can be used only by the respective P.\n	more    [8]any    // as private; the first count are set\n	count   int\n"},
	{"src/sync/pool.go", "		l.private = x\n	} else {\n", "		l.private = x\n	} else if l.count < len(l.more) {\n		l.more[l.count] = x\n		l.count++\n	} else {\n"},
	{"src/sync/pool.go", "	if x == nil {\n		// Try to pop", "	if x == nil && l.count > 0 {\n		l.count--\n		x, l.more[l.count] = l.more[l.count], nil\n	}\n	if x == nil {\n		// Try to pop"},
}

// edit makes toolchainEdits and returns the folder in which the files lie as they do below GOROOT.
func (b *Builder) edit() (string, error) {
	root := filepath.Join(b.work, "_toolchain") // not one of ./...
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	for _, e := range toolchainEdits {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, e.file)), 0o755); err != nil {
			return "", err
		}
		if err := copyFile(filepath.Join(b.goroot, e.file), filepath.Join(root, e.file), ""); err != nil {
			return "", err
		}
	}
	return root, apply(toolchainEdits, root, false)
}

// list writes the overlay's list (see "go help build", -overlay) of the files below folders and returns its name.
func (b *Builder) list(folders ...string) (string, error) {
	replace := map[string]string{}
	for _, laid := range folders {
		laid, err := filepath.Abs(laid)
		if err != nil {
			return "", err
		}
		err = filepath.WalkDir(laid, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(laid, path)
			if err != nil {
				return err
			}
			replace[filepath.Join(b.goroot, rel)] = path
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	data, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return "", err
	}
	name := filepath.Join(b.work, "overlay-"+b.version+".json")
	if err := os.MkdirAll(b.work, 0o755); err != nil {
		return "", err
	}
	return name, os.WriteFile(name, data, 0o644)
}
