package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fuzzLimits keep a fuzzer's machine alive.
var fuzzLimits = Limits{Bytes: 1 << 20, Files: 1000}

func seeds(f *testing.F) {
	read := func(r io.Reader) []byte {
		b, err := io.ReadAll(r)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	t := &testing.T{}
	layer := read(archive(t, dir("d"), file("d/f", "content"), hardLink("d/g", "d/f"), symlink("l", "../../etc"), file("l/x", "y"), file("d/.wh.f", ""), file("d/.wh..wh..opq", ""),
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, tar.Header{Name: "attributes", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}))
	f.Add(layer)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(layer)
	z.Close()
	f.Add(packed.Bytes())
	f.Add(read(archive(t, file("manifest.json", `[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l.tar"]}]`), file("c.json", `{"os":"linux","architecture":"amd64","config":{"Cmd":["a"]},"rootfs":{"type":"layers","diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`), file("l.tar", string(layer)))))
	f.Add(read(archive(t, file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), file("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:`+strings.Repeat("a", 64)+`","size":2}]}`), file("blobs/sha256/"+strings.Repeat("a", 64), "{}"))))
}

// FuzzLayers: whatever a layer's archive says, the tree can be written, and in a directory of the host there
// are regular files and directories alone.
func FuzzLayers(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		tree := New(fuzzLimits)
		defer tree.Close()
		for range 2 { // the second time as a layer upon itself
			tree.AddTar(bytes.NewReader(b), true)
		}
		if err := tree.WriteCPIO(io.Discard); err != nil {
			t.Errorf("the tree can't be written: %v", err)
		}
		outside := t.TempDir()
		dir := filepath.Join(outside, "root")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		tree.Share(dir)
		if names, err := os.ReadDir(outside); len(names) != 1 {
			t.Errorf("%v, %v", names, err)
		}
		filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
				t.Errorf("%q is %v, %v", name, entry, err)
			}
			return nil
		})
	})
}

// FuzzImage: a file that is taken for an image makes no more than an error.
func FuzzImage(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := OpenImage(name)
		if err != nil {
			return
		}
		defer i.Close()
		tree := New(fuzzLimits)
		defer tree.Close()
		i.Unpack(tree, nil)
	})
}

// FuzzExamine: no file that is to be a program makes more than an error.
func FuzzExamine(f *testing.F) {
	for _, name := range []string{"/bin/true", "/bin/sh"} {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte("#!/usr/bin/env -S sh -c\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(name, b, 0o700); err != nil {
			t.Fatal(err)
		}
		tree := New(fuzzLimits)
		defer tree.Close()
		tree.AddProgram(name)
	})
}
