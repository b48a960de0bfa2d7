package boot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The packages of Go's standard library whose own tests must pass as they do on Linux: what leans most
// on threads, signals, clocks and floating point.
var standardLibrary = []string{
	"sync", "sync/atomic", "time", "context", "sort", "math", "math/big", "math/bits", "math/cmplx", "math/rand",
	"math/rand/v2", "os/signal", "runtime",
	"os", "os/exec", "syscall",
}

var (
	goPassed  = regexp.MustCompile(`(?m)^--- PASS: (\S+)`)
	goSkipped = regexp.MustCompile(`(?m)^--- SKIP: (\S+)`)
)

func names(r *regexp.Regexp, out string) map[string]bool {
	found := map[string]bool{}
	for _, m := range r.FindAllStringSubmatch(out, -1) {
		found[m[1]] = true
	}
	return found
}

// TestGoStandardLibrary runs the test binaries that "go test -c" makes, on the host and in a VM that holds
// them and the files that they read.
func TestGoStandardLibrary(t *testing.T) {
	packages := []string{"sync", "sync/atomic", "context", "sort"}
	if soak {
		packages = standardLibrary
	}
	for _, pkg := range packages {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			goroot, err := exec.Command("go", "env", "GOROOT").Output()
			if err != nil {
				t.Fatal(err)
			}
			from := strings.TrimSpace(string(goroot))
			// The files that tests read are where they are on the host: binaries know their sources by
			// their paths. There is no go command.
			share := t.TempDir()
			dir := filepath.Join(from, "src", pkg)
			for _, part := range []string{dir, filepath.Join(from, "lib/time")} {
				if err := os.CopyFS(filepath.Join(share, part), os.DirFS(part)); err != nil {
					t.Fatal(err)
				}
			}
			// What they look for in any system; /tmp is in memory.
			shell, err := os.ReadFile(busybox(t))
			if err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{
				"etc/hosts": "127.0.0.1 localhost\n", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n",
				"bin/sh": string(shell), "usr/bin/env": string(shell),
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(share, name)), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(share, name), []byte(text), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			program := filepath.Join(share, dir, "a.test")
			build := exec.Command("go", "test", "-c", "-o", program, pkg)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", build, err, out)
			}
			zones := filepath.Join(from, "lib/time/zoneinfo.zip")
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			linux := exec.CommandContext(ctx, program, "-test.short", "-test.v")
			linux.Dir = filepath.Dir(program)
			linux.Env = []string{"PATH=/nonexistent", "HOME=/root", "TERM=linux", "GOROOT=" + from, "ZONEINFO=" + zones}
			onHost, _ := linux.CombinedOutput() // what fails there needn't pass here
			args := fmt.Sprintf(`env.vars=[ "PATH=/nonexistent" "GOROOT=%s" "ZONEINFO=%s" "PWD=%s" ] -- %s/a.test -test.short -test.v`, from, zones, dir, dir)
			r := vm{script: []string{"-e", share}, args: args, mem: 2048, timeout: 20 * time.Minute}.run(t)
			passed, skipped := names(goPassed, r.stdout), names(goSkipped, r.stdout)
			wanted := names(goPassed, string(onHost))
			if len(wanted) == 0 {
				t.Fatalf("no test passes on the host:\n%s", clip(string(onHost)))
			}
			for name := range wanted {
				if !passed[name] && !skipped[name] {
					t.Errorf("%s passes on Linux, not here", name)
				}
			}
			if t.Failed() {
				t.Log(r)
			}
		})
	}
}
