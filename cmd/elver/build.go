package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"elver/boot"
	"elver/boot/image"
	"elver/cmd/elver/machine"
)

const buildDetail = `THING is what elver run takes; a directory is copied into the file. The kernel, the root file system
and the command line are in FILE, which any multiboot or PVH loader boots:

  elver build /usr/bin/env -e A=1 -o app.kernel
  qemu-system-x86_64 -m 128 -kernel app.kernel -display none -serial stdio -no-reboot
  elver run app.kernel

Words that the loader passes (-append) replace the ARGUMENTs, but not an image's entrypoint nor a
program's own name; parameters before them count besides.
`

// buildOptions are those of elver build.
type buildOptions struct {
	runOptions
	output string
}

func (o *buildOptions) table() []option {
	return append([]option{
		{long: "output", short: "o", value: "FILE", help: "the file to make", set: func(v string) error { o.output = v; return nil }},
		{long: "kernel", value: "FILE", help: "another kernel than the one in this command", set: func(v string) error { o.kernel = v; return nil }},
	}, o.program()...)
}

func buildCommand(words []string) (int, error) {
	o := &buildOptions{}
	words, err := parse(o.table(), words)
	if err != nil {
		return statusFailed, err
	}
	if len(words) == 0 {
		return statusFailed, usageError("of what? A program, a directory or an image")
	}
	thing := words[0]
	args, err := parse(o.table(), words[1:])
	if err != nil {
		return statusFailed, err
	}
	if o.output == "" {
		return statusFailed, usageError("where to? -o FILE")
	}
	s, err := open(thing)
	if err != nil {
		return statusFailed, err
	}
	defer s.close()
	if s.kind == kindBundle {
		return statusFailed, fmt.Errorf("%s is what elver build made already", thing)
	}
	p, err := s.resolve(&o.runOptions, args)
	if err != nil {
		return statusFailed, err
	}
	line, err := o.bundleLine(s, p)
	if err != nil {
		return statusFailed, err
	}
	kernel, err := kernelImage(o.kernel)
	if err != nil {
		return statusFailed, err
	}
	root, size, err := s.module(p)
	if err != nil {
		return statusFailed, err
	}
	defer root.Close()
	if err := writeBundle(o.output, kernel, line, root, size); err != nil {
		return statusFailed, err
	}
	info, err := os.Stat(o.output)
	if err != nil {
		return statusFailed, err
	}
	fmt.Fprintf(os.Stderr, "elver: made %s, %d MB: elver run %s, or qemu-system-x86_64 -m %d -kernel %s\n",
		o.output, info.Size()>>20, o.output, max(128, 64+2*(size>>20)), o.output)
	return 0, nil
}

// bundleLine returns the command line that goes into the file.
func (o *buildOptions) bundleLine(s *subject, p *spec) (string, error) {
	keep := p.entrypoint
	if s.kind == kindProgram {
		keep = 1
	}
	words := append([]string{fmt.Sprintf("elver.entrypoint=%d", keep)}, p.parameters()...)
	words = append(append(words, o.parameters()...), "--")
	line := strings.Join(append(words, machine.QuoteAll(p.argv)...), " ")
	parsed, err := boot.ParseBundledLine(line, "", "")
	if err != nil {
		return "", fmt.Errorf("the kernel wouldn't take this: %w", err)
	}
	if strings.Join(parsed.Argv, "\x00") != strings.Join(p.argv, "\x00") || strings.IndexByte(line, 0) >= 0 {
		return "", errors.New("the program's arguments don't survive the kernel's command line")
	}
	return line, nil
}

// module returns the root file system as a cpio archive in a file without a name.
func (s *subject) module(p *spec) (io.ReadCloser, int64, error) {
	if s.kind == kindCPIO {
		f, err := os.Open(s.path)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return f, info.Size(), nil
	}
	if err := s.fill(p); err != nil {
		return nil, 0, err
	}
	if err := s.tree.InMemory(); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", s.name, err)
	}
	f, err := os.CreateTemp("", "elver-bundle-*")
	if err != nil {
		return nil, 0, err
	}
	os.Remove(f.Name())
	err = s.tree.WriteCPIO(f)
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// writeBundle writes the file aside and renames it: an interrupted build leaves no broken one behind.
func writeBundle(name string, kernel []byte, line string, root io.Reader, size int64) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".elver-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = image.Bundle(f, kernel, line, root, size)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
