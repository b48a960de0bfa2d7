package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	_ "crypto/sha256" // the checksums of layers
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Config is what an image says about running it.
type Config struct {
	Entrypoint, Cmd, Env []string
	WorkDir, User        string
	StopSignal           string // empty: not said
	Ports                []string
	Name                 string // its first tag
}

// maxSmallFile bounds the JSON files of an image archive.
const maxSmallFile = 16 << 20

// ArchiveKind is what an archive holds.
type ArchiveKind string

const (
	DockerArchive ArchiveKind = "docker save archive"
	OCIArchive    ArchiveKind = "OCI image archive"
	OCILayout     ArchiveKind = "OCI image layout"
	PlainTar      ArchiveKind = "tar archive of a root file system"
)

// Decompress returns r as it is or decompressed, as its first bytes say.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	all := io.MultiReader(bytes.NewReader(head[:n]), r)
	switch compression(head[:n]) {
	case "gzip":
		return gzip.NewReader(all)
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(all)), nil
	case "zstd":
		d, err := zstd.NewReader(all, zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "xz":
		d, err := xz.NewReader(all, 256<<20)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	}
	return io.NopCloser(all), nil
}

// compression names the format of a file that begins with head, empty if it isn't compressed.
func compression(head []byte) string {
	for _, c := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"bzip2", "BZh"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"xz", "\xfd7zXZ\x00"},
	} {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return c.name
		}
	}
	return ""
}

// IsTar says whether a file is a tar archive by its first 512 bytes (decompressed).
func IsTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	if string(head[257:262]) == "ustar" {
		return true
	}
	// Before POSIX there was only the sum of the header, with blanks in the sum's own place.
	sum := 8 * int(' ')
	for i, b := range head[:512] {
		if i < 148 || i >= 156 {
			sum += int(b)
		}
	}
	want, err := strconv.ParseInt(strings.Trim(string(head[148:156]), " \x00"), 8, 32)
	return err == nil && int(want) == sum && head[0] != 0
}

// Image is an image archive or layout on the host.
type Image struct {
	Kind   ArchiveKind
	path   string
	image  v1.Image
	Config Config
	tmp    string // where a copy of the archive's layout is; empty if there is none
}

// Close drops what was unpacked.
func (i *Image) Close() error {
	if i.tmp == "" {
		return nil
	}
	return os.RemoveAll(i.tmp)
}

// IsLayout says whether a directory is an OCI image layout.
func IsLayout(dir string) bool {
	for _, name := range []string{"oci-layout", "index.json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// OpenImage opens an image: a tar archive of docker save or of an OCI layout, one of a root file system, or
// the directory of an OCI layout.
func OpenImage(name string) (*Image, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	i := &Image{path: name}
	if info.IsDir() {
		i.Kind = OCILayout
		return i, i.openLayout(name)
	}
	if i.Kind, err = kindOf(name); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch i.Kind {
	case DockerArchive:
		manifest, err := tarball.LoadManifest(i.opener)
		if err != nil {
			return nil, fmt.Errorf("%s: its manifest.json: %w", name, err)
		}
		if len(manifest) != 1 {
			return nil, fmt.Errorf("%s holds %d images: save one alone (docker save IMAGE)", name, len(manifest))
		}
		if i.image, err = tarball.Image(i.opener, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(manifest[0].RepoTags) > 0 {
			i.Config.Name = manifest[0].RepoTags[0]
		}
		err = i.readConfig()
		return i, err
	case OCIArchive:
		if i.tmp, err = os.MkdirTemp("", "elver-layout-"); err != nil {
			return nil, err
		}
		if err = i.unpackLayout(); err == nil {
			err = i.openLayout(i.tmp)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), i.Close())
		}
	}
	return i, nil
}

// opener opens the archive, decompressed. One that isn't compressed can seek.
func (i *Image) opener() (io.ReadCloser, error) {
	f, err := os.Open(i.path)
	if err != nil {
		return nil, err
	}
	head := make([]byte, 6)
	n, _ := f.ReadAt(head, 0)
	if compression(head[:n]) == "" {
		return f, nil
	}
	r, err := Decompress(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{r, closers{r, f}}, nil
}

type closers []io.Closer

// Close closes all of them.
func (c closers) Close() error {
	var err error
	for _, each := range c {
		err = errors.Join(err, each.Close())
	}
	return err
}

// kindOf reads the names in a tar archive. It also refuses what would lead the readers astray: the parts of
// an image are plain files.
func kindOf(name string) (ArchiveKind, error) {
	i := Image{path: name}
	r, err := i.opener()
	if err != nil {
		return "", err
	}
	defer r.Close()
	archive := tar.NewReader(r)
	var docker, oci bool
	links := map[string]string{}
	for n := 0; ; n++ {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", fmt.Errorf("it is no tar archive that can be read: %w", err)
		}
		switch at := path.Clean("/" + h.Name); {
		case at == "/manifest.json" && h.Size < maxSmallFile:
			docker = true
		case at == "/oci-layout":
			oci = true
		case h.Typeflag == tar.TypeSymlink && n < DefaultLimits.Files:
			links[strings.TrimPrefix(at, "/")] = path.Join(path.Dir(strings.TrimPrefix(at, "/")), h.Linkname)
		}
	}
	switch {
	case docker:
		for at := range links {
			for hops := 0; links[at] != ""; at = links[at] {
				if hops++; hops > maxSymlinks {
					return "", fmt.Errorf("%q: %w", at, ErrLoop)
				}
			}
		}
		return DockerArchive, nil
	case oci:
		return OCIArchive, nil
	}
	return PlainTar, nil
}

// unpackLayout copies the parts of an OCI layout out of the archive: those with the names that parts have.
func (i *Image) unpackLayout() error {
	r, err := i.opener()
	if err != nil {
		return err
	}
	defer r.Close()
	left := DefaultLimits.Bytes
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if h.Typeflag != tar.TypeReg || at != "oci-layout" && at != "index.json" && !isBlob(at) {
			continue
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("it is larger than %d MiB", DefaultLimits.Bytes>>20)
		}
		to := filepath.Join(i.tmp, filepath.FromSlash(at))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

// isBlob says whether a name is blobs/ALGORITHM/HEX.
func isBlob(name string) bool {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != "blobs" || parts[1] != "sha256" && parts[1] != "sha512" {
		return false
	}
	return parts[2] != "" && strings.Trim(parts[2], "0123456789abcdef") == ""
}

// openLayout finds the image for this machine in a layout.
func (i *Image) openLayout(dir string) error {
	p, err := layout.FromPath(dir)
	if err != nil {
		return err
	}
	index, err := p.ImageIndex()
	if err != nil {
		return err
	}
	if i.image, err = imageFor(index, 0); err != nil {
		return err
	}
	return i.readConfig()
}

// imageFor returns the image for Linux on x86-64, or the one that doesn't say what it is for. A layout may
// hold several images, of which none is meant more than the others; the images of an index are one for
// several machines.
func imageFor(index v1.ImageIndex, depth int) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var others []string
	var chosen *v1.Descriptor
	for _, m := range manifest.Manifests {
		switch p := m.Platform; {
		case p != nil && p.OS == "unknown": // an attestation, which isn't to be run
		case p != nil && (p.OS != "linux" || p.Architecture != "amd64"):
			others = append(others, p.OS+"/"+p.Architecture)
		case !m.MediaType.IsImage() && !(m.MediaType.IsIndex() && depth < 4):
		case chosen == nil:
			chosen = &m
		case depth == 0 && m.Digest != chosen.Digest && samePlatform(m.Platform, chosen.Platform):
			return nil, errors.New("there are several images in the layout: save one alone")
		}
	}
	switch {
	case chosen != nil && chosen.MediaType.IsImage():
		return index.Image(chosen.Digest)
	case chosen != nil:
		inner, err := index.ImageIndex(chosen.Digest)
		if err != nil {
			return nil, err
		}
		return imageFor(inner, depth+1)
	case len(others) > 0:
		return nil, fmt.Errorf("the image is for %s, and Elver runs linux/amd64", strings.Join(others, ", "))
	}
	return nil, errors.New("there is no image in the layout")
}

func samePlatform(a, b *v1.Platform) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equals(*b)
}

func (i *Image) readConfig() error {
	c, err := i.image.ConfigFile()
	if err != nil {
		return fmt.Errorf("%s: the image's configuration: %w", i.path, err)
	}
	if c.Architecture != "" && c.Architecture != "amd64" || c.OS != "" && c.OS != "linux" {
		return fmt.Errorf("%s: the image is for %s/%s, and Elver runs linux/amd64", i.path, c.OS, c.Architecture)
	}
	i.Config.Entrypoint, i.Config.Cmd, i.Config.Env = c.Config.Entrypoint, c.Config.Cmd, c.Config.Env
	i.Config.WorkDir, i.Config.User, i.Config.StopSignal = c.Config.WorkingDir, c.Config.User, c.Config.StopSignal
	for port := range c.Config.ExposedPorts {
		i.Config.Ports = append(i.Config.Ports, port)
	}
	return nil
}

// Unpack puts the image's files into the tree. progress, if not nil, is told which layer comes.
func (i *Image) Unpack(t *Tree, progress func(layer, layers int)) error {
	if i.image == nil {
		r, err := i.opener()
		if err != nil {
			return err
		}
		defer r.Close()
		if err := t.AddTar(r, false); err != nil {
			return fmt.Errorf("%s: %w", i.path, err)
		}
		return nil
	}
	layers, err := i.image.Layers()
	if err != nil {
		return fmt.Errorf("%s: %w", i.path, err)
	}
	config, err := i.image.ConfigFile()
	if err != nil {
		return fmt.Errorf("%s: the image's configuration: %w", i.path, err)
	}
	sums := config.RootFS.DiffIDs
	if len(sums) != len(layers) {
		return fmt.Errorf("%s: the image has %d layers, and its configuration tells of %d", i.path, len(layers), len(sums))
	}
	for n, layer := range layers {
		if progress != nil {
			progress(n+1, len(layers))
		}
		if err := addLayer(t, layer, sums[n]); err != nil {
			return fmt.Errorf("%s: layer %d: %w", i.path, n+1, err)
		}
	}
	return nil
}

// addLayer puts a layer's files into the tree. Its content is to have the checksum that the image's
// configuration tells.
func addLayer(t *Tree, layer v1.Layer, want v1.Hash) error {
	r, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	sum, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return err
	}
	content := io.TeeReader(r, sum)
	if err := t.AddTar(content, true); err != nil {
		return err
	}
	// What follows the archive's end counts for the checksum.
	if _, err := io.Copy(io.Discard, io.LimitReader(content, DefaultLimits.Bytes)); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Hex {
		return fmt.Errorf("it is damaged: its checksum is %s:%s, not %s", want.Algorithm, got, want)
	}
	return nil
}
