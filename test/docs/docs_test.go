package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	top, _ := filepath.Glob(root + "/*.md")
	texts := map[string]string{}
	for _, name := range append(names, top...) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(b)
	}
	return texts
}

// TestLinks: every link within the tree leads to a file.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for name, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestArchitectureNamesPackages: a reader finds any package's home in docs/architecture.md.
func TestArchitectureNamesPackages(t *testing.T) {
	b, err := os.ReadFile(root + "/docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", "list", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		folder := strings.TrimPrefix(pkg, "elver/")
		if parts := strings.Split(folder, "/"); parts[0] == "test" {
			continue // the folder is one line there
		}
		base := filepath.Base(folder)
		if !strings.Contains(string(b), folder) && !strings.Contains(string(b), "`"+base+"/`") && !strings.Contains(string(b), "`"+base+"`") {
			t.Errorf("docs/architecture.md doesn't name %s", folder)
		}
	}
}
