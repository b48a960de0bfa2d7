// Mkkernel builds the bootable kernel image: it links cmd/kernel over the freestanding runtime and
// makes the linked file an image.
//
// Usage: go run ./runtime/mkkernel [-o FILE] [-pkg PACKAGE] [-s]
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"elver/boot/image"
	"elver/runtime/overlay"
)

func main() {
	out := flag.String("o", "build/elver.kernel", "the image to write")
	pkg := flag.String("pkg", "./cmd/kernel", "the image's main package")
	strip := flag.Bool("s", false, "leave the symbols out")
	flag.Parse()
	if err := build(*out, *pkg, *strip); err != nil {
		fmt.Fprintln(os.Stderr, "mkkernel:", err)
		os.Exit(1)
	}
}

func build(out, pkg string, strip bool) error {
	work := filepath.Join(filepath.Dir(out), "sources")
	b, err := overlay.New(work)
	if err != nil {
		return err
	}
	linked := filepath.Join(work, "linked.elf")
	if err := b.Build("runtime/_go", "runtime/_gvisor", pkg, linked, ""); err != nil {
		return err
	}
	data, err := os.ReadFile(linked)
	if err != nil {
		return err
	}
	data, err = image.Write(data, image.Options{Strip: strip})
	if err != nil {
		return fmt.Errorf("%s: %w", linked, err)
	}
	// Written aside and renamed: an interrupted build leaves no broken image behind.
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(out+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(out+".new", out)
}
