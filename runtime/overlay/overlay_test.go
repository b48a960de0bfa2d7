package overlay

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckVersion(t *testing.T) {
	for version, ok := range map[string]bool{
		"go1.26": true, "go1.26.8": true, "go1.27.4": true, "go1.27rc1": true,
		"go1.25.3": false, "go1.28": false, "go1.2": false, "go1.261": false, "devel go1.29-abc": false, "": false,
	} {
		err := CheckVersion(version)
		if (err == nil) != ok {
			t.Errorf("CheckVersion(%q) = %v, want ok %v", version, err, ok)
		}
		if err != nil && !strings.Contains(err.Error(), "go1.26 and go1.27") {
			t.Errorf("CheckVersion(%q) = %q, which names no version that works", version, err)
		}
	}
}

func TestShadowLinksEveryFile(t *testing.T) {
	from := t.TempDir()
	for _, name := range []string{"bin/go", "src/runtime/a.go", "src/runtime/deep/b.s", "VERSION"} {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := &Builder{goroot: from, version: "go1.26.8", work: t.TempDir()}
	for range 2 { // the second time it is there already
		b.goroot = from
		if err := b.shadow(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin/go", "src/runtime/a.go", "src/runtime/deep/b.s", "VERSION"} {
		if data, err := os.ReadFile(filepath.Join(b.goroot, name)); err != nil || string(data) != name {
			t.Errorf("%s in the shadow: %q, %v", name, data, err)
		}
	}
	// The overlay refuses what lies behind a folder that is a link itself.
	if info, err := os.Lstat(filepath.Join(b.goroot, "src", "runtime", "deep")); err != nil || !info.IsDir() {
		t.Errorf("src/runtime/deep in the shadow is not a folder: %v, %v", info, err)
	}
}

func TestListNamesEveryLaidFile(t *testing.T) {
	b := &Builder{goroot: "/goroot", version: "go1.26.8", work: t.TempDir()}
	name, err := b.list("../_go")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Replace map[string]string }
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"src/runtime/sys_linux_amd64.s", "src/runtime/netpoll_epoll.go", "src/internal/runtime/syscall/linux/asm_linux_amd64.s"} {
		to := list.Replace[filepath.Join("/goroot", want)]
		if _, err := os.Stat(to); err != nil {
			t.Errorf("%s is replaced by %q: %v", want, to, err)
		}
	}
}

func TestEdits(t *testing.T) {
	root := t.TempDir()
	from := filepath.Join(t.TempDir(), "from")
	name := filepath.Join(root, "a.go")
	lay := func(text string) {
		os.Remove(name)
		if err := os.WriteFile(from, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, name); err != nil {
			t.Fatal(err)
		}
	}
	one := []edit{{"a.go", "old\n", "new\n"}}
	lay("x\nold\ny\n")
	if err := apply(one, root, false); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(name); string(data) != "x\nnew\ny\n" {
		t.Errorf("it has become %q", data)
	}
	if data, _ := os.ReadFile(from); string(data) != "x\nold\ny\n" {
		t.Errorf("the module's own file has become %q", data)
	}
	for _, text := range []string{"x\ny\n", "old\nold\n"} {
		lay(text)
		if err := apply(one, root, false); err == nil || !strings.Contains(err.Error(), "another version") {
			t.Errorf("%q: %v", text, err)
		}
	}
	lay("old\nx\nold\n")
	if err := apply(one, root, true); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(name); string(data) != "new\nx\nnew\n" {
		t.Errorf("it has become %q", data)
	}
	lay("x\n")
	if err := apply(one, root, true); err == nil {
		t.Error("an edit without a place was made")
	}
}
