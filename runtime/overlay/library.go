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

// slimmed is the module that holds the network stack. As it comes, it spends a million instructions
// before main (registering every type for checkpoints, compiling expressions, filling a pool of random
// numbers) and links packages that ask an OS for all of that.
const slimmed = "gvisor.dev/gvisor"

// slimmedParts are the folders below its pkg that the kernel may import packages from.
var slimmedParts = []string{
	"atomicbitops", "bits", "buffer", "context", "gohacks", "rand", "refs", "sleep", "sync", "tcpip", "waiter",
}

// An edit replaces text that occurs once in a file of the module: for what no file beside it can do.
type edit struct{ file, old, new string }

// edits hook the files of runtime/_gvisor into the module.
var edits = []edit{
	// inside.go: connections within the machine, and small writes.
	{"pkg/tcpip/transport/tcp/endpoint.go", "	terminateAtRestore bool\n}", "	terminateAtRestore bool\n\n	inside *Endpoint\n}"},
	{"pkg/tcpip/transport/tcp/endpoint.go", "	e.sendData(nextSeg)\n	return int64(n), nil", "	if !e.sendInside(nextSeg) {\n		e.sendData(nextSeg)\n	}\n	return int64(n), nil"},
	{
		"pkg/tcpip/transport/tcp/endpoint.go", "	size := int(buf.Size())\n	s := newOutgoingSegment(",
		"	size := int(buf.Size())\n	if s := e.mergeSmall(&buf); s != nil {\n		e.sndQueueInfo.SndBufUsed += size\n		return s, size, nil\n	}\n	s := newOutgoingSegment(",
	},
	{
		"pkg/tcpip/transport/tcp/dispatcher.go", "!ep.isOwnedByUser() {\n					p.epQ.enqueue(ep)\n",
		"!ep.isOwnedByUser() {\n					p.again(ep)\n",
	},
	// A view is cleared where bytes come into it that nobody writes, not its chunk as a whole.
	{"pkg/buffer/chunk.go", "		clear(c.data)\n", ""},
	{"pkg/buffer/view.go", "		v.growCap(n)\n	}\n	v.write += n\n}\n", "		v.growCap(n)\n	}\n	clear(v.chunk.data[v.write : v.write+n])\n	v.write += n\n}\n"},
}

// apply makes the edits in the copy of the module at root.
func apply(edits []edit, root string) error {
	for _, e := range edits {
		name := filepath.Join(root, e.file)
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := strings.Count(string(data), e.old); n != 1 {
			return fmt.Errorf("%s of %s has %d places with %q, not one: the edits in runtime/overlay fit another version", e.file, slimmed, n, e.old)
		}
		// The file is a link into the module until now.
		if err := os.Remove(name); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(data), e.old, e.new, 1)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// slim makes a copy of the module by links, without the generated code for checkpoints, with the files
// below laid in place of its own or beside them, and with the edits. It returns a go.mod that says to use it.
func (b *Builder) slim(laid string) (modFile string, err error) {
	laid, err = filepath.Abs(laid)
	if err != nil {
		return "", err
	}
	dir, ownMod, err := b.module(slimmed)
	if err != nil {
		return "", err
	}
	root := filepath.Join(b.work, "gvisor")
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	for _, part := range slimmedParts {
		if err := linkPackages(dir, root, filepath.Join("pkg", part)); err != nil {
			return "", err
		}
	}
	err = filepath.WalkDir(laid, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(laid, path)
		if err != nil {
			return err
		}
		to := filepath.Join(root, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(path, to)
	})
	if err != nil {
		return "", err
	}
	if err := apply(edits, root); err != nil {
		return "", err
	}
	if err := copyFile(filepath.Join(dir, "go.mod"), filepath.Join(root, "go.mod"), ""); err != nil {
		return "", err
	}
	modFile = filepath.Join(b.work, "kernel.mod")
	if err := copyFile(ownMod, modFile, fmt.Sprintf("\nreplace %s => %q\n", slimmed, root)); err != nil {
		return "", err
	}
	return modFile, copyFile(strings.TrimSuffix(ownMod, ".mod")+".sum", filepath.Join(b.work, "kernel.sum"), "")
}

// module returns the folder of a module that this one needs, and this one's go.mod.
func (b *Builder) module(path string) (dir, goMod string, err error) {
	cmd := exec.Command(b.goTool, "mod", "download", "-json", path)
	cmd.Env = append(os.Environ(), "GOROOT="+b.goroot, "GOTOOLCHAIN=local", "GOFLAGS=")
	out, err := cmd.Output()
	var m struct{ Dir, Error string }
	if e := json.Unmarshal(out, &m); e != nil || m.Error != "" || m.Dir == "" {
		return "", "", fmt.Errorf("the module %s cannot be had: %s (%v)", path, m.Error, err)
	}
	out, err = exec.Command(b.goTool, "env", "GOMOD").Output()
	if err != nil {
		return "", "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return m.Dir, strings.TrimSpace(string(out)), nil
}

// linkPackages links the Go files below the folder part of from to the same place below to.
func linkPackages(from, to, part string) error {
	return filepath.WalkDir(filepath.Join(from, part), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case strings.HasSuffix(name, "_autogen.go") || strings.HasSuffix(name, "_test.go"):
			return nil
		case strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".s"):
			return os.Symlink(path, filepath.Join(to, rel))
		}
		return nil
	})
}

// copyFile copies a file and adds more to it.
func copyFile(from, to, more string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, append(data, more...), 0o644)
}
