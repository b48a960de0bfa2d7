package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// packedLayer is a layer as it is in an archive, compressed by zstd.
type packedLayer struct{ plain, packed []byte }

func (l packedLayer) sum(b []byte) (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(b))
	return h, err
}
func (l packedLayer) Digest() (v1.Hash, error) { return l.sum(l.packed) }
func (l packedLayer) DiffID() (v1.Hash, error) { return l.sum(l.plain) }
func (l packedLayer) Size() (int64, error)     { return int64(len(l.packed)), nil }
func (l packedLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.packed)), nil
}
func (l packedLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}
func (l packedLayer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

// zstdLayer makes a layer with these files.
func zstdLayer(t *testing.T, headers ...tar.Header) v1.Layer {
	t.Helper()
	plain, err := io.ReadAll(archive(t, headers...))
	if err != nil {
		t.Fatal(err)
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return packedLayer{plain, w.EncodeAll(plain, nil)}
}

// imageOf makes an image for an architecture.
func imageOf(t *testing.T, architecture string, layers ...v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{OS: "linux", Architecture: architecture, Config: v1.Config{User: architecture}})
	if err == nil {
		image, err = mutate.AppendLayers(image, layers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// layoutOf writes an OCI layout of these.
func layoutOf(t *testing.T, parts ...mutate.IndexAddendum) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, parts...)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func on(platform string, image mutate.Appendable) mutate.IndexAddendum {
	p, _ := v1.ParsePlatform(platform)
	return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p}}
}

func unpacked(path string) ([]string, error) {
	i, err := OpenImage(path)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	tree := New(DefaultLimits)
	defer tree.Close()
	if err := i.Unpack(tree, nil); err != nil {
		return nil, err
	}
	return list(tree.Root, ""), nil
}

// TestLayouts: of what a layout holds, the image for this machine is chosen.
func TestLayouts(t *testing.T) {
	mine, foreign := imageOf(t, "amd64", zstdLayer(t, file("a", "1"))), imageOf(t, "arm64", zstdLayer(t, file("b", "2")))
	other := imageOf(t, "amd64", zstdLayer(t, file("c", "3")))
	attestation := on("unknown/unknown", imageOf(t, "unknown"))
	index := mutate.AppendManifests(empty.Index, on("linux/arm64", foreign), attestation, on("linux/amd64", mine), on("linux/amd64/v3", other))
	alone := func(i mutate.Appendable) mutate.IndexAddendum { return mutate.IndexAddendum{Add: i} }
	for _, row := range []struct {
		name    string
		parts   []mutate.IndexAddendum
		problem string // empty: mine is chosen
	}{
		{"one", []mutate.IndexAddendum{alone(mine)}, ""},
		{"platforms", []mutate.IndexAddendum{on("linux/arm64", foreign), attestation, on("linux/amd64", mine)}, ""},
		{"index in it", []mutate.IndexAddendum{alone(index)}, ""},
		{"the same under two names", []mutate.IndexAddendum{alone(mine), alone(mine)}, ""},
		{"several", []mutate.IndexAddendum{alone(mine), alone(other)}, "several images"},
		{"several for this machine", []mutate.IndexAddendum{on("linux/amd64", mine), on("linux/amd64", other)}, "several images"},
		{"foreign", []mutate.IndexAddendum{on("linux/arm64", foreign), attestation}, "for linux/arm64, and Elver"},
		{"foreign by its configuration", []mutate.IndexAddendum{alone(foreign)}, "for linux/arm64, and Elver"},
		{"none", nil, "no image"},
	} {
		got, err := unpacked(layoutOf(t, row.parts...))
		if row.problem == "" && (err != nil || !slices.Equal(got, []string{"/a=1"})) || row.problem != "" && (err == nil || !strings.Contains(err.Error(), row.problem)) {
			t.Errorf("%s: %q, %v", row.name, got, err)
		}
	}
}

// TestDockerArchives: layers compressed by zstd, as many as there may be, and such as were damaged.
func TestDockerArchives(t *testing.T) {
	save := func(image v1.Image) string {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := tarball.WriteToFile(path, name.MustParseReference("test"), image); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var layers []v1.Layer
	var want []string
	for i := range 127 { // as many as docker takes
		layers = append(layers, zstdLayer(t, file(fmt.Sprintf("%03d", i), "x")))
		want = append(want, fmt.Sprintf("/%03d=x", i))
	}
	if got, err := unpacked(save(imageOf(t, "amd64", layers...))); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}

	plain, err := io.ReadAll(archive(t, file("a", "content")))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(plain)), nil }, tarball.WithCompressionLevel(0))
	if err != nil {
		t.Fatal(err)
	}
	image := imageOf(t, "amd64", layer)
	config, err := partial.ConfigFile(image)
	if err != nil {
		t.Fatal(err)
	}
	damaged := config.DeepCopy()
	damaged.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
	without := config.DeepCopy()
	without.RootFS.DiffIDs = nil
	for problem, c := range map[string]*v1.ConfigFile{"layer 1: it is damaged": damaged, "0 rootfs.diff_ids": without} {
		changed, err := mutate.ConfigFile(image, c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpacked(save(changed)); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %q, %v", problem, got, err)
		}
	}

	whole, err := os.ReadFile(save(image))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.tar")
	if err := os.WriteFile(cut, whole[:2048], 0o666); err != nil {
		t.Fatal(err)
	}
	if got, err := unpacked(cut); err == nil {
		t.Errorf("half an archive: %q", got)
	}
}
