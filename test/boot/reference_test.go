package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestReferencePage runs the commands of "Using an Already Compiled Application"
// for a dynamically linked program: the loader as the program, the rest in a
// shared folder; and the shorter way, by which the loader is found there too.
func TestReferencePage(t *testing.T) {
	const loader = "/lib64/ld-linux-x86-64.so.2"
	library := "/lib/x86_64-linux-gnu/libc.so.6"
	if _, err := os.Stat(library); err != nil {
		t.Fatalf("this host keeps its C library elsewhere: %v", err)
	}
	root := t.TempDir()
	for _, dir := range []string{"lib64", "lib/x86_64-linux-gnu"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("gcc", "-O2", "-o", filepath.Join(root, "helloworld"), "../helloworld/helloworld.c")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for from, to := range map[string][]string{loader: {loader}, library: {library, "/libc.so.6"}} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range to {
			if err := os.WriteFile(filepath.Join(root, name), data, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := []struct {
		name string
		vm   vm
	}{
		{"the page's line", vm{program: loader, args: "/ld-linux-x86-64.so.2 --library-path / /helloworld"}},
		{"by its own name", vm{args: "/helloworld"}},
	}
	for _, row := range rows {
		for _, machine := range []string{"x86pc", "x86q35", "microvm"} {
			t.Run(row.name+"/"+machine, func(t *testing.T) {
				v := row.vm
				v.script = []string{"-e", root, "-t", machine}
				r := v.run(t)
				if r.stdout != hello || r.stderr != "" || r.status != 0 {
					t.Errorf("wanted %q and status 0\n%v", hello, r)
				}
			})
		}
	}
}
