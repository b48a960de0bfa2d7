package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"elver/test/need"
)

// archive makes a tar archive. A content that isn't empty makes a regular file.
func archive(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.Uname // borrowed
		h.Uname, h.Size, h.Format = "", int64(len(content)), tar.FormatPAX
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func file(name, content string) tar.Header { return tar.Header{Name: name, Uname: content} }
func dir(name string) tar.Header           { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
func symlink(name, to string) tar.Header {
	return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
}
func hardLink(name, to string) tar.Header {
	return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
}

// list returns the files of a tree, a line each.
func list(n *Node, path string) []string {
	var lines []string
	for name, child := range n.Children {
		at := path + "/" + name
		switch child.Type() {
		case TypeDir:
			lines = append(lines, at+"/")
			lines = append(lines, list(child, at)...)
		case TypeSymlink:
			lines = append(lines, at+" -> "+child.Target)
		case TypeRegular:
			r, err := child.Open()
			if err != nil {
				lines = append(lines, err.Error())
				continue
			}
			b, _ := io.ReadAll(r)
			r.Close()
			lines = append(lines, at+"="+string(b))
		default:
			lines = append(lines, fmt.Sprintf("%s %o %d:%d", at, child.Mode, child.Major, child.Minor))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestLayers(t *testing.T) {
	tree := New(DefaultLimits)
	defer tree.Close()
	for _, layer := range []io.Reader{
		archive(t, dir("./"), dir("a/"), file("a/one", "1"), file("a/two", "2"), file("a/three", "3"), dir("o/"), file("o/old", "x"), dir("o/sub"),
			file("o/sub/old", "x"), file("d/deep/gone", "x"), hardLink("a/link", "a/one"), symlink("s", "a"), file("file", "f"), dir("dir"), file("dir/x", "x"),
			tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}),
		archive(t, file("a/.wh.two", ""), file("o/.wh..wh..opq", ""), file("o/new", "n"), file("o/sub/new", "n"), file("d/.wh.deep", ""), file("a/three", "33"),
			file("s/through", "t"), file(".wh.nothing", ""), file("nowhere/.wh.x", ""), dir("file/"), file("file/in", "i"), file("dir", "now a file"), file(".wh.", "")),
	} {
		if err := tree.AddTar(layer, true); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"/a/", "/a/link=1", "/a/one=1", "/a/three=33", "/a/through=t", "/d/", "/dir=now a file", "/fifo 10644 0:0", "/file/", "/file/in=i", "/null 20666 1:3",
		"/o/", "/o/new=n", "/o/sub/", "/o/sub/new=n", "/s -> a",
	}
	slices.Sort(want)
	if got := list(tree.Root, ""); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if tree.Root.Children["a"].Children["one"] != tree.Root.Children["a"].Children["link"] {
		t.Error("a hard link is another file")
	}
}

// TestPlainTar: outside of images the names of whiteouts are names.
func TestPlainTar(t *testing.T) {
	tree := New(DefaultLimits)
	defer tree.Close()
	if err := tree.AddTar(archive(t, file("a", "1"), file(".wh.a", "2")), false); err != nil {
		t.Fatal(err)
	}
	if got := list(tree.Root, ""); !slices.Equal(got, []string{"/.wh.a=2", "/a=1"}) {
		t.Errorf("%q", got)
	}
}

// TestContained: names and links that point out of the root end up in it.
func TestContained(t *testing.T) {
	host := t.TempDir()
	tree := New(DefaultLimits)
	defer tree.Close()
	err := tree.AddTar(archive(t,
		file("../../../../../../../.."+host+"/a", "1"), file(host+"/b", "2"), symlink("out", "../../../../.."+host), file("out/c", "3"),
		symlink("up", "../../.."), file("up/d", "4"), symlink("abs", host), file("abs/e", "5"), hardLink("link", "../../.."+host+"/e"),
		symlink("file", host+"/f"), file("file", "6"),
	), true)
	if err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(host); len(entries) != 0 {
		t.Errorf("the host has %v", entries)
	}
	for _, name := range []string{"a", "b", "c", "e"} {
		if _, err := tree.Lookup(host + "/" + name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"/d", "/link", "/file"} {
		if n, err := tree.Lookup(name); err != nil || n.Type() != TypeRegular {
			t.Errorf("%s: %v, %v", name, n, err)
		}
	}
}

func TestRefused(t *testing.T) {
	small := Limits{Bytes: 100, Files: 3}
	for _, test := range []struct {
		want    string
		headers []tar.Header
	}{
		{"too many symbolic links", []tar.Header{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}},
		{"hard link", []tar.Header{hardLink("a", "../../etc/passwd")}},
		{"hard link", []tar.Header{dir("d"), hardLink("a", "d")}},
		{"no directory", []tar.Header{file("f", ""), file("f/x", "")}},
		{"root directory cannot", []tar.Header{file("..", "x")}},
		{"out of range", []tar.Header{{Name: "x", Uid: 1 << 40}}},
		{"out of range", []tar.Header{{Name: "x", Typeflag: tar.TypeChar, Devmajor: 1 << 20}}},
		{"longer than", []tar.Header{file(strings.Repeat("n", 256), "")}},
		{"larger than", []tar.Header{file("a", strings.Repeat("x", 60)), file("b", strings.Repeat("x", 60))}},
		{"more than 3 files", []tar.Header{file("a/b/c/d", "")}},
	} {
		tree := New(small)
		err := tree.AddTar(archive(t, test.headers...), true)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: error %v, wanted %q", test.headers[0].Name, err, test.want)
		}
		tree.Close()
	}
	if err := New(small).AddTar(strings.NewReader(strings.Repeat("no tar archive ", 100)), true); err == nil {
		t.Error("what is no tar archive was taken")
	}
}

func TestLookup(t *testing.T) {
	tree := New(DefaultLimits)
	defer tree.Close()
	if err := tree.AddTar(archive(t, file("etc/passwd", "root"), symlink("etc/link", "../etc/./passwd"), symlink("loop", "loop"), symlink("dir", "/etc/")), false); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/etc/passwd", "etc/passwd", "/../etc//link", "/dir/link", "/etc/../dir/../etc/passwd"} {
		if b, err := tree.ReadFile(path, 10); string(b) != "root" || err != nil {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	for path, want := range map[string]error{"/none": ErrNotThere, "/none/x": ErrNotThere, "/etc/passwd/x": ErrNotDir, "/loop": ErrLoop} {
		if _, err := tree.Lookup(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if _, err := tree.ReadFile("/etc/passwd", 3); err == nil {
		t.Error("a file longer than wanted was read")
	}
	for _, path := range []string{"/", "/new/dir", "/dir/new/", "/a/b/.."} {
		if err := tree.MakeDir(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if n, err := tree.Lookup("/etc/new"); err != nil || !n.IsDir() {
		t.Errorf("%v, %v", n, err)
	}
}

// TestCPIO reads an archive back: contents of a page and more begin on pages, hard links share an inode.
func TestCPIO(t *testing.T) {
	tree := New(DefaultLimits)
	defer tree.Close()
	big := strings.Repeat("0123456789abcdef", 1000)
	err := tree.AddTar(archive(t, dir("d"), file("d/small", "s"), file("d/big", big), file("big2", big), hardLink("d/link", "d/small"), symlink("l", "d/small"), file("empty", "")), false)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tree.WriteCPIO(&b); err != nil {
		t.Fatal(err)
	}
	all := b.Bytes()
	names := map[string]string{}
	inodes := map[string]string{}
	for at := 0; ; {
		field := func(i int) (n int) {
			fmt.Sscanf(string(all[at+6+8*i:at+14+8*i]), "%x", &n)
			return n
		}
		if string(all[at:at+6]) != cpioMagic {
			t.Fatalf("at %d there is no header", at)
		}
		name, _, _ := bytes.Cut(all[at+cpioHeader:at+cpioHeader+field(11)], []byte{0})
		if string(name) == cpioTrailer {
			break
		}
		begin := (at + cpioHeader + field(11) + 3) &^ 3
		size := field(6)
		if size >= pageSize && begin%pageSize != 0 {
			t.Errorf("%s begins at %#x", name, begin)
		}
		names[string(name)] = string(all[begin : begin+size])
		inodes[string(name)] = fmt.Sprint(field(0), field(4))
		at = (begin + size + 3) &^ 3
	}
	if names["d/big"] != big || names["big2"] != big || names["l"] != "d/small" || names["d/link"]+names["d/small"] != "s" || len(names) != 8 {
		t.Errorf("%d names", len(names))
	}
	if inodes["d/link"] != inodes["d/small"] || !strings.HasSuffix(inodes["d/link"], " 2") {
		t.Errorf("hard links: %q and %q", inodes["d/link"], inodes["d/small"])
	}
}

// TestAttributes: extended attributes of a layer reach the archive, but for those that nothing in the machine reads.
func TestAttributes(t *testing.T) {
	tree := New(DefaultLimits)
	defer tree.Close()
	with := func(h tar.Header, records ...string) tar.Header {
		h.PAXRecords = map[string]string{}
		for i := 0; i < len(records); i += 2 {
			h.PAXRecords["SCHILY.xattr."+records[i]] = records[i+1]
		}
		return h
	}
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12)
	err := tree.AddTar(archive(t, with(file("ping", "x"), "security.capability", capability, "user.note", "text", "security.selinux", "label"),
		hardLink("same", "ping"), with(dir("d"), "user.d", "1"), with(dir("d"), "user.d", "2"), file("plain", "y")), true)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tree.WriteCPIO(&b); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b.Bytes(), []byte("METADATA!!!\x00")); n != 2 {
		t.Errorf("%d records of metadata, wanted those of ping and d", n)
	}
	for _, want := range []string{"00000032\x01\x01security.capability\x00" + capability, "00000018\x01\x01user.note\x00text", "00000012\x01\x01user.d\x002"} {
		if !bytes.Contains(b.Bytes(), []byte(want)) {
			t.Errorf("%q is missing in\n%q", want, b.Bytes())
		}
	}
	if bytes.Contains(b.Bytes(), []byte("selinux")) {
		t.Error("a label of a security module is kept")
	}
	if err := New(DefaultLimits).AddTar(archive(t, with(file("f", ""), "user.large", strings.Repeat("x", maxXattrs))), true); err == nil || !strings.Contains(err.Error(), "attributes") {
		t.Errorf("attributes that are too large: %v", err)
	}
}

// TestShare: on the host there are only regular files and directories, and beside each what it is.
func TestShare(t *testing.T) {
	tree := New(DefaultLimits)
	defer tree.Close()
	if err := tree.AddTar(archive(t, tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 4294967294}, file("d/f", "content"), hardLink("same", "d/f"), symlink("l", "/etc/passwd"),
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}), true); err != nil {
		t.Fatal(err)
	}
	if n := tree.Capable(); n != 0 {
		t.Errorf("%d files with capabilities", n)
	}
	capable := tar.Header{Name: "ping", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01"}}
	if err := tree.AddTar(archive(t, capable, hardLink("ping6", "ping")), true); err != nil || tree.Capable() != 1 {
		t.Errorf("%d files with capabilities, not 1: %v", tree.Capable(), err)
	}
	dir := t.TempDir()
	if err := tree.Share(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		".virtfs_metadata_root": "virtfs.uid=0\nvirtfs.gid=0\nvirtfs.mode=16877\n",
		".virtfs_metadata/d":    "virtfs.uid=-2\nvirtfs.gid=0\nvirtfs.mode=17407\n",
		"d/f":                   "content",
		"same":                  "content",
		"d/.virtfs_metadata/f":  "virtfs.uid=0\nvirtfs.gid=0\nvirtfs.mode=33188\n",
		"l":                     "/etc/passwd",
		".virtfs_metadata/l":    "virtfs.uid=0\nvirtfs.gid=0\nvirtfs.mode=41471\n",
		"null":                  "",
		".virtfs_metadata/null": "virtfs.uid=0\nvirtfs.gid=0\nvirtfs.mode=8630\nvirtfs.rdev=259\n",
		".virtfs_metadata/pipe": "virtfs.uid=0\nvirtfs.gid=0\nvirtfs.mode=4516\n",
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
			continue
		}
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != want {
			t.Errorf("%s: %q, %v, wanted %q", name, b, err, want)
		}
	}
	for _, pair := range [][2]string{{"d/f", "same"}, {"d/.virtfs_metadata/f", ".virtfs_metadata/same"}} {
		a, aErr := os.Stat(filepath.Join(dir, pair[0]))
		b, bErr := os.Stat(filepath.Join(dir, pair[1]))
		if aErr != nil || bErr != nil || !os.SameFile(a, b) {
			t.Errorf("%v are not one file: %v, %v", pair, aErr, bErr)
		}
	}
	for _, name := range []string{".virtfs_metadata", "d/.virtfs_metadata_root"} {
		tree := New(DefaultLimits)
		defer tree.Close()
		if err := tree.AddTar(archive(t, file(name, "virtfs.uid=0\n")), false); err != nil {
			t.Fatal(err)
		}
		if err := tree.Share(t.TempDir()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestAddHost takes over the links that lead to a file.
func TestAddHost(t *testing.T) {
	host, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.MkdirAll(host+"/real/sub", 0o755), os.WriteFile(host+"/real/sub/file", []byte("content"), 0o640),
		os.Symlink("real/sub", host+"/rel"), os.Symlink(host+"/rel/../sub", host+"/abs"), os.Symlink("loop", host+"/loop"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tree := New(DefaultLimits)
	for _, path := range []string{host + "/abs/file", host + "/rel/file"} {
		real, err := tree.AddHost(path)
		if err != nil || real != host+"/real/sub/file" {
			t.Errorf("%s: %s, %v", path, real, err)
		}
		if b, err := tree.ReadFile(path, 100); string(b) != "content" || err != nil {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	for _, path := range []string{host + "/none", host + "/loop", host + "/real/sub/file/x"} {
		if _, err := tree.AddHost(path); err == nil {
			t.Errorf("%s was added", path)
		}
	}
}

// TestCompressed reads tar archives as they come.
func TestCompressed(t *testing.T) {
	plain, err := io.ReadAll(archive(t, file("a", "1")))
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"cat"}, {"gzip"}, {"bzip2"}, {"xz"}, {"zstd"}} {
		t.Run(words[0], func(t *testing.T) {
			cmd := exec.Command(need.Command(t, words[0]), words[1:]...)
			cmd.Stdin = bytes.NewReader(plain)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(t.TempDir(), "root.tar")
			if err := os.WriteFile(name, packed, 0o666); err != nil {
				t.Fatal(err)
			}
			i, err := OpenImage(name)
			if err != nil || i.Kind != PlainTar {
				t.Fatalf("%v, %v", i, err)
			}
			defer i.Close()
			tree := New(DefaultLimits)
			defer tree.Close()
			if err := i.Unpack(tree, nil); err != nil {
				t.Fatal(err)
			}
			if got := list(tree.Root, ""); !slices.Equal(got, []string{"/a=1"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestHostileArchives: what leads a reader astray is an error.
func TestHostileArchives(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"manifest of a loop": {symlink("manifest.json", "manifest.json"), file("x", "")},
		"loop":               {file("manifest.json", `[{"Config":"a","Layers":["a"]}]`), symlink("a", "b"), symlink("b", "a")},
		"no list":            {file("manifest.json", `{}`)},
		"two images":         {file("manifest.json", `[{},{}]`)},
		"layer missing":      {file("manifest.json", `[{"Config":"c","Layers":["../../etc/passwd"]}]`), file("c", `{"architecture":"amd64","os":"linux"}`)},
		"foreign":            {file("manifest.json", `[{"Config":"c","Layers":[]}]`), file("c", `{"architecture":"arm64","os":"linux"}`)},
		"empty layout":       {file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)},
		"traversal layout":   {file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), file("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:../../../../etc/passwd"}]}`)},
	} {
		b, err := io.ReadAll(archive(t, headers...))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		i, err := OpenImage(path)
		if err == nil {
			tree := New(DefaultLimits)
			err = i.Unpack(tree, nil)
			tree.Close()
			i.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if testing.Verbose() {
			t.Logf("%s: %v", name, err)
		}
	}
}
