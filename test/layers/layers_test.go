// Package layers holds the test of the kernel's layering: imports point down.
package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// layers are the kernel's folders from the ground up. A package may import its own layer and those
// named with it.
var layers = []struct {
	folder string
	below  []string
}{
	{"boot", nil},
	{"runtime", nil},
	{"runtime/mkkernel", []string{"runtime", "boot"}},
	{"arch", []string{"runtime"}},
	{"platform", []string{"arch", "runtime", "boot"}},
	{"kernel/mm", []string{"arch", "runtime"}},
	{"kernel", []string{"kernel/mm", "arch", "platform", "runtime"}},
	{"vdso", []string{"kernel/mm", "arch", "runtime"}},
	{"vfs", []string{"kernel", "kernel/mm", "platform", "arch", "runtime", "boot"}},
	{"net", []string{"vfs", "kernel", "kernel/mm", "platform", "arch", "runtime", "boot"}},
	{"elf", []string{"vfs", "kernel", "kernel/mm", "arch", "runtime"}},
	{"syscall", []string{"syscall/calls", "elf", "net", "vfs", "vdso", "kernel", "kernel/mm", "platform", "arch", "runtime"}},
	{"syscall/calls", nil},
	// The host's command sees of the kernel what is plain Go on every host.
	{"cmd/elver", []string{"boot", "syscall/calls"}},
	{"cmd", []string{"syscall", "elf", "net", "vfs", "vdso", "kernel", "kernel/mm", "platform", "arch", "runtime", "boot"}},
	{"test", []string{"cmd", "syscall", "elf", "net", "vfs", "vdso", "kernel", "kernel/mm", "platform", "arch", "runtime", "runtime/mkkernel", "boot"}},
}

// machine are the layers that may know that they are on bare metal: that drive the CPU or devices by
// files of the build tag elver.
var machine = []string{"runtime", "arch", "platform", "cmd", "test"}

// layerOf returns the index of the innermost layer that holds a package of ours, or -1.
func layerOf(path string) int {
	best := -1
	for i, l := range layers {
		if rest, ok := strings.CutPrefix(path, "elver/"+l.folder); ok && (rest == "" || rest[0] == '/') {
			if best < 0 || len(l.folder) > len(layers[best].folder) {
				best = i
			}
		}
	}
	return best
}

type pkg struct {
	ImportPath      string
	Imports         []string
	GoFiles, SFiles []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"list", "-json"}, args...), "elver/...")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(out); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return all
}

func TestImportsPointDown(t *testing.T) {
	packages := list(t, "-tags", "elver")
	if len(packages) < 20 {
		t.Fatalf("go list names %d packages: something is wrong", len(packages))
	}
	for _, p := range packages {
		from := layerOf(p.ImportPath)
		if from < 0 {
			t.Errorf("%s belongs to no layer", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			if !strings.HasPrefix(i, "elver/") {
				continue
			}
			to := layerOf(i)
			if to == from {
				continue
			}
			allowed := false
			for _, b := range layers[from].below {
				allowed = allowed || to >= 0 && layers[to].folder == b
			}
			if !allowed {
				t.Errorf("%s imports %s: %s stands above, or beside", p.ImportPath, i, i)
			}
		}
	}
}

// TestKernelNeedsNoHost refuses imports that make system calls of the host: nothing serves them on the
// machine.
func TestKernelNeedsNoHost(t *testing.T) {
	for _, p := range list(t, "-tags", "elver") {
		switch layers[max(layerOf(p.ImportPath), 0)].folder {
		case "runtime", "runtime/mkkernel", "test":
			continue // host-side tools
		}
		if strings.HasPrefix(p.ImportPath, "elver/boot/") || strings.HasPrefix(p.ImportPath+"/", "elver/cmd/elver/") {
			continue
		}
		for _, i := range p.Imports {
			switch i {
			case "os", "os/exec", "os/signal", "net", "net/http", "log", "syscall":
				t.Errorf("%s imports %s, which asks the host", p.ImportPath, i)
			}
		}
	}
}

// TestMachineCodeIsBelow keeps code that only the machine can run out of the layers above.
func TestMachineCodeIsBelow(t *testing.T) {
	for _, p := range list(t) {
		folder := layers[max(layerOf(p.ImportPath), 0)].folder
		if len(p.SFiles) > 0 {
			allowed := false
			for _, m := range machine {
				allowed = allowed || folder == m
			}
			if !allowed {
				t.Errorf("%s has assembly: machine code belongs into arch, platform or runtime", p.ImportPath)
			}
		}
	}
}
