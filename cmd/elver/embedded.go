package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"elver/boot/image"
	"elver/cmd/elver/machine"
)

// embedded holds the kernel's image if make has built it before the command.
//
//go:embed kernel
var embedded embed.FS

// kernelImage returns the image to boot: that of the option, or the embedded one.
func kernelImage(option string) ([]byte, error) {
	if option != "" {
		b, err := os.ReadFile(option)
		if err != nil {
			return nil, fmt.Errorf("--kernel: %w", err)
		}
		return b, nil
	}
	b, err := embedded.ReadFile("kernel/elver.kernel")
	if err != nil {
		return nil, errors.New("this elver was built without a kernel in it: build it by make, or pass a kernel with --kernel FILE")
	}
	return b, nil
}

// kernelPath returns where the image is on disk. The embedded one is kept in the user's cache, under a name
// that its content gives; without a cache it goes into dir.
func kernelPath(option string, dir func() (string, error)) (string, error) {
	if option != "" {
		info, err := os.Stat(option)
		if err != nil {
			return "", fmt.Errorf("--kernel: %w", err)
		}
		if !info.Mode().IsRegular() {
			return "", fmt.Errorf("--kernel: %s is not a file", option)
		}
		if err := checkKernel(option); err != nil {
			return "", err
		}
		return safePath(option, "elver.kernel", dir)
	}
	kernel, err := kernelImage("")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(kernel)
	name := "kernel-" + hex.EncodeToString(sum[:8])
	if cache, err := machine.CacheDir(); err == nil {
		path := filepath.Join(cache, name)
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == int64(len(kernel)) {
			if now := time.Now(); now.Sub(info.ModTime()) > 24*time.Hour {
				os.Chtimes(path, now, now) // it is in use
			}
			return safePath(path, "elver.kernel", dir)
		}
		if err := writeAside(path, kernel); err == nil {
			dropOldKernels(cache, name)
			return safePath(path, "elver.kernel", dir)
		}
	}
	d, err := dir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(d, "elver.kernel")
	return path, os.WriteFile(path, kernel, 0o600)
}

// checkKernel refuses what isn't an image of Elver's: QEMU would boot it, or say something of its own.
func checkKernel(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("--kernel: %w", err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	n, _ := io.ReadFull(f, page)
	switch kernel, bundle := image.IsKernel(page[:n]); {
	case !kernel:
		return fmt.Errorf("--kernel: %s is no kernel of Elver's", name)
	case bundle:
		return fmt.Errorf("--kernel: %s has something inside already: elver run %s", name, name)
	}
	return nil
}

// writeAside writes a file so that nobody sees a part of it.
func writeAside(path string, b []byte) error {
	aside := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(aside, b, 0o600); err != nil {
		os.Remove(aside)
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		os.Remove(aside)
		return err
	}
	return nil
}

// dropOldKernels removes images that no elver has used for a month.
func dropOldKernels(cache, keep string) {
	entries, _ := os.ReadDir(cache)
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), "kernel-") && e.Name() != keep && time.Since(info.ModTime()) > 30*24*time.Hour {
			os.Remove(filepath.Join(cache, e.Name()))
		}
	}
}

// safePath returns a path of the file that QEMU doesn't cut: a link in dir where its own has blanks or
// commas.
func safePath(path, name string, dir func() (string, error)) (string, error) {
	if !strings.ContainsAny(path, ", \t\n") {
		return path, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	d, err := dir()
	if err != nil {
		return "", err
	}
	link := filepath.Join(d, name)
	return link, os.Symlink(abs, link)
}
